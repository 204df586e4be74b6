"""Errors of tiers. The docstring of each is its message.

TiersError
├── RejectedError             the call cannot be answered as it is
│   ├── MemberUnknownError
│   ├── NotEnrolledError
│   ├── CursorAheadError
│   ├── TokenBeyondLogError
│   ├── PageTokenError
│   ├── TierUnknownError
│   ├── FromTimeError
│   ├── DocumentInvalidError
│   └── RequestIdReusedError
├── NotReadyError             the service has never reached the ledger
├── FeedBrokenError           the ledger's feed does not continue what was taken in
├── LedgerUnavailableError    the ledger cannot be reached, or ended the stream
└── LedgerDiffersError        the ledger is not the one that this service's tables belong to
"""

from __future__ import annotations

from collections.abc import Sequence


class TiersError(Exception):
    """The service cannot do this."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or type(self).__doc__)


class RejectedError(TiersError):
    """The call cannot be answered as it is."""


class MemberUnknownError(RejectedError):
    """no member has this id, or the entry that made it has not been taken in yet; send its causal token"""


class NotEnrolledError(RejectedError):
    """the member had not joined, or had left, at that time"""


class CursorAheadError(RejectedError):
    """a cursor lies beyond the end of the log; were the tables restored from a backup?"""


class TokenBeyondLogError(RejectedError):
    """the causal token names a partition that this installation does not have; send it as it came"""


class PageTokenError(RejectedError):
    """the page token is not one that this list gave out for this instant; send it as it came, with the same at_time"""


class TierUnknownError(RejectedError):
    """the programme has no tier of this number"""


class FromTimeError(RejectedError):
    """the instant lies in the past; a version of the programme begins now or later"""


class DocumentInvalidError(RejectedError):
    """The document is no programme that could follow the one in force; `problems` are sentences."""

    def __init__(self, message: str, problems: Sequence[str]) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class RequestIdReusedError(RejectedError):
    """this request id was sent before with other content; nothing was changed"""

    def __init__(self, *, kept: bytes, sent: bytes) -> None:
        """`kept`: the canonical request of the one before."""
        super().__init__()
        self.kept = kept
        self.sent = sent


class NotReadyError(TiersError):
    """the service has not taken in all that it needs from the ledger yet; ask again"""


class FeedBrokenError(TiersError):
    """The ledger's feed does not continue what was taken in."""


class LedgerUnavailableError(TiersError):
    """The ledger cannot be reached."""


class LedgerDiffersError(TiersError):
    """The ledger is not the one that this service's tables belong to."""
