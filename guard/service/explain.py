"""Why it was decided so: a gate or a rollback, put together again from what is on record. Nothing is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from guard.decide.policy import vetoes
from guard.decide.replay import Rules, Step
from guard.decide.thresholds import TargetStatus
from guard.errors import UsageError
from guard.model import Gate, GateOutcome, Observation, Rollback, RollbackOutcome, TargetKey
from guard.ports import Store
from guard.report.explain import Asked, Entry, Explained
from guard.report.text import next_steps
from guard.service.counting import WATCH
from guard.service.in_force import configured, rules_of
from guard.service.timeline import counted, of_observations, of_releases, of_rollback, of_verification

if TYPE_CHECKING:
    from guard.config.schema import GuardConfig

LOOK_BACK = timedelta(hours=1)  # of a watch's observations before its rollback
MOST_DECISIONS = 10_000

_BY_RULE = {
    "critical": "`guard rollback {service}` rolls back by hand; `critical: true` lets guard do it by itself",
    "hold": "`guard unhold {service}` ends the hold; `guard rollback {service} --force` overrides it",
    "dependency": "look at what {service} depends on first; `guard rollback {service}` rolls back by hand",
    "mass_failure": "look for a common cause (network, host); `guard rollback {service}` rolls back by hand",
    "target_known": "`guard ready {service}` says what is missing; `guard rollback {service} --to IMAGE` names one",
    "loop": "`guard rollback {service} --to IMAGE` goes elsewhere",
    "maintenance": "`guard status` says until when the window is open; `guard rollback {service}` rolls back by hand",
    "irreversible": "restore the data first; then `guard rollback {service} --force` goes back over it",
    "failing_before": "`guard check {service}` says what fails: look for what broke before this release came",
    "guard_offline": "look at this machine's own network and name resolution; `guard check {service}` measures again",
    "lock": "`guard status` says what the other guard does; wait until it has ended",
    "min_gap": "`guard check {service}` says what fails; `guard rollback {service}` rolls back by hand",
    "dry_run": "run it again without --dry-run",
}


def explain(store: Store, config: GuardConfig, id_: str) -> Explained:
    """A gate, a rollback, or the latest decision about the service of that name. UsageError: none of them."""
    gate, rollback = store.gate(id_), store.rollback(id_)
    if gate is None and rollback is None:
        gate, rollback = _latest(store, id_)
    if rollback is not None:
        return _rollback(store, config, rollback)
    if gate is not None:
        return _gate(store, config, gate)
    if any(service.name == id_ for service in config.services):
        raise UsageError(f"nothing was decided about {id_} yet", hint="guard status says how it stands")
    raise UsageError(
        f"no gate, rollback or service {id_!r} is on record", hint="guard history lists gates and rollbacks"
    )


def _latest(store: Store, service: str) -> tuple[Gate | None, Rollback | None]:
    """A rollback of a gate comes after it, and so is the later of the two."""
    gate = next((one for one in store.gates(MOST_DECISIONS) if service in one.services), None)
    rollback = next(iter(store.rollbacks(service, 1)), None)
    if gate is not None and rollback is not None and gate.started_at > rollback.started_at:
        return gate, None
    return (None, rollback) if rollback is not None else (gate, None)


@dataclass(frozen=True, slots=True)
class _Replayed:
    """What led to a decision: the observations with their counters, and the settings they were counted with."""

    steps: tuple[Step, ...]
    rules: Rules
    settings: Mapping[str, object]
    origin: str
    notes: tuple[str, ...]

    @property
    def counters(self) -> dict[TargetKey, TargetStatus]:
        return {step.observation.target: step.status for step in self.steps}

    @property
    def limits(self) -> dict[TargetKey, int]:
        return {key: limits.failure for key, limits in self.rules.thresholds.items()}


def _gate(store: Store, config: GuardConfig, gate: Gate) -> Explained:
    made = [one for one in store.rollbacks(None, MOST_DECISIONS) if one.gate_id == gate.id][::-1]
    seen = _replayed(store, config, gate.settings, _of_gate(store, gate), gate.services, gate.started_at)
    told = [
        Entry(gate.started_at, "gate", f"the gate begins to watch {', '.join(gate.services)}"),
        *of_releases(store, gate.services, gate.started_at, gate.ended_at),
        *of_observations(seen.steps, seen.rules),
        *(entry for one in made for entry in [*of_rollback(store, one), *of_verification(store, one, seen.rules)]),
    ]
    if gate.ended_at is not None:
        told.append(Entry(gate.ended_at, "gate", f"the gate ends: {gate.outcome.value if gate.outcome else 'open'}"))
    return Explained(
        id=gate.id,
        kind="gate",
        services=gate.services,
        outcome=gate.outcome.value if gate.outcome is not None else "running",
        decision=_gate_sentence(gate),
        reason=gate.reason,
        started_at=gate.started_at,
        ended_at=gate.ended_at,
        timeline=_in_order(told),
        counters=seen.counters,
        limits=seen.limits,
        rules=tuple(Asked(one.id, one.service, answer) for one in made for answer in one.answers),
        settings=seen.settings,
        settings_from=seen.origin,
        notes=seen.notes,
        next_steps=_next_of_gate(gate, made),
        related=tuple(one.id for one in made),
    )


def _rollback(store: Store, config: GuardConfig, rollback: Rollback) -> Explained:
    gate = store.gate(rollback.gate_id) if rollback.gate_id else None
    begun = gate.started_at if gate is not None else rollback.started_at - LOOK_BACK
    if gate is not None:
        observed = tuple(one for one in _of_gate(store, gate) if one.target.service == rollback.service)
    else:
        observed = store.observations(rollback.service, begun, rollback.started_at, WATCH)
    recorded = rollback.settings or (gate.settings if gate is not None else {})
    seen = _replayed(store, config, recorded, observed, (rollback.service,), begun)
    told = [
        *of_releases(store, (rollback.service,), begun, rollback.ended_at),
        *of_observations(seen.steps, seen.rules),
        *of_rollback(store, rollback),
        *of_verification(store, rollback, seen.rules),
    ]
    return Explained(
        id=rollback.id,
        kind="rollback",
        services=(rollback.service,),
        outcome=rollback.outcome.value,
        decision=_rollback_sentence(rollback, _first_reason(store, rollback)),
        reason=rollback.reason,
        started_at=rollback.started_at,
        ended_at=rollback.ended_at,
        timeline=_in_order(told),
        counters=seen.counters,
        limits=seen.limits,
        rules=tuple(Asked(rollback.id, rollback.service, answer) for answer in rollback.answers),
        settings=seen.settings,
        settings_from=seen.origin,
        notes=seen.notes,
        next_steps=_next_of_rollback(rollback),
        related=(gate.id,) if gate is not None else (),
    )


def _of_gate(store: Store, gate: Gate) -> tuple[Observation, ...]:
    found = [one for name in gate.services for one in store.observations(name, gate.started_at, None, gate.id)]
    return tuple(sorted(found, key=lambda one: one.at))


def _replayed(
    store: Store,
    config: GuardConfig,
    recorded: Mapping[str, object],
    observed: Sequence[Observation],
    services: Sequence[str],
    begun: datetime,
) -> _Replayed:
    keys = {observation.target for observation in observed}
    notes = []
    settings, origin = recorded, "record"
    if not recorded.get("targets"):
        now = configured(config, keys)
        settings, origin = {**now, **recorded}, "configuration" if now else ""
        if now:
            notes.append("The thresholds in force then are not on record: these are of the present configuration.")
    if not observed:
        folded = any(store.hours(name, begun - timedelta(hours=1)) for name in services)
        notes.append(
            "The observations are too old: only hourly sums of them are left (retention.observations_days)."
            if folded
            else "No observation that led to it is on record."
        )
    rules = rules_of(settings, keys)
    return _Replayed(counted(observed, rules), rules, settings, origin, tuple(notes))


def _in_order(timeline: Sequence[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(timeline, key=lambda entry: entry.at))


# -- sentences


def _first_reason(store: Store, rollback: Rollback) -> str:
    """Why it was begun; at its end the record's reason has grown by how it went."""
    begun = next((change for change in store.trail(rollback.id) if change.kind == "rollback_begun"), None)
    return str(begun.body.get("reason", rollback.reason)) if begun is not None else rollback.reason


def _gate_sentence(gate: Gate) -> str:
    names = ", ".join(gate.services)
    match gate.outcome:
        case GateOutcome.HEALTHY:
            return f"The release of {names} was called good: {gate.reason}."
        case GateOutcome.ROLLED_BACK:
            return f"The release of {names} was rolled back, because {gate.reason}."
        case GateOutcome.ROLLBACK_FAILED:
            return f"The release of {names} failed, and its rollback did not succeed everywhere: {gate.reason}."
        case GateOutcome.NOT_ROLLED_BACK:
            return f"The release of {names} failed and was deliberately not rolled back: {gate.reason}."
        case GateOutcome.INCONCLUSIVE:
            return f"It was not decided whether the release of {names} is good: {gate.reason}."
    return f"The gate over {names} still runs, or was killed before it decided anything."


def _rollback_sentence(rollback: Rollback, why: str) -> str:
    service = rollback.service
    refusing = vetoes(rollback.answers)
    told = "; ".join(f"{answer.rule}: {answer.sentence}" for answer in refusing) or rollback.reason
    match rollback.outcome:
        case RollbackOutcome.RESTORED:
            return f"{service} was rolled back on every host and verified, because {why}."
        case RollbackOutcome.PARTIAL:
            return f"{service} was rolled back on some of its hosts, because {why}."
        case RollbackOutcome.FAILED:
            return f"{service} was to be rolled back, because {why}; that failed."
        case RollbackOutcome.REFUSED:
            return f"{service} was not rolled back, because a rule says no ({told}); it was asked for because {why}."
        case RollbackOutcome.DRY_RUN:
            return f"{service} would have been rolled back, because {why}; it was a dry run."
        case RollbackOutcome.UNFINISHED:
            return f"{service} is being rolled back, because {why}; that has not ended."


def _next_of_rollback(rollback: Rollback) -> tuple[str, ...]:
    if rollback.outcome in (RollbackOutcome.REFUSED, RollbackOutcome.DRY_RUN):
        told = [_BY_RULE[one.rule] for one in vetoes(rollback.answers) if one.rule in _BY_RULE]
        if told:
            return tuple(dict.fromkeys(text.format(service=rollback.service) for text in told))
    return tuple(next_steps(rollback))


def _next_of_gate(gate: Gate, made: Sequence[Rollback]) -> tuple[str, ...]:
    if gate.outcome is GateOutcome.INCONCLUSIVE:
        return (f"`guard check {' '.join(gate.services)}` says what cannot be measured; then run the gate again",)
    return tuple(dict.fromkeys(step for one in made for step in _next_of_rollback(one)))
