from __future__ import annotations

from datetime import timedelta

from guard.decide.thresholds import TargetStatus
from guard.model import State
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
