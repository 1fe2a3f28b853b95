"""The command check: a program's argument list, and what of it may come from the inventory.

The inventory's values are data. So the program takes none, an interpreter's script or ``-c`` takes none, and a value
that a program would read as an option is refused when it is filled in (``fill``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema

from guard.config import fields, secret_fields
from guard.config.checks.base import CheckBase
from guard.config.substitute import check_template, has_template

_INTERPRETER = re.compile(r"(ba|da|a|z|k|fi)?sh|python[0-9.]*|perl|ruby|node|php", re.ASCII)
_TAKE_A_VALUE = frozenset({"-o", "+o", "-O", "-W", "-X"})  # options of interpreters that come before the code


def _command(value: object, info: ValidationInfo) -> tuple[str, ...]:
    if isinstance(value, str):
        raise ValueError("expected a list such as [/usr/lib/nagios/plugins/check_disk, -w, 10%]: there is no shell")
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(item, str) for item in value):
        raise ValueError("expected a list of texts (put numbers in quotes), the program first")
    argv = tuple(value)
    for item in argv:
        if "\x00" in item:
            raise ValueError("expected text without NUL characters")
        check_template(item)
    if not argv[0] or argv[0].startswith("-"):
        raise ValueError("expected the program as the list's first text")
    if has_template(argv[0]):
        raise ValueError("{{ … }} cannot stand in the program: nothing of the inventory decides what is run")
    _refuse_code(argv)
    here = fields.reading(info)
    if here is not None and "/" in argv[0]:
        argv = (os.path.normpath(here.folder / argv[0]), *argv[1:])
    return argv


def _refuse_code(argv: tuple[str, ...]) -> None:
    """``[sh, -c, "… {{ name }}"]`` would run what the inventory says: no variable up to the script or code."""
    rest = iter(argv)
    if not any(_INTERPRETER.fullmatch(item.rpartition("/")[2]) for item in rest):
        return
    for item in rest:
        if has_template(item):
            raise ValueError(
                "{{ … }} would be run as code here: hand it over as an argument, "
                'such as [sh, -c, \'my_check "$1"\', sh, "{{ name }}"]'
            )
        if item in _TAKE_A_VALUE:
            next(rest, None)
        elif not item.startswith(("-", "+")):
            return


Command = Annotated[
    tuple[str, ...],
    BeforeValidator(_command),
    WithJsonSchema({"type": "array", "minItems": 1, "items": {"type": "string"}}),
]


class CommandCheck(CheckBase):
    """A program on the control node whose exit code says how the service is, as monitoring plug-ins do."""

    type: Annotated[Literal["command"], Field(description="A program run on guard's own machine.")] = "command"
    command: Annotated[
        Command,
        Field(
            description="The program and its arguments, as a list; arguments may hold {{ variable }}. "
            "Exit code 0 healthy, 1 degraded, 2 unhealthy, 3 unknown.",
            repr=False,
        ),
    ]
    env: Annotated[
        secret_fields.Environment,
        Field(
            description="Environment variables beside PATH, HOME and LANG; "
            "a value may be {file: PATH} and hold {{ variable }}.",
            repr=False,
        ),
    ] = {}  # noqa: RUF012 - pydantic copies a default

    def templates(self) -> tuple[str, ...]:
        return (*self.command, *self.env.values())


def fill_value(text: str, render: Callable[[str], str]) -> str:
    """The value of an environment variable, which no program takes for an option."""
    filled = render(text)
    if "\x00" in filled:
        raise ValueError("a value has a NUL character in it")
    return filled


def fill(argument: str, render: Callable[[str], str]) -> str:
    """One argument with its variables replaced. ValueError when a value would be read as an option."""
    filled = fill_value(argument, render)
    if argument.startswith("{{") and filled.startswith("-"):
        raise ValueError(
            f"the value of {argument} begins with '-' and would be read as an option "
            f"(join it to the option it belongs to, such as --name={argument})"
        )
    return filled
