"""Rebuilds all that tiers stores from the ledger's entries, and says what differs.

Entries are lived through again with the same `step`, up to each partition's cursor. Due runs leave no entry: what
they do to a member depends on the instants alone, so a member is brought on to the instant at which its state stands.
Which number a change has in its partition depends on how partitions interleaved; so numbers must have no gap, and
contents are compared for each member in its own order. In a real-time installation, when a late event was seen
is only known from the movement itself, and is taken from there, within its bounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from services import programme as programmes
from services.programme import Programme
from services.runtime.clock import ClockMode
from services.runtime.command import CheckReport, own_identity
from services.runtime.config import ConfigurationError
from services.runtime.database import connect
from services.tiers import store
from services.tiers.config import Config
from services.tiers.domain import (
    BEGINNING,
    Change,
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
    joined,
    movement_of,
    step,
)
from services.tiers.errors import LedgerUnavailableError
from services.tiers.ledger_client import LedgerClient
from services.tiers.service import notice_of
from services.tiers.store import Snapshot

_LISTED = 100


async def check(config: Config) -> CheckReport:
    """Compares one snapshot of the database with what the ledger says."""
    try:
        rules = programmes.load(config.programme)
    except programmes.ProgrammeError as error:
        raise ConfigurationError(str(error)) from None
    connection = await connect(config.database_url, service="tiers-check")
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            snapshot = await store.read_snapshot(connection)
    finally:
        await connection.close()
    channel = own_identity(config, "tiers").open(config.ledger_address, server="ledger")
    try:
        ledger = LedgerClient(channel)
        described = await ledger.describe()
        if described.programme_version != rules.version:
            raise ConfigurationError(
                f"the ledger goes by the programme {described.programme_version}, and not by {rules.version}"
            )
        rebuilding = Rebuilding(rules, snapshot)
        # The ledger is read after the snapshot, so it has all that the snapshot was made of.
        async for entries in ledger.entries({}, follow=False):
            for entry in entries:
                rebuilding.add(entry)
    except LedgerUnavailableError as error:
        raise ConfigurationError(f"the ledger at {config.ledger_address} cannot be read: {error}") from None
    finally:
        await channel.close()
    return rebuilding.compare()


class Rebuilding:
    """Takes in the ledger's entries, each partition's in order, and compares what they make with a snapshot."""

    def __init__(self, rules: Programme, snapshot: Snapshot) -> None:
        self._rules = rules
        self._snapshot = snapshot
        self._simulated = snapshot.clock_mode == ClockMode.SIMULATED.value
        self._stored_movements = {(m.partition, m.movement.ledger_offset): m for m in snapshot.movements}
        self._heads = dict.fromkeys(snapshot.cursors, 0)
        self._clocks = dict.fromkeys(snapshot.cursors, BEGINNING)
        self._states: dict[MemberKey, MemberState] = {}
        self._ahead: dict[MemberKey, RollOffs] = {}
        self._changes: dict[MemberKey, list[Change]] = {}
        self._movements: dict[tuple[int, int], TakenIn] = {}
        self._histories: dict[MemberKey, list[Movement]] = {}
        self._classes: dict[tuple[int, str], LedgerEntry] = {}
        self._found: list[Mapping[str, Any]] = []
        self._differences = 0
        self._checked: Counter[str] = Counter()

    def add(self, entry: LedgerEntry) -> None:
        """Takes in one entry."""
        partition = entry.partition
        if entry.kind in (EntryKind.CLASS_SET, EntryKind.REFUSED):
            self._classes[partition, entry.request_id] = entry
        cursor = self._snapshot.cursors.get(partition)
        if cursor is None or entry.offset > cursor.ledger_offset:
            return
        where = f"entry {partition}-{entry.offset}"
        self._compare("offset without a gap", where, self._heads[partition] + 1, entry.offset)
        self._heads[partition] = entry.offset
        self._checked["entries"] += 1
        key = (partition, entry.member_id)
        if entry.kind is EntryKind.CLOCK:
            self._clocks[partition] = max(self._clocks[partition], entry.occurred_time)
        elif entry.kind is EntryKind.JOINED:
            self._states[key] = joined(entry.occurred_time)
            self._ahead[key] = RollOffs()
            self._changes[key] = []
            self._histories[key] = []
        elif entry.kind in (EntryKind.PURCHASE, EntryKind.RETURN):
            if key not in self._states:
                self._differ("a member joins first", where, "a member who has joined", entry.member_id)
                return
            self._move(key, entry, where)

    def _move(self, key: MemberKey, entry: LedgerEntry, where: str) -> None:
        movement = movement_of(self._rules.tiers, self._rules.zone, entry)
        not_before = self._clocks[entry.partition] if self._simulated else self._seen(key, entry, where)
        happened = Happened(movement=movement, not_before=not_before)
        state, changes = step(self._rules.tiers, self._states[key], happened, self._ahead[key])
        self._states[key] = state
        self._changes[key].extend(changes)
        self._histories[key].append(movement)
        self._movements[entry.partition, entry.offset] = TakenIn(
            partition=entry.partition, member_id=entry.member_id, movement=movement, applied_time=state.as_of
        )

    def _seen(self, key: MemberKey, entry: LedgerEntry, where: str) -> datetime:
        """In real time: from when the movement was seen, as it says itself; no later than time had been processed."""
        stored = self._stored_movements.get((entry.partition, entry.offset))
        if stored is None:
            return BEGINNING
        due = self._snapshot.cursors[entry.partition].due_time or BEGINNING
        latest = max(entry.occurred_time, self._states[key].as_of, due)
        if stored.applied_time > latest:
            self._differ("instant from which a movement was seen", where, f"<= {latest}", stored.applied_time)
        return stored.applied_time

    def compare(self) -> CheckReport:
        """The report, when all entries are in."""
        self._compare_cursors()
        self._compare_maps("movement", self._movements, self._stored_movements)
        self._compare_states()
        self._compare_changes()
        self._compare_notices()
        self._checked["movements"] = len(self._movements)
        self._checked["balance_minor_units"] = sum(state.balance for state in self._states.values())
        self._checked["members"] = len(self._states)
        self._checked["partitions"] = len(self._snapshot.cursors)
        if self._differences > len(self._found):
            self._checked["differences_not_listed"] = self._differences - len(self._found)
        return CheckReport(service="tiers", checked=dict(self._checked), differences=tuple(self._found))

    def _compare_cursors(self) -> None:
        for partition, cursor in self._snapshot.cursors.items():
            where = f"partition {partition}"
            self._compare("last entry taken in", where, self._heads[partition], cursor.ledger_offset)
            self._compare("business time", where, self._clocks[partition], cursor.business_time)
            business_time = min(self._clocks.values())
            if self._simulated and cursor.due_time is not None and cursor.due_time > business_time:
                self._differ("due time", where, f"<= {business_time}", cursor.due_time)

    def _compare_states(self) -> None:
        for key, stored in self._snapshot.states.items():
            due = self._snapshot.cursors[key[0]].due_time if key[0] in self._snapshot.cursors else None
            state = self._states.get(key)
            if state is not None and due is not None and state.as_of < stored.as_of <= due:
                passed = TimePassed(until=stored.as_of)
                self._states[key], changes = step(self._rules.tiers, state, passed, self._ahead[key])
                self._changes[key].extend(changes)
            if due is not None and stored.next_roll_off is not None and stored.next_roll_off <= due:
                self._differ("what was due", _member(key), f"next after {due}", stored.next_roll_off)
        self._compare_maps("state of a member", self._states, self._snapshot.states)
        for key, state in self._states.items():
            history = History(joined_time=state.joined_time, movements=self._histories[key])
            standing = evaluate(self._rules.tiers, history, state.as_of)
            self._compare(
                "step equals evaluate",
                _member(key),
                (standing.balance, standing.level.number, min((m.end_time for m in standing.counted), default=None)),
                (state.balance, state.tier_number, state.next_roll_off),
            )

    def _compare_changes(self) -> None:
        heads = dict.fromkeys(self._snapshot.cursors, 0)
        processed = dict.fromkeys(self._snapshot.cursors, 0)
        by_member: dict[MemberKey, list[TierChange]] = {}
        for stored in self._snapshot.changes:
            place, change = stored.tier_change, stored.tier_change.change
            partition, where = place.partition, f"change {place.partition}-{place.offset}"
            self._compare("number without a gap", where, heads.get(partition, 0) + 1, place.offset)
            heads[partition] = place.offset
            if change.cause_offset is not None:
                self._compare("entries taken in", where, change.cause_offset, place.ledger_offset_processed)
            elif place.ledger_offset_processed < processed.get(partition, 0):
                self._differ("entries taken in", where, f">= {processed[partition]}", place.ledger_offset_processed)
            processed[partition] = place.ledger_offset_processed
            self._compare("version of the programme", where, self._rules.version, stored.programme_version)
            by_member.setdefault((partition, place.member_id), []).append(place)
        for partition, cursor in self._snapshot.cursors.items():
            self._compare("last change", f"partition {partition}", cursor.change_offset, heads[partition])
        for key in self._changes.keys() | by_member.keys():
            rebuilt = self._changes.get(key, [])
            found = [place.change for place in by_member.get(key, [])]
            for number in range(max(len(rebuilt), len(found))):
                self._compare(
                    "change of a tier",
                    f"{_member(key)}, change {number + 1}",
                    rebuilt[number] if number < len(rebuilt) else None,
                    found[number] if number < len(found) else None,
                )
        self._checked["tier_changes"] = len(self._snapshot.changes)

    def _compare_notices(self) -> None:
        """Every change has its earning class in the outbox, or at the ledger, or a newer one of the member there."""
        waiting = {(notice.partition, notice.change_offset): notice for notice in self._snapshot.notices}
        newest: dict[MemberKey, int] = {}
        expected = [notice_of(self._rules, stored.tier_change) for stored in self._snapshot.changes]
        for notice in expected:
            entry = self._classes.get((notice.partition, notice.request_id))
            if entry is not None and entry.kind is EntryKind.CLASS_SET:
                key = (notice.partition, notice.member_id)
                newest[key] = max(notice.sequence, newest.get(key, 0))
        for notice in expected:
            where = f"{_member((notice.partition, notice.member_id))}, change {notice.sequence}"
            waits = waiting.pop((notice.partition, notice.change_offset), None)
            entry = self._classes.get((notice.partition, notice.request_id))
            if waits is not None:
                self._compare("earning class in the outbox", where, notice, waits)
                self._checked["earning_classes_waiting"] += 1
            elif entry is not None:
                if entry.kind is EntryKind.CLASS_SET:
                    self._compare(
                        "earning class at the ledger",
                        where,
                        (notice.member_id, notice.earning_class, notice.effective_time),
                        (entry.member_id, entry.earning_class, entry.effective_time),
                    )
                self._checked["earning_classes_answered"] += 1
            elif newest.get((notice.partition, notice.member_id), 0) < notice.sequence:
                self._differ("earning class told to the ledger", where, notice.earning_class, None)
        for (partition, offset), notice in waiting.items():
            self._differ("earning class in the outbox", f"change {partition}-{offset}", None, notice)

    def _compare_maps(self, what: str, rebuilt: Mapping[Any, Any], stored: Mapping[Any, Any]) -> None:
        for key in _in_order(rebuilt.keys() | stored.keys()):
            self._compare(what, f"partition {key[0]}, {key[1]}", rebuilt.get(key), stored.get(key))

    def _compare(self, what: str, where: str, expected: object, found: object) -> None:
        if expected != found:
            self._differ(what, where, expected, found)

    def _differ(self, what: str, where: str, expected: object, found: object) -> None:
        self._differences += 1
        if len(self._found) < _LISTED:
            self._found.append({"what": what, "where": where, "expected": str(expected), "found": str(found)})


def _member(key: MemberKey) -> str:
    return f"partition {key[0]}, {key[1]}"


def _in_order(keys: Iterable[Any]) -> list[Any]:
    return sorted(keys)
