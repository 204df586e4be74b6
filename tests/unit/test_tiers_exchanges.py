"""Exchanges: a return and a purchase under one id count together (DESIGN §12.4)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from services.programme import Base, Metric, OnReturn
from services.tiers.domain.facts import NotCounted
from services.tiers.domain.standing import explain
from services.tiers.domain.track import Reason
from tests.tiers_rules import MICROSECOND, Member, local, moves, policy, retention

BOUGHT = local("2024-02-01T10:00")
SWAPPED = local("2024-03-01T10:00")
LATER = local("2024-04-01T10:00")
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def swapping(back: int, taken: int, *, apart: timedelta = timedelta(0), **rules: object) -> Member:
    """A member who has bought for 320.00, and gives back and takes so much under one id."""
    member = Member(policy(**rules))
    bought = member.buys(320_00, BOUGHT, purchase_id="p")
    member.returns(back, SWAPPED, of=bought, purchase_id="p", exchange_id="x")
    member.buys(taken, SWAPPED + apart, exchange_id="x")
    return member


@pytest.mark.parametrize("apart", [timedelta(0), MINUTE, HOUR - MICROSECOND])
def test_an_exchange_for_as_much_changes_nothing_whenever_its_second_side_comes_within_the_hour(
    apart: timedelta,
) -> None:
    member = swapping(320_00, 320_00, apart=apart)
    assert moves(member.live(LATER)) == [(1, 2, BOUGHT)]
    standing = member.standing(LATER)
    assert (standing.level.name, standing.balance, standing.since_time) == ("Green", 320_00, BOUGHT)


def test_the_second_side_of_an_exchange_may_be_the_return() -> None:
    member = Member()
    bought = member.buys(320_00, BOUGHT, purchase_id="p")
    member.buys(700_00, SWAPPED, exchange_id="x")
    member.returns(320_00, SWAPPED + MINUTE, of=bought, purchase_id="p", exchange_id="x")
    # 1,020.00 for a minute would have been Silver.
    assert moves(member.live(LATER)) == [(1, 2, BOUGHT)]
    assert member.balance(LATER) == 700_00


@pytest.mark.parametrize(("taken", "tier"), [(299_99, "White"), (300_00, "Green"), (1000_00, "Silver")])
def test_what_is_left_of_both_sides_decides(taken: int, tier: str) -> None:
    member = swapping(320_00, taken)
    assert member.tier(SWAPPED) == tier
    told = {"White": [(2, 1, SWAPPED)], "Green": [], "Silver": [(2, 3, SWAPPED)]}[tier]
    assert moves(member.live(LATER)) == [(1, 2, BOUGHT), *told]


def test_a_side_without_the_other_counts_after_an_hour() -> None:
    member = Member()
    bought = member.buys(320_00, BOUGHT, purchase_id="p")
    member.returns(320_00, SWAPPED, of=bought, purchase_id="p", exchange_id="x")
    assert (member.tier(SWAPPED + HOUR - MICROSECOND), member.balance(SWAPPED)) == ("Green", 320_00)
    assert (member.tier(SWAPPED + HOUR), member.balance(SWAPPED + HOUR)) == ("White", 0)
    foretold = member.standing(SWAPPED).next_change
    assert foretold is not None
    assert (foretold.time, foretold.reason, foretold.balance) == (SWAPPED + HOUR, Reason.MOVEMENT, 0)
    changes = member.live(LATER)
    assert moves(changes) == [(1, 2, BOUGHT), (2, 1, SWAPPED + HOUR)]
    assert changes[-1].cause_offset is None
    (_, line) = explain(member.versions, member.history, SWAPPED)
    assert (line.amount, line.not_counted) == (-320_00, NotCounted.EXCHANGE_WAITS)
    assert [line.not_counted for line in explain(member.versions, member.history, SWAPPED + HOUR)] == [None, None]


def test_both_sides_that_are_heard_of_a_day_late_are_one_all_the_same() -> None:
    member = Member()
    bought = member.buys(320_00, BOUGHT, purchase_id="p")
    heard = SWAPPED + timedelta(days=1)
    member.buys(5_00, SWAPPED + 2 * HOUR)
    member.returns(320_00, SWAPPED, of=bought, purchase_id="p", exchange_id="x", known=heard)
    member.buys(320_00, SWAPPED, exchange_id="x", known=heard)
    assert moves(member.live(LATER)) == [(1, 2, BOUGHT)]
    assert member.standing(LATER).since_time == BOUGHT


def test_a_second_side_that_is_heard_of_after_the_hour_gives_back_what_was_lost() -> None:
    member = swapping(320_00, 320_00, apart=MINUTE)
    member.facts[-1] = member.facts[-1]._replace(recorded_time=SWAPPED + 2 * HOUR)
    changes = member.live(LATER)
    assert moves(changes) == [(1, 2, BOUGHT), (2, 1, SWAPPED + HOUR), (1, 2, SWAPPED + 2 * HOUR)]
    assert (changes[-1].reason, changes[-1].corrects) == (Reason.CORRECTED, 2)
    assert member.standing(LATER).since_time == BOUGHT


def test_a_purchase_that_is_undone_while_it_waits_counts_neither_way() -> None:
    member = Member()
    member.buys(310_00, BOUGHT)
    taken = member.buys(320_00, SWAPPED, purchase_id="q", exchange_id="x")
    void = member.voids(taken, SWAPPED + MINUTE)
    member.facts[-1] = void._replace(purchase_id="q")
    assert moves(member.live(LATER)) == [(1, 2, BOUGHT)]
    assert member.balance(LATER) == 310_00


def test_a_cycle_that_takes_back_what_comes_back_looks_at_what_is_left_of_an_exchange() -> None:
    rules = {"retention": retention(on_return=OnReturn.TAKE_BACK)}
    assert moves(swapping(320_00, 320_00, **rules).live(LATER)) == [(1, 2, BOUGHT)]
    taken_back = swapping(320_00, 10_00, **rules).live(LATER)
    assert moves(taken_back) == [(1, 2, BOUGHT), (2, 1, SWAPPED)]
    assert taken_back[-1].reason is Reason.TAKEN_BACK


def test_where_visits_are_counted_nobody_waits_for_the_other_side() -> None:
    levels = tuple(
        replace(level, threshold=count) for level, count in zip(policy().levels, (None, 1, 2, 3), strict=True)
    )
    member = swapping(320_00, 320_00, metric=Metric.VISITS, levels=levels, base=Base.TOTAL)
    assert moves(member.live(LATER)) == [(1, 2, BOUGHT), (2, 3, SWAPPED)]
