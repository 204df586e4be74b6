"""What points paid comes back: never more than that, all of it with all of the purchase, in whatever parts."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.ledger.domain.commands import Line, LineKind
from services.ledger.domain.events import Event, LineReturn, PointsPayment
from tests.ledger_rules import Shop, local, programme

NOON = local(2026, 5, 1, 12)
PROGRAMMES = [
    programme(),
    programme(base="total"),
    programme(earning='bonuses: [{id: dairy, multiplier: "1.75", departments: [DAIRY]}, {id: gift, points: 31}]'),
    programme(earning="pending: P14D"),
    programme("returns: {shortfall: forgive}"),
]

amounts = st.one_of(st.integers(1, 20), st.integers(1, 20_000))


@st.composite
def lines(draw: st.DrawFn) -> Line:
    kind = draw(st.sampled_from([LineKind.GOODS, LineKind.GOODS, LineKind.GOODS, *LineKind]))
    department = draw(st.sampled_from(["DAIRY", ""]))
    return Line("sku", "", department, "", draw(st.integers(1, 4)), draw(st.one_of(amounts, st.just(0))), kind)


def refund(event: Event) -> tuple[int, int]:
    """The money to hand out, and the points given back."""
    given_back = event.points_payment or PointsPayment("", 0, 0)
    return event.amount - given_back.amount, given_back.points


@given(
    data=st.data(),
    rules=st.sampled_from(PROGRAMMES),
    receipt=st.lists(lines(), min_size=1, max_size=5).filter(
        lambda lines: any(line.amount for line in lines if line.kind is LineKind.GOODS)
    ),
    points=st.integers(1, 5000),
)
@settings(max_examples=400, deadline=None)
def test_parts_of_a_purchase_bring_back_what_paid_for_them(
    data: st.DataObject, rules: Any, receipt: list[Line], points: int
) -> None:
    shop = Shop(rules, NOON)
    shop.award(points)
    goods = sum(line.amount for line in receipt if line.kind is LineKind.GOODS)
    amount = sum(line.amount for line in receipt)
    cents = data.draw(st.integers(1, goods), "cents")
    sent = data.draw(st.sampled_from([tuple(receipt), ()]), "lines") if goods == amount else tuple(receipt)
    bought = shop.buy(amount, *sent, paid=(shop.redeem(points), points, cents))
    assert bought.goods_paid == goods - cents
    money = given_back = 0
    for _ in range(data.draw(st.integers(0, 6), "parts")):
        event = a_part(data, shop, sent)
        if event.reason != "damaged":
            continue
        part_money, part_points = refund(event)
        assert part_money >= 0
        assert part_points >= 0
        assert event.goods_paid is not None
        assert 0 <= event.goods_paid <= part_money
        money, given_back = money + part_money, given_back + part_points
    assert money <= amount - cents
    assert given_back <= points
    rest = shop.purchase_of("a")
    if rest.returned < amount:
        last = shop.void() if data.draw(st.booleans(), "voided") else shop.bring_back(amount - rest.returned)
        money, given_back = money + refund(last)[0], given_back + refund(last)[1]
    assert (money, given_back) == (amount - cents, points)
    assert shop.balance == (0, points, 0, 0)
    assert shop.member.redeemed == 0


def a_part(data: st.DataObject, shop: Shop, receipt: tuple[Line, ...]) -> Event:
    """A part comes back: by amount, by lines of the till's own, or by lines of the purchase."""
    bought = shop.purchase_of("a")
    way = data.draw(st.sampled_from(["amount", "own lines", "lines", "lines"] if receipt else ["amount"]), "way")
    if way == "lines":
        number = data.draw(st.integers(1, len(receipt)), "number")
        line = receipt[number - 1]
        if data.draw(st.booleans(), "by pieces"):
            return shop.bring_back(named=(LineReturn(number, data.draw(st.integers(1, line.quantity)), 0),))
        return shop.bring_back(named=(LineReturn(number, 0, data.draw(st.integers(1, line.amount or 1))),))
    left = bought.amount - bought.returned
    amount = data.draw(st.integers(1, left or 1), "amount")
    if way == "amount":
        return shop.bring_back(amount)
    cut = data.draw(st.integers(0, amount), "cut")
    kinds = data.draw(st.tuples(*[st.sampled_from(list(LineKind))] * 2), "kinds")
    own = [Line("", "", "", "", 1, part, kind) for part, kind in zip((cut, amount - cut), kinds, strict=True)]
    return shop.bring_back(amount, *own)
