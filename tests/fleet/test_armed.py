"""A rollback armed at the warning, over real hosts: only the swap is left, and a recovery leaves nothing behind."""

from __future__ import annotations

import copy
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from guard_command import CONFIG, Guard
from seen import everywhere, running

from guard.demo.fleet import Fleet
from guard.demo.image import Behaviour, image_id, web_image
from guard.model import HostPlan, HostResult, HostState, Image, Phase, Plan, Rollback, RollbackOutcome, Trigger
from guard.rollback.catalog import Catalog
from guard.store import open_store

Event = dict[str, Any]


def config(failures: int, interval: str = "300ms") -> dict[str, Any]:
    """Warned after two failures, and armed as long as fewer than ``failures`` came in a row."""
    changed = copy.deepcopy(CONFIG)
    changed["defaults"].update(failure_threshold=failures, interval=interval)
    return changed


class Events:
    """What a watch tells, read while it runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.seen: list[Event] = []
        self._lines: queue.Queue[Event | None] = queue.Queue()
        self._log: list[str] = []
        for reading in (self._read, self._read_log):
            threading.Thread(target=reading, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:  # a pipe that nobody empties would stop the watch
            self._log.append(line)

    def until(self, kind: str, seconds: float = 100.0) -> Event:
        end = time.monotonic() + seconds
        while True:
            try:
                event = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                told = [one for one in self.seen if one["event"] != "observation"] + self.seen[-3:]
                pytest.fail(f"no {kind} within {seconds} s; seen: {told}")
            if event is None:
                pytest.fail(f"watch ended before {kind}: {self._log[-20:]}")
            assert "event" in event, event
            self.seen.append(event)
            if event["event"] == kind:
                return event

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(90)


def traces(fleet: Fleet) -> dict[str, tuple[str, ...]]:
    """What an armed rollback could leave on a host: containers, and names of images."""
    return {
        host.name: tuple(
            sorted(
                host.docker("ps", "--all", "--no-trunc", "--format", "{{.Names}} {{.Image}} {{.ID}}").splitlines()
                + host.docker("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines()
            )
        )
        for host in fleet.hosts
    }


def runs(guard: Guard) -> list[Path]:
    return [path for path in (guard.state / "runs").glob("rb-*/*") if path.is_dir()]


def entry(folder: Path) -> str:
    return str(json.loads((folder / "run.json").read_text())["entry"])


def turn(fleet: Fleet, good: bool) -> None:
    fleet.each(lambda host: host.docker("exec", "web", "rm" if good else "touch", "/tmp/bad"))


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.05)


def shims(guard: Guard) -> list[int]:
    return [json.loads((run / "pid").read_text())["pid"] for run in runs(guard)]


@pytest.fixture
def fickle(guard: Guard, fleet: Fleet) -> Fleet:
    """The fleet with a release on it that is bad as long as it is told to be, after a snapshot of the good one."""
    assert guard("snapshot", "web").code == 0
    fleet.deploy(fleet.provide("1.1.0", Behaviour.TURNS_BAD), env={"TURNS_BAD_AFTER": "100000"})
    fleet.wait_healthy()
    return fleet


@pytest.fixture
def armed(guard: Guard, fickle: Fleet) -> Iterator[Events]:
    """A watch that is armed and that a hundred more failures would let swap."""
    guard.configure(config(200))
    watch = Events(guard.start("watch", "--output", "json"))
    watch.until("observation")
    turn(fickle, good=False)
    watch.until("armed")
    yield watch
    if watch.process.poll() is None:
        watch.stop()


def test_a_gate_arms_at_the_first_failed_check_and_only_swaps_at_the_threshold(guard: Guard, fickle: Fleet) -> None:
    guard.configure(config(15, "1500ms"))
    turn(fickle, good=False)
    ran = guard("gate", "web", "--for", "60s", timeout=150)
    assert ran.code == 3, ran
    assert "armed: web: prepared on 3 hosts" in ran.stdout
    assert "prepared already" in ran.stdout
    assert running(fickle) == everywhere("1.0.0")
    [folder] = runs(guard)
    assert entry(folder) == "armed.yml"
    assert json.loads((folder / "result.json").read_text())["ending"] == "finished"
    assert not (folder / "word").exists()
    rollback = guard.json("history", folder.parent.name).json
    assert (rollback["outcome"], rollback["artifacts"]) == ("restored", str(folder.parent))
    assert {host["state"] for host in rollback["hosts"].values()} == {"restored"}
    assert [r["state"] for r in guard.json("releases", "web").json["releases"][:2]] == ["good", "rejected"]


def test_a_gate_whose_service_recovers_leaves_nothing_behind(guard: Guard, fickle: Fleet) -> None:
    guard.configure(config(30, "500ms"))
    before = traces(fickle)
    turn(fickle, good=False)
    gate = guard.start("gate", "web", "--for", "4s")
    wait_for(lambda: any("web.guard-next" in line for line in traces(fickle)["web1"]))
    turn(fickle, good=True)
    out, err = gate.communicate(timeout=60)
    assert gate.returncode == 0, out + err
    assert "disarmed: web: the service has recovered" in out
    assert traces(fickle) == before
    assert runs(guard) == []


def test_a_watch_arms_at_the_warning_and_a_recovery_leaves_no_trace(guard: Guard, fickle: Fleet) -> None:
    before = traces(fickle)
    guard.configure(config(200))
    watch = Events(guard.start("watch", "--output", "json"))
    watch.until("observation")
    turn(fickle, good=False)
    watch.until("armed")
    assert watch.seen[-1]["text"].startswith("prepared on 3 hosts")
    assert any("web.guard-next" in line for line in traces(fickle)["web2"])
    assert running(fickle) == everywhere("1.1.0")
    turn(fickle, good=True)
    watch.until("disarmed")
    assert traces(fickle) == before
    assert list((guard.state / "runs").glob("rb-*")) == []
    assert guard.json("history").json["rollbacks"] == []
    watch.stop()


def test_at_the_threshold_a_watch_swaps_what_it_has_prepared(guard: Guard, fickle: Fleet) -> None:
    guard.configure(config(100))
    watch = Events(guard.start("watch", "--output", "json"))
    watch.until("observation")
    turn(fickle, good=False)
    watch.until("armed")
    rollback = watch.until("rollback")["rollback"]
    assert rollback["outcome"] == "restored"
    assert running(fickle) == everywhere("1.0.0")
    assert [entry(folder) for folder in runs(guard)] == ["armed.yml"]
    watch.stop()
    assert not any("guard-" in line.split()[0] for lines in traces(fickle).values() for line in lines if "web." in line)


def test_a_guard_that_dies_while_armed_leaves_nothing(guard: Guard, fickle: Fleet, armed: Events) -> None:
    [shim] = shims(guard)
    armed.process.send_signal(signal.SIGKILL)
    wait_for(lambda: runs(guard) == [])
    assert not Path(f"/proc/{shim}").exists() or Path(f"/proc/{shim}/stat").read_text().split()[2] == "Z"
    assert not any("web.guard-next" in line or "backup_" in line for lines in traces(fickle).values() for line in lines)
    assert running(fickle) == everywhere("1.1.0")
    assert guard("resume").stdout.strip() == "nothing to resume"


def test_what_guard_and_its_run_leave_when_both_are_killed_is_taken_back_by_resume(
    guard: Guard, fickle: Fleet, armed: Events
) -> None:
    [shim] = shims(guard)
    os.kill(shim, signal.SIGSTOP)  # so that it cannot disarm in between
    armed.process.send_signal(signal.SIGKILL)
    os.kill(shim, signal.SIGKILL)
    ran = guard.json("resume")
    assert ran.code == 0, ran
    assert ran.json["rollbacks"] == []
    assert not any("web.guard-next" in line or "backup_" in line for lines in traces(fickle).values() for line in lines)
    assert list((guard.state / "runs").glob("rb-*")) == []
    assert running(fickle) == everywhere("1.1.0")


def test_a_host_that_was_away_when_it_was_disarmed_is_cleared_by_resume(
    guard: Guard, fickle: Fleet, armed: Events
) -> None:
    away = fickle.hosts[1]
    away.stop_sshd()
    armed.process.send_signal(signal.SIGKILL)
    wait_for(lambda: all((run / "result.json").exists() for run in runs(guard)), 60)
    assert len(runs(guard)) == 1
    assert any("web.guard-next" in line for line in traces(fickle)[away.name])
    assert guard("resume").code == 5
    away.revive()
    ran = guard.json("resume")
    assert ran.code == 0, ran
    assert away.name in ran.json["taken_back"]["web"]
    assert not any("web.guard-next" in line or "backup_" in line for lines in traces(fickle).values() for line in lines)
    assert list((guard.state / "runs").glob("rb-*")) == []


def test_what_is_deployed_while_armed_is_not_swapped_for_a_stale_target(guard: Guard, fickle: Fleet) -> None:
    """The newer bad release is rolled back on its own account."""
    guard.configure(config(100))
    watch = Events(guard.start("watch", "--output", "json"))
    watch.until("observation")
    turn(fickle, good=False)
    watch.until("armed")
    fickle.deploy(fickle.provide("1.2.0", Behaviour.ERROR))
    first = watch.until("rollback")["rollback"]
    assert {host["from"]["image"] for host in first["hosts"].values()} == {"web:1.2.0"}
    assert first["outcome"] == "restored"
    assert running(fickle) == everywhere("1.0.0")
    watch.stop()
    assert not any("web.guard-" in line for lines in traces(fickle).values() for line in lines)


def test_an_operator_rolls_back_by_hand_while_a_watch_is_armed(guard: Guard, fickle: Fleet, armed: Events) -> None:
    ran = guard("rollback", "web")
    assert ran.code == 0, ran
    assert running(fickle) == everywhere("1.0.0")
    armed.until("disarmed")
    wait_for(lambda: not any(entry(run) == "armed.yml" for run in runs(guard)))
    assert running(fickle) == everywhere("1.0.0")
    tags = [line for line in traces(fickle)["web1"] if "backup_" in line]
    assert len(tags) == 1, tags  # the operator's own


def test_a_hold_that_is_set_while_armed_is_kept_and_nothing_stays_prepared(guard: Guard, fickle: Fleet) -> None:
    guard.configure(config(100))
    watch = Events(guard.start("watch", "--output", "json"))
    watch.until("observation")
    turn(fickle, good=False)
    watch.until("armed")
    assert guard("hold", "web", "--for", "1h", "--reason", "migration").code == 0
    assert watch.until("rollback")["rollback"]["outcome"] == "refused"
    watch.stop()
    assert any(event["event"] == "disarmed" for event in watch.seen) or runs(guard) == []
    assert not any("web.guard-next" in line or "backup_" in line for lines in traces(fickle).values() for line in lines)
    assert running(fickle) == everywhere("1.1.0")


def test_a_crash_between_the_record_and_the_word_is_finished_by_resume(
    guard: Guard, fickle: Fleet, armed: Events
) -> None:
    """What guard does in between is done here: the intent is written, and then guard is gone."""
    [folder] = runs(guard)
    os.kill(armed.process.pid, signal.SIGSTOP)
    good, bad = image_id(web_image("web:1.0.0")), fickle.hosts[0].docker("inspect", "--format", "{{.Image}}", "web")
    from_, to = Image("web:1.1.0", bad), Image("web:1.0.0", good)
    reference = Catalog().resolve("container@1").reference
    hosts = {host.name: HostPlan(host.name, "web", from_, to, "release") for host in fickle.hosts}
    plan = Plan("web", reference, "backup_20260101_000000", (tuple(hosts),), hosts)
    record = Rollback(
        id=folder.parent.name,
        service="web",
        outcome=RollbackOutcome.UNFINISHED,
        phase=Phase.PREPARING,
        trigger=Trigger.THRESHOLD,
        reason="a crash",
        playbook=reference,
        started_at=datetime.now(UTC),
        ended_at=None,
        hosts={name: HostResult(name, HostState.PLANNED, from_, to) for name in hosts},
        artifacts=str(folder.parent),
        verified=False,
        fence=1,
    )
    with open_store("sqlite", guard.state, False) as store:
        store.begin_rollback(record, plan, "a crash")
    armed.process.send_signal(signal.SIGKILL)
    armed.process.wait()
    ran = guard.json("resume", timeout=120)
    assert ran.code == 0, ran
    assert [(one["id"], one["outcome"]) for one in ran.json["rollbacks"]] == [(record.id, "restored")]
    assert running(fickle) == everywhere("1.0.0")
    assert not any("web.guard-" in line for lines in traces(fickle).values() for line in lines)


@pytest.mark.parametrize("arguments", [("--dry-run",), ("--failure-threshold", "1")])
def test_a_dry_run_and_a_threshold_of_one_never_arm(guard: Guard, fickle: Fleet, arguments: tuple[str, ...]) -> None:
    guard.configure(config(6))
    watch = Events(guard.start("watch", "--output", "json", *arguments))
    watch.until("observation")
    turn(fickle, good=False)
    watch.until("rollback")
    watch.stop()
    assert all(event["event"] != "armed" for event in watch.seen)
    assert not any(entry(run) == "armed.yml" for run in runs(guard))
