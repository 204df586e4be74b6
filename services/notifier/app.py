"""The notifier's composition root."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path

import structlog

from services.notifier import rpc
from services.notifier.awarding import Awarding
from services.notifier.channels.setup import open_channels
from services.notifier.channels.webhooks import read_networks
from services.notifier.config import NotifierConfig, read_programme
from services.notifier.consumer import Consumer
from services.notifier.days import Days
from services.notifier.domain.campaigns import Gifts
from services.notifier.domain.codes import CouponCodes
from services.notifier.domain.feeds import LedgerLayout
from services.notifier.domain.issuing import Limits
from services.notifier.domain.messages import IMPERSONAL
from services.notifier.domain.profiles import level_key
from services.notifier.domain.programmes import Programmes
from services.notifier.domain.suppressions import AddressHashes
from services.notifier.endpoint_secrets import EndpointSecrets
from services.notifier.erasure_file import ErasureFile
from services.notifier.errors import (
    CouponUnknownError,
    FeedError,
    InstallationError,
    PeerError,
    PeerRefusedError,
    WrongCodesError,
)
from services.notifier.gate import Gate
from services.notifier.ledger_client import LedgerClient
from services.notifier.links import UnsubscribeLinks
from services.notifier.member_client import MemberClient
from services.notifier.points_client import PointsClient
from services.notifier.progress import Progress
from services.notifier.rotation import KeyRotation
from services.notifier.service import (
    CheckoutService,
    ContactService,
    CouponService,
    MemberService,
    MessageService,
    PreferenceService,
    PrivacyService,
    RewardService,
    Sales,
    SurveyService,
    UseCases,
    WebhookService,
)
from services.notifier.service.campaign_engine import CampaignEngine
from services.notifier.service.campaigns import CampaignService
from services.notifier.service.candidates import Candidates
from services.notifier.service.issuing import CouponMaker
from services.notifier.store import Installation, Store, Transaction
from services.notifier.tiers_client import TiersClient
from services.notifier.till_client import TillClient
from services.notifier.vault import MasterKey, Vault, read_master_keys
from services.notifier.worker import Worker
from services.programme.model import SUSPENDED
from services.runtime import config
from services.runtime.audit import AuditTrail
from services.runtime.clock import MachineClock, machine_now
from services.runtime.command import own_identity
from services.runtime.database import create_pool, keep_going
from services.runtime.guesses import Guesses, UnknownIdentifiersError
from services.runtime.identity import current_caller
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
    business_now = progress.business_time if installation.simulated else clock
    links = UnsubscribeLinks(key=vault.key_for("unsubscribe"), url=settings.unsubscribe_url)
    secrets = EndpointSecrets(vault.key_for("webhook secrets"))
    addresses = AddressHashes(key=vault.key_for("addresses"), partitions=installation.partitions)
    channels = open_channels(
        settings, programmes=programmes, links=links, secrets=secrets, stack=stack, machine_now=clock
    )
    worker = Worker(
        store=store,
        gate=Gate(vault=vault, programmes=programmes, addresses=addresses, business_now=business_now),
        channels=channels,
        machine_now=clock,
        business_now=business_now,
        random=random.random,
    )
    given = Gifts(programmes=programmes, codes=codes, delivery_key=vault.delivery_key)
    awarding = Awarding(store=store, points=PointsClient(ledger_channel), machine_now=clock, random=random.random)
    engine = CampaignEngine(
        gifts=given,
        programmes=programmes,
        vault=vault,
        partitions=installation.partitions,
        simulated=installation.simulated,
        machine_now=clock,
        messages_queued=worker.wake,
        points_owed=awarding.wake,
    )
    candidates = Candidates(
        store=store, tiers=tiers, birthday_key=vault.request_key, partitions=installation.partitions
    )
    days = Days(
        ledger=ledger,
        tiers=tiers,
        store=store,
        engine=engine,
        candidates=candidates,
        programmes=programmes,
        progress=progress,
        partitions=installation.partitions,
        simulated=installation.simulated,
        machine_now=clock,
    )

    def time_passed() -> None:
        days.wake()
        worker.wake()

    consumer = Consumer(
        ledger=ledger,
        tiers=tiers,
        store=store,
        gifts=given,
        engine=engine,
        programmes=programmes,
        partitions=installation.partitions,
        simulated=installation.simulated,
        progress=progress,
        channels=channels.keys(),
        time_passed=time_passed,
    )
    rotation = KeyRotation(store=store, vault=vault, file=settings.master_key_file)
    lookups = Guesses(
        time.monotonic,
        is_miss=lambda error: isinstance(error, PeerRefusedError) and error.reason == "IDENTIFIER_UNKNOWN",
        refusal=UnknownIdentifiersError,
    )

    def looking_up() -> AbstractAsyncContextManager[None]:
        return lookups.trying(current_caller.get())

    peers = MemberClient(ledger_channel, tiers_channel, looking_up)
    members = MemberService(
        store=store,
        vault=vault,
        partitions=installation.partitions,
        programmes=programmes,
        progress=progress,
        peers=peers,
        machine_now=clock,
        business_now=business_now,
    )
    privacy = PrivacyService(
        store=store,
        vault=vault,
        partitions=installation.partitions,
        elsewhere=peers,
        file=ErasureFile(Path(settings.erasures_file) if settings.erasures_file else None),
        machine_now=clock,
    )
    maker = CouponMaker(codes=codes, partitions=installation.partitions)

    async def tier_of(member_id: str) -> str | None:
        found = await tiers.benefits(member_id)
        if found is None:
            return None
        number, suspended = found
        if suspended:
            return SUSPENDED
        return level_key(programmes.at(business_now()), number)

    rewards = RewardService(
        store=store,
        maker=maker,
        programmes=programmes,
        points=PointsClient(ledger_channel),
        progress=progress,
        partitions=installation.partitions,
        request_key=vault.request_key,
        tier_of=tier_of,
        why_no_member=ledger.why_no_member,
        machine_now=clock,
        business_now=business_now,
    )
    campaigns = CampaignService(
        store=store,
        engine=engine,
        candidates=candidates,
        programmes=programmes,
        progress=progress,
        partitions=installation.partitions,
        machine_now=clock,
        business_now=business_now,
        resumed=partial(_wake_both, worker, awarding),
    )
    coupons = CouponService(
        store=store,
        codes=codes,
        maker=maker,
        progress=progress,
        partitions=installation.partitions,
        simulated=installation.simulated,
        request_key=vault.request_key,
        page_key=vault.page_key,
        tier_of=tier_of,
        why_no_member=ledger.why_no_member,
        money=programmes.configured.format_money,
        machine_now=clock,
        business_now=business_now,
        limits=lambda: Limits.of(programmes.at(business_now())),
        tiers=lambda: [level.key for level in programmes.at(business_now()).tiers.levels],
    )
    till = TillClient(ledger=ledger_channel, tiers=tiers_channel, looking_up=looking_up)
    sales = Sales(store=store, coupons=coupons, till=till, machine_now=clock)
    do = UseCases(
        campaigns=campaigns,
        surveys=SurveyService(
            store=store,
            vault=vault,
            programmes=programmes,
            partitions=installation.partitions,
            simulated=installation.simulated,
            member_exists=ledger.has_member,
            machine_now=clock,
            business_now=business_now,
        ),
        members=members,
        privacy=privacy,
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
            store=store,
            page_key=vault.page_key,
            request_key=vault.request_key,
            progress=progress,
            partitions=installation.partitions,
            programmes=programmes,
            messages_queued=worker.wake,
            machine_now=clock,
            business_now=business_now,
        ),
        preferences=PreferenceService(
            store=store,
            vault=vault,
            links=links,
            addresses=addresses,
            programmes=programmes,
            channels=channels.keys() - IMPERSONAL,
            partitions=installation.partitions,
            simulated=installation.simulated,
            member_exists=ledger.has_member,
            machine_now=clock,
            business_now=business_now,
        ),
        webhooks=WebhookService(
            store=store,
            secrets=secrets,
            request_key=vault.request_key,
            networks=read_networks(settings.webhook_networks),
            machine_now=clock,
        ),
        coupons=coupons,
        checkouts=CheckoutService(
            store=store,
            coupons=coupons,
            desk=till,
            sales=sales,
            programmes=programmes,
            partitions=installation.partitions,
            simulated=installation.simulated,
            request_key=vault.request_key,
            machine_now=clock,
            business_now=business_now,
        ),
        rewards=rewards,
        wrong_codes=Guesses(
            time.monotonic, is_miss=lambda error: isinstance(error, CouponUnknownError), refusal=WrongCodesError
        ),
    )
    audit = AuditTrail("notifier", pool, clock)
    return Service(
        name="notifier",
        register=partial(rpc.register, do=do, audit=audit, currency=programmes.configured.currency),
        describe=rpc.describe,
        audit=audit,
        background=(
            partial(keep_going, "feeds", consumer.run, also=(PeerError, FeedError)),
            partial(keep_going, "days", days.run, also=(PeerError, FeedError)),
            partial(keep_going, "awards", awarding.run),
            partial(keep_going, "messages", worker.run),
            partial(keep_going, "checkouts", sales.run, also=(PeerError,)),
            partial(keep_going, "master keys", rotation.run),
            partial(keep_going, "rewards", rewards.run, also=(PeerError,)),
            partial(keep_going, "erasures", privacy.run, also=(PeerError,)),
            partial(keep_going, "goodwill", members.run, also=(PeerError,)),
        ),
    )


def _wake_both(worker: Worker, awarding: Awarding) -> None:
    worker.wake()
    awarding.wake()


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
