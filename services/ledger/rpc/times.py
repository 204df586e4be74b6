"""Times of the contract, to the microsecond."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from services.ledger.domain.encoding import from_microseconds, to_microseconds
from services.runtime.status import InvalidFieldError

_SECOND = 1_000_000


def read_time(message: Any, field: str) -> datetime | None:
    """An optional time of a message."""
    if not message.HasField(field):
        return None
    stamp = getattr(message, field)
    _check_nanos(field, stamp.nanos)
    return from_microseconds(stamp.seconds * _SECOND + stamp.nanos // 1000)


def read_span(message: Any, field: str, default: timedelta) -> timedelta:
    """An optional, positive span of time of a message; less than a microsecond counts as one."""
    if not message.HasField(field):
        return default
    span = getattr(message, field)
    _check_nanos(field, span.nanos)
    return timedelta(seconds=span.seconds, microseconds=-(-span.nanos // 1000))


def set_time(stamp: Timestamp, time: datetime) -> None:
    """Writes a time into a message."""
    stamp.seconds, micros = divmod(to_microseconds(time), _SECOND)
    stamp.nanos = micros * 1000


def _check_nanos(field: str, nanos: int) -> None:
    if not 0 <= nanos < 1_000_000_000:
        raise InvalidFieldError(field, "its nanos must be from 0 to 999999999")
