"""``guard completion``: what makes a shell complete guard's commands, options, services and hosts."""

from __future__ import annotations

import click

from guard.cli.options import Options, common_options

VARIABLE = "_GUARD_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common_options
def completion(options: Options, shell: str) -> None:  # noqa: ARG001 - the script is the same whatever they say
    """Print the completion script of SHELL: commands, options, and the services and hosts of your configuration.

    \b
    bash: guard completion bash > /etc/bash_completion.d/guard
    zsh:  guard completion zsh > "${fpath[1]}/_guard"
    fish: guard completion fish > ~/.config/fish/completions/guard.fish
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"there is no completion for {shell}")
    script = made(click.Group("guard"), {}, "guard", VARIABLE)
    click.echo(script.source_template % script.source_vars())  # source() would start bash to ask for its version
