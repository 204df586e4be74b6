"""The canonical encoding of entries, version 1, and the hash chain (docs/architecture.md has it as a recipe).

An entry is the lengths of these fields in this order, each as 4 bytes big-endian, and then the fields themselves;
texts in UTF-8, integers in decimal, times as decimal microseconds since 1970-01-01T00:00:00Z:

    "loyalty-entry-1", partition, offset, kind, member_id, request_id, principal, on_behalf_of, occurred_time,
    recorded_time, programme_version, purchase_id, body, detail_commitment, request_hash

`body` is JSON with sorted keys, no white space, integers and strings only; what is empty or zero is left out.
hash = SHA-256(hash of the entry before, or 32 zero bytes || encoding). detail_commitment = SHA-256(salt || detail),
request_hash = SHA-256(salt || request): the salts lie with the detail and the request, and are forgotten with them.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

from services.ledger.domain.events import (
    UNDATED,
    Account,
    Event,
    Exchange,
    Flag,
    LineReturn,
    LotKey,
    PointsAfter,
    PointsPayment,
    Posting,
    RulePoints,
)
from services.ledger.domain.journal import Leg, month_of

VERSION = b"loyalty-entry-1"
GENESIS = bytes(32)

_ACCOUNTS = {account.value: account for account in Account}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LENGTHS = struct.Struct(">15I")
_dump = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


def to_microseconds(time: datetime) -> int:
    """Microseconds since the epoch, exactly."""
    return (time - _EPOCH) // _MICROSECOND


def from_microseconds(number: int) -> datetime:
    """The aware UTC time of a number of microseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=number)


def canonical_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """JSON with sorted keys and no white space."""
    return _dump(value)


def encode_body(event: Event) -> str:
    """What is particular to the event, as canonical JSON."""
    body: dict[str, Any] = {}
    if event.currency:
        body["currency"] = event.currency
    if event.amount:
        body["amount"] = event.amount
    if event.goods_paid is not None:
        body["goods_paid"] = event.goods_paid
    if event.postings:
        body["postings"] = [
            [account.value, points, *encode_lot(lot)] if lot != UNDATED else [account.value, points]
            for account, points, lot in event.postings
        ]
    if event.rules:
        body["rules"] = [encode_rule(rule) for rule in event.rules]
    if event.pending_after:
        body["pending"] = event.pending_after
    if event.available_after:
        body["available"] = event.available_after
    if event.held_after:
        body["held"] = event.held_after
    if event.debt_after:
        body["debt"] = event.debt_after
    if event.earning_class:
        body["class"] = event.earning_class
    if event.effective_time is not None:
        body["effective"] = to_microseconds(event.effective_time)
    if event.sequence:
        body["sequence"] = event.sequence
    if event.reason:
        body["reason"] = event.reason
    if event.channel:
        body["channel"] = event.channel
    if event.reference:
        body["reference"] = event.reference
    if event.hold_left:
        body["hold_left"] = event.hold_left
    if event.expire_time is not None:
        body["expire"] = to_microseconds(event.expire_time)
    if event.requested_points:
        body["requested"] = event.requested_points
    if event.adjusted_day is not None:
        body["adjusted_day"] = event.adjusted_day.isoformat()
    if event.returned_lines:
        body["returned_lines"] = event.returned_lines
    if event.exchange_id:
        body["exchange"] = event.exchange_id
    if event.flags:
        body["flags"] = [flag.value for flag in event.flags]
    if event.market:
        body["market"] = event.market
    if event.points_payment is not None:
        body["points_payment"] = event.points_payment
    return _dump(body)


def decode_body(body: str) -> dict[str, Any]:
    """The fields of an Event that a body holds; those that are not there have their defaults."""
    fields: dict[str, Any] = {}
    for key, value in json.loads(body).items():
        field, decode = _FIELDS[key]
        fields[field] = value if decode is None else decode(value)
    return fields


def decode_legs(encoded: Sequence[Sequence[Any]]) -> list[Leg]:
    """The postings of a body as the journal needs them; the days of their lots are not looked at."""
    return [Leg(_ACCOUNTS[account], points, month_of(lot[1]) if lot else "") for account, points, *lot in encoded]


def decode_after(body: str) -> PointsAfter:
    """The member's points after an event, from its body."""
    read = json.loads(body)
    return PointsAfter(read.get("pending", 0), read.get("available", 0), read.get("held", 0), read.get("debt", 0))


# All lots have the same few days.
@lru_cache(maxsize=8192)
def encode_lot(lot: LotKey) -> tuple[str, str]:
    """The days of a lot as texts, `2027-01-31`; empty where there is none."""
    return (
        "" if lot.activates is None else lot.activates.isoformat(),
        "" if lot.expires is None else lot.expires.isoformat(),
    )


@lru_cache(maxsize=8192)
def decode_lot(activates: str = "", expires: str = "") -> LotKey:
    """The lot of two days as texts."""
    if not activates and not expires:
        return UNDATED
    return LotKey(
        date.fromisoformat(activates) if activates else None, date.fromisoformat(expires) if expires else None
    )


def encode_rule(rule: RulePoints) -> list[Any]:
    """A rule as an array; its lines only where it does not count them all, its rate where its base is not at home."""
    encoded = [rule.rule, rule.points, rule.base, rule.rate_points, rule.rate_per, rule.multiplier_bp]
    if rule.exchange is not None:
        return [*encoded, rule.lines, rule.exchange]
    return [*encoded, rule.lines] if rule.lines else encoded


def decode_rule(encoded: Sequence[Any]) -> RulePoints:
    """A rule from its array."""
    rule, points, base, rate, per, multiplier, *rest = encoded
    lines = tuple(rest[0]) if rest else ()
    exchange = Exchange(*rest[1]) if len(rest) > 1 else None
    return RulePoints(rule, points, base, rate, per, multiplier, lines, exchange)


def encode_entry(
    *,
    partition: int,
    offset: int,
    event: Event,
    body: str,
    recorded_time: datetime,
    principal: str,
    on_behalf_of: str,
    programme_version: str,
    detail_commitment: bytes,
    request_hash: bytes,
) -> bytes:
    """The canonical encoding of an entry; `body` is the event's encoded body."""
    fields = (
        VERSION,
        b"%d" % partition,
        b"%d" % offset,
        event.kind.value.encode(),
        event.member_id.encode(),
        event.request_id.encode(),
        principal.encode(),
        on_behalf_of.encode(),
        b"%d" % to_microseconds(event.occurred_time),
        b"%d" % to_microseconds(recorded_time),
        programme_version.encode(),
        event.purchase_id.encode(),
        body.encode(),
        detail_commitment,
        request_hash,
    )
    return _LENGTHS.pack(*map(len, fields)) + b"".join(fields)


def chain(previous: bytes, encoding: bytes) -> bytes:
    """The hash of an entry."""
    return hashlib.sha256(previous + encoding).digest()


def commit(salt: bytes, detail: str) -> bytes:
    """The commitment to an erasable detail."""
    return hashlib.sha256(salt + detail.encode()).digest()


def request_digest(salt: bytes, request: bytes) -> bytes:
    """The salted hash of a canonical request that its entry carries."""
    return hashlib.sha256(salt + request).digest()


def partition_of(member_id: str, partitions: int) -> int:
    """The home of a member: a stable hash of its id."""
    return int.from_bytes(hashlib.sha256(member_id.encode()).digest()[:8]) % partitions


def _decode_postings(encoded: Sequence[Sequence[Any]]) -> tuple[Posting, ...]:
    return tuple(
        [
            Posting(_ACCOUNTS[account], points, decode_lot(*lot)) if lot else Posting(_ACCOUNTS[account], points)
            for account, points, *lot in encoded
        ]
    )


def _decode_rules(encoded: Sequence[Sequence[Any]]) -> tuple[RulePoints, ...]:
    return tuple([decode_rule(rule) for rule in encoded])


def _decode_returned_lines(encoded: Sequence[Sequence[int]]) -> tuple[LineReturn, ...]:
    return tuple([LineReturn(*line) for line in encoded])


def _decode_flags(encoded: Sequence[str]) -> tuple[Flag, ...]:
    return tuple([Flag(flag) for flag in encoded])


def _decode_points_payment(encoded: Sequence[Any]) -> PointsPayment:
    return PointsPayment(*encoded)


# Keys of a body: the field of the event, and how it is read where it is no number or text.
_FIELDS: Mapping[str, tuple[str, Callable[[Any], Any] | None]] = {
    "currency": ("currency", None),
    "amount": ("amount", None),
    "goods_paid": ("goods_paid", None),
    "postings": ("postings", _decode_postings),
    "rules": ("rules", _decode_rules),
    "pending": ("pending_after", None),
    "available": ("available_after", None),
    "held": ("held_after", None),
    "debt": ("debt_after", None),
    "class": ("earning_class", None),
    "effective": ("effective_time", from_microseconds),
    "sequence": ("sequence", None),
    "reason": ("reason", None),
    "channel": ("channel", None),
    "reference": ("reference", None),
    "hold_left": ("hold_left", None),
    "expire": ("expire_time", from_microseconds),
    "requested": ("requested_points", None),
    "adjusted_day": ("adjusted_day", date.fromisoformat),
    "returned_lines": ("returned_lines", _decode_returned_lines),
    "exchange": ("exchange_id", None),
    "flags": ("flags", _decode_flags),
    "market": ("market", None),
    "points_payment": ("points_payment", _decode_points_payment),
}
