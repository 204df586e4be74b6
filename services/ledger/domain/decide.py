"""All rules of the ledger: from state and command to events. Pure; no I/O, no clock of its own.

`decide` answers with events (a refusal is one, too: it is kept as the answer for ever) or raises a RejectedError,
which leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from services.ledger.domain.commands import (
    AwardPoints,
    Command,
    EnrollMember,
    LineKind,
    MemberCommand,
    Movement,
    RecordPurchase,
    RecordReturn,
    SetEarningClass,
)
from services.ledger.domain.events import Account, EntryKind, Event, Posting, RulePoints
from services.ledger.domain.state import Member, Purchase, WaitingReturn, evolve_member, evolve_purchase
from services.ledger.errors import (
    AmountNotPositiveError,
    CurrencyMismatchError,
    LinesDoNotAddUpError,
    MemberUnknownError,
    OccurredInFutureError,
    Refusal,
)
from services.programme.model import BASIS_POINTS, Base, Programme, points_for

# No balance leaves +-10^15 points, so that no sum leaves 64 bits.
MAX_POINTS = 10**15
MAX_WAITING_RETURNS = 100
# How far a caller's clock may run ahead of the ledger's.
FUTURE_TOLERANCE = timedelta(minutes=5)
# A history lived through again is sent day by day, ahead of the clock that closes each day.
SIMULATED_AHEAD = timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Events in order, and the states after them. No events: nothing changes."""

    events: tuple[Event, ...]
    member: Member | None
    purchase: Purchase | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """Business time of the partition, and the latest time an event may claim."""

    time: datetime
    latest: datetime


def decide(
    programme: Programme, now: Now, member: Member | None, purchase: Purchase | None, command: MemberCommand
) -> Decision:
    """What a command does to a member and to the purchase it names (DESIGN §4, §12.1-5)."""
    occurred = command.occurred_time or now.time
    if occurred > now.latest:
        raise OccurredInFutureError(
            f"occurred_time {occurred.isoformat()} lies in the future: the clock stands at {now.time.isoformat()}"
        )
    if member is None and not isinstance(command, EnrollMember):
        raise MemberUnknownError
    match command:
        case EnrollMember():
            events = _enroll(programme, member, command, occurred)
        case RecordPurchase():
            assert member is not None
            events = _purchase(programme, member, purchase, command, occurred)
        case RecordReturn():
            assert member is not None
            events = _return(programme, member, purchase, command, occurred)
        case AwardPoints():
            assert member is not None
            events = (_award(member, command, occurred),)
        case SetEarningClass():
            assert member is not None
            events = _set_class(programme, member, command, occurred)
    after, bought = member, purchase
    for event in events:
        bought = evolve_purchase(bought, event)
        if event.kind is not EntryKind.REQUEST_REFUSED:
            after = evolve_member(after, event)
    return Decision(events=events, member=after, purchase=bought)


def decide_clock(time: datetime, to_time: datetime, request_id: str) -> Event | None:
    """The event that moves a partition's business time on; None where it is there already."""
    if to_time <= time:
        return None
    return Event(kind=EntryKind.CLOCK_ADVANCED, member_id="", request_id=request_id, occurred_time=to_time)


_WORDS = {
    "sign_up_bonus": "for joining",
    "award": "awarded",
    "before_joining": "nothing: what happened up to the joining time does not count",
}


def explain(rule: RulePoints, programme: Programme) -> str:
    """A rule's points in words, with the figures that made them."""
    if not rule.rate_per:
        return _WORDS.get(rule.rule, rule.rule)
    unit = "point" if rule.rate_points == 1 else "points"
    text = (
        f"{rule.rate_points} {unit} per {programme.format_money(rule.rate_per)} of {programme.format_money(rule.base)}"
    )
    if rule.multiplier_bp != 10_000:
        whole, part = divmod(rule.multiplier_bp, 10_000)
        factor = f"{whole}.{part:04}".rstrip("0").rstrip(".")
        text += f", times {factor}"
    return text


def _event(
    command: Command,
    kind: EntryKind,
    occurred: datetime,
    member: Member | None,
    postings: tuple[Posting, ...] = (),
    **more: Any,
) -> Event:
    """The event, with the member's points after it."""
    available, debt = (member.available, member.debt) if member is not None else (0, 0)
    for posting in postings:
        if posting.account is Account.AVAILABLE:
            available += posting.points
        elif posting.account is Account.DEBT:
            debt += posting.points
    return Event(
        kind=kind,
        member_id=command.member_id,
        request_id=command.request_id,
        occurred_time=occurred,
        postings=postings,
        available_after=available,
        debt_after=debt,
        **more,
    )


def _bounded(member: Member, event: Event) -> Event:
    """The event, or its refusal where a balance would leave its range."""
    if event.available_after <= MAX_POINTS and event.debt_after <= MAX_POINTS:
        return event
    return _refusal(event, member, Refusal.BALANCE_OUT_OF_RANGE)


def _refusal(asked: Event | Command, member: Member, refusal: Refusal, *, at: datetime | None = None) -> Event:
    """The entry that keeps a refusal as the answer to what was asked."""
    occurred = at or asked.occurred_time
    assert occurred is not None
    return Event(
        kind=EntryKind.REQUEST_REFUSED,
        member_id=asked.member_id,
        request_id=asked.request_id,
        occurred_time=occurred,
        purchase_id=getattr(asked, "purchase_id", ""),
        available_after=member.available,
        debt_after=member.debt,
        reason=refusal.value,
    )


def _enroll(
    programme: Programme, member: Member | None, command: EnrollMember, occurred: datetime
) -> tuple[Event, ...]:
    if member is not None:
        return (_refusal(command, member, Refusal.MEMBER_EXISTS, at=occurred),)
    bonus = programme.earning.sign_up_bonus
    return (
        _event(
            command,
            EntryKind.MEMBER_JOINED,
            occurred,
            None,
            postings=_postings(available=bonus, debt=0, issued=bonus),
            rules=(RulePoints(rule="sign_up_bonus", points=bonus),) if bonus else (),
            channel=command.channel,
        ),
    )


def _award(member: Member, command: AwardPoints, occurred: datetime) -> Event:
    return _bounded(
        member,
        _event(
            command,
            EntryKind.POINTS_AWARDED,
            occurred,
            member,
            postings=_give(member, command.points),
            rules=(RulePoints(rule="award", points=command.points),),
            reason=command.reason,
            detail={"note": command.note} if command.note else None,
        ),
    )


def _purchase(
    programme: Programme, member: Member, purchase: Purchase | None, command: RecordPurchase, occurred: datetime
) -> tuple[Event, ...]:
    goods = _checked_goods(programme, command)
    if purchase is not None and purchase.arrived:
        return (_refusal(command, member, Refusal.PURCHASE_EXISTS, at=occurred),)
    paid = command.amount if goods is None else goods
    earning_class = _class_at(programme, member, occurred)
    rule = _base_rule(programme, member, command.amount, paid, occurred, earning_class)
    bought = _bounded(
        member,
        _event(
            command,
            EntryKind.PURCHASE_RECORDED,
            occurred,
            member,
            postings=_give(member, rule.points),
            purchase_id=command.purchase_id,
            currency=command.currency,
            amount=command.amount,
            goods_paid=paid,
            rules=(rule,),
            earning_class=earning_class,
            channel=command.channel,
            detail=_detail(command),
        ),
    )
    if bought.kind is EntryKind.REQUEST_REFUSED or purchase is None or not purchase.waiting:
        return (bought,)
    return (bought, *_settle_waiting(programme, member, purchase, command, bought))


def _base_rule(
    programme: Programme, member: Member, amount: int, goods: int, occurred: datetime, earning_class: str
) -> RulePoints:
    """Points for a purchase, floored once (§12.2); what happened up to the joining time earns nothing (R19)."""
    earning = programme.earning
    base = amount if earning.base is Base.TOTAL else goods
    if occurred <= member.joined_time:
        return RulePoints(rule="before_joining", points=0)
    multiplier = earning.class_multipliers_bp[earning_class]
    return RulePoints(
        rule="base",
        points=points_for(base, earning.points, earning.per_minor_units, multiplier),
        base=base,
        rate_points=earning.points,
        rate_per=earning.per_minor_units,
        multiplier_bp=multiplier,
    )


def _class_at(programme: Programme, member: Member, at: datetime) -> str:
    """The class a member earns in: the one set for it, else that of the lowest level."""
    name = member.earning_class(at)
    return name if name in programme.earning.class_multipliers_bp else programme.tiers.levels[0].key


def _settle_waiting(
    programme: Programme, member: Member, purchase: Purchase, command: RecordPurchase, bought: Event
) -> Iterable[Event]:
    """The returns that waited for a purchase, now that it is here, in the order they came."""
    after = evolve_member(member, bought)
    known = evolve_purchase(purchase, bought)
    assert known is not None
    for waiting in purchase.waiting:
        event = _linked_return(programme, after, known, command, waiting)
        known = evolve_purchase(known, event)
        assert known is not None
        if event.kind is not EntryKind.REQUEST_REFUSED:
            after = evolve_member(after, event)
        yield event


def _return(
    programme: Programme, member: Member, purchase: Purchase | None, command: RecordReturn, occurred: datetime
) -> tuple[Event, ...]:
    goods = _checked_goods(programme, command)
    if not command.purchase_id:
        return (_bounded(member, _unlinked_return(programme, member, command, goods, occurred)),)
    if purchase is not None and purchase.arrived:
        waiting = WaitingReturn(
            request_id=command.request_id,
            occurred_time=occurred,
            amount=command.amount,
            goods=goods,
            reason=command.reason,
            channel=command.channel,
        )
        returned = _linked_return(programme, member, purchase, command, waiting)
        if returned.kind is EntryKind.RETURN_RECORDED:
            returned = replace(returned, detail=_detail(command))
        return (_bounded(member, returned),)
    if purchase is not None and len(purchase.waiting) >= MAX_WAITING_RETURNS:
        return (_refusal(command, member, Refusal.TOO_MANY_WAITING_RETURNS, at=occurred),)
    return (
        _event(
            command,
            EntryKind.RETURN_WAITING,
            occurred,
            member,
            purchase_id=command.purchase_id,
            currency=command.currency,
            amount=command.amount,
            goods_paid=goods,
            reason=command.reason,
            channel=command.channel,
            detail=_detail(command),
        ),
    )


def _unlinked_return(
    programme: Programme, member: Member, command: RecordReturn, goods: int | None, occurred: datetime
) -> Event:
    """A return of an unknown purchase: it always counts, and takes points at the base rate of today (§12.5)."""
    earning = programme.earning
    back = command.amount if goods is None else goods
    base = command.amount if earning.base is Base.TOTAL else back
    if occurred <= member.joined_time:
        base = 0
    points = points_for(base, earning.points, earning.per_minor_units, BASIS_POINTS)
    rule = RulePoints(
        rule="base", points=-points, base=base, rate_points=earning.points, rate_per=earning.per_minor_units
    )
    return _event(
        command,
        EntryKind.RETURN_RECORDED,
        occurred,
        member,
        postings=_take(member, points),
        currency=command.currency,
        amount=command.amount,
        goods_paid=back,
        rules=(rule,),
        reason=command.reason,
        channel=command.channel,
        detail=_detail(command),
    )


def _linked_return(
    programme: Programme, member: Member, purchase: Purchase, command: Movement, waiting: WaitingReturn
) -> Event:
    """A return of a known purchase, or its refusal; `command` brought the return, or the purchase it waited for.

    The points that remain are those that the rules give for what remains, so that partial returns in any order
    take what the purchase gave, and the last one takes exactly the rest (§12.3).
    """
    asked = replace(command, request_id=waiting.request_id)
    returned = purchase.returned + waiting.amount
    if returned > purchase.amount:
        return _refusal(asked, member, Refusal.RETURN_EXCEEDS_PURCHASE, at=waiting.occurred_time)
    if returned == purchase.amount:
        goods_returned = purchase.goods_paid
    elif waiting.goods is None:
        # No lines: goods come back in proportion, counted over all returns so far, so that nothing is lost.
        goods_returned = purchase.goods_paid * returned // purchase.amount
    else:
        goods_returned = purchase.returned_goods + waiting.goods
    goods = max(min(goods_returned, purchase.goods_paid) - purchase.returned_goods, 0)
    (rule,) = purchase.rules
    taken = _taken_back(programme, rule, purchase, returned, purchase.returned_goods + goods)
    points = -taken.points - purchase.returned_points
    return _event(
        asked,
        EntryKind.RETURN_RECORDED,
        waiting.occurred_time,
        member,
        postings=_take(member, points),
        purchase_id=purchase.purchase_id,
        currency=command.currency,
        amount=waiting.amount,
        goods_paid=goods,
        rules=(replace(taken, points=-points),),
        reason=waiting.reason,
        channel=waiting.channel,
    )


def _taken_back(
    programme: Programme, rule: RulePoints, purchase: Purchase, returned: int, returned_goods: int
) -> RulePoints:
    """All that a rule has to take back for all returns so far, as negative points."""
    whole = purchase.amount if programme.earning.base is Base.TOTAL else purchase.goods_paid
    back = returned if programme.earning.base is Base.TOTAL else returned_goods
    base = 0 if rule.base == 0 else whole - back
    remaining = points_for(base, rule.rate_points, rule.rate_per, rule.multiplier_bp) if base else 0
    return replace(rule, points=remaining - rule.points, base=rule.base - base)


def _set_class(programme: Programme, member: Member, command: SetEarningClass, occurred: datetime) -> tuple[Event, ...]:
    if member.classes and command.sequence <= member.classes[-1].sequence:
        return ()
    if command.earning_class not in programme.earning.class_multipliers_bp:
        return (_refusal(command, member, Refusal.EARNING_CLASS_UNKNOWN, at=occurred),)
    return (
        _event(
            command,
            EntryKind.EARNING_CLASS_SET,
            occurred,
            member,
            earning_class=command.earning_class,
            effective_time=command.effective_time,
            sequence=command.sequence,
        ),
    )


def _checked_goods(programme: Programme, command: Movement) -> int | None:
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


def _detail(command: Movement) -> dict[str, Any] | None:
    """What can be forgotten of a purchase or return, without what is empty; a line is an array of `Line`'s fields."""
    detail: dict[str, Any] = {}
    if command.lines:
        detail["lines"] = command.lines
    if command.store_id:
        detail["store_id"] = command.store_id
    if command.receipt_number:
        detail["receipt_number"] = command.receipt_number
    return detail or None


def _give(member: Member, points: int) -> tuple[Posting, ...]:
    """Postings that give points: debt is paid first (§12.3)."""
    if not points:
        return ()
    paid = min(member.debt, points)
    return _postings(available=points - paid, debt=-paid, issued=points)


def _take(member: Member, points: int) -> tuple[Posting, ...]:
    """Postings that take points back: from what is there, the rest becomes debt (§12.3)."""
    if not points:
        return ()
    there = min(member.available, points)
    return _postings(available=-there, debt=points - there, issued=-points)


def _postings(*, available: int, debt: int, issued: int) -> tuple[Posting, ...]:
    legs = ((Account.AVAILABLE, available), (Account.DEBT, debt), (Account.ISSUED, issued))
    return tuple(Posting(account=account, points=points) for account, points in legs if points)
