"""Plain text for people: 80 columns, no colour, no Unicode needed. The most important line comes first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from guard.decide.service import state_of
from guard.decide.thresholds import TargetStatus
from guard.model import (
    Gate,
    GateOutcome,
    Hold,
    HostResult,
    HostState,
    Image,
    Observation,
    Release,
    Rollback,
    RollbackOutcome,
    TargetKey,
)

GATE_SENTENCES = {
    GateOutcome.HEALTHY: "HEALTHY: the release is good",
    GateOutcome.ROLLED_BACK: "ROLLED BACK: the release was unhealthy; every host runs the previous image again",
    GateOutcome.ROLLBACK_FAILED: "ROLLBACK FAILED: the release was unhealthy, and not every host is back and verified",
    GateOutcome.NOT_ROLLED_BACK: "NOT ROLLED BACK: the release was unhealthy, and guard deliberately left it",
    GateOutcome.INCONCLUSIVE: "INCONCLUSIVE: guard could not measure enough to say",
}
ROLLBACK_SENTENCES = {
    RollbackOutcome.RESTORED: "RESTORED and verified",
    RollbackOutcome.PARTIAL: "PARTIAL: some hosts are restored, others are not",
    RollbackOutcome.FAILED: "FAILED",
    RollbackOutcome.REFUSED: "REFUSED: nothing was changed",
    RollbackOutcome.DRY_RUN: "DRY RUN: nothing was changed; this is what would be done",
    RollbackOutcome.UNFINISHED: "UNFINISHED: guard resume finishes it",
}


def short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]


def image_text(image: Image | None) -> str:
    return f"{image.image} ({short(image.image_id)})" if image is not None else "-"


def clock_text(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def table(rows: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    """Left-aligned columns, two spaces apart; the last column is never padded."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return [
        indent + "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]


def latency_text(latency_s: float | None) -> str:
    return "-" if latency_s is None else f"{latency_s * 1000:.0f} ms"


def observation_line(observation: Observation, failures: int = 0, threshold: int = 0) -> str:
    """``23:40:10Z web/http@web1 unhealthy 2/3  answered 500, expected 200-299  (12 ms)``"""
    counted = f" {failures}/{threshold}" if failures and threshold else ""
    at = observation.at.astimezone(UTC).strftime("%H:%M:%SZ")
    latency = f"  ({latency_text(observation.latency_s)})" if observation.latency_s is not None else ""
    return f"{at} {observation.target} {observation.state.value}{counted}  {observation.reason}{latency}"


def services_text(services: Mapping[str, Mapping[TargetKey, TargetStatus]]) -> list[str]:
    lines = []
    for name, statuses in services.items():
        lines.append(f"{name}: {state_of({s.state for s in statuses.values()}).value}")
        rows = [
            [
                key.check,
                key.host or "-",
                status.state.value,
                latency_text(status.last.latency_s if status.last else None),
                status.last.reason if status.last else "not measured yet",
            ]
            for key, status in sorted(statuses.items())
        ]
        lines.extend(table(rows, "  "))
    return lines


def status_text(
    name: str,
    statuses: Mapping[TargetKey, TargetStatus],
    hold: Hold | None,
    rollback: Rollback | None,
    release: Release | None,
) -> list[str]:
    lines = services_text({name: statuses})
    if release is not None:
        images = ", ".join(sorted({image_text(image) for image in release.hosts.values()}))
        lines.append(f"  release   {images}: {release.state.value} since {clock_text(release.recorded_at)}")
    if hold is not None:
        lines.append(f"  HELD      until {clock_text(hold.until)} by {hold.author}: {hold.reason}")
    if rollback is not None:
        lines.append(f"  rollback  {rollback.id} {rollback.outcome.value} at {clock_text(rollback.started_at)}")
    return lines


def host_rows(hosts: Mapping[str, HostResult]) -> list[list[str]]:
    rows = []
    for name, result in sorted(hosts.items()):
        told = []
        if result.state is HostState.UNCHANGED:
            told.append(f"runs {image_text(result.to)} already")
        elif result.to is not None:
            told.append(f"{image_text(result.from_)} -> {image_text(result.to)}")
        if result.downtime_s is not None:
            told.append(f"down {result.downtime_s:.2f} s")
        if result.error:
            told.append(result.error)
        rows.append([name, result.state.value, "; ".join(told)])
    return rows


def rollback_text(rollback: Rollback) -> list[str]:
    lines = [f"rollback {rollback.id} of {rollback.service}: {ROLLBACK_SENTENCES[rollback.outcome]}"]
    lines.extend(table(host_rows(rollback.hosts), "  "))
    lines.append(f"  why        {rollback.reason}")
    lines.append(f"  trigger    {rollback.trigger.value}, begun {clock_text(rollback.started_at)}{_took(rollback)}")
    if rollback.playbook is not None:
        playbook = rollback.playbook
        lines.append(f"  playbook   {playbook.name} {playbook.version} ({playbook.digest[:19]})")
    for name, result in sorted(rollback.hosts.items()):
        if result.notice:
            lines.append(f"  NOTE       {name}: {result.notice}")
    tags = sorted({r.backup_tag for r in rollback.hosts.values() if r.backup_tag})
    if tags:
        lines.append(f"  backup     the images that ran before are tagged {', '.join(tags)}")
    if rollback.artifacts:
        lines.append(f"  artifacts  {rollback.artifacts}")
    lines.extend(f"  {line}" for line in next_steps(rollback))
    return lines


def _took(rollback: Rollback) -> str:
    if rollback.ended_at is None:
        return ""
    return f", took {(rollback.ended_at - rollback.started_at).total_seconds():.1f} s"


def next_steps(rollback: Rollback) -> list[str]:
    """What a tired person should do now. Nothing when all is well."""
    states = {result.state for result in rollback.hosts.values()}
    steps = []
    if rollback.outcome is RollbackOutcome.UNFINISHED or HostState.UNREACHABLE in states:
        steps.append(f"next: `guard resume {rollback.id}` once the hosts can be reached")
    if rollback.outcome is RollbackOutcome.FAILED and not rollback.verified:
        steps.append(
            f"next: `guard check {rollback.service}`; `guard rollback {rollback.service} --to IMAGE` goes elsewhere"
        )
    if HostState.REVERTED in states or HostState.FAILED in states:
        steps.append("next: the failed container's last output is under the artifacts, in hosts/HOST/")
    return steps


def gate_text(gate: Gate, rollbacks: Iterable[Rollback]) -> list[str]:
    outcome = gate.outcome or GateOutcome.INCONCLUSIVE
    lines = [f"gate {gate.id} of {', '.join(gate.services)}: {GATE_SENTENCES[outcome]}", f"  why        {gate.reason}"]
    for rollback in rollbacks:
        lines.extend(rollback_text(rollback))
    return lines


def history_text(rollbacks: Sequence[Rollback], gates: Sequence[Gate]) -> list[str]:
    entries = [
        (r.started_at, [clock_text(r.started_at), r.id, r.service, r.outcome.value, _hosts_text(r)]) for r in rollbacks
    ]
    entries += [
        (
            g.started_at,
            [
                clock_text(g.started_at),
                g.id,
                ",".join(g.services),
                g.outcome.value if g.outcome else "running",
                g.reason,
            ],
        )
        for g in gates
    ]
    if not entries:
        return ["nothing yet: no gate and no rollback is on record"]
    rows = [row for _, row in sorted(entries, key=lambda entry: entry[0], reverse=True)]
    return table([["BEGUN", "ID", "SERVICE", "OUTCOME", "WHAT"], *rows])


def _hosts_text(rollback: Rollback) -> str:
    states = [result.state.value for result in rollback.hosts.values()]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def releases_text(releases: Sequence[Release]) -> list[str]:
    if not releases:
        return ["no release is on record yet: guard snapshot records one"]
    rows = [["RECORDED", "ID", "STATE", "BY", "IMAGES"]]
    for release in releases:
        images = ", ".join(sorted({image_text(image) for image in release.hosts.values()}))
        rows.append([clock_text(release.recorded_at), release.id, release.state.value, release.origin, images])
    return table(rows)
