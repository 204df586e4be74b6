"""The end of a log in memory: who follows it live is served without the database."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar


class Placed(Protocol):
    """A line of a log that is numbered per partition, from 1, without gaps."""

    @property
    def partition(self) -> int:
        """Its partition."""

    @property
    def offset(self) -> int:
        """Its number."""


T = TypeVar("T", bound=Placed)


class Tail(Generic[T]):
    """The newest committed lines of each partition, `length` at most, without a gap.

    Where another process wrote in between, a partition begins anew.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._held: dict[int, deque[T]] = {}

    def add(self, lines: Iterable[T]) -> None:
        """Takes committed lines, those of a partition in order."""
        for line in lines:
            held = self._held.get(line.partition)
            if held is None or held[-1].offset + 1 != line.offset:
                held = self._held[line.partition] = deque(maxlen=self._length)
            held.append(line)

    def last(self, partition: int) -> int:
        """The number of the newest line of a partition; 0 where none is held."""
        held = self._held.get(partition)
        return held[-1].offset if held else 0

    def between(self, partition: int, after: int, until: int) -> Iterable[T] | None:
        """The lines after an offset, up to and with another; None where not all of them are held."""
        held = self._held.get(partition)
        if held is None or held[0].offset > after + 1 or held[-1].offset < until:
            return None
        first = held[0].offset
        return itertools.islice(held, after + 1 - first, until + 1 - first)
