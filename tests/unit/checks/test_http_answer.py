"""What an http check says about answers, without a socket: one table per expectation."""

from __future__ import annotations

import json

import pytest

from guard.checks.http_answer import Answer, Limits, judge
from guard.config.checks.http import HttpExpect, HttpVersion
from guard.model import Image, State

IMAGE = Image("registry.example:5000/shop/web:1.4.2", "sha256:" + "ab12" * 16)


def answer(body: object = "", *headers: tuple[str, str], status: int = 200) -> Answer:
    text = body if isinstance(body, str) else json.dumps(body)
    return Answer(status, tuple((name.encode(), value.encode()) for name, value in headers), text.encode())


HEADERS = [
    ({"Content-Type": "^application/json"}, [("content-type", "application/json; charset=utf-8")], ""),
    ({"content-type": "xml"}, [("Content-Type", "application/json")], 'header content-type is "application/json"'),
    ({"X-Ready": "yes"}, [], "the answer has no header X-Ready"),
    ({"Via": "^a, b$"}, [("Via", "a"), ("Via", "b")], ""),
]


@pytest.mark.parametrize(("wanted", "sent", "problem"), HEADERS)
def test_a_header_must_be_there_and_match(wanted: dict[str, str], sent: list[tuple[str, str]], problem: str) -> None:
    measured = judge(HttpExpect(headers=wanted), answer("", *sent), 0.1)
    assert measured.state is (State.UNHEALTHY if problem else State.HEALTHY)
    assert problem in measured.reason


JMESPATH = [
    ("status == 'ok'", {"status": "ok"}, ""),
    ("status == 'ok'", {"status": "no"}, "is false, expected true"),
    ("status", {"status": "ok"}, 'is "ok", expected true'),
    ("status == 'ok'", {}, "is false, expected true"),
    ("length(jobs) < `3`", {"jobs": [1, 2]}, ""),
    ("length(jobs) < `3`", {}, "cannot be evaluated"),
    ("!(replicas[?lag > `30`])", {"replicas": [{"lag": 1}]}, ""),
    ("!(replicas[?lag > `30`])", {"replicas": [{"lag": 31}]}, "is false"),
    ("a == `1`", "<html>", "the answer is not JSON"),
]


@pytest.mark.parametrize(("expression", "body", "problem"), JMESPATH)
def test_a_jmespath_expression_must_be_exactly_true(expression: str, body: object, problem: str) -> None:
    measured = judge(HttpExpect(jmespath=("`true`", expression)), answer(body), 0.1)
    assert measured.state is (State.UNHEALTHY if problem else State.HEALTHY), measured
    assert problem in measured.reason


VERSIONS = [
    (HttpVersion(json="build.version"), answer({"build": {"version": "1.4.2"}}), ""),
    (HttpVersion(json="build.version"), answer({"build": {"version": "v1.4.2"}}), ""),
    (HttpVersion(json="image"), answer({"image": "ab12" * 3}), ""),
    (HttpVersion(json="v"), answer({"v": "1.4.1"}), "version 1.4.1 answers, and 1.4.2 is under test"),
    (HttpVersion(json="v"), answer({"v": "1.4.20"}), "version 1.4.20 answers"),
    (HttpVersion(json="v"), answer({"v": True}), "names no version at 'v', expected version 1.4.2"),
    (HttpVersion(json="v"), answer({}), "names no version at 'v', expected version 1.4.2"),
    (HttpVersion(json="v"), answer("<html>"), "the answer is not JSON, expected version 1.4.2"),
    (HttpVersion(header="X-Version"), answer("", ("x-version", "1.4.2")), ""),
    (HttpVersion(header="X-Version"), answer(""), "no header X-Version, expected version 1.4.2"),
    (HttpVersion(body=r"version: (\S+)"), answer("shop\nversion: 1.4.2\n"), ""),
    (HttpVersion(body=r"\d+\.\d+\.\d+"), answer("shop 1.4.2 ok"), ""),
    (HttpVersion(body=r"(\d)?x"), answer("x"), "no version in the body matches"),
]


@pytest.mark.parametrize(("where", "sent", "problem"), VERSIONS)
def test_an_answer_must_name_the_release_under_test(where: HttpVersion, sent: Answer, problem: str) -> None:
    measured = judge(HttpExpect(version=where), sent, 0.1, under_test=IMAGE)
    assert measured.state is (State.UNHEALTHY if problem else State.HEALTHY), measured
    assert problem in measured.reason


def test_a_v_in_front_of_the_tag_does_not_matter_either() -> None:
    tagged = Image("web:v1.4.2", "sha256:1")
    where = HttpExpect(version=HttpVersion(json="v"))
    assert judge(where, answer({"v": "1.4.2"}), 0.1, under_test=tagged).state is State.HEALTHY


def test_without_a_release_under_test_the_version_is_told_and_not_judged() -> None:
    measured = judge(HttpExpect(version=HttpVersion(json="v")), answer({"v": "1.4.1"}), 0.1)
    assert measured.state is State.HEALTHY
    assert measured.evidence["version"] == "1.4.1 (not judged: no release is under test)"


LIMITS = [
    (0.1, State.HEALTHY, "status 200"),
    (0.3, State.DEGRADED, "status 200 took 0.3 s, more than 0.2 s"),
    (1.5, State.UNHEALTHY, "status 200 took 1.5 s, more than 1 s"),
]


@pytest.mark.parametrize(("latency", "state", "reason"), LIMITS)
def test_a_good_answer_that_is_slow_is_degraded_and_then_unhealthy(latency: float, state: State, reason: str) -> None:
    measured = judge(HttpExpect(), answer(), latency, Limits(0.2, 1.0))
    assert (measured.state, measured.reason, measured.latency_s) == (state, reason, latency)


def test_a_wrong_answer_is_not_excused_by_being_slow() -> None:
    assert judge(HttpExpect(), answer(status=500), 9.0, Limits(0.2, 1.0)).reason == "status 500, expected 200-299"
