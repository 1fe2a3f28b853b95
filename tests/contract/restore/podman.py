"""A Podman of its own, spoken to through its Docker-compatible socket as guard does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

from .conftest import SERVE, Dockerd, clear, packed_root

# Limits low enough for any machine, no systemd, nothing shared with the machine's own containers.
CONTAINERS = """
[containers]
default_ulimits = ["nofile=512:1024", "nproc=100:100"]
init_path = "/usr/bin/tini-static"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
events_logfile_path = "{folder}/events"
runtime = "runc"
init_path = "/usr/bin/tini-static"
"""
STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n'


class Podman(Dockerd):
    """As ``Dockerd``, with the podman command in place of docker's: they take the same words here."""

    def __init__(self) -> None:
        super().__init__()
        self.bridge = f"grp{os.getpid() % 100000}"
        self.subnet = f"172.30.{os.getpid() % 250}"

    def start(self) -> None:
        (self.folder / "networks").mkdir(exist_ok=True)
        (self.folder / "containers.conf").write_text(CONTAINERS.format(folder=self.folder))
        (self.folder / "storage.conf").write_text(STORAGE.format(folder=self.folder))
        default = {"name": "podman", "id": "2f" * 32, "driver": "bridge", "network_interface": self.bridge}
        default |= {"subnets": [{"subnet": f"{self.subnet}.0/24", "gateway": f"{self.subnet}.1"}]}
        default |= {"ipam_options": {"driver": "host-local"}, "created": "2026-01-01T00:00:00Z"}
        (self.folder / "networks/podman.json").write_text(json.dumps(default))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "podman", "system", "service", "--time=0", f"unix://{self.socket}"],
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + 30
        while not self.socket.exists():
            assert time.monotonic() < deadline and self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.05)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": self.path,
            "HOME": str(self.folder),
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }

    def docker(self, *arguments: str, content: bytes | None = None) -> str:
        done = subprocess.run(["podman", *arguments], env=self.environment, input=content, capture_output=True)
        assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr.decode()}"
        return done.stdout.decode().strip()

    def reset(self) -> None:
        self.docker("rm", "--all", "--force", "--volumes", "--time", "0")
        self.docker("volume", "rm", "--all", "--force")
        for network in self.docker("network", "ls", "--quiet").split():
            if network != "podman":
                self.docker("network", "rm", network)

    def end(self) -> None:
        self.reset()
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(30)
        clear(self.folder, self.bridge)

    def image(self, tag: str, *changes: str, script: str = SERVE) -> str:
        arguments = [part for line in ('CMD ["/bin/sh", "/run.sh"]', *changes) for part in ("--change", line)]
        identity = self.docker(
            "import", "--quiet", *arguments, "-", tag, content=packed_root(tag, script)
        ).splitlines()[-1]
        return identity if identity.startswith("sha256:") else f"sha256:{identity}"
