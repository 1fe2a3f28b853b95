"""Everything ahead of a swap: snapshot, image, backup tag, replacement; and taking that back."""

from __future__ import annotations

from .accept import REFERENCE
from .container import (
    alive,
    described,
    fingerprint,
    is_id,
    never_started,
    repository,
    without_gone_network,
)
from .engine import path
from .hazards import refuse_hazards
from .podman import recreated
from .points import CONNECT, CREATE, DISCARD, PIN, PULL, SPARE, TAG_BACKUP
from .problems import EngineError, Problem
from .steps import Work


class Preparing(Work):
    """What is done to one container, for one plan, before anything is stopped: all of it can be taken back."""

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
        repo = repository(old, old_image)
        self.backup = self.engine.free_tag(repo, self.plan["backup_tag"], old["Image"])
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
