"""The ways to measure a service: one file per type, found by the entry points of ``guard.checks``."""
