"""A real engine of its own for the restore module, and the module run as Ansible runs it: as a program on stdin."""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PLAYBOOKS = Path(__file__).parents[3] / "playbooks" / "container" / "1.0.0"
MODULE = PLAYBOOKS / "library" / "guard_container.py"
SERVE = "#!/bin/sh\ntrap 'exit 0' TERM INT\nhttpd -f -p 80 -h /srv &\nwait\n"

pytest.register_assert_rewrite(f"{__package__}.fields")

Json = dict[str, Any]

OLD_IMAGE = (
    "ENV FROM_IMAGE=old SHARED=old OVERRIDDEN=image",
    "LABEL from.image=old both=image",
    "EXPOSE 80 8081",
    "VOLUME /image-volume",
    "WORKDIR /srv",
    "USER 0",
    "STOPSIGNAL SIGINT",
    'ENTRYPOINT ["/bin/sh"]',
    'CMD ["/run.sh"]',
    "HEALTHCHECK --interval=7s --timeout=3s CMD /bin/true",
)
NEW_IMAGE = (
    "ENV FROM_IMAGE=new SHARED=new OVERRIDDEN=image2 ONLY_NEW=yes",
    "LABEL from.image=new both=image2",
    "EXPOSE 80 8082",
    "VOLUME /new-volume",
    "WORKDIR /data",
    "USER root",
    "STOPSIGNAL SIGTERM",
    'ENTRYPOINT ["/bin/busybox", "sh"]',
    'CMD ["/run.sh"]',
    "HEALTHCHECK --interval=9s --timeout=4s CMD /bin/busybox true",
)

# The distribution's engine, and the newest that runs here (fetched by .ci/newer-engine): folders before PATH.
NEWER = Path(__file__).parents[3] / ".cache" / "newer-engine"
ENGINES: dict[str, tuple[Path, ...]] = {"distribution": ()}
if (NEWER / "usr/sbin/dockerd").exists():
    ENGINES["newest"] = (NEWER / "usr/sbin", NEWER / "usr/bin")
elif not (NEWER / "none").exists():
    raise RuntimeError("run .ci/setup test first: it fetches a newer engine, or says why there is none")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every engine for modules with ``ON_EVERY_ENGINE = True``, or the tests they name there or in ON_NEWER_ENGINES."""
    if "dockerd" in metafunc.fixturenames:
        named = getattr(metafunc.module, "ON_EVERY_ENGINE", ())
        on = list(ENGINES) if named is True or metafunc.function.__name__ in (named or ()) else ["distribution"]
        if metafunc.function.__name__ in getattr(metafunc.module, "ON_NEWER_ENGINES", ()):
            on = list(ENGINES)[1:]
        metafunc.parametrize("dockerd", on, indirect=True, scope="session")


def clear(folder: Path, bridge: str) -> None:
    """Take away what an ended dockerd leaves: mounts, bridge, data."""
    for mount in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if mount.split()[1].startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", mount.split()[1]], check=False)
    subprocess.run(["ip", "link", "delete", bridge], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def sweep() -> None:
    """Clear up after test runs that were killed (their dockerd ended with them)."""
    for folder in Path(tempfile.gettempdir()).glob("guard-restore-*-*"):
        owner = folder.name.split("-")[2]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            if (folder / "containers.conf").exists():  # Podman's containers outlive it, and its runner
                own = {"PATH": os.environ["PATH"], "CONTAINERS_CONF": f"{folder}/containers.conf"}
                own["CONTAINERS_STORAGE_CONF"] = f"{folder}/storage.conf"
                subprocess.run(["podman", "rm", "--all", "--force", "--time=0"], env=own, check=False)
            clear(folder, f"grd{int(owner) % 100000}")
            clear(folder, f"grp{int(owner) % 100000}")


class Dockerd:
    """A private dockerd: its own data, bridge and socket; gone with everything it ran when stopped."""

    def __init__(self, programs: tuple[Path, ...] = ()) -> None:
        self.folder = Path(
            tempfile.mkdtemp(prefix=f"guard-restore-{os.getpid()}-")
        )  # short: a socket's path has at most 107 bytes
        self.path = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
        # At its start a newer engine empties chains of the machine's firewall, other engines' rules with them.
        self.options = ["--iptables=false", "--ip6tables=false"] if programs else []
        self.socket = self.folder / "docker.sock"
        self.bridge = f"grd{os.getpid() % 100000}"
        self.subnet = f"172.31.{os.getpid() % 250}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if not Path(f"/sys/class/net/{self.bridge}").exists():
            for arguments in (
                ["add", self.bridge, "type", "bridge"],
                ["set", self.bridge, "up"],
            ):
                subprocess.run(["ip", "link", *arguments], check=True)
            subprocess.run(["ip", "address", "add", f"{self.subnet}.1/24", "dev", self.bridge], check=True)
        folders = [f"--{name}={self.folder / name}" for name in ("data-root", "exec-root", "pidfile")]
        pools = ["--default-address-pool", f"base=10.{77 + os.getpid() % 100}.0.0/16,size=24"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    "setpriv",
                    "--pdeathsig",
                    "TERM",
                    "dockerd",
                    "-H",
                    f"unix://{self.socket}",
                    f"--bridge={self.bridge}",
                    *pools,
                    *folders,
                    *self.options,
                ],
                env={**os.environ, "PATH": self.path},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 30
        while subprocess.run(["docker", "version"], env=self.environment, capture_output=True).returncode:
            assert time.monotonic() < deadline and self.process.poll() is None, (self.folder / "log").read_text()[
                -3000:
            ]
            time.sleep(0.1)

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": self.path, "HOME": str(self.folder), "DOCKER_HOST": f"unix://{self.socket}"}

    def docker(self, *arguments: str, content: bytes | None = None) -> str:
        done = subprocess.run(["docker", *arguments], env=self.environment, input=content, capture_output=True)
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr.decode()}"
        return done.stdout.decode().strip()

    def api(self, method: str, path: str, body: Json) -> None:
        """One request that the docker command has no words for."""
        connection = http.client.HTTPConnection("docker")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.socket))
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status < 300, answer.read()
        connection.close()

    def inspect(self, name: str) -> Json:
        found: Json = json.loads(self.docker("container", "inspect", name))[0]
        return found

    def names(self) -> set[str]:
        return set(self.docker("ps", "-a", "--format", "{{.Names}}").split())

    def tags(self) -> set[str]:
        return set(self.docker("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines())

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(30)

    def reset(self) -> None:
        """Only images are left."""
        for kind, list_all, remove in (
            ("container", ["ls", "-aq"], ["rm", "-f", "-v"]),
            ("volume", ["ls", "-q"], ["rm", "-f"]),
            ("network", ["ls", "-q", "--filter", "type=custom"], ["rm"]),
        ):
            ids = self.docker(kind, *list_all).split()
            if ids:
                self.docker(kind, *remove, *ids)

    def end(self) -> None:
        self.reset()
        self.stop()
        clear(self.folder, self.bridge)

    def image(self, tag: str, *changes: str, script: str = SERVE) -> str:
        """A small image from busybox alone; its ID. ``changes`` are Dockerfile instructions."""
        self.docker("import", "-", tag, content=packed_root(tag, script))
        lines = "\n".join([f"FROM {tag}", 'CMD ["/bin/sh", "/run.sh"]', *changes])
        environment = {**self.environment, "DOCKER_BUILDKIT": "0"}
        command = ["docker", "build", "-q", "-t", tag, "-"]
        return (
            subprocess.run(command, env=environment, input=lines.encode(), capture_output=True, check=True)
            .stdout.decode()
            .strip()
        )


def packed_root(tag: str, script: str) -> bytes:
    """A root file system as a tar file: busybox, and a page that says ``tag``."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:

        def add(name: str, content: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))

        add("bin/busybox", Path("/usr/bin/busybox").read_bytes())
        for applet in ("sh", "httpd", "sleep", "cat", "false", "true", "test", "touch"):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        add("run.sh", script.encode())
        add("srv/index.html", f"{tag}\n".encode())
        add("data/seed", b"from the image")
        add("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
    return packed.getvalue()


@dataclass
class Restore:
    """The module against one engine and one state folder, with plans that differ from a default where a test says so."""

    engine: Dockerd
    state: Path
    ids: dict[str, str]
    module: Path = MODULE
    environment: dict[str, str] = field(default_factory=dict)  # of the module, beside HOME

    def plan(self, **changes: object) -> Json:
        plan = {
            "service": "web",
            "container": "web",
            "engine": f"unix://{self.engine.socket}",
            "state_dir": str(self.state),
            "run_id": "run-1",
            "fence": 1,
            "target": {"image": "web:1.0.0", "image_id": self.ids["web:1.0.0"], "digest": None},
            "expect_image_id": self.ids["web:1.1.0"],
            "backup_tag": "backup_20261123_101112",
            "stable_s": 0.3,
            "health_timeout_s": 5,
        }
        return {key: value for key, value in {**plan, **changes}.items() if value is not None}

    def target(self, tag: str) -> Json:
        return {"image": tag, "image_id": self.ids[tag], "digest": None}

    def start(self, mode: str, plan: object, **ansible: object) -> subprocess.Popen[bytes]:
        arguments = json.dumps({"mode": mode, "plan": plan, "_ansible_check_mode": False, **ansible})
        source = self.module.read_text().replace("<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>", arguments)
        process = subprocess.Popen(
            [sys.executable, "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"HOME": str(self.state.parent), **self.environment},
        )
        assert process.stdin is not None
        process.stdin.write(source.encode())
        process.stdin.close()
        process.stdin = None
        return process

    def finish(self, process: subprocess.Popen[bytes]) -> Json:
        out, err = process.communicate(timeout=120)
        assert out and not err, f"the module said {out!r}, {err.decode()}"
        result: Json = json.loads(out)
        assert process.returncode == (1 if result.get("failed") else 0)
        assert result["state"] in ("restored", "unchanged", "reverted", "failed", "planned"), result
        return result

    def __call__(self, mode: str, plan: object = None, **ansible: object) -> Json:
        return self.finish(self.start(mode, self.plan() if plan is None else plan, **ansible))

    def deploy(self, *options: str, image: str = "web:1.1.0", command: tuple[str, ...] = ()) -> Json:
        self.engine.docker("run", "-d", "--name", "web", "--restart", "unless-stopped", *options, image, *command)
        return self.engine.inspect("web")

    def runs_image(self, tag: str) -> bool:
        seen = self.engine.inspect("web")
        return bool(seen["State"]["Running"]) and seen["Image"] == self.ids[tag]

    def leftovers(self) -> set[str]:
        return {name for name in self.engine.names() if ".guard-" in name}


@pytest.fixture(scope="session")
def dockerd(request: pytest.FixtureRequest) -> Iterator[Dockerd]:
    sweep()
    engine = Dockerd(ENGINES[request.param])
    engine.start()
    try:
        yield engine
    finally:
        engine.end()


@pytest.fixture(scope="session")
def image_ids(dockerd: Dockerd) -> dict[str, str]:
    """Every image of these tests, by tag. web:1.1.0 is what runs, the others are what it is rolled back to."""
    failing = "HEALTHCHECK --interval=100ms --retries=1 CMD /bin/false"
    passing = "HEALTHCHECK --interval=30s CMD /bin/true"
    changes: dict[str, tuple[str, ...]] = {
        "web:1.0.0": (),
        "web:1.1.0": (),
        "web:wont-start": ('CMD ["/there/is/no/such/program"]',),
        "web:exits": ('CMD ["/bin/sh", "-c", "echo no database; exit 3"]',),
        "web:unhealthy": (failing,),
        "web:healthy": (passing,),
        "web:moves": ("LABEL moves=yes",),
    }
    return {tag: dockerd.image(tag, *lines) for tag, lines in changes.items()}


@pytest.fixture(scope="session")
def images(dockerd: Dockerd) -> dict[str, str]:
    return {"old": dockerd.image("rich:old", *OLD_IMAGE), "new": dockerd.image("rich:new", *NEW_IMAGE)}


@pytest.fixture
def restore(dockerd: Dockerd, image_ids: dict[str, str], tmp_path: Path) -> Iterator[Restore]:
    dockerd.reset()
    yield Restore(dockerd, tmp_path / "state", image_ids)
    for reference in dockerd.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split():
        if ":guard_" in reference or ":backup_" in reference:
            dockerd.docker("rmi", "--no-prune", "-f", reference)
