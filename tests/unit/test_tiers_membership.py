"""Plans that are paid for, and those who leave and come back (R20)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from loyalty.ledger.v1 import entry_pb2

from services.programme import Metric, Rejoining
from services.tiers.domain.facts import FactKind, NotCounted
from services.tiers.domain.feed import EntryKind
from services.tiers.domain.track import Reason
from services.tiers.errors import NotEnrolledError
from services.tiers.ledger_client import entry_of
from tests.tiers_rules import JOINED, MICROSECOND, Member, level, local, moves, policy

PAID = local("2024-02-01T10:00")
END = local("2025-02-01T00:00")
PLANS = (level(1, "White", None), level(2, "Green", 300_00), level(3, "Plus", None, plan="plus"))


def test_a_plan_gives_its_level_for_as_long_as_it_is_paid() -> None:
    member = Member(policy(levels=PLANS))
    member.pays("plus", PAID, until=END)
    assert [member.tier(t) for t in (PAID - MICROSECOND, PAID, END - MICROSECOND, END)] == [
        "White",
        "Plus",
        "Plus",
        "White",
    ]


def test_a_plan_that_is_paid_ahead_begins_at_its_instant() -> None:
    member = Member(policy(levels=PLANS))
    start = PAID + timedelta(days=10)
    member.pays("plus", PAID, start=start, until=END)
    begun, ended = member.live(END)
    assert (begun.reason, begun.changed_time, ended.changed_time) == (Reason.PLAN, start, END)


def test_a_plan_that_is_paid_on_without_a_gap_has_no_break() -> None:
    member = Member(policy(levels=PLANS))
    member.pays("plus", PAID, until=END)
    member.pays("plus", END - timedelta(days=3), start=END, until=END + timedelta(days=365))
    assert moves(member.live(END)) == [(1, 3, PAID)]


def test_no_balance_reaches_what_only_a_plan_gives() -> None:
    member = Member(policy(levels=PLANS))
    member.buys(9999_00, PAID)
    assert (member.tier(PAID), member.standing(PAID).next_level) == ("Green", None)


def test_when_a_plan_ends_the_level_of_the_balance_is_left() -> None:
    member = Member(policy(levels=PLANS))
    member.pays("plus", PAID, until=END)
    member.buys(300_00, END - timedelta(days=1))
    assert member.tier(END) == "Green"


def test_where_membership_is_the_metric_nothing_is_counted() -> None:
    member = Member(policy(metric=Metric.MEMBERSHIP, levels=(PLANS[0], level(2, "Plus", None, plan="plus"))))
    member.buys(9999_00, PAID)
    assert (member.balance(PAID), member.tier(PAID)) == (0, "White")


# --- leaving and coming back ----------------------------------------------------------------------------------------

LEFT, BACK = local("2024-04-01T10:00"), local("2024-05-01T10:00")


def back_again(rejoining: Rejoining) -> Member:
    """One who bought for 300.00, left, and came back."""
    member = Member(policy(rejoining=rejoining))
    member.buys(300_00, PAID)
    member.resigns(LEFT)
    member.rejoins(BACK)
    return member


def test_one_who_has_left_has_no_standing() -> None:
    with pytest.raises(NotEnrolledError):
        back_again(Rejoining.FIRST).standing(LEFT)


def test_up_to_leaving_the_standing_can_be_asked_for() -> None:
    assert back_again(Rejoining.FIRST).tier(LEFT - MICROSECOND) == "Green"


def test_who_comes_back_has_what_counts_since_the_first_joining() -> None:
    assert back_again(Rejoining.FIRST).tier(BACK) == "Green"


def test_who_comes_back_begins_anew_where_the_latest_joining_counts() -> None:
    member = back_again(Rejoining.LATEST)
    assert (member.tier(BACK), member.balance(BACK)) == ("White", 0)
    assert [line.not_counted for line in member.lines(BACK)] == [NotCounted.BEFORE_REJOINING]


def test_a_purchase_at_the_instant_of_coming_back_does_not_count_where_the_latest_joining_does() -> None:
    member = back_again(Rejoining.LATEST)
    member.buys(1_00, BACK)
    member.buys(2_00, BACK + MICROSECOND)
    assert member.balance(BACK + MICROSECOND) == 2_00


def test_the_joining_time_that_is_shown_stays_the_first() -> None:
    assert back_again(Rejoining.LATEST).standing(BACK).joined_time == JOINED


def test_nobody_is_told_of_changes_while_the_member_is_away() -> None:
    member = Member()
    member.buys(300_00, PAID)
    member.resigns(LEFT)
    assert moves(member.live(local("2026-01-01T00:00"))) == [(1, 2, PAID)]


def test_an_erased_member_has_left_and_nobody_is_told_of_it_again() -> None:
    entry = entry_pb2.Entry(
        kind=entry_pb2.ENTRY_KIND_MEMBER_ERASED, partition=3, offset=7, member_id="m", reason="asked"
    )
    entry.occurred_time.FromDatetime(LEFT)
    heard = entry_of(entry)
    assert (heard.kind, heard.fact_kind, heard.occurred_time) == (EntryKind.FACT, FactKind.RESIGNED, LEFT)
    member = Member()
    member.buys(300_00, PAID)
    # It may have left by itself before.
    member.resigns(LEFT - timedelta(days=2))
    member.resigns(LEFT)
    assert moves(member.live(local("2026-01-01T00:00"))) == [(1, 2, PAID)]
    with pytest.raises(NotEnrolledError):
        member.standing(LEFT + timedelta(days=1))
    assert member.tier(LEFT - timedelta(days=3)) == "Green"


def test_what_changed_while_the_member_was_away_is_told_when_it_comes_back() -> None:
    member = Member()
    member.buys(300_00, PAID)
    member.resigns(LEFT)
    back = local("2026-01-01T00:00")
    member.rejoins(back)
    change = member.live(back)[-1]
    assert (change.reason, change.from_tier_number, change.to_tier_number) == (Reason.REJOINED, 2, 1)
