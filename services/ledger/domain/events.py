"""What the ledger writes down: events, and entries, which are events with a place in the log."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


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


class Account(enum.StrEnum):
    """Where points are. Over all postings: available - debt = issued."""

    AVAILABLE = "available"
    DEBT = "debt"
    ISSUED = "issued"


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """Points added to an account (negative: taken away)."""

    account: Account
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RulePoints:
    """What one rule gave (negative: took), with all that it was computed from.

    A rate rule gives floor(base x rate_points x multiplier_bp / (rate_per x 10000)); base and rate_per in minor
    units. Rules that give a fixed number have rate_per 0.
    """

    rule: str
    points: int
    base: int = 0
    rate_points: int = 0
    rate_per: int = 0
    multiplier_bp: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened to a member, as decided by the rules. Money in minor units of `currency`."""

    kind: EntryKind
    member_id: str
    request_id: str
    occurred_time: datetime
    purchase_id: str = ""
    currency: str = ""
    amount: int = 0
    # Goods among the amount; None where that is not known (a return that waits and named no lines).
    goods_paid: int | None = None
    postings: tuple[Posting, ...] = ()
    rules: tuple[RulePoints, ...] = ()
    available_after: int = 0
    debt_after: int = 0
    earning_class: str = ""
    effective_time: datetime | None = None
    sequence: int = 0
    reason: str = ""
    channel: str = ""
    # Erasable: kept beside the entry, which holds only a commitment to it.
    detail: Mapping[str, Any] | None = None

    @property
    def points(self) -> int:
        """Points given in all (negative: taken)."""
        return sum(rule.points for rule in self.rules)

    def posted(self, account: Account) -> int:
        """What the event adds to an account."""
        return sum(posting.points for posting in self.postings if posting.account is account)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
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
