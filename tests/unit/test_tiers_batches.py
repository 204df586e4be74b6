"""From the ledger's entries to what batches of them do, and what is held in memory of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.programme import Versions
from services.tiers.domain.facts import Fact, FactKind, Scope
from services.tiers.domain.feed import (
    NOTHING_KNOWN,
    Cursor,
    Effects,
    EntryKind,
    HistoryWantedError,
    LedgerEntry,
    decide,
    let_pass,
    take_in,
    unseen,
)
from services.tiers.domain.track import Agenda, MemberState, joined
from services.tiers.errors import FeedBrokenError
from services.tiers.recent import RecentStates
from tests.tiers_rules import JOINED, Member, local, policy, programme, retention

START = {0: Cursor(partition=0)}
RULES = Versions.only(programme(policy()))
BOUGHT = local("2024-02-01T10:00")


def entry(offset: int, fact_kind: FactKind | None = None, **more: Any) -> LedgerEntry:
    kind = EntryKind.OTHER if fact_kind is None else EntryKind.FACT
    given = {"kind": kind, "member_id": "m", "occurred_time": JOINED, "fact_kind": fact_kind, **more}
    return LedgerEntry(partition=0, offset=offset, **given)


def taken(*entries: LedgerEntry) -> Effects:
    return take_in(RULES, entries, START, NOTHING_KNOWN)


BATCH = (
    entry(1, FactKind.JOINED),
    entry(2, FactKind.PURCHASE, amount=300_00, purchase_id="p", occurred_time=BOUGHT),
    entry(3, FactKind.RETURN, amount=1, purchase_id="p", occurred_time=local("2024-02-02T10:00")),
    # More than a year later, still in the batch: what was before has left.
    entry(4, FactKind.PURCHASE, amount=1000_01, purchase_id="q", occurred_time=local("2025-06-01T10:00")),
)


def test_entries_taken_in_before_are_passed_over() -> None:
    cursors = {0: Cursor(partition=0, ledger_offset=2)}
    assert [one.offset for one in unseen([entry(number) for number in (1, 2, 3, 4)], cursors)] == [3, 4]


def test_a_gap_in_the_feed_is_an_error() -> None:
    with pytest.raises(FeedBrokenError):
        unseen([entry(2)], START)


def test_a_purchase_of_nobody_is_an_error() -> None:
    with pytest.raises(FeedBrokenError):
        taken(entry(1, FactKind.PURCHASE))


def test_who_joins_twice_is_an_error() -> None:
    with pytest.raises(FeedBrokenError):
        taken(entry(1, FactKind.JOINED), entry(2, FactKind.JOINED))


def test_what_happens_to_one_member_in_one_batch_comes_in_its_order() -> None:
    changes = [(c.offset, c.change.to_tier_number, c.change.cause_offset) for c in taken(*BATCH).changes]
    assert changes == [(1, 2, 2), (2, 1, 3), (3, 3, 4)]


def test_a_change_by_an_entry_comes_after_all_before_that_entry() -> None:
    assert [change.ledger_offset_processed for change in taken(*BATCH).changes] == [2, 3, 4]


def test_the_cursor_stands_behind_the_last_entry_and_the_last_change() -> None:
    cursor = taken(*BATCH).cursors[0]
    assert (cursor.ledger_offset, cursor.change_offset) == (4, 3)


def test_a_return_in_the_batch_of_its_purchase_knows_when_that_was() -> None:
    assert [one.fact.purchase_time for one in taken(*BATCH).facts if one.fact.kind is FactKind.RETURN] == [BOUGHT]


def test_points_of_the_base_rule_are_told_from_those_of_others() -> None:
    rules = (("base", 30), ("summer", 10), ("nothing", 0))
    _, purchase = taken(BATCH[0], BATCH[1]._replace(rules=rules)).facts
    assert (purchase.fact.points, purchase.fact.bonuses) == (30, (("summer", 10),))


def test_what_is_due_before_the_clock_moves_on_is_told_at_its_instant_in_the_same_batch() -> None:
    clock = entry(3, occurred_time=local("2026-01-01T00:00"))._replace(kind=EntryKind.CLOCK, member_id="")
    late = entry(4, FactKind.PURCHASE, amount=1, occurred_time=local("2026-01-02T00:00"))
    changes = [(c.change.to_tier_number, c.change.changed_time) for c in taken(*BATCH[:2], clock, late).changes]
    assert changes == [(2, BOUGHT), (1, local("2025-01-31T10:00"))]


def test_a_batch_that_needs_histories_says_whose() -> None:
    retained = Versions.only(programme(policy(retention=retention())))
    before = take_in(retained, BATCH[:2], START, NOTHING_KNOWN)
    known = replace(NOTHING_KNOWN, states=before.states)
    late = entry(3, FactKind.RETURN, amount=1, occurred_time=local("2024-01-20T10:00"))
    with pytest.raises(HistoryWantedError) as wanted:
        take_in(retained, [late], before.cursors, known)
    assert wanted.value.members == {(0, "m")}


def test_asked_again_with_the_histories_a_batch_is_taken_in() -> None:
    retained = Versions.only(programme(policy(retention=retention())))
    before = take_in(retained, BATCH[:2], START, NOTHING_KNOWN)
    histories = {(0, "m"): [one.fact for one in before.facts]}
    known = replace(NOTHING_KNOWN, states=before.states, histories=histories)
    late = entry(3, FactKind.RETURN, amount=1, occurred_time=local("2024-01-20T10:00"))
    effects = take_in(retained, [late], before.cursors, known)
    assert (effects.states[0, "m"].balance, effects.states[0, "m"].tier_number) == (299_99, 1)


def test_what_is_decided_here_is_no_entry_and_moves_no_ledger_offset() -> None:
    before = taken(*BATCH[:2])
    given = Fact(FactKind.OVERRIDE_SET, BOUGHT, BOUGHT, number=1, name="golden", scope=Scope.TIER)
    effects = decide(RULES, (0, "m"), given, before.cursors, replace(NOTHING_KNOWN, states=before.states))
    (place,) = effects.changes
    assert (place.offset, place.ledger_offset_processed, place.change.cause_number) == (2, 2, 1)
    assert effects.cursors[0].ledger_offset == 2


def test_what_falls_due_to_many_comes_in_the_order_of_its_instants() -> None:
    states, agendas = {}, {}
    for number, day in enumerate((9, 3, 6)):
        member = Member()
        member.buys(300_00, local(f"2024-02-{day:02}T10:00"))
        state, _ = member.lived(local("2024-03-01T00:00"))
        states[0, f"m{number}"] = state
        assert state.next_due is not None
        agendas[0, f"m{number}"] = Agenda([(state.next_due, -300_00, 0)])
    known = replace(NOTHING_KNOWN, states=states, agendas=agendas)
    effects = let_pass(RULES, local("2026-01-01T00:00"), START, known, complete=True)
    assert [place.member_id for place in effects.changes] == ["m1", "m2", "m0"]
    assert effects.cursors[0].due_time == local("2026-01-01T00:00")


def test_a_due_run_that_is_not_complete_has_not_passed_its_instant() -> None:
    effects = let_pass(RULES, local("2026-01-01T00:00"), START, NOTHING_KNOWN, complete=False)
    assert effects.cursors[0].due_time is None


# --- states that are held in memory ---------------------------------------------------------------------------------

HERE, LATER, ELSEWHERE = Cursor(partition=0), Cursor(partition=0, ledger_offset=3), Cursor(partition=1)


def states_of(*names: str, partition: int = 0) -> dict[tuple[int, str], MemberState]:
    state = joined(RULES, Member().facts[0]).state
    return {(partition, name): state for name in names}


def test_states_are_held_while_the_cursor_stands_where_it_stood() -> None:
    recent = RecentStates(2)
    recent.keep({0: HERE, 1: ELSEWHERE}, {0: LATER, 1: ELSEWHERE}, {**states_of("a"), **states_of("a", partition=1)})
    found = recent.find([(0, "a"), (0, "b"), (1, "a"), (1, "b")], {0: LATER, 1: ELSEWHERE})
    assert found.keys() == {(0, "a"), (1, "a")}


def test_states_that_were_written_longest_ago_make_room() -> None:
    recent = RecentStates(2)
    recent.keep({0: HERE}, {0: LATER}, states_of("a", "b"))
    # Written again it is the newest.
    recent.keep({0: LATER}, {0: LATER}, states_of("a"))
    recent.keep({0: LATER}, {0: LATER}, states_of("c"))
    assert recent.find([(0, "a"), (0, "b"), (0, "c")], {0: LATER}).keys() == {(0, "a"), (0, "c")}


def test_where_somebody_else_moved_the_cursor_nothing_held_is_true() -> None:
    recent = RecentStates(2)
    recent.keep({0: HERE}, {0: LATER}, states_of("a"))
    moved = Cursor(partition=0, ledger_offset=4)
    assert recent.find([(0, "a")], {0: moved}) == {}
    recent.keep({0: moved}, {0: moved}, states_of("d"))
    assert recent.find([(0, "a"), (0, "d")], {0: moved}).keys() == {(0, "d")}
