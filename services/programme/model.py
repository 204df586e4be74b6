"""What a programme means: earning, tiers, campaigns, and the calendar and money they are counted in.

Pure: the standard library only. The values are made, and their bounds checked, by `schema`.
Units throughout: money in minor units of the programme's currency, points whole, factors and percentages
in basis points (10000 = x1 = 100 %), times aware. No floats.
"""

from __future__ import annotations

import enum
from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

BASIS_POINTS: Final = 10_000


class Base(enum.StrEnum):
    """The amount of a receipt that a rule counts (DESIGN §12.1)."""

    TOTAL = "total"
    """Everything the receipt asks for."""
    GOODS_PAID = "goods_paid"
    """Goods with tax, after discounts, without shipping, gift cards sold, or amounts paid with points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A span of local calendar days or years; exactly one of the two is set."""

    days: int | None = None
    years: int | None = None

    def __post_init__(self) -> None:
        if (self.days is None) == (self.years is None):
            raise ValueError("a window has days or years, and not both")
        if (self.days or self.years or 0) < 1:
            raise ValueError("a window is at least one day or one year")

    def end(self, start: datetime, zone: ZoneInfo) -> datetime:
        """The first instant no longer in the window that opens at `start`: aware, UTC, later than `start`.

        The clock in `zone` shows the same time of day at both ends (DESIGN §6). 29 February becomes the 28th
        in a common year; a clock time that does not exist moves forward by the gap, one that comes twice is
        its first (the "compatible" reading of RFC 5545).

        Not monotonic: of two starts around the hour that comes twice in autumn, the later can end first.
        Raises ValueError for a naive `start`, OverflowError where the end lies after the year 9999.
        """
        wall = _aware(start).astimezone(zone)
        # fold=0 is just that reading: of a gap it takes the offset before it, of a repeated hour the first.
        if self.days is not None:
            # The sum is what the clock on the wall shows, with fold=0.
            return (wall + timedelta(days=self.days)).astimezone(UTC)
        year = wall.year + (self.years or 0)
        if year > date.max.year:
            raise OverflowError(f"the window ends in the year {year}")
        day = min(wall.day, monthrange(year, wall.month)[1])
        return wall.replace(year=year, day=day, fold=0).astimezone(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Earning:
    """`points` points for every `per_minor_units` of the base, times the factor of the earning class."""

    base: Base
    points: int
    per_minor_units: int
    sign_up_bonus: int
    class_multipliers_bp: Mapping[str, int] = field(hash=False)
    """Earning class (a level's key) to basis points: 10000 = x1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One tier. Its key is the earning class that the ledger knows its members by."""

    number: int
    """1 for the lowest, then without gaps."""
    key: str
    name: str
    threshold_minor_units: int | None
    """The balance at which it begins; None for the first alone."""
    multiplier_bp: int
    discount_bp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TierPolicy:
    """The levels, lowest first, and the balance that decides between them: `base` over the last `window`."""

    base: Base
    window: Window
    levels: tuple[Level, ...]

    def level_for(self, balance: int) -> Level:
        """The level of a balance in minor units: from its own threshold up to, not including, the next.

        The highest condition is checked first (R23). What reaches no threshold, a negative balance too,
        is the first level.
        """
        for level in reversed(self.levels):
            if level.threshold_minor_units is not None and balance >= level.threshold_minor_units:
                return level
        return self.levels[0]

    def level(self, number: int) -> Level:
        """The level with this number. Raises LookupError where there is none."""
        if not 1 <= number <= len(self.levels):
            raise LookupError(f"there is no level {number}; the levels are 1 to {len(self.levels)}")
        return self.levels[number - 1]

    def next_level(self, level: Level) -> Level | None:
        """The level above, or None for the highest."""
        return self.levels[level.number] if level.number < len(self.levels) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponAction:
    """The coupon a campaign gives: a percentage or an amount off, exactly one of the two."""

    prefix: str
    """How its codes begin: 1 to 8 of A-Z and 2-9."""
    discount_bp: int | None
    discount_minor_units: int | None
    valid: Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Subject and body: templates, or, rendered, what the member reads (see `templates`)."""

    subject: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """When `trigger` happens to a member of the audience: a coupon, and the message that carries it."""

    id: str
    trigger: Literal["tier_reached"]
    tiers: tuple[str, ...]
    """The keys of the levels whose reaching counts."""
    coupon: CouponAction
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """One version of a programme, whole."""

    name: str
    version: str
    """`name@` and 12 hex digits of the content: the same for the same rules, however they are laid out."""
    currency: str
    minor_unit_digits: int
    time_zone: str
    earning: Earning
    tiers: TierPolicy
    campaigns: tuple[Campaign, ...]
    _zone: ZoneInfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_zone", ZoneInfo(self.time_zone))

    @property
    def zone(self) -> ZoneInfo:
        """The zone whose calendar and clock the programme goes by."""
        return self._zone

    def local_day(self, t: datetime) -> date:
        """The date in the programme's zone at `t` (aware; ValueError otherwise)."""
        return _aware(t).astimezone(self._zone).date()

    def start_of_next_local_day(self, t: datetime) -> datetime:
        """The instant, UTC, at which the local day after that of `t` begins; always later than `t`.

        Where midnight does not exist it is the first instant that does, and where a whole day does not, the
        start of the one after. Where the clock is set back across midnight, `t` in the evening's second
        showing is answered with the second midnight. Raises ValueError for a naive `t`.
        """
        day = self.local_day(t)
        midnight = datetime.combine(day + timedelta(days=1), time.min, tzinfo=self._zone)
        first = midnight.astimezone(UTC)
        second = midnight.replace(fold=1).astimezone(UTC)
        if second < first:
            # Midnight falls into a gap. The clock jumps between these two instants, on a whole second.
            still_before, seconds = second, int((first - second).total_seconds())
            while seconds > 1:
                half = seconds // 2
                middle = still_before + timedelta(seconds=half)
                if self.local_day(middle) > day:
                    seconds = half
                else:
                    still_before, seconds = middle, seconds - half
            return still_before + timedelta(seconds=seconds)
        return first if first > t else second

    def format_money(self, minor_units: int) -> str:
        """`295.00 USD`, `-0.05 USD`, `300 JPY`: the amount with all its digits, then the currency."""
        return f"{format_amount(minor_units, self.minor_unit_digits)} {self.currency}"


def points_for(base_minor_units: int, points: int, per_minor_units: int, multiplier_bp: int) -> int:
    """The points one rule gives for one receipt: floored once, never negative (DESIGN §12.2).

    `points` for each `per_minor_units` (> 0) of the base, fractions of it counting in proportion, times
    `multiplier_bp` basis points.
    """
    if base_minor_units <= 0:
        return 0
    return base_minor_units * points * multiplier_bp // (per_minor_units * BASIS_POINTS)


def format_amount(minor_units: int, digits: int) -> str:
    """`295.00`: minor units as a decimal with exactly `digits` decimals."""
    sign, whole = ("-" if minor_units < 0 else ""), str(abs(minor_units)).rjust(digits + 1, "0")
    return f"{sign}{whole[:-digits]}.{whole[-digits:]}" if digits else f"{sign}{whole}"


def format_percent(basis_points: int) -> str:
    """`5 %`, `7.5 %`, `0.25 %`: basis points as people read them."""
    text = format_amount(basis_points, 2).rstrip("0").rstrip(".")
    return f"{text} %"


def _aware(t: datetime) -> datetime:
    if t.utcoffset() is None:
        raise ValueError(f"{t.isoformat()} has no time zone; times are aware")
    return t
