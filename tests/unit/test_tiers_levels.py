"""The level of a balance, what is missing, and several levels in one step."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.programme import Base, Metric
from services.tiers.domain.track import Reason
from services.tiers.errors import NotEnrolledError
from tests.tiers_rules import JOINED, MICROSECOND, Member, level, local, moves, policy

BOUGHT = local("2024-02-01T10:00")


@pytest.mark.parametrize(
    ("amount", "tier"),
    [
        (299_99, "White"),
        (300_00, "Green"),
        (999_99, "Green"),
        (1000_00, "Silver"),
        (1999_99, "Silver"),
        (2000_00, "Golden"),
    ],
)
def test_a_level_begins_at_its_amount_and_not_a_cent_before(amount: int, tier: str) -> None:
    member = Member()
    member.buys(amount, BOUGHT)
    assert member.tier(BOUGHT) == tier


def test_a_cent_less_says_that_a_cent_is_missing() -> None:
    member = Member()
    member.buys(299_99, BOUGHT)
    standing = member.standing(BOUGHT)
    assert standing.next_level is not None
    assert (standing.next_level.name, standing.missing_for_next_level) == ("Green", 1)


def test_at_the_top_nothing_is_missing() -> None:
    member = Member()
    member.buys(2000_00, BOUGHT)
    standing = member.standing(BOUGHT)
    assert (standing.next_level, standing.missing_for_next_level) == (None, None)


def test_one_purchase_may_skip_levels_in_one_change() -> None:
    member = Member()
    member.buys(2500_00, BOUGHT)
    assert moves(member.live(BOUGHT)) == [(1, 4, BOUGHT)]


def test_one_instant_may_take_several_levels_away_in_one_change() -> None:
    member = Member()
    member.buys(1200_00, BOUGHT)
    member.buys(900_00, BOUGHT)
    end = local("2025-01-31T10:00")
    assert moves(member.live(end))[-1] == (4, 1, end)


def test_a_change_names_the_entry_that_made_it() -> None:
    member = Member()
    purchase = member.buys(300_00, BOUGHT)
    (change,) = member.live(BOUGHT)
    assert (change.reason, change.cause_offset, change.balance) == (Reason.MOVEMENT, purchase.ledger_offset, 300_00)


def test_a_change_by_time_alone_names_no_entry() -> None:
    member = Member()
    member.buys(300_00, BOUGHT)
    _, change = member.live(local("2025-06-01T00:00"))
    assert (change.reason, change.cause_offset, change.cause_number) == (Reason.WINDOW, None, None)


def test_a_return_alone_makes_the_balance_negative_and_more_is_missing() -> None:
    member = Member()
    member.returns(50_00, BOUGHT)
    standing = member.standing(BOUGHT)
    assert (standing.balance, standing.level.name, standing.missing_for_next_level) == (-50_00, "White", 350_00)


def test_a_return_of_a_cent_takes_the_level() -> None:
    member = Member()
    member.buys(300_00, BOUGHT)
    member.returns(1, BOUGHT + timedelta(days=1))
    assert member.tier(BOUGHT + timedelta(days=1)) == "White"


def test_a_return_that_is_heard_of_before_its_purchase_is_made_good_by_it() -> None:
    member = Member()
    returned = BOUGHT + timedelta(days=1)
    member.returns(300_00, returned)
    member.buys(600_00, BOUGHT, known=returned)
    state, changes = member.lived(returned)
    assert (state.balance, state.tier_number) == (300_00, 2)
    assert moves(changes) == [(1, 2, returned)]


def test_goods_paid_leaves_the_rest_of_the_receipt_out() -> None:
    member = Member(policy(base=Base.GOODS_PAID))
    member.buys(300_00, BOUGHT, goods_paid=299_99)
    assert member.tier(BOUGHT) == "White"


def test_before_joining_nobody_is_enrolled() -> None:
    with pytest.raises(NotEnrolledError):
        Member().standing(JOINED - MICROSECOND)


def test_since_is_when_the_present_run_of_the_tier_began() -> None:
    member = Member()
    member.buys(300_00, BOUGHT)
    member.buys(1, BOUGHT + timedelta(days=1))
    assert member.standing(BOUGHT + timedelta(days=2)).since_time == BOUGHT


# --- other metrics --------------------------------------------------------------------------------------------------

BY_COUNT = (level(1, "White", None), level(2, "Green", 2))


def test_visits_count_purchases_whatever_they_cost() -> None:
    member = Member(policy(metric=Metric.VISITS, levels=BY_COUNT))
    member.buys(1, BOUGHT)
    member.buys(1, BOUGHT + timedelta(days=1))
    assert member.tier(BOUGHT + timedelta(days=1)) == "Green"


def test_a_return_takes_no_visit_and_a_void_does() -> None:
    member = Member(policy(metric=Metric.VISITS, levels=BY_COUNT))
    purchase = member.buys(10_00, BOUGHT)
    member.returns(5_00, BOUGHT + timedelta(hours=1))
    assert member.balance(BOUGHT + timedelta(hours=1)) == 1
    member.voids(purchase, BOUGHT + timedelta(hours=2))
    assert member.balance(BOUGHT + timedelta(hours=2)) == 0


def test_activities_count_and_purchases_do_not() -> None:
    member = Member(policy(metric=Metric.ACTIVITIES, levels=BY_COUNT))
    member.buys(5000_00, BOUGHT)
    member.acts(BOUGHT)
    member.acts(BOUGHT)
    assert (member.balance(BOUGHT), member.tier(BOUGHT)) == (2, "Green")


def test_qualifying_points_are_the_base_rules_and_bonuses_count_only_where_they_are_marked() -> None:
    member = Member(policy(metric=Metric.QUALIFYING_POINTS, qualifying=frozenset({"marked"})))
    member.buys(100_00, BOUGHT, bonuses=(("marked", 20), ("other", 7)))
    assert member.balance(BOUGHT) == 120


def test_an_award_gives_qualifying_points_where_it_is_marked() -> None:
    member = Member(policy(metric=Metric.QUALIFYING_POINTS, qualifying=frozenset({"award"})))
    member.is_awarded(BOUGHT, award=30, other=5)
    assert member.balance(BOUGHT) == 30


def test_a_return_takes_back_the_qualifying_points_that_it_took() -> None:
    member = Member(policy(metric=Metric.QUALIFYING_POINTS))
    purchase = member.buys(100_00, BOUGHT)
    member.returns(40_00, BOUGHT + timedelta(days=1), of=purchase)
    assert member.balance(BOUGHT + timedelta(days=1)) == 60


# --- what keeps a level ---------------------------------------------------------------------------------------------

KEPT = (level(1, "White", None), level(2, "Green", 300_00, keep_threshold=200_00))


def test_a_level_that_was_reached_is_kept_by_less() -> None:
    member = Member(policy(levels=KEPT))
    member.buys(300_00, BOUGHT)
    member.returns(100_00, BOUGHT + timedelta(days=1))
    assert member.tier(BOUGHT + timedelta(days=1)) == "Green"


def test_a_cent_below_what_keeps_it_loses_it() -> None:
    member = Member(policy(levels=KEPT))
    member.buys(300_00, BOUGHT)
    member.returns(100_01, BOUGHT + timedelta(days=1))
    assert member.tier(BOUGHT + timedelta(days=1)) == "White"


def test_what_only_keeps_a_level_does_not_reach_it() -> None:
    member = Member(policy(levels=KEPT))
    member.buys(250_00, BOUGHT)
    assert member.tier(BOUGHT) == "White"


def test_a_late_return_takes_a_level_that_was_never_truly_reached() -> None:
    member = Member(policy(levels=KEPT))
    member.returns(1, BOUGHT - timedelta(days=1), known=BOUGHT + timedelta(days=3))
    member.facts.insert(1, member.facts.pop()._replace(ledger_offset=9))
    member.buys(300_00, BOUGHT)
    # With the return 299.99 was reached, which keeps what it does not reach.
    assert member.tier(BOUGHT) == "White"
