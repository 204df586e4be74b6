"""How long a movement counts: both ends of the window, calendars, and the nights when clocks change."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from services.programme import Counting, LinkedReturns, Metric, TierPolicy, TierWindow, Window
from services.tiers.domain.facts import FactKind, NotCounted
from tests.tiers_rules import JOINED, MICROSECOND, Member, local, moves, policy

BOUGHT = local("2024-02-01T10:00")
END = local("2025-01-31T10:00")


def ends(rules: TierPolicy, bought: datetime, *, joined: datetime = JOINED) -> datetime | None:
    """When a purchase no longer counts."""
    member = Member(rules, joined=joined)
    member.buys(300_00, bought)
    change = member.standing(bought).next_change
    return None if change is None else change.time


def rolling(**span: int) -> TierPolicy:
    return policy(window=TierWindow.rolling(Window(**span)))


def by(counting: Counting) -> TierPolicy:
    return policy(window=TierWindow(counting=counting))


def test_a_purchase_counts_at_its_own_instant_and_not_before() -> None:
    member = Member()
    member.buys(300_00, BOUGHT)
    assert [member.tier(BOUGHT - MICROSECOND), member.tier(BOUGHT)] == ["White", "Green"]


def test_a_purchase_counts_up_to_its_end_and_not_at_it() -> None:
    member = Member()
    member.buys(300_00, BOUGHT)
    assert [member.tier(END - MICROSECOND), member.tier(END)] == ["Green", "White"]


def test_at_the_instant_of_an_end_the_roll_off_comes_before_the_purchase() -> None:
    member = Member()
    member.buys(300_00, BOUGHT)
    member.buys(300_00, END)
    assert moves(member.live(END)) == [(1, 2, BOUGHT), (2, 1, END), (1, 2, END)]


def test_movements_that_end_at_one_instant_leave_together_without_a_change_between() -> None:
    member = Member()
    member.returns(400_00, BOUGHT)
    member.buys(400_00, BOUGHT)
    assert moves(member.live(END)) == []


def test_what_is_due_comes_in_the_order_of_its_instants_after_a_long_silence() -> None:
    member = Member()
    later = BOUGHT + timedelta(days=29)
    member.buys(300_00, BOUGHT)
    member.buys(700_00, later)
    assert moves(member.live(local("2026-01-01T00:00")))[2:] == [(3, 2, END), (2, 1, later + timedelta(days=365))]


def test_a_return_that_leaves_the_window_gives_the_tier_back() -> None:
    member = Member()
    member.returns(1_00, BOUGHT)
    member.buys(300_00, BOUGHT + timedelta(days=30))
    change = member.standing(BOUGHT + timedelta(days=30)).next_change
    assert change is not None
    assert (change.time, change.level.name) == (END, "Green")


def test_a_return_counts_from_its_own_time_though_its_purchase_has_left_the_window() -> None:
    member = Member()
    purchase = member.buys(300_00, BOUGHT)
    member.returns(300_00, END, of=purchase)
    assert member.balance(END) == -300_00


def test_at_the_purchases_time_a_return_of_what_has_left_the_window_does_not_count() -> None:
    member = Member(policy(linked_returns=LinkedReturns.PURCHASE_TIME))
    purchase = member.buys(300_00, BOUGHT)
    member.returns(300_00, END, of=purchase)
    assert [line.not_counted for line in member.lines(END)] == [NotCounted.OUTSIDE_WINDOW] * 2


def test_at_the_purchases_time_a_return_leaves_with_its_purchase() -> None:
    member = Member(policy(linked_returns=LinkedReturns.PURCHASE_TIME))
    purchase = member.buys(300_00, BOUGHT)
    returned = BOUGHT + timedelta(days=100)
    member.returns(300_00, returned, of=purchase)
    assert member.lines(returned)[-1].end_time == END


def test_a_year_of_365_days_from_the_29th_of_february_ends_on_the_28th() -> None:
    assert ends(rolling(days=365), local("2024-02-29T12:00")) == local("2025-02-28T12:00")


def test_a_year_of_365_days_over_the_29th_of_february_ends_a_day_early() -> None:
    assert ends(rolling(days=365), local("2024-01-15T12:00")) == local("2025-01-14T12:00")


def test_a_calendar_year_long_span_from_the_29th_of_february_ends_on_the_28th() -> None:
    assert ends(rolling(years=1), local("2024-02-29T12:00")) == local("2025-02-28T12:00")


def test_a_calendar_year_long_span_ends_on_the_same_day_of_a_leap_year() -> None:
    assert ends(rolling(years=1), local("2024-01-15T12:00")) == local("2025-01-15T12:00")


def test_an_end_in_the_hour_that_the_night_of_spring_leaves_out_moves_an_hour_forward() -> None:
    assert ends(rolling(days=365), local("2024-03-30T02:30")) == local("2025-03-30T03:30")


def test_an_end_in_the_hour_that_comes_twice_in_autumn_is_the_first() -> None:
    assert ends(rolling(days=366), local("2023-10-27T02:30"), joined=local("2023-01-01T00:00")) == local(
        "2024-10-27T02:30", fold=0
    )


def test_of_two_purchases_in_the_hour_that_comes_twice_the_later_may_end_first() -> None:
    member = Member()
    member.buys(200_00, local("2024-10-27T02:45", fold=0))
    member.buys(100_00, local("2024-10-27T02:15", fold=1))
    assert moves(member.live(local("2026-01-01T00:00")))[-1][2] == local("2025-10-27T02:15")


@pytest.mark.parametrize(
    ("counting", "end"),
    [
        (Counting.CALENDAR_YEAR, "2025-01-01T00:00"),
        (Counting.CALENDAR_HALF, "2024-07-01T00:00"),
        (Counting.CALENDAR_QUARTER, "2024-04-01T00:00"),
    ],
)
def test_a_calendar_period_ends_with_its_last_local_day(counting: Counting, end: str) -> None:
    assert ends(by(counting), local("2024-03-31T23:59")) == local(end)


def test_a_purchase_at_the_first_instant_of_a_year_counts_for_that_year() -> None:
    assert ends(by(Counting.CALENDAR_YEAR), local("2025-01-01T00:00")) == local("2026-01-01T00:00")


def test_an_anniversary_ends_with_the_local_day_before_the_day_of_joining() -> None:
    joined = local("2024-05-10T15:00")
    assert ends(by(Counting.ANNIVERSARY), local("2025-05-09T23:59"), joined=joined) == local("2025-05-10T00:00")
    assert ends(by(Counting.ANNIVERSARY), local("2025-05-10T00:00"), joined=joined) == local("2026-05-10T00:00")


def test_the_anniversary_of_the_29th_of_february_is_on_the_28th_of_other_years() -> None:
    joined = local("2024-02-29T09:00")
    assert ends(by(Counting.ANNIVERSARY), local("2024-06-01T00:00"), joined=joined) == local("2025-02-28T00:00")


def test_the_anniversary_of_the_29th_of_february_is_on_the_29th_of_a_leap_year() -> None:
    joined = local("2024-02-29T09:00")
    assert ends(by(Counting.ANNIVERSARY), local("2028-02-28T23:00"), joined=joined) == local("2028-02-29T00:00")


def test_for_a_lifetime_nothing_ever_leaves() -> None:
    assert ends(by(Counting.LIFETIME), BOUGHT) is None


# --- from joining on ------------------------------------------------------------------------------------------------


def test_a_purchase_at_the_joining_instant_does_not_count() -> None:
    member = Member()
    member.buys(300_00, JOINED)
    assert member.tier(JOINED) == "White"


def test_a_purchase_a_microsecond_after_joining_counts() -> None:
    member = Member()
    member.buys(300_00, JOINED + MICROSECOND)
    assert member.tier(JOINED + MICROSECOND) == "Green"


def test_a_purchase_at_the_joining_instant_counts_where_counting_begins_with_joining() -> None:
    member = Member(policy(from_joining=True))
    member.buys(300_00, JOINED)
    assert member.tier(JOINED) == "Green"


def test_a_purchase_before_joining_never_counts() -> None:
    member = Member(policy(from_joining=True))
    member.buys(300_00, JOINED - MICROSECOND, known=JOINED)
    assert [line.not_counted for line in member.lines(JOINED)] == [NotCounted.BEFORE_JOINING]


def test_a_return_after_joining_counts_though_its_purchase_was_before() -> None:
    member = Member()
    purchase = member.buys(300_00, JOINED - timedelta(days=1), known=JOINED)
    member.returns(300_00, BOUGHT, of=purchase)
    assert member.balance(BOUGHT) == -300_00


def test_at_the_purchases_time_a_return_of_what_was_bought_before_joining_does_not_count() -> None:
    member = Member(policy(linked_returns=LinkedReturns.PURCHASE_TIME))
    purchase = member.buys(300_00, JOINED - timedelta(days=1), known=JOINED)
    member.returns(300_00, BOUGHT, of=purchase)
    assert member.balance(BOUGHT) == 0


def test_what_joining_itself_gave_counts() -> None:
    rules = policy(metric=Metric.QUALIFYING_POINTS, qualifying=frozenset({"sign_up_bonus"}))
    member = Member(rules, bonuses=(("sign_up_bonus", 50),))
    assert member.facts[0].kind is FactKind.JOINED
    assert member.balance(JOINED) == 50
