"""What an HTTP answer says about a service: one sentence for the first difference from what is expected."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from guard.checks.site import release_names
from guard.checks.verdict import excerpt, unhealthy
from guard.config.checks.http_expect import HttpExpect, HttpVersion, compiled
from guard.model import Image, Measurement, State

BODY_LIMIT = 256 * 1024  # bytes read, and bytes a compressed body may grow to
_NOT_JSON = object()
_CHARSET = re.compile(r"""charset\s*=\s*["']?([^\s"';]+)""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, as it was sent. ``truncated``: its body went on beyond BODY_LIMIT."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""
    truncated: bool = False

    def header(self, name: str) -> str | None:
        """All values of that header, joined as RFC 9110 does (section 5.3); None when there is none."""
        wanted = name.lower().encode()
        found = [value for key, value in self.headers if key.lower() == wanted]
        return b", ".join(found).decode("utf-8", errors="replace") if found else None


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds above which a good answer is degraded, or unhealthy; None: no limit but the deadline."""

    degraded: float | None = None
    unhealthy: float | None = None


NO_LIMITS = Limits()


def judge(
    expect: HttpExpect, answer: Answer, latency: float, limits: Limits = NO_LIMITS, under_test: Image | None = None
) -> Measurement:
    """The status first, then headers, body, version, and the time last: a slow wrong answer is a wrong answer."""
    shown = f"status {answer.status}"
    evidence = {"status": str(answer.status)}
    text = None
    problem = None
    if not expect.accepts(answer.status):
        problem = f"{shown}, expected {_ranges(expect)}"
        text = _text(answer)
    else:
        problem = _against_headers(expect, answer)
        if expect.reads_body and problem is None:
            text = _text(answer)
            problem = _against_text(expect, answer, text, shown)
        if expect.version is not None and problem is None:
            problem = _against_version(expect.version, answer, text or "", under_test, evidence)
    if problem is None and limits.unhealthy is not None and latency > limits.unhealthy:
        problem = f"{shown} took {latency:.3g} s, more than {limits.unhealthy:g} s"
    if problem is not None:
        if text:
            evidence["body"] = excerpt(text)
        return unhealthy(problem, latency, evidence)
    if limits.degraded is not None and latency > limits.degraded:
        return Measurement(
            State.DEGRADED, latency, f"{shown} took {latency:.3g} s, more than {limits.degraded:g} s", evidence
        )
    return Measurement(State.HEALTHY, latency, shown, evidence)


def _encoding(answer: Answer) -> str:
    return (answer.header("content-encoding") or "identity").strip().lower()


def _text(answer: Answer) -> str | None:
    """None when the body is compressed in a way that cannot be undone here."""
    encoding = _encoding(answer)
    body = answer.body
    if encoding in ("gzip", "x-gzip", "deflate"):
        try:
            body = zlib.decompressobj(wbits=47).decompress(body, BODY_LIMIT)
        except zlib.error:
            return None
    elif encoding not in ("", "identity"):
        return None
    charset = _CHARSET.search(answer.header("content-type") or "")
    try:
        return body.decode(charset[1] if charset else "utf-8", errors="replace")
    except (LookupError, ValueError):  # a charset nobody knows, or one that is no charset ("hex")
        return body.decode(errors="replace")


def _against_headers(expect: HttpExpect, answer: Answer) -> str | None:
    for name, pattern in (expect.headers or {}).items():
        value = answer.header(name)
        if value is None:
            return f"the answer has no header {name}"
        if not re.search(pattern, value):
            return f"header {name} is {_shown(value)}, which does not match {pattern!r}"
    return None


def _against_text(expect: HttpExpect, answer: Answer, text: str | None, shown: str) -> str | None:
    if text is None:
        problem: str | None = f"{shown}, and the body's encoding {excerpt(_encoding(answer), 40)!r} cannot be read"
    else:
        problem = _against_json(expect, text) or _against_body(expect, text)
    if problem and answer.truncated:
        problem += f" (only the first {BODY_LIMIT >> 10} KiB were read)"
    return problem


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NOT_JSON


def _against_json(expect: HttpExpect, text: str) -> str | None:
    if expect.json is None and expect.jmespath is None:
        return None
    found = _json(text)
    if found is _NOT_JSON:
        return "the answer is not JSON"
    if expect.json is not None and (problem := _difference(expect.json, found, "json")):
        return problem
    for expression in expect.jmespath or ():
        result, problem = _search(expression, found)
        if problem or result is not True:
            return f"jmespath {expression!r} {problem or f'is {_shown(result)}, expected true'}"
    return None


def _search(expression: str, found: object) -> tuple[object, str]:
    """The result, and why there is none: a function that was given what it does not take."""
    from jmespath.exceptions import JMESPathError

    try:
        return compiled(expression).search(found), ""
    except (JMESPathError, RecursionError, TypeError, ValueError, OverflowError) as error:
        return None, f"cannot be evaluated: {excerpt(str(error) or type(error).__name__)}"


def _difference(expected: object, found: object, path: str) -> str | None:
    """What of ``expected`` is not in ``found``: mappings may have more keys, everything else must be equal."""
    if isinstance(expected, Mapping):
        if not isinstance(found, Mapping):
            return f"{path} is {_shown(found)}, expected an object"
        for key, value in expected.items():
            if key not in found:
                return f"{path}.{key} is missing"
            if problem := _difference(value, found[key], f"{path}.{key}"):
                return problem
        return None
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return next((p for i, (e, f) in pairs if (p := _difference(e, f, f"{path}[{i}]"))), None)
    # JSON's true is no number, whatever Python thinks.
    same = expected == found and isinstance(expected, bool) == isinstance(found, bool)
    return None if same else f"{path} is {_shown(found)}, expected {_shown(expected)}"


def _shown(value: object) -> str:
    return excerpt(json.dumps(value, ensure_ascii=False, default=str), 80)


def _against_body(expect: HttpExpect, text: str) -> str | None:
    if expect.body is None or re.search(expect.body, text):
        return None
    return f"the body does not match {expect.body!r}"


def _against_version(
    version: HttpVersion, answer: Answer, text: str, under_test: Image | None, evidence: dict[str, str]
) -> str | None:
    """Without a release under test the version is told, not judged."""
    found, missing = _version(version, answer, text)
    evidence["version"] = excerpt(found, 80) or "none"
    if under_test is None:
        evidence["version"] += " (not judged: no release is under test)"
        return None
    names = release_names(under_test)
    if not found:
        return f"{missing}, expected version {names[0]}"
    if found.removeprefix("v") in {name.removeprefix("v") for name in names}:
        return None
    return f"version {excerpt(found, 80)} answers, and {names[0]} is under test"


def _version(version: HttpVersion, answer: Answer, text: str) -> tuple[str, str]:
    """The version ("" for none), and what to say when there is none."""
    if version.header is not None:
        return (answer.header(version.header) or "").strip(), f"the answer has no header {version.header}"
    if version.json is None:
        pattern = version.body or ""
        match = re.search(pattern, text)
        found = match and (match[1] if match.re.groups else match[0])
        return (found or "").strip(), f"no version in the body matches {pattern!r}"
    document = _json(text)
    if document is _NOT_JSON:
        return "", "the answer is not JSON"
    value, _ = _search(version.json, document)
    named = isinstance(value, str | int | float) and not isinstance(value, bool)
    return str(value).strip() if named else "", f"the answer names no version at {version.json!r}"


def _ranges(expect: HttpExpect) -> str:
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in expect.status)
