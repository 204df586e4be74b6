"""Which tier a member holds: the edges of DESIGN §6, each by its name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.programme import Base, Level, TierPolicy, Window
from services.tiers.domain import (
    BEGINNING,
    Change,
    Cursor,
    EntryKind,
    Happened,
    History,
    LedgerEntry,
    MemberState,
    Movement,
    RollOffs,
    TimePassed,
    evaluate,
    joined,
    movement_of,
    step,
    take_in,
    unseen,
)
from services.tiers.errors import FeedBrokenError, NotEnrolledError
from services.tiers.recent import RecentStates

WARSAW = ZoneInfo("Europe/Warsaw")
YEAR = Window(days=365)


def policy_of(*thresholds: int, window: Window = YEAR, base: Base = Base.TOTAL) -> TierPolicy:
    names = ["White", "Green", "Silver", "Golden"]
    return TierPolicy(
        base=base,
        window=window,
        levels=tuple(
            Level(
                number=number,
                key=names[number - 1].lower(),
                name=names[number - 1],
                threshold=threshold,
                multiplier_bp=10_000,
                discount_bp=0,
            )
            for number, threshold in enumerate((None, *thresholds), start=1)
        ),
    )


POLICY = policy_of(30_000, 100_000, 200_000)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def local(text: str, *, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=WARSAW, fold=fold).astimezone(UTC)


JOINED = at("2024-01-01T00:00")
MICROSECOND = timedelta(microseconds=1)


def movement(amount: int, occurred_time: datetime, offset: int = 1, policy: TierPolicy = POLICY) -> Movement:
    return Movement(
        ledger_offset=offset,
        amount=amount,
        occurred_time=occurred_time,
        end_time=policy.window.end(occurred_time, WARSAW),
    )


def history(*movements: Movement) -> History:
    return History(joined_time=JOINED, movements=movements)


def tier(*movements: Movement, at_time: datetime) -> str:
    return evaluate(POLICY, history(*movements), at_time).level.name


def live(*movements: Movement, state: MemberState | None = None) -> tuple[MemberState, list[Change], RollOffs]:
    """A member who lives through these movements as they come."""
    state, changes, ahead = state or joined(JOINED), [], RollOffs()
    for happening in movements:
        state, made = step(POLICY, state, Happened(movement=happening, not_before=BEGINNING), ahead)
        changes.extend(made)
    return state, changes, ahead


# --- evaluate -------------------------------------------------------------------------------------------------------


def test_exactly_300_00_is_green_and_a_cent_less_is_white() -> None:
    bought = at("2024-02-01T10:00")
    assert tier(movement(30_000, bought), at_time=bought) == "Green"
    assert tier(movement(29_999, bought), at_time=bought) == "White"


def test_a_cent_less_says_that_a_cent_is_missing() -> None:
    bought = at("2024-02-01T10:00")
    standing = evaluate(POLICY, history(movement(29_999, bought)), bought)
    assert standing.next_level is not None
    assert (standing.next_level.name, standing.missing_for_next_level) == ("Green", 1)


def test_at_the_top_nothing_is_missing() -> None:
    bought = at("2024-02-01T10:00")
    standing = evaluate(POLICY, history(movement(200_000, bought)), bought)
    assert (standing.level.name, standing.next_level, standing.missing_for_next_level) == ("Golden", None, None)


def test_a_purchase_counts_from_its_instant_up_to_not_including_its_end() -> None:
    bought = at("2024-02-01T10:00")
    end = at("2025-01-31T10:00")
    one = movement(30_000, bought)
    assert one.end_time == end
    assert tier(one, at_time=bought - MICROSECOND) == "White"
    assert tier(one, at_time=end - MICROSECOND) == "Green"
    assert tier(one, at_time=end) == "White"


def test_a_purchase_at_the_joining_instant_does_not_count_and_one_right_after_does() -> None:
    assert tier(movement(30_000, JOINED), at_time=JOINED) == "White"
    assert tier(movement(30_000, JOINED + MICROSECOND), at_time=JOINED + MICROSECOND) == "Green"


def test_before_joining_there_is_no_standing() -> None:
    with pytest.raises(NotEnrolledError):
        evaluate(POLICY, history(), JOINED - MICROSECOND)
    assert evaluate(POLICY, history(), JOINED).level.name == "White"


def test_a_return_counts_at_its_own_time_and_makes_the_balance_negative_where_it_stands_alone() -> None:
    returned = at("2024-03-01T10:00")
    standing = evaluate(POLICY, history(movement(-5_000, returned)), returned)
    assert (standing.balance, standing.level.name, standing.missing_for_next_level) == (-5_000, "White", 35_000)


def test_a_return_that_leaves_the_window_raises_the_tier_again() -> None:
    returned, bought = at("2024-03-01T10:00"), at("2024-04-01T10:00")
    lines = (movement(-100, returned, 1), movement(30_000, bought, 2))
    standing = evaluate(POLICY, history(*lines), bought)
    assert standing.level.name == "White"
    assert standing.next_change is not None
    assert (standing.next_change.time, standing.next_change.level.name) == (at("2025-03-01T10:00"), "Green")


def test_what_occurs_later_is_not_known_yet() -> None:
    first, second = at("2024-02-01T10:00"), at("2024-03-01T10:00")
    lines = (movement(30_000, first, 1), movement(100_000, second, 2))
    standing = evaluate(POLICY, history(*lines), first)
    assert [line.ledger_offset for line in standing.counted] == [1]
    assert standing.next_change is not None
    assert standing.next_change.level.name == "White"


def test_since_is_the_start_of_the_unbroken_run_of_the_present_tier() -> None:
    first, second, back = at("2024-02-01T10:00"), at("2024-03-01T10:00"), at("2024-04-01T10:00")
    lines = [movement(30_000, first, 1)]
    assert evaluate(POLICY, history(*lines), back).since_time == first
    lines.append(movement(70_000, second, 2))
    assert evaluate(POLICY, history(*lines), back).since_time == second
    lines.append(movement(-1, back, 3))
    assert evaluate(POLICY, history(*lines), back).since_time == back
    assert evaluate(POLICY, history(), back).since_time == JOINED


def test_what_ends_and_begins_at_one_instant_is_one_step_without_a_break() -> None:
    first = at("2024-02-01T10:00")
    end = movement(30_000, first).end_time
    lines = (movement(30_000, first, 1), movement(30_000, end, 2))
    standing = evaluate(POLICY, history(*lines), end)
    assert (standing.level.name, standing.since_time) == ("Green", first)


def test_a_purchase_in_the_night_without_its_hour_a_year_later_ends_an_hour_forward() -> None:
    # 2025-03-30 02:30 does not exist in Warsaw: the clock goes from 02:00 to 03:00.
    one = movement(30_000, local("2024-03-30T02:30"))
    assert one.end_time == local("2025-03-30T03:30")


def test_a_purchase_whose_hour_comes_twice_a_year_later_ends_at_the_first() -> None:
    # 2024-10-27 02:30 comes twice in Warsaw.
    one = movement(30_000, local("2023-10-28T02:30"))
    assert one.end_time == local("2024-10-27T02:30", fold=0)
    assert one.end_time == at("2024-10-27T00:30")


def test_two_purchases_of_the_hour_that_comes_twice_may_end_in_the_other_order() -> None:
    early, late = local("2024-10-27T02:45", fold=0), local("2024-10-27T02:15", fold=1)
    assert early < late
    first, second = movement(20_000, early, 1), movement(10_000, late, 2)
    assert first.end_time > second.end_time
    state, changes, ahead = live(first, second)
    assert state.next_roll_off == second.end_time
    state, more = step(POLICY, state, TimePassed(until=first.end_time), ahead)
    assert [change.to_tier_number for change in (*changes, *more)] == [2, 1]
    assert more[0].changed_time == second.end_time
    assert state.balance == 0


def test_a_calendar_year_from_the_29th_of_february_ends_on_the_28th() -> None:
    policy = policy_of(30_000, window=Window(years=1))
    one = movement(30_000, local("2024-02-29T12:00"), policy=policy)
    assert one.end_time == local("2025-02-28T12:00")


def test_an_incomplete_history_names_no_earlier_instant_than_it_knows() -> None:
    bought = at("2024-02-01T10:00")
    known = History(joined_time=JOINED, movements=(movement(30_000, bought),), complete_from=at("2024-05-01T00:00"))
    assert evaluate(POLICY, known, at("2024-06-01T00:00")).since_time == at("2024-05-01T00:00")


def test_the_base_of_the_policy_chooses_the_amount() -> None:
    entry = LedgerEntry(
        partition=0,
        offset=7,
        kind=EntryKind.RETURN,
        member_id="m",
        occurred_time=at("2024-02-01T10:00"),
        amount=1_000,
        goods_paid=900,
    )
    assert movement_of(POLICY, WARSAW, entry).amount == -1_000
    assert movement_of(policy_of(1, base=Base.GOODS_PAID), WARSAW, entry).amount == -900


# --- step -----------------------------------------------------------------------------------------------------------


def test_reaching_an_amount_changes_the_tier_at_once_and_names_the_entry() -> None:
    bought = at("2024-02-01T10:00")
    _, changes, _ = live(movement(29_500, bought, 1), movement(1_000, bought + MICROSECOND, 2))
    assert changes == [
        Change(
            sequence=1,
            from_tier_number=1,
            to_tier_number=2,
            balance=30_500,
            changed_time=bought + MICROSECOND,
            cause_offset=2,
        )
    ]


def test_one_purchase_may_skip_levels() -> None:
    _, changes, _ = live(movement(250_000, at("2024-02-01T10:00")))
    assert [(change.from_tier_number, change.to_tier_number) for change in changes] == [(1, 4)]


def test_a_return_before_its_purchase_arrives_is_made_good_by_it() -> None:
    state, changes, _ = live(movement(-30_000, at("2024-02-02T10:00"), 1), movement(60_000, at("2024-02-01T10:00"), 2))
    assert (state.balance, state.tier_number) == (30_000, 2)
    # The purchase occurred before what has been processed: it changes the tier there.
    assert [(change.changed_time, change.cause_offset) for change in changes] == [(at("2024-02-02T10:00"), 2)]


def test_a_late_purchase_that_has_left_the_window_changes_nothing() -> None:
    state, _, ahead = live(movement(1_000, at("2025-06-01T10:00"), 1))
    late = Happened(movement=movement(100_000, at("2024-03-01T10:00"), 2), not_before=BEGINNING)
    after, changes = step(POLICY, state, late, ahead)
    assert (after, changes) == (state, ())


def test_what_was_processed_for_the_partition_is_where_a_late_purchase_begins_to_count() -> None:
    late = Happened(movement=movement(30_000, at("2024-02-01T10:00")), not_before=at("2024-03-01T00:00"))
    state, (change,) = step(POLICY, joined(JOINED), late, RollOffs())
    assert (change.changed_time, state.as_of) == (at("2024-03-01T00:00"), at("2024-03-01T00:00"))


def test_at_the_instant_of_an_end_the_roll_off_comes_before_the_purchase() -> None:
    first = at("2024-02-01T10:00")
    end = movement(30_000, first).end_time
    _, changes, _ = live(movement(30_000, first, 1), movement(30_000, end, 2))
    assert [(change.to_tier_number, change.changed_time, change.cause_offset) for change in changes] == [
        (2, first, 1),
        (1, end, None),
        (2, end, 2),
    ]


def test_movements_that_end_at_one_instant_leave_together_without_a_change_between() -> None:
    bought = at("2024-02-01T10:00")
    state, changes, ahead = live(movement(-40_000, bought, 1), movement(40_000, bought, 2))
    after, more = step(POLICY, state, TimePassed(until=at("2026-01-01T00:00")), ahead)
    assert (changes, more) == ([], ())
    assert (after.balance, after.next_roll_off) == (0, None)


def test_what_is_due_comes_in_the_order_of_its_instants_each_with_its_change() -> None:
    first, second = at("2024-02-01T10:00"), at("2024-03-01T10:00")
    state, _, ahead = live(movement(30_000, first, 1), movement(70_000, second, 2))
    _, more = step(POLICY, state, TimePassed(until=at("2026-01-01T00:00")), ahead)
    assert [(c.from_tier_number, c.to_tier_number, c.balance, c.changed_time) for c in more] == [
        (3, 2, 70_000, at("2025-01-31T10:00")),
        (2, 1, 0, at("2025-03-01T10:00")),
    ]


def test_time_that_does_not_pass_changes_nothing() -> None:
    state, _, ahead = live(movement(30_000, at("2024-02-01T10:00")))
    assert step(POLICY, state, TimePassed(until=JOINED), ahead) == (state, ())


def test_roll_offs_that_were_not_loaded_are_an_error_and_not_a_guess() -> None:
    ahead = RollOffs(beyond=at("2024-02-01T10:00"))
    with pytest.raises(ValueError, match="was not loaded"):
        step(POLICY, joined(JOINED), TimePassed(until=at("2024-02-01T10:00")), ahead)


# --- the feed -------------------------------------------------------------------------------------------------------


def entry(offset: int, kind: EntryKind = EntryKind.OTHER, **more: object) -> LedgerEntry:
    given = {"member_id": "m", "occurred_time": JOINED, **more}
    return LedgerEntry(partition=0, offset=offset, kind=kind, **given)  # type: ignore[arg-type]


def test_entries_taken_in_before_are_passed_over() -> None:
    cursors = {0: Cursor(partition=0, ledger_offset=2)}
    assert [e.offset for e in unseen([entry(1), entry(2), entry(3), entry(4)], cursors)] == [3, 4]


def test_a_gap_in_the_feed_is_an_error() -> None:
    with pytest.raises(FeedBrokenError):
        unseen([entry(2)], {0: Cursor(partition=0)})


def test_a_purchase_of_nobody_is_an_error() -> None:
    with pytest.raises(FeedBrokenError):
        take_in(POLICY, WARSAW, [entry(1, EntryKind.PURCHASE)], {0: Cursor(partition=0)}, {}, {})


def test_several_movements_of_one_member_in_one_batch_come_in_their_order() -> None:
    entries = [
        entry(1, EntryKind.JOINED),
        entry(2, EntryKind.PURCHASE, amount=30_000, occurred_time=at("2024-02-01T10:00")),
        entry(3, EntryKind.RETURN, amount=1, occurred_time=at("2024-02-02T10:00")),
        # More than a year later, still in the batch: the purchase before has left.
        entry(4, EntryKind.PURCHASE, amount=100_001, occurred_time=at("2025-06-01T10:00")),
    ]
    effects = take_in(POLICY, WARSAW, entries, {0: Cursor(partition=0)}, {}, {})
    assert [
        (c.offset, c.change.to_tier_number, c.change.cause_offset, c.ledger_offset_processed) for c in effects.changes
    ] == [(1, 2, 2, 2), (2, 1, 3, 3), (3, 3, 4, 4)]
    assert effects.cursors[0].ledger_offset == 4
    assert effects.cursors[0].change_offset == 3
    assert effects.states[0, "m"].balance == 100_001


# --- states that are held in memory ---


def test_states_are_held_while_the_cursor_stands_where_it_stood_and_the_oldest_make_room() -> None:
    recent = RecentStates(2)
    start, later, elsewhere = Cursor(partition=0), Cursor(partition=0, ledger_offset=3), Cursor(partition=1)
    states = {(0, name): joined(at("2024-02-01T12:00")) for name in ("a", "b")}
    assert recent.find(states, {0: start}) == {}
    recent.keep(
        {0: start, 1: elsewhere}, {0: later, 1: elsewhere}, {**states, (1, "a"): joined(at("2024-02-01T12:00"))}
    )
    assert recent.find([(0, "a"), (0, "c"), (1, "a"), (1, "b")], {0: later, 1: elsewhere}).keys() == {
        (0, "a"),
        (1, "a"),
    }
    # Written again it is the newest.
    recent.keep({0: later}, {0: later}, {(0, "a"): joined(at("2024-02-01T12:00"))})
    recent.keep({0: later}, {0: later}, {(0, "c"): joined(at("2024-02-01T12:00"))})
    assert recent.find([(0, "a"), (0, "b"), (0, "c")], {0: later}).keys() == {(0, "a"), (0, "c")}
    # Somebody else wrote.
    moved = Cursor(partition=0, ledger_offset=4)
    assert recent.find([(0, "a")], {0: moved}) == {}
    recent.keep({0: moved}, {0: moved}, {(0, "d"): joined(at("2024-02-01T12:00"))})
    assert recent.find([(0, "a"), (0, "d")], {0: moved}).keys() == {(0, "d")}
