"""A rollback armed at the warning: decided and prepared ahead, so that at the threshold only the swap is left.

A recovery disarms it, and so does whatever ends guard. Being armed is no claim: no lease is held for it, nothing is on
record, and no container is stopped. At the threshold every rule is asked again; only when the plan is still the one
that was prepared, and no news came onto the service's record since, is the intent written and the word given. In every
other case what was prepared is taken back and the rollback goes the ordinary way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace

from guard.errors import GuardError
from guard.model import HostResult, HostState, Image, Lease, Phase, Plan, Rollback, RollbackOutcome
from guard.rollback.armed import LONGEST_S, ArmedRun, arm, is_clean
from guard.rollback.run import RunHandle
from guard.service.events import Event, Kind
from guard.service.execute import ARMED, follow, spec_of, write_plan
from guard.service.leftovers import sweep
from guard.service.rollback import Decided, Order, begin, carry_out, decide, new_record, roll_back
from guard.service.session import Bound, Session, new_id
from guard.service.stop import Stop

AT_ONCE = 4  # services armed at once: each is an Ansible of its own, and a common cause makes many services fail
AGAIN_S = 30.0  # how long a service that could not be armed is left alone
CLOSE_S = 10.0  # how long guard waits at its end for what is being taken back; that goes on without it
PREPARING_POLL_S, ARMED_POLL_S = 0.05, 0.5


@dataclass(frozen=True, slots=True)
class Latest:
    """A service's newest release and rollback on record; ``images`` are the release's."""

    release: str
    images: Mapping[str, Image]
    rollback: str


@dataclass(frozen=True, slots=True)
class Armed:
    """``latest``: what was the newest on the service's record when it was decided."""

    id: str
    run: ArmedRun
    decided: Decided
    latest: Latest

    def is_ready_for(self, plan: Plan, latest: Latest) -> bool:
        """Whether the word may be given for this plan. While the preparation is under way it may: the word waits."""
        prepared = self.run.prepared()
        same = replace(plan, backup_tag=self.decided.plan.backup_tag) == self.decided.plan
        news = latest.rollback != self.latest.rollback or (
            latest.release != self.latest.release and not _runs(plan, latest.images)
        )
        return same and not news and self.run.is_alive and (prepared is None or is_clean(prepared))


@dataclass(slots=True)
class _Life:
    """One arming from the wish to its end. ``begun`` is set when it is known whether there is something to claim."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    armed: Armed | None = None
    off: str = ""  # why it must not stay armed
    claimed: bool = False
    task: asyncio.Task[None] | None = None


class Arming:
    """At most one armed rollback per service. ``fence`` gives the number that preparing sends to the hosts."""

    def __init__(self, session: Session, fence: Callable[[str], Awaitable[int]]) -> None:
        self._session = session
        self._fence = fence
        self._lives: dict[str, _Life] = {}
        self._tried_at: dict[str, float] = {}
        self._ending: set[asyncio.Task[object]] = set()

    def arm(self, bound: Bound, order: Order) -> None:
        """Begin, unless the service is armed, was just found not to be armable, or is never rolled back by itself."""
        now = self._session.clock.monotonic()
        name = bound.name
        if not bound.config.critical or order.dry_run or name in self._lives or len(self._lives) >= AT_ONCE:
            return
        if now - self._tried_at.get(name, -AGAIN_S) < AGAIN_S:
            return
        self._tried_at[name] = now
        life = self._lives[name] = _Life()
        life.task = asyncio.create_task(self._live(bound, order, life))
        life.task.add_done_callback(lambda _: self._forget(name, life))

    def disarm(self, name: str, why: str = "the service has recovered") -> None:
        """Take back what is prepared for the service, if anything is."""
        self._tried_at.pop(name, None)
        life = self._lives.get(name)
        if life is not None and not life.claimed:
            life.off = life.off or why
            life.wake.set()

    async def roll_back(self, bound: Bound, order: Order, lease: Lease, stop: Stop) -> Rollback:
        """At the threshold: give the word when it still fits, else go the ordinary way."""
        armed = await self._claim(bound.name)
        if armed is None:
            return await roll_back(self._session, bound, order, lease, stop)
        decided = await decide(self._session, bound, order, armed.decided.facts)
        if not decided.allowed or not armed.is_ready_for(decided.plan, await self._latest(bound.name)):
            self._later(self._take_back(bound, armed, "it does not fit any more"))
            return await roll_back(self._session, bound, order, lease, stop)
        return await self._swap(bound, order, lease, stop, replace(decided, plan=armed.decided.plan), armed)

    async def close(self) -> None:
        """Disarm everything, and wait a while for that."""
        for name in list(self._lives):
            self.disarm(name, "guard stops watching")
        left = [*(life.task for life in self._lives.values() if life.task is not None), *self._ending]
        if left:
            await asyncio.wait(left, timeout=CLOSE_S)

    # -- one life

    async def _live(self, bound: Bound, order: Order, life: _Life) -> None:
        try:
            life.armed = await self._begin(bound, order, life)
        except GuardError as error:
            self._session.log.info("not armed", service=bound.name, why=error.message)
        finally:
            life.begun.set()
        if life.armed is not None:
            await self._stay(bound, life, life.armed)

    async def _begin(self, bound: Bound, order: Order, life: _Life) -> Armed | None:
        session = self._session
        latest = await self._latest(bound.name)
        decided = await decide(session, bound, order)
        away = [host for host, facts in decided.facts.items() if facts.problem]
        if not decided.allowed or away or life.off or not decided.plan.batches:
            why = f"no look at {', '.join(away)}" if away else ", ".join(sorted(decided.refusing)) or life.off
            session.log.info("not armed", service=bound.name, why=why or "nothing to change")
            return None
        fence = await self._fence(bound.name)
        self._later(self._sweep(bound))
        id_ = new_id("rb", session.clock.now())
        spec = spec_of(session, bound, decided.plan, id_, fence, ARMED, armed_s=LONGEST_S)
        return Armed(id_, await arm(spec), decided, latest)

    async def _stay(self, bound: Bound, life: _Life, armed: Armed) -> None:
        """Until the word is somebody else's to give, the service has recovered, or the run has ended by itself."""
        told = False
        while not life.claimed:
            prepared = armed.run.prepared()
            if why := _ending(life, armed.run, prepared):
                life.off = why
                return await self._take_back(bound, armed, why)
            if prepared is not None and not told:
                told = True
                self._session.log.info("armed", service=bound.name, id=armed.id, hosts=len(prepared))
                self._say(Kind.ARMED, bound, f"prepared on {len(prepared)} hosts, only the swap is left")
            await _within(life.wake, ARMED_POLL_S if told else PREPARING_POLL_S)
        return None

    async def _claim(self, name: str) -> Armed | None:
        """Take the armed rollback of a service over, if it has one. A decision under way is waited for."""
        life = self._lives.get(name)
        if life is None:
            return None
        await life.begun.wait()
        if life.armed is None or life.off or name not in self._lives:
            return None
        life.claimed = True
        life.wake.set()
        return life.armed

    async def _take_back(self, bound: Bound, armed: Armed, why: str) -> None:
        clean = await armed.run.disarm()
        if clean:
            self._session.log.info("disarmed", service=bound.name, id=armed.id, why=why)
            self._say(Kind.DISARMED, bound, f"{why}: what was prepared is taken back, nothing was changed")
            return
        self._session.log.warning("disarmed, but not everywhere yet", service=bound.name, id=armed.id, why=why)
        self._say(Kind.DISARMED, bound, f"{why}: not every host has taken back what was prepared; that is tried again")
        await self._sweep(bound)

    async def _sweep(self, bound: Bound) -> None:
        """What dead runs have left on hosts goes now, or the next time."""
        try:
            await sweep(self._session, bound, self._fence)
        except GuardError as error:
            self._session.log.info("taken back later", service=bound.name, why=error.message)

    # -- the word

    async def _swap(
        self, bound: Bound, order: Order, lease: Lease, stop: Stop, decided: Decided, armed: Armed
    ) -> Rollback:
        """The intent is on record before the word is given; from there it is a rollback like any other."""
        session, plan = self._session, decided.plan
        artifacts = armed.run.folder.parent
        record = replace(
            new_record(session, bound, order, decided, lease),
            id=armed.id,
            phase=Phase.PREPARING,
            artifacts=str(artifacts),
        )
        try:
            await begin(session, bound, record, plan, ", prepared already")
        except GuardError:
            self._later(self._take_back(bound, armed, "the intent could not be written"))
            raise
        handle = armed.run.go({"fence": lease.fence})
        await asyncio.to_thread(write_plan, artifacts, record, plan)
        results = await follow(session, record, plan, handle)
        if handle.word != "go":  # it ended in that very moment: nothing was swapped
            return await carry_out(session, bound, record, plan, stop)
        if _is_stale(handle, results):
            await self._give_up(bound, record, order)
            return await roll_back(session, bound, order, lease, stop)
        return await carry_out(session, bound, record, plan, stop, results)

    async def _give_up(self, bound: Bound, record: Rollback, order: Order) -> None:
        """Every host refused: something else was deployed since it was prepared. That is decided anew."""
        reason = f"{order.reason}; something else was deployed after this was prepared: decided anew"
        ended = self._session.clock.now()
        store = self._session.store
        outcome = RollbackOutcome.REFUSED
        await asyncio.to_thread(store.end_rollback, record.id, outcome, verified=False, reason=reason, ended_at=ended)
        self._session.log.warning("something else was deployed meanwhile", service=bound.name, id=record.id)

    async def _latest(self, name: str) -> Latest:
        releases = await asyncio.to_thread(self._session.store.releases, name)
        past = await asyncio.to_thread(self._session.store.rollbacks, name, 1)
        return Latest(
            releases[0].id if releases else "",
            releases[0].hosts if releases else {},
            past[0].id if past else "",
        )

    def _later(self, work: Coroutine[object, object, object]) -> None:
        task: asyncio.Task[object] = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _forget(self, name: str, life: _Life) -> None:
        if self._lives.get(name) is life:
            del self._lives[name]

    def _say(self, kind: Kind, bound: Bound, text: str) -> None:
        self._session.tell(Event(kind, bound.name, text))


def _is_stale(handle: RunHandle, results: dict[str, HostResult]) -> bool:
    return all(
        result.state is HostState.FAILED and handle.kinds.get(host) in ("mismatch", "not_found")
        for host, result in results.items()
    )


def _runs(plan: Plan, images: Mapping[str, Image]) -> bool:
    """Whether these images are what the plan means to replace."""
    return all(
        one.from_ is not None and host in images and images[host].image_id == one.from_.image_id
        for host, one in plan.hosts.items()
    )


def _ending(life: _Life, run: ArmedRun, prepared: Mapping[str, HostResult] | None) -> str:
    """Why it must not stay armed; "" when it may."""
    if life.off or not run.is_alive:
        return life.off or "its run has ended"
    return _trouble(prepared) if prepared is not None else ""


def _trouble(prepared: Mapping[str, HostResult]) -> str:
    return "; ".join(
        f"{host} could not be prepared: {one.error or one.state.value}"
        for host, one in prepared.items()
        if not is_clean({host: one})
    )


async def _within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
