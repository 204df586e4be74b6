"""Webhook endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from services.notifier.domain.webhooks import DISABLED_AFTER, FAILING, GONE, Endpoint
from services.notifier.store.table import QUERIES, Table


class Webhooks(Table):
    """Where events go."""

    async def lock_endpoints(self) -> None:
        """Keeps others from making endpoints until the end of the transaction."""
        await self._connection.execute(QUERIES["lock_endpoints"])

    async def insert_endpoint(self, endpoint: Endpoint, content_digest: bytes) -> bool:
        """Keeps an endpoint; False where its request made it before."""
        values = (
            endpoint.endpoint_id,
            endpoint.url,
            endpoint.description,
            sorted(endpoint.event_types),
            sorted(endpoint.fields),
            endpoint.sealed_secret,
            content_digest,
            endpoint.created_time,
        )
        return await self._connection.fetchval(QUERIES["insert_endpoint"], *values) is not None

    async def find_endpoint(self, endpoint_id: str) -> tuple[Endpoint, bytes, bool] | None:
        """An endpoint, what stands for the request that made it, and whether it is deleted."""
        row = await self._connection.fetchrow(QUERIES["find_endpoint"], endpoint_id)
        if row is None:
            return None
        return endpoint_of_row(row), bytes(row["content_digest"]), row["deleted_time"] is not None

    async def find_open_endpoint(self, endpoint_id: str) -> Endpoint | None:
        """An endpoint that events are sent to; None where it is disabled or deleted."""
        found = await self.find_endpoint(endpoint_id)
        if found is None or found[2] or found[0].disabled_time is not None:
            return None
        return found[0]

    async def list_endpoints(self) -> list[Endpoint]:
        """All that are not deleted, the newest first."""
        return [endpoint_of_row(row) for row in await self._connection.fetch(QUERIES["list_endpoints"])]

    async def delete_endpoint(self, endpoint_id: str, now: datetime) -> bool:
        """Deletes an endpoint; False where there is none."""
        return await self._connection.fetchval(QUERIES["delete_endpoint"], endpoint_id, now) is not None

    async def endpoint_failed(self, endpoint_id: str, now: datetime, *, gone: bool) -> bool:
        """A try at it failed; it is disabled where it is gone or has failed for too long. Whether that happened now."""
        values = (endpoint_id, now, gone, now - DISABLED_AFTER, GONE, FAILING)
        return bool(await self._connection.fetchval(QUERIES["endpoint_failed"], *values))

    async def endpoint_succeeded(self, endpoint_id: str) -> None:
        """A try at it succeeded."""
        await self._connection.execute(QUERIES["endpoint_succeeded"], endpoint_id)

    async def enable_endpoint(self, endpoint_id: str) -> None:
        """Sends it events again; how long it failed is forgotten. One that is not disabled stays as it is."""
        await self._connection.execute(QUERIES["enable_endpoint"], endpoint_id)

    async def change_secret(self, endpoint_id: str, sealed_secret: bytes, previous_until: datetime) -> None:
        """Signs events with another secret, and until then (machine time) with the one before, too."""
        await self._connection.execute(QUERIES["change_secret"], endpoint_id, sealed_secret, previous_until)


def endpoint_of_row(row: Mapping[str, Any]) -> Endpoint:
    """The endpoint of a row."""
    return Endpoint(
        endpoint_id=row["endpoint_id"],
        url=row["url"],
        description=row["description"],
        event_types=frozenset(row["event_types"]),
        fields=frozenset(row["fields"]),
        sealed_secret=bytes(row["secret"]),
        created_time=row["created_time"],
        failing_since=row["failing_since"],
        disabled_time=row["disabled_time"],
        disabled_reason=row["disabled_reason"],
        previous_secret=row["previous_secret"],
        previous_until=row["previous_until"],
    )
