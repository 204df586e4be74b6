"""What the ledger writes down: events, and entries, which are events with a place in the log.

Named tuples: a busy ledger makes some of each for every write, and they are made three times as fast as frozen
dataclasses.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, NamedTuple

from services.programme.model import at_rate


class EntryKind(enum.StrEnum):
    """What an entry says happened."""

    MEMBER_JOINED = "MEMBER_JOINED"
    PURCHASE_RECORDED = "PURCHASE_RECORDED"
    RETURN_RECORDED = "RETURN_RECORDED"
    RETURN_WAITING = "RETURN_WAITING"
    POINTS_AWARDED = "POINTS_AWARDED"
    EARNING_CLASS_SET = "EARNING_CLASS_SET"
    REQUEST_REFUSED = "REQUEST_REFUSED"
    CLOCK_ADVANCED = "CLOCK_ADVANCED"
    POINTS_ACTIVATED = "POINTS_ACTIVATED"
    POINTS_EXPIRED = "POINTS_EXPIRED"
    POINTS_REDEEMED = "POINTS_REDEEMED"
    REDEMPTION_REVERSED = "REDEMPTION_REVERSED"
    POINTS_HELD = "POINTS_HELD"
    HOLD_CAPTURED = "HOLD_CAPTURED"
    HOLD_RELEASED = "HOLD_RELEASED"
    HOLD_EXTENDED = "HOLD_EXTENDED"
    HOLD_EXPIRED = "HOLD_EXPIRED"
    POINTS_ADJUSTED = "POINTS_ADJUSTED"
    ADJUSTMENT_REQUESTED = "ADJUSTMENT_REQUESTED"
    PURCHASE_VOIDED = "PURCHASE_VOIDED"
    ADJUSTMENT_DECLINED = "ADJUSTMENT_DECLINED"
    POINTS_RESTORED = "POINTS_RESTORED"
    MEMBER_RESIGNED = "MEMBER_RESIGNED"
    MEMBER_REJOINED = "MEMBER_REJOINED"
    ACTIVITY_RECORDED = "ACTIVITY_RECORDED"
    MEMBERSHIP_FEE_RECORDED = "MEMBERSHIP_FEE_RECORDED"
    PROGRAMME_APPLIED = "PROGRAMME_APPLIED"
    IDENTIFIER_LINKED = "IDENTIFIER_LINKED"
    IDENTIFIER_UNLINKED = "IDENTIFIER_UNLINKED"
    MEMBER_ERASED = "MEMBER_ERASED"


class Account(enum.StrEnum):
    """Where points are, and where they came from or went.

    Over all postings: pending + available + held - debt = issued + adjusted - redeemed - expired.
    """

    PENDING = "pending"
    AVAILABLE = "available"
    HELD = "held"
    DEBT = "debt"
    ISSUED = "issued"
    REDEEMED = "redeemed"
    EXPIRED = "expired"
    ADJUSTED = "adjusted"


class LotKey(NamedTuple):
    """A lot: points with one activation day and one expiry day, both local; they last through the second.

    Active points that never expire are one lot, `UNDATED`, whatever day they became active, so that the number of
    lots stays small.
    """

    activates: date | None
    expires: date | None


UNDATED = LotKey(None, None)


class Posting(NamedTuple):
    """Points added to an account (negative: taken away), and the lot they lie in.

    Pending, available and held points lie in lots; expired ones name the lot that lapsed, or, where undated points
    lapsed by inactivity, the day of the member's last activity.
    """

    account: Account
    points: int
    lot: LotKey = UNDATED


class Author(NamedTuple):
    """Who an entry is by."""

    principal: str
    on_behalf_of: str

    @property
    def acting(self) -> str:
        """Who decided it: the one the principal acts for, or itself."""
        return self.on_behalf_of or self.principal


# What time does by itself is written down by the ledger.
LEDGER = Author("ledger", "")


class Flag(enum.StrEnum):
    """What is to be noted of an event."""

    BACK_DATED = "BACK_DATED"
    OFFLINE_OVERDRAWN = "OFFLINE_OVERDRAWN"
    # Of an adjustment that waits for approval: it would restore points that lapsed.
    RESTORES_EXPIRED = "RESTORES_EXPIRED"


class UnlinkReason(enum.StrEnum):
    """Why an identifier leads to its member no more."""

    LOST = "lost"
    STOLEN = "stolen"
    REPLACED = "replaced"
    OTHER = "other"


class LineReturn(NamedTuple):
    """What came back of one line of a purchase: its number (from 1), and pieces and minor units of it."""

    number: int
    quantity: int
    amount: int


class PointsPayment(NamedTuple):
    """What points paid of a purchase, or what of that came back: points of a redemption, and what they had paid."""

    # Empty in a quote: nothing is redeemed yet.
    redemption_id: str
    points: int
    amount: int


class Exchange(NamedTuple):
    """The rate of a day: `minor_units` of another currency are worth `home_minor_units` of the market's own."""

    # The market's own.
    currency: str
    minor_units: int
    home_minor_units: int

    def at_home(self, minor_units: int) -> int:
        """An amount in the market's currency: as `Market.at_home` on that day."""
        return at_rate(minor_units, self.minor_units, self.home_minor_units)


class RulePoints(NamedTuple):
    """What one rule gave (negative: took), with all that it was computed from.

    A rate rule gives floor(base x rate_points x multiplier_bp / (rate_per x 10000)); base in minor units of the
    event's currency, rate_per in those of the market's, in which `exchange` gives the base where they are two.
    Rules that give a fixed number have rate_per 0.
    """

    rule: str
    points: int
    base: int = 0
    rate_points: int = 0
    rate_per: int = 0
    multiplier_bp: int = 10_000
    # The lines of the purchase that it counts; empty where it counts them all.
    lines: tuple[int, ...] = ()
    # None where the base is in the market's currency.
    exchange: Exchange | None = None


class PointsAfter(NamedTuple):
    """A member's points after an event."""

    pending: int
    available: int
    held: int
    debt: int


class Event(NamedTuple):
    """What happened to a member, as decided by the rules. Money in minor units of `currency`."""

    kind: EntryKind
    member_id: str
    request_id: str
    occurred_time: datetime
    purchase_id: str = ""
    currency: str = ""
    amount: int = 0
    # Goods among the amount, without what points paid of them; None where that is not known (a return that waits and
    # named no lines). Of a return that waits: with it, for only the purchase can tell.
    goods_paid: int | None = None
    postings: tuple[Posting, ...] = ()
    rules: tuple[RulePoints, ...] = ()
    pending_after: int = 0
    available_after: int = 0
    held_after: int = 0
    debt_after: int = 0
    earning_class: str = ""
    effective_time: datetime | None = None
    sequence: int = 0
    reason: str = ""
    channel: str = ""
    # The request id of the hold, redemption or adjustment that it is about; the name of an activity; a fee's plan; the
    # kind of an identifier.
    reference: str = ""
    # Of a hold: what it still holds, and when it runs out. Of a fee: when what it paid for ends.
    hold_left: int = 0
    expire_time: datetime | None = None
    # What an adjustment that waits for approval would add.
    requested_points: int = 0
    # The local day that an adjustment counts for.
    adjusted_day: date | None = None
    returned_lines: tuple[LineReturn, ...] = ()
    exchange_id: str = ""
    flags: tuple[Flag, ...] = ()
    # Of a member that joined: its home market; empty for the programme's own.
    market: str = ""
    # Of a purchase what points paid; of a return or void what of that it gave back. The points themselves go back by
    # the REDEMPTION_REVERSED before it.
    points_payment: PointsPayment | None = None
    # Who it is by; None: whoever sent the command.
    author: Author | None = None
    # Erasable: kept beside the entry, which holds only a commitment to it.
    detail: Mapping[str, Any] | None = None

    @property
    def points(self) -> int:
        """Points given in all (negative: taken)."""
        return sum(rule.points for rule in self.rules)

    @property
    def after(self) -> PointsAfter:
        """The member's points after it."""
        return PointsAfter(self.pending_after, self.available_after, self.held_after, self.debt_after)

    def posted(self, account: Account) -> int:
        """What the event adds to an account."""
        return sum(posting.points for posting in self.postings if posting.account is account)


class Entry(NamedTuple):
    """One immutable line of the ledger: an event with its place, its author and its proof."""

    partition: int
    offset: int
    event: Event
    recorded_time: datetime
    principal: str
    on_behalf_of: str
    programme_version: str
    # SHA-256 of salt and detail; empty where there is no detail.
    detail_commitment: bytes
    # SHA-256 of salt and canonical request; empty where another request than its own made the entry.
    request_hash: bytes
    hash: bytes
