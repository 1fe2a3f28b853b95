"""The page about a decision: every target is a row, every failure can be seen, and hostile text stays text."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from guard.report.html import LABEL, LEAST_PX, MOST_ROWS, WIDTH, chart, html

HOSTILE = "<script>alert(1)</script>\"'><img src=x>"


def entry(at: int, state: str = "", *, until: int | None = None, host: str = "web1", **more: Any) -> dict[str, Any]:
    target = {"service": "web", "check": "http", "host": host, "state": state} if state else {}
    ended = None if until is None else f"2026-11-24T10:00:{until:02d}.000Z"
    return (
        {"at": f"2026-11-24T10:00:{at:02d}.000Z", "ended_at": ended, "kind": "observations", "text": "t"}
        | target
        | more
    )


def explained(*timeline: dict[str, Any]) -> dict[str, Any]:
    times = {"started_at": "2026-11-24T10:00:00.000Z", "ended_at": None}
    told = {"id": "gt-1", "kind": "gate", "services": ["web"], "decision": "d", "timeline": list(timeline), **times}
    return {**told, "rules": [{"rule": "hold", "allows": False, "sentence": HOSTILE}], "next": [HOSTILE], "notes": []}


def test_every_target_is_a_row_and_bars_stay_within_the_drawing() -> None:
    drawn = chart(
        explained(
            entry(0, "healthy", until=20),
            entry(30, "unhealthy", transition="threshold"),
            entry(31, "healthy", host="web2"),
            entry(59, kind="rollback"),
        )
    )
    assert [row.name for row in drawn.rows] == ["web/http@web1", "web/http@web2", "rollback"]
    bars = [bar for row in drawn.rows for bar in row.bars]
    assert all(bar.x >= LABEL and bar.x + bar.width <= WIDTH and bar.width >= LEAST_PX for bar in bars)
    assert [bar.kind for bar in drawn.rows[0].bars] == ["healthy", "unhealthy"]
    assert len(drawn.marks) == 1 and drawn.marks[0][0] == bars[1].x


def test_of_a_large_fleet_those_that_failed_are_shown_and_the_rest_is_counted() -> None:
    many = [entry(0, "healthy", host=f"web{n}") for n in range(500)]
    drawn = chart(explained(*many, entry(5, "unhealthy", host="web499")))
    assert len(drawn.rows) == MOST_ROWS and drawn.left_out == 500 - MOST_ROWS
    assert "web/http@web499" in [row.name for row in drawn.rows]


def test_nothing_on_record_is_an_empty_drawing() -> None:
    assert chart(explained()).rows == ()


def test_hostile_text_stays_text_and_nothing_is_loaded() -> None:
    hosts = {
        HOSTILE: {"state": "restored", "from": {"image": HOSTILE}, "to": None, "downtime_s": None, "error": HOSTILE}
    }
    rollback = {"id": "rb-1", "service": "web", "outcome": "restored", "reason": HOSTILE, "hosts": hosts}
    target = {"check": "http", "host": None, "state": "unknown", "consecutive_failures": 0, "last": None}
    service = {"name": HOSTILE, "targets": [target]}
    document = {"id": "gt-1", "outcome": "rolled_back", "services": [service], "rollbacks": [rollback]}
    page = html(document, explained(entry(1, "unhealthy", text=HOSTILE, host=HOSTILE)))
    seen: list[tuple[str, list[str]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append((tag, [name for name, _ in attrs]))

    Reader().feed(page)
    assert not {tag for tag, _ in seen} & {"script", "img", "link", "iframe", "object"}
    assert not {name for _, names in seen for name in names if name in ("src", "href") or name.startswith("on")}
