"""The programme file's tiers, rates and markets: what they mean, and what wrong ones say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.programme import (
    AppliesTo,
    Base,
    Benefit,
    CoolOff,
    Counting,
    CycleEnd,
    LinkedReturns,
    Metric,
    OnReturn,
    Problem,
    Programme,
    ProgrammeError,
    Rate,
    Rejoining,
    Retention,
    TierWindow,
    Validity,
    Window,
    load,
    parse,
)
from services.programme.document import Document, KeyPath

PRESETS = Path(__file__).parents[2] / "programmes"
PLAIN = """\
programme: shop
currency: USD
time_zone: America/New_York
earning: {base: goods_paid, points: 1, per: "1.00"}
tiers:
  base: total
  window: P365D
  levels:
    - name: White
    - name: Green
      from: "300.00"
"""
SPEND = """\
programme: shop
currency: USD
time_zone: America/New_York
earning:
  base: goods_paid
  points: 1
  per: "1.00"
  activities:
    - {id: review, points: 50}
    - {id: survey, points: 20}
tiers:
  base: total
  window: calendar_half
  counted: from_joining
  rejoining: latest
  linked_returns: purchase_time
  cool_off: {period: P30D, applies_to: level}
  retention: {cycle: P12M, at_end: one_down, grace: P30D, on_return: take_back}
  validity: {period: P3Y, transactions: 3, warning: P60D}
  levels:
    - name: White
    - name: Green
      from: "300.00"
      keep: "250.00"
      plan: plus
    - name: Silver
      from: "1000.00"
      benefits:
        - {id: free-shipping, text: Free two-day shipping, maximum: "20.00"}
        - {id: early-access, text: A day before all others}
rates:
  - {from: "2026-01-01", currency: EUR, amount: "100.00", worth: "108.50"}
  - {from: "2026-01-01", currency: JPY, amount: "100", worth: "0.64"}
  - {from: "2026-02-01", currency: EUR, amount: "100.00", worth: "110.00"}
markets:
  gb:
    currency: GBP
    time_zone: Europe/London
    per: "0.80"
    thresholds:
      green: {from: "240.00", keep: "200.00"}
      silver: {from: "800.00"}
    maximums:
      silver: {free-shipping: "16.00"}
    rates:
      - {from: "2026-01-01", currency: USD, amount: "1.00", worth: "0.80"}
  jp:
    currency: JPY
    time_zone: Asia/Tokyo
    per: "150"
    thresholds:
      green: {from: "45000"}
      silver: {from: "150000"}
    maximums:
      silver: {free-shipping: "3000"}
"""
POINTS = """\
programme: shop
currency: USD
time_zone: America/New_York
earning:
  base: goods_paid
  points: 1
  per: "1.00"
  bonuses:
    - {id: summer, multiplier: "2"}
tiers:
  metric: qualifying_points
  window: lifetime
  qualifying: [summer, award]
  levels:
    - name: Basic
    - name: Silver
      from: 500
      keep: 400
    - name: Gold
      from: 2000
"""
PAID = """\
programme: shop
currency: USD
time_zone: America/New_York
earning: {base: goods_paid, points: 1, per: "1.00"}
tiers:
  metric: membership
  levels:
    - name: Basic
    - name: Plus
      plan: plus
"""
TIER_WINDOW = (
    'days such as "P365D", months such as "P18M" or years such as "P1Y", at most 100 years; '
    "or calendar_year, calendar_half, calendar_quarter, anniversary or lifetime"
)
COUNT = "a whole number without quotes, 1 to 1,000,000,000"


# --- what a file means ------------------------------------------------------------------------------------------------


def test_what_a_file_leaves_out_of_its_tiers_changes_nothing() -> None:
    programme = parse(PLAIN, "x")
    assert programme.version == "shop@2b9212e04de7"
    tiers = programme.tiers
    assert (tiers.metric, tiers.base) == (Metric.NET_SPEND, Base.TOTAL)
    assert tiers.window == TierWindow.rolling(Window(days=365))
    assert (tiers.from_joining, tiers.rejoining, tiers.linked_returns, tiers.qualifying) == (
        False, Rejoining.FIRST, LinkedReturns.OWN_TIME, frozenset(),
    )  # fmt: skip
    assert (tiers.cool_off, tiers.retention, tiers.validity, tiers.remembers) == (None, None, None, False)
    assert [(level.keep_threshold, level.plan, level.benefits) for level in tiers.levels] == [(None, "", ())] * 2
    assert (programme.rates, dict(programme.markets), dict(programme.earning.activities)) == ((), {}, {})


@pytest.mark.parametrize(
    "preset, version",
    [
        ("tiered-365", "tiered-365@9bf939480655"),
        ("tiered-365-gbp", "tiered-365-gbp@c258907b6e22"),
        ("retail-demo", "retail-demo@d413b8032e56"),
    ],
)
def test_keys_that_came_later_leave_the_versions_of_older_files_as_they_were(preset: str, version: str) -> None:
    assert load(PRESETS / f"{preset}.yaml").version == version


def test_tiers_by_spend_are_read_as_they_stand() -> None:
    programme = parse(SPEND, "x")
    tiers = programme.tiers
    assert tiers.window == TierWindow(counting=Counting.CALENDAR_HALF)
    assert (tiers.from_joining, tiers.rejoining, tiers.linked_returns) == (
        True, Rejoining.LATEST, LinkedReturns.PURCHASE_TIME,
    )  # fmt: skip
    assert tiers.cool_off == CoolOff(period=Window(days=30), applies_to=AppliesTo.LEVEL)
    assert tiers.retention == Retention(
        cycle=Window(months=12), at_end=CycleEnd.ONE_DOWN, grace=Window(days=30), on_return=OnReturn.TAKE_BACK
    )
    assert tiers.validity == Validity(period=Window(years=3), transactions=3, warning=Window(days=60))
    assert [(level.threshold, level.keep_threshold, level.plan) for level in tiers.levels] == [
        (None, None, ""), (300_00, 250_00, "plus"), (1000_00, None, ""),
    ]  # fmt: skip
    assert tiers.levels[2].benefits == (
        Benefit(id="free-shipping", text="Free two-day shipping", maximum_minor_units=20_00),
        Benefit(id="early-access", text="A day before all others"),
    )
    assert programme.earning.activities == {"review": 50, "survey": 20}


def test_policies_have_the_mild_defaults() -> None:
    tiers = parse(
        SPEND.replace(", applies_to: level", "")
        .replace(", at_end: one_down, grace: P30D, on_return: take_back", "")
        .replace(", transactions: 3", ""),
        "x",
    ).tiers
    assert tiers.cool_off == CoolOff(period=Window(days=30), applies_to=AppliesTo.BENEFITS)
    assert tiers.retention == Retention(
        cycle=Window(months=12), at_end=CycleEnd.EARNED, grace=None, on_return=OnReturn.KEEP
    )
    assert tiers.validity == Validity(period=Window(years=3), transactions=0, warning=Window(days=60))


def test_a_market_has_its_thresholds_and_maxima_in_its_own_money_and_all_else_of_the_programme() -> None:
    programme = parse(SPEND, "x")
    gb, jp = programme.market("gb"), programme.market("jp")
    assert (gb.currency, gb.minor_unit_digits, gb.time_zone, gb.earning_per) == ("GBP", 2, "Europe/London", 80)
    assert (jp.currency, jp.minor_unit_digits, jp.time_zone, jp.earning_per) == ("JPY", 0, "Asia/Tokyo", 150)
    assert [(level.threshold, level.keep_threshold) for level in gb.tiers.levels] == [
        (None, None), (240_00, 200_00), (800_00, None),
    ]  # fmt: skip
    # A keep that the market does not name is not the programme's: that is in other money.
    assert [(level.threshold, level.keep_threshold) for level in jp.tiers.levels] == [
        (None, None), (45_000, None), (150_000, None),
    ]  # fmt: skip
    assert [benefit.maximum_minor_units for benefit in gb.tiers.levels[2].benefits] == [16_00, None]
    assert [benefit.maximum_minor_units for benefit in jp.tiers.levels[2].benefits] == [3000, None]
    assert replace(gb.tiers, levels=()) == replace(programme.tiers, levels=())
    assert programme.market("").tiers == programme.tiers


def test_an_amount_is_worth_the_rate_of_its_day() -> None:
    programme = parse(SPEND, "x")
    home = programme.market("")
    assert programme.rates[1] == Rate(from_day=date(2026, 1, 1), currency="JPY", minor_units=100, home_minor_units=64)
    assert home.at_home(50_00, "EUR", date(2026, 1, 31)) == 54_25
    assert home.at_home(50_00, "EUR", date(2026, 2, 1)) == 55_00
    assert home.at_home(1000, "JPY", date(2026, 2, 1)) == 6_40
    assert programme.market("gb").at_home(10_00, "USD", date(2026, 1, 1)) == 8_00
    with pytest.raises(LookupError, match="there is no rate of EUR to USD on 2025-12-31"):
        home.at_home(50_00, "EUR", date(2025, 12, 31))


def test_tiers_by_points_are_whole_numbers_without_currency() -> None:
    tiers = parse(POINTS, "x").tiers
    assert (tiers.metric, tiers.window.counting) == (Metric.QUALIFYING_POINTS, Counting.LIFETIME)
    assert tiers.qualifying == {"summer", "award"}
    assert [(level.threshold, level.keep_threshold) for level in tiers.levels] == [
        (None, None),
        (500, 400),
        (2000, None),
    ]


@pytest.mark.parametrize("metric", ["visits", "activities"])
def test_tiers_by_visits_or_activities_are_counted_too(metric: str) -> None:
    text = POINTS.replace("qualifying_points", metric).replace("  qualifying: [summer, award]\n", "")
    tiers = parse(text.replace("window: lifetime", "window: anniversary"), "x").tiers
    assert (tiers.metric, tiers.window) == (Metric(metric), TierWindow(counting=Counting.ANNIVERSARY))
    assert tiers.levels[1].threshold == 500


def test_a_paid_membership_needs_neither_window_nor_thresholds() -> None:
    tiers = parse(PAID, "x").tiers
    assert (tiers.metric, tiers.window) == (Metric.MEMBERSHIP, TierWindow(counting=Counting.LIFETIME))
    assert [(level.threshold, level.plan) for level in tiers.levels] == [(None, ""), (None, "plus")]
    plus = tiers.level_of_plan("plus")
    assert plus is not None
    assert plus.name == "Plus"


def test_markets_of_a_programme_by_points_have_a_currency_and_a_clock_and_the_same_thresholds() -> None:
    market = 'markets: {gb: {currency: GBP, time_zone: Europe/London, per: "0.80"}}\n'
    programme = parse(POINTS + market, "x")
    assert programme.market("gb").tiers == programme.tiers


def test_a_level_given_by_a_plan_alone_may_stand_among_those_that_are_reached() -> None:
    levels = parse(PLAIN + '    - {name: Plus, plan: plus}\n    - {name: Gold, from: "900.00"}\n', "x").tiers.levels
    assert [(level.threshold, level.plan) for level in levels] == [
        (None, ""), (300_00, ""), (None, "plus"), (900_00, ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "right, other, read, expected",
    [
        ('keep: "250.00"', 'keep: "300.00"', lambda p: p.tiers.levels[1].keep_threshold, 300_00),
        ("window: calendar_half", "window: calendar_quarter", lambda p: p.tiers.window.counting, "calendar_quarter"),
        ("window: calendar_half", "window: calendar_year", lambda p: p.tiers.window.counting, "calendar_year"),
        ("window: calendar_half", "window: P18M", lambda p: p.tiers.window.span, Window(months=18)),
        ("counted: from_joining", "counted: after_joining", lambda p: p.tiers.from_joining, False),
        ("transactions: 3", "transactions: 1000", lambda p: p.tiers.validity.transactions, 1000),
        ("warning: P60D", "warning: P1094D", lambda p: p.tiers.validity.warning, Window(days=1094)),
        ("points: 50", "points: 1000000", lambda p: p.earning.activities["review"], 1_000_000),
        ('from: "2026-02-01"', 'from: "2026-01-02"', lambda p: p.rates[2].from_day, date(2026, 1, 2)),
        ('worth: "0.64"', 'worth: "0.01"', lambda p: p.rates[1].home_minor_units, 1),
    ],
)
def test_a_tier_s_value_at_the_edge_of_what_is_right_is_taken(
    right: str, other: str, read: Callable[[Programme], object], expected: object
) -> None:
    assert SPEND.count(right) == 1
    assert read(parse(SPEND.replace(right, other), "x")) == expected


def test_a_market_takes_thousands_of_rates_and_no_more() -> None:
    days = [date(2012, 1, 1) + timedelta(days=number) for number in range(5_001)]
    rates = [f'  - {{from: "{day}", currency: EUR, amount: "1.00", worth: "1.10"}}\n' for day in days]
    assert len(parse(f"{PLAIN}rates:\n{''.join(rates[:-1])}", "x").rates) == 5_000
    assert problems(f"{PLAIN}rates:\n{''.join(rates)}") == ["rates: found 5,001; expected at most 5,000"]


# --- presets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "preset, balance, name",
    [
        ("points-basic", 0, "Basic"), ("points-basic", 499, "Basic"), ("points-basic", 500, "Silver"),
        ("points-basic", 1999, "Silver"), ("points-basic", 2000, "Gold"),
        ("annual-spend", -1, "Member"), ("annual-spend", 499_99, "Member"), ("annual-spend", 500_00, "Gold"),
        ("annual-spend", 1999_99, "Gold"), ("annual-spend", 2000_00, "Platinum"),
        ("annual-spend", 3999_99, "Platinum"), ("annual-spend", 4000_00, "Diamond"),
        ("points-ladder", 9_999, "Standard"), ("points-ladder", 10_000, "Bronze"), ("points-ladder", 19_999, "Bronze"),
        ("points-ladder", 20_000, "Silver"), ("points-ladder", 25_000, "Silver"), ("points-ladder", 37_000, "Silver"),
        ("points-ladder", 39_999, "Silver"), ("points-ladder", 40_000, "Gold"),
    ],
)  # fmt: skip
def test_a_preset_s_level_holds_from_its_own_threshold_up_to_the_next(preset: str, balance: int, name: str) -> None:
    assert load(PRESETS / f"{preset}.yaml").tiers.level_for(balance).name == name


def test_the_default_gives_5_10_and_15_percent_and_gold_its_shipping() -> None:
    basic = load(PRESETS / "points-basic.yaml")
    assert [level.discount_bp for level in basic.tiers.levels] == [500, 1000, 1500]
    assert [[benefit.id for benefit in level.benefits] for level in basic.tiers.levels] == [[], [], ["free-shipping"]]
    assert basic.tiers.metric is Metric.QUALIFYING_POINTS


def test_annual_spend_goes_by_the_calendar_year_and_the_ladder_by_a_lifetime() -> None:
    annual, ladder = load(PRESETS / "annual-spend.yaml").tiers, load(PRESETS / "points-ladder.yaml").tiers
    assert (annual.metric, annual.window.counting) == (Metric.NET_SPEND, Counting.CALENDAR_YEAR)
    assert (ladder.metric, ladder.window.counting) == (Metric.QUALIFYING_POINTS, Counting.LIFETIME)


# --- what a wrong file says -------------------------------------------------------------------------------------------


def problems(text: str) -> list[str]:
    with pytest.raises(ProgrammeError) as refused:
        parse(text, "shop.yaml")
    return [line.removeprefix("shop.yaml:").split(": ", 1)[1] for line in str(refused.value).splitlines()]


WRONG = {
    "an unknown metric": (
        SPEND, "  base: total\n", "  metric: spend\n  base: total\n",
        ['tiers.metric: found "spend"; expected net_spend, qualifying_points, visits, activities or membership; '
         'did you mean "net_spend"?'],
    ),
    "no base for spend": (SPEND, "  base: total\n", "", ["tiers.base: is missing; expected total or goods_paid"]),
    "no window": (SPEND, "  window: calendar_half\n", "", [f"tiers.window: is missing; expected {TIER_WINDOW}"]),
    "a window by another name": (
        SPEND, "calendar_half", "calendar_month",
        [f'tiers.window: found "calendar_month"; expected {TIER_WINDOW}'],
    ),
    "a base for points": (
        POINTS, "  window: lifetime", "  base: total\n  window: lifetime",
        ["tiers.base: the metric is qualifying_points, which counts no amount; remove this key"],
    ),
    "qualifying rules for spend": (
        SPEND, "  base: total", "  base: total\n  qualifying: [award]",
        ["tiers.qualifying: the metric is net_spend, which counts no points; remove this key"],
    ),
    "a qualifying rule that is not there": (
        POINTS, "[summer, award]", "[sumer, award]",
        ['tiers.qualifying[0]: there is no rule "sumer"; did you mean "summer"?'],
    ),
    "a qualifying rule like no other": (
        POINTS, "[summer, award]", "[base]",
        ['tiers.qualifying[0]: there is no rule "base"; there are summer, sign_up_bonus, award'],
    ),
    "a qualifying rule twice": (
        POINTS, "[summer, award]", "[award, award]", ['tiers.qualifying[1]: "award" is here twice; remove one'],
    ),
    "no qualifying rule": (
        POINTS, "[summer, award]", "[]", ["tiers.qualifying: found 0; expected at least 1"],
    ),
    "windows of what is not counted": (
        PAID, "  metric: membership", "  metric: membership\n  window: P1Y\n  retention: {cycle: P1Y}",
        ["tiers.window: the metric is membership, where nothing is counted; remove this key",
         "tiers.retention: the metric is membership, where nothing is counted; remove this key"],
    ),
    "a threshold of a paid level": (
        PAID, "plan: plus", "plan: plus\n      from: 5",
        ["tiers.levels[1].from: the metric is membership, where a plan alone gives a level; remove this key"],
    ),
    "a paid level without plan": (
        PAID, "      plan: plus\n", "",
        ["tiers.levels[1].plan: is missing; "
         "only the first level has none: name the membership that gives this one"],
    ),
    "money for points": (
        POINTS, "from: 500", 'from: "500.00"', [f'tiers.levels[1].from: found "500.00"; expected {COUNT}'],
    ),
    "points for money": (
        SPEND, 'from: "300.00"', "from: 300",
        ["tiers.levels[1].from: found 300 without quotes; "
         'expected an amount in quotes with 2 decimals, such as "300.00"'],
    ),
    "points out of order": (
        POINTS, "from: 2000", "from: 500",
        ["tiers.levels[2].from: found 500 without quotes; expected more than the 500 before it"],
    ),
    "a list for a threshold": (
        SPEND, 'from: "300.00"', "from: []",
        ["tiers.levels[1].from: found a list; expected an amount in quotes with 2 decimals, such as \"300.00\""],
    ),
    "no threshold in points": (
        POINTS, "      from: 2000\n", "",
        ["tiers.levels[2].from: is missing; only the first level has none: say from which number"],
    ),
    "more to keep than to reach": (
        SPEND, 'keep: "250.00"', 'keep: "300.01"',
        ['tiers.levels[1].keep: found "300.01"; expected at most the "300.00" of from'],
    ),
    "as little to keep as the level below": (
        SPEND, 'from: "1000.00"', 'from: "1000.00"\n      keep: "250.00"',
        ['tiers.levels[2].keep: found "250.00"; expected more than the "250.00" of the level below'],
    ),
    "something to keep for a plan": (
        PAID.replace("membership", "visits\n  window: P1Y"), "plan: plus", "plan: plus\n      keep: 5",
        ["tiers.levels[1].keep: there is no from beside it, and the plan alone gives this level; remove this key"],
    ),
    "conditions for the first level": (
        SPEND, "- name: White", '- name: White\n      plan: plain\n      keep: "1.00"',
        ["tiers.levels[0].plan: the first level holds for all below the next; remove this key",
         "tiers.levels[0].keep: the first level holds for all below the next; remove this key"],
    ),
    "one plan for two levels": (
        SPEND, 'from: "1000.00"', 'from: "1000.00"\n      plan: plus',
        ['tiers.levels[2].plan: "plus" is already the plan of levels[1]; give it another'],
    ),
    "a level of the suspended": (
        SPEND.replace("silver:", "suspended:"), "name: Silver", "name: Suspended",
        ['tiers.levels[2]: "suspended" is what suspended accounts are called; give the level another key'],
    ),
    "one benefit twice": (
        SPEND, "id: early-access", "id: free-shipping",
        ['tiers.levels[2].benefits[1].id: "free-shipping" is already the id of benefits[0]; give it another'],
    ),
    "a warning as long as the period": (
        SPEND, "warning: P60D", "warning: P1095D",
        ['tiers.validity.warning: found "P1095D"; expected a shorter time than the period'],
    ),
    "one activity twice": (
        SPEND, "id: survey", "id: review",
        ['earning.activities[1].id: "review" is already the id of activities[0]; give it another'],
    ),
    "an activity for nothing": (
        SPEND, "points: 20", "points: 0",
        ["earning.activities[1].points: found 0 without quotes; "
         "expected a whole number without quotes, 1 to 1,000,000"],
    ),
    "a rate of the market's own currency": (
        SPEND, "currency: JPY, amount", "currency: USD, amount",
        ['rates[1].amount: found "100"; expected an amount in quotes with 2 decimals, such as "100.00"',
         'rates[1].currency: "USD" is the currency of the market itself; name another'],
    ),
    "rates out of order": (
        SPEND, '"2026-02-01"', '"2026-01-01"',
        ['rates[2].from: found "2026-01-01"; expected a day after the "2026-01-01" of EUR before it'],
    ),
    "a rate with the decimals of another currency": (
        SPEND, 'amount: "100"', 'amount: "100.00"',
        ['rates[1].amount: found "100.00"; expected an amount in quotes with no decimals, such as "100"'],
    ),
    "half a rate": (
        SPEND, ', worth: "0.64"', "",
        ['rates[1].worth: is missing; expected an amount in quotes, such as "300.00"'],
    ),
    "a market with a name for people": (
        SPEND, "  gb:", "  Great Britain:",
        ['markets.Great Britain: found "Great Britain"; '
         'expected small letters, digits and hyphens, a letter first, at most 32, such as "green"'],
    ),
    "a market that is a list": (
        SPEND, "  jp:", "  de: []\n  jp:",
        ["markets.de: found a list; "
         "expected a mapping with the keys currency, time_zone, per, thresholds, maximums, rates"],
    ),
    "markets in a list": (
        PLAIN, "tiers:", "markets: []\ntiers:", ["markets: found a list; expected a mapping"],
    ),
    "a market without a currency": (
        SPEND, "    currency: GBP\n", "",
        ["markets.gb.currency: is missing; expected an active ISO 4217 code, such as \"PLN\""],
    ),
    "an unknown key of a market": (
        SPEND, "    time_zone: Asia/Tokyo", "    time_zone: Asia/Tokyo\n    zone: Asia/Tokyo",
        ['markets.jp.zone: unknown key; did you mean "time_zone"?'],
    ),
    "another currency that earns like the programme's": (
        SPEND, '    per: "150"\n', "",
        ["markets.jp.per: is missing; "
         "the programme's is in another currency: say which amount earns its points here"],
    ),
    "decimals of the programme in a market": (
        SPEND, 'green: {from: "45000"}', 'green: {from: "450.00"}',
        ['markets.jp.thresholds.green.from: found "450.00"; '
         'expected an amount in quotes with no decimals, such as "450"'],
    ),
    "a market without thresholds": (
        SPEND, '    thresholds:\n      green: {from: "45000"}\n      silver: {from: "150000"}\n', "",
        ["markets.jp.thresholds: is missing; a market has its own for each level with a threshold: green, silver"],
    ),
    "a market that misses a level, and has another": (
        SPEND, '      silver: {from: "150000"}\n', '      silber: {from: "150000"}\n',
        ["markets.jp.thresholds.silver: is missing; a market has its own for each level with a threshold",
         'markets.jp.thresholds.silber: there is no level with a threshold called "silber"; did you mean "silver"?'],
    ),
    "thresholds of a market out of order": (
        SPEND, '      silver: {from: "150000"}\n', '      silver: {from: "45000"}\n',
        ['markets.jp.thresholds.silver.from: found "45000"; expected more than the "45000" before it'],
    ),
    "a market's rate of its own currency": (
        SPEND, "currency: USD, amount", "currency: GBP, amount",
        ['markets.gb.rates[0].currency: "GBP" is the currency of the market itself; name another'],
    ),
    "decimals of the programme in what earns points": (
        SPEND, 'per: "150"', 'per: "1.50"',
        ['markets.jp.per: found "1.50"; expected an amount in quotes with no decimals, such as "300"'],
    ),
    "a market without maxima": (
        SPEND, '    maximums:\n      silver: {free-shipping: "3000"}\n', "",
        ["markets.jp.maximums: is missing; "
         "a market has its own for each level with a benefit that has a maximum: silver"],
    ),
    "maxima of a market where there are none": (
        PLAIN, "tiers:",
        'markets: {us: {currency: USD, time_zone: UTC, thresholds: {green: {from: "3.00"}}, maximums: {}}}\ntiers:',
        ["markets.us.maximums: no benefit has a maximum; remove this key"],
    ),
    "a market's maximum that is not there": (
        SPEND, '{free-shipping: "3000"}', '{shipping: "3000"}',
        ["markets.jp.maximums.silver.free-shipping: is missing; "
         "a market has its own for each benefit with a maximum",
         "markets.jp.maximums.silver.shipping: "
         'there is no benefit with a maximum called "shipping"; did you mean "free-shipping"?'],
    ),
    "a market's maximum of nothing": (
        SPEND, '{free-shipping: "3000"}', '{free-shipping: "0"}',
        ['markets.jp.maximums.silver.free-shipping: found "0"; '
         'expected an amount above zero, at most "1000000000000000"'],
    ),
    "thresholds of a market where points count": (
        POINTS, "tiers:",
        'markets: {us: {currency: USD, time_zone: America/Denver, thresholds: {silver: {from: "5.00"}}}}\ntiers:',
        ["markets.us.thresholds: thresholds are no amounts, and the same in all markets; remove this key"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("text, right, wrong, expected", WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_about_tiers_is_told_with_key_fault_and_remedy(
    text: str, right: str, wrong: str, expected: list[str]
) -> None:
    assert right in text
    assert problems(text.replace(right, wrong, 1)) == expected


def test_lists_and_markets_have_an_end() -> None:
    markets = "".join(f"  m{n}: {{currency: USD, time_zone: UTC}}\n" for n in range(51))
    activities = ", ".join(f"{{id: a{n}, points: 1}}" for n in range(101))
    benefits = ", ".join(f"{{id: b{n}, text: x}}" for n in range(21))
    text = PAID.replace('per: "1.00"', f'per: "1.00", activities: [{activities}]')
    text = text.replace("plan: plus", f"plan: plus\n      benefits: [{benefits}]")
    assert problems(f"{text}markets:\n{markets}") == [
        "earning.activities: found 101; expected at most 100",
        "tiers.levels[1].benefits: found 21; expected at most 20",
        "markets: found 51; expected at most 50",
    ]


def places(value: object, path: KeyPath = ()) -> list[KeyPath]:
    """Where a value stands in a document, and all that it holds."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for step, inner in steps for place in places(inner, (*path, step)))]


@given(
    st.sampled_from(
        [(text, place) for text in (SPEND, POINTS, PAID) for place in places(Document(text, "x").content)[1:]]
    ),
    st.sampled_from([None, True, -1, 5, 10**17, "", "P0M", "1.00", "\0", [], [[]], [None], ["x", "x"], {}, {"x": []}]),
)
def test_whatever_stands_at_a_key_of_the_tiers_it_is_taken_or_refused_in_sentences(
    where: tuple[str, KeyPath], odd: object
) -> None:
    text, place = where
    content: Any = Document(text, "x").content
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
