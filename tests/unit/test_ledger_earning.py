"""What a purchase earns beyond the base rule: bonuses, and when they hold."""

from __future__ import annotations

from datetime import datetime

import pytest

from services.ledger.domain import commands
from services.ledger.domain.earning import explain
from tests.ledger_rules import Shop, goods, local, programme, shipping

JOINED = local(2026, 1, 1)


def earned(bonus: str, at: datetime, amount: int = 1000) -> dict[str, int]:
    shop = Shop(programme(earning=f"bonuses: [{{id: extra, {bonus}}}]"), at, joined=JOINED)
    return {rule.rule: rule.points for rule in shop.buy(amount).rules}


@pytest.mark.parametrize(
    ("at", "holds"),
    [
        (local(2026, 5, 31, 23, 59, 59), False),
        (local(2026, 6, 1), True),
        (local(2026, 8, 31, 23, 59, 59), True),
        (local(2026, 9, 1), False),
    ],
)
def test_a_bonus_holds_from_its_first_local_day_through_its_last(at: datetime, holds: bool) -> None:
    rules = earned('points: 7, from: "2026-06-01", until: "2026-08-31"', at)
    assert rules == {"base": 10, "extra": 7} if holds else {"base": 10}


@pytest.mark.parametrize(
    ("at", "holds"),
    [
        (local(2026, 5, 1, 23, 59), False),
        (local(2026, 5, 2), True),
        (local(2026, 5, 3, 23, 59), True),
        (local(2026, 5, 4), False),
    ],
)
def test_a_bonus_of_the_weekend_goes_by_the_shop_s_calendar(at: datetime, holds: bool) -> None:
    assert ("extra" in earned("points: 7, weekdays: [sat, sun]", at)) is holds


@pytest.mark.parametrize(("amount", "points"), [(999, None), (1000, 7)])
def test_a_bonus_asks_for_its_minimum(amount: int, points: int | None) -> None:
    assert earned('points: 7, minimum: "10.00"', local(2026, 5, 1), amount).get("extra") == points


def test_the_minimum_is_asked_of_what_earns() -> None:
    shop = Shop(programme(earning='bonuses: [{id: extra, points: 7, minimum: "10.00"}]'), local(2026, 5, 1))
    assert shop.buy(1000, goods(999), shipping(1)).points == 9


def test_where_nothing_earns_there_is_no_bonus() -> None:
    shop = Shop(programme(earning="bonuses: [{id: extra, points: 7}]"), local(2026, 5, 1))
    assert shop.buy(1000, shipping(1000)).points == 0


def test_a_bonus_for_the_first_purchase_comes_once() -> None:
    shop = Shop(programme(earning="bonuses: [{id: extra, points: 7, first_purchase: true}]"), local(2026, 5, 1))
    assert shop.buy(1000).points == 17
    assert shop.buy(1000, purchase_id="b").points == 10
    assert shop.buy(1000, purchase_id="c", at=local(2026, 4, 30, 12)).points == 10


def test_a_multiplier_adds_what_the_base_rule_has_not_given_floored_by_itself() -> None:
    shop = Shop(programme(earning='bonuses: [{id: extra, multiplier: "2.5"}]'), local(2026, 5, 1))
    event = shop.buy(199)
    assert [(rule.rule, rule.points) for rule in event.rules] == [("base", 1), ("extra", 2)]
    assert explain(event.rules[1], "EUR") == "bonus extra, on top: 1 point per 1.00 EUR of 1.99 EUR, times 1.5"


def test_a_multiplier_is_of_the_base_rate_whatever_the_class() -> None:
    shop = Shop(programme(earning='bonuses: [{id: extra, multiplier: "2"}]'), local(2026, 5, 1))
    shop.do(commands.SetEarningClass, earning_class="regular", effective_time=JOINED, sequence=1)
    assert [rule.points for rule in shop.buy(1000).rules] == [12, 10]


def test_a_bonus_of_departments_counts_their_goods_alone_and_says_which() -> None:
    rules = programme(earning='bonuses: [{id: extra, multiplier: "3", departments: [DAIRY, MEAT]}]')
    shop = Shop(rules, local(2026, 5, 1))
    event = shop.buy(1000, goods(300, "DAIRY"), goods(400, "TOYS"), shipping(100), goods(200, "MEAT"))
    (extra,) = event.rules[1:]
    assert (extra.points, extra.base, extra.lines) == (10, 500, (1, 4))
    assert len(shop.buy(1000, goods(1000, "TOYS"), purchase_id="b").rules) == 1


def test_bonuses_add_up() -> None:
    shop = Shop(programme(earning='bonuses: [{id: one, points: 7}, {id: two, multiplier: "2"}]'), local(2026, 5, 1))
    assert [(rule.rule, rule.points) for rule in shop.buy(1000).rules] == [("base", 10), ("one", 7), ("two", 10)]


def test_before_joining_there_is_neither_base_nor_bonus() -> None:
    shop = Shop(programme(earning="bonuses: [{id: extra, points: 7}]"), local(2026, 5, 1), joined=local(2026, 5, 1))
    event = shop.buy(1000)
    assert [(rule.rule, rule.points) for rule in event.rules] == [("before_joining", 0)]
