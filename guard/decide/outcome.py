"""How a rollback ended, from its hosts' results and its verification."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from guard.model import HostResult, HostState, RollbackOutcome

RESUMED = "; resumed; "  # in the reason of a rollback that was taken up again
_DONE = (HostState.RESTORED, HostState.UNCHANGED)


def outcome_of(results: Mapping[str, HostResult], verified: bool) -> RollbackOutcome:
    """RESTORED only when every host runs its target and the checks held; PARTIAL when some hosts do, and those held."""
    done = [result for result in results.values() if result.state in _DONE]
    if not done:
        return RollbackOutcome.FAILED
    if not verified:
        return RollbackOutcome.FAILED
    return RollbackOutcome.RESTORED if len(done) == len(results) else RollbackOutcome.PARTIAL


def summary(results: Mapping[str, HostResult]) -> str:
    """``2 hosts restored, 1 unreachable`` in the order of the enum."""
    counts = Counter(result.state for result in results.values())
    parts = [f"{counts[state]} {state.value}" for state in HostState if counts[state]]
    return ", ".join(parts) or "no hosts"
