"""How the tcp, tls and command checks are written, and what is said about what is not right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from guard.config.address import Address, read_address
from guard.config.checks import CommandCheck, TcpCheck, TlsCheck
from guard.config.redact import redacted
from guard.config.schema import GuardConfig
from guard.errors import ConfigError
from tests.contract.checks.certificates import Authority

Read = Callable[..., GuardConfig]


def of(*checks: str) -> str:
    listed = "".join(f"      - {check}\n" for check in checks)
    return f"inventory: inv\nservices:\n  - name: web\n    hosts: web\n    checks:\n{listed}"


def test_the_three_types_are_read_with_their_defaults(read: Read, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(Authority().pem)
    (tmp_path / "pw").write_text("hunter2\n")
    tcp, tls, short, command, plain = (
        read(
            of(
                '{type: tcp, address: "{{ ansible_host }}:5432", send: "PING\\r\\n", expect: "^[+]PONG"}',
                '{type: tls, address: "[::1]:443", server_name: shop.example.org, ca: ca.pem, unhealthy_before: 3d}',
                '{type: tls, address: "shop:443", degraded_before: 1d}',
                '{type: command, command: [checks/mine, -H, "{{ ansible_host }}"], env: {PW: {file: pw}}}',
                "{type: command, command: [check_disk, -w, 10%]}",
            )
        )
        .service("web")
        .checks
    )
    assert isinstance(tcp, TcpCheck) and (tcp.per_host, tcp.send) == (True, "PING\r\n")
    assert isinstance(tls, TlsCheck) and (tls.per_host, tls.ca) == (False, tmp_path / "ca.pem")
    assert (tls.degraded_before, tls.unhealthy_before) == (14 * 86400.0, 3 * 86400.0)
    assert isinstance(short, TlsCheck) and short.degraded_before == 86400.0
    assert isinstance(command, CommandCheck) and command.env == {"PW": "hunter2"}
    assert command.command == (str(tmp_path / "checks/mine"), "-H", "{{ ansible_host }}")
    assert isinstance(plain, CommandCheck) and (plain.name, plain.command[0]) == ("command-2", "check_disk")


REFUSED = {
    "a line for a shell": ("{type: command, command: check_disk -w 10%}", "command", "there is no shell"),
    "no program": ("{type: command, command: []}", "command", "the program first"),
    "a number among the texts": ("{type: command, command: [sleep, 5]}", "command", "put numbers in quotes"),
    "an option as the program": ("{type: command, command: [-x]}", "command", "expected the program"),
    "a program of the inventory": ('{type: command, command: ["{{ p }}"]}', "command", "decides what is run"),
    "code of the inventory": ('{type: command, command: [sh, -c, "x {{ p }}"]}', "command", "run as code"),
    "joined code": ('{type: command, command: [perl, "-e{{ p }}"]}', "command", "run as code"),
    "code behind other options": (
        '{type: command, command: [env, A=1, /bin/bash, -o, pipefail, -ec, "x {{ p }}"]}',
        "command",
        "run as code",
    ),
    "a script of the inventory": ('{type: command, command: [python3, "{{ p }}"]}', "command", "run as code"),
    "an expression": ('{type: command, command: [x, "{{ a|b }}"]}', "command", "evaluates nothing"),
    "a bad variable name": ("{type: command, command: [x], env: {A-B: c}}", "env", "'A-B' is not the name"),
    "a missing secret": ("{type: command, command: [x], env: {A: {file: nope}}}", "env", "A: cannot read the secret"),
    "no port": ("{type: tcp, address: db}", "address", "expected HOST:PORT"),
    "a port out of range": ("{type: tcp, address: 'db:70000'}", "address", "'70000' is no port"),
    "IPv6 without brackets": ("{type: tcp, address: '::1:5432'}", "address", "in brackets"),
    "a URL": ("{type: tls, address: 'https://shop/'}", "address", "expected HOST:PORT"),
    "a bad expression": ("{type: tcp, address: 'db:1', expect: '('}", "expect", "expected a regular expression"),
    "nothing to expect": ("{type: tcp, address: 'db:1', send: x}", "send", "add the key expect"),
    "no such CA file": ("{type: tls, address: 'db:1', ca: nope.pem}", "ca", "cannot read the certificates"),
    "a CA file of something else": ("{type: tls, address: 'db:1', ca: guard.yml}", "ca", "holds no certificate"),
    "a bad server name": ("{type: tls, address: 'db:1', server_name: '*.x'}", "server_name", "expected a host name"),
    "degraded too late": (
        "{type: tls, address: 'db:1', degraded_before: 1d, unhealthy_before: 2d}",
        "degraded_before",
        "expected at least unhealthy_before",
    ),
    "a key of another type": ("{type: tcp, address: 'db:1', ca: x}", "ca", "unknown key"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said_with_file_line_and_key(read: Read, name: str) -> None:
    check, key, expected = REFUSED[name]
    with pytest.raises(ConfigError) as raised:
        read(of(check))
    message = raised.value.message
    assert message.startswith(f"guard.yml:6: services[0].checks[0].{key}: "), message
    assert expected in message


@pytest.mark.parametrize(
    "command",
    [
        '[sh, -c, "check \\"$1\\"", sh, "{{ p }}"]',
        '[python3, check.py, -c, "{{ p }}"]',
        '[/usr/lib/nagios/plugins/check_http, -e, "{{ p }}", -c, "{{ p }}"]',
    ],
)
def test_a_value_as_an_argument_is_no_code(read: Read, command: str) -> None:
    assert read(of(f"{{type: command, command: {command}}}")).service("web").checks[0].per_host


def test_secrets_of_a_command_are_not_in_what_may_be_stored(read: Read, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("filepass\n")
    check = "{type: command, command: [x, '--password=${PW}'], env: {A: {file: pw}, MY_PASSWD: named, PGUSER: seen}}"
    config = read(of(check), PW="envpass")
    text = json.dumps(redacted(config))
    assert not [secret for secret in ("filepass", "envpass", "named") if secret in text]
    assert "seen" in text
    assert "envpass" not in repr(config) and "filepass" not in repr(config)


@pytest.mark.parametrize(
    ("template", "value", "address"),
    [
        ("{{ h }}:80", "10.0.0.1", Address("10.0.0.1", 80)),
        ("{{ h }}:80", "fe80::1%eth0", Address("fe80::1%eth0", 80)),
        ("[{{ h }}]:80", "::1", Address("::1", 80)),
        ("db:{{ h }}", "5432", Address("db", 5432)),
    ],
)
def test_host_and_port_are_told_apart_before_variables_are_filled_in(
    template: str, value: str, address: Address
) -> None:
    assert read_address(template, lambda text: text.replace("{{ h }}", value)) == address
    assert read_address(str(address), str) == address


@pytest.mark.parametrize("value", ["", "a b", "-x", "a/b", "db\n"])
def test_a_value_that_makes_no_address_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="no host name"):
        read_address("{{ h }}:80", lambda text: text.replace("{{ h }}", value))
