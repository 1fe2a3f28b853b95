"""``guard hold``: freeze a service."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from guard.cli.complete import service_names
from guard.cli.options import Options, common_options
from guard.cli.running import duration, say, with_session

if TYPE_CHECKING:
    from guard.service.session import Session
    from guard.service.stop import Stop


@click.command()
@click.argument("service", shell_complete=service_names)
@click.option("--for", "for_", required=True, metavar="DURATION", help="How long, such as 2h.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; shown wherever the hold stops a rollback.")
@common_options
def hold(options: Options, service: str, for_: str, reason: str) -> None:
    """Freeze SERVICE: it is watched on, but not rolled back until the hold ends."""
    from guard.model import Hold
    from guard.report.documents import hold_document
    from guard.report.text import clock_text
    from guard.service.session import author

    seconds = duration("--for", for_) or 0.0

    async def work(session: Session, stop: Stop) -> None:  # noqa: ARG001 - nothing here takes long
        session.config.service(service)
        now = session.clock.now()
        made = Hold(service, reason, author(os.environ), now, now + timedelta(seconds=seconds))
        session.store.set_hold(made)
        say(options, {"hold": hold_document(made)}, [f"{service} is held until {clock_text(made.until)}: {reason}"])

    with_session(options, work)
