"""``guard snapshot``: before a deploy, record and pin what runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from guard.cli.complete import service_names
from guard.cli.options import Options, common_options
from guard.cli.running import say, with_session

if TYPE_CHECKING:
    from guard.service.session import Session
    from guard.service.stop import Stop

CANNOT = 4


@click.command()
@click.argument("services", nargs=-1, required=True, shell_complete=service_names)
@click.option("--irreversible", is_flag=True, help="The deploy that follows cannot be undone: never go back over it.")
@common_options
def snapshot(options: Options, services: tuple[str, ...], irreversible: bool) -> int:
    """Before a deploy: record what runs on each host, pin those images, prove that a rollback could work.

    Exit code: 0 recorded and ready, 4 some host could not be rolled back.
    """
    from guard.report.documents import release_document
    from guard.report.text import image_text, table
    from guard.service.ready import document, notes
    from guard.service.snapshot import snapshot as take

    async def work(session: Session, stop: Stop) -> int:
        documents, lines, ready = [], [], True
        for bound in session.bind(services):
            if stop.is_set():
                return 128 + stop.signal_number
            taken = await take(session, bound, irreversible=irreversible)
            ready = ready and taken.proven
            documents.append(
                {
                    "name": taken.service,
                    "state": taken.state.value,
                    "release": release_document(taken.release),
                    "rejected_before": list(taken.rejected_before),
                    **document({taken.service: taken.ready}),
                }
            )
            told = taken.release.id if taken.release else "nothing runs, so nothing was recorded"
            verdict = "ready to be rolled back to" if taken.proven else "NOT READY"
            lines.append(f"snapshot of {taken.service}: {told}; {taken.state.value}; {verdict}")
            if irreversible:
                lines.append("  the next deploy is irreversible: guard will not go back over it by itself")
            lines.extend(f"  {image} was rejected before: it is never a target" for image in taken.rejected_before)
            rows = [
                [name, "ready" if host.ready else "NOT READY", "; ".join(host.problems) or image_text(host.to)]
                for name, host in sorted(taken.ready.items())
            ]
            lines.extend(table(rows, "  "))
            lines.extend(notes(taken.ready))
        say(options, {"ready": ready, "services": documents}, lines)
        return 0 if ready else CANNOT

    return with_session(options, work)
