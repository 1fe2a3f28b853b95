"""``--report KIND=FILE``, and what CI systems are told: shared by the commands that end in an outcome."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from guard.report.files import Report

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
        help="Write a report: junit, markdown, json or dotenv. May be repeated.",
    )(function)


def hand_over(reports: Sequence[Report], document: Mapping[str, object], code: int) -> int:
    """Write the reports and tell the CI system. The exit code: a report that could not be written never hides it."""
    from guard.errors import StateError

    problems = []
    try:
        if reports:
            from guard.report.files import write

            write(reports, document)
    except StateError as error:
        problems.append(error.message)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        from guard.report.ci import tell_github

        try:
            for line in tell_github(document, os.environ):
                click.echo(line, err=True)
        except OSError as error:
            problems.append(f"GitHub could not be told: {error.strerror}")
    for problem in problems:
        click.echo(f"Error: {problem}", err=True)
    return code or (1 if problems else 0)
