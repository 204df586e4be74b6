"""Points that pay for goods: what earns no more for it, which redemption can pay, and what comes back of it."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from services.ledger.domain.commands import Line
from services.ledger.domain.encoding import decode_body, encode_body
from services.ledger.domain.events import Account, EntryKind, Event, LineReturn, PointsPayment
from services.ledger.domain.paying import by_line
from services.ledger.errors import PaymentExceedsGoodsError
from services.programme import Programme
from tests.ledger_rules import Shop, gift_card, goods, local, programme, shipping

NOON = local(2026, 5, 1, 12)
DAY = timedelta(days=1)
TEN_DAYS = "expiry: {policy: after, period: P10D}"


def shop(points: int = 1000, rules: Programme | None = None) -> Shop:
    """A member with so many points, at noon on 1 May."""
    made = Shop(rules or programme(), NOON)
    made.award(points)
    return made


def pieces(number: int, quantity: int) -> LineReturn:
    return LineReturn(number, quantity, 0)


def worth(number: int, amount: int) -> LineReturn:
    return LineReturn(number, 0, amount)


def refund(event: Event) -> tuple[int, int]:
    """What a till hands out for what came back, and the points given back."""
    given = event.points_payment or PointsPayment("", 0, 0)
    return event.amount - given.amount, given.points


def basket() -> Shop:
    """Two articles of 42.50 and a gift card of 50.00; 500 of 1,000 points pay 5.00."""
    made = shop()
    held = made.hold(500)
    captured = made.capture(held)
    made.buy(13500, goods(4250), goods(4250), gift_card(5000), paid=(captured, 500, 500))
    return made


# --- what a purchase earns --------------------------------------------------------------------------------------


def test_what_points_paid_earns_nothing_and_is_no_goods_paid() -> None:
    made = basket()
    bought = made.events[-1]
    assert (bought.amount, bought.goods_paid, bought.points) == (13500, 8000, 80)
    assert bought.points_payment is not None
    assert bought.points_payment[1:] == (500, 500)
    assert made.balance == (0, 580, 0, 0)


def test_where_the_base_is_the_total_what_points_paid_earns_too() -> None:
    made = shop(500, programme(base="total"))
    bought = made.buy(13500, goods(8500), gift_card(5000), paid=(made.redeem(500), 500, 500))
    assert (bought.points, bought.goods_paid) == (135, 8000)
    assert made.bring_back(named=(pieces(1, 1),)).points == -85
    assert made.bring_back(5000).points == -50
    assert made.balance == (0, 500, 0, 0)


def test_the_bonus_of_a_department_counts_what_was_paid_with_money_for_its_lines() -> None:
    made = shop(rules=programme(earning='bonuses: [{id: dairy, multiplier: "3", departments: [DAIRY]}]'))
    paid = made.redeem(900)
    bought = made.buy(3000, goods(1000, "DAIRY"), goods(2000), paid=(paid, 900, 900))
    assert [(rule.rule, rule.base, rule.points) for rule in bought.rules] == [("base", 2100, 21), ("dairy", 700, 14)]
    dairy = made.bring_back(named=(worth(1, 500),))
    assert [(rule.rule, rule.base, rule.points) for rule in dairy.rules] == [("base", 350, -4), ("dairy", 350, -7)]
    made.bring_back(2500)
    assert made.balance == (0, 1000, 0, 0)


@pytest.mark.parametrize(
    ("total", "lines", "shares"),
    [
        (500, [goods(4250), goods(4250), gift_card(5000)], [250, 250, 0]),
        (1, [goods(4250), goods(4250)], [1, 0]),
        (5, [shipping(900), goods(100), goods(100)], [0, 3, 2]),
        (100, [goods(333), goods(333), goods(334), goods(0)], [33, 33, 34, 0]),
        (0, [goods(1)], [0]),
        (7, [goods(1), goods(2), goods(4)], [1, 2, 4]),
    ],
)
def test_a_payment_is_spread_over_goods_alone_by_largest_remainder(
    total: int, lines: list[Line], shares: list[int]
) -> None:
    assert by_line(total, lines) == shares


# --- which redemption can pay -----------------------------------------------------------------------------------


def test_points_pay_for_no_more_than_the_goods() -> None:
    made = shop()
    redeemed = made.redeem(600)
    with pytest.raises(PaymentExceedsGoodsError):
        made.buy(1000, goods(500), gift_card(400), shipping(100), paid=(redeemed, 600, 501))
    assert made.buy(1000, goods(500), gift_card(500), paid=(redeemed, 600, 500)).points == 0


def test_a_purchase_can_be_paid_with_points_alone_and_earns_nothing() -> None:
    made = shop()
    assert made.buy(1000, paid=(made.redeem(1000), 1000, 1000)).points == 0
    assert refund(made.bring_back(400)) == (0, 400)
    assert refund(made.bring_back(600)) == (0, 600)
    assert made.balance == (0, 1000, 0, 0)


def test_a_redemption_pays_for_as_many_purchases_as_its_points_reach() -> None:
    made = shop()
    redeemed = made.redeem(500)
    assert made.buy(1000, purchase_id="a", paid=(redeemed, 300, 300)).kind is EntryKind.PURCHASE_RECORDED
    assert made.buy(1000, purchase_id="b", paid=(redeemed, 201, 201)).reason == "PAYMENT_EXCEEDS_REDEMPTION"
    assert made.buy(1000, purchase_id="b", paid=(redeemed, 200, 200)).kind is EntryKind.PURCHASE_RECORDED
    assert made.redemption(redeemed.request_id).unused == 0


def test_points_that_were_given_back_pay_for_nothing_and_those_that_paid_come_back_with_the_purchase_alone() -> None:
    made = shop()
    redeemed = made.redeem(500)
    made.reverse(redeemed, 100)
    assert made.buy(1000, paid=(redeemed, 401, 401)).reason == "PAYMENT_EXCEEDS_REDEMPTION"
    made.buy(1000, paid=(redeemed, 300, 300))
    assert made.reverse(redeemed, 101).reason == "REDEMPTION_PAID_PURCHASE"
    assert made.reverse(redeemed, 401).reason == "REVERSAL_EXCEEDS_REDEMPTION"
    assert made.reverse(redeemed).posted(Account.REDEEMED) == -100
    assert made.reverse(redeemed).reason == "REDEMPTION_PAID_PURCHASE"
    made.bring_back(1000)
    assert made.reverse(redeemed).reason == "REVERSAL_EXCEEDS_REDEMPTION"
    assert made.balance == (0, 1000, 0, 0)
    assert made.member.redeemed == 0


def test_points_that_came_back_do_not_pay_again() -> None:
    made = shop()
    redeemed = made.redeem(500)
    made.buy(1000, paid=(redeemed, 500, 500))
    made.bring_back(1000)
    assert made.buy(1000, purchase_id="b", paid=(redeemed, 1, 1)).reason == "PAYMENT_EXCEEDS_REDEMPTION"


def test_a_redemption_that_never_was_pays_for_nothing() -> None:
    made = shop()
    held = made.hold(500)
    assert made.buy(1000, paid=(held, 500, 500)).reason == "REDEMPTION_UNKNOWN"
    assert made.balance == (0, 500, 500, 0)


# --- what comes back --------------------------------------------------------------------------------------------


def test_an_article_brings_its_share_of_the_points_and_the_rest_in_money() -> None:
    made = basket()
    event = made.bring_back(named=(pieces(1, 1),))
    assert (event.amount, event.goods_paid, event.points) == (4250, 4000, -40)
    assert refund(event) == (4000, 250)
    assert made.balance == (0, 790, 0, 0)
    assert refund(made.bring_back(named=(pieces(2, 1),))) == (4000, 250)
    assert refund(made.bring_back(named=(pieces(3, 1),))) == (5000, 0)
    assert made.balance == (0, 1000, 0, 0)


def test_points_go_back_by_an_entry_of_their_own_that_names_the_redemption_the_purchase_and_the_return() -> None:
    made = basket()
    event = made.bring_back(named=(pieces(1, 1),))
    given, back = made.events[-2:]
    payment = made.purchase_of("a").points_payment
    assert payment is not None
    assert back is event
    assert (given.kind, given.reference) == (EntryKind.REDEMPTION_REVERSED, payment.redemption_id)
    assert (given.purchase_id, given.request_id, given.reason) == ("a", event.request_id, "damaged")
    assert [(posting.account, posting.points) for posting in given.postings] == [
        (Account.AVAILABLE, 250),
        (Account.REDEEMED, -250),
    ]
    purchase = made.purchase_of("a")
    assert (purchase.payment_points_returned, purchase.payment_amount_returned) == (250, 250)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_in_any_order_the_last_return_brings_exactly_what_is_left(order: tuple[int, ...]) -> None:
    made = shop(rules=programme(earning='bonuses: [{id: dairy, multiplier: "1.75", departments: [DAIRY]}]'))
    made.buy(
        3311,
        goods(999, "DAIRY", 3),
        goods(1811, quantity=7),
        shipping(501),
        paid=(made.redeem(777), 777, 1111),
    )
    ways = [
        {"named": (pieces(1, 2), worth(2, 11))},
        {"named": (pieces(3, 1),)},
        {"amount": 700},
        {"named": (worth(1, 200),)},
    ]
    refunds = [refund(made.bring_back(**ways[place])) for place in order]  # type: ignore[arg-type]
    left = made.purchase_of("a")
    refunds.append(refund(made.bring_back(left.amount - left.returned)))
    assert all(money >= 0 and points >= 0 for money, points in refunds)
    assert tuple(map(sum, zip(*refunds, strict=True))) == (3311 - 1111, 777)
    assert made.balance == (0, 1000, 0, 0)


def test_pieces_of_a_line_bring_their_part_of_its_share() -> None:
    made = shop()
    made.buy(1000, goods(1000, quantity=3), paid=(made.redeem(100), 100, 100))
    assert [refund(made.bring_back(named=(pieces(1, 1),))) for _ in range(3)] == [(300, 33), (300, 33), (300, 34)]


def test_points_too_few_for_every_line_come_back_with_those_that_had_the_largest_remainder() -> None:
    made = shop()
    made.buy(400, *[goods(100)] * 4, paid=(made.redeem(2), 2, 200))
    assert [refund(made.bring_back(named=(pieces(number, 1),))) for number in (4, 3, 2, 1)] == [
        (50, 0),
        (50, 0),
        (50, 1),
        (50, 1),
    ]


def test_lines_that_follow_a_return_by_amount_bring_what_is_left_in_the_end() -> None:
    made = shop()
    made.buy(200, goods(100), goods(100), paid=(made.redeem(10), 10, 100))
    assert refund(made.bring_back(50)) == (25, 2)
    assert refund(made.bring_back(named=(worth(1, 100),))) == (50, 5)
    assert refund(made.bring_back(named=(worth(2, 50),))) == (25, 3)


def test_gift_cards_and_shipping_come_back_as_money_and_what_is_brought_by_amount_brings_its_part() -> None:
    made = shop()
    made.buy(2000, goods(1000), shipping(1000), paid=(made.redeem(500), 500, 500))
    assert refund(made.bring_back(200)) == (150, 50)
    assert refund(made.bring_back(900, shipping(900))) == (900, 0)
    assert refund(made.bring_back(900)) == (450, 450)


def test_what_the_till_calls_no_goods_is_refunded_no_more_money_than_was_paid() -> None:
    made = shop()
    made.buy(1000, goods(500), shipping(500), paid=(made.redeem(500), 500, 500))
    assert refund(made.bring_back(600, shipping(600))) == (500, 100)
    assert refund(made.bring_back(400, goods(400))) == (0, 400)
    assert made.balance == (0, 1000, 0, 0)


def test_a_return_of_erased_lines_by_amount_gives_points_back() -> None:
    made = basket()
    made.forget("a")
    assert made.bring_back(named=(pieces(1, 1),)).reason == "DETAIL_ERASED"
    assert refund(made.bring_back(6750)) == (6500, 250)
    assert refund(made.bring_back(6750)) == (6500, 250)
    assert made.balance == (0, 1000, 0, 0)


def test_a_void_gives_all_back_that_returns_have_left() -> None:
    made = basket()
    made.bring_back(named=(pieces(1, 1),))
    event = made.void()
    assert (event.kind, event.goods_paid, event.points) == (EntryKind.PURCHASE_VOIDED, 4000, -40)
    assert refund(event) == (9000, 250)
    assert made.balance == (0, 1000, 0, 0)
    purchase = made.purchase_of("a")
    assert (purchase.payment_points_returned, purchase.payment_amount_returned) == (500, 500)


def test_a_return_that_waited_gives_points_back_when_its_purchase_comes() -> None:
    made = shop()
    waiting = made.bring_back(named=(pieces(1, 1),))
    assert (waiting.kind, waiting.points_payment) == (EntryKind.RETURN_WAITING, None)
    made.buy(1000, goods(400), goods(600), paid=(made.redeem(500), 500, 500))
    *_, bought, given, back = made.events
    assert bought.kind is EntryKind.PURCHASE_RECORDED
    assert (given.kind, given.request_id, given.author) == (
        EntryKind.REDEMPTION_REVERSED,
        waiting.request_id,
        back.author,
    )
    assert (back.kind, refund(back)) == (EntryKind.RETURN_RECORDED, (200, 200))
    assert made.balance == (0, 500 + 200 + 5 - 2, 0, 0)
    assert made.redemption(given.reference).reversed == 200


def test_points_given_back_return_to_their_lots_and_those_of_a_lot_that_lapsed_lapse_at_once() -> None:
    made = Shop(programme(TEN_DAYS), NOON)
    made.award(300, at=NOON - 5 * DAY)
    made.award(700)
    made.buy(1000, goods(1000), paid=(made.redeem(500), 500, 500))
    assert made.lots == [("2026-05-11", 505)]
    made.now = local(2026, 5, 8, 12)
    made.bring_back(500)
    # Those drawn last are back first: 200 of the lot that lasts, 50 of the one that is over.
    assert made.lots == [("2026-05-11", 505 + 200 - 3)]
    assert [event.kind.value for event in made.events[-3:]] == [
        "REDEMPTION_REVERSED",
        "POINTS_EXPIRED",
        "RETURN_RECORDED",
    ]


@pytest.mark.parametrize("shortfall", ["debt", "forgive", "refuse"])
def test_points_given_back_are_there_to_be_taken_back_before_anything_is_owed(shortfall: str) -> None:
    made = shop(100, programme(f"returns: {{shortfall: {shortfall}}}"))
    made.buy(10000, paid=(made.redeem(100), 100, 100))
    made.redeem(99)
    assert made.balance == (0, 0, 0, 0)
    event = made.bring_back(10000)
    assert (event.kind, refund(event), event.points) == (EntryKind.RETURN_RECORDED, (9900, 100), -99)
    assert made.balance == (0, 1, 0, 0)


def test_a_return_that_is_refused_gives_nothing_back() -> None:
    made = shop(10, programme("returns: {shortfall: refuse}"))
    made.buy(10000, paid=(made.redeem(10), 10, 10))
    made.redeem(99)
    before = made.balance, made.purchase_of("a"), len(made.events)
    assert made.bring_back(10000).reason == "POINTS_SPENT"
    assert (made.balance, made.purchase_of("a"), len(made.events)) == (*before[:2], before[2] + 1)


def test_points_spent_offline_pay_too_and_what_was_owed_for_them_is_paid_first() -> None:
    made = shop(100)
    redeemed = made.redeem(300, offline=True)
    assert made.balance == (0, 0, 0, 200)
    made.buy(1000, paid=(redeemed, 300, 300))
    assert made.balance == (0, 0, 0, 193)
    assert refund(made.bring_back(1000)) == (700, 300)
    assert made.balance == (0, 100, 0, 0)


def test_an_exchange_gives_the_points_of_what_came_back_to_the_member() -> None:
    made = basket()
    made.buy(4500, goods(4500), purchase_id="b", exchange_id="x")
    assert refund(made.bring_back(named=(pieces(1, 1),))) == (4000, 250)
    assert made.balance == (0, 580 + 45 + 250 - 40, 0, 0)


def test_an_entry_keeps_what_points_paid_and_one_without_it_is_what_it_was() -> None:
    made = basket()
    body = encode_body(made.events[-1])
    assert '"points_payment":["' in body
    assert decode_body(body)["points_payment"] == made.events[-1].points_payment
    plain = shop().buy(1000)
    assert "points_payment" not in encode_body(plain)
