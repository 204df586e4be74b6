"""Streams that are read ahead: what comes while its reader is at work is taken up all at once afterwards."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


def broken_off() -> bool:
    """Whether a CancelledError that came of a stream only says that the stream was cancelled, and not this task.

    gRPC raises one where the channel was closed under a stream that is read.
    """
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


class Inlet(Generic[T]):
    """What has come of a stream. It is read ahead up to a bound: who does not take holds the sender up."""

    def __init__(
        self,
        stream: AsyncIterator[T],
        arrived: asyncio.Event,
        *,
        size: Callable[[T], int],
        room: int,
        ended: Exception,
    ) -> None:
        self._stream = stream
        self._arrived = arrived
        self._size = size
        self._room = room
        self._ended = ended
        self._items: deque[T] = deque()
        self._held = 0
        self._taken = asyncio.Event()
        self._failed: Exception | None = None

    async def read(self) -> None:
        """Reads until the stream breaks off."""
        try:
            async for item in self._stream:
                self._items.append(item)
                self._held += self._size(item)
                self._arrived.set()
                while self._held >= self._room:
                    self._taken.clear()
                    await self._taken.wait()
            self._failed = self._ended
        except asyncio.CancelledError:
            if not broken_off():
                raise
            self._failed = self._ended
        except Exception as error:
            self._failed = error
        self._arrived.set()

    def take(self) -> list[T]:
        """What has come; raises what broke the stream off once all before it is taken."""
        taken = list(self._items)
        self._items.clear()
        self._held = 0
        self._taken.set()
        if self._failed is not None:
            if not taken:
                raise self._failed
            self._arrived.set()
        return taken


@contextlib.asynccontextmanager
async def reading(
    stream: AsyncIterator[T], arrived: asyncio.Event, *, size: Callable[[T], int], room: int, ended: Exception
) -> AsyncIterator[Inlet[T]]:
    """Reads a stream ahead for as long as the block lasts.

    `arrived` is set whenever there is something to take, several streams may share it. No more is read while what is
    held, by `size`, fills `room`. `ended` is raised where the stream ends without an error.
    """
    inlet = Inlet(stream, arrived, size=size, room=room, ended=ended)
    task = asyncio.create_task(inlet.read())
    try:
        yield inlet
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
