"""The command line. Commands are loaded when they are called, so that ``guard --help`` is quick."""

from __future__ import annotations

import sys

from guard.cli.errors import run
from guard.cli.group import guard


def main() -> None:
    """Entry point of the ``guard`` command; the only place that ends the process."""
    sys.exit(run(guard, sys.argv[1:]))
