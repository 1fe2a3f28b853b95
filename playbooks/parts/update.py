"""The update of one Swarm service: prepare, swap, undo, settle."""

from __future__ import annotations

import json
import struct
import time

from .accept import REFERENCE
from .engine import LOG_BYTES, LOG_LINES, path
from .problems import EngineError, EngineGone, Problem
from .service import (
    MOVING,
    STUCK,
    Look,
    force_of_spec,
    image_of_spec,
    kind_of,
    known_digest,
    only_image_differs,
    repository_of,
    split_digest,
    why_failed,
    with_image,
)
from .steps import Work

LOOK_EVERY_S = 0.1
LOOP_FAILURES = 3  # so many failed tasks in one slot are a restart loop, whatever the update's own settings forgive
KICKS = 5  # how often an undo that the engine paused is started again
KICK_EVERY_S = 1.0

# The durable steps, in order. Each name is in the journal (fsynced) before its step begins.
PULL_IMAGE, PIN_IMAGE, TAG_CURRENT = "pull", "pin-target", "tag-backup"
POST_UPDATE, AWAIT_TASKS, UPDATE_DONE = "update-service", "await-tasks", "done"
POST_UNDO, AWAIT_UNDO = "undo:update-service", "undo:await-tasks"


class Overtaken(Problem):
    """Somebody else changed the service while guard waited: what they wanted counts, and nothing is undone."""

    def __init__(self, text_):
        Problem.__init__(self, "overtaken", text_)


class Update(Work):
    """One manager's work on one service, for one plan."""

    def __init__(self, engine, memory, plan, check_mode):
        Work.__init__(self, engine, memory, plan, check_mode)
        self.node = self.seen = None
        self.down_since = None

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

    # -- prepare

    def prepare(self):
        """Look whether the swap can work. Nothing is changed: every node fetches its image by itself, in its turn."""
        return self.foresee()

    def foresee(self):
        """What a swap would do."""
        self.look()
        if self.unfinished():
            return self.result("planned", True, self.memory.facts["old"])
        now = self.described()
        if now["image_id"] == self.plan["target"]["image_id"]:
            return self.result("unchanged", False, now, to=now, container_id=self.seen.service["ID"])
        self.refuse_strangers(now)
        self.reference(look_only=True)
        return self.result("planned", self.check_mode, now, container_id=self.seen.service["ID"])

    def discard(self):
        """Nothing was prepared, so there is nothing to take back."""
        self.look()
        return self.result("unchanged", False, self.described())

    def unfinished(self):
        """Is the service where an earlier run's update or undo left it?"""
        facts = self.memory.facts
        if facts.get("phase") not in ("swapping", "undoing") or facts["service_id"] != self.seen.service["ID"]:
            return False
        # The same image deployed again by somebody, later, is theirs: then the spec before it was another one.
        return self.seen.at == facts["old_at"] or [self.seen.at, self.seen.previous_at] == [
            facts["new_at"],
            facts["old_at"],
        ]

    def refuse_strangers(self, now):
        """Problem when the service is not as the plan was made for, or somebody else is at work on it just now."""
        expected = self.plan["expect_image_id"]
        if self.plan["force"] or self.unfinished():
            return
        if expected and now["image_id"] != expected:
            runs = f"service {self.name} wants {now['image']} ({now['image_id']}), not {expected}"
            why = " for which this rollback was decided: something else was deployed meanwhile"
            raise Problem("mismatch", runs + why)
        # An update to the very image that is to go is the deploy this rollback is about: a new update overtakes it.
        deploy = self.seen.previous is not None and image_of_spec(self.seen.previous) != self.seen.reference
        if self.seen.state in MOVING and not (deploy and expected):
            told = self.seen.update.get("Message") or self.seen.state
            busy = f"somebody else's update of service {self.name} is under way ({told})"
            raise Problem("busy", busy + ": nothing was touched; try again when it has ended")

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
        self.backup = self.plan["backup_tag"]
        repo = repository_of(now["image"]) or "guard/" + self.name
        if f"{repo}:{self.backup}" not in (image.get("RepoTags") or ()):
            self.step(TAG_CURRENT, backup=self.backup)
            self.engine.tag(image["Id"], repo, self.backup)

    # -- swap

    def swap(self):
        """The target in place of what runs; on failure the service's spec is what it was. Finishes an earlier run."""
        if self.check_mode:
            return self.foresee()
        self.look()
        settled = self.settle()
        if settled:
            return settled
        unfinished, facts = self.unfinished(), self.memory.facts
        now = self.described()
        if now["image_id"] == self.plan["target"]["image_id"]:
            return self.already_there(now)
        self.refuse_strangers(now)
        before = self.seen.at
        if unfinished:  # what an earlier run wanted here does not count: what was before it does
            now, before = facts["old"], facts["old_at"]
        else:
            self.memory.begin(phase="prepared")
        self.tag_backup(now)
        reference = self.reference()
        at = self.next_at(reference)
        self.step(
            POST_UPDATE, phase="swapping", service_id=self.seen.service["ID"], run_id=self.plan["run_id"],
            old=now, old_at=before, new_at=at, target_id=self.plan["target"]["image_id"], backup=self.backup,
            ran=len(self.seen.up()), failed_before=[task["ID"] for task in self.seen.failures()],
            update_before=self.seen.update.get("StartedAt"), reason=None,
        )  # fmt: skip
        self.downtime = 0.0 if self.seen.up() else None
        self.post(at)
        return self.forward()

    def next_at(self, reference):
        """[reference, force] to post: as in the previous spec where that is it; a new force when only a tag moved."""
        previous = self.seen.previous
        if reference == self.seen.reference:
            return [reference, self.seen.force + 1]
        if previous and image_of_spec(previous) == reference and only_image_differs(self.seen.spec, previous):
            return [reference, force_of_spec(previous)]
        return [reference, self.seen.force]

    def already_there(self, now):
        """The service wants the target already: wait for an update to it that somebody else began; change nothing."""
        waited = self.seen.state in MOVING
        self.memory.facts = {}
        self.await_tasks(self.seen.at)
        return self.result("unchanged", False, now, to=now, container_id=self.seen.service["ID"], waited=waited)

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

    def settle(self):
        """Bring an interrupted update to one end. Returns its result, or None when a fresh start is right.

        | spec | journal  | it was cut                         | so                              |
        |------|----------|------------------------------------|---------------------------------|
        | new  | swapping | after the update was posted        | go on; a new target starts anew |
        | old  | swapping | before it, or the engine went back | afresh; or wait for the engine  |
        | any  | undoing  | in an undo                         | undo; a new run starts anew     |
        | else | any      | somebody deployed since            | as if there were no journal     |
        """
        facts = self.memory.facts
        if not self.unfinished():
            return None
        self.backup = facts.get("backup")
        same_run = facts.get("run_id") == self.plan["run_id"]
        if facts["phase"] == "undoing":
            return self.undo(facts.get("reason") or "an earlier run was interrupted") if same_run else None
        if self.seen.at == facts["new_at"]:
            return self.forward() if facts["target_id"] == self.plan["target"]["image_id"] else None
        if same_run and self.gave_up():
            return self.undo(self.gave_up())
        return None

    def gave_up(self):
        """Why the engine went back to the old spec by itself, or None when it did not."""
        by_itself = self.seen.state.startswith("rollback") and self.seen.previous is None
        since = self.seen.update.get("StartedAt") != self.memory.facts.get("update_before")
        return self.told() if by_itself and since else None

    def forward(self):
        """From the posted update to done."""
        facts = self.memory.facts
        self.step(AWAIT_TASKS)
        try:
            self.await_tasks(facts["new_at"])
            now = self.described()
            if now["image_id"] != facts["target_id"]:
                raise Problem("mismatch", f"{now['image']} turned out to be {now['image_id']}: its tag moved just now")
        except (EngineGone, Overtaken):
            raise
        except Problem as failed:
            return self.undo(str(failed))
        self.step(UPDATE_DONE, phase="done")
        return self.result(
            "restored", True, facts["old"], to=now, container_id=self.seen.service["ID"],
            backup_tag=facts.get("backup"), downtime_s=None if self.downtime is None else round(self.downtime, 3),
        )  # fmt: skip

    # -- waiting

    def await_tasks(self, at):
        """Until the swarm calls the update completed and as many tasks as wanted have run for ``stable_s``.

        A running task of a container with a health check is a healthy one. Problem says why it does not get there:
        paused or taken back by the engine, a restart loop, or no progress for ``health_timeout_s`` beside the update's
        own delay and monitor times.
        """
        progress_at, progress, since, before = time.monotonic(), None, None, None
        known = self.memory.facts.get("failed_before") or ()
        while True:
            self.look_again()
            now, seen, good = time.monotonic(), self.seen, self.seen.up(at)
            if seen.at != at:
                self.not_ours()
            if seen.state in STUCK:
                raise Problem("not_up", self.told())
            self.refuse_loop(at, known)
            if (good, seen.state) != progress:
                progress, progress_at = (good, seen.state), now
            ended = seen.state not in MOVING and len(good) == seen.wanted and len(seen.pending(at)) == len(good)
            since = None if not ended else now if since is None or good != before else since
            before = good
            if since is not None and now - since >= self.plan["stable_s"]:
                return
            if now - progress_at > self.plan["health_timeout_s"] + (seen.patience() if seen.state in MOVING else 0):
                lacking = f"{len(good)} of {seen.wanted} tasks run the restored image"
                waited = "{} after {:.0f} s without progress".format(lacking, self.plan["health_timeout_s"])
                raise Problem("unhealthy", self.told(waited))
            time.sleep(LOOK_EVERY_S)

    def look_again(self):
        """Look, and measure how long no task at all ran since the update (None: none ran before it either)."""
        self.look()
        now, running = time.monotonic(), bool(self.seen.up())
        if self.down_since is not None:
            self.downtime, self.down_since = self.downtime + now - self.down_since, None
        if not running and self.downtime is not None:
            self.down_since = now

    def not_ours(self):
        """The spec is not the posted one any more: the engine took it back, or somebody else changed it."""
        if self.seen.at == self.memory.facts.get("old_at") and self.gave_up():
            raise Problem("not_up", self.gave_up())
        raise Overtaken(
            f"service {self.name} was changed to {self.seen.reference} by somebody else; that is left alone"
        )

    def refuse_loop(self, at, known):
        counts = {}
        for task in self.seen.failures(at, known):
            slot = task.get("Slot") or task.get("NodeID")
            counts[slot] = counts.get(slot, 0) + 1
            if counts[slot] >= LOOP_FAILURES:
                raise Problem("not_up", self.told("the restored tasks restart in a loop"))

    def told(self, first=None):
        """Why it failed, in words: what the swarm says of the update, and of the newest task that failed."""
        facts = self.memory.facts
        failed = self.seen.failures(facts.get("new_at") or self.seen.at, facts.get("failed_before") or ())
        if failed and self.log_tail is None:
            self.log_tail = self.task_log(failed[0])
        said = first or self.seen.update.get("Message") or self.seen.state
        return f"{said}: {why_failed(failed[0])}{self.unhealthy(failed[0])}" if failed else said

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
        lines, position = [], 0
        while position + 8 <= len(data):
            size = struct.unpack(">I", data[position + 4 : position + 8])[0]
            lines.append(data[position + 8 : position + 8 + size])
            position += 8 + size
        return b"".join(lines)[-LOG_BYTES:].decode("utf-8", "replace")

    # -- undo

    def undo(self, reason):
        """The spec from before is back, and as many tasks of it run as ran before (or the swarm does what it can)."""
        facts = self.memory.facts
        self.step(POST_UNDO, phase="undoing", reason=reason)
        self.look_again()
        if self.seen.at == facts["new_at"]:
            self.post(facts["old_at"])
        self.step(AWAIT_UNDO)
        error = self.await_return()
        self.step(UPDATE_DONE, phase="done")
        return self.result(
            "failed" if error else "reverted", True, facts["old"], error=f"{reason}; {error}" if error else reason,
            container_id=self.seen.service["ID"], backup_tag=facts.get("backup"), downtime_s=None if self.downtime is None else round(self.downtime, 3),
        )  # fmt: skip

    def await_return(self):
        """Until nothing of the failed target is left and what ran before runs again. Returns what is wrong, or None.

        What was there may not have been well either: an undo that the engine pauses over it is started again, so that
        no task of the target stays.
        """
        facts, kicks, kicked_at, began = self.memory.facts, 0, time.monotonic(), time.monotonic()
        while True:
            self.look_again()
            seen, now = self.seen, time.monotonic()
            if seen.at != facts["old_at"]:
                return f"somebody else changed the service to {seen.reference} meanwhile"
            left, back = seen.pending(facts["new_at"]), len(seen.up(facts["old_at"]))
            if not left and back >= min(facts["ran"], seen.wanted):
                return None
            if seen.state in STUCK and left and kicks < KICKS and now - kicked_at > KICK_EVERY_S:
                kicks, kicked_at = kicks + 1, now
                self.post(seen.at)
            if now - began > self.plan["health_timeout_s"] + seen.patience():
                if left:
                    return f"{len(left)} tasks still run the image that failed, and the swarm does not replace them"
                return f"of what ran before, {back} of {facts['ran']} tasks run again"
            time.sleep(LOOK_EVERY_S)
