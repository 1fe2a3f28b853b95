from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from guard.config.redact import redact_address, redacted
from guard.config.schema import GuardConfig

Read = Callable[..., GuardConfig]

FILE = """\
services:
  - name: web
    checks:
      - type: http
        url: "http://user:urlpass@h/${SEGMENT}"
        headers:
          {Authorization: Bearer headerpass, X-Api-Key: keypass, X-Plain: seen, X-File: {file: token}, X-Env: "${T}"}
      - {type: http, url: "http://user:otherpass@h/x"}
      - {type: postgres, dsn: "postgresql://u:dsnpass@h/d"}
      - {type: postgres, dsn: "host=h user=u password='quoted pass' dbname=d"}
      - {type: postgres, dsn: "${DSN}"}
"""


def test_no_secret_is_left_in_what_may_be_stored(read: Read, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("filepass\n")
    config = read(FILE, SEGMENT="seg", T="envpass", DSN="postgresql://u:dsnenv@h/d")
    text = json.dumps(redacted(config))
    for secret in (
        "urlpass",
        "headerpass",
        "keypass",
        "filepass",
        "envpass",
        "otherpass",
        "dsnpass",
        "quoted",
        "dsnenv",
    ):
        assert secret not in text
    checks = redacted(config)["services"][0]["checks"]  # type: ignore[index]
    assert checks[0]["headers"]["X-Plain"] == "seen"
    assert checks[1]["url"] == "http://user:***@h/x"
    assert checks[2]["dsn"] == "postgresql://u:***@h/d"
    assert checks[3]["dsn"] == "host=h user=u password=*** dbname=d"


def test_names_stay_readable_even_when_they_come_from_the_environment(read: Read) -> None:
    config = read("services:\n  - {name: '${N}', checks: [{type: docker}]}\n", N="web")
    assert redacted(config)["services"][0]["name"] == "web"  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:p@h/d?password=x&sslmode=require", "postgresql://u:***@h/d?password=***&sslmode=require"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("http://h:80/x", "http://h:80/x"),
        ("http://[x", "***"),
        ("PASSWORD = secret", "PASSWORD = ***"),
        ("plain", "plain"),
    ],
)
def test_an_address_is_shown_without_its_password(text: str, shown: str) -> None:
    assert redact_address(text) == shown
