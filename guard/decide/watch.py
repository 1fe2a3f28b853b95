"""What a watch does about a service whose observation has just failed. Pure: time is an argument, in seconds.

A crossing is never passed over: it is asked about at once, or as soon as ``ASK_AGAIN_S`` have passed since the last
time, and again as long as the service stays failed, for a hold may have ended. While a rollback runs nothing more is
begun.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

ASK_AGAIN_S = 5.0  # how often a service that stays failed is asked about again


class Step(StrEnum):
    WAIT = "wait"
    TELL = "tell"  # as ASK, and say that the service is not critical: once in a time of failure
    ASK = "ask"  # every rule, and act on what they answer


def next_step(
    now: float, *, failed: bool, acting: bool, critical: bool, asked_at: float | None, refusing: Collection[str]
) -> Step:
    """``asked_at``, ``refusing``: when the rules were last asked in this time of failure, and which of them said no."""
    if not failed or acting:
        return Step.WAIT
    if asked_at is not None and now - asked_at < ASK_AGAIN_S:
        return Step.WAIT
    return Step.ASK if critical or "critical" in refusing else Step.TELL
