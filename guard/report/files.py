"""``--report KIND=FILE``: what a command ended with, in a file for another program."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from guard.errors import StateError, UsageError
from guard.report.shape import Document, rollbacks_of, text_of


class Kind(StrEnum):
    JUNIT = "junit"
    MARKDOWN = "markdown"
    JSON = "json"
    HTML = "html"  # one page with the timeline
    DOTENV = "dotenv"  # variables for the next job: GitLab's artifacts:reports:dotenv


@dataclass(frozen=True, slots=True)
class Report:
    kind: Kind
    file: Path


def parse(texts: Sequence[str]) -> tuple[Report, ...]:
    """Reports as they were asked for. UsageError: an unknown kind, or a folder that is not there."""
    return tuple(_one(text) for text in texts)


def _one(text: str) -> Report:
    kind, equals, file = text.partition("=")
    if not equals or not file or kind not in list(Kind):
        raise UsageError(f"--report: expected KIND=FILE, got {text!r}", hint=f"KIND is one of {', '.join(Kind)}")
    path = Path(file)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"--report: {file} cannot be written", hint="name a file in a folder that is there")
    return Report(Kind(kind), path)


def write(reports: Sequence[Report], document: Document, explained: Callable[[], Document]) -> None:
    """Write them all, each whole or not at all. StateError names those that could not be written.

    ``explained``: the document of ``guard explain`` about the same, asked for only when a report shows it.
    """
    problems = []
    for report in reports:
        try:
            _put(report.file, content(report.kind, document, explained))
        except OSError as error:
            problems.append(f"the report {report.file} could not be written: {error.strerror}")
    if problems:
        raise StateError("\n".join(problems))


def content(kind: Kind, document: Document, explained: Callable[[], Document]) -> str:
    match kind:
        case Kind.JUNIT:
            from guard.report.junit import junit

            return junit(document)
        case Kind.MARKDOWN:
            from guard.report.markdown import markdown

            return markdown(document)
        case Kind.JSON:
            return json.dumps(document, indent=2) + "\n"
        case Kind.HTML:
            from guard.report.html import html

            return html(document, explained())
        case Kind.DOTENV:
            return dotenv(document)


def dotenv(document: Document) -> str:
    """``GUARD_OUTCOME`` and what belongs to it. Only IDs and closed words: such a file has no quoting."""
    rollbacks = " ".join(text_of(rollback, "id") for rollback in rollbacks_of(document))
    values = {"OUTCOME": text_of(document, "outcome"), "ID": text_of(document, "id"), "ROLLBACKS": rollbacks}
    return "".join(f"GUARD_{name}={value}\n" for name, value in values.items())


def _put(file: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=file.absolute().parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)  # as any other program would make it
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
