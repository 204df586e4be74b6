"""The load of the notifier: tasks in a process of their own, `python -m tests.benchmarks.notifier_jobs`, as those of
`client`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random

import grpc
from loyalty.notifier.v1 import checkout_service_pb2, reward_pb2
from loyalty.notifier.v1 import coupon_pb2 as pb

from services.runtime.clock import machine_now
from tests.benchmarks.client import Job, LoadError, Measured, call_all, main, unary
from tests.benchmarks.purchases import CURRENCY, member_id

REWARD_SERVICE = "loyalty.notifier.v1.RewardService"
CHECKOUT_SERVICE = "loyalty.notifier.v1.CheckoutService"
# Of a basket.
_LINES = 10
# Parts of an import under way at once, as `loyalty coupons import` has them.
_PARTS_IN_FLIGHT = 2
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuing(Job):
    """IssueCoupon, so many calls at a time; for whoever holds them."""

    count: int
    in_flight: int

    async def run(self) -> Measured:
        """Measures the time of the whole and of each call."""
        async with self.connected() as channel:
            measured, _ = await _issued(self, channel, self.count, self.in_flight)
        return measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeeming(Job):
    """RedeemCoupon of coupons that were issued before the clock starts, so many calls at a time."""

    count: int
    in_flight: int

    async def run(self) -> Measured:
        """Measures the time of the whole and of each call."""
        async with self.connected() as channel:
            _, codes = await _issued(self, channel, self.count, self.in_flight)
            requests = [
                pb.RedeemCouponRequest(request_id=f"redeem-{self.seed}-{number}", code=code).SerializeToString()
                for number, code in enumerate(codes)
            ]
            call = unary(channel, "RedeemCoupon", pb.RedeemCouponResponse, REWARD_SERVICE)
            return await call_all(call, requests, self.in_flight, self.metadata, _check_redeemed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Importing(Job):
    """ImportCodes of so many codes, in parts of `size`."""

    count: int
    size: int

    async def run(self) -> Measured:
        """Measures the time of the whole; what was done are codes."""
        random = Random(self.seed)
        requests = [
            pb.ImportCodesRequest(
                request_id=f"import-{self.seed}-{first}",
                pool="bench",
                import_id=str(self.seed),
                first_line=first + 1,
                codes=["".join(random.choices(_LETTERS, k=14)) for _ in range(self.size)],
            ).SerializeToString()
            for first in range(0, self.count, self.size)
        ]

        def check(answer: pb.ImportCodesResponse) -> None:
            if answer.imported != self.size:
                raise LoadError(f"{answer.imported} of {self.size} codes were taken in")

        async with self.connected() as channel:
            call = unary(channel, "ImportCodes", pb.ImportCodesResponse, REWARD_SERVICE)
            measured = await call_all(call, requests, _PARTS_IN_FLIGHT, self.metadata, check)
        return replace(measured, done=self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoting(Job):
    """QuoteCheckout of the members with the numbers from 0 on, who have joined, one call after the other: a basket with
    a coupon."""

    count: int
    members: int

    async def run(self) -> Measured:
        """Measures the time of each call."""
        async with self.connected() as channel:
            _, codes = await _issued(self, channel, 1, 1)
            requests = [
                checkout_service_pb2.QuoteCheckoutRequest(
                    member_id=member_id(number % self.members),
                    currency_code=CURRENCY,
                    lines=[
                        checkout_service_pb2.CheckoutLine(sku=f"article-{line}", unit_price_minor_units=1_000 + line)
                        for line in range(_LINES)
                    ],
                    coupon_codes=codes,
                ).SerializeToString()
                for number in range(self.count)
            ]
            call = unary(channel, "QuoteCheckout", checkout_service_pb2.QuoteCheckoutResponse, CHECKOUT_SERVICE)
            return await call_all(call, requests, 1, self.metadata, _check_quote)


async def _issued(job: Job, channel: grpc.aio.Channel, count: int, in_flight: int) -> tuple[Measured, list[str]]:
    """Issues coupons: how fast, and their codes."""
    codes: list[str] = []

    def check(answer: pb.IssueCouponResponse) -> None:
        if answer.replayed:
            raise LoadError("a coupon was issued before")
        codes.append(answer.coupon.code)

    request = pb.IssueCouponRequest(
        offer=reward_pb2.Offer(kind=reward_pb2.OFFER_KIND_DISCOUNT_PERCENT, percent_basis_points=1000),
        prefix="BENCH",
        reason="bench",
    )
    request.valid_until_time.FromDatetime(machine_now() + timedelta(days=30))
    requests = []
    for number in range(count):
        request.request_id = f"issue-{job.seed}-{number}"
        requests.append(request.SerializeToString())
    call = unary(channel, "IssueCoupon", pb.IssueCouponResponse, REWARD_SERVICE)
    return await call_all(call, requests, in_flight, job.metadata, check), codes


def _check_redeemed(answer: pb.RedeemCouponResponse) -> None:
    if answer.replayed or answer.coupon.state != pb.COUPON_STATE_REDEEMED:
        raise LoadError(f"a coupon was not redeemed: {answer}")


def _check_quote(answer: checkout_service_pb2.QuoteCheckoutResponse) -> None:
    if not answer.quote.pay.minor_units or answer.quote.refusals:
        raise LoadError(f"a basket was not priced with its coupon: {answer}")


if __name__ == "__main__":
    main(Issuing, Redeeming, Importing, Quoting)
