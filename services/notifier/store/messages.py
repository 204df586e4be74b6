"""Messages on their way."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from services.notifier.domain.coupons import Coupon
from services.notifier.domain.deliveries import Aside, Delivery, DeliveryState, DueDelivery, Settlement
from services.notifier.domain.messages import STALE, Outgoing, delivery_id, endpoint_of, webhook_route
from services.notifier.store.coupons import coupon_of
from services.notifier.store.table import QUERIES, Table
from services.notifier.store.webhooks import endpoint_of_row
from services.programme.messages import EMAIL, WEBHOOK

# How far the messages of a list are counted, as the contract says.
MOST_COUNTED: Final = 10_001


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a page of messages begins: after this one, newest first."""

    created_time: datetime
    delivery_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which messages a list shows; None lets all through. `partition` is the member's."""

    member_id: str | None = None
    partition: int | None = None
    state: DeliveryState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Where there are messages to send: those of a campaign, in a partition, on a way. `not_before`: when the first of
    them is due, in machine time."""

    partition: int
    route: str
    campaign_id: str
    not_before: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Had:
    """A message that a member got, or that is on its way; `sent_time` is business time."""

    member_id: str
    channel: str
    topic: str
    urgent: bool
    sent_time: datetime


class Messages(Table):
    """The outbox, and what became of each message."""

    async def insert_messages(self, messages: Sequence[Outgoing], now: datetime, *, key: bytes) -> int:
        """Puts messages into the outbox, each once for its cause and way, and says how many are to be sent at once.

        An event goes to every endpoint that takes its type. An e-mail without an address waits for one from the start:
        where the partition is locked or shared, no contact that is being set is missed. `key`: the vault's for ids.
        """
        outgoing = await self._on_their_ways(messages)
        if not outgoing:
            return 0
        keys = list({(message.partition, message.member_id) for message in outgoing if message.channel == EMAIL})
        columns = [list(column) for column in zip(*keys, strict=True)] or [[], []]
        addressed = {tuple(row) for row in await self._connection.fetch(QUERIES["find_addressed"], *columns)}
        states = [
            DeliveryState.NO_CONTACT
            if message.channel == EMAIL and (message.partition, message.member_id) not in addressed
            else DeliveryState.QUEUED
            for message in outgoing
        ]
        ids = [delivery_id(key, message) for message in outgoing]
        return await self._insert(ids, outgoing, states, now)

    async def due_deliveries(self, routes: Sequence[str], paused: Collection[str]) -> list[Due]:
        """Where there are messages to send these ways, the first that is due first. Those of campaigns that are paused
        wait."""
        rows = await self._connection.fetch(QUERIES["due_deliveries"], list(routes), list(paused))
        return [Due(**row) for row in rows]

    async def lease_deliveries(
        self, partition: int, route: str, campaign_id: str, *, now: datetime, until: datetime, limit: int
    ) -> tuple[DueDelivery, ...]:
        """Takes up to `limit` messages of a campaign that are due one way, oldest first; nobody else gets them before
        `until`."""
        values = (partition, route, campaign_id, now, until, limit)
        rows = await self._connection.fetch(QUERIES["lease_deliveries"], *values)
        codes = [row["coupon_code"] for row in rows if row["coupon_code"]]
        coupons: dict[str, Coupon] = {}
        if codes:
            found = await self._connection.fetch(QUERIES["find_carried_coupons"], partition, codes)
            coupons = {row["code"]: coupon_of(row) for row in found}
        due = (
            DueDelivery(
                delivery_id=row["delivery_id"],
                message=_outgoing(row),
                coupon=coupons.get(row["coupon_code"]),
                attempts=row["attempts"],
                leased_until=row["not_before"],
            )
            for row in rows
        )
        return tuple(sorted(due, key=lambda one: (one.message.created_time, one.delivery_id)))

    async def find_had(
        self, partition: int, member_ids: Collection[str], since: datetime, *, but: Collection[str]
    ) -> list[Had]:
        """What these members got since an instant (business time), except some messages."""
        rows = await self._connection.fetch(QUERIES["find_had"], partition, list(member_ids), since, list(but))
        return [Had(**row) for row in rows]

    async def send_on_way(self, partition: int, addresses: Mapping[str, bytes], business_now: datetime) -> None:
        """Writes down that leased messages are being sent, so that they count for the caps, and to which addresses: by
        delivery id, the keyed hash of each."""
        columns = (list(addresses), list(addresses.values()))
        await self._connection.execute(QUERIES["send_on_way"], partition, business_now, *columns)

    async def sent_elsewhere(self, partition: int, addresses: Mapping[str, bytes]) -> None:
        """Writes down that messages went to other addresses than was said first: by delivery id, the keyed hashes."""
        columns = (list(addresses), list(addresses.values()))
        await self._connection.execute(QUERIES["sent_elsewhere"], partition, *columns)

    async def find_address_hash(self, partition: int, delivery_id: str) -> bytes | None:
        """The keyed hash of the address that a message was last sent to; None where it is not known."""
        found: bytes | None = await self._connection.fetchval(QUERIES["find_address_hash"], partition, delivery_id)
        return found

    async def put_aside(self, partition: int, leased_until: datetime, aside: Sequence[Aside]) -> None:
        """Writes down what becomes of leased messages that are not sent."""
        await self._connection.execute(
            QUERIES["put_aside"],
            partition,
            leased_until,
            [one.delivery_id for one in aside],
            [one.state.value for one in aside],
            [one.not_before for one in aside],
            [one.held_until for one in aside],
            [one.reason for one in aside],
        )

    async def release_held(self, partition: int, business_now: datetime, now: datetime, limit: int) -> int:
        """Queues up to `limit` messages that were held until now, and says how many."""
        return len(await self._connection.fetch(QUERIES["release_held"], partition, business_now, now, limit))

    async def next_held(self) -> dict[int, datetime]:
        """For each partition that holds messages: until when, in business time, it holds the next."""
        return {row["partition"]: row["held_until"] for row in await self._connection.fetch(QUERIES["next_held"])}

    async def settle_deliveries(
        self, partition: int, leased_until: datetime, settlements: Sequence[Settlement]
    ) -> None:
        """Writes down what came of messages."""
        await self._connection.execute(
            QUERIES["settle_deliveries"],
            partition,
            leased_until,
            [settlement.delivery_id for settlement in settlements],
            [settlement.state.value for settlement in settlements],
            [settlement.attempts for settlement in settlements],
            [settlement.not_before for settlement in settlements],
            [settlement.delivered_time for settlement in settlements],
            [settlement.last_error for settlement in settlements],
        )

    async def queue_again(self, partition: int, member_id: str, *, business_now: datetime, now: datetime) -> int:
        """Queues the member's messages that found no contact and are still of use - their coupons are valid, or they
        carry none and are news - and says how many."""
        values = (partition, member_id, business_now, business_now - STALE, now)
        return len(await self._connection.fetch(QUERIES["queue_again"], *values))

    async def find_delivery(self, partition: int, delivery_id: str) -> Delivery | None:
        """One message."""
        row = await self._connection.fetchrow(QUERIES["find_delivery"], partition, delivery_id)
        return None if row is None else _delivery(row)

    async def retry_delivery(self, partition: int, delivery_id: str, now: datetime) -> Delivery | None:
        """Queues a message that was given up, as if it had never been tried; None where it was not given up, or its
        coupon was taken back."""
        row = await self._connection.fetchrow(QUERIES["retry_delivery"], partition, delivery_id, now)
        return None if row is None else _delivery(row)

    async def drop_deliveries_of_way(self, route: str, reason: str) -> None:
        """What waits for a way that is closed for good is dead."""
        await self._connection.execute(QUERIES["drop_deliveries_of_way"], route, reason)

    async def list_deliveries(self, wanted: DeliveryFilter, after: Place, limit: int) -> tuple[Sequence[Delivery], int]:
        """A page of messages, newest first, and how many the filter lets through in all, MOST_COUNTED at most."""
        page = (after.created_time, after.delivery_id, limit)
        fetch, count = self._connection.fetch, self._connection.fetchval
        if wanted.member_id is not None:
            states = [state.value for state in ([wanted.state] if wanted.state else DeliveryState)]
            member = (wanted.partition, wanted.member_id)
            rows = await fetch(QUERIES["list_deliveries_of_member"], *page, states, *member)
            total = await count(QUERIES["count_deliveries_of_member"], MOST_COUNTED, states, *member)
        elif wanted.state is not None:
            rows = await fetch(QUERIES["list_deliveries_in_state"], *page, wanted.state.value)
            total = await count(QUERIES["count_deliveries_in_state"], MOST_COUNTED, wanted.state.value)
        else:
            rows = await fetch(QUERIES["list_deliveries"], *page)
            total = await count(QUERIES["count_deliveries"], MOST_COUNTED)
        return [_delivery(row) for row in rows], total

    async def _on_their_ways(self, messages: Sequence[Outgoing]) -> list[Outgoing]:
        """The messages, those to endpoints once for each."""
        if not any(message.channel == WEBHOOK for message in messages):
            return list(messages)
        rows = await self._connection.fetch(QUERIES["list_endpoints"])
        endpoints = [endpoint for endpoint in map(endpoint_of_row, rows) if endpoint.disabled_time is None]
        outgoing: list[Outgoing] = []
        for message in messages:
            if message.channel != WEBHOOK:
                outgoing.append(message)
                continue
            outgoing += (
                replace(message, route=webhook_route(endpoint.endpoint_id))
                for endpoint in endpoints
                if endpoint.takes(message.topic)
            )
        return outgoing

    async def _insert(
        self, ids: Sequence[str], messages: Sequence[Outgoing], states: Iterable[DeliveryState], now: datetime
    ) -> int:
        rows = await self._connection.fetch(
            QUERIES["insert_deliveries"],
            [message.partition for message in messages],
            list(ids),
            [message.campaign_id for message in messages],
            [message.member_id for message in messages],
            [message.trigger for message in messages],
            [message.variant for message in messages],
            [message.channel for message in messages],
            [message.way for message in messages],
            [message.topic for message in messages],
            [message.urgent for message in messages],
            [message.coupon_code or None for message in messages],
            [json.dumps(dict(message.facts)) for message in messages],
            [message.created_time for message in messages],
            [state.value for state in states],
            now,
        )
        return sum(row["state"] == DeliveryState.QUEUED for row in rows)


def _outgoing(row: Mapping[str, Any]) -> Outgoing:
    return Outgoing(
        partition=row["partition"],
        member_id=row["member_id"],
        campaign_id=row["campaign_id"],
        trigger=row["trigger"],
        created_time=row["created_time"],
        variant=row["variant"],
        channel=row["channel"],
        topic=row["topic"],
        urgent=row["urgent"],
        coupon_code=row["coupon_code"] or "",
        facts=json.loads(row["facts"]),
        route=row["route"],
    )


def _delivery(row: Mapping[str, Any]) -> Delivery:
    state = DeliveryState(row["state"])
    return Delivery(
        delivery_id=row["delivery_id"],
        member_id=row["member_id"],
        campaign_id=row["campaign_id"],
        coupon_code=row["coupon_code"] or "",
        state=state,
        attempts=row["attempts"],
        created_time=row["created_time"],
        delivered_time=row["delivered_time"],
        last_error=row["last_error"],
        channel=row["channel"],
        topic=row["topic"],
        endpoint_id=endpoint_of(row["route"]),
        held_until=row["held_until"] if state is DeliveryState.HELD else None,
        next_attempt_time=row["not_before"] if state is DeliveryState.QUEUED else None,
    )
