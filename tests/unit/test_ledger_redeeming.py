"""Spending points: redemptions and what is given back of them, holds, adjustments by hand, and points restored."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from services.ledger.domain.adjusting import MAX_AWAITED
from services.ledger.domain.commands import CaptureHold, HoldPoints, RedeemPoints, ReleaseHold, ReverseRedemption
from services.ledger.domain.events import LEDGER, Account, EntryKind, Flag
from services.ledger.domain.redeeming import MAX_HOLDS
from services.programme import Programme
from tests.ledger_rules import Shop, local, programme

MICROSECOND = timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
TEN_DAYS = "expiry: {policy: after, period: P10D}"
NOON = local(2026, 5, 1, 12)


def shop(points: int = 0, rules: Programme | None = None) -> Shop:
    """A member with so many points, at noon on 1 May."""
    made = Shop(rules or programme(), NOON)
    if points:
        made.award(points)
    return made


def shop_with_three_lots() -> Shop:
    """10 points until the 8th, 20 until the 9th, 30 until the 11th."""
    made = shop(30, programme(TEN_DAYS))
    made.award(10, at=local(2026, 4, 28, 9))
    made.award(20, at=local(2026, 4, 29, 9))
    assert made.lots == [("2026-05-08", 10), ("2026-05-09", 20), ("2026-05-11", 30)]
    return made


# --- redemptions ------------------------------------------------------------------------------------------------


def test_no_redemption_takes_more_than_is_there() -> None:
    made = shop(10)
    assert made.redeem(11).reason == "NOT_ENOUGH_POINTS"
    assert made.redeem(10).kind is EntryKind.POINTS_REDEEMED
    assert made.redeem(1).reason == "NOT_ENOUGH_POINTS"
    assert made.balance == (0, 0, 0, 0)
    assert made.member.redeemed == 10


@pytest.mark.parametrize(
    ("points", "answer"),
    [
        (499, "REDEMPTION_BELOW_MINIMUM"),
        (500, ""),
        (550, "REDEMPTION_NOT_IN_STEPS"),
        (600, ""),
        (1100, "NOT_ENOUGH_POINTS"),
    ],
)
def test_points_go_from_a_minimum_up_and_in_steps(points: int, answer: str) -> None:
    rules = programme("redemption: {minimum: 500, step: 100}")
    assert shop(1000, rules).redeem(points).reason == (answer or "discount")
    assert shop(1000, rules).hold(points).reason == answer


def test_what_was_spent_offline_is_never_refused_what_is_missing_is_owed_and_marked() -> None:
    made = shop(10, programme("redemption: {minimum: 500, step: 100}"))
    event = made.redeem(25, offline=True)
    assert (event.kind, event.flags) == (EntryKind.POINTS_REDEEMED, (Flag.OFFLINE_OVERDRAWN,))
    assert made.balance == (0, 0, 0, 15)
    assert made.member.redeemed == 25


def test_an_offline_redemption_that_is_covered_is_not_marked() -> None:
    assert shop(10).redeem(10, offline=True).flags == ()


def test_points_are_taken_when_the_ledger_hears_of_it_whatever_time_the_till_claims() -> None:
    made = shop(10)
    assert made.redeem(4, at=NOON - 5 * DAY, offline=True).occurred_time == NOON


# --- reversals --------------------------------------------------------------------------------------------------


def test_a_reversal_puts_all_points_back_into_the_lots_they_came_from() -> None:
    made = shop_with_three_lots()
    before = made.lots
    redemption = made.redeem(45)
    assert made.reverse(redemption).kind is EntryKind.REDEMPTION_REVERSED
    assert made.lots == before
    assert made.member.redeemed == 0


def test_a_reversal_in_parts_fills_the_lot_drawn_last_first_and_never_more_than_was_drawn() -> None:
    made = shop_with_three_lots()
    redemption = made.redeem(45)
    assert made.lots == [("2026-05-11", 15)]
    made.reverse(redemption, 10)
    assert made.lots == [("2026-05-11", 25)]
    made.reverse(redemption, 10)
    assert made.lots == [("2026-05-09", 5), ("2026-05-11", 30)]
    assert made.reverse(redemption, 26).reason == "REVERSAL_EXCEEDS_REDEMPTION"
    made.reverse(redemption)
    assert made.lots == [("2026-05-08", 10), ("2026-05-09", 20), ("2026-05-11", 30)]
    assert made.reverse(redemption).reason == "REVERSAL_EXCEEDS_REDEMPTION"


def test_points_given_back_to_a_lot_that_lapsed_lapse_at_once() -> None:
    made = shop_with_three_lots()
    redemption = made.redeem(20)
    made.now = local(2026, 5, 9, 12)
    made.reverse(redemption)
    # 10 of the lot of the 8th are gone, 10 of that of the 9th are back.
    assert made.lots == [("2026-05-09", 20), ("2026-05-11", 30)]
    event = made.events[-1]
    assert (event.kind, event.occurred_time, event.author) == (EntryKind.POINTS_EXPIRED, made.now, LEDGER)
    assert [(posting.account, posting.points) for posting in event.postings] == [
        (Account.AVAILABLE, -10),
        (Account.EXPIRED, 10),
    ]


def test_a_reversal_lifts_what_was_owed_for_it_first() -> None:
    made = shop(10, programme(TEN_DAYS))
    redemption = made.redeem(25, offline=True)
    made.reverse(redemption, 12)
    assert made.balance == (0, 0, 0, 3)
    made.reverse(redemption)
    assert made.balance == (0, 10, 0, 0)


def test_a_debt_that_was_paid_since_comes_back_as_points_of_today() -> None:
    made = shop(10, programme(TEN_DAYS))
    redemption = made.redeem(25, offline=True)
    made.now = NOON + 3 * DAY
    made.award(20)
    assert made.balance == (0, 5, 0, 0)
    made.now = NOON + 5 * DAY
    made.reverse(redemption)
    assert made.lots == [("2026-05-11", 10), ("2026-05-14", 5), ("2026-05-16", 15)]


def test_nothing_is_given_back_of_what_was_never_redeemed() -> None:
    made = shop(10)
    assert made.reverse(made.award(1)).reason == "REDEMPTION_UNKNOWN"


def test_points_of_a_reward_or_a_checkout_are_given_back_by_the_notifier_alone() -> None:
    for own in ({"principal": "notifier"}, {"principal": "notifier", "on_behalf_of": "till"}):
        made = shop_with_three_lots()
        spent = {"reason": "", "note": "", "purchase_id": "", "store_id": "", "channel": ""}
        redeemed = made.do(RedeemPoints, points=20, offline=False, **spent, **own)
        held = made.hold(10)
        captured = made.do(CaptureHold, hold_id=held.request_id, points=0, reason="", purchase_id="", **own)
        for redemption in (redeemed, captured):
            assert made.reverse(redemption).reason == "REDEMPTION_OF_REWARD"
            assert made.buy(1000, paid=(redemption, 5, 5)).reason == "REDEMPTION_OF_REWARD", (
                "a void would give them back"
            )
        assert made.balance == (0, 30, 0, 0)
        for redemption in (redeemed, captured):
            back = {"redemption_id": redemption.request_id, "points": 0, "reason": "", "note": ""}
            assert made.do(ReverseRedemption, **back, principal="notifier").kind is EntryKind.REDEMPTION_REVERSED
        assert made.balance == (0, 60, 0, 0)


@pytest.mark.parametrize("of", ["reward", "checkout"])
def test_points_held_for_a_reward_or_a_checkout_are_moved_by_the_notifier_alone(of: str) -> None:
    made, hold_id = shop(10), f"{of}-{'0a' * 16}-hold"
    fields = {"points": 7, "ttl": 15 * MINUTE, "reason": "", "purchase_id": ""}
    hold = made.do(HoldPoints, request_id=hold_id, principal="notifier", **fields)
    for refused in (made.capture(hold), made.release(hold), made.extend(hold, MINUTE)):
        assert refused.reason == "REDEMPTION_OF_REWARD"
    assert made.balance == (0, 3, 7, 0)
    made.do(ReleaseHold, hold_id=hold_id, points=2, principal="notifier")
    made.do(CaptureHold, hold_id=hold_id, points=0, reason="", purchase_id="", principal="notifier")
    assert made.balance == (0, 5, 0, 0)


def test_what_a_hold_captured_can_be_given_back_like_a_redemption() -> None:
    made = shop_with_three_lots()
    before = made.lots
    captured = made.capture(made.hold(40), 35)
    made.reverse(captured)
    # 5 points are still held; they are those of the lot that goes last.
    assert made.lots == [*before[:2], ("2026-05-11", 25)]
    assert made.balance == (0, 55, 5, 0)


# --- holds ------------------------------------------------------------------------------------------------------


def test_held_points_are_there_but_not_available() -> None:
    made = shop(10)
    hold = made.hold(7)
    assert hold.expire_time == NOON + 15 * MINUTE
    assert made.balance == (0, 3, 7, 0)
    assert made.redeem(4).reason == "NOT_ENOUGH_POINTS"


def test_a_hold_runs_out_at_exactly_its_instant() -> None:
    made = shop(10)
    hold = made.hold(7)
    made.now = NOON + 15 * MINUTE - MICROSECOND
    assert made.balance == (0, 3, 7, 0)
    made.now = NOON + 15 * MINUTE
    assert made.balance == (0, 10, 0, 0)
    assert made.capture(hold).reason == "HOLD_UNKNOWN"
    ran_out = next(event for event in made.events if event.kind is EntryKind.HOLD_EXPIRED)
    assert (ran_out.occurred_time, ran_out.reference, ran_out.author) == (made.now, hold.request_id, LEDGER)


def test_a_capture_just_before_that_instant_is_in_time() -> None:
    made = shop(10)
    hold = made.hold(7)
    made.now = NOON + 15 * MINUTE - MICROSECOND
    assert made.capture(hold).kind is EntryKind.HOLD_CAPTURED
    assert made.balance == (0, 3, 0, 0)


def test_a_hold_is_captured_in_parts_and_what_is_left_runs_out() -> None:
    made = shop_with_three_lots()
    hold = made.hold(35)
    assert made.capture(hold, 15).posted(Account.REDEEMED) == 15
    assert made.capture(hold, 5).posted(Account.REDEEMED) == 5
    assert made.capture(hold, 16).reason == "CAPTURE_EXCEEDS_HOLD"
    assert made.balance == (0, 25, 15, 0)
    made.now += 15 * MINUTE
    assert made.lots == [("2026-05-09", 10), ("2026-05-11", 30)]
    assert made.member.redeemed == 20


def test_a_hold_that_was_captured_or_released_whole_is_gone() -> None:
    made = shop(10)
    captured, released = made.hold(4), made.hold(5)
    made.capture(captured)
    made.release(released)
    for hold in (captured, released):
        assert made.capture(hold).reason == "HOLD_UNKNOWN"
        assert made.release(hold).reason == "HOLD_UNKNOWN"
        assert made.extend(hold, DAY).reason == "HOLD_UNKNOWN"
    assert made.balance == (0, 6, 0, 0)


def test_part_of_a_hold_is_released() -> None:
    made = shop(10)
    hold = made.hold(7)
    assert made.release(hold, 8).reason == "CAPTURE_EXCEEDS_HOLD"
    made.release(hold, 3)
    assert made.balance == (0, 6, 4, 0)


def test_points_do_not_lapse_while_they_are_held_and_can_still_be_spent() -> None:
    made = shop(10, programme(TEN_DAYS))
    hold = made.hold(7, 30 * DAY)
    made.now = NOON + 15 * DAY
    assert made.balance == (0, 0, 7, 0)
    assert made.capture(hold, 4).kind is EntryKind.HOLD_CAPTURED
    assert made.balance == (0, 0, 3, 0)


def test_held_points_of_a_lapsed_lot_lapse_when_they_are_released() -> None:
    made = shop(10, programme(TEN_DAYS))
    hold = made.hold(7, 30 * DAY)
    made.now = NOON + 15 * DAY
    made.release(hold, 3)
    assert made.balance == (0, 0, 4, 0)
    assert (made.events[-1].kind, made.events[-1].posted(Account.EXPIRED)) == (EntryKind.POINTS_EXPIRED, 3)


def test_held_points_of_a_lapsed_lot_lapse_at_the_instant_the_hold_runs_out() -> None:
    made = shop(10, programme(TEN_DAYS))
    made.hold(7, 15 * DAY)
    made.now = NOON + 40 * DAY
    made.award(1)
    by_time = [event for event in made.events if event.author == LEDGER]
    assert [(event.kind, event.occurred_time) for event in by_time] == [
        (EntryKind.POINTS_EXPIRED, local(2026, 5, 12)),
        (EntryKind.HOLD_EXPIRED, NOON + 15 * DAY),
        (EntryKind.POINTS_EXPIRED, NOON + 15 * DAY),
    ]
    assert [event.posted(Account.EXPIRED) for event in by_time] == [3, 0, 7]


@pytest.mark.parametrize("ttl", [MINUTE, DAY])
def test_an_extended_hold_lasts_for_its_new_time_from_now_longer_or_shorter(ttl: timedelta) -> None:
    made = shop(10)
    hold = made.hold(7)
    made.now = NOON + 10 * MINUTE
    assert made.extend(hold, ttl).expire_time == made.now + ttl
    ends = made.now + ttl
    made.now = ends - MICROSECOND
    assert made.balance == (0, 3, 7, 0)
    made.now = ends
    assert made.balance == (0, 10, 0, 0)


def test_a_member_has_only_so_many_holds() -> None:
    made = shop(MAX_HOLDS + 1)
    for _ in range(MAX_HOLDS):
        assert made.hold(1).kind is EntryKind.POINTS_HELD
    assert made.hold(1).reason == "TOO_MANY_HOLDS"


# --- adjustments ------------------------------------------------------------------------------------------------


def test_an_adjustment_adds_or_takes_and_is_neither_earned_nor_redeemed() -> None:
    made = shop(10, programme(TEN_DAYS))
    assert made.adjust(5).posted(Account.ADJUSTED) == 5
    assert made.adjust(-12).posted(Account.ADJUSTED) == -12
    assert made.lots == [("2026-05-11", 3)]
    assert (made.member.earned, made.member.redeemed) == (10, 0)
    assert made.adjust(-4).reason == "NOT_ENOUGH_POINTS"


@pytest.mark.parametrize("points", [51, -51])
def test_above_the_limit_of_a_call_another_principal_must_approve_it(points: int) -> None:
    made = shop(100, programme("adjustments: {per_call: 50}"))
    asked = made.adjust(points)
    assert asked.kind is EntryKind.ADJUSTMENT_REQUESTED
    assert made.balance == (0, 100, 0, 0)
    assert made.adjust(points, approves=asked.request_id).reason == "APPROVAL_BY_SAME_PRINCIPAL"
    assert made.adjust(points - 1, approves=asked.request_id, principal="boss").reason == "ADJUSTMENT_DIFFERS"
    approved = made.adjust(points, approves=asked.request_id, principal="boss")
    assert (approved.kind, approved.reference) == (EntryKind.POINTS_ADJUSTED, asked.request_id)
    assert made.balance == (0, 100 + points, 0, 0)
    again = made.adjust(points, approves=asked.request_id, principal="boss")
    assert again.reason == "ADJUSTMENT_UNKNOWN"


def test_who_acts_through_another_principal_is_the_one_who_asked_or_approves() -> None:
    made = shop(100, programme("adjustments: {per_call: 50}"))
    asked = made.adjust(51, principal="backoffice", on_behalf_of="alice")
    assert made.adjust(51, approves=asked.request_id, principal="alice").reason == "APPROVAL_BY_SAME_PRINCIPAL"
    approved = made.adjust(51, approves=asked.request_id, principal="backoffice", on_behalf_of="bob")
    assert approved.kind is EntryKind.POINTS_ADJUSTED


@pytest.mark.parametrize(("asking", "approving"), [("alice", ""), ("", "alice")])
def test_who_leaves_out_for_whom_it_acts_approves_nothing_of_its_own(asking: str, approving: str) -> None:
    made = shop(100, programme("adjustments: {per_call: 50}"))
    asked = made.adjust(51, principal="backoffice", on_behalf_of=asking)
    approved = made.adjust(51, approves=asked.request_id, principal="backoffice", on_behalf_of=approving)
    assert approved.reason == "APPROVAL_BY_SAME_PRINCIPAL"


def test_an_approval_that_can_not_be_carried_out_leaves_the_adjustment_waiting() -> None:
    made = shop(10, programme("adjustments: {per_call: 50}"))
    asked = made.adjust(-51)
    assert made.adjust(-51, approves=asked.request_id, principal="boss").reason == "NOT_ENOUGH_POINTS"
    made.award(41)
    assert made.adjust(-51, approves=asked.request_id, principal="boss").kind is EntryKind.POINTS_ADJUSTED


def test_the_limit_of_a_day_counts_what_was_added_and_taken_until_the_next_local_day() -> None:
    made = shop(100, programme("adjustments: {per_day: 50}"))
    made.now = local(2026, 5, 1, 23, 59)
    assert made.adjust(30).kind is EntryKind.POINTS_ADJUSTED
    assert made.adjust(-21).kind is EntryKind.ADJUSTMENT_REQUESTED
    assert made.adjust(-20).kind is EntryKind.POINTS_ADJUSTED
    assert made.adjust(1).kind is EntryKind.ADJUSTMENT_REQUESTED
    made.now = local(2026, 5, 2)
    assert made.adjust(50).kind is EntryKind.POINTS_ADJUSTED


@pytest.mark.parametrize("principal", ["support", "boss"])
def test_whoever_may_adjust_declines_what_waits_also_the_one_that_asked_for_it(principal: str) -> None:
    made = shop(100, programme("adjustments: {per_call: 50}"))
    asked, other = made.adjust(51), made.adjust(52)
    assert made.adjust(50, declines=asked.request_id, principal=principal).reason == "ADJUSTMENT_DIFFERS"
    assert made.adjust(51, declines=asked.request_id, restores=True).reason == "ADJUSTMENT_DIFFERS"
    declined = made.adjust(51, declines=asked.request_id, principal=principal)
    assert (declined.kind, declined.reference, declined.reason) == (
        EntryKind.ADJUSTMENT_DECLINED,
        asked.request_id,
        "x",
    )
    assert (declined.postings, made.balance) == ((), (0, 100, 0, 0))
    assert made.adjust(51, declines=asked.request_id).reason == "ADJUSTMENT_UNKNOWN"
    assert made.adjust(51, approves=asked.request_id, principal="boss").reason == "ADJUSTMENT_UNKNOWN"
    assert [one.adjustment_id for one in made.member.awaited] == [other.request_id]


def test_a_member_has_only_so_many_adjustments_that_wait_until_one_is_declined() -> None:
    made = shop(100, programme("adjustments: {per_call: 50}"))
    asked = [made.adjust(51) for _ in range(MAX_AWAITED)]
    assert made.adjust(51).reason == "TOO_MANY_ADJUSTMENTS"
    made.adjust(51, declines=asked[7].request_id)
    assert made.adjust(51).kind is EntryKind.ADJUSTMENT_REQUESTED


def test_what_was_declined_does_not_count_for_the_day() -> None:
    made = shop(100, programme("adjustments: {per_day: 50}"))
    made.adjust(60, declines=made.adjust(60).request_id)
    assert made.adjust(50).kind is EntryKind.POINTS_ADJUSTED


def test_what_was_approved_counts_for_the_day_too() -> None:
    made = shop(100, programme("adjustments: {per_day: 50}"))
    asked = made.adjust(60)
    made.adjust(60, approves=asked.request_id, principal="boss")
    assert made.adjust(1).kind is EntryKind.ADJUSTMENT_REQUESTED


# --- points restored that lapsed ------------------------------------------------------------------------------------


def lapsed_shop(more: str = TEN_DAYS) -> Shop:
    """30 points lapsed with 11 May, 20 more with 12 May; today is 15 May."""
    made = shop(30, programme(more))
    made.now = local(2026, 5, 2, 12)
    made.award(20)
    made.now = local(2026, 5, 15, 12)
    assert made.balance == (0, 0, 0, 0)
    return made


def test_points_that_lapsed_are_restored_in_a_lot_of_today_those_that_lapsed_last_first() -> None:
    made = lapsed_shop()
    restored = made.adjust(25, restores=True)
    assert restored.kind is EntryKind.POINTS_RESTORED
    gone = [(leg.lot.expires, leg.points) for leg in restored.postings if leg.account is Account.EXPIRED]
    assert gone == [(date(2026, 5, 12), -20), (date(2026, 5, 11), -5)]
    assert made.lots == [("2026-05-25", 25)]
    assert (restored.posted(Account.ADJUSTED), made.member.earned, made.member.redeemed) == (0, 50, 0)
    made.now = local(2026, 5, 26)
    assert made.balance == (0, 0, 0, 0)


def test_no_more_is_restored_than_lapsed_and_was_not_restored_before() -> None:
    made = lapsed_shop()
    assert made.adjust(51, restores=True).reason == "NOT_SO_MANY_EXPIRED"
    assert made.adjust(30, restores=True).kind is EntryKind.POINTS_RESTORED
    assert made.adjust(21, restores=True).reason == "NOT_SO_MANY_EXPIRED"
    assert made.adjust(20, restores=True).kind is EntryKind.POINTS_RESTORED
    assert made.adjust(1, restores=True).reason == "NOT_SO_MANY_EXPIRED"
    assert made.balance == (0, 50, 0, 0)


def test_what_a_return_took_of_lapsed_points_is_not_restored_and_what_was_restored_it_takes_from_other_lots() -> None:
    made = Shop(programme(TEN_DAYS), local(2026, 5, 1, 12))
    made.buy(3000)
    made.now = local(2026, 5, 15, 12)
    made.bring_back(1000)
    assert made.adjust(21, restores=True).reason == "NOT_SO_MANY_EXPIRED"
    assert made.adjust(15, restores=True).kind is EntryKind.POINTS_RESTORED
    # 5 lapsed for good; the rest comes out of what was restored.
    made.bring_back(1000)
    assert made.balance == (0, 10, 0, 0)
    made.bring_back(1000)
    assert made.balance == (0, 0, 0, 0)


def test_restored_points_pay_debt_first() -> None:
    made = lapsed_shop()
    made.redeem(12, offline=True)
    restored = made.adjust(50, restores=True)
    assert (restored.posted(Account.DEBT), made.balance) == (-12, (0, 38, 0, 0))


def test_the_limits_of_an_adjustment_hold_for_a_restoration_and_what_waits_remembers_that_it_is_one() -> None:
    made = lapsed_shop(TEN_DAYS + "\nadjustments: {per_call: 30, per_day: 35}")
    assert made.adjust(10, restores=True).kind is EntryKind.POINTS_RESTORED
    assert made.adjust(26).kind is EntryKind.ADJUSTMENT_REQUESTED
    asked = made.adjust(40, restores=True)
    assert (asked.kind, asked.flags) == (EntryKind.ADJUSTMENT_REQUESTED, (Flag.RESTORES_EXPIRED,))
    assert made.adjust(40, approves=asked.request_id, principal="boss").reason == "ADJUSTMENT_DIFFERS"
    approved = made.adjust(40, approves=asked.request_id, restores=True, principal="boss")
    assert (approved.kind, approved.reference) == (EntryKind.POINTS_RESTORED, asked.request_id)
    assert made.balance == (0, 50, 0, 0)
    plain = made.adjust(31)
    assert made.adjust(31, approves=plain.request_id, restores=True, principal="boss").reason == "ADJUSTMENT_DIFFERS"


def test_an_inactive_member_is_refused_until_its_own_purchase_or_redemption() -> None:
    made = shop(30, programme("expiry: {policy: inactivity, period: P10D}"))
    made.now = local(2026, 5, 15, 12)
    assert made.adjust(30, restores=True).reason == "MEMBER_INACTIVE"
    # It was not inactive at all: the purchase of the 9th arrives late.
    made.buy(100, at=local(2026, 5, 9, 12))
    assert made.adjust(31, restores=True).reason == "NOT_SO_MANY_EXPIRED"
    assert made.adjust(30, restores=True).kind is EntryKind.POINTS_RESTORED
    assert made.balance == (0, 31, 0, 0)
    # A restoration is no activity of its own.
    made.now = local(2026, 5, 20)
    assert made.balance == (0, 0, 0, 0)


def test_what_lapsed_by_inactivity_last_is_restored_first() -> None:
    made = shop(30, programme("expiry: {policy: inactivity, period: P10D}"))
    for day in (15, 30):
        made.now = local(2026, 5, day, 12)
        made.buy(500, purchase_id=f"p{day}")
    made.now = local(2026, 6, 30, 12)
    made.buy(100, purchase_id="now")
    restored = made.adjust(33, restores=True)
    gone = [(leg.lot.activates, leg.points) for leg in restored.postings if leg.account is Account.EXPIRED]
    assert gone == [(date(2026, 5, 30), -5), (date(2026, 5, 15), -5), (date(2026, 4, 30), -23)]
