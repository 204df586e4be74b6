"""What is heard of late corrects the past: what we know now about then, and what we knew then."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.programme import Metric
from services.tiers.domain.track import (
    Agenda,
    Happened,
    HistoryNeededError,
    MemberState,
    Reason,
    TimePassed,
    joined,
    step,
)
from tests.tiers_rules import Member, level, local, moves, policy, retention

BOUGHT = local("2024-02-01T10:00")
ENDED = local("2025-01-31T10:00")
HEARD = local("2025-02-03T12:00")


def cancelled() -> Member:
    """One whose downgrade was made, and of whom a purchase from before it is heard of then."""
    member = Member()
    member.buys(300_00, BOUGHT)
    member.buys(300_00, ENDED - timedelta(days=1), known=HEARD)
    return member


def test_a_back_dated_purchase_before_the_downgrade_is_due_keeps_it_from_happening() -> None:
    member = Member()
    member.buys(300_00, BOUGHT)
    member.buys(300_00, ENDED - timedelta(days=9), known=ENDED - timedelta(days=1))
    assert moves(member.live(HEARD)) == [(1, 2, BOUGHT)]


def test_a_back_dated_purchase_that_cancels_a_downgrade_is_a_new_change_that_corrects_it() -> None:
    down, up = cancelled().live(HEARD)[1:]
    assert (down.changed_time, down.to_tier_number, down.corrects) == (ENDED, 1, 0)
    assert (up.changed_time, up.to_tier_number, up.corrects, up.reason) == (HEARD, 2, down.sequence, Reason.CORRECTED)


def test_now_we_know_that_the_tier_was_held_all_the_time() -> None:
    standing = cancelled().standing(ENDED)
    assert (standing.level.name, standing.since_time) == ("Green", BOUGHT)


def test_then_we_knew_of_no_purchase_that_kept_it() -> None:
    assert cancelled().standing(ENDED, known=HEARD - timedelta(seconds=1)).level.name == "White"


def test_what_is_recorded_at_the_very_instant_is_known_at_it() -> None:
    assert cancelled().standing(ENDED, known=HEARD).level.name == "Green"


def test_before_the_joining_was_heard_of_nobody_knew_the_member() -> None:
    member = Member(known=local("2024-01-05T00:00"))
    assert member.history.known_at(local("2024-01-04T23:59")) is None


def test_a_late_purchase_that_has_left_the_window_changes_nothing() -> None:
    member = Member()
    member.buys(5000_00, BOUGHT, known=HEARD)
    assert member.live(HEARD) == []


def test_a_late_purchase_counts_from_the_instant_up_to_which_all_was_processed() -> None:
    member = Member()
    heard = BOUGHT + timedelta(days=3)
    member.buys(300_00, BOUGHT, known=heard)
    assert moves(member.live(heard)) == [(1, 2, heard)]


def test_a_late_return_into_a_cycle_is_judged_as_if_it_had_been_known_in_time() -> None:
    member = Member(policy(retention=retention()))
    member.buys(300_00, BOUGHT)
    # Had the return been known the level had never been reached.
    member.returns(1, BOUGHT - timedelta(days=1), known=HEARD - timedelta(days=30))
    state, changes = member.lived(HEARD - timedelta(days=30))
    assert (state.tier_number, [change.to_tier_number for change in changes]) == (1, [2, 1])


def late_where_the_past_matters() -> tuple[Member, MemberState, Happened, Agenda]:
    levels = (level(1, "White", None), level(2, "Green", 300_00, keep_threshold=200_00))
    member = Member(policy(levels=levels))
    begun = joined(member.versions, member.facts[0])
    stepped = step(member.versions, begun.state, TimePassed(until=HEARD), begun.agenda)
    bought = member.buys(300_00, HEARD)
    stepped = step(member.versions, stepped.state, Happened(fact=bought, not_before=HEARD), stepped.agenda)
    late = member.returns(1, BOUGHT, known=HEARD)
    return member, stepped.state, Happened(fact=late, not_before=HEARD), stepped.agenda


def test_what_the_state_alone_cannot_tell_wants_the_history() -> None:
    member, state, event, agenda = late_where_the_past_matters()
    with pytest.raises(HistoryNeededError):
        step(member.versions, state, event, agenda)


def test_asked_again_with_the_history_the_step_is_made() -> None:
    member, state, event, agenda = late_where_the_past_matters()
    stepped = step(member.versions, state, event, agenda, member.history)
    assert stepped.state.balance == member.balance(HEARD)


def test_time_that_does_not_pass_changes_nothing() -> None:
    begun = joined(Member().versions, Member().facts[0])
    stepped = step(Member().versions, begun.state, TimePassed(until=begun.state.as_of), begun.agenda)
    assert (stepped.state, stepped.changes) == (begun.state, ())


def test_what_is_due_and_was_not_loaded_is_an_error_and_not_a_guess() -> None:
    member = Member()
    member.buys(300_00, BOUGHT)
    state, _ = member.lived(BOUGHT)
    with pytest.raises(ValueError, match="was not loaded"):
        step(member.versions, state, TimePassed(until=ENDED), Agenda(beyond=state.next_due))


def test_what_counted_by_an_earlier_version_alone_still_asks_the_history_since_when_the_tier_is_held() -> None:
    member = Member(policy(metric=Metric.QUALIFYING_POINTS))
    member.new_rules(policy(), ENDED)
    member.buys(5_00, ENDED + timedelta(days=1))
    # 30,000 points reached Green, and by the money that was spent the member fell when the version began.
    member.buys(0, BOUGHT, points=300_00, known=HEARD)
    state, _ = member.lived(HEARD)
    assert (member.standing(HEARD).since_time, state.carried.mended) == (ENDED, True)
