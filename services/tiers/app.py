"""The composition root: from the configuration to the running parts."""

from __future__ import annotations

import contextlib

import grpc
from loyalty.tiers.v1 import tier_service_pb2_grpc

from services import programme
from services.runtime.audit import AuditTrail
from services.runtime.clock import MachineClock, machine_now
from services.runtime.command import own_identity
from services.runtime.config import ConfigurationError
from services.runtime.database import create_pool
from services.runtime.server import Service
from services.tiers.config import Config
from services.tiers.follower import Follower
from services.tiers.ledger_client import LedgerClient
from services.tiers.rpc import TierServicer, describe
from services.tiers.service import Tiers

# One each for the feed, what is due and the outbox; the rest answer reads.
_POOL_SIZE = 8


async def build(config: Config, stack: contextlib.AsyncExitStack, clock: MachineClock = machine_now) -> Service:
    """Tiers, ready to serve: it answers reads from what it has stored before the ledger is reached."""
    try:
        rules = programme.load(config.programme, applied=True)
    except programme.ProgrammeError as error:
        raise ConfigurationError(str(error)) from None
    pool = await create_pool(config.database_url, service="tiers", size=_POOL_SIZE)
    stack.push_async_callback(pool.close)
    channel = own_identity(config, "tiers").open(config.ledger_address, server="ledger")
    stack.push_async_callback(channel.close)
    tiers = Tiers(pool=pool, versions=programme.Versions.only(rules), now=clock)
    await tiers.recover()
    follower = Follower(tiers=tiers, ledger=LedgerClient(channel), now=clock)

    def register(server: grpc.aio.Server) -> None:
        tier_service_pb2_grpc.add_TierServiceServicer_to_server(TierServicer(tiers), server)

    return Service(
        name="tiers",
        register=register,
        describe=describe,
        audit=AuditTrail("tiers", pool, clock),
        background=(follower.follow_ledger, follower.run_due, follower.run_programme, follower.send_notices),
    )
