"""One Swarm service as a manager tells of it: its image, references that mean exactly one image, its update."""

from __future__ import annotations

import json

from .accept import REFERENCE
from .engine import LOG_BYTES, LOG_LINES, demultiplexed, path
from .problems import EngineError, EngineGone, Problem
from .service import (
    Look,
    image_of_spec,
    kind_of,
    known_digest,
    only_image_differs,
    repository_of,
    split_digest,
    with_image,
)
from .steps import Work

# Durable steps, see ``Update``.
PULL_IMAGE, PIN_IMAGE, TAG_CURRENT = "pull", "pin-target", "tag-backup"


class Overtaken(Problem):
    """Somebody else changed the service while guard waited: what they wanted counts, and nothing is undone."""

    def __init__(self, text_):
        Problem.__init__(self, "overtaken", text_)


class SwarmWork(Work):
    """One manager's work on one service, for one plan."""

    def __init__(self, engine, memory, plan, check_mode):
        Work.__init__(self, engine, memory, plan, check_mode)
        self.node = self.seen = None

    # -- looking

    def look(self):
        """The service and its tasks, now. Problem when this engine can't be asked, or there is no such service."""
        if self.node is None:
            self.node = self.manager()
        listed = self.engine.get("services", filters=json.dumps({"name": [self.name]}), status=True) or []
        found = next((service for service in listed if service["Spec"]["Name"] == self.name), None)
        if found is None:
            raise Problem("not_found", f"there is no service {self.name} in this swarm: deploy it first")
        kind_of(found["Spec"])
        tasks = self.engine.get("tasks", filters=json.dumps({"service": [found["ID"]]})) or []
        self.seen = Look(found, [task for task in tasks if (task.get("Spec") or {}).get("ContainerSpec")])
        return self.seen

    def manager(self):
        """This node's ID. Problem when it is no manager of a swarm."""
        swarm = self.engine.call("GET", "/info").get("Swarm") or {}
        if swarm.get("LocalNodeState") != "active":
            state = swarm.get("LocalNodeState") or "inactive"
            raise Problem("no_manager", f"this engine is in no swarm (its state there is {state}): name a manager")
        if not swarm.get("ControlAvailable"):
            raise Problem("no_manager", "this engine is a worker of its swarm: only a manager can update a service")
        return swarm["NodeID"]

    def described(self):
        """{image, image_id} of what the service's spec wants. ``image_id`` is "" when no image of that name is here.

        In a swarm an image is known by its registry's digest, the one name that means the same on every node. Where it
        has none, by its ID on this manager: that of a task's container here, since its tag may have moved since.
        """
        name, checksum = split_digest(self.seen.reference)
        if checksum:
            return {"image": name, "image_id": checksum}
        for task in self.seen.of(self.seen.at):
            container_id = (task["Status"].get("ContainerStatus") or {}).get("ContainerID")
            if task.get("NodeID") == self.node and container_id:
                container = self.engine.get("containers", container_id, "json")
                image = container and self.engine.image(container["Image"])
                if container:
                    return {"image": name, "image_id": known_digest(image or {}, name) or container["Image"]}
        image = self.engine.image(self.seen.reference)
        return {"image": name, "image_id": (known_digest(image, name) or image["Id"]) if image else ""}

    def local(self, image):
        """The local image of a {image, image_id}, or None when this manager does not have it."""
        found = self.engine.image(image["image_id"]) if image["image_id"] else None
        repo = repository_of(image["image"])
        return found or (
            self.engine.image("{}@{}".format(repo, image["image_id"])) if repo and image["image_id"] else None
        )

    # -- snapshot

    def snapshot(self):
        """Pin what runs now on this manager, if it has it, and say what it is."""
        self.look()
        now = self.described()
        image = self.local(now)
        if not now["image_id"] or (image is None and not split_digest(self.seen.reference)[1]):
            names = (
                f"service {self.name} names {self.seen.reference} without a digest, and this manager has no such image"
            )
            raise Problem("not_found", names + ": which image its tasks run can't be told; deploy it from a registry")
        pin, missing = None, False
        if image is not None:
            pin = self.pin_of(now)
            missing = pin not in (image.get("RepoTags") or [])
            if missing and not self.check_mode:
                self.engine.tag(image["Id"], *pin.rsplit(":", 1))
        digest = known_digest(image, now["image"]) if image else now["image_id"]
        return self.result(
            "unchanged",
            missing,
            now,
            to=now,
            container_id=self.seen.service["ID"],
            pin=pin,
            digest=f"{repository_of(now['image'])}@{digest}" if digest else None,
            tasks={"running": len(self.seen.up()), "wanted": self.seen.wanted},
            update=self.seen.update,
        )

    def pin_of(self, image):
        return "{}:guard_{}".format(repository_of(image["image"]) or "guard/" + self.name, image["image_id"][7:19])

    # -- the images

    def reference(self, look_only=False):
        """A reference that means exactly the target. The previous spec's own, if it does; a pin is made when needed."""
        target = self.plan["target"]
        name, _ = split_digest(target["image"])
        previous = image_of_spec(self.seen.previous) if self.seen.previous else None
        if target["digest"] and split_digest(target["digest"])[1] == target["image_id"]:
            self.resolvable(target)
            if previous and split_digest(previous)[1] == target["image_id"]:
                return previous
            same = REFERENCE.match(name) and repository_of(name) == repository_of(target["digest"])
            return "{}@{}".format(name if same else repository_of(target["digest"]), target["image_id"])
        image = self.engine.image(target["image_id"])
        if image is None:
            image = self.fetched(target, look_only)
        by_tag = previous is not None and not split_digest(previous)[1]
        if image is None or (by_tag and self.means(previous, image)):
            return previous
        if name in (image.get("RepoTags") or []):
            return name
        pin = self.pin_of(target)
        if pin not in (image.get("RepoTags") or []) and not look_only:
            self.step(PIN_IMAGE, pinned=pin)
            self.engine.tag(image["Id"], *pin.rsplit(":", 1))
        return pin

    def means(self, reference, image):
        found = self.engine.image(reference)
        return found is not None and found["Id"] == image["Id"]

    def resolvable(self, target):
        """Problem when neither this manager nor the registry has the image. A registry that can't say is no proof."""
        if self.local(target) is not None:
            return
        try:
            self.engine.call("GET", path("distribution", target["digest"], "json"))
        except EngineError as refused:
            text_ = str(refused).lower()
            if refused.status == 404 or "manifest unknown" in text_ or "not found" in text_:
                gone = (
                    f"the image {target['digest']} is not on this manager, and its registry does not have it any more"
                )
                raise Problem("image_gone", f"{gone}: {refused}") from refused

    def fetched(self, target, look_only):
        if not target["digest"]:
            gone = f"the image {target['image']} ({target['image_id']}) is not on this manager any more"
            hint = "take a snapshot before the next deploy, or push the image to a registry"
            raise Problem("image_gone", f"{gone} and no digest to pull it by is known; {hint}")
        if look_only:
            return None
        self.step(PULL_IMAGE)
        self.engine.pull(target["digest"])
        image = self.engine.image(target["image_id"])
        if image is None:
            raise Problem("pull", f"{target['digest']} was pulled, but it is not the image {target['image_id']}")
        return image

    def tag_backup(self, now):
        """Give the current image its backup tag, if this manager has it."""
        image = self.local(now)
        if image is None:
            return
        repo = repository_of(now["image"]) or "guard/" + self.name
        self.backup = self.engine.free_tag(repo, self.plan["backup_tag"], image["Id"])
        if f"{repo}:{self.backup}" not in (image.get("RepoTags") or ()):
            self.step(TAG_CURRENT, backup=self.backup)
            self.engine.tag(image["Id"], repo, self.backup)

    # -- requests

    def post(self, at):
        """Make the service's spec the one it is now with another image: ``at`` is [reference, force].

        By the engine's own rollback where that is the very same thing: the previous spec has that image and differs in
        nothing else. Then the user's rollback settings apply, and the swarm tells of a rollback, not of an update.
        """
        spec, previous = self.seen.spec, self.seen.previous
        where = ("services", self.seen.service["ID"], "update")
        version = self.seen.service["Version"]["Index"]
        try:
            if self.seen.previous_at == at and only_image_differs(spec, previous):
                self.engine.call(
                    "POST", path(*where, version=version, rollback="previous", registryAuthFrom="previous-spec"), spec
                )
            else:
                body = with_image(spec, *at)
                self.engine.call("POST", path(*where, version=version, registryAuthFrom="spec"), body)
        except EngineError as refused:
            if "out of sequence" not in str(refused):
                raise
            self.look()
            if self.seen.spec != spec:
                raise Overtaken(f"service {self.name} was changed by somebody else just now: {refused}") from refused
            self.post(at)  # only the swarm's own notes on the service had moved on

    def unhealthy(self, task):
        """The last word of the health check of a task that ran on this manager, when that is why it ended."""
        container_id = (task["Status"].get("ContainerStatus") or {}).get("ContainerID")
        here = container_id and task.get("NodeID") == self.node
        container = self.engine.get("containers", container_id, "json") if here else None
        health = (container or {}).get("State", {}).get("Health") or {}
        if health.get("Status") != "unhealthy":
            return ""
        last = ((health.get("Log") or [{}])[-1].get("Output") or "").strip()[-500:]
        return ", for it was unhealthy: " + (last or "its health check failed")

    def task_log(self, task):
        """The last lines of a task's output, wherever it ran; says so when they can't be had."""
        where = path("tasks", task["ID"], "logs", stdout=True, stderr=True, tail=LOG_LINES)
        try:
            data = self.engine.call("GET", where, raw=True, timeout=10.0)
        except (EngineError, EngineGone) as refused:
            return f"(no log: {refused})"
        return demultiplexed(data)[-LOG_BYTES:].decode("utf-8", "replace")
