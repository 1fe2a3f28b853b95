"""Nothing secret is left in what a run writes."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from guard.rollback.redact import MASK, Redactor, is_secret_key, secrets_in

SECRET = 'p"w\\d/ü ed'


@pytest.mark.parametrize(
    "text",
    [SECRET, f"x{SECRET}y", json.dumps({"a": SECRET}), quote(SECRET, safe=""), repr(SECRET)],
    ids=["alone", "inside", "json", "url", "repr"],
)
def test_a_known_secret_is_masked_in_every_form(text: str) -> None:
    masked = Redactor([SECRET]).text(text)
    assert MASK in masked
    assert "ed" not in masked.replace(MASK, "")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgres://app:hunter2@db/x", f"postgres://app:{MASK}@db/x"),
        ("PASSWORD=hunter2 next", f"PASSWORD={MASK} next"),
        ('{"db_password": "hunter2", "a": 1}', f'{{"db_password": {MASK}", "a": 1}}'),
        ("API_KEY: hunter2", f"API_KEY: {MASK}"),
        ("Authorization: Bearer hunter2", f"Authorization: Bearer {MASK}"),
        ("--token=hunter2", f"--token={MASK}"),
    ],
)
def test_text_that_says_what_it_is_is_masked_without_being_known(text: str, masked: str) -> None:
    assert Redactor([]).text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "TASK [Put the previous image back] ***",
        "web:1.0.0@sha256:" + "a" * 64,
        "http://127.0.0.1:8080/health",
        "passed: 3",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert Redactor(["hunter2"]).text(text) == text


def test_values_are_masked_by_their_key_and_at_any_depth() -> None:
    value = {"env": ["TOKEN=hunter2", "PORT=80"], "auth": {"password": "x", "user": "u"}, "n": 3, "none": None}
    assert Redactor([]).value(value) == {
        "env": [f"TOKEN={MASK}", "PORT=80"],
        "auth": {"password": MASK, "user": "u"},
        "n": 3,
        "none": None,
    }


def test_a_short_secret_masks_whole_values_and_does_not_wreck_text() -> None:
    assert Redactor(["abc"]).value({"x": "abc", "y": "abcdef"}) == {"x": MASK, "y": "abcdef"}


def test_a_key_file_is_masked_line_by_line() -> None:
    key = "-----BEGIN KEY-----\nAAAAB3NzaC1yc2E\n-----END KEY-----\n"
    assert "AAAAB3NzaC1yc2E" not in Redactor([key]).text("line AAAAB3NzaC1yc2E of it")


@pytest.mark.parametrize(
    "key", ["ansible_password", "ansible_become_pass", "API_TOKEN", "db-password", "secret", "warehouse_dsn", "apikey"]
)
def test_a_secrets_name_is_known(key: str) -> None:
    assert is_secret_key(key)


@pytest.mark.parametrize(
    "key",
    ["ansible_host", "passive", "compass", "ansible_ssh_private_key_file", "tokens_per_second_limit", "bypass_cache"],
)
def test_an_ordinary_name_is_not_a_secrets(key: str) -> None:
    assert not is_secret_key(key)


def test_secrets_are_collected_below_their_keys() -> None:
    assert secrets_in({"a": {"token": ["x", {"y": "z"}]}, "password": 1234, "port": 80}) == {"x", "z", "1234"}


def test_the_password_of_a_known_address_is_masked_also_when_it_stands_alone() -> None:
    redactor = Redactor(["postgresql://shop:s3cret-of-shop@db/shop", "host=db password=other-s3cret"])
    assert redactor.text("the check said s3cret-of-shop, then other-s3cret") == f"the check said {MASK}, then {MASK}"
