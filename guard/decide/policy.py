"""May guard roll back? Every rule is asked and its answer kept, also after the first veto.

A rule is a function of the facts alone. The order is the order in which a person would want to read them. What each
asks, and what to do when it says no, is told to users in ``docs/policy.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from guard.decide.names import names_text
from guard.decide.windows import Opening
from guard.model import Hold, HostPlan, RuleAnswer, Trigger

LEAST_FOR_MASS = 3  # critical services; of one or two nobody can tell a common cause from a bad release


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """Everything the rules look at.

    ``last_automatic_at``: when the newest automatic rollback ended that did something; ``last_restored``: host → image
    ID that the newest rollback of any kind put or found there; ``last_failed``: host → image IDs (from, to) of those
    that it could not restore; ``rejected``: image IDs that were rejected.

    ``crosses``: what would be gone back over although it cannot be undone. ``failed_before``: targets that failed in
    the same way before this release came; ``failed_anew``: enough others have failed for the service to have failed.

    ``failing_together``: critical services whose failures began within one interval of this one's, itself included.
    ``watched`` targets were measured of late; ``blind`` of them turned unknown as this one failed.

    ``held_by``: the other guard that holds the service's lock, in words.
    """

    service: str
    now: datetime
    trigger: Trigger
    critical: bool = True
    dry_run: bool = False
    force: bool = False
    hold: Hold | None = None
    maintenance: Opening | None = None
    min_gap_s: float = 600.0
    last_automatic_at: datetime | None = None
    last_restored: Mapping[str, str] = field(default_factory=dict)
    last_failed: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    rejected: frozenset[str] = frozenset()
    crosses: tuple[str, ...] = ()
    failed_dependencies: tuple[str, ...] = ()
    critical_services: int = 1
    failing_together: frozenset[str] = frozenset()
    failed_before: tuple[str, ...] = ()
    failed_anew: bool = True
    watched: int = 0
    blind: int = 0
    held_by: str = ""
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


_ASKED_FOR = "an operator asked for it"


def _critical(facts: PolicyFacts) -> tuple[bool, str]:
    if facts.critical or not facts.automatic:
        return True, f"{facts.service} is critical" if facts.critical else _ASKED_FOR
    return False, f"{facts.service} is not critical: it is logged, never rolled back by itself"


def _hold(facts: PolicyFacts) -> tuple[bool, str]:
    if facts.hold is None:
        return True, "no hold"
    said = f"held until {facts.hold.until:%Y-%m-%d %H:%M:%S} UTC by {facts.hold.author}: {facts.hold.reason}"
    if facts.force:
        return True, f"{said}; overridden by --force"
    return False, said


def _maintenance(facts: PolicyFacts) -> tuple[bool, str]:
    if facts.maintenance is None:
        return True, "no maintenance window is open"
    said = f"maintenance until {facts.maintenance.until:%Y-%m-%d %H:%M:%S} UTC: {facts.maintenance.window.reason}"
    return (False, said) if facts.automatic else (True, f"{said}; but {_ASKED_FOR}")


def _irreversible(facts: PolicyFacts) -> tuple[bool, str]:
    if not facts.crosses:
        return True, "nothing that cannot be undone lies between what runs and what is to run"
    said = "; ".join(facts.crosses)
    if facts.force:
        return True, f"{said}; overridden by --force"
    return False, f"{said}: an earlier release may not work with what it has changed"


def _dependency(facts: PolicyFacts) -> tuple[bool, str]:
    if not facts.failed_dependencies:
        return True, "no dependency has failed"
    failed = ", ".join(facts.failed_dependencies)
    if not facts.automatic:
        return True, f"{failed} failed as well; but {_ASKED_FOR}"
    return False, f"it depends on {failed}, which failed as well: that comes first"


def _mass_failure(facts: PolicyFacts) -> tuple[bool, str]:
    if not facts.automatic:
        return True, _ASKED_FOR
    count, total = len(facts.failing_together), facts.critical_services
    if total < LEAST_FOR_MASS:
        return True, f"fewer than {LEAST_FOR_MASS} critical services are watched: a common cause could not be told"
    if count * 2 > total:
        named = names_text(sorted(facts.failing_together))
        return False, (
            f"{count} of {total} critical services began to fail within one interval ({named}): "
            "more likely the network or a common cause than this release"
        )
    return True, f"{count} of {total} critical services began to fail within one interval"


def _failing_before(facts: PolicyFacts) -> tuple[bool, str]:
    if not facts.automatic:
        return True, _ASKED_FOR
    if not facts.failed_before:
        return True, "nothing is known to have failed in the same way before this release came"
    named = "; ".join(facts.failed_before[:3])
    named += f" (and {len(facts.failed_before) - 3} more)" if len(facts.failed_before) > 3 else ""
    if facts.failed_anew:
        return True, f"{named} failed before this release came, but enough others have failed since"
    return False, f"{named}: failed in the same way before this release came, so the release is not blamed for it"


def _guard_offline(facts: PolicyFacts) -> tuple[bool, str]:
    if not facts.automatic:
        return True, _ASKED_FOR
    if facts.blind * 2 > facts.watched:
        return False, (
            f"{facts.blind} of {facts.watched} targets became unknown as this service began to fail: "
            "guard itself is likely offline"
        )
    return True, f"guard itself can measure: {facts.blind} of {facts.watched} targets became unknown meanwhile"


def _target_known(facts: PolicyFacts) -> tuple[bool, str]:
    with_target = [host for host, plan in facts.plans.items() if plan.to is not None]
    if with_target:
        without = sorted(set(facts.plans) - set(with_target))
        return True, f"target known on {len(with_target)} hosts" + (f", not on {', '.join(without)}" if without else "")
    problems = "; ".join(sorted({plan.problem for plan in facts.plans.values() if plan.problem}))
    return False, f"no target on any host: {problems or 'no host was found'}"


def _loop(facts: PolicyFacts) -> tuple[bool, str]:
    if not facts.automatic:
        return True, _ASKED_FOR
    changes = {host: plan for host, plan in facts.plans.items() if plan.changes}
    already = [h for h, p in changes.items() if p.from_ is not None and facts.last_restored.get(h) == p.from_.image_id]
    if already:
        return False, (
            f"{', '.join(sorted(already))} run what the last rollback put there: "
            "no deeper rollback by itself (guard rollback --to names a target)"
        )
    rejected = sorted({p.to.image for p in changes.values() if p.to is not None and p.to.image_id in facts.rejected})
    if rejected:
        return False, f"{', '.join(rejected)} was rejected before: it is never gone back to by itself"
    again = [h for h, p in changes.items() if facts.last_failed.get(h) == _ids(p)]
    if again and len(again) == len(changes):
        return False, (
            f"the last rollback tried the very same on {', '.join(sorted(again))} and failed: "
            "not tried again by itself (guard history says why it failed)"
        )
    return True, "what runs was not put there by a rollback, and this was not tried before"


def _ids(plan: HostPlan) -> tuple[str, str]:
    return plan.from_.image_id if plan.from_ else "", plan.to.image_id if plan.to else ""


def _min_gap(facts: PolicyFacts) -> tuple[bool, str]:
    if not facts.automatic:
        return True, _ASKED_FOR
    if facts.last_automatic_at is None:
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


def _lock(facts: PolicyFacts) -> tuple[bool, str]:
    if facts.held_by:
        return False, facts.held_by
    return True, "no other guard is at work on it"


def _dry_run(facts: PolicyFacts) -> tuple[bool, str]:
    if facts.dry_run:
        return False, "dry run: nothing is changed"
    return True, "not a dry run"


RULES: dict[str, Callable[[PolicyFacts], tuple[bool, str]]] = {
    "critical": _critical,
    "hold": _hold,
    "maintenance": _maintenance,
    "irreversible": _irreversible,
    "dependency": _dependency,
    "mass_failure": _mass_failure,
    "failing_before": _failing_before,
    "guard_offline": _guard_offline,
    "target_known": _target_known,
    "loop": _loop,
    "min_gap": _min_gap,
    "lock": _lock,
    "dry_run": _dry_run,
}
