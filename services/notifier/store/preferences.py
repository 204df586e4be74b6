"""What members want to hear, and addresses that are not written to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from services.notifier.domain.preferences import Choice
from services.notifier.domain.suppressions import AddressKey
from services.notifier.store.table import QUERIES, Table


class Preferences(Table):
    """Consents and suppressions."""

    async def insert_consents(self, partition: int, member_id: str, choices: Sequence[Choice], principal: str) -> None:
        """Keeps what a member said, in its order, after all it said before. The partition must be locked."""
        for choice in choices:
            await self._connection.execute(
                QUERIES["insert_consent"],
                partition,
                member_id,
                choice.channel,
                choice.topic,
                choice.allowed,
                choice.source,
                principal,
                choice.chosen_time,
                choice.recorded_time,
            )

    async def lock_contacts(self, partition: int, member_ids: Collection[str]) -> None:
        """Keeps others who do the same out of what is sent to these members, until the end of the transaction."""
        await self._connection.execute(QUERIES["lock_contacts"], partition, sorted(member_ids))

    async def find_consents(self, partition: int, member_ids: Collection[str]) -> Mapping[str, Sequence[Choice]]:
        """What these members said last of each channel and topic, by member."""
        found: dict[str, list[Choice]] = defaultdict(list)
        for row in await self._connection.fetch(QUERIES["find_consents"], partition, list(member_ids)):
            found[row["member_id"]].append(
                Choice(
                    number=row["number"],
                    channel=row["channel"],
                    topic=row["topic"],
                    allowed=row["allowed"],
                    source=row["source"],
                    chosen_time=row["consent_time"],
                    recorded_time=row["recorded_time"],
                )
            )
        return found

    async def find_suppressed(self, addresses: Collection[AddressKey]) -> Mapping[AddressKey, str]:
        """Which of these addresses are not written to, with the reasons."""
        columns = ([partition for partition, _ in addresses], [digest for _, digest in addresses])
        rows = await self._connection.fetch(QUERIES["find_suppressed"], *columns)
        return {(row["partition"], bytes(row["address_hash"])): row["reason"] for row in rows}

    async def insert_suppressions(self, reasons: Mapping[AddressKey, str], now: datetime) -> None:
        """Writes to these addresses no more."""
        await self._connection.execute(
            QUERIES["insert_suppressions"],
            [partition for partition, _ in reasons],
            [digest for _, digest in reasons],
            list(reasons.values()),
            now,
        )

    async def delete_suppression(self, address: AddressKey) -> None:
        """Writes to an address again."""
        await self._connection.execute(QUERIES["delete_suppression"], *address)
