"""Which image must run where, while a gate judges it or a rollback verifies it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from guard.config.schema import DockerCheck, ServiceConfig, SwarmTarget
from guard.model import Host, HostFacts, Image, Release, ReleaseState
from guard.service import past
from guard.service.session import Bound, UnderTest
from tests.fakes import container_facts

OLD, NEW, OTHER = Image("web:1", "sha256:old"), Image("web:2", "sha256:new"), Image("web:3", "sha256:other")
HOSTS = (Host("a"), Host("b"))


def service(**more: Any) -> Bound:
    return Bound(ServiceConfig(name="web", hosts="all", checks=(DockerCheck(),), **more), HOSTS, False)


def test_each_host_has_its_own_image_and_other_hosts_may_run_anything() -> None:
    board = UnderTest()
    board.expect(service(), {"a": NEW})
    assert (board.image("web", "a"), board.image("web", "b"), board.image("db", "a")) == (NEW, None, None)


def test_a_check_without_a_host_expects_what_all_hosts_have_in_common() -> None:
    board = UnderTest()
    assert board.image("web", "") is None
    board.expect(service(), {"a": NEW, "b": replace(NEW, image="web:two")})
    assert board.image("web", "") == NEW
    board.expect(service(), {"a": NEW, "b": OLD})
    assert board.image("web", "") is None


def test_a_new_expectation_replaces_the_whole_of_the_earlier_one() -> None:
    board = UnderTest()
    board.expect(service(), {"a": NEW, "b": NEW})
    board.expect(service(), {"a": OLD})
    assert (board.image("web", "a"), board.image("web", "b")) == (OLD, None)
    board.forget(service())
    assert board.image("web", "a") is None


def test_a_swarm_service_is_one_thing_whichever_manager_was_asked() -> None:
    board = UnderTest()
    board.expect(service(swarm=SwarmTarget(service="web")), {"b": NEW})
    assert (board.image("web", "a"), board.image("web", "b"), board.image("web", "")) == (NEW, NEW, NEW)


def went_back(runs: Image, old: Release) -> frozenset[str]:
    facts = {"a": HostFacts("a", "web", container_facts(image=runs)), "b": HostFacts("b", "web", problem="away")}
    return past.went_back({"a": NEW, "b": None}, facts, (old,))


def test_only_a_good_release_that_came_back_is_left_in_peace() -> None:
    good = Release("rel-1", "web", ReleaseState.GOOD, "gate", datetime(2026, 11, 1, tzinfo=UTC), {"a": OLD}, None)
    assert went_back(OLD, good) == {"a"}
    assert went_back(OLD, replace(good, state=ReleaseState.CANDIDATE, healthy=True)) == {"a"}
    assert went_back(OLD, replace(good, state=ReleaseState.CANDIDATE)) == frozenset(), "it was never proven"
    assert went_back(OLD, replace(good, state=ReleaseState.REJECTED, healthy=True)) == frozenset()
    assert went_back(NEW, good) == frozenset(), "the release under test runs"
    assert went_back(OTHER, good) == frozenset(), "another deploy is rolled back on its own account"
