"""What a basket costs: discounts one after the other, points, gift cards, and the reasons for what is not used."""

from __future__ import annotations

from datetime import date

import pytest

from services.notifier.domain.checkout import (
    Currency,
    DiscountKind,
    FreeShipping,
    Line,
    LineKind,
    Order,
    PointsOffered,
    Price,
    Reason,
    TenderKind,
    Voucher,
    price,
    sentence,
    spread,
)
from services.programme.checkout import AutomaticDiscount, Checkout
from services.programme.model import PointValue, Redemption
from services.programme.rewards import Offer, OfferKind, Stacking, Terms

PLN = Currency(code="PLN", digits=2)
# A hundred points are 1.00.
HUNDREDTH = PointValue(from_day=date(2020, 1, 1), points=100, minor_units=100)


def goods(minor_units: int, *, sku: str = "", department: str = "", quantity: int = 1, promotion: int = 0) -> Line:
    return Line(price=minor_units, sku=sku, department=department, quantity=quantity, promotion=promotion)


def shipping(minor_units: int) -> Line:
    return Line(kind=LineKind.SHIPPING, price=minor_units)


def gift_card(minor_units: int) -> Line:
    return Line(kind=LineKind.GIFT_CARD, price=minor_units)


def percent(code: str, basis_points: int, **terms: object) -> Voucher:
    offer = Offer(kind=OfferKind.DISCOUNT_PERCENT, percent_bp=basis_points)
    return Voucher(code=code, offer=offer, terms=Terms(**terms))  # type: ignore[arg-type]  # any of its fields


def off(code: str, minor_units: int, **terms: object) -> Voucher:
    offer = Offer(kind=OfferKind.DISCOUNT_AMOUNT, amount=minor_units)
    return Voucher(code=code, offer=offer, terms=Terms(**terms))  # type: ignore[arg-type]  # any of its fields


def coupon(code: str, kind: OfferKind, *, amount: int | None = None, sku: str = "") -> Voucher:
    return Voucher(code=code, offer=Offer(kind=kind, amount=amount, sku=sku))


def order(*lines: Line, vouchers: tuple[Voucher, ...] = (), **more: object) -> Order:
    return Order(currency=PLN, lines=lines, tier="Green", vouchers=vouchers, **more)  # type: ignore[arg-type]


def points(wanted: int, available: int = 100_000, **more: object) -> PointsOffered:
    return PointsOffered(wanted=wanted, available=available, value=HUNDREDTH, **more)  # type: ignore[arg-type]


def amounts(found: Price) -> list[tuple[DiscountKind, int]]:
    return [(discount.kind, discount.amount) for discount in found.discounts]


def reasons(found: Price) -> dict[str, str]:
    return {declined.code: declined.reason for declined in found.declined}


def test_tier_coupon_and_points_come_off_the_goods_and_a_gift_card_sold_is_paid_in_full() -> None:
    basket = order(
        goods(5_000), goods(5_000), gift_card(5_000), tier_bp=500, vouchers=(off("TEN", 1_000),), points=points(500)
    )

    found = price(basket)

    assert amounts(found) == [(DiscountKind.TIER, 500), (DiscountKind.COUPON, 1_000)]
    assert found.line_amounts == (4_250, 4_250, 5_000)
    assert (found.points, found.points_amount, found.pay) == (500, 500, 13_000)
    assert sentence(basket, found, 80) == (
        "To pay: 130.00 PLN. Off: 5.00 PLN Green, 10.00 PLN coupon TEN. 500 points pay 5.00 PLN. Earns 80 points."
    )


def test_each_step_counts_on_what_the_one_before_has_left() -> None:
    vouchers = (percent("HALF", 5_000), off("TEN", 1_000))

    found = price(order(goods(10_000, promotion=2_000), tier_bp=1_000, vouchers=vouchers, points=points(100)))

    # 100.00 - 20.00 = 80.00, a tenth off = 72.00, half of it = 36.00, less 10.00 = 26.00, of which points pay 1.00.
    assert amounts(found) == [
        (DiscountKind.PROMOTION, 2_000),
        (DiscountKind.TIER, 800),
        (DiscountKind.COUPON, 3_600),
        (DiscountKind.COUPON, 1_000),
    ]
    assert (found.amount, found.pay) == (2_600, 2_500)


def test_a_rule_is_floored_once_per_receipt_and_spread_by_the_largest_remainder() -> None:
    # 5 % of 9.99 are 49.95 hundredths: 49, not 16 + 16 + 16.
    found = price(order(goods(333), goods(333), goods(333), tier_bp=500))

    assert found.discounts[0].amount == 49
    assert found.discounts[0].of_lines == (17, 16, 16)


def test_parts_are_whole_and_the_first_of_equals_takes_the_remainder() -> None:
    assert spread(10, (1, 1, 1)) == (4, 3, 3)
    assert spread(5, (0, 3, 7)) == (0, 2, 3)
    assert spread(0, (1, 2)) == (0, 0)
    assert spread(7, (0, 0)) == (0, 0)


def test_a_coupon_larger_than_the_goods_takes_them_all_and_no_more() -> None:
    found = price(order(goods(700), shipping(500), vouchers=(off("TEN", 1_000),)))

    assert amounts(found) == [(DiscountKind.COUPON, 700)]
    assert found.line_amounts == (0, 500)


def test_of_two_percentages_the_better_one_is_used() -> None:
    vouchers = (percent("A", 1_000), percent("B", 2_000))

    found = price(order(goods(10_000), vouchers=vouchers))

    assert found.codes == ("B",)
    assert reasons(found) == {"A": Reason.NOT_COMBINABLE}


def test_a_percentage_of_few_goods_gives_way_to_a_smaller_one_of_all() -> None:
    vouchers = (percent("A", 5_000, skus=frozenset({"tea"})), percent("B", 1_000))

    found = price(order(goods(1_000, sku="tea"), goods(9_000), vouchers=vouchers))

    assert found.codes == ("B",)


def test_an_exclusive_coupon_goes_without_the_tiers_discount() -> None:
    found = price(order(goods(10_000), tier_bp=500, vouchers=(percent("A", 2_000, stacking=Stacking.EXCLUSIVE),)))

    assert amounts(found) == [(DiscountKind.COUPON, 2_000)]


def test_an_exclusive_coupon_that_gives_less_than_the_tier_is_kept_for_another_day() -> None:
    found = price(order(goods(10_000), tier_bp=800, vouchers=(off("A", 500, stacking=Stacking.EXCLUSIVE),)))

    assert amounts(found) == [(DiscountKind.TIER, 800)]
    assert reasons(found) == {"A": Reason.NOT_COMBINABLE}


def test_a_coupon_with_the_tier_goes_without_other_coupons() -> None:
    vouchers = (off("A", 2_000, stacking=Stacking.WITH_TIER), off("B", 1_000))

    found = price(order(goods(10_000), tier_bp=1_000, vouchers=vouchers))

    assert amounts(found) == [(DiscountKind.TIER, 1_000), (DiscountKind.COUPON, 2_000)]
    assert reasons(found) == {"B": Reason.NOT_COMBINABLE}


def test_two_coupons_together_beat_a_better_one_that_must_be_alone() -> None:
    vouchers = (off("A", 1_500, stacking=Stacking.WITH_TIER), off("B", 1_000), off("C", 1_000))

    found = price(order(goods(10_000), vouchers=vouchers))

    assert found.codes == ("B", "C")
    assert reasons(found) == {"A": Reason.NOT_COMBINABLE}


def test_a_coupon_for_some_goods_goes_before_one_for_all() -> None:
    vouchers = (off("ALL", 1_000), off("TEA", 1_000, skus=frozenset({"tea"})))

    found = price(order(goods(1_000, sku="tea"), goods(1_000, sku="pot"), vouchers=vouchers))

    assert found.amount == 0
    assert found.codes == ("ALL", "TEA")


def test_a_coupon_that_finds_nothing_left_is_not_used_up() -> None:
    found = price(order(goods(1_000), vouchers=(off("A", 400), off("B", 1_000))))

    assert found.codes == ("B",)
    assert reasons(found) == {"A": Reason.GIVES_NOTHING}


def test_a_coupon_for_a_department_takes_nothing_off_others() -> None:
    vouchers = (percent("A", 5_000, departments=frozenset({"garden"})),)

    found = price(order(goods(1_000, department="garden"), goods(1_000, department="books"), vouchers=vouchers))

    assert found.line_amounts == (500, 1_000)


def test_one_piece_is_free_the_dearest() -> None:
    lines = (goods(900, sku="tea", quantity=3), goods(400, sku="tea"), goods(5_000, sku="pot"))

    found = price(order(*lines, vouchers=(coupon("FREE", OfferKind.FREE_PRODUCT, sku="tea"),)))

    assert found.line_amounts == (900, 0, 5_000)


def test_a_free_product_that_is_not_in_the_basket_gives_nothing() -> None:
    found = price(order(goods(900, sku="pot"), vouchers=(coupon("FREE", OfferKind.FREE_PRODUCT, sku="tea"),)))

    assert reasons(found) == {"FREE": Reason.GIVES_NOTHING}


def test_the_tier_pays_for_shipping_up_to_its_maximum_and_a_coupon_for_the_rest() -> None:
    lines = (goods(1_000), shipping(1_500))
    free = FreeShipping(text="free shipping", maximum=1_000)

    found = price(order(*lines, free_shipping=free, vouchers=(coupon("SHIP", OfferKind.FREE_SHIPPING),)))

    assert amounts(found) == [(DiscountKind.BENEFIT, 1_000), (DiscountKind.COUPON, 500)]
    assert found.line_amounts == (1_000, 0)


def test_a_coupon_for_shipping_is_kept_where_the_tier_pays_for_all_of_it() -> None:
    free = FreeShipping(text="free shipping", maximum=None)

    found = price(
        order(goods(1_000), shipping(500), free_shipping=free, vouchers=(coupon("SHIP", OfferKind.FREE_SHIPPING),))
    )

    assert reasons(found) == {"SHIP": Reason.GIVES_NOTHING}


def test_enough_points_bring_a_discount_and_none_of_them_is_spent() -> None:
    programme = Checkout(
        automatic=(AutomaticDiscount(points=1_000, percent_bp=300), AutomaticDiscount(points=5_000, amount=2_000))
    )
    assert programme.automatic_for(999) is None

    few = price(order(goods(10_000), automatic=programme.automatic_for(1_000)))
    many = price(order(goods(10_000), automatic=programme.automatic_for(5_000)))

    assert (amounts(few), few.points) == ([(DiscountKind.AUTOMATIC, 300)], 0)
    assert amounts(many) == [(DiscountKind.AUTOMATIC, 2_000)]


def test_points_pay_for_goods_alone_and_no_more_of_them_than_the_goods_need() -> None:
    found = price(order(goods(1_234), shipping(500), gift_card(5_000), points=points(9_000)))

    assert (found.points, found.points_amount, found.pay) == (1_234, 1_234, 5_500)


def test_points_stay_in_their_steps() -> None:
    rules = Redemption(minimum=500, step=100)

    found = price(order(goods(1_234), points=points(9_000, rules=rules)))

    assert (found.points, found.points_amount) == (1_200, 1_200)


def test_a_last_point_may_be_worth_more_than_what_it_pays() -> None:
    value = PointValue(from_day=date(2020, 1, 1), points=1, minor_units=10)

    found = price(order(goods(25), points=PointsOffered(wanted=9, available=9, value=value)))

    assert (found.points, found.points_amount) == (3, 25)


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        (points(500, frozen=True), Reason.SUSPENDED),
        (PointsOffered(wanted=500, available=500), Reason.POINTS_WITHOUT_VALUE),
        (points(500, available=499), Reason.NOT_ENOUGH_POINTS),
        (points(400, rules=Redemption(minimum=500, step=100)), Reason.BELOW_MINIMUM),
        (points(550, rules=Redemption(minimum=500, step=100)), Reason.NOT_IN_STEPS),
        (points(20_000, rules=Redemption(minimum=20_000, step=100)), Reason.BELOW_MINIMUM),
    ],
)
def test_points_that_cannot_be_spent_are_left_and_the_cashier_is_told_why(
    offered: PointsOffered, reason: Reason
) -> None:
    basket = order(goods(10_000), points=offered)

    found = price(basket)

    assert (found.points, found.pay) == (0, 10_000)
    assert reasons(found) == {"": reason}
    assert "Points not used: " in sentence(basket, found, 0)


def test_gift_cards_pay_last_and_no_more_than_is_left() -> None:
    vouchers = (coupon("CARD", OfferKind.GIFT_CARD, amount=1_000),)

    found = price(order(goods(2_000), shipping(500), vouchers=vouchers, points=points(500), gift_cards=9_999))

    assert [(tender.kind, tender.amount) for tender in found.tenders] == [
        (TenderKind.COUPON, 1_000),
        (TenderKind.GIFT_CARDS, 1_000),
    ]
    # What gift cards pay is paid: the goods cost what they cost.
    assert (found.amount, found.pay) == (2_500, 0)


def test_a_gift_card_that_points_leave_nothing_to_pay_is_kept() -> None:
    vouchers = (coupon("CARD", OfferKind.GIFT_CARD, amount=1_000),)

    found = price(order(goods(500), vouchers=vouchers, points=points(500)))

    assert (found.points, found.pay, found.codes) == (500, 0, ())
    assert reasons(found) == {"CARD": Reason.GIVES_NOTHING}


def cards(**worth: int) -> tuple[Voucher, ...]:
    return tuple(coupon(code, OfferKind.GIFT_CARD, amount=amount) for code, amount in worth.items())


@pytest.mark.parametrize(
    ("worth", "price_of_goods", "used", "lost"),
    [
        ({"A": 1_000, "B": 5_000}, 1_000, ("A",), 0),
        ({"A": 1_000, "B": 5_000}, 1_100, ("B",), 3_900),
        ({"A": 5_000, "B": 3_000, "C": 3_000}, 6_000, ("B", "C"), 0),
        # As little is lost with one as with two: fewer are used up, then the first by their codes.
        ({"A": 3_000, "B": 2_000, "C": 5_000}, 5_000, ("C",), 0),
        ({"B": 2_000, "A": 2_000}, 1_500, ("A",), 500),
        # All together do not cover it.
        ({"A": 1_000, "B": 2_000}, 5_000, ("A", "B"), 0),
    ],
)
def test_of_the_gift_cards_that_cover_the_price_those_are_used_of_which_the_least_is_lost(
    worth: dict[str, int], price_of_goods: int, used: tuple[str, ...], lost: int
) -> None:
    basket = order(goods(price_of_goods), vouchers=cards(**worth))

    found = price(basket)

    assert (found.codes, sum(tender.lost for tender in found.tenders)) == (used, lost)
    assert sum(tender.amount + tender.lost for tender in found.tenders) == sum(worth[code] for code in used)


def test_the_cashier_reads_out_what_is_lost_of_a_gift_card() -> None:
    basket = order(goods(3_000), vouchers=cards(A=5_000))

    assert sentence(basket, price(basket), 30) == (
        "To pay: 0.00 PLN. 30.00 PLN is paid by gift card. 20.00 PLN of gift card A are lost. Earns 30 points."
    )


def test_gift_cards_are_chosen_by_what_points_leave_to_pay() -> None:
    found = price(order(goods(5_000), vouchers=cards(A=1_000, B=5_000), points=points(4_000)))

    assert (found.points, found.codes, found.pay) == (4_000, ("A",), 0)


def test_as_many_gift_cards_as_a_basket_may_have_are_chosen_from_at_once() -> None:
    # Amounts of which every sum is another one.
    worth = {f"C{number:02}": 2**number for number in range(20)}

    found = price(order(goods(2**19 + 2**3 + 1), vouchers=cards(**worth)))

    assert found.codes == ("C00", "C03", "C19")


@pytest.mark.parametrize(
    "kind",
    [
        OfferKind.UPGRADE,
        OfferKind.EARLY_ACCESS,
        OfferKind.DIGITAL_CONTENT,
        OfferKind.EXPERIENCE,
        OfferKind.BONUS_POINTS,
    ],
)
def test_what_takes_nothing_off_a_price_is_not_for_a_checkout(kind: OfferKind) -> None:
    found = price(order(goods(500), vouchers=(coupon("SEAT", kind),)))

    assert reasons(found) == {"SEAT": Reason.NOT_FOR_CHECKOUT}


def test_a_code_given_twice_counts_once() -> None:
    found = price(order(goods(5_000), vouchers=(off("TEN", 1_000), off("TEN", 1_000))))

    assert found.amount == 4_000
