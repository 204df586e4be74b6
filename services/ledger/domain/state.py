"""What the events so far add up to. `evolve_*` rebuild every state from events alone (DESIGN §3.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from services.ledger.domain.events import Account, EntryKind, Event, RulePoints


@dataclass(frozen=True, slots=True, kw_only=True)
class EarningClass:
    """An earning class with the instant from which it holds."""

    sequence: int
    name: str
    effective_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member's points and classes. `classes` ascend by sequence."""

    member_id: str
    joined_time: datetime
    channel: str
    available: int = 0
    debt: int = 0
    earned: int = 0
    classes: tuple[EarningClass, ...] = ()

    def earning_class(self, at: datetime) -> str:
        """The class in force at an instant: of those begun, the latest set; empty where none has begun."""
        for candidate in reversed(self.classes):
            if candidate.effective_time <= at:
                return candidate.name
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingReturn:
    """A linked return whose purchase has not arrived."""

    request_id: str
    occurred_time: datetime
    amount: int
    # Goods among it, or None where the return named no lines.
    goods: int | None
    reason: str
    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """A purchase and what has come back of it; before it arrives (`amount` 0), the returns that wait for it."""

    purchase_id: str
    amount: int = 0
    goods_paid: int = 0
    rules: tuple[RulePoints, ...] = ()
    returned: int = 0
    returned_goods: int = 0
    returned_points: int = 0
    waiting: tuple[WaitingReturn, ...] = ()

    @property
    def arrived(self) -> bool:
        """Whether the purchase itself is recorded."""
        return self.amount > 0

    @property
    def points(self) -> int:
        """What the purchase gave."""
        return sum(rule.points for rule in self.rules)


def evolve_member(member: Member | None, event: Event) -> Member:
    """The member after an event."""
    if event.kind is EntryKind.MEMBER_JOINED:
        member = Member(member_id=event.member_id, joined_time=event.occurred_time, channel=event.channel)
    assert member is not None, "a member joins before anything else happens to it"
    if event.kind is EntryKind.EARNING_CLASS_SET:
        assert event.effective_time is not None
        added = EarningClass(sequence=event.sequence, name=event.earning_class, effective_time=event.effective_time)
        return replace(member, classes=(*member.classes, added))
    if not event.postings:
        return member
    available, debt, earned = member.available, member.debt, member.earned
    for posting in event.postings:
        match posting.account:
            case Account.AVAILABLE:
                available += posting.points
            case Account.DEBT:
                debt += posting.points
            case Account.ISSUED:
                earned += posting.points
    return Member(
        member_id=member.member_id,
        joined_time=member.joined_time,
        channel=member.channel,
        available=available,
        debt=debt,
        earned=earned,
        classes=member.classes,
    )


def evolve_purchase(purchase: Purchase | None, event: Event) -> Purchase | None:
    """The purchase that an event names, after it; None where the event leaves no trace on one."""
    if not event.purchase_id:
        return purchase
    if event.kind is EntryKind.PURCHASE_RECORDED:
        # Nothing but what waits for a purchase is known before it.
        return Purchase(
            purchase_id=event.purchase_id,
            amount=event.amount,
            goods_paid=event.goods_paid or 0,
            rules=event.rules,
            waiting=purchase.waiting if purchase is not None else (),
        )
    known = purchase or Purchase(purchase_id=event.purchase_id)
    match event.kind:
        case EntryKind.RETURN_WAITING:
            waiting = WaitingReturn(
                request_id=event.request_id,
                occurred_time=event.occurred_time,
                amount=event.amount,
                goods=event.goods_paid,
                reason=event.reason,
                channel=event.channel,
            )
            return replace(known, waiting=(*known.waiting, waiting))
        case EntryKind.RETURN_RECORDED:
            return replace(
                known,
                returned=known.returned + event.amount,
                returned_goods=known.returned_goods + (event.goods_paid or 0),
                returned_points=known.returned_points - event.points,
                waiting=_without(known.waiting, event.request_id),
            )
        case EntryKind.REQUEST_REFUSED if purchase is not None:
            return replace(known, waiting=_without(known.waiting, event.request_id))
        case _:
            return purchase


def _without(waiting: tuple[WaitingReturn, ...], request_id: str) -> tuple[WaitingReturn, ...]:
    return tuple(one for one in waiting if one.request_id != request_id)
