"""``python -m bench.poller FILE MILLISECONDS HOST:PORT…``: asks each address that often and keeps when good answers came.

A process of its own, so that nothing the benchmark does delays it. Every request has a connection of its own and is
begun on time, whether or not earlier ones were answered. SIGTERM ends it and writes FILE: {ADDRESS: [TIME…]}, the
monotonic times (seconds) at which good answers were complete, in order, and the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path
from time import monotonic

GIVE_UP_S = 3.0
_REQUEST = b"GET /healthz HTTP/1.0\r\nHost: bench\r\n\r\n"


async def _ask(host: str, port: int, good: list[float]) -> None:
    """OSError and time-out are the outage that is measured: no answer, no time."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(GIVE_UP_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(_REQUEST)
                answer = await reader.read()
            finally:
                writer.close()
        if answer.split(b"\r\n", 1)[0].endswith(b" 200 OK"):
            good.append(monotonic())


async def _poll(address: str, every_s: float, offset: float, good: list[float], stop: asyncio.Event) -> None:
    host, _, port = address.rpartition(":")
    asking: set[asyncio.Task[None]] = set()
    due = monotonic() + offset
    while not stop.is_set():
        await asyncio.sleep(max(0.0, due - monotonic()))
        due = max(due + every_s, monotonic())  # what could not be asked on time is not asked twice
        task = asyncio.create_task(_ask(host, int(port), good))
        asking.add(task)
        task.add_done_callback(asking.discard)
    good.append(monotonic())  # an outage that still lasts ends here
    for task in asking:
        task.cancel()


async def main(file: Path, every_s: float, addresses: list[str]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    good: dict[str, list[float]] = {address: [] for address in addresses}
    polls = [_poll(a, every_s, i * every_s / len(addresses), good[a], stop) for i, a in enumerate(addresses)]
    await asyncio.gather(*polls)
    file.write_text(json.dumps({address: sorted(found) for address, found in good.items()}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]) / 1000, sys.argv[3:]))
