"""Group commit: what callers ask is gathered into batches, and each batch is one transaction (DESIGN §4).

A lane serves some partitions with one connection. While one batch commits, the next gathers; no timer. A batch locks
its partitions in ascending order, reads the states its commands name, lets `decide` work in memory, and writes. All
that `decide` reads is locked by the partition row, so nothing is cached between batches and several ledgers may run.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import structlog

from services.ledger import store
from services.ledger.bookkeeping import Bookkeeping
from services.ledger.domain.catching_up import catch_up, due_time
from services.ledger.domain.commands import (
    AdjustPoints,
    AdvanceClock,
    AwardPoints,
    CatchUp,
    EraseMember,
    LinkIdentifier,
    MemberCommand,
    RecordPurchase,
    RecordReturn,
    ReverseRedemption,
    TellVersion,
    UnlinkIdentifier,
    VoidPurchase,
)
from services.ledger.domain.decide import Now, decide, decide_clock, decide_version
from services.ledger.domain.encoding import (
    canonical_json,
    chain,
    commit,
    encode_body,
    encode_entry,
    encode_lot,
    partition_of,
    request_digest,
)
from services.ledger.domain.events import LEDGER, Account, Author, Entry, EntryKind, Event, PointsAfter
from services.ledger.domain.keys import Keys
from services.ledger.domain.listing import ListedLot, lots_after
from services.ledger.domain.rules import Rules, StoredVersion, check_change
from services.ledger.domain.state import Identifier, Identifiers, Known, LapsedLots, Member, Purchase, Redemption
from services.ledger.domain.views import AsOf
from services.ledger.errors import (
    BatchAbortedError,
    BatchSpansPartitionsError,
    ClockNotSimulatedError,
    CursorAheadError,
    IdentifierBlockedError,
    IdentifierUnknownError,
    LedgerError,
    MemberUnknownError,
    NotEnrolledError,
    PageTokenError,
    PoisonedError,
    ProgrammeInvalidError,
    ProgrammeUnknownError,
    PurchaseUnknownError,
    Refusal,
    RefusedError,
    RequestIdReusedError,
)
from services.programme import ProgrammeError, parse
from services.programme.versions import Versions
from services.runtime.clock import ClockMode, MachineClock
from services.runtime.database import (
    CONNECTION_ERRORS,
    PASSING_ERRORS,
    TRY_AGAIN,
    Connection,
    Pool,
    connect,
    keep_going,
    loss_told,
    transact,
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
# Of each partition.
_SWEPT_AT_ONCE = 50
_SWEEP_SECONDS = 1.0
_HISTORY_PAGE = 500
_RECKONED_AT_ONCE = 500
_VERSIONS_SECONDS = 1.0

Command = MemberCommand | AdvanceClock | CatchUp | TellVersion
T = TypeVar("T")


class Answer(NamedTuple):
    """The answer to a write: the entry it made (None where nothing was to change), and the last it caused."""

    entry: Entry | None
    last_offset: int = 0
    # The member's points after all that it caused.
    after: PointsAfter | None = None
    replayed: bool = False


Outcome = Answer | Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """The business time that all partitions have reached, the entries that say so, and whether it was done before."""

    business_time: datetime
    offsets: Mapping[int, int]
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A version of the programme, the offset at which each partition knows it, and whether it was asked for before."""

    version: StoredVersion
    offsets: Mapping[int, int]
    replayed: bool


@dataclass(slots=True, eq=False)
class _Job:
    """One command in a lane, with its home, what it is about, and what came of it."""

    command: Command
    partition: int
    # All that are done together or not at all; None: done by itself.
    group: object | None = None
    # The identifier that it is about.
    identifier: store.IdentifierKey | None = None
    outcome: Outcome | None = None
    member: store.MemberKey = field(init=False)
    purchase: store.PurchaseKey | None = None
    redemption: store.RedemptionKey | None = None

    def __post_init__(self) -> None:
        command = self.command
        self.member = store.MemberKey(self.partition, command.member_id)
        if isinstance(command, RecordPurchase | RecordReturn | VoidPurchase | AwardPoints) and command.purchase_id:
            self.purchase = store.PurchaseKey(self.partition, command.member_id, command.purchase_id)
        named = ""
        if isinstance(command, ReverseRedemption):
            named = command.redemption_id
        elif isinstance(command, RecordPurchase) and command.points_payment is not None:
            named = command.points_payment.redemption_id
        if named:
            self.redemption = store.RedemptionKey(self.partition, command.member_id, named)

    @property
    def partitions(self) -> Iterable[int]:
        """All that it locks."""
        return (self.partition,) if self.identifier is None else (self.partition, self.identifier.partition)

    def redemption_with(self, purchase: Purchase | None) -> store.RedemptionKey | None:
        """The redemption that it names, or that of the points which paid for the purchase that it brings back."""
        if (
            purchase is None
            or purchase.points_payment is None
            or isinstance(self.command, RecordPurchase | AwardPoints)
        ):
            return self.redemption
        return store.RedemptionKey(self.partition, self.command.member_id, purchase.points_payment.redemption_id)


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
    purchases: dict[store.PurchaseKey, store.StoredPurchase]
    redemptions: dict[store.RedemptionKey, Redemption]
    lapsed: dict[store.MemberKey, LapsedLots]
    bought: dict[store.PurchaseKey, Mapping[str, Any] | None]
    requests: dict[store.RequestKey, store.KeptRequest]
    identifiers: dict[store.IdentifierKey, Identifier | None]
    member_identifiers: dict[store.MemberKey, Identifiers]
    stored_purchases: frozenset[store.PurchaseKey]
    entries: list[Entry] = field(default_factory=list)
    rows: list[store.EntryRow] = field(default_factory=list)
    details: list[store.DetailRow] = field(default_factory=list)
    new_requests: list[store.RequestRow] = field(default_factory=list)
    changed_members: set[store.MemberKey] = field(default_factory=set)
    changed_purchases: set[store.PurchaseKey] = field(default_factory=set)
    changed_redemptions: set[store.RedemptionKey] = field(default_factory=set)
    new_lapsed: dict[tuple[store.MemberKey, str, str], int] = field(default_factory=dict)
    new_identifiers: dict[tuple[store.MemberKey, store.IdentifierKey], Identifier | None] = field(default_factory=dict)
    erased: set[store.MemberKey] = field(default_factory=set)

    def fork(self) -> _Batch:
        """A copy to try on; what lies in it is never changed in place."""
        return _Batch(**{name: copy(getattr(self, name)) for name in self.__slots__})


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
        rules: Rules,
        installation: store.Installation,
        keys: Keys,
        lanes: int,
        clock: MachineClock,
    ) -> None:
        self.rules = rules
        self.installation = installation
        self.keys = keys
        self._pool = pool
        self._clock = clock
        self._committed = Signal()
        self._tail: Tail[Entry] = Tail(tail_length(installation.partitions))
        count = min(lanes, installation.partitions)
        self.books = Bookkeeping(pool=pool, rules=rules, installation=installation, clock=clock, tail=self._tail)

        def lane() -> Lane:
            return Lane(
                dsn=dsn,
                rules=rules,
                installation=installation,
                keys=keys,
                clock=clock,
                committed=self._committed,
                tail=self._tail,
            )

        self._lanes = [lane() for _ in range(count)]
        # It is not run: it commits what is done one by one, over connections of the pool.
        self._aside = lane()

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

    async def record_all(self, commands: Sequence[MemberCommand], *, all_or_none: bool = False) -> list[Outcome]:
        """Carries out writes, those of one member in order; an outcome for each.

        All or none: in one partition; where one fails the others are not done either (BatchAbortedError).
        """
        if not commands:
            return []
        group = object() if all_or_none else None
        jobs = [_Job(c, self.partition_of(c.member_id), group) for c in commands]
        if all_or_none and len({job.partition for job in jobs}) > 1:
            raise BatchSpansPartitionsError
        return await self._submit(jobs)

    async def identify(self, command: LinkIdentifier | UnlinkIdentifier) -> Answer:
        """Links an identifier to a member, or unlinks it: that is at home in two partitions, and outside the lanes.

        A refusal is raised.
        """
        return await self._record_aside(command, self._identifier_key(command.digest))

    async def erase(self, command: EraseMember) -> Answer:
        """Erases a member, outside the lanes: it may take a moment. The answer is the entry that says so, also where
        the member was erased before."""
        answer = await self._record_aside(command)
        if answer.entry is not None:
            return answer
        key = self._key(command.member_id)
        only = store.EntryFilter(kinds=[EntryKind.MEMBER_ERASED])
        (erased,) = await self._read(lambda c: store.list_entries(c, key, store.LAST_OFFSET, 1, only))
        return Answer(entry=erased.entry, last_offset=erased.entry.offset, replayed=True)

    async def _record_aside(self, command: MemberCommand, identifier: store.IdentifierKey | None = None) -> Answer:
        job = _Job(command, self.partition_of(command.member_id), identifier=identifier)
        async with self._pool.acquire() as connection:
            await self._aside.commit(connection, job)
        outcome = _settled(job)
        if isinstance(outcome, Answer):
            return outcome
        raise outcome

    async def lookup(self, digest: bytes) -> Member:
        """The member that an identifier leads to, as it stands now. Raises IdentifierUnknownError,
        IdentifierBlockedError."""
        found = await self._read(lambda c: store.read_identifier(c, self._identifier_key(digest)))
        if found is None:
            raise IdentifierUnknownError
        if found.blocked:
            raise IdentifierBlockedError(found.kind, found.blocked)
        return await self.member(found.member_id)

    def _identifier_key(self, digest: bytes) -> store.IdentifierKey:
        return store.IdentifierKey(self.partition_of(digest.hex()), digest)

    async def keep_swept(self) -> None:
        """Sweeps for ever: at once where more may be due, else in a second."""

        async def sweep() -> None:
            while True:
                if not await self.sweep():
                    await asyncio.sleep(_SWEEP_SECONDS)

        await keep_going("sweep", sweep, also=(*TRY_AGAIN, OverloadedError))

    async def sweep(self) -> int:
        """Writes down what time has done to some members' points by now; how many members."""

        async def read(connection: Connection) -> list[store.MemberKey]:
            heads = await store.read_heads(connection)
            return await store.read_due_members(
                connection, {head.partition: self._now(head) for head in heads}, _SWEPT_AT_ONCE
            )

        jobs = [_Job(CatchUp(member_id=due.member_id), due.partition) for due in await self._read(read)]
        outcomes = await self._submit(jobs) if jobs else []
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, PoisonedError):
                raise outcome
        return sum(isinstance(outcome, Answer) for outcome in outcomes)

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
        # What the clock has brought is written down before anyone hears of the new time: two histories that are
        # lived through alike leave the same entries.
        await self._reckon_all()
        while await self.sweep():
            pass
        if replayed or len(moved) < len(jobs):
            # Some stood later already.
            moved = [head.business_time for head in await self.heads()]
        return Advanced(business_time=min(moved), offsets=offsets, replayed=replayed)

    async def apply_programme(
        self, document: str, from_time: datetime, *, request_id: str, author: Author, request: bytes
    ) -> Applied:
        """Makes a version of the programme hold from an instant on, in every partition.

        It is stored first; whoever finds it so tells the partitions of it, should this process end in between. Raises
        ProgrammeInvalidError, ProgrammeOrderError, ProgrammeUnchangedError, AnnouncementTooShortError,
        RequestIdReusedError.
        """
        # One that this ledger lives by, or lived by, is no new one.
        known = any(document == one.document for one in self.rules.stored)
        try:
            programme = parse(document, "the document", applied=known)
        except ProgrammeError as error:
            raise ProgrammeInvalidError(str(error), [problem.sentence for problem in error.problems]) from None

        async def add(connection: Connection) -> tuple[StoredVersion, bool]:
            await store.lock_versions(connection)
            await self._learn(connection)
            stored = self.rules.stored
            kept = next((one for one in stored[1:] if one.request_id == request_id), None)
            if kept is not None:
                if kept.request != request:
                    raise RequestIdReusedError(kept=kept.request, sent=request)
                return kept, True
            now = self._now_everywhere(await store.read_heads(connection))
            check_change(stored[-1], programme, from_time, now)
            made = StoredVersion(
                number=len(stored) + 1,
                programme=programme,
                document=document,
                from_time=from_time,
                recorded_time=self._clock(),
                request_id=request_id,
                principal=author.principal,
                on_behalf_of=author.on_behalf_of,
                request=request,
            )
            await store.insert_version(connection, made)
            return made, False

        version, replayed = await transact(self._pool, add)
        self.rules.add([version])
        return Applied(version=version, offsets=await self._tell_versions(), replayed=replayed)

    async def version(self, name: str) -> tuple[StoredVersion, Sequence[StoredVersion]]:
        """The version of a name, where several have it the last (an empty name: the one in force), and all there are.

        Raises ProgrammeUnknownError.
        """
        await self._read(self._learn)
        stored = self.rules.stored
        if not name:
            now = self._now_everywhere(await self.heads())
            return stored[self.rules.versions.number_at(now)], stored
        found = next((one for one in reversed(stored) if one.programme.version == name), None)
        if found is None:
            raise ProgrammeUnknownError
        return found, stored

    async def keep_versions(self) -> None:
        """Follows the versions of the programme for ever: those of other processes, and what one has left undone."""

        async def follow() -> None:
            while True:
                await self.follow_versions()
                await asyncio.sleep(_VERSIONS_SECONDS)

        await keep_going("versions", follow, also=(*TRY_AGAIN, OverloadedError))

    async def follow_versions(self) -> None:
        """Tells every partition of the versions that are stored, and reckons the due times of its members by them."""
        await self._read(self._learn)
        await self._tell_versions()
        await self._reckon_all()

    async def _tell_versions(self) -> dict[int, int]:
        """Tells every partition of the versions it does not know; an offset of each at which it knows them all."""
        heads = await self.heads()
        offsets = {head.partition: head.last_offset for head in heads}
        for told in self.rules.stored[min(head.versions for head in heads) :]:
            jobs = [_Job(TellVersion(version=told), head.partition) for head in heads if head.versions < told.number]
            for job, outcome in zip(jobs, await self._submit(jobs), strict=True):
                if isinstance(outcome, Exception):
                    raise outcome
                offsets[job.partition] = max(outcome.last_offset, offsets[job.partition])
        return offsets

    async def _reckon_all(self) -> None:
        """Reckons the due times anew of all members whose partition knows more versions than they were reckoned by."""
        while behind := await self._read(store.read_unreckoned):
            for partition in behind:
                await transact(self._pool, lambda c, partition=partition: self._reckon(c, partition))  # type: ignore[misc]

    async def _reckon(self, connection: Connection, partition: int) -> None:
        """Reckons the due times of some members of a partition anew; nobody writes there meanwhile."""
        found = await store.lock_reckoning(connection, partition)
        if found.versions > len(self.rules.stored):
            await self._learn(connection)
        ids: list[str] = []
        if self.rules.due_times_differ(found.done, found.versions):
            after = found.member_id if found.under_way == found.versions else ""
            ids = await store.list_member_ids(connection, partition, after, _RECKONED_AT_ONCE)
            members = await store.read_members(connection, [store.MemberKey(partition, one) for one in ids])
            versions = self.rules.first(found.versions)
            due = {key.member_id: due_time(versions, member) for key, member in members.items()}
            await store.write_due_times(connection, partition, due)
        all_done = len(ids) < _RECKONED_AT_ONCE
        reckoned = replace(
            found,
            done=found.versions if all_done else found.done,
            under_way=found.versions,
            member_id="" if all_done else ids[-1],
        )
        await store.advance_reckoning(connection, partition, reckoned)

    async def _submit(self, jobs: Sequence[_Job]) -> list[Outcome]:
        count = len(self._lanes)
        if count == 1:
            await self._lanes[0].submit(jobs)
        else:
            mine = [[job for job in jobs if job.partition % count == lane] for lane in range(count)]
            await asyncio.gather(*(lane.submit(some) for lane, some in zip(self._lanes, mine, strict=True) if some))
        return [_settled(job) for job in jobs]

    async def member(self, member_id: str) -> Member:
        """A member as it stands now."""
        member, head = await self._member_and_head(self._key(member_id))
        if member is None:
            raise MemberUnknownError
        return catch_up(await self._versions(head), member, self._now(head))[1]

    async def member_as_of(self, member_id: str, at: datetime | None, known_at: datetime | None) -> Member:
        """A member at a business time (None: now), from what was recorded by a time (None: all)."""
        if at is None and known_at is None:
            return await self.member(member_id)
        key = self._key(member_id)
        head = await self._read(lambda c: store.read_head(c, key.partition))
        view = AsOf(await self._versions(head), self._now(head) if at is None else at)
        after = 0
        while True:
            # Page by page, so that a long history keeps nobody waiting.
            page = await self._read(lambda c, after=after: store.read_history(c, key, after, known_at, _HISTORY_PAGE))  # type: ignore[misc]
            view.add([entry.event for entry in page])
            if len(page) < _HISTORY_PAGE:
                break
            after = page[-1].offset
        found = view.member()
        if found is None:
            # Nobody, or somebody who joined later, or was not known then.
            await self.member(member_id)
            raise NotEnrolledError
        return found

    async def lots(
        self, member_id: str, at: datetime | None, page_token: str, page_size: int
    ) -> tuple[Member, list[ListedLot], str]:
        """A member at a business time (None: now), a page of its lots in the order they are drawn, and the token of
        the next."""
        member = await self.member_as_of(member_id, at, None)
        found = lots_after(member, page_token)
        page = found[:page_size]
        return member, page, page[-1].token if len(found) > page_size else ""

    async def entries(
        self, member_id: str, page_token: str, page_size: int, only: store.EntryFilter
    ) -> tuple[list[store.ListedEntry], str]:
        """A page of a member's entries, newest first, and the token of the next."""
        await self.member(member_id)
        before = _before(page_token)
        found = await self._read(lambda c: store.list_entries(c, self._key(member_id), before, page_size + 1, only))
        page = found[:page_size]
        return page, str(page[-1].entry.offset) if len(found) > page_size else ""

    async def purchase(self, member_id: str, purchase_id: str) -> store.ListedPurchase:
        """One purchase of a member."""
        await self.member(member_id)
        key = store.PurchaseKey(*self._key(member_id), purchase_id)
        found = await self._read(lambda c: store.read_purchase(c, key))
        if found is None:
            raise PurchaseUnknownError
        return found

    async def purchases(
        self, member_id: str, receipt_number: str, page_token: str, page_size: int
    ) -> tuple[list[store.ListedPurchase], str]:
        """A page of a member's purchases, newest first, and the token of the next."""
        await self.member(member_id)
        before = _before(page_token)
        key = self._key(member_id)
        found = await self._read(lambda c: store.list_purchases(c, key, before, page_size + 1, receipt_number))
        page = found[:page_size]
        return page, str(page[-1].entry_offset) if len(found) > page_size else ""

    async def quote(self, command: RecordPurchase) -> Event:
        """What a purchase would give now; nothing is kept."""
        member, head = await self._member_and_head(self._key(command.member_id))
        now = Now(time=self._now(head), simulated=self._simulated)
        decision = decide(await self._versions(head), now, Known(member=member), command)
        quoted = next(event for event in decision.events if event.request_id == command.request_id)
        if quoted.kind is EntryKind.REQUEST_REFUSED:
            raise RefusedError(Refusal(quoted.reason))
        return quoted

    async def _member_and_head(self, key: store.MemberKey) -> tuple[Member | None, store.Head]:
        """A member as written down, and the head of its partition."""

        async def read(connection: Connection) -> tuple[Member | None, store.Head]:
            found = await store.read_members(connection, [key])
            return found.get(key), await store.read_head(connection, key.partition)

        return await self._read(read)

    def _key(self, member_id: str) -> store.MemberKey:
        return store.MemberKey(self.partition_of(member_id), member_id)

    async def _versions(self, head: store.Head) -> Versions:
        """The versions of the programme that a partition knows."""
        if head.versions > len(self.rules.stored):
            await self._read(self._learn)
        return self.rules.first(head.versions)

    async def _learn(self, connection: Connection) -> None:
        """Takes in versions of the programme that were stored since."""
        self.rules.add(await store.read_versions(connection, len(self.rules.stored)))

    def _now(self, head: store.Head) -> datetime:
        """Business time of a partition."""
        return head.business_time if self._simulated else max(self._clock(), head.recorded_time)

    def _now_everywhere(self, heads: Sequence[store.Head]) -> datetime:
        """The business time that all partitions have reached."""
        return min(self._now(head) for head in heads)

    @property
    def _simulated(self) -> bool:
        return self.installation.clock_mode is ClockMode.SIMULATED

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


def _before(page_token: str) -> int:
    """The offset that a page ends before."""
    if not page_token:
        return store.LAST_OFFSET
    if not page_token.isascii() or not page_token.isdigit() or not 0 < int(page_token) < store.LAST_OFFSET:
        raise PageTokenError
    return int(page_token)


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
        rules: Rules,
        installation: store.Installation,
        keys: Keys,
        clock: MachineClock,
        committed: Signal,
        tail: Tail[Entry],
    ) -> None:
        self._dsn = dsn
        self._rules = rules
        self._installation = installation
        self._keys = keys
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

    async def commit(self, connection: Connection, job: _Job) -> None:
        """Settles a job that no lane carries out, over a connection of the caller's. Raises CONNECTION_ERRORS."""
        await self._commit(connection, [job])

    async def _commit(self, connection: Connection, jobs: Sequence[_Job]) -> None:
        """Commits the jobs in one transaction; a command that cannot be committed is cut out and fails alone."""
        for attempt in range(_BATCH_TRIES):
            try:
                with loss_told():
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
                middle = _middle(jobs)
                if not middle:
                    log.error("command_poisoned", partition=jobs[0].partition, exc_info=error)
                    _fail(jobs, PoisonedError())
                    return
                await self._commit(connection, jobs[:middle])
                await self._commit(connection, jobs[middle:])
                return
            if written:
                self._tail.add(written)
                self._committed.send()
            return

    async def _decide_and_write(self, connection: Connection, jobs: Sequence[_Job]) -> list[Entry]:
        locked = sorted({partition for job in jobs for partition in job.partitions})
        heads = await store.lock_heads(connection, locked)
        if max(head.versions for head in heads.values()) > len(self._rules.stored):
            self._rules.add(await store.read_versions(connection, len(self._rules.stored)))
        batch = await self._read(connection, heads, jobs)
        # Read once, after the locks: recorded times never fall within a partition.
        machine = self._clock()
        for partition, head in heads.items():
            batch.heads[partition] = head._replace(recorded_time=max(machine, head.recorded_time))
        for number, (group, together) in enumerate(groupby(jobs, key=lambda job: job.group or job)):
            if number and number % _DECIDED_AT_ONCE == 0:
                await asyncio.sleep(0)
            if isinstance(group, _Job):
                self._try(batch, group)
            else:
                batch = self._all_or_none(batch, list(together))
        if not batch.rows and not batch.new_requests and not batch.changed_members:
            return []
        for key in batch.erased:
            await store.forget(connection, key, self._keys.forgotten)
        await store.write(
            connection,
            store.Writes(
                heads=[head for partition, head in batch.heads.items() if head != heads[partition]],
                entries=batch.rows,
                details=batch.details,
                requests=batch.new_requests,
                members={
                    key: (batch.members[key], due_time(self._versions(batch, key.partition), batch.members[key]))
                    for key in batch.changed_members
                },
                purchases={key: batch.purchases[key] for key in batch.changed_purchases},
                stored_purchases=batch.stored_purchases,
                redemptions={key: batch.redemptions[key] for key in batch.changed_redemptions},
                lapsed=[
                    store.LapsedRow(*key, activates, expires, points)
                    for (key, activates, expires), points in batch.new_lapsed.items()
                ],
                identifiers=batch.new_identifiers,
            ),
        )
        return batch.entries

    async def _read(self, connection: Connection, heads: dict[int, store.Head], jobs: Sequence[_Job]) -> _Batch:
        bought: dict[store.PurchaseKey, None] = {}
        lapsed: dict[store.MemberKey, None] = {}
        named: list[store.Named] = []
        for job in jobs:
            command = job.command
            request_id = "" if isinstance(command, CatchUp | TellVersion) else command.request_id
            named.append(store.Named(*job.member, request_id, job.purchase.purchase_id if job.purchase else ""))
            if job.purchase is not None and isinstance(command, RecordReturn | VoidPurchase):
                lapsed[job.member] = None
                if isinstance(command, VoidPurchase) or command.returned_lines:
                    bought[job.purchase] = None
            elif isinstance(command, AdjustPoints) and command.restores_expired:
                lapsed[job.member] = None
        read = await store.read_batch(connection, named)
        redemptions: dict[store.RedemptionKey, None] = {}
        for job in jobs:
            stored = read.purchases.get(job.purchase) if job.purchase is not None else None
            redemption = job.redemption_with(stored.purchase if stored is not None else None)
            if redemption is not None:
                redemptions[redemption] = None
        # A purchase that is waited for is followed by its returns.
        lapsed |= {
            store.MemberKey(key.partition, key.member_id): None
            for key, stored in read.purchases.items()
            if stored.purchase.waiting
        }
        return _Batch(
            heads=dict(heads),
            members=read.members,
            requests=read.requests,
            purchases=read.purchases,
            redemptions=await store.read_redemptions(connection, list(redemptions)),
            lapsed=await store.read_lapsed_lots(connection, list(lapsed)),
            bought=await store.read_details(connection, list(bought)),
            identifiers={
                job.identifier: await store.read_identifier(connection, job.identifier)
                for job in jobs
                if job.identifier is not None
            },
            member_identifiers={
                job.member: await store.read_member_identifiers(connection, job.member)
                for job in jobs
                if isinstance(job.command, LinkIdentifier | UnlinkIdentifier | EraseMember)
            },
            stored_purchases=frozenset(read.purchases),
        )

    def _try(self, batch: _Batch, job: _Job) -> bool:
        """Settles a job; whether it was done."""
        try:
            job.outcome = self._settle(batch, job)
        except LedgerError as error:
            job.outcome = error
        return isinstance(job.outcome, Answer)

    def _all_or_none(self, batch: _Batch, jobs: Sequence[_Job]) -> _Batch:
        """The batch with all of the jobs done, or as it was, where one of them fails."""
        trial = batch.fork()
        done = [self._try(trial, job) for job in jobs]
        if all(done):
            return trial
        for job, was_done in zip(jobs, done, strict=True):
            if was_done:
                job.outcome = BatchAbortedError()
        return batch

    def _settle(self, batch: _Batch, job: _Job) -> Outcome:
        command = job.command
        if isinstance(command, CatchUp):
            self._catch_up(batch, job)
            return Answer(entry=None)
        if isinstance(command, TellVersion):
            return self._tell(batch, job.partition, command.version)
        key = store.RequestKey(job.partition, command.member_id, command.request_id)
        kept = batch.requests.get(key)
        if kept is not None:
            sent = self._keys.forgotten(command.request) if kept.forgotten else command.request
            if kept.request != sent:
                return RequestIdReusedError(kept=None if kept.forgotten else kept.request, sent=command.request)
            return self._answered(batch, kept, replayed=True)
        salt = os.urandom(_SALT_BYTES)
        author = Author(command.principal, command.on_behalf_of)
        first: Entry | None = None
        last_offset, after = 0, None
        events = self._events(batch, job)
        # The last of its own answers it: what a return gives back comes before the return itself.
        answer = next((event for event in reversed(events) if event.request_id == command.request_id), None)
        for event in events:
            own = event is answer
            digest = request_digest(salt, command.request) if own else b""
            entry = self._append(batch, job.partition, event, event.author or author, salt, digest)
            last_offset, after = entry.offset, event.after
            if own:
                first = entry
                if job.purchase is not None and event.kind is EntryKind.PURCHASE_RECORDED:
                    bought = batch.purchases[job.purchase].purchase
                    batch.purchases[job.purchase] = store.StoredPurchase(bought, entry.offset)
        kept = store.KeptRequest(request=command.request, entry=first, last_offset=last_offset, after=after)
        batch.requests[key] = kept
        batch.new_requests.append(
            store.RequestRow(*key, command.request, salt, first.offset if first else 0, last_offset)
        )
        return self._answered(batch, kept, replayed=False)

    def _tell(self, batch: _Batch, partition: int, told: StoredVersion) -> Answer:
        head = batch.heads[partition]
        event = decide_version(head.versions, self._now(head), told)
        if event is None:
            return Answer(entry=None, last_offset=head.last_offset, replayed=True)
        assert event.author is not None
        entry = self._append(batch, partition, event, event.author, b"", b"")
        return Answer(entry=entry, last_offset=entry.offset)

    def _answered(self, batch: _Batch, kept: store.KeptRequest, *, replayed: bool) -> Outcome:
        entry = kept.entry
        if entry is None or entry.event.kind is not EntryKind.REQUEST_REFUSED:
            return Answer(entry=entry, last_offset=kept.last_offset, after=kept.after, replayed=replayed)
        versions = self._versions(batch, entry.partition)
        return RefusedError(
            Refusal(entry.event.reason),
            available=entry.event.available_after,
            redemption=versions.at(self._now(batch.heads[entry.partition]).time).redemption,
            replayed=replayed,
        )

    def _events(self, batch: _Batch, job: _Job) -> Sequence[Event]:
        """What the rules decide, with the states after it noted in the batch."""
        command = job.command
        assert not isinstance(command, CatchUp | TellVersion)
        head = batch.heads[job.partition]
        if isinstance(command, AdvanceClock):
            moved = decide_clock(head.business_time, command.to_time, command.request_id)
            return [moved] if moved else []
        member_key, purchase_key = job.member, job.purchase
        stored = batch.purchases.get(purchase_key) if purchase_key else None
        redemption_key = job.redemption_with(stored.purchase if stored else None)
        known = Known(
            member=batch.members.get(member_key),
            purchase=stored.purchase if stored else None,
            redemption=batch.redemptions.get(redemption_key) if redemption_key else None,
            lapsed=batch.lapsed.get(member_key, {}),
            bought=batch.bought.get(purchase_key) if purchase_key else None,
            identifier=batch.identifiers.get(job.identifier) if job.identifier else None,
            identifiers=batch.member_identifiers.get(member_key, {}),
        )
        decision = decide(self._versions(batch, job.partition), self._now(head), known, command)
        after = decision.known
        self._note(batch, member_key, decision.events, after)
        self._note_identifiers(batch, member_key, known.identifiers, after.identifiers)
        if purchase_key and after.purchase is not None and after.purchase is not known.purchase:
            batch.purchases[purchase_key] = store.StoredPurchase(after.purchase, stored.entry_offset if stored else 0)
            batch.changed_purchases.add(purchase_key)
        if after.redemption is not None and after.redemption is not known.redemption:
            key = store.RedemptionKey(*member_key, after.redemption.redemption_id)
            batch.redemptions[key] = after.redemption
            batch.changed_redemptions.add(key)
        for event in decision.events:
            if purchase_key and event.kind is EntryKind.PURCHASE_RECORDED:
                batch.bought[purchase_key] = event.detail or {}
        return decision.events

    def _catch_up(self, batch: _Batch, job: _Job) -> None:
        """Writes down what time has done to a member's points."""
        key = job.member
        known = Known(member=batch.members.get(key), lapsed=batch.lapsed.get(key, {}))
        if known.member is None:
            return
        now = self._now(batch.heads[job.partition]).time
        events, member = catch_up(self._versions(batch, job.partition), known.member, now)
        for event in events:
            known = known.after(event)
        self._note(batch, key, events, known._replace(member=member))
        # Also where nothing was due after all: its due time is reckoned anew, and it is not found again at once.
        batch.changed_members.add(key)
        for event in events:
            self._append(batch, job.partition, event, LEDGER, b"", b"")

    def _note(self, batch: _Batch, key: store.MemberKey, events: Sequence[Event], after: Known) -> None:
        """Notes a member, and its lapsed lots, as they are after events."""
        if after.member is not None and after.member is not batch.members.get(key):
            batch.members[key] = after.member
            batch.changed_members.add(key)
        if key in batch.lapsed:
            batch.lapsed[key] = after.lapsed
        for event in events:
            if event.kind is EntryKind.MEMBER_ERASED:
                batch.erased.add(key)
            for account, points, lot in event.postings:
                if account is Account.EXPIRED:
                    row = (key, *encode_lot(lot))
                    batch.new_lapsed[row] = batch.new_lapsed.get(row, 0) + points

    def _note_identifiers(self, batch: _Batch, key: store.MemberKey, before: Identifiers, after: Identifiers) -> None:
        """Notes what changed of a member's identifiers."""
        if after is before:
            return
        for digest in before.keys() | after.keys():
            if before.get(digest) != after.get(digest):
                home = partition_of(digest.hex(), self._installation.partitions)
                batch.new_identifiers[key, store.IdentifierKey(home, digest)] = after.get(digest)

    def _versions(self, batch: _Batch, partition: int) -> Versions:
        """The versions of the programme that a partition knows."""
        return self._rules.first(batch.heads[partition].versions)

    def _now(self, head: store.Head) -> Now:
        if self._installation.clock_mode is ClockMode.SIMULATED:
            return Now(time=head.business_time, simulated=True)
        return Now(time=head.recorded_time)

    def _append(
        self, batch: _Batch, partition: int, event: Event, author: Author, salt: bytes, request_hash: bytes
    ) -> Entry:
        """Places an event at the end of its partition: number, hash, commitment to its detail."""
        head = batch.heads[partition]
        offset = head.last_offset + 1
        commitment = b""
        if event.detail is not None:
            detail = canonical_json(event.detail)
            commitment = commit(salt, detail)
            batch.details.append(store.DetailRow(partition, offset, salt, detail))
        body = encode_body(event)
        version = self._versions(batch, partition).at(event.occurred_time).version
        encoding = encode_entry(
            partition=partition,
            offset=offset,
            event=event,
            body=body,
            recorded_time=head.recorded_time,
            principal=author.principal,
            on_behalf_of=author.on_behalf_of,
            programme_version=version,
            detail_commitment=commitment,
            request_hash=request_hash,
        )
        digest = chain(head.head_hash, encoding)
        batch.rows.append(
            store.EntryRow(
                partition,
                offset,
                event.kind.value,
                event.member_id,
                event.request_id,
                author.principal,
                author.on_behalf_of,
                event.occurred_time,
                head.recorded_time,
                version,
                event.purchase_id,
                body,
                commitment,
                request_hash,
                digest,
            )
        )
        batch.heads[partition] = store.Head(
            partition=partition,
            last_offset=offset,
            head_hash=digest,
            recorded_time=head.recorded_time,
            business_time=event.occurred_time if event.kind is EntryKind.CLOCK_ADVANCED else head.business_time,
            members=head.members + (event.kind is EntryKind.MEMBER_JOINED),
            versions=head.versions + (event.kind is EntryKind.PROGRAMME_APPLIED),
        )
        entry = Entry(
            partition=partition,
            offset=offset,
            event=event,
            recorded_time=head.recorded_time,
            principal=author.principal,
            on_behalf_of=author.on_behalf_of,
            programme_version=version,
            detail_commitment=commitment,
            request_hash=request_hash,
            hash=digest,
        )
        batch.entries.append(entry)
        return entry


def _middle(jobs: Sequence[_Job]) -> int:
    """Where jobs can be cut in two, near the middle and never within a group; 0 where they cannot."""
    cuts = [i for i in range(1, len(jobs)) if jobs[i].group is None or jobs[i].group is not jobs[i - 1].group]
    return min(cuts, key=lambda cut: abs(2 * cut - len(jobs)), default=0)
