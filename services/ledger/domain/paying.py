"""What points pay of a purchase: for which lines, out of which redemption, and what of it comes back (DESIGN §12.1-4).

Points pay for goods alone. What they pay is spread over the lines of goods by largest remainder, and so are the points;
pieces of a line bring their part of its share, and a return by amount its part of all goods. Whatever the order, the
last return brings exactly what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from services.ledger.domain.catching_up import catch_up, seen_at
from services.ledger.domain.commands import Line, LineKind, RecordPurchase
from services.ledger.domain.events import EntryKind, Event, PointsPayment
from services.ledger.domain.making import make
from services.ledger.domain.redeeming import giving_back
from services.ledger.domain.state import Known, Purchase, Redemption
from services.ledger.errors import PaymentExceedsGoodsError, Refusal
from services.programme.versions import Versions


def check_payment(command: RecordPurchase, goods: int) -> int:
    """What points pay of the goods of a purchase; raises PaymentExceedsGoodsError where it is more than they are."""
    if command.points_payment is None:
        return 0
    if command.points_payment.amount > goods:
        raise PaymentExceedsGoodsError
    return command.points_payment.amount


def why_not_paid(redemption: Redemption | None, payment: PointsPayment, principal: str) -> Refusal | None:
    """Why a redemption cannot have paid, as a principal says; None where it can, or where a quote names none."""
    if not payment.redemption_id:
        return None
    if redemption is None:
        return Refusal.REDEMPTION_UNKNOWN
    if redemption.others(principal):
        return Refusal.REDEMPTION_OF_REWARD
    return Refusal.PAYMENT_EXCEEDS_REDEMPTION if payment.points > redemption.unused else None


def by_line(total: int, lines: Sequence[Line]) -> list[int]:
    """What of a total, in points or minor units, goes with each line of a receipt."""
    return _spread(total, [line.amount if LineKind(line.kind) is LineKind.GOODS else 0 for line in lines])


def share_of(payment: PointsPayment, purchase: Purchase, goods: int, named: tuple[int, int] | None) -> PointsPayment:
    """What of a payment a return brings back, with which so many goods have come back in all, at their full value.

    `named`: the points and minor units that go with the lines that it names; None: it names none.
    """
    whole = purchase.goods_paid + payment.amount
    points_before, amount_before = purchase.payment_points_returned, purchase.payment_amount_returned
    if goods == whole:
        points, amount = payment.points, payment.amount
    elif named is None:
        points, amount = payment.points * goods // whole, payment.amount * goods // whole
    else:
        points, amount = points_before + named[0], amount_before + named[1]
    # Lines and amounts in turn need not agree to the cent: what is paid with points of what is left is never more
    # than that, and what comes back now is not either.
    amount = max(amount, amount_before, payment.amount - (whole - goods))
    amount = min(amount, payment.amount, goods - purchase.returned_goods)
    points = min(max(points, points_before), payment.points)
    return PointsPayment(payment.redemption_id, points - points_before, amount - amount_before)


def give_back(
    versions: Versions, known: Known, payment: PointsPayment, instant: datetime, **more: Any
) -> tuple[list[Event], Known]:
    """The events that give the points of a payment back, and what is known after them: first the lots have them again,
    then those that lapsed meanwhile lapse at once."""
    if not payment.points:
        return [], known
    assert known.member is not None
    assert known.redemption is not None, "what paid was redeemed"
    given = make(
        EntryKind.REDEMPTION_REVERSED,
        known.member,
        instant,
        postings=giving_back(versions.at(instant), known.member, known.redemption, payment.points, instant),
        reference=payment.redemption_id,
        **more,
    )
    known = known.after(given)
    assert known.member is not None
    lapsed, member = catch_up(versions, seen_at(versions, known.member, instant), instant, since=instant)
    for event in lapsed:
        known = known.after(event)
    return [given, *lapsed], known._replace(member=member)


def _spread(total: int, weights: Sequence[int]) -> list[int]:
    """A total by largest remainder over weights; of equal remainders the first."""
    whole = sum(weights)
    if not total or not whole:
        return [0] * len(weights)
    shares = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda place: -(total * weights[place] % whole))
    for place in by_remainder[: total - sum(shares)]:
        shares[place] += 1
    return shares
