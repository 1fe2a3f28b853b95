"""``guard playbooks``: installed versions and digests."""

from __future__ import annotations

import os

import click

from guard.cli.options import Options, common_options
from guard.cli.running import say


@click.command()
@common_options
def playbooks(options: Options) -> None:
    """Installed playbook versions, newest first, with their digests."""
    from guard.config.load import load_or_defaults
    from guard.report.text import table
    from guard.wiring import catalog

    found = catalog(load_or_defaults(options.config, os.environ)).all()
    rows = [["NAME", "VERSION", "DIGEST", "FOLDER"]]
    rows += [[p.reference.name, p.reference.version, p.reference.digest[:19], str(p.folder)] for p in found]
    document = {
        "playbooks": [
            {
                "name": p.reference.name,
                "version": p.reference.version,
                "digest": p.reference.digest,
                "folder": str(p.folder),
            }
            for p in found
        ]
    }
    say(options, document, table(rows))
