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
    Posting,
    RulePoints,
)
from services.ledger.domain.lots import active, postings, total
from services.ledger.domain.making import answer, bounded, make, refuse, refused
from services.ledger.domain.state import Grant, Known, Member, Purchase, WaitingReturn
from services.ledger.errors import LinesDoNotAddUpError, Refusal
from services.programme.model import Base, Programme, Shortfall

MAX_WAITING_RETURNS: Final = 100
# How long after it happened a till may still send a void: a claimed day alone would undo any purchase.
VOID_SENT_WITHIN: Final = timedelta(days=1)


class _Back(NamedTuple):
    """What comes back of a purchase now. Lines that were free come back for an amount of 0."""

    amount: int
    goods: int
    lines: tuple[LineReturn, ...]


def record_return(programme: Programme, known: Known, command: RecordReturn, occurred: datetime, **marks: Any) -> Event:
    """A return: unlinked, of a known purchase, or of one that has not arrived and is waited for."""
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
        return _unlinked(programme, member, command, goods, occurred, marks)
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
        event = linked_return(programme, known, waiting, **marks)
        if event.kind is EntryKind.RETURN_RECORDED:
            event = event._replace(detail=detail_of(command))
        return event
    if purchase is not None and len(purchase.waiting) >= MAX_WAITING_RETURNS:
        return refuse(command, member, Refusal.TOO_MANY_WAITING_RETURNS, occurred)
    return answer(
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


def linked_return(programme: Programme, known: Known, waiting: WaitingReturn, **marks: Any) -> Event:
    """A return of a known purchase, or its refusal."""
    member, purchase = known.member, known.purchase
    assert member is not None
    assert purchase is not None
    back = _what_comes_back(purchase, waiting, known.bought)
    if isinstance(back, Refusal):
        return refused(
            member,
            back,
            waiting.occurred_time,
            request_id=waiting.request_id,
            purchase_id=purchase.purchase_id,
            author=waiting.author,
        )
    return _taken_back(
        programme,
        known,
        back,
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
    programme: Programme, known: Known, command: VoidPurchase, occurred: datetime, now: datetime, **marks: Any
) -> Event:
    """A purchase is undone whole, in its own store and while its own local day lasts (§12.4)."""
    member, purchase = known.member, known.purchase
    assert member is not None
    refusal = _why_not_void(programme, known, command, occurred, now)
    if refusal is not None:
        return refuse(command, member, refusal, occurred)
    assert purchase is not None
    rest = _Back(purchase.amount - purchase.returned, purchase.goods_paid - purchase.returned_goods, ())
    return _taken_back(
        programme,
        known,
        rest,
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
    lines: tuple[LineReturn, ...] = ()
    amount, goods = waiting.amount, waiting.goods
    if waiting.lines:
        if bought is None:
            return Refusal.DETAIL_ERASED
        resolved = _resolved(purchase, waiting.lines, bought.get("lines", ()))
        if isinstance(resolved, Refusal):
            return resolved
        lines, goods = resolved
        sum_of_lines = sum(line.amount for line in lines)
        if amount and amount != sum_of_lines:
            return Refusal.RETURNED_LINES_DIFFER
        amount = sum_of_lines
    returned = purchase.returned + amount
    if returned > purchase.amount:
        return Refusal.RETURN_EXCEEDS_PURCHASE
    if returned == purchase.amount:
        goods_back = purchase.goods_paid
    elif goods is None:
        # No lines: goods come back in proportion, counted over all returns so far, so that nothing is lost.
        goods_back = purchase.goods_paid * returned // purchase.amount
    else:
        goods_back = purchase.returned_goods + goods
    goods = max(min(goods_back, purchase.goods_paid) - purchase.returned_goods, 0)
    return _Back(amount, goods, lines)


def _resolved(
    purchase: Purchase, wanted: Sequence[LineReturn], bought: Sequence[Sequence[Any]]
) -> tuple[tuple[LineReturn, ...], int] | Refusal:
    """The lines with the amounts that their quantities are worth, and the goods among them."""
    before = {line.number: line for line in purchase.returned_lines}
    resolved: list[LineReturn] = []
    goods = 0
    for number, quantity, amount in wanted:
        if not 0 < number <= len(bought):
            return Refusal.LINE_UNKNOWN
        line = Line(*bought[number - 1])
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
    return tuple(resolved), goods


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
            now = before + sum(line.amount for line in back.lines if line.number in rule.lines)
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
