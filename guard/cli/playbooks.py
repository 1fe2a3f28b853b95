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
    from guard.report.text import table
    from guard.wiring import catalog, load_config

    found = catalog(load_config(options.config, os.environ)).all()
    rows = [["NAME", "VERSION", "DIGEST", "WHERE"]]
    rows += [[p.name, p.version, p.digest[:19], p.problem or str(p.folder)] for p in found]
    documents = [
        {
            "name": p.name,
            "version": p.version,
            "digest": p.digest,
            "folder": str(p.folder),
            "shipped": p.shipped,
            "description": p.description,
            "problem": p.problem or None,
        }
        for p in found
    ]
    say(options, {"playbooks": documents}, table(rows))
