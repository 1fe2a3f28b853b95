"""``guard unhold``: end a hold."""

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
def unhold(options: Options, service: str) -> None:
    """End the hold of SERVICE. Without one there is nothing to do, and that is no error."""

    async def work(session: Session, stop: Stop) -> None:  # noqa: ARG001 - nothing here takes long
        session.config.service(service)
        was_held = session.store.clear_hold(service, session.clock.now())
        told = f"{service} is no longer held" if was_held else f"{service} was not held"
        say(options, {"service": service, "was_held": was_held}, [told])

    with_session(options, work)
