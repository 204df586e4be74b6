"""Exchanges: a return and a purchase under one id count together (DESIGN §12.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from services.programme import AppliesTo, Base, Metric, OnReturn, Rejoining
from services.tiers.domain.facts import Fact, NotCounted
from services.tiers.domain.standing import explain
from services.tiers.domain.track import Reason
from tests.tiers_rules import MICROSECOND, Member, cool_off, local, moves, policy, retention

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


# --- more than two entries ------------------------------------------------------------------------------------------

IN_ANY_ORDER = ["prr", "rpr", "rrp"]


def bringing_back_two(order: str, *, apart: timedelta = timedelta(0), **rules: object) -> Member:
    """A member who gives back goods of two receipts, of 500.00 and 490.00, and takes one of 990.00 for them."""
    member = Member(policy(**rules))
    receipts = [member.buys(500_00, BOUGHT, purchase_id="a"), member.buys(490_00, BOUGHT, purchase_id="b")]
    for number, side in enumerate(order):
        at = SWAPPED + number * apart
        if side == "p":
            member.buys(990_00, at, purchase_id="c", exchange_id="x")
        else:
            receipt = receipts.pop(0)
            member.returns(receipt.total, at, of=receipt, purchase_id=receipt.purchase_id, exchange_id="x")
    return member


@pytest.mark.parametrize("order", IN_ANY_ORDER)
def test_what_one_instant_says_of_an_exchange_is_one_in_whatever_order_it_comes(order: str) -> None:
    # 1,480.00 would be Silver, and by a cycle for a year.
    for rules in ({}, {"retention": retention()}, {"cool_off": cool_off()}):
        member = bringing_back_two(order, **rules)
        for at in (SWAPPED, LATER):
            standing = member.standing(at)
            assert (standing.level.name, standing.balance, standing.since_time) == ("Green", 990_00, BOUGHT)
        state, _ = member.lived(LATER)
        assert (state.tier_number, state.balance, state.since_time) == (2, 990_00, BOUGHT)


def test_where_the_side_of_one_entry_comes_last_nothing_is_told() -> None:
    assert moves(bringing_back_two("rrp").live(LATER)) == [(1, 2, BOUGHT)]
    assert moves(bringing_back_two("rrp", apart=MINUTE).live(LATER)) == [(1, 2, BOUGHT)]


def test_what_two_sides_told_a_third_entry_of_their_instant_takes_back_at_once() -> None:
    *_, rise, correction = bringing_back_two("prr", retention=retention()).live(LATER)
    assert moves([rise, correction]) == [(2, 3, SWAPPED), (3, 2, SWAPPED)]
    assert (correction.reason, correction.corrects) == (Reason.CORRECTED, rise.sequence)


def test_what_comes_of_an_exchange_when_it_has_been_judged_waits_for_nothing() -> None:
    member = bringing_back_two("prr", apart=MINUTE)
    assert moves(member.live(LATER))[1:] == [(2, 3, SWAPPED + MINUTE), (3, 2, SWAPPED + 2 * MINUTE)]
    # Judged after an hour, as nothing came.
    alone = swapping(320_00, 320_00, apart=HOUR + MINUTE)
    assert moves(alone.live(LATER))[1:] == [(2, 1, SWAPPED + HOUR), (1, 2, SWAPPED + HOUR + MINUTE)]


@pytest.mark.parametrize(("apart", "waits"), [(HOUR - MICROSECOND, False), (HOUR, True)])
def test_an_id_that_was_judged_an_hour_ago_is_another_exchange(apart: timedelta, *, waits: bool) -> None:
    member = swapping(320_00, 320_00)
    member.buys(700_00, SWAPPED + apart, exchange_id="x")
    assert member.tier(SWAPPED + apart) == ("Green" if waits else "Silver")


# --- what comes back beside -----------------------------------------------------------------------------------------


def test_what_comes_back_of_a_purchase_that_waits_waits_with_it() -> None:
    member = Member()
    bought = member.buys(990_00, BOUGHT, purchase_id="p")
    taken = member.buys(990_00, SWAPPED, purchase_id="q", exchange_id="x")
    member.returns(5_00, SWAPPED + MINUTE, of=taken, purchase_id="q")
    waits = [line.not_counted for line in member.lines(SWAPPED + MINUTE)]
    assert waits == [None, NotCounted.EXCHANGE_WAITS, NotCounted.EXCHANGE_WAITS]
    member.returns(990_00, SWAPPED + 2 * MINUTE, of=bought, purchase_id="p", exchange_id="x")
    assert moves(member.live(LATER)) == [(1, 2, BOUGHT)]
    assert member.balance(SWAPPED + 2 * MINUTE) == 985_00


def chain(member: Member) -> None:
    """What one exchange gave is given back in another, before the first has its other side."""
    first = member.buys(990_00, BOUGHT, purchase_id="a")
    second = member.buys(990_00, SWAPPED, purchase_id="b", exchange_id="x")
    member.returns(990_00, SWAPPED + MINUTE, of=second, purchase_id="b", exchange_id="y")
    member.returns(990_00, SWAPPED + 2 * MINUTE, of=first, purchase_id="a", exchange_id="x")
    member.buys(990_00, SWAPPED + 3 * MINUTE, purchase_id="c", exchange_id="y")


def sold_again(member: Member) -> None:
    """What an exchange gave is undone, and sold again under its id, before its other side comes."""
    first = member.buys(990_00, BOUGHT, purchase_id="a")
    second = member.buys(990_00, SWAPPED, purchase_id="b", exchange_id="x")
    undo(member, second)
    member.buys(990_00, SWAPPED + 2 * MINUTE, purchase_id="c", exchange_id="x")
    member.returns(990_00, SWAPPED + 3 * MINUTE, of=first, purchase_id="a", exchange_id="x")


def undo(member: Member, purchase: Fact) -> None:
    void = member.voids(purchase, purchase.occurred_time + MINUTE)
    member.facts[-1] = void._replace(purchase_id=purchase.purchase_id)


@pytest.mark.parametrize("happens", [chain, sold_again])
def test_exchanges_that_touch_each_other_are_each_judged_net(happens: Callable[[Member], None]) -> None:
    member = Member()
    happens(member)
    assert moves(member.live(LATER)) == [(1, 2, BOUGHT)]
    assert member.balance(LATER) == 990_00


def test_what_waited_when_a_member_came_back_counts_by_a_version_that_counts_from_the_first_joining() -> None:
    member = Member(policy(rejoining=Rejoining.LATEST))
    member.buys(400_00, SWAPPED, exchange_id="x")
    member.resigns(SWAPPED + MINUTE)
    member.rejoins(SWAPPED + 2 * MINUTE)
    assert member.balance(SWAPPED + 2 * HOUR) == 0
    starts = SWAPPED + timedelta(days=1)
    member.new_rules(policy(rejoining=Rejoining.FIRST), starts)
    assert [line.amount for line in member.lines(starts) if line.not_counted is None] == [400_00]
    assert (member.balance(starts), member.lived(LATER)[0].balance) == (400_00, 400_00)


# --- a cool-off -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("applies_to", AppliesTo)
def test_an_exchange_for_as_much_takes_no_benefits_for_a_cool_off(applies_to: AppliesTo) -> None:
    before = Member(policy(cool_off=cool_off(applies_to)))
    before.buys(320_00, BOUGHT)
    member = swapping(320_00, 320_00, cool_off=cool_off(applies_to))
    # The goods are 29 days old, and what is taken for them goes on in their place.
    assert moves(member.live(LATER)) == moves(before.live(LATER))
    ripe = BOUGHT + timedelta(days=30)
    assert (member.benefits(ripe - MICROSECOND), member.benefits(ripe)) == ("White", "Green")


def test_under_a_cool_off_what_an_exchange_leaves_matures_as_a_purchase_or_counts_at_once_as_a_return() -> None:
    ripe, taken_ripe = BOUGHT + timedelta(days=30), local("2024-03-31T10:00")

    def matured(member: Member) -> list[int]:
        times = (SWAPPED, ripe, taken_ripe - MICROSECOND, taken_ripe)
        return [member.standing(at).matured for at in times]

    assert matured(swapping(320_00, 700_00, cool_off=cool_off())) == [0, 320_00, 320_00, 700_00]
    assert matured(swapping(320_00, 100_00, cool_off=cool_off())) == [-220_00, 100_00, 100_00, 100_00]
