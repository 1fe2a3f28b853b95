from __future__ import annotations

import pytest

from guard.rollback.forks import default_forks


@pytest.mark.parametrize(("hosts", "cpus", "forks"), [(1, 2, 1), (10, 2, 10), (100, 2, 10), (100, 8, 40), (0, 1, 1)])
def test_forks_fit_the_machine_and_the_hosts(hosts: int, cpus: int, forks: int) -> None:
    assert default_forks(hosts, cpus, free_mb=64_000) == forks


@pytest.mark.parametrize(("free_mb", "forks"), [(64_000, 40), (400, 10), (30, 1), (0, 1)])
def test_forks_leave_half_the_memory_to_others(free_mb: float, forks: int) -> None:
    assert default_forks(100, 8, free_mb) == forks


def test_a_machine_that_tells_its_memory_limits_nothing_it_has_room_for() -> None:
    assert default_forks(1) == 1
