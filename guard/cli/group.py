"""The group of all commands, one file each."""

from __future__ import annotations

from importlib import import_module

import click

from guard import __version__
from guard.cli.options import Options, common_options

COMMANDS = {
    "init": "Write a commented guard.yml and an example inventory.",
    "validate": "Check configuration, inventory and playbooks, touching no host.",
    "check": "One round of all checks, now.",
    "watch": "The daemon: watch, warn, roll back at the threshold.",
    "snapshot": "Before a deploy: record and pin what runs.",
    "ready": "Could each host be rolled back right now, and to what?",
    "gate": "After a deploy: watch it, and roll back if it turns bad.",
    "rollback": "Put the previous image back, now.",
    "resume": "Finish what a crash or an unreachable host left unfinished.",
    "status": "How things are now.",
    "history": "Rollbacks and gates on record.",
    "explain": "Why a gate or a rollback was decided so.",
    "replay": "What was observed, through other thresholds.",
    "releases": "The ledger of a service: good, rejected, candidates.",
    "hold": "Freeze a service: no rollback for a while.",
    "unhold": "End a hold.",
    "playbooks": "Installed playbook versions and their digests.",
    "schema": "The JSON Schema of the configuration.",
    "doctor": "What of this machine and the hosts would stand in the way, and its fix.",
    "completion": "The completion script of bash, zsh or fish.",
    "demo": "The whole story on a throw-away fleet.",
}


class Lazy(click.Group):
    """Imports a command's module when it is called; the list of commands needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"guard.cli.{cmd_name}"), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"guard.cli.{cmd_name} has no command of that name")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="guard")
@common_options
def guard(options: Options) -> None:
    """Stands behind every deploy of Docker services on Ansible-managed hosts.

    It watches the health of what was just deployed and, when a critical service fails its threshold, puts the
    previous image back on every host. Begin with: guard init
    """
