"""When targets began to fail, and since when they are unknown: what tells a common cause from a bad release."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from guard.decide.blame import Failing, same_way
from guard.decide.thresholds import TargetStatus
from guard.model import Observation, State, TargetKey
from guard.schedule import ScheduledTarget


@dataclass(frozen=True, slots=True)
class _Crossing:
    since: datetime
    reason: str


class Onsets:
    """Fed with every observation after it was counted. Times are seconds on the monotonic clock, crossings UTC."""

    def __init__(self, targets: Mapping[TargetKey, ScheduledTarget]) -> None:
        self._spans = {key: target.interval_s + target.timeout_s for key, target in targets.items()}
        self._failing: dict[TargetKey, float] = {}
        self._unknown: dict[TargetKey, float] = {}
        self._crossings: dict[TargetKey, _Crossing] = {}
        self._before: set[TargetKey] = set()
        self._reasons: dict[TargetKey, str] = {}
        self._measured: set[TargetKey] = set()

    def take(self, observation: Observation, status: TargetStatus, now: float) -> None:
        key = observation.target
        if observation.state is State.UNKNOWN:
            self._unknown.setdefault(key, now)
        else:
            self._unknown.pop(key, None)
            self._measured.add(key)
        if status.failures:
            self._failing.setdefault(key, now)
        else:
            self._failing.pop(key, None)
        if observation.state is State.HEALTHY:
            self._crossings.pop(key, None)
            self._before.discard(key)
        elif observation.state is State.UNHEALTHY:
            self._reasons[key] = observation.reason
            if key in self._before and not same_way(self._crossings[key].reason, observation.reason):
                self._before.discard(key)
            if status.crossed:
                self._crossings.setdefault(key, _Crossing(observation.at, observation.reason))

    def known_before(self, crossings: Mapping[TargetKey, Observation]) -> None:
        """These were in a full row of failures before anything was observed here; an answer breaks it as any other."""
        for key, one in crossings.items():
            if key in self._spans:
                self._crossings[key] = _Crossing(one.at, one.reason)
                self._before.add(key)

    @property
    def excused(self) -> frozenset[TargetKey]:
        """Targets that still fail as they did before anything was observed here."""
        return frozenset(self._before)

    def forget(self, service: str) -> None:
        """A rollback has changed what runs."""
        self._failing = {key: at for key, at in self._failing.items() if key.service != service}
        self._crossings = {key: one for key, one in self._crossings.items() if key.service != service}

    def together(self, service: str, among: Collection[str]) -> frozenset[str]:
        """Services of ``among`` that began to fail within one interval of this one. One that has failed for long
        is not part of it, unless another of its targets has begun now."""
        mine = [key for key in self._failing if key.service == service]
        if not mine:
            return frozenset({service} & set(among))
        last = max(mine, key=lambda key: self._failing[key])
        return frozenset(key.service for key in self._near(self._failing, last) if key.service in among)

    def blind(self, service: str) -> tuple[int, int]:
        """(targets that became unknown, all that count here).

        One that could never be measured, such as a check whose secret is missing, says nothing and does not count,
        unless it became unknown within one interval of this service's failures.
        """
        mine = [key for key in self._failing if key.service == service]
        if not mine:
            return 0, len(self._spans)
        last = max(mine, key=lambda key: self._failing[key])
        began = self._failing[last]
        blind = {
            key
            for key, at in self._unknown.items()
            if key in self._measured or at >= began - max(self._spans[key], self._spans[last])
        }
        return len(blind), len(self._spans) - len(self._unknown) + len(blind)

    def _near(self, times: Mapping[TargetKey, float], at: TargetKey) -> list[TargetKey]:
        return [k for k, t in times.items() if abs(t - times[at]) <= max(self._spans[k], self._spans[at])]

    def failing(self, statuses: Mapping[TargetKey, TargetStatus]) -> tuple[Failing, ...]:
        """Every crossed target with since when, and the reason then and now."""
        return tuple(
            Failing(key, crossing.since, crossing.reason, self._reasons.get(key, crossing.reason))
            for key, status in sorted(statuses.items())
            if status.crossed and (crossing := self._crossings.get(key)) is not None
        )
