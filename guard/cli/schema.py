"""``guard schema``: the JSON Schema of the configuration."""

from __future__ import annotations

import json

import click

from guard.cli.options import Options, common_options


@click.command()
@common_options
def schema(options: Options) -> None:  # noqa: ARG001 - a schema is JSON in either output
    """Print the JSON Schema of guard.yml, for editors and other tools."""
    from guard.config.document import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
