"""``guard watch``: the daemon."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from guard.cli.options import Options, common_options
from guard.cli.running import duration, with_session
from guard.model import State

if TYPE_CHECKING:
    from guard.config.schema import GuardConfig
    from guard.model import TargetKey
    from guard.service.session import Session
    from guard.service.stop import Stop
    from guard.service.watch import Event, Watch


@click.command()
@click.option("--check-interval", metavar="DURATION", help="Interval of every check.")
@click.option("--failure-threshold", type=click.IntRange(min=1), metavar="N", help="Failures in a row of every check.")
@click.option("--timeout", metavar="DURATION", help="Time-out of every check.")
@click.option("--dry-run", is_flag=True, help="Watch and decide, but change no host.")
@common_options
def watch(
    options: Options,
    check_interval: str | None,
    failure_threshold: int | None,
    timeout: str | None,
    dry_run: bool,
) -> int:
    """Watch all services until SIGINT or SIGTERM; roll critical ones back at their threshold."""
    from guard.service.watch import Watch

    interval_s, timeout_s = duration("--check-interval", check_interval), duration("--timeout", timeout)

    def configure(config: GuardConfig) -> GuardConfig:
        from guard.config.load import with_overrides

        return with_overrides(config, interval=interval_s, timeout=timeout_s, failure_threshold=failure_threshold)

    async def work(session: Session, stop: Stop) -> int:
        services = session.bind(())
        printer = JsonLines() if options.json else TextLines()
        watching = Watch(session, services, printer, stop, dry_run=dry_run)
        if not options.json:
            targets = len(watching.counters.all())
            click.echo(f"watching {len(services)} services, {targets} targets{' (dry run)' if dry_run else ''}")
        await watching.run()
        _summary(options, watching, [bound.name for bound in services])
        return 128 + stop.signal_number if stop.signal_number else 0

    return with_session(options, work, quiet=False, configure=configure)


class TextLines:
    """One line per change of a target, one per failure that counts, and everything that is done about it."""

    def __init__(self) -> None:
        self._states: dict[TargetKey, State] = {}

    def __call__(self, event: Event) -> None:
        from guard.report.text import observation_line, rollback_text

        observation = event.observation
        if event.kind == "observation" and observation is not None:
            changed = self._states.get(observation.target) is not observation.state
            self._states[observation.target] = observation.state
            if changed or 0 < event.failures <= event.threshold:
                click.echo(observation_line(observation, event.failures, event.threshold))
        elif event.rollback is not None:
            click.echo("\n".join(rollback_text(event.rollback)))
        elif observation is not None:
            click.echo(f"{event.kind.upper()} {observation.target}: {event.failures}/{event.threshold}")
        else:
            click.echo(f"{event.kind.replace('_', ' ').upper()} {event.service}: {event.text}")


class JsonLines:
    """One JSON object per line and event."""

    def __call__(self, event: Event) -> None:
        from guard.report.documents import observation_document, rollback_document

        document: dict[str, object] = {"event": event.kind, "service": event.service, "text": event.text}
        if event.observation is not None:
            key = event.observation.target
            document |= {
                "check": key.check,
                "host": key.host or None,
                "consecutive_failures": event.failures,
                "failure_threshold": event.threshold,
                "observation": observation_document(event.observation),
            }
        if event.rollback is not None:
            document["rollback"] = rollback_document(event.rollback)
        click.echo(json.dumps(document))


def _summary(options: Options, watching: Watch, names: list[str]) -> None:
    """The last word: how everything stood when watching ended."""
    from guard.report.documents import check_document
    from guard.report.text import services_text

    services = {name: watching.counters.of(name) for name in names}
    if options.json:
        click.echo(json.dumps({"event": "summary", **check_document(services)}))
        return
    click.echo("stopped watching; how it stood:")
    for line in services_text(services):
        click.echo(line)
