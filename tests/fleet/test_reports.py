"""Reports of real gates and rollbacks, read by a real parser of JUnit."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import yaml
from guard_command import Guard
from junitparser import JUnitXml

from guard.demo.fleet import Fleet
from guard.demo.image import Behaviour


def test_a_gate_that_rolls_back_says_so_in_every_report_and_to_github(
    guard: Guard, fleet: Fleet, tmp_path: Path
) -> None:
    config = yaml.safe_load(guard.config.read_text())
    config["services"][0]["checks"][0]["headers"] = {"X-Token": "${TOKEN}"}
    guard.configure(config)
    guard.environment["TOKEN"] = "planted-8c1d"
    assert guard("snapshot", "web").code == 0
    fleet.deploy(fleet.provide("1.1.0", Behaviour.ERROR))
    github = {"GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": f"{tmp_path}/out", "GITHUB_STEP_SUMMARY": f"{tmp_path}/sum"}
    asked = [f"--report={kind}={tmp_path}/report.{kind}" for kind in ("junit", "markdown", "html", "json", "dotenv")]
    ran = guard("gate", "web", "--for", "3s", *asked, env=github)
    assert ran.code == 3, ran
    suite = next(iter(JUnitXml.fromfile(f"{tmp_path}/report.junit")))
    failed = {case.name for case in suite if case.result}
    assert "outcome" in failed and any(name.startswith("http@") for name in failed)
    assert not [name for name in failed if name.startswith("rollback@")]
    assert "rolled back" in (tmp_path / "report.markdown").read_text()
    page = (tmp_path / "report.html").read_text()
    assert page.count("<rect") > 6 and "threshold crossed" in page and "mass_failure" in page
    assert not re.findall(r"(?:src|href)=|url\(|@import|<script", page), "it loads nothing"
    assert "outcome=rolled_back\n" in (tmp_path / "out").read_text()
    assert (tmp_path / "sum").read_text() == (tmp_path / "report.markdown").read_text()
    assert "::error title=guard gate" in ran.stderr
    gate_id = (tmp_path / "report.dotenv").read_text().partition("GUARD_ID=")[2].partition("\n")[0]
    kept = guard("history", gate_id, f"--bundle={tmp_path}/evidence.tar.gz")
    assert kept.code == 0, kept
    assert (tmp_path / "evidence.tar.gz").stat().st_mode & 0o777 == 0o600
    with tarfile.open(tmp_path / "evidence.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        texts = [file.read() for member in archive if (file := archive.extractfile(member)) is not None]
    assert {"report.html", "report.json", "explain.txt", "explain.json", "configuration.json"} <= names
    assert len([name for name in names if name.endswith("/container.log")]) == len(fleet.hosts)
    assert any(b"container@1" in text or b"digest" in text for text in texts)
    assert not [text for text in texts if b"planted-8c1d" in text]
    again = guard("history", gate_id, f"--report=junit={tmp_path}/again.junit")
    assert again.code == 0, again
    assert (tmp_path / "again.junit").read_bytes() == (tmp_path / "report.junit").read_bytes()


def test_a_wrong_report_is_refused_before_anything_is_begun(guard: Guard, fleet: Fleet) -> None:
    ran = guard("rollback", "web", "--report", "pdf=x")
    assert ran.code == 2, ran
    assert "junit" in ran.stderr
    assert not guard.state.exists()
