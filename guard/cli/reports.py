"""``--report KIND=FILE``, and what CI systems are told: shared by the commands that end in an outcome."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from guard.report.files import Report
    from guard.report.shape import Document
    from guard.service.session import Session

F = TypeVar("F", bound=Callable[..., Any])


def _parsed(_context: click.Context, _parameter: click.Parameter, texts: Sequence[str]) -> tuple[Report, ...]:
    """Wrong ones are refused before anything is begun."""
    if not texts:
        return ()
    from guard.report.files import parse

    return parse(texts)


def report_option(function: F) -> F:
    """The option, as the command's argument ``reports``."""
    return click.option(
        "--report",
        "reports",
        multiple=True,
        metavar="KIND=FILE",
        callback=_parsed,
        help="Write a report: junit, markdown, html, json or dotenv. May be repeated.",
    )(function)


def explained(session: Session, id_: str) -> Callable[[], Document]:
    """What ``guard explain`` says, when it is asked for."""

    def told() -> Document:
        from guard.report.explain import explain_document
        from guard.service.explain import explain

        return explain_document(explain(session.store, session.config, id_))

    return told


def hand_over(session: Session, reports: Sequence[Report], document: Mapping[str, object], code: int) -> int:
    """Write the reports and tell the CI system. The exit code: a report that could not be written never hides it."""
    from guard.errors import StateError
    from guard.report.ci import tell_github

    problems = []
    try:
        if reports:
            from guard.report.files import write

            write(reports, document, explained(session, str(document["id"])))
    except StateError as error:
        problems.append(error.message)
    try:
        for line in tell_github(document, os.environ):
            click.echo(line, err=True)
    except OSError as error:
        problems.append(f"GitHub could not be told: {error.strerror}")
    for problem in problems:
        click.echo(f"Error: {problem}", err=True)
    return code or (1 if problems else 0)
