"""Batches: in which order, and how many at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence


def resolve_batches(steps: Sequence[int | str], hosts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Cut ``hosts`` by cumulative steps: ``[1, "50%", "100%"]`` over 10 hosts is 1, then 4 more, then the other 5.

    A percentage is rounded up. Steps that add nobody vanish; whatever the last step leaves over is one more batch,
    so that every host is in exactly one batch (checked by hypothesis).
    """
    batches: list[tuple[str, ...]] = []
    done = 0
    for step in [*steps, "100%"]:
        upto = min(len(hosts), _count(step, len(hosts)))
        if upto > done:
            batches.append(tuple(hosts[done:upto]))
            done = upto
    return tuple(batches)


def _count(step: int | str, total: int) -> int:
    if isinstance(step, int):
        return step
    return math.ceil(total * float(step.removesuffix("%")) / 100)
