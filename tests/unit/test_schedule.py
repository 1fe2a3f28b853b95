"""The schedule, in virtual time: what the tests promise is exact, and an hour passes in an instant."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.decide.thresholds import Thresholds
from guard.model import Measurement, Observation, State, TargetKey
from guard.schedule import Due, Schedule, ScheduledTarget, one_round
from guard.service.counting import Counters
from tests.fakes import START, FakeProbe, LoopClock, VirtualLoop, run_virtually

GOOD = Measurement(State.HEALTHY, 0.0, "good")
BAD = Measurement(State.UNHEALTHY, 1.0, "bad")


def target(probe: Any, name: str = "web", interval_s: float = 30.0, timeout_s: float = 10.0) -> ScheduledTarget:
    return ScheduledTarget(TargetKey(name, "http"), probe, interval_s, timeout_s)


def run_for(
    seconds: float,
    targets: list[ScheduledTarget],
    *,
    immediately: bool = True,
    on_lag: Callable[[TargetKey, float], None] | None = None,
) -> list[Observation]:
    async def main() -> list[Observation]:
        seen: list[Observation] = []
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        await Schedule(targets, LoopClock(), on_lag=on_lag).run(seen.append, stop, immediately=immediately)
        return seen

    return run_virtually(main())


def test_starts_do_not_drift_however_long_measurements_take() -> None:
    probe = FakeProbe(takes_s=7.3)
    run_for(3599, [target(probe)])
    assert probe.began == pytest.approx([30.0 * n for n in range(120)])


def test_a_slow_check_skips_the_slots_it_missed_and_never_overlaps_with_itself() -> None:
    probe = FakeProbe(takes_s=2.5)
    run_for(10, [target(probe, interval_s=1.0)])
    assert probe.began == pytest.approx([0.0, 3.0, 6.0, 9.0])


def test_a_stuck_check_delays_no_other() -> None:
    stuck, quick = FakeProbe(takes_s=9.9), FakeProbe()
    run_for(20.5, [target(stuck, "stuck", 1.0), target(quick, "quick", 1.0)])
    assert quick.began == pytest.approx([float(n) for n in range(21)])


def test_starts_are_spread_over_the_interval_unless_all_begin_immediately() -> None:
    def first_starts(immediately: bool) -> list[float]:
        probes = [FakeProbe() for _ in range(100)]
        run_for(1.5, [target(p, str(n), 1.0) for n, p in enumerate(probes)], immediately=immediately)
        return sorted(probe.began[0] for probe in probes)

    assert first_starts(immediately=True) == [0.0] * 100
    spread = first_starts(immediately=False)
    gaps = [later - earlier for earlier, later in pairwise(spread)]
    assert max(gaps) < 0.03, "evenly: with 100 targets in a second no gap is much longer than 10 ms"
    assert spread[0] >= 0
    assert spread[-1] < 1.0


def test_few_targets_with_a_long_interval_are_first_seen_within_a_second() -> None:
    probes = [FakeProbe() for _ in range(8)]
    run_for(1.0, [target(probe, str(n)) for n, probe in enumerate(probes)], immediately=False)
    assert all(probe.began for probe in probes)


def test_an_observation_carries_what_was_measured_and_when_it_ended() -> None:
    seen = run_for(29, [target(FakeProbe(Measurement(State.DEGRADED, 0.5, "why", {"a": "b"}), takes_s=0.5))])
    [observation] = seen
    assert observation.target == TargetKey("web", "http")
    assert (observation.state, observation.latency_s, observation.reason) == (State.DEGRADED, 0.5, "why")
    assert observation.evidence == {"a": "b"}
    assert observation.at.second == 0
    assert observation.at.microsecond == 500_000


def test_an_error_inside_a_probe_is_unknown_with_its_traceback() -> None:
    class Broken:
        async def measure(self) -> Measurement:
            raise ZeroDivisionError("of all things")

    seen = run_for(31, [target(Broken())])
    assert [o.state for o in seen] == [State.UNKNOWN, State.UNKNOWN], "and the target is measured again"
    assert "ZeroDivisionError: of all things" in seen[0].reason
    assert "in measure" in seen[0].evidence["traceback"]


def test_a_probe_that_forgets_its_deadline_is_ended_and_unhealthy() -> None:
    seen = run_for(31, [target(FakeProbe(takes_s=500.0), timeout_s=10.0)])
    assert [o.state for o in seen] == [State.UNHEALTHY]
    assert seen[0].reason == "the check did not end within 10 s"
    assert (seen[0].at - START).total_seconds() == pytest.approx(10.25)


def test_a_probe_that_cannot_even_be_cancelled_is_not_started_a_second_time() -> None:
    class Immortal:
        started = 0

        async def measure(self) -> Measurement:
            self.started += 1
            for _ in range(5):
                try:
                    await asyncio.sleep(20)
                except asyncio.CancelledError:
                    continue
            return GOOD

    probe = Immortal()
    seen = run_for(70, [target(probe, timeout_s=1.0)])
    assert probe.started == 1
    assert [o.state for o in seen] == [State.UNHEALTHY, State.UNKNOWN, State.UNKNOWN]


def test_failures_found_because_guard_itself_stood_still_are_unknown() -> None:
    class Stalled:
        async def measure(self) -> Measurement:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            loop.skip(60)
            return BAD

    [observation] = run_for(29, [target(Stalled())])
    assert observation.state is State.UNKNOWN
    assert "stood still" in observation.reason


@pytest.mark.parametrize("good", [GOOD, Measurement(State.DEGRADED, 1.0, "")])
def test_an_answer_that_came_in_spite_of_a_stall_counts(good: Measurement) -> None:
    class Stalled:
        async def measure(self) -> Measurement:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            loop.skip(60)
            return good

    assert [o.state for o in run_for(29, [target(Stalled())])] == [good.state]


def test_stop_ends_measurements_under_way_without_an_observation() -> None:
    probe = FakeProbe(takes_s=5.0)
    assert run_for(2, [target(probe)]) == []
    assert probe.began == [0.0]


def test_an_error_while_an_observation_is_taken_ends_the_run() -> None:
    def broken(observation: Observation) -> None:
        raise OSError("disk full")

    async def main() -> None:
        await Schedule([target(FakeProbe())], LoopClock()).run(broken, asyncio.Event(), immediately=True)

    with pytest.raises(OSError, match="disk full"):
        run_virtually(main())


def test_lag_is_told_for_every_start() -> None:
    lags: list[tuple[TargetKey, float]] = []
    run_for(61, [target(FakeProbe())], on_lag=lambda key, lag: lags.append((key, lag)))
    assert [key.service for key, _ in lags] == ["web", "web", "web"]
    assert [lag for _, lag in lags] == pytest.approx([0.0, 0.0, 0.0])


def test_one_round_measures_all_at_once_and_answers_in_order() -> None:
    async def main() -> tuple[tuple[Observation, ...], float]:
        targets = [target(FakeProbe(takes_s=10.0 - n), str(n)) for n in range(5)]
        seen = await one_round(targets, LoopClock())
        return seen, asyncio.get_running_loop().time()

    seen, took = run_virtually(main())
    assert [o.target.service for o in seen] == ["0", "1", "2", "3", "4"]
    assert took == pytest.approx(10.0)


def test_a_large_round_keeps_a_bound_on_what_is_under_way() -> None:
    async def main() -> float:
        await one_round([target(FakeProbe(takes_s=1.0), str(n)) for n in range(10)], LoopClock(), at_once=3)
        return asyncio.get_running_loop().time()

    assert run_virtually(main()) == pytest.approx(4.0)


def run_counted(seconds: float, targets: list[ScheduledTarget], *, immediately: bool = True) -> Counters:
    """The schedule with the counters that a watch and a gate give it."""
    counters = Counters({t.key: t.thresholds for t in targets}, {t.key.service: "any" for t in targets})

    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        schedule = Schedule(targets, LoopClock(), confirming=counters.confirming)
        await schedule.run(counters.take, stop, immediately=immediately)  # type: ignore[arg-type]

    run_virtually(main())
    return counters


def confirmed(probe: FakeProbe, name: str = "web", **more: Any) -> ScheduledTarget:
    return ScheduledTarget(TargetKey(name, "http"), probe, 30.0, 10.0, Thresholds(failure=3), confirm_s=2.0, **more)


@pytest.mark.parametrize(
    ("script", "began"),
    [
        ([GOOD, BAD, BAD, BAD], [0, 30, 32, 34, 60, 90]),  # crossed: back to its own slots
        ([GOOD, BAD, BAD, GOOD], [0, 30, 32, 34, 60, 90]),  # recovered: the same
        ([BAD, GOOD, BAD, GOOD], [0, 2, 30, 32, 60, 90]),
        ([GOOD, BAD, Measurement(State.UNKNOWN, None, "?"), BAD, BAD, GOOD], [0, 30, 32, 34, 36, 60, 90]),
        ([GOOD, BAD, Measurement(State.DEGRADED, 1.0, "slow"), GOOD], [0, 30, 32, 60, 90]),
    ],
)
def test_a_first_failure_is_confirmed_fast_until_it_recovers_or_crosses(
    script: list[Measurement], began: list[float]
) -> None:
    probe = FakeProbe(*script)
    run_counted(100, [confirmed(probe)])
    assert probe.began == pytest.approx(began)


def test_confirming_checks_do_not_drift_and_skip_the_slots_they_missed() -> None:
    probe = FakeProbe(BAD, takes_s=2.5)
    run_counted(29, [confirmed(probe)])
    assert probe.began == pytest.approx([0, 4, 8])


def test_confirming_one_target_leaves_the_others_at_their_pace() -> None:
    bad, good = FakeProbe(BAD), FakeProbe()
    run_counted(70, [confirmed(bad, "bad"), confirmed(good, "good")])
    assert bad.began == pytest.approx([0, 2, 4, 30, 60])
    assert good.began == pytest.approx([0, 30, 60])


def test_nothing_is_measured_before_the_initial_delay_and_others_do_not_wait_for_it() -> None:
    late, early = FakeProbe(), FakeProbe()
    run_counted(50, [confirmed(late, "late", initial_delay_s=12.0), confirmed(early, "early")])
    assert late.began == pytest.approx([12, 42])
    assert early.began == pytest.approx([0, 30])


@pytest.mark.parametrize("state", [State.UNHEALTHY, State.HEALTHY, State.DEGRADED])
def test_a_degraded_answer_is_observed_as_what_it_is_taken_for(state: State) -> None:
    probe = FakeProbe(Measurement(State.DEGRADED, 0.5, "slow"))
    [seen] = run_for(29, [ScheduledTarget(TargetKey("web", "http"), probe, 30.0, 10.0, degraded_as=state)])
    assert (seen.state, seen.reason) == (state, "slow")


@given(
    first=st.floats(0, 1e6),
    interval=st.floats(0.05, 60),
    steps=st.lists(st.tuples(st.booleans(), st.floats(0, 20)), max_size=60),
)
def test_the_next_start_is_always_ahead_and_never_further_than_one_step(
    first: float, interval: float, steps: list[tuple[bool, float]]
) -> None:
    due = Due(first, interval)
    for hasty, took in steps:
        ended, confirm_s = due.at + took, interval / 4 if hasty else None
        begun = due.at
        due.ended(ended, confirm_s)
        step = interval / 4 if hasty else interval
        assert due.at > begun
        assert -1e-5 * step < due.at - ended <= step * 1.00001
        if not hasty:
            slots = (due.at - first) / interval
            assert slots == pytest.approx(round(slots), abs=1e-3)
