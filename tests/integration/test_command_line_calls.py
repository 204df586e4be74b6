"""How the command line calls services: with a token of its own, which it makes anew in time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from loyalty.ledger.v1 import ledger_service_pb2, ledger_service_pb2_grpc

from services.cli import remote
from services.cli.installation import Connection, Installation, open_or_create
from services.cli.processes import ProcessId
from services.cli.remote import RemoteError, call, open_service, resumed_stream
from services.runtime import contract
from services.runtime.audit import AuditTrail
from services.runtime.clock import machine_now
from services.runtime.database import create_pool
from services.runtime.identity import Identities, current_caller
from services.runtime.server import Service, running
from services.runtime.tls import Certificates
from services.runtime.tokens import TokenRules, TokenVerifier
from tests.conftest import Database


class Ledger(ledger_service_pb2_grpc.LedgerServiceServicer):
    """Keeps with which tokens it was called."""

    def __init__(self) -> None:
        self.token_ids: list[str] = []

    async def GetProgramme(self, request: Any, context: Any) -> ledger_service_pb2.GetProgrammeResponse:
        self.token_ids.append(current_caller.get().token_id)
        return ledger_service_pb2.GetProgrammeResponse()

    async def StreamEntries(
        self, request: Any, context: Any
    ) -> AsyncIterator[ledger_service_pb2.StreamEntriesResponse]:
        yield ledger_service_pb2.StreamEntriesResponse()


@dataclass(frozen=True, kw_only=True)
class Up:
    """An installation whose ledger alone runs, and the command line's stub of it."""

    installation: Installation
    stub: Any
    ledger: Ledger = field(default_factory=Ledger)

    async def ask(self) -> None:
        await call(self.stub.GetProgramme, ledger_service_pb2.GetProgrammeRequest(), seconds=10)


@pytest_asyncio.fixture
async def up(database: Database, folder: Path) -> AsyncIterator[Up]:
    made = open_or_create(folder / "shop")
    listen = f"unix:{folder}/ledger.sock"
    keys = made.token_keys
    rules = TokenRules(
        issuer="loyalty", audience="loyalty", key_set=str(keys.key_set_file), revoked=str(keys.revoked_file)
    )
    issued = TokenVerifier(rules, roles=contract.roles(), now=time.time)
    await issued.begin()
    servicer = Ledger()
    pool = await create_pool(database.dsn("loyalty_ledger"), service="ledger", size=1)
    service = Service(
        name="ledger",
        register=lambda server: ledger_service_pb2_grpc.add_LedgerServiceServicer_to_server(servicer, server),
        describe=lambda error: None,
        audit=AuditTrail("ledger", pool, machine_now),
        background=(issued.keep_fresh,),
    )
    connection = Connection(
        installation=made,
        ledger=listen,
        tiers="",
        notifier="",
        gateway="",
        smtp_port=1,
        supervisor=ProcessId(pid=1, started_ticks=1),
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(pool.close)
        certificates = Certificates(made.authority.files("ledger"))
        identities = Identities(issued=issued, services=contract.SERVICES)
        await stack.enter_async_context(
            running(service, listen=listen, identities=identities, certificates=certificates)
        )
        channel = open_service(connection, "ledger")
        stack.push_async_callback(channel.close)
        stub = ledger_service_pb2_grpc.LedgerServiceStub(channel)
        yield Up(installation=made, stub=stub, ledger=servicer)


async def test_a_token_is_used_until_it_is_half_over_and_then_another(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.time()
    for hours, tokens in ((0, 1), (0, 1), (11.9, 1), (12.1, 2), (13, 2)):
        # The clock of who calls alone.
        clock = SimpleNamespace(time=lambda hours=hours: began + hours * 3600, monotonic=time.monotonic)
        monkeypatch.setattr(remote, "time", clock)
        await up.ask()
        assert len(set(up.ledger.token_ids)) == tokens


@pytest.mark.parametrize("drop_old", [False, True])
async def test_calls_go_on_when_the_keys_of_tokens_change(up: Up, drop_old: bool) -> None:
    await up.ask()
    up.installation.token_keys.rotate(drop_old=drop_old)
    await up.ask()
    assert len(set(up.ledger.token_ids)) == 2
    await asyncio.sleep(1.2)
    await up.ask()
    assert len(set(up.ledger.token_ids)) == 2


async def test_a_stream_is_asked_for_again_when_the_keys_of_tokens_have_just_changed(up: Up) -> None:
    up.installation.token_keys.rotate(drop_old=True)
    request = ledger_service_pb2.StreamEntriesRequest
    assert len([one async for one in resumed_stream(up.stub.StreamEntries, request, seconds=10)]) == 1


async def test_who_stays_unknown_is_told_so_soon(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_KEYS_SECONDS", 0.5)
    monkeypatch.setattr(Connection, "authorization", lambda *_: "Bearer a.b.c")
    up.installation.token_keys.rotate(drop_old=False)
    with pytest.raises(RemoteError, match="TOKEN_INVALID"):
        await up.ask()
