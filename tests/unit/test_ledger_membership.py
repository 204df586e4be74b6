"""Leaving and coming back, activities, paid memberships, suspended accounts, and markets with their currencies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import date, timedelta
from types import MappingProxyType
from typing import Any

import pytest

from services.ledger import errors
from services.ledger.domain import commands
from services.ledger.domain.earning import explain
from services.ledger.domain.encoding import decode_body, encode_body
from services.ledger.domain.events import Account, EntryKind, Event, Exchange, LineReturn
from services.ledger.domain.state import Absence, evolve_member
from services.programme import SUSPENDED, Market, Programme, Rate
from tests.ledger_rules import Shop, as_of, goods, local, programme, shipping

NOON = local(2026, 5, 1, 12)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)

# In the programme's own market 1.00 USD is worth 0.90 EUR, from 1 June on 0.80.
DOLLARS = (
    Rate(from_day=date(2026, 1, 1), currency="USD", minor_units=100, home_minor_units=90),
    Rate(from_day=date(2026, 6, 1), currency="USD", minor_units=100, home_minor_units=80),
)
# A euro is worth 4.3217 zloty, and 5.00 zloty earn what a euro does.
POLAND = Market(
    key="pl",
    currency="PLN",
    minor_unit_digits=2,
    time_zone="Europe/Warsaw",
    tiers=programme().tiers,
    earning_per=500,
    rates=(Rate(from_day=date(2026, 1, 1), currency="EUR", minor_units=10_000, home_minor_units=43_217),),
)


def rules(more: str = "", *, earning: str = "", activities: Mapping[str, int] | None = None) -> Programme:
    """The corner shop with activities, a paid level, rates and a market in Poland."""
    shop = programme(more, earning=earning)
    first, *others = shop.tiers.levels
    paid = dataclasses.replace(others[-1], number=len(shop.tiers.levels) + 1, key="plus", threshold=None, plan="plus")
    tiers = dataclasses.replace(shop.tiers, levels=(first, *others, paid))
    return dataclasses.replace(
        shop,
        earning=dataclasses.replace(
            shop.earning, activities=MappingProxyType({"review": 25} if activities is None else dict(activities))
        ),
        tiers=tiers,
        rates=DOLLARS,
        markets=MappingProxyType({"pl": dataclasses.replace(POLAND, tiers=tiers)}),
    )


def shop(more: str = "", **options: Any) -> Shop:
    """A member without points, at noon on 1 May, a day after it joined."""
    return Shop(rules(more), NOON, **options)


def refusal(event: Event) -> str:
    return event.reason if event.kind is EntryKind.REQUEST_REFUSED else ""


# --- leaving and coming back ------------------------------------------------------------------------------------


def test_who_leaves_and_comes_back_has_joined_when_it_first_did() -> None:
    here = shop()
    joined = here.member.joined_time
    left = here.resign()
    assert (left.kind, left.occurred_time, left.reason) == (EntryKind.MEMBER_RESIGNED, NOON, "by_itself")
    assert (here.member.resigned_time, here.member.rejoined_time) == (NOON, None)
    here.now += DAY
    back = here.rejoin()
    assert (back.kind, back.channel, back.points) == (EntryKind.MEMBER_REJOINED, "web", 0)
    assert (here.member.joined_time, here.member.resigned_time, here.member.rejoined_time) == (
        joined,
        None,
        NOON + DAY,
    )


def test_nobody_leaves_twice_or_comes_back_without_having_left() -> None:
    here = shop()
    assert refusal(here.rejoin()) == "MEMBER_ENROLLED"
    here.resign()
    assert refusal(here.resign()) == "MEMBER_RESIGNED"
    here.rejoin()
    assert refusal(here.rejoin()) == "MEMBER_ENROLLED"


def test_enrolling_again_does_not_bring_back_who_has_left() -> None:
    here = shop()
    here.resign()
    assert refusal(here.do(commands.EnrollMember, channel="")) == "MEMBER_EXISTS"
    assert here.member.resigned_time == NOON


def test_a_change_of_membership_may_lie_in_the_past_but_not_before_the_last_one() -> None:
    here = shop()
    joined = here.member.joined_time
    assert refusal(here.resign(at=joined - timedelta(microseconds=1))) == "MEMBERSHIP_CHANGED_LATER"
    left = here.resign(at=joined + HOUR)
    assert left.flags, "it was another local day"
    assert refusal(here.rejoin(at=joined + HOUR - timedelta(microseconds=1))) == "MEMBERSHIP_CHANGED_LATER"
    assert here.rejoin(at=joined + 2 * HOUR).kind is EntryKind.MEMBER_REJOINED
    assert refusal(here.resign(at=joined + HOUR)) == "MEMBERSHIP_CHANGED_LATER"
    assert here.member.absences == (Absence(joined + HOUR, joined + 2 * HOUR),)


def test_who_has_left_buys_spends_gets_and_does_nothing() -> None:
    here = shop()
    here.award(100)
    here.resign()
    here.now += HOUR
    refused = [
        here.buy(1000),
        here.redeem(10),
        here.hold(10),
        here.award(10),
        here.act("review"),
        here.pay("plus", end=NOON + 30 * DAY),
    ]
    assert [refusal(event) for event in refused] == ["MEMBER_RESIGNED"] * 6
    assert here.balance == (0, 100, 0, 0)
    here.rejoin()
    assert here.buy(1000, purchase_id="b").points == 10


def test_nothing_owed_is_lost_when_somebody_leaves() -> None:
    here = shop()
    here.buy(10_000)
    here.buy(2_000, purchase_id="b")
    spent = here.redeem(20)
    held, kept = here.hold(30), here.hold(5)
    here.resign()
    here.now += timedelta(minutes=10)
    events = [
        here.capture(held, 10),
        here.release(held),
        here.extend(kept, 2 * HOUR),
        here.reverse(spent, 20),
        here.adjust(-1),
        here.bring_back(5_000),
        here.void(purchase_id="b"),
    ]
    assert [refusal(event) for event in events] == [""] * 7
    # 120 earned, 10 captured, 1 taken by hand, 50 returned, 20 voided, 5 still held.
    assert here.balance == (0, 34, 5, 0)


def test_a_purchase_of_before_the_member_left_counts_when_it_comes_late() -> None:
    here = shop()
    here.resign()
    here.now += DAY
    assert here.buy(1000, at=NOON - timedelta(microseconds=1)).points == 10
    assert refusal(here.buy(1000, purchase_id="b", at=NOON)) == "MEMBER_RESIGNED"


def test_a_purchase_of_the_time_away_is_refused_after_the_member_came_back_too() -> None:
    here = shop()
    here.resign()
    here.now += DAY
    here.rejoin()
    here.resign()
    here.now += DAY
    here.rejoin()
    assert refusal(here.buy(1000, at=NOON + HOUR)) == "MEMBER_RESIGNED"
    assert refusal(here.buy(1000, purchase_id="b", at=NOON + DAY + HOUR)) == "MEMBER_RESIGNED"
    assert here.buy(1000, purchase_id="c", at=NOON + 2 * DAY).points == 10


def test_what_was_spent_offline_is_taken_from_who_has_left_and_from_who_is_suspended() -> None:
    here = shop()
    here.award(5)
    here.resign()
    assert refusal(here.redeem(10, offline=True)) == ""
    here.rejoin()
    here.set_class(SUSPENDED)
    assert refusal(here.redeem(10, offline=True)) == ""
    assert here.balance == (0, 0, 0, 15)


def test_a_member_seen_as_of_an_instant_was_there_or_had_left_then() -> None:
    here = shop()
    here.resign(at=NOON)
    here.now += 2 * DAY
    here.rejoin()
    before, away, after = (as_of(here.programme, here.events, at) for at in (NOON - HOUR, NOON + HOUR, NOON + 2 * DAY))
    assert before is not None
    assert away is not None
    assert after is not None
    assert (before.resigned_time, away.resigned_time, after.resigned_time) == (None, NOON, None)


# --- activities -------------------------------------------------------------------------------------------------


def test_an_activity_gives_the_programme_s_points_whatever_the_class() -> None:
    here = shop()
    here.set_class("regular")
    event = here.act("review")
    assert (event.kind, event.reference, event.channel, event.points) == (
        EntryKind.ACTIVITY_RECORDED,
        "review",
        "app",
        25,
    )
    assert event.detail == {"activity_reference": "review 1"}
    assert explain(event.rules[0], "") == "for an activity"
    assert here.balance == (0, 25, 0, 0)


def test_an_activity_that_the_programme_does_not_know_is_recorded_and_gives_nothing() -> None:
    event = shop().act("cartwheel")
    assert (event.kind, event.reference, event.points, event.postings) == (
        EntryKind.ACTIVITY_RECORDED,
        "cartwheel",
        0,
        (),
    )


def test_an_activity_up_to_the_joining_time_gives_nothing() -> None:
    here = shop()
    event = here.act("review", at=here.member.joined_time)
    assert [(rule.rule, rule.points) for rule in event.rules] == [("before_joining", 0)]


def test_an_activity_pays_debt_first() -> None:
    here = shop()
    here.redeem(10, offline=True)
    here.act("review")
    assert here.balance == (0, 15, 0, 0)


def test_an_activity_keeps_points_alive_as_a_purchase_does_also_one_without_points() -> None:
    here = shop("expiry: {policy: inactivity, period: P10D}")
    here.buy(1000)
    here.now += 8 * DAY
    here.act("cartwheel")
    here.now += 8 * DAY
    assert here.balance == (0, 10, 0, 0)
    here.now += 8 * DAY
    assert here.balance == (0, 0, 0, 0)


# --- paid memberships -------------------------------------------------------------------------------------------


def test_a_fee_says_which_plan_was_paid_for_how_long_and_moves_no_points() -> None:
    here = shop()
    event = here.pay("plus", end=NOON + 30 * DAY)
    assert (event.kind, event.reference, event.effective_time, event.expire_time) == (
        EntryKind.MEMBERSHIP_FEE_RECORDED,
        "plus",
        NOON,
        NOON + 30 * DAY,
    )
    assert (event.amount, event.currency, event.postings, event.rules) == (1000, "EUR", (), ())
    later = here.pay("plus", start=NOON + 30 * DAY, end=NOON + 60 * DAY)
    assert later.effective_time == NOON + 30 * DAY


def test_a_fee_for_a_plan_that_no_level_has_is_refused() -> None:
    assert refusal(shop().pay("gold", end=NOON + DAY)) == "PLAN_UNKNOWN"


def test_a_fee_that_ends_when_it_begins_or_before_is_not_taken() -> None:
    with pytest.raises(errors.FeePeriodError):
        shop().pay("plus", end=NOON)
    with pytest.raises(errors.FeePeriodError):
        shop().pay("plus", start=NOON + DAY, end=NOON + HOUR)


def test_a_fee_is_paid_with_something_and_in_a_currency_that_is_taken() -> None:
    with pytest.raises(errors.AmountNotPositiveError):
        shop().pay("plus", amount=0, end=NOON + DAY)
    with pytest.raises(errors.CurrencyMismatchError):
        shop().pay("plus", currency="GBP", end=NOON + DAY)
    assert shop().pay("plus", currency="USD", end=NOON + DAY).currency == "USD"


# --- suspended accounts -----------------------------------------------------------------------------------------


def test_a_suspended_account_s_purchases_are_recorded_and_earn_nothing() -> None:
    here = Shop(rules(earning="bonuses: [{id: extra, points: 7}]"), NOON)
    here.set_class(SUSPENDED, effective=NOON + HOUR)
    assert here.buy(1000).points == 17
    here.now += HOUR
    event = here.buy(1000, purchase_id="b")
    assert (event.kind, event.earning_class, event.points) == (EntryKind.PURCHASE_RECORDED, "suspended", 0)
    assert explain(event.rules[0], "EUR") == "nothing: the account was suspended"
    assert here.buy(1000, purchase_id="c", at=NOON + HOUR - timedelta(microseconds=1)).points == 17
    assert here.bring_back(1000, purchase_id="b").points == 0


def test_a_suspended_account_s_activities_give_nothing() -> None:
    here = shop()
    here.set_class(SUSPENDED)
    assert [rule.rule for rule in here.act("review").rules] == ["suspended"]
    assert here.balance == (0, 0, 0, 0)


def test_points_of_a_suspended_account_are_frozen_and_thaw_with_its_next_class() -> None:
    here = shop()
    here.award(100)
    held = here.hold(10)
    here.set_class(SUSPENDED)
    refused = [here.redeem(10), here.hold(10), here.capture(held, 5)]
    assert [refusal(event) for event in refused] == ["ACCOUNT_SUSPENDED"] * 3
    here.set_class("guest")
    assert [refusal(event) for event in (here.redeem(10), here.hold(10), here.capture(held))] == [""] * 3


def test_points_of_a_suspended_account_lapse_as_usual_and_returns_take_what_they_take() -> None:
    here = shop("expiry: {policy: after, period: P10D}")
    here.buy(1000)
    here.buy(500, purchase_id="b")
    here.set_class(SUSPENDED)
    assert here.bring_back(500, purchase_id="b").points == -5
    here.now += 11 * DAY
    assert here.balance == (0, 0, 0, 0)


def test_no_class_but_the_programme_s_and_suspended_is_set() -> None:
    here = shop()
    assert here.set_class(SUSPENDED).kind is EntryKind.EARNING_CLASS_SET
    assert refusal(here.set_class("gone")) == "EARNING_CLASS_UNKNOWN"


# --- markets and currencies -------------------------------------------------------------------------------------


def test_a_member_is_at_home_in_a_market_of_the_programme() -> None:
    assert shop(market="pl").member.market == "pl"
    with pytest.raises(errors.MarketUnknownError):
        shop(market="de")


def test_a_purchase_in_another_currency_earns_by_the_rate_of_its_day() -> None:
    here = shop()
    # 13.33 USD are 12.00 EUR (11.997), floored once, at the end.
    event = here.buy(1333, currency="USD")
    assert (event.currency, event.amount, event.goods_paid, event.points) == ("USD", 1333, 1333, 12)
    assert explain(event.rules[0], "USD") == "1 point per 1.00 EUR of 13.33 USD (12.00 EUR)"
    here.now = local(2026, 6, 1)
    assert here.buy(1333, purchase_id="b", currency="USD").points == 10
    assert here.buy(1333, purchase_id="c", currency="USD", at=here.now - timedelta(microseconds=1)).points == 12


def test_a_currency_without_a_rate_is_not_taken_nor_is_one_before_its_first_day() -> None:
    here = shop(joined=local(2025, 12, 1))
    with pytest.raises(errors.CurrencyMismatchError, match="has no rate for GBP on 2026-05-01"):
        here.buy(1000, currency="GBP")
    with pytest.raises(errors.CurrencyMismatchError, match="has no rate for USD on 2025-12-31"):
        here.buy(1000, currency="USD", at=local(2026, 1, 1) - timedelta(microseconds=1))
    with pytest.raises(errors.CurrencyMismatchError):
        here.bring_back(1000, purchase_id="", currency="GBP")


@pytest.mark.parametrize("purchase_id", ["", "a"])
def test_a_currency_that_there_is_not_is_told_before_lines_that_do_not_add_up(purchase_id: str) -> None:
    here = shop()
    with pytest.raises(errors.CurrencyMismatchError):
        here.buy(1000, goods(1), currency="ZZZ")
    with pytest.raises(errors.CurrencyMismatchError):
        here.bring_back(1000, goods(1), purchase_id=purchase_id, currency="ZZZ")
    with pytest.raises(errors.LinesDoNotAddUpError, match=r"add up to 0\.01 USD, but the amount is 10\.00 USD"):
        here.bring_back(1000, goods(1), purchase_id=purchase_id, currency="USD")


def test_a_market_has_its_own_currency_and_what_earns_there() -> None:
    here = shop(market="pl")
    assert here.buy(1499, currency="PLN").points == 2
    # 3.47 EUR are 15.00 PLN (14.996), which is what three points take.
    event = here.buy(347, purchase_id="b", currency="EUR")
    assert event.points == 3
    assert explain(event.rules[0], "EUR") == "1 point per 5.00 PLN of 3.47 EUR (15.00 PLN)"
    with pytest.raises(errors.CurrencyMismatchError, match="the member's market is in PLN"):
        here.buy(1000, purchase_id="c", currency="USD")


def test_a_bonus_asks_for_its_minimum_in_the_currency_of_the_market() -> None:
    here = Shop(rules(earning='bonuses: [{id: big, points: 7, minimum: "9.00"}]'), NOON)
    assert here.buy(999, currency="USD").points == 8
    assert here.buy(1000, purchase_id="b", currency="USD").points == 9 + 7


def test_a_linked_return_takes_points_at_the_purchase_s_rate_and_an_unlinked_one_at_its_own_day_s() -> None:
    here = shop()
    here.buy(10_000, currency="USD")
    here.now = local(2026, 6, 2)
    # 40.00 USD remain: 36.00 EUR by the rate of 1 May.
    assert here.bring_back(6_000, currency="USD").points == -54
    assert here.bring_back(4_000, currency="USD").points == -36
    assert here.bring_back(10_000, purchase_id="", currency="USD").points == -80
    assert here.balance == (0, 0, 0, 80)


def test_returns_of_a_purchase_are_in_its_currency() -> None:
    here = shop()
    here.buy(10_000, goods(10_000), currency="USD")
    assert refusal(here.bring_back(1_000)) == "RETURN_CURRENCY_DIFFERS"
    with pytest.raises(errors.CurrencyMismatchError):
        here.bring_back(1_000, currency="GBP")
    back = here.bring_back(named=(LineReturn(1, 0, 1_000),))
    assert (back.currency, back.amount, back.points) == ("USD", 1_000, -9)
    assert here.void().currency == "USD"
    assert here.balance == (0, 0, 0, 0)


def test_a_return_that_waited_in_another_currency_than_its_purchase_is_refused_when_that_comes() -> None:
    here = shop()
    here.bring_back(400)
    here.bring_back(300, currency="USD")
    here.buy(1_000, currency="USD")
    assert [(event.kind, event.amount, event.reason) for event in here.events[-3:]] == [
        (EntryKind.PURCHASE_RECORDED, 1_000, ""),
        (EntryKind.REQUEST_REFUSED, 0, "RETURN_CURRENCY_DIFFERS"),
        (EntryKind.RETURN_RECORDED, 300, "damaged"),
    ]
    assert here.balance == (0, 6, 0, 0)


@pytest.mark.parametrize("sizes", [(1, 332, 1000), (999, 1, 333), (1000, 333), (7, 7, 7, 1312), (1333,)])
def test_partial_returns_in_another_currency_leave_what_the_rules_give_for_the_rest(sizes: tuple[int, ...]) -> None:
    earning = """
bonuses:
  - {id: dairy, multiplier: "1.75", departments: [DAIRY]}
  - {id: big, points: 31, minimum: "10.00"}
"""
    here = Shop(rules(earning=earning), NOON)
    here.buy(1333, goods(401, "DAIRY"), goods(599, "MEAT"), shipping(333), currency="USD")
    given = here.member.available
    # 10.00 USD of goods are 9.00 EUR, of which 3.61 are dairy: the big bonus asks for more.
    assert given == 9 + 2
    left = 1333
    for size in sizes:
        here.bring_back(size, currency="USD")
        left -= size
        base = 1000 - 1000 * (1333 - left) // 1333
        dairy = 401 - 401 * (1333 - left) // 1333
        worth, of_dairy = ((2 * part * 90 + 100) // 200 for part in (base, dairy))
        assert here.member.available == (worth // 100 + of_dairy * 75 // 10_000 if left else 0)
    assert here.balance == (0, 0, 0, 0)
    assert sum(event.posted(Account.ISSUED) for event in here.events) == 0


def test_an_amount_at_home_is_what_the_market_says_it_is() -> None:
    for rate in (*DOLLARS, *POLAND.rates):
        market = dataclasses.replace(POLAND, currency="XXX", rates=(rate,))
        exchange = Exchange("XXX", rate.minor_units, rate.home_minor_units)
        for amount in (*range(300), 10**12 - 1, 10**12):
            assert exchange.at_home(amount) == market.at_home(amount, rate.currency, rate.from_day)


# --- what is written down ---------------------------------------------------------------------------------------


def test_everything_about_members_and_rates_is_read_back_from_the_log() -> None:
    here = shop(market="pl")
    here.buy(347, goods(347, "DAIRY"), currency="EUR")
    here.act("review")
    here.pay("plus", end=NOON + DAY, currency="EUR")
    here.resign()
    here.rejoin()
    member = None
    for event in here.events:
        fields = {name: getattr(event, name) for name in ("kind", "member_id", "request_id", "occurred_time")}
        read = Event(**fields, purchase_id=event.purchase_id, author=event.author, **decode_body(encode_body(event)))
        assert read == event._replace(detail=None)
        member = evolve_member(member, read)
    assert member == here.member


def test_what_older_entries_do_not_say_is_not_in_the_body_of_new_ones() -> None:
    here = shop()
    here.buy(1000)
    bodies = [encode_body(event) for event in here.events]
    assert all("market" not in body for body in bodies)
    assert '["base",10,1000,1,100,10000]' in bodies[-1]
