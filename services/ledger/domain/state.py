"""What the events so far add up to. `evolve_*` rebuild every state from events alone (DESIGN §3.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from services.ledger.domain.events import (
    UNDATED,
    Account,
    Author,
    EntryKind,
    Event,
    Flag,
    LineReturn,
    LotKey,
    PointsPayment,
    RulePoints,
    UnlinkReason,
)
from services.ledger.domain.lots import Lot, Lots, Parts, total
from services.programme.model import SUSPENDED

# The service that spends points for rewards and in checkouts, and gives them back with those alone.
CARRIER: Final = "notifier"
# What its holds for them are called.
_OF_CARRIER: Final = re.compile(r"(?:reward|checkout)-[0-9a-f]{32}-hold", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class EarningClass:
    """An earning class with the instant from which it holds."""

    sequence: int
    name: str
    effective_time: datetime


class Absence(NamedTuple):
    """A time in which somebody was no member: from leaving up to coming back (None: not yet)."""

    left: datetime
    back: datetime | None = None


class Hold(NamedTuple):
    """Points set aside until an instant; `lots` are what is still held."""

    hold_id: str
    expires: datetime
    lots: Lots

    def others(self, principal: str) -> bool:
        """Whether it is part of what the notifier carries, as of a redemption."""
        return principal != CARRIER and _OF_CARRIER.fullmatch(self.hold_id) is not None


class AwaitedAdjustment(NamedTuple):
    """An adjustment above a limit, which another principal must approve."""

    adjustment_id: str
    points: int
    # Who asked for it.
    acting: str
    restores_expired: bool = False
    # By whose token it was asked for; empty in what an older release wrote.
    principal: str = ""

    def asked_by(self, author: Author) -> bool:
        """Whether it may be the same one. Of a principal that acts for others, one without a name may be anybody."""
        if self.acting == author.acting:
            return True
        return self.principal == author.principal and author.principal in (self.acting, author.acting)


class Member(NamedTuple):
    """A member's points and classes, as written down; `catch_up` tells what time has made of them since.

    `pending` and `lots` stand in the order they are drawn, `classes` ascend by sequence, `absences` by time.
    """

    member_id: str
    joined_time: datetime
    channel: str
    # The latest own purchase, redemption or activity; before the first, the joining time.
    activity_time: datetime
    pending: Lots = Lots.EMPTY
    lots: Lots = Lots.EMPTY
    holds: tuple[Hold, ...] = ()
    debt: int = 0
    earned: int = 0
    redeemed: int = 0
    purchases: int = 0
    # Points adjusted or restored on a local day: the sum of absolute values.
    adjusted_day: date | None = None
    adjusted: int = 0
    awaited: tuple[AwaitedAdjustment, ...] = ()
    classes: tuple[EarningClass, ...] = ()
    # The place of the programme's version up to which all that time did is written down.
    version: int = 0
    # The home market; empty for the programme's own.
    market: str = ""
    absences: tuple[Absence, ...] = ()
    # When it was erased; None where it was not.
    erased_time: datetime | None = None

    @property
    def available(self) -> int:
        """Points that can be redeemed."""
        return self.lots.total

    @property
    def pending_points(self) -> int:
        """Points that are not active yet."""
        return self.pending.total

    @property
    def held(self) -> int:
        """Points set aside by holds."""
        return sum([hold.lots.total for hold in self.holds])

    def hold(self, hold_id: str) -> Hold | None:
        """The hold of this id, where it still holds points."""
        return next((hold for hold in self.holds if hold.hold_id == hold_id), None)

    def earning_class(self, at: datetime) -> str:
        """The class in force at an instant: of those begun, the latest set; empty where none has begun."""
        for candidate in reversed(self.classes):
            if candidate.effective_time <= at:
                return candidate.name
        return ""

    def suspended(self, at: datetime) -> bool:
        """Whether the account is suspended at an instant (§12.16)."""
        return self.earning_class(at) == SUSPENDED

    def away(self, at: datetime) -> bool:
        """Whether the member had left at an instant, and was not back."""
        return any(left <= at and (back is None or at < back) for left, back in self.absences)

    @property
    def resigned_time(self) -> datetime | None:
        """When the member left; None where it did not, or is back."""
        return self.absences[-1].left if self.absences and self.absences[-1].back is None else None

    @property
    def rejoined_time(self) -> datetime | None:
        """When the member last came back; None where it never did."""
        return max([back for _, back in self.absences if back is not None], default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingReturn:
    """A linked return whose purchase has not arrived."""

    request_id: str
    occurred_time: datetime
    # 0 where it is the sum of `lines`, which only the purchase can tell.
    amount: int
    # Goods among it, or None where the return named no lines.
    goods: int | None
    reason: str
    channel: str
    lines: tuple[LineReturn, ...] = ()
    exchange_id: str = ""
    author: Author | None = None
    # Of the amount.
    currency: str = ""


class Grant(NamedTuple):
    """What one rule gave for a purchase, the lot the points went to, and what was taken back of both."""

    rule: RulePoints
    lot: LotKey
    # The rule's base that came back, counted where the rule counts some lines only.
    back: int = 0
    taken: int = 0
    # What had come back of the purchase, in minor units, before this was given.
    since: int = 0


class Purchase(NamedTuple):
    """A purchase and what has come back of it; before it arrives (`amount` 0), the returns that wait for it."""

    purchase_id: str
    occurred_time: datetime | None = None
    currency: str = ""
    amount: int = 0
    goods_paid: int = 0
    grants: tuple[Grant, ...] = ()
    returned: int = 0
    returned_goods: int = 0
    returned_lines: tuple[LineReturn, ...] = ()
    voided: bool = False
    waiting: tuple[WaitingReturn, ...] = ()
    # What points paid of it; `goods_paid` and `returned_goods` are without that.
    points_payment: PointsPayment | None = None
    # What of that its returns gave back, in points and in money.
    payment_points_returned: int = 0
    payment_amount_returned: int = 0

    @property
    def paid_by_points(self) -> int:
        """What of the amount points paid."""
        return self.points_payment.amount if self.points_payment is not None else 0

    @property
    def arrived(self) -> bool:
        """Whether the purchase itself is recorded."""
        return self.amount > 0

    @property
    def returned_points(self) -> int:
        """Points that its returns took back."""
        return sum([grant.taken for grant in self.grants])


@dataclass(frozen=True, slots=True, kw_only=True)
class Redemption:
    """Points redeemed: the parts they were drawn from, in order, what became debt, and how much was given back."""

    redemption_id: str
    parts: Parts
    debt: int = 0
    reversed: int = 0
    # Points that paid for purchases, less those that their returns gave back.
    paid: int = 0
    # Who made it, as its entry says: not a state of its own.
    principal: str = field(default="", compare=False)

    def others(self, principal: str) -> bool:
        """Whether it is part of what the notifier carries, which a principal that is not the notifier must not touch:
        the reward or the checkout would stay, and the points be there again."""
        return self.principal == CARRIER != principal

    @property
    def points(self) -> int:
        """Points redeemed in all."""
        return total(self.parts) + self.debt

    @property
    def unused(self) -> int:
        """Points that were not given back and paid for no purchase."""
        return self.points - self.reversed - self.paid


class Identifier(NamedTuple):
    """An identifier, of the member that it leads to; a blocked one, of the member that it led to."""

    digest: bytes
    kind: str
    member_id: str
    # Why it is blocked; empty where it is not.
    blocked: str = ""


# Those of a member, by digest.
Identifiers = Mapping[bytes, Identifier]

# Points of each lot that lapsed, less those set against a return or restored since.
LapsedLots = Mapping[LotKey, int]


def evolve_member(member: Member | None, event: Event) -> Member:
    """The member after an event."""
    if event.kind is EntryKind.MEMBER_JOINED:
        member = Member(
            member_id=event.member_id,
            joined_time=event.occurred_time,
            channel=event.channel,
            activity_time=event.occurred_time,
            market=event.market,
        )
    assert member is not None, "a member joins before anything else happens to it"
    match event.kind:
        case (
            EntryKind.REQUEST_REFUSED
            | EntryKind.MEMBERSHIP_FEE_RECORDED
            | EntryKind.IDENTIFIER_LINKED
            | EntryKind.IDENTIFIER_UNLINKED
        ):
            return member
        case EntryKind.MEMBER_ERASED:
            return _erased(member, event.occurred_time)
        case EntryKind.MEMBER_RESIGNED:
            return member._replace(absences=(*member.absences, Absence(event.occurred_time)))
        case EntryKind.MEMBER_REJOINED:
            *earlier, last = member.absences
            return member._replace(absences=(*earlier, last._replace(back=event.occurred_time)))
        case EntryKind.EARNING_CLASS_SET:
            assert event.effective_time is not None
            added_class = EarningClass(
                sequence=event.sequence, name=event.earning_class, effective_time=event.effective_time
            )
            return member._replace(classes=(*member.classes, added_class))
        case EntryKind.HOLD_EXTENDED:
            assert event.expire_time is not None
            holds = [
                hold._replace(expires=event.expire_time) if hold.hold_id == event.reference else hold
                for hold in member.holds
            ]
            return member._replace(holds=tuple(holds))
        case EntryKind.ADJUSTMENT_REQUESTED:
            assert event.author is not None
            awaited = AwaitedAdjustment(
                event.request_id,
                event.requested_points,
                event.author.acting,
                Flag.RESTORES_EXPIRED in event.flags,
                event.author.principal,
            )
            return member._replace(awaited=(*member.awaited, awaited))
        case EntryKind.ADJUSTMENT_DECLINED:
            return member._replace(awaited=_still_awaited(member.awaited, event))
    return _posted(member, event)


def _erased(member: Member, time: datetime) -> Member:
    """The member without points and debt, and away for good."""
    left = member.absences if member.resigned_time is not None else (*member.absences, Absence(time))
    return member._replace(
        pending=Lots.EMPTY, lots=Lots.EMPTY, holds=(), debt=0, awaited=(), absences=left, erased_time=time
    )


def _still_awaited(awaited: tuple[AwaitedAdjustment, ...], event: Event) -> tuple[AwaitedAdjustment, ...]:
    """What still waits after an event that approves or declines an adjustment, or makes one at once."""
    return tuple([one for one in awaited if one.adjustment_id != event.reference])


# What is the member's own doing, and keeps its points from lapsing by inactivity (§12.9).
_ACTIVITY = (
    EntryKind.PURCHASE_RECORDED,
    EntryKind.POINTS_REDEEMED,
    EntryKind.HOLD_CAPTURED,
    EntryKind.ACTIVITY_RECORDED,
)
# What counts for the limit of a day.
_BY_HAND = (EntryKind.POINTS_ADJUSTED, EntryKind.POINTS_RESTORED)


def _posted(member: Member, event: Event) -> Member:
    pending, lots = member.pending, member.lots
    held = Lots.EMPTY
    debt, earned, redeemed = member.debt, member.earned, member.redeemed
    adjusted = 0
    hold_id = event.reference or event.request_id
    hold = None
    for account, points, lot in event.postings:
        match account:
            case Account.AVAILABLE:
                lots = lots.added(lot, points)
            case Account.PENDING:
                pending = pending.added(lot, points)
            case Account.HELD:
                if hold is None:
                    hold = member.hold(hold_id)
                    held = hold.lots if hold is not None else Lots.EMPTY
                    hold = hold or Hold(hold_id, event.expire_time or event.occurred_time, Lots.EMPTY)
                held = held.added(lot, points)
            case Account.DEBT:
                debt += points
            case Account.ISSUED:
                earned += points
            case Account.REDEEMED:
                redeemed += points
            case Account.ADJUSTED:
                adjusted += points
            case Account.EXPIRED:
                # Asked of entries by hand alone: what they restore.
                adjusted -= points
    adjusted_day, adjusted_before, awaited = member.adjusted_day, member.adjusted, member.awaited
    if event.kind in _BY_HAND:
        awaited = _still_awaited(awaited, event)
        assert event.adjusted_day is not None
        if event.adjusted_day != adjusted_day:
            adjusted_day, adjusted_before = event.adjusted_day, 0
        adjusted_before += abs(adjusted)
    activity = member.activity_time
    if event.kind in _ACTIVITY and event.occurred_time > activity:
        activity = event.occurred_time
    return Member(
        member_id=member.member_id,
        joined_time=member.joined_time,
        channel=member.channel,
        pending=pending,
        lots=lots,
        holds=member.holds if hold is None else _with_hold(member.holds, hold._replace(lots=held)),
        debt=debt,
        earned=earned,
        redeemed=redeemed,
        purchases=member.purchases + (event.kind is EntryKind.PURCHASE_RECORDED),
        activity_time=activity,
        adjusted_day=adjusted_day,
        adjusted=adjusted_before,
        awaited=awaited,
        classes=member.classes,
        version=member.version,
        market=member.market,
        absences=member.absences,
        erased_time=member.erased_time,
    )


def _with_hold(holds: tuple[Hold, ...], changed: Hold) -> tuple[Hold, ...]:
    """The holds with one of them as it is now; one that holds nothing is gone."""
    others = [hold for hold in holds if hold.hold_id != changed.hold_id]
    if changed.lots:
        place = next((i for i, hold in enumerate(holds) if hold.hold_id == changed.hold_id), len(others))
        others.insert(place, changed)
    return tuple(others)


def evolve_purchase(purchase: Purchase | None, event: Event) -> Purchase | None:
    """The purchase that an event names, after it; None where the event leaves no trace on one."""
    if not event.purchase_id:
        return purchase
    match event.kind:
        case EntryKind.PURCHASE_RECORDED:
            # Nothing but what waits for a purchase is known before it.
            lot = _lot_of(event)
            return Purchase(
                purchase_id=event.purchase_id,
                occurred_time=event.occurred_time,
                currency=event.currency,
                amount=event.amount,
                goods_paid=event.goods_paid or 0,
                grants=tuple([Grant(rule, lot) for rule in event.rules]),
                waiting=purchase.waiting if purchase is not None else (),
                points_payment=event.points_payment,
            )
        case EntryKind.POINTS_AWARDED if purchase is not None:
            lot = _lot_of(event)
            return purchase._replace(
                grants=(*purchase.grants, *[Grant(rule, lot, since=purchase.returned) for rule in event.rules])
            )
        case EntryKind.RETURN_WAITING:
            known = purchase or Purchase(purchase_id=event.purchase_id)
            waiting = WaitingReturn(
                request_id=event.request_id,
                occurred_time=event.occurred_time,
                amount=event.amount,
                goods=event.goods_paid,
                reason=event.reason,
                channel=event.channel,
                lines=event.returned_lines,
                exchange_id=event.exchange_id,
                author=event.author,
                currency=event.currency,
            )
            return known._replace(waiting=(*known.waiting, waiting))
        case EntryKind.RETURN_RECORDED | EntryKind.PURCHASE_VOIDED:
            assert purchase is not None, "what comes back was bought"
            given_back = event.points_payment or PointsPayment("", 0, 0)
            return purchase._replace(
                grants=_taken(purchase, event),
                returned=purchase.returned + event.amount,
                returned_goods=purchase.returned_goods + (event.goods_paid or 0),
                returned_lines=_with_lines(purchase.returned_lines, event.returned_lines),
                voided=event.kind is EntryKind.PURCHASE_VOIDED,
                waiting=_without(purchase.waiting, event.request_id),
                payment_points_returned=purchase.payment_points_returned + given_back.points,
                payment_amount_returned=purchase.payment_amount_returned + given_back.amount,
            )
        case EntryKind.REQUEST_REFUSED if purchase is not None:
            return purchase._replace(waiting=_without(purchase.waiting, event.request_id))
        case _:
            return purchase


def _lot_of(event: Event) -> LotKey:
    """The lot that an event granted points to; what paid debt lies in none."""
    return next((lot for account, _, lot in event.postings if account in (Account.PENDING, Account.AVAILABLE)), UNDATED)


def _taken(purchase: Purchase, event: Event) -> tuple[Grant, ...]:
    """The grants after a return: its first rules are those of the grants, in their order."""
    return tuple(
        [
            grant._replace(back=grant.back + rule.base if grant.rule.lines else 0, taken=grant.taken - rule.points)
            for grant, rule in zip(purchase.grants, event.rules, strict=False)
        ]
    )


def _with_lines(before: tuple[LineReturn, ...], more: tuple[LineReturn, ...]) -> tuple[LineReturn, ...]:
    if not more:
        return before
    lines = {line.number: line for line in before}
    for number, quantity, amount in more:
        known = lines.get(number, LineReturn(number, 0, 0))
        lines[number] = LineReturn(number, known.quantity + quantity, known.amount + amount)
    return tuple(sorted(lines.values()))


def _without(waiting: tuple[WaitingReturn, ...], request_id: str) -> tuple[WaitingReturn, ...]:
    return tuple([one for one in waiting if one.request_id != request_id])


def redemption_of(event: Event) -> str:
    """The redemption that an event makes, pays with or gives back of; empty for any other event."""
    match event.kind:
        case EntryKind.POINTS_REDEEMED | EntryKind.HOLD_CAPTURED:
            return event.request_id
        case EntryKind.REDEMPTION_REVERSED:
            return event.reference
        case EntryKind.PURCHASE_RECORDED if event.points_payment is not None:
            return event.points_payment.redemption_id
        case _:
            return ""


def evolve_redemption(redemption: Redemption | None, event: Event) -> Redemption | None:
    """The redemption that an event makes, pays with or gives back of; any other event leaves it as it is."""
    match event.kind:
        case EntryKind.POINTS_REDEEMED | EntryKind.HOLD_CAPTURED:
            return Redemption(
                redemption_id=event.request_id,
                parts=tuple(
                    [
                        Lot(lot, -points)
                        for account, points, lot in event.postings
                        if account in (Account.AVAILABLE, Account.HELD)
                    ]
                ),
                debt=event.posted(Account.DEBT),
                principal=event.author.principal if event.author is not None else "",
            )
        case EntryKind.REDEMPTION_REVERSED:
            assert redemption is not None, "what is given back was redeemed"
            given = -event.posted(Account.REDEEMED)
            # What names a purchase gives back what paid for it.
            paid = redemption.paid - given if event.purchase_id else redemption.paid
            return replace(redemption, reversed=redemption.reversed + given, paid=paid)
        case EntryKind.PURCHASE_RECORDED if redemption is not None and event.points_payment is not None:
            return replace(redemption, paid=redemption.paid + event.points_payment.points)
        case _:
            return redemption


def evolve_lapsed(lapsed: LapsedLots, event: Event) -> LapsedLots:
    """The lapsed lots of a member after an event."""
    expired = [(lot, points) for account, points, lot in event.postings if account is Account.EXPIRED]
    if not expired:
        return lapsed
    after = dict(lapsed)
    for lot, points in expired:
        after[lot] = after.get(lot, 0) + points
    return after


_OF_IDENTIFIERS = (EntryKind.IDENTIFIER_LINKED, EntryKind.IDENTIFIER_UNLINKED)


def evolve_identifiers(own: Identifiers, event: Event) -> Identifiers:
    """The identifiers of a member after an event, which tells them by its detail: they are forgotten with it."""
    if event.kind is EntryKind.MEMBER_ERASED:
        return {}
    if event.kind not in _OF_IDENTIFIERS or event.detail is None:
        return own
    digest = bytes.fromhex(event.detail["identifier"])
    if event.kind is EntryKind.IDENTIFIER_UNLINKED and event.reason == UnlinkReason.OTHER:
        return {one: known for one, known in own.items() if one != digest}
    # What was linked has no reason; any other reason than that blocks it, for good.
    return {**own, digest: Identifier(digest, event.reference, event.member_id, event.reason)}


class Known(NamedTuple):
    """All that a command needs to be decided, and what becomes of it."""

    member: Member | None = None
    purchase: Purchase | None = None
    redemption: Redemption | None = None
    lapsed: LapsedLots = MappingProxyType({})
    # The detail of the purchase (its lines, its store); None where it was erased.
    bought: Mapping[str, Any] | None = None
    # Of a command that is about an identifier: what is known of it; and all that its member has or had.
    identifier: Identifier | None = None
    identifiers: Identifiers = MappingProxyType({})

    def after(self, event: Event) -> Known:
        """What is known after an event."""
        member = evolve_member(self.member, event)
        lapsed = evolve_lapsed(self.lapsed, event)
        purchase = evolve_purchase(self.purchase, event) if event.purchase_id else self.purchase
        redemption = evolve_redemption(self.redemption, event)
        return Known(
            member=member,
            purchase=purchase,
            redemption=redemption,
            lapsed=lapsed,
            bought=self.bought,
            identifier=self.identifier,
            identifiers=evolve_identifiers(self.identifiers, event),
        )
