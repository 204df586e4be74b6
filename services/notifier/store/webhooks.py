"""Webhook endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from services.notifier.domain.webhooks import Endpoint
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

    async def list_endpoints(self) -> list[Endpoint]:
        """All that are not deleted, the newest first."""
        return [endpoint_of_row(row) for row in await self._connection.fetch(QUERIES["list_endpoints"])]

    async def delete_endpoint(self, endpoint_id: str, now: datetime) -> bool:
        """Deletes an endpoint; False where there is none."""
        return await self._connection.fetchval(QUERIES["delete_endpoint"], endpoint_id, now) is not None

    async def endpoint_failed(self, endpoint_id: str, now: datetime) -> None:
        """A try at it failed."""
        await self._connection.execute(QUERIES["endpoint_failed"], endpoint_id, now)

    async def endpoint_succeeded(self, endpoint_id: str) -> None:
        """A try at it succeeded."""
        await self._connection.execute(QUERIES["endpoint_succeeded"], endpoint_id)

    async def disable_endpoint(self, endpoint_id: str, now: datetime, reason: str) -> bool:
        """Sends it nothing more; False where that is so already."""
        return await self._connection.fetchval(QUERIES["disable_endpoint"], endpoint_id, now, reason) is not None


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
    )
