"""What the docker check makes of what it sees, look by look."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from guard.checks.docker import SETTLE_S, DockerProbe
from guard.checks.site import Site
from guard.config.schema import DockerCheck
from guard.errors import EngineDown, EngineError, EngineUnreachable
from guard.model import ContainerFacts, ContainerUnit, Host, Image, Measurement, State, SwarmUnit, TaskFacts
from tests.fakes import FakeEngine, FakeEngines, container_facts, run_virtually

NOW = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)


def looks(*facts: ContainerFacts | EngineError | None, every_s: float = 1.0) -> list[Measurement]:
    async def main() -> list[Measurement]:
        engine = FakeEngine()
        probe = DockerProbe(FakeEngines({"": engine}), None, ContainerUnit("web"), 5.0, lambda: NOW)
        measured = []
        for seen in facts:
            engine.problem = seen if isinstance(seen, EngineError) else None
            engine.containers = {"web": seen} if isinstance(seen, ContainerFacts) else {}
            measured.append(await probe.measure())
            await asyncio.sleep(every_s)
        return measured

    return run_virtually(main())


def states(*facts: ContainerFacts | EngineError | None, every_s: float = 1.0) -> str:
    """One letter a look: Healthy, Degraded, Unhealthy; unknown is ?"""
    letters = {State.UNKNOWN: "?", State.HEALTHY: "H", State.DEGRADED: "D", State.UNHEALTHY: "U"}
    return "".join(letters[measured.state] for measured in looks(*facts, every_s=every_s))


SINGLE: dict[str, tuple[dict[str, Any], State, str]] = {
    "running": ({}, State.HEALTHY, "container web runs"),
    "healthy": ({"health": "healthy"}, State.HEALTHY, "container web is healthy"),
    "starting": ({"health": "starting"}, State.DEGRADED, "its health check has not answered yet"),
    "unhealthy": ({"health": "unhealthy"}, State.UNHEALTHY, "is unhealthy by its own health check"),
    "paused": ({"status": "paused"}, State.UNHEALTHY, "is paused"),
    "restarting": ({"status": "restarting", "restart_count": 4}, State.UNHEALTHY, "is restarting (4 restarts in all)"),
    "exited": ({"status": "exited", "exit_code": 3}, State.UNHEALTHY, "exited with code 3"),
    "exited, and once healthy": ({"status": "exited", "health": "healthy"}, State.UNHEALTHY, "exited with code 0"),
    "killed for memory": (
        {"status": "exited", "exit_code": 137, "oom_killed": True},
        State.UNHEALTHY,
        "was killed for want of memory (exit code 137)",
    ),
    "a worker killed for memory": ({"oom_killed": True}, State.UNHEALTHY, "had a process killed for want of memory"),
    "created": ({"status": "created", "error": "port is taken"}, State.UNHEALTHY, "never started: port is taken"),
    "a status nobody knows": ({"status": "limbo"}, State.UNHEALTHY, "is limbo"),
    "restarted long ago": ({"restart_count": 3}, State.HEALTHY, "runs"),
    "restarted just now, at the first look": (
        {"restart_count": 3, "started_at": "2026-11-01T11:59:50.5Z"},
        State.DEGRADED,
        "started again 10 s ago (3 restarts in all)",
    ),
    "a host whose clock is ahead": ({"restart_count": 3, "started_at": "2026-11-01T12:30:00Z"}, State.HEALTHY, "runs"),
    "a start time nobody can read": ({"restart_count": 3, "started_at": "soon"}, State.HEALTHY, "runs"),
}


@pytest.mark.parametrize("name", SINGLE)
def test_one_look(name: str) -> None:
    changes, state, reason = SINGLE[name]
    [measured] = looks(container_facts(**changes))
    assert measured.state is state, measured
    assert reason in measured.reason


def test_no_container_is_unhealthy() -> None:
    [measured] = looks(None)
    assert (measured.state, measured.reason) == (State.UNHEALTHY, "there is no container web")


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (EngineDown("down"), State.UNHEALTHY),
        (EngineUnreachable("away"), State.UNKNOWN),
        (EngineError("?"), State.UNKNOWN),
    ],
)
def test_only_an_engine_that_is_down_is_the_services_fault(error: EngineError, state: State) -> None:
    assert [measured.state for measured in looks(error)] == [state]


def test_an_engine_that_never_answers_is_unknown_in_time() -> None:
    class Stuck(FakeEngine):
        async def container(self, name: str, *, timeout_s: float | None = None) -> ContainerFacts | None:
            await asyncio.sleep(3600)
            return None

    async def main() -> tuple[Measurement, float]:
        measured = await DockerProbe(FakeEngines({"": Stuck()}), None, ContainerUnit("web"), 5.0).measure()
        return measured, asyncio.get_running_loop().time()

    measured, took = run_virtually(main())
    assert measured.state is State.UNKNOWN
    assert took <= 5.5


def restarts(count: int, started: str = "") -> ContainerFacts:
    return container_facts(restart_count=count, started_at=started or f"2026-11-01T10:{count:02}:00Z")


def test_a_restart_loop_is_never_healthy_between_its_restarts() -> None:
    counts = (0, 0, 1, 1, 1, 2, 2, 3, 3, 3)
    assert states(*map(restarts, counts)) == "HHUDDUDUDD"


def test_a_container_that_stays_up_after_a_restart_is_healthy_again() -> None:
    assert states(restarts(0), restarts(1), restarts(1), restarts(1), every_s=SETTLE_S / 2) == "HUDH"


def test_a_restart_that_the_engine_did_not_count_is_seen_by_its_start_time() -> None:
    assert states(restarts(0, "2026-11-01T10:00:00Z"), restarts(0, "2026-11-01T10:00:05Z")) == "HU"


def test_another_container_of_the_same_name_begins_anew() -> None:
    old = container_facts(restart_count=0)
    new = container_facts(container_id="c2" * 32, restart_count=0, started_at="2026-11-01T11:00:00Z")
    assert states(old, new, new) == "HHH"


def test_a_look_that_failed_does_not_hide_a_restart() -> None:
    assert states(restarts(0), EngineUnreachable("away"), restarts(1)) == "H?U"


def test_a_worker_killed_for_memory_counts_once_and_is_not_forgotten() -> None:
    killed = container_facts(oom_killed=True)
    assert states(container_facts(), killed, killed, container_facts()) == "HUDH"


def test_evidence_says_what_was_seen_in_one_printable_line_each() -> None:
    [measured] = looks(container_facts(health="unhealthy", health_log="\x1b[1mcurl:\n(7) failed" + "x" * 500))
    assert measured.evidence["status"] == "running"
    assert measured.evidence["image"] == "web:1.0.0"
    assert measured.evidence["health_log"].startswith("[1mcurl: (7) failed")
    assert len(measured.evidence["health_log"]) < 210


TASKS: dict[str, tuple[TaskFacts, State, str]] = {
    "all run": (TaskFacts(2, 2), State.HEALTHY, "service web is whole: 2 of 2 tasks run"),
    "an update goes on": (TaskFacts(1, 2, update="updating"), State.DEGRADED, "is on its way: 1 of 2 tasks run"),
    "they start": (TaskFacts(0, 2, starting=True), State.DEGRADED, "is on its way: 0 of 2 tasks run"),
    "one fails": (TaskFacts(1, 2, trouble="task 2: exit (3)"), State.UNHEALTHY, "1 of 2 tasks run; task 2: exit (3)"),
    "one fails in an update": (
        TaskFacts(1, 2, True, "task 2: exit (3)", "updating"),
        State.UNHEALTHY,
        "is short of tasks",
    ),
    "an update stopped": (
        TaskFacts(2, 2, update="paused", message="failure"),
        State.UNHEALTHY,
        "stopped update (failure)",
    ),
    "none starts": (TaskFacts(0, 1), State.UNHEALTHY, "is short of tasks: 0 of 1 tasks run"),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_swarm_service_is_healthy_when_as_many_tasks_run_as_it_wants(name: str) -> None:
    tasks, state, reason = TASKS[name]
    whole = tasks.running >= tasks.wanted and not tasks.update
    [measured] = looks(container_facts(tasks=tasks, status="running" if whole else "incomplete"))
    assert measured.state is state, measured
    assert reason in measured.reason
    assert measured.evidence["tasks"] == f"{tasks.running}/{tasks.wanted}"


def test_tasks_that_restart_in_a_loop_are_never_healthy_between() -> None:
    one = TaskFacts(1, 1)
    assert states(*(container_facts(tasks=one, restart_count=count) for count in (0, 1, 1, 2))) == "HUDU"


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [
        (None, EngineError("a worker"), State.HEALTHY),
        (EngineUnreachable("away"), None, State.HEALTHY),
        (EngineUnreachable("away"), EngineError("a worker"), State.UNKNOWN),
        (EngineDown("down"), EngineDown("down"), State.UNHEALTHY),
    ],
)
def test_any_manager_can_be_asked_for_a_swarm_service(
    first: EngineError | None, second: EngineError | None, state: State
) -> None:
    async def main() -> Measurement:
        engines = {"web1": FakeEngine(), "web2": FakeEngine()}
        for engine, problem in zip(engines.values(), (first, second), strict=True):
            engine.problem = problem
            engine.units = {SwarmUnit("web"): ("web",)}
            engine.containers = {"web": container_facts(tasks=TaskFacts(1, 1))}
        hosts = (Host("web1"), Host("web2"))
        return await DockerProbe(FakeEngines(engines), None, SwarmUnit("web"), 5.0, managers=hosts).measure()

    measured = run_virtually(main())
    assert measured.state is state, measured
    if state is State.UNKNOWN:
        assert "away" in measured.reason and "a worker" in measured.reason


OLD, NEW = Image("web:1.0.0", "sha256:" + "1" * 64), Image("web:1.1.0", "sha256:" + "2" * 64)
DIGEST = Image("web:1.1.0", "sha256:" + "d" * 64, "web@sha256:" + "d" * 64)
UNDER_TEST: dict[str, tuple[dict[str, Any], Image | None, State, str]] = {
    "nothing is expected": ({"image": OLD}, None, State.HEALTHY, "runs"),
    "it runs": ({"image": NEW}, NEW, State.HEALTHY, "runs"),
    "it runs under another name": ({"image": Image("web:stable", NEW.image_id)}, NEW, State.HEALTHY, "runs"),
    "another image runs": (
        {"image": OLD},
        NEW,
        State.UNHEALTHY,
        "container web runs web:1.0.0 (111111111111), not the release under test web:1.1.0 (222222222222)",
    ),
    "the tag was moved": ({"image": Image("web:1.1.0", OLD.image_id)}, NEW, State.UNHEALTHY, "not the release"),
    "another image, and healthy by itself": ({"image": OLD, "health": "healthy"}, NEW, State.UNHEALTHY, "not the"),
    "another image that is dead": ({"image": OLD, "status": "dead"}, NEW, State.UNHEALTHY, "is dead"),
    "a swarm's other image": ({"image": OLD, "tasks": TaskFacts(1, 1)}, NEW, State.UNHEALTHY, "service web runs web:1"),
    "a manager without the digest": ({"image": NEW, "tasks": TaskFacts(1, 1)}, DIGEST, State.HEALTHY, "is whole"),
    "a swarm's other digest": (
        {"image": Image("web:1.1.0", "sha256:e", "web@sha256:e"), "tasks": TaskFacts(1, 1)},
        DIGEST,
        State.UNHEALTHY,
        "not the release under test",
    ),
}


@pytest.mark.parametrize("name", UNDER_TEST)
def test_only_the_release_under_test_will_do(name: str) -> None:
    changes, should, state, reason = UNDER_TEST[name]

    async def main() -> Measurement:
        engine = FakeEngine()
        engine.containers = {"web": container_facts(**changes)}
        engines = FakeEngines({"": engine})
        return await DockerProbe(engines, None, ContainerUnit("web"), 5.0, under_test=lambda: should).measure()

    measured = run_virtually(main())
    assert measured.state is state, measured
    assert reason in measured.reason


def test_what_should_run_may_change_between_two_looks() -> None:
    async def main() -> list[State]:
        should: list[Image | None] = [None]
        engine = FakeEngine()
        engine.containers = {"web": container_facts(image=OLD)}
        site = Site(None, FakeEngines({"": engine}), ContainerUnit("web"), under_test=lambda: should[0])
        probes = [DockerProbe.build(check, site) for check in (DockerCheck(), DockerCheck(container="web"))]
        beside = DockerProbe.build(DockerCheck(container="db"), site)
        engine.containers["db"] = container_facts(image=Image("db:15", "sha256:" + "5" * 64))
        seen = []
        for should[0] in (NEW, OLD, None):
            seen += [(await probe.measure()).state for probe in probes]
            assert (await beside.measure()).state is State.HEALTHY, "a container beside the service is no release of it"
        return seen

    assert run_virtually(main()) == [State.UNHEALTHY] * 2 + [State.HEALTHY] * 4
