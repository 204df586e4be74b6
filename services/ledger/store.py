"""What the ledger keeps in PostgreSQL. The caller gives the connection and owns the transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from services.ledger.domain.encoding import (
    canonical_json,
    decode_after,
    decode_body,
    decode_legs,
    decode_lot,
    decode_rule,
    encode_lot,
    encode_rule,
    from_microseconds,
    to_microseconds,
)
from services.ledger.domain.events import (
    Account,
    Author,
    Entry,
    EntryKind,
    Event,
    LineReturn,
    LotKey,
    PointsAfter,
    PointsPayment,
)
from services.ledger.domain.journal import Booked, Line
from services.ledger.domain.liability import Sum
from services.ledger.domain.lots import Lots, parts_of, text_of
from services.ledger.domain.rules import StoredVersion
from services.ledger.domain.state import (
    Absence,
    AwaitedAdjustment,
    EarningClass,
    Grant,
    Hold,
    Identifier,
    LapsedLots,
    Member,
    Purchase,
    Redemption,
    WaitingReturn,
)
from services.programme import parse
from services.runtime.clock import SIMULATED_START, ClockMode
from services.runtime.database import Connection, load_queries

# By their names: an enumeration takes ten times as long to find its own.
_KINDS = {kind.value: kind for kind in EntryKind}
# Beyond the offset of any entry.
LAST_OFFSET = 2**62
_FORGOTTEN_AT_ONCE = 1000

SQL = load_queries(Path(__file__).parent / "sql" / "queries.sql")


class MemberKey(NamedTuple):
    """Where a member lives."""

    partition: int
    member_id: str


class PurchaseKey(NamedTuple):
    """Where a purchase lives."""

    partition: int
    member_id: str
    purchase_id: str


class RedemptionKey(NamedTuple):
    """Where a redemption lives."""

    partition: int
    member_id: str
    redemption_id: str


class IdentifierKey(NamedTuple):
    """Where an identifier lives."""

    partition: int
    digest: bytes


class RequestKey(NamedTuple):
    """What makes a request the same request."""

    partition: int
    member_id: str
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """How the ledger was created; fixed for its life."""

    partitions: int
    clock_mode: ClockMode


class Head(NamedTuple):
    """The end of one partition of the log, and its clock."""

    partition: int
    last_offset: int
    head_hash: bytes
    recorded_time: datetime
    business_time: datetime
    members: int
    # How many versions of the programme its log tells of.
    versions: int


class KeptRequest(NamedTuple):
    """A request made before, the entry that is its answer (None: nothing was to change), and the last it caused."""

    request: bytes
    entry: Entry | None
    last_offset: int
    # The member's points after the last.
    after: PointsAfter | None
    # Its content is forgotten; `request` is a keyed digest of it.
    forgotten: bool = False


class EntryRow(NamedTuple):
    """An entry as it is inserted: the columns of ledger.entries, in order."""

    partition: int
    entry_offset: int
    kind: str
    member_id: str
    request_id: str
    principal: str
    on_behalf_of: str
    occurred_time: datetime
    recorded_time: datetime
    programme_version: str
    purchase_id: str
    body: str
    detail_commitment: bytes
    request_hash: bytes
    hash: bytes


class DetailRow(NamedTuple):
    """An erasable detail as it is inserted."""

    partition: int
    entry_offset: int
    salt: bytes
    detail: str


class PurchaseRow(NamedTuple):
    """A purchase as it is written."""

    partition: int
    member_id: str
    purchase_id: str
    occurred_time: datetime | None
    amount: int
    goods_paid: int
    grants: str
    returned: int
    returned_goods: int
    returned_lines: str
    voided: bool
    waiting: str
    entry_offset: int
    currency: str
    points_payment: str


class LapsedRow(NamedTuple):
    """Points of a lot that lapsed, or were set against a return or restored (negative)."""

    partition: int
    member_id: str
    activates: str
    expires: str
    points: int


class StoredPurchase(NamedTuple):
    """A purchase with the offset of its entry; 0 before it arrives."""

    purchase: Purchase
    entry_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPurchase:
    """A purchase as it is shown: with its entry's body and what was not forgotten of its detail."""

    purchase: Purchase
    entry_offset: int
    body: Mapping[str, Any]
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedEntry:
    """An entry as it is shown: with its detail but for the lines; None where it has none, or it was erased."""

    entry: Entry
    detail: Mapping[str, Any] | None


class RequestRow(NamedTuple):
    """A request as it is remembered."""

    partition: int
    member_id: str
    request_id: str
    request: bytes
    salt: bytes
    entry_offset: int
    last_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Writes:
    """All that one batch changes."""

    heads: Sequence[Head]
    entries: Sequence[EntryRow]
    details: Sequence[DetailRow]
    requests: Sequence[RequestRow]
    # With the instant at which time next does something to the points.
    members: Mapping[MemberKey, tuple[Member, datetime | None]]
    purchases: Mapping[PurchaseKey, StoredPurchase]
    redemptions: Mapping[RedemptionKey, Redemption]
    lapsed: Sequence[LapsedRow]
    # None: it leads to its member no more.
    identifiers: Mapping[tuple[MemberKey, IdentifierKey], Identifier | None]
    # Those of the purchases that have a row already.
    stored_purchases: Collection[PurchaseKey]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedEntry:
    """An entry as the check reads it: with its body and detail to the letter."""

    entry: Entry
    body: str
    salt: bytes | None
    detail: str | None


async def create(connection: Connection, partitions: int, clock_mode: ClockMode) -> Installation:
    """Creates the ledger the first time; says how it was created."""
    await connection.execute(SQL["create_installation"], partitions, clock_mode.value)
    row = await connection.fetchrow(SQL["read_installation"])
    await connection.execute(SQL["create_partitions"], row["partitions"])
    await connection.execute(SQL["create_journal_cursors"], row["partitions"])
    return Installation(partitions=row["partitions"], clock_mode=ClockMode(row["clock_mode"]))


async def read_installation(connection: Connection) -> Installation | None:
    """How the ledger was created; None where it never was."""
    row = await connection.fetchrow(SQL["read_installation"])
    return row and Installation(partitions=row["partitions"], clock_mode=ClockMode(row["clock_mode"]))


async def lock_versions(connection: Connection) -> None:
    """Holds back whoever else would apply a version of the programme, until the transaction ends."""
    await connection.execute(SQL["lock_versions"])


async def read_versions(connection: Connection, after: int = 0) -> list[StoredVersion]:
    """The versions of the programme after the first so many, in order. Raises ProgrammeError for a damaged one."""
    return [
        StoredVersion(
            number=row["number"],
            programme=parse(row["document"], f"the stored programme {row['version']}", applied=True),
            document=row["document"],
            from_time=row["from_time"],
            recorded_time=row["recorded_time"],
            request_id=row["request_id"],
            principal=row["principal"],
            on_behalf_of=row["on_behalf_of"],
            request=row["request"],
        )
        for row in await connection.fetch(SQL["read_versions"], after)
    ]


async def insert_version(connection: Connection, version: StoredVersion) -> None:
    """Adds a version of the programme."""
    await connection.execute(
        SQL["insert_version"],
        version.number,
        version.programme.version,
        version.document,
        version.from_time,
        version.recorded_time,
        version.request_id,
        version.principal,
        version.on_behalf_of,
        version.request,
    )


async def read_last_version_used(connection: Connection) -> str | None:
    """The name of a version that decided one of the last entries; None where there is no entry."""
    used: str | None = await connection.fetchval(SQL["read_last_version_used"])
    return used


@dataclass(frozen=True, slots=True, kw_only=True)
class Reckoning:
    """With how many versions the due times of a partition's members are reckoned: `done` of the `versions` that its log
    tells of; while that is mended, those up to a member with `under_way`."""

    versions: int
    done: int
    under_way: int
    member_id: str


async def read_unreckoned(connection: Connection) -> list[int]:
    """The partitions whose members' due times were reckoned without their last versions."""
    return [row["partition"] for row in await connection.fetch(SQL["read_unreckoned"])]


async def read_reckoned(connection: Connection, partition: int) -> int:
    """With how many versions all due times of a partition's members are reckoned."""
    done: int = await connection.fetchval(SQL["read_reckoned"], partition)
    return done


async def lock_reckoning(connection: Connection, partition: int) -> Reckoning:
    """How far the due times of a partition are reckoned; nothing is written there until the transaction ends."""
    row = await connection.fetchrow(SQL["lock_reckoning"], partition)
    return Reckoning(
        versions=row["versions"],
        done=row["due_versions"],
        under_way=row["reckoned_versions"],
        member_id=row["reckoned_member_id"],
    )


async def list_member_ids(connection: Connection, partition: int, after: str, limit: int) -> list[str]:
    """Members of a partition after one, in order."""
    return [row["member_id"] for row in await connection.fetch(SQL["list_member_ids"], partition, after, limit)]


async def write_due_times(connection: Connection, partition: int, due: Mapping[str, datetime | None]) -> None:
    """Writes the due times of some members of a partition."""
    await connection.execute(SQL["update_due_times"], partition, list(due), list(due.values()))


async def advance_reckoning(connection: Connection, partition: int, reckoning: Reckoning) -> None:
    """Moves on how far the due times of a partition are reckoned."""
    await connection.execute(
        SQL["advance_reckoning"], partition, reckoning.done, reckoning.under_way, reckoning.member_id
    )


async def lock_heads(connection: Connection, partitions: Sequence[int]) -> dict[int, Head]:
    """The heads of some partitions, locked in ascending order until the transaction ends."""
    return {row["partition"]: Head(**row) for row in await connection.fetch(SQL["lock_partitions"], partitions)}


async def read_heads(connection: Connection) -> list[Head]:
    """The heads of all partitions, ascending."""
    return [Head(**row) for row in await connection.fetch(SQL["read_partitions"])]


async def read_head(connection: Connection, partition: int) -> Head:
    """The head of one partition."""
    return Head(**await connection.fetchrow(SQL["read_partition"], partition))


async def read_members(connection: Connection, keys: Sequence[MemberKey]) -> dict[MemberKey, Member]:
    """Those of the members that exist."""
    if not keys:
        return {}
    rows = await connection.fetch(SQL["read_members"], *zip(*keys, strict=True))
    return {MemberKey(row["partition"], row["member_id"]): _member(row["member_id"], row) for row in rows}


class Named(NamedTuple):
    """What a command is about; an empty request or purchase id is none."""

    partition: int
    member_id: str
    request_id: str
    purchase_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What the commands of a batch are about, as far as it is known."""

    members: dict[MemberKey, Member]
    requests: dict[RequestKey, KeptRequest]
    purchases: dict[PurchaseKey, StoredPurchase]


async def read_batch(connection: Connection, named: Sequence[Named]) -> Read:
    """Members, earlier requests and purchases of the commands of a batch."""
    read = Read(members={}, requests={}, purchases={})
    rows = await connection.fetch(SQL["read_batch"], *zip(*named, strict=True))
    for (partition, member_id, request_id, purchase_id), row in zip(named, rows, strict=True):
        key = MemberKey(partition, member_id)
        if row["member_known"] and key not in read.members:
            read.members[key] = _member(member_id, row)
        if row["request"] is not None:
            read.requests[RequestKey(partition, member_id, request_id)] = KeptRequest(
                request=row["request"],
                entry=None if row["entry_offset"] is None else read_entry(row),
                last_offset=row["last_offset"],
                after=None if row["last_body"] is None else decode_after(row["last_body"]),
                forgotten=row["request_forgotten"],
            )
        if row["bought_id"] is not None:
            read.purchases[PurchaseKey(partition, member_id, purchase_id)] = StoredPurchase(
                _purchase(purchase_id, row["bought_time"], row), row["bought_offset"]
            )
    return read


async def read_details(
    connection: Connection, keys: Sequence[PurchaseKey]
) -> dict[PurchaseKey, Mapping[str, Any] | None]:
    """What can be forgotten of those of the purchases that have arrived; None where it was."""
    if not keys:
        return {}
    rows = await connection.fetch(SQL["read_details"], *zip(*keys, strict=True))
    homes = _homes(keys)
    details: dict[PurchaseKey, Mapping[str, Any] | None] = {}
    for row in rows:
        key = PurchaseKey(homes[row["member_id"]], row["member_id"], row["purchase_id"])
        details[key] = json.loads(row["detail"]) if row["detail"] else None if row["detail_commitment"] else {}
    return details


async def read_redemptions(connection: Connection, keys: Sequence[RedemptionKey]) -> dict[RedemptionKey, Redemption]:
    """Those of the redemptions that exist."""
    if not keys:
        return {}
    rows = await connection.fetch(SQL["read_redemptions"], *zip(*keys, strict=True))
    homes = _homes(keys)
    return {
        RedemptionKey(homes[row["member_id"]], row["member_id"], row["redemption_id"]): _redemption(row) for row in rows
    }


async def read_lapsed_lots(connection: Connection, keys: Sequence[MemberKey]) -> dict[MemberKey, LapsedLots]:
    """The lapsed lots of each of the members."""
    if not keys:
        return {}
    found: dict[MemberKey, dict[LotKey, int]] = {key: {} for key in keys}
    for row in await connection.fetch(SQL["read_lapsed_lots"], *zip(*keys, strict=True)):
        found[MemberKey(row["partition"], row["member_id"])][_lapsed_key(row)] = row["points"]
    return dict(found)


async def read_due_members(connection: Connection, until: Mapping[int, datetime], limit: int) -> list[MemberKey]:
    """Members to whose points time has done something by the instant of their partition, so many of each at most."""
    rows = await connection.fetch(SQL["read_due_members"], list(until), list(until.values()), limit)
    return [MemberKey(row["partition"], row["member_id"]) for row in rows]


async def write(connection: Connection, writes: Writes) -> None:
    """Writes a batch: a fixed number of statements, whatever its size."""
    # What is only ever added goes by COPY: it encodes faster than arrays do, and the server parses less.
    await _copy(connection, "entries", EntryRow._fields, writes.entries)
    await _copy(connection, "entry_details", DetailRow._fields, writes.details)
    await _copy(connection, "requests", RequestRow._fields, writes.requests)
    if writes.members:
        rows = [_member_row(key, member, due) for key, (member, due) in writes.members.items()]
        await connection.execute(SQL["upsert_members"], *zip(*rows, strict=True))
    new: list[PurchaseRow] = []
    changed: list[PurchaseRow] = []
    for purchase_key, purchase in writes.purchases.items():
        rows_of_its_kind = changed if purchase_key in writes.stored_purchases else new
        rows_of_its_kind.append(_purchase_row(purchase_key, purchase))
    await _copy(connection, "purchases", PurchaseRow._fields, new)
    if changed:
        await connection.execute(SQL["update_purchases"], *zip(*changed, strict=True))
    if writes.redemptions:
        redemptions = [
            (*redemption_key, text_of(r.parts), r.debt, r.reversed, r.paid)
            for redemption_key, r in writes.redemptions.items()
        ]
        await connection.execute(SQL["upsert_redemptions"], *zip(*redemptions, strict=True))
    if writes.lapsed:
        await connection.execute(SQL["upsert_lapsed_lots"], *zip(*writes.lapsed, strict=True))
    if writes.identifiers:
        await _write_identifiers(connection, writes.identifiers)
    heads = [
        (h.partition, h.last_offset, h.head_hash, h.recorded_time, h.business_time, h.members, h.versions)
        for h in writes.heads
    ]
    if heads:
        await connection.execute(SQL["advance_partitions"], *zip(*heads, strict=True))


async def _write_identifiers(
    connection: Connection, identifiers: Mapping[tuple[MemberKey, IdentifierKey], Identifier | None]
) -> None:
    there = [(member, key, one) for (member, key), one in identifiers.items() if one is not None]
    gone = [keys for keys, one in identifiers.items() if one is None]
    if there:
        own = [(*member, key.digest, one.kind, one.blocked) for member, key, one in there]
        await connection.execute(SQL["upsert_member_identifiers"], *zip(*own, strict=True))
        rows = [(*key, one.kind, one.member_id, one.blocked) for _, key, one in there]
        await connection.execute(SQL["upsert_identifiers"], *zip(*rows, strict=True))
    if gone:
        own_gone = [(*member, key.digest) for member, key in gone]
        await connection.execute(SQL["delete_member_identifiers"], *zip(*own_gone, strict=True))
        await connection.execute(SQL["delete_identifiers"], *zip(*[key for _, key in gone], strict=True))


async def fix_identifier_key(connection: Connection, fingerprint: bytes) -> bool:
    """Notes by which key identifiers are kept, the first time; whether it is this one."""
    await connection.execute(SQL["create_identifier_key"], fingerprint)
    return bool(await connection.fetchval(SQL["read_identifier_key"]) == fingerprint)


async def read_identifier(connection: Connection, key: IdentifierKey) -> Identifier | None:
    """What is known of an identifier."""
    row = await connection.fetchrow(SQL["read_identifier"], *key)
    return row and Identifier(**row)


async def read_member_identifiers(connection: Connection, key: MemberKey) -> dict[bytes, Identifier]:
    """The identifiers of a member, by digest."""
    return {row["digest"]: Identifier(**row) for row in await connection.fetch(SQL["read_member_identifiers"], *key)}


async def forget(connection: Connection, key: MemberKey, digest: Callable[[bytes], bytes]) -> None:
    """Forgets what can be forgotten of a member's entries, and of its requests all but a digest of each."""
    await connection.execute(SQL["erase_details"], *key)
    while requests := await connection.fetch(SQL["list_requests"], *key, _FORGOTTEN_AT_ONCE):
        ids, contents = [row["request_id"] for row in requests], [digest(row["request"]) for row in requests]
        await connection.execute(SQL["forget_requests"], *key, ids, contents)


async def _copy(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        await connection.copy_records_to_table(table, schema_name="ledger", columns=columns, records=rows)


async def read_feed(connection: Connection, after: Mapping[int, int], limit: int) -> list[Entry]:
    """Up to `limit` entries after the cursors; those of one partition together and in order."""
    # A share for each, so that one long log does not keep the others waiting.
    share = max(limit // 4, 1)
    rows = await connection.fetch(SQL["read_feed"], list(after), list(after.values()), share, limit)
    return [read_entry(row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """Which entries of a member are listed; what is empty or None asks nothing."""

    kinds: Sequence[EntryKind] = ()
    from_time: datetime | None = None
    until_time: datetime | None = None
    purchase_id: str = ""


async def list_entries(
    connection: Connection, key: MemberKey, before: int, limit: int, only: EntryFilter
) -> list[ListedEntry]:
    """A member's entries before an offset, newest first."""
    rows = await connection.fetch(
        SQL["list_entries"],
        key.partition,
        key.member_id,
        before,
        limit,
        [kind.value for kind in only.kinds],
        only.from_time,
        only.until_time,
        only.purchase_id,
    )
    return [
        ListedEntry(entry=read_entry(row), detail=None if row["detail"] is None else json.loads(row["detail"]))
        for row in rows
    ]


async def read_history(
    connection: Connection, key: MemberKey, after: int, recorded_until: datetime | None, limit: int
) -> list[Entry]:
    """A member's entries in order, after an offset, recorded up to a time."""
    rows = await connection.fetch(SQL["read_history"], key.partition, key.member_id, after, recorded_until, limit)
    return [read_entry(row) for row in rows]


async def list_purchases(
    connection: Connection, key: MemberKey, before: int, limit: int, receipt_number: str
) -> list[ListedPurchase]:
    """A member's purchases before an offset, newest first; with a receipt number those that have it."""
    rows = await connection.fetch(SQL["list_purchases"], *key, before, receipt_number, limit)
    return [_listed_purchase(row) for row in rows]


async def read_purchase(connection: Connection, key: PurchaseKey) -> ListedPurchase | None:
    """One purchase; None where it has not arrived."""
    row = await connection.fetchrow(SQL["read_purchase"], *key)
    return None if row is None else _listed_purchase(row)


async def read_entries_for_check(connection: Connection, partition: int, after: int, limit: int) -> list[CheckedEntry]:
    """Entries of one partition with their details, in order."""
    rows = await connection.fetch(SQL["read_entries_for_check"], partition, after, limit)
    return [
        CheckedEntry(entry=read_entry(row), body=row["body"], salt=row["salt"], detail=row["detail"]) for row in rows
    ]


async def read_requests_for_check(connection: Connection, partition: int) -> list[Mapping[str, Any]]:
    """Requests of one partition."""
    return list(await connection.fetch(SQL["read_requests_for_check"], partition))


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedMember:
    """A member as the check reads it: with the sums and the due time that stand beside its lots."""

    member: Member
    pending: int
    available: int
    held: int
    due_time: datetime | None


async def read_members_for_check(connection: Connection, partition: int) -> dict[str, CheckedMember]:
    """All members of one partition."""
    rows = await connection.fetch(SQL["read_members_for_check"], partition)
    return {
        row["member_id"]: CheckedMember(
            member=_member(row["member_id"], row),
            pending=row["pending"],
            available=row["available"],
            held=row["held"],
            due_time=row["due_time"],
        )
        for row in rows
    }


async def read_purchases_for_check(connection: Connection, partition: int) -> dict[tuple[str, str], StoredPurchase]:
    """All purchases of one partition, by member and purchase id."""
    rows = await connection.fetch(SQL["read_purchases_for_check"], partition)
    return {
        (row["member_id"], row["purchase_id"]): StoredPurchase(
            purchase=_purchase(row["purchase_id"], row["occurred_time"], row), entry_offset=row["entry_offset"]
        )
        for row in rows
    }


async def read_redemptions_for_check(connection: Connection, partition: int) -> dict[tuple[str, str], Redemption]:
    """All redemptions of one partition, by member and redemption id."""
    rows = await connection.fetch(SQL["read_redemptions_for_check"], partition)
    return {(row["member_id"], row["redemption_id"]): _redemption(row) for row in rows}


async def read_lapsed_lots_for_check(connection: Connection, partition: int) -> dict[str, dict[LotKey, int]]:
    """All lapsed lots of one partition, by member."""
    found: dict[str, dict[LotKey, int]] = {}
    for row in await connection.fetch(SQL["read_lapsed_lots_for_check"], partition):
        found.setdefault(row["member_id"], {})[_lapsed_key(row)] = row["points"]
    return found


async def read_identifiers_for_check(connection: Connection) -> dict[IdentifierKey, Identifier]:
    """All identifiers, by where they live."""
    rows = await connection.fetch(SQL["read_identifiers_for_check"])
    return {
        IdentifierKey(row["partition"], row["digest"]): Identifier(
            row["digest"], row["kind"], row["member_id"], row["blocked"]
        )
        for row in rows
    }


async def read_member_identifiers_for_check(
    connection: Connection, partition: int
) -> dict[tuple[str, bytes], Identifier]:
    """The identifiers of all members of one partition, by member and digest."""
    rows = await connection.fetch(SQL["read_member_identifiers_for_check"], partition)
    return {
        (row["member_id"], row["digest"]): Identifier(row["digest"], row["kind"], row["member_id"], row["blocked"])
        for row in rows
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPlace:
    """A place in the log of a partition, and its simulated clock there (in real time: its start)."""

    entry_offset: int
    clock: datetime


async def await_batches(connection: Connection, partitions: int) -> dict[int, int]:
    """The last offset of each partition, once the batches that are being committed are done.

    What is recorded later was locked, and read its clock, later.
    """
    # One by one: locks over several shards fail on Citus.
    return {partition: await connection.fetchval(SQL["await_batch"], partition) for partition in range(partitions)}


async def read_unfolded(connection: Connection) -> list[int]:
    """The partitions with entries that are not in the journal."""
    return [row["partition"] for row in await connection.fetch(SQL["read_unfolded"])]


async def read_journal_cursors(connection: Connection) -> dict[int, LogPlace]:
    """How far the journal of each partition is folded."""
    return {
        row["partition"]: LogPlace(entry_offset=row["entry_offset"], clock=row["business_time"])
        for row in await connection.fetch(SQL["read_journal_cursors"])
    }


async def lock_journal_cursor(connection: Connection, partition: int) -> LogPlace:
    """How far the journal of a partition is folded; locked until the transaction ends."""
    row = await connection.fetchrow(SQL["lock_journal_cursor"], partition)
    return LogPlace(entry_offset=row["entry_offset"], clock=row["business_time"])


async def read_booked(
    connection: Connection, partition: int, after: int, until: int, limit: int
) -> list[tuple[int, Booked]]:
    """Entries of a partition as the journal needs them, in order, with their offsets."""
    rows = await connection.fetch(SQL["read_booked"], partition, after, until, limit)
    return [(row["entry_offset"], _booked(row)) for row in rows]


async def read_booked_by_time(connection: Connection, partition: int, after: int, until: datetime) -> list[Booked]:
    """What time did by an instant to what was known at an offset, and was written down after it."""
    return [_booked(row) for row in await connection.fetch(SQL["read_booked_by_time"], partition, after, until)]


async def write_journal(connection: Connection, partition: int, sums: Mapping[Line, int], folded: LogPlace) -> None:
    """Adds to the journal of a partition, and moves its cursor on."""
    if sums:
        rows = [(partition, *line, points) for line, points in sums.items()]
        await connection.execute(SQL["upsert_journal"], *zip(*rows, strict=True))
    await connection.execute(SQL["advance_journal_cursor"], partition, folded.entry_offset, folded.clock)


async def sum_journal(
    connection: Connection, first: date, last: date, recorded_before: date | None
) -> list[tuple[Sum, int]]:
    """The journal up to the last day by day, all before the first as one; what was recorded on earlier days only."""
    return [
        (Sum(row["posting_day"], Account(row["account"]), row["expiry_month"], row["market"]), row["points"])
        for row in await connection.fetch(SQL["sum_journal"], first, last, recorded_before)
    ]


async def find_recorded(connection: Connection, partition: int, before: datetime) -> LogPlace:
    """The last entry of a partition that was recorded before an instant; 0 where there is none."""
    offset = await connection.fetchval(SQL["find_recorded"], partition, before)
    clock = await connection.fetchval(SQL["read_clock"], partition, offset)
    return LogPlace(entry_offset=offset, clock=clock or SIMULATED_START)


async def read_journal_for_check(connection: Connection, partition: int) -> dict[Line, int]:
    """The journal of one partition."""
    return {
        Line(row["posting_day"], row["recorded_day"], Account(row["account"]), row["expiry_month"], row["market"]): row[
            "points"
        ]
        for row in await connection.fetch(SQL["read_journal_for_check"], partition)
    }


async def list_due_members(
    connection: Connection, partition: int, until: datetime, after: tuple[datetime, str], limit: int
) -> list[tuple[datetime, str]]:
    """Members of a partition to whose points time has done something by an instant: since when, and who, in order."""
    rows = await connection.fetch(SQL["list_due_members"], partition, until, *after, limit)
    return [(row["due_time"], row["member_id"]) for row in rows]


def read_entry(row: Mapping[str, Any]) -> Entry:
    """An entry from its row."""
    return Entry(
        partition=row["partition"],
        offset=row["entry_offset"],
        event=Event(
            kind=_KINDS[row["kind"]],
            member_id=row["member_id"],
            request_id=row["request_id"],
            occurred_time=row["occurred_time"],
            purchase_id=row["purchase_id"],
            author=Author(row["principal"], row["on_behalf_of"]),
            **decode_body(row["body"]),
        ),
        recorded_time=row["recorded_time"],
        principal=row["principal"],
        on_behalf_of=row["on_behalf_of"],
        programme_version=row["programme_version"],
        detail_commitment=row["detail_commitment"],
        request_hash=row["request_hash"],
        hash=row["hash"],
    )


def _booked(row: Mapping[str, Any]) -> Booked:
    postings = row["postings"]
    return Booked(
        kind=EntryKind(row["kind"]),
        occurred_time=row["occurred_time"],
        recorded_time=row["recorded_time"],
        legs=decode_legs(json.loads(postings)) if postings else (),
    )


def _homes(keys: Iterable[PurchaseKey | RedemptionKey]) -> dict[str, int]:
    return {key.member_id: key.partition for key in keys}


def _member(member_id: str, row: Mapping[str, Any]) -> Member:
    return Member(
        member_id=member_id,
        joined_time=row["joined_time"],
        channel=row["channel"],
        pending=Lots(row["pending_lots"], row["pending"]),
        lots=Lots(row["lots"], row["available"]),
        holds=_decode_holds(row["holds"]),
        debt=row["debt"],
        earned=row["earned"],
        redeemed=row["redeemed"],
        purchases=row["purchases"],
        activity_time=row["activity_time"],
        adjusted_day=row["adjusted_day"],
        adjusted=row["adjusted"],
        awaited=_decode_awaited(row["awaited"]),
        classes=_decode_classes(row["classes"]),
        version=row["version"],
        market=row["market"],
        absences=_decode_absences(row["absences"]),
        erased_time=row["erased_time"],
    )


def _member_row(key: MemberKey, member: Member, due: datetime | None) -> tuple[Any, ...]:
    return (
        key.partition,
        key.member_id,
        member.joined_time,
        member.channel,
        member.pending_points,
        member.available,
        member.held,
        member.debt,
        member.earned,
        member.redeemed,
        member.purchases,
        member.activity_time,
        member.pending.text,
        member.lots.text,
        _encode_holds(member.holds),
        member.adjusted_day,
        member.adjusted,
        canonical_json(member.awaited) if member.awaited else "[]",
        _encode_classes(member.classes),
        due,
        member.version,
        member.market,
        _encode_absences(member.absences),
        member.erased_time,
    )


def _encode_classes(classes: tuple[EarningClass, ...]) -> str:
    if not classes:
        return "[]"
    return canonical_json([(c.sequence, c.name, to_microseconds(c.effective_time)) for c in classes])


def _decode_classes(text: str) -> tuple[EarningClass, ...]:
    if text == "[]":
        return ()
    return tuple(
        [
            EarningClass(sequence=sequence, name=name, effective_time=from_microseconds(effective))
            for sequence, name, effective in json.loads(text)
        ]
    )


def _encode_absences(absences: tuple[Absence, ...]) -> str:
    if not absences:
        return "[]"
    return canonical_json([(to_microseconds(left), back and to_microseconds(back)) for left, back in absences])


def _decode_absences(text: str) -> tuple[Absence, ...]:
    if text == "[]":
        return ()
    return tuple(
        [
            Absence(from_microseconds(left), None if back is None else from_microseconds(back))
            for left, back in json.loads(text)
        ]
    )


def _purchase(purchase_id: str, occurred: datetime | None, row: Mapping[str, Any]) -> Purchase:
    payment, points_returned, amount_returned = _decode_payment(row["points_payment"])
    return Purchase(
        purchase_id=purchase_id,
        occurred_time=occurred,
        currency=row["currency"],
        amount=row["amount"],
        goods_paid=row["goods_paid"],
        grants=_decode_grants(row["grants"]),
        returned=row["returned"],
        returned_goods=row["returned_goods"],
        returned_lines=_decode_lines(row["returned_lines"]),
        voided=row["voided"],
        waiting=_decode_waiting(row["waiting"]),
        points_payment=payment,
        payment_points_returned=points_returned,
        payment_amount_returned=amount_returned,
    )


def _purchase_row(key: PurchaseKey, stored: StoredPurchase) -> PurchaseRow:
    purchase = stored.purchase
    return PurchaseRow(
        *key,
        purchase.occurred_time,
        purchase.amount,
        purchase.goods_paid,
        canonical_json(
            [[encode_rule(g.rule), *encode_lot(g.lot), g.back, g.taken, g.since] for g in purchase.grants],
        ),
        purchase.returned,
        purchase.returned_goods,
        canonical_json(purchase.returned_lines) if purchase.returned_lines else "[]",
        purchase.voided,
        _encode_waiting(purchase.waiting),
        stored.entry_offset,
        purchase.currency,
        _encode_payment(purchase),
    )


def _listed_purchase(row: Mapping[str, Any]) -> ListedPurchase:
    return ListedPurchase(
        purchase=_purchase(row["purchase_id"], row["occurred_time"], row),
        entry_offset=row["entry_offset"],
        body=decode_body(row["body"]),
        detail=json.loads(row["detail"] or "{}"),
    )


def _redemption(row: Mapping[str, Any]) -> Redemption:
    return Redemption(
        redemption_id=row["redemption_id"],
        parts=parts_of(row["parts"]),
        debt=row["debt"],
        reversed=row["reversed"],
        paid=row["paid"],
        principal=row["principal"],
    )


def _lapsed_key(row: Mapping[str, Any]) -> LotKey:
    return decode_lot(row["activates"], row["expires"])


def _encode_holds(holds: tuple[Hold, ...]) -> str:
    return canonical_json([(h.hold_id, to_microseconds(h.expires), h.lots.text) for h in holds]) if holds else "[]"


def _decode_holds(text: str) -> tuple[Hold, ...]:
    if text == "[]":
        return ()
    return tuple(
        [Hold(hold_id, from_microseconds(expires), Lots.read(lots)) for hold_id, expires, lots in json.loads(text)]
    )


def _decode_awaited(text: str) -> tuple[AwaitedAdjustment, ...]:
    return tuple([AwaitedAdjustment(*one) for one in json.loads(text)]) if text != "[]" else ()


def _decode_grants(text: str) -> tuple[Grant, ...]:
    return tuple(
        [
            Grant(decode_rule(rule), decode_lot(activates, expires), back, taken, since)
            for rule, activates, expires, back, taken, since in json.loads(text)
        ]
    )


def _decode_lines(text: str) -> tuple[LineReturn, ...]:
    return tuple([LineReturn(*line) for line in json.loads(text)]) if text != "[]" else ()


def _encode_payment(purchase: Purchase) -> str:
    if purchase.points_payment is None:
        return "[]"
    return canonical_json(
        [*purchase.points_payment, purchase.payment_points_returned, purchase.payment_amount_returned]
    )


def _decode_payment(text: str) -> tuple[PointsPayment | None, int, int]:
    if text == "[]":
        return None, 0, 0
    redemption_id, points, amount, points_returned, amount_returned = json.loads(text)
    return PointsPayment(redemption_id, points, amount), points_returned, amount_returned


def _encode_waiting(waiting: tuple[WaitingReturn, ...]) -> str:
    if not waiting:
        return "[]"
    return canonical_json(
        [
            [
                w.request_id,
                to_microseconds(w.occurred_time),
                w.amount,
                w.goods,
                w.reason,
                w.channel,
                w.lines,
                w.exchange_id,
                *(w.author or ("", "")),
                w.currency,
            ]
            for w in waiting
        ]
    )


def _decode_waiting(text: str) -> tuple[WaitingReturn, ...]:
    if text == "[]":
        return ()
    return tuple(
        [
            WaitingReturn(
                request_id=request_id,
                occurred_time=from_microseconds(occurred),
                amount=amount,
                goods=goods,
                reason=reason,
                channel=channel,
                lines=tuple([LineReturn(*line) for line in lines]),
                exchange_id=exchange_id,
                author=Author(principal, on_behalf_of),
                currency=currency,
            )
            for (
                request_id,
                occurred,
                amount,
                goods,
                reason,
                channel,
                lines,
                exchange_id,
                principal,
                on_behalf_of,
                currency,
            ) in json.loads(text)
        ]
    )
