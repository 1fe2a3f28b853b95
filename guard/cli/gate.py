"""``guard gate``: the pipeline step after a deploy."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from guard.cli.options import Options, common_options
from guard.cli.running import duration, with_session
from guard.errors import UsageError
from guard.model import GateOutcome, State

if TYPE_CHECKING:
    from guard.model import Gate, TargetKey
    from guard.service.gate import Progress
    from guard.service.session import Session
    from guard.service.stop import Stop

EXIT_CODES = {
    GateOutcome.HEALTHY: 0,
    GateOutcome.ROLLED_BACK: 3,
    GateOutcome.ROLLBACK_FAILED: 4,
    GateOutcome.NOT_ROLLED_BACK: 5,
    GateOutcome.INCONCLUSIVE: 6,
}
HEARTBEAT_S = 30.0


@click.command()
@click.argument("services", nargs=-1, required=True)
@click.option("--for", "for_", required=True, metavar="DURATION", help="How long it must be healthy, such as 5m.")
@click.option("--within", metavar="DURATION", help="By when that time of health must have begun.")
@click.option("--dry-run", is_flag=True, help="Watch and decide, but change no host.")
@common_options
def gate(options: Options, services: tuple[str, ...], for_: str, within: str | None, dry_run: bool) -> int:
    """After a deploy: watch the services; healthy for the whole time makes the release good, a crossed threshold
    rolls it back.

    \b
    Exit code: 0 healthy; 3 rolled back and verified; 4 rollback failed or partial;
    5 deliberately not rolled back; 6 inconclusive; 75 another guard holds a service.
    """
    from guard.report.text import gate_text
    from guard.service.gate import GateOrder, GateRun

    for_s = duration("--for", for_)
    if for_s is None:
        raise UsageError("--for: expected a duration")
    order = GateOrder(for_s, duration("--within", within), dry_run)

    async def work(session: Session, stop: Stop) -> int:
        run = GateRun(session, session.bind(services), order, stop)
        lines = PlainLines(quiet=options.json)
        ended: Gate = await run.run(lines)
        if options.json:
            click.echo(json.dumps(ended.document))
        else:
            rollbacks = [r for r in session.store.rollbacks() if r.gate_id == ended.id]
            for line in gate_text(ended, rollbacks):
                click.echo(line)
        return EXIT_CODES[ended.outcome or GateOutcome.INCONCLUSIVE]

    return with_session(options, work)


class PlainLines:
    """One line per change, one per failure that counts, and a heartbeat each 30 s: never the same line twice."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._states: dict[TargetKey, State] = {}
        self._said_at = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        from guard.report.text import observation_line

        if self._quiet:
            return
        observation = progress.observation
        changed = self._states.get(observation.target) is not observation.state
        self._states[observation.target] = observation.state
        if changed or 0 < progress.failures <= progress.threshold:
            self._say(observation_line(observation, progress.failures, progress.threshold))
        elif time.monotonic() - self._said_at >= HEARTBEAT_S:
            good = sum(state is State.HEALTHY for state in self._states.values())
            self._say(f"still watching: {good} of {len(self._states)} targets healthy")

    def _say(self, line: str) -> None:
        click.echo(line)
        self._said_at = time.monotonic()
