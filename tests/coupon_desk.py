"""The rewards and coupons of an installation as their callers use them: a real ledger, real tiers, a notifier."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc
from loyalty.notifier.v1 import coupon_pb2 as pb
from loyalty.notifier.v1 import coupon_pb2_grpc, reward_pb2
from loyalty.type.v1.money_pb2 import Money

from services.notifier.app import build
from services.notifier.check import check
from services.notifier.config import NotifierConfig
from services.notifier.peers import acting_for
from services.runtime.clock import ClockMode
from services.tiers.app import build as build_tiers
from services.tiers.config import Config as TiersConfig
from tests.conftest import PROGRAMMES, Database, StartLedger, serving

SECONDS = 30
NOW = datetime(2024, 6, 3, 12, tzinfo=UTC)
JOINED = NOW - timedelta(days=2)
# Accounts of JOINED are suspended from here on.
SUSPENDED = JOINED + timedelta(days=60)
REWARDS = """
rewards:
  - id: mug
    points: 500
    stock: 3
    per_member: 2
    coupon: {prefix: MUG, free_product: mug-1, valid: P30D}
    texts:
      en: {name: A mug, description: With our logo}
      pl: {name: Kubek}
  - id: tee
    points: 500
    coupon: {prefix: TEE, free_product: tee-1, valid: P30D, uses: 2}
    texts: {en: {name: A shirt}}
  - id: dinner
    points: 1000
    money: "20.00"
    tiers: [green]
    coupon: {prefix: EAT, experience: Dinner for two, valid: P60D}
    texts: {en: {name: Dinner}}
  - id: bonus
    points: 500
    bonus_points: 700
    texts: {en: {name: More points}}
  - id: code
    points: 500
    coupon: {pool: partner, digital_content: A film, valid: P30D}
    texts: {en: {name: A film}}
  - id: summer
    points: 500
    from: "2024-07-01"
    until: "2024-08-31"
    coupon: {prefix: SUN, discount_percent: "10", valid: P10D}
    texts: {en: {name: Summer}}
  - id: winter
    points: 500
    until: "2024-02-28"
    coupon: {prefix: ICE, discount_percent: "10", valid: P10D}
    texts: {en: {name: Winter}}
"""


def stamp(time: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def refused(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str]:
    """The status and the reason of a failed call."""
    return error.code(), info_of(error).reason


def info_of(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    for detail in details_of(error):
        detail.Unpack(info)
    return info


def details_of(error: grpc.aio.AioRpcError) -> Any:
    return status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"]).details


@dataclass
class MovableClock:
    """Machine time that moves when a test says so."""

    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.time

    def move(self, by: timedelta) -> None:
        self.time += by


@dataclass
class Desk:
    """Starts an installation, and calls it."""

    database: Database
    folder: Path
    token_file: Path
    programme: Path
    ledger: Any
    stack: contextlib.AsyncExitStack
    clock: MovableClock = field(default_factory=MovableClock)
    rewards: Any = None
    written: int = 0

    def config(self, **changed: Any) -> NotifierConfig:
        values = {
            "listen": f"unix:{self.folder}/notifier.sock",
            "database_url": self.database.dsn("loyalty_notifier"),
            "programme": self.programme,
            "token_file": self.token_file,
            "ledger_address": f"unix:{self.folder}/ledger.sock",
            "tiers_address": f"unix:{self.folder}/tiers.sock",
            # Nobody is mailed.
            "smtp_host": "127.0.0.1",
            "smtp_port": 9,
            "mail_from": "Shop <shop@example.com>",
            "master_key_file": self.folder / "master-key",
        }
        return NotifierConfig(**{**values, **changed})

    async def start_tiers(self) -> None:
        config = TiersConfig(
            listen=f"unix:{self.folder}/tiers.sock",
            database_url=self.database.dsn("loyalty_tiers"),
            programme=self.programme,
            token_file=self.token_file,
            ledger_address=f"unix:{self.folder}/ledger.sock",
        )
        await self.stack.enter_async_context(serving(await build_tiers(config, self.stack), config.listen))

    async def start(self, own: contextlib.AsyncExitStack | None = None, name: str = "notifier") -> Any:
        """A notifier, and the stub of its rewards."""
        config = self.config(listen=f"unix:{self.folder}/{name}.sock")
        inside = own or self.stack
        channel = await inside.enter_async_context(serving(await build(config, inside, self.clock), config.listen))
        self.rewards = coupon_pb2_grpc.RewardServiceStub(channel)
        return self.rewards

    def next(self) -> str:
        self.written += 1
        return f"request-{self.written}"

    async def advance(self, time: datetime) -> str:
        request = ledger_pb.AdvanceClockRequest(request_id=self.next(), to_time=stamp(time))
        return (await self.ledger.AdvanceClock(request, timeout=SECONDS)).causal_token

    async def enroll(self, member_id: str) -> None:
        request = ledger_pb.EnrollMemberRequest(
            request_id=self.next(), member_id=member_id, occurred_time=stamp(JOINED)
        )
        await self.ledger.EnrollMember(request, timeout=SECONDS)

    async def award(self, member_id: str, points: int) -> str:
        request = ledger_pb.AwardPointsRequest(
            request_id=self.next(), member_id=member_id, points=points, reason="test", occurred_time=stamp(NOW)
        )
        return (await self.ledger.AwardPoints(request, timeout=SECONDS)).causal_token

    async def buy(self, member_id: str, minor_units: int) -> str:
        request = ledger_pb.RecordPurchaseRequest(
            request_id=self.next(),
            member_id=member_id,
            occurred_time=stamp(NOW),
            amount=Money(currency_code="USD", minor_units=minor_units),
        )
        return (await self.ledger.RecordPurchase(request, timeout=SECONDS)).causal_token

    async def points(self, member_id: str) -> tuple[int, int]:
        """Available and held."""
        answer = await self.ledger.GetBalance(ledger_pb.GetBalanceRequest(member_id=member_id), timeout=SECONDS)
        return answer.balance.available_points, answer.balance.held_points

    async def issue(self, request_id: str = "", **fields: Any) -> pb.IssueCouponResponse:
        values = {
            "request_id": request_id or self.next(),
            "offer": ten_percent(),
            "valid_until_time": stamp(NOW + timedelta(days=30)),
            "prefix": "" if fields.get("pool") else "TEN",
            "reason": "test",
        }
        return await self.rewards.IssueCoupon(pb.IssueCouponRequest(**{**values, **fields}), timeout=SECONDS)

    async def reserve(self, code: str, **fields: Any) -> pb.ReserveCouponResponse:
        values = {"request_id": self.next(), "code": code}
        return await self.rewards.ReserveCoupon(pb.ReserveCouponRequest(**{**values, **fields}), timeout=SECONDS)

    async def redeem(self, code: str, **fields: Any) -> pb.RedeemCouponResponse:
        values = {"request_id": self.next(), "code": code}
        return await self.rewards.RedeemCoupon(pb.RedeemCouponRequest(**{**values, **fields}), timeout=SECONDS)

    async def release(self, code: str, use_id: str, **fields: Any) -> pb.ReleaseCouponResponse:
        values = {"request_id": self.next(), "code": code, "use_id": use_id}
        return await self.rewards.ReleaseCoupon(pb.ReleaseCouponRequest(**{**values, **fields}), timeout=SECONDS)

    async def validate(self, code: str, on_behalf_of: str = "", **fields: Any) -> pb.ValidateCouponResponse:
        request = pb.ValidateCouponRequest(code=code, **fields)
        return await self.rewards.ValidateCoupon(request, timeout=SECONDS, metadata=acting_for(on_behalf_of))

    async def void(self, code: str, **fields: Any) -> pb.VoidCouponResponse:
        values = {"request_id": self.next(), "code": code, "reason": "mistake"}
        return await self.rewards.VoidCoupon(pb.VoidCouponRequest(**{**values, **fields}), timeout=SECONDS)

    async def coupon(self, code: str) -> pb.Coupon:
        return (await self.rewards.GetCoupon(pb.GetCouponRequest(code=code), timeout=SECONDS)).coupon

    async def coupons(self, member_id: str, token: str = "", **fields: Any) -> list[pb.Coupon]:
        request = pb.ListCouponsRequest(member_id=member_id, causal_token=token, **fields)
        return list((await self.rewards.ListCoupons(request, timeout=SECONDS)).coupons)

    async def reach(self, token: str) -> None:
        """Waits until the notifier has taken a write in."""
        try:
            await self.coupons("nobody", token)
        except grpc.aio.AioRpcError as error:
            if refused(error)[1] != "MEMBER_UNKNOWN":
                raise

    async def get_reward(self, member_id: str, reward_id: str, **fields: Any) -> pb.RedeemRewardResponse:
        values = {"request_id": self.next(), "member_id": member_id, "reward_id": reward_id}
        return await self.rewards.RedeemReward(pb.RedeemRewardRequest(**{**values, **fields}), timeout=SECONDS)

    async def take_back(self, member_id: str, **fields: Any) -> pb.ReverseRewardResponse:
        values = {"request_id": self.next(), "member_id": member_id, "reason": "mistake"}
        return await self.rewards.ReverseReward(pb.ReverseRewardRequest(**{**values, **fields}), timeout=SECONDS)

    async def catalogue(self, member_id: str, token: str = "", language: str = "") -> dict[str, reward_pb2.Reward]:
        request = pb.ListRewardsRequest(member_id=member_id, causal_token=token, language=language)
        listed = await self.rewards.ListRewards(request, timeout=SECONDS)
        return {reward.reward_id: reward for reward in listed.rewards}

    async def import_codes(self, codes: list[str], **fields: Any) -> pb.ImportCodesResponse:
        values = {"request_id": self.next(), "pool": "partner", "import_id": "file-1", "first_line": 1, "codes": codes}
        return await self.rewards.ImportCodes(pb.ImportCodesRequest(**{**values, **fields}), timeout=SECONDS)

    async def differences(self) -> list[tuple[str, Any, Any]]:
        report = await check(self.config())
        return [(found["what"], found["expected"], found["found"]) for found in report.differences]


def ten_percent() -> reward_pb2.Offer:
    return reward_pb2.Offer(kind=reward_pb2.OFFER_KIND_DISCOUNT_PERCENT, percent_basis_points=1000)


@contextlib.asynccontextmanager
async def open_desk(
    start_ledger: StartLedger, database: Database, folder: Path, token_file: Path
) -> AsyncIterator[Desk]:
    """An installation in simulated time, at NOW, whose programme has rewards; with tiers and a notifier."""
    (folder / "master-key").write_text(base64.b64encode(b"m" * 32).decode() + "\n")
    programme = folder / "programme.yaml"
    demo = (PROGRAMMES / "retail-demo.yaml").read_text(encoding="utf-8")
    # All of the demo but its own rewards; accounts that nobody confirms are suspended after a while.
    text = re.sub(r"\nrewards:\n(?:[ #].*\n|\n)*", "\n", demo) + REWARDS
    programme.write_text(
        text.replace("\ntiers:\n", "\ntiers:\n  validity: {period: P60D, warning: P5D}\n"), encoding="utf-8"
    )
    channel = await start_ledger(programme=programme, partitions=4, clock=ClockMode.SIMULATED)
    async with contextlib.AsyncExitStack() as stack:
        desk = Desk(
            database=database,
            folder=folder,
            token_file=token_file,
            programme=programme,
            ledger=ledger_service_pb2_grpc.LedgerServiceStub(channel),
            stack=stack,
        )
        await desk.start_tiers()
        await desk.start()
        await desk.reach(await desk.advance(NOW))
        yield desk
