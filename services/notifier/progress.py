"""How far the feeds have been handled, in memory beside the cursors: for reads that wait, and for business time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
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
        # In a simulated installation: up to when all that days bring was given, and who follows that.
        self._days: datetime | None = None
        self._days_followed: Callable[[], None] = _nobody

    def stand(self, cursors: Mapping[int, Cursor]) -> None:
        """Takes note of committed cursors, and wakes whoever waited for them."""
        self._cursors.update(cursors)
        self._tell()

    def begin_days(self, until: datetime | None) -> None:
        """All that days bring up to a business time was given; reads wait for it from now on. None: days bring nothing,
        and nobody waits."""
        self._days = until
        self._tell()
        self._days_followed()

    def follow_days(self, told: Callable[[], None]) -> None:
        """Tells this one, in place of whoever it was before, that days have begun."""
        self._days_followed = told

    @property
    def days(self) -> datetime | None:
        """Up to when all that days bring was given, as `begin_days` said."""
        return self._days

    def handled_time(self) -> datetime:
        """In a simulated installation: up to when all that the ledger recorded, and all that time alone made tiers
        change, is handled. Either feed may be ahead of the other."""
        due = min(cursor.due_time or SIMULATED_START for cursor in self._cursors.values())
        return min(due, self.business_time())

    def change_offsets(self) -> dict[int, int]:
        """Up to which change of tier each partition is handled."""
        return {partition: cursor.change_offset for partition, cursor in self._cursors.items()}

    def _tell(self) -> None:
        for wait in [wait for wait in self._waiting if wait.is_over()]:
            self._waiting.discard(wait)
            wait.over.set()

    async def reach(self, offsets: Mapping[int, int], *, within_seconds: float) -> None:
        """Returns when every entry up to these offsets is handled, with all that tiers made of them, and all that fell
        due by the business time is handled, too.

        Raises NotCaughtUpError where that takes longer, CausalTokenAheadError for a partition that does not exist.
        """
        if not offsets.keys() <= self._cursors.keys():
            raise CausalTokenAheadError
        try:
            async with asyncio.timeout(within_seconds):
                await self._wait(lambda: self._reached(offsets))
        except TimeoutError:
            raise NotCaughtUpError from None

    async def reach_ends(self, entries: Mapping[int, int], changes: Mapping[int, int]) -> None:
        """Returns when the entries and the changes of tier up to these offsets are handled, however long it takes."""
        await self._wait(lambda: not self.behind(entries, changes))

    def behind(self, entries: Mapping[int, int], changes: Mapping[int, int]) -> dict[int, int]:
        """How many entries and changes of tier up to these offsets are still to be handled, by partition; those with
        none are left out."""
        left = {
            partition: max(entries.get(partition, 0) - cursor.ledger_offset, 0)
            + max(changes.get(partition, 0) - cursor.change_offset, 0)
            for partition, cursor in self._cursors.items()
        }
        return {partition: lines for partition, lines in left.items() if lines}

    async def _wait(self, is_over: Callable[[], bool]) -> None:
        if is_over():
            return
        wait = _Wait(is_over)
        self._waiting.add(wait)
        try:
            await wait.over.wait()
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
    def __init__(self, is_over: Callable[[], bool]) -> None:
        self.is_over = is_over
        self.over = asyncio.Event()


def _nobody() -> None:
    """Follows no days."""
