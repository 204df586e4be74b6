"""A level that was reached is held for a cycle, and has to be earned again in it (R26, DESIGN §12.7)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.programme import Counting, CycleEnd, OnReturn, TierWindow, Window
from services.tiers.domain.track import Reason
from tests.tiers_rules import MICROSECOND, Member, level, local, moves, policy, retention

REACHED = local("2024-02-01T10:00")
INSIDE = local("2024-09-01T10:00")
END = local("2025-02-01T10:00")
GRACE = Window(days=60)


def golden(
    at_end: CycleEnd = CycleEnd.EARNED, grace: Window | None = None, on_return: OnReturn = OnReturn.KEEP
) -> Member:
    """One who reached Golden, under a cycle of 12 months."""
    member = Member(policy(retention=retention(at_end, grace, on_return)))
    member.buys(2000_00, REACHED)
    return member


def test_a_level_is_held_though_what_reached_it_has_left_the_window() -> None:
    member = golden()
    assert (member.balance(END - MICROSECOND), member.tier(END - MICROSECOND)) == (0, "Golden")


def test_a_standing_says_until_when_it_is_held() -> None:
    assert golden().standing(REACHED).held_until == END


def test_a_cycle_that_earned_nothing_ends_at_the_first_level() -> None:
    assert golden().tier(END) == "White"


def test_a_cycle_ends_at_the_level_that_it_earned() -> None:
    member = golden()
    member.buys(1000_00, INSIDE)
    assert member.tier(END) == "Silver"


def test_what_reached_the_level_does_not_earn_it_again() -> None:
    member = golden()
    member.buys(1, INSIDE)
    to_keep = member.standing(INSIDE).to_keep
    assert to_keep is not None
    assert (to_keep.missing, to_keep.by_time) == (1999_99, END)


def test_what_is_spent_at_the_end_of_the_cycle_is_too_late() -> None:
    member = golden()
    member.buys(1000_00, END)
    assert moves(member.live(END)) == [(1, 4, REACHED), (4, 1, END), (1, 3, END)]


def test_a_level_that_was_earned_again_is_held_for_another_cycle() -> None:
    member = golden()
    member.buys(2000_00, INSIDE)
    standing = member.standing(END)
    assert (standing.level.name, standing.held_until) == ("Golden", local("2026-02-01T10:00"))


def test_an_upgrade_starts_a_new_cycle() -> None:
    member = Member(policy(retention=retention()))
    member.buys(300_00, REACHED)
    member.buys(700_00, INSIDE)
    assert member.standing(INSIDE).held_until == local("2025-09-01T10:00")


def test_one_level_down_falls_by_one_whatever_was_earned() -> None:
    assert golden(CycleEnd.ONE_DOWN).tier(END) == "Silver"


def test_one_level_down_falls_by_one_each_cycle() -> None:
    member = golden(CycleEnd.ONE_DOWN)
    changes = moves(member.live(local("2028-01-01T00:00")))
    assert [to_number for _, to_number, _ in changes] == [4, 3, 2, 1]


def test_one_level_down_passes_over_a_level_that_only_a_plan_gives() -> None:
    levels = (level(1, "White", None), level(2, "Plus", None, plan="plus"), level(3, "Golden", 300_00))
    member = Member(policy(levels=levels, retention=retention(CycleEnd.ONE_DOWN)))
    member.buys(300_00, REACHED)
    assert member.tier(END) == "White"


def test_in_a_time_of_grace_the_level_is_still_held() -> None:
    member = golden(grace=GRACE)
    standing = member.standing(END)
    assert (standing.level.name, standing.held_until) == ("Golden", END + timedelta(days=60) - timedelta(hours=1))


def test_a_time_of_grace_that_earned_nothing_ends_the_level() -> None:
    member = golden(grace=GRACE)
    assert member.tier(END + timedelta(days=60)) == "White"


def test_a_level_can_be_earned_again_in_its_time_of_grace() -> None:
    member = golden(grace=GRACE)
    member.buys(1500_00, INSIDE)
    late = END + timedelta(days=10)
    member.buys(500_00, late)
    assert member.standing(late).held_until == local("2026-02-11T10:00")


def test_keeping_needs_the_keep_threshold_and_no_more() -> None:
    levels = (level(1, "White", None), level(2, "Green", 300_00, keep_threshold=200_00))
    member = Member(policy(levels=levels, retention=retention()))
    member.buys(300_00, REACHED)
    member.buys(200_00, INSIDE)
    assert member.tier(END) == "Green"


def test_what_the_window_still_reaches_does_not_fall_at_the_end_of_a_cycle() -> None:
    member = Member(policy(window=TierWindow(counting=Counting.LIFETIME), retention=retention()))
    member.buys(300_00, REACHED)
    assert moves(member.live(local("2027-01-01T00:00"))) == [(1, 2, REACHED)]


# --- what comes back ------------------------------------------------------------------------------------------------


def test_a_return_keeps_the_level_where_the_policy_says_so() -> None:
    member = golden(on_return=OnReturn.KEEP)
    member.returns(2000_00, INSIDE)
    assert member.tier(INSIDE) == "Golden"


def test_a_return_takes_the_level_back_and_tells_why() -> None:
    member = golden(on_return=OnReturn.TAKE_BACK)
    member.returns(1, INSIDE)
    change = member.live(INSIDE)[-1]
    assert (change.reason, change.from_tier_number, change.to_tier_number) == (Reason.TAKEN_BACK, 4, 3)


@pytest.mark.parametrize("days", [0, 3])
def test_a_return_that_is_heard_of_later_takes_the_level_back_and_tells_why(days: int) -> None:
    member = golden(on_return=OnReturn.TAKE_BACK)
    heard = INSIDE + timedelta(days=days) + MICROSECOND
    member.returns(1, INSIDE, known=heard)
    change = member.live(heard)[-1]
    assert (change.reason, change.from_tier_number, change.to_tier_number) == (Reason.TAKEN_BACK, 4, 3)


def test_a_return_that_is_heard_of_after_a_purchase_takes_the_level_back_and_tells_why() -> None:
    member = golden(on_return=OnReturn.TAKE_BACK)
    member.buys(1, INSIDE + timedelta(days=1))
    member.returns(2, INSIDE, known=INSIDE + timedelta(days=2))
    change = member.live(INSIDE + timedelta(days=2))[-1]
    assert (change.reason, change.from_tier_number, change.to_tier_number) == (Reason.TAKEN_BACK, 4, 3)


def test_a_return_of_all_takes_back_no_more_than_what_was_reached_last() -> None:
    member = Member(policy(retention=retention(on_return=OnReturn.TAKE_BACK)))
    member.buys(300_00, REACHED)
    member.buys(1700_00, REACHED + timedelta(days=1))
    member.returns(2000_00, INSIDE)
    assert member.tier(INSIDE) == "Green"


def test_a_return_that_leaves_enough_takes_nothing_back() -> None:
    member = golden(on_return=OnReturn.TAKE_BACK)
    member.buys(100_00, INSIDE)
    member.returns(100_00, INSIDE + timedelta(days=1))
    assert member.tier(INSIDE + timedelta(days=1)) == "Golden"


@pytest.mark.parametrize("days", [0, 1])
def test_a_return_after_the_cycle_takes_nothing_back(days: int) -> None:
    member = golden(on_return=OnReturn.TAKE_BACK)
    member.buys(2000_00, INSIDE)
    member.returns(2000_00, END + timedelta(days=days))
    assert member.tier(END + timedelta(days=days)) == "Golden"
