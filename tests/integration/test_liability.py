"""GetLiability over real gRPC and a real PostgreSQL: it adds up, equals the members' points, and stays as it was."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc
from loyalty.type.v1.money_pb2 import Money

from services.ledger import store
from services.ledger.check import check
from services.ledger.config import Config
from services.ledger.domain.keys import Keys
from services.ledger.domain.rules import Rules
from services.ledger.rpc import LedgerServicer, describe
from services.ledger.service import Ledger
from services.programme import parse
from services.runtime.audit import AuditTrail
from services.runtime.clock import ClockMode, machine_now
from services.runtime.database import create_pool, transact
from services.runtime.server import Service
from tests.conftest import Database, identifier_key, serving
from tests.integration.test_ledger import reason_of
from tests.till import all_lots

ZONE = ZoneInfo("America/New_York")
HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)
PARTITIONS = 3
# Points can be redeemed after ten days and lapse at the end of the year; a hundred are a dollar, later one and a half.
BOOKS = """
programme: books
currency: USD
time_zone: America/New_York
earning: {base: total, points: 1, per: "1.00", pending: P10D}
expiry: {policy: calendar_year, period: P0M}
liability:
  values:
    - {from: "2020-01-01", points: 100, worth: "1.00"}
    - {from: "2026-11-16", points: 100, worth: "1.50"}
  breakage_percent: "15"
tiers:
  base: total
  window: P365D
  levels:
    - name: White
"""
NO_VALUE = BOOKS.replace(BOOKS[BOOKS.index("liability:") : BOOKS.index("tiers:")], "")
INACTIVITY = BOOKS.replace("calendar_year, period: P0M", "inactivity, period: P3M")


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZONE).astimezone(UTC)


def stamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    made = Timestamp()
    made.FromDatetime(time)
    return made


@dataclass
class Shop:
    """A ledger whose machine clock the test moves. Nothing sweeps or folds but what the test asks for."""

    ledger: Ledger
    rpc: Any
    now: datetime
    simulated: bool
    members: set[str] = field(default_factory=set)
    _written: int = 0

    def tick(self) -> datetime:
        """The machine's clock: no two looks at it show the same."""
        self.now += timedelta(microseconds=1)
        return self.now

    async def at(self, time: datetime) -> None:
        """Moves business time on."""
        if not self.simulated:
            self.now = max(self.now, time)
            return
        await self.rpc.AdvanceClock(pb.AdvanceClockRequest(request_id=self._id(), to_time=stamp(time)), timeout=10)

    def _id(self) -> str:
        self._written += 1
        return f"r{self._written}"

    async def write(self, method: str, member_id: str, time: datetime | None = None, **more: Any) -> Any:
        """Sends one write; `usd` is its amount in cents. None where it is refused."""
        if "usd" in more:
            more["amount"] = Money(currency_code="USD", minor_units=more.pop("usd"))
        request = getattr(pb, f"{method}Request")(
            request_id=self._id(), member_id=member_id, occurred_time=stamp(time), **more
        )
        try:
            answer = await getattr(self.rpc, method)(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND):
                return None
            raise
        if method == "EnrollMember":
            self.members.add(member_id)
        return answer

    async def liability(self, period: str = "", *, known_at: datetime | None = None) -> Any:
        request = pb.GetLiabilityRequest(period=period, known_at_time=stamp(known_at), with_journal=True)
        found = (await self.rpc.GetLiability(request, timeout=20)).liability
        assert (found.HasField("known_at_time"), found.known_at_time) == (known_at is not None, request.known_at_time)
        # Beside what it was asked for, an answer of then is the one that was given then.
        found.ClearField("known_at_time")
        check_sums(found)
        return found

    async def members_sum(self) -> tuple[Counter[tuple[str, str]], int]:
        """The lots of all members by state and expiry month, and their debt, as the members themselves see them."""
        lots: Counter[tuple[str, str]] = Counter()
        debt = 0
        for member_id in self.members:
            for lot in await all_lots(self.rpc, member_id):
                lots[LOT_STATES[lot.state], lot.expiry_date[:7]] += lot.points
            balance = (await self.rpc.GetBalance(pb.GetBalanceRequest(member_id=member_id), timeout=10)).balance
            debt += balance.debt_points
        return lots, debt

    async def members_sum_at(self, time: Timestamp) -> tuple[int, int]:
        """The points of all members, and their debt, at an instant and as known then."""
        points = debt = 0
        for member_id in self.members:
            request = pb.GetBalanceRequest(member_id=member_id, at_time=time, known_at_time=time)
            with contextlib.suppress(grpc.aio.AioRpcError):
                balance = (await self.rpc.GetBalance(request, timeout=10)).balance
                points += balance.pending_points + balance.available_points + balance.held_points
                debt += balance.debt_points
        return points, debt

    async def equals_the_members(self) -> Any:
        """Compares the open month with the sum over the members; the liability."""
        found = await self.liability()
        lots, debt = await self.members_sum()
        rows = Counter(
            {
                (state, row.expiry_month): getattr(row, f"{state}_points")
                for row in found.rows
                for state in LOT_STATES.values()
                if getattr(row, f"{state}_points")
            }
        )
        assert rows == lots
        assert found.debt_points == debt
        return found


LOT_STATES = {1: "pending", 2: "available", 3: "held"}


def check_sums(found: Any) -> None:
    """Everything in a liability adds up, in points and in money."""
    points = [found.issued.points, -found.redeemed.points, -found.expired.points, found.adjusted.points]
    assert found.opening.points + sum(points) + found.debt_change.points == found.closing.points
    money = [found.issued, found.adjusted, found.debt_change]
    worth = sum(one.value.minor_units for one in money) - found.redeemed.value.minor_units
    worth += found.revaluation.minor_units - found.expired.value.minor_units
    assert found.opening.value.minor_units + worth == found.closing.value.minor_units
    assert sum(r.pending_points + r.available_points + r.held_points for r in found.rows) == found.closing.points
    assert sum(row.value.minor_units for row in found.rows) == found.closing.value.minor_units
    assert sum(row.expected_breakage.minor_units for row in found.rows) == found.expected_breakage.minor_units
    for movement in ("issued", "redeemed", "expired", "adjusted", "debt"):
        total = getattr(found, "debt_change" if movement == "debt" else movement)
        lines = [line for line in found.journal if line.movement == movement]
        assert sum(line.points for line in lines) == total.points
        assert sum(line.value.minor_units for line in lines) == total.value.minor_units


def figures(found: Any) -> bytes:
    """All of a liability but how far the log was read for it."""
    copy = type(found)()
    copy.CopyFrom(found)
    copy.ClearField("offsets")
    return bytes(copy.SerializeToString(deterministic=True))


@contextlib.asynccontextmanager
async def shop(
    database: Database, folder: Path, rules: str = BOOKS, *, simulated: bool = False, start: str = "2026-10-01T12:00"
) -> AsyncIterator[Shop]:
    mode = ClockMode.SIMULATED if simulated else ClockMode.REAL
    dsn = database.dsn("loyalty_ledger")
    pool = await create_pool(dsn, service="test")
    programme = parse(rules, "books.yaml")
    made = Shop(ledger=None, rpc=None, now=local(start), simulated=simulated)  # type: ignore[arg-type]
    made.ledger = Ledger(
        dsn=dsn,
        pool=pool,
        rules=Rules.only(programme),
        installation=await transact(pool, lambda c: store.create(c, PARTITIONS, mode)),
        keys=Keys(bytes(32)),
        lanes=1,
        clock=made.tick,
    )
    audit = AuditTrail("ledger", pool, machine_now)
    servicer = LedgerServicer(made.ledger, clock=made.tick, refused=audit.refused)
    service = Service(
        name="ledger",
        register=lambda server: ledger_service_pb2_grpc.add_LedgerServiceServicer_to_server(servicer, server),
        describe=describe,
        audit=audit,
        background=[lane.run for lane in made.ledger.lanes],
    )
    try:
        async with serving(service, f"unix:{folder}/ledger.sock") as channel:
            made.rpc = ledger_service_pb2_grpc.LedgerServiceStub(channel)
            if simulated:
                await made.at(local(start))
            yield made
    finally:
        await pool.close()


async def sweep(made: Shop) -> int:
    """Sweeps until nothing is due; how many members were."""
    swept = 0
    while some := await made.ledger.sweep():
        swept += some
    return swept


async def test_a_month_adds_up_and_opens_with_what_the_one_before_closed_with(database: Database, folder: Path) -> None:
    async with shop(database, folder) as made:
        await made.write("EnrollMember", "anna")
        await made.write("EnrollMember", "bert")
        await made.write("RecordPurchase", "anna", usd=100_000, purchase_id="p-1")
        await made.write("AwardPoints", "bert", points=500, reason="welcome")
        await made.at(local("2026-10-15T12:00"))
        await made.write("RedeemPoints", "anna", points=300, reason="reward")
        hold = await made.write("HoldPoints", "anna", points=200, reason="cart", ttl=40 * DAY)
        await made.write("AdjustPoints", "bert", points=-50, reason="goodwill")
        # What is not there is owed.
        await made.write("RedeemPoints", "bert", points=600, reason="reward", offline=True)
        await made.at(local("2026-11-02T12:00"))
        october = await made.liability("2026-10")
        assert october.closed
        points = (
            october.opening,
            october.issued,
            october.redeemed,
            october.expired,
            october.adjusted,
            october.debt_change,
            october.closing,
        )
        assert [one.points for one in points] == [0, 1500, 900, 0, -50, 150, 700]
        assert [one.value.minor_units for one in points] == [0, 1500, 900, 0, -50, 150, 700]
        assert october.debt_points == 150
        assert (october.point_value, october.breakage_basis_points) == ("100 points are worth 1.00 USD", 1500)
        assert october.expected_breakage.minor_units == 105
        assert october.as_of_time.ToDatetime(UTC) == local("2026-11-01T00:00") - timedelta(microseconds=1)
        (row,) = october.rows
        assert (row.expiry_month, row.market) == ("2026-12", "USD")
        assert (row.pending_points, row.available_points, row.held_points) == (0, 500, 200)

        # The purchase comes back: what was spent of it is owed. Then debt is paid, and the hold spent.
        await made.write("RecordReturn", "anna", usd=100_000, purchase_id="p-1", reason="unwanted")
        await made.write("AwardPoints", "bert", points=160, reason="welcome")
        await made.at(local("2026-11-20T12:00"))
        await made.write("CaptureHold", "anna", hold_id=hold.hold.hold_id, reason="reward")
        november = await made.equals_the_members()
        assert not november.closed
        assert november.opening == october.closing
        assert [one.points for one in (november.issued, november.redeemed, november.debt_change, november.closing)] == [
            -840,
            200,
            350,
            10,
        ]
        # Points are worth more since the 16th.
        assert november.point_value == "100 points are worth 1.50 USD"
        assert november.closing.value.minor_units == 15
        year = await made.liability("2026")
        assert (year.opening.points, year.issued.points, year.closing) == (0, 660, november.closing)


async def test_what_lasts_through_the_year_is_outstanding_at_its_end_and_lapses_in_january(
    database: Database, folder: Path
) -> None:
    async with shop(database, folder) as made:
        await made.write("EnrollMember", "anna")
        await made.write("AwardPoints", "anna", points=1000, reason="welcome")
        await made.at(local("2026-12-28T12:00"))
        await made.write("HoldPoints", "anna", points=400, reason="cart", ttl=10 * DAY)
        await made.write("RecordPurchase", "anna", usd=7_000)
        await made.at(local("2027-01-01T00:00") - timedelta(seconds=1))
        december = await made.equals_the_members()
        assert [(r.expiry_month, r.pending_points, r.available_points, r.held_points) for r in december.rows] == [
            ("2026-12", 0, 600, 400),
            ("2027-12", 70, 0, 0),
        ]
        await made.at(local("2027-01-01T00:00"))
        january = await made.equals_the_members()
        assert january.opening.points == 1070
        assert (january.expired.points, january.closing.points) == (600, 470)
        # Held points lapse when the hold runs out.
        await made.at(local("2027-01-07T12:00"))
        january = await made.equals_the_members()
        assert (january.expired.points, january.closing.points) == (1000, 70)
        assert [(line.date, line.expiry_month, line.points) for line in january.journal] == [
            ("2027-01-01", "2026-12", 600),
            ("2027-01-07", "2026-12", 400),
        ]
        before = figures(january)
        assert await sweep(made) > 0
        await made.ledger.books.fold()
        assert figures(await made.liability("2026-12")) != before
        again = await made.equals_the_members()
        assert [again.expired, again.closing] == [january.expired, january.closing]


async def test_a_closed_period_never_changes_and_what_comes_late_counts_in_the_open_one(
    database: Database, folder: Path
) -> None:
    async with shop(database, folder) as made:
        for member_id in ("anna", "bert", "carl"):
            await made.write("EnrollMember", member_id)
            await made.write("RecordPurchase", member_id, usd=50_000, purchase_id="p-1")
        await made.at(local("2026-10-20T12:00"))
        await made.write("HoldPoints", "carl", points=100, reason="cart", ttl=8 * DAY)
        await made.at(local("2026-11-01T00:00"))
        october = await made.liability("2026-10")
        assert october.closed
        # Nobody has written down yet that points became available and the hold ran out.
        (row,) = october.rows
        assert (row.pending_points, row.available_points, row.held_points) == (0, 1500, 0)
        kept = figures(october)
        # Late ones, one of a new member; a return; what time did is written down by a write and by the sweeper.
        late = local("2026-10-10T12:00")
        await made.write("RecordPurchase", "anna", late, usd=10_000)
        await made.write("EnrollMember", "dora", late)
        await made.write("AwardPoints", "dora", late, points=33, reason="welcome")
        await made.write("RecordReturn", "bert", late, usd=50_000, purchase_id="p-1", reason="unwanted")
        assert figures(await made.liability("2026-10")) == kept
        assert await sweep(made) > 0
        assert figures(await made.liability("2026-10")) == kept
        await made.at(local("2027-03-01T00:00"))
        await sweep(made)
        assert figures(await made.liability("2026-10")) == kept
        november = await made.liability("2026-11")
        assert (november.issued.points, november.closing.points) == (100 + 33 - 500, 1133)
        assert {line.date for line in november.journal} == {"2026-11-01"}


async def test_the_answer_of_yesterday_can_be_had_again(database: Database, folder: Path) -> None:
    async with shop(database, folder) as made:
        await made.write("EnrollMember", "anna")
        await made.write("RecordPurchase", "anna", usd=50_000, purchase_id="p-1")
        await made.write("HoldPoints", "anna", points=1, reason="cart")
        kept: dict[datetime, Any] = {}
        for day in (5, 10, 11, 12, 31):
            await made.at(local(f"2026-10-{day:02}T09:00"))
            await made.write("AwardPoints", "anna", points=day, reason="visit")
            kept[made.now] = await made.liability()
            await made.write("AwardPoints", "anna", points=1000, reason="visit")
        await made.at(local("2026-11-20T12:00"))
        await sweep(made)
        await made.write("RecordReturn", "anna", usd=50_000, purchase_id="p-1", reason="unwanted")
        for time, answer in kept.items():
            assert await made.liability(known_at=time) == answer
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await made.liability("2026-11", known_at=local("2026-10-31T23:00"))
        assert reason_of(caught.value) == "PERIOD_INVALID"
        # What is known later than now is what is known now.
        assert figures(await made.liability("2026-10", known_at=made.now + DAY)) == figures(
            await made.liability("2026-10")
        )


async def test_known_at_an_instant_is_what_was_recorded_by_it_and_no_later(database: Database, folder: Path) -> None:
    async with shop(database, folder) as made:
        await made.write("EnrollMember", "anna")
        for _ in range(3):
            await made.write("AwardPoints", "anna", points=10, reason="visit")
        entries = (await made.rpc.ListEntries(pb.ListEntriesRequest(member_id="anna"), timeout=5)).entries
        recorded = entries[1].recorded_time.ToDatetime(UTC)
        assert (await made.liability(known_at=recorded)).issued.points == 20
        assert (await made.liability(known_at=recorded - timedelta(microseconds=1))).issued.points == 10


async def test_what_lapsed_the_moment_it_was_given_later_was_not_known(database: Database, folder: Path) -> None:
    async with shop(database, folder, simulated=True) as made:
        await made.write("EnrollMember", "anna", local("2026-10-01T12:00"))
        await made.write("AwardPoints", "anna", local("2026-10-01T12:00"), points=10, reason="visit")
        await made.at(local("2027-01-05T00:00"))
        before, answer = made.now, await made.liability()
        assert (answer.expired.points, answer.closing.points) == (10, 0)
        # The clock stands still, and what was known lapses in the log as well, before what comes late.
        await made.write("AwardPoints", "anna", local("2026-12-20T12:00"), points=77, reason="visit")
        assert (await made.liability()).expired.points == 87
        assert await made.liability(known_at=before) == answer


async def test_a_batch_that_is_being_committed_counts_before_a_period_is_called_closed(
    database: Database, folder: Path
) -> None:
    async with shop(database, folder) as made:
        await made.write("EnrollMember", "anna")
        await made.at(local("2026-11-01T00:00"))
        home = made.ledger.partition_of("anna")
        other = await asyncpg.connect(database.dsn("loyalty_ledger"))
        try:
            transaction = other.transaction()
            await transaction.start()
            await other.execute("SELECT FROM ledger.partitions WHERE partition = $1 FOR UPDATE", home)
            asked = asyncio.ensure_future(made.liability("2026-10"))
            await asyncio.sleep(0.3)
            assert not asked.done()
            await transaction.rollback()
            assert (await asked).closed
        finally:
            await other.close()


@pytest.mark.parametrize("period", ["2026-11", "2027", "0000", "9999-12"])
async def test_a_period_that_has_not_begun_is_refused(database: Database, folder: Path, period: str) -> None:
    async with shop(database, folder) as made:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await made.liability(period)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason_of(caught.value) == "PERIOD_INVALID"


@pytest.mark.parametrize("period", ["2026-13", "2026-1", "26", "october", "2026-10-01"])
async def test_what_is_no_period_is_refused(database: Database, folder: Path, period: str) -> None:
    async with shop(database, folder) as made:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await made.liability(period)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "period" in str(caught.value.details())


async def test_an_empty_ledger_owes_nothing(database: Database, folder: Path) -> None:
    async with shop(database, folder) as made:
        found = await made.liability("2015")
        assert (found.closed, found.closing.points, list(found.rows), list(found.journal)) == (True, 0, [], [])


async def test_without_a_value_of_points_there_is_no_money(database: Database, folder: Path) -> None:
    async with shop(database, folder, NO_VALUE) as made:
        await made.write("EnrollMember", "anna")
        await made.write("AwardPoints", "anna", points=10, reason="welcome")
        found = await made.liability()
        assert found.point_value == "the programme gives points no value"
        assert not any(
            [
                found.closing.HasField("value"),
                found.HasField("expected_breakage"),
                found.HasField("revaluation"),
                found.rows[0].HasField("value"),
                found.journal[0].HasField("value"),
            ]
        )
        assert (found.issued.points, found.closing.points) == (10, 10)


async def test_the_journal_is_there_only_where_it_is_asked_for(database: Database, folder: Path) -> None:
    async with shop(database, folder) as made:
        await made.write("EnrollMember", "anna")
        await made.write("AwardPoints", "anna", points=10, reason="welcome")
        found = (await made.rpc.GetLiability(pb.GetLiabilityRequest(), timeout=5)).liability
        assert (found.issued.points, list(found.journal)) == (10, [])


# --- a life at random -----------------------------------------------------------------------------------------------


class Life:
    """Members who do this and that for some months."""

    def __init__(self, made: Shop, seed: int) -> None:
        self._shop = made
        self._random = random.Random(seed)
        self._bought: list[tuple[str, str, int]] = []
        self._holds: list[tuple[str, str]] = []
        self._redeemed: list[tuple[str, str]] = []

    async def step(self, business: datetime) -> None:
        """One more thing happens."""
        made, some = self._shop, self._random
        if len(made.members) < 4 or some.random() < 0.02:
            await made.write("EnrollMember", f"m{len(made.members)}")
            return
        member_id = some.choice(sorted(made.members))
        time = business - some.choice([timedelta(), timedelta(), HOUR, 2 * DAY, 45 * DAY])
        if made.simulated and some.random() < 0.2:
            time = business + some.random() * DAY
        points = some.randint(1, 400)
        match some.randrange(10):
            case 0 | 1:
                answer = await made.write("RecordPurchase", member_id, time, usd=points * 100)
                if answer:
                    self._bought.append((member_id, answer.receipt.purchase_id, points * 100))
            case 2:
                await made.write("AwardPoints", member_id, time, points=points, reason="visit")
            case 3:
                offline = some.random() < 0.3
                answer = await made.write(
                    "RedeemPoints", member_id, time, points=points, reason="reward", offline=offline
                )
                if answer:
                    self._redeemed.append((member_id, answer.redemption_id))
            case 4:
                answer = await made.write(
                    "HoldPoints", member_id, time, points=points, reason="cart", ttl=some.random() * 60 * DAY + MINUTE
                )
                if answer:
                    self._holds.append((member_id, answer.hold.hold_id))
            case 5 if self._holds:
                holder, hold_id = some.choice(self._holds)
                match some.randrange(3):
                    case 0:
                        await made.write("CaptureHold", holder, time, hold_id=hold_id, reason="reward")
                    case 1:
                        await made.write("ReleaseHold", holder, time, hold_id=hold_id, points=some.choice([0, 1]))
                    case 2:
                        await made.write("ExtendHold", holder, time, hold_id=hold_id, ttl=some.random() * 40 * DAY)
            case 6 if self._bought:
                buyer, purchase_id, amount = some.choice(self._bought)
                amount = some.choice([amount, amount // 3])
                await made.write("RecordReturn", buyer, time, usd=amount, purchase_id=purchase_id, reason="unwanted")
            case 7 if self._redeemed:
                spender, redemption_id = some.choice(self._redeemed)
                await made.write(
                    "ReverseRedemption",
                    spender,
                    time,
                    redemption_id=redemption_id,
                    points=some.choice([0, 1]),
                    reason="mistake",
                )
            case 8:
                await made.write("AdjustPoints", member_id, time, points=points - 250 or 1, reason="goodwill")
            case 9:
                await made.write(
                    "AdjustPoints", member_id, time, points=points, reason="wrong-expiry", restores_expired=True
                )


@pytest.mark.parametrize("rules", [BOOKS, INACTIVITY], ids=["calendar_year", "inactivity"])
@pytest.mark.parametrize("simulated", [False, True], ids=["real", "simulated"])
async def test_at_every_instant_it_equals_the_members_and_what_was_closed_or_known_stays(
    database: Database, folder: Path, rules: str, simulated: bool
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    some = random.Random(seed)
    business = local("2026-10-01T12:00")
    closed: dict[str, bytes] = {}
    known: list[tuple[datetime, Any]] = []
    previous: Any = None
    async with shop(database, folder, rules, simulated=simulated) as made:
        life = Life(made, seed)
        for number in range(160):
            if some.random() < 0.35:
                business += some.choice([HOUR, DAY, 3 * DAY, 9 * DAY])
                await made.at(business)
            await life.step(business)
            if some.random() < 0.15:
                await made.ledger.sweep()
            if some.random() < 0.15:
                await made.ledger.books.fold()
            if number % 9 == 0:
                answer = await made.equals_the_members()
                known.append((made.now if simulated else answer.as_of_time.ToDatetime(UTC), answer))
                for text in ("2026-10", "2026-12", "2027-01", "2026"):
                    if business >= local("2027-01-01T00:00") or text in ("2026-10", "2026"):
                        with contextlib.suppress(grpc.aio.AioRpcError):
                            found = await made.liability(text)
                            if found.closed:
                                assert closed.setdefault(text, figures(found)) == figures(found), text
        await sweep(made)
        for text, kept in closed.items():
            assert figures(await made.liability(text)) == kept, text
        for time, answer in known:
            assert await made.liability(known_at=time) == answer
        for month in ("2026-10", "2026-11", "2026-12"):
            found = await made.liability(month)
            assert previous is None or found.opening == previous.closing
            previous = found
            if found.closed and not simulated:
                assert await made.members_sum_at(found.as_of_time) == (found.closing.points, found.debt_points)
    assert "2026-10" in closed


async def test_the_check_rebuilds_the_journal_and_names_what_differs(
    database: Database, folder: Path, token_file: Path
) -> None:
    rules = folder / "books.yaml"
    rules.write_text(BOOKS)
    config = Config(
        listen="",
        database_url=database.dsn("loyalty_ledger"),
        programme=rules,
        token_file=token_file,
        identifier_key_file=identifier_key(folder),
        clock=ClockMode.SIMULATED,
    )
    async with shop(database, folder, simulated=True) as made:
        business = local("2026-10-01T12:00")
        life = Life(made, 7)
        for _ in range(40):
            business += DAY
            await made.at(business)
            await life.step(business)
        await made.ledger.books.fold()
        # What is not folded yet is no difference.
        await made.write("EnrollMember", "anna", business)
        await made.write("AwardPoints", "anna", business, points=10, reason="welcome")
    report = await check(config)
    assert report.differences == ()
    assert report.checked["journal_lines"] > 0
    owner = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        await owner.execute("UPDATE ledger.journal SET points = points + 1 WHERE account = 'issued'")
    finally:
        await owner.close()
    report = await check(config)
    assert {difference["what"] for difference in report.differences} == {"line of the journal"}
