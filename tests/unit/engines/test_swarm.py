"""What guard makes of a manager's answers about a service and its tasks."""

from __future__ import annotations

from typing import Any

import pytest

from guard.engines import swarm
from guard.model import Image, SwarmUnit

NEVER = "0001-01-01T00:00:00Z"


def service(image: str = "web:2", wanted: int = 2, **more: Any) -> dict[str, Any]:
    template = {"ContainerSpec": {"Image": image}, "ForceUpdate": 0}
    return {
        "ID": "s1",
        "Spec": {"Name": "shop_web", "TaskTemplate": template},
        "ServiceStatus": {"RunningTasks": wanted, "DesiredTasks": wanted},
        **more,
    }


def task(slot: int, state: str = "running", image: str = "web:2", **more: Any) -> dict[str, Any]:
    desired = more.pop("desired", "running" if state == "running" else "shutdown")
    status: dict[str, Any] = {"State": state, "ContainerStatus": {"ContainerID": f"c{slot}{state}"}}
    if "said" in more:
        status["Err"] = more.pop("said")
    return {
        "ID": f"t{slot}{state}",
        "Slot": slot,
        "NodeID": "n1",
        "DesiredState": desired,
        "Status": status,
        "Spec": {"ContainerSpec": {"Image": image}},
        "CreatedAt": "2026-11-24T10:00:00Z",
        **more,
    }


def seen(told: dict[str, Any], *tasks: dict[str, Any]) -> tuple[str, int, int, str]:
    facts = swarm.facts(told, tasks, Image("web:2", "sha256:2"))
    assert facts.tasks is not None
    return facts.status, facts.tasks.running, facts.tasks.wanted, facts.tasks.trouble


COUNTED = [
    ("all run", service(), (task(1), task(2)), ("running", 2, 2, "")),
    ("one is missing", service(), (task(1),), ("incomplete", 1, 2, "")),
    ("scaled to nothing", service(wanted=0), (), ("running", 0, 0, "")),
    (
        "one fails again and again",
        service(),
        (task(1), task(2, "failed", said="task: non-zero exit (3)")),
        ("incomplete", 1, 2, "task 2: task: non-zero exit (3)"),
    ),
    ("one failed and was replaced", service(), (task(1), task(2, "failed"), task(2)), ("running", 2, 2, "")),
    ("one ended by itself", service(wanted=1), (task(1, "complete"),), ("incomplete", 0, 1, "task 1: ended by itself")),
    (
        "there is no node for it",
        service(wanted=1),
        (task(1, "pending", desired="running", said="no suitable node"),),
        ("incomplete", 0, 1, "task 1: no suitable node"),
    ),
    (
        "one that is being stopped runs no more for long",
        service(wanted=1),
        (task(1, desired="shutdown"),),
        ("incomplete", 0, 1, ""),
    ),
    (
        "a failure of an earlier image is none of this one",
        service(wanted=1),
        (task(1), task(1, "failed", "web:1")),
        ("running", 1, 1, ""),
    ),
    (
        "an update that goes on is not done yet",
        service(wanted=1, UpdateStatus={"State": "updating"}),
        (task(1),),
        ("incomplete", 1, 1, ""),
    ),
    (
        "an update that stopped half way is not done",
        service(wanted=1, UpdateStatus={"State": "paused"}),
        (task(1),),
        ("incomplete", 1, 1, ""),
    ),
]


@pytest.mark.parametrize(
    ("told", "tasks", "expected"), [case[1:] for case in COUNTED], ids=[case[0] for case in COUNTED]
)
def test_tasks_are_counted(told: dict[str, Any], tasks: tuple[dict[str, Any], ...], expected: tuple[Any, ...]) -> None:
    assert seen(told, *tasks) == expected


def test_a_replaced_task_shows_as_a_restart_and_another_image_begins_anew() -> None:
    image = Image("web:2", "sha256:2")
    before = swarm.facts(service(), [task(1), task(2)], image)
    assert (before.restart_count, before.started_at) == (0, NEVER)
    again = task(2, CreatedAt="2026-11-24T10:05:00Z")
    after = swarm.facts(service(), [task(1), task(2, "failed"), again], image)
    assert (after.restart_count, after.started_at) == (1, "2026-11-24T10:05:00Z")
    assert after.container_id == before.container_id
    other = swarm.facts(service("web:3"), [task(1), task(2, "failed"), again], Image("web:3", "sha256:3"))
    assert other.restart_count == 0
    assert other.container_id != before.container_id


@pytest.mark.parametrize(
    ("update", "previous", "taken_back"),
    [
        ({"State": "rollback_completed"}, None, True),
        ({"State": "rollback_completed"}, {"Name": "shop_web"}, False),  # a person, or guard, asked for it
        ({"State": "completed"}, {"Name": "shop_web"}, False),
        ({}, None, False),
    ],
)
def test_only_the_engines_own_going_back_is_called_that(update: Any, previous: Any, taken_back: bool) -> None:
    facts = swarm.facts(service(UpdateStatus=update, PreviousSpec=previous), [task(1)], Image("web:2", "sha256:2"))
    assert facts.tasks is not None
    assert facts.tasks.taken_back is taken_back


def test_the_exact_name_is_the_service() -> None:
    longer = service()
    longer["Spec"]["Name"] = "shop_web_admin"
    assert swarm.of_name([longer], SwarmUnit("shop_web")) is None
    assert swarm.of_name([longer, service()], SwarmUnit("shop_web")) == service()


def test_this_nodes_containers_of_the_present_image_come_newest_first() -> None:
    tasks = [
        task(1, CreatedAt="2026-11-24T10:00:00Z"),
        task(2, "failed", CreatedAt="2026-11-24T10:01:00Z"),
        task(3, CreatedAt="2026-11-24T10:02:00Z", NodeID="n2"),
        task(4, image="web:1", CreatedAt="2026-11-24T10:03:00Z"),
    ]
    assert swarm.containers_here(service(), tasks, "n1") == ["c2failed", "c1running"]


@pytest.mark.parametrize(
    ("info", "told"),
    [
        ({"Swarm": {"LocalNodeState": "active", "ControlAvailable": True}}, ""),
        ({"Swarm": {"LocalNodeState": "active", "ControlAvailable": False}}, "is a worker of its swarm"),
        ({"Swarm": {"LocalNodeState": "inactive"}}, "is in no swarm"),
        ({}, "is in no swarm"),
    ],
)
def test_an_engine_that_is_no_manager_is_told(info: dict[str, Any], told: str) -> None:
    assert swarm.not_a_manager(info) == told
