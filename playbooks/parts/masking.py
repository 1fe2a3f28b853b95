"""What a container says about itself goes into a result: without the secrets that it was given."""

from __future__ import annotations

import re

SECRET_NAME = re.compile(r"pass|pwd|secret|token|key|credential|dsn|auth", re.IGNORECASE)
SHORTEST_SECRET = 4


def masked(said, container):
    """The text, with the values of environment variables that are named like a secret masked."""
    pairs = [pair.partition("=") for pair in container["Config"].get("Env") or ()]
    values = {value for name, _, value in pairs if SECRET_NAME.search(name) and len(value) >= SHORTEST_SECRET}
    for value in sorted(values, key=len, reverse=True):
        said = said.replace(value, "********")
    return said
