"""What an answer of Prometheus says about a service."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guard.checks.http_answer import Answer
from guard.checks.prometheus import Limits, judge
from guard.model import State

LIMITS = Limits(1.0, 10.0)


def vector(*values: str) -> dict[str, Any]:
    result = [{"metric": {"__name__": "x", "i": f"web{n}"}, "value": [1.5, value]} for n, value in enumerate(values, 1)]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def data(kind: str, result: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


ANSWERS: dict[str, tuple[Any, State, str]] = {
    "within": (vector("5"), State.HEALTHY, "5, expected at least 1 and at most 10"),
    "the limits belong to it": (vector("1", "10"), State.HEALTHY, "2 samples from 1 to 10"),
    "above": (vector("10.5"), State.UNHEALTHY, '10.5 for x{i="web1"}, expected at least 1 and at most 10'),
    "below": (vector("0.5"), State.UNHEALTHY, '0.5 for x{i="web1"}'),
    "the worst is told": (vector("5", "11", "-30", "12"), State.UNHEALTHY, '-30 for x{i="web3"}, expected'),
    "and how many": (vector("5", "11", "-30", "12"), State.UNHEALTHY, "(3 of 4 samples are outside)"),
    "infinite": (vector("+Inf"), State.UNHEALTHY, "inf for x"),
    "no number": (vector("NaN"), State.UNKNOWN, 'NaN, which is no number for x{i="web1"}'),
    "one is no number": (vector("5", "NaN"), State.UNKNOWN, "NaN"),
    "one is no number, and one is bad": (vector("50", "NaN"), State.UNHEALTHY, "50 for x"),
    "no data": (vector(), State.UNKNOWN, "the query has no data"),
    "a scalar": (data("scalar", [1.5, "2"]), State.HEALTHY, "2, expected"),
    "a bad scalar": (data("scalar", [1.5, "20"]), State.UNHEALTHY, "20, expected"),
    "a broken scalar": (data("scalar", [1.5]), State.UNKNOWN, "cannot be read"),
    "a range": (data("matrix", []), State.UNKNOWN, "gives a matrix, expected a vector or a scalar"),
    "a string": (data("string", [1.5, "5"]), State.UNKNOWN, "gives a string"),
    "a histogram": (data("vector", [{"metric": {}, "histogram": [1, {}]}]), State.UNKNOWN, "such as a histogram"),
    "an error": (
        {"status": "error", "error": "parse error: unexpected end"},
        State.UNKNOWN,
        "parse error: unexpected end",
    ),
    "other JSON": ({"status": "up"}, State.UNKNOWN, "no answer of a Prometheus server: status 200"),
    "a list": ([], State.UNKNOWN, "no answer of a Prometheus server"),
    "nothing inside": ({"status": "success"}, State.UNKNOWN, "gives a None"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_only_a_sample_beyond_a_limit_is_the_services_fault(name: str) -> None:
    document, state, reason = ANSWERS[name]
    measured = judge(LIMITS, Answer(200, (), json.dumps(document).encode()), 0.1)
    assert measured.state is state, measured
    assert reason in measured.reason


@pytest.mark.parametrize("body", [b"<html>login</html>", b"", b"[" * 100_000, b"\xff"])
def test_what_is_no_answer_of_prometheus_is_unknown(body: bytes) -> None:
    measured = judge(LIMITS, Answer(302, (), body), 0.1)
    assert measured.state is State.UNKNOWN
    assert "status 302" in measured.reason


def test_half_an_answer_is_unknown() -> None:
    assert judge(LIMITS, Answer(200, (), json.dumps(vector("99")).encode(), True), 0.1).state is State.UNKNOWN


@pytest.mark.parametrize(("limits", "shown"), [(Limits(low=1), "at least 1"), (Limits(high=0.25), "at most 0.25")])
def test_one_limit_is_enough(limits: Limits, shown: str) -> None:
    assert str(limits) == shown
    assert judge(limits, Answer(200, (), json.dumps(vector("0.5")).encode()), 0.1).state is State.UNHEALTHY
