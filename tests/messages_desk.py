"""A desk for tests of messages: the outbox, the worker and the channels, without feeds. Time is moved by hand."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from services import programme as programmes
from services.notifier.channels.adapter import Channel
from services.notifier.channels.email import Composer, EmailChannel, MailServer
from services.notifier.channels.webhooks import read_networks
from services.notifier.domain.contacts import Contact, partition_of
from services.notifier.domain.deliveries import Delivery
from services.notifier.domain.messages import Outgoing
from services.notifier.domain.programmes import Programmes
from services.notifier.domain.suppressions import AddressHashes, Bounce
from services.notifier.endpoint_secrets import EndpointSecrets
from services.notifier.gate import Gate
from services.notifier.links import UnsubscribeLinks
from services.notifier.progress import Progress
from services.notifier.service import ContactService, MessageService, PreferenceService, WebhookService
from services.notifier.service.preferences import Hearing
from services.notifier.store import DeliveryFilter, Installation, Place, Store, Transaction
from services.notifier.vault import MasterKey, Vault
from services.notifier.worker import Worker
from services.programme.messages import EMAIL
from services.runtime.database import create_pool
from tests.conftest import PROGRAMMES, Database

PARTITIONS = 4
MASTER_KEY = MasterKey(b"m" * 32)
INSTALLATION = Installation(key_fingerprint=MASTER_KEY.key_id, partitions=PARTITIONS, simulated=False)
VAULT = Vault([MASTER_KEY], INSTALLATION)
LINKS = UnsubscribeLinks(key=VAULT.key_for("unsubscribe"), url="https://shop.example.com/stop?token={token}")
SECRETS = EndpointSecrets(VAULT.key_for("webhook secrets"))
# Where events may go beside the internet.
NETWORKS = read_networks("127.0.0.0/8, ::1/128")
# Noon in New York.
NOON = datetime(2026, 5, 4, 16, tzinfo=UTC)

# Added to the programme of the demo, before its campaigns.
MESSAGES = """
messages:
  languages: [en, pl]
  topics:
    - id: offers
    - id: news
      consent: opt_in
    - id: account
      consent: always
"""

_CAMPAIGN = """
  - id: {id}
    trigger: first_purchase
    message:
      topic: {topic}
      channel: {channel}
      urgent: {urgent}
      subject: {{en: "Hello {{{{ name }}}}", pl: "Witaj {{{{ name }}}}"}}
      text: {{en: "Thank you, {{{{ name }}}}", pl: "Dziękujemy, {{{{ name }}}}"}}
      html: {{en: "<p>Thank you, <b>{{{{ name }}}}</b></p>"}}
"""


def programme(section: str = "") -> programmes.Programme:
    """The demo's programme with topics, with a campaign for each, and with more lines of `messages`."""
    campaigns = "".join(
        _CAMPAIGN.format(id=name, topic=topic, channel=channel, urgent=str(urgent).lower())
        for name, topic, channel, urgent in (
            ("offer", "offers", EMAIL, False),
            ("urgent-offer", "offers", EMAIL, True),
            ("newsletter", "news", EMAIL, False),
            ("statement", "account", EMAIL, False),
            ("text", "offers", "sms", False),
            ("logged", "offers", "log", False),
        )
    )
    text = (PROGRAMMES / "retail-demo.yaml").read_text(encoding="utf-8")
    return programmes.parse(text.replace("\ncampaigns:", f"{MESSAGES}{section}\ncampaigns:") + campaigns, "test.yaml")


@dataclass
class Desk:
    """The outbox and who empties it."""

    database: Database
    store: Store
    programme: programmes.Programme
    channels: dict[str, Channel]
    now: datetime = NOON
    # Where it is None, business time is machine time.
    business: datetime | None = None
    members: set[str] = field(default_factory=set)
    made: int = 0

    def __post_init__(self) -> None:
        self.programmes = Programmes(self.programme)
        self.programmes.asked = True
        self.addresses = AddressHashes(key=VAULT.key_for("addresses"), partitions=PARTITIONS)
        self.worker = self.new_worker()
        self.contacts = ContactService(
            store=self.store,
            vault=VAULT,
            partitions=PARTITIONS,
            member_exists=self.exists,
            messages_queued=self.worker.wake,
            machine_now=lambda: self.now,
            business_now=self.business_now,
        )
        self.preferences = PreferenceService(
            store=self.store,
            vault=VAULT,
            links=LINKS,
            addresses=self.addresses,
            programmes=self.programmes,
            channels=["email", "sms"],
            partitions=PARTITIONS,
            simulated=False,
            member_exists=self.exists,
            machine_now=lambda: self.now,
            business_now=self.business_now,
        )
        self.messages = MessageService(
            store=self.store,
            page_key=VAULT.page_key,
            request_key=VAULT.request_key,
            progress=Progress({}),
            partitions=PARTITIONS,
            programmes=self.programmes,
            messages_queued=self.worker.wake,
            machine_now=lambda: self.now,
            business_now=self.business_now,
        )
        self.webhooks = WebhookService(
            store=self.store,
            secrets=SECRETS,
            request_key=VAULT.request_key,
            networks=NETWORKS,
            machine_now=lambda: self.now,
        )

    def business_now(self) -> datetime:
        return self.business or self.now

    async def exists(self, member_id: str) -> bool:
        return member_id in self.members

    def new_worker(self, store: Store | None = None) -> Worker:
        gate = Gate(
            vault=VAULT, programmes=self.programmes, addresses=self.addresses, business_now=self.business_now
        )  # fmt: skip
        return Worker(
            store=store or self.store,
            gate=gate,
            channels=self.channels,
            machine_now=lambda: self.now,
            business_now=self.business_now,
            random=lambda: 0.0,
        )

    def email(self, port: int, **settings: Any) -> EmailChannel:
        """The e-mail channel over a server on this machine."""
        composer = Composer(programmes=self.programmes, mail_from="Shop <shop@example.com>", links=LINKS)
        server = MailServer(host="localhost", port=port, greeting="example.com", **settings)
        channel = EmailChannel(composer=composer, server=server, machine_now=lambda: self.now)
        self.channels[EMAIL] = channel
        return channel

    async def contact(self, member_id: str, **contact: Any) -> None:
        """A member's contact."""
        self.members.add(member_id)
        self.made += 1
        values = {"name": "Ann", "email": f"{member_id}@example.com", **contact}
        await self.contacts.set_contact(
            request_id=f"c-{self.made}", member_id=member_id, contact=Contact(**values)
        )  # fmt: skip

    async def say(
        self,
        member_id: str,
        *said: tuple[str, str, bool],
        source: str = "web form",
        consent_time: datetime | None = None,
    ) -> None:
        """What a member said: channel, topic, whether it is allowed."""
        self.members.add(member_id)
        self.made += 1
        await self.preferences.set_preferences(
            request_id=f"p-{self.made}",
            member_id=member_id,
            hearings=[Hearing(channel=channel, topic=topic, allowed=allowed) for channel, topic, allowed in said],
            source=source,
            consent_time=consent_time,
            principal="test",
        )

    async def bounce(
        self,
        kind: Bounce,
        *,
        address: str = "",
        delivery_id: str = "",
        request_id: str = "",
        principal: str = "backend",
    ) -> tuple[bool, bool]:
        """Says what became of a message, by a request of its own; whether nothing is sent there, and whether that was
        answered before."""
        self.made += 1
        return await self.preferences.record_bounce(
            request_id=request_id or f"b-{self.made}",
            principal=principal,
            address=address,
            delivery_id=delivery_id,
            bounce=kind,
        )

    def outgoing(self, member_id: str, campaign_id: str = "offer", **more: Any) -> Outgoing:
        """A message that is to be sent."""
        self.made += 1
        campaign = self.programme.campaign(campaign_id)
        action = campaign.variants[0].actions.message if campaign else None
        said = {"channel": action.channel, "topic": action.topic, "urgent": action.urgent} if action else {}
        values: dict[str, Any] = {"facts": {}, "created_time": self.business_now(), "trigger": f"entry:{self.made}"}
        return Outgoing(
            partition=partition_of(member_id, PARTITIONS),
            member_id=member_id,
            campaign_id=campaign_id,
            **{**values, **said, **more},
        )

    async def put(self, *messages: Outgoing) -> int:
        """Puts messages into the outbox, in a transaction of their own."""

        async def work(transaction: Transaction) -> int:
            return await transaction.insert_messages(messages, self.now, key=VAULT.delivery_key)

        return await self.store.transact(work)

    async def send(self, member_id: str, campaign_id: str = "offer", **more: Any) -> None:
        """Puts one message into the outbox."""
        await self.put(self.outgoing(member_id, campaign_id, **more))

    async def deliveries(self, member_id: str | None = None) -> list[Delivery]:
        """What became of the messages, in the order in which they were made."""
        partition = None if member_id is None else partition_of(member_id, PARTITIONS)
        wanted = DeliveryFilter(member_id=member_id, partition=partition)
        newest = Place(created_time=datetime.max.replace(tzinfo=UTC), delivery_id="~")

        async def read(transaction: Transaction) -> list[Delivery]:
            return list((await transaction.list_deliveries(wanted, newest, 10_000))[0])

        return (await self.store.read(read))[::-1]

    async def delivery(self, member_id: str | None = None) -> Delivery:
        """What became of the one message there is."""
        (delivery,) = await self.deliveries(member_id)
        return delivery

    async def states(self) -> Mapping[str, int]:
        """How many messages are in each state."""
        states = [delivery.state.value for delivery in await self.deliveries()]
        return {state: states.count(state) for state in sorted(set(states))}


@contextlib.asynccontextmanager
async def open_store(database: Database) -> AsyncIterator[Store]:
    """A store over a pool of its own, of an installation of four partitions."""
    pool = await create_pool(database.dsn("loyalty_notifier"), service="test", size=6)
    try:
        store = Store(pool)

        async def claim(transaction: Transaction) -> None:
            await transaction.claim_installation(INSTALLATION)
            await transaction.insert_cursors(range(PARTITIONS))

        await store.transact(claim)
        yield store
    finally:
        await pool.close()
