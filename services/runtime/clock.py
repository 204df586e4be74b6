"""The two clocks (DESIGN §6).

*Machine* time runs leases, backoff, deadlines and tokens. *Business* time says when things happen, fall due and
expire; in a real-time installation it is machine time, in a simulated one it moves only by AdvanceClock.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

# Where the business time of a simulated installation starts.
SIMULATED_START = datetime(1970, 1, 1, tzinfo=UTC)

MachineClock = Callable[[], datetime]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class ClockMode(enum.StrEnum):
    """What moves the business time of an installation."""

    REAL = "real"
    SIMULATED = "simulated"


def machine_now() -> datetime:
    """Machine time, aware, in UTC, to the microsecond."""
    return datetime.now(UTC)


def microseconds(time: datetime) -> int:
    """The instant of an aware time, in microseconds since 1970-01-01T00:00:00Z."""
    return (time - _EPOCH) // _MICROSECOND


def moment(instant: int) -> datetime:
    """The aware time, in UTC, of an instant in microseconds; raises OverflowError where no datetime holds it."""
    return _EPOCH + instant * _MICROSECOND
