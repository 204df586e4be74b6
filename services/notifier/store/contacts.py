"""Contacts, sealed, and the keys that open them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.notifier.domain.contacts import CHANGED_BIRTHDAY_COUNTS_AFTER
from services.notifier.store.table import QUERIES, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKey:
    """A member's key as it is kept."""

    partition: int
    member_id: str
    wrapped_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedContact:
    """A contact as it is kept: `wrapped_key` is None where the key was destroyed."""

    partition: int
    member_id: str
    wrapped_key: bytes | None
    name: bytes | None
    email: bytes | None
    details: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactRequest:
    """Whether the member is known, and erased; the digest of the request where it was answered."""

    known: bool
    erased: bool
    content_digest: bytes | None


class Contacts(Table):
    """Contacts, the requests that set them, and the keys of members."""

    async def find_contacts(self, partition: int, member_ids: Sequence[str]) -> dict[str, SealedContact]:
        """The contacts of these members, by member."""
        rows = await self._connection.fetch(QUERIES["find_contacts"], partition, list(member_ids))
        return {row["member_id"]: SealedContact(partition=partition, **row) for row in rows}

    async def find_contact_request(self, partition: int, member_id: str, request_id: str) -> ContactRequest:
        """What is known of a request and its member."""
        row = await self._connection.fetchrow(QUERIES["find_contact_request"], partition, member_id, request_id)
        return ContactRequest(**row)

    async def insert_contact_request(
        self, partition: int, member_id: str, request_id: str, content_digest: bytes, now: datetime
    ) -> bool:
        """Keeps a request; False where it was answered before."""
        values = (partition, member_id, request_id, content_digest, now)
        return await self._connection.fetchval(QUERIES["insert_contact_request"], *values) is not None

    async def keep_member_key(self, partition: int, member_id: str, wrapped: bytes) -> bytes:
        """The member's wrapped key: this one, unless there is one."""
        if await self._connection.fetchval(QUERIES["insert_member_key"], partition, member_id, wrapped):
            return wrapped
        kept = await self.find_member_key(partition, member_id)
        assert kept is not None
        return kept

    async def find_member_key(self, partition: int, member_id: str) -> bytes | None:
        """The member's wrapped key; None where it has none, or it was destroyed."""
        wrapped: bytes | None = await self._connection.fetchval(QUERIES["find_member_key"], partition, member_id)
        return wrapped

    async def find_keys_of_older(self, newest_id: bytes, after: tuple[int, str], limit: int) -> list[WrappedKey]:
        """Members' keys after a place (partition and member) that another master key than the newest has wrapped."""
        rows = await self._connection.fetch(QUERIES["find_keys_of_older"], *after, newest_id, limit)
        return [WrappedKey(**row) for row in rows]

    async def count_keys_of_older(self, newest_id: bytes) -> int:
        """How many keys another master key than the newest has wrapped, the derived ones counted as one."""
        return int(await self._connection.fetchval(QUERIES["count_keys_of_older"], newest_id))

    async def rewrap_keys(self, before: Sequence[WrappedKey], after: Sequence[bytes]) -> None:
        """Keeps members' keys, wrapped anew; one that has changed or gone meanwhile is left as it is."""
        await self._connection.execute(
            QUERIES["rewrap_keys"],
            [key.partition for key in before],
            [key.member_id for key in before],
            [key.wrapped_key for key in before],
            after,
        )

    async def put_contact(
        self, contact: SealedContact, birthday: bytes | None, now: datetime, business_now: datetime
    ) -> None:
        """Sets a contact, whole; one with nothing in it is removed. `birthday`: what stands for the day; another than
        the one told before counts 30 days later."""
        place = (contact.partition, contact.member_id)
        later = business_now + CHANGED_BIRTHDAY_COUNTS_AFTER
        await self._connection.execute(
            QUERIES["put_contact"],
            *place,
            contact.name,
            contact.email,
            now,
            contact.details,
            birthday,
            None if birthday is None else business_now,
            later,
        )
        await self._connection.execute(QUERIES["delete_empty_contact"], *place)

    async def find_birthdays(self, partition: int, birthday: bytes, business_now: datetime) -> list[str]:
        """The members whose birthday this stands for, as far as it counts by now."""
        rows = await self._connection.fetch(QUERIES["find_birthdays"], partition, birthday, business_now)
        return [row["member_id"] for row in rows]

    async def check_contacts(self) -> list[SealedContact]:
        """Every contact."""
        return [SealedContact(**row) for row in await self._connection.fetch(QUERIES["check_contacts"])]
