"""The Docker API, read only: the few answers that guard needs, translated into its own nouns.

Paths carry no API version, so an engine answers in its own newest one; the fields read here are the same in all since
1.41 (20.10), and in Podman's compatible service. Source: https://docs.docker.com/reference/api/engine/
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol
from urllib.parse import quote

import httpx

from guard.decide import reference
from guard.engines import compose, swarm
from guard.engines.bare_http import BareTransport
from guard.engines.facts import Facts, inner, number, string, strings
from guard.engines.wire import Wire
from guard.errors import EngineDown, EngineError, EngineUnreachable
from guard.model import ComposeUnit, ContainerFacts, ContainerUnit, HostMeans, Image, LocalImage, SwarmUnit, Unit

DEFAULT_TIMEOUT_S = 10.0
IRREVERSIBLE_LABEL = "deployment-guard.irreversible"  # "true" on an image: no rollback from it by itself
_BODY_LIMIT = 32 * 1024 * 1024
_SECRET_NAME = re.compile(r"pass|pwd|secret|token|key|credential|dsn|auth", re.IGNORECASE)
_SHORTEST_SECRET = 4
_EXCERPT = 500  # characters of a health check's output
_DIAGNOSIS_S = 1.0  # at most; kept back from a call's time to find out why nobody answers
_CONTAINER = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_HEX = re.compile(r"[0-9a-f]+")
_NO_REGISTRY = ("<none>", "localhost/")  # Podman's name for images that came from no registry


class Symptom(StrEnum):
    """How a request failed although the way was open."""

    SILENT = "no answer came in time"
    CLOSED = "the connection was closed without an answer"


class Way(Protocol):
    """How to reach one engine, and how to find out what is wrong when it does not answer."""

    @property
    def where(self) -> str:
        """For messages: "the engine on web1"."""

    async def dial(self) -> Wire:
        """A stream to the engine. EngineUnreachable or EngineDown."""

    async def diagnose(self, symptom: Symptom) -> EngineError:
        """The way was open, but no answer came: whose fault is it? EngineDown or EngineUnreachable."""

    async def means(self, folder: str) -> HostMeans:
        """Free space at ``folder`` on the engine's host, and the Python there."""


class DockerEngine:
    """An Engine (see ``guard.ports``) at the end of a ``Way``. Every call opens its own connection.

    Each call has one total deadline of ``timeout_s``: EngineUnreachable when the way could not be opened within it,
    EngineDown when the way is open and the engine does not answer, EngineError when it answers with an error.
    """

    def __init__(self, way: Way, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._way = way
        self._timeout_s = timeout_s

    async def container(self, name: str, *, timeout_s: float | None = None) -> ContainerFacts | None:
        if not _CONTAINER.fullmatch(name):  # such as "../version": the path must stay below /containers
            return None
        body = await self._get(f"/containers/{name}/json", timeout_s)
        if body is None:
            return None
        facts = self._mapping(body)
        # The API also finds containers by a prefix of their ID.
        return _container(facts) if string(facts, "Name").removeprefix("/") == name else None

    async def running(self, unit: Unit, *, timeout_s: float | None = None) -> ContainerFacts | None:
        match unit:
            case ContainerUnit(name):
                return await self.container(name, timeout_s=timeout_s)
            case ComposeUnit():
                return await self._of_compose(unit, timeout_s)
            case SwarmUnit():
                return await self._of_swarm(unit, timeout_s)

    async def _of_compose(self, unit: ComposeUnit, timeout_s: float | None) -> ContainerFacts | None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + (self._timeout_s if timeout_s is None else timeout_s)
        body = await self._get(f"/containers/json?all=1&filters={quote(compose.filters(unit))}", timeout_s)
        names = compose.containers(_listed(body or b"[]", self._way.where, "containers"))
        if len(names) > 1:
            where = self._way.where.removeprefix("the engine on ")
            raise EngineError(f"{unit} has {len(names)} containers on {where}", hint=compose.ONE_ONLY)
        return await self.container(names[0], timeout_s=max(0.1, ends - loop.time())) if names else None

    async def _of_swarm(self, unit: SwarmUnit, timeout_s: float | None) -> ContainerFacts | None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + (self._timeout_s if timeout_s is None else timeout_s)

        async def get(path: str) -> bytes | None:
            return await self._get(path, max(0.1, ends - loop.time()))

        info = self._mapping(await get("/info") or b"{}")
        if why := swarm.not_a_manager(info):
            raise EngineError(f"{self._way.where} {why}", hint=swarm.NO_MANAGER)
        found = await get(f"/services?status=true&filters={quote(swarm.service_query(unit))}")
        service = swarm.of_name(_listed(found or b"[]", self._way.where, "services"), unit)
        if service is None:
            return None
        listed = await get(f"/tasks?filters={quote(swarm.task_query(service))}")
        tasks = _listed(listed or b"[]", self._way.where, "tasks")
        name, digest = swarm.image_name(service)
        container_image, local = "", None
        if not digest:
            for container_id in swarm.containers_here(service, tasks, swarm.node(info)):
                if (body := await get(f"/containers/{container_id}/json")) is not None:
                    container_image = _image_id(string(self._mapping(body), "Image"))
                    break
            local = await self.image(container_image or name)
        image = swarm.image_of(name, digest, local, container_image)
        if not image.image_id and swarm.runs(service, tasks):
            untold = f"which image {unit} runs can't be told: {name} has no digest, and is not on this manager"
            raise EngineError(f"{self._way.where}: {untold}", hint=swarm.UNTOLD)
        return swarm.facts(service, tasks, image)

    async def images(self, repository: str) -> tuple[LocalImage, ...]:
        body = await self._get("/images/json")
        found = [_listed_image(item) for item in _listed(body or b"[]", self._way.where, "images")]
        of_repository = [image for image in found if _belongs(image, repository)]
        return tuple(sorted(of_repository, key=lambda image: image.created, reverse=True))

    async def image(self, reference: str) -> LocalImage | None:
        if not _is_reference(reference):  # such as "../version": the path must stay below /images
            return None
        body = await self._get(f"/images/{quote(reference, safe='/:@')}/json")
        if body is None:
            return None
        image = _inspected_image(self._mapping(body))
        # The API takes a short name of hexadecimal digits for a prefix of an ID too; that would be another image.
        is_prefix = _HEX.fullmatch(reference) and len(reference) < 12 and not _belongs(image, reference)
        return None if is_prefix else image

    async def logs(self, container: str, lines: int) -> str:
        inspected = await self._get(f"/containers/{container}/json") if _CONTAINER.fullmatch(container) else None
        if inspected is None:
            raise EngineError(f"{self._way.where} has no container {container}")
        query = f"stdout=1&stderr=1&tail={max(0, lines)}"
        body = await self._get(f"/containers/{container}/logs?{query}") or b""
        has_terminal = inner(self._mapping(inspected), "Config").get("Tty") is True
        return (body if has_terminal else _demultiplexed(body)).decode(errors="replace")

    async def pull_problem(self, digest: str) -> str | None:
        if "@" not in digest or not _is_reference(digest):
            return f"{digest} is no digest to pull by"
        try:
            body = await self._get(f"/distribution/{quote(digest, safe='/:@')}/json")
            if body is None and await self._get("/libpod/_ping") is not None:
                return None  # Podman does not ask registries for others
        except (EngineUnreachable, EngineDown):
            return f"no answer about {digest} from its registry within {self._timeout_s:g} s"
        except EngineError as error:
            return f"{digest} cannot be pulled: {error.message.partition(' answered ')[2] or error.message}"
        return "" if body is not None else f"the registry has no {digest}"

    async def means(self) -> HostMeans:
        asked = datetime.now(UTC)
        info = self._mapping(await self._get("/info") or b"{}")
        answered = datetime.now(UTC)
        folder = string(info, "DockerRootDir")
        found = HostMeans()
        if folder.startswith("/"):
            async with asyncio.timeout(self._timeout_s):
                found = await self._way.means(folder)
        ahead = _ahead(string(info, "SystemTime"), asked, answered)
        return replace(found, engine=string(info, "ServerVersion"), ahead_s=ahead)

    async def _get(self, path: str, timeout_s: float | None = None) -> bytes | None:
        """The body of a good answer, None for 404."""
        total = self._timeout_s if timeout_s is None else timeout_s
        ends = asyncio.get_running_loop().time() + total
        wire: Wire | None = None

        async def dial(_: httpx.URL) -> Wire:
            nonlocal wire
            wire = await self._way.dial()
            return wire

        try:
            async with asyncio.timeout(total - min(_DIAGNOSIS_S, total / 4)):
                response, body = await self._exchange(BareTransport(dial, _BODY_LIMIT), path)
        except TimeoutError:
            if wire is None:
                raise EngineUnreachable(f"{self._way.where} could not be reached within {total:g} s") from None
            raise await self._why(Symptom.SILENT, ends) from None
        except (OSError, httpx.TransportError) as error:
            raise await self._why(Symptom.CLOSED, ends) from error
        if response.status_code == 404:
            return None
        if response.status_code >= 400:
            raise EngineError(f"{self._way.where} answered {response.status_code}: {_complaint(body)}")
        return body

    async def _exchange(self, transport: BareTransport, path: str) -> tuple[httpx.Response, bytes]:
        response = await transport.handle_async_request(httpx.Request("GET", f"http://docker{path}"))
        try:
            parts = [part async for part in response.aiter_raw()]
        finally:
            await response.aclose()
        if response.extensions["truncated"]:
            raise EngineError(f"{self._way.where} answered more than {_BODY_LIMIT >> 20} MiB")
        return response, b"".join(parts)

    async def _why(self, symptom: Symptom, ends: float) -> EngineError:
        try:
            async with asyncio.timeout_at(ends):
                return await self._way.diagnose(symptom)
        except TimeoutError:
            return EngineUnreachable(f"{self._way.where}: {symptom}, and the way to it does not answer either")

    def _mapping(self, body: bytes) -> Facts:
        decoded = _decoded(body, self._way.where)
        if not isinstance(decoded, Mapping):
            raise EngineError(f"{self._way.where} answered JSON that is no object")
        return decoded


def _decoded(body: bytes, where: str) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise EngineError(f"{where} answered something that is not JSON") from error


def _listed(body: bytes, where: str, what: str) -> list[Facts]:
    listed = _decoded(body, where)
    if not isinstance(listed, list):
        raise EngineError(f"{where} answered something that is no list of {what}")
    return [item for item in listed if isinstance(item, Mapping)]


def _complaint(body: bytes) -> str:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    text = said.get("message") if isinstance(said, dict) else None
    return str(text or body[:_EXCERPT].decode(errors="replace")).strip()[:_EXCERPT]


def _container(facts: Facts) -> ContainerFacts:
    state = inner(facts, "State")
    health = inner(state, "Health")
    status = string(health, "Status")
    config = inner(facts, "Config")
    return ContainerFacts(
        name=string(facts, "Name").removeprefix("/"),
        container_id=string(facts, "Id"),
        image=Image(string(config, "Image") or string(facts, "ImageName"), _image_id(string(facts, "Image"))),
        status=string(state, "Status"),
        health="" if status == "none" else status,
        health_log=_without_its_secrets(_last_output(health), config),
        exit_code=number(state, "ExitCode"),
        oom_killed=state.get("OOMKilled") is True,
        restart_count=number(facts, "RestartCount"),
        started_at=string(state, "StartedAt"),
        error=string(state, "Error"),
        pin=string(inner(config, "Labels"), compose.PIN_LABEL),
    )


def _without_its_secrets(said: str, config: Mapping[str, object]) -> str:
    """What a container says, with the values masked of its environment variables that are named like a secret."""
    environment = config.get("Env")
    pairs = [str(pair).partition("=") for pair in environment] if isinstance(environment, list) else []
    for value in sorted((value for name, _, value in pairs if _SECRET_NAME.search(name)), key=len, reverse=True):
        said = said.replace(value, "********") if len(value) >= _SHORTEST_SECRET else said
    return said


def _last_output(health: Facts) -> str:
    log = health.get("Log")
    if not isinstance(log, list) or not log or not isinstance(log[-1], Mapping):
        return ""
    return string(log[-1], "Output").strip()[:_EXCERPT]


def _listed_image(facts: Facts) -> LocalImage:
    created = number(facts, "Created")
    return _image(facts, datetime.fromtimestamp(created, UTC), inner(facts, "Labels"))


def _inspected_image(facts: Facts) -> LocalImage:
    return _image(facts, _timestamp(string(facts, "Created")), inner(inner(facts, "Config"), "Labels"))


def _image(facts: Facts, created: datetime, labels: Facts) -> LocalImage:
    # "<none>:<none>" is how older engines write that there is none.
    return LocalImage(
        image_id=_image_id(string(facts, "Id")),
        tags=tuple(tag for tag in strings(facts, "RepoTags") if not tag.startswith("<none>")),
        digests=tuple(digest for digest in strings(facts, "RepoDigests") if not digest.startswith(_NO_REGISTRY)),
        created=created,
        size_bytes=number(facts, "Size"),
        irreversible=string(labels, IRREVERSIBLE_LABEL).lower() == "true",
    )


def _is_reference(text: str) -> bool:
    try:
        reference.parse(text)
    except ValueError:
        return False
    return True


def _belongs(image: LocalImage, repository: str) -> bool:
    names = (*image.tags, *image.digests)
    return any(reference.same_repository(reference.repository(name), repository) for name in names)


def _image_id(text: str) -> str:
    """Podman writes image IDs without the algorithm."""
    return f"sha256:{text}" if len(text) == 64 and _HEX.fullmatch(text) else text


def _timestamp(text: str) -> datetime:
    """RFC 3339 with any number of fractional digits; the epoch when there is none (images built reproducibly)."""
    trimmed = re.sub(r"(\.\d{6})\d+", r"\1", text)
    try:
        parsed = datetime.fromisoformat(trimmed)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _demultiplexed(body: bytes) -> bytes:
    """Join the frames of a log stream: stream number, three zeros, length (4 bytes, big endian), text."""
    parts, position = [], 0
    while position + 8 <= len(body):
        length = int.from_bytes(body[position + 4 : position + 8])
        parts.append(body[position + 8 : position + 8 + length])
        position += 8 + length
    return b"".join(parts)


def _ahead(told: str, asked: datetime, answered: datetime) -> float | None:
    """Seconds an engine's clock is ahead of the middle of question and answer; None when it told no time."""
    there = _timestamp(told) if told else None
    return None if there is None else (there - (asked + (answered - asked) / 2)).total_seconds()
