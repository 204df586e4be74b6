"""Rebuilds every state of the ledger from its entries, verifies every proof, and says what differs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from services.ledger import store
from services.ledger.config import Config
from services.ledger.domain.catching_up import due_time
from services.ledger.domain.encoding import (
    GENESIS,
    chain,
    commit,
    encode_body,
    encode_entry,
    partition_of,
    request_digest,
)
from services.ledger.domain.events import Account, Entry, EntryKind, Event
from services.ledger.domain.journal import Journal
from services.ledger.domain.rules import Rules
from services.ledger.domain.state import (
    Identifier,
    Identifiers,
    LapsedLots,
    Member,
    Redemption,
    evolve_identifiers,
    evolve_lapsed,
    evolve_member,
    evolve_purchase,
    evolve_redemption,
    redemption_of,
)
from services.programme import load
from services.programme.versions import Versions
from services.runtime.clock import SIMULATED_START, ClockMode
from services.runtime.command import CheckReport
from services.runtime.database import Connection, connect

_CHUNK = 2000
_OF_IDENTIFIERS = (EntryKind.IDENTIFIER_LINKED, EntryKind.IDENTIFIER_UNLINKED)
_LISTED = 100
_NEVER = datetime.max.replace(tzinfo=UTC)


class _Findings:
    def __init__(self) -> None:
        self.found: list[Mapping[str, Any]] = []
        self.count = 0

    def differ(self, what: str, where: str, expected: object, found: object) -> None:
        """Notes a difference; the first hundred are listed, all are counted."""
        self.count += 1
        if len(self.found) < _LISTED:
            self.found.append({"what": what, "where": where, "expected": str(expected), "found": str(found)})

    def compare(self, what: str, where: str, expected: object, found: object) -> None:
        """Notes a difference where there is one."""
        if expected != found:
            self.differ(what, where, expected, found)


async def check(config: Config) -> CheckReport:
    """Checks every partition in one snapshot of the database."""
    connection = await connect(config.database_url, service="ledger-check")
    findings = _Findings()
    checked: Counter[str] = Counter()
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            installation = await store.read_installation(connection)
            if installation is not None:
                # The first is stored when the ledger starts.
                stored = await store.read_versions(connection)
                rules = (
                    Rules(stored) if stored else Rules.only(load(config.programme, applied=True), recorded_time=_NEVER)
                )
                identifiers: dict[store.IdentifierKey, Identifier] = {}
                for head in await store.read_heads(connection):
                    rebuilt = await _check_partition(
                        connection, installation.partitions, head, rules, findings, checked
                    )
                    for one in rebuilt.values():
                        _add_identifier(identifiers, one, installation.partitions, findings)
                    await _check_journal(connection, installation, head.partition, rules, findings, checked)
                found = await store.read_identifiers_for_check(connection)
                for key in identifiers.keys() | found.keys():
                    where = f"partition {key.partition}, {key.digest.hex()}"
                    findings.compare("identifier", where, identifiers.get(key), found.get(key))
                checked["identifiers"] += len(found)
    finally:
        await connection.close()
    if findings.count > len(findings.found):
        checked["differences_not_listed"] = findings.count - len(findings.found)
    return CheckReport(service="ledger", checked=dict(checked), differences=tuple(findings.found))


class _Rebuilt:
    """The states of one partition, from its entries alone."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.purchases: dict[tuple[str, str], store.StoredPurchase] = {}
        self.redemptions: dict[tuple[str, str], Redemption] = {}
        self.lapsed: dict[str, LapsedLots] = {}
        self.identifiers: dict[str, Identifiers] = {}

    def add(self, entry: Entry) -> None:
        """Takes in the next entry of a member that has joined, or joins."""
        event = entry.event
        member_id = event.member_id
        self._add_to_purchase(entry)
        if event.kind is EntryKind.REQUEST_REFUSED:
            return
        self.members[member_id] = evolve_member(self.members.get(member_id), event)
        if lapsed := evolve_lapsed(self.lapsed.get(member_id, {}), event):
            self.lapsed[member_id] = lapsed
        if identifiers := evolve_identifiers(self.identifiers.get(member_id, {}), event):
            self.identifiers[member_id] = identifiers
        else:
            self.identifiers.pop(member_id, None)
        if named := redemption_of(event):
            redemption = evolve_redemption(self.redemptions.get((member_id, named)), event)
            if redemption is not None:
                self.redemptions[member_id, named] = redemption

    def _add_to_purchase(self, entry: Entry) -> None:
        event = entry.event
        if not event.purchase_id:
            return
        key = (event.member_id, event.purchase_id)
        known = self.purchases.get(key)
        bought = evolve_purchase(known.purchase if known else None, event)
        if bought is not None:
            arrives = event.kind is EntryKind.PURCHASE_RECORDED
            offset = entry.offset if arrives else known.entry_offset if known else 0
            self.purchases[key] = store.StoredPurchase(purchase=bought, entry_offset=offset)


def _add_identifier(
    identifiers: dict[store.IdentifierKey, Identifier], one: Identifier, partitions: int, findings: _Findings
) -> None:
    key = store.IdentifierKey(partition_of(one.digest.hex(), partitions), one.digest)
    other = identifiers.setdefault(key, one)
    findings.compare("an identifier leads to one member", one.digest.hex(), other.member_id, one.member_id)


async def _check_partition(
    connection: Connection,
    partitions: int,
    head: store.Head,
    rules: Rules,
    findings: _Findings,
    checked: Counter[str],
) -> Mapping[tuple[str, bytes], Identifier]:
    """Checks one partition; the identifiers of its members, by member and digest."""
    partition = head.partition
    rebuilt = _Rebuilt()
    answers: dict[tuple[str, str], Entry] = {}
    # Entries whose detail is not there; the first of each member whose detail is; and where members were erased.
    without: list[Entry] = []
    first_with: dict[str, int] = {}
    erased: dict[str, int] = {}
    offset, previous, recorded, clock = 0, GENESIS, None, None
    versions = 1
    while True:
        chunk = await store.read_entries_for_check(connection, partition, offset, _CHUNK)
        for line in chunk:
            entry, event = line.entry, line.entry.event
            where = f"entry {partition}-{entry.offset}"
            findings.compare("offset without a gap", where, offset + 1, entry.offset)
            _check_proofs(line, previous, where, findings, checked)
            if line.detail is not None:
                first_with.setdefault(event.member_id, entry.offset)
            elif entry.detail_commitment:
                without.append(entry)
            if event.kind is EntryKind.MEMBER_ERASED:
                erased[event.member_id] = entry.offset
            if line.detail is not None and event.kind in _OF_IDENTIFIERS:
                entry = entry._replace(event=event._replace(detail=json.loads(line.detail)))
            if recorded is not None and entry.recorded_time < recorded:
                findings.differ("recorded time never falls", where, f">= {recorded}", entry.recorded_time)
            offset, previous, recorded = entry.offset, entry.hash, entry.recorded_time
            checked["entries"] += 1
            if entry.request_hash:
                twice = answers.setdefault((event.member_id, event.request_id), entry)
                findings.compare("a request makes one answer", where, entry.offset, twice.offset)
            if event.kind is EntryKind.CLOCK_ADVANCED:
                clock = event.occurred_time
                continue
            if event.kind is EntryKind.PROGRAMME_APPLIED:
                versions += 1
                _check_version(rules, versions, event, where, findings)
                continue
            decided_by = rules.first(min(versions, len(rules.stored))).at(event.occurred_time).version
            if entry.recorded_time >= rules.stored[0].recorded_time:
                # What was written before versions were stored may have gone by another file.
                findings.compare("version of the programme", where, decided_by, entry.programme_version)
            findings.compare("home of the member", where, partition_of(event.member_id, partitions), partition)
            _check_points(event, where, findings)
            joins = event.kind is EntryKind.MEMBER_JOINED
            if (event.member_id in rebuilt.members) is joins:
                findings.differ("a member joins first, and once", where, event.member_id, event.kind)
                continue
            rebuilt.add(entry)
            _check_after(rebuilt.members[event.member_id], event, where, findings)
        if len(chunk) < _CHUNK:
            break
    members = rebuilt.members
    for entry in without:
        if entry.offset > erased.get(entry.event.member_id, 0):
            findings.differ("detail of an entry", f"entry {partition}-{entry.offset}", "kept", "missing")
    for member_id, at in erased.items():
        if first_with.get(member_id, at) < at:
            findings.differ("detail of an entry", f"entry {partition}-{first_with[member_id]}", "erased", "kept")
    checked["erased_details"] += len(without)
    identifiers = {(member_id, one): own[one] for member_id, own in rebuilt.identifiers.items() for one in own}
    findings.compare("last offset", f"partition {partition}", offset, head.last_offset)
    findings.compare("head hash", f"partition {partition}", previous.hex(), head.head_hash.hex())
    findings.compare("number of members", f"partition {partition}", len(members), head.members)
    if clock is not None:
        findings.compare("business time", f"partition {partition}", clock, head.business_time)
    findings.compare("versions of the programme", f"partition {partition}", versions, head.versions)
    stored_members = await store.read_members_for_check(connection, partition)
    expected = {
        member_id: _expected(member, stored_members.get(member_id), rules.first(head.versions))
        for member_id, member in members.items()
    }
    reckoned = await store.read_reckoned(connection, partition)
    if reckoned < head.versions:
        # Until all due times are reckoned anew, some are those of before.
        for member_id, member in members.items():
            before = _expected(member, stored_members.get(member_id), rules.first(reckoned))
            if before == stored_members.get(member_id):
                expected[member_id] = before
    for what, states, stored in (
        ("member", expected, stored_members),
        ("purchase", rebuilt.purchases, await store.read_purchases_for_check(connection, partition)),
        ("redemption", rebuilt.redemptions, await store.read_redemptions_for_check(connection, partition)),
        ("lapsed lot", rebuilt.lapsed, await store.read_lapsed_lots_for_check(connection, partition)),
        ("identifier", identifiers, await store.read_member_identifiers_for_check(connection, partition)),
    ):
        _compare_states(what, partition, states, stored, findings)
    await _check_requests(connection, partition, answers, erased, findings, checked)
    checked["partitions"] += 1
    checked["members"] += len(members)
    checked["purchases"] += sum(stored.purchase.arrived for stored in rebuilt.purchases.values())
    checked["points"] += sum(member.available for member in members.values())
    checked["pending_points"] += sum(member.pending_points for member in members.values())
    checked["held_points"] += sum(member.held for member in members.values())
    checked["debt"] += sum(member.debt for member in members.values())
    checked["redemptions"] += len(rebuilt.redemptions)
    return identifiers


def _check_version(rules: Rules, number: int, event: Event, where: str, findings: _Findings) -> None:
    """A partition hears of the versions that are stored, one after the other."""
    if number > len(rules.stored):
        findings.differ("version of the programme", where, "stored", event.reference)
        return
    stored = rules.stored[number - 1]
    told = (event.reference, event.effective_time, event.request_id)
    findings.compare(
        "version of the programme", where, (stored.programme.version, stored.from_time, stored.request_id), told
    )


def _expected(member: Member, stored: store.CheckedMember | None, versions: Versions) -> store.CheckedMember:
    # Which versions are done with no entry says: they are where nothing was left to be written down.
    if stored is not None:
        member = member._replace(version=stored.member.version)
    return store.CheckedMember(
        member=member,
        pending=member.pending_points,
        available=member.available,
        held=member.held,
        due_time=due_time(versions, member),
    )


def _check_points(event: Event, where: str, findings: _Findings) -> None:
    """What an event gives and takes adds up, account by account and rule by rule."""
    held = event.posted(Account.PENDING) + event.posted(Account.AVAILABLE) + event.posted(Account.HELD)
    came = event.posted(Account.ISSUED) + event.posted(Account.ADJUSTED)
    went = event.posted(Account.REDEEMED) + event.posted(Account.EXPIRED)
    findings.compare("points balance", where, came - went, held - event.posted(Account.DEBT))
    findings.compare("points by rule", where, event.points, event.posted(Account.ISSUED))


def _check_after(member: Member, event: Event, where: str, findings: _Findings) -> None:
    after = (member.pending_points, member.available, member.held, member.debt)
    noted = (event.pending_after, event.available_after, event.held_after, event.debt_after)
    findings.compare("balance after", where, after, noted)
    lots = (*member.pending, *member.lots, *(lot for hold in member.holds for lot in hold.lots))
    if member.debt < 0 or any(lot.points < 0 for lot in lots):
        findings.differ("points are never negative", where, ">= 0", after)


def _check_proofs(
    line: store.CheckedEntry, previous: bytes, where: str, findings: _Findings, checked: Counter[str]
) -> None:
    entry = line.entry
    encoding = encode_entry(
        partition=entry.partition,
        offset=entry.offset,
        event=entry.event,
        body=line.body,
        recorded_time=entry.recorded_time,
        principal=entry.principal,
        on_behalf_of=entry.on_behalf_of,
        programme_version=entry.programme_version,
        detail_commitment=entry.detail_commitment,
        request_hash=entry.request_hash,
    )
    findings.compare("hash chain", where, chain(previous, encoding).hex(), entry.hash.hex())
    findings.compare("canonical body", where, encode_body(entry.event), line.body)
    if line.detail is not None and line.salt is not None:
        findings.compare(
            "commitment to the detail", where, commit(line.salt, line.detail).hex(), entry.detail_commitment.hex()
        )
        checked["details"] += 1


def _compare_states(
    what: str, partition: int, rebuilt: Mapping[Any, Any], stored: Mapping[Any, Any], findings: _Findings
) -> None:
    for key in rebuilt.keys() | stored.keys():
        if rebuilt.get(key) != stored.get(key):
            findings.differ(f"state of a {what}", f"partition {partition}, {key}", rebuilt.get(key), stored.get(key))


async def _check_journal(
    connection: Connection,
    installation: store.Installation,
    partition: int,
    rules: Rules,
    findings: _Findings,
    checked: Counter[str],
) -> None:
    """The journal is what the entries that it has come to add up to."""
    # There is none before the ledger first starts.
    place = (await store.read_journal_cursors(connection)).get(partition)
    folded = place.entry_offset if place else 0
    journal = Journal(rules.books, SIMULATED_START if installation.clock_mode is ClockMode.SIMULATED else None)
    after = 0
    while entries := await store.read_booked(connection, partition, after, folded, _CHUNK):
        for _, entry in entries:
            journal.book(entry)
        after = entries[-1][0]
    stored = await store.read_journal_for_check(connection, partition)
    for line in journal.sums.keys() | stored.keys():
        where = f"partition {partition}, {', '.join(map(str, line))}"
        findings.compare("line of the journal", where, journal.sums.get(line, 0), stored.get(line, 0))
    checked["journal_lines"] += len(stored)


async def _check_requests(
    connection: Connection,
    partition: int,
    answers: dict[tuple[str, str], Entry],
    erased: Mapping[str, int],
    findings: _Findings,
    checked: Counter[str],
) -> None:
    """Every entry that answers a request is found by it, and every request finds its answer.

    Requests are forgotten that were made before their member was erased (`erased`: the offset at which it was).
    """
    for row in await store.read_requests_for_check(connection, partition):
        where = f"request {row['request_id']} of member {row['member_id']}"
        answer = answers.pop((row["member_id"], row["request_id"]), None)
        checked["requests"] += 1
        if answer is None:
            # A request that changed nothing has no entry.
            findings.compare("entry that answers the request", where, 0, row["entry_offset"])
            continue
        findings.compare("entry that answers the request", where, answer.offset, row["entry_offset"])
        forgotten = answer.offset < erased.get(row["member_id"], 0)
        findings.compare("request that is forgotten", where, forgotten, not row["salt"])
        if forgotten:
            continue
        digest = request_digest(row["salt"], row["request"])
        findings.compare("hash of the request", where, digest.hex(), answer.request_hash.hex())
    for (member_id, request_id), answer in answers.items():
        where = f"request {request_id} of member {member_id}"
        findings.differ("request of an entry", where, f"kept for entry {partition}-{answer.offset}", "missing")
