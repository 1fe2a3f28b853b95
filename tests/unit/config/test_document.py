from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from guard.config.document import json_schema
from guard.config.example import example_files
from guard.config.load import load


def test_every_key_of_the_json_schema_is_described() -> None:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    shapes = {"": schema, **schema["$defs"]}  # type: ignore[dict-item]
    nameless = [
        f"{name}.{key}"
        for name, shape in shapes.items()
        for key, about in shape["properties"].items()  # type: ignore[index]
        if not about.get("description")
    ]
    assert nameless == []


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("services: [{name: web, checks: [{type: docker}]}]", True),
        ("services: [{name: web, checks: [{type: docker, interval: 5}]}]", True),
        ("services: [{name: web, checks: [{type: docker, interval: 5s, failure_threshold: '${N}'}]}]", True),
        ("services: [{name: web, checks: [{type: postgres, dsn: {file: x}}], rollback: {batches: [1, 100%]}}]", True),
        ("services: [{name: web, checks: [{type: tcp, address: 'db:5432'}, {type: tls, address: 'db:${P}'}]}]", True),
        ("services: [{name: web, checks: [{type: command, command: [x], env: {A: b, C: {file: d}}}]}]", True),
        ("services: [{name: web, checks: [{type: command, command: x}]}]", False),
        ("services: [{name: web, checks: [{type: tcp, address: db}]}]", False),
        ("services: [{name: web, checks: [{type: prometheus, url: 'http://p', query: up, max: 1}]}]", True),
        ("services: [{name: web, checks: [{}]}]", False),
        ("services: [{name: web, checks: [{type: docker, intervall: 5}]}]", False),
        ("services: [{name: web, checks: [{type: http}]}]", False),
        ("services: [{name: web}]", False),
        ("inventory: x", False),
    ],
)
def test_the_json_schema_accepts_and_refuses_what_the_loader_does(text: str, valid: bool) -> None:
    assert Draft202012Validator(json_schema()).is_valid(yaml.safe_load(text)) is valid


def test_the_example_is_a_valid_configuration(tmp_path: Path) -> None:
    for name, text in example_files().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    config = load(None, {}, tmp_path)
    assert config.service("web").hosts == "web" and config.inventory[0].is_file()
    assert Draft202012Validator(json_schema()).is_valid(yaml.safe_load((tmp_path / "guard.yml").read_text()))


def test_reading_a_configuration_does_not_load_ansible() -> None:
    program = (
        "import sys, guard.config.load, guard.inventory; print([m for m in sys.modules if m.startswith('ansible')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_schema_leaves_a_plug_ins_check_to_guard_but_not_its_common_keys() -> None:
    schema = Draft202012Validator(json_schema())
    check = "services: [{name: web, checks: [{type: file_age, path: /x%s}]}]"
    assert schema.is_valid(yaml.safe_load(check % ""))
    assert not schema.is_valid(yaml.safe_load(check % ", failure_threshold: soon"))


def test_the_documentation_names_every_key() -> None:
    text = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    schema = json_schema()
    shapes = [schema, *schema["$defs"].values()]  # type: ignore[attr-defined]
    keys = {key for shape in shapes for key in shape["properties"]}
    assert [key for key in sorted(keys) if not (f"`{key}`" in text or f"`expect.{key}`" in text)] == []
