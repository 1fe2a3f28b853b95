"""Logging: key=value lines to stderr, JSON lines to a rotating file. structlog in front, logging behind."""

from __future__ import annotations

import logging
import logging.handlers
import os
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import TYPE_CHECKING, TextIO

from guard.cli.options import Options
from guard.errors import StateError

if TYPE_CHECKING:
    import structlog

MOST_BYTES = 10 * 1024 * 1024
BACKUPS = 5
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(options: Options, stream: TextIO, *, quiet: bool) -> structlog.stdlib.BoundLogger:
    """``quiet``: stderr shows warnings and worse unless a level was asked for; the file always gets the whole level."""
    import structlog

    asked = options.log_level or ("debug" if options.verbose else None) or os.environ.get("LOG_LEVEL") or None
    level = LEVELS.get((asked or "info").lower(), logging.INFO)
    logger = logging.getLogger("guard")
    logger.setLevel(level)
    logger.propagate = False
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    shared: list[structlog.typing.Processor] = [structlog.stdlib.add_log_level, _stamp]
    to_stderr = logging.StreamHandler(stream)
    to_stderr.setLevel(level if asked or not quiet else max(level, logging.WARNING))
    to_stderr.setFormatter(
        _formatter(structlog.dev.ConsoleRenderer(colors=False, sort_keys=False, timestamp_key="time"))
    )
    logger.addHandler(to_stderr)
    if options.log_file is not None:
        logger.addHandler(_file(options, _formatter(structlog.processors.JSONRenderer())))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    bound: structlog.stdlib.BoundLogger = structlog.get_logger("guard")
    return bound


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """A new log file is for its owner alone; one that is there keeps its mode, which somebody may have chosen."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return os.fdopen(descriptor, "a", encoding=self.encoding)


def _formatter(renderer: structlog.typing.Processor) -> logging.Formatter:
    import structlog

    return structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ]
    )


def _file(options: Options, formatter: logging.Formatter) -> logging.Handler:
    path = options.log_file
    if path is None:
        raise ValueError("no log file was asked for")
    try:
        for folder in reversed(path.absolute().parents):  # parents=True would not give them this mode
            folder.mkdir(mode=0o700, exist_ok=True)
        handler = _PrivateFile(path, maxBytes=MOST_BYTES, backupCount=BACKUPS, encoding="utf-8")
    except OSError as error:
        raise StateError(
            f"cannot write the log file {path}: {error.strerror}", hint="name another with --log-file"
        ) from error
    handler.setFormatter(formatter)
    return handler


def _stamp(
    logger: object,  # noqa: ARG001 - structlog's signature
    name: str,  # noqa: ARG001 - structlog's signature
    event: structlog.typing.EventDict,
) -> structlog.typing.EventDict:
    """An observation brings its own time; every other line gets the time of its writing."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event.setdefault("time", now)
    return event
