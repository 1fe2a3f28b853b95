from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from guard.errors import Refused, StateError
from guard.model import GateOutcome, HostResult, HostState, Phase, ReleaseState, RollbackOutcome
from guard.ports import Store
from tests.samples_store import HOSTILE, KEPT, NOW, OLD, elsewhere, gate, later, plan, release, restored, rollback


def test_a_rollback_and_its_plan_come_back_as_they_were_written(store: Store) -> None:
    store.begin_rollback(rollback(), plan(), "k")
    assert store.rollback("r1") == rollback()
    assert store.plan("r1") == plan()


def test_what_is_not_on_record_is_none(store: Store) -> None:
    assert (store.rollback("r1"), store.plan("r1"), store.gate("g1")) == (None, None, None)
    assert store.rollbacks() == store.unfinished() == store.gates() == store.releases("web") == ()


def test_phases_and_artifacts_are_kept_as_they_come(store: Store) -> None:
    store.begin_rollback(rollback(), plan(), "k")
    store.set_phase("r1", Phase.PREPARING, "/state/runs/r1")
    store.set_phase("r1", Phase.SWAPPING)
    assert store.rollback("r1") == replace(rollback(), phase=Phase.SWAPPING, artifacts="/state/runs/r1")


def test_a_host_result_replaces_the_earlier_one_of_that_host_only(store: Store) -> None:
    store.begin_rollback(rollback(), plan(), "k")
    store.record_host("r1", HostResult("a", HostState.FAILED, error="timed out"))
    store.record_host("r1", restored())
    store.record_host("r1", HostResult("new", HostState.UNREACHABLE, OLD, None, error="no route"))
    found = store.rollback("r1")
    assert found is not None
    expected = {**rollback().hosts, "a": restored()}
    assert found.hosts == {**expected, "new": HostResult("new", HostState.UNREACHABLE, OLD, None, error="no route")}


def test_an_ended_rollback_is_no_longer_unfinished(store: Store) -> None:
    store.begin_rollback(rollback(), plan(), "k")
    store.begin_rollback(rollback("r2", "worker"), plan(), "k2")
    assert [each.id for each in store.unfinished("web")] == ["r1"]
    store.end_rollback("r1", RollbackOutcome.RESTORED, verified=True, reason="all well", ended_at=elsewhere(later(9)))
    assert store.rollback("r1") == replace(
        rollback(),
        outcome=RollbackOutcome.RESTORED,
        phase=Phase.ENDED,
        verified=True,
        reason="all well",
        ended_at=later(9),
    )
    assert store.unfinished("web") == ()
    assert [each.id for each in store.unfinished()] == ["r2"]


def test_a_rollback_that_was_taken_back_ends_as_reverted(store: Store) -> None:
    store.begin_rollback(rollback(), plan(), "k")
    store.set_phase("r1", Phase.REVERTING)
    store.end_rollback("r1", RollbackOutcome.FAILED, verified=False, reason="", ended_at=later(1), phase=Phase.REVERTED)
    found = store.rollback("r1")
    assert found is not None
    assert (found.phase, found.outcome) == (Phase.REVERTED, RollbackOutcome.FAILED)
    assert store.unfinished() == ()


def test_a_rollback_does_not_end_as_unfinished(store: Store) -> None:
    store.begin_rollback(rollback(), plan(), "k")
    with pytest.raises(ValueError, match="unfinished"):
        store.end_rollback("r1", RollbackOutcome.UNFINISHED, verified=False, reason="", ended_at=NOW)


@pytest.mark.parametrize("ended", [False, True])
def test_a_doubled_trigger_is_refused_and_names_the_attempt_on_record(store: Store, ended: bool) -> None:
    store.begin_rollback(rollback(), plan(), "web/bad/old/1")
    if ended:
        store.end_rollback("r1", RollbackOutcome.FAILED, verified=False, reason="", ended_at=later(1))
    with pytest.raises(Refused, match="r1"):
        store.begin_rollback(rollback("r2"), plan(), "web/bad/old/1")
    assert store.rollback("r2") is None
    store.begin_rollback(rollback("r2"), plan(), "web/bad/old/2")


def test_the_same_id_twice_is_refused(store: Store) -> None:
    store.begin_rollback(rollback(), plan(), "k")
    with pytest.raises(Refused, match="r1"):
        store.begin_rollback(rollback(), plan(), "other")


@pytest.mark.parametrize("outcome", [RollbackOutcome.DRY_RUN, RollbackOutcome.REFUSED])
def test_an_attempt_that_only_records_claims_no_key(store: Store, outcome: RollbackOutcome) -> None:
    store.begin_rollback(rollback("dry1", outcome=outcome), plan(), "k")
    store.begin_rollback(rollback("dry2", outcome=outcome), plan(), "k")
    store.begin_rollback(rollback("r1"), plan(), "k")
    with pytest.raises(Refused, match="r1"):
        store.begin_rollback(rollback("r2"), plan(), "k")


def test_rollbacks_come_newest_first_by_service_and_up_to_the_limit(store: Store) -> None:
    for name, service, seconds in [("r1", "web", 0), ("r3", "web", 20), ("r2", "worker", 10), ("r4", "web", 20)]:
        store.begin_rollback(rollback(name, service, later(seconds)), plan(), name)
    assert [each.id for each in store.rollbacks()] == ["r4", "r3", "r2", "r1"]
    assert [each.id for each in store.rollbacks("web", limit=2)] == ["r4", "r3"]
    assert all(each.hosts == rollback().hosts for each in store.rollbacks())


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.set_phase("nope", Phase.CLAIMED),
        lambda store: store.record_host("nope", restored()),
        lambda store: store.end_rollback("nope", RollbackOutcome.FAILED, verified=False, reason="", ended_at=NOW),
        lambda store: store.set_release_state("nope", ReleaseState.GOOD, ""),
        lambda store: store.end_gate(gate("nope")),
    ],
)
def test_a_change_of_what_is_not_on_record_is_an_error(store: Store, change: Callable[[Store], None]) -> None:
    with pytest.raises(StateError, match="nope"):
        change(store)


def test_a_gate_is_kept_from_its_start_to_its_end(store: Store) -> None:
    store.begin_gate(gate())
    store.begin_gate(gate("g2", later(1)))
    assert store.gate("g1") == gate()
    document = {"id": "g1", "services": [{"name": "web", "targets": [1, 2.5, None, True]}], "reason": "ü"}
    ended = replace(gate(), outcome=GateOutcome.ROLLED_BACK, reason="bad", ended_at=later(30), document=document)
    store.end_gate(ended)
    assert store.gate("g1") == ended
    assert [each.id for each in store.gates()] == ["g2", "g1"]
    assert [each.id for each in store.gates(limit=1)] == ["g2"]
    with pytest.raises(StateError, match="g1"):
        store.begin_gate(gate())


@pytest.mark.parametrize("healthy", [True, False, None])
def test_a_release_comes_back_as_it_was_written(store: Store, healthy: bool | None) -> None:
    store.add_release(release(healthy=healthy))
    assert store.releases("web") == (release(healthy=healthy),)
    assert store.releases("worker") == ()
    with pytest.raises(StateError, match="rel1"):
        store.add_release(release())


def test_releases_come_newest_first_and_of_one_moment_the_last_written_first(store: Store) -> None:
    for name, seconds in [("rel1", 5), ("rel2", 0), ("rel3", 5)]:
        store.add_release(release(name, at=later(seconds)))
    assert [each.id for each in store.releases("web")] == ["rel3", "rel1", "rel2"]


def test_a_release_changes_its_state_with_a_reason(store: Store) -> None:
    store.add_release(release())
    store.add_release(release("rel2"))
    store.set_release_state("rel1", ReleaseState.REJECTED, "rolled back")
    found = {each.id: (each.state, each.reason) for each in store.releases("web")}
    assert found == {"rel1": (ReleaseState.REJECTED, "rolled back"), "rel2": (ReleaseState.CANDIDATE, "before")}


def test_hostile_text_is_data_and_harms_nothing(store: Store) -> None:
    store.begin_rollback(replace(rollback(), reason=HOSTILE), plan(), "k")
    store.record_host("r1", HostResult("a'; DROP TABLE rollbacks; --", HostState.FAILED, error=HOSTILE))
    found = store.rollback("r1")
    assert found is not None
    assert found.reason in (HOSTILE, KEPT)
    assert found.hosts["a'; DROP TABLE rollbacks; --"].error in (HOSTILE, KEPT)
