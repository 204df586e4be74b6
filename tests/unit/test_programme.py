"""The programme file: what it means, and what a wrong one says."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.programme import (
    MINOR_UNIT_DIGITS,
    VARIABLES,
    Adjustments,
    Base,
    Bonus,
    Expiry,
    ExpiryPolicy,
    Liability,
    Message,
    PointValue,
    Problem,
    Programme,
    ProgrammeError,
    Redemption,
    Shortfall,
    TierWindow,
    Window,
    format_amount,
    format_percent,
    load,
    parse,
    points_for,
    render,
)
from services.programme.campaigns import TriggerKind
from services.programme.document import Document, KeyPath
from services.programme.shape import MAX_MINOR_UNITS
from services.programme.templates import check

PRESETS = Path(__file__).parents[2] / "programmes"
DEMO = load(PRESETS / "retail-demo.yaml")
GOOD = """\
programme: shop
currency: USD
time_zone: America/New_York
earning:
  base: goods_paid
  points: 1
  per: "1.00"
tiers:
  base: total
  window: P365D
  levels:
    - name: White
    - name: Green
      from: "300.00"
      earning_multiplier: "1.25"
    - name: Silver
      from: "1000.00"
      discount_percent: "8"
campaigns:
  - id: green-reached
    trigger: tier_reached
    tiers: [green]
    coupon: {prefix: GREEN, discount_percent: "5", valid: P30D}
    message:
      subject: "Welcome to {{ tier }}"
      text: |
        Hello,

        {{ code }}
  - id: silver-reached
    trigger: tier_reached
    tiers: [silver]
    coupon:
      prefix: SILVER
      discount_amount: "10.00"
      valid: P1Y
    message:
      subject: Silver
      text: "{{ code }}"
"""
RICH = GOOD.replace(
    '  per: "1.00"\n',
    """\
  per: "1.00"
  pending: P14D
  bonuses:
    - id: summer-double
      multiplier: "2"
      from: "2026-06-01"
      until: "2026-08-31"
      weekdays: [sat, sun]
      minimum: "50.00"
      departments: [DAIRY, BAKERY]
    - id: first-shop
      points: 200
      first_purchase: true
expiry:
  policy: after
  period: P1Y
redemption:
  minimum: 500
  step: 100
returns:
  shortfall: forgive
adjustments:
  per_call: 1000
  per_day: 5000
back_dating: P90D
liability:
  values:
    - from: "2017-01-01"
      points: 100
      worth: "1.00"
    - from: "2026-01-01"
      points: 90
      worth: "0.80"
  breakage_percent: "15"
""",
)

# The odd ones: a gap or a repeat at midnight (Sao_Paulo, Beirut, St_Johns: at 00:01), a half-hour shift
# (Lord_Howe), a day that never was (Apia), winter time in summer (Casablanca).
ZONES = [
    "Europe/Warsaw", "Europe/London", "America/New_York", "America/Sao_Paulo", "America/St_Johns", "Asia/Beirut",
    "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "America/Havana", "UTC",
]  # fmt: skip


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def with_zone(time_zone: str) -> Programme:
    return Programme(
        name="any",
        version="any@0",
        currency="PLN",
        minor_unit_digits=2,
        time_zone=time_zone,
        earning=DEMO.earning,
        tiers=DEMO.tiers,
        campaigns=(),
    )


zones = st.sampled_from(ZONES)
days = st.dates(date(1970, 1, 2), date(2112, 1, 1))
instants = st.integers(0, 2**52).map(lambda us: datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us))
windows = st.one_of(
    st.integers(1, 36_600).map(lambda days: Window(days=days)),
    st.integers(1, 1_200).map(lambda months: Window(months=months)),
    st.integers(1, 100).map(lambda years: Window(years=years)),
)


# --- windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "zone, window, start, end",
    [
        # Winter to summer and back: the clock on the wall is the same, the hours between are not.
        ("Europe/Warsaw", Window(days=365), "2025-01-15T11:00", "2026-01-15T11:00"),
        ("Europe/Warsaw", Window(days=180), "2026-01-15T11:00", "2026-07-14T10:00"),
        ("Europe/London", Window(days=180), "2026-01-15T12:00", "2026-07-14T11:00"),
        ("America/New_York", Window(days=180), "2026-01-15T17:00", "2026-07-14T16:00"),
        # The night the clock goes forward: 02:30 (01:30 in London) does not exist, and becomes an hour later.
        ("Europe/Warsaw", Window(days=1), "2026-03-28T01:30", "2026-03-29T01:30"),
        ("Europe/London", Window(days=1), "2026-03-28T01:30", "2026-03-29T01:30"),
        ("America/New_York", Window(days=1), "2026-03-07T07:30", "2026-03-08T07:30"),
        # The night it goes back: 02:30 (01:30 in London and New York) comes twice, and is the first.
        ("Europe/Warsaw", Window(days=1), "2026-10-24T00:30", "2026-10-25T00:30"),
        ("Europe/London", Window(days=1), "2026-10-24T00:30", "2026-10-25T00:30"),
        ("America/New_York", Window(days=1), "2026-10-31T05:30", "2026-11-01T05:30"),
        # From either showing of the repeated hour, the day after is one instant.
        ("Europe/Warsaw", Window(days=1), "2026-10-25T00:30", "2026-10-26T01:30"),
        ("Europe/Warsaw", Window(days=1), "2026-10-25T01:30", "2026-10-26T01:30"),
        # From the second showing into a night when it comes twice again: the first.
        ("Europe/Warsaw", Window(days=371), "2026-10-25T01:30", "2027-10-31T00:30"),
        # 365 days across a 29 February end a day early, a year does not.
        ("Europe/Warsaw", Window(days=365), "2023-06-01T10:00", "2024-05-31T10:00"),
        ("Europe/Warsaw", Window(years=1), "2023-06-01T10:00", "2024-06-01T10:00"),
        # 29 February, in local time.
        ("Europe/Warsaw", Window(years=1), "2024-02-29T12:00", "2025-02-28T12:00"),
        ("Europe/Warsaw", Window(years=4), "2024-02-29T12:00", "2028-02-29T12:00"),
        ("Europe/Warsaw", Window(years=1), "2024-02-28T23:30", "2025-02-27T23:30"),
        ("America/New_York", Window(years=1), "2024-03-01T02:00", "2025-03-01T02:00"),
        # Months, of whatever length; past the year's end; the clock changed in between.
        ("Europe/Warsaw", Window(months=1), "2026-01-15T11:00", "2026-02-15T11:00"),
        ("Europe/Warsaw", Window(months=6), "2026-01-15T11:00", "2026-07-15T10:00"),
        ("Europe/Warsaw", Window(months=18), "2025-12-31T23:30", "2027-06-30T22:30"),
        ("Europe/Warsaw", Window(months=12), "2023-12-15T11:00", "2024-12-15T11:00"),
        # A day that the month does not have, in local time: its last.
        ("Europe/Warsaw", Window(months=1), "2026-01-31T11:00", "2026-02-28T11:00"),
        ("Europe/Warsaw", Window(months=1), "2028-01-31T11:00", "2028-02-29T11:00"),
        ("Europe/Warsaw", Window(months=12), "2024-02-29T12:00", "2025-02-28T12:00"),
        ("America/New_York", Window(months=1), "2026-02-01T02:00", "2026-03-01T02:00"),
        # The nights of the clock change, as for days.
        ("Europe/Warsaw", Window(months=1), "2026-02-28T01:30", "2026-03-28T01:30"),
        ("Europe/Warsaw", Window(months=1), "2027-02-28T01:30", "2027-03-28T01:30"),
        ("Europe/Warsaw", Window(months=1), "2026-09-25T00:30", "2026-10-25T00:30"),
        # A local day that never was: forward by the gap, here a whole day.
        ("Pacific/Apia", Window(days=1), "2011-12-29T20:00", "2011-12-30T20:00"),
    ],
)
def test_a_window_ends_when_the_wall_shows_the_same_time_again(zone: str, window: Window, start: str, end: str) -> None:
    assert window.end(utc(start), ZoneInfo(zone)) == utc(end)


def test_a_window_keeps_microseconds_and_answers_in_utc() -> None:
    end = Window(days=1).end(utc("2026-01-01T10:00:00.000001"), ZoneInfo("Europe/Warsaw"))
    assert end == utc("2026-01-02T10:00:00.000001")
    assert end.tzinfo is UTC


@given(windows, instants, zones)
@example(Window(days=1), utc("2026-10-25T01:30"), "Europe/Warsaw")
def test_a_window_ends_after_it_starts(window: Window, start: datetime, zone: str) -> None:
    assert window.end(start, ZoneInfo(zone)) > start


@given(windows, instants, zones)
def test_a_window_does_not_depend_on_the_zone_its_start_is_written_in(
    window: Window, start: datetime, zone: str
) -> None:
    assert window.end(start.astimezone(ZoneInfo(zone)), ZoneInfo(zone)) == window.end(start, ZoneInfo(zone))


@pytest.mark.parametrize(
    "fields",
    [
        {}, {"days": 1, "years": 1}, {"days": 1, "months": 1}, {"months": 0, "years": 1},
        {"days": 0}, {"years": 0}, {"days": -1}, {"months": -1},
    ],
)  # fmt: skip
def test_a_window_is_days_months_or_years_and_at_least_one_but_for_months(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="window"):
        Window(**fields)


@pytest.mark.parametrize(
    "window, day, last",
    [
        (Window(days=1), "2026-12-31", "2027-01-01"),
        (Window(days=365), "2024-01-01", "2024-12-31"),
        (Window(days=365), "2024-02-29", "2025-02-28"),
        (Window(months=0), "2026-12-31", "2026-12-31"),
        (Window(months=1), "2026-01-31", "2026-02-28"),
        (Window(months=1), "2028-01-31", "2028-02-29"),
        (Window(months=1), "2026-08-31", "2026-09-30"),
        (Window(months=1), "2026-12-31", "2027-01-31"),
        (Window(months=12), "2024-02-29", "2025-02-28"),
        (Window(months=13), "2026-11-30", "2027-12-30"),
        (Window(months=24), "2026-12-01", "2028-12-01"),
        (Window(years=1), "2024-02-29", "2025-02-28"),
        (Window(years=4), "2024-02-29", "2028-02-29"),
        (Window(years=1), "2025-02-28", "2026-02-28"),
    ],
)
def test_the_last_day_of_a_window_is_the_month_s_last_where_it_has_no_such_day(
    window: Window, day: str, last: str
) -> None:
    assert window.last_day(date.fromisoformat(day)) == date.fromisoformat(last)


@given(windows, instants, zones)
def test_a_window_ends_on_its_last_day_unless_the_clock_leaves_it_out(
    window: Window, start: datetime, zone: str
) -> None:
    here = ZoneInfo(zone)
    last = window.last_day(start.astimezone(here).date())
    # A gap across midnight moves the end to the day after.
    assert (window.end(start, here).astimezone(here).date() - last).days in (0, 1)


@pytest.mark.parametrize("window", [Window(days=36_600), Window(months=1_200), Window(years=100)])
def test_a_last_day_beyond_the_calendar_is_an_overflow(window: Window) -> None:
    with pytest.raises(OverflowError):
        window.last_day(date(9999, 12, 30))


def test_a_time_without_zone_is_refused_wherever_it_comes_in() -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 the point
    with pytest.raises(ValueError, match="aware"):
        Window(days=1).end(naive, ZoneInfo("UTC"))
    with pytest.raises(ValueError, match="aware"):
        DEMO.local_day(naive)
    with pytest.raises(ValueError, match="aware"):
        DEMO.start_of_next_local_day(naive)


@pytest.mark.parametrize("window", [Window(days=36_600), Window(months=1_200), Window(years=100)])
def test_a_window_beyond_the_calendar_is_an_overflow(window: Window) -> None:
    with pytest.raises(OverflowError):
        window.end(utc("9999-12-30T00:00"), ZoneInfo("Europe/Warsaw"))


# --- local days -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "zone, t, start",
    [
        ("Europe/Warsaw", "2026-01-15T22:59", "2026-01-15T23:00"),
        ("Europe/Warsaw", "2026-01-15T23:00", "2026-01-16T23:00"),
        ("Europe/Warsaw", "2026-03-28T23:30", "2026-03-29T22:00"),  # a day of 23 hours
        ("Europe/Warsaw", "2026-10-24T22:30", "2026-10-25T23:00"),  # a day of 25
        ("Europe/London", "2026-03-29T00:00", "2026-03-29T23:00"),
        ("Europe/London", "2026-10-25T00:00", "2026-10-26T00:00"),
        ("America/New_York", "2026-03-08T05:00", "2026-03-09T04:00"),
        ("America/New_York", "2026-11-01T04:00", "2026-11-02T05:00"),
        ("America/Sao_Paulo", "2018-11-03T15:00", "2018-11-04T03:00"),  # no midnight: the day begins at 01:00
        ("America/Toronto", "1919-03-31T00:00", "1919-03-31T04:30"),  # 23:30 became 00:30, the day's first instant
        ("America/St_Johns", "2010-11-07T02:00", "2010-11-07T02:30"),  # set back at 00:01: the first midnight
        ("America/St_Johns", "2010-11-07T02:45", "2010-11-07T03:30"),  # and in the second evening the second
        ("Pacific/Apia", "2011-12-29T20:00", "2011-12-30T10:00"),  # 30 December never was
    ],
)
def test_the_next_local_day_begins_at_its_first_instant(zone: str, t: str, start: str) -> None:
    assert with_zone(zone).start_of_next_local_day(utc(t)) == utc(start)


@given(instants, zones)
@example(utc("2010-11-07T02:45"), "America/St_Johns")
@example(utc("2018-11-03T15:00"), "America/Sao_Paulo")
def test_the_next_local_day_is_later_and_directly_after_this_one(t: datetime, zone: str) -> None:
    programme = with_zone(zone)
    today, start = programme.local_day(t), programme.start_of_next_local_day(t)
    days = (programme.local_day(start) - today).days
    assert start > t
    assert days == 1 or (zone, today) == ("Pacific/Apia", date(2011, 12, 29))
    assert programme.local_day(start - timedelta(microseconds=1)) == today


@pytest.mark.parametrize(
    "zone, day, start",
    [
        ("UTC", "2026-01-16", "2026-01-16T00:00"),
        ("Europe/Warsaw", "2026-01-16", "2026-01-15T23:00"),
        ("Europe/Warsaw", "2026-03-29", "2026-03-28T23:00"),  # the clock goes forward later that night
        ("Europe/Warsaw", "2026-03-30", "2026-03-29T22:00"),
        ("Europe/Warsaw", "2026-10-25", "2026-10-24T22:00"),
        ("Europe/Warsaw", "2026-10-26", "2026-10-25T23:00"),
        ("America/New_York", "2026-03-09", "2026-03-09T04:00"),
        ("America/Sao_Paulo", "2018-11-03", "2018-11-03T03:00"),
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00"),  # no midnight: the day begins at 01:00
        ("America/Sao_Paulo", "2018-11-05", "2018-11-05T02:00"),
        ("America/Sao_Paulo", "2019-02-17", "2019-02-17T03:00"),  # set back at midnight to 23:00: there is one midnight
        ("Asia/Beirut", "2026-03-29", "2026-03-28T22:00"),  # no midnight
        ("America/Toronto", "1919-03-31", "1919-03-31T04:30"),  # 23:30 became 00:30
        ("America/St_Johns", "2010-11-07", "2010-11-07T02:30"),  # set back at 00:01: the first midnight
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00"),  # never was: the start of the day after
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00"),
    ],
)
def test_a_local_day_begins_at_its_first_instant(zone: str, day: str, start: str) -> None:
    begins = with_zone(zone).start_of_local_day(date.fromisoformat(day))
    assert begins == utc(start)
    assert begins.tzinfo is UTC


@given(days, zones)
@example(date(2018, 11, 4), "America/Sao_Paulo")
@example(date(2026, 3, 29), "Asia/Beirut")
@example(date(2011, 12, 30), "Pacific/Apia")
def test_up_to_the_start_of_a_local_day_it_is_an_earlier_one(day: date, zone: str) -> None:
    programme = with_zone(zone)
    start = programme.start_of_local_day(day)
    assert programme.local_day(start - timedelta(microseconds=1)) < day <= programme.local_day(start)


def test_programmes_of_two_zones_do_not_share_their_days() -> None:
    day = date(2026, 1, 16)
    starts = [with_zone(zone).start_of_local_day(day) for zone in ("Europe/Warsaw", "UTC", "Europe/Warsaw")]
    assert starts == [utc("2026-01-15T23:00"), utc("2026-01-16T00:00"), utc("2026-01-15T23:00")]


# --- the life of points -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy, period, activates, last",
    [
        (ExpiryPolicy.NEVER, None, "2026-03-01", None),
        # When it ends is told by what the member does, and not by the day they became active.
        (ExpiryPolicy.INACTIVITY, Window(months=18), "2026-03-01", None),
        (ExpiryPolicy.AFTER, Window(years=1), "2026-03-01", "2027-03-01"),
        (ExpiryPolicy.AFTER, Window(years=1), "2024-02-29", "2025-02-28"),
        (ExpiryPolicy.AFTER, Window(months=18), "2026-08-31", "2028-02-29"),
        (ExpiryPolicy.AFTER, Window(days=30), "2026-12-15", "2027-01-14"),
        (ExpiryPolicy.CALENDAR_YEAR, Window(months=0), "2026-01-01", "2026-12-31"),
        (ExpiryPolicy.CALENDAR_YEAR, Window(months=0), "2026-12-31", "2026-12-31"),
        (ExpiryPolicy.CALENDAR_YEAR, Window(months=3), "2026-01-01", "2027-03-31"),
        (ExpiryPolicy.CALENDAR_YEAR, Window(months=2), "2027-06-15", "2028-02-29"),
        (ExpiryPolicy.CALENDAR_YEAR, Window(months=2), "2026-06-15", "2027-02-28"),
        (ExpiryPolicy.CALENDAR_YEAR, Window(months=36), "2026-12-31", "2029-12-31"),
    ],
)
def test_points_last_through_the_day_that_the_policy_says(
    policy: ExpiryPolicy, period: Window | None, activates: str, last: str | None
) -> None:
    day = Expiry(policy=policy, period=period).last_day(date.fromisoformat(activates))
    assert day == (None if last is None else date.fromisoformat(last))


def test_points_have_the_value_of_the_latest_day_reached_and_none_before_the_first() -> None:
    first = PointValue(from_day=date(2017, 1, 1), points=100, minor_units=1_00)
    second = PointValue(from_day=date(2026, 1, 1), points=100, minor_units=80)
    liability = Liability(values=(first, second), breakage_bp=0)
    assert [
        liability.value_at(date.fromisoformat(day))
        for day in ("2016-12-31", "2017-01-01", "2025-12-31", "2026-01-01", "2112-01-01")
    ] == [None, first, first, second, second]


# --- tiers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "balance, name",
    [
        (-1, "White"),
        (-MAX_MINOR_UNITS, "White"),
        (0, "White"),
        (299_99, "White"),
        (300_00, "Green"),
        (999_99, "Green"),
        (1000_00, "Silver"),
        (1999_99, "Silver"),
        (2000_00, "Golden"),
        (MAX_MINOR_UNITS, "Golden"),
    ],
)
@pytest.mark.parametrize("preset", ["tiered-365", "tiered-365-gbp", "retail-demo"])
def test_a_level_holds_from_its_own_amount_up_to_the_next(preset: str, balance: int, name: str) -> None:
    assert load(PRESETS / f"{preset}.yaml").tiers.level_for(balance).name == name


def test_levels_are_numbered_from_one_and_know_the_next() -> None:
    tiers = DEMO.tiers
    assert [level.number for level in tiers.levels] == [1, 2, 3, 4]
    assert [tiers.level(number) for number in (1, 2, 3, 4)] == list(tiers.levels)
    assert [tiers.next_level(level) for level in tiers.levels] == [*tiers.levels[1:], None]
    for number in (0, 5, -1):
        with pytest.raises(LookupError):
            tiers.level(number)


# --- points and money -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "base, points, per, multiplier, expected",
    [
        (100_00, 10, 1_00, 10_000, 1000),  # R1
        (295_00, 1, 1_00, 10_000, 295),
        (99, 1, 1_00, 10_000, 0),
        (1_00, 1, 1_00, 10_000, 1),
        (1_99, 1, 1_00, 12_500, 2),  # 2.4875: floored once, after the factor
        (79, 1, 1_00, 12_500, 0),
        (80, 1, 1_00, 12_500, 1),
        (0, 1, 1_00, 10_000, 0),
        (-5_00, 1, 1_00, 10_000, 0),
        (1000, 1, 100, 20_000, 20),
        (100_00, 0, 1_00, 10_000, 0),
    ],
)
def test_points_are_floored_once_and_never_negative(
    base: int, points: int, per: int, multiplier: int, expected: int
) -> None:
    assert points_for(base, points, per, multiplier) == expected


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(1, 10_000), st.integers(1, 10**6))
def test_splitting_a_receipt_never_gains_points(one: int, other: int, points: int, multiplier: int) -> None:
    together = points_for(one + other, points, 1_00, multiplier)
    apart = points_for(one, points, 1_00, multiplier) + points_for(other, points, 1_00, multiplier)
    assert apart <= together <= apart + 1


def test_money_is_written_with_the_digits_of_its_currency() -> None:
    assert DEMO.format_money(295_00) == "295.00 USD"
    assert DEMO.format_money(-5) == "-0.05 USD"
    assert [format_amount(amount, 0) for amount in (300, -7, 0)] == ["300", "-7", "0"]
    assert [format_amount(amount, 3) for amount in (1_234, -7, 0)] == ["1.234", "-0.007", "0.000"]
    assert [format_percent(bp) for bp in (500, 1000, 750, 25, 0, 10_000)] == [
        "5 %", "10 %", "7.5 %", "0.25 %", "0 %", "100 %",
    ]  # fmt: skip


def test_active_currencies_have_their_minor_unit_and_withdrawn_ones_are_unknown() -> None:
    assert [MINOR_UNIT_DIGITS[code] for code in ("PLN", "EUR", "XCG", "JPY", "KWD", "CLF")] == [2, 2, 2, 0, 3, 4]
    assert not MINOR_UNIT_DIGITS.keys() & {"BGN", "HRK", "ANG", "XXX", "XAU"}
    assert all(len(code) == 3 and code.isalpha() and code.isupper() for code in MINOR_UNIT_DIGITS)


# --- presets and versions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_loads_under_its_own_name(path: Path) -> None:
    assert load(path).name == path.stem


def test_the_examples_in_the_docs_load() -> None:
    page = (PRESETS.parent / "docs" / "programme.md").read_text(encoding="utf-8")
    programme, other = (parse(part.split("```")[0], "docs/programme.md") for part in page.split("```yaml\n")[1:])
    assert other.market("gb").tiers.level_for(260_00).name == "Regular"
    assert programme.campaigns[0].tiers == ("regular",)
    assert programme.expiry.last_day(date(2026, 5, 1)) == date(2027, 3, 31)


def test_the_demo_says_all_it_means() -> None:
    assert (DEMO.currency, DEMO.time_zone, DEMO.minor_unit_digits) == ("USD", "America/New_York", 2)
    assert (DEMO.earning.base, DEMO.tiers.base) == (Base.GOODS_PAID, Base.TOTAL)
    assert DEMO.tiers.window == TierWindow.rolling(Window(days=365))
    assert (DEMO.earning.points, DEMO.earning.per_minor_units, DEMO.earning.sign_up_bonus) == (1, 1_00, 100)
    assert DEMO.earning.class_multipliers_bp == {"white": 10_000, "green": 12_500, "silver": 15_000, "golden": 20_000}
    assert [level.discount_bp for level in DEMO.tiers.levels] == [0, 500, 800, 1000]
    reached = [campaign for campaign in DEMO.campaigns if campaign.trigger.kind is TriggerKind.TIER_REACHED]
    assert [campaign.tiers for campaign in reached] == [("green",), ("silver",), ("golden",)]
    assert [(c.coupon.offer.percent_bp, c.coupon.offer.amount) for c in reached] == [
        (500, None), (None, 10_00), (1500, None),
    ]  # fmt: skip
    others = [campaign for campaign in DEMO.campaigns if campaign not in reached]
    assert [(c.id, c.trigger.days, c.trigger.visits, c.trigger.points, c.control_bp) for c in others] == [
        ("first-basket", 0, 0, 0, 0), ("come-back", 90, 0, 0, 1000), ("hundredth-visit", 0, 100, 0, 0),
        ("free-shipping", 0, 0, 25_000, 0),
    ]  # fmt: skip
    # Points that the ledger is asked for would come at another instant in each load.
    assert not any(variant.actions.points for campaign in DEMO.campaigns for variant in campaign.variants)
    assert DEMO.expiry == Expiry(policy=ExpiryPolicy.AFTER, period=Window(years=1))
    assert DEMO.redemption == Redemption(minimum=500, step=100)
    assert DEMO.liability == Liability(
        values=(PointValue(from_day=date(1990, 1, 1), points=100, minor_units=1_00),), breakage_bp=1000
    )


def test_a_file_that_says_all_is_read_as_it_stands() -> None:
    programme = parse(RICH, "x")
    assert programme.earning.pending_days == 14
    assert programme.earning.bonuses == (
        Bonus(
            id="summer-double", points=None, multiplier_bp=20_000,
            from_day=date(2026, 6, 1), until_day=date(2026, 8, 31), weekdays=frozenset({5, 6}),
            minimum_minor_units=50_00, departments=frozenset({"DAIRY", "BAKERY"}), first_purchase=False,
        ),
        Bonus(
            id="first-shop", points=200, multiplier_bp=None,
            from_day=None, until_day=None, weekdays=frozenset(),
            minimum_minor_units=0, departments=frozenset(), first_purchase=True,
        ),
    )  # fmt: skip
    assert programme.expiry == Expiry(policy=ExpiryPolicy.AFTER, period=Window(years=1))
    assert programme.redemption == Redemption(minimum=500, step=100)
    assert programme.shortfall is Shortfall.FORGIVE
    assert programme.adjustments == Adjustments(per_call=1000, per_day=5000)
    assert programme.back_dating == Window(days=90)
    assert programme.liability == Liability(
        values=(
            PointValue(from_day=date(2017, 1, 1), points=100, minor_units=1_00),
            PointValue(from_day=date(2026, 1, 1), points=90, minor_units=80),
        ),
        breakage_bp=1500,
    )


def test_what_a_file_leaves_out_changes_nothing() -> None:
    programme = parse(GOOD, "x")
    assert (programme.earning.pending_days, programme.earning.bonuses) == (0, ())
    assert programme.expiry == Expiry(policy=ExpiryPolicy.NEVER, period=None)
    assert programme.redemption == Redemption(minimum=1, step=1)
    assert programme.shortfall is Shortfall.DEBT
    assert programme.adjustments == Adjustments(per_call=None, per_day=None)
    assert (programme.back_dating, programme.liability) == (None, None)


@pytest.mark.parametrize(
    "right, other, read, expected",
    [
        ("pending: P14D", "pending: P1D", lambda p: p.earning.pending_days, 1),
        ("pending: P14D", "pending: P36600D", lambda p: p.earning.pending_days, 36_600),
        ('multiplier: "2"', 'multiplier: "1.0001"', lambda p: p.earning.bonuses[0].multiplier_bp, 10_001),
        ('multiplier: "2"', 'multiplier: "100"', lambda p: p.earning.bonuses[0].multiplier_bp, 1_000_000),
        ("points: 200", "points: 1", lambda p: p.earning.bonuses[1].points, 1),
        ("points: 200", "points: 1000000", lambda p: p.earning.bonuses[1].points, 1_000_000),
        ('until: "2026-08-31"', 'until: "2026-06-01"', lambda p: p.earning.bonuses[0].until_day, date(2026, 6, 1)),
        ('from: "2026-06-01"', 'from: "2024-02-29"', lambda p: p.earning.bonuses[0].from_day, date(2024, 2, 29)),
        ('from: "2026-06-01"', 'from: "1900-01-01"', lambda p: p.earning.bonuses[0].from_day, date(1900, 1, 1)),
        ('until: "2026-08-31"', 'until: "2999-12-31"', lambda p: p.earning.bonuses[0].until_day, date(2999, 12, 31)),
        (
            "[sat, sun]", "[sun, mon, tue, wed, thu, fri, sat]",
            lambda p: p.earning.bonuses[0].weekdays, frozenset(range(7)),
        ),
        ('minimum: "50.00"', 'minimum: "0.01"', lambda p: p.earning.bonuses[0].minimum_minor_units, 1),
        ("[DAIRY, BAKERY]", f"[{'x' * 100}]", lambda p: p.earning.bonuses[0].departments, frozenset({"x" * 100})),
        ("first_purchase: true", "first_purchase: false", lambda p: p.earning.bonuses[1].first_purchase, False),
        ("period: P1Y", "period: P18M", lambda p: p.expiry.period, Window(months=18)),
        ("period: P1Y", "period: P1200M", lambda p: p.expiry.period, Window(months=1200)),
        ("policy: after\n  period: P1Y", "policy: never", lambda p: p.expiry.period, None),
        ("policy: after", "policy: inactivity", lambda p: p.expiry.policy, ExpiryPolicy.INACTIVITY),
        (
            "policy: after\n  period: P1Y", "policy: calendar_year\n  period: P0M",
            lambda p: p.expiry, Expiry(policy=ExpiryPolicy.CALENDAR_YEAR, period=Window(months=0)),
        ),
        (
            "policy: after\n  period: P1Y", "policy: calendar_year\n  period: P36M",
            lambda p: p.expiry.period, Window(months=36),
        ),
        ("minimum: 500", "minimum: 1", lambda p: p.redemption.minimum, 1),
        ("  minimum: 500\n", "", lambda p: p.redemption, Redemption(minimum=1, step=100)),
        ("step: 100", "step: 1000000000", lambda p: p.redemption.step, 10**9),
        ("shortfall: forgive", "shortfall: refuse", lambda p: p.shortfall, Shortfall.REFUSE),
        ("shortfall: forgive", "shortfall: debt", lambda p: p.shortfall, Shortfall.DEBT),
        ("per_call: 1000", "per_call: 0", lambda p: p.adjustments.per_call, 0),
        ("  per_day: 5000\n", "", lambda p: p.adjustments, Adjustments(per_call=1000, per_day=None)),
        ("back_dating: P90D", "back_dating: P2Y", lambda p: p.back_dating, Window(years=2)),
        ("back_dating: P90D", "back_dating: P3M", lambda p: p.back_dating, Window(months=3)),
        ("points: 90", "points: 1", lambda p: p.liability.values[1].points, 1),
        ('worth: "0.80"', 'worth: "0.01"', lambda p: p.liability.values[1].minor_units, 1),
        ('  breakage_percent: "15"\n', "", lambda p: p.liability.breakage_bp, 0),
        ('breakage_percent: "15"', 'breakage_percent: "100"', lambda p: p.liability.breakage_bp, 10_000),
        ("window: P365D", "window: P12M", lambda p: p.tiers.window.span, Window(months=12)),
        ("valid: P1Y", "valid: P6M", lambda p: p.campaigns[1].coupon.valid, Window(months=6)),
    ],
)  # fmt: skip
def test_a_value_at_the_edge_of_what_is_right_is_taken(
    right: str, other: str, read: Callable[[Programme], object], expected: object
) -> None:
    assert RICH.count(right) == 1
    assert read(parse(RICH.replace(right, other), "x")) == expected


def test_the_version_changes_with_the_content_and_not_with_the_layout() -> None:
    version = parse(GOOD, "x").version
    head, _, campaigns = GOOD.partition("campaigns:")
    relaid = GOOD.replace('"1.00"', "'1.00' # a comment").replace("tiers: [green]", "tiers:\n      - green")
    assert version == "shop@bcd56b3f80e8"
    assert parse(relaid, "x").version == parse(f"campaigns:{campaigns}{head}", "x").version == version
    assert parse(GOOD.replace("points: 1", "points: 2"), "x").version != version


def test_a_currency_without_minor_unit_takes_whole_amounts() -> None:
    yen = GOOD.replace("USD", "JPY").replace(".00", "")
    assert parse(yen, "x").tiers.levels[1].threshold == 300


# --- what a wrong file says -------------------------------------------------------------------------------------------


def problems(text: str) -> list[str]:
    with pytest.raises(ProgrammeError) as refused:
        parse(text, "shop.yaml")
    return str(refused.value).splitlines()


KEYS = (
    "programme, currency, time_zone, earning, expiry, redemption, returns, adjustments, support, checkout, "
    "back_dating, liability, tiers, rates, markets, rewards, messages, campaigns, surveys, badges"
)
WINDOW = 'days such as "P365D", months such as "P18M" or years such as "P1Y", at most 100 years'
TIER_WINDOW = f"{WINDOW}; or calendar_year, calendar_half, calendar_quarter, anniversary or lifetime"
DAY = 'a day in quotes, of the years 1900 to 2999, such as "2026-06-01"'
LIMIT = "a whole number without quotes, 1 to 1,000,000,000"

WRONG = {
    "an unknown key": (
        'form: "300.00"', 'from: "300.00"',
        ["shop.yaml:13: tiers.levels[1].from: is missing; only the first level has none: say from which amount",
         'shop.yaml:14: tiers.levels[1].form: unknown key; did you mean "from"?'],
    ),
    "a key like no other": (
        "currency: USD\ncolour: red", "currency: USD",
        ["shop.yaml:3: colour: unknown key; "
         f"the keys here are {KEYS}"],
    ),
    "a missing key": (
        "", "  window: P365D\n",
        ['shop.yaml:8: tiers.window: is missing; '
         f'expected {TIER_WINDOW}'],
    ),
    "a number in quotes": (
        'points: "1"', "points: 1",
        ['shop.yaml:6: earning.points: found "1"; expected a whole number without quotes, 0 to 1,000,000'],
    ),
    "a truth value for a number": (
        "points: true", "points: 1",
        ["shop.yaml:6: earning.points: found true without quotes; "
         "expected a whole number without quotes, 0 to 1,000,000"],
    ),
    "a float for money": (
        "per: 1.00", 'per: "1.00"',
        ['shop.yaml:7: earning.per: found 1.00 without quotes; '
         'expected an amount in quotes with 2 decimals, such as "1.00"'],
    ),
    "a whole number for money": (
        "from: 300", 'from: "300.00"',
        ['shop.yaml:14: tiers.levels[1].from: found 300 without quotes; '
         'expected an amount in quotes with 2 decimals, such as "300.00"'],
    ),
    "money with too few decimals": (
        'from: "300.5"', 'from: "300.00"',
        ['shop.yaml:14: tiers.levels[1].from: found "300.5"; '
         'expected an amount in quotes with 2 decimals, such as "300.50"'],
    ),
    "money beyond all bounds": (
        'per: "10000000000000.01"', 'per: "1.00"',
        ['shop.yaml:7: earning.per: found "10000000000000.01"; '
         'expected an amount above zero, at most "10000000000000.00"'],
    ),
    "thresholds out of order": (
        'from: "300.00"', 'from: "1000.00"',
        ['shop.yaml:17: tiers.levels[2].from: found "300.00"; expected more than the "300.00" before it'],
    ),
    "an amount for the first level": (
        '- name: White\n      from: "0.01"', "- name: White",
        ["shop.yaml:13: tiers.levels[0].from: the first level holds for all below the next; remove this key"],
    ),
    "one level twice": (
        "name: Green", "name: Silver",
        ['shop.yaml:16: tiers.levels[2]: "green" is already the key of levels[1]; give it another',
         'shop.yaml:32: campaigns[1].tiers[0]: there is no level "silver"; there are green'],
    ),
    "a name that makes no key": (
        "name: \u2605", "name: White",
        ['shop.yaml:12: tiers.levels[0]: the name "\u2605" makes no key; add one, such as key: "green"'],
    ),
    "a name with a character that has no width": (
        'name: "Gr\u200ben"', "name: Green",
        ['shop.yaml:13: tiers.levels[1]: the name "Gr\ufffden" makes no key; add one, such as key: "green"'],
    ),
    "an unknown currency": (
        "currency: usd", "currency: USD",
        ['shop.yaml:2: currency: found "usd"; '
         'expected an active ISO 4217 code, such as "PLN"; did you mean "USD"?'],
    ),
    "an unknown time zone": (
        "time_zone: America/NewYork", "time_zone: America/New_York",
        ['shop.yaml:3: time_zone: found "America/NewYork"; '
         'expected a time zone of the IANA database, such as "Europe/Warsaw"; did you mean "America/New_York"?'],
    ),
    "weeks for a window": (
        "window: P52W", "window: P365D",
        [f'shop.yaml:10: tiers.window: found "P52W"; expected {TIER_WINDOW}'],
    ),
    "no months for a window": (
        "window: P0M", "window: P365D",
        [f'shop.yaml:10: tiers.window: found "P0M"; expected {TIER_WINDOW}'],
    ),
    "too many months for a window": (
        "window: P1201M", "window: P365D",
        [f'shop.yaml:10: tiers.window: found "P1201M"; expected {TIER_WINDOW}'],
    ),
    "a factor of nothing": (
        'earning_multiplier: "0.0000"', 'earning_multiplier: "1.25"',
        ['shop.yaml:15: tiers.levels[1].earning_multiplier: found "0.0000"; '
         'expected a factor in quotes, above "0", up to "100.0000", such as "1.25"'],
    ),
    "a percentage with its sign": (
        "discount_percent: 8%", 'discount_percent: "8"',
        ['shop.yaml:18: tiers.levels[2].discount_percent: found "8%"; '
         'expected a percentage in quotes, "0" to "100.00", such as "5"'],
    ),
    "a coupon with two discounts": (
        'discount_amount: "10.00"\n      discount_percent: "5"', 'discount_amount: "10.00"',
        ["shop.yaml:33: campaigns[1].coupon: "
         "gives two things; keep one of discount_percent, discount_amount"],
    ),
    "a coupon without discount": (
        "", '      discount_amount: "10.00"\n',
        ["shop.yaml:33: campaigns[1].coupon: gives nothing; add one of discount_percent, discount_amount, "
         "free_product, free_shipping, gift_card, upgrade, early_access, digital_content, experience"],
    ),
    "an unknown level": (
        "tiers: [gren]", "tiers: [green]",
        ['shop.yaml:22: campaigns[0].tiers[0]: there is no level "gren"; did you mean "green"?'],
    ),
    "the level where all begin": (
        "tiers: [white]", "tiers: [green]",
        ['shop.yaml:22: campaigns[0].tiers[0]: "white" is where members begin, never reached; remove it'],
    ),
    "an unknown template variable": (
        "{{ cod }}", "{{ code }}",
        ['shop.yaml:29: campaigns[0].message.text: unknown variable "cod"; did you mean "code"?'],
    ),
    "a broken template": (
        "{{ code }", "{{ code }}",
        ["shop.yaml:29: campaigns[0].message.text: the template is broken: unexpected '}'; mend it"],
    ),
    "a line break in a subject": (
        'subject: "one\\ntwo"', "subject: Silver",
        ["shop.yaml:38: campaigns[1].message.subject: the character U+000A is not allowed; "
         "expected text of 1 to 200 characters on one line"],
    ),
    "a NUL": (
        'name: "Gr\\0en"', "name: Green",
        ["shop.yaml:13: tiers.levels[1].name: the character U+0000 is not allowed; "
         "expected text of 1 to 64 characters on one line"],
    ),
    "a key twice": (
        "currency: USD\ncurrency: PLN", "currency: USD",
        ["shop.yaml:3: currency: this key is already on line 2; keep one of the two"],
    ),
    "a tab": (
        "\twindow: P365D", "  window: P365D",
        ["shop.yaml:10: this is not YAML: while scanning for the next token found character '\\t' "
         "that cannot start any token; indent with spaces, not with tabs"],
    ),
    "a colon without quotes": (
        "name: Green: the second", "name: Green",
        ["shop.yaml:13: this is not YAML: mapping values are not allowed here; "
         "put text that holds a colon in quotes, and keep the keys of one mapping below each other"],
    ),
    "an alias": (
        "base: &base total\n  window: *base", "base: total\n  window: P365D",
        ["shop.yaml:10: tiers.window: aliases (*name) are not allowed; write the value out"],
    ),
    "a merge key": (
        "earning:\n  <<: {points: 1}", "earning:",
        ["shop.yaml:5: earning.<<: unknown key; "
         "the keys here are base, points, per, sign_up_bonus, pending, bonuses, activities"],
    ),
    "a tag": (
        "name: !!python/name:os.system Green", "name: Green",
        ["shop.yaml:13: tiers.levels[1].name: the tag !!python/name:os.system is not allowed here; remove it"],
    ),
    "a list for a mapping": (
        "earning: []\nx:", "earning:",
        ["shop.yaml:4: earning: found a list; "
         "expected a mapping with the keys base, points, per, sign_up_bonus, pending, bonuses, activities",
         f"shop.yaml:5: x: unknown key; the keys here are {KEYS}"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong, right, expected", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_names_line_key_fault_and_remedy(wrong: str, right: str, expected: list[str]) -> None:
    assert right in GOOD
    assert problems(GOOD.replace(right, wrong, 1)) == expected


WRONG_POINTS = {
    "weeks of waiting": (
        "pending: P2W", "pending: P14D",
        ['shop.yaml:8: earning.pending: found "P2W"; expected days such as "P14D", at most 36,600'],
    ),
    "months of waiting": (
        "pending: P1M", "pending: P14D",
        ['shop.yaml:8: earning.pending: found "P1M"; expected days such as "P14D", at most 36,600'],
    ),
    "waiting a lifetime": (
        "pending: P36601D", "pending: P14D",
        ['shop.yaml:8: earning.pending: found "P36601D"; expected days such as "P14D", at most 36,600'],
    ),
    "a bonus by itself": (
        "bonuses: summer-double\n  x:", "bonuses:",
        ['shop.yaml:9: earning.bonuses: found "summer-double"; expected a list',
         "shop.yaml:10: earning.x: unknown key; "
         "the keys here are base, points, per, sign_up_bonus, pending, bonuses, activities"],
    ),
    "a bonus without a name": (
        "- multiplier", "- id: summer-double\n      multiplier",
        ['shop.yaml:10: earning.bonuses[0].id: is missing; '
         'expected small letters, digits and hyphens, at most 64, such as "my-shop"'],
    ),
    "a bonus named as the ledger's own rules are": (
        "id: sign_up_bonus", "id: summer-double",
        ['shop.yaml:10: earning.bonuses[0].id: found "sign_up_bonus"; '
         'expected small letters, digits and hyphens, at most 64, such as "my-shop"'],
    ),
    "a bonus named as a rule of the ledger": (
        "id: base", "id: summer-double",
        ['shop.yaml:10: earning.bonuses[0].id: "base" is what the ledger calls a rule of its own; choose another'],
    ),
    "two bonuses of one name": (
        "id: summer-double", "id: first-shop",
        ['shop.yaml:17: earning.bonuses[1].id: "summer-double" is already the id of bonuses[0]; give it another'],
    ),
    "a bonus of two kinds": (
        'multiplier: "2"\n      points: 5', 'multiplier: "2"',
        ["shop.yaml:10: earning.bonuses[0]: two kinds of bonus; keep multiplier or points"],
    ),
    "a bonus of nothing": (
        "", "      points: 200\n",
        ["shop.yaml:17: earning.bonuses[1]: no bonus; add multiplier or points"],
    ),
    "a factor that adds nothing": (
        'multiplier: "1"', 'multiplier: "2"',
        ['shop.yaml:11: earning.bonuses[0].multiplier: found "1"; '
         'expected a factor in quotes, above "1", up to "100.0000", such as "2"'],
    ),
    "a factor without quotes": (
        "multiplier: 2", 'multiplier: "2"',
        ["shop.yaml:11: earning.bonuses[0].multiplier: found 2 without quotes; "
         'expected a factor in quotes, above "1", up to "100.0000", such as "2"'],
    ),
    "no points for a bonus": (
        "points: 0", "points: 200",
        ["shop.yaml:18: earning.bonuses[1].points: found 0 without quotes; "
         "expected a whole number without quotes, 1 to 1,000,000"],
    ),
    "a day in another order": (
        'from: "01.06.2026"', 'from: "2026-06-01"',
        [f'shop.yaml:12: earning.bonuses[0].from: found "01.06.2026"; expected {DAY}'],
    ),
    "a day that is not in the calendar": (
        'from: "2026-02-29"', 'from: "2026-06-01"',
        [f'shop.yaml:12: earning.bonuses[0].from: found "2026-02-29"; expected {DAY}'],
    ),
    "a day as a number": (
        "until: 20260831", 'until: "2026-08-31"',
        [f"shop.yaml:13: earning.bonuses[0].until: found 20260831 without quotes; expected {DAY}"],
    ),
    "a day of another millennium": (
        'until: "3000-01-01"', 'until: "2026-08-31"',
        [f'shop.yaml:13: earning.bonuses[0].until: found "3000-01-01"; expected {DAY}'],
    ),
    "an end before its beginning": (
        'until: "2026-05-31"', 'until: "2026-08-31"',
        ['shop.yaml:13: earning.bonuses[0].until: found "2026-05-31"; '
         'expected the day of from, "2026-06-01", or a later one'],
    ),
    "a weekday in full": (
        "weekdays: [sat, sunday]", "weekdays: [sat, sun]",
        ['shop.yaml:14: earning.bonuses[0].weekdays[1]: found "sunday"; '
         'expected mon, tue, wed, thu, fri, sat or sun; did you mean "sun"?'],
    ),
    "a weekday by its number": (
        "weekdays: [6]", "weekdays: [sat, sun]",
        ["shop.yaml:14: earning.bonuses[0].weekdays[0]: found 6 without quotes; "
         "expected mon, tue, wed, thu, fri, sat or sun"],
    ),
    "a weekday twice": (
        "weekdays: [sat, sat]", "weekdays: [sat, sun]",
        ['shop.yaml:14: earning.bonuses[0].weekdays[1]: "sat" is here twice; remove one'],
    ),
    "no weekday": (
        "weekdays: []", "weekdays: [sat, sun]",
        ["shop.yaml:14: earning.bonuses[0].weekdays: found 0; expected at least 1"],
    ),
    "a weekday by itself": (
        "weekdays: sat", "weekdays: [sat, sun]",
        ['shop.yaml:14: earning.bonuses[0].weekdays: found "sat"; expected a list'],
    ),
    "a minimum without decimals": (
        'minimum: "50"', 'minimum: "50.00"',
        ['shop.yaml:15: earning.bonuses[0].minimum: found "50"; '
         'expected an amount in quotes with 2 decimals, such as "50.00"'],
    ),
    "a department twice": (
        "departments: [DAIRY, DAIRY]", "departments: [DAIRY, BAKERY]",
        ['shop.yaml:16: earning.bonuses[0].departments[1]: "DAIRY" is here twice; remove one'],
    ),
    "a department without a name": (
        'departments: [DAIRY, ""]', "departments: [DAIRY, BAKERY]",
        ['shop.yaml:16: earning.bonuses[0].departments[1]: found ""; '
         "expected text of 1 to 100 characters on one line"],
    ),
    "too many departments": (
        f"departments: {[f'D{number}' for number in range(51)]}", "departments: [DAIRY, BAKERY]",
        ["shop.yaml:16: earning.bonuses[0].departments: found 51; expected at most 50"],
    ),
    "departments for points that are fixed": (
        "points: 200\n      departments: [DAIRY]", "points: 200",
        ["shop.yaml:19: earning.bonuses[1].departments: these narrow what a multiplier counts; "
         "remove this key, or give a multiplier and no points"],
    ),
    "a yes for a truth value": (
        "first_purchase: yes", "first_purchase: true",
        ['shop.yaml:19: earning.bonuses[1].first_purchase: found "yes"; expected true or false'],
    ),
    "an unknown key of a bonus": (
        "untill:", "until:",
        ['shop.yaml:13: earning.bonuses[0].untill: unknown key; did you mean "until"?'],
    ),
    "an unknown policy": (
        "policy: calender_year", "policy: after",
        ['shop.yaml:21: expiry.policy: found "calender_year"; '
         'expected never, after, inactivity or calendar_year; did you mean "calendar_year"?'],
    ),
    "a policy without its period": (
        "", "  period: P1Y\n",
        [f"shop.yaml:20: expiry.period: is missing; expected {WINDOW}"],
    ),
    "inactivity without its period": (
        "policy: inactivity\n", "policy: after\n  period: P1Y\n",
        [f"shop.yaml:20: expiry.period: is missing; expected {WINDOW}"],
    ),
    "a calendar year without its months": (
        "policy: calendar_year\n", "policy: after\n  period: P1Y\n",
        ['shop.yaml:20: expiry.period: is missing; expected months after 31 December, "P0M" to "P36M"'],
    ),
    "a calendar year and a year": (
        "policy: calendar_year", "policy: after",
        ['shop.yaml:22: expiry.period: found "P1Y"; expected months after 31 December, "P0M" to "P36M"'],
    ),
    "a calendar year and too many months": (
        "policy: calendar_year\n  period: P37M", "policy: after\n  period: P1Y",
        ['shop.yaml:22: expiry.period: found "P37M"; expected months after 31 December, "P0M" to "P36M"'],
    ),
    "no time at all": (
        "period: P0M", "period: P1Y",
        [f'shop.yaml:22: expiry.period: found "P0M"; expected {WINDOW}'],
    ),
    "a period that is none": (
        "period: a year", "period: P1Y",
        [f'shop.yaml:22: expiry.period: found "a year"; expected {WINDOW}'],
    ),
    "a period for never": (
        "policy: never", "policy: after",
        ["shop.yaml:22: expiry.period: the policy is never, where points have no period; "
         "remove this key, or choose another policy"],
    ),
    "a period without a policy": (
        "", "  policy: after\n",
        ["shop.yaml:21: expiry.period: the policy is never, where points have no period; "
         "remove this key, or choose another policy"],
    ),
    "a policy where its mapping belongs": (
        "expiry: never\nx:", "expiry:",
        ['shop.yaml:20: expiry: found "never"; expected a mapping with the keys policy, period',
         f"shop.yaml:21: x: unknown key; the keys here are {KEYS}"],
    ),
    "no points as the least": (
        "minimum: 0", "minimum: 500",
        [f"shop.yaml:24: redemption.minimum: found 0 without quotes; expected {LIMIT}"],
    ),
    "a step in quotes": (
        'step: "100"', "step: 100",
        [f'shop.yaml:25: redemption.step: found "100"; expected {LIMIT}'],
    ),
    "an unknown key of redemptions": (
        "steps: 100", "step: 100",
        ['shop.yaml:25: redemption.steps: unknown key; did you mean "step"?'],
    ),
    "an unknown shortfall": (
        "shortfall: forget", "shortfall: forgive",
        ['shop.yaml:27: returns.shortfall: found "forget"; '
         'expected debt, forgive or refuse; did you mean "forgive"?'],
    ),
    "an adjustment below nothing": (
        "per_call: -1", "per_call: 1000",
        ["shop.yaml:29: adjustments.per_call: found -1 without quotes; "
         "expected a whole number without quotes, 0 to 1,000,000,000"],
    ),
    "an adjustment beyond all bounds": (
        "per_day: 1000000001", "per_day: 5000",
        ["shop.yaml:30: adjustments.per_day: found 1000000001 without quotes; "
         "expected a whole number without quotes, 0 to 1,000,000,000"],
    ),
    "back-dating by no days": (
        "back_dating: P0D", "back_dating: P90D",
        [f'shop.yaml:31: back_dating: found "P0D"; expected {WINDOW}'],
    ),
    "a liability by itself": (
        "liability: []\nx:", "liability:",
        ["shop.yaml:32: liability: found a list; expected a mapping with the keys values, breakage_percent",
         f"shop.yaml:33: x: unknown key; the keys here are {KEYS}"],
    ),
    "an unknown key of the liability": (
        'breakage: "15"', 'breakage_percent: "15"',
        ['shop.yaml:40: liability.breakage: unknown key; did you mean "breakage_percent"?'],
    ),
    "an unknown key of a value": (
        'value: "1.00"', 'worth: "1.00"',
        ['shop.yaml:34: liability.values[0].worth: is missing; expected an amount in quotes, such as "300.00"',
         "shop.yaml:36: liability.values[0].value: unknown key; the keys here are from, points, worth"],
    ),
    "a value that begins never": (
        "- points: 90", '- from: "2026-01-01"\n      points: 90',
        [f"shop.yaml:37: liability.values[1].from: is missing; expected {DAY}"],
    ),
    "values of one day": (
        '- from: "2017-01-01"\n      points: 90', '- from: "2026-01-01"\n      points: 90',
        ['shop.yaml:37: liability.values[1].from: found "2017-01-01"; '
         'expected a day after the "2017-01-01" before it'],
    ),
    "values out of order": (
        '- from: "2030-01-01"\n      points: 100', '- from: "2017-01-01"\n      points: 100',
        ['shop.yaml:37: liability.values[1].from: found "2026-01-01"; '
         'expected a day after the "2030-01-01" before it'],
    ),
    "a value for no points": (
        "points: 0", "points: 90",
        [f"shop.yaml:38: liability.values[1].points: found 0 without quotes; expected {LIMIT}"],
    ),
    "points worth nothing": (
        'worth: "0.00"', 'worth: "0.80"',
        ['shop.yaml:39: liability.values[1].worth: found "0.00"; '
         'expected an amount above zero, at most "10000000000000.00"'],
    ),
    "more breakage than there is": (
        'breakage_percent: "100.01"', 'breakage_percent: "15"',
        ['shop.yaml:40: liability.breakage_percent: found "100.01"; '
         'expected a percentage in quotes, "0" to "100.00", such as "5"'],
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong, right, expected", WRONG_POINTS.values(), ids=WRONG_POINTS.keys())
def test_what_is_wrong_about_points_is_told_with_line_key_fault_and_remedy(
    wrong: str, right: str, expected: list[str]
) -> None:
    assert RICH.count(right) == 1
    assert problems(RICH.replace(right, wrong)) == expected


def test_a_liability_has_a_value_and_lists_have_an_end() -> None:
    head, rest = RICH.split("  values:\n")
    no_value = head + rest[rest.index("  breakage_percent") :]
    assert problems(no_value) == ["shop.yaml:32: liability.values: is missing; expected a list"]
    assert problems(no_value.replace("liability:\n", "liability:\n  values: []\n")) == [
        "shop.yaml:33: liability.values: found 0; expected at least 1"
    ]
    bonuses = "".join(f"    - {{id: b{number}, points: 1}}\n" for number in range(49))
    assert problems(RICH.replace("expiry:\n", f"{bonuses}expiry:\n")) == [
        "shop.yaml:9: earning.bonuses: found 51; expected at most 50"
    ]


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    text = (
        GOOD.replace("USD", "USB").replace("points: 1", "points: x").replace("P365D", "P0D").replace("[silver]", "[g]")
    )
    assert [line.split(": ")[:2] for line in problems(text)] == [
        ["shop.yaml:2", "currency"],
        ["shop.yaml:6", "earning.points"],
        ["shop.yaml:10", "tiers.window"],
        ["shop.yaml:32", "campaigns[1].tiers[0]"],
    ]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "shop.yaml:1: the file is empty; a programme is expected"),
        ("# nothing\n", "shop.yaml:1: the file is empty; a programme is expected"),
        ("[" * 100_000, "shop.yaml:1: the values are nested more than 20 deep; a programme has far fewer"),
        ("[" + "a," * 100_000, "shop.yaml:1: the values are more than 100,000; a programme has far fewer"),
        ("x" * (1024 * 1024 + 1), "shop.yaml: the file is larger than 1024 KiB; a programme is far smaller"),
        ("a\nb\0", "shop.yaml:2: the character U+0000 is not allowed in YAML; remove it"),
        (f"{GOOD}\n---\n{GOOD}", "shop.yaml:41: this is not YAML: expected a single document in the stream "
         "but found another document; a file holds one programme: remove the second ---"),
    ],
    ids=["empty", "only a comment", "deep", "wide", "large", "NUL", "two documents"],
)  # fmt: skip
def test_a_file_that_can_not_be_read_at_all_has_one_problem(text: str, expected: str) -> None:
    assert problems(text) == [expected]


def test_a_flood_of_problems_is_cut_short() -> None:
    lines = problems(GOOD + "".join(f"x{number}: 1\n" for number in range(500)))
    assert len(lines) == 101
    assert lines[-1] == "shop.yaml: and 400 more; mend these first"


@given(st.text(alphabet="ab:- \n\t\"'[]{}#&*!|>%@`0.~,?\\<", max_size=60))
def test_whatever_the_text_the_refusal_is_a_sentence(text: str) -> None:
    with pytest.raises(ProgrammeError, match=r"^shop\.yaml(:\d+)?: .*; "):
        parse(text, "shop.yaml")


def places(value: object, path: KeyPath = ()) -> list[KeyPath]:
    """Where a value stands in a document, and all that it holds."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for step, inner in steps for place in places(inner, (*path, step)))]


@given(
    st.sampled_from(places(Document(RICH, "x").content)[1:]),
    st.sampled_from([None, True, -1, 10**17, "", "P0M", "\0", [], [[]], [None], ["x", "x"], {}, {"from": []}]),
)
def test_whatever_stands_at_a_key_it_is_taken_or_refused_in_sentences(place: KeyPath, odd: object) -> None:
    content: Any = Document(RICH, "x").content
    around = content
    for step in place[:-1]:
        around = around[step]
    around[place[-1]] = odd
    told: tuple[Problem, ...] = ()
    try:
        parse(json.dumps(content), "shop.yaml")
    except ProgrammeError as error:
        told = error.problems
    assert all("; " in problem.message for problem in told)


def test_a_file_that_is_not_there_or_not_text_is_told_so(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"programme: x\nname: caf\xe9\n")
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (1024 * 1024 + 1))
    for path, sentence in [
        (tmp_path / "none.yaml", ": there is no such file; name a programme file"),
        (tmp_path, ": this is a folder; name a programme file in it"),
        (Path("/dev/null"), ": this is not an ordinary file; name a programme file"),
        (latin, ":2: the byte 0xE9 is not UTF-8; save the file as UTF-8"),
        (large, ": the file is larger than 1024 KiB; a programme is far smaller"),
    ]:
        with pytest.raises(ProgrammeError) as refused:
            load(path)
        assert str(refused.value) == f"{path}{sentence}"


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load(path) == parse(GOOD, "x")


# --- templates --------------------------------------------------------------------------------------------------------

VALUES = dict.fromkeys(VARIABLES, "")


def test_a_message_is_filled_in() -> None:
    action = DEMO.campaigns[0].variants[0].actions.message
    assert action is not None
    words = DEMO.messages.words(action, "pl")
    message = render(words, VALUES | {"tier": "Green", "discount": "5 %", "code": "GREEN-7QX4"})
    assert message.subject == "You are Green now: 5 % off your next purchase"
    assert "Hello there,\n" in message.text
    assert "\n    GREEN-7QX4\n" in message.text


def test_a_value_can_not_grow_headers_or_be_a_template() -> None:
    template = Message(subject="Hello {{ name }}", text="{{ name }}")
    message = render(template, VALUES | {"name": "A\r\nBcc: b@example.com {{ code }}"})
    assert message.subject == "Hello A Bcc: b@example.com {{ code }}"
    assert message.text == "A\r\nBcc: b@example.com {{ code }}"


def test_a_message_without_all_its_values_is_refused() -> None:
    with pytest.raises(ValueError, match="no value for code, tier"):
        render(Message(subject="x", text="y"), {k: v for k, v in VALUES.items() if k not in ("code", "tier")})


@pytest.mark.parametrize(
    "template",
    [
        "{{ name.upper() }}", "{{ name['x'] }}", "{{ 'x' * 10**9 }}", "{% for x in name %}{% endfor %}",
        "{{ range(9) }}",
        "{% include 'x' %}", "{% set x = 1 %}", "{% macro m() %}{% endmacro %}", "{{ name|center(1000000000) }}",
        "{{ name|list }}", "{{ name < code }}", "{{ name if code }}", "{{ self }}",
        "{% filter upper %}x{% endfilter %}",
        "{{ " + "(" * 5000 + "name" + ")" * 5000 + " }}", "{% if name %}" * 150 + "{% endif %}" * 150,
    ],
)  # fmt: skip
def test_a_template_that_could_fail_or_run_away_is_refused(template: str) -> None:
    assert check(template)


PIECES = (
    "{{ }} {% %} if elif else endif and or not == != ~ ( ) | upper trim title name code x 'y' 5 none true "
    "in is defined {# #} raw endraw set for - . , [ ] { }"
)


@given(st.lists(st.sampled_from(PIECES.split()), max_size=14).map(" ".join))
@example("{{ name or ( 5 ~ none ) | upper }}")
def test_a_template_that_passes_always_renders(template: str) -> None:
    if not check(template):
        render(Message(subject=template, text=template), VALUES)
