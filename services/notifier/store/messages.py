"""Messages on their way."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.notifier.domain.campaigns import Reward
from services.notifier.domain.deliveries import Delivery, DeliveryState, DueDelivery, Settlement
from services.notifier.store.coupons import coupon_of, letter_of
from services.notifier.store.table import QUERIES, Table


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


class Messages(Table):
    """The outbox, and what became of each message."""

    async def insert_deliveries(
        self, rewards: Sequence[Reward], states: Sequence[DeliveryState], now: datetime
    ) -> None:
        """Keeps the messages of these rewards, each in its state."""
        await self._connection.execute(
            QUERIES["insert_deliveries"],
            [reward.coupon.partition for reward in rewards],
            [reward.coupon.campaign_id for reward in rewards],
            [reward.coupon.member_id for reward in rewards],
            [reward.coupon.trigger for reward in rewards],
            [reward.letter.delivery_id for reward in rewards],
            [json.dumps(dict(reward.letter.facts)) for reward in rewards],
            [reward.coupon.issued_time for reward in rewards],
            [state.value for state in states],
            now,
        )

    async def due_partitions(self) -> dict[int, datetime]:
        """For each partition with messages to send: when the first is due."""
        rows = await self._connection.fetch(QUERIES["due_partitions"])
        return {row["partition"]: row["not_before"] for row in rows}

    async def lease_deliveries(
        self, partition: int, *, now: datetime, until: datetime, limit: int
    ) -> tuple[DueDelivery, ...]:
        """Takes up to `limit` messages that are due; nobody else gets them before `until`."""
        rows = await self._connection.fetch(QUERIES["lease_deliveries"], partition, now, until, limit)
        return tuple(
            DueDelivery(
                coupon=coupon_of(row),
                letter=letter_of(row),
                attempts=row["attempts"],
                leased_until=row["not_before"],
            )
            for row in rows
        )

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

    async def settle_without_contact(
        self, partition: int, leased_until: datetime, delivery_ids: Sequence[str], now: datetime
    ) -> None:
        """Puts messages aside whose members have no address, and gives those back whose members have one by now."""
        values = (partition, leased_until, list(delivery_ids), now)
        await self._connection.execute(QUERIES["settle_without_contact"], *values)
        await self._connection.execute(QUERIES["release_deliveries"], *values)

    async def queue_again(self, partition: int, member_id: str, *, business_now: datetime, now: datetime) -> int:
        """Queues the member's messages that found no contact and whose coupons are valid; says how many."""
        return len(await self._connection.fetch(QUERIES["queue_again"], partition, member_id, business_now, now))

    async def list_deliveries(self, wanted: DeliveryFilter, after: Place, limit: int) -> tuple[Sequence[Delivery], int]:
        """A page of messages, newest first, and how many the filter lets through in all."""
        page = (after.created_time, after.delivery_id, limit)
        fetch, count = self._connection.fetch, self._connection.fetchval
        if wanted.member_id is not None:
            states = [state.value for state in ([wanted.state] if wanted.state else DeliveryState)]
            member = (wanted.partition, wanted.member_id)
            rows = await fetch(QUERIES["list_deliveries_of_member"], *page, states, *member)
            total = await count(QUERIES["count_deliveries_of_member"], *member, states)
        elif wanted.state is not None:
            rows = await fetch(QUERIES["list_deliveries_in_state"], *page, wanted.state.value)
            total = await count(QUERIES["count_deliveries_in_state"], wanted.state.value)
        else:
            rows = await fetch(QUERIES["list_deliveries"], *page)
            total = await count(QUERIES["count_deliveries"])
        return [_delivery(row) for row in rows], total


def _delivery(row: Mapping[str, Any]) -> Delivery:
    return Delivery(
        delivery_id=row["delivery_id"],
        member_id=row["member_id"],
        campaign_id=row["campaign_id"],
        coupon_code=row["code"],
        state=DeliveryState(row["state"]),
        attempts=row["attempts"],
        created_time=row["created_time"],
        delivered_time=row["delivered_time"],
        last_error=row["last_error"],
    )
