"""What every throw-away fleet can do, whether its hosts are namespaces (fleet.py) or only containers (local.py)."""

from __future__ import annotations

import atexit
import contextlib
import http.client
import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import Generic, Self, TypeVar

from guard.demo.ground import FleetError, wait_until
from guard.demo.image import Behaviour, web_image

SERVICE_PORT = 8080  # where the service listens in its container


class BaseHost(ABC):
    """One host of a fleet, seen from outside."""

    name: str
    index: int  # counts from 1
    address: str

    @abstractmethod
    def container(self, name: str = "web") -> str:
        """The real name of a deployed container: where hosts share an engine it carries the host's number."""

    @abstractmethod
    def outside_port(self, port: int) -> int:
        """The port of ``address`` on which a service deployed with this ``port`` answers."""

    @abstractmethod
    def published(self, port: int) -> str:
        """``[ADDRESS:]PORT``, the left side of ``docker run --publish``."""

    @abstractmethod
    def docker(self, *args: str, check: bool = True, input: str | bytes | None = None) -> str:
        """Run the docker command line against this host's engine, from outside; its stdout, stripped."""

    def load(self, image: bytes) -> None:
        """Load an image made by ``guard.demo.image.web_image``."""
        self.docker("load", "--quiet", input=image)

    def get(self, path: str = "/healthz", port: int = SERVICE_PORT, timeout: float = 2.0) -> tuple[int, str]:
        """Status and body of a GET to a service deployed on ``port``; OSError when nothing answers in time."""
        connection = http.client.HTTPConnection(self.address, self.outside_port(port), timeout=timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except http.client.HTTPException as error:
            raise ConnectionError(f"{self.name} does not speak HTTP on port {port}: {error!r}") from error
        finally:
            connection.close()


H = TypeVar("H", bound=BaseHost)


class BaseFleet(ABC, Generic[H]):
    """A context manager around hosts that did not exist before and do not exist afterwards."""

    def __init__(self) -> None:
        self.hosts: list[H] = []
        self._sigterm: Callable[[int, FrameType | None], object] | int | None = None

    # -- life

    @abstractmethod
    def _bring_up(self) -> None:
        """Make everything and wait until it answers."""

    @abstractmethod
    def _take_down(self) -> None:
        """Remove everything; may be called again, also after it was interrupted half-way."""

    def start(self) -> Self:
        """Start every host and wait until all of them answer; on any failure nothing is left behind."""
        try:
            self._on_sigterm()
            atexit.register(self.stop)
            self._bring_up()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End every process and remove everything the fleet made. May be called again."""
        self._take_down()
        self.hosts = []
        atexit.unregister(self.stop)
        self._restore_sigterm()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- what is in it

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The fleet's own folder, which goes with it."""

    @property
    @abstractmethod
    def repository(self) -> str:
        """The image repository that is this fleet's own."""

    @property
    def inventory(self) -> Path:
        """An Ansible inventory: group ``web`` with all hosts, each with ``container_name`` and ``web_port``."""
        return self.folder / "inventory.yml"

    def host(self, name: str) -> H:
        for host in self.hosts:
            if host.name == name:
                return host
        raise FleetError(f"no host {name} in this fleet: it has {', '.join(host.name for host in self.hosts)}")

    # -- what is done with it

    def provide(
        self,
        version: str,
        behaviour: Behaviour | str = Behaviour.GOOD,
        *,
        created: datetime | None = None,
        labels: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        healthcheck: bool = False,
    ) -> str:
        """Build a web image of this version and load it on all hosts; returns its reference, to be deployed."""
        reference = f"{self.repository}:{version}"
        marked = {**self._image_labels(), **(labels or {})}
        self.load(web_image(reference, behaviour, created=created, labels=marked, env=env, healthcheck=healthcheck))
        return reference

    def load(self, image: bytes) -> None:
        """Load an image on every engine, in parallel."""
        self.each(lambda host: host.load(image), self._one_host_per_engine())

    def deploy(
        self,
        image: str,
        name: str = "web",
        port: int | None = SERVICE_PORT,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        *,
        hosts: Iterable[H] | None = None,
    ) -> None:
        """Replace the container on all (or the given) hosts, as a deploy tool would: remove, then run.

        The container's port 8080 is published on the host's address as ``port`` (None: not published); ``args`` are
        further arguments of ``docker run``. It does not wait for the service to answer: see ``wait_healthy``.
        """
        options = [f"--env={key}={value}" for key, value in (env or {}).items()]
        options += [f"--label={key}={value}" for key, value in self._image_labels().items()]

        def replace(host: H) -> None:
            published = [f"--publish={host.published(port)}:{SERVICE_PORT}"] if port else []
            container = host.container(name)
            host.docker("rm", "--force", container, check=False)
            common = ["--detach", f"--name={container}", "--restart=unless-stopped"]
            host.docker("run", *common, *published, *options, *args, image)

        self.each(replace, hosts)

    def wait_healthy(self, port: int = SERVICE_PORT, timeout: float = 20.0, hosts: Iterable[H] | None = None) -> None:
        """Wait until /healthz answers 200 on all (or the given) hosts; FleetError after ``timeout`` seconds."""

        def healthy(host: H) -> bool:
            with contextlib.suppress(OSError):
                return host.get(port=port, timeout=1.0)[0] == 200
            return False

        def wait(host: H) -> None:
            wait_until(lambda: healthy(host), timeout, f"{host.name} to answer 200 on port {port}")

        self.each(wait, hosts)

    def each(self, act: Callable[[H], None], hosts: Iterable[H] | None = None) -> None:
        """Do something on all (or the given) hosts in parallel; the first error is raised when all have ended."""
        with ThreadPoolExecutor(max_workers=16) as pool:
            for done in [pool.submit(act, host) for host in (self.hosts if hosts is None else hosts)]:
                done.result()

    # -- below this line nothing is for users of the class

    def _one_host_per_engine(self) -> Sequence[H]:
        return self.hosts

    def _image_labels(self) -> Mapping[str, str]:
        """Labels by which the fleet finds its images and containers again."""
        return {}

    def _on_sigterm(self) -> None:
        """SIGTERM would end Python without any clean-up; an owner with a handler of its own keeps it."""
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            self._sigterm = signal.signal(signal.SIGTERM, _terminate)

    def _restore_sigterm(self) -> None:
        if self._sigterm is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._sigterm)
            self._sigterm = None


def interpreter() -> str:
    """A Python for Ansible's modules: the system's, as on any host, or else the one that runs guard."""
    return "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable


def _terminate(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
