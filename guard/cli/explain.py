"""``guard explain``: why it was decided so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from guard.cli.options import Options, common_options
from guard.cli.running import say, with_session

if TYPE_CHECKING:
    from guard.service.session import Session
    from guard.service.stop import Stop


@click.command()
@click.argument("id_", metavar="ID")
@common_options
def explain(options: Options, id_: str) -> None:
    """Why a gate or a rollback was decided so: what was observed, the counters, every rule and its answer.

    ID is of a gate or a rollback (guard history lists them, refused ones too), or the name of a service: then its
    latest decision. Nothing is measured, and no host is asked.
    """
    from guard.report.explain import explain_document, explain_text
    from guard.service.explain import explain as put_together

    async def work(session: Session, stop: Stop) -> None:  # noqa: ARG001 - nothing here takes long
        told = put_together(session.store, session.config, id_)
        say(options, explain_document(told), explain_text(told))

    with_session(options, work, read_only=True)
