"""A look at the container itself: does it run, is it healthy by its own check, and does it stay up?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from guard.checks.site import SHORT_ID, Site
from guard.checks.verdict import excerpt, unhealthy, unknown
from guard.config.schema import DockerCheck
from guard.errors import ConfigError, EngineDown, EngineError
from guard.model import ContainerFacts, ContainerUnit, Host, Image, Measurement, State, SwarmUnit, TaskFacts, Unit
from guard.ports import Engines

SETTLE_S = 60.0
"""How long a container that was restarted must stay up before it is healthy again. Until then it is ``degraded``,
which keeps a row of failures from being broken: a container that dies every 15 s looks healthy in most looks."""

_STOPPED = {
    "created": "was created and never started",
    "paused": "is paused",
    "restarting": "is restarting",
    "removing": "is being removed",
    "dead": "is dead",
}


_NEVER = "0001-01-01"  # how an engine writes the start of a container that was never started


@dataclass(frozen=True, slots=True)
class _Look:
    facts: ContainerFacts
    restarted_at: float | None  # monotonic time of the look that first saw the last restart


class DockerProbe:
    def __init__(
        self,
        engines: Engines,
        host: Host | None,
        unit: Unit,
        timeout_s: float,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        managers: tuple[Host, ...] = (),
        under_test: Callable[[], Image | None] = lambda: None,
    ) -> None:
        self._engines = engines
        self._host = host
        self._unit = unit
        self._timeout_s = timeout_s
        self._wall_clock = wall_clock
        self._managers = managers  # of a Swarm service: any one of them can be asked
        self._under_test = under_test
        self._previous: _Look | None = None

    @classmethod
    def build(cls, check: DockerCheck, site: Site) -> DockerProbe:
        own = ContainerUnit(site.render(check.container, f"check {check.name}")) if check.container else None
        unit = own or site.unit
        if unit is None:
            raise ConfigError(f"check {check.name} names no container", hint="Add `container:` to it or its service.")
        if unit != site.unit:  # a container beside the service: no release of it is under test
            return cls(site.engines, site.host, unit, check.timeout)
        managers = site.hosts if own is None else ()
        return cls(site.engines, site.host, unit, check.timeout, managers=managers, under_test=site.under_test)

    async def measure(self) -> Measurement:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            # The engine keeps the deadline, for it can tell a silent engine from a silent way; this is a backstop.
            async with asyncio.timeout(self._timeout_s + 0.2):
                facts = await self._look()
        except EngineDown as error:
            return unhealthy(error.message, loop.time() - began)
        except EngineError as error:
            return unknown(error.message, {"hint": error.hint} if error.hint else None)
        except TimeoutError:
            return unknown(f"the look at {self._what} did not end within {self._timeout_s:g} s")
        now = loop.time()
        if facts is None:
            self._previous = None
            return unhealthy(f"there is no {self._what}", now - began)
        return self._judge(facts, now, now - began)

    def _judge(self, facts: ContainerFacts, now: float, latency: float) -> Measurement:
        previous = self._previous
        same = previous is not None and previous.facts.container_id == facts.container_id
        restarted = same and previous is not None and _restarted(previous.facts, facts)
        restarted_at = now if restarted else previous.restarted_at if same and previous is not None else None
        self._previous = _Look(facts, restarted_at)
        state, reason = self._verdict(facts, previous.facts if same and previous is not None else None)
        if state in (State.HEALTHY, State.DEGRADED) and restarted:
            state, reason = State.UNHEALTHY, f"restarted since the last look{_restarts(facts)}"
        elif state is State.HEALTHY and restarted_at is not None and now - restarted_at < SETTLE_S:
            state, reason = State.DEGRADED, f"restarted {now - restarted_at:.0f} s ago{_restarts(facts)}"
        should = self._under_test()
        if state in (State.HEALTHY, State.DEGRADED) and should is not None and _is_another(facts, should):
            runs, wanted = _shown(facts.image), _shown(should)
            state, reason = State.UNHEALTHY, f"runs {runs}, not the release under test {wanted}"
        kind = "container" if facts.tasks is None else "service"
        return Measurement(state, latency, f"{kind} {facts.name} {reason}", _evidence(facts))

    @property
    def _what(self) -> str:
        return f"{'service' if isinstance(self._unit, SwarmUnit) else 'container'} {self._unit}"

    async def _look(self) -> ContainerFacts | None:
        """All managers are asked at once, and the first that can say counts: one that is away delays nobody."""
        if not self._managers:
            return await self._engines.on(self._host).running(self._unit, timeout_s=self._timeout_s)
        asked = [
            asyncio.create_task(self._engines.on(host).running(self._unit, timeout_s=self._timeout_s))
            for host in self._managers
        ]
        problems: list[EngineError] = []
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    return await answer
                except EngineError as error:
                    problems.append(error)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        down = all(isinstance(error, EngineDown) for error in problems)
        told = "no manager could be asked: " + "; ".join(error.message for error in problems)
        raise EngineDown(told) if down else EngineError(told, hint=problems[0].hint)

    def _verdict(self, facts: ContainerFacts, previous: ContainerFacts | None) -> tuple[State, str]:
        if facts.tasks is not None and (facts.status != "running" or not facts.restart_count):
            return _of_tasks(facts.tasks)
        if facts.status != "running":
            return State.UNHEALTHY, _why_stopped(facts)
        if facts.health == "unhealthy":
            return State.UNHEALTHY, "is unhealthy by its own health check"
        if facts.oom_killed:
            # The engine keeps this mark until the next start: a process was killed, but not the main one.
            news = previous is None or not previous.oom_killed
            return State.UNHEALTHY if news else State.DEGRADED, "had a process killed for want of memory"
        if facts.health == "starting":
            return State.DEGRADED, "runs, and its health check has not answered yet"
        if previous is None and facts.restart_count and 0 <= (up := self._up_for(facts)) < SETTLE_S:
            return State.DEGRADED, f"started again {up:.0f} s ago{_restarts(facts)}"
        if facts.tasks is not None:
            return _of_tasks(facts.tasks)
        return State.HEALTHY, "is healthy" if facts.health == "healthy" else "runs"

    def _up_for(self, facts: ContainerFacts) -> float:
        """Seconds by guard's clock against the host's: only good for a hint, and negative when unreadable."""
        try:
            return (self._wall_clock() - datetime.fromisoformat(facts.started_at[:19] + "+00:00")).total_seconds()
        except ValueError:
            return -1.0


def _is_another(facts: ContainerFacts, should: Image) -> bool:
    """By image ID. A Swarm manager that has no digest for an image knows it by another ID: that alone says nothing."""
    image = facts.image
    if image.image_id == should.image_id:
        return False
    told_apart = (image.digest is None) == (should.digest is None) or image.image != should.image
    return facts.tasks is None or (bool(image.image_id) and told_apart)


def _shown(image: Image) -> str:
    return f"{image.image} ({image.image_id.removeprefix('sha256:')[:SHORT_ID]})"


def _of_tasks(tasks: TaskFacts) -> tuple[State, str]:
    """Healthy: as many tasks run as are wanted. Fewer are bad, unless all goes well so far."""
    told = f"{tasks.running} of {tasks.wanted} tasks run"
    if tasks.update in ("paused", "rollback_paused"):
        return State.UNHEALTHY, f"has a stopped update ({excerpt(tasks.message)}): {told}" + _because(tasks)
    if tasks.running >= tasks.wanted:
        return State.HEALTHY, f"is whole: {told}"
    if not tasks.trouble and (tasks.starting or tasks.update in ("updating", "rollback_started")):
        return State.DEGRADED, f"is on its way: {told}"
    return State.UNHEALTHY, f"is short of tasks: {told}" + _because(tasks)


def _because(tasks: TaskFacts) -> str:
    return f"; {excerpt(tasks.trouble)}" if tasks.trouble else ""


def _restarted(before: ContainerFacts, now: ContainerFacts) -> bool:
    first_start = before.started_at.startswith(_NEVER)  # it was only created at the last look
    return now.restart_count > before.restart_count or (now.started_at != before.started_at and not first_start)


def _restarts(facts: ContainerFacts) -> str:
    return f" ({facts.restart_count} restarts in all)" if facts.restart_count else ""


def _why_stopped(facts: ContainerFacts) -> str:
    if facts.oom_killed:
        return f"was killed for want of memory (exit code {facts.exit_code}){_restarts(facts)}"
    if facts.status == "exited":
        reason = f"exited with code {facts.exit_code}"
    else:
        reason = _STOPPED.get(facts.status, f"is {facts.status}")
    return reason + _restarts(facts) + (f": {excerpt(facts.error)}" if facts.error else "")


def _evidence(facts: ContainerFacts) -> dict[str, str]:
    evidence = {
        "status": facts.status,
        "health": facts.health,
        "health_log": excerpt(facts.health_log) if facts.health != "healthy" else "",
        "image": facts.image.image,
        "image_id": facts.image.image_id,
        "container_id": facts.container_id[:12],
        "started_at": facts.started_at,
        "restart_count": str(facts.restart_count),
        "tasks": f"{facts.tasks.running}/{facts.tasks.wanted}" if facts.tasks is not None else "",
        "update": facts.tasks.update if facts.tasks is not None else "",
        "exit_code": str(facts.exit_code) if facts.status != "running" else "",
    }
    return {key: value for key, value in evidence.items() if value}
