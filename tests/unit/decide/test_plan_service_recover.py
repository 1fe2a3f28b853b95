"""Batches, quorum, outcome, and what is left after a crash."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.decide.outcome import outcome_of
from guard.decide.plan import resolve_batches
from guard.decide.recover import credited, left_to_do, observed
from guard.decide.service import failing_hosts, has_failed, state_of
from guard.decide.thresholds import TargetStatus
from guard.model import (
    ContainerFacts,
    HostFacts,
    HostPlan,
    HostResult,
    HostState,
    Image,
    Plan,
    PlaybookRef,
    RollbackOutcome,
    State,
    TargetKey,
)

OLD, NEW, OTHER = (Image(f"web:1.{n}.0", f"sha256:{n:064x}") for n in (0, 1, 2))
PLAN = HostPlan("web1", "web", NEW, OLD, "release")


@pytest.mark.parametrize(
    ("steps", "hosts", "sizes"),
    [
        (["100%"], 3, [3]),
        ([1, "50%", "100%"], 10, [1, 4, 5]),
        ([1, "50%"], 3, [1, 1, 1]),
        ([5], 3, [3]),
        (["1%"], 3, [1, 2]),
        ([1, 1, 1], 3, [1, 2]),
        (["100%"], 0, []),
    ],
)
def test_batches_are_cumulative(steps: Sequence[int | str], hosts: int, sizes: list[int]) -> None:
    assert [len(batch) for batch in resolve_batches(steps, [f"web{n}" for n in range(hosts)])] == sizes


STEPS = st.lists(st.one_of(st.integers(1, 50), st.integers(1, 100).map(lambda n: f"{n}%")), max_size=6)


@given(STEPS, st.integers(0, 60))
def test_every_host_is_in_exactly_one_batch_and_in_order(steps: list[int | str], count: int) -> None:
    hosts = [f"web{n}" for n in range(count)]
    assert [host for batch in resolve_batches(steps, hosts) for host in batch] == hosts


def crossed(*hosts: str, of: int) -> dict[TargetKey, TargetStatus]:
    return {TargetKey("web", "http", f"web{n}"): TargetStatus(crossed=f"web{n}" in hosts) for n in range(1, of + 1)}


@pytest.mark.parametrize(
    ("quorum", "failing", "failed"),
    [
        ("any", 0, False),
        ("any", 1, True),
        (2, 1, False),
        (2, 2, True),
        ("50%", 1, False),
        ("50%", 2, True),
        (9, 4, True),
    ],
)
def test_a_quorum_says_how_many_targets_must_have_failed(quorum: str | int, failing: int, failed: bool) -> None:
    statuses = crossed(*(f"web{n}" for n in range(1, failing + 1)), of=4)
    assert has_failed(statuses, quorum) is failed


def test_only_hosts_with_a_failed_target_of_their_own_are_failing() -> None:
    statuses = {**crossed("web2", of=3), TargetKey("web", "front"): TargetStatus(crossed=True)}
    assert failing_hosts(statuses) == {"web2"}


def test_the_worst_target_is_the_state_of_a_service_and_nothing_measured_is_unknown() -> None:
    assert state_of([State.HEALTHY, State.UNKNOWN, State.UNHEALTHY]) is State.UNHEALTHY
    assert state_of([State.HEALTHY, State.UNKNOWN, State.DEGRADED]) is State.UNKNOWN
    assert state_of([]) is State.UNKNOWN


def result(state: HostState) -> HostResult:
    return HostResult("web1", state, NEW, OLD)


@pytest.mark.parametrize(
    ("states", "verified", "outcome"),
    [
        (["restored", "restored"], True, "restored"),
        (["restored", "unchanged"], True, "restored"),
        (["restored", "restored"], False, "failed"),
        (["restored", "unreachable"], True, "partial"),
        (["restored", "reverted"], True, "partial"),
        (["restored", "skipped"], False, "failed"),
        (["unreachable", "failed"], True, "failed"),
        ([], True, "failed"),
    ],
)
def test_restored_means_every_host_and_verified(states: list[str], verified: bool, outcome: str) -> None:
    results = {f"web{n}": result(HostState(state)) for n, state in enumerate(states)}
    assert outcome_of(results, verified) is RollbackOutcome(outcome)


def seen(image: Image | None, status: str = "running", **more: object) -> HostFacts:
    container = ContainerFacts("web", "c", image, status, "", "", 0, False, 0, "") if image else None
    return HostFacts("web1", "web", container, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (seen(OLD), HostState.RESTORED),
        (seen(OLD, "exited"), HostState.PLANNED),
        (seen(NEW), HostState.PLANNED),
        (seen(None), HostState.PLANNED),
        (seen(OTHER), HostState.SKIPPED),
        (seen(None, problem="no route", unreachable=True), HostState.UNREACHABLE),
        (seen(None, problem="engine down"), HostState.FAILED),
    ],
)
def test_after_a_crash_only_what_runs_on_the_host_counts(facts: HostFacts, state: HostState) -> None:
    assert observed(PLAN, facts, None).state is state


def test_a_host_that_is_still_out_of_reach_is_not_given_up_for_want_of_a_target() -> None:
    away = HostPlan("web1", "web", None, None, problem="no route", unreachable=True)
    assert observed(away, seen(None, problem="no route", unreachable=True), None).state is HostState.UNREACHABLE


def test_what_is_left_is_what_is_planned_or_out_of_reach() -> None:
    results = {state.value: result(state) for state in HostState}
    assert left_to_do(results) == ("unreachable", "planned")
    assert left_to_do(results, again=True) == ("restored", "unreachable", "planned")


@pytest.mark.parametrize("state", [HostState.RESTORED, HostState.UNCHANGED])
def test_a_host_that_an_earlier_run_of_the_same_rollback_restored_was_restored_by_it(state: HostState) -> None:
    playbook = PlaybookRef("container", "1.0.0", "sha256:1")
    plan = Plan("web", playbook, "backup_20261123_101112", (("web1",),), {"web1": PLAN}, "stop")
    told = credited(plan, HostResult("web1", state, OLD, OLD))
    assert (told.state, told.from_, told.backup_tag) == (HostState.RESTORED, PLAN.from_, "backup_20261123_101112")
    assert credited(plan, result(HostState.REVERTED)) == result(HostState.REVERTED)
    nothing_to_do = Plan("web", playbook, "backup_1", (), {"web1": HostPlan("web1", "web", OLD, OLD)}, "stop")
    unchanged = HostResult("web1", HostState.UNCHANGED, OLD, OLD)
    assert credited(nothing_to_do, unchanged) == unchanged
