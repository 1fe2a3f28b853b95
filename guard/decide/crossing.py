"""Does a rollback go back over something that cannot be undone? The ledger and the images' labels say so. Pure.

Two things make a release irreversible: the label on its image (``LocalImage.irreversible``, kept on record by gate and
watch), and ``guard snapshot --irreversible`` before its deploy. They lie at different places in a service's past:

- a release with the label cannot be left for an earlier one, whichever of the later ones runs;
- a snapshot is taken *before* the deploy that cannot be undone, so the line is drawn right after it: what came later
  goes neither back to the recorded release nor to one before it. As long as nothing came later, nothing is crossed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from guard.decide.names import names_text
from guard.model import HostFacts, HostPlan, Release


def irreversible_ids(facts: HostFacts, releases: Sequence[Release]) -> frozenset[str]:
    """Image IDs that a host must not go back from: by label, or because they were recorded with it."""
    labelled = {image.image_id for image in facts.images if image.irreversible}
    recorded = {
        release.hosts[facts.host].image_id
        for release in releases
        if release.irreversible and release.origin != "snapshot" and facts.host in release.hosts
    }
    return frozenset(labelled | recorded)


def crossed(plan: HostPlan, facts: HostFacts, releases: Sequence[Release]) -> str:
    """What this host's plan would go back over, in words; "" when nothing. ``releases`` is the ledger, newest first."""
    if plan.from_ is None or plan.to is None or not plan.changes:
        return ""
    past = [release for release in releases if plan.host in release.hosts]
    ids = [release.hosts[plan.host].image_id for release in past]
    now = ids.index(plan.from_.image_id) if plan.from_.image_id in ids else -1
    earlier = ids[now + 1 :]
    if plan.to.image_id in ids and plan.to.image_id not in earlier:
        return ""  # only recorded later than what runs: that is no way back
    target = next((i for i in range(now + 1, len(ids)) if ids[i] == plan.to.image_id), len(ids))
    bad = irreversible_ids(facts, releases)
    if plan.from_.image_id in bad:
        return f"{plan.from_.image} is marked irreversible"
    for position in range(max(now, 0), target):
        image = past[position].hosts[plan.host]
        if image.image_id in bad:
            return f"{image.image}, which ran before it, is marked irreversible"
    for position in range(now + 1, min(target + 1, len(past))):
        release = past[position]
        if release.irreversible and release.origin == "snapshot":
            at = f"{release.recorded_at:%Y-%m-%d %H:%M:%S}"
            return f"snapshot {release.id} of {at} UTC says that the deploy after it cannot be undone"
    return ""


def all_crossed(
    plans: Mapping[str, HostPlan], facts: Mapping[str, HostFacts], releases: Sequence[Release]
) -> tuple[str, ...]:
    """One sentence per thing that is crossed, with the hosts it is crossed on."""
    told: dict[str, list[str]] = {}
    for host, plan in sorted(plans.items()):
        if host in facts and (why := crossed(plan, facts[host], releases)):
            told.setdefault(why, []).append(host)
    return tuple(f"{why} (on {names_text(hosts, 3)})" for why, hosts in told.items())


def marked(facts: Mapping[str, HostFacts]) -> bool:
    """Whether what runs on some host carries the label: the ledger keeps that, for images get deleted."""
    return any(
        image.irreversible and image.image_id == seen.running.image.image_id
        for seen in facts.values()
        if seen.running is not None
        for image in seen.images
    )
