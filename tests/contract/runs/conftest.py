"""Real ansible-runner runs with small playbooks; a real sshd where a connection matters."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from guard.model import Host
from guard.rollback.catalog import Installed, load, write_digest
from guard.rollback.workdir import RunSpec, run_folder

MODULE = r'''#!/usr/bin/python3
import json, os, signal, sys, time
ARGUMENTS = r"""<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>"""
plan = json.loads(ARGUMENTS)["plan"]
if plan.get("stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.setsid() if os.getpgrp() != os.getpid() else None
if plan.get("pid_file"):
    with open(plan["pid_file"], "w") as file:
        file.write(str(os.getpid()))
if plan.get("sleep"):
    time.sleep(plan["sleep"])
if plan.get("done_file"):
    open(plan["done_file"], "w").close()
result = {
    "changed": True, "state": plan.get("state", "restored"), "error": plan.get("error"), "steps": [],
    "from": {"image": "web:2", "image_id": "sha256:old"},
    "to": {"image": plan.get("image", "web:1"), "image_id": plan.get("image_id", "sha256:new")},
    "backup_tag": "backup_20261123_120000", "downtime_s": 0.2, "container_id": "c1", "log_tail": plan.get("log"),
}
if result["state"] in ("failed", "reverted"):
    result.update(failed=True, msg=result["error"])
print(json.dumps(result))
'''
RESTORE = """
- hosts: all
  gather_facts: false
  serial: "{{ guard_batches | default(['100%']) }}"
  max_fail_percentage: 0
  tasks:
    - name: Restore
      fake_restore:
        plan: "{{ guard_plans[inventory_hostname] }}"
"""


@dataclass
class Runs:
    """Makes specs of runs below one state folder."""

    state_dir: Path
    playbooks: Path
    count: int = 0

    def playbook(self, text: str = RESTORE) -> Installed:
        self.count += 1
        folder = self.playbooks / "test" / f"1.0.{self.count}"
        (folder / "library").mkdir(parents=True)
        (folder / "library" / "fake_restore.py").write_text(MODULE)
        (folder / "restore.yml").write_text(text)
        (folder / "manifest.yml").write_text(f'name: test\nversion: "1.0.{self.count}"\n')
        write_digest(folder)
        return load(folder)

    def spec(
        self,
        plans: dict[str, dict[str, object]],
        text: str = RESTORE,
        hosts: tuple[Host, ...] | None = None,
        timeout_s: float = 60.0,
        secrets: tuple[str, ...] = (),
        **variables: object,
    ) -> RunSpec:
        playbook = self.playbook(text)
        return RunSpec(
            folder=run_folder(self.state_dir, f"rb-{self.count}", "restore"),
            playbook=playbook,
            entry="restore",
            hosts=hosts or tuple(local(name) for name in plans),
            variables={"guard_plans": plans, **variables},
            targets=dict.fromkeys(plans, "sha256:new"),
            timeout_s=timeout_s,
            secrets=secrets,
        )


def local(name: str, **variables: object) -> Host:
    return Host(name, {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **variables})


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    (tmp_path / "state").mkdir()
    return Runs(tmp_path / "state", tmp_path / "playbooks")


@dataclass
class Sshd:
    """An sshd of its own on a loopback address, with keys of its own."""

    folder: Path
    address: str
    port: int
    process: subprocess.Popen[bytes]

    def host(self, name: str = "far") -> Host:
        options = f"-o UserKnownHostsFile={self.folder}/known_hosts -o StrictHostKeyChecking=yes -F /dev/null"
        return Host(
            name,
            {
                "ansible_host": self.address,
                "ansible_port": self.port,
                "ansible_user": getpass.getuser(),
                "ansible_ssh_private_key_file": f"{self.folder}/client",
                "ansible_ssh_common_args": options,
                "ansible_python_interpreter": sys.executable,
            },
        )

    def forget(self) -> None:
        """Known hosts now hold another key for this address."""
        make_key(self.folder / "other")
        pin(self.folder, self.address, self.port, "other")


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def pin(folder: Path, address: str, port: int, key: str) -> None:
    public = (folder / f"{key}.pub").read_text()
    (folder / "known_hosts").write_text(f"[{address}]:{port} {public}")


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    folder = tmp_path / "sshd"
    folder.mkdir(mode=0o700)
    make_key(folder / "client")
    make_key(folder / "server")
    shutil.copy(folder / "client.pub", folder / "authorized_keys")
    address = "127.0.0.77"
    with socket.socket() as probe:
        probe.bind((address, 0))
        port = probe.getsockname()[1]
    pin(folder, address, port, "server")
    (folder / "config").write_text(
        f"ListenAddress {address}:{port}\nHostKey {folder}/server\nAuthorizedKeysFile {folder}/authorized_keys\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "openssh-server is not installed"
    process = subprocess.Popen([program, "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.DEVNULL)
    wait_for(lambda: is_open(address, port))
    yield Sshd(folder, address, port, process)
    for pid in [*below(process.pid), process.pid]:
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGKILL)
    process.wait()


def below(pid: int) -> tuple[int, ...]:
    from guard.rollback.processes import descendants

    return descendants(pid)


def is_open(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return False
    return True


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Poll until it holds: what is awaited here happens in other processes."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.01)
