"""Plain text for people: 80 columns, no colour, no Unicode needed. The most important line comes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from guard.decide.names import names_text
from guard.decide.outcome import RESUMED
from guard.decide.service import state_of
from guard.decide.thresholds import TargetStatus
from guard.decide.windows import Opening
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
    RollbackOutcome.UNFINISHED: "UNFINISHED: it runs, or its guard was ended in the middle",
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
    maintenance: Opening | None = None,
    next_maintenance: Opening | None = None,
) -> list[str]:
    lines = services_text({name: statuses})
    if release is not None:
        images = ", ".join(sorted({image_text(image) for image in release.hosts.values()}))
        lines.append(f"  release   {images}: {release.state.value} since {clock_text(release.recorded_at)}")
    if hold is not None:
        lines.append(f"  HELD      until {clock_text(hold.until)} by {hold.author}: {hold.reason}")
    if maintenance is not None:
        lines.append(f"  MAINTENANCE until {clock_text(maintenance.until)}: {maintenance.window.reason}")
    elif next_maintenance is not None:
        times = f"{clock_text(next_maintenance.begins)} to {clock_text(next_maintenance.until)}"
        lines.append(f"  maintenance next from {times}: {next_maintenance.window.reason}")
    if rollback is not None:
        lines.append(f"  rollback  {rollback.id} {rollback.outcome.value} at {clock_text(rollback.started_at)}")
    return lines


def host_rows(hosts: Mapping[str, HostResult]) -> list[list[str]]:
    """Name, state, and what that means there: what ran, what runs, how long it was down, why."""
    return [[name, result.state.value, _host_text(result)] for name, result in sorted(hosts.items())]


def _host_text(result: HostResult) -> str:
    error = result.error or ""
    down = "" if result.downtime_s is None else f"down {result.downtime_s:.2f} s"
    before, target = image_text(result.from_), image_text(result.to)
    swap = f"{before} -> {target}" if result.to is not None else ""
    match result.state:
        case HostState.RESTORED | HostState.PLANNED:
            told = [swap, down, error]
        case HostState.UNCHANGED:
            told = [f"runs {target} already", error]
        case HostState.REVERTED:
            again = f"runs {before if result.from_ else 'what was there'} again"
            told = [again, down, f"{target} did not hold: {error}" if result.to else error]
        case HostState.UNREACHABLE | HostState.SKIPPED | HostState.FAILED:
            instead = f"was to get {target}" + (f" in place of {before}" if result.from_ else "")
            told = [error or "not touched", instead if result.to else "", down]
    return "; ".join(part for part in told if part)


def rollback_text(rollback: Rollback, events: Sequence[str] = (), logs: Mapping[str, str] | None = None) -> list[str]:
    """All that is known of one rollback. ``events`` and ``logs`` (by host): paths of what its runs left behind."""
    lines = [f"rollback {rollback.id} of {rollback.service}: {_sentence(rollback)}"]
    lines.extend(table(host_rows(rollback.hosts), "  "))
    lines.append(f"  why        {rollback.reason}")
    lines.append(f"  trigger    {rollback.trigger.value}, begun {clock_text(rollback.started_at)}{_ended(rollback)}")
    if rollback.playbook is not None:
        playbook = rollback.playbook
        lines.append(f"  playbook   {playbook.name} {playbook.version} ({playbook.digest[:19]})")
    for name, result in sorted(rollback.hosts.items()):
        if result.notice:
            lines.append(f"  NOTE       {name}: {result.notice}")
    for tag in sorted({r.backup_tag for r in rollback.hosts.values() if r.backup_tag}):
        tagged = [name for name, result in sorted(rollback.hosts.items()) if result.backup_tag == tag]
        where = "" if len(tagged) == len(rollback.hosts) else f" on {names_text(tagged)}"
        lines.append(f"  backup     what ran before is tagged {tag}{where}")
    if rollback.artifacts:
        lines.append(f"  artifacts  {rollback.artifacts}")
    lines.extend(f"  events     {path}" for path in events)
    lines.extend(f"  log        {host}: {path}" for host, path in sorted((logs or {}).items()))
    lines.extend(f"  next       {step}" for step in next_steps(rollback, bool(logs)))
    return lines


def _sentence(rollback: Rollback) -> str:
    """The outcome; of a failure also what it left behind."""
    if rollback.outcome is not RollbackOutcome.FAILED:
        return ROLLBACK_SENTENCES[rollback.outcome]
    states = {result.state for result in rollback.hosts.values()}
    if states & {HostState.RESTORED, HostState.UNCHANGED}:
        return "FAILED: the images are back, but the checks do not hold"
    if states == {HostState.REVERTED}:
        return "FAILED: no host is restored; every host runs again what it ran before"
    return "FAILED: no host is restored"


def _ended(rollback: Rollback) -> str:
    """With its end when it was resumed: the time between is mostly waiting."""
    if rollback.ended_at is None:
        return ""
    if RESUMED in rollback.reason:
        return f", resumed, ended {clock_text(rollback.ended_at)}"
    return f", took {(rollback.ended_at - rollback.started_at).total_seconds():.1f} s"


def next_steps(rollback: Rollback, logs_told: bool = False) -> list[str]:
    """What a tired person should do now. Nothing when all is well, or when nothing was to be done."""
    if rollback.outcome is RollbackOutcome.UNFINISHED:
        return [f"`guard resume {rollback.id}` finishes it; a running `guard watch` does so by itself"]
    service, steps = rollback.service, []
    said_no = {answer.rule for answer in rollback.answers if not answer.allows}
    if rollback.outcome is RollbackOutcome.REFUSED and (said_no == {"hold"} or "; hold: " in rollback.reason):
        return [f"`guard unhold {service}` ends the hold; `guard rollback {service} --force` overrides it"]
    if rollback.outcome is RollbackOutcome.REFUSED and "irreversible" in said_no:
        return [f"`guard rollback {service} --force` goes back all the same, when the data allow it"]
    if rollback.outcome not in (RollbackOutcome.PARTIAL, RollbackOutcome.FAILED):
        return []
    of = {state: sorted(n for n, r in rollback.hosts.items() if r.state is state) for state in HostState}
    if away := of[HostState.UNREACHABLE]:
        steps.append(
            f"`guard resume {rollback.id}` once {names_text(away)} can be reached; a running `guard watch` does so"
            " by itself"
        )
    if (undone := of[HostState.REVERTED]) and not logs_told:
        steps.append(f"`guard history {rollback.id}` says where the last output of {names_text(undone)} is")
    if left := sorted([*of[HostState.SKIPPED], *undone, *of[HostState.FAILED]]):
        limit = "" if len(left) == len(rollback.hosts) else f" --limit '{','.join(left)}'"
        steps.append(f"`guard rollback {service} --to IMAGE{limit}` restores another image")
    if rollback.outcome is RollbackOutcome.FAILED and (of[HostState.RESTORED] or of[HostState.UNCHANGED]):
        steps.append(f"`guard check {service}` says what fails; `guard rollback {service} --to IMAGE` goes elsewhere")
    return steps


def gate_text(gate: Gate, rollbacks: Sequence[Rollback]) -> list[str]:
    outcome = gate.outcome or GateOutcome.INCONCLUSIVE
    lines = [f"gate {gate.id} of {', '.join(gate.services)}: {GATE_SENTENCES[outcome]}", f"  why        {gate.reason}"]
    restored = bool(rollbacks) and all(r.outcome is RollbackOutcome.RESTORED for r in rollbacks)
    if outcome is GateOutcome.ROLLBACK_FAILED and restored:
        lines.append("  since      resumed after the gate: every host is back and verified now")
    for rollback in rollbacks:
        lines.extend(rollback_text(rollback))
    return lines


def history_text(rollbacks: Sequence[Rollback], gates: Sequence[Gate]) -> list[str]:
    entries = [
        (r.started_at, [clock_text(r.started_at), r.id, r.service, r.outcome.value, _what_text(r)]) for r in rollbacks
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


def _what_text(rollback: Rollback) -> str:
    if rollback.outcome is RollbackOutcome.REFUSED:
        return rollback.reason
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
