"""What was observed, through the counters again: what would have been rolled back, beside what really was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from guard.decide.replay import Crossing, Judged, Reset, Rules, ServicePolicy, crossings, judge
from guard.model import Gate, Observation, Rollback, RollbackOutcome, RuleAnswer, State, TargetKey, Trigger
from guard.ports import Store
from guard.report.replay import Replayed, Would
from guard.service.counting import STALE_INTERVALS, WATCH
from guard.service.in_force import check_of

if TYPE_CHECKING:
    from guard.config.checks import Check
    from guard.config.schema import GuardConfig, ServiceConfig

_TOUCHED = (RollbackOutcome.RESTORED, RollbackOutcome.PARTIAL, RollbackOutcome.FAILED)
_MOST = 10_000
_SLACK = timedelta(seconds=60)  # from a crossing to the record of the rollback that it led to


@dataclass(frozen=True, slots=True)
class Wish:
    """What to replay, and how the settings differ from what is configured: ``changed`` says it as it was asked for."""

    services: tuple[ServiceConfig, ...]
    since: datetime
    until: datetime
    changed: Mapping[str, object]
    check: Callable[[Check], Check]
    quorum: str | int | None = None
    min_gap_s: float | None = None


def replay(store: Store, config: GuardConfig, wish: Wish) -> Replayed:
    names = tuple(service.name for service in wish.services)
    observed = {name: store.observations(name, wish.since, wish.until) for name in names}
    every = sorted((one for seen in observed.values() for one in seen), key=lambda one: one.at)
    rules = _rules(config, wish, {one.target for one in every})
    made = [one for name in names for one in store.rollbacks(name, _MOST) if wish.since <= one.started_at <= wish.until]
    gates = [one for one in store.gates(_MOST) if _ran_within(one, wish)]
    found: list[tuple[Crossing, str]] = [(one, WATCH) for one in _of_watch(every, rules, made)]
    for gate in gates:
        mine = [one for one in every if one.source == gate.id]
        first = crossings(mine, rules)
        found += [(one, gate.id) for one in first if one.at == first[0].at]
    policy = {
        service.name: ServicePolicy(
            service.critical,
            wish.min_gap_s if wish.min_gap_s is not None else service.rollback.min_gap,
            service.depends_on,
        )
        for service in wish.services
    }
    would = _with_really(found, judge([one for one, _ in found], policy), made, gates)
    known = {one.really.id for one in would if one.really is not None}
    only = [one for one in made if one.trigger is Trigger.THRESHOLD and one.id not in known]
    return Replayed(
        wish.since,
        wish.until,
        wish.changed,
        {name: len(seen) for name, seen in observed.items()},
        would,
        tuple(sorted(only, key=lambda one: one.started_at)),
        tuple(_inexact(store, wish, every, rules)),
    )


def _rules(config: GuardConfig, wish: Wish, keys: set[TargetKey]) -> Rules:
    checks = {key: check for key in keys if (check := check_of(config, key)) is not None}
    changed = {key: wish.check(check) for key, check in checks.items()}
    return Rules(
        {key: check.thresholds for key, check in changed.items()},
        {one.name: one.quorum if wish.quorum is None else wish.quorum for one in wish.services},
        {key: STALE_INTERVALS * check.interval for key, check in checks.items()},
    )


def _of_watch(every: Sequence[Observation], rules: Rules, made: Sequence[Rollback]) -> tuple[Crossing, ...]:
    """A watch begins its counters afresh when a rollback of its own has ended."""
    own = [one for one in made if one.gate_id is None and one.trigger is not Trigger.MANUAL and one.outcome in _TOUCHED]
    resets = [Reset(one.ended_at, one.service) for one in own if one.ended_at is not None]
    return crossings([one for one in every if one.source == WATCH], rules, resets)


def _ran_within(gate: Gate, wish: Wish) -> bool:
    return gate.started_at <= wish.until and (gate.ended_at is None or gate.ended_at >= wish.since)


def _with_really(
    found: Sequence[tuple[Crossing, str]], judged: Sequence[Judged], made: Sequence[Rollback], gates: Sequence[Gate]
) -> tuple[Would, ...]:
    sources = {id(crossing): source for crossing, source in found}
    would = []
    for one in judged:
        source = sources[id(one.crossing)]
        really = next((r for r in made if _came_of(r, one.crossing, source)), None)
        would.append(Would(_unless_a_gate_has_it(one, source, gates), source, really))
    return tuple(would)


def _came_of(rollback: Rollback, crossing: Crossing, source: str) -> bool:
    if rollback.service != crossing.service or rollback.trigger is not Trigger.THRESHOLD:
        return False
    if source != WATCH:
        return rollback.gate_id == source
    return rollback.gate_id is None and timedelta(0) <= rollback.started_at - crossing.at <= _SLACK


def _unless_a_gate_has_it(judged: Judged, source: str, gates: Sequence[Gate]) -> Judged:
    """While a gate runs, the service is the gate's: a watch does not roll it back."""
    crossing = judged.crossing
    for gate in gates if source == WATCH else ():
        over = gate.ended_at is not None and gate.ended_at < crossing.at
        if crossing.service in gate.services and gate.started_at <= crossing.at and not over:
            said = RuleAnswer("lease", False, f"{gate.id} watches {crossing.service}, and decides about it")
            return Judged(crossing, (*judged.answers, said))
    return judged


def _inexact(store: Store, wish: Wish, every: Sequence[Observation], rules: Rules) -> list[str]:
    """What the replay cannot know."""
    told = []
    for service in wish.services:
        hours = [hour for hour in store.hours(service.name, wish.since - timedelta(hours=1)) if hour.hour <= wish.until]
        if hours:
            bad = sum(hour.unhealthy for hour in hours)
            last = max(hour.hour for hour in hours) + timedelta(hours=1)
            told.append(
                f"{service.name}: before {last:%Y-%m-%d %H:%M} UTC only hourly sums are left, of {len(hours)} hours of "
                f"its targets; the {bad} unhealthy observations in them are not replayed"
            )
    gone = sorted({str(one.target) for one in every} - {str(key) for key in rules.thresholds})
    if gone:
        told.append(f"not configured any more, and left out: {', '.join(gone)}")
    first: dict[TargetKey, Observation] = {}
    for one in every:
        first.setdefault(one.target, one)
    begun_bad = sorted(str(key) for key, one in first.items() if one.state is State.UNHEALTHY and one.source == WATCH)
    if begun_bad:
        told.append(f"a row of failures may have begun before: {', '.join(begun_bad)}")
    if any(one.source == "" for one in every):
        told.append("observations from before this version of guard do not say who made them, and are left out")
    return told
