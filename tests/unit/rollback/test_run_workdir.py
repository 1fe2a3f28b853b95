"""The run's folder: names, modes, and an inventory that is data."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard.errors import StateError, UsageError
from guard.model import Host
from guard.rollback import artifacts, workdir

HOSTILE = "{{ lookup('pipe', 'touch /tmp/x') }}"


def ansible_reads(text: str) -> object:
    """Parse as Ansible does, and fail on a value that it would evaluate as a template."""
    from ansible._internal._datatag._tags import TrustedAsTemplate
    from ansible.parsing.dataloader import DataLoader

    def no_trust(value: object, at: str) -> None:
        assert not TrustedAsTemplate.is_tagged_on(value), at
        if isinstance(value, dict):
            for key, inner in value.items():
                no_trust(inner, f"{at}.{key}")
        elif isinstance(value, list):
            for inner in value:
                no_trust(inner, at)

    read = DataLoader().load(text)
    for value in _values(read):
        no_trust(value, "")
    return read


def _values(read: object) -> list[object]:
    assert isinstance(read, dict)
    if set(read) == {"all"}:
        return [value for variables in read["all"]["hosts"].values() for value in variables.values()]
    return list(read.values())


def test_every_value_of_the_inventory_is_text_to_ansible() -> None:
    host = Host("web-1", {"ansible_host": HOSTILE, "deep": {"a": [HOSTILE, 1, True, None]}, "port": 22})
    read = ansible_reads(workdir.inventory_text([host], Path("/tmp/guard-run-x")))
    found = read["all"]["hosts"]["web-1"]  # type: ignore[index]
    assert found["ansible_host"] == HOSTILE
    assert found["deep"] == {"a": [HOSTILE, 1, True, None]}
    assert found["port"] == 22


@given(
    st.dictionaries(
        st.from_regex(r"v[a-z0-9_]{0,8}", fullmatch=True),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=6,
        ),
        max_size=3,
    )
)
def test_any_data_reaches_ansible_as_it_is_and_untrusted(variables: dict[str, object]) -> None:
    assert ansible_reads(workdir.variables_text(variables)) == variables


def test_text_that_is_no_unicode_still_makes_a_readable_file() -> None:
    assert ansible_reads(workdir.variables_text({"a": "x\udcffy", "b": "\\udcff"})) == {"a": "x?y", "b": "\\udcff"}


@pytest.mark.parametrize(
    "name",
    ["-oProxyCommand=x", "../up", "a/b", "web[1:3]", "a b", "a:22", "", ".", "{{ x }}", "a,b", "!a", "a\nb", "::1%lo"],
)
def test_a_host_name_that_could_be_a_path_a_pattern_or_an_option_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="refused"):
        workdir.checked_names([Host(name)])


@pytest.mark.parametrize("name", ["web-1", "10.0.0.1", "web_1.example.com", "user@host", "::1", "fe80::1"])
def test_an_ordinary_host_name_passes(name: str) -> None:
    assert workdir.checked_names([Host(name)]) == (name,)


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden", "-x", "a" * 81])
def test_a_runs_name_never_leaves_the_state_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        workdir.run_folder(tmp_path, name, "restore")
    with pytest.raises(UsageError):
        workdir.run_folder(tmp_path, "rb-1", name)


def test_a_run_folder_is_private_fresh_and_locked(tmp_path: Path) -> None:
    folder = workdir.run_folder(tmp_path, "rb-1", "restore")
    lock = workdir.create(folder)
    for path in (folder, folder.parent, folder.parent.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert workdir.is_held(folder)
    with pytest.raises(StateError, match="exists already"):
        workdir.create(folder)
    os.close(lock)
    assert not workdir.is_held(folder)


def test_the_runs_own_socket_folder_comes_before_the_users_ssh_options() -> None:
    host = Host(
        "a", {"ansible_ssh_args": "-o ControlPath=/shared/%C", "ansible_ssh_extra_args": "-o ServerAliveInterval=60"}
    )
    found = ansible_reads(workdir.inventory_text([host], Path("/tmp/guard-run-x")))["all"]["hosts"]["a"]  # type: ignore[index]
    assert found["ansible_ssh_args"].index("/tmp/guard-run-x/%C") < found["ansible_ssh_args"].index("/shared")
    assert found["ansible_ssh_extra_args"].startswith("-o ServerAliveInterval=60 -o ServerAliveInterval=5")


def test_a_socket_fits_into_a_socket_address_however_long_tmpdir_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/tmp/" + "long" * 20)
    scratch = workdir.new_scratch()
    try:
        assert len(f"{scratch}/{'0' * 40}.{'0' * 16}") < 108
        assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    finally:
        shutil.rmtree(scratch)


def test_variables_that_ansible_sets_itself_are_left_to_it() -> None:
    host = Host("a", {"inventory_hostname": "b", "groups": {}, "bad name": 1, "mine": 1})
    found = ansible_reads(workdir.inventory_text([host], Path("/x")))["all"]["hosts"]["a"]  # type: ignore[index]
    assert set(found) == {"mine", "ansible_ssh_args", "ansible_ssh_extra_args"}


def rollback_of(tmp_path: Path, name: str, age_days: float, now: float = 1e9) -> Path:
    folder = tmp_path / "runs" / name
    (folder / "restore").mkdir(parents=True)
    os.utime(folder, (now - age_days * 86400,) * 2)
    return folder


def test_retention_deletes_by_count_and_by_age_and_never_an_unfinished_run(tmp_path: Path) -> None:
    for age in range(6):
        rollback_of(tmp_path, f"rb-{age}", age)
    rollback_of(tmp_path, "rb-open", 99)
    deleted = workdir.prune(tmp_path, 4, 2.5, {"rb-open"}, 1e9)
    assert deleted == ("rb-3", "rb-4", "rb-5")
    assert workdir.prune(tmp_path, 2, 99, {"rb-open"}, 1e9) == ("rb-2",)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["rb-0", "rb-1", "rb-open"]


def test_retention_leaves_a_run_that_is_alive_alone(tmp_path: Path) -> None:
    lock = workdir.create(workdir.run_folder(tmp_path, "rb-1", "restore"))
    assert workdir.prune(tmp_path, 0, 0, set(), 1e12) == ()
    os.close(lock)
    assert workdir.prune(tmp_path, 0, 0, set(), 1e12) == ("rb-1",)


def test_retention_without_any_run_is_nothing_to_do(tmp_path: Path) -> None:
    assert workdir.prune(tmp_path, 0, 0, set(), 1e9) == ()


def test_snapshots_push_no_rollback_out(tmp_path: Path) -> None:
    for name in ("rb-1", "sn-1", "sn-2", "sn-3"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        os.utime(tmp_path / "runs" / name, (1e9 + int(name[-1]), 1e9 + int(name[-1])))
    assert workdir.prune(tmp_path, 1, 99, set(), 1e9) == ("sn-2", "sn-1")


def test_a_killed_run_loses_what_may_hold_secrets_and_a_living_one_does_not(tmp_path: Path) -> None:
    for name in ("rb-1", "rb-2"):
        folder = tmp_path / "runs" / name / "run-1"
        lock = workdir.create(folder)
        for passing in workdir.PASSING:
            workdir.write(folder / passing, "hunter2")
        if name == "rb-1":
            os.close(lock)
    assert artifacts.scrub_dead(tmp_path) == (str(tmp_path / "runs/rb-1/run-1"),)
    assert {path.parent.parent.name for path in tmp_path.rglob("*") if path.name in workdir.PASSING} == {"rb-2"}
    os.close(lock)
