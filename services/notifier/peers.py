"""Calls of other services: what they have decided, and what may pass."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, TypeVar

import grpc
from google.rpc import status_pb2

from services.notifier.errors import MemberUnknownError, PeerError, PeerRefusedError
from services.runtime.identity import ON_BEHALF_OF
from services.runtime.status import NotCaughtUpError, info_of, status_of

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
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


async def answered(call: Awaitable[T]) -> T:
    """The answer of another service; raises what `error_of` says."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise error_of(status_of(error)) from None


async def known(call: Awaitable[T]) -> T:
    """The answer of another service about a member; raises MemberUnknownError, too, where it knows none of this id."""
    try:
        return await answered(call)
    except PeerRefusedError as error:
        if error.reason == "MEMBER_UNKNOWN":
            raise MemberUnknownError from None
        raise


async def found(call: Awaitable[T], *missing: str) -> T | None:
    """The answer of another service about something; None where it refuses for one of these reasons, which say that
    there is no such thing. What it refuses for any other is no answer: PeerError."""
    try:
        return await answered(call)
    except PeerRefusedError as error:
        if error.reason in missing:
            return None
        raise PeerError(f"another service refuses what it should not: {error.reason}") from None


def error_of(status: status_pb2.Status) -> PeerRefusedError | NotCaughtUpError | PeerError:
    """What another service says by a status: PeerRefusedError where it refuses, which it does with a reason;
    NotCaughtUpError where it has yet to take in the writes of a causal token; PeerError where it does not answer."""
    info = info_of(status)
    if info.reason == "NOT_CAUGHT_UP":
        return NotCaughtUpError()
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    if code not in _DECIDED or not info.reason:
        return PeerError(f"another service does not answer: {code.name}")
    # Whether it was asked before is no matter of who asks here.
    metadata = {key: value for key, value in info.metadata.items() if key != "replayed"}
    return PeerRefusedError(code.name, info.reason, status.message, metadata)


def acting_for(principal: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call that is made for somebody; none where that is nobody."""
    return ((ON_BEHALF_OF, principal),) if principal else ()
