"""What is kept whole as JSON comes back as it was."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.notifier.domain.checkout import (
    Currency,
    Declined,
    Discount,
    DiscountKind,
    LineKind,
    Price,
    Tender,
    TenderKind,
)
from services.notifier.domain.kept import pack, unpack
from services.notifier.domain.sales import (
    Answer,
    BenefitInForce,
    Quote,
    Recorded,
    Rejection,
    RulePoints,
    SaleContent,
    Sold,
    SoldLine,
)

QUOTE = Quote(
    member_id="m-1",
    tier="Grün",
    tier_number=2,
    currency=Currency(code="PLN", digits=2),
    line_prices=(5_000, 0),
    price=Price(
        line_amounts=(4_000, 0),
        discounts=(Discount(kind=DiscountKind.COUPON, reason="coupon A", amount=1_000, of_lines=(1_000, 0), code="A"),),
        points=10,
        points_amount=10,
        tenders=(Tender(kind=TenderKind.GIFT_CARDS, amount=5),),
        declined=(Declined(code="B", reason="COUPON_EXPIRED", sentence="the time of the coupon is over"),),
    ),
    earned=40,
    rules=(RulePoints(rule="base", points=40, reason="1 point per 1.00 PLN of 40.00 PLN"),),
    benefits=(BenefitInForce(id="lounge", text="the lounge"), BenefitInForce(id="free-shipping", text="", maximum=5)),
    summary='To pay: 39.85 PLN. "Never" goes wrong.',
    occurred_time=datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=UTC),
    available_points=100,
)
CONTENT = SaleContent(
    quote=QUOTE,
    lines=(SoldLine(kind=LineKind.SHIPPING, sku="", name="", department="", category="", quantity=1, amount=4_000),),
    store_id="store-1",
    channel="pos",
    receipt_number="R-1",
    on_behalf_of="till-1",
    tier_key="green",
)
SOLD = Sold(checkout_id="c-1", quote=QUOTE, redemption_id="r-1", recorded=Recorded(points=40, causal_token="t"))


@pytest.mark.parametrize(
    "value",
    [
        CONTENT,
        Answer(sold=SOLD),
        Answer(rejection=Rejection(code="NOT_FOUND", reason="X", message="x", metadata={"a": "b"})),
        Answer(),
    ],
    ids=["a sale that goes on", "what was sold", "a refusal", "that it was cancelled"],
)
def test_what_is_kept_comes_back_equal_and_of_the_same_kinds(value: SaleContent | Answer) -> None:
    back = unpack(type(value), pack(value))

    assert back == value
    assert repr(back) == repr(value)


def test_what_was_kept_before_a_field_was_there_has_its_default() -> None:
    assert unpack(Recorded, '{"points": 5}') == Recorded(points=5)


def test_what_cannot_be_kept_says_so() -> None:
    with pytest.raises(TypeError, match="complex is nothing that is kept"):
        pack(Recorded(points=1j))  # type: ignore[arg-type]
