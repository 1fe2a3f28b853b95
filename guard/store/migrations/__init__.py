"""Moves an existing database to the schema of this guard. Packaged with it; run by ``guard.store.migrate``."""
