"""What the ledger keeps in PostgreSQL. The caller gives the connection and owns the transaction."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from services.ledger.domain.encoding import canonical_json, decode_body, from_microseconds, to_microseconds
from services.ledger.domain.events import Entry, EntryKind, Event, RulePoints
from services.ledger.domain.state import EarningClass, Member, Purchase, WaitingReturn
from services.runtime.clock import ClockMode
from services.runtime.database import Connection, load_queries

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of one partition of the log, and its clock."""

    partition: int
    last_offset: int
    head_hash: bytes
    recorded_time: datetime
    business_time: datetime
    members: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRequest:
    """A request made before, the entry that is its answer (None: nothing was to change), and the last it caused."""

    request: bytes
    entry: Entry | None
    last_offset: int


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
    amount: int
    goods_paid: int
    rules: str
    returned: int
    returned_goods: int
    returned_points: int
    waiting: str


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
    members: Mapping[MemberKey, Member]
    purchases: Mapping[PurchaseKey, Purchase]
    # Those of the purchases that have a row already.
    stored_purchases: Collection[PurchaseKey]
    earning_classes: Sequence[tuple[MemberKey, EarningClass]]


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
    return Installation(partitions=row["partitions"], clock_mode=ClockMode(row["clock_mode"]))


async def read_installation(connection: Connection) -> Installation | None:
    """How the ledger was created; None where it never was."""
    row = await connection.fetchrow(SQL["read_installation"])
    return row and Installation(partitions=row["partitions"], clock_mode=ClockMode(row["clock_mode"]))


async def lock_heads(connection: Connection, partitions: Sequence[int]) -> dict[int, Head]:
    """The heads of some partitions, locked in ascending order until the transaction ends."""
    return {row["partition"]: Head(**row) for row in await connection.fetch(SQL["lock_partitions"], partitions)}


async def read_heads(connection: Connection) -> list[Head]:
    """The heads of all partitions, ascending."""
    return [Head(**row) for row in await connection.fetch(SQL["read_partitions"])]


async def read_members(connection: Connection, keys: Sequence[MemberKey]) -> dict[MemberKey, Member]:
    """Those of the members that exist, with their earning classes."""
    if not keys:
        return {}
    partitions, ids = zip(*keys, strict=True)
    rows = await connection.fetch(SQL["read_members"], partitions, ids)
    classes = _classes_by_member(await connection.fetch(SQL["read_earning_classes"], partitions, ids))
    return {
        MemberKey(row["partition"], row["member_id"]): _member(row, classes.get(row["member_id"], ())) for row in rows
    }


async def read_requests(connection: Connection, keys: Sequence[RequestKey]) -> dict[RequestKey, KeptRequest]:
    """Those of the requests that were made before."""
    if not keys:
        return {}
    rows = await connection.fetch(SQL["read_requests"], *zip(*keys, strict=True))
    return {
        RequestKey(row["home"], row["asked_for"], row["asked_as"]): KeptRequest(
            request=row["request"],
            entry=None if row["entry_offset"] is None else read_entry(row),
            last_offset=row["last_offset"],
        )
        for row in rows
    }


async def read_purchases(connection: Connection, keys: Sequence[PurchaseKey]) -> dict[PurchaseKey, Purchase]:
    """Those of the purchases that are known, or waited for."""
    if not keys:
        return {}
    rows = await connection.fetch(SQL["read_purchases"], *zip(*keys, strict=True))
    partition_of = {key[1:]: key.partition for key in keys}
    return {
        PurchaseKey(
            partition_of[row["member_id"], row["purchase_id"]], row["member_id"], row["purchase_id"]
        ): _purchase(row)
        for row in rows
    }


async def write(connection: Connection, writes: Writes) -> None:
    """Writes a batch: a fixed number of statements, whatever its size."""
    # What is only ever added goes by COPY: it encodes faster than arrays do, and the server parses less.
    await _copy(connection, "entries", EntryRow._fields, writes.entries)
    await _copy(connection, "entry_details", DetailRow._fields, writes.details)
    await _copy(connection, "requests", RequestRow._fields, writes.requests)
    if writes.members:
        rows = [
            (key.partition, key.member_id, m.joined_time, m.channel, m.available, m.debt, m.earned)
            for key, m in writes.members.items()
        ]
        await connection.execute(SQL["upsert_members"], *zip(*rows, strict=True))
    if writes.earning_classes:
        classes = [
            (key.partition, key.member_id, c.sequence, c.name, c.effective_time) for key, c in writes.earning_classes
        ]
        await connection.execute(SQL["insert_earning_classes"], *zip(*classes, strict=True))
    new: list[PurchaseRow] = []
    changed: list[PurchaseRow] = []
    for purchase_key, purchase in writes.purchases.items():
        rows_of_its_kind = changed if purchase_key in writes.stored_purchases else new
        rows_of_its_kind.append(_purchase_row(purchase_key, purchase))
    await _copy(connection, "purchases", PurchaseRow._fields, new)
    if changed:
        await connection.execute(SQL["update_purchases"], *zip(*changed, strict=True))
    heads = [
        (h.partition, h.last_offset, h.head_hash, h.recorded_time, h.business_time, h.members) for h in writes.heads
    ]
    if heads:
        await connection.execute(SQL["advance_partitions"], *zip(*heads, strict=True))


async def _copy(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        await connection.copy_records_to_table(table, schema_name="ledger", columns=columns, records=rows)


async def read_feed(connection: Connection, after: Mapping[int, int], limit: int) -> list[Entry]:
    """Up to `limit` entries after the cursors; those of one partition together and in order."""
    # A share for each, so that one long log does not keep the others waiting.
    share = max(limit // 4, 1)
    rows = await connection.fetch(SQL["read_feed"], list(after), list(after.values()), share, limit)
    return [read_entry(row) for row in rows]


async def list_entries(connection: Connection, key: MemberKey, before: int, limit: int) -> list[Entry]:
    """A member's entries before an offset, newest first."""
    rows = await connection.fetch(SQL["list_entries"], key.partition, key.member_id, before, limit)
    return [read_entry(row) for row in rows]


async def read_entries_for_check(connection: Connection, partition: int, after: int, limit: int) -> list[CheckedEntry]:
    """Entries of one partition with their details, in order."""
    rows = await connection.fetch(SQL["read_entries_for_check"], partition, after, limit)
    return [
        CheckedEntry(entry=read_entry(row), body=row["body"], salt=row["salt"], detail=row["detail"]) for row in rows
    ]


async def read_requests_for_check(connection: Connection, partition: int) -> list[Mapping[str, Any]]:
    """Requests of one partition."""
    return list(await connection.fetch(SQL["read_requests_for_check"], partition))


async def read_members_for_check(connection: Connection, partition: int) -> dict[str, Member]:
    """All members of one partition."""
    classes = _classes_by_member(await connection.fetch(SQL["read_earning_classes_for_check"], partition))
    rows = await connection.fetch(SQL["read_members_for_check"], partition)
    return {row["member_id"]: _member(row, classes.get(row["member_id"], ())) for row in rows}


async def read_purchases_for_check(connection: Connection, partition: int) -> dict[tuple[str, str], Purchase]:
    """All purchases of one partition, by member and purchase id."""
    rows = await connection.fetch(SQL["read_purchases_for_check"], partition)
    return {(row["member_id"], row["purchase_id"]): _purchase(row) for row in rows}


def read_entry(row: Mapping[str, Any]) -> Entry:
    """An entry from its row."""
    return Entry(
        partition=row["partition"],
        offset=row["entry_offset"],
        event=Event(
            kind=EntryKind(row["kind"]),
            member_id=row["member_id"],
            request_id=row["request_id"],
            occurred_time=row["occurred_time"],
            purchase_id=row["purchase_id"],
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


def _member(row: Mapping[str, Any], classes: tuple[EarningClass, ...]) -> Member:
    return Member(
        member_id=row["member_id"],
        joined_time=row["joined_time"],
        channel=row["channel"],
        available=row["available"],
        debt=row["debt"],
        earned=row["earned"],
        classes=classes,
    )


def _classes_by_member(rows: Iterable[Mapping[str, Any]]) -> dict[str, tuple[EarningClass, ...]]:
    classes: dict[str, tuple[EarningClass, ...]] = {}
    for row in rows:
        one = EarningClass(sequence=row["sequence"], name=row["name"], effective_time=row["effective_time"])
        classes[row["member_id"]] = (*classes.get(row["member_id"], ()), one)
    return classes


def _purchase(row: Mapping[str, Any]) -> Purchase:
    return Purchase(
        purchase_id=row["purchase_id"],
        amount=row["amount"],
        goods_paid=row["goods_paid"],
        rules=_decode_rules(row["rules"]),
        returned=row["returned"],
        returned_goods=row["returned_goods"],
        returned_points=row["returned_points"],
        waiting=_decode_waiting(row["waiting"]),
    )


def _purchase_row(key: PurchaseKey, purchase: Purchase) -> PurchaseRow:
    return PurchaseRow(
        *key,
        purchase.amount,
        purchase.goods_paid,
        _encode_rules(purchase.rules),
        purchase.returned,
        purchase.returned_goods,
        purchase.returned_points,
        _encode_waiting(purchase.waiting),
    )


def _encode_rules(rules: tuple[RulePoints, ...]) -> str:
    return canonical_json([[r.rule, r.points, r.base, r.rate_points, r.rate_per, r.multiplier_bp] for r in rules])


def _decode_rules(text: str) -> tuple[RulePoints, ...]:
    return tuple(
        RulePoints(rule=rule, points=points, base=base, rate_points=rate, rate_per=per, multiplier_bp=multiplier)
        for rule, points, base, rate, per, multiplier in json.loads(text)
    )


def _encode_waiting(waiting: tuple[WaitingReturn, ...]) -> str:
    if not waiting:
        return "[]"
    return canonical_json(
        [[w.request_id, to_microseconds(w.occurred_time), w.amount, w.goods, w.reason, w.channel] for w in waiting]
    )


def _decode_waiting(text: str) -> tuple[WaitingReturn, ...]:
    return tuple(
        WaitingReturn(
            request_id=request_id,
            occurred_time=from_microseconds(occurred),
            amount=amount,
            goods=goods,
            reason=reason,
            channel=channel,
        )
        for request_id, occurred, amount, goods, reason, channel in json.loads(text)
    )
