"""One file per schema version. A published one never changes again."""
