"""What every use case asks of a request: whether it is the one that was answered before, and whether its member is."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Literal

from services.notifier.errors import RequestIdReusedError
from services.notifier.store import Store, Transaction

# Whether the ledger has a member; raises PeerError.
MemberExists = Callable[[str], Awaitable[bool]]


def same_request(kept: bytes | None, sent: bytes) -> Literal[True]:
    """True where what is kept of a request stands for what was sent; raises RequestIdReusedError otherwise."""
    if kept is None or not hmac.compare_digest(kept, sent):
        raise RequestIdReusedError
    return True


async def is_member(store: Store, member_exists: MemberExists, partition: int, member_id: str) -> bool:
    """Whether there is such a member: the ledger knows a new one before our feed does. Raises PeerError."""

    async def read(transaction: Transaction) -> bool:
        return await transaction.knows_member(partition, member_id)

    return await store.read(read) or await member_exists(member_id)
