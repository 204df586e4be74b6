"""Errors of the ledger. The docstring of each is its message.

LedgerError
├── RejectedError            the request cannot be taken as it is; nothing is written or kept
│   ├── MemberUnknownError
│   ├── CurrencyMismatchError
│   ├── AmountNotPositiveError
│   ├── LinesDoNotAddUpError
│   ├── OccurredInFutureError
│   ├── ClockNotSimulatedError
│   ├── RequestIdReusedError
│   ├── PageTokenError
│   └── CursorAheadError
├── RefusedError             a rule of the programme says no; the refusal is an entry, and the answer for ever
└── PoisonedError            the database refuses this one command
"""

from __future__ import annotations

import enum


class LedgerError(Exception):
    """The ledger cannot do this."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or type(self).__doc__)


class RejectedError(LedgerError):
    """The request cannot be taken as it is."""


class MemberUnknownError(RejectedError):
    """no member has this id; enrol the member first"""


class CurrencyMismatchError(RejectedError):
    """the amount is not in the programme's currency"""


class AmountNotPositiveError(RejectedError):
    """amount.minor_units must be more than zero"""


class LinesDoNotAddUpError(RejectedError):
    """the lines do not add up to the amount"""


class OccurredInFutureError(RejectedError):
    """the event lies in the future"""


class ClockNotSimulatedError(RejectedError):
    """this installation lives in real time; its clock moves by itself"""


class RequestIdReusedError(RejectedError):
    """this request id was used before with other content; nothing was changed"""

    def __init__(self, *, kept: bytes, sent: bytes) -> None:
        super().__init__()
        self.kept = kept
        self.sent = sent


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


REFUSAL_MESSAGES = {
    Refusal.MEMBER_EXISTS: "a member with this id joined by another request",
    Refusal.PURCHASE_EXISTS: "a purchase with this id was recorded for the member by another request",
    Refusal.RETURN_EXCEEDS_PURCHASE: "more would be returned than was bought and not yet returned",
    Refusal.TOO_MANY_WAITING_RETURNS: "too many returns already wait for this purchase to arrive",
    Refusal.EARNING_CLASS_UNKNOWN: "the programme has no earning class of this name",
    Refusal.BALANCE_OUT_OF_RANGE: "the balance would leave the range that a balance may have",
}


class RefusedError(LedgerError):
    """A rule of the programme says no."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(REFUSAL_MESSAGES[refusal])
        self.refusal = refusal


class PoisonedError(LedgerError):
    """the database refuses what this command would write"""
