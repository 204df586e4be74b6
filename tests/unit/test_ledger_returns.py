"""What comes back: in which order ever, a return takes what the purchase gave, from where that lies now."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import timedelta

import pytest

from services.ledger.domain.events import Account, EntryKind, LineReturn
from services.ledger.errors import LinesDoNotAddUpError
from services.programme import Programme
from tests.ledger_rules import Shop, goods, local, programme, shipping

NOON = local(2026, 5, 1, 12)
DAY = timedelta(days=1)
TEN_DAYS = "expiry: {policy: after, period: P10D}"
# 1.75 points for a euro, so that nothing divides evenly; half again for dairy, and 31 for the whole.
UNEVEN = """
bonuses:
  - {id: dairy, multiplier: "1.75", departments: [DAIRY]}
  - {id: big, points: 31, minimum: "10.00"}
"""


def shop(rules: Programme | None = None) -> Shop:
    """A member without points, at noon on 1 May."""
    return Shop(rules or programme(), NOON)


def pieces(number: int, quantity: int) -> LineReturn:
    return LineReturn(number, quantity, 0)


def worth(number: int, amount: int) -> LineReturn:
    return LineReturn(number, 0, amount)


# --- in any order -----------------------------------------------------------------------------------------------


Part = Callable[[Shop], int]


def by_amount(amount: int) -> Part:
    return lambda made: made.bring_back(amount).points


def by_named(*named: LineReturn) -> Part:
    return lambda made: made.bring_back(named=named).points


PARTS = [
    pytest.param([by_amount(1), by_amount(998), by_amount(1), by_amount(2311)], id="by amount"),
    pytest.param(
        [
            by_named(worth(1, 333)),
            by_named(worth(1, 666)),
            by_named(worth(2, 1001)),
            by_named(worth(3, 500), worth(2, 810)),
        ],
        id="by the value of lines",
    ),
    pytest.param(
        [by_named(pieces(1, 1)), by_named(pieces(1, 2), pieces(2, 1)), by_named(pieces(2, 6)), by_named(pieces(3, 1))],
        id="by pieces",
    ),
    pytest.param(
        [by_named(pieces(1, 3)), by_named(worth(2, 11)), by_named(pieces(3, 1)), by_amount(1800)],
        id="one way and another",
    ),
]


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_partial_returns_in_any_order_take_exactly_what_the_purchase_gave(
    parts: list[Part], order: tuple[int, ...]
) -> None:
    made = shop(programme(earning=UNEVEN))
    bought = made.buy(3311, goods(999, "DAIRY", 3), goods(1811, quantity=7), shipping(501))
    assert bought.points == 28 + 7 + 31
    taken = [-parts[number](made) for number in order]
    left = made.purchase_of("a")
    if left.returned < left.amount:
        # The values of the lines leave one minor unit of shipping.
        taken.append(-made.bring_back(left.amount - left.returned).points)
    assert all(points >= 0 for points in taken)
    assert sum(taken) == bought.points
    purchase = made.purchase_of("a")
    assert (purchase.returned, purchase.returned_goods, purchase.returned_points) == (3311, 2810, bought.points)
    assert made.balance == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("part", "goods_left"),
    [
        (by_amount(1), 2810),
        (by_amount(100), 2726),
        (by_named(worth(1, 333), worth(2, 1)), 2476),
        (by_named(pieces(1, 1), pieces(3, 1)), 2477),
    ],
)
def test_what_remains_is_what_the_rules_give_for_the_goods_that_remain(part: Part, goods_left: int) -> None:
    made = shop(programme(earning='bonuses: [{id: more, multiplier: "2.75"}]'))
    made.buy(3311, goods(999, quantity=3), goods(1811), shipping(501))
    part(made)
    assert made.balance == (0, goods_left // 100 + goods_left * 175 // 10_000, 0, 0)


# --- by line and quantity ---------------------------------------------------------------------------------------


def test_a_line_comes_back_by_pieces_and_the_last_piece_is_worth_the_rest() -> None:
    made = shop()
    made.buy(1000, goods(1000, quantity=3))
    assert [made.bring_back(named=(pieces(1, 1),)).amount for _ in range(3)] == [333, 333, 334]
    assert made.bring_back(named=(pieces(1, 1),)).reason == "LINE_RETURN_EXCEEDS_PURCHASE"


def test_a_free_line_comes_back_with_the_one_that_was_paid() -> None:
    made = shop()
    made.buy(1000, goods(1000), goods(0, quantity=2))
    event = made.bring_back(named=(pieces(1, 1), pieces(2, 1)))
    assert (event.kind, event.amount, event.points) == (EntryKind.RETURN_RECORDED, 1000, -10)
    assert made.purchase_of("a").returned_lines == (LineReturn(1, 1, 1000), LineReturn(2, 1, 0))


@pytest.mark.parametrize("free_first", [True, False])
def test_a_free_line_comes_back_alone_and_takes_no_points(free_first: bool) -> None:
    made = shop(programme(earning=UNEVEN))
    bought = made.buy(3311, goods(3311, "DAIRY", 3), goods(0, "DAIRY"))
    if not free_first:
        assert [made.bring_back(named=(pieces(1, 1),)).amount for _ in range(3)] == [1103, 1104, 1104]
    before = made.balance
    free = made.bring_back(named=(pieces(2, 1),))
    assert (free.kind, free.amount, free.goods_paid, free.points) == (EntryKind.RETURN_RECORDED, 0, 0, 0)
    assert (free.postings, made.balance) == ((), before)
    assert made.bring_back(named=(pieces(2, 1),)).reason == "LINE_RETURN_EXCEEDS_PURCHASE"
    if free_first:
        made.bring_back(named=(pieces(1, 3),))
    purchase = made.purchase_of("a")
    assert (purchase.returned, purchase.returned_points, made.balance) == (3311, bought.points, (0, 0, 0, 0))
    assert purchase.returned_lines == (LineReturn(1, 3, 3311), LineReturn(2, 1, 0))


def test_a_free_line_that_came_back_before_its_purchase_counts_when_that_arrives() -> None:
    made = shop()
    made.bring_back(named=(pieces(2, 1),))
    made.buy(1000, goods(1000), goods(0))
    assert made.purchase_of("a").returned_lines == (LineReturn(2, 1, 0),)
    assert made.balance == (0, 10, 0, 0)


def test_pieces_that_are_worth_less_than_the_smallest_coin_come_back_one_by_one() -> None:
    made = shop()
    made.buy(101, goods(100), goods(1, quantity=3))
    assert [made.bring_back(named=(pieces(2, 1),)).amount for _ in range(3)] == [0, 0, 1]


def test_a_return_by_lines_says_which_lines_came_back_and_what_they_are_worth() -> None:
    made = shop()
    made.buy(900, goods(600, quantity=2), shipping(300))
    event = made.bring_back(named=(pieces(1, 1), worth(2, 100)))
    assert (event.amount, event.goods_paid, event.currency) == (400, 300, "EUR")
    assert event.returned_lines == (LineReturn(1, 1, 300), LineReturn(2, 0, 100))
    made.bring_back(named=(pieces(1, 1),))
    purchase = made.purchase_of("a")
    assert (purchase.returned, purchase.returned_goods) == (700, 600)
    assert purchase.returned_lines == (LineReturn(1, 2, 600), LineReturn(2, 0, 100))
    assert made.balance == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("amount", "named", "reason"),
    [
        (0, (pieces(3, 1),), "LINE_UNKNOWN"),
        (0, (pieces(1, 3),), "LINE_RETURN_EXCEEDS_PURCHASE"),
        (0, (worth(1, 601),), "LINE_RETURN_EXCEEDS_PURCHASE"),
        (0, (worth(1, 400), worth(1, 201)), "LINE_RETURN_EXCEEDS_PURCHASE"),
        (0, (pieces(1, 1), pieces(1, 1), pieces(1, 1)), "LINE_RETURN_EXCEEDS_PURCHASE"),
        (299, (pieces(1, 1),), "RETURNED_LINES_DIFFER"),
        (901, (), "RETURN_EXCEEDS_PURCHASE"),
    ],
)
def test_what_was_not_bought_does_not_come_back(amount: int, named: tuple[LineReturn, ...], reason: str) -> None:
    made = shop()
    made.buy(900, goods(600, quantity=2), shipping(300))
    before = made.purchase_of("a"), made.balance
    assert made.bring_back(amount, named=named).reason == reason
    assert (made.purchase_of("a"), made.balance) == before


def test_lines_that_were_erased_come_back_by_amount_alone() -> None:
    made = shop()
    made.buy(600, goods(600, quantity=2))
    made.forget("a")
    assert made.bring_back(named=(pieces(1, 1),)).reason == "DETAIL_ERASED"
    assert made.void().reason == "DETAIL_ERASED"
    assert made.bring_back(300).points == -3


def test_lines_are_those_of_a_purchase() -> None:
    with pytest.raises(LinesDoNotAddUpError):
        shop().bring_back(named=(pieces(1, 1),), purchase_id="")


# --- bonuses ----------------------------------------------------------------------------------------------------


def test_the_bonus_of_a_department_falls_with_the_lines_that_it_counted() -> None:
    made = shop(programme(earning='bonuses: [{id: dairy, multiplier: "3", departments: [DAIRY]}]'))
    bought = made.buy(2000, goods(500, "DAIRY"), goods(1500, "MEAT"))
    assert [(rule.rule, rule.points) for rule in bought.rules] == [("base", 20), ("dairy", 10)]
    meat = made.bring_back(named=(worth(2, 1500),))
    assert [(rule.rule, rule.points, rule.base) for rule in meat.rules] == [("base", -15, 1500), ("dairy", 0, 0)]
    dairy = made.bring_back(named=(worth(1, 250),))
    assert [(rule.rule, rule.points, rule.base) for rule in dairy.rules] == [("base", -3, 250), ("dairy", -5, 250)]
    assert made.bring_back(named=(worth(1, 250),)).points == -2 - 5


def test_a_fixed_bonus_falls_in_proportion() -> None:
    made = shop(programme(earning="bonuses: [{id: gift, points: 100}]"))
    made.buy(1000)
    assert made.bring_back(333).rules[1].points == -34
    assert made.bring_back(333).rules[1].points == -33
    assert made.bring_back(334).rules[1].points == -33


def test_an_award_that_a_purchase_made_possible_falls_with_its_return() -> None:
    made = shop()
    made.buy(1000)
    made.award(50, purchase_id="a")
    assert made.balance == (0, 60, 0, 0)
    assert [rule.points for rule in made.bring_back(400).rules] == [-4, -20]
    made.bring_back(600)
    assert made.balance == (0, 0, 0, 0)


def test_no_award_for_a_purchase_that_never_was_or_came_back_whole() -> None:
    made = shop()
    assert made.award(50, purchase_id="a").reason == "PURCHASE_UNKNOWN"
    made.bring_back(300)
    assert made.award(50, purchase_id="a").reason == "PURCHASE_UNKNOWN"
    made.buy(1000)
    made.bring_back(700)
    assert made.award(50, purchase_id="a").reason == "PURCHASE_RETURNED"


# --- where the points are taken from ----------------------------------------------------------------------------


def legs(event: object) -> list[tuple[str, int]]:
    return [(posting.account.value, posting.points) for posting in event.postings]  # type: ignore[attr-defined]


def test_what_the_purchase_gave_and_has_lapsed_is_only_un_issued() -> None:
    made = shop(programme(TEN_DAYS))
    made.buy(1000)
    made.redeem(4)
    made.now = NOON + 20 * DAY
    made.award(5)
    # 6 of the 10 lapsed; the other 4 were spent, and come from what is there.
    assert legs(made.bring_back(1000)) == [("expired", -6), ("available", -4), ("issued", -10)]
    assert made.balance == (0, 1, 0, 0)
    assert made.member.earned == 5


def test_what_lapsed_is_set_against_returns_once() -> None:
    made = shop(programme(TEN_DAYS))
    made.buy(1000)
    made.now = NOON + 20 * DAY
    assert legs(made.bring_back(300)) == [("expired", -3), ("issued", -3)]
    assert legs(made.bring_back(700)) == [("expired", -7), ("issued", -7)]


def test_what_lapsed_of_other_days_is_not_the_purchase_s() -> None:
    made = shop(programme(TEN_DAYS))
    made.award(50, at=NOON - 5 * DAY)
    made.buy(1000)
    made.now = local(2026, 5, 7, 12)
    assert made.balance == (0, 10, 0, 0)
    made.redeem(10)
    assert legs(made.bring_back(1000)) == [("debt", 10), ("issued", -10)]


def test_what_lapsed_by_inactivity_before_the_purchase_is_not_the_purchase_s() -> None:
    made = shop(programme("expiry: {policy: inactivity, period: P10D}"))
    made.award(50)
    made.now = NOON + 20 * DAY
    made.buy(1000)
    made.redeem(10)
    assert legs(made.bring_back(1000)) == [("debt", 10), ("issued", -10)]


def test_of_what_lapsed_by_inactivity_only_what_went_since_the_purchase_can_be_the_purchase_s() -> None:
    made = shop(programme("expiry: {policy: inactivity, period: P10D}"))
    made.award(50)
    made.now = NOON + 20 * DAY
    made.buy(1000)
    made.redeem(9)
    made.award(2)
    made.now = NOON + 40 * DAY
    assert made.balance == (0, 0, 0, 0)
    # 50 points went before, 3 since.
    assert legs(made.bring_back(1000)) == [("expired", -3), ("debt", 7), ("issued", -10)]


def test_what_is_pending_goes_first() -> None:
    made = shop(programme(earning="pending: P14D"))
    made.award(50)
    made.buy(1000)
    assert legs(made.bring_back(400)) == [("pending", -4), ("issued", -4)]
    assert made.balance == (6, 50, 0, 0)


def test_pending_points_have_not_lapsed_though_others_did() -> None:
    made = shop(programme("expiry: {policy: inactivity, period: P10D}", earning="pending: P14D"))
    made.award(50)
    made.buy(1000)
    made.now = NOON + 12 * DAY
    assert made.balance == (10, 0, 0, 0)
    assert legs(made.bring_back(1000)) == [("pending", -10), ("issued", -10)]


def test_the_lot_of_the_purchase_goes_before_lots_that_would_be_drawn_first() -> None:
    made = shop(programme(TEN_DAYS))
    made.award(50, at=NOON - 3 * DAY)
    made.buy(1000)
    made.bring_back(400)
    assert made.lots == [("2026-05-08", 50), ("2026-05-11", 6)]


def test_what_was_spent_comes_from_other_lots_first_expiring_first_and_the_rest_is_owed() -> None:
    made = shop(programme(TEN_DAYS))
    made.buy(1000)
    made.redeem(8)
    made.award(3, at=NOON - 3 * DAY)
    made.award(2, at=NOON - 2 * DAY)
    event = made.bring_back(1000)
    assert legs(event) == [
        ("available", -2),
        ("available", -3),
        ("available", -2),
        ("debt", 3),
        ("issued", -10),
    ]
    assert [posting.lot.expires.day for posting in event.postings[:3] if posting.lot.expires] == [11, 8, 9]
    assert made.balance == (0, 0, 0, 3)


def test_held_points_are_left_alone() -> None:
    made = shop()
    made.buy(1000)
    made.hold(7)
    made.bring_back(1000)
    assert made.balance == (0, 0, 7, 7)


def test_earning_returning_and_keeping_the_points_does_not_work() -> None:
    made = shop()
    made.buy(1000)
    made.redeem(10)
    made.bring_back(1000)
    made.buy(1000, purchase_id="b")
    assert made.balance == (0, 0, 0, 0)
    assert made.redeem(1).reason == "NOT_ENOUGH_POINTS"


# --- when the points are spent ----------------------------------------------------------------------------------


def spent(policy: str) -> Shop:
    made = shop(programme(f"returns: {{shortfall: {policy}}}"))
    made.buy(1000)
    made.redeem(8)
    return made


def test_a_shortfall_is_owed_by_default() -> None:
    made = spent("debt")
    made.bring_back(1000)
    assert made.balance == (0, 0, 0, 8)


def test_a_shortfall_is_let_go_and_said_so() -> None:
    made = spent("forgive")
    event = made.bring_back(1000)
    assert [(rule.rule, rule.points) for rule in event.rules] == [("base", -10), ("forgiven", 8)]
    assert legs(event) == [("available", -2), ("issued", -2)]
    assert made.balance == (0, 0, 0, 0)
    assert made.purchase_of("a").returned == 1000


def test_what_was_let_go_is_not_asked_for_again() -> None:
    made = spent("forgive")
    made.bring_back(500)
    assert made.balance == (0, 0, 0, 0)
    made.award(20)
    assert made.bring_back(500).points == -5
    assert made.balance == (0, 15, 0, 0)


def test_a_return_of_spent_points_is_refused_and_can_come_again() -> None:
    made = spent("refuse")
    before = made.purchase_of("a")
    assert made.bring_back(1000).reason == "POINTS_SPENT"
    assert (made.purchase_of("a"), made.balance) == (before, (0, 2, 0, 0))
    assert made.bring_back(200).kind is EntryKind.RETURN_RECORDED
    made.award(8)
    assert made.bring_back(800).kind is EntryKind.RETURN_RECORDED


@pytest.mark.parametrize("policy", ["debt", "forgive", "refuse"])
def test_an_unlinked_return_is_never_refused_what_is_missing_is_owed(policy: str) -> None:
    made = spent(policy)
    assert made.bring_back(1000, purchase_id="").points == -10
    assert made.balance == (0, 0, 0, 8)


# --- returns that wait ------------------------------------------------------------------------------------------


def test_a_return_by_lines_waits_for_its_purchase_and_is_worth_what_that_says() -> None:
    made = shop()
    waiting = made.bring_back(named=(pieces(1, 1),))
    assert (waiting.kind, waiting.amount, waiting.currency) == (EntryKind.RETURN_WAITING, 0, "EUR")
    unknown = made.bring_back(named=(pieces(2, 1),))
    made.buy(1000, goods(1000, quantity=2))
    settled = [event for event in made.events if event.request_id == waiting.request_id][-1]
    assert (settled.kind, settled.amount, settled.points) == (EntryKind.RETURN_RECORDED, 500, -5)
    refused = [event for event in made.events if event.request_id == unknown.request_id][-1]
    assert (refused.kind, refused.reason) == (EntryKind.REQUEST_REFUSED, "LINE_UNKNOWN")
    assert made.balance == (0, 5, 0, 0)
    assert made.purchase_of("a").waiting == ()


def test_what_waited_comes_out_of_what_its_purchase_gives_be_it_pending_or_lapsed() -> None:
    pending = shop(programme(earning="pending: P14D"))
    pending.bring_back(400)
    pending.buy(1000)
    assert pending.balance == (6, 0, 0, 0)
    late = Shop(programme(TEN_DAYS), NOON, joined=NOON - 100 * DAY)
    late.bring_back(400, at=NOON - 20 * DAY)
    late.buy(1000, at=NOON - 30 * DAY)
    assert late.balance == (0, 0, 0, 0)
    assert late.events[-1].posted(Account.EXPIRED) == 6


# --- voiding ----------------------------------------------------------------------------------------------------


def test_a_void_undoes_a_purchase_whole() -> None:
    made = shop(programme(earning="bonuses: [{id: gift, points: 7}]"))
    made.buy(1000, store_id="s1")
    made.award(50, purchase_id="a")
    event = made.void(store_id="s1")
    assert (event.kind, event.amount, event.goods_paid, event.points) == (EntryKind.PURCHASE_VOIDED, 1000, 1000, -67)
    assert made.balance == (0, 0, 0, 0)
    assert made.purchase_of("a").voided
    assert made.void(store_id="s1").reason == "PURCHASE_VOIDED"
    assert made.bring_back(1).reason == "PURCHASE_VOIDED"


def test_a_void_takes_what_partial_returns_have_left() -> None:
    made = shop()
    made.buy(1000, store_id="s1")
    made.bring_back(333)
    assert made.void(store_id="s1").amount == 667
    assert made.balance == (0, 0, 0, 0)


def test_a_purchase_is_voided_in_its_store_and_on_its_local_day_alone() -> None:
    made = shop()
    made.now = local(2026, 5, 1, 23, 59)
    made.buy(1000, store_id="s1")
    assert made.void(store_id="s2").reason == "VOID_OTHER_STORE"
    made.now = local(2026, 5, 2)
    assert made.void(store_id="s1").reason == "VOID_TOO_LATE"
    # The claimed day alone voids nothing, but what the till could not send at once happened in time.
    made.now = local(2026, 5, 3)
    assert made.void(store_id="s1", at=local(2026, 5, 1, 23, 59, 30)).reason == "VOID_TOO_LATE"
    made.now = local(2026, 5, 2)
    assert made.void(store_id="s1", at=local(2026, 5, 1, 23, 58)).reason == "VOID_TOO_LATE"
    assert made.void(store_id="s1", at=local(2026, 5, 1, 23, 59, 30)).kind is EntryKind.PURCHASE_VOIDED


def test_nothing_to_void_where_there_is_no_purchase_or_all_of_it_came_back() -> None:
    made = shop()
    assert made.void().reason == "PURCHASE_UNKNOWN"
    made.bring_back(100)
    assert made.void().reason == "PURCHASE_UNKNOWN"
    made.buy(1000)
    made.bring_back(900)
    assert made.void().reason == "PURCHASE_RETURNED"


def test_a_void_of_spent_points_follows_the_programme_s_policy() -> None:
    made = spent("refuse")
    assert made.void().reason == "POINTS_SPENT"
    made = spent("debt")
    made.void()
    assert made.balance == (0, 0, 0, 8)


def test_an_award_for_a_purchase_of_which_half_came_back_falls_with_the_other_half() -> None:
    made = shop()
    made.buy(10_000)
    made.bring_back(5_000)
    made.award(100, purchase_id="a")
    assert made.bring_back(100).points == -3  # 1 of the purchase, 2 of the award
    assert made.bring_back(4_900).points == -49 - 98
    assert made.balance == (0, 0, 0, 0)
