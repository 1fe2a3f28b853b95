"""Being asked to stop: SIGINT and SIGTERM set an event, and no new work begins."""

from __future__ import annotations

import asyncio
import signal


class Stop(asyncio.Event):
    """``signal_number`` tells which signal asked, 0 while none has."""

    def __init__(self) -> None:
        super().__init__()
        self.signal_number = 0

    def listen(self) -> None:
        """Take SIGINT and SIGTERM over in the running event loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._asked, number)

    def _asked(self, number: int) -> None:
        if not self.signal_number:
            self.signal_number = int(number)
        self.set()

    async def within(self, seconds: float) -> bool:
        """Wait at most that long; whether a stop was asked for by then."""
        try:
            async with asyncio.timeout(seconds):
                await self.wait()
        except TimeoutError:
            return False
        return True
