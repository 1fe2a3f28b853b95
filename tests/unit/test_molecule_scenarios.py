"""The Molecule scenarios say one thing each, and share the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

MOLECULE = Path(__file__).parents[2] / "molecule"
SCENARIOS = sorted(MOLECULE.glob("*/molecule.yml"))
WANTED = {
    "default",
    "partial_failure",
    "unreachable_host",
    "wont_start",
    "interrupted",
    "idempotence",
    "check_mode",
}


def shared_part(scenario: Path) -> dict[str, Any]:
    """The scenario's file without what makes it a scenario of its own."""
    said = yaml.safe_load(scenario.read_text())
    del said["provisioner"]["inventory"], said["scenario"]["test_sequence"]
    return dict(said)


def test_every_fault_has_its_scenario() -> None:
    assert {scenario.parent.name for scenario in SCENARIOS} >= WANTED


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.parent.name)
def test_a_scenario_differs_from_the_others_only_in_what_happens(scenario: Path) -> None:
    assert shared_part(scenario) == shared_part(MOLECULE / "default/molecule.yml")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.parent.name)
def test_a_scenario_is_judged_and_ends_the_fleet_it_began(scenario: Path) -> None:
    sequence = yaml.safe_load(scenario.read_text())["scenario"]["test_sequence"]
    assert (sequence[0], *sequence[-2:]) == ("create", "verify", "destroy")
