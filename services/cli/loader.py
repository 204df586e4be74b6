"""Loads a history through the public RPCs, local day after local day, so that it happens as it would have happened.

A day is sent in slices that fit into memory, a slice in batches, several at once, the writes of one member always in
order: a member joins, gives a contact, then buys. At the end of every local day stands a barrier: the clock moves to
the end of the day, and before the next one begins tiers have taken in all of it, with what fell due by then, and the
ledger every earning class that follows. So a purchase earns in the class that it would have earned in, however fast
the year goes by. The notifier follows behind, a few days at most.

Everything can be sent again: request ids come from the data. How far a source was loaded is noted in the folder, which
only saves time: days up to there are passed over, as long as the ledger's clock has passed them, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sys
import time
import zlib
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol, cast

from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import ledger_service_pb2 as ledger
from loyalty.notifier.v1 import notifier_service_pb2 as notifier
from loyalty.tiers.v1 import tier_service_pb2 as tiers

from services.cli.errors import CommandError
from services.cli.history import Format, Units, end_of_day, microseconds
from services.cli.installation import Installation, held, write_json
from services.cli.remote import PASSING_NUMBERS, Patience, Services, call, reason_of, together
from services.cli.staging import Joining, Movement, Slice, Staging, Tally
from services.programme import Programme
from services.runtime.causality import format_token, merge, parse_token

# What the ledger takes in one BatchRecord, and in one receipt.
MAX_WRITES: Final = 1000
MAX_RECEIPT_LINES: Final = 1000
# A batch stays well below the largest message.
MAX_LINES: Final = 20_000
# While the ledger commits one batch it reads the next; more of them at once make it no faster.
ROWS_AT_ONCE: Final = 3
CONTACTS_AT_ONCE: Final = 16
# Slices made ready while others are being sent.
_SLICES_AHEAD: Final = 3
# Fewer movements than this are not worth a transaction of their own.
_WORTH_A_ROW: Final = 100
# How many days the notifier may be behind, twice.
_NOTIFIER_DAYS: Final = 7
_SHOWN_REFUSALS: Final = 10
_SWITCH_SECONDS: Final = 0.0005
_BATCH_SECONDS: Final = 60.0
_WAIT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """How a member can be reached."""

    name: str
    email: str


@dataclass(slots=True)
class Answers:
    """What the ledger said to writes of one kind. Refusals by reason of the contract."""

    recorded: int = 0
    there: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def __iadd__(self, other: Answers) -> Answers:
        self.recorded += other.recorded
        self.there += other.there
        self.refused += other.refused
        return self

    def seen_again(self) -> Answers:
        """The same for one who finds it there already."""
        return Answers(there=self.recorded + self.there, refused=Counter(self.refused))


@dataclass(slots=True, kw_only=True)
class Totals:
    """What came of the writes. `loaded` and `refused` in lines of the source, and in signed minor units."""

    members: Answers = field(default_factory=Answers)
    purchases: Answers = field(default_factory=Answers)
    returns: Answers = field(default_factory=Answers)
    loaded: Tally = field(default_factory=Tally)
    refused: Tally = field(default_factory=Tally)
    points_given: int = 0

    def __iadd__(self, other: Totals) -> Totals:
        self.members += other.members
        self.purchases += other.purchases
        self.returns += other.returns
        self.loaded.add(other.loaded.lines, other.loaded.amount)
        self.refused.add(other.refused.lines, other.refused.amount)
        self.points_given += other.points_given
        return self

    def seen_again(self) -> Totals:
        """The same for one who finds it there already."""
        return Totals(
            members=self.members.seen_again(),
            purchases=self.purchases.seen_again(),
            returns=self.returns.seen_again(),
            loaded=Tally(self.loaded.lines, self.loaded.amount),
            refused=Tally(self.refused.lines, self.refused.amount),
            points_given=self.points_given,
        )

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Totals:
        """What `dataclasses.asdict` made of them."""

        def answers(name: str) -> Answers:
            return Answers(said[name]["recorded"], said[name]["there"], Counter(said[name]["refused"]))

        return cls(
            members=answers("members"),
            purchases=answers("purchases"),
            returns=answers("returns"),
            loaded=Tally(**said["loaded"]),
            refused=Tally(**said["refused"]),
            points_given=said["points_given"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A local day is over, everywhere. `standings`: members by tier name, lowest tier first, at its end."""

    date: date
    movements: int
    """Purchases and returns of the source so far, days passed over included."""
    standings: Mapping[str, int]
    passed_over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a load did. `seconds` from the first batch sent to the end of the last barrier; 0 where none was sent."""

    totals: Totals
    movements_sent: int
    seconds: float
    standings: Mapping[str, int]
    refusals: Sequence[str]
    """Some of the purchases and returns that were refused in this run, each with the reason."""


class Watcher(Protocol):
    """Who is told how the load goes on."""

    def day_closed(self, closed: Closed) -> None:
        """A day is over."""


# The contact of a member who has just joined; None where there is none.
ContactOf = Callable[[str], Contact | None]


class Notes:
    """What is noted in the folder of how far a source was loaded, and with what outcome."""

    def __init__(self, installation: Installation, form: Format, units: Units, fingerprint: str) -> None:
        self._folder = installation.imports
        # The same file read in other units is another history.
        read_so = f"{fingerprint} {units.currency} {units.zone.key}"
        self.name = f"{form.name}-{hashlib.sha256(read_so.encode()).hexdigest()[:32]}"
        self._path = self._folder / f"{self.name}.json"
        self._head = {
            "format": form.name,
            "fingerprint": fingerprint,
            "currency": units.currency,
            "zone": units.zone.key,
        }
        self.through: date | None = None
        self.totals = Totals()
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            noted = json.loads(self._path.read_text(encoding="utf-8"))
            self.totals = Totals.from_json(noted["totals"])
            self.through = date.fromisoformat(noted["through"])

    def forget(self) -> None:
        """Begins anew: the ledger does not stand where the note says."""
        self.through, self.totals = None, Totals()

    def close(self, day: date, totals: Totals) -> None:
        """Notes a day that is over, with what came of it."""
        self.totals += totals
        self.through = day
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_json(self._path, {**self._head, "through": day.isoformat(), "totals": asdict(self.totals)})
        except OSError as error:
            raise CommandError(f"{self._path} cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def alone(installation: Installation) -> Iterator[None]:
    """Holds the folder for one load; raises CommandError where another one has it."""
    with held(
        installation.run / "import.lock",
        f"another import into {installation.directory} is under way, by the process {{holder}}; wait until it is done",
    ):
        yield


class _Sent(NamedTuple):
    """What is counted of a write: None for a joining."""

    movement: Movement | None
    answers: str
    """Which of Totals' Answers counts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Writes that are sent together, and what is counted of each."""

    request: Any
    sent: Sequence[_Sent]


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReadySlice:
    """A slice as it is sent. The batches of one row follow each other; the rows go at the same time."""

    slice: Slice
    joinings: Sequence[_Batch]
    rows: Sequence[Sequence[_Batch]]
    rows_of_new: Sequence[Sequence[_Batch]]


class Loader:
    """Loads one history, read and arranged, into one running installation."""

    def __init__(
        self,
        *,
        services: Services,
        programme: Programme,
        form: Format,
        staging: Staging,
        notes: Notes,
        watcher: Watcher,
        contact_of: ContactOf | None = None,
    ) -> None:
        self._services = services
        self._programme = programme
        self._form = form
        self._staging = staging
        self._notes = notes
        self._watcher = watcher
        self._contact_of = contact_of
        self._clock = datetime.min.replace(tzinfo=UTC)
        self._standings: Mapping[str, int] = {}
        self._refusals: list[str] = []

    async def load(self) -> Loaded:
        """Sends what is not there yet; raises RemoteError where a service refuses or stays away."""
        partitions = await call(self._services.ledger.ListPartitions, ledger.ListPartitionsRequest())
        self._clock = partitions.business_time.ToDatetime(UTC)
        through = self._notes.through
        if through is not None and self._clock < end_of_day(through, self._programme):
            # The database is older than the note: it was restored from a backup.
            self._notes.forget()
            through = None
        # What a load that was killed has left under way comes to its end first.
        heads = format_token({one.partition: one.last_offset for one in partitions.partitions if one.last_offset})
        await self._settle(heads)
        totals = self._notes.totals.seen_again()
        since = done = 0
        if through is not None:
            since = microseconds(end_of_day(through, self._programme))
            done = self._staging.movements_before(since)
            self._watcher.day_closed(Closed(date=through, movements=done, standings=self._standings, passed_over=True))
        passed_over = done
        began = ended = 0.0
        today, token, behind = Totals(), heads, deque([heads])
        async with contextlib.aclosing(self._slices(since)) as slices:
            async for ready in slices:
                day = ready.slice.date
                began = began or time.perf_counter()
                await self._advance(end_of_day(day - timedelta(days=1), self._programme))
                token = await self._send(ready, today)
                done += len(ready.slice.movements)
                if not ready.slice.ends_day:
                    continue
                await self._advance(end_of_day(day, self._programme))
                ended = time.perf_counter()
                self._notes.close(day, today)
                totals += today
                today = Totals()
                self._watcher.day_closed(Closed(date=day, movements=done, standings=self._standings, passed_over=False))
                behind.append(token)
                if len(behind) > 2 * _NOTIFIER_DAYS:
                    await self._handled(behind[_NOTIFIER_DAYS])
                    behind = deque(list(behind)[_NOTIFIER_DAYS:])
        if began:
            await self._handled(token)
            ended = time.perf_counter()
        return Loaded(
            totals=totals,
            movements_sent=done - passed_over,
            seconds=ended - began,
            standings=self._standings,
            refusals=self._refusals,
        )

    async def _slices(self, since: int) -> AsyncGenerator[_ReadySlice, None]:
        """The slices, made ready in a thread while others are being sent."""
        loop = asyncio.get_running_loop()
        ready = (
            _ready(one, self._form, self._programme.currency) for one in self._staging.slices(self._programme, since)
        )
        # What is ready for the services does not wait for long until the thread lets go of the interpreter.
        sys.setswitchinterval(_SWITCH_SECONDS)
        with ThreadPoolExecutor(max_workers=1) as thread:
            ahead = deque(loop.run_in_executor(thread, next, ready, None) for _ in range(_SLICES_AHEAD))
            try:
                while (one := await ahead.popleft()) is not None:
                    ahead.append(loop.run_in_executor(thread, next, ready, None))
                    yield one
            finally:
                for future in ahead:
                    future.cancel()

    async def _send(self, ready: _ReadySlice, totals: Totals) -> str:
        """Sends a slice; a causal token of all its writes."""

        async def send(row: Sequence[_Batch]) -> list[str]:
            return [await self._record(batch, totals) for batch in row]

        async def receive() -> list[str]:
            """Who is new: they join, then give their contact, then buy. The others do not wait for that."""
            tokens = await send(ready.joinings)
            if self._contact_of is not None:
                await self._set_contacts([one.member_id for one in ready.slice.joinings], self._contact_of)
            for row in await together(send(row) for row in ready.rows_of_new):
                tokens += row
            return tokens

        rows = await together([*(send(row) for row in ready.rows), receive()])
        return format_token(merge(parse_token(token) for row in rows for token in row))

    async def _record(self, batch: _Batch, totals: Totals) -> str:
        """Sends a batch until every write in it has its answer, counts the answers, and says the causal token."""
        patience = Patience()
        while True:
            answer = await call(self._services.ledger.BatchRecord, batch.request, seconds=_BATCH_SECONDS)
            passing = [one.error for one in answer.outcomes if one.error.code in PASSING_NUMBERS]
            if not passing:
                break
            # The whole of it again, so that the writes of a member stay in order.
            await patience.or_give_up(passing[0].message)
        for (movement, kind), outcome in zip(batch.sent, answer.outcomes, strict=True):
            answers: Answers = getattr(totals, kind)
            which = outcome.WhichOneof("outcome")
            signed = 0 if movement is None else -movement.amount if movement.is_return else movement.amount
            lines = 0 if movement is None else movement.source_lines
            if which == "error":
                reason = reason_of(outcome.error) or str(outcome.error.code)
                answers.refused[reason] += 1
                totals.refused.add(lines, signed)
                if movement is not None and len(self._refusals) < _SHOWN_REFUSALS:
                    self._refusals.append(f"{movement.key} of {movement.member_id}: {outcome.error.message} ({reason})")
                continue
            done = getattr(outcome, which)
            totals.points_given += done.receipt.points
            answers.recorded += not done.replayed
            answers.there += done.replayed
            totals.loaded.add(lines, signed)
        return str(answer.causal_token)

    async def _set_contacts(self, members: Sequence[str], contact_of: ContactOf) -> None:
        """Sets the contacts of members who have just joined, before they buy for the first time."""
        waiting = iter(members)

        async def work() -> None:
            for member_id in waiting:
                contact = contact_of(member_id)
                if contact is None:
                    continue
                request = notifier.SetContactRequest(
                    request_id=f"{self._form.name}/contact/{member_id}",
                    member_id=member_id,
                    contact=notifier.Contact(name=contact.name, email=contact.email),
                )
                await call(self._services.notifier.SetContact, request)

        await together(work() for _ in range(min(CONTACTS_AT_ONCE, len(members))))

    async def _advance(self, to_time: datetime) -> None:
        """Moves the clock, if it is not there yet, and waits until what fell due has had its effect."""
        if to_time <= self._clock:
            return
        await self._settle(await advance_clock(self._services, to_time))
        self._clock = to_time

    async def _settle(self, token: str) -> None:
        self._standings = await settled_standings(self._services, token)

    async def _handled(self, token: str) -> None:
        """Waits until the notifier has handled what the token names."""
        await handled(self._services, token)


async def advance_clock(services: Services, to_time: datetime) -> str:
    """Moves the business time on; a causal token of that. Raises RemoteError."""
    stamp = Timestamp()
    stamp.FromDatetime(to_time)
    request = ledger.AdvanceClockRequest(request_id=f"clock/{stamp.ToJsonString()}", to_time=stamp)
    return str((await call(services.ledger.AdvanceClock, request)).causal_token)


async def business_time(services: Services) -> datetime:
    """The time that the clock of the installation shows. Raises RemoteError."""
    partitions = await call(services.ledger.ListPartitions, ledger.ListPartitionsRequest())
    return cast(datetime, partitions.business_time.ToDatetime(UTC))


async def settled_standings(services: Services, token: str) -> dict[str, int]:
    """Members by tier name, once tiers have taken in what the token names and the ledger what follows from it."""
    request = tiers.CountStandingsRequest(causal_token=token, settled=True)
    answer = await call(services.tiers.CountStandings, request, seconds=_WAIT_SECONDS)
    return {count.tier: count.members for count in answer.counts}


async def handled(services: Services, token: str) -> None:
    """Returns when the notifier has handled what the token names. Raises RemoteError."""
    request = notifier.ListDeliveriesRequest(page_size=1, causal_token=token)
    await call(services.notifier.ListDeliveries, request, seconds=_WAIT_SECONDS)


async def settle_everywhere(services: Services, token: str) -> dict[str, int]:
    """`settled_standings`, once the notifier has handled it, too."""
    standings = await settled_standings(services, token)
    await handled(services, token)
    return standings


def _ready(one: Slice, form: Format, currency: str) -> _ReadySlice:
    """A slice as messages."""
    new = {joining.member_id for joining in one.joinings}
    return _ReadySlice(
        slice=one,
        joinings=list(_joining_batches(one.joinings, form)),
        rows=_rows([movement for movement in one.movements if movement.member_id not in new], form, currency),
        rows_of_new=_rows([movement for movement in one.movements if movement.member_id in new], form, currency),
    )


def _rows(movements: Sequence[Movement], form: Format, currency: str) -> list[list[_Batch]]:
    """Batches that may be sent at the same time, row by row: what one member did is in one row, in order."""
    count = min(ROWS_AT_ONCE, 1 + len(movements) // _WORTH_A_ROW)
    rows: list[list[Movement]] = [[] for _ in range(count)]
    for movement in movements:
        rows[zlib.crc32(movement.member_id.encode()) % count].append(movement)
    return [list(_movement_batches(row, form, currency)) for row in rows if row]


def _joining_batches(joinings: Sequence[Joining], form: Format) -> Iterator[_Batch]:
    for start in range(0, len(joinings), MAX_WRITES):
        some = joinings[start : start + MAX_WRITES]
        request = ledger.BatchRecordRequest()
        for member_id, occurred in some:
            message = request.writes.add().enroll_member
            message.request_id = f"{form.name}/member/{member_id}"
            message.member_id = member_id
            message.channel = form.channel
            _set_time(message.occurred_time, occurred)
        yield _Batch(request=request, sent=[_Sent(None, "members")] * len(some))


def _movement_batches(movements: Sequence[Movement], form: Format, currency: str) -> Iterator[_Batch]:
    request, lines = ledger.BatchRecordRequest(), 0
    sent: list[_Sent] = []
    for movement in movements:
        if sent and (len(sent) == MAX_WRITES or lines + movement.source_lines > MAX_LINES):
            yield _Batch(request=request, sent=sent)
            request, sent, lines = ledger.BatchRecordRequest(), [], 0
        # A return names no purchase: the source does not say which one comes back.
        kind = "return" if movement.is_return else "purchase"
        message = getattr(request.writes.add(), f"record_{kind}")
        if not movement.is_return:
            message.purchase_id = movement.key
        if movement.lines:
            message.MergeFromString(movement.lines)
            _fold(message.lines)
        message.request_id = f"{form.name}/{kind}/{movement.member_id}/{movement.key}"
        message.member_id = movement.member_id
        message.receipt_number = movement.key
        _set_time(message.occurred_time, movement.occurred)
        message.amount.currency_code = currency
        message.amount.minor_units = movement.amount
        message.store_id = movement.store_id
        message.channel = form.channel
        sent.append(_Sent(movement, f"{kind}s"))
        lines += movement.source_lines
    if sent:
        yield _Batch(request=request, sent=sent)


def _fold(lines: Any) -> None:
    """A receipt longer than the contract takes keeps its first lines; the rest become one."""
    if len(lines) <= MAX_RECEIPT_LINES:
        return
    rest = lines[MAX_RECEIPT_LINES - 1 :]
    del lines[MAX_RECEIPT_LINES - 1 :]
    lines.add(
        name=f"{len(rest):,} more lines",
        quantity=sum(line.quantity for line in rest),
        amount_minor_units=sum(line.amount_minor_units for line in rest),
    )


def _set_time(stamp: Timestamp, occurred: int) -> None:
    stamp.seconds, microseconds_ = divmod(occurred, 1_000_000)
    stamp.nanos = microseconds_ * 1000
