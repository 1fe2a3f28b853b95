"""Counters of every target, and the batched memory of what was observed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from guard.decide.service import crossed_reason, reached, state_of
from guard.decide.thresholds import TargetStatus, Thresholds, Transition, confirming, flapping, observe
from guard.errors import StoreUnavailable
from guard.model import Observation, State, TargetKey
from guard.ports import Store

if TYPE_CHECKING:
    import structlog

FLUSH_EVERY_S = 1.0
WATCH = "watch"  # the source of what a watch observes; a gate's and a verification's are their IDs
STALE_INTERVALS = 5.0  # so many intervals without an observation break a row: a watch takes no older counters up
MOST_WAITING = 20_000  # observations kept in memory while the store is away


class Counters:
    """The status of every target, by the pure state machine of ``guard.decide.thresholds``.

    What a service is asked for at every observation is kept up to date instead of looked up over all of its targets.
    """

    def __init__(self, thresholds: Mapping[TargetKey, Thresholds], quorum: Mapping[str, str | int]) -> None:
        self._thresholds = dict(thresholds)
        self._quorum = dict(quorum)
        self._statuses = {key: TargetStatus() for key in thresholds}
        self._tallies = {service: _Tally() for service in quorum}
        for key, status in self._statuses.items():
            self._tally(key.service).add(key, status)

    def resume(self, statuses: Mapping[TargetKey, TargetStatus]) -> None:
        """Go on where an earlier guard stopped. Targets that are not watched any more are left out."""
        for key, status in statuses.items():
            if key in self._statuses:
                self._set(key, status)

    def take(self, observation: Observation) -> Transition | None:
        key = observation.target
        status, transition = observe(self._statuses[key], observation, self._thresholds[key])
        self._set(key, status)
        return transition

    def reset(self, service: str) -> None:
        """Counters start afresh; what was last seen stays known."""
        for key, status in self.of(service).items():
            self._set(key, TargetStatus(state=status.state, last=status.last))

    def status(self, key: TargetKey) -> TargetStatus:
        return self._statuses[key]

    def of(self, service: str) -> dict[TargetKey, TargetStatus]:
        return {key: self._statuses[key] for key in self._tally(service).keys}

    def all(self) -> Mapping[TargetKey, TargetStatus]:
        return self._statuses

    def state(self, service: str) -> State:
        return state_of([state for state, count in self._tally(service).states.items() if count])

    def failed(self, service: str) -> bool:
        tally = self._tally(service)
        quorum = self._quorum[service]
        return reached(tally.crossed, quorum, targets=len(tally.keys), hosts=len(tally.hosts))

    def failing_hosts(self, service: str) -> frozenset[str]:
        return frozenset(key.host for key in self._tally(service).crossed if key.host)

    def reason(self, service: str) -> str:
        """Why a failed service has failed, in one line."""
        return crossed_reason(self.of(service), {key: each.failure for key, each in self._thresholds.items()})

    def in_a_row(self, service: str) -> frozenset[str] | None:
        """Hosts with a target in a row of failures, its threshold reached or not, or one that flaps. None: no target is
        in one."""
        failing = self._tally(service).failing
        return frozenset(key.host for key in failing if key.host) if failing else None

    def confirming(self, key: TargetKey) -> bool:
        """Whether that target is to be checked again at its ``confirm_interval``."""
        return confirming(self._statuses[key])

    def failed_services(self) -> frozenset[str]:
        return frozenset(service for service in self._quorum if self.failed(service))

    def _tally(self, service: str) -> _Tally:
        return self._tallies.setdefault(service, _Tally())

    def _set(self, key: TargetKey, status: TargetStatus) -> None:
        before, self._statuses[key] = self._statuses[key], status
        failing = status.failures > 0 or flapping(status, self._thresholds[key])
        self._tallies[key.service].change(key, before.state, status, failing=failing)


class _Tally:
    """A service's targets by how they stand. ``failing``: in a row of failures, or flapping."""

    def __init__(self) -> None:
        self.keys: list[TargetKey] = []
        self.hosts: set[str] = set()
        self.states = dict.fromkeys(State, 0)
        self.crossed: set[TargetKey] = set()
        self.failing: set[TargetKey] = set()

    def add(self, key: TargetKey, status: TargetStatus) -> None:
        self.keys.append(key)
        self.hosts |= {key.host} - {""}
        self.states[status.state] += 1

    def change(self, key: TargetKey, before: State, status: TargetStatus, *, failing: bool) -> None:
        self.states[before] -= 1
        self.states[status.state] += 1
        (self.crossed.add if status.crossed else self.crossed.discard)(key)
        (self.failing.add if failing else self.failing.discard)(key)


class Recorder:
    """Writes observations in batches from a worker thread, so that no check waits for a disk.

    Each gets the recorder's ``source``. While the store is away observations wait in memory, at most
    ``MOST_WAITING`` of them; checks go on.
    """

    def __init__(
        self, store: Store, counters: Counters | None, log: structlog.stdlib.BoundLogger, source: str = ""
    ) -> None:
        """``counters`` None: what is observed counts for no row of failures."""
        self.source = source
        self._store = store
        self._counters = counters
        self._log = log
        self._waiting: list[Observation] = []
        self._away = False

    def add(self, observation: Observation) -> None:
        self._waiting.append(replace(observation, source=self.source))
        if len(self._waiting) > MOST_WAITING:
            del self._waiting[: len(self._waiting) - MOST_WAITING]

    async def run(self, stop: asyncio.Event) -> None:
        """Flush once a second until ``stop``, and once more at the end."""
        while not stop.is_set():
            try:
                async with asyncio.timeout(FLUSH_EVERY_S):
                    await stop.wait()
            except TimeoutError:
                pass
            await self.flush()

    async def flush(self) -> None:
        batch, self._waiting = self._waiting, []
        if not batch:
            return
        counters = self._counters
        statuses = {} if counters is None else {key: counters.status(key) for key in {o.target for o in batch}}
        try:
            await asyncio.to_thread(self._store.add_observations, batch, statuses)
        except StoreUnavailable as error:
            self._waiting = [*batch, *self._waiting]
            if not self._away:
                self._log.error("store unavailable", error=error.message, waiting=len(self._waiting))
            self._away = True
        else:
            if self._away:
                self._log.info("store available again", written=len(batch))
            self._away = False


def log_observation(log: structlog.stdlib.BoundLogger, observation: Observation) -> None:
    """One line per observation: service, target, status, latency, error, time (the time is the logger's own field)."""
    bad = observation.state in (State.UNHEALTHY, State.UNKNOWN)
    log.info(
        "observation",
        service=observation.target.service,
        target=str(observation.target),
        status=observation.state.value,
        latency=None if observation.latency_s is None else round(observation.latency_s, 4),
        error=observation.reason if bad else None,
        time=observation.at.isoformat(),
    )
