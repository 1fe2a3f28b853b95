"""The configuration file: its shape (``schema``), reading it (``load``) and what may be shown of it (``redact``).

Import from the modules; this package itself stays empty so that ``guard.config.durations`` costs no pydantic.
"""
