"""The pipeline files of ``integrations/``, executed step by step as their systems do, against real hosts."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from guard_command import GUARD, Guard
from junitparser import JUnitXml

from guard.demo.fleet import Fleet
from guard.demo.image import Behaviour

INTEGRATIONS = Path(__file__).parents[2] / "integrations"
SECRET = "planted-9f3a61"
INPUTS = {"services": "web", "for": "2s", "config": "guard.yml", "install": "false"}


def bash(guard: Guard, script: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """One step, in the folder that has guard.yml, with what CI systems set."""
    path = os.pathsep.join([str(GUARD.parent), os.environ["PATH"]])
    own = {**guard.environment, "PATH": path, "CI": "true", "GUARD_STATE_DIR": str(guard.state), "TOKEN": SECRET}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(
        command, cwd=guard.folder, env={**own, **environ}, capture_output=True, text=True, check=False, timeout=120
    )


def filled_in(text: object, values: Mapping[str, str]) -> str:
    """``${{ inputs.x }}``, ``${{ parameters.x }}`` and ``$[[ inputs.x ]]`` replaced, as the systems do."""
    pattern = r"\$(?:\{\{|\[\[)\s*(?:inputs|parameters)\.([a-z-]+)\s*(?:\}\}|\]\])"
    return re.sub(pattern, lambda found: values[found[1]], str(text))


def github(guard: Guard) -> tuple[int, str]:
    action = yaml.safe_load((INTEGRATIONS / "github" / "action.yml").read_text())
    values = {name: str(each.get("default", "")) for name, each in action["inputs"].items()} | INPUTS
    step = next(step for step in action["runs"]["steps"] if step.get("id") == "gate")
    environ = {name: filled_in(text, values) for name, text in step["env"].items()}
    files = {name: str(guard.folder / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    ran = bash(guard, step["run"], GITHUB_ACTIONS="true", RUNNER_TEMP=str(guard.folder), **environ, **files)
    assert (guard.folder / "GITHUB_STEP_SUMMARY").read_text().startswith("## guard gate: ")
    outputs = dict(line.split("=", 1) for line in (guard.folder / "GITHUB_OUTPUT").read_text().splitlines())
    assert set(outputs) == set(action["outputs"])
    assert (outputs["outcome"] == "healthy") == (ran.returncode == 0)
    assert ("::error title=guard gate" in ran.stderr) == (ran.returncode != 0)
    return ran.returncode, ran.stdout + ran.stderr


def gitlab(guard: Guard) -> tuple[int, str]:
    spec, jobs = yaml.safe_load_all((INTEGRATIONS / "gitlab" / "gate.yml").read_text())
    values = {name: str((each or {}).get("default", "")) for name, each in spec["spec"]["inputs"].items()} | INPUTS
    (job,) = jobs.values()
    environ = {name: filled_in(text, values) for name, text in job["variables"].items()}
    ran = bash(guard, filled_in("\n".join(job["script"]), values), **environ)
    assert ran.stdout.count("section_start:") == ran.stdout.count("section_end:") == 1
    told = (guard.folder / job["artifacts"]["reports"]["dotenv"]).read_text()
    assert re.fullmatch(r"GUARD_OUTCOME=\w+\nGUARD_ID=gt-[\w-]+\nGUARD_ROLLBACKS=[\w -]*\n", told)
    assert job["allow_failure"] == {"exit_codes": [6]}
    return ran.returncode, ran.stdout + ran.stderr


def azure(guard: Guard) -> tuple[int, str]:
    template = yaml.safe_load((INTEGRATIONS / "azure" / "gate.yml").read_text())
    values = {each["name"]: str(each.get("default", "")) for each in template["parameters"]} | INPUTS
    gate, _, summary = template["steps"]
    environ = {name: filled_in(text, values) for name, text in gate["env"].items()}
    ran = bash(guard, gate["bash"], **environ)
    assert "##vso[task.uploadsummary]" in bash(guard, summary["bash"]).stdout
    return ran.returncode, ran.stdout + ran.stderr


def jenkins(guard: Guard) -> tuple[int, str]:
    text = (INTEGRATIONS / "jenkins" / "Jenkinsfile").read_text()
    script = re.search(r"returnStatus: true, script: '([^']+)'", text)
    config = re.search(r"GUARD_CONFIG = '([^']+)'", text)
    assert script is not None and config is not None
    ran = bash(guard, script[1], GUARD_CONFIG=config[1], SERVICES="web", HEALTHY_FOR="2s")
    return ran.returncode, ran.stdout + ran.stderr


def shell(guard: Guard) -> tuple[int, str]:
    ran = bash(guard, f"{INTEGRATIONS}/shell/deploy.sh web 2s true")
    return ran.returncode, ran.stdout + ran.stderr


SYSTEMS = {"github": github, "gitlab": gitlab, "azure": azure, "jenkins": jenkins, "shell": shell}
OUTCOMES = {0: None, 3: "rolled_back", 4: "rollback_failed", 5: "not_rolled_back", 6: "inconclusive"}


def arranged(guard: Guard, fleet: Fleet, ending: str) -> int:
    """Bring the fleet to where a gate ends so; the exit code it must end with. A secret is in the configuration."""
    config = yaml.safe_load(guard.config.read_text())
    web: dict[str, Any] = config["services"][0]
    web["checks"][0]["headers"] = {"X-Token": "${TOKEN}"}
    if ending == "blind":
        web["checks"] = [{"type": "http", "url": "http://no-such-name.invalid:8080/"}]
    if ending == "no target":
        web["rollback"]["fallback"] = "none"
    guard.configure(config)
    guard.environment["TOKEN"] = SECRET
    if ending not in ("good", "blind", "no target"):
        assert guard("snapshot", "web").code == 0
    if ending == "held":
        assert guard("hold", "web", "--for", "1h", "--reason", "migration").code == 0
    if ending in ("bad", "held", "no target"):
        fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    return {"good": 0, "bad": 3, "held": 5, "no target": 5, "blind": 6}[ending]


@pytest.mark.parametrize(
    ("system", "ending"),
    [
        ("github", "good"),
        ("github", "bad"),
        ("github", "held"),
        ("gitlab", "bad"),
        ("gitlab", "blind"),
        ("azure", "no target"),
        ("jenkins", "bad"),
        ("shell", "good"),
    ],
)
def test_a_pipeline_ends_with_the_right_code_and_a_report_that_says_so(
    guard: Guard, fleet: Fleet, system: str, ending: str
) -> None:
    wanted = arranged(guard, fleet, ending)
    code, shown = SYSTEMS[system](guard)
    assert code == wanted, shown
    suite = next(iter(JUnitXml.fromfile(str(guard.folder / "guard-junit.xml"))))
    outcome = next(case for case in suite if case.name == "outcome")
    assert [each.type for each in outcome.result] == [OUTCOMES[wanted]] * bool(wanted)
    left = [shown, *(file.read_text() for file in guard.folder.glob("g*") if file.is_file() and file.suffix != ".yml")]
    assert SECRET not in "".join(left)


def test_the_shell_script_fails_when_the_deploy_failed_although_all_is_healthy(guard: Guard, fleet: Fleet) -> None:
    ran = bash(guard, f"{INTEGRATIONS}/shell/deploy.sh web 2s sh -c 'exit 9'")
    assert ran.returncode == 9, ran.stdout + ran.stderr
