"""What was seen with ansible-runner in a long-lived process, line by line, and what guard's runs do about it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from guard.model import Host, HostResult, HostState
from guard.rollback import processes, runner, workdir
from guard.rollback.outcome import Ending
from guard.rollback.record import RunResult
from guard.rollback.run import Lost, RunHandle, adopt, start
from guard.rollback.workdir import RunSpec

from .conftest import Runs, Sshd, local, wait_for

SECRET = "pl4nted-s3cret"
RESTORED, UNREACHABLE, FAILED, SKIPPED = (
    HostState.RESTORED,
    HostState.UNREACHABLE,
    HostState.FAILED,
    HostState.SKIPPED,
)


def run(spec: RunSpec) -> RunResult:
    return follow(spec)[0]


def follow(spec: RunSpec) -> tuple[RunResult, list[HostResult]]:
    async def body() -> tuple[RunResult, list[HostResult]]:
        told: list[HostResult] = []
        handle = await start(spec)
        await handle.wait(told.append)
        assert handle.result is not None
        return handle.result, told

    return asyncio.run(body())


def states(result: RunResult) -> dict[str, HostState]:
    return {host: one.state for host, one in result.hosts.items()}


def everything_in(folder: Path) -> str:
    return "\n".join(path.read_text(errors="replace") for path in sorted(folder.rglob("*")) if path.is_file())


def scratch_of(folder: Path) -> Path:
    return workdir.read_asked(folder).scratch


def pid_in(path: Path) -> int:
    wait_for(lambda: path.exists() and path.read_text())
    return int(path.read_text())


def is_alive(pid: int) -> bool:
    """A zombie is over: only its parent has not looked yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


# ---------------------------------------------------------------------------------------------- results


def test_each_hosts_result_is_told_when_it_comes_and_all_of_them_at_the_end(runs: Runs) -> None:
    spec = runs.spec({"a": {}, "b": {"state": "reverted", "error": "it crashed"}})
    result, told = follow(spec)
    assert states(result) == {"a": RESTORED, "b": HostState.REVERTED}
    assert {one.host: one for one in told} == dict(result.hosts)
    assert result.hosts["b"].error == "it crashed"
    assert (result.ending, result.rc) == (Ending.FINISHED, 2)


def test_a_result_is_told_before_the_run_has_ended(runs: Runs) -> None:
    spec = runs.spec({"a": {}, "b": {"sleep": 30}}, guard_batches=[1, 1])

    async def body() -> None:
        handle = await start(spec)
        first = asyncio.Event()
        waiting = asyncio.create_task(handle.wait(lambda _: first.set()))
        await asyncio.wait_for(first.wait(), 20)
        assert not (spec.folder / "result.json").exists()
        handle.cancel()
        await waiting

    asyncio.run(body())


NOBODY = "- hosts: nobody\n  gather_facts: false\n  tasks: [{ansible.builtin.meta: noop}]\n"
IGNORING = """
- hosts: all
  gather_facts: false
  ignore_unreachable: true
  tasks:
    - fake_restore: {plan: {}}
"""


def test_a_play_that_matched_no_host_ends_with_0_and_nobody_is_good(runs: Runs) -> None:
    result = run(runs.spec({"a": {}}, NOBODY))
    assert result.rc == 0
    assert states(result) == {"a": FAILED}


def test_ignored_unreachable_hosts_end_with_0_and_are_unreachable(runs: Runs) -> None:
    away = Host("away", {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_common_args": "-F /dev/null"})
    result = run(runs.spec({"away": {}, "a": {}}, IGNORING, hosts=(away, local("a"))))
    assert result.rc == 0
    assert states(result) == {"away": UNREACHABLE, "a": RESTORED}


def test_hosts_of_batches_that_never_came_are_skipped(runs: Runs) -> None:
    plans: dict[str, dict[str, object]] = {"a": {"state": "failed", "error": "no"}, "b": {}, "c": {}}
    result = run(runs.spec(plans, guard_batches=[1, 2]))
    assert states(result) == {"a": FAILED, "b": SKIPPED, "c": SKIPPED}


def test_an_image_other_than_the_target_is_not_restored(runs: Runs) -> None:
    assert states(run(runs.spec({"a": {"image_id": "sha256:other"}}))) == {"a": FAILED}


def test_a_broken_playbook_says_what_ansible_said(runs: Runs) -> None:
    result = run(runs.spec({"a": {}}, "- hosts: all\n  no_such_key: 1\n"))
    assert states(result) == {"a": FAILED}
    assert "no_such_key" in (result.folder / "stdout.log").read_text()


# ---------------------------------------------------------------------------------------------- data stays data

HOSTILE = [
    "{{ lookup('pipe', 'touch PWNED') }}",
    "; touch PWNED",
    "$(touch PWNED)",
    "-oProxyCommand=touch PWNED",
    "../up",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_values_reach_the_module_as_text(runs: Runs, tmp_path: Path, text: str) -> None:
    value = text.replace("PWNED", str(tmp_path / "pwned"))
    result = run(runs.spec({"a": {"image": value}}, hosts=(local("a", note=value, ansible_user=value),)))
    assert result.hosts["a"].to is not None
    assert result.hosts["a"].to.image == value
    assert not (tmp_path / "pwned").exists()


def test_a_template_in_a_connection_variable_is_used_as_text(runs: Runs, sshd: Sshd, tmp_path: Path) -> None:
    host = sshd.host()
    evil = "{{ lookup('pipe', 'touch %s') }}" % (tmp_path / "pwned")
    result = run(runs.spec({"far": {}}, hosts=(Host("far", {**host.variables, "ansible_host": evil}),)))
    assert states(result)["far"] in (UNREACHABLE, FAILED)
    assert not (tmp_path / "pwned").exists()


# ---------------------------------------------------------------------------------------------- privacy


def test_everything_is_private_and_nothing_secret_is_left(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_CLOUD_TOKEN", SECRET)
    log = f"connecting with {SECRET}\nPASSWORD=other-secret\n"
    plans: dict[str, dict[str, object]] = {
        "a": {"log": log, "error": SECRET, "state": "failed"},
        "b": {"log": log, "db_password": "third-secret"},
    }
    text = workdir_text_with_debug()
    hosts = (local("a", ansible_become_pass="fourth-secret"), local("b"))
    result = run(runs.spec(plans, text, hosts=hosts, secrets=(SECRET,)))
    for path in [result.folder, *result.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    written = everything_in(result.folder)
    for secret in (SECRET, "other-secret", "third-secret", "fourth-secret"):
        assert secret not in written
    assert "********" in (result.folder / "hosts" / "a" / "container.log").read_text()
    assert not [name for name in workdir.PASSING if (result.folder / name).exists()]
    assert not scratch_of(result.folder).exists()


def workdir_text_with_debug() -> str:
    return """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.debug: {msg: "{{ ansible_become_pass | default('') }} {{ guard_plans }}"}
    - fake_restore:
        plan: "{{ guard_plans[inventory_hostname] }}"
"""


def test_a_run_sees_a_minimal_environment(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_CLOUD_TOKEN", SECRET)
    monkeypatch.setenv("ANSIBLE_STRATEGY", "free")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy")
    environ = runner.environment(tmp_path, os.environ)
    assert not {"MY_CLOUD_TOKEN", "ANSIBLE_STRATEGY", "HTTP_PROXY", "PYTHONPATH"} & set(environ)
    assert environ["PATH"].startswith(str(Path(sys.executable).parent) + ":")
    assert environ["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    dump = tmp_path / "environ"
    text = f"- hosts: all\n  gather_facts: false\n  tasks: [{{ansible.builtin.shell: 'env > {dump}'}}]\n"
    run(runs.spec({"a": {}}, text))
    assert "MY_CLOUD_TOKEN" not in dump.read_text()


def test_evidence_of_each_host_is_kept_apart_from_the_events(runs: Runs) -> None:
    result = run(runs.spec({"a": {"log": "last words"}}))
    assert (result.folder / "hosts" / "a" / "container.log").read_text() == "last words"
    assert json.loads((result.folder / "hosts" / "a" / "result.json").read_text())["container_id"] == "c1"
    assert "last words" not in (result.folder / "events.jsonl").read_text()
    asked = json.loads((result.folder / "run.json").read_text())
    assert asked["playbook"]["digest"].startswith("sha256:")
    assert (result.folder / "playbook" / "library" / "fake_restore.py").exists()


# ---------------------------------------------------------------------------------------------- the shim


def test_a_run_survives_the_kill_of_its_guard_and_is_adopted(runs: Runs, tmp_path: Path) -> None:
    spec = runs.spec({"a": {"sleep": 2, "pid_file": str(tmp_path / "pid")}})
    child = os.fork()
    if child == 0:
        asyncio.run(start(spec))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    pid_in(tmp_path / "pid")

    async def body() -> Mapping[str, HostResult]:
        adopted = await adopt(spec.folder)
        assert isinstance(adopted, RunHandle)
        return await adopted.wait(lambda _: None)

    assert asyncio.run(body())["a"].state is RESTORED
    taken = asyncio.run(adopt(spec.folder))
    assert isinstance(taken, RunResult)
    assert states(taken) == {"a": RESTORED}


def test_a_vanished_shim_is_lost_its_strays_are_ended_and_its_secrets_removed(runs: Runs, tmp_path: Path) -> None:
    done = tmp_path / "done"
    plan: dict[str, object] = {"sleep": 5, "pid_file": str(tmp_path / "pid"), "done_file": str(done)}
    spec = runs.spec({"a": plan, "b": {}}, secrets=(SECRET,))

    async def body() -> RunHandle:
        handle = await start(spec)
        module = await asyncio.to_thread(pid_in, tmp_path / "pid")
        shim = json.loads((spec.folder / "pid").read_text())["pid"]
        os.kill(shim, signal.SIGKILL)
        await handle.wait(lambda _: None)
        assert not is_alive(module)
        return handle

    result = asyncio.run(body()).result
    assert result is not None
    assert result.ending is Ending.LOST
    assert result.hosts["a"].state is HostState.PLANNED
    assert not done.exists()
    assert not scratch_of(spec.folder).exists()
    assert not [name for name in workdir.PASSING if (spec.folder / name).exists()]
    lost = asyncio.run(adopt(spec.folder))
    assert isinstance(lost, Lost)
    assert lost.began


def test_a_folder_that_nothing_was_started_from_is_lost_without_having_begun(runs: Runs) -> None:
    spec = runs.spec({"a": {}})
    os.close(workdir.create(spec.folder))
    lost = asyncio.run(adopt(spec.folder))
    assert isinstance(lost, Lost)
    assert not lost.began


@pytest.mark.parametrize("stubborn", [False, True], ids=["willing", "ignoring SIGTERM in its own session"])
@pytest.mark.parametrize("way", ["cancel", "adopted cancel", "time-out"])
def test_ending_a_run_ends_every_process_of_it(runs: Runs, tmp_path: Path, way: str, stubborn: bool) -> None:
    done = tmp_path / "done"
    plan: dict[str, object] = {"sleep": 60, "pid_file": str(tmp_path / "pid"), "done_file": str(done)}
    plan["stubborn"] = stubborn
    spec = runs.spec({"a": plan}, timeout_s=3 if way == "time-out" else 60)

    async def body() -> tuple[RunHandle, int]:
        handle = await start(spec)
        module = await asyncio.to_thread(pid_in, tmp_path / "pid")
        if way == "cancel":
            handle.cancel()
        elif way == "adopted cancel":
            other = await adopt(spec.folder)
            assert isinstance(other, RunHandle)
            other.cancel()
        await asyncio.wait_for(handle.wait(lambda _: None), 20)
        return handle, module

    handle, module = asyncio.run(body())
    assert handle.result is not None
    assert handle.result.ending is (Ending.TIMED_OUT if way == "time-out" else Ending.CANCELLED)
    assert handle.result.hosts["a"].state is (HostState.PLANNED if way == "time-out" else FAILED)
    assert "unknown until it is looked at" in (handle.result.hosts["a"].error or "")
    assert not is_alive(module)
    assert processes.marked(runner.MARK, str(scratch_of(spec.folder))) == ()
    assert not done.exists()


def test_a_cancel_before_the_shim_is_ready_is_not_lost(runs: Runs) -> None:
    spec = runs.spec({"a": {"sleep": 60}})

    async def body() -> RunResult | None:
        handle = await start(spec)
        handle.cancel()
        await asyncio.wait_for(handle.wait(lambda _: None), 20)
        return handle.result

    result = asyncio.run(body())
    assert result is not None
    assert result.ending is Ending.CANCELLED
    assert states(result) == {"a": SKIPPED}


def test_cancelling_the_wait_leaves_the_run_alone(runs: Runs, tmp_path: Path) -> None:
    spec = runs.spec({"a": {"sleep": 1, "pid_file": str(tmp_path / "pid")}})

    async def body() -> Mapping[str, HostResult]:
        handle = await start(spec)
        waiting = asyncio.create_task(handle.wait(lambda _: None))
        await asyncio.to_thread(pid_in, tmp_path / "pid")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return await handle.wait(lambda _: None)

    assert asyncio.run(body())["a"].state is RESTORED


def test_the_callers_signal_handlers_stay_its_own(runs: Runs) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    run(runs.spec({"a": {}}))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_the_callers_process_never_imports_ansible() -> None:
    code = textwrap.dedent("""
        import sys
        import guard.rollback.run, guard.rollback.catalog
        print([name for name in sys.modules if name.startswith("ansible")])
    """)
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


# ---------------------------------------------------------------------------------------------- real SSH


def test_a_run_over_ssh_leaves_no_connection_behind(runs: Runs, sshd: Sshd) -> None:
    spec = runs.spec({"far": {}}, hosts=(sshd.host(),))
    result = run(spec)
    assert states(result) == {"far": RESTORED}, result
    assert processes.marked(runner.MARK, str(scratch_of(spec.folder))) == ()


def test_a_changed_host_key_is_refused_even_right_after_a_good_run(runs: Runs, sshd: Sshd) -> None:
    assert states(run(runs.spec({"far": {}}, hosts=(sshd.host(),)))) == {"far": RESTORED}
    sshd.forget()
    result = run(runs.spec({"far": {}}, hosts=(sshd.host(),)))
    assert states(result) == {"far": UNREACHABLE}
    assert "host key" in (result.hosts["far"].error or "").lower()


def test_a_host_that_freezes_becomes_unreachable_and_the_others_go_on(runs: Runs, sshd: Sshd, tmp_path: Path) -> None:
    plans: dict[str, dict[str, object]] = {"far": {"sleep": 300, "pid_file": str(tmp_path / "pid")}, "near": {}}
    spec = runs.spec(plans, hosts=(sshd.host(), local("near")))

    async def body() -> RunResult | None:
        handle = await start(spec)
        waiting = asyncio.create_task(handle.wait(lambda _: None))
        await asyncio.to_thread(pid_in, tmp_path / "pid")
        processes.signal_all([*processes.descendants(sshd.process.pid), sshd.process.pid], signal.SIGSTOP)
        frozen = time.monotonic()
        await asyncio.wait_for(waiting, 40)
        assert time.monotonic() - frozen < 25
        return handle.result

    result = asyncio.run(body())
    assert result is not None
    assert states(result) == {"far": UNREACHABLE, "near": RESTORED}


def test_tasks_of_one_run_share_a_connection_in_the_runs_own_folder(runs: Runs, sshd: Sshd, tmp_path: Path) -> None:
    spec = runs.spec({"far": {"sleep": 30, "pid_file": str(tmp_path / "pid")}}, hosts=(sshd.host(),))

    async def body() -> list[Path]:
        handle = await start(spec)
        await asyncio.to_thread(pid_in, tmp_path / "pid")
        sockets = [path for path in scratch_of(spec.folder).iterdir() if path.is_socket()]
        handle.cancel()
        await handle.wait(lambda _: None)
        return sockets

    assert len(asyncio.run(body())) == 1
