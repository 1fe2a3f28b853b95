"""A run that is armed in advance, with the published waiting and a small playbook around it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from guard.model import HostState
from guard.rollback import workdir
from guard.rollback.armed import ArmedRun, arm, is_clean, leftovers
from guard.rollback.catalog import load, shipped_path, write_digest
from guard.rollback.outcome import Ending
from guard.rollback.run import RunHandle
from guard.rollback.workdir import RunSpec

from .conftest import Runs, Sshd, wait_for

PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Prepare
      fake_restore: {plan: "{{ guard_plans[inventory_hostname].prepare }}"}
      ignore_errors: true
- hosts: all
  gather_facts: false
  tasks:
    - name: Wait for the word
      guard_word: {pipe: "{{ guard_word_pipe }}", longest_s: "{{ guard_word_longest_s }}"}
      register: guard_word
      run_once: true
- hosts: all
  gather_facts: false
  tasks:
    - name: Swap
      fake_restore: {plan: "{{ guard_plans[inventory_hostname].swap | combine(guard_word.plan) }}"}
      when: guard_word.word == 'go'
- hosts: all
  gather_facts: false
  tasks:
    - name: Discard
      fake_restore: {plan: "{{ guard_plans[inventory_hostname].discard }}"}
      when: guard_word.word != 'go'
"""
UNCHANGED = {"state": "unchanged", "image_id": "sha256:old"}


def spec_of(
    runs: Runs, tmp_path: Path, names: str = "ab", armed_s: float = 60.0, **parts: dict[str, object]
) -> RunSpec:
    plans: dict[str, dict[str, object]] = {
        name: {
            "prepare": {"state": "planned", **parts.get("prepare", {})},
            "swap": {"done_file": str(tmp_path / f"swapped-{name}"), **parts.get("swap", {})},
            "discard": {**UNCHANGED, "done_file": str(tmp_path / f"discarded-{name}"), **parts.get("discard", {})},
        }
        for name in names
    }
    spec = runs.spec(plans, PLAYBOOK)
    folder = spec.playbook.folder
    (folder / "action_plugins").mkdir()
    shipped = shipped_path() / "container" / "1.0.0" / "action_plugins" / "guard_word.py"
    (folder / "action_plugins" / "guard_word.py").write_bytes(shipped.read_bytes())
    write_digest(folder)
    return replace(spec, playbook=load(folder), armed_s=armed_s)


async def prepared(armed: ArmedRun) -> None:
    until = time.monotonic() + 30
    while armed.prepared() is None:
        assert time.monotonic() < until, "it was never prepared"
        await asyncio.sleep(0.02)


def files(tmp_path: Path) -> set[str]:
    return {path.name for path in tmp_path.iterdir() if path.is_file()}


def test_with_the_word_go_the_prepared_run_swaps_and_ends_like_any_other(runs: Runs, tmp_path: Path) -> None:
    spec = spec_of(runs, tmp_path)

    async def body() -> RunHandle:
        armed = await arm(spec)
        await prepared(armed)
        assert is_clean(armed.prepared() or {})
        assert armed.is_alive
        assert files(tmp_path) == set()
        handle = armed.go({"image": "web:{{ 7*7 }}"})
        await handle.wait(lambda _: None)
        return handle

    handle = asyncio.run(body())
    assert handle.result is not None
    assert (handle.word, handle.result.ending, handle.result.rc) == ("go", Ending.FINISHED, 0)
    assert {one.state for one in handle.result.hosts.values()} == {HostState.RESTORED}
    assert {one.to.image for one in handle.result.hosts.values() if one.to} == {"web:{{ 7*7 }}"}
    assert files(tmp_path) == {"swapped-a", "swapped-b"}
    assert not (spec.folder / workdir.WORD).exists()
    assert list(leftovers(runs.state_dir)) == []


def test_a_word_that_comes_before_everything_is_prepared_waits(runs: Runs, tmp_path: Path) -> None:
    spec = spec_of(runs, tmp_path, prepare={"sleep": 0.5})

    async def body() -> RunHandle:
        handle = (await arm(spec)).go({})
        await handle.wait(lambda _: None)
        return handle

    assert asyncio.run(body()).word == "go"
    assert files(tmp_path) == {"swapped-a", "swapped-b"}


def test_disarmed_it_takes_back_what_it_prepared_and_leaves_no_folder(runs: Runs, tmp_path: Path) -> None:
    spec = spec_of(runs, tmp_path)

    async def body() -> bool:
        armed = await arm(spec)
        await prepared(armed)
        clean = await armed.disarm()
        assert not armed.is_alive
        return clean

    assert asyncio.run(body())
    assert files(tmp_path) == {"discarded-a", "discarded-b"}
    assert list((runs.state_dir / "runs").iterdir()) == []


def test_a_host_that_did_not_take_it_back_keeps_the_folder(runs: Runs, tmp_path: Path) -> None:
    spec = spec_of(runs, tmp_path, discard={"state": "failed", "error": "engine away"})

    async def body() -> bool:
        armed = await arm(spec)
        await prepared(armed)
        return await armed.disarm()

    assert not asyncio.run(body())
    assert list(leftovers(runs.state_dir)) == [spec.folder]


def test_nobody_who_waits_too_long_swaps(runs: Runs, tmp_path: Path) -> None:
    spec = spec_of(runs, tmp_path, armed_s=0.5)

    async def body() -> None:
        armed = await arm(spec)
        until = time.monotonic() + 30
        while armed.is_alive and time.monotonic() < until:
            await asyncio.sleep(0.02)
        handle = armed.go({})
        await handle.wait(lambda _: None)
        assert handle.word == "disarm"

    asyncio.run(body())
    assert files(tmp_path) == {"discarded-a", "discarded-b"}


def test_a_preparation_that_failed_is_told(runs: Runs, tmp_path: Path) -> None:
    spec = spec_of(runs, tmp_path, prepare={"state": "failed", "error": "no space"})

    async def body() -> None:
        armed = await arm(spec)
        await prepared(armed)
        assert not is_clean(armed.prepared() or {})
        assert await armed.disarm()

    asyncio.run(body())


@pytest.mark.parametrize("said", [b"go\n", b"[]\n", b'{"word": "run"}\n', b'{"word": "go", "plan": 1}\n', b"x" * 5000])
def test_what_is_no_word_is_no_go(runs: Runs, tmp_path: Path, said: bytes) -> None:
    spec = spec_of(runs, tmp_path, "a")

    async def body() -> None:
        armed = await arm(spec)
        pipe = os.open(spec.folder / workdir.WORD, os.O_WRONLY)
        os.write(pipe, said)
        os.close(pipe)
        await asyncio.to_thread(wait_for, lambda: not spec.folder.exists(), 30)
        assert not armed.is_alive

    asyncio.run(body())
    assert files(tmp_path) == {"discarded-a"}


ARMING = """
import asyncio, pickle, sys
from pathlib import Path
from guard.rollback.armed import arm

async def main():
    armed = await arm(pickle.loads(Path(sys.argv[1]).read_bytes()))
    if sys.argv[2] == "prepared":
        while armed.prepared() is None:
            await asyncio.sleep(0.02)
    Path(sys.argv[3]).write_text("armed")
    await asyncio.sleep(600)

asyncio.run(main())
"""


def started(spec: RunSpec, tmp_path: Path, when: str) -> subprocess.Popen[bytes]:
    """A guard of its own that has armed the run."""
    import pickle

    asked, ready = tmp_path / "state" / "spec", tmp_path / "state" / "ready"
    asked.write_bytes(pickle.dumps(spec))
    argv = [sys.executable, "-c", textwrap.dedent(ARMING), str(asked), when, str(ready)]
    process = subprocess.Popen(argv, start_new_session=True)
    wait_for(ready.exists, 40)
    return process


@pytest.mark.parametrize("when", ["at once", "prepared"])
def test_a_guard_that_is_killed_while_armed_disarms(runs: Runs, tmp_path: Path, when: str) -> None:
    spec = spec_of(runs, tmp_path)
    guard = started(spec, tmp_path, when)
    guard.kill()
    guard.wait()
    wait_for(lambda: not spec.folder.exists(), 30)
    assert files(tmp_path) == {"discarded-a", "discarded-b"}


def test_killed_together_with_its_run_it_is_found_and_nothing_of_it_is_alive(runs: Runs, tmp_path: Path) -> None:
    from guard.rollback import processes, runner
    from guard.rollback.run import Lost, adopt

    spec = spec_of(runs, tmp_path)
    guard = started(spec, tmp_path, "prepared")
    assert list(leftovers(runs.state_dir)) == []
    shim = json.loads((spec.folder / "pid").read_text())["pid"]
    scratch = workdir.read_asked(spec.folder).scratch
    os.kill(shim, signal.SIGSTOP)
    guard.kill()
    guard.wait()
    os.kill(shim, signal.SIGKILL)
    wait_for(lambda: list(leftovers(runs.state_dir)) == [spec.folder])
    assert isinstance(asyncio.run(adopt(spec.folder)), Lost)
    assert processes.marked(runner.MARK, str(scratch)) == ()
    assert not any(name.startswith("swapped") for name in files(tmp_path))


def test_connections_stay_open_while_it_waits_and_are_gone_afterwards(runs: Runs, tmp_path: Path, sshd: Sshd) -> None:
    spec = spec_of(runs, tmp_path, "a")
    far = replace(sshd.host("a"))
    spec = replace(spec, hosts=(far,), armed_s=1800.0)

    from guard.rollback import processes, runner

    async def body() -> None:
        armed = await arm(spec)
        await prepared(armed)
        scratch = workdir.read_asked(spec.folder).scratch
        assert "ControlPersist=1860s" in (spec.folder / workdir.INVENTORY).read_text()
        assert [path for path in scratch.iterdir() if path.is_socket()]
        handle = armed.go({})
        await handle.wait(lambda _: None)
        assert handle.result is not None
        assert handle.result.hosts["a"].state is HostState.RESTORED
        assert not scratch.exists()
        assert processes.marked(runner.MARK, str(scratch)) == ()

    asyncio.run(body())
