"""What CI systems are told where they look for it, beside exit code and output: nothing has to be configured.

GitHub Actions: a step summary, the step's outputs ``outcome``, ``id`` and ``rollbacks``, and an annotation when it did
not end well. Its limits: 1 MiB of summary for a step, 10 annotations of a kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from guard.report.files import dotenv
from guard.report.markdown import markdown
from guard.report.shape import GOOD_OUTCOMES, Document, is_gate, text_of

SUMMARY_BYTES = 1 << 20
_MESSAGE = 4000


def tell_github(document: Document, environ: Mapping[str, str]) -> list[str]:
    """Write summary and outputs where GitHub asks for them; the annotation's lines, for stderr. OSError when it can't.

    Outside GitHub Actions nothing happens.
    """
    if environ.get("GITHUB_ACTIONS") != "true":
        return []
    if summary := environ.get("GITHUB_STEP_SUMMARY"):
        _append(summary, _cut(markdown(document)))
    if outputs := environ.get("GITHUB_OUTPUT"):
        pairs = (line.removeprefix("GUARD_").partition("=") for line in dotenv(document).splitlines())
        _append(outputs, "".join(f"{name.lower()}={value}\n" for name, _, value in pairs))
    return annotation(document)


def annotation(document: Document) -> list[str]:
    outcome = text_of(document, "outcome")
    if outcome in GOOD_OUTCOMES:
        return []
    title = f"guard {'gate' if is_gate(document) else 'rollback'}: {outcome.replace('_', ' ')}"
    return [f"::error title={_property(title)}::{_value(text_of(document, 'reason')[:_MESSAGE])}"]


def _value(text: str) -> str:
    """As the workflow commands of GitHub want it; a reason comes from outside and must not begin one of its own."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _value(text).replace(":", "%3A").replace(",", "%2C")


def _cut(text: str) -> str:
    data = text.encode()
    if len(data) <= SUMMARY_BYTES:
        return text
    return data[: SUMMARY_BYTES - 40].decode(errors="ignore") + "\n\n(the rest is cut off)\n"


def _append(file: str, text: str) -> None:
    with Path(file).open("a", encoding="utf-8") as out:
        out.write(text)
