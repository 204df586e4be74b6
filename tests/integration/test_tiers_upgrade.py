"""A database as the release before left it: tiers go on with it, and read again what that release did not keep."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from loyalty.ledger.v1 import entry_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb
from loyalty.tiers.v1 import tier_service_pb2 as pb

from services import programme as programmes
from services.cli.postgres import Cluster
from services.runtime.clock import ClockMode, machine_now
from services.runtime.migrations import migrate, read_migrations
from services.tiers.ledger_client import LedgerClient
from tests.conftest import PROGRAMMES, ROOT, Database, StartLedger
from tests.tiers_desk import SECONDS, CheckTiers, StartTiers, Till, at, refused, stamp

MIGRATIONS = ROOT / "services" / "tiers" / "sql" / "migrations"
RULES = programmes.load(PROGRAMMES / "tiered-365.yaml")
# The last migration of the release before.
BEFORE = 4
PARTITIONS = 4
DAY = at("2024-02-01T00:00")
BOUGHT = at("2024-02-01T10:00")
HOUR = timedelta(hours=1)
# A year on: what was bought at BOUGHT has left.
DUE = at("2025-01-31T10:00")
NOW = at("2025-02-10T00:00")

_MONEY = {
    entry_pb2.ENTRY_KIND_PURCHASE_RECORDED: 1,
    entry_pb2.ENTRY_KIND_RETURN_RECORDED: -1,
    entry_pb2.ENTRY_KIND_PURCHASE_VOIDED: -1,
}


@pytest.fixture
def database(cluster: Cluster, tmp_path: Path) -> Iterator[Database]:
    """A database that the release before migrated: the ledger's tables are those of today, those of tiers are not."""
    made = Database(cluster=cluster, name=f"before_{tmp_path.name.replace('-', '_')[-30:]}")
    cluster.create_database(made.name)
    folder = tmp_path / "migrations"
    folder.mkdir()
    for migration in read_migrations(MIGRATIONS)[:BEFORE]:
        name = f"{migration.version:04}_{migration.name}.sql"
        (folder / name).write_text((MIGRATIONS / name).read_text())
    ledger = ROOT / "services" / "ledger" / "sql" / "migrations"
    asyncio.run(migrate(made.dsn("loyalty_owner"), "ledger", ledger))
    asyncio.run(migrate(made.dsn("loyalty_owner"), "tiers", folder))
    yield made
    cluster.drop_database(made.name)


@dataclass
class Standing:
    """A member as the release before kept it."""

    joined: datetime
    as_of: datetime
    since: datetime
    balance: int = 0
    tier: int = 1
    sequence: int = 0
    ends: list[tuple[datetime, int]] = field(default_factory=list)

    @property
    def next_roll_off(self) -> datetime | None:
        return min((end for end, _ in self.ends), default=None)


@dataclass
class ReleaseBefore:
    """Takes in one partition as the release before did, by the rolling year alone, and remembers its rows."""

    partition: int
    clock: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    offset: int = 0
    standings: dict[str, Standing] = field(default_factory=dict)
    movements: list[tuple[Any, ...]] = field(default_factory=list)
    changes: list[tuple[Any, ...]] = field(default_factory=list)

    def take_in(self, entry: entry_pb2.Entry) -> None:
        member_id, time = entry.member_id, entry.occurred_time.ToDatetime(UTC)
        if entry.kind == entry_pb2.ENTRY_KIND_CLOCK_ADVANCED:
            self.clock = max(self.clock, time)
        elif entry.kind == entry_pb2.ENTRY_KIND_MEMBER_JOINED:
            self.standings[member_id] = Standing(joined=time, as_of=time, since=time)
        elif entry.kind in _MONEY:
            one = self.standings[member_id]
            until = max(one.as_of, time, self.clock)
            self.pass_time(member_id, until)
            one.as_of = until
            amount = _MONEY[entry.kind] * entry.amount.minor_units
            end = RULES.tiers.window.end(time, RULES.zone, one.joined)
            if one.joined < time and until < end:
                one.balance += amount
                one.ends.append((end, amount))
                self._settle(member_id, until, entry.offset)
            self.movements.append((self.partition, member_id, entry.offset, amount, time, end, until))
        self.offset = entry.offset

    def pass_time(self, member_id: str, until: datetime) -> None:
        one = self.standings[member_id]
        while (due := one.next_roll_off) is not None and due <= until:
            one.balance -= sum(amount for end, amount in one.ends if end == due)
            one.ends = [left for left in one.ends if left[0] != due]
            one.as_of = due
            self._settle(member_id, due, None)

    def _settle(self, member_id: str, time: datetime, cause: int | None) -> None:
        one = self.standings[member_id]
        tier = RULES.tiers.level_for(one.balance).number
        if tier == one.tier:
            return
        one.sequence += 1
        processed = self.offset if cause is None else cause
        before = (self.partition, len(self.changes) + 1, member_id, one.sequence, one.tier, tier, one.balance)
        self.changes.append((*before, time, cause, processed, RULES.version))
        one.tier, one.since = tier, time

    async def write(self, connection: asyncpg.Connection, mode: ClockMode = ClockMode.SIMULATED) -> None:
        """Writes the rows, when all that is due by the clock has been done."""
        for member_id in sorted(self.standings):
            self.pass_time(member_id, self.clock)
        due = self.clock if mode is ClockMode.SIMULATED else None
        cursor = (self.partition, self.offset, self.clock, due, len(self.changes), mode.value)
        standings = [
            (self.partition, name, s.joined, s.as_of, s.balance, s.tier, s.since, s.next_roll_off, s.sequence)
            for name, s in self.standings.items()
        ]
        for table, rows in (
            ("cursors", [cursor]),
            ("standings", standings),
            ("movements", self.movements),
            ("tier_changes", self.changes),
            ("class_outbox", self.notices()),
        ):
            await connection.copy_records_to_table(table, schema_name="tiers", records=rows)

    def notices(self) -> list[tuple[Any, ...]]:
        """The earning classes that follow, none of them told yet."""
        return [
            (
                self.partition,
                offset,
                member_id,
                sequence,
                RULES.tiers.level(tier).key,
                RULES.start_of_next_local_day(time),
                f"~tiers/class/{member_id}/{sequence}",
            )
            for _, offset, member_id, sequence, _, tier, _, time, *_ in self.changes
        ]


async def entries_of(till: Till) -> AsyncIterator[entry_pb2.Entry]:
    async for response in till.stub.StreamEntries(ledger_pb.StreamEntriesRequest(), timeout=SECONDS):
        for entry in response.entries:
            yield entry


MEMBERS = [f"m-{number}" for number in range(8)]


@pytest_asyncio.fixture
async def till(start_ledger: StartLedger, database: Database) -> Till:
    """A ledger with a year of history that the release before has taken in."""
    return await lived(start_ledger, database, late=False)


async def lived(start_ledger: StartLedger, database: Database, *, late: bool) -> Till:
    """`late`: with things that were heard of late."""
    till = Till(await start_ledger(partitions=PARTITIONS))
    await till.advance(DAY)
    for member in MEMBERS:
        await till.enroll(member, DAY)
    await till.buy("m-0", 5_000, DAY - HOUR, "before")
    await till.buy("m-0", 30_000, BOUGHT, "p")
    await till.buy("m-1", 30_000, BOUGHT, "p")
    await till.give_back("m-1", 1_000, BOUGHT + HOUR, "p")
    await till.buy("m-2", 200_000, BOUGHT, "p")
    await till.advance(at("2024-09-01T00:00"))
    for number, amount in ((3, 30_000), (4, 100_000), (5, 29_000)):
        await till.buy(f"m-{number}", amount, at("2024-09-01T10:00"), "q")
    await till.buy("m-6", 30_000, at("2024-09-01T10:00"), "q")
    if late:
        await till.buy("m-7", 35_000, at("2024-03-01T10:00"), "late")
    await till.advance(NOW)
    if late:
        # It makes up for what has left the window; and one that changes nothing.
        await till.buy("m-0", 40_000, DUE - timedelta(days=10), "late")
        await till.buy("m-1", 1_000, DUE - timedelta(days=10), "late")
        await till.buy("m-3", 40_000, at("2024-08-20T10:00"), "late")
    await taken_in_before(till, database)
    return till


async def taken_in_before(till: Till, database: Database, mode: ClockMode = ClockMode.SIMULATED) -> None:
    """Writes what the release before had made of all that the ledger has."""
    olds = {partition: ReleaseBefore(partition) for partition in range(PARTITIONS)}
    async for entry in entries_of(till):
        olds[entry.partition].take_in(entry)
    connection = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        for old in olds.values():
            await old.write(connection, mode)
    finally:
        await connection.close()


async def upgrade(database: Database) -> None:
    await migrate(database.dsn("loyalty_owner"), "tiers", MIGRATIONS)


async def ask(database: Database, query: str) -> list[Any]:
    connection = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def complete(database: Database) -> None:
    """Waits until all facts have been read again."""
    for _ in range(200):
        if await ask(database, "SELECT 1 FROM tiers.cursors WHERE facts_missing > 0") == []:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("facts are still missing")


BALANCES = {"m-0": 0, "m-1": 0, "m-2": 0, "m-3": 30_000, "m-4": 100_000, "m-5": 29_000, "m-6": 30_000, "m-7": 0}
TIERS = {name: RULES.tiers.level_for(balance).name for name, balance in BALANCES.items()}


async def test_standings_are_told_as_before_and_the_facts_are_read_again(
    till: Till, database: Database, start_tiers: StartTiers, check_tiers: CheckTiers
) -> None:
    told = await ask(database, "SELECT member_id, tier_number, balance FROM tiers.standings ORDER BY member_id")
    await upgrade(database)
    assert await ask(database, "SELECT count(*) FROM tiers.cursors WHERE facts_missing = ledger_offset") == [
        (PARTITIONS,)
    ]
    desk = await start_tiers()
    standings = [await desk.standing(member) for member in MEMBERS]
    assert [(s.member_id, s.tier_number, s.balance.minor_units) for s in standings] == told
    assert {s.member_id: s.tier for s in standings} == TIERS
    assert [s.benefits_tier_number for s in standings] == [s.tier_number for s in standings]
    await complete(database)
    entries = [entry async for entry in entries_of(till)]
    facts = [e for e in entries if e.kind in _MONEY or e.kind == entry_pb2.ENTRY_KIND_MEMBER_JOINED]
    assert await ask(database, "SELECT count(*) FROM tiers.facts") == [(len(facts),)]
    # A return knows its purchase, and each knows when it became known.
    rows = await ask(database, "SELECT purchase_time, recorded_time FROM tiers.facts WHERE kind = 3")
    (back,) = [e for e in entries if e.kind == entry_pb2.ENTRY_KIND_RETURN_RECORDED]
    assert rows == [(BOUGHT, back.recorded_time.ToDatetime(UTC))]
    # What is due is due still, and what never counted is gone.
    assert await ask(database, "SELECT count(*) FROM tiers.standings WHERE next_roll_off IS NOT NULL") == [(0,)]
    assert await ask(database, "SELECT count(*) FROM tiers.standings WHERE next_due IS NOT NULL") == [(4,)]
    assert await ask(database, "SELECT count(*) FROM tiers.movements WHERE occurred_time <= '2024-02-01T00:00Z'") == [
        (0,)
    ]
    assert (await check_tiers()).differences == ()


async def test_the_past_is_explained_from_the_facts_that_were_read_again(
    till: Till, database: Database, start_tiers: StartTiers
) -> None:
    await upgrade(database)
    desk = await start_tiers()
    await complete(database)
    assert (await desk.standing("m-2", time=BOUGHT)).tier == "Golden"
    assert await desk.count(time=DUE - HOUR) == {"White": 3, "Green": 3, "Silver": 1, "Golden": 1}
    _, lines = await desk.explained("m-0", size=1)
    assert [(line.purchase_id, pb.NotCountedReason.Name(line.not_counted_reason)) for line in lines] == [
        ("before", "NOT_COUNTED_REASON_BEFORE_JOINING"),
        ("p", "NOT_COUNTED_REASON_OUTSIDE_WINDOW"),
    ]
    changes = await desk.changes()
    reasons = {(c.member_id, c.sequence): c.reason for c in changes}
    assert reasons["m-2", 1] == pb.CHANGE_REASON_MOVEMENT
    assert reasons["m-2", 2] == pb.CHANGE_REASON_WINDOW
    assert all(c.to_benefits_tier_number == c.to_tier_number and c.balance.currency_code == "PLN" for c in changes)


async def test_what_the_release_before_left_due_comes_at_its_instant_and_late_events_are_taken_in(
    till: Till, database: Database, start_tiers: StartTiers, check_tiers: CheckTiers
) -> None:
    await upgrade(database)
    desk = await start_tiers()
    await complete(database)
    # Late: it makes up for what left the window.
    standing = await desk.standing("m-0", await till.buy("m-0", 40_000, DUE - timedelta(days=10)))
    assert (standing.tier, standing.balance.minor_units) == ("Green", 40_000)
    assert (await desk.standing("m-0", time=NOW - timedelta(days=1))).tier == "Green"
    change = [change for change in await desk.changes() if change.member_id == "m-0"][-1]
    assert (change.reason, change.corrects_sequence, change.sequence) == (pb.CHANGE_REASON_CORRECTED, 2, 3)
    falls = at("2025-09-01T10:00")
    token = await till.advance(falls)
    assert await desk.count(token) == {"White": 7, "Green": 1, "Silver": 0, "Golden": 0}
    fallen = {c.member_id for c in await desk.changes() if c.changed_time.ToDatetime(UTC) == falls}
    assert fallen == {"m-3", "m-4", "m-6"}
    await desk.override("m-7", 4)
    await desk.count(await till.advance(falls + timedelta(days=1)))
    assert (await check_tiers()).differences == ()


async def test_a_year_of_another_policy_can_follow(
    till: Till, database: Database, start_tiers: StartTiers, check_tiers: CheckTiers
) -> None:
    await upgrade(database)
    desk = await start_tiers()
    await complete(database)
    switch = NOW + timedelta(days=40)
    text = (PROGRAMMES / "tiered-365.yaml").read_text().replace("window: P365D", "window: P2Y")
    await till.apply(text, switch)
    token = await till.advance(switch)
    # What had left the year counts in two.
    assert await desk.count(token) == {"White": 3, "Green": 3, "Silver": 1, "Golden": 1}
    assert (await check_tiers()).differences == ()


async def test_until_the_facts_are_there_what_needs_them_is_not_guessed(
    till: Till, database: Database, start_tiers: StartTiers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await upgrade(database)
    held = asyncio.Event()
    read = LedgerClient.entries

    async def slowly(ledger: LedgerClient, after: Any, *, follow: bool) -> AsyncIterator[Any]:
        await held.wait()
        async for entries in read(ledger, after, follow=follow):
            yield entries

    monkeypatch.setattr(LedgerClient, "entries", slowly)
    desk = await start_tiers()
    unavailable = (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    assert {member: (await desk.standing(member)).tier for member in MEMBERS} == TIERS
    assert await refused(desk.standing("m-2", time=BOUGHT)) == unavailable
    assert await refused(desk.explained("m-2")) == unavailable
    # What movements alone say is known.
    counted = await desk.stub.CountStandings(pb.CountStandingsRequest(at_time=stamp(BOUGHT)), timeout=SECONDS)
    assert [one.members for one in counted.counts] == [5, 2, 0, 1]
    held.set()
    # What is taken in comes after them.
    assert (await desk.standing("m-2", await till.advance(NOW + HOUR), BOUGHT)).tier == "Golden"


async def test_reading_again_goes_on_where_it_was_broken_off(
    till: Till, database: Database, start_tiers: StartTiers, check_tiers: CheckTiers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await upgrade(database)
    read, stuck = LedgerClient.entries, asyncio.Event()

    async def some(ledger: LedgerClient, after: Any, *, follow: bool) -> AsyncIterator[Any]:
        taken = 0
        async for entries in read(ledger, after, follow=follow):
            for entry in entries:
                if taken == 15:
                    stuck.set()
                    await asyncio.Event().wait()
                taken += 1
                yield [entry]

    async with contextlib.AsyncExitStack() as own:
        with monkeypatch.context() as breaking:
            breaking.setattr(LedgerClient, "entries", some)
            await start_tiers(own=own)
            await asyncio.wait_for(stuck.wait(), SECONDS)
    (found,) = await ask(database, "SELECT count(*) FROM tiers.facts")
    assert 0 < found[0] < 15
    (progress,) = await ask(database, "SELECT sum(facts_read), max(facts_missing) > 0 FROM tiers.cursors")
    assert progress[0] > 0
    assert progress[1]
    desk = await start_tiers()
    await complete(database)
    assert (await desk.standing("m-2", await till.advance(NOW + HOUR), BOUGHT)).tier == "Golden"
    assert (await check_tiers()).differences == ()


async def test_what_the_release_before_heard_of_late_stays_as_it_told_it(
    start_ledger: StartLedger, database: Database, start_tiers: StartTiers, check_tiers: CheckTiers
) -> None:
    till = await lived(start_ledger, database, late=True)
    await upgrade(database)
    desk = await start_tiers()
    await complete(database)
    token = await till.advance(NOW + HOUR)
    assert [(await desk.standing(member, token)).tier for member in ("m-0", "m-7")] == ["Green", "Green"]
    changes = [c for c in await desk.changes() if c.member_id in ("m-0", "m-7")]
    assert sorted((c.member_id, c.to_tier, c.changed_time.ToDatetime(UTC)) for c in changes) == [
        ("m-0", "Green", BOUGHT),
        ("m-0", "Green", NOW),
        ("m-0", "White", DUE),
        ("m-7", "Green", at("2024-09-01T00:00")),
    ]
    assert (await check_tiers()).differences == ()


async def test_an_installation_in_real_time_goes_on_from_the_release_before(
    start_ledger: StartLedger, database: Database, start_tiers: StartTiers, check_tiers: CheckTiers
) -> None:
    till = Till(await start_ledger(partitions=PARTITIONS, clock=ClockMode.REAL))
    now = machine_now()
    for member in ("m-1", "m-2"):
        await till.enroll(member, now - timedelta(days=2))
    await till.buy("m-1", 30_000, now - HOUR)
    await till.buy("m-2", 30_000, now - HOUR)
    # Late.
    await till.buy("m-2", 70_000, now - 2 * HOUR)
    await taken_in_before(till, database, ClockMode.REAL)
    await upgrade(database)
    desk = await start_tiers()
    await complete(database)
    token = await till.buy("m-1", 70_000, now)
    assert [(await desk.standing(member, token)).tier for member in ("m-1", "m-2")] == ["Silver", "Silver"]
    await desk.count(token)
    assert (await check_tiers()).differences == ()
