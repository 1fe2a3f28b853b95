"""The pipeline step after a deploy: watch the candidate for a fixed time, end in exactly one outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from guard.decide import gate as judge
from guard.decide.blame import REACH, baseline, last_of_another
from guard.decide.crossing import marked
from guard.decide.service import has_failed, state_of
from guard.errors import Interrupted
from guard.model import (
    Gate,
    GateOutcome,
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
from guard.report.documents import gate_document
from guard.schedule import Schedule, ScheduledTarget, one_round
from guard.service import ledger, pins
from guard.service.arming import Arming
from guard.service.counting import Counters, Recorder, log_observation
from guard.service.events import Event, Kind
from guard.service.group import roll_back_together
from guard.service.leases import held
from guard.service.look import look
from guard.service.onsets import Onsets
from guard.service.rollback import Order
from guard.service.session import Bound, Session, new_id
from guard.service.settings import settings_of
from guard.service.stop import Stop

TICK_S = 0.25


@dataclass(frozen=True, slots=True)
class GateOrder:
    """``within_s`` None: long enough for one full row of failures to be seen beside the time of health. ``together``:
    when one service fails, all are rolled back, or none."""

    for_s: float
    within_s: float | None = None
    dry_run: bool = False
    together: bool = False


class GateRun:
    """One gate from its leases to its record."""

    def __init__(self, session: Session, services: Sequence[Bound], order: GateOrder, stop: Stop) -> None:
        self._session = session
        self._services = {bound.name: bound for bound in services}
        self._asked = order
        self._stop = stop
        self._rejected: dict[str, tuple[str, ...]] = {}
        self._targets: dict[TargetKey, ScheduledTarget] = {
            target.key: target for bound in services for target in session.build_targets(bound, session.engines)
        }
        self._counters = Counters(
            {key: target.thresholds for key, target in self._targets.items()},
            {bound.name: bound.config.quorum for bound in services},
        )
        self._recorder = Recorder(session.store, self._counters, session.log)
        self._onsets = Onsets(self._targets)
        self._leases: Mapping[str, Lease] = {}
        self._arming = Arming(session, self._fence)
        self._terms = judge.Terms(
            order.for_s,
            order.within_s if order.within_s is not None else self._default_within(),
            {key: target.thresholds.failure for key, target in self._targets.items()},
        )
        self._progress = judge.start(self._targets, session.clock.monotonic())
        self._pinned: list[str] = []

    async def run(self) -> Gate:
        """Interrupted after SIGINT or SIGTERM, with everything recorded. LeaseHeld before anything is done."""
        async with held(self._session, list(self._services)) as leases:
            now = self._session.clock.now()
            self._leases = leases
            settings = self._settings(list(self._services.values()))
            gate = Gate(new_id("gt", now), tuple(self._services), None, "", now, None, settings=settings)
            self._recorder.source = gate.id
            await asyncio.to_thread(self._session.store.begin_gate, gate)
            releases = await self._candidates()
            await self._learn_what_failed_before(releases)
            delay = max((target.initial_delay_s for target in self._targets.values()), default=0.0)
            self._progress = judge.start(self._targets, self._session.clock.monotonic() + delay)
            try:
                decision = await self._watch()
                if decision is None:
                    return await self._interrupted(gate)
                return await self._end(gate, decision, releases, leases)
            finally:
                await self._arming.close()

    def _default_within(self) -> float:
        rows = [t.thresholds.failure * (t.interval_s + t.timeout_s) for t in self._targets.values()]
        return self._asked.for_s + max(rows, default=0.0)

    def _settings(self, services: Sequence[Bound]) -> Mapping[str, object]:
        terms = self._terms
        return settings_of(services, self._targets.values(), for_s=terms.for_s, within_s=terms.within_s)

    async def _learn_what_failed_before(self, candidates: Mapping[str, Release | None]) -> None:
        """From what a running watch, or the snapshot before the deploy, observed while another release was there."""
        store, now = self._session.store, self._session.clock.now()
        for name, release in candidates.items():
            past = await asyncio.to_thread(store.releases, name)
            another = last_of_another(release.hosts, past, now) if release is not None else None
            if another is not None:
                seen = await asyncio.to_thread(store.observations, name, now - REACH)
                known = baseline(seen, self._terms.failure_thresholds, now)
                self._onsets.known_before({key: one for key, one in known.items() if one.at <= another})

    async def _candidates(self) -> dict[str, Release | None]:
        """Enter what runs now as candidates, and expect it from now on; call out what was rejected before."""
        found: dict[str, Release | None] = {}
        for name, bound in self._services.items():
            facts = await look(self._session, bound)
            self._session.under_test.expect(bound, ledger.running_images(facts))
            self._rejected[name] = await ledger.called_out(self._session, name, facts)
            for image in self._rejected[name]:
                self._session.log.warning("this release was rejected before", service=name, image=image)
                self._session.tell(Event(Kind.RELEASE, name, f"{image} runs again, and was rejected before"))
            for pinned in pins.told(name, facts):
                self._session.log.warning(pinned)
                self._pinned.append(pinned)
            found[name] = await ledger.record(
                self._session,
                name,
                ledger.running_images(facts),
                state=ReleaseState.CANDIDATE,
                origin="gate",
                healthy=None,
                irreversible=marked(facts),
            )
        return found

    async def _watch(self) -> judge.Decision | None:
        """Observe until the pure judge decides; None when asked to stop."""
        ended = asyncio.Event()
        wake = asyncio.Event()

        def take(observation: Observation) -> None:
            self._take(observation)
            wake.set()

        schedule = Schedule(list(self._targets.values()), self._session.clock, confirming=self._counters.confirming)
        running = asyncio.create_task(schedule.run(take, ended, immediately=True))
        flushing = asyncio.create_task(self._recorder.run(ended))
        try:
            while not self._stop.is_set():
                decision = self._judge()
                if decision is not None and decision.verdict is judge.Verdict.HEALTHY:
                    decision = await self._confirmed(decision, take)
                if decision is not None:
                    return decision
                await _either(wake, self._stop, TICK_S)
                wake.clear()
            return None
        finally:
            ended.set()
            await asyncio.gather(running, flushing)

    def _take(self, observation: Observation) -> None:
        key = observation.target
        transition = self._counters.take(observation)
        now = self._session.clock.monotonic()
        self._onsets.take(observation, self._counters.status(key), now)
        excused = key in self._onsets.excused
        self._progress = judge.note(self._progress, key, observation.state, now, excused=excused)
        log_observation(self._session.log, observation)
        self._recorder.add(observation)
        status = self._counters.status(key)
        limit = self._targets[key].thresholds.failure
        told = Event(Kind.OBSERVATION, key.service, observation.reason, observation, status.failures, limit)
        self._session.tell(told)
        if transition is not None:
            self._session.tell(replace(told, kind=Kind(transition.value)))
        self._arm(key.service, crossed=status.crossed)

    def _arm(self, name: str, *, crossed: bool) -> None:
        """Prepare at the first failed check of a service, and take it back when none of its targets fails any more.

        Services that roll back together are prepared together, once it is clear that all of them go.
        """
        excused = self._onsets.excused
        row = [key for key, status in self._counters.of(name).items() if status.failures and key not in excused]
        if not row:
            self._arming.disarm(name)
        elif not crossed and not self._failed(name) and not self._asked.together:
            failing = frozenset(key.host for key in row if key.host)
            self._arming.arm(self._services[name], self._order(name, "armed at the first failed check", failing))

    def _failed(self, name: str) -> bool:
        """Whether it has failed without what failed before."""
        excused = self._onsets.excused
        statuses = {
            key: replace(status, crossed=status.crossed and key not in excused)
            for key, status in self._counters.of(name).items()
        }
        return has_failed(statuses, self._services[name].config.quorum)

    async def _fence(self, name: str) -> int:
        return self._leases[name].fence

    def _order(self, name: str, reason: str, failing: frozenset[str]) -> Order:
        critical = [n for n, bound in self._services.items() if bound.config.critical]
        statuses = self._counters.of(name)
        blind, watched = self._onsets.blind(name)
        return Order(
            trigger=Trigger.THRESHOLD,
            reason=reason,
            dry_run=self._asked.dry_run,
            failing=failing,
            critical_services=len(critical),
            failing_together=self._onsets.together(name, critical),
            crossed=self._onsets.failing(statuses),
            targets=len(statuses),
            blind=blind,
            watched=watched,
            settings=self._settings([self._services[name]]),
        )

    def _judge(self) -> judge.Decision | None:
        return judge.verdict(
            self._progress,
            self._counters.all(),
            [name for name in self._services if self._failed(name)],
            self._terms,
            self._session.clock.monotonic(),
            self._onsets.excused,
        )

    async def _confirmed(self, decision: judge.Decision, take: Callable[[Observation], None]) -> judge.Decision | None:
        """The last look of a long interval may be old: nothing is called healthy without a fresh round."""
        for observation in await one_round(list(self._targets.values()), self._session.clock):
            take(observation)
        again = self._judge()
        return decision if again is not None and again.verdict is judge.Verdict.HEALTHY else again

    async def _end(
        self,
        gate: Gate,
        decision: judge.Decision,
        releases: Mapping[str, Release | None],
        leases: Mapping[str, Lease],
    ) -> Gate:
        match decision.verdict:
            case judge.Verdict.HEALTHY:
                if taken := await self._taken_back():
                    return await self._record(gate, GateOutcome.NOT_ROLLED_BACK, taken, ())
                for name, release in releases.items():
                    await self._good(name, release, gate)
                reason = "; but ".join([decision.reason, *self._pinned])
                return await self._record(gate, GateOutcome.HEALTHY, reason, ())
            case judge.Verdict.INCONCLUSIVE:
                return await self._record(gate, GateOutcome.INCONCLUSIVE, decision.reason, ())
            case judge.Verdict.FAILED:
                self._session.log.info("threshold reached", gate=gate.id, reason=decision.reason)
                rollbacks = await self._roll_back(gate, decision, releases, leases)
                outcome, reason = _outcome(decision, rollbacks)
                return await self._record(gate, outcome, reason, rollbacks)

    async def _taken_back(self) -> str:
        """A swarm that went back from a deploy by itself is healthy, but not with what was deployed: never green."""
        for name, bound in self._services.items():
            facts = await look(self._session, bound) if bound.swarm else {}
            if said := ledger.taken_back(facts):
                runs = ", ".join(sorted(image.image for image in ledger.running_images(facts).values()))
                return f"{name}: the swarm has taken the deploy back by itself ({said}); {runs} runs"
        return ""

    async def _good(self, name: str, release: Release | None, gate: Gate) -> None:
        facts = await look(self._session, self._services[name])
        images = ledger.running_images(facts)
        if release is not None and {h: i.image_id for h, i in images.items()} == {
            h: i.image_id for h, i in release.hosts.items()
        }:
            store = self._session.store
            await asyncio.to_thread(store.set_release_state, release.id, ReleaseState.GOOD, f"passed {gate.id}")
        elif images:
            self._session.log.warning("the running release changed during the gate: not called good", service=name)

    async def _roll_back(
        self,
        gate: Gate,
        decision: judge.Decision,
        releases: Mapping[str, Release | None],
        leases: Mapping[str, Lease],
    ) -> tuple[Rollback, ...]:
        """The failed services (together: all of them), those that depend on others first."""
        together = self._asked.together
        wanted = [b for b in self._services.values() if together or b.name in decision.services]
        orders = []
        for name in dependents_first(wanted):
            order = await self._order_of(name, gate, decision)
            stays = not order.blamed and _was_there_before(releases.get(name), gate)
            orders.append((self._services[name], replace(order, stays=stays)))
        if together:
            return await roll_back_together(self._session, orders, leases, self._stop)
        return tuple([await self._arming.roll_back(b, o, leases[b.name], self._stop) for b, o in orders])

    async def _order_of(self, name: str, gate: Gate, decision: judge.Decision) -> Order:
        depends_on = self._services[name].config.depends_on
        return replace(
            self._order(name, decision.reason, self._counters.failing_hosts(name)),
            failed_dependencies=tuple([d for d in depends_on if await self._failed_elsewhere(d)]),
            gate_id=gate.id,
            blamed=name in decision.services,
        )

    async def _failed_elsewhere(self, name: str) -> bool:
        """Whether a dependency outside this gate is unhealthy right now. Inside it, both are rolled back together."""
        if name in self._services:
            return False
        bound = self._session.bind([name])[0]
        targets = self._session.build_targets(bound, self._session.engines)
        observed = await one_round(targets, self._session.clock)
        return state_of({o.state for o in observed}) is State.UNHEALTHY

    async def _interrupted(self, gate: Gate) -> Gate:
        await self._record(gate, GateOutcome.INCONCLUSIVE, "interrupted before it was decided", ())
        raise Interrupted(
            f"gate {gate.id} was interrupted; nothing was changed", signal_number=self._stop.signal_number
        )

    async def _record(self, gate: Gate, outcome: GateOutcome, reason: str, rollbacks: tuple[Rollback, ...]) -> Gate:
        await self._recorder.flush()
        ended = replace(gate, outcome=outcome, reason=reason, ended_at=self._session.clock.now())
        current = {}
        for name in self._services:
            releases = await asyncio.to_thread(self._session.store.releases, name)
            current[name] = releases[0] if releases else None
        statuses = {name: self._counters.of(name) for name in self._services}
        ended = replace(ended, document=gate_document(ended, statuses, current, rollbacks, self._rejected))
        await asyncio.to_thread(self._session.store.end_gate, ended)
        return ended


def dependents_first(services: Sequence[Bound]) -> list[str]:
    """Reverse ``depends_on`` order; the configuration refuses circles, and what is left over keeps its order."""
    names = [bound.name for bound in services]
    needs = {bound.name: set(bound.config.depends_on) & set(names) for bound in services}
    ordered: list[str] = []
    while len(ordered) < len(names):
        left = [name for name in names if name not in ordered]
        free = [name for name in left if not any(name in needs[other] for other in left if other != name)]
        ordered.extend(free or left)
    return ordered


def _was_there_before(release: Release | None, gate: Gate) -> bool:
    """Nothing was deployed between the time it was recorded as healthy and this gate."""
    known = release is not None and (release.healthy or release.state is ReleaseState.GOOD)
    return known and release is not None and release.recorded_at < gate.started_at


def _outcome(decision: judge.Decision, rollbacks: tuple[Rollback, ...]) -> tuple[GateOutcome, str]:
    outcomes = {rollback.outcome for rollback in rollbacks}
    if outcomes <= {RollbackOutcome.RESTORED}:
        return GateOutcome.ROLLED_BACK, decision.reason
    if outcomes <= {RollbackOutcome.REFUSED, RollbackOutcome.DRY_RUN}:
        return GateOutcome.NOT_ROLLED_BACK, "; ".join(rollback.reason for rollback in rollbacks)
    return GateOutcome.ROLLBACK_FAILED, "; ".join(rollback.reason for rollback in rollbacks)


async def _either(wake: asyncio.Event, stop: asyncio.Event, seconds: float) -> None:
    """Until an observation came, a stop was asked for, or a tick has passed."""
    waits = [asyncio.create_task(wake.wait()), asyncio.create_task(stop.wait())]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
