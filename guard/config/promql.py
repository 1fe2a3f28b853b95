"""``{{ variable }}`` in a PromQL query: a value is the content of a string there, and never a part of the query.

A placeholder must stand inside ``"…"`` or ``'…'``; the value's quotes, backslashes and line ends are escaped as the
quoted strings of PromQL want it (they follow Go's; a string in backticks has no escapes, so no value fits in).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from guard.config.substitute import check_template

_TOKEN = re.compile(
    r"""(?P<place>\{\{.*?\}\})|(?P<escaped>\\.)|(?P<quote>["'`])|(?P<comment>\#)|(?P<end>\n)|.""", re.DOTALL
)
_ESCAPES = {"\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


def check_query(query: str) -> None:
    """ValueError when a placeholder stands where its value could not be kept a text."""
    check_template(query)
    fill(query, lambda place: place)


def fill(query: str, value_of: Callable[[str], str]) -> str:
    """``query`` with ``value_of`` each placeholder in it, escaped for the string it stands in."""
    parts = []
    inside = ""  # the quote that is open, or # in a comment
    for token in _TOKEN.finditer(query):
        text = token.group()
        if token["place"]:
            if inside not in ('"', "'"):
                raise ValueError(
                    '{{ … }} must stand inside a string of the query, as in up{instance="{{ ansible_host }}:9100"}: '
                    "its value is inserted as text, never as a part of the query"
                )
            text = _escaped(value_of(text), inside)
        elif token["quote"] and inside in ("", text):
            inside = "" if inside else text
        elif token["escaped"] and (inside, text[1]) in (("`", "`"), ("#", "\n")):
            inside = ""  # a backslash is an ordinary character there
        elif (token["comment"] and not inside) or (token["end"] and inside == "#"):
            inside = "" if inside else "#"
        parts.append(text)
    return "".join(parts)


def _escaped(value: str, quote: str) -> str:
    escapes = {**_ESCAPES, quote: "\\" + quote}
    return "".join(escapes.get(char, char) for char in value)
