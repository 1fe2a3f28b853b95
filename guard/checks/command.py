"""A program on guard's own machine whose exit code says how the service is, as monitoring plug-ins do.

Source: the Monitoring Plugins Development Guidelines. Exit code 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN; the first line
is the message, and what stands behind a ``|`` is performance data.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from guard.checks.dial import unusable
from guard.checks.process import Ended, run
from guard.checks.site import Site
from guard.checks.verdict import excerpt, unhealthy, unknown
from guard.config.checks import CommandCheck
from guard.config.checks.command import fill, fill_value
from guard.model import Measurement, State

_STATES = {0: State.HEALTHY, 1: State.DEGRADED, 2: State.UNHEALTHY, 3: State.UNKNOWN}
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LONGEST_PERFORMANCE = 1000


class CommandProbe:
    """``argv`` and ``env`` as they are: nothing is replaced in them any more."""

    def __init__(self, argv: Sequence[str], timeout_s: float, env: Mapping[str, str] | None = None) -> None:
        self._argv = tuple(argv)
        self._timeout_s = timeout_s
        self._env = {**_plain_environment(), **(env or {})}

    @classmethod
    def build(cls, check: CommandCheck, site: Site) -> CommandProbe:
        what = f"check {check.name}"
        render = partial(site.render, what=what)
        try:
            argv = [fill(item, render) for item in check.command]
            env = {name: fill_value(value, render) for name, value in check.env.items()}
        except ValueError as error:
            raise unusable(site, what, error) from error
        return cls(argv, check.timeout, env)

    async def measure(self) -> Measurement:
        loop = asyncio.get_running_loop()
        began = loop.time()
        program = self._argv[0]
        try:
            ended = await run(self._argv, self._env, self._timeout_s)
        except OSError as error:
            problem = os.strerror(error.errno).lower() if error.errno else str(error)
            return unknown(f"guard could not run {program}: {problem}")
        latency = loop.time() - began
        if ended.code is None:
            said = read_output(ended.output)
            reason = f"time-out: {program} took longer than {self._timeout_s:g} s"
            return unhealthy(reason, latency, {"output": said.message} if said.message else {})
        return judge(program, ended, latency)


def _plain_environment() -> dict[str, str]:
    """Nothing of guard's own environment but what a program needs to find others and its files."""
    return {
        "PATH": os.environ.get("PATH", _DEFAULT_PATH),
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
    }


@dataclass(frozen=True, slots=True)
class Output:
    """What a plug-in said: printable and short."""

    message: str
    more: str
    performance: str


def read_output(raw: bytes) -> Output:
    """``MESSAGE | PERFORMANCE``, then lines of text, of which the first ``|`` begins performance data to the end."""
    first, _, rest = raw.decode(errors="replace").lstrip().partition("\n")
    message, _, performance = first.partition("|")
    more, _, more_performance = rest.partition("|")
    return Output(excerpt(message), excerpt(more), excerpt(f"{performance} {more_performance}", _LONGEST_PERFORMANCE))


def judge(program: str, ended: Ended, latency: float) -> Measurement:
    """From exit code and output to a state. ``ended.code`` is not None."""
    code = ended.code if ended.code is not None else 0
    said = read_output(ended.output)
    state = _STATES.get(code, State.UNKNOWN)
    errors = excerpt(ended.errors.decode(errors="replace"))
    evidence = {"exit_code": str(code), "performance": said.performance}
    if state is not State.HEALTHY:
        evidence |= {"output": said.more, "stderr": errors}
    told = said.message or errors
    if code < 0:
        reason = f"{program} was killed by {_signal(-code)}"
        evidence["exit_code"] = ""
    elif code not in _STATES:
        reason = f"{program} ended with exit code {code}, and monitoring plug-ins know 0 to 3"
    else:
        reason = told or f"exit code {code}, and no output"
        told = ""
    reason = f"{reason}: {told}" if told else reason
    return Measurement(
        state,
        None if state is State.UNKNOWN else latency,
        reason,
        {key: value for key, value in evidence.items() if value},
    )


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
