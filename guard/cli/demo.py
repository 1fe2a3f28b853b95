"""``guard demo``: the whole story on a throw-away fleet."""

from __future__ import annotations

import click

from guard.cli.options import Options, common_options


@click.command()
@common_options
def demo(options: Options) -> None:  # noqa: ARG001 - the demo brings its own configuration and state
    """The whole story on a throw-away fleet: a bad deploy, detection, rollback, proof. Cleans up after itself.

    As root on real throw-away hosts; without root on three containers of the local Docker engine.
    """
    from guard.demo.story import tell

    tell(click.echo)
