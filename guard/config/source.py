"""A YAML (or JSON) file as plain values, with the line of every key and value, and ``${NAME}`` replaced.

Stricter than YAML 1.1: a key given twice, a tag, a key that is not text and a text that only YAML 1.1 takes for a
number (``1:30``, ``1_000``, ``010``) or a date are not turned into something else behind the user's back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from guard.config.problems import KeyPath, Problem

_MOST_VALUES = 100_000  # aliases can multiply: a 1 kB file may stand for a billion values
_REFERENCE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{", re.ASCII)
_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq", "merge")}


@dataclass(slots=True)
class Source:
    """What a file holds. ``root`` is made of dict, list, str, int, float, bool and None."""

    root: object = None
    keys: dict[KeyPath, int] = field(default_factory=dict)  # line of the key, from 1
    values: dict[KeyPath, int] = field(default_factory=dict)  # line where the value begins
    substituted: dict[KeyPath, str] = field(default_factory=dict)  # the names that went into a value, for messages
    secrets: set[str] = field(default_factory=set)  # whole texts in which something was substituted
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: KeyPath, *, of_key: bool = False) -> int:
        """The nearest line that is known for ``path``: its own, or that of what it would be in."""
        first, second = (self.keys, self.values) if of_key else (self.values, self.keys)
        for end in range(len(path), -1, -1):
            line = first.get(path[:end]) or second.get(path[:end])
            if line:
                return line
        return 1


class _Loader(yaml.SafeLoader):
    """Only the implicit kinds of JSON, and YAML 1.1's words for true and false."""


_Loader.yaml_implicit_resolvers = {}


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:yes|no|true|false|on|off)$", re.I), list("yYnNtTfFoO")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]{0,17})$", re.A), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3})?$", re.A),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])


def read(text: str, environ: Mapping[str, str]) -> Source:
    """Never raises: whatever is wrong with ``text`` is in ``problems``."""
    source = Source()
    node = _compose(text, source)
    if node is not None:
        _Reader(source, environ).fill(node)
    return source


def _compose(text: str, source: Source) -> yaml.Node | None:
    if text.lstrip()[:1] == "{" and _is_json(text):
        text = text.replace(
            "\t", " "
        )  # JSON may be indented by tabs, YAML may not; inside JSON's strings none is legal
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        source.problems.append(Problem(mark.line + 1 if mark else 1, (), f"not valid YAML: {said}"))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        source.problems.append(Problem(line, (), f"not valid YAML: the character {error.character!r} is not allowed"))
    except RecursionError:
        source.problems.append(Problem(1, (), "not a configuration: nested too deeply"))
    return None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


class _Reader:
    def __init__(self, source: Source, environ: Mapping[str, str]) -> None:
        self._source = source
        self._environ = environ
        self._count = 0
        self._within: list[yaml.Node] = []
        self._legacy = False

    def fill(self, node: yaml.Node) -> None:
        self._legacy = is_legacy({key.value for key, _ in node.value}) if isinstance(node, yaml.MappingNode) else False
        try:
            self._source.root = self._value(node, ())
        except _TooMuch as error:
            self._source.problems.append(Problem(error.line, (), str(error)))

    def _value(self, node: yaml.Node, path: KeyPath) -> object:
        line = node.start_mark.line + 1
        self._count += 1
        if self._count > _MOST_VALUES:
            raise _TooMuch("not a configuration: more than 100000 values", line)
        if any(node is outer for outer in self._within):
            raise _TooMuch("not a configuration: an alias that contains itself", line)
        self._source.values.setdefault(path, line)
        if node.tag not in _TAGS:
            self._say(line, path, f"the tag {node.tag} is not supported here{_about_vault(node.tag)}")
            return None
        self._within.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._scalar(node.tag, node.value, line, path)
        finally:
            self._within.pop()

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        found: dict[str, object] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == "tag:yaml.org,2002:merge":
                merged.append(value)
            elif not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                shown = f" {key.value}" if isinstance(key, yaml.ScalarNode) else ""
                self._say(line, path, f"the key{shown} is not text: put it in quotes")
            elif key.value in found:
                first = self._source.keys[*path, key.value]
                self._say(line, (*path, key.value), f"given twice, first in line {first}")
            else:
                self._source.keys[*path, key.value] = line
                found[key.value] = self._value(value, (*path, key.value))
        for value in merged:
            self._merge(value, path, found)
        return found

    def _merge(self, node: yaml.Node, path: KeyPath, found: dict[str, object]) -> None:
        """``<<: *anchor``: keys that are not there yet. A list of anchors: the first one wins."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for item in nodes:
            if not isinstance(item, yaml.MappingNode):
                self._say(node.start_mark.line + 1, path, "<< takes a mapping or a list of mappings")
                continue
            for key, value in self._mapping(item, (*path, "<<")).items():
                if key not in found:
                    found[key] = value
                    self._adopt((*path, "<<", key), (*path, key))

    def _adopt(self, old: KeyPath, new: KeyPath) -> None:
        """What was noted about a merged key is true of the key that it became."""
        size = len(old)
        for table in (self._source.keys, self._source.values):
            for known in [known for known in table if known[:size] == old]:
                table[new + known[size:]] = table.pop(known)
        for known in [known for known in self._source.substituted if known[:size] == old]:
            self._source.substituted[new + known[size:]] = self._source.substituted.pop(known)

    def _scalar(self, tag: str, text: str, line: int, path: KeyPath) -> object:
        match tag.rpartition(":")[2]:
            case "null":
                return None
            case "bool":
                return text.lower() in {"yes", "true", "on"}
            case "int" if re.fullmatch(r"[-+]?[0-9]{1,18}", text, re.A):
                return int(text)
            case "float" | "int" if re.fullmatch(r"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?", text, re.A):
                return float(text)
        return self._substituted(text, line, path)

    def _substituted(self, text: str, line: int, path: KeyPath) -> str:
        if "$" not in text:
            return text
        names: list[str] = []

        def replace(match: re.Match[str]) -> str:
            if match.group() == "$$":
                return "$$" if self._legacy else "$"  # the older form knew no escape: what stood there stays
            name, default = match.group(1), match.group(2)
            if name is None:
                self._say(line, path, "expected ${NAME} or ${NAME:-default} (write $$ for a dollar sign)")
                return match.group()
            names.append(name)
            value = self._environ.get(name)
            if default is not None and not value:
                return default
            if value is None:
                self._say(line, path, f"environment variable {name} is not set (${{{name}:-default}} gives a default)")
                return ""
            return value

        result = _REFERENCE.sub(replace, text)
        if names:
            self._source.substituted[path] = ", ".join(names)
            if result:
                self._source.secrets.add(result)
        return result

    def _say(self, line: int, path: KeyPath, message: str) -> None:
        self._source.problems.append(Problem(line, path, message))


class _TooMuch(Exception):
    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def is_legacy(keys: set[object]) -> bool:
    """The older form has ``endpoints`` where the present one has ``services``."""
    return "services" not in keys and bool(keys & {"endpoints", "health_check"})


def _about_vault(tag: str) -> str:
    if tag != "!vault":
        return ""
    return ": put the value into a vault file of the inventory and write {{ its_name }} here"
