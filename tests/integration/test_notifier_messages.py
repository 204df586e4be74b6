"""Coupons and messages over a real PostgreSQL and a real mail server: what is sent when, and how often."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from services import programme as programmes
from services.cli.postgres import Cluster
from services.notifier.channels.email import Composer, EmailChannel, MailServer
from services.notifier.consumer import Consumer
from services.notifier.domain.campaigns import Gifts
from services.notifier.domain.codes import CouponCodes
from services.notifier.domain.contacts import Contact, partition_of
from services.notifier.domain.coupons import CouponState
from services.notifier.domain.deliveries import DeliveryState, Outcome, Verdict, settle
from services.notifier.domain.feeds import Batch, Cursor, TierChange
from services.notifier.domain.programmes import Programmes
from services.notifier.domain.suppressions import AddressHashes
from services.notifier.domain.uses import NO_MEMBER, Refusal
from services.notifier.errors import CursorMovedError, MemberUnknownError, PageTokenError, RequestIdReusedError
from services.notifier.gate import Gate
from services.notifier.ledger_client import LedgerClient
from services.notifier.progress import Progress
from services.notifier.service import ContactService, CouponService, DeliveryPage, MessageService
from services.notifier.service.campaign_engine import CampaignEngine
from services.notifier.service.issuing import CouponMaker
from services.notifier.store import QUERIES, Installation, Store, Transaction
from services.notifier.tiers_client import TiersClient
from services.notifier.vault import MasterKey, Vault
from services.notifier.worker import LEASE, Worker
from services.programme.messages import EMAIL
from services.runtime.channels import open_channel
from services.runtime.database import create_pool
from services.runtime.status import NotCaughtUpError
from tests.conftest import PROGRAMMES, Database
from tests.mail_server import LocalMailServer, mail_server

PARTITIONS = 4
PROGRAMME = programmes.load(PROGRAMMES / "retail-demo.yaml")
CHANGED = datetime(2020, 1, 15, 12, tzinfo=UTC)
MASTER_KEY = MasterKey(b"m" * 32)
INSTALLATION = Installation(key_fingerprint=MASTER_KEY.key_id, partitions=PARTITIONS, simulated=True)
VAULT = Vault([MASTER_KEY], INSTALLATION)


@dataclass
class Desk:
    """The notifier without its feeds: batches are handed to it, time is moved by hand."""

    database: Database
    store: Store
    mail: LocalMailServer
    progress: Progress
    contacts: ContactService = field(init=False)
    messages: MessageService = field(init=False)
    coupons: CouponService = field(init=False)
    consumer: Consumer = field(init=False)
    worker: Worker = field(init=False)
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    business_now: datetime = CHANGED
    members: set[str] = field(default_factory=set)
    cursors: dict[int, Cursor] = field(default_factory=lambda: {p: Cursor() for p in range(PARTITIONS)})

    def start(self, ledger: LedgerClient, tiers: TiersClient) -> None:
        codes = CouponCodes(key=VAULT.coupon_key, partitions=PARTITIONS)
        gifts = Gifts(programmes=Programmes(PROGRAMME), codes=codes, delivery_key=VAULT.delivery_key)
        self.worker = self.new_worker()
        self.consumer = Consumer(
            ledger=ledger,
            tiers=tiers,
            store=self.store,
            gifts=gifts,
            engine=CampaignEngine(
                gifts=gifts,
                programmes=Programmes(PROGRAMME),
                vault=VAULT,
                partitions=PARTITIONS,
                simulated=True,
                machine_now=lambda: self.now,
                messages_queued=self.worker.wake,
                points_owed=lambda: None,
            ),
            programmes=Programmes(PROGRAMME),
            partitions=PARTITIONS,
            simulated=True,
            progress=self.progress,
            channels=("email", "log", "webhook"),
            time_passed=lambda: None,
        )

        async def exists(member_id: str) -> bool:
            return member_id in self.members

        self.messages = MessageService(
            store=self.store,
            page_key=VAULT.page_key,
            request_key=VAULT.request_key,
            progress=self.progress,
            partitions=PARTITIONS,
            programmes=Programmes(PROGRAMME),
            messages_queued=self.worker.wake,
            machine_now=lambda: self.now,
            business_now=lambda: self.now,
        )

        async def tier_of(member_id: str) -> str:
            raise AssertionError(f"nobody asks for the tier of {member_id}")

        async def why_no_member(member_id: str) -> Refusal | None:
            return None if await exists(member_id) else NO_MEMBER

        self.coupons = CouponService(
            store=self.store,
            codes=codes,
            maker=CouponMaker(codes=codes, partitions=PARTITIONS),
            progress=self.progress,
            partitions=PARTITIONS,
            simulated=True,
            request_key=VAULT.request_key,
            page_key=VAULT.page_key,
            tier_of=tier_of,
            why_no_member=why_no_member,
            money=PROGRAMME.format_money,
            machine_now=lambda: self.now,
            business_now=lambda: self.business_now,
        )
        self.contacts = ContactService(
            store=self.store,
            vault=VAULT,
            partitions=PARTITIONS,
            member_exists=exists,
            messages_queued=self.worker.wake,
            machine_now=lambda: self.now,
            business_now=lambda: self.business_now,
        )

    def new_worker(self) -> Worker:
        composer = Composer(programmes=Programmes(PROGRAMME), mail_from="Shop <shop@example.com>")
        server = MailServer(host="127.0.0.1", port=self.mail.port, greeting="example.com")
        channel = EmailChannel(composer=composer, server=server, machine_now=lambda: self.now)
        gate = Gate(
            vault=VAULT,
            programmes=Programmes(PROGRAMME),
            addresses=AddressHashes(key=VAULT.key_for("addresses"), partitions=PARTITIONS),
            business_now=lambda: self.business_now,
        )
        return Worker(
            store=self.store,
            gate=gate,
            channels={EMAIL: channel},
            machine_now=lambda: self.now,
            business_now=lambda: self.business_now,
            random=lambda: 0.0,
        )

    async def contact(self, member_id: str, email: str, name: str = "", request_id: str = "c-1") -> bool:
        self.members.add(member_id)
        contact = Contact(name=name, email=email)
        return await self.contacts.set_contact(request_id=request_id, member_id=member_id, contact=contact)

    async def reach(self, member_id: str, to_tier: int = 2) -> Batch:
        """A change of tier, handled."""
        return await self.change(member_id, (1, to_tier))

    async def take_back(self, member_id: str, from_tier: int = 2, to_tier: int = 1) -> Batch:
        """A level taken back, handled."""
        return await self.change(member_id, (from_tier, to_tier), taken_back_to=to_tier)

    async def change(self, member_id: str, *steps: tuple[int, int], **more: Any) -> Batch:
        """Changes of one member from tier to tier, in one batch; `more` is true of the last."""
        partition = partition_of(member_id, PARTITIONS)
        before = self.cursors[partition]
        after = replace(before, change_offset=before.change_offset + len(steps))
        changes = [
            TierChange(
                partition=partition,
                offset=before.change_offset + number,
                member_id=member_id,
                from_tier_number=from_tier,
                from_tier=PROGRAMME.tiers.level(from_tier).name,
                to_tier_number=to_tier,
                to_tier=PROGRAMME.tiers.level(to_tier).name,
                balance=30500,
                changed_time=CHANGED,
                cause_offset=1,
            )
            for number, (from_tier, to_tier) in enumerate(steps, 1)
        ]
        changes[-1] = replace(changes[-1], **more)
        batch = Batch(changes=tuple(changes), entries=(), before={partition: before}, after={partition: after})
        await self.consumer.handle(batch)
        self.cursors[partition] = after
        return batch

    async def deliveries(self, **wanted: Any) -> DeliveryPage:
        values = {"member_id": "", "state": None, "page_size": 0, "page_token": "", "after": {}, "wait_seconds": 5}
        return await self.messages.list_deliveries(**{**values, **wanted})

    async def the_delivery(self) -> Any:
        (delivery,) = (await self.deliveries()).deliveries
        return delivery


@pytest_asyncio.fixture
async def desk(database: Database, folder: Path) -> AsyncIterator[Desk]:
    async with contextlib.AsyncExitStack() as stack:
        pool = await create_pool(database.dsn("loyalty_notifier"), service="test", size=6)
        stack.push_async_callback(pool.close)
        store = Store(pool)

        async def claim(transaction: Transaction) -> None:
            await transaction.claim_installation(INSTALLATION)
            await transaction.insert_cursors(range(PARTITIONS))

        await store.transact(claim)
        mail = await stack.enter_async_context(mail_server(folder / "mail"))
        channel = open_channel(f"unix:{folder}/nobody.sock", principal="notifier", secret="none")
        stack.push_async_callback(channel.close)
        made = Desk(
            database=database, store=store, mail=mail, progress=Progress({p: Cursor() for p in range(PARTITIONS)})
        )
        made.start(LedgerClient(channel), TiersClient(channel))
        yield made


async def test_every_named_query_prepares_for_the_services_own_role(database: Database) -> None:
    connection = await asyncpg.connect(database.dsn("loyalty_notifier"))
    try:
        for query in QUERIES.values():
            await connection.prepare(query)
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE notifier.coupons SET valid_until_time = now()",
        "UPDATE notifier.deliveries SET member_id = 'm-2'",
        "UPDATE notifier.member_keys SET member_id = 'm-2'",
        "UPDATE notifier.installation SET key_fingerprint = ''",
        "UPDATE notifier.contact_requests SET content_digest = ''",
        "UPDATE notifier.installation SET partitions = 1",
        "UPDATE notifier.coupons SET code = 'GREEN'",
        "DELETE FROM notifier.coupons",
        "DELETE FROM notifier.deliveries",
        "DELETE FROM notifier.cursors",
        "TRUNCATE notifier.contacts",
        "SELECT * FROM ledger.entries",
    ],
)
async def test_the_services_role_may_do_only_what_it_does(database: Database, statement: str) -> None:
    connection = await asyncpg.connect(database.dsn("loyalty_notifier"))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_reaching_a_tier_sends_one_mail_that_shows_the_code(desk: Desk) -> None:
    await desk.contact("m-1", "ann@example.com", "Ann")
    await desk.reach("m-1")
    assert await desk.worker.deliver_due() is None
    delivery = await desk.the_delivery()
    assert (delivery.state, delivery.attempts, delivery.delivered_time) == (DeliveryState.DELIVERED, 1, desk.now)
    (mail,) = desk.mail.messages()
    assert delivery.coupon_code in mail.get_content()
    assert mail["X-Mailbox-To"] == "ann@example.com"
    assert mail["Message-ID"] == f"<{delivery.delivery_id}@example.com>"
    coupon, _ = await desk.coupons.get_coupon(delivery.coupon_code.lower().replace("-", ""))
    assert (coupon.member_id, coupon.campaign_id, coupon.code) == ("m-1", "green-reached", delivery.coupon_code)


async def test_the_same_change_again_gives_nothing_more(desk: Desk) -> None:
    await desk.contact("m-1", "ann@example.com")
    batch = await desk.reach("m-1")
    with pytest.raises(CursorMovedError):
        await desk.consumer.handle(batch)
    # Even where the cursor was lost.
    again = replace(batch, before=batch.after, after=batch.after)
    await desk.consumer.handle(again)
    await desk.worker.deliver_due()
    await desk.consumer.handle(again)
    await desk.worker.deliver_due()
    assert len((await desk.deliveries()).deliveries) == 1
    assert len(desk.mail.messages()) == 1


async def test_a_code_that_is_taken_gives_way_to_the_next_variant(desk: Desk) -> None:
    await desk.reach("m-1")
    (code,) = [delivery.coupon_code for delivery in (await desk.deliveries()).deliveries]
    partition = partition_of("m-1", PARTITIONS)
    codes = CouponCodes(key=VAULT.coupon_key, partitions=PARTITIONS)
    coming = codes.make(
        prefix="GREEN", partition=partition, campaign_id="green-reached", member_id="m-1", trigger="change:2", variant=0
    )
    connection = await asyncpg.connect(desk.database.dsn("loyalty_owner"))
    try:
        await connection.execute("UPDATE notifier.coupons SET code = $1 WHERE code = $2", coming, code)
        await connection.execute("UPDATE notifier.deliveries SET coupon_code = $1 WHERE coupon_code = $2", coming, code)
    finally:
        await connection.close()
    await desk.reach("m-1")
    listed = {delivery.coupon_code for delivery in (await desk.deliveries()).deliveries}
    assert len(listed) == 2
    (other,) = listed - {coming}
    coupon, _ = await desk.coupons.get_coupon(other)
    assert (coupon.trigger, coupon.variant) == ("change:2", 1)


async def test_while_the_mail_server_is_away_nothing_is_lost_counted_or_sent_twice(desk: Desk) -> None:
    for number in range(30):
        await desk.contact(f"m-{number}", f"m{number}@example.com")
        await desk.reach(f"m-{number}")
    await desk.mail.stop()
    next_time = await desk.worker.deliver_due()
    assert next_time == desk.now + timedelta(seconds=5)
    assert {d.state for d in (await desk.deliveries()).deliveries} == {DeliveryState.QUEUED}
    await desk.mail.start()
    # It is not asked again before its time.
    assert await desk.worker.deliver_due() == next_time
    assert desk.mail.messages() == []
    desk.now = next_time
    await desk.worker.deliver_due()
    page = await desk.deliveries()
    assert {(d.state, d.attempts) for d in page.deliveries} == {(DeliveryState.DELIVERED, 1)}
    assert sorted(mail["X-Mailbox-To"] for mail in desk.mail.messages()) == sorted(
        f"m{number}@example.com" for number in range(30)
    )


async def test_a_server_that_is_long_away_is_asked_less_and_less_often(desk: Desk) -> None:
    await desk.contact("m-1", "ann@example.com")
    await desk.reach("m-1")
    await desk.mail.stop()
    pauses = []
    for _ in range(6):
        next_time = await desk.worker.deliver_due()
        assert next_time is not None
        pauses.append((next_time - desk.now).total_seconds())
        desk.now = next_time
    assert pauses == [5, 15, 45, 135, 135, 135]
    delivery = await desk.the_delivery()
    assert (delivery.state, delivery.attempts) == (DeliveryState.QUEUED, 0)
    assert delivery.last_error == "the mail server cannot be reached"


async def test_a_refusal_kills_the_message_and_says_why_without_the_address(desk: Desk) -> None:
    await desk.contact("m-1", "ann@example.com")
    await desk.reach("m-1")
    desk.mail.refusals["ann@example.com"] = "550 5.1.1 <ann@example.com>: no such user ann"
    assert await desk.worker.deliver_due() is None
    delivery = await desk.the_delivery()
    assert (delivery.state, delivery.attempts) == (DeliveryState.DEAD, 1)
    assert delivery.last_error == "the recipient was refused: 550 5.1.1"


async def test_a_passing_refusal_is_tried_again_later_with_pauses_and_at_most_ten_times(desk: Desk) -> None:
    await desk.contact("m-1", "ann@example.com")
    await desk.reach("m-1")
    desk.mail.refusals["ann@example.com"] = "451 4.7.1 later please"
    first = desk.now
    for attempts in range(1, 10):
        next_time = await desk.worker.deliver_due()
        assert next_time is not None
        delivery = await desk.the_delivery()
        assert (delivery.state, delivery.attempts) == (DeliveryState.QUEUED, attempts)
        assert await desk.worker.deliver_due() == next_time
        desk.now = next_time
    assert await desk.worker.deliver_due() is None
    delivery = await desk.the_delivery()
    assert (delivery.state, delivery.attempts) == (DeliveryState.DEAD, 10)
    assert delivery.last_error == "the recipient was refused: 451 4.7.1"
    assert desk.now - first == timedelta(days=3, hours=3, minutes=35, seconds=5)


async def test_a_message_that_was_put_off_arrives_once_when_the_server_takes_it(desk: Desk) -> None:
    await desk.contact("m-1", "ann@example.com")
    await desk.reach("m-1")
    desk.mail.farewell = "452 4.3.1 disk full"
    next_time = await desk.worker.deliver_due()
    assert next_time is not None
    assert desk.mail.messages() == []
    desk.mail.farewell = ""
    desk.now = next_time
    await desk.worker.deliver_due()
    delivery = await desk.the_delivery()
    assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 2)
    assert len(desk.mail.messages()) == 1


async def test_a_connection_that_breaks_is_tried_again(desk: Desk) -> None:
    await desk.contact("m-1", "ann@example.com")
    await desk.reach("m-1")
    desk.mail.breaks_off = True
    next_time = await desk.worker.deliver_due()
    assert next_time is not None
    assert (await desk.the_delivery()).last_error == "the connection broke"
    desk.mail.breaks_off = False
    desk.now = next_time
    await desk.worker.deliver_due()
    assert (await desk.the_delivery()).state is DeliveryState.DELIVERED
    assert len(desk.mail.messages()) == 1


async def test_connections_are_used_again(desk: Desk) -> None:
    for number in range(40):
        await desk.contact(f"m-{number}", f"m{number}@example.com")
        await desk.reach(f"m-{number}")
    await desk.worker.deliver_due()
    assert len(desk.mail.messages()) == 40
    assert desk.mail.sessions_opened <= 8


async def test_a_message_leased_by_a_worker_that_died_is_sent_when_the_lease_is_over(desk: Desk) -> None:
    await desk.contact("m-1", "ann@example.com")
    await desk.reach("m-1")
    partition = partition_of("m-1", PARTITIONS)

    async def lease(transaction: Transaction) -> Any:
        return await transaction.lease_deliveries(
            partition, "email", "green-reached", now=desk.now, until=desk.now + LEASE, limit=10
        )

    assert len(await desk.store.transact(lease)) == 1
    other = desk.new_worker()
    assert await other.deliver_due() == desk.now + LEASE
    assert desk.mail.messages() == []
    desk.now += LEASE
    await other.deliver_due()
    assert len(desk.mail.messages()) == 1


async def test_two_workers_at_once_send_every_message_once(desk: Desk) -> None:
    for number in range(60):
        await desk.contact(f"m-{number}", f"m{number}@example.com")
        await desk.reach(f"m-{number}")
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(desk.new_worker().deliver_due())
    assert sorted(mail["X-Mailbox-To"] for mail in desk.mail.messages()) == sorted(
        f"m{number}@example.com" for number in range(60)
    )


async def test_a_worker_that_is_stopped_ends_what_it_began_and_gives_the_rest_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmailChannel, "senders", 1)
    for number in range(20):
        await desk.contact(f"m-{number}", f"m{number}@example.com")
        await desk.reach(f"m-{number}")
    running = asyncio.create_task(desk.worker.run())
    await desk.mail.next_message()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    states = [delivery.state for delivery in (await desk.deliveries()).deliveries]
    assert states.count(DeliveryState.DELIVERED) == len(desk.mail.messages()) < 20
    # Nothing waits for a lease to end.
    await desk.new_worker().deliver_due()
    assert len(desk.mail.messages()) == 20


async def test_a_database_that_is_away_after_a_message_was_sent_does_not_make_it_sent_again(
    desk: Desk, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    await desk.contact("m-1", "ann@example.com")
    await desk.reach("m-1")

    def database_goes_away() -> None:
        cluster.stop()
        asyncio.get_running_loop().call_later(0.3, cluster.start)

    desk.mail.when_taken = database_goes_away
    await desk.worker.deliver_due()
    assert "settling_delayed" in capsys.readouterr().out
    delivery = await desk.the_delivery()
    assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 1)
    assert len(desk.mail.messages()) == 1


# --- taken back ---


async def voided(desk: Desk) -> dict[str, CouponState]:
    """The state of every coupon that a message carries, by its campaign."""
    page = await desk.deliveries()
    return {d.campaign_id: (await desk.coupons.get_coupon(d.coupon_code))[1] for d in page.deliveries}


async def test_a_level_that_is_taken_back_voids_its_coupon_and_the_message_that_waits_is_not_sent(desk: Desk) -> None:
    await desk.contact("m-1", "ann@example.com")
    await desk.contact("m-2", "ben@example.com")
    await desk.reach("m-1")
    await desk.reach("m-2")
    await desk.take_back("m-1")
    await desk.worker.deliver_due()
    assert [mail["X-Mailbox-To"] for mail in desk.mail.messages()] == ["ben@example.com"]
    (delivery,) = (await desk.deliveries(member_id="m-1")).deliveries
    assert (delivery.state, delivery.attempts) == (DeliveryState.DEAD, 0)
    assert delivery.last_error == "the coupon was taken back"
    coupon, state = await desk.coupons.get_coupon(delivery.coupon_code)
    assert (state, coupon.voided_time, coupon.voided_by) == (CouponState.VOID, CHANGED, 2)
    (other,) = (await desk.deliveries(member_id="m-2")).deliveries
    assert (await desk.coupons.get_coupon(other.coupon_code))[1] is CouponState.ISSUED


async def test_a_message_that_was_sent_stays_sent_and_its_coupon_is_void_all_the_same(desk: Desk) -> None:
    await desk.contact("m-1", "ann@example.com")
    await desk.reach("m-1")
    await desk.worker.deliver_due()
    await desk.take_back("m-1")
    delivery = await desk.the_delivery()
    assert (delivery.state, delivery.last_error) == (DeliveryState.DELIVERED, "")
    assert await voided(desk) == {"green-reached": CouponState.VOID}


async def test_a_void_coupon_is_not_sent_to_a_contact_that_comes_later(desk: Desk) -> None:
    await desk.reach("m-1")
    await desk.take_back("m-1")
    await desk.contact("m-1", "ann@example.com")
    await desk.worker.deliver_due()
    assert desk.mail.messages() == []
    assert (await desk.the_delivery()).state is DeliveryState.DEAD


async def test_what_was_on_its_way_when_its_coupon_was_taken_back_is_told_as_it_came_out(desk: Desk) -> None:
    await desk.contact("m-1", "ann@example.com")
    await desk.reach("m-1")
    partition = partition_of("m-1", PARTITIONS)
    until = desk.now + LEASE

    async def lease(transaction: Transaction) -> Any:
        return await transaction.lease_deliveries(
            partition, "email", "green-reached", now=desk.now, until=until, limit=10
        )

    (due,) = await desk.store.transact(lease)
    await desk.take_back("m-1")

    async def settled(outcome: Outcome) -> tuple[DeliveryState, datetime | None]:
        settlement = settle(due, outcome, now=desk.now, random=lambda: 0.0)
        await desk.store.transact(lambda transaction: transaction.settle_deliveries(partition, until, [settlement]))
        delivery = await desk.the_delivery()
        return delivery.state, delivery.delivered_time

    # One that is put off is not queued again, one that the server has taken was sent.
    assert await settled(Outcome(verdict=Verdict.DEFERRED, error="451")) == (DeliveryState.DEAD, None)
    assert await settled(Outcome(verdict=Verdict.TAKEN)) == (DeliveryState.DELIVERED, desk.now)


async def test_only_the_tiers_above_the_one_that_is_left_lose_their_coupons(desk: Desk) -> None:
    await desk.change("m-1", (1, 2), (2, 3), (3, 4))
    await desk.take_back("m-1", 4, 2)
    assert await voided(desk) == {
        "green-reached": CouponState.ISSUED,
        "silver-reached": CouponState.VOID,
        "golden-reached": CouponState.VOID,
    }


async def test_a_level_reached_again_in_the_same_batch_brings_a_coupon_that_is_good(desk: Desk) -> None:
    await desk.reach("m-1", 3)
    await desk.take_back("m-1", 3, 1)
    assert await voided(desk) == {"silver-reached": CouponState.VOID}
    await desk.change("m-1", (1, 2), (2, 3), (3, 2), taken_back_to=2)
    await desk.change("m-1", (2, 3))
    states = [(await desk.coupons.get_coupon(d.coupon_code)) for d in (await desk.deliveries()).deliveries]
    assert sorted((coupon.trigger, coupon.campaign_id, coupon.voided_by, state) for coupon, state in states) == [
        ("change:1", "silver-reached", 2, CouponState.VOID),
        ("change:3", "green-reached", None, CouponState.ISSUED),
        ("change:4", "silver-reached", 5, CouponState.VOID),
        ("change:6", "silver-reached", None, CouponState.ISSUED),
    ]


async def test_what_is_taken_back_again_changes_nothing_and_a_batch_that_fails_takes_nothing(desk: Desk) -> None:
    await desk.reach("m-1", 3)
    batch = await desk.take_back("m-1", 3, 1)
    before = await desk.store.read(Transaction.check_tier_gifts)
    with pytest.raises(CursorMovedError):
        await desk.consumer.handle(batch)
    # Even where the cursor was lost.
    (first,) = batch.changes
    later = replace(first, changed_time=CHANGED + timedelta(hours=1))
    await desk.consumer.handle(replace(batch, before=batch.after, after=batch.after, changes=(first, later)))
    assert await desk.store.read(Transaction.check_tier_gifts) == before
    await desk.change("m-2", (1, 3))
    partition = partition_of("m-2", PARTITIONS)
    stale = replace(desk.cursors[partition], change_offset=99)
    taking = replace(first, partition=partition, member_id="m-2", offset=100)
    with pytest.raises(CursorMovedError):
        await desk.consumer.handle(
            Batch(changes=(taking,), entries=(), before={partition: stale}, after={partition: stale})
        )
    (delivery,) = (await desk.deliveries(member_id="m-2")).deliveries
    assert (await desk.coupons.get_coupon(delivery.coupon_code))[1] is CouponState.ISSUED


# --- contacts ---


async def test_a_message_without_contact_waits_for_one_while_its_coupon_is_valid(desk: Desk) -> None:
    await desk.reach("m-1")
    await desk.worker.deliver_due()
    assert (await desk.the_delivery()).state is DeliveryState.NO_CONTACT
    await desk.contact("m-1", "ann@example.com")
    await desk.worker.deliver_due()
    assert (await desk.the_delivery()).state is DeliveryState.DELIVERED
    assert len(desk.mail.messages()) == 1


async def test_a_contact_that_comes_after_the_coupons_end_sends_nothing(desk: Desk) -> None:
    await desk.reach("m-1")
    await desk.worker.deliver_due()
    coupon, _ = await desk.coupons.get_coupon((await desk.the_delivery()).coupon_code)
    desk.business_now = coupon.valid_until_time
    await desk.contact("m-1", "ann@example.com")
    await desk.worker.deliver_due()
    assert (await desk.the_delivery()).state is DeliveryState.NO_CONTACT


async def test_an_empty_address_removes_the_one_there_was(desk: Desk) -> None:
    await desk.contact("m-1", "ann@example.com", "Ann", "c-1")
    await desk.contact("m-1", "", "Ann", "c-2")
    await desk.reach("m-1")
    await desk.worker.deliver_due()
    assert (await desk.the_delivery()).state is DeliveryState.NO_CONTACT
    await desk.contact("m-1", "", "", "c-3")
    await desk.contact("m-1", "eve@example.com", "", "c-4")
    await desk.worker.deliver_due()
    assert [mail["X-Mailbox-To"] for mail in desk.mail.messages()] == ["eve@example.com"]


async def test_a_message_without_contact_waits_for_one_from_the_start(desk: Desk) -> None:
    await desk.contact("m-2", "", "Ben")
    await desk.reach("m-1")
    await desk.reach("m-2")
    assert {delivery.state for delivery in (await desk.deliveries()).deliveries} == {DeliveryState.NO_CONTACT}
    # There is nothing for the worker to do.
    assert await desk.worker.deliver_due() is None


async def test_a_contact_set_while_a_coupon_is_issued_is_not_missed(desk: Desk) -> None:
    """Whoever comes first: the message is sent."""
    for number in range(12):
        member_id = f"m-{number}"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(desk.reach(member_id))
            tasks.create_task(desk.contact(member_id, f"m{number}@example.com"))
        await desk.worker.deliver_due()
    assert len(desk.mail.messages()) == 12


async def test_a_contact_that_is_removed_before_its_message_is_sent_leaves_it_waiting(desk: Desk) -> None:
    await desk.contact("m-1", "ann@example.com", "Ann", "c-1")
    await desk.reach("m-1")
    assert (await desk.the_delivery()).state is DeliveryState.QUEUED
    await desk.contact("m-1", "", "", "c-2")
    await desk.worker.deliver_due()
    assert (await desk.the_delivery()).state is DeliveryState.NO_CONTACT
    assert desk.mail.messages() == []


async def test_a_contact_set_while_a_message_is_put_aside_is_not_missed(desk: Desk) -> None:
    """Whoever comes first: the message is sent."""
    for number in range(12):
        member_id = f"m-{number}"
        await desk.contact(member_id, "old@example.com", "", "c-1")
        await desk.reach(member_id)
        await desk.contact(member_id, "", "", "c-2")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(desk.worker.deliver_due())
            tasks.create_task(desk.contact(member_id, f"m{number}@example.com", "", "c-3"))
        await desk.worker.deliver_due()
    assert [mail["X-Mailbox-To"] for mail in desk.mail.messages()].count("old@example.com") == 0
    assert len(desk.mail.messages()) == 12


async def test_the_same_request_is_answered_again_and_other_content_is_refused(desk: Desk) -> None:
    assert await desk.contact("m-1", "ann@example.com", "Ann") is False
    assert await desk.contact("m-1", "ann@example.com", "Ann") is True
    with pytest.raises(RequestIdReusedError):
        await desk.contact("m-1", "ann@example.com", "Anna")
    # An old request that is sent again does not undo a newer one.
    await desk.contact("m-1", "new@example.com", "Ann", "c-2")
    assert await desk.contact("m-1", "ann@example.com", "Ann") is True
    await desk.reach("m-1")
    await desk.worker.deliver_due()
    assert [mail["X-Mailbox-To"] for mail in desk.mail.messages()] == ["new@example.com"]


async def test_requests_that_come_at_once_are_one(desk: Desk) -> None:
    async with asyncio.TaskGroup() as tasks:
        answers = [tasks.create_task(desk.contact("m-1", "ann@example.com")) for _ in range(6)]
    assert sorted(answer.result() for answer in answers) == [False, True, True, True, True, True]


async def test_who_is_no_member_has_no_contact(desk: Desk) -> None:
    with pytest.raises(MemberUnknownError):
        await desk.contacts.set_contact(
            request_id="c", member_id="nobody", contact=Contact(name="", email="a@example.com")
        )


async def test_a_contact_whose_key_was_destroyed_is_no_contact(desk: Desk) -> None:
    await desk.contact("m-1", "ann@example.com")
    connection = await asyncpg.connect(desk.database.dsn("loyalty_owner"))
    try:
        await connection.execute("DELETE FROM notifier.member_keys")
    finally:
        await connection.close()
    await desk.reach("m-1")
    await desk.worker.deliver_due()
    assert desk.mail.messages() == []


async def test_nothing_of_a_contact_is_readable_in_the_database_or_the_log(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = ("Wilhelmina", "wilhelmina.planted@example.com", "Quentin", "quentin.planted@example.com")
    await desk.contact("m-1", planted[1], planted[0])
    await desk.contact("m-2", planted[3], planted[2])
    desk.mail.refusals[planted[3]] = f"550 5.1.1 <{planted[3]}>: {planted[2]} is unknown here"
    await desk.reach("m-1")
    await desk.reach("m-2")
    await desk.worker.deliver_due()
    assert len(desk.mail.messages()) == 1
    connection = await asyncpg.connect(desk.database.dsn("loyalty_owner"))
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'notifier'")
        assert len(tables) >= 8
        dump = []
        for table in tables:
            rows = await connection.fetch(f"SELECT * FROM notifier.{table['tablename']}")
            dump += [b" ".join(_raw(value) for value in row.values()) for row in rows]
    finally:
        await connection.close()
    captured = capsys.readouterr()
    everything = b"\n".join(dump) + captured.out.encode() + captured.err.encode()
    assert b"message_refused" in everything
    for secret in planted:
        for form in (secret.encode(), secret.lower().encode(), secret.encode().hex().encode()):
            assert form not in everything


def _raw(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


# --- lists and waits ---


async def test_a_list_goes_on_where_it_ended_newest_first(desk: Desk) -> None:
    for number in range(5):
        await desk.reach(f"m-{number}")
    await desk.reach("m-1", to_tier=3)
    seen, token = [], ""
    while True:
        page = await desk.deliveries(page_size=2, page_token=token)
        assert page.total_size == 6
        seen += [delivery.delivery_id for delivery in page.deliveries]
        token = page.next_page_token
        assert len(token) <= 64
        if not token:
            break
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == 6
    of_member = await desk.deliveries(member_id="m-1")
    assert {delivery.campaign_id for delivery in of_member.deliveries} == {"green-reached", "silver-reached"}
    assert of_member.total_size == 2


async def test_a_list_shows_one_state(desk: Desk) -> None:
    await desk.contact("m-1", "ann@example.com")
    await desk.reach("m-1")
    await desk.reach("m-2")
    await desk.worker.deliver_due()
    for state, member_id in ((DeliveryState.DELIVERED, "m-1"), (DeliveryState.NO_CONTACT, "m-2")):
        for page in (await desk.deliveries(state=state), await desk.deliveries(state=state, member_id=member_id)):
            assert [delivery.member_id for delivery in page.deliveries] == [member_id]
            assert page.total_size == 1
    assert (await desk.deliveries(state=DeliveryState.QUEUED)).deliveries == []


@pytest.mark.parametrize("broken", ["x", "AAAA", "ä", "A" * 40, "="])
async def test_a_page_token_that_was_not_given_out_is_refused(desk: Desk, broken: str) -> None:
    with pytest.raises(PageTokenError):
        await desk.deliveries(page_token=broken)


async def test_a_page_token_belongs_to_its_filter(desk: Desk) -> None:
    await desk.reach("m-1")
    await desk.reach("m-2")
    token = (await desk.deliveries(page_size=1)).next_page_token
    with pytest.raises(PageTokenError):
        await desk.deliveries(page_size=1, page_token=token, member_id="m-1")


async def test_a_read_waits_until_the_feeds_have_come_and_says_so_where_they_do_not(desk: Desk) -> None:
    with pytest.raises(NotCaughtUpError):
        await desk.deliveries(after={0: 3}, wait_seconds=0)
    reading = asyncio.create_task(desk.deliveries(after={0: 3}, wait_seconds=20))
    before, after = Cursor(), Cursor(ledger_offset=3)
    await desk.consumer.handle(Batch(changes=(), entries=(), before={0: before}, after={0: after}))
    assert (await reading).total_size == 0


async def test_entries_that_mean_nothing_are_passed_at_once_and_written_down_with_what_means_something(
    desk: Desk,
) -> None:
    async def written() -> dict[int, Cursor]:
        return await desk.store.read(Transaction.read_cursors)

    def passing(partition: int, start: int, end: int) -> Batch:
        before, after = Cursor(ledger_offset=start), Cursor(ledger_offset=end)
        return Batch(changes=(), entries=(), before={partition: before}, after={partition: after})

    home = partition_of("m-1", PARTITIONS)
    other = (home + 1) % PARTITIONS
    await desk.consumer.handle(passing(home, 0, 5))
    await desk.consumer.handle(passing(other, 0, 7))
    await desk.consumer.handle(passing(home, 5, 6))
    await desk.deliveries(after={home: 6, other: 7}, wait_seconds=0)
    assert set((await written()).values()) == {Cursor()}
    desk.cursors[home] = Cursor(ledger_offset=6)
    await desk.reach("m-1")
    assert (await written())[home] == Cursor(ledger_offset=6, change_offset=1)
    assert (await written())[other] == Cursor(ledger_offset=7)
    # Many of them are written down for their own sake.
    await desk.consumer.handle(passing(other, 7, 20_000))
    assert (await written())[other] == Cursor(ledger_offset=20_000)
