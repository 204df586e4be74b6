"""Members who were erased, what is handed out of what is kept, and goodwill."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from services.notifier.domain.coupons import MemberKey
from services.notifier.store.table import QUERIES, Table

# In the order of their file: deliveries before contacts, as whoever sends locks them.
_ERASING = [query for name, query in QUERIES.items() if name.startswith("erase_")]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureKept:
    """That a member is to be erased: by whom and why; `erased_time` is None while a service has yet to forget it."""

    partition: int
    member_id: str
    request_id: str
    reason: str
    principal: str
    asked_time: datetime
    erased_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Goodwill: `awarded_time` is None while the ledger has yet to be told, `refused` is why it refused. `reason` is
    empty where the member was erased since."""

    partition: int
    member_id: str
    request_id: str
    month: date
    points: int
    reason: str
    principal: str
    granted_time: datetime
    awarded_time: datetime | None = None
    refused: str = ""
    causal_token: str = ""


class Privacy(Table):
    """Erasures, exports, goodwill."""

    async def find_erasure(self, partition: int, member_id: str) -> ErasureKept | None:
        """The erasure of a member; None for who was not erased."""
        row = await self._connection.fetchrow(QUERIES["find_erasure"], partition, member_id)
        return None if row is None else ErasureKept(partition=partition, member_id=member_id, **row)

    async def find_erased(self, members: Collection[MemberKey]) -> set[MemberKey]:
        """Which of these members were erased."""
        columns = [partition for partition, _ in members], [member_id for _, member_id in members]
        return {tuple(row) for row in await self._connection.fetch(QUERIES["find_erased"], *columns)}

    async def insert_erasure(self, erasure: ErasureKept) -> bool:
        """Keeps an erasure; False where the member has one."""
        kept = await self._connection.fetchval(
            QUERIES["insert_erasure"],
            erasure.partition,
            erasure.member_id,
            erasure.request_id,
            erasure.reason,
            erasure.principal,
            erasure.asked_time,
        )
        return kept is not None

    async def forget(self, partition: int, member_id: str) -> None:
        """Forgets a person: contact and key are gone, messages are stopped, what tells of the person is emptied.
        Checkouts that are under way are left."""
        for query in _ERASING:
            await self._connection.execute(query, partition, member_id)

    async def finish_erasure(self, partition: int, member_id: str, now: datetime) -> bool:
        """Keeps that all services have forgotten a member; False while a checkout is left, or where it was kept."""
        return await self._connection.fetchval(QUERIES["finish_erasure"], partition, member_id, now) is not None

    async def unfinished_erasures(self, after: tuple[datetime, str], limit: int) -> list[ErasureKept]:
        """Members who are not forgotten everywhere, after a place (when it was asked, and the member), in that
        order."""
        rows = await self._connection.fetch(QUERIES["unfinished_erasures"], *after, limit)
        return [ErasureKept(**row) for row in rows]

    async def check_erased(self) -> set[MemberKey]:
        """Everybody who was erased."""
        return {tuple(row) for row in await self._connection.fetch(QUERIES["check_erased"])}

    async def records(
        self, table: str, partition: int, member_id: str, after: Sequence[str], limit: int
    ) -> tuple[list[str], list[str]]:
        """Rows of a table that are about a member, as JSON, after a place (empty: from the first on); and the place of
        the last of them, which is empty where there are none."""
        rows = await self._connection.fetch(QUERIES[f"export_{table}"], partition, member_id, after, limit)
        return [row["record"] for row in rows], rows[-1]["place"] if rows else []

    async def find_goodwill(self, partition: int, member_id: str, request_id: str) -> Grant | None:
        """What a request asked to give, and what came of it."""
        row = await self._connection.fetchrow(QUERIES["find_goodwill"], partition, member_id, request_id)
        return None if row is None else Grant(partition=partition, member_id=member_id, **row)

    async def insert_goodwill(self, grant: Grant, most: int) -> int | None:
        """Keeps what is to be given, and returns what the month comes to; None where that is more than `most`, or where
        the request is known: then nothing is kept."""
        values = (grant.partition, grant.member_id)
        total = await self._connection.fetchval(QUERIES["take_goodwill"], *values, grant.month, grant.points, most)
        if total is None:
            return None
        kept = await self._connection.fetchval(
            QUERIES["insert_goodwill"],
            *values,
            grant.request_id,
            grant.month,
            grant.points,
            grant.reason,
            grant.principal,
            grant.granted_time,
        )
        if kept is None:
            await self._connection.execute(QUERIES["return_goodwill"], *values, grant.month, grant.points)
            return None
        return int(total)

    async def goodwill_of(self, partition: int, member_id: str, month: date) -> int:
        """Points given to a member in a month."""
        return int(await self._connection.fetchval(QUERIES["find_goodwill_month"], partition, member_id, month) or 0)

    async def settle_goodwill(self, grant: Grant) -> None:
        """Keeps what came of goodwill; what was refused counts towards its month no more."""
        place = (grant.partition, grant.member_id)
        settled = await self._connection.fetchval(
            QUERIES["settle_goodwill"], *place, grant.request_id, grant.awarded_time, grant.refused, grant.causal_token
        )
        if settled and grant.refused:
            await self._connection.execute(QUERIES["return_goodwill"], *place, grant.month, grant.points)

    async def unfinished_goodwill(self, before: datetime, limit: int) -> list[Grant]:
        """Goodwill from before that the ledger has yet to be told."""
        return [Grant(**row) for row in await self._connection.fetch(QUERIES["unfinished_goodwill"], before, limit)]
