"""Checkouts that were committed, and the answers to their requests."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.notifier.domain.feeds import LedgerEntry
from services.notifier.domain.kept import pack, unpack
from services.notifier.domain.sales import Answer, Sale, SaleContent, SaleState, Sold
from services.notifier.store.table import QUERIES, Table

# The partition, the member and the id of a checkout.
CheckoutKey = tuple[int, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutRequest:
    """A request that commits or cancels a checkout, by a keyed digest of its content; `answer` is None until it is
    decided."""

    content_digest: bytes
    checkout_id: str
    answer: Answer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoneCheckout:
    """A complete checkout of which something came back, by the entry at `undone_offset` last."""

    key: CheckoutKey
    sale_id: str
    undone_offset: int
    sold: Sold


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedCheckout:
    """A request and how far its checkout is, which is None where it has none, or another request's. `answered`: whether
    the request is; of what was sold the price, else None."""

    member_id: str
    request_id: str
    checkout_id: str
    state: str | None
    answered: bool
    currency: str | None
    amount: int | None
    points: int | None
    points_amount: int | None


class Checkouts(Table):
    """Checkouts and their requests."""

    async def find_checkout_request(self, partition: int, member_id: str, request_id: str) -> CheckoutRequest | None:
        """A request, where it came before."""
        row = await self._connection.fetchrow(QUERIES["find_checkout_request"], partition, member_id, request_id)
        if row is None:
            return None
        answer = None if row["answer"] is None else unpack(Answer, row["answer"])
        return CheckoutRequest(content_digest=row["content_digest"], checkout_id=row["checkout_id"], answer=answer)

    async def insert_checkout_request(
        self, partition: int, member_id: str, request_id: str, request: CheckoutRequest, now: datetime
    ) -> bool:
        """Keeps a request; False where one of this id came before."""
        answer = None if request.answer is None else pack(request.answer)
        values = (partition, member_id, request_id, request.content_digest, request.checkout_id, answer, now)
        return await self._connection.fetchval(QUERIES["insert_checkout_request"], *values) is not None

    async def answer_checkout_request(self, partition: int, member_id: str, request_id: str, answer: Answer) -> None:
        """Keeps the answer to a request; one that it has stays."""
        values = (partition, member_id, request_id, pack(answer))
        await self._connection.execute(QUERIES["answer_checkout_request"], *values)

    async def find_checkout(self, key: CheckoutKey) -> Sale | None:
        """A checkout."""
        row = await self._connection.fetchrow(QUERIES["find_checkout"], *key)
        return None if row is None else _sale(row)

    async def insert_checkout(self, sale: Sale) -> bool:
        """Keeps a checkout, in place of one that was refused; False where there is another."""
        content = None if sale.content is None else pack(sale.content)
        values = (
            sale.partition,
            sale.member_id,
            sale.checkout_id,
            sale.request_id,
            sale.sale_id,
            sale.state.value,
            content,
            sale.started_time,
            sale.lease_until,
        )
        return await self._connection.fetchval(QUERIES["insert_checkout"], *values) is not None

    async def move_checkout(self, sale: Sale, to: SaleState, lease_until: datetime) -> bool:
        """Moves a sale on; False where somebody else has, or has its lease."""
        key = (sale.partition, sale.member_id, sale.checkout_id, sale.sale_id)
        values = (sale.state.value, sale.lease_until, to.value, lease_until)
        return await self._connection.fetchval(QUERIES["move_checkout"], *key, *values) is not None

    async def cancel_checkout(self, key: CheckoutKey) -> Sale | None:
        """Lets a sale go that is not decided yet, and says how it stands; None where there is none, or it is decided,
        or the ledger decides."""
        row = await self._connection.fetchrow(QUERIES["cancel_checkout"], *key)
        return None if row is None else _sale(row)

    async def cancel_done_checkout(self, key: CheckoutKey, content: SaleContent, now: datetime) -> bool:
        """Lets a complete sale go, of which this is to be given back; False where it is not complete any more."""
        return await self._connection.fetchval(QUERIES["cancel_done_checkout"], *key, pack(content), now) is not None

    async def find_checkout_member(self, content_digest: bytes) -> str | None:
        """Whose checkout a request is about that came before, by what stands for its content."""
        member_id: str | None = await self._connection.fetchval(QUERIES["find_checkout_member"], content_digest)
        return member_id

    async def take_checkout(self, key: CheckoutKey, *, now: datetime, until: datetime) -> Sale | None:
        """Takes a sale to carry it on; None where nothing is left to do, or somebody else has it."""
        row = await self._connection.fetchrow(QUERIES["take_checkout"], *key, now, until)
        return None if row is None else _sale(row)

    async def postpone_checkout(self, key: CheckoutKey, lease_until: datetime, until: datetime) -> None:
        """Gives a lease back: somebody may go on at `until`."""
        await self._connection.execute(QUERIES["postpone_checkout"], *key, lease_until, until)

    async def find_unfinished_checkouts(self, now: datetime, limit: int) -> Sequence[CheckoutKey]:
        """Sales that nobody carries on."""
        rows = await self._connection.fetch(QUERIES["find_unfinished_checkouts"], now, limit)
        return [(row["partition"], row["member_id"], row["checkout_id"]) for row in rows]

    async def mark_checkouts_undone(self, entries: Sequence[tuple[LedgerEntry, str, str]]) -> None:
        """Keeps that something of purchases came back, each with the entry that says so and its member: where they are
        checkouts."""
        if not entries:
            return
        last = {(entry.partition, member_id, purchase_id): entry.offset for entry, member_id, purchase_id in entries}
        columns = [list(column) for column in zip(*last, strict=True)]
        await self._connection.execute(QUERIES["mark_checkouts_undone"], *columns, list(last.values()))

    async def find_undone_checkouts(self, limit: int) -> Sequence[UndoneCheckout]:
        """Complete checkouts of which something came back, and nobody has looked at since."""
        rows = await self._connection.fetch(QUERIES["find_undone_checkouts"], limit)
        return [
            UndoneCheckout(
                key=(row["partition"], row["member_id"], row["checkout_id"]),
                sale_id=row["sale_id"],
                undone_offset=row["undone_offset"],
                sold=sold,
            )
            for row in rows
            if (sold := unpack(Answer, row["answer"]).sold) is not None
        ]

    async def settle_undone_checkout(self, checkout: UndoneCheckout) -> None:
        """It was looked at; what came back since is still to be."""
        await self._connection.execute(QUERIES["settle_undone_checkout"], *checkout.key, checkout.undone_offset)

    async def check_checkouts(self, partition: int, members: Collection[str] | None = None) -> list[CheckedCheckout]:
        """Requests of a partition, of all or some of its members, with their checkouts; and checkouts whose request is
        gone."""
        rows = await self._connection.fetch(QUERIES["check_checkouts"], partition, members)
        return [CheckedCheckout(**row) for row in rows]


def _sale(row: Mapping[str, Any]) -> Sale:
    content = row["content"]
    return Sale(
        partition=row["partition"],
        member_id=row["member_id"],
        checkout_id=row["checkout_id"],
        request_id=row["request_id"],
        sale_id=row["sale_id"],
        state=SaleState(row["state"]),
        content=None if content is None else unpack(SaleContent, content),
        started_time=row["started_time"],
        lease_until=row["lease_until"],
    )
