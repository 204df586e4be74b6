"""Tiers over a real PostgreSQL, fed by hand: however the feed is cut and whoever dies, it comes to the same."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast

import asyncpg
import pytest
import pytest_asyncio
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb
from loyalty.tiers.v1 import tier_service_pb2 as pb
from loyalty.type.v1.money_pb2 import Money

from services import programme as programmes
from services.cli.postgres import Cluster
from services.programme import Programme, TierPolicy, TierWindow, Versions, Window
from services.runtime.clock import ClockMode, machine_now
from services.runtime.database import CONNECTION_ERRORS, Connection, create_pool
from services.tiers import store
from services.tiers.domain.facts import FactKind, MemberKey
from services.tiers.domain.feed import EntryKind, LedgerEntry
from services.tiers.domain.track import Change
from services.tiers.errors import FeedBrokenError
from services.tiers.follower import Answer, Follower
from services.tiers.service import MOST_PASSED, Tiers
from services.tiers.store import ClassNotice, Snapshot
from tests.conftest import PROGRAMMES, Database, StartLedger
from tests.ledger_logs import START, Kind, days_of, entry_of
from tests.tiers_desk import SECONDS, CheckTiers, Desk, StartTiers, Till, stamp

TIERED_365 = programmes.load(PROGRAMMES / "tiered-365.yaml")
LEVELS = tuple(
    replace(level, threshold=threshold)
    for level, threshold in zip(TIERED_365.tiers.levels, (None, 10, 20, 40), strict=True)
)


def programme_of(window: Window) -> Programme:
    return replace(
        TIERED_365, tiers=TierPolicy(base=TIERED_365.tiers.base, window=TierWindow.rolling(window), levels=LEVELS)
    )


@pytest.fixture
def databases(cluster: Cluster, database: Database) -> Iterator[tuple[Database, Database]]:
    """Two of the same kind."""
    other = Database(cluster=cluster, name=f"{database.name}_other")
    cluster.create_database(other.name, template="migrated")
    yield database, other
    cluster.drop_database(other.name)


@asynccontextmanager
async def pool_of(database: Database) -> AsyncIterator[asyncpg.Pool]:
    made = await create_pool(database.dsn("loyalty_tiers"), service="tiers")
    try:
        yield made
    finally:
        await made.close()


@pytest_asyncio.fixture
async def pool(database: Database) -> AsyncIterator[asyncpg.Pool]:
    async with pool_of(database) as made:
        yield made


async def started(pool: asyncpg.Pool, programme: Programme) -> Tiers:
    tiers = Tiers(pool=pool, versions=Versions.only(programme))
    await tiers.prepare(partitions=(0, 1), clock_mode=ClockMode.SIMULATED)
    return tiers


async def snapshot_of(pool: asyncpg.Pool) -> Snapshot:
    async with pool.acquire() as connection:
        return await store.read_snapshot(connection)


@dataclass
class Life:
    """What tiers made of a log: their tables, and what they told the ledger of each member, in order."""

    snapshot: Snapshot
    told: dict[MemberKey, list[tuple[Any, ...]]]

    def contents(self) -> tuple[Any, ...]:
        """All that must not depend on how it was lived through."""
        changes: dict[MemberKey, list[Change]] = {}
        for stored in self.snapshot.changes:
            key = (stored.partition, stored.tier_change.member_id)
            changes.setdefault(key, []).append(stored.tier_change.change)
        movements = {key: sorted(found) for key, found in self.snapshot.movements.items()}
        facts = sorted(self.snapshot.facts, key=lambda taken: (taken.partition, taken.member_id, taken.fact.place))
        waiting = sorted(without_place(notice) for notice in self.snapshot.notices)
        return dict(self.snapshot.states), movements, facts, changes, self.told, waiting


def without_place(notice: ClassNotice) -> tuple[Any, ...]:
    return notice.partition, notice.member_id, notice.sequence, notice.earning_class, notice.effective_time


async def live(
    pool: asyncpg.Pool, programme: Programme, logs: dict[int, list[LedgerEntry]], chance: Random, deaths: float
) -> Life:
    tiers = await started(pool, programme)
    told: dict[MemberKey, list[tuple[Any, ...]]] = {}
    heads = {partition: len(log) for partition, log in logs.items()}

    async def tell() -> bool:
        notices = await tiers.waiting_notices(chance.randint(1, 3))
        for notice in notices:
            heard = told.setdefault((notice.partition, notice.member_id), [])
            # As the ledger: the same again, or an older one, says nothing.
            if not heard or heard[-1][2] < notice.sequence:
                heard.append(without_place(notice))
        if chance.random() >= deaths:
            await tiers.forget_notices(notices)
        return bool(notices)

    while any(tiers.positions.cursors[partition].ledger_offset < head for partition, head in heads.items()):
        response: list[LedgerEntry] = []
        for partition in chance.choice([[0], [1], [0, 1]]):
            after = tiers.positions.cursors[partition].ledger_offset
            response += logs[partition][after : after + chance.randint(1, 12)]
        if response:
            await tiers.take_in(response)
            await tiers.run_passed()
        if chance.random() < 0.4:
            await tell()
        if chance.random() < deaths:
            # All that is not in the database is forgotten.
            tiers = await started(pool, programme)
    while await tell():
        pass
    return Life(snapshot=await snapshot_of(pool), told=told)


@pytest.mark.parametrize("seed", range(12))
async def test_who_dies_again_and_again_comes_to_the_same_as_who_lives_on(
    databases: tuple[Database, Database], seed: int
) -> None:
    chance = Random(seed)
    logs = days_of(chance)
    programme = programme_of(chance.choice([Window(days=1), Window(days=2), Window(days=5), Window(years=1)]))
    async with pool_of(databases[0]) as one, pool_of(databases[1]) as other:
        quiet = await live(one, programme, logs, chance, deaths=0.0)
        restless = await live(other, programme, logs, chance, deaths=0.4)
    assert quiet.contents() == restless.contents()
    span = programme.tiers.window.span
    assert span is not None
    assert quiet.told or not quiet.snapshot.changes or span.years


def entry(partition: int, offset: int, kind: Kind, time: datetime, amount: int = 0, member: str = "m1") -> LedgerEntry:
    member_id = "" if kind is EntryKind.CLOCK else member
    return entry_of(kind, member_id, time, amount, partition=partition, offset=offset)


async def test_entries_that_change_nothing_are_passed_at_once_and_written_down_with_one_that_does(
    pool: asyncpg.Pool,
) -> None:
    tiers = await started(pool, programme_of(Window(days=2)))

    async def offsets() -> list[int]:
        cursors = (await snapshot_of(pool)).cursors
        return [cursors[0].ledger_offset, cursors[1].ledger_offset]

    async def happen(*entries: LedgerEntry) -> None:
        await tiers.take_in(entries)
        await tiers.run_passed()

    bought, day, later = START + timedelta(hours=1), START + timedelta(days=1), START + timedelta(hours=40)
    due = bought + timedelta(days=2)
    await happen(entry(0, 1, FactKind.JOINED, START), entry(0, 2, FactKind.PURCHASE, bought, 10))
    await happen(entry(0, 3, EntryKind.CLOCK, day), entry(1, 1, EntryKind.CLOCK, day))
    assert await offsets() == [3, 1]
    # From the first time on it is known when something is due.
    await happen(entry(0, 4, EntryKind.CLASS_SET, day))
    await happen(entry(0, 5, EntryKind.CLOCK, later))
    assert tiers.positions.business_time == day
    await happen(entry(1, 2, EntryKind.CLOCK, later))
    assert (tiers.positions.business_time, tiers.positions.due_time) == (later, later)
    await tiers.wait_for({0: 5, 1: 2}, seconds=0)
    assert await offsets() == [3, 1]
    # At the instant at which the purchase leaves the window it is written down.
    await happen(entry(0, 6, EntryKind.CLOCK, due))
    assert await offsets() == [3, 1]
    await happen(entry(1, 3, EntryKind.CLOCK, due))
    snapshot = await snapshot_of(pool)
    assert await offsets() == [6, 3]
    assert [stored.tier_change.change.to_tier_number for stored in snapshot.changes] == [2, 1]
    assert {cursor.due_time for cursor in snapshot.cursors.values()} == {due}
    # What a later purchase will make due is known, too.
    again = due + timedelta(hours=1)
    await happen(entry(0, 7, FactKind.PURCHASE, again, 10))
    for number, time in enumerate((again, again + timedelta(days=3)), start=4):
        await happen(entry(0, 4 + number, EntryKind.CLOCK, time), entry(1, number, EntryKind.CLOCK, time))
    assert await offsets() == [9, 5]
    assert [stored.tier_change.change.to_tier_number for stored in (await snapshot_of(pool)).changes] == [2, 1] * 2
    # And when they have become many.
    await happen(*(entry(1, 6 + number, EntryKind.CLASS_SET, day) for number in range(MOST_PASSED)))
    assert await offsets() == [9, 5]
    await happen(entry(1, 6 + MOST_PASSED, EntryKind.CLASS_SET, day))
    assert await offsets() == [9, 6 + MOST_PASSED]
    with pytest.raises(FeedBrokenError):
        await happen(entry(1, 8 + MOST_PASSED, EntryKind.CLASS_SET, day))


async def test_what_another_process_wrote_is_not_counted_twice_nor_overwritten(pool: asyncpg.Pool) -> None:
    programme = programme_of(Window(days=5))
    one, other = await started(pool, programme), await started(pool, programme)
    log = [
        entry(0, 1, FactKind.JOINED, START),
        entry(0, 2, FactKind.PURCHASE, START + timedelta(hours=1), 7),
        entry(0, 3, EntryKind.CLASS_SET, START),
        entry(0, 4, FactKind.PURCHASE, START + timedelta(hours=2), 7),
        entry(0, 5, FactKind.PURCHASE, START + timedelta(hours=3), 7),
        entry(0, 6, FactKind.PURCHASE, START + timedelta(hours=4), 7),
    ]
    await one.take_in(log[:2])
    await other.take_in(log[:3])
    await one.take_in(log[2:3])
    await other.take_in(log[3:5])
    await one.take_in(log[3:4])
    await one.take_in(log[4:])
    snapshot = await snapshot_of(pool)
    assert (snapshot.states[0, "m1"].balance, len(snapshot.movements[0, "m1"]), len(snapshot.facts)) == (28, 4, 5)
    assert [stored.tier_change.change.to_tier_number for stored in snapshot.changes] == [2, 3]


class AnswerLost:
    """A connection that breaks while it commits; the transaction is there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self._connection.transaction():
            yield
        raise asyncpg.ConnectionDoesNotExistError


async def test_what_was_committed_though_the_answer_was_lost_falls_due_in_time(pool: asyncpg.Pool) -> None:
    tiers = await started(pool, programme_of(Window(days=1)))
    await tiers.take_in([entry(0, 1, FactKind.JOINED, START)])
    # Nothing is due, and that is known.
    await tiers.take_in([entry(p, 2 - p, EntryKind.CLOCK, START + timedelta(hours=1)) for p in (0, 1)])
    bought = START + timedelta(hours=2)
    async with tiers.writing() as connection:
        with pytest.raises(asyncpg.ConnectionDoesNotExistError):
            await tiers.take_in([entry(0, 3, FactKind.PURCHASE, bought, 15)], over=cast(Any, AnswerLost(connection)))
    await tiers.recover()
    assert tiers.positions.cursors[0].ledger_offset == 3
    await tiers.take_in([entry(p, 4 - 2 * p, EntryKind.CLOCK, START + timedelta(days=2)) for p in (0, 1)])
    changes = (await snapshot_of(pool)).changes
    assert [stored.tier_change.change.to_tier_number for stored in changes] == [2, 1]


@dataclass
class FlakyLedger:
    """Leaves some of the earning classes unanswered; keeps what it heard as the ledger does."""

    chance: Random
    heard: dict[str, list[int]] = field(default_factory=dict)

    async def set_classes(self, notices: Sequence[ClassNotice]) -> list[Answer]:
        answers = []
        for notice in notices:
            answers.append(Answer(final=self.chance.random() < 0.6))
            sequences = self.heard.setdefault(notice.member_id, [])
            if answers[-1].final and notice.sequence > max(sequences, default=0):
                sequences.append(notice.sequence)
        return answers


async def test_each_class_of_a_member_is_told_in_its_turn_though_the_ledger_leaves_some_unanswered(
    pool: asyncpg.Pool,
) -> None:
    tiers = await started(pool, programme_of(Window(years=1)))
    members = ("m1", "m2", "m3")
    entries = [entry(0, 1 + number, FactKind.JOINED, START, member=name) for number, name in enumerate(members)]
    for hour in range(1, 5):
        for name in members:
            offset = len(entries) + 1
            time = START + timedelta(hours=hour)
            entries.append(entry(0, offset, FactKind.PURCHASE, time, 10, member=name))
    await tiers.take_in(entries)
    day = START + timedelta(days=1)
    ledger = FlakyLedger(Random(1))
    sender = asyncio.create_task(Follower(tiers=tiers, ledger=cast(Any, ledger)).send_notices())
    await tiers.take_in([entry(0, len(entries) + 1, EntryKind.CLOCK, day), entry(1, 1, EntryKind.CLOCK, day)])
    await tiers.wait_for({}, seconds=20, settled=True)
    sender.cancel()
    await asyncio.gather(sender, return_exceptions=True)
    assert ledger.heard == {name: [1, 2, 3] for name in members}


async def test_a_transaction_that_failed_leaves_nothing_in_memory(pool: asyncpg.Pool) -> None:
    tiers = await started(pool, programme_of(Window(days=5)))
    await tiers.take_in([entry(0, 1, FactKind.JOINED, START)])
    await tiers.take_in([entry(0, 2, EntryKind.CLASS_SET, START)])
    purchase = entry(0, 3, FactKind.PURCHASE, START + timedelta(hours=1), 15)
    async with tiers.writing() as connection:
        await end(pool, connection)
        with pytest.raises(CONNECTION_ERRORS):
            await tiers.take_in([purchase], over=connection)
    assert tiers.positions.cursors[0].ledger_offset == 2
    await tiers.take_in([purchase])
    clocks = [entry(p, offset, EntryKind.CLOCK, START + timedelta(days=9)) for p, offset in ((0, 4), (1, 1))]
    await tiers.take_in(clocks)
    snapshot = await snapshot_of(pool)
    assert [stored.tier_change.change.to_tier_number for stored in snapshot.changes] == [2, 1]


# --- real time: what is due waits for the feed ----------------------------------------------------------------------

MINUTE = timedelta(minutes=1)


async def due_after(desk: Desk, member: str, token: str) -> timedelta:
    """How far ahead of now a clock must be that has just passed the next change of a member."""
    standing = await desk.standing(member, token)
    return standing.next_change_time.ToDatetime(UTC) - machine_now() + MINUTE


async def heard(desk: Desk, number: int) -> list[pb.TierChange]:
    """The first so many changes, as soon as they come."""
    call: Any = desk.stub.StreamTierChanges(pb.StreamTierChangesRequest(follow=True), timeout=SECONDS)
    changes: list[pb.TierChange] = []
    while len(changes) < number:
        changes.extend((await call.read()).changes)
    call.cancel()
    return changes


@pytest.mark.parametrize("exchange", [False, True])
async def test_no_fall_is_told_that_a_purchase_of_the_downtime_kept_from_happening(
    start_ledger: StartLedger, start_tiers: StartTiers, check_tiers: CheckTiers, exchange: bool
) -> None:
    till = Till(await start_ledger(partitions=2, clock=ClockMode.REAL))
    bought = (machine_now() - timedelta(days=1)).replace(hour=12)
    async with contextlib.AsyncExitStack() as own:
        desk = await start_tiers(own=own)
        for member in ("m-1", "m-2"):
            await till.enroll(member, bought - timedelta(days=1))
        await till.buy("m-2", 32_000, bought)
        token = await till.buy("m-1", 32_000, bought, "p-1")
        if exchange:
            token = await till.give_back("m-1", 32_000, machine_now(), "p-1", exchange_id="x")
        ahead = await due_after(desk, "m-1", token)
    # While tiers are away, one of the two buys what keeps the level: the other side of the exchange, or more.
    request = ledger_pb.RecordPurchaseRequest(
        request_id="kept",
        member_id="m-1",
        occurred_time=stamp(machine_now()),
        amount=Money(currency_code="PLN", minor_units=32_000),
        exchange_id="x" if exchange else "",
    )
    await till.stub.RecordPurchase(request, timeout=SECONDS)
    desk = await start_tiers(clock=lambda: machine_now() + ahead)
    told = await heard(desk, 2 if exchange else 3)
    if not exchange:
        # Who bought nothing falls, at its instant.
        assert (told[2].member_id, told[2].to_tier, told[2].HasField("due_time")) == ("m-2", "White", True)
    await asyncio.sleep(1)
    await desk.count()
    assert [(c.member_id, c.to_tier) for c in await desk.changes() if c.member_id == "m-1"] == [("m-1", "Green")]
    assert [name for name, _ in await till.classes("m-1")] == ["green"]
    assert (await desk.standing("m-1")).tier == "Green"
    assert (await check_tiers()).differences == ()


async def test_what_is_due_while_the_ledger_is_away_is_answered_at_once_and_told_when_it_is_back(
    start_ledger: StartLedger, start_tiers: StartTiers, check_tiers: CheckTiers
) -> None:
    bought = (machine_now() - timedelta(days=1)).replace(hour=12)
    ahead = timedelta(0)
    async with contextlib.AsyncExitStack() as own:
        till = Till(await start_ledger(partitions=2, clock=ClockMode.REAL, own=own))
        desk = await start_tiers(clock=lambda: machine_now() + ahead)
        await till.enroll("m-1", bought - timedelta(days=1))
        token = await till.buy("m-1", 32_000, bought)
        due = (await desk.standing("m-1", token)).next_change_time.ToDatetime(UTC)
        ahead_of_due = await due_after(desk, "m-1", token)
    ahead = ahead_of_due
    assert (await desk.standing("m-1")).tier == "White"
    await asyncio.sleep(2)
    assert [change.to_tier for change in await desk.changes()] == ["Green"]
    till = Till(await start_ledger(partitions=2, clock=ClockMode.REAL))
    told = await heard(desk, 2)
    assert (told[1].to_tier, told[1].due_time.ToDatetime(UTC)) == ("White", due)
    await desk.count()
    assert (await check_tiers()).differences == ()


async def test_changes_of_many_members_that_fell_due_in_downtime_come_once_and_each_at_its_instant(
    start_ledger: StartLedger, start_tiers: StartTiers, check_tiers: CheckTiers
) -> None:
    till = Till(await start_ledger(partitions=2, clock=ClockMode.REAL))
    bought = (machine_now() - timedelta(days=40)).replace(hour=12)
    members = [f"m-{number}" for number in range(8)]
    due: dict[str, datetime] = {}
    async with contextlib.AsyncExitStack() as own:
        desk = await start_tiers(own=own)
        for number, member in enumerate(members):
            await till.enroll(member, bought - timedelta(days=1))
            token = await till.buy(member, 30_000, bought + number * timedelta(days=1))
            due[member] = (await desk.standing(member, token)).next_change_time.ToDatetime(UTC)
        ahead = await due_after(desk, members[-1], token)
    # Nothing at all happens meanwhile, and no entry comes.
    began = machine_now()
    desk = await start_tiers(clock=lambda: machine_now() + ahead)
    told = (await heard(desk, 16))[8:]
    assert machine_now() - began < timedelta(seconds=5)
    fallen = [change for change in await desk.changes() if change.HasField("due_time")]
    assert {change.member_id: change.due_time.ToDatetime(UTC) for change in fallen} == due
    assert len(fallen) == len(told) == len(members)
    for partition in (0, 1):
        times = [change.due_time.ToDatetime(UTC) for change in fallen if change.partition == partition]
        assert times == sorted(times)
    await desk.count()
    assert (await check_tiers()).differences == ()


async def end(pool: asyncpg.Pool, connection: Connection) -> None:
    """Ends a connection from the server's side."""
    async with pool.acquire() as another:
        await another.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
