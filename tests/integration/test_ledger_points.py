"""What points do, over real gRPC and a real PostgreSQL: spent, held, adjusted, returned, quoted, listed, streamed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from loyalty.ledger.v1 import entry_pb2, ledger_service_pb2_grpc, lot_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.type.v1.money_pb2 import Money

from services.ledger import service
from services.runtime import server
from services.runtime.channels import open_channel
from services.runtime.clock import ClockMode
from services.runtime.identity import AUTHORIZATION, bearer
from tests.conftest import SECRET, Database, StartLedger
from tests.till import write

PROGRAMME = """
programme: points
currency: PLN
time_zone: Europe/Warsaw
earning: {base: total, points: 1, per: "1.00"%(earning)s}
expiry: {policy: after, period: P1Y}
redemption: {minimum: 50, step: 10}
returns: {shortfall: %(shortfall)s}
adjustments: {per_call: 1000}
back_dating: P30D
tiers:
  base: total
  window: P365D
  levels: [{name: White}, {name: Green, from: "300.00"}]
"""

NOON = "1970-01-01T12:00:00Z"
M = "m-1"


def at(text: str) -> Timestamp:
    stamp = Timestamp()
    stamp.FromJsonString(text)
    return stamp


def money(minor_units: int, currency: str = "PLN") -> Money:
    return Money(currency_code=currency, minor_units=minor_units)


def enrol(member_id: str = M, **more: Any) -> pb.EnrollMemberRequest:
    return pb.EnrollMemberRequest(request_id="e", member_id=member_id, **more)


def purchase(request_id: str, minor_units: int = 100000, **more: Any) -> pb.RecordPurchaseRequest:
    return pb.RecordPurchaseRequest(
        **{
            "request_id": request_id,
            "member_id": M,
            "amount": money(minor_units),
            "occurred_time": at(NOON),
        }
        | more
    )


def redeem(request_id: str, points: int, **more: Any) -> pb.RedeemPointsRequest:
    return pb.RedeemPointsRequest(**{"request_id": request_id, "member_id": M, "points": points} | more)


def hold(request_id: str, points: int, **more: Any) -> pb.HoldPointsRequest:
    return pb.HoldPointsRequest(**{"request_id": request_id, "member_id": M, "points": points} | more)


def capture(request_id: str, hold_id: str, points: int = 0) -> pb.CaptureHoldRequest:
    return pb.CaptureHoldRequest(request_id=request_id, member_id=M, hold_id=hold_id, points=points)


def returned(request_id: str, purchase_id: str, **more: Any) -> pb.RecordReturnRequest:
    return pb.RecordReturnRequest(
        **{"request_id": request_id, "member_id": M, "purchase_id": purchase_id, "occurred_time": at(NOON)} | more
    )


def details_of(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """The details of a status, by the name of their message."""
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    found: dict[str, Any] = {}
    for packed in status.details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            detail = kind()
            if packed.Unpack(detail):
                found[kind.DESCRIPTOR.name] = detail
    return found


def reason_in(outcome: pb.Outcome) -> str:
    info = error_details_pb2.ErrorInfo()
    assert outcome.error.details[0].Unpack(info)
    return info.reason


@contextlib.contextmanager
def refused(reason: str, code: grpc.StatusCode = grpc.StatusCode.FAILED_PRECONDITION) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield caught
    assert (details_of(caught.value)["ErrorInfo"].reason, caught.value.code()) == (reason, code)


class Ledger:
    """The methods of a ledger, each with a deadline."""

    def __init__(self, channel: Any) -> None:
        self._stub = ledger_service_pb2_grpc.LedgerServiceStub(channel)

    def __getattr__(self, method: str) -> Callable[..., Any]:
        call = getattr(self._stub, method)
        return lambda *request, **more: call(*request, timeout=20, **more)

    async def balance(self, member_id: str = M, **more: Any) -> Any:
        return (await self.GetBalance(pb.GetBalanceRequest(member_id=member_id, **more))).balance

    async def refusal(self, request: Any) -> tuple[str, dict[str, str]]:
        """What a refused write is told: the sentence, and the metadata."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(self, type(request).DESCRIPTOR.name.removesuffix("Request"))(request)
        return caught.value.details(), dict(details_of(caught.value)["ErrorInfo"].metadata)

    async def entries(self, **more: Any) -> list[Any]:
        return list((await self.ListEntries(pb.ListEntriesRequest(member_id=M, **more))).entries)

    async def advance(self, text: str) -> None:
        await self.AdvanceClock(pb.AdvanceClockRequest(request_id=f"to-{text}", to_time=at(text)))


Start = Callable[..., Awaitable[Ledger]]


@pytest_asyncio.fixture
async def start(start_ledger: StartLedger, folder: Path) -> Start:
    """Starts a ledger with the programme of these tests, and the member in it."""

    async def starting(*, earning: str = "", shortfall: str = "debt", **more: Any) -> Ledger:
        path = folder / "points.yaml"
        path.write_text(PROGRAMME % {"earning": earning, "shortfall": shortfall})
        ledger = Ledger(await start_ledger(programme=path, **more))
        await ledger.EnrollMember(enrol())
        return ledger

    return starting


@contextlib.asynccontextmanager
async def another(folder: Path, principal: str) -> AsyncIterator[Ledger]:
    """The same ledger for another principal."""
    channel = open_channel(f"unix:{folder}/ledger.sock", principal=principal, secret=SECRET)
    try:
        yield Ledger(channel)
    finally:
        await channel.close()


@contextlib.asynccontextmanager
async def plain(folder: Path, *options: tuple[str, Any]) -> AsyncIterator[tuple[Ledger, Any]]:
    """The ledger over a channel of gRPC's own making, and the metadata that a call then needs."""
    async with grpc.aio.insecure_channel(f"unix:{folder}/ledger.sock", options=options) as channel:
        yield Ledger(channel), ((AUTHORIZATION, bearer("test", SECRET)),)


async def the_lane_is_stuck(connection: Any) -> None:
    """Waits until the ledger waits for a lock of another."""
    for _ in range(400):
        if await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ledger-lane' AND wait_event_type = 'Lock'"
        ):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the ledger waits for nothing")


@contextlib.asynccontextmanager
async def partitions_locked(database: Database) -> AsyncIterator[Any]:
    """No lane can commit anything meanwhile; gives a connection that may end the lane's."""
    connection = await asyncpg.connect(database.dsn("loyalty_ledger"))
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM ledger.partitions FOR UPDATE")
            yield connection
    finally:
        await connection.close()


# Spending


async def test_points_are_spent_and_given_back_in_part_and_whole(start: Start) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("p"))
    spent = await ledger.RedeemPoints(redeem("r", 300, purchase_id="next", reason="discount", note="at the till"))
    assert (spent.redemption_id, spent.receipt.points, spent.receipt.available_points) == ("r", -300, 700)
    part = pb.ReverseRedemptionRequest(request_id="b1", member_id=M, redemption_id="r", points=120, reason="mistake")
    assert (await ledger.ReverseRedemption(part)).receipt.points == 120
    rest = pb.ReverseRedemptionRequest(request_id="b2", member_id=M, redemption_id="r")
    assert (await ledger.ReverseRedemption(rest)).receipt.available_points == 1000
    with refused("REVERSAL_EXCEEDS_REDEMPTION"):
        await ledger.ReverseRedemption(pb.ReverseRedemptionRequest(request_id="b3", member_id=M, redemption_id="r"))
    balance = await ledger.balance()
    assert (balance.available_points, balance.earned_points, balance.redeemed_points) == (1000, 1000, 0)
    kinds = [entry_pb2.ENTRY_KIND_REDEMPTION_REVERSED]
    assert [entry.reference for entry in await ledger.entries(kinds=kinds)] == ["r", "r"]


@pytest.mark.parametrize(
    ("points", "reason"),
    [(40, "REDEMPTION_BELOW_MINIMUM"), (55, "REDEMPTION_NOT_IN_STEPS"), (1010, "NOT_ENOUGH_POINTS")],
)
async def test_what_the_programme_does_not_let_be_spent_is_refused_and_the_refusal_is_kept(
    start: Start, points: int, reason: str
) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("p"))
    for _ in range(2):
        with refused(reason):
            await ledger.RedeemPoints(redeem("r", points))
        with refused(reason):
            await ledger.HoldPoints(hold("h", points))
    assert len(await ledger.entries()) == 4
    assert (await ledger.balance()).available_points == 1000


async def test_a_refusal_says_which_minimum_and_which_step_the_programme_in_force_asks_for(start: Start) -> None:
    ledger = await start()
    few, uneven = redeem("r1", 40), hold("h1", 55)
    for replayed in ({}, {"replayed": "true"}):
        sentence, metadata = await ledger.refusal(few)
        assert sentence.endswith("the programme in force asks for at least 50 at once")
        assert metadata == {"minimum_points": "50", **replayed}
        sentence, metadata = await ledger.refusal(uneven)
        assert sentence.endswith("the programme in force asks for multiples of 10")
        assert metadata == {"step_points": "10", **replayed}
    answer = await ledger.BatchRecord(pb.BatchRecordRequest(writes=[write(redeem("r2", 49))]))
    assert answer.outcomes[0].error.message.endswith("at least 50 at once")


async def test_what_was_given_offline_already_is_taken_and_the_rest_becomes_debt(start: Start) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("p", 10000))
    spent = (await ledger.RedeemPoints(redeem("r", 130, offline=True))).receipt
    assert (spent.points, spent.available_points, spent.debt_points, spent.debt_points_change) == (-130, 0, 30, 30)
    (entry,) = await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_POINTS_REDEEMED])
    assert entry.flags == [entry_pb2.ENTRY_FLAG_OFFLINE_OVERDRAWN]


async def test_what_does_not_exist_is_not_found(start: Start) -> None:
    ledger = await start()
    not_found = grpc.StatusCode.NOT_FOUND
    with refused("REDEMPTION_UNKNOWN", not_found):
        await ledger.ReverseRedemption(pb.ReverseRedemptionRequest(request_id="1", member_id=M, redemption_id="x"))
    with refused("HOLD_UNKNOWN", not_found):
        await ledger.CaptureHold(capture("2", "x"))
    with refused("HOLD_UNKNOWN", not_found):
        await ledger.ReleaseHold(pb.ReleaseHoldRequest(request_id="3", member_id=M, hold_id="x"))
    with refused("HOLD_UNKNOWN", not_found):
        await ledger.ExtendHold(pb.ExtendHoldRequest(request_id="4", member_id=M, hold_id="x"))
    with refused("ADJUSTMENT_UNKNOWN", not_found):
        await ledger.AdjustPoints(
            pb.AdjustPointsRequest(request_id="5", member_id=M, points=1, reason="c", approves="x")
        )
    with refused("PURCHASE_UNKNOWN", not_found):
        await ledger.VoidPurchase(pb.VoidPurchaseRequest(request_id="6", member_id=M, purchase_id="x"))
    with refused("PURCHASE_UNKNOWN", not_found):
        await ledger.AwardPoints(
            pb.AwardPointsRequest(request_id="7", member_id=M, points=1, reason="c", purchase_id="x")
        )
    with refused("PURCHASE_UNKNOWN", not_found):
        await ledger.GetPurchase(pb.GetPurchaseRequest(member_id=M, purchase_id="x"))
    assert len(await ledger.entries()) == 8, "each refused write is kept, the read is not"
    for read in (
        ledger.GetPurchase(pb.GetPurchaseRequest(member_id="nobody", purchase_id="x")),
        ledger.ListPurchases(pb.ListPurchasesRequest(member_id="nobody")),
        ledger.ListLots(pb.ListLotsRequest(member_id="nobody")),
        ledger.balance("nobody", at_time=at(NOON)),
        ledger.QuotePurchase(pb.QuotePurchaseRequest(member_id="nobody", amount=money(100))),
    ):
        with refused("MEMBER_UNKNOWN", not_found):
            await read


async def test_a_thousand_redemptions_of_one_balance_at_once_take_exactly_what_was_there(start: Start) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("p", 1_234_000))

    refusals: set[str] = set()

    async def one(number: int) -> int:
        try:
            return int((await ledger.RedeemPoints(redeem(f"r{number}", 50))).receipt.points)
        except grpc.aio.AioRpcError as error:
            refusals.add(details_of(error)["ErrorInfo"].reason)
            return 0

    spent = await asyncio.gather(*(one(number) for number in range(1000)))
    assert (spent.count(-50), spent.count(0), refusals) == (246, 754, {"NOT_ENOUGH_POINTS"})
    balance = await ledger.balance()
    assert (balance.available_points, balance.redeemed_points, balance.debt_points) == (40, 12300, 0)


# Holds


async def test_a_hold_is_captured_twice_extended_and_released_and_says_what_is_left(start: Start) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("p"))
    await ledger.advance("1970-01-01T13:00:00Z")
    held = await ledger.HoldPoints(hold("h", 600, ttl=Duration(seconds=60), reason="checkout"))
    assert (held.hold.hold_id, held.hold.points, held.hold.expire_time) == ("h", 600, at("1970-01-01T13:01:00Z"))
    assert (held.receipt.points, held.receipt.available_points, held.receipt.held_points) == (0, 400, 600)
    first = await ledger.CaptureHold(capture("c1", "h", 250))
    assert (first.redemption_id, first.receipt.points, first.hold.points) == ("c1", -250, 350)
    assert first.hold.expire_time == at("1970-01-01T13:01:00Z")
    with refused("CAPTURE_EXCEEDS_HOLD"):
        await ledger.CaptureHold(capture("c2", "h", 351))
    longer = await ledger.ExtendHold(pb.ExtendHoldRequest(request_id="x", member_id=M, hold_id="h"))
    assert (longer.hold.points, longer.hold.expire_time) == (350, at("1970-01-01T13:15:00Z"))
    freed = await ledger.ReleaseHold(pb.ReleaseHoldRequest(request_id="f", member_id=M, hold_id="h", points=100))
    assert (freed.hold.points, freed.receipt.available_points, freed.receipt.held_points) == (250, 500, 250)
    last = await ledger.CaptureHold(capture("c3", "h"))
    assert (last.receipt.points, last.hold.points, last.receipt.held_points) == (-250, 0, 0)
    with refused("HOLD_UNKNOWN", grpc.StatusCode.NOT_FOUND):
        await ledger.ReleaseHold(pb.ReleaseHoldRequest(request_id="f2", member_id=M, hold_id="h"))
    back = pb.ReverseRedemptionRequest(request_id="b", member_id=M, redemption_id="c1")
    assert (await ledger.ReverseRedemption(back)).receipt.points == 250
    again = await ledger.CaptureHold(capture("c1", "h", 250))
    assert again.replayed
    again.replayed = False
    assert again == first, "an answer given again is the same whole, whatever happened since"


async def test_a_hold_that_runs_out_is_over_at_its_instant_for_every_read_and_decision(start: Start) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("p"))
    await ledger.advance("1970-01-01T13:00:00Z")
    await ledger.HoldPoints(hold("h", 600, ttl=Duration(seconds=60)))
    await ledger.advance("1970-01-01T13:00:59.999999Z")
    assert (await ledger.balance()).held_points == 600
    await ledger.advance("1970-01-01T13:01:00Z")
    balance = await ledger.balance()
    assert (balance.held_points, balance.available_points) == (0, 1000)
    assert (await ledger.balance(at_time=at("1970-01-01T13:00:30Z"))).held_points == 600
    with refused("HOLD_UNKNOWN", grpc.StatusCode.NOT_FOUND):
        await ledger.CaptureHold(capture("c", "h"))
    newest = await ledger.entries()
    assert [entry.kind for entry in newest[:2]] == [
        entry_pb2.ENTRY_KIND_REQUEST_REFUSED,
        entry_pb2.ENTRY_KIND_HOLD_EXPIRED,
    ]
    ran_out = newest[1]
    assert (ran_out.principal, ran_out.request_id, ran_out.reference) == ("ledger", "", "h")
    assert ran_out.occurred_time == at("1970-01-01T13:01:00Z")


# Adjustments, awards


async def test_above_a_limit_another_principal_must_approve_the_same_points(start: Start, folder: Path) -> None:
    ledger = await start()
    small = await ledger.AdjustPoints(
        pb.AdjustPointsRequest(request_id="a1", member_id=M, points=1000, reason="complaint", note="late parcel")
    )
    assert (small.state, small.adjustment_id) == (pb.ADJUSTMENT_STATE_APPLIED, "a1")
    assert (small.receipt.points, small.receipt.available_points) == (1000, 1000)
    large = pb.AdjustPointsRequest(request_id="a2", member_id=M, points=5000, reason="correction")
    asked = await ledger.AdjustPoints(large)
    assert (asked.state, asked.adjustment_id) == (pb.ADJUSTMENT_STATE_AWAITING_APPROVAL, "a2")
    assert (asked.receipt.points, asked.receipt.available_points) == (0, 1000)
    (waiting,) = await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_ADJUSTMENT_REQUESTED])
    assert waiting.requested_points == 5000

    def approval(request_id: str, points: int) -> pb.AdjustPointsRequest:
        return pb.AdjustPointsRequest(
            request_id=request_id, member_id=M, points=points, reason="correction", approves="a2"
        )

    with refused("APPROVAL_BY_SAME_PRINCIPAL"):
        await ledger.AdjustPoints(approval("ok1", 5000))
    async with another(folder, "boss") as boss:
        with refused("ADJUSTMENT_DIFFERS"):
            await boss.AdjustPoints(approval("ok2", 5001))
        approved = await boss.AdjustPoints(approval("ok3", 5000))
        assert (approved.state, approved.adjustment_id) == (pb.ADJUSTMENT_STATE_APPLIED, "a2")
        assert approved.receipt.available_points == 6000
        with refused("ADJUSTMENT_UNKNOWN", grpc.StatusCode.NOT_FOUND):
            await boss.AdjustPoints(approval("ok4", 5000))
    taken = await ledger.AdjustPoints(
        pb.AdjustPointsRequest(request_id="a3", member_id=M, points=-1000, reason="correction")
    )
    assert (taken.receipt.points, taken.receipt.available_points) == (-1000, 5000)
    assert (await ledger.AdjustPoints(large)).replayed


async def test_an_adjustment_that_waits_is_declined_and_moves_nothing_ever(start: Start, folder: Path) -> None:
    ledger = await start()
    large = adjust(request_id="a1", points=5000)
    await ledger.AdjustPoints(large)
    with refused("ADJUSTMENT_UNKNOWN", grpc.StatusCode.NOT_FOUND):
        await ledger.AdjustPoints(adjust(request_id="no1", points=5000, declines="a2"))
    async with another(folder, "boss") as boss:
        with refused("ADJUSTMENT_DIFFERS"):
            await boss.AdjustPoints(adjust(request_id="no2", points=4999, declines="a1"))
        no = adjust(request_id="no3", points=5000, declines="a1", reason="not-due", note="asked twice")
        declined = await boss.AdjustPoints(no)
        assert (declined.state, declined.adjustment_id) == (pb.ADJUSTMENT_STATE_DECLINED, "a1")
        assert (declined.receipt.points, declined.receipt.available_points) == (0, 0)
        with refused("ADJUSTMENT_UNKNOWN", grpc.StatusCode.NOT_FOUND):
            await boss.AdjustPoints(adjust(request_id="ok", points=5000, approves="a1"))
        again = await boss.AdjustPoints(no)
        assert (again.replayed, again.state) == (True, pb.ADJUSTMENT_STATE_DECLINED)
    (entry,) = await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_ADJUSTMENT_DECLINED])
    assert (entry.reference, entry.reason, entry.principal, list(entry.postings)) == ("a1", "not-due", "boss", [])
    # What one asked for oneself is withdrawn.
    await ledger.AdjustPoints(adjust(request_id="a3", points=-2000))
    withdrawn = await ledger.AdjustPoints(adjust(request_id="no4", points=-2000, declines="a3"))
    assert withdrawn.state == pb.ADJUSTMENT_STATE_DECLINED


async def test_what_waited_before_adjustments_remembered_that_they_restore_is_approved(
    start: Start, folder: Path, database: Database
) -> None:
    ledger = await start()
    await ledger.AdjustPoints(adjust(request_id="a1", points=5000))
    connection = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        (kept,) = json.loads(await connection.fetchval("SELECT awaited FROM ledger.members"))
        await connection.execute("UPDATE ledger.members SET awaited = $1", json.dumps([kept[:3]]))
    finally:
        await connection.close()
    async with another(folder, "boss") as boss:
        approved = await boss.AdjustPoints(adjust(request_id="ok", points=5000, approves="a1"))
    assert approved.receipt.available_points == 5000


async def test_points_that_lapsed_by_mistake_are_restored_and_count_as_less_expired(start: Start, folder: Path) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("p", 200000))
    await ledger.advance("1971-01-03T12:00:00Z")
    small = await ledger.AdjustPoints(adjust(request_id="w1", points=600, restores_expired=True))
    assert (small.state, small.adjustment_id) == (pb.ADJUSTMENT_STATE_APPLIED, "w1")
    assert (small.receipt.points, small.receipt.available_points) == (600, 600)
    (entry,) = await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_POINTS_RESTORED])
    legs = {(leg.account, leg.points, leg.activation_date, leg.expiry_date) for leg in entry.postings}
    assert legs == {
        (entry_pb2.ACCOUNT_EXPIRED, -600, "1970-01-01", "1971-01-01"),
        (entry_pb2.ACCOUNT_AVAILABLE, 600, "1971-01-03", "1972-01-03"),
    }
    asked = await ledger.AdjustPoints(adjust(request_id="w2", points=1100, restores_expired=True))
    assert asked.state == pb.ADJUSTMENT_STATE_AWAITING_APPROVAL
    (waiting,) = await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_ADJUSTMENT_REQUESTED])
    assert (waiting.requested_points, list(waiting.flags)) == (1100, [entry_pb2.ENTRY_FLAG_RESTORES_EXPIRED])
    async with another(folder, "boss") as boss:
        with refused("ADJUSTMENT_DIFFERS"):
            await boss.AdjustPoints(adjust(request_id="ok1", points=1100, approves="w2"))
        approval = adjust(request_id="ok2", points=1100, approves="w2", restores_expired=True)
        approved = await boss.AdjustPoints(approval)
    assert (approved.adjustment_id, approved.receipt.points, approved.receipt.available_points) == ("w2", 1100, 1700)
    with refused("NOT_SO_MANY_EXPIRED"):
        await ledger.AdjustPoints(adjust(request_id="w3", points=301, restores_expired=True))
    # One after the other in one batch: the second finds what the first has left.
    some = [adjust(request_id=f"w{number}", points=200, restores_expired=True) for number in (4, 5)]
    outcomes = (await ledger.BatchRecord(pb.BatchRecordRequest(writes=[write(one) for one in some]))).outcomes
    assert outcomes[0].adjust_points.receipt.available_points == 1900
    assert reason_in(outcomes[1]) == "NOT_SO_MANY_EXPIRED"
    found = (await ledger.GetLiability(pb.GetLiabilityRequest(period="1971", with_journal=True))).liability
    assert [one.points for one in (found.opening, found.expired, found.adjusted, found.closing)] == [2000, 100, 0, 1900]
    lapsed = {(line.expiry_month, line.points) for line in found.journal if line.movement == "expired"}
    assert lapsed == {("1971-01", 2000), ("1972-01", -1900)}
    assert [(row.expiry_month, row.available_points) for row in found.rows] == [("1972-01", 1900)]


async def test_an_award_for_a_purchase_falls_with_its_return(start: Start) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("p", 10000))
    await ledger.AwardPoints(
        pb.AwardPointsRequest(request_id="a", member_id=M, points=40, reason="photo", purchase_id="p")
    )
    back = (await ledger.RecordReturn(returned("r", "p", amount=money(5000)))).receipt
    assert [(rule.rule, rule.points) for rule in back.rules] == [("base", -50), ("award", -20)]
    assert back.available_points == 70
    await ledger.RecordReturn(returned("r2", "p", amount=money(5000)))
    with refused("PURCHASE_RETURNED"):
        await ledger.AwardPoints(
            pb.AwardPointsRequest(request_id="a2", member_id=M, points=40, reason="photo", purchase_id="p")
        )


# Purchases, returns, voids, quotes

LINES = (
    pb.Line(sku="milk", name="Milk", department="DAIRY", category="MILK", quantity=3, amount_minor_units=1000),
    pb.Line(sku="post", amount_minor_units=500, kind=pb.LINE_KIND_SHIPPING),
)


def by_line(number: int, *, quantity: int = 0, amount: int = 0) -> pb.ReturnedLine:
    if quantity:
        return pb.ReturnedLine(line_number=number, quantity=quantity)
    return pb.ReturnedLine(line_number=number, amount_minor_units=amount)


async def test_lines_come_back_by_pieces_or_by_value_and_the_purchase_shows_it(start: Start) -> None:
    ledger = await start()
    await ledger.RecordPurchase(
        purchase("p", 1500, lines=LINES, store_id="s", receipt_number="17", channel="pos", exchange_id="x-1")
    )
    first = await ledger.RecordReturn(returned("r1", "p", returned_lines=[by_line(1, quantity=1)]))
    assert (first.state, first.receipt.points) == (pb.RETURN_STATE_RECORDED, -4)
    await ledger.RecordReturn(
        returned("r2", "p", amount=money(767), returned_lines=[by_line(2, amount=100), by_line(1, quantity=2)])
    )
    shown = (await ledger.GetPurchase(pb.GetPurchaseRequest(member_id=M, purchase_id="p"))).purchase
    assert [(line.line_number, line.returned_quantity, line.returned_amount_minor_units) for line in shown.lines] == [
        (1, 3, 1000),
        (2, 0, 100),
    ]
    assert shown.lines[0].line == pb.Line(
        sku="milk",
        name="Milk",
        department="DAIRY",
        category="MILK",
        quantity=3,
        amount_minor_units=1000,
        kind=pb.LINE_KIND_GOODS,
    )
    assert (shown.amount, shown.goods_paid, shown.returned_amount) == (money(1500), money(1000), money(1100))
    assert ([(rule.rule, rule.points) for rule in shown.rules], shown.returned_points) == ([("base", 15)], 11)
    assert (shown.store_id, shown.receipt_number, shown.channel, shown.exchange_id) == ("s", "17", "pos", "x-1")
    assert (shown.occurred_time, shown.voided) == (at(NOON), False)
    (entry,) = await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_PURCHASE_RECORDED])
    assert (shown.partition, shown.offset, entry.exchange_id) == (entry.partition, entry.offset, "x-1")
    with refused("LINE_RETURN_EXCEEDS_PURCHASE"):
        await ledger.RecordReturn(returned("r3", "p", returned_lines=[by_line(1, quantity=1)]))
    with refused("LINE_UNKNOWN"):
        await ledger.RecordReturn(returned("r4", "p", returned_lines=[by_line(3, quantity=1)]))
    with refused("RETURNED_LINES_DIFFER"):
        await ledger.RecordReturn(returned("r5", "p", amount=money(1), returned_lines=[by_line(2, amount=2)]))


async def test_a_free_line_comes_back_with_the_paid_one_or_alone(start: Start) -> None:
    ledger = await start()
    lines = [pb.Line(sku="pan", quantity=2, amount_minor_units=2000), pb.Line(sku="spoon", quantity=2)]
    await ledger.RecordPurchase(purchase("p", 2000, lines=lines))
    both = [by_line(1, quantity=1), by_line(2, quantity=1)]
    assert (await ledger.RecordReturn(returned("r1", "p", returned_lines=both))).receipt.points == -10
    alone = await ledger.RecordReturn(returned("r2", "p", returned_lines=[by_line(2, quantity=1)]))
    assert (alone.state, alone.receipt.points, alone.receipt.available_points) == (pb.RETURN_STATE_RECORDED, 0, 10)
    with refused("LINE_RETURN_EXCEEDS_PURCHASE"):
        await ledger.RecordReturn(returned("r3", "p", returned_lines=[by_line(2, quantity=1)]))
    entry = (await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_RETURN_RECORDED]))[0]
    assert (entry.amount, entry.goods_paid, len(entry.postings)) == (money(0), money(0), 0)
    shown = (await ledger.GetPurchase(pb.GetPurchaseRequest(member_id=M, purchase_id="p"))).purchase
    assert [(line.returned_quantity, line.returned_amount_minor_units) for line in shown.lines] == [(1, 1000), (2, 0)]
    last = await ledger.RecordReturn(returned("r4", "p", returned_lines=[by_line(1, quantity=1)]))
    assert (last.receipt.points, last.receipt.available_points) == (-10, 0)


async def test_a_return_by_line_waits_for_its_purchase_too(start: Start) -> None:
    ledger = await start()
    waits = await ledger.RecordReturn(returned("r", "p", returned_lines=[by_line(1, quantity=3)]))
    assert (waits.state, waits.receipt.points) == (pb.RETURN_STATE_WAITING, 0)
    bought = (await ledger.RecordPurchase(purchase("p", 1500, lines=LINES))).receipt
    assert (bought.points, bought.available_points) == (15, 5)
    assert (await ledger.balance()).available_points == 5


async def test_a_void_undoes_a_purchase_in_its_store_on_its_day(start: Start) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("p", 20000, store_id="s"))
    await ledger.RecordPurchase(purchase("q", 20000, store_id="s"))

    def void(request_id: str, purchase_id: str, store: str, time: str = NOON) -> pb.VoidPurchaseRequest:
        return pb.VoidPurchaseRequest(
            request_id=request_id,
            member_id=M,
            purchase_id=purchase_id,
            store_id=store,
            reason="mistake",
            occurred_time=at(time),
        )

    with refused("VOID_OTHER_STORE"):
        await ledger.VoidPurchase(void("v1", "p", "t"))
    with refused("VOID_TOO_LATE"):
        await ledger.VoidPurchase(void("v2", "p", "s", "1970-01-02T12:00:00Z"))
    gone = (await ledger.VoidPurchase(void("v3", "p", "s"))).receipt
    assert (gone.purchase_id, gone.points, gone.available_points) == ("p", -200, 200)
    assert (await ledger.VoidPurchase(void("v3", "p", "s"))).replayed
    with refused("PURCHASE_VOIDED"):
        await ledger.VoidPurchase(void("v4", "p", "s"))
    assert (await ledger.GetPurchase(pb.GetPurchaseRequest(member_id=M, purchase_id="p"))).purchase.voided


async def test_a_programme_may_refuse_returns_of_what_was_spent(start: Start) -> None:
    ledger = await start(shortfall="refuse")
    await ledger.RecordPurchase(purchase("p", 10000))
    await ledger.RedeemPoints(redeem("r", 60))
    with refused("POINTS_SPENT"):
        await ledger.RecordReturn(returned("b", "p", amount=money(10000)))


async def test_a_quote_is_what_the_purchase_then_gives_and_keeps_nothing(start: Start) -> None:
    ledger = await start()
    await ledger.RecordReturn(
        pb.RecordReturnRequest(request_id="r", member_id=M, amount=money(3000), occurred_time=at(NOON))
    )
    quoted = (
        await ledger.QuotePurchase(
            pb.QuotePurchaseRequest(member_id=M, amount=money(1500), lines=LINES, occurred_time=at(NOON), channel="pos")
        )
    ).receipt
    assert len(await ledger.entries()) == 2
    bought = (await ledger.RecordPurchase(purchase("p", 1500, lines=LINES, channel="pos"))).receipt
    assert (quoted.points, quoted.debt_points_change, quoted.debt_points) == (15, -15, 15)
    assert (quoted.partition, quoted.offset, quoted.purchase_id) == (0, 0, "")
    for field in ("partition", "offset", "purchase_id"):
        bought.ClearField(field)
    assert quoted == bought
    bad = pb.QuotePurchaseRequest(member_id=M, amount=money(1501), lines=LINES)
    with refused("LINES_DO_NOT_ADD_UP", grpc.StatusCode.INVALID_ARGUMENT):
        await ledger.QuotePurchase(bad)


async def test_purchases_are_listed_newest_first_by_page_and_by_receipt_number(start: Start) -> None:
    ledger = await start()
    for number in range(5):
        await ledger.RecordPurchase(purchase(f"p{number}", 1000, receipt_number=str(number % 2)))
    await ledger.RecordReturn(returned("r", "not-yet", amount=money(100)))
    first = await ledger.ListPurchases(pb.ListPurchasesRequest(member_id=M, page_size=3))
    assert [one.purchase_id for one in first.purchases] == ["p4", "p3", "p2"]
    second = await ledger.ListPurchases(
        pb.ListPurchasesRequest(member_id=M, page_size=3, page_token=first.next_page_token)
    )
    assert ([one.purchase_id for one in second.purchases], second.next_page_token) == (["p1", "p0"], "")
    odd = await ledger.ListPurchases(pb.ListPurchasesRequest(member_id=M, receipt_number="1"))
    assert [one.purchase_id for one in odd.purchases] == ["p3", "p1"]
    with refused("PAGE_TOKEN_INVALID", grpc.StatusCode.INVALID_ARGUMENT):
        await ledger.ListPurchases(pb.ListPurchasesRequest(member_id=M, page_token="x"))
    with refused("PURCHASE_UNKNOWN", grpc.StatusCode.NOT_FOUND):
        await ledger.GetPurchase(pb.GetPurchaseRequest(member_id=M, purchase_id="not-yet"))


# Reads


async def test_lots_stand_in_the_order_they_are_drawn_with_their_days_and_instants(start: Start) -> None:
    ledger = await start(earning=", pending: P2D")
    await ledger.RecordPurchase(purchase("p", 20000))
    await ledger.advance("1970-01-03T00:00:00Z")
    await ledger.AwardPoints(pb.AwardPointsRequest(request_id="a", member_id=M, points=100, reason="gift"))
    await ledger.RecordPurchase(purchase("q", 5000, occurred_time=at("1970-01-03T00:00:00Z")))
    await ledger.HoldPoints(hold("h", 50, ttl=Duration(seconds=1)))
    lots = (await ledger.ListLots(pb.ListLotsRequest(member_id=M))).lots
    shown = [(lot.state, lot.points, lot.activation_date, lot.expiry_date, lot.hold_id) for lot in lots]
    assert shown == [
        (lot_pb2.LOT_STATE_AVAILABLE, 250, "1970-01-03", "1971-01-03", ""),
        (lot_pb2.LOT_STATE_PENDING, 50, "1970-01-05", "1971-01-05", ""),
        (lot_pb2.LOT_STATE_HELD, 50, "1970-01-03", "1971-01-03", "h"),
    ]
    # Warsaw is an hour ahead.
    assert lots[0].activation_time == at("1970-01-02T23:00:00Z")
    assert lots[0].expiry_time == at("1971-01-03T23:00:00Z")
    assert lots[2].hold_expire_time == at("1970-01-03T00:00:01Z")
    balance = await ledger.balance()
    assert (balance.available_points, balance.pending_points, balance.held_points) == (250, 50, 50)
    assert (balance.next_expiry_points, balance.next_expiry_time) == (250, at("1971-01-03T23:00:00Z"))
    before = (await ledger.ListLots(pb.ListLotsRequest(member_id=M, at_time=at("1970-01-02T00:00:00Z")))).lots
    assert [(lot.state, lot.points) for lot in before] == [(lot_pb2.LOT_STATE_PENDING, 200)]
    await ledger.advance("1971-01-03T23:00:00Z")
    after = await ledger.balance()
    assert (after.available_points, after.pending_points, after.next_expiry_points) == (50, 0, 50)
    member = (await ledger.GetMember(pb.GetMemberRequest(member_id=M))).member
    assert member.balance == after


async def test_lots_are_listed_by_page_and_none_twice_though_points_are_drawn_between(start: Start) -> None:
    ledger = await start(earning=", pending: P2D")
    await ledger.advance("1970-01-06T12:00:00Z")
    for day in range(1, 7):
        await ledger.RecordPurchase(purchase(f"p{day}", 10000, occurred_time=at(f"1970-01-0{day}T09:00:00Z")))
    # The hold made first does not come first: what is held is told in the order of the ids.
    for name in ("h/2", "h/1"):
        await ledger.HoldPoints(hold(name, 50, ttl=Duration(seconds=60)))

    async def page(token: str = "", size: int = 3, **more: Any) -> tuple[list[tuple[int, str, str]], str]:
        found = await ledger.ListLots(pb.ListLotsRequest(member_id=M, page_size=size, page_token=token, **more))
        return [(lot.state, lot.activation_date[-2:], lot.hold_id) for lot in found.lots], found.next_page_token

    available, pending, held = lot_pb2.LOT_STATE_AVAILABLE, lot_pb2.LOT_STATE_PENDING, lot_pb2.LOT_STATE_HELD
    whole = [
        *((available, day, "") for day in ("04", "05", "06")),
        *((pending, day, "") for day in ("07", "08")),
        (held, "03", "h/1"),
        (held, "03", "h/2"),
    ]
    assert await page(size=0) == (whole, "")
    assert await page(size=7) == (whole, "")
    told, token, pages = [], "", 0
    while pages == 0 or token:
        lots, token = await page(token)
        told += lots
        pages += 1
    assert (told, pages) == (whole, 3)

    first, token = await page(size=2)
    after_one, token_of_one = await page(size=1)
    held_first, token_of_hold = await page(size=6)
    await ledger.advance("1970-01-06T12:00:30Z")
    await ledger.RedeemPoints(redeem("r", 150))
    await ledger.ReleaseHold(pb.ReleaseHoldRequest(request_id="f", member_id=M, hold_id="h/1"))
    assert (first, after_one, held_first) == (whole[:2], whole[:1], whole[:6])
    # The lots of the 4th and, in part, of the 5th are spent; the hold gave a lot of the 3rd back, before any page.
    assert await page(token, size=9) == ([whole[2], *whole[3:5], whole[6]], "")
    assert await page(token_of_one, size=9) == ([*whole[1:5], whole[6]], "")
    assert await page(token_of_hold, size=9) == (whole[6:], "")
    then = at("1970-01-06T12:00:00Z")
    assert [await page(token, size=9, at_time=then) for token in ("", token)] == [(whole, ""), (whole[2:], "")]

    entries = await ledger.ListEntries(pb.ListEntriesRequest(member_id=M, page_size=1))
    foreign = (
        entries.next_page_token,
        "x",
        "///",
        "issued///",
        "held/1970-01-03//",
        "available///h",
        "pending/19700103//",
    )
    for token in foreign:
        with refused("PAGE_TOKEN_INVALID", grpc.StatusCode.INVALID_ARGUMENT):
            await page(token)


async def test_a_balance_is_read_as_of_a_time_and_as_known_at_another(start: Start) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("p", 10000, occurred_time=at("1970-01-01T10:00:00Z")))
    (known,) = await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_PURCHASE_RECORDED])
    await asyncio.sleep(0.01)
    await ledger.RecordPurchase(purchase("q", 5000, occurred_time=at("1970-01-01T09:00:00Z")))
    await ledger.RecordPurchase(purchase("r", 2000, occurred_time=at("1970-01-01T11:00:00Z")))
    ten = at("1970-01-01T10:30:00Z")
    assert (await ledger.balance(at_time=ten)).available_points == 150
    assert (await ledger.balance(at_time=ten, known_at_time=known.recorded_time)).available_points == 100
    assert (await ledger.balance(at_time=at("1970-01-01T09:30:00Z"))).available_points == 50
    await ledger.EnrollMember(enrol("late", occurred_time=at("1970-01-01T08:00:00Z")))
    with refused("NOT_ENROLLED"):
        await ledger.balance("late", at_time=at("1970-01-01T07:59:59Z"))
    with refused("NOT_ENROLLED"):
        await ledger.balance("late", at_time=ten, known_at_time=known.recorded_time)


async def test_what_was_captured_before_it_was_held_comes_out_of_the_other_points(start: Start) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("p"))
    # In a history lived through again a hold may come from ahead of the clock.
    await ledger.HoldPoints(hold("h", 500, occurred_time=at("1970-01-02T12:00:00Z"), ttl=Duration(seconds=600)))
    await ledger.CaptureHold(capture("c", "h", 200))
    between = await ledger.balance(at_time=at("1970-01-01T18:00:00Z"))
    assert (between.available_points, between.held_points, between.redeemed_points) == (800, 0, 200)


async def test_entries_are_filtered_by_kind_time_and_purchase(start: Start) -> None:
    ledger = await start()
    for hour in (8, 9, 10):
        await ledger.RecordPurchase(purchase(f"p{hour}", 10000, occurred_time=at(f"1970-01-01T{hour:02}:00:00Z")))
    await ledger.RecordReturn(returned("r", "p9", amount=money(1000)))
    kinds = [entry_pb2.ENTRY_KIND_PURCHASE_RECORDED, entry_pb2.ENTRY_KIND_MEMBER_JOINED]
    assert [entry.purchase_id for entry in await ledger.entries(kinds=kinds)] == ["p10", "p9", "p8", ""]
    during = await ledger.entries(from_time=at("1970-01-01T08:00:00Z"), until_time=at("1970-01-01T10:00:00Z"))
    assert [entry.purchase_id for entry in during] == ["p9", "p8"]
    assert [entry.request_id for entry in await ledger.entries(purchase_id="p9")] == ["r", "p9"]
    page = await ledger.ListEntries(pb.ListEntriesRequest(member_id=M, page_size=1, purchase_id="p9"))
    rest = await ledger.entries(page_size=1, purchase_id="p9", page_token=page.next_page_token)
    assert [entry.request_id for entry in rest] == ["p9"]


async def test_the_list_of_entries_shows_notes_stores_and_receipt_numbers_until_they_are_erased(
    start: Start, database: Database
) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("p", lines=[pb.Line(sku="a", amount_minor_units=100000)]))
    await ledger.RecordReturn(returned("b", "p", amount=money(100), store_id="7", receipt_number="0815"))
    await ledger.AwardPoints(award(request_id="a1", note="many happy returns"))
    await ledger.AdjustPoints(adjust(request_id="a2", note="late parcel"))
    await ledger.RedeemPoints(redeem("r", 50, note="at the till", store_id="9"))
    await ledger.ReverseRedemption(reverse(request_id="b2", note="by mistake"))
    await ledger.HoldPoints(hold("h", 50))
    detail = entry_pb2.EntryDetail
    shown = {entry.request_id: entry.detail for entry in await ledger.entries() if entry.HasField("detail")}
    assert shown == {
        "p": detail(),
        "b": detail(store_id="7", receipt_number="0815"),
        "a1": detail(note="many happy returns"),
        "a2": detail(note="late parcel"),
        "r": detail(note="at the till", store_id="9"),
        "b2": detail(note="by mistake"),
    }
    streamed = [entry async for some in ledger.StreamEntries(pb.StreamEntriesRequest()) for entry in some.entries]
    assert len(streamed) == 8
    assert not any(entry.HasField("detail") for entry in streamed)
    owner = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        await owner.execute("DELETE FROM ledger.entry_details WHERE detail ->> 'note' = 'late parcel'")
    finally:
        await owner.close()
    (erased,) = await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_POINTS_ADJUSTED])
    assert (erased.detail, len(erased.detail_commitment)) == (detail(erased=True), 32)
    page = await ledger.ListEntries(entries(page_size=1, kinds=[entry_pb2.ENTRY_KIND_POINTS_AWARDED]))
    assert [entry.detail.note for entry in page.entries] == ["many happy returns"]


async def test_the_story_of_a_hold_is_told_by_the_entries_that_refer_to_it(start: Start) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("p"))
    await ledger.HoldPoints(hold("h", 100, ttl=Duration(seconds=60)))
    await ledger.ExtendHold(extend(request_id="x", ttl=Duration(seconds=120)))
    await ledger.CaptureHold(capture("c", "h", 30))
    await ledger.ReleaseHold(release(request_id="f", points=20))
    await ledger.advance("1970-01-02T12:00:00Z")
    story = [entry.kind for entry in await ledger.entries() if "h" in (entry.request_id, entry.reference)]
    assert [entry_pb2.EntryKind.Name(kind).removeprefix("ENTRY_KIND_") for kind in reversed(story)] == [
        "POINTS_HELD",
        "HOLD_EXTENDED",
        "HOLD_CAPTURED",
        "HOLD_RELEASED",
        "HOLD_EXPIRED",
    ]


async def test_an_entry_shows_its_lots_its_balances_and_that_it_came_late(start: Start) -> None:
    ledger = await start()
    await ledger.advance("1970-01-05T12:00:00Z")
    await ledger.RecordPurchase(purchase("p", 10000))
    await ledger.HoldPoints(hold("h", 60))
    held, bought = (await ledger.entries())[:2]
    assert bought.flags == [entry_pb2.ENTRY_FLAG_BACK_DATED]
    assert bought.postings[0] == entry_pb2.Posting(
        account=entry_pb2.ACCOUNT_AVAILABLE, points=100, activation_date="1970-01-01", expiry_date="1971-01-01"
    )
    assert bought.postings[1] == entry_pb2.Posting(account=entry_pb2.ACCOUNT_ISSUED, points=100)
    assert (held.available_points_after, held.held_points_after) == (40, 60)
    assert held.expire_time == at("1970-01-05T12:15:00Z")
    await ledger.advance("1970-03-01T12:00:00Z")
    with refused("OCCURRED_TOO_EARLY", grpc.StatusCode.INVALID_ARGUMENT) as caught:
        await ledger.RecordPurchase(purchase("q", 10000))
    assert details_of(caught.value)["BadRequest"].field_violations[0].field == "occurred_time"


# Bad input

HUGE = 2**62
MEGABYTE = "x" * 1_000_000
FUTURE = at("1970-01-09T12:00:00Z")


def adjust(**more: Any) -> pb.AdjustPointsRequest:
    return pb.AdjustPointsRequest(**{"request_id": "a", "member_id": M, "points": 1, "reason": "c"} | more)


def reverse(**more: Any) -> pb.ReverseRedemptionRequest:
    return pb.ReverseRedemptionRequest(**{"request_id": "b", "member_id": M, "redemption_id": "r"} | more)


def release(**more: Any) -> pb.ReleaseHoldRequest:
    return pb.ReleaseHoldRequest(**{"request_id": "b", "member_id": M, "hold_id": "h"} | more)


def extend(**more: Any) -> pb.ExtendHoldRequest:
    return pb.ExtendHoldRequest(**{"request_id": "b", "member_id": M, "hold_id": "h"} | more)


def void(**more: Any) -> pb.VoidPurchaseRequest:
    return pb.VoidPurchaseRequest(**{"request_id": "b", "member_id": M, "purchase_id": "p"} | more)


def quote(**more: Any) -> pb.QuotePurchaseRequest:
    return pb.QuotePurchaseRequest(**{"member_id": M, "amount": money(100)} | more)


def award(**more: Any) -> pb.AwardPointsRequest:
    return pb.AwardPointsRequest(**{"request_id": "a", "member_id": M, "points": 1, "reason": "c"} | more)


def balance(**more: Any) -> pb.GetBalanceRequest:
    return pb.GetBalanceRequest(member_id=M, **more)


def entries(**more: Any) -> pb.ListEntriesRequest:
    return pb.ListEntriesRequest(member_id=M, **more)


def purchases(**more: Any) -> pb.ListPurchasesRequest:
    return pb.ListPurchasesRequest(member_id=M, **more)


BAD: Sequence[tuple[Any, str]] = (
    (redeem("", 50), "request_id"),
    (redeem("~r", 50), "request_id"),
    (redeem("r", 50, member_id="a b"), "member_id"),
    (redeem("r", 0), "points"),
    (redeem("r", -50), "points"),
    (redeem("r", HUGE), "points"),
    (redeem("r", 50, occurred_time=FUTURE), "occurred_time"),
    (redeem("r", 50, occurred_time=Timestamp(seconds=-1)), "occurred_time"),
    (redeem("r", 50, occurred_time=Timestamp(nanos=-1)), "occurred_time"),
    (redeem("r", 50, reason="Not A Code"), "reason"),
    (redeem("r", 50, note="a\0b"), "note"),
    (redeem("r", 50, note=MEGABYTE), "note"),
    (redeem("r", 50, purchase_id="a b"), "purchase_id"),
    (redeem("r", 50, store_id="a\0"), "store_id"),
    (redeem("r", 50, store_id=MEGABYTE), "store_id"),
    (redeem("r", 50, channel="POS"), "channel"),
    (reverse(redemption_id=""), "redemption_id"),
    (reverse(redemption_id=MEGABYTE), "redemption_id"),
    (reverse(points=-1), "points"),
    (reverse(points=HUGE), "points"),
    (reverse(note="a\0"), "note"),
    (reverse(reason="X"), "reason"),
    (reverse(occurred_time=FUTURE), "occurred_time"),
    (hold("h", 0), "points"),
    (hold("h", -1), "points"),
    (hold("h", HUGE), "points"),
    (hold("h", 50, ttl=Duration()), "ttl"),
    (hold("h", 50, ttl=Duration(seconds=-5)), "ttl"),
    (hold("h", 50, ttl=Duration(seconds=5, nanos=-5)), "ttl"),
    (hold("h", 50, ttl=Duration(seconds=7776000, nanos=1)), "ttl"),
    (hold("h", 50, ttl=Duration(seconds=HUGE)), "ttl"),
    (hold("h", 50, reason="a b"), "reason"),
    (hold("h", 50, purchase_id="\0"), "purchase_id"),
    (hold("h", 50, occurred_time=FUTURE), "occurred_time"),
    (capture("c", ""), "hold_id"),
    (capture("c", "h", -1), "points"),
    (capture("c", "h", HUGE), "points"),
    (release(hold_id="\0"), "hold_id"),
    (release(points=-1), "points"),
    (release(points=HUGE), "points"),
    (extend(hold_id=""), "hold_id"),
    (extend(ttl=Duration(nanos=-1)), "ttl"),
    (extend(ttl=Duration(seconds=7776001)), "ttl"),
    (adjust(points=0), "points"),
    (adjust(points=HUGE), "points"),
    (adjust(points=-HUGE), "points"),
    (adjust(reason=""), "reason"),
    (adjust(reason="a b"), "reason"),
    (adjust(note="\0"), "note"),
    (adjust(note=MEGABYTE), "note"),
    (adjust(approves="a b"), "approves"),
    (adjust(declines="a b"), "declines"),
    (adjust(declines="x" * 129), "declines"),
    (adjust(approves="x", declines="x"), "declines"),
    (adjust(points=-1, restores_expired=True), "points"),
    (adjust(points=0, restores_expired=True), "points"),
    (adjust(occurred_time=FUTURE), "occurred_time"),
    (award(purchase_id="\n"), "purchase_id"),
    (void(purchase_id=""), "purchase_id"),
    (void(store_id="\0"), "store_id"),
    (void(reason="x" * 33), "reason"),
    (void(occurred_time=FUTURE), "occurred_time"),
    (purchase("p", exchange_id="a b"), "exchange_id"),
    (purchase("p", exchange_id="x" * 129), "exchange_id"),
    (returned("r", "p"), "amount"),
    (returned("r", "p", amount=money(0)), "amount.minor_units"),
    (returned("r", "p", amount=money(0), returned_lines=[by_line(1, quantity=1)]), "amount.minor_units"),
    (returned("r", "p", amount=money(-5), returned_lines=[by_line(1, quantity=1)]), "amount.minor_units"),
    (returned("r", "p", amount=money(5, "EUR"), returned_lines=[by_line(1, quantity=1)]), "amount.currency_code"),
    (returned("r", "", returned_lines=[by_line(1, quantity=1)]), "purchase_id"),
    (returned("r", "p", lines=LINES, returned_lines=[by_line(1, quantity=1)]), "amount"),
    (returned("r", "p", returned_lines=[by_line(0, quantity=1)]), "returned_lines[0].line_number"),
    (returned("r", "p", returned_lines=[by_line(-1, quantity=1)]), "returned_lines[0].line_number"),
    (returned("r", "p", returned_lines=[by_line(1001, quantity=1)]), "returned_lines[0].line_number"),
    (returned("r", "p", returned_lines=[by_line(1, quantity=-1)]), "returned_lines[0].quantity"),
    (returned("r", "p", returned_lines=[by_line(1, quantity=HUGE)]), "returned_lines[0].quantity"),
    (returned("r", "p", returned_lines=[by_line(1, amount=-1)]), "returned_lines[0].amount_minor_units"),
    (returned("r", "p", returned_lines=[by_line(1, amount=HUGE)]), "returned_lines[0].amount_minor_units"),
    (returned("r", "p", returned_lines=[pb.ReturnedLine(line_number=1)]), "returned_lines[0].quantity"),
    (
        returned("r", "p", returned_lines=[by_line(1, quantity=1), by_line(2, quantity=1), by_line(1, amount=1)]),
        "returned_lines[2].line_number",
    ),
    (returned("r", "p", returned_lines=[by_line(1, quantity=1)] * 1001), "returned_lines"),
    (returned("r", "p", amount=money(1), exchange_id="\0"), "exchange_id"),
    (quote(amount=None), "amount"),
    (quote(amount=money(0)), "amount.minor_units"),
    (quote(amount=money(-1)), "amount.minor_units"),
    (quote(amount=money(HUGE)), "amount.minor_units"),
    (quote(amount=money(100, "EUR")), "amount.currency_code"),
    (quote(lines=[pb.Line(sku="\0", amount_minor_units=100)]), "lines[0].sku"),
    (quote(channel="POS"), "channel"),
    (quote(store_id=MEGABYTE), "store_id"),
    (quote(occurred_time=FUTURE), "occurred_time"),
    (balance(at_time=Timestamp(seconds=-1)), "at_time"),
    (balance(at_time=Timestamp(seconds=5, nanos=2_000_000_000)), "at_time"),
    (balance(known_at_time=Timestamp(seconds=HUGE)), "known_at_time"),
    (pb.ListLotsRequest(member_id=M, at_time=Timestamp(seconds=-1)), "at_time"),
    (pb.ListLotsRequest(member_id=M, page_size=-1), "page_size"),
    (pb.ListLotsRequest(member_id=M, page_size=1001), "page_size"),
    (pb.ListLotsRequest(member_id=M, page_token="x" * 257), "page_token"),
    (entries(kinds=[0]), "kinds[0]"),
    (entries(kinds=[99]), "kinds[0]"),
    (entries(kinds=[1, 1]), "kinds"),
    (entries(from_time=Timestamp(nanos=-1)), "from_time"),
    (entries(until_time=Timestamp(seconds=-1)), "until_time"),
    (entries(purchase_id="\0"), "purchase_id"),
    (purchases(receipt_number="\0"), "receipt_number"),
    (purchases(receipt_number=MEGABYTE), "receipt_number"),
    (purchases(page_size=-1), "page_size"),
    (purchases(page_size=1001), "page_size"),
    (purchases(page_token="9" * 100), "page_token"),
    (pb.GetPurchaseRequest(member_id=M), "purchase_id"),
    (pb.GetPurchaseRequest(member_id=M, purchase_id="\0"), "purchase_id"),
    (pb.BatchRecordRequest(all_or_none=True), "writes"),
)


async def test_bad_input_of_every_field_names_it_and_writes_nothing(start: Start) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("bought", lines=[pb.Line(sku="a", amount_minor_units=100000)]))
    for request, field in BAD:
        method = type(request).DESCRIPTOR.name.removesuffix("Request")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(ledger, method)(request)
        told = f"{method}: {str(request)[:200]}: {caught.value.details()}"
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, told
        violations = details_of(caught.value)["BadRequest"].field_violations
        assert field in [violation.field for violation in violations], told
        assert all(violation.description for violation in violations), told
    heads = (await ledger.ListPartitions(pb.ListPartitionsRequest())).partitions
    assert sum(head.last_offset for head in heads) == 2


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (redeem("x", 50, note="other"), "note"),
        (reverse(request_id="x"), "the method"),
        (pb.RedeemPointsRequest(request_id="x", member_id=M, points=50, offline=True), "offline"),
        (redeem("x", 50, occurred_time=at("1970-01-01T00:00:00Z")), "occurred_time"),
    ],
)
async def test_a_request_id_used_again_names_the_first_difference(start: Start, request_: Any, field: str) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("p"))
    await ledger.RedeemPoints(redeem("x", 50))
    with refused("REQUEST_ID_REUSED", grpc.StatusCode.ALREADY_EXISTS) as caught:
        await getattr(ledger, type(request_).DESCRIPTOR.name.removesuffix("Request"))(request_)
    assert details_of(caught.value)["ErrorInfo"].metadata["field"] == field


@pytest.mark.parametrize(
    ("kept", "sent", "field"),
    [
        (hold("x", 50), hold("x", 50, ttl=Duration(seconds=900)), "ttl"),
        (capture("x", "h"), capture("x", "h", 10), "points"),
        (release(request_id="x"), release(request_id="x", hold_id="i"), "hold_id"),
        (extend(request_id="x"), extend(request_id="x", ttl=Duration(seconds=1)), "ttl"),
        (reverse(request_id="x"), reverse(request_id="x", reason="other"), "reason"),
        (adjust(request_id="x"), adjust(request_id="x", points=2, note="n"), "points"),
        (void(request_id="x"), void(request_id="x", store_id="s"), "store_id"),
        (award(request_id="x"), award(request_id="x", purchase_id="p"), "purchase_id"),
        (
            returned("x", "p", returned_lines=[by_line(1, quantity=1)]),
            returned("x", "p", returned_lines=[by_line(1, quantity=2)]),
            "returned_lines",
        ),
    ],
)
async def test_the_difference_is_named_for_every_write(start: Start, kept: Any, sent: Any, field: str) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("bought"))
    answer = await ledger.BatchRecord(pb.BatchRecordRequest(writes=[write(kept), write(sent)]))
    assert reason_in(answer.outcomes[1]) == "REQUEST_ID_REUSED"
    assert answer.outcomes[1].error.message.endswith(f"(first difference: {field})")


# Batches


async def test_a_batch_takes_every_write_and_says_what_was_done_before(start: Start) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("p", 200000, store_id="s"))
    batch = pb.BatchRecordRequest(
        writes=[
            write(redeem("r", 100)),
            write(reverse()),
            write(hold("h", 100)),
            write(extend(request_id="x")),
            write(capture("c", "h", 60)),
            write(release(request_id="f")),
            write(adjust()),
            write(void(request_id="v", store_id="s", occurred_time=at(NOON))),
            write(redeem("r2", -1)),
            write(capture("c2", "h")),
        ]
    )
    first, second = await ledger.BatchRecord(batch), await ledger.BatchRecord(batch)
    for answer, replayed in ((first, False), (second, True)):
        done = [outcome.WhichOneof("outcome") for outcome in answer.outcomes]
        assert done == [one.WhichOneof("write") for one in batch.writes[:8]] + ["error", "error"]
        assert [reason_in(outcome) for outcome in answer.outcomes[8:]] == ["INVALID_FIELD", "HOLD_UNKNOWN"]
        for outcome, kind in zip(answer.outcomes, done[:8], strict=False):
            assert getattr(outcome, kind).replayed is replayed, kind
    assert (second.outcomes[4].capture_hold.hold.points, second.outcomes[4].capture_hold.redemption_id) == (40, "c")


async def test_all_or_none_does_nothing_where_one_write_fails(start: Start) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("p"))
    good, unmet, invalid = redeem("r1", 600), redeem("r2", 600), redeem("r3", 0)
    for bad, reason in ((unmet, "NOT_ENOUGH_POINTS"), (invalid, "INVALID_FIELD")):
        answer = await ledger.BatchRecord(
            pb.BatchRecordRequest(writes=[write(good), write(bad), write(hold("h", 50))], all_or_none=True)
        )
        assert [reason_in(outcome) for outcome in answer.outcomes] == ["BATCH_ABORTED", reason, "BATCH_ABORTED"]
        assert answer.outcomes[0].error.code == grpc.StatusCode.ABORTED.value[0]
        assert len(await ledger.entries()) == 2, "no refusal is kept either"
    mended = pb.BatchRecordRequest(writes=[write(good), write(redeem("r2", 400))], all_or_none=True)
    answer = await ledger.BatchRecord(mended)
    assert [outcome.redeem_points.receipt.available_points for outcome in answer.outcomes] == [400, 0]
    assert all(outcome.redeem_points.replayed for outcome in (await ledger.BatchRecord(mended)).outcomes)


async def test_all_or_none_is_for_one_partition(start: Start) -> None:
    ledger = await start()
    members = [f"n{number}" for number in range(20)]
    for all_or_none in (True, False):
        batch = pb.BatchRecordRequest(writes=[write(enrol(name)) for name in members], all_or_none=all_or_none)
        if all_or_none:
            with refused("BATCH_SPANS_PARTITIONS", grpc.StatusCode.INVALID_ARGUMENT):
                await ledger.BatchRecord(batch)
        else:
            assert not (await ledger.BatchRecord(batch)).outcomes[0].enroll_member.replayed


async def test_a_write_that_the_rules_stumble_over_fails_alone(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = service.decide

    def faulty(*arguments: Any) -> Any:
        if arguments[-1].request_id == "r5":
            raise ZeroDivisionError
        return rules(*arguments)

    ledger = await start()
    await ledger.RecordPurchase(purchase("p"))
    monkeypatch.setattr(service, "decide", faulty)
    writes = [write(redeem(f"r{number}", 50)) for number in range(10)]
    answer = await ledger.BatchRecord(pb.BatchRecordRequest(writes=writes))
    failed = [n for n, outcome in enumerate(answer.outcomes) if outcome.WhichOneof("outcome") == "error"]
    assert (failed, reason_in(answer.outcomes[5])) == ([5], "INTERNAL")
    assert (await ledger.balance()).available_points == 550


# Streams


def lists(*requests: Sequence[Any]) -> list[pb.RecordStreamRequest]:
    return [pb.RecordStreamRequest(writes=[write(one) for one in some]) for some in requests]


async def sent(requests: Sequence[pb.RecordStreamRequest]) -> AsyncIterator[pb.RecordStreamRequest]:
    for request in requests:
        yield request


@pytest.mark.parametrize("lanes", [1, 3])
async def test_a_stream_answers_each_request_in_order_and_sent_again_it_says_so(start: Start, lanes: int) -> None:
    ledger = await start(lanes=lanes)
    requests = lists(
        [purchase("p"), redeem("r", 0)],
        [hold("h", 500)],
        *([capture(f"c{number}", "h", 50)] for number in range(10)),
        [capture("c10", "h")],
        [redeem(f"s{number}", 50) for number in range(1000)],
    )
    for replayed in (False, True):
        answers = [answer async for answer in ledger.RecordStream(sent(requests))]
        assert [len(answer.outcomes) for answer in answers] == [len(request.writes) for request in requests]
        assert reason_in(answers[0].outcomes[1]) == "INVALID_FIELD"
        left = [answer.outcomes[0].capture_hold.hold.points for answer in answers[2:12]]
        assert left == list(range(450, -1, -50)), "writes of a member keep their order over requests"
        assert reason_in(answers[12].outcomes[0]) == "HOLD_UNKNOWN"
        spent = [outcome for outcome in answers[13].outcomes if outcome.WhichOneof("outcome") == "redeem_points"]
        assert (len(spent), spent[0].redeem_points.replayed) == (10, replayed)
        assert answers[0].causal_token
    assert (await ledger.balance()).available_points == 0


async def test_a_stream_can_be_talked_with(start: Start) -> None:
    ledger = await start()
    call = ledger.RecordStream()
    for number in range(5):
        (request,) = lists([purchase(f"p{number}", 1000)])
        await call.write(request)
        answer = await call.read()
        assert answer.outcomes[0].record_purchase.receipt.available_points == 10 * (number + 1)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_request_that_is_none_ends_the_stream_after_the_answers_before_it(start: Start) -> None:
    ledger = await start()
    requests = [*lists([purchase("p")], [redeem("r", 50)]), pb.RecordStreamRequest(), *lists([redeem("s", 50)])]
    answered = 0
    with refused("INVALID_FIELD", grpc.StatusCode.INVALID_ARGUMENT) as caught:
        async for _ in ledger.RecordStream(sent(requests)):
            answered += 1
    assert answered == 2
    assert details_of(caught.value)["BadRequest"].field_violations[0].field == "writes"
    assert (await ledger.balance()).available_points == 950


async def test_a_stream_without_a_token_is_turned_away(start: Start, folder: Path) -> None:
    await start()
    async with grpc.aio.insecure_channel(f"unix:{folder}/ledger.sock") as channel:
        with refused("TOKEN_MISSING", grpc.StatusCode.UNAUTHENTICATED):
            async for _ in Ledger(channel).RecordStream(sent(lists([purchase("p")]))):
                pass


async def test_whoever_takes_no_answers_is_held_and_nothing_is_lost(start: Start, folder: Path) -> None:
    ledger = await start()
    requests = lists(*([purchase(f"p{n}-{i}", 100) for i in range(100)] for n in range(60)))

    async def recorded() -> int:
        return sum(head.last_offset for head in (await ledger.ListPartitions(pb.ListPartitionsRequest())).partitions)

    # gRPC would grow the room for what nobody reads, to a size of its own choice.
    async with plain(folder, ("grpc.http2.bdp_probe", 0)) as (stub, metadata):
        call = stub.RecordStream(sent(requests), metadata=metadata)
        stood, before = 0, -1
        while stood != before or not stood:
            before = stood
            await asyncio.sleep(0.7)
            stood = await recorded() - 1
        assert stood < 100 * len(requests) / 2, "nothing more is read than is answered"
        answers = [answer async for answer in call]
    assert len(answers) == len(requests)
    assert await recorded() == 1 + 100 * len(requests)


async def test_what_a_stream_handed_over_is_finished_though_the_caller_goes_away(
    start: Start, database: Database
) -> None:
    ledger = await start()
    async with partitions_locked(database) as connection:
        call = ledger.RecordStream(sent(lists([purchase("p"), purchase("q")])))
        reading = asyncio.ensure_future(call.read())
        await the_lane_is_stuck(connection)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    for _ in range(100):
        if (await ledger.balance()).available_points == 2000:
            break
        await asyncio.sleep(0.05)
    assert (await ledger.balance()).available_points == 2000


async def test_a_lost_database_ends_the_stream_and_what_is_sent_again_is_carried_out_once_and_in_order(
    start: Start, database: Database, folder: Path
) -> None:
    ledger = await start()
    await ledger.RecordPurchase(purchase("p"))
    requests = lists([hold("h", 500)], [capture("c", "h", 200)], [release(request_id="f")])
    # A channel that does not by itself send again.
    async with partitions_locked(database) as connection, plain(folder) as (stub, metadata):
        call = stub.RecordStream(metadata=metadata)
        await call.write(requests[0])
        await the_lane_is_stuck(connection)
        for request in requests[1:]:
            await call.write(request)
        await asyncio.sleep(0.2)
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ledger-lane'"
        )
        with refused("UNAVAILABLE", grpc.StatusCode.UNAVAILABLE):
            await call.read()
    answers = [answer async for answer in ledger.RecordStream(sent(requests))]
    assert [answer.outcomes[0].WhichOneof("outcome") for answer in answers] == [
        "hold_points",
        "capture_hold",
        "release_hold",
    ]
    assert not answers[1].outcomes[0].capture_hold.replayed, "nothing overtook the hold"
    assert (await ledger.balance()).available_points == 800


# Load


async def test_where_too_much_waits_callers_are_told_when_to_come_back_and_the_rest_is_done(
    start: Start, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = await start()
    monkeypatch.setattr(service, "_QUEUED_COMMANDS", 30)
    async with partitions_locked(database) as connection:
        first = asyncio.ensure_future(ledger.RecordPurchase(purchase("p", 100)))
        await the_lane_is_stuck(connection)
        waiting = [
            asyncio.ensure_future(
                ledger.BatchRecord(pb.BatchRecordRequest(writes=[write(purchase(f"p{n}-{i}", 100)) for i in range(10)]))
            )
            for n in range(3)
        ]
        await asyncio.sleep(0.3)
        for call in (
            ledger.RecordPurchase(purchase("late", 100)),
            ledger.BatchRecord(pb.BatchRecordRequest(writes=[write(purchase("late", 100))])),
            ledger.RecordStream(sent(lists([purchase("late", 100)]))).read(),
        ):
            with refused("OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED) as caught:
                await call
            assert details_of(caught.value)["RetryInfo"].retry_delay.ToMilliseconds() > 0
    await asyncio.gather(first, *waiting)
    assert (await ledger.balance()).available_points == 31


async def test_one_call_too_many_at_once_is_told_when_to_come_back(
    start: Start, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_MAX_CONCURRENT_CALLS", 5)
    ledger = await start()
    async with partitions_locked(database) as connection:
        calls = [asyncio.ensure_future(ledger.RecordPurchase(purchase(f"p{n}", 100))) for n in range(5)]
        await the_lane_is_stuck(connection)
        await asyncio.sleep(0.2)
        with refused("OVERLOADED", grpc.StatusCode.RESOURCE_EXHAUSTED) as caught:
            await ledger.RecordPurchase(purchase("late", 100))
        assert details_of(caught.value)["RetryInfo"].retry_delay.ToMilliseconds() > 0
    assert [(await call).receipt.points for call in calls] == [1] * 5
    assert (await ledger.RecordPurchase(purchase("late", 100))).receipt.available_points == 6


async def test_in_real_time_points_move_now_whatever_a_request_claims(start: Start) -> None:
    ledger = await start(clock=ClockMode.REAL)
    await ledger.AwardPoints(pb.AwardPointsRequest(request_id="a", member_id=M, points=100, reason="gift"))
    long_ago = Timestamp()
    long_ago.GetCurrentTime()
    long_ago.seconds -= 86400
    spent = await ledger.RedeemPoints(redeem("r", 50, occurred_time=long_ago))
    assert spent.receipt.occurred_time.seconds > long_ago.seconds + 80000
