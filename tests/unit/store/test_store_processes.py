"""Real processes: killed while they write, racing for a lease, dead while they hold one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from guard.decide.thresholds import TargetStatus
from guard.errors import LeaseHeld
from guard.store import open_store, this_process
from guard.store.holder import is_surely_dead, parse
from tests.samples_store import later, plan, rollback, seen, target

WRITER = """
import sys
from pathlib import Path
from tests.samples_store import NOW, plan, restored, rollback, seen, target, counted
from guard.store import open_store
store, name = open_store("sqlite", Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
for number in range(100_000):
    one = f"{name}-{number}"
    store.begin_rollback(rollback(one), plan(), one)
    store.record_host(one, restored())
    batch = [seen(target(one, str(host))) for host in range(30)]
    store.add_observations(batch, {each.target: counted(each) for each in batch})
    print(one, flush=True)
"""

RACER = """
import os, sys, time
from pathlib import Path
from guard.errors import LeaseHeld
from guard.store import open_store, this_process
folder, wins = Path(sys.argv[1]), int(sys.argv[2])
store, me = open_store("sqlite", folder), this_process()
print("ready", flush=True)
sys.stdin.readline()
while wins:
    try:
        lease = store.acquire("web", me, 30)
    except LeaseHeld:
        time.sleep(0.001)
        continue
    os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))  # fails when somebody else is inside
    print(lease.fence, flush=True)
    (folder / "inside").unlink()
    store.release(lease)
    wins -= 1
"""

OWNER = """
import sys
from pathlib import Path
from guard.store import open_store, this_process
store, me = open_store("sqlite", Path(sys.argv[1])), this_process()
store.acquire("web", me, 3600)
print(me, flush=True)
sys.stdin.read()
"""


@contextmanager
def python(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_writer_killed_at_any_instant_loses_nothing_it_had_committed(tmp_path: Path) -> None:
    chance = random.Random(2)  # noqa: S311 - when to kill, not a secret
    committed: list[str] = []
    for round_ in range(6):
        with python(WRITER, str(tmp_path), str(round_)) as process:
            assert line(process) == "ready"
            committed += [line(process) for _ in range(4)]  # on a busy machine too there is something to lose
            assassin = threading.Timer(chance.uniform(0.0, 0.3), process.send_signal, [signal.SIGKILL])
            assassin.start()
            assert process.stdout is not None
            committed += process.stdout.read().split()
            assassin.join()
            assert process.wait() == -signal.SIGKILL
        with open_store("sqlite", tmp_path) as store:
            found = {each.id: each for each in store.rollbacks(limit=100_000)}
            assert set(committed) <= found.keys()
            assert len(found) <= len(committed) + round_ + 1  # at most the one in flight of each round
            for one in committed:
                assert found[one].hosts["a"].backup_tag
                assert len(store.observations(one, datetime(2026, 1, 1, tzinfo=UTC))) == len(store.statuses(one)) == 30
            assert store.verify_audit() >= 2 * len(committed)
    assert len(committed) > 20, "the writer was killed before it had written anything worth losing"


def test_of_processes_racing_for_a_lease_one_wins_at_a_time_and_fences_strictly_grow(tmp_path: Path) -> None:
    # They also race to create the database.
    with python(RACER, str(tmp_path), "15") as one, python(RACER, str(tmp_path), "15") as two:
        assert [line(one), line(two)] == ["ready", "ready"]
        with ThreadPoolExecutor() as pool:
            said = list(pool.map(lambda each: each.communicate("go\n", timeout=60)[0], (one, two)))
        assert [one.returncode, two.returncode] == [0, 0]
    fences = [[int(fence) for fence in each.split()] for each in said]
    assert all(each == sorted(set(each)) and len(each) == 15 for each in fences)
    assert len(set(fences[0] + fences[1])) == 30


def test_the_lease_of_a_killed_process_on_this_machine_is_taken_at_once(tmp_path: Path) -> None:
    with open_store("sqlite", tmp_path) as store, python(OWNER, str(tmp_path)) as owner:
        held_by = line(owner)
        assert not is_surely_dead(held_by)
        with pytest.raises(LeaseHeld, match=f"process {owner.pid} on "):
            store.acquire("web", this_process(), 30)
        owner.kill()
        os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
        assert is_surely_dead(held_by)
        assert store.acquire("web", this_process(), 30).fence > 1


@pytest.mark.parametrize(
    ("part", "value", "dead"),
    [
        ("start", "1", True),  # the pid was given to another process
        ("pid", "4194305", True),  # above the kernel's greatest pid
        ("host", "elsewhere", False),
        ("machine", "another-boot", False),
        ("machine", "", False),
        ("start", "0", False),
    ],
)
def test_only_a_process_of_this_machine_and_boot_is_ever_judged_dead(part: str, value: str, dead: bool) -> None:
    names = ["host", "pid", "machine", "start", "nonce"]
    parts = this_process().split(":")
    parts[names.index("pid")] = str(4194305) if not dead else parts[names.index("pid")]
    parts[names.index(part)] = value
    assert is_surely_dead(":".join(parts)) is dead


@pytest.mark.parametrize("text", ["", "alice", "host:12:abc", "host:x:m:1:n", "host:-1:m:1:n", "host:0:m:1:n", ":::::"])
def test_a_holder_text_of_another_kind_is_never_judged_dead(text: str) -> None:
    assert parse(text) is None
    assert not is_surely_dead(text)


def test_two_holders_of_one_process_are_two() -> None:
    assert this_process() != this_process()


def test_many_threads_write_and_read_without_losing_a_row(tmp_path: Path) -> None:
    with open_store("sqlite", tmp_path) as store:

        def work(number: int) -> int:
            store.begin_rollback(rollback(f"r{number}", f"s{number % 4}", later(number)), plan(), f"k{number}")
            store.add_observations([seen(target(f"s{number % 4}"))], {target(f"s{number % 4}"): TargetStatus()})
            return len(store.rollbacks(f"s{number % 4}", limit=1000))

        with ThreadPoolExecutor(12) as pool:
            seen_by: Sequence[int] = list(pool.map(work, range(80)))
        assert min(seen_by) >= 1
        assert len(store.rollbacks(limit=1000)) == 80
        assert store.verify_audit() == 80
