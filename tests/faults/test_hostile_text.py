"""Text from inventories, command lines, containers and health checks is data: never a template, a shell line, an option."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from guard.rollback.catalog import shipped_path, write_digest

from .conftest import MakeScene
from .scene import NOW, OLD, Scene

EVIL = (
    "{{ lookup('pipe', 'touch PWNED') }}",
    "{% for x in lookup('pipe', 'touch PWNED') %}{% endfor %}",
    "x; touch PWNED; $(touch PWNED) `touch PWNED`",
    "-oProxyCommand=touch PWNED",
    "../../../../../../PWNED",
    "a\n'; touch PWNED\n- hosts: all",
)
EXIT_CODES = (0, 1, 2, 4, 5, 6)


def written(scene: Scene) -> tuple[Path, list[str]]:
    """Where a string that was evaluated leaves its trace (hosts see the same /tmp through their overlay), and the strings."""
    pwned = Path(f"/tmp/pwned-{scene.guard.folder.parent.name}")
    return pwned, [text.replace("PWNED", str(pwned)) for text in EVIL]


def is_clean(scene: Scene, pwned: Path) -> bool:
    inside = [host.exec(["sh", "-c", f"ls {pwned} 2>/dev/null || true"]).strip() for host in scene.hosts]
    return not pwned.exists() and not any(inside)


def test_hostile_inventory_variables_and_answers_of_a_container_stay_text_in_a_whole_rollback(
    make_scene: MakeScene,
) -> None:
    scene = make_scene("data")
    pwned, evil = written(scene)
    scene.tag(OLD, NOW)
    said = evil[0].replace("'", '"')
    scene.run(
        NOW, f"--health-cmd=echo '{said}'; exit 1", "--health-interval=1s", "--health-retries=1", "-e", f"X={evil[0]}"
    )
    for host in scene.hosts:
        scene.set(host, **{f"note_{number}": text for number, text in enumerate(evil)}, notes=evil, nested={"a": evil})
    ran = scene.guard.json("rollback", "data", "--to", f"data:{OLD}")
    assert ran.code == 4, ran  # its own health check, which was set by hand, never holds
    for host in ran.json["hosts"].values():
        if host["state"] == "reverted":
            assert said in host["error"], "told as it was, and nothing more"
    assert "reverted" in {host["state"] for host in ran.json["hosts"].values()}
    assert is_clean(scene, pwned)
    assert ran.code == scene.guard.json("history", ran.json["id"]).code + 4
    assert is_clean(scene, pwned)


def test_hostile_names_on_the_command_line_and_in_the_configuration_change_nothing(make_scene: MakeScene) -> None:
    scene = make_scene("names")
    pwned, evil = written(scene)
    scene.tag(OLD, NOW)
    scene.run(NOW)
    before = {host.name: scene.containers(host) for host in scene.hosts}
    for host in scene.hosts:
        scene.set(host, **{f"note_{number}": text for number, text in enumerate(evil)})
    asked: list[tuple[str, ...]] = []
    for number, text in enumerate(evil):
        asked += [("rollback", "names", f"--to={text}"), ("rollback", "names", f"--limit={text}")]
        asked += [("rollback", f"named-{number}"), ("check", f"named-{number}")]
    config = copy.deepcopy(scene.settings)
    for number in range(len(evil)):
        service = copy.deepcopy(scene.settings["services"][0])
        service |= {"name": f"named-{number}", "container": f"{{{{ note_{number} }}}}"}
        address = f"http://{{{{ ansible_host }}}}:1/{{{{ note_{number} }}}}"
        service["checks"].append({"type": "http", "name": "page", "url": address})
        config["services"].append(service)
    scene.guard.configure(config)
    with ThreadPoolExecutor(3) as pool:
        for ran in pool.map(lambda arguments: scene.guard(*arguments), asked):
            assert ran.code in EXIT_CODES, ran
            assert ran.code != 0, ran
            assert "Traceback" not in ran.stdout + ran.stderr, ran
    assert is_clean(scene, pwned)
    assert {host.name: scene.containers(host) for host in scene.hosts} == before


def test_a_hostile_address_in_the_inventory_is_no_option_and_no_template(make_scene: MakeScene) -> None:
    scene = make_scene("address")
    pwned, evil = written(scene)
    scene.tag(OLD, NOW)
    scene.run(NOW)
    struck = scene.hosts[0]
    for text in (evil[0], evil[3]):
        scene.set(struck, ansible_host=text)
        ran = scene.guard.json("rollback", "address", "--dry-run")
        assert ran.code in (0, 1, 2, 5), ran
        assert is_clean(scene, pwned)
    scene.set(struck, ansible_host=struck.address, ansible_user="-oProxyCommand=touch " + str(pwned))
    ran = scene.guard.json("rollback", "address")
    assert ran.code in (2, 4), ran
    assert is_clean(scene, pwned)
    assert scene.containers(struck) == {"address": (True, scene.image(struck, NOW))}


def test_a_play_that_matches_no_host_is_a_failure_although_ansible_calls_it_a_success(make_scene: MakeScene) -> None:
    scene = make_scene("nobody", playbook="nobody@1")
    scene.tag(OLD, NOW)
    scene.run(NOW)
    own = scene.guard.folder / "playbooks" / "nobody" / "1.0.0"
    own.mkdir(parents=True)
    manifest = (shipped_path() / "container" / "1.0.0" / "manifest.yml").read_text().splitlines()
    kept = [
        line.replace("container", "nobody", 1) for line in manifest if line.startswith(("name:", "version:", "desc"))
    ]
    (own / "manifest.yml").write_text("\n".join(kept) + "\n")
    (own / "restore.yml").write_text(
        "- hosts: nobody\n  gather_facts: false\n  tasks: [{ansible.builtin.meta: noop}]\n"
    )
    write_digest(own)
    scene.guard.configure({**scene.settings, "playbook_path": [str(own.parents[1])]})
    ran = scene.guard.json("rollback", "nobody")
    assert ran.code == 4, ran
    assert {host["state"] for host in ran.json["hosts"].values()} == {"failed"}
    for host in scene.hosts:
        assert scene.containers(host) == {"nobody": (True, scene.image(host, NOW))}
