"""kill -9 in the middle of a load: what was acknowledged is there, once, and the check of everything is clean."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc
from loyalty.notifier.v1 import notifier_service_pb2 as notifier_pb
from loyalty.notifier.v1 import notifier_service_pb2_grpc
from loyalty.tiers.v1 import tier_service_pb2 as tiers_pb
from loyalty.tiers.v1 import tier_service_pb2_grpc
from loyalty.type.v1.money_pb2 import Money

from services.cli.installation import Connection, connection
from services.cli.remote import open_service
from services.runtime.causality import format_token, merge, parse_token
from tests.conftest import PROGRAMMES
from tests.till import until_answered

LOYALTY = Path(sys.executable).parent / "loyalty"
MEMBERS = 40
BATCHES = 60
PER_BATCH = 50
# Every member buys for 750.00 in all: Green, and one coupon.
PRICE = 1000
CAMPAIGN = """
campaigns:
  - id: green-reached
    trigger: tier_reached
    tiers: [green]
    coupon: {prefix: GREEN, discount_percent: "5", valid: P30D}
    message: {subject: "Green", text: "Your code: {{ code }}"}
"""


def loyalty(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(LOYALTY), *arguments], capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture
def stack() -> Iterator[Connection]:
    """The whole platform as processes of its own."""
    directory = Path(tempfile.mkdtemp(prefix="ly-kill-"))
    programme = directory.with_suffix(".yaml")
    programme.write_text((PROGRAMMES / "tiered-365.yaml").read_text() + CAMPAIGN)
    started = loyalty("up", "--data", str(directory), "--programme", str(programme), "--port", "0", "--detach")
    assert started.returncode == 0, started.stderr
    try:
        yield connection(directory)
    finally:
        loyalty("down", "--data", str(directory))
        shutil.rmtree(directory, ignore_errors=True)
        programme.unlink()


def pid_of(directory: Path, child: str) -> int:
    state = json.loads((directory / "run" / "state.json").read_text())
    return int(state["children"][child]["pid"])


def batch_of(number: int) -> pb.BatchRecordRequest:
    batch = pb.BatchRecordRequest()
    for place in range(PER_BATCH):
        batch.writes.add(
            record_purchase=pb.RecordPurchaseRequest(
                request_id=f"p-{number}-{place}",
                member_id=f"m-{(number + place) % MEMBERS}",
                amount=Money(currency_code="PLN", minor_units=PRICE),
                lines=[pb.Line(sku="a", amount_minor_units=PRICE)],
            )
        )
    return batch


@pytest.mark.parametrize("victim", ["ledger", "postgres"])
async def test_kill_9_in_the_middle_of_a_load_loses_nothing_and_does_nothing_twice(
    stack: Connection, victim: str
) -> None:
    directory = stack.installation.directory
    channel = open_service(stack, "ledger")
    ledger = ledger_service_pb2_grpc.LedgerServiceStub(channel)
    enrolment = pb.BatchRecordRequest()
    for number in range(MEMBERS):
        enrolment.writes.add(enroll_member=pb.EnrollMemberRequest(request_id="e", member_id=f"m-{number}"))
    await until_answered(ledger.BatchRecord, enrolment)

    marks = {BATCHES // 5: asyncio.Event(), BATCHES * 3 // 5: asyncio.Event()}
    numbers = iter(range(BATCHES))
    done = 0
    reached: dict[int, int] = {}

    async def send() -> None:
        nonlocal done, reached
        for number in numbers:
            answer = await until_answered(ledger.BatchRecord, batch_of(number))
            for outcome in answer.outcomes:
                assert outcome.WhichOneof("outcome") == "record_purchase", outcome.error
            reached = merge([reached, parse_token(answer.causal_token)])
            done += 1
            if done in marks:
                marks[done].set()

    async def kill() -> None:
        for mark in marks.values():
            await mark.wait()
            os.kill(pid_of(directory, victim), signal.SIGKILL)

    async with asyncio.TaskGroup() as group:
        group.create_task(kill())
        for _ in range(4):
            group.create_task(send())

    for number in (0, BATCHES // 2, BATCHES - 1):
        again = await until_answered(ledger.BatchRecord, batch_of(number))
        assert all(outcome.record_purchase.replayed for outcome in again.outcomes)
    total = 0
    for number in range(MEMBERS):
        request = pb.GetBalanceRequest(member_id=f"m-{number}")
        total += (await until_answered(ledger.GetBalance, request)).balance.available_points
    assert total == BATCHES * PER_BATCH * PRICE // 100

    token = format_token(reached)
    tiers_channel = open_service(stack, "tiers")
    tiers = tier_service_pb2_grpc.TierServiceStub(tiers_channel)
    counts = await until_answered(
        tiers.CountStandings, tiers_pb.CountStandingsRequest(causal_token=token, settled=True)
    )
    assert {count.tier: count.members for count in counts.counts if count.members} == {"Green": MEMBERS}
    notifier_channel = open_service(stack, "notifier")
    notifier = notifier_service_pb2_grpc.NotifierServiceStub(notifier_channel)
    deliveries = await until_answered(
        notifier.ListDeliveries, notifier_pb.ListDeliveriesRequest(page_size=1000, causal_token=token)
    )
    assert sorted(one.member_id for one in deliveries.deliveries) == sorted(f"m-{n}" for n in range(MEMBERS))
    for opened in (channel, tiers_channel, notifier_channel):
        await opened.close()

    checked = await asyncio.to_thread(loyalty, "check", "--data", str(directory), "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr
