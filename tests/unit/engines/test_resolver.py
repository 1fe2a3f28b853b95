"""Name resolution under a bound on threads."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from guard.engines.resolve import Resolver


def test_an_address_is_its_own_answer_and_asks_nobody() -> None:
    def fail(host: str) -> tuple[str, ...]:
        raise AssertionError

    assert asyncio.run(Resolver(fail).resolve("::1")) == ("::1",)
    assert asyncio.run(Resolver(fail).resolve("127.0.0.1")) == ("127.0.0.1",)


def test_the_system_is_asked_each_time() -> None:
    asked: list[str] = []

    def count(host: str) -> tuple[str, ...]:
        asked.append(host)
        return ("127.0.0.1",)

    async def main() -> None:
        names = Resolver(count)
        await names.resolve("web")
        await names.resolve("web")

    asyncio.run(main())
    assert asked == ["web", "web"]


def test_equal_questions_at_the_same_time_share_an_answer_and_a_deadline_takes_it_from_nobody() -> None:
    go = threading.Event()
    asked: list[str] = []

    def wait(host: str) -> tuple[str, ...]:
        asked.append(host)
        assert go.wait(10)
        return ("127.0.0.1",)

    async def main() -> None:
        names = Resolver(wait)
        hasty, patient = asyncio.create_task(names.resolve("web")), asyncio.create_task(names.resolve("web"))
        await asyncio.sleep(0)
        hasty.cancel()
        await asyncio.wait([hasty])
        go.set()
        assert await patient == ("127.0.0.1",)

    asyncio.run(main())
    assert asked == ["web"]


def test_a_silent_resolver_never_holds_more_threads_than_allowed() -> None:
    go = threading.Event()

    def wait(host: str) -> tuple[str, ...]:
        assert go.wait(10)
        return ("127.0.0.1",)

    async def main() -> int:
        names = Resolver(wait, threads=3)
        tasks = [asyncio.create_task(names.resolve(f"host{n}")) for n in range(50)]
        await asyncio.sleep(0.05)
        threads = len(names._threads)
        go.set()
        await asyncio.gather(*tasks)
        return threads

    assert asyncio.run(main()) == 3


@pytest.mark.parametrize("name", ["", "a" * 300, "a..b", "\udcff"])
def test_a_name_that_is_none_cannot_be_resolved(name: str) -> None:
    async def main() -> None:
        with pytest.raises(socket.gaierror):
            await Resolver().resolve(name)

    asyncio.run(main())
