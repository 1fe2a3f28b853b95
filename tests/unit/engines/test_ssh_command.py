"""From inventory variables to ssh's arguments."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from guard.engines.hosts import HostEngines
from guard.engines.ssh_command import connection, login
from guard.errors import EngineUnreachable
from guard.model import Host

CONTROL, LOCAL = Path("/run/g/1.c"), Path("/run/g/1.s")


def argv(name: str = "web1", **variables: Any) -> list[str]:
    return list(login(Host(name, variables)).master(CONTROL, LOCAL, "/var/run/docker.sock", "cat"))


def settings(arguments: list[str]) -> list[str]:
    """The values of -o, in order: for ssh the first of a kind counts."""
    return [value for flag, value in pairwise(arguments) if flag == "-o"]


CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a port": ({"ansible_port": 2222}, ["Port=2222"]),
    "a port as text": ({"ansible_port": "2222"}, ["Port=2222"]),
    "the older name of the port": ({"ansible_ssh_port": 2222}, ["Port=2222"]),
    "a user": ({"ansible_user": "deploy"}, ['User="deploy"']),
    "the older name of the user": ({"ansible_ssh_user": "deploy"}, ['User="deploy"']),
    "a key": ({"ansible_ssh_private_key_file": "/k/id"}, ['IdentityFile="/k/id"']),
    "the newer name of the key": ({"ansible_private_key_file": "/k/id"}, ['IdentityFile="/k/id"']),
    "a key in the home folder": ({"ansible_private_key_file": "~/id"}, [f'IdentityFile="{Path.home()}/id"']),
    "common arguments": (
        {"ansible_ssh_common_args": '-o ProxyJump=gate -o "User=a b"'},
        ["ProxyJump=gate", "User=a b"],
    ),
    "extra arguments": ({"ansible_ssh_extra_args": "-o ProxyJump=gate"}, ["ProxyJump=gate"]),
    "a time-out": ({"ansible_ssh_timeout": 3}, ["ConnectTimeout=3"]),
    "no time-out": ({}, ["ConnectTimeout=10"]),
    "host keys unchecked, in so many words": ({"ansible_host_key_checking": "False"}, ["StrictHostKeyChecking=no"]),
}


@pytest.mark.parametrize("name", CASES)
def test_variables_become_the_options_that_ansible_makes_of_them(name: str) -> None:
    variables, expected = CASES[name]
    found = settings(argv(**variables))
    assert [value for value in found if value in expected] == expected


def test_guard_itself_never_says_that_host_keys_go_unchecked() -> None:
    assert not [value for value in settings(argv()) if value.startswith("StrictHostKeyChecking")]
    assert "StrictHostKeyChecking=no" not in settings(argv(ansible_host_key_checking=True))


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ("ControlMaster=yes", "ControlMaster=auto"),
        ("ControlPersist=no", "ControlPersist=60s"),
        ("BatchMode=yes", "BatchMode=no"),
        ("ServerAliveInterval=5", "ServerAliveInterval=600"),
        ("ExitOnForwardFailure=yes", "ExitOnForwardFailure=no"),
    ],
)
def test_no_inventory_changes_how_the_connection_is_kept(mine: str, theirs: str) -> None:
    found = settings(argv(ansible_ssh_args=f"-C -o {theirs}", ansible_ssh_common_args=f"-o {theirs}"))
    assert found.index(mine) < found.index(theirs)


def test_the_control_socket_is_guards_own_whatever_the_inventory_says() -> None:
    arguments = argv(ansible_ssh_common_args="-S /tmp/shared -o ControlPath=/tmp/shared")
    assert arguments.index("/run/g/1.c") > arguments.index("/tmp/shared"), "of -S the last one counts"
    assert arguments[arguments.index("/run/g/1.c") - 1] == "-S"


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, "web1"),
        ({"ansible_host": "10.0.0.1"}, "10.0.0.1"),
        ({"ansible_ssh_host": "10.0.0.1"}, "10.0.0.1"),
        ({"ansible_host": "fe80::1%eth0"}, "fe80::1%eth0"),
        ({"ansible_host": ""}, "web1"),
    ],
)
def test_the_address_stands_behind_two_dashes(variables: dict[str, Any], address: str) -> None:
    assert argv(**variables)[-3:] == ["--", address, "cat"]


HOSTILE = {
    "an option for an address": {"ansible_host": "-oProxyCommand=touch /tmp/x"},
    "an address with a shell in it": {"ansible_host": "a;touch /tmp/x"},
    "an address of another kind": {"ansible_host": "ssh://elsewhere"},
    "two lines of address": {"ansible_host": "a\nb"},
    "an option for a user": {"ansible_user": "-x"},
    "a user that leaves its quotes": {"ansible_user": 'a" ProxyCommand="x'},
    "two lines of user": {"ansible_user": "a\nProxyCommand x"},
    "a key that leaves its quotes": {"ansible_private_key_file": '/k" ProxyCommand="x'},
    "an option for a program": {"ansible_ssh_executable": "-x"},
    "a port that is none": {"ansible_port": "22 -o ProxyCommand=x"},
    "a port that is too high": {"ansible_port": 65536},
    "arguments with a line end": {"ansible_ssh_common_args": "-C\n-o X=y"},
    "arguments with half a quotation": {"ansible_ssh_common_args": "-o 'X"},
    "a list for a host": {"ansible_host": ["a"]},
    "an option for a sudo user": {"ansible_become": True, "ansible_become_user": "-s"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_variables_are_refused_by_name(name: str) -> None:
    variables = HOSTILE[name]
    with pytest.raises(EngineUnreachable) as raised:
        argv(**variables)
    assert list(variables)[-1] in str(raised.value)
    assert "web1" in raised.value.message


def test_a_host_whose_name_is_an_option_is_refused() -> None:
    with pytest.raises(EngineUnreachable):
        argv("-oProxyCommand=x")


@pytest.mark.parametrize(
    ("variables", "sudo"),
    [
        ({}, ()),
        ({"ansible_become": "no"}, ()),
        ({"ansible_become": True}, ("sudo", "-n", "-u", "root", "--")),
        ({"ansible_become": "yes", "ansible_become_user": "ops"}, ("sudo", "-n", "-u", "ops", "--")),
        ({"ansible_become": True, "ansible_become_method": "su"}, ()),
    ],
)
def test_become_is_sudo_without_a_question(variables: dict[str, Any], sudo: tuple[str, ...]) -> None:
    assert login(Host("web1", variables)).sudo == sudo


@pytest.mark.parametrize(
    ("interpreter", "python"),
    [
        (None, "python3"),
        ("auto_silent", "python3"),
        ("/opt/py/bin/python3.11", "/opt/py/bin/python3.11"),
        ("/bin/sh -c x", "python3"),
    ],
)
def test_the_interpreter_is_ansibles(interpreter: str | None, python: str) -> None:
    assert login(Host("web1", {"ansible_python_interpreter": interpreter})).python == python


@pytest.mark.parametrize(
    ("given", "kind"), [(None, "ssh"), ("smart", "ssh"), ("ansible.builtin.ssh", "ssh"), ("local", "local")]
)
def test_connections_guard_can_look_over(given: str | None, kind: str) -> None:
    assert connection(Host("web1", {"ansible_connection": given})) == kind


@pytest.mark.parametrize(
    "variables",
    [
        {"ansible_connection": "winrm"},
        {"guard_docker_host": "tcp://127.0.0.1:2375"},
        {"guard_docker_host": "unix://relative"},
        {"guard_docker_host": "unix:///a:b"},
    ],
)
def test_ways_guard_cannot_go_are_refused_before_anything_is_started(variables: dict[str, Any]) -> None:
    with pytest.raises(EngineUnreachable, match="web1"):
        HostEngines({}).on(Host("web1", variables))
