"""Requests that belong to no member."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.notifier.store.table import QUERIES, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRequest:
    """What stands for what a request asked for, and its answer; None where that is how things are."""

    content_digest: bytes
    answer: bool | None


class Requests(Table):
    """Requests, by what stands for who asked and for its id."""

    async def keep_request(self, request_digest: bytes, request: KeptRequest, now: datetime) -> KeptRequest | None:
        """Keeps a request; says the one that was kept by its id before, None where there was none."""
        values = (request_digest, request.content_digest, request.answer, now)
        if await self._connection.fetchval(QUERIES["insert_request"], *values) is not None:
            return None
        return KeptRequest(**await self._connection.fetchrow(QUERIES["find_request"], request_digest))
