"""What the core needs from the outside, as Protocols. Adapters are built in ``guard.wiring`` only.

Each port has a contract suite in ``tests/contract`` that every implementation passes, the real one included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from guard.decide.thresholds import TargetStatus
from guard.model import (
    AuditEntry,
    ContainerFacts,
    Gate,
    Hold,
    Host,
    HostMeans,
    HostResult,
    Lease,
    LocalImage,
    Measurement,
    Observation,
    ObservedHour,
    Phase,
    Plan,
    PlaybookRef,
    Release,
    ReleaseState,
    Rollback,
    RollbackOutcome,
    TargetKey,
    Unit,
)


class Clock(Protocol):
    def now(self) -> datetime:
        """Wall clock, timezone-aware UTC. For records only, never for deadlines."""

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps. For deadlines and schedules."""


class Probe(Protocol):
    """One target's way of measuring. Owns nothing shared: a stuck probe delays no other."""

    async def measure(self) -> Measurement:
        """Measure once, within the check's time-out as one total deadline. Never raises, except CancelledError."""


class Engine(Protocol):
    """A Docker engine, looked at and never changed. Raises EngineUnreachable, EngineDown or EngineError."""

    async def container(self, name: str, *, timeout_s: float | None = None) -> ContainerFacts | None:
        """The container of exactly that name, or None. ``timeout_s``: one total deadline, else the engine's default."""

    async def running(self, unit: Unit, *, timeout_s: float | None = None) -> ContainerFacts | None:
        """What is there for a unit, running or not, as one container; None when nothing is.

        A plain container: that of its name. A Compose service: its one container, by the labels Compose gives it;
        EngineError when there are several. A Swarm service: its tasks taken together; EngineError on an engine that
        manages no swarm, or that can't tell which image runs.
        """

    async def images(self, repository: str) -> tuple[LocalImage, ...]:
        """All local images with a tag or digest in ``repository`` (no tag part), newest ``created`` first."""

    async def image(self, reference: str) -> LocalImage | None:
        """The image a tag, ``repo@sha256:…`` or ``sha256:…`` ID resolves to on that engine, or None."""

    async def logs(self, container: str, lines: int) -> str:
        """The last ``lines`` lines of a container's output, stdout and stderr together."""

    async def pull_problem(self, digest: str) -> str | None:
        """Why the engine could not pull ``repo@sha256:…`` from its registry right now; "" when it could.

        None when that engine cannot be asked. The registry is asked by the engine itself, within the engine's time-out.
        """

    async def means(self) -> HostMeans:
        """Room for images and the Python for playbooks, as far as the way to the engine lets them be seen."""


class Engines(Protocol):
    """Engines by host. Connections are kept and re-made when they break."""

    def on(self, host: Host | None) -> Engine:
        """The engine of an inventory host; None is the local engine (``DOCKER_HOST`` honoured)."""

    async def close(self) -> None: ...


class Inventory(Protocol):
    """Ansible's view of the hosts, loaded once by Ansible itself in a subprocess."""

    def hosts(self, pattern: str, limit: str | None = None) -> tuple[Host, ...]:
        """Hosts of an Ansible pattern (optionally narrowed). InventoryError when it matches nobody."""

    @property
    def sources(self) -> tuple[Path, ...]: ...


class LeaseStore(Protocol):
    def acquire(self, service: str, holder: str, ttl_s: float) -> Lease:
        """Take the service, with a fence number above every earlier one. LeaseHeld names holder and time left."""

    def next_fence(self, service: str) -> int:
        """A fence number above every earlier one, without taking the service. LeaseHeld when somebody has it."""

    def renew(self, lease: Lease) -> None:
        """LeaseLost when it has been taken over."""

    def release(self, lease: Lease) -> None: ...


class Journal(Protocol):
    """Rollbacks and gates. Every method commits before it returns: intent is durable before an action."""

    def begin_rollback(self, rollback: Rollback, plan: Plan, key: str) -> None:
        """Write the intent. ``key`` names (service, bad release, target, attempt): a doubled one is Refused."""

    def set_phase(self, rollback_id: str, phase: Phase, artifacts: str | None = None) -> None: ...

    def record_host(self, rollback_id: str, result: HostResult) -> None: ...

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
        """``phase``: ENDED, or REVERTED when the hosts were put back."""

    def rollback(self, rollback_id: str) -> Rollback | None: ...

    def plan(self, rollback_id: str) -> Plan | None: ...

    def rollbacks(self, service: str | None = None, limit: int = 50) -> tuple[Rollback, ...]:
        """Newest first."""

    def unfinished(self, service: str | None = None) -> tuple[Rollback, ...]: ...

    def begin_gate(self, gate: Gate) -> None: ...

    def end_gate(self, gate: Gate) -> None: ...

    def gate(self, gate_id: str) -> Gate | None: ...

    def gates(self, limit: int = 50) -> tuple[Gate, ...]: ...


class Ledger(Protocol):
    def add_release(self, release: Release) -> None: ...

    def set_release_state(self, release_id: str, state: ReleaseState, reason: str) -> None: ...

    def releases(self, service: str) -> tuple[Release, ...]:
        """Newest first."""


class Observations(Protocol):
    def add_observations(self, observations: Sequence[Observation], statuses: Mapping[TargetKey, TargetStatus]) -> None:
        """Write a batch, and the counters as they stand after it."""

    def statuses(self, service: str) -> Mapping[TargetKey, TargetStatus]: ...

    def observations(
        self, service: str, since: datetime, until: datetime | None = None, source: str | None = None
    ) -> tuple[Observation, ...]:
        """From ``since`` to ``until``, both included, oldest first; those of one ``source``, or of all."""

    def hours(self, service: str, since: datetime) -> tuple[ObservedHour, ...]:
        """What older observations were folded into: hours that begin at ``since`` or later, oldest first."""

    def fold(self, now: datetime, raw_days: float, most: int) -> int:
        """Fold observations of hours that ended ``raw_days`` ago, and all but the newest ``most``, into hours.

        In small steps so that writers go between, each of them whole by itself; how many were folded.
        """

    def prune(self, now: datetime, keep_days: float) -> int:
        """Delete older observations and hours, in small steps so that writers go between; how many. Counters stay."""


class Holds(Protocol):
    def set_hold(self, hold: Hold) -> None: ...

    def clear_hold(self, service: str, at: datetime) -> bool: ...

    def hold(self, service: str, at: datetime) -> Hold | None: ...


class Audit(Protocol):
    def trail(self, subject: str) -> tuple[AuditEntry, ...]:
        """Every change on record of a rollback, gate or release, oldest first."""


class Store(LeaseStore, Journal, Ledger, Observations, Holds, Audit, AbstractContextManager["Store"], Protocol):
    """All of guard's memory. Synchronous; call it from a worker thread in async code.

    StoreUnavailable when a write could not be made durable: the caller then starts nothing.
    """

    def close(self) -> None: ...


class RunHandle(Protocol):
    """A playbook run that belongs to its own process (the shim), not to this one."""

    @property
    def folder(self) -> Path: ...

    async def wait(self, on_result: Callable[[HostResult], None]) -> Mapping[str, HostResult]:
        """Results as they come, then all of them. A host without one is FAILED or UNREACHABLE, never good."""

    def cancel(self) -> None: ...


class Notifier(Protocol):
    def notify(self, event: str, service: str, text: str) -> None: ...


__all__ = [
    "Audit",
    "Clock",
    "Engine",
    "Engines",
    "Holds",
    "Inventory",
    "Journal",
    "LeaseStore",
    "Ledger",
    "Notifier",
    "Observations",
    "PlaybookRef",
    "Probe",
    "RunHandle",
    "Store",
]
