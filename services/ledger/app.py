"""The ledger's composition root: the only place where its parts are wired."""

from __future__ import annotations

import contextlib
from pathlib import Path

import grpc
from loyalty.ledger.v1 import ledger_service_pb2_grpc

from services import programme
from services.ledger import store
from services.ledger.config import Config
from services.ledger.domain.keys import Keys
from services.ledger.domain.rules import Rules, StoredVersion
from services.ledger.rpc import LedgerServicer, describe
from services.ledger.service import Ledger
from services.runtime.audit import AuditTrail
from services.runtime.clock import MachineClock, machine_now
from services.runtime.config import ConfigurationError, read_key
from services.runtime.database import Connection, create_pool, transact
from services.runtime.server import Service


async def build(config: Config, stack: contextlib.AsyncExitStack, clock: MachineClock = machine_now) -> Service:
    """The ledger, ready to serve; what must be closed goes onto the stack."""
    try:
        configured = programme.load(config.programme, applied=True)
    except programme.ProgrammeError as error:
        raise ConfigurationError(str(error)) from None
    document = config.programme.read_text(encoding="utf-8")
    keys = Keys(read_key(config.identifier_key_file))
    pool = await create_pool(config.database_url, service="ledger")
    stack.push_async_callback(pool.close)
    installation = await transact(pool, lambda c: store.create(c, config.partitions, config.clock))
    if (installation.partitions, installation.clock_mode) != (config.partitions, config.clock):
        raise ConfigurationError(
            f"this ledger was created with {installation.partitions} partitions and a "
            f"{installation.clock_mode.value} clock; set LOYALTY_PARTITIONS and LOYALTY_CLOCK to that"
        )
    if not await transact(pool, lambda c: store.fix_identifier_key(c, keys.fingerprint)):
        raise ConfigurationError(
            "the identifier key is not the one that this ledger was created with; cards and phone numbers are found by "
            "that one alone: put its file back"
        )
    rules = await transact(pool, lambda c: _rules(c, configured, document, config.programme, clock))
    ledger = Ledger(
        dsn=config.database_url,
        pool=pool,
        rules=rules,
        installation=installation,
        keys=keys,
        lanes=config.lanes,
        clock=clock,
    )
    audit = AuditTrail("ledger", pool, clock)
    servicer = LedgerServicer(ledger, clock=clock, refused=audit.refused)

    def register(server: grpc.aio.Server) -> None:
        ledger_service_pb2_grpc.add_LedgerServiceServicer_to_server(servicer, server)

    return Service(
        name="ledger",
        register=register,
        describe=describe,
        audit=audit,
        background=[
            *[lane.run for lane in ledger.lanes],
            ledger.keep_swept,
            ledger.books.keep_folded,
            ledger.keep_versions,
        ],
    )


async def _rules(
    connection: Connection, configured: programme.Programme, document: str, source: Path, clock: MachineClock
) -> Rules:
    """The versions of the programme that are stored; the configured one is the first where there are none.

    Raises ConfigurationError where the configured one is not among them.
    """
    await store.lock_versions(connection)
    try:
        stored = await store.read_versions(connection)
        used = None if stored else await store.read_last_version_used(connection)
        if not stored and used is None:
            # Nothing has lived by it: it is held to all that a new one is.
            configured = programme.parse(document, str(source))
    except programme.ProgrammeError as error:
        raise ConfigurationError(str(error)) from None
    if not stored:
        if used not in (None, configured.version):
            raise ConfigurationError(
                f"this ledger has lived by the programme {used} and is configured with {configured.version}; put the "
                "old file back, and then change the programme with `loyalty programme apply`"
            )
        first = StoredVersion(
            number=1, programme=configured, document=document, from_time=programme.SINCE_EVER, recorded_time=clock()
        )
        await store.insert_version(connection, first)
        stored = [first]
    if configured.version not in [one.programme.version for one in stored]:
        raise ConfigurationError(
            f"the programme {configured.version} is none that this ledger has gone by; configure one of "
            f"{', '.join(dict.fromkeys(one.programme.version for one in stored))}, and change the programme with "
            "`loyalty programme apply`"
        )
    return Rules(stored)
