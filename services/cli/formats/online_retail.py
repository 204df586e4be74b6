"""`online-retail`: order lines of a web shop, one per row, as the data set Online Retail II has them.

A CSV file with the columns of COLUMNS, in any order, among others if there are more. An invoice whose number starts
with C is a cancellation: a return that names no purchase. The lines of one invoice and one customer are one purchase
or return, at the earliest of their times. `12923` and `12923.0` are the same customer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from services.cli.formats.text import check_text, places_of, read_csv
from services.cli.history import (
    EARLIEST,
    LATEST,
    LONGEST_NAME,
    LONGEST_SKU,
    MOST_MINOR_UNITS,
    MOST_PIECES,
    Format,
    Line,
    Part,
    Rejected,
    Sink,
    Units,
    fingerprint_of,
    instant,
    minor_units,
)

COLUMNS: Final = ("Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country")
CANCELLED: Final = "C"

_KEY: Final = re.compile(r"[!-~]{1,32}")
_MEMBER: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._~@+-]{0,63}?)(?:\.0+)?")
_NUMBERED: Final = re.compile(r"[0-9]{1,64}(?:\.0+)?")


class _Row(NamedTuple):
    invoice: str
    stock_code: str
    description: str
    quantity: str
    time: str
    price: str
    customer: str
    country: str


class _BadRowError(Exception):
    """A row does not count, for this reason."""


class OnlineRetail:
    """One file."""

    def __init__(self, path: Path) -> None:
        """Looks at the header; raises SourceError where it is not as expected."""
        check_text(path)
        self._path = path
        _, header = next(read_csv(path))
        self._places = places_of(COLUMNS, header, path)
        self.columns: Sequence[str] = header
        self.title = f"Online retail, {path}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the file."""
        return fingerprint_of(self._path)

    def read(self, units: Units, sink: Sink) -> None:
        """See Source."""
        records = read_csv(self._path)
        next(records)
        for number, fields in records:
            amount = 0
            row = None
            if len(fields) == len(self.columns):
                row = _Row(*(fields[place].strip() for place in self._places))
                amount = _money(row, units) or 0
            sink.read(amount)
            if not sink.is_new("\0".join(fields).encode()):
                sink.duplicate(amount)
                continue
            if row is not None and not row.customer:
                sink.guest(amount)
                continue
            try:
                if row is None:
                    raise _BadRowError(f"{len(fields)} fields instead of {len(self.columns)}")
                sink.accept(_part(row, units))
            except _BadRowError as reason:
                customer = row.customer if row else ""
                invoice = row.invoice if row else ""
                sink.reject(Rejected(number, str(reason), fields, amount, customer, invoice))


FORMAT: Final = Format(name="online-retail", open=OnlineRetail, currency="GBP", zone="Europe/London", channel="web")


def _part(row: _Row, units: Units) -> Part:
    """What a row says; raises _BadRowError where it does not count."""
    if not _KEY.fullmatch(row.invoice):
        raise _BadRowError("Invoice is no number of an invoice")
    member_id = _member(row.customer)
    quantity = _quantity(row.quantity)
    occurred = _occurred(row.time, units.zone)
    if occurred is None:
        raise _BadRowError("InvoiceDate is no time")
    if _decimal(row.price) is None:
        raise _BadRowError("Price is no number")
    if len(row.stock_code) > LONGEST_SKU or "\0" in row.stock_code + row.description:
        raise _BadRowError("StockCode or Description is no text of a receipt")
    if _decimal(row.price) <= 0:  # type: ignore[operator]  # it was looked at above
        raise _BadRowError("the price is not positive")
    if quantity == 0:
        raise _BadRowError("the quantity is 0")
    is_return = row.invoice.startswith(CANCELLED)
    if quantity < 0 and not is_return:
        raise _BadRowError("a negative quantity on an invoice that is no cancellation")
    if quantity > 0 and is_return:
        raise _BadRowError("a positive quantity on a cancellation")
    money = _money(row, units)
    if money is None or abs(money) > MOST_MINOR_UNITS or abs(quantity) > MOST_PIECES:
        raise _BadRowError("out of all bounds")
    line = Line(row.stock_code, row.description[:LONGEST_NAME], "", "", abs(quantity), abs(money))
    return Part(is_return, row.invoice, member_id, occurred, abs(money), 1, (line,))


def _member(customer: str) -> str:
    if _NUMBERED.fullmatch(customer):
        return customer.partition(".")[0]
    if _MEMBER.fullmatch(customer):
        return customer
    raise _BadRowError("Customer ID is no id of a member")


def _quantity(text: str) -> int:
    value = _decimal(text)
    if value is None or value != value.to_integral_value():
        raise _BadRowError("Quantity is no whole number")
    return int(value)


def _money(row: _Row, units: Units) -> int | None:
    """Quantity times price, signed as the quantity is; None where one of them is no number."""
    quantity, price = _decimal(row.quantity), _decimal(row.price)
    if quantity is None or price is None:
        return None
    return minor_units(quantity * price, units.digits)


@lru_cache(maxsize=4096)
def _decimal(text: str) -> Decimal | None:
    """A number of at most 40 characters; prices and quantities repeat."""
    if len(text) > 40:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    # An exponent can make a short text a number of a million digits.
    return value if value.is_finite() and abs(value.adjusted()) <= 18 else None


@lru_cache(maxsize=4096)
def _occurred(text: str, zone: ZoneInfo) -> int | None:
    """The instant of a wall-clock time; None where it is none that the contract takes."""
    try:
        wall = datetime.fromisoformat(text)
    except ValueError:
        return None
    if wall.tzinfo is not None:
        return None
    occurred = instant(wall, zone)
    return occurred if EARLIEST + 1_000_000 <= occurred < LATEST else None
