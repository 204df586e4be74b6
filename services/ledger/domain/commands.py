"""What callers ask of the ledger, after the contract's field rules have passed. Money in minor units."""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from services.ledger.domain.events import LineReturn, PointsPayment
from services.ledger.domain.rules import StoredVersion
from services.programme.calendar import Window

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
    market: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResignMember(Command):
    """A member leaves."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RejoinMember(Command):
    """A member that had left comes back."""

    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkIdentifier(Command):
    """An identifier leads to a member from now on. `digest` is all that is known of its value."""

    kind: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlinkIdentifier(Command):
    """An identifier leads to its member no more. `reason`: an UnlinkReason."""

    digest: bytes
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseMember(Command):
    """A member is forgotten, for good."""

    reason: str


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
    exchange_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPurchase(Movement):
    """A member bought something. `purchase_id` is never empty; `amount` and `lines` count what points paid, too."""

    points_payment: PointsPayment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordReturn(Movement):
    """A member brought something back; an empty `purchase_id` is an unlinked return.

    `returned_lines` name lines of the purchase, by quantity or by amount (the other is 0); with them the amount may
    be 0: it is their sum.
    """

    reason: str
    returned_lines: tuple[LineReturn, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidPurchase(Command):
    """A purchase is undone whole, in its store and on its local day."""

    purchase_id: str
    store_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordActivity(Command):
    """A member did something that is no purchase; `reference` is what it was about."""

    activity: str
    reference: str
    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordMembershipFee(Command):
    """A member paid for a membership, from `start_time` (None: from when it was paid) up to `end_time`."""

    plan: str
    currency: str
    amount: int
    start_time: datetime | None
    end_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AwardPoints(Command):
    """Points are given outside a purchase; with a `purchase_id` they fall with the return of that purchase.

    `lasting`: how long they last, instead of as the programme says.
    """

    points: int
    reason: str
    note: str
    purchase_id: str = ""
    lasting: Window | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustPoints(Command):
    """Points are added or taken (negative) by hand.

    `approves` or `declines` names an adjustment that awaits another principal. `restores_expired`: points that lapsed
    are given back.
    """

    points: int
    reason: str
    note: str
    approves: str = ""
    declines: str = ""
    restores_expired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RedeemPoints(Command):
    """Points are spent. `offline`: they were spent already while the till could not reach the ledger."""

    points: int
    reason: str
    note: str
    purchase_id: str
    store_id: str
    channel: str
    offline: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseRedemption(Command):
    """Points of a redemption are given back; 0 points: all that are left of it."""

    redemption_id: str
    points: int
    reason: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldPoints(Command):
    """Points are set aside for a time."""

    points: int
    ttl: timedelta
    reason: str
    purchase_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureHold(Command):
    """Held points are spent; 0 points: all of them."""

    hold_id: str
    points: int
    reason: str
    purchase_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseHold(Command):
    """Held points are let go; 0 points: all of them."""

    hold_id: str
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendHold(Command):
    """A hold lasts for a time from now."""

    hold_id: str
    ttl: timedelta


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TellVersion:
    """A partition hears of a version of the programme that was stored."""

    version: StoredVersion
    # Nobody's.
    member_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatchUp:
    """What time has done to a member's points is written down. Nobody's request: the ledger asks itself."""

    member_id: str


MemberCommand = (
    EnrollMember
    | ResignMember
    | RejoinMember
    | LinkIdentifier
    | UnlinkIdentifier
    | EraseMember
    | RecordPurchase
    | RecordReturn
    | VoidPurchase
    | RecordActivity
    | RecordMembershipFee
    | AwardPoints
    | AdjustPoints
    | RedeemPoints
    | ReverseRedemption
    | HoldPoints
    | CaptureHold
    | ReleaseHold
    | ExtendHold
    | SetEarningClass
)
