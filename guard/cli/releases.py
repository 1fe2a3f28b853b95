"""``guard releases``: the ledger of a service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from guard.cli.complete import service_names
from guard.cli.options import Options, common_options
from guard.cli.running import say, with_session

if TYPE_CHECKING:
    from guard.service.session import Session
    from guard.service.stop import Stop


@click.command()
@click.argument("service", shell_complete=service_names)
@common_options
def releases(options: Options, service: str) -> None:
    """The releases of SERVICE on record, newest first: candidate, good or rejected."""
    from guard.report.documents import release_document
    from guard.report.text import releases_text

    async def work(session: Session, stop: Stop) -> None:  # noqa: ARG001 - nothing here takes long
        session.config.service(service)
        found = session.store.releases(service)
        document = {"service": service, "releases": [release_document(release) for release in found]}
        say(options, document, releases_text(found))

    with_session(options, work, read_only=True)
