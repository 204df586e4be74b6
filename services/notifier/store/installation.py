"""To whom the database belongs, and how far both feeds are handled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.notifier.domain.feeds import Cursor
from services.notifier.errors import CursorMovedError
from services.notifier.store.table import QUERIES, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """To whom the database belongs: the id of the master key it was made with, the ledger's partitions and kind of
    clock. `sealed_keys`: the derived keys, once they are sealed by a newer master key."""

    key_fingerprint: bytes
    partitions: int
    simulated: bool
    sealed_keys: bytes | None = None


class Installations(Table):
    """The installation, and the cursors with their locks."""

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
