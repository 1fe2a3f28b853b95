"""``guard resume``: finish what a crash or an unreachable host left unfinished."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from guard.cli.options import Options, common_options
from guard.cli.running import say, with_session
from guard.errors import UsageError
from guard.model import HostState, Rollback, RollbackOutcome

if TYPE_CHECKING:
    from guard.service.session import Session
    from guard.service.stop import Stop

STILL_UNFINISHED = 5


@click.command()
@click.argument("id_", metavar="[ID]", required=False)
@common_options
def resume(options: Options, id_: str | None) -> int:
    """Finish rollbacks that a crash or an unreachable host left unfinished (all, or the one with that ID).

    Exit code: 0 done, 5 something is still unfinished, 75 another guard holds the service.
    """
    from guard.cli.lines import TextLines
    from guard.report.documents import rollback_document
    from guard.service.events import nobody
    from guard.service.leftovers import sweep
    from guard.service.resume import finish, resumable

    async def work(session: Session, stop: Stop) -> int:
        ended: list[Rollback] = []
        taken_back: dict[str, list[str]] = {}
        prepared = 0
        for bound in session.bind(()):
            if id_ is None:
                swept = await sweep(session, bound, lambda name: asyncio.to_thread(session.store.next_fence, name))
                prepared += swept.left
                if swept.hosts:
                    taken_back[bound.name] = list(swept.hosts)
            for rollback in await resumable(session, bound.name):
                if id_ in (None, rollback.id):
                    ended.extend(await finish(session, bound, rollback, stop))
        if id_ is not None and not ended:
            known = session.store.rollback(id_)
            if known is None:
                raise UsageError(f"no rollback {id_!r} is on record", hint="guard history lists them")
        lines = [f"{name}: taken back what was prepared on {', '.join(hosts)}" for name, hosts in taken_back.items()]
        if prepared:
            lines.append("something that was prepared is not taken back everywhere yet: run guard resume again")
        if not (ended or lines):
            lines = ["nothing to resume"]
        documents = [rollback_document(rollback) for rollback in ended]
        say(options, {"rollbacks": documents, "taken_back": taken_back}, lines)
        left = [
            r
            for r in ended
            if r.outcome is not RollbackOutcome.RESTORED
            or any(h.state is HostState.UNREACHABLE for h in r.hosts.values())
        ]
        return STILL_UNFINISHED if left or prepared else 0

    return with_session(options, work, tell=nobody if options.json else TextLines())
