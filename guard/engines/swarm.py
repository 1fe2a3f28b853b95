"""What a manager's API says of a Swarm service, as one container's facts. Pure: answers go in, facts come out.

In a swarm an image is known by its registry's digest, the one name that means the same on every node. Where it has
none, by its ID on the manager that was asked. ``playbooks/parts/update.py`` tells images apart by the same rule.
Source: https://docs.docker.com/reference/api/engine/ (services, tasks)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from guard.decide import reference
from guard.decide.swarm import known_as
from guard.engines.facts import Facts, inner, string
from guard.model import ContainerFacts, Image, LocalImage, SwarmUnit, TaskFacts

NO_MANAGER = "a Swarm service is looked after on a manager: let hosts name at least one"
UNTOLD = (
    "deploy it from a registry, by digest (the default of docker service update), so that every node means one image"
)
_ENDED_BADLY = ("failed", "rejected", "orphaned", "complete")  # complete: a task that ended by itself
_STARTING = ("new", "pending", "assigned", "accepted", "preparing", "ready", "starting")
_MOVING = ("updating", "rollback_started")
_NEVER = "0001-01-01T00:00:00Z"


def service_query(unit: SwarmUnit) -> str:
    return json.dumps({"name": [unit.service]})


def task_query(service: Facts) -> str:
    return json.dumps({"service": [string(service, "ID")]})


def of_name(listed: Sequence[Facts], unit: SwarmUnit) -> Facts | None:
    """The service of exactly that name: the filter finds every name that begins so."""
    return next((one for one in listed if string(inner(one, "Spec"), "Name") == unit.service), None)


def not_a_manager(info: Facts) -> str:
    """Why this engine can't be asked for services, or ""."""
    swarm = inner(info, "Swarm")
    if string(swarm, "LocalNodeState") != "active":
        return "is in no swarm"
    return "" if swarm.get("ControlAvailable") is True else "is a worker of its swarm"


def node(info: Facts) -> str:
    return string(inner(info, "Swarm"), "NodeID")


def image_name(service: Facts) -> tuple[str, str]:
    """(reference without digest, digest or ""), as the service's spec wants it."""
    name, _, digest = string(inner(_template(service), "ContainerSpec"), "Image").partition("@")
    return name, digest


def containers_here(service: Facts, tasks: Sequence[Facts], node_id: str) -> list[str]:
    """IDs of this node's containers of the service's present image, newest first, ended ones too."""
    own = [task for task in _present(service, tasks) if string(task, "NodeID") == node_id]
    newest = sorted(own, key=lambda task: string(task, "CreatedAt"), reverse=True)
    ids = [string(inner(inner(task, "Status"), "ContainerStatus"), "ContainerID") for task in newest]
    return [container_id for container_id in ids if container_id]


def image_of(name: str, digest: str, local: LocalImage | None, container_image: str) -> Image:
    """``local``: the engine's own look at the image of a container here, else at the name. ID "": there is none."""
    repository = reference.familiar(reference.repository(name))
    if digest:
        return Image(name, digest, f"{repository}@{digest}")
    if local is None:
        return Image(name, container_image)
    known = known_as(local, repository)
    return Image(name, known.image_id, known.digests[0] if known.digests else None)


def runs(service: Facts, tasks: Sequence[Facts]) -> bool:
    """Does any task of what the service's spec wants now run, wherever?"""
    return any(_state(task) == "running" for task in _present(service, tasks))


def facts(service: Facts, tasks: Sequence[Facts], image: Image) -> ContainerFacts:
    """The service as a container: it is ``running`` when as many tasks run as it wants, and no update is under way.

    ``container_id`` changes with what the tasks are made from; ``restart_count`` and ``started_at`` tell of tasks that
    had to be replaced since.
    """
    present = _present(service, tasks)
    failed = [task for task in present if _state(task) in _ENDED_BADLY]
    counted = _counted(service, tasks, failed)
    again = {_slot(task) for task in failed}
    replaced = [string(task, "CreatedAt") for task in present if _state(task) == "running" and _slot(task) in again]
    template = json.dumps(_template(service), sort_keys=True)
    complete = counted.running >= counted.wanted and counted.update not in (*_MOVING, "paused", "rollback_paused")
    return ContainerFacts(
        name=string(inner(service, "Spec"), "Name"),
        container_id=f"{string(service, 'ID')}.{hashlib.sha256(template.encode()).hexdigest()[:12]}",
        image=image,
        status="running" if complete else "incomplete",
        health="",
        health_log="",
        exit_code=0,
        oom_killed=False,
        restart_count=len(failed),
        started_at=max(replaced, default=_NEVER),
        error=counted.trouble,
        tasks=counted,
    )


def _counted(service: Facts, tasks: Sequence[Facts], failed: Sequence[Facts]) -> TaskFacts:
    status, update = inner(service, "ServiceStatus"), inner(service, "UpdateStatus")
    state = string(update, "State")
    running = {_slot(task) for task in tasks if _state(task) == "running" and string(task, "DesiredState") == "running"}
    without = [task for task in failed if _slot(task) not in running]
    waiting = [task for task in _present(service, tasks) if _state(task) == "pending" and _said(task)]
    told = max([*without, *waiting], key=lambda task: string(task, "CreatedAt"), default=None)
    wanted = status.get("DesiredTasks")
    return TaskFacts(
        running=sum(_state(t) == "running" and string(t, "DesiredState") == "running" for t in tasks),
        wanted=wanted if isinstance(wanted, int) else 0,
        starting=any(_state(task) in _STARTING for task in _present(service, tasks)),
        trouble=f"task {_slot(told)}: {_said(told) or 'ended by itself'}" if told is not None else "",
        update=state,
        message=string(update, "Message"),
        taken_back=state.startswith("rollback") and not inner(service, "PreviousSpec"),
    )


def _present(service: Facts, tasks: Sequence[Facts]) -> list[Facts]:
    """The tasks made from what the service's spec wants now."""
    wanted = _mark(_template(service))
    return [task for task in tasks if _mark(inner(task, "Spec")) == wanted]


def _mark(template: Facts) -> tuple[str, object]:
    return string(inner(template, "ContainerSpec"), "Image"), template.get("ForceUpdate") or 0


def _template(service: Facts) -> Facts:
    return inner(inner(service, "Spec"), "TaskTemplate")


def _state(task: Facts) -> str:
    return string(inner(task, "Status"), "State")


def _said(task: Facts) -> str:
    return string(inner(task, "Status"), "Err")


def _slot(task: Facts) -> str:
    """Its number in the service; a global service's task is known by its node."""
    slot = task.get("Slot")
    return str(slot) if slot else string(task, "NodeID") or string(task, "ID")
