"""The swap of a Compose service's container, with the pin in its project as a step of its own."""

from __future__ import annotations

import time

from .accept import REFERENCE
from .memory import Memory
from .points import PIN
from .problems import Problem
from .project import LABEL, PIN_LABEL, Project
from .swap import Swap

PIN_PROJECT, UNPIN_PROJECT = "pin-project", "undo:unpin-project"


class ComposeSwap(Swap):
    """``Swap`` for the one container of a Compose service.

    The pin is written when the target is up and before the previous container goes: a swap that fails earlier never
    touches the project. Where no pin is possible the replacement keeps the labels of the container it stands for;
    Compose then takes it for what its files say, and an ``up`` of the same files leaves it alone.
    """

    def __init__(self, engine, memory, plan, check_mode):
        Swap.__init__(self, engine, memory, plan, check_mode)
        self.notice = None

    def result(self, state, changed, old, **more):
        return Swap.result(self, state, changed, old, notice=self.notice, **more)

    def project(self, container):
        """The project of the container. Problem when it is not the service's that the plan names."""
        labels, unit = container["Config"].get("Labels") or {}, self.plan["compose"]
        if any(labels.get(LABEL + key) != name for key, name in unit.items()):
            raise Problem("mismatch", "{} is not of Compose service {project}/{service}".format(self.name, **unit))
        return Project(labels, unit["project"], unit["service"])

    # -- the replacement

    def expected_container(self):
        old, image = Swap.expected_container(self)
        self.project(old)
        return old, image

    def prepare(self):
        """As ``Swap``, but for the replacement: an ``up`` of the project would take a second container with the service's
        labels for its own, even one that was only created, and start, rename or remove the wrong one of the two.
        """
        self.images_only = True
        return Swap.prepare(self)

    def wanted(self, old, old_image, reference):
        body, others, leave = Swap.wanted(self, old, old_image, reference)
        project, labels = self.project(old), body["Labels"]
        labels.pop(PIN_LABEL, None)
        if project.override is None:
            self.memory.note(pin=None, unpin=False)
            return body, others, leave
        image, now = self.target_here(), project.entry()
        unpin = now is not None and now["instead_of_id"] == image["Id"] and not now["over"]
        entry = None if unpin else self.entry(image, reference, old, now)
        labels[LABEL + "image"] = image["Id"]
        labels[LABEL + "project.config_files"] = project.files_with(entry)
        if entry:
            labels[PIN_LABEL] = entry["rollback"]
        known = project.hash_with(entry)
        if known:
            labels[LABEL + "config-hash"] = known
        self.memory.note(pin=entry, unpin=unpin)
        return body, others, leave

    def entry(self, image, reference, old, now):
        """What is pinned: by digest when the engine has the image under it, else by a tag that only names this image.
        ``now``: the pin that is there already.
        """
        digest = self.plan["target"]["digest"]
        by_digest = digest in (image.get("RepoDigests") or ())
        return {
            "service": self.plan["compose"]["service"],
            "image": digest if by_digest else self.only_tag(image, reference),
            "local": not by_digest,
            "rollback": self.plan["run_id"],
            "instead_of": old["Config"].get("Image") or old["Image"],
            "instead_of_id": old["Image"],
            "over": now and now["rollback"],
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    def only_tag(self, image, reference):
        pin = "{}:guard_{}".format(REFERENCE.match(reference).group(1), image["Id"].split(":")[-1][:12])
        if pin not in (image.get("RepoTags") or ()):
            self.step(PIN, pinned=pin)
            self.engine.tag(image["Id"], *pin.rsplit(":", 1))
        return pin

    # -- the pin

    def keep(self, new):
        """Pin what was restored; say where, or why not. The restore itself stands either way.

        What the pin was put instead of is no longer in need of one: the project is as it was before.
        """
        facts, service = self.memory.facts, self.plan["compose"]["service"]
        entry = facts.get("pin")
        try:
            project = self.project(new)
            if project.override is None or not (entry or facts.get("unpin")):
                raise Problem("compose", project.obstacle or "what to pin is not on record")
            before = facts.get("pin_before") if facts.get("pin_file") else project.entry()
            self.step(PIN_PROJECT, pin_file=project.override, pin_before=before)
            project.put(entry)
        except Problem as wrong:
            target = self.plan["target"]["image"]
            labelled = PIN_LABEL in (new["Config"].get("Labels") or {})
            next_up = "the next `docker compose up`" if labelled else "an `up` with --force-recreate or changed files"
            self.notice = (
                f"{service} is not pinned for Compose ({wrong}): {next_up} starts what the files say; "
                f"name {target} in them until the next good deploy"
            )
        else:
            self.notice = self.pinned(project) if entry else f"{project.override} no longer pins {service}"

    def pinned(self, project):
        return (
            f"{project.override} pins {project.service} to {project.entry()['image']}, whatever the project's other files "
            "say; the next `guard snapshot`, before a deploy, takes the pin out, or delete the file"
        )

    def already_there(self):
        """As ``Swap``; a pin of this very rollback is told again, for its first answer may have been lost."""
        told = Swap.already_there(self)
        if told and told["state"] == "unchanged":
            project = self.project(self.current)
            if (project.entry() or {}).get("rollback") == self.plan["run_id"]:
                told["notice"] = self.pinned(project)
        return told

    def let_go(self):
        """The project as it was before ``keep``."""
        facts = self.memory.facts
        if not facts.get("pin_file"):
            return
        self.step(UNPIN_PROJECT)
        try:
            self.project(self.engine.container(self.name)).put(facts.get("pin_before"))
        except Problem as wrong:
            self.notice = f"{facts['pin_file']} still pins what was put back again ({wrong}): delete it"

    # -- snapshot

    def snapshot(self):
        """As ``Swap``; and because a deploy is to come, the pin of an earlier rollback goes."""
        told = Swap.snapshot(self)
        project = self.project(self.engine.container(self.name))
        service, entry = self.plan["compose"]["service"], project.entry()
        if project.override is None:
            told["notice"] = f"a rollback of {service} could not be pinned for Compose: {project.obstacle}"
        elif entry is not None and self.engine.container(self.name + ".guard-prev") is None:
            if not self.check_mode:
                with Memory(self.plan, self.engine.address, False) as memory:
                    memory.refuse_older()
                    project.put(None)
            told["changed"] = True
            told["notice"] = (
                f"{project.override} no longer pins {service} to {entry['image']} (rollback {entry['rollback']}): the "
                "deploy to come must name an image of its own, or `docker compose up` starts what the files say, "
                f"{entry['instead_of']} as far as guard knows"
            )
        return told
