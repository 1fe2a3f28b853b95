"""The prometheus check against a real Prometheus server that scrapes an exporter of the tests' own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from guard.checks.prometheus import Limits, PrometheusProbe
from guard.checks.site import Site
from guard.config.checks import PrometheusCheck
from guard.model import Host, Measurement, State
from tests.contract.checks import hostile_servers as servers
from tests.contract.checks.hostile_servers import serving
from tests.fakes import FakeEngines

TIMEOUT_S = 2.0
HALF = Limits(high=0.5)
METRICS = rb"""errors_ratio{service="web",host="web1"} 0.02
errors_ratio{service="web",host="web2"} 0.4
errors_ratio{service="odd \"one\" \\ or",host="it's"} 0.1
queue_depth 7
broken NaN
"""


class Exporter(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(METRICS)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    program = shutil.which("prometheus")
    assert program, "Prometheus is not installed: apt-get install prometheus"
    folder = tmp_path_factory.mktemp("prometheus")
    exporter = ThreadingHTTPServer(("127.0.0.1", 0), Exporter)
    threading.Thread(target=exporter.serve_forever, daemon=True).start()
    scrape = f"{{job_name: web, static_configs: [{{targets: ['127.0.0.1:{exporter.server_port}']}}]}}"
    (folder / "prometheus.yml").write_text(f"global: {{scrape_interval: 200ms}}\nscrape_configs: [{scrape}]\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        address = f"--web.listen-address=127.0.0.1:{port}"
        process = subprocess.Popen([*argv, address, "--log.level=warn"], stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, folder / "log")
        yield url, process
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(20)
        exporter.shutdown()
        exporter.server_close()


def _wait(url: str, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            if '"7"' in httpx.get(f"{url}/api/v1/query?query=queue_depth", timeout=2, trust_env=False).text:
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def measure(url: str, query: str, limits: Limits = HALF, timeout_s: float = TIMEOUT_S) -> Measurement:
    began = time.monotonic()
    measured = asyncio.run(PrometheusProbe(url, query, limits, timeout_s).measure())
    assert time.monotonic() - began < timeout_s + 0.5
    return measured


QUERIES: dict[str, tuple[str, Limits, State, str]] = {
    "a vector within": ("errors_ratio", Limits(high=0.5), State.HEALTHY, "3 samples from 0.02 to 0.4"),
    "a vector outside": ("errors_ratio", Limits(high=0.3), State.UNHEALTHY, '0.4 for errors_ratio{host="web2", '),
    "a scalar": ("scalar(queue_depth)", Limits(low=5, high=7), State.HEALTHY, "7, expected at least 5 and at most 7"),
    "a sum": ("sum(errors_ratio)", Limits(low=1), State.UNHEALTHY, "0.52, expected at least 1"),
    "no data": ('errors_ratio{host="web9"}', Limits(low=1), State.UNKNOWN, "the query has no data"),
    "NaN": ("broken", Limits(low=1), State.UNKNOWN, "NaN"),
    "divided by zero": ("queue_depth / 0", Limits(high=1), State.UNHEALTHY, "inf"),
    "a range": ("queue_depth[1m]", Limits(high=1), State.UNKNOWN, "gives a matrix"),
    "a bad query": ("sum(", Limits(high=1), State.UNKNOWN, "Prometheus cannot answer: "),
    "signs of a URL": (
        'errors_ratio{host="web1"} + 0 * 1 or vector(9) # &query=1',
        Limits(high=10),
        State.HEALTHY,
        "2 s",
    ),
}


@pytest.mark.parametrize("name", QUERIES)
def test_every_sample_must_keep_the_limits(prometheus: tuple[str, object], name: str) -> None:
    query, limits, state, reason = QUERIES[name]
    measured = measure(prometheus[0], query, limits)
    assert measured.state is state, measured
    assert reason in measured.reason


@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_variable_is_data_for_the_server_too(prometheus: tuple[str, object], quote: str) -> None:
    host = Host("web1", {"service": 'odd "one" \\ or', "who": "it's"})
    labels = f"service={quote}{{{{ service }}}}{quote}, host={quote}{{{{ who }}}}{quote}"
    check = PrometheusCheck(name="p", url=prometheus[0] + "/", query=f"errors_ratio{{{labels}}}", max=0.1)
    measured = asyncio.run(PrometheusProbe.build(check, Site(host, FakeEngines(), None)).measure())
    assert (measured.state, measured.evidence["samples"]) == (State.HEALTHY, "1"), measured


def test_a_frozen_prometheus_is_unknown_in_time(prometheus: tuple[str, subprocess.Popen[bytes]]) -> None:
    url, process = prometheus
    os.kill(process.pid, signal.SIGSTOP)
    try:
        measured = measure(url, "queue_depth", timeout_s=0.5)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert measured.state is State.UNKNOWN
    assert "Prometheus could not be asked: time-out" in measured.reason


def test_nothing_listening_is_unknown() -> None:
    measured = measure("http://127.0.0.1:1", "up")
    assert measured.state is State.UNKNOWN
    assert "connection refused" in measured.reason


HOSTILE = {
    "hangs up": servers.hang_up,
    "black hole": servers.black_hole,
    "another service": servers.answering(servers.ok(b"hello")),
    "an endless answer": servers.answering(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, every_s=0.001, for_ever=True),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_else_listens_there_is_unknown_in_time(name: str) -> None:
    async def main() -> Measurement:
        async with serving(HOSTILE[name]) as port:
            return await PrometheusProbe(f"http://127.0.0.1:{port}/prom", "up", Limits(low=1), 1.0).measure()

    assert asyncio.run(main()).state is State.UNKNOWN
