"""May guard roll back? Every rule is asked and its answer kept, also after the first veto.

A rule is a function of the facts alone. The order is the order in which a person would want to read them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from guard.model import Hold, HostPlan, RuleAnswer, Trigger


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """Everything the rules look at. ``last_automatic_at``: when the newest automatic rollback ended that did something;
    ``last_restored``: host → image ID that the newest rollback of any kind put or found there."""

    service: str
    now: datetime
    trigger: Trigger
    critical: bool = True
    dry_run: bool = False
    force: bool = False
    hold: Hold | None = None
    min_gap_s: float = 600.0
    last_automatic_at: datetime | None = None
    last_restored: Mapping[str, str] = field(default_factory=dict)
    failed_dependencies: tuple[str, ...] = ()
    critical_services: int = 1
    critical_failing: int = 1
    plans: Mapping[str, HostPlan] = field(default_factory=dict)

    @property
    def automatic(self) -> bool:
        return self.trigger is Trigger.THRESHOLD


def ask_all(facts: PolicyFacts) -> tuple[RuleAnswer, ...]:
    """Every rule's answer, in a fixed order. Roll back only when all of them allow it."""
    answers = []
    for name, rule in RULES.items():
        allows, sentence = rule(facts)
        answers.append(RuleAnswer(name, allows, sentence))
    return tuple(answers)


def vetoes(answers: tuple[RuleAnswer, ...]) -> tuple[RuleAnswer, ...]:
    return tuple(answer for answer in answers if not answer.allows)


def _critical(facts: PolicyFacts) -> tuple[bool, str]:
    if facts.critical or not facts.automatic:
        return True, f"{facts.service} is critical" if facts.critical else "an operator asked for it"
    return False, f"{facts.service} is not critical: it is logged, never rolled back by itself"


def _hold(facts: PolicyFacts) -> tuple[bool, str]:
    if facts.hold is None:
        return True, "no hold"
    said = f"held until {facts.hold.until:%Y-%m-%d %H:%M:%S} UTC by {facts.hold.author}: {facts.hold.reason}"
    if facts.force:
        return True, f"{said}; overridden by --force"
    return False, said


def _min_gap(facts: PolicyFacts) -> tuple[bool, str]:
    if not facts.automatic or facts.last_automatic_at is None:
        return True, "no automatic rollback before"
    gap = facts.now - facts.last_automatic_at
    if gap < timedelta(0):
        return True, "the last automatic rollback ended in what is the future now: the clock was set back"
    if gap >= timedelta(seconds=facts.min_gap_s):
        return True, f"the last automatic rollback ended {gap.total_seconds():.0f} s ago"
    return False, (
        f"the last automatic rollback ended only {gap.total_seconds():.0f} s ago, min_gap is {facts.min_gap_s:.0f} s: "
        "rolling back again so soon would chase something that is not the release"
    )


def _loop(facts: PolicyFacts) -> tuple[bool, str]:
    if not facts.automatic:
        return True, "an operator asked for it"
    already = [
        host
        for host, plan in facts.plans.items()
        if plan.from_ is not None and plan.to != plan.from_ and facts.last_restored.get(host) == plan.from_.image_id
    ]
    if already:
        return False, (
            f"{', '.join(sorted(already))} run what the last rollback put there: "
            "no deeper rollback by itself (guard rollback --to names a target)"
        )
    return True, "what runs was not put there by a rollback"


def _dependency(facts: PolicyFacts) -> tuple[bool, str]:
    if not facts.automatic or not facts.failed_dependencies:
        return True, "no dependency has failed"
    return False, f"it depends on {', '.join(facts.failed_dependencies)}, which failed as well: that comes first"


def _mass_failure(facts: PolicyFacts) -> tuple[bool, str]:
    if facts.automatic and facts.critical_services >= 3 and facts.critical_failing * 2 > facts.critical_services:
        return False, (
            f"{facts.critical_failing} of {facts.critical_services} critical services fail at the same time: "
            "more likely the network or a common cause than this release"
        )
    return True, f"{facts.critical_failing} of {facts.critical_services} critical services fail"


def _target_known(facts: PolicyFacts) -> tuple[bool, str]:
    with_target = [host for host, plan in facts.plans.items() if plan.to is not None]
    if with_target:
        without = sorted(set(facts.plans) - set(with_target))
        return True, f"target known on {len(with_target)} hosts" + (f", not on {', '.join(without)}" if without else "")
    problems = "; ".join(sorted({plan.problem for plan in facts.plans.values() if plan.problem}))
    return False, f"no target on any host: {problems or 'no host was found'}"


def _dry_run(facts: PolicyFacts) -> tuple[bool, str]:
    if facts.dry_run:
        return False, "dry run: nothing is changed"
    return True, "not a dry run"


RULES: dict[str, Callable[[PolicyFacts], tuple[bool, str]]] = {
    "critical": _critical,
    "hold": _hold,
    "dependency": _dependency,
    "mass_failure": _mass_failure,
    "target_known": _target_known,
    "loop": _loop,
    "min_gap": _min_gap,
    "dry_run": _dry_run,
}
