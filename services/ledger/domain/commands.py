"""What callers ask of the ledger, after the contract's field rules have passed. Money in minor units."""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

# Member ids that the ledger makes: UUIDv5 in this namespace of caller and request id (DESIGN §4).
_MEMBER_IDS = uuid.UUID("6f1f2f0e-6c0b-5d0e-9a53-7a4d7c1a9b10")


def derived_member_id(principal: str, request_id: str) -> str:
    """The id of a member enrolled without one; the same for the same caller and request."""
    return str(uuid.uuid5(_MEMBER_IDS, f"{principal}/{request_id}"))


class LineKind(enum.StrEnum):
    """What a line of a receipt is."""

    GOODS = "goods"
    SHIPPING = "shipping"
    GIFT_CARD = "gift_card"


class Line(NamedTuple):
    """One line of a receipt. A named tuple: a busy ledger makes ten of these for every purchase."""

    sku: str
    name: str
    department: str
    category: str
    quantity: int
    amount: int
    kind: LineKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What every write says. `request` is the canonical request as sent, before defaults."""

    member_id: str
    request_id: str
    principal: str
    on_behalf_of: str
    occurred_time: datetime | None
    request: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollMember(Command):
    """A member joins."""

    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement(Command):
    """What purchases and returns have in common; `lines` may be empty."""

    purchase_id: str
    currency: str
    amount: int
    lines: tuple[Line, ...]
    store_id: str
    receipt_number: str
    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPurchase(Movement):
    """A member bought something. `purchase_id` is never empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordReturn(Movement):
    """A member brought something back; an empty `purchase_id` is an unlinked return."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AwardPoints(Command):
    """Points are given outside a purchase."""

    points: int
    reason: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetEarningClass(Command):
    """The class a member earns in from `effective_time` on; older sequences change nothing."""

    earning_class: str
    effective_time: datetime
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvanceClock:
    """The business time of one partition of a simulated installation moves on."""

    partition: int
    to_time: datetime
    request_id: str
    principal: str
    on_behalf_of: str
    request: bytes
    # Nobody's: the request is the partition's.
    member_id: str = ""


MemberCommand = EnrollMember | RecordPurchase | RecordReturn | AwardPoints | SetEarningClass
