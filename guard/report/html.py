"""One self-contained page about a gate or a rollback: what happened as a timeline, and every rule's answer.

Nothing is loaded from anywhere, and there is no script: it can be attached to an incident and opened in ten years.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from guard.report.markdown import SENTENCES
from guard.report.shape import Document, hosts_of, image_of, list_of, rollbacks_of, services_of, targets_of, text_of

if TYPE_CHECKING:
    from jinja2 import Template

WIDTH, LABEL, ROW = 960, 210, 22  # of the drawing, of its names, and of a row, in pixels
LEAST_PX = 3.0  # so that a single failure in a long time can be seen
MOST_ROWS = 60  # the page of a large fleet shows the targets that failed first
_TICKS = 6


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time on a row: where (pixels), which class of colour, and what is shown on hovering."""

    x: float
    width: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    y: int
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """``ticks`` and ``marks``: (x in pixels, text)."""

    width: int
    height: int
    label: int
    rows: tuple[Row, ...]
    ticks: tuple[tuple[float, str], ...]
    marks: tuple[tuple[float, str], ...]
    left_out: int


def html(document: Document, explained: Document) -> str:
    """``document``: of ``gate`` or ``rollback``; ``explained``: of ``guard explain``."""
    outcome = text_of(document, "outcome")
    return _template().render(
        document=document,
        explained=explained,
        outcome=outcome.replace("_", " "),
        tone=_tone(outcome),
        sentence=SENTENCES.get(outcome, ""),
        chart=chart(explained),
        timeline=list_of(explained, "timeline"),
        rules=list_of(explained, "rules"),
        services=[(text_of(service, "name"), targets_of(service)) for service in services_of(document)],
        rollbacks=[(one, _hosts(one)) for one in rollbacks_of(document)],
        next_steps=explained.get("next") or (),
        notes=explained.get("notes") or (),
    )


def _tone(outcome: str) -> str:
    return {"healthy": "good", "restored": "good", "rolled_back": "warned", "dry_run": "warned"}.get(outcome, "bad")


def _hosts(rollback: Document) -> list[Mapping[str, object]]:
    return [
        {**result, "host": host, "before": image_of(result, "from"), "after": image_of(result, "to")}
        for host, result in hosts_of(rollback).items()
    ]


def chart(explained: Document) -> Chart:
    """The timeline as rows of bars: a row for each target, one for each host that was changed, one for the rest."""
    entries = list_of(explained, "timeline")
    times = [at for entry in entries for at in (_time(entry, "at"), _time(entry, "ended_at")) if at is not None]
    begin = min(times, default=0.0)
    span = max(max(times, default=0.0) - begin, 1.0)
    room = WIDTH - LABEL

    def place(at: float) -> float:
        return round(LABEL + (at - begin) / span * room, 1)

    rows: dict[str, list[Bar]] = {}
    bad: set[str] = set()
    for name, entry in _named(entries):
        at = _time(entry, "at")
        if at is None:
            continue
        until = _time(entry, "ended_at") or at
        kind = text_of(entry, "state") or text_of(entry, "kind")
        x = min(place(at), WIDTH - LEAST_PX)
        rows.setdefault(name, []).append(Bar(x, max(place(until) - x, LEAST_PX), kind, text_of(entry, "text")))
        if kind in ("unhealthy", "unknown"):
            bad.add(name)
    shown = sorted(rows, key=lambda name: name not in bad)[:MOST_ROWS]
    order = [name for name in rows if name in shown]
    drawn = tuple(Row(name, 30 + ROW * number, tuple(rows[name])) for number, name in enumerate(order))
    marks = [
        (place(at), "threshold crossed")
        for entry in entries
        if text_of(entry, "transition") == "threshold" and (at := _time(entry, "at")) is not None
    ]
    ticks = tuple(
        (place(begin + span * n / _TICKS), datetime.fromtimestamp(begin + span * n / _TICKS, UTC).strftime("%H:%M:%S"))
        for n in range(_TICKS)
    )
    height = 40 + ROW * max(len(drawn), 1)
    return Chart(WIDTH, height, LABEL, drawn, ticks, tuple(marks[:1]), len(rows) - len(shown))


def _named(entries: list[Document]) -> Iterator[tuple[str, Document]]:
    """Each entry with the name of its row."""
    for entry in entries:
        check, host = text_of(entry, "check"), text_of(entry, "host")
        if check:
            yield f"{text_of(entry, 'service')}/{check}" + (f"@{host}" if host else ""), entry
        else:
            yield text_of(entry, "kind"), entry


def _time(entry: Document, key: str) -> float | None:
    text = text_of(entry, key)
    return datetime.fromisoformat(text).timestamp() if text else None


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("guard", "report/templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html")
