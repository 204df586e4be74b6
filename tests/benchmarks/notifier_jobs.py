"""The load of the notifier: tasks in a process of their own, `python -m tests.benchmarks.notifier_jobs`, as those of
`client`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Any

import grpc
from aiosmtpd.smtp import SMTP
from loyalty.ledger.v1 import ledger_service_pb2
from loyalty.notifier.v1 import checkout_service_pb2, notifier_service_pb2, reward_pb2
from loyalty.notifier.v1 import coupon_pb2 as pb
from loyalty.type.v1.money_pb2 import Money

from services.runtime.clock import machine_now
from tests.benchmarks.client import (
    CALL_SECONDS,
    Job,
    LoadError,
    Measured,
    call_all,
    check_answer,
    main,
    measured,
    unary,
)
from tests.benchmarks.echo import SERVICE
from tests.benchmarks.purchases import CURRENCY, joinings, member_id

REWARD_SERVICE = "loyalty.notifier.v1.RewardService"
CHECKOUT_SERVICE = "loyalty.notifier.v1.CheckoutService"
NOTIFIER_SERVICE = "loyalty.notifier.v1.NotifierService"
# Of a basket.
_LINES = 10
# Parts of an import under way at once, as `loyalty coupons import` has them.
_PARTS_IN_FLIGHT = 2
# In minor units: past the first level of the programme, and not yet at the second.
_ENOUGH_FOR_A_LEVEL = 35_000
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


class _Mailbox:
    """A mail server that notes for whom something came."""

    def __init__(self) -> None:
        self._came: asyncio.Queue[str] = asyncio.Queue()

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        """Takes a message."""
        self._came.put_nowait(envelope.rcpt_tos[0])
        return "250 2.0.0 taken"

    async def next_for(self, address: str) -> None:
        """Waits for what comes next, which is for this address."""
        came = await asyncio.wait_for(self._came.get(), CALL_SECONDS)
        if came != address:
            raise LoadError(f"a mail came for {came}, and not for {address}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling(Job):
    """One member after the other joins, buys what brings it to a level, and is told so by e-mail. `ledger`: where it
    buys; `port`: where the notifier finds a mail server, which is this process."""

    ledger: str
    port: int
    members: int

    async def run(self) -> Measured:
        """Measures the time from each receipt to the end of the e-mail that the level brings."""
        mailbox, loop, took = _Mailbox(), asyncio.get_running_loop(), []
        server = await loop.create_server(
            lambda: SMTP(mailbox, hostname="localhost", loop=loop, timeout=600), "127.0.0.1", self.port
        )
        async with server, self.connected() as channel, grpc.aio.insecure_channel(self.ledger) as ledger:
            enroll = unary(ledger, "EnrollMember", ledger_service_pb2.EnrollMemberResponse, SERVICE)
            record = unary(ledger, "RecordPurchase", ledger_service_pb2.RecordPurchaseResponse, SERVICE)
            reach = unary(channel, "SetContact", notifier_service_pb2.SetContactResponse, NOTIFIER_SERVICE)
            began = time.perf_counter()
            for number, joining in enumerate(joinings(0, self.members)):
                address = f"m{number}@example.com"
                contact = notifier_service_pb2.SetContactRequest(
                    request_id="contact",
                    member_id=joining.member_id,
                    contact=notifier_service_pb2.Contact(email=address),
                )
                purchase = ledger_service_pb2.RecordPurchaseRequest(
                    request_id=f"{joining.member_id}-{self.seed}",
                    member_id=joining.member_id,
                    amount=Money(currency_code=CURRENCY, minor_units=_ENOUGH_FOR_A_LEVEL),
                )
                for call, request in ((enroll, joining), (reach, contact)):
                    await call(request.SerializeToString(), timeout=CALL_SECONDS, metadata=self.metadata)
                check_answer(await record(purchase.SerializeToString(), timeout=CALL_SECONDS, metadata=self.metadata))
                got = time.perf_counter()
                await mailbox.next_for(address)
                took.append(time.perf_counter() - got)
        return measured(took, time.perf_counter() - began)


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
    main(Issuing, Redeeming, Importing, Quoting, Telling)
