"""Coupons, pools of codes and rewards without a database: the rules alone."""

from __future__ import annotations

import contextlib
import re
from codecs import BOM_UTF8
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from loyalty.notifier.v1 import coupon_pb2

from services.cli import coupons, segments
from services.cli.accounts import Account
from services.cli.installation import Connection
from services.notifier.domain.coupons import Coupon, CouponState
from services.notifier.domain.issuing import Limits, beyond
from services.notifier.domain.pools import folded, printed
from services.notifier.domain.rewards import RewardFacts, obstacles, text_in, wrong_money
from services.notifier.domain.uses import (
    RESIGNED,
    CouponUse,
    Goods,
    Now,
    Redeem,
    Release,
    UseCommand,
    UseContext,
    Uses,
    UseState,
    asks_tier,
    why_not,
    worth,
)
from services.programme import ProgrammeError, load, parse
from services.programme.calendar import Window
from services.programme.rewards import CouponAction, Offer, OfferKind, Reward, RewardText, Terms
from services.runtime import contract
from tests.conftest import PROGRAMMES

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = Now(business=START, machine=START)
PERCENT = Offer(kind=OfferKind.DISCOUNT_PERCENT, percent_bp=750)


def money(minor_units: int) -> str:
    return f"{minor_units} cents"


def coupon(terms: Terms = Terms(), **changed: object) -> Coupon:  # noqa: B008  # frozen
    values: dict[str, object] = {
        "partition": 0,
        "campaign_id": "",
        "member_id": "",
        "trigger": "request:1",
        "code": "TEN",
        "variant": 0,
        "offer": PERCENT,
        "terms": terms,
        "issued_time": START,
        "valid_until_time": START + timedelta(days=30),
    }
    return Coupon(**{**values, **changed})  # type: ignore[arg-type]


def reason(of: Coupon, **where: object) -> str:
    refusal = why_not(of, Uses({}), UseContext(**where), NOW, money)  # type: ignore[arg-type]
    return refusal.reason if refusal else ""


def test_who_asks_for_the_benefits_of_a_suspended_account_is_told_so() -> None:
    of_gold = coupon(Terms(tiers=frozenset({"gold"})))
    assert reason(of_gold, tier="gold", member_id="m") == ""
    assert reason(of_gold, tier="suspended", member_id="m") == "ACCOUNT_SUSPENDED"
    assert reason(of_gold, tier="", member_id="m") == "COUPON_NOT_FOR_TIER"


def test_a_suspended_account_uses_no_coupon_and_pays_with_a_gift_card_that_is_nobodys() -> None:
    suspended = {"tier": "suspended", "member_id": "m"}
    card = Offer(kind=OfferKind.GIFT_CARD, amount=5000)
    for frozen in (coupon(), coupon(member_id="m"), coupon(offer=card, member_id="m")):
        assert reason(frozen, tier="", member_id="m") == ""
        assert reason(frozen, **suspended) == "ACCOUNT_SUSPENDED"
    assert reason(coupon(offer=card), **suspended) == ""
    assert reason(coupon()) == "", "where no card is shown it is whose it is"


def test_the_tier_is_asked_of_members_alone_and_where_nothing_else_decides() -> None:
    shown = UseContext(member_id="m")

    def asked(of: Coupon, command: UseCommand, *uses: CouponUse) -> bool:
        return asks_tier(of, Uses({use.use_id: use for use in uses}), command, NOW)

    def redeem(context: UseContext = shown, **more: bool) -> Redeem:
        return Redeem(use_id="u", context=context, occurred_time=START, **more)

    later = START + timedelta(minutes=1)
    promised = CouponUse(use_id="u", member_id="m", state=UseState.RESERVED, reserved_until=later)
    assert asked(coupon(), redeem())
    assert asked(coupon(), redeem(reserved=True), replace(promised, reserved_until=START)), "it ran out"
    assert not asked(coupon(), redeem(UseContext()))
    assert not asked(coupon(), redeem(UseContext(member_id="m", tier="")))
    assert not asked(coupon(redeemed=1), redeem())
    assert not asked(coupon(member_id="other"), redeem())
    assert not asked(coupon(), redeem(reserved=True), promised)
    assert not asked(coupon(), Release(use_id="u"), promised)


def test_a_coupon_that_is_being_made_is_in_no_other_state_whatever_else_is_true() -> None:
    made = coupon(preparing=True, redeemed=1, voided_time=START)
    assert made.state_at(START) is CouponState.PREPARING


def test_what_was_used_stays_used_though_it_was_taken_back_or_its_time_is_over() -> None:
    later = START + timedelta(days=90)
    assert coupon(redeemed=1, voided_time=START).state_at(later) is CouponState.REDEEMED
    assert coupon(uses=2, redeemed=1, voided_time=START).state_at(later) is CouponState.VOID
    assert coupon(uses=2, redeemed=1).state_at(later) is CouponState.EXPIRED
    assert coupon(uses=2, redeemed=1).state_at(later, reserved=1) is CouponState.RESERVED


def test_only_the_goods_that_a_coupon_names_count_for_its_minimum() -> None:
    shoes = coupon(Terms(minimum_minor_units=1000, departments=frozenset({"shoes"}), skus=frozenset({"hat-1"})))
    basket = (Goods(sku="s", department="shoes", minor_units=600), Goods(sku="hat-1", department="", minor_units=399))
    other = Goods(sku="x", department="books", minor_units=9000)
    assert reason(shoes, goods=(other,)) == "COUPON_GOODS_MISSING"
    assert reason(shoes, goods=(*basket, other)) == "COUPON_BELOW_MINIMUM"
    assert reason(shoes, goods=(*basket, Goods(sku="s", department="shoes", minor_units=1))) == ""


def test_what_all_goods_come_to_says_nothing_of_those_that_a_coupon_names() -> None:
    assert reason(coupon(Terms(minimum_minor_units=1000)), minor_units=999) == "COUPON_BELOW_MINIMUM"
    assert reason(coupon(Terms(minimum_minor_units=1000)), minor_units=1000) == ""
    assert reason(coupon(Terms(minimum_minor_units=1000, skus=frozenset("a"))), minor_units=1) == ""


def test_a_minimum_is_told_as_people_read_it() -> None:
    refusal = why_not(coupon(Terms(minimum_minor_units=1000)), Uses({}), UseContext(minor_units=1), NOW, money)
    assert refusal is not None
    assert "1000 cents" in refusal.sentence
    assert dict(refusal.facts) == {"minimum_minor_units": "1000", "minor_units": "1"}


@pytest.mark.parametrize(
    "offer, words",
    [
        (PERCENT, "7.5 % off"),
        (Offer(kind=OfferKind.DISCOUNT_AMOUNT, amount=500), "500 cents off"),
        (Offer(kind=OfferKind.FREE_SHIPPING), "free shipping"),
        (Offer(kind=OfferKind.FREE_PRODUCT, sku="mug"), "free: mug"),
        (Offer(kind=OfferKind.GIFT_CARD, amount=500), "a gift card of 500 cents"),
        (Offer(kind=OfferKind.EXPERIENCE, detail="Dinner"), "Dinner"),
        (Offer(kind=OfferKind.BONUS_POINTS, points=7), "7 points"),
    ],
)
def test_what_an_offer_is_can_be_said_at_the_till(offer: Offer, words: str) -> None:
    assert worth(offer, money) == words


@pytest.mark.parametrize(
    "line, code",
    [
        (" ab-cd-ef\n", "AB-CD-EF"),
        ("ABCDE", None),
        ("A-B-C-D-E", None),
        ("AB--CDEF", None),
        ("-ABCDEF", None),
        ("ABCDEF-", None),
        ("ABC DEF", None),
        ("ÀBCDEF", None),
        ("A" * 64, "A" * 64),
        ("A" * 65, None),
        ("=CMD()123", None),
    ],
)
def test_a_code_of_a_pool_is_letters_and_digits_with_single_dashes(line: str, code: str | None) -> None:
    assert printed(line) == code


def test_codes_that_people_mix_up_are_known_by_the_same() -> None:
    assert folded("ko-i1-sz8") == folded("K0L15 28".replace(" ", "")) == folded("K01-15-2B")
    assert folded("KING1") != folded("KING2")


async def test_the_mark_that_spreadsheets_begin_a_text_with_is_no_part_of_its_first_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[coupon_pb2.ImportCodesRequest] = []

    async def take(request: coupon_pb2.ImportCodesRequest, **_: object) -> coupon_pb2.ImportCodesResponse:
        asked.append(request)
        return coupon_pb2.ImportCodesResponse(imported=len(request.codes))

    @contextlib.asynccontextmanager
    async def rewards(up: object) -> AsyncIterator[SimpleNamespace]:
        yield SimpleNamespace(ImportCodes=take)

    monkeypatch.setattr(coupons, "_rewards", rewards)
    file = tmp_path / "codes.txt"
    for mark in (BOM_UTF8, b""):
        file.write_bytes(mark + b"ABCD-EFGH\r\nJKLM-NPQR\r\n")
        assert (await coupons._import(cast(Connection, None), "partner", file)).taken == 2
    assert list(asked[0].codes) == ["ABCD-EFGH", "JKLM-NPQR"]
    assert asked[0] == asked[1], "it is the same import with and without the mark"


def test_staff_read_that_the_programme_lets_them_give_none_where_it_says_nothing() -> None:
    def problem(limits: Limits, **offer: object) -> tuple[str, str] | None:
        asked = Offer(**offer)  # type: ignore[arg-type]
        return beyond(limits, asked, 1, money, member_id="m-1", pool="", by_staff=True)

    none = "is not staff's to give: the programme leaves {} out"
    for kind in (OfferKind.DISCOUNT_AMOUNT, OfferKind.GIFT_CARD, OfferKind.FREE_SHIPPING):
        assert problem(Limits(), kind=kind, amount=1) == ("offer.amount", none.format("support.coupon_amount"))
    percent = {"kind": OfferKind.DISCOUNT_PERCENT, "percent_bp": 1}
    assert problem(Limits(), **percent) == ("offer.percent_basis_points", none.format("support.coupon_percent"))
    assert problem(Limits(amount=1, percent_bp=1), **percent) is None
    assert problem(Limits(amount=1), kind=OfferKind.GIFT_CARD, amount=2) == (
        "offer.amount", "must come to at most 1 cents, all uses together: support.coupon_amount"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("taken", "lines", "sentence"),
    [
        (1, 6, "1 member of 6 lines is in the segment vip, 2 of them new"),
        (3, 1, "3 members of 1 line are in the segment vip, 2 of them new"),
    ],
)
def test_what_came_of_a_list_of_members_is_told_in_whole_words(taken: int, lines: int, sentence: str) -> None:
    assert segments.sentence(Account(taken=taken, lines=lines), "vip", 2, remove=False) == sentence


# --- rewards ---


def reward(**changed: object) -> Reward:
    action = CouponAction(offer=PERCENT, valid=Window(days=1), prefix="A")
    values: dict[str, object] = {"id": "r", "coupon": action, "points": 500}
    return Reward(**{**values, **changed})  # type: ignore[arg-type]


def against(of: Reward, **facts: object) -> list[str]:
    values: dict[str, object] = {"tier": "", "segments": frozenset(), "day": date(2026, 5, 5), "points": 500}
    return [one.reason for one in obstacles(of, RewardFacts(**{**values, **facts}))]  # type: ignore[arg-type]


def test_a_reward_is_there_on_its_first_and_last_day_and_not_beside_them() -> None:
    one_day = reward(from_day=date(2026, 5, 5), until_day=date(2026, 5, 5))
    assert against(one_day) == []
    for other in (date(2026, 5, 4), date(2026, 5, 6)):
        assert against(one_day, day=other) == ["REWARD_NOT_OFFERED_NOW"]


def test_all_that_stands_in_the_way_is_told() -> None:
    gold = reward(tiers=frozenset({"gold"}))
    assert against(gold, points=0, stock_left=0, left_for_member=0) == [
        "REWARD_NOT_FOR_MEMBER",
        "OUT_OF_STOCK",
        "REWARD_LIMIT_REACHED",
        "NOT_ENOUGH_POINTS",
    ]
    assert against(gold, tier="gold") == []
    assert against(reward(segments=frozenset({"a", "b"})), segments=frozenset({"b"})) == []
    assert against(reward(segments=frozenset({"a"}))) == ["REWARD_NOT_FOR_MEMBER"]
    assert against(gold, no_member=RESIGNED, pool_empty=True, stock_left=5) == ["MEMBER_RESIGNED", "OUT_OF_STOCK"]


def test_money_is_paid_to_the_cent_also_where_none_is_asked_for() -> None:
    assert wrong_money(reward(), 0, "PLN", money) is None
    for asked, paid in ((0, 1), (200, 199), (200, 201), (200, 0)):
        refusal = wrong_money(reward(money_minor_units=asked), paid, "PLN", money)
        assert refusal is not None
        assert refusal.facts["money_minor_units"] == str(asked)


def test_words_fall_back_from_the_region_to_the_language_to_the_first() -> None:
    texts = {"en": RewardText(name="Mug"), "pt-BR": RewardText(name="Caneca"), "pl": RewardText(name="Kubek")}
    told = reward(texts=texts)
    names = {asked: text_in(told, asked)[0] for asked in ("pl", "pl-PL", "PT-br", "pt", "", "fr-CA")}
    assert names == {"pl": "pl", "pl-PL": "pl", "PT-br": "pt-BR", "pt": "en", "": "en", "fr-CA": "en"}
    assert text_in(reward(), "en") == ("", RewardText(name="r"))


@pytest.mark.parametrize("points, problem", [(400, "redemption.minimum"), (550, "redemption.step"), (600, "")])
def test_a_price_that_nobody_could_redeem_is_a_mistake_of_the_programme(points: int, problem: str) -> None:
    text = (PROGRAMMES / "retail-demo.yaml").read_text(encoding="utf-8").partition("\nrewards:")[0]
    coupon_text = "{prefix: MUG, free_product: mug-1, valid: P30D}"
    text += f"\nrewards: [{{id: mug, points: {points}, coupon: {coupon_text}, texts: {{en: {{name: Mug}}}}}}]\n"
    if problem:
        with pytest.raises(ProgrammeError, match=rf"rewards.*points.*{re.escape(problem)}"):
            parse(text, "test")
    else:
        assert parse(text, "test").rewards[0].points == points


def test_what_a_reward_asks_of_others_is_open_to_the_notifiers_certificate() -> None:
    opened = {
        path.rpartition("/")[2]
        for service in ("ledger", "tiers")
        for path, callers in contract.permissions(contract.SERVICES[service]).callers.items()
        if "notifier" in callers
    }
    moves = {"HoldPoints", "CaptureHold", "ReleaseHold", "AwardPoints", "ReverseRedemption"}
    assert moves | {"GetBalance", "GetMember", "GetStanding"} <= opened


def test_the_presets_have_no_reward_that_could_not_be_listed() -> None:
    for file in sorted(PROGRAMMES.glob("*.yaml")):
        for one in load(file).rewards:
            assert text_in(one, "en")[1].name
