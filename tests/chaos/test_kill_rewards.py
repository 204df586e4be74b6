"""kill -9 while members get rewards for points: the points go and the coupon comes, or neither, and never twice."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc
from loyalty.notifier.v1 import coupon_pb2 as pb
from loyalty.notifier.v1 import coupon_pb2_grpc

from services.cli.installation import Connection, connection
from services.cli.remote import RemoteError, call, open_service
from tests.chaos.test_kill import loyalty, pid_of
from tests.conftest import PROGRAMMES

MEMBERS = 40
# Each member asks three times, and has the points for two.
ASKED = 3
PRICE, POINTS = 300, 700
STOCK = 70
VICTIMS = ("notifier", "ledger", "postgres")
# A reward for each; members are called by the victim, too.
REWARDS = "rewards:\n" + "".join(
    f"""
  - id: mug-{victim}
    points: {PRICE}
    stock: {STOCK}
    coupon: {{prefix: MUG, free_product: mug-1, valid: P30D}}
    texts: {{en: {{name: Mug}}}}
"""
    for victim in VICTIMS
)


@pytest.fixture(scope="module")
def stack() -> Iterator[Connection]:
    """The whole platform as processes of its own."""
    directory = Path(tempfile.mkdtemp(prefix="ly-kill-"))
    programme = directory.with_suffix(".yaml")
    programme.write_text((PROGRAMMES / "tiered-365.yaml").read_text() + REWARDS)
    started = loyalty("up", "--data", str(directory), "--programme", str(programme), "--port", "0", "--detach")
    assert started.returncode == 0, started.stderr
    try:
        yield connection(directory)
    finally:
        loyalty("down", "--data", str(directory))
        shutil.rmtree(directory, ignore_errors=True)
        programme.unlink()


@pytest.mark.parametrize("victim", VICTIMS)
async def test_kill_9_while_rewards_are_given_leaves_each_whole_or_not_there(stack: Connection, victim: str) -> None:
    channels = [open_service(stack, name) for name in ("ledger", "notifier")]
    ledger = ledger_service_pb2_grpc.LedgerServiceStub(channels[0])
    rewards = coupon_pb2_grpc.RewardServiceStub(channels[1])
    start = ledger_pb.BatchRecordRequest()
    for number in range(MEMBERS):
        member_id = f"{victim}-{number}"
        start.writes.add(enroll_member=ledger_pb.EnrollMemberRequest(request_id="e", member_id=member_id))
        award = ledger_pb.AwardPointsRequest(request_id="a", member_id=member_id, points=POINTS, reason="test")
        start.writes.add(award_points=award)
    await call(ledger.BatchRecord, start)

    asked = iter([(number, time) for time in range(ASKED) for number in range(MEMBERS)])
    marks = {20: asyncio.Event(), 60: asyncio.Event()}
    outcomes: dict[tuple[int, int], str] = {}

    async def ask(number: int, time: int) -> str:
        request = pb.RedeemRewardRequest(
            request_id=f"r-{time}", member_id=f"{victim}-{number}", reward_id=f"mug-{victim}"
        )
        try:
            return str((await call(rewards.RedeemReward, request)).coupon.code)
        except RemoteError as error:
            return error.reason

    async def ask_all() -> None:
        for number, time in asked:
            outcomes[number, time] = await ask(number, time)
            if len(outcomes) in marks:
                marks[len(outcomes)].set()

    async def kill() -> None:
        for mark in marks.values():
            await mark.wait()
            os.kill(pid_of(stack.installation.directory, victim), signal.SIGKILL)

    async with asyncio.TaskGroup() as group:
        group.create_task(kill())
        for _ in range(8):
            group.create_task(ask_all())

    again = {place: await ask(*place) for place in outcomes}
    assert again == outcomes, "an answer is an answer for ever"
    given: Counter[int] = Counter()
    for number in range(MEMBERS):
        listed = await call(rewards.ListCoupons, pb.ListCouponsRequest(member_id=f"{victim}-{number}"))
        codes = {outcomes[number, time] for time in range(ASKED)} - {"NOT_ENOUGH_POINTS", "OUT_OF_STOCK"}
        assert {coupon.code for coupon in listed.coupons} == codes
        given[number] = len(codes)
        balance = await call(ledger.GetBalance, ledger_pb.GetBalanceRequest(member_id=f"{victim}-{number}"))
        assert balance.balance.available_points == POINTS - PRICE * len(codes)
        assert balance.balance.held_points == 0
    assert given.total() == STOCK
    checked = loyalty("check", "--data", str(stack.installation.directory))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for channel in channels:
        await channel.close()
