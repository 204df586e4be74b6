"""The two feeds, and the one order in which they are handled (DESIGN §6).

Within a partition a change of tier is handled as it comes; the ledger's entry at offset o only when tiers says that
all changes caused by entries up to o have been sent, and those are handled. So whoever stands past an entry stands
past all that tiers made of it. What time alone makes tiers change comes when all partitions have passed that time: how
far that is handled is a cursor of its own.

Changes never wait for entries: so the two streams can hold each other up in no way, however small the buffers.

In a simulated installation entries may wait for days, too: what was recorded after CLOCK_ADVANCED comes when all that
the days up to then bring is given. So of the ledger a day sees what was recorded before it came, and no more; changes
of tier it may see that were made later.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.notifier.domain.bookings import Booked
from services.notifier.errors import FeedError


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberJoined:
    """Someone became a member; with what points, and by which local days they lapse, as for `MemberEvent`."""

    member_id: str
    joined_time: datetime
    market: str = ""
    available: int = 0
    lapsing: tuple[tuple[str, int], ...] = ()


class Happening(enum.Enum):
    """What an entry means to campaigns."""

    PURCHASE = enum.auto()
    VOID = enum.auto()
    RETURN = enum.auto()
    ACTIVITY = enum.auto()
    """A redemption or an activity: what shows that a member is there."""
    LEFT = enum.auto()
    CAME_BACK = enum.auto()
    OTHER = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberEvent:
    """An entry about a member that campaigns go by.

    `available`: the points that can be redeemed after it. `lapsing`: by the last local day on which points can be
    redeemed (as text), how many available ones there are more or fewer.
    """

    member_id: str
    happening: Happening
    occurred_time: datetime
    available: int
    lapsing: tuple[tuple[str, int], ...] = ()
    purchase_id: str = ""
    goods_minor_units: int = 0
    currency: str = ""
    channel: str = ""
    store: str = ""
    departments: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PurchaseUndone:
    """Something of a purchase came back, or it was voided; told where campaigns ask nothing of members."""

    member_id: str
    purchase_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockAdvanced:
    """The business time of a simulated installation moved on."""

    to_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgrammeApplied:
    """Another version of the programme holds from an instant on; made known at another. A document may be applied
    again: then `from_time` says which version it is."""

    version: str
    from_time: datetime | None = None
    announced_time: datetime | None = None


Fact = MemberJoined | ClockAdvanced | ProgrammeApplied | MemberEvent | PurchaseUndone | Booked


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """An entry of the ledger; `fact` is None where the notifier has nothing to do with it but to pass it.

    Of such entries one may stand for several: for `count` that follow each other, of which `offset` is the last.
    """

    partition: int
    offset: int
    fact: Fact | None
    count: int = 1

    @property
    def first_offset(self) -> int:
        """The first that it stands for."""
        return self.offset - self.count + 1


def undone(entries: Iterable[LedgerEntry]) -> list[tuple[LedgerEntry, str, str]]:
    """The entries by which something of a purchase may have come back, each with its member and the purchase."""
    return [
        (entry, fact.member_id, fact.purchase_id)
        for entry in entries
        if isinstance(fact := entry.fact, PurchaseUndone)
        or (isinstance(fact, MemberEvent) and fact.purchase_id and fact.happening in (Happening.VOID, Happening.RETURN))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class TierChange:
    """The tier whose benefits a member has changed; number 0 and no name: none are in force.

    `balance` decided it: minor units, or a count where the metric is no money. `cause_offset` is None where time alone
    or staff caused it.
    """

    partition: int
    offset: int
    member_id: str
    from_tier_number: int
    from_tier: str
    to_tier_number: int
    to_tier: str
    balance: int
    changed_time: datetime
    cause_offset: int | None
    # The version of the programme that decided it; empty in what an older release made.
    programme_version: str = ""
    # Whether it gives back what was held before: after an override, a suspension or time away, or by a correction.
    restores: bool = False
    # Where it takes a level back, and with it the coupons that it brought: the tier that is left.
    taken_back_to: int | None = None

    @property
    def member_key(self) -> tuple[int, str]:
        """Whose it is: the partition, and the member."""
        return self.partition, self.member_id

    @property
    def reaches(self) -> bool:
        """Whether a tier is reached by it: the next one up, and not one by another name or one held before."""
        return self.to_tier_number > self.from_tier_number and self.to_tier != self.from_tier and not self.restores


@dataclass(frozen=True, slots=True, kw_only=True)
class TierProgress:
    """How far tiers has come in a partition: all changes caused up to the offset, or due up to the time, were sent."""

    partition: int
    ledger_offset: int
    due_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TierNews:
    """One response of tiers: changes, and the progress that is true once they are handled."""

    changes: tuple[TierChange, ...]
    progress: tuple[TierProgress, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLayout:
    """The ledger's partitions, each with the offset of its last entry, and whether its business time is simulated."""

    heads: Mapping[int, int]
    simulated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """What has been handled of a partition: offsets in both feeds; where CLOCK_ADVANCED has brought its business time,
    and up to when all that fell due is handled (both None before the first)."""

    ledger_offset: int = 0
    change_offset: int = 0
    business_time: datetime | None = None
    due_time: datetime | None = None

    def is_behind(self, other: Cursor) -> bool:
        """Whether less of the two feeds is handled than at another."""
        return (self.ledger_offset, self.change_offset) < (other.ledger_offset, other.change_offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is handled next, in one transaction: changes and entries, and where the cursors move from and to."""

    changes: tuple[TierChange, ...]
    entries: tuple[LedgerEntry, ...]
    before: Mapping[int, Cursor]
    after: Mapping[int, Cursor]

    @property
    def passes_by(self) -> int:
        """How many entries it passes, where it does nothing else; 0 where there is something to be done, or time moves.

        Such a batch may wait to be written down until another is: who forgets it passes them again.
        """
        if self.changes or any(entry.fact is not None for entry in self.entries):
            return 0
        moves = [(self.before[partition], cursor) for partition, cursor in self.after.items()]
        if any(before.due_time != after.due_time for before, after in moves):
            return 0
        return sum(after.ledger_offset - before.ledger_offset for before, after in moves)

    def following(self, passed: Batch) -> Batch:
        """This batch with the cursors of one that passed by before it, and was not written down."""
        return replace(self, before={**self.before, **passed.before}, after={**passed.after, **self.after})


@dataclass(slots=True)
class _Lane:
    """One partition: what came and waits, and how far tiers has come."""

    cursor: Cursor
    entries: deque[LedgerEntry] = field(default_factory=deque)
    changes: deque[TierChange] = field(default_factory=deque)
    last_entry: int = 0
    last_change: int = 0
    watermark: int = 0
    due_time: datetime | None = None

    @property
    def entry_ready(self) -> bool:
        return bool(self.entries) and self.entries[0].first_offset <= self.watermark


class Sequencer:
    """Takes both feeds as they come, and gives out what may be handled, in order. Does no I/O."""

    def __init__(self, cursors: Mapping[int, Cursor]) -> None:
        self._lanes = {
            partition: _Lane(cursor=cursor, last_entry=cursor.ledger_offset, last_change=cursor.change_offset)
            for partition, cursor in cursors.items()
        }
        self._stirred: set[int] = set()
        self._held = 0
        self._begun: datetime | None = None

    @property
    def held_entries(self) -> int:
        """Entries taken in and not yet given out."""
        return self._held

    @property
    def awaits_clock(self) -> bool:
        """Whether a partition waits for days that cannot begin before the ledger has sent more of another."""
        times = {lane.cursor.business_time for lane in self._lanes.values()}
        return len(times) > 1 and any(self._awaits_days(time) for time in times)

    def begin_days(self, until: datetime | None) -> None:
        """All that the days up to a business time bring is given; None: nothing waits for days."""
        if until != self._begun:
            self._begun = until
            self._stirred.update(self._lanes)

    def add_entries(self, entries: Iterable[LedgerEntry]) -> None:
        """Takes entries of the ledger; those handled before are passed over. Raises FeedError at a gap."""
        for entry in entries:
            lane = self._lane(entry.partition)
            if entry.offset <= lane.last_entry:
                continue
            if entry.first_offset > lane.last_entry + 1:
                raise FeedError(
                    f"the ledger's partition {entry.partition} goes from {lane.last_entry} to {entry.first_offset}"
                )
            self._held += entry.offset - lane.last_entry
            lane.last_entry = entry.offset
            lane.entries.append(entry)
            self._stirred.add(entry.partition)

    def add_news(self, news: TierNews) -> None:
        """Takes a response of tiers; changes handled before are passed over. Raises FeedError at a gap."""
        for change in news.changes:
            lane = self._lane(change.partition)
            if change.offset <= lane.last_change:
                continue
            if change.offset != lane.last_change + 1:
                raise FeedError(
                    f"the changes of partition {change.partition} go from {lane.last_change} to {change.offset}"
                )
            if change.cause_offset is not None and change.cause_offset <= lane.watermark:
                raise FeedError(
                    f"change {change.offset} of partition {change.partition} comes after the word that all caused up "
                    f"to entry {lane.watermark} had come"
                )
            lane.last_change = change.offset
            lane.changes.append(change)
            self._stirred.add(change.partition)
        for progress in news.progress:
            lane = self._lane(progress.partition)
            lane.watermark = max(lane.watermark, progress.ledger_offset)
            lane.due_time = _later(lane.due_time, progress.due_time)
            self._stirred.add(progress.partition)

    def take(self, limit: int) -> Batch | None:
        """Up to `limit` lines that may be handled now, or None. What is given out counts as handled.

        Entries that one stands for are one line.
        """
        changes: list[TierChange] = []
        entries: list[LedgerEntry] = []
        before: dict[int, Cursor] = {}
        after: dict[int, Cursor] = {}
        for partition in sorted(self._stirred):
            if len(changes) + len(entries) >= limit:
                break
            lane = self._lanes[partition]
            cursor = lane.cursor
            while lane.changes and len(changes) + len(entries) < limit:
                changes.append(change := lane.changes.popleft())
                cursor = replace(cursor, change_offset=change.offset)
            if not lane.changes:
                cursor = self._take_entries(lane, cursor, entries, limit - len(changes))
                cursor = replace(cursor, due_time=_later(cursor.due_time, lane.due_time))
                if not lane.entry_ready:
                    self._stirred.discard(partition)
            if cursor != lane.cursor:
                before[partition], after[partition] = lane.cursor, cursor
                lane.cursor = cursor
        if not after:
            return None
        return Batch(changes=tuple(changes), entries=tuple(entries), before=before, after=after)

    def _take_entries(self, lane: _Lane, cursor: Cursor, entries: list[LedgerEntry], limit: int) -> Cursor:
        offset, time = cursor.ledger_offset, cursor.business_time
        while lane.entry_ready and len(entries) < limit and not self._awaits_days(time):
            entry = lane.entries.popleft()
            if (ahead := entry.offset - lane.watermark) > 0:
                lane.entries.appendleft(replace(entry, count=ahead))
                entry = replace(entry, offset=lane.watermark, count=entry.count - ahead)
            entries.append(entry)
            self._held -= entry.offset - offset
            offset = entry.offset
            if isinstance(entry.fact, ClockAdvanced):
                time = _later(time, entry.fact.to_time)
        return replace(cursor, ledger_offset=offset, business_time=time)

    def _awaits_days(self, time: datetime | None) -> bool:
        return self._begun is not None and time is not None and time > self._begun

    def _lane(self, partition: int) -> _Lane:
        lane = self._lanes.get(partition)
        if lane is None:
            raise FeedError(f"a feed names partition {partition}, which the ledger did not list")
        return lane


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return max(one, other)
