"""History as it is loaded: what a format makes of its files, and what the loader sends. One format is one module.

Money in minor units of the source's currency, instants in microseconds since 1970-01-01T00:00:00Z. A format reads its
files twice: once for the survey, before anything is sent, and once for the days, in bounded memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from services.cli.errors import CommandError

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class SourceError(CommandError):
    """The source is not what its format promises; the message names the file and what is wrong with it."""


class Line(NamedTuple):
    """One line of a receipt. A named tuple: a year of a shop has millions of them."""

    sku: str
    department: str
    category: str
    quantity: int
    amount: int


class Purchase(NamedTuple):
    """A purchase; its lines, where there are any, add up to its amount."""

    request_id: str
    member_id: str
    purchase_id: str
    occurred: int
    amount: int
    lines: list[Line]
    store_id: str
    channel: str


class Joining(NamedTuple):
    """A member joins."""

    request_id: str
    member_id: str
    occurred: int
    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What happened on one local day: who joined, and what was bought, by (instant, purchase)."""

    date: date
    joinings: list[Joining]
    purchases: list[Purchase]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a source holds: every line read is rejected for one reason, or belongs to one purchase."""

    lines_read: int
    lines_rejected: Mapping[str, int] = field(hash=False)
    baskets: int
    purchases: int
    members: int
    amount: int
    first_day: date | None
    last_day: date | None

    @property
    def baskets_without_lines(self) -> int:
        """Baskets of which no line counts: they are no purchase."""
        return self.baskets - self.purchases


class Source(Protocol):
    """A history of one format."""

    @property
    def format(self) -> str:
        """The name of the format; the first part of every request id."""

    @property
    def title(self) -> str:
        """What it is, for people."""

    @property
    def currency(self) -> str:
        """ISO 4217 code of its amounts."""

    @property
    def fingerprint(self) -> str:
        """The same for the same content, and for no other: hex."""

    def survey(self) -> Survey:
        """Reads all of it once; raises SourceError where it cannot be read so."""

    def days(self, zone: ZoneInfo) -> Iterator[Day]:
        """The days on which something counts, ascending; wall-clock times are those of the zone."""


def instant(wall: datetime, zone: ZoneInfo) -> int:
    """The instant of a naive wall-clock time, in the reading of DESIGN §6.

    A time that does not exist moves forward by the gap, one that comes twice is its first.
    """
    # fold=0 is that reading: of a gap it takes the offset before it, of a repeated hour the first.
    return (wall.replace(tzinfo=zone, fold=0) - _EPOCH) // _MICROSECOND


def moment(occurred: int) -> datetime:
    """An instant as an aware time, UTC."""
    return _EPOCH + occurred * _MICROSECOND


def minor_units(value: float, digits: int) -> int | None:
    """A float's shortest decimal in minor units, half of one going to the even; None where it is no number.

    0.125 with two digits is 12, and so is 0.115: what a person reads is what is rounded.
    """
    try:
        return int(Decimal(repr(value)).scaleb(digits).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
    except (InvalidOperation, ValueError, OverflowError):
        return None
