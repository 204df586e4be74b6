"""What a cool-off holds back: the benefits of a tier, or the tier itself (DESIGN §12.6)."""

from __future__ import annotations

from datetime import timedelta

from services.programme import AppliesTo
from services.tiers.domain.track import Reason
from tests.tiers_rules import MICROSECOND, Member, cool_off, local, policy

BOUGHT = local("2024-02-01T10:00")
MATURES = BOUGHT + timedelta(days=30)


def member_of(applies_to: AppliesTo = AppliesTo.BENEFITS) -> Member:
    """One who has bought for 300.00, under a cool-off of 30 days."""
    member = Member(policy(cool_off=cool_off(applies_to)))
    member.buys(300_00, BOUGHT)
    return member


def test_the_tier_is_reached_at_once_and_its_benefits_are_not() -> None:
    member = member_of()
    assert (member.tier(BOUGHT), member.benefits(BOUGHT)) == ("Green", "White")


def test_benefits_come_into_force_when_the_purchase_is_as_old_as_the_cool_off() -> None:
    member = member_of()
    assert [member.benefits(MATURES - MICROSECOND), member.benefits(MATURES)] == ["White", "Green"]


def test_a_standing_says_when_its_benefits_come_into_force() -> None:
    assert member_of().standing(BOUGHT).pending_time == MATURES


def test_benefits_in_force_are_pending_no_more() -> None:
    assert member_of().standing(MATURES).pending_time is None


def test_a_return_on_day_30_comes_before_the_benefits_which_never_come() -> None:
    member = member_of()
    member.returns(1, MATURES - MICROSECOND)
    assert {change.to_benefits_number for change in member.live(MATURES + timedelta(days=9))} == {1}


def test_a_return_on_day_31_takes_benefits_that_were_in_force() -> None:
    member = member_of()
    member.returns(1, MATURES + timedelta(days=1))
    benefits = [(c.to_tier_number, c.to_benefits_number) for c in member.live(MATURES + timedelta(days=9))]
    assert benefits == [(2, 1), (2, 2), (1, 1)]


def test_a_change_of_benefits_by_a_cool_off_that_is_over_says_so() -> None:
    change = member_of().live(MATURES)[-1]
    assert (change.reason, change.changed_time, change.cause_offset) == (Reason.MATURED, MATURES, None)


def test_a_return_counts_against_what_has_matured_at_once() -> None:
    member = member_of()
    member.buys(300_00, MATURES)
    member.returns(1, MATURES + timedelta(days=1))
    standing = member.standing(MATURES + timedelta(days=1))
    assert (standing.balance, standing.matured) == (599_99, 299_99)


def test_what_applies_to_the_level_holds_the_tier_itself_back() -> None:
    member = member_of(AppliesTo.LEVEL)
    assert [member.tier(MATURES - MICROSECOND), member.tier(MATURES)] == ["White", "Green"]


def test_while_a_level_is_held_back_the_balance_shows_what_was_spent() -> None:
    standing = member_of(AppliesTo.LEVEL).standing(BOUGHT)
    assert (standing.balance, standing.matured, standing.missing_for_next_level) == (300_00, 0, 300_00)


def test_what_never_matures_within_its_window_never_counts() -> None:
    member = Member(policy(cool_off=cool_off(AppliesTo.LEVEL)))
    member.buys(300_00, BOUGHT)
    member.returns(300_00, MATURES - timedelta(days=1))
    assert member.live(local("2026-01-01T00:00")) == []


def test_a_line_that_is_held_back_says_until_when() -> None:
    member = member_of()
    assert [line.matures_time for line in member.lines(BOUGHT)] == [MATURES]
    assert [line.matures_time for line in member.lines(MATURES)] == [None]
