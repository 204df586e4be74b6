"""The ledger's composition root: the only place where its parts are wired."""

from __future__ import annotations

import contextlib
from pathlib import Path

import grpc
from loyalty.ledger.v1 import ledger_service_pb2_grpc

from services import programme
from services.ledger import store
from services.ledger.config import Config
from services.ledger.rpc import LedgerServicer, describe
from services.ledger.service import Ledger
from services.runtime.audit import AuditTrail
from services.runtime.clock import MachineClock, machine_now
from services.runtime.config import ConfigurationError
from services.runtime.database import create_pool, transact
from services.runtime.server import Service

MIGRATIONS = Path(__file__).parent / "sql" / "migrations"


async def build(config: Config, stack: contextlib.AsyncExitStack, clock: MachineClock = machine_now) -> Service:
    """The ledger, ready to serve; what must be closed goes onto the stack."""
    try:
        rules = programme.load(config.programme)
    except programme.ProgrammeError as error:
        raise ConfigurationError(str(error)) from None
    pool = await create_pool(config.database_url, service="ledger")
    stack.push_async_callback(pool.close)
    installation = await transact(pool, lambda c: store.create(c, config.partitions, config.clock))
    if (installation.partitions, installation.clock_mode) != (config.partitions, config.clock):
        raise ConfigurationError(
            f"this ledger was created with {installation.partitions} partitions and a "
            f"{installation.clock_mode.value} clock; set LOYALTY_PARTITIONS and LOYALTY_CLOCK to that"
        )
    ledger = Ledger(
        dsn=config.database_url,
        pool=pool,
        programme=rules,
        installation=installation,
        lanes=config.lanes,
        clock=clock,
    )
    audit = AuditTrail("ledger", pool, clock)
    source = config.programme.read_text(encoding="utf-8")
    servicer = LedgerServicer(ledger, source=source, clock=clock, refused=audit.refused)

    def register(server: grpc.aio.Server) -> None:
        ledger_service_pb2_grpc.add_LedgerServiceServicer_to_server(servicer, server)

    return Service(
        name="ledger",
        register=register,
        describe=describe,
        audit=audit,
        background=[*[lane.run for lane in ledger.lanes], ledger.keep_swept, ledger.books.keep_folded],
    )
