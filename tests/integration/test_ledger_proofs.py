"""The proofs of the ledger: what an auditor can verify, and what the check finds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc
from loyalty.type.v1.money_pb2 import Money

from services.runtime.command import CheckReport
from tests.conftest import PROGRAMMES, ROOT, Database, StartLedger
from tests.ledger_checks import checked


async def fill(start_ledger: StartLedger) -> None:
    ledger = ledger_service_pb2_grpc.LedgerServiceStub(await start_ledger(partitions=2))
    batch = pb.BatchRecordRequest()
    for number in range(6):
        batch.writes.add(enroll_member=pb.EnrollMemberRequest(request_id="e", member_id=f"m{number}", channel="pos"))
        bought = batch.writes.add().record_purchase
        bought.CopyFrom(
            pb.RecordPurchaseRequest(
                request_id="p", member_id=f"m{number}", amount=Money(currency_code="PLN", minor_units=5000)
            )
        )
        bought.occurred_time.FromJsonString("1970-01-01T10:00:00Z")
        bought.lines.add(sku="tea-ü", amount_minor_units=5000)
    answer = await ledger.BatchRecord(batch, timeout=10)
    assert all(outcome.WhichOneof("outcome") != "error" for outcome in answer.outcomes)


async def report_of(database: Database) -> CheckReport:
    return await checked(database.dsn("loyalty_ledger"), PROGRAMMES / "tiered-365.yaml")


async def tampered(database: Database, statement: str) -> None:
    """As someone who owns the tables and switches the triggers off."""
    connection = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        await connection.execute("ALTER TABLE ledger.entries DISABLE TRIGGER USER")
        assert not (await connection.execute(statement)).endswith(" 0")
        await connection.execute("ALTER TABLE ledger.entries ENABLE TRIGGER USER")
    finally:
        await connection.close()


async def test_the_recipe_of_the_documentation_verifies_the_chain_and_finds_a_change(
    start_ledger: StartLedger, database: Database
) -> None:
    await fill(start_ledger)
    recipe = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "architecture.md").read_text(), re.DOTALL)
    assert recipe is not None
    names: dict[str, Any] = {}
    exec(recipe[1], names)
    connection = await asyncpg.connect(database.dsn("loyalty_ledger"))
    try:
        for partition in (0, 1):
            rows = await connection.fetch(
                "SELECT * FROM ledger.entries WHERE partition = $1 ORDER BY entry_offset", partition
            )
            assert names["verify"](rows) == "verified"
            changed = [dict(row) for row in rows]
            changed[1]["body"] = changed[1]["body"].replace("5000", "5001").replace("pos", "web")
            assert "does not follow" in names["verify"](changed)
    finally:
        await connection.close()


async def test_the_check_of_an_untouched_ledger_is_clean(
    start_ledger: StartLedger, database: Database, token_file: Path
) -> None:
    await fill(start_ledger)
    report = await report_of(database)
    assert report.differences == ()
    assert report.checked["entries"] == 12
    assert report.checked["points"] == 300


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (
            "UPDATE ledger.entries SET member_id = 'm9' WHERE member_id = 'm3' AND kind = 'PURCHASE_RECORDED'",
            "hash chain",
        ),
        (
            "UPDATE ledger.entries SET occurred_time = occurred_time + interval '1 s' WHERE member_id = 'm3'",
            "hash chain",
        ),
        ("DELETE FROM ledger.entries WHERE member_id = 'm3' AND kind = 'MEMBER_JOINED'", "offset without a gap"),
        ("UPDATE ledger.members SET available = available + 1 WHERE member_id = 'm3'", "state of a member"),
        ("UPDATE ledger.purchases SET grants = '[]' WHERE member_id = 'm3'", "state of a purchase"),
        ("DELETE FROM ledger.purchases WHERE member_id = 'm3'", "state of a purchase"),
        ("UPDATE ledger.entry_details SET detail = '{\"lines\":[]}'", "commitment to the detail"),
        ("UPDATE ledger.requests SET request = '\\x00' WHERE member_id = 'm3'", "hash of the request"),
        ("DELETE FROM ledger.requests WHERE member_id = 'm3' AND request_id = 'p'", "request of an entry"),
        ("UPDATE ledger.partitions SET members = members + 1", "number of members"),
    ],
)
async def test_the_check_finds_what_was_changed(
    start_ledger: StartLedger, database: Database, token_file: Path, statement: str, what: str
) -> None:
    await fill(start_ledger)
    await tampered(database, statement)
    report = await report_of(database)
    assert what in {difference["what"] for difference in report.differences}


async def test_without_its_detail_an_entry_keeps_its_proof_and_the_check_says_what_is_missing(
    start_ledger: StartLedger, database: Database, token_file: Path
) -> None:
    await fill(start_ledger)
    await tampered(database, "DELETE FROM ledger.entry_details")
    report = await report_of(database)
    assert {difference["what"] for difference in report.differences} == {"detail of an entry"}
    assert len(report.differences) == 6
