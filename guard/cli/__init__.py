"""The command line. Commands are loaded when they are called, so that ``guard --help`` is quick."""

from __future__ import annotations

import io
import sys

from guard.cli.errors import run
from guard.cli.group import guard


def main() -> None:
    """Entry point of the ``guard`` command; the only place that ends the process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows "?", and no error
    sys.exit(run(guard, sys.argv[1:]))
