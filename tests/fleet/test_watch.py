"""``guard watch``: the daemon, against real services that turn bad."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from guard_command import CONFIG, Guard
from seen import everywhere, running

from guard.demo.fleet import Fleet
from guard.demo.image import Behaviour

Event = dict[str, Any]


def until(process: subprocess.Popen[str], wanted: Callable[[Event], bool]) -> Event:
    """Read JSON lines until one fits. The process ending first fails the test."""
    assert process.stdout is not None
    for line in process.stdout:
        event: Event = json.loads(line)
        if wanted(event):
            return event
    pytest.fail(f"watch ended: {process.stderr.read() if process.stderr else ''}")


def kind(name: str) -> Callable[[Event], bool]:
    return lambda event: event["event"] == name


def test_a_watch_warns_rolls_back_goes_on_and_ends_with_a_summary(guard: Guard, fleet: Fleet) -> None:
    log = guard.folder / "watch.log"
    watch = guard.start("watch", "--output", "json", "--log-file", str(log))
    until(watch, lambda e: e["event"] == "observation" and e["observation"]["state"] == "healthy")
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    until(watch, kind("warning"))
    until(watch, kind("threshold"))
    rollback = until(watch, kind("rollback"))["rollback"]
    assert rollback["outcome"] == "restored"
    assert rollback["trigger"] == "threshold"
    assert running(fleet) == everywhere("1.0.0")
    until(watch, lambda e: e["event"] == "observation" and e["observation"]["state"] == "healthy")
    second = guard("watch")
    assert second.code == 75, second
    watch.send_signal(signal.SIGTERM)
    out, err = watch.communicate(timeout=20)
    assert watch.returncode == 143, err
    summary = json.loads(out.splitlines()[-1])
    assert summary["event"] == "summary"
    assert summary["services"][0]["state"] == "healthy"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    observed = [line for line in lines if line["event"] == "observation"]
    assert observed
    assert all({"service", "target", "status", "latency", "error", "time"} <= line.keys() for line in observed)


def test_a_service_that_is_not_critical_is_logged_and_a_dry_run_changes_nothing(guard: Guard, fleet: Fleet) -> None:
    config = copy.deepcopy(CONFIG)
    config["services"][0]["critical"] = False
    guard.configure(config)
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    watch = guard.start("watch", "--output", "json")
    until(watch, kind("not_critical"))
    watch.send_signal(signal.SIGINT)
    watch.communicate(timeout=20)
    assert watch.returncode == 130
    guard.configure(CONFIG)
    dry = guard.start("watch", "--output", "json", "--dry-run", "--check-interval", "200ms", "--failure-threshold", "2")
    assert until(dry, kind("rollback"))["rollback"]["outcome"] == "dry_run"
    dry.send_signal(signal.SIGTERM)
    dry.communicate(timeout=20)
    assert running(fleet) == everywhere("1.1.0")


def test_asked_to_stop_in_the_middle_a_rollback_is_finished_first(guard: Guard, fleet: Fleet) -> None:
    guard("snapshot", "web")
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    watch = guard.start("watch", "--output", "json")
    until(watch, kind("rollback_started"))
    watch.send_signal(signal.SIGTERM)
    watch.communicate(timeout=40)
    assert watch.returncode == 143
    assert running(fleet) == everywhere("1.0.0")
    assert guard.json("history").json["rollbacks"][0]["outcome"] == "restored"
