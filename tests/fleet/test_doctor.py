"""``guard doctor`` on real hosts: it finds what is wrong, says the fix, and changes nothing."""

from __future__ import annotations

from guard_command import Guard

from guard.demo.fleet import Fleet


def test_a_fleet_in_order_has_no_problems_and_nothing_is_written(guard: Guard, fleet: Fleet) -> None:
    ran = guard.json("doctor")
    assert ran.code == 0, ran
    assert ran.json["ok"] is True
    engines = {one["host"]: one["text"] for one in ran.json["findings"] if one["subject"] == "engine"}
    assert set(engines) == {host.name for host in fleet.hosts}
    assert all("Python 3." in text and "GiB free" in text for text in engines.values())
    assert not [one for one in ran.json["findings"] if one["subject"] == "clock"]
    assert not guard.state.exists()


def test_a_host_without_a_running_engine_is_named_with_a_fix(guard: Guard, fleet: Fleet) -> None:
    host = fleet.hosts[1]
    host.kill_engine()
    try:
        ran = guard("doctor")
    finally:
        host.start_engine()
    assert ran.code == 1, ran
    assert f"PROBLEM  {host.name}" in ran.stdout and "fix:" in ran.stdout
    assert f"ok       {fleet.hosts[0].name}" in ran.stdout


def test_a_bad_configuration_is_a_finding_and_the_rest_is_looked_at_all_the_same(guard: Guard, fleet: Fleet) -> None:
    guard.configure("services: [{name: web, chekcs: []}]\n")
    ran = guard("doctor")
    assert ran.code == 2, ran
    assert "chekcs" in ran.stdout and "ansible-core" in ran.stdout
