"""The shape of a programme file: which keys there are, and what each value by itself may be.

A value whose unit another key says (a threshold by its metric, an amount by its market) is taken here as it stands;
`checks` judges it, and `schema` reads it.
"""

from __future__ import annotations

import re
import unicodedata
import zoneinfo
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from services.programme.calendar import MAX_DAYS, MAX_YEARS, Window
from services.programme.campaigns import SurveyKind, TriggerKind
from services.programme.currencies import MINOR_UNIT_DIGITS
from services.programme.document import Document, KeyPath, Problem, Unquoted, found
from services.programme.messages import EMAIL, Consent
from services.programme.model import (
    BASIS_POINTS,
    AppliesTo,
    Base,
    Counting,
    CycleEnd,
    ExpiryPolicy,
    LinkedReturns,
    Metric,
    OnReturn,
    Rejoining,
    Shortfall,
    TierWindow,
    format_amount,
)
from services.programme.rewards import Stacking

MAX_MINOR_UNITS: Final = 10**15
MAX_POINTS: Final = 1_000_000
"""Of one rule, bonus, activity or gift."""
MAX_LIMIT: Final = 1_000_000_000
"""Points that a redemption or adjustment is measured against, and of a threshold that is no amount."""
MAX_BONUSES: Final = 50
MAX_ACTIVITIES: Final = 100
MAX_DEPARTMENTS: Final = 50
MAX_LEVELS: Final = 20
MAX_BENEFITS: Final = 20
MAX_TRANSACTIONS: Final = 1_000
MAX_CAMPAIGNS: Final = 100
MAX_VARIANTS: Final = 10
MAX_REWARDS: Final = 1_000
MAX_SURVEYS: Final = 100
MAX_CHOICES: Final = 20
MAX_BADGES: Final = 100
MAX_NAMES: Final = 100
"""Articles, stores, segments: names that one condition lists."""
MAX_LANGUAGES: Final = 50
MAX_USES: Final = 1_000
MAX_POINT_VALUES: Final = 100
MAX_AUTOMATIC_DISCOUNTS: Final = 20
MAX_MARKETS: Final = 50
MAX_RATES: Final = 5_000
"""Of one market."""
MAX_MONTHS_AFTER_YEAR: Final = 36
MAX_SUBJECT: Final = 200
MAX_TEXT: Final = 10_000
MAX_HTML: Final = 100_000
MAX_TOPICS: Final = 50

LANGUAGE: Final = r"[a-z]{2,3}(?:-[A-Z]{2})?"
LEVEL_KEY: Final = r"[a-z][a-z0-9-]{0,31}"
LEDGER_RULES: Final = ("sign_up_bonus", "award")
"""What gives points beside purchases and activities: the ledger's own names, beside the ids of bonuses."""
_WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAMED_WINDOWS: Final = tuple(counting for counting in Counting if counting is not Counting.ROLLING)


# --- single values ----------------------------------------------------------------------------------------------------


def _mistake(message: str) -> PydanticCustomError:
    # The message goes in as a value: as a template its braces would be read as fields.
    return PydanticCustomError("mistake", "{message}", {"message": message})


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Reader(Generic[_T]):
    """Reads one value; `read`, given the currency's digits too, answers None for what is not `expected`."""

    expected: str
    read: Callable[[object, int | None], _T | None]

    def __call__(self, value: object, info: ValidationInfo) -> _T:
        """As pydantic asks for it: the context is the digits of the programme's currency."""
        return self.take(value, info.context)

    def take(self, value: object, digits: int | None) -> _T:
        """What the value means. Raises PydanticCustomError, its text a sentence, for what is not expected."""
        result = self.read(value, digits)
        if result is None:
            raise _mistake(f"found {found(value)}; expected {self.expected}")
        return result


@dataclass(frozen=True, slots=True)
class _Later:
    """Takes whatever is there as it stands: another key says how it is to be read."""

    expected: str

    def __call__(self, value: object) -> object:
        if value is None:
            raise _mistake(f"found nothing; expected {self.expected}")
        return value


def _reads(expected: str, read: Callable[[object, int | None], _T | None]) -> PlainValidator:
    return PlainValidator(Reader(expected, read))


def _text(pattern: str, expected: str) -> PlainValidator:
    compiled = re.compile(pattern)

    def read(value: object, _: int | None) -> str | None:
        return value if isinstance(value, str) and compiled.fullmatch(value) else None

    return _reads(expected, read)


def unseen(character: str) -> bool:
    """Whether it has no place in a line of text: a control character, a lone surrogate, a break."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def _prose(limit: int, *, lines: bool) -> PlainValidator:
    return PlainValidator(_prose_reader(limit, lines=lines))


def _prose_reader(limit: int, *, lines: bool) -> Reader[str]:
    """Text for people: not blank; on one line, unless `lines`; no control characters, no lone surrogates."""

    def read(value: object, _: int | None) -> str | None:
        if not isinstance(value, str) or not value.strip() or len(value) > limit:
            return None
        for character in value:
            if unseen(character) and not (lines and character in "\n\t"):
                raise _mistake(f"the character U+{ord(character):04X} is not allowed; expected {expected}")
        return value

    expected = f"text of 1 to {limit:,} characters" + ("" if lines else " on one line")
    return Reader(expected, read)


def _worded(limit: int, *, lines: bool) -> PlainValidator:
    """Text for people in each of some languages, by language; where there is one text alone, under the language ""."""
    prose = _prose_reader(limit, lines=lines)

    def read(value: object, digits: int | None) -> dict[str, str] | None:
        if not isinstance(value, dict):
            text = prose.read(value, digits)
            return None if text is None else {"": text}
        for language, text in value.items():
            if prose.read(text, digits) is None:
                raise _mistake(f"found {found(text)} in the language {language}; expected {prose.expected}")
        return dict(value) or None

    return _reads(prose.expected, read)


def _clock_time(value: object, _: int | None) -> time | None:
    if not isinstance(value, str) or not re.fullmatch(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]", value):
        return None
    return time.fromisoformat(value)


def _whole_reader(low: int, high: int) -> Reader[int]:
    def read(value: object, _: int | None) -> int | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return None
        return value if low <= value <= high else None

    return Reader(f"a whole number without quotes, {low} to {high:,}", read)


def _whole(low: int, high: int) -> PlainValidator:
    return PlainValidator(_whole_reader(low, high))


def _scaled(decimals: int, low: int, high: int, expected: str) -> PlainValidator:
    """A quoted decimal with at most `decimals` places as an integer of its last place, `low` to `high`."""
    return _reads(expected, lambda value, _: _read_scaled(value, decimals, low, high))


def _read_scaled(value: object, decimals: int, low: int, high: int) -> int | None:
    if not isinstance(value, str) or not re.fullmatch(rf"[0-9]{{1,3}}(?:\.[0-9]{{1,{decimals}}})?", value):
        return None
    scaled = int(Decimal(value).scaleb(decimals))
    return scaled if low <= scaled <= high else None


def read_percent(value: object, _: int | None = None) -> int | None:
    """A percentage above zero, in basis points; None for anything else."""
    return _read_scaled(value, 2, 1, BASIS_POINTS)


def _money(value: object, digits: int | None) -> int | None:
    """A quoted amount above zero, with all the decimals of the currency, in minor units."""
    if digits is None:
        # The currency is wrong, and reported. Here only what would be wrong in any is.
        return 1 if isinstance(value, str) and re.fullmatch(r"[0-9]{1,16}(?:\.[0-9]{1,4})?", value) else None
    decimals = rf"\.[0-9]{{{digits}}}" if digits else ""
    if isinstance(value, str) and re.fullmatch(rf"[0-9]{{1,16}}{decimals}", value):
        minor_units = int(value.replace(".", ""))
        if 0 < minor_units <= MAX_MINOR_UNITS:
            return minor_units
        right = f'above zero, at most "{format_amount(MAX_MINOR_UNITS, digits)}"'
    else:
        example = 300 * 10**digits
        text = value.text if isinstance(value, Unquoted) else str(value)
        if not isinstance(value, bool) and re.fullmatch(r"[0-9]{1,12}(?:\.[0-9]{1,4})?", text):
            meant = Decimal(text).scaleb(digits)
            example = int(meant) if meant == int(meant) and meant > 0 else example
        right = f'in quotes with {digits or "no"} decimals, such as "{format_amount(example, digits)}"'
    raise _mistake(f"found {found(value)}; expected an amount {right}")


def read_window(value: object, _: int | None = None) -> Window | None:
    """`P30D`, `P18M` or `P1Y`; None for anything else."""
    return Window.read(value) if isinstance(value, str) else None


def _tier_window(value: object, digits: int | None) -> TierWindow | None:
    if isinstance(value, str) and value in _NAMED_WINDOWS:
        return TierWindow(counting=Counting(value))
    span = read_window(value, digits)
    return None if span is None else TierWindow.rolling(span)


def _days(value: object, digits: int | None) -> int | None:
    window = read_window(value, digits)
    return None if window is None else window.days


def read_period(value: object, digits: int | None) -> Window | None:
    """A window, or P0M: which of them, depends on the policy."""
    return Window(months=0) if value == "P0M" else read_window(value, digits)


def read_day(value: object, _: int | None = None) -> date | None:
    """A day in quotes; None for anything else."""
    if not isinstance(value, str) or not re.fullmatch(r"(?:19|2[0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}", value):
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None


def _shipping(value: object, digits: int | None) -> int | None:
    """What it pays at most; 0 for all of it."""
    return 0 if value is True else _money(value, digits)


def _truth(value: object, _: int | None) -> bool | None:
    return value if isinstance(value, bool) else None


def _choice(names: Callable[[], Iterable[str]], make: Callable[[str], object], expected: str) -> PlainValidator:
    def read(value: object, _: int | None) -> object:
        known = set(names())
        if not isinstance(value, str) or value in known:
            return make(value) if isinstance(value, str) else None
        raise _mistake(f"found {found(value)}; expected {expected}{did_you_mean(value, known)}")

    return _reads(expected, read)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean "green"?`, or nothing where nothing is near."""
    by_lower = {candidate.lower(): candidate for candidate in sorted(known)}
    close = get_close_matches(name.lower(), by_lower, n=1) if len(name) <= 64 else []
    return f'; did you mean "{by_lower[close[0]]}"?' if close else ""


def _time_zones() -> set[str]:
    # These two depend on the machine.
    return zoneinfo.available_timezones() - {"localtime", "Factory"}


_Name = Annotated[
    str, _text(r"[a-z0-9][a-z0-9-]{0,63}", 'small letters, digits and hyphens, at most 64, such as "my-shop"')
]
LEVEL_KEY_TEXT: Final = 'small letters, digits and hyphens, a letter first, at most 32, such as "green"'
_Key = Annotated[str, _text(LEVEL_KEY, LEVEL_KEY_TEXT)]
_Rule = Annotated[str, _text(r"[a-z0-9][a-z0-9_-]{0,63}", "the id of a bonus, sign_up_bonus or award")]
_Currency = Annotated[str, _choice(lambda: MINOR_UNIT_DIGITS, str, 'an active ISO 4217 code, such as "PLN"')]
_Zone = Annotated[str, _choice(_time_zones, str, 'a time zone of the IANA database, such as "Europe/Warsaw"')]
BASE: Final = "total or goods_paid"
_BaseName = Annotated[Base, _choice(lambda: list(Base), Base, BASE)]
_MetricName = Annotated[
    Metric,
    _choice(lambda: list(Metric), Metric, "net_spend, qualifying_points, visits, activities or membership"),
]
_COUNTED: Final = {"after_joining": False, "from_joining": True}
_Counted = Annotated[bool, _choice(lambda: _COUNTED, _COUNTED.__getitem__, "after_joining or from_joining")]
_RejoiningName = Annotated[Rejoining, _choice(lambda: list(Rejoining), Rejoining, "first or latest")]
_LinkedReturnsName = Annotated[
    LinkedReturns, _choice(lambda: list(LinkedReturns), LinkedReturns, "own_time or purchase_time")
]
_AppliesToName = Annotated[AppliesTo, _choice(lambda: list(AppliesTo), AppliesTo, "benefits or level")]
_CycleEndName = Annotated[CycleEnd, _choice(lambda: list(CycleEnd), CycleEnd, "earned or one_down")]
_OnReturnName = Annotated[OnReturn, _choice(lambda: list(OnReturn), OnReturn, "keep or take_back")]
_TRIGGERS: Final = ", ".join(list(TriggerKind)[:-1]) + f" or {list(TriggerKind)[-1]}"
_TriggerName = Annotated[TriggerKind, _choice(lambda: list(TriggerKind), TriggerKind, _TRIGGERS)]
_SurveyKindName = Annotated[SurveyKind, _choice(lambda: list(SurveyKind), SurveyKind, "nps, stars or choice")]
_StackingName = Annotated[Stacking, _choice(lambda: list(Stacking), Stacking, "exclusive, with_tier or any")]
AMOUNT: Final = Reader('an amount in quotes, such as "300.00"', _money)
"""Of a currency with so many digits."""
COUNT: Final = _whole_reader(1, MAX_LIMIT)
"""Of points, visits or activities."""
_Money = Annotated[int, PlainValidator(AMOUNT)]
_Amount = Annotated[Any, PlainValidator(_Later(AMOUNT.expected))]
_Threshold = Annotated[Any, PlainValidator(_Later(f"{AMOUNT.expected}, or {COUNT.expected}, as the metric asks"))]
WINDOW: Final = f'days such as "P365D", months such as "P18M" or years such as "P1Y", at most {MAX_YEARS} years'
_NAMED: Final = ", ".join(_NAMED_WINDOWS[:-1]) + f" or {_NAMED_WINDOWS[-1]}"
TIER_WINDOW: Final = f"{WINDOW}; or {_NAMED}"
_TierWindowText = Annotated[TierWindow, _reads(TIER_WINDOW, _tier_window)]
_WindowText = Annotated[Window, _reads(WINDOW, read_window)]
_PeriodText = Annotated[Window, _reads(WINDOW, read_period)]
_DaysText = Annotated[int, _reads(f'days such as "P14D", at most {MAX_DAYS:,}', _days)]
_Day = Annotated[date, _reads('a day in quotes, of the years 1900 to 2999, such as "2026-06-01"', read_day)]
_Weekday = Annotated[int, _choice(lambda: _WEEKDAYS, _WEEKDAYS.index, "mon, tue, wed, thu, fri, sat or sun")]
_Truth = Annotated[bool, _reads("true or false", _truth)]
_Policy = Annotated[
    ExpiryPolicy, _choice(lambda: list(ExpiryPolicy), ExpiryPolicy, "never, after, inactivity or calendar_year")
]
_ShortfallName = Annotated[Shortfall, _choice(lambda: list(Shortfall), Shortfall, "debt, forgive or refuse")]
_Multiplier = Annotated[
    int,
    _scaled(4, 1, 100 * BASIS_POINTS, 'a factor in quotes, above "0", up to "100.0000", such as "1.25"'),
]
_BonusMultiplier = Annotated[
    int,
    _scaled(4, BASIS_POINTS + 1, 100 * BASIS_POINTS, 'a factor in quotes, above "1", up to "100.0000", such as "2"'),
]
_PERCENT_OFF: Final = 'a percentage in quotes, above "0", up to "100.00", such as "5"'
_Percent = Annotated[int, _scaled(2, 0, BASIS_POINTS, 'a percentage in quotes, "0" to "100.00", such as "5"')]
_PercentOff = Annotated[int, _reads(_PERCENT_OFF, read_percent)]
_Points = Annotated[int, _whole(0, MAX_POINTS)]
_BonusPoints = Annotated[int, _whole(1, MAX_POINTS)]
_Transactions = Annotated[int, _whole(0, MAX_TRANSACTIONS)]
_Limit = Annotated[int, _whole(0, MAX_LIMIT)]
_LimitAboveZero = Annotated[int, _whole(1, MAX_LIMIT)]
_Uses = Annotated[int, _whole(1, MAX_USES)]
_Word = Annotated[str, _text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", 'letters, digits, ".", "_" and "-", at most 64')]
"""What others name: a store, an article, a channel, an attribute."""
_Pool = Annotated[str, _text(r"[a-z0-9_-]{1,64}", 'small letters, digits, "_" and "-", at most 64')]
_Event = Annotated[
    str, _text(r"[a-z0-9_]{1,32}(?:\.[a-z0-9_]{1,32}){1,3}", 'words with dots between, such as "campaign.won"')
]
_Link = Annotated[str, _text(r"https?://[!-~]{1,500}", 'an address such as "https://shop.example/survey"')]
_Department = Annotated[str, _prose(100, lines=False)]
_Market = Annotated[str, _text(rf"(?:{LEVEL_KEY})?", 'the key of a market, or "" for the programme\'s own')]
_Shipping = Annotated[int, _reads('true, or at most an amount in quotes, such as "9.99"', _shipping)]
_Detail = Annotated[str, _prose(200, lines=False)]
_ConsentName = Annotated[Consent, _choice(lambda: list(Consent), Consent, "opt_in, opt_out or always")]
_Language = Annotated[str, _text(LANGUAGE, 'a language such as "en" or "pt-BR"')]
_ClockTime = Annotated[time, _reads('a time of day in quotes, "00:00" to "23:59"', _clock_time)]
_Prefix = Annotated[str, _text(r"[A-Z2-9]{1,8}", '1 to 8 of A-Z and 2-9, such as "GREEN"')]


# --- the keys ---------------------------------------------------------------------------------------------------------


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _BonusFile(_File):
    id: _Name
    multiplier: _BonusMultiplier | None = None
    points: _BonusPoints | None = None
    from_: _Day | None = Field(default=None, alias="from")
    until: _Day | None = None
    weekdays: list[_Weekday] | None = Field(default=None, min_length=1, max_length=len(_WEEKDAYS))
    minimum: _Money | None = None
    departments: list[_Department] | None = Field(default=None, min_length=1, max_length=MAX_DEPARTMENTS)
    first_purchase: _Truth = False


class _ActivityFile(_File):
    id: _Name
    points: _BonusPoints


class EarningFile(_File):
    """`earning`"""

    base: _BaseName
    points: _Points
    per: _Money
    sign_up_bonus: _Points = 0
    pending: _DaysText = 0
    bonuses: list[_BonusFile] = Field(default=[], max_length=MAX_BONUSES)
    activities: list[_ActivityFile] = Field(default=[], max_length=MAX_ACTIVITIES)


class _ExpiryFile(_File):
    policy: _Policy = ExpiryPolicy.NEVER
    period: _PeriodText | None = None


class _RedemptionFile(_File):
    minimum: _LimitAboveZero = 1
    step: _LimitAboveZero = 1


class _ReturnsFile(_File):
    shortfall: _ShortfallName = Shortfall.DEBT


class AutomaticDiscountFile(_File):
    """`checkout.automatic[]`"""

    points: _LimitAboveZero
    discount_percent: _PercentOff | None = None
    discount_amount: _Money | None = None


class _CheckoutFile(_File):
    automatic: list[AutomaticDiscountFile] = Field(default=[], max_length=MAX_AUTOMATIC_DISCOUNTS)


class _AdjustmentsFile(_File):
    per_call: _Limit | None = None
    per_day: _Limit | None = None


class _PointValueFile(_File):
    from_: _Day = Field(alias="from")
    points: _LimitAboveZero
    worth: _Money


class LiabilityFile(_File):
    """`liability`"""

    values: list[_PointValueFile] = Field(min_length=1, max_length=MAX_POINT_VALUES)
    breakage_percent: _Percent = 0


class _BenefitFile(_File):
    id: _Name
    text: Annotated[str, _prose(200, lines=False)]
    maximum: _Money | None = None


class _ThresholdFile(_File):
    from_: _Amount = Field(alias="from")
    keep: _Amount | None = None


class LevelFile(_File):
    """`tiers.levels[]`"""

    key: _Key | None = None
    name: Annotated[str, _prose(64, lines=False)]
    from_: _Threshold | None = Field(default=None, alias="from")
    keep: _Threshold | None = None
    plan: _Name | None = None
    earning_multiplier: _Multiplier = BASIS_POINTS
    discount_percent: _Percent = 0
    benefits: list[_BenefitFile] = Field(default=[], max_length=MAX_BENEFITS)


class _CoolOffFile(_File):
    period: _WindowText
    applies_to: _AppliesToName = AppliesTo.BENEFITS


class _RetentionFile(_File):
    cycle: _WindowText
    at_end: _CycleEndName = CycleEnd.EARNED
    grace: _WindowText | None = None
    on_return: _OnReturnName = OnReturn.KEEP


class _ValidityFile(_File):
    period: _WindowText
    transactions: _Transactions = 0
    warning: _WindowText


class TiersFile(_File):
    """`tiers`"""

    metric: _MetricName = Metric.NET_SPEND
    base: _BaseName | None = None
    window: _TierWindowText | None = None
    counted: _Counted = False
    rejoining: _RejoiningName = Rejoining.FIRST
    linked_returns: _LinkedReturnsName = LinkedReturns.OWN_TIME
    qualifying: list[_Rule] | None = Field(default=None, min_length=1, max_length=MAX_BONUSES + len(LEDGER_RULES))
    cool_off: _CoolOffFile | None = None
    retention: _RetentionFile | None = None
    validity: _ValidityFile | None = None
    levels: list[LevelFile] = Field(min_length=1, max_length=MAX_LEVELS)


class RateFile(_File):
    """`rates[]`"""

    from_: _Day = Field(alias="from")
    currency: _Currency
    amount: _Amount
    worth: _Amount


class MarketFile(_File):
    """`markets.*`"""

    currency: _Currency
    time_zone: _Zone
    per: _Amount | None = None
    thresholds: dict[str, _ThresholdFile] | None = None
    maximums: dict[str, dict[str, _Amount]] | None = None
    rates: list[RateFile] = Field(default=[], max_length=MAX_RATES)


class CouponFile(_File):
    """`campaigns[].coupon` and `rewards[].coupon`"""

    prefix: _Prefix | None = None
    pool: _Pool | None = None
    discount_percent: _PercentOff | None = None
    discount_amount: _Money | None = None
    free_product: _Word | None = None
    free_shipping: _Shipping | None = None
    gift_card: _Money | None = None
    upgrade: _Detail | None = None
    early_access: _Detail | None = None
    digital_content: _Detail | None = None
    experience: _Detail | None = None
    valid: _WindowText
    uses: _Uses = 1
    stacking: _StackingName = Stacking.ANY
    minimum: _Money | None = None
    skus: list[_Word] = Field(default=[], max_length=MAX_NAMES)
    departments: list[_Department] = Field(default=[], max_length=MAX_DEPARTMENTS)
    stores: list[_Word] = Field(default=[], max_length=MAX_NAMES)
    channels: list[_Word] = Field(default=[], max_length=MAX_NAMES)
    tiers: list[_Key] = Field(default=[], max_length=MAX_LEVELS)


class TextFile(_File):
    """`rewards[].texts.*` and `badges[].texts.*`"""

    name: Annotated[str, _prose(100, lines=False)]
    description: Annotated[str, _prose(2_000, lines=True)] | None = None


class RewardFile(_File):
    """`rewards[]`"""

    id: _Name
    points: _LimitAboveZero
    money: _Money | None = None
    stock: _Limit | None = None
    per_member: _LimitAboveZero | None = None
    tiers: list[_Key] = Field(default=[], max_length=MAX_LEVELS)
    segments: list[_Name] = Field(default=[], max_length=MAX_NAMES)
    from_: _Day | None = Field(default=None, alias="from")
    until: _Day | None = None
    coupon: CouponFile | None = None
    bonus_points: _BonusPoints | None = None
    texts: dict[str, TextFile] = Field(min_length=1, max_length=MAX_LANGUAGES)


class MessageFile(_File):
    """`campaigns[].message`"""

    topic: _Name | None = None
    channel: _Name = EMAIL
    urgent: _Truth = False
    subject: Annotated[dict[str, str], _worded(MAX_SUBJECT, lines=False)]
    text: Annotated[dict[str, str], _worded(MAX_TEXT, lines=True)]
    html: Annotated[dict[str, str] | None, _worded(MAX_HTML, lines=True)] = None


class _TopicFile(_File):
    id: _Name
    consent: _ConsentName = Consent.OPT_OUT


class _QuietHoursFile(_File):
    from_: _ClockTime = Field(alias="from")
    until: _ClockTime


class _MessageCapsFile(_File):
    per_day: _LimitAboveZero | None = None
    per_week: _LimitAboveZero | None = None


class MessagesFile(_File):
    """`messages`"""

    languages: list[_Language] | None = Field(default=None, min_length=1, max_length=MAX_LANGUAGES)
    topics: list[_TopicFile] | None = Field(default=None, min_length=1, max_length=MAX_TOPICS)
    quiet_hours: _QuietHoursFile | None = None
    caps: _MessageCapsFile = _MessageCapsFile()


class WhenFile(_File):
    """`campaigns[].when`"""

    before: _DaysText | None = None
    after: _DaysText | None = None
    points: _LimitAboveZero | None = None
    visits: _LimitAboveZero | None = None
    minimum: _Money | None = None
    departments: list[_Department] = Field(default=[], max_length=MAX_DEPARTMENTS)
    stores: list[_Word] = Field(default=[], max_length=MAX_NAMES)
    channels: list[_Word] = Field(default=[], max_length=MAX_NAMES)
    probability: _PercentOff | None = None
    segment: _Name | None = None
    day: _Day | None = None


class AudienceFile(_File):
    """`campaigns[].audience`"""

    tiers: list[_Key] = Field(default=[], max_length=MAX_LEVELS)
    markets: list[_Market] = Field(default=[], max_length=MAX_MARKETS + 1)
    segments: list[_Name] = Field(default=[], max_length=MAX_NAMES)
    not_segments: list[_Name] = Field(default=[], max_length=MAX_NAMES)
    attributes: dict[str, _Detail] = Field(default={}, max_length=MAX_NAMES)
    consent: _Name | None = None


class ActionsFile(_File):
    """What a campaign, or a variant of it, gives."""

    coupon: CouponFile | None = None
    points: _BonusPoints | None = None
    lasting: _WindowText | None = None
    message: MessageFile | None = None
    webhook: _Event | None = None
    badge: _Name | None = None
    survey: _Name | None = None


class CapFile(_File):
    """`campaigns[].cap` and `campaigns[].variants[].cap`"""

    times: _LimitAboveZero
    in_: _DaysText = Field(alias="in")


class VariantFile(ActionsFile):
    """`campaigns[].variants[]`"""

    id: _Name
    share: _PercentOff
    cap: CapFile | None = None


class _BudgetFile(_File):
    count: _LimitAboveZero | None = None
    points: _LimitAboveZero | None = None
    amount: _Money | None = None


class CampaignFile(ActionsFile):
    """`campaigns[]`"""

    id: _Name
    trigger: _TriggerName
    tiers: list[_Key] | None = Field(default=None, min_length=1, max_length=MAX_LEVELS)
    when: WhenFile = WhenFile()
    audience: AudienceFile = AudienceFile()
    from_: _Day | None = Field(default=None, alias="from")
    until: _Day | None = None
    control: _Percent = 0
    variants: list[VariantFile] | None = Field(default=None, min_length=1, max_length=MAX_VARIANTS)
    budget: _BudgetFile = _BudgetFile()
    cap: CapFile | None = None


class _SurveyFile(_File):
    id: _Name
    kind: _SurveyKindName
    questions: dict[str, Annotated[str, _prose(500, lines=False)]] = Field(min_length=1, max_length=MAX_LANGUAGES)
    choices: list[Annotated[str, _prose(100, lines=False)]] | None = Field(
        default=None, min_length=2, max_length=MAX_CHOICES
    )
    link: _Link | None = None


class _BadgeFile(_File):
    id: _Name
    texts: dict[str, TextFile] = Field(min_length=1, max_length=MAX_LANGUAGES)


class _SupportFile(_File):
    goodwill_points: _Points = 0
    coupon_amount: _Money | None = None
    coupon_percent: _Percent = 0


class ProgrammeFile(_File):
    """The whole file."""

    programme: _Name
    currency: _Currency
    time_zone: _Zone
    earning: EarningFile
    expiry: _ExpiryFile = _ExpiryFile()
    redemption: _RedemptionFile = _RedemptionFile()
    returns: _ReturnsFile = _ReturnsFile()
    adjustments: _AdjustmentsFile = _AdjustmentsFile()
    support: _SupportFile = _SupportFile()
    checkout: _CheckoutFile = _CheckoutFile()
    back_dating: _WindowText | None = None
    liability: LiabilityFile | None = None
    tiers: TiersFile
    rates: list[RateFile] = Field(default=[], max_length=MAX_RATES)
    markets: dict[str, MarketFile] = Field(default={}, max_length=MAX_MARKETS)
    rewards: list[RewardFile] = Field(default=[], max_length=MAX_REWARDS)
    messages: MessagesFile = MessagesFile()
    campaigns: list[CampaignFile] = Field(default=[], max_length=MAX_CAMPAIGNS)
    surveys: list[_SurveyFile] = Field(default=[], max_length=MAX_SURVEYS)
    badges: list[_BadgeFile] = Field(default=[], max_length=MAX_BADGES)


def problem_of(details: ErrorDetails, document: Document) -> Problem:
    """One of pydantic's errors in this module's words."""
    path = details["loc"]
    context = details.get("ctx", {})
    match details["type"]:
        case "mistake":
            message = details["msg"]
        case "missing":
            message = f"is missing; expected {_expected(path)}"
        case "extra_forbidden":
            known = _keys(_kind(path[:-1])[0])
            right = did_you_mean(str(path[-1]), known) or f"; the keys here are {', '.join(known)}"
            message = f"unknown key{right}"
        case "too_short":
            message = f"found {context['actual_length']}; expected at least {context['min_length']}"
        case "too_long":
            message = f"found {len(details['input']):,}; expected at most {context['max_length']:,}"
        case _:
            message = f"found {found(details['input'])}; expected {_expected(path)}"
    return Problem(line=document.line(path), path=path, message=message)


def _expected(path: KeyPath) -> str:
    kind, metadata = _kind(path)
    if keys := _keys(kind):
        return f"a mapping with the keys {', '.join(keys)}"
    for item in metadata:
        if isinstance(item, PlainValidator) and isinstance(item.func, Reader | _Later):
            return item.func.expected
    return "a mapping" if get_origin(kind) is dict else "a list"


def _kind(path: KeyPath) -> tuple[Any, list[Any]]:
    """The type and the annotations that the schema has at `path`."""
    kind: Any = ProgrammeFile
    metadata: list[Any] = []
    for step in path:
        if isinstance(step, int):
            kind, metadata = get_args(kind)[0], []
        elif get_origin(kind) is dict:
            kind, metadata = get_args(kind)[1], []
        else:
            field = next(field for name, field in kind.model_fields.items() if (field.alias or name) == step)
            kind, metadata = field.annotation, field.metadata
            if get_origin(kind) in (Union, UnionType):
                # A key that may be left out: what it is where it is there.
                kind = next(each for each in get_args(kind) if each is not NoneType)
    return kind, metadata


def _keys(kind: Any) -> list[str]:
    if not (isinstance(kind, type) and issubclass(kind, _File)):
        return []
    return [field.alias or name for name, field in kind.model_fields.items()]


def derived_key(name: str) -> str:
    """The key of a level that gives none: its name in small letters. Empty where that is no key."""
    key = re.sub(r"[\s_]+", "-", name.strip().lower())
    return key if re.fullmatch(LEVEL_KEY, key) else ""
