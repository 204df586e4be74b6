"""Who gets what of a campaign: by lot, once, within budgets and caps."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.domain.assignments import (
    Claim,
    Cost,
    Person,
    Spent,
    assign,
    belongs,
    cost_of,
    lot,
    trigger_of,
    variant_of,
)
from services.notifier.domain.feeds import Happening, MemberEvent, TierChange
from services.notifier.domain.profiles import Occasion, Profile, Purchase, changed, met, occasion_of
from services.programme import (
    Actions,
    Audience,
    Budget,
    Campaign,
    Cap,
    CouponAction,
    Offer,
    OfferKind,
    Trigger,
    TriggerKind,
    Variant,
    Window,
    load,
)
from tests.conftest import PROGRAMMES

PROGRAMME = load(PROGRAMMES / "retail-demo.yaml")
NOON = datetime(2026, 6, 1, 16, tzinfo=UTC)
MEMBER = Profile(partition=1, member_id="m-1", tier="green", market="uk", purchases=3, available=100)


def campaign(kind: TriggerKind = TriggerKind.PURCHASE, **more: Any) -> Campaign:
    trigger = Trigger(kind=kind, **{name: more.pop(name) for name in list(more) if name in Trigger.__slots__})
    actions, cap = Actions(points=more.pop("gives", 10)), more.pop("cap", None)
    plain = (Variant(id="", share_bp=10_000, actions=actions, cap=cap),)
    return Campaign(**{"id": "c", "trigger": trigger, "variants": plain, **more})


def claim(of: Campaign, member_id: str = "m-1", trigger: str = "entry:1") -> Claim:
    return Claim(programme=PROGRAMME, campaign=of, partition=1, member_id=member_id, trigger=trigger, time=NOON)


def bought(goods: int = 5000, number: int = 1, **more: Any) -> Occasion:
    return Occasion(
        kinds=frozenset(
            {TriggerKind.PURCHASE, TriggerKind.FIRST_PURCHASE, TriggerKind.NTH_VISIT, TriggerKind.SURPRISE}
        ),
        partition=1,
        member_id=more.pop("member_id", "m-1"),
        time=NOON,
        key=more.pop("key", "entry:7"),
        purchase=Purchase(purchase_id="p", number=number, goods_minor_units=goods, channel="web", **more),
    )


# --- by lot -----------------------------------------------------------------------------------------------------------


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_a_lot_is_the_same_whenever_it_is_drawn(campaign_id: str, member_id: str) -> None:
    drawn = lot(campaign_id, member_id, "variant")
    assert 0 <= drawn < 10_000
    assert drawn == lot(campaign_id, member_id, "variant")


@given(shares=st.lists(st.integers(1, 100), min_size=1, max_size=6), control=st.integers(0, 9_999))
def test_each_variant_gets_its_share_and_the_control_group_cuts_through_all_alike(
    shares: list[int], control: int
) -> None:
    whole = sum(shares)
    parts = [share * 10_000 // whole for share in shares]
    parts[0] += 10_000 - sum(parts)
    variants = tuple(
        Variant(id=f"v{number}", share_bp=part, actions=Actions(points=1)) for number, part in enumerate(parts)
    )
    tested = campaign(variants=variants, control_bp=control)
    members = 2_000
    drawn = [variant_of(tested, f"member-{number}") for number in range(members)]
    counts = Counter(variant.id for variant, _ in drawn)
    # Six standard deviations of a binomial: a fair lot is outside once in a billion tries.
    for variant in variants:
        fair = members * variant.share_bp / 10_000
        assert abs(counts[variant.id] - fair) <= 6 * (fair * (1 - variant.share_bp / 10_000)) ** 0.5 + 1
    fair = members * control / 10_000
    assert abs(sum(in_control for _, in_control in drawn) - fair) <= 6 * (fair * (1 - control / 10_000)) ** 0.5 + 1


def test_another_campaign_draws_anew() -> None:
    one, other = campaign(control_bp=5000), campaign(control_bp=5000, id="d")
    same = sum(variant_of(one, f"m-{n}")[1] == variant_of(other, f"m-{n}")[1] for n in range(1000))
    assert 400 < same < 600


# --- once, budgets, caps ----------------------------------------------------------------------------------------------


@given(
    claims=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30),
    before=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3))),
    count=st.none() | st.integers(1, 8),
    points=st.none() | st.integers(1, 80),
    spent=st.integers(0, 5),
    times=st.none() | st.integers(1, 3),
    control=st.sampled_from([0, 5000]),
)
def test_nothing_is_given_twice_nor_beyond_its_budget_nor_more_often_than_its_cap(
    claims: list[tuple[int, int]],
    before: set[tuple[int, int]],
    count: int | None,
    points: int | None,
    spent: int,
    times: int | None,
    control: int,
) -> None:
    cap = None if times is None else Cap(times=times, days=30)
    of = campaign(budget=Budget(count=count, points=points), cap=cap, control_bp=control)
    asked = [claim(of, f"m-{member}", f"entry:{entry}") for member, entry in claims]
    had = {(1, "c", f"m-{member}", f"entry:{entry}") for member, entry in before}
    already = Spent(count=spent, points=10 * spent)
    given_now = assign(asked, given=had, spent={"c": already}, had={})
    keys = [one.claim.key for one in given_now]
    assert len(keys) == len(set(keys))
    assert not set(keys) & had
    paid = [one for one in given_now if not one.in_control]
    assert already.count == spent + len(paid)
    assert not paid or count is None or already.count <= count
    assert not paid or points is None or already.points <= points
    assert all(one.cost == Cost() for one in given_now if one.in_control)
    most = max(Counter(one.claim.member_id for one in given_now).values(), default=0)
    assert times is None or most <= times
    # Again there is nothing left to give.
    if count is None and points is None and times is None:
        assert not assign(asked, given=had | set(keys), spent={}, had={})


def test_what_a_member_had_before_counts_for_the_cap() -> None:
    of = campaign(cap=Cap(times=2, days=30))
    one, two = claim(of, trigger="entry:1"), claim(of, trigger="entry:2")
    assert [a.claim.trigger for a in assign([one, two], given=(), spent={}, had={one.key: 1, two.key: 1})] == [
        "entry:1"
    ]


def test_a_cap_is_that_of_the_variant_a_member_has() -> None:
    caps = {"often": Cap(times=5, days=30), "seldom": Cap(times=1, days=30), "always": None}
    shares = {"often": 4000, "seldom": 4000, "always": 2000}
    variants = tuple(
        Variant(id=name, share_bp=shares[name], actions=Actions(points=1), cap=cap) for name, cap in caps.items()
    )
    of = campaign(variants=variants)
    claims = [claim(of, f"m-{member}", f"entry:{entry}") for member in range(50) for entry in range(9)]
    got = Counter((one.variant, one.claim.member_id) for one in assign(claims, given=(), spent={}, had={}))
    assert {variant: times for (variant, _), times in got.items()} == {"often": 5, "seldom": 1, "always": 9}
    assert len(set(got.items())) == 50


def test_what_it_costs_is_what_the_coupon_is_worth_and_the_points_at_their_value_rounded_up() -> None:
    coupon = CouponAction(offer=Offer(kind=OfferKind.GIFT_CARD, amount=500), valid=Window(days=1), prefix="A", uses=2)
    assert cost_of(PROGRAMME, Actions(coupon=coupon, points=150), NOON) == Cost(points=150, minor_units=1000 + 150)
    percent = replace(coupon, offer=Offer(kind=OfferKind.DISCOUNT_PERCENT, percent_bp=500))
    assert cost_of(PROGRAMME, Actions(coupon=percent), NOON) == Cost()
    shipping = replace(coupon, offer=Offer(kind=OfferKind.FREE_SHIPPING))
    assert cost_of(PROGRAMME, Actions(coupon=shipping), NOON) == Cost()


# --- what sets it off -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "occasion", "trigger"),
    [
        (campaign(minimum_minor_units=5000), bought(), "entry:7"),
        (campaign(minimum_minor_units=5001), bought(), None),
        (campaign(channels=frozenset({"web"})), bought(), "entry:7"),
        (campaign(channels=frozenset({"pos"})), bought(), None),
        (campaign(stores=frozenset({"s-1"})), bought(store="s-1"), "entry:7"),
        (campaign(stores=frozenset({"s-1"})), bought(), None),
        (campaign(departments=frozenset({"Toys"})), bought(departments=frozenset({"Toys", "Food"})), "entry:7"),
        (campaign(departments=frozenset({"Toys"})), bought(departments=frozenset({"Food"})), None),
        (campaign(TriggerKind.FIRST_PURCHASE), bought(), "first"),
        (campaign(TriggerKind.FIRST_PURCHASE), bought(number=2), None),
        (campaign(TriggerKind.NTH_VISIT, visits=10), bought(number=10), "visit:10"),
        (campaign(TriggerKind.NTH_VISIT, visits=10), bought(number=11), None),
        (campaign(TriggerKind.SURPRISE, probability_bp=10_000), bought(), "entry:7"),
        (campaign(TriggerKind.BIRTHDAY), bought(), None),
        (campaign(until_day=date(2026, 5, 31)), bought(), None),
    ],
)
def test_a_purchase_sets_off_what_it_meets(of: Campaign, occasion: Occasion, trigger: str | None) -> None:
    assert trigger_of(of, occasion, PROGRAMME) == trigger


def test_a_surprise_comes_as_often_as_its_probability_says() -> None:
    of = campaign(TriggerKind.SURPRISE, probability_bp=1000)
    hits = sum(trigger_of(of, bought(key=f"entry:{n}"), PROGRAMME) is not None for n in range(5000))
    assert 400 < hits < 600


def change(from_tier: int, to_tier: int, **more: Any) -> TierChange:
    return TierChange(
        partition=1,
        offset=17,
        member_id="m-1",
        from_tier_number=from_tier,
        from_tier=PROGRAMME.tiers.level(from_tier).name if from_tier else "",
        to_tier_number=to_tier,
        to_tier=PROGRAMME.tiers.level(to_tier).name if to_tier else "",
        balance=1,
        changed_time=NOON,
        cause_offset=1,
        **more,
    )


def test_a_level_is_reached_or_lost_and_a_suspension_is_neither() -> None:
    reached, lost = occasion_of(change(1, 2), PROGRAMME), occasion_of(change(3, 2), PROGRAMME)
    assert reached is not None
    assert lost is not None
    green = campaign(TriggerKind.TIER_REACHED, tiers=("green",))
    assert trigger_of(green, reached, PROGRAMME) == "change:17"
    assert trigger_of(green, lost, PROGRAMME) is None
    assert trigger_of(campaign(TriggerKind.TIER_LOST, tiers=("silver",)), lost, PROGRAMME) == "change:17"
    assert occasion_of(change(3, 0), PROGRAMME) is None
    assert occasion_of(change(1, 2, restores=True), PROGRAMME) is None
    assert changed(MEMBER, change(2, 0), PROGRAMME).suspended
    assert changed(MEMBER, change(0, 2), PROGRAMME).takes_part


def event(happening: Happening, available: int = 100, **more: Any) -> MemberEvent:
    return MemberEvent(member_id="m-1", happening=happening, occurred_time=NOON, available=available, **more)


def test_points_are_reached_where_they_cross_upward_once_in_a_year() -> None:
    of = campaign(TriggerKind.POINTS_REACHED, points=150)

    def triggers(before: int, after: int) -> list[str | None]:
        _, found = met(replace(MEMBER, available=before), event(Happening.OTHER, after), 9, PROGRAMME)
        return [trigger_of(of, one, PROGRAMME) for one in found]

    assert triggers(100, 150) == ["points:2026"]
    assert triggers(149, 149) == []
    assert triggers(150, 160) == [None]
    assert triggers(100, 149) == [None]
    assert triggers(200, 100) == []


def test_what_is_known_of_a_member_follows_what_happens() -> None:
    bought_once, found = met(MEMBER, event(Happening.PURCHASE, 120), 9, PROGRAMME)
    assert (bought_once.purchases, bought_once.last_time, bought_once.available) == (4, NOON, 120)
    assert [one.purchase.number for one in found if one.purchase is not None] == [4]
    voided, _ = met(bought_once, event(Happening.VOID), 10, PROGRAMME)
    assert voided.purchases == 3
    gone, _ = met(MEMBER, event(Happening.LEFT), 11, PROGRAMME)
    assert not gone.takes_part
    back, _ = met(gone, event(Happening.CAME_BACK), 12, PROGRAMME)
    assert back.takes_part
    idle, _ = met(MEMBER, event(Happening.OTHER), 13, PROGRAMME)
    assert idle.last_time is None


def test_goods_of_other_money_reach_no_minimum() -> None:
    def goods(currency: str) -> int:
        _, found = met(MEMBER, event(Happening.PURCHASE, goods_minor_units=9000, currency=currency), 9, PROGRAMME)
        return next(one.purchase.goods_minor_units for one in found if one.purchase is not None)

    assert (goods("USD"), goods("GBP")) == (9000, 0)


# --- for whom ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("audience", "person", "meant"),
    [
        (Audience(), Person(), True),
        (Audience(tiers=frozenset({"green"})), Person(), True),
        (Audience(tiers=frozenset({"golden"})), Person(), False),
        (Audience(markets=frozenset({"uk"})), Person(), True),
        (Audience(markets=frozenset({""})), Person(), False),
        (Audience(segments=frozenset({"vip", "press"})), Person(segments={"vip"}), True),
        (Audience(segments=frozenset({"vip"})), Person(), False),
        (Audience(not_segments=frozenset({"staff"})), Person(segments={"staff"}), False),
        (Audience(attributes={"hobby": "tea"}), Person(attributes={"hobby": "tea"}), True),
        (Audience(attributes={"hobby": "tea"}), Person(attributes={"hobby": "rum"}), False),
        (Audience(consent="offers"), Person(agreed={"offers"}), True),
        (Audience(consent="offers"), Person(), False),
        (Audience(tiers=frozenset({"green"}), consent="offers"), Person(), False),
    ],
)
def test_an_audience_is_who_meets_all_it_asks(audience: Audience, person: Person, meant: bool) -> None:
    assert belongs(audience, MEMBER, person) is meant
