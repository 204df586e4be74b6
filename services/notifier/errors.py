"""Errors of the notifier. The docstring of each is its message.

NotifierError
├── RejectedError            the request cannot be taken as it is; nothing is written or kept
│   ├── MemberUnknownError
│   ├── CouponUnknownError
│   ├── RequestIdReusedError
│   ├── PageTokenError
│   ├── CausalTokenAheadError
│   └── ContactError
├── PeerError                another service cannot be reached, or broke off
├── MailServerError          the mail server cannot be reached
├── VersionsAwaitedError     the ledger has yet to say which versions of the programme there are
├── FeedError                a feed breaks what its contract promises
│   └── CursorMovedError
├── InstallationError        the database belongs to another installation than the keys or the ledger
└── SealError                what was kept encrypted cannot be opened
"""

from __future__ import annotations


class NotifierError(Exception):
    """The notifier cannot do this."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or type(self).__doc__)


class RejectedError(NotifierError):
    """The request cannot be taken as it is."""


class MemberUnknownError(RejectedError):
    """no member has this id; enrol the member first"""


class CouponUnknownError(RejectedError):
    """no coupon has this code"""


class RequestIdReusedError(RejectedError):
    """this request id was used before with other content; nothing was changed"""


class PageTokenError(RejectedError):
    """the page token was not given out by this list with this filter; start again without it"""


class CausalTokenAheadError(RejectedError):
    """the causal token names a partition that this installation does not have; send it as a write gave it out"""


class ContactError(RejectedError):
    """A field of a contact cannot be used; `field` is its path in the request."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(problem)
        self.field = field


class PeerError(NotifierError):
    """another service cannot be reached; the same request may be sent again"""


class MailServerError(NotifierError):
    """the mail server cannot be reached"""


class VersionsAwaitedError(NotifierError):
    """the ledger has yet to say which versions of the programme there are"""


class FeedError(NotifierError):
    """a feed breaks what its contract promises"""


class CursorMovedError(FeedError):
    """the cursors were moved by another consumer"""


class InstallationError(NotifierError):
    """the database belongs to another installation"""


class SealError(NotifierError):
    """what was kept encrypted cannot be opened with this key"""
