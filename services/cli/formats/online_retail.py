"""`online-retail`: order lines of a web shop, one per row, as the data set Online Retail II has them.

A CSV file with the columns of COLUMNS, in any order, among others if there are more. An invoice whose number starts
with C is a cancellation: a return that names no purchase. The lines of one invoice and one customer are one purchase
or return, at the earliest of their times. `12923` and `12923.0` are the same customer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from services.cli.formats.text import check_text, places_of, read_csv
from services.cli.history import (
    EXACT,
    LONGEST_NAME,
    LONGEST_NUMBER,
    LONGEST_SKU,
    MEMBER_ID,
    MOST_PIECES,
    YEARS,
    BadLineError,
    Format,
    Line,
    Part,
    Rejected,
    Sink,
    Units,
    instant,
    minor_units,
)

COLUMNS: Final = ("Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "Price", "Customer ID", "Country")
CANCELLED: Final = "C"

_KEY: Final = re.compile(r"[!-~]{1,32}")
_NUMBERED: Final = re.compile(r"([0-9]{1,64})\.0*")
_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?")


class _Row(NamedTuple):
    """What a row says: None for what is no number, and for an amount out of all bounds."""

    invoice: str
    stock_code: str
    description: str
    quantity: Decimal | None
    time: str
    price: Decimal | None
    customer: str
    amount: int | None


class OnlineRetail:
    """One file."""

    def __init__(self, path: Path) -> None:
        """Looks at the header; raises SourceError where it is not as expected."""
        check_text(path)
        self._path = path
        _, header = next(read_csv(path), (0, ()))
        self._places = places_of(COLUMNS, header, path)
        self.columns: Sequence[str] = header
        self.paths: Sequence[Path] = (path,)
        self.title = f"Online retail, {path}"

    def read(self, units: Units, sink: Sink) -> None:
        """See Source."""
        records = read_csv(self._path)
        next(records)
        for number, fields in records:
            row = self._row(fields, units) if len(fields) == len(self.columns) else None
            amount = (row and row.amount) or 0
            sink.read(amount)
            if not sink.is_new("\0".join(fields).encode()):
                sink.duplicate(amount)
                continue
            if row is not None and not row.customer:
                sink.guest(amount)
                continue
            try:
                if row is None:
                    raise BadLineError(f"not {len(self.columns)} fields")
                sink.accept(_part(row, units.zone))
            except BadLineError as reason:
                member_id, key = (row.customer, row.invoice) if row else ("", "")
                sink.reject(Rejected(number, str(reason), fields, amount, member_id, key))

    def _row(self, fields: Sequence[str], units: Units) -> _Row:
        texts = [fields[place].strip() for place in self._places]
        invoice, stock_code, description, quantity_text, time, price_text, customer, _ = texts
        quantity, price = _number(quantity_text), _number(price_text)
        amount = None
        if quantity is not None and price is not None:
            amount = minor_units(EXACT.multiply(quantity, price), units.digits)
        if numbered := _NUMBERED.fullmatch(customer):
            customer = numbered[1]
        return _Row(invoice, stock_code, description, quantity, time, price, customer, amount)


FORMAT: Final = Format(name="online-retail", open=OnlineRetail, currency="GBP", zone="Europe/London", channel="web")


def _part(row: _Row, zone: ZoneInfo) -> Part:
    """What counts of a row; raises BadLineError where it does not count."""
    if not _KEY.fullmatch(row.invoice):
        raise BadLineError("Invoice is no number of an invoice")
    if not MEMBER_ID.fullmatch(row.customer):
        raise BadLineError("Customer ID is no id of a member")
    if row.quantity is None or row.quantity != row.quantity.to_integral_value():
        raise BadLineError("Quantity is no whole number")
    occurred = _occurred(row.time, zone) if _TIME.fullmatch(row.time) else None
    if occurred is None:
        raise BadLineError("InvoiceDate is no date and time")
    if row.price is None:
        raise BadLineError("Price is no number")
    if row.price <= 0:
        raise BadLineError("the price is not positive")
    if row.quantity == 0:
        raise BadLineError("the quantity is 0")
    is_return = row.invoice.startswith(CANCELLED)
    if row.quantity < 0 and not is_return:
        raise BadLineError("a negative quantity on an invoice that is no cancellation")
    if row.quantity > 0 and is_return:
        raise BadLineError("a positive quantity on a cancellation")
    if row.amount is None or abs(row.quantity) > MOST_PIECES:
        raise BadLineError("an amount or a quantity out of all bounds")
    if len(row.stock_code) > LONGEST_SKU:
        raise BadLineError("StockCode is too long")
    amount, pieces = abs(row.amount), abs(int(row.quantity))
    line = Line(row.stock_code, row.description[:LONGEST_NAME], "", "", pieces, amount)
    return Part(is_return, row.invoice, row.customer, occurred, amount, 1, (line,))


def _number(text: str) -> Decimal | None:
    return _decimal(text) if len(text) <= LONGEST_NUMBER else None


# Prices, quantities and times repeat. Only short texts come here: what is kept stays small.
@lru_cache(maxsize=4096)
def _decimal(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


@lru_cache(maxsize=4096)
def _occurred(text: str, zone: ZoneInfo) -> int | None:
    """The instant of a wall-clock time; None where it is none that the contract takes."""
    try:
        wall = datetime.fromisoformat(text)
    except ValueError:
        return None
    return instant(wall, zone) if wall.year in YEARS else None
