"""The thresholds that were in force: as a gate or a rollback recorded them, or as the configuration has them now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

from guard.decide.replay import Rules
from guard.decide.thresholds import Thresholds
from guard.errors import UsageError
from guard.model import TargetKey
from guard.service.settings import counting

if TYPE_CHECKING:
    from guard.config.schema import Check, GuardConfig


def check_of(config: GuardConfig, key: TargetKey) -> Check | None:
    """The check that measures a target by the configuration. None: it is not configured any more."""
    try:
        service = config.service(key.service)
    except UsageError:
        return None
    return next((check for check in service.checks if check.name == key.check), None)


def configured(config: GuardConfig, keys: Collection[TargetKey]) -> dict[str, object]:
    """What the configuration says now, in the shape in which a decision records it."""
    targets: dict[str, object] = {}
    for key in sorted(keys):
        check = check_of(config, key)
        if check is not None:
            targets[str(key)] = counting(check.thresholds, check.interval, check.timeout)
    names = {service.name: service.quorum for service in config.services}
    quorum = {name: names[name] for name in sorted({key.service for key in keys}) if name in names}
    return {"quorum": quorum, "targets": targets} if targets else {}


def rules_of(settings: Mapping[str, object], keys: Collection[TargetKey]) -> Rules:
    """What to count with. Targets of which nothing (or nothing readable) is recorded are left out."""
    targets, quorum = settings.get("targets"), settings.get("quorum")
    thresholds = {}
    for key in keys:
        recorded = targets.get(str(key)) if isinstance(targets, Mapping) else None
        if isinstance(recorded, Mapping):
            known = {one.name: recorded[one.name] for one in fields(Thresholds) if one.name in recorded}
            try:
                thresholds[key] = Thresholds(**known)
            except (TypeError, ValueError):
                continue  # written by another version
    said = quorum if isinstance(quorum, Mapping) else {}
    return Rules(thresholds, {key.service: said.get(key.service, "any") for key in thresholds})
