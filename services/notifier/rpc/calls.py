"""What all methods share: the use cases, the audit log, times."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, TypeAlias

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.notifier.v1 import checkout_service_pb2, privacy_pb2

from services.notifier.service import UseCases
from services.runtime.audit import AuditTrail
from services.runtime.identity import current_caller
from services.runtime.interceptors import DEFAULT_DEADLINE_SECONDS

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
# Requests that may say by an identifier whom they are about.
_Identifying: TypeAlias = (
    checkout_service_pb2.QuoteCheckoutRequest
    | checkout_service_pb2.CommitCheckoutRequest
    | checkout_service_pb2.CancelCheckoutRequest
    | privacy_pb2.GetMemberViewRequest
)

# What is kept of a deadline for the answer to travel.
_DEADLINE_MARGIN_SECONDS = 0.3


class Methods:
    """Methods of a service of the contract."""

    def __init__(self, do: UseCases, *, audit: AuditTrail, currency: str) -> None:
        self._do = do
        self._audit = audit
        self._currency = currency

    @contextlib.asynccontextmanager
    async def _identifying(self, request: _Identifying) -> AsyncIterator[None]:
        """Counts an identifier that leads to nobody against who asks, for the ledger leaves that to us; raises
        UnknownIdentifiersError, before it is looked up, where it was too often."""
        if not request.HasField("identifier"):
            yield
            return
        async with self._do.unknown_identifiers.trying(current_caller.get()):
            yield


def seconds_to_wait(context: Context) -> float:
    """How long a read may wait for what it asks for."""
    remaining = context.time_remaining() or DEFAULT_DEADLINE_SECONDS
    return max(0.0, remaining - _DEADLINE_MARGIN_SECONDS)


def stamp(time: datetime) -> Timestamp:
    """A time of the contract."""
    written = Timestamp()
    written.FromDatetime(time)
    return written


def acting_principal() -> str:
    """Who asks: whom the caller acts for, or the caller."""
    caller = current_caller.get()
    return caller.on_behalf_of or caller.principal
