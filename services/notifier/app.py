"""The notifier's composition root."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from functools import partial

import structlog

from services.notifier import rpc
from services.notifier.channels.email import Composer, EmailChannel, MailServer
from services.notifier.config import NotifierConfig, read_programme
from services.notifier.consumer import Consumer
from services.notifier.domain.campaigns import Rewards
from services.notifier.domain.codes import CouponCodes
from services.notifier.domain.feeds import LedgerLayout
from services.notifier.domain.programmes import Programmes
from services.notifier.errors import FeedError, InstallationError, PeerError
from services.notifier.ledger_client import LedgerClient
from services.notifier.progress import Progress
from services.notifier.rotation import KeyRotation
from services.notifier.service import ContactService, CouponService, MessageService, UseCases
from services.notifier.store import Installation, Store, Transaction
from services.notifier.tiers_client import TiersClient
from services.notifier.vault import MasterKey, Vault, read_master_keys
from services.notifier.worker import Worker
from services.runtime import config
from services.runtime.audit import AuditTrail
from services.runtime.clock import MachineClock, machine_now
from services.runtime.command import own_identity
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
    programmes = Programmes(read_programme(settings))
    master_keys = read_master_keys(settings.master_key_file)
    composer = Composer(programmes=programmes, mail_from=settings.mail_from)
    pool = await create_pool(settings.database_url, service="notifier", size=_POOL)
    stack.push_async_callback(pool.close)
    store = Store(pool)
    between = own_identity(settings, "notifier")
    ledger_channel = between.open(settings.ledger_address, server="ledger")
    stack.push_async_callback(ledger_channel.close)
    tiers_channel = between.open(settings.tiers_address, server="tiers")
    stack.push_async_callback(tiers_channel.close)
    ledger, tiers = LedgerClient(ledger_channel), TiersClient(tiers_channel)
    installation = await _installed(store, master_keys[0], ledger)
    vault = Vault(master_keys, installation)
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
        rewards=Rewards(programmes=programmes, codes=codes, delivery_key=vault.delivery_key),
        programmes=programmes,
        partitions=installation.partitions,
        simulated=installation.simulated,
        progress=progress,
        messages_queued=worker.wake,
        machine_now=clock,
    )
    rotation = KeyRotation(store=store, vault=vault, file=settings.master_key_file)
    business_now = progress.business_time if installation.simulated else clock
    do = UseCases(
        contacts=ContactService(
            store=store,
            vault=vault,
            partitions=installation.partitions,
            member_exists=ledger.has_member,
            messages_queued=worker.wake,
            machine_now=clock,
            business_now=business_now,
        ),
        messages=MessageService(
            store=store, page_key=vault.page_key, progress=progress, partitions=installation.partitions
        ),
        coupons=CouponService(store=store, codes=codes, business_now=business_now),
    )
    audit = AuditTrail("notifier", pool, clock)
    return Service(
        name="notifier",
        register=partial(rpc.register, do=do, audit=audit, currency=programmes.configured.currency),
        describe=rpc.describe,
        audit=audit,
        background=(
            partial(keep_going, "feeds", consumer.run, also=(PeerError, FeedError)),
            partial(keep_going, "messages", worker.run),
            partial(keep_going, "master keys", rotation.run),
        ),
    )


async def _installed(store: Store, master_key: MasterKey, ledger: LedgerClient) -> Installation:
    """To whom the database belongs; at the first start to us, and the ledger is asked, until it answers."""
    found = await store.read(Transaction.read_installation)
    if found is None:
        layout = await _first_layout(ledger)
        first = Installation(
            key_fingerprint=master_key.key_id, partitions=len(layout.heads), simulated=layout.simulated
        )

        async def claim(transaction: Transaction) -> Installation | None:
            await transaction.claim_installation(first)
            await transaction.insert_cursors(range(first.partitions))
            return await transaction.read_installation()

        found = await store.transact(claim)
        assert found is not None
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
