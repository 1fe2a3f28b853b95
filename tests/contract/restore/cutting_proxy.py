"""A way to the engine that stalls at one chosen request, so that the module can be killed exactly there."""

from __future__ import annotations

import http.client
import re
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer


class CuttingProxy:
    """Forwards to the engine's socket. At the ``nth`` request that matches ``cut`` it stalls for good and sets ``reached``.

    ``when`` "before": the engine never sees the request. "after": the engine has done it, the answer never comes.
    "refuse": the engine never sees it, and the answer is an error. "hold": like "before", but once ``over`` is set the
    engine gets it, unless the one who asked is gone by then; "hold-after": like "after", and then the answer comes.
    ``changes`` lists every request that changes something, as "METHOD path" without version and IDs.
    """

    def __init__(self, engine: Path, own: Path, cut: str | None = None, when: str = "before", nth: int = 1) -> None:
        self.engine, self.own, self.when, self.left = engine, own, when, nth
        self.cut = re.compile(cut) if cut else None
        self.reached = threading.Event()
        self.over = threading.Event()
        self.changes: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:  # the module or the engine is gone, as it was meant to be
                    self.close_connection = True

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                name = proxy.name(self.command, self.path)
                if self.command != "GET":
                    proxy.changes.append(name)
                hit = proxy.counts(name)
                if hit and proxy.when == "before":
                    return self.stall()
                if hit and proxy.when == "refuse":
                    return self.send_error(500)
                if hit and proxy.when == "hold" and not self.held():
                    return None
                status, headers, content = proxy.ask(self.command, self.path, body)
                if hit and proxy.when == "after":
                    return self.stall()
                if hit and proxy.when == "hold-after" and not self.held():
                    return None
                self.send_response_only(status)
                for key in ("Api-Version", "Content-Type"):
                    if key in headers:
                        self.send_header(key, headers[key])
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                return None

            def stall(self) -> None:
                proxy.reached.set()
                proxy.over.wait(60)
                self.close_connection = True

            def held(self) -> bool:
                """Wait for the word to go on; False when nobody waits for the answer any more."""
                self.stall()
                asker = select.select([self.connection], [], [], 0)[0] and not self.connection.recv(1, socket.MSG_PEEK)
                self.close_connection = bool(asker)
                return not asker

            do_GET = do_POST = do_DELETE = forward

            def log_message(self, *_: object) -> None:
                """Quiet."""

            def address_string(self) -> str:
                return "module"

        self.server = ThreadingUnixStreamServer(str(own), Handler)
        self.server.daemon_threads = True

    def counts(self, name: str) -> bool:
        """Is this the request to stall at?"""
        if self.cut is None or not self.cut.fullmatch(name):
            return False
        self.left -= 1
        return self.left == 0

    @staticmethod
    def name(method: str, path: str) -> str:
        """ "POST /v1.41/containers/3f…/rename?name=web" → "POST rename web"; what a reader calls the step."""
        where, _, query = path.partition("?")
        parts = [
            part for part in where.split("/") if part and not re.match(r"v1\.|[0-9a-f]{64}\Z|sha256|containers\Z", part)
        ]
        name = re.search(r"\bname=([^&]+)", query)
        return " ".join([method, *parts, *([name[1]] if name else [])])

    def ask(self, method: str, path: str, body: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("docker")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.engine))
        try:
            connection.request(method, path, body or None, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def __enter__(self) -> CuttingProxy:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
