"""Deploys after which guard deliberately does nothing, and says which rule said no."""

from __future__ import annotations

import copy
import json
import signal
from typing import Any

from guard_command import CONFIG, Guard, Ran
from seen import everywhere, running

from guard.demo.fleet import Fleet
from guard.demo.image import Behaviour
from guard.engines.docker_api import IRREVERSIBLE_LABEL

CLOSED = {"type": "http", "name": "closed", "url": "http://{{ ansible_host }}:8099/"}
CHECKS = [CLOSED, *CONFIG["services"][0]["checks"]]


def config(**service: Any) -> dict[str, Any]:
    changed = copy.deepcopy(CONFIG)
    changed["services"][0].update(service)
    return changed


def said_no(ran: Ran) -> set[str]:
    """The rules of the gate's first rollback that said no; every rule is on record."""
    answers = ran.json["rollbacks"][0]["answers"]
    assert len(answers) == 13
    return {answer["rule"] for answer in answers if not answer["allows"]}


def refused(ran: Ran, rule: str) -> None:
    assert ran.code == 5, ran
    assert ran.json["outcome"] == "not_rolled_back"
    assert said_no(ran) == {rule}
    assert f"{rule}:" in ran.json["reason"]


def test_a_release_whose_image_is_marked_irreversible_is_left_until_an_operator_insists(
    guard: Guard, fleet: Fleet
) -> None:
    guard("snapshot", "web")
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR, labels={IRREVERSIBLE_LABEL: "true"}))
    refused(guard.json("gate", "web", "--for", "5s"), "irreversible")
    assert guard.json("releases", "web").json["releases"][0]["irreversible"] is True
    assert guard.json("rollback", "web").code == 5
    assert running(fleet) == everywhere("1.1.0")
    assert guard("rollback", "web", "--force").code == 0
    assert running(fleet) == everywhere("1.0.0")


def test_a_snapshot_can_say_that_the_next_deploy_is_irreversible(guard: Guard, fleet: Fleet) -> None:
    assert "irreversible" in guard("snapshot", "web", "--irreversible").stdout
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    refused(guard.json("gate", "web", "--for", "5s"), "irreversible")
    assert running(fleet) == everywhere("1.1.0")


def test_nothing_is_rolled_back_in_a_maintenance_window_and_status_shows_it(guard: Guard, fleet: Fleet) -> None:
    always = {"from": "00:00", "to": "24:00", "timezone": "Europe/Berlin", "reason": "backup"}
    guard.configure(config(maintenance=[always]))
    guard("snapshot", "web")
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    refused(guard.json("gate", "web", "--for", "5s"), "maintenance")
    assert running(fleet) == everywhere("1.1.0")
    assert guard.json("status").json["services"][0]["maintenance"]["reason"] == "backup"
    assert "MAINTENANCE until" in guard("status").stdout
    assert guard("rollback", "web").code == 0  # an operator may


def test_a_release_is_not_blamed_for_what_failed_before_it_came(guard: Guard, fleet: Fleet) -> None:
    guard.configure(config(checks=CHECKS))
    guard("snapshot", "web")
    fleet.deploy(fleet.provide("1.1.0", Behaviour.GOOD))
    fleet.wait_healthy()
    refused(guard.json("gate", "web", "--for", "5s"), "failing_before")
    assert running(fleet) == everywhere("1.1.0")


def test_a_release_is_blamed_for_what_fails_besides_that(guard: Guard, fleet: Fleet) -> None:
    guard.configure(config(checks=CHECKS))
    guard("snapshot", "web")
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    ran = guard.json("gate", "web", "--for", "8s")
    assert ran.code == 4, ran  # what failed before fails after it as well: put back, but not verified
    assert not said_no(ran)
    assert set(running(fleet).values()) == {"1.0.0"}


def test_most_critical_services_at_once_are_no_matter_of_one_release(guard: Guard, fleet: Fleet) -> None:
    three = copy.deepcopy(CONFIG)
    web = three["services"][0]
    three["services"] = [{**web, "name": name} for name in ("web", "api", "shop")]
    guard.configure(three)
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    ran = guard.json("gate", "web", "api", "shop", "--for", "5s")
    assert ran.code == 5, ran
    assert "mass_failure" in said_no(ran)
    assert "critical services began to fail within one interval" in ran.json["reason"]
    assert running(fleet) == everywhere("1.1.0")


def test_a_watch_records_once_why_a_service_that_is_not_critical_is_left(guard: Guard, fleet: Fleet) -> None:
    guard.configure(config(critical=False))
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    watch = guard.start("watch", "--output", "json")
    assert watch.stdout is not None
    events = (json.loads(line) for line in watch.stdout)
    record = next(event["rollback"] for event in events if event["event"] == "rollback")
    assert record["outcome"] == "refused"
    failures = (event for event in events if event.get("consecutive_failures", 0) > 25)  # asked long enough again
    assert next(failures)
    watch.send_signal(signal.SIGTERM)
    watch.communicate(timeout=20)
    records = guard.json("history").json["rollbacks"]
    assert len(records) == 1
    assert [a["rule"] for a in records[0]["answers"] if not a["allows"]] == ["critical"]
    assert running(fleet) == everywhere("1.1.0")
