"""Reports for other programs: the same truth as exit code and JSON, in JUnit, Markdown, dotenv and GitHub's own files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from guard.errors import StateError, UsageError
from guard.report.ci import SUMMARY_BYTES, annotation, tell_github
from guard.report.files import Kind, Report, content, parse, write
from guard.report.junit import junit
from guard.report.markdown import markdown


def target(check: str, state: str, reason: str = "", host: str | None = "web1") -> dict[str, Any]:
    return {"check": check, "host": host, "state": state, "consecutive_failures": 3, "last": {"reason": reason}}


def rollback(outcome: str = "restored", **states: str) -> dict[str, Any]:
    hosts = {
        host: {"state": state, "from": {"image": "web:2"}, "to": {"image": "web:1"}, "downtime_s": 0.4, "error": None}
        for host, state in (states or {"web1": "restored"}).items()
    }
    times = {"started_at": "2026-11-24T10:00:05.000Z", "ended_at": "2026-11-24T10:00:08.500Z"}
    return {"id": "rb-1", "service": "web", "outcome": outcome, "reason": "3 failures", "hosts": hosts, **times}


def gate(outcome: str, *targets: dict[str, Any], rollbacks: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    times = {"started_at": "2026-11-24T10:00:00.000Z", "ended_at": "2026-11-24T10:00:10.000Z"}
    service = {"name": "web", "state": "unhealthy", "targets": list(targets)}
    told = {"id": "gt-1", "outcome": outcome, "reason": "because", "services": [service]}
    return {**told, **times, "rollbacks": list(rollbacks)}


def cases(document: dict[str, Any]) -> dict[str, str]:
    """Name of each test case → how it ended, as a parser of JUnit sees it."""
    found = {}
    for suite in JUnitXml.fromstring(junit(document).encode()):
        assert isinstance(suite, TestSuite)
        for case in suite:
            assert isinstance(case, TestCase)
            kinds = {Failure: "failure", Error: "error", Skipped: "skipped"}
            found[f"{case.classname}:{case.name}"] = kinds[type(case.result[0])] if case.result else "passed"
    return found


@pytest.mark.parametrize(
    ("outcome", "ended"),
    [
        ("healthy", "passed"),
        ("rolled_back", "failure"),
        ("rollback_failed", "failure"),
        ("not_rolled_back", "failure"),
        ("inconclusive", "error"),
    ],
)
def test_only_a_healthy_gate_passes_in_junit(outcome: str, ended: str) -> None:
    assert cases(gate(outcome))["gt-1:outcome"] == ended


def test_each_target_and_each_host_of_a_rollback_is_a_case_of_its_own() -> None:
    document = gate(
        "rollback_failed",
        target("http", "unhealthy", "status 503"),
        target("docker", "healthy"),
        target("disk", "degraded"),
        target("db", "unknown", "no secret", host=None),
        rollbacks=(rollback("partial", web1="restored", web2="unreachable", web3="skipped", web4="unchanged"),),
    )
    assert cases(document) == {
        "gt-1:outcome": "failure",
        "web:http@web1": "failure",
        "web:docker@web1": "passed",
        "web:disk@web1": "passed",
        "web:db": "error",
        "web:rollback@web1": "passed",
        "web:rollback@web2": "failure",
        "web:rollback@web3": "skipped",
        "web:rollback@web4": "passed",
    }


def test_a_rollback_by_hand_is_a_suite_too_and_control_codes_do_not_break_it() -> None:
    document = {**rollback("failed", web1="failed"), "reason": "bell \x07 and <&> \x1b[31m"}
    assert cases(document) == {"rb-1:outcome": "failure", "web:rollback@web1": "failure"}


def test_markdown_shows_hostile_text_as_text() -> None:
    text = markdown(gate("rolled_back", target("http", "unhealthy", "<img src=x> | [a](http://b) `c`\n# d")))
    assert "<img" not in text and "\n# d" not in text
    assert r"&lt;img src=x&gt; \| \[a\](http://b) \`c\` \# d" in text


def test_markdown_tells_hosts_and_images() -> None:
    text = markdown(gate("rolled_back", rollbacks=(rollback(),)))
    assert "| web1 | restored | web:2 | web:1 | 0.4 s |" in text
    assert "The previous one is back on every host" in text


def test_dotenv_holds_ids_and_closed_words_only() -> None:
    text = content(Kind.DOTENV, gate("rolled_back", rollbacks=(rollback(), rollback())), dict)
    assert text == "GUARD_OUTCOME=rolled_back\nGUARD_ID=gt-1\nGUARD_ROLLBACKS=rb-1 rb-1\n"


def test_reports_are_written_whole_and_the_old_one_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    file.write_text("old")
    write([Report(Kind.JSON, file)], gate("healthy"), dict)
    assert json.loads(file.read_text())["outcome"] == "healthy"
    assert [each.name for each in tmp_path.iterdir()] == ["out.json"]


def test_a_report_that_cannot_be_written_is_named_and_the_others_are_written(tmp_path: Path) -> None:
    gone = tmp_path / "gone" / "a.json"
    with pytest.raises(StateError, match=r"a\.json could not be written"):
        write([Report(Kind.JSON, gone), Report(Kind.JSON, tmp_path / "b.json")], gate("healthy"), dict)
    assert (tmp_path / "b.json").exists()


@pytest.mark.parametrize("text", ["junit", "junit=", "=a", "pdf=a.pdf", "json=/no/such/folder/a.json", "json=."])
def test_a_report_that_could_never_be_written_is_refused_beforehand(text: str) -> None:
    with pytest.raises(UsageError, match="--report"):
        parse([text])


def test_github_gets_summary_outputs_and_one_annotation(tmp_path: Path) -> None:
    environ = {"GITHUB_ACTIONS": "true"}
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
        environ[name] = str(tmp_path / name)
    document = {**gate("rolled_back", rollbacks=(rollback(),)), "reason": "50% down\n::set-output name=x::y"}
    assert tell_github(document, environ) == [
        "::error title=guard gate%3A rolled back::50%25 down%0A::set-output name=x::y"
    ]
    assert (tmp_path / "GITHUB_OUTPUT").read_text() == "outcome=rolled_back\nid=gt-1\nrollbacks=rb-1\n"
    assert (tmp_path / "GITHUB_STEP_SUMMARY").read_text() == markdown(document)


def test_a_huge_summary_is_cut_to_what_github_takes(tmp_path: Path) -> None:
    many = [target("http", "unhealthy", "x" * 500, host=f"web{n}") for n in range(3000)]
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(tmp_path / "s")}
    tell_github(gate("rolled_back", *many), environ)
    assert (tmp_path / "s").stat().st_size <= SUMMARY_BYTES
    assert "cut off" in (tmp_path / "s").read_text()[-60:]


def test_a_good_end_has_no_annotation_and_outside_github_nothing_is_written(tmp_path: Path) -> None:
    assert annotation(gate("healthy")) == []
    assert tell_github(gate("rolled_back"), {"GITHUB_STEP_SUMMARY": str(tmp_path / "s")}) == []
    assert not (tmp_path / "s").exists()
