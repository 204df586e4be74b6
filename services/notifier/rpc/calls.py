"""What all methods share: the use cases, the audit log, times."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeAlias

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from services.notifier.service import UseCases
from services.runtime.audit import AuditTrail
from services.runtime.identity import current_caller

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class Methods:
    """Methods of a service of the contract."""

    def __init__(self, do: UseCases, *, audit: AuditTrail, currency: str) -> None:
        self._do = do
        self._audit = audit
        self._currency = currency


def stamp(time: datetime) -> Timestamp:
    """A time of the contract."""
    written = Timestamp()
    written.FromDatetime(time)
    return written


def acting_principal() -> str:
    """Who asks: whom the caller acts for, or the caller."""
    caller = current_caller.get()
    return caller.on_behalf_of or caller.principal
