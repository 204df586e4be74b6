"""Reads of one thing each, made together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

# Reads under way at a time.
_AT_ONCE = 2


class Gathered(Generic[K, V]):
    """What is asked for while others are being read is read all at once afterwards: many calls share a statement.

    Who asks gets what was read after the question came.
    """

    def __init__(self, read: Callable[[Collection[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._read = read
        self._asked: set[K] = set()
        self._next: asyncio.Task[Mapping[K, V]] | None = None
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def get(self, key: K) -> V | None:
        """What is read of it; None where there is nothing."""
        self._asked.add(key)
        if self._next is None:
            self._next = asyncio.create_task(self._read_next())
        # Others wait for it, too, whatever becomes of this call.
        return (await asyncio.shield(self._next)).get(key)

    async def _read_next(self) -> Mapping[K, V]:
        async with self._free:
            asked, self._asked, self._next = self._asked, set(), None
            return await self._read(asked)
