"""What callers and the log are told where the database is away, and where a query of ours is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
import structlog
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc

from services.ledger.app import build as build_ledger
from services.ledger.config import Config as LedgerConfig
from services.runtime.clock import ClockMode
from services.runtime.database import (
    CONNECTION_ERRORS,
    Connection,
    NoConnectionError,
    Pool,
    connect,
    create_pool,
    loss_told,
    transact,
)
from tests.conftest import PROGRAMMES, Database, identifier_key, serving

WRONG = "SELECT $1::bigint"


@pytest_asyncio.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    made = await create_pool(database.dsn("loyalty_ledger"), service="test", size=2)
    yield made
    await made.close()


async def end(database: Database, connection: Connection) -> None:
    """Ends a connection from the server's side, and waits until it has ended."""
    another = await connect(database.dsn("loyalty_ledger"), service="test")
    try:
        assert await another.fetchval("SELECT pg_terminate_backend($1, 5000)", connection.get_server_pid())
    finally:
        await another.close()


async def test_a_query_with_too_many_arguments_leaves_its_connection_as_it_was(pool: Pool, database: Database) -> None:
    async def work(connection: Connection) -> None:
        await connection.fetch(WRONG, 1, 2)

    # asyncpg says so as it does of a connection that is lost: the words are in the log.
    with pytest.raises(NoConnectionError, match="2 were passed"):
        await transact(pool, work)
    async with pool.acquire() as connection:
        with pytest.raises(asyncpg.DataError):
            await connection.fetch(WRONG, "one")
        assert await connection.fetchval(WRONG, 1) == 1


async def test_a_connection_that_was_ended_is_told_as_such_whenever_it_is_used(pool: Pool, database: Database) -> None:
    async def work(connection: Connection) -> None:
        await end(database, connection)
        with contextlib.suppress(*CONNECTION_ERRORS):
            await connection.fetch(WRONG, 1)
        # asyncpg says no more of it than that it was used wrongly.
        await connection.fetch(WRONG, 1)

    with pytest.raises(NoConnectionError):
        await transact(pool, work)
    with pytest.raises(NoConnectionError):
        async with pool.acquire() as lent:
            await work(lent)
    own = await connect(database.dsn("loyalty_ledger"), service="test")
    with pytest.raises(NoConnectionError), loss_told():
        await work(own)
    async with pool.acquire() as connection:
        assert await connection.fetchval(WRONG, 1) == 1


async def test_a_pool_that_is_closed_and_an_address_that_is_none_give_no_connection(database: Database) -> None:
    made = await create_pool(database.dsn("loyalty_ledger"), service="test")
    await made.close()
    with pytest.raises(NoConnectionError):
        async with made.acquire():
            pass
    with pytest.raises(NoConnectionError):
        await connect("nowhere://", service="test")


class Faulty(ledger_service_pb2_grpc.LedgerServiceServicer):
    """Asks in a wrong way for a balance, and loses its connection over a member."""

    def __init__(self, pool: Pool, database: Database) -> None:
        self._pool = pool
        self._database = database

    async def GetBalance(self, request: Any, context: Any) -> Any:
        async with self._pool.acquire() as connection:
            await connection.fetch(WRONG)

    async def GetMember(self, request: Any, context: Any) -> Any:
        async with self._pool.acquire() as connection:
            await end(self._database, connection)
            await connection.fetch(WRONG, 1)


async def test_why_a_service_is_not_available_is_in_its_log(
    pool: Pool, database: Database, folder: Path, token_file: Path
) -> None:
    config = LedgerConfig(
        listen=f"unix:{folder}/ledger.sock",
        database_url=database.dsn("loyalty_ledger"),
        programme=PROGRAMMES / "tiered-365.yaml",
        token_file=token_file,
        identifier_key_file=identifier_key(folder),
        clock=ClockMode.REAL,
    )
    async with contextlib.AsyncExitStack() as stack:
        service = await build_ledger(config, stack)

        def register(server: grpc.aio.Server) -> None:
            ledger_service_pb2_grpc.add_LedgerServiceServicer_to_server(Faulty(pool, database), server)

        async with serving(replace(service, register=register), config.listen) as channel:
            stub = ledger_service_pb2_grpc.LedgerServiceStub(channel)
            with structlog.testing.capture_logs() as logs:
                assert await told(stub.GetBalance(pb.GetBalanceRequest(member_id="m"))) is grpc.StatusCode.UNAVAILABLE
                for _ in range(3):
                    code = await told(stub.GetMember(pb.GetMemberRequest(member_id="m")))
                    assert code is grpc.StatusCode.UNAVAILABLE
    # Why is said once for each kind of error, and not for each call.
    away = [line for line in logs if line["event"] == "service_not_available"]
    assert 1 <= len(away) == len({line["error"] for line in away})
    assert "1 argument" in str(away[0]["exc_info"])
    for line in away:
        assert isinstance(line["exc_info"], CONNECTION_ERRORS)


async def told(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code()
