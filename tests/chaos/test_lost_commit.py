"""The database's connection is lost at a COMMIT: the caller is told so, and its retry settles it, once."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import entry_pb2, ledger_service_pb2_grpc
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.type.v1.money_pb2 import Money

from services.runtime.identity import AUTHORIZATION, bearer
from tests.conftest import SECRET, Database, StartLedger
from tests.ledger_checks import checked
from tests.till import until_answered

PROGRAMME = """
programme: lost
currency: PLN
time_zone: Europe/Warsaw
earning: {base: total, points: 1, per: "1.00"}
expiry: {policy: after, period: P1Y}
tiers:
  base: total
  window: P365D
  levels: [{name: White}, {name: Green, from: "300.00"}]
"""
NOON = "1970-01-01T12:00:00Z"
_SOCKET = ".s.PGSQL.5432"


class Moment(enum.Enum):
    """Where a COMMIT gets lost."""

    ON_ITS_WAY = "before the database has it"
    ITS_ANSWER = "the database has carried it out"


class Proxy:
    """A way to PostgreSQL on which the ledger's lane can lose its connection at a COMMIT.

    Of the protocol it knows how messages are framed: a first one of length and content, then type, length, content.
    """

    def __init__(self, server: Path) -> None:
        self._server = server / _SOCKET
        self._fates: deque[Moment | None] = deque()
        self.lost = 0

    def lose(self, *fates: Moment | None) -> None:
        """What becomes of the lane's next COMMITs, one by one; None: nothing happens to it."""
        self._fates.extend(fates)

    @contextlib.asynccontextmanager
    async def listening(self, folder: Path) -> AsyncIterator[None]:
        """Listens in a folder, under the name that clients of PostgreSQL look for."""
        connections: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._carry(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        async with await asyncio.start_unix_server(connected, folder / _SOCKET):
            yield
            for task in connections:
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(self._server)
        losing = asyncio.Event()
        tasks = [
            asyncio.create_task(self._forth(reader, to_server, losing)),
            asyncio.create_task(self._back(from_server, writer, losing)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.transport.abort()
            to_server.transport.abort()

    async def _forth(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, losing: asyncio.Event) -> None:
        """Ends where the client does, or where its COMMIT gets lost on its way."""
        start = await reader.readexactly(4)
        start += await reader.readexactly(int.from_bytes(start) - 4)
        server.write(start)
        is_lane = b"\0ledger-lane\0" in start
        while True:
            head = await reader.readexactly(5)
            content = await reader.readexactly(int.from_bytes(head[1:]) - 4)
            if is_lane and head[:1] == b"Q" and content == b"COMMIT;\0" and self._fates:
                fate = self._fates.popleft()
                self.lost += fate is not None
                if fate is Moment.ON_ITS_WAY:
                    return
                if fate is Moment.ITS_ANSWER:
                    losing.set()
            server.write(head + content)
            await server.drain()

    async def _back(self, server: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event) -> None:
        """Ends where the server does, or where its answer gets lost."""
        while (answer := await server.read(65536)) and not losing.is_set():
            writer.write(answer)
            await writer.drain()


def at(text: str) -> Timestamp:
    stamp = Timestamp()
    stamp.FromJsonString(text)
    return stamp


def money(minor_units: int) -> Money:
    return Money(currency_code="PLN", minor_units=minor_units)


def purchase(request_id: str, member_id: str = "m") -> pb.RecordPurchaseRequest:
    return pb.RecordPurchaseRequest(
        request_id=request_id, member_id=member_id, amount=money(100_000), store_id="s", occurred_time=at(NOON)
    )


# Each stands on those before it.
WRITES: tuple[Any, ...] = (
    pb.EnrollMemberRequest(request_id="e", member_id="m"),
    purchase("p"),
    pb.AwardPointsRequest(request_id="a", member_id="m", points=40, reason="photo", purchase_id="p"),
    pb.RecordReturnRequest(request_id="r", member_id="m", purchase_id="p", amount=money(50_000)),
    pb.RecordReturnRequest(request_id="w", member_id="m", purchase_id="later", amount=money(1000)),
    purchase("later"),
    purchase("q"),
    pb.VoidPurchaseRequest(request_id="v", member_id="m", purchase_id="q", store_id="s", occurred_time=at(NOON)),
    pb.SetEarningClassRequest(
        request_id="k", member_id="m", earning_class="green", effective_time=at("1970-01-01T00:00:00Z"), sequence=1
    ),
    pb.RedeemPointsRequest(request_id="s", member_id="m", points=300),
    pb.ReverseRedemptionRequest(request_id="b", member_id="m", redemption_id="s", points=100),
    pb.HoldPointsRequest(request_id="h", member_id="m", points=200),
    pb.CaptureHoldRequest(request_id="c", member_id="m", hold_id="h", points=50),
    pb.ExtendHoldRequest(request_id="x", member_id="m", hold_id="h"),
    pb.ReleaseHoldRequest(request_id="f", member_id="m", hold_id="h", points=10),
    pb.AdjustPointsRequest(request_id="d", member_id="m", points=7, reason="correction"),
    pb.AdvanceClockRequest(request_id="t", to_time=at("1970-01-02T00:00:00Z")),
)
WRITE_MANY = (
    pb.Write(redeem_points=pb.RedeemPointsRequest(request_id="s2", member_id="m", points=30)),
    pb.Write(award_points=pb.AwardPointsRequest(request_id="a2", member_id="m", points=5, reason="gift")),
)


@pytest_asyncio.fixture
async def proxy(database: Database, folder: Path) -> AsyncIterator[Proxy]:
    """A way to the test's database."""
    between = folder / "between"
    between.mkdir()
    made = Proxy(database.cluster.socket_directory)
    async with made.listening(between):
        yield made


@pytest_asyncio.fixture
async def channel(proxy: Proxy, start_ledger: StartLedger, database: Database, folder: Path) -> Any:
    """A channel to a ledger behind the proxy."""
    programme = folder / "lost.yaml"
    programme.write_text(PROGRAMME)
    url = database.cluster.dsn("loyalty_ledger", host=str(folder / "between"), database=database.name)
    return await start_ledger(programme=programme, database_url=url)


@contextlib.asynccontextmanager
async def impatient(folder: Path) -> AsyncIterator[Callable[..., Any]]:
    """Calls that are made once: `call(method, request)`."""
    async with grpc.aio.insecure_channel(f"unix:{folder}/ledger.sock") as channel:
        stub = ledger_service_pb2_grpc.LedgerServiceStub(channel)
        metadata = ((AUTHORIZATION, bearer("test", SECRET)),)
        yield lambda method, request: getattr(stub, method)(request, timeout=20, metadata=metadata)


async def differences(database: Database, folder: Path) -> Any:
    return (await checked(database.dsn("loyalty_ledger"), folder / "lost.yaml")).differences


async def count(database: Database, condition: str) -> int:
    connection = await asyncpg.connect(database.dsn("loyalty_ledger"))
    try:
        return int(await connection.fetchval(f"SELECT count(*) FROM ledger.entries WHERE {condition}"))
    finally:
        await connection.close()


@pytest.mark.parametrize("moment", Moment)
async def test_a_write_whose_commit_is_lost_is_unavailable_and_its_retry_settles_it_once(
    channel: Any, proxy: Proxy, database: Database, folder: Path, moment: Moment
) -> None:
    till = ledger_service_pb2_grpc.LedgerServiceStub(channel)
    committed = moment is Moment.ITS_ANSWER
    async with impatient(folder) as call:
        for request in WRITES:
            method = type(request).DESCRIPTOR.name.removesuffix("Request")
            proxy.lose(moment)
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await call(method, request)
            assert told.value.code() is grpc.StatusCode.UNAVAILABLE, method
            answer = await until_answered(getattr(till, method), request)
            assert answer.replayed is committed, method
            assert (await until_answered(getattr(till, method), request)).replayed, method
        together = pb.BatchRecordRequest(writes=WRITE_MANY, all_or_none=True)
        proxy.lose(moment)
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await call("BatchRecord", together)
        assert told.value.code() is grpc.StatusCode.UNAVAILABLE
        spent, given = (await until_answered(till.BatchRecord, together)).outcomes
        assert (spent.redeem_points.replayed, given.award_points.replayed) == (committed, committed)
    assert proxy.lost == len(WRITES) + 1
    # The waiting return makes two, the clock one in each of the 16 partitions.
    assert await count(database, "member_id = 'm' AND request_id <> ''") == len(WRITES) - 1 + 1 + len(WRITE_MANY)
    assert await count(database, "kind = 'CLOCK_ADVANCED'") == 16
    assert await differences(database, folder) == ()


async def test_a_stream_whose_commit_is_lost_is_unavailable_and_sent_again_it_is_settled_once(
    channel: Any, proxy: Proxy, database: Database, folder: Path
) -> None:
    till = ledger_service_pb2_grpc.LedgerServiceStub(channel)
    await till.EnrollMember(pb.EnrollMemberRequest(request_id="e", member_id="m"), timeout=20)
    # More than the ledger is handed at once: there is a second COMMIT, however fast they are read.
    requests = [
        pb.RecordStreamRequest(writes=[pb.Write(record_purchase=purchase(f"p{n}-{i}")) for i in range(20)])
        for n in range(60)
    ]
    async with impatient(folder) as call:
        for fates in [[moment] for moment in Moment] + [[None, moment] for moment in Moment]:
            proxy.lose(*fates)
            with pytest.raises(grpc.aio.AioRpcError) as told:
                async for _ in call("RecordStream", iter(requests)):
                    pass
            # Where a request was on its way when the stream ended, the client says so in its own words.
            assert (
                told.value.code() is grpc.StatusCode.UNAVAILABLE or told.value.details() == "Internal error from Core"
            )
    answers = [answer async for answer in till.RecordStream(iter(requests), timeout=20)]
    assert [len(answer.outcomes) for answer in answers] == [20] * 60
    assert await count(database, "kind = 'PURCHASE_RECORDED'") == 1200
    balance = (await till.GetBalance(pb.GetBalanceRequest(member_id="m"), timeout=20)).balance
    assert balance.available_points == 1_200_000
    assert await differences(database, folder) == ()


async def test_callers_whose_writes_shared_a_lost_commit_are_all_settled_once(
    channel: Any, proxy: Proxy, database: Database, folder: Path
) -> None:
    till = ledger_service_pb2_grpc.LedgerServiceStub(channel)
    await till.EnrollMember(pb.EnrollMemberRequest(request_id="e", member_id="m"), timeout=20)
    await till.RecordPurchase(purchase("p"), timeout=20)

    async def spend(number: int) -> int:
        request = pb.RedeemPointsRequest(request_id=f"s{number}", member_id="m", points=10)
        try:
            return int((await until_answered(till.RedeemPoints, request)).receipt.points)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            return 0

    proxy.lose(Moment.ITS_ANSWER, Moment.ON_ITS_WAY, None, Moment.ITS_ANSWER)
    spent = await asyncio.gather(*(spend(number) for number in range(300)))
    assert (spent.count(-10), spent.count(0)) == (100, 200)
    assert proxy.lost == 3
    assert await differences(database, folder) == ()


@pytest.mark.parametrize("moment", Moment)
async def test_a_sweep_whose_commit_is_lost_is_done_again_and_writes_each_lapse_once(
    channel: Any, proxy: Proxy, database: Database, folder: Path, moment: Moment
) -> None:
    till = ledger_service_pb2_grpc.LedgerServiceStub(channel)
    for number in range(5):
        await till.EnrollMember(pb.EnrollMemberRequest(request_id="e", member_id=f"m{number}"), timeout=20)
        await till.RecordPurchase(purchase("p", f"m{number}"), timeout=20)
    # The first is that of the clock.
    proxy.lose(None, moment)
    await till.AdvanceClock(pb.AdvanceClockRequest(request_id="t", to_time=at("1971-06-01T00:00:00Z")), timeout=20)
    for _ in range(200):
        if await count(database, "kind = 'POINTS_EXPIRED'") == 5 and proxy.lost:
            break
        await asyncio.sleep(0.05)
    assert proxy.lost == 1
    # Another sweep finds nothing to do.
    await asyncio.sleep(1.5)
    assert await count(database, "kind = 'POINTS_EXPIRED'") == 5
    entries = await till.ListEntries(pb.ListEntriesRequest(member_id="m0"), timeout=20)
    assert entries.entries[0].kind == entry_pb2.ENTRY_KIND_POINTS_EXPIRED
    assert await differences(database, folder) == ()
