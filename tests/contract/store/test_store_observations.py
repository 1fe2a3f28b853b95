from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from guard.decide.thresholds import TargetStatus
from guard.model import ObservedHour, State
from guard.ports import Store
from tests.samples_store import HOSTILE, KEPT, NOW, counted, elsewhere, hold, later, seen, target


def test_a_batch_and_its_counters_come_back_as_they_were_written(store: Store) -> None:
    first, second = seen(), seen(target(host=""), later(1), State.HEALTHY)
    statuses = {first.target: counted(first), second.target: TargetStatus()}
    store.add_observations([first, second], statuses)
    assert store.observations("web", NOW) == (first, second)
    assert store.statuses("web") == statuses


def test_counters_are_replaced_by_the_next_batch(store: Store) -> None:
    store.add_observations([seen()], {target(): counted(seen()), target(host="b"): TargetStatus()})
    store.add_observations([], {target(): TargetStatus(State.HEALTHY, successes=1)})
    assert store.statuses("web") == {
        target(): TargetStatus(State.HEALTHY, successes=1),
        target(host="b"): TargetStatus(),
    }


def test_an_empty_batch_is_nothing(store: Store) -> None:
    store.add_observations([], {})
    assert store.observations("web", NOW) == ()
    assert store.statuses("web") == {}


def test_observations_of_a_service_come_oldest_first_from_since_on(store: Store) -> None:
    batch = [seen(at=later(second)) for second in (3, 1, 2, 0)] + [seen(target("worker"), later(2))]
    store.add_observations(batch, {})
    assert [each.at for each in store.observations("web", elsewhere(later(1)))] == [later(1), later(2), later(3)]
    assert store.observations("worker", NOW) == (batch[-1],)


def test_observations_of_one_moment_keep_their_order(store: Store) -> None:
    batch = [seen(reason=f"number {number}") for number in range(20)]
    store.add_observations(batch, {})
    assert store.observations("web", NOW) == tuple(batch)


def test_hostile_reasons_are_kept_readable(store: Store) -> None:
    store.add_observations([seen(reason=HOSTILE)], {target(): counted(seen(reason=HOSTILE))})
    assert store.observations("web", NOW)[0].reason in (HOSTILE, KEPT)


def test_pruning_deletes_what_is_older_and_leaves_counters_and_younger(store: Store) -> None:
    days = [timedelta(days=each) for each in (0, 1, 2.9, 3.1, 40)]
    batch = [seen(target(service), NOW - age) for service in ("web", "worker") for age in days]
    store.add_observations(batch, {target(): counted(batch[0])})
    assert store.prune(NOW, keep_days=3) == 4
    assert store.prune(NOW, keep_days=3) == 0
    for service in ("web", "worker"):
        assert [NOW - each.at for each in store.observations(service, NOW - days[-1])] == days[2::-1]
    assert store.statuses("web") == {target(): counted(batch[0])}


def test_a_hold_is_in_force_until_its_end_and_not_at_it(store: Store) -> None:
    assert store.hold("web", NOW) is None
    store.set_hold(hold(later(60)))
    assert store.hold("web", later(59.9)) == hold(later(60))
    assert store.hold("web", later(60)) is None
    assert store.hold("worker", NOW) is None


def test_a_second_hold_replaces_the_first(store: Store) -> None:
    store.set_hold(hold(later(60)))
    store.set_hold(hold(later(10), "shorter"))
    assert store.hold("web", NOW) == hold(later(10), "shorter")


def test_clearing_says_whether_a_hold_was_in_force(store: Store) -> None:
    assert not store.clear_hold("web", NOW)
    store.set_hold(hold(later(60)))
    assert not store.clear_hold("web", later(61))
    store.set_hold(hold(later(60)))
    assert store.clear_hold("web", later(1))
    assert store.hold("web", later(2)) is None
    assert not store.clear_hold("web", later(3))


def test_observations_can_be_asked_for_by_end_and_source(store: Store) -> None:
    batch = [replace(seen(at=later(second)), source=source) for second, source in enumerate(("watch", "gt-1", "watch"))]
    store.add_observations(batch, {})
    assert store.observations("web", NOW, later(1)) == tuple(batch[:2])
    assert store.observations("web", NOW, source="gt-1") == (batch[1],)
    assert store.observations("web", NOW, source="") == ()


def test_what_is_older_is_folded_into_one_row_per_target_and_hour(store: Store) -> None:
    old = [
        replace(seen(at=NOW - timedelta(days=8, seconds=second), state=state, reason=reason), latency_s=latency)
        for second, state, latency, reason in [
            (3, State.HEALTHY, 0.1, "200"),
            (2, State.UNHEALTHY, 0.3, "status 500"),
            (1, State.UNHEALTHY, None, "timed out"),
            (0, State.UNKNOWN, None, "no DNS"),
        ]
    ]
    other = seen(target(host="b"), NOW - timedelta(days=8), State.DEGRADED)
    young = seen(at=NOW - timedelta(days=6.9))
    store.add_observations([*old, other, young], {target(): counted(young)})
    assert store.fold(NOW, 7, 100) == 5
    assert store.fold(NOW, 7, 100) == 0
    hour = (NOW - timedelta(days=8)).replace(minute=0, second=0, microsecond=0)
    before = hour - timedelta(hours=1)
    assert store.hours("web", NOW - timedelta(days=9)) == (
        ObservedHour(
            target(),
            before,
            healthy=1,
            unhealthy=2,
            latency_min_s=0.1,
            latency_avg_s=0.2,
            latency_max_s=0.3,
            first_bad="status 500",
        ),
        ObservedHour(target(), hour, unknown=1),
        ObservedHour(target(host="b"), hour, degraded=1, latency_min_s=0.012, latency_avg_s=0.012, latency_max_s=0.012),
    )
    assert store.hours("web", hour)[0].hour == hour
    assert store.observations("web", NOW - timedelta(days=30)) == (young,)
    assert store.statuses("web") == {target(): counted(young)}


def test_an_hour_that_is_folded_in_two_steps_adds_up(store: Store) -> None:
    store.add_observations([seen(at=NOW - timedelta(days=8), reason="first")], {})
    assert store.fold(NOW, 7, 100) == 1
    store.add_observations(
        [seen(at=NOW - timedelta(days=8), reason="second"), seen(at=NOW - timedelta(days=8), state=State.HEALTHY)], {}
    )
    assert store.fold(NOW, 7, 100) == 2
    (hour,) = store.hours("web", NOW - timedelta(days=9))
    assert (hour.unhealthy, hour.healthy, hour.first_bad, hour.latency_avg_s) == (2, 1, "first", pytest.approx(0.012))


def test_beyond_the_bound_the_oldest_are_folded_however_young(store: Store) -> None:
    batch = [seen(at=later(second)) for second in range(30)]
    store.add_observations(batch, {})
    assert store.fold(later(60), 7, 10) == 20
    assert store.observations("web", NOW) == tuple(batch[20:])
    assert sum(hour.unhealthy for hour in store.hours("web", NOW - timedelta(hours=1))) == 20


def test_an_hour_in_use_is_not_folded_by_age_before_it_is_over(store: Store) -> None:
    store.add_observations(
        [seen(at=NOW - timedelta(days=7, seconds=-60)), seen(at=NOW - timedelta(days=7, hours=1))], {}
    )
    assert store.fold(later(1800), 7, 100) == 1


def test_hours_are_deleted_at_their_age(store: Store) -> None:
    store.add_observations([seen(at=NOW - timedelta(days=each)) for each in (8, 50, 95)], {})
    store.fold(NOW, 7, 100)
    assert store.prune(NOW, keep_days=90) == 1
    assert len(store.hours("web", NOW - timedelta(days=365))) == 2
