"""`cdnow`: purchases of the CDNOW 1997 cohort, one per line, as CDNOW_master.txt has them.

Separated by spaces: customer, date as YYYYMMDD, number of CDs, dollars. Two equal lines are two purchases. The file
knows no time of day: a purchase is at noon.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from services.cli.formats.text import check_text, places_of, read_words
from services.cli.history import (
    YEARS,
    BadLineError,
    Format,
    Part,
    Rejected,
    Sink,
    SourceError,
    Units,
    instant,
    minor_units,
)

COLUMNS: Final = ("customer_id", "date", "number_of_cds", "dollar_value")

_CUSTOMER: Final = re.compile(r"[0-9]{1,32}")
_DATE: Final = re.compile(r"[0-9]{8}")
_PIECES: Final = re.compile(r"[0-9]{1,9}")
_DOLLARS: Final = re.compile(r"-?[0-9]{1,24}(\.[0-9]{0,12})?")


class _Row(NamedTuple):
    customer: str
    date: str
    pieces: str
    dollars: str


class Cdnow:
    """One file, with a header or without."""

    def __init__(self, path: Path) -> None:
        """Looks at the first line; raises SourceError where it is not as expected."""
        check_text(path)
        self._path = path
        self._places = list(range(len(COLUMNS)))
        _, first = next(read_words(path), (0, ()))
        self._has_header = bool(first) and not first[0].isdigit()
        if self._has_header:
            self._places = places_of(COLUMNS, first, path)
        elif len(first) != len(COLUMNS):
            raise SourceError(f"{path} has lines of {len(first)} fields; expected are {', '.join(COLUMNS)}")
        self.columns: Sequence[str] = first if self._has_header else COLUMNS
        self.paths: Sequence[Path] = (path,)
        self.title = f"CDNOW, {path}"

    def read(self, units: Units, sink: Sink) -> None:
        """See Source."""
        for number, fields in self._records():
            row = _Row(*(fields[place] for place in self._places)) if len(fields) == len(self.columns) else None
            amount = row and _cents(row.dollars, units.digits)
            sink.read(amount or 0)
            try:
                if row is None:
                    raise BadLineError(f"not {len(self.columns)} fields")
                part = _part(row, amount, units.zone)
            except BadLineError as reason:
                sink.reject(Rejected(number, str(reason), fields, amount or 0))
                continue
            occurrence = sink.count(f"{row.customer}/{row.date}")
            sink.accept(part._replace(key=f"{row.date}-{occurrence}"))

    def _records(self) -> Iterator[tuple[int, Sequence[str]]]:
        records = read_words(self._path)
        if self._has_header:
            next(records)
        return records


FORMAT: Final = Format(name="cdnow", open=Cdnow, currency="USD", zone="", channel="web")


def _part(row: _Row, amount: int | None, zone: ZoneInfo) -> Part:
    """What a line says, but for which one it is of its day; raises BadLineError where it does not count."""
    if not _CUSTOMER.fullmatch(row.customer):
        raise BadLineError("customer_id is no number")
    noon = _noon(row.date, zone) if _DATE.fullmatch(row.date) else None
    if noon is None:
        raise BadLineError("date is no date")
    if not _PIECES.fullmatch(row.pieces):
        raise BadLineError("number_of_cds is no number")
    if not _DOLLARS.fullmatch(row.dollars):
        raise BadLineError("dollar_value is no number")
    if amount is None:
        raise BadLineError("an amount out of all bounds")
    if amount <= 0:
        raise BadLineError("an amount below zero" if amount else "an amount of zero")
    return Part(False, "", row.customer, noon, amount, 1)


def _cents(text: str, digits: int) -> int | None:
    return minor_units(Decimal(text), digits) if _DOLLARS.fullmatch(text) else None


@lru_cache(maxsize=4096)
def _noon(text: str, zone: ZoneInfo) -> int | None:
    """Noon of a date of eight digits; None where there is none such."""
    try:
        noon = datetime(int(text[:4]), int(text[4:6]), int(text[6:]), 12)  # noqa: DTZ001  # wall-clock time of the zone
    except ValueError:
        return None
    return instant(noon, zone) if noon.year in YEARS else None
