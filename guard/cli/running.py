"""What the commands share: opening a session in an event loop, and saying one document or some lines."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

import click

from guard.cli.options import Options
from guard.errors import UsageError

if TYPE_CHECKING:
    from guard.config.schema import GuardConfig
    from guard.service.events import Listener
    from guard.service.session import Session
    from guard.service.stop import Stop

T = TypeVar("T")


def with_session(
    options: Options,
    work: Callable[[Session, Stop], Awaitable[T]],
    *,
    quiet: bool = True,
    read_only: bool = False,
    configure: Callable[[GuardConfig], GuardConfig] = lambda config: config,
    tell: Listener | None = None,
) -> T:
    """Load, open, run ``work`` in an event loop that listens to SIGINT and SIGTERM, close."""
    from guard.cli.log import configure as configure_log
    from guard.service.stop import Stop
    from guard.wiring import load_config, open_session, state_folder

    config = configure(load_config(options.config, os.environ))
    log = configure_log(options, sys.stderr, quiet=quiet)
    state_dir = state_folder(options.state_dir, os.environ)

    async def run() -> T:
        stop = Stop()
        stop.listen()
        async with open_session(config, state_dir, log, read_only=read_only, tell=tell) as session:
            return await work(session, stop)

    return asyncio.run(run())


def say(options: Options, document: Mapping[str, object], lines: Iterable[str]) -> None:
    """With ``--output json`` exactly one document on stdout, else the lines."""
    if options.json:
        click.echo(json.dumps(document))
    else:
        for line in lines:
            click.echo(line)


def duration(option: str, text: str | None) -> float | None:
    """Seconds of an option's value, or UsageError."""
    from guard.config.durations import parse_duration

    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error
    if seconds <= 0:
        raise UsageError(f"{option}: expected more than 0 seconds, got {text!r}")
    return seconds


async def until(work: Awaitable[T], stop: Stop) -> T:
    """Run work that changes nothing, and give it up when asked to stop."""
    from guard.errors import Interrupted

    task = asyncio.ensure_future(work)
    asked = asyncio.create_task(stop.wait())
    await asyncio.wait([task, asked], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        asked.cancel()
        return task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    raise Interrupted("interrupted; nothing was changed", signal_number=stop.signal_number)
