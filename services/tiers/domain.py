"""Which tier a member holds, and why (DESIGN §6). Pure: no I/O, no clock of its own.

A movement (purchase +, return -) counts at T when `occurred <= T < end` and it is later than the joining time.
`evaluate` is the reference and the explanation: from all movements to the standing at an instant. `step` is what the
service lives by: it carries a member from one event to the next without reading the history again, and is proven
equal to `evaluate`. Values of which there is one for every entry are tuples: frozen dataclasses take twice as long.

Money in minor units of the programme's currency, times aware.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.programme.model import Base, Level, TierPolicy
from services.tiers.errors import FeedBrokenError, NotEnrolledError

# Business time before anything has been processed.
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
# After all that is ever due.
NEVER = datetime.max.replace(tzinfo=UTC)

# The partition of a member, and its id.
MemberKey = tuple[int, str]


# --- what the ledger says -------------------------------------------------------------------------------------------


class EntryKind(enum.Enum):
    """What an entry of the ledger says happened, as far as tiers care."""

    JOINED = enum.auto()
    PURCHASE = enum.auto()
    RETURN = enum.auto()
    CLOCK = enum.auto()
    CLASS_SET = enum.auto()
    REFUSED = enum.auto()
    OTHER = enum.auto()


class LedgerEntry(NamedTuple):
    """One line of the ledger. Amounts are never negative; `occurred_time` of CLOCK is the new business time."""

    partition: int
    offset: int
    kind: EntryKind
    member_id: str
    occurred_time: datetime
    amount: int = 0
    goods_paid: int = 0
    request_id: str = ""
    earning_class: str = ""
    effective_time: datetime | None = None


# --- evaluate: the reference ----------------------------------------------------------------------------------------


class Movement(NamedTuple):
    """A purchase (+) or a return (-) from `occurred_time` up to, not including, `end_time` (later)."""

    ledger_offset: int
    amount: int
    occurred_time: datetime
    end_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A member's movements in any order.

    Those that ended up to `complete_from` may be missing; None: all are here. So `evaluate` is exact from then on.
    """

    joined_time: datetime
    movements: Sequence[Movement]
    complete_from: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NextChange:
    """What happens to the tier by time alone."""

    time: datetime
    level: Level
    balance: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A member's tier at `at_time`, with everything that explains it."""

    at_time: datetime
    joined_time: datetime
    level: Level
    balance: int
    since_time: datetime
    """Since when the tier has been held without a break; at the earliest, from when the history is complete."""
    counted: tuple[Movement, ...]
    """The movements that add up to the balance, in the order they occurred."""
    next_level: Level | None
    missing_for_next_level: int | None
    """None at the top."""
    next_change: NextChange | None
    """None where the tier stays as it is if nothing more happens."""


def evaluate(policy: TierPolicy, history: History, at_time: datetime) -> Standing:
    """The standing at an instant; what occurs later is not known then. Raises NotEnrolledError before joining."""
    if at_time < history.joined_time:
        raise NotEnrolledError
    known = [m for m in history.movements if history.joined_time < m.occurred_time <= at_time]
    deltas: dict[datetime, int] = {}
    for movement in known:
        deltas[movement.occurred_time] = deltas.get(movement.occurred_time, 0) + movement.amount
        deltas[movement.end_time] = deltas.get(movement.end_time, 0) - movement.amount
    balance = 0
    level = policy.level_for(balance)
    since = history.joined_time
    next_change: NextChange | None = None
    running, then = balance, level
    for instant in sorted(deltas):
        running += deltas[instant]
        then = policy.level_for(running)
        if instant <= at_time:
            balance = running
            if then != level:
                level, since = then, instant
        elif then != level:
            next_change = NextChange(time=instant, level=then, balance=running)
            break
    higher = policy.next_level(level)
    missing = None
    if higher is not None and higher.threshold_minor_units is not None:
        missing = higher.threshold_minor_units - balance
    return Standing(
        at_time=at_time,
        joined_time=history.joined_time,
        level=level,
        balance=balance,
        since_time=max(since, history.complete_from or since),
        counted=tuple(
            sorted((m for m in known if at_time < m.end_time), key=lambda m: (m.occurred_time, m.ledger_offset))
        ),
        next_level=higher,
        missing_for_next_level=missing,
        next_change=next_change,
    )


# --- step: one event after the other --------------------------------------------------------------------------------


class MemberState(NamedTuple):
    """Where a member stands from `as_of` on, the instant of what came last: an event, or what left the window.

    How far time has passed since says the cursor. So the state follows from what happened alone, and not from how often
    somebody looked whether something was due.
    """

    joined_time: datetime
    as_of: datetime
    balance: int
    tier_number: int
    since_time: datetime
    """When the last change was made (with `sequence` 0: the joining time). A late event changes the tier when it
    arrives, so `evaluate`, which knows it from the start, may say an earlier instant."""
    next_roll_off: datetime | None
    """When the earliest of the movements that count leaves the window; None where none counts."""
    sequence: int
    """How many changes there have been."""

    def holds_at(self, at_time: datetime) -> bool:
        """Whether the balance is that of this instant: all processed is up to it, and nothing leaves by then."""
        return self.as_of <= at_time and (self.next_roll_off is None or at_time < self.next_roll_off)


class Happened(NamedTuple):
    """A movement reaches the service; what lies before `not_before` has been processed for all members already."""

    movement: Movement
    not_before: datetime

    @property
    def until(self) -> datetime:
        """Up to when what is due comes first."""
        return max(self.movement.occurred_time, self.not_before)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePassed:
    """Time goes on until an instant, and nothing else happens."""

    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a member's tier. `cause_offset` is the entry that made it; None: a roll-off at `changed_time`."""

    sequence: int
    from_tier_number: int
    to_tier_number: int
    balance: int
    changed_time: datetime
    cause_offset: int | None


class RollOffs:
    """The movements of one member that count and will leave the window, earliest first.

    `known` are (end, amount) up to some instant, `beyond` is the earliest end after it. `step` takes out what has
    left and puts in what is new; to ask beyond what is known is a ValueError.
    """

    __slots__ = ("_beyond", "_known")

    def __init__(self, known: Iterable[tuple[datetime, int]] = (), *, beyond: datetime | None = None) -> None:
        self._known = list(known)
        self._beyond = beyond
        heapq.heapify(self._known)

    def add(self, end_time: datetime, amount: int) -> None:
        """A movement that counts from now on."""
        heapq.heappush(self._known, (end_time, amount))

    def next(self) -> datetime | None:
        """When the next movement leaves."""
        if not self._known:
            return self._beyond
        if self._beyond is None:
            return self._known[0][0]
        return min(self._known[0][0], self._beyond)

    def take(self, end_time: datetime) -> int:
        """Takes out all that leaves at the instant `next` said, and says what it amounts to."""
        if end_time == self._beyond:
            raise ValueError(f"what leaves the window at {end_time.isoformat()} was not loaded")
        amount = 0
        while self._known and self._known[0][0] == end_time:
            amount += heapq.heappop(self._known)[1]
        return amount


def joined(joined_time: datetime) -> MemberState:
    """A member that has just joined: the lowest tier, and nothing counts yet."""
    return MemberState(
        joined_time=joined_time,
        as_of=joined_time,
        balance=0,
        tier_number=1,
        since_time=joined_time,
        next_roll_off=None,
        sequence=0,
    )


def step(
    policy: TierPolicy, state: MemberState, event: Happened | TimePassed, ahead: RollOffs
) -> tuple[MemberState, tuple[Change, ...]]:
    """Carries a member on by one event; costs O(1) and what leaves the window on the way.

    First come the roll-offs due up to the event, in the order of their instants (at the event's own instant, too),
    each with the change it makes; all that ends at one instant is one. Then the event. One that occurred before what
    has been processed mends the balance as of that instant, if it still counts then, and changes the tier there.
    `ahead` belongs to the member: it knows all roll-offs up to the event, and is carried on with the state.
    """
    until = max(state.as_of, event.until)
    as_of = state.as_of
    balance, tier, since, sequence = state.balance, state.tier_number, state.since_time, state.sequence
    changes: list[Change] = []

    def settle(at_time: datetime, cause_offset: int | None) -> None:
        nonlocal tier, since, sequence
        number = policy.level_for(balance).number
        if number == tier:
            return
        sequence += 1
        changes.append(
            Change(
                sequence=sequence,
                from_tier_number=tier,
                to_tier_number=number,
                balance=balance,
                changed_time=at_time,
                cause_offset=cause_offset,
            )
        )
        tier, since = number, at_time

    while (due := ahead.next()) is not None and due <= until:
        balance -= ahead.take(due)
        settle(due, None)
        as_of = due
    if isinstance(event, Happened):
        as_of = until
        movement = event.movement
        if state.joined_time < movement.occurred_time and as_of < movement.end_time:
            balance += movement.amount
            ahead.add(movement.end_time, movement.amount)
            settle(as_of, movement.ledger_offset)
    return MemberState(
        joined_time=state.joined_time,
        as_of=as_of,
        balance=balance,
        tier_number=tier,
        since_time=since,
        next_roll_off=ahead.next(),
        sequence=sequence,
    ), tuple(changes)


# --- many members at once -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far one partition of the ledger has been taken in."""

    partition: int
    ledger_offset: int = 0
    business_time: datetime = BEGINNING
    """As the partition's entries told it; moves in a simulated installation alone."""
    due_time: datetime | None = None
    """All changes due up to this instant have been made."""
    change_offset: int = 0
    """Number of the partition's last change."""

    @property
    def processed_time(self) -> datetime:
        """What occurs before this instant comes late: it counts from here on."""
        return max(self.business_time, self.due_time or BEGINNING)


def reached_time(cursors: Mapping[int, Cursor]) -> datetime:
    """The business time that all these partitions have reached."""
    return min((cursor.business_time for cursor in cursors.values()), default=BEGINNING)


def due_time(cursors: Mapping[int, Cursor]) -> datetime:
    """Up to when all changes due in these partitions have been made."""
    return min((cursor.due_time or BEGINNING for cursor in cursors.values()), default=BEGINNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class TierChange:
    """A change with its place in the log of changes."""

    partition: int
    offset: int
    member_id: str
    change: Change
    ledger_offset_processed: int


class TakenIn(NamedTuple):
    """A movement as it was taken in: `applied_time` is the instant from which it was seen."""

    partition: int
    member_id: str
    movement: Movement
    applied_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What a batch does. Cursors: those of its partitions, afterwards. Changes: in the order of their offsets."""

    cursors: Mapping[int, Cursor]
    states: Mapping[MemberKey, MemberState]
    movements: Sequence[TakenIn]
    changes: Sequence[TierChange]

    def followed_by(self, later: Effects) -> Effects:
        """Both, one after the other."""
        return Effects(
            cursors={**self.cursors, **later.cursors},
            states={**self.states, **later.states},
            movements=[*self.movements, *later.movements],
            changes=[*self.changes, *later.changes],
        )


def movement_of(policy: TierPolicy, zone: ZoneInfo, entry: LedgerEntry) -> Movement:
    """The movement that a purchase or return makes, by the policy's base and window."""
    amount = entry.amount if policy.base is Base.TOTAL else entry.goods_paid
    return Movement(
        ledger_offset=entry.offset,
        amount=-amount if entry.kind is EntryKind.RETURN else amount,
        occurred_time=entry.occurred_time,
        end_time=policy.window.end(entry.occurred_time, zone),
    )


def unseen(entries: Iterable[LedgerEntry], cursors: Mapping[int, Cursor]) -> list[LedgerEntry]:
    """The entries after the cursors; raises FeedBrokenError where one is missing between."""
    heads = {partition: cursor.ledger_offset for partition, cursor in cursors.items()}
    fresh = []
    for entry in entries:
        head = heads[entry.partition]
        if entry.offset <= head:
            continue
        if entry.offset != head + 1:
            raise FeedBrokenError(f"partition {entry.partition}: entry {entry.offset} came after {head}")
        heads[entry.partition] = entry.offset
        fresh.append(entry)
    return fresh


def horizons(entries: Iterable[LedgerEntry], cursors: Mapping[int, Cursor]) -> dict[MemberKey, datetime]:
    """The members whose movements are among the entries, and up to when those will bring each."""
    clocks = {partition: cursor.processed_time for partition, cursor in cursors.items()}
    found: dict[MemberKey, datetime] = {}
    for entry in entries:
        if entry.kind is EntryKind.CLOCK:
            clocks[entry.partition] = max(clocks[entry.partition], entry.occurred_time)
        elif entry.kind in _MOVING:
            key = (entry.partition, entry.member_id)
            until = max(entry.occurred_time, clocks[entry.partition])
            found[key] = max(until, found.get(key, until))
    return found


_MOVING = (EntryKind.PURCHASE, EntryKind.RETURN)
# Those that make a state or change one.
AFFECTING = (*_MOVING, EntryKind.JOINED)


def take_in(
    policy: TierPolicy,
    zone: ZoneInfo,
    entries: Iterable[LedgerEntry],
    cursors: Mapping[int, Cursor],
    states: Mapping[MemberKey, MemberState],
    ahead: Mapping[MemberKey, RollOffs],
) -> Effects:
    """What new entries, in order, do to members (`states` of all that are named and known).

    `ahead` has the roll-offs of those members of whom some fall due up to their horizon.
    """
    log = _ChangeLog(cursors)
    clocks = {partition: cursor.processed_time for partition, cursor in cursors.items()}
    business = {partition: cursor.business_time for partition, cursor in cursors.items()}
    heads = {partition: cursor.ledger_offset for partition, cursor in cursors.items()}
    known = dict(states)
    waiting = dict(ahead)
    touched: dict[MemberKey, MemberState] = {}
    movements: list[TakenIn] = []
    for entry in entries:
        partition = entry.partition
        if entry.kind in _MOVING:
            key = (partition, entry.member_id)
            state = known.get(key)
            if state is None:
                raise FeedBrokenError(f"partition {partition}: entry {entry.offset} is of a member that never joined")
            if key not in waiting:
                waiting[key] = RollOffs(beyond=state.next_roll_off)
            movement = movement_of(policy, zone, entry)
            happened = Happened(movement=movement, not_before=clocks[partition])
            state, changes = step(policy, state, happened, waiting[key])
            known[key] = touched[key] = state
            movements.append(
                TakenIn(partition=partition, member_id=entry.member_id, movement=movement, applied_time=state.as_of)
            )
            for change in changes:
                processed = entry.offset if change.cause_offset is not None else heads[partition]
                log.append(partition, entry.member_id, change, processed)
        elif entry.kind is EntryKind.CLOCK:
            business[partition] = max(business[partition], entry.occurred_time)
            clocks[partition] = max(clocks[partition], entry.occurred_time)
        elif entry.kind is EntryKind.JOINED:
            key = (partition, entry.member_id)
            if key in known:
                raise FeedBrokenError(f"partition {partition}: entry {entry.offset} lets a member join twice")
            known[key] = touched[key] = joined(entry.occurred_time)
        heads[partition] = entry.offset
    return Effects(
        cursors={
            partition: replace(
                cursor,
                ledger_offset=heads[partition],
                business_time=business[partition],
                change_offset=log.heads[partition],
            )
            for partition, cursor in cursors.items()
        },
        states=touched,
        movements=movements,
        changes=log.changes,
    )


def let_pass(
    policy: TierPolicy,
    to_time: datetime,
    cursors: Mapping[int, Cursor],
    states: Mapping[MemberKey, MemberState],
    ahead: Mapping[MemberKey, RollOffs],
    *,
    complete: bool,
) -> Effects:
    """What falls due for these members up to an instant, in the order of the instants.

    `complete`: nobody else of the cursors' partitions has anything due by then.
    """
    touched: dict[MemberKey, MemberState] = {}
    found: list[tuple[datetime, MemberKey, Change]] = []
    for key, state in states.items():
        touched[key], changes = step(policy, state, TimePassed(until=to_time), ahead[key])
        found.extend((change.changed_time, key, change) for change in changes)
    log = _ChangeLog(cursors)
    for _, (partition, member_id), change in sorted(found, key=lambda due: (due[0], due[1], due[2].sequence)):
        log.append(partition, member_id, change, cursors[partition].ledger_offset)
    return Effects(
        cursors={
            partition: replace(
                cursor,
                change_offset=log.heads[partition],
                due_time=max(to_time, cursor.due_time or to_time) if complete else cursor.due_time,
            )
            for partition, cursor in cursors.items()
        },
        states=touched,
        movements=(),
        changes=log.changes,
    )


class _ChangeLog:
    """Numbers the changes of each partition on from its cursor."""

    def __init__(self, cursors: Mapping[int, Cursor]) -> None:
        self.heads = {partition: cursor.change_offset for partition, cursor in cursors.items()}
        self.changes: list[TierChange] = []

    def append(self, partition: int, member_id: str, change: Change, ledger_offset_processed: int) -> None:
        self.heads[partition] += 1
        self.changes.append(
            TierChange(
                partition=partition,
                offset=self.heads[partition],
                member_id=member_id,
                change=change,
                ledger_offset_processed=ledger_offset_processed,
            )
        )
