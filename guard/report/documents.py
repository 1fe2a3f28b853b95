"""The JSON documents. Keys may be added, never removed or renamed. Times RFC 3339 UTC, durations seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from guard.decide.service import state_of
from guard.decide.thresholds import TargetStatus
from guard.decide.windows import Opening
from guard.model import (
    Gate,
    Hold,
    HostResult,
    Image,
    Observation,
    Release,
    Rollback,
    TargetKey,
)

Document = dict[str, object]


def time_text(at: datetime | None) -> str | None:
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def image_document(image: Image | None) -> Document | None:
    if image is None:
        return None
    return {"image": image.image, "image_id": image.image_id, "digest": image.digest}


def observation_document(observation: Observation | None) -> Document | None:
    if observation is None:
        return None
    return {
        "state": observation.state.value,
        "at": time_text(observation.at),
        "latency_s": observation.latency_s,
        "reason": observation.reason,
        "evidence": dict(observation.evidence),
    }


def target_document(key: TargetKey, status: TargetStatus) -> Document:
    return {
        "check": key.check,
        "host": key.host or None,
        "state": status.state.value,
        "consecutive_failures": status.failures,
        "consecutive_successes": status.successes,
        "last": observation_document(status.last),
    }


def release_document(release: Release | None) -> Document | None:
    if release is None:
        return None
    return {
        "id": release.id,
        "state": release.state.value,
        "origin": release.origin,
        "recorded_at": time_text(release.recorded_at),
        "healthy": release.healthy,
        "reason": release.reason,
        "irreversible": release.irreversible,
        "hosts": {host: image_document(image) for host, image in sorted(release.hosts.items())},
    }


def service_document(name: str, statuses: Mapping[TargetKey, TargetStatus]) -> Document:
    return {
        "name": name,
        "state": state_of({status.state for status in statuses.values()}).value,
        "targets": [target_document(key, status) for key, status in sorted(statuses.items())],
    }


def check_document(services: Mapping[str, Mapping[TargetKey, TargetStatus]]) -> Document:
    return {"services": [service_document(name, statuses) for name, statuses in services.items()]}


def status_document(
    name: str,
    statuses: Mapping[TargetKey, TargetStatus],
    *,
    critical: bool,
    hold: Hold | None,
    rollback: Rollback | None,
    release: Release | None,
    maintenance: Opening | None = None,
    next_maintenance: Opening | None = None,
) -> Document:
    return {
        **service_document(name, statuses),
        "critical": critical,
        "hold": hold_document(hold),
        "maintenance": opening_document(maintenance),
        "next_maintenance": opening_document(next_maintenance),
        "rollback": rollback_document(rollback) if rollback is not None else None,
        "release": release_document(release),
    }


def hold_document(hold: Hold | None) -> Document | None:
    if hold is None:
        return None
    return {
        "service": hold.service,
        "reason": hold.reason,
        "author": hold.author,
        "created_at": time_text(hold.created_at),
        "until": time_text(hold.until),
    }


def opening_document(opening: Opening | None) -> Document | None:
    if opening is None:
        return None
    return {
        "begins": time_text(opening.begins),
        "until": time_text(opening.until),
        "reason": opening.window.reason,
    }


def host_document(result: HostResult) -> Document:
    return {
        "state": result.state.value,
        "from": image_document(result.from_),
        "to": image_document(result.to),
        "backup_tag": result.backup_tag,
        "downtime_s": result.downtime_s,
        "error": result.error,
        "notice": result.notice,
    }


def rollback_document(rollback: Rollback) -> Document:
    playbook = rollback.playbook
    return {
        "id": rollback.id,
        "service": rollback.service,
        "outcome": rollback.outcome.value,
        "trigger": rollback.trigger.value,
        "reason": rollback.reason,
        "playbook": None
        if playbook is None
        else {"name": playbook.name, "version": playbook.version, "digest": playbook.digest},
        "started_at": time_text(rollback.started_at),
        "ended_at": time_text(rollback.ended_at),
        "hosts": {host: host_document(result) for host, result in sorted(rollback.hosts.items())},
        "artifacts": rollback.artifacts,
        "verified": rollback.verified,
        "phase": rollback.phase.value,
        "gate": rollback.gate_id,
        "answers": [{"rule": a.rule, "allows": a.allows, "sentence": a.sentence} for a in rollback.answers],
    }


def gate_document(
    gate: Gate,
    statuses: Mapping[str, Mapping[TargetKey, TargetStatus]],
    releases: Mapping[str, Release | None],
    rollbacks: Sequence[Rollback],
    rejected: Mapping[str, Sequence[str]] | None = None,
) -> Document:
    """A gate that has not ended (it was killed, or still runs) has outcome ``inconclusive`` and no end.

    ``rejected``: by service, what runs although it was rejected before.
    """
    services = [
        {
            **service_document(name, of_service),
            "release": release_document(releases.get(name)),
            "rejected_before": list((rejected or {}).get(name, ())),
        }
        for name, of_service in statuses.items()
    ]
    return {
        "id": gate.id,
        "outcome": gate.outcome.value if gate.outcome is not None else "inconclusive",
        "reason": gate.reason,
        "started_at": time_text(gate.started_at),
        "ended_at": time_text(gate.ended_at),
        "services": services,
        "rollbacks": [rollback_document(rollback) for rollback in rollbacks],
    }
