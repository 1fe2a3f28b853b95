"""Which facts of a host stand in the way of a rollback, and which are only told."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from guard.model import ContainerUnit, Host, HostMeans, Image, LocalImage, Release, ReleaseState
from guard.service.ready import HostReadiness, readiness
from tests.fakes import FakeEngine, FakeEngines, container_facts

AT = datetime(2026, 11, 1, tzinfo=UTC)
GOOD, BAD = Image("reg:5/web:1", "sha256:1", "reg:5/web@sha256:" + "1" * 64), Image("reg:5/web:2", "sha256:2")
RELEASES = (
    Release("r2", "web", ReleaseState.CANDIDATE, "watch", AT, {"web1": BAD}, None),
    Release("r1", "web", ReleaseState.GOOD, "snapshot", AT, {"web1": GOOD}, True),
)


def ready(engine: FakeEngine) -> HostReadiness:
    store = SimpleNamespace(releases={"web": RELEASES}.get)
    session = SimpleNamespace(store=store, engines=FakeEngines({"web1": engine}))
    bound = SimpleNamespace(
        name="web", hosts=(Host("web1"),), config=SimpleNamespace(rollback=SimpleNamespace(fallback="none")),
        unit_on=lambda _: ContainerUnit("web"), swarm=False, engine_host=lambda host: host,
    )  # fmt: skip
    return asyncio.run(readiness(cast(Any, session), cast(Any, bound)))["web1"]


@pytest.fixture
def engine() -> FakeEngine:
    """Runs the bad image; the good one is gone from the host and can be pulled."""
    made = FakeEngine()
    made.containers["web"] = container_facts(image=BAD)
    made.stock = [LocalImage("sha256:2", ("reg:5/web:2",), (), AT, 500 << 20)]
    made.pull_problems[GOOD.digest or ""] = ""
    return made


def test_an_image_that_can_be_pulled_is_ready(engine: FakeEngine) -> None:
    assert ready(engine) == HostReadiness("web1", True, GOOD)


def test_an_image_that_cannot_be_pulled_is_not(engine: FakeEngine) -> None:
    engine.pull_problems[GOOD.digest or ""] = "the registry is down"
    assert "the registry is down" in ready(engine).problems[0]


def test_what_cannot_be_found_out_is_told_and_does_not_stand_in_the_way(engine: FakeEngine) -> None:
    engine.pull_problems[GOOD.digest or ""] = None
    engine.has = HostMeans()
    told = ready(engine)
    assert (told.ready, told.problems) == (True, ())
    assert told.notes == (
        "reg:5/web:1 is not on the host, and this engine cannot ask its registry beforehand",
        "free disk space: unknown",
    )


@pytest.mark.parametrize(
    ("here", "means", "problem"),
    [
        (False, HostMeans(499 << 20, (3, 11)), "499 MiB are free for the engine, too little for the image"),
        (False, HostMeans(501 << 20, (3, 11)), ""),
        (True, HostMeans(499 << 20, (3, 11)), ""),
        (True, HostMeans(63 << 20, (3, 11)), "63 MiB are free for the engine, too little for a container"),
        (True, HostMeans(None, (3, 7)), "Python 3.7 on the host, where the playbook needs 3.8"),
        (True, HostMeans(None, (0, 0)), "no Python on the host"),
        (True, HostMeans(None, (3, 8)), ""),
    ],
)
def test_room_and_python_are_enough_or_named(engine: FakeEngine, here: bool, means: HostMeans, problem: str) -> None:
    if here:
        engine.stock.append(LocalImage("sha256:1", ("reg:5/web:1",), (), AT, 500 << 20))
    engine.has = means
    told = ready(engine)
    assert told.ready is not bool(problem)
    assert problem in "".join(told.problems)
