"""The whole core in virtual time: counters, quorum, rules and the steps of a watch or a gate, over any history.

A ``World`` is a watch without anything around it: what it decides comes from guard's own code, what happens comes from
hypothesis. Whether a decision was right is judged from the raw history alone, by code of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from guard.decide import gate
from guard.decide.policy import PolicyFacts, ask_all, vetoes
from guard.decide.thresholds import Thresholds, Transition
from guard.decide.watch import ASK_AGAIN_S, Step, next_step
from guard.model import Hold, HostPlan, Image, Observation, RuleAnswer, State, TargetKey, Trigger
from guard.service.counting import Counters
from guard.store import codec

BEGIN = datetime(2026, 11, 24, tzinfo=UTC)
ROUND_S = ASK_AGAIN_S  # so that every round may ask, whenever guard was restarted
LETTERS = {"h": State.HEALTHY, "d": State.DEGRADED, "u": State.UNHEALTHY, "?": State.UNKNOWN}
HOSTS = ("a", "b")
SERVICES = ("web", "api", "db")
KEYS = [TargetKey(service, check, host) for service in SERVICES for check in ("http", "docker") for host in HOSTS]
PLAN = HostPlan("a", "web", Image("web:2", "sha256:2"), Image("web:1", "sha256:1"), "release", None, False)


class Record(NamedTuple):
    """What a watch leaves behind: a rollback, or a refusal with its answers."""

    service: str
    at: float
    restored: bool
    answers: tuple[RuleAnswer, ...]

    @property
    def decision(self) -> tuple[str, bool, tuple[str, ...]]:
        return self.service, self.restored, tuple(answer.rule for answer in vetoes(self.answers))


@dataclass(frozen=True, slots=True)
class Settings:
    thresholds: Thresholds
    quorum: str | int
    not_critical: frozenset[str]
    takes_rounds: int
    min_gap_s: float


@dataclass
class World:
    settings: Settings
    counters: Counters = field(init=False)
    now: float = 0.0
    holds: set[str] = field(default_factory=set)
    records: list[Record] = field(default_factory=list)
    busy_until: dict[str, float] = field(default_factory=dict)
    rolled_back_at: dict[str, float] = field(default_factory=dict)
    asked_at: dict[str, float] = field(default_factory=dict)
    refusing: dict[str, frozenset[str]] = field(default_factory=dict)
    history: dict[TargetKey, str] = field(default_factory=lambda: dict.fromkeys(KEYS, ""))  # since the last reset

    def __post_init__(self) -> None:
        self.counters = self._fresh()

    def _fresh(self) -> Counters:
        return Counters(dict.fromkeys(KEYS, self.settings.thresholds), dict.fromkeys(SERVICES, self.settings.quorum))

    def restart(self) -> None:
        """All that a new guard knows is what the store kept; a rollback that runs is adopted."""
        kept: Mapping[TargetKey, Any] = {k: codec.status_document(s) for k, s in self.counters.all().items()}
        self.counters = self._fresh()
        self.counters.resume({key: codec.status(key, document) for key, document in kept.items()})
        self.asked_at, self.refusing = {}, {}

    def round(self, states: str) -> None:
        for key, letter in zip(KEYS, states, strict=True):
            self._finish()
            self.take(key, letter)
        self.now += ROUND_S

    def take(self, key: TargetKey, letter: str) -> None:
        at = BEGIN + timedelta(seconds=self.now)
        self.history[key] += letter
        transition = self.counters.take(Observation(key, LETTERS[letter], 0.1, "because", at))
        status = self.counters.status(key)
        if status.crossed and letter == "u":
            self._threshold(key.service)
        elif transition is Transition.RECOVERED and not self.counters.failed(key.service):
            self.asked_at.pop(key.service, None)
            self.refusing.pop(key.service, None)

    def acting(self, service: str) -> bool:
        return service in self.busy_until

    def _threshold(self, service: str) -> None:
        before = self.refusing.get(service, frozenset())
        step = next_step(
            self.now,
            failed=self.counters.failed(service),
            acting=self.acting(service),
            critical=service not in self.settings.not_critical,
            asked_at=self.asked_at.get(service),
            refusing=before,
        )
        if step is Step.WAIT:
            return
        self.asked_at[service] = self.now
        answers = ask_all(self._facts(service))
        no = frozenset(answer.rule for answer in vetoes(answers))
        if no != before or not no:
            self.records.append(Record(service, self.now, not no, answers))
        self.refusing[service] = no
        if not no:
            assert step is Step.ASK
            self.busy_until[service] = self.now + self.settings.takes_rounds * ROUND_S

    def _finish(self) -> None:
        for service in [name for name, until in self.busy_until.items() if until <= self.now]:
            del self.busy_until[service]
            self.rolled_back_at[service] = self.now
            self.refusing.pop(service, None)
            self.counters.reset(service)
            self.history |= {key: "" for key in KEYS if key.service == service}

    def _facts(self, service: str) -> PolicyFacts:
        at, ended = BEGIN + timedelta(seconds=self.now), self.rolled_back_at.get(service)
        critical = [name for name in SERVICES if name not in self.settings.not_critical]
        return PolicyFacts(
            service=service,
            now=at,
            trigger=Trigger.THRESHOLD,
            critical=service in critical,
            hold=Hold(service, "r", "ann", at, at + timedelta(hours=1)) if service in self.holds else None,
            min_gap_s=self.settings.min_gap_s,
            last_automatic_at=None if ended is None else BEGIN + timedelta(seconds=ended),
            critical_services=len(critical),
            failing_together=frozenset(name for name in critical if self.counters.in_a_row(name) is not None),
            plans={"a": PLAN},
        )


def had_reason(states: str, thresholds: Thresholds) -> bool:
    """From the letters alone: somewhere in them is a full row or a full window."""
    known = states.replace("?", "")
    windows = (known[max(0, end - thresholds.window) : end] for end in range(1, len(known) + 1))
    full = thresholds.window > 0 and any(window.count("u") >= thresholds.flaps for window in windows)
    return full or "u" * thresholds.failure in known.replace("d", "")


def enough_had_reason(world: World, service: str) -> bool:
    keys = [key for key in KEYS if key.service == service and had_reason(world.history[key], world.settings.thresholds)]
    match world.settings.quorum:
        case "2 hosts":
            return len({key.host for key in keys}) >= 2
        case "75%":
            return len(keys) >= 3
        case int(number):
            return len(keys) >= number
    return bool(keys)


FLAPPING = st.integers(1, 4).flatmap(
    lambda failure: st.integers(failure, 6).flatmap(
        lambda flaps: st.builds(
            Thresholds,
            failure=st.just(failure),
            warning=st.integers(1, failure),
            success=st.integers(1, 3),
            window=st.sampled_from([0, flaps, flaps + 3]),
            flaps=st.just(flaps),
        )
    )
)
SETTINGS = st.builds(
    Settings,
    thresholds=FLAPPING,
    quorum=st.sampled_from(["any", 2, "75%", "2 hosts"]),
    not_critical=st.sampled_from([frozenset(), frozenset({"api"})]),
    takes_rounds=st.integers(1, 4),
    min_gap_s=st.sampled_from([0.0, 50.0, 600.0]),
)
ALL = len(KEYS)
ROUNDS = st.lists(
    st.one_of(
        st.text("hdu?", min_size=ALL, max_size=ALL),
        st.sampled_from(["u" * 4 + "h" * 8, "h" * ALL, "u" * ALL, "?" * ALL, "uh" * 2 + "h" * 8, "h" * 8 + "u" * 4]),
    ),
    max_size=40,
)
EVENTS = st.dictionaries(st.integers(0, 39), st.sampled_from(SERVICES), max_size=6)  # a hold begins, or ends


def live(world: World, rounds: list[str], events: Mapping[int, str], restarts: frozenset[int] = frozenset()) -> World:
    for number, states in enumerate(rounds):
        if number in events:
            world.holds ^= {events[number]}
        if number in restarts:
            world.restart()
        world.round(states)
    return world


class Judged(World):
    """Every step is judged as it is taken."""

    def take(self, key: TargetKey, letter: str) -> None:
        recorded, was_acting = len(self.records), self.acting(key.service)
        super().take(key, letter)
        for record in self.records[recorded:]:
            assert record.service == key.service
            assert letter == "u", "only a failure makes guard act, never what it could not measure"
            assert enough_had_reason(self, key.service), "with a full row or a full window on enough targets"
            if record.restored:
                assert not was_acting, "one at a time"
            else:
                assert any(not answer.allows and answer.sentence for answer in record.answers)
        if letter == "u" and self.counters.failed(key.service) and self.counters.status(key).crossed:
            if key.service not in self.settings.not_critical:
                assert self.acting(key.service) or self.asked_at[key.service] == self.now, (
                    "acted on, or asked about now"
                )
            answered = [record for record in self.records if record.service == key.service]
            assert self.acting(key.service) or (answered and not answered[-1].restored), "or explained by a refusal"


@settings(max_examples=150, deadline=None)
@given(SETTINGS, ROUNDS, EVENTS, st.frozensets(st.integers(0, 39), max_size=5))
def test_whatever_happens_a_watch_acts_with_reason_once_and_explains_itself(
    given_settings: Settings, rounds: list[str], events: dict[int, str], restarts: frozenset[int]
) -> None:
    world = live(Judged(given_settings), rounds, events, restarts)
    for record in world.records:
        if record.restored:
            assert record.service not in given_settings.not_critical
            assert not vetoes(record.answers)


@settings(max_examples=150, deadline=None)
@given(SETTINGS, ROUNDS, EVENTS)
def test_a_service_without_a_failure_is_left_alone_whatever_happens_to_others(
    given_settings: Settings, rounds: list[str], events: dict[int, str]
) -> None:
    spared = [key.service == "db" for key in KEYS]
    rounds = ["".join("h" if s and x == "u" else x for s, x in zip(spared, states, strict=True)) for states in rounds]
    assert not [record for record in live(World(given_settings), rounds, events).records if record.service == "db"]


@settings(max_examples=150, deadline=None)
@given(SETTINGS, st.lists(st.text("hd?", min_size=ALL, max_size=ALL), max_size=40))
def test_unknown_alone_never_makes_a_watch_act(given_settings: Settings, rounds: list[str]) -> None:
    assert live(World(given_settings), rounds, {}).records == []


@settings(max_examples=150, deadline=None)
@given(SETTINGS, ROUNDS, EVENTS, st.frozensets(st.integers(0, 39), min_size=1, max_size=8))
def test_a_restart_at_any_point_changes_no_decision(
    given_settings: Settings, rounds: list[str], events: dict[int, str], restarts: frozenset[int]
) -> None:
    steady = live(World(given_settings), rounds, events)
    restarted = live(World(given_settings), rounds, events, restarts)
    assert [r for r in restarted.records if r.restored] == [r for r in steady.records if r.restored]
    assert _changes(restarted.records) == _changes(steady.records)
    assert restarted.counters.all() == steady.counters.all()


def _changes(records: list[Record]) -> list[tuple[str, bool, tuple[str, ...]]]:
    """Without a refusal that says again what was refused before: a new guard says it once more."""
    last: dict[str, object] = {}
    changed = []
    for record in records:
        if record.restored or last.get(record.service) != record.decision:
            changed.append(record.decision)
        last[record.service] = record.decision
    return changed


@settings(max_examples=150, deadline=None)
@given(SETTINGS, ROUNDS, st.integers(1, 20), st.integers(1, 40), st.sampled_from([0.0, 12.0]))
def test_a_gate_fails_only_with_reason_and_is_healthy_only_without_a_failure(
    given_settings: Settings, rounds: list[str], for_rounds: int, within_rounds: int, delay_s: float
) -> None:
    world, limits = World(given_settings), dict.fromkeys(KEYS, given_settings.thresholds.failure)
    terms = gate.Terms(for_rounds * ROUND_S, within_rounds * ROUND_S, limits)
    progress = gate.start(KEYS, delay_s)
    for states in [*rounds, *["h" * ALL] * 60]:
        for key, letter in zip(KEYS, states, strict=True):
            world.history[key] += letter
            world.counters.take(Observation(key, LETTERS[letter], 0.1, "because", BEGIN))
            progress = gate.note(progress, key, LETTERS[letter], world.now)
            failed = world.counters.failed_services()
            decision = gate.verdict(progress, world.counters.all(), failed, terms, world.now)
            if decision is None:
                continue
            if decision.verdict is gate.Verdict.FAILED:
                late = world.now - delay_s >= terms.within_s
                for name in decision.services:
                    bad = [world.history[k].count("u") >= limits[k] for k in KEYS if k.service == name]
                    assert enough_had_reason(world, name) or (late and any(bad))
            elif decision.verdict is gate.Verdict.HEALTHY:
                assert world.now - delay_s >= terms.for_s
                lately = [history[-for_rounds:] for history in world.history.values()]
                assert not any("u" in letters[1:] for letters in lately)
            return
        world.now += ROUND_S
    raise AssertionError("every gate ends")
