"""A gate or a rollback as JUnit XML, which Jenkins, GitLab and others show beside tests.

Each target and each host of a rollback is a test case; one more, ``outcome``, says how it ended. What was not healthy
is a failure, what could not be measured an error, and what was not touched is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from guard.report.shape import (
    GOOD_OUTCOMES,
    Document,
    end_of,
    hosts_of,
    is_gate,
    rollbacks_of,
    services_of,
    targets_of,
    text_of,
)

_DONE = ("restored", "unchanged")


def junit(document: Document) -> str:
    """The XML text of a ``gate`` or ``rollback`` document."""
    suite = TestSuite(f"guard {'gate' if is_gate(document) else 'rollback'} {text_of(document, 'id')}")
    suite.timestamp = text_of(document, "started_at")
    suite.add_property("outcome", text_of(document, "outcome"))
    suite.add_testcase(_outcome(document))
    for case in (*_targets(document), *_rollbacks(document)):
        suite.add_testcase(case)
    suite.update_statistics()
    suite.time = _seconds(document)
    xml = JUnitXml("guard")
    xml.add_testsuite(suite)
    xml.update_statistics()
    text: bytes = xml.tostring()
    return text.decode()


def _outcome(document: Document) -> TestCase:
    case = TestCase("outcome", text_of(document, "id"), _seconds(document))
    outcome, reason = text_of(document, "outcome"), text_of(document, "reason")
    if outcome == "inconclusive":
        case.result = [Error(_clean(reason), outcome)]
    elif outcome not in GOOD_OUTCOMES:
        case.result = [Failure(_clean(reason), outcome)]
    return case


def _targets(document: Document) -> Iterator[TestCase]:
    for service in services_of(document):
        for target in targets_of(service):
            host = text_of(target, "host")
            case = TestCase(text_of(target, "check") + (f"@{host}" if host else ""), text_of(service, "name"))
            last = target.get("last")
            reason = _clean(text_of(last, "reason")) if isinstance(last, Mapping) else "never measured"
            match text_of(target, "state"):
                case "unhealthy":
                    case.result = [Failure(reason, "unhealthy")]
                case "unknown":
                    case.result = [Error(reason, "unknown")]
                case _:
                    pass
            yield case


def _rollbacks(document: Document) -> Iterator[TestCase]:
    for rollback in rollbacks_of(document):
        for host, result in hosts_of(rollback).items():
            down = result.get("downtime_s")
            seconds = float(down) if isinstance(down, int | float) else 0.0
            case = TestCase(f"rollback@{host}", text_of(rollback, "service"), seconds)
            state, error = text_of(result, "state"), _clean(text_of(result, "error"))
            if state in ("skipped", "planned"):
                case.result = [Skipped(error or state)]
            elif state not in _DONE:
                case.result = [Failure(error or state, state)]
            yield case


def _seconds(document: Document) -> float:
    begin, end = text_of(document, "started_at"), end_of(document)
    if not begin or not end:
        return 0.0
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def _clean(text: str) -> str:
    """XML has no characters for most control codes."""
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)
