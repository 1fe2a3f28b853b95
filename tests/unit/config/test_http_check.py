"""The http check in a configuration: what is read, and what is refused with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from guard.config.checks.http import HttpCheck
from guard.config.redact import redacted
from guard.config.schema import GuardConfig
from guard.errors import ConfigError

Read = Callable[..., GuardConfig]
WRONG = [
    ("expect: {jmespath: 'a ='}", "expect.jmespath", "expected a JMESPath expression"),
    ("expect: {jmespath: ['a', 'b[']}", "expect.jmespath", "expected a JMESPath expression"),
    ("expect: {jmespath: 'lenght(a)'}", "expect.jmespath", "there is no function lenght()"),
    ("expect: {jmespath: 'a && length(b, c)'}", "expect.jmespath", "length() takes 1 arguments, not 2"),
    ("expect: {jmespath: 5}", "expect.jmespath", "expected text"),
    ("expect: {jmespath: []}", "expect.jmespath", "at least one"),
    ("expect: {headers: {A: '['}}", "expect.headers.A", "regular expression"),
    ("expect: {headers: {'a b': x}}", "expect.headers", "expected the name of a header"),
    ("expect: {version: {json: 'a['}}", "expect.version.json", "expected a JMESPath expression"),
    ("expect: {version: {}}", "expect.version", "one of json, header or body"),
    ("expect: {version: {json: a, header: B}}", "expect.version", "one of json, header or body"),
    ("expect: {version: {jsn: a}}", "expect.version.jsn", "did you mean json?"),
    ("method: HEAD, expect: {version: {json: a}}", "expect", "no body to compare"),
    ("body: x", "body", "a GET request has no body: use method POST or PUT"),
    ("method: POST, body: {file: none}", "body", "cannot read the secret file"),
    ("degraded_above: 2s, unhealthy_above: 1s", "unhealthy_above", "longer than degraded_above (2 s)"),
    ("unhealthy_above: soon", "unhealthy_above", "expected a duration"),
    ("tls_ca: none.pem", "tls_ca", "cannot read the file"),
    ("client_cert: none.pem", "client_cert", "cannot read the file"),
    ("client_key: guard.yml", "client_key", "a key without its certificate"),
    ("tls_verify: false, tls_ca: guard.yml", "tls_ca", "no certificate is verified"),
    ("headers: {Content-Length: '3'}", "headers", "guard sets it itself"),
]


@pytest.mark.parametrize(("keys", "key", "words"), WRONG, ids=[f"{keys}"[:50] for keys, _, _ in WRONG])
def test_a_wrong_key_is_named_with_its_line(read: Read, keys: str, key: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(f"services:\n  - name: web\n    checks:\n      - {{type: http, url: 'http://h/', {keys}}}\n")
    said = caught.value.message.splitlines()
    assert len(said) == 1, said
    assert said[0].startswith(f"guard.yml:4: services[0].checks[0].{key}")
    assert words in said[0]


def test_every_expectation_is_read(read: Read, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("x")
    (tmp_path / "body.json").write_text('{"password": "hunter2"}\n')
    config = read(
        """\
services:
  - name: web
    checks:
      - type: http
        url: https://h/
        method: POST
        body: {file: body.json}
        degraded_above: 300ms
        unhealthy_above: 2s
        tls_ca: ca.pem
        expect:
          headers: {Content-Type: json}
          jmespath: "status == 'ok' && length(@) > `0`"
          version: {header: X-Version}
"""
    )
    (check,) = config.services[0].checks
    assert isinstance(check, HttpCheck)
    assert (check.body, check.tls_ca) == ('{"password": "hunter2"}', tmp_path / "ca.pem")
    assert (check.degraded_above, check.unhealthy_above) == (0.3, 2.0)
    assert check.expect.headers == {"Content-Type": "json"}
    assert check.expect.jmespath == ("status == 'ok' && length(@) > `0`",)
    assert check.expect.version is not None and check.expect.version.header == "X-Version"
    assert check.expect.reads_body
    assert "hunter2" not in repr(config) and "hunter2" not in str(redacted(config))
