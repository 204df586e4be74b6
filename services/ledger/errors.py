"""Errors of the ledger. The docstring of each is its message.

LedgerError
├── RejectedError            the request cannot be taken as it is; nothing is written or kept
│   ├── MemberUnknownError
│   ├── NotEnrolledError
│   ├── MarketUnknownError
│   ├── CurrencyMismatchError
│   ├── AmountNotPositiveError
│   ├── FeePeriodError
│   ├── LinesDoNotAddUpError
│   ├── PaymentExceedsGoodsError
│   ├── OccurredInFutureError
│   ├── OccurredTooEarlyError
│   ├── PurchaseUnknownError
│   ├── IdentifierUnknownError
│   ├── IdentifierBlockedError
│   ├── BatchSpansPartitionsError
│   ├── BatchAbortedError
│   ├── PeriodError
│   ├── ClockNotSimulatedError
│   ├── RequestIdReusedError
│   ├── ProgrammeInvalidError
│   ├── ProgrammeOrderError
│   ├── ProgrammeUnchangedError
│   ├── AnnouncementTooShortError
│   ├── ProgrammeUnknownError
│   ├── PageTokenError
│   └── CursorAheadError
├── RefusedError             a rule of the programme says no; the refusal is an entry, and the answer for ever
└── PoisonedError            the database refuses this one command
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from services.programme.model import Redemption


class LedgerError(Exception):
    """The ledger cannot do this."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or type(self).__doc__)


class RejectedError(LedgerError):
    """The request cannot be taken as it is."""


class MemberUnknownError(RejectedError):
    """no member has this id; enrol the member first"""


class NotEnrolledError(RejectedError):
    """the member had not joined at that time, as far as was known"""


class MarketUnknownError(RejectedError):
    """the programme has no market of this key"""


class CurrencyMismatchError(RejectedError):
    """the amount is in a currency that is not taken"""


class AmountNotPositiveError(RejectedError):
    """amount.minor_units must be more than zero"""


class FeePeriodError(RejectedError):
    """what a fee pays for ends after it begins"""


class LinesDoNotAddUpError(RejectedError):
    """the lines do not add up to the amount"""


class PaymentExceedsGoodsError(RejectedError):
    """points pay for no more than the goods of the purchase come to; shipping and gift cards are paid with money"""


class OccurredInFutureError(RejectedError):
    """the event lies in the future"""


class OccurredTooEarlyError(RejectedError):
    """the event lies further back than the programme allows"""


class PurchaseUnknownError(RejectedError):
    """the member has no purchase with this id"""


class IdentifierUnknownError(RejectedError):
    """nobody has this identifier; look for a mistake in it, or link it to a member first"""


class IdentifierBlockedError(RejectedError):
    """the identifier leads to nobody any more"""

    def __init__(self, kind: str = "", blocked: str = "") -> None:
        noun = {"card": "card", "phone": "phone number"}.get(kind, "identifier")
        told = {"lost": "was reported as lost", "stolen": "was reported as stolen", "replaced": "has been replaced"}
        super().__init__(
            f"this {noun} {told.get(blocked, 'is blocked')} and can be used no more; find the member by another one"
        )
        self.blocked = blocked


class BatchSpansPartitionsError(RejectedError):
    """an all-or-none batch is for members of one partition, such as one member alone"""


class BatchAbortedError(RejectedError):
    """another write of this all-or-none batch failed, so this call did none of them"""


class PeriodError(RejectedError):
    """the period is a year (2026) or a month (2026-10) that has begun"""


class ClockNotSimulatedError(RejectedError):
    """this installation lives in real time; its clock moves by itself"""


class RequestIdReusedError(RejectedError):
    """this request id was used before with other content; nothing was changed"""

    def __init__(self, *, kept: bytes | None, sent: bytes) -> None:
        """`kept`: the content of the one before; None where it was forgotten."""
        super().__init__()
        self.kept = kept
        self.sent = sent


class ProgrammeInvalidError(RejectedError):
    """the document is no programme that could follow the one before"""

    def __init__(self, message: str = "", problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class ProgrammeOrderError(RejectedError):
    """a version begins after the one before it, and not in the past"""


class ProgrammeUnchangedError(RejectedError):
    """the last version of the programme says the same already"""


class AnnouncementTooShortError(RejectedError):
    """a version that takes something away from members is announced ahead"""


class ProgrammeUnknownError(RejectedError):
    """no version of the programme has this name; `loyalty programme list` shows those there are"""


class PageTokenError(RejectedError):
    """the page token was not given out by this list"""


class CursorAheadError(RejectedError):
    """a cursor lies beyond the end of the log; was the ledger restored from a backup?"""


class Refusal(enum.StrEnum):
    """Why a rule of the programme says no: the reasons of the contract."""

    MEMBER_EXISTS = "MEMBER_EXISTS"
    PURCHASE_EXISTS = "PURCHASE_EXISTS"
    RETURN_EXCEEDS_PURCHASE = "RETURN_EXCEEDS_PURCHASE"
    TOO_MANY_WAITING_RETURNS = "TOO_MANY_WAITING_RETURNS"
    EARNING_CLASS_UNKNOWN = "EARNING_CLASS_UNKNOWN"
    BALANCE_OUT_OF_RANGE = "BALANCE_OUT_OF_RANGE"
    NOT_ENOUGH_POINTS = "NOT_ENOUGH_POINTS"
    REDEMPTION_BELOW_MINIMUM = "REDEMPTION_BELOW_MINIMUM"
    REDEMPTION_NOT_IN_STEPS = "REDEMPTION_NOT_IN_STEPS"
    REDEMPTION_UNKNOWN = "REDEMPTION_UNKNOWN"
    REVERSAL_EXCEEDS_REDEMPTION = "REVERSAL_EXCEEDS_REDEMPTION"
    HOLD_UNKNOWN = "HOLD_UNKNOWN"
    CAPTURE_EXCEEDS_HOLD = "CAPTURE_EXCEEDS_HOLD"
    TOO_MANY_HOLDS = "TOO_MANY_HOLDS"
    ADJUSTMENT_UNKNOWN = "ADJUSTMENT_UNKNOWN"
    ADJUSTMENT_DIFFERS = "ADJUSTMENT_DIFFERS"
    APPROVAL_BY_SAME_PRINCIPAL = "APPROVAL_BY_SAME_PRINCIPAL"
    TOO_MANY_ADJUSTMENTS = "TOO_MANY_ADJUSTMENTS"
    NOT_SO_MANY_EXPIRED = "NOT_SO_MANY_EXPIRED"
    MEMBER_INACTIVE = "MEMBER_INACTIVE"
    PURCHASE_UNKNOWN = "PURCHASE_UNKNOWN"
    PURCHASE_RETURNED = "PURCHASE_RETURNED"
    PURCHASE_VOIDED = "PURCHASE_VOIDED"
    VOID_OTHER_STORE = "VOID_OTHER_STORE"
    VOID_TOO_LATE = "VOID_TOO_LATE"
    POINTS_SPENT = "POINTS_SPENT"
    LINE_UNKNOWN = "LINE_UNKNOWN"
    LINE_RETURN_EXCEEDS_PURCHASE = "LINE_RETURN_EXCEEDS_PURCHASE"
    RETURNED_LINES_DIFFER = "RETURNED_LINES_DIFFER"
    DETAIL_ERASED = "DETAIL_ERASED"
    MEMBER_RESIGNED = "MEMBER_RESIGNED"
    MEMBER_ENROLLED = "MEMBER_ENROLLED"
    MEMBERSHIP_CHANGED_LATER = "MEMBERSHIP_CHANGED_LATER"
    PLAN_UNKNOWN = "PLAN_UNKNOWN"
    ACCOUNT_SUSPENDED = "ACCOUNT_SUSPENDED"
    RETURN_CURRENCY_DIFFERS = "RETURN_CURRENCY_DIFFERS"
    PAYMENT_EXCEEDS_REDEMPTION = "PAYMENT_EXCEEDS_REDEMPTION"
    REDEMPTION_PAID_PURCHASE = "REDEMPTION_PAID_PURCHASE"
    REDEMPTION_OF_REWARD = "REDEMPTION_OF_REWARD"
    IDENTIFIER_TAKEN = "IDENTIFIER_TAKEN"
    IDENTIFIER_UNKNOWN = "IDENTIFIER_UNKNOWN"
    IDENTIFIER_BLOCKED = "IDENTIFIER_BLOCKED"
    TOO_MANY_IDENTIFIERS = "TOO_MANY_IDENTIFIERS"
    MEMBER_ERASED = "MEMBER_ERASED"


REFUSAL_MESSAGES = {
    Refusal.MEMBER_EXISTS: "a member with this id joined by another request",
    Refusal.PURCHASE_EXISTS: "a purchase with this id was recorded for the member by another request",
    Refusal.RETURN_EXCEEDS_PURCHASE: "more would be returned than was bought and not yet returned",
    Refusal.TOO_MANY_WAITING_RETURNS: "too many returns already wait for this purchase to arrive",
    Refusal.EARNING_CLASS_UNKNOWN: "the programme has no earning class of this name",
    Refusal.BALANCE_OUT_OF_RANGE: "the balance would leave the range that a balance may have",
    Refusal.NOT_ENOUGH_POINTS: "the member does not have so many points available",
    Refusal.REDEMPTION_BELOW_MINIMUM: "these are too few points to redeem",
    Refusal.REDEMPTION_NOT_IN_STEPS: "points are redeemed in steps, and this is no multiple of them",
    Refusal.REDEMPTION_UNKNOWN: "the member has no redemption with this id",
    Refusal.REVERSAL_EXCEEDS_REDEMPTION: "more would be given back than was redeemed and not yet given back",
    Refusal.HOLD_UNKNOWN: "no points are held under this id: it never was, ran out, or was captured or released",
    Refusal.CAPTURE_EXCEEDS_HOLD: "the hold does not hold so many points",
    Refusal.TOO_MANY_HOLDS: "the member has too many holds; capture or release one first",
    Refusal.ADJUSTMENT_UNKNOWN: "no adjustment with this id awaits approval",
    Refusal.ADJUSTMENT_DIFFERS: "the adjustment that awaits approval has other points or another restores_expired",
    Refusal.APPROVAL_BY_SAME_PRINCIPAL: "whoever asked for an adjustment cannot approve it; somebody else must",
    Refusal.TOO_MANY_ADJUSTMENTS: "too many adjustments of this member await approval; approve or decline one first",
    Refusal.NOT_SO_MANY_EXPIRED: (
        "not so many of the member's points lapsed, less those restored or set against a return since; "
        "to give more, adjust without restores_expired"
    ),
    Refusal.MEMBER_INACTIVE: (
        "the member has been inactive for so long that its points lapse at once; "
        "restore them after its next purchase, redemption or activity"
    ),
    Refusal.PURCHASE_UNKNOWN: "the member has no purchase with this id",
    Refusal.PURCHASE_RETURNED: "all of this purchase came back already",
    Refusal.PURCHASE_VOIDED: "this purchase was voided already",
    Refusal.VOID_OTHER_STORE: "a purchase is voided in the store that sold it; elsewhere it can be returned",
    Refusal.VOID_TOO_LATE: "a purchase is voided on its own day; later it can be returned",
    Refusal.POINTS_SPENT: "the points of this purchase were spent, and the programme then takes no return",
    Refusal.LINE_UNKNOWN: "the purchase has no line of this number",
    Refusal.LINE_RETURN_EXCEEDS_PURCHASE: "more of a line would be returned than was bought and not yet returned",
    Refusal.RETURNED_LINES_DIFFER: "the returned lines come to another sum than the amount",
    Refusal.DETAIL_ERASED: "the lines and the store of this purchase were erased; return it by amount",
    Refusal.MEMBER_RESIGNED: "the member had left by then",
    Refusal.MEMBER_ENROLLED: "the member has not left",
    Refusal.MEMBERSHIP_CHANGED_LATER: "the member joined, left or came back after that",
    Refusal.PLAN_UNKNOWN: "no level of the programme has this plan",
    Refusal.ACCOUNT_SUSPENDED: "the account is suspended, and its points are frozen",
    Refusal.RETURN_CURRENCY_DIFFERS: "the purchase was paid in another currency",
    Refusal.PAYMENT_EXCEEDS_REDEMPTION: (
        "the redemption does not have so many points left: the others were given back, or paid for another purchase"
    ),
    Refusal.REDEMPTION_PAID_PURCHASE: (
        "these points paid for a purchase: they come back when that is returned or voided"
    ),
    Refusal.REDEMPTION_OF_REWARD: (
        "these points are of a reward or a checkout: they come back when that is taken back, and not by themselves"
    ),
    Refusal.IDENTIFIER_TAKEN: "another member has this identifier",
    Refusal.IDENTIFIER_UNKNOWN: "the member has no such identifier",
    Refusal.IDENTIFIER_BLOCKED: "this identifier was lost, stolen or replaced, and leads to nobody any more",
    Refusal.TOO_MANY_IDENTIFIERS: "too many identifiers lead to this member; unlink one first",
    Refusal.MEMBER_ERASED: "the member was erased; nothing is written of it any more",
}


class RefusedError(LedgerError):
    """A rule of the programme says no. `available`: the member's points then; `redemption`: what the programme in force
    now, whenever it was refused, asks of points spent; `replayed`: it said so before."""

    def __init__(
        self, refusal: Refusal, *, available: int = 0, redemption: Redemption | None = None, replayed: bool = False
    ) -> None:
        super().__init__(REFUSAL_MESSAGES[refusal])
        self.refusal = refusal
        self.available = available
        self.redemption = redemption
        self.replayed = replayed


class PoisonedError(LedgerError):
    """the database refuses what this command would write"""
