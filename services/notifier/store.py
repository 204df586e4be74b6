"""The notifier's tables. A use case opens one transaction; every statement of it is a method of `Transaction`.

Locks: whoever moves a partition's cursor holds its row until the commit. SetContact shares that row, so that it is
either before the coupons of a batch or after them; the worker locks it before it puts messages aside for want of a
contact. Rows are otherwise locked one partition at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from services.notifier.domain.campaigns import Coupon, Letter, MemberKey, Reward, RewardKey
from services.notifier.domain.deliveries import TAKEN_BACK, Delivery, DeliveryState, DueDelivery, Settlement
from services.notifier.domain.feeds import Cursor, LedgerEntry, MemberJoined
from services.notifier.errors import CursorMovedError
from services.runtime.database import CONNECT_TIMEOUT_SECONDS, Connection, load_queries, transact, transact_over

QUERIES = load_queries(Path(__file__).with_name("sql") / "queries.sql")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """To whom the database belongs: the id of the master key it was made with, the ledger's partitions and kind of
    clock. `sealed_keys`: the derived keys, once they are sealed by a newer master key."""

    key_fingerprint: bytes
    partitions: int
    simulated: bool
    sealed_keys: bytes | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactRequest:
    """Whether the member is known, its wrapped key, and the digest of the request where it was answered before."""

    known: bool
    wrapped_key: bytes | None
    content_digest: bytes | None


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


class Store:
    """The pool, and transactions over it."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[Connection]:
        """A connection for one transaction after the other."""
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            yield connection

    async def transact(self, work: Callable[[Transaction], Awaitable[T]], over: Connection | None = None) -> T:
        """Runs `work` in one transaction; deadlocks try the whole again. `over`: the connection of `writing`."""

        async def run(connection: Connection) -> T:
            return await work(Transaction(connection))

        return await (transact(self._pool, run) if over is None else transact_over(over, run))

    async def read(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Runs `work`, whose statements only read and stand each for itself: no transaction is opened."""
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
            return await work(Transaction(connection))

    async def snapshot(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Runs `work`, which only reads, over one unchanging state of all tables."""
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return await work(Transaction(connection))


class Transaction:
    """One transaction."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    # Installation and cursors

    async def claim_installation(self, installation: Installation) -> None:
        """Writes down to whom the database belongs, unless it belongs to someone."""
        await self._connection.execute(
            QUERIES["claim_installation"],
            installation.key_fingerprint,
            installation.partitions,
            installation.simulated,
        )

    async def read_installation(self) -> Installation | None:
        """To whom the database belongs; None before the first start."""
        row = await self._connection.fetchrow(QUERIES["read_installation"])
        return None if row is None else Installation(**row)

    async def replace_sealed_keys(self, before: bytes | None, after: bytes) -> bool:
        """Keeps the derived keys, sealed anew; False where they are no longer as they were."""
        return await self._connection.fetchval(QUERIES["replace_sealed_keys"], after, before) is not None

    async def insert_cursors(self, partitions: Iterable[int]) -> None:
        """Makes sure that each partition has a cursor."""
        await self._connection.execute(QUERIES["insert_cursors"], list(partitions))

    async def read_cursors(self) -> dict[int, Cursor]:
        """Every partition's cursor."""
        rows = await self._connection.fetch(QUERIES["read_cursors"])
        return {
            row["partition"]: Cursor(
                ledger_offset=row["ledger_offset"],
                change_offset=row["change_offset"],
                business_time=row["business_time"],
                due_time=row["due_time"],
            )
            for row in rows
        }

    async def move_cursors(self, before: Mapping[int, Cursor], after: Mapping[int, Cursor]) -> None:
        """Moves cursors and keeps their partitions locked; raises CursorMovedError where one is not where it was."""
        moves = [(partition, before[partition], after[partition]) for partition in sorted(after)]
        moved = await self._connection.fetch(
            QUERIES["move_cursors"],
            [partition for partition, _, _ in moves],
            [cursor.ledger_offset for _, cursor, _ in moves],
            [cursor.change_offset for _, cursor, _ in moves],
            [cursor.ledger_offset for _, _, cursor in moves],
            [cursor.change_offset for _, _, cursor in moves],
            [cursor.business_time for _, _, cursor in moves],
            [cursor.due_time for _, _, cursor in moves],
        )
        if len(moved) != len(moves):
            raise CursorMovedError

    async def share_partition(self, partition: int) -> None:
        """Keeps the consumer out of the partition until the end of the transaction."""
        await self._connection.execute(QUERIES["share_partition"], partition)

    async def lock_partition(self, partition: int) -> None:
        """Keeps the consumer and all who share the partition out until the end of the transaction."""
        await self._connection.execute(QUERIES["lock_partition"], partition)

    # What follows from the feeds

    async def insert_members(self, entries: Sequence[LedgerEntry]) -> None:
        """Keeps the members that these entries tell of."""
        joined = [(entry.partition, entry.fact) for entry in entries if isinstance(entry.fact, MemberJoined)]
        if joined:
            await self._connection.execute(
                QUERIES["insert_members"],
                [partition for partition, _ in joined],
                [fact.member_id for _, fact in joined],
                [fact.joined_time for _, fact in joined],
            )

    async def insert_coupons(self, coupons: Sequence[Coupon]) -> set[RewardKey]:
        """Keeps coupons, and says which it kept: a coupon that is there already, or whose code is, is left out."""
        rows = await self._connection.fetch(
            QUERIES["insert_coupons"],
            [coupon.partition for coupon in coupons],
            [coupon.campaign_id for coupon in coupons],
            [coupon.member_id for coupon in coupons],
            [coupon.change_offset for coupon in coupons],
            [coupon.code for coupon in coupons],
            [coupon.variant for coupon in coupons],
            [coupon.discount_bp for coupon in coupons],
            [coupon.discount_minor_units for coupon in coupons],
            [coupon.issued_time for coupon in coupons],
            [coupon.valid_until_time for coupon in coupons],
        )
        return {tuple(row) for row in rows}

    async def find_coupon_keys(self, keys: Sequence[RewardKey]) -> set[RewardKey]:
        """Which of these have their coupon."""
        columns = [list(column) for column in zip(*keys, strict=True)]
        return {tuple(row) for row in await self._connection.fetch(QUERIES["find_coupon_keys"], *columns)}

    async def find_addressed(self, keys: Sequence[MemberKey]) -> set[MemberKey]:
        """Which of these members have an address that can be opened."""
        columns = [list(column) for column in zip(*keys, strict=True)]
        return {tuple(row) for row in await self._connection.fetch(QUERIES["find_addressed"], *columns)}

    async def insert_deliveries(
        self, rewards: Sequence[Reward], states: Sequence[DeliveryState], now: datetime
    ) -> None:
        """Keeps the messages of these rewards, each in its state."""
        await self._connection.execute(
            QUERIES["insert_deliveries"],
            [reward.coupon.partition for reward in rewards],
            [reward.coupon.campaign_id for reward in rewards],
            [reward.coupon.member_id for reward in rewards],
            [reward.coupon.change_offset for reward in rewards],
            [reward.letter.delivery_id for reward in rewards],
            [reward.letter.tier for reward in rewards],
            [reward.letter.previous_tier for reward in rewards],
            [reward.letter.balance for reward in rewards],
            [reward.coupon.issued_time for reward in rewards],
            [state.value for state in states],
            now,
        )

    async def find_rewards(self, keys: Iterable[MemberKey]) -> list[Reward]:
        """What these members hold: coupons that were not taken back, expired ones too, each with its message."""
        columns = [list(column) for column in zip(*keys, strict=True)]
        rows = await self._connection.fetch(QUERIES["find_rewards"], *columns)
        return [Reward(coupon=_coupon(row), letter=_letter(row)) for row in rows]

    async def void_coupons(self, coupons: Sequence[Coupon]) -> None:
        """Keeps of coupons that they were taken back, and when and by what; their messages that wait are dead."""
        await self._connection.execute(
            QUERIES["void_coupons"],
            [coupon.partition for coupon in coupons],
            [coupon.campaign_id for coupon in coupons],
            [coupon.member_id for coupon in coupons],
            [coupon.change_offset for coupon in coupons],
            [coupon.voided_time for coupon in coupons],
            [coupon.voided_by for coupon in coupons],
            TAKEN_BACK,
        )

    # Coupons

    async def find_coupon(self, partition: int, code: str) -> Coupon | None:
        """The coupon with this code (as printed)."""
        row = await self._connection.fetchrow(QUERIES["find_coupon"], partition, code)
        return None if row is None else _coupon(row)

    # Messages

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
                coupon=_coupon(row),
                letter=_letter(row),
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

    # Contacts

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
        return bytes(await self._connection.fetchval(QUERIES["find_member_key"], partition, member_id))

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

    async def put_contact(self, contact: SealedContact, now: datetime) -> None:
        """Sets a contact, whole; one without name and e-mail is removed."""
        place = (contact.partition, contact.member_id)
        if contact.name is None and contact.email is None:
            await self._connection.execute(QUERIES["delete_contact"], *place)
        else:
            await self._connection.execute(QUERIES["put_contact"], *place, contact.name, contact.email, now)

    async def queue_again(self, partition: int, member_id: str, *, business_now: datetime, now: datetime) -> int:
        """Queues the member's messages that found no contact and whose coupons are valid; says how many."""
        return len(await self._connection.fetch(QUERIES["queue_again"], partition, member_id, business_now, now))

    # What the check reads

    async def check_members(self) -> dict[tuple[int, str], datetime]:
        """Every member's joining time, by partition and id."""
        rows = await self._connection.fetch(QUERIES["check_members"])
        return {(row["partition"], row["member_id"]): row["joined_time"] for row in rows}

    async def check_rewards(self) -> dict[RewardKey, tuple[Coupon, Letter | None, datetime | None]]:
        """Every coupon with its message (None where that is missing) and when the message was made."""
        rows = await self._connection.fetch(QUERIES["check_rewards"])
        found: dict[RewardKey, tuple[Coupon, Letter | None, datetime | None]] = {}
        for row in rows:
            coupon = _coupon(row)
            letter = None if row["delivery_id"] is None else _letter(row)
            found[coupon.key] = coupon, letter, row["created_time"]
        return found

    async def check_contacts(self) -> list[SealedContact]:
        """Every contact."""
        return [SealedContact(**row) for row in await self._connection.fetch(QUERIES["check_contacts"])]


def _coupon(row: Mapping[str, Any]) -> Coupon:
    return Coupon(
        partition=row["partition"],
        campaign_id=row["campaign_id"],
        member_id=row["member_id"],
        change_offset=row["change_offset"],
        code=row["code"],
        variant=row["variant"],
        discount_bp=row["discount_bp"],
        discount_minor_units=row["discount_minor_units"],
        issued_time=row["issued_time"],
        valid_until_time=row["valid_until_time"],
        voided_time=row["voided_time"],
        voided_by=row["voided_by"],
    )


def _letter(row: Mapping[str, Any]) -> Letter:
    return Letter(
        delivery_id=row["delivery_id"],
        tier=row["tier"],
        previous_tier=row["previous_tier"],
        balance=row["balance_minor_units"],
    )


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
