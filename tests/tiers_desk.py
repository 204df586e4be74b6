"""The ledger and tiers as their callers use them, both over real gRPC, on one database."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from loyalty.ledger.v1 import entry_pb2, ledger_service_pb2_grpc
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb
from loyalty.tiers.v1 import tier_service_pb2 as pb
from loyalty.tiers.v1 import tier_service_pb2_grpc
from loyalty.type.v1.log_pb2 import PartitionOffset
from loyalty.type.v1.money_pb2 import Money

from services.runtime.clock import MachineClock, machine_now
from services.runtime.command import CheckReport
from services.tiers.app import build
from services.tiers.check import check
from services.tiers.config import Config
from tests.conftest import PROGRAMMES, Database, StartLedger, serving

PROGRAMME = PROGRAMMES / "tiered-365.yaml"
SECONDS = 20


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def stamp(time: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


class Till:
    """The ledger as its callers use it; every write gets a request id of its own."""

    def __init__(self, channel: Any) -> None:
        self.stub = ledger_service_pb2_grpc.LedgerServiceStub(channel)
        self._written = 0

    def _next(self) -> str:
        self._written += 1
        return f"request-{self._written}"

    async def enroll(self, member_id: str, time: datetime, market: str = "") -> str:
        request = ledger_pb.EnrollMemberRequest(
            request_id=self._next(), member_id=member_id, occurred_time=stamp(time), market=market
        )
        answer = await self.stub.EnrollMember(request, timeout=SECONDS)
        return answer.causal_token

    async def buy(
        self, member_id: str, minor_units: int, time: datetime, purchase_id: str = "", currency: str = "PLN"
    ) -> str:
        return (await self.bought(member_id, minor_units, time, purchase_id, currency)).causal_token

    async def bought(
        self, member_id: str, minor_units: int, time: datetime, purchase_id: str = "", currency: str = "PLN"
    ) -> ledger_pb.RecordPurchaseResponse:
        request = ledger_pb.RecordPurchaseRequest(
            request_id=self._next(),
            member_id=member_id,
            purchase_id=purchase_id,
            occurred_time=stamp(time),
            amount=Money(currency_code=currency, minor_units=minor_units),
        )
        return await self.stub.RecordPurchase(request, timeout=SECONDS)

    async def give_back(
        self,
        member_id: str,
        minor_units: int,
        time: datetime,
        purchase_id: str = "",
        currency: str = "PLN",
        exchange_id: str = "",
    ) -> str:
        request = ledger_pb.RecordReturnRequest(
            request_id=self._next(),
            member_id=member_id,
            purchase_id=purchase_id,
            occurred_time=stamp(time),
            amount=Money(currency_code=currency, minor_units=minor_units),
            exchange_id=exchange_id,
        )
        return (await self.stub.RecordReturn(request, timeout=SECONDS)).causal_token

    async def void(self, member_id: str, purchase_id: str) -> str:
        request = ledger_pb.VoidPurchaseRequest(
            request_id=self._next(), member_id=member_id, purchase_id=purchase_id, reason="mistake"
        )
        return (await self.stub.VoidPurchase(request, timeout=SECONDS)).causal_token

    async def resign(self, member_id: str, time: datetime) -> str:
        request = ledger_pb.ResignMemberRequest(request_id=self._next(), member_id=member_id, occurred_time=stamp(time))
        return (await self.stub.ResignMember(request, timeout=SECONDS)).causal_token

    async def rejoin(self, member_id: str, time: datetime) -> str:
        request = ledger_pb.RejoinMemberRequest(request_id=self._next(), member_id=member_id, occurred_time=stamp(time))
        return (await self.stub.RejoinMember(request, timeout=SECONDS)).causal_token

    async def do(self, member_id: str, activity: str, time: datetime) -> str:
        request = ledger_pb.RecordActivityRequest(
            request_id=self._next(), member_id=member_id, activity=activity, occurred_time=stamp(time)
        )
        return (await self.stub.RecordActivity(request, timeout=SECONDS)).causal_token

    async def award(self, member_id: str, points: int) -> str:
        request = ledger_pb.AwardPointsRequest(
            request_id=self._next(), member_id=member_id, points=points, reason="goodwill"
        )
        return (await self.stub.AwardPoints(request, timeout=SECONDS)).causal_token

    async def pay(self, member_id: str, plan: str, time: datetime, start: datetime, end: datetime) -> str:
        """A membership, from one instant up to another."""
        request = ledger_pb.RecordMembershipFeeRequest(
            request_id=self._next(),
            member_id=member_id,
            plan=plan,
            amount=Money(currency_code="PLN", minor_units=4_900),
            start_time=stamp(start),
            end_time=stamp(end),
            occurred_time=stamp(time),
        )
        return (await self.stub.RecordMembershipFee(request, timeout=SECONDS)).causal_token

    async def apply(self, document: str, from_time: datetime) -> str:
        """Another version of the programme."""
        request = ledger_pb.ApplyProgrammeRequest(
            request_id=self._next(), document=document, from_time=stamp(from_time)
        )
        return (await self.stub.ApplyProgramme(request, timeout=SECONDS)).causal_token

    async def advance(self, time: datetime) -> str:
        request = ledger_pb.AdvanceClockRequest(request_id=self._next(), to_time=stamp(time))
        return (await self.stub.AdvanceClock(request, timeout=SECONDS)).causal_token

    async def entries(self, member_id: str) -> list[entry_pb2.Entry]:
        """All of a member, oldest first."""
        request = ledger_pb.ListEntriesRequest(member_id=member_id, page_size=1000)
        return list(reversed((await self.stub.ListEntries(request, timeout=SECONDS)).entries))

    async def classes(self, member_id: str) -> list[tuple[str, datetime]]:
        """The earning classes that were set, oldest first."""
        return [
            (entry.earning_class, entry.effective_time.ToDatetime(UTC))
            for entry in await self.entries(member_id)
            if entry.kind == entry_pb2.ENTRY_KIND_EARNING_CLASS_SET
        ]


class Desk:
    """Tiers as its callers use it."""

    def __init__(self, channel: Any) -> None:
        self.stub = tier_service_pb2_grpc.TierServiceStub(channel)

    async def standing(
        self, member_id: str, token: str = "", time: datetime | None = None, known: datetime | None = None
    ) -> pb.Standing:
        request = pb.GetStandingRequest(
            member_id=member_id,
            causal_token=token,
            at_time=None if time is None else stamp(time),
            known_at_time=None if known is None else stamp(known),
        )
        return (await self.stub.GetStanding(request, timeout=SECONDS)).standing

    async def explained(
        self, member_id: str, token: str = "", *, size: int = 0, **asked: datetime
    ) -> tuple[pb.ExplainStandingResponse, list[pb.StandingLine]]:
        """The first page, and the lines of all of them."""
        times = {name: stamp(time) for name, time in asked.items()}
        request = pb.ExplainStandingRequest(member_id=member_id, causal_token=token, page_size=size, **times)
        first = page = await self.stub.ExplainStanding(request, timeout=SECONDS)
        lines = list(page.lines)
        while page.next_page_token:
            request.page_token = page.next_page_token
            page = await self.stub.ExplainStanding(request, timeout=SECONDS)
            assert page.standing == first.standing
            lines += page.lines
        return first, lines

    async def override(
        self,
        member_id: str,
        tier_number: int,
        *,
        request_id: str = "override-1",
        scope: pb.OverrideScope = pb.OVERRIDE_SCOPE_TIER,
        end: datetime | None = None,
        **more: Any,
    ) -> pb.SetTierOverrideResponse:
        request = pb.SetTierOverrideRequest(
            request_id=request_id,
            member_id=member_id,
            tier_number=tier_number,
            scope=scope,
            reason=more.pop("reason", "a complaint"),
            end_time=None if end is None else stamp(end),
            **more,
        )
        return await self.stub.SetTierOverride(request, timeout=SECONDS)

    async def clear(self, member_id: str, request_id: str = "clear-1", token: str = "") -> pb.ClearTierOverrideResponse:
        request = pb.ClearTierOverrideRequest(
            request_id=request_id, member_id=member_id, reason="settled", causal_token=token
        )
        return await self.stub.ClearTierOverride(request, timeout=SECONDS)

    async def confirm(
        self, member_id: str, request_id: str = "confirm-1", token: str = ""
    ) -> pb.ConfirmAccountResponse:
        request = pb.ConfirmAccountRequest(request_id=request_id, member_id=member_id, causal_token=token)
        return await self.stub.ConfirmAccount(request, timeout=SECONDS)

    async def count(self, token: str = "", time: datetime | None = None) -> dict[str, int]:
        """Waits until the ledger has heard every earning class that is to be told by now, too."""
        request = pb.CountStandingsRequest(causal_token=token, settled=True)
        if time is not None:
            request.at_time.CopyFrom(stamp(time))
        answer = await self.stub.CountStandings(request, timeout=SECONDS)
        return {count.tier: count.members for count in answer.counts}

    async def listed(self, token: str = "", time: datetime | None = None, **more: Any) -> pb.ListStandingsResponse:
        request = pb.ListStandingsRequest(causal_token=token, **more)
        if time is not None:
            request.at_time.CopyFrom(stamp(time))
        return await self.stub.ListStandings(request, timeout=SECONDS)

    async def changes(self, after: dict[int, int] | None = None) -> list[pb.TierChange]:
        request = pb.StreamTierChangesRequest(
            after=[PartitionOffset(partition=p, offset=offset) for p, offset in (after or {}).items()]
        )
        return [
            change
            async for response in self.stub.StreamTierChanges(request, timeout=SECONDS)
            for change in response.changes
        ]


StartTiers = Callable[..., Awaitable[Desk]]
CheckTiers = Callable[[], Awaitable[CheckReport]]


def config_of(database: Database, folder: Path, token_file: Path, programme: Path = PROGRAMME) -> Config:
    return Config(
        listen=f"unix:{folder}/tiers.sock",
        database_url=database.dsn("loyalty_tiers"),
        programme=programme,
        token_file=token_file,
        ledger_address=f"unix:{folder}/ledger.sock",
    )


@pytest_asyncio.fixture
async def start_tiers(database: Database, folder: Path, token_file: Path) -> AsyncIterator[StartTiers]:
    """Starts tiers; with `own` it lives as long as that stack."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            *,
            clock: MachineClock = machine_now,
            programme: Path = PROGRAMME,
            own: contextlib.AsyncExitStack | None = None,
        ) -> Desk:
            config = config_of(database, folder, token_file, programme)
            inside = own or stack
            service = await build(config, inside, clock)
            return Desk(await inside.enter_async_context(serving(service, config.listen)))

        yield start


@pytest.fixture
def check_tiers(database: Database, folder: Path, token_file: Path) -> CheckTiers:
    return lambda: check(config_of(database, folder, token_file))


async def refused(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    """The code and the reason with which a call is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return reason_of(caught.value)


async def execute(database: Database, role: str, *statements: str) -> None:
    connection = await asyncpg.connect(database.dsn(role))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def reason_of(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str]:
    return error.code(), info_of(error).reason


def info_of(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    metadata = dict(error.trailing_metadata())
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(metadata["grpc-status-details-bin"]).details:
        detail.Unpack(info)
    return info


OpenShop = Callable[..., Awaitable[tuple[Till, Desk]]]


@pytest_asyncio.fixture
async def open_shop(
    folder: Path, start_ledger: StartLedger, start_tiers: StartTiers, check_tiers: CheckTiers
) -> AsyncIterator[OpenShop]:
    """A ledger and tiers of four partitions by the programme in a text, in simulated time. At the end all that tiers
    have stored follows from the ledger."""
    opened = False

    async def open_(document: str, *, own: contextlib.AsyncExitStack | None = None) -> tuple[Till, Desk]:
        nonlocal opened
        opened = True
        path = folder / "programme.yaml"
        path.write_text(document)
        till = Till(await start_ledger(programme=path, partitions=4))
        return till, await start_tiers(programme=path, own=own)

    yield open_
    if opened:
        assert (await check_tiers()).differences == ()
