"""``guard init``: a commented guard.yml and an example inventory."""

from __future__ import annotations

from pathlib import Path

import click

from guard.cli.options import Options, common_options
from guard.cli.running import say
from guard.errors import UsageError


@click.command()
@click.argument("directory", metavar="[DIR]", required=False, default=".", type=click.Path(path_type=Path))
@common_options
def init(options: Options, directory: Path) -> None:
    """Write a commented guard.yml and an example inventory into DIR (default: here). Nothing is overwritten."""
    from guard.config.example import example_files

    written, kept = [], []
    for name, content in example_files().items():
        path = directory / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(content)
            written.append(str(path))
        except FileExistsError:
            kept.append(str(path))
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}", hint="name a folder you may write to") from error
    lines = [f"wrote {path}" for path in written] + [f"kept {path}: it was there already" for path in kept]
    if written:
        lines.append(f"next: edit them, then `guard validate --config {directory / 'guard.yml'}`")
    say(options, {"written": written, "kept": kept}, lines)
