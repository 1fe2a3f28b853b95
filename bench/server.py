"""``python -m bench.server``: answers every request with 200, and with 500 from SIGUSR1 on.

Prints its port, and at SIGUSR1 the monotonic time (seconds, the same clock in every process) of the change.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

_STATUS = {True: "200 OK", False: "500 Internal Server Error"}


async def main() -> None:
    good = True

    def turn_bad() -> None:
        nonlocal good
        good = False
        print(monotonic(), flush=True)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            body = f"HTTP/1.1 {_STATUS[good]}\r\nContent-Length: 15\r\nConnection: close\r\n\r\n" + '{"status":"ok"}'
            writer.write(body.encode())
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # a client that went away is no concern of the server's
        finally:
            writer.close()

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, turn_bad)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@dataclass(frozen=True, slots=True)
class Server:
    process: subprocess.Popen[str]
    port: int

    def turn_bad(self) -> float:
        """From now on 500. The monotonic time of the change."""
        self.process.send_signal(signal.SIGUSR1)
        return float(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@contextmanager
def serving() -> Iterator[Server]:
    """The server in a process of its own, ended with the block."""
    process = subprocess.Popen([sys.executable, "-m", "bench.server"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Server(process, int(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    asyncio.run(main())
