"""The bookkeeping of one host's work: durable steps with their times, and its result."""

from __future__ import annotations

import time


class Work:
    """One host's work for one plan. ``name`` is what it is done on."""

    def __init__(self, engine, memory, plan, check_mode):
        self.engine, self.memory, self.plan, self.check_mode = engine, memory, plan, check_mode
        self.name = plan["container"]
        self.steps, self.step_began = [], None
        self.log_tail = self.backup = self.downtime = None

    def step(self, name, **facts):
        """Begin a durable step: the journal knows before it happens."""
        self.end_step()
        self.memory.note(step=name, at=time.time(), **facts)
        self.steps.append({"name": name, "at": round(time.time(), 3), "seconds": 0.0})
        self.step_began = time.monotonic()

    def end_step(self):
        if self.step_began is not None:
            self.steps[-1]["seconds"] = round(time.monotonic() - self.step_began, 4)
            self.step_began = None

    def result(self, state, changed, old, **more):
        """The host's result. ``old`` is {image, image_id} of what ran before."""
        self.end_step()
        seen = {
            "changed": changed, "state": state, "from": old, "to": None, "backup_tag": None, "downtime_s": None,
            "error": None, "container_id": None, "steps": self.steps, "log_tail": self.log_tail,
        }  # fmt: skip
        target = self.plan.get("target")
        if target:
            seen["to"] = {"image": target["image"], "image_id": target["image_id"]}
        seen.update(more)
        return seen
