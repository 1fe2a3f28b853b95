from __future__ import annotations

import re
import time

import pytest

from guard.errors import LeaseHeld, LeaseLost
from guard.model import Lease
from guard.ports import Store

LONG = 60.0
SHORT = 0.02


def taken_after_expiry(store: Store, service: str, holder: str) -> Lease:
    deadline = time.monotonic() + 5
    while True:
        try:
            return store.acquire(service, holder, LONG)
        except LeaseHeld:
            assert time.monotonic() < deadline, "the lease never ran out"
            time.sleep(0.005)


def test_a_held_service_names_its_holder_since_when_and_for_how_long(store: Store) -> None:
    store.acquire("web", "alice", LONG)
    with pytest.raises(LeaseHeld) as refused:
        store.acquire("web", "bob", LONG)
    assert re.search(r"service web .*alice.* since .* (59|60) s", str(refused.value))
    assert refused.value.exit_code == 75


def test_services_are_held_apart(store: Store) -> None:
    assert store.acquire("web", "alice", LONG).fence >= 1
    assert store.acquire("worker", "bob", LONG).fence >= 1


def test_the_same_holder_acquires_again_as_a_renewal(store: Store) -> None:
    first = store.acquire("web", "alice", LONG)
    assert store.acquire("web", "alice", LONG) == first


def test_the_fence_grows_over_release_and_expiry(store: Store) -> None:
    first = store.acquire("web", "alice", LONG)
    store.release(first)
    second = store.acquire("web", "alice", SHORT)
    third = taken_after_expiry(store, "web", "bob")
    store.release(third)
    fourth = store.acquire("web", "carol", LONG)
    fences = [each.fence for each in (first, second, third, fourth)]
    assert fences == sorted(set(fences))


def test_a_lease_that_was_taken_over_cannot_be_renewed_and_its_release_frees_nothing(store: Store) -> None:
    stale = store.acquire("web", "alice", SHORT)
    taken_after_expiry(store, "web", "bob")
    with pytest.raises(LeaseLost):
        store.renew(stale)
    store.release(stale)
    with pytest.raises(LeaseHeld, match="bob"):
        store.acquire("web", "carol", LONG)


def test_a_released_lease_cannot_be_renewed(store: Store) -> None:
    lease = store.acquire("web", "alice", LONG)
    store.release(lease)
    with pytest.raises(LeaseLost):
        store.renew(lease)


def test_an_older_fence_of_the_same_holder_is_not_the_lease(store: Store) -> None:
    older = store.acquire("web", "alice", LONG)
    store.release(older)
    store.acquire("web", "alice", LONG)
    with pytest.raises(LeaseLost):
        store.renew(older)


def test_a_renewal_keeps_others_out_beyond_the_first_ttl(store: Store) -> None:
    lease = store.acquire("web", "alice", SHORT)
    store.renew(Lease(lease.service, lease.holder, lease.fence, LONG))
    time.sleep(SHORT * 2)
    with pytest.raises(LeaseHeld):
        store.acquire("web", "bob", LONG)


def test_a_lease_that_ran_out_and_nobody_took_is_renewed(store: Store) -> None:
    lease = store.acquire("web", "alice", 0.0)
    store.renew(Lease("web", "alice", lease.fence, LONG))
    with pytest.raises(LeaseHeld):
        store.acquire("web", "bob", LONG)


def test_a_fence_can_be_had_without_taking_the_service_and_is_above_every_earlier_one(store: Store) -> None:
    first = store.acquire("web", "alice", LONG)
    with pytest.raises(LeaseHeld, match="alice"):
        store.next_fence("web")
    store.release(first)
    fence = store.next_fence("web")
    second = store.acquire("web", "bob", LONG)
    assert first.fence < fence < second.fence


def test_an_untouched_service_has_a_fence_to_give(store: Store) -> None:
    assert 0 < store.next_fence("new") < store.next_fence("new")
