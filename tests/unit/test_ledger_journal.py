"""The journal and the liability: on which day entries are booked, in which month, and that everything adds up."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from services.ledger.domain.events import Account, EntryKind, LotKey, Posting
from services.ledger.domain.journal import Booked, Days, Journal, Leg, Line, by_month
from services.ledger.domain.liability import Liability, Movement, Period, Span, Sum, liability
from services.ledger.errors import PeriodError
from services.programme import Programme, Versions, parse

MAY = LotKey(date(2026, 5, 7), date(2027, 5, 7))
JUNE = LotKey(date(2026, 6, 1), date(2027, 6, 1))
JULY = LotKey(date(2026, 7, 1), date(2027, 7, 1))
DAY = timedelta(days=1)


def programme(*, zone: str = "Europe/Warsaw", values: str = "") -> Programme:
    return parse(
        f"""
programme: books
currency: PLN
time_zone: {zone}
earning: {{base: total, points: 1, per: "1.00"}}
tiers:
  base: total
  window: P365D
  levels:
    - name: White
{f"liability: {{values: [{values}], breakage_percent: '12.5'}}" if values else ""}
""",
        "books.yaml",
    )


def instant(text: str) -> datetime:
    """An instant from a clock in Warsaw's winter."""
    return datetime.fromisoformat(f"{text}+01:00").astimezone(UTC)


def entry(occurred: datetime, recorded: datetime, kind: EntryKind = EntryKind.POINTS_AWARDED) -> Booked:
    return Booked(kind, occurred, recorded, (Leg(Account.AVAILABLE, 5), Leg(Account.ISSUED, 5)))


def booked_day(*entries: Booked, clock: datetime | None = None) -> date:
    journal = Journal(programme(), clock)
    for one in entries:
        journal.book(one)
    (day,) = {line.posting_day for line in journal.sums}
    return day


# --- days -----------------------------------------------------------------------------------------------------------


def test_an_entry_is_booked_on_its_own_local_day_and_a_late_one_on_the_day_it_is_recorded() -> None:
    evening, later = instant("2026-12-31T23:59:59"), instant("2027-01-01T00:00")
    assert booked_day(entry(evening, evening)) == date(2026, 12, 31)
    assert booked_day(entry(evening, later)) == date(2027, 1, 1)
    assert booked_day(entry(evening - 40 * DAY, evening)) == date(2026, 12, 31)
    # A caller's clock may run ahead.
    assert booked_day(entry(later, evening)) == date(2027, 1, 1)


@pytest.mark.parametrize(
    "kind", [EntryKind.POINTS_ACTIVATED, EntryKind.POINTS_EXPIRED, EntryKind.HOLD_EXPIRED], ids=lambda kind: kind.value
)
def test_what_time_does_is_booked_on_the_day_of_its_instant_whenever_it_is_written(kind: EntryKind) -> None:
    at = instant("2026-12-31T12:00")
    assert booked_day(entry(at, at + 9 * DAY, kind)) == date(2026, 12, 31)
    assert booked_day(entry(at, at + 9 * DAY, kind), clock=at + 8 * DAY) == date(2026, 12, 31)


def test_in_simulated_time_the_clock_before_an_entry_says_how_late_it_is() -> None:
    occurred, recorded = instant("2026-10-05T12:00"), instant("2030-01-01T12:00")
    assert booked_day(entry(occurred, recorded), clock=instant("2026-10-01T00:00")) == date(2026, 10, 5)
    moved = Booked(EntryKind.CLOCK_ADVANCED, instant("2026-11-02T00:00"), recorded, ())
    assert booked_day(moved, entry(occurred, recorded), clock=instant("2026-10-01T00:00")) == date(2026, 11, 2)


@pytest.mark.parametrize("zone", ["Europe/Warsaw", "America/New_York", "America/St_Johns", "Asia/Beirut"])
def test_a_day_that_was_left_never_comes_back(zone: str) -> None:
    # St John's set its clock back from a minute past midnight into the evening before.
    rules, days = programme(zone=zone), Days(programme(zone=zone))
    start = datetime(2010, 10, 25, tzinfo=UTC)
    seen = [days.day(start + timedelta(minutes=7 * n)) for n in range(5000)]
    assert seen == sorted(seen)
    for n in range(5000):
        day = seen[n]
        assert rules.start_of_local_day(day) <= start + timedelta(minutes=7 * n) < rules.start_of_local_day(day + DAY)


def test_days_are_found_in_any_order() -> None:
    days = Days(programme())
    asked = [instant(f"2026-0{n}-01T00:00") for n in (3, 1, 2, 1, 3)]
    assert [days.day(time) for time in asked] == [date(2026, n, 1) for n in (3, 1, 2, 1, 3)]


# --- months ---------------------------------------------------------------------------------------------------------


def months(*postings: tuple[Account, int] | tuple[Account, int, LotKey]) -> dict[tuple[str, str], int]:
    legs = by_month([Leg.of(Posting(*one)) for one in postings])
    return {(account.value, month): points for account, points, month in legs}


def test_what_is_issued_lies_in_the_month_in_which_its_lot_lapses() -> None:
    assert months((Account.PENDING, 7, MAY), (Account.ISSUED, 7)) == {
        ("pending", "2027-05"): 7,
        ("issued", "2027-05"): 7,
    }
    assert months((Account.AVAILABLE, 7), (Account.ISSUED, 7)) == {("available", ""): 7, ("issued", ""): 7}


def test_what_is_redeemed_is_split_over_the_lots_it_came_from() -> None:
    assert months((Account.HELD, -7, MAY), (Account.AVAILABLE, -3, JUNE), (Account.REDEEMED, 10)) == {
        ("held", "2027-05"): -7,
        ("available", "2027-06"): -3,
        ("redeemed", "2027-05"): 7,
        ("redeemed", "2027-06"): 3,
    }


def test_debt_goes_with_the_lots_of_one_month_and_else_stands_alone() -> None:
    assert months((Account.AVAILABLE, 6, MAY), (Account.DEBT, -4), (Account.ISSUED, 10)) == {
        ("available", "2027-05"): 6,
        ("issued", "2027-05"): 10,
        ("debt", "2027-05"): -4,
    }
    assert months((Account.DEBT, -10), (Account.ISSUED, 10)) == {("debt", ""): -10, ("issued", ""): 10}
    spread = months(
        (Account.AVAILABLE, -6, MAY), (Account.AVAILABLE, -1, JUNE), (Account.DEBT, 3), (Account.REDEEMED, 10)
    )
    assert {key: points for key, points in spread.items() if key[0] in ("redeemed", "debt")} == {
        ("redeemed", "2027-05"): 6,
        ("redeemed", "2027-06"): 1,
        ("redeemed", ""): 3,
        ("debt", ""): 3,
    }
    # Points that become available pay debt: nothing else moved.
    assert months((Account.PENDING, -9, MAY), (Account.AVAILABLE, 2, MAY), (Account.DEBT, -7)) == {
        ("pending", "2027-05"): -9,
        ("available", "2027-05"): 2,
        ("debt", "2027-05"): -7,
    }


def test_what_is_restored_is_lapsed_no_longer_in_the_month_in_which_it_lies_now() -> None:
    legs = [(Account.EXPIRED, -6, MAY), (Account.EXPIRED, -4, JUNE), (Account.AVAILABLE, 7, JULY), (Account.DEBT, -3)]
    assert months(*legs) == {
        ("available", "2027-07"): 7,
        ("expired", "2027-07"): -10,
        ("debt", "2027-07"): -3,
    }
    assert months((Account.EXPIRED, -6, MAY), (Account.DEBT, -6)) == {("expired", ""): -6, ("debt", ""): -6}


@pytest.mark.parametrize(
    "postings",
    [
        [(Account.EXPIRED, -4, MAY), (Account.AVAILABLE, -3, JUNE), (Account.DEBT, 3), (Account.ISSUED, -10)],
        [(Account.EXPIRED, -4, MAY), (Account.ISSUED, -4)],
        [(Account.AVAILABLE, 3, MAY), (Account.AVAILABLE, 2, JUNE), (Account.DEBT, -5), (Account.REDEEMED, -10)],
        [(Account.HELD, -8, MAY), (Account.HELD, -2, JUNE), (Account.AVAILABLE, 1, JUNE), (Account.DEBT, -9)],
        [(Account.AVAILABLE, -8, MAY), (Account.AVAILABLE, -1), (Account.ADJUSTED, -9)],
        [(Account.AVAILABLE, -8, MAY), (Account.EXPIRED, 8, MAY)],
        [(Account.EXPIRED, -8, MAY), (Account.EXPIRED, -1), (Account.AVAILABLE, 7, JUNE), (Account.DEBT, -2)],
        [(Account.EXPIRED, -8, MAY), (Account.AVAILABLE, 8, MAY)],
        [(Account.EXPIRED, -8, MAY), (Account.DEBT, -8)],
        [(Account.AVAILABLE, -8, JUNE), (Account.HELD, 8, JUNE)],
    ],
)
def test_the_equation_holds_in_every_month_by_itself_and_no_point_is_lost(postings: list[Any]) -> None:
    booked = by_month([Leg.of(Posting(*one)) for one in postings])
    for month in {leg.expiry_month for leg in booked}:
        of = Counter({leg.account: leg.points for leg in booked if leg.expiry_month == month})
        outstanding = of[Account.PENDING] + of[Account.AVAILABLE] + of[Account.HELD]
        came = of[Account.ISSUED] + of[Account.ADJUSTED] - of[Account.REDEEMED] - of[Account.EXPIRED]
        assert outstanding == came + of[Account.DEBT], month
    for account in Account:
        assert sum(leg.points for leg in booked if leg.account is account) == sum(
            one[1] for one in postings if one[0] is account
        )


def test_entries_of_one_day_account_and_month_are_one_line() -> None:
    noon = instant("2026-12-31T12:00")
    journal = Journal(programme(), None)
    for _ in range(3):
        journal.book(entry(noon, noon + DAY / 2))
    day, recorded = date(2027, 1, 1), date(2027, 1, 1)
    assert journal.sums == {
        Line(day, recorded, Account.AVAILABLE, "", "PLN"): 15,
        Line(day, recorded, Account.ISSUED, "", "PLN"): 15,
    }


# --- periods --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026-10", date(2026, 10, 1), date(2026, 10, 31)),
        ("2024-02", date(2024, 2, 1), date(2024, 2, 29)),
        ("2026", date(2026, 1, 1), date(2026, 12, 31)),
    ],
)
def test_a_period_is_a_local_month_or_year(text: str, first: date, last: date) -> None:
    assert Period.parse(text) == Period(text=text, first=first, last=last)


def test_a_period_is_closed_as_soon_as_the_clock_reaches_its_end_and_true_of_its_last_microsecond() -> None:
    rules, end = programme(), instant("2026-11-01T00:00")
    still_open = Span.of(rules, "2026-10", end - timedelta(microseconds=1))
    assert (still_open.closed, still_open.as_of) == (False, end - timedelta(microseconds=1))
    closed = Span.of(rules, "2026-10", end)
    assert (closed.closed, closed.end, closed.as_of) == (True, end, end - timedelta(microseconds=1))
    assert closed.value_day == date(2026, 10, 31)
    # The clocks went back in between: the month begins in summer time.
    assert closed.start == instant("2026-09-30T23:00")


def test_without_a_period_it_is_the_open_month() -> None:
    span = Span.of(programme(), "", instant("2026-10-31T23:30"))
    assert (span.period.text, span.closed, span.value_day) == ("2026-10", False, date(2026, 10, 31))


@pytest.mark.parametrize("text", ["2026-11", "2027", "9999", "9999-12", "0000", "0000-01"])
def test_a_period_that_has_not_begun_or_never_will_be_is_refused(text: str) -> None:
    with pytest.raises(PeriodError):
        Span.of(programme(), text, instant("2026-10-31T23:59"))


# --- money ----------------------------------------------------------------------------------------------------------


def reckon(rules: Programme, *booked: tuple[str, Account, str, int], period: str = "2026-10") -> Liability:
    sums = Counter[Sum]()
    for day, account, month, points in booked:
        sums[Sum(date.fromisoformat(day), account, month, "PLN")] += points
    return liability(Versions.only(rules), Span.of(rules, period, instant("2027-02-01T00:00")), sums)


def figures(result: Liability) -> list[int | None]:
    amounts = [result.opening, *result.movements.values(), result.closing]
    return [amount.value for amount in amounts]


def test_money_adds_up_with_what_a_new_value_of_the_points_does_to_them() -> None:
    rules = programme(
        values='{from: "2020-01-01", points: 100, worth: "1.00"}, {from: "2026-10-16", points: 100, worth: "1.50"}'
    )
    result = reckon(
        rules,
        ("2026-09-30", Account.AVAILABLE, "2027-05", 1000),
        ("2026-10-02", Account.AVAILABLE, "2027-05", 200),
        ("2026-10-02", Account.ISSUED, "2027-05", 200),
        ("2026-10-20", Account.AVAILABLE, "2027-05", -100),
        ("2026-10-20", Account.REDEEMED, "2027-05", 100),
        ("2026-11-01", Account.AVAILABLE, "2027-05", -5),
        ("2026-11-01", Account.ADJUSTED, "2027-05", -5),
    )
    assert (result.opening.points, result.closing.points) == (1000, 1100)
    # 10.00 + 2.00 - 1.50 + revaluation = 16.50
    assert figures(result) == [1000, 200, 150, 0, 0, 0, 1650]
    assert result.revaluation == 600
    assert result.expected_breakage == 206  # 206.25
    assert result.point_value is not None
    assert result.point_value.minor_units == 150


def test_rows_and_lines_add_up_to_the_rounded_sums() -> None:
    rules = programme(values='{from: "2020-01-01", points: 3, worth: "0.01"}')
    booked = []
    for n in range(1, 8):
        booked += [
            (f"2026-10-0{n}", Account.AVAILABLE, f"2027-0{n}", 1),
            (f"2026-10-0{n}", Account.ISSUED, f"2027-0{n}", 1),
        ]
    result = reckon(rules, *booked)
    assert (result.closing.points, result.closing.value) == (7, 2)
    assert sum(row.value or 0 for row in result.rows) == 2
    assert [line.value for line in result.journal] == [0, 1, 0, 0, 1, 0, 0]
    assert result.movements[Movement.ISSUED].value == 2
    assert result.revaluation == 0


@pytest.mark.parametrize(("points", "value"), [(1, 0), (3, 2), (5, 2), (7, 4), (-1, 0), (-3, -2)])
def test_half_a_minor_unit_goes_to_the_even_one(points: int, value: int) -> None:
    rules = programme(values='{from: "2020-01-01", points: 2, worth: "0.01"}')
    assert reckon(rules, ("2026-10-05", Account.HELD, "", points)).closing.value == value


def test_the_opening_is_what_the_period_before_closed_with() -> None:
    rules = programme(
        values='{from: "2020-01-01", points: 7, worth: "0.03"}, {from: "2026-11-01", points: 7, worth: "0.04"}'
    )
    booked = [
        (day, account, "2027-05", points)
        for day, points in (("2026-09-30", 1000), ("2026-10-31", 33), ("2026-11-01", 1))
        for account in (Account.PENDING, Account.ISSUED)
    ]
    october, november = reckon(rules, *booked), reckon(rules, *booked, period="2026-11")
    assert november.opening == october.closing
    assert november.opening.points == 1033
    year = reckon(rules, *booked, period="2026")
    assert (year.opening.points, year.movements[Movement.ISSUED].points, year.closing.points) == (0, 1034, 1034)


def test_what_runs_ahead_of_the_clock_is_in_the_open_period_until_it_closes() -> None:
    ahead = {Sum(date(2026, 11, 1), account, "", "PLN"): 5 for account in (Account.AVAILABLE, Account.ISSUED)}
    for now, points in (("2026-10-31T23:59", 5), ("2026-11-01T00:00", 0)):
        result = liability(Versions.only(programme()), Span.of(programme(), "2026-10", instant(now)), ahead)
        assert (result.movements[Movement.ISSUED].points, result.closing.points) == (points, points)
        assert [line.day for line in result.journal] == [date(2026, 10, 31)] * (points > 0)


def test_without_a_value_there_is_no_money() -> None:
    result = reckon(programme(), ("2026-10-05", Account.AVAILABLE, "", 5), ("2026-10-05", Account.ISSUED, "", 5))
    assert figures(result) == [None] * 7
    assert (result.revaluation, result.expected_breakage, result.point_value) == (None, None, None)
    assert [result.rows[0].value, result.journal[0].value] == [None, None]
    assert result.closing.points == 5


def test_before_the_first_value_points_are_worth_nothing() -> None:
    rules = programme(values='{from: "2026-10-10", points: 1, worth: "1.00"}')
    result = reckon(rules, ("2026-09-05", Account.AVAILABLE, "", 5))
    assert (result.opening.value, result.revaluation, result.closing.value) == (0, 500, 500)


def test_debt_stands_apart_and_points_without_an_expiry_day_come_last() -> None:
    result = reckon(
        programme(),
        ("2026-10-05", Account.DEBT, "", 5),
        ("2026-10-05", Account.REDEEMED, "", 5),
        ("2026-10-06", Account.AVAILABLE, "", 3),
        ("2026-10-06", Account.HELD, "2027-05", 2),
        ("2026-10-06", Account.PENDING, "2026-12", 1),
        ("2026-10-07", Account.HELD, "2026-11", 4),
        ("2026-10-08", Account.HELD, "2026-11", -4),
    )
    assert (result.debt, result.closing.points) == (5, 6)
    assert [(row.expiry_month, row.pending, row.available, row.held) for row in result.rows] == [
        ("2026-12", 1, 0, 0),
        ("2027-05", 0, 0, 2),
        ("", 0, 3, 0),
    ]
    assert [(line.movement.value, line.points) for line in result.journal] == [("redeemed", 5), ("debt", 5)]
