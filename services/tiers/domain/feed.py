"""From the ledger's entries to facts, and what batches of them do to many members at once."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from services.programme.model import Programme
from services.programme.versions import Versions
from services.tiers.domain.facts import BEGINNING, Fact, FactKind, MemberKey, Movement, history_of
from services.tiers.domain.track import (
    Agenda,
    Change,
    Happened,
    HistoryNeededError,
    MemberState,
    Stepped,
    TimePassed,
    joined,
    step,
)
from services.tiers.errors import FeedBrokenError


class EntryKind(enum.Enum):
    """What an entry of the ledger says happened, as far as tiers care."""

    FACT = enum.auto()
    """Something that happened to a member: `fact_kind` says what."""
    CLOCK = enum.auto()
    CLASS_SET = enum.auto()
    REFUSED = enum.auto()
    PROGRAMME = enum.auto()
    """A version of the programme was applied."""
    OTHER = enum.auto()


class LedgerEntry(NamedTuple):
    """One line of the ledger. Amounts are never negative; `occurred_time` of CLOCK is the new business time."""

    partition: int
    offset: int
    kind: EntryKind
    member_id: str
    occurred_time: datetime
    recorded_time: datetime = BEGINNING
    fact_kind: FactKind | None = None
    currency: str = ""
    amount: int = 0
    goods_paid: int = 0
    purchase_id: str = ""
    exchange_id: str = ""
    rules: tuple[tuple[str, int], ...] = ()
    """Points by rule; negative where they are taken back."""
    name: str = ""
    """The activity, the plan; of a joining the market; of PROGRAMME the version."""
    request_id: str = ""
    earning_class: str = ""
    effective_time: datetime | None = None
    """From when the class holds; from when a plan is paid; from when the version holds."""
    until_time: datetime | None = None
    """Until when a plan is paid."""


_BASE_RULE = "base"
_COMING_BACK = (FactKind.RETURN, FactKind.VOID)


def fact_of(programme: Programme, market: str, entry: LedgerEntry, purchase_time: datetime | None) -> Fact:
    """What an entry says of its member, its money in that of the market.

    An amount in another currency goes by the rate of the purchase's day where that is known, else of its own (§12.17).
    """
    assert entry.fact_kind is not None
    total, goods = entry.amount, entry.goods_paid
    if entry.currency and total:
        home = programme.market(market)
        if entry.currency != home.currency:
            day = home.local_day(purchase_time or entry.occurred_time)
            total, goods = home.at_home(total, entry.currency, day), home.at_home(goods, entry.currency, day)
    points = 0
    bonuses: tuple[tuple[str, int], ...] = ()
    if entry.rules:
        points = sum([given for rule, given in entry.rules if rule == _BASE_RULE])
        bonuses = tuple([(rule, given) for rule, given in entry.rules if rule != _BASE_RULE and given])
    return Fact(
        kind=entry.fact_kind,
        occurred_time=entry.occurred_time,
        recorded_time=entry.recorded_time,
        ledger_offset=entry.offset,
        total=total,
        goods_paid=goods,
        points=points,
        bonuses=bonuses,
        purchase_id=entry.purchase_id,
        purchase_time=purchase_time,
        name=market if entry.fact_kind is FactKind.JOINED else entry.name,
        start_time=entry.effective_time if entry.fact_kind is FactKind.FEE else None,
        until_time=entry.until_time,
        exchange_id=entry.exchange_id,
    )


class FactReader:
    """Reads facts out of entries, those of a partition in order; remembers when purchases were.

    `purchases`: those that come back, by partition, member and id, as far as they were before.
    """

    def __init__(self, versions: Versions, purchases: Mapping[tuple[int, str, str], datetime]) -> None:
        self._versions = versions
        self._purchases = dict(purchases)

    def read(self, entry: LedgerEntry, market: str) -> Fact:
        """What an entry says of its member, its money in that of the member's market.

        An amount in another currency goes by the rate of the purchase's day where that is known, else of its own
        (§12.17), and by the version of that time. Raises FeedBrokenError where there is no rate.
        """
        purchase_time = None
        bought = (entry.partition, entry.member_id, entry.purchase_id)
        if entry.fact_kind is FactKind.PURCHASE:
            self._purchases[bought] = entry.occurred_time
        elif entry.fact_kind in _COMING_BACK and entry.purchase_id:
            purchase_time = self._purchases.get(bought)
        programme = self._versions.at(purchase_time or entry.occurred_time)
        try:
            return fact_of(programme, market, entry, purchase_time)
        except LookupError as error:
            raise FeedBrokenError(f"partition {entry.partition}: entry {entry.offset}: {error}") from None


# --- where partitions stand -----------------------------------------------------------------------------------------


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
    decision_number: int = 0
    """Number of the partition's last decision."""
    facts_missing: int = 0
    """Facts of entries up to here are still to be read again from the ledger; 0: none are missing."""
    facts_read: int = 0
    """How far they have been."""

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
    """A fact as it was taken in: `applied_time` is the instant up to which all had been processed."""

    partition: int
    member_id: str
    fact: Fact
    applied_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What a batch does. Cursors: those of its partitions, afterwards. Changes: in the order of their offsets.

    `movements` are added to those of each member; `redrawn` take the place of all of them, and are written first.
    """

    cursors: Mapping[int, Cursor]
    states: Mapping[MemberKey, MemberState]
    facts: Sequence[TakenIn] = ()
    movements: Mapping[MemberKey, Sequence[Movement]]
    redrawn: Mapping[MemberKey, Sequence[Movement]]
    changes: Sequence[TierChange]

    def followed_by(self, later: Effects) -> Effects:
        """Both, one after the other."""
        kept = {key: added for key, added in self.movements.items() if key not in later.redrawn}
        added = {key: [*kept.get(key, ()), *later.movements.get(key, ())] for key in kept.keys() | later.movements}
        return Effects(
            cursors={**self.cursors, **later.cursors},
            states={**self.states, **later.states},
            facts=[*self.facts, *later.facts],
            movements=added,
            redrawn={**self.redrawn, **later.redrawn},
            changes=[*self.changes, *later.changes],
        )


class HistoryWantedError(Exception):
    """The batch needs the whole history of some members; ask again with it."""

    def __init__(self, members: Iterable[MemberKey]) -> None:
        super().__init__()
        self.members = frozenset(members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is stored of the members that a batch names: states of all that have joined, agendas of those of whom
    something is due, histories where they are needed, and when purchases that come back were."""

    states: Mapping[MemberKey, MemberState]
    agendas: Mapping[MemberKey, Agenda]
    histories: Mapping[MemberKey, Sequence[Fact]]
    purchases: Mapping[tuple[int, str, str], datetime]


NOTHING_KNOWN = Known(states={}, agendas={}, histories={}, purchases={})


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
    """The members that the entries are about, and up to when those will bring each."""
    clocks = {partition: cursor.processed_time for partition, cursor in cursors.items()}
    found: dict[MemberKey, datetime] = {}
    for entry in entries:
        if entry.kind is EntryKind.CLOCK:
            clocks[entry.partition] = max(clocks[entry.partition], entry.occurred_time)
        elif entry.kind is EntryKind.FACT:
            key = (entry.partition, entry.member_id)
            until = max(entry.occurred_time, clocks[entry.partition])
            found[key] = max(until, found.get(key, until))
    return found


def come_back(entries: Iterable[LedgerEntry]) -> set[tuple[int, str, str]]:
    """The purchases, by partition, member and id, that come back in these entries."""
    return {
        (entry.partition, entry.member_id, entry.purchase_id)
        for entry in entries
        if entry.fact_kind in _COMING_BACK and entry.purchase_id
    }


def take_in(
    versions: Versions,
    entries: Iterable[LedgerEntry],
    cursors: Mapping[int, Cursor],
    known: Known,
    *,
    simulated: bool = False,
) -> Effects:
    """What new entries, in order, do to members. Raises HistoryWantedError, FeedBrokenError.

    `simulated`: in a simulated installation.
    """
    log = _ChangeLog(cursors)
    clocks = {partition: cursor.processed_time for partition, cursor in cursors.items()}
    business = {partition: cursor.business_time for partition, cursor in cursors.items()}
    heads = {partition: cursor.ledger_offset for partition, cursor in cursors.items()}
    members = Members(versions, known)
    facts = FactReader(versions, known.purchases)
    for entry in entries:
        partition = entry.partition
        if entry.kind is EntryKind.FACT:
            key = (partition, entry.member_id)
            state = members.states.get(key)
            if entry.fact_kind is FactKind.JOINED:
                if state is not None:
                    raise FeedBrokenError(f"partition {partition}: entry {entry.offset} lets a member join twice")
                market = entry.name
            elif state is None:
                raise FeedBrokenError(f"partition {partition}: entry {entry.offset} is of a member that never joined")
            else:
                market = state.carried.market
            fact = facts.read(entry, market)
            if simulated:
                fact = fact.known_by(clocks[partition])
            for change in members.take(key, fact, clocks[partition]):
                timely = change.cause_offset is None
                log.append(partition, entry.member_id, change, heads[partition] if timely else entry.offset)
        elif entry.kind is EntryKind.CLOCK:
            business[partition] = max(business[partition], entry.occurred_time)
            clocks[partition] = max(clocks[partition], entry.occurred_time)
        heads[partition] = entry.offset
    return members.effects(
        {
            partition: replace(
                cursor,
                ledger_offset=heads[partition],
                business_time=business[partition],
                change_offset=log.heads[partition],
            )
            for partition, cursor in cursors.items()
        },
        log.changes,
    )


def facts_again(
    versions: Versions, entries: Iterable[LedgerEntry], purchases: Mapping[tuple[int, str, str], datetime]
) -> list[TakenIn]:
    """The facts of entries that were taken in without being kept. Their members are of the programme's own market."""
    facts = FactReader(versions, purchases)
    found = []
    for entry in entries:
        if entry.kind is not EntryKind.FACT:
            continue
        # The older release judged each side of an exchange by itself, and its standings stay so.
        fact = facts.read(entry, "")._replace(exchange_id="")
        found.append(
            TakenIn(
                partition=entry.partition,
                member_id=entry.member_id,
                fact=fact,
                # Where the older release kept when it was seen, that is taken over.
                applied_time=entry.occurred_time,
            )
        )
    return found


def mended(
    versions: Versions, states: Mapping[MemberKey, MemberState], taken: Iterable[TakenIn]
) -> Mapping[MemberKey, MemberState]:
    """States that an older release left, as this one would have made them of the same facts: that release counted what
    it heard of late from then on, and did not look back. A state that would have told something else stays as it is.
    """
    members = Members(versions, NOTHING_KNOWN, remembers=True)
    for one in sorted(taken, key=lambda one: one.fact.ledger_offset):
        members.take((one.partition, one.member_id), one.fact, one.applied_time)
    found = {}
    for key, state in states.items():
        members.let_pass(key, state.as_of)
        made = members.states[key]
        told = (made.sequence, made.tier_number) == (state.sequence, state.tier_number)
        found[key] = made if told else state
    return found


def decide(versions: Versions, key: MemberKey, fact: Fact, cursors: Mapping[int, Cursor], known: Known) -> Effects:
    """What something decided here does to a member. Raises HistoryWantedError."""
    cursor = cursors[key[0]]
    members = Members(versions, known)
    log = _ChangeLog(cursors)
    for change in members.take(key, fact, cursor.processed_time):
        log.append(key[0], key[1], change, cursor.ledger_offset)
    return members.effects(
        {key[0]: replace(cursor, change_offset=log.heads[key[0]], decision_number=fact.number)}, log.changes
    )


def let_pass(
    versions: Versions, to_time: datetime, cursors: Mapping[int, Cursor], known: Known, *, complete: bool
) -> Effects:
    """What falls due for the known members up to an instant, in the order of the instants.

    `complete`: nobody else of the cursors' partitions has anything due by then. Raises HistoryWantedError.
    """
    members = Members(versions, known)
    found = [(change.changed_time, key, change) for key in known.states for change in members.let_pass(key, to_time)]
    log = _ChangeLog(cursors)
    for _, (partition, member_id), change in sorted(found, key=lambda due: (due[0], due[1], due[2].sequence)):
        log.append(partition, member_id, change, cursors[partition].ledger_offset)
    return members.effects(
        {
            partition: replace(
                cursor,
                change_offset=log.heads[partition],
                due_time=max(to_time, cursor.due_time or to_time) if complete else cursor.due_time,
            )
            for partition, cursor in cursors.items()
        },
        log.changes,
    )


class Members:
    """The members of a batch on their way through it. `remembers`: the histories of those who join in it are kept."""

    def __init__(self, versions: Versions, known: Known, *, remembers: bool = False) -> None:
        self._versions = versions
        self._remembers = remembers
        self.states = dict(known.states)
        # A batch that wants more histories is begun anew.
        self._agendas = {key: agenda.copy() for key, agenda in known.agendas.items()}
        self._histories = {key: list(facts) for key, facts in known.histories.items()}
        self._touched: dict[MemberKey, MemberState] = {}
        self._facts: list[TakenIn] = []
        self._movements: dict[MemberKey, list[Movement]] = {}
        self._redrawn: dict[MemberKey, Sequence[Movement]] = {}
        self._wanted: set[MemberKey] = set()

    def take(self, key: MemberKey, fact: Fact, not_before: datetime) -> Sequence[Change]:
        """A fact reaches a member; what it changes."""
        if key in self._wanted:
            return ()
        history = self._histories.get(key)
        if history is not None:
            history.append(fact)
        applied = max(fact.occurred_time, not_before)
        self._facts.append(TakenIn(partition=key[0], member_id=key[1], fact=fact, applied_time=applied))
        if fact.kind is FactKind.JOINED:
            self._agendas[key] = Agenda()
            if self._remembers:
                self._histories[key] = [fact]
            changes = self._keep(key, joined(self._versions, fact))
            due = self.states[key].next_due
            return changes if due is None or due > not_before else (*changes, *self.let_pass(key, not_before))
        return self._step(key, Happened(fact=fact, not_before=not_before))

    def let_pass(self, key: MemberKey, until: datetime) -> Sequence[Change]:
        """Time goes on for a member; what that changes."""
        return self._step(key, TimePassed(until=until))

    def _step(self, key: MemberKey, event: Happened | TimePassed) -> Sequence[Change]:
        state, facts = self.states[key], self._histories.get(key)
        agenda = self._agendas.get(key)
        if agenda is None:
            # Nothing of the member is due up to the event, or it would have been loaded.
            agenda = Agenda(beyond=state.next_due)
        try:
            stepped = step(self._versions, state, event, agenda)
        except HistoryNeededError:
            if facts is None:
                self._wanted.add(key)
                return ()
            stepped = step(self._versions, state, event, agenda, history_of(facts))
        return self._keep(key, stepped)

    def _keep(self, key: MemberKey, stepped: Stepped) -> Sequence[Change]:
        self.states[key] = self._touched[key] = stepped.state
        self._agendas[key] = stepped.agenda
        if stepped.redrawn is not None:
            self._redrawn[key] = stepped.redrawn
            self._movements.pop(key, None)
        elif stepped.movements:
            self._movements.setdefault(key, []).extend(stepped.movements)
        return stepped.changes

    def effects(self, cursors: Mapping[int, Cursor], changes: Sequence[TierChange]) -> Effects:
        """What has become of them all; raises HistoryWantedError where that cannot be told yet."""
        if self._wanted:
            raise HistoryWantedError(self._wanted)
        return Effects(
            cursors=cursors,
            states=self._touched,
            facts=self._facts,
            movements=self._movements,
            redrawn=self._redrawn,
            changes=changes,
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
