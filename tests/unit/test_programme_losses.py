"""What a new version of a programme takes away."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from services.programme import ANNOUNCEMENT_DAYS, Programme, load, losses, parse

PRESETS = Path(__file__).parents[2] / "programmes"
BASE = """\
programme: shop
currency: USD
time_zone: America/New_York
earning:
  base: total
  points: 2
  per: "1.00"
  sign_up_bonus: 100
  pending: P14D
  activities:
    - {id: review, points: 50}
  bonuses:
    - id: summer
      multiplier: "2"
      from: "2026-06-01"
      until: "2026-08-31"
      weekdays: [sat, sun]
      minimum: "50.00"
      departments: [DAIRY, BAKERY]
    - id: first-shop
      points: 200
expiry: {policy: after, period: P1Y}
redemption: {minimum: 500, step: 100}
returns: {shortfall: debt}
adjustments: {per_call: 1000}
back_dating: P90D
liability:
  values:
    - {from: "2020-01-01", points: 100, worth: "1.00"}
    - {from: "2026-07-01", points: 100, worth: "0.80"}
tiers:
  base: total
  window: P365D
  counted: from_joining
  cool_off: {period: P30D, applies_to: benefits}
  retention: {cycle: P12M, at_end: one_down, grace: P30D, on_return: keep}
  validity: {period: P3Y, transactions: 3, warning: P60D}
  levels:
    - name: White
      discount_percent: "1"
    - name: Green
      from: "300.00"
      keep: "250.00"
      plan: plus
      earning_multiplier: "1.25"
      discount_percent: "5"
    - name: Silver
      from: "1000.00"
      earning_multiplier: "1.5"
      discount_percent: "8"
      benefits:
        - {id: free-shipping, text: Free two-day shipping, maximum: "20.00"}
        - {id: early-access, text: A day before all others}
rates:
  - {from: "2026-01-01", currency: EUR, amount: "1.00", worth: "1.10"}
  - {from: "2026-01-01", currency: CAD, amount: "1.00", worth: "0.70"}
markets:
  gb:
    currency: GBP
    time_zone: Europe/London
    per: "0.80"
    thresholds: {green: {from: "240.00", keep: "200.00"}, silver: {from: "800.00"}}
    maximums: {silver: {free-shipping: "16.00"}}
    rates: [{from: "2026-01-01", currency: EUR, amount: "1.00", worth: "0.87"}]
"""
SILVER = BASE[BASE.index("    - name: Silver") : BASE.index("rates:")]
MARKETS = BASE[BASE.index("markets:") :]


def version(*changes: tuple[str, str], of: str = BASE) -> Programme:
    for right, other in changes:
        assert of.count(right) == 1, right
        of = of.replace(right, other)
    return parse(of, "x")


TAKEN: dict[str, tuple[list[tuple[str, str]], list[str]]] = {
    "a level is gone": (
        [(SILVER, ""), (', silver: {from: "800.00"}', ""),
         ('    maximums: {silver: {free-shipping: "16.00"}}\n', "")],
        ["There is no level Silver any more."],
    ),
    "a threshold rises": (
        [('from: "1000.00"', 'from: "1200.00"')],
        ["Silver begins at 1200.00 USD instead of 1000.00 USD."],
    ),
    "a level is reached by its plan alone": (
        [('      from: "300.00"\n      keep: "250.00"\n', ""), ('green: {from: "240.00", keep: "200.00"}, ', "")],
        ["Green is reached by a paid membership alone.",
         "Green in the market gb is reached by a paid membership alone."],
    ),
    "a level is harder to keep": (
        [('keep: "250.00"', 'keep: "260.00"')],
        ["Green is kept from 260.00 USD instead of 250.00 USD."],
    ),
    "a level is as hard to keep as to reach": (
        [('      keep: "250.00"\n', "")],
        ["Green is kept from 300.00 USD instead of 250.00 USD."],
    ),
    "a membership gives a level no more": (
        [("      plan: plus\n", "")], ["The membership plus gives Green no more."],
    ),
    "a discount falls": ([('discount_percent: "8"', 'discount_percent: "7.5"')],
                         ["Silver has a discount of 7.5 % instead of 8 %."]),
    "a level earns more slowly": ([('      earning_multiplier: "1.25"\n', "")],
                                  ["Green earns points at x1 instead of x1.25."]),
    "a benefit is gone": ([("        - {id: early-access, text: A day before all others}\n", "")],
                          ["Silver does not have the benefit early-access."]),
    "a benefit has a lower maximum": (
        [('maximum: "20.00"', 'maximum: "19.99"')],
        ["Silver has the benefit free-shipping up to 19.99 USD instead of up to 20.00 USD."],
    ),
    "a benefit gets a maximum": (
        [("text: A day before all others", 'text: A day before all others, maximum: "5.00"'),
         ('{free-shipping: "16.00"}', '{free-shipping: "16.00", early-access: "4.00"}')],
        ["Silver has the benefit early-access up to 5.00 USD instead of without limit.",
         "Silver in the market gb has the benefit early-access up to 4.00 GBP instead of without limit."],
    ),
    "a new level gives less than what was there": (
        [("    - name: Silver",
          '    - name: Blue\n      from: "500.00"\n      discount_percent: "4"\n    - name: Silver'),
         ('silver: {from: "800.00"}', 'blue: {from: "400.00"}, silver: {from: "800.00"}')],
        ["The new level Blue, which takes the place of Green, has a discount of 4 % instead of 5 %.",
         "The new level Blue, which takes the place of Green, earns points at x1 instead of x1.25."],
    ),
    "a new level has fewer benefits than what was there": (
        [(SILVER, SILVER + '    - {name: Golden, from: "2000.00", earning_multiplier: "2", discount_percent: "9"}\n'),
         ('silver: {from: "800.00"}', 'silver: {from: "800.00"}, golden: {from: "1600.00"}')],
        ["The new level Golden, which takes the place of Silver, does not have the benefit free-shipping.",
         "The new level Golden, which takes the place of Silver, does not have the benefit early-access."],
    ),
    "the first level must be earned": (
        [('    - name: White\n      discount_percent: "1"\n',
          '    - name: New\n      discount_percent: "1"\n    - name: White\n      from: "1.00"\n'
          '      discount_percent: "1"\n'),
         ("thresholds: {", 'thresholds: {white: {from: "1.00"}, ')],
        ["White begins at 1.00 USD instead of with joining.",
         "White in the market gb begins at 1.00 GBP instead of with joining."],
    ),
    "levels count less of a receipt": (
        [("tiers:\n  base: total", "tiers:\n  base: goods_paid")],
        ["Levels count the goods paid instead of the whole receipt."],
    ),
    "the window is shorter": (
        [("window: P365D", "window: P364D")],
        ["For a level counts what happened in the last 364 days instead of what happened in the last 365 days."],
    ),
    "the window ends with the year": (
        [("window: P365D", "window: calendar_year")],
        ["For a level counts what happened in a calendar year instead of what happened in the last 365 days."],
    ),
    "the joining itself counts no more": (
        [("  counted: from_joining\n", "")],
        ["What happens at the time of joining counts for levels no more."],
    ),
    "the latest joining counts": (
        [("counted: from_joining", "counted: from_joining\n  rejoining: latest")],
        ["For members who come back counts what followed the latest joining instead of the first."],
    ),
    "benefits wait longer": ([("period: P30D", "period: P31D")],
                             ["What a new level gives waits for 31 days instead of 30 days."]),
    "a level waits with its benefits": ([("applies_to: benefits", "applies_to: level")],
                                        ["A new level itself waits, and not its benefits alone."]),
    "levels are held no more": (
        [("  retention: {cycle: P12M, at_end: one_down, grace: P30D, on_return: keep}\n", "")],
        ["A level that was reached is no longer held for 12 months."],
    ),
    "levels are held for less": ([("cycle: P12M", "cycle: P11M")],
                                 ["A level that was reached is held for 11 months instead of 12 months."]),
    "members fall by more than one level": (
        [("at_end: one_down", "at_end: earned")],
        ["At the end of its cycle a member can fall by more than one level."],
    ),
    "grace is gone": ([(", grace: P30D", "")], ["The grace of 30 days after a cycle is gone."]),
    "grace is shorter": ([("grace: P30D", "grace: P1D")],
                         ["The grace after a cycle is 1 day instead of 30 days."]),
    "returns take a level back": ([("on_return: keep", "on_return: take_back")],
                                  ["A return can take a level back that is held for its cycle."]),
    "accounts are valid for less": ([("period: P3Y", "period: P2Y")],
                                    ["An account is valid for 2 years instead of 3 years."]),
    "a renewal needs more purchases": ([("transactions: 3", "transactions: 4")],
                                       ["An account needs 4 purchases to be renewed instead of 3."]),
    "the warning comes later": ([("warning: P60D", "warning: P59D")],
                                ["Members are warned 59 days before their account ends instead of 60 days."]),
    "purchases earn less": ([("points: 2\n", "points: 1\n")],
                            ["Purchases in the market gb earn 1 point for 0.80 GBP instead of 2 for 0.80 GBP.",
                             "Purchases earn 1 point for 1.00 USD instead of 2 for 1.00 USD."]),
    "less of a receipt earns": ([("earning:\n  base: total", "earning:\n  base: goods_paid")],
                                ["Points are earned on the goods paid instead of the whole receipt."]),
    "joining gives less": ([("sign_up_bonus: 100", "sign_up_bonus: 99")],
                           ["Joining gives 99 points instead of 100."]),
    "an activity gives less": ([("id: review, points: 50", "id: review, points: 49")],
                               ["The activity review gives 49 points instead of 50."]),
    "an activity gives nothing": ([("  activities:\n    - {id: review, points: 50}\n", "")],
                                  ["The activity review gives 0 points instead of 50."]),
    "points are pending for longer": ([("pending: P14D", "pending: P15D")],
                                      ["Points can be redeemed 15 days after a purchase instead of 14."]),
    "a bonus is gone": ([("    - id: first-shop\n      points: 200\n", "")], ["The bonus first-shop is gone."]),
    "points expire sooner": ([("period: P1Y}", "period: P365D}")],
                             ["Points expire after 365 days instead of after 1 year."]),
    "points expire another way": (
        [("policy: after, period: P1Y", "policy: calendar_year, period: P0M")],
        ["Points expire with the calendar year instead of after 1 year."],
    ),
    "more points are redeemed at once": ([("minimum: 500", "minimum: 501")],
                                         ["Points are redeemed from 501 up instead of 500."]),
    "steps are coarser": ([("step: 100", "step: 200")], ["Points are redeemed in steps of 200 instead of 100."]),
    "a return is refused": (
        [("shortfall: debt", "shortfall: refuse")],
        ["A return that takes more points than there are is refused, where it leaves a debt before."],
    ),
    "points are worth less": (
        [('worth: "1.00"}\n    - {from: "2026-07-01"', 'worth: "1.00"}\n    - {from: "2026-06-30"')],
        ["From 2026-06-30 on points are worth 0.80 USD for 100 instead of 1.00 USD for 100."],
    ),
    "a currency is taken no more": (
        [('  - {from: "2026-01-01", currency: CAD, amount: "1.00", worth: "0.70"}\n', "")],
        ["Purchases in CAD are taken no more."],
    ),
    "a market takes a currency no more": (
        [('    rates: [{from: "2026-01-01", currency: EUR, amount: "1.00", worth: "0.87"}]\n', "")],
        ["Purchases in EUR are taken in the market gb no more."],
    ),
    "a market is gone": ([(MARKETS, "")], ["There is no market gb any more."]),
    "a market's threshold rises": (
        [('silver: {from: "800.00"}', 'silver: {from: "900.00"}')],
        ["Silver in the market gb begins at 900.00 GBP instead of 800.00 GBP."],
    ),
    "a market's level is harder to keep": (
        [('keep: "200.00"', 'keep: "201.00"')],
        ["Green in the market gb is kept from 201.00 GBP instead of 200.00 GBP."],
    ),
    "a market's maximum falls": (
        [('free-shipping: "16.00"', 'free-shipping: "15.00"')],
        ["Silver in the market gb has the benefit free-shipping up to 15.00 GBP instead of up to 16.00 GBP."],
    ),
    "a market earns less": (
        [('per: "0.80"', 'per: "0.90"')],
        ["Purchases in the market gb earn 2 points for 0.90 GBP instead of 2 for 0.80 GBP."],
    ),
}  # fmt: skip


# What is different, and in both directions a loss for some.
ANOTHER_WAY = {
    "a new level gives less than what was there",
    "a new level has fewer benefits than what was there",
    "the first level must be earned",
    "the window ends with the year",
    "points expire another way",
}


@pytest.mark.parametrize("changes, sentences", TAKEN.values(), ids=TAKEN.keys())
def test_what_is_taken_away_is_said(changes: list[tuple[str, str]], sentences: list[str]) -> None:
    assert list(losses(version(), version(*changes))) == sentences


@pytest.mark.parametrize("taken", [taken for taken in TAKEN if taken not in ANOTHER_WAY])
def test_the_other_way_round_the_same_is_a_gift(taken: str) -> None:
    assert losses(version(*TAKEN[taken][0]), version()) == ()


@pytest.mark.parametrize(
    "changes",
    [
        [('multiplier: "2"', 'multiplier: "1.5"')],
        [('from: "2026-06-01"', 'from: "2026-06-02"')],
        [('until: "2026-08-31"', 'until: "2026-08-30"')],
        [("weekdays: [sat, sun]", "weekdays: [sun]")],
        [('minimum: "50.00"', 'minimum: "50.01"')],
        [("departments: [DAIRY, BAKERY]", "departments: [DAIRY]")],
        [("departments: [DAIRY, BAKERY]", "departments: [DAIRY, BAKERY]\n      first_purchase: true")],
    ],
    ids=lambda changes: changes[0][1],
)
def test_a_bonus_that_gives_less_or_for_fewer_purchases_is_taken_away(changes: list[tuple[str, str]]) -> None:
    before, after = version(), version(*changes)
    assert losses(before, after) == ("The bonus summer gives less, or for fewer purchases.",)
    assert losses(after, before) == ()


def test_a_bonus_may_go_once_it_has_ended() -> None:
    summer = BASE[BASE.index("    - id: summer") : BASE.index("    - id: first-shop")]
    before, after = version(), version((summer, ""))
    assert losses(before, after) == ("The bonus summer is gone before its end on 2026-08-31.",)
    assert losses(before, after, date(2026, 8, 31)) == ("The bonus summer is gone before its end on 2026-08-31.",)
    assert losses(before, after, date(2026, 9, 1)) == ()


def test_a_value_that_points_had_before_is_no_loss() -> None:
    before = version()
    after = version(('worth: "1.00"}\n    - {from: "2026-07-01"', 'worth: "0.50"}\n    - {from: "2026-07-01"'))
    assert losses(before, after) == (
        "From 2020-01-01 on points are worth 0.50 USD for 100 instead of 1.00 USD for 100.",
    )
    assert losses(before, after, date(2026, 6, 30)) == (
        "From 2026-06-30 on points are worth 0.50 USD for 100 instead of 1.00 USD for 100.",
    )
    assert losses(before, after, date(2026, 7, 1)) == ()


def test_points_without_value_and_cool_off_and_validity_that_come_are_losses() -> None:
    liability = BASE[BASE.index("liability:") : BASE.index("tiers:")]
    cool_off = "  cool_off: {period: P30D, applies_to: benefits}\n"
    validity = "  validity: {period: P3Y, transactions: 3, warning: P60D}\n"
    assert losses(version(), version((liability, ""))) == ("Points have no value any more.",)
    assert losses(version((cool_off, "")), version()) == ("What a new level gives waits for 30 days.",)
    assert losses(version((validity, "")), version()) == ("An account is valid for 3 years unless it is renewed.",)


def test_another_metric_is_a_loss_and_thresholds_are_compared_no_more() -> None:
    text = (
        BASE[: BASE.index("rates:")].replace("  base: total\n  window", "  window").replace('keep: "250.00"', "keep: 2")
    )
    text = text.replace('from: "300.00"', "from: 3").replace('from: "1000.00"', "from: 10")
    before = version((BASE[BASE.index("rates:") :], ""))
    visits = parse(text.replace("tiers:", "tiers:\n  metric: visits"), "x")
    assert losses(before, visits) == ("Levels go by visits instead of what was spent.",)
    more = parse(text.replace("tiers:", "tiers:\n  metric: visits").replace("from: 10", "from: 11"), "x")
    assert losses(visits, more) == ("Silver begins at 11 visits instead of 10 visits.",)


def test_another_currency_is_a_loss_and_amounts_are_compared_no_more() -> None:
    plain = BASE[: BASE.index("rates:")]
    assert losses(parse(plain, "x"), parse(plain.replace("USD", "EUR"), "x")) == ("Amounts are in EUR instead of USD.",)


def test_another_currency_of_a_market_is_a_loss_and_its_amounts_are_compared_no_more() -> None:
    after = version(
        ("currency: GBP", "currency: EUR"),
        ('EUR, amount: "1.00", worth: "0.87"', 'GBP, amount: "1.00", worth: "1.15"'),
        ('from: "800.00"', 'from: "950.00"'),
    )
    assert losses(version(), after) == ("Amounts in the market gb are in EUR instead of GBP.",)


def test_a_bonus_that_no_longer_qualifies_and_returns_at_their_own_time_are_losses() -> None:
    text = (PRESETS / "points-basic.yaml").read_text(encoding="utf-8")
    marked = text.replace("  window:", "  qualifying: [award]\n  linked_returns: purchase_time\n  window:")
    assert losses(parse(marked, "x"), parse(text, "x")) == (
        "The points of award count for levels no more.",
        "Returns count at their own time instead of their purchase's.",
    )
    assert losses(parse(text, "x"), parse(marked, "x")) == ()


def test_a_cycle_takes_away_from_levels_that_were_kept_for_longer() -> None:
    text = (PRESETS / "points-ladder.yaml").read_text(encoding="utf-8")
    cycle = text.replace("  levels:", "  retention: {cycle: P12M}\n  levels:")
    assert losses(parse(text, "x"), parse(cycle, "x")) == (
        "A level must be earned again in 12 months; it was kept by all that ever happened.",
    )
    yearly = text.replace("window: lifetime", "window: P365D")
    assert losses(parse(yearly, "x"), parse(cycle.replace("window: lifetime", "window: P365D"), "x")) == ()


@pytest.mark.parametrize(
    "window, longer, gives",
    [
        ("P365D", "P1Y", True), ("P1Y", "P365D", False), ("P12M", "P1Y", True), ("P31D", "P1M", False),
        ("P1M", "P31D", True), ("P28D", "P1M", True), ("P365D", "lifetime", True), ("lifetime", "P100Y", False),
        ("calendar_quarter", "calendar_half", True), ("calendar_year", "calendar_half", False),
        ("calendar_year", "P1Y", True), ("calendar_year", "P365D", False), ("anniversary", "P366D", True),
        ("anniversary", "calendar_year", False), ("calendar_quarter", "anniversary", False),
        ("anniversary", "lifetime", True), ("anniversary", "anniversary", True),
    ],
)  # fmt: skip
def test_a_window_is_a_loss_unless_whatever_counted_counts_as_long(window: str, longer: str, gives: bool) -> None:
    text = BASE.replace("  retention: {cycle: P12M, at_end: one_down, grace: P30D, on_return: keep}\n", "")
    before = parse(text.replace("window: P365D", f"window: {window}"), "x")
    after = parse(text.replace("window: P365D", f"window: {longer}"), "x")
    assert (losses(before, after) == ()) is gives


@pytest.mark.parametrize(
    "policy, other, gives",
    [
        ("policy: never", "policy: after, period: P100Y", False),
        ("policy: after, period: P1Y", "policy: inactivity, period: P1Y", False),
        ("policy: inactivity, period: P1Y", "policy: never", True),
        ("policy: calendar_year, period: P3M", "policy: after, period: P15M", True),
        ("policy: calendar_year, period: P3M", "policy: after, period: P1Y", False),
        ("policy: calendar_year, period: P3M", "policy: calendar_year, period: P2M", False),
    ],
)
def test_an_expiry_is_a_loss_unless_all_points_last_as_long(policy: str, other: str, gives: bool) -> None:
    text = "policy: after, period: P1Y"
    assert (losses(version((text, policy)), version((text, other))) == ()) is gives


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_version_takes_nothing_away_from_itself(path: Path) -> None:
    assert losses(load(path), load(path)) == ()


def test_a_version_that_only_gives_takes_nothing_away() -> None:
    after = version(
        ("points: 2\n", "points: 3\n"),
        ('from: "1000.00"', 'from: "900.00"'),
        ('discount_percent: "8"', 'discount_percent: "9"'),
        ("at_end: one_down, grace: P30D", "at_end: one_down, grace: P60D"),
        ("    - {id: review, points: 50}", "    - {id: review, points: 60}\n    - {id: survey, points: 1}"),
        ("adjustments: {per_call: 1000}", "adjustments: {per_call: 10}"),
        ("back_dating: P90D", "back_dating: P9D"),
        ("America/New_York", "America/Chicago"),
        ('    per: "0.80"', '    per: "0.70"'),
    )
    assert losses(version(), after) == ()
    assert ANNOUNCEMENT_DAYS == 30


REWARD = (
    "{id: tote, points: 800, tiers: [green, silver], until: '2026-12-31', texts: {en: {name: A tote bag}}, "
    "coupon: {prefix: TOTE, free_product: SKU-1, valid: P30D, uses: 2}}"
)


def with_reward(reward: str) -> Programme:
    return version(("liability:\n", f"rewards:\n  - {reward}\nliability:\n"))


@pytest.mark.parametrize(
    ("old", "new", "taken"),
    [
        ("points: 800", "points: 900", ["The reward tote costs 900 points instead of 800."]),
        (
            "points: 800",
            "points: 800, money: '2.00'",
            ["The reward tote costs 2.00 USD beside it instead of 0.00 USD."],
        ),
        ("SKU-1", "SKU-2", ["The reward tote gives something else."]),
        ("valid: P30D", "valid: P29D", ["The reward tote gives something else."]),
        ("tiers: [green, silver]", "tiers: [silver]", ["The reward tote is for fewer members, or less often."]),
        ("points: 800", "points: 800, per_member: 1", ["The reward tote is for fewer members, or less often."]),
        ("2026-12-31", "2026-11-30", ["The reward tote ends on 2026-11-30."]),
        ("id: tote", "id: bag", ["The reward tote is gone."]),
        ("points: 800", "points: 700", []),
        ("tiers: [green, silver], ", "", []),
        ("valid: P30D, uses: 2", "valid: P60D, uses: 3", []),
        ("2026-12-31", "2027-12-31", []),
    ],
)
def test_what_is_had_for_points_is_taken_away_where_it_is_dearer_less_or_gone(
    old: str, new: str, taken: list[str]
) -> None:
    assert old in REWARD
    assert list(losses(with_reward(REWARD), with_reward(REWARD.replace(old, new)), date(2026, 6, 1))) == taken


def test_a_reward_whose_days_are_over_may_go() -> None:
    assert losses(with_reward(REWARD), version(), date(2027, 1, 1)) == ()
    assert losses(version(), with_reward(REWARD)) == ()
