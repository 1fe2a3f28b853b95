"""What all tests share."""

from __future__ import annotations

import signal

import pytest

# A shell that starts the tests in the background has SIGINT ignored, and every program they start would inherit that:
# none of them could be interrupted as a person would do it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--crash-points",
        choices=("each", "all"),
        default="each",
        help="all: also crossings that are the same event as another (tests/faults/matrix.py)",
    )
