"""GetLiability: a liability as a message."""

from __future__ import annotations

from typing import Any

from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.ledger.v1 import liability_pb2

from services.ledger.bookkeeping import Bookkeeping, Reckoned
from services.ledger.domain.liability import Amount, Liability, Movement
from services.ledger.rpc.times import read_time, set_time
from services.programme.model import Programme
from services.programme.versions import Versions

_MOVEMENTS = {
    Movement.ISSUED: "issued",
    Movement.REDEEMED: "redeemed",
    Movement.EXPIRED: "expired",
    Movement.ADJUSTED: "adjusted",
    Movement.DEBT: "debt_change",
}


async def get_liability(books: Bookkeeping, versions: Versions, request: Any) -> Any:
    """The response to a GetLiabilityRequest."""
    reckoned = await books.reckon(request.period, read_time(request, "known_at_time"))
    response = pb.GetLiabilityResponse()
    programme = versions.at(reckoned.liability.span.as_of)
    fill_liability(response.liability, reckoned, programme, with_journal=request.with_journal)
    if request.HasField("known_at_time"):
        response.liability.known_at_time.CopyFrom(request.known_at_time)
    return response


def fill_liability(message: Any, reckoned: Reckoned, programme: Programme, *, with_journal: bool) -> None:
    """Writes a liability into its message."""
    liability, currency = reckoned.liability, programme.currency
    span = liability.span
    message.period = span.period.text
    set_time(message.start_time, span.start)
    set_time(message.end_time, span.end)
    set_time(message.as_of_time, span.as_of)
    message.closed = span.closed
    _fill_amount(message.opening, liability.opening, currency)
    for movement, field in _MOVEMENTS.items():
        _fill_amount(getattr(message, field), liability.movements[movement], currency)
    _fill_money(message, "revaluation", liability.revaluation, currency)
    _fill_amount(message.closing, liability.closing, currency)
    message.debt_points = liability.debt
    message.point_value = _point_value(liability, programme)
    message.breakage_basis_points = liability.breakage_bp
    _fill_money(message, "expected_breakage", liability.expected_breakage, currency)
    for row in liability.rows:
        one = message.rows.add(
            expiry_month=row.expiry_month,
            market=row.market,
            pending_points=row.pending,
            available_points=row.available,
            held_points=row.held,
        )
        _fill_money(one, "value", row.value, currency)
        _fill_money(one, "expected_breakage", row.expected_breakage, currency)
    if with_journal:
        for line in liability.journal:
            booked = message.journal.add(
                date=line.day.isoformat(),
                movement=line.movement.value,
                market=line.market,
                expiry_month=line.expiry_month,
                points=line.points,
            )
            _fill_money(booked, "value", line.value, currency)
    for partition, offset in reckoned.offsets.items():
        message.offsets.add(partition=partition, offset=offset)


def _fill_amount(message: liability_pb2.LiabilityAmount, amount: Amount, currency: str) -> None:
    message.points = amount.points
    _fill_money(message, "value", amount.value, currency)


def _fill_money(message: Any, field: str, minor_units: int | None, currency: str) -> None:
    if minor_units is not None:
        money = getattr(message, field)
        money.currency_code = currency
        money.minor_units = minor_units


def _point_value(liability: Liability, programme: Programme) -> str:
    """`100 points are worth 1.00 USD`."""
    value = liability.point_value
    if value is None:
        day = f" on {liability.span.value_day.isoformat()}" if programme.liability else ""
        return f"the programme gives points no value{day}"
    points = "1 point is" if value.points == 1 else f"{value.points} points are"
    return f"{points} worth {programme.format_money(value.minor_units)}"
