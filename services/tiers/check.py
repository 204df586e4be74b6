"""Rebuilds all that tiers stores from the ledger's entries and from what was decided here, and says what differs.

Entries are lived through again with the same `step`, up to each partition's cursor. Due runs leave no entry: what
they do to a member depends on the instants alone, so a member is brought on to the instant at which its state stands.
Which number a change has in its partition depends on how partitions interleaved; so numbers must have no gap, and
contents are compared for each member in its own order. In a real-time installation, up to when all had been processed
when a fact was seen is only known from the fact itself, and is taken from there, within its bounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from services.programme import Versions
from services.runtime.clock import ClockMode
from services.runtime.command import CheckReport, own_identity
from services.runtime.config import ConfigurationError
from services.runtime.database import connect
from services.tiers import store
from services.tiers.config import Config
from services.tiers.domain.facts import BEGINNING, Fact, FactKind, MemberKey, Movement, history_of
from services.tiers.domain.feed import NOTHING_KNOWN, EntryKind, FactReader, LedgerEntry, Members
from services.tiers.domain.standing import evaluate
from services.tiers.domain.track import Change, MemberState
from services.tiers.errors import LedgerUnavailableError
from services.tiers.ledger_client import LedgerClient
from services.tiers.service import notice_of, read_versions, tells_class
from services.tiers.store import Snapshot, StoredChange

_LISTED = 100


async def check(config: Config) -> CheckReport:
    """Compares one snapshot of the database with what the ledger says."""
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
        rebuilding = Rebuilding(read_versions(described.versions), snapshot)
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

    def __init__(self, versions: Versions, snapshot: Snapshot) -> None:
        self._versions = versions
        self._snapshot = snapshot
        self._simulated = snapshot.clock_mode == ClockMode.SIMULATED.value
        self._stored = {(f.partition, f.fact.ledger_offset, f.fact.number): f for f in snapshot.facts}
        self._waiting = sorted(
            (partition, offset, number) for (partition, number), offset in snapshot.decisions.items()
        )
        self._heads = dict.fromkeys(snapshot.cursors, 0)
        self._clocks = dict.fromkeys(snapshot.cursors, BEGINNING)
        self._members = Members(versions, NOTHING_KNOWN, remembers=True)
        self._changes: dict[MemberKey, list[Change]] = {}
        self._facts: dict[MemberKey, list[Fact]] = {}
        self._reader = FactReader(versions, {})
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
        self._decided(partition, entry.offset)
        self._heads[partition] = entry.offset
        self._checked["entries"] += 1
        key = (partition, entry.member_id)
        if entry.kind is EntryKind.CLOCK:
            self._clocks[partition] = max(self._clocks[partition], entry.occurred_time)
        elif entry.kind is EntryKind.FACT:
            if entry.fact_kind is not FactKind.JOINED and key not in self._members.states:
                self._differ("a member joins first", where, "a member who has joined", entry.member_id)
                return
            self._take(key, self._fact(key, entry), where)

    def _fact(self, key: MemberKey, entry: LedgerEntry) -> Fact:
        """The fact in an entry, as `take_in` reads it."""
        joins = entry.fact_kind is FactKind.JOINED
        return self._reader.read(entry, entry.name if joins else self._members.states[key].carried.market)

    def _decided(self, partition: int, before: int) -> None:
        """Takes in what was decided here before an entry of the ledger was."""
        while self._waiting and self._waiting[0][0] <= partition and self._waiting[0][:2] < (partition, before):
            home, _, number = self._waiting.pop(0)
            stored = self._stored.get((home, 0, number))
            where = f"decision {home}-{number}"
            if stored is None:
                self._differ("fact of a decision", where, "one", None)
            elif stored.fact.kind < FactKind.CONFIRMED:
                self._differ("kind of a decision", where, "decided here", stored.fact.kind.name)
            elif (home, stored.member_id) not in self._members.states:
                self._differ("a member joins first", where, "a member who has joined", stored.member_id)
            else:
                self._take((home, stored.member_id), stored.fact, where)
            self._checked["decisions"] += 1

    def _take(self, key: MemberKey, fact: Fact, where: str) -> None:
        stored = self._stored.pop((key[0], fact.ledger_offset, fact.number), None)
        not_before = self._clocks[key[0]]
        if stored is not None and stored.fact in (fact, fact._replace(exchange_id="")):
            # An older release kept no exchanges, and of simulated installations, too, when the ledger recorded it.
            fact = stored.fact
        elif self._simulated:
            fact = fact.known_by(not_before)
        self._compare("fact", where, fact, None if stored is None else stored.fact)
        if not self._simulated and stored is not None:
            not_before = stored.applied_time
            due = self._snapshot.cursors[key[0]].due_time or BEGINNING
            latest = max(fact.occurred_time, fact.recorded_time, due)
            if not_before > latest:
                self._differ("instant up to which all had been processed", where, f"<= {latest}", not_before)
        self._facts.setdefault(key, []).append(fact)
        self._changes.setdefault(key, []).extend(self._members.take(key, fact, not_before))

    def compare(self) -> CheckReport:
        """The report, when all entries are in."""
        for partition in sorted(self._snapshot.cursors):
            self._decided(partition, self._heads[partition] + 1)
        for partition, offset, number in self._stored:
            self._differ("fact", f"partition {partition}, entry {offset}, decision {number}", None, "one")
        self._compare_cursors()
        self._compare_states()
        self._compare_movements()
        self._compare_changes()
        self._compare_notices()
        states = self._members.states
        self._checked["facts"] = len(self._snapshot.facts)
        self._checked["movements"] = sum(len(movements) for movements in self._snapshot.movements.values())
        self._checked["balance"] = sum(state.balance for state in states.values())
        self._checked["members"] = len(states)
        self._checked["partitions"] = len(self._snapshot.cursors)
        if self._differences > len(self._found):
            self._checked["differences_not_listed"] = self._differences - len(self._found)
        return CheckReport(service="tiers", checked=dict(self._checked), differences=tuple(self._found))

    def _compare_cursors(self) -> None:
        for partition, cursor in self._snapshot.cursors.items():
            where = f"partition {partition}"
            self._compare("last entry taken in", where, self._heads[partition], cursor.ledger_offset)
            self._compare("business time", where, self._clocks[partition], cursor.business_time)
            decisions = max((number for home, number in self._snapshot.decisions if home == partition), default=0)
            self._compare("last decision", where, decisions, cursor.decision_number)
            business_time = min(self._clocks.values())
            if self._simulated and cursor.due_time is not None and cursor.due_time > business_time:
                self._differ("due time", where, f"<= {business_time}", cursor.due_time)

    def _compare_states(self) -> None:
        states = self._members.states
        for key, stored in self._snapshot.states.items():
            cursor = self._snapshot.cursors.get(key[0])
            due = None if cursor is None else cursor.due_time
            state = states.get(key)
            if state is not None and state.as_of < stored.as_of <= max(due or BEGINNING, self._last_version(stored)):
                self._changes[key].extend(self._members.let_pass(key, stored.as_of))
            if due is not None and stored.next_due is not None and stored.next_due <= due:
                self._differ("what was due", _member(key), f"next after {due}", stored.next_due)
        self._compare_maps("state of a member", states, self._snapshot.states)
        for key, state in states.items():
            if state.carried.resigned:
                continue
            standing = evaluate(self._versions, history_of(self._facts[key]), state.as_of)
            self._compare(
                "step equals evaluate",
                _member(key),
                (standing.balance, standing.level.number, 0 if standing.benefits is None else standing.benefits.number),
                (state.balance, state.tier_number, state.benefits_number),
            )

    def _last_version(self, state: MemberState) -> datetime:
        """From when the version holds that a standing goes by."""
        return self._versions[state.version].from_time if state.version < len(self._versions) else BEGINNING

    def _compare_movements(self) -> None:
        rebuilt = self._members.effects({}, ())
        for key in rebuilt.states.keys() | self._snapshot.movements.keys():
            expected = [*rebuilt.redrawn.get(key, ()), *rebuilt.movements.get(key, ())]
            found = self._snapshot.movements.get(key, ())
            self._compare("movements", _member(key), _by_offset(expected), _by_offset(found))

    def _compare_changes(self) -> None:
        heads = dict.fromkeys(self._snapshot.cursors, 0)
        processed = dict.fromkeys(self._snapshot.cursors, 0)
        by_member: dict[MemberKey, list[StoredChange]] = {}
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
            version = self._versions.at(change.changed_time).version
            self._compare("version of the programme", where, version, stored.programme_version)
            by_member.setdefault((partition, place.member_id), []).append(stored)
        for partition, cursor in self._snapshot.cursors.items():
            self._compare("last change", f"partition {partition}", cursor.change_offset, heads[partition])
        for key in self._changes.keys() | by_member.keys():
            rebuilt = self._changes.get(key, [])
            found = []
            for number, stored in enumerate(by_member.get(key, [])):
                change = stored.tier_change.change
                found.append(change)
                if not stored.has_reason and number < len(rebuilt):
                    # Why it was made an older release did not keep.
                    rebuilt[number] = replace(rebuilt[number], reason=change.reason, corrects=change.corrects)
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
        expected = []
        decided_for = self._snapshot.decided_for
        decided_by = {
            (taken.partition, taken.fact.number): decided_for.get((taken.partition, taken.fact.number))
            or taken.fact.principal
            for taken in self._snapshot.facts
            if taken.fact.number
        }
        for stored in self._snapshot.changes:
            change = stored.tier_change
            state = self._members.states.get((change.partition, change.member_id))
            if state is not None and tells_class(change):
                number = change.change.cause_number
                whose = "" if number is None else decided_by.get((change.partition, number), "")
                expected.append(notice_of(self._versions, state.carried.market, change, whose))
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


def _by_offset(movements: Iterable[Movement]) -> list[Movement]:
    return sorted(movements, key=lambda movement: movement.ledger_offset)


def _in_order(keys: Iterable[Any]) -> list[Any]:
    return sorted(keys)
