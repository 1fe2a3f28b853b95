"""One throw-away host: its own mount, pid and uts namespaces, an overlay view of this machine's root, an sshd and an
engine of its own. Ending its pid 1 is a power cut; its disk (overlay and engine data) survives that.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from guard.demo.base import BaseHost, interpreter
from guard.demo.ground import SSH_PORT, FleetError, Ground, run, wait_until
from guard.demo.image import image_id

_START_SSHD = "/usr/sbin/sshd -f /etc/ssh/fleet_sshd_config"
_START_ENGINE = "setsid dockerd </dev/null >>/var/log/dockerd.log 2>&1 &"
_SSHD = ("sshd", "sshd-session", "sshd-auth")  # OpenSSH 9.8 split it into three programs
_NAMESPACES = ("--mount", "--uts", "--pid")
_READY_SECONDS = 60.0  # 2 busy cores and 30 engines need a while

_SSHD_CONFIG = """\
ListenAddress {address}:{port}
HostKey /etc/ssh/fleet_host_key
AuthorizedKeysFile /etc/ssh/fleet_authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
MaxStartups 200
MaxSessions 100
PidFile /run/sshd.pid
Subsystem sftp internal-sftp
"""


class Host(BaseHost):
    """A host of a Fleet. Made by the fleet: ``prepare``, ``power_on`` and ``wait_ready``, in this order."""

    def __init__(
        self,
        ground: Ground,
        name: str,
        index: int,
        *,
        engine_of: Host | None = None,
        engine_index: int | None = None,
        sshd: bool = True,
    ) -> None:
        self.name = name
        self.index = index
        self.address = ground.address(index)
        self.ssh_port = SSH_PORT
        self.folder = ground.folder / name
        self._ground = ground
        self._engine_of = engine_of
        self._engine_index = engine_index or index
        self._sshd = sshd
        self._init: subprocess.Popen[bytes] | None = None

    # -- where things are

    @property
    def docker_socket(self) -> str:
        """Path of the engine's socket as this machine sees it; inside the host it is /run/docker.sock."""
        return str((self._engine_of or self).folder / "run/docker.sock")

    @property
    def engine_log(self) -> Path:
        return (self._engine_of or self).folder / "upper/var/log/dockerd.log"

    def container(self, name: str = "web") -> str:
        return f"{name}-{self.index}" if self._engine_of else name

    def outside_port(self, port: int) -> int:
        return port

    def published(self, port: int) -> str:
        # On an engine of its own the address is the engine's default; a shared one must be told.
        return f"{self.address}:{port}" if self._engine_of else str(port)

    # -- life

    def prepare(self, public_key: str, host_key: Path, engine: Mapping[str, object]) -> None:
        """Lay out the host's disk. ``engine`` is added to the engine's configuration file."""
        for part in ("upper", "work", "root", "run", "docker"):
            (self.folder / part).mkdir(mode=0o755, parents=True)
        self._write("etc/hostname", self.name + "\n")
        self._write("etc/hosts", f"127.0.0.1 localhost\n{self.address} {self.name}\n")
        self._write("etc/ssh/fleet_sshd_config", _SSHD_CONFIG.format(address=self.address, port=SSH_PORT))
        self._write("etc/ssh/fleet_authorized_keys", public_key)
        self._write("etc/ssh/fleet_host_key", host_key.read_text(), mode=0o600)
        # A root whose password is locked with "!" may not log in by key either; with "*" it may.
        shadow = re.sub(r"^root:[^:]*", "root:*", Path("/etc/shadow").read_text(), flags=re.MULTILINE)
        self._write("etc/shadow", shadow, mode=0o600)
        scripts = resources.files("guard.demo")
        self._write("etc/fleet_init.py", scripts.joinpath("init.py").read_text())
        (self.folder / "boot.sh").write_text(scripts.joinpath("boot.sh").read_text())
        for mount_point in ("var/lib/docker", "var/log", "srv/engine", ".outside"):
            (self.folder / "upper" / mount_point).mkdir(parents=True, exist_ok=True)
        # The machine's own /root stays out: its .bashrc would run in every session. (Seen: `pyenv init` there waits a
        # minute for a lock file that the overlay goes on showing after it is gone below.)
        home = self.folder / "upper/root"
        home.mkdir(mode=0o700)
        os.setxattr(home, "trusted.overlay.opaque", b"y")
        if self._engine_of:
            (self.folder / "shared").symlink_to(self._engine_of.folder / "run")
        else:
            self._write("etc/docker/daemon.json", json.dumps({**self._engine_config(), **engine}, indent=1))
            self._make_bridge()

    def power_on(self) -> None:
        """Boot; returns at once, see ``wait_ready``. /run is empty after a boot, as on any host."""
        self.power_cut()
        for leftover in sorted((self.folder / "run").rglob("*"), reverse=True):
            leftover.rmdir() if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()
        (self.folder / "run/sshd").mkdir(mode=0o755)
        services = [_START_SSHD] if self._sshd else []
        if self._engine_of:
            (self.folder / "run/docker.sock").symlink_to("/srv/engine/docker.sock")
        else:
            services.append(_START_ENGINE)
        services_line = "\n".join(services)
        boot = ["sh", str(self.folder / "boot.sh"), str(self.folder), self.name, services_line, interpreter()]
        with (self.folder / "boot.log").open("ab") as log:
            self._init = subprocess.Popen(
                ["unshare", *_NAMESPACES, "--fork", "--kill-child", "--", *boot, *_other_file_systems()],
                stdin=subprocess.PIPE,  # never written to: the host ends when it closes, see init.py
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the owner, which then ends the host in good order
            )

    def wait_ready(self) -> None:
        """Wait until sshd answers with its banner and the engine with a pong; FleetError after a minute."""
        wait_until(self._has_booted, _READY_SECONDS, f"host {self.name} to boot: {self._log()}")
        if self._sshd:
            self._wait_sshd()
        if not self._engine_of:
            self._wait_engine()

    def power_cut(self) -> None:
        """End pid 1 and with it, at once and without a word, every process of the host. Twice is fine."""
        if self._init is None:
            return
        if self._init.poll() is None:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):
                os.kill(self._pid(), signal.SIGKILL)
        assert self._init.stdin is not None  # noqa: S101 - opened as a pipe above
        self._init.stdin.close()
        self._init.wait(timeout=20)
        self._init = None
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "pid").unlink()

    def revive(self) -> None:
        """Undo whatever of the below was done to the host: power, frozen sessions, sshd, engine."""
        if self._init is None or self._init.poll() is not None:
            self.power_on()
            self.wait_ready()
            return
        self.thaw()
        if self._sshd and not self._processes(*_SSHD):
            self.start_sshd()
        if not self._engine_of and not self._processes("dockerd"):
            self.start_engine()

    def clear(self, images: Mapping[str, bytes]) -> None:
        """As if new: powered on, exactly these images (by reference, as ``load`` takes them), no container, network,
        or memory of guard."""
        self.revive()
        if containers := self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", "--volumes", *containers)
        wanted = {f"{reference} {image_id(image)}": image for reference, image in images.items()}
        listing = self.docker("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines()
        strangers = [line.split() for line in listing if line not in wanted]
        if strangers:
            references = [reference if "<none>" not in reference else ident for reference, ident in strangers]
            self.docker("rmi", "--force", *references)
        for line, image in wanted.items():
            if line not in listing:
                self.load(image)
        self.docker("network", "prune", "--force")
        # The restore module keeps the last fence number on the host; a new store counts from 1 again.
        self.exec(["sh", "-c", "rm -rf /var/lib/guard /run/guard /root/.ansible"])

    # -- the engine

    def docker(
        self,
        *args: str,
        check: bool = True,
        input: str | bytes | None = None,
    ) -> str:
        return run("docker", "-H", f"unix://{self.docker_socket}", *args, check=check, given=input).strip()

    def kill_engine(self) -> None:
        """SIGKILL for dockerd, which takes its containerd and the published ports with it; containers run on."""
        for pid in self._processes("dockerd"):
            os.kill(pid, signal.SIGKILL)
        wait_until(
            lambda: not self._processes("dockerd", "containerd", "docker-proxy"), 10, f"{self.name}'s engine to end"
        )

    def start_engine(self) -> None:
        """Start the engine and wait until it answers."""
        self.exec(["sh", "-c", _START_ENGINE])
        self._wait_engine()

    # -- sshd

    def stop_sshd(self) -> None:
        """End sshd and every open session at once; what the sessions had started runs on."""
        for pid in self._processes(*_SSHD):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self._processes(*_SSHD), 10, f"{self.name}'s sshd to end")

    def start_sshd(self) -> None:
        self.exec(["sh", "-c", _START_SSHD])
        self._wait_sshd()

    def freeze(self) -> None:
        """Stop sshd, its sessions and all that they started: connections stay open and nothing answers."""
        self._signal_sessions(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_sessions(signal.SIGCONT)

    # -- inside

    def exec(self, argv: Sequence[str], *, check: bool = True, given: str | bytes | None = None) -> str:
        """Run a command inside the host as root; its stdout."""
        target = ("--target", str(self._pid()), *_NAMESPACES, "--root", "--wd")
        return run("nsenter", *target, "--", *argv, check=check, given=given)

    # -- below this line nothing is for users of the class

    def _write(self, path: str, content: str, mode: int = 0o644) -> None:
        file = self.folder / "upper" / path
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        file.touch(mode)
        file.write_text(content)

    def _engine_config(self) -> dict[str, object]:
        """The engine's own bridge, addresses and control group, and no hand on the machine's firewall."""
        return {
            "hosts": ["unix:///run/docker.sock"],
            "bridge": self._ground.bridge(self._engine_index),
            "default-address-pools": [{"base": str(self._ground.network_pool(self._engine_index)), "size": 28}],
            "ip": self.address,
            "iptables": False,
            "ip-masq": False,
            "ip-forward": False,
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": f"/{self._ground.cgroup}/{self.name}",
            "log-level": "warn",
        }

    def _make_bridge(self) -> None:
        name, subnet = self._ground.bridge(self._engine_index), self._ground.bridge_subnet(self._engine_index)
        steps = (
            f"link add name {name} type bridge",
            f"addr add {subnet[1]}/{subnet.prefixlen} dev {name}",
            f"link set {name} up",
        )
        run("ip", "-batch", "-", given="\n".join(steps) + "\n")

    def _pid(self) -> int:
        return int((self.folder / "pid").read_text())

    def _has_booted(self) -> bool:
        """True once init itself runs, so that all mounts are in place; FleetError when booting failed."""
        if self._init is None or self._init.poll() is not None:
            raise FleetError(f"host {self.name} did not boot: {self._log()}")
        try:
            return Path(f"/proc/{self._pid()}/comm").read_text().startswith("python")
        except (FileNotFoundError, ValueError):
            return False

    def _log(self) -> str:
        file = self.folder / "boot.log"
        return file.read_text(errors="replace")[-1000:].strip() if file.exists() else ""

    def _wait_sshd(self) -> None:
        def answers() -> bool:
            try:
                with socket.create_connection((self.address, SSH_PORT), timeout=5) as connection:
                    return connection.recv(4) == b"SSH-"
            except OSError:
                return False

        wait_until(answers, _READY_SECONDS, f"sshd of {self.name}: {self._log()}")

    def _wait_engine(self) -> None:
        wait_until(self._engine_answers, _READY_SECONDS, f"the engine of {self.name}, see {self.engine_log}")

    def _engine_answers(self) -> bool:
        if not self._processes("dockerd", "setsid", "sh"):  # setsid and sh: not yet turned into dockerd
            tail = self.engine_log.read_text(errors="replace")[-1000:] if self.engine_log.exists() else ""
            raise FleetError(f"the engine of {self.name} has ended: {tail}")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            try:
                connection.connect(self.docker_socket)
                connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
                return b" 200 " in connection.recv(64)
            except OSError:
                return False

    def _processes(self, *names: str) -> list[int]:
        """Pids (as this machine counts) of the host's processes with one of these names."""
        return [pid for pid, name in _descendants(self._pid()).items() if name in names]

    def _signal_sessions(self, number: signal.Signals) -> None:
        for root in self._processes(*_SSHD):
            for pid in (root, *_descendants(root)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)


def _descendants(root: int) -> dict[int, str]:
    """Pid and name of every living process below ``root``."""
    children: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            head, _, tail = stat.read_text().rpartition(")")
            state, parent = tail.split()[:2]
            if state not in "ZX":
                pid = int(stat.parent.name)
                names[pid] = head.partition("(")[2]
                children.setdefault(int(parent), []).append(pid)
    found: dict[int, str] = {}
    waiting = children.get(root, [])
    while waiting:
        pid = waiting.pop()
        found[pid] = names[pid]
        waiting.extend(children.get(pid, []))
    return found


def _other_file_systems() -> list[str]:
    """Mount points of disks besides the root's: the overlay shows only the root's own file system."""
    disks = {"ext4", "ext3", "xfs", "btrfs", "zfs", "f2fs", "9p", "virtiofs"}
    hidden = ("/proc", "/sys", "/dev", "/run", "/tmp", "/boot", "/var/lib/docker")  # noqa: S108 - names, not use
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point, kind = line.split()[4], line.partition(" - ")[2].split()[0]
        inside = any(point == path or point.startswith(path + "/") for path in hidden)
        if kind in disks and point != "/" and not inside and Path(point).is_dir():
            points.append(point)
    return points
