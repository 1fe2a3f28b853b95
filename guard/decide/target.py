"""Which image each host is to get. Facts and the ledger go in, one HostPlan per host comes out.

The rule (CONTRACT §4.1): the newest release on record for that host that is earlier than what runs now, not rejected,
and was healthy when recorded; when there is none and it is allowed, the newest other local image of the repository.

Invariants (hypothesis, ``tests/unit/decide/test_target.py``):
- a rejected image is never chosen, unless an operator names it with force;
- a host that does not run the bad release is left as it is;
- a plan either has a target, or says why not, or says that nothing is to be done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from guard.decide import reference
from guard.model import HostFacts, HostPlan, Image, LocalImage, Release, ReleaseState


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller asks for. ``to`` names an image or a release ID; ``bad`` the image IDs to be replaced (None: all
    but what the rules say); ``restored`` the image ID per host that the last rollback put there."""

    to: str | None = None
    force: bool = False
    fallback: str = "local-images"
    bad: frozenset[str] | None = None
    restored: Mapping[str, str] | None = None


def choose(facts: HostFacts, releases: Sequence[Release], wish: Wish) -> HostPlan:
    """One host's target. ``releases`` is the service's ledger, newest first."""
    if facts.problem:
        return HostPlan(facts.host, facts.container, None, None, problem=facts.problem, unreachable=facts.unreachable)
    if facts.running is None:
        problem = f"there is no container {facts.container!r} on {facts.host}: nothing to take its configuration from"
        return HostPlan(facts.host, facts.container, None, None, problem=problem)
    now = facts.running.image
    if wish.to is not None:
        return _explicit(facts, now, releases, wish)
    if wish.restored and wish.restored.get(facts.host) == now.image_id:
        return HostPlan(facts.host, facts.container, now, now, source="restored before")
    if wish.bad is not None and now.image_id not in wish.bad:
        return HostPlan(facts.host, facts.container, now, now, source="not the bad release")
    rejected = rejected_ids(releases) | {now.image_id}
    recorded = _newest_on_record(facts.host, now, releases, rejected)
    if recorded is not None:
        return _available(facts, now, recorded, "release")
    if wish.fallback == "none":
        problem = f"no earlier good release of {facts.container!r} is on record for {facts.host}, and fallback is none"
        return HostPlan(facts.host, facts.container, now, None, problem=problem)
    return _newest_local(facts, now, rejected)


def bad_images(hosts: Sequence[HostFacts], failing: frozenset[str], releases: Sequence[Release]) -> frozenset[str]:
    """The image IDs a rollback is to replace.

    ``failing``: the hosts whose own targets failed; empty when only a check without a host failed, or when an
    operator asks. Then the bad image is one that was rejected before, else the one that came last: not on record at
    all, else recorded last. A host that still runs what ran before is not touched by mistake in the middle of a
    rolling deploy.
    """
    running = {f.host: f.running.image.image_id for f in hosts if f.running is not None}
    named = frozenset(image_id for host, image_id in running.items() if host in failing)
    if named:
        return named
    distinct = frozenset(running.values())
    if len(distinct) <= 1:
        return distinct
    rejected = rejected_ids(releases) & distinct  # left over by a rollback that did not come to all hosts
    if rejected and rejected != distinct:
        return rejected
    first_seen = _first_seen(releases)
    unrecorded = distinct - first_seen.keys()
    if unrecorded and unrecorded != distinct:
        return unrecorded
    if not unrecorded:
        return frozenset({max(distinct, key=lambda image_id: first_seen[image_id])})
    created = {image.image_id: image.created for f in hosts for image in f.images}
    dated = {image_id for image_id in distinct if image_id in created}
    return frozenset({max(dated, key=lambda image_id: created[image_id])}) if dated else distinct


def rejected_ids(releases: Sequence[Release]) -> frozenset[str]:
    """Image IDs whose newest word in the ledger is ``rejected``. A later gate that found them good clears them."""
    verdict: dict[str, ReleaseState] = {}
    for release in releases:  # newest first: the first word about an image that is a verdict stands
        for image in release.hosts.values():
            if release.state is not ReleaseState.CANDIDATE:
                verdict.setdefault(image.image_id, release.state)
    return frozenset(image_id for image_id, state in verdict.items() if state is ReleaseState.REJECTED)


def _first_seen(releases: Sequence[Release]) -> dict[str, int]:
    """Position in time of each image's newest recorded release; larger is later."""
    seen: dict[str, int] = {}
    for position, release in enumerate(reversed(releases)):
        for image in release.hosts.values():
            seen[image.image_id] = position
    return seen


def _newest_on_record(host: str, now: Image, releases: Sequence[Release], excluded: frozenset[str]) -> Image | None:
    """Skips everything recorded later than the newest record of what runs now: that would be a roll forward."""
    on_host = [release for release in releases if host in release.hosts]
    current = next((i for i, r in enumerate(on_host) if r.hosts[host].image_id == now.image_id), None)
    earlier = on_host if current is None else on_host[current + 1 :]
    for release in earlier:
        image = release.hosts[host]
        if image.image_id in excluded or release.state is ReleaseState.REJECTED:
            continue
        if release.healthy or release.state is ReleaseState.GOOD:
            return image
    return None


def _available(facts: HostFacts, now: Image, image: Image, source: str) -> HostPlan:
    """A recorded image counts only if the host has it or it can be pulled by digest."""
    local = any(candidate.image_id == image.image_id for candidate in facts.images)
    if local or image.digest:
        return HostPlan(facts.host, facts.container, now, image, source)
    problem = (
        f"{image.image} ({_short(image.image_id)}) is on record for {facts.host}, but it is gone from there "
        "and was never in a registry, so it cannot be pulled"
    )
    return HostPlan(facts.host, facts.container, now, None, problem=problem)


def _newest_local(facts: HostFacts, now: Image, excluded: frozenset[str]) -> HostPlan:
    for image in _by_age(facts.images):
        if image.image_id not in excluded:
            return HostPlan(facts.host, facts.container, now, _as_image(image), source="local-images")
    name = reference.repository(now.image) or now.image
    problem = f"no earlier release is on record for {facts.host}, and it holds no other usable image of {name}"
    return HostPlan(facts.host, facts.container, now, None, problem=problem)


def _explicit(facts: HostFacts, now: Image, releases: Sequence[Release], wish: Wish) -> HostPlan:
    wanted = wish.to or ""
    release = next((r for r in releases if r.id == wanted), None)
    if release is not None:
        if facts.host not in release.hosts:
            problem = f"release {wanted} has nothing on record for {facts.host}"
            return HostPlan(facts.host, facts.container, now, None, problem=problem)
        image: Image | None = release.hosts[facts.host]
    else:
        image = _resolve(wanted, now, facts.images)
    if image is None:
        problem = f"{wanted} is not on {facts.host}; give a digest (repository@sha256:…) for guard to pull it"
        return HostPlan(facts.host, facts.container, now, None, problem=problem)
    if image.image_id == now.image_id:
        return HostPlan(facts.host, facts.container, now, now, source="explicit")
    if image.image_id in rejected_ids(releases) and not wish.force:
        problem = f"{wanted} ({_short(image.image_id)}) was rejected before; --force restores it all the same"
        return HostPlan(facts.host, facts.container, now, None, problem=problem)
    return _available(facts, now, image, "explicit")


def _resolve(wanted: str, now: Image, images: Sequence[LocalImage]) -> Image | None:
    """By full reference, by bare tag of the running repository, by image ID (prefix), or by digest."""
    running_repository = reference.repository(now.image)
    if reference.looks_like_id(wanted):
        hexadecimal = wanted.removeprefix("sha256:")
        matches = [i for i in images if i.image_id.removeprefix("sha256:").startswith(hexadecimal)]
        if len(matches) == 1:
            return _as_image(matches[0])
    try:
        parsed = reference.parse(wanted)
    except ValueError:  # a tag with capitals, say, is no repository, but still a tag
        parsed = reference.Reference()
    if parsed.digest:
        for image in images:
            if any(digest.endswith("@" + parsed.digest) for digest in image.digests):
                return _as_image(image, wanted)
        return Image(wanted, "", wanted)
    wanted_names = {f"{reference.familiar(parsed.repository)}:{parsed.tag or 'latest'}"}
    if reference.is_tag(wanted) and running_repository:
        wanted_names.add(f"{reference.familiar(running_repository)}:{wanted}")
    for image in images:
        for tag in image.tags:
            if reference.familiar(tag) in wanted_names:
                return _as_image(image, tag)
    return None


def _by_age(images: Sequence[LocalImage]) -> list[LocalImage]:
    """Newest first. ``sorted`` is stable, so the engine's own order decides between equals."""
    return sorted(images, key=lambda image: image.created, reverse=True)


def _as_image(image: LocalImage, name: str | None = None) -> Image:
    """The name a person would use: a deploy's tag before a guard tag before a bare ID."""
    plain = next((tag for tag in image.tags if not reference.is_guard_tag(tag)), None)
    digest = image.digests[0] if image.digests else None
    return Image(name or plain or (image.tags[0] if image.tags else image.image_id), image.image_id, digest)


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]
