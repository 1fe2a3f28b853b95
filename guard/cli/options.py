"""Options every command takes, before or after its name. What stands nearer to the command wins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Options:
    config: Path | None = None
    state_dir: Path | None = None
    output: str | None = None
    log_level: str | None = None
    log_file: Path | None = None
    verbose: bool | None = None

    @property
    def json(self) -> bool:
        return self.output == "json"

    def over(self, other: Options) -> Options:
        """These options, and the other's where these say nothing."""
        mine = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return replace(other, **mine)


_OPTIONS = (
    click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration file."),
    click.option(
        "--state-dir", type=click.Path(path_type=Path), metavar="DIR", help="State folder ($GUARD_STATE_DIR)."
    ),
    click.option("--output", type=click.Choice(["text", "json"]), help="Text for people, or one JSON document."),
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        help="Least level to log ($LOG_LEVEL).",
    ),
    click.option("--log-file", type=click.Path(path_type=Path), metavar="FILE", help="Rotating JSON lines."),
    click.option("--verbose", "-v", is_flag=True, default=None, help="Log everything to stderr."),
)


def common_options(function: Callable[Concatenate[Options, P], R]) -> Callable[..., R]:
    """Give a command the common options, merged into one ``Options`` as its first argument."""

    @wraps(function)
    def wrapped(
        config: Path | None,
        state_dir: Path | None,
        output: str | None,
        log_level: str | None,
        log_file: Path | None,
        verbose: bool | None,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        context = click.get_current_context()
        outer = context.obj if isinstance(context.obj, Options) else Options()
        merged = Options(config, state_dir, output, log_level, log_file, verbose).over(outer)
        context.obj = merged
        return function(merged, *args, **kwargs)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
