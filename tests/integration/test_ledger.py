"""The ledger over real gRPC and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from loyalty.ledger.v1 import entry_pb2, ledger_service_pb2_grpc
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.type.v1.money_pb2 import Money

from tests.conftest import PROGRAMMES, Database, StartLedger


def stub_of(channel: Any) -> Any:
    return ledger_service_pb2_grpc.LedgerServiceStub(channel)


def purchase(request_id: str, minor_units: int, member_id: str = "m-1", **more: Any) -> pb.RecordPurchaseRequest:
    request = pb.RecordPurchaseRequest(
        request_id=request_id,
        member_id=member_id,
        amount=Money(currency_code=more.pop("currency", "PLN"), minor_units=minor_units),
        **more,
    )
    if not request.HasField("occurred_time"):
        request.occurred_time.FromJsonString("1970-01-01T12:00:00Z")
    return request


def returned(request_id: str, minor_units: int, member_id: str = "m-1", **more: Any) -> pb.RecordReturnRequest:
    request = pb.RecordReturnRequest(
        request_id=request_id,
        member_id=member_id,
        amount=Money(currency_code="PLN", minor_units=minor_units),
        **more,
    )
    request.occurred_time.FromJsonString("1970-01-01T13:00:00Z")
    return request


def reason_of(error: grpc.aio.AioRpcError) -> str:
    return details_of(error)[0].reason


def details_of(error: grpc.aio.AioRpcError) -> tuple[Any, Any]:
    metadata = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info) or detail.Unpack(bad)
    assert info.domain == "loyalty"
    return info, bad


async def test_a_purchase_gives_points_and_says_which_rule_gave_them(start_ledger: StartLedger) -> None:
    ledger = stub_of(await start_ledger())
    await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="e", member_id="m-1"), timeout=5)
    answer = await ledger.RecordPurchase(purchase("p", 29599), timeout=5)
    assert answer.receipt.points == 295
    assert [(rule.rule, rule.points) for rule in answer.receipt.rules] == [("base", 295)]
    assert answer.receipt.rules[0].reason == "1 point per 1.00 PLN of 295.99 PLN"
    assert answer.receipt.available_points == 295
    balance = (await ledger.GetBalance(pb.GetBalanceRequest(member_id="m-1"), timeout=5)).balance
    assert (balance.available_points, balance.debt_points, balance.earned_points) == (295, 0, 295)


async def test_the_same_request_gets_the_same_answer_and_other_content_is_refused(start_ledger: StartLedger) -> None:
    ledger = stub_of(await start_ledger())
    await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="e", member_id="m-1"), timeout=5)
    first = await ledger.RecordPurchase(purchase("p", 10000), timeout=5)
    again = await ledger.RecordPurchase(purchase("p", 10000), timeout=5)
    assert again.replayed
    assert again.receipt == first.receipt
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ledger.RecordPurchase(purchase("p", 10001), timeout=5)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    info, _ = details_of(caught.value)
    assert (info.reason, info.metadata["field"]) == ("REQUEST_ID_REUSED", "amount")
    balance = (await ledger.GetBalance(pb.GetBalanceRequest(member_id="m-1"), timeout=5)).balance
    assert balance.available_points == 100


async def test_a_refusal_is_an_answer_and_is_kept(start_ledger: StartLedger) -> None:
    ledger = stub_of(await start_ledger())
    await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="e", member_id="m-1"), timeout=5)
    await ledger.RecordPurchase(purchase("p", 10000, purchase_id="r-1"), timeout=5)
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ledger.RecordReturn(returned("r", 10001, purchase_id="r-1"), timeout=5)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert reason_of(caught.value) == "RETURN_EXCEEDS_PURCHASE"
    entries = (await ledger.ListEntries(pb.ListEntriesRequest(member_id="m-1"), timeout=5)).entries
    assert [entry.kind for entry in entries] == [
        entry_pb2.ENTRY_KIND_REQUEST_REFUSED,
        entry_pb2.ENTRY_KIND_PURCHASE_RECORDED,
        entry_pb2.ENTRY_KIND_MEMBER_JOINED,
    ]


async def test_partial_returns_take_what_the_purchase_gave_and_the_last_one_takes_the_rest(
    start_ledger: StartLedger,
) -> None:
    ledger = stub_of(await start_ledger())
    await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="e", member_id="m-1"), timeout=5)
    await ledger.RecordPurchase(purchase("p", 9999, purchase_id="r-1"), timeout=5)
    taken = [
        (await ledger.RecordReturn(returned(f"r{n}", 3333, purchase_id="r-1"), timeout=5)).receipt.points
        for n in range(3)
    ]
    assert sum(taken) == -99
    balance = (await ledger.GetBalance(pb.GetBalanceRequest(member_id="m-1"), timeout=5)).balance
    assert balance.available_points == 0


async def test_an_unlinked_return_of_more_than_there_is_becomes_debt_that_is_paid_first(
    start_ledger: StartLedger,
) -> None:
    ledger = stub_of(await start_ledger())
    await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="e", member_id="m-1"), timeout=5)
    receipt = (await ledger.RecordReturn(returned("r", 5000), timeout=5)).receipt
    assert (receipt.points, receipt.debt_points, receipt.available_points) == (-50, 50, 0)
    receipt = (await ledger.RecordPurchase(purchase("p", 8000), timeout=5)).receipt
    assert (receipt.points, receipt.debt_points_change, receipt.available_points) == (80, -50, 30)


async def test_a_linked_return_waits_for_its_purchase(start_ledger: StartLedger) -> None:
    ledger = stub_of(await start_ledger())
    await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="e", member_id="m-1"), timeout=5)
    answer = await ledger.RecordReturn(returned("r", 4000, purchase_id="r-1"), timeout=5)
    assert answer.state == pb.RETURN_STATE_WAITING
    await ledger.RecordPurchase(purchase("p", 10000, purchase_id="r-1"), timeout=5)
    balance = (await ledger.GetBalance(pb.GetBalanceRequest(member_id="m-1"), timeout=5)).balance
    assert balance.available_points == 60


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (purchase("", 100), "request_id"),
        (purchase("p", 100, member_id=""), "member_id"),
        (purchase("p", 0), "amount.minor_units"),
        (purchase("p", -5), "amount.minor_units"),
        (purchase("p", 100, currency="EUR"), "amount.currency_code"),
        (purchase("p", 100, store_id="a\0b"), "store_id"),
        (purchase("p", 100, store_id="x" * 1000), "store_id"),
        (purchase("p", 100, lines=[pb.Line(sku="a", amount_minor_units=99)]), "lines"),
        (purchase("p", 100, lines=[pb.Line(sku="a\0", amount_minor_units=100)]), "lines[0].sku"),
        (pb.RecordPurchaseRequest(request_id="p", member_id="m-1"), "amount"),
    ],
)
async def test_bad_input_names_the_field_and_writes_nothing(
    start_ledger: StartLedger, request_: pb.RecordPurchaseRequest, field: str
) -> None:
    ledger = stub_of(await start_ledger())
    await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="e", member_id="m-1"), timeout=5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ledger.RecordPurchase(request_, timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in [violation.field for violation in details_of(caught.value)[1].field_violations]
    entries = (await ledger.ListEntries(pb.ListEntriesRequest(member_id="m-1"), timeout=5)).entries
    assert len(entries) == 1


async def test_one_bad_write_of_a_batch_fails_alone(start_ledger: StartLedger) -> None:
    ledger = stub_of(await start_ledger())
    batch = pb.BatchRecordRequest()
    batch.writes.add().enroll_member.CopyFrom(pb.EnrollMemberRequest(request_id="e", member_id="m-1"))
    batch.writes.add().record_purchase.CopyFrom(purchase("p1", 10000))
    batch.writes.add().record_purchase.CopyFrom(purchase("p2", -1))
    batch.writes.add().record_purchase.CopyFrom(purchase("p3", 100, member_id="nobody"))
    batch.writes.add()
    batch.writes.add().record_purchase.CopyFrom(purchase("p4", 20000))
    answer = await ledger.BatchRecord(batch, timeout=5)
    assert [outcome.WhichOneof("outcome") for outcome in answer.outcomes] == [
        "enroll_member",
        "record_purchase",
        "error",
        "error",
        "error",
        "record_purchase",
    ]
    assert answer.outcomes[5].record_purchase.receipt.available_points == 300
    assert answer.causal_token.count("-") == 1


async def test_a_thousand_purchases_at_once_are_all_counted_once(start_ledger: StartLedger) -> None:
    ledger = stub_of(await start_ledger())
    await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="e", member_id="m-1"), timeout=5)
    await asyncio.gather(*(ledger.RecordPurchase(purchase(f"p{n % 500}", 100), timeout=30) for n in range(1000)))
    balance = (await ledger.GetBalance(pb.GetBalanceRequest(member_id="m-1"), timeout=5)).balance
    assert balance.available_points == 500


async def test_the_feed_gives_every_partition_in_order_and_goes_on_live(start_ledger: StartLedger) -> None:
    ledger = stub_of(await start_ledger(partitions=4))
    batch = pb.BatchRecordRequest()
    for number in range(300):
        batch.writes.add().enroll_member.CopyFrom(
            pb.EnrollMemberRequest(request_id=f"e{number}", member_id=f"m-{number}")
        )
    await ledger.BatchRecord(batch, timeout=10)
    stream = ledger.StreamEntries(pb.StreamEntriesRequest(follow=True), timeout=20)
    seen: dict[int, list[int]] = {}
    received = 0
    late = False
    async for response in stream:
        for entry in response.entries:
            seen.setdefault(entry.partition, []).append(entry.offset)
            received += 1
        if received == 300 and not late:
            late = True
            await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="late", member_id="late"), timeout=5)
        if received == 301:
            break
    stream.cancel()
    for offsets in seen.values():
        assert offsets == list(range(1, len(offsets) + 1))


async def test_calls_without_a_token_or_with_a_wrong_one_are_unauthenticated(
    start_ledger: StartLedger, folder: Any
) -> None:
    await start_ledger()
    for metadata, reason in (
        ((), "TOKEN_MISSING"),
        ((("authorization", "Bearer test.wrong"),), "TOKEN_INVALID"),
    ):
        async with grpc.aio.insecure_channel(f"unix:{folder}/ledger.sock") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub_of(channel).GetProgramme(pb.GetProgrammeRequest(), metadata=metadata, timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert reason_of(caught.value) == reason


async def test_entries_cannot_be_changed_by_the_service_nor_by_anyone_else(
    start_ledger: StartLedger, database: Database
) -> None:
    ledger = stub_of(await start_ledger())
    await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="e", member_id="m-1"), timeout=5)
    for role in ("loyalty_ledger", "loyalty_owner"):
        connection = await asyncpg.connect(database.dsn(role))
        try:
            for statement in (
                "UPDATE ledger.entries SET member_id = 'x'",
                "DELETE FROM ledger.entries",
                "TRUNCATE ledger.entries",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        finally:
            await connection.close()


async def test_purchases_earn_in_the_class_that_was_in_force_when_they_happened(start_ledger: StartLedger) -> None:
    ledger = stub_of(await start_ledger(programme=PROGRAMMES / "retail-demo.yaml"))
    await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="e", member_id="m-1"), timeout=5)
    change = pb.SetEarningClassRequest(request_id="c", member_id="m-1", earning_class="golden", sequence=1)
    change.effective_time.FromJsonString("1970-01-01T12:30:00Z")
    assert (await ledger.SetEarningClass(change, timeout=5)).applied
    early = await ledger.RecordPurchase(purchase("p1", 10000, currency="USD"), timeout=5)
    later = purchase("p2", 10000, currency="USD")
    later.occurred_time.FromJsonString("1970-01-01T12:30:00Z")
    late = await ledger.RecordPurchase(later, timeout=5)
    assert (early.receipt.points, late.receipt.points) == (100, 200)
    old = pb.SetEarningClassRequest(request_id="c0", member_id="m-1", earning_class="green", sequence=1)
    old.effective_time.FromJsonString("1970-01-01T12:30:00Z")
    assert not (await ledger.SetEarningClass(old, timeout=5)).applied


async def test_a_replay_is_the_same_answer_whole_also_with_what_the_first_one_caused(start_ledger: StartLedger) -> None:
    ledger = stub_of(await start_ledger())
    await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="e", member_id="m-1"), timeout=5)
    for number in range(2):
        await ledger.RecordReturn(returned(f"r{number}", 100, purchase_id="late"), timeout=5)
    first = await ledger.RecordPurchase(purchase("p", 1000, purchase_id="late"), timeout=5)
    again = await ledger.RecordPurchase(purchase("p", 1000, purchase_id="late"), timeout=5)
    assert again.replayed
    again.replayed = False
    assert again == first


async def test_a_request_that_changed_nothing_keeps_its_answer_too(start_ledger: StartLedger) -> None:
    ledger = stub_of(await start_ledger())
    await ledger.EnrollMember(pb.EnrollMemberRequest(request_id="e", member_id="m-1"), timeout=5)

    def change(request_id: str, sequence: int) -> pb.SetEarningClassRequest:
        request = pb.SetEarningClassRequest(
            request_id=request_id, member_id="m-1", earning_class="green", sequence=sequence
        )
        request.effective_time.FromJsonString("1970-01-01T12:30:00Z")
        return request

    assert (await ledger.SetEarningClass(change("c5", 5), timeout=5)).applied
    assert not (await ledger.SetEarningClass(change("c4", 4), timeout=5)).applied
    assert (await ledger.SetEarningClass(change("c4", 4), timeout=5)).replayed
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ledger.SetEarningClass(change("c4", 9), timeout=5)
    assert reason_of(caught.value) == "REQUEST_ID_REUSED"


async def test_the_clock_is_advanced_once_by_one_request(start_ledger: StartLedger) -> None:
    ledger = stub_of(await start_ledger())

    def to(time: str) -> pb.AdvanceClockRequest:
        request = pb.AdvanceClockRequest(request_id="c")
        request.to_time.FromJsonString(time)
        return request

    assert not (await ledger.AdvanceClock(to("1970-01-02T00:00:00Z"), timeout=5)).replayed
    assert (await ledger.AdvanceClock(to("1970-01-02T00:00:00Z"), timeout=5)).replayed
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ledger.AdvanceClock(to("1970-01-03T00:00:00Z"), timeout=5)
    assert reason_of(caught.value) == "REQUEST_ID_REUSED"


async def test_ids_of_the_platform_itself_are_not_for_callers(start_ledger: StartLedger) -> None:
    ledger = stub_of(await start_ledger())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ledger.RecordPurchase(purchase("~tiers/class/1", 100), timeout=5)
    assert details_of(caught.value)[1].field_violations[0].field == "request_id"


async def test_what_is_no_message_is_an_invalid_argument(start_ledger: StartLedger) -> None:
    channel = await start_ledger()
    call = channel.unary_unary("/loyalty.ledger.v1.LedgerService/GetMember")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\xff\xff\xff", timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) == "INVALID_FIELD"


@pytest.mark.parametrize("nanos", [-5, 2_000_000_000])
async def test_a_time_that_is_none_names_its_field(start_ledger: StartLedger, nanos: int) -> None:
    ledger = stub_of(await start_ledger())
    request = purchase("p", 100)
    request.occurred_time.nanos = nanos
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ledger.RecordPurchase(request, timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details_of(caught.value)[1].field_violations[0].field == "occurred_time"
