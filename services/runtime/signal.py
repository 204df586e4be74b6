"""A wake-up call between tasks of one process: something was committed, look again."""

from __future__ import annotations

import asyncio


class Signal:
    """Wakes all who wait. Take `next()` before looking, then wait for it: nothing is missed in between."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def next(self) -> asyncio.Event:
        """Set when `send` is called the next time."""
        return self._event

    def send(self) -> None:
        """Wakes all who wait."""
        event, self._event = self._event, asyncio.Event()
        event.set()


async def woken(event: asyncio.Event, seconds: float) -> bool:
    """Waits for the event, at most so many seconds; False where it did not come."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
