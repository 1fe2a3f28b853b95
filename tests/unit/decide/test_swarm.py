"""Which manager stands for a Swarm service, and what it has on record."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from guard.decide.swarm import known_as, manager_of, seen_from
from guard.model import HostFacts, Image, LocalImage, Release, ReleaseState

WHEN = datetime(2026, 11, 24, tzinfo=UTC)
GOOD = HostFacts("web2", "shop_web")
AWAY = HostFacts("web1", "shop_web", problem="web1 is away", unreachable=True)
WORKER = HostFacts("web3", "shop_web", problem="web3 is a worker", unreachable=False)


@pytest.mark.parametrize("found", [(GOOD,), (AWAY, GOOD), (WORKER, AWAY, GOOD), (GOOD, WORKER)])
def test_the_first_that_can_be_asked_does_the_work(found: tuple[HostFacts, ...]) -> None:
    assert manager_of(found) == GOOD


def test_when_none_can_be_asked_each_is_named() -> None:
    told = manager_of((AWAY, WORKER))
    assert (told.host, told.unreachable) == ("web1", False)
    assert told.problem == "no manager could be asked: web1 is away; web3 is a worker"
    assert manager_of((AWAY,)).unreachable is True


def test_a_release_that_another_manager_recorded_counts_for_this_one() -> None:
    image = Image("web:1", "sha256:1")
    release = Release("r", "web", ReleaseState.GOOD, "gate", WHEN, {"web1": image}, True)
    assert seen_from([release], "web2")[0].hosts == {"web2": image}
    assert seen_from([release], "web1")[0] == release


def test_an_image_is_known_by_the_digest_of_its_own_repository() -> None:
    digest = f"sha256:{'d' * 64}"
    mirrored, own = f"mirror.example/web@sha256:{'e' * 64}", f"reg.example/web@{digest}"
    image = LocalImage("sha256:1", (), (mirrored, own), WHEN)
    assert known_as(image, "reg.example/web").image_id == digest
    assert known_as(image, "reg.example/web").digests == (own,)
    assert known_as(image, "other.example/web") == image
