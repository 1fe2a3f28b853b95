"""A decision explained: one JSON document, or text for a pager at three in the morning."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from guard.decide.names import names_text
from guard.decide.thresholds import TargetStatus, Transition
from guard.decide.timeline import Stretch
from guard.model import RuleAnswer, State, TargetKey
from guard.report.documents import Document, observation_document, time_text
from guard.report.text import clock_text

WIDTH = 80
MOST_LINES = 120  # of the timeline as text; the JSON document has all of it
_INDENT = " " * 19  # as wide as 14:02:10-14:05:40 and two spaces


@dataclass(frozen=True, slots=True)
class Entry:
    """Something on the timeline. ``kind``: observations, release, rollback, host, verification, gate."""

    at: datetime
    kind: str
    text: str
    ended: datetime | None = None
    stretch: Stretch | None = None
    threshold: int | None = None  # of a stretch of failures: how many in a row cross


@dataclass(frozen=True, slots=True)
class Asked:
    """A rule and its answer, and for which rollback of which service it was asked."""

    rollback: str
    service: str
    answer: RuleAnswer


@dataclass(frozen=True, slots=True)
class Explained:
    """``settings``: the thresholds in force, as recorded or (``settings_from``) as configured now; see ``notes``."""

    id: str
    kind: str  # gate | rollback
    services: tuple[str, ...]
    outcome: str
    decision: str
    reason: str
    started_at: datetime
    ended_at: datetime | None
    timeline: tuple[Entry, ...]
    counters: Mapping[TargetKey, TargetStatus]
    limits: Mapping[TargetKey, int]
    rules: tuple[Asked, ...]
    settings: Mapping[str, object]
    settings_from: str  # record | configuration | ""
    notes: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()
    related: tuple[str, ...] = field(default=())  # IDs of the gate or the rollbacks that belong to it


def explain_document(told: Explained) -> Document:
    return {
        "id": told.id,
        "kind": told.kind,
        "services": list(told.services),
        "outcome": told.outcome,
        "decision": told.decision,
        "reason": told.reason,
        "started_at": time_text(told.started_at),
        "ended_at": time_text(told.ended_at),
        "related": list(told.related),
        "timeline": [_entry_document(entry) for entry in told.timeline],
        "counters": [_counter_document(key, status, told.limits.get(key)) for key, status in _sorted(told.counters)],
        "rules": [
            {
                "rollback": asked.rollback,
                "service": asked.service,
                "rule": asked.answer.rule,
                "allows": asked.answer.allows,
                "sentence": asked.answer.sentence,
            }
            for asked in told.rules
        ],
        "settings": dict(told.settings),
        "settings_from": told.settings_from or None,
        "notes": list(told.notes),
        "next": list(told.next_steps),
    }


def explain_text(told: Explained) -> list[str]:
    """The decision in one sentence first, then how it came about, then what to do."""
    lines = [*_wrapped(told.decision), ""]
    lines.append(f"{told.kind} {told.id}, begun {clock_text(told.started_at)}{_took(told)}")
    lines += [line for id_ in told.related for line in _wrapped(f"see also `guard explain {id_}`", "  ")]
    lines += ["", "WHAT HAPPENED (UTC)", *_timeline_text(told.timeline)]
    lines += _section("COUNTERS AT THE DECISION", _counters_text(told))
    lines += _section("RULES", _rules_text(told.rules))
    lines += _section("THRESHOLDS IN FORCE", _settings_text(told.settings))
    lines += _section("NOTE", [line for note in told.notes for line in _wrapped(note, "  ")])
    lines += _section("NEXT", [line for step in told.next_steps for line in _wrapped(step, "  ")])
    return lines


def stretch_text(stretch: Stretch, threshold: int | None) -> str:
    """``web/http@web1  12 x healthy`` or ``web/http@web1  unhealthy 2 of 3: answered 500  WARNING``"""
    return f"{stretch.target}  {_said(stretch, threshold)}"


def _said(stretch: Stretch, threshold: int | None) -> str:
    many = f"{stretch.count} x " if stretch.count > 1 else ""
    if stretch.state is State.HEALTHY:
        after = "  recovered" if stretch.transition is Transition.RECOVERED else ""
        return f"{many}healthy{after}"
    counted = f" {stretch.failures}" + (f" of {threshold}" if threshold else " in a row") if stretch.failures else ""
    word = {Transition.WARNING: "  WARNING", Transition.THRESHOLD: "  THRESHOLD CROSSED"}
    said = word.get(stretch.transition, "") if stretch.transition else ""
    return f"{many}{stretch.state.value}{counted}: {stretch.reason}{said}"


def _entry_document(entry: Entry) -> Document:
    document: Document = {
        "at": time_text(entry.at),
        "ended_at": time_text(entry.ended),
        "kind": entry.kind,
        "text": entry.text,
    }
    one = entry.stretch
    if one is not None:
        document |= {
            "service": one.target.service,
            "check": one.target.check,
            "host": one.target.host or None,
            "state": one.state.value,
            "count": one.count,
            "consecutive_failures": one.failures,
            "failure_threshold": entry.threshold,
            "transition": one.transition.value if one.transition else None,
            "reason": one.reason,
        }
    return document


def _counter_document(key: TargetKey, status: TargetStatus, threshold: int | None) -> Document:
    return {
        "service": key.service,
        "check": key.check,
        "host": key.host or None,
        "state": status.state.value,
        "consecutive_failures": status.failures,
        "failure_threshold": threshold,
        "warned": status.warned,
        "crossed": status.crossed,
        "last": observation_document(status.last),
    }


def _sorted(counters: Mapping[TargetKey, TargetStatus]) -> list[tuple[TargetKey, TargetStatus]]:
    return sorted(counters.items())


def _took(told: Explained) -> str:
    if told.ended_at is None:
        return ", not ended"
    return f", took {(told.ended_at - told.started_at).total_seconds():.1f} s"


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", title, *lines] if lines else []


def _wrapped(text: str, indent: str = "", hanging: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _timeline_text(entries: Sequence[Entry]) -> list[str]:
    """Hosts that say the same in the same second share a line; the last lines are those that matter most."""
    lines: list[str] = []
    rows: dict[tuple[object, ...], tuple[Entry, list[str]]] = {}
    for number, entry in enumerate(entries):
        one = entry.stretch
        same = (
            (entry.kind, _when(entry), one.target.service, one.target.check, _said(one, entry.threshold))
            if one
            else (number,)
        )
        rows.setdefault(same, (entry, []))[1].append(one.target.host if one else "")
    left_out = max(0, len(rows) - MOST_LINES)
    if left_out:
        lines.append(f"  ({left_out} earlier entries: --output json has them)")
    day = None
    for entry, hosts in list(rows.values())[left_out:]:
        if entry.at.astimezone(UTC).date() != day:
            day = entry.at.astimezone(UTC).date()
            lines.append(f"{day}")
        lines += _wrapped(_shared(entry, hosts), _when(entry).ljust(len(_INDENT)), _INDENT)
    return lines


def _when(entry: Entry) -> str:
    begun, until = (f"{at.astimezone(UTC):%H:%M:%S}" for at in (entry.at, entry.ended or entry.at))
    return begun if begun == until else f"{begun}-{until}"


def _shared(entry: Entry, hosts: Sequence[str]) -> str:
    if entry.stretch is None or len(hosts) == 1:
        return entry.text
    names = ", ".join(hosts[:3]) + (", ..." if len(hosts) > 3 else "")
    before = "verification: " if entry.kind == "verification" else ""
    target = entry.stretch.target
    said = _said(entry.stretch, entry.threshold)
    return f"{before}{target.service}/{target.check} on {len(hosts)} hosts ({names})  {said}"


def _counters_text(told: Explained) -> list[str]:
    same: dict[tuple[str, str, str], list[str]] = {}
    for key, status in _sorted(told.counters):
        of = f" of {told.limits[key]}" if key in told.limits else ""
        row = f"{status.failures}{of} failures in a row" if status.failures else "no row of failures"
        crossed = "  CROSSED" if status.crossed else ""
        same.setdefault((key.service, key.check, f"{status.state.value}, {row}{crossed}"), []).append(key.host)
    lines = []
    for (service, check, said), hosts in same.items():
        on = f"@{hosts[0]}" if hosts[0] else ""
        if len(hosts) > 1:
            on = f" on {len(hosts)} hosts ({', '.join(hosts[:3])}{', ...' if len(hosts) > 3 else ''})"
        lines += _wrapped(f"{service}/{check}{on}  {said}", "  ", "      ")
    return lines


def _rules_text(rules: Sequence[Asked]) -> list[str]:
    lines: list[str] = []
    many = len({asked.rollback for asked in rules}) > 1
    before = None
    for asked in rules:
        if many and asked.rollback != before:
            lines.append(f"  for {asked.rollback} of {asked.service}")
        before = asked.rollback
        answer = asked.answer
        lines += _wrapped(
            f"{answer.sentence}", f"  {'yes' if answer.allows else 'NO '}  {answer.rule.ljust(13)} ", " " * 21
        )
    return lines


def _settings_text(settings: Mapping[str, object]) -> list[str]:
    """Targets that have the same thresholds share a line."""
    lines: list[str] = []
    groups: dict[str, list[str]] = {}
    for name, value in settings.items():
        if name == "targets" and isinstance(value, Mapping):
            for target, one in value.items():
                groups.setdefault(_pairs(one), []).append(str(target))
        elif value is not None and value != {}:
            lines += _wrapped(f"{name}: {_pairs(value)}", "  ", "      ")
    for text, targets in groups.items():
        lines += _wrapped(f"{text}  for {names_text(sorted(targets), 6)}", "  ", "      ")
    return lines


def _pairs(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_pairs(one)}" for key, one in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
