"""``guard replay``: what was observed, through other thresholds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from guard.cli.complete import service_names
from guard.cli.options import Options, common_options
from guard.cli.running import say, with_session
from guard.errors import UsageError

if TYPE_CHECKING:
    from guard.config.checks import Check
    from guard.service.session import Session
    from guard.service.stop import Stop


@click.command()
@click.argument("services", nargs=-1, shell_complete=service_names)
@click.option("--since", required=True, metavar="T", help="2026-11-24T14:00:00Z, or 2h for two hours ago.")
@click.option("--until", metavar="T", help="The same; default: now.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Such as failure_threshold=5; repeatable.")
@common_options
def replay(
    options: Options, services: tuple[str, ...], since: str, until: str | None, settings: tuple[str, ...]
) -> None:
    """Run what was observed through the configured or other thresholds: what would have been rolled back, and when.

    Compared with what was really done. Nothing is measured, and no host is asked.
    """
    from guard.report.replay import replay_document, replay_text
    from guard.service.replay import Wish
    from guard.service.replay import replay as run_again

    changed = dict(_pair(text) for text in settings)
    check, checked = _for_checks(changed)

    async def work(session: Session, stop: Stop) -> None:  # noqa: ARG001 - nothing here takes long
        now = session.clock.now()
        begin, end = moment("--since", since, now), moment("--until", until, now) if until else now
        if begin >= end:
            raise UsageError("--since: expected a time before --until", hint=f"got {begin} and {end}")
        named = tuple(session.config.service(name) for name in services) or session.config.services
        wish = Wish(named, begin, end, changed, check, checked.get("quorum"), checked.get("min_gap"))
        told = run_again(session.store, session.config, wish)
        say(options, replay_document(told), replay_text(told))

    with_session(options, work, read_only=True)


def moment(option: str, text: str, now: datetime) -> datetime:
    """RFC 3339, or a duration: so long ago. UsageError for anything else."""
    from guard.config.durations import parse_duration

    try:
        return now - timedelta(seconds=parse_duration(text))
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        found = None
    if found is None or ("T" not in text.upper() and " " not in text.strip()):
        raise UsageError(f"{option}: expected 2026-11-24T14:00:00Z or a duration such as 2h, got {text!r}")
    return found.astimezone(UTC) if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _pair(text: str) -> tuple[str, object]:
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {text}: expected KEY=VALUE, such as failure_threshold=5")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {key}: cannot read {value!r}") from error


_OF_MEASURING = ("name", "interval", "timeout", "initial_delay", "confirm_interval", "degraded_as")


def check_keys() -> tuple[str, ...]:
    """The keys of a check that say how its observations are counted, not how they come about."""
    from guard.config.checks.base import CheckBase

    return tuple(key for key in CheckBase.model_fields if key not in _OF_MEASURING)


def _for_checks(changed: dict[str, object]) -> tuple[Any, dict[str, Any]]:
    """A change of checks, and the checked values by key. UsageError names the key, and those there are."""
    from pydantic import ValidationError

    from guard.config.checks.base import CheckBase
    from guard.config.schema import RollbackConfig, ServiceConfig

    owners: dict[str, Any] = dict.fromkeys(check_keys(), CheckBase)
    owners |= {"quorum": ServiceConfig, "min_gap": RollbackConfig}
    checked: dict[str, Any] = {}
    for key, value in changed.items():
        if key not in owners:
            import difflib

            close = difflib.get_close_matches(key, owners, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UsageError(f"--set {key}: unknown key", hint=f"{hint}Known keys: {', '.join(owners)}.")
        try:
            checked[key] = _one(owners[key], key, value)
        except ValidationError as error:
            said = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise UsageError(f"--set {key}: {said}") from error
    mine = {key: value for key, value in checked.items() if owners[key] is CheckBase}

    def change(check: Check) -> Check:
        return check.model_copy(update=mine)

    return change, checked


def _one(owner: Any, key: str, value: object) -> object:
    """One value, by the field's own rules."""
    from typing import Annotated

    from pydantic import TypeAdapter

    field = owner.model_fields[key]
    kind: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return TypeAdapter(kind).validate_python(value)
