"""A fleet for machines with a Docker engine and no root: its hosts are only containers on that engine.

Ansible reaches them by local connections. The engine belongs to somebody, so everything made on it carries this run's
label, and only what carries it is ever removed: containers, and images with all their tags. What a killed run left
behind is told by the label too, and swept by the next one.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from guard.demo.base import SERVICE_PORT, BaseFleet, BaseHost, interpreter
from guard.demo.ground import FleetError, run, started_at
from guard.demo.image import static_busybox

_LABEL = "guard.demo"
_FIRST_PORT = 18081


class LocalHost(BaseHost):
    """A "host" that is one container's name and one port of 127.0.0.1."""

    def __init__(self, ident: str, index: int, port: int, docker_socket: str) -> None:
        self.name = f"web{index}"
        self.index = index
        self.address = "127.0.0.1"
        self.docker_socket = docker_socket
        self._ident = ident
        self._port = port

    def container(self, name: str = "web") -> str:
        return f"guard-demo-{self._ident}-{name}-{self.index}"

    def outside_port(self, port: int) -> int:
        if port != SERVICE_PORT:
            raise FleetError(f"a container of a local fleet publishes port {SERVICE_PORT} only, not {port}")
        return self._port

    def published(self, port: int) -> str:
        return f"{self.address}:{self.outside_port(port)}"

    def docker(self, *args: str, check: bool = True, input: str | bytes | None = None) -> str:
        return run("docker", "-H", f"unix://{self.docker_socket}", *args, check=check, given=input).strip()


class LocalFleet(BaseFleet[LocalHost]):
    """``size`` containers on the engine at ``docker_socket`` (default: $DOCKER_HOST, else /var/run/docker.sock)."""

    def __init__(self, size: int = 3, docker_socket: str | None = None) -> None:
        super().__init__()
        self._size = size
        self._socket = docker_socket
        self._ident = secrets.token_hex(2)
        self._owner = f"{self._ident}.{_boot()}.{os.getpid()}.{started_at(os.getpid())}"
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        if self._folder is None:
            raise FleetError("the fleet is not running")
        return self._folder

    @property
    def repository(self) -> str:
        return f"guard-demo-{self._ident}/web"

    # -- below this line nothing is for users of the class

    def _bring_up(self) -> None:
        self._socket = self._socket or _engine_socket()
        if shutil.which("docker") is None:
            raise FleetError("there is no docker command on this machine", hint="install the Docker command line")
        static_busybox()
        try:
            self._docker("version")
        except FleetError as error:
            raise FleetError(
                f"the Docker engine at {self._socket} cannot be used: {error.message}",
                hint="start it, join the group that owns its socket, or run as root: then no engine is needed",
            ) from error
        self._sweep()
        self._folder = Path(tempfile.mkdtemp(prefix="guard-demo-"))
        ports = _free_ports()
        self.hosts = [LocalHost(self._ident, index, next(ports), self._socket) for index in range(1, self._size + 1)]
        lines = ["web:", "  hosts:"]
        for host in self.hosts:
            lines += [f"    {host.name}:", f"      container_name: {host.container()}"]
            lines += [f"      web_port: {host.outside_port(SERVICE_PORT)}"]
        lines += [
            "  vars:",
            "    ansible_connection: local",
            "    ansible_host: 127.0.0.1",
            f"    ansible_python_interpreter: {interpreter()}",
        ]
        self.inventory.write_text("\n".join(lines) + "\n")

    def _take_down(self) -> None:
        if self._folder is None:
            return
        self._remove(self._owner)
        shutil.rmtree(self._folder)
        self._folder = None

    def _one_host_per_engine(self) -> Sequence[LocalHost]:
        return self.hosts[:1]

    def _image_labels(self) -> Mapping[str, str]:
        return {_LABEL: self._owner}

    def _docker(self, *args: str) -> str:
        return run("docker", "-H", f"unix://{self._socket}", *args).strip()

    def _sweep(self) -> None:
        """Remove what runs of this machine left whose process is gone; labels of other machines are not judged."""
        listed = f'{{{{.Label "{_LABEL}"}}}}'
        owners = set(self._docker("ps", "--all", "--filter", f"label={_LABEL}", "--format", listed).splitlines())
        for image in self._docker("images", "--quiet", "--filter", f"label={_LABEL}").split():
            owners.add(self._docker("inspect", "--format", f'{{{{index .Config.Labels "{_LABEL}"}}}}', image))
        for owner in owners:
            _, boot, pid, started = owner.split(".")
            if boot == _boot() and str(started_at(int(pid))) != started:
                self._remove(owner)

    def _remove(self, owner: str) -> None:
        marked = ("--quiet", "--filter", f"label={_LABEL}={owner}")
        if containers := self._docker("ps", "--all", *marked).split():
            self._docker("rm", "--force", "--volumes", *containers)
        if images := set(self._docker("images", *marked).split()):
            self._docker("rmi", "--force", *sorted(images))


def _boot() -> str:
    """Pids mean something only on this machine since its last start."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _engine_socket() -> str:
    """The socket that $DOCKER_HOST names; FleetError when it is no unix socket, since ports must be on this machine."""
    address = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if not address.startswith("unix://"):
        raise FleetError(
            f"the engine at DOCKER_HOST={address} may be on another machine, and the demo needs its ports on this one",
            hint="unset DOCKER_HOST, or set it to unix://PATH of an engine on this machine",
        )
    return address.removeprefix("unix://")


def _free_ports() -> Iterator[int]:
    for port in range(_FIRST_PORT, 65536):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port
    raise FleetError("no free port on 127.0.0.1 above 18080", hint="end some process that listens there")
