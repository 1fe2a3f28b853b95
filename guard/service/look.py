"""Looking at the hosts before deciding: what runs, and which images are there. Nothing is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from guard.decide import reference
from guard.decide.swarm import known_as, manager_of
from guard.errors import EngineDown, EngineError, EngineUnreachable
from guard.model import ContainerFacts, Host, HostFacts, Image, LocalImage, Release
from guard.ports import Engine
from guard.service.session import Bound, Session

LOOK_DEADLINE_S = 20.0
MOST_RECORDED = 20
NO_DATE = datetime.fromtimestamp(0, UTC)  # of an image that is only known by name: older than any other


async def look(
    session: Session, bound: Bound, releases: Sequence[Release] = (), wanted: str | None = None
) -> dict[str, HostFacts]:
    """Facts of every host of the service at once. A host that cannot be looked at says so in ``problem``.

    Of a Swarm service's hosts only the manager that was asked is in it, see ``manager_of``.

    Besides the repository's images, it looks for those in ``releases`` (a recorded image may have lost its tag) and
    for the reference ``wanted``.
    """
    recorded = {
        host.name: [r.hosts[host.name].image_id for r in releases if host.name in r.hosts][:MOST_RECORDED]
        for host in bound.hosts
    }
    also = {name: [*ids, wanted] if wanted else ids for name, ids in recorded.items()}
    found = await asyncio.gather(*(_look_at(session, bound, host, also[host.name]) for host in bound.hosts))
    return {facts.host: facts for facts in ((manager_of(found),) if bound.swarm else found)}


async def _look_at(session: Session, bound: Bound, host: Host, also: Sequence[str]) -> HostFacts:
    unit = bound.unit_on(host)
    try:
        async with asyncio.timeout(LOOK_DEADLINE_S):
            engine = session.engines.on(bound.engine_host(host))
            running = await engine.running(unit)
            images = await _images(engine, running)
            here = [running.image.image_id] if running is not None and not bound.swarm else []
            images = await _with(engine, images, [*here, *also])  # its tag may have moved; its labels count
            if bound.swarm and running is not None:
                images = _known_to_swarm(images, reference.repository(running.image.image), also)
    except (EngineUnreachable, EngineDown) as error:  # nothing can be learnt or done there now, whatever the reason
        return HostFacts(host.name, str(unit), problem=error.message, unreachable=True)
    except EngineError as error:
        problem = f"{error.message}; {error.hint}" if error.hint else error.message
        return HostFacts(host.name, str(unit), problem=problem)
    except TimeoutError:
        problem = f"{host.name} did not answer within {LOOK_DEADLINE_S:g} s"
        return HostFacts(host.name, str(unit), problem=problem, unreachable=True)
    return HostFacts(host.name, running.name if running else str(unit), _named(running, images), images)


async def _images(engine: Engine, running: ContainerFacts | None) -> tuple[LocalImage, ...]:
    """All images of the running one's repository; found through its tags when the container only names an ID."""
    if running is None:
        return ()
    name = reference.repository(running.image.image)
    if not name or reference.looks_like_id(running.image.image):
        image = await engine.image(running.image.image_id)
        name = next((reference.repository(tag) for tag in image.tags), "") if image else ""
    return await engine.images(name) if name else ()


async def _with(engine: Engine, images: tuple[LocalImage, ...], also: Sequence[str]) -> tuple[LocalImage, ...]:
    known = {image.image_id for image in images}
    more = []
    for wanted in dict.fromkeys(also):
        if wanted and wanted not in known:
            image = await engine.image(wanted)
            if image is not None and image.image_id not in known:
                known.add(image.image_id)
                more.append(image)
    return (*images, *more)


def _known_to_swarm(images: tuple[LocalImage, ...], repository: str, also: Sequence[str]) -> tuple[LocalImage, ...]:
    """Under their registry's digests, and what was asked for by digest too: any node can fetch that by itself."""
    known = tuple(known_as(image, repository) for image in images)
    asked = {name.partition("@")[2]: name for name in also if "@" in name}
    missing = {digest: name for digest, name in asked.items() if digest not in {image.image_id for image in known}}
    return (*known, *(LocalImage(digest, (), (name,), NO_DATE) for digest, name in missing.items()))


def _named(running: ContainerFacts | None, images: tuple[LocalImage, ...]) -> ContainerFacts | None:
    """Give the running image its registry digest, and a readable name when the container only knows an ID."""
    if running is None:
        return None
    local = next((image for image in images if image.image_id == running.image.image_id), None)
    if local is None:
        return running
    name = running.image.image
    if name.startswith("sha256:") or reference.looks_like_id(name):
        plain = [tag for tag in local.tags if not reference.is_guard_tag(tag)]
        name = plain[0] if plain else name
    digest = running.image.digest or (local.digests[0] if local.digests else None)
    image = Image(name, running.image.image_id, digest)
    return replace(running, image=image)
