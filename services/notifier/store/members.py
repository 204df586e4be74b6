"""Who is a member."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.notifier.domain.feeds import LedgerEntry, MemberJoined
from services.notifier.store.table import QUERIES, Table


class Members(Table):
    """Members, from the ledger."""

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

    async def knows_member(self, partition: int, member_id: str) -> bool:
        """Whether there is such a member, as far as the feed has told."""
        return bool(await self._connection.fetchval(QUERIES["knows_member"], partition, member_id))

    async def check_members(self) -> dict[tuple[int, str], datetime]:
        """Every member's joining time, by partition and id."""
        rows = await self._connection.fetch(QUERIES["check_members"])
        return {(row["partition"], row["member_id"]): row["joined_time"] for row in rows}
