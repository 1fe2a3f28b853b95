"""Planted secrets show up nowhere: not in logs, artifacts, outputs, process lists, the store or files others can read."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from guard.demo.host import Host

from .conftest import MakeScene
from .scene import NOW, OLD, Scene

BECOME, PASSWORD, TOKEN = "become-s3cret-1", "ssh-s3cret-2", "api-s3cret-3"
DSN, FILE, URL = "dsn-s3cret-4", "file-s3cret-5", "url-s3cret-6"
CONTAINER, PRINTED = "env-s3cret-7", "said-s3cret-8"
PLANTED = (BECOME, PASSWORD, TOKEN, DSN, FILE, URL, CONTAINER, PRINTED)


class Sampled:
    """Every command line and every readable temporary file that was seen while things ran."""

    def __init__(self, own: Path) -> None:
        self.own, self.over, self.looks = own, threading.Event(), 0
        self.leaks: set[str] = set()

    def look(self) -> None:
        while not self.over.is_set():
            self.looks += 1
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    self.find(process.joinpath("cmdline").read_bytes(), f"command line of {process.name}")
            for top in (Path("/tmp"), self.own):
                with suppress(OSError):  # they come and go
                    self.find_readable(top.glob("guard-run-*/**/*") if top == Path("/tmp") else top.rglob("*"))
            time.sleep(0.05)

    def find_readable(self, paths: Iterable[Path]) -> None:
        for path in paths:
            if path.is_file() and path.stat().st_mode & 0o077 and path.parent.stat().st_mode & 0o077:
                self.find(path.read_bytes(), f"{path}, which others may read")

    def find(self, text: bytes, where: str) -> None:
        # `docker run -e` of the test's own deploy has ended by then.
        self.leaks |= {f"{secret} in {where}" for secret in PLANTED if secret.encode() in text}


@contextmanager
def sampling(own: Path) -> Iterator[Sampled]:
    sampled = Sampled(own)
    thread = threading.Thread(target=sampled.look)
    thread.start()
    try:
        yield sampled
    finally:
        sampled.over.set()
        thread.join()


def leaks_in(folder: Path, also: tuple[str, ...] = ()) -> list[str]:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in also:
            content = path.read_bytes()
            found += [f"{secret} in {path}" for secret in PLANTED if secret.encode() in content]
    return found


def planted(scene: Scene) -> dict[str, str]:
    """Secrets wherever users have them. Returns the environment of guard."""
    folder = scene.guard.folder
    folder.joinpath("token").write_text(FILE + "\n")
    folder.joinpath("token").chmod(0o600)
    for host in scene.hosts:
        scene.set(host, ansible_become_password=BECOME, ansible_password=PASSWORD, deploy_token=TOKEN)
    scene.inventory_file.chmod(0o600)
    config = copy.deepcopy(scene.settings)
    config["defaults"] |= {"interval": "300ms", "timeout": "1s"}
    address = "http://user:" + URL + "@{{ ansible_host }}:1/"
    config["services"][0]["checks"] += [
        {"type": "http", "name": "page", "url": address, "headers": {"X-Token": {"file": "token"}}},
        {"type": "postgres", "name": "store", "dsn": "${SHOP_DSN}"},
        {"type": "http", "name": "api", "url": "http://127.0.0.1:1/?token={{ deploy_token }}"},
    ]
    scene.guard.configure(config)
    scene.guard.config.chmod(0o600)
    return {"SHOP_DSN": f"postgresql://shop:{DSN}@127.0.0.1:1/shop"}


def test_none_of_the_planted_secrets_is_found_anywhere_after_a_bad_deploy(make_scene: MakeScene) -> None:
    scene = make_scene("secrets")
    scene.tag(OLD, NOW)
    told = f"cannot log in: password={PRINTED}"
    health = (
        "--health-cmd=echo $TOLD $DB_PASSWORD; echo $TOLD >/proc/1/fd/1; exit 1"  # no command line has what it says
    )
    variables = ["-e", f"DB_PASSWORD={CONTAINER}", "-e", f"TOLD={told} {DSN} {TOKEN}"]
    scene.run(NOW, *variables, health, "--health-interval=1s", "--health-retries=1")
    environment = planted(scene)
    log = scene.guard.folder / "guard.log"
    common = ("--log-file", str(log), "--log-level", "debug", "--verbose")
    outputs = []
    with sampling(scene.guard.folder) as sampled:
        gate = scene.guard.json("gate", "secrets", "--for", "20s", *common, env=environment)
        outputs.append(gate)
        assert gate.code == 4, gate  # what was set by hand, its health check, fails the target as well
        assert {h["state"] for h in gate.json["rollbacks"][0]["hosts"].values()} & {"reverted"}
        (run,) = scene.runs()
        broken = scene.guard("rollback", "secrets", "--to", "no-such-tag", *common, env=environment)
        outputs.append(broken)
        for asked in (("check",), ("history",), ("history", gate.json["id"]), ("status",)):
            outputs.append(scene.guard(*asked, *common, env=environment))
    assert sampled.looks > 10
    assert sampled.leaks == set()
    for ran in outputs:
        assert not [secret for secret in PLANTED if secret in str(ran)], ran
    mine = ("token", "guard.yml", "inventory.yml")
    assert leaks_in(scene.guard.folder, mine) == []
    assert (run / "hosts").exists()
    assert list(scene.guard.state.rglob("container.log")), "there was something to mask"
    for host in scene.hosts:
        assert leaks_on(host) == []
    for path in [scene.guard.state, *scene.guard.state.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def leaks_on(host: Host) -> list[str]:
    """What guard and Ansible left on a host's own disk. The module's journal, which only root can read, may repeat what
    the container's health check said; the engine shows that to whoever may ask it.
    """
    upper, journals = host.folder / "upper", []
    for path in (upper / "var/lib/guard").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
        journals.append(path.name)
    assert (upper / "var/lib/guard").stat().st_mode & 0o077 == 0
    parts = ("var/lib/guard", "root", "tmp", "var/tmp")
    return [leak for part in parts for leak in leaks_in(upper / part, tuple(journals))]
