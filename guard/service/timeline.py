"""Entries of a decision's timeline, from what is on record: observations, releases, the steps of a rollback."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from guard.decide.replay import Rules, Step, steps
from guard.decide.thresholds import Thresholds
from guard.decide.timeline import condense
from guard.model import AuditEntry, Observation, Rollback
from guard.ports import Store
from guard.report.explain import Entry, stretch_text
from guard.report.text import image_text

NEVER = 10**9  # in a row: a target whose thresholds are not known is counted, and crosses nothing

_PHASES = {
    "claimed": "claimed: the run begins",
    "preparing": "preparing on all hosts",
    "swapping": "swapping",
    "verifying": "verifying with the same checks",
    "reverting": "a host failed: what was restored is put back",
    "lost": "the run vanished without a result",
}


def counted(observed: Iterable[Observation], rules: Rules) -> tuple[Step, ...]:
    """Every observation with its counters, also of targets that nobody knows the thresholds of any more."""
    observed = tuple(observed)
    unknown = {one.target for one in observed} - set(rules.thresholds)
    every = {**rules.thresholds, **dict.fromkeys(unknown, Thresholds(failure=NEVER, warning=NEVER))}
    return steps(observed, replace(rules, thresholds=every))


def of_observations(counted_steps: Iterable[Step], rules: Rules, kind: str = "observations") -> list[Entry]:
    told = []
    for stretch in condense(counted_steps):
        limits = rules.thresholds.get(stretch.target)
        limit = limits.failure if limits is not None else None
        told.append(Entry(stretch.begun, kind, stretch_text(stretch, limit), stretch.ended, stretch, limit))
    return told


def of_verification(store: Store, rollback: Rollback, rules: Rules) -> list[Entry]:
    seen = store.observations(rollback.service, rollback.started_at, rollback.ended_at, rollback.id)
    entries = of_observations(counted(seen, rules), rules, "verification")
    return [replace(entry, text=f"verification: {entry.text}") for entry in entries]


def of_releases(store: Store, services: Sequence[str], since: datetime, until: datetime | None) -> list[Entry]:
    """Releases that were recorded, or whose state changed, meanwhile."""
    found = []
    for release in (release for service in services for release in store.releases(service)):
        images = ", ".join(sorted({image_text(image) for image in release.hosts.values()}))
        if _within(release.recorded_at, since, until):
            text = f"release {release.id} of {release.service} seen by {release.origin}: {images}"
            found.append(Entry(release.recorded_at, "release", text))
        for change in store.trail(release.id):
            if change.kind == "release_state" and _within(change.at, since, until):
                state, why = change.body.get("state"), change.body.get("reason")
                found.append(Entry(change.at, "release", f"release {release.id} is {state}: {why}"))
    return found


def of_rollback(store: Store, rollback: Rollback) -> list[Entry]:
    """From the audit, which keeps every step with its time."""
    told: list[Entry] = []
    for change in store.trail(rollback.id):
        entry = _step(rollback, change)
        if entry is not None and all(entry.text != before.text for before in told):  # results are confirmed at the end
            told.append(entry)
    if not told:
        told = [Entry(rollback.started_at, "rollback", f"rollback {rollback.id} of {rollback.service} is decided")]
    return told


def _within(at: datetime, since: datetime, until: datetime | None) -> bool:
    return at >= since and (until is None or at <= until)


def _step(rollback: Rollback, change: AuditEntry) -> Entry | None:
    match change.kind:
        case "rollback_begun":
            ahead = ", prepared on the hosts already (armed)" if change.body.get("phase") == "preparing" else ""
            text = f"rollback {rollback.id} of {rollback.service} is decided{ahead}"
            return Entry(min(rollback.started_at, change.at), "rollback", text)
        case "rollback_phase" if change.body.get("phase") in _PHASES:
            return Entry(change.at, "rollback", _PHASES[str(change.body["phase"])])
        case "rollback_host" if change.body.get("state") != "planned":
            return Entry(change.at, "host", _host(change.body))
        case "rollback_ended":
            verified = ", verified" if change.body.get("verified") else ""
            text = f"rollback {rollback.id} ends: {change.body.get('outcome')}{verified}"
            return Entry(rollback.ended_at or change.at, "rollback", text)
    return None


def _host(body: Mapping[str, object]) -> str:
    down = body.get("downtime_s")
    parts = [f"{body.get('host')}: {body.get('state')}"]
    parts += [_swap(body)] if body.get("state") == "restored" else []
    parts += [f"down {down:.2f} s"] if isinstance(down, float) else []
    parts += [str(body["error"])] if body.get("error") else []
    return ", ".join(part for part in parts if part)


def _swap(body: Mapping[str, object]) -> str:
    before, after = body.get("from_image"), body.get("to_image")
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return f"{before.get('image')} -> {after.get('image')}"
    return ""
