"""What staff decide: a level with a reason, a scope and an end, beside what automation says."""

from __future__ import annotations

from datetime import timedelta

from services.tiers.domain.facts import Scope
from services.tiers.domain.track import Reason
from tests.tiers_rules import MICROSECOND, Member, local, moves

GIVEN = local("2024-02-01T10:00")
END = GIVEN + timedelta(days=90)


def test_a_level_that_staff_gave_shows_at_once_with_its_benefits() -> None:
    member = Member()
    member.is_given("golden", GIVEN)
    assert (member.tier(GIVEN), member.benefits(GIVEN)) == ("Golden", "Golden")


def test_what_automation_says_is_shown_beside_it() -> None:
    member = Member()
    member.is_given("golden", GIVEN)
    member.buys(300_00, GIVEN)
    standing = member.standing(GIVEN)
    assert (standing.level.name, standing.automatic.name) == ("Golden", "Green")


def test_an_override_names_its_reason_and_who_gave_it() -> None:
    member = Member()
    member.is_given("golden", GIVEN, until=END, reason="a broken promise", principal="anna")
    override = member.standing(GIVEN).override
    assert override is not None
    assert (override.reason, override.principal, override.until_time) == ("a broken promise", "anna", END)


def test_an_override_may_be_lower_than_what_automation_says() -> None:
    member = Member()
    member.buys(2000_00, GIVEN)
    member.is_given("white", GIVEN)
    assert member.tier(GIVEN) == "White"


def test_an_override_of_benefits_leaves_the_tier() -> None:
    member = Member()
    member.is_given("golden", GIVEN, scope=Scope.BENEFITS)
    assert (member.tier(GIVEN), member.benefits(GIVEN)) == ("White", "Golden")


def test_an_override_ends_at_its_instant_and_automation_goes_on() -> None:
    member = Member()
    member.buys(300_00, GIVEN)
    member.is_given("golden", GIVEN, until=END)
    assert [member.tier(END - MICROSECOND), member.tier(END)] == ["Golden", "Green"]


def test_an_override_of_benefits_ends_at_its_instant() -> None:
    member = Member()
    member.is_given("golden", GIVEN, until=END, scope=Scope.BENEFITS)
    assert [member.benefits(END - MICROSECOND), member.benefits(END)] == ["Golden", "White"]


def test_the_change_says_that_an_override_began_and_ended() -> None:
    member = Member()
    decided = member.is_given("golden", GIVEN, until=END)
    begun, ended = member.live(END)
    assert (begun.reason, begun.cause_number, begun.cause_offset) == (Reason.OVERRIDE, decided.number, None)
    assert (ended.reason, ended.changed_time) == (Reason.OVERRIDE_ENDED, END)


def test_staff_may_clear_an_override_before_its_end() -> None:
    member = Member()
    member.is_given("golden", GIVEN, until=END)
    cleared = GIVEN + timedelta(days=1)
    member.is_given_nothing(cleared)
    assert moves(member.live(END)) == [(1, 4, GIVEN), (4, 1, cleared)]


def test_what_was_held_before_a_lower_override_is_given_back_and_not_reached_again() -> None:
    for cleared in (True, False):
        member = Member()
        member.buys(1000_00, GIVEN)
        member.is_given("white", GIVEN + MICROSECOND, until=END)
        member.is_given("green", GIVEN + 2 * MICROSECOND, until=END)
        if cleared:
            member.is_given_nothing(END)
        change = member.live(END)[-1]
        assert (change.from_tier_number, change.to_tier_number, change.reason) == (2, 3, Reason.OVERRIDE_ENDED)


def test_what_was_earned_beneath_an_override_is_reached_when_that_is_over() -> None:
    for cleared in (True, False):
        member = Member()
        member.buys(300_00, GIVEN)
        member.is_given("white", GIVEN + MICROSECOND, until=END)
        member.buys(700_00, GIVEN + timedelta(days=1))
        if cleared:
            member.is_given_nothing(END - MICROSECOND)
        change = member.live(END)[-1]
        assert (change.from_tier_number, change.to_tier_number, change.reason) == (1, 3, Reason.OVERRIDE)


def test_what_is_heard_of_late_was_there_before_an_override() -> None:
    member = Member()
    member.is_given("white", GIVEN)
    member.buys(300_00, GIVEN - timedelta(days=1), known=GIVEN + timedelta(days=1))
    member.is_given_nothing(END)
    assert member.live(END)[-1].reason is Reason.OVERRIDE_ENDED


def test_a_later_override_takes_the_place_of_the_one_before() -> None:
    member = Member()
    member.is_given("golden", GIVEN)
    member.is_given("silver", GIVEN + timedelta(days=1), until=END)
    assert [member.tier(GIVEN + timedelta(days=1)), member.tier(END)] == ["Silver", "White"]


def test_the_end_of_an_override_is_the_next_change_that_is_foretold() -> None:
    member = Member()
    member.is_given("golden", GIVEN, until=END)
    change = member.standing(GIVEN).next_change
    assert change is not None
    assert (change.time, change.level.name, change.reason) == (END, "White", Reason.OVERRIDE_ENDED)


def test_an_override_at_the_instant_of_a_purchase_comes_after_it() -> None:
    member = Member()
    member.is_given("white", GIVEN)
    member.buys(2000_00, GIVEN)
    standing = member.standing(GIVEN)
    assert (standing.level.name, standing.automatic.name) == ("White", "Golden")


def test_a_level_that_is_no_more_is_not_given() -> None:
    member = Member()
    member.is_given("platinum", GIVEN)
    assert member.tier(GIVEN) == "White"
