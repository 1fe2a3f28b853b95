"""When an armed rollback may be given the word, as tables: in every other case the ordinary way is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from guard.decide.thresholds import Thresholds
from guard.model import (
    HostFacts,
    HostPlan,
    HostResult,
    HostState,
    Image,
    Observation,
    Plan,
    PlaybookRef,
    State,
    TargetKey,
)
from guard.rollback.armed import ArmedRun, is_clean
from guard.service.arming import Armed, Latest
from guard.service.counting import Counters
from guard.service.rollback import Decided

NEW, OLD, OTHER = Image("web:2", "sha256:new"), Image("web:1", "sha256:old"), Image("web:3", "sha256:other")
PLAN = Plan(
    service="web",
    playbook=PlaybookRef("container", "1.0.0", "sha256:digest"),
    backup_tag="backup_20261124_120000",
    batches=(("a",), ("b",)),
    hosts={host: HostPlan(host, "web", NEW, OLD, "release") for host in "ab"},
)
LATEST = Latest("rl-1", {"a": NEW, "b": NEW}, "rb-0")
READY = {host: HostResult(host, HostState.PLANNED) for host in "ab"}


@dataclass
class FakeRun:
    """An armed run as far as it is asked here."""

    is_alive: bool = True
    results: Mapping[str, HostResult] | None = field(default_factory=lambda: READY)
    folder: Path = Path("runs/rb-1/run-1")

    def prepared(self) -> Mapping[str, HostResult] | None:
        return self.results


def armed(**run: Any) -> Armed:
    facts = {host: HostFacts(host, "web") for host in "ab"}
    return Armed("rb-1", cast("ArmedRun", FakeRun(**run)), Decided(PLAN, facts, ()), LATEST)


def test_the_word_is_given_for_the_plan_that_was_prepared_whatever_its_backup_tag() -> None:
    assert armed().is_ready_for(replace(PLAN, backup_tag="backup_20261124_120500"), LATEST)


def test_the_word_may_come_before_everything_is_prepared() -> None:
    assert armed(results=None).is_ready_for(PLAN, LATEST)


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, batches=(("a", "b"),)),
        replace(PLAN, on_batch_failure="continue"),
        replace(PLAN, playbook=PlaybookRef("container", "1.0.1", "sha256:digest")),
        replace(PLAN, hosts={**PLAN.hosts, "b": replace(PLAN.hosts["b"], to=OTHER)}),
        replace(PLAN, hosts={**PLAN.hosts, "b": replace(PLAN.hosts["b"], to=None, problem="rejected since")}),
    ],
)
def test_another_plan_is_carried_out_the_ordinary_way(plan: Plan) -> None:
    assert not armed().is_ready_for(plan, LATEST)


@pytest.mark.parametrize(
    ("run", "ready"),
    [
        ({"is_alive": False}, False),
        ({"results": {**READY, "b": HostResult("b", HostState.FAILED)}}, False),
        ({"results": {**READY, "b": HostResult("b", HostState.UNREACHABLE)}}, False),
        ({"results": {**READY, "b": HostResult("b", HostState.UNCHANGED)}}, True),
    ],
)
def test_a_run_that_is_not_ready_on_every_host_is_not_used(run: dict[str, Any], ready: bool) -> None:
    assert armed(**run).is_ready_for(PLAN, LATEST) is ready


@pytest.mark.parametrize(
    ("latest", "ready"),
    [
        (replace(LATEST, rollback="rb-by-hand"), False),
        (Latest("rl-2", {"a": OTHER, "b": OTHER}, "rb-0"), False),
        (Latest("rl-2", {"a": NEW}, "rb-0"), False),
        (Latest("rl-2", {"a": NEW, "b": NEW}, "rb-0"), True),  # only written down later
    ],
)
def test_news_on_the_services_record_is_looked_at_first(latest: Latest, ready: bool) -> None:
    assert armed().is_ready_for(PLAN, latest) is ready


def test_nothing_prepared_at_all_is_clean() -> None:
    assert is_clean({})


def test_a_service_is_in_a_row_until_its_last_target_answers() -> None:
    keys = [TargetKey("web", "http", "a"), TargetKey("web", "http", "b"), TargetKey("web", "sum")]
    counters = Counters(dict.fromkeys(keys, Thresholds(failure=5)), {"web": "any"})

    def take(key: TargetKey, state: State) -> None:
        counters.take(Observation(key, state, 0.1, "", datetime(2026, 11, 24, tzinfo=UTC)))

    assert counters.in_a_row("web") is None
    take(keys[0], State.UNHEALTHY)
    take(keys[2], State.UNHEALTHY)
    take(keys[1], State.UNKNOWN)
    assert counters.in_a_row("web") == {"a"}
    take(keys[0], State.HEALTHY)
    assert counters.in_a_row("web") == frozenset()  # a check without a host still fails
    take(keys[2], State.UNKNOWN)
    assert counters.in_a_row("web") == frozenset()
    take(keys[2], State.HEALTHY)
    assert counters.in_a_row("web") is None
