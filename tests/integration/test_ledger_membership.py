"""Who leaves and comes back, what is done and paid beside buying, and markets: over real gRPC and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from loyalty.ledger.v1 import entry_pb2, member_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as pb

from tests.conftest import Database, StartLedger
from tests.integration.test_ledger_points import (
    NOON,
    Ledger,
    M,
    at,
    details_of,
    enrol,
    money,
    purchase,
    redeem,
    refused,
)
from tests.ledger_checks import checked
from tests.till import write

PROGRAMME = """
programme: members
currency: PLN
time_zone: Europe/Warsaw
earning:
  base: total
  points: 1
  per: "1.00"
  activities: [{id: review, points: 25}]
expiry: {policy: after, period: P1Y}
rates:
  - {from: "1970-01-01", currency: USD, amount: "1.00", worth: "4.00"}
markets:
  us:
    currency: USD
    time_zone: America/New_York
    per: "0.50"
    thresholds: {green: {from: "80.00"}}
    rates: [{from: "1970-01-01", currency: PLN, amount: "4.00", worth: "1.00"}]
tiers:
  base: total
  window: P365D
  levels: [{name: White}, {name: Green, from: "300.00"}, {name: Plus, plan: plus}]
"""

EVENING = "1970-01-01T18:00:00Z"
NEXT_DAY = "1970-01-02T12:00:00Z"
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def resign(request_id: str, time: str = EVENING, **more: Any) -> pb.ResignMemberRequest:
    fields = {"request_id": request_id, "member_id": M, "occurred_time": at(time), "reason": "by_itself"}
    return pb.ResignMemberRequest(**fields | more)


def rejoin(request_id: str, time: str = NEXT_DAY, **more: Any) -> pb.RejoinMemberRequest:
    fields = {"request_id": request_id, "member_id": M, "occurred_time": at(time), "channel": "web"}
    return pb.RejoinMemberRequest(**fields | more)


def activity(request_id: str, name: str = "review", **more: Any) -> pb.RecordActivityRequest:
    fields = {"request_id": request_id, "member_id": M, "activity": name, "occurred_time": at(NOON)}
    return pb.RecordActivityRequest(**fields | more)


def fee(request_id: str, plan: str = "plus", **more: Any) -> pb.RecordMembershipFeeRequest:
    fields = {
        "request_id": request_id,
        "member_id": M,
        "plan": plan,
        "amount": money(4900),
        "end_time": at("1971-01-01T12:00:00Z"),
        "occurred_time": at(NOON),
    }
    return pb.RecordMembershipFeeRequest(**fields | more)


def earning_class(name: str, sequence: int, effective: str = NOON) -> pb.SetEarningClassRequest:
    return pb.SetEarningClassRequest(
        request_id=f"class-{sequence}",
        member_id=M,
        earning_class=name,
        sequence=sequence,
        effective_time=at(effective),
    )


@pytest_asyncio.fixture
async def ledger(start_ledger: StartLedger, folder: Path, database: Database) -> AsyncIterator[Ledger]:
    """A ledger with the programme of these tests, and the member in it. At the end its states follow from its log."""
    path = folder / "members.yaml"
    path.write_text(PROGRAMME)
    started = Ledger(await start_ledger(programme=path))
    await started.EnrollMember(enrol())
    yield started
    assert (await checked(database.dsn("loyalty_ledger"), path)).differences == ()


async def member(ledger: Ledger, member_id: str = M) -> member_pb2.Member:
    found: member_pb2.Member = (await ledger.GetMember(pb.GetMemberRequest(member_id=member_id))).member
    return found


async def test_a_member_leaves_and_is_told_so_again(ledger: Ledger) -> None:
    await ledger.RecordPurchase(purchase("p"))
    left = await ledger.ResignMember(resign("1"))
    assert (left.receipt.points, left.receipt.available_points, left.replayed) == (0, 1000, False)
    assert (await ledger.ResignMember(resign("1"))).replayed
    found = await member(ledger)
    assert (found.status, found.resigned_time) == (member_pb2.MEMBER_STATUS_RESIGNED, at(EVENING))
    with refused("MEMBER_RESIGNED"):
        await ledger.ResignMember(resign("2", NEXT_DAY))
    with refused("MEMBER_RESIGNED"):
        await ledger.QuotePurchase(pb.QuotePurchaseRequest(member_id=M, amount=money(1000), occurred_time=at(NEXT_DAY)))
    with refused("MEMBER_RESIGNED"):
        await ledger.RedeemPoints(redeem("3", 100, occurred_time=at(NEXT_DAY)))
    assert (await ledger.RecordPurchase(purchase("late", 500))).receipt.points == 5
    (entry,) = await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_MEMBER_RESIGNED])
    assert (entry.reason, entry.occurred_time, entry.available_points_after) == ("by_itself", at(EVENING), 1000)


async def test_a_member_comes_back_to_its_first_joining_time_and_its_points(ledger: Ledger) -> None:
    joined = (await member(ledger)).joined_time
    with refused("MEMBER_ENROLLED"):
        await ledger.RejoinMember(rejoin("0"))
    await ledger.RecordPurchase(purchase("p"))
    await ledger.ResignMember(resign("1"))
    with refused("MEMBERSHIP_CHANGED_LATER"):
        await ledger.RejoinMember(rejoin("2", NOON))
    with refused("MEMBER_EXISTS", grpc.StatusCode.ALREADY_EXISTS):
        await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="again", member_id=M))
    back = await ledger.RejoinMember(rejoin("3"))
    assert (back.receipt.points, back.receipt.available_points) == (0, 1000)
    found = await member(ledger)
    assert (found.status, found.joined_time, found.rejoined_time) == (
        member_pb2.MEMBER_STATUS_ACTIVE,
        joined,
        at(NEXT_DAY),
    )
    assert not found.HasField("resigned_time")
    (entry,) = await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_MEMBER_REJOINED])
    assert entry.channel == "web"
    with refused("MEMBER_RESIGNED"):
        await ledger.RecordPurchase(purchase("away", 500, occurred_time=at("1970-01-02T11:59:59Z")))
    assert (await ledger.RecordPurchase(purchase("here", 500, occurred_time=at(NEXT_DAY)))).receipt.points == 5


async def test_an_activity_gives_the_programme_s_points_and_is_listed_with_what_it_was_about(ledger: Ledger) -> None:
    receipt = (await ledger.RecordActivity(activity("1", reference="review 17", channel="app"))).receipt
    assert [(rule.rule, rule.points, rule.reason) for rule in receipt.rules] == [("activity", 25, "for an activity")]
    assert (await ledger.RecordActivity(activity("2", "cartwheel"))).receipt.points == 0
    entries = await ledger.entries(kinds=[entry_pb2.ENTRY_KIND_ACTIVITY_RECORDED])
    assert [(one.reference, one.detail.activity_reference, one.channel) for one in entries] == [
        ("cartwheel", "", ""),
        ("review", "review 17", "app"),
    ]
    assert (await ledger.balance()).available_points == 25


async def test_a_membership_fee_is_in_the_feed_with_its_plan_and_its_time(ledger: Ledger) -> None:
    receipt = (await ledger.RecordMembershipFee(fee("1"))).receipt
    assert (receipt.points, receipt.available_points) == (0, 0)
    with refused("PLAN_UNKNOWN"):
        await ledger.RecordMembershipFee(fee("2", "gold"))
    with refused("INVALID_FIELD", INVALID) as caught:
        await ledger.RecordMembershipFee(fee("3", end_time=at(NOON)))
    (violation,) = details_of(caught.value)["BadRequest"].field_violations
    assert violation.field == "end_time"
    with refused("CURRENCY_MISMATCH", INVALID):
        await ledger.RecordMembershipFee(fee("4", amount=money(4900, "EUR")))
    streamed = [entry async for part in ledger.StreamEntries(pb.StreamEntriesRequest()) for entry in part.entries]
    (entry,) = [one for one in streamed if one.kind == entry_pb2.ENTRY_KIND_MEMBERSHIP_FEE_RECORDED]
    assert (entry.reference, entry.amount, entry.effective_time, entry.expire_time) == (
        "plus",
        money(4900),
        at(NOON),
        at("1971-01-01T12:00:00Z"),
    )


async def test_a_suspended_account_earns_nothing_and_its_points_are_frozen(ledger: Ledger) -> None:
    await ledger.RecordPurchase(purchase("p", occurred_time=at("1970-01-01T11:00:00Z")))
    held = pb.HoldPointsRequest(request_id="h", member_id=M, points=10)
    await ledger.HoldPoints(held)
    assert (await ledger.SetEarningClass(earning_class("suspended", 1))).applied
    await ledger.advance(NOON)
    assert (await member(ledger)).earning_class == "suspended"
    receipt = (await ledger.RecordPurchase(purchase("q"))).receipt
    assert [(rule.rule, rule.points, rule.reason) for rule in receipt.rules] == [
        ("suspended", 0, "nothing: the account was suspended")
    ]
    with refused("ACCOUNT_SUSPENDED"):
        await ledger.RedeemPoints(redeem("1", 100))
    with refused("ACCOUNT_SUSPENDED"):
        await ledger.HoldPoints(pb.HoldPointsRequest(request_id="2", member_id=M, points=10))
    await ledger.SetEarningClass(earning_class("white", 2))
    assert (await ledger.RedeemPoints(redeem("3", 100))).receipt.points == -100


async def test_a_hold_of_a_suspended_account_is_not_captured(ledger: Ledger) -> None:
    await ledger.RecordPurchase(purchase("p", occurred_time=at("1970-01-01T00:00:01Z")))
    await ledger.HoldPoints(pb.HoldPointsRequest(request_id="h", member_id=M, points=10))
    await ledger.SetEarningClass(earning_class("suspended", 1, "1970-01-01T00:00:00Z"))
    with refused("ACCOUNT_SUSPENDED"):
        await ledger.CaptureHold(pb.CaptureHoldRequest(request_id="1", member_id=M, hold_id="h"))
    assert (
        await ledger.ReleaseHold(pb.ReleaseHoldRequest(request_id="2", member_id=M, hold_id="h"))
    ).receipt.available_points == 1000


async def test_a_member_of_a_market_buys_in_its_currency_and_in_those_it_has_a_rate_for(ledger: Ledger) -> None:
    with refused("MARKET_UNKNOWN", INVALID):
        await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="1", member_id="a", market="de"))
    with refused("INVALID_FIELD", INVALID):
        await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="1", member_id="a", market="US"))
    joined = await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="1", member_id="a", market="us"))
    assert (joined.member.market, (await member(ledger, "a")).market) == ("us", "us")
    streamed = [entry async for part in ledger.StreamEntries(pb.StreamEntriesRequest()) for entry in part.entries]
    assert {entry.member_id: entry.market for entry in streamed} == {M: "", "a": "us"}

    dollars = await ledger.RecordPurchase(purchase("d", 10000, member_id="a", amount=money(10000, "USD")))
    assert dollars.receipt.points == 200
    # 99.99 PLN are 25.00 USD (24.9975).
    zloty = await ledger.RecordPurchase(purchase("z", member_id="a", amount=money(9999)))
    assert [(rule.points, rule.reason) for rule in zloty.receipt.rules] == [
        (50, "1 point per 0.50 USD of 99.99 PLN (25.00 USD)")
    ]
    with refused("CURRENCY_MISMATCH", INVALID):
        await ledger.RecordPurchase(purchase("e", member_id="a", amount=money(1000, "EUR")))


async def test_a_purchase_in_another_currency_comes_back_in_it_and_takes_what_it_gave(ledger: Ledger) -> None:
    bought = await ledger.RecordPurchase(purchase("u", amount=money(1333, "USD")))
    assert bought.receipt.points == 53
    back = {"member_id": M, "occurred_time": at(NOON)}
    with refused("RETURN_CURRENCY_DIFFERS"):
        await ledger.RecordReturn(pb.RecordReturnRequest(request_id="1", purchase_id="u", amount=money(100), **back))
    half = await ledger.RecordReturn(
        pb.RecordReturnRequest(request_id="2", purchase_id="u", amount=money(666, "USD"), **back)
    )
    # 6.67 USD remain: 26.68 PLN.
    assert half.receipt.points == -(53 - 26)
    found = (await ledger.GetPurchase(pb.GetPurchaseRequest(member_id=M, purchase_id="u"))).purchase
    assert (found.amount, found.returned_amount) == (money(1333, "USD"), money(666, "USD"))
    assert found.rules[0].reason == "1 point per 1.00 PLN of 13.33 USD (53.32 PLN)"
    rest = await ledger.RecordReturn(
        pb.RecordReturnRequest(request_id="3", purchase_id="u", amount=money(667, "USD"), **back)
    )
    assert (rest.receipt.points, rest.receipt.available_points) == (-26, 0)


async def test_a_return_that_waits_is_kept_with_its_currency(ledger: Ledger) -> None:
    for request_id, amount in (("1", money(400)), ("2", money(300, "USD"))):
        waiting = await ledger.RecordReturn(
            pb.RecordReturnRequest(
                request_id=request_id, member_id=M, purchase_id="u", amount=amount, occurred_time=at(NOON)
            )
        )
        assert waiting.state == pb.RETURN_STATE_WAITING
    await ledger.RecordPurchase(purchase("u", amount=money(1000, "USD")))
    settled = await ledger.entries(purchase_id="u")
    assert [(entry.request_id, entry.kind, entry.reason) for entry in settled[:2]] == [
        ("2", entry_pb2.ENTRY_KIND_RETURN_RECORDED, ""),
        ("1", entry_pb2.ENTRY_KIND_REQUEST_REFUSED, "RETURN_CURRENCY_DIFFERS"),
    ]
    assert (await ledger.balance()).available_points == 28


@pytest.mark.parametrize("streamed", [False, True])
async def test_lists_of_writes_take_all_of_these_too(ledger: Ledger, streamed: bool) -> None:
    requests = [activity("1"), fee("2"), resign("3"), resign("4", NEXT_DAY), rejoin("5"), activity("6", member_id="x")]
    writes = [write(request) for request in requests]
    if streamed:
        responses = [one async for one in ledger.RecordStream(_sent([pb.RecordStreamRequest(writes=writes)]))]
        outcomes = [outcome for response in responses for outcome in response.outcomes]
    else:
        outcomes = list((await ledger.BatchRecord(pb.BatchRecordRequest(writes=writes))).outcomes)
    assert [outcome.WhichOneof("outcome") for outcome in outcomes] == [
        "record_activity",
        "record_membership_fee",
        "resign_member",
        "error",
        "rejoin_member",
        "error",
    ]
    assert outcomes[0].record_activity.receipt.points == 25


async def _sent(requests: Sequence[pb.RecordStreamRequest]) -> AsyncIterator[pb.RecordStreamRequest]:
    for request in requests:
        yield request
