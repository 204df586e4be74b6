"""Points given or taken by hand: awards, adjustments, and points restored that lapsed by mistake (DESIGN §12.9)."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Final

from services.ledger.domain.catching_up import expiry_under
from services.ledger.domain.commands import AdjustPoints, AwardPoints
from services.ledger.domain.events import Account, Author, EntryKind, Event, Flag, Posting, RulePoints
from services.ledger.domain.lots import Lot, becoming_available, drawn, granted_lot, postings, total
from services.ledger.domain.making import answer, forgettable, refuse
from services.ledger.domain.state import Known, Member, Purchase
from services.ledger.errors import Refusal
from services.programme.model import Programme

MAX_AWAITED: Final = 20


def award(
    programme: Programme,
    member: Member,
    purchase: Purchase | None,
    command: AwardPoints,
    occurred: datetime,
    **marks: Any,
) -> Event:
    """Points are given; those that a purchase made possible fall with its return (§12.3)."""
    if member.away(occurred):
        return refuse(command, member, Refusal.MEMBER_RESIGNED, occurred)
    if command.purchase_id and (purchase is None or not purchase.arrived):
        return refuse(command, member, Refusal.PURCHASE_UNKNOWN, occurred)
    if command.purchase_id and purchase is not None and purchase.returned == purchase.amount:
        return refuse(command, member, Refusal.PURCHASE_RETURNED, occurred)
    granted = Lot(granted_lot(programme, occurred, lasting=command.lasting), command.points)
    return answer(
        command,
        EntryKind.POINTS_AWARDED,
        member,
        occurred,
        postings=[*becoming_available(member.debt, [granted]), Posting(Account.ISSUED, command.points)],
        purchase_id=command.purchase_id,
        rules=(RulePoints(rule="award", points=command.points),),
        reason=command.reason,
        detail=forgettable(note=command.note),
        **marks,
    )


def adjust(programme: Programme, known: Known, command: AdjustPoints, now: datetime) -> Event:
    """Points are added, taken or restored; above a limit of the programme another principal has to approve it first.

    Whoever may adjust may decline what waits, and so withdraw what it asked for itself.
    """
    member = known.member
    assert member is not None
    about = command.approves or command.declines
    if not about:
        if _within_limits(programme, member, command.points, now):
            return _carried_out(programme, known, command, now)
        if len(member.awaited) >= MAX_AWAITED:
            return refuse(command, member, Refusal.TOO_MANY_ADJUSTMENTS, now)
        return answer(
            command,
            EntryKind.ADJUSTMENT_REQUESTED,
            member,
            now,
            requested_points=command.points,
            reason=command.reason,
            flags=(Flag.RESTORES_EXPIRED,) if command.restores_expired else (),
            author=Author(command.principal, command.on_behalf_of),
            detail=forgettable(note=command.note),
        )
    awaited = next((one for one in member.awaited if one.adjustment_id == about), None)
    if awaited is None:
        return refuse(command, member, Refusal.ADJUSTMENT_UNKNOWN, now)
    if (awaited.points, awaited.restores_expired) != (command.points, command.restores_expired):
        return refuse(command, member, Refusal.ADJUSTMENT_DIFFERS, now)
    if command.declines:
        return answer(
            command,
            EntryKind.ADJUSTMENT_DECLINED,
            member,
            now,
            reference=command.declines,
            reason=command.reason,
            detail=forgettable(note=command.note),
        )
    if awaited.asked_by(Author(command.principal, command.on_behalf_of)):
        return refuse(command, member, Refusal.APPROVAL_BY_SAME_PRINCIPAL, now)
    return _carried_out(programme, known, command, now)


def _within_limits(programme: Programme, member: Member, points: int, now: datetime) -> bool:
    limits = programme.adjustments
    if limits.per_call is not None and abs(points) > limits.per_call:
        return False
    if limits.per_day is None:
        return True
    today = member.adjusted if member.adjusted_day == programme.local_day(now) else 0
    return today + abs(points) <= limits.per_day


def _carried_out(programme: Programme, known: Known, command: AdjustPoints, now: datetime) -> Event:
    member = known.member
    assert member is not None
    if command.restores_expired:
        kind, legs = EntryKind.POINTS_RESTORED, _restored(programme, known, command, now)
    else:
        kind, legs = EntryKind.POINTS_ADJUSTED, _moved(programme, member, command, now)
    if isinstance(legs, Refusal):
        return refuse(command, member, legs, now)
    return answer(
        command,
        kind,
        member,
        now,
        postings=legs,
        reference=command.approves,
        reason=command.reason,
        adjusted_day=programme.local_day(now),
        detail=forgettable(note=command.note),
    )


def _moved(programme: Programme, member: Member, command: AdjustPoints, now: datetime) -> list[Posting] | Refusal:
    points = command.points
    if points > 0:
        legs = becoming_available(member.debt, [Lot(granted_lot(programme, now), points)])
    elif member.available < -points:
        return Refusal.NOT_ENOUGH_POINTS
    else:
        legs = postings(Account.AVAILABLE, member.lots.drawn(-points), -1)
    return [*legs, Posting(Account.ADJUSTED, points)]


def _restored(programme: Programme, known: Known, command: AdjustPoints, now: datetime) -> list[Posting] | Refusal:
    """Points that lapsed, those that lapsed last first, come back as if granted now."""
    member = known.member
    assert member is not None
    granted = Lot(granted_lot(programme, now), command.points)
    gone = expiry_under(programme, member, granted.key)
    if gone is not None and gone <= now:
        # Only what the member does itself would end that (§12.9).
        return Refusal.MEMBER_INACTIVE
    lapsed = sorted([Lot(key, points) for key, points in known.lapsed.items()], key=_last_there, reverse=True)
    taken = drawn(lapsed, command.points)
    if total(taken) < command.points:
        return Refusal.NOT_SO_MANY_EXPIRED
    return [*postings(Account.EXPIRED, taken, -1), *becoming_available(member.debt, [granted])]


def _last_there(lapsed: Lot) -> tuple[date, date, bool]:
    """The order in which lots lapsed, by their days; those without an expiry day went by the last activity."""
    activates = lapsed.key.activates or date.min
    return lapsed.key.expires or activates, activates, lapsed.key.expires is not None
