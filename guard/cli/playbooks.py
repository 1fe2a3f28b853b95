"""``guard playbooks``: installed versions and digests, and what a playbook of one's own needs."""

from __future__ import annotations

import os
from pathlib import Path

import click

from guard.cli.options import Options, common_options
from guard.cli.running import say
from guard.errors import UsageError


@click.group(invoke_without_command=True)
@common_options
def playbooks(options: Options) -> None:
    """Installed playbook versions, newest first, with their digests.

    \b
    guard playbooks eject container my-name    copies one for you to change
    guard playbooks digest FOLDER --write      puts the digest into its manifest after a change
    """
    if click.get_current_context().invoked_subcommand is not None:
        return
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


@playbooks.command("eject")
@click.argument("playbook")
@click.argument("name")
@click.option("--to", type=click.Path(path_type=Path), metavar="DIR", help="Default: the first playbook_path folder.")
@common_options
def eject(options: Options, playbook: str, name: str, to: Path | None) -> None:
    """Copy PLAYBOOK (its newest version, or name@version) as NAME, for you to change.

    The copy has a name, a version and a digest of its own. Nothing is ever overwritten.
    """
    from guard.rollback.eject import FIRST_VERSION
    from guard.rollback.eject import eject as copy
    from guard.wiring import catalog, load_config

    config = load_config(options.config, os.environ)
    if to is None and not config.playbook_path:
        raise UsageError(
            "there is no folder to put it into: the configuration has no playbook_path",
            hint="add `playbook_path: playbooks` (and make that folder), or name a folder with --to",
        )
    root = to.absolute() if to is not None else config.playbook_path[0]
    installed = catalog(config)
    source = installed.resolve(playbook) if "@" in playbook else installed.newest(playbook)
    folder = copy(installed, source, name, root)
    wanted = f"{name}@{FIRST_VERSION.partition('.')[0]}"
    lines = [
        f"{source.manifest.name}@{source.manifest.version} copied to {folder}",
        f"  next: change it, then `guard playbooks digest {folder} --write`",
        f"  next: in the configuration, rollback: {{playbook: {wanted}}}",
    ]
    if root.resolve() not in [path.resolve() for path in config.playbook_path]:
        lines.append(f"  next: and at its top, playbook_path: {root}")
    document = {"folder": str(folder), "playbook": wanted, "from": f"{source.manifest.name}@{source.manifest.version}"}
    say(options, document, lines)


@playbooks.command("digest")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--write", is_flag=True, help="Put it into the folder's manifest.")
@common_options
def digest(options: Options, folder: Path, write: bool) -> None:
    """The digest of a version's FOLDER, as its content is now."""
    from guard.rollback.catalog import digest_of, read_files, write_digest

    folder = folder.absolute()
    found = write_digest(folder) if write else digest_of(dict(read_files(folder)))
    say(options, {"folder": str(folder), "digest": found, "written": write}, [found])
