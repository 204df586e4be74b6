"""Spending points: redemptions and their reversals, holds and what becomes of them (DESIGN §3.3-4, §12.3-4, §12.11)."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from services.ledger.domain.commands import (
    CaptureHold,
    ExtendHold,
    HoldPoints,
    RedeemPoints,
    ReleaseHold,
    ReverseRedemption,
)
from services.ledger.domain.events import Account, Author, EntryKind, Event, Flag, Posting
from services.ledger.domain.lots import Lot, Parts, becoming_available, drawn, granted_lot, postings, total
from services.ledger.domain.making import answer, forgettable, refuse
from services.ledger.domain.state import Hold, Member, Redemption
from services.ledger.errors import Refusal
from services.programme.model import Programme

MAX_HOLDS: Final = 100


def redeem(programme: Programme, member: Member, command: RedeemPoints, now: datetime) -> Event:
    """Points are spent, first-expiring-first; what was spent offline is never refused (§12.11)."""
    if not command.offline and (refusal := _refusal(programme, member, command.points, now)):
        return refuse(command, member, refusal, now)
    parts = member.lots.drawn(command.points)
    owed = command.points - total(parts)
    return answer(
        command,
        EntryKind.POINTS_REDEEMED,
        member,
        now,
        postings=[
            *postings(Account.AVAILABLE, parts, -1),
            *([Posting(Account.DEBT, owed)] if owed else []),
            Posting(Account.REDEEMED, command.points),
        ],
        purchase_id=command.purchase_id,
        reason=command.reason,
        channel=command.channel,
        flags=(Flag.OFFLINE_OVERDRAWN,) if owed else (),
        author=Author(command.principal, command.on_behalf_of),
        detail=forgettable(note=command.note, store_id=command.store_id),
    )


def reverse(
    programme: Programme, member: Member, redemption: Redemption | None, command: ReverseRedemption, now: datetime
) -> Event:
    """Points go back into the lots they came from. Those that paid for a purchase come back with that alone."""
    if redemption is None:
        return refuse(command, member, Refusal.REDEMPTION_UNKNOWN, now)
    if redemption.others(command.principal):
        return refuse(command, member, Refusal.REDEMPTION_OF_REWARD, now)
    points = command.points or redemption.unused
    if not 0 < points <= redemption.unused:
        paid = redemption.paid and points <= redemption.unused + redemption.paid
        refusal = Refusal.REDEMPTION_PAID_PURCHASE if paid else Refusal.REVERSAL_EXCEEDS_REDEMPTION
        return refuse(command, member, refusal, now)
    return answer(
        command,
        EntryKind.REDEMPTION_REVERSED,
        member,
        now,
        postings=giving_back(programme, member, redemption, points, now),
        reference=redemption.redemption_id,
        reason=command.reason,
        detail=forgettable(note=command.note),
    )


def giving_back(
    programme: Programme, member: Member, redemption: Redemption, points: int, now: datetime
) -> list[Posting]:
    """The postings that give points of a redemption back to their lots, those drawn last first; debt is paid first."""
    # What became debt had no lot: where that debt was paid since, its points come as if granted today.
    sequence = (*redemption.parts, Lot(granted_lot(programme, now), redemption.debt))[::-1]
    given = drawn(_beyond(sequence, redemption.reversed), points)
    return [*becoming_available(member.debt, given), Posting(Account.REDEEMED, -points)]


def hold(programme: Programme, member: Member, command: HoldPoints, now: datetime) -> Event:
    """Points are set aside until the hold is captured, released, or runs out."""
    refusal = _refusal(programme, member, command.points, now)
    if refusal is None and len(member.holds) >= MAX_HOLDS:
        refusal = Refusal.TOO_MANY_HOLDS
    if refusal is not None:
        return refuse(command, member, refusal, now)
    parts = member.lots.drawn(command.points)
    return answer(
        command,
        EntryKind.POINTS_HELD,
        member,
        now,
        postings=[*postings(Account.AVAILABLE, parts, -1), *postings(Account.HELD, parts)],
        purchase_id=command.purchase_id,
        reason=command.reason,
        hold_left=command.points,
        expire_time=now + command.ttl,
    )


def capture(member: Member, command: CaptureHold, now: datetime) -> Event:
    """Held points are spent; what is not captured stays held. Who has left may; a suspended account may not."""
    found = _of_hold(member, command)
    if member.suspended(now):
        found = Refusal.ACCOUNT_SUSPENDED
    if isinstance(found, Refusal):
        return refuse(command, member, found, now)
    of, parts = found
    return answer(
        command,
        EntryKind.HOLD_CAPTURED,
        member,
        now,
        postings=[*postings(Account.HELD, parts, -1), Posting(Account.REDEEMED, total(parts))],
        purchase_id=command.purchase_id,
        reference=command.hold_id,
        reason=command.reason,
        hold_left=of.lots.total - total(parts),
        expire_time=of.expires,
        author=Author(command.principal, command.on_behalf_of),
    )


def release(member: Member, command: ReleaseHold, now: datetime) -> Event:
    """Held points become available again; those of lots that lapsed meanwhile lapse now (§12.9)."""
    found = _of_hold(member, command)
    if isinstance(found, Refusal):
        return refuse(command, member, found, now)
    of, parts = found
    return answer(
        command,
        EntryKind.HOLD_RELEASED,
        member,
        now,
        postings=[*postings(Account.HELD, parts, -1), *becoming_available(member.debt, parts)],
        reference=command.hold_id,
        hold_left=of.lots.total - total(parts),
        expire_time=of.expires,
    )


def extend(member: Member, command: ExtendHold, now: datetime) -> Event:
    """A hold lasts for its new time from now, longer or shorter than before."""
    found = _hold_for(member, command)
    if isinstance(found, Refusal):
        return refuse(command, member, found, now)
    return answer(
        command,
        EntryKind.HOLD_EXTENDED,
        member,
        now,
        reference=command.hold_id,
        hold_left=found.lots.total,
        expire_time=now + command.ttl,
    )


def _refusal(programme: Programme, member: Member, points: int, now: datetime) -> Refusal | None:
    """Why a member cannot spend so many points; None where it can."""
    if member.away(now):
        return Refusal.MEMBER_RESIGNED
    if member.suspended(now):
        return Refusal.ACCOUNT_SUSPENDED
    rules = programme.redemption
    if points < rules.minimum:
        return Refusal.REDEMPTION_BELOW_MINIMUM
    if points % rules.step:
        return Refusal.REDEMPTION_NOT_IN_STEPS
    return Refusal.NOT_ENOUGH_POINTS if points > member.available else None


def _of_hold(member: Member, command: CaptureHold | ReleaseHold) -> tuple[Hold, Parts] | Refusal:
    """The hold, and the parts of it that the command is for."""
    found = _hold_for(member, command)
    if isinstance(found, Refusal):
        return found
    points = command.points or found.lots.total
    return (found, found.lots.drawn(points)) if points <= found.lots.total else Refusal.CAPTURE_EXCEEDS_HOLD


def _hold_for(member: Member, command: CaptureHold | ReleaseHold | ExtendHold) -> Hold | Refusal:
    found = member.hold(command.hold_id)
    if found is None:
        return Refusal.HOLD_UNKNOWN
    return Refusal.REDEMPTION_OF_REWARD if found.others(command.principal) else found


def _beyond(parts: Parts, points: int) -> Parts:
    """The parts that follow after the first so many points."""
    rest: list[Lot] = []
    for part in parts:
        skipped = min(part.points, points)
        points -= skipped
        rest.append(Lot(part.key, part.points - skipped))
    return tuple(rest)
