"""A store in memory, for tests of what stands above the store. It passes the contract suite of the real ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self

from guard.decide.thresholds import TargetStatus
from guard.errors import LeaseHeld, LeaseLost, Refused, StateError
from guard.model import (
    AuditEntry,
    Gate,
    Hold,
    HostResult,
    Lease,
    Observation,
    ObservedHour,
    Phase,
    Plan,
    Release,
    ReleaseState,
    Rollback,
    RollbackOutcome,
    State,
    TargetKey,
)


@dataclass
class _Lease:
    holder: str = ""
    fence: int = 0
    since: float = 0.0
    expires: float = 0.0


@dataclass
class MemoryStore:
    """``clock`` gives seconds for the leases. Rows are kept in the order they came in."""

    clock: Callable[[], float] = time.monotonic
    leases: dict[str, _Lease] = field(default_factory=dict)
    ledger: dict[str, Release] = field(default_factory=dict)
    attempts: dict[str, Rollback] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    watches: dict[str, Gate] = field(default_factory=dict)
    held: dict[str, Hold] = field(default_factory=dict)
    seen: list[Observation] = field(default_factory=list)
    folded: list[Observation] = field(default_factory=list)  # added up when they are asked for
    entries: list[AuditEntry] = field(default_factory=list)
    counters: dict[TargetKey, TargetStatus] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def acquire(self, service: str, holder: str, ttl_s: float) -> Lease:
        with self._lock:
            found, now = self.leases.setdefault(service, _Lease()), self.clock()
            if found.holder != holder:
                left = found.expires - now
                if found.holder and left > 0:
                    raise LeaseHeld(f"service {service} is held by {found.holder} since {found.since} for {left:.0f} s")
                found.holder, found.fence, found.since = holder, max(found.fence + 1, int(now * 1000)), now
            found.expires = now + ttl_s
            return Lease(service, holder, found.fence, ttl_s)

    def next_fence(self, service: str) -> int:
        with self._lock:
            found, now = self.leases.setdefault(service, _Lease()), self.clock()
            left = found.expires - now
            if found.holder and left > 0:
                raise LeaseHeld(f"service {service} is held by {found.holder} since {found.since} for {left:.0f} s")
            found.holder, found.fence, found.expires = "", max(found.fence + 1, int(now * 1000)), 0.0
            return found.fence

    def renew(self, lease: Lease) -> None:
        with self._lock:
            if not self._has(lease):
                raise LeaseLost(f"the lease on service {lease.service} (fence {lease.fence}) was taken over")
            self.leases[lease.service].expires = self.clock() + lease.ttl_s

    def release(self, lease: Lease) -> None:
        with self._lock:
            if self._has(lease):
                self.leases[lease.service].holder = ""

    def _has(self, lease: Lease) -> bool:
        found = self.leases.get(lease.service, _Lease())
        return (found.holder, found.fence) == (lease.holder, lease.fence)

    def begin_rollback(self, rollback: Rollback, plan: Plan, key: str) -> None:
        claims = rollback.outcome not in (RollbackOutcome.DRY_RUN, RollbackOutcome.REFUSED)
        with self._lock:
            earlier = rollback.id if rollback.id in self.attempts else self.keys.get(key) if claims else None
            if earlier is not None:
                raise Refused(f"this rollback of service {rollback.service} is on record already: {earlier}")
            if claims:
                self.keys[key] = rollback.id
            self.attempts[rollback.id], self.plans[rollback.id] = rollback, plan

    def set_phase(self, rollback_id: str, phase: Phase, artifacts: str | None = None) -> None:
        with self._lock:
            found = self._attempt(rollback_id)
            kept = found.artifacts if artifacts is None else artifacts
            self.attempts[rollback_id] = replace(found, phase=phase, artifacts=kept)

    def record_host(self, rollback_id: str, result: HostResult) -> None:
        with self._lock:
            found = self._attempt(rollback_id)
            self.attempts[rollback_id] = replace(found, hosts={**found.hosts, result.host: result})

    def end_rollback(
        self,
        rollback_id: str,
        outcome: RollbackOutcome,
        *,
        verified: bool,
        reason: str,
        ended_at: datetime,
        phase: Phase = Phase.ENDED,
    ) -> None:
        if outcome is RollbackOutcome.UNFINISHED:
            raise ValueError("a rollback does not end as unfinished")
        with self._lock:
            self.attempts[rollback_id] = replace(
                self._attempt(rollback_id),
                outcome=outcome,
                phase=phase,
                verified=verified,
                reason=reason,
                ended_at=ended_at,
            )

    def _attempt(self, rollback_id: str) -> Rollback:
        if rollback_id not in self.attempts:
            raise StateError(f"no rollback {rollback_id} is on record")
        return self.attempts[rollback_id]

    def rollback(self, rollback_id: str) -> Rollback | None:
        return self.attempts.get(rollback_id)

    def plan(self, rollback_id: str) -> Plan | None:
        return self.plans.get(rollback_id)

    def rollbacks(self, service: str | None = None, limit: int = 50) -> tuple[Rollback, ...]:
        with self._lock:
            wanted = [each for each in self.attempts.values() if service in (None, each.service)]
        return tuple(sorted(wanted, key=lambda each: each.started_at)[::-1][:limit])

    def unfinished(self, service: str | None = None) -> tuple[Rollback, ...]:
        return tuple(each for each in self.rollbacks(service, len(self.attempts)) if each.ended_at is None)

    def begin_gate(self, gate: Gate) -> None:
        with self._lock:
            if gate.id in self.watches:
                raise StateError(f"gate {gate.id} is on record already")
            self.watches[gate.id] = gate

    def end_gate(self, gate: Gate) -> None:
        with self._lock:
            if gate.id not in self.watches:
                raise StateError(f"no gate {gate.id} is on record")
            self.watches[gate.id] = gate

    def gate(self, gate_id: str) -> Gate | None:
        return self.watches.get(gate_id)

    def gates(self, limit: int = 50) -> tuple[Gate, ...]:
        with self._lock:
            return tuple(sorted(self.watches.values(), key=lambda each: each.started_at)[::-1][:limit])

    def add_release(self, release: Release) -> None:
        with self._lock:
            if release.id in self.ledger:
                raise StateError(f"release {release.id} is on record already")
            self.ledger[release.id] = release

    def set_release_state(self, release_id: str, state: ReleaseState, reason: str) -> None:
        with self._lock:
            if release_id not in self.ledger:
                raise StateError(f"no release {release_id} is on record")
            self.ledger[release_id] = replace(self.ledger[release_id], state=state, reason=reason)

    def releases(self, service: str) -> tuple[Release, ...]:
        with self._lock:
            wanted = [each for each in self.ledger.values() if each.service == service]
        return tuple(sorted(wanted, key=lambda each: each.recorded_at)[::-1])

    def add_observations(self, observations: Sequence[Observation], statuses: Mapping[TargetKey, TargetStatus]) -> None:
        with self._lock:
            self.seen.extend(observations)
            self.counters.update(statuses)

    def statuses(self, service: str) -> Mapping[TargetKey, TargetStatus]:
        with self._lock:
            return {target: status for target, status in self.counters.items() if target.service == service}

    def observations(
        self, service: str, since: datetime, until: datetime | None = None, source: str | None = None
    ) -> tuple[Observation, ...]:
        with self._lock:
            wanted = [each for each in self.seen if each.target.service == service and each.at >= since]
        wanted = [each for each in wanted if (until is None or each.at <= until) and source in (None, each.source)]
        return tuple(sorted(wanted, key=lambda each: each.at))

    def hours(self, service: str, since: datetime) -> tuple[ObservedHour, ...]:
        with self._lock:
            keys = sorted({(_hour(o.at), o.target) for o in self.folded if o.target.service == service})
            found = {key: [o for o in self.folded if (_hour(o.at), o.target) == key] for key in keys}
        return tuple(_added_up(target, hour, found[hour, target]) for hour, target in keys if hour >= since)

    def fold(self, now: datetime, raw_days: float, most: int) -> int:
        with self._lock:
            before = _hour(now - timedelta(days=raw_days))
            kept = [each for each in self.seen if each.at >= before][-most:]
            old = [each for each in self.seen if not any(each is one for one in kept)]
            self.folded.extend(old)
            self.seen = kept
            return len(old)

    def prune(self, now: datetime, keep_days: float) -> int:
        with self._lock:
            before = now - timedelta(days=keep_days)
            kept = [each for each in self.seen if each.at >= before]
            hours = {(_hour(o.at), o.target) for o in self.folded if _hour(o.at) < before}
            count = len(self.seen) - len(kept) + len(hours)
            self.seen = kept
            self.folded = [each for each in self.folded if _hour(each.at) >= before]
            return count

    def trail(self, subject: str) -> tuple[AuditEntry, ...]:
        """What a test has put into ``entries``: this store keeps no audit of its own."""
        return tuple(entry for entry in self.entries if entry.subject == subject)

    def set_hold(self, hold: Hold) -> None:
        self.held[hold.service] = hold

    def clear_hold(self, service: str, at: datetime) -> bool:
        found = self.held.pop(service, None)
        return found is not None and found.until > at

    def hold(self, service: str, at: datetime) -> Hold | None:
        found = self.held.get(service)
        return found if found is not None and found.until > at else None

    def close(self) -> None:
        """Nothing to let go: what was written stays readable."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _hour(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _added_up(target: TargetKey, hour: datetime, observed: Sequence[Observation]) -> ObservedHour:
    latencies = [o.latency_s for o in observed if o.latency_s is not None]
    bad = [o.reason for o in observed if o.state is State.UNHEALTHY]
    return ObservedHour(
        target,
        hour,
        **{state.value: sum(o.state is state for o in observed) for state in State},
        latency_min_s=min(latencies, default=None),
        latency_avg_s=sum(latencies) / len(latencies) if latencies else None,
        latency_max_s=max(latencies, default=None),
        first_bad=bad[0] if bad else "",
    )


if TYPE_CHECKING:
    from guard.ports import Store

    def _fits_the_port(store: MemoryStore) -> Store:
        return store
