"""What a programme means: the life of points, tiers, campaigns, and the calendar and money they are counted in.

Pure: the standard library only. The values are made, and their bounds checked, by `schema`.
Units throughout: money in minor units of the programme's currency, points whole, factors and percentages
in basis points (10000 = x1 = 100 %), times aware. No floats.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo

from services.programme.calendar import Window, aware, start_of_day, start_of_next_day
from services.programme.campaigns import Badge, Campaign, Survey
from services.programme.checkout import Checkout
from services.programme.messages import MessagePolicy
from services.programme.rewards import Offer, Reward

BASIS_POINTS: Final = 10_000
SUSPENDED: Final = "suspended"
"""The earning class of a suspended account (§12.16): no level has this key."""


class Base(enum.StrEnum):
    """The amount of a receipt that a rule counts (DESIGN §12.1)."""

    TOTAL = "total"
    """Everything the receipt asks for."""
    GOODS_PAID = "goods_paid"
    """Goods with tax, after discounts, without shipping, gift cards sold, or what points paid."""


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
    activities: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    """Points for an activity by its name; any other is recorded and gives none."""
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


class Metric(enum.StrEnum):
    """What the balance that decides between tiers is made of, and its unit."""

    NET_SPEND = "net_spend"
    """Purchases minus returns: minor units of the market's currency."""
    QUALIFYING_POINTS = "qualifying_points"
    """Points that purchases gave, less what returns took back of them; bonuses only where they are marked (§12.10)."""
    VISITS = "visits"
    """Purchases that were not voided."""
    ACTIVITIES = "activities"
    """Recorded activities."""
    MEMBERSHIP = "membership"
    """Nothing: tiers are bought alone, each by its plan."""


class Counting(enum.StrEnum):
    """Until when a movement counts."""

    ROLLING = "rolling"
    """A span of its own, from its time on."""
    CALENDAR_YEAR = "calendar_year"
    CALENDAR_HALF = "calendar_half"
    CALENDAR_QUARTER = "calendar_quarter"
    ANNIVERSARY = "anniversary"
    """Up to the next anniversary of joining."""
    LIFETIME = "lifetime"


# When what counts for a lifetime ends: later than all that can be asked about.
FOREVER: Final = datetime(9999, 1, 1, tzinfo=UTC)

_MONTHS: Final = {Counting.CALENDAR_YEAR: 12, Counting.CALENDAR_HALF: 6, Counting.CALENDAR_QUARTER: 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class TierWindow:
    """How long a movement counts. `span` is set for ROLLING alone."""

    counting: Counting
    span: Window | None = None

    @classmethod
    def rolling(cls, span: Window) -> TierWindow:
        """Each movement for a span of its own."""
        return cls(counting=Counting.ROLLING, span=span)

    def end(self, start: datetime, zone: ZoneInfo, joined: datetime) -> datetime:
        """The first instant, UTC, at which a movement of `start` no longer counts; FOREVER for a lifetime.

        Calendar periods and anniversaries end with the start of a local day. An anniversary on 29 February is on the
        28th of other years. Raises as `Window.end`.
        """
        if self.span is not None:
            return self.span.end(start, zone)
        if self.counting is Counting.LIFETIME:
            return FOREVER
        day = aware(start).astimezone(zone).date()
        if self.counting is Counting.ANNIVERSARY:
            first = joined.astimezone(zone).date()
            years = max(day.year - first.year, 1)
            while (last := Window(years=years).last_day(first)) <= day:
                years += 1
            return start_of_day(zone, last)
        months = _MONTHS[self.counting]
        opens = date(day.year, (day.month - 1) // months * months + 1, 1)
        return start_of_day(zone, Window(months=months).last_day(opens))


@dataclass(frozen=True, slots=True, kw_only=True)
class Benefit:
    """Something a level gives beside its discount: data for whoever grants it."""

    id: str
    text: str
    """What it is, for people."""
    maximum_minor_units: int | None = None
    """What it may cost at most, where it is worth money, such as free shipping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One tier. Its key is the earning class that the ledger knows its members by."""

    number: int
    """1 for the lowest, then without gaps."""
    key: str
    name: str
    threshold: int | None
    """The balance at which it begins, in the metric's unit; None for the first, and for what only a plan gives."""
    keep_threshold: int | None = None
    """The balance that keeps it, where that is another; at most `threshold`."""
    plan: str = ""
    """The paid membership that gives it for as long as it is paid, whatever the balance; empty: none does."""
    multiplier_bp: int
    discount_bp: int
    benefits: tuple[Benefit, ...] = ()

    @property
    def kept_from(self) -> int | None:
        """The balance that keeps it."""
        return self.threshold if self.keep_threshold is None else self.keep_threshold


class AppliesTo(enum.StrEnum):
    """What a cool-off holds back."""

    BENEFITS = "benefits"
    """The tier is reached at once, its benefits come later."""
    LEVEL = "level"
    """The tier itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoolOff:
    """A purchase counts towards what is held back when it is so old, a return at once (§12.6)."""

    period: Window
    applies_to: AppliesTo


class CycleEnd(enum.StrEnum):
    """What becomes of a level that was not earned again in its cycle."""

    EARNED = "earned"
    """The level that the cycle's balance keeps."""
    ONE_DOWN = "one_down"
    """That, but at most one level down."""


class OnReturn(enum.StrEnum):
    """What a return does to the level that was reached by what comes back, while its cycle lasts."""

    KEEP = "keep"
    TAKE_BACK = "take_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """A level that was reached is held for a cycle, and must be earned again in it (R26, §12.7)."""

    cycle: Window
    at_end: CycleEnd
    grace: Window | None = None
    """So long after a cycle that did not earn it the level is still held, and can still be earned."""
    on_return: OnReturn = OnReturn.KEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """How long an account is valid without being renewed (R27)."""

    period: Window
    transactions: int
    """Purchases that a renewal needs in the period, beside a confirmation."""
    warning: Window
    """So long before the end the member is warned."""


class Rejoining(enum.StrEnum):
    """From which joining on movements count for one who left and came back (R20)."""

    FIRST = "first"
    LATEST = "latest"


class LinkedReturns(enum.StrEnum):
    """When the return of a known purchase counts (§12.5)."""

    OWN_TIME = "own_time"
    PURCHASE_TIME = "purchase_time"


@dataclass(frozen=True, slots=True, kw_only=True)
class TierPolicy:
    """The levels, lowest first, and the balance that decides between them: the metric, over the window."""

    base: Base
    window: TierWindow
    levels: tuple[Level, ...]
    metric: Metric = Metric.NET_SPEND
    qualifying: frozenset[str] = frozenset()
    """Rules of the ledger that give qualifying points beside "base": ids of bonuses, "sign_up_bonus", "award"."""
    from_joining: bool = False
    """Whether what happened at the very joining time counts, too; otherwise what is later alone (R19)."""
    rejoining: Rejoining = Rejoining.FIRST
    linked_returns: LinkedReturns = LinkedReturns.OWN_TIME
    cool_off: CoolOff | None = None
    retention: Retention | None = None
    validity: Validity | None = None

    def level_for(self, balance: int) -> Level:
        """The level of a balance: from its own threshold up to, not including, the next.

        The highest condition is checked first (R23). What reaches no threshold, a negative balance too,
        is the first level.
        """
        for level in reversed(self.levels):
            if level.threshold is not None and balance >= level.threshold:
                return level
        return self.levels[0]

    def level_kept(self, balance: int, number: int) -> Level:
        """The highest level up to this number that a balance keeps; the first needs nothing."""
        for level in reversed(self.levels[:number]):
            if level.kept_from is not None and balance >= level.kept_from:
                return level
        return self.levels[0]

    def level(self, number: int) -> Level:
        """The level with this number. Raises LookupError where there is none."""
        if not 1 <= number <= len(self.levels):
            raise LookupError(f"there is no level {number}; the levels are 1 to {len(self.levels)}")
        return self.levels[number - 1]

    def find_level(self, key: str) -> Level | None:
        """The level with this key."""
        return next((level for level in self.levels if level.key == key), None)

    def level_of_plan(self, plan: str) -> Level | None:
        """The level that a paid membership gives."""
        return next((level for level in self.levels if plan and level.plan == plan), None)

    def next_level(self, level: Level) -> Level | None:
        """The next level above that a balance reaches, or None."""
        return next((higher for higher in self.levels[level.number :] if higher.threshold is not None), None)

    @property
    def remembers(self) -> bool:
        """Whether the level depends on what it was before, and not on the balance of the moment alone."""
        return self.retention is not None or any(level.keep_threshold is not None for level in self.levels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """From this local day of the market on, `minor_units` of `currency` are worth `home_minor_units` (both above 0)."""

    from_day: date
    currency: str
    minor_units: int
    home_minor_units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """Where a member is at home: its money, its clock, its thresholds (§12.17)."""

    key: str
    """Empty for the programme's own."""
    currency: str
    minor_unit_digits: int
    time_zone: str
    tiers: TierPolicy
    """The programme's levels with this market's thresholds."""
    earning_per: int | None = None
    """What earns `earning.points` here, in minor units of this currency; None: as in the programme."""
    rates: tuple[Rate, ...] = ()
    """By day, ascending, for each other currency that is taken."""
    _zone: ZoneInfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_zone", ZoneInfo(self.time_zone))

    @property
    def zone(self) -> ZoneInfo:
        """The zone whose calendar and clock the market goes by."""
        return self._zone

    def local_day(self, t: datetime) -> date:
        """The date in the market's zone at `t` (aware; ValueError otherwise)."""
        return aware(t).astimezone(self._zone).date()

    def start_of_next_local_day(self, t: datetime) -> datetime:
        """As `Programme.start_of_next_local_day`, by the market's clock."""
        return start_of_next_day(self._zone, t)

    def rate(self, currency: str, day: date) -> Rate | None:
        """The rate of another currency that holds on a local day; None before the first, and for one not taken."""
        return next((rate for rate in reversed(self.rates) if rate.currency == currency and rate.from_day <= day), None)

    def at_home(self, minor_units: int, currency: str, day: date) -> int:
        """An amount in the market's currency by the rate of a local day, rounded to the nearest, halves up.

        Raises LookupError where there is no rate.
        """
        if currency in ("", self.currency):
            return minor_units
        rate = self.rate(currency, day)
        if rate is None:
            raise LookupError(f"there is no rate of {currency} to {self.currency} on {day.isoformat()}")
        return at_rate(minor_units, rate.minor_units, rate.home_minor_units)


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
    goodwill_points: int = 0
    """What staff may give a member in a local month without anybody's approval."""
    coupon_amount: int | None = None
    """What a coupon given by hand may be worth, all its uses together; None: nothing of staff, no limit of systems."""
    coupon_percent_bp: int = 0
    """What percentage a coupon given by staff may take off, all its uses together."""
    back_dating: Window | None = None
    """How far back an event's own time may lie; None: no limit."""
    liability: Liability | None = None
    checkout: Checkout = Checkout()
    rates: tuple[Rate, ...] = ()
    """Of other currencies in the programme's own market."""
    markets: Mapping[str, Market] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    """The others, by key."""
    rewards: tuple[Reward, ...] = ()
    """The catalogue of what is had for points."""
    surveys: tuple[Survey, ...] = ()
    badges: tuple[Badge, ...] = ()
    messages: MessagePolicy = MessagePolicy()
    _zone: ZoneInfo = field(init=False, repr=False, compare=False)
    _home: Market = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_zone", ZoneInfo(self.time_zone))
        home = Market(
            key="",
            currency=self.currency,
            minor_unit_digits=self.minor_unit_digits,
            time_zone=self.time_zone,
            tiers=self.tiers,
            rates=self.rates,
        )
        object.__setattr__(self, "_home", home)

    def campaign(self, campaign_id: str) -> Campaign | None:
        """The campaign of this id."""
        return next((campaign for campaign in self.campaigns if campaign.id == campaign_id), None)

    def survey(self, survey_id: str) -> Survey | None:
        """The survey of this id."""
        return next((survey for survey in self.surveys if survey.id == survey_id), None)

    def market(self, key: str) -> Market:
        """A member's market; the programme's own where the key is empty, or no longer one."""
        return self.markets.get(key, self._home)

    @property
    def zone(self) -> ZoneInfo:
        """The zone whose calendar and clock the programme goes by."""
        return self._zone

    def local_day(self, t: datetime) -> date:
        """The date in the programme's zone at `t` (aware; ValueError otherwise)."""
        return aware(t).astimezone(self._zone).date()

    def last_whole_day(self, end: datetime) -> date:
        """The last local day that has passed at `end` (aware; ValueError otherwise): what ends then is good through it.

        An end in the last minute of a day is meant as the end of that day.
        """
        return self.local_day(end + timedelta(minutes=1)) - timedelta(days=1)

    def start_of_local_day(self, day: date) -> datetime:
        """The first instant, UTC, of a local day.

        Where midnight comes twice it is the first, where it does not exist the first instant after the gap; for
        a day that does not exist that is the start of the one after. Raises OverflowError at either end of the
        calendar.
        """
        return start_of_day(self._zone, day)

    def start_of_next_local_day(self, t: datetime) -> datetime:
        """The instant, UTC, at which the local day after that of `t` begins; always later than `t`.

        As `start_of_local_day`; but where the clock is set back across midnight, `t` in the evening's second
        showing is answered with the second midnight. Raises ValueError for a naive `t`.
        """
        return start_of_next_day(self._zone, t)

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


def at_rate(amount: int, minor_units: int, home_minor_units: int) -> int:
    """An amount of a currency whose `minor_units` are worth `home_minor_units`: to the nearest, halves up."""
    return (2 * amount * home_minor_units + minor_units) // (2 * minor_units)


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


def describe_offer(programme: Programme, offer: Offer) -> str:
    """What a coupon is worth, for people: `5 %`, `10.00 USD`."""
    if offer.percent_bp is not None:
        return format_percent(offer.percent_bp)
    return programme.format_money(offer.amount) if offer.amount is not None else offer.detail or offer.sku
