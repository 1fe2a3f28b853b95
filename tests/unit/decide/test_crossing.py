"""Going back over what cannot be undone, as tables over a ledger written oldest first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from guard.decide.crossing import all_crossed, crossed, marked
from guard.model import ContainerFacts, HostFacts, HostPlan, Image, LocalImage, Release, ReleaseState

START = datetime(2026, 11, 1, tzinfo=UTC)


def image(version: str) -> Image:
    return Image(f"web:{version}", f"sha256:{version}")


def ledger(*entries: str) -> tuple[Release, ...]:
    """``S1`` is a snapshot of version 1, ``S1!`` one before an irreversible deploy, ``w2`` a watch's record of version
    2, ``w2!`` of one with the label. Given oldest first, returned newest first."""
    releases = []
    for at, entry in enumerate(entries):
        origin = "snapshot" if entry[0] == "S" else "watch"
        when = START + timedelta(hours=at)
        images = {"web1": image(entry[1])}
        state = ReleaseState.CANDIDATE
        releases.append(Release(f"rel-{at}", "web", state, origin, when, images, True, "", entry.endswith("!")))
    return tuple(reversed(releases))


def facts(running: str, *labelled: str) -> HostFacts:
    stock = tuple(LocalImage(f"sha256:{v}", (f"web:{v}",), (), START, irreversible=v in labelled) for v in "123")
    container = ContainerFacts("web", "c", image(running), "running", "", "", 0, False, 0, "")
    return HostFacts("web1", "web", container, stock)


def plan(now: str, to: str) -> HostPlan:
    return HostPlan("web1", "web", image(now), image(to), "release")


@pytest.mark.parametrize(
    ("past", "labelled", "now", "to", "says"),
    [
        (("S1", "w2"), "", "2", "1", ""),
        (("S1", "w2"), "2", "2", "1", "web:2 is marked irreversible"),
        (("S1", "w2"), "1", "2", "1", ""),  # back to it, not over it
        (("S1", "w2!"), "", "2", "1", "web:2 is marked irreversible"),  # its image is gone, the record is not
        (("w1", "w2", "w3"), "2", "3", "1", "web:2, which ran before it, is marked irreversible"),
        (("w1", "w2", "w3"), "2", "3", "2", ""),
        (("S1!", "w2"), "", "2", "1", "cannot be undone"),
        (("S1!",), "", "2", "1", "cannot be undone"),  # the deploy came, and nobody has recorded it yet
        (("w1", "S2!"), "", "2", "1", ""),  # nothing was deployed since
        (("w1", "S2!", "w3"), "", "3", "1", "cannot be undone"),
        (("w1", "S2!", "w3"), "", "3", "2", "cannot be undone"),
        (("S1!", "w2", "S2", "w3"), "", "3", "2", ""),
        (("S1!", "S1", "w2"), "", "2", "1", ""),  # it was not deployed after all: a new snapshot without it counts
        (("S1!", "w2", "w1"), "", "1", "2", ""),  # forced back, and forward again
        (("S1!", "w2"), "", "2", "3", "cannot be undone"),  # a local image that no record knows may be older
        (("S1", "w2", "w3"), "2", "2", "3", ""),  # forward
        ((), "", "2", "1", ""),
    ],
)
def test_what_lies_between_counts(past: tuple[str, ...], labelled: str, now: str, to: str, says: str) -> None:
    told = crossed(plan(now, to), facts(now, *labelled), ledger(*past))
    assert told == says if not says else says in told


def test_a_host_that_stays_as_it_is_crosses_nothing() -> None:
    assert crossed(plan("2", "2"), facts("2", "2"), ledger("S1!", "w2!")) == ""


def test_the_same_on_many_hosts_is_said_once() -> None:
    told = all_crossed({"web1": plan("2", "1")}, {"web1": facts("2", "2")}, ledger("S1", "w2"))
    assert told == ("web:2 is marked irreversible (on web1)",)


@pytest.mark.parametrize(("labelled", "kept"), [("2", True), ("1", False), ("", False)])
def test_only_what_runs_is_kept_as_irreversible(labelled: str, kept: bool) -> None:
    assert marked({"web1": facts("2", *labelled)}) is kept
