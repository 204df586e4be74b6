"""Pools of codes that were made elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from services.notifier.domain.pools import PoolCode
from services.notifier.store.table import QUERIES, Table


class Pools(Table):
    """Codes of pools, each in the partition of what it is known by."""

    async def insert_pool_codes(self, pool: str, import_id: str, codes: Sequence[tuple[int, PoolCode]]) -> set[str]:
        """Keeps codes of one import, each with its partition; says, by what they are known by, which were new."""
        rows = await self._connection.fetch(
            QUERIES["insert_pool_codes"],
            [partition for partition, _ in codes],
            [code.folded for _, code in codes],
            [code.code for _, code in codes],
            [code.line for _, code in codes],
            pool,
            import_id,
        )
        return {row["folded"] for row in rows}

    async def find_pool_codes(self, places: Sequence[tuple[int, str]]) -> dict[str, PoolCode]:
        """Codes by their partitions and what they are known by."""
        columns = [partition for partition, _ in places], [folded for _, folded in places]
        rows = await self._connection.fetch(QUERIES["find_pool_codes"], *columns)
        return {row["folded"]: PoolCode(**row) for row in rows}

    async def take_pool_codes(self, partition: int, pool: str, *, coupon_partition: int, limit: int) -> list[str]:
        """Takes up to so many free codes of a pool from one partition, for coupons in another; nobody else has them."""
        values = (partition, pool, coupon_partition, limit)
        return [row["code"] for row in await self._connection.fetch(QUERIES["take_pool_codes"], *values)]

    async def find_pools_with_codes(self, pools: Collection[str]) -> set[str]:
        """Which of these pools have a free code, one that others are about to take included."""
        return {row["pool"] for row in await self._connection.fetch(QUERIES["find_pools_with_codes"], list(pools))}

    async def locate_pool_code(self, partition: int, folded: str) -> tuple[int, str] | None:
        """The partition and the code of the coupon that was given by a code of a pool."""
        row = await self._connection.fetchrow(QUERIES["locate_pool_code"], partition, folded)
        return None if row is None else (row["coupon_partition"], row["code"])
