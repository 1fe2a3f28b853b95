"""A decision put together again from what is on record, and the same observations through other settings."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from guard.config.load import load
from guard.config.schema import GuardConfig
from guard.errors import UsageError
from guard.model import (
    AuditEntry,
    Gate,
    GateOutcome,
    Observation,
    Rollback,
    RollbackOutcome,
    RuleAnswer,
    State,
    TargetKey,
)
from guard.report.explain import Explained, explain_document, explain_text
from guard.report.replay import Replayed, replay_text
from guard.service.explain import explain
from guard.service.replay import Wish, replay
from tests.fakes_store import MemoryStore
from tests.samples_store import NOW, later, rollback

STATES = {"h": State.HEALTHY, "u": State.UNHEALTHY, "?": State.UNKNOWN}
KEY = TargetKey("web", "http")


@pytest.fixture
def config(tmp_path: Path) -> GuardConfig:
    (tmp_path / "guard.yml").write_text(
        "defaults: {interval: 10s}\nservices: [{name: web, checks: [{type: http, url: 'http://localhost:1/'}]}]\n"
    )
    return load(None, {}, tmp_path)


def row(states: str, source: str = "watch", begun: float = 0, key: TargetKey = KEY) -> list[Observation]:
    return [
        Observation(key, STATES[s], 0.01, "status 500", later(begun + 10 * n), source=source)
        for n, s in enumerate(states)
    ]


def store_with(observed: list[Observation], *made: Rollback, gates: tuple[Gate, ...] = ()) -> MemoryStore:
    store = MemoryStore()
    store.add_observations(observed, {})
    store.attempts |= {one.id: one for one in made}
    store.watches |= {one.id: one for one in gates}
    return store


def restored(at: float, **changed: object) -> Rollback:
    ended = replace(rollback("rb-1", at=later(at), outcome=RollbackOutcome.RESTORED), gate_id=None, **changed)  # type: ignore[arg-type]
    return replace(ended, ended_at=later(at + 5))


def told(found: Explained) -> str:
    lines = explain_text(found)
    assert max(map(len, lines)) <= 80
    return "\n".join(lines)


def test_a_watch_s_rollback_shows_the_row_that_led_to_it_and_nothing_of_others(config: GuardConfig) -> None:
    observed = row("hhhuuu") + row("uuuuu", "gt-other", 3) + row("hhh", "rb-1", 54)
    found = explain(store_with(observed, restored(51)), config, "rb-1")
    text = told(found)
    assert "12:00:00-12:00:20  web/http  3 x healthy" in text
    assert "12:00:40           web/http  unhealthy 2 of 3: status 500  WARNING" in text
    assert "web/http  unhealthy 3 of 3: status 500  THRESHOLD CROSSED" in text
    assert "verification: web/http" in text
    assert found.counters[KEY].failures == 3
    assert [entry.kind for entry in found.timeline].count("observations") == 4


def test_the_recorded_thresholds_come_before_the_configured_ones(config: GuardConfig) -> None:
    settings = {"targets": {"web/http": {"failure": 2, "warning": 1, "success": 1}}, "quorum": {"web": "any"}}
    found = explain(store_with(row("huu"), restored(21, settings=settings)), config, "rb-1")
    assert found.settings_from == "record"
    assert found.counters[KEY].crossed
    assert "unhealthy 2 of 2" in told(found)
    plain = explain(store_with(row("huu"), restored(21)), config, "rb-1")
    assert plain.settings_from == "configuration"
    assert not plain.counters[KEY].crossed


def test_a_target_nobody_knows_any_more_is_shown_without_a_threshold(config: GuardConfig) -> None:
    gone = TargetKey("web", "gone", "web9")
    found = explain(store_with(row("huu", key=gone), restored(21)), config, "rb-1")
    assert "web/gone@web9  unhealthy 2 in a row: status 500" in told(found)
    assert found.limits == {}
    assert found.settings == {}


def test_every_rule_is_told_and_a_veto_marked_with_what_to_do(config: GuardConfig) -> None:
    answers = (RuleAnswer("critical", True, "web is critical"), RuleAnswer("hold", False, "held by ops: migration"))
    refused = replace(restored(31), outcome=RollbackOutcome.REFUSED, answers=answers)
    found = explain(store_with(row("uuu"), refused), config, "web")
    text = told(found)
    assert text.startswith("web was not rolled back, because a rule says no (hold: held by ops: migration)")
    assert "  yes  critical      web is critical" in text
    assert "  NO   hold          held by ops: migration" in text
    assert "guard unhold web" in text
    assert explain_document(found)["rules"] == [
        {"rollback": "rb-1", "service": "web", "rule": "critical", "allows": True, "sentence": "web is critical"},
        {"rollback": "rb-1", "service": "web", "rule": "hold", "allows": False, "sentence": "held by ops: migration"},
    ]


def test_the_steps_of_a_rollback_come_from_the_audit_with_their_times(config: GuardConfig) -> None:
    store = store_with(row("uuu"), restored(21))
    host = {"host": "web1", "state": "restored", "downtime_s": 0.97}
    store.entries += [
        AuditEntry(later(21), "rollback_begun", "rb-1", {"phase": "preparing", "reason": "3 failures"}),
        AuditEntry(later(22), "rollback_phase", "rb-1", {"phase": "swapping"}),
        AuditEntry(later(23), "rollback_host", "rb-1", host),
        AuditEntry(later(24), "rollback_host", "rb-1", host),
        AuditEntry(later(26), "rollback_ended", "rb-1", {"outcome": "restored", "verified": True}),
    ]
    text = told(explain(store, config, "rb-1"))
    assert "(armed)" in text
    assert text.count("web1: restored, down 0.97 s") == 1
    assert "rollback rb-1 ends: restored, verified" in text


def test_a_gate_that_was_killed_or_still_runs_can_be_explained(config: GuardConfig) -> None:
    gate = Gate("gt-1", ("web",), None, "", NOW, None)
    found = explain(store_with(row("hu", "gt-1"), gates=(gate,)), config, "gt-1")
    assert told(found).startswith("The gate over web still runs, or was killed")
    assert explain_document(found)["ended_at"] is None


def test_what_has_been_folded_is_said_to_be_gone(config: GuardConfig) -> None:
    store = store_with(row("uuu"), restored(21))
    store.fold(NOW + timedelta(days=9), 7, 100)
    assert "hourly sums" in told(explain(store, config, "rb-1"))


@pytest.mark.parametrize(("asked", "hint"), [("rb-2", "guard history"), ("web", "guard status")])
def test_what_is_not_on_record_is_a_usage_error_with_a_hint(config: GuardConfig, asked: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        explain(MemoryStore(), config, asked)
    assert hint in str(error.value.hint)


def test_many_hosts_that_say_the_same_at_the_same_time_share_a_line(config: GuardConfig) -> None:
    observed = [one for n in range(100) for one in row("huuu", key=TargetKey("web", "http", f"web{n:03}"))]
    text = told(explain(store_with(sorted(observed, key=lambda one: one.at), *[restored(31)]), config, "rb-1"))
    assert "web/http on 100 hosts (web000, web001, web002, ...) unhealthy 3 of 3" in " ".join(text.split())


# -- replay


def again(store: MemoryStore, config: GuardConfig, failure: int | None = None) -> Replayed:
    changed = {} if failure is None else {"failure_threshold": failure}
    wish = Wish(config.services, NOW, later(3600), changed, lambda check: check.model_copy(update=changed))
    return replay(store, config, wish)


def test_with_the_settings_of_then_the_replay_finds_the_rollback_that_was_made(config: GuardConfig) -> None:
    found = again(store_with(row("huuu"), restored(31)), config)
    assert [(one.judged.rolls_back, one.really.id if one.really else "") for one in found.would] == [(True, "rb-1")]
    assert found.only_really == ()


def test_with_a_higher_threshold_it_says_what_would_not_have_been(config: GuardConfig) -> None:
    found = again(store_with(row("huuu"), restored(31)), config, 4)
    assert found.would == ()
    assert [one.id for one in found.only_really] == ["rb-1"]
    text = replay_text(found)
    assert text[0].startswith("Nothing would have been rolled back with failure_threshold 4")
    assert max(map(len, text)) <= 80


def test_with_a_lower_threshold_it_finds_what_was_not_done(config: GuardConfig) -> None:
    found = again(store_with(row("huuh")), config, 2)
    assert [(one.judged.crossing.at, one.really) for one in found.would] == [(later(20), None)]


def test_a_gate_and_a_watch_are_counted_apart_and_the_service_is_the_gate_s(config: GuardConfig) -> None:
    gate = Gate("gt-1", ("web",), GateOutcome.HEALTHY, "", later(0), later(100))
    assert again(store_with(row("uhu", "gt-1") + row("huh", begun=3), gates=(gate,)), config).would == ()
    found = again(store_with(row("uuuu") + row("hhh", "gt-1", 3), gates=(gate,)), config)
    assert [one.source for one in found.would] == ["watch"]
    assert not found.would[0].judged.rolls_back


def test_a_verification_is_not_replayed(config: GuardConfig) -> None:
    assert again(store_with(row("uuuu", "rb-1")), config).would == ()


def test_it_says_where_it_cannot_be_exact(config: GuardConfig) -> None:
    store = store_with(row("uuu") + row("u", "") + row("h", key=TargetKey("web", "gone")))
    said = " ".join(again(store, config).inexact)
    assert "a row of failures may have begun before: web/http" in said
    assert "left out: web/gone" in said
    store.fold(NOW + timedelta(days=9), 7, 100)
    assert "4 unhealthy observations in them are not replayed" in " ".join(again(store, config).inexact)
