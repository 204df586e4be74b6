"""The use cases of tiers: taking in the ledger, running what is due, and the reads that wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from services import programme as programmes
from services.programme import Programme, Version, Versions
from services.runtime.causality import reached
from services.runtime.clock import ClockMode, MachineClock, machine_now
from services.runtime.database import CONNECT_TIMEOUT_SECONDS, Connection, Pool, transact, transact_over
from services.runtime.signal import Signal, woken
from services.runtime.status import InvalidFieldError, NotCaughtUpError
from services.runtime.tail import Tail
from services.tiers import store
from services.tiers.domain.facts import BEGINNING, Fact, FactKind, History, MemberKey, Scope, history_of
from services.tiers.domain.feed import (
    NOTHING_KNOWN,
    Cursor,
    Effects,
    EntryKind,
    HistoryWantedError,
    Known,
    LedgerEntry,
    TierChange,
    come_back,
    decide,
    due_time,
    facts_again,
    horizons,
    let_pass,
    mended,
    reached_time,
    take_in,
    unseen,
)
from services.tiers.domain.preview import Preview
from services.tiers.domain.standing import Line, Standing, decides_alone, evaluate, explain, standing_of
from services.tiers.domain.track import NO_BENEFITS, Agenda, HistoryNeededError, MemberState, Reason, Track
from services.tiers.errors import (
    CursorAheadError,
    DocumentInvalidError,
    FeedBrokenError,
    FromTimeError,
    LedgerDiffersError,
    MemberUnknownError,
    NotEnrolledError,
    NotReadyError,
    RequestIdReusedError,
    TierUnknownError,
    TokenBeyondLogError,
)
from services.tiers.gathered import Gathered
from services.tiers.paging import Place, page_token_of, read_page_token
from services.tiers.recent import RecentStates
from services.tiers.store import ClassNotice, Decision, Found, Leaving, StoredChange, StoredVersion

T = TypeVar("T")

# No read waits longer, whatever its deadline.
LONGEST_WAIT_SECONDS = 30.0
# Commits of this process wake whoever waits; this often they look at the database themselves.
POLL_SECONDS = 0.5
# Members of one transaction of a due run.
DUE_BATCH = 1000
# Members of a page where the caller names no number.
DEFAULT_PAGE = 50
# Changes of one response of the stream.
CHANGES_PER_RESPONSE = 1000
# Entries that may be passed before that is written down.
MOST_PASSED = 1000
# The states of each partition that are held in memory: half a kilobyte each.
_STATES_HELD = 4096
# The newest changes of each partition that are held in memory.
_CHANGES_HELD = 256
# Movements of one member that are read with its state. Of one with more of them, those that cannot change its standing
# are one; so many of the last are read one by one to find out which can. Where other things are due, too, or it would
# take more than that, so many of the first are looked through for the next change.
_READ_WITH_STATE = 100
_LAST_LOOKED_THROUGH = (_READ_WITH_STATE, 1_000, 10_000)
_FIRST_LOOKED_THROUGH = 2_000
# Facts of a history that are reckoned with at once.
_LONG = 2_000
# Members whose histories are read at once.
_HISTORIES_AT_ONCE = 200
# Members that one transaction brings to another version, in so many partitions at a time. Nobody else is served while
# histories are counted again, for some 0.4 ms each.
_BROUGHT_ON = 100
_PARTITIONS_BROUGHT_ON = 2
# Members whose standings are read at once.
_MEMBERS_AT_ONCE = 1000
# Nobody looks further ahead.
_FAR = timedelta(days=36_500)
# After all that is ever due.
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """All changes caused up to this offset, and due up to this instant, come before."""

    partition: int
    ledger_offset_processed: int
    due_time_processed: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingPage:
    """Members by id, at one instant; the token of the next page is empty on the last."""

    standings: Sequence[tuple[str, Standing]]
    next_page_token: str
    at_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who is listed: whoever meets all conditions that are set."""

    tier_numbers: frozenset[int] = frozenset()
    market: str | None = None
    losing_within: timedelta | None = None
    """Who loses the tier within so long, if nothing more happens."""
    missing_at_most: int | None = None
    """Who misses no more for the next tier."""

    def has(self, standing: Standing) -> bool:
        """Whether a member with this standing belongs to it."""
        if self.tier_numbers and standing.level.number not in self.tier_numbers:
            return False
        if self.market is not None and standing.market.key != self.market:
            return False
        if self.missing_at_most is not None and (
            standing.missing_for_next_level is None or standing.missing_for_next_level > self.missing_at_most
        ):
            return False
        if self.losing_within is None:
            return True
        fall = standing.next_fall
        return fall is not None and fall.time <= standing.at_time + self.losing_within


EVERYBODY = Audience()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a caller asks to be decided of a member. `request` is the canonical request as sent."""

    kind: FactKind
    member_id: str
    request_id: str
    principal: str
    on_behalf_of: str
    request: bytes
    tier_number: int = 0
    scope: Scope | None = None
    reason: str = ""
    until_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePage:
    """Some of the lines that explain a standing, and whether others follow."""

    standing: Standing
    lines: Sequence[Line]
    more: bool


class Positions:
    """How far this process has come, in its memory; whoever waits is woken when it moves.

    What lies before is committed, all but entries that change nothing and are only passed.
    """

    def __init__(self) -> None:
        self.cursors: dict[int, Cursor] = {}
        self.clock_mode: ClockMode | None = None
        self._moved = Signal()

    @property
    def business_time(self) -> datetime:
        """Business time that all partitions have reached, as far as it was taken in."""
        return reached_time(self.cursors)

    @property
    def due_time(self) -> datetime:
        """Up to when all partitions have run what is due."""
        return due_time(self.cursors)

    @property
    def is_simulated(self) -> bool:
        """Whether business time moves by the ledger's clock entries alone."""
        return self.clock_mode is ClockMode.SIMULATED

    @property
    def due_is_behind(self) -> bool:
        """Whether the partitions of a simulated installation have passed an instant whose changes are still to come."""
        return self.is_simulated and self.due_time < self.business_time

    @property
    def facts_missing(self) -> bool:
        """Whether histories are not complete yet: an older release kept none."""
        return any(cursor.facts_missing for cursor in self.cursors.values())

    @property
    def facts_read(self) -> bool:
        """Whether all facts that were missing have been read again."""
        return all(cursor.facts_read >= cursor.facts_missing for cursor in self.cursors.values())

    @property
    def notices_until(self) -> datetime | None:
        """Earning classes in force from this instant or before go to the ledger now; None: all of them.

        In real time the ledger hears them at once, ahead of the day in which they hold. A history that is lived
        through again has whole days of a member under way at the same time, and a class among them would lie where
        chance put it: there it is told when its day begins, behind all that happened before.
        """
        return self.due_time if self.is_simulated else None

    def publish(self, cursors: Iterable[Cursor]) -> None:
        """Takes over where partitions stand, in whatever order the news come, and wakes those who wait."""
        for cursor in cursors:
            known = self.cursors.get(cursor.partition, cursor)
            self.cursors[cursor.partition] = Cursor(
                partition=cursor.partition,
                ledger_offset=max(known.ledger_offset, cursor.ledger_offset),
                business_time=max(known.business_time, cursor.business_time),
                due_time=max(filter(None, (known.due_time, cursor.due_time)), default=None),
                change_offset=max(known.change_offset, cursor.change_offset),
                decision_number=max(known.decision_number, cursor.decision_number),
                facts_missing=cursor.facts_missing,
                facts_read=max(known.facts_read, cursor.facts_read),
            )
        self.wake()

    def wake(self) -> None:
        """Wakes those who wait."""
        self._moved.send()

    def listen(self) -> asyncio.Event:
        """Set at the next move. Taken before the state is looked at, it misses nothing."""
        return self._moved.next()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """What a transaction did, and its cursors as they were before."""

    before: Mapping[int, Cursor]
    effects: Effects


class Tiers:
    """The service over one database and the versions of one programme."""

    def __init__(self, *, pool: Pool, versions: Versions, now: MachineClock = machine_now) -> None:
        self.versions = versions
        self.positions = Positions()
        # Set when the outbox may have something to be told.
        self.notices_wait = asyncio.Event()
        self._pool = pool
        self._now = now
        self._newest: Tail[StoredChange] = Tail(_CHANGES_HELD)
        self._recent = RecentStates(_STATES_HELD)
        self._found: Gathered[str, Found] = Gathered(self._find_together)
        # Entries that were passed, and are written down with the next that change something.
        self._passed: list[LedgerEntry] = []
        # In a simulated installation: no member has anything due before, as far as is known. What is decided here may
        # lower it at any time: so often it has.
        self._next_due = BEGINNING
        self._lowered = 0
        # All standings go by this version of the programme, or a later one.
        self._all_go_by = 0

    # --- versions of the programme ---

    async def learn(self, versions: Sequence[StoredVersion], *, simulated: bool = False) -> None:
        """Takes over the versions that the ledger tells; raises LedgerDiffersError where they do not go on from those
        that are known. `simulated`: the installation is; what is new counts as known from when it holds, until its
        entries in the feed say that it was earlier (`date_versions`)."""
        told = [version.version for version in versions]
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            stored = await store.read_versions(connection)
            kept = [version.version for version in stored]
            # Before the first word of a ledger this service knows a file alone, which may be any of the versions.
            goes_on = told[: len(kept)] == kept if kept else self.versions[0].programme.version in told
            if not goes_on:
                own = ", ".join(kept) or self.versions[0].programme.version
                raise LedgerDiffersError(f"the ledger goes by {', '.join(told)}, this service by {own}")
            if simulated:
                new = versions[len(stored) :]
                versions = [*stored, *(replace(one, recorded_time=one.from_time) for one in new)]
            await store.insert_versions(connection, versions)
        if len(told) != len(self.versions):
            self.versions = read_versions(versions)
            # What was told of the time to come was told by fewer.
            self._recent.forget()
            self.positions.wake()

    async def date_versions(self, told: Sequence[LedgerEntry]) -> None:
        """In a simulated installation: a version is known from the clock at which its entry stands in the feed, the
        earliest of all partitions; so it is the same whenever this service was away. `told`: some of these entries,
        not taken in yet."""
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            known = [(entry.effective_time, entry.occurred_time) for entry in told if entry.effective_time is not None]
            await store.date_versions(connection, known)
            self.versions = read_versions(await store.read_versions(connection))

    def knows(self, told: LedgerEntry) -> bool:
        """Whether the version of the programme is known that an entry tells of: a document may be applied again, and so
        the instant from which it holds says which one that is."""
        return any(
            version.from_time == told.effective_time and version.programme.version == told.name
            for version in self.versions
        )

    async def complete_facts(self, entries: Sequence[LedgerEntry]) -> None:
        """Keeps the facts of entries that an older release took in without keeping them."""
        missing = {p: cursor.facts_missing for p, cursor in self.positions.cursors.items() if cursor.facts_missing}
        fresh = [entry for entry in entries if entry.offset <= missing.get(entry.partition, 0)]
        if not fresh:
            return

        async def work(connection: Connection) -> dict[int, Cursor]:
            cursors = await store.lock_cursors(connection, {entry.partition for entry in fresh})
            purchases = await store.read_purchase_times(connection, come_back(fresh))
            effects = facts_again(self.versions, fresh, purchases)
            if effects:
                await store.add_facts_again(connection, effects)
            await store.set_facts_read(connection, {entry.partition: entry.offset for entry in fresh})
            return await store.lock_cursors(connection, cursors)

        self.positions.publish((await transact(self._pool, work)).values())

    async def mend_standings(self) -> None:
        """Where all missing facts have been read again: brings the standings to what they say, some members per
        transaction. Then none are missing any more."""
        for partition, cursor in sorted(self.positions.cursors.items()):
            last: str | None = "" if cursor.facts_missing else None
            while last is not None:
                last = await self._mend(partition, last)

    async def _mend(self, partition: int, after: str) -> str | None:
        """Mends the standings of some members of a partition, those after an id; the last of them, None: that was
        all."""

        async def work(connection: Connection) -> tuple[Mapping[int, Cursor], str | None]:
            await store.lock_cursors(connection, [partition])
            every = len(self.versions)
            states = await store.read_states_behind(connection, partition, after, every, _HISTORIES_AT_ONCE)
            if states:
                taken = await store.read_taken(connection, states)
                await store.upsert_states(connection, mended(self.versions, states, taken))
            last = max(states)[1] if len(states) == _HISTORIES_AT_ONCE else None
            if last is None:
                await store.set_facts_complete(connection, partition)
            return await store.lock_cursors(connection, [partition]), last

        cursors, last = await transact(self._pool, work)
        self._recent.forget()
        self.positions.publish(cursors.values())
        return last

    def standings_are_behind(self, to_time: datetime) -> bool:
        """Whether standings are still to be brought to the version of the programme that holds at an instant."""
        return self.versions.number_at(to_time) > self._all_go_by

    async def run_programme(self, to_time: datetime) -> None:
        """Brings all standings to the version that holds at an instant, some members per transaction.

        Whoever is not brought to it yet is told by it all the same: standings are then told from the history.
        """
        if not self.standings_are_behind(to_time):
            return
        version = self.versions.number_at(to_time)
        partitions = iter(sorted(self.positions.cursors))

        async def bring_on() -> None:
            for partition in partitions:
                last: str | None = ""
                while last is not None:
                    last = await self._bring_on(partition, last, version, to_time)

        # The database works for one while this process does for another.
        workers = [asyncio.create_task(bring_on()) for _ in range(_PARTITIONS_BROUGHT_ON)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
        self._all_go_by = version

    # --- taking in ---

    async def recover(self) -> None:
        """Takes over what the database holds: reads are answered from then on, though the ledger be away."""
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            cursors, clock_mode = await store.read_cursors(connection)
            stored = await store.read_versions(connection)
        if stored:
            self.versions = read_versions(stored)
        self._recent.look(cursors)
        if clock_mode:
            self.positions.clock_mode = ClockMode(clock_mode)
            self.positions.publish(cursors.values())

    async def prepare(self, *, partitions: Sequence[int], clock_mode: ClockMode) -> None:
        """Makes a cursor for each partition of the ledger; raises LedgerDiffersError where there are others."""

        async def work(connection: Connection) -> None:
            cursors, known_mode = await store.read_cursors(connection)
            if cursors and (set(cursors) != set(partitions) or known_mode != clock_mode.value):
                raise LedgerDiffersError(
                    f"the ledger has {len(partitions)} partitions and a {clock_mode.value} clock, "
                    f"these tables have {len(cursors)} and a {known_mode} one"
                )
            await store.create_cursors(connection, partitions, clock_mode.value)
            for partition in partitions:
                await store.take_over(connection, partition)

        await transact(self._pool, work)
        await self.recover()

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[Connection]:
        """A connection for one transaction after the other."""
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            yield connection

    async def take_in(self, entries: Sequence[LedgerEntry], *, over: Connection | None = None) -> None:
        """Takes in entries of the feed, in order, in one transaction; what was taken in before is passed over.

        Where they bring all partitions of a simulated installation past an instant, what is due by then follows in the
        same transaction; for `run_passed` remains what is too much for one. Entries that change nothing need none:
        they are passed, and written down with others that do. `over`: the connection of `writing`.
        """
        if self._pass(entries):
            return
        entries = [*self._passed, *entries]
        next_due = self._next_due

        async def work(connection: Connection) -> tuple[_Done, datetime] | None:
            named = {entry.partition for entry in entries}
            # The clock may be the last one to reach an instant: then something is due in all partitions.
            moves_clock = any(entry.kind is EntryKind.CLOCK for entry in entries)
            cursors = await store.lock_cursors(connection, self.positions.cursors if moves_clock else named)
            if missing := named - cursors.keys():
                raise FeedBrokenError(f"the feed has partitions {sorted(missing)} that the ledger did not list")
            fresh = unseen(entries, cursors)
            if not fresh:
                self._recent.look(cursors)
                return None
            known = await self._read(connection, fresh, cursors)
            effects = await self._with_histories(
                connection,
                known,
                lambda known: take_in(self.versions, fresh, cursors, known, simulated=self.positions.is_simulated),
            )
            await self._write(connection, effects)
            first = min([next_due, *(s.next_due for s in effects.states.values() if s.next_due)])
            before = due_time(effects.cursors)
            if moves_clock and before < (to_time := reached_time(effects.cursors)):
                if self._goes_by_another(before, to_time):
                    # All members are brought to another version first: too much for one transaction.
                    first = BEGINNING
                else:
                    if first <= to_time:
                        due, _ = await self._run_due(connection, effects.cursors, to_time)
                        first = await store.read_next_due(connection, cursors) or _NEVER
                    else:
                        due = let_pass(self.versions, to_time, effects.cursors, NOTHING_KNOWN, complete=True)
                    effects = effects.followed_by(due)
            await store.update_cursors(connection, effects.cursors)
            return _Done(before=cursors, effects=effects), first

        # Whatever becomes of the transaction.
        self._next_due = BEGINNING
        lowered = self._lowered
        outcome = await self._transact(work, over)
        self._passed = []
        if outcome is not None:
            done, first = outcome
            self._next_due = first if lowered == self._lowered else BEGINNING
            self._keep(done)

    async def _read(
        self, connection: Connection, entries: Sequence[LedgerEntry], cursors: Mapping[int, Cursor]
    ) -> Known:
        """What is stored of the members that entries name."""
        until = horizons(entries, cursors)
        states = self._recent.find(until, cursors)
        if others := until.keys() - states.keys():
            states |= await store.read_states(connection, others)
        back = come_back(entries)
        return Known(
            states=states,
            agendas=await self._agendas(connection, {key: (state, until[key]) for key, state in states.items()}),
            histories={},
            purchases=await store.read_purchase_times(connection, back) if back else {},
        )

    async def _agendas(
        self, connection: Connection, horizons: Mapping[MemberKey, tuple[MemberState, datetime]]
    ) -> dict[MemberKey, Agenda]:
        """The agendas of those of whom something is due by then, or may be due next without a movement."""
        wanted = [
            (key, state, until)
            for key, (state, until) in horizons.items()
            if state.next_due is not None and (state.next_due <= until or not state.waits_for_movements_alone)
        ]
        return await store.read_agendas(connection, wanted) if wanted else {}

    async def _with_histories(self, connection: Connection, known: Known, work: Callable[[Known], Effects]) -> Effects:
        """What the work makes of what is known; where it wants the histories of members, of those, too."""
        while True:
            try:
                return work(known)
            except HistoryWantedError as wanted:
                if self.positions.facts_missing:
                    raise NotReadyError from None
                found = await store.read_facts(connection, wanted.members)
                known = replace(known, histories={**known.histories, **found})

    async def _bring_on(self, partition: int, after: str, version: int, to_time: datetime) -> str | None:
        """Brings some members of a partition, those after an id, to a version; the last of them, None: that was all."""

        async def work(connection: Connection) -> tuple[_Done, str | None]:
            cursors = await store.lock_cursors(connection, [partition])
            states = await store.read_states_behind(connection, partition, after, version, _BROUGHT_ON)
            effects = await self._let_pass(connection, cursors, states, to_time, complete=False)
            await self._write(connection, effects)
            await store.update_cursors(connection, effects.cursors)
            last = max(states)[1] if len(states) == _BROUGHT_ON else None
            return _Done(before=cursors, effects=effects), last

        done, last = await transact(self._pool, work)
        self._keep(done)
        return last

    async def _let_pass(
        self,
        connection: Connection,
        cursors: Mapping[int, Cursor],
        states: Mapping[MemberKey, MemberState],
        to_time: datetime,
        *,
        complete: bool,
    ) -> Effects:
        """What time alone does to members up to an instant."""
        agendas = await self._agendas(connection, {key: (state, to_time) for key, state in states.items()})
        known = Known(states=states, agendas=agendas, histories={}, purchases={})
        return await self._with_histories(
            connection, known, lambda known: let_pass(self.versions, to_time, cursors, known, complete=complete)
        )

    def _goes_by_another(self, before: datetime, after: datetime) -> bool:
        """Whether another version of the programme begins to hold between two instants."""
        return self.versions.number_at(after) > self.versions.number_at(before)

    def _pass(self, entries: Sequence[LedgerEntry]) -> bool:
        """Passes entries that neither move nor make a member, and let no time pass in which something is due.

        It is as if they were taken in; who forgets it passes them again. False, and nothing done, where they are
        others, or many.
        """
        cursors = self.positions.cursors
        if len(self._passed) + len(entries) > MOST_PASSED or any(
            entry.kind is EntryKind.FACT or entry.partition not in cursors for entry in entries
        ):
            return False
        fresh = unseen(entries, cursors)
        after = take_in(self.versions, fresh, cursors, NOTHING_KNOWN).cursors
        before, to_time = due_time(after), reached_time(after)
        if self.positions.is_simulated and before < to_time:
            if self._next_due <= to_time or self._goes_by_another(before, to_time):
                return False
            after = let_pass(self.versions, to_time, after, NOTHING_KNOWN, complete=True).cursors
        self._passed += fresh
        self._publish(after)
        return True

    async def run_due(self, to_time: datetime, *, over: Connection | None = None) -> None:
        """Makes all changes that time alone makes up to an instant, some members per transaction."""
        if self.positions.is_simulated:
            await self.run_programme(to_time)
        while True:

            async def work(connection: Connection) -> tuple[_Done, bool]:
                cursors = await store.lock_cursors(connection, self.positions.cursors)
                effects, complete = await self._run_due(connection, cursors, to_time)
                await store.update_cursors(connection, effects.cursors)
                return _Done(before=cursors, effects=effects), complete

            done, complete = await self._transact(work, over)
            self._keep(done)
            if complete:
                return

    async def _run_due(
        self, connection: Connection, cursors: Mapping[int, Cursor], to_time: datetime
    ) -> tuple[Effects, bool]:
        """What is due up to an instant in locked partitions, of as many members as one transaction may have; and
        whether those are all."""
        states = await store.read_due_states(connection, cursors, to_time, DUE_BATCH)
        complete = len(states) < DUE_BATCH
        effects = await self._let_pass(connection, cursors, states, to_time, complete=complete)
        await self._write(connection, effects)
        return effects, complete

    async def run_passed(self, *, over: Connection | None = None) -> None:
        """In a simulated installation: what is due up to the business time that all partitions have passed."""
        if self.positions.due_is_behind:
            await self.run_due(self.positions.business_time, over=over)

    async def next_due(self) -> datetime | None:
        """When something falls due next; None where nothing ever does."""
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            return await store.read_next_due(connection, self.positions.cursors)

    async def _transact(self, work: Callable[[Connection], Awaitable[T]], over: Connection | None) -> T:
        return await (transact(self._pool, work) if over is None else transact_over(over, work))

    async def _write(self, connection: Connection, effects: Effects, *, decided_by: str = "") -> None:
        """Writes what a batch does, all but its cursors: a fixed number of statements, whatever its size. `decided_by`:
        who made the decision, where it is one."""
        if effects.facts:
            await store.insert_facts(connection, effects.facts)
        if effects.redrawn:
            await store.delete_movements(connection, effects.redrawn)
        if added := {
            key: [*effects.redrawn.get(key, ()), *effects.movements.get(key, ())]
            for key in effects.redrawn.keys() | effects.movements
        }:
            await store.insert_movements(connection, added)
        if effects.states:
            await store.upsert_states(connection, effects.states)
        if effects.changes:
            await store.insert_changes(connection, self._stored(effects))
            notices = [
                notice_of(
                    self.versions,
                    effects.states[change.partition, change.member_id].carried.market,
                    change,
                    "" if change.change.cause_number is None else decided_by,
                )
                for change in effects.changes
                if tells_class(change)
            ]
            if notices:
                await store.insert_outbox(connection, notices)

    def _stored(self, effects: Effects) -> list[StoredChange]:
        """The changes with the version that decided each."""
        return [
            StoredChange(
                tier_change=change,
                programme_version=self.versions.at(change.change.changed_time).version,
                market=effects.states[change.partition, change.member_id].carried.market,
            )
            for change in effects.changes
        ]

    def _keep(self, done: _Done) -> None:
        """Takes over what was committed."""
        effects = done.effects
        self._newest.add(self._stored(effects))
        self._recent.keep(done.before, effects.cursors, effects.states)
        if effects.changes and self.positions.clock_mode is ClockMode.REAL:
            self.notices_wait.set()
        self._publish(effects.cursors)

    def _publish(self, cursors: Mapping[int, Cursor]) -> None:
        told_until = self.positions.notices_until
        self.positions.publish(cursors.values())
        if told_until != self.positions.notices_until:
            self.notices_wait.set()

    # --- the outbox of earning classes ---

    async def waiting_notices(self, limit: int) -> list[ClassNotice]:
        """Earning classes to be told now, the earliest; of each member the next one, others when that is answered."""
        positions = self.positions
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            waiting = await store.read_outbox(connection, positions.cursors, positions.notices_until, limit)
        return next_of_each_member(waiting)

    async def forget_notices(self, notices: Sequence[ClassNotice]) -> None:
        """Takes out what the ledger has answered, and wakes those who wait for it."""
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            await store.delete_outbox(connection, notices)
        self.positions.wake()

    # --- reads ---

    async def wait_for(self, wanted: Mapping[int, int], *, seconds: float, settled: bool = False) -> None:
        """Returns when these offsets of the ledger are taken in, with what is due by then.

        `settled`: and when the ledger has answered every earning class that follows and is to be told by now. Raises
        NotCaughtUpError where that takes longer than `seconds`, TokenBeyondLogError for a partition that is none.
        """
        deadline = asyncio.get_running_loop().time() + min(seconds, LONGEST_WAIT_SECONDS)
        positions = self.positions
        if wanted:
            await self._until(lambda: bool(positions.cursors), deadline)
            if not wanted.keys() <= positions.cursors.keys():
                raise TokenBeyondLogError
            await self._until(lambda: self._caught_up(wanted), deadline)
        if not settled:
            return
        marks = {partition: cursor.change_offset for partition, cursor in positions.cursors.items()}
        until = positions.notices_until
        while True:
            moved = positions.listen()
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
                if not await store.outbox_waits(connection, marks, until):
                    return
            await woken(moved, min(POLL_SECONDS, self._remaining(deadline)))

    async def taken_in(self, wanted: Mapping[int, int]) -> None:
        """Returns when these offsets of the ledger are taken in, however long that takes."""
        await self._until(lambda: self._has_taken_in(wanted), math.inf)

    def _caught_up(self, wanted: Mapping[int, int]) -> bool:
        return self._has_taken_in(wanted) and not self.positions.due_is_behind

    def _has_taken_in(self, wanted: Mapping[int, int]) -> bool:
        offsets = {partition: cursor.ledger_offset for partition, cursor in self.positions.cursors.items()}
        return reached(offsets, wanted)

    async def _until(self, condition: Callable[[], bool], deadline: float) -> None:
        while not condition():
            moved = self.positions.listen()
            if not await woken(moved, min(POLL_SECONDS, self._remaining(deadline))):
                await self.recover()

    @staticmethod
    def _remaining(deadline: float) -> float:
        remaining = deadline - asyncio.get_running_loop().time()
        if remaining <= 0:
            raise NotCaughtUpError
        return remaining

    def business_now(self) -> datetime:
        """What the installation's clock shows; raises NotReadyError before the ledger was ever reached."""
        if self.positions.clock_mode is None:
            raise NotReadyError
        return self._now() if self.positions.clock_mode is ClockMode.REAL else self.positions.business_time

    async def standing(
        self, member_id: str, at_time: datetime | None, known_at_time: datetime | None = None
    ) -> Standing:
        """A member's standing at an instant; None: now, or the member's latest event where that is later.

        `known_at_time`: from what was known then; None: all. Raises MemberUnknownError, or NotEnrolledError before
        joining and for one who has left.
        """
        now = self.business_now()
        if known_at_time is None and (told := self._recent.told(member_id)) is not None:
            at = at_time or max(now, told[0].as_of)
            if self._says(told[0], at):
                return told[1]._replace(at_time=at)
        found = await self._found.get(member_id)
        if found is None:
            raise MemberUnknownError
        state = found.state
        at = at_time or max(now, state.as_of)
        # A coming version that weighs movements in another way wants the history.
        with contextlib.suppress(HistoryNeededError):
            # So does one whose time of a tier something late may have changed.
            if known_at_time is None and self._says(state, at) and not await self._wants_history(found):
                ahead = await self._ahead(found)
                # By the versions of now: another one may have come while that was read.
                standing = standing_of(self.versions, state, ahead, at)
                self._recent.tell(found.cursor, member_id, state, standing)
                return standing
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            history = await self._history(connection, found.key, known_at_time)
        versions = self._versions_known(known_at_time)
        standing = await _apart(history, lambda: evaluate(versions, history, at))
        if known_at_time is None and versions is self.versions and self._says(state, at):
            self._recent.tell(found.cursor, member_id, state, standing)
        return standing

    async def _wants_history(self, found: Found) -> bool:
        """Whether only the history tells since when the tier is held; of a very long one it is told as it was."""
        if not found.state.carried.mended:
            return False
        if len(found.last) < _READ_WITH_STATE:
            return True
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            return await store.count_facts(connection, found.key, _LONG + 1) <= _LONG

    async def _find_together(self, member_ids: Collection[str]) -> dict[str, Found]:
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            return await store.find_standings(connection, self.positions.cursors, member_ids, _READ_WITH_STATE)

    async def _ahead(self, found: Found) -> Agenda:
        """What movements do to a member that is found, as far as it takes to tell its next change."""
        key, state, last = found.key, found.state, found.last
        if len(last) < _READ_WITH_STATE:
            return Agenda.leaving(last, state.as_of)
        if len(self.versions) > state.version + 1:
            # What a version to come makes of so many is not looked for.
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
                first = await store.read_ahead(connection, key, state, _FIRST_LOOKED_THROUGH)
            until = min(first[-1].end_time, self.versions[state.version + 1].from_time)
            return Agenda.leaving(first, state.as_of).until(until)
        track = Track.of(self.versions, state, Agenda())
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            for most in _LAST_LOOKED_THROUGH:
                if not track.stays(state.balance, state.balance):
                    break
                if most > len(last):
                    last = await store.read_last(connection, key, state, most)
                if len(last) < most:
                    return Agenda.leaving(last, state.as_of)
                # All that leave up to here, this instant included, are one.
                until = last[-1].end_time
                rest = [leaving for leaving in last if leaving.end_time > until]
                balance = sum([leaving.amount for leaving in rest])
                back = await store.sum_back(connection, key, state, until)
                if track.stays(balance + back, state.balance - back):
                    between = Leaving(until, state.balance - balance, None)
                    return Agenda.leaving([*rest, between], state.as_of)
            first = await store.read_ahead(connection, key, state, _FIRST_LOOKED_THROUGH)
        return Agenda.leaving(first, state.as_of).until(first[-1].end_time)

    async def explain(
        self, member_id: str, at_time: datetime | None, known_at_time: datetime | None, *, first: int, size: int
    ) -> LinePage:
        """A standing as `standing` has it, with some of the lines that explain it, from the number `first` (0) on."""
        now = self.business_now()
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            key, state = await self._find(connection, member_id)
            history = await self._history(connection, key, known_at_time)
        at = at_time or max(now, state.as_of)

        versions = self._versions_known(known_at_time)

        def explained() -> tuple[Standing, list[Line]]:
            lines = itertools.islice(explain(versions, history, at), first, first + size + 1)
            return evaluate(versions, history, at), list(lines)

        standing, lines = await _apart(history, explained)
        return LinePage(standing=standing, lines=lines[:size], more=len(lines) > size)

    async def batch(
        self, member_ids: Sequence[str], at_time: datetime | None
    ) -> dict[str, Standing | MemberUnknownError | NotEnrolledError]:
        """The standings of members at one instant (None: now), or why there is none."""
        now = self.business_now()
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            states = await store.find_states(connection, self.positions.cursors, member_ids)
            at = at_time or max([now, *(state.as_of for state in states.values())])
            standings = await self._standings(connection, states, at, ahead=timedelta.max)
        found: dict[str, Standing | MemberUnknownError | NotEnrolledError] = dict.fromkeys(
            member_ids, MemberUnknownError()
        )
        for key in states:
            found[key[1]] = standings.get(key) or NotEnrolledError()
        return found

    async def _find(self, connection: Connection, member_id: str) -> tuple[MemberKey, MemberState]:
        found = await store.find_states(connection, self.positions.cursors, [member_id])
        for key, state in found.items():
            return key, state
        raise MemberUnknownError

    def _says(self, state: MemberState, at_time: datetime) -> bool:
        """Whether a state says how the member stands at an instant."""
        return state.holds_at(at_time) and state.version == self.versions.number_at(at_time)

    def _versions_known(self, known_at_time: datetime | None) -> Versions:
        return self.versions if known_at_time is None else self.versions.known_at(known_at_time)

    async def _history(self, connection: Connection, key: MemberKey, known_at_time: datetime | None) -> History:
        if self.positions.facts_missing:
            raise NotReadyError
        history = history_of((await store.read_facts(connection, [key]))[key])
        if known_at_time is None:
            return history
        known = history.known_at(known_at_time)
        if known is None:
            raise MemberUnknownError
        return known

    async def _standings(
        self,
        connection: Connection,
        states: Mapping[MemberKey, MemberState],
        at_time: datetime,
        *,
        ahead: timedelta | None = None,
    ) -> dict[MemberKey, Standing]:
        """The standings of members at an instant; those who have not joined by then or have left are left out.

        `ahead`: so far they tell the next change; None: they need not.
        """
        says = {key: state for key, state in states.items() if self._says(state, at_time)}
        until = at_time if ahead is None else programmes.FOREVER if ahead > _FAR else at_time + ahead
        agendas = await store.read_agendas(connection, [(key, state, until) for key, state in says.items()])
        standings: dict[MemberKey, Standing] = {}
        others = [key for key in states if key not in says]
        for key, state in says.items():
            try:
                standings[key] = standing_of(self.versions, state, agendas[key], at_time)
            except NotEnrolledError:
                continue
            except HistoryNeededError:
                others.append(key)
        for place in range(0, len(others), _HISTORIES_AT_ONCE):
            if self.positions.facts_missing:
                raise NotReadyError
            for key, facts in (await store.read_facts(connection, others[place : place + _HISTORIES_AT_ONCE])).items():
                with contextlib.suppress(NotEnrolledError):
                    standings[key] = evaluate(self.versions, history_of(facts), at_time)
            await asyncio.sleep(0)
        return standings

    async def count(self, at_time: datetime | None) -> tuple[datetime, Counter[tuple[str, int]]]:
        """Members by market and tier number at an instant (None: now, or the latest event), and the instant."""
        now = self.business_now()
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            at = at_time or max(now, await store.latest_event(connection) or now)
            version = self.versions.number_at(at)
            counts = await store.count_holding(connection, at, version)
            for partition in sorted(self.positions.cursors):
                after = ""
                while states := await store.list_not_holding(
                    connection, at, version, partition, after, _MEMBERS_AT_ONCE
                ):
                    for market, number in (await self._tiers_of(connection, states, at)).values():
                        counts[market, number] += 1
                    after = max(states)[1]
        return at, counts

    async def _tiers_of(
        self, connection: Connection, states: Mapping[MemberKey, MemberState], at_time: datetime
    ) -> dict[MemberKey, tuple[str, int]]:
        """Market and tier number of members at an instant, from movements added up where those alone decide."""
        version = self.versions.number_at(at_time)
        policy = self.versions[version].programme.tiers
        plain: dict[MemberKey, MemberState] = {}
        if version == len(self.versions) - 1 == 0 and decides_alone(policy):
            eventful = await store.read_eventful(connection, states)
            plain = {key: state for key, state in states.items() if key not in eventful and not state.carried.market}
        tiers = {}
        if plain:
            balances = await store.read_balances(connection, at_time, plain)
            tiers = {key: ("", policy.level_for(balances.get(key, 0)).number) for key in plain}
        others = {key: state for key, state in states.items() if key not in plain}
        standings = await self._standings(connection, others, at_time) if others else {}
        return tiers | {key: (one.market.key, one.level.number) for key, one in standings.items()}

    async def standings(
        self, at_time: datetime | None, *, page_size: int, page_token: str, audience: Audience = EVERYBODY
    ) -> StandingPage:
        """A page of those of an audience who are members at an instant (None: now), by member id; 0 is 50 a page.

        The instant is that of the first page, what is known of it that of each page. Raises PageTokenError, and
        InvalidFieldError where an audience of all markets would compare what they count in different units.
        """
        now = self.business_now()
        place = read_page_token(page_token, at_time) if page_token else Place(at_time=at_time or now, after="")
        size = page_size or DEFAULT_PAGE
        at = place.at_time
        if audience.missing_at_most is not None and audience.market is None and not self._counts_alike(at):
            raise InvalidFieldError(
                "market", "markets count in different currencies or units: with missing_at_most, say which one is meant"
            )
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            states = await store.list_states(connection, at, place.after, size + 1)
            page = dict(list(states.items())[:size])
            wanted = {key: state for key, state in page.items() if self._may_be_of(audience, state, at)}
            found = await self._standings(connection, wanted, at, ahead=audience.losing_within)
        token = ""
        if len(states) > size:
            token = page_token_of(Place(at_time=at, after=max(key[1] for key in page)), at_time)
        return StandingPage(
            standings=[(key[1], found[key]) for key in wanted if key in found and audience.has(found[key])],
            next_page_token=token,
            at_time=at,
        )

    def _may_be_of(self, audience: Audience, state: MemberState, at_time: datetime) -> bool:
        """Whether a member may be one of an audience at an instant; False: what is stored says that it is not."""
        if audience.market is not None and state.carried.market != audience.market:
            return False
        if not self._says(state, at_time):
            return True
        if audience.tier_numbers and state.tier_number not in audience.tier_numbers:
            return False
        # Nothing is lost before anything is due.
        return audience.losing_within is None or not self._says(state, at_time + audience.losing_within)

    def _counts_alike(self, at_time: datetime) -> bool:
        """Whether all markets measure balances in one unit at an instant."""
        programme = self.versions.at(at_time)
        markets = [programme.market(key) for key in ("", *programme.markets)]
        return len({(market.tiers.metric, market.currency) for market in markets}) == 1

    async def preview(
        self, document: str, from_time: datetime | None, *, most_members: int, most_moves: int
    ) -> tuple[Programme, tuple[str, ...], Preview]:
        """What another version of the programme, from an instant on (None: now), would do to members, and what it
        takes away from them. `most_members`: so many of them are looked at (0: all).

        Raises DocumentInvalidError, and FromTimeError for a time in the past.
        """
        now = self.business_now()
        at = from_time or now
        if at < now:
            raise FromTimeError
        before = self.versions
        try:
            candidate = programmes.parse(document, "the document", applied=True)
            if before.named(candidate.version) is None:
                candidate = programmes.parse(document, "the document")
        except programmes.ProgrammeError as error:
            raise DocumentInvalidError(str(error), [problem.sentence for problem in error.problems]) from None
        if problems := programmes.breaks(before.at(at), candidate):
            raise DocumentInvalidError("; ".join(problems), problems)
        after = Versions([*(v for v in before if v.from_time < at), Version(programme=candidate, from_time=at)])
        comparing = Preview(before=before, after=after, at_time=at, most_moves=most_moves)
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            if self.positions.facts_missing:
                raise NotReadyError
            place = ""
            while states := await store.list_states(connection, at, place, _HISTORIES_AT_ONCE):
                if most_members:
                    states = dict(list(states.items())[: most_members - comparing.members])
                facts = await store.read_facts(connection, states)
                for key in sorted(facts, key=lambda key: key[1]):
                    comparing.add(key[1], history_of(facts[key]))
                    # Thousands of members are looked at: others are served meanwhile.
                    await asyncio.sleep(0)
                place = max(key[1] for key in states)
                if most_members and comparing.members >= most_members:
                    break
        return candidate, programmes.losses(before.at(at), candidate, candidate.local_day(at)), comparing

    # --- what is decided here ---

    async def decide(self, asked: Asked) -> tuple[Standing, bool]:
        """Decides something about a member, and says how it stands then, and whether that had been decided before.

        Raises MemberUnknownError, NotEnrolledError, TierUnknownError, InvalidFieldError for an end that is not later
        than now, and RequestIdReusedError where the request id was sent with another content.
        """
        now = self.business_now()
        levels = self.versions.at(now).tiers.levels

        async def work(connection: Connection) -> _Done | None:
            key, _ = await self._find(connection, asked.member_id)
            cursors = await store.lock_cursors(connection, [key[0]])
            cursor = cursors[key[0]]
            if (made := await store.find_decision(connection, key, asked.request_id)) is not None:
                if made[1] != asked.request:
                    raise RequestIdReusedError(kept=made[1], sent=asked.request)
                return None
            if asked.tier_number > len(levels):
                raise TierUnknownError
            if asked.until_time is not None and asked.until_time <= now:
                raise InvalidFieldError("end_time", "it must be later than now")
            state = (await store.read_states(connection, [key]))[key]
            if state.carried.resigned:
                raise NotEnrolledError
            fact = Fact(
                kind=asked.kind,
                # What is decided now comes after all that is known.
                occurred_time=max(now, state.as_of),
                recorded_time=self._now(),
                number=cursor.decision_number + 1,
                name=levels[asked.tier_number - 1].key if asked.tier_number else "",
                scope=asked.scope,
                until_time=asked.until_time,
                reason=asked.reason,
                principal=asked.principal,
            )
            if self.positions.is_simulated:
                fact = fact.known_by(cursor.processed_time)
            until = max(fact.occurred_time, cursor.processed_time)
            known = Known(
                states={key: state},
                agendas=await self._agendas(connection, {key: (state, until)}),
                histories={},
                purchases={},
            )
            effects = await self._with_histories(
                connection, known, lambda known: decide(self.versions, key, fact, cursors, known)
            )
            await self._write(connection, effects, decided_by=asked.on_behalf_of or asked.principal)
            await store.insert_decision(
                connection,
                key,
                Decision(
                    number=fact.number,
                    request_id=asked.request_id,
                    request=asked.request,
                    on_behalf_of=asked.on_behalf_of,
                    ledger_offset=cursor.ledger_offset,
                ),
            )
            await store.update_cursors(connection, effects.cursors)
            return _Done(before=cursors, effects=effects)

        self._lower()
        done = await transact(self._pool, work)
        self._lower()
        if done is not None:
            self._keep(done)
        return await self.standing(asked.member_id, None), done is None

    def _lower(self) -> None:
        """Something may be due earlier than was known, also to a transaction that is under way."""
        self._next_due = BEGINNING
        self._lowered += 1

    async def changes(
        self, after: Mapping[int, int], *, follow: bool
    ) -> AsyncIterator[tuple[list[StoredChange], list[Progress]]]:
        """The log of changes after these offsets, in order per partition, with how far each partition has come.

        A partition's progress comes when all its changes up to there have come. Without `follow` it ends at the
        changes that were there when it began. Raises CursorAheadError.
        """
        if self.positions.clock_mode is None:
            raise NotReadyError
        for partition, offset in after.items():
            cursor = self.positions.cursors.get(partition)
            if offset > (cursor.change_offset if cursor else 0):
                raise CursorAheadError
        sent = {partition: after.get(partition, 0) for partition in self.positions.cursors}
        told = {partition: Cursor(partition=partition) for partition in sent}
        ends = dict(self.positions.cursors)
        while True:
            moved = self.positions.listen()
            # A change is visible before the cursor that counts it, so what these cursors say can be read.
            cursors = dict(self.positions.cursors) if follow else ends
            wanted = [
                (partition, sent[partition], cursor.change_offset)
                for partition, cursor in sorted(cursors.items())
                if cursor.change_offset > sent[partition]
            ]
            found = await self._read_changes(wanted) if wanted else []
            for change in found:
                assert change.offset == sent[change.partition] + 1, "the log of changes has a gap"
                sent[change.partition] = change.offset
            progress = []
            for partition, cursor in cursors.items():
                if sent[partition] == cursor.change_offset and told[partition] != cursor:
                    told[partition] = cursor
                    progress.append(
                        Progress(
                            partition=partition,
                            ledger_offset_processed=cursor.ledger_offset,
                            due_time_processed=cursor.due_time,
                        )
                    )
            if found or progress:
                yield found, progress
            if len(found) == CHANGES_PER_RESPONSE:
                continue
            if not follow:
                return
            if not await woken(moved, POLL_SECONDS):
                await self.recover()

    async def _read_changes(self, wanted: Collection[tuple[int, int, int]]) -> list[StoredChange]:
        """Up to a response of the changes of (partition, after, until), by partition and offset."""
        newest = [self._newest.between(*place) for place in wanted]
        found = [change for held in newest if held is not None for change in held]
        if None not in newest and len(found) <= CHANGES_PER_RESPONSE:
            return found
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            return await store.read_changes(connection, list(wanted), CHANGES_PER_RESPONSE)


def read_versions(stored: Sequence[StoredVersion]) -> Versions:
    """The versions in documents that a ledger took. Raises ProgrammeError."""
    return Versions(
        Version(
            programme=programmes.parse(one.document, one.version, applied=True),
            from_time=one.from_time,
            recorded_time=one.recorded_time,
        )
        for one in stored
    )


async def _apart(history: History, work: Callable[[], T]) -> T:
    """What is reckoned from a history; of a long one in a thread, so that others are served meanwhile."""
    return work() if len(history.facts) <= _LONG else await asyncio.to_thread(work)


def tells_class(change: TierChange) -> bool:
    """Whether another earning class follows from a change: other benefits, or another name of them."""
    made = change.change
    renamed = made.reason in (Reason.PROGRAMME, Reason.REJOINED)
    return made.from_benefits_number != made.to_benefits_number or renamed


def notice_of(versions: Versions, market: str, change: TierChange, decided_by: str) -> ClassNotice:
    """The earning class that follows from a change: that of the benefits in force.

    It holds from the next local day of the member's market on (DESIGN §6); a suspension, and its end, at once.
    """
    made = change.change
    programme = versions.at(made.changed_time)
    at_once = NO_BENEFITS in (made.from_benefits_number, made.to_benefits_number)
    level = None if made.to_benefits_number == NO_BENEFITS else programme.tiers.level(made.to_benefits_number)
    return ClassNotice(
        partition=change.partition,
        change_offset=change.offset,
        member_id=change.member_id,
        sequence=made.sequence,
        earning_class=programmes.SUSPENDED if level is None else level.key,
        effective_time=made.changed_time
        if at_once
        else programme.market(market).start_of_next_local_day(made.changed_time),
        request_id=f"~tiers/class/{change.member_id}/{made.sequence}",
        on_behalf_of=decided_by,
    )


def next_of_each_member(waiting: Iterable[ClassNotice]) -> list[ClassNotice]:
    """The first notice of each member. The ledger answers writes one by one: had it answered the second alone, the
    first would come too late to say anything."""
    found: dict[MemberKey, ClassNotice] = {}
    for notice in waiting:
        found.setdefault((notice.partition, notice.member_id), notice)
    return list(found.values())
