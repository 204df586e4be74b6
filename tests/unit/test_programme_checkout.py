"""What a programme says of checkouts."""

from __future__ import annotations

import pytest

from services.programme import losses, parse
from services.programme.checkout import AutomaticDiscount, Checkout
from services.programme.document import ProgrammeError

PLAIN = """
programme: shop
currency: PLN
time_zone: Europe/Warsaw
earning: {base: goods_paid, points: 1, per: "1.00"}
tiers:
  base: goods_paid
  window: P365D
  levels:
    - name: White
"""


def with_automatic(*given: str) -> str:
    return PLAIN + "checkout:\n  automatic:\n" + "".join(f"    - {{{one}}}\n" for one in given)


LESS, MORE = 'points: 1000, discount_percent: "2.5"', 'points: 5000, discount_amount: "10.00"'


def test_discounts_for_enough_points_are_read_as_they_stand() -> None:
    programme = parse(with_automatic(LESS, MORE), "shop.yaml")

    assert programme.checkout == Checkout(
        automatic=(AutomaticDiscount(points=1_000, percent_bp=250), AutomaticDiscount(points=5_000, amount=1_000))
    )
    assert [programme.checkout.automatic_for(points) for points in (999, 1_000, 5_000)] == [
        None,
        *programme.checkout.automatic,
    ]


def test_a_programme_that_says_nothing_of_checkouts_has_none_and_keeps_its_version() -> None:
    assert parse(PLAIN, "shop.yaml").checkout == Checkout()
    assert parse(PLAIN, "shop.yaml").version == "shop@8a0638d0a2ff"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([MORE, LESS], "checkout.automatic[1].points: found 1000; expected more than the 5000 before it"),
        (["points: 10"], "checkout.automatic[0]: no discount; add discount_percent or discount_amount"),
        (
            ['points: 10, discount_percent: "1", discount_amount: "1.00"'],
            "checkout.automatic[0]: two kinds of discount; keep discount_percent or discount_amount",
        ),
        (['points: 0, discount_percent: "1"'], "checkout.automatic[0].points: found 0; expected"),
        (['points: 10, discount_percent: "101"'], "checkout.automatic[0].discount_percent: found"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(given: list[str], problem: str) -> None:
    with pytest.raises(ProgrammeError) as told:
        parse(with_automatic(*given), "shop.yaml")
    assert problem in str(told.value)


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        ([LESS], [LESS], []),
        ([LESS], [LESS, MORE], []),
        ([LESS], ['points: 500, discount_percent: "2.5"'], []),
        ([LESS], [], ["Who has 1000 points gets another discount at a checkout, or none."]),
        (
            [LESS],
            ['points: 1001, discount_percent: "2.5"'],
            ["Who has 1000 points gets another discount at a checkout, or none."],
        ),
        (
            [LESS],
            ['points: 1000, discount_percent: "2.4"'],
            ["Who has 1000 points gets another discount at a checkout, or none."],
        ),
        (
            [LESS, MORE],
            [LESS, 'points: 5000, discount_percent: "50"'],
            ["Who has 5000 points gets another discount at a checkout, or none."],
        ),
    ],
)
def test_a_discount_that_becomes_less_is_told_ahead(before: list[str], after: list[str], lost: list[str]) -> None:
    old = parse(with_automatic(*before), "shop.yaml")
    new = parse(with_automatic(*after) if after else PLAIN, "shop.yaml")

    assert list(losses(old, new, None)) == lost
