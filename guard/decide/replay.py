"""Recorded observations through the counters again: as they were, or with other thresholds. Pure: time is in the data.

With the thresholds in force then, and the moments at which counters were reset, the crossings are those of then. With
others it says what would have happened up to the first difference: after a rollback that was not really made, what was
observed is still what really ran.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from guard.decide.policy import PolicyFacts, ask_all
from guard.decide.service import crossed_reason, failing_hosts, has_failed
from guard.decide.thresholds import TargetStatus, Thresholds, Transition, observe
from guard.model import Observation, RuleAnswer, TargetKey, Trigger

ASKED_AGAIN = ("critical", "dependency", "min_gap")
"""The rules that observations and configuration alone can answer. What hosts and store held then is not asked."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What is counted with. ``stale_s``: a time without any observation that breaks a target's row."""

    thresholds: Mapping[TargetKey, Thresholds]
    quorum: Mapping[str, str | int]
    stale_s: Mapping[TargetKey, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reset:
    """A moment at which a service's counters began afresh: a rollback of it had ended."""

    at: datetime
    service: str


@dataclass(frozen=True, slots=True)
class Step:
    """An observation, and where its target stands after it."""

    observation: Observation
    status: TargetStatus
    transition: Transition | None


@dataclass(frozen=True, slots=True)
class Crossing:
    """A service's failure: enough of its targets had crossed. ``failed``: all services that were so then."""

    service: str
    at: datetime
    reason: str
    hosts: frozenset[str]
    failed: frozenset[str]


@dataclass(frozen=True, slots=True)
class ServicePolicy:
    critical: bool = True
    min_gap_s: float = 600.0
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """What would have been done at a crossing: rolled back when no rule that can be asked again says no."""

    crossing: Crossing
    answers: tuple[RuleAnswer, ...]

    @property
    def rolls_back(self) -> bool:
        return all(answer.allows for answer in self.answers)


class _Count:
    def __init__(self, rules: Rules, resets: Sequence[Reset], keys: Collection[TargetKey]) -> None:
        self._rules = rules
        self._resets = sorted(resets, key=lambda reset: reset.at)
        self._done = 0
        self.statuses = {key: TargetStatus() for key in keys}
        self._keys: dict[str, list[TargetKey]] = {}
        for key in keys:
            self._keys.setdefault(key.service, []).append(key)

    def take(self, observation: Observation) -> Step:
        self.reset_until(observation.at)
        key = observation.target
        before = self.statuses[key]
        stale = self._rules.stale_s.get(key)
        if stale is not None and before.last is not None and observation.at - before.last.at > timedelta(seconds=stale):
            before = TargetStatus()
        self.statuses[key], transition = observe(before, observation, self._rules.thresholds[key])
        return Step(observation, self.statuses[key], transition)

    def of(self, service: str) -> dict[TargetKey, TargetStatus]:
        return {key: self.statuses[key] for key in self._keys.get(service, ())}

    def failed(self, service: str) -> bool:
        return service in self._rules.quorum and has_failed(self.of(service), self._rules.quorum[service])

    def reset_until(self, at: datetime) -> tuple[str, ...]:
        """Carry out what is due, and say whose counters it was."""
        due = []
        while self._done < len(self._resets) and self._resets[self._done].at < at:
            service = self._resets[self._done].service
            self._done += 1
            due.append(service)
            mine = self._keys.get(service, ())
            self.statuses |= {k: TargetStatus(state=self.statuses[k].state, last=self.statuses[k].last) for k in mine}
        return tuple(due)


def known(observations: Iterable[Observation], rules: Rules) -> tuple[Observation, ...]:
    """Those whose target has thresholds to be counted with."""
    return tuple(observation for observation in observations if observation.target in rules.thresholds)


def steps(observations: Iterable[Observation], rules: Rules, resets: Sequence[Reset] = ()) -> tuple[Step, ...]:
    """Every observation with the counters after it. Oldest first; targets without thresholds are left out."""
    mine = known(observations, rules)
    count = _Count(rules, resets, {observation.target for observation in mine})
    return tuple(count.take(observation) for observation in mine)


def crossings(observations: Iterable[Observation], rules: Rules, resets: Sequence[Reset] = ()) -> tuple[Crossing, ...]:
    """Each time a service failed that had not failed right before."""
    return tuple(_crossings(known(observations, rules), rules, resets))


def _crossings(observations: Sequence[Observation], rules: Rules, resets: Sequence[Reset]) -> Iterator[Crossing]:
    count = _Count(rules, resets, {observation.target for observation in observations})
    failed: set[str] = set()
    for observation in observations:
        for service in count.reset_until(observation.at):
            _put(failed, service, count.failed(service))
        service = observation.target.service
        status = count.take(observation).status
        if not status.failures and not status.crossed and service not in failed:
            continue  # most observations: they change nothing that a service is judged by
        was = service in failed
        _put(failed, service, count.failed(service))
        if service in failed and not was:
            mine = count.of(service)
            limits = {key: rules.thresholds[key].failure for key in mine}
            reason, hosts = crossed_reason(mine, limits), failing_hosts(mine)
            yield Crossing(service, observation.at, reason, hosts, frozenset(failed))


def _put(names: set[str], name: str, is_in: bool) -> None:
    if is_in:
        names.add(name)
    else:
        names.discard(name)


def judge(found: Sequence[Crossing], policy: Mapping[str, ServicePolicy]) -> tuple[Judged, ...]:
    """What would have been done at each crossing, oldest first. One that rolls back starts ``min_gap``."""
    last: dict[str, datetime] = {}
    judged = []
    for crossing in sorted(found, key=lambda one: one.at):
        mine = policy.get(crossing.service, ServicePolicy())
        facts = PolicyFacts(
            service=crossing.service,
            now=crossing.at,
            trigger=Trigger.THRESHOLD,
            critical=mine.critical,
            min_gap_s=mine.min_gap_s,
            last_automatic_at=last.get(crossing.service),
            failed_dependencies=tuple(name for name in mine.depends_on if name in crossing.failed),
        )
        one = Judged(crossing, tuple(answer for answer in ask_all(facts) if answer.rule in ASKED_AGAIN))
        if one.rolls_back:
            last[crossing.service] = crossing.at
        judged.append(one)
    return tuple(judged)
