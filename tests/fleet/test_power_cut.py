"""A host loses its power before or in the middle of a rollback, and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from guard_command import CONFIG, Guard
from seen import everywhere, running

from guard.demo.fleet import Fleet
from guard.demo.host import Host
from guard.demo.image import Behaviour

BAD, GOOD = "1.1.0", "1.0.0"


def only(guard: Guard) -> Any:
    """The one rollback on record."""
    (record,) = guard.json("history").json["rollbacks"]
    return record


def until(happened: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def stopped_mid_swap(host: Host) -> bool:
    """Its journal says that the old container is being stopped, or more."""
    return bool(host.exec(["sh", "-c", "grep -s stop-old /var/lib/guard/web@web.journal"], check=False))


def test_a_host_without_power_converges_on_resume_when_it_is_back(guard: Guard, fleet: Fleet) -> None:
    guard("snapshot", "web")
    fleet.deploy(fleet.provide(BAD, Behaviour.ERROR))
    fleet.host("web2").power_cut()
    ran = guard("rollback", "web")
    assert ran.code == 4, ran
    assert f"`guard resume {only(guard)['id']}` once web2 can be reached" in ran.stdout
    assert only(guard)["hosts"]["web2"]["state"] == "unreachable"
    still = guard("resume")
    assert still.code == 5, still
    fleet.host("web2").revive()
    assert running(fleet) == everywhere(GOOD) | {"web2": BAD}
    resumed = guard("resume")
    assert resumed.code == 0, resumed
    assert running(fleet) == everywhere(GOOD)
    record = only(guard)
    assert (record["outcome"], record["verified"]) == ("restored", True)
    cause, *rest = record["reason"].split("; ")
    assert cause.startswith("asked for by ") and rest[:2] == ["resumed", "3 restored"], record["reason"]
    assert guard("resume").stdout == "nothing to resume\n"


def test_a_host_whose_container_does_not_start_by_itself_converges_as_well(guard: Guard, fleet: Fleet) -> None:
    guard("snapshot", "web")
    bad = fleet.provide(BAD, Behaviour.ERROR)
    fleet.deploy(bad, args=["--restart=no"])
    fleet.host("web2").power_cut()
    assert guard("rollback", "web").code == 4
    fleet.host("web2").revive()
    fleet.host("web3").power_cut()
    fleet.host("web3").revive()
    assert running(fleet) == {"web1": GOOD, "web2": "", "web3": ""}
    resumed = guard("resume")
    assert resumed.code == 0, resumed
    assert running(fleet) == everywhere(GOOD)
    assert only(guard)["outcome"] == "restored"


@pytest.mark.parametrize("policy", ["unless-stopped", "no"])
def test_a_host_that_loses_its_power_in_the_middle_of_its_swap_converges_on_resume(
    guard: Guard, fleet: Fleet, policy: str
) -> None:
    guard("snapshot", "web")
    options = [f"--restart={policy}", "--health-cmd=wget -q -O /dev/null http://127.0.0.1:8080/healthz"]
    fleet.deploy(fleet.provide(BAD, Behaviour.ERROR), args=[*options, "--health-interval=3s"])
    process = guard.start("rollback", "web")
    until(lambda: stopped_mid_swap(fleet.host("web2")), 60, "the swap did not begin")
    fleet.host("web2").power_cut()
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 4, stdout + stderr
    record = only(guard)
    assert {name: host["state"] for name, host in record["hosts"].items()} == {
        "web1": "restored",
        "web2": "unreachable",
        "web3": "restored",
    }
    fleet.host("web2").revive()
    resumed = guard("resume", timeout=120)
    assert resumed.code == 0, resumed
    assert running(fleet) == everywhere(GOOD)
    assert only(guard)["outcome"] == "restored"
    for host in fleet.hosts:
        assert host.docker("ps", "--all", "--format", "{{.Names}}").split() == ["web"]


def test_a_host_without_power_converges_by_itself_when_it_returns_to_a_watch(guard: Guard, fleet: Fleet) -> None:
    guard("snapshot", "web")
    fleet.deploy(fleet.provide(BAD, Behaviour.ERROR))
    fleet.host("web2").power_cut()
    assert guard("rollback", "web").code == 4
    # Its checks would roll back by themselves what comes back bad: here only the unfinished rollback may act.
    service = {**CONFIG["services"][0], "checks": [{"type": "docker"}]}
    guard.configure({**CONFIG, "services": [service]})
    watch = guard.start("watch")
    time.sleep(1)
    fleet.host("web2").revive()
    until(lambda: running(fleet) == everywhere(GOOD), 90, "the host that returned was left as it was")
    until(lambda: only(guard)["outcome"] == "restored", 60, "its return is not on record")
    watch.terminate()
    stdout, stderr = watch.communicate(timeout=60)
    assert watch.returncode == 143, stdout + stderr
    assert only(guard)["hosts"]["web2"]["state"] == "restored"
