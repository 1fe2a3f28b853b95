"""``guard rollback``: put the previous image back, now."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from guard.cli.complete import host_names, service_names
from guard.cli.options import Options, common_options
from guard.cli.reports import hand_over, report_option
from guard.cli.running import say, with_session
from guard.errors import UsageError
from guard.model import RollbackOutcome, Trigger

if TYPE_CHECKING:
    from guard.report.files import Report
    from guard.rollback.ahead import Ahead
    from guard.service.session import Session
    from guard.service.stop import Stop

EXIT_CODES = {
    RollbackOutcome.RESTORED: 0,
    RollbackOutcome.DRY_RUN: 0,
    RollbackOutcome.PARTIAL: 4,
    RollbackOutcome.FAILED: 4,
    RollbackOutcome.UNFINISHED: 4,
    RollbackOutcome.REFUSED: 5,
}


@click.command()
@click.argument("service", shell_complete=service_names)
@click.option("--to", metavar="REF", help="An image reference, image ID, tag, digest or release ID.")
@click.option("--limit", metavar="PATTERN", shell_complete=host_names, help="Only these hosts (an Ansible pattern).")
@click.option("--force", is_flag=True, help="Override a hold or an irreversible release, or restore a rejected one.")
@click.option("--dry-run", is_flag=True, help="Show what would be done; change no host.")
@report_option
@common_options
def rollback(
    options: Options,
    service: str,
    to: str | None,
    limit: str | None,
    force: bool,
    dry_run: bool,
    reports: tuple[Report, ...],
) -> int:
    """Put the previous image of SERVICE back on its hosts, now.

    Exit code: 0 restored and verified, 4 failed or partial, 5 refused, 75 another guard holds the service.
    """
    from guard.rollback import ahead

    check_reference(to)
    if dry_run:
        return _roll_back(options, service, to, limit, force, dry_run, None, reports)
    early = ahead.begin(os.environ)  # Ansible loads while guard reads, looks and decides
    try:
        return _roll_back(options, service, to, limit, force, dry_run, early, reports)
    finally:
        early.close()


def _roll_back(
    options: Options,
    service: str,
    to: str | None,
    limit: str | None,
    force: bool,
    dry_run: bool,
    early: Ahead | None,
    reports: tuple[Report, ...],
) -> int:
    from guard.cli.lines import TextLines
    from guard.report.documents import rollback_document
    from guard.service.events import nobody
    from guard.service.housekeeping import tidy
    from guard.service.leases import held
    from guard.service.rollback import Order, roll_back
    from guard.service.session import author

    async def work(session: Session, stop: Stop) -> int:
        bound = session.bind([service], limit)[0]
        order = Order(Trigger.MANUAL, f"asked for by {author(os.environ)}", to=to, force=force, dry_run=dry_run)
        async with held(session, [bound.name]) as leases:
            ended = await roll_back(replace(session, early=early), bound, order, leases[bound.name], stop)
        await tidy(session)
        document = rollback_document(ended)
        say(options, document, ())  # its text was told when it ended
        return hand_over(session, reports, document, EXIT_CODES[ended.outcome])

    return with_session(options, work, tell=nobody if options.json else TextLines())


def check_reference(to: str | None) -> None:
    """UsageError for what can be no image reference, tag, ID or release ID."""
    from guard.decide import reference

    if to is None or reference.is_tag(to) or reference.looks_like_id(to):
        return
    try:
        reference.parse(to)
    except ValueError as error:
        raise UsageError(
            f"--to: {error}", hint="expected repository:tag, a tag, repository@sha256:..., an image ID or a release ID"
        ) from error
