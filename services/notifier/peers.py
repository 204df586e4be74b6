"""Calls of other services: what they have decided, and what may pass."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, TypeVar

import grpc

from services.notifier.errors import PeerError, PeerRefusedError
from services.runtime.identity import ON_BEHALF_OF
from services.runtime.status import refusal_of

T = TypeVar("T")

# The other service has decided, and decides the same again. What services may ask of each other is the installation's
# to set right, and never told to a caller as what he may not.
_DECIDED: Final = frozenset(
    {
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.OUT_OF_RANGE,
    }
)


async def answered(call: Awaitable[T]) -> T:
    """The answer of another service; raises PeerRefusedError where it refuses, PeerError where it does not answer."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() in _DECIDED:
            raise PeerRefusedError(error.code().name, refusal_of(error), error.details() or "") from None
        raise PeerError(f"another service does not answer: {error.code().name}") from None


def acting_for(principal: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call that is made for somebody; none where that is nobody."""
    return ((ON_BEHALF_OF, principal),) if principal else ()
