"""Rewards for points over a real ledger: the catalogue as it is for a member; and whoever dies on the way, the points
go and the coupon comes, or neither."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from loyalty.ledger.v1 import entry_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb
from loyalty.notifier.v1 import coupon_pb2 as pb
from loyalty.type.v1 import error_reason_pb2
from loyalty.type.v1.money_pb2 import Money

from services.notifier.domain.codes import CouponCodes
from services.notifier.domain.programmes import Programmes
from services.notifier.domain.rewards import RewardIntent
from services.notifier.errors import PeerError, PeerRefusedError, RefusedError
from services.notifier.ledger_client import LedgerClient
from services.notifier.points_client import PointsClient
from services.notifier.progress import Progress
from services.notifier.service.issuing import CouponMaker
from services.notifier.service.rewards import LEASE, RewardService
from services.notifier.store import Store, Transaction
from services.notifier.vault import Vault, read_master_keys
from services.programme import load
from services.runtime.channels import open_channel
from services.runtime.database import create_pool
from tests.conftest import SECRET, Database, StartLedger
from tests.coupon_desk import NOW, SECONDS, SUSPENDED, Desk, MovableClock, info_of, open_desk, refused, stamp

REFUSED = grpc.StatusCode.FAILED_PRECONDITION


@pytest_asyncio.fixture
async def desk(start_ledger: StartLedger, database: Database, folder: Path, token_file: Path) -> AsyncIterator[Desk]:
    async with open_desk(start_ledger, database, folder, token_file) as opened:
        yield opened


async def why(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refused(caught.value)


# --- the catalogue ---


async def test_the_catalogue_tells_what_a_member_can_have_and_why_not_the_rest(desk: Desk) -> None:
    await desk.enroll("m-1")
    rewards = await desk.catalogue("m-1", await desk.award("m-1", 500))
    assert list(rewards) == ["mug", "tee", "dinner", "bonus", "code", "summer"], "what is over is gone"
    mug, dinner = rewards["mug"], rewards["dinner"]
    assert (mug.available, mug.name, mug.points, mug.stock_left, mug.left_for_member) == (True, "A mug", 500, 3, 2)
    assert not rewards["bonus"].HasField("stock_left")
    # 100 for joining.
    assert (dinner.available, dinner.points_missing, dinner.money.minor_units) == (False, 400, 2000)
    assert [error_reason_pb2.ErrorReason.Name(one.reason) for one in dinner.obstacles] == [
        "ERROR_REASON_REWARD_NOT_FOR_MEMBER",
        "ERROR_REASON_NOT_ENOUGH_POINTS",
    ]
    assert [one.reason for one in rewards["summer"].obstacles] == [error_reason_pb2.ERROR_REASON_REWARD_NOT_OFFERED_NOW]
    # The end of 31 August in New York.
    assert rewards["summer"].available_until_time.ToDatetime(UTC).isoformat() == "2024-09-01T04:00:00+00:00"


async def test_a_reward_is_told_in_the_language_asked_for_or_in_the_programmes_first(desk: Desk) -> None:
    await desk.enroll("m-1")
    for asked, told in (("pl", "Kubek"), ("pl-PL", "Kubek"), ("PL", "Kubek"), ("de", "A mug"), ("", "A mug")):
        assert (await desk.catalogue("m-1", language=asked))["mug"].name == told
    assert await why(desk.catalogue("nobody")) == (grpc.StatusCode.NOT_FOUND, "MEMBER_UNKNOWN")


async def test_the_catalogue_has_nothing_for_who_has_left_and_says_so(desk: Desk) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 900)
    leave = ledger_pb.ResignMemberRequest(request_id="leave", member_id="m-1", occurred_time=stamp(NOW))
    await desk.ledger.ResignMember(leave, timeout=SECONDS)
    rewards = await desk.catalogue("m-1")
    assert not any(reward.available for reward in rewards.values())
    assert [one.reason for one in rewards["mug"].obstacles] == [error_reason_pb2.ERROR_REASON_MEMBER_RESIGNED]
    assert await why(desk.get_reward("m-1", "mug")) == (REFUSED, "MEMBER_RESIGNED")


async def test_a_reward_whose_pool_has_no_code_left_cannot_be_had(desk: Desk) -> None:
    await desk.enroll("m-1")
    film = (await desk.catalogue("m-1", await desk.award("m-1", 900)))["code"]
    assert [one.reason for one in film.obstacles] == [error_reason_pb2.ERROR_REASON_OUT_OF_STOCK]
    await desk.import_codes(["FILM-0001"])
    assert (await desk.catalogue("m-1"))["code"].available


# --- redeeming ---


async def test_a_reward_takes_its_points_and_gives_its_coupon(desk: Desk) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 1000)
    answer = await desk.get_reward("m-1", "mug", request_id="r-1")
    assert (answer.points, answer.coupon.reward_id, answer.coupon.offer.sku) == (500, "mug", "mug-1")
    assert (answer.coupon.state, answer.coupon.member_id) == (pb.COUPON_STATE_ISSUED, "m-1")
    assert await desk.points("m-1") == (600, 0)
    again = await desk.get_reward("m-1", "mug", request_id="r-1")
    assert (again.replayed, again.coupon.code, answer.replayed) == (True, answer.coupon.code, False)
    assert await why(desk.get_reward("m-1", "bonus", request_id="r-1")) == (
        grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")  # fmt: skip
    context = pb.CouponUseContext(member_id="m-1")
    assert (await desk.redeem(answer.coupon.code, context=context)).coupon.state == pb.COUPON_STATE_REDEEMED
    entries = await desk.ledger.ListEntries(ledger_pb.ListEntriesRequest(member_id="m-1"), timeout=SECONDS)
    assert {entry.on_behalf_of for entry in entries.entries if entry.reason == "reward"} == {"test"}
    assert answer.redemption_id in {entry.request_id for entry in entries.entries}
    assert await desk.differences() == []


async def test_bonus_points_come_for_points_and_without_a_coupon(desk: Desk) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 400)
    answer = await desk.get_reward("m-1", "bonus")
    assert (answer.bonus_points, answer.points, answer.HasField("coupon")) == (700, 500, False)
    assert await desk.points("m-1") == (700, 0)


async def test_nobody_but_the_platform_gives_back_the_points_of_a_reward(desk: Desk) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 1000)
    for reward_id, left in (("mug", 600), ("bonus", 800)):
        spent = (await desk.get_reward("m-1", reward_id)).redemption_id
        back = ledger_pb.ReverseRedemptionRequest(request_id=desk.next(), member_id="m-1", redemption_id=spent)
        for _ in range(2):
            assert await why(desk.ledger.ReverseRedemption(back, timeout=SECONDS)) == (REFUSED, "REDEMPTION_OF_REWARD")
        paid = ledger_pb.RecordPurchaseRequest(
            request_id=desk.next(),
            member_id="m-1",
            amount=Money(currency_code="USD", minor_units=5000),
            points_payment=entry_pb2.PointsPayment(
                redemption_id=spent, points=500, amount=Money(currency_code="USD", minor_units=500)
            ),
        )
        assert await why(desk.ledger.RecordPurchase(paid, timeout=SECONDS)) == (REFUSED, "REDEMPTION_OF_REWARD")
        assert await desk.points("m-1") == (left, 0)


async def test_who_has_not_enough_points_is_refused_and_stock_and_limit_are_given_back(desk: Desk) -> None:
    await desk.enroll("m-1")
    assert await why(desk.get_reward("m-1", "mug", request_id="r-1")) == (REFUSED, "NOT_ENOUGH_POINTS")
    mug = (await desk.catalogue("m-1", await desk.award("m-1", 900)))["mug"]
    assert (mug.stock_left, mug.left_for_member, mug.available) == (3, 2, True)
    assert await why(desk.get_reward("m-1", "mug", request_id="r-1")) == (REFUSED, "NOT_ENOUGH_POINTS")
    await desk.get_reward("m-1", "mug", request_id="r-2")
    assert [coupon.reward_id for coupon in await desk.coupons("m-1")] == ["mug"]


async def test_money_beside_points_is_named_and_must_be_paid_to_the_cent(desk: Desk) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 2000)
    await desk.coupons("m-1", await desk.buy("m-1", 50000))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await desk.get_reward("m-1", "dinner")
    assert refused(caught.value) == (REFUSED, "REWARD_MONEY_DIFFERS")
    assert dict(info_of(caught.value).metadata) == {"money_minor_units": "2000", "currency_code": "USD"}
    zloty = Money(currency_code="PLN", minor_units=2000)
    assert await why(desk.get_reward("m-1", "dinner", money_paid=zloty)) == (
        grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")  # fmt: skip
    answer = await desk.get_reward("m-1", "dinner", money_paid=Money(currency_code="USD", minor_units=2000))
    assert (answer.money.minor_units, answer.points) == (2000, 1000)
    assert (await desk.get_reward("m-1", "mug")).HasField("money") is False


async def test_a_reward_is_refused_to_other_tiers_and_before_its_first_day(desk: Desk) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 2000)
    paid = Money(currency_code="USD", minor_units=2000)
    assert await why(desk.get_reward("m-1", "dinner", money_paid=paid)) == (REFUSED, "REWARD_NOT_FOR_MEMBER")
    assert await why(desk.get_reward("m-1", "summer")) == (REFUSED, "REWARD_NOT_OFFERED_NOW")
    assert await why(desk.get_reward("m-1", "winter")) == (REFUSED, "REWARD_NOT_OFFERED_NOW")
    assert await why(desk.get_reward("m-1", "none")) == (grpc.StatusCode.NOT_FOUND, "REWARD_UNKNOWN")
    assert await why(desk.get_reward("nobody", "mug")) == (grpc.StatusCode.NOT_FOUND, "MEMBER_UNKNOWN")
    assert await desk.points("m-1") == (2100, 0)


async def test_a_suspended_member_has_no_reward_and_the_catalogue_says_so(desk: Desk) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 2000)
    rewards = await desk.catalogue("m-1", await desk.advance(SUSPENDED))
    assert {reward.obstacles[0].reason for reward in rewards.values()} == {
        error_reason_pb2.ERROR_REASON_ACCOUNT_SUSPENDED
    }
    paid = Money(currency_code="USD", minor_units=2000)
    for reward_id, fields in (("mug", {}), ("bonus", {}), ("dinner", {"money_paid": paid})):
        assert await why(desk.get_reward("m-1", reward_id, **fields)) == (REFUSED, "ACCOUNT_SUSPENDED")
    assert await desk.points("m-1") == (2100, 0)
    assert (await desk.catalogue("m-1"))["mug"].stock_left == 3


async def test_many_at_once_never_take_more_than_the_stock_and_the_limit(desk: Desk) -> None:
    for number in range(4):
        await desk.enroll(f"m-{number}")
        await desk.award(f"m-{number}", 5000)

    async def take(number: int) -> str:
        try:
            await desk.get_reward(f"m-{number % 4}", "mug", request_id=f"r-{number}")
        except grpc.aio.AioRpcError as error:
            return refused(error)[1]
        return f"m-{number % 4}"

    outcomes = Counter(await asyncio.gather(*(take(number) for number in range(40))))
    given = {who: count for who, count in outcomes.items() if who.startswith("m-")}
    assert sum(given.values()) == 3
    assert max(given.values()) <= 2
    assert outcomes["OUT_OF_STOCK"] + outcomes["REWARD_LIMIT_REACHED"] == 37
    assert sum([5100 - (await desk.points(f"m-{number}"))[0] for number in range(4)]) == 1500
    assert (await desk.catalogue("m-0"))["mug"].stock_left == 0


async def test_a_pool_without_codes_takes_no_points_and_is_no_answer_for_ever(desk: Desk) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 900)
    for _ in range(2):
        assert await why(desk.get_reward("m-1", "code", request_id="r-1")) == (REFUSED, "OUT_OF_STOCK")
    assert await desk.points("m-1") == (1000, 0)
    await desk.import_codes(["FILM-0001"])
    assert (await desk.get_reward("m-1", "code", request_id="r-1")).coupon.code == "FILM-0001"


# --- taking back ---


async def test_a_reward_that_is_taken_back_gives_all_back_that_it_took(desk: Desk) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 1000)
    got = await desk.get_reward("m-1", "mug", request_id="r-1")
    code = got.coupon.code
    back = await desk.take_back("m-1", request_id="b-1", coupon_code=code.lower().replace("-", ""))
    assert (back.points, back.redemption_id, back.replayed) == (500, got.redemption_id, False)
    assert (back.coupon.code, back.coupon.state, back.coupon.void_reason) == (code, pb.COUPON_STATE_VOID, "mistake")
    assert await desk.points("m-1") == (1100, 0)
    mug = (await desk.catalogue("m-1"))["mug"]
    assert (mug.stock_left, mug.left_for_member) == (3, 2)
    again = await desk.take_back("m-1", request_id="b-1", coupon_code=code.lower().replace("-", ""))
    assert (again.points, again.replayed) == (500, True)
    assert await why(desk.take_back("m-1", request_id="b-1", coupon_code=code)) == (
        grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")  # fmt: skip
    # Whoever else takes it back finds that it is.
    assert (await desk.take_back("m-1", redemption_id=got.redemption_id)).points == 500
    replayed = await desk.get_reward("m-1", "mug", request_id="r-1")
    assert (replayed.coupon.code, replayed.coupon.state) == (code, pb.COUPON_STATE_VOID)
    assert await desk.points("m-1") == (1100, 0)
    assert (await desk.catalogue("m-1"))["mug"].stock_left == 3
    context = pb.CouponUseContext(member_id="m-1")
    assert await why(desk.redeem(code, context=context)) == (REFUSED, "COUPON_VOIDED")
    entries = await desk.ledger.ListEntries(ledger_pb.ListEntriesRequest(member_id="m-1"), timeout=SECONDS)
    reversals = [one for one in entries.entries if one.kind == entry_pb2.ENTRY_KIND_REDEMPTION_REVERSED]
    assert [(one.principal, one.on_behalf_of, one.reference) for one in reversals] == [
        ("notifier", "test", got.redemption_id)
    ]
    assert await desk.differences() == []


async def dine(desk: Desk) -> pb.RedeemRewardResponse:
    """A reward that costs money beside points."""
    await desk.enroll("m-1")
    await desk.award("m-1", 2000)
    await desk.coupons("m-1", await desk.buy("m-1", 50000))
    return await desk.get_reward("m-1", "dinner", money_paid=Money(currency_code="USD", minor_units=2000))


async def test_what_was_paid_beside_the_points_of_a_reward_is_named_when_it_is_taken_back(desk: Desk) -> None:
    got = await dine(desk)
    # Also when the coupon was taken back by itself before.
    await desk.void(got.coupon.code)
    back = await desk.take_back("m-1", redemption_id=got.redemption_id)
    assert (back.points, back.money.minor_units, back.coupon.code) == (1000, 2000, got.coupon.code)


async def test_what_was_paid_beside_the_points_of_a_reward_is_handed_out_once(desk: Desk) -> None:
    got = await dine(desk)
    told = []
    for request_id in ("b-1", "b-1", "b-2", "b-2"):
        back = await desk.take_back("m-1", request_id=request_id, redemption_id=got.redemption_id)
        told.append((back.HasField("money"), back.replayed, back.points))
    assert told == [(True, False, 1000), (True, True, 1000), (False, False, 1000), (False, True, 1000)]


async def test_a_reward_whose_coupon_was_used_or_is_in_a_checkout_is_not_taken_back(desk: Desk) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 1000)
    context = pb.CouponUseContext(member_id="m-1")
    code = (await desk.get_reward("m-1", "tee")).coupon.code
    held = await desk.reserve(code, context=context)
    for _ in range(2):
        assert await why(desk.take_back("m-1", request_id="b-1", coupon_code=code)) == (REFUSED, "COUPON_RESERVED")
    await desk.redeem(code, use_id=held.use_id)
    # One of two uses is as good as both.
    assert await why(desk.take_back("m-1", coupon_code=code)) == (REFUSED, "COUPON_REDEEMED")
    assert (await desk.coupon(code)).state == pb.COUPON_STATE_ISSUED
    assert await desk.points("m-1") == (600, 0)
    await desk.release(code, held.use_id, redeemed=True)
    assert await why(desk.take_back("m-1", request_id="b-1", coupon_code=code)) == (REFUSED, "COUPON_RESERVED")
    assert (await desk.take_back("m-1", coupon_code=code)).points == 500
    assert await desk.points("m-1") == (1100, 0)


async def test_only_a_reward_of_the_member_that_gave_a_coupon_is_taken_back(desk: Desk) -> None:
    for member_id in ("m-1", "m-2"):
        await desk.enroll(member_id)
        await desk.award(member_id, 1000)
    mug = await desk.get_reward("m-1", "mug")
    bonus = await desk.get_reward("m-1", "bonus")
    by_hand = (await desk.issue(member_id="m-1")).coupon.code
    unknown = grpc.StatusCode.NOT_FOUND, "REDEMPTION_UNKNOWN"
    assert await why(desk.take_back("m-2", coupon_code=mug.coupon.code)) == unknown
    assert await why(desk.take_back("m-2", redemption_id=mug.redemption_id)) == unknown
    assert await why(desk.take_back("m-1", coupon_code=by_hand)) == unknown
    assert await why(desk.take_back("m-1", redemption_id=bonus.redemption_id)) == (REFUSED, "REWARD_OF_POINTS")
    nobody = grpc.StatusCode.NOT_FOUND, "MEMBER_UNKNOWN"
    assert await why(desk.take_back("nobody", coupon_code=by_hand)) == nobody
    assert await desk.points("m-1") == (800, 0)
    assert (await desk.coupon(mug.coupon.code)).state == pb.COUPON_STATE_ISSUED


# --- whoever dies on the way ---


class KilledError(BaseException):
    """The process died here."""


class AnswerLost:
    """A ledger that does what it is asked, and whose answer to one call is lost."""

    def __init__(self, points: PointsClient, name: str) -> None:
        self._points = points
        self._name = name

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._points, name)
        if name != self._name:
            return method

        async def lost(**fields: Any) -> None:
            with contextlib.suppress(Exception):
                await method(**fields)
            raise PeerError

        return lost


class Meanwhile:
    """A ledger that is asked for one thing, the first time, only after something else has happened."""

    def __init__(self, points: PointsClient, name: str, happens: Callable[[], Awaitable[None]]) -> None:
        self._points = points
        self._name = name
        self._happening = [happens]

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._points, name)
        if name != self._name:
            return method

        async def later(**fields: Any) -> None:
            while self._happening:
                await self._happening.pop()()
            await method(**fields)

        return later


class Failing:
    """A ledger that nobody can talk to about the points of one member: that is a fault of ours."""

    def __init__(self, points: PointsClient, member_id: str) -> None:
        self._points = points
        self._member_id = member_id

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._points, name)

        async def fail(**fields: Any) -> None:
            if fields["member_id"] == self._member_id:
                raise ValueError
            await method(**fields)

        return fail


class LostMeanwhile:
    """A ledger that still says what a member has, and then is gone."""

    def __init__(self, points: PointsClient, gone: PointsClient) -> None:
        self._points = points
        self._gone = gone

    def __getattr__(self, name: str) -> Any:
        return getattr(self._points if name == "available" else self._gone, name)


@dataclass
class Workshop:
    """Makes service objects over one database and ledger, each as of a process of its own."""

    desk: Desk
    store: Store
    vault: Vault
    programmes: Programmes
    points: PointsClient
    maker: CouponMaker
    progress: Progress
    # Ahead of the one of the notifier that runs beside it, so that this goes on with nothing.
    clock: MovableClock = field(default_factory=lambda: MovableClock(datetime.now(UTC) + timedelta(days=1)))
    steps: list[str] = field(default_factory=list)

    def service(
        self,
        *,
        kill_after: int | None = None,
        points: Any = None,
        meddle: Callable[[str], Awaitable[None]] | None = None,
    ) -> RewardService:
        self.steps = []

        async def after_step(step: str) -> None:
            self.steps.append(step)
            if meddle is not None:
                await meddle(step)
            if kill_after is not None and len(self.steps) > kill_after:
                raise KilledError(step)

        async def no_tier(member_id: str) -> str:
            return ""

        async def is_member(member_id: str) -> None:
            return None

        return RewardService(
            store=self.store,
            maker=self.maker,
            programmes=self.programmes,
            points=points or self.points,
            progress=self.progress,
            partitions=4,
            request_key=self.vault.request_key,
            tier_of=no_tier,
            why_no_member=is_member,
            machine_now=self.clock,
            business_now=lambda: NOW,
            after_step=after_step,
        )

    async def intent(self, member_id: str) -> RewardIntent:
        async def read(transaction: Transaction) -> RewardIntent:
            for partition in range(4):
                found = await transaction.find_reward_intent(partition, member_id, "r-1")
                if found is not None:
                    return found
            raise LookupError

        return await self.store.read(read)


@pytest_asyncio.fixture
async def workshop(desk: Desk) -> AsyncIterator[Workshop]:
    pool = await create_pool(desk.database.dsn("loyalty_notifier"), service="notifier", size=4)
    channel = open_channel(f"unix:{desk.folder}/ledger.sock", principal="notifier", secret=SECRET)
    try:
        store = Store(pool)
        installation = await store.read(Transaction.read_installation)
        assert installation is not None
        vault = Vault(read_master_keys(desk.folder / "master-key"), installation)
        programmes = Programmes(load(desk.programme))
        programmes.learn(await LedgerClient(channel).versions())
        yield Workshop(
            desk=desk,
            store=store,
            vault=vault,
            programmes=programmes,
            points=PointsClient(channel),
            maker=CouponMaker(codes=CouponCodes(key=vault.coupon_key, partitions=4), partitions=4),
            progress=Progress(await store.read(Transaction.read_cursors)),
        )
    finally:
        await channel.close()
        await pool.close()


async def ask(service: RewardService, member_id: str, reward_id: str) -> Any:
    return await service.redeem_reward(
        request_id="r-1", content=reward_id.encode(), principal="till", member_id=member_id, reward_id=reward_id,
        money_paid=0,
    )  # fmt: skip


async def whole(desk: Desk, member_id: str, reward_id: str) -> None:
    """The points went, and what they are for came, once."""
    coupons = await desk.coupons(member_id)
    if reward_id == "bonus":
        assert await desk.points(member_id) == (1300, 0)
        assert coupons == []
    else:
        assert await desk.points(member_id) == (600, 0)
        assert [(coupon.reward_id, coupon.state) for coupon in coupons] == [(reward_id, pb.COUPON_STATE_ISSUED)]


async def nothing(desk: Desk, member_id: str, points: int) -> None:
    """No points went, and nothing came."""
    assert await desk.points(member_id) == (points, 0)
    assert await desk.coupons(member_id) == []


@pytest.mark.parametrize("reward_id", ["tee", "bonus"])
@pytest.mark.parametrize("recovered", [True, False], ids=["recovered", "asked again"])
async def test_a_service_that_dies_after_any_step_leaves_a_reward_that_becomes_whole(
    desk: Desk, workshop: Workshop, reward_id: str, recovered: bool
) -> None:
    await desk.enroll("m")
    await desk.award("m", 1000)
    await ask(workshop.service(), "m", reward_id)
    steps = workshop.steps
    assert steps == ["begun", "held", "prepared", "captured", "awarded", "issued"]
    for number, step in enumerate(steps):
        member_id = f"m-{number}"
        await desk.enroll(member_id)
        await desk.award(member_id, 1000)
        with pytest.raises(KilledError, match=step):
            await ask(workshop.service(kill_after=number), member_id, reward_id)
        shown = await desk.coupons(member_id)
        assert bool(shown) == (reward_id == "tee" and step == "issued"), "nobody sees it before"
        other = workshop.service()
        if recovered:
            await other.recover()
            assert (await workshop.intent(member_id)).open == (step != "issued"), "whoever began it has it for a while"
            workshop.clock.move(LEASE)
            await other.recover()
        redeemed, _, replayed = await ask(other, member_id, reward_id)
        assert (redeemed.points, replayed) == (500, recovered or step == "issued")
        await whole(desk, member_id, reward_id)


async def take_back(service: RewardService, member_id: str, code: str) -> Any:
    return await service.reverse_reward(
        request_id="b-1", content=code.encode(), principal="clerk", member_id=member_id, coupon_code=code,
        redemption_id="", reason="mistake",
    )  # fmt: skip


async def back_whole(desk: Desk, member_id: str, stock_left: int = 3) -> None:
    """The coupon is void, and what it took is there again, once."""
    assert await desk.points(member_id) == (1100, 0)
    assert [coupon.state for coupon in await desk.coupons(member_id)] == [pb.COUPON_STATE_VOID]
    mug = (await desk.catalogue(member_id))["mug"]
    assert (mug.stock_left, mug.left_for_member) == (stock_left, 2)


@pytest.mark.parametrize("recovered", [True, False], ids=["recovered", "asked again"])
async def test_a_service_that_dies_while_it_takes_a_reward_back_leaves_what_becomes_whole(
    desk: Desk, workshop: Workshop, recovered: bool
) -> None:
    steps = ["taken back", "given back", "reversed"]
    for number, step in enumerate([*steps, ""]):
        member_id = f"m-{number}"
        await desk.enroll(member_id)
        await desk.award(member_id, 1000)
        code = (await desk.get_reward(member_id, "mug")).coupon.code
        dying = workshop.service(kill_after=number)
        with pytest.raises(KilledError, match=step) if step else contextlib.nullcontext():
            await take_back(dying, member_id, code)
        assert workshop.steps == steps[: number + 1]
        assert (await desk.coupon(code)).state == pb.COUPON_STATE_VOID, "nobody uses it from the first step on"
        other = workshop.service()
        if recovered:
            await other.recover()
            assert len(workshop.steps) == 0, "whoever began it has it for a while"
            workshop.clock.move(LEASE)
            await other.recover()
        redeemed, _, replayed = await take_back(other, member_id, code)
        assert (redeemed.points, replayed) == (500, recovered or step in ("reversed", ""))
        await back_whole(desk, member_id)


async def test_who_began_to_take_a_reward_back_hands_out_what_was_paid_though_another_ended_it(
    desk: Desk, workshop: Workshop
) -> None:
    got = await dine(desk)
    with pytest.raises(KilledError):
        await take_back(workshop.service(kill_after=0), "m-1", got.coupon.code)
    assert await desk.differences() == []
    assert not (await desk.take_back("m-1", redemption_id=got.redemption_id)).HasField("money")
    redeemed, _, _ = await take_back(workshop.service(), "m-1", got.coupon.code)
    assert redeemed.money_minor_units == 2000


async def test_those_who_take_one_reward_back_at_once_give_its_points_back_once(desk: Desk, workshop: Workshop) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 1000)
    code = (await desk.get_reward("m-1", "mug")).coupon.code
    await asyncio.gather(
        *(take_back(workshop.service(), "m-1", code) for _ in range(4)),
        *(desk.take_back("m-1", coupon_code=code) for _ in range(4)),
    )
    await back_whole(desk, "m-1")


async def test_two_rewards_that_are_taken_back_at_once_by_one_request_id_are_not_both_taken_back(desk: Desk) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 1000)
    codes = [(await desk.get_reward("m-1", "tee")).coupon.code for _ in range(2)]
    outcomes = await asyncio.gather(
        *(desk.take_back("m-1", request_id="b-1", coupon_code=code) for code in codes), return_exceptions=True
    )
    (why_not,) = [refused(one)[1] for one in outcomes if isinstance(one, grpc.aio.AioRpcError)]
    assert why_not == "REQUEST_ID_REUSED"
    assert await desk.points("m-1") == (600, 0)
    states = [coupon.state for coupon in await desk.coupons("m-1")]
    assert sorted(states) == [pb.COUPON_STATE_ISSUED, pb.COUPON_STATE_VOID]


async def test_of_a_use_and_a_taking_back_at_once_one_alone_happens(desk: Desk) -> None:
    for number in range(6):
        member_id = f"m-{number}"
        await desk.enroll(member_id)
        await desk.award(member_id, 400)
        code = (await desk.get_reward(member_id, "tee")).coupon.code
        context = pb.CouponUseContext(member_id=member_id)
        used, back = await asyncio.gather(
            desk.redeem(code, context=context), desk.take_back(member_id, coupon_code=code), return_exceptions=True
        )
        assert isinstance(used, grpc.aio.AioRpcError) != isinstance(back, grpc.aio.AioRpcError)
        assert (await desk.points(member_id))[0] == (500 if isinstance(used, grpc.aio.AioRpcError) else 0)


async def test_while_the_ledger_is_away_a_reward_that_is_taken_back_waits_and_then_comes_back(
    desk: Desk, workshop: Workshop
) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 1000)
    code = (await desk.get_reward("m-1", "mug")).coupon.code
    gone = PointsClient(open_channel(f"unix:{desk.folder}/nobody.sock", principal="notifier", secret=SECRET))
    for points in (gone, AnswerLost(workshop.points, "reverse")):
        with pytest.raises(PeerError):
            await take_back(workshop.service(points=points), "m-1", code)
    workshop.clock.move(LEASE)
    assert await workshop.service(points=gone).recover() == workshop.clock() + LEASE
    workshop.clock.move(LEASE)
    assert await workshop.service().recover() is None
    await back_whole(desk, "m-1")


async def test_what_the_ledger_will_not_give_back_is_refused_and_not_tried_for_ever(
    desk: Desk, workshop: Workshop
) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 1000)
    code = (await desk.get_reward("m-1", "mug")).coupon.code

    async def erase(step: str) -> None:
        if step == "taken back":
            request = ledger_pb.EraseMemberRequest(request_id="erase", member_id="m-1", reason="asked")
            await desk.ledger.EraseMember(request, timeout=SECONDS)

    with pytest.raises(KilledError):
        await take_back(workshop.service(kill_after=0, meddle=erase), "m-1", code)
    workshop.clock.move(LEASE)
    assert await workshop.service().recover() is None
    for _ in range(2):
        with pytest.raises(RefusedError) as caught:
            await take_back(workshop.service(), "m-1", code)
        assert caught.value.reason == "MEMBER_ERASED"
    # Its coupon is void all the same: somebody else can have the piece.
    await desk.enroll("m-2")
    assert (await desk.catalogue("m-2"))["mug"].stock_left == 3


@pytest.mark.parametrize("name", ["hold", "capture", "award"])
async def test_an_answer_of_the_ledger_that_is_lost_changes_nothing(desk: Desk, workshop: Workshop, name: str) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 1000)
    with pytest.raises(PeerError):
        await ask(workshop.service(points=AnswerLost(workshop.points, name)), "m-1", "bonus")
    workshop.clock.move(LEASE)
    assert await workshop.service().recover() is None
    await whole(desk, "m-1", "bonus")


class AwardRefused(AnswerLost):
    """A ledger that will give no points."""

    def __init__(self, points: PointsClient) -> None:
        super().__init__(points, "award")

    def __getattr__(self, name: str) -> Any:
        if name != "award":
            return super().__getattr__(name)

        async def refuse(**fields: Any) -> None:
            raise PeerRefusedError("FAILED_PRECONDITION", "BALANCE_OUT_OF_RANGE", "too many")

        return refuse


async def test_bonus_points_that_the_ledger_will_not_give_bring_back_what_they_cost_wherever_the_service_dies(
    desk: Desk, workshop: Workshop
) -> None:
    refusing = AwardRefused(workshop.points)
    for kill_after in range(7):
        member_id = f"m-{kill_after}"
        await desk.enroll(member_id)
        await desk.award(member_id, 1000)
        with contextlib.suppress(KilledError, RefusedError):
            await ask(workshop.service(kill_after=kill_after, points=refusing), member_id, "bonus")
        workshop.clock.move(LEASE)
        await workshop.service(points=refusing).recover()
        with pytest.raises(RefusedError) as caught:
            await ask(workshop.service(), member_id, "bonus")
        assert caught.value.reason == "BALANCE_OUT_OF_RANGE"
        await nothing(desk, member_id, 1100)


async def test_a_reward_whose_hold_is_gone_comes_to_nothing_wherever_the_service_dies(
    desk: Desk, workshop: Workshop
) -> None:
    for kill_after in range(6):
        member_id = f"m-{kill_after}"
        await desk.enroll(member_id)
        await desk.award(member_id, 1000)

        async def let_go(step: str, member_id: str = member_id) -> None:
            if step == "prepared":
                hold_id = (await workshop.intent(member_id)).ledger_id(workshop.vault.request_key, "hold")
                gone = {"request_id": "let-go", "member_id": member_id, "hold_id": hold_id, "on_behalf_of": ""}
                await workshop.points.release(**gone)

        with contextlib.suppress(KilledError, RefusedError):
            await ask(workshop.service(kill_after=kill_after, meddle=let_go), member_id, "mug")
        workshop.clock.move(LEASE)
        await workshop.service(meddle=let_go).recover()
        with pytest.raises(RefusedError) as caught:
            await ask(workshop.service(), member_id, "mug")
        assert caught.value.reason == "HOLD_UNKNOWN"
        await nothing(desk, member_id, 1100)
        mug = (await desk.catalogue(member_id))["mug"]
        assert (mug.stock_left, mug.left_for_member) == (3, 2), "what was taken of both is given back"


async def test_no_till_moves_the_points_that_are_held_for_a_reward(desk: Desk, workshop: Workshop) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 1000)
    with pytest.raises(KilledError):
        await ask(workshop.service(kill_after=1), "m-1", "mug")
    hold_id = (await workshop.intent("m-1")).ledger_id(workshop.vault.request_key, "hold")
    of = {"member_id": "m-1", "hold_id": hold_id}
    capture = ledger_pb.CaptureHoldRequest(request_id="c", **of)
    release = ledger_pb.ReleaseHoldRequest(request_id="r", **of)
    assert await why(desk.ledger.CaptureHold(capture, timeout=SECONDS)) == (REFUSED, "REDEMPTION_OF_REWARD")
    assert await why(desk.ledger.ReleaseHold(release, timeout=SECONDS)) == (REFUSED, "REDEMPTION_OF_REWARD")
    await ask(workshop.service(), "m-1", "mug")
    await whole(desk, "m-1", "mug")


async def test_two_services_that_go_on_with_one_reward_give_it_once(desk: Desk, workshop: Workshop) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 1000)
    services = [workshop.service() for _ in range(8)]
    answers = await asyncio.gather(*(ask(service, "m-1", "mug") for service in services))
    assert len({redeemed.coupon.code for redeemed, _, _ in answers}) == 1
    await whole(desk, "m-1", "mug")
    assert (await desk.catalogue("m-1"))["mug"].stock_left == 2


@pytest.mark.parametrize("gone_on_to", ["prepared", "captured"])
async def test_who_found_a_pool_empty_gives_no_points_for_nothing_where_another_goes_on_with_new_codes(
    desk: Desk, workshop: Workshop, gone_on_to: str
) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 1000)

    async def taken(step: str) -> None:
        if step == "held":
            await desk.issue(pool="partner")

    async def go_on() -> None:
        await desk.import_codes(["FILM-0001"], import_id="file-2")
        workshop.clock.move(LEASE)
        with pytest.raises(KilledError, match=gone_on_to):
            await workshop.service(kill_after=["held", "prepared", "captured"].index(gone_on_to)).recover()

    await desk.import_codes(["FILM-0000"])
    slow = workshop.service(points=Meanwhile(workshop.points, "release", go_on), meddle=taken)
    if gone_on_to == "prepared":
        with pytest.raises(RefusedError) as caught:
            await ask(slow, "m-1", "code")
        assert caught.value.reason == "HOLD_UNKNOWN"
        await nothing(desk, "m-1", 1100)
    else:
        redeemed, _, _ = await ask(slow, "m-1", "code")
        assert redeemed.coupon.code == "FILM-0001"
        await whole(desk, "m-1", "code")
    assert await desk.differences() == []


async def test_while_the_ledger_is_away_a_reward_waits_and_then_comes(desk: Desk, workshop: Workshop) -> None:
    await desk.enroll("m-1")
    await desk.award("m-1", 1000)
    gone = PointsClient(open_channel(f"unix:{desk.folder}/nobody.sock", principal="notifier", secret=SECRET))
    with pytest.raises(PeerError):
        await ask(workshop.service(points=gone), "m-1", "mug")
    assert (await desk.catalogue("m-1"))["mug"].stock_left == 3, "nothing is begun before it is known what is there"
    away = LostMeanwhile(workshop.points, gone)
    with pytest.raises(PeerError):
        await ask(workshop.service(points=away), "m-1", "mug")
    assert (await desk.catalogue("m-1"))["mug"].stock_left == 2
    workshop.clock.move(LEASE)
    due = await workshop.service(points=away).recover()
    assert due == workshop.clock() + LEASE
    await nothing(desk, "m-1", 1100)
    workshop.clock.move(LEASE + timedelta(seconds=1))
    await workshop.service().recover()
    await whole(desk, "m-1", "mug")


async def test_a_reward_that_fails_in_a_way_nobody_thought_of_does_not_stand_in_the_way_of_others(
    desk: Desk, workshop: Workshop
) -> None:
    members = [f"m-{number}" for number in range(4)]
    for member_id in members:
        await desk.enroll(member_id)
        await desk.award(member_id, 1000)
        with pytest.raises(KilledError):
            await ask(workshop.service(kill_after=0), member_id, "tee")
    workshop.clock.move(LEASE)
    failing = Failing(workshop.points, "m-1")
    assert await workshop.service(points=failing).recover() == workshop.clock() + LEASE
    for member_id in members:
        await (nothing(desk, member_id, 1100) if member_id == "m-1" else whole(desk, member_id, "tee"))
    workshop.clock.move(LEASE)
    assert await workshop.service().recover() is None
    await whole(desk, "m-1", "tee")


async def test_who_has_not_the_points_never_keeps_the_last_piece_from_who_has(desk: Desk, workshop: Workshop) -> None:
    for member_id, points in (("poor", 0), ("rich", 900), ("first", 900)):
        await desk.enroll(member_id)
        await desk.award(member_id, points or 1)
    for _ in range(2):
        await desk.get_reward("first", "mug")
    got: list[str] = []

    async def meanwhile(step: str) -> None:
        if step == "begun":
            got.append((await desk.get_reward("rich", "mug")).coupon.reward_id)

    with pytest.raises(RefusedError) as caught:
        await ask(workshop.service(meddle=meanwhile), "poor", "mug")
    assert (caught.value.reason, caught.value.facts) == ("NOT_ENOUGH_POINTS", {"points_missing": "399"})
    assert got == ["mug"]


async def test_out_of_stock_is_no_answer_for_ever_while_others_may_give_the_last_piece_back(
    desk: Desk, workshop: Workshop
) -> None:
    for member_id in ("first", "holder", "next"):
        await desk.enroll(member_id)
        await desk.award(member_id, 900)
    for _ in range(2):
        await desk.get_reward("first", "mug")
    with pytest.raises(KilledError):
        await ask(workshop.service(kill_after=1), "holder", "mug")
    assert workshop.steps == ["begun", "held"]
    assert await desk.differences() == [], "what is on its way is counted, and no difference"
    for _ in range(2):
        assert await why(desk.get_reward("next", "mug", request_id="r-9")) == (REFUSED, "OUT_OF_STOCK")
    intent = await workshop.intent("holder")
    hold_id = intent.ledger_id(workshop.vault.request_key, "hold")
    await workshop.points.release(request_id="gone", member_id="holder", hold_id=hold_id, on_behalf_of="")
    with pytest.raises(RefusedError):
        await ask(workshop.service(), "holder", "mug")
    assert (await desk.get_reward("next", "mug", request_id="r-9")).coupon.reward_id == "mug"
