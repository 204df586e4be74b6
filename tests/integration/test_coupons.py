"""Coupons over real gRPC: given, looked at, reserved, redeemed, given back, taken back; and pools of codes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb
from loyalty.ledger.v1.ledger_service_pb2 import LINE_KIND_GIFT_CARD, LINE_KIND_SHIPPING, Line
from loyalty.notifier.v1 import coupon_pb2 as pb
from loyalty.notifier.v1 import coupon_pb2_grpc, notifier_service_pb2_grpc, privacy_pb2, reward_pb2
from loyalty.type.v1 import error_reason_pb2
from loyalty.type.v1.money_pb2 import Money

from services.notifier.app import build
from services.notifier.store import QUERIES
from services.runtime.channels import open_channel
from tests.conftest import ROOT, SECRET, Database, StartLedger
from tests.coupon_desk import NOW, SECONDS, SUSPENDED, Desk, details_of, info_of, open_desk, refused, stamp, ten_percent
from tests.integration.test_audit import bearer, known
from tests.messages_desk import open_store
from tests.plans import rows_touched

REFUSED = grpc.StatusCode.FAILED_PRECONDITION
UNKNOWN = (grpc.StatusCode.NOT_FOUND, "COUPON_UNKNOWN")


@pytest_asyncio.fixture
async def desk(start_ledger: StartLedger, database: Database, folder: Path, token_file: Path) -> AsyncIterator[Desk]:
    async with open_desk(start_ledger, database, folder, token_file) as opened:
        yield opened


def usd(minor_units: int) -> Money:
    return Money(currency_code="USD", minor_units=minor_units)


def minutes(count: float) -> Duration:
    return Duration(seconds=int(count * 60))


async def why(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refused(caught.value)


def violation_of(error: grpc.aio.AioRpcError) -> error_details_pb2.BadRequest.FieldViolation:
    """What is wrong with the one field that a request was refused for."""
    violations = error_details_pb2.BadRequest()
    assert any(detail.Unpack(violations) for detail in details_of(error))
    (violation,) = violations.field_violations
    return violation


async def forget(desk: Desk, member_id: str) -> None:
    channel = open_channel(f"unix:{desk.folder}/notifier.sock", principal="test", secret=SECRET)
    members = notifier_service_pb2_grpc.NotifierServiceStub(channel)
    await members.EraseMember(privacy_pb2.EraseMemberRequest(request_id="erase", member_id=member_id), timeout=SECONDS)
    await channel.close()


async def resign(desk: Desk, member_id: str) -> str:
    request = ledger_pb.ResignMemberRequest(request_id=desk.next(), member_id=member_id, occurred_time=stamp(NOW))
    return (await desk.ledger.ResignMember(request, timeout=SECONDS)).causal_token


async def uses_of(desk: Desk, code: str) -> list[Any]:
    """The uses of a coupon as they are kept, whose use it was and when, those of nobody first."""
    connection = await asyncpg.connect(desk.database.dsn("loyalty_owner"))
    try:
        wanted = "SELECT member_id, redeemed_time FROM notifier.coupon_uses WHERE code = $1 ORDER BY 1, 2"
        return list(await connection.fetch(wanted, code))
    finally:
        await connection.close()


async def test_a_coupon_goes_from_issued_over_reserved_to_redeemed_and_says_so(desk: Desk) -> None:
    await desk.enroll("m-1")
    issued = await desk.issue("i-1", member_id="m-1")
    code = issued.coupon.code
    assert code.startswith("TEN-")
    assert (issued.coupon.state, issued.coupon.member_id, issued.coupon.uses_left) == (
        pb.COUPON_STATE_ISSUED, "m-1", 1)  # fmt: skip
    assert (issued.coupon.offer.percent_basis_points, issued.coupon.discount_basis_points) == (1000, 1000)
    where = pb.CouponUseContext(member_id="m-1")
    held = await desk.reserve(code, context=where, ttl=minutes(5))
    assert held.reserved_until_time.ToDatetime(UTC) == desk.clock() + timedelta(minutes=5)
    assert (held.coupon.state, held.coupon.uses_left) == (pb.COUPON_STATE_RESERVED, 1)
    assert (await desk.coupon(code)).state == pb.COUPON_STATE_RESERVED
    assert await why(desk.redeem(code, context=where)) == (REFUSED, "COUPON_RESERVED")
    used = await desk.redeem(code, use_id=held.use_id, purchase_id="p-1")
    assert (used.coupon.state, used.coupon.uses_left, used.use_id) == (pb.COUPON_STATE_REDEEMED, 0, held.use_id)
    assert await why(desk.redeem(code, context=where)) == (REFUSED, "COUPON_REDEEMED")
    assert (await desk.coupons("m-1"))[0].state == pb.COUPON_STATE_REDEEMED
    assert await desk.coupons("m-1", usable=True) == []
    assert await desk.differences() == []


async def test_a_reservation_that_ran_out_is_free_at_once_and_the_late_till_may_still_have_it(desk: Desk) -> None:
    code = (await desk.issue()).coupon.code
    dead = await desk.reserve(code, ttl=minutes(5))
    desk.clock.move(timedelta(minutes=5) - timedelta(microseconds=1))
    assert await why(desk.reserve(code)) == (REFUSED, "COUPON_RESERVED")
    desk.clock.move(timedelta(microseconds=1))
    assert (await desk.coupon(code)).state == pb.COUPON_STATE_ISSUED
    second = await desk.reserve(code, ttl=minutes(5))
    assert await why(desk.redeem(code, use_id=dead.use_id)) == (REFUSED, "COUPON_RESERVED")
    await desk.release(code, second.use_id)
    assert (await desk.redeem(code, use_id=dead.use_id)).coupon.state == pb.COUPON_STATE_REDEEMED


async def test_a_request_that_is_sent_again_has_the_same_answer_also_where_that_is_a_refusal(desk: Desk) -> None:
    first = await desk.issue("i-1")
    code = first.coupon.code
    again = await desk.issue("i-1")
    assert (again.coupon.code, again.replayed, first.replayed) == (code, True, False)
    assert await why(desk.issue("i-1", reason="other")) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    held = await desk.reserve(code, request_id="r-1")
    assert await why(desk.reserve(code, request_id="r-2")) == (REFUSED, "COUPON_RESERVED")
    await desk.release(code, held.use_id, request_id="x-1")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await desk.reserve(code, request_id="r-2")
    assert refused(caught.value) == (REFUSED, "COUPON_RESERVED")
    assert info_of(caught.value).metadata["replayed"] == "true"
    before = await desk.redeem(code, request_id="d-1")
    await desk.release(code, before.use_id, redeemed=True)
    replayed = await desk.redeem(code, request_id="d-1")
    assert (replayed.replayed, replayed.coupon.state) == (True, pb.COUPON_STATE_REDEEMED)
    assert (await desk.coupon(code)).state == pb.COUPON_STATE_ISSUED
    assert await why(desk.redeem(code, request_id="d-1", store_id="s")) == (
        grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")  # fmt: skip


async def test_a_redeemed_use_comes_back_only_where_the_caller_says_that_all_came_back(desk: Desk) -> None:
    code = (await desk.issue()).coupon.code
    used = await desk.redeem(code)
    assert await why(desk.release(code, used.use_id)) == (REFUSED, "COUPON_USE_REDEEMED")
    assert await why(desk.release(code, "nothing")) == (grpc.StatusCode.NOT_FOUND, "COUPON_USE_UNKNOWN")
    assert (await desk.release(code, used.use_id, redeemed=True)).coupon.uses_left == 1
    assert (await desk.redeem(code)).coupon.state == pb.COUPON_STATE_REDEEMED


async def test_a_redeemed_use_is_given_back_by_whoever_gives_coupons_out_and_by_no_till(desk: Desk) -> None:
    code = (await desk.issue()).coupon.code
    use_id = (await desk.redeem(code)).use_id
    release = pb.ReleaseCouponRequest(request_id="back", code=code, use_id=use_id, redeemed=True)
    config = desk.config(listen=f"unix:{desk.folder}/known.sock")
    service = await build(config, desk.stack, desk.clock)
    channel = await desk.stack.enter_async_context(known(service, config.listen, desk.folder))
    rewards = coupon_pb2_grpc.RewardServiceStub(channel)
    denied = grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING"
    assert await why(rewards.ReleaseCoupon(release, metadata=bearer("pos"), timeout=SECONDS)) == denied
    assert (await desk.coupon(code)).state == pb.COUPON_STATE_REDEEMED
    back = await rewards.ReleaseCoupon(release, metadata=bearer("support"), timeout=SECONDS)
    assert back.coupon.state == pb.COUPON_STATE_ISSUED


async def test_who_gave_took_back_or_freed_a_coupon_by_hand_stays_on_record_and_its_code_does_not(desk: Desk) -> None:
    await desk.enroll("m-1")
    text = desk.programme.read_text(encoding="utf-8")
    desk.programme.write_text(f'{text}\nsupport: {{coupon_percent: "20"}}\n', encoding="utf-8")
    document = desk.programme.read_text(encoding="utf-8")
    apply = ledger_pb.ApplyProgrammeRequest(request_id="apply", document=document, from_time=stamp(NOW))
    await desk.reach((await desk.ledger.ApplyProgramme(apply, timeout=SECONDS)).causal_token)
    config = desk.config(listen=f"unix:{desk.folder}/known.sock")
    service = await build(config, desk.stack, desk.clock)
    channel = await desk.stack.enter_async_context(known(service, config.listen, desk.folder))
    desk.rewards = coupon_pb2_grpc.RewardServiceStub(channel)
    clerk, shop, till = bearer("support", sub="anna"), bearer("backend", sub="shop"), bearer("pos", sub="till")

    async def give(request_id: str, who: Any) -> str:
        request = pb.IssueCouponRequest(
            request_id=request_id, member_id="m-1", offer=ten_percent(), prefix="TEN", reason="late_parcel",
            valid_until_time=stamp(NOW + timedelta(days=30)),
        )  # fmt: skip
        return (await desk.rewards.IssueCoupon(request, metadata=who, timeout=SECONDS)).coupon.code

    async def redeemed(code: str) -> str:
        context = pb.CouponUseContext(member_id="m-1")
        request = pb.RedeemCouponRequest(request_id=f"use-{code}", code=code, context=context)
        return (await desk.rewards.RedeemCoupon(request, metadata=till, timeout=SECONDS)).use_id

    codes = await give("by-staff", clerk), await give("by-shop", shop)
    free = pb.ReleaseCouponRequest(request_id="f-1", code=codes[0], use_id=await redeemed(codes[0]), redeemed=True)
    await desk.rewards.ReleaseCoupon(free, metadata=clerk, timeout=SECONDS)
    void = pb.VoidCouponRequest(request_id="v-1", code=codes[0], reason="mistake")
    await desk.rewards.VoidCoupon(void, metadata=clerk, timeout=SECONDS)
    connection = await asyncpg.connect(desk.database.dsn("loyalty_owner"))
    try:
        rows = await connection.fetch("SELECT * FROM notifier.audit_log WHERE outcome = 'DONE' ORDER BY number")
    finally:
        await connection.close()
    assert [(row["method"].rpartition("/")[2], row["principal"], row["member_ids"]) for row in rows] == [
        ("IssueCoupon", "anna", "m-1"), ("ReleaseCoupon", "anna", "m-1"), ("VoidCoupon", "anna", "m-1")
    ]  # fmt: skip
    assert not any(code in str(dict(row)) for row in rows for code in codes)


async def test_where_and_when_a_coupon_was_used_is_shown_with_it(desk: Desk) -> None:
    code = (await desk.issue(uses=3)).coupon.code
    await desk.redeem(code, request_id="u-1", store_id="s-1", purchase_id="p-1", occurred_time=stamp(NOW))
    given_back = await desk.redeem(code, request_id="u-2")
    await desk.release(code, given_back.use_id, redeemed=True)
    earlier = stamp(NOW - timedelta(hours=1))
    await desk.void(code)
    await desk.redeem(code, request_id="u-3", offline=True, store_id="s-2", occurred_time=earlier)
    shown = await desk.rewards.GetCoupon(pb.GetCouponRequest(code=code), timeout=SECONDS)
    assert list(shown.uses) == [
        pb.CouponUse(use_id="u-1", redeemed_time=stamp(NOW), store_id="s-1", purchase_id="p-1"),
        pb.CouponUse(
            use_id="u-3", redeemed_time=earlier, store_id="s-2",
            overdrawn_reason=error_reason_pb2.ERROR_REASON_COUPON_VOIDED,
        ),
    ]  # fmt: skip
    for_many = (await desk.issue(uses=101)).coupon.code
    await desk.redeem(for_many)
    shown = await desk.rewards.GetCoupon(pb.GetCouponRequest(code=for_many), timeout=SECONDS)
    assert (shown.coupon.uses_left, list(shown.uses)) == (100, [])


async def test_a_use_of_a_checkout_is_nobody_elses_to_keep_to_redeem_or_to_give_back(desk: Desk) -> None:
    code = (await desk.issue()).coupon.code
    use_id = f"checkout-{'0a' * 16}"
    of_checkout = REFUSED, "COUPON_USE_OF_CHECKOUT"
    assert await why(desk.reserve(code, request_id=use_id)) == of_checkout
    assert await why(desk.redeem(code, request_id=use_id)) == of_checkout
    assert await why(desk.redeem(code, use_id=use_id)) == of_checkout
    for redeemed in (False, True):
        assert await why(desk.release(code, use_id, redeemed=redeemed)) == of_checkout
    assert (await desk.reserve(code, request_id="checkout-17")).use_id == "checkout-17", "a till may call it so"


async def test_the_call_that_the_documentation_shows_gives_a_coupon(desk: Desk) -> None:
    page = (ROOT / "docs" / "coupons.md").read_text(encoding="utf-8").partition("### Coupons by hand")[2]
    request = json_format.Parse(page.partition("-d '")[2].partition("'")[0], pb.IssueCouponRequest())
    await desk.enroll(request.member_id)
    given = (await desk.rewards.IssueCoupon(request, timeout=SECONDS)).coupon
    assert given.code.startswith(f"{request.prefix}-")
    assert (given.member_id, given.offer) == (request.member_id, request.offer)


async def test_money_given_by_hand_has_a_limit(desk: Desk) -> None:
    async def give(kind: int, cents: int, uses: int, **fields: Any) -> Any:
        return await desk.issue(offer=reward_pb2.Offer(kind=kind, amount=usd(cents)), uses=uses, **fields)

    async def why_not(kind: int, cents: int, uses: int) -> str:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await give(kind, cents, uses)
        assert refused(caught.value) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        violation = violation_of(caught.value)
        return f"{violation.field} {violation.description}"

    before = await give(reward_pb2.OFFER_KIND_GIFT_CARD, 100_000_000, 1000, request_id="before")
    for kind in (reward_pb2.OFFER_KIND_GIFT_CARD, reward_pb2.OFFER_KIND_DISCOUNT_AMOUNT):
        assert await why_not(kind, 1, 1001) == (
            "uses must be at most 1,000 where the programme has no support.coupon_amount"
        )
    text = desk.programme.read_text(encoding="utf-8")
    limited = f'{text}\nsupport: {{coupon_amount: "50.00"}}\n'
    start = NOW + timedelta(hours=1)
    apply = ledger_pb.ApplyProgrammeRequest(request_id="apply", document=limited, from_time=stamp(start))
    await desk.ledger.ApplyProgramme(apply, timeout=SECONDS)
    await desk.reach(await desk.advance(start))
    for kind in (reward_pb2.OFFER_KIND_GIFT_CARD, reward_pb2.OFFER_KIND_DISCOUNT_AMOUNT):
        assert (await give(kind, 50, 100)).coupon.uses == 100
        for cents, uses in ((5001, 1), (50, 101)):
            assert await why_not(kind, cents, uses) == (
                "offer.amount must come to at most 50.00 USD, all uses together: support.coupon_amount"
            )
    assert (await desk.issue(uses=100_000)).coupon.uses == 100_000, "a part of a price is not so much money"
    again = await give(reward_pb2.OFFER_KIND_GIFT_CARD, 100_000_000, 1000, request_id="before")
    assert (again.replayed, again.coupon.code) == (True, before.coupon.code)


async def test_staff_give_members_coupons_within_what_the_programme_lets_them_and_none_where_it_does_not(
    desk: Desk,
) -> None:
    await desk.enroll("m-1")
    config = desk.config(listen=f"unix:{desk.folder}/known.sock")
    service = await build(config, desk.stack, desk.clock)
    channel = await desk.stack.enter_async_context(known(service, config.listen, desk.folder))
    rewards = coupon_pb2_grpc.RewardServiceStub(channel)

    async def give(role: str, uses: int = 1, member_id: str = "m-1", pool: str = "", **offer: Any) -> str:
        request = pb.IssueCouponRequest(
            request_id=desk.next(), member_id=member_id, offer=reward_pb2.Offer(**offer), uses=uses,
            prefix="" if pool else "TEN", pool=pool, reason="late_parcel",
            valid_until_time=stamp(NOW + timedelta(days=30)),
        )  # fmt: skip
        try:
            given = await rewards.IssueCoupon(request, metadata=bearer(role), timeout=SECONDS)
        except grpc.aio.AioRpcError as error:
            return violation_of(error).field
        return "" if given.coupon.code else "no coupon"

    def offers(cents: int, basis_points: int) -> list[dict[str, Any]]:
        return [
            {"kind": reward_pb2.OFFER_KIND_DISCOUNT_AMOUNT, "amount": usd(cents)},
            {"kind": reward_pb2.OFFER_KIND_GIFT_CARD, "amount": usd(cents)},
            {"kind": reward_pb2.OFFER_KIND_FREE_SHIPPING, "amount": usd(cents)},
            {"kind": reward_pb2.OFFER_KIND_DISCOUNT_PERCENT, "percent_basis_points": basis_points},
        ]

    article = {"kind": reward_pb2.OFFER_KIND_FREE_PRODUCT, "sku": "lamp"}
    too_much = ["offer.amount", "offer.amount", "offer.amount", "offer.percent_basis_points"]
    assert [await give("support", **offer) for offer in offers(1, 1)] == too_much
    assert [await give("backend", **offer) for offer in [*offers(100_000, 10_000), article]] == [""] * 5

    text = desk.programme.read_text(encoding="utf-8")
    limited = f'{text}\nsupport: {{coupon_amount: "50.00", coupon_percent: "20"}}\n'
    start = NOW + timedelta(hours=1)
    apply = ledger_pb.ApplyProgrammeRequest(request_id="apply", document=limited, from_time=stamp(start))
    await desk.ledger.ApplyProgramme(apply, timeout=SECONDS)
    token = await desk.advance(start)
    known_by = pb.ListCouponsRequest(member_id="m-1", causal_token=token)
    await rewards.ListCoupons(known_by, metadata=bearer("support"), timeout=SECONDS)
    assert [await give("support", **offer) for offer in offers(5_000, 2_000)] == [""] * 4
    assert [await give("support", uses=2, **offer) for offer in offers(2_500, 1_000)] == [""] * 4
    assert [await give("support", uses=2, **offer) for offer in offers(2_501, 1_001)] == too_much
    assert await give("support", **article) == "offer.kind"
    assert await give("support", kind=reward_pb2.OFFER_KIND_FREE_SHIPPING) == "offer.kind"
    assert await give("support", member_id="", **offers(1, 1)[0]) == "member_id"
    # What a code of a partner is worth elsewhere nobody knows.
    await desk.import_codes(["ABCDEFGH", "JKLMNPQR"], pool="partner")
    assert await give("support", pool="partner", **offers(1, 1)[0]) == "pool"
    assert await give("backend", pool="partner", **offers(1, 1)[0]) == ""
    assert await give("backend", uses=1000, member_id="", **offers(1, 10_000)[3]) == ""


async def test_who_was_erased_is_given_no_coupon_and_no_reward_and_is_told_so(desk: Desk) -> None:
    for member_id in ("m-1", "m-2"):
        await desk.enroll(member_id)
        await desk.award(member_id, 900)
    given = await desk.issue(request_id="before", member_id="m-1")
    await forget(desk, "m-1")
    for _ in range(2):
        assert await why(desk.issue(request_id="i-1", member_id="m-1")) == (REFUSED, "MEMBER_ERASED")
        assert await why(desk.get_reward("m-1", "mug", request_id="r-1")) == (REFUSED, "MEMBER_ERASED")
        assert await why(desk.catalogue("m-1")) == (REFUSED, "MEMBER_ERASED")
    assert (await desk.issue(request_id="before", member_id="m-1")).coupon.code == given.coupon.code
    assert (await desk.get_reward("m-2", "mug")).coupon.member_id == "m-2"
    assert (await desk.catalogue("m-2"))["mug"].stock_left == 2


async def test_a_coupon_that_was_voided_is_good_for_nothing_but_what_was_promised(desk: Desk) -> None:
    code = (await desk.issue(uses=2)).coupon.code
    held = await desk.reserve(code)
    voided = await desk.void(code)
    assert (voided.coupon.state, voided.coupon.void_reason) == (pb.COUPON_STATE_VOID, "mistake")
    assert voided.coupon.voided_time.ToDatetime(UTC) == NOW
    assert await why(desk.reserve(code)) == (REFUSED, "COUPON_VOIDED")
    assert (await desk.redeem(code, use_id=held.use_id)).coupon.uses_left == 1
    used_up = (await desk.issue()).coupon.code
    await desk.redeem(used_up)
    assert await why(desk.void(used_up)) == (REFUSED, "COUPON_REDEEMED")
    assert await desk.differences() == []


async def test_a_coupon_expires_in_business_time(desk: Desk) -> None:
    code = (await desk.issue(valid_until_time=stamp(NOW + timedelta(days=1)))).coupon.code
    assert (await desk.validate(code)).usable
    await desk.reach(await desk.advance(NOW + timedelta(days=1)))
    answer = await desk.validate(code)
    assert (answer.usable, answer.reason) == (False, error_reason_pb2.ERROR_REASON_COUPON_EXPIRED)
    assert answer.coupon.state == pb.COUPON_STATE_EXPIRED
    assert await why(desk.redeem(code)) == (REFUSED, "COUPON_EXPIRED")


async def test_each_condition_is_named_with_a_sentence_for_the_cashier(desk: Desk) -> None:
    await desk.enroll("m-1")
    await desk.enroll("green")
    token = await desk.buy("green", 50000)
    terms = reward_pb2.Terms(
        minimum=usd(2000),
        departments=["shoes"],
        store_ids=["s-1"],
        channels=["store"],
        tiers=["green"],
    )
    code = (await desk.issue(terms=terms)).coupon.code
    shoes = [
        Line(sku="a", department="shoes", amount_minor_units=1500),
        Line(department="hats", amount_minor_units=900),
    ]

    async def verdict(store_id: str = "s-1", **where: Any) -> str:
        context = pb.CouponUseContext(**{"member_id": "green", "channel": "store", "lines": shoes, **where})
        answer = await desk.validate(code, context=context, store_id=store_id)
        assert answer.usable == (answer.reason == 0)
        assert answer.sentence
        return error_reason_pb2.ErrorReason.Name(answer.reason).removeprefix("ERROR_REASON_COUPON_")

    await desk.coupons("green", token)
    assert await verdict(member_id="m-1") == "NOT_FOR_TIER"
    assert await verdict(member_id="") == "NOT_FOR_TIER"
    assert await verdict(store_id="s-2") == "NOT_FOR_STORE"
    assert await verdict(channel="web") == "NOT_FOR_CHANNEL"
    assert await verdict(lines=shoes[1:]) == "GOODS_MISSING"
    assert await verdict() == "BELOW_MINIMUM"
    freight = Line(department="shoes", amount_minor_units=9000, kind=LINE_KIND_SHIPPING)
    card = Line(department="shoes", amount_minor_units=9000, kind=LINE_KIND_GIFT_CARD)
    assert await verdict(lines=[*shoes, freight, card]) == "BELOW_MINIMUM"
    assert (await verdict(lines=[*shoes, Line(department="shoes", amount_minor_units=500)])).endswith("UNSPECIFIED")
    context = pb.CouponUseContext(member_id="green", channel="store", lines=shoes)
    assert await why(desk.redeem(code, context=context, store_id="s-1")) == (REFUSED, "COUPON_BELOW_MINIMUM")
    # Where the basket is not known, its terms are the till's to keep.
    context = pb.CouponUseContext(member_id="green", channel="store")
    assert (await desk.redeem(code, context=context, store_id="s-1")).coupon.state == pb.COUPON_STATE_REDEEMED


async def test_a_members_coupon_is_nobody_elses_and_a_public_one_is_for_each_once(desk: Desk) -> None:
    await desk.enroll("m-1")
    await desk.enroll("m-2")
    own = (await desk.issue(member_id="m-1")).coupon.code
    assert await why(desk.redeem(own)) == (REFUSED, "COUPON_NOT_FOR_MEMBER")
    assert await why(desk.redeem(own, context=pb.CouponUseContext(member_id="m-2"))) == (
        REFUSED, "COUPON_NOT_FOR_MEMBER")  # fmt: skip
    public = (await desk.issue(uses=3, once_per_member=True)).coupon.code
    assert await why(desk.redeem(public)) == (REFUSED, "COUPON_NOT_FOR_MEMBER")
    one, other = pb.CouponUseContext(member_id="m-1"), pb.CouponUseContext(member_id="m-2")
    await desk.redeem(public, context=one)
    assert await why(desk.redeem(public, context=one)) == (REFUSED, "COUPON_USED_BY_MEMBER")
    held = await desk.reserve(public, context=other)
    assert await why(desk.reserve(public, context=other)) == (REFUSED, "COUPON_USED_BY_MEMBER")
    assert (await desk.redeem(public, context=other, use_id=held.use_id)).coupon.uses_left == 1


async def test_what_was_given_offline_is_never_refused_and_noted(desk: Desk) -> None:
    code = (await desk.issue()).coupon.code
    await desk.redeem(code)
    late = await desk.redeem(code, offline=True, occurred_time=stamp(NOW - timedelta(hours=1)))
    assert late.overdrawn_reason == error_reason_pb2.ERROR_REASON_COUPON_REDEEMED
    assert (late.coupon.state, late.coupon.uses_left) == (pb.COUPON_STATE_REDEEMED, 0)
    assert await desk.differences() == []


async def test_a_suspended_account_uses_no_coupon_but_what_was_promised_and_what_was_given_offline(desk: Desk) -> None:
    await desk.enroll("m-1")
    until = stamp(SUSPENDED + timedelta(days=10))
    own, promised, public, offline = [
        (await desk.issue(member_id=member_id, valid_until_time=until)).coupon.code
        for member_id in ("m-1", "m-1", "", "m-1")
    ]
    shown = pb.CouponUseContext(member_id="m-1")
    held = await desk.reserve(promised, context=shown)
    await desk.coupons("m-1", await desk.advance(SUSPENDED))
    answer = await desk.validate(own, context=shown)
    assert (answer.usable, answer.reason) == (False, error_reason_pb2.ERROR_REASON_ACCOUNT_SUSPENDED)
    assert answer.sentence == "the account is suspended: no coupon is taken with it until it is revived"
    for code in (own, public):
        assert await why(desk.reserve(code, context=shown)) == (REFUSED, "ACCOUNT_SUSPENDED")
        assert await why(desk.redeem(code, context=shown)) == (REFUSED, "ACCOUNT_SUSPENDED")
    assert (await desk.redeem(promised, use_id=held.use_id, context=shown)).coupon.uses_left == 0
    late = await desk.redeem(offline, context=shown, offline=True)
    assert late.overdrawn_reason == error_reason_pb2.ERROR_REASON_ACCOUNT_SUSPENDED
    assert (await desk.redeem(public)).coupon.uses_left == 0, "nobody's card was shown"
    assert await desk.differences() == []


async def test_who_was_erased_has_left_or_never_was_uses_no_coupon_and_each_is_told_why(desk: Desk) -> None:
    gone = {
        "bob": error_reason_pb2.ERROR_REASON_MEMBER_ERASED,
        "cat": error_reason_pb2.ERROR_REASON_MEMBER_RESIGNED,
        "fake": error_reason_pb2.ERROR_REASON_MEMBER_UNKNOWN,
    }
    statuses = {"bob": REFUSED, "cat": REFUSED, "fake": grpc.StatusCode.NOT_FOUND}
    for member_id in ("ann", "bob", "cat"):
        await desk.enroll(member_id)
    public = (await desk.issue(uses=9, once_per_member=True)).coupon.code
    promised = (await desk.issue(uses=9)).coupon.code
    held = {who: await desk.reserve(promised, context=pb.CouponUseContext(member_id=who)) for who in ("bob", "cat")}
    await forget(desk, "bob")
    await desk.coupons("cat", await resign(desk, "cat"))
    for member_id, reason in gone.items():
        name = error_reason_pb2.ErrorReason.Name(reason).removeprefix("ERROR_REASON_")
        shown = pb.CouponUseContext(member_id=member_id)
        answer = await desk.validate(public, context=shown)
        assert (answer.usable, answer.reason) == (False, reason)
        assert "member" in answer.sentence
        for _ in range(2):
            call = desk.redeem(public, context=shown, request_id=f"use-{member_id}")
            assert await why(call) == (statuses[member_id], name)
        assert await why(desk.reserve(public, context=shown)) == (statuses[member_id], name)
        late = await desk.redeem(public, context=shown, offline=True)
        assert late.overdrawn_reason == reason, "what was given offline is noted"
    for member_id, reserved in held.items():
        shown = pb.CouponUseContext(member_id=member_id)
        assert not (await desk.redeem(promised, use_id=reserved.use_id, context=shown)).overdrawn_reason
    assert (await desk.redeem(public, context=pb.CouponUseContext(member_id="ann"))).coupon.uses_left == 5
    kept = [use["member_id"] for use in await uses_of(desk, public)]
    assert kept == ["", "ann", "cat", "fake"], "of whom was erased no use is written down any more"
    assert await desk.differences() == []


async def test_who_is_known_to_the_ledger_alone_may_use_a_coupon_with_a_request_that_was_too_early(desk: Desk) -> None:
    code = (await desk.issue()).coupon.code
    shown = pb.CouponUseContext(member_id="new")
    unknown = (grpc.StatusCode.NOT_FOUND, "MEMBER_UNKNOWN")
    assert await why(desk.redeem(code, context=shown, request_id="same")) == unknown
    await desk.enroll("new")
    assert not (await desk.redeem(code, context=shown, request_id="same")).replayed


async def test_who_has_left_is_given_no_coupon_until_back(desk: Desk) -> None:
    await desk.enroll("cat")
    before = await desk.issue("before", member_id="cat")
    await resign(desk, "cat")
    assert await why(desk.issue("late", member_id="cat")) == (REFUSED, "MEMBER_RESIGNED")
    assert (await desk.issue("before", member_id="cat")).coupon.code == before.coupon.code
    rejoin = ledger_pb.RejoinMemberRequest(request_id=desk.next(), member_id="cat", occurred_time=stamp(NOW))
    await desk.ledger.RejoinMember(rejoin, timeout=SECONDS)
    assert (await desk.issue("late", member_id="cat")).coupon.member_id == "cat"


async def test_a_use_that_is_yet_to_come_is_refused_and_one_that_was_offline_is_noted_as_of_now(desk: Desk) -> None:
    code = (await desk.issue(uses=3)).coupon.code
    # A history that is lived through again may run two days ahead of the clock.
    far, soon = stamp(NOW + timedelta(days=27_000)), stamp(NOW + timedelta(days=2))
    future = (grpc.StatusCode.INVALID_ARGUMENT, "OCCURRED_IN_FUTURE")
    assert await why(desk.redeem(code, occurred_time=far)) == future
    assert await why(desk.redeem(code, occurred_time=stamp(NOW + timedelta(days=2, seconds=1)))) == future
    await desk.redeem(code, occurred_time=soon)
    assert not (await desk.redeem(code, occurred_time=far, offline=True)).overdrawn_reason
    assert [use["redeemed_time"] for use in await uses_of(desk, code)] == [NOW, NOW + timedelta(days=2)]


async def test_a_coupon_for_a_tier_that_there_is_not_is_not_given(desk: Desk) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await desk.issue(terms=reward_pb2.Terms(tiers=["green", "platinum"]))
    assert refused(caught.value) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    violation = violation_of(caught.value)
    assert violation.field == "terms.tiers"
    assert violation.description == 'the programme has no tier "platinum"; it has white, green, silver, golden'
    assert (await desk.issue(terms=reward_pb2.Terms(tiers=["green"]))).coupon.terms.tiers == ["green"]


async def test_of_a_thousand_terminals_with_one_code_exactly_one_redeems_it(desk: Desk) -> None:
    code = (await desk.issue()).coupon.code

    async def terminal(number: int) -> str:
        try:
            await desk.redeem(code, request_id=f"till-{number}")
        except grpc.aio.AioRpcError as error:
            return refused(error)[1]
        return "redeemed"

    async with contextlib.AsyncExitStack() as own:
        # A second notifier over the same database takes half of them.
        first, second = desk.rewards, await desk.start(own, "second")

        async def at(stub: Any, number: int) -> str:
            desk.rewards = stub
            return await terminal(number)

        outcomes = await asyncio.gather(*(at((first, second)[number % 2], number) for number in range(1000)))
        desk.rewards = first
    assert Counter(outcomes) == {"redeemed": 1, "COUPON_REDEEMED": 999}
    assert (await desk.coupon(code)).uses_left == 0
    assert await desk.differences() == []


async def test_many_uses_are_counted_to_the_last_one(desk: Desk) -> None:
    code = (await desk.issue(uses=40)).coupon.code

    async def terminal(number: int) -> bool:
        try:
            held = await desk.reserve(code, request_id=f"r-{number}")
            if number % 3 == 0:
                await desk.release(code, held.use_id, request_id=f"x-{number}")
                return False
            await desk.redeem(code, use_id=held.use_id, request_id=f"d-{number}")
        except grpc.aio.AioRpcError as error:
            if refused(error)[1] not in ("COUPON_RESERVED", "COUPON_REDEEMED"):
                raise
            return False
        return True

    redeemed = sum(await asyncio.gather(*(terminal(number) for number in range(200))))
    assert redeemed + (await desk.coupon(code)).uses_left == 40
    assert await desk.differences() == []


async def test_wrong_codes_are_counted_and_then_not_even_a_right_one_is_answered(desk: Desk) -> None:
    code = (await desk.issue()).coupon.code
    for _ in range(30):
        assert (await desk.validate(code, "till-1")).usable
    for number in range(20):
        assert await why(desk.validate(f"GUESS{number}", "till-1")) == UNKNOWN
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await desk.validate(code, "till-1")
    assert refused(caught.value) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WRONG_CODES")
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in details_of(caught.value))
    assert timedelta(0) < retry.retry_delay.ToTimedelta() <= timedelta(seconds=15)
    # Others have tries of their own, and who names nobody those of many tills.
    assert (await desk.validate(code, "till-2")).usable
    assert (await desk.validate(code)).usable


async def test_offers_are_taken_with_the_field_of_their_kind_alone(desk: Desk) -> None:
    bad = [
        reward_pb2.Offer(kind=reward_pb2.OFFER_KIND_DISCOUNT_PERCENT),
        reward_pb2.Offer(kind=reward_pb2.OFFER_KIND_DISCOUNT_AMOUNT, amount=Money(currency_code="PLN", minor_units=5)),
        reward_pb2.Offer(kind=reward_pb2.OFFER_KIND_DISCOUNT_AMOUNT, amount=usd(0)),
        reward_pb2.Offer(kind=reward_pb2.OFFER_KIND_FREE_PRODUCT, sku="a", points=5),
        reward_pb2.Offer(kind=reward_pb2.OFFER_KIND_BONUS_POINTS, points=5),
    ]
    for offer in bad:
        assert await why(desk.issue(offer=offer)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert await why(desk.issue(valid_until_time=stamp(NOW))) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert await why(desk.issue(prefix="")) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert await why(desk.issue(member_id="nobody")) == (grpc.StatusCode.NOT_FOUND, "MEMBER_UNKNOWN")
    free = reward_pb2.Offer(kind=reward_pb2.OFFER_KIND_FREE_SHIPPING, amount=usd(500))
    code = (await desk.issue(offer=free)).coupon.code
    assert (await desk.validate(code)).sentence == "free shipping, up to 5.00 USD"


async def test_a_members_coupons_come_by_pages_those_issued_last_first(desk: Desk) -> None:
    await desk.enroll("m-1")
    codes = [(await desk.issue(member_id="m-1")).coupon.code for _ in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        request = pb.ListCouponsRequest(member_id="m-1", page_size=2, page_token=token)
        page = await desk.rewards.ListCoupons(request, timeout=SECONDS)
        seen += [coupon.code for coupon in page.coupons]
        token = page.next_page_token
        if not token:
            break
        assert len(page.coupons) == 2
        other = pb.ListCouponsRequest(member_id="m-2", page_token=token)
        assert await why(desk.rewards.ListCoupons(other, timeout=SECONDS)) == (
            grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")  # fmt: skip
    assert sorted(seen) == sorted(codes)


async def test_what_was_given_offline_though_something_spoke_against_it_is_summed_by_store_and_reason(
    desk: Desk,
) -> None:
    five_off = reward_pb2.Offer(kind=reward_pb2.OFFER_KIND_DISCOUNT_AMOUNT, amount=usd(500))

    async def losses(**span: Any) -> list[tuple[str, str, int, int]]:
        told = await desk.rewards.GetCouponLosses(pb.GetCouponLossesRequest(**span), timeout=SECONDS)
        return [
            (one.store_id, error_reason_pb2.ErrorReason.Name(one.reason), one.uses, one.amount.minor_units)
            for one in told.losses
        ]

    code, percent = [(await desk.issue(offer=offer)).coupon.code for offer in (five_off, ten_percent())]
    for hours in (0, 1, 2):
        occurred = stamp(NOW - timedelta(hours=hours))
        used = await desk.redeem(code, offline=True, store_id="s-1", occurred_time=occurred)
    assert await losses() == [("s-1", "ERROR_REASON_COUPON_REDEEMED", 2, 1000)]
    await desk.void(percent)
    await desk.redeem(percent, offline=True, occurred_time=stamp(NOW))
    assert await losses(from_time=stamp(NOW)) == [("", "ERROR_REASON_COUPON_VOIDED", 1, 0)]
    assert await losses(until_time=stamp(NOW)) == [("s-1", "ERROR_REASON_COUPON_REDEEMED", 2, 1000)]
    assert await why(losses(from_time=stamp(NOW), until_time=stamp(NOW))) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
    )
    # What came back is lost no more.
    await desk.release(code, used.use_id, redeemed=True)
    assert await losses(until_time=stamp(NOW)) == [("s-1", "ERROR_REASON_COUPON_REDEEMED", 1, 500)]


async def test_the_coupons_of_nobody_are_not_just_none(desk: Desk) -> None:
    await desk.enroll("m-1")
    assert await desk.coupons("m-1") == []
    assert await why(desk.coupons("nobody")) == (grpc.StatusCode.NOT_FOUND, "MEMBER_UNKNOWN")


async def test_an_import_tells_of_each_line_that_it_leaves_out_and_says_the_same_again(desk: Desk) -> None:
    lines = ["AB-CD-EF-GH", "", "abcdefgh", "Ö-12345678", "K1NG-2000", "KING-2OOO", "XXXXXX"]
    for _ in range(2):
        answer = await desk.import_codes(lines, request_id="part-1")
        assert answer.imported == 3
        assert [(one.line, one.kind, one.other_line) for one in answer.problems] == [
            (3, pb.CODE_PROBLEM_KIND_DUPLICATE, 1),
            (4, pb.CODE_PROBLEM_KIND_MALFORMED, 0),
            (6, pb.CODE_PROBLEM_KIND_LOOK_ALIKE, 5),
        ]
    # Without its request id, the same file again is the same import.
    assert (await desk.import_codes(lines)).imported == 3
    later = await desk.import_codes(["ABCDEFGH", "NEW-CODE-1"], first_line=8)
    assert (later.imported, [(one.line, one.other_line) for one in later.problems]) == (1, [(8, 1)])
    elsewhere = await desk.import_codes(["ABCDEFGH"], pool="other")
    assert (elsewhere.imported, [(one.line, one.other_line) for one in elsewhere.problems]) == (0, [(1, 0)])
    ours = (await desk.issue()).coupon.code
    assert (await desk.import_codes([ours], import_id="file-3")).imported == 0
    assert await why(desk.import_codes(["OTHER-CODE"], request_id="part-1")) == (
        grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")  # fmt: skip


async def test_codes_of_a_pool_are_given_once_each_and_read_however_they_are_typed(desk: Desk) -> None:
    codes = [f"GIFT-{number:04}-XYZ" for number in range(30)]
    assert (await desk.import_codes(codes)).imported == 30

    async def give(number: int) -> str:
        try:
            return (await desk.issue(f"i-{number}", pool="partner")).coupon.code
        except grpc.aio.AioRpcError as error:
            return refused(error)[1]

    given = await asyncio.gather(*(give(number) for number in range(40)))
    counted = Counter(given)
    # Who comes while others are about to take the last ones is told to come back.
    late = [number for number, code in enumerate(given) if code == "OVERLOADED"]
    given = [code for code in given if code != "OVERLOADED"] + [await give(number) for number in late]
    counted = Counter(given)
    assert counted.pop("OUT_OF_STOCK") == 10
    assert sorted(counted) == codes
    assert set(counted.values()) == {1}
    typed = codes[3].lower().replace("-", "").replace("1", "i").replace("0", "o")
    assert (await desk.redeem(typed)).coupon.code == codes[3]
    assert await why(desk.redeem("GIFT9999XYZ")) == UNKNOWN
    assert await desk.differences() == []


async def test_a_coupon_of_an_empty_pool_is_given_to_the_same_request_once_there_are_codes(desk: Desk) -> None:
    for _ in range(2):
        assert await why(desk.issue("i-1", pool="partner")) == (REFUSED, "OUT_OF_STOCK")
    await desk.import_codes(["FILM-0001"])
    given = await desk.issue("i-1", pool="partner")
    assert (given.coupon.code, given.replayed) == ("FILM-0001", False)
    assert (await desk.issue("i-1", pool="partner")).replayed


async def test_that_a_pool_is_empty_is_known_without_looking_at_the_codes_of_others(database: Database) -> None:
    async with open_store(database):
        owner = await asyncpg.connect(database.dsn("loyalty_owner"))
        try:
            await owner.execute(
                """INSERT INTO notifier.pool_codes (partition, folded, pool, code, import_id, line)
                   SELECT number % 4, 'CODE' || number, 'full', 'CODE' || number, 'file', number
                   FROM generate_series(1, 5000) AS number"""
            )
            await owner.execute(f"PREPARE look (text[]) AS {QUERIES['find_pools_with_codes']}")
            for _ in range(2):
                for pool in ("full", "empty"):
                    found = [row["pool"] for row in await owner.fetch(f"EXECUTE look ('{{{pool}}}')")]
                    assert found == ["full"] * (pool == "full")
                    assert await rows_touched(owner, "pool_codes", f"look ('{{{pool}}}')") <= 4
                await owner.execute("ANALYZE notifier.pool_codes")
        finally:
            await owner.close()


async def test_a_code_of_a_pool_that_was_not_given_is_unknown(desk: Desk) -> None:
    await desk.import_codes(["GIFT-0001-XYZ"])
    assert await why(desk.redeem("GIFT-0001-XYZ")) == UNKNOWN


async def test_a_code_is_drawn_as_a_picture_that_says_it(desk: Desk) -> None:
    coupon = (await desk.issue()).coupon
    for kind, start in ((pb.QR_FORMAT_PNG, b"\x89PNG"), (pb.QR_FORMAT_SVG, b"<?xml")):
        request = pb.GetCouponRequest(code=coupon.code, qr=kind)
        assert (await desk.rewards.GetCoupon(request, timeout=SECONDS)).qr.startswith(start)
    plain = pb.GetCouponRequest(code=coupon.code)
    assert (await desk.rewards.GetCoupon(plain, timeout=SECONDS)).qr == b""


async def test_the_check_finds_a_count_of_uses_that_is_wrong(desk: Desk) -> None:
    code = (await desk.issue(uses=5)).coupon.code
    await desk.redeem(code)
    connection = await asyncpg.connect(desk.database.dsn("loyalty_owner"))
    try:
        await connection.execute("UPDATE notifier.coupons SET redeemed = 3 WHERE code = $1", code)
    finally:
        await connection.close()
    assert await desk.differences() == [("redeemed uses of the coupon", 1, 3)]


async def test_till_after_till_dies_and_the_coupon_is_used_as_often_as_it_may(desk: Desk) -> None:
    random.seed(7)
    code = (await desk.issue(uses=10)).coupon.code
    redeemed = 0
    for _ in range(60):
        try:
            held = await desk.reserve(code, ttl=minutes(1))
        except grpc.aio.AioRpcError as error:
            if refused(error)[1] not in ("COUPON_RESERVED", "COUPON_REDEEMED"):
                raise
            desk.clock.move(timedelta(seconds=20))
            continue
        # Half of the tills die here.
        if random.random() < 0.5:
            await desk.redeem(code, use_id=held.use_id)
            redeemed += 1
    assert redeemed == 10
    assert await desk.differences() == []
