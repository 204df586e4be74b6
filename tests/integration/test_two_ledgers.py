"""Two ledgers in processes of their own serve one database at once: all that holds for one holds for both together."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc

from services.runtime.channels import open_channel
from tests.conftest import SECRET, Database
from tests.ledger_checks import checked
from tests.ledger_process import LedgerProcess, Nursery, nursery
from tests.till import until_answered

PROGRAMME = """
programme: two
currency: PLN
time_zone: Europe/Warsaw
earning: {base: total, points: 1, per: "1.00"}
expiry: {policy: after, period: P1Y}
tiers:
  base: total
  window: P365D
  levels: [{name: White}, {name: Green, from: "300.00"}]
"""

Tills = Sequence[Any]


@pytest.fixture(scope="module")
def processes() -> Iterator[Nursery]:
    with nursery() as made:
        yield made


@pytest_asyncio.fixture
async def tills(processes: Nursery, database: Database, folder: Path, token_file: Path) -> AsyncIterator[Tills]:
    """A stub of each of two ledgers that started at once over a new database."""
    programme = folder / "two.yaml"
    programme.write_text(PROGRAMME)
    ledgers = [
        LedgerProcess(
            nursery=processes,
            name=name,
            folder=folder,
            database_url=database.dsn("loyalty_ledger"),
            programme=programme,
            token_file=token_file,
        )
        for name in ("one", "two")
    ]
    for ledger in ledgers:
        ledger.start()
    channels = [open_channel(ledger.listen, principal="till", secret=SECRET) for ledger in ledgers]
    stubs = [ledger_service_pb2_grpc.LedgerServiceStub(channel) for channel in channels]
    for stub in stubs:
        await until_answered(stub.ListPartitions, pb.ListPartitionsRequest())
    yield stubs
    for channel in channels:
        await channel.close()
    for ledger in ledgers:
        ledger.kill()


async def differences(database: Database, folder: Path) -> Any:
    return (await checked(database.dsn("loyalty_ledger"), folder / "two.yaml")).differences


async def done(call: Any, request: Any) -> Any:
    """The answer; None where a rule says no."""
    try:
        return await call(request, timeout=30)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
            raise
        return None


def award(member_id: str, request_id: str, points: int) -> pb.AwardPointsRequest:
    return pb.AwardPointsRequest(request_id=request_id, member_id=member_id, points=points, reason="gift")


def hold(member_id: str, request_id: str, points: int) -> pb.HoldPointsRequest:
    return pb.HoldPointsRequest(request_id=request_id, member_id=member_id, points=points, ttl=Duration(seconds=60))


async def join(tills: Tills, count: int, points: int) -> list[str]:
    """New members with so many points each."""
    members = [f"m{number}" for number in range(count)]
    batch = pb.BatchRecordRequest()
    for member_id in members:
        batch.writes.add(enroll_member=pb.EnrollMemberRequest(request_id="e", member_id=member_id))
        batch.writes.add(award_points=award(member_id, "start", points))
    answer = await tills[0].BatchRecord(batch, timeout=30)
    assert not any(outcome.HasField("error") for outcome in answer.outcomes)
    return members


async def balance(till: Any, member_id: str) -> Any:
    return (await till.GetBalance(pb.GetBalanceRequest(member_id=member_id), timeout=30)).balance


async def advance(till: Any, text: str) -> None:
    time = Timestamp()
    time.FromJsonString(text)
    await till.AdvanceClock(pb.AdvanceClockRequest(request_id=f"to-{text}", to_time=time), timeout=30)


async def test_the_same_requests_to_both_at_once_are_done_once_and_take_exactly_what_is_there(
    tills: Tills, database: Database, folder: Path
) -> None:
    members = await join(tills, 10, 1000)

    async def spend(member_id: str, number: int) -> int:
        request = pb.RedeemPointsRequest(request_id=f"r{number}", member_id=member_id, points=50)
        first, second = await asyncio.gather(*(done(till.RedeemPoints, request) for till in tills))
        if first is None or second is None:
            assert first is second, "both say the same"
            return 0
        assert {first.replayed, second.replayed} == {False, True}
        first.replayed = second.replayed = False
        assert first == second
        return int(first.receipt.points)

    for member_id, spent in zip(
        members,
        await asyncio.gather(
            *(asyncio.gather(*(spend(member_id, number) for number in range(30))) for member_id in members)
        ),
        strict=True,
    ):
        assert (spent.count(-50), spent.count(0)) == (20, 10), member_id
    for till in tills:
        assert {(await balance(till, member_id)).available_points for member_id in members} == {0}
    assert await differences(database, folder) == ()


async def test_holds_and_all_or_none_batches_over_both_never_take_more_than_there_is(
    tills: Tills, database: Database, folder: Path
) -> None:
    members = await join(tills, 8, 1000)

    async def one_hold(member_id: str, number: int) -> tuple[int, int]:
        answer = await done(tills[number % 2].HoldPoints, hold(member_id, f"h{number}", 100))
        return (100, 0) if answer else (0, 0)

    async def both(member_id: str, number: int) -> tuple[int, int]:
        batch = pb.BatchRecordRequest(all_or_none=True)
        batch.writes.add(redeem_points=pb.RedeemPointsRequest(request_id=f"s{number}", member_id=member_id, points=150))
        batch.writes.add(hold_points=hold(member_id, f"g{number}", 170))
        outcomes = (await tills[number % 2].BatchRecord(batch, timeout=30)).outcomes
        was_done = [not outcome.HasField("error") for outcome in outcomes]
        assert was_done in ([True, True], [False, False])
        return (170, 150) if all(was_done) else (0, 0)

    calls = [
        (member_id, call(member_id, number))
        for number in range(10)
        for member_id in members
        for call in (one_hold, both)
    ]
    taken: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for (member_id, _), points in zip(calls, await asyncio.gather(*(call for _, call in calls)), strict=True):
        taken[member_id].append(points)
    for member_id in members:
        held, spent = (sum(points) for points in zip(*taken[member_id], strict=True))
        now = await balance(tills[0], member_id)
        assert (now.held_points, now.redeemed_points, now.available_points) == (held, spent, 1000 - held - spent)
        assert now.available_points < 100, "what could be done was done"
    assert await differences(database, folder) == ()


async def test_what_time_does_is_written_once_though_both_sweep_and_members_write(
    tills: Tills, database: Database, folder: Path
) -> None:
    members = await join(tills, 300, 100)
    batch = pb.BatchRecordRequest(writes=[pb.Write(hold_points=hold(member_id, "h", 60)) for member_id in members])
    await tills[1].BatchRecord(batch, timeout=30)

    async def write(request_id: str) -> None:
        await asyncio.gather(
            *(
                tills[number % 2].AwardPoints(award(member_id, request_id, 10), timeout=30)
                for number, member_id in enumerate(members[:100])
            )
        )

    connection = await asyncpg.connect(database.dsn("loyalty_ledger"))
    try:
        # Holds run out; then lots lapse of the first year, then those of the second.
        for time in ("1970-01-01T01:00:00Z", "1971-02-01T00:00:00Z", "1972-03-01T00:00:00Z"):
            await advance(tills[0], time)
            await write(f"a-{time}")
        for _ in range(200):
            if not await connection.fetchval(
                "SELECT count(*) FROM ledger.members m JOIN ledger.partitions p USING (partition)"
                " WHERE m.due_time <= p.business_time"
            ):
                break
            await asyncio.sleep(0.1)
        written = await connection.fetch(
            "SELECT kind, count(*), count(DISTINCT (member_id, occurred_time)) FROM ledger.entries"
            " WHERE request_id = '' GROUP BY kind ORDER BY kind"
        )
    finally:
        await connection.close()
    assert [tuple(row) for row in written] == [
        ("HOLD_EXPIRED", 300, 300),
        ("POINTS_EXPIRED", 400, 400),
    ]
    assert await differences(database, folder) == ()


async def test_whoever_follows_one_ledger_gets_what_both_write_without_a_gap(
    tills: Tills, database: Database, folder: Path
) -> None:
    members = await join(tills, 20, 1000)
    numbers = 20
    expected = 2 * len(members) + numbers * len(members)
    streams = [till.StreamEntries(pb.StreamEntriesRequest(follow=True), timeout=60) for till in tills]

    async def follow(stream: Any) -> list[tuple[int, int, bytes]]:
        seen: list[tuple[int, int, bytes]] = []
        async for response in stream:
            seen += [(entry.partition, entry.offset, entry.hash) for entry in response.entries]
            if len(seen) >= expected:
                break
        stream.cancel()
        return seen

    following = [asyncio.create_task(follow(stream)) for stream in streams]
    await asyncio.gather(
        *(
            tills[number % 2].AwardPoints(award(member_id, f"a{number}", 1), timeout=30)
            for number in range(numbers)
            for member_id in members
        )
    )
    seen = await asyncio.gather(*following)
    for one in seen:
        offsets: dict[int, int] = defaultdict(int)
        for partition, offset, _ in one:
            assert offset == offsets[partition] + 1
            offsets[partition] = offset
    assert sorted(seen[0]) == sorted(seen[1])
    owed = [await till.GetLiability(pb.GetLiabilityRequest(), timeout=30) for till in tills]
    assert [one.liability.closing.points for one in owed] == [20 * 1020] * 2
    assert await differences(database, folder) == ()
