"""``guard explain`` and ``guard replay`` after gates over real hosts: one that rolled back, one that a hold stopped."""

from __future__ import annotations

from typing import Any

from guard_command import Guard

from guard.demo.fleet import Fleet
from guard.demo.image import Behaviour


def lines(text: str) -> list[str]:
    assert max(len(line) for line in text.splitlines()) <= 80, text
    return text.splitlines()


def of_kind(document: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry for entry in document["timeline"] if entry["kind"] == kind]


def test_a_rollback_and_a_refusal_are_explained_and_replayed(guard: Guard, fleet: Fleet) -> None:
    assert guard("snapshot", "web").code == 0
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    gate = guard.json("gate", "web", "--for", "8s")
    assert gate.code == 3, gate
    rollback = gate.json["rollbacks"][0]["id"]

    ran = guard("explain", gate.json["id"])
    assert ran.code == 0, ran
    told = lines(ran.stdout)
    assert told[0].startswith("The release of web was rolled back, because web/http")
    assert "3 of 3" in ran.stdout
    assert "THRESHOLD CROSSED" in ran.stdout
    assert "verification: web/http" in ran.stdout
    told_json = guard.json("explain", gate.json["id"]).json
    assert told_json["kind"] == "gate"
    assert told_json["related"] == [rollback]
    http = [c for c in told_json["counters"] if c["check"] == "http"]
    assert any(c["crossed"] and c["consecutive_failures"] == c["failure_threshold"] == 3 for c in http)
    assert {entry["state"] for entry in of_kind(told_json, "verification")} == {"healthy"}
    assert "threshold" in {entry["transition"] for entry in of_kind(told_json, "observations")}
    assert sorted(e["text"].split(":")[0] for e in of_kind(told_json, "host")) == ["web1", "web2", "web3"]
    assert all(rule["allows"] for rule in told_json["rules"])
    assert told_json["timeline"] == sorted(told_json["timeline"], key=lambda entry: entry["at"])

    fleet.deploy(fleet.provide("1.2.0", Behaviour.ERROR))
    assert guard("hold", "web", "--for", "1h", "--reason", "migration").code == 0
    refused = guard.json("gate", "web", "--for", "8s")
    assert refused.code == 5, refused
    ran = guard("explain", "web")
    assert lines(ran.stdout)[0].startswith("web was not rolled back, because a rule says no (hold:")
    assert "guard unhold web" in ran.stdout
    assert any(line.startswith("  NO   hold") for line in ran.stdout.splitlines())
    vetoes = [rule["rule"] for rule in guard.json("explain", "web").json["rules"] if not rule["allows"]]
    assert vetoes == ["hold"]

    replayed = guard.json("replay", "--since", "10m", "web")
    assert replayed.code == 0, replayed
    would = replayed.json["would"]
    assert [(one["source"], one["rolls_back"]) for one in would] == [
        (gate.json["id"], True),
        (refused.json["id"], True),
    ]
    assert [one["really"]["outcome"] for one in would] == ["restored", "refused"]
    assert replayed.json["only_really"] == []
    never = guard.json("replay", "--since", "10m", "--set", "failure_threshold=99")
    assert never.json["would"] == []
    assert [one["id"] for one in never.json["only_really"]] == [one["really"]["id"] for one in would]
    ran = guard("replay", "--since", "10m", "--set", "failure_threshold=99")
    assert lines(ran.stdout)[0].startswith("Nothing would have been rolled back with failure_threshold 99")
    assert f"restored: {rollback}" in ran.stdout
    assert guard("replay", "--since", "10m", "--set", "failure_treshold=99").code == 2

    unknown = guard("explain", "gt-nothing")
    assert unknown.code == 2
    assert "guard history" in unknown.stderr
