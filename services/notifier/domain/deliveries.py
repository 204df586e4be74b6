"""Messages on their way: states, what may come of a try, and when the next one is."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.notifier.domain.campaigns import Letter
from services.notifier.domain.coupons import Coupon

FIRST_RETRY = timedelta(seconds=5)
LONGEST_RETRY = timedelta(hours=1)
MAX_ATTEMPTS = 10
# What is said of a message whose coupon was void before it was sent.
TAKEN_BACK = "the coupon was taken back with its tier"
# 5 s, 15 s, 45 s ... 1 h: ten tries span about three and a half hours.
_GROWTH = 3
_JITTER = 0.2

# A number from 0 to 1, as random.random gives it.
Random = Callable[[], float]


class DeliveryState(enum.StrEnum):
    """Where a message is on its way."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    NO_CONTACT = "no_contact"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class DueDelivery:
    """A message whose time has come, leased to one worker until `leased_until` (machine time)."""

    coupon: Coupon
    letter: Letter
    attempts: int
    leased_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message as people see it: made in business time, delivered in machine time."""

    delivery_id: str
    member_id: str
    campaign_id: str
    coupon_code: str
    state: DeliveryState
    attempts: int
    created_time: datetime
    delivered_time: datetime | None
    last_error: str


class Verdict(enum.Enum):
    """What came of one try."""

    TAKEN = enum.auto()
    """The receiving server has it."""
    DEFERRED = enum.auto()
    """Not now: a reply 4xx, or the connection broke."""
    REFUSED = enum.auto()
    """Never: a reply 5xx, or it cannot be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The verdict of a try, and why; `error` names no address."""

    verdict: Verdict
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What is written down after a try."""

    delivery_id: str
    state: DeliveryState
    attempts: int
    not_before: datetime
    delivered_time: datetime | None
    last_error: str | None
    """None leaves the one there is."""


def settle(due: DueDelivery, outcome: Outcome, *, now: datetime, random: Random) -> Settlement:
    """What a try leads to: delivered, queued again for later, or dead after a refusal or too many tries."""
    attempts = due.attempts + 1
    state, not_before = DeliveryState.DEAD, now
    if outcome.verdict is Verdict.TAKEN:
        state = DeliveryState.DELIVERED
    elif outcome.verdict is Verdict.DEFERRED and attempts < MAX_ATTEMPTS:
        state, not_before = DeliveryState.QUEUED, now + retry_delay(attempts, random)
    return Settlement(
        delivery_id=due.letter.delivery_id,
        state=state,
        attempts=attempts,
        not_before=not_before,
        delivered_time=now if state is DeliveryState.DELIVERED else None,
        last_error=outcome.error or None,
    )


def release(due: DueDelivery, *, not_before: datetime, error: str | None) -> Settlement:
    """Gives a message back untried: what did not reach the mail server counts as no attempt."""
    return Settlement(
        delivery_id=due.letter.delivery_id,
        state=DeliveryState.QUEUED,
        attempts=due.attempts,
        not_before=not_before,
        delivered_time=None,
        last_error=error,
    )


def retry_delay(attempts: int, random: Random) -> timedelta:
    """The pause after this many tries (from 1): 5 s, three times as long each, at most an hour; up to a fifth more."""
    growth: int = _GROWTH ** min(attempts - 1, 20)
    pause = min(FIRST_RETRY * growth, LONGEST_RETRY)
    return pause * (1 + _JITTER * random())
