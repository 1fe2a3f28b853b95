"""What can go wrong on a host, as errors that become a result."""

from __future__ import annotations


class Problem(Exception):
    """What stopped the work. ``kind`` is a closed word for programs, the text is for people."""

    def __init__(self, kind, text):
        Exception.__init__(self, text)
        self.kind = kind


class EngineError(Problem):
    """The engine answered with an error."""

    def __init__(self, status, text):
        Problem.__init__(self, "engine", text)
        self.status = status


class EngineGone(Problem):
    """The engine could not be reached, or went away during a request whose outcome is therefore unknown."""

    def __init__(self, text):
        Problem.__init__(self, "engine_gone", text)
