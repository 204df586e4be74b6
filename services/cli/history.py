"""History as it is loaded: what a format makes of its files. One format is one module of `formats`.

Money in minor units, instants in microseconds since 1970-01-01T00:00:00Z. A format reads its files once, in bounded
memory, and says of every line what becomes of it; where all of that is kept until it is sent, see `staging`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from services.cli.errors import CommandError
from services.programme import Programme
from services.runtime.clock import microseconds

_HASHED_AT_ONCE: Final = 1024 * 1024

# What the contract takes. Years: of any zone, with the second before them and the end of the last day, to which the
# clock moves.
YEARS: Final = range(1971, 2199)
MOST_MINOR_UNITS: Final = 10**12
MOST_PIECES: Final = 10**9
MOST_LINES: Final = 1000
LONGEST_SKU: Final = 64
LONGEST_NAME: Final = 200
MEMBER_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~@+-]{0,63}")

# Numbers as long as a source may write them, and products of two of them, are not rounded on their way.
LONGEST_NUMBER: Final = 40
EXACT: Final = Context(prec=2 * LONGEST_NUMBER + 20, rounding=ROUND_HALF_EVEN)


class SourceError(CommandError):
    """The source is not what its format promises; the message names the file and what is wrong with it."""


class BadLineError(Exception):
    """Within a format: a line does not count, for this reason."""


class Line(NamedTuple):
    """One line of a receipt. A named tuple: a year of a shop has millions of them."""

    sku: str
    name: str
    department: str
    category: str
    quantity: int
    amount: int


class Part(NamedTuple):
    """What some lines of the source say of one purchase or return; all of its parts together are the whole.

    `key` is the source's own number of it, unique for the member. `amount` is never negative. `lines` may be empty
    where the source has none; where there are any, they add up to the amount.
    """

    is_return: bool
    key: str
    member_id: str
    occurred: int
    amount: int
    source_lines: int
    lines: Sequence[Line] = ()
    store_id: str = ""


class Rejected(NamedTuple):
    """A line of the source that does not count. `amount` is signed, 0 where it cannot be read or is out of all bounds.

    Reasons are few: each gets a line of the account, what is wrong in particular stands in the row.
    """

    line: int
    reason: str
    row: Sequence[str]
    amount: int = 0
    member_id: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """What the amounts and the wall-clock times of a source are in."""

    currency: str
    digits: int
    zone: ZoneInfo


class Sink(Protocol):
    """Where a format puts what it reads. Every line is read once, and then is one of the others.

    Amounts are signed: what comes back is negative.
    """

    def read(self, amount: int, lines: int = 1) -> None:
        """Lines of the source were read."""

    def is_new(self, row: bytes) -> bool:
        """Whether this row, all its columns, comes for the first time."""

    def count(self, key: str) -> int:
        """How often this key was asked for, from 1."""

    def duplicate(self, amount: int) -> None:
        """A line that was there before."""

    def guest(self, amount: int) -> None:
        """A line of somebody who is no member."""

    def reject(self, rejected: Rejected) -> None:
        """A line that does not count."""

    def accept(self, part: Part) -> None:
        """Lines that count."""


class Source(Protocol):
    """A history in one format."""

    @property
    def title(self) -> str:
        """What it is, for people."""

    @property
    def columns(self) -> Sequence[str]:
        """The columns of a rejected row."""

    @property
    def paths(self) -> Sequence[Path]:
        """The files that it reads."""

    def read(self, units: Units, sink: Sink) -> None:
        """Reads all of it once, in the order of the source; raises SourceError where it cannot be read so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How a history can come. The name is the first part of every request id."""

    name: str
    open: Callable[[Path], Source]
    """Looks at the path; raises SourceError where it is not as the format promises."""
    currency: str
    """What its amounts are in, unless it is said otherwise."""
    zone: str
    """The zone of its wall-clock times, unless it is said otherwise; empty: that of the programme."""
    channel: str
    """Where its purchases were made: "pos", "web"."""


def instant(wall: datetime, zone: ZoneInfo) -> int:
    """The instant of a naive wall-clock time, in the reading of DESIGN §6.

    A time that does not exist moves forward by the gap, one that comes twice is its first.
    """
    # fold=0 is that reading: of a gap it takes the offset before it, of a repeated hour the first.
    return microseconds(wall.replace(tzinfo=zone, fold=0))


def end_of_day(day: date, programme: Programme) -> datetime:
    """The end of a local day of the programme: the start of the next."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=programme.zone)
    return programme.start_of_next_local_day(noon)


def minor_units(value: Decimal, digits: int) -> int | None:
    """A decimal in minor units, half of one going to the even; None where it is no number or out of all bounds."""
    try:
        rounded = int(EXACT.quantize(EXACT.scaleb(value, digits), Decimal(1)))
    except (InvalidOperation, ValueError, OverflowError):
        return None
    return rounded if abs(rounded) <= MOST_MINOR_UNITS else None


def states_of(paths: Sequence[Path]) -> list[tuple[int, ...]]:
    """What tells files that were written to from those that were not; raises SourceError where one is not there."""
    states: list[tuple[int, ...]] = []
    for path in paths:
        try:
            state = path.stat()
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from None
        states.append((state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns))
    return states


def fingerprint_of(paths: Sequence[Path]) -> str:
    """SHA-256 over files, one after the other, in hex; raises SourceError where one cannot be read."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                while chunk := file.read(_HASHED_AT_ONCE):
                    digest.update(chunk)
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    return digest.hexdigest()
