"""Values with every field filled, and small ways to vary them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from guard.decide.thresholds import TargetStatus
from guard.model import (
    Gate,
    Hold,
    HostPlan,
    HostResult,
    HostState,
    Image,
    Observation,
    Phase,
    Plan,
    PlaybookRef,
    Release,
    ReleaseState,
    Rollback,
    RollbackOutcome,
    State,
    TargetKey,
    Trigger,
)

NOW = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
OLD = Image("web:1.0.0", "sha256:" + "a" * 64, "registry:5000/web@sha256:" + "c" * 64)
BAD = Image("web:1.1.0", "sha256:" + "b" * 64)
PLAYBOOK = PlaybookRef("container", "1.0.0", "sha256:" + "d" * 64)
# What a hostile host can put into a reason: NUL, a lone surrogate, quotes, a template.
HOSTILE = "bad \udc80 \0 'quoted\" {{ lookup('pipe', 'id') }} ünïcode ✓"
KEPT = "bad \\udc80 \\x00 'quoted\" {{ lookup('pipe', 'id') }} ünïcode ✓"


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def elsewhere(moment: datetime) -> datetime:
    """The same moment, told in another timezone."""
    return moment.astimezone(timezone(timedelta(hours=5, minutes=30)))


def plan() -> Plan:
    return Plan(
        service="web",
        playbook=PLAYBOOK,
        backup_tag="backup_20261123_120000",
        batches=(("a",), ("b", "c")),
        hosts={
            "a": HostPlan("a", "web", BAD, OLD, "release"),
            "b": HostPlan("b", "web", BAD, None, problem="no earlier image"),
            "c": HostPlan("c", "web", None, None, problem="no route", unreachable=True),
        },
        on_batch_failure="continue",
        group=("web", "worker"),
        rejects=False,
    )


def rollback(
    name: str = "r1", service: str = "web", at: datetime = NOW, outcome: RollbackOutcome = RollbackOutcome.UNFINISHED
) -> Rollback:
    return Rollback(
        id=name,
        service=service,
        outcome=outcome,
        phase=Phase.DECIDED,
        trigger=Trigger.THRESHOLD,
        reason="3 failures in a row",
        playbook=PLAYBOOK,
        started_at=at,
        ended_at=None,
        hosts={"a": HostResult("a", HostState.PLANNED, BAD, OLD), "b": HostResult("b", HostState.SKIPPED)},
        artifacts=None,
        verified=False,
        fence=7,
        gate_id="g1",
    )


def restored(host: str = "a") -> HostResult:
    return HostResult(host, HostState.RESTORED, BAD, OLD, "backup_20261123_120000", 0.18, None, "a file pins it")


def release(name: str = "rel1", service: str = "web", at: datetime = NOW, healthy: bool | None = True) -> Release:
    return Release(name, service, ReleaseState.CANDIDATE, "snapshot", at, {"a": OLD, "b": BAD}, healthy, "before")


def gate(name: str = "g1", at: datetime = NOW) -> Gate:
    return Gate(name, ("web", "worker"), None, "", at, None)


def hold(until: datetime, reason: str = "migration") -> Hold:
    return Hold("web", reason, "ops", NOW, until)


def target(service: str = "web", host: str = "a", check: str = "http") -> TargetKey:
    return TargetKey(service, check, host)


def seen(
    key: TargetKey | None = None, at: datetime = NOW, state: State = State.UNHEALTHY, reason: str = "status 500"
) -> Observation:
    return Observation(key or target(), state, 0.012, reason, at, {"status": "500", "body": 'no "db" ü'})


def counted(observation: Observation, failures: int = 3) -> TargetStatus:
    return TargetStatus(observation.state, failures, 0, 1, True, True, observation)
