"""``guard watch``: the daemon."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from guard.cli.options import Options, common_options
from guard.cli.running import duration, with_session

if TYPE_CHECKING:
    from guard.config.schema import GuardConfig
    from guard.service.session import Session
    from guard.service.stop import Stop
    from guard.service.watch import Watch


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
    from guard.cli.lines import JsonLines
    from guard.cli.live import lines
    from guard.service.watch import Watch

    interval_s, timeout_s = duration("--check-interval", check_interval), duration("--timeout", timeout)

    def configure(config: GuardConfig) -> GuardConfig:
        from guard.config.load import with_overrides

        return with_overrides(config, interval=interval_s, timeout=timeout_s, failure_threshold=failure_threshold)

    async def work(session: Session, stop: Stop) -> int:
        services = session.bind(())
        watching = Watch(session, services, stop, dry_run=dry_run)
        if not options.json:
            targets = len(watching.counters.all())
            click.echo(f"watching {len(services)} services, {targets} targets{' (dry run)' if dry_run else ''}")
        await watching.run()
        _summary(options, watching, [bound.name for bound in services])
        return 128 + stop.signal_number if stop.signal_number else 0

    at_a_terminal = sys.stderr.isatty()  # there the lines on stdout are enough; a service manager gets the whole log
    if options.json:
        return with_session(options, work, quiet=at_a_terminal, configure=configure, tell=JsonLines())
    with lines() as tell:
        return with_session(options, work, quiet=at_a_terminal, configure=configure, tell=tell)


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
