"""A programme changes: what happens goes by the version of its time, what time does by the version of each instant."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.ledger.domain import commands
from services.ledger.domain.catching_up import activation_time, due_time, expiry_time, next_expiry, seen_at
from services.ledger.domain.events import Account, LotKey
from services.ledger.domain.liability import Span, Sum, liability
from services.ledger.domain.rules import Rules, StoredVersion
from services.programme import SINCE_EVER, Programme, Version, Versions
from tests.ledger_rules import Shop, goods, local, programme

MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1)
SWITCH = local(2026, 5, 10)
NEVER = ""
IDLE = "expiry: {policy: inactivity, period: P30D}"
A_YEAR = "expiry: {policy: after, period: P1Y}"


def shop(before: Programme, after: Programme, *, at: datetime = SWITCH, now: datetime | None = None) -> Shop:
    made = Shop(before, now or local(2026, 5, 1, 12))
    made.later.append(Version(programme=after, from_time=at))
    return made


def multiplied(factor: str) -> Programme:
    return programme(earning=f'bonuses: [{{id: extra, multiplier: "{factor}"}}]')


def with_class(name: str, basis_points: int) -> Programme:
    made = programme()
    classes = {**made.earning.class_multipliers_bp, name: basis_points}
    return replace(made, earning=replace(made.earning, class_multipliers_bp=classes))


def test_a_purchase_a_microsecond_before_the_switch_goes_by_the_old_version_and_one_at_it_by_the_new() -> None:
    here = shop(programme(), multiplied("3"))
    here.now = SWITCH + DAY
    assert here.buy(1000, goods(1000), purchase_id="a", at=SWITCH - MICROSECOND).points == 10
    assert here.buy(1000, goods(1000), purchase_id="b", at=SWITCH).points == 30


def test_what_comes_late_goes_by_the_version_of_its_own_time() -> None:
    here = shop(multiplied("3"), programme())
    here.now = SWITCH + 5 * DAY
    assert here.buy(1000, goods(1000), at=SWITCH - DAY).points == 30


def test_points_are_spent_by_the_version_of_the_moment_whatever_the_caller_claims() -> None:
    here = shop(programme(), programme("redemption: {minimum: 500, step: 1}"))
    here.do(commands.AwardPoints, points=1000, reason="gift", note="", purchase_id="")
    here.now = SWITCH
    spent = here.do(
        commands.RedeemPoints,
        at=SWITCH - DAY,
        points=100,
        reason="",
        note="",
        channel="",
        store_id="",
        purchase_id="",
        offline=False,
    )
    assert spent.reason == "REDEMPTION_BELOW_MINIMUM"


def test_a_class_earns_by_the_version_of_the_purchase() -> None:
    here = shop(with_class("regular", 12_500), with_class("regular", 20_000))
    here.do(commands.SetEarningClass, earning_class="regular", effective_time=here.now, sequence=1)
    here.now = SWITCH + DAY
    for at, points in ((SWITCH - MICROSECOND, 125), (SWITCH, 200)):
        assert here.buy(10_000, goods(10_000), purchase_id=at.isoformat(), at=at).points == points


def test_a_class_that_only_a_coming_version_has_can_be_set_ahead_of_it() -> None:
    here = shop(programme(), with_class("gold", 20_000))
    event = here.do(commands.SetEarningClass, earning_class="gold", effective_time=SWITCH, sequence=1)
    assert event.earning_class == "gold"
    unknown = here.do(commands.SetEarningClass, earning_class="tin", effective_time=SWITCH, sequence=2)
    assert unknown.reason == "EARNING_CLASS_UNKNOWN"
    here.now = SWITCH
    assert here.buy(10_000, goods(10_000)).points == 200


def test_points_keep_the_day_they_were_given_and_new_ones_get_that_of_the_new_version() -> None:
    here = shop(programme(A_YEAR), programme(NEVER))
    here.buy(1000, goods(1000), purchase_id="a")
    here.now = SWITCH
    here.buy(500, goods(500), purchase_id="b")
    assert here.lots == [("2027-05-01", 10), ("", 5)]
    here.now = local(2027, 5, 2)
    assert here.lots == [("", 5)]


def test_points_of_the_idle_lapse_when_the_version_begins_that_lets_them_and_not_before() -> None:
    here = shop(programme(NEVER), programme(IDLE), at=local(2026, 8, 1))
    here.buy(1000, goods(1000))
    member, versions = here.member, here.versions
    assert due_time(versions, member) == local(2026, 8, 1)
    assert next_expiry(versions, member) == (local(2026, 8, 1), 10)
    here.now = local(2026, 8, 1) - MICROSECOND
    assert here.balance == (0, 10, 0, 0)
    here.now = local(2026, 8, 1)
    assert here.balance == (0, 0, 0, 0)


def test_points_of_the_idle_that_would_lapse_after_a_version_ends_never_do() -> None:
    here = shop(programme(IDLE), programme(NEVER), at=local(2026, 5, 31))
    here.buy(1000, goods(1000))
    # The thirtieth day after the purchase is the last: the version ends with the start of it.
    assert due_time(here.versions, here.member) is None
    assert expiry_time(here.versions, here.member, LotKey(None, None)) is None
    here = shop(programme(IDLE), programme(NEVER), at=local(2026, 6, 1) + MICROSECOND)
    here.buy(1000, goods(1000))
    assert due_time(here.versions, here.member) == local(2026, 6, 1)


def test_a_gift_to_someone_long_idle_stays_once_idleness_no_longer_counts() -> None:
    here = shop(programme(IDLE), programme(NEVER))
    here.now = local(2027, 1, 1)
    here.do(commands.AwardPoints, points=7, reason="gift", note="", purchase_id="")
    assert here.balance == (0, 7, 0, 0)
    here.now = local(2028, 1, 1)
    assert here.balance == (0, 7, 0, 0)


def test_what_was_left_undone_of_an_old_version_is_done_at_its_own_instant() -> None:
    here = shop(programme(IDLE), programme(NEVER), at=local(2026, 7, 1))
    here.buy(1000, goods(1000))
    here.now = local(2027, 1, 1)
    here.do(commands.AwardPoints, points=7, reason="gift", note="", purchase_id="")
    expired = [event for event in here.events if event.kind == "POINTS_EXPIRED"]
    assert [(event.occurred_time, event.available_after) for event in expired] == [(local(2026, 6, 1), 0)]
    assert here.balance == (0, 7, 0, 0)


def test_a_day_begins_where_the_version_of_that_day_has_its_clock() -> None:
    before, after = programme(zone="Europe/Warsaw"), programme(zone="America/New_York")
    versions = shop(before, after).versions
    day = SWITCH.date()
    assert activation_time(versions, day) == before.start_of_local_day(day)
    later = (SWITCH + 5 * DAY).date()
    assert activation_time(versions, later) == after.start_of_local_day(later)


def test_a_member_is_never_taken_back_to_a_version_that_is_done_with() -> None:
    here = shop(programme(), programme(IDLE))
    here.now = SWITCH + DAY
    member = here.member
    assert member.version == 1
    assert seen_at(here.versions, member, SWITCH - DAY) is member


def test_a_closed_month_is_worth_what_the_version_said_that_held_at_its_end() -> None:
    def worth(text: str) -> Programme:
        return programme(f'liability: {{values: [{{from: "2020-01-01", points: 100, worth: "{text}"}}]}}')

    versions = Versions(
        [
            Version(programme=worth("1.00"), from_time=SINCE_EVER),
            Version(programme=worth("2.00"), from_time=local(2026, 6, 15)),
        ]
    )
    booked = {
        Sum(datetime(2026, 5, 20, tzinfo=UTC).date(), Account.AVAILABLE, "", "EUR"): 1000,
        Sum(datetime(2026, 5, 20, tzinfo=UTC).date(), Account.ISSUED, "", "EUR"): 1000,
    }
    now = local(2026, 7, 5)
    may, june = (
        liability(versions, Span.of(versions[0].programme, month, now), booked) for month in ("2026-05", "2026-06")
    )
    assert (may.closing.value, june.opening.value, june.closing.value) == (1000, 1000, 2000)
    assert june.revaluation == 1000


def test_rules_only_become_more_and_have_no_gaps() -> None:
    def stored(number: int) -> StoredVersion:
        from_time = SINCE_EVER if number == 1 else SWITCH + number * DAY
        return StoredVersion(
            number=number, programme=programme(), document="", from_time=from_time, recorded_time=SWITCH
        )

    rules = Rules([stored(1)])
    rules.add([stored(1), stored(2)])
    rules.add([stored(2)])
    assert (len(rules.first(1)), len(rules.first(2)), len(rules.versions)) == (1, 2, 2)
    with pytest.raises(ValueError, match="without gaps"):
        rules.add([stored(4)])
    with pytest.raises(ValueError, match="has a version"):
        Rules([])
