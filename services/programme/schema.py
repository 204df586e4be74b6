"""From a programme file to a `Programme`, or to everything that is wrong with it.

Three passes, so that one run reports all problems: the document (`document`: YAML, lines, no key twice), the
shape (pydantic: keys, types, each value by itself), and what holds between values (thresholds and days rise, a
campaign's levels exist). The last reads the raw document, too, and skips what the second found wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from services.programme import templates
from services.programme.currencies import MINOR_UNIT_DIGITS
from services.programme.document import MAX_BYTES, Document, KeyPath, Problem, ProgrammeError, Unquoted, found
from services.programme.model import (
    BASIS_POINTS,
    Adjustments,
    Base,
    Bonus,
    Campaign,
    CouponAction,
    Earning,
    Expiry,
    ExpiryPolicy,
    Level,
    Liability,
    Message,
    PointValue,
    Programme,
    Redemption,
    Shortfall,
    TierPolicy,
    Window,
    format_amount,
)

MAX_MINOR_UNITS: Final = 10**15
MAX_POINTS: Final = 1_000_000
"""Of one rule, bonus or gift."""
MAX_LIMIT: Final = 1_000_000_000
"""Points that a redemption or adjustment is measured against."""
MAX_BONUSES: Final = 50
MAX_DEPARTMENTS: Final = 50
MAX_LEVELS: Final = 20
MAX_CAMPAIGNS: Final = 100
MAX_POINT_VALUES: Final = 100
MAX_YEARS: Final = 100
MAX_MONTHS: Final = 12 * MAX_YEARS
MAX_DAYS: Final = 366 * MAX_YEARS
MAX_MONTHS_AFTER_YEAR: Final = 36
MAX_SUBJECT: Final = 200
MAX_TEXT: Final = 10_000

_TOO_LARGE: Final = f"the file is larger than {MAX_BYTES // 1024} KiB; a programme is far smaller"
_LEVEL_KEY: Final = r"[a-z][a-z0-9-]{0,31}"
_WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# What the ledger's own rules are called; its other names have an underscore, which no id has.
_RULES: Final = ("award", "base", "forgiven")


def load(path: str | os.PathLike[str]) -> Programme:
    """The programme in this file. Raises ProgrammeError, also where the file can not be read."""
    file = Path(path)

    def unusable(message: str, line: int | None = None) -> ProgrammeError:
        return ProgrammeError(str(path), [Problem(line=line, path=(), message=message)])

    try:
        if file.is_dir():
            raise unusable("this is a folder; name a programme file in it")
        if file.exists() and not file.is_file():
            raise unusable("this is not an ordinary file; name a programme file")
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise unusable("there is no such file; name a programme file") from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise unusable(f"the file can not be read: {reason}; name one that can") from None
    if len(content) > MAX_BYTES:
        raise unusable(_TOO_LARGE)
    try:
        return parse(content.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise unusable(f"the byte 0x{content[error.start]:02X} is not UTF-8; save the file as UTF-8", line) from None


def parse(text: str, source: str) -> Programme:
    """The programme that a text holds; `source` is what problems call it. Raises ProgrammeError.

    The version is a hash of the content as read, before defaults, so that neither the layout of the file nor
    a later key with a default changes it.
    """
    if len(text) > MAX_BYTES:
        raise ProgrammeError(source, [Problem(line=None, path=(), message=_TOO_LARGE)])
    document = Document(text, source)
    content = document.content
    currency = _at(content, "currency")
    digits = MINOR_UNIT_DIGITS.get(currency) if isinstance(currency, str) else None
    problems = [*document.problems]
    try:
        shape = _ProgrammeFile.model_validate(content, context=digits)
    except ValidationError as error:
        shape = None
        # What could not be read is None in the content; that it is, is no second problem.
        unread = {problem.path for problem in problems}
        problems += [_problem(details, document) for details in error.errors() if details["loc"] not in unread]
    problems += _in_bonuses(content, document)
    problems += _in_expiry(content, document)
    problems += _in_liability(content, document)
    problems += _in_levels(content, digits, document)
    problems += _in_campaigns(content, document)
    if problems or shape is None:
        raise ProgrammeError(source, problems)
    return _programme(shape, content)


def _programme(file: _ProgrammeFile, content: object) -> Programme:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(canonical.encode("utf-8")).hexdigest()
    levels = tuple(
        Level(
            number=number,
            key=level.key or _derived_key(level.name),
            name=level.name,
            threshold_minor_units=level.from_,
            multiplier_bp=level.earning_multiplier,
            discount_bp=level.discount_percent,
        )
        for number, level in enumerate(file.tiers.levels, start=1)
    )
    return Programme(
        name=file.programme,
        version=f"{file.programme}@{digest[:12]}",
        currency=file.currency,
        minor_unit_digits=MINOR_UNIT_DIGITS[file.currency],
        time_zone=file.time_zone,
        earning=Earning(
            base=file.earning.base,
            points=file.earning.points,
            per_minor_units=file.earning.per,
            sign_up_bonus=file.earning.sign_up_bonus,
            class_multipliers_bp=MappingProxyType({level.key: level.multiplier_bp for level in levels}),
            pending_days=file.earning.pending,
            bonuses=tuple(
                Bonus(
                    id=bonus.id,
                    points=bonus.points,
                    multiplier_bp=bonus.multiplier,
                    from_day=bonus.from_,
                    until_day=bonus.until,
                    weekdays=frozenset(bonus.weekdays or ()),
                    minimum_minor_units=bonus.minimum or 0,
                    departments=frozenset(bonus.departments or ()),
                    first_purchase=bonus.first_purchase,
                )
                for bonus in file.earning.bonuses
            ),
        ),
        tiers=TierPolicy(base=file.tiers.base, window=file.tiers.window, levels=levels),
        campaigns=tuple(
            Campaign(
                id=campaign.id,
                trigger=campaign.trigger,
                tiers=tuple(campaign.tiers),
                coupon=CouponAction(
                    prefix=campaign.coupon.prefix,
                    discount_bp=campaign.coupon.discount_percent,
                    discount_minor_units=campaign.coupon.discount_amount,
                    valid=campaign.coupon.valid,
                ),
                message=Message(subject=campaign.message.subject, text=campaign.message.text),
            )
            for campaign in file.campaigns
        ),
        expiry=Expiry(policy=file.expiry.policy, period=file.expiry.period),
        redemption=Redemption(minimum=file.redemption.minimum, step=file.redemption.step),
        shortfall=file.returns.shortfall,
        adjustments=Adjustments(per_call=file.adjustments.per_call, per_day=file.adjustments.per_day),
        back_dating=file.back_dating,
        liability=None if file.liability is None else _liability(file.liability),
    )


def _liability(file: _LiabilityFile) -> Liability:
    return Liability(
        values=tuple(
            PointValue(from_day=value.from_, points=value.points, minor_units=value.worth) for value in file.values
        ),
        breakage_bp=file.breakage_percent,
    )


# --- the shape: single values -------------------------------------------------------------------------------


def _mistake(message: str) -> PydanticCustomError:
    # The message goes in as a value: as a template its braces would be read as fields.
    return PydanticCustomError("mistake", "{message}", {"message": message})


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one value; `read`, given the currency's digits too, answers None for what is not `expected`."""

    expected: str
    read: Callable[[object, int | None], object]

    def __call__(self, value: object, info: ValidationInfo) -> object:
        result = self.read(value, info.context)
        if result is None:
            raise _mistake(f"found {found(value)}; expected {self.expected}")
        return result


def _reads(expected: str, read: Callable[[object, int | None], object]) -> PlainValidator:
    return PlainValidator(_Reader(expected, read))


def _text(pattern: str, expected: str) -> PlainValidator:
    compiled = re.compile(pattern)

    def read(value: object, _: int | None) -> str | None:
        return value if isinstance(value, str) and compiled.fullmatch(value) else None

    return _reads(expected, read)


def _prose(limit: int, *, lines: bool) -> PlainValidator:
    """Text for people: not blank; on one line, unless `lines`; no control characters, no lone surrogates."""

    def read(value: object, _: int | None) -> str | None:
        if not isinstance(value, str) or not value.strip() or len(value) > limit:
            return None
        for character in value:
            unseen = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
            if unseen and not (lines and character in "\n\t"):
                raise _mistake(f"the character U+{ord(character):04X} is not allowed; expected {expected}")
        return value

    expected = f"text of 1 to {limit:,} characters" + ("" if lines else " on one line")
    return _reads(expected, read)


def _whole(low: int, high: int) -> PlainValidator:
    def read(value: object, _: int | None) -> int | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return None
        return value if low <= value <= high else None

    return _reads(f"a whole number without quotes, {low} to {high:,}", read)


def _scaled(decimals: int, low: int, high: int, expected: str) -> PlainValidator:
    """A quoted decimal with at most `decimals` places as an integer of its last place, `low` to `high`."""
    pattern = re.compile(rf"[0-9]{{1,3}}(?:\.[0-9]{{1,{decimals}}})?")

    def read(value: object, _: int | None) -> int | None:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            return None
        scaled = int(Decimal(value).scaleb(decimals))
        return scaled if low <= scaled <= high else None

    return _reads(expected, read)


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


def _window(value: object, _: int | None) -> Window | None:
    match = re.fullmatch(r"P([1-9][0-9]{0,4})([DMY])", value) if isinstance(value, str) else None
    if match is None:
        return None
    number = int(match[1])
    match match[2]:
        case "D":
            return Window(days=number) if number <= MAX_DAYS else None
        case "M":
            return Window(months=number) if number <= MAX_MONTHS else None
        case _:
            return Window(years=number) if number <= MAX_YEARS else None


def _days(value: object, digits: int | None) -> int | None:
    window = _window(value, digits)
    return None if window is None else window.days


def _period(value: object, digits: int | None) -> Window | None:
    """A window, or P0M: which of them, depends on the policy."""
    return Window(months=0) if value == "P0M" else _window(value, digits)


def _day(value: object, _: int | None = None) -> date | None:
    if not isinstance(value, str) or not re.fullmatch(r"(?:19|2[0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}", value):
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None


def _truth(value: object, _: int | None) -> bool | None:
    return value if isinstance(value, bool) else None


def _choice(names: Callable[[], Iterable[str]], make: Callable[[str], object], expected: str) -> PlainValidator:
    def read(value: object, _: int | None) -> object:
        known = set(names())
        if not isinstance(value, str) or value in known:
            return make(value) if isinstance(value, str) else None
        raise _mistake(f"found {found(value)}; expected {expected}{_did_you_mean(value, known)}")

    return _reads(expected, read)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
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
_Key = Annotated[
    str,
    _text(_LEVEL_KEY, 'small letters, digits and hyphens, a letter first, at most 32, such as "green"'),
]
_Currency = Annotated[str, _choice(lambda: MINOR_UNIT_DIGITS, str, 'an active ISO 4217 code, such as "PLN"')]
_Zone = Annotated[str, _choice(_time_zones, str, 'a time zone of the IANA database, such as "Europe/Warsaw"')]
_BaseName = Annotated[Base, _choice(lambda: list(Base), Base, "total or goods_paid")]
_Trigger = Annotated[Literal["tier_reached"], _choice(lambda: ["tier_reached"], str, "tier_reached")]
_Money = Annotated[int, _reads('an amount in quotes, such as "300.00"', _money)]
_WINDOW: Final = f'days such as "P365D", months such as "P18M" or years such as "P1Y", at most {MAX_YEARS} years'
_WindowText = Annotated[Window, _reads(_WINDOW, _window)]
_PeriodText = Annotated[Window, _reads(_WINDOW, _period)]
_DaysText = Annotated[int, _reads(f'days such as "P14D", at most {MAX_DAYS:,}', _days)]
_Day = Annotated[date, _reads('a day in quotes, of the years 1900 to 2999, such as "2026-06-01"', _day)]
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
_Percent = Annotated[int, _scaled(2, 0, BASIS_POINTS, 'a percentage in quotes, "0" to "100.00", such as "5"')]
_PercentOff = Annotated[
    int, _scaled(2, 1, BASIS_POINTS, 'a percentage in quotes, above "0", up to "100.00", such as "5"')
]
_Points = Annotated[int, _whole(0, MAX_POINTS)]
_BonusPoints = Annotated[int, _whole(1, MAX_POINTS)]
_Limit = Annotated[int, _whole(0, MAX_LIMIT)]
_LimitAboveZero = Annotated[int, _whole(1, MAX_LIMIT)]
_Prefix = Annotated[str, _text(r"[A-Z2-9]{1,8}", '1 to 8 of A-Z and 2-9, such as "GREEN"')]


# --- the shape: the keys ------------------------------------------------------------------------------------


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
    departments: list[Annotated[str, _prose(100, lines=False)]] | None = Field(
        default=None, min_length=1, max_length=MAX_DEPARTMENTS
    )
    first_purchase: _Truth = False


class _EarningFile(_File):
    base: _BaseName
    points: _Points
    per: _Money
    sign_up_bonus: _Points = 0
    pending: _DaysText = 0
    bonuses: list[_BonusFile] = Field(default=[], max_length=MAX_BONUSES)


class _ExpiryFile(_File):
    policy: _Policy = ExpiryPolicy.NEVER
    period: _PeriodText | None = None


class _RedemptionFile(_File):
    minimum: _LimitAboveZero = 1
    step: _LimitAboveZero = 1


class _ReturnsFile(_File):
    shortfall: _ShortfallName = Shortfall.DEBT


class _AdjustmentsFile(_File):
    per_call: _Limit | None = None
    per_day: _Limit | None = None


class _PointValueFile(_File):
    from_: _Day = Field(alias="from")
    points: _LimitAboveZero
    worth: _Money


class _LiabilityFile(_File):
    values: list[_PointValueFile] = Field(min_length=1, max_length=MAX_POINT_VALUES)
    breakage_percent: _Percent = 0


class _LevelFile(_File):
    key: _Key | None = None
    name: Annotated[str, _prose(64, lines=False)]
    from_: _Money | None = Field(default=None, alias="from")
    earning_multiplier: _Multiplier = BASIS_POINTS
    discount_percent: _Percent = 0


class _TiersFile(_File):
    base: _BaseName
    window: _WindowText
    levels: list[_LevelFile] = Field(min_length=1, max_length=MAX_LEVELS)


class _CouponFile(_File):
    prefix: _Prefix
    discount_percent: _PercentOff | None = None
    discount_amount: _Money | None = None
    valid: _WindowText


class _MessageFile(_File):
    subject: Annotated[str, _prose(MAX_SUBJECT, lines=False)]
    text: Annotated[str, _prose(MAX_TEXT, lines=True)]


class _CampaignFile(_File):
    id: _Name
    trigger: _Trigger
    tiers: list[_Key] = Field(min_length=1, max_length=MAX_LEVELS)
    coupon: _CouponFile
    message: _MessageFile


class _ProgrammeFile(_File):
    programme: _Name
    currency: _Currency
    time_zone: _Zone
    earning: _EarningFile
    expiry: _ExpiryFile = _ExpiryFile()
    redemption: _RedemptionFile = _RedemptionFile()
    returns: _ReturnsFile = _ReturnsFile()
    adjustments: _AdjustmentsFile = _AdjustmentsFile()
    back_dating: _WindowText | None = None
    liability: _LiabilityFile | None = None
    tiers: _TiersFile
    campaigns: list[_CampaignFile] = Field(default=[], max_length=MAX_CAMPAIGNS)


def _problem(details: ErrorDetails, document: Document) -> Problem:
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
            right = _did_you_mean(str(path[-1]), known) or f"; the keys here are {', '.join(known)}"
            message = f"unknown key{right}"
        case "too_short":
            message = f"found {context['actual_length']}; expected at least {context['min_length']}"
        case "too_long":
            message = f"found {context['actual_length']}; expected at most {context['max_length']}"
        case _:
            message = f"found {found(details['input'])}; expected {_expected(path)}"
    return Problem(line=document.line(path), path=path, message=message)


def _expected(path: KeyPath) -> str:
    kind, metadata = _kind(path)
    if keys := _keys(kind):
        return f"a mapping with the keys {', '.join(keys)}"
    for item in metadata:
        if isinstance(item, PlainValidator) and isinstance(item.func, _Reader):
            return item.func.expected
    return "a list"


def _kind(path: KeyPath) -> tuple[Any, list[Any]]:
    """The type and the annotations that the schema has at `path`."""
    kind: Any = _ProgrammeFile
    metadata: list[Any] = []
    for step in path:
        if isinstance(step, int):
            kind, metadata = get_args(kind)[0], []
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


# --- what holds between values ------------------------------------------------------------------------------


def _in_bonuses(content: object, document: Document) -> Iterator[Problem]:
    """Ids are unique and not the ledger's own, a bonus is one of two kinds, its days are in order, no list repeats."""
    seen: dict[str, int] = {}
    for index, bonus in _mappings(content, "earning", "bonuses"):
        found_here: list[tuple[KeyPath, str]] = []
        if isinstance(name := bonus.get("id"), str):
            if name in _RULES:
                found_here.append((("id",), f'"{name}" is what the ledger calls a rule of its own; choose another'))
            elif name in seen:
                right = f"is already the id of bonuses[{seen[name]}]; give it another"
                found_here.append((("id",), f"{found(name)} {right}"))
            seen.setdefault(name, index)
        kinds = [kind for kind in ("multiplier", "points") if bonus.get(kind) is not None]
        if len(kinds) != 1:
            wrong = "two kinds of bonus; keep" if kinds else "no bonus; add"
            found_here.append(((), f"{wrong} multiplier or points"))
        elif kinds == ["points"] and bonus.get("departments") is not None:
            message = "these narrow what a multiplier counts; remove this key, or give a multiplier and no points"
            found_here.append((("departments",), message))
        first, last = _day(bonus.get("from")), _day(bonus.get("until"))
        if first is not None and last is not None and last < first:
            found_here.append((("until",), f'found "{last}"; expected the day of from, "{first}", or a later one'))
        for key in ("weekdays", "departments"):
            for position, text in _repeated(bonus.get(key)):
                found_here.append(((key, position), f"{found(text)} is here twice; remove one"))
        for steps, message in found_here:
            path: KeyPath = ("earning", "bonuses", index, *steps)
            yield Problem(line=document.line(path), path=path, message=message)


def _in_expiry(content: object, document: Document) -> Iterator[Problem]:
    """The period fits the policy."""
    path = ("expiry", "period")
    policy, period = _at(content, "expiry", "policy"), _at(content, *path)
    window = _period(period, None)
    if policy == ExpiryPolicy.CALENDAR_YEAR:
        expected = f'months after 31 December, "P0M" to "P{MAX_MONTHS_AFTER_YEAR}M"'
        fits = window is None or (window.months is not None and window.months <= MAX_MONTHS_AFTER_YEAR)
    else:
        expected, fits = _WINDOW, window != Window(months=0)
    message = None
    if policy in (None, ExpiryPolicy.NEVER):
        if period is not None:
            message = "the policy is never, where points have no period; remove this key, or choose another policy"
    elif policy in list(ExpiryPolicy):
        if period is None:
            message = f"is missing; expected {expected}"
        elif not fits:
            message = f"found {found(period)}; expected {expected}"
    if message is not None:
        yield Problem(line=document.line(path), path=path, message=message)


def _in_liability(content: object, document: Document) -> Iterator[Problem]:
    """The days from which points have a value rise."""
    before: date | None = None
    for index, value in _mappings(content, "liability", "values"):
        day = _day(value.get("from"))
        if day is None:
            continue
        if before is not None and day <= before:
            path = ("liability", "values", index, "from")
            message = f'found "{day}"; expected a day after the "{before}" before it'
            yield Problem(line=document.line(path), path=path, message=message)
        before = max(day, before or day)


def _in_levels(content: object, digits: int | None, document: Document) -> Iterator[Problem]:
    """Thresholds rise, the first level alone has none, and no two levels share a key."""

    def problem(message: str, *steps: str | int) -> Problem:
        path: KeyPath = ("tiers", "levels", *steps)
        return Problem(line=document.line(path), path=path, message=message)

    seen: dict[str, int] = {}
    below: int | None = None
    for index, level in _mappings(content, "tiers", "levels"):
        key, name, threshold = level.get("key"), level.get("name"), level.get("from")
        if key is None and isinstance(name, str):
            key = _derived_key(name)
            if not key and name.strip() and name.isprintable():
                yield problem(f'the name {found(name)} makes no key; add one, such as key: "green"', index)
        if isinstance(key, str) and key:
            if key in seen:
                yield problem(f'"{key}" is already the key of levels[{seen[key]}]; give it another', index)
            seen.setdefault(key, index)
        if index == 0:
            if threshold is not None:
                yield problem("the first level holds for all below the next; remove this key", index, "from")
            continue
        if threshold is None:
            yield problem("is missing; only the first level has none: say from which amount", index, "from")
            continue
        try:
            minor_units = _money(threshold, digits)
        except PydanticCustomError:
            continue
        if digits is None or minor_units is None:
            continue
        if below is not None and minor_units <= below:
            message = f'found {found(threshold)}; expected more than the "{format_amount(below, digits)}" before it'
            yield problem(message, index, "from")
        below = max(minor_units, below or 0)


def _in_campaigns(content: object, document: Document) -> Iterator[Problem]:
    """Ids are unique, levels exist, a coupon takes off one thing, templates can be rendered."""
    levels: dict[str, int] = {}
    for index, level in _mappings(content, "tiers", "levels"):
        key = level.get("key") or _derived_key(str(level.get("name") or ""))
        levels.setdefault(str(key), index)
    seen: dict[str, int] = {}
    for index, campaign in _mappings(content, "campaigns"):
        here: KeyPath = ("campaigns", index)
        found_here: list[tuple[KeyPath, str]] = []
        if isinstance(name := campaign.get("id"), str):
            if name in seen:
                found_here.append((("id",), f'"{name}" is already the id of campaigns[{seen[name]}]; give it another'))
            seen.setdefault(name, index)
        found_here += _in_audience(campaign.get("tiers"), levels)
        if isinstance(coupon := campaign.get("coupon"), dict):
            kinds = [kind for kind in ("discount_percent", "discount_amount") if coupon.get(kind) is not None]
            if len(kinds) != 1:
                wrong = "two discounts; keep" if kinds else "no discount; add"
                found_here.append((("coupon",), f"{wrong} discount_percent or discount_amount"))
        for steps, message in found_here:
            path = here + steps
            yield Problem(line=document.line(path), path=path, message=message)
        for part in ("subject", "text"):
            path = (*here, "message", part)
            template = _at(campaign, "message", part)
            if isinstance(template, str) and len(template) <= MAX_TEXT:
                for mistake in templates.check(template):
                    line = document.line_within(path, mistake.line)
                    yield Problem(line=line, path=path, message=mistake.message)


def _in_audience(tiers: object, levels: Mapping[str, int]) -> Iterator[tuple[KeyPath, str]]:
    reachable = [key for key, index in levels.items() if index > 0]
    # A level whose key can not be read may be the one that is meant.
    all_known = "" not in levels
    repeated = dict(_repeated(tiers))
    for position, tier in enumerate(tiers if isinstance(tiers, list) else []):
        if not isinstance(tier, str) or not re.fullmatch(_LEVEL_KEY, tier):
            continue
        here: KeyPath = ("tiers", position)
        if position in repeated:
            yield here, f'"{tier}" is here twice; remove one'
        elif levels.get(tier) == 0:
            yield here, f'"{tier}" is where members begin, never reached; remove it'
        elif tier not in reachable and all_known:
            right = _did_you_mean(tier, reachable) or f"; there are {', '.join(reachable)}"
            yield here, f'there is no level "{tier}"{right}'


def _at(content: object, *path: str) -> object:
    for step in path:
        content = content.get(step) if isinstance(content, dict) else None
    return content


def _mappings(content: object, *path: str) -> Iterator[tuple[int, dict[str, object]]]:
    """The mappings in the list at `path`, with their positions; nothing where there is no list."""
    items = _at(content, *path)
    for index, item in enumerate(items if isinstance(items, list) else []):
        if isinstance(item, dict):
            yield index, item


def _repeated(items: object) -> Iterator[tuple[int, str]]:
    """The texts of a list that stand before in it, too, with their positions; nothing where there is no list."""
    seen: set[str] = set()
    for position, item in enumerate(items if isinstance(items, list) else []):
        if isinstance(item, str):
            if item in seen:
                yield position, item
            seen.add(item)


def _derived_key(name: str) -> str:
    """The key of a level that gives none: its name in small letters. Empty where that is no key."""
    key = re.sub(r"[\s_]+", "-", name.strip().lower())
    return key if re.fullmatch(_LEVEL_KEY, key) else ""
