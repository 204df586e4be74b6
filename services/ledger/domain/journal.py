"""The journal: what entries move, by the day they are booked on, account, expiry month and market.

An entry is booked on the local day of the later of its own time and the business time at which it was recorded, so
that a day that business time has left never changes, and what comes late counts in the open one. What time does by
itself is booked on the day of its instant, whenever it is written down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from services.ledger.domain.events import Account, EntryKind, Event, Posting
from services.programme.model import Programme

# What time does by itself.
OF_TIME = frozenset({EntryKind.POINTS_ACTIVATED, EntryKind.POINTS_EXPIRED, EntryKind.HOLD_EXPIRED})
# Where points are outstanding.
OUTSTANDING = (Account.PENDING, Account.AVAILABLE, Account.HELD)
# Where they come from or go to without a word about the lot; an entry has one of them at most.
_WITHOUT_LOTS = (Account.ISSUED, Account.ADJUSTED, Account.REDEEMED)
# What takes from the points that are outstanding.
_LOWERING = (Account.REDEEMED, Account.EXPIRED)

_DAY = timedelta(days=1)


class Leg(NamedTuple):
    """A posting as far as the journal goes. `expiry_month` is "2027-01", or empty for points without an expiry day."""

    account: Account
    points: int
    expiry_month: str = ""

    @classmethod
    def of(cls, posting: Posting) -> Leg:
        """The leg of a posting."""
        expires = posting.lot.expires
        return cls(posting.account, posting.points, "" if expires is None else month_of(expires.isoformat()))


def month_of(day: str) -> str:
    """The month of a day, `2027-01` of `2027-01-31`; empty where there is none."""
    return day[:7]


class Booked(NamedTuple):
    """What the journal needs to know of an entry."""

    kind: EntryKind
    occurred_time: datetime
    recorded_time: datetime
    legs: Sequence[Leg]

    @classmethod
    def of(cls, event: Event, recorded_time: datetime) -> Booked:
        """An event as it was written down at a time."""
        return cls(event.kind, event.occurred_time, recorded_time, [Leg.of(one) for one in event.postings])

    @classmethod
    def by_time(cls, event: Event) -> Booked:
        """What time has done and nobody has written down yet."""
        return cls.of(event, event.occurred_time)


class Line(NamedTuple):
    """What points are summed by."""

    posting_day: date
    recorded_day: date
    account: Account
    expiry_month: str
    market: str


class Journal:
    """Books the entries of one partition, in their order. `clock` is its simulated business time; None: real time."""

    def __init__(self, programme: Programme, clock: datetime | None) -> None:
        self.sums: dict[Line, int] = {}
        self.clock = clock
        # There is one market so far; it is told by its currency.
        self._market = programme.currency
        self._posted = Days(programme)
        self._recorded = Days(programme)

    def book(self, entry: Booked) -> None:
        """Adds one entry."""
        if entry.kind is EntryKind.CLOCK_ADVANCED:
            if self.clock is not None:
                self.clock = entry.occurred_time
            return
        if not entry.legs:
            return
        time = entry.occurred_time
        if entry.kind not in OF_TIME:
            time = max(time, entry.recorded_time if self.clock is None else self.clock)
        posting_day, recorded_day = self._posted.day(time), self._recorded.day(entry.recorded_time)
        for account, points, expiry_month in by_month(entry.legs):
            line = Line(posting_day, recorded_day, account, expiry_month, self._market)
            self.sums[line] = self.sums.get(line, 0) + points


class Days:
    """Local days of instants that mostly lie together. A day ends for good where the next one first begins."""

    def __init__(self, programme: Programme) -> None:
        self._programme = programme
        self._day = date.max
        # None yet.
        self._start = self._end = datetime.max.replace(tzinfo=UTC)

    def day(self, time: datetime) -> date:
        """The local day of an instant."""
        if not self._start <= time < self._end:
            start_of = self._programme.start_of_local_day
            day = self._programme.local_day(time)
            if time >= start_of(day + _DAY):
                day += _DAY
            self._day, self._start, self._end = day, start_of(day), start_of(day + _DAY)
        return self._day


def by_month(legs: Iterable[Leg]) -> list[Leg]:
    """Legs by account and expiry month, so that the equation of the accounts holds in each month by itself.

    Where points came from or went to follows the lots of the same entry. Debt has no lot: it goes with the lots where
    they are of one month or nothing else moved, and stands without a month where they are of several. What is restored
    is lapsed no longer in the month of the lot that it lies in now: what lapsed stays lapsed in its own.
    """
    summed: dict[tuple[Account, str], int] = {}
    # What the lots of each month gained, and what of them lapsed.
    gained: dict[str, int] = {}
    outside: Account | None = None
    debt = 0
    for account, points, month in legs:
        if account is Account.DEBT:
            debt += points
        elif account in _WITHOUT_LOTS:
            assert outside in (None, account), "an entry issues, adjusts or redeems"
            outside = account
        else:
            summed[account, month] = summed.get((account, month), 0) + points
            gained[month] = gained.get(month, 0) + points
    if outside is None and any(account is Account.EXPIRED and points < 0 for (account, _), points in summed.items()):
        outside = Account.EXPIRED
        summed = {key: points for key, points in summed.items() if key[0] is not outside}
        gained = {month: points for (_, month), points in summed.items()}
    if outside is None:
        for month, points in gained.items():
            summed[Account.DEBT, month] = points
    else:
        sign = -1 if outside in _LOWERING else 1
        for month, points in gained.items():
            summed[outside, month] = sign * points
        if debt:
            home = next(iter(gained)) if len(gained) == 1 else ""
            summed[outside, home] = summed.get((outside, home), 0) - sign * debt
            summed[Account.DEBT, home] = debt
    return [Leg(account, points, month) for (account, month), points in summed.items() if points]
