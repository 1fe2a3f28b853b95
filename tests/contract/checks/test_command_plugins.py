"""The command check with Debian's monitoring plug-ins as they are, and with programs that misbehave."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from guard.checks.command import CommandProbe
from guard.model import Measurement, State
from guard.wiring import Masked
from tests.contract.checks.hostile_servers import answering, black_hole, ok, serving

PLUGINS = "/usr/lib/nagios/plugins"
TIMEOUT_S = 0.5
MARGIN_S = 0.5


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def measure(*argv: str, env: dict[str, str] | None = None, timeout_s: float = TIMEOUT_S) -> Measurement:
    """One measurement, which must end in time whatever the program does, and leave nothing open."""

    async def main() -> tuple[Measurement, float]:
        probe = CommandProbe(argv, timeout_s, env)
        began = time.monotonic()
        measured = await probe.measure()
        return measured, time.monotonic() - began

    before = open_descriptors()
    measured, took = asyncio.run(main())
    assert took < timeout_s + MARGIN_S
    assert open_descriptors() <= before
    return measured


def shell(code: str, *arguments: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", code, "sh", *arguments)


def gone(pid: int) -> bool:
    """Not there, or dead and only not yet reaped by whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- plug-ins ---


@pytest.mark.parametrize(
    ("code", "state"),
    [("0", State.HEALTHY), ("1", State.DEGRADED), ("2", State.UNHEALTHY), ("3", State.UNKNOWN)],
)
def test_a_plug_ins_exit_code_is_the_state(code: str, state: State) -> None:
    measured = measure(f"{PLUGINS}/check_dummy", code, "told so", timeout_s=5)
    assert measured.state is state
    assert measured.reason.endswith("told so")
    assert measured.evidence["exit_code"] == code


def test_check_disk_says_how_full_a_disk_is() -> None:
    measured = measure(f"{PLUGINS}/check_disk", "-w", "0", "-c", "0", "-p", "/tmp", timeout_s=5)
    assert measured.state is State.HEALTHY, measured
    assert measured.reason.startswith("DISK OK") and "|" not in measured.reason
    assert "B;" in measured.evidence["performance"]


def against(handler: object, *argv: str, timeout_s: float = 5) -> Measurement:
    async def main() -> Measurement:
        async with serving(handler) as port:  # type: ignore[arg-type]
            probe = CommandProbe([text.format(port=port) for text in argv], timeout_s)
            return await probe.measure()

    return asyncio.run(main())


HTTP = (f"{PLUGINS}/check_http", "-I", "127.0.0.1", "-p", "{port}", "-u", "/healthz")


def test_check_http_says_whether_a_service_answers() -> None:
    healthy = against(answering(ok(b"fine")), *HTTP)
    assert healthy.state is State.HEALTHY, healthy
    assert "200 OK" in healthy.reason and healthy.evidence["performance"].startswith("time=")
    broken = against(answering(ok(b"", status=b"503 Away")), *HTTP)
    assert broken.state is State.UNHEALTHY and "503" in broken.reason
    assert against(answering(ok(b"", status=b"404 Nope")), *HTTP).state is State.DEGRADED


def test_check_tcp_says_whether_a_port_is_open() -> None:
    assert against(black_hole, f"{PLUGINS}/check_tcp", "-H", "127.0.0.1", "-p", "{port}").state is State.HEALTHY
    refused = measure(f"{PLUGINS}/check_tcp", "-H", "127.0.0.1", "-p", "1", timeout_s=5)
    assert refused.state is State.UNHEALTHY, refused


def test_a_plug_in_that_hangs_is_ended_at_guards_deadline() -> None:
    began = time.monotonic()
    measured = against(black_hole, *HTTP, timeout_s=TIMEOUT_S)
    assert time.monotonic() - began < TIMEOUT_S + MARGIN_S
    assert (measured.state, measured.reason) == (
        State.UNHEALTHY,
        f"time-out: {PLUGINS}/check_http took longer than 0.5 s",
    )


def test_wrong_usage_of_a_plug_in_is_unknown() -> None:
    assert measure(f"{PLUGINS}/check_http", timeout_s=5).state is State.UNKNOWN


# --- programs that misbehave ---


def test_a_program_that_cannot_be_run_is_guards_own_problem(tmp_path: Path) -> None:
    plain, broken = tmp_path / "plain", tmp_path / "broken"
    plain.write_text("no program")
    broken.write_text("no program")
    broken.chmod(0o755)
    for argv, why in (
        ("/nowhere/check", "no such file or directory"),
        ("no-such-program-anywhere", "no such file or directory"),
        (str(plain), "permission denied"),
        (str(broken), "exec format error"),
    ):
        measured = measure(argv)
        assert (measured.state, measured.reason) == (State.UNKNOWN, f"guard could not run {argv}: {why}")


def test_a_killed_program_says_nothing_about_the_service() -> None:
    measured = measure(*shell("echo half; kill -9 $$"))
    assert (measured.state, measured.reason) == (State.UNKNOWN, "/bin/sh was killed by SIGKILL: half")


def test_the_whole_group_is_killed_at_the_deadline(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    measured = measure(*shell('trap "" TERM INT HUP; echo begun; sleep 60 & echo $! $$ >"$1"; wait', str(pids)))
    assert measured.state is State.UNHEALTHY and measured.reason.startswith("time-out")
    assert measured.evidence["output"] == "begun"
    for pid in map(int, pids.read_text().split()):
        wait_until(lambda pid=pid: gone(pid))  # type: ignore[misc]


def test_a_child_that_keeps_the_pipe_open_delays_nothing_and_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    began = time.monotonic()
    measured = measure(*shell('echo FINE; sleep 60 & echo $! >"$1"', str(pid)), timeout_s=5)
    assert time.monotonic() - began < 2
    assert (measured.state, measured.reason) == (State.HEALTHY, "FINE")
    wait_until(lambda: gone(int(pid.read_text())))


def test_a_child_in_a_session_of_its_own_delays_nothing_either(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = 'echo FINE; setsid sh -c \'echo $$ >"$1"; while :; do echo more; done\' sh "$1" & while [ ! -s "$1" ]; do :; done'
    try:
        measured = measure(*shell(code, str(pid)), timeout_s=5)
    finally:
        os.kill(int(pid.read_text()), 9)
    assert (measured.state, measured.reason) == (State.HEALTHY, "FINE")


@pytest.mark.parametrize("to", ["", " >&2"])
def test_endless_output_costs_neither_memory_nor_a_core(to: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    measured = measure(*shell(f"exec yes{to}"), timeout_s=1)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert measured.state is State.UNHEALTHY and measured.reason.startswith("time-out")
    assert after.ru_maxrss - before.ru_maxrss < 10 * 1024, "KiB"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5, "seconds of CPU"


def test_long_output_is_cut_and_the_program_ends_all_the_same() -> None:
    code = "import sys; print('BIG | ' + 'x' * 1000); sys.stdout.write('y' * 1_000_000); sys.exit(1)"
    measured = measure("python3", "-c", code, timeout_s=5)
    assert (measured.state, measured.reason) == (State.DEGRADED, "BIG")
    assert max(map(len, measured.evidence.values())) < 1100


def test_output_that_drips_does_not_move_the_deadline() -> None:
    assert measure(*shell("while :; do printf x; sleep 0.05; done")).reason.startswith("time-out")


def test_a_program_has_nothing_to_read_no_terminal_and_a_plain_environment() -> None:
    code = 'cat; [ -t 0 ] && exit 9; (: </dev/tty) 2>/dev/null && exit 9; echo "$(pwd) $(env | cut -d= -f1 | sort | tr "\\n" " ")"'
    measured = measure(*shell(code), env={"EXTRA": "1"}, timeout_s=5)
    assert measured.state is State.HEALTHY, measured
    assert measured.reason == "/ EXTRA HOME LANG PATH PWD"


def test_a_value_with_every_character_of_the_shell_arrives_as_it_is() -> None:
    value = "$(exit 2); `exit 2` && exit 2 | 'x\" * ? ~ \\ \n; exit 2"
    measured = measure("python3", "-c", "import sys; sys.exit(0 if sys.argv[1] == sys.argv[2] else 2)", value, value)
    assert measured.state is State.HEALTHY


def test_secrets_in_the_output_are_masked() -> None:
    probe = Masked(
        CommandProbe(shell('echo "login with $PW failed | pw=$PW"; exit 2'), 5, {"PW": "hunter2x"}), {"hunter2x"}
    )
    measured = asyncio.run(probe.measure())
    assert "hunter2x" not in repr(measured) and "login with ********" in measured.reason


def test_a_measurement_that_is_given_up_leaves_nothing_running(tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    async def main() -> None:
        task = asyncio.create_task(CommandProbe(shell('echo $$ >"$1"; exec sleep 60', str(pid)), 30).measure())
        while not (pid.exists() and pid.read_text().strip()):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    before = open_descriptors()
    asyncio.run(main())
    assert open_descriptors() <= before
    wait_until(lambda: gone(int(pid.read_text())))


def test_a_hundred_programs_at_once_are_each_their_own() -> None:
    async def main() -> list[Measurement]:
        probes = [CommandProbe(shell(f"sleep 0.1; echo {n}; exit {n % 3}"), 20) for n in range(100)]
        return await asyncio.gather(*(probe.measure() for probe in probes))

    measured = asyncio.run(main())
    assert [found.reason for found in measured] == [str(n) for n in range(100)]
    assert [found.state for found in measured[:3]] == [State.HEALTHY, State.DEGRADED, State.UNHEALTHY]
