"""A member's points as of an instant, as known at another (DESIGN §4, §6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from services.ledger.domain.catching_up import catch_up, seen_at
from services.ledger.domain.events import Account, EntryKind, Event, LotKey
from services.ledger.domain.lots import Lot, Lots, granted_lot, order, total
from services.ledger.domain.state import Member, evolve_member
from services.programme.versions import Versions

_SUMMED = (Account.AVAILABLE, Account.PENDING)


class AsOf:
    """A member at an instant, from those of its events that are known.

    What happened later does not count. What was taken by then from points that came later (an event that arrived
    late) comes out of the other lots, and is debt where there is nothing else; points that paid a debt which came
    later are still there.

    Lots are sums until the end: events that come in no order would sort them in one by one.
    """

    def __init__(self, versions: Versions, at: datetime) -> None:
        self._versions = versions
        self._at = at
        self._member: Member | None = None
        self._sums: dict[Account, Counter[LotKey]] = {account: Counter() for account in _SUMMED}

    def add(self, events: Iterable[Event]) -> None:
        """Takes in the next events, in the order of the log."""
        for event in events:
            if event.occurred_time > self._at or (self._member is None and event.kind is not EntryKind.MEMBER_JOINED):
                continue
            if event.kind is EntryKind.MEMBER_ERASED:
                # Whatever there was then.
                for sums in self._sums.values():
                    sums.clear()
                self._member = evolve_member(self._member, event)
                continue
            for account, points, lot in event.postings:
                if account in _SUMMED:
                    self._sums[account][lot] += points
            rest = tuple([posting for posting in event.postings if posting.account not in _SUMMED])
            member = evolve_member(self._member, event._replace(postings=rest))
            if member.debt < 0:
                programme = self._versions.at(event.occurred_time)
                # What paid a debt that was not there yet comes as if granted at that time.
                self._sums[Account.AVAILABLE][granted_lot(programme, event.occurred_time)] -= member.debt
                member = member._replace(debt=0)
            self._member = seen_at(self._versions, member, event.occurred_time)

    def member(self) -> Member | None:
        """The member then; None before it joined."""
        if self._member is None:
            return None
        lots, pending = (
            [Lot(lot, points) for lot, points in self._sums[account].items() if points] for account in _SUMMED
        )
        return catch_up(self._versions, _without_negative(self._member, lots, pending), self._at)[1]


def _without_negative(member: Member, lots: list[Lot], pending: list[Lot]) -> Member:
    """The member with its lots; what is missing in some of them comes out of the others, and is debt beyond that."""
    held = [lot for hold in member.holds for lot in hold.lots]
    owed = member.debt - sum(lot.points for lot in (*lots, *pending, *held) if lot.points < 0)
    there = Lots.of(sorted((lot for lot in lots if lot.points > 0), key=order))
    taken = there.drawn(owed)
    holds = [hold._replace(lots=Lots.of(lot for lot in hold.lots if lot.points > 0)) for hold in member.holds]
    return member._replace(
        lots=Lots.of((*there, *(Lot(key, -points) for key, points in taken))) if taken else there,
        pending=Lots.of(sorted((lot for lot in pending if lot.points > 0), key=order)),
        holds=tuple([hold for hold in holds if hold.lots]),
        debt=owed - total(taken),
    )
