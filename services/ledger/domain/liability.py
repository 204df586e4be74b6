"""What the programme owes its members over a period, in points and in money.

opening + issued - redeemed - expired + adjusted + change of debt = closing, in points; in money the revaluation of
what was outstanding comes to it. Money in minor units of the programme's currency, rounded half to even.
"""

from __future__ import annotations

import enum
from calendar import monthrange
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction
from itertools import groupby
from typing import NamedTuple

from services.ledger.domain.events import Account
from services.ledger.domain.journal import OUTSTANDING
from services.ledger.errors import PeriodError
from services.programme.model import BASIS_POINTS, PointValue, Programme
from services.programme.versions import Versions

_DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)


class Movement(enum.StrEnum):
    """What changes the points that are outstanding, in the order in which the journal has them."""

    ISSUED = "issued"
    REDEEMED = "redeemed"
    EXPIRED = "expired"
    ADJUSTED = "adjusted"
    DEBT = "debt"


_MOVEMENTS = {Account(movement.value): movement for movement in Movement}
_LOWERING = (Movement.REDEEMED, Movement.EXPIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A local calendar month ("2026-10") or year ("2026")."""

    text: str
    first: date
    last: date

    @classmethod
    def parse(cls, text: str) -> Period:
        """The period of a text. Raises PeriodError."""
        year, _, month = text.partition("-")
        try:
            first = date(int(year), int(month or 1), 1)
            last_month = first.month if month else 12
            return cls(text=text, first=first, last=first.replace(month=last_month, day=_days(first.year, last_month)))
        except ValueError:
            raise PeriodError from None

    @classmethod
    def month_of(cls, day: date) -> Period:
        """The month that a day lies in."""
        return cls.parse(day.isoformat()[:7])


def _days(year: int, month: int) -> int:
    return monthrange(year, month)[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A period that has begun: its instants, and the one that its closing figures are true of."""

    period: Period
    start: datetime
    end: datetime
    as_of: datetime
    closed: bool
    # The local day whose point value the closing figures are reckoned with.
    value_day: date

    @property
    def last_booked(self) -> date:
        """The last day of what counts: an open period has all there is, a closed one what was booked by its end."""
        return self.period.last if self.closed else date.max

    @classmethod
    def of(cls, programme: Programme, text: str, now: datetime) -> Span:
        """The span of a period's text (empty: the month of `now`). Raises PeriodError where it has not begun."""
        period = Period.parse(text) if text else Period.month_of(programme.local_day(now))
        try:
            start = programme.start_of_local_day(period.first)
            end = programme.start_of_local_day(period.last + _DAY)
        except OverflowError:
            raise PeriodError from None
        if now < start:
            raise PeriodError
        closed = now >= end
        return cls(
            period=period,
            start=start,
            end=end,
            as_of=end - _MICROSECOND if closed else now,
            closed=closed,
            value_day=period.last if closed else min(programme.local_day(now), period.last),
        )


class Sum(NamedTuple):
    """What the journal's lines are summed by; days before the period may be taken together under the last of them."""

    posting_day: date
    account: Account
    expiry_month: str
    market: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Points and what they are worth; None where the programme gives points no value."""

    points: int
    value: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is outstanding of one expiry month and market at the end."""

    expiry_month: str
    market: str
    pending: int
    available: int
    held: int
    value: int | None
    expected_breakage: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLine:
    """What one local day moved, by one movement, of one market and expiry month."""

    day: date
    movement: Movement
    market: str
    expiry_month: str
    points: int
    value: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Liability:
    """The liability of a period."""

    span: Span
    opening: Amount
    movements: Mapping[Movement, Amount]
    # What a change of the point value and rounding add, so that the money adds up.
    revaluation: int | None
    closing: Amount
    debt: int
    # None where the programme gives points no value on that day.
    point_value: PointValue | None
    breakage_bp: int
    expected_breakage: int | None
    rows: tuple[Row, ...]
    journal: tuple[JournalLine, ...]


def liability(versions: Versions, span: Span, sums: Mapping[Sum, int]) -> Liability:
    """The liability of a period from the sums of all that was booked up to `span.last_booked`.

    The points of a day are worth what the version says that holds at its end: so a period that is closed stays what it
    was, and the next opens with what it closed with.
    """
    return _Reckoning(versions, span, sums).liability()


class _Reckoning:
    def __init__(self, versions: Versions, span: Span, sums: Mapping[Sum, int]) -> None:
        self._versions = versions
        self._policy = versions.at(span.as_of).liability
        self._span = span
        self._values: dict[date, PointValue | None] = {}
        self._sums: Counter[Sum] = Counter()
        for key, points in sums.items():
            if key.posting_day <= span.last_booked:
                # What runs ahead of the clock beyond the end is there already.
                self._sums[key._replace(posting_day=min(key.posting_day, span.period.last))] += points

    def liability(self) -> Liability:
        """All of it."""
        span = self._span
        journal = self._journal()
        opening = self._outstanding(span.period.first - _DAY)
        movements = {movement: self._total(movement, journal) for movement in Movement}
        closing = self._outstanding(span.period.last)
        return Liability(
            span=span,
            opening=opening,
            movements=movements,
            revaluation=_revaluation(opening, movements, closing),
            closing=closing,
            debt=sum(points for key, points in self._sums.items() if key.account is Account.DEBT),
            point_value=self._value_on(span.value_day),
            breakage_bp=self._policy.breakage_bp if self._policy else 0,
            expected_breakage=self._minor_units(self._breakage(self._worth(closing.points, span.value_day))),
            rows=self._rows(),
            journal=journal,
        )

    def _outstanding(self, last: date) -> Amount:
        """What is outstanding at the end of a day, the last of the period or the one before it."""
        points = sum(
            points for key, points in self._sums.items() if key.account in OUTSTANDING and key.posting_day <= last
        )
        return Amount(points=points, value=self._minor_units(self._worth(points, min(last, self._span.value_day))))

    def _total(self, movement: Movement, journal: Iterable[JournalLine]) -> Amount:
        lines = [line for line in journal if line.movement is movement]
        return Amount(
            points=sum(line.points for line in lines),
            value=None if self._policy is None else sum(line.value or 0 for line in lines),
        )

    def _journal(self) -> tuple[JournalLine, ...]:
        """The lines, with values that add up to the value of their movement."""
        moved = [
            (_MOVEMENTS[key.account], key, points)
            for key, points in self._sums.items()
            if points and key.account in _MOVEMENTS and key.posting_day >= self._span.period.first
        ]
        order = list(Movement)
        moved.sort(key=lambda line: (order.index(line[0]), line[1].posting_day, line[1].market, _late(line[1])))
        lines: list[JournalLine] = []
        for movement, group in groupby(moved, key=lambda line: line[0]):
            some = list(group)
            values = self._spread([self._worth(points, key.posting_day) for _, key, points in some])
            lines += [
                JournalLine(
                    day=key.posting_day,
                    movement=movement,
                    market=key.market,
                    expiry_month=key.expiry_month,
                    points=points,
                    value=value,
                )
                for (_, key, points), value in zip(some, values, strict=True)
            ]
        # Stable: what is of one day and movement stays in its order.
        lines.sort(key=lambda line: (line.day, order.index(line.movement)))
        return tuple(lines)

    def _rows(self) -> tuple[Row, ...]:
        points: dict[tuple[tuple[bool, str], str], dict[Account, int]] = {}
        for key, more in self._sums.items():
            if key.account in OUTSTANDING:
                row = points.setdefault((_late(key), key.market), dict.fromkeys(OUTSTANDING, 0))
                row[key.account] += more
        found = [(month, market, row) for ((_, month), market), row in sorted(points.items()) if any(row.values())]
        worth = [self._worth(sum(row.values()), self._span.value_day) for _, _, row in found]
        return tuple(
            Row(
                expiry_month=month,
                market=market,
                pending=row[Account.PENDING],
                available=row[Account.AVAILABLE],
                held=row[Account.HELD],
                value=value,
                expected_breakage=breakage,
            )
            for (month, market, row), value, breakage in zip(
                found, self._spread(worth), self._spread([self._breakage(one) for one in worth]), strict=True
            )
        )

    def _worth(self, points: int, day: date) -> Fraction:
        value = self._value_on(day)
        return Fraction(points * value.minor_units, value.points) if value else Fraction()

    def _value_on(self, day: date) -> PointValue | None:
        """What a point is worth on a local day; None where it has no value."""
        if day not in self._values:
            # The books keep the local days of the first version.
            end = self._versions[0].programme.start_of_local_day(day + _DAY) - _MICROSECOND
            policy = self._versions.at(min(end, self._span.as_of)).liability
            self._values[day] = policy.value_at(day) if policy else None
        return self._values[day]

    def _breakage(self, worth: Fraction) -> Fraction:
        return worth * (self._policy.breakage_bp if self._policy else 0) / BASIS_POINTS

    def _minor_units(self, exact: Fraction) -> int | None:
        return None if self._policy is None else round(exact)

    def _spread(self, exact: Iterable[Fraction]) -> list[int | None]:
        """Whole minor units that add up to the rounded sum: each is what the rounded sum so far gains by it."""
        spread: list[int | None] = []
        total, before = Fraction(), 0
        for one in exact:
            total += one
            now = round(total)
            spread.append(None if self._policy is None else now - before)
            before = now
        return spread


def _late(key: Sum) -> tuple[bool, str]:
    """Points without an expiry day come last."""
    return not key.expiry_month, key.expiry_month


def _revaluation(opening: Amount, movements: Mapping[Movement, Amount], closing: Amount) -> int | None:
    if closing.value is None:
        return None
    moved = sum((-1 if movement in _LOWERING else 1) * (amount.value or 0) for movement, amount in movements.items())
    return closing.value - (opening.value or 0) - moved
