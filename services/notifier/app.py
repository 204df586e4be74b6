"""The notifier's composition root."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from functools import partial

import grpc
import structlog

from services.notifier import rpc
from services.notifier.channels.email import Composer, EmailChannel, MailServer
from services.notifier.config import NotifierConfig, read_programme
from services.notifier.consumer import Consumer
from services.notifier.domain.campaigns import Rewards
from services.notifier.domain.codes import CouponCodes
from services.notifier.domain.feeds import LedgerLayout
from services.notifier.errors import FeedError, InstallationError, PeerError
from services.notifier.ledger_client import LedgerClient
from services.notifier.progress import Progress
from services.notifier.service import NotifierService
from services.notifier.store import Installation, Store, Transaction
from services.notifier.tiers_client import TiersClient
from services.notifier.vault import Vault, read_master_key
from services.notifier.worker import Worker
from services.runtime import config
from services.runtime.channels import open_channel
from services.runtime.clock import MachineClock, machine_now
from services.runtime.database import create_pool, keep_going
from services.runtime.server import Service

log = structlog.get_logger()

_POOL = 8
_LONGEST_PAUSE_SECONDS = 5.0


async def build(settings: NotifierConfig, stack: AsyncExitStack, clock: MachineClock = machine_now) -> Service:
    """The notifier, ready to run. The first start of an installation waits for the ledger; later ones do without."""
    try:
        return await _build(settings, stack, clock)
    except InstallationError as error:
        raise config.ConfigurationError(str(error)) from None


async def _build(settings: NotifierConfig, stack: AsyncExitStack, clock: MachineClock) -> Service:
    programme = read_programme(settings)
    vault = Vault(read_master_key(settings.master_key_file))
    composer = Composer(programme=programme, mail_from=settings.mail_from)
    pool = await create_pool(settings.database_url, service="notifier", size=_POOL)
    stack.push_async_callback(pool.close)
    store = Store(pool)
    ledger = LedgerClient(await _open_peer(settings, settings.ledger_address, stack))
    tiers = TiersClient(await _open_peer(settings, settings.tiers_address, stack))
    installation = await _installed(store, vault, ledger)
    progress = Progress(await store.read(Transaction.read_cursors))
    codes = CouponCodes(key=vault.coupon_key, partitions=installation.partitions)
    server = MailServer(host=settings.smtp_host, port=settings.smtp_port, greeting=composer.domain)
    stack.push_async_callback(server.close)
    worker = Worker(
        store=store,
        vault=vault,
        channel=EmailChannel(composer=composer, server=server, machine_now=clock),
        machine_now=clock,
        random=random.random,
    )
    consumer = Consumer(
        ledger=ledger,
        tiers=tiers,
        store=store,
        rewards=Rewards(programme=programme, codes=codes, delivery_key=vault.delivery_key),
        programme_version=programme.version,
        partitions=installation.partitions,
        simulated=installation.simulated,
        progress=progress,
        messages_queued=worker.wake,
        machine_now=clock,
    )
    service = NotifierService(
        store=store,
        vault=vault,
        codes=codes,
        progress=progress,
        partitions=installation.partitions,
        member_exists=ledger.has_member,
        messages_queued=worker.wake,
        machine_now=clock,
        business_now=progress.business_time if installation.simulated else clock,
    )
    return Service(
        name="notifier",
        register=partial(rpc.register, service=service, currency=programme.currency),
        describe=rpc.describe,
        background=(
            partial(keep_going, "feeds", consumer.run, also=(PeerError, FeedError)),
            partial(keep_going, "messages", worker.run),
        ),
    )


async def _open_peer(settings: NotifierConfig, address: str, stack: AsyncExitStack) -> grpc.aio.Channel:
    """A channel to another service, closed with the stack."""
    channel = open_channel(address, principal="notifier", secret=config.read_secret(settings.token_file))
    stack.push_async_callback(channel.close)
    return channel


async def _installed(store: Store, vault: Vault, ledger: LedgerClient) -> Installation:
    """To whom the database belongs, which must be us. At the first start the ledger is asked, until it answers."""
    own = vault.fingerprint()
    found = await store.read(Transaction.read_installation)
    if found is None:
        layout = await _first_layout(ledger)
        first = Installation(key_fingerprint=own, partitions=len(layout.heads), simulated=layout.simulated)

        async def claim(transaction: Transaction) -> Installation | None:
            await transaction.claim_installation(first)
            await transaction.insert_cursors(range(first.partitions))
            return await transaction.read_installation()

        found = await store.transact(claim)
        assert found is not None
    if found.key_fingerprint != own:
        raise InstallationError(
            "the master key is not the one that this database was made with; contacts and codes need that one"
        )
    return found


async def _first_layout(ledger: LedgerClient) -> LedgerLayout:
    pause = 0.2
    while True:
        try:
            return await ledger.layout()
        except PeerError as error:
            log.warning("ledger_awaited", error=str(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
