"""The swap of one container: prepare, swap, undo, settle."""

from __future__ import annotations

import time

from .accept import REFERENCE
from .announce import announce, published_bridges
from .container import (
    alive,
    answers,
    described,
    fingerprint,
    health_command,
    is_id,
    never_started,
    repository,
    without_gone_network,
)
from .engine import POLL_S, path
from .hazards import refuse_hazards
from .masking import masked
from .podman import recreated
from .problems import EngineError, EngineGone, Problem
from .steps import Work

LONGEST_LOOK_S = 0.05  # every look costs the engine some milliseconds: on a busy host those of others
STABLE_ANSWERING_S = 0.25  # how long a container that answers on its published ports must have stayed up
DAY_S = 86400.0

# The durable steps, in order. Each name is in the journal (fsynced) before its step begins.
PULL, PIN, TAG_BACKUP = "pull", "pin-target", "tag-backup"
CREATE, CONNECT, SPARE = "create-new", "connect-new", "create-spare"
RENAME_OLD, RENAME_NEW, HOLD_OLD = "rename-old", "rename-new", "hold-old"
STOP_OLD, START_NEW, AWAIT_NEW, REMOVE_OLD = "stop-old", "start-new", "await-new", "remove-old"
STOP_NEW, PARK_NEW, RETURN_OLD = "undo:stop-new", "undo:park-new", "undo:return-old"
RELEASE_OLD, START_OLD, REMOVE_NEW = "undo:release-old", "undo:start-old", "undo:remove-new"
DISCARD, DONE = "discard", "done"
PREPARE_STEPS = (PULL, PIN, TAG_BACKUP, CREATE, CONNECT, SPARE)
SWAP_STEPS = (RENAME_OLD, RENAME_NEW, HOLD_OLD, STOP_OLD, START_NEW, AWAIT_NEW, REMOVE_OLD, DONE)
UNDO_STEPS = (STOP_NEW, PARK_NEW, RETURN_OLD, RELEASE_OLD, START_OLD, REMOVE_NEW, DONE)
STEPS = tuple(dict.fromkeys(PREPARE_STEPS + SWAP_STEPS + UNDO_STEPS + (DISCARD,)))  # all there are


class Swap(Work):
    """One host's work on one container, for one plan."""

    images_only = False  # prepare makes images and tags ready, and leaves the replacement to the swap

    def __init__(self, engine, memory, plan, check_mode):
        Work.__init__(self, engine, memory, plan, check_mode)
        self.current = self.next = self.previous = self.spare = None
        self.stopped_at = None

    def look(self):
        """Read the four names afresh."""
        self.current = self.engine.container(self.name)
        self.next = self.engine.container(self.name + ".guard-next")
        self.previous = self.engine.container(self.name + ".guard-prev")
        self.spare = self.engine.container(self.name + ".guard-spare")

    # -- snapshot

    def snapshot(self):
        """Pin what runs now, and say what it is."""
        container = self.engine.container(self.name)
        if container is None:
            raise self.not_there()
        image = self.image_of(container)
        body, others, leave = recreated(self.engine, container, image, "")
        repo = repository(container, image)
        pin = "{}:guard_{}".format(repo, container["Image"].split(":")[-1][:12])
        missing = pin not in (image.get("RepoTags") or [])
        if missing and not self.check_mode:
            self.engine.tag(container["Image"], *pin.rsplit(":", 1))
        digests = [digest for digest in image.get("RepoDigests") or () if digest.startswith(repo + "@")]
        state = container["State"]
        now = described(container, image)
        return self.result(
            "unchanged",
            missing,
            now,
            to=now,
            container_id=container["Id"],
            pin=pin,
            digest=digests[0] if digests else None,
            tags=image.get("RepoTags") or [],
            fingerprint=fingerprint([body, others, leave]),
            status=state["Status"],
            health=(state.get("Health") or {}).get("Status", ""),
            restart_count=container["RestartCount"],
            started_at=state["StartedAt"],
        )

    def not_there(self):
        where = f"there is no container {self.name} on this engine ({self.engine.address})"
        return Problem("not_found", where + ": nothing to take its configuration from; deploy it first")

    def image_of(self, container):
        image = self.engine.image(container["Image"])
        if image is None:
            gone = f"the image {container['Image']} of container {self.name} is gone from the engine"
            raise Problem("not_found", gone + ": what came from it can't be told from what was set by hand")
        return image

    # -- prepare

    def prepare(self):
        """Everything slow, nothing stopped: image pulled, backup tag set, the replacement created."""
        self.look()
        if self.previous is not None:
            return self.result("planned", False, described(self.previous, None), prepared=False)
        unchanged = self.already_there()
        if unchanged:
            return unchanged
        old, image = self.expected_container()
        if self.check_mode:
            self.target_here(pull=False)
            return self.result(
                "planned", True, described(old, image), backup_tag=self.plan["backup_tag"], container_id=old["Id"]
            )
        created = self.make_ready(old, image)
        return self.result(
            "planned", created, described(old, image), backup_tag=self.backup, container_id=old["Id"], prepared=True
        )

    def already_there(self):
        """The result when the target runs already and nothing is unfinished, else None."""
        now = self.current
        if (
            now is None
            or now["Image"] != self.plan["target"]["image_id"]
            or not alive(now)
            or self.previous is not None
        ):
            return None
        leftovers = [found for found in (self.next, self.spare) if found is not None]
        if leftovers and not self.check_mode:
            self.step(DISCARD)
            for found in leftovers:
                self.engine.remove(found["Id"])
        if (
            not self.check_mode
            and self.memory.facts.get("phase") == "swapping"
            and self.memory.facts.get("next_id") == now["Id"]
        ):
            return self.finish(now)
        seen = described(now, None)
        mine = self.answered("restored") and self.memory.facts.get("next_id") == now["Id"]
        told = {"backup_tag": self.memory.facts.get("backup"), "downtime_s": self.memory.facts.get("downtime")}
        return self.result(
            "unchanged", bool(leftovers), seen, to=seen, container_id=now["Id"], **(told if mine else {})
        )

    def answered(self, answer):
        """Did this very run (or the one it repeats) come to that end here already? Its answer may have been lost."""
        facts = self.memory.facts
        same = facts.get("run_id") == self.plan["run_id"] and facts.get("phase") == "done"
        return same and facts.get("answer") == answer

    def reverted_before(self):
        """The same answer again when this run tried its target here and took it back: no second outage for it."""
        facts = self.memory.facts
        if not self.answered("reverted") or self.plan["force"] or self.current is None:
            return None
        if self.current["Id"] not in (facts.get("old_id"), facts.get("spare_id")):
            return None
        return self.result(
            "reverted", False, facts.get("old"), error=facts["reason"], container_id=self.current["Id"],
            backup_tag=facts.get("backup"), downtime_s=facts.get("downtime"),
        )  # fmt: skip

    def expected_container(self):
        """The current container with its image, when it is the one the plan was made for."""
        if self.current is None:
            raise self.not_there()
        expected, found = self.plan["expect_image_id"], self.current["Image"]
        if expected and found not in (expected, self.plan["target"]["image_id"]) and not self.plan["force"]:
            runs = f"container {self.name} runs {self.current['Config'].get('Image')} ({found}), not {expected}"
            why = " for which this rollback was decided: something else was deployed meanwhile"
            raise Problem("mismatch", runs + why)
        return self.current, self.image_of(self.current)

    def target_here(self, pull=True):
        """The target image as the engine knows it, pulled by digest when it is missing and that is possible."""
        target = self.plan["target"]
        image = self.engine.image(target["image_id"])
        if image is not None or (target["digest"] and not pull):
            return image
        if not target["digest"]:
            gone = f"the image {target['image']} ({target['image_id']}) is not on this host any more"
            hint = "take a snapshot before the next deploy, or push the image to a registry"
            raise Problem("image_gone", f"{gone} and no digest to pull it by is known; {hint}")
        self.step(PULL, pulled=target["image_id"])
        self.engine.pull(target["digest"])
        image = self.engine.image(target["image_id"])
        if image is None:
            raise Problem("pull", f"{target['digest']} was pulled, but it is not the image {target['image_id']}")
        return image

    def make_ready(self, old, old_image):
        """Image, backup tag, replacement (and the twin of a self-removing container). True when something was made."""
        target, facts = self.plan["target"], self.memory.facts
        recreated(self.engine, old, old_image, "")  # refuses what cannot be made again
        if not self.plan["force"]:
            refuse_hazards(self.engine, old)
        if facts.get("phase") != "prepared":
            self.memory.begin(phase="prepared")
        elif facts.get("run_id") != self.plan["run_id"]:  # prepared by a run that never swapped: its names go
            self.take_back_names("backup_ref", "pinned")
            self.memory.note(run_id=self.plan["run_id"], fence=self.plan["fence"], backup_ref=None, pinned=None)
        image = self.target_here()
        made = self.tag_backup(old, old_image)
        reference = self.readable(image, repository(old, old_image))
        if self.images_only:
            return made
        body, others, leave = self.wanted(old, old_image, reference)
        mark = fingerprint([old["Id"], body, others, leave])
        facts = self.memory.facts
        ready = (
            self.next is not None
            and never_started(self.next)
            and self.next["Id"] == facts.get("next_id")
            and facts.get("mark") == mark
        )
        twin = bool(old["HostConfig"].get("AutoRemove"))
        if ready and (not twin or (self.spare is not None and self.spare["Id"] == facts.get("spare_id"))):
            return made
        for leftover in (self.next, self.spare):
            if leftover is not None:
                self.engine.remove(leftover["Id"])
        self.next = self.create(self.name + ".guard-next", body, others, leave, target["image_id"], CREATE)
        self.spare = None
        if twin:
            known = old["Config"].get("Image") or ""
            same = (
                known if (known in (old_image.get("RepoTags") or ())) else f"{repository(old, old_image)}:{self.backup}"
            )
            body = dict(body, Image=same)
            body.update(recreated(self.engine, old, old_image, same)[0])
            self.spare = self.create(self.name + ".guard-spare", body, others, leave, old["Image"], SPARE)
        self.memory.note(
            mark=mark,
            next_id=self.next["Id"],
            spare_id=self.spare["Id"] if self.spare else None,
            old_id=old["Id"],
            old=described(old, old_image),
            old_policy=old["HostConfig"].get("RestartPolicy"),
            was_running=bool(old["State"]["Running"]),
        )
        return True

    def wanted(self, old, old_image, reference):
        """The replacement (see ``replacement``): ``old``'s configuration on the target, which ``reference`` names."""
        return recreated(self.engine, old, old_image, reference)

    def tag_backup(self, old, old_image):
        """Give the current image its backup tag; True when it had to be made."""
        self.backup = self.plan["backup_tag"]
        repo = repository(old, old_image)
        if f"{repo}:{self.backup}" in (old_image.get("RepoTags") or ()):
            return False
        self.step(TAG_BACKUP, backup=self.backup, backup_ref=f"{repo}:{self.backup}")
        self.engine.tag(old["Image"], repo, self.backup)
        return True

    def readable(self, image, repo):
        """A reference that resolves to exactly the target: its own tag, else guard's pin (made when missing)."""
        target = self.plan["target"]
        if target["image"] in (image.get("RepoTags") or []) + (image.get("RepoDigests") or []):
            return target["image"]
        named = None if is_id(target["image"]) else REFERENCE.match(target["image"])
        pin = "{}:guard_{}".format(named.group(1) if named else repo, target["image_id"].split(":")[-1][:12])
        if pin not in (image.get("RepoTags") or []):
            self.step(PIN, pinned=pin)
            self.engine.tag(target["image_id"], *pin.rsplit(":", 1))
        return pin

    def create(self, name, body, others, leave, image_id, step):
        """Create a container, in all its networks, not started; its image is checked afterwards."""
        self.step(step)
        if leave and self.engine.get("networks", leave[0]) is None:  # gone, so it cannot be left either
            body, others, leave = without_gone_network(body, others)
        made = self.engine.call("POST", path("containers", "create", name=name), body)["Id"]
        if others or leave:
            self.step(CONNECT)
        for network in leave:
            self.engine.call("POST", path("networks", network, "disconnect"), {"Container": made, "Force": True})
        for network, endpoint in others.items():
            self.engine.call(
                "POST", path("networks", network, "connect"), {"Container": made, "EndpointConfig": endpoint}
            )
        container = self.engine.container(name)
        if container is None or container["Image"] != image_id:
            self.engine.remove(made)
            raise Problem(
                "mismatch",
                "{} was created from {}, not from {}: its tag moved just now; run again".format(
                    name, container and container["Image"], image_id
                ),
            )
        return container

    def discard(self):
        """Take back what this run's preparation left. What another run has prepared or swapped since is not touched.

        A fence that somebody newer raised meanwhile is no reason to leave it here, as long as the journal is this run's.
        """
        self.look()
        facts = self.memory.facts
        now = described(self.current, None) if self.current else None
        if facts.get("run_id") not in (None, self.plan["run_id"]):
            return self.result("unchanged", False, now)
        if facts.get("fence") != self.plan["fence"]:
            self.memory.refuse_older()
        if self.previous is not None:
            cut = f"a swap of {self.name} is unfinished ({self.name}.guard-prev exists)"
            raise Problem("unfinished", cut + ": finish it with a swap, not by discarding")
        found = self.next is not None or self.spare is not None
        named = any(facts.get(key) for key in ("backup_ref", "pinned", "pulled"))
        left = found or (facts.get("phase") == "prepared" and named)
        if left and not self.check_mode:
            self.take_back()
        return self.result("unchanged", bool(left), now)

    def take_back(self):
        """Remove what a preparation left: containers, names that are not an image's last, an image that it pulled."""
        self.step(DISCARD)
        facts = self.memory.facts
        for container in (self.next, self.spare):
            if container is not None:
                self.engine.remove(container["Id"])
        if facts.get("phase") == "prepared":
            self.take_back_names("backup_ref", "pinned")
            if facts.get("pulled"):
                try:
                    self.engine.call("DELETE", path("images", facts["pulled"]))
                except EngineError:
                    pass  # somebody uses it by now
        self.memory.note(phase="done")

    def take_back_names(self, *keys):
        for reference in [self.memory.facts[key] for key in keys if self.memory.facts.get(key)]:
            image = self.engine.image(reference)
            if image and len(image.get("RepoTags") or ()) > 1:
                self.engine.call("DELETE", path("images", reference, noprune=True))

    # -- swap

    def swap(self):
        """The target in place of what runs; on failure what ran is back. Finishes what an earlier run left."""
        self.look()
        if self.check_mode:
            return self.foresee()
        settled = self.reverted_before() or self.settle()
        if settled:
            return settled
        unchanged = self.already_there()
        if unchanged:
            return unchanged
        try:
            old, image = self.expected_container()
        except Problem:  # what was prepared is for a container that is not there any more
            if self.memory.facts.get("phase") == "prepared" and self.memory.facts["run_id"] == self.plan["run_id"]:
                self.take_back()
            raise
        self.make_ready(old, image)
        self.step(RENAME_OLD, phase="swapping", backup=self.backup, run_id=self.plan["run_id"])
        return self.forward(old)

    def foresee(self):
        """Check mode: what a swap would do."""
        if self.previous is not None:
            return self.result("planned", True, described(self.previous, None))
        unchanged = self.already_there()
        if unchanged:
            return unchanged
        old, image = self.expected_container()
        self.target_here(pull=False)
        return self.result(
            "planned", True, described(old, image), backup_tag=self.plan["backup_tag"], container_id=old["Id"]
        )

    def settle(self):
        """Bring an interrupted swap to one end. Returns its result, or None when a fresh start is right.

        | NAME | .guard-prev | it was cut                        | so                                      |
        |------|-------------|-----------------------------------|-----------------------------------------|
        | old  | -           | before the renames, or late undo  | old as it was, then afresh              |
        | -    | old         | between renames, or in an undo    | old gets its name back, then afresh     |
        | new  | old         | anywhere after                    | go on; or undo when undoing or new plan |
        | new  | - (spare)   | a self-removing old has gone      | spare takes old's place, then as above  |
        | new  | -           | after old's removal               | done (see already_there)                |
        """
        facts = self.memory.facts
        undoing = facts.get("phase") == "undoing"
        self.backup = facts.get("backup") if facts.get("phase") in ("swapping", "undoing") else None
        if self.previous is None and self.spare is not None and self.next is None and self.ours(self.current):
            self.take_spare()
        if self.previous is not None:
            if self.current is None:
                return self.undo(facts.get("reason") or "an earlier run was interrupted", resumed=True)
            if facts.get("phase") != "done" and self.ours(self.current):
                if not undoing and self.current["Image"] == self.plan["target"]["image_id"]:
                    return self.forward()
                return self.undo(facts.get("reason") or "a later plan replaces this one", resumed=True)
            return self.set_aside()
        cut = facts.get("phase") in ("swapping", "undoing")
        if cut and self.current is not None and self.current["Id"] in (facts.get("old_id"), facts.get("spare_id")):
            return self.undo(facts.get("reason") or "an earlier run was interrupted", resumed=True)
        return None

    def ours(self, container):
        """Did the journal's run create this container as the replacement? (Without a journal: is it the target?)"""
        known = self.memory.facts.get("next_id")
        if container is None or known is None:
            return container is not None and container["Image"] == self.plan["target"]["image_id"]
        return container["Id"] == known

    def set_aside(self):
        """NAME was deployed by somebody, or its swap is done: it counts, and a stopped .guard-prev goes."""
        if self.previous["State"]["Running"]:
            both = f"both {self.name} and {self.name}.guard-prev run, and {self.name} was not made by guard"
            raise Problem("unfinished", both + ": remove the wrong one by hand")
        self.memory.begin(phase="done")
        self.step(REMOVE_OLD)
        self.engine.remove(self.previous["Id"])
        self.look()

    def take_spare(self):
        self.engine.rename(self.spare["Id"], self.name + ".guard-prev")
        self.previous, self.spare = self.engine.container(self.name + ".guard-prev"), None

    def forward(self, rename=None):
        """From the names to done. Every step looks before it acts, so that it can be run again.

        ``rename``: the old container while it still has its name.
        """
        try:
            if rename is not None:
                self.trade_names(rename)
            old, new = self.previous, self.current
            bridges = published_bridges(self.engine, new)
            keeps = (old["HostConfig"].get("RestartPolicy") or {}).get("Name") not in (None, "", "no")
            if keeps and not self.engine.podman:  # which changes no policy, and has no daemon to act on it
                self.step(HOLD_OLD)
                self.set_policy(old, {"Name": "no", "MaximumRetryCount": 0})
            self.step(STOP_OLD)
            if alive(old):
                self.stopped_at = time.monotonic()
            if old["State"]["Running"]:
                self.engine.stop(old, self.plan["stop_timeout_s"])
            if old["HostConfig"].get("AutoRemove") and old["Id"] != self.memory.facts.get("spare_id"):
                self.await_gone(old["Id"])
                self.take_spare()
            self.step(START_NEW)
            if not new["State"]["Running"]:
                self.engine.start(new["Id"])
            began = time.monotonic()
            new = self.engine.get("containers", new["Id"], "json")
            if new is not None:
                announce(new, bridges)
            self.step(AWAIT_NEW)
            up_at = self.await_health(new, began)
        except EngineGone:
            raise
        except Problem as failed:
            return self.undo(str(failed))
        self.downtime = None if self.stopped_at is None else round(up_at - self.stopped_at, 3)
        return self.finish(new)

    def trade_names(self, old):
        """The old container steps aside and the new one takes its name, while the old one still runs."""
        self.rename(old, self.name + ".guard-prev")
        self.previous = self.engine.container(self.name + ".guard-prev")
        self.step(RENAME_NEW)
        self.rename(self.next, self.name)
        self.current, self.next = self.next, None

    def rename(self, container, name):
        """Rename; a container in its restart pause has no network sandbox, and engines refuse to rename it as it is."""
        try:
            self.engine.rename(container["Id"], name)
        except EngineError as refused:
            if "sandbox" not in str(refused):
                raise
            self.engine.stop(container, self.plan["stop_timeout_s"])
            self.engine.rename(container["Id"], name)

    def finish(self, new):
        """The target is up: what was kept to go back to can go."""
        self.keep(new)
        facts = self.memory.facts
        leftover = None
        for kept in (self.previous, self.spare):
            if kept is not None:
                self.step(REMOVE_OLD)
                try:
                    self.engine.remove(kept["Id"])
                except EngineError as refused:  # the target runs all the same; the next run clears up
                    leftover = str(refused)
        old = facts.get("old") or (described(self.previous, None) if self.previous else None)
        self.step(DONE, phase="done", answer="restored", downtime=self.downtime)
        to = {"image": new["Config"]["Image"], "image_id": new["Image"]}
        return self.result(
            "restored",
            True,
            old,
            to=to,
            container_id=new["Id"],
            backup_tag=facts.get("backup"),
            downtime_s=self.downtime,
            leftover=leftover,
        )

    def keep(self, new):
        """Whatever else is needed for the target to stay, before what was there goes. Here: nothing."""

    def let_go(self):
        """Undo ``keep``."""

    def set_policy(self, container, policy):
        """Set a restart policy; a container in its restart pause refuses that until it is stopped."""
        try:
            self.engine.call("POST", path("containers", container["Id"], "update"), {"RestartPolicy": policy})
        except EngineError:
            if not container["State"].get("Restarting"):
                raise
            self.engine.stop(container, self.plan["stop_timeout_s"])
            self.engine.call("POST", path("containers", container["Id"], "update"), {"RestartPolicy": policy})

    def await_gone(self, container_id):
        until = time.monotonic() + 15
        while self.engine.get("containers", container_id, "json") is not None:
            if time.monotonic() > until:
                raise Problem("engine", f"the stopped self-removing container {container_id[:12]} did not go away")
            time.sleep(POLL_S)

    def await_health(self, new, began):
        """Wait until the new container is healthy, or without a health check has stayed up: ``stable_s``, or less when
        its published ports answer. Returns the (monotonic) time it was up; Problem says why it is not.
        """
        if new is None:
            raise Problem("not_up", "the restored container removed itself right after its start")
        first = new["State"]["StartedAt"]
        check = new["Config"].get("Healthcheck") or {}
        nano = 1e-9
        first_result = (
            check.get("StartPeriod", 0) + (check.get("Interval") or 30e9) + (check.get("Timeout") or 30e9)
        ) * nano
        deadline = began + max(self.plan["health_timeout_s"], first_result)
        probe, probe_at, pause, answered = health_command(new["Config"]), began, 0.1, None
        look_s = POLL_S
        while True:
            state = new["State"]
            now = time.monotonic()
            health = ((state.get("Health") or {}).get("Status") or "none") if self.plan["wait_healthy"] else "none"
            memory = ", out of memory" if state.get("OOMKilled") else ""
            if state.get("Restarting") or new["RestartCount"] > 0 or state["StartedAt"] != first:
                code = f" (exit code {state['ExitCode']}{memory})" if state["ExitCode"] else ""  # 0 while it runs again
                raise Problem("not_up", "the restored container restarts in a loop" + code)
            if not state["Running"]:
                code = f"{state['ExitCode']}{memory} {state.get('Error') or ''}".strip()
                raise Problem("not_up", f"the restored container exited with code {code}")
            if health == "healthy":
                return now
            if health == "none":
                answered = answered or (now if answers(new) else None)
                if now - began >= min(self.plan["stable_s"], STABLE_ANSWERING_S if answered else DAY_S):
                    return answered or began
            if health == "unhealthy":
                last = ((state["Health"].get("Log") or [{}])[-1].get("Output") or "").strip()[-500:]
                raise Problem(
                    "unhealthy",
                    "the restored container is unhealthy: " + (masked(last, new) or "its health check failed"),
                )
            if now > deadline:
                raise Problem(
                    "unhealthy", "the restored container did not become healthy within %.0f s" % (deadline - began)
                )
            if health == "starting" and probe and now >= probe_at:
                # The engine asks for the first time only after one interval (30 s by default): ask at once.
                if self.engine.passes(new["Id"], probe):
                    return time.monotonic()
                probe_at, pause = time.monotonic() + pause, min(pause * 1.6, 2.0)
            time.sleep(look_s)
            look_s = min(look_s * 1.5, LONGEST_LOOK_S)
            new = self.engine.get("containers", new["Id"], "json")
            if new is None:
                raise Problem("not_up", "the restored container exited and removed itself")

    # -- undo

    def undo(self, reason, resumed=False):
        """What was there before is back under its name, with its policy, running if it ran. Then the replacement goes.

        ``resumed``: found half done by a later run. When that run has another plan, None: it starts afresh.
        """
        facts = dict(self.memory.facts)
        same_run = facts.get("run_id") == self.plan["run_id"] and facts.get("phase") == "undoing"
        self.look()
        if self.previous is None and self.spare is not None and self.next is None and self.ours(self.current):
            self.take_spare()
        new = self.current if self.previous is not None and self.current is not None else self.next
        if new is not None and not never_started(new) and self.log_tail is None:
            self.log_tail = masked(self.engine.log_tail(new), new)
        self.step(STOP_NEW, phase="undoing", reason=reason)
        if new is not None and new["State"]["Running"]:
            self.engine.stop(new, self.plan["stop_timeout_s"])
        if self.previous is not None:
            if self.current is not None:
                self.step(PARK_NEW)
                if self.next is not None:
                    self.engine.remove(self.next["Id"])
                if self.engine.container(self.name) is not None:  # a self-removing one has gone by now
                    self.rename(self.current, self.name + ".guard-next")
            self.step(RETURN_OLD)
            self.rename(self.previous, self.name)
        old = self.engine.container(self.name)
        if old is None:
            raise Problem(
                "failed", f"{self.name} could not be put back: it is gone. The reason for going back was: {reason}"
            )
        policy = facts.get("old_policy") or (new or old)["HostConfig"].get("RestartPolicy")
        if policy and policy != old["HostConfig"].get("RestartPolicy"):
            self.step(RELEASE_OLD)
            self.set_policy(old, policy)
        self.step(START_OLD)
        error = None
        if facts.get("was_running", True) and not old["State"]["Running"]:
            bridges = published_bridges(self.engine, old)
            try:
                self.engine.start(old["Id"])
            except EngineError as refused:
                error = f"{reason}; and what ran before did not start again: {refused}"
            old = self.engine.get("containers", old["Id"], "json") or old
            announce(old, bridges)
        downtime = None if self.stopped_at is None else round(time.monotonic() - self.stopped_at, 3)
        self.step(REMOVE_NEW)
        for name in (".guard-next", ".guard-spare"):
            left = self.engine.container(self.name + name)
            if left is not None:
                self.engine.remove(left["Id"])
        self.let_go()
        over = not (resumed and not same_run)
        self.step(DONE, phase="done", downtime=downtime, answer="reverted" if over and not error else None)
        if not over:
            self.look()
            return None
        return self.result(
            "failed" if error else "reverted", True, facts.get("old") or described(old, None),
            error=error or reason, container_id=old["Id"], backup_tag=facts.get("backup"), downtime_s=downtime,
        )  # fmt: skip
