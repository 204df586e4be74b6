"""What a programme means: the life of points, tiers, campaigns, and the calendar and money they are counted in.

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
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

BASIS_POINTS: Final = 10_000


class Base(enum.StrEnum):
    """The amount of a receipt that a rule counts (DESIGN §12.1)."""

    TOTAL = "total"
    """Everything the receipt asks for."""
    GOODS_PAID = "goods_paid"
    """Goods with tax, after discounts, without shipping or gift cards sold.

    Amounts paid with points are to be left out, too (DESIGN §12.1), but a purchase cannot tell them yet.
    """


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

    def end(self, start: datetime, zone: ZoneInfo) -> datetime:
        """The first instant no longer in the window that opens at `start`: aware, UTC, later than `start`.

        The clock in `zone` shows the same time of day at both ends (DESIGN §6). A day that its month does not
        have becomes the month's last; a clock time that does not exist moves forward by the gap, one that comes
        twice is its first (the "compatible" reading of RFC 5545).

        Not monotonic: of two starts around the hour that comes twice in autumn, or on two days that both become
        the last of a month, the later can end first.
        Raises ValueError for a naive `start`, OverflowError where the end lies after the year 9999.
        """
        wall = _aware(start).astimezone(zone)
        day = self.last_day(wall.date())
        # fold=0 is just that reading: of a gap it takes the offset before it, of a repeated hour the first.
        return wall.replace(year=day.year, month=day.month, day=day.day, fold=0).astimezone(UTC)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Bonus:
    """Points on top of the base rule's, for a purchase that meets all its conditions.

    Exactly one of `points` and `multiplier_bp` is set.
    """

    id: str
    points: int | None
    """So many, whatever the amount."""
    multiplier_bp: int | None
    """The base rule's points at this factor, less those at x1. Above 10000."""
    from_day: date | None
    until_day: date | None
    """The local days it holds, both included; None: without that limit."""
    weekdays: frozenset[int]
    """Monday is 0. Empty: all."""
    minimum_minor_units: int
    """What the purchase's base must reach."""
    departments: frozenset[str]
    """Only these departments' lines of goods count. Empty: all."""
    first_purchase: bool
    """Only for a member's first recorded purchase."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earning:
    """`points` points for every `per_minor_units` of the base, times the factor of the earning class."""

    base: Base
    points: int
    per_minor_units: int
    sign_up_bonus: int
    class_multipliers_bp: Mapping[str, int] = field(hash=False)
    """Earning class (a level's key) to basis points: 10000 = x1."""
    pending_days: int = 0
    """A purchase's points can be redeemed from the start of the local day so many days after its own."""
    bonuses: tuple[Bonus, ...] = ()


class ExpiryPolicy(enum.StrEnum):
    """What decides how long points last."""

    NEVER = "never"
    AFTER = "after"
    """A span from the day they became active."""
    INACTIVITY = "inactivity"
    """A span after the member's last purchase, redemption or activity, then all of them at once."""
    CALENDAR_YEAR = "calendar_year"
    """Months after the end of the year in which they became active."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """How long points last. `period` is None for NEVER alone, in months (0 too) for CALENDAR_YEAR."""

    policy: ExpiryPolicy
    period: Window | None

    @property
    def dated(self) -> bool:
        """Whether points have an expiry day from the day they become active."""
        return self.policy is ExpiryPolicy.AFTER or self.policy is ExpiryPolicy.CALENDAR_YEAR

    def last_day(self, activates: date) -> date | None:
        """The last local day, included, of points that became active on the day `activates`.

        None where that day does not decide it: NEVER and INACTIVITY. Raises OverflowError as `Window.last_day`.
        """
        if self.period is None or self.policy is ExpiryPolicy.INACTIVITY:
            return None
        year_end = self.policy is ExpiryPolicy.CALENDAR_YEAR
        return self.period.last_day(date(activates.year, 12, 31) if year_end else activates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Redemption:
    """How many points may go at once: at least `minimum`, and a multiple of `step`. Both at least 1."""

    minimum: int
    step: int


class Shortfall(enum.StrEnum):
    """What happens when a return takes more points than the member has."""

    DEBT = "debt"
    """The rest is owed, and paid by the next points that become active."""
    FORGIVE = "forgive"
    """The rest is let go."""
    REFUSE = "refuse"
    """The return is not accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustments:
    """Above these a second principal must approve; None: no limit."""

    per_call: int | None
    """Points of one adjustment, whatever its sign."""
    per_day: int | None
    """Points of one member on one local day, signs aside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointValue:
    """From this local day on, `points` (at least 1) points are worth so much."""

    from_day: date
    points: int
    minor_units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Liability:
    """What the points that are out are worth, and which part of them will never be redeemed."""

    values: tuple[PointValue, ...]
    """At least one; their days rise."""
    breakage_bp: int

    def value_at(self, day: date) -> PointValue | None:
        """The value that holds on a local day; None before the first."""
        return next((value for value in reversed(self.values) if value.from_day <= day), None)


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
    expiry: Expiry = Expiry(policy=ExpiryPolicy.NEVER, period=None)
    redemption: Redemption = Redemption(minimum=1, step=1)
    shortfall: Shortfall = Shortfall.DEBT
    adjustments: Adjustments = Adjustments(per_call=None, per_day=None)
    back_dating: Window | None = None
    """How far back an event's own time may lie; None: no limit."""
    liability: Liability | None = None
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

    def start_of_local_day(self, day: date) -> datetime:
        """The first instant, UTC, of a local day.

        Where midnight comes twice it is the first, where it does not exist the first instant after the gap; for
        a day that does not exist that is the start of the one after. Raises OverflowError at either end of the
        calendar.
        """
        return _start_of_day(self._zone, day)

    def start_of_next_local_day(self, t: datetime) -> datetime:
        """The instant, UTC, at which the local day after that of `t` begins; always later than `t`.

        As `start_of_local_day`; but where the clock is set back across midnight, `t` in the evening's second
        showing is answered with the second midnight. Raises ValueError for a naive `t`.
        """
        day = self.local_day(t) + timedelta(days=1)
        start = self.start_of_local_day(day)
        return start if start > t else datetime.combine(day, time(fold=1), tzinfo=self._zone).astimezone(UTC)

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


def format_factor(basis_points: int) -> str:
    """`2`, `1.25`: basis points as a factor."""
    whole, part = divmod(basis_points, BASIS_POINTS)
    return f"{whole}.{part:04}".rstrip("0").rstrip(".")


def format_percent(basis_points: int) -> str:
    """`5 %`, `7.5 %`, `0.25 %`: basis points as people read them."""
    text = format_amount(basis_points, 2).rstrip("0").rstrip(".")
    return f"{text} %"


@lru_cache(maxsize=4096)
def _start_of_day(zone: ZoneInfo, day: date) -> datetime:
    midnight = datetime.combine(day, time.min, tzinfo=zone)
    first = midnight.astimezone(UTC)
    second = midnight.replace(fold=1).astimezone(UTC)
    if second >= first:
        return first
    # Midnight falls into a gap. The clock jumps between these two instants, on a whole second.
    still_before, seconds = second, int((first - second).total_seconds())
    while seconds > 1:
        half = seconds // 2
        middle = still_before + timedelta(seconds=half)
        if middle.astimezone(zone).date() >= day:
            seconds = half
        else:
            still_before, seconds = middle, seconds - half
    return still_before + timedelta(seconds=seconds)


def _aware(t: datetime) -> datetime:
    if t.utcoffset() is None:
        raise ValueError(f"{t.isoformat()} has no time zone; times are aware")
    return t
