"""Group commit: what callers ask is gathered into batches, and each batch is one transaction (DESIGN §4).

A lane serves some partitions with one connection. While one batch commits, the next gathers; no timer. A batch locks
its partitions in ascending order, reads the states its commands name, lets `decide` work in memory, and writes. All
that `decide` reads is locked by the partition row, so nothing is cached between batches and several ledgers may run.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

import structlog

from services.ledger import store
from services.ledger.domain.commands import AdvanceClock, MemberCommand, RecordPurchase, RecordReturn
from services.ledger.domain.decide import FUTURE_TOLERANCE, SIMULATED_AHEAD, Now, decide, decide_clock
from services.ledger.domain.encoding import (
    canonical_json,
    chain,
    commit,
    encode_body,
    encode_entry,
    partition_of,
    request_digest,
)
from services.ledger.domain.events import Entry, EntryKind, Event
from services.ledger.domain.state import EarningClass, Member, Purchase
from services.ledger.errors import (
    ClockNotSimulatedError,
    CursorAheadError,
    LedgerError,
    MemberUnknownError,
    PageTokenError,
    PoisonedError,
    Refusal,
    RefusedError,
    RequestIdReusedError,
)
from services.programme.model import Programme
from services.runtime.clock import ClockMode, MachineClock
from services.runtime.database import (
    CONNECTION_ERRORS,
    PASSING_ERRORS,
    TRY_AGAIN,
    Connection,
    Pool,
    connect,
)
from services.runtime.signal import Signal, woken
from services.runtime.status import OverloadedError
from services.runtime.tail import Tail

log = structlog.get_logger()

# Commands decided before other tasks of the process get their turn.
_DECIDED_AT_ONCE = 256
_BATCH_COMMANDS = 1000
_QUEUED_COMMANDS = 20_000
_BATCH_TRIES = 5
_FEED_ENTRIES = 1000
_TAIL_ENTRIES = 8192
_FEED_POLL_SECONDS = 0.5
_SALT_BYTES = 16

Command = MemberCommand | AdvanceClock
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to a write: the entry it made (None where nothing was to change), and the last it caused."""

    entry: Entry | None
    last_offset: int = 0
    replayed: bool = False


Outcome = Answer | Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """The business time that all partitions have reached, the entries that say so, and whether it was done before."""

    business_time: datetime
    offsets: Mapping[int, int]
    replayed: bool


@dataclass(slots=True)
class _Job:
    """One command in a lane, with its home and what came of it."""

    command: Command
    partition: int
    outcome: Outcome | None = None


@dataclass(slots=True)
class _Submission:
    """Commands that came together and are answered together."""

    jobs: Sequence[_Job]
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True)
class _Batch:
    """What a batch has read and what it will write."""

    heads: dict[int, store.Head]
    members: dict[store.MemberKey, Member]
    purchases: dict[store.PurchaseKey, Purchase]
    requests: dict[store.RequestKey, store.KeptRequest]
    stored_purchases: frozenset[store.PurchaseKey]
    entries: list[Entry] = field(default_factory=list)
    rows: list[store.EntryRow] = field(default_factory=list)
    details: list[store.DetailRow] = field(default_factory=list)
    new_requests: list[store.RequestRow] = field(default_factory=list)
    changed_members: dict[store.MemberKey, Member] = field(default_factory=dict)
    changed_purchases: dict[store.PurchaseKey, Purchase] = field(default_factory=dict)
    new_classes: list[tuple[store.MemberKey, EarningClass]] = field(default_factory=list)


def tail_length(partitions: int) -> int:
    """How many entries of each partition are held in memory."""
    return max(_TAIL_ENTRIES // partitions, 1)


def newest(tail: Tail[Entry], cursors: Mapping[int, int], limit: int) -> list[Entry] | None:
    """Entries of the tail that follow the cursors; None where a cursor is further behind than what is held."""
    found: list[Entry] = []
    for partition, cursor in cursors.items():
        last = tail.last(partition)
        if last <= cursor:
            continue
        entries = tail.between(partition, cursor, min(last, cursor + limit - len(found)))
        if entries is None:
            return None
        found.extend(entries)
        if len(found) == limit:
            break
    return found


class Ledger:
    """The use cases of the ledger."""

    def __init__(
        self,
        *,
        dsn: str,
        pool: Pool,
        programme: Programme,
        installation: store.Installation,
        lanes: int,
        clock: MachineClock,
    ) -> None:
        self.programme = programme
        self.installation = installation
        self._pool = pool
        self._committed = Signal()
        self._tail: Tail[Entry] = Tail(tail_length(installation.partitions))
        count = min(lanes, installation.partitions)
        self._lanes = [
            Lane(
                dsn=dsn,
                programme=programme,
                clock_mode=installation.clock_mode,
                clock=clock,
                committed=self._committed,
                tail=self._tail,
            )
            for _ in range(count)
        ]

    @property
    def lanes(self) -> Sequence[Lane]:
        """To be run for as long as the ledger serves."""
        return self._lanes

    def partition_of(self, member_id: str) -> int:
        """The home of a member."""
        return partition_of(member_id, self.installation.partitions)

    async def record(self, command: MemberCommand) -> Answer:
        """Carries out one write; a refusal is raised."""
        (outcome,) = await self.record_all([command])
        if isinstance(outcome, Answer):
            return outcome
        raise outcome

    async def record_all(self, commands: Sequence[MemberCommand]) -> list[Outcome]:
        """Carries out writes, those of one member in order; an outcome for each."""
        if not commands:
            return []
        return await self._submit([_Job(c, self.partition_of(c.member_id)) for c in commands])

    async def advance_clock(self, command: Callable[[int], AdvanceClock]) -> Advanced:
        """Moves the business time on in every partition."""
        if self.installation.clock_mode is not ClockMode.SIMULATED:
            raise ClockNotSimulatedError
        jobs = [_Job(command(partition), partition) for partition in range(self.installation.partitions)]
        offsets: dict[int, int] = {}
        moved, replayed = [], True
        for job, outcome in zip(jobs, await self._submit(jobs), strict=True):
            if isinstance(outcome, Exception):
                raise outcome
            replayed = replayed and outcome.replayed
            if outcome.entry is not None:
                offsets[job.partition] = outcome.last_offset
                moved.append(outcome.entry.event.occurred_time)
        if replayed or len(moved) < len(jobs):
            # Some stood later already.
            moved = [head.business_time for head in await self.heads()]
        return Advanced(business_time=min(moved), offsets=offsets, replayed=replayed)

    async def _submit(self, jobs: Sequence[_Job]) -> list[Outcome]:
        count = len(self._lanes)
        if count == 1:
            await self._lanes[0].submit(jobs)
        else:
            mine = [[job for job in jobs if job.partition % count == lane] for lane in range(count)]
            await asyncio.gather(*(lane.submit(some) for lane, some in zip(self._lanes, mine, strict=True) if some))
        return [_settled(job) for job in jobs]

    async def member(self, member_id: str) -> Member:
        """A member as it stands."""
        key = store.MemberKey(self.partition_of(member_id), member_id)
        found = await self._read(lambda connection: store.read_members(connection, [key]))
        if key not in found:
            raise MemberUnknownError
        return found[key]

    async def entries(self, member_id: str, page_token: str, page_size: int) -> tuple[list[Entry], str]:
        """A page of a member's entries, newest first, and the token of the next."""
        await self.member(member_id)
        before = 2**62
        if page_token:
            if not page_token.isascii() or not page_token.isdigit() or not 0 < int(page_token) < before:
                raise PageTokenError
            before = int(page_token)
        key = store.MemberKey(self.partition_of(member_id), member_id)
        found = await self._read(lambda connection: store.list_entries(connection, key, before, page_size + 1))
        page = found[:page_size]
        return page, str(page[-1].offset) if len(found) > page_size else ""

    async def heads(self) -> list[store.Head]:
        """The heads of all partitions, ascending."""
        return await self._read(store.read_heads)

    async def feed(self, after: Mapping[int, int], *, follow: bool) -> AsyncIterator[list[Entry]]:
        """Entries from the cursors on, each partition in order and without gaps; then live, if asked."""
        cursors = {partition: after.get(partition, 0) for partition in range(self.installation.partitions)}
        if any(cursors.get(head.partition, 0) > head.last_offset for head in await self.heads()) or (
            after.keys() - cursors.keys()
        ):
            raise CursorAheadError
        loop = asyncio.get_running_loop()
        live, looked = False, 0.0
        while True:
            committed = self._committed.next()
            # Another process may have written what this one's tail does not hold: the database is looked at in time.
            live = live and loop.time() - looked < _FEED_POLL_SECONDS
            entries = newest(self._tail, cursors, _FEED_ENTRIES) if live else None
            if entries is None:
                looked = loop.time()
                entries = await self._read(lambda c: store.read_feed(c, cursors, _FEED_ENTRIES))
                live = not entries
            for entry in entries:
                # Who was served goes to the end of the line.
                before = cursors.pop(entry.partition)
                assert entry.offset == before + 1, "the feed never skips"
                cursors[entry.partition] = entry.offset
            if entries:
                yield entries
            elif not follow:
                return
            else:
                await woken(committed, _FEED_POLL_SECONDS)

    async def _read(self, read: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._pool.acquire(timeout=5) as connection:
            return await read(connection)


def _fail(jobs: Sequence[_Job], error: Exception) -> None:
    for job in jobs:
        job.outcome = error


def _settled(job: _Job) -> Outcome:
    assert job.outcome is not None, "a lane settles every job"
    return job.outcome


class Lane:
    """One connection that commits for some partitions, batch after batch."""

    def __init__(
        self,
        *,
        dsn: str,
        programme: Programme,
        clock_mode: ClockMode,
        clock: MachineClock,
        committed: Signal,
        tail: Tail[Entry],
    ) -> None:
        self._dsn = dsn
        self._programme = programme
        self._clock_mode = clock_mode
        self._clock = clock
        self._committed = committed
        self._tail = tail
        self._waiting: deque[_Submission] = deque()
        self._queued = 0
        self._arrived = asyncio.Event()

    async def submit(self, jobs: Sequence[_Job]) -> None:
        """Waits until the jobs are settled. What was taken in is finished, also when the caller goes away."""
        if self._queued + len(jobs) > _QUEUED_COMMANDS:
            raise OverloadedError
        submission = _Submission(jobs)
        self._queued += len(jobs)
        self._waiting.append(submission)
        self._arrived.set()
        await submission.done

    async def run(self) -> None:
        """Commits for ever. While the database cannot be reached, callers are told so at once."""
        pause = 0.05
        while True:
            try:
                connection = await connect(self._dsn, service="ledger-lane")
            except (*CONNECTION_ERRORS, *PASSING_ERRORS) as error:
                log.warning("lane_not_connected", error=type(error).__name__)
                self._fail_waiting(error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 2.0)
                continue
            pause = 0.05
            try:
                await self._serve(connection)
            except CONNECTION_ERRORS as error:
                log.warning("lane_connection_lost", error=type(error).__name__)
            finally:
                connection.terminate()

    async def _serve(self, connection: Connection) -> None:
        while True:
            await self._arrived.wait()
            batch = self._gather()
            jobs = [job for submission in batch for job in submission.jobs]
            try:
                await self._commit(connection, jobs)
            except BaseException as error:
                failure = error if isinstance(error, Exception) else ConnectionError("the ledger is stopping")
                for job in jobs:
                    job.outcome = failure
                raise
            finally:
                for submission in batch:
                    if not submission.done.done():
                        submission.done.set_result(None)

    def _gather(self) -> list[_Submission]:
        """All that waits, up to the size of a batch; a single larger submission is a batch of its own."""
        batch = [self._waiting.popleft()]
        size = len(batch[0].jobs)
        while self._waiting and size + len(self._waiting[0].jobs) <= _BATCH_COMMANDS:
            batch.append(self._waiting.popleft())
            size += len(batch[-1].jobs)
        self._queued -= size
        if not self._waiting:
            self._arrived.clear()
        return batch

    def _fail_waiting(self, error: Exception) -> None:
        while self._waiting:
            for submission in self._gather():
                for job in submission.jobs:
                    job.outcome = error
                if not submission.done.done():
                    submission.done.set_result(None)

    async def _commit(self, connection: Connection, jobs: Sequence[_Job]) -> None:
        """Commits the jobs in one transaction; a command that cannot be committed is cut out and fails alone."""
        for attempt in range(_BATCH_TRIES):
            try:
                async with connection.transaction():
                    written = await self._decide_and_write(connection, jobs)
            except TRY_AGAIN as error:
                if attempt == _BATCH_TRIES - 1:
                    _fail(jobs, error)
                    return
                continue
            except PASSING_ERRORS as error:
                # Nothing was written; an operator has to help, and the lane goes on.
                log.error("batch_not_written", error=type(error).__name__, commands=len(jobs))
                _fail(jobs, error)
                return
            except CONNECTION_ERRORS:
                raise
            except Exception as error:
                # SQLSTATE 22 and 23, or a fault of ours: neither may take the others along, nor the lane.
                if len(jobs) == 1:
                    log.error("command_poisoned", partition=jobs[0].partition, exc_info=error)
                    jobs[0].outcome = PoisonedError()
                    return
                middle = len(jobs) // 2
                await self._commit(connection, jobs[:middle])
                await self._commit(connection, jobs[middle:])
                return
            if written:
                self._tail.add(written)
                self._committed.send()
            return

    async def _decide_and_write(self, connection: Connection, jobs: Sequence[_Job]) -> list[Entry]:
        heads = await store.lock_heads(connection, sorted({job.partition for job in jobs}))
        batch = await self._read(connection, heads, jobs)
        # Read once, after the locks: recorded times never fall within a partition.
        machine = self._clock()
        for partition, head in heads.items():
            batch.heads[partition] = replace(head, recorded_time=max(machine, head.recorded_time))
        for number, job in enumerate(jobs):
            if number and number % _DECIDED_AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                job.outcome = self._settle(batch, job)
            except LedgerError as error:
                job.outcome = error
        if not batch.new_requests:
            return []
        await store.write(
            connection,
            store.Writes(
                heads=[head for partition, head in batch.heads.items() if head != heads[partition]],
                entries=batch.rows,
                details=batch.details,
                requests=batch.new_requests,
                members=batch.changed_members,
                purchases=batch.changed_purchases,
                stored_purchases=batch.stored_purchases,
                earning_classes=batch.new_classes,
            ),
        )
        return batch.entries

    async def _read(self, connection: Connection, heads: dict[int, store.Head], jobs: Sequence[_Job]) -> _Batch:
        members: dict[store.MemberKey, None] = {}
        requests: dict[store.RequestKey, None] = {}
        purchases: dict[store.PurchaseKey, None] = {}
        for job in jobs:
            command = job.command
            requests[store.RequestKey(job.partition, command.member_id, command.request_id)] = None
            if isinstance(command, AdvanceClock):
                continue
            members[store.MemberKey(job.partition, command.member_id)] = None
            if isinstance(command, RecordPurchase | RecordReturn) and command.purchase_id:
                purchases[store.PurchaseKey(job.partition, command.member_id, command.purchase_id)] = None
        known = await store.read_purchases(connection, list(purchases))
        return _Batch(
            heads=dict(heads),
            members=await store.read_members(connection, list(members)),
            requests=await store.read_requests(connection, list(requests)),
            purchases=known,
            stored_purchases=frozenset(known),
        )

    def _settle(self, batch: _Batch, job: _Job) -> Outcome:
        command = job.command
        key = store.RequestKey(job.partition, command.member_id, command.request_id)
        kept = batch.requests.get(key)
        if kept is not None:
            if kept.request != command.request:
                return RequestIdReusedError(kept=kept.request, sent=command.request)
            return _answered(kept, replayed=True)
        salt = os.urandom(_SALT_BYTES)
        entries = [
            self._append(batch, job, event, salt, own=event.request_id == command.request_id)
            for event in self._events(batch, job)
        ]
        first = entries[0] if entries else None
        kept = store.KeptRequest(request=command.request, entry=first, last_offset=entries[-1].offset if entries else 0)
        batch.requests[key] = kept
        batch.new_requests.append(
            store.RequestRow(*key, command.request, salt, first.offset if first else 0, kept.last_offset)
        )
        return _answered(kept, replayed=False)

    def _events(self, batch: _Batch, job: _Job) -> Sequence[Event]:
        """What the rules decide, with the states after it noted in the batch."""
        command = job.command
        head = batch.heads[job.partition]
        if isinstance(command, AdvanceClock):
            moved = decide_clock(head.business_time, command.to_time, command.request_id)
            return [moved] if moved else []
        member_key = store.MemberKey(job.partition, command.member_id)
        purchase_key = None
        if isinstance(command, RecordPurchase | RecordReturn) and command.purchase_id:
            purchase_key = store.PurchaseKey(job.partition, command.member_id, command.purchase_id)
        decision = decide(
            self._programme,
            self._now(head),
            batch.members.get(member_key),
            batch.purchases.get(purchase_key) if purchase_key else None,
            command,
        )
        if decision.member is not None and decision.member is not batch.members.get(member_key):
            batch.members[member_key] = batch.changed_members[member_key] = decision.member
        if purchase_key and decision.purchase is not None:
            batch.purchases[purchase_key] = batch.changed_purchases[purchase_key] = decision.purchase
        if any(event.kind is EntryKind.EARNING_CLASS_SET for event in decision.events):
            assert decision.member is not None
            batch.new_classes.append((member_key, decision.member.classes[-1]))
        return decision.events

    def _now(self, head: store.Head) -> Now:
        if self._clock_mode is ClockMode.SIMULATED:
            return Now(time=head.business_time, latest=head.business_time + SIMULATED_AHEAD)
        return Now(time=head.recorded_time, latest=head.recorded_time + FUTURE_TOLERANCE)

    def _append(self, batch: _Batch, job: _Job, event: Event, salt: bytes, *, own: bool) -> Entry:
        """Places an event at the end of its partition: number, hash, commitments to its detail and its own request."""
        head = batch.heads[job.partition]
        command = job.command
        offset = head.last_offset + 1
        commitment = b""
        request_hash = request_digest(salt, command.request) if own else b""
        if event.detail is not None:
            detail = canonical_json(event.detail)
            commitment = commit(salt, detail)
            batch.details.append(store.DetailRow(job.partition, offset, salt, detail))
        body = encode_body(event)
        encoding = encode_entry(
            partition=job.partition,
            offset=offset,
            event=event,
            body=body,
            recorded_time=head.recorded_time,
            principal=command.principal,
            on_behalf_of=command.on_behalf_of,
            programme_version=self._programme.version,
            detail_commitment=commitment,
            request_hash=request_hash,
        )
        digest = chain(head.head_hash, encoding)
        batch.rows.append(
            store.EntryRow(
                job.partition,
                offset,
                event.kind.value,
                event.member_id,
                event.request_id,
                command.principal,
                command.on_behalf_of,
                event.occurred_time,
                head.recorded_time,
                self._programme.version,
                event.purchase_id,
                body,
                commitment,
                request_hash,
                digest,
            )
        )
        batch.heads[job.partition] = store.Head(
            partition=job.partition,
            last_offset=offset,
            head_hash=digest,
            recorded_time=head.recorded_time,
            business_time=event.occurred_time if event.kind is EntryKind.CLOCK_ADVANCED else head.business_time,
            members=head.members + (event.kind is EntryKind.MEMBER_JOINED),
        )
        entry = Entry(
            partition=job.partition,
            offset=offset,
            event=event,
            recorded_time=head.recorded_time,
            principal=command.principal,
            on_behalf_of=command.on_behalf_of,
            programme_version=self._programme.version,
            detail_commitment=commitment,
            request_hash=request_hash,
            hash=digest,
        )
        batch.entries.append(entry)
        return entry


def _answered(kept: store.KeptRequest, *, replayed: bool) -> Outcome:
    entry = kept.entry
    if entry is not None and entry.event.kind is EntryKind.REQUEST_REFUSED:
        return RefusedError(Refusal(entry.event.reason))
    return Answer(entry=entry, last_offset=kept.last_offset, replayed=replayed)
