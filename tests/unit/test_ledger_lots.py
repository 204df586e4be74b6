"""How long points last: lots, expiry by each policy, return periods, and what a day is when the clock changes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.ledger.domain.catching_up import catch_up, due_time, next_expiry
from services.ledger.domain.events import LEDGER, Account, EntryKind, Flag, LotKey
from services.ledger.errors import OccurredTooEarlyError
from tests.ledger_rules import Shop, as_of, local, programme

MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1)
A_YEAR = "expiry: {policy: after, period: P1Y}"


def days(days: int) -> str:
    return f"expiry: {{policy: after, period: P{days}D}}"


# --- lots -------------------------------------------------------------------------------------------------------


def test_points_of_one_day_are_one_lot_and_those_of_another_day_another() -> None:
    shop = Shop(programme(A_YEAR), local(2026, 5, 1, 9))
    shop.award(10)
    shop.now = local(2026, 5, 1, 23)
    shop.award(5)
    shop.now = local(2026, 5, 2, 0)
    shop.award(1)
    assert shop.lots == [("2027-05-01", 15), ("2027-05-02", 1)]


def test_points_that_never_expire_are_one_lot() -> None:
    shop = Shop(programme(), local(2026, 5, 1, 9))
    shop.award(10)
    shop.now += 400 * DAY
    shop.award(5)
    assert shop.lots == [("", 15)]
    assert due_time(shop.versions, shop.member) is None
    assert next_expiry(shop.versions, shop.member) is None


def test_what_expires_first_is_drawn_first_whatever_was_given_first() -> None:
    shop = Shop(programme(A_YEAR), local(2026, 5, 10, 9))
    shop.award(10)
    shop.award(20, at=local(2026, 5, 2, 9))
    shop.award(30, at=local(2026, 5, 5, 9))
    event = shop.redeem(45)
    assert [(posting.lot.expires, posting.points) for posting in event.postings[:-1]] == [
        (date(2027, 5, 2), -20),
        (date(2027, 5, 5), -25),
    ]
    assert shop.lots == [("2027-05-05", 5), ("2027-05-10", 10)]


def test_of_lots_that_expire_together_the_one_that_became_active_first_is_drawn_first() -> None:
    shop = Shop(programme("expiry: {policy: calendar_year, period: P0M}"), local(2026, 5, 10, 9))
    shop.award(10)
    shop.award(20, at=local(2026, 5, 2, 9))
    assert shop.redeem(5).postings[0].lot == LotKey(date(2026, 5, 2), date(2026, 12, 31))


def test_points_that_expire_are_drawn_before_those_that_never_do() -> None:
    shop = Shop(programme(), local(2026, 5, 1, 9))
    shop.award(10)
    shop.programme = programme(A_YEAR)
    shop.award(20)
    assert shop.lots == [("2027-05-01", 20), ("", 10)]
    shop.redeem(25)
    assert shop.lots == [("", 5)]


def test_every_debit_names_the_lots_it_drew_from() -> None:
    shop = Shop(programme(A_YEAR), local(2026, 5, 10, 9))
    shop.award(10, at=local(2026, 5, 2, 9))
    shop.award(10)
    for event in (shop.redeem(4), shop.adjust(-8), shop.hold(3), shop.bring_back(400, purchase_id="")):
        drawn = [posting for posting in event.postings if posting.account is Account.AVAILABLE]
        assert drawn
        assert all(posting.lot.expires is not None for posting in drawn)


# --- until when -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "given", "gone"),
    [
        pytest.param("after, period: P1D", local(2026, 5, 1, 0), local(2026, 5, 3), id="through the day after"),
        pytest.param("after, period: P1D", local(2026, 5, 1, 23, 59), local(2026, 5, 3), id="late in the day"),
        pytest.param("after, period: P1D", local(2026, 3, 28, 12), local(2026, 3, 30), id="the day of 23 hours"),
        pytest.param("after, period: P1D", local(2026, 10, 24, 12), local(2026, 10, 26), id="the day of 25 hours"),
        pytest.param("after, period: P6M", local(2026, 9, 30, 12), local(2027, 3, 31), id="winter to summer time"),
        pytest.param("after, period: P1M", local(2026, 1, 31, 12), local(2026, 3, 1), id="a day February lacks"),
        pytest.param("after, period: P1M", local(2028, 1, 31, 12), local(2028, 3, 1), id="the 29th it has"),
        pytest.param("after, period: P1Y", local(2028, 2, 29, 12), local(2029, 3, 1), id="from a leap day"),
        pytest.param("after, period: P1Y", local(2027, 2, 28, 12), local(2028, 2, 29), id="up to a leap day"),
        pytest.param("after, period: P1Y", local(2026, 12, 31, 23, 59), local(2028, 1, 1), id="the last of the year"),
        pytest.param("after, period: P1Y", local(2027, 1, 1, 0), local(2028, 1, 2), id="the first of the year"),
        pytest.param("calendar_year, period: P0M", local(2026, 1, 1, 0), local(2027, 1, 1), id="year of its own"),
        pytest.param("calendar_year, period: P0M", local(2026, 12, 31, 23), local(2027, 1, 1), id="an hour of it"),
        pytest.param("calendar_year, period: P3M", local(2026, 5, 1, 9), local(2027, 4, 1), id="and three months"),
        pytest.param("calendar_year, period: P2M", local(2027, 5, 1, 9), local(2028, 3, 1), id="through a leap day"),
        pytest.param("inactivity, period: P1M", local(2026, 1, 31, 12), local(2026, 3, 1), id="nothing bought since"),
    ],
)
def test_points_last_through_their_last_local_day_and_are_gone_at_its_end(
    rule: str, given: datetime, gone: datetime
) -> None:
    shop = Shop(programme(f"expiry: {{policy: {rule}}}"), given, joined=given - timedelta(hours=1))
    shop.buy(1000)
    assert next_expiry(shop.versions, shop.member) == (gone, 10)
    shop.now = gone - MICROSECOND
    assert shop.member.available == 10
    shop.now = gone
    assert shop.member.available == 0
    assert shop.redeem(1).reason == "NOT_ENOUGH_POINTS"
    assert shop.balance == (0, 0, 0, 0)
    lapsed = next(event for event in shop.events if event.kind is EntryKind.POINTS_EXPIRED)
    assert (lapsed.occurred_time, lapsed.author, lapsed.request_id) == (gone, LEDGER, "")
    assert lapsed.posted(Account.EXPIRED) == 10


def test_where_midnight_does_not_exist_points_go_at_the_first_instant_of_the_day() -> None:
    santiago = ZoneInfo("America/Santiago")
    given = local(2024, 9, 6, 12, zone=santiago)
    shop = Shop(programme(days(1), zone="America/Santiago"), given)
    shop.award(10)
    # The clock goes from 24:00 on the 7th to 01:00 on the 8th.
    gone = datetime(2024, 9, 8, 4, tzinfo=UTC)
    assert next_expiry(shop.versions, shop.member) == (gone, 10)
    assert gone.astimezone(santiago).hour == 1


def test_lots_that_lapse_on_different_days_are_different_entries_each_at_its_own_instant() -> None:
    shop = Shop(programme(days(5)), local(2026, 5, 1, 9))
    shop.award(1)
    shop.award(2, at=local(2026, 4, 30, 9))
    shop.now = local(2026, 6, 1)
    events, member = catch_up(shop.versions, shop.known.member, shop.now)  # type: ignore[arg-type]
    assert [(event.occurred_time, event.posted(Account.EXPIRED)) for event in events] == [
        (local(2026, 5, 6), 2),
        (local(2026, 5, 7), 1),
    ]
    assert member.available == 0


def test_a_lapsed_lot_is_gone_for_every_read_though_nothing_was_written_yet() -> None:
    shop = Shop(programme(days(5)), local(2026, 5, 1, 9))
    shop.award(10)
    written = len(shop.events)
    before = as_of(shop.programme, shop.events, local(2026, 5, 7) - MICROSECOND)
    at = as_of(shop.programme, shop.events, local(2026, 5, 7))
    assert before is not None
    assert at is not None
    assert (before.available, at.available, len(shop.events)) == (10, 0, written)


# --- inactivity -------------------------------------------------------------------------------------------------


INACTIVITY = "expiry: {policy: inactivity, period: P10D}"


def test_buying_redeeming_and_capturing_keep_points_alive_and_nothing_else_does() -> None:
    def gone(act: str) -> datetime:
        shop = Shop(programme(INACTIVITY), local(2026, 5, 1, 9))
        shop.award(10)
        hold = shop.hold(2, timedelta(days=60))
        shop.now = local(2026, 5, 9, 9)
        match act:
            case "buy":
                shop.buy(100)
            case "redeem":
                shop.redeem(1)
            case "capture":
                shop.capture(hold, 1)
            case "award":
                shop.award(1)
            case "adjust":
                shop.adjust(1)
            case "hold":
                shop.hold(1)
            case "release":
                shop.release(hold)
            case "return":
                shop.bring_back(100, purchase_id="")
        due = next_expiry(shop.versions, shop.member)
        assert due is not None
        return due[0]

    moves, does_not = ("buy", "redeem", "capture"), ("award", "adjust", "hold", "release", "return", "")
    assert {act: gone(act) for act in moves} == dict.fromkeys(moves, local(2026, 5, 20))
    assert {act: gone(act) for act in does_not} == dict.fromkeys(does_not, local(2026, 5, 11))


def test_a_purchase_that_arrives_late_does_not_bring_back_what_lapsed() -> None:
    shop = Shop(programme(INACTIVITY), local(2026, 5, 1, 9))
    shop.award(10)
    shop.now = local(2026, 5, 15, 9)
    shop.buy(300, at=local(2026, 5, 9, 9))
    assert shop.balance == (0, 3, 0, 0)
    assert shop.member.activity_time == local(2026, 5, 9, 9)


def test_an_older_purchase_does_not_make_a_member_less_active() -> None:
    shop = Shop(programme(INACTIVITY), local(2026, 5, 9, 9))
    shop.buy(300)
    shop.buy(300, purchase_id="b", at=local(2026, 5, 2, 9))
    assert shop.member.activity_time == local(2026, 5, 9, 9)


# --- the return period ------------------------------------------------------------------------------------------


def test_points_are_pending_until_their_local_day_begins() -> None:
    shop = Shop(programme(earning="pending: P14D"), local(2026, 3, 20, 22))
    shop.buy(1000)
    # The night of the clock change lies between.
    shop.now = local(2026, 4, 3) - MICROSECOND
    assert shop.balance == (10, 0, 0, 0)
    assert shop.redeem(1).reason == "NOT_ENOUGH_POINTS"
    shop.now = local(2026, 4, 3)
    assert shop.balance == (0, 10, 0, 0)
    assert shop.redeem(10).kind is EntryKind.POINTS_REDEEMED
    activated = next(event for event in shop.events if event.kind is EntryKind.POINTS_ACTIVATED)
    assert (activated.occurred_time, activated.author) == (local(2026, 4, 3), LEDGER)


def test_expiry_counts_from_the_day_that_points_became_active() -> None:
    shop = Shop(programme(A_YEAR, earning="pending: P14D"), local(2026, 5, 1, 9))
    shop.buy(1000)
    shop.now = local(2026, 5, 15)
    assert shop.lots == [("2027-05-15", 10)]


def test_a_purchase_whose_return_period_is_over_when_it_arrives_gives_points_at_once() -> None:
    shop = Shop(programme(A_YEAR, earning="pending: P14D"), local(2026, 5, 15, 0), joined=local(2026, 1, 1))
    shop.buy(1000, at=local(2026, 5, 1, 9))
    assert shop.balance == (0, 10, 0, 0)
    assert shop.lots == [("2027-05-15", 10)]


def test_awards_and_adjustments_are_never_pending() -> None:
    shop = Shop(programme(earning="pending: P14D"), local(2026, 5, 1, 9))
    shop.award(1)
    shop.adjust(2)
    assert shop.balance == (0, 3, 0, 0)


@pytest.mark.parametrize("points", [3, 10, 12])
def test_what_becomes_available_pays_debt_first(points: int) -> None:
    shop = Shop(programme(earning="pending: P1D"), local(2026, 5, 1, 9))
    shop.buy(points * 100)
    shop.redeem(10, offline=True)
    assert shop.balance == (points, 0, 0, 10)
    shop.now = local(2026, 5, 2)
    assert shop.balance == (0, max(points - 10, 0), 0, max(10 - points, 0))


def test_a_hold_that_runs_out_pays_debt_first() -> None:
    shop = Shop(programme(), local(2026, 5, 1, 9))
    shop.award(10)
    shop.hold(10)
    shop.redeem(4, offline=True)
    shop.now += timedelta(minutes=15)
    assert shop.balance == (0, 6, 0, 0)


# --- late history -----------------------------------------------------------------------------------------------


def test_points_that_had_lapsed_when_their_purchase_arrives_are_given_and_gone_at_once() -> None:
    shop = Shop(programme(days(10)), local(2026, 5, 30, 9), joined=local(2026, 1, 1))
    event = shop.buy(1000, at=local(2026, 5, 1, 9))
    assert (event.points, event.flags) == (10, (Flag.BACK_DATED,))
    assert shop.balance == (0, 0, 0, 0)
    lapsed = shop.events[-1]
    assert (lapsed.kind, lapsed.occurred_time, lapsed.posted(Account.EXPIRED)) == (
        EntryKind.POINTS_EXPIRED,
        shop.now,
        10,
    )


def test_what_happened_on_an_earlier_local_day_is_marked_as_back_dated() -> None:
    shop = Shop(programme(), local(2026, 5, 2, 0, 30), joined=local(2026, 1, 1))
    assert shop.buy(100, at=local(2026, 5, 2)).flags == ()
    late = local(2026, 5, 1, 23, 59)
    assert shop.buy(100, purchase_id="b", at=late).flags == (Flag.BACK_DATED,)
    assert shop.bring_back(100, purchase_id="b", at=late).flags == (Flag.BACK_DATED,)
    assert shop.award(1, at=late).flags == (Flag.BACK_DATED,)


def test_what_lies_further_back_than_the_programme_allows_is_rejected() -> None:
    # 90 local days, the night of the clock change among them: the clock shows the same time.
    shop = Shop(programme("back_dating: P90D"), local(2026, 4, 30, 12), joined=local(2020, 1, 1))
    shop.buy(100, at=local(2026, 1, 30, 12))
    with pytest.raises(OccurredTooEarlyError):
        shop.buy(100, purchase_id="b", at=local(2026, 1, 30, 12) - MICROSECOND)


def test_a_member_as_of_a_business_time_has_what_late_events_say_of_it() -> None:
    shop = Shop(programme(), local(2026, 5, 10, 9), joined=local(2026, 1, 1))
    shop.redeem(7, offline=True)
    shop.buy(1000, at=local(2026, 5, 1, 9))
    assert shop.balance == (0, 3, 0, 0)
    # The debt of the 10th was not there on the 2nd.
    then = as_of(shop.programme, shop.events, local(2026, 5, 2))
    assert then is not None
    assert (then.available, then.debt) == (10, 0)


def test_as_of_a_business_time_points_that_were_there_pay_what_was_owed() -> None:
    shop = Shop(programme(), local(2026, 5, 10, 9), joined=local(2026, 1, 1))
    shop.award(10, at=local(2026, 5, 1, 9))
    shop.hold(6)
    shop.bring_back(1000, purchase_id="", at=local(2026, 5, 9, 9))
    assert shop.balance == (0, 0, 6, 6)
    # On the 9th nothing was held yet.
    then = as_of(shop.programme, shop.events, local(2026, 5, 9, 12))
    assert then is not None
    assert (then.available, then.held, then.debt) == (0, 0, 0)


def test_nobody_is_a_member_before_joining_whatever_came_late() -> None:
    shop = Shop(programme(), local(2026, 5, 10, 9))
    shop.award(5, at=local(2026, 5, 1, 9))
    shop.redeem(500)
    assert as_of(shop.programme, shop.events, local(2026, 5, 2)) is None
