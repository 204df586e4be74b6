"""Loads a history through the public RPCs, local day after local day, so that it happens as it would have happened.

A day is sent in slices that fit into memory, a slice in batches, several at once, the writes of one member always in
order: a member joins, gives a contact, then buys. Before every local day stands a barrier: the clock moves to its
start, and before anything of the day is sent tiers have taken in all that was before, with what fell due by then, and
the ledger every earning class that follows. So a purchase earns in the class that it would have earned in, however fast
the year goes by. The notifier follows behind, a few days at most.

Everything can be sent again: request ids come from the data. How far a source was loaded is noted in the folder, which
only saves time: days up to there are passed over, as long as the ledger's clock has passed them, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import hashlib
import itertools
import json
import sys
import time
import zlib
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol, cast

from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import ledger_service_pb2 as ledger
from loyalty.notifier.v1 import notifier_service_pb2 as notifier
from loyalty.tiers.v1 import tier_service_pb2 as tiers

from services.cli.display import time_text
from services.cli.errors import CommandError
from services.cli.history import Format, Units, end_of_day
from services.cli.installation import Installation, held, write_json
from services.cli.remote import PASSING_NUMBERS, Patience, Services, call, together
from services.cli.staging import Joining, Movement, Slice, Staging, Tally
from services.programme import Programme
from services.runtime.causality import format_token, merge, parse_token
from services.runtime.clock import microseconds, moment
from services.runtime.status import reason_of

# What the ledger takes in one BatchRecord.
MAX_WRITES: Final = 1000
# A batch stays well below the largest message.
MAX_LINES: Final = 20_000
# The ledger commits one batch after the other, in one lane: while one commits, others gather for the next.
ROWS_AT_ONCE: Final = 4
CONTACTS_AT_ONCE: Final = 16
# Slices made ready while others are being sent.
_SLICES_AHEAD: Final = 3
# Fewer movements than this are not worth a transaction of their own.
_WORTH_A_ROW: Final = 100
# How many days the notifier may be behind.
_NOTIFIER_DAYS: Final = 7
_MEMBER_ALREADY: Final = frozenset({"REQUEST_ID_REUSED", "MEMBER_EXISTS"})
# The rule of the ledger for what happened up to the joining time.
_BEFORE_JOINING: Final = "before_joining"
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
    points: int = 0
    """Given, less taken back."""
    before_joining: int = 0
    """Purchases and returns recorded that are not later than the joining of their member: they do not count."""

    def __iadd__(self, other: Totals) -> Totals:
        self.members += other.members
        self.purchases += other.purchases
        self.returns += other.returns
        self.loaded.add(other.loaded.lines, other.loaded.amount)
        self.refused.add(other.refused.lines, other.refused.amount)
        self.points += other.points
        self.before_joining += other.before_joining
        return self

    def seen_again(self) -> Totals:
        """The same for one who finds it there already."""
        return Totals(
            members=self.members.seen_again(),
            purchases=self.purchases.seen_again(),
            returns=self.returns.seen_again(),
            loaded=Tally(self.loaded.lines, self.loaded.amount),
            refused=Tally(self.refused.lines, self.refused.amount),
            points=self.points,
            before_joining=self.before_joining,
        )

    def to_json(self) -> dict[str, Any]:
        """As a note keeps them."""

        def answers(of: Answers) -> dict[str, Any]:
            return {"recorded": of.recorded, "there": of.there, "refused": dict(of.refused)}

        return {
            "members": answers(self.members),
            "purchases": answers(self.purchases),
            "returns": answers(self.returns),
            "loaded": asdict(self.loaded),
            "refused": asdict(self.refused),
            "points": self.points,
            "before_joining": self.before_joining,
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Totals:
        """What `to_json` made of them."""

        def answers(name: str) -> Answers:
            return Answers(said[name]["recorded"], said[name]["there"], Counter(said[name]["refused"]))

        return cls(
            members=answers("members"),
            purchases=answers("purchases"),
            returns=answers("returns"),
            loaded=Tally(**said["loaded"]),
            refused=Tally(**said["refused"]),
            points=said["points"],
            before_joining=said["before_joining"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A local day is over. `standings`: members by tier name, lowest tier first, at the end of the last whole month."""

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


class Watcher(Protocol):
    """Who is told how the load goes on."""

    def day_closed(self, closed: Closed) -> None:
        """A day is over."""


# The contact of a member who has just joined; None where there is none.
ContactOf = Callable[[str], Contact | None]


class RefusedRow(NamedTuple):
    """A purchase or return that the ledger refused: a line of the file of the refused."""

    occurred_time: str
    kind: str
    member_id: str
    key: str
    amount_minor_units: int
    source_lines: int
    reason: str
    message: str

    @classmethod
    def of(cls, movement: Movement, reason: str, message: str) -> RefusedRow:
        """The line of a movement."""
        time = time_text(moment(movement.occurred))
        kind = "return" if movement.is_return else "purchase"
        lines = movement.source_lines
        return cls(time, kind, movement.member_id, movement.key, movement.amount, lines, reason, message)


class Notes:
    """What is noted in the folder of how far a source was loaded, with what outcome, and what was refused."""

    def __init__(self, installation: Installation, form: Format, units: Units, fingerprint: str) -> None:
        self._folder = installation.imports
        # The same file read in other units is another history.
        read_so = f"{fingerprint} {units.currency} {units.zone.key}"
        self.name = f"{form.name}-{hashlib.sha256(read_so.encode()).hexdigest()[:32]}"
        self._path = self._folder / f"{self.name}.json"
        self.refused_file = self._folder / f"{self.name}.refused.csv"
        self._head = {
            "format": form.name,
            "fingerprint": fingerprint,
            "currency": units.currency,
            "zone": units.zone.key,
        }
        self.through: date | None = None
        self.totals = Totals()
        self._refused_bytes = 0
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            noted = json.loads(self._path.read_text(encoding="utf-8"))
            totals, through = Totals.from_json(noted["totals"]), date.fromisoformat(noted["through"])
            self._refused_bytes = int(noted["refused_bytes"])
            self.totals, self.through = totals, through

    def forget(self) -> None:
        """Begins anew: the ledger does not stand where the note says."""
        self.through, self.totals, self._refused_bytes = None, Totals(), 0

    def close(self, day: date, totals: Totals, refused: Sequence[RefusedRow]) -> None:
        """Notes a day that is over, with what came of it."""
        self.totals += totals
        self.through = day
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._append(sorted(refused))
            write_json(
                self._path,
                {
                    **self._head,
                    "through": day.isoformat(),
                    "totals": self.totals.to_json(),
                    "refused_bytes": self._refused_bytes,
                },
            )
        except OSError as error:
            raise CommandError(f"{self._path} cannot be written: {error.strerror}") from None

    def _append(self, refused: Sequence[RefusedRow]) -> None:
        """Adds to the file of the refused; what a load that was killed wrote beyond its note is cut off first."""
        if not refused and not self.refused_file.exists():
            return
        with self.refused_file.open("a", encoding="utf-8", newline="") as file:
            file.truncate(self._refused_bytes)
            writer = csv.writer(file, lineterminator="\n")
            if refused and not self._refused_bytes:
                writer.writerow(RefusedRow._fields)
            writer.writerows(refused)
        self._refused_bytes = self.refused_file.stat().st_size

    def first_refused(self, limit: int) -> list[dict[str, str]]:
        """The first lines of the file of the refused."""
        if not self.totals.refused.lines:
            return []
        with self.refused_file.open(encoding="utf-8", newline="") as file:
            return list(itertools.islice(csv.DictReader(file), limit))


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
        # Of the source so far, days passed over included.
        self._movements = 0
        self._totals = Totals()
        # What the note of the open day will say.
        self._today = Totals()
        self._standings: Mapping[str, int] = {}
        self._refused: list[RefusedRow] = []
        # All that was written, and where the notifier has still to get.
        self._written: Mapping[int, int] = {}
        self._behind: deque[str] = deque()

    async def load(self) -> Loaded:
        """Sends what is not there yet; raises RemoteError where a service refuses or stays away."""
        since = await self._begin()
        passed_over = self._movements
        began = ended = 0.0
        open_day: date | None = None
        async with contextlib.aclosing(self._slices(since)) as slices:
            async for ready in slices:
                began = began or time.perf_counter()
                day = ready.slice.date
                if day != open_day:
                    await self._advance(end_of_day(day - timedelta(days=1), self._programme))
                    if open_day is not None:
                        await self._close(open_day)
                    open_day = day
                await self._send(ready)
                self._movements += len(ready.slice.movements)
        if open_day is not None:
            await self._advance(end_of_day(open_day, self._programme))
            await self._close(open_day)
            self._standings = await settle_everywhere(self._services, format_token(self._written))
            ended = time.perf_counter()
        return Loaded(
            totals=self._totals,
            movements_sent=self._movements - passed_over,
            seconds=ended - began,
            standings=self._standings,
        )

    async def _begin(self) -> int:
        """Lets what is under way come to its end; says the instant from which on the source is to be sent."""
        partitions = await call(self._services.ledger.ListPartitions, ledger.ListPartitionsRequest())
        self._clock = partitions.business_time.ToDatetime(UTC)
        # A load that was killed may have left something.
        heads = format_token({one.partition: one.last_offset for one in partitions.partitions if one.last_offset})
        self._standings = await settled_standings(self._services, heads)
        through = self._notes.through
        if through is None:
            return 0
        end = end_of_day(through, self._programme)
        if self._clock < end:
            # The database is older than the note: it was restored from a backup.
            self._notes.forget()
            return 0
        self._totals = self._notes.totals.seen_again()
        self._movements = self._staging.movements_before(microseconds(end))
        self._watcher.day_closed(self._closed(through, passed_over=True))
        return microseconds(end)

    async def _close(self, day: date) -> None:
        """Notes a day that is over, and waits where the notifier is too far behind."""
        if (day + timedelta(days=1)).day == 1:
            self._standings = await settled_standings(self._services, "", end_of_day(day, self._programme))
        self._notes.close(day, self._today, self._refused)
        self._totals += self._today
        self._today, self._refused = Totals(), []
        self._watcher.day_closed(self._closed(day, passed_over=False))
        self._behind.append(format_token(self._written))
        if len(self._behind) > _NOTIFIER_DAYS:
            await handled(self._services, self._behind.popleft())

    def _closed(self, day: date, *, passed_over: bool) -> Closed:
        return Closed(date=day, movements=self._movements, standings=self._standings, passed_over=passed_over)

    async def _slices(self, since: int) -> AsyncGenerator[_ReadySlice, None]:
        """The slices, made ready in a thread while others are being sent."""
        loop = asyncio.get_running_loop()
        ready = (
            _ready(one, self._form, self._programme.currency, new_apart=self._contact_of is not None)
            for one in self._staging.slices(self._programme, since)
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

    async def _send(self, ready: _ReadySlice) -> None:
        """Sends a slice."""

        async def send(row: Sequence[_Batch]) -> list[str]:
            return [await self._record(batch) for batch in row]

        async def receive() -> list[str]:
            """Who is new: they join, then give their contact, then buy. The others do not wait for that."""
            tokens = await send(ready.joinings)
            if self._contact_of is not None:
                await self._set_contacts([one.member_id for one in ready.slice.joinings], self._contact_of)
            for row in await together(send(row) for row in ready.rows_of_new):
                tokens += row
            return tokens

        rows = await together([*(send(row) for row in ready.rows), receive()])
        self._note_written(token for row in rows for token in row)

    async def _record(self, batch: _Batch) -> str:
        """Sends a batch until every write in it has its answer, counts the answers, and says the causal token."""
        patience = Patience()
        while True:
            answer = await call(self._services.ledger.BatchRecord, batch.request, seconds=_BATCH_SECONDS)
            passing = [one.error for one in answer.outcomes if one.error.code in PASSING_NUMBERS]
            if not passing:
                break
            # The whole of it again, so that the writes of a member stay in order.
            await patience.or_give_up(passing[0].message)
        for sent, outcome in zip(batch.sent, answer.outcomes, strict=True):
            self._count(sent, outcome)
        return str(answer.causal_token)

    def _count(self, sent: _Sent, outcome: Any) -> None:
        totals, movement = self._today, sent.movement
        answers: Answers = getattr(totals, sent.answers)
        which = outcome.WhichOneof("outcome")
        if which == "error":
            reason = reason_of(outcome.error) or str(outcome.error.code)
            if movement is None:
                # Who joined at another time, by another file or at a till, is a member all the same.
                if reason in _MEMBER_ALREADY:
                    answers.there += 1
                else:
                    answers.refused[reason] += 1
                return
            answers.refused[reason] += 1
            totals.refused.add(movement.source_lines, movement.signed)
            self._refused.append(RefusedRow.of(movement, reason, outcome.error.message))
            return
        done = getattr(outcome, which)
        totals.points += done.receipt.points
        answers.recorded += not done.replayed
        answers.there += done.replayed
        if movement is not None:
            totals.loaded.add(movement.source_lines, movement.signed)
            totals.before_joining += any(rule.rule == _BEFORE_JOINING for rule in done.receipt.rules)

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
        token = await advance_clock(self._services, to_time)
        await settled(self._services, token)
        self._clock = to_time
        self._note_written([token])

    def _note_written(self, tokens: Iterable[str]) -> None:
        self._written = merge([self._written, *(parse_token(token) for token in tokens)])


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


async def settled(services: Services, token: str) -> None:
    """Returns when tiers have taken in what the token names and the ledger what follows from it. Raises RemoteError."""
    # The list waits as the count does, and one line of it costs less than to count everybody.
    request = tiers.ListStandingsRequest(causal_token=token, settled=True, page_size=1)
    await call(services.tiers.ListStandings, request, seconds=_WAIT_SECONDS)


async def settled_standings(services: Services, token: str, at_time: datetime | None = None) -> dict[str, int]:
    """Members by tier name, once tiers have taken in what the token names and the ledger what follows from it."""
    request = tiers.CountStandingsRequest(causal_token=token, settled=True)
    if at_time is not None:
        request.at_time.FromDatetime(at_time)
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


def _ready(one: Slice, form: Format, currency: str, *, new_apart: bool) -> _ReadySlice:
    """A slice as messages; `new_apart`: something is to be done between joining and buying."""
    if not new_apart:
        rows = _rows([*one.joinings, *one.movements], form, currency)
        return _ReadySlice(slice=one, joinings=(), rows=rows, rows_of_new=())
    new = {joining.member_id for joining in one.joinings}
    return _ReadySlice(
        slice=one,
        joinings=list(_batches(one.joinings, form, currency)),
        rows=_rows([movement for movement in one.movements if movement.member_id not in new], form, currency),
        rows_of_new=_rows([movement for movement in one.movements if movement.member_id in new], form, currency),
    )


def _rows(events: Sequence[Joining | Movement], form: Format, currency: str) -> list[list[_Batch]]:
    """Batches that may be sent at the same time, row by row: what one member did is in one row, in order."""
    count = min(ROWS_AT_ONCE, 1 + len(events) // _WORTH_A_ROW)
    rows: list[list[Joining | Movement]] = [[] for _ in range(count)]
    for event in events:
        rows[zlib.crc32(event.member_id.encode()) % count].append(event)
    return [list(_batches(row, form, currency)) for row in rows if row]


def _batches(events: Sequence[Joining | Movement], form: Format, currency: str) -> Iterator[_Batch]:
    """The events in their order, as many in a batch as it takes."""
    request, lines = ledger.BatchRecordRequest(), 0
    sent: list[_Sent] = []
    for event in events:
        lines_of_event = 0 if isinstance(event, Joining) else event.source_lines
        if sent and (len(sent) == MAX_WRITES or lines + lines_of_event > MAX_LINES):
            yield _Batch(request=request, sent=sent)
            request, sent, lines = ledger.BatchRecordRequest(), [], 0
        lines += lines_of_event
        if isinstance(event, Joining):
            _put_joining(request.writes.add().enroll_member, event, form)
            sent.append(_Sent(None, "members"))
        elif event.is_return:
            # It names no purchase: the source does not say which one comes back.
            _put_movement(request.writes.add().record_return, event, form, "return", currency)
            sent.append(_Sent(event, "returns"))
        else:
            message = request.writes.add().record_purchase
            _put_movement(message, event, form, "purchase", currency)
            message.purchase_id = event.key
            sent.append(_Sent(event, "purchases"))
    if sent:
        yield _Batch(request=request, sent=sent)


def _put_joining(message: Any, joining: Joining, form: Format) -> None:
    message.request_id = f"{form.name}/member/{joining.member_id}"
    message.member_id = joining.member_id
    message.channel = form.channel
    _set_time(message.occurred_time, joining.occurred)


def _put_movement(message: Any, movement: Movement, form: Format, kind: str, currency: str) -> None:
    if movement.lines:
        message.MergeFromString(movement.lines)
    message.request_id = f"{form.name}/{kind}/{movement.member_id}/{movement.key}"
    message.member_id = movement.member_id
    message.receipt_number = movement.key
    _set_time(message.occurred_time, movement.occurred)
    message.amount.currency_code = currency
    message.amount.minor_units = movement.amount
    message.store_id = movement.store_id
    message.channel = form.channel


def _set_time(stamp: Timestamp, occurred: int) -> None:
    stamp.seconds, microseconds_ = divmod(occurred, 1_000_000)
    stamp.nanos = microseconds_ * 1000
