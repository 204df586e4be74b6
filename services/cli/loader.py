"""Loads a history through the public RPCs, local day after local day, so that it happens as it would have happened.

A day is sent in batches, several at once, the writes of one member always in order: a member joins, gives a contact,
then buys. At the end of every local day stands a barrier, in this order:

1. tiers have taken in all of the day, and the ledger every earning class that follows from it;
2. the notifier has handled it;
3. the clock moves to the end of the day;
4. what fell due on the way has been taken in everywhere, earning classes included, before the next day begins.

So a purchase earns in the class that it would have earned in, however fast the year goes by.

Everything can be sent again: request ids come from the data. How far a source was loaded is noted in the folder, which
only saves time: days up to there are passed over, as long as the ledger's clock has passed them, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
import zlib
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Protocol, cast

from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import ledger_service_pb2 as ledger
from loyalty.notifier.v1 import notifier_service_pb2 as notifier
from loyalty.tiers.v1 import tier_service_pb2 as tiers

from services.cli.errors import CommandError
from services.cli.history import Day, Joining, Purchase, Source, Survey
from services.cli.installation import Installation, held, write_json
from services.cli.remote import PASSING_NUMBERS, Patience, Services, call, reason_of, together
from services.programme import Programme
from services.runtime.causality import format_token, merge, parse_token

# What the ledger takes in one BatchRecord.
MAX_WRITES: Final = 1000
# A batch stays well below the largest message.
MAX_LINES: Final = 20_000
# While the ledger commits one batch it reads the next; more of them at once make it no faster.
ROWS_AT_ONCE: Final = 3
CONTACTS_AT_ONCE: Final = 16
# Days made ready while others are being sent.
_DAYS_AHEAD: Final = 3
# Fewer purchases than this are not worth a transaction of their own.
_WORTH_A_ROW: Final = 100
_SWITCH_SECONDS: Final = 0.0005
_BATCH_SECONDS: Final = 60.0
_WAIT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """How a member can be reached."""

    name: str
    email: str


@dataclass(slots=True, kw_only=True)
class Totals:
    """What came of the writes. Money in minor units; refusals by reason of the contract."""

    purchases_recorded: int = 0
    purchases_there: int = 0
    purchases_refused: Counter[str] = field(default_factory=Counter)
    members_joined: int = 0
    members_there: int = 0
    members_refused: Counter[str] = field(default_factory=Counter)
    amount_loaded: int = 0
    amount_refused: int = 0
    points_given: int = 0

    def __iadd__(self, other: Totals) -> Totals:
        self.purchases_recorded += other.purchases_recorded
        self.purchases_there += other.purchases_there
        self.purchases_refused += other.purchases_refused
        self.members_joined += other.members_joined
        self.members_there += other.members_there
        self.members_refused += other.members_refused
        self.amount_loaded += other.amount_loaded
        self.amount_refused += other.amount_refused
        self.points_given += other.points_given
        return self

    def seen_again(self) -> Totals:
        """The same for one who finds it there already."""
        return Totals(
            purchases_there=self.purchases_recorded + self.purchases_there,
            purchases_refused=Counter(self.purchases_refused),
            members_there=self.members_joined + self.members_there,
            members_refused=Counter(self.members_refused),
            amount_loaded=self.amount_loaded,
            amount_refused=self.amount_refused,
            points_given=self.points_given,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A local day is over, everywhere. `standings`: members by tier name, lowest tier first, at its end."""

    date: date
    purchases: int
    """Of the source so far, days passed over included."""
    standings: Mapping[str, int]
    passed_over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a load did. `seconds` from the first batch sent to the end of the last barrier; 0 where none was sent."""

    survey: Survey
    totals: Totals
    purchases_sent: int
    seconds: float
    standings: Mapping[str, int]


class Watcher(Protocol):
    """Who is told how the load goes on."""

    def day_closed(self, closed: Closed) -> None:
        """A day is over."""


# The contact of a member who has just joined; None where there is none.
ContactOf = Callable[[str], Contact | None]


class Notes:
    """What is noted in the folder of how far a source was loaded, and with what outcome."""

    def __init__(self, installation: Installation, source: Source, fingerprint: str) -> None:
        self._folder = installation.directory / "imports"
        self._path = self._folder / f"{source.format}-{fingerprint[:32]}.json"
        self._head = {"format": source.format, "title": source.title, "fingerprint": fingerprint}
        self.through: date | None = None
        self.totals = Totals()
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            noted = json.loads(self._path.read_text(encoding="utf-8"))
            kept = noted["totals"]
            for name in ("purchases_refused", "members_refused"):
                kept[name] = Counter(kept[name])
            self.totals = Totals(**kept)
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
            values = {name: getattr(self.totals, name) for name in Totals.__slots__}
            write_json(self._path, {**self._head, "through": day.isoformat(), "totals": values})
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Writes that are sent together, with what is counted of each: its amount, or None for a joining."""

    request: Any
    amounts: Sequence[int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReadyDay:
    """A day as it is sent. The batches of one row follow each other; the rows go at the same time."""

    date: date
    start: datetime
    end: datetime
    members: Sequence[str]
    joinings: Sequence[_Batch]
    rows: Sequence[Sequence[_Batch]]
    rows_of_new: Sequence[Sequence[_Batch]]
    purchases: int
    is_closed: bool


class Loader:
    """Loads one source into one running installation."""

    def __init__(
        self,
        *,
        services: Services,
        programme: Programme,
        source: Source,
        notes: Notes,
        watcher: Watcher,
        contact_of: ContactOf | None = None,
    ) -> None:
        self._services = services
        self._programme = programme
        self._source = source
        self._notes = notes
        self._watcher = watcher
        self._contact_of = contact_of
        self._clock = datetime.min.replace(tzinfo=UTC)
        self._standings: Mapping[str, int] = {}

    async def load(self, survey: Survey) -> Loaded:
        """Sends what is not there yet; raises RemoteError where a service refuses or stays away."""
        partitions = await call(self._services.ledger.ListPartitions, ledger.ListPartitionsRequest())
        self._clock = partitions.business_time.ToDatetime(UTC)
        through = self._notes.through
        if through is not None and self._clock < end_of_day(through, self._programme):
            # The database is older than the note: it was restored from a backup.
            self._notes.forget()
        # What a load that was killed has left under way comes to its end first.
        heads = format_token({one.partition: one.last_offset for one in partitions.partitions if one.last_offset})
        await self._settle(heads)
        totals = self._notes.totals.seen_again()
        done, sent, began, ended = 0, 0, 0.0, 0.0
        async with contextlib.aclosing(self._days()) as days:
            async for day in days:
                done += day.purchases
                if day.is_closed:
                    self._watcher.day_closed(
                        Closed(date=day.date, purchases=done, standings=self._standings, passed_over=True)
                    )
                    continue
                began = began or time.perf_counter()
                await self._advance(day.start)
                today = Totals()
                token = await self._send(day, today)
                await self._close(day.end, token)
                ended = time.perf_counter()
                self._notes.close(day.date, today)
                totals += today
                sent += day.purchases
                self._watcher.day_closed(
                    Closed(date=day.date, purchases=done, standings=self._standings, passed_over=False)
                )
        return Loaded(
            survey=survey, totals=totals, purchases_sent=sent, seconds=ended - began, standings=self._standings
        )

    async def _days(self) -> AsyncGenerator[_ReadyDay, None]:
        """The days, made ready in a thread while others are being sent."""
        loop = asyncio.get_running_loop()
        through = self._notes.through
        ready = (
            _ready(day, self._programme, closed=through is not None and day.date <= through)
            for day in self._source.days(self._programme.zone)
        )
        # What is ready for the services does not wait for long until the thread lets go of the interpreter.
        sys.setswitchinterval(_SWITCH_SECONDS)
        with ThreadPoolExecutor(max_workers=1) as thread:
            ahead = deque(loop.run_in_executor(thread, next, ready, None) for _ in range(_DAYS_AHEAD))
            try:
                while (day := await ahead.popleft()) is not None:
                    ahead.append(loop.run_in_executor(thread, next, ready, None))
                    yield day
            finally:
                for future in ahead:
                    future.cancel()

    async def _send(self, day: _ReadyDay, totals: Totals) -> str:
        """Sends a day; a causal token of all its writes."""

        async def send(row: Sequence[_Batch]) -> list[str]:
            return [await self._record(batch, totals) for batch in row]

        async def receive() -> list[str]:
            """Who is new today: they join, then give their contact, then buy. The others do not wait for that."""
            tokens = await send(day.joinings)
            if self._contact_of is not None:
                await self._set_contacts(day.members, self._contact_of)
            for row in await together(send(row) for row in day.rows_of_new):
                tokens += row
            return tokens

        rows = await together([*(send(row) for row in day.rows), receive()])
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
        for amount, outcome in zip(batch.amounts, answer.outcomes, strict=True):
            if outcome.WhichOneof("outcome") == "error":
                reason = reason_of(outcome.error) or str(outcome.error.code)
                if amount is None:
                    totals.members_refused[reason] += 1
                else:
                    totals.purchases_refused[reason] += 1
                    totals.amount_refused += amount
            elif amount is None:
                joined = outcome.enroll_member
                totals.points_given += joined.receipt.points
                totals.members_joined += not joined.replayed
                totals.members_there += joined.replayed
            else:
                bought = outcome.record_purchase
                totals.points_given += bought.receipt.points
                totals.purchases_recorded += not bought.replayed
                totals.purchases_there += bought.replayed
                totals.amount_loaded += amount
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
                    request_id=f"{self._source.format}/contact/{member_id}",
                    member_id=member_id,
                    contact=notifier.Contact(name=contact.name, email=contact.email),
                )
                await call(self._services.notifier.SetContact, request)

        await together(work() for _ in range(min(CONTACTS_AT_ONCE, len(members))))

    async def _close(self, end: datetime, token: str) -> None:
        """The barrier at the end of a day; see the module."""
        self._standings = await settle_everywhere(self._services, token)
        await self._advance(end)

    async def _advance(self, to_time: datetime) -> None:
        """Moves the clock, if it is not there yet, and waits until what fell due has had its effect."""
        if to_time <= self._clock:
            return
        await self._settle(await advance_clock(self._services, to_time))
        self._clock = to_time

    async def _settle(self, token: str) -> None:
        self._standings = await settled_standings(self._services, token)


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


async def settle_everywhere(services: Services, token: str) -> dict[str, int]:
    """The same, once the notifier has handled it, too."""
    handled = notifier.ListDeliveriesRequest(page_size=1, causal_token=token)
    # The notifier handles nothing before tiers have, so both may be asked at once.
    _, standings = await together(
        [
            call(services.notifier.ListDeliveries, handled, seconds=_WAIT_SECONDS),
            settled_standings(services, token),
        ]
    )
    return standings


def end_of_day(day: date, programme: Programme) -> datetime:
    """The end of a local day: the start of the next."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=programme.zone)
    return programme.start_of_next_local_day(noon)


def _ready(day: Day, programme: Programme, *, closed: bool) -> _ReadyDay:
    """A day as messages; without them where it is over."""
    new = {joining.member_id for joining in day.joinings}
    return _ReadyDay(
        date=day.date,
        start=end_of_day(day.date - timedelta(days=1), programme),
        end=end_of_day(day.date, programme),
        members=[joining.member_id for joining in day.joinings],
        joinings=[] if closed else list(_joining_batches(day.joinings)),
        rows=[] if closed else _rows([one for one in day.purchases if one.member_id not in new], programme),
        rows_of_new=[] if closed else _rows([one for one in day.purchases if one.member_id in new], programme),
        purchases=len(day.purchases),
        is_closed=closed,
    )


def _rows(purchases: Sequence[Purchase], programme: Programme) -> list[list[_Batch]]:
    """Batches that may be sent at the same time, row by row: all purchases of a member are in one row, in order."""
    count = min(ROWS_AT_ONCE, 1 + len(purchases) // _WORTH_A_ROW)
    rows: list[list[Purchase]] = [[] for _ in range(count)]
    for purchase in purchases:
        rows[zlib.crc32(purchase.member_id.encode()) % count].append(purchase)
    return [list(_purchase_batches(row, programme.currency)) for row in rows if row]


def _joining_batches(joinings: Sequence[Joining]) -> Iterator[_Batch]:
    for start in range(0, len(joinings), MAX_WRITES):
        some = joinings[start : start + MAX_WRITES]
        request = ledger.BatchRecordRequest()
        for joining in some:
            message = request.writes.add().enroll_member
            message.request_id = joining.request_id
            message.member_id = joining.member_id
            message.channel = joining.channel
            _set_time(message.occurred_time, joining.occurred)
        yield _Batch(request=request, amounts=[None] * len(some))


def _purchase_batches(purchases: Sequence[Purchase], currency: str) -> Iterator[_Batch]:
    request, lines = ledger.BatchRecordRequest(), 0
    amounts: list[int | None] = []
    for purchase in purchases:
        if amounts and (len(amounts) == MAX_WRITES or lines + len(purchase.lines) > MAX_LINES):
            yield _Batch(request=request, amounts=amounts)
            request, amounts, lines = ledger.BatchRecordRequest(), [], 0
        message = request.writes.add().record_purchase
        message.request_id = purchase.request_id
        message.member_id = purchase.member_id
        message.purchase_id = purchase.purchase_id
        _set_time(message.occurred_time, purchase.occurred)
        message.amount.currency_code = currency
        message.amount.minor_units = purchase.amount
        message.store_id = purchase.store_id
        message.channel = purchase.channel
        # Adding in place takes half the time of making messages and handing them over.
        add = message.lines.add
        for sku, department, category, quantity, amount in purchase.lines:
            add(sku=sku, department=department, category=category, quantity=quantity, amount_minor_units=amount)
        amounts.append(purchase.amount)
        lines += len(purchase.lines)
    if amounts:
        yield _Batch(request=request, amounts=amounts)


def _set_time(stamp: Timestamp, occurred: int) -> None:
    stamp.seconds, microseconds = divmod(occurred, 1_000_000)
    stamp.nanos = microseconds * 1000
