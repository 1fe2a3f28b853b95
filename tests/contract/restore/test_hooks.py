"""The user's task files around the swap of each host, run by ansible-playbook: hosts a, b, c share one engine here."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Restore
from .test_playbook import EXITS, NEW, OLD, Play


@pytest.fixture
def play(restore: Restore, tmp_path: Path) -> Play:
    played = Play(restore, tmp_path)
    played.deploy("abc")
    return played


def hook(play: Play, when: str, failing: str = "") -> str:
    """A task file that notes host and image in a common diary, and then fails on the host ``failing``."""
    path = play.folder / f"{when}.yml"
    path.write_text(f"""\
- name: Note it
  ansible.builtin.lineinfile:
    path: {play.folder}/diary-{{{{ inventory_hostname }}}}
    line: "{when} {{{{ guard_plans[inventory_hostname].target.image }}}}"
    create: true
    mode: "0600"
- name: Drain
  ansible.builtin.fail: {{msg: the load balancer said no}}
  when: inventory_hostname == '{failing}'
""")
    return str(path)


def diaries(play: Play) -> dict[str, list[str]]:
    noted = {host: play.folder / f"diary-{host}" for host in "abc"}
    return {host: path.read_text().splitlines() if path.exists() else [] for host, path in noted.items()}


BOTH = [f"before {NEW}", f"after {NEW}"]


def run(play: Play, before: str = "", after: str = "", policy: str = "stop", **changes: object) -> str:
    hooks = {"before": hook(play, "before", before), "after": hook(play, "after", after)}
    plans = play.plans("abc", **changes)  # type: ignore[arg-type]
    return play(
        "restore",
        plans,
        guard_batches=[2, 1],
        guard_on_batch_failure=policy,
        guard_hooks=hooks,
        guard_hosts=list("abc"),
    ).stdout


def test_each_host_has_its_hooks_right_around_its_own_swap(play: Play) -> None:
    said = run(play)
    assert play.images() == {"a": NEW, "b": NEW, "c": NEW}
    assert diaries(play) == {"a": BOTH, "b": BOTH, "c": BOTH}
    done = [line.split("]")[0] for line in said.splitlines() if line.startswith(("changed: [", "ok: ["))]
    assert done.index("changed: [c") < len(done)
    last_of_first_batch = max(i for i, line in enumerate(done) if line.endswith(("[a", "[b")))
    assert [line for line in done[last_of_first_batch + 1 :] if line.endswith("[c")]  # the second batch comes after it


def test_without_hooks_there_is_no_task_for_them(play: Play) -> None:
    said = play("restore", play.plans("abc"), guard_batches=[3]).stdout
    assert said.count("\nTASK [") == 3, said  # prepare, swap, and a meta task, which runs on no host
    assert said.count("ok=2 ") == 3, said


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("stop", {"a": OLD, "b": NEW, "c": OLD}), ("continue", {"a": OLD, "b": NEW, "c": NEW})],
)
def test_a_host_whose_hook_before_fails_is_not_touched_and_its_batch_is_finished(
    play: Play, policy: str, expected: dict[str, str]
) -> None:
    said = run(play, before="a", policy=policy)
    assert "the load balancer said no" in said
    assert play.images() == expected
    assert diaries(play)["a"] == diaries(play)["b"] == BOTH  # what had begun is undone
    assert diaries(play)["c"] == (BOTH if policy == "continue" else [])


@pytest.mark.parametrize("policy", ["stop", "revert"])
def test_the_hook_after_runs_also_when_the_swap_was_undone(play: Play, policy: str) -> None:
    run(play, policy=policy, a={"target": play.restore.target(EXITS)})
    assert play.images() == {"a": OLD, "b": NEW, "c": OLD}
    assert diaries(play) == {"a": [f"before {EXITS}", f"after {EXITS}"], "b": BOTH, "c": []}


def test_a_failing_hook_after_ends_the_run_after_its_batch(play: Play) -> None:
    run(play, after="b")
    assert play.images() == {"a": NEW, "b": NEW, "c": OLD}
    assert diaries(play)["a"] == BOTH


def test_a_host_out_of_reach_is_left_alone_and_the_others_go_on(play: Play) -> None:
    hooks = {"before": hook(play, "before"), "after": hook(play, "after")}
    plans = play.plans("abc")
    play("restore", plans, unreachable="a", guard_batches=[1, 2], guard_hooks=hooks, guard_hosts=list("abc"))
    assert play.images() == {"a": OLD, "b": NEW, "c": NEW}
    assert diaries(play) == {"a": [], "b": BOTH, "c": BOTH}


def test_check_mode_goes_through_the_hooks_and_changes_nothing(play: Play) -> None:
    hooks = {"before": hook(play, "before"), "after": hook(play, "after")}
    ran = play("restore", play.plans("abc"), "--check", "--diff", guard_batches=[3], guard_hooks=hooks)
    assert ran.returncode == 0, ran.stdout
    assert play.images() == {"a": OLD, "b": OLD, "c": OLD}
    assert diaries(play) == {"a": [], "b": [], "c": []}
