"""``guard check``: one round of all checks, now."""

from __future__ import annotations

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
def check(options: Options, services: tuple[str, ...]) -> int:
    """One round of all checks, now. Exit code: 0 all healthy, 1 some unhealthy, 6 only unknown."""
    from guard.report.documents import check_document
    from guard.report.text import services_text
    from guard.service.round import exit_code, measure

    async def work(session: Session, stop: Stop) -> int:
        measured = await until(measure(session, session.bind(services)), stop)
        say(options, check_document(measured), services_text(measured))
        return exit_code(measured)

    return with_session(options, work, read_only=True)
