"""A run's process that is started ahead of its run, with the real shim and the real Ansible."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guard.errors import UsageError
from guard.model import HostState
from guard.rollback import ahead, processes, runner, workdir
from guard.rollback.ahead import Ahead
from guard.rollback.run import RunHandle, start

from .conftest import Runs, wait_for


def belonging_to(scratch: Path) -> tuple[int, ...]:
    return processes.marked(runner.MARK, str(scratch))


@pytest.fixture
def early() -> Iterator[Ahead]:
    begun = ahead.begin(os.environ)
    yield begun
    begun.close()
    begun.process.wait(30)


def loaded(early: Ahead) -> None:
    """Wait until there are both: the shim, and the Ansible that waits below it."""
    wait_for(lambda: len(belonging_to(early.scratch)) == 2)


def test_a_process_that_gets_no_run_leaves_nothing(early: Ahead) -> None:
    loaded(early)
    early.close()
    assert early.process.wait(30) == 0
    assert belonging_to(early.scratch) == ()
    assert not early.scratch.exists()


def test_a_guard_that_is_killed_takes_what_it_started_ahead_along(tmp_path: Path) -> None:
    code = "import os, time; from guard.rollback import ahead; early = ahead.begin(os.environ); "
    code += "print(early.scratch, flush=True); time.sleep(60)"
    guard = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert guard.stdout is not None
    scratch = Path(guard.stdout.readline().strip())
    wait_for(lambda: len(belonging_to(scratch)) == 2)
    guard.kill()
    guard.wait()
    wait_for(lambda: belonging_to(scratch) == ())
    wait_for(lambda: not scratch.exists())


def test_ansible_does_not_outlive_a_shim_that_is_killed_before_its_run(early: Ahead) -> None:
    loaded(early)
    early.process.kill()
    early.process.wait()
    wait_for(lambda: belonging_to(early.scratch) == ())
    assert not early.scratch.exists()
    assert not early.waits


def test_a_run_is_done_by_the_process_that_waited_for_it(runs: Runs, early: Ahead) -> None:
    loaded(early)
    spec = runs.spec({"a": {}})

    async def body() -> RunHandle:
        handle = await start(spec, early)
        assert not early.waits  # it takes one run and no other
        await handle.wait(lambda _: None)
        return handle

    handle = asyncio.run(body())
    assert handle.result is not None
    assert handle.result.hosts["a"].state is HostState.RESTORED
    assert json.loads((spec.folder / workdir.PID).read_text())["pid"] == early.process.pid
    assert not early.scratch.exists()


@pytest.mark.parametrize("why", ["it died", "another run took it"])
def test_a_process_that_waits_no_more_costs_only_time(runs: Runs, early: Ahead, why: str) -> None:
    if why == "it died":
        early.process.kill()
        early.process.wait()
    else:
        early.close()

    async def body() -> RunHandle:
        handle = await start(runs.spec({"a": {}}), early)
        await handle.wait(lambda _: None)
        return handle

    result = asyncio.run(body()).result
    assert result is not None
    assert result.hosts["a"].state is HostState.RESTORED


def test_a_run_that_cannot_be_written_ends_the_process_that_waited(runs: Runs, early: Ahead) -> None:
    spec = runs.spec({"a": {}}, **{"not a name": 1})
    with pytest.raises(UsageError):
        asyncio.run(start(spec, early))
    assert early.process.wait(30) == 0
    assert not early.scratch.exists()
