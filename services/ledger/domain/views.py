"""A member's points as of an instant, as known at another (DESIGN §4, §6)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from services.ledger.domain.catching_up import catch_up
from services.ledger.domain.events import EntryKind, Event
from services.ledger.domain.lots import Lot, Lots, granted_lot, total
from services.ledger.domain.state import Member, evolve_member
from services.programme.model import Programme


def as_of(programme: Programme, events: Iterable[Event], at: datetime) -> Member | None:
    """The member at an instant, from those of its events that are known; None before it joined.

    What happened later does not count. What was taken by then from points that came later (an event that arrived
    late) comes out of the other lots, and is debt where there is nothing else; points that paid a debt which came
    later are still there.
    """
    member: Member | None = None
    for event in events:
        if event.occurred_time <= at and (member is not None or event.kind is EntryKind.MEMBER_JOINED):
            member = _without_later_debt(programme, evolve_member(member, event), event.occurred_time)
    if member is None:
        return None
    _, member = catch_up(programme, _without_negative(member), at)
    return member


def _without_later_debt(programme: Programme, member: Member, time: datetime) -> Member:
    """What paid a debt that was not there yet comes as if granted at that time."""
    if member.debt >= 0:
        return member
    return member._replace(debt=0, lots=member.lots.added(granted_lot(programme, time), -member.debt))


def _without_negative(member: Member) -> Member:
    held = [lot for hold in member.holds for lot in hold.lots]
    owed = member.debt - sum(lot.points for lot in (*member.lots, *member.pending, *held) if lot.points < 0)
    if not owed:
        return member
    there = Lots.of(lot for lot in member.lots if lot.points > 0)
    taken = there.drawn(owed)
    holds = [hold._replace(lots=Lots.of(lot for lot in hold.lots if lot.points > 0)) for hold in member.holds]
    return member._replace(
        lots=Lots.of((*there, *(Lot(key, -points) for key, points in taken))),
        pending=Lots.of(lot for lot in member.pending if lot.points > 0),
        holds=tuple([hold for hold in holds if hold.lots]),
        debt=owed - total(taken),
    )
