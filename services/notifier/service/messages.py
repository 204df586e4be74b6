"""What callers ask of messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from services.notifier.domain.contacts import partition_of
from services.notifier.domain.deliveries import Delivery, DeliveryState
from services.notifier.domain.digests import keyed_digest
from services.notifier.domain.messages import partition_of_delivery
from services.notifier.domain.programmes import Programmes
from services.notifier.errors import (
    DeliveryNotRetryableError,
    DeliveryUnknownError,
    EndpointDisabledError,
    MemberErasedError,
)
from services.notifier.progress import Progress
from services.notifier.service.page_tokens import PageTokens
from services.notifier.service.requests import same_request
from services.notifier.store import DeliveryFilter, Place, Store, Transaction
from services.runtime.clock import MachineClock, microseconds, moment

DEFAULT_PAGE: Final = 50

# Before every message there is.
_NEWEST = Place(created_time=datetime.max.replace(tzinfo=UTC), delivery_id="~")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPage:
    """Messages, newest first; the token of the next page is empty on the last. `total_size`: MOST_COUNTED at most."""

    deliveries: Sequence[Delivery]
    next_page_token: str
    total_size: int


class MessageService:
    """Lists messages, and has them tried again. `page_key` binds page tokens to the installation."""

    def __init__(
        self,
        *,
        store: Store,
        page_key: bytes,
        request_key: bytes,
        progress: Progress,
        partitions: int,
        programmes: Programmes,
        messages_queued: Callable[[], None],
        machine_now: MachineClock,
        business_now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._pages = PageTokens(page_key, "page")
        self._request_key = request_key
        self._progress = progress
        self._partitions = partitions
        self._programmes = programmes
        self._messages_queued = messages_queued
        self._machine_now = machine_now
        self._business_now = business_now

    async def list_deliveries(
        self,
        *,
        member_id: str,
        state: DeliveryState | None,
        page_size: int,
        page_token: str,
        after: Mapping[int, int],
        wait_seconds: float,
    ) -> DeliveryPage:
        """A page of messages, newest first, once the entries up to `after` are handled.

        Those that name no topic show the one that they go by. An empty `member_id` and a state of None let all
        through; a `page_size` of 0 is 50. Raises PageTokenError, CausalTokenAheadError, NotCaughtUpError.
        """
        size = page_size or DEFAULT_PAGE
        place = self._read_place(page_token, member_id, state) if page_token else _NEWEST
        await self._progress.reach(after, within_seconds=wait_seconds)
        wanted = DeliveryFilter(
            member_id=member_id or None,
            partition=partition_of(member_id, self._partitions) if member_id else None,
            state=state,
        )

        async def read(transaction: Transaction) -> tuple[Sequence[Delivery], int]:
            return await transaction.list_deliveries(wanted, place, size + 1)

        found, total = await self._store.read(read)
        shown = found[:size]
        token = ""
        if len(found) > size:
            last = Place(created_time=shown[-1].created_time, delivery_id=shown[-1].delivery_id)
            token = self._place_token(last, member_id, state)
        policy = self._programmes.at(self._business_now()).messages
        shown = [replace(one, topic=one.topic or policy.topic("").id) for one in shown]
        return DeliveryPage(deliveries=shown, next_page_token=token, total_size=total)

    async def retry_delivery(self, *, request_id: str, delivery_id: str) -> tuple[str, bool]:
        """Queues a message that was given up, as if it had never been tried; says whose it is, and whether this request
        was answered before.

        Raises DeliveryUnknownError, DeliveryNotRetryableError, EndpointDisabledError, MemberErasedError,
        RequestIdReusedError.
        """
        partition = partition_of_delivery(delivery_id)
        digest = keyed_digest(self._request_key, "retry", delivery_id)
        now = self._machine_now()

        async def put(transaction: Transaction) -> tuple[str, bool]:
            delivery = await transaction.find_delivery(partition, delivery_id)
            if delivery is None:
                raise DeliveryUnknownError
            member_id = delivery.member_id
            if not await transaction.insert_contact_request(partition, member_id, request_id, digest, now):
                first = await transaction.find_contact_request(partition, member_id, request_id)
                return member_id, same_request(first.content_digest, digest)
            if await transaction.find_erasure(partition, member_id) is not None:
                raise MemberErasedError
            if delivery.endpoint_id and await transaction.find_open_endpoint(delivery.endpoint_id) is None:
                raise EndpointDisabledError
            if await transaction.retry_delivery(partition, delivery_id, now) is None:
                raise DeliveryNotRetryableError
            return member_id, False

        member_id, replayed = await self._store.transact(put)
        self._messages_queued()
        return member_id, replayed

    def _place_token(self, place: Place, member_id: str, state: DeliveryState | None) -> str:
        content = microseconds(place.created_time).to_bytes(8, signed=True) + bytes.fromhex(place.delivery_id)
        return self._pages.make(content, member_id, state or "")

    def _read_place(self, token: str, member_id: str, state: DeliveryState | None) -> Place:
        content = self._pages.read(token, member_id, state or "")
        return Place(
            created_time=moment(int.from_bytes(content[:8], signed=True)),
            delivery_id=content[8:].hex(),
        )
