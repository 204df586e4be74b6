"""What comes back: by amount, line or quantity, and what that takes of the points a purchase gave (DESIGN §12.3-5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from services.ledger.domain.commands import Line, LineKind, RecordReturn, VoidPurchase
from services.ledger.domain.earning import base_rule, checked_goods, exchange_at, points_at
from services.ledger.domain.events import (
    UNDATED,
    Account,
    Author,
    EntryKind,
    Event,
    LineReturn,
    LotKey,
    PointsPayment,
    Posting,
    RulePoints,
)
from services.ledger.domain.lots import active, postings, total
from services.ledger.domain.making import answer, bounded, make, refuse, refused
from services.ledger.domain.paying import by_line, give_back, share_of
from services.ledger.domain.state import Grant, Known, Member, Purchase, WaitingReturn
from services.ledger.errors import LinesDoNotAddUpError, Refusal
from services.programme.model import Base, Programme, Shortfall
from services.programme.versions import Versions

MAX_WAITING_RETURNS: Final = 100
# How long after it happened a till may still send a void: a claimed day alone would undo any purchase.
VOID_SENT_WITHIN: Final = timedelta(days=1)


class _Back(NamedTuple):
    """What comes back of a purchase now. Lines that were free come back for an amount of 0."""

    amount: int
    # Without what points had paid of them.
    goods: int
    lines: tuple[LineReturn, ...]
    # What points had paid of each of the lines.
    paid: tuple[int, ...] = ()
    # What points had paid of all that comes back.
    points_payment: PointsPayment | None = None


class _Named(NamedTuple):
    """Lines of a purchase that come back, with what their quantities are worth."""

    lines: tuple[LineReturn, ...]
    # Goods among them.
    goods: int
    # What points had paid of each.
    paid: tuple[int, ...]
    # The points that had paid them.
    points: int


def record_return(
    versions: Versions, known: Known, command: RecordReturn, occurred: datetime, instant: datetime, **marks: Any
) -> list[Event]:
    """A return: unlinked, of a known purchase, or of one that has not arrived and is waited for.

    Its event comes last; before it, at `instant`, those that give back the points that had paid.
    """
    programme = versions.at(occurred)
    member, purchase = known.member, known.purchase
    assert member is not None
    if command.returned_lines and not command.amount:
        # The currency is the purchase's, whichever that is.
        currency, goods = programme.market(member.market).currency, None
    else:
        currency = command.currency
        if purchase is None or currency != purchase.currency:
            exchange_at(programme, member, currency, occurred)
        goods = checked_goods(command)
    if not command.purchase_id:
        if command.returned_lines:
            raise LinesDoNotAddUpError("returned_lines name lines of a purchase; purchase_id says of which")
        return [_unlinked(programme, member, command, goods, occurred, marks)]
    waiting = WaitingReturn(
        request_id=command.request_id,
        occurred_time=occurred,
        amount=command.amount,
        goods=goods,
        reason=command.reason,
        channel=command.channel,
        lines=command.returned_lines,
        exchange_id=command.exchange_id,
        author=Author(command.principal, command.on_behalf_of),
        currency=currency,
    )
    if purchase is not None and purchase.arrived:
        *given, event = linked_return(versions, known, waiting, instant, **marks)
        if event.kind is EntryKind.RETURN_RECORDED:
            event = event._replace(detail=detail_of(command))
        return [*given, event]
    if purchase is not None and len(purchase.waiting) >= MAX_WAITING_RETURNS:
        return [refuse(command, member, Refusal.TOO_MANY_WAITING_RETURNS, occurred)]
    return [
        answer(
            command,
            EntryKind.RETURN_WAITING,
            member,
            occurred,
            purchase_id=command.purchase_id,
            currency=currency,
            amount=command.amount,
            goods_paid=goods,
            reason=command.reason,
            channel=command.channel,
            returned_lines=command.returned_lines,
            exchange_id=command.exchange_id,
            author=waiting.author,
            detail=detail_of(command),
            **marks,
        )
    ]


def linked_return(
    versions: Versions, known: Known, waiting: WaitingReturn, instant: datetime, **marks: Any
) -> list[Event]:
    """A return of a known purchase, or its refusal; before it what gives back the points that had paid."""
    member, purchase = known.member, known.purchase
    assert member is not None
    assert purchase is not None
    back = _what_comes_back(purchase, waiting, known.bought)
    if isinstance(back, Refusal):
        return [
            refused(
                member,
                back,
                waiting.occurred_time,
                request_id=waiting.request_id,
                purchase_id=purchase.purchase_id,
                author=waiting.author,
            )
        ]
    return _brought_back(
        versions,
        known,
        back,
        instant,
        kind=EntryKind.RETURN_RECORDED,
        occurred=waiting.occurred_time,
        request_id=waiting.request_id,
        currency=purchase.currency,
        reason=waiting.reason,
        channel=waiting.channel,
        exchange_id=waiting.exchange_id,
        author=waiting.author,
        **marks,
    )


def void(
    versions: Versions, known: Known, command: VoidPurchase, occurred: datetime, now: datetime, **marks: Any
) -> list[Event]:
    """A purchase is undone whole, in its own store and while its own local day lasts (§12.4).

    Its event comes last; before it, at `now`, those that give back the points that had paid.
    """
    member, purchase = known.member, known.purchase
    assert member is not None
    refusal = _why_not_void(versions.at(occurred), known, command, occurred, now)
    if refusal is not None:
        return [refuse(command, member, refusal, occurred)]
    assert purchase is not None
    goods = purchase.goods_paid + purchase.paid_by_points
    return _brought_back(
        versions,
        known,
        _back(purchase, purchase.amount - purchase.returned, goods),
        now,
        kind=EntryKind.PURCHASE_VOIDED,
        occurred=occurred,
        request_id=command.request_id,
        currency=purchase.currency,
        reason=command.reason,
        **marks,
    )


def detail_of(command: Any) -> dict[str, Any] | None:
    """What can be forgotten of a purchase or return, without what is empty; a line is an array of `Line`'s fields."""
    detail: dict[str, Any] = {}
    if command.lines:
        detail["lines"] = command.lines
    if command.store_id:
        detail["store_id"] = command.store_id
    if command.receipt_number:
        detail["receipt_number"] = command.receipt_number
    return detail or None


def _unlinked(
    programme: Programme,
    member: Member,
    command: RecordReturn,
    goods: int | None,
    occurred: datetime,
    marks: Mapping[str, Any],
) -> Event:
    """A return of an unknown purchase: it always counts, and takes points at the base rate of today (§12.5)."""
    back = command.amount if goods is None else goods
    base = command.amount if programme.earning.base is Base.TOTAL else back
    counted = 0 if occurred <= member.joined_time else base
    rule = base_rule(programme, member, counted, command.currency, occurred)
    parts = member.lots.drawn(rule.points)
    owed = rule.points - total(parts)
    legs = [*postings(Account.AVAILABLE, parts, -1), Posting(Account.DEBT, owed), Posting(Account.ISSUED, -rule.points)]
    return answer(
        command,
        EntryKind.RETURN_RECORDED,
        member,
        occurred,
        postings=[leg for leg in legs if leg.points],
        currency=command.currency,
        amount=command.amount,
        goods_paid=back,
        rules=(rule._replace(points=-rule.points),),
        reason=command.reason,
        channel=command.channel,
        exchange_id=command.exchange_id,
        detail=detail_of(command),
        **marks,
    )


def _why_not_void(
    programme: Programme, known: Known, command: VoidPurchase, occurred: datetime, now: datetime
) -> Refusal | None:
    purchase = known.purchase
    if purchase is None or not purchase.arrived:
        return Refusal.PURCHASE_UNKNOWN
    if purchase.voided:
        return Refusal.PURCHASE_VOIDED
    if purchase.returned == purchase.amount:
        return Refusal.PURCHASE_RETURNED
    if known.bought is None:
        return Refusal.DETAIL_ERASED
    if known.bought.get("store_id", "") != command.store_id:
        return Refusal.VOID_OTHER_STORE
    sold = purchase.occurred_time
    assert sold is not None
    same_day = sold <= occurred and programme.local_day(sold) == programme.local_day(occurred)
    if not same_day or now - occurred > VOID_SENT_WITHIN:
        return Refusal.VOID_TOO_LATE
    return None


def _what_comes_back(purchase: Purchase, waiting: WaitingReturn, bought: Mapping[str, Any] | None) -> _Back | Refusal:
    if purchase.voided:
        return Refusal.PURCHASE_VOIDED
    if waiting.amount and waiting.currency != purchase.currency:
        return Refusal.RETURN_CURRENCY_DIFFERS
    amount, goods = waiting.amount, waiting.goods
    named: _Named | None = None
    if waiting.lines:
        if bought is None:
            return Refusal.DETAIL_ERASED
        resolved = _resolved(purchase, waiting.lines, bought.get("lines", ()))
        if isinstance(resolved, Refusal):
            return resolved
        named, goods = resolved, resolved.goods
        sum_of_lines = sum(line.amount for line in named.lines)
        if amount and amount != sum_of_lines:
            return Refusal.RETURNED_LINES_DIFFER
        amount = sum_of_lines
    returned = purchase.returned + amount
    if returned > purchase.amount:
        return Refusal.RETURN_EXCEEDS_PURCHASE
    before = purchase.returned_goods + purchase.payment_amount_returned
    whole = purchase.goods_paid + purchase.paid_by_points
    # No lines: goods come back in proportion, counted over all returns so far, so that nothing is lost.
    goods_back = whole * returned // purchase.amount if goods is None else before + goods
    # Whatever the caller calls goods: they are no more than what comes back, and what is left of them is no more than
    # what is left of all.
    goods_back = max(min(goods_back, before + amount, whole), whole - (purchase.amount - returned), before)
    return _back(purchase, amount, goods_back, named)


def _back(purchase: Purchase, amount: int, goods: int, named: _Named | None = None) -> _Back:
    """What comes back with so many goods in all, at their full value, and what points had paid of it."""
    payment = purchase.points_payment
    lines, paid = (named.lines, named.paid) if named is not None else ((), ())
    if payment is None:
        return _Back(amount, goods - purchase.returned_goods, lines, paid)
    share = share_of(payment, purchase, goods, (named.points, sum(named.paid)) if named is not None else None)
    before = purchase.returned_goods + purchase.payment_amount_returned
    told = share if share.points or share.amount else None
    return _Back(amount, goods - before - share.amount, lines, paid, told)


def _resolved(purchase: Purchase, wanted: Sequence[LineReturn], bought: Sequence[Sequence[Any]]) -> _Named | Refusal:
    """The lines that are named, with the amounts that their quantities are worth."""
    before = {line.number: line for line in purchase.returned_lines}
    payment = purchase.points_payment or PointsPayment("", 0, 0)
    all_lines = [Line(*line) for line in bought]
    all_paid, all_points = by_line(payment.amount, all_lines), by_line(payment.points, all_lines)
    resolved: list[LineReturn] = []
    paid: list[int] = []
    goods = points = 0
    for number, quantity, amount in wanted:
        if not 0 < number <= len(bought):
            return Refusal.LINE_UNKNOWN
        line = all_lines[number - 1]
        known = before.get(number, LineReturn(number, 0, 0))
        if quantity:
            # What its pieces so far are worth, so that the last piece is worth exactly the rest.
            amount = max(line.amount * (known.quantity + quantity) // line.quantity - known.amount, 0)
        now = LineReturn(number, known.quantity + quantity, known.amount + amount)
        if now.quantity > line.quantity or now.amount > line.amount:
            return Refusal.LINE_RETURN_EXCEEDS_PURCHASE
        before[number] = now
        resolved.append(LineReturn(number, quantity, amount))
        if LineKind(line.kind) is LineKind.GOODS:
            goods += amount
        paid.append(_part(all_paid[number - 1], line, known, now))
        points += _part(all_points[number - 1], line, known, now)
    return _Named(tuple(resolved), goods, tuple(paid), points)


def _part(share: int, line: Line, before: LineReturn, now: LineReturn) -> int:
    """What of a line's share goes with what comes back of it now; its last part is what is left."""
    return share * now.amount // line.amount - share * before.amount // line.amount if line.amount else 0


def _brought_back(
    versions: Versions, known: Known, back: _Back, instant: datetime, *, occurred: datetime, **more: Any
) -> list[Event]:
    """The events of a linked return: points that had paid are given back first, so that they may be taken."""
    assert known.member is not None
    assert known.purchase is not None
    given: list[Event] = []
    now = known
    if back.points_payment is not None:
        given, now = give_back(
            versions,
            known,
            back.points_payment,
            instant,
            purchase_id=known.purchase.purchase_id,
            request_id=more["request_id"],
            reason=more["reason"],
            author=more.get("author"),
        )
    event = _taken_back(versions.at(occurred), now, back, occurred=occurred, **more)
    if event.kind is EntryKind.REQUEST_REFUSED:
        # Nothing is given back for what does not come back.
        return [
            refused(
                known.member,
                Refusal(event.reason),
                occurred,
                request_id=event.request_id,
                purchase_id=event.purchase_id,
                author=event.author,
            )
        ]
    return [*given, event]


def _taken_back(
    programme: Programme, known: Known, back: _Back, *, kind: EntryKind, occurred: datetime, **more: Any
) -> Event:
    """The event of a linked return.

    The points that remain are those that the rules give for what remains, so that partial returns in any order
    take what the purchase gave, and the last one takes exactly the rest (§12.3).
    """
    member, purchase = known.member, known.purchase
    assert member is not None
    assert purchase is not None
    rules = [_rule_back(purchase, grant, back) for grant in purchase.grants]
    taking = _Taking(programme, known)
    for grant, rule in zip(purchase.grants, rules, strict=True):
        taking.take(grant.lot, -rule.points)
    shortfall = taking.take_from_others()
    wanted = -sum(rule.points for rule in rules)
    if shortfall and programme.shortfall is Shortfall.REFUSE:
        return refused(
            member,
            Refusal.POINTS_SPENT,
            occurred,
            request_id=more["request_id"],
            purchase_id=purchase.purchase_id,
            author=more.get("author"),
        )
    if shortfall and programme.shortfall is Shortfall.FORGIVE:
        rules.append(RulePoints(rule="forgiven", points=shortfall))
        wanted, shortfall = wanted - shortfall, 0
    legs = [*taking.legs(), Posting(Account.DEBT, shortfall), Posting(Account.ISSUED, -wanted)]
    event = make(
        kind,
        member,
        occurred,
        postings=[leg for leg in legs if leg.points],
        purchase_id=purchase.purchase_id,
        amount=back.amount,
        goods_paid=back.goods,
        rules=tuple(rules),
        returned_lines=back.lines,
        points_payment=back.points_payment,
        **more,
    )
    return bounded(member, event)


def _rule_back(purchase: Purchase, grant: Grant, back: _Back) -> RulePoints:
    """What a return takes of what one rule gave, as negative points; its base is what came back of the rule's."""
    rule = grant.rule
    returned = purchase.returned + back.amount
    if rule.lines:
        before = grant.back
        if returned == purchase.amount:
            now = rule.base
        elif back.lines:
            counted = [
                (line.amount, paid)
                for line, paid in zip(back.lines, back.paid, strict=True)
                if line.number in rule.lines
            ]
            now = before + sum(amount if _counts_all(purchase) else amount - paid for amount, paid in counted)
        else:
            now = max(rule.base * returned // purchase.amount, before)
        now = min(now, rule.base)
    elif rule.base == purchase.amount:
        before, now = purchase.returned, returned
    else:
        before, now = purchase.returned_goods, purchase.returned_goods + back.goods
    if returned == purchase.amount:
        remaining = 0
    elif rule.rate_per:
        # At the purchase's rate, whatever it is today (§12.17).
        remaining = points_at(rule, rule.base - now)
    else:
        # A fixed bonus falls in proportion to what came back since it was given.
        remaining = rule.points * (purchase.amount - returned) // (purchase.amount - grant.since)
    taken = max(rule.points - remaining - grant.taken, 0)
    return rule._replace(points=-taken, base=now - before if rule.base else 0)


def _counts_all(purchase: Purchase) -> bool:
    """Whether the rules of a purchase count what points paid, too (§12.1): the first of them is the base rule."""
    return purchase.grants[0].rule.base == purchase.amount


class _Taking:
    """Takes points back: pending ones; what lapsed already is only un-issued; then their lot, and other lots."""

    def __init__(self, programme: Programme, known: Known) -> None:
        assert known.member is not None
        assert known.purchase is not None
        assert known.purchase.occurred_time is not None
        self._day = programme.local_day(known.purchase.occurred_time)
        self._lapsed = dict(known.lapsed)
        self._pending = dict(known.member.pending)
        self._lots = dict(known.member.lots)
        self._taken: dict[tuple[Account, LotKey], int] = {}
        self._missing = 0

    def take(self, lot: LotKey, points: int) -> None:
        """Takes points that were granted to a lot."""
        settled = active(lot)
        # What is pending has not lapsed.
        points -= self._draw(Account.PENDING, lot, min(points, self._pending.get(lot, 0)))
        for lapsed in self._lapsed_lots(settled):
            points -= self._draw(Account.EXPIRED, lapsed, min(points, self._lapsed[lapsed]))
        points -= self._draw(Account.AVAILABLE, settled, min(points, self._lots.get(settled, 0)))
        self._missing += points

    def take_from_others(self) -> int:
        """Takes what was not there from other lots, in the order they are drawn; the points that are still missing."""
        for lot in list(self._lots):
            self._missing -= self._draw(Account.AVAILABLE, lot, min(self._missing, self._lots[lot]))
        return self._missing

    def legs(self) -> list[Posting]:
        """The postings of all that was taken."""
        return [Posting(account, -points, lot) for (account, lot), points in self._taken.items()]

    def _lapsed_lots(self, lot: LotKey) -> list[LotKey]:
        """Under which lots the points of a lot would have lapsed: undated ones by inactivity since the purchase."""
        if lot != UNDATED:
            return [lot] if lot in self._lapsed else []
        return sorted(
            key for key in self._lapsed if key.expires is None and key.activates and key.activates >= self._day
        )

    def _draw(self, account: Account, lot: LotKey, points: int) -> int:
        if points <= 0:
            return 0
        if account is Account.EXPIRED:
            self._lapsed[lot] -= points
        elif account is Account.PENDING:
            self._pending[lot] -= points
        elif account is Account.AVAILABLE:
            self._lots[lot] -= points
        self._taken[account, lot] = self._taken.get((account, lot), 0) + points
        return points
