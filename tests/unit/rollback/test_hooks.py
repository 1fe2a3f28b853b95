"""What may be a hook, and what a run with hooks gets that one without does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.errors import ConfigError
from guard.rollback.hooks import read_hooks
from guard.rollback.workdir import config_text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a list of tasks"),
        ("[]", "not a list of tasks"),
        ("name: Drain", "not a list of tasks"),
        ("- one\n- two\n", "not a list of tasks"),
        ("- name: [", "not YAML"),
        ("- hosts: all\n  tasks: []\n", "is a playbook"),
        ("- import_playbook: other.yml\n", "is a playbook"),
        ("#" * 1_100_000, "larger than 1 MiB"),
    ],
)
def test_a_hook_that_is_no_list_of_tasks_is_refused_by_its_key(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "drain.yml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_hooks("web", {"before": tmp_path / "drain.yml"})
    assert "rollback.hooks.before" in caught.value.message


def test_a_hook_that_is_not_there_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=str(tmp_path / "gone.yml")):
        read_hooks("web", {"before": None, "after": tmp_path / "gone.yml"})


def test_ansibles_own_tags_are_left_to_ansible(tmp_path: Path) -> None:
    path = tmp_path / "drain.yml"
    path.write_text(
        "- name: Drain\n  debug:\n    msg: !unsafe '{{ x }}'\n    key: !vault |\n      $ANSIBLE_VAULT;1.1\n"
    )
    (hook,) = read_hooks("web", {"before": path, "after": None})
    assert (hook.when, hook.content) == ("before", path.read_bytes())
    assert len(hook.sha256) == 64


def test_only_a_run_with_hooks_sees_the_users_collections_and_roles() -> None:
    without = config_text(Path("/scratch"), 5)
    assert "collections_path = /scratch/collections" in without
    assert "roles_path = /scratch/roles" in without
    usual = config_text(Path("/scratch"), 5, {"HOME": "/home/ann"})
    assert "collections_path = /home/ann/.ansible/collections:/usr/share/ansible/collections\n" in usual
    assert "roles_path = /home/ann/.ansible/roles:" in usual
    own = config_text(Path("/scratch"), 5, {"HOME": "/h", "ANSIBLE_COLLECTIONS_PATH": "/own\n[evil]\nx = 1"})
    assert "collections_path = /own [evil] x = 1\n" in own
