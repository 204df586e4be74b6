"""Exchanges as tiers take them in from the ledger: both sides are judged together."""

from __future__ import annotations

from datetime import UTC, timedelta

import asyncpg
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb
from loyalty.tiers.v1 import tier_service_pb2 as pb
from loyalty.type.v1.money_pb2 import Money

from services.runtime.database import load_queries
from tests.conftest import ROOT, Database
from tests.tiers_desk import PROGRAMME, SECONDS, OpenShop, Till, at, stamp

DAY = at("2024-02-01T00:00")
BOUGHT = at("2024-02-01T10:00")
SWAPPED = at("2024-03-01T10:00")
HOUR = timedelta(hours=1)


def given_back(minor_units: int) -> ledger_pb.Write:
    request = ledger_pb.RecordReturnRequest(
        request_id="back",
        member_id="m-1",
        purchase_id="p-1",
        occurred_time=stamp(SWAPPED),
        amount=Money(currency_code="PLN", minor_units=minor_units),
        exchange_id="x-1",
    )
    return ledger_pb.Write(record_return=request)


def taken(minor_units: int) -> ledger_pb.Write:
    request = ledger_pb.RecordPurchaseRequest(
        request_id="taken",
        member_id="m-1",
        purchase_id="p-2",
        occurred_time=stamp(SWAPPED),
        amount=Money(currency_code="PLN", minor_units=minor_units),
        exchange_id="x-1",
    )
    return ledger_pb.Write(record_purchase=request)


async def sent(till: Till, *writes: ledger_pb.Write) -> str:
    answer = await till.stub.BatchRecord(ledger_pb.BatchRecordRequest(writes=writes), timeout=SECONDS)
    assert not any(outcome.HasField("error") for outcome in answer.outcomes)
    return str(answer.causal_token)


async def test_both_sides_in_one_batch_or_one_after_the_other_tell_no_dip(open_shop: OpenShop) -> None:
    till, desk = await open_shop(PROGRAMME.read_text())
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    await till.buy("m-1", 32_000, BOUGHT, "p-1")
    await till.advance(SWAPPED)
    token = await sent(till, given_back(32_000))
    waiting = await desk.standing("m-1", token)
    assert (waiting.tier, waiting.balance.minor_units) == ("Green", 32_000)
    _, lines = await desk.explained("m-1", token)
    assert [line.not_counted_reason for line in lines] == [
        pb.NOT_COUNTED_REASON_UNSPECIFIED,
        pb.NOT_COUNTED_REASON_EXCHANGE_WAITS,
    ]
    standing = await desk.standing("m-1", await sent(till, taken(31_000)))
    assert (standing.tier, standing.balance.minor_units) == ("Green", 31_000)
    assert standing.since_time.ToDatetime(UTC) == BOUGHT
    token = await till.advance(SWAPPED + timedelta(days=1))
    assert await desk.count(token) == {"White": 0, "Green": 1, "Silver": 0, "Golden": 0}
    # Also at an instant of the past.
    assert await desk.count(token, SWAPPED - HOUR) == {"White": 0, "Green": 1, "Silver": 0, "Golden": 0}
    assert [change.to_tier for change in await desk.changes()] == ["Green"]
    assert await till.classes("m-1") == [("green", at("2024-02-01T23:00"))]


async def test_a_third_entry_of_the_same_instant_takes_back_what_two_sides_told(open_shop: OpenShop) -> None:
    till, desk = await open_shop(PROGRAMME.read_text())
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    await till.buy("m-1", 50_000, BOUGHT, "p-0")
    await till.buy("m-1", 49_000, BOUGHT, "p-1")
    await till.advance(SWAPPED)
    other = given_back(50_000)
    other.record_return.MergeFrom(ledger_pb.RecordReturnRequest(request_id="other", purchase_id="p-0"))
    between = await desk.standing("m-1", await sent(till, taken(99_000), other))
    assert (between.tier, between.balance.minor_units) == ("Silver", 148_000)
    standing = await desk.standing("m-1", await sent(till, given_back(49_000)))
    assert (standing.tier, standing.balance.minor_units) == ("Green", 99_000)
    assert standing.since_time.ToDatetime(UTC) == BOUGHT
    changes = await desk.changes()
    assert [change.to_tier for change in changes] == ["Green", "Silver", "Green"]
    assert (changes[-1].reason, changes[-1].corrects_sequence) == (pb.CHANGE_REASON_CORRECTED, changes[-2].sequence)
    token = await till.advance(SWAPPED + HOUR)
    assert (await desk.standing("m-1", token)).since_time.ToDatetime(UTC) == BOUGHT
    assert len(await desk.changes()) == 3


async def test_a_side_that_stays_alone_counts_when_an_hour_has_passed(open_shop: OpenShop) -> None:
    till, desk = await open_shop(PROGRAMME.read_text())
    await till.advance(DAY)
    await till.enroll("m-1", DAY)
    await till.buy("m-1", 32_000, BOUGHT, "p-1")
    await till.advance(SWAPPED)
    await sent(till, given_back(32_000))
    token = await till.advance(SWAPPED + HOUR - timedelta(microseconds=1))
    assert (await desk.standing("m-1", token)).tier == "Green"
    token = await till.advance(SWAPPED + HOUR)
    standing = await desk.standing("m-1", token)
    assert (standing.tier, standing.balance.minor_units) == ("White", 0)
    assert await desk.count(token, SWAPPED) == {"White": 0, "Green": 1, "Silver": 0, "Golden": 0}
    change = (await desk.changes())[-1]
    assert (change.to_tier, change.due_time.ToDatetime(UTC)) == ("White", SWAPPED + HOUR)


async def test_what_comes_back_finds_its_purchase_by_an_index_alone(database: Database, open_shop: OpenShop) -> None:
    till, desk = await open_shop(PROGRAMME.read_text())
    await till.advance(DAY)
    token = await till.enroll("m-1", DAY)
    await desk.standing("m-1", token)
    query = load_queries(ROOT / "services/tiers/sql/queries.sql")["read_purchase_times"]
    connection = await asyncpg.connect(database.dsn("loyalty_tiers"))
    try:
        transaction = connection.transaction()
        await transaction.start()
        # A company: all that it bought is of one member.
        await connection.execute(
            "INSERT INTO tiers.facts (partition, member_id, occurred_time, ledger_offset, number, kind, recorded_time,"
            " applied_time, total, goods_paid, points, purchase_id, name, reason, principal)"
            " SELECT 0, 'company', now() + n * interval '1 second', n, 0, 2, now(), now(), 1, 1, 1, 'p-' || n, '', '',"
            " '' FROM generate_series(1, 20000) AS n"
        )
        plan = "\n".join(
            row[0]
            for row in await connection.fetch(
                f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {query}", [0], ["company"], ["p-777"]
            )
        )
        await transaction.rollback()
    finally:
        await connection.close()
    assert "facts_purchases" in plan
    assert "Seq Scan" not in plan
    assert "Rows Removed" not in plan
