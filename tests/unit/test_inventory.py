"""Against Ansible's real loader: nothing here is faked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from guard.config.substitute import Undecryptable
from guard.errors import InventoryError
from guard.inventory import AnsibleInventory
from guard.model import Host

HOSTS = """\
all:
  vars: {colour: blue, seen: 2024-01-01}
  children:
    web:
      hosts:
        web1: {ansible_host: 127.0.0.11, ansible_port: 2222}
        web2:
        web3: {trap: "{{ lookup('pipe', 'touch TRAP') }}"}
    dc1: {hosts: {web1: , web3: , db1: }}
"""


def inventory(*sources: Path, **environ: str) -> AnsibleInventory:
    return AnsibleInventory(sources, environ={**os.environ, **environ})


def names(hosts: tuple[Host, ...]) -> list[str]:
    return [host.name for host in hosts]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "inv"
    (root / "group_vars").mkdir(parents=True)
    (root / "host_vars").mkdir()
    (root / "hosts.yml").write_text(HOSTS.replace("TRAP", str(tmp_path / "trap")))
    (root / "group_vars" / "web.yml").write_text("web_port: 8080\n")
    (root / "host_vars" / "web1.yml").write_text("web_port: 8081\nnested: {list: [1, two, null, true]}\n")
    return root


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each real subprocess was asked."""
    calls: list[str] = []
    real = subprocess.run

    def run(command: list[str], **options: object) -> object:
        calls.append(str(options.get("input")))
        return real(command, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", run)
    return calls


@pytest.mark.parametrize(
    ("pattern", "limit", "found"),
    [
        ("web", None, ["web1", "web2", "web3"]),
        ("web:&dc1:!web3", None, ["web1"]),
        ("web,db1", None, ["web1", "web2", "web3", "db1"]),
        ("web[0:1]", None, ["web1", "web2"]),
        ("~web[12]", None, ["web1", "web2"]),
        ("web*", "dc1", ["web1", "web3"]),
        ("web", "!web3", ["web1", "web2"]),
        ("all", "db1,web2", ["web2", "db1"]),
    ],
)
def test_patterns_mean_what_they_mean_to_ansible(
    folder: Path, pattern: str, limit: str | None, found: list[str]
) -> None:
    assert sorted(names(inventory(folder).hosts(pattern, limit))) == sorted(found)


def test_variables_are_merged_by_ansible_and_plain_data(folder: Path) -> None:
    web1, web2, _ = inventory(folder).hosts("web")
    assert web1.variables == {
        "colour": "blue",
        "seen": "2024-01-01",
        "ansible_host": "127.0.0.11",
        "ansible_port": 2222,
        "web_port": 8081,
        "nested": {"list": [1, "two", None, True]},
        "inventory_hostname": "web1",
    }
    assert web2.variables["web_port"] == 8080
    assert all(type(value) in (str, int, dict) for value in web1.variables.values())


def test_nothing_in_the_inventory_is_evaluated(folder: Path, tmp_path: Path) -> None:
    (web3,) = inventory(folder).hosts("web3")
    assert str(web3.variables["trap"]).startswith("{{ lookup('pipe'")
    assert not (tmp_path / "trap").exists()


def test_several_sources_are_one_inventory(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more.ini").write_text("[web]\nweb9\n")
    assert "web9" in names(inventory(folder, tmp_path / "more.ini").hosts("web"))


def test_vaulted_variables_are_decrypted_with_the_password_file_only(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("opensesame\n")
    vault = str(Path(sys.executable).parent / "ansible-vault")
    secret = subprocess.run(
        [vault, "encrypt_string", "--vault-password-file", str(tmp_path / "password"), "hunter2", "--name", "token"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (folder / "group_vars" / "dc1.yml").write_text(secret)
    (with_password,) = inventory(folder, ANSIBLE_VAULT_PASSWORD_FILE=str(tmp_path / "password")).hosts("db1")
    assert with_password.variables["token"] == "hunter2"
    (without,) = inventory(folder).hosts("db1")
    assert isinstance(without.variables["token"], Undecryptable)


def test_a_relative_password_file_is_found_from_where_the_user_stands(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text("opensesame\n")
    monkeypatch.chdir(tmp_path)
    assert inventory(folder, ANSIBLE_VAULT_PASSWORD_FILE="password").hosts("db1")
    with pytest.raises(InventoryError, match="nopassword"):
        inventory(folder, ANSIBLE_VAULT_PASSWORD_FILE="nopassword").hosts("db1")


def test_answers_are_kept_until_a_file_changes(folder: Path, counted: list[str]) -> None:
    hosts = AnsibleInventory([folder], environ=os.environ, expected=["web", "dc1"])
    assert names(hosts.hosts("web")) == ["web1", "web2", "web3"]
    hosts.hosts("dc1")
    hosts.hosts("web", "dc1")
    assert len(counted) == 1
    (folder / "host_vars" / "web2.yml").write_text("colour: red\n")
    assert hosts.hosts("web")[1].variables["colour"] == "red"
    assert len(counted) == 2


def test_a_pattern_that_matches_nobody_names_what_there_is(folder: Path) -> None:
    with pytest.raises(InventoryError, match="'wbe' matches no host") as caught:
        inventory(folder).hosts("wbe")
    assert caught.value.hint == "Did you mean web? Groups: dc1, web. Hosts: web1, web2, web3, db1."
    assert caught.value.exit_code == 2


def test_a_limit_outside_the_pattern_says_which_hosts_there_are(folder: Path) -> None:
    with pytest.raises(InventoryError, match="none of the hosts of 'web' is matched by the limit 'db1'"):
        inventory(folder).hosts("web", "db1")


def test_a_part_of_a_pattern_that_matches_nobody_can_be_asked_for(folder: Path) -> None:
    assert inventory(folder).unmatched("web:!wbe3") == ("wbe3",)


@pytest.mark.parametrize("pattern", ["-i", " -e x=1", "@/etc/passwd", "", "  ", "a\nb", "web\x00", "~[", "web[1"])
def test_a_pattern_that_is_an_option_a_file_or_half_a_pattern_is_refused(folder: Path, pattern: str) -> None:
    with pytest.raises(InventoryError, match="is not a host pattern"):
        inventory(folder).hosts(pattern)
    with pytest.raises(InventoryError, match="is not a host pattern"):
        inventory(folder).hosts("web", pattern)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yml", "web:\n  hosts: [\n", "a.yml:3:1"),
        ("b.yml", "- a\n- b: c\n", "it should be a dictionary"),
        ("c.ini", "[web\nfoo bar\n", "cannot load the inventory"),
        ("d.json", "{", "a host named '{'"),
        ("e.yml", "", "matches no host"),
        ("f.yml", "all: {hosts: {'../x': }}", "a host named '../x'"),
        ("g.yml", "all: {hosts: {'-oProxyCommand=x': }}", "a host named '-oProxyCommand=x'"),
    ],
)
def test_an_inventory_that_cannot_be_meant_is_an_error_that_says_where(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InventoryError) as caught:
        inventory(tmp_path / name).hosts("all")
    assert said in caught.value.message and str(tmp_path / name) in caught.value.message


def test_a_missing_inventory_is_named(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"there is no inventory .*nowhere"):
        inventory(tmp_path / "nowhere").hosts("all")


def test_localhost_needs_no_inventory_and_everything_else_does() -> None:
    (local,) = inventory().hosts("localhost")
    assert local.variables["ansible_connection"] == "local"
    with pytest.raises(InventoryError, match="needs an inventory"):
        inventory().hosts("web")


def test_the_users_ansible_settings_beside_the_configuration_apply(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_text("[inventory]\nenable_plugins = ini\n")
    with pytest.raises(InventoryError):
        AnsibleInventory([folder / "hosts.yml"], environ=os.environ, folder=tmp_path).hosts("web")
    assert inventory(folder / "hosts.yml").hosts("web")
