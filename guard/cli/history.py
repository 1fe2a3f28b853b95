"""``guard history``: rollbacks and gates on record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guard.cli.options import Options, common_options
from guard.cli.reports import explained, report_option
from guard.cli.running import say, with_session
from guard.errors import UsageError

if TYPE_CHECKING:
    from guard.model import Gate, Rollback
    from guard.report.files import Report
    from guard.service.session import Session
    from guard.service.stop import Stop


@click.command()
@click.argument("id_", metavar="[ID]", required=False)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many of each.")
@report_option
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.tar.gz",
    help="All evidence as one archive: page, explanation, artifacts with containers' logs, redacted configuration.",
)
@common_options
def history(options: Options, id_: str | None, limit: int, reports: tuple[Report, ...], bundle: Path | None) -> None:
    """Rollbacks and gates on record, newest first; with an ID all that is known of that one."""
    from guard.report.documents import rollback_document
    from guard.report.files import write
    from guard.report.text import gate_text, history_text, rollback_text
    from guard.rollback.artifacts import Evidence, evidence

    async def work(session: Session, stop: Stop) -> None:  # noqa: ARG001 - nothing here takes long
        store = session.store
        if id_ is None:
            if reports or bundle is not None:
                what = "--report" if reports else "--bundle"
                raise UsageError(f"{what}: of which one?", hint="name the ID of a rollback or gate")
            rollbacks, gates = store.rollbacks(None, limit), store.gates(limit)
            document = {
                "rollbacks": [rollback_document(rollback) for rollback in rollbacks],
                "gates": [_gate_document(gate) for gate in gates],
            }
            say(options, document, history_text(rollbacks, gates))
            return
        rollback, gate = store.rollback(id_), store.gate(id_)
        if rollback is not None:
            left = evidence(Path(rollback.artifacts)) if rollback.artifacts else Evidence()
            told = {**rollback_document(rollback), "events": list(left.events), "logs": dict(left.logs)}
            write(reports, told, explained(session, id_))
            if bundle is not None:
                _bundle(session, bundle, told, (rollback,))
            say(options, told, rollback_text(rollback, left.events, left.logs))
        elif gate is not None:
            of_gate = [r for r in store.rollbacks(None, 10_000) if r.gate_id == gate.id]
            write(reports, _gate_document(gate), explained(session, id_))
            if bundle is not None:
                _bundle(session, bundle, _gate_document(gate), of_gate)
            say(options, _gate_document(gate), gate_text(gate, of_gate))
        else:
            raise UsageError(f"no rollback or gate {id_!r} is on record", hint="guard history lists them")

    with_session(options, work, read_only=True)


def _gate_document(gate: Gate) -> dict[str, object]:
    from guard.report.documents import gate_document

    return dict(gate.document) or gate_document(gate, {name: {} for name in gate.services}, {}, ())


def _bundle(session: Session, file: Path, document: Mapping[str, object], rollbacks: Sequence[Rollback]) -> None:
    import json

    from guard.config.redact import redacted
    from guard.report.bundle import write_bundle
    from guard.report.explain import explain_document, explain_text
    from guard.report.html import html
    from guard.rollback.workdir import PASSING
    from guard.service.explain import explain

    id_ = str(document["id"])
    told = explain(session.store, session.config, id_)
    explanation = explain_document(told)
    texts = {
        "report.html": html(document, explanation),
        "report.json": json.dumps(document, indent=2) + "\n",
        "explain.txt": "\n".join(explain_text(told)) + "\n",
        "explain.json": json.dumps(explanation, indent=2) + "\n",
        "configuration.json": json.dumps(redacted(session.config), indent=2, default=str) + "\n",
    }
    kept = {one.id: Path(one.artifacts) for one in rollbacks if one.artifacts and Path(one.artifacts).is_dir()}
    write_bundle(file, f"guard-{id_}", texts, kept, PASSING, told.ended_at or told.started_at)
