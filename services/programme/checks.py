"""What holds between the values of a programme file: thresholds and days rise, a campaign's levels exist.

These read the raw document, so that one run reports all problems, and skip what its shape has wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Final

from pydantic_core import PydanticCustomError

from services.programme.calendar import Window
from services.programme.campaign_checks import key_of, problems_in_gifts
from services.programme.currencies import MINOR_UNIT_DIGITS
from services.programme.document import Document, KeyPath, Problem, found
from services.programme.message_checks import problems_in_messages
from services.programme.model import SUSPENDED, ExpiryPolicy, Metric, format_amount
from services.programme.raw import at, mappings, repeated
from services.programme.shape import (
    AMOUNT,
    BASE,
    COUNT,
    LEDGER_RULES,
    LEVEL_KEY,
    LEVEL_KEY_TEXT,
    MAX_MONTHS_AFTER_YEAR,
    TIER_WINDOW,
    WINDOW,
    Reader,
    derived_key,
    did_you_mean,
    read_day,
    read_period,
    read_window,
    unseen,
)

# What the ledger's own rules are called; its other names have an underscore, which no id has.
_RULES: Final = ("activity", "award", "base", "forgiven", "suspended")
# What has nothing to do where nothing is counted.
_COUNTED_ONLY: Final = (
    "base", "window", "counted", "rejoining", "linked_returns", "qualifying", "cool_off", "retention",
)  # fmt: skip


def problems_in(content: object, document: Document) -> Iterator[Problem]:
    """All that is wrong between the values of a document's content."""
    yield from _in_bonuses(content, document)
    yield from _in_activities(content, document)
    yield from _in_expiry(content, document)
    yield from _in_liability(content, document)
    yield from _in_checkout(content, document)
    yield from _in_tiers(content, document)
    yield from _in_levels(content, _digits(at(content, "currency")), document)
    yield from _in_markets(content, document)
    yield from problems_in_gifts(content, document)
    yield from problems_in_messages(content, document)


def _in_bonuses(content: object, document: Document) -> Iterator[Problem]:
    """Ids are unique and not the ledger's own, a bonus is one of two kinds, its days are in order, no list repeats."""
    seen: dict[str, int] = {}
    for index, bonus in mappings(content, "earning", "bonuses"):
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
        first, last = read_day(bonus.get("from")), read_day(bonus.get("until"))
        if first is not None and last is not None and last < first:
            found_here.append((("until",), f'found "{last}"; expected the day of from, "{first}", or a later one'))
        for key in ("weekdays", "departments"):
            for position, text in repeated(bonus.get(key)):
                found_here.append(((key, position), f"{found(text)} is here twice; remove one"))
        for steps, message in found_here:
            path: KeyPath = ("earning", "bonuses", index, *steps)
            yield Problem(line=document.line(path), path=path, message=message)


def _in_expiry(content: object, document: Document) -> Iterator[Problem]:
    """The period fits the policy."""
    path = ("expiry", "period")
    policy, period = at(content, "expiry", "policy"), at(content, *path)
    window = read_period(period, None)
    if policy == ExpiryPolicy.CALENDAR_YEAR:
        expected = f'months after 31 December, "P0M" to "P{MAX_MONTHS_AFTER_YEAR}M"'
        fits = window is None or (window.months is not None and window.months <= MAX_MONTHS_AFTER_YEAR)
    else:
        expected, fits = WINDOW, window != Window(months=0)
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
    for index, value in mappings(content, "liability", "values"):
        day = read_day(value.get("from"))
        if day is None:
            continue
        if before is not None and day <= before:
            path = ("liability", "values", index, "from")
            message = f'found "{day}"; expected a day after the "{before}" before it'
            yield Problem(line=document.line(path), path=path, message=message)
        before = max(day, before or day)


def _in_checkout(content: object, document: Document) -> Iterator[Problem]:
    """The points that automatic discounts are there for rise, and each takes off one of the two."""
    most = 0
    for index, given in mappings(content, "checkout", "automatic"):
        path: KeyPath = ("checkout", "automatic", index)
        kinds = [kind for kind in ("discount_percent", "discount_amount") if given.get(kind) is not None]
        if len(kinds) != 1:
            wrong = "two kinds of discount; keep" if kinds else "no discount; add"
            message = f"{wrong} discount_percent or discount_amount"
            yield Problem(line=document.line(path), path=path, message=message)
        points = given.get("points")
        if not isinstance(points, int):
            continue
        if points <= most:
            path = (*path, "points")
            message = f"found {points}; expected more than the {most} before it"
            yield Problem(line=document.line(path), path=path, message=message)
        most = max(most, points)


def _in_activities(content: object, document: Document) -> Iterator[Problem]:
    """Ids are unique."""
    seen: dict[str, int] = {}
    for index, activity in mappings(content, "earning", "activities"):
        if isinstance(name := activity.get("id"), str):
            if name in seen:
                path = ("earning", "activities", index, "id")
                message = f"{found(name)} is already the id of activities[{seen[name]}]; give it another"
                yield Problem(line=document.line(path), path=path, message=message)
            seen.setdefault(name, index)


def _in_tiers(content: object, document: Document) -> Iterator[Problem]:
    """Each key has something to do under the metric, qualifying rules exist, and a warning comes before the end."""
    tiers, metric = at(content, "tiers"), _metric(content)
    if not isinstance(tiers, dict):
        return
    found_here: list[tuple[KeyPath, str]] = []
    if metric is Metric.MEMBERSHIP:
        idle = [key for key in _COUNTED_ONLY if tiers.get(key) is not None]
        found_here += [((key,), "the metric is membership, where nothing is counted; remove this key") for key in idle]
    elif metric is not None:
        if tiers.get("window") is None:
            found_here.append((("window",), f"is missing; expected {TIER_WINDOW}"))
        if metric is Metric.NET_SPEND and tiers.get("base") is None:
            found_here.append((("base",), f"is missing; expected {BASE}"))
        if metric is not Metric.NET_SPEND and tiers.get("base") is not None:
            found_here.append((("base",), f"the metric is {metric}, which counts no amount; remove this key"))
        if metric is not Metric.QUALIFYING_POINTS and tiers.get("qualifying") is not None:
            message = f"the metric is {metric}, which counts no points; remove this key"
            found_here.append((("qualifying",), message))
    bonuses = [bonus.get("id") for _, bonus in mappings(content, "earning", "bonuses")]
    rules = [*(name for name in bonuses if isinstance(name, str)), *LEDGER_RULES]
    for position, rule in enumerate(listed if isinstance(listed := tiers.get("qualifying"), list) else []):
        if isinstance(rule, str) and rule not in rules and len(rules) == len(bonuses) + len(LEDGER_RULES):
            right = did_you_mean(rule, rules) or f"; there are {', '.join(rules)}"
            found_here.append((("qualifying", position), f"there is no rule {found(rule)}{right}"))
    for position, rule in repeated(tiers.get("qualifying")):
        found_here.append((("qualifying", position), f"{found(rule)} is here twice; remove one"))
    period, warning = (read_window(at(tiers, "validity", key)) for key in ("period", "warning"))
    if period is not None and warning is not None and max(warning.lengths()) >= min(period.lengths()):
        message = f"found {found(at(tiers, 'validity', 'warning'))}; expected a shorter time than the period"
        found_here.append((("validity", "warning"), message))
    for steps, message in found_here:
        path: KeyPath = ("tiers", *steps)
        yield Problem(line=document.line(path), path=path, message=message)


def _in_levels(content: object, digits: int | None, document: Document) -> Iterator[Problem]:
    """Levels are reached by what the metric says, thresholds rise, and no two share a key, a plan or a benefit's id."""
    metric = _metric(content)
    counted = metric in (Metric.QUALIFYING_POINTS, Metric.VISITS, Metric.ACTIVITIES)
    keys: dict[str, int] = {}
    plans: dict[str, int] = {}
    found_here: list[tuple[KeyPath, str]] = []
    thresholds: list[tuple[KeyPath, dict[str, object]]] = []
    for index, level in mappings(content, "tiers", "levels"):
        key, name = level.get("key"), level.get("name")
        if key is None and isinstance(name, str):
            key = derived_key(name)
            if not key and name.strip() and not any(map(unseen, name)):
                found_here.append(((index,), f'the name {found(name)} makes no key; add one, such as key: "green"'))
        if isinstance(key, str) and key:
            if key in keys:
                message = f'"{key}" is already the key of levels[{keys[key]}]; give it another'
                found_here.append(((index,), message))
            if key == SUSPENDED:
                message = f'"{key}" is what suspended accounts are called; give the level another key'
                found_here.append(((index,), message))
            keys.setdefault(key, index)
        if isinstance(plan := level.get("plan"), str):
            if plan in plans:
                message = f"{found(plan)} is already the plan of levels[{plans[plan]}]; give it another"
                found_here.append(((index, "plan"), message))
            plans.setdefault(plan, index)
        found_here += (((index, *steps), message) for steps, message in _in_benefits(level))
        found_here += (((index, *steps), message) for steps, message in _in_reaching(level, index, metric))
        if index > 0:
            thresholds.append(((index,), level))
    if metric is not None and metric is not Metric.MEMBERSHIP:
        found_here += _in_thresholds(thresholds, COUNT if counted else AMOUNT, None if counted else digits, counted)
    for steps, message in found_here:
        path: KeyPath = ("tiers", "levels", *steps)
        yield Problem(line=document.line(path), path=path, message=message)


def _in_reaching(level: Mapping[str, object], index: int, metric: Metric | None) -> Iterator[tuple[KeyPath, str]]:
    """The first level needs nothing, any other a threshold or a plan, and with memberships a plan alone."""
    given = {key for key in ("from", "keep", "plan") if level.get(key) is not None}
    if index == 0:
        for key in sorted(given):
            yield (key,), "the first level holds for all below the next; remove this key"
    elif metric is Metric.MEMBERSHIP:
        for key in sorted(given - {"plan"}):
            yield (key,), "the metric is membership, where a plan alone gives a level; remove this key"
        if "plan" not in given:
            yield ("plan",), "is missing; only the first level has none: name the membership that gives this one"
    elif not given & {"from", "plan"}:
        what = "amount" if metric is Metric.NET_SPEND else "number"
        yield ("from",), f"is missing; only the first level has none: say from which {what}"
    elif given == {"keep", "plan"}:
        yield ("keep",), "there is no from beside it, and the plan alone gives this level; remove this key"


def _in_benefits(level: Mapping[str, object]) -> Iterator[tuple[KeyPath, str]]:
    """Ids are unique within their level."""
    seen: dict[str, int] = {}
    for index, benefit in mappings(level, "benefits"):
        if isinstance(name := benefit.get("id"), str):
            if name in seen:
                message = f"{found(name)} is already the id of benefits[{seen[name]}]; give it another"
                yield ("benefits", index, "id"), message
            seen.setdefault(name, index)


def _in_thresholds(
    levels: Iterable[tuple[KeyPath, Mapping[str, object]]], reader: Reader[int], digits: int | None, counted: bool
) -> Iterator[tuple[KeyPath, str]]:
    """Thresholds rise, and what keeps a level, too, which is at most what reaches it."""

    def written(figure: int) -> str:
        return str(figure) if counted else f'"{format_amount(figure, digits or 0)}"'

    below: int | None = None
    kept_below: int | None = None
    for path, level in levels:
        figures: dict[str, int] = {}
        for key in ("from", "keep"):
            if level.get(key) is not None:
                try:
                    figures[key] = reader.take(level[key], digits)
                except PydanticCustomError as wrong:
                    yield (*path, key), wrong.message()
        threshold, keep = figures.get("from"), figures.get("keep")
        if threshold is None or (digits is None and not counted):
            # Without the digits of a currency amounts can not be compared; that they are missing is told elsewhere.
            continue
        if below is not None and threshold <= below:
            message = f"found {found(level['from'])}; expected more than the {written(below)} before it"
            yield (*path, "from"), message
        elif keep is not None and keep > threshold:
            yield (*path, "keep"), f"found {found(level['keep'])}; expected at most the {written(threshold)} of from"
        elif keep is not None and kept_below is not None and keep <= kept_below:
            message = f"found {found(level['keep'])}; expected more than the {written(kept_below)} of the level below"
            yield (*path, "keep"), message
        below = max(threshold, below or 0)
        kept_below = max(keep if keep is not None else threshold, kept_below or 0)


def _in_rates(owner: object, currency: object, around: KeyPath, document: Document) -> Iterator[Problem]:
    """A rate is of another currency, its amounts are in theirs, and of one currency the days rise."""
    latest: dict[str, date] = {}
    for index, rate in mappings(owner, "rates"):
        found_here: list[tuple[KeyPath, str]] = []
        other, day = rate.get("currency"), read_day(rate.get("from"))
        if isinstance(other, str) and other in MINOR_UNIT_DIGITS:
            if other == currency:
                found_here.append((("currency",), f'"{other}" is the currency of the market itself; name another'))
            if day is not None:
                if other in latest and day <= latest[other]:
                    message = f'found "{day}"; expected a day after the "{latest[other]}" of {other} before it'
                    found_here.append((("from",), message))
                latest[other] = max(day, latest.get(other, day))
        found_here += _in_amounts(rate, (("amount", other), ("worth", currency)))
        for steps, message in found_here:
            path: KeyPath = (*around, "rates", index, *steps)
            yield Problem(line=document.line(path), path=path, message=message)


def _in_amounts(owner: Mapping[str, object], keys: Iterable[tuple[str, object]]) -> Iterator[tuple[KeyPath, str]]:
    """Each of these keys, where it is there, holds an amount of its currency."""
    for key, currency in keys:
        if owner.get(key) is not None:
            try:
                AMOUNT.take(owner[key], _digits(currency))
            except PydanticCustomError as wrong:
                yield (key,), wrong.message()


def _in_markets(content: object, document: Document) -> Iterator[Problem]:
    """A market has a key of its own, and says in its money all that the programme says in its own."""
    yield from _in_rates(content, at(content, "currency"), (), document)
    markets = at(content, "markets")
    for key, market in markets.items() if isinstance(markets, dict) else ():
        here: KeyPath = ("markets", key)
        if not re.fullmatch(LEVEL_KEY, key):
            message = f"found {found(key)}; expected {LEVEL_KEY_TEXT}"
            yield Problem(line=document.line(here), path=here, message=message)
        if isinstance(market, dict):
            for steps, message in _in_market(market, content):
                path = here + steps
                yield Problem(line=document.line(path), path=path, message=message)
            yield from _in_rates(market, market.get("currency"), here, document)


def _in_market(market: Mapping[str, object], content: object) -> Iterator[tuple[KeyPath, str]]:
    currency = market.get("currency")
    other_money = currency != at(content, "currency")
    yield from _in_amounts(market, [("per", currency)])
    if other_money and market.get("per") is None:
        yield ("per",), "is missing; the programme's is in another currency: say which amount earns its points here"
    levels: dict[str, Mapping[str, object]] = {}
    for _, level in mappings(content, "tiers", "levels"):
        levels[key_of(level)] = level
    if "" in levels:
        # A level whose key can not be read may be the one that is meant.
        return
    if (metric := _metric(content)) is not None:
        yield from _in_thresholds_of(market, levels, metric)
    dear = {
        key: ids
        for key, level in levels.items()
        if (ids := [str(each.get("id")) for _, each in mappings(level, "benefits") if each.get("maximum") is not None])
    }
    nothing = "no benefit has a maximum; remove this key"
    yield from _exactly(market, ("maximums",), list(dear), "level with a benefit that has a maximum", nothing)
    for key, ids in dear.items():
        maximums = at(market, "maximums", key)
        if isinstance(maximums, dict):
            yield from _exactly(market, ("maximums", key), ids, "benefit with a maximum", nothing)
            for steps, message in _in_amounts(maximums, [(name, currency) for name in ids]):
                yield ("maximums", key, *steps), message


def _in_thresholds_of(
    market: Mapping[str, object], levels: Mapping[str, Mapping[str, object]], metric: Metric
) -> Iterator[tuple[KeyPath, str]]:
    """Where thresholds are amounts, a market has its own for just those levels that have one."""
    keys = [key for key, level in levels.items() if level.get("from") is not None]
    nothing = "no level has a threshold; remove this key"
    if metric is not Metric.NET_SPEND:
        keys, nothing = [], "thresholds are no amounts, and the same in all markets; remove this key"
    yield from _exactly(market, ("thresholds",), keys, "level with a threshold", nothing)
    rows = [(key, at(market, "thresholds", key)) for key in keys]
    read = [(("thresholds", key), row) for key, row in rows if isinstance(row, dict)]
    yield from _in_thresholds(read, AMOUNT, _digits(market.get("currency")), counted=False)


def _exactly(
    market: object, path: tuple[str, ...], keys: list[str], what: str, nothing: str
) -> Iterator[tuple[KeyPath, str]]:
    """The mapping at `path` has these keys and no others; where there are none, it is not there itself."""
    given = at(market, *path)
    if not keys:
        if given is not None:
            yield path, nothing
    elif given is None:
        yield path, f"is missing; a market has its own for each {what}: {', '.join(keys)}"
    elif isinstance(given, dict):
        for key in given:
            if key not in keys:
                right = did_you_mean(key, keys) or f"; there are {', '.join(keys)}"
                yield (*path, key), f"there is no {what} called {found(key)}{right}"
        for key in keys:
            if key not in given:
                yield (*path, key), f"is missing; a market has its own for each {what}"


def _metric(content: object) -> Metric | None:
    """What the levels go by; None where that can not be read."""
    name = at(content, "tiers", "metric")
    return Metric.NET_SPEND if name is None else next((metric for metric in Metric if metric == name), None)


def _digits(currency: object) -> int | None:
    return MINOR_UNIT_DIGITS.get(currency) if isinstance(currency, str) else None
