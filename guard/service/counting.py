"""Counters of every target, and the batched memory of what was observed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from guard.decide.service import failing_hosts, has_failed, state_of
from guard.decide.thresholds import TargetStatus, Thresholds, Transition, observe
from guard.errors import StoreUnavailable
from guard.model import Observation, State, TargetKey
from guard.ports import Store

if TYPE_CHECKING:
    import structlog

FLUSH_EVERY_S = 1.0
WATCH = "watch"  # the source of what a watch observes; a gate's and a verification's are their IDs
MOST_WAITING = 20_000  # observations kept in memory while the store is away


class Counters:
    """The status of every target, by the pure state machine of ``guard.decide.thresholds``."""

    def __init__(self, thresholds: Mapping[TargetKey, Thresholds], quorum: Mapping[str, str | int]) -> None:
        self._thresholds = dict(thresholds)
        self._quorum = dict(quorum)
        self._statuses = {key: TargetStatus() for key in thresholds}

    def resume(self, statuses: Mapping[TargetKey, TargetStatus]) -> None:
        """Go on where an earlier guard stopped. Targets that are not watched any more are left out."""
        self._statuses.update({key: status for key, status in statuses.items() if key in self._statuses})

    def take(self, observation: Observation) -> Transition | None:
        key = observation.target
        self._statuses[key], transition = observe(self._statuses[key], observation, self._thresholds[key])
        return transition

    def reset(self, service: str) -> None:
        """Counters start afresh; what was last seen stays known."""
        for key, status in self.of(service).items():
            self._statuses[key] = TargetStatus(state=status.state, last=status.last)

    def status(self, key: TargetKey) -> TargetStatus:
        return self._statuses[key]

    def of(self, service: str) -> dict[TargetKey, TargetStatus]:
        return {key: status for key, status in self._statuses.items() if key.service == service}

    def all(self) -> Mapping[TargetKey, TargetStatus]:
        return self._statuses

    def state(self, service: str) -> State:
        return state_of({status.state for status in self.of(service).values()})

    def failed(self, service: str) -> bool:
        return has_failed(self.of(service), self._quorum[service])

    def failing_hosts(self, service: str) -> frozenset[str]:
        return failing_hosts(self.of(service))

    def in_a_row(self, service: str) -> frozenset[str] | None:
        """Hosts with a target in a row of failures, its threshold reached or not. None: no target is in one."""
        failing = [key for key, status in self.of(service).items() if status.failures]
        return frozenset(key.host for key in failing if key.host) if failing else None

    def failed_services(self) -> frozenset[str]:
        return frozenset(service for service in self._quorum if self.failed(service))


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
