"""One cell of the matrix: bring a rollback to a point, kill one victim there, let it end, and look at everything."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard.demo.host import Host as Machine
from guard.demo.image import web_image
from guard.model import Host, HostState
from guard.rollback.catalog import Catalog
from guard.rollback.run import start
from guard.rollback.workdir import RunSpec, run_folder

from . import victims
from .points import GOES_BACK, REVERTING, Cell, Victim
from .scene import EXITS, NOW, OLD, SICK, Scene
from .trap import Trap
from .victims import until

PAUSED = Path(__file__).with_name("paused_guard.py")
DOWN_AT = ("start-new", "undo:park-new", "undo:return-old", "undo:release-old", "undo:start-old")  # the swap itself
REPAIR_S = 60.0  # within this something runs again, without anybody's help


@dataclass(frozen=True)
class Survived:
    """How a cell ended well."""

    cell: Cell
    how: str
    seconds: float


@dataclass(frozen=True)
class Ground:
    """What cells share: hosts, and a registry for images that no host has."""

    hosts: tuple[Machine, ...]
    inventory: Path
    folder: Path
    registry: str


def survive(cell: Cell, ground: Ground) -> Survived:
    """AssertionError when it is not survived."""
    began = time.monotonic()
    name = str(cell).replace(":", "-").replace("/", "-").replace(".", "-")
    struck = ground.hosts[0]
    repository = f"{ground.registry}/{name}" if cell.point == "pull" else name
    scene = Scene(
        name,
        ground.hosts,
        ground.inventory,
        ground.folder / name,
        engine=f"/run/{name}.sock",
        repository=repository,
        **({"on_batch_failure": "revert"} if cell.point in REVERTING else {}),
    )
    step = cell.point if ":" not in cell.point or cell.point.startswith("undo:") else None
    try:
        with Trap(scene, struck, step) as trap:
            if cell.point == "discard":
                how = at_discard(scene, cell, trap)
                return Survived(cell, how, time.monotonic() - began)
            asked = lay_out(scene, cell.point)
            wanted = {host: goal(scene, host, cell.point) for host in scene.hosts}
            how = (at_module if step else at_guard)(scene, cell, trap, asked)
            ended(scene, cell, wanted)
    except BaseException as failed:
        failed.add_note(f"{cell} in {scene.guard.folder}: {[scene.containers(host) for host in scene.hosts]}")
        raise
    finally:
        scene.clear()
    return Survived(cell, how, time.monotonic() - began)


# -- how a point comes about


def lay_out(scene: Scene, point: str) -> list[str]:
    """Deploy so that the point is reached; returns what is asked of guard."""
    to = {"undo:stop-new": SICK}.get(point, EXITS) if point in GOES_BACK else OLD
    if point == "pull":
        return only_in_registry(scene)
    scene.tag(NOW, to)
    if point == "pin-target":
        for host in scene.hosts:  # its only tag moves on
            host.load(web_image(f"{scene.repository}:{OLD}", labels={"only": scene.name}))
        nameless = scene.image(scene.hosts[0], OLD)
        scene.tag(SICK, OLD)
        for host in scene.hosts:
            host.docker("tag", f"web:{SICK}", f"{scene.repository}:{OLD}")
        scene.run(NOW)
        return ["rollback", scene.name, "--to", nameless]
    scene.run(NOW, rm=point == "create-spare")
    if point == "connect-new":
        for host in scene.hosts:
            host.docker("network", "create", "second", check=False)
            host.docker("network", "connect", "second", scene.name)
    return ["rollback", scene.name, "--to", f"{scene.repository}:{to}"]


def only_in_registry(scene: Scene) -> list[str]:
    """The earlier release is on record with its digest, and on no host any more."""
    reference = f"{scene.repository}:{OLD}"
    first, *others = scene.hosts
    first.load(web_image(reference, labels={"only": scene.name}))
    first.docker("push", "--quiet", reference)
    for host in others:
        host.docker("pull", "--quiet", reference)
    scene.run(OLD)
    assert scene.guard("snapshot", scene.name).code == 0
    scene.tag(NOW)
    image = scene.image(first, OLD)
    scene.run(NOW)
    for host in scene.hosts:
        host.docker("rmi", "--force", image)
    return ["rollback", scene.name]


def goal(scene: Scene, host: Machine, point: str) -> str:
    """What has to run in the end: for a target that does not hold, what ran before."""
    if point in GOES_BACK:
        return scene.image(host, NOW)
    if point in ("pull", "pin-target"):
        return "other than " + scene.image(host, NOW)
    return scene.image(host, OLD)


# -- reaching it, and the kill


def at_module(scene: Scene, cell: Cell, trap: Trap, asked: Sequence[str]) -> str:
    struck = scene.hosts[0]
    guard = scene.guard.start(*asked)
    reached = trap.reached.wait(90)
    assert reached, (guard.poll(), scene.journal(struck), trap.changes)
    at_that_moment(scene, cell)
    frozen = victims.session(scene, struck) if trap.last else []
    if trap.last:  # the module writes its last line and answers, and nobody hears it
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        trap.over.set()
        until(lambda: scene.step(struck) == "done", "the last step")
    strike(scene, cell.victim, guard, frozen)
    trap.over.set()
    for pid in frozen:
        if victims.alive(pid):
            os.kill(pid, signal.SIGCONT)
    return end(scene, cell, guard)


def at_guard(scene: Scene, cell: Cell, trap: Trap, asked: Sequence[str]) -> str:
    mark = scene.guard.folder / "reached"
    wrapped = (sys.executable, str(PAUSED), cell.point, str(mark))
    if cell.point == "guard:lost":
        lose(scene, asked)
        asked = ["resume"]
    guard = scene.guard.start(*asked, program=wrapped)
    if cell.point == "shim:pid":
        until(lambda: list(scene.guard.state.glob("runs/rb-*/run-1/pid")), "a shim")
        os.kill(victims.shim(scene), signal.SIGSTOP)
    else:
        until(lambda: mark.exists() or guard.poll() is not None, cell.point, 90)
        assert mark.exists(), guard.communicate()
    at_that_moment(scene, cell)
    strike(scene, cell.victim, guard)
    if cell.point == "shim:pid" and cell.victim is not Victim.SHIM:
        os.kill(victims.shim(scene), signal.SIGCONT)
    mark.unlink(missing_ok=True)
    return end(scene, cell, guard)


def at_discard(scene: Scene, cell: Cell, trap: Trap) -> str:
    """What was prepared and is not wanted any more is taken back: the run that does it is killed, the next one ends it."""
    lay_out(scene, cell.point)
    entry(scene, "prepare", "rb-0")
    ending = ThreadPoolExecutor(1).submit(entry, scene, "discard", "rb-1")
    assert trap.reached.wait(90), trap.changes
    at_that_moment(scene, cell)
    if cell.victim is Victim.ENGINE:
        scene.hosts[0].kill_engine()
        scene.hosts[0].start_engine()
    else:
        strike(scene, cell.victim, None)
    trap.over.set()
    ending.result(60)
    entry(scene, "discard", "rb-2")
    if cell.victim is Victim.ENGINE:  # an engine that crashed leaves its containers stopped
        scene.hosts[0].docker("start", scene.name)
    for host in scene.hosts:
        assert scene.containers(host) == {scene.name: (True, scene.image(host, NOW))}
    return "run again"


def entry(scene: Scene, name: str, rollback: str) -> None:
    """Run one entry of the playbook by itself, as an armed rollback does, to its end."""
    shared = scene.inventory["web"]["vars"]
    hosts = [
        Host(name, {"inventory_hostname": name, **shared, **own})
        for name, own in scene.inventory["web"]["hosts"].items()
    ]
    plans = {}
    for machine, host in zip(scene.hosts, hosts, strict=True):
        plans[host.name] = {
            "service": scene.name,
            "container": scene.name,
            "engine": host.variables.get("guard_docker_host"),
            "run_id": "rb-0",  # a preparation is taken back by its own name only
            "fence": 1,
            "target": {"image": f"{scene.repository}:{OLD}", "image_id": scene.image(machine, OLD)},
            "backup_tag": "backup_20260101_000000",
        }
    spec = RunSpec(
        folder=run_folder(scene.guard.state, rollback, "run-1"),
        playbook=Catalog(()).resolve("container@1"),
        entry=name,
        hosts=tuple(hosts),
        variables={"guard_plans": plans, "guard_prepare_alone": True},
    )

    async def to_its_end() -> None:
        await (await start(spec)).wait(lambda _: None)

    asyncio.run(to_its_end())


def lose(scene: Scene, asked: Sequence[str]) -> None:
    """A guard and its shim are killed together: nobody is left to say what became of the run."""
    guard = scene.guard.start(*asked)
    until(lambda: list(scene.guard.state.glob("runs/rb-*/run-1/pid")), "a shim")
    shim = victims.shim(scene)
    os.kill(shim, signal.SIGSTOP)
    victims.kill(guard.pid, shim)


def strike(scene: Scene, victim: Victim, guard: subprocess.Popen[str] | None, session: Sequence[int] = ()) -> None:
    struck = scene.hosts[0]
    if victim is Victim.GUARD:
        assert guard is not None
        guard.kill()
        guard.wait()
    elif victim is Victim.SHIM:
        victims.kill(victims.shim(scene))
    elif victim is Victim.ANSIBLE:
        victims.kill(victims.ansible(scene))
    elif victim is Victim.MODULE:
        victims.kill(victims.module(scene, struck))
    elif victim is Victim.SSH:
        victims.kill(*(session or victims.session(scene, struck)))
    else:
        struck.kill_engine()


def end(scene: Scene, cell: Cell, guard: subprocess.Popen[str]) -> str:
    """Let everything that still lives come to its end, then resume what is open. Says who finished it."""
    if cell.victim is Victim.ENGINE:
        scene.hosts[0].start_engine()
    still = scene.hosts[1:] if cell.victim is Victim.ENGINE else scene.hosts  # a crashed engine's own stay stopped
    until(lambda: all(scene.running(host) for host in still), "something to run on every host", REPAIR_S)
    try:
        out, err = guard.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        guard.kill()
        raise AssertionError(f"guard did not end: {guard.communicate()}") from None
    records = scene.rollbacks()
    if cell.point == "guard:decided" and not records:
        raise AssertionError("the intent was not on record")
    if is_over(records):
        return "before the kill" if cell.point in ("guard:ended", "guard:reverted") else "by itself"
    adopted = ""
    for attempt in range(1, 4):
        resumed = scene.guard("resume")
        if "the run is still alive" in resumed.stderr:
            adopted = "adopted, "
        assert resumed.code in (0, 5), (out, err, resumed)
        if is_over(scene.rollbacks()):
            return f"{adopted}resume" + (f" in {attempt} goes" if attempt > 1 else "")
    raise AssertionError(f"not over after three times guard resume: {resumed}\n{out}\n{err}")


def is_over(records: Sequence[dict[str, Any]]) -> bool:
    open_ = {HostState.UNREACHABLE.value, HostState.PLANNED.value}
    hosts = [host for record in records for host in record["hosts"].values()]
    return all(record["ended_at"] for record in records) and not any(host["state"] in open_ for host in hosts)


# -- what has to hold


def at_that_moment(scene: Scene, cell: Cell) -> None:
    for host in scene.hosts:
        now = scene.containers(host)
        alive = [name for name, (is_running, _) in now.items() if is_running]
        assert len(alive) <= 1, f"two run on {host.name}: {now}"
        if host is scene.hosts[0] and cell.point in DOWN_AT:
            continue
        if not alive:  # the other host may be in the middle of its own swap
            until(lambda host=host: scene.running(host), f"something to run on {host.name}", 20)


def ended(scene: Scene, cell: Cell, wanted: dict[Machine, str]) -> None:
    for host, image in wanted.items():
        now = scene.containers(host)
        assert list(now) == [scene.name], f"{host.name}: {now}"
        is_running, found = now[scene.name]
        assert is_running, f"{host.name}: {now}"
        assert (found not in image) if image.startswith("other") else (found == image), (host.name, found, image)
    records = scene.rollbacks()
    assert len(records) == 1, records
    record = scene.guard.json("history", records[0]["id"]).json
    good = ("reverted", "failed", "skipped") if cell.point in GOES_BACK else ("restored",)
    assert record["outcome"] == ("failed" if cell.point in GOES_BACK else "restored"), record
    assert set(record["hosts"]) == {host.name for host in scene.hosts}
    for name, host in record["hosts"].items():
        assert host["state"] in good, (name, record)
        assert host["from"]["image_id"] and host["to"]["image_id"], (name, host)
        assert host["from"]["image_id"] != host["to"]["image_id"], (name, host)
        if host["state"] == "restored":
            assert host["backup_tag"], (name, host)
    artifacts_are_complete(scene)


def artifacts_are_complete(scene: Scene) -> None:
    runs = scene.runs()
    assert runs
    for run in runs:
        assert (run.parent / "plan.json").exists()
        assert (run / "result.json").exists(), f"{run} has no result: {sorted(path.name for path in run.iterdir())}"
        for passing in ("inventory.yml", "vars.yml", "secrets.json"):
            assert not (run / passing).exists(), run / passing
    for path in scene.guard.state.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
