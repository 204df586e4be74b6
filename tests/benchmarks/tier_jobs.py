"""The load of tiers: tasks in a process of their own, `python -m tests.benchmarks.tier_jobs`, as those of `client`.

Members that no ledger knows are made by the service itself, of entries as the feed brings them; where there are to be
many, each history stands for many members, copied by the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from random import Random

import grpc
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb
from loyalty.tiers.v1 import tier_service_pb2 as pb

from services import programme
from services.runtime.causality import format_token
from services.runtime.clock import ClockMode, machine_now
from services.runtime.database import Connection, connect, create_pool
from services.tiers.domain.facts import FactKind
from services.tiers.domain.feed import EntryKind, LedgerEntry
from services.tiers.service import Tiers
from tests.benchmarks.client import (
    CALL_SECONDS,
    Job,
    LoadError,
    Measured,
    Task,
    call_all,
    check_answer,
    main,
    measured,
    paced,
    take,
    unary,
)
from tests.benchmarks.echo import SERVICE, TIER_SERVICE
from tests.benchmarks.purchases import CURRENCY, member_id, purchases

# Entries of one transaction, as many as the service reads ahead.
_AT_ONCE = 2_000
_POLL_SECONDS = 0.02
_PARTITION_OF = "SELECT partition FROM tiers.standings WHERE member_id = $1"
# Members are brought to a version by partition and id: these are the last.
_LAST = "SELECT partition, max(member_id) AS member_id, max(version) AS version FROM tiers.standings GROUP BY 1"
_BEHIND = """
SELECT EXISTS (
    SELECT
    FROM unnest($1::integer[], $2::text[]) AS w(partition, member_id)
    JOIN tiers.standings AS s ON s.partition = w.partition AND s.member_id = w.member_id AND s.version = $3
)
"""
_TAKEN_IN = "SELECT coalesce(sum(ledger_offset), 0)::bigint FROM tiers.cursors"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchUp(Job):
    """Waits until tiers have taken a log in up to the offsets `heads`; measured from the first entry that they took in
    after `before`. `dsn`: their database."""

    dsn: str
    before: dict[str, int]
    heads: dict[str, int]

    async def run(self) -> Measured:
        """Measures entries and time between the first transaction seen and the last."""
        token = format_token({int(partition): offset for partition, offset in self.heads.items()})
        request = pb.GetStandingRequest(member_id=member_id(0), causal_token=token).SerializeToString()
        connection = await connect(self.dsn, service="bench")
        taken_in = start = sum(self.before.values())
        try:
            async with self.connected() as channel:
                call = unary(channel, "GetStanding", pb.GetStandingResponse, TIER_SERVICE)
                while taken_in <= start < sum(self.heads.values()):
                    await asyncio.sleep(_POLL_SECONDS)
                    taken_in = await connection.fetchval(_TAKEN_IN)
                began = time.perf_counter()
                while True:
                    try:
                        await call(request, timeout=CALL_SECONDS, metadata=self.metadata)
                    except grpc.aio.AioRpcError as error:
                        if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
                            continue
                        raise
                    return Measured(done=sum(self.heads.values()) - taken_in, seconds=time.perf_counter() - began)
        finally:
            await connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standings(Job):
    """GetStanding, so many calls at a time: of one member, of members with numbers below `members` at random, or, with
    `once`, of each of them in turn."""

    count: int
    in_flight: int
    members: int = 0
    member: str = ""
    once: bool = False
    echo: bool = False

    async def run(self) -> Measured:
        """Measures the time of the whole and of each call."""
        asked = islice(_asked(self.seed, self.members, self.member, once=self.once), self.count)
        answer = pb.GetStandingRequest if self.echo else pb.GetStandingResponse
        async with self.connected() as channel:
            call = unary(channel, "GetStanding", answer, TIER_SERVICE)
            return await call_all(call, list(asked), self.in_flight, self.metadata, take)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible(Job):
    """RecordPurchase at a fixed rate, and GetStanding with the token of each answer; `ledger`: where it is recorded.

    The time of a standing begins with the purchase's receipt.
    """

    ledger: str
    rate: float
    seconds: float
    members: int

    async def run(self) -> Measured:
        """Measures the time from each receipt to the standing that has the purchase in it."""
        bought = list(purchases(self.seed, int(self.rate * self.seconds), members=self.members))
        buyers = {request.SerializeToString(): request.member_id for request in bought}
        async with self.connected() as channel, grpc.aio.insecure_channel(self.ledger) as ledger:
            record = unary(ledger, "RecordPurchase", ledger_pb.RecordPurchaseResponse, SERVICE)
            look = unary(channel, "GetStanding", pb.GetStandingResponse, TIER_SERVICE)

            async def send(request: bytes, due: float) -> float:
                receipt = await record(request, timeout=CALL_SECONDS, metadata=self.metadata)
                check_answer(receipt)
                got = time.perf_counter()
                asked = pb.GetStandingRequest(member_id=buyers[request], causal_token=receipt.causal_token)
                await look(asked.SerializeToString(), timeout=CALL_SECONDS, metadata=self.metadata)
                return time.perf_counter() - got

            return await paced(buyers, self.rate, send)


@dataclass(frozen=True, slots=True, kw_only=True)
class Redraw(Job):
    """Another version of the programme, from now on: until all members go by it. Meanwhile somebody asks for standings,
    `rate` a second. `ledger`: where it is applied; `dsn`: the database of tiers."""

    ledger: str
    dsn: str
    document: str
    members: int
    rate: float

    async def run(self) -> Measured:
        """Measures members and time from the version's instant on, and how long GetStanding took meanwhile."""
        connection = await connect(self.dsn, service="bench")
        done = asyncio.Event()
        try:
            rows = await connection.fetch(_LAST)
            last = ([row["partition"] for row in rows], [row["member_id"] for row in rows], rows[0]["version"])
            async with self.connected() as channel, grpc.aio.insecure_channel(self.ledger) as ledger:
                look = unary(channel, "GetStanding", pb.GetStandingResponse, TIER_SERVICE)
                # A version is heard of before it holds, so that the time is that of the work alone.
                begins = datetime.now(UTC) + timedelta(seconds=2)
                request = ledger_pb.ApplyProgrammeRequest(request_id=f"apply-{self.seed}", document=self.document)
                request.from_time.FromDatetime(begins)
                apply = unary(ledger, "ApplyProgramme", ledger_pb.ApplyProgrammeResponse, SERVICE)
                await apply(request.SerializeToString(), timeout=CALL_SECONDS, metadata=self.metadata)
                await asyncio.sleep((begins - datetime.now(UTC)).total_seconds())

                async def watch() -> float:
                    began = time.perf_counter()
                    while await connection.fetchval(_BEHIND, *last):  # noqa: ASYNC110
                        await asyncio.sleep(_POLL_SECONDS)
                    done.set()
                    return time.perf_counter() - began

                async def send(request: bytes, due: float) -> float:
                    await look(request, timeout=CALL_SECONDS, metadata=self.metadata)
                    return time.perf_counter() - due

                def until_done() -> Iterator[bytes]:
                    for asked in _asked(self.seed, self.members, "", once=False):
                        if done.is_set():
                            return
                        yield asked

                watching = asyncio.create_task(watch())
                answered = await paced(until_done(), self.rate, send)
                return Measured(
                    done=self.members,
                    seconds=await watching,
                    median_ms=answered.median_ms,
                    p99_ms=answered.p99_ms,
                )
        finally:
            await connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Histories(Task):
    """Members, with numbers from 0 on, who bought `purchases` times in the last `days`: so many different histories,
    made by the service, and copied until there are `members`."""

    dsn: str
    programme: str
    partitions: int
    seed: int
    members: int
    histories: int
    purchases: int
    days: int

    async def run(self) -> Measured:
        """Makes them; measures nothing of use."""
        chance = Random(self.seed)
        now = machine_now()
        began = now - timedelta(days=self.days)
        async with _tiers(self.dsn, self.programme) as tiers:
            await tiers.prepare(partitions=range(self.partitions), clock_mode=ClockMode.REAL)
            times = [
                [began, *(began + (now - began) * share for share in sorted(_shares(chance, self.purchases)))]
                for _ in range(self.histories)
            ]
            await _take_in(tiers, made_entries(chance, times, self.partitions))
        connection = await connect(self.dsn, service="bench")
        try:
            for table in ("facts", "movements", "standings"):
                await _copy(connection, table, self.histories, self.members // self.histories)
            # To the ledger behind them its log is still to come, and their classes have been told.
            await connection.execute("UPDATE tiers.cursors SET ledger_offset = 0")
            await connection.execute("DELETE FROM tiers.class_outbox")
        finally:
            await connection.close()
        return Measured(done=self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class DueMembers(Task):
    """Members of whom nothing is due yet, rows of standings alone; and, made by the service, for each of the instants
    `due` (ISO 8601) so many whose one purchase leaves the window within the minute before it."""

    dsn: str
    programme: str
    partitions: int
    members: int
    at_once: int
    due: list[str]

    async def run(self) -> Measured:
        """Makes them; measures nothing of use."""
        chance = Random(len(self.due))
        market = programme.load(Path(self.programme)).market("")
        span = market.tiers.window.span
        assert span is not None, "a rolling window"
        async with _tiers(self.dsn, self.programme) as tiers:
            await tiers.prepare(partitions=range(self.partitions), clock_mode=ClockMode.REAL)
            ends = [
                datetime.fromisoformat(instant) - timedelta(seconds=chance.uniform(0, 60))
                for instant in self.due
                for _ in range(self.at_once)
            ]
            bought = [span.start(end, market.zone) for end in ends]
            await _take_in(
                tiers,
                made_entries(
                    chance, [[time - timedelta(days=1), time] for time in bought], self.partitions, cents=35_000
                ),
            )
        connection = await connect(self.dsn, service="bench")
        try:
            await connection.execute(_NOT_DUE, len(ends), self.members, self.partitions, machine_now())
            await connection.execute("DELETE FROM tiers.class_outbox")
        finally:
            await connection.close()
        return Measured(done=self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class DueRound(Task):
    """One round of what falls due up to an instant (ISO 8601), as the service does it: when is something due, and all
    changes up to then. `members`: so many are to change."""

    dsn: str
    programme: str
    until: str
    members: int

    async def run(self) -> Measured:
        """Measures the time of the round."""
        until = datetime.fromisoformat(self.until)
        async with _tiers(self.dsn, self.programme) as tiers:
            before = _changes(tiers)
            began = time.perf_counter()
            due = await tiers.next_due()
            await tiers.run_due(until)
            took = time.perf_counter() - began
            if due is None or due > until or _changes(tiers) - before != self.members:
                raise LoadError(f"{_changes(tiers) - before} members changed, not {self.members}")
        return Measured(done=self.members, seconds=took)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakingIn(Task):
    """One purchase of a member after the other, each taken in by a transaction of its own, and its standing each time.

    What is measured are the purchases, or, with `standings`, those."""

    dsn: str
    programme: str
    member: str
    count: int
    standings: bool = False

    async def run(self) -> Measured:
        """Measures the time of each."""
        took: list[float] = []
        async with _tiers(self.dsn, self.programme) as tiers, tiers.writing() as connection:
            partition = await connection.fetchval(_PARTITION_OF, self.member)
            for _ in range(self.count):
                offset = tiers.positions.cursors[partition].ledger_offset + 1
                entry = _entry(partition, offset, self.member, FactKind.PURCHASE, machine_now(), 3_900)
                began = time.perf_counter()
                await tiers.take_in([entry], over=connection)
                taken_in = time.perf_counter()
                await tiers.standing(self.member, None)
                took.append(time.perf_counter() - taken_in if self.standings else taken_in - began)
        return measured(took, sum(took))


def _asked(seed: int, members: int, member: str, *, once: bool) -> Iterator[bytes]:
    """Requests for standings, for ever, or with `once` one for each member."""
    chance = Random(seed)
    numbers = iter(range(members)) if once else iter(lambda: chance.randrange(max(members, 1)), -1)
    for number in numbers:
        yield pb.GetStandingRequest(member_id=member or member_id(number)).SerializeToString()


@contextlib.asynccontextmanager
async def _tiers(dsn: str, path: str) -> AsyncIterator[Tiers]:
    """The service without its ledger."""
    pool = await create_pool(dsn, service="bench", size=4)
    try:
        tiers = Tiers(pool=pool, versions=programme.Versions.only(programme.load(Path(path))))
        await tiers.recover()
        yield tiers
    finally:
        await pool.close()


def _changes(tiers: Tiers) -> int:
    return sum(cursor.change_offset for cursor in tiers.positions.cursors.values())


def _shares(chance: Random, count: int) -> Iterable[float]:
    return (chance.random() for _ in range(count))


def made_entries(
    chance: Random, times: Iterable[list[datetime]], partitions: int, *, cents: int | None = None
) -> Iterator[LedgerEntry]:
    """Of each member, by number: it joins at the first of its times, and buys at the others, for `cents` or any sum."""
    heads = dict.fromkeys(range(partitions), 0)
    for number, (joined, *bought) in enumerate(times):
        partition = number % partitions
        for place, instant in enumerate([joined, *bought]):
            heads[partition] += 1
            kind, amount = (FactKind.PURCHASE, cents or chance.randint(300, 7_500)) if place else (FactKind.JOINED, 0)
            yield _entry(partition, heads[partition], member_id(number), kind, instant, amount)


def _entry(partition: int, offset: int, member: str, kind: FactKind, at: datetime, cents: int) -> LedgerEntry:
    return LedgerEntry(
        partition=partition,
        offset=offset,
        kind=EntryKind.FACT,
        member_id=member,
        occurred_time=at,
        recorded_time=at,
        fact_kind=kind,
        currency=CURRENCY,
        amount=cents,
        goods_paid=cents,
        purchase_id=f"purchase-{partition}-{offset}" if kind is FactKind.PURCHASE else "",
        rules=(("base", cents // 100),),
    )


async def _take_in(tiers: Tiers, entries: Iterator[LedgerEntry]) -> None:
    async with tiers.writing() as connection:
        while some := list(islice(entries, _AT_ONCE)):
            await tiers.take_in(some, over=connection)


async def _copy(connection: Connection, table: str, histories: int, times: int) -> None:
    """Every row of a table for other members, until there are so many times the members."""
    columns = [
        row["column_name"]
        for row in await connection.fetch(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = 'tiers' AND table_name = $1 ORDER BY ordinal_position",
            table,
        )
    ]
    other = "'member-' || lpad((right(t.member_id, 7)::bigint + n * $1::bigint)::text, 7, '0')"
    await connection.execute(
        f"INSERT INTO tiers.{table} ({', '.join(columns)}) "
        f"SELECT {', '.join(other if name == 'member_id' else f't.{name}' for name in columns)} "
        f"FROM generate_series(1, $2::bigint - 1) AS n CROSS JOIN tiers.{table} AS t",
        histories,
        times,
    )


# $1 up to, not including, $2 of members who bought once in the last 300 days, in $3 partitions, as of $4: what they
# bought leaves the window later.
_NOT_DUE = """
INSERT INTO tiers.standings (partition, member_id, joined_time, as_of, balance, tier_number, benefits_number,
    since_time, next_due, sequence, version)
SELECT n % $3::bigint, 'member-' || lpad(n::text, 7, '0'), bought - interval '1 day', bought, 5000, 1, 1,
    bought - interval '1 day', bought + interval '365 days', 0, 0
FROM generate_series($1::bigint, $2::bigint - 1) AS n
CROSS JOIN LATERAL (SELECT $4::timestamptz - random() * interval '300 days' + 0 * n * interval '1 day' AS bought) AS b
"""


if __name__ == "__main__":
    main(CatchUp, Standings, Visible, Redraw, Histories, DueMembers, DueRound, TakingIn)
