"""Whatever way the two feeds come in: each line is handled once, in order, no entry before what tiers made of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.notifier.domain.feeds import (
    Batch,
    ClockAdvanced,
    Cursor,
    LedgerEntry,
    MemberJoined,
    Sequencer,
    TierChange,
    TierNews,
    TierProgress,
)
from services.notifier.errors import FeedError

START = datetime(2020, 1, 1, tzinfo=UTC)


def entry(partition: int, offset: int, clock: int | None = None) -> LedgerEntry:
    """One of the ledger; with `clock` it moves the business time to that day."""
    fact = None if clock is None else ClockAdvanced(to_time=START + timedelta(days=clock))
    return LedgerEntry(partition=partition, offset=offset, fact=fact)


def change(partition: int, offset: int, cause: int | None) -> TierChange:
    return TierChange(
        partition=partition,
        offset=offset,
        member_id="m",
        from_tier_number=1,
        from_tier="White",
        to_tier_number=2,
        to_tier="Green",
        balance=0,
        changed_time=START,
        cause_offset=cause,
    )


def news(changes: Sequence[TierChange] = (), *progress: tuple[int, int]) -> TierNews:
    return TierNews(
        changes=tuple(changes),
        progress=tuple(
            TierProgress(partition=partition, ledger_offset=offset, due_time=None) for partition, offset in progress
        ),
    )


@dataclass(frozen=True)
class World:
    """Two logs as they came to be: entries per partition, changes per partition with the watermark after each.

    Every fourth entry lets someone join; the others mean nothing, and may come as one for several.
    """

    entries: dict[int, int]
    causes: dict[int, list[int | None]]

    def lines(self, partition: int, offsets: Sequence[int], random: Random) -> list[LedgerEntry]:
        """Entries as a response may hold them."""
        lines: list[LedgerEntry] = []
        for offset in offsets:
            if offset % 4 == 0:
                fact = MemberJoined(member_id=f"m-{offset}", joined_time=START)
                lines.append(LedgerEntry(partition=partition, offset=offset, fact=fact))
            elif lines and lines[-1].fact is None and random.random() < 0.7:
                lines[-1] = replace(lines[-1], offset=offset, count=lines[-1].count + 1)
            else:
                lines.append(entry(partition, offset))
        return lines


@st.composite
def worlds(draw: st.DrawFn) -> World:
    entries = {partition: draw(st.integers(0, 12)) for partition in range(draw(st.integers(1, 3)))}
    causes = {}
    for partition, count in entries.items():
        caused = sorted(draw(st.lists(st.integers(1, count), max_size=6))) if count else []
        causes[partition] = [draw(st.sampled_from([cause, None])) for cause in caused]
    return World(entries=entries, causes=causes)


def entry_stream(world: World, after: dict[int, Cursor], random: Random) -> Iterator[list[LedgerEntry]]:
    """The ledger's stream: responses of any size, partitions mixed in any way, each in order."""
    left = {p: list(range(after[p].ledger_offset + 1, count + 1)) for p, count in world.entries.items()}
    while any(left.values()):
        response = []
        for partition in random.sample([p for p, offsets in left.items() if offsets], sum(map(bool, left.values()))):
            take = random.randint(0, len(left[partition]))
            response += world.lines(partition, left[partition][:take], random)
            left[partition] = left[partition][take:]
        if response:
            yield response


def news_stream(world: World, after: dict[int, Cursor], random: Random) -> Iterator[TierNews]:
    """Tiers' stream: what an entry caused comes before the word that it is taken in, or with it."""
    lines: dict[int, list[TierNews]] = {}
    for partition, count in world.entries.items():
        sent: list[TierNews] = []
        waiting = [
            change(partition, offset, cause)
            for offset, cause in enumerate(world.causes[partition], 1)
            if offset > after[partition].change_offset
        ]
        for offset in range(1, count + 1):
            now = []
            while waiting and (waiting[0].cause_offset is None or waiting[0].cause_offset <= offset):
                now.append(waiting.pop(0))
            sent.append(news(now, (partition, offset)))
        lines[partition] = sent
    while any(lines.values()):
        partition = random.choice([p for p, sent in lines.items() if sent])
        yield lines[partition].pop(0)


@settings(max_examples=300)
@given(worlds(), st.integers(0, 2**32))
def test_every_line_is_handled_once_and_entries_after_what_they_caused(world: World, seed: int) -> None:
    random = Random(seed)
    # As they are written down; what only passes by is not, until something else is.
    written = {partition: Cursor() for partition in world.entries}
    joined: list[tuple[int, int]] = []
    handled_entries: dict[int, list[int]] = {partition: [] for partition in world.entries}
    handled_changes: dict[int, list[int]] = {partition: [] for partition in world.entries}
    while True:
        # A life of the consumer: it begins at the cursors, and may end at any point.
        cursors = dict(written)
        passed: Batch | None = None
        for partition, cursor in cursors.items():
            del handled_entries[partition][cursor.ledger_offset :]
        sequencer = Sequencer(cursors)
        watermarks = dict.fromkeys(world.entries, 0)
        streams: list[Iterator[object]] = [
            entry_stream(world, cursors, random), news_stream(world, cursors, random)
        ]  # fmt: skip
        died = False
        while streams and not died:
            stream = random.choice(streams)
            response = next(stream, None)
            match response:
                case None:
                    streams.remove(stream)
                case TierNews():
                    sequencer.add_news(response)
                    for told in response.progress:
                        watermarks[told.partition] = told.ledger_offset
                case list():
                    sequencer.add_entries(response)
            limit = random.randint(1, 5)
            while (batch := sequencer.take(limit)) is not None:
                assert len(batch.changes) + len(batch.entries) <= limit
                assert batch.before == {partition: cursors[partition] for partition in batch.after}
                for done in batch.changes:
                    handled_changes[done.partition].append(done.offset)
                for line in batch.entries:
                    assert line.offset <= watermarks[line.partition]
                    caused = [
                        offset
                        for offset, cause in enumerate(world.causes[line.partition], 1)
                        if cause is not None and cause <= line.offset
                    ]
                    assert set(caused) <= set(handled_changes[line.partition])
                    handled_entries[line.partition] += range(line.first_offset, line.offset + 1)
                    if line.fact is not None:
                        joined.append((line.partition, line.offset))
                cursors.update(batch.after)
                whole = batch.following(passed) if passed else batch
                assert whole.before == {partition: written[partition] for partition in whole.after}
                if whole.passes_by:
                    assert not batch.changes
                    passed = whole
                else:
                    passed = None
                    written.update(whole.after)
                if random.random() < 0.1:
                    died = True
                    break
        if not died:
            break
    assert sequencer.held_entries == 0
    joins = [(p, offset) for p, count in world.entries.items() for offset in range(4, count + 1, 4)]
    assert sorted(joined) == joins
    for partition, count in world.entries.items():
        assert handled_entries[partition] == list(range(1, count + 1))
        assert handled_changes[partition] == list(range(1, len(world.causes[partition]) + 1))
        assert cursors[partition].ledger_offset == count
        assert cursors[partition].change_offset == len(world.causes[partition])


def test_entries_wait_for_the_word_of_tiers() -> None:
    sequencer = Sequencer({0: Cursor()})
    sequencer.add_entries([entry(0, 1), entry(0, 2)])
    assert sequencer.take(10) is None
    sequencer.add_news(news([change(0, 1, 1)]))
    batch = sequencer.take(10)
    assert batch is not None
    assert (len(batch.changes), len(batch.entries)) == (1, 0)
    sequencer.add_news(news([], (0, 1)))
    batch = sequencer.take(10)
    assert batch is not None
    assert [line.offset for line in batch.entries] == [1]
    assert sequencer.held_entries == 1


def test_what_is_due_is_handled_when_the_changes_sent_with_it_are() -> None:
    sequencer = Sequencer({0: Cursor()})
    due_time = START + timedelta(days=3)
    progress = TierProgress(partition=0, ledger_offset=0, due_time=due_time)
    sequencer.add_news(TierNews(changes=(change(0, 1, None), change(0, 2, None)), progress=(progress,)))
    first, second = sequencer.take(1), sequencer.take(1)
    assert first is not None
    assert second is not None
    assert first.after[0] == Cursor(change_offset=1)
    assert second.after[0] == Cursor(change_offset=2, due_time=due_time)
    assert sequencer.take(1) is None


def test_the_business_time_moves_with_the_entry_that_says_so_and_never_back() -> None:
    sequencer = Sequencer({0: Cursor()})
    sequencer.add_entries([entry(0, 1, clock=5), entry(0, 2, clock=4), entry(0, 3)])
    sequencer.add_news(news([], (0, 3)))
    batch = sequencer.take(10)
    assert batch is not None
    assert batch.after[0] == Cursor(ledger_offset=3, business_time=START + timedelta(days=5))


def test_what_is_recorded_after_the_clock_moved_waits_for_the_days_up_to_then() -> None:
    sequencer = Sequencer({0: Cursor(), 1: Cursor()})
    sequencer.begin_days(START)
    sequencer.add_entries([entry(0, 1), entry(0, 2, clock=5), entry(0, 3), entry(0, 4, clock=9), entry(0, 5)])
    sequencer.add_news(news([], (0, 5), (1, 5)))

    def taken() -> tuple[list[tuple[int, int]], bool]:
        batch = sequencer.take(10)
        return [] if batch is None else [
            (line.partition, line.offset) for line in batch.entries
        ], sequencer.awaits_clock

    # The day cannot begin before the other partition has come to it.
    assert taken() == ([(0, 1), (0, 2)], True)
    sequencer.add_entries([entry(1, 1, clock=5)])
    assert taken() == ([(1, 1)], False)
    assert taken() == ([], False)
    # Changes of tier wait for no day.
    sequencer.add_news(news([change(1, 1, None)]))
    batch = sequencer.take(10)
    assert batch is not None
    assert len(batch.changes) == 1
    sequencer.begin_days(START + timedelta(days=5))
    assert taken() == ([(0, 3), (0, 4)], True)
    sequencer.begin_days(None)
    assert taken() == ([(0, 5)], False)


def test_entries_that_come_as_one_are_passed_as_far_as_tiers_have_come() -> None:
    sequencer = Sequencer({0: Cursor(ledger_offset=2)})
    # The first two were handled before; a ledger that is asked again cuts its responses in another way.
    sequencer.add_entries([LedgerEntry(partition=0, offset=9, fact=None, count=9)])
    assert (sequencer.held_entries, sequencer.take(1)) == (7, None)
    sequencer.add_news(news([], (0, 6)))
    batch = sequencer.take(1)
    assert batch is not None
    assert (batch.after[0], batch.passes_by) == (Cursor(ledger_offset=6), 4)
    assert (sequencer.held_entries, sequencer.take(1)) == (3, None)
    sequencer.add_news(news([], (0, 20)))
    batch = sequencer.take(1)
    assert batch is not None
    assert (batch.after[0], sequencer.held_entries) == (Cursor(ledger_offset=9), 0)


def test_time_that_moves_is_nothing_that_only_passes_by() -> None:
    sequencer = Sequencer({0: Cursor()})
    sequencer.add_entries([entry(0, 1), entry(0, 2, clock=5)])
    sequencer.add_news(news([], (0, 1)))
    due = TierProgress(partition=0, ledger_offset=2, due_time=START + timedelta(days=5))
    passed = [sequencer.take(10), sequencer.add_news(TierNews(changes=(), progress=(due,))), sequencer.take(10)]
    assert [batch and batch.passes_by for batch in passed] == [1, None, 0]


@pytest.mark.parametrize(
    "broken",
    [
        lambda s: s.add_entries([entry(0, 2)]),
        lambda s: s.add_entries([LedgerEntry(partition=0, offset=3, fact=None, count=2)]),
        lambda s: s.add_entries([entry(1, 1)]),
        lambda s: s.add_news(news([change(0, 2, 1)])),
        lambda s: (s.add_news(news([], (0, 4))), s.add_news(news([change(0, 1, 4)]))),
    ],
)
def test_a_feed_with_a_gap_or_a_broken_promise_is_refused(broken: object) -> None:
    with pytest.raises(FeedError):
        broken(Sequencer({0: Cursor()}))  # type: ignore[operator]
