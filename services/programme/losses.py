"""What a new version of a programme takes away from members: it must be announced before it holds (DESIGN §12.19).

Pure. What can not be shown to give at least as much counts as taken: a change of metric or of expiry policy, say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final

from services.programme.calendar import Window
from services.programme.model import (
    AppliesTo,
    Base,
    Benefit,
    Bonus,
    Counting,
    CycleEnd,
    ExpiryPolicy,
    Level,
    LinkedReturns,
    Market,
    Metric,
    OnReturn,
    PointValue,
    Programme,
    Rejoining,
    Shortfall,
    TierPolicy,
    TierWindow,
    format_amount,
    format_factor,
    format_percent,
)
from services.programme.rewards import CouponAction

ANNOUNCEMENT_DAYS: Final = 30
"""So many days before it holds a version that takes something away is announced."""

# From the least that members have of it to the most.
_SHORTFALLS: Final = {
    Shortfall.REFUSE: "is refused",
    Shortfall.DEBT: "leaves a debt",
    Shortfall.FORGIVE: "is forgiven the rest",
}
_PERIODS: Final = {
    Counting.CALENDAR_QUARTER: Window(months=3),
    Counting.CALENDAR_HALF: Window(months=6),
    Counting.CALENDAR_YEAR: Window(months=12),
    Counting.ANNIVERSARY: Window(months=12),
}
_METRICS: Final = {
    Metric.NET_SPEND: "what was spent",
    Metric.QUALIFYING_POINTS: "qualifying points",
    Metric.VISITS: "visits",
    Metric.ACTIVITIES: "activities",
    Metric.MEMBERSHIP: "paid memberships",
}
_BASES: Final = {Base.TOTAL: "the whole receipt", Base.GOODS_PAID: "the goods paid"}


def breaks(before: Programme, after: Programme) -> tuple[str, ...]:
    """What no version may change, since what was recorded is counted in it; a sentence each, empty where nothing is."""
    found = []
    if after.currency != before.currency:
        found.append(f"currency: the programme counts in {before.currency}, and a version cannot change that")
    for key, market in before.markets.items():
        kept = after.markets.get(key)
        if kept is None:
            found.append(f"markets.{key}: members are at home there, and a version cannot take it away")
        elif kept.currency != market.currency:
            found.append(f"markets.{key}: it counts in {market.currency}, and a version cannot change that")
    return tuple(found)


def losses(before: Programme, after: Programme, from_day: date | None = None) -> tuple[str, ...]:
    """A sentence for each thing that members have by `before` and no longer, or less of, by `after`.

    `from_day` is the local day on which `after` begins to hold: a bonus that has ended by then, and a value that
    points had before, are no loss. None: as if all days were still to come.
    """
    return tuple(_all(before, after, from_day))


def _all(before: Programme, after: Programme, from_day: date | None) -> Iterator[str]:
    yield from _in_tiers(before, after)
    yield from _in_cool_off(before.tiers, after.tiers)
    yield from _in_retention(before.tiers, after.tiers)
    yield from _in_validity(before.tiers, after.tiers)
    yield from _in_markets(before, after)
    yield from _in_earning(before, after, from_day)
    yield from _in_points(before, after, from_day)
    yield from _in_rewards(before, after, from_day)


# --- tiers ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Unit:
    """What thresholds are counted in."""

    metric: Metric
    currency: str
    digits: int

    def write(self, figure: int) -> str:
        if self.metric is Metric.NET_SPEND:
            return self.money(figure)
        return f"{figure} {_METRICS[self.metric]}"

    def money(self, minor_units: int) -> str:
        return f"{format_amount(minor_units, self.digits)} {self.currency}"


def _in_tiers(before: Programme, after: Programme) -> Iterator[str]:
    old, new = before.tiers, after.tiers
    unit = _Unit(new.metric, after.currency, after.minor_unit_digits)
    same_money = before.currency == after.currency
    same_unit = old.metric is new.metric and (same_money or new.metric is not Metric.NET_SPEND)
    if not same_money:
        yield f"Amounts are in {after.currency} instead of {before.currency}."
    if old.metric is not new.metric:
        yield f"Levels go by {_METRICS[new.metric]} instead of {_METRICS[old.metric]}."
    else:
        yield from _in_counting(old, new)
    for level in old.levels:
        counterpart = new.find_level(level.key)
        if counterpart is None:
            yield f"There is no level {level.name} any more."
            continue
        if same_unit:
            yield from _in_thresholds(level, counterpart, unit, "")
        if level.plan and counterpart.plan != level.plan:
            yield f"The membership {level.plan} gives {level.name} no more."
        yield from _in_level(level, counterpart, level.name)
        yield from _in_benefits(level, counterpart, level.name, unit if same_money else None)
    for level in new.levels:
        if old.find_level(level.key) is None and same_unit and (level.number == 1 or level.threshold is not None):
            # A new level between two others takes the place of the lower.
            replaced = old.level_for(level.threshold or 0) if level.number > 1 else old.levels[0]
            where = f"The new level {level.name}, which takes the place of {replaced.name},"
            yield from _in_level(replaced, level, where)
            yield from _in_benefits(replaced, level, where, unit if same_money else None)


def _in_counting(old: TierPolicy, new: TierPolicy) -> Iterator[str]:
    if old.metric is Metric.NET_SPEND and (old.base, new.base) == (Base.TOTAL, Base.GOODS_PAID):
        yield f"Levels count {_BASES[new.base]} instead of {_BASES[old.base]}."
    if not _lasts(new.window, old.window):
        yield f"For a level counts {_counting(new.window)} instead of {_counting(old.window)}."
    for rule in sorted(old.qualifying - new.qualifying):
        yield f"The points of {rule} count for levels no more."
    if old.from_joining and not new.from_joining:
        yield "What happens at the time of joining counts for levels no more."
    if (old.rejoining, new.rejoining) == (Rejoining.FIRST, Rejoining.LATEST):
        yield "For members who come back counts what followed the latest joining instead of the first."
    if (old.linked_returns, new.linked_returns) == (LinkedReturns.PURCHASE_TIME, LinkedReturns.OWN_TIME):
        yield "Returns count at their own time instead of their purchase's."


def _in_thresholds(old: Level, new: Level, unit: _Unit, where: str) -> Iterator[str]:
    was, now = _begins(old), _begins(new)
    if was is not None and now is None:
        yield f"{old.name}{where} is reached by a paid membership alone."
    elif was is not None and now is not None and now > was:
        earlier = "with joining" if old.number == 1 else unit.write(was)
        yield f"{old.name}{where} begins at {unit.write(now)} instead of {earlier}."
    kept, keeps = old.kept_from or 0, new.kept_from
    if was is not None and keeps is not None and keeps > kept and (keeps, kept) != (now, was):
        yield f"{old.name}{where} is kept from {unit.write(keeps)} instead of {unit.write(kept)}."


def _begins(level: Level) -> int | None:
    """The balance at which a level begins; of the first below all others; None for what only a plan gives."""
    return 0 if level.number == 1 else level.threshold


def _in_level(old: Level, new: Level, name: str) -> Iterator[str]:
    if new.discount_bp < old.discount_bp:
        given, was = format_percent(new.discount_bp), format_percent(old.discount_bp)
        yield f"{name} has a discount of {given} instead of {was}."
    if new.multiplier_bp < old.multiplier_bp:
        given, was = format_factor(new.multiplier_bp), format_factor(old.multiplier_bp)
        yield f"{name} earns points at x{given} instead of x{was}."


def _in_benefits(old: Level, new: Level, name: str, unit: _Unit | None) -> Iterator[str]:
    """`unit` is None where the maxima are not in the same money."""
    by_id = {benefit.id: benefit for benefit in new.benefits}
    for benefit in old.benefits:
        if benefit.id not in by_id:
            yield f"{name} does not have the benefit {benefit.id}."
        elif unit is not None:
            yield from _in_maximum(benefit, by_id[benefit.id], name, unit)


def _in_maximum(old: Benefit, new: Benefit, name: str, unit: _Unit) -> Iterator[str]:
    now, was = new.maximum_minor_units, old.maximum_minor_units
    if now is not None and (was is None or now < was):
        limit = "without limit" if was is None else f"up to {unit.money(was)}"
        yield f"{name} has the benefit {old.id} up to {unit.money(now)} instead of {limit}."


def _in_cool_off(old: TierPolicy, new: TierPolicy) -> Iterator[str]:
    was, now = old.cool_off, new.cool_off
    if now is None:
        return
    if was is None:
        yield f"What a new level gives waits for {_span(now.period)}."
        return
    if not _as_long(was.period, now.period):
        yield f"What a new level gives waits for {_span(now.period)} instead of {_span(was.period)}."
    if (was.applies_to, now.applies_to) == (AppliesTo.BENEFITS, AppliesTo.LEVEL):
        yield "A new level itself waits, and not its benefits alone."


def _in_retention(old: TierPolicy, new: TierPolicy) -> Iterator[str]:
    was, now = old.retention, new.retention
    if was is None:
        if now is not None and not _lasts(TierWindow.rolling(now.cycle), old.window):
            yield f"A level must be earned again in {_span(now.cycle)}; it was kept by {_counting(old.window)}."
    elif now is None:
        yield f"A level that was reached is no longer held for {_span(was.cycle)}."
    else:
        if not _as_long(now.cycle, was.cycle):
            yield f"A level that was reached is held for {_span(now.cycle)} instead of {_span(was.cycle)}."
        if (was.at_end, now.at_end) == (CycleEnd.ONE_DOWN, CycleEnd.EARNED):
            yield "At the end of its cycle a member can fall by more than one level."
        if was.grace is not None and now.grace is None:
            yield f"The grace of {_span(was.grace)} after a cycle is gone."
        elif was.grace is not None and now.grace is not None and not _as_long(now.grace, was.grace):
            yield f"The grace after a cycle is {_span(now.grace)} instead of {_span(was.grace)}."
        if (was.on_return, now.on_return) == (OnReturn.KEEP, OnReturn.TAKE_BACK):
            yield "A return can take a level back that is held for its cycle."


def _in_validity(old: TierPolicy, new: TierPolicy) -> Iterator[str]:
    was, now = old.validity, new.validity
    if now is None:
        return
    if was is None:
        yield f"An account is valid for {_span(now.period)} unless it is renewed."
        return
    if not _as_long(now.period, was.period):
        yield f"An account is valid for {_span(now.period)} instead of {_span(was.period)}."
    if now.transactions > was.transactions:
        yield f"An account needs {_number(now.transactions, 'purchase')} to be renewed instead of {was.transactions}."
    if not _as_long(now.warning, was.warning):
        yield f"Members are warned {_span(now.warning)} before their account ends instead of {_span(was.warning)}."


def _in_markets(before: Programme, after: Programme) -> Iterator[str]:
    yield from _in_currencies(before.market(""), after.market(""), "")
    for key, old in before.markets.items():
        new = after.markets.get(key)
        if new is None:
            yield f"There is no market {key} any more."
            continue
        where = f" in the market {key}"
        if new.currency != old.currency:
            yield f"Amounts{where} are in {new.currency} instead of {old.currency}."
            continue
        yield from _in_currencies(old, new, where)
        unit = _Unit(new.tiers.metric, new.currency, new.minor_unit_digits)
        for level in old.tiers.levels:
            counterpart = new.tiers.find_level(level.key)
            if counterpart is None:
                # That it has gone is told once, for all markets.
                continue
            if old.tiers.metric is new.tiers.metric is Metric.NET_SPEND:
                yield from _in_thresholds(level, counterpart, unit, where)
            maximums = {benefit.id: benefit for benefit in counterpart.benefits}
            for benefit in level.benefits:
                if benefit.id in maximums:
                    yield from _in_maximum(benefit, maximums[benefit.id], f"{level.name}{where}", unit)
        if old.earning_per is not None or new.earning_per is not None:
            per_old = old.earning_per or before.earning.per_minor_units
            per_new = new.earning_per or after.earning.per_minor_units
            if after.earning.points * per_old < before.earning.points * per_new:
                was = f"{before.earning.points} for {unit.money(per_old)}"
                given = _number(after.earning.points, "point")
                yield f"Purchases{where} earn {given} for {unit.money(per_new)} instead of {was}."


def _in_currencies(old: Market, new: Market, where: str) -> Iterator[str]:
    for currency in sorted({rate.currency for rate in old.rates} - {rate.currency for rate in new.rates}):
        if currency != new.currency:
            yield f"Purchases in {currency} are taken{where} no more."


# --- points -----------------------------------------------------------------------------------------------------------


def _in_earning(before: Programme, after: Programme, from_day: date | None) -> Iterator[str]:
    old, new = before.earning, after.earning
    same_money = before.currency == after.currency
    if (old.base, new.base) == (Base.TOTAL, Base.GOODS_PAID):
        yield f"Points are earned on {_BASES[new.base]} instead of {_BASES[old.base]}."
    if same_money and new.points * old.per_minor_units < old.points * new.per_minor_units:
        given, was = _number(new.points, "point"), f"{old.points} for {before.format_money(old.per_minor_units)}"
        yield f"Purchases earn {given} for {after.format_money(new.per_minor_units)} instead of {was}."
    if new.sign_up_bonus < old.sign_up_bonus:
        yield f"Joining gives {_number(new.sign_up_bonus, 'point')} instead of {old.sign_up_bonus}."
    for activity, points in old.activities.items():
        if (fewer := new.activities.get(activity, 0)) < points:
            yield f"The activity {activity} gives {_number(fewer, 'point')} instead of {points}."
    if new.pending_days > old.pending_days:
        wait = _number(new.pending_days, "day")
        yield f"Points can be redeemed {wait} after a purchase instead of {old.pending_days}."
    bonuses = {bonus.id: bonus for bonus in new.bonuses}
    for bonus in old.bonuses:
        if bonus.until_day is not None and from_day is not None and bonus.until_day < from_day:
            continue
        counterpart = bonuses.get(bonus.id)
        if counterpart is None:
            end = "" if bonus.until_day is None else f" before its end on {bonus.until_day.isoformat()}"
            yield f"The bonus {bonus.id} is gone{end}."
        elif not _gives_as_much(counterpart, bonus, same_money=same_money):
            yield f"The bonus {bonus.id} gives less, or for fewer purchases."


def _gives_as_much(new: Bonus, old: Bonus, *, same_money: bool) -> bool:
    """Whether wherever the old one gives points, the new one gives no fewer."""
    if old.points is not None:
        enough = new.points is not None and new.points >= old.points
    else:
        enough = new.multiplier_bp is not None and new.multiplier_bp >= (old.multiplier_bp or 0)
    return (
        enough
        and (new.from_day is None or (old.from_day is not None and new.from_day <= old.from_day))
        and (new.until_day is None or (old.until_day is not None and new.until_day >= old.until_day))
        and _takes_in(new.weekdays, old.weekdays)
        and _takes_in(new.departments, old.departments)
        and (new.minimum_minor_units <= old.minimum_minor_units or not same_money)
        and (old.first_purchase or not new.first_purchase)
    )


def _takes_in(new: frozenset[int] | frozenset[str], old: frozenset[int] | frozenset[str]) -> bool:
    """An empty set is all there is."""
    return not new or (bool(old) and set(old) <= set(new))


def _in_points(before: Programme, after: Programme, from_day: date | None) -> Iterator[str]:
    if not _expires_no_sooner(after, before):
        yield f"Points expire {_expiry(after)} instead of {_expiry(before)}."
    old, new = before.redemption, after.redemption
    if new.minimum > old.minimum:
        yield f"Points are redeemed from {new.minimum} up instead of {old.minimum}."
    if old.step % new.step:
        yield f"Points are redeemed in steps of {new.step} instead of {old.step}."
    ways = list(_SHORTFALLS)
    if ways.index(after.shortfall) < ways.index(before.shortfall):
        now, was = _SHORTFALLS[after.shortfall], _SHORTFALLS[before.shortfall]
        yield f"A return that takes more points than there are {now}, where it {was} before."
    yield from _in_value(before, after, from_day)
    yield from _in_checkout(before, after)


def _in_checkout(before: Programme, after: Programme) -> Iterator[str]:
    """The first discount for enough points that is less, or asks for more points; an amount in place of a percentage,
    or the other way round, is less for some."""
    for old in before.checkout.automatic:
        new = after.checkout.automatic_for(old.points)
        same = new is not None and (new.percent_bp is None) == (old.percent_bp is None)
        if new is None or not same or (new.percent_bp or new.amount or 0) < (old.percent_bp or old.amount or 0):
            yield f"Who has {old.points} points gets another discount at a checkout, or none."
            return


def _in_value(before: Programme, after: Programme, from_day: date | None) -> Iterator[str]:
    """The first day on which a point is worth less."""
    if before.liability is None or before.currency != after.currency:
        return
    if after.liability is None:
        yield "Points have no value any more."
        return
    days = {value.from_day for value in (*before.liability.values, *after.liability.values)}
    if from_day is not None:
        days = {from_day, *(day for day in days if day > from_day)}
    for day in sorted(days):
        was, now = before.liability.value_at(day), after.liability.value_at(day)
        if was is not None and (now is None or now.minor_units * was.points < was.minor_units * now.points):
            worth = "nothing" if now is None else _worth(now, after)
            yield f"From {day.isoformat()} on points are worth {worth} instead of {_worth(was, before)}."
            return


def _in_rewards(before: Programme, after: Programme, from_day: date | None) -> Iterator[str]:
    """What is had for points: members save for it."""
    rewards = {reward.id: reward for reward in after.rewards}
    same_money = before.currency == after.currency
    for old in before.rewards:
        if old.until_day is not None and from_day is not None and old.until_day < from_day:
            continue
        new = rewards.get(old.id)
        if new is None:
            yield f"The reward {old.id} is gone."
            continue
        if new.points > old.points:
            yield f"The reward {old.id} costs {_number(new.points, 'point')} instead of {old.points}."
        if new.money_minor_units > old.money_minor_units and same_money:
            was = before.format_money(old.money_minor_units)
            yield f"The reward {old.id} costs {after.format_money(new.money_minor_units)} beside it instead of {was}."
        if new.coupon != old.coupon and not _as_good(new.coupon, old.coupon):
            yield f"The reward {old.id} gives something else."
        narrower = not (_takes_in(new.tiers, old.tiers) and _takes_in(new.segments, old.segments))
        fewer = new.per_member is not None and (old.per_member is None or new.per_member < old.per_member)
        if narrower or fewer:
            yield f"The reward {old.id} is for fewer members, or less often."
        if new.until_day is not None and (old.until_day is None or new.until_day < old.until_day):
            yield f"The reward {old.id} ends on {new.until_day.isoformat()}."


def _as_good(new: CouponAction, old: CouponAction) -> bool:
    """Whether it is the same coupon, for as long or longer and as often or more often."""
    same = (new.offer, new.terms) == (old.offer, old.terms)
    return same and _as_long(new.valid, old.valid) and new.uses >= old.uses


def _worth(value: PointValue, programme: Programme) -> str:
    return f"{programme.format_money(value.minor_units)} for {value.points}"


# --- spans ------------------------------------------------------------------------------------------------------------


def _as_long(span: Window, other: Window) -> bool:
    """Whether it ends no sooner than the other, whatever day both begin on."""
    return all(mine >= its for mine, its in zip(span.lengths(), other.lengths(), strict=True))


def _lasts(window: TierWindow, other: TierWindow) -> bool:
    """Whether what counts by the other counts by this at least as long."""
    if window.counting is Counting.LIFETIME or window == other:
        return True
    if other.counting is Counting.LIFETIME:
        return False
    longest = other.span or _PERIODS[other.counting]
    if window.span is not None:
        return _as_long(window.span, longest)
    # Calendar periods lie within each other; nothing else is sure to end before one of them does.
    calendar = Counting.ANNIVERSARY not in (window.counting, other.counting) and other.span is None
    return calendar and _as_long(_PERIODS[window.counting], longest)


def _expires_no_sooner(after: Programme, before: Programme) -> bool:
    old, new = before.expiry, after.expiry
    if new.period is None:
        return True
    if old.period is None:
        return False
    if old.policy is new.policy:
        return _as_long(new.period, old.period)
    # A span from the day itself outlasts the months after the end of its year where it has a year more.
    of_year = (old.policy, new.policy) == (ExpiryPolicy.CALENDAR_YEAR, ExpiryPolicy.AFTER)
    return of_year and _as_long(new.period, Window(months=12 + (old.period.months or 0)))


def _span(window: Window) -> str:
    spans = (("day", window.days), ("month", window.months), ("year", window.years))
    return next(_number(number, unit) for unit, number in spans if number is not None)


def _number(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


def _counting(window: TierWindow) -> str:
    match window.counting:
        case Counting.ROLLING if window.span is not None:
            return f"what happened in the last {_span(window.span)}"
        case Counting.ANNIVERSARY:
            return "what happened in a year from joining"
        case Counting.LIFETIME:
            return "all that ever happened"
        case _:
            return f"what happened in a {window.counting.replace('_', ' ')}"


def _expiry(programme: Programme) -> str:
    period = programme.expiry.period
    match programme.expiry.policy:
        case ExpiryPolicy.AFTER if period is not None:
            return f"after {_span(period)}"
        case ExpiryPolicy.INACTIVITY if period is not None:
            return f"after {_span(period)} without activity"
        case ExpiryPolicy.CALENDAR_YEAR if period is not None:
            return f"{_span(period)} after the end of the calendar year" if period.months else "with the calendar year"
        case _:
            return "never"
