"""Purchases that points paid in part, over real gRPC and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from loyalty.ledger.v1 import entry_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as pb

from tests.conftest import Database, StartLedger
from tests.integration.test_ledger_points import (
    NOON,
    Ledger,
    M,
    at,
    capture,
    details_of,
    enrol,
    hold,
    money,
    purchase,
    reason_in,
    redeem,
    refused,
    returned,
)
from tests.ledger_checks import checked

PROGRAMME = """
programme: paying
currency: PLN
time_zone: Europe/Warsaw
earning: {base: goods_paid, points: 1, per: "1.00"}
redemption: {minimum: 100, step: 100}
liability: {values: [{from: "1970-01-01", points: 100, worth: "1.00"}]}
tiers:
  base: goods_paid
  window: P365D
  levels: [{name: White}, {name: Green, from: "300.00"}]
"""
# Two articles of 42.50, and a gift card of 50.00.
BASKET = [
    pb.Line(sku="a", amount_minor_units=4250),
    pb.Line(sku="b", amount_minor_units=4250),
    pb.Line(sku="c", amount_minor_units=5000, kind=pb.LINE_KIND_GIFT_CARD),
]


def paid(redemption_id: str, points: int, minor_units: int, currency: str = "PLN") -> entry_pb2.PointsPayment:
    return entry_pb2.PointsPayment(
        redemption_id=redemption_id, points=points, amount=money(minor_units, currency=currency)
    )


def basket(request_id: str, payment: entry_pb2.PointsPayment, **more: Any) -> pb.RecordPurchaseRequest:
    return purchase(request_id, 13500, lines=BASKET, points_payment=payment, **more)


def checkout(name: str, payment: entry_pb2.PointsPayment) -> pb.BatchRecordRequest:
    """The points that are held and the purchase that they pay in part: both or neither."""
    writes = [
        pb.Write(capture_hold=capture(f"c-{name}", "h")),
        pb.Write(record_purchase=basket(f"p-{name}", payment, store_id="s")),
    ]
    return pb.BatchRecordRequest(writes=writes, all_or_none=True)


def article(number: int) -> list[pb.ReturnedLine]:
    return [pb.ReturnedLine(line_number=number, quantity=1)]


Start = Callable[..., Awaitable[Ledger]]


@pytest_asyncio.fixture
async def start(start_ledger: StartLedger, folder: Path) -> Start:
    """Starts a ledger with a member that has 1,000 points, 500 of which are held."""

    async def starting(**more: Any) -> Ledger:
        path = folder / "paying.yaml"
        path.write_text(PROGRAMME)
        ledger = Ledger(await start_ledger(programme=path, **more))
        await ledger.EnrollMember(enrol())
        await ledger.AwardPoints(pb.AwardPointsRequest(request_id="a", member_id=M, points=1000, reason="x"))
        await ledger.HoldPoints(hold("h", 500, ttl=Duration(seconds=86_400)))
        return ledger

    return starting


async def shown(ledger: Ledger, purchase_id: str) -> Any:
    return (await ledger.GetPurchase(pb.GetPurchaseRequest(member_id=M, purchase_id=purchase_id))).purchase


async def test_held_points_pay_a_purchase_in_one_batch_and_an_article_brings_its_part_back(
    start: Start, database: Database, folder: Path
) -> None:
    ledger = await start()
    request = checkout("1", paid("c-1", 500, 500))
    captured, bought = (await ledger.BatchRecord(request)).outcomes
    assert captured.capture_hold.redemption_id == "c-1"
    receipt = bought.record_purchase.receipt
    assert (receipt.points, receipt.available_points, receipt.held_points) == (80, 580, 0)
    (entry,) = await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_PURCHASE_RECORDED])
    # What tiers count by the base goods_paid, and by total.
    assert (entry.goods_paid, entry.amount) == (money(8000), money(13500))
    assert entry.points_payment == paid("c-1", 500, 500)
    again = (await ledger.BatchRecord(request)).outcomes
    assert [outcome.WhichOneof("outcome") for outcome in again] == ["capture_hold", "record_purchase"]
    assert again[1].record_purchase.replayed

    wanted = returned("r1", "p-1", returned_lines=article(1))
    back = await ledger.RecordReturn(wanted)
    assert (back.refund_amount, back.points_returned, back.receipt.points) == (money(4000), 250, -40)
    assert (await ledger.balance()).available_points == back.receipt.available_points == 790
    counted, given = (await ledger.entries())[:2]
    assert (counted.kind, counted.amount, counted.goods_paid) == (
        entry_pb2.ENTRY_KIND_RETURN_RECORDED,
        money(4250),
        money(4000),
    )
    assert counted.points_payment == paid("c-1", 250, 250)
    assert (given.kind, given.reference, given.purchase_id, given.request_id) == (
        entry_pb2.ENTRY_KIND_REDEMPTION_REVERSED,
        "c-1",
        "p-1",
        "r1",
    )
    replay = await ledger.RecordReturn(wanted)
    assert replay.replayed
    replay.replayed = False
    assert replay == back
    bought_then = await shown(ledger, "p-1")
    assert (bought_then.amount, bought_then.goods_paid) == (money(13500), money(8000))
    assert (bought_then.returned_amount, bought_then.returned_points) == (money(4250), 40)
    assert bought_then.points_payment == paid("c-1", 500, 500)
    assert (bought_then.payment_points_returned, bought_then.payment_amount_returned) == (250, money(250))

    rest = pb.VoidPurchaseRequest(
        request_id="v", member_id=M, purchase_id="p-1", store_id="s", occurred_time=at(NOON), reason="mistake"
    )
    voided = await ledger.VoidPurchase(rest)
    assert (voided.refund_amount, voided.points_returned) == (money(9000), 250)
    balance = await ledger.balance()
    assert (balance.available_points, balance.redeemed_points, balance.earned_points) == (1000, 0, 1000)
    owed = (await ledger.GetLiability(pb.GetLiabilityRequest())).liability
    assert (owed.closing.points, owed.redeemed.points, owed.debt_points) == (1000, 0, 0)
    assert (await checked(database.dsn("loyalty_ledger"), folder / "paying.yaml")).differences == ()


async def test_a_batch_whose_purchase_cannot_be_captures_nothing(start: Start) -> None:
    ledger = await start()
    outcomes = (await ledger.BatchRecord(checkout("1", paid("c-1", 501, 500)))).outcomes
    assert [reason_in(outcome) for outcome in outcomes] == ["BATCH_ABORTED", "PAYMENT_EXCEEDS_REDEMPTION"]
    balance = await ledger.balance()
    assert (balance.available_points, balance.held_points) == (500, 500)
    # No refusal was kept: mended, the same batch goes.
    mended = (await ledger.BatchRecord(checkout("1", paid("c-1", 500, 500)))).outcomes
    assert mended[1].record_purchase.receipt.available_points == 580


async def test_only_points_that_were_redeemed_and_are_left_pay(start: Start) -> None:
    ledger = await start()
    await ledger.RedeemPoints(redeem("r", 300))
    with refused("REDEMPTION_UNKNOWN", grpc.StatusCode.NOT_FOUND):
        await ledger.RecordPurchase(basket("p1", paid("h", 300, 300)))
    await ledger.RecordPurchase(basket("p2", paid("r", 200, 200)))
    with refused("PAYMENT_EXCEEDS_REDEMPTION"):
        await ledger.RecordPurchase(basket("p3", paid("r", 101, 101)))
    back = pb.ReverseRedemptionRequest(request_id="b", member_id=M, redemption_id="r", points=101)
    with refused("REDEMPTION_PAID_PURCHASE") as caught:
        await ledger.ReverseRedemption(back)
    assert caught.value.details() == "these points paid for a purchase: they come back when that is returned or voided"
    rest = pb.ReverseRedemptionRequest(request_id="b2", member_id=M, redemption_id="r")
    assert (await ledger.ReverseRedemption(rest)).receipt.points == 100


async def test_points_pay_for_goods_alone(start: Start) -> None:
    ledger = await start()
    await ledger.CaptureHold(capture("c", "h"))
    with refused("PAYMENT_EXCEEDS_GOODS", grpc.StatusCode.INVALID_ARGUMENT):
        await ledger.RecordPurchase(basket("p", paid("c", 500, 8501)))
    assert (await ledger.RecordPurchase(basket("p", paid("c", 500, 8500)))).receipt.points == 0


@pytest.mark.parametrize(
    ("payment", "field"),
    [
        (paid("", 1, 1), "points_payment.redemption_id"),
        (paid("c", 0, 1), "points_payment.points"),
        (paid("c", -1, 1), "points_payment.points"),
        (paid("c", 1, 0), "points_payment.amount.minor_units"),
        (paid("c", 1, 1, currency="EUR"), "points_payment.amount.currency_code"),
        (entry_pb2.PointsPayment(redemption_id="c", points=1), "points_payment.amount.minor_units"),
    ],
)
async def test_a_payment_says_whose_points_how_many_and_what_they_paid(
    start: Start, payment: entry_pb2.PointsPayment, field: str
) -> None:
    ledger = await start()
    with refused("INVALID_FIELD", grpc.StatusCode.INVALID_ARGUMENT) as caught:
        await ledger.RecordPurchase(basket("p", payment))
    assert [violation.field for violation in details_of(caught.value)["BadRequest"].field_violations] == [field]
    batch = pb.BatchRecordRequest(writes=[pb.Write(record_purchase=basket("p", payment))])
    assert reason_in((await ledger.BatchRecord(batch)).outcomes[0]) == "INVALID_FIELD"


async def test_a_quote_says_what_a_purchase_would_give_if_points_paid_though_none_are_redeemed(start: Start) -> None:
    ledger = await start()
    quote = pb.QuotePurchaseRequest(member_id=M, amount=money(13500), lines=BASKET, occurred_time=at(NOON))
    assert (await ledger.QuotePurchase(quote)).receipt.points == 85
    quote.points_payment.CopyFrom(paid("", 500, 500))
    assert (await ledger.QuotePurchase(quote)).receipt.points == 80
    quote.points_payment.amount.minor_units = 8501
    with refused("PAYMENT_EXCEEDS_GOODS", grpc.StatusCode.INVALID_ARGUMENT):
        await ledger.QuotePurchase(quote)


async def test_a_return_that_waited_gives_its_points_back_when_the_purchase_comes(
    start: Start, database: Database, folder: Path
) -> None:
    ledger = await start()
    waits = await ledger.RecordReturn(returned("r", "p-1", returned_lines=article(2)))
    assert (waits.state, waits.HasField("refund_amount"), waits.points_returned) == (
        pb.RETURN_STATE_WAITING,
        False,
        0,
    )
    bought = (await ledger.BatchRecord(checkout("1", paid("c-1", 500, 500)))).outcomes[1].record_purchase
    assert (bought.receipt.points, bought.receipt.available_points) == (80, 790)
    assert (await shown(ledger, "p-1")).payment_points_returned == 250
    assert (await checked(database.dsn("loyalty_ledger"), folder / "paying.yaml")).differences == ()


async def test_a_purchase_and_the_return_of_all_of_it_fit_into_one_batch(
    start: Start, database: Database, folder: Path
) -> None:
    ledger = await start()
    batch = checkout("1", paid("c-1", 500, 500))
    batch.writes.add().record_return.CopyFrom(returned("r", "p-1", amount=money(13500)))
    back = (await ledger.BatchRecord(batch)).outcomes[2].record_return
    assert (back.refund_amount, back.points_returned) == (money(13000), 500)
    assert (await ledger.balance()).available_points == 1000
    assert (await checked(database.dsn("loyalty_ledger"), folder / "paying.yaml")).differences == ()


async def test_an_unlinked_return_is_refunded_whole(start: Start) -> None:
    ledger = await start()
    back = await ledger.RecordReturn(returned("r", "", amount=money(1000)))
    assert (back.refund_amount, back.points_returned) == (money(1000), 0)
