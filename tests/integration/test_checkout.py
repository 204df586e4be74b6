"""Checkouts against a real ledger, real tiers and a real database: the figures, and all the ways they break off."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb

from services.notifier.domain.checkout import Line, LineKind
from services.notifier.domain.contacts import partition_of
from services.notifier.domain.coupons import CouponState
from services.notifier.domain.sales import BuyerStanding, Sale
from services.notifier.erasure_file import ErasureFile
from services.notifier.errors import (
    CheckoutInProgressError,
    CheckoutRefusedError,
    FieldError,
    MemberErasedError,
    MemberUnknownError,
    OccurredInFutureError,
    PeerError,
    PeerRefusedError,
    RequestIdReusedError,
    WrongCodesError,
)
from services.notifier.member_client import MemberClient
from services.notifier.service.privacy import PrivacyService
from services.notifier.store import Store, Transaction
from services.notifier.store.checkouts import CheckoutKey
from services.notifier.store.privacy import ErasureKept
from services.notifier.till_client import TillClient
from services.programme.rewards import Offer, OfferKind, Terms
from services.runtime.channels import open_channel
from services.runtime.clock import ClockMode
from services.runtime.database import create_pool
from tests.checkout_shop import BASKET, PARTITIONS, PAY, PROGRAMME, Crash, FlakyTill, Shop, settled
from tests.conftest import SECRET, Database, StartLedger
from tests.messages_desk import VAULT
from tests.tiers_desk import StartTiers

# More steps than a checkout with a coupon and points has.
MOST_STEPS = 20


@pytest_asyncio.fixture
async def shop(
    database: Database, folder: Path, start_ledger: StartLedger, start_tiers: StartTiers
) -> AsyncIterator[Shop]:
    programme = folder / "shop.yaml"
    programme.write_text(PROGRAMME)
    await start_ledger(programme=programme, clock=ClockMode.REAL)
    await start_tiers(programme=programme)
    ledger = open_channel(f"unix:{folder}/ledger.sock", principal="notifier", secret=SECRET)
    tiers = open_channel(f"unix:{folder}/tiers.sock", principal="test", secret=SECRET)
    pool = await create_pool(database.dsn("loyalty_notifier"), service="notifier")
    try:
        yield Shop(ledger=ledger, tiers=tiers, store=Store(pool))
    finally:
        await ledger.close()
        await tiers.close()
        await pool.close()


async def sold_once(shop: Shop, member_id: str, code: str) -> None:
    """All of it happened, and once."""
    assert await shop.points(member_id) == (580, 0)
    assert [purchase.purchase_id for purchase in await shop.purchases(member_id)] == ["sale-1"]
    await settled(lambda: shop.standing(member_id), ("Silver", 103_000))
    assert await shop.coupon_state(code) is CouponState.REDEEMED


async def nothing_sold(shop: Shop, member_id: str, *codes: str) -> None:
    """None of it happened, and nothing is set aside."""
    assert await shop.points(member_id) == (1_000, 0)
    assert await shop.purchases(member_id) == []
    assert [await shop.coupon_state(code) for code in codes] == [CouponState.ISSUED] * len(codes)


async def refusal_of(shop: Shop, member_id: str, *codes: str, **more: object) -> str:
    with pytest.raises(CheckoutRefusedError) as refused:
        await shop.commit(member_id, *codes, **more)  # type: ignore[arg-type]  # as `commit` takes them
    return refused.value.reason


async def test_a_quote_a_sale_and_a_return_have_the_figures_of_the_plan(shop: Shop) -> None:
    member_id = await shop.customer()
    assert await shop.standing(member_id) == ("Green", 95_000)
    code = await shop.coupon(member_id)

    quote = await shop.quote(member_id, code.lower())
    assert [(one.kind.value, one.amount) for one in quote.price.discounts] == [("tier", 500), ("coupon", 1_000)]
    assert (quote.price.points, quote.price.points_amount, quote.price.pay) == (500, 500, PAY)
    assert quote.earned == 80
    await nothing_sold(shop, member_id, code)

    sold = await shop.commit(member_id, code)
    assert (sold.quote.price.pay, sold.recorded.points, sold.recorded.available_points) == (PAY, 80, 580)
    assert await shop.standing(member_id, sold.recorded.causal_token) == ("Silver", 103_000)
    await sold_once(shop, member_id, code)

    after = await shop.quote(member_id, causal_token=sold.recorded.causal_token)
    assert after.price.discounts[0].reason == "Silver: 8 % of 100.00 PLN"

    back = await shop.bring_back(member_id)
    assert (back.refund_amount.minor_units, back.points_returned, back.receipt.points) == (4_000, 250, -40)
    assert await shop.points(member_id) == (790, 0)
    assert await shop.standing(member_id, back.causal_token) == ("Green", 99_000)


async def test_a_sale_that_breaks_off_at_any_step_ends_whole_or_not_at_all(shop: Shop) -> None:
    steps: list[str] = []
    for step in range(1, MOST_STEPS):
        member_id = await shop.customer()
        code = await shop.coupon(member_id)
        shop.crashing_at(step)
        try:
            await shop.commit(member_id, code)
        except Crash as crash:
            steps.append(str(crash))
        else:
            break
        await shop.recover()
        await sold_once(shop, member_id, code)
        # Who asks again is told what became of it.
        sold = await shop.commit(member_id, code)
        assert (sold.recorded.points, sold.recorded.available_points) == (80, 580)
        await sold_once(shop, member_id, code)
    assert steps == [
        "intent", "coupon reserved", "points held", "recording", "recorded", "coupon redeemed", "done"
    ]  # fmt: skip


async def test_a_sale_whose_recovery_breaks_off_at_any_step_ends_whole_too(shop: Shop) -> None:
    for first in (1, 3, 5):
        for second in range(1, MOST_STEPS):
            member_id = await shop.customer()
            code = await shop.coupon(member_id)
            shop.crashing_at(first)
            with pytest.raises(Crash):
                await shop.commit(member_id, code)
            shop.now += timedelta(seconds=16)
            shop.crashing_at(second)
            partition_key = (await shop.store.read(lambda t: t.find_unfinished_checkouts(shop.now, 9)))[0]
            try:
                await shop.sales.take_up(partition_key)
            except Crash:
                await shop.recover(timedelta(seconds=16))
                # Too long ago to begin it: what had not reached the ledger was let go.
                if await shop.state(member_id) == "refused":
                    await nothing_sold(shop, member_id, code)
                    assert await refusal_of(shop, member_id, code) == "CHECKOUT_TIMED_OUT"
                    continue
                await sold_once(shop, member_id, code)
            else:
                await sold_once(shop, member_id, code)
                break


async def test_a_sale_that_is_refused_and_breaks_off_at_any_step_leaves_nothing_behind(shop: Shop) -> None:
    steps: list[str] = []
    for step in range(1, MOST_STEPS):
        member_id = await shop.customer()
        code = await shop.coupon(member_id)
        # The ledger has a purchase of this id already.
        await shop.buy_elsewhere(member_id, "other")
        before = await shop.points(member_id)
        quote = await shop.quote(member_id, code)
        shop.crashing_at(step)
        try:
            with pytest.raises(CheckoutRefusedError):
                await shop.commit(member_id, code, pay=quote.price.pay, checkout_id="other")
        except Crash as crash:
            steps.append(str(crash))
            await shop.recover()
        assert await shop.points(member_id) == before
        assert await shop.coupon_state(code) is CouponState.ISSUED
        assert await shop.state(member_id, "other") == "refused"
        reason = await refusal_of(shop, member_id, code, pay=quote.price.pay, checkout_id="other")
        assert reason == "PURCHASE_EXISTS"
        if not steps or len(steps) < step:
            break
    assert steps == [
        "intent", "coupon reserved", "points held", "recording", "releasing", "coupon released", "points released",
        "refused",
    ]  # fmt: skip


async def test_the_same_request_again_gets_the_same_answer_and_other_content_is_refused(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    first = await shop.commit(member_id, code)

    commit = shop.commitment(shop.asked(member_id, code))
    again, replayed = await shop.checkouts.commit(commit)

    assert (again, replayed) == (first, True)
    with pytest.raises(RequestIdReusedError):
        await shop.commit(member_id, code, points=400)
    await sold_once(shop, member_id, code)


async def test_the_same_request_twice_at_once_sells_once(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()

    answers = await asyncio.gather(*(shop.commit(member_id, code) for _ in range(5)))

    assert len({answer.recorded.causal_token for answer in answers}) == 1
    await sold_once(shop, member_id, code)


async def test_of_many_tills_with_one_coupon_one_sells_with_it(shop: Shop) -> None:
    code = await shop.coupon()
    members = [await shop.customer() for _ in range(6)]

    outcomes = await asyncio.gather(*(shop.commit(member, code) for member in members), return_exceptions=True)

    refused = [outcome for outcome in outcomes if isinstance(outcome, CheckoutRefusedError)]
    assert len(refused) == len(members) - 1, outcomes
    assert {error.reason for error in refused} <= {"COUPON_RESERVED", "COUPON_REDEEMED", "CHECKOUT_PRICE_CHANGED"}
    points = [await shop.points(member) for member in members]
    assert sorted(points) == [(580, 0)] + [(1_000, 0)] * (len(members) - 1)


async def test_what_changed_since_the_quote_is_refused_with_what_is_to_be_paid_now(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()

    with pytest.raises(CheckoutRefusedError) as refused:
        await shop.commit(member_id, code, pay=12_999)

    assert refused.value.reason == "CHECKOUT_PRICE_CHANGED"
    assert refused.value.metadata == {"pay_minor_units": "13000", "currency_code": "PLN"}
    await nothing_sold(shop, member_id, code)
    with pytest.raises(CheckoutRefusedError) as again:
        await shop.commit(member_id, code, pay=12_999)
    assert again.value.metadata["replayed"] == "true"
    # The same checkout, tried again at the right price.
    await shop.commit(member_id, code, request_id="c-2")
    await sold_once(shop, member_id, code)


async def test_a_coupon_that_cannot_be_used_is_told_with_its_reason_and_the_price_is_without_it(shop: Shop) -> None:
    member_id, other = await shop.customer(), await shop.customer()
    theirs = await shop.coupon(other)
    event = await shop.coupon(offer=Offer(kind=OfferKind.EXPERIENCE, detail="a concert"))

    quote = await shop.quote(member_id, theirs, event, "NO-SUCH-CODE", points=0)

    assert quote.price.pay == 14_500
    assert {one.code: one.reason for one in quote.price.declined} == {
        theirs: "COUPON_NOT_FOR_MEMBER",
        event: "COUPON_NOT_FOR_CHECKOUT",
        "NO-SUCH-CODE": "COUPON_UNKNOWN",
    }
    assert "NO-SUCH-CODE not used: no coupon has this code" in quote.summary


async def test_the_tier_pays_for_shipping_and_enough_points_bring_a_discount_by_themselves(shop: Shop) -> None:
    member_id = await shop.customer(points=2_500, spent=250_000)
    lines = (Line(price=10_000), Line(kind=LineKind.SHIPPING, price=2_500))

    quote = await shop.quote(member_id, points=0, lines=lines)

    assert [(one.kind.value, one.reason, one.amount) for one in quote.price.discounts] == [
        ("benefit", "Golden: free shipping", 2_000),
        ("tier", "Golden: 10 % of 100.00 PLN", 1_000),
        ("automatic", "2 % of 90.00 PLN for 2500 points or more", 180),
    ]
    assert [benefit.id for benefit in quote.benefits] == ["free-shipping", "lounge"]
    assert (quote.price.pay, quote.earned) == (8_820 + 500, 88)


async def test_who_joined_a_moment_ago_and_who_left_have_no_discount_yet_or_any_more(shop: Shop) -> None:
    joined = await shop.joined()
    quote = await shop.quote(joined, points=0)
    assert (quote.tier, quote.price.discounts, quote.price.pay) == ("White", (), 15_000)

    await shop.resign(joined)
    with pytest.raises(PeerRefusedError) as refused:
        await shop.quote(joined, points=0)
    assert refused.value.reason == "MEMBER_RESIGNED"


@pytest.mark.parametrize("known_to_tiers", [False, True])
async def test_who_has_left_buys_nothing_now_whatever_the_clocks_say(shop: Shop, known_to_tiers: bool) -> None:
    joined = await shop.joined()
    # Clocks that are behind the ledger's: by them it is before the member left.
    before = (await shop.ledger_stub.GetMember(ledger_pb.GetMemberRequest(member_id=joined))).member.joined_time
    at_time = before.ToDatetime(UTC) + timedelta(microseconds=1)
    standing = BuyerStanding(tier_number=1, discount_bp=0, benefits=(), suspended=False, at_time=at_time)

    async def told(*asked: object) -> BuyerStanding | None:
        return standing if known_to_tiers else None

    shop.till.standing = told
    assert (await shop.quote(joined, points=0)).price.pay == 15_000
    await shop.resign(joined)
    with pytest.raises(PeerRefusedError) as refused:
        await shop.quote(joined, points=0)
    assert refused.value.reason == "MEMBER_RESIGNED"


async def test_points_that_are_not_there_are_told_and_not_used(shop: Shop) -> None:
    member_id = await shop.customer()

    quote = await shop.quote(member_id, points=1_001)

    assert (quote.price.points, quote.price.declined[0].reason) == (0, "NOT_ENOUGH_POINTS")


async def test_points_spent_between_quote_and_sale_refuse_it_and_free_the_coupon(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    shop.till.before.add("hold")
    with pytest.raises(PeerError):
        await shop.commit(member_id, code)
    shop.till.before.clear()
    await shop.commit(member_id, points=900, pay=13_600, request_id="c-9", checkout_id="other")

    await shop.recover(timedelta(seconds=2))

    assert await refusal_of(shop, member_id, code) == "NOT_ENOUGH_POINTS"
    assert await shop.coupon_state(code) is CouponState.ISSUED


async def test_a_cancelled_sale_gives_all_back_and_a_later_commit_is_refused(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    shop.crashing_at(3)
    with pytest.raises(Crash):
        await shop.commit(member_id, code)
    assert await shop.points(member_id) == (500, 500)
    shop.start()

    assert not await shop.cancel(member_id)
    assert await shop.cancel(member_id)
    await shop.recover()

    await nothing_sold(shop, member_id, code)
    assert await shop.state(member_id) == "cancelled"
    assert await refusal_of(shop, member_id, code) == "CHECKOUT_CANCELLED"
    assert await refusal_of(shop, member_id, code, request_id="c-2") == "CHECKOUT_CANCELLED"


async def test_a_checkout_can_be_cancelled_before_its_commit_comes(shop: Shop) -> None:
    member_id = await shop.customer()

    assert not await shop.cancel(member_id)

    # Whatever it would cost.
    assert await refusal_of(shop, member_id) == "CHECKOUT_CANCELLED"
    assert await refusal_of(shop, member_id, pay=14_000, request_id="c-2") == "CHECKOUT_CANCELLED"
    await nothing_sold(shop, member_id)


async def test_a_complete_checkout_is_not_cancelled(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    await shop.commit(member_id, code)

    for _ in range(2):
        with pytest.raises(CheckoutRefusedError) as refused:
            await shop.cancel(member_id)
        assert refused.value.reason == "CHECKOUT_COMPLETED"
    await sold_once(shop, member_id, code)


async def test_a_cancelling_that_breaks_off_at_any_step_gives_all_back(shop: Shop) -> None:
    for step in range(1, MOST_STEPS):
        member_id = await shop.customer()
        code = await shop.coupon()
        shop.crashing_at(3)
        with pytest.raises(Crash):
            await shop.commit(member_id, code)
        shop.now += timedelta(seconds=16)
        shop.crashing_at(step)
        try:
            await shop.cancel(member_id)
        except Crash:
            await shop.recover()
            await nothing_sold(shop, member_id, code)
            assert await shop.cancel(member_id)
        else:
            await nothing_sold(shop, member_id, code)
            return
    raise AssertionError("it never ended")


async def test_a_cancelling_beside_a_sale_ends_in_one_of_the_two(shop: Shop) -> None:
    for _ in range(10):
        member_id = await shop.customer()
        code = await shop.coupon()

        sold, cancelled = await asyncio.gather(
            shop.commit(member_id, code), shop.cancel(member_id), return_exceptions=True
        )

        if isinstance(sold, CheckoutRefusedError):
            assert (sold.reason, cancelled) == ("CHECKOUT_CANCELLED", False)
            await shop.recover()
            await nothing_sold(shop, member_id, code)
        else:
            assert isinstance(cancelled, CheckoutRefusedError), cancelled
            await sold_once(shop, member_id, code)


async def test_a_sale_that_begins_in_the_moment_in_which_it_is_cancelled_is_not_sold_thereafter(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    look, begun = Transaction.cancel_checkout, False

    async def look_and_let_it_begin(transaction: Transaction, key: CheckoutKey) -> Sale | None:
        nonlocal begun
        found = await look(transaction, key)
        if not begun:
            begun = True
            assert found is None
            shop.crashing_at(1)
            with pytest.raises(Crash):
                await shop.commit(member_id, code)
        return found

    monkeypatch.setattr(Transaction, "cancel_checkout", look_and_let_it_begin)
    assert not await shop.cancel(member_id)
    await shop.recover()
    await nothing_sold(shop, member_id, code)
    assert await refusal_of(shop, member_id, code) == "CHECKOUT_CANCELLED"


async def test_a_card_that_is_shown_holds_a_try_while_it_is_looked_up_and_no_longer(
    shop: Shop,
) -> None:
    member_id = await shop.customer()
    card, looking_up, entered = await shop.card(member_id), False, 0

    @contextlib.asynccontextmanager
    async def look_up() -> AsyncIterator[None]:
        nonlocal looking_up, entered
        looking_up, entered = True, entered + 1
        yield
        looking_up = False

    async def between(_: str) -> None:
        assert not looking_up

    shop.till = FlakyTill(TillClient(ledger=shop.ledger, tiers=shop.tiers, looking_up=look_up))
    shop.start(between)
    await shop.commit(member_id, buyer=card, points=0, pay=14_500)
    assert entered == 1
    # A sale that was told is told again without it.
    await shop.commit(member_id, buyer=card, points=0, pay=14_500)
    assert entered == 1


@pytest.mark.parametrize("lost", ["hold", "record"])
async def test_a_lost_answer_of_the_ledger_is_asked_for_again(shop: Shop, lost: str) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    shop.till.after.add(lost)
    with pytest.raises(PeerError):
        await shop.commit(member_id, code)
    shop.till.after.clear()
    shop.now += timedelta(seconds=2)

    await shop.commit(member_id, code)

    await sold_once(shop, member_id, code)


async def test_where_the_ledger_stays_away_before_it_decides_all_is_let_go(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    shop.till.before |= {"hold", "release"}
    with pytest.raises(PeerError):
        await shop.commit(member_id, code)
    assert await shop.coupon_state(code) is CouponState.RESERVED

    await shop.recover(timedelta(seconds=31))

    # The coupon is free, and who asks is told, though the ledger is not back.
    assert await shop.coupon_state(code) is CouponState.ISSUED
    assert await refusal_of(shop, member_id, code) == "CHECKOUT_TIMED_OUT"
    shop.till.before.clear()
    await shop.recover(timedelta(seconds=2))
    await nothing_sold(shop, member_id, code)
    assert await shop.state(member_id) == "refused"


async def test_a_refusal_is_told_though_what_was_held_cannot_be_given_back_yet(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    await shop.buy_elsewhere(member_id, "sale-1")
    shop.till.before.add("release")
    before = (await shop.points(member_id))[0]

    assert await refusal_of(shop, member_id, code) == "PURCHASE_EXISTS"
    assert await shop.points(member_id) == (before - 500, 500)

    shop.till.before.clear()
    await shop.recover(timedelta(seconds=2))
    assert await shop.points(member_id) == (before, 0)


async def test_where_the_ledger_goes_away_as_it_decides_the_coupon_stays_reserved_until_it_is_back(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    shop.till.before.add("record")
    with pytest.raises(PeerError):
        await shop.commit(member_id, code)
    for _ in range(3):
        await shop.recover(timedelta(minutes=20))
        assert await shop.coupon_state(code) is CouponState.RESERVED
    shop.till.before.clear()

    await shop.recover(timedelta(seconds=2))

    await sold_once(shop, member_id, code)


async def test_where_the_ledger_was_away_for_longer_than_it_holds_points_all_is_let_go(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    shop.till.before.add("record")
    with pytest.raises(PeerError):
        await shop.commit(member_id, code)
    shop.till.before.clear()
    # As it does by itself when their time is over.
    await shop.drop_hold(member_id)

    await shop.recover(timedelta(minutes=20))

    await nothing_sold(shop, member_id, code)
    assert await refusal_of(shop, member_id, code) == "CHECKOUT_TIMED_OUT"


async def test_a_coupon_that_was_sold_is_used_up_whatever_became_of_it_meanwhile(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    shop.crashing_at(5)
    with pytest.raises(Crash, match=r"^recorded$"):
        await shop.commit(member_id, code)
    await shop.coupons.void(request_id="v-1", content=b"", code=code, reason="mistake")

    # Longer than coupons are reserved.
    await shop.recover(timedelta(days=2))

    await sold_once(shop, member_id, code)
    assert (await shop.commit(member_id, code)).quote.price.codes == (code,)


async def test_a_coupon_comes_back_with_all_that_was_bought_with_it_and_with_no_less(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    await shop.commit(member_id, code)

    await shop.bring_back(member_id)
    await shop.told_of_return(member_id, offset=50)
    assert await shop.sales.restore() == 1
    assert await shop.coupon_state(code) is CouponState.REDEEMED

    await shop.bring_all_back(member_id)
    await shop.told_of_return(member_id, offset=51)
    assert await shop.sales.restore() == 1
    assert await shop.coupon_state(code) is CouponState.ISSUED
    # Told again, it changes nothing; and nothing is left to be looked at.
    await shop.told_of_return(member_id, offset=52)
    assert (await shop.sales.restore(), await shop.sales.restore()) == (1, 0)
    assert (await shop.quote(member_id, code, points=0)).price.codes == (code,)


@pytest.mark.parametrize("error", [PeerError, ValueError])
async def test_a_sale_of_which_nothing_can_be_learnt_keeps_no_other_from_its_coupon(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    members = [await shop.customer(), await shop.customer()]
    codes = [await shop.coupon(), await shop.coupon()]
    for offset, (member_id, code) in enumerate(zip(members, codes, strict=True), start=50):
        await shop.commit(member_id, code)
        await shop.bring_all_back(member_id)
        await shop.told_of_return(member_id, offset=offset)
    ask = TillClient.all_came_back

    async def say_nothing_of_the_first(till: TillClient, member_id: str, purchase_id: str) -> bool:
        if member_id == members[0]:
            raise error
        return await ask(till, member_id, purchase_id)

    with monkeypatch.context() as patched:
        patched.setattr(TillClient, "all_came_back", say_nothing_of_the_first)
        # What could not be looked at is no reason to look again at once.
        assert (await shop.sales.restore(), await shop.sales.restore()) == (1, 0)
    assert [await shop.coupon_state(code) for code in codes] == [CouponState.REDEEMED, CouponState.ISSUED]

    assert await shop.sales.restore() == 1
    assert await shop.coupon_state(codes[0]) is CouponState.ISSUED


async def test_a_gift_card_stays_used_when_all_comes_back_as_the_refund_has_what_it_paid(shop: Shop) -> None:
    member_id = await shop.customer()
    card, code = await shop.coupon(offer=Offer(kind=OfferKind.GIFT_CARD, amount=4_000)), await shop.coupon()
    sold = await shop.commit(member_id, code, card, points=0, pay=9_500)
    assert [(tender.code, tender.amount) for tender in sold.quote.price.tenders] == [(card, 4_000)]

    back = await shop.bring_all_back(member_id)
    await shop.told_of_return(member_id, offset=50)
    await shop.sales.restore()

    assert back.refund_amount.minor_units == 9_500 + 4_000
    assert await shop.coupon_state(card) is CouponState.REDEEMED
    assert await shop.coupon_state(code) is CouponState.ISSUED


async def test_a_return_that_is_told_before_the_sale_is_complete_is_looked_at_afterwards(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    shop.crashing_at(5)
    with pytest.raises(Crash, match=r"^recorded$"):
        await shop.commit(member_id, code)
    await shop.bring_all_back(member_id)
    await shop.told_of_return(member_id, offset=50)
    assert await shop.sales.restore() == 0

    await shop.recover()
    assert await shop.coupon_state(code) is CouponState.REDEEMED
    await shop.sales.restore()

    assert await shop.coupon_state(code) is CouponState.ISSUED


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_goes_wrong_in_whatever_order_a_sale_ends_whole_or_not_at_all(shop: Shop, seed: int) -> None:
    chance = random.Random(seed)
    ends: set[str] = set()
    for _ in range(12):
        member_id = await shop.customer()
        code = await shop.coupon()
        for _ in range(chance.randint(1, 5)):
            shop.crashing_at(chance.randint(1, 9))
            shop.till.before = set(chance.sample(["hold", "record", "release"], chance.choice([0, 0, 1, 2])))
            shop.till.after = set(chance.sample(["hold", "record", "release"], chance.choice([0, 0, 1])))
            shop.now += timedelta(seconds=chance.choice([0, 1, 16, 40]))
            with contextlib.suppress(Crash, PeerError, CheckoutRefusedError, CheckoutInProgressError):
                match chance.choice(["commit", "commit", "cancel", "recover"]):
                    case "commit":
                        await shop.commit(member_id, code, wait_seconds=0.1)
                    case "cancel":
                        await shop.cancel(member_id, request_id=f"x-{chance.random()}", wait=0.1)
                    case _:
                        await shop.sales.recover()
        shop.till.before, shop.till.after = set(), set()
        for _ in range(3):
            await shop.recover()

        state = await shop.state(member_id)
        assert state in ("", "done", "refused", "cancelled")
        if state == "done":
            await sold_once(shop, member_id, code)
            await shop.commit(member_id, code)
        else:
            await nothing_sold(shop, member_id, code)
        ends.add(state)
    assert "done" in ends
    assert len(ends) > 1


async def test_two_processes_that_find_the_same_sale_do_no_harm(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    shop.crashing_at(4)
    with pytest.raises(Crash):
        await shop.commit(member_id, code)
    shop.now += timedelta(seconds=20)
    shop.start()
    first = shop.sales
    shop.start()

    await asyncio.gather(first.recover(), shop.sales.recover())

    await sold_once(shop, member_id, code)


async def test_a_process_that_was_thought_dead_changes_nothing_any_more(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    recovered = False

    async def away_for_long(step: str) -> None:
        nonlocal recovered
        if step == "points held" and not recovered:
            recovered = True
            shop.now += timedelta(seconds=31)
            other = Shop(ledger=shop.ledger, tiers=shop.tiers, store=shop.store, now=shop.now)
            await other.sales.recover()

    shop.start(away_for_long)

    assert await refusal_of(shop, member_id, code) == "CHECKOUT_TIMED_OUT"
    await nothing_sold(shop, member_id, code)


async def test_a_basket_that_costs_nothing_is_no_purchase_and_uses_its_coupon_up(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon(minor_units=20_000)
    goods = tuple(line for line in shop.asked(member_id).lines if line.kind.value == "goods")

    sold = await shop.commit(member_id, code, points=0, pay=0, lines=goods)

    assert (sold.recorded.points, sold.recorded.available_points) == (0, 1_000)
    assert await shop.purchases(member_id) == []
    assert await shop.coupon_state(code) is CouponState.REDEEMED


async def test_a_sale_that_cannot_have_happened_yet_is_refused_though_it_costs_nothing(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon(minor_units=20_000)
    goods = tuple(line for line in shop.asked(member_id).lines if line.kind.value == "goods")
    tomorrow = shop.now + timedelta(days=1)

    with pytest.raises(OccurredInFutureError):
        await shop.quote(member_id, code, points=0, lines=goods, occurred_time=tomorrow)
    with pytest.raises(OccurredInFutureError):
        await shop.commit(member_id, code, points=0, pay=0, lines=goods, occurred_time=tomorrow)
    assert await shop.coupon_state(code) is CouponState.ISSUED
    # A till's clock may run a little ahead.
    await shop.commit(member_id, code, points=0, pay=0, lines=goods, occurred_time=shop.now + timedelta(minutes=4))


async def test_a_checkout_id_is_used_once_and_an_unknown_member_buys_nothing(shop: Shop) -> None:
    member_id = await shop.customer()
    sold = await shop.commit(member_id, points=0, pay=14_500)

    quote = await shop.quote(member_id, points=0, causal_token=sold.recorded.causal_token)
    assert await refusal_of(shop, member_id, points=0, pay=quote.price.pay, request_id="c-2") == "CHECKOUT_EXISTS"
    with pytest.raises(MemberUnknownError):
        await shop.commit("nobody", points=0, pay=15_000)
    with pytest.raises(MemberUnknownError):
        await shop.cancel("nobody")


async def test_a_sold_checkout_sent_by_another_request_is_told_as_sold_with_what_was_paid(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    sold = await shop.commit(member_id, code)

    for replayed in ({}, {"replayed": "true"}):
        with pytest.raises(CheckoutRefusedError) as refused:
            # Its coupon and points are used, so that it would cost more now.
            await shop.commit(member_id, code, request_id="c-2")
        assert refused.value.reason == "CHECKOUT_EXISTS"
        assert refused.value.metadata == {
            "purchase_id": "sale-1",
            "currency_code": "PLN",
            "amount_minor_units": "13500",
            "pay_minor_units": "13000",
            "points": "500",
            "earned_points": str(sold.recorded.points),
            **replayed,
        }
    await sold_once(shop, member_id, code)


async def test_a_checkout_that_is_under_way_is_told_so_to_another_request_whatever_it_would_cost(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    shop.crashing_at(3)
    with pytest.raises(Crash):
        await shop.commit(member_id, code)
    shop.start()

    with pytest.raises(CheckoutInProgressError):
        await shop.commit(member_id, code, request_id="c-2", pay=1)

    await shop.recover()
    await sold_once(shop, member_id, code)


@pytest.mark.parametrize(("step", "ended"), [("points held", CouponState.ISSUED), ("recorded", CouponState.REDEEMED)])
async def test_a_sale_that_is_under_way_is_carried_to_its_end_before_its_member_is_forgotten(
    shop: Shop, step: str, ended: CouponState
) -> None:
    async def between(name: str) -> None:
        if name == step:
            raise Crash(name)

    privacy = PrivacyService(
        store=shop.store,
        vault=VAULT,
        partitions=PARTITIONS,
        elsewhere=MemberClient(shop.ledger, shop.tiers, contextlib.nullcontext),
        file=ErasureFile(None),
        machine_now=lambda: shop.now,
    )
    erase = partial(privacy.erase, request_id="e-1", reason="asked", principal="support")
    member_id = await shop.customer()
    code = await shop.coupon()
    shop.start(between)
    with pytest.raises(Crash):
        await shop.commit(member_id, code)

    assert await erase(member_id=member_id) == (None, False)
    await shop.recover()

    erased_time, replayed = await erase(member_id=member_id)
    assert (erased_time, replayed) == (shop.now, True)
    assert await shop.state(member_id) == ""
    shop.now += timedelta(days=2)
    assert await shop.coupon_state(code) is ended


async def test_a_basket_is_not_kept_of_who_was_erased_since_it_was_priced(shop: Shop) -> None:
    member_id = await shop.customer()
    erasure = ErasureKept(
        partition=partition_of(member_id, PARTITIONS),
        member_id=member_id,
        request_id="e-1",
        reason="asked",
        principal="support",
        asked_time=shop.now,
        erased_time=None,
    )
    # The ledger has yet to hear of it.
    await shop.store.transact(lambda transaction: transaction.insert_erasure(erasure))
    with pytest.raises(MemberErasedError):
        await shop.commit(member_id, points=0, pay=14_500)
    assert await shop.state(member_id) == ""


async def test_a_sale_is_told_again_to_who_may_try_no_more_codes(shop: Shop) -> None:
    def too_many() -> contextlib.AbstractAsyncContextManager[None]:
        raise WrongCodesError(60)

    member_id = await shop.customer()
    code = await shop.coupon()
    first = await shop.commit(member_id, code)

    assert await shop.commit(member_id, code, trying_code=too_many) == first
    with pytest.raises(WrongCodesError):
        await shop.commit(member_id, code, trying_code=too_many, request_id="c-2", checkout_id="sale-2")
    with pytest.raises(WrongCodesError):
        await shop.quote(member_id, code, trying_code=too_many)
    # Who types no code in tries none.
    await shop.quote(member_id, points=0, trying_code=too_many)


async def test_what_was_answered_to_who_showed_a_card_is_answered_again_when_the_card_is_blocked(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    card = await shop.card(member_id)
    shown = shop.commitment(shop.asked(member_id, code, buyer=card))
    gone = {
        "request_id": "x-1", "checkout_id": "sale-2", "buyer": card, "on_behalf_of": "till-1", "content": b"gone",
        "wait_seconds": 5.0,
    }  # fmt: skip
    first = await shop.checkouts.commit(shown)
    assert not await shop.checkouts.cancel(**gone)  # type: ignore[arg-type]  # as `cancel` takes them
    await shop.block(member_id, card)

    assert await shop.checkouts.commit(shown) == (first[0], True)
    assert await shop.checkouts.cancel(**gone)  # type: ignore[arg-type]
    with pytest.raises(PeerRefusedError) as refused:
        await shop.checkouts.commit(shop.commitment(shop.asked(member_id, buyer=card), request_id="c-2"))
    assert refused.value.reason == "IDENTIFIER_BLOCKED"
    await sold_once(shop, member_id, code)


async def test_who_left_or_was_erased_is_sold_nothing_though_it_costs_nothing(shop: Shop) -> None:
    left, erased = await shop.joined(), await shop.joined()
    code = await shop.coupon(offer=Offer(kind=OfferKind.DISCOUNT_PERCENT, percent_bp=10_000))
    quote = await shop.quote(left, code, points=0, lines=BASKET[:2])
    assert quote.price.pay == 0
    await shop.resign(left)
    await shop.erase(erased)

    for member_id, reason in ((left, "MEMBER_RESIGNED"), (erased, "MEMBER_ERASED")):
        with pytest.raises(PeerRefusedError) as refused:
            await shop.quote(member_id, code, points=0, lines=BASKET[:2])
        assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", reason)
        with pytest.raises(PeerRefusedError):
            await shop.commit(member_id, code, points=0, pay=0, lines=BASKET[:2])
    # Before it left it could.
    before = await shop.quote(left, code, points=0, lines=BASKET[:2], occurred_time=quote.occurred_time)
    assert before.price.pay == 0
    assert await shop.coupon_state(code) is CouponState.ISSUED


async def test_a_sale_that_cost_nothing_can_be_cancelled_and_gives_its_coupon_back(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon(minor_units=20_000)
    await shop.commit(member_id, code, points=0, pay=0, lines=BASKET[:2])
    assert await shop.coupon_state(code) is CouponState.REDEEMED

    assert not await shop.cancel(member_id)
    assert await shop.cancel(member_id)

    assert await shop.coupon_state(code) is CouponState.ISSUED
    assert await shop.state(member_id) == "cancelled"
    # The request that sold it has the same to say as any other.
    again = {"points": 0, "pay": 0, "lines": BASKET[:2]}
    assert await refusal_of(shop, member_id, code, **again) == "CHECKOUT_CANCELLED"
    assert await refusal_of(shop, member_id, request_id="c-2") == "CHECKOUT_CANCELLED"
    assert not await shop.cancel(member_id, request_id="x-2")


async def test_a_cancelling_of_what_cost_nothing_that_breaks_off_gives_the_coupon_back(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon(minor_units=20_000)
    await shop.commit(member_id, code, points=0, pay=0, lines=BASKET[:2])
    shop.crashing_at(1)
    with pytest.raises(Crash):
        await shop.cancel(member_id)

    await shop.recover()

    assert await shop.coupon_state(code) is CouponState.ISSUED
    assert await shop.cancel(member_id)


async def test_a_suspended_account_buys_without_coupons_and_pays_with_a_gift_card_that_is_nobodys(shop: Shop) -> None:
    member_id = await shop.customer(joined=timedelta(days=800))
    own, anybodys = await shop.coupon(member_id), await shop.coupon()
    card = await shop.coupon(offer=Offer(kind=OfferKind.GIFT_CARD, amount=5_000))

    quote = await shop.quote(member_id, own, anybodys, card, points=0)
    sold = await shop.commit(member_id, own, anybodys, card, points=0, pay=quote.price.pay)

    assert {one.code: one.reason for one in quote.price.declined} == {
        own: "ACCOUNT_SUSPENDED",
        anybodys: "ACCOUNT_SUSPENDED",
    }
    assert (quote.price.pay, sold.quote.price.codes) == (10_000, (card,))
    assert await shop.coupon_state(own) is CouponState.ISSUED
    assert await shop.coupon_state(card) is CouponState.REDEEMED


async def test_a_minimum_in_the_programmes_currency_is_not_compared_with_a_basket_in_another(shop: Shop) -> None:
    member_id = await shop.customer()
    whole = await shop.coupon(offer=Offer(kind=OfferKind.DISCOUNT_PERCENT, percent_bp=10_000))
    half = Offer(kind=OfferKind.DISCOUNT_PERCENT, percent_bp=5_000)
    reached = await shop.coupon(offer=half, terms=Terms(minimum_minor_units=1_000))
    missed = await shop.coupon(offer=half, terms=Terms(minimum_minor_units=50_000))

    quote = await shop.quote(member_id, whole, reached, missed, points=0, lines=BASKET[:2], currency_code="EUR")

    assert quote.price.codes == (whole,)
    assert {one.code: one.reason for one in quote.price.declined} == {
        reached: "CURRENCY_MISMATCH",
        missed: "CURRENCY_MISMATCH",
    }


async def test_a_price_expected_in_another_currency_is_refused_with_both_by_name(shop: Shop) -> None:
    member_id = await shop.customer()
    asked = shop.asked(member_id, points=0)

    with pytest.raises(CheckoutRefusedError) as refused:
        await shop.checkouts.commit(shop.commitment(asked, pay=14_500, expected_currency="JPY"))

    assert refused.value.reason == "CHECKOUT_PRICE_CHANGED"
    assert "the quote said 14500 JPY, and 145.00 PLN are to be paid now" in str(refused.value)
    with pytest.raises(FieldError, match="there is no such currency"):
        await shop.checkouts.commit(shop.commitment(asked, expected_currency="XXZ", request_id="c-2"))


async def test_what_the_ledger_refuses_to_quote_is_refused_with_its_reason(shop: Shop) -> None:
    member_id = await shop.customer()

    with pytest.raises(PeerRefusedError) as refused:
        await shop.quote(member_id, points=0, currency_code="EUR")

    assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", "CURRENCY_MISMATCH")


async def test_a_retry_waits_for_whoever_carries_the_sale_on_and_says_when_that_takes_too_long(shop: Shop) -> None:
    member_id = await shop.customer()
    code = await shop.coupon()
    shop.crashing_at(2)
    with pytest.raises(Crash):
        await shop.commit(member_id, code)
    shop.start()

    with pytest.raises(CheckoutInProgressError):
        await shop.commit(member_id, code, wait_seconds=0.2)

    shop.now += timedelta(seconds=16)
    await shop.commit(member_id, code, wait_seconds=5.0)
    await sold_once(shop, member_id, code)
