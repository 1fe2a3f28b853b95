"""Hosts that freeze, that are not who they were, whose engine hangs or whose disk is full, in the middle of it all."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from guard.demo.fleet import Fleet
from guard.demo.host import Host

from .conftest import MakeScene
from .scene import NOW, OLD, Scene, load_images
from .trap import Trap
from .victims import until

QUICK = "-o ServerAliveInterval=1 -o ServerAliveCountMax=2"
WATCHFUL = "import guard.service.watch as w; w.RESUME_EVERY_S = 1.0; from guard.cli import main; main()"


def states(scene: Scene) -> dict[str, str]:
    return {name: host["state"] for name, host in scene.rollbacks()[0]["hosts"].items()}


def runs(scene: Scene, version: str, hosts: tuple[Host, ...] | None = None) -> bool:
    """Is it all that runs there?"""
    return all(scene.running(host) == [scene.image(host, version)] for host in hosts or scene.hosts)


@pytest.fixture
def deployed(make_scene: MakeScene) -> Callable[..., Scene]:
    def deploy(name: str, **more: object) -> Scene:
        scene = make_scene(name, **more)
        scene.tag(OLD, NOW)
        scene.run(NOW)
        return scene

    return deploy


def test_a_host_that_freezes_in_the_middle_holds_nobody_up_and_a_running_watch_finishes_it_when_it_is_back(
    deployed: Callable[..., Scene],
) -> None:
    scene = deployed("freezes", engine="/run/freezes.sock")
    frozen, other = scene.hosts
    common = scene.inventory["web"]["vars"]["ansible_ssh_common_args"]
    scene.set(frozen, ansible_ssh_common_args=f"{common} {QUICK}")
    with Trap(scene, frozen, "await-new") as trap:
        guard = scene.guard.start("rollback", "freezes")
        assert trap.reached.wait(60)
        frozen.freeze()
        trap.over.set()
        guard.communicate(timeout=60)
        assert guard.returncode == 4
        assert states(scene) == {frozen.name: "unreachable", other.name: "restored"}
        assert runs(scene, OLD, (other,))
        watch = scene.guard.start("watch", program=(sys.executable, "-c", WATCHFUL))
        frozen.thaw()
        until(lambda: scene.rollbacks()[0]["outcome"] == "restored", "the watch to finish it")
        watch.send_signal(signal.SIGTERM)
        watch.communicate(timeout=30)
    assert set(states(scene).values()) == {"restored"}
    assert len(scene.rollbacks()) == 1
    assert runs(scene, OLD)


def test_a_host_with_a_changed_key_is_refused_and_nothing_is_done_there(deployed: Callable[..., Scene]) -> None:
    scene = deployed("stranger")
    changed, other = scene.hosts
    before = changed.docker("inspect", "--format={{.Id}}", "stranger")
    wrong = scene.guard.folder / "known_hosts"
    key = (scene.fleet_folder / "keys" / f"{other.name}.pub").read_text()
    wrong.write_text(f"[{changed.address}]:2222 {key}")
    scene.set(changed, ansible_ssh_common_args=f"-o UserKnownHostsFile={wrong} -o StrictHostKeyChecking=yes")
    ran = scene.guard.json("rollback", "stranger")
    assert ran.code == 4, ran
    assert ran.json["hosts"][changed.name]["state"] == "unreachable"
    assert "key" in ran.json["hosts"][changed.name]["error"].lower()
    assert ran.json["hosts"][other.name]["state"] == "restored"
    assert changed.docker("inspect", "--format={{.Id}}", "stranger") == before
    assert not scene.journal(changed)


def test_a_host_whose_engine_hangs_is_left_out_and_comes_right_on_resume(deployed: Callable[..., Scene]) -> None:
    scene = deployed("hangs")
    hung, other = scene.hosts
    engine = hung._processes("dockerd")
    for pid in engine:
        os.kill(pid, signal.SIGSTOP)
    try:
        ran = scene.guard.json("rollback", "hangs", timeout=90)
    finally:
        for pid in engine:
            os.kill(pid, signal.SIGCONT)
    assert ran.code == 4, ran
    assert {name: host["state"] for name, host in ran.json["hosts"].items()} == {
        hung.name: "unreachable",
        other.name: "restored",
    }
    assert runs(scene, NOW, (hung,))
    assert scene.guard("resume").code == 0
    assert runs(scene, OLD)
    assert len(scene.rollbacks()) == 1


@contextmanager
def full(host: Host, folder: str, kib: int = 64) -> Iterator[None]:
    """A file system of its own over a folder of the host, without a byte left."""
    host.exec(["mkdir", "-p", folder])
    host.exec(["mount", "-t", "tmpfs", "-o", f"size={kib}k,mode=0700", "tmpfs", folder])
    try:
        host.exec(["sh", "-c", f"cat /dev/zero >{folder}/filler 2>/dev/null || true"])
        yield
    finally:
        host.exec(["umount", "--lazy", folder])


def test_a_host_whose_disk_is_full_for_guard_is_not_touched_and_others_go_on(deployed: Callable[..., Scene]) -> None:
    scene = deployed("full-for-guard")
    with full(scene.hosts[0], "/var/lib/guard"):
        ran = scene.guard.json("rollback", "full-for-guard")
    assert ran.code == 4, ran
    failed = ran.json["hosts"][scene.hosts[0].name]
    assert failed["state"] == "failed"
    assert "No space left" in failed["error"] and "/var/lib/guard" in failed["error"]
    assert runs(scene, NOW, scene.hosts[:1])
    assert runs(scene, OLD, scene.hosts[1:])
    assert scene.guard("rollback", "full-for-guard").code == 0
    assert runs(scene, OLD)


def test_a_disk_that_fills_up_under_a_swap_does_not_stop_it_half_way(deployed: Callable[..., Scene]) -> None:
    scene = deployed("fills-up", engine="/run/fills-up.sock")
    host = scene.hosts[0]
    folder = "/var/lib/guard"
    host.exec(["mkdir", "-p", folder])
    host.exec(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", folder])
    try:
        # Above the mount the folder is not seen from outside: the engine's own requests say where the swap is.
        with Trap(scene, host, None) as trap:
            trap.hold_at("POST stop")
            guard = scene.guard.start("rollback", "fills-up", "--output", "json")
            assert trap.reached.wait(60), trap.changes
            host.exec(["sh", "-c", f"cat /dev/zero >{folder}/filler 2>/dev/null || true"])
            trap.over.set()
            out, err = guard.communicate(timeout=60)
            assert guard.returncode == 0, (out, err)
            assert runs(scene, OLD)
            assert scene.containers(host).keys() == {scene.name}
            host.exec(["rm", f"{folder}/filler"])
            again = scene.guard.json("rollback", "fills-up")
            assert {one["state"] for one in again.json["hosts"].values()} == {"unchanged"}
    finally:
        host.exec(["umount", "--lazy", folder])


def test_an_engine_without_space_fails_before_anything_is_stopped(fleet: Fleet, make_scene: MakeScene) -> None:
    scene = make_scene("no-space", hosts=fleet.hosts[2:])
    host = scene.hosts[1]
    folder = "/var/lib/docker"
    host.kill_engine()
    host.exec(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder])
    try:
        host.start_engine()
        load_images(host)
        scene.tag(OLD, NOW)
        scene.run(NOW)
        before = scene.containers(host)
        host.exec(["sh", "-c", f"cat /dev/zero >{folder}/filler 2>/dev/null || true"])
        ran = scene.guard.json("rollback", "no-space")
        assert ran.code == 4, ran
        failed = ran.json["hosts"][host.name]
        assert (failed["state"], "space" in failed["error"]) == ("failed", True), failed
        assert scene.containers(host) == before
        assert runs(scene, OLD, scene.hosts[:1])
        host.exec(["rm", f"{folder}/filler"])
        assert scene.guard("rollback", "no-space").code == 0
        assert runs(scene, OLD)
    finally:
        scene.clear()
        host.kill_engine()
        host.exec(["umount", "--lazy", folder])
        host.start_engine()
