"""What callers say of how members can be reached."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from services.notifier.domain.contacts import Contact, birthday_digest, partition_of
from services.notifier.errors import MemberErasedError, MemberUnknownError
from services.notifier.service.requests import MemberExists, same_request
from services.notifier.store import ContactRequest, SealedContact, Store, Transaction
from services.notifier.vault import Vault
from services.runtime.clock import MachineClock


class ContactService:
    """Sets contacts."""

    def __init__(
        self,
        *,
        store: Store,
        vault: Vault,
        partitions: int,
        member_exists: MemberExists,
        messages_queued: Callable[[], None],
        machine_now: MachineClock,
        business_now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._vault = vault
        self._partitions = partitions
        self._member_exists = member_exists
        self._messages_queued = messages_queued
        self._machine_now = machine_now
        self._business_now = business_now

    async def set_contact(self, *, request_id: str, member_id: str, contact: Contact) -> bool:
        """Sets a member's contact, whole, and says whether this request was answered before.

        An empty e-mail removes the address known so far. Messages that found no contact are queued again where their
        coupons are still valid, and without a coupon where they are news (STALE). Raises MemberUnknownError,
        MemberErasedError, RequestIdReusedError, FieldError, PeerError.
        """
        now, business_now = self._machine_now(), self._business_now()
        # Nobody is born after today, wherever a simulated clock stands.
        contact.check(now.date())
        partition = partition_of(member_id, self._partitions)
        digest = contact.digest(self._vault.request_key)

        async def look(transaction: Transaction) -> ContactRequest:
            return await transaction.find_contact_request(partition, member_id, request_id)

        before = await self._store.read(look)
        if before.erased:
            raise MemberErasedError
        if before.content_digest is not None:
            return same_request(before.content_digest, digest)
        # The ledger knows a new member before our feed does.
        if not before.known and not await self._member_exists(member_id):
            raise MemberUnknownError

        async def put(transaction: Transaction) -> tuple[bool, int]:
            # Whoever erases the member is before this or after it.
            await transaction.share_partition(partition)
            if await transaction.find_erasure(partition, member_id) is not None:
                raise MemberErasedError
            if not await transaction.insert_contact_request(partition, member_id, request_id, digest, now):
                # The same request came twice at once, and the other one was first.
                first = await transaction.find_contact_request(partition, member_id, request_id)
                assert first.content_digest is not None
                return same_request(first.content_digest, digest), 0
            new = self._vault.wrap(member_id, self._vault.new_member_key())
            wrapped = await transaction.keep_member_key(partition, member_id, new)
            name, email, details = self._vault.seal_contact(member_id, self._vault.unwrap(member_id, wrapped), contact)
            sealed = SealedContact(
                partition=partition,
                member_id=member_id,
                wrapped_key=wrapped,
                name=name,
                email=email,
                details=details,
            )
            await transaction.put_contact(sealed, self._birthday(contact), now, business_now)
            if email is None and details is None:
                return False, 0
            queued = await transaction.queue_again(partition, member_id, business_now=business_now, now=now)
            return False, queued

        replayed, queued = await self._store.transact(put)
        if queued:
            self._messages_queued()
        return replayed

    def _birthday(self, contact: Contact) -> bytes | None:
        born = contact.birth_date
        return None if born is None else birthday_digest(self._vault.request_key, born)
