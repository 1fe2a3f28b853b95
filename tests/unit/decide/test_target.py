"""Which image each host gets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.decide.target import Wish, bad_images, choose, rejected_ids
from guard.model import ContainerFacts, HostFacts, Image, LocalImage, Release, ReleaseState

START = datetime(2026, 1, 1, tzinfo=UTC)
ANY = Wish()
GOOD, CANDIDATE, REJECTED = ReleaseState.GOOD, ReleaseState.CANDIDATE, ReleaseState.REJECTED


def image_id(version: int) -> str:
    return f"sha256:{version:064x}"


def image(version: int, *, digest: bool = False) -> Image:
    return Image(f"web:1.{version}.0", image_id(version), f"web@{image_id(version)}" if digest else None)


def local(version: int, *tags: str) -> LocalImage:
    return LocalImage(image_id(version), tags or (f"web:1.{version}.0",), (), START + timedelta(days=version))


def facts(running: int | None, *images: int, host: str = "web1") -> HostFacts:
    container = None
    if running is not None:
        container = ContainerFacts("web", "c0ffee", image(running), "running", "", "", 0, False, 0, "")
    return HostFacts(host, "web", container, tuple(local(version) for version in images))


def release(version: int, state: ReleaseState = GOOD, *, healthy: bool | None = True, digest: bool = False) -> Release:
    return Release(f"rel-{version}", "web", state, "snapshot", START, {"web1": image(version, digest=digest)}, healthy)


def chosen(seen: HostFacts, ledger: Sequence[Release] = (), wish: Wish = ANY) -> int | str:
    """The version chosen, or the problem."""
    plan = choose(seen, ledger, wish)
    return int(plan.to.image_id.removeprefix("sha256:"), 16) if plan.to else plan.problem


def test_without_a_record_the_newest_other_local_image_is_taken() -> None:
    assert chosen(facts(3, 1, 2, 3)) == 2


def test_the_release_on_record_comes_before_a_newer_local_image() -> None:
    assert chosen(facts(3, 1, 2, 3), [release(1)]) == 1


def test_a_release_recorded_after_what_runs_is_not_a_target() -> None:
    assert chosen(facts(1, 0, 1, 2), [release(2), release(1), release(0)]) == 0


def test_what_was_unhealthy_when_recorded_is_not_a_target() -> None:
    assert chosen(facts(3, 1, 2, 3), [release(2, CANDIDATE, healthy=False), release(1)]) == 1


def test_what_could_not_be_measured_when_recorded_is_not_a_target() -> None:
    assert chosen(facts(3, 1, 2, 3), [release(2, CANDIDATE, healthy=None), release(1)]) == 1


def test_a_rejected_release_is_never_a_target() -> None:
    assert chosen(facts(3, 1, 2, 3), [release(2, REJECTED), release(1)]) == 1
    assert chosen(facts(3, 2, 3), [release(2, REJECTED)]) == (
        "no earlier release is on record for web1, and it holds no other usable image of web"
    )


def test_a_release_that_proved_good_after_its_rejection_is_a_target_again() -> None:
    assert rejected_ids([release(2, GOOD), release(2, REJECTED)]) == frozenset()


def test_with_fallback_none_an_unrecorded_image_is_no_target() -> None:
    assert "fallback is none" in str(chosen(facts(3, 1, 2, 3), [], Wish(fallback="none")))


def test_a_recorded_image_that_is_gone_is_pulled_by_its_digest_or_named_as_gone() -> None:
    assert chosen(facts(3, 3), [release(1, digest=True)]) == 1
    assert "it is gone from there" in str(chosen(facts(3, 3), [release(1)]))


def test_a_missing_container_is_a_problem_and_no_target() -> None:
    assert "there is no container 'web' on web1" in str(chosen(facts(None)))


def test_a_host_that_does_not_run_the_bad_release_is_left_as_it_is() -> None:
    plan = choose(facts(1, 0, 1, 2), [], Wish(bad=frozenset({image_id(2)})))
    assert plan.from_ == plan.to == image(1)


def test_asked_again_by_hand_a_host_keeps_what_the_last_rollback_put_there() -> None:
    assert chosen(facts(1, 0, 1, 2), [], Wish(restored={"web1": image_id(1)})) == 1


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("web:1.1.0", 1),
        ("1.1.0", 1),
        ("Release_1", "Release_1 is not on web1; give a digest (repository@sha256:…) for guard to pull it"),
        ("docker.io/library/web:1.1.0", 1),
        (image_id(1), 1),
        ("rel-1", 1),
        ("web:9.9.9", "web:9.9.9 is not on web1; give a digest (repository@sha256:…) for guard to pull it"),
    ],
)
def test_an_operator_names_the_target_in_every_usual_way(wanted: str, expected: int | str) -> None:
    assert chosen(facts(3, 1, 2, 3), [release(1)], Wish(to=wanted)) == expected


def test_a_rejected_image_is_restored_only_with_force() -> None:
    ledger = [release(1, REJECTED)]
    assert "--force" in str(chosen(facts(3, 1, 3), ledger, Wish(to="web:1.1.0")))
    assert chosen(facts(3, 1, 3), ledger, Wish(to="web:1.1.0", force=True)) == 1


def test_guard_tags_do_not_become_the_name_of_a_target() -> None:
    seen = HostFacts("web1", "web", facts(3).running, (local(1, "web:backup_20260101_000000", "web:1.1.0"),))
    plan = choose(seen, [], Wish())
    assert plan.to is not None
    assert plan.to.image == "web:1.1.0"


def test_in_a_rolling_deploy_the_bad_image_is_the_one_that_came_last() -> None:
    hosts = [facts(2, 1, 2), facts(1, 1, 2, host="web2")]
    assert bad_images(hosts, frozenset(), []) == {image_id(2)}
    assert bad_images(hosts, frozenset(), [release(1)]) == {image_id(2)}
    assert bad_images(hosts, frozenset(), [release(1), release(2)]) == {image_id(1)}
    assert bad_images(hosts, frozenset({"web2"}), []) == {image_id(1)}


def test_what_a_partial_rollback_left_over_is_the_bad_one_although_the_restored_one_was_recorded_later() -> None:
    hosts = [facts(2, 1, 2), facts(1, 1, 2, host="web2")]
    assert bad_images(hosts, frozenset(), [release(1), release(2, REJECTED), release(1)]) == {image_id(2)}


VERSIONS = st.integers(0, 5)
LEDGERS = st.lists(
    st.builds(release, VERSIONS, st.sampled_from(ReleaseState), healthy=st.sampled_from([True, False, None])),
    max_size=6,
)


@given(VERSIONS, st.sets(VERSIONS), LEDGERS, st.sampled_from(["local-images", "none"]))
def test_whatever_is_on_record_no_plan_names_a_rejected_image_or_none_without_a_reason(
    running: int, images: set[int], ledger: list[Release], fallback: str
) -> None:
    plan = choose(facts(running, *images), ledger, Wish(fallback=fallback))
    if plan.to is None:
        assert plan.problem
    else:
        assert plan.to.image_id not in rejected_ids(ledger)
        assert plan.to.image_id != image_id(running)
