"""Name resolution that cannot starve anything: a few threads of its own, and one look-up per name at a time.

``getaddrinfo`` cannot be interrupted. With a silent resolver each call holds its thread for up to half a minute, so the
threads are bounded, are daemons (a stuck one does not delay the end of the process), and equal questions share one
answer while it is under way. Nothing is cached: a check measures name resolution too.
"""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import Callable

from guard.engines.wire import is_address

THREADS = 8

Lookup = Callable[[str], tuple[str, ...]]


def lookup(host: str) -> tuple[str, ...]:
    """Blocking. All addresses in the system's order of preference; socket.gaierror when there are none."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class Resolver:
    """Use it from one event loop."""

    def __init__(self, lookup: Lookup = lookup, threads: int = THREADS) -> None:
        self._lookup = lookup
        self._limit = threads
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._questions: queue.SimpleQueue[tuple[str, asyncio.Future[tuple[str, ...]]]] = queue.SimpleQueue()
        self._under_way: dict[str, asyncio.Future[tuple[str, ...]]] = {}

    async def resolve(self, host: str) -> tuple[str, ...]:
        """IP literals of ``host``, which may be one itself. OSError (socket.gaierror) when it has none."""
        if is_address(host):
            return (host,)
        answer = self._under_way.get(host)
        if answer is None:
            answer = asyncio.get_running_loop().create_future()
            self._under_way[host] = answer
            answer.add_done_callback(lambda done: self._finished(host, done))
            self._ask(host, answer)
        # Shielded: one caller's deadline must not take the answer from the others.
        return await asyncio.shield(answer)

    def _finished(self, host: str, done: asyncio.Future[tuple[str, ...]]) -> None:
        del self._under_way[host]
        if not done.cancelled():
            done.exception()  # retrieved here too: nobody may be waiting any more

    def _ask(self, host: str, answer: asyncio.Future[tuple[str, ...]]) -> None:
        if len(self._under_way) > len(self._threads) and len(self._threads) < self._limit:
            thread = threading.Thread(target=self._work, name="guard-resolve", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._questions.put((host, answer))

    def _work(self) -> None:
        while True:
            host, answer = self._questions.get()
            loop = answer.get_loop()
            try:
                addresses = self._lookup(host)
            except (OSError, UnicodeError) as error:
                self._tell(loop, answer, None, error)
            else:
                self._tell(loop, answer, addresses, None)

    @staticmethod
    def _tell(
        loop: asyncio.AbstractEventLoop,
        answer: asyncio.Future[tuple[str, ...]],
        addresses: tuple[str, ...] | None,
        error: Exception | None,
    ) -> None:
        def settle() -> None:
            if answer.done():
                return
            if addresses is not None:
                answer.set_result(addresses)
            else:
                # A name that cannot even be encoded is a name that cannot be resolved.
                problem = error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, str(error))
                answer.set_exception(problem)

        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:  # the loop has ended: nobody waits for this answer
            return


resolver = Resolver()
"""Shared by the whole process, so that the bound on threads holds for the whole process."""
