"""What the checks are measured against: a local nginx that answers, and Debian's prometheus-blackbox-exporter that asks too.

Both listen on 127.0.0.1 on free ports, live in a folder of their own, and end with the block that started them.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_NGINX = """\
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port} backlog=8192; default_type application/json;
            location / {{ return 200 '{{"status":"ok"}}'; }} }}
}}
"""
_MODULE = "modules: {http: {prober: http, timeout: 5s, http: {preferred_ip_protocol: ip4}}}\n"
_TICK = os.sysconf("SC_CLK_TCK")


class MissingError(Exception):
    """A program is not there; the text names the package."""


def _program(name: str, package: str) -> str:
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    if found is None:
        raise MissingError(f"{name} is not installed: apt-get install {package} (and keep its service stopped)")
    return found


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _running(argv: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Until it listens; RuntimeError when it does not."""
    process = subprocess.Popen(
        argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "GOMAXPROCS": "1"}
    )
    try:
        deadline = time.monotonic() + 15
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{argv[0]} does not listen") from None
                time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(15)


@contextmanager
def nginx() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The process, to be terminated when the backend is to go down, and its port. MissingError."""
    program, port = _program("nginx", "nginx-light"), free_port()
    with tempfile.TemporaryDirectory(prefix="guard-bench-") as path:
        config = Path(path) / "nginx.conf"
        config.write_text(_NGINX.format(folder=path, port=port))
        with _running([program, "-c", str(config), "-e", f"{path}/error.log"], port) as process:
            yield process, port


@dataclass(frozen=True, slots=True)
class Blackbox:
    process: subprocess.Popen[bytes]
    port: int

    def cpu(self) -> float:
        """Seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def probe(self, target: str, count: int, at_once: int) -> None:
        """So many probes, asked for over kept connections as Prometheus does. RuntimeError when one fails."""

        def ask(share: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            for _ in range(share):
                connection.request("GET", f"/probe?module=http&target={target}")
                if b"probe_success 1" not in connection.getresponse().read():
                    raise RuntimeError("the blackbox-exporter's probe failed")
            connection.close()

        with ThreadPoolExecutor(at_once) as threads:
            list(threads.map(ask, [count // at_once] * at_once))


@contextmanager
def blackbox() -> Iterator[Blackbox]:
    """On one core, as guard is. MissingError."""
    program, port = _program("prometheus-blackbox-exporter", "prometheus-blackbox-exporter"), free_port()
    with tempfile.TemporaryDirectory(prefix="guard-bench-") as path:
        config = Path(path) / "blackbox.yml"
        config.write_text(_MODULE)
        argv = [program, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
        with _running(argv, port) as process:
            yield Blackbox(process, port)
