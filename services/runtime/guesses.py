"""How often somebody may ask for what is not there, such as a code or a card: so nothing is found by trying.

Everybody has a number of tries, which come back with time. Whatever is looked up has one of them while that lasts; a
hit gives it back, a miss does not. Who has none left is not answered at all, or the answer would tell. Who has none but
those that are under way waits until one of them has ended: so asking for many at once finds no more than asking for one
after the other. A principal's places each have tries of their own, and share its larger number, so that naming another
place each time gains little. All is in memory, and bounded: who was not heard of longest is forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

from services.runtime.identity import Caller

# What a till has, and after how long one comes back.
_TRIES: Final = 20
_SECONDS_EACH: Final = 15.0
# A principal has that many times as much, over all its places.
_PLACES: Final = 25
_MOST_REMEMBERED: Final = 10_000


class UnknownIdentifiersError(Exception):
    """Too many identifiers were asked for that lead to nobody; `wait_seconds` until the next may be asked for."""

    def __init__(self, wait_seconds: float) -> None:
        super().__init__("too many identifiers were asked for that lead to nobody; come back later")
        self.wait_seconds = wait_seconds


@dataclass(slots=True)
class _Tries:
    """Tries of a place or of a principal. `each`: after how many seconds one comes back, up to `most`."""

    most: float
    each: float
    left: float
    at: float
    under_way: int = 0
    asking: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    async def take(self, clock: Callable[[], float]) -> float:
        """Takes one, which may take until another has ended; or says how many seconds it is to the next: 0, taken."""
        self.asking += 1
        try:
            return await self._take(clock)
        finally:
            self.asking -= 1

    async def _take(self, clock: Callable[[], float]) -> float:
        while (left := self._left(clock())) < 1:
            if not self.under_way:
                return (1 - left) * self.each
            turn = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    # It was its turn: now it is another's.
                    self._wake(1)
                raise
        self.left -= 1
        self.under_way += 1
        return 0.0

    def end(self, clock: Callable[[], float], *, missed: bool) -> None:
        """One that was taken has ended; a hit gives it back."""
        left = self._left(clock())
        self.left = left if missed else min(self.most, left + 1)
        self.under_way -= 1
        # All who wait are to hear where there is nothing more to wait for.
        self._wake(1 if self.left >= 1 or self.under_way else len(self.waiting))

    def are_whole(self) -> bool:
        """Whether there is nothing to remember of them, and nobody holds them."""
        return self.left >= self.most and not self.asking

    def _left(self, now: float) -> float:
        # One that is under way comes back by its end alone.
        self.left = min(self.most - self.under_way, self.left + (now - self.at) / self.each)
        self.at = now
        return self.left

    def _wake(self, count: int) -> None:
        while count and self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                count -= 1


class Guesses:
    """Counts what callers ask for in vain. `clock` gives seconds, and only goes forward; `is_miss` knows errors that
    say that something is not there; `refusal` makes that for who has no try left, of the seconds to the next one."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        is_miss: Callable[[BaseException], bool],
        refusal: Callable[[float], Exception],
    ) -> None:
        self._clock = clock
        self._is_miss = is_miss
        self._refusal = refusal
        self._remembered: OrderedDict[Hashable, _Tries] = OrderedDict()

    @contextlib.asynccontextmanager
    async def trying(self, caller: Caller) -> AsyncIterator[None]:
        """Something is looked up for the caller within; raises the refusal where no try is left."""
        taken: list[tuple[Hashable, _Tries]] = []
        missed = False
        try:
            for key, most, each in self._asked_of(caller):
                tries = self._remember(key, most, each)
                if wait := await tries.take(self._clock):
                    raise self._refusal(wait)
                taken.append((key, tries))
            try:
                yield
            except BaseException as error:
                missed = self._is_miss(error)
                raise
        finally:
            for key, tries in taken:
                tries.end(self._clock, missed=missed)
                if tries.are_whole() and self._remembered.get(key) is tries:
                    del self._remembered[key]

    @staticmethod
    def _asked_of(caller: Caller) -> list[tuple[Hashable, float, float]]:
        """Those of the place first: who waits for them keeps nobody else of the principal from asking."""
        whole = (caller.principal, float(_TRIES * _PLACES), _SECONDS_EACH / _PLACES)
        place = (caller.store, caller.terminal, caller.on_behalf_of)
        return [((caller.principal, place), float(_TRIES), _SECONDS_EACH), whole] if any(place) else [whole]

    def _remember(self, key: Hashable, most: float, each: float) -> _Tries:
        tries = self._remembered.pop(key, None) or _Tries(most=most, each=each, left=most, at=self._clock())
        self._remembered[key] = tries
        if len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return tries
