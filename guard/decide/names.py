"""Names in a sentence, so that a large fleet makes no long one."""

from __future__ import annotations

from collections.abc import Sequence


def names_text(names: Sequence[str], most: int = 5) -> str:
    """``web1, web2``; of many only the first, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
