"""How far the feeds have been handled, in memory beside the cursors: for reads that wait, and for business time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime

from services.notifier.domain.feeds import Cursor
from services.notifier.errors import CausalTokenAheadError
from services.runtime.clock import SIMULATED_START
from services.runtime.status import NotCaughtUpError


class Progress:
    """The cursors as they were last committed. One event loop; nothing here waits for a lock."""

    def __init__(self, cursors: Mapping[int, Cursor]) -> None:
        self._cursors = dict(cursors)
        self._waiting: set[_Wait] = set()
        # In a simulated installation: up to when all that days bring was given.
        self._days: datetime | None = None

    def stand(self, cursors: Mapping[int, Cursor]) -> None:
        """Takes note of committed cursors, and wakes whoever waited for them."""
        self._cursors.update(cursors)
        self._tell()

    def begin_days(self, until: datetime | None) -> None:
        """All that days bring up to a business time was given; reads wait for it from now on. None: days bring nothing,
        and nobody waits."""
        self._days = until
        self._tell()

    def handled_time(self) -> datetime:
        """Up to when all that happened, and all that time alone made tiers change, is handled."""
        return min(cursor.due_time or SIMULATED_START for cursor in self._cursors.values())

    def _tell(self) -> None:
        for wait in [wait for wait in self._waiting if self._reached(wait.offsets)]:
            self._waiting.discard(wait)
            wait.reached.set()

    async def reach(self, offsets: Mapping[int, int], *, within_seconds: float) -> None:
        """Returns when every entry up to these offsets is handled, with all that tiers made of them, and all that fell
        due by the business time is handled, too.

        Raises NotCaughtUpError where that takes longer, CausalTokenAheadError for a partition that does not exist.
        """
        if not offsets.keys() <= self._cursors.keys():
            raise CausalTokenAheadError
        if self._reached(offsets):
            return
        wait = _Wait(offsets)
        self._waiting.add(wait)
        try:
            async with asyncio.timeout(within_seconds):
                await wait.reached.wait()
        except TimeoutError:
            raise NotCaughtUpError from None
        finally:
            self._waiting.discard(wait)

    def business_time(self) -> datetime:
        """What every partition of a simulated installation has reached."""
        return min(cursor.business_time or SIMULATED_START for cursor in self._cursors.values())

    def _reached(self, offsets: Mapping[int, int]) -> bool:
        return not offsets or (
            all(self._cursors[partition].ledger_offset >= offset for partition, offset in offsets.items())
            and self.handled_time() >= self.business_time()
            and (self._days is None or self._days >= self.business_time())
        )


class _Wait:
    def __init__(self, offsets: Mapping[int, int]) -> None:
        self.offsets = offsets
        self.reached = asyncio.Event()
