"""Another version of the programme holds from an instant on, and nothing of the past is lost."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.programme import SINCE_EVER, Metric, Rejoining, TierWindow, Validity, Version, Versions, Window
from services.tiers.domain.standing import standing_of
from services.tiers.domain.track import Agenda, HistoryNeededError, Reason
from tests.tiers_rules import (
    MICROSECOND,
    Member,
    cool_off,
    level,
    levels_of,
    local,
    moves,
    policy,
    programme,
    retention,
)

BOUGHT = local("2024-02-01T10:00")
NEW = local("2024-06-01T00:00")
END = local("2025-01-31T10:00")


def spent(amount: int, **rules: object) -> Member:
    """One who has bought for so much under these rules."""
    member = Member(policy(**rules))
    member.buys(amount, BOUGHT)
    return member


def test_lower_thresholds_promote_at_the_instant_they_hold() -> None:
    member = spent(250_00)
    member.new_rules(policy(levels=levels_of(200_00)), NEW)
    assert [member.tier(NEW - MICROSECOND), member.tier(NEW)] == ["White", "Green"]


def test_the_change_says_that_the_programme_made_it_and_which_version() -> None:
    member = spent(250_00)
    member.new_rules(policy(levels=levels_of(200_00)), NEW)
    (change,) = member.live(NEW)
    assert (change.reason, change.changed_time, change.cause_offset) == (Reason.PROGRAMME, NEW, None)
    assert member.standing(NEW).version == 1


def test_a_coming_version_is_the_next_change_that_is_foretold() -> None:
    member = spent(250_00)
    member.new_rules(policy(levels=levels_of(200_00)), NEW)
    change = member.standing(BOUGHT).next_change
    assert change is not None
    assert (change.time, change.level.name, change.reason) == (NEW, "Green", Reason.PROGRAMME)


def test_the_past_is_told_by_the_version_that_held_then() -> None:
    member = spent(250_00)
    member.new_rules(policy(levels=levels_of(200_00)), NEW)
    assert [member.standing(t).version for t in (BOUGHT, NEW)] == [0, 1]


def test_another_metric_weighs_all_that_ever_happened_anew() -> None:
    member = spent(250_00)
    member.new_rules(policy(metric=Metric.VISITS, levels=(level(1, "White", None), level(2, "Green", 1))), NEW)
    assert (member.balance(NEW), member.tier(NEW)) == (1, "Green")


def test_a_shorter_window_lets_go_what_is_older() -> None:
    member = spent(300_00)
    member.new_rules(policy(window=TierWindow.rolling(Window(days=30))), NEW)
    assert moves(member.live(NEW)) == [(1, 2, BOUGHT), (2, 1, NEW)]


def test_a_longer_window_brings_back_what_had_left() -> None:
    member = spent(300_00, window=TierWindow.rolling(Window(days=30)))
    member.new_rules(policy(), NEW)
    assert [member.tier(NEW - MICROSECOND), member.tier(NEW)] == ["White", "Green"]


def test_levels_go_by_their_keys_where_one_is_inserted_below() -> None:
    member = spent(300_00, retention=retention())
    levels = (level(1, "White", None), level(2, "Blue", 100_00), level(3, "Green", 5000_00))
    member.new_rules(policy(levels=levels, retention=retention()), NEW)
    assert member.standing(NEW).level.name == "Green"


def test_a_cycle_goes_on_through_another_version_to_the_end_it_had() -> None:
    member = spent(2000_00, retention=retention())
    member.new_rules(policy(levels=levels_of(400_00, 1500_00, 3000_00), retention=retention()), NEW)
    standing = member.standing(NEW)
    assert (standing.level.name, standing.held_until) == ("Golden", local("2025-02-01T10:00"))


def test_at_the_end_of_a_cycle_the_version_of_that_day_decides() -> None:
    member = spent(2000_00, retention=retention())
    member.buys(350_00, NEW - timedelta(days=1))
    member.new_rules(policy(levels=levels_of(400_00, 1500_00, 3000_00), retention=retention()), NEW)
    assert member.tier(local("2025-02-01T10:00")) == "White"


def test_what_was_earned_in_a_cycle_is_weighed_anew_with_the_rest() -> None:
    member = spent(300_00, retention=retention())
    member.buys(10_00, NEW - timedelta(days=1))
    by_visits = (level(1, "White", None), level(2, "Green", 2))
    member.new_rules(policy(metric=Metric.VISITS, levels=by_visits, retention=retention()), NEW)
    to_keep = member.standing(NEW).to_keep
    assert to_keep is not None
    # One of two visits was inside the cycle; 10.00 would have been plenty of them.
    assert to_keep.missing == 1


def test_a_retention_that_is_new_holds_the_level_from_its_own_beginning() -> None:
    member = spent(300_00)
    member.new_rules(policy(retention=retention()), NEW)
    assert member.standing(NEW).held_until == local("2025-06-01T00:00")


def test_a_retention_that_ends_leaves_the_level_of_the_balance() -> None:
    member = spent(300_00, retention=retention())
    member.returns(300_00, BOUGHT + timedelta(days=1))
    member.new_rules(policy(), NEW)
    assert [member.tier(NEW - MICROSECOND), member.tier(NEW)] == ["Green", "White"]


def test_a_cool_off_that_is_new_takes_no_benefits_that_a_cycle_holds() -> None:
    member = spent(300_00, retention=retention())
    member.returns(300_00, BOUGHT + timedelta(days=1))
    member.new_rules(policy(retention=retention(), cool_off=cool_off()), NEW)
    assert member.benefits(NEW) == "Green"


def test_what_leaves_at_the_instant_of_a_version_reaches_nothing_by_it() -> None:
    member = spent(250_00, retention=retention())
    member.new_rules(policy(levels=levels_of(200_00), retention=retention()), END)
    assert member.live(END) == []


def test_where_the_latest_joining_begins_to_count_what_was_before_it_counts_no_more() -> None:
    member = spent(300_00)
    member.resigns(BOUGHT + timedelta(days=1))
    member.rejoins(BOUGHT + timedelta(days=2))
    member.new_rules(policy(rejoining=Rejoining.LATEST), NEW)
    assert [member.balance(NEW - MICROSECOND), member.balance(NEW)] == [300_00, 0]


def test_the_accounts_validity_begins_with_the_version_that_brings_it() -> None:
    member = Member()
    rule = Validity(period=Window(years=3), transactions=0, warning=Window(days=30))
    member.new_rules(policy(validity=rule), NEW)
    assert member.standing(NEW).valid_until == local("2027-06-01T00:00")


def test_an_account_is_suspended_at_its_instant_though_a_version_weighed_anew_since() -> None:
    rule = Validity(period=Window(days=365), transactions=0, warning=Window(days=30))
    member = Member(policy(validity=rule))
    member.new_rules(policy(validity=rule, window=TierWindow.rolling(Window(days=30))), NEW)
    told = [(change.reason, change.changed_time) for change in member.live(local("2026-01-01T00:00"))]
    end = local("2024-12-31T09:00")
    assert told == [(Reason.WARNED, local("2024-12-01T09:00")), (Reason.SUSPENDED, end)]


def test_what_a_coming_version_will_weigh_anew_is_not_foretold_without_the_history() -> None:
    member = spent(250_00)
    member.new_rules(policy(metric=Metric.VISITS), NEW)
    state, _ = member.lived(BOUGHT)
    with pytest.raises(HistoryNeededError):
        standing_of(member.versions, state, Agenda(), BOUGHT)


def test_a_version_that_was_not_known_yet_decides_nothing_of_what_was_known() -> None:
    first = Version(programme=programme(policy()), from_time=SINCE_EVER)
    second = Version(programme=programme(policy(levels=levels_of(1))), from_time=NEW, recorded_time=BOUGHT)
    versions = Versions([first, second])
    assert [len(versions.known_at(BOUGHT - MICROSECOND)), len(versions.known_at(BOUGHT))] == [1, 2]
