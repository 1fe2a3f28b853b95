"""The rules: each by its own table, and all of them always asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.decide.policy import RULES, PolicyFacts, ask_all, vetoes
from guard.decide.windows import Opening, Window
from guard.model import Hold, HostPlan, Image, Trigger

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
OLD, NEW = Image("web:1.0.0", "sha256:0"), Image("web:1.1.0", "sha256:1")
PLAN = HostPlan("web1", "web", NEW, OLD, "release")
STAYS = HostPlan("web2", "web", OLD, OLD, "not the bad release")  # in the middle of a rolling deploy
FACTS = PolicyFacts("web", NOW, Trigger.THRESHOLD, plans={"web1": PLAN}, watched=6)
HOLD = Hold("web", "migration", "ann", NOW, NOW + timedelta(hours=2))
BACKUP = Opening(Window(frozenset(range(7)), time(11), time(13), UTC, "backup"), NOW, NOW + timedelta(hours=1))
FOUR = {"critical_services": 4, "failing_together": frozenset({"web", "api", "db"})}


def said_no(facts: PolicyFacts) -> list[str]:
    return [answer.rule for answer in vetoes(ask_all(facts))]


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({}, []),
        ({"critical": False}, ["critical"]),
        ({"hold": HOLD}, ["hold"]),
        ({"hold": HOLD, "force": True}, []),
        ({"maintenance": BACKUP}, ["maintenance"]),
        ({"crosses": ("web:1.1.0 is marked irreversible",)}, ["irreversible"]),
        ({"crosses": ("web:1.1.0 is marked irreversible",), "force": True}, []),
        ({"dry_run": True}, ["dry_run"]),
        ({"plans": {"web1": replace(PLAN, to=None, problem="nothing there")}}, ["target_known"]),
        ({"plans": {}}, ["target_known"]),
        ({"last_automatic_at": NOW - timedelta(seconds=599)}, ["min_gap"]),
        ({"last_automatic_at": NOW + timedelta(hours=1)}, []),  # the clock was set back
        ({"last_automatic_at": NOW - timedelta(seconds=600)}, []),
        ({"last_restored": {"web1": NEW.image_id}}, ["loop"]),
        ({"last_restored": {"web1": OLD.image_id}}, []),
        ({"last_restored": {"web2": OLD.image_id}, "plans": {"web1": PLAN, "web2": STAYS}}, []),
        ({"rejected": frozenset({OLD.image_id})}, ["loop"]),
        ({"rejected": frozenset({NEW.image_id})}, []),
        ({"last_failed": {"web1": (NEW.image_id, OLD.image_id)}}, ["loop"]),
        ({"last_failed": {"web1": (NEW.image_id, "sha256:other")}}, []),
        ({"last_failed": {"web2": (NEW.image_id, OLD.image_id)}}, []),
        ({"failed_dependencies": ("warehouse",)}, ["dependency"]),
        (FOUR, ["mass_failure"]),
        ({**FOUR, "failing_together": frozenset({"web", "api"})}, []),
        ({"critical_services": 2, "failing_together": frozenset({"web", "api"})}, []),
        ({"failed_before": ("web/http@web1",), "failed_anew": False}, ["failing_before"]),
        ({"failed_before": ("web/http@web1",), "failed_anew": True}, []),
        ({"failed_before": (), "failed_anew": False}, []),  # a gate that failed by its deadline: no full row at all
        ({"blind": 4}, ["guard_offline"]),
        ({"blind": 3}, []),
        ({"held_by": "service web is held by another guard"}, ["lock"]),
        ({"critical": False, "dry_run": True, "hold": HOLD}, ["critical", "hold", "dry_run"]),
    ],
)
def test_each_rule_says_no_for_its_own_reason(change: dict[str, Any], rules: list[str]) -> None:
    assert said_no(replace(FACTS, **change)) == rules


EVERYTHING: dict[str, Any] = {
    "critical": False,
    "hold": HOLD,
    "maintenance": BACKUP,
    "crosses": ("it is marked irreversible",),
    "dry_run": True,
    "plans": {"web1": PLAN},
    "last_automatic_at": NOW,
    "last_restored": {"web1": NEW.image_id},
    "failed_dependencies": ("warehouse",),
    **FOUR,
    "failed_before": ("web/http@web1",),
    "failed_anew": False,
    "blind": 6,
    "held_by": "another guard",
}


def test_everything_can_say_no_at_once() -> None:
    assert said_no(replace(FACTS, **EVERYTHING)) == [rule for rule in RULES if rule != "target_known"]


def test_an_operator_is_stopped_only_by_a_hold_the_irreversible_a_lock_a_dry_run_or_a_missing_target() -> None:
    by_hand = replace(FACTS, trigger=Trigger.MANUAL, **{**EVERYTHING, "plans": {}})
    assert said_no(by_hand) == ["hold", "irreversible", "target_known", "lock", "dry_run"]
    assert said_no(replace(by_hand, force=True)) == ["target_known", "lock", "dry_run"]


@given(
    st.fixed_dictionaries({}, optional={key: st.just(value) for key, value in EVERYTHING.items()}),
    st.sampled_from([Trigger.THRESHOLD, Trigger.MANUAL]),
    st.booleans(),
)
def test_every_rule_is_asked_once_and_answers_in_a_sentence_whatever_the_facts(
    change: dict[str, Any], trigger: Trigger, force: bool
) -> None:
    answers = ask_all(replace(FACTS, trigger=trigger, force=force, **change))
    assert [answer.rule for answer in answers] == list(RULES)
    assert all(answer.sentence for answer in answers)


@given(st.sets(st.sampled_from([*EVERYTHING])), st.sampled_from([*EVERYTHING]))
def test_one_more_reason_against_it_never_makes_it_allowed(some: set[str], more: str) -> None:
    changes = {key: EVERYTHING[key] for key in some}
    if said_no(replace(FACTS, **changes)) and more != "plans":
        assert said_no(replace(FACTS, **{**changes, more: EVERYTHING[more]}))
