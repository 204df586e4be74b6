"""Markets: thresholds, a clock and money of their own; other currencies at the rate of the day (DESIGN §12.17)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from types import MappingProxyType
from zoneinfo import ZoneInfo

import pytest

from services.programme import Market, Rate, TierWindow, Versions, Window
from services.tiers.domain.facts import Fact, FactKind
from services.tiers.domain.feed import EntryKind, LedgerEntry, fact_of
from tests.tiers_rules import Member, levels_of, local, policy, programme

MONDAY, TUESDAY = local("2024-03-04T10:00"), local("2024-03-05T10:00")
EUROS = (
    Rate(from_day=date(2024, 3, 4), currency="EUR", minor_units=100, home_minor_units=400),
    Rate(from_day=date(2024, 3, 5), currency="EUR", minor_units=100, home_minor_units=500),
)
UK = Market(
    key="uk",
    currency="GBP",
    minor_unit_digits=2,
    time_zone="Europe/London",
    tiers=policy(levels=levels_of(60_00)),
    rates=(Rate(from_day=date(2024, 1, 1), currency="PLN", minor_units=500, home_minor_units=100),),
)
SHOP = replace(programme(policy()), rates=EUROS, markets=MappingProxyType({"uk": UK}))


def entry(amount: int, currency: str, at: datetime, kind: FactKind = FactKind.PURCHASE, goods: int = 0) -> LedgerEntry:
    return LedgerEntry(
        partition=0,
        offset=2,
        kind=EntryKind.FACT,
        member_id="m",
        occurred_time=at,
        fact_kind=kind,
        currency=currency,
        amount=amount,
        goods_paid=goods,
        purchase_id="p",
    )


def total(given: LedgerEntry, market: str = "", purchase_time: datetime | None = None) -> int:
    return fact_of(SHOP, market, given, purchase_time).total


def test_an_amount_in_the_markets_own_currency_stays_as_it_is() -> None:
    assert total(entry(123, "PLN", MONDAY)) == 123


def test_another_currency_is_converted_at_the_rate_of_the_transactions_day() -> None:
    assert [total(entry(10_00, "EUR", day)) for day in (MONDAY, TUESDAY)] == [40_00, 50_00]


def test_goods_are_converted_with_the_total() -> None:
    assert fact_of(SHOP, "", entry(10_00, "EUR", MONDAY, goods=5_00), None).goods_paid == 20_00


def test_a_linked_return_is_converted_at_the_rate_of_its_purchase() -> None:
    assert total(entry(10_00, "EUR", TUESDAY, FactKind.RETURN), purchase_time=MONDAY) == 40_00


def test_an_unlinked_return_is_converted_at_the_rate_of_its_own_day() -> None:
    assert total(entry(10_00, "EUR", TUESDAY, FactKind.RETURN)) == 50_00


def test_the_day_of_a_rate_is_that_of_the_markets_clock() -> None:
    assert total(entry(10_00, "EUR", local("2024-03-04T23:59"))) == 40_00
    assert total(entry(10_00, "EUR", local("2024-03-05T00:00"))) == 50_00


def test_without_a_rate_there_is_an_error_and_no_guess() -> None:
    with pytest.raises(LookupError):
        total(entry(10_00, "EUR", MONDAY - timedelta(days=1)))


def test_the_home_market_decides_what_another_currency_is_worth() -> None:
    assert total(entry(300_00, "PLN", MONDAY), market="uk") == 60_00


def member_of_uk(*facts: Fact) -> Member:
    member = Member(joined=local("2024-01-01T09:00"), name="uk")
    member.versions = Versions.only(SHOP)
    member.facts += facts
    return member


def test_a_member_goes_by_the_thresholds_of_its_market() -> None:
    member = member_of_uk(fact_of(SHOP, "uk", entry(300_00, "PLN", MONDAY), None))
    standing = member.standing(MONDAY)
    assert (standing.market.key, standing.level.name, standing.next_level) == ("uk", "Green", None)


def test_a_member_goes_by_the_clock_of_its_market() -> None:
    london = ZoneInfo("Europe/London")
    uk = replace(UK, tiers=policy(levels=levels_of(60_00), window=TierWindow.rolling(Window(days=1))))
    # In London the clock goes forward in this night.
    bought = datetime(2024, 3, 30, 12, tzinfo=london)
    member = member_of_uk()
    member.versions = Versions.only(replace(SHOP, markets=MappingProxyType({"uk": uk})))
    member.buys(60_00, bought)
    change = member.standing(bought).next_change
    assert change is not None
    assert change.time - bought.astimezone(change.time.tzinfo) == timedelta(hours=23)


def test_a_member_of_a_market_that_is_no_more_goes_by_the_programmes_own() -> None:
    member = Member(name="gone")
    assert member.standing(MONDAY).market.key == ""
