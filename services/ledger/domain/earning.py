"""What a purchase earns, rule by rule (DESIGN §12.1-2)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from services.ledger.domain.commands import LineKind, Movement
from services.ledger.domain.events import RulePoints
from services.ledger.domain.state import Member
from services.ledger.errors import AmountNotPositiveError, CurrencyMismatchError, LinesDoNotAddUpError
from services.programme.model import BASIS_POINTS, Base, Bonus, Programme, format_factor, points_for


def rules_of(
    programme: Programme, member: Member, command: Movement, goods: int, occurred: datetime, earning_class: str
) -> tuple[RulePoints, ...]:
    """Points for a purchase, floored once per rule; what happened up to the joining time earns nothing (R19)."""
    if occurred <= member.joined_time:
        return (RulePoints(rule="before_joining", points=0),)
    earning = programme.earning
    base = command.amount if earning.base is Base.TOTAL else goods
    first = _rate(programme, "base", base, earning.class_multipliers_bp[earning_class])
    if not earning.bonuses:
        return (first,)
    return (first, *_bonuses(programme, member, command, base, occurred))


def base_rule(programme: Programme, base: int) -> RulePoints:
    """The points of an amount at the base rate of today, whatever the class."""
    return _rate(programme, "base", base, BASIS_POINTS)


def class_at(programme: Programme, member: Member, at: datetime) -> str:
    """The class a member earns in: the one set for it, else that of the lowest level."""
    name = member.earning_class(at)
    return name if name in programme.earning.class_multipliers_bp else programme.tiers.levels[0].key


def checked_goods(programme: Programme, command: Movement) -> int | None:
    """The goods among the amount, or None where there are no lines; raises where the request does not add up."""
    if command.currency != programme.currency:
        raise CurrencyMismatchError(
            f"amount.currency_code is {command.currency}, but the programme is in {programme.currency}"
        )
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
            f"the lines add up to {programme.format_money(total)}, "
            f"but the amount is {programme.format_money(command.amount)}"
        )
    return goods


_WORDS = {
    "sign_up_bonus": "for joining",
    "award": "awarded",
    "before_joining": "nothing: what happened up to the joining time does not count",
    "forgiven": "not taken back: the points were spent, and the programme forgives that",
}


def explain(rule: RulePoints, programme: Programme) -> str:
    """A rule's points in words, with the figures that made them."""
    if not rule.rate_per:
        return _WORDS.get(rule.rule, f"bonus {rule.rule}")
    unit = "point" if rule.rate_points == 1 else "points"
    text = (
        f"{rule.rate_points} {unit} per {programme.format_money(rule.rate_per)} of {programme.format_money(rule.base)}"
    )
    if rule.multiplier_bp != BASIS_POINTS:
        text += f", times {format_factor(rule.multiplier_bp)}"
    return text if rule.rule == "base" else f"bonus {rule.rule}, on top: {text}"


def _rate(programme: Programme, name: str, base: int, multiplier: int, lines: tuple[int, ...] = ()) -> RulePoints:
    earning = programme.earning
    return RulePoints(
        rule=name,
        points=points_for(base, earning.points, earning.per_minor_units, multiplier),
        base=base,
        rate_points=earning.points,
        rate_per=earning.per_minor_units,
        multiplier_bp=multiplier,
        lines=lines,
    )


def _bonuses(
    programme: Programme, member: Member, command: Movement, base: int, occurred: datetime
) -> Iterator[RulePoints]:
    day = programme.local_day(occurred)
    for bonus in programme.earning.bonuses:
        if (
            (bonus.first_purchase and member.purchases)
            or (bonus.from_day is not None and day < bonus.from_day)
            or (bonus.until_day is not None and day > bonus.until_day)
            or (bonus.weekdays and day.weekday() not in bonus.weekdays)
            or base < max(bonus.minimum_minor_units, 1)
        ):
            continue
        if bonus.multiplier_bp is None:
            yield RulePoints(rule=bonus.id, points=bonus.points or 0)
            continue
        # The base rule gave x1 of it already.
        extra = bonus.multiplier_bp - BASIS_POINTS
        if not bonus.departments:
            yield _rate(programme, bonus.id, base, extra)
        elif lines := _lines_of(bonus, command):
            counted = sum(command.lines[number - 1].amount for number in lines)
            yield _rate(programme, bonus.id, counted, extra, lines)


def _lines_of(bonus: Bonus, command: Movement) -> tuple[int, ...]:
    """The numbers, from 1, of the goods that a bonus counts."""
    return tuple(
        [
            number
            for number, line in enumerate(command.lines, start=1)
            if line.kind is LineKind.GOODS and line.department in bonus.departments
        ]
    )
