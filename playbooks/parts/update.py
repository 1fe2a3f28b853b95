"""The update of one Swarm service: prepare, swap, undo, settle."""

from __future__ import annotations

import time

from .problems import EngineError, EngineGone, Problem
from .service import MOVING, STUCK, force_of_spec, image_of_spec, only_image_differs, why_failed
from .swarm import Overtaken, SwarmWork

LOOK_EVERY_S = 0.1
LOOP_FAILURES = 3  # so many failed tasks in one slot are a restart loop, whatever the update's own settings forgive
LEADER_S = 20.0  # how long a swarm may be without a leader under an update
KICKS = 5  # how often an undo that the engine paused is started again
KICK_EVERY_S = 1.0

# The durable steps, in order, after those of ``SwarmWork``. Each name is in the journal (fsynced) before its step begins.
POST_UPDATE, AWAIT_TASKS, UPDATE_DONE = "update-service", "await-tasks", "done"
POST_UNDO, AWAIT_UNDO = "undo:update-service", "undo:await-tasks"


class Update(SwarmWork):
    """The update of one service to the plan's target, and the way back."""

    BROKEN_OFF_BY = (EngineGone,)  # a swarm that refuses has changed nothing; the way back is insisted on as it is

    def __init__(self, engine, memory, plan, check_mode):
        SwarmWork.__init__(self, engine, memory, plan, check_mode)
        self.down_since = None

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
        if self.seen.state in MOVING and not (deploy and (expected or not now["image_id"])):
            told = self.seen.update.get("Message") or self.seen.state
            busy = f"somebody else's update of service {self.name} is under way ({told})"
            raise Problem("busy", busy + ": nothing was touched; try again when it has ended")

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
            if self.plan["wait_healthy"]:
                self.await_tasks(facts["new_at"])
            else:
                self.await_put_back(facts["new_at"], facts["old_at"])
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
        self.insist(self.look)
        now, running = time.monotonic(), bool(self.seen.up())
        if self.down_since is not None:
            self.downtime, self.down_since = self.downtime + now - self.down_since, None
        if not running and self.downtime is not None:
            self.down_since = now

    def insist(self, request):
        """A swarm that is choosing another leader answers with errors for a while: nothing is left half for that."""
        until = time.monotonic() + LEADER_S
        while True:
            try:
                return request()
            except EngineError as refused:
                if refused.status < 500 or time.monotonic() > until:
                    raise
                time.sleep(LOOK_EVERY_S)

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

    # -- undo

    def undo(self, reason):
        """The spec from before is back, and as many tasks of it run as ran before (or the swarm does what it can)."""
        facts = self.memory.facts
        self.step(POST_UNDO, phase="undoing", reason=reason)
        self.look_again()
        if self.seen.at == facts["new_at"]:
            self.insist(lambda: self.post(facts["old_at"]))
        self.step(AWAIT_UNDO)
        error = self.await_return(facts["old_at"], facts["new_at"], facts["ran"])
        self.step(UPDATE_DONE, phase="done")
        return self.result(
            "failed" if error else "reverted", True, facts["old"], error=f"{reason}; {error}" if error else reason,
            container_id=self.seen.service["ID"], backup_tag=facts.get("backup"), downtime_s=None if self.downtime is None else round(self.downtime, 3),
        )  # fmt: skip

    def await_put_back(self, at, other):
        """As ``await_tasks`` for an image that was not well before either: its tasks need only be the only ones."""
        error = self.await_return(at, other, 0)
        if error:
            raise Problem("not_up", self.told(error))

    def await_return(self, at, other, ran):
        """Until no task of ``other`` is left and ``ran`` tasks of ``at`` run (again). Returns what is wrong, or None.

        What was there may not have been well either: an undo that the engine pauses over it is started again, so that
        no task of the target stays.
        """
        kicks, kicked_at, began = 0, time.monotonic(), time.monotonic()
        while True:
            self.look_again()
            seen, now = self.seen, time.monotonic()
            if seen.at != at:
                return f"somebody else changed the service to {seen.reference} meanwhile"
            left, back = seen.pending(other), len(seen.up(at))
            if not left and back >= min(ran, seen.wanted):
                return None
            if seen.state in STUCK and left and kicks < KICKS and now - kicked_at > KICK_EVERY_S:
                kicks, kicked_at = kicks + 1, now
                self.post(seen.at)
            if now - began > self.plan["health_timeout_s"] + seen.patience():
                if left:
                    return f"{len(left)} tasks still run the other image, and the swarm does not replace them"
                return f"of what ran before, {back} of {ran} tasks run again"
            time.sleep(LOOK_EVERY_S)
