"""What a purchase earns, rule by rule (DESIGN §12.1-2, §12.16-17)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from services.ledger.domain.commands import LineKind, Movement, RecordPurchase
from services.ledger.domain.events import Exchange, RulePoints
from services.ledger.domain.paying import by_line
from services.ledger.domain.state import Member
from services.ledger.errors import AmountNotPositiveError, CurrencyMismatchError, LinesDoNotAddUpError
from services.programme.currencies import MINOR_UNIT_DIGITS
from services.programme.model import (
    BASIS_POINTS,
    SUSPENDED,
    Base,
    Bonus,
    Programme,
    format_amount,
    format_factor,
    points_for,
)


class _Rate(NamedTuple):
    """`points` for each `per` minor units of the market's currency, in which `exchange` gives an amount of another."""

    points: int
    per: int
    exchange: Exchange | None

    def rule(self, name: str, base: int, multiplier: int, lines: tuple[int, ...] = ()) -> RulePoints:
        """What it gives for a base."""
        return RulePoints(
            rule=name,
            points=_points(self.exchange, base, self.points, self.per, multiplier),
            base=base,
            rate_points=self.points,
            rate_per=self.per,
            multiplier_bp=multiplier,
            lines=lines,
            exchange=self.exchange,
        )


def points_at(rule: RulePoints, base: int) -> int:
    """The points that a rate rule gives for another base than its own."""
    return _points(rule.exchange, base, rule.rate_points, rule.rate_per, rule.multiplier_bp)


def rules_of(
    programme: Programme, member: Member, command: RecordPurchase, goods: int, occurred: datetime, earning_class: str
) -> tuple[RulePoints, ...]:
    """Points for a purchase, floored once per rule; what happened up to the joining time earns nothing (R19).

    `goods` is without what points paid.
    """
    if (nothing := earns_nothing(member, occurred)) is not None:
        return (nothing,)
    earning = programme.earning
    rate = _rate(programme, member, command.currency, occurred)
    base = command.amount if earning.base is Base.TOTAL else goods
    first = rate.rule("base", base, earning.class_multipliers_bp[earning_class])
    if not earning.bonuses:
        return (first,)
    return (first, *_bonuses(programme, member, command, base, occurred, rate))


def earns_nothing(member: Member, occurred: datetime) -> RulePoints | None:
    """Why nothing is earned at an instant, whatever the programme gives; None where something may be."""
    if occurred <= member.joined_time:
        return RulePoints(rule="before_joining", points=0)
    return RulePoints(rule="suspended", points=0) if member.suspended(occurred) else None


def base_rule(programme: Programme, member: Member, base: int, currency: str, occurred: datetime) -> RulePoints:
    """The points of an amount at the base rate of its day, whatever the class."""
    return _rate(programme, member, currency, occurred).rule("base", base, BASIS_POINTS)


def class_at(programme: Programme, member: Member, at: datetime) -> str:
    """The class a member earns in: the one set for it, else that of the lowest level."""
    name = member.earning_class(at)
    known = name == SUSPENDED or name in programme.earning.class_multipliers_bp
    return name if known else programme.tiers.levels[0].key


def exchange_at(programme: Programme, member: Member, currency: str, at: datetime) -> Exchange | None:
    """How an amount is counted in the currency of the member's market; None where it is in that already.

    Raises CurrencyMismatchError where the market has no rate of its local day (§12.17).
    """
    market = programme.market(member.market)
    if currency == market.currency:
        return None
    rate = market.rate(currency, market.local_day(at))
    if rate is None:
        raise CurrencyMismatchError(
            f"amount.currency_code is {currency}, but the member's market is in {market.currency}, "
            f"and has no rate for {currency} on {market.local_day(at).isoformat()}"
        )
    return Exchange(market.currency, rate.minor_units, rate.home_minor_units)


def checked_goods(command: Movement) -> int | None:
    """The goods among the amount, or None where there are no lines; raises where the request does not add up."""
    if command.amount <= 0:
        raise AmountNotPositiveError
    if not command.lines:
        return None
    total = goods = 0
    for line in command.lines:
        total += line.amount
        if line.kind is LineKind.GOODS:
            goods += line.amount
    if total != command.amount:
        raise LinesDoNotAddUpError(
            f"the lines add up to {_money(total, command.currency)}, "
            f"but the amount is {_money(command.amount, command.currency)}"
        )
    return goods


_WORDS = {
    "sign_up_bonus": "for joining",
    "award": "awarded",
    "activity": "for an activity",
    "before_joining": "nothing: what happened up to the joining time does not count",
    "suspended": "nothing: the account was suspended",
    "forgiven": "not taken back: the points were spent, and the programme forgives that",
}


def explain(rule: RulePoints, currency: str) -> str:
    """A rule's points in words, with the figures that made them; `currency` is that of its entry."""
    if not rule.rate_per:
        return _WORDS.get(rule.rule, f"bonus {rule.rule}")
    unit = "point" if rule.rate_points == 1 else "points"
    home = currency if rule.exchange is None else rule.exchange.currency
    text = f"{rule.rate_points} {unit} per {_money(rule.rate_per, home)} of {_money(rule.base, currency)}"
    if rule.exchange is not None:
        text += f" ({_money(rule.exchange.at_home(rule.base), home)})"
    if rule.multiplier_bp != BASIS_POINTS:
        text += f", times {format_factor(rule.multiplier_bp)}"
    return text if rule.rule == "base" else f"bonus {rule.rule}, on top: {text}"


def _rate(programme: Programme, member: Member, currency: str, at: datetime) -> _Rate:
    per = programme.market(member.market).earning_per or programme.earning.per_minor_units
    return _Rate(programme.earning.points, per, exchange_at(programme, member, currency, at))


def _points(exchange: Exchange | None, base: int, points: int, per: int, multiplier: int) -> int:
    """Converted once, floored once."""
    return points_for(_at_home(exchange, base), points, per, multiplier)


def _at_home(exchange: Exchange | None, minor_units: int) -> int:
    return minor_units if exchange is None else exchange.at_home(minor_units)


def _money(minor_units: int, currency: str) -> str:
    return f"{format_amount(minor_units, MINOR_UNIT_DIGITS[currency])} {currency}"


def _bonuses(
    programme: Programme, member: Member, command: RecordPurchase, base: int, occurred: datetime, rate: _Rate
) -> Iterator[RulePoints]:
    day, worth = programme.local_day(occurred), _at_home(rate.exchange, base)
    for bonus in programme.earning.bonuses:
        if (
            (bonus.first_purchase and member.purchases)
            or (bonus.from_day is not None and day < bonus.from_day)
            or (bonus.until_day is not None and day > bonus.until_day)
            or (bonus.weekdays and day.weekday() not in bonus.weekdays)
            or worth < max(bonus.minimum_minor_units, 1)
        ):
            continue
        if bonus.multiplier_bp is None:
            yield RulePoints(rule=bonus.id, points=bonus.points or 0)
            continue
        # The base rule gave x1 of it already.
        extra = bonus.multiplier_bp - BASIS_POINTS
        if not bonus.departments:
            yield rate.rule(bonus.id, base, extra)
        elif lines := _lines_of(bonus, command):
            counted = sum(command.lines[number - 1].amount for number in lines)
            if programme.earning.base is Base.GOODS_PAID and command.points_payment is not None:
                paid = by_line(command.points_payment.amount, command.lines)
                counted -= sum(paid[number - 1] for number in lines)
            yield rate.rule(bonus.id, counted, extra, lines)


def _lines_of(bonus: Bonus, command: RecordPurchase) -> tuple[int, ...]:
    """The numbers, from 1, of the goods that a bonus counts."""
    return tuple(
        [
            number
            for number, line in enumerate(command.lines, start=1)
            if line.kind is LineKind.GOODS and line.department in bonus.departments
        ]
    )
