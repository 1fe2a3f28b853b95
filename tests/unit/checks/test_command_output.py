"""How the output and the end of a plug-in are read, and what of the inventory becomes an argument."""

from __future__ import annotations

import os

import pytest

from guard.checks.command import CommandProbe, Output, judge, read_output
from guard.checks.process import Ended
from guard.checks.site import Site
from guard.config.checks import CommandCheck
from guard.errors import ConfigError
from guard.model import Host, State
from tests.fakes import FakeEngines

OUTPUTS: dict[str, tuple[bytes, Output]] = {
    "a message": (b"DISK OK\n", Output("DISK OK", "", "")),
    "performance data": (
        b"DISK OK - free: 3 GB | /=2GB;5;6;0;9\n",
        Output("DISK OK - free: 3 GB", "", "/=2GB;5;6;0;9"),
    ),
    "more lines": (b"LOAD OK | a=1\nfirst\nsecond | b=2\nc=3\n", Output("LOAD OK", "first second", "a=1  b=2 c=3")),
    "nothing": (b"", Output("", "", "")),
    "no text": (b"\xff\x1b[2J|\x00\n", Output("\ufffd [2J", "", "")),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_output_is_read_as_message_text_and_performance_data(name: str) -> None:
    raw, output = OUTPUTS[name]
    assert read_output(raw) == output


ENDS: dict[str, tuple[int, bytes, bytes, State, str]] = {
    "ok": (0, b"FINE\n", b"", State.HEALTHY, "FINE"),
    "warning": (1, b"HMM\n", b"", State.DEGRADED, "HMM"),
    "critical": (2, b"BAD | x=1\n", b"", State.UNHEALTHY, "BAD"),
    "unknown": (3, b"WHO KNOWS\n", b"", State.UNKNOWN, "WHO KNOWS"),
    "critical without a word": (2, b"", b"", State.UNHEALTHY, "exit code 2, and no output"),
    "critical with a word for the log": (2, b"", b"no route\n", State.UNHEALTHY, "no route"),
    "no plug-in's code": (
        7,
        b"hello\n",
        b"",
        State.UNKNOWN,
        "prog ended with exit code 7, and monitoring plug-ins know 0 to 3: hello",
    ),
    "crashed": (-11, b"", b"", State.UNKNOWN, "prog was killed by SIGSEGV"),
    "killed by a signal without a name": (-40, b"", b"", State.UNKNOWN, "prog was killed by signal 40"),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_exit_code_is_the_state_and_the_first_line_the_reason(name: str) -> None:
    code, output, errors, state, reason = ENDS[name]
    measured = judge("prog", Ended(code, output, errors), 0.1)
    assert (measured.state, measured.reason) == (state, reason)
    assert (measured.latency_s is None) is (state is State.UNKNOWN)


def built(command: tuple[str, ...], env: dict[str, str] | None = None, **variables: object) -> CommandProbe:
    check = CommandCheck(name="c", command=command, env=env or {})
    return CommandProbe.build(check, Site(Host("web1", variables), FakeEngines(), None))


def test_values_of_the_inventory_are_arguments_and_nothing_more() -> None:
    value = "$(reboot); `x` {{ other }} | > 'a"
    probe = built(("x", "{{ v }}", "--v={{ v }}"), {"V": "{{ v }}", "OPTION": "{{ dash }}"}, v=value, dash="-x")
    assert probe._argv == ("x", value, f"--v={value}")
    assert (probe._env["V"], probe._env["OPTION"]) == (value, "-x"), "no program takes a variable for an option"


REFUSED: dict[str, tuple[tuple[str, ...], object, str]] = {
    "an option": (("x", "{{ v }}"), "-rf", "would be read as an option"),
    "an option after nothing": (("x", "{{ empty }}{{ v }}"), "--exec", "would be read as an option"),
    "a negative number": (("x", "{{ v }}"), -5, "would be read as an option"),
    "a NUL": (("x", "a{{ v }}"), "a\x00b", "NUL"),
    "a list": (("x", "{{ v }}"), ["a"], "only text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_that_is_no_argument_is_refused(name: str) -> None:
    command, value, why = REFUSED[name]
    with pytest.raises(ConfigError, match=rf"check c.*host web1.*{why}|check c: .* of host web1 .*{why}"):
        built(command, v=value, empty="")


def test_a_value_joined_to_its_option_may_begin_with_a_dash() -> None:
    assert built(("x", "--warning={{ v }}", "-w{{ v }}"), v=-5)._argv == ("x", "--warning=-5", "-w-5")


def test_nothing_of_guards_environment_is_handed_on_but_the_ways_to_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAREHOUSE_DSN", "postgresql://u:pw@h/d")
    probe = built(("x",), {"A": "b", "LANG": "de_DE.UTF-8"})
    assert probe._env == {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "LANG": "de_DE.UTF-8", "A": "b"}
