"""``guard status``: how every service stands now."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from guard.cli.complete import service_names
from guard.cli.options import Options, common_options
from guard.cli.running import say, until, with_session

if TYPE_CHECKING:
    from guard.service.session import Session
    from guard.service.stop import Stop


@click.command()
@click.argument("services", nargs=-1, shell_complete=service_names)
@common_options
def status(options: Options, services: tuple[str, ...]) -> None:
    """How things are now: checks, release, hold, maintenance and last rollback.

    Where a `guard watch` runs, its counters are shown; everything else is measured.
    """
    from guard.decide.windows import next_after, open_at
    from guard.report.documents import status_document
    from guard.report.text import status_text
    from guard.service.round import present

    async def work(session: Session, stop: Stop) -> None:
        bound = session.bind(services)
        now = await until(present(session, bound), stop)
        documents, lines = [], []
        for one in bound:
            hold = await asyncio.to_thread(session.store.hold, one.name, session.clock.now())
            rollbacks = await asyncio.to_thread(session.store.rollbacks, one.name, 1)
            releases = await asyncio.to_thread(session.store.releases, one.name)
            last = rollbacks[0] if rollbacks else None
            release = releases[0] if releases else None
            statuses = now[one.name]
            at = session.clock.now()
            opening, coming = open_at(one.config.windows, at), next_after(one.config.windows, at)
            document = status_document(
                one.name,
                statuses,
                critical=one.config.critical,
                hold=hold,
                rollback=last,
                release=release,
                maintenance=opening,
                next_maintenance=coming,
            )
            documents.append(document)
            lines.extend(status_text(one.name, statuses, hold, last, release, opening, coming))
        say(options, {"services": documents}, lines)

    with_session(options, work, read_only=True)
