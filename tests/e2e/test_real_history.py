"""Real histories through the real command, against what is computed here from the raw files by other means.

Nothing of the formats or of the tiers is used for what is expected: polars reads the file, decimals count the money,
and balances are sums over everything that happened.
"""

from __future__ import annotations

import asyncio
import csv
import json
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import grpc
import polars as pl
import pytest
from loyalty.tiers.v1 import tier_service_pb2 as pb

from services.cli import installation
from services.cli.installation import Connection, connection
from services.cli.remote import Services, reach
from services.runtime.clock import ClockMode
from tests.conftest import PROGRAMMES
from tests.e2e.conftest import loyalty

LONDON, WARSAW = ZoneInfo("Europe/London"), ZoneInfo("Europe/Warsaw")
TIERS = ("White", "Green", "Silver", "Golden")
FROM_CENTS = (30_000, 100_000, 200_000)
MONTHS = [date(2010 + month // 12, month % 12 + 1, 1) for month in range(24)]
# When the clocks of Europe change; what happened in 2011 ends in 2012.
CLOCK_CHANGES = [
    datetime(*day, hour=1, tzinfo=UTC)
    for day in ((2010, 3, 28), (2010, 10, 31), (2011, 3, 27), (2011, 10, 30), (2012, 3, 25), (2012, 10, 28))
]
MINUTES_AROUND = (-120, -60, -30, 0, 30, 60, 90, 120)
# British customers do not shop at night. These do, in hours that do not exist or come twice in London or Warsaw, then
# or when it leaves the window. They spend just what a tier begins at, and less, write their numbers in two ways, pay
# half a penny, which goes to the even one, and leave lines that do not count.
AT_NIGHT = """\
N1,A,night,1,2010-03-27 00:30:00,300.00,90001,Nowhere
N2,A,night,1,2010-03-27 01:30:00,1000.00,90002,Nowhere
N3,A,night,1,2010-03-28 01:30:00,2000.00,90003.0,Nowhere
N4,A,night,1,2010-10-30 01:30:00,299.99,90004,Nowhere
N5,A,night,1,2010-10-31 01:30:00,400.00,90005,Nowhere
N6,A,night,3,2010-10-31 02:30:00,400.005,90006,Nowhere
CN6,A,night,-1,2010-10-31 02:30:00,100.005,90006.0,Nowhere
N7,A,night,1,2011-03-26 01:30:00,2400.00,90007,Nowhere
N8,A,night,1,2011-03-27 01:15:00,2400.00,90008,Nowhere
N8,A,night,1,2011-03-27 02:10:00,0.01,90008,Nowhere
CN8,A,night,2,2011-03-27 02:10:00,1.00,90008,Nowhere
N9,A,night,-1,2011-03-27 02:10:00,1.00,90008,Nowhere
N9,A,night,0,2011-03-27 02:10:00,1.00,90008,Nowhere
"""
# When their first purchases leave the window in Warsaw, worked out by hand.
ENDS_AT_NIGHT = {
    "90001": "2011-03-27T00:30:00",
    "90002": "2011-03-27T01:30:00",
    "90003": "2011-03-28T01:30:00",
    "90004": "2011-10-30T00:30:00",
    "90005": "2011-10-31T01:30:00",
    "90006": "2011-10-31T02:30:00",
    "90007": "2012-03-25T01:30:00",
    "90008": "2012-03-26T01:10:00",
}


class Movement(NamedTuple):
    """What counts for the tier from `time` up to `end`. Cents; a return is negative."""

    time: datetime
    is_return: bool
    invoice: str
    cents: int
    end: datetime


class Change(NamedTuple):
    time: datetime
    from_tier: int
    to_tier: int
    balance: int
    by_time_alone: bool


@dataclass(frozen=True)
class Expected:
    """The movements of each member in their order, and lines and cents of the file by what becomes of them."""

    zone: ZoneInfo
    movements: Mapping[str, Sequence[Movement]]
    account: Mapping[str, tuple[int, int]]

    def joined(self, member: str) -> datetime:
        return self.movements[member][0].time - timedelta(seconds=1)

    def balance(self, member: str, at: datetime) -> int:
        return sum(one.cents for one in self.movements[member] if one.time <= at < one.end)

    def standings(self, at: datetime) -> list[tuple[str, int, str, int, datetime]]:
        """Who has joined by then, by id: number and name of the tier, balance, joining time."""
        found = []
        for member in sorted(self.movements):
            if self.joined(member) <= at:
                balance = self.balance(member, at)
                number = tier_of(balance)
                found.append((member, number, TIERS[number - 1], balance, self.joined(member)))
        return found

    def changes(self, member: str, until: datetime) -> list[Change]:
        """A walk through time: at each instant first goes what ends then, at once, then comes what happens, each."""
        movements = self.movements[member]
        found: list[Change] = []
        balance, tier = 0, 1
        for at in sorted({one.time for one in movements} | {one.end for one in movements}):
            if at > until:
                break
            steps = [(-sum(one.cents for one in movements if one.end == at), True)]
            steps += [(one.cents, False) for one in movements if one.time == at]
            for cents, by_time_alone in steps:
                balance += cents
                if tier_of(balance) != tier:
                    found.append(Change(at, tier, tier_of(balance), balance, by_time_alone))
                    tier = tier_of(balance)
        return found


def tier_of(cents: int) -> int:
    return 1 + sum(cents >= threshold for threshold in FROM_CENTS)


def instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """A wall clock as an instant: one that does not exist moves on by the gap, one that comes twice is its first."""
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The start of a local day."""
    return instant(datetime.combine(day, datetime.min.time()), zone)


def cents_of(quantity: str, price: str) -> int:
    return int((Decimal(quantity) * Decimal(price) * 100).quantize(Decimal(1), ROUND_HALF_EVEN))


class Sheet(NamedTuple):
    """The lines of the raw file: all, each once, those of members, and what counts of those."""

    raw: pl.DataFrame
    rows: pl.DataFrame
    members: pl.DataFrame
    counts: pl.DataFrame


def sheet_of(path: Path) -> Sheet:
    """The raw file with cents, instants and members."""
    raw = pl.read_csv(path, infer_schema=False)
    raw = raw.with_columns(
        pl.Series("cents", [cents_of(*one) for one in raw.select("Quantity", "Price").iter_rows()]),
        pl.Series("has_price", [Decimal(price) > 0 for price in raw["Price"]]),
        pl.Series("time", [instant(datetime.fromisoformat(wall), LONDON) for wall in raw["InvoiceDate"]]),
        pl.col("Quantity").cast(pl.Int64).alias("pieces"),
        pl.col("Invoice").str.starts_with("C").alias("is_return"),
        pl.col("Customer ID").str.strip_suffix(".0").alias("member"),
    )
    columns = ["Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country"]
    rows = raw.unique(columns, keep="first", maintain_order=True)
    members = rows.filter(pl.col("member").is_not_null())
    counts = members.filter(
        "has_price",
        pl.when("is_return").then(pl.col("pieces") < 0).otherwise(pl.col("pieces") > 0),
    )
    return Sheet(raw, rows, members, counts)


def expected_of(path: Path, zone: ZoneInfo) -> Expected:
    """What the raw file comes to under a window of 365 local days of a zone."""
    raw, rows, members, counts = sheet_of(path)
    invoices = counts.group_by("member", "is_return", "Invoice").agg(pl.col("time").min(), pl.col("cents").sum())
    movements: dict[str, list[Movement]] = defaultdict(list)
    for member, is_return, invoice, time, cents in invoices.sort("time", "is_return", "Invoice").iter_rows():
        wall = time.astimezone(zone).replace(tzinfo=None)
        end = instant(wall + timedelta(days=365), zone)
        movements[member].append(Movement(time, is_return, invoice, cents, end))

    def lines_and_cents(table: pl.DataFrame) -> tuple[int, int]:
        return table.height, table["cents"].sum()

    def without(table: pl.DataFrame, less: pl.DataFrame) -> tuple[int, int]:
        return table.height - less.height, table["cents"].sum() - less["cents"].sum()

    account = {
        "file": lines_and_cents(raw),
        "loaded": lines_and_cents(counts),
        "duplicates": without(raw, rows),
        "guests": without(rows, members),
        "rejected": without(members, counts),
        "refused": (0, 0),
        "missing": (0, 0),
    }
    return Expected(zone=zone, movements=movements, account=account)


def write_sample(whole: Path, sample: Path, *, of: Expected) -> None:
    """All lines of guests, of who is remarkable, of who has something within a day and a half of a change of the
    clocks, and of each sixth of the others."""
    kept = set(remarkable_members(of))
    kept.update(
        member
        for member, movements in of.movements.items()
        if any(is_of_such_a_night(at) for movement in movements for at in (movement.time, movement.end))
    )
    rest = sorted(set(of.movements) - kept)
    kept.update(("", *rest[::6]))
    with whole.open(encoding="utf-8", newline="") as lines, sample.open("w", encoding="utf-8", newline="") as file:
        reader = csv.DictReader(lines)
        assert reader.fieldnames
        writer = csv.DictWriter(file, reader.fieldnames, lineterminator="\n")
        writer.writeheader()
        writer.writerows(line for line in reader if line["Customer ID"].removesuffix(".0") in kept)


def is_of_such_a_night(at: datetime) -> bool:
    """Within a day and a half of a change of the clocks: in the night, or in the day whose length it changes."""
    return any(abs(at - change) < timedelta(hours=36) for change in CLOCK_CHANGES)


@contextmanager
def loaded(path: Path, form: str, programme: Path, *more: str) -> Iterator[tuple[Connection, dict[str, Any]]]:
    """A folder that is up, into which the command has loaded a file; and its report."""
    folder = Path(tempfile.mkdtemp(prefix="ly-real-"))
    try:
        installation.open_or_create(folder, programme_file=programme, clock=ClockMode.SIMULATED)
        started = loyalty("up", "--data", str(folder), "--port", "0", "--detach")
        assert started.returncode == 0, started.stderr
        target = ("--data", str(folder), "--programme", str(programme))
        done = loyalty("import", str(path), "--format", form, *target, "--json", *more, seconds=600)
        assert done.returncode == 0, done.stderr
        yield connection(folder), json.loads(done.stdout)
    finally:
        loyalty("down", "--data", str(folder))
        shutil.rmtree(folder, ignore_errors=True)


def exported(what: str, up: Connection, output: Path, *more: str) -> list[dict[str, str]]:
    done = loyalty("export", what, "--data", str(up.installation.directory), "--output", str(output), *more)
    assert done.returncode == 0, done.stderr
    with output.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def assert_the_check_is_clean(up: Connection) -> None:
    checked = loyalty("check", "--data", str(up.installation.directory), "--json", seconds=600)
    assert (checked.returncode, json.loads(checked.stdout)["clean"]) == (0, True), checked.stdout + checked.stderr


# --- standings and changes of tier -----------------------------------------------------------------------------------


async def listed(services: Services, at: datetime) -> list[tuple[str, int, str, int, datetime]]:
    """All pages of the standings of an instant."""
    request = pb.ListStandingsRequest(page_size=100)
    request.at_time.FromDatetime(at)
    found = []
    while True:
        page = await services.tiers.ListStandings(request, timeout=30)
        found += [
            (one.member_id, one.tier_number, one.tier, one.balance.minor_units, one.joined_time.ToDatetime(UTC))
            for one in page.standings
        ]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def told_changes(services: Services) -> dict[str, list[Change]]:
    """Every member's changes; they are numbered from 1."""
    found: dict[str, list[Change]] = defaultdict(list)
    async for response in services.tiers.StreamTierChanges(pb.StreamTierChangesRequest(), timeout=60):
        for one in response.changes:
            told = found[one.member_id]
            told.append(
                Change(
                    one.changed_time.ToDatetime(UTC),
                    one.from_tier_number,
                    one.to_tier_number,
                    one.balance.minor_units,
                    one.WhichOneof("cause") == "due_time",
                )
            )
            assert one.sequence == len(told)
    return found


async def check_one_by_one(services: Services, expected: Expected, members: Sequence[str], at: datetime) -> None:
    """The same of some members through GetStanding, and since when they hold their tier."""
    for member in members:
        request = pb.GetStandingRequest(member_id=member)
        request.at_time.FromDatetime(at)
        if at < expected.joined(member):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await services.tiers.GetStanding(request, timeout=30)
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            continue
        standing = (await services.tiers.GetStanding(request, timeout=30)).standing
        balance = expected.balance(member, at)
        changes = expected.changes(member, at)
        since = changes[-1].time if changes else expected.joined(member)
        assert (standing.tier_number, standing.balance.minor_units) == (tier_of(balance), balance), (member, at)
        assert standing.since_time.ToDatetime(UTC) == since, (member, at)


def remarkable_members(expected: Expected) -> list[str]:
    """Who bought most often, returned most, joined last, changes tier most often, or was below zero."""
    members = sorted(expected.movements)
    of = expected.movements
    return [
        max(members, key=lambda one: len(of[one])),
        min(members, key=lambda one: sum(movement.cents for movement in of[one] if movement.is_return)),
        max(members, key=expected.joined),
        max(members, key=lambda one: len(expected.changes(one, CLOCK_CHANGES[-1]))),
        min(members, key=lambda one: min(expected.balance(one, movement.time) for movement in of[one])),
    ]


async def check_standings(up: Connection, expected: Expected) -> None:
    """Every member at the ends of 24 months and around each change of the clocks."""
    month_ends = [midnight(day, expected.zone) for day in MONTHS]
    nights = [change + timedelta(minutes=minutes) for change in CLOCK_CHANGES for minutes in MINUTES_AROUND]
    # The edges of what happened in such nights, and of the days whose length the clocks change.
    edges = [
        at - before
        for movements in expected.movements.values()
        for movement in movements
        for at in (movement.time, movement.end)
        if is_of_such_a_night(at)
        for before in (timedelta(0), timedelta(microseconds=1))
    ]
    members = remarkable_members(expected)
    async with reach(up) as services:
        for at in sorted({*month_ends, *nights, *edges}):
            assert await listed(services, at) == expected.standings(at), at
            await check_one_by_one(services, expected, members, at)
        # The load has moved the clock to the end of its last day.
        last = max(movements[-1].time for movements in expected.movements.values()).astimezone(expected.zone)
        clock = midnight(last.date() + timedelta(days=1), expected.zone)
        walked = {member: changes for member in expected.movements if (changes := expected.changes(member, clock))}
        assert await told_changes(services) == walked


def check_export(up: Connection, expected: Expected, currency: str, output: Path) -> None:
    """The file of the standings: at a date, which is a local midnight, and at an instant in between."""
    start_of_march = midnight(date(2011, 3, 1), expected.zone)
    for said, at in (("2011-03-01", start_of_march), ("2011-10-30T01:00:00Z", CLOCK_CHANGES[3])):
        assert exported("standings", up, output, "--at", said) == [
            {
                "member_id": member,
                "tier_number": str(number),
                "tier": tier,
                "balance_minor_units": str(balance),
                "currency_code": currency,
                "balance_count": "",
            }
            for member, number, tier, balance, _ in expected.standings(at)
        ]


def check_account(report: Mapping[str, Any], expected: Expected) -> None:
    account = dict(report["account"])
    assert account.pop("adds_up") is True
    assert {name: (said["lines"], said["minor_units"]) for name, said in account.items()} == expected.account
    movements = [movement for movements in expected.movements.values() for movement in movements]
    returns = sum(movement.is_return for movement in movements)
    recorded = {name: report[name]["recorded"] for name in ("members", "purchases", "returns")}
    assert recorded == {
        "members": len(expected.movements),
        "purchases": len(movements) - returns,
        "returns": returns,
    }


def test_an_online_shop_in_pounds_has_every_balance_tier_and_change_that_its_raw_file_says(
    shared_data: Path, tmp_path: Path
) -> None:
    source = shared_data / "online_retail_ii.csv"
    expected = expected_of(source, LONDON)
    assert expected.account["file"][0] == 34_766
    assert expected.account["duplicates"][0] == 515
    with loaded(source, "online-retail", PROGRAMMES / "tiered-365-gbp.yaml") as (up, report):
        check_account(report, expected)
        asyncio.run(check_standings(up, expected))
        check_export(up, expected, "GBP", tmp_path / "standings.csv")
        assert_the_check_is_clean(up)


def test_the_same_shop_lived_through_in_zloty_and_warsaw_time_with_customers_of_the_nights_that_change_the_clocks(
    shared_data: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "with_nights.csv"
    whole.write_text((shared_data / "online_retail_ii.csv").read_text(encoding="utf-8") + AT_NIGHT, encoding="utf-8")
    source = tmp_path / "sample.csv"
    write_sample(whole, source, of=expected_of(whole, WARSAW))
    expected = expected_of(source, WARSAW)
    for member, end in ENDS_AT_NIGHT.items():
        assert expected.movements[member][0].end == datetime.fromisoformat(end).replace(tzinfo=UTC)
    assert [one.cents for one in expected.movements["90006"]] == [120_002, -10_000]
    programme = PROGRAMMES / "tiered-365.yaml"
    with loaded(source, "online-retail", programme, "--currency", "PLN") as (up, report):
        check_account(report, expected)
        asyncio.run(check_standings(up, expected))
        check_export(up, expected, "PLN", tmp_path / "standings.csv")
        assert_the_check_is_clean(up)


# --- points ----------------------------------------------------------------------------------------------------------

THREE_POINTS_FOR_TWO_DOLLARS = """\
programme: three-for-two
currency: USD
time_zone: America/New_York
earning:
  base: goods_paid
  points: 3
  per: "2.00"
  sign_up_bonus: 40
tiers:
  base: total
  window: P365D
  levels:
    - name: White
    - name: Green
      from: "300.00"
"""
BONUS = 40


class Bought(NamedTuple):
    member: str
    time: str
    cents: int
    points: int


def bought(path: Path) -> list[Bought]:
    """Every line that is worth something: at noon in New York, which is UTC-5 in winter and UTC-4 in summer."""
    found = []
    for line in path.read_text(encoding="ascii").splitlines()[1:]:
        customer, day, _, dollars = line.split()
        if Decimal(dollars) == 0:
            continue
        noon = datetime.strptime(day, "%Y%m%d").replace(hour=12, tzinfo=ZoneInfo("America/New_York"))
        points = (Decimal(dollars) * 3 / 2).to_integral_value(ROUND_FLOOR)
        time = noon.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        found.append(Bought(customer, time, int(Decimal(dollars) * 100), int(points)))
    return found


def write_cdnow_sample(whole: Path, sample: Path) -> None:
    """Everything of those who have equal lines or lines that are worth nothing, and of each eighth of the others."""
    heading, *lines = whole.read_text(encoding="ascii").splitlines(keepends=True)
    repeated = {line for line, count in Counter(lines).items() if count > 1}
    kept = {line.split()[0] for line in lines if line in repeated or Decimal(line.split()[3]) == 0}
    rest = sorted({line.split()[0] for line in lines} - kept)
    kept.update(rest[::8])
    sample.write_text("".join([heading, *(line for line in lines if line.split()[0] in kept)]), encoding="ascii")


def test_cdnow_gives_each_member_the_floored_points_of_each_purchase_and_keeps_equal_lines(
    shared_data: Path, tmp_path: Path
) -> None:
    whole = shared_data / "cdnow_master.txt"
    bought_by_all = bought(whole)
    assert (len(bought_by_all), len(bought_by_all) - len(set(bought_by_all))) == (69_659 - 80, 255)
    source = tmp_path / "cdnow_sample.txt"
    write_cdnow_sample(whole, source)
    expected = bought(source)
    assert len(expected) - len(set(expected)) == 255
    programme = tmp_path / "programme.yaml"
    programme.write_text(THREE_POINTS_FOR_TWO_DOLLARS)
    with loaded(source, "cdnow", programme) as (up, report):
        purchases = exported("purchases", up, tmp_path / "purchases.csv")
        members = exported("members", up, tmp_path / "members.csv")
    assert report["account"]["loaded"] == {"lines": len(expected), "minor_units": sum(one.cents for one in expected)}
    assert (report["account"]["rejected"]["lines"], report["account"]["duplicates"]["lines"]) == (80, 0)
    assert Counter(expected) == Counter(
        Bought(one["member_id"], one["occurred_time"], int(one["amount_minor_units"]), int(one["points"]))
        for one in purchases
    )
    assert len({(one["member_id"], one["purchase_id"]) for one in purchases}) == len(expected)
    points: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for one in expected:
        points[one.member] += one.points
        counts[one.member] += 1
    assert {one["member_id"]: (int(one["available_points"]), int(one["purchases"])) for one in members} == {
        member: (BONUS + points[member], count) for member, count in counts.items()
    }
    assert report["points"] == BONUS * len(counts) + points.total()
