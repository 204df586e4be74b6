"""Messages on their way: states, what may come of a try, and when the next one is."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.notifier.domain.coupons import Coupon
from services.notifier.domain.messages import Outgoing

_JITTER: Final = 0.2
_LONGEST_RETRY_AFTER: Final = timedelta(days=1)
# Of messages on all channels, over three days and more: the schedule of Standard Webhooks, and no mail server that
# defers everything for a night makes them dead.
_RETRIES: Final = (
    timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2), timedelta(hours=5),
    timedelta(hours=10), timedelta(hours=14), timedelta(hours=20), timedelta(hours=24),
)  # fmt: skip
MAX_ATTEMPTS: Final = len(_RETRIES) + 1
# Of a channel that cannot be reached: whether it is back is worth knowing sooner.
_KNOCKS: Final = tuple(timedelta(seconds=pause) for pause in (5, 15, 45, 135))
# What is said of a message whose coupon was void before it was sent, whoever took it back.
TAKEN_BACK: Final = "the coupon was taken back"

# A number from 0 to 1, as random.random gives it.
Random = Callable[[], float]


class DeliveryState(enum.StrEnum):
    """Where a message is on its way."""

    QUEUED = "queued"
    HELD = "held"
    """It waits for the end of quiet hours, or until the member may have another."""
    DELIVERED = "delivered"
    NO_CONTACT = "no_contact"
    WITHHELD = "withheld"
    """The member does not want it, or its address is suppressed."""
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class DueDelivery:
    """A message whose time has come, leased to one worker until `leased_until` (machine time)."""

    delivery_id: str
    message: Outgoing
    coupon: Coupon | None
    """The one it carries."""
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
    channel: str
    topic: str
    endpoint_id: str
    """Of a webhook: where it goes."""
    held_until: datetime | None
    """Of one that is held: until when, in business time."""
    next_attempt_time: datetime | None
    """Of one that is queued: when it is tried, at the earliest, in machine time."""


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
    """The verdict of a try, and why; `error` names no address.

    `retry_after`: how long the receiver wants to be left alone. `gone`: the way leads nowhere any more. `suppress`: why
    the address is not to be written to again; empty where it is not to blame.
    """

    verdict: Verdict
    error: str = ""
    retry_after: timedelta | None = None
    gone: bool = False
    suppress: str = ""

    @property
    def pause(self) -> timedelta:
        """How long the receiver is left alone: as it wants, but a day at most."""
        return min(self.retry_after or timedelta(0), _LONGEST_RETRY_AFTER)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """What becomes of a leased message that is not sent, and why; None leaves the reason there is."""

    delivery_id: str
    state: DeliveryState
    not_before: datetime
    held_until: datetime | None = None
    reason: str | None = None


def settle(due: DueDelivery, outcome: Outcome, *, now: datetime, random: Random) -> Settlement:
    """What a try leads to: delivered, queued again for later, or dead after a refusal or too many tries."""
    attempts = due.attempts + 1
    state, not_before = DeliveryState.DEAD, now
    if outcome.verdict is Verdict.TAKEN:
        state = DeliveryState.DELIVERED
    elif outcome.verdict is Verdict.DEFERRED and attempts < MAX_ATTEMPTS:
        pause = max(outcome.pause, retry_delay(attempts, random))
        state, not_before = DeliveryState.QUEUED, now + pause
    return Settlement(
        delivery_id=due.delivery_id,
        state=state,
        attempts=attempts,
        not_before=not_before,
        delivered_time=now if state is DeliveryState.DELIVERED else None,
        last_error=outcome.error or None,
    )


def release(due: DueDelivery, *, not_before: datetime, error: str | None) -> Settlement:
    """Gives a message back untried: what did not reach the receiver counts as no attempt."""
    return Settlement(
        delivery_id=due.delivery_id,
        state=DeliveryState.QUEUED,
        attempts=due.attempts,
        not_before=not_before,
        delivered_time=None,
        last_error=error,
    )


def retry_delay(attempts: int, random: Random) -> timedelta:
    """The pause of a message after this many tries (from 1), up to a fifth more."""
    return _pause(_RETRIES, attempts, random)


def knock_delay(knocks: int, random: Random) -> timedelta:
    """The pause of a closed channel after it was found so this many times (from 1), up to a fifth more: 5 s at first,
    two minutes and a half where it has long been closed."""
    return _pause(_KNOCKS, knocks, random)


def _pause(pauses: Sequence[timedelta], number: int, random: Random) -> timedelta:
    return pauses[min(number, len(pauses)) - 1] * (1 + _JITTER * random())
