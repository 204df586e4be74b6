"""Errors of the notifier. The docstring of each is its message.

NotifierError
├── RejectedError            the request cannot be taken as it is; nothing is written or kept
│   ├── MemberUnknownError
│   ├── CouponUnknownError
│   ├── WrongCodesError
│   ├── RewardUnknownError
│   ├── RefusedError         a rule of the programme speaks against it; mostly kept as the answer
│   ├── FieldError           a field of the request cannot be used
│   │   ├── WebhookUrlError
│   │   └── WebhookFieldError
│   ├── RequestIdReusedError
│   ├── OccurredInFutureError
│   ├── PageTokenError
│   ├── CausalTokenAheadError
│   ├── MemberErasedError
│   ├── GoodwillLimitError
│   ├── PeerRefusedError     another service refuses what this needs, and the same again changes nothing
│   ├── CheckoutRefusedError
│   ├── CheckoutInProgressError
│   ├── DeliveryUnknownError
│   ├── DeliveryNotRetryableError
│   ├── EndpointUnknownError
│   ├── EndpointDisabledError
│   ├── TooManyEndpointsError
│   ├── TopicUnknownError
│   ├── ChannelUnknownError
│   ├── UnsubscribeTokenError
│   ├── CampaignUnknownError
│   └── SurveyUnknownError
├── PeerError                another service cannot be reached, or broke off
├── ChannelClosedError       nothing can be sent over a channel now
│   └── MailServerError      the mail server cannot be reached
├── VersionsAwaitedError     the ledger has yet to say which versions of the programme there are
├── FeedError                a feed breaks what its contract promises
│   └── CursorMovedError
├── InstallationError        the database belongs to another installation than the keys or the ledger
└── SealError                what was kept encrypted cannot be opened
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime


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


class WrongCodesError(RejectedError):
    """Too many codes were asked for that no coupon has; `wait_seconds` until the next may be asked for."""

    def __init__(self, wait_seconds: float) -> None:
        super().__init__("too many codes were asked for that no coupon has; come back later")
        self.wait_seconds = wait_seconds


class RewardUnknownError(RejectedError):
    """the programme has no reward of this id"""


class RefusedError(RejectedError):
    """A rule of the programme, or the ledger, speaks against it. `reason` is a name of the contract's error reasons;
    `facts` are what a machine may want to know; `replayed`: it was refused so before, by the same request."""

    def __init__(
        self, reason: str, sentence: str, facts: Mapping[str, str] | None = None, *, replayed: bool = False
    ) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.facts = dict(facts or {})
        self.replayed = replayed


class FieldError(RejectedError):
    """A field of a request cannot be used; `field` is its path."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(problem)
        self.field = field


class RequestIdReusedError(RejectedError):
    """this request id was used before with other content; nothing was changed"""


class OccurredInFutureError(RejectedError):
    """What is told of happened at a time that lies in the future; `field` is the path of that time in the request."""

    def __init__(self, occurred: datetime, business_now: datetime, field: str = "occurred_time") -> None:
        super().__init__(
            f"{field} {occurred.isoformat()} lies in the future: the clock stands at {business_now.isoformat()}"
        )
        self.field = field


class PageTokenError(RejectedError):
    """the page token was not given out by this list with this filter; start again without it"""


class CausalTokenAheadError(RejectedError):
    """the causal token names a partition that this installation does not have; send it as a write gave it out"""


class MemberErasedError(RejectedError):
    """the member was erased; nothing is kept of such a person any more"""


class GoodwillLimitError(RejectedError):
    """More goodwill than the programme lets staff give a member in a month; `left`: what may still be given."""

    def __init__(self, left: int) -> None:
        self.left = max(left, 0)
        super().__init__(
            f"{self.left} points of goodwill may still be given to this member this month; a larger correction is an "
            "adjustment, which a second person approves"
        )


class PeerRefusedError(RejectedError):
    """Another service refuses what this needs: its status code by name, its reason, its sentence, and what a machine
    may want to know."""

    def __init__(self, code: str, reason: str, message: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})


class CheckoutRefusedError(RejectedError):
    """A checkout is refused, and that is its answer: status code by name, reason, sentence, facts.
    `replayed`: it was given before."""

    def __init__(self, code: str, reason: str, message: str, metadata: Mapping[str, str], *, replayed: bool) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.metadata = {**metadata, **({"replayed": "true"} if replayed else {})}


class CheckoutInProgressError(RejectedError):
    """the checkout is under way; send the same request again to learn what became of it"""


class DeliveryUnknownError(RejectedError):
    """there is no message of this id"""


class DeliveryNotRetryableError(RejectedError):
    """only a message that is dead or was withheld can be tried again, and not one whose coupon was taken back"""


class EndpointUnknownError(RejectedError):
    """there is no webhook endpoint of this id, or it was deleted"""


class EndpointDisabledError(RejectedError):
    """the webhook endpoint is disabled or gone; enable it first, or make one, and events go there from then on"""


class TooManyEndpointsError(RejectedError):
    """there are as many webhook endpoints as there can be; delete one"""


class TopicUnknownError(RejectedError):
    """The programme has no topic of this name."""

    def __init__(self, topic: str, known: Iterable[str]) -> None:
        super().__init__(f"the programme has no topic {topic!r}; it has {', '.join(known)}")


class ChannelUnknownError(RejectedError):
    """The installation has no channel of this name."""

    def __init__(self, channel: str, known: Iterable[str]) -> None:
        super().__init__(f"there is no channel {channel!r} to members; messages go by {', '.join(sorted(known))}")


class UnsubscribeTokenError(RejectedError):
    """the token is not one that a message of this installation carries"""


class WebhookUrlError(FieldError):
    """The address of an endpoint cannot be used."""

    def __init__(self, problem: str) -> None:
        super().__init__("url", problem)


class WebhookFieldError(FieldError):
    """Events tell none of these fields."""

    def __init__(self, unknown: Iterable[str]) -> None:
        super().__init__("fields", f"no event tells {', '.join(unknown)}")


class CampaignUnknownError(RejectedError):
    """the programme has no campaign of this id"""


class SurveyUnknownError(RejectedError):
    """the programme has no survey of this id"""


class PeerError(NotifierError):
    """another service cannot be reached; the same request may be sent again"""


class ChannelClosedError(NotifierError):
    """nothing can be sent over this channel now"""


class MailServerError(ChannelClosedError):
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
