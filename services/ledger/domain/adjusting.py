"""Points given or taken by hand: awards and adjustments."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from services.ledger.domain.commands import AdjustPoints, AwardPoints
from services.ledger.domain.events import Account, Author, EntryKind, Event, Posting, RulePoints
from services.ledger.domain.lots import Lot, becoming_available, granted_lot, postings
from services.ledger.domain.making import answer, refuse
from services.ledger.domain.state import Member, Purchase
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
    if command.purchase_id and (purchase is None or not purchase.arrived):
        return refuse(command, member, Refusal.PURCHASE_UNKNOWN, occurred)
    if command.purchase_id and purchase is not None and purchase.returned == purchase.amount:
        return refuse(command, member, Refusal.PURCHASE_RETURNED, occurred)
    granted = Lot(granted_lot(programme, occurred), command.points)
    return answer(
        command,
        EntryKind.POINTS_AWARDED,
        member,
        occurred,
        postings=[*becoming_available(member.debt, [granted]), Posting(Account.ISSUED, command.points)],
        purchase_id=command.purchase_id,
        rules=(RulePoints(rule="award", points=command.points),),
        reason=command.reason,
        detail={"note": command.note} if command.note else None,
        **marks,
    )


def adjust(programme: Programme, member: Member, command: AdjustPoints, now: datetime) -> Event:
    """Points are added or taken; above a limit of the programme another principal has to approve it first."""
    if not command.approves:
        if _within_limits(programme, member, command.points, now):
            return _adjusted(programme, member, command, now)
        if len(member.awaited) >= MAX_AWAITED:
            return refuse(command, member, Refusal.TOO_MANY_ADJUSTMENTS, now)
        return answer(
            command,
            EntryKind.ADJUSTMENT_REQUESTED,
            member,
            now,
            requested_points=command.points,
            reason=command.reason,
            author=Author(command.principal, command.on_behalf_of),
            detail={"note": command.note} if command.note else None,
        )
    awaited = next((one for one in member.awaited if one.adjustment_id == command.approves), None)
    if awaited is None:
        return refuse(command, member, Refusal.ADJUSTMENT_UNKNOWN, now)
    if awaited.points != command.points:
        return refuse(command, member, Refusal.ADJUSTMENT_DIFFERS, now)
    if awaited.acting == Author(command.principal, command.on_behalf_of).acting:
        return refuse(command, member, Refusal.APPROVAL_BY_SAME_PRINCIPAL, now)
    return _adjusted(programme, member, command, now)


def _within_limits(programme: Programme, member: Member, points: int, now: datetime) -> bool:
    limits = programme.adjustments
    if limits.per_call is not None and abs(points) > limits.per_call:
        return False
    if limits.per_day is None:
        return True
    today = member.adjusted if member.adjusted_day == programme.local_day(now) else 0
    return today + abs(points) <= limits.per_day


def _adjusted(programme: Programme, member: Member, command: AdjustPoints, now: datetime) -> Event:
    points = command.points
    if points > 0:
        legs = becoming_available(member.debt, [Lot(granted_lot(programme, now), points)])
    elif member.available < -points:
        return refuse(command, member, Refusal.NOT_ENOUGH_POINTS, now)
    else:
        legs = postings(Account.AVAILABLE, member.lots.drawn(-points), -1)
    return answer(
        command,
        EntryKind.POINTS_ADJUSTED,
        member,
        now,
        postings=[*legs, Posting(Account.ADJUSTED, points)],
        reference=command.approves,
        reason=command.reason,
        adjusted_day=programme.local_day(now),
        detail={"note": command.note} if command.note else None,
    )
