"""A gate or a rollback as Markdown: the step summary of GitHub, a comment on a merge request, a chat message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from guard.report.shape import (
    Document,
    end_of,
    hosts_of,
    image_of,
    is_gate,
    rollbacks_of,
    services_of,
    targets_of,
    text_of,
)

SENTENCES = {
    "healthy": "The release is healthy, and is now `good`.",
    "rolled_back": "The release was unhealthy. The previous one is back on every host, and verified.",
    "rollback_failed": "The release was unhealthy, and the rollback did not succeed everywhere: somebody must look.",
    "not_rolled_back": "The release is unhealthy, and was deliberately not rolled back.",
    "inconclusive": "guard could not measure enough to say anything.",
    "restored": "The previous image is back on every host, and verified.",
    "partial": "Not every host was restored: `guard resume` finishes what can be finished.",
    "failed": "The rollback failed: somebody must look.",
    "refused": "Nothing was done, for a rule said no.",
    "dry_run": "A dry run: nothing was changed.",
    "unfinished": "The rollback is not finished: `guard resume` finishes it.",
}
_SPECIAL = str.maketrans({**{char: f"\\{char}" for char in "\\`*_{}[]#|~"}, "<": "&lt;", ">": "&gt;", "&": "&amp;"})


def markdown(document: Document) -> str:
    """The text of a ``gate`` or ``rollback`` document."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Document) -> Iterator[str]:
    outcome, kind = text_of(document, "outcome"), "gate" if is_gate(document) else "rollback"
    yield f"## guard {kind}: {outcome.replace('_', ' ')}"
    yield ""
    yield SENTENCES.get(outcome, "")
    yield ""
    yield f"- Reason: {escaped(text_of(document, 'reason'))}"
    yield f"- ID: `{text_of(document, 'id')}` (`guard history {text_of(document, 'id')}` tells everything)"
    yield f"- From {text_of(document, 'started_at')} to {end_of(document) or 'now: it has not ended'}"
    for service in services_of(document):
        yield from _service(service)
    for rollback in rollbacks_of(document):
        yield from _rollback(rollback, alone=kind == "rollback")


def _service(service: Document) -> Iterator[str]:
    yield ""
    yield f"### {escaped(text_of(service, 'name'))}: {text_of(service, 'state')}"
    yield ""
    yield from table(["check", "host", "state", "failures in a row", "last"], _target_rows(service))


def _target_rows(service: Document) -> Iterator[list[str]]:
    for target in targets_of(service):
        last = target.get("last")
        reason = text_of(last, "reason") if isinstance(last, Mapping) else ""
        names = [text_of(target, key) for key in ("check", "host", "state", "consecutive_failures")]
        yield [*names, reason]


def _rollback(rollback: Document, *, alone: bool) -> Iterator[str]:
    yield ""
    if not alone:
        yield f"### Rollback of {escaped(text_of(rollback, 'service'))}: {text_of(rollback, 'outcome')}"
        yield ""
        yield f"{escaped(text_of(rollback, 'reason'))} (`{text_of(rollback, 'id')}`)"
        yield ""
    rows = [
        [host, text_of(r, "state"), image_of(r, "from"), image_of(r, "to"), _seconds(r), text_of(r, "error")]
        for host, r in hosts_of(rollback).items()
    ]
    yield from table(["host", "state", "from", "to", "down for", "error"], rows)


def _seconds(result: Document) -> str:
    down = result.get("downtime_s")
    return f"{down:.1f} s" if isinstance(down, int | float) else ""


def table(heads: list[str], rows: Iterator[list[str]] | list[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(escaped(cell) for cell in row)} |"


def escaped(text: str) -> str:
    """One line that says itself, whatever is in it: what a server answered is shown in somebody's browser."""
    return " ".join(text.split()).translate(_SPECIAL)
