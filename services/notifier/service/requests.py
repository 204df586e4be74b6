"""What every use case asks of a request: whether it is the one that was answered before, whether its member is, and
whether what it tells of can have happened."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, Literal

from services.notifier.errors import RequestIdReusedError
from services.notifier.store import Store, Transaction

# As the ledger has it: how far a caller's clock may run ahead, and the days of a history that is lived through again.
_FUTURE_TOLERANCE: Final = timedelta(minutes=5)
_SIMULATED_AHEAD: Final = timedelta(days=2)

# Whether the ledger has a member; raises PeerError.
MemberExists = Callable[[str], Awaitable[bool]]


def same_request(kept: bytes | None, sent: bytes) -> Literal[True]:
    """True where what is kept of a request stands for what was sent; raises RequestIdReusedError otherwise."""
    if kept is None or not hmac.compare_digest(kept, sent):
        raise RequestIdReusedError
    return True


def lies_ahead(occurred: datetime, business_now: datetime, *, simulated: bool) -> bool:
    """Whether something cannot have happened yet, however far the caller's clock may run ahead."""
    return occurred > business_now + (_SIMULATED_AHEAD if simulated else _FUTURE_TOLERANCE)


async def is_member(store: Store, member_exists: MemberExists, partition: int, member_id: str) -> bool:
    """Whether there is such a member: the ledger knows a new one before our feed does. Raises PeerError."""

    async def read(transaction: Transaction) -> bool:
        return await transaction.knows_member(partition, member_id)

    return await store.read(read) or await member_exists(member_id)
