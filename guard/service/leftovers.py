"""What a rollback that was armed in advance has left on hosts, because guard and its run died: taken back here."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from guard.model import Host
from guard.rollback import workdir
from guard.rollback.armed import leftovers
from guard.rollback.run import RunHandle, adopt, start
from guard.rollback.workdir import RunSpec, run_folder
from guard.service.session import Bound, Session


@dataclass(frozen=True, slots=True)
class Swept:
    """``hosts`` took back what was prepared there; ``left`` is how many armed runs still have something somewhere."""

    hosts: tuple[str, ...]
    left: int


async def sweep(session: Session, bound: Bound, fence: Callable[[str], Awaitable[int]]) -> Swept:
    """Take back what dead armed runs of this service had prepared. What fails is tried the next time.

    A run that is alive is somebody's, and one with a record was given the word: neither is touched. ``fence`` gives
    the service's newest; a host leaves alone what another run has prepared or swapped since, so no lease is needed.
    """
    cleared: list[str] = []
    left = 0
    for folder in await asyncio.to_thread(_left_by, session, bound.name):
        if isinstance(await adopt(folder), RunHandle):
            continue
        hosts = await _discard(session, bound, folder, await fence(bound.name))
        if hosts is None:
            session.log.warning("what was prepared is not taken back everywhere yet", service=bound.name)
            left += 1
            continue
        await asyncio.to_thread(workdir.remove, folder)
        session.log.info("taken back what an armed rollback had prepared", service=bound.name, hosts=hosts)
        cleared += hosts
    return Swept(tuple(cleared), left)


def _left_by(session: Session, service: str) -> list[Path]:
    found = []
    for folder in leftovers(session.state_dir):
        whose = _service_of(folder)
        if whose is None:
            workdir.remove(folder)  # nothing was ever started from it
        elif whose == service and session.store.rollback(folder.parent.name) is None:
            found.append(folder)
    return found


def _service_of(folder: Path) -> str | None:
    plans = _plans_of(folder)
    return next((str(plan["service"]) for plan in plans.values()), None)


def _plans_of(folder: Path) -> dict[str, dict[str, object]]:
    """What the run's hosts were told, as ``run.json`` has it; nothing when it can't be read."""
    try:
        plans = json.loads((folder / workdir.RUN).read_text())["variables"]["guard_plans"]
        return {str(host): dict(plan) for host, plan in plans.items() if "service" in plan}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


async def _discard(session: Session, bound: Bound, folder: Path, fence: int) -> list[str] | None:
    """The hosts, or None when one of them did not do it. A host that left the inventory is left alone."""
    names = workdir.read_asked(folder).hosts
    hosts = tuple(host for host in bound.hosts if host.name in names)
    if not hosts:
        return []
    spec = RunSpec(
        folder=run_folder(session.state_dir, folder.parent.name, f"discard-{secrets.token_hex(3)}"),
        playbook=session.catalog.resolve(bound.config.rollback.playbook),
        entry="discard",
        hosts=hosts,
        variables={"guard_plans": {host.name: _plan(session, bound, host, folder, fence) for host in hosts}},
        secrets=tuple(session.config.secrets),
        timeout_s=120.0,
    )
    handle = await start(spec)
    await handle.wait(lambda _: None)
    # Nothing is ignored in that playbook, so 0 says that every host it ran on has done it.
    done = handle.result is not None and handle.result.rc == 0
    everywhere = all(one.seen for one in handle.progress().values())
    await asyncio.to_thread(workdir.remove, spec.folder)
    return [host.name for host in hosts] if done and everywhere else None


def _plan(session: Session, bound: Bound, host: Host, folder: Path, fence: int) -> dict[str, object]:
    """The unit is named as it was when it was prepared: what is there now may be another."""
    told = _plans_of(folder).get(host.name, {})
    return {
        **{key: told[key] for key in ("container", "compose", "swarm") if key in told},
        "service": bound.name,
        "engine": session.engine_address(bound, host),
        "run_id": folder.parent.name,
        "fence": fence,
    }
