"""The use cases of tiers: taking in the ledger, running what is due, and the reads that wait for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from services.programme import Level, Programme
from services.runtime.causality import reached
from services.runtime.clock import ClockMode, MachineClock, machine_now
from services.runtime.database import CONNECT_TIMEOUT_SECONDS, Connection, Pool, transact, transact_over
from services.runtime.signal import Signal, woken
from services.runtime.status import NotCaughtUpError
from services.runtime.tail import Tail
from services.tiers import store
from services.tiers.domain import (
    AFFECTING,
    BEGINNING,
    NEVER,
    Cursor,
    Effects,
    EntryKind,
    History,
    LedgerEntry,
    MemberKey,
    MemberState,
    RollOffs,
    Standing,
    TierChange,
    due_time,
    evaluate,
    horizons,
    let_pass,
    reached_time,
    take_in,
    unseen,
)
from services.tiers.errors import (
    CursorAheadError,
    FeedBrokenError,
    LedgerDiffersError,
    MemberUnknownError,
    NotReadyError,
    TokenBeyondLogError,
)
from services.tiers.paging import Place, page_token_of, read_page_token
from services.tiers.recent import RecentStates
from services.tiers.store import ClassNotice, StoredChange

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
# Movements that one standing is explained from: those that end last.
_MOST_MOVEMENTS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """All changes caused up to this offset, and due up to this instant, come before."""

    partition: int
    ledger_offset_processed: int
    due_time_processed: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberStanding:
    """The tier of one member at the instant of a list."""

    member_id: str
    level: Level
    balance: int
    joined_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingPage:
    """Members by id, at one instant; the token of the next page is empty on the last."""

    standings: Sequence[MemberStanding]
    next_page_token: str
    at_time: datetime


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
    def due_is_behind(self) -> bool:
        """Whether the partitions of a simulated installation have passed an instant whose changes are still to come."""
        return self.clock_mode is ClockMode.SIMULATED and self.due_time < self.business_time

    @property
    def notices_until(self) -> datetime | None:
        """Earning classes in force from this instant or before go to the ledger now; None: all of them.

        In real time the ledger hears them at once, ahead of the day in which they hold. A history that is lived
        through again has whole days of a member under way at the same time, and a class among them would lie where
        chance put it: there it is told when its day begins, behind all that happened before.
        """
        return self.due_time if self.clock_mode is ClockMode.SIMULATED else None

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
    """The service over one database and one programme."""

    def __init__(self, *, pool: Pool, programme: Programme, now: MachineClock = machine_now) -> None:
        self.programme = programme
        self.positions = Positions()
        # Set when the outbox may have something to be told.
        self.notices_wait = asyncio.Event()
        self._pool = pool
        self._now = now
        self._newest: Tail[StoredChange] = Tail(_CHANGES_HELD)
        self._recent = RecentStates(_STATES_HELD)
        # Entries that were passed, and are written down with the next that change something.
        self._passed: list[LedgerEntry] = []
        # In a simulated installation: no member has anything due before, as far as is known.
        self._next_due = BEGINNING

    # --- taking in ---

    async def recover(self) -> None:
        """Takes over what the database holds: reads are answered from then on, though the ledger be away."""
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            cursors, clock_mode = await store.read_cursors(connection)
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
                return None
            states, ahead = await self._read(connection, fresh, cursors)
            effects = take_in(self.programme.tiers, self.programme.zone, fresh, cursors, states, ahead)
            await self._write(connection, effects)
            first = min([next_due, *(s.next_roll_off for s in effects.states.values() if s.next_roll_off)])
            if moves_clock and due_time(effects.cursors) < (to_time := reached_time(effects.cursors)):
                if first <= to_time:
                    due, _ = await self._run_due(connection, effects.cursors, to_time)
                    first = await store.read_next_due(connection, cursors) or NEVER
                else:
                    due = let_pass(self.programme.tiers, to_time, effects.cursors, {}, {}, complete=True)
                effects = effects.followed_by(due)
            await store.update_cursors(connection, effects.cursors)
            return _Done(before=cursors, effects=effects), first

        # Whatever becomes of the transaction.
        self._next_due = BEGINNING
        outcome = await self._transact(work, over)
        self._passed = []
        if outcome is not None:
            done, self._next_due = outcome
            self._keep(done)

    async def _read(
        self, connection: Connection, entries: Sequence[LedgerEntry], cursors: Mapping[int, Cursor]
    ) -> tuple[dict[MemberKey, MemberState], dict[MemberKey, RollOffs]]:
        """The states of the members that entries name, and the roll-offs of those whom something leaves by then."""
        until = horizons(entries, cursors)
        members = until.keys() | {(e.partition, e.member_id) for e in entries if e.kind is EntryKind.JOINED}
        states = self._recent.find(members, cursors)
        if others := members - states.keys():
            states |= await store.read_states(connection, others)
        leaving = [
            (key, state, until[key])
            for key, state in states.items()
            if key in until and state.next_roll_off is not None and state.next_roll_off <= until[key]
        ]
        return states, await store.read_roll_offs(connection, leaving) if leaving else {}

    def _pass(self, entries: Sequence[LedgerEntry]) -> bool:
        """Passes entries that neither move nor make a member, and let no time pass in which something is due.

        It is as if they were taken in; who forgets it passes them again. False, and nothing done, where they are
        others, or many.
        """
        cursors = self.positions.cursors
        if len(self._passed) + len(entries) > MOST_PASSED or any(
            entry.kind in AFFECTING or entry.partition not in cursors for entry in entries
        ):
            return False
        policy = self.programme.tiers
        fresh = unseen(entries, cursors)
        after = take_in(policy, self.programme.zone, fresh, cursors, {}, {}).cursors
        to_time = reached_time(after)
        if self.positions.clock_mode is ClockMode.SIMULATED and due_time(after) < to_time:
            if self._next_due <= to_time:
                return False
            after = let_pass(policy, to_time, after, {}, {}, complete=True).cursors
        self._passed += fresh
        self._publish(after)
        return True

    async def run_due(self, to_time: datetime, *, over: Connection | None = None) -> None:
        """Makes all changes that time alone makes up to an instant, some members per transaction."""
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
        leaving = [(key, state, to_time) for key, state in states.items()]
        ahead = await store.read_roll_offs(connection, leaving) if leaving else {}
        effects = let_pass(self.programme.tiers, to_time, cursors, states, ahead, complete=complete)
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

    async def _write(self, connection: Connection, effects: Effects) -> None:
        """Writes what a batch does, all but its cursors: a fixed number of statements, whatever its size."""
        if effects.movements:
            await store.insert_movements(connection, effects.movements)
        if effects.states:
            await store.upsert_states(connection, effects.states)
        if effects.changes:
            await store.insert_changes(connection, effects.changes, self.programme.version)
            await store.insert_outbox(connection, [notice_of(self.programme, change) for change in effects.changes])

    def _keep(self, done: _Done) -> None:
        """Takes over what was committed."""
        effects, version = done.effects, self.programme.version
        self._newest.add(StoredChange(tier_change=change, programme_version=version) for change in effects.changes)
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

    def _caught_up(self, wanted: Mapping[int, int]) -> bool:
        offsets = {partition: cursor.ledger_offset for partition, cursor in self.positions.cursors.items()}
        return reached(offsets, wanted) and not self.positions.due_is_behind

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

    def _business_now(self) -> datetime:
        if self.positions.clock_mode is None:
            raise NotReadyError
        return self._now() if self.positions.clock_mode is ClockMode.REAL else self.positions.business_time

    async def standing(self, member_id: str, at_time: datetime | None) -> Standing:
        """A member's standing at an instant; None: now, or the member's latest event where that is later.

        Raises MemberUnknownError, or NotEnrolledError before joining.
        """
        now = self._business_now()
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            found = await store.find_state(connection, self.positions.cursors, member_id)
            if found is None:
                raise MemberUnknownError
            partition, state = found
            at = at_time or max(now, state.as_of)
            movements = await store.read_member_movements(connection, partition, member_id, at, _MOST_MOVEMENTS)
        history = History(
            joined_time=state.joined_time,
            movements=movements,
            complete_from=movements[-1].end_time if len(movements) == _MOST_MOVEMENTS else None,
        )
        return evaluate(self.programme.tiers, history, at)

    async def count(self, at_time: datetime | None) -> tuple[datetime, dict[int, int]]:
        """Members by tier number, every tier named, at an instant (None: now, or the latest event), and the instant."""
        now = self._business_now()
        levels = self.programme.tiers.levels
        thresholds = [level.threshold_minor_units for level in levels if level.threshold_minor_units is not None]
        at, members = at_time, None
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            if at is None:
                counted, latest, next_roll_off = await store.count_states(connection)
                at = max(now, latest or now)
                # Mostly all states stand at that instant; otherwise movements have to be added up.
                members = counted if next_roll_off is None or at < next_roll_off else None
            if members is None:
                members = await store.count_standings(connection, at, thresholds)
        return at, {level.number: members.get(level.number, 0) for level in levels}

    async def standings(self, at_time: datetime | None, *, page_size: int, page_token: str) -> StandingPage:
        """A page of everybody who had joined by an instant (None: by now), by member id; 0 is 50 a page.

        The instant is that of the first page, what is known of it that of each page. Raises PageTokenError.
        """
        now = self._business_now()
        place = read_page_token(page_token, at_time) if page_token else Place(at_time=at_time or now, after="")
        size = page_size or DEFAULT_PAGE
        at = place.at_time
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            states = await store.list_states(connection, at, place.after, size + 1)
            to_add_up = {key: state for key, state in states.items() if not state.holds_at(at)}
            added_up = await store.read_balances(connection, at, to_add_up) if to_add_up else {}
        members = []
        for key, state in states.items():
            balance = added_up.get(key, 0) if key in to_add_up else state.balance
            level = self.programme.tiers.level_for(balance)
            members.append(
                MemberStanding(member_id=key[1], level=level, balance=balance, joined_time=state.joined_time)
            )
        token = ""
        if len(members) > size:
            del members[size:]
            token = page_token_of(Place(at_time=at, after=members[-1].member_id), at_time)
        return StandingPage(standings=members, next_page_token=token, at_time=at)

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


def notice_of(programme: Programme, change: TierChange) -> ClassNotice:
    """The earning class that follows from a change: in force from the next local day on (DESIGN §6)."""
    sequence = change.change.sequence
    return ClassNotice(
        partition=change.partition,
        change_offset=change.offset,
        member_id=change.member_id,
        sequence=sequence,
        earning_class=programme.tiers.level(change.change.to_tier_number).key,
        effective_time=programme.start_of_next_local_day(change.change.changed_time),
        request_id=f"~tiers/class/{change.member_id}/{sequence}",
    )


def next_of_each_member(waiting: Iterable[ClassNotice]) -> list[ClassNotice]:
    """The first notice of each member. The ledger answers writes one by one: had it answered the second alone, the
    first would come too late to say anything."""
    found: dict[MemberKey, ClassNotice] = {}
    for notice in waiting:
        found.setdefault((notice.partition, notice.member_id), notice)
    return list(found.values())
