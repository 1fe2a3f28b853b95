"""Finding who is to be killed, by what they themselves wrote down, and nobody else."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

from guard.demo.host import Host
from guard.rollback import processes

from .scene import Scene


def until(happened: Callable[[], object], what: str, seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    return status(pid).get("State", "Z")[0] not in "ZX"


def status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in pids), f"the end of {pids}")


def shim(scene: Scene, run: str = "run-1") -> int:
    """The process that the newest rollback's run belongs to."""
    file = max(scene.guard.state.glob(f"runs/rb-*/{run}/pid"))
    return int(json.loads(file.read_text())["pid"])


def ansible(scene: Scene) -> int:
    """ansible-playbook itself, the parent of the processes that speak to hosts."""
    children = processes.descendants(shim(scene))
    playing = [pid for pid in children if b"ansible-playbook" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return next(pid for pid in playing if int(status(pid)["PPid"]) not in playing)


def module(scene: Scene, host: Host) -> int:
    """The module's Python on the host, as this machine counts processes: the lock on the host names its pid there."""
    lock = next((host.folder / "upper/var/lib/guard").glob(f"{scene.name}*.lock"))
    found = re.search(r"pid (\d+)", lock.read_text())
    assert found, lock.read_text()
    init = int((host.folder / "pid").read_text())
    mine = [pid for pid in processes.descendants(init) if status(pid).get("NSpid", "").split()[-1:] == [found[1]]]
    assert len(mine) == 1, (found[1], mine)
    return mine[0]


def session(scene: Scene, host: Host) -> list[int]:
    """The sshd processes of the session that the module runs in, and not the one that listens."""
    found, pid = [], module(scene, host)
    while (above := status(pid).get("PPid")) is not None and int(above) > 1:
        pid = int(above)
        if status(pid).get("Name", "").startswith("sshd"):
            found.append(pid)
    return found[:-1]
