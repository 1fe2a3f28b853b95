"""The loops that join checks, decisions and rollbacks: watch, gate, rollback, snapshot, resume."""
