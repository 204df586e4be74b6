"""Campaigns, rewards, surveys and badges of a programme file."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import protovalidate
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loyalty.tiers.v1 import tier_service_pb2

from services.programme import (
    Actions,
    Audience,
    Budget,
    Cap,
    CouponAction,
    Offer,
    OfferKind,
    Programme,
    ProgrammeError,
    RewardText,
    Stacking,
    SurveyKind,
    Terms,
    Trigger,
    TriggerKind,
    Variant,
    Window,
    load,
    parse,
)
from services.programme.campaign_checks import MOST_DAYS_AT_RISK
from services.programme.document import Document, KeyPath, Problem
from tests.conftest import PROGRAMMES
from tests.unit.test_programme import places

NEW = ("rewards", "campaigns", "surveys", "badges")
HEAD = """\
programme: shop
currency: EUR
time_zone: Europe/Vienna
earning: {base: goods_paid, points: 1, per: "1.00"}
liability:
  values:
    - {from: "2020-01-01", points: 100, worth: "1.00"}
tiers:
  base: total
  window: P365D
  levels:
    - name: Guest
    - {name: Regular, from: "300.00"}
    - {name: Star, from: "900.00"}
markets:
  uk:
    currency: GBP
    time_zone: Europe/London
    per: "0.90"
    thresholds: {regular: {from: "260.00"}, star: {from: "780.00"}}
"""
MESSAGE = "message: {subject: Hello, text: Here you are}"


def shop(more: str) -> Programme:
    return parse(HEAD + more, "shop.yaml")


def problems(more: str) -> list[str]:
    with pytest.raises(ProgrammeError) as refused:
        shop(more)
    return [line.partition(": ")[2] for line in str(refused.value).splitlines()]


def campaign(lines: str) -> Any:
    (only,) = shop(f"campaigns:\n  - id: one\n    {lines}\n").campaigns
    return only


def test_a_campaign_says_its_trigger_its_audience_and_what_it_gives_to_whom() -> None:
    more = """\
campaigns:
  - id: comeback
    trigger: inactivity
    when: {after: P60D}
    from: "2026-01-01"
    until: "2026-12-31"
    audience:
      tiers: [regular, star]
      markets: ["", uk]
      segments: [vip]
      not_segments: [staff]
      attributes: {hobby: tea}
      consent: offers
    control: "10"
    budget: {count: 1000, points: 50000, amount: "500.00"}
    cap: {times: 2, in: P90D}
    points: 50
    badge: lost-and-found
    variants:
      - id: short
        share: "25.00"
        points: 100
        lasting: P30D
        cap: {times: 1, in: P365D}
      - id: plain
        share: "75.00"
        webhook: campaign.comeback
badges:
  - {id: lost-and-found, texts: {en: {name: Lost and found}}}
"""
    (one,) = shop(more).campaigns
    assert one.trigger == Trigger(kind=TriggerKind.INACTIVITY, days=60)
    assert one.audience == Audience(
        tiers=frozenset({"regular", "star"}),
        markets=frozenset({"", "uk"}),
        segments=frozenset({"vip"}),
        not_segments=frozenset({"staff"}),
        attributes={"hobby": "tea"},
        consent="offers",
    )
    assert one.variants == (
        Variant(
            id="short",
            share_bp=2500,
            actions=Actions(points=100, lasting=Window(days=30), badge="lost-and-found"),
            cap=Cap(times=1, days=365),
        ),
        Variant(
            id="plain",
            share_bp=7500,
            actions=Actions(points=50, webhook="campaign.comeback", badge="lost-and-found"),
            cap=Cap(times=2, days=90),
        ),
    )
    assert one.control_bp == 1000
    assert one.budget == Budget(count=1000, points=50000, minor_units=50000)
    assert one.runs_on(date(2026, 12, 31))
    assert not one.runs_on(date(2027, 1, 1))
    assert not one.runs_on(date(2025, 12, 31))


@pytest.mark.parametrize(
    ("lines", "trigger"),
    [
        ("trigger: tier_reached\n    tiers: [star]", Trigger(kind=TriggerKind.TIER_REACHED, tiers=("star",))),
        ("trigger: tier_lost\n    tiers: [star]", Trigger(kind=TriggerKind.TIER_LOST, tiers=("star",))),
        (
            "trigger: tier_at_risk\n    tiers: [star]\n    when: {before: P14D}",
            Trigger(kind=TriggerKind.TIER_AT_RISK, tiers=("star",), days=14),
        ),
        (
            "trigger: points_reached\n    when: {points: 25000}",
            Trigger(kind=TriggerKind.POINTS_REACHED, points=25000),
        ),
        ("trigger: points_expiring\n    when: {before: P30D}", Trigger(kind=TriggerKind.POINTS_EXPIRING, days=30)),
        ("trigger: first_purchase", Trigger(kind=TriggerKind.FIRST_PURCHASE)),
        (
            'trigger: purchase\n    when: {minimum: "50.00", departments: [Toys], stores: [s-1], channels: [web]}',
            Trigger(
                kind=TriggerKind.PURCHASE,
                minimum_minor_units=5000,
                departments=frozenset({"Toys"}),
                stores=frozenset({"s-1"}),
                channels=frozenset({"web"}),
            ),
        ),
        ("trigger: nth_visit\n    when: {visits: 10}", Trigger(kind=TriggerKind.NTH_VISIT, visits=10)),
        ("trigger: birthday", Trigger(kind=TriggerKind.BIRTHDAY)),
        ("trigger: anniversary", Trigger(kind=TriggerKind.ANNIVERSARY)),
        ("trigger: coupon_expiring\n    when: {before: P3D}", Trigger(kind=TriggerKind.COUPON_EXPIRING, days=3)),
        ("trigger: programme_change", Trigger(kind=TriggerKind.PROGRAMME_CHANGE)),
        (
            'trigger: surprise\n    when: {probability: "0.5"}',
            Trigger(kind=TriggerKind.SURPRISE, probability_bp=50),
        ),
        (
            "trigger: segment_entered\n    when: {segment: vip}",
            Trigger(kind=TriggerKind.SEGMENT_ENTERED, segment="vip"),
        ),
        ('trigger: date\n    when: {day: "2026-12-24"}', Trigger(kind=TriggerKind.DATE, day=date(2026, 12, 24))),
    ],
    ids=lambda value: value.kind if isinstance(value, Trigger) else "",
)
def test_each_trigger_is_told_what_it_goes_by(lines: str, trigger: Trigger) -> None:
    assert campaign(f"{lines}\n    points: 10").trigger == trigger


@pytest.mark.parametrize(
    ("offer", "meant"),
    [
        ('discount_percent: "7.5"', Offer(kind=OfferKind.DISCOUNT_PERCENT, percent_bp=750)),
        ('discount_amount: "5.00"', Offer(kind=OfferKind.DISCOUNT_AMOUNT, amount=500)),
        ("free_product: SKU-7", Offer(kind=OfferKind.FREE_PRODUCT, sku="SKU-7")),
        ("free_shipping: true", Offer(kind=OfferKind.FREE_SHIPPING)),
        ('free_shipping: "9.99"', Offer(kind=OfferKind.FREE_SHIPPING, amount=999)),
        ('gift_card: "25.00"', Offer(kind=OfferKind.GIFT_CARD, amount=2500)),
        ("upgrade: A bigger room", Offer(kind=OfferKind.UPGRADE, detail="A bigger room")),
        ("early_access: The sale", Offer(kind=OfferKind.EARLY_ACCESS, detail="The sale")),
        ("digital_content: A song", Offer(kind=OfferKind.DIGITAL_CONTENT, detail="A song")),
        ("experience: A dinner", Offer(kind=OfferKind.EXPERIENCE, detail="A dinner")),
    ],
)
def test_a_coupon_is_good_for_one_of_many_things(offer: str, meant: Offer) -> None:
    given = (
        campaign(f"trigger: birthday\n    coupon: {{prefix: BDAY, {offer}, valid: P30D}}").variants[0].actions.coupon
    )
    assert given == CouponAction(offer=meant, valid=Window(days=30), prefix="BDAY")


def test_a_reward_is_a_coupon_on_terms_or_points_at_a_price() -> None:
    more = """\
rewards:
  - id: shipping
    points: 25000
    money: "2.00"
    stock: 500
    per_member: 2
    tiers: [star]
    segments: [vip]
    from: "2026-01-01"
    until: "2026-06-30"
    coupon:
      pool: partner-codes
      free_shipping: "9.99"
      valid: P60D
      uses: 3
      stacking: with_tier
      minimum: "20.00"
      skus: [SKU-1]
      departments: [Toys]
      stores: [s-1]
      channels: [web]
      tiers: [star]
    texts:
      en: {name: Free shipping, description: Three times}
      de: {name: Gratisversand}
  - {id: swap, points: 100, bonus_points: 120, texts: {en: {name: Swap}}}
"""
    shipping, swap = shop(more).rewards
    assert shipping.coupon == CouponAction(
        offer=Offer(kind=OfferKind.FREE_SHIPPING, amount=999),
        valid=Window(days=60),
        pool="partner-codes",
        uses=3,
        terms=Terms(
            stacking=Stacking.WITH_TIER,
            minimum_minor_units=2000,
            skus=frozenset({"SKU-1"}),
            departments=frozenset({"Toys"}),
            stores=frozenset({"s-1"}),
            channels=frozenset({"web"}),
            tiers=frozenset({"star"}),
        ),
    )
    assert (shipping.points, shipping.money_minor_units, shipping.stock, shipping.per_member) == (25000, 200, 500, 2)
    assert (shipping.tiers, shipping.segments) == (frozenset({"star"}), frozenset({"vip"}))
    assert (shipping.from_day, shipping.until_day) == (date(2026, 1, 1), date(2026, 6, 30))
    assert dict(shipping.texts) == {
        "en": RewardText(name="Free shipping", description="Three times"),
        "de": RewardText(name="Gratisversand"),
    }
    assert swap.coupon.offer == Offer(kind=OfferKind.BONUS_POINTS, points=120)


def test_surveys_know_what_is_an_answer_to_them() -> None:
    more = """\
surveys:
  - {id: nps, kind: nps, questions: {en: "Would you recommend us?"}, link: "https://shop.example/nps"}
  - {id: stars, kind: stars, questions: {en: "How was it?"}}
  - {id: which, kind: choice, questions: {en: "Which?"}, choices: [tea, coffee]}
"""
    programme = shop(more)
    nps, stars, which = programme.surveys
    assert nps.kind is SurveyKind.NPS
    assert nps.link == "https://shop.example/nps"
    assert [score for score in range(-1, 12) if nps.takes(score, "")] == list(range(11))
    assert [score for score in range(-1, 12) if stars.takes(score, "")] == [1, 2, 3, 4, 5]
    assert which.takes(None, "tea")
    assert not which.takes(None, "cocoa")
    assert not which.takes(1, "")
    assert not nps.takes(None, "tea")
    assert not nps.takes(None, "")
    assert not nps.takes(5, "tea")
    assert programme.survey("stars") == stars
    assert programme.survey("none") is None


def test_campaigns_as_they_were_written_before_mean_the_same_and_have_the_same_version() -> None:
    demo = load(PROGRAMMES / "tiered-365.yaml")
    assert demo.version == "tiered-365@9bf939480655"
    old = """\
campaigns:
  - id: regular-reached
    trigger: tier_reached
    tiers: [regular]
    coupon: {prefix: REG, discount_percent: "10", valid: P30D}
    message: {subject: Hi, text: There}
"""
    (one,) = shop(old).campaigns
    assert one.trigger == Trigger(kind=TriggerKind.TIER_REACHED, tiers=("regular",))
    assert one.audience.all
    assert one.budget.unlimited
    assert one.control_bp == 0
    (variant,) = one.variants
    assert (variant.id, variant.share_bp, variant.cap) == ("", 10_000, None)


WRONG = {
    "nothing given": ("trigger: birthday", ["campaigns[0]: gives nothing; add one of coupon, points, message, "
                                            "webhook, badge, survey"]),
    "no level for a trigger about levels": (
        "trigger: tier_lost\n    points: 5", ["campaigns[0].tiers: is missing; expected a list"]),
    "levels for a trigger about none": (
        "trigger: birthday\n    tiers: [star]\n    points: 5",
        ["campaigns[0].tiers: the trigger is birthday, which is about no level; say in audience who is meant"]),
    "a trigger not told what it needs": (
        "trigger: inactivity\n    points: 5",
        ["campaigns[0].when.after: is missing; the trigger inactivity goes by it"]),
    "days further ahead than tiers look": (
        "trigger: tier_at_risk\n    tiers: [star]\n    when: {before: P3660D}\n    points: 5",
        ['campaigns[0].when.before: found "P3660D"; the trigger tier_at_risk looks at most 3,659 days ahead']),
    "a trigger told what it does not go by": (
        "trigger: birthday\n    when: {visits: 3}\n    points: 5",
        ["campaigns[0].when.visits: is nothing that the trigger birthday goes by; remove it"]),
    "an unknown trigger": (
        "trigger: brithday\n    points: 5",
        ['campaigns[0].trigger: found "brithday"; expected tier_reached, tier_lost, tier_at_risk, points_reached, '
         "points_expiring, first_purchase, purchase, nth_visit, birthday, anniversary, inactivity, coupon_expiring, "
         'programme_change, surprise, segment_entered or date; did you mean "birthday"?']),
    "an audience that does not exist": (
        "trigger: birthday\n    points: 5\n    audience: {tiers: [sta], markets: [us]}",
        ['campaigns[0].audience.tiers[0]: there is no level "sta"; did you mean "star"?',
         'campaigns[0].audience.markets[0]: there is no market "us"; there are "", "uk"']),
    "shares that are not the whole": (
        'trigger: birthday\n    points: 5\n    variants: [{id: a, share: "50"}, {id: b, share: "49"}]',
        ['campaigns[0].variants: their shares come to other than "100"; change one']),
    "two variants of one name": (
        'trigger: birthday\n    points: 5\n    variants: [{id: a, share: "50"}, {id: a, share: "50"}]',
        ['campaigns[0].variants[1].id: "a" is already the id of variants[0]; give it another']),
    "points that last and are not given": (
        f"trigger: birthday\n    lasting: P30D\n    {MESSAGE}",
        ["campaigns[0].lasting: there are no points that could last so long; add points, or remove this key"]),
    "a survey that nothing leads to": (
        "trigger: birthday\n    survey: nps",
        ['campaigns[0].survey: there is no survey "nps"; give it among surveys',
         "campaigns[0].survey: nothing leads to it; add a message that does"]),
    "a badge that does not exist": (
        "trigger: birthday\n    badge: gold", ['campaigns[0].badge: there is no badge "gold"; give it among badges']),
    "a budget of points where none are given": (
        f"trigger: birthday\n    {MESSAGE}\n    budget: {{points: 5}}",
        ["campaigns[0].budget.points: no points are given; remove this key"]),
    "a budget of money where nothing has a set worth": (
        'trigger: birthday\n    coupon: {prefix: B, discount_percent: "5", valid: P1Y}\n    budget: {amount: "5.00"}',
        ["campaigns[0].budget.amount: nothing of a set worth is given: an amount, a gift card, shipping up to an "
         "amount, points of a value"]),
    "days out of order": (
        'trigger: birthday\n    points: 5\n    from: "2026-02-01"\n    until: "2026-01-01"',
        ['campaigns[0].until: found "2026-01-01"; expected the day of from, "2026-02-01", or a later one']),
    "codes from nowhere": (
        'trigger: birthday\n    coupon: {discount_percent: "5", valid: P1Y}',
        ["campaigns[0].coupon: no codes; add prefix or pool"]),
    "codes from two places": (
        'trigger: birthday\n    coupon: {prefix: A, pool: a, discount_percent: "5", valid: P1Y}',
        ["campaigns[0].coupon: codes are made, or come from a pool; keep prefix or pool"]),
    "a broken template of a variant": (
        "trigger: birthday\n    variants: [{id: a, share: \"100\", message: {subject: '{{ cod }}', text: x}}]",
        ['campaigns[0].variants[0].message.subject: unknown variable "cod"; did you mean "code"?']),
}  # fmt: skip


@pytest.mark.parametrize(("lines", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_about_a_campaign_is_told(lines: str, said: list[str]) -> None:
    assert sorted(problems(f"campaigns:\n  - id: one\n    {lines}\n")) == sorted(said)


def test_tiers_can_be_asked_as_far_ahead_as_a_programme_may_say() -> None:
    protovalidate.validate(
        tier_service_pb2.ListStandingsRequest(tier_numbers=[1], losing_within_days=MOST_DAYS_AT_RISK + 1)
    )


def test_what_is_wrong_about_rewards_and_surveys_is_told() -> None:
    more = """\
rewards:
  - {id: a, points: 5, texts: {en: {name: A}}}
  - {id: a, points: 5, bonus_points: 6, tiers: [moon], texts: {English: {name: A}}}
surveys:
  - {id: s, kind: choice, questions: {en: "What?"}}
  - {id: t, kind: nps, questions: {en: "What?"}, choices: [a, b]}
"""
    assert problems(more) == [
        "rewards[0]: gives nothing; add coupon or bonus_points",
        'rewards[1].id: "a" is already the id of rewards[0]; give it another',
        'rewards[1].texts.English: found "English"; expected a language such as "en" or "pt-BR"',
        'rewards[1].tiers[0]: there is no level "moon"; there are guest, regular, star',
        "surveys[0].choices: is missing; say what can be chosen",
        "surveys[1].choices: the kind is nps, which is answered by a number; remove this key",
    ]


RICH = (
    HEAD
    + """\
rewards:
  - id: shipping
    points: 25000
    tiers: [star]
    segments: [vip]
    from: "2026-01-01"
    until: "2026-06-30"
    coupon: {prefix: SHIP, free_shipping: "9.99", valid: P60D, uses: 3, stacking: any, skus: [a], tiers: [star]}
    texts: {en: {name: Free shipping, description: Three times}}
campaigns:
  - id: comeback
    trigger: purchase
    when: {minimum: "5.00", departments: [Toys], stores: [s], channels: [web]}
    from: "2026-01-01"
    until: "2026-12-31"
    audience:
      {tiers: [star], markets: [uk], segments: [a], not_segments: [b], attributes: {a: b}, consent: offers}
    control: "10"
    budget: {count: 1000, points: 50000, amount: "500.00"}
    cap: {times: 2, in: P90D}
    points: 50
    badge: lost
    survey: nps
    message: {subject: Hello, text: There}
    variants: [{id: a, share: "50", points: 100, lasting: P30D}, {id: b, share: "50", webhook: a.b}]
  - {id: risk, trigger: tier_at_risk, tiers: [star], when: {before: P9D}, points: 1}
surveys:
  - {id: nps, kind: choice, questions: {en: What}, choices: [a, b], link: "https://shop.example/nps"}
badges:
  - {id: lost, texts: {en: {name: Lost}}}
"""
)


@given(
    st.sampled_from(
        [place for place in places(Document(RICH, "x").content)[1:] if place[0] in NEW and "message" not in place]
    ),
    st.sampled_from([None, True, -1, 10**17, "", "P0M", "\0", [], [[]], [None], ["x", "x"], {}, {"from": []}]),
)
def test_whatever_stands_at_a_key_it_is_taken_or_refused_in_sentences(place: KeyPath, odd: object) -> None:
    content: Any = Document(RICH, "x").content
    around = content
    for step in place[:-1]:
        around = around[step]
    around[place[-1]] = odd
    told: tuple[Problem, ...] = ()
    try:
        parse(json.dumps(content), "shop.yaml")
    except ProgrammeError as error:
        told = error.problems
    assert all("; " in problem.message for problem in told)


def test_what_is_rich_is_right() -> None:
    assert [reward.id for reward in parse(RICH, "x").rewards] == ["shipping"]


def test_the_example_of_the_documentation_is_a_programme() -> None:
    page = (PROGRAMMES.parent / "docs" / "campaigns.md").read_text(encoding="utf-8")
    (example,) = page.split("```yaml\n")[1:]
    programme = parse(example.split("```")[0], "docs/campaigns.md")
    assert len(programme.campaigns) == 5
    for kind in TriggerKind:
        assert f"`{kind}`" in page
