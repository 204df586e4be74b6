"""Any history: `step` is `evaluate`, and how the feed is cut into batches and due runs changes nothing.

Neither what members hold, nor what changes, nor what the ledger is told, and in which order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from services.programme import Base, Level, Programme, TierPolicy, Window, load
from services.runtime.clock import ClockMode
from services.tiers.domain import (
    Change,
    Cursor,
    Effects,
    EntryKind,
    Happened,
    History,
    LedgerEntry,
    MemberKey,
    MemberState,
    Movement,
    RollOffs,
    TakenIn,
    TierChange,
    TimePassed,
    evaluate,
    horizons,
    joined,
    let_pass,
    step,
    take_in,
    unseen,
)
from services.tiers.service import Positions, next_of_each_member, notice_of
from services.tiers.store import ClassNotice
from tests.conftest import PROGRAMMES
from tests.ledger_logs import START, days_of

WARSAW = ZoneInfo("Europe/Warsaw")
HOURS = 24 * 12
LATER = START + timedelta(days=1000)
TIERED_365 = load(PROGRAMMES / "tiered-365.yaml")

_LEVELS = tuple(
    Level(
        number=number, key=f"t{number}", name=f"T{number}", threshold_minor_units=below, multiplier_bp=1, discount_bp=0
    )
    for number, below in enumerate((None, 10, 20, 40), start=1)
)

policies = st.builds(
    lambda window: TierPolicy(base=Base.TOTAL, window=window, levels=_LEVELS),
    st.sampled_from(
        [Window(days=1), Window(days=2), Window(days=3), Window(days=365), Window(months=1), Window(years=1)]
    ),
)
times = st.integers(min_value=0, max_value=HOURS).map(lambda hours: START + timedelta(hours=hours))
amounts = st.integers(min_value=-15, max_value=25)


@dataclass(frozen=True)
class Moment:
    """An event of a history: `amount` None is time that passes."""

    time: datetime
    amount: int | None


moments = st.builds(Moment, time=times, amount=st.none() | amounts)
histories = st.lists(moments, max_size=30)


def live(policy: TierPolicy, joined_time: datetime, moments: Sequence[Moment]) -> list[Lived]:
    """Steps through a history, and keeps what was known at each."""
    state, ahead, known = joined(joined_time), RollOffs(), []
    lived = []
    for offset, moment in enumerate(moments, start=1):
        before = tuple(known)
        if moment.amount is None:
            state, changes = step(policy, state, TimePassed(until=moment.time), ahead)
        else:
            movement = Movement(
                ledger_offset=offset,
                amount=moment.amount,
                occurred_time=moment.time,
                end_time=policy.window.end(moment.time, WARSAW),
            )
            known.append(movement)
            state, changes = step(policy, state, Happened(movement=movement, not_before=START), ahead)
        lived.append(
            Lived(
                state=state,
                changes=changes,
                before=History(joined_time=joined_time, movements=before),
                after=History(joined_time=joined_time, movements=tuple(known)),
            )
        )
    return lived


@dataclass(frozen=True)
class Lived:
    state: MemberState
    changes: tuple[Change, ...]
    before: History
    after: History


@settings(max_examples=400, deadline=None)
@given(policy=policies, joined_time=times, moments=histories)
def test_in_any_order_the_state_and_every_change_are_what_evaluate_says(
    policy: TierPolicy, joined_time: datetime, moments: list[Moment]
) -> None:
    sequence = 0
    for lived in live(policy, joined_time, moments):
        state = lived.state
        standing = evaluate(policy, lived.after, state.as_of)
        assert (state.balance, state.tier_number) == (standing.balance, standing.level.number)
        assert state.next_roll_off == min((m.end_time for m in standing.counted), default=None)
        assert state.balance == sum(m.amount for m in standing.counted)
        for change in lived.changes:
            sequence += 1
            assert change.sequence == sequence
            # What is due comes before the event, so it does not know it.
            known = lived.before if change.cause_offset is None else lived.after
            then = evaluate(policy, known, change.changed_time)
            assert (change.balance, change.to_tier_number) == (then.balance, then.level.number)
            assert change.from_tier_number != change.to_tier_number
        if lived.changes:
            assert lived.changes[-1].to_tier_number == standing.level.number
            assert lived.changes[-1].changed_time == state.since_time
        assert state.sequence == sequence


@settings(max_examples=300, deadline=None)
@given(policy=policies, joined_time=times, moments=histories)
def test_the_next_change_that_evaluate_foretells_is_the_one_that_comes(
    policy: TierPolicy, joined_time: datetime, moments: list[Moment]
) -> None:
    for lived in live(policy, joined_time, moments)[-1:]:
        standing = evaluate(policy, lived.after, lived.state.as_of)
        known = RollOffs([(m.end_time, m.amount) for m in standing.counted])
        _, coming = step(policy, lived.state, TimePassed(until=LATER), known)
        foretold = standing.next_change
        if foretold is None:
            assert coming == ()
        else:
            assert (coming[0].changed_time, coming[0].to_tier_number, coming[0].balance) == (
                foretold.time,
                foretold.level.number,
                foretold.balance,
            )


@settings(max_examples=300, deadline=None)
@given(policy=policies, hours=st.sets(st.integers(1, HOURS), max_size=25), data=st.data())
def test_in_order_the_changes_are_those_of_evaluating_wherever_something_begins_or_ends(
    policy: TierPolicy, hours: set[int], data: st.DataObject
) -> None:
    events = [Moment(START + timedelta(hours=hour), data.draw(amounts)) for hour in sorted(hours)]
    lived = live(policy, START, [*events, Moment(LATER, None)])
    history = lived[-1].after
    instants = {m.occurred_time for m in history.movements} | {m.end_time for m in history.movements}
    expected, tier = [], 1
    for instant in sorted(instants):
        standing = evaluate(policy, history, instant)
        if standing.level.number != tier:
            tier = standing.level.number
            expected.append((instant, tier))
            assert standing.since_time == instant
    # Where one ends as another begins, evaluate sees one step, and the log of changes has both.
    found: list[tuple[datetime, int]] = []
    tiers = [1]
    for change in (change for one in lived for change in one.changes):
        if found and found[-1][0] == change.changed_time:
            found.pop()
            tiers.pop()
        if change.to_tier_number != tiers[-1]:
            found.append((change.changed_time, change.to_tier_number))
            tiers.append(change.to_tier_number)
    assert found == expected


# --- batches and due runs -------------------------------------------------------------------------------------------


@dataclass
class Tables:
    """What the database holds, and the use cases over it, with the domain's own parts."""

    policy: TierPolicy
    cursors: dict[int, Cursor]
    states: dict[MemberKey, MemberState] = field(default_factory=dict)
    movements: list[TakenIn] = field(default_factory=list)
    changes: list[TierChange] = field(default_factory=list)
    outbox: list[ClassNotice] = field(default_factory=list)
    told: dict[MemberKey, list[ClassNotice]] = field(default_factory=dict)

    @property
    def programme(self) -> Programme:
        return replace(TIERED_365, tiers=self.policy)

    @property
    def positions(self) -> Positions:
        positions = Positions()
        positions.clock_mode = ClockMode.SIMULATED
        positions.publish(self.cursors.values())
        return positions

    def take_in(self, entries: Sequence[LedgerEntry]) -> None:
        cursors = {p: self.cursors[p] for p in {entry.partition for entry in entries}}
        fresh = unseen(entries, cursors)
        until = horizons(fresh, cursors)
        states = {
            key: state for key, state in self.states.items() if key in {(e.partition, e.member_id) for e in fresh}
        }
        ahead = {
            key: self._roll_offs(key, until[key])
            for key, state in states.items()
            if key in until and state.next_roll_off is not None and state.next_roll_off <= until[key]
        }
        self._write(take_in(self.policy, WARSAW, fresh, cursors, states, ahead))

    def run_due(self, limit: int) -> None:
        to_time = min(cursor.business_time for cursor in self.cursors.values())
        while True:
            due = sorted(
                (s.next_roll_off, k) for k, s in self.states.items() if s.next_roll_off and s.next_roll_off <= to_time
            )[:limit]
            states = {key: self.states[key] for _, key in due}
            ahead = {key: self._roll_offs(key, to_time) for key in states}
            complete = len(states) < limit
            self._write(let_pass(self.policy, to_time, self.cursors, states, ahead, complete=complete))
            if complete:
                return

    def tell(self, limit: int, *, dies: bool) -> bool:
        """Tells the ledger what is to be told now, and forgets it; who dies does not. Whether there was anything."""
        until = self.positions.notices_until
        assert until is not None
        due = sorted(
            (notice for notice in self.outbox if notice.effective_time <= until),
            key=lambda notice: (notice.effective_time, notice.partition, notice.change_offset),
        )
        notices = next_of_each_member(due[:limit])
        for notice in notices:
            assert notice.effective_time <= min(cursor.business_time for cursor in self.cursors.values())
            told = self.told.setdefault((notice.partition, notice.member_id), [])
            # As the ledger: what it has heard it has heard, and an older one than the last says nothing.
            if not told or told[-1].sequence < notice.sequence:
                told.append(notice)
        if not dies:
            self.outbox = [notice for notice in self.outbox if notice not in notices]
        return bool(notices)

    def _roll_offs(self, key: MemberKey, until: datetime) -> RollOffs:
        state = self.states[key]
        ends = [
            (taken.movement.end_time, taken.movement.amount)
            for taken in self.movements
            if (taken.partition, taken.member_id) == key
            and taken.movement.end_time > state.as_of
            and taken.movement.occurred_time > state.joined_time
        ]
        return RollOffs([e for e in ends if e[0] <= until], beyond=min((e for e, _ in ends if e > until), default=None))

    def _write(self, effects: Effects) -> None:
        self.cursors.update(effects.cursors)
        self.states.update(effects.states)
        self.movements.extend(effects.movements)
        self.changes.extend(effects.changes)
        self.outbox.extend(notice_of(self.programme, change) for change in effects.changes)
        for (partition, _), state in self.states.items():
            due = self.cursors[partition].due_time
            assert due is None or state.next_roll_off is None or state.next_roll_off > due


kinds = st.sampled_from([EntryKind.PURCHASE, EntryKind.RETURN, EntryKind.CLOCK, EntryKind.OTHER])
# Hours since the one before: most come in order, some late.
hours_on = st.integers(-30, 40)
happenings = st.tuples(kinds, st.sampled_from(["m1", "m2"]), hours_on, st.integers(0, 25))


def log_of(partition: int, join_hours: tuple[int, int], happened: list[Any]) -> list[LedgerEntry]:
    """A partition of the ledger: two members, and a clock that moves on."""
    joins = [(EntryKind.JOINED, f"m{number}", hours, 0) for number, hours in enumerate(join_hours, start=1)]
    entries: list[LedgerEntry] = []
    hour = 0
    for kind, member_id, hours, amount in [*joins, *happened]:
        hour = max(hour + hours, 0)
        entries.append(
            LedgerEntry(
                partition=partition,
                offset=len(entries) + 1,
                kind=kind,
                member_id="" if kind is EntryKind.CLOCK else member_id,
                occurred_time=START + timedelta(hours=hour),
                amount=amount,
            )
        )
    return entries


logs_of_a_partition = st.tuples(st.tuples(hours_on, hours_on), st.lists(happenings, max_size=20))


def live_through(policy: TierPolicy, logs: dict[int, list[LedgerEntry]], chance: Random) -> Tables:
    """Takes in the logs, cut into batches and due runs by chance."""
    tables = Tables(policy, {partition: Cursor(partition=partition) for partition in logs})
    heads = dict.fromkeys(logs, 0)
    while any(heads[partition] < len(log) for partition, log in logs.items()):
        batch = []
        for partition in chance.choice([[0], [1], [0, 1]]):
            size = chance.randint(1, 20)
            # What was taken in before may come again.
            again = max(heads[partition] - chance.randint(0, 2), 0)
            batch.extend(logs[partition][again : heads[partition] + size])
            heads[partition] = min(heads[partition] + size, len(logs[partition]))
        if batch:
            tables.take_in(batch)
        if chance.random() < 0.5:
            tables.run_due(limit=chance.randint(1, 3))
        if chance.random() < 0.5:
            tables.tell(limit=chance.randint(1, 3), dies=chance.random() < 0.3)
    tables.run_due(limit=1)
    while tables.tell(limit=1, dies=False):
        pass
    return tables


def applied(tables: Tables) -> dict[tuple[int, int], datetime]:
    return {(taken.partition, taken.movement.ledger_offset): taken.applied_time for taken in tables.movements}


def told(tables: Tables) -> dict[MemberKey, list[tuple[int, str, datetime, str]]]:
    """What each member's entries at the ledger say, in their order."""
    return {
        key: [(one.sequence, one.earning_class, one.effective_time, one.request_id) for one in notices]
        for key, notices in tables.told.items()
    }


def contents(tables: Tables) -> dict[MemberKey, list[Change]]:
    found: dict[MemberKey, list[Change]] = {}
    for place in tables.changes:
        found.setdefault((place.partition, place.member_id), []).append(place.change)
    return found


@settings(max_examples=500, deadline=None)
@given(
    policy=policies,
    lines=st.tuples(logs_of_a_partition, logs_of_a_partition),
    chance=st.integers(0, 2**32).map(Random),
)
def test_however_partitions_interleave_each_member_changes_alike_and_numbers_have_no_gap(
    policy: TierPolicy, lines: tuple[Any, Any], chance: Random
) -> None:
    logs = {partition: log_of(partition, *lines[partition]) for partition in (0, 1)}
    one, other = (live_through(policy, logs, chance) for _ in range(2))
    for partition, cursor in one.cursors.items():
        places = [place for place in one.changes if place.partition == partition]
        assert [place.offset for place in places] == list(range(1, cursor.change_offset + 1))
        processed = [place.ledger_offset_processed for place in places]
        assert processed == sorted(processed)
        assert cursor.ledger_offset == len(logs[partition])
    for key, state in one.states.items():
        movements = [t.movement for t in one.movements if (t.partition, t.member_id) == key]
        standing = evaluate(policy, History(joined_time=state.joined_time, movements=movements), state.as_of)
        assert (state.balance, state.tier_number) == (standing.balance, standing.level.number)
        assert state.next_roll_off == min((m.end_time for m in standing.counted), default=None)
    assert_alike(one, other)


def assert_alike(one: Tables, other: Tables) -> None:
    """Two lives of the same logs: whatever does not number a partition's changes is the same."""
    assert contents(one) == contents(other)
    assert applied(one) == applied(other)
    assert one.states == other.states
    # A member's notices go out in order and none is left out, up to the last that waits for its day to begin.
    assert told(one) == told(other)
    until = one.positions.notices_until
    assert until == min(cursor.business_time for cursor in one.cursors.values())
    for key, changes in contents(one).items():
        begun = [c for c in changes if TIERED_365.start_of_next_local_day(c.changed_time) <= until]
        assert [notice.sequence for notice in one.told.get(key, [])] == [change.sequence for change in begun]


@settings(max_examples=300, deadline=None)
@given(policy=policies, seed=st.integers(0, 2**32))
def test_however_days_are_cut_into_responses_and_due_runs_a_load_comes_to_the_same(
    policy: TierPolicy, seed: int
) -> None:
    chance = Random(seed)
    logs = days_of(chance)
    one, other = (live_through(policy, logs, chance) for _ in range(2))
    assert_alike(one, other)
