"""What is not rolled back is on record with every rule's answer: watch and gate over fakes, nothing is ever started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from guard.config.schema import GuardConfig, ServiceConfig
from guard.decide import watch as deciding
from guard.decide.policy import RULES
from guard.decide.thresholds import Thresholds
from guard.model import Gate, Image, LocalImage, Measurement, Observation, Release, ReleaseState, Rollback, State
from guard.model import TargetKey as Key
from guard.rollback.catalog import Catalog
from guard.schedule import ScheduledTarget
from guard.service import watch as watching
from guard.service.events import Event, Kind
from guard.service.gate import GateOrder, GateRun
from guard.service.session import Bound, Session, local_host
from guard.service.stop import Stop
from guard.wiring import SystemClock
from tests.fakes import FakeEngine, FakeEngines, FakeProbe, container_facts
from tests.fakes_store import MemoryStore

OLD, BAD = Image("web:1.0.0", "sha256:old"), Image("web:1.1.0", "sha256:bad")
UNHEALTHY = Measurement(State.UNHEALTHY, 0.01, "answered 500")
KEY = Key("web", "docker", "localhost")


@dataclass
class Scene:
    """One service ``web`` on this machine that runs the bad image and fails every check."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    irreversible: bool = False
    store: MemoryStore = field(default_factory=MemoryStore)
    told: list[Event] = field(default_factory=list)
    probe: FakeProbe = field(default_factory=lambda: FakeProbe(UNHEALTHY))

    def session(self) -> Session:
        config = ServiceConfig.model_validate({"name": "web", "checks": [{"type": "docker"}], **self.settings})
        engine, at = FakeEngine(), SystemClock().now() - timedelta(days=1)
        engine.containers["web"] = container_facts(image=BAD)
        engine.stock = [
            LocalImage("sha256:bad", ("web:1.1.0",), (), at, 1000, self.irreversible),
            LocalImage("sha256:old", ("web:1.0.0",), (), at, 1000),
        ]
        target = ScheduledTarget(KEY, self.probe, 0.02, 0.5, Thresholds())
        return Session(
            config=GuardConfig(services=(config,)),
            state_dir=self.folder,
            inventory=cast(Any, None),
            store=self.store,
            engines=FakeEngines({"": engine}),
            catalog=Catalog(),
            clock=SystemClock(),
            log=structlog.get_logger(),
            holder="this guard",
            build_targets=lambda _bound, _engines: [target],
            environ={},
            tell=self.told.append,
        )

    def bound(self, session: Session) -> Bound:
        return Bound(session.config.services[0], (local_host(),), True)

    def gate(self, for_s: float = 5.0) -> Gate:
        async def run() -> Gate:
            session = self.session()
            async with asyncio.timeout(20):
                return await GateRun(session, [self.bound(session)], GateOrder(for_s), Stop()).run()

        return asyncio.run(run())

    def watch(self, until: Callable[[], bool]) -> list[Rollback]:
        """What a watch has put on record by the time that ``until`` is true, oldest first."""

        async def run() -> None:
            session, stop = self.session(), Stop()
            task = asyncio.create_task(watching.Watch(session, [self.bound(session)], stop).run())
            async with asyncio.timeout(20):
                while not until() and not task.done():
                    await asyncio.sleep(0.01)
            stop.set()
            await task

        asyncio.run(run())
        return list(self.store.rollbacks("web"))[::-1]

    def failures(self) -> int:
        return sum(event.kind is Kind.OBSERVATION for event in self.told)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "ASK_AGAIN_S", 0.05)


def said_no(rollback: Rollback) -> list[str]:
    assert [answer.rule for answer in rollback.answers] == list(RULES)
    return [answer.rule for answer in rollback.answers if not answer.allows]


def test_a_service_that_is_not_critical_is_recorded_once_with_every_answer(scene: Scene) -> None:
    scene.settings = {"critical": False, "rollback": {"fallback": "none"}}
    records = scene.watch(lambda: scene.failures() > 50)
    assert [said_no(record) for record in records] == [["critical", "target_known"]]
    assert [event.kind for event in scene.told].count(Kind.NOT_CRITICAL) == 1


def test_another_guards_lock_is_recorded_once_as_an_answer(scene: Scene) -> None:
    scene.irreversible = True
    scene.store.acquire("web", "another guard", 600.0)
    records = scene.watch(lambda: scene.failures() > 50)
    assert [said_no(record) for record in records] == [["irreversible", "lock"]]
    assert "another guard" in records[0].reason


def test_it_is_recorded_again_when_other_rules_say_no(scene: Scene) -> None:
    scene.irreversible = True
    lease = scene.store.acquire("web", "another guard", 600.0)

    def until() -> bool:
        if scene.store.rollbacks("web"):
            scene.store.release(lease)
        return len(scene.store.rollbacks("web")) > 1

    assert [said_no(record) for record in scene.watch(until)] == [["irreversible", "lock"], ["irreversible"]]


def test_a_gate_in_which_everything_was_refused_lists_its_rollbacks_with_answers_and_settings(scene: Scene) -> None:
    scene.settings = {"maintenance": [{"from": "00:00", "to": "24:00", "reason": "backup"}]}
    ended = scene.gate()
    document = cast(Any, ended.document)
    assert document["outcome"] == "not_rolled_back"
    answers = document["rollbacks"][0]["answers"]
    assert [a["rule"] for a in answers if not a["allows"]] == ["maintenance"]
    assert "backup" in document["reason"]
    counting = {"failure": 3, "warning": 2, "success": 1, "window": 0, "flaps": 0}
    thresholds = {**counting, "interval_s": 0.02, "timeout_s": 0.5}
    settings = {"quorum": {"web": "any"}, "targets": {"web/docker@localhost": thresholds}}
    assert ended.settings == {"for_s": 5.0, "within_s": pytest.approx(6.56), **settings}
    assert scene.store.rollbacks("web")[0].settings == ended.settings


def before(scene: Scene, states: str, *, ago_s: float = 60.0, reason: str = "answered 500") -> None:
    """What was observed before the deploy, and then the snapshot that was taken."""
    letters = {"h": State.HEALTHY, "u": State.UNHEALTHY}
    at = SystemClock().now() - timedelta(seconds=ago_s)
    seen = [
        Observation(KEY, letters[letter], 0.01, reason, at + timedelta(milliseconds=turn))
        for turn, letter in enumerate(states)
    ]
    scene.store.add_observations(seen, {})
    taken = at + timedelta(seconds=1)
    scene.store.add_release(
        Release("rel-1", "web", ReleaseState.CANDIDATE, "snapshot", taken, {"localhost": OLD}, False)
    )


def test_a_gate_does_not_blame_the_release_for_what_failed_before_it(scene: Scene) -> None:
    before(scene, "huuu")
    ended = scene.gate()
    assert said_no(scene.store.rollbacks("web")[0]) == ["failing_before"]
    assert "web/docker@localhost since" in ended.reason


@pytest.mark.parametrize(
    ("states", "reason", "first"),
    [
        ("uu", "answered 500", []),
        ("uuuh", "answered 500", []),
        ("uuu", "connection refused", []),
        ("uuu", "answered 500", [Measurement(State.HEALTHY, 0.01, "")]),  # it was well for once with the new release
    ],
)
def test_a_gate_blames_the_release_for_what_is_new(
    scene: Scene, states: str, reason: str, first: list[Measurement]
) -> None:
    scene.irreversible = True  # so that nothing is really rolled back here
    scene.probe = FakeProbe(*first, UNHEALTHY)
    before(scene, states, reason=reason)
    scene.gate()
    assert said_no(scene.store.rollbacks("web")[0]) == ["irreversible"]
