"""A Swarm service is one thing, whichever manager is asked: which one does the work, and what it has on record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from guard.decide import reference
from guard.model import HostFacts, LocalImage, Release


def manager_of(found: Sequence[HostFacts]) -> HostFacts:
    """The one host that a plan is made for: the first manager that could be asked. At least one is given.

    When there is none, the first host stands for them all, and its problem names each.
    """
    for facts in found:
        if not facts.problem:
            return facts
    told = "; ".join(facts.problem for facts in found)
    unreachable = all(facts.unreachable for facts in found)
    return replace(found[0], problem=f"no manager could be asked: {told}", unreachable=unreachable)


def seen_from(releases: Sequence[Release], manager: str) -> tuple[Release, ...]:
    """The service's ledger with every release under the present manager's name, whoever was asked at that time."""
    return tuple(
        replace(release, hosts={manager: release.hosts.get(manager) or next(iter(release.hosts.values()))})
        if release.hosts
        else release
        for release in releases
    )


def known_as(image: LocalImage, repository: str) -> LocalImage:
    """A local image under the name that the swarm knows it by: its digest in the repository's registry, or its ID."""
    own = [d for d in image.digests if reference.same_repository(reference.repository(d), repository)]
    return replace(image, image_id=own[0].partition("@")[2], digests=tuple(own)) if own else image
