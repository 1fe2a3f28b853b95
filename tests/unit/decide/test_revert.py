"""Going back to what ran before: which hosts, and how they end."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.decide.revert import PUT_BACK, goes_back, inverse, is_due, put_back, untouched
from guard.model import (
    ContainerFacts,
    HostFacts,
    HostPlan,
    HostResult,
    HostState,
    Image,
    Phase,
    Plan,
    PlaybookRef,
    Rollback,
    RollbackOutcome,
    Trigger,
)

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
GOOD, BAD, OTHER = (Image(f"web:1.{n}.0", f"sha256:{n:064x}") for n in (0, 1, 2))
WHY = "web2 failed, and on_batch_failure is revert"


def plan_of(hosts: list[str], policy: str = "revert") -> Plan:
    plans = {host: HostPlan(host, "web", BAD, GOOD, "release") for host in hosts}
    batches = tuple((host,) for host in hosts)
    return Plan("web", PlaybookRef("container", "1.0.0", "d"), "backup_20261124_120000", batches, plans, policy)


def seen(image: Image | None, status: str = "running", **more: object) -> HostFacts:
    container = ContainerFacts("web", "c", image, status, "", "", 0, False, 0, "") if image else None
    return HostFacts("web1", "web", container, **more)  # type: ignore[arg-type]


def known(state: HostState, **more: object) -> HostResult:
    return HostResult("web1", state, BAD, GOOD, "backup_20261124_120000", **more)  # type: ignore[arg-type]


PLAN = plan_of(["web1"])


@pytest.mark.parametrize(
    ("policy", "states", "due"),
    [
        ("revert", ["restored", "reverted"], True),
        ("revert", ["restored", "failed"], True),
        ("revert", ["restored", "unreachable"], False),
        ("revert", ["restored", "skipped"], False),
        ("revert", ["restored", "restored"], False),
        ("stop", ["restored", "reverted"], False),
        ("continue", ["restored", "failed"], False),
    ],
)
def test_only_a_failed_host_turns_a_rollback_round(policy: str, states: list[str], due: bool) -> None:
    results = {f"web{n}": known(HostState(state)) for n, state in enumerate(states)}
    assert is_due(plan_of(list(results), policy), results) is due


def test_a_host_without_a_container_was_never_to_change_and_turns_nothing_round() -> None:
    assert not is_due(PLAN, {"web1": known(HostState.RESTORED), "web9": known(HostState.FAILED)})


@pytest.mark.parametrize(
    ("phase", "ended", "state", "back"),
    [
        (Phase.SWAPPING, False, "restored", False),
        (Phase.SWAPPING, False, "reverted", True),
        (Phase.LOST, False, "failed", True),
        (Phase.REVERTING, False, "restored", True),
        (Phase.REVERTED, True, "unreachable", True),
        (Phase.ENDED, True, "unreachable", False),
        (Phase.ENDED, True, "failed", False),
    ],
)
def test_a_rollback_is_resumed_the_way_it_was_going(phase: Phase, ended: bool, state: str, back: bool) -> None:
    results = {"web1": known(HostState(state))}
    end = NOW if ended else None
    outcome = RollbackOutcome.FAILED if ended else RollbackOutcome.UNFINISHED
    record = Rollback("rb", "web", outcome, phase, Trigger.THRESHOLD, "", None, NOW, end, results, None, False)
    assert goes_back(record, PLAN, results) is back


@pytest.mark.parametrize(
    ("facts", "state", "off"),
    [
        (seen(GOOD), "restored", True),
        (seen(GOOD, "exited"), "restored", True),
        (seen(None), "restored", True),  # cut off between two names: the module puts that right
        (seen(BAD), "restored", False),
        (seen(BAD, "exited"), "failed", True),  # cut off in an undo
        (seen(BAD, "exited"), "skipped", False),  # it had stopped by itself, and nobody touched it
        (seen(BAD, "restarting"), "failed", False),
        (seen(OTHER), "restored", False),
        (seen(None, problem="no route", unreachable=True), "restored", False),
    ],
)
def test_only_what_is_not_as_it_was_is_put_back(facts: HostFacts, state: str, off: bool) -> None:
    back = inverse(PLAN, {"web1": facts}, {"web1": known(HostState(state))}, "backup_20261124_120001")
    assert bool(back.batches) is off
    if off:
        assert (back.hosts["web1"].from_, back.hosts["web1"].to) == (GOOD, BAD)
        assert (back.backup_tag, back.on_batch_failure) == ("backup_20261124_120001", "continue")


def test_after_a_cut_run_with_hooks_hosts_that_are_as_they_were_get_their_hooks_too() -> None:
    was = {"web1": known(HostState.PLANNED)}
    assert inverse(PLAN, {"web1": seen(BAD)}, was, "backup_20261124_120001", again=True).batches == (("web1",),)
    assert untouched(PLAN, {"web1": seen(BAD)}, was, WHY, again=True) == {}
    assert not inverse(PLAN, {"web1": seen(OTHER)}, was, "backup_20261124_120001", again=True).batches
    unchanged = HostResult("web1", HostState.UNCHANGED, BAD, BAD)
    assert put_back(PLAN.hosts["web1"], was["web1"], unchanged, WHY).state is HostState.SKIPPED


@pytest.mark.parametrize(
    ("facts", "was", "state", "error"),
    [
        (seen(BAD), known(HostState.SKIPPED, error="not its turn"), "skipped", "not its turn"),
        (seen(BAD), known(HostState.PLANNED), "skipped", f"not touched: {WHY}"),
        (seen(BAD), known(HostState.REVERTED, error="it exited"), "reverted", "it exited"),
        (seen(BAD), known(HostState.FAILED, error="disk full"), "failed", "disk full"),
        (seen(BAD), known(HostState.RESTORED), "reverted", PUT_BACK + WHY),
        (seen(BAD), known(HostState.UNREACHABLE, error="no route"), "skipped", f"not touched: {WHY}"),
        (seen(None, problem="no route", unreachable=True), known(HostState.RESTORED), "unreachable", "no route"),
        (seen(None, problem="engine down"), known(HostState.RESTORED), "failed", "engine down"),
    ],
)
def test_a_host_that_needs_nothing_says_how_it_stands(
    facts: HostFacts, was: HostResult, state: str, error: str
) -> None:
    result = untouched(PLAN, {"web1": facts}, {"web1": was}, WHY)["web1"]
    assert (result.state.value, result.error) == (state, error)


def test_a_host_that_somebody_deployed_to_since_is_left_alone() -> None:
    result = untouched(PLAN, {"web1": seen(OTHER)}, {"web1": known(HostState.RESTORED)}, WHY)["web1"]
    assert result.state is HostState.SKIPPED
    assert "somebody deployed since" in (result.error or "")


@pytest.mark.parametrize(
    ("ran", "runs_before", "state", "error"),
    [
        ("restored", GOOD, "reverted", PUT_BACK + WHY),
        ("unchanged", BAD, "reverted", PUT_BACK + WHY),
        ("reverted", BAD, "reverted", PUT_BACK + WHY),
        ("reverted", GOOD, "restored", "could not be put back, web:1.0.0 runs on: it exited"),
        ("failed", GOOD, "failed", "could not be put back: it exited"),
        ("unreachable", GOOD, "unreachable", "it exited"),
    ],
)
def test_what_the_second_run_says_is_told_in_terms_of_the_first(
    ran: str, runs_before: Image, state: str, error: str
) -> None:
    was = known(HostState.RESTORED, downtime_s=0.5)
    result = HostResult("web1", HostState(ran), runs_before, BAD, "backup_20261124_120001", 0.25, "it exited")
    told = put_back(PLAN.hosts["web1"], was, result, WHY)
    assert (told.state.value, told.error) == (state, error)
    assert (told.from_, told.to, told.backup_tag) == (BAD, GOOD, "backup_20261124_120000")
    if state in ("reverted", "restored"):
        assert told.downtime_s == 0.75


IMAGES = st.sampled_from([GOOD, BAD, OTHER, None])
FACTS = st.one_of(
    st.builds(seen, IMAGES, st.sampled_from(["running", "exited", "restarting", "created"])),
    st.just(seen(None, problem="no route", unreachable=True)),
    st.just(seen(None, problem="engine down")),
)
RAN = st.sampled_from([HostState.RESTORED, HostState.UNCHANGED, HostState.REVERTED])


@given(st.lists(st.tuples(FACTS, st.sampled_from(list(HostState)), RAN), min_size=1, max_size=6))
def test_no_host_is_left_out_and_each_ends_on_exactly_one_of_its_images(
    hosts: list[tuple[HostFacts, HostState, HostState]],
) -> None:
    names = [f"web{n}" for n in range(len(hosts))]
    plan = plan_of(names)
    facts = {name: replace(one[0], host=name) for name, one in zip(names, hosts, strict=True)}
    before = {name: replace(known(one[1]), host=name) for name, one in zip(names, hosts, strict=True)}
    back = inverse(plan, facts, before, "backup_20261124_120001")
    results = untouched(plan, facts, before, WHY)
    assert not set(results) & set(back.hosts)
    assert [host for batch in back.batches for host in batch] == list(back.hosts)
    for name in back.hosts:
        ran = hosts[names.index(name)][2]
        runs = facts[name].running
        was = runs.image if runs is not None else GOOD
        results[name] = put_back(plan.hosts[name], before[name], HostResult(name, ran, was, BAD), WHY)
        assert was in (GOOD, BAD)  # nobody else's image is ever touched
    assert set(results) == set(names)
    for name, result in results.items():
        if result.state is HostState.RESTORED:  # it could not be put back, and says so
            assert "could not be put back" in (result.error or "")
        elif result.state is HostState.REVERTED:
            runs = facts[name].running
            assert name in back.hosts or (runs is not None and runs.image == BAD)
        else:
            assert result.state in (HostState.SKIPPED, HostState.UNREACHABLE, HostState.FAILED)
