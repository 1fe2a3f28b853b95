"""``guard doctor``: what stands in the way is said with its fix, and what does not is not called a problem."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from guard.errors import ConfigError, EngineDown
from guard.model import Host, HostMeans
from guard.service import doctor
from guard.service.doctor import Finding, Verdict
from tests.fakes import FakeEngine, FakeEngines


def asked(means: HostMeans) -> list[Finding]:
    engine = FakeEngine()
    engine.has = means
    return asyncio.run(doctor.hosts(FakeEngines({"web1": engine}), [Host("web1")]))


@pytest.mark.parametrize(
    ("means", "subject", "verdict", "text"),
    [
        (HostMeans(1 << 40, (3, 11), "28.5.2", 0.1), "engine", Verdict.OK, "engine 28.5.2, 1024 GiB free, Python 3.11"),
        (HostMeans(1 << 20, (3, 11), "28.5.2"), "disk", Verdict.PROBLEM, "1 MiB are free for the engine"),
        (HostMeans(1 << 40, (3, 7)), "Python", Verdict.PROBLEM, "Python 3.7"),
        (HostMeans(1 << 40, (0, 0)), "Python", Verdict.PROBLEM, "no Python"),
        (HostMeans(1 << 40, (3, 8), "", 61.0), "clock", Verdict.WARNING, "the clock is 61 s ahead of this machine's"),
        (HostMeans(1 << 40, (3, 8), "", -61.0), "clock", Verdict.WARNING, "the clock is 61 s behind this machine's"),
        (HostMeans(), "engine", Verdict.OK, "engine of unknown version"),
    ],
)
def test_what_a_host_has_is_judged(means: HostMeans, subject: str, verdict: Verdict, text: str) -> None:
    found = asked(means)[0]
    assert (found.subject, found.verdict, found.text, found.host) == (subject, verdict, text, "web1")
    assert bool(found.fix) == (verdict is not Verdict.OK)


def test_a_host_out_of_reach_is_a_problem_with_the_engines_own_hint_and_the_others_are_asked_all_the_same() -> None:
    away, there = FakeEngine(), FakeEngine()
    away.problem = EngineDown("nothing answers there", hint="start it")
    found = asyncio.run(doctor.hosts(FakeEngines({"web1": away, "web2": there}), [Host("web1"), Host("web2")]))
    assert found[0] == Finding("engine", Verdict.PROBLEM, "nothing answers there", "start it", "web1")
    assert [(one.host, one.verdict) for one in found[1:]] == [("web2", Verdict.OK)]


def test_a_state_folder_that_others_can_read_is_a_warning_with_the_command_that_mends_it(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o755)
    found = list(doctor.state_folder(folder))
    assert found[0].verdict is Verdict.WARNING
    assert found[0].fix == f"chmod 700 {folder}"


def test_a_state_folder_that_is_still_to_be_made_is_no_problem(tmp_path: Path) -> None:
    assert {one.verdict for one in doctor.state_folder(tmp_path / "not" / "yet")} == {Verdict.OK}
    assert not (tmp_path / "not").exists()


def test_a_state_folder_on_a_shared_file_system_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_file_system", lambda _: "nfs4")
    assert [one.verdict for one in doctor.state_folder(tmp_path)][-2] is Verdict.PROBLEM


def test_without_any_programs_on_path_ssh_is_missed_where_hosts_are_remote(tmp_path: Path) -> None:
    missed = {f.subject for f in doctor.programs({"PATH": str(tmp_path)}, remote=True) if f.verdict is Verdict.PROBLEM}
    assert missed == {"ssh"}
    assert "ssh" not in {f.subject for f in doctor.programs({"PATH": str(tmp_path)}, remote=False)}


def test_another_ansible_first_on_path_is_a_warning(tmp_path: Path) -> None:
    other = tmp_path / "ansible-playbook"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    found = next(f for f in doctor.programs({"PATH": str(tmp_path)}, remote=False) if f.subject == "PATH")
    assert found.verdict is Verdict.WARNING
    assert str(other) in found.text


def test_an_error_is_told_with_its_own_hint() -> None:
    def fails() -> str:
        raise ConfigError("no such store", hint="choose sqlite")

    assert doctor.tried("store", fails, "?") == Finding("store", Verdict.PROBLEM, "no such store", "choose sqlite")
