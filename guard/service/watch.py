"""The daemon: measure all services on schedule, warn, and roll critical ones back at their threshold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from guard.decide.crossing import marked
from guard.decide.policy import vetoes
from guard.decide.thresholds import TargetStatus, Transition
from guard.decide.watch import Step, next_step
from guard.errors import GuardError, LeaseHeld
from guard.model import (
    HostFacts,
    HostState,
    Image,
    Lease,
    Observation,
    Release,
    ReleaseState,
    Rollback,
    RollbackOutcome,
    State,
    TargetKey,
    Trigger,
)
from guard.schedule import Schedule, ScheduledTarget
from guard.service import ledger
from guard.service.arming import Arming
from guard.service.counting import STALE_INTERVALS, WATCH, Counters, Recorder, log_observation
from guard.service.events import Event, Kind
from guard.service.housekeeping import tidy
from guard.service.leases import held
from guard.service.leftovers import sweep
from guard.service.look import look
from guard.service.onsets import Onsets
from guard.service.resume import finish, resumable
from guard.service.rollback import Order, decide, new_record, refuse
from guard.service.session import Bound, Session
from guard.service.settings import settings_of
from guard.service.stop import Stop

RELEASE_LOOK_S = 30.0  # how often the running image of each host is looked at
TIDY_EVERY_S = 3600.0
RESUME_EVERY_S = 30.0  # how often unfinished rollbacks and returned hosts are tried again


class Watch:
    """All loops of ``guard watch`` over one session."""

    def __init__(self, session: Session, services: Sequence[Bound], stop: Stop, *, dry_run: bool = False) -> None:
        self._session = session
        self._services = {bound.name: bound for bound in services}
        self._stop = stop
        self._dry_run = dry_run
        self._targets: dict[TargetKey, ScheduledTarget] = {
            target.key: target for bound in services for target in session.build_targets(bound, session.engines)
        }
        self._counters = Counters(
            {key: target.thresholds for key, target in self._targets.items()},
            {bound.name: bound.config.quorum for bound in services},
        )
        self._recorder = Recorder(session.store, self._counters, session.log, WATCH)
        self._onsets = Onsets(self._targets)
        self._settings = {bound.name: settings_of([bound], self._targets.values()) for bound in services}
        self._seen_at: dict[str, datetime] = {}  # when the release in _running was last seen to run
        self._earlier_seen: dict[str, datetime] = {}  # when the one before it was
        self._arming = Arming(session, self._fence)
        self._acting: dict[str, asyncio.Task[None]] = {}
        self._healthy_since: dict[str, float] = {}
        self._running: dict[str, Release] = {}
        self._said_no: dict[str, frozenset[str]] = {}  # rules that said no to a service that is still failed
        self._asked_at: dict[str, float] = {}

    @property
    def counters(self) -> Counters:
        return self._counters

    async def run(self) -> None:
        """Until asked to stop. A rollback that is running then is finished first."""
        watching = [f"watch:{name}" for name in self._services]
        async with held(self._session, watching):
            await self._take_up()
            ended = asyncio.Event()
            schedule = Schedule(list(self._targets.values()), self._session.clock, confirming=self._counters.confirming)
            tasks = [
                asyncio.create_task(schedule.run(self._take, ended)),
                asyncio.create_task(self._recorder.run(ended)),
                asyncio.create_task(self._every(RELEASE_LOOK_S, self._look_at_releases)),
                asyncio.create_task(self._every(RESUME_EVERY_S, self._resume_unfinished)),
                asyncio.create_task(self._tidy()),
            ]
            try:
                await self._until_stopped(tasks)
            finally:
                ended.set()
                if self._acting:
                    self._session.log.info(
                        "finishing the running rollback before stopping", services=list(self._acting)
                    )
                    await asyncio.gather(*self._acting.values())
                self._stop.set()
                await self._arming.close()
                await asyncio.gather(*tasks)
                await self._recorder.flush()

    async def _take_up(self) -> None:
        """Go on with the counters of an earlier watch, unless they are so old that the row is broken by time."""
        now = self._session.clock.now()
        for name in self._services:
            stored = await asyncio.to_thread(self._session.store.statuses, name)
            fresh = {
                key: status
                for key, status in stored.items()
                if key in self._targets
                and status.last is not None
                and (now - status.last.at).total_seconds() <= STALE_INTERVALS * self._targets[key].interval_s
            }
            self._counters.resume(fresh)

    async def _until_stopped(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        stopping = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in done - {stopping}:
            task.result()  # a loop that ended by itself has failed: let its error be seen

    async def _every(self, seconds: float, work: Callable[[Bound], Awaitable[None]]) -> None:
        while not self._stop.is_set():
            for bound in self._services.values():
                if self._stop.is_set():
                    return
                try:
                    await work(bound)
                except GuardError as error:
                    self._session.log.error("trying again later", service=bound.name, error=error.message)
            await self._stop.within(seconds)

    async def _tidy(self) -> None:
        while not self._stop.is_set():
            await tidy(self._session)
            await self._stop.within(TIDY_EVERY_S)

    def _take(self, observation: Observation) -> None:
        key = observation.target
        bound = self._services[key.service]
        transition = self._counters.take(observation)
        self._onsets.take(observation, self._counters.status(key), self._session.clock.monotonic())
        log_observation(self._session.log, observation)
        self._recorder.add(observation)
        self._note_health(key.service)
        status = self._counters.status(key)
        limit = self._targets[key].thresholds.failure
        told = Event(Kind.OBSERVATION, bound.name, observation.reason, observation, status.failures, limit)
        self._session.tell(told)
        if transition is not None:
            self._session.tell(replace(told, kind=Kind(transition.value)))
            level = 20 if transition is Transition.RECOVERED else 30
            self._session.log.log(level, transition.value, target=str(key), failures=status.failures, threshold=limit)
        if status.crossed and observation.state is State.UNHEALTHY:
            self._threshold(bound)
        elif transition is Transition.RECOVERED and not self._counters.failed(bound.name):
            self._said_no.pop(bound.name, None)
            self._asked_at.pop(bound.name, None)
        self._arm(bound, status)

    def _arm(self, bound: Bound, status: TargetStatus) -> None:
        """Prepare at the warning, and take it back when none of the service's targets fails any more."""
        failing = self._counters.in_a_row(bound.name)
        if failing is None:
            self._arming.disarm(bound.name)
        elif status.warned and status.failures and not self._busy(bound):
            self._arming.arm(bound, self._order(bound, "armed at the warning", failing))

    def _busy(self, bound: Bound) -> bool:
        return self._counters.failed(bound.name) or bound.name in self._acting or self._stop.is_set()

    async def _fence(self, name: str) -> int:
        """Being armed is no claim: an operator may roll the service back by hand meanwhile."""
        return await asyncio.to_thread(self._session.store.next_fence, name)

    def _order(self, bound: Bound, reason: str, failing: frozenset[str]) -> Order:
        critical = [name for name, service in self._services.items() if service.config.critical]
        statuses = self._counters.of(bound.name)
        blind, watched = self._onsets.blind(bound.name)
        return Order(
            trigger=Trigger.THRESHOLD,
            reason=reason,
            dry_run=self._dry_run,
            failing=failing,
            failed_dependencies=tuple(d for d in bound.config.depends_on if self._failed(d)),
            critical_services=len(critical),
            failing_together=self._onsets.together(bound.name, critical),
            crossed=self._onsets.failing(statuses),
            targets=len(statuses),
            earlier_seen=self._earlier_seen.get(bound.name),
            blind=blind,
            watched=watched,
            settings=self._settings[bound.name],
        )

    def _note_health(self, service: str) -> None:
        if self._counters.state(service) in (State.HEALTHY, State.DEGRADED):
            self._healthy_since.setdefault(service, self._session.clock.monotonic())
        else:
            self._healthy_since.pop(service, None)

    def _threshold(self, bound: Bound) -> None:
        """Act once per crossing; while a rollback of the service runs nothing more is begun.

        A service that stays failed because a rule said no is asked about again, at most once per ``ASK_AGAIN_S``: the
        hold may have ended. It is told and recorded again only when other rules say no than before.
        """
        now = self._session.clock.monotonic()
        step = next_step(
            now,
            failed=self._counters.failed(bound.name),
            acting=bound.name in self._acting or self._stop.is_set(),
            critical=bound.config.critical,
            asked_at=self._asked_at.get(bound.name),
            refusing=self._said_no.get(bound.name, ()),
        )
        if step is Step.WAIT:
            return
        self._asked_at[bound.name] = now
        if step is Step.TELL and bound.name not in self._said_no:
            self._session.log.error("threshold reached, not critical", service=bound.name)
            text = f"{bound.name} has failed, and is not critical: logged, not rolled back"
            self._say(Kind.NOT_CRITICAL, bound, text)
        task = asyncio.create_task(self._act(bound))
        self._acting[bound.name] = task
        task.add_done_callback(lambda _: self._acting.pop(bound.name, None))

    async def _act(self, bound: Bound) -> None:
        order = self._order(bound, self._counters.reason(bound.name), self._counters.failing_hosts(bound.name))
        rollback: Rollback | None
        try:
            if bound.name in self._said_no and await self._same_answer(bound, order):
                return
            async with held(self._session, [bound.name]) as leases:
                rollback = await self._arming.roll_back(bound, order, leases[bound.name], self._stop)
        except LeaseHeld as error:
            rollback = await self._locked(bound, replace(order, held_by=error.message))
        except GuardError as error:
            if self._said_no.get(bound.name) != frozenset({type(error).__name__}):
                self._session.log.error("rollback not possible now", service=bound.name, error=str(error))
                self._say(Kind.HELD, bound, error.message)
            self._said_no[bound.name] = frozenset({type(error).__name__})
            return
        if rollback is None:  # on record already
            return
        if rollback.outcome in (RollbackOutcome.REFUSED, RollbackOutcome.DRY_RUN):
            self._said_no[bound.name] = frozenset(answer.rule for answer in vetoes(rollback.answers))
            return
        self._said_no.pop(bound.name, None)
        self._counters.reset(bound.name)
        self._onsets.forget(bound.name)
        self._healthy_since.pop(bound.name, None)
        await tidy(self._session)

    async def _locked(self, bound: Bound, order: Order) -> Rollback | None:
        """Another guard is at it: put on record once, with every rule's answer. Nothing is touched, so no lease is
        needed."""
        decided = await decide(self._session, bound, order)
        if decided.refusing == self._said_no.get(bound.name):
            return None
        self._say(Kind.HELD, bound, order.held_by)
        record = new_record(self._session, bound, order, decided, Lease(bound.name, self._session.holder, 0, 0.0))
        said = "; ".join(f"{answer.rule}: {answer.sentence}" for answer in vetoes(decided.answers))
        return await refuse(self._session, record, decided.plan, RollbackOutcome.REFUSED, said)

    async def _same_answer(self, bound: Bound, order: Order) -> bool:
        return (await decide(self._session, bound, order)).refusing == self._said_no[bound.name]

    def _failed(self, service: str) -> bool:
        return service in self._services and self._counters.failed(service)

    async def _look_at_releases(self, bound: Bound) -> None:
        """Record a release whenever the running image changes; call it good after ``good_after`` of health."""
        if bound.name in self._acting:
            return
        looked = self._session.clock.now()
        facts = await look(self._session, bound)
        images = ledger.running_images(facts)
        if len(images) < len(facts):
            return  # a part of the truth is no release
        known = self._running.get(bound.name)
        if known is None or _ids(known.hosts) != _ids(images):
            await self._new_release(bound, facts, images, first=known is None)
            return
        self._seen_at[bound.name] = looked
        since = self._healthy_since.get(bound.name)
        long_enough = since is not None and self._session.clock.monotonic() - since >= bound.config.rollback.good_after
        if long_enough and known.state is ReleaseState.CANDIDATE:
            await self._good(bound, known)

    async def _new_release(
        self, bound: Bound, facts: Mapping[str, HostFacts], images: Mapping[str, Image], *, first: bool
    ) -> None:
        release = await ledger.record(
            self._session,
            bound.name,
            images,
            state=ReleaseState.CANDIDATE,
            origin="watch",
            healthy=None,
            irreversible=marked(facts),
        )
        if release is None:
            return
        if (seen := self._seen_at.get(bound.name)) is not None:
            self._earlier_seen[bound.name] = seen
        self._running[bound.name] = release
        names = ", ".join(sorted({image.image for image in images.values()}))
        if not first:
            self._healthy_since.pop(bound.name, None)
            self._say(Kind.RELEASE, bound, f"a new release runs: {names}")
            self._session.log.info("a new release runs", service=bound.name, images=names, release=release.id)
        rejected = ledger.rejected_among(await asyncio.to_thread(self._session.store.releases, bound.name), images)
        if rejected:
            again = ", ".join(rejected)
            self._session.log.warning("this release was rejected before", service=bound.name, images=again)
            self._say(Kind.RELEASE, bound, f"{again} runs again, and was rejected before")

    async def _good(self, bound: Bound, known: Release) -> None:
        reason = f"healthy for {bound.config.rollback.good_after:g} s under watch"
        await asyncio.to_thread(self._session.store.set_release_state, known.id, ReleaseState.GOOD, reason)
        releases = await asyncio.to_thread(self._session.store.releases, bound.name)
        self._running[bound.name] = next((r for r in releases if r.id == known.id), known)
        self._session.log.info("release is good", service=bound.name, release=known.id)

    async def _resume_unfinished(self, bound: Bound) -> None:
        """Finish what a crash left, and hosts that were out of reach, when nobody else is at it."""
        if bound.name in self._acting:
            return
        await sweep(self._session, bound, self._fence)
        for rollback in await resumable(self._session, bound.name):
            if self._dry_run or not await self._worth_trying(bound, rollback):
                continue
            try:
                await finish(self._session, bound, rollback, self._stop)
            except LeaseHeld:
                return
            self._counters.reset(bound.name)

    async def _worth_trying(self, bound: Bound, rollback: Rollback) -> bool:
        """An ended rollback is taken up again only when one of its unreachable hosts has come back."""
        if rollback.outcome is RollbackOutcome.UNFINISHED:
            return True
        away = frozenset(h for h, r in rollback.hosts.items() if r.state is HostState.UNREACHABLE)
        facts = await look(self._session, bound.narrowed(away))
        return any(not seen.unreachable for seen in facts.values())

    def _say(self, kind: Kind, bound: Bound, text: str) -> None:
        self._session.tell(Event(kind, bound.name, text))


def _ids(images: Mapping[str, Image]) -> dict[str, str]:
    return {host: image.image_id for host, image in images.items()}
