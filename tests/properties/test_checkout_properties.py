"""What is true of every basket's price, whatever is bought and whatever is shown at the till."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from services.notifier.domain.checkout import (
    Currency,
    DiscountKind,
    FreeShipping,
    Line,
    LineKind,
    Order,
    PointsOffered,
    Price,
    Voucher,
    price,
    spread,
)
from services.programme.checkout import AutomaticDiscount
from services.programme.model import PointValue, Redemption
from services.programme.rewards import Offer, OfferKind, Stacking, Terms

amounts = st.integers(0, 20_000)
skus = st.sampled_from(["", "tea", "pot"])
departments = st.sampled_from(["", "garden", "books"])
some = st.frozensets(st.sampled_from(["tea", "pot"]), max_size=1)


@st.composite
def lines(draw: st.DrawFn) -> Line:
    full = draw(amounts)
    return Line(
        kind=draw(st.sampled_from(list(LineKind))),
        sku=draw(skus),
        department=draw(departments),
        quantity=draw(st.integers(1, 4)),
        price=full,
        promotion=draw(st.integers(0, full)),
    )


offers = st.one_of(
    st.builds(Offer, kind=st.just(OfferKind.DISCOUNT_PERCENT), percent_bp=st.integers(1, 10_000)),
    st.builds(Offer, kind=st.just(OfferKind.DISCOUNT_AMOUNT), amount=st.integers(1, 20_000)),
    st.builds(Offer, kind=st.just(OfferKind.FREE_PRODUCT), sku=st.sampled_from(["tea", "pot"])),
    st.builds(Offer, kind=st.just(OfferKind.FREE_SHIPPING), amount=st.none() | st.integers(1, 2_000)),
    st.builds(Offer, kind=st.just(OfferKind.GIFT_CARD), amount=st.integers(1, 5_000)),
    st.builds(Offer, kind=st.just(OfferKind.EXPERIENCE)),
)
terms = st.builds(Terms, stacking=st.sampled_from(list(Stacking)), skus=some)
vouchers = st.lists(
    st.builds(Voucher, code=st.text("ABCDEF", min_size=1, max_size=2), offer=offers, terms=terms),
    max_size=6,
    unique_by=lambda voucher: voucher.code,
)
values = st.builds(
    PointValue, from_day=st.just(date(2020, 1, 1)), points=st.integers(1, 200), minor_units=st.integers(1, 200)
)
offered = st.builds(
    PointsOffered,
    wanted=st.integers(0, 20_000),
    available=st.integers(0, 20_000),
    value=st.none() | values,
    rules=st.builds(Redemption, minimum=st.integers(1, 500), step=st.sampled_from([1, 7, 100])),
)
automatic = st.none() | st.builds(AutomaticDiscount, points=st.just(100), percent_bp=st.integers(1, 10_000))
orders = st.builds(
    Order,
    currency=st.just(Currency(code="PLN", digits=2)),
    lines=st.lists(lines(), min_size=1, max_size=6).map(tuple),
    tier=st.just("Green"),
    tier_bp=st.integers(0, 10_000),
    automatic=automatic,
    free_shipping=st.none()
    | st.builds(FreeShipping, text=st.just("free shipping"), maximum=st.none() | st.integers(0, 2_000)),
    vouchers=vouchers.map(tuple),
    points=offered,
    gift_cards=st.integers(0, 5_000),
)


@given(orders)
def test_nothing_goes_below_zero_and_everything_adds_up(order: Order) -> None:
    found = price(order)

    assert min(found.line_amounts) >= 0
    assert found.pay >= 0
    for discount in found.discounts:
        assert discount.amount == sum(discount.of_lines)
        assert discount.amount > 0
        assert min(discount.of_lines) >= 0
    taken = [sum(parts) for parts in zip(*(one.of_lines for one in found.discounts), strict=True)]
    for line, amount, off in zip(order.lines, found.line_amounts, taken or [0] * len(order.lines), strict=True):
        assert line.price == amount + off
    assert found.pay == found.amount - found.points_amount - sum(tender.amount for tender in found.tenders)


@given(orders, st.randoms(use_true_random=False))
def test_the_order_of_the_coupons_makes_no_difference(order: Order, chance: random.Random) -> None:
    shuffled = list(order.vouchers)
    chance.shuffle(shuffled)

    assert price(replace(order, vouchers=tuple(shuffled))) == price(order)


@given(orders, offers, terms)
def test_one_coupon_more_never_makes_it_dearer(order: Order, offer: Offer, its_terms: Terms) -> None:
    """What the coupons come to, before points: those pay less where less is left."""
    plain = replace(order, points=PointsOffered(), gift_cards=0)
    more = replace(plain, vouchers=(*plain.vouchers, Voucher(code="ZZZ", offer=offer, terms=its_terms)))

    assert price(more).pay <= price(plain).pay


@given(orders)
def test_every_coupon_is_used_or_says_why_not(order: Order) -> None:
    found = price(order)

    declined = [one.code for one in found.declined if one.code]
    assert sorted([*found.codes, *declined]) == sorted(voucher.code for voucher in order.vouchers)
    assert all(one.sentence for one in found.declined)
    without = replace(order, vouchers=tuple(one for one in order.vouchers if one.code in found.codes))
    assert _money(price(without)) == _money(found)


def _money(found: Price) -> tuple[int, int, tuple[str, ...]]:
    return found.pay, found.points, found.codes


@given(orders)
def test_what_was_used_could_be_used_together(order: Order) -> None:
    found = price(order)
    used = [voucher for voucher in order.vouchers if voucher.code in found.codes]

    assert sum(voucher.offer.kind is OfferKind.DISCOUNT_PERCENT for voucher in used) <= 1
    alone = [voucher for voucher in used if voucher.terms.stacking is not Stacking.ANY]
    assert not alone or len(used) == 1
    if any(voucher.terms.stacking is Stacking.EXCLUSIVE for voucher in alone):
        kinds = {discount.kind for discount in found.discounts}
        assert not kinds & {DiscountKind.TIER, DiscountKind.AUTOMATIC}


@given(orders)
def test_only_goods_get_cheaper_but_for_shipping_that_is_free_and_points_pay_for_goods(order: Order) -> None:
    found = price(order)

    for place, line in enumerate(order.lines):
        if line.kind is LineKind.GIFT_CARD:
            assert found.line_amounts[place] == line.amount
        if line.kind is LineKind.SHIPPING:
            off = [one for one in found.discounts if one.of_lines[place] and one.kind is not DiscountKind.PROMOTION]
            assert all("shipping" in one.reason for one in off)
    goods = sum(
        amount for line, amount in zip(order.lines, found.line_amounts, strict=True) if line.kind is LineKind.GOODS
    )
    assert found.points_amount <= goods
    assert bool(found.points) == bool(found.points_amount)


@given(orders)
def test_points_that_pay_are_there_are_wanted_and_keep_the_programmes_rules(order: Order) -> None:
    found = price(order)

    if found.points:
        rules, value = order.points.rules, order.points.value
        assert value is not None
        assert rules.minimum <= found.points <= min(order.points.wanted, order.points.available)
        assert found.points % rules.step == 0
        assert found.points_amount <= found.points * value.minor_units // value.points


@given(st.integers(0, 10_000), st.lists(st.integers(0, 5_000), min_size=1, max_size=12))
def test_parts_add_up_and_none_exceeds_its_weight(total: int, weights: list[int]) -> None:
    total = min(total, sum(weights))

    parts = spread(total, weights)

    assert sum(parts) == total
    assert all(0 <= part <= weight for part, weight in zip(parts, weights, strict=True))
