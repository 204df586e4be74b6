"""`cdnow`: purchases of the CDNOW 1997 cohort, one per line, as CDNOW_master.txt has them.

Separated by spaces: customer, date as YYYYMMDD, number of CDs, dollars. Two equal lines are two purchases. The file
knows no time of day: a purchase is at noon.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from services.cli.formats.text import check_text, places_of, read_lines
from services.cli.history import (
    MOST_MINOR_UNITS,
    Format,
    Part,
    Rejected,
    Sink,
    SourceError,
    Units,
    fingerprint_of,
    instant,
    minor_units,
)

COLUMNS: Final = ("customer_id", "date", "number_of_cds", "dollar_value")

_CUSTOMER: Final = re.compile(r"[0-9]{1,32}")
_PIECES: Final = re.compile(r"[0-9]{1,9}")
_DOLLARS: Final = re.compile(r"-?[0-9]{1,12}(\.[0-9]{0,6})?")


class Cdnow:
    """One file, with a header or without."""

    def __init__(self, path: Path) -> None:
        """Looks at the first line; raises SourceError where it is not as expected."""
        check_text(path)
        self._path = path
        self._places = list(range(len(COLUMNS)))
        first = next(read_lines(path)).split()
        self._has_header = bool(first) and not first[0].isdigit()
        if self._has_header:
            self._places = places_of(COLUMNS, first, path)
        elif len(first) != len(COLUMNS):
            raise SourceError(f"{path} has lines of {len(first)} fields; expected are {', '.join(COLUMNS)}")
        self.columns: Sequence[str] = first if self._has_header else COLUMNS
        self.title = f"CDNOW, {path}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the file."""
        return fingerprint_of(self._path)

    def read(self, units: Units, sink: Sink) -> None:
        """See Source."""
        for number, line in enumerate(read_lines(self._path), start=1):
            if number == 1 and self._has_header:
                continue
            fields = line.split()
            read = [fields[place] for place in self._places] if len(fields) == len(self.columns) else []
            amount = _cents(read[3], units.digits) if read else None
            sink.read(amount or 0)
            reason = _reason(read, amount, units.zone)
            if reason:
                sink.reject(Rejected(number, reason, fields, amount or 0))
                continue
            customer, date = read[0], read[1]
            assert amount is not None, "there would be a reason"
            occurrence = sink.count(f"{customer}/{date}")
            sink.accept(Part(False, f"{date}-{occurrence}", customer, _noon(date, units.zone) or 0, amount, 1))


FORMAT: Final = Format(name="cdnow", open=Cdnow, currency="USD", zone="", channel="web")


def _reason(read: Sequence[str], amount: int | None, zone: ZoneInfo) -> str:
    """Why a line does not count; empty where it does."""
    if not read:
        return f"not {len(COLUMNS)} fields"
    if not _CUSTOMER.fullmatch(read[0]):
        return "customer_id is no number"
    if _noon(read[1], zone) is None:
        return "date is no date"
    if not _PIECES.fullmatch(read[2]):
        return "number_of_cds is no number"
    if amount is None:
        return "dollar_value is no number"
    if amount == 0:
        return "an amount of zero"
    if not 0 < amount <= MOST_MINOR_UNITS:
        return "an amount out of all bounds"
    return ""


def _cents(text: str, digits: int) -> int | None:
    return minor_units(Decimal(text), digits) if _DOLLARS.fullmatch(text) else None


@lru_cache(maxsize=4096)
def _noon(text: str, zone: ZoneInfo) -> int | None:
    if len(text) != 8 or not text.isascii() or not text.isdigit():
        return None
    try:
        day = datetime(int(text[:4]), int(text[4:6]), int(text[6:]), 12)  # noqa: DTZ001  # wall-clock time of the zone
    except ValueError:
        return None
    return instant(day, zone) if 1970 < day.year < 2200 else None
