"""What callers ask of the notifier: contacts, messages, coupons."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from services.notifier.domain.campaigns import Coupon, CouponState
from services.notifier.domain.codes import CouponCodes
from services.notifier.domain.contacts import Contact, partition_of
from services.notifier.domain.deliveries import Delivery, DeliveryState
from services.notifier.domain.digests import keyed_digest
from services.notifier.errors import (
    CouponUnknownError,
    MemberUnknownError,
    PageTokenError,
    RequestIdReusedError,
)
from services.notifier.progress import Progress
from services.notifier.store import ContactRequest, DeliveryFilter, Place, SealedContact, Store, Transaction
from services.notifier.vault import Vault
from services.runtime.clock import MachineClock, microseconds, moment

DEFAULT_PAGE: Final = 50

# Before every message there is.
_NEWEST = Place(created_time=datetime.max.replace(tzinfo=UTC), delivery_id="~")
_TAG_BYTES = 6
_PLACE_BYTES = 8 + 16

# Whether the ledger has a member; raises PeerError.
MemberExists = Callable[[str], Awaitable[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPage:
    """Messages, newest first; the token of the next page is empty on the last."""

    deliveries: Sequence[Delivery]
    next_page_token: str
    total_size: int


class NotifierService:
    """The use cases behind the RPCs."""

    def __init__(
        self,
        *,
        store: Store,
        vault: Vault,
        codes: CouponCodes,
        progress: Progress,
        partitions: int,
        member_exists: MemberExists,
        messages_queued: Callable[[], None],
        machine_now: MachineClock,
        business_now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._vault = vault
        self._codes = codes
        self._progress = progress
        self._partitions = partitions
        self._member_exists = member_exists
        self._messages_queued = messages_queued
        self._machine_now = machine_now
        self._business_now = business_now

    async def set_contact(self, *, request_id: str, member_id: str, contact: Contact) -> bool:
        """Sets a member's contact, whole, and says whether this request was answered before.

        An empty e-mail removes the address known so far. Messages that found no contact are queued again where their
        coupons are still valid. Raises MemberUnknownError, RequestIdReusedError, ContactError, PeerError.
        """
        contact.check()
        partition = partition_of(member_id, self._partitions)
        digest = contact.digest(self._vault.request_key)

        async def look(transaction: Transaction) -> ContactRequest:
            return await transaction.find_contact_request(partition, member_id, request_id)

        before = await self._store.read(look)
        if before.content_digest is not None:
            return _replayed(before.content_digest, digest)
        # The ledger knows a new member before our feed does.
        if not before.known and not await self._member_exists(member_id):
            raise MemberUnknownError
        now = self._machine_now()

        async def put(transaction: Transaction) -> tuple[bool, int]:
            await transaction.share_partition(partition)
            if not await transaction.insert_contact_request(partition, member_id, request_id, digest, now):
                # The same request came twice at once, and the other one was first.
                first = await transaction.find_contact_request(partition, member_id, request_id)
                assert first.content_digest is not None
                return _replayed(first.content_digest, digest), 0
            wrapped = before.wrapped_key
            if wrapped is None:
                new = self._vault.wrap(member_id, self._vault.new_member_key())
                wrapped = await transaction.keep_member_key(partition, member_id, new)
            name, email = self._vault.seal_contact(member_id, self._vault.unwrap(member_id, wrapped), contact)
            sealed = SealedContact(
                partition=partition, member_id=member_id, wrapped_key=wrapped, name=name, email=email
            )
            await transaction.put_contact(sealed, now)
            if email is None:
                return False, 0
            queued = await transaction.queue_again(partition, member_id, business_now=self._business_now(), now=now)
            return False, queued

        replayed, queued = await self._store.transact(put)
        if queued:
            self._messages_queued()
        return replayed

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

        An empty `member_id` and a state of None let all through; a `page_size` of 0 is 50. Raises PageTokenError,
        CausalTokenAheadError, NotCaughtUpError.
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
        return DeliveryPage(deliveries=shown, next_page_token=token, total_size=total)

    async def get_coupon(self, code: str) -> tuple[Coupon, CouponState]:
        """The coupon with this code, however it was typed in, and its state now. Raises CouponUnknownError."""
        partition, printed = self._codes.read(code)

        async def read(transaction: Transaction) -> Coupon | None:
            return await transaction.find_coupon(partition, printed)

        coupon = await self._store.read(read)
        if coupon is None:
            raise CouponUnknownError
        return coupon, coupon.state_at(self._business_now())

    def _place_token(self, place: Place, member_id: str, state: DeliveryState | None) -> str:
        content = microseconds(place.created_time).to_bytes(8, signed=True) + bytes.fromhex(place.delivery_id)
        return base64.urlsafe_b64encode(content + self._place_tag(content, member_id, state)).decode()

    def _read_place(self, token: str, member_id: str, state: DeliveryState | None) -> Place:
        try:
            raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raise PageTokenError from None
        content, tag = raw[:_PLACE_BYTES], raw[_PLACE_BYTES:]
        if not hmac.compare_digest(tag, self._place_tag(content, member_id, state)):
            raise PageTokenError
        return Place(
            created_time=moment(int.from_bytes(content[:8], signed=True)),
            delivery_id=content[8:].hex(),
        )

    def _place_tag(self, content: bytes, member_id: str, state: DeliveryState | None) -> bytes:
        """Binds a page token to this installation and to the filter of its list."""
        return keyed_digest(self._vault.page_key, "page", content, member_id, state or "")[:_TAG_BYTES]


def _replayed(kept: bytes, sent: bytes) -> bool:
    if not hmac.compare_digest(kept, sent):
        raise RequestIdReusedError
    return True
