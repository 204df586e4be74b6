"""A real history under policies of other kinds, through the services, against what polars makes of the raw file.

What is expected is computed from frames alone, by docs/programme.md: a balance is the sum of what counts at an instant,
and a level that is held for a cycle takes a walk from one holding to the next. Postage is not goods here; and customers
of made-up nights come beside the real ones, so that what they buy, and what they hold, ends when the clocks change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb
from loyalty.tiers.v1 import tier_service_pb2 as pb
from loyalty.type.v1.money_pb2 import Money

from services import programme as programmes
from services.tiers.domain.facts import Fact, History, history_of
from services.tiers.domain.feed import EntryKind, fact_of
from services.tiers.domain.standing import evaluate
from services.tiers.ledger_client import entry_of
from tests.conftest import PROGRAMMES
from tests.e2e.test_real_history import CLOCK_CHANGES, MINUTES_AROUND, MONTHS, sheet_of
from tests.tiers_desk import Desk, OpenShop, Till, stamp
from tests.tiers_desk import check_tiers as check_tiers
from tests.tiers_desk import open_shop as open_shop
from tests.tiers_desk import start_tiers as start_tiers

CHANGES_IN_NEW_YORK = [
    datetime(*day, tzinfo=UTC)
    for day in (
        (2010, 3, 14, 7),
        (2010, 11, 7, 6),
        (2011, 3, 13, 7),
        (2011, 11, 6, 6),
        (2012, 3, 11, 7),
        (2012, 11, 4, 6),
    )
]
MICROSECOND = timedelta(microseconds=1)
# By then nothing counts any more, and every cycle has ended in the lowest level.
THE_END = datetime(2017, 1, 1, tzinfo=UTC)
# So many instants of the edges of movements are asked about; the changes at all of them are compared.
EDGES_ASKED = 12

# member, tier number and name, balance, joining time; and of a row also since when, and held until.
Listed = tuple[str, int, str, int, datetime]
Row = tuple[str, int, str, int, datetime, datetime, datetime | None]
# When, from which number to which, the balance, and whether by time alone.
Change = tuple[datetime, int, int, int, bool]


@dataclass(frozen=True)
class Policy:
    """A policy in words of polars: over frames of movements with `time`, `cents` and `goods`, negative for returns."""

    programme: str
    currency: str
    zone: str
    clock_changes: list[datetime]
    amount: pl.Expr
    """What a movement adds to the balance."""
    end: pl.Expr
    """Up to when it counts."""
    levels: Mapping[str, int]
    """By name, from which balance on."""
    counts_points: bool = False
    """One for each whole hundred cents."""
    held: bool = False
    """Whether a level is held for a cycle."""


# --- the calendar ----------------------------------------------------------------------------------------------------


def wall(time: pl.Expr, zone: str) -> pl.Expr:
    """What a clock of the zone shows."""
    return time.dt.convert_time_zone(zone).dt.replace_time_zone(None)


def read(shown: pl.Expr, zone: str) -> pl.Expr:
    """When a clock shows it: first, where that comes twice; later by the gap, an hour, where it never does."""

    def strictly(one: pl.Expr) -> pl.Expr:
        return one.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")

    return pl.coalesce(strictly(shown), strictly(shown + pl.duration(hours=1))).dt.convert_time_zone("UTC")


def later(time: pl.Expr, span: str, zone: str) -> pl.Expr:
    """The instant at which the clock shows the same, so many days or months on."""
    return read(wall(time, zone).dt.offset_by(span), zone)


def single(expression: pl.Expr) -> Any:
    return pl.select(expression).item()


def utc(time: datetime) -> pl.Expr:
    return pl.lit(time).cast(pl.Datetime("us", "UTC"))


# --- the policies ----------------------------------------------------------------------------------------------------

POINTS_BASIC = Policy(
    programme=(PROGRAMMES / "points-basic.yaml").read_text(),
    currency="USD",
    zone="America/New_York",
    clock_changes=CHANGES_IN_NEW_YORK,
    amount=pl.col("goods").sign() * (pl.col("goods").abs() // 100),
    end=later(pl.col("time"), "365d", "America/New_York"),
    levels={"Basic": 0, "Silver": 500, "Gold": 2000},
    counts_points=True,
)
ANNUAL_SPEND = Policy(
    programme=(PROGRAMMES / "annual-spend.yaml").read_text(),
    currency="USD",
    zone="America/New_York",
    clock_changes=CHANGES_IN_NEW_YORK,
    amount=pl.col("goods"),
    end=read(
        pl.datetime(wall(pl.col("time"), "America/New_York").dt.year() + 1, 1, 1, time_unit="us"), "America/New_York"
    ),
    levels={"Member": 0, "Gold": 500_00, "Platinum": 2000_00, "Diamond": 4000_00},
)
A_YEAR_HELD = Policy(
    programme=(PROGRAMMES / "tiered-365.yaml")
    .read_text()
    .replace("  window: P365D\n", "  window: P365D\n  retention: {cycle: P12M, at_end: one_down}\n"),
    currency="PLN",
    zone="Europe/Warsaw",
    clock_changes=CLOCK_CHANGES,
    amount=pl.col("cents"),
    end=later(pl.col("time"), "365d", "Europe/Warsaw"),
    levels={"White": 0, "Green": 300_00, "Silver": 1000_00, "Golden": 2000_00},
    held=True,
)


# --- what happened ---------------------------------------------------------------------------------------------------


def invoices_of(path: Path) -> pl.DataFrame:
    """Purchases and returns of the file, in cents with and without postage."""
    goods = pl.when(pl.col("StockCode") == "POST").then(0).otherwise("cents")
    return (
        sheet_of(path)
        .counts.group_by("member", "is_return", "Invoice")
        .agg(pl.col("time").min(), pl.col("cents").sum(), goods.sum().alias("goods"))
        .rename({"Invoice": "invoice"})
    )


def nights_of(policy: Policy) -> pl.DataFrame:
    """Customers whose purchase or cycle of a year before ends in a night that changes the clocks, or at New Year.

    They buy for what a level begins at, or a cent less; and again about when that ends, to the microsecond. And there
    is one whose cycle has the 366 days of a leap year, so that a return inside it leaves the window before its end.
    """
    days = [single(wall(utc(change), policy.zone)).replace(hour=0) for change in policy.clock_changes]
    shown = [day + timedelta(minutes=minutes) for day in days for minutes in range(60, 211, 30)]
    new_years = [datetime.fromisoformat(f"{year}-01-01") for year in (2010, 2011, 2012)]
    shown += [midnight + by * MICROSECOND for midnight in new_years for by in (-1, 0, 1)]
    starts = {datetime.fromisoformat("2012-02-29T12:00")}
    starts |= {single(pl.lit(one).dt.offset_by(span)) for one in shown for span in ("-365d", "-12mo")}
    unit = 100 if policy.counts_points else 1
    amounts = [start * unit - less for start in policy.levels.values() if start for less in (0, 1)]
    found = []
    for number, start in enumerate(sorted(starts)):
        time = single(read(pl.lit(start), policy.zone))
        for span in ("365d", "12mo"):
            end = single(later(utc(time), span, policy.zone))
            member = f"night-{number}-{span}"
            # Neighbours differ, and each amount meets each side of the end.
            first, second = amounts[-1 - number % 2], amounts[number % len(amounts)]
            about = end + (number // 2 % 3 - 1) * MICROSECOND
            found += [(member, False, "1", time, first, first), (member, False, "2", about, second, second)]
    leap_year = (("2011-03-25T12:00", 2000_00), ("2011-03-25T13:00", -500_00), ("2011-09-01T12:00", 2000_00))
    for shown_then, cents in leap_year:
        time = single(read(pl.lit(datetime.fromisoformat(shown_then)), policy.zone))
        found.append(("night-leap-year", cents < 0, shown_then, time, cents, cents))
    return pl.DataFrame(
        found,
        schema={
            "member": pl.String,
            "is_return": pl.Boolean,
            "invoice": pl.String,
            "time": pl.Datetime("us", "UTC"),
            "cents": pl.Int64,
            "goods": pl.Int64,
        },
        orient="row",
    )


def movements_of(policy: Policy, path: Path) -> pl.DataFrame:
    """All of them in their order, as the policy weighs them."""
    happened = pl.concat(
        [invoices_of(path).cast({"time": pl.Datetime("us", "UTC")}), nights_of(policy)], how="diagonal"
    )
    return happened.sort("time", "member", "is_return", "invoice").with_columns(amount=policy.amount, end=policy.end)


# --- what is expected ------------------------------------------------------------------------------------------------


def level_of(policy: Policy, balance: pl.Expr) -> pl.Expr:
    return pl.sum_horizontal((balance >= start).cast(pl.Int64) for start in policy.levels.values() if start) + 1


@dataclass(frozen=True)
class Expected:
    """`holdings`: which level is held from an instant on, and which was before; at some, a new cycle begins alone."""

    policy: Policy
    movements: pl.DataFrame
    joined: pl.DataFrame
    holdings: pl.DataFrame

    def standings(self, instants: list[datetime]) -> dict[datetime, list[Row]]:
        """Everybody who has joined by then, by id, at each of the instants."""
        asked = pl.DataFrame({"at": sorted(set(instants))}).cast({"at": pl.Datetime("us", "UTC")})
        members = asked.join_where(self.joined, pl.col("joined") <= pl.col("at"))
        counts = asked.join_where(
            self.movements.select("member", "time", "end", "amount"),
            pl.col("time") <= pl.col("at"),
            pl.col("at") < pl.col("end"),
        )
        balances = counts.group_by("at", "member").agg(balance=pl.col("amount").sum())
        last = self.holdings.unique(["member", "at"], keep="last", maintain_order=True)
        held = last.select("member", "level", "until", held="at").sort("held")
        began = last.filter(pl.col("level") != pl.col("was")).select("member", since="at").sort("since")
        found = (
            members.join(balances, on=["at", "member"], how="left")
            .sort("at")
            .join_asof(held, left_on="at", right_on="held", by="member", check_sortedness=False)
            .join_asof(began, left_on="at", right_on="since", by="member", check_sortedness=False)
            .with_columns(
                pl.col("level").fill_null(1),
                pl.col("balance").fill_null(0),
                pl.col("since").fill_null(pl.col("joined")),
            )
            .sort("at", "member")
        )
        names = list(self.policy.levels)
        rows: dict[datetime, list[Row]] = {at: [] for at in asked["at"]}
        columns = found.select("at", "member", "level", "balance", "joined", "since", "until")
        for at, member, level, balance, joined, since, until in columns.iter_rows():
            rows[at].append((member, level, names[level - 1], balance, joined, since, until))
        return rows

    def changes(self) -> dict[str, list[Change]]:
        """Of each member whose level ever changes."""
        moved = self.holdings.filter(pl.col("level") != pl.col("was"))
        found: dict[str, list[Change]] = {}
        columns = moved.select("member", "at", "was", "level", "balance", "by_time")
        for member, at, was, level, balance, by_time in columns.iter_rows():
            found.setdefault(member, []).append((at, was, level, balance, by_time))
        return found


def expected_of(policy: Policy, movements: pl.DataFrame) -> Expected:
    """At each instant first goes what ends then, at once, then comes what happens, each."""
    joined = movements.group_by("member").agg(joined=pl.col("time").min() - pl.duration(microseconds=1))
    ends = movements.group_by("member", "end").agg(-pl.col("amount").sum())
    comes = movements.select("member", "amount", at="time", by_time=False)
    steps = (
        pl.concat([ends.select("member", "amount", at="end", by_time=True), comes])
        .sort("member", "at", ~pl.col("by_time"), maintain_order=True)
        .with_columns(balance=pl.col("amount").cum_sum().over("member"))
        .with_columns(level=level_of(policy, pl.col("balance")))
        .with_columns(was=pl.col("level").shift(1, fill_value=1).over("member"))
    )
    if policy.held:
        rows = [
            row
            for (member,), of in steps.partition_by("member", as_dict=True).items()
            for row in held(policy, member, of)
        ]
        schema = ["member", "at", "level", "was", "balance", "by_time", "until"]
        holdings = pl.DataFrame(rows, schema=schema, orient="row")
    else:
        holdings = steps.filter(pl.col("level") != pl.col("was")).with_columns(until=pl.lit(None))
    holdings = holdings.cast({"at": pl.Datetime("us", "UTC"), "until": pl.Datetime("us", "UTC")})
    return Expected(policy, movements, joined, holdings)


def held(policy: Policy, member: str, steps: pl.DataFrame) -> Iterator[tuple[Any, ...]]:
    """From holding to holding: the next is the first higher level that the balance reaches before the cycle is over,
    else, at its end, the same again or one lower, by what was moved inside; or what the balance reaches then."""
    level, until, left = 1, None, steps.with_row_index()
    while True:
        up = left.filter(pl.col("level") > level)
        passed = pl.lit(True)
        if until is not None:
            passed = (pl.col("at") < until) | (pl.col("by_time") & (pl.col("at") == until))
            up = up.filter(passed)
        if up.height:
            was, (at, level, balance, by_time) = level, up.select("at", "level", "balance", "by_time").row(0)
            left = left.filter(pl.col("index") > up["index"][0])
        elif until is not None:
            inside = left.filter(passed, ~pl.col("by_time"))["amount"].sum()
            at, balance, by_time = until, steps.filter(passed)["balance"].last(), True
            earned = single(level_of(policy, pl.max_horizontal(pl.lit(inside), pl.lit(balance))))
            was, level = level, min(level, max(earned, level - 1))
            left = left.filter(~passed)
        else:
            return
        until = single(later(utc(at), "12mo", policy.zone)) if level > 1 else None
        yield member, at, level, was, balance, by_time, until


# --- what the services say -------------------------------------------------------------------------------------------


def enrolment_of(member: str, time: datetime) -> ledger_pb.Write:
    request = ledger_pb.EnrollMemberRequest(request_id=member, member_id=member, occurred_time=stamp(time))
    return ledger_pb.Write(enroll_member=request)


def write_of(policy: Policy, row: Mapping[str, Any]) -> ledger_pb.Write:
    """A purchase or return with its postage as a line of its own."""
    cents, goods = abs(row["cents"]), abs(row["goods"])
    lines = [
        ledger_pb.Line(sku="goods", amount_minor_units=goods),
        ledger_pb.Line(sku="post", amount_minor_units=cents - goods, kind=ledger_pb.LINE_KIND_SHIPPING),
    ]
    said = {
        "request_id": f"{row['member']}/{row['invoice']}",
        "member_id": row["member"],
        "occurred_time": stamp(row["time"]),
        "amount": Money(currency_code=policy.currency, minor_units=cents),
        "lines": [line for line in lines if line.amount_minor_units],
    }
    if row["is_return"]:
        return ledger_pb.Write(record_return=ledger_pb.RecordReturnRequest(**said))
    return ledger_pb.Write(record_purchase=ledger_pb.RecordPurchaseRequest(**said))


async def live(till: Till, expected: Expected) -> None:
    """The ledger hears of all, some days after the other: as far as it lets events run ahead of its clock."""
    joined = dict(expected.joined.iter_rows())
    for (begin,), of_days in expected.movements.group_by_dynamic("time", every="2d"):
        writes = []
        for row in of_days.iter_rows(named=True):
            if joining := joined.pop(row["member"], None):
                writes.append(enrolment_of(row["member"], joining))
            writes.append(write_of(expected.policy, row))
        await till.advance(begin)
        request = ledger_pb.BatchRecordRequest(writes=writes)
        outcomes = (await till.stub.BatchRecord(request, timeout=60)).outcomes
        assert not [one for one in outcomes if one.HasField("error")]


def balance_of(one: pb.Standing | pb.MemberStanding | pb.TierChange) -> int:
    return one.balance.minor_units if one.HasField("balance") else one.balance_count


def listed_of(one: pb.Standing | pb.MemberStanding) -> Listed:
    return one.member_id, one.tier_number, one.tier, balance_of(one), one.joined_time.ToDatetime(UTC)


def row_of(one: pb.Standing) -> Row:
    until = one.held_until_time.ToDatetime(UTC) if one.HasField("held_until_time") else None
    return (*listed_of(one), one.since_time.ToDatetime(UTC), until)


def change_of(one: pb.TierChange) -> Change:
    by_time = one.WhichOneof("cause") == "due_time"
    return one.changed_time.ToDatetime(UTC), one.from_tier_number, one.to_tier_number, balance_of(one), by_time


async def told_changes(desk: Desk) -> dict[str, list[Change]]:
    """Of each member in their order; they are numbered from 1."""
    found: dict[str, list[Change]] = {}
    for one in await desk.changes():
        told = found.setdefault(one.member_id, [])
        told.append(change_of(one))
        assert one.sequence == len(told)
    return found


async def assert_standings(desk: Desk, expected: Expected, instants: list[datetime], whole: list[datetime]) -> None:
    """The list at all of these instants, and at some of them each member's whole standing."""
    for at, rows in expected.standings(instants).items():
        page = await desk.listed(time=at, page_size=1000)
        assert not page.next_page_token
        assert [listed_of(one) for one in page.standings] == [row[:5] for row in rows], at
        if rows and at in whole:
            request = pb.BatchGetStandingsRequest(member_ids=[row[0] for row in rows], at_time=stamp(at))
            results = (await desk.stub.BatchGetStandings(request, timeout=60)).results
            assert [row_of(one.standing) for one in results] == rows, at


def instants_of(expected: Expected) -> list[datetime]:
    """The ends of 24 months, then minutes around each change of the clocks, and edges of what happened there."""
    policy = expected.policy
    ends = [single(read(pl.lit(day).cast(pl.Datetime("us")), policy.zone)) for day in MONTHS]
    nights = [change + timedelta(minutes=minutes) for change in policy.clock_changes for minutes in MINUTES_AROUND]
    of_nights = expected.movements.filter(pl.col("member").str.starts_with("night"))
    times = pl.concat([of_nights["time"], of_nights["end"], expected.holdings["until"].drop_nulls()]).unique().sort()
    edges = [
        at - before for at in times.gather_every(len(times) // EDGES_ASKED) for before in (0 * MICROSECOND, MICROSECOND)
    ]
    return [*ends, *nights, *edges]


async def compare(policy: Policy, shared_data: Path, open_shop: OpenShop) -> tuple[Expected, Till]:
    """Lets the shop live through it all, and asks about every instant that matters."""
    expected = expected_of(policy, movements_of(policy, shared_data / "online_retail_ii.csv"))
    till, desk = await open_shop(policy.programme)
    await live(till, expected)
    # What is asked about later is foretold first, and then has come.
    last = expected.movements["time"].max()
    instants = instants_of(expected)
    after = [THE_END, *(datetime(year, month, 1, tzinfo=UTC) for year in (2013, 2014) for month in (3, 9))]
    await desk.count(await till.advance(last))
    await assert_standings(desk, expected, after, after)
    await desk.count(await till.advance(THE_END))
    await assert_standings(desk, expected, [*instants, *after], [*instants[: len(MONTHS)], *after])
    assert await told_changes(desk) == expected.changes()
    return expected, till


async def histories_of(till: Till, policy: Policy) -> dict[str, History]:
    """Of each member, as the ledger's feed has them."""
    rules = programmes.parse(policy.programme, "the programme")
    facts: dict[str, list[Fact]] = {}
    async for response in till.stub.StreamEntries(ledger_pb.StreamEntriesRequest(), timeout=60):
        for entry in map(entry_of, response.entries):
            if entry.kind is EntryKind.FACT:
                facts.setdefault(entry.member_id, []).append(fact_of(rules, "", entry, None))
    return {member: history_of(of) for member, of in facts.items()}


async def test_points_of_365_days_are_those_of_the_goods_of_each_receipt_floored(
    shared_data: Path, open_shop: OpenShop
) -> None:
    expected, _ = await compare(POINTS_BASIC, shared_data, open_shop)
    # Receipts were floored each, returns, too: no sum of the cents gives the same.
    sums = expected.movements.group_by("member").agg(pl.col("amount").sum(), pl.col("goods").sum() // 100)
    assert sums.filter(pl.col("amount") != pl.col("goods")).height > 100


async def test_what_was_spent_on_goods_in_a_calendar_year_counts_to_its_end_in_new_york(
    shared_data: Path, open_shop: OpenShop
) -> None:
    expected, _ = await compare(ANNUAL_SPEND, shared_data, open_shop)
    falls = expected.holdings.filter("by_time")
    assert set(falls["at"].dt.strftime("%m-%d %H:%M:%S%.6f")) == {"01-01 05:00:00.000000"}


async def test_a_level_is_held_for_a_year_and_falls_by_one_where_that_did_not_earn_it_again(
    shared_data: Path, open_shop: OpenShop
) -> None:
    expected, till = await compare(A_YEAR_HELD, shared_data, open_shop)
    again = expected.holdings.filter(pl.col("level") == pl.col("was"))
    falls = expected.holdings.filter(pl.col("level") < pl.col("was"))
    assert (again.height, falls.height) == (109, 795)
    assert set(falls["was"] - falls["level"]) == {1}
    # The reference says the same of what the ledger wrote.
    histories = await histories_of(till, A_YEAR_HELD)
    versions = programmes.Versions.only(programmes.parse(A_YEAR_HELD.programme, "the programme"))
    for at, rows in expected.standings(instants_of(expected)[: len(MONTHS)]).items():
        for member, number, _, balance, joined, since, until in rows:
            found = evaluate(versions, histories[member], at)
            said = (found.level.number, found.balance, found.joined_time, found.since_time, found.held_until)
            assert said == (number, balance, joined, since, until), (member, at)
