"""``guard gate``: the pipeline step after a deploy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from guard.cli.complete import service_names
from guard.cli.options import Options, common_options
from guard.cli.reports import hand_over, report_option
from guard.cli.running import duration, with_session
from guard.errors import UsageError
from guard.model import GateOutcome

if TYPE_CHECKING:
    from guard.report.files import Report
    from guard.service.session import Session
    from guard.service.stop import Stop

EXIT_CODES = {
    GateOutcome.HEALTHY: 0,
    GateOutcome.ROLLED_BACK: 3,
    GateOutcome.ROLLBACK_FAILED: 4,
    GateOutcome.NOT_ROLLED_BACK: 5,
    GateOutcome.INCONCLUSIVE: 6,
}


@click.command()
@click.argument("services", nargs=-1, required=True, shell_complete=service_names)
@click.option("--for", "for_", required=True, metavar="DURATION", help="How long it must be healthy, such as 5m.")
@click.option("--within", metavar="DURATION", help="By when that time of health must have begun.")
@click.option("--dry-run", is_flag=True, help="Watch and decide, but change no host.")
@click.option("--together", is_flag=True, help="When one service fails, roll all of them back, or none.")
@report_option
@common_options
def gate(
    options: Options,
    services: tuple[str, ...],
    for_: str,
    within: str | None,
    dry_run: bool,
    together: bool,
    reports: tuple[Report, ...],
) -> int:
    """After a deploy: watch the services; healthy for the whole time makes the release good, a crossed threshold
    rolls it back.

    \b
    Exit code: 0 healthy; 3 rolled back and verified; 4 rollback failed or partial;
    5 deliberately not rolled back; 6 inconclusive; 75 another guard holds a service.
    """
    from guard.cli.live import lines
    from guard.report.text import gate_text
    from guard.service.events import nobody
    from guard.service.gate import GateOrder, GateRun
    from guard.service.housekeeping import tidy

    for_s = duration("--for", for_)
    if for_s is None:
        raise UsageError("--for: expected a duration")
    order = GateOrder(for_s, duration("--within", within), dry_run, together)

    async def work(session: Session, stop: Stop) -> int:
        ended = await GateRun(session, session.bind(services), order, stop).run()
        await tidy(session)
        if options.json:
            click.echo(json.dumps(ended.document))
        else:
            for line in gate_text(ended, ()):  # its rollbacks were told when they ended
                click.echo(line)
        return hand_over(session, reports, ended.document, EXIT_CODES[ended.outcome or GateOutcome.INCONCLUSIVE])

    if options.json:
        return with_session(options, work, tell=nobody)
    with lines(for_s) as tell:
        return with_session(options, work, tell=tell)
