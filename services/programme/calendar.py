"""The calendar that a programme goes by: spans of local days, and where local days begin.

Pure: the standard library only.
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

MAX_YEARS: Final = 100
MAX_MONTHS: Final = 12 * MAX_YEARS
MAX_DAYS: Final = 366 * MAX_YEARS


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A span of local calendar days, months or years; exactly one of the three is set.

    No months at all is a span only for `last_day`: the end of a calendar year and nothing after it.
    """

    days: int | None = None
    months: int | None = None
    years: int | None = None

    def __post_init__(self) -> None:
        spans = [span for span in (self.days, self.months, self.years) if span is not None]
        if len(spans) != 1:
            raise ValueError("a window has days, months or years, and only one of them")
        if spans[0] < (0 if self.months is not None else 1):
            raise ValueError("a window is at least one day or one year, and its months are not negative")

    @classmethod
    def read(cls, text: str) -> Window | None:
        """`P30D`, `P18M` or `P1Y`, up to 100 years; None for anything else."""
        match = re.fullmatch(r"P([1-9][0-9]{0,4})([DMY])", text)
        if match is None:
            return None
        number, unit = int(match[1]), match[2]
        if number > {"D": MAX_DAYS, "M": MAX_MONTHS, "Y": MAX_YEARS}[unit]:
            return None
        return cls(days=number) if unit == "D" else cls(months=number) if unit == "M" else cls(years=number)

    @property
    def text(self) -> str:
        """As `read` takes it."""
        spans = ((self.days, "D"), (self.months, "M"), (self.years, "Y"))
        return next(f"P{number}{unit}" for number, unit in spans if number is not None)

    def end(self, start: datetime, zone: ZoneInfo) -> datetime:
        """The first instant no longer in the window that opens at `start`: aware, UTC, later than `start`.

        The clock in `zone` shows the same time of day at both ends (DESIGN §6). A day that its month does not
        have becomes the month's last; a clock time that does not exist moves forward by the gap, one that comes
        twice is its first (the "compatible" reading of RFC 5545).

        Not monotonic: of two starts around the hour that comes twice in autumn, or on two days that both become
        the last of a month, the later can end first.
        Raises ValueError for a naive `start`, OverflowError where the end lies after the year 9999.
        """
        wall = aware(start).astimezone(zone)
        if self.days is not None:
            # The same in less time: Python adds to what the clock shows, too, and of an hour that comes twice it means
            # the first then. Every purchase asks for this.
            return (wall + timedelta(days=self.days)).astimezone(UTC)
        day = self.last_day(wall.date())
        # fold=0 is just that reading: of a gap it takes the offset before it, of a repeated hour the first.
        return wall.replace(year=day.year, month=day.month, day=day.day, fold=0).astimezone(UTC)

    def start(self, end: datetime, zone: ZoneInfo) -> datetime:
        """The instant, UTC, so long before `end`, by the clock and calendar of `zone`; as `end` reads them."""
        wall = aware(end).astimezone(zone)
        if self.days is not None:
            day = wall.date() - timedelta(days=self.days)
        else:
            months = wall.year * 12 + wall.month - 1 - (self.months or 0) - 12 * (self.years or 0)
            year, month = divmod(months, 12)
            day = date(year, month + 1, min(wall.day, monthrange(year, month + 1)[1]))
        return wall.replace(year=day.year, month=day.month, day=day.day, fold=0).astimezone(UTC)

    def lengths(self) -> tuple[int, ...]:
        """Its length in days from each day of four years on, a leap year among them: all the lengths it has."""
        return _lengths(self)

    def last_day(self, day: date) -> date:
        """The day so many days, months or years after `day`; the month's last where it has no such day.

        From 31 January a month leads to 28 or 29 February, from 29 February a year to the 28th.
        Raises OverflowError where that lies after the year 9999.
        """
        if self.days is not None:
            return day + timedelta(days=self.days)
        years, month = divmod(day.month - 1 + (self.months or 0), 12)
        year, month = day.year + (self.years or 0) + years, month + 1
        if year > date.max.year:
            raise OverflowError(f"the window ends in the year {year}")
        return date(year, month, min(day.day, monthrange(year, month)[1]))


@lru_cache(maxsize=256)
def _lengths(window: Window) -> tuple[int, ...]:
    starts = (date(2024, 1, 1) + timedelta(days=days) for days in range(4 * 365 + 1))
    return tuple((window.last_day(start) - start).days for start in starts)


@lru_cache(maxsize=4096)
def start_of_day(zone: ZoneInfo, day: date) -> datetime:
    """The first instant, UTC, of a local day; see `Programme.start_of_local_day`."""
    return clock_shows(zone, datetime.combine(day, time.min))


def clock_shows(zone: ZoneInfo, wall: datetime, *, again: bool = False) -> datetime:
    """The first instant, UTC, at which the clock in `zone` shows a day and time (naive), or, where it leaps over them,
    more; `again`: where it shows them twice, the second."""
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if second >= first:
        return second if again else first
    # They fall into a gap. The clock jumps between these two instants, on a whole second.
    still_before, seconds = second, int((first - second).total_seconds())
    while seconds > 1:
        half = seconds // 2
        middle = still_before + timedelta(seconds=half)
        if middle.astimezone(zone).replace(tzinfo=None) >= wall:
            seconds = half
        else:
            still_before, seconds = middle, seconds - half
    return still_before + timedelta(seconds=seconds)


def start_of_next_day(zone: ZoneInfo, t: datetime) -> datetime:
    """The instant, UTC, at which the local day after that of `t` begins; see `Programme.start_of_next_local_day`."""
    day = aware(t).astimezone(zone).date() + timedelta(days=1)
    start = start_of_day(zone, day)
    return start if start > t else datetime.combine(day, time(fold=1), tzinfo=zone).astimezone(UTC)


def aware(t: datetime) -> datetime:
    """The time itself; raises ValueError where it has no zone."""
    if t.utcoffset() is None:
        raise ValueError(f"{t.isoformat()} has no time zone; times are aware")
    return t
