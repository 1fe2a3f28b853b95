"""What a Swarm service is: its image, its tasks, and where an update of it stands. Only facts, no requests."""

from __future__ import annotations

import json

from .accept import REFERENCE
from .problems import Problem

MOVING = ("updating", "rollback_started")
STUCK = ("paused", "rollback_paused")
TASK_FAILED = ("failed", "rejected", "orphaned", "complete")  # complete: ended by itself, as when it is unhealthy


def image_of_spec(spec):
    """The reference a service's tasks are made from."""
    container = (spec.get("TaskTemplate") or {}).get("ContainerSpec")
    if not container:
        raise Problem("unsupported", f"service {spec.get('Name')} runs a plug-in, not containers")
    return container["Image"]


def force_of_spec(spec):
    return spec["TaskTemplate"].get("ForceUpdate") or 0


def with_image(spec, reference, force):
    """The same spec with another image: nothing else the user set is touched."""
    changed = json.loads(json.dumps(spec))
    changed["TaskTemplate"]["ContainerSpec"]["Image"] = reference
    changed["TaskTemplate"]["ForceUpdate"] = force
    return changed


def only_image_differs(one, other):
    return with_image(one, "", 0) == with_image(other, "", 0)


def split_digest(reference):
    """``repo:tag@sha256:…`` → (``repo:tag``, ``sha256:…`` or None)."""
    name, _, checksum = reference.partition("@")
    return name, checksum or None


def repository_of(reference):
    """The repository, without the parts that engines leave out when they show it (docker.io, library)."""
    found = REFERENCE.match(reference)
    name = found.group(1) if found else ""
    for prefix in ("index.docker.io/", "docker.io/", "library/"):
        if name.startswith(prefix):
            name = name[len(prefix) :]
    return name


def known_digest(image, reference):
    """The registry's checksum of a local image in the repository of ``reference``, or None."""
    for digest in image.get("RepoDigests") or ():
        if repository_of(digest) == repository_of(reference):
            return split_digest(digest)[1]
    return None


class Look:
    """One look at a service: the engine's object and its tasks, as they were answered."""

    def __init__(self, service, tasks):
        self.service, self.spec, self.previous = service, service["Spec"], service.get("PreviousSpec")
        self.reference, self.force = image_of_spec(self.spec), force_of_spec(self.spec)
        self.update = service.get("UpdateStatus") or {}
        self.tasks = sorted(tasks, key=lambda task: task["CreatedAt"], reverse=True)

    @property
    def at(self):
        """What tells two specs apart whose only difference is the image: [reference, force]."""
        return [self.reference, self.force]

    @property
    def previous_at(self):
        return [image_of_spec(self.previous), force_of_spec(self.previous)] if self.previous else None

    @property
    def state(self):
        return self.update.get("State") or ""

    @property
    def wanted(self):
        """How many tasks the service wants to run now."""
        return (self.service.get("ServiceStatus") or {}).get("DesiredTasks", 0)

    def of(self, at):
        """The tasks of that image, newest first."""
        return [
            task
            for task in self.tasks
            if [task["Spec"]["ContainerSpec"]["Image"], task["Spec"].get("ForceUpdate") or 0] == at
        ]

    def up(self, at=None):
        """IDs of the tasks that run (``at``: of that image, and are meant to go on running)."""
        tasks = self.tasks if at is None else [task for task in self.of(at) if task["DesiredState"] == "running"]
        return {task["ID"] for task in tasks if task["Status"]["State"] == "running"}

    def failures(self, at=None, known=()):
        """Tasks (``at``: of that image) that failed, newest first, without those in ``known``."""
        tasks = self.tasks if at is None else self.of(at)
        return [task for task in tasks if task["Status"]["State"] in TASK_FAILED and task["ID"] not in known]

    def pending(self, at):
        """Tasks of that image that run or still want to."""
        return [task for task in self.of(at) if task["DesiredState"] in ("ready", "running")]

    def patience(self):
        """Seconds in which an update may show no progress because its own settings say so: delay and monitor."""
        kind = "RollbackConfig" if self.state.startswith("rollback") else "UpdateConfig"
        config = self.spec.get(kind) or {}
        return ((config.get("Delay") or 0) + (config.get("Monitor") or 5e9)) * 1e-9


def kind_of(spec):
    """replicated or global. A job ends by itself and has nothing to go back to."""
    mode = spec.get("Mode") or {}
    for name, kind in (("Replicated", "replicated"), ("Global", "global")):
        if name in mode:
            return kind
    raise Problem("unsupported", f"service {spec.get('Name')} is a job: there is nothing to put back")


def why_failed(task):
    """A failed task in words: its slot, what the engine said, and the exit code."""
    status = task["Status"]
    ended = "ended by itself" if status["State"] == "complete" else status["State"]
    said = status.get("Err") or ended
    slot = task.get("Slot") or task.get("NodeID") or task["ID"]
    return f"task {slot}: {said}"
