"""The journal is folded from the log, and the liability reckoned from the journal (DESIGN §4).

The journal lags behind the log: it is folded beside the lanes, some entries at a time. A read of the liability folds
what is left of it, and adds what time has done to members' points that nobody has written down yet, in one snapshot of
the database: so the figures are those of the entries up to its heads, at one instant, to the point.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from services.ledger import store
from services.ledger.domain.catching_up import catch_up
from services.ledger.domain.events import Entry
from services.ledger.domain.journal import Booked, Days, Journal
from services.ledger.domain.liability import Liability, Span, Sum, liability
from services.ledger.domain.rules import Rules
from services.runtime.clock import SIMULATED_START, ClockMode, MachineClock
from services.runtime.database import TRY_AGAIN, Connection, Pool, keep_going, transact
from services.runtime.tail import Tail

_FOLDED_AT_ONCE = 2000
_FOLD_SECONDS = 1.0
_CAUGHT_UP_AT_ONCE = 500
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reckoned:
    """The liability of a period, and the last entry of each partition that it is made of."""

    liability: Liability
    offsets: dict[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What a liability is made of, per partition: the journal up to a place, and the entries from there to an end."""

    folded: Mapping[int, store.LogPlace]
    ends: Mapping[int, store.LogPlace]
    # The journal holds only what was recorded on earlier days than this; None: all.
    recorded_before: date | None = None


class Bookkeeping:
    """Keeps the journal and reads it."""

    def __init__(
        self,
        *,
        pool: Pool,
        rules: Rules,
        installation: store.Installation,
        clock: MachineClock,
        tail: Tail[Entry],
    ) -> None:
        self._pool = pool
        self._tail = tail
        self._rules = rules
        self._partitions = installation.partitions
        self._simulated = installation.clock_mode is ClockMode.SIMULATED
        self._clock = clock

    async def keep_folded(self) -> None:
        """Folds for ever, a little at a time: a read folds what is left."""

        async def fold() -> None:
            while True:
                await self.fold()
                await asyncio.sleep(_FOLD_SECONDS)

        await keep_going("journal", fold, also=TRY_AGAIN)

    async def fold(self) -> int:
        """Folds the next entries of each partition into the journal; how many."""
        async with self._pool.acquire(timeout=5) as connection:
            behind = await store.read_unfolded(connection)
        return sum([await self._fold(partition) for partition in behind])

    async def _fold(self, partition: int) -> int:
        async def fold(connection: Connection) -> int:
            place = await store.lock_journal_cursor(connection, partition)
            entries = self._held(partition, place.entry_offset) or await store.read_booked(
                connection, partition, place.entry_offset, store.LAST_OFFSET, _FOLDED_AT_ONCE
            )
            if entries:
                journal = self._journal(place)
                for _, entry in entries:
                    journal.book(entry)
                now = store.LogPlace(entry_offset=entries[-1][0], clock=journal.clock or place.clock)
                await store.write_journal(connection, partition, journal.sums, now)
            return len(entries)

        return await transact(self._pool, fold)

    def _held(self, partition: int, after: int) -> list[tuple[int, Booked]]:
        """The entries that follow, as far as they are held in memory: most are folded before they leave it."""
        last = self._tail.last(partition)
        held = self._tail.between(partition, after, last) if last > after else None
        return [(entry.offset, Booked.of(entry.event, entry.recorded_time)) for entry in held or ()]

    async def reckon(self, period: str, known_at: datetime | None) -> Reckoned:
        """The liability of a period (empty: the open month), from what was recorded by a time (None: all).

        Raises PeriodError for a period that had not begun by then.
        """
        now = self._clock()
        if known_at is not None and known_at >= now:
            known_at = None
        await self._fold_all()
        async with (
            self._pool.acquire(timeout=5) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            if known_at is None:
                known = await self._all(connection)
            else:
                known = await self._recorded_by(connection, known_at)
                now = known_at
            if self._simulated:
                now = min(one.clock for one in known.ends.values())
            span = Span.of(self._rules.books, period, now)
            sums = await self._sums(connection, span, known)
        return Reckoned(
            liability=liability(self._rules.versions, span, sums),
            offsets={partition: end.entry_offset for partition, end in known.ends.items()},
        )

    async def _fold_all(self) -> None:
        """Folds all that was recorded before this call, at least."""
        async with self._pool.acquire(timeout=5) as connection:
            heads = await store.await_batches(connection, self._partitions)
        behind = list(heads)
        while behind:
            for partition in behind:
                await self._fold(partition)
            async with self._pool.acquire(timeout=5) as connection:
                cursors = await store.read_journal_cursors(connection)
            behind = [partition for partition in behind if cursors[partition].entry_offset < heads[partition]]

    async def _all(self, connection: Connection) -> _Known:
        return _Known(
            folded=await store.read_journal_cursors(connection),
            ends={
                head.partition: store.LogPlace(entry_offset=head.last_offset, clock=head.business_time)
                for head in await store.read_heads(connection)
            },
        )

    async def _recorded_by(self, connection: Connection, known_at: datetime) -> _Known:
        day = Days(self._rules.books).day(known_at)
        start = self._rules.books.start_of_local_day(day)
        return _Known(
            folded=await self._places(connection, start),
            ends=await self._places(connection, known_at + _MICROSECOND),
            recorded_before=day,
        )

    async def _places(self, connection: Connection, before: datetime) -> dict[int, store.LogPlace]:
        """The last entry of each partition that was recorded before an instant."""
        return {
            partition: await store.find_recorded(connection, partition, before) for partition in range(self._partitions)
        }

    async def _sums(self, connection: Connection, span: Span, known: _Known) -> Counter[Sum]:
        sums: Counter[Sum] = Counter()
        first, last = span.period.first, span.last_booked
        for key, points in await store.sum_journal(connection, first, last, known.recorded_before):
            sums[key] += points
        for partition, end in known.ends.items():
            journal = self._journal(known.folded[partition])
            after = known.folded[partition].entry_offset
            while entries := await store.read_booked(connection, partition, after, end.entry_offset, _FOLDED_AT_ONCE):
                for _, entry in entries:
                    journal.book(entry)
                after = entries[-1][0]
            for entry in await store.read_booked_by_time(connection, partition, end.entry_offset, span.as_of):
                journal.book(entry)
            await self._book_unwritten(connection, partition, span.as_of, journal)
            for line, points in journal.sums.items():
                sums[Sum(line.posting_day, line.account, line.expiry_month, line.market)] += points
        return sums

    async def _book_unwritten(self, connection: Connection, partition: int, until: datetime, journal: Journal) -> None:
        """Books what time has done to members' points by an instant and nobody has written down.

        Whatever a member does is written after what time did to it before: so its state is the one of that time.
        """
        after = (SIMULATED_START, "")
        while due := await store.list_due_members(connection, partition, until, after, _CAUGHT_UP_AT_ONCE):
            keys = [store.MemberKey(partition, member_id) for _, member_id in due]
            for member in (await store.read_members(connection, keys)).values():
                for event in catch_up(self._rules.versions, member, until)[0]:
                    journal.book(Booked.by_time(event))
            after = due[-1]

    def _journal(self, place: store.LogPlace) -> Journal:
        """An empty journal for the entries that follow."""
        return Journal(self._rules.books, place.clock if self._simulated else None)
