"""The programme file: what it means, and what a wrong one says."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.programme import (
    MINOR_UNIT_DIGITS,
    VARIABLES,
    Base,
    Message,
    Programme,
    ProgrammeError,
    Window,
    format_amount,
    format_percent,
    load,
    parse,
    points_for,
    render,
)
from services.programme.schema import MAX_MINOR_UNITS
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
instants = st.integers(0, 2**52).map(lambda us: datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us))
windows = st.one_of(
    st.integers(1, 36_600).map(lambda days: Window(days=days)),
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
        # 365 days across a 29 February end a day early, a year does not.
        ("Europe/Warsaw", Window(days=365), "2023-06-01T10:00", "2024-05-31T10:00"),
        ("Europe/Warsaw", Window(years=1), "2023-06-01T10:00", "2024-06-01T10:00"),
        # 29 February, in local time.
        ("Europe/Warsaw", Window(years=1), "2024-02-29T12:00", "2025-02-28T12:00"),
        ("Europe/Warsaw", Window(years=4), "2024-02-29T12:00", "2028-02-29T12:00"),
        ("Europe/Warsaw", Window(years=1), "2024-02-28T23:30", "2025-02-27T23:30"),
        ("America/New_York", Window(years=1), "2024-03-01T02:00", "2025-03-01T02:00"),
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


@pytest.mark.parametrize("fields", [{}, {"days": 1, "years": 1}, {"days": 0}, {"years": 0}, {"days": -1}])
def test_a_window_is_days_or_years_and_at_least_one(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="window"):
        Window(**fields)


def test_a_time_without_zone_is_refused_wherever_it_comes_in() -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 the point
    with pytest.raises(ValueError, match="aware"):
        Window(days=1).end(naive, ZoneInfo("UTC"))
    with pytest.raises(ValueError, match="aware"):
        DEMO.local_day(naive)
    with pytest.raises(ValueError, match="aware"):
        DEMO.start_of_next_local_day(naive)


@pytest.mark.parametrize("window", [Window(days=36_600), Window(years=100)])
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


def test_the_example_in_the_docs_loads() -> None:
    page = (PRESETS.parent / "docs" / "programme.md").read_text(encoding="utf-8")
    example = page.split("```yaml\n")[1].split("```")[0]
    assert parse(example, "docs/programme.md").campaigns[0].tiers == ("regular",)


def test_the_demo_says_all_it_means() -> None:
    assert (DEMO.currency, DEMO.time_zone, DEMO.minor_unit_digits) == ("USD", "America/New_York", 2)
    assert (DEMO.earning.base, DEMO.tiers.base, DEMO.tiers.window) == (Base.GOODS_PAID, Base.TOTAL, Window(days=365))
    assert (DEMO.earning.points, DEMO.earning.per_minor_units, DEMO.earning.sign_up_bonus) == (1, 1_00, 100)
    assert DEMO.earning.class_multipliers_bp == {"white": 10_000, "green": 12_500, "silver": 15_000, "golden": 20_000}
    assert [level.discount_bp for level in DEMO.tiers.levels] == [0, 500, 800, 1000]
    assert [campaign.tiers for campaign in DEMO.campaigns] == [("green",), ("silver",), ("golden",)]
    assert [(c.coupon.discount_bp, c.coupon.discount_minor_units) for c in DEMO.campaigns] == [
        (500, None), (None, 10_00), (1500, None),
    ]  # fmt: skip


def test_the_version_changes_with_the_content_and_not_with_the_layout() -> None:
    version = parse(GOOD, "x").version
    head, _, campaigns = GOOD.partition("campaigns:")
    relaid = GOOD.replace('"1.00"', "'1.00' # a comment").replace("tiers: [green]", "tiers:\n      - green")
    assert version == "shop@bcd56b3f80e8"
    assert parse(relaid, "x").version == parse(f"campaigns:{campaigns}{head}", "x").version == version
    assert parse(GOOD.replace("points: 1", "points: 2"), "x").version != version


def test_a_currency_without_minor_unit_takes_whole_amounts() -> None:
    yen = GOOD.replace("USD", "JPY").replace(".00", "")
    assert parse(yen, "x").tiers.levels[1].threshold_minor_units == 300


# --- what a wrong file says -------------------------------------------------------------------------------------------


def problems(text: str) -> list[str]:
    with pytest.raises(ProgrammeError) as refused:
        parse(text, "shop.yaml")
    return str(refused.value).splitlines()


WRONG = {
    "an unknown key": (
        'form: "300.00"', 'from: "300.00"',
        ["shop.yaml:13: tiers.levels[1].from: is missing; only the first level has none: say from which amount",
         'shop.yaml:14: tiers.levels[1].form: unknown key; did you mean "from"?'],
    ),
    "a key like no other": (
        "currency: USD\ncolour: red", "currency: USD",
        ["shop.yaml:3: colour: unknown key; "
         "the keys here are programme, currency, time_zone, earning, tiers, campaigns"],
    ),
    "a missing key": (
        "", "  window: P365D\n",
        ['shop.yaml:8: tiers.window: is missing; '
         'expected days such as "P365D" or years such as "P1Y", at most 100 years'],
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
    "months for a window": (
        "window: P12M", "window: P365D",
        ['shop.yaml:10: tiers.window: found "P12M"; '
         'expected days such as "P365D" or years such as "P1Y", at most 100 years'],
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
        ["shop.yaml:33: campaigns[1].coupon: two discounts; keep discount_percent or discount_amount"],
    ),
    "a coupon without discount": (
        "", '      discount_amount: "10.00"\n',
        ["shop.yaml:33: campaigns[1].coupon: no discount; add discount_percent or discount_amount"],
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
        ["shop.yaml:5: earning.<<: unknown key; the keys here are base, points, per, sign_up_bonus"],
    ),
    "a tag": (
        "name: !!python/name:os.system Green", "name: Green",
        ["shop.yaml:13: tiers.levels[1].name: the tag !!python/name:os.system is not allowed here; remove it"],
    ),
    "a list for a mapping": (
        "earning: []\nx:", "earning:",
        ["shop.yaml:4: earning: found a list; expected a mapping with the keys base, points, per, sign_up_bonus",
         "shop.yaml:5: x: unknown key; the keys here are programme, currency, time_zone, earning, tiers, campaigns"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong, right, expected", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_names_line_key_fault_and_remedy(wrong: str, right: str, expected: list[str]) -> None:
    assert right in GOOD
    assert problems(GOOD.replace(right, wrong, 1)) == expected


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
        ("[" + "a," * 50_000, "shop.yaml:1: the values are more than 20,000; a programme has far fewer"),
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
    message = render(DEMO.campaigns[0].message, VALUES | {"tier": "Green", "discount": "5 %", "code": "GREEN-7QX4"})
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
