"""The swap of one container: forward, undo, and what an interrupted one is brought to."""

from __future__ import annotations

import time

from .announce import announce, published_bridges
from .container import (
    alive,
    answers,
    described,
    health_command,
    never_started,
)
from .engine import POLL_S, path
from .masking import masked
from .points import (
    AWAIT_NEW,
    DONE,
    HOLD_OLD,
    PARK_NEW,
    RELEASE_OLD,
    REMOVE_NEW,
    REMOVE_OLD,
    RENAME_NEW,
    RENAME_OLD,
    RETURN_OLD,
    START_NEW,
    START_OLD,
    STOP_NEW,
    STOP_OLD,
)
from .preparing import Preparing
from .problems import EngineError, EngineGone, Problem

LONGEST_LOOK_S = 0.05  # every look costs the engine some milliseconds: on a busy host those of others
STABLE_ANSWERING_S = 0.25  # how long a container that answers on its published ports must have stayed up
DAY_S = 86400.0


class Swap(Preparing):
    """One host's work on one container, for one plan."""

    BROKEN_OFF_BY = (EngineGone, EngineError)  # after which it is looked at afresh

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
                if not never_started(kept) and self.log_tail is None:  # why it was replaced may stand there alone
                    self.log_tail = masked(self.engine.log_tail(kept), kept)
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

    def park(self, new):
        """The replacement gives up the name. One that removes itself may be gone, or be going at this moment."""
        if self.engine.container(self.name) is None:
            return
        try:
            self.rename(new, self.name + ".guard-next")
        except EngineError:
            if not new["HostConfig"].get("AutoRemove"):
                raise
            self.await_gone(new["Id"])

    def give_back_name(self):
        """What ran before has its name again. Engines free the name of a removed container a moment after it is gone."""
        until = time.monotonic() + 3
        while True:
            try:
                return self.rename(self.previous, self.name)
            except EngineError as refused:
                if refused.status != 409 or time.monotonic() > until:
                    raise
                time.sleep(POLL_S)

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
                self.park(self.current)
            self.step(RETURN_OLD)
            self.give_back_name()
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
