"""Messages before they are sent: what is to be said to whom, and the way that it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.notifier.domain.coupons import digested
from services.notifier.domain.digests import keyed_digest
from services.programme.messages import EMAIL, LOG, WEBHOOK

IMPERSONAL = frozenset({WEBHOOK, LOG})
"""Channels that lead to no person: what members chose does not concern them, nor does the hour."""

# What happened longer ago is no news any more.
STALE: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message to be sent, as its cause makes it.

    `topic` is what it is about, and for a webhook the type of the event. `facts` are what its words need beside the
    coupon and the contact: no personal data. `created_time` is business time. `route`: the channel, and where one
    message goes several ways (to each endpoint of a webhook), which of them.
    """

    partition: int
    member_id: str
    campaign_id: str
    trigger: str
    created_time: datetime
    variant: str = ""
    channel: str = EMAIL
    topic: str = ""
    urgent: bool = False
    coupon_code: str = ""
    facts: Mapping[str, str | int]
    route: str = ""

    @property
    def way(self) -> str:
        """Its route; where it has none of its own, the channel."""
        return self.route or self.channel

    @property
    def personal(self) -> bool:
        """Whether it goes to the member."""
        return self.channel not in IMPERSONAL


def webhook_route(endpoint_id: str) -> str:
    """The way to one endpoint."""
    return f"{WEBHOOK}:{endpoint_id}"


def endpoint_of(route: str) -> str:
    """The endpoint that a way leads to; empty where it leads to none."""
    channel, _, endpoint_id = route.partition(":")
    return endpoint_id if channel == WEBHOOK else ""


def delivery_id(key: bytes, message: Outgoing) -> str:
    """32 hex digits: the partition, so that the id alone finds its row, and what tells nothing of the rest.

    The same for the same cause and way, so that a message is there once.
    """
    fields: list[str | int] = [message.partition, message.campaign_id, message.member_id, digested(message.trigger)]
    if message.way != EMAIL:
        fields.append(message.way)
    return f"{message.partition:04x}{keyed_digest(key, 'delivery', *fields)[:14].hex()}"


def partition_of_delivery(delivery_id: str) -> int:
    """The partition of a message."""
    return int(delivery_id[:4], 16)
