"""Keeping the past bounded: artifacts by count and age, observations folded by age and number. An unfinished
run is never deleted, but what a killed one left that may hold secrets is.
"""

from __future__ import annotations

import asyncio

from guard.errors import GuardError
from guard.rollback.artifacts import scrub_dead
from guard.rollback.workdir import prune
from guard.service.session import Session


async def tidy(session: Session) -> None:
    """Delete what is beyond the configured retention. A failure is logged: tidying never stops the work."""
    kept = session.config.retention
    now = session.clock.now()
    try:
        unfinished = {rollback.id for rollback in await asyncio.to_thread(session.store.unfinished)}
        scrubbed = await asyncio.to_thread(scrub_dead, session.state_dir)
        deleted = await asyncio.to_thread(prune, session.state_dir, kept.runs, kept.days, unfinished, now.timestamp())
        folded = await asyncio.to_thread(session.store.fold, now, kept.observations_days, kept.observations)
        rows = await asyncio.to_thread(session.store.prune, now, kept.days)
    except (GuardError, OSError) as error:
        session.log.warning("could not delete old records", error=str(error))
        return
    if scrubbed:
        session.log.info("removed what a killed run had left", runs=list(scrubbed))
    if deleted or rows or folded:
        session.log.info("deleted old records", runs=len(deleted), observations=rows, folded=folded)
