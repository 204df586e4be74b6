"""Messages over a real PostgreSQL and a real mail server: who gets what, when, and over which channel."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from services.cli.postgres import Cluster
from services.notifier import worker as worker_module
from services.notifier.channels import adapter as adapter_module
from services.notifier.channels.adapter import AdaptedChannel, Addressee, load_adapters
from services.notifier.channels.email import EmailChannel
from services.notifier.channels.log import LogChannel
from services.notifier.channels.words import Words
from services.notifier.domain.contacts import Contact, partition_of
from services.notifier.domain.coupons import Coupon
from services.notifier.domain.deliveries import DeliveryState, DueDelivery, Outcome, Verdict
from services.notifier.domain.suppressions import Bounce
from services.notifier.errors import (
    ChannelClosedError,
    ChannelUnknownError,
    DeliveryNotRetryableError,
    DeliveryUnknownError,
    FieldError,
    InstallationError,
    MemberUnknownError,
    OccurredInFutureError,
    RequestIdReusedError,
    TopicUnknownError,
    UnsubscribeTokenError,
)
from services.notifier.links import Refusal
from services.notifier.rpc.statuses import describe
from services.notifier.service.preferences import Hearing
from services.notifier.store import QUERIES, Transaction
from services.programme.messages import EMAIL, LOG, Message
from services.programme.rewards import Offer, OfferKind
from services.programme.versions import SINCE_EVER, Version, Versions
from tests.conftest import Database
from tests.mail_server import LocalMailServer, mail_server
from tests.messages_desk import LINKS, NOON, PARTITIONS, VAULT, Desk, open_store, programme
from tests.plans import rows_touched

QUIET = """
  quiet_hours: {from: "21:00", until: "08:00"}
"""
CAPS = """
  caps: {per_day: 1, per_week: 2}
"""


class Texts:
    """A channel of the retailer's own: keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Message]] = []
        self.told = asyncio.Event()
        self.closed = False
        self.hangs = False

    def address(self, contact: Contact) -> str:
        return contact.phone

    async def send(self, delivery_id: str, address: str, message: Message) -> Outcome:
        if self.closed:
            raise ChannelClosedError
        if self.hangs:
            await asyncio.Event().wait()
        self.sent.append((delivery_id, address, message))
        self.told.set()
        return Outcome(verdict=Verdict.TAKEN)


class Post:
    """A desk, its mail server, and its channel for texts."""

    def __init__(self, desk: Desk, mail: LocalMailServer, texts: Texts) -> None:
        self.desk = desk
        self.mail = mail
        self.texts = texts

    def received(self) -> list[str]:
        return [mail["X-Mailbox-To"] for mail in self.mail.messages()]


@contextlib.asynccontextmanager
async def opened(database: Database, folder: Path, section: str = "") -> AsyncIterator[Post]:
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(database))
        mail = await stack.enter_async_context(mail_server(folder / "mail"))
        desk = Desk(database=database, store=store, programme=programme(section), channels={})
        texts = Texts()
        desk.email(mail.port)
        desk.channels |= {LOG: LogChannel(), "sms": AdaptedChannel(texts, Words(desk.programmes))}
        yield Post(desk, mail, texts)


@pytest_asyncio.fixture
async def post(database: Database, folder: Path) -> AsyncIterator[Post]:
    async with opened(database, folder) as made:
        yield made


@pytest_asyncio.fixture
async def quiet_post(database: Database, folder: Path) -> AsyncIterator[Post]:
    async with opened(database, folder, QUIET) as made:
        yield made


@pytest_asyncio.fixture
async def capped_post(database: Database, folder: Path) -> AsyncIterator[Post]:
    async with opened(database, folder, CAPS) as made:
        yield made


async def insert_deliveries(desk: Desk, owner: asyncpg.Connection, count: int) -> None:
    """So many messages of a newsletter to m-1, an hour old, that wait to be sent."""
    partition = partition_of("m-1", PARTITIONS)
    await owner.execute(
        """INSERT INTO notifier.deliveries (partition, delivery_id, campaign_id, member_id, trigger, topic, facts,
                                            created_time, state, not_before)
           SELECT $1, $2 || left(md5(number::text), 28), 'newsletter', 'm-1',
                  'entry:' || number, 'news', '{}', $3, 'queued', $3
           FROM generate_series(1, $4) AS number""",
        partition, f"{partition:04x}", desk.now - timedelta(hours=1), count,
    )  # fmt: skip


# --- words ---


async def test_a_message_comes_in_the_members_language_or_in_the_first(post: Post) -> None:
    for member_id, language in (("m-1", "pl"), ("m-2", "pl-PL"), ("m-3", "de"), ("m-4", "")):
        await post.desk.contact(member_id, language=language)
        await post.desk.send(member_id)
    await post.desk.worker.deliver_due()
    subjects = {mail["X-Mailbox-To"]: mail["Subject"] for mail in post.mail.messages()}
    assert subjects == {
        "m-1@example.com": "Witaj Ann",
        "m-2@example.com": "Witaj Ann",
        "m-3@example.com": "Hello Ann",
        "m-4@example.com": "Hello Ann",
    }


async def test_a_mail_has_text_and_html_in_which_a_name_is_never_a_tag(post: Post) -> None:
    await post.desk.contact("m-1", name="<b>Eve</b>")
    await post.desk.contact("m-2", language="pl")
    await post.desk.send("m-1")
    await post.desk.send("m-2")
    await post.desk.worker.deliver_due()
    english, polish = sorted(post.mail.messages(), key=lambda mail: mail["X-Mailbox-To"])
    text, html = english.get_body(("plain",)), english.get_body(("html",))
    assert text is not None
    assert html is not None
    assert "Thank you, <b>Eve</b>" in text.get_content()
    assert "<p>Thank you, <b>&lt;b&gt;Eve&lt;/b&gt;</b></p>" in html.get_content()
    # There is no HTML in Polish.
    assert not polish.is_multipart()


async def test_a_mail_that_can_be_refused_says_where_in_one_click(post: Post) -> None:
    await post.desk.contact("m-1")
    await post.desk.send("m-1", "offer")
    await post.desk.send("m-1", "statement")
    await post.desk.worker.deliver_due()
    mails = {mail["List-Unsubscribe"] is not None: mail for mail in post.mail.messages()}
    assert mails[True]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = mails[True]["List-Unsubscribe"]
    assert link.startswith("<https://shop.example.com/stop?token=")
    refusal = LINKS.read(link[1:-1].partition("token=")[2])
    assert refusal == Refusal(member_id="m-1", channel=EMAIL, topic="offers")
    # What belongs to the membership cannot be refused.
    assert mails[False]["List-Unsubscribe-Post"] is None


# --- what members want ---


async def test_who_has_opted_out_gets_nothing_and_who_has_not_opted_in_neither(post: Post) -> None:
    desk = post.desk
    for member_id in ("m-1", "m-2", "m-3"):
        await desk.contact(member_id)
    await desk.say("m-1", ("email", "offers", False))
    await desk.say("m-2", ("", "", False), ("email", "news", True))
    for member_id in ("m-1", "m-2", "m-3"):
        for campaign_id in ("offer", "newsletter", "statement"):
            await desk.send(member_id, campaign_id)
    await desk.worker.deliver_due()
    arrived = {(d.member_id, d.campaign_id) for d in await desk.deliveries() if d.state is DeliveryState.DELIVERED}
    assert arrived == {
        ("m-1", "statement"), ("m-2", "newsletter"), ("m-2", "statement"), ("m-3", "offer"), ("m-3", "statement"),
    }  # fmt: skip
    withheld = {d.last_error for d in await desk.deliveries() if d.state is DeliveryState.WITHHELD}
    assert withheld == {"the member has opted out", "the member has not agreed to hear of this"}
    assert len(post.received()) == 5


async def test_who_opts_out_after_a_message_was_queued_does_not_get_it(post: Post) -> None:
    await post.desk.contact("m-1")
    await post.desk.send("m-1")
    await post.desk.say("m-1", ("email", "offers", False))
    await post.desk.worker.deliver_due()
    assert (await post.desk.delivery()).state is DeliveryState.WITHHELD
    assert post.received() == []


async def test_who_opts_out_while_a_lease_is_worked_off_does_not_get_the_rest_of_it(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between taking messages up and sending them there may be many others."""
    monkeypatch.setattr(EmailChannel, "senders", 1)
    monkeypatch.setattr(worker_module, "FRESH_SECONDS", 0.0)
    desk = post.desk
    await desk.contact("m-1")
    for _ in range(3):
        await desk.send("m-1")
    opted_out = asyncio.Event()

    async def opt_out() -> None:
        await post.mail.next_message()
        await desk.say("m-1", ("", "", False))
        opted_out.set()

    channel = desk.channels[EMAIL]
    deliver = channel.deliver

    async def slowly(due: DueDelivery, to: Addressee) -> Outcome:
        outcome = await deliver(due, to)
        await opted_out.wait()
        return outcome

    monkeypatch.setattr(channel, "deliver", slowly)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(opt_out())
        tasks.create_task(desk.worker.deliver_due())
    assert await desk.states() == {"delivered": 1, "withheld": 2}
    assert len(post.received()) == 1


async def test_a_contact_that_is_gone_while_a_lease_is_worked_off_gets_nothing_more(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "FRESH_SECONDS", -1.0)
    desk = post.desk
    await desk.contact("m-1")
    await desk.send("m-1")
    channel = desk.channels[EMAIL]
    address = channel.address
    asked = 0

    def forgetful(contact: Contact) -> str:
        nonlocal asked
        asked += 1
        return address(contact) if asked == 1 else ""

    monkeypatch.setattr(channel, "address", forgetful)
    await desk.worker.deliver_due()
    assert (await desk.delivery()).state is DeliveryState.NO_CONTACT
    assert post.received() == []


async def test_a_campaign_that_is_paused_while_a_lease_is_worked_off_sends_nothing_more_of_it(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmailChannel, "senders", 1)
    monkeypatch.setattr(worker_module, "FRESH_SECONDS", 0.0)
    desk = post.desk
    await desk.contact("m-1")
    await desk.send("m-1", "offer")
    for _ in range(3):
        await desk.send("m-1", "offer", created_time=desk.now + timedelta(seconds=1))
    await desk.send("m-1", "statement", created_time=desk.now + timedelta(seconds=2))

    async def pause(transaction: Transaction) -> None:
        await transaction.pause_campaign("offer", desk.now)

    async def resume(transaction: Transaction) -> None:
        await transaction.resume_campaign("offer")

    channel = desk.channels[EMAIL]
    deliver = channel.deliver
    tried = 0

    async def then_pause(due: DueDelivery, to: Addressee) -> Outcome:
        nonlocal tried
        outcome, tried = await deliver(due, to), tried + 1
        if tried == 1:
            await desk.store.transact(pause)
        return outcome

    monkeypatch.setattr(channel, "deliver", then_pause)
    await desk.worker.deliver_due()
    assert await desk.states() == {"delivered": 2, "queued": 3}
    assert {d.attempts for d in await desk.deliveries() if d.state is DeliveryState.QUEUED} == {0}
    # They were given back, and go on without waiting for a lease to end.
    await desk.store.transact(resume)
    await desk.worker.deliver_due()
    assert await desk.states() == {"delivered": 5}
    assert len(post.received()) == 5


async def test_what_waits_of_a_paused_campaign_costs_the_worker_nothing(post: Post) -> None:
    """However much waits, neither looking for what is due nor taking it touches more than a row of it."""
    desk = post.desk
    waiting = 20_000
    await desk.contact("m-1")
    await desk.send("m-1", "offer")

    async def pause(transaction: Transaction) -> None:
        await transaction.pause_campaign("newsletter", desk.now)

    await desk.store.transact(pause)
    partition = partition_of("m-1", PARTITIONS)
    owner = await asyncpg.connect(desk.database.dsn("loyalty_owner"))
    try:
        await insert_deliveries(desk, owner, waiting)
        now, later = desk.now, desk.now + timedelta(seconds=90)
        types = "integer, text, text, timestamptz, timestamptz, integer"
        await owner.execute(f"PREPARE look (text[], text[]) AS {QUERIES['due_deliveries']}")
        await owner.execute(f"PREPARE lease ({types}) AS {QUERIES['lease_deliveries']}")
        for mode in ("force_generic_plan", "force_custom_plan"):
            await owner.execute(f"SET plan_cache_mode = {mode}")
            look = "look ('{email,sms,log}', '{newsletter}')"
            lease = f"lease ({partition}, 'email', 'offer', '{now}', '{later}', 200)"
            assert 1 <= await rows_touched(owner, "deliveries", look) <= 4
            assert 1 <= await rows_touched(owner, "deliveries", lease) <= 4
            await owner.execute("ANALYZE notifier.deliveries")
    finally:
        await owner.close()
    await desk.worker.deliver_due()
    assert (await desk.states())["delivered"] == 1


async def test_preferences_are_read_back_with_when_and_how_they_became_known(post: Post) -> None:
    desk = post.desk
    await desk.say("m-1", ("", "offers", False), source="call of 4 May")
    desk.now += timedelta(hours=1)
    await desk.say("m-1", ("sms", "offers", True), ("email", "news", True))
    standing = await desk.preferences.get_preferences("m-1")
    heard = {(hearing.channel, hearing.topic) for hearing in standing.hearings if hearing.allowed}
    assert heard == {("sms", "offers"), ("email", "news"), ("email", "account"), ("sms", "account")}
    assert [(choice.channel, choice.topic, choice.allowed, choice.source) for choice in standing.choices] == [
        ("", "offers", False, "call of 4 May"),
        ("sms", "offers", True, "web form"),
        ("email", "news", True, "web form"),
    ]
    assert [choice.chosen_time for choice in standing.choices] == [NOON, desk.now, desk.now]
    # What was said before stays on record.
    await desk.say("m-1", ("", "offers", True))
    connection = await asyncpg.connect(desk.database.dsn("loyalty_owner"))
    try:
        assert await connection.fetchval("SELECT count(*) FROM notifier.consents") == 4
    finally:
        await connection.close()


async def test_a_form_that_is_typed_in_late_does_not_undo_what_was_said_after_it(post: Post) -> None:
    desk = post.desk
    await desk.contact("m-1")
    await desk.send("m-1")
    await desk.say("m-1", ("email", "offers", False))
    await desk.say("m-1", ("email", "offers", True), consent_time=desk.now - timedelta(days=30))
    await desk.worker.deliver_due()
    assert (await desk.delivery()).state is DeliveryState.WITHHELD
    standing = await desk.preferences.get_preferences("m-1")
    assert not any(
        hearing.allowed for hearing in standing.hearings if hearing.topic == "offers" and hearing.channel == "email"
    )
    # A clock that is ahead does not either keep the member from refusing.
    await desk.say("m-1", ("email", "", True), consent_time=desk.now + timedelta(minutes=4))
    desk.now += timedelta(minutes=1)
    await desk.say("m-1", ("email", "offers", False))
    await desk.send("m-1")
    await desk.worker.deliver_due()
    assert await desk.states() == {"withheld": 2}


async def test_a_request_is_kept_once_and_what_does_not_exist_is_refused(post: Post) -> None:
    desk = post.desk
    desk.members.add("m-1")

    async def say(hearing: Hearing, member_id: str = "m-1", request_id: str = "r") -> bool:
        return await desk.preferences.set_preferences(
            request_id=request_id, member_id=member_id, hearings=[hearing], source="x", consent_time=None,
            principal="test",
        )  # fmt: skip

    no = Hearing(channel="email", topic="offers", allowed=False)
    async with asyncio.TaskGroup() as tasks:
        answers = [tasks.create_task(say(no)) for _ in range(4)]
    assert sorted(answer.result() for answer in answers) == [False, True, True, True]
    assert len((await desk.preferences.get_preferences("m-1")).choices) == 1
    with pytest.raises(RequestIdReusedError):
        await say(replace(no, allowed=True))
    with pytest.raises(TopicUnknownError, match="no topic 'offer'; it has offers, news, account"):
        await say(replace(no, topic="offer"), request_id="r-2")
    with pytest.raises(ChannelUnknownError, match="messages go by email, sms"):
        await say(replace(no, channel="webhook"), request_id="r-2")
    for asking in (say(no, "nobody"), desk.preferences.get_preferences("nobody")):
        with pytest.raises(MemberUnknownError):
            await asking


async def test_what_belongs_to_the_membership_cannot_be_refused_and_that_is_said(post: Post) -> None:
    desk = post.desk
    account = ("email", "account", False)
    with pytest.raises(FieldError, match="'account' belong to the membership") as refused:
        await desk.say("m-1", ("email", "offers", False), account)
    assert refused.value.field == "preferences[1].allowed"
    assert (await desk.preferences.get_preferences("m-1")).choices == []
    # Nor by a link from a time when it could be.
    token = LINKS.token(Refusal(member_id="m-1", channel=EMAIL, topic="account"))
    with pytest.raises(FieldError, match="'account' belong to the membership") as refused:
        await desk.preferences.unsubscribe(request_id="u-1", token=token, principal="site")
    assert refused.value.field == "token"
    # Nothing at all, but what belongs to the membership.
    await desk.say("m-1", ("", "", False), ("email", "account", True))
    hearings = (await desk.preferences.get_preferences("m-1")).hearings
    assert {hearing.topic for hearing in hearings if hearing.allowed} == {"account"}


async def test_a_choice_that_was_kept_is_answered_again_when_its_topic_is_gone(post: Post) -> None:
    desk = post.desk
    desk.members.add("m-1")

    async def say() -> bool:
        return await desk.preferences.set_preferences(
            request_id="p-1", member_id="m-1", source="x", consent_time=None, principal="test",
            hearings=[Hearing(channel="email", topic="news", allowed=True)],
        )  # fmt: skip

    assert await say() is False
    text = programme()
    without = replace(text, messages=replace(text.messages, topics=text.messages.topics[:1]))
    desk.programmes.learn(Versions([Version(programme=without, from_time=SINCE_EVER)]))
    assert await say() is True


async def test_what_is_said_to_be_said_in_a_year_to_come_is_refused(post: Post) -> None:
    desk = post.desk
    desk.members.add("m-1")
    with pytest.raises(OccurredInFutureError, match="lies in the future") as refused:
        await desk.say("m-1", ("email", "offers", True), consent_time=desk.now + timedelta(days=365))
    told = describe(refused.value)
    assert told is not None
    assert (told.reason, told.fields[0][0]) == ("OCCURRED_IN_FUTURE", "consent_time")
    assert (await desk.preferences.get_preferences("m-1")).choices == []


async def test_a_word_told_ahead_of_a_simulated_clock_does_not_hold_against_the_next_one_either(post: Post) -> None:
    desk = post.desk
    desk.business = desk.now - timedelta(days=3650)
    await desk.say("m-1", ("email", "offers", True), consent_time=desk.business + timedelta(minutes=4))
    await desk.say("m-1", ("email", "offers", False))
    hearings = (await desk.preferences.get_preferences("m-1")).hearings
    assert [one.allowed for one in hearings if (one.channel, one.topic) == ("email", "offers")] == [False]


async def test_a_message_that_names_no_topic_shows_the_one_that_it_goes_by(post: Post) -> None:
    desk = post.desk
    await desk.send("m-1", topic="")
    await desk.send("m-1", "statement")
    page = await desk.messages.list_deliveries(
        member_id="m-1", state=None, page_size=0, page_token="", after={}, wait_seconds=0
    )
    assert sorted(delivery.topic for delivery in page.deliveries) == ["account", "offers"]


async def test_one_click_refuses_the_topic_and_a_made_up_token_nothing(post: Post) -> None:
    desk = post.desk
    await desk.contact("m-1")
    token = LINKS.token(Refusal(member_id="m-1", channel=EMAIL, topic="offers"))
    for request_id in ("u-1", "u-1", "u-2"):
        hearing = await desk.preferences.unsubscribe(request_id=request_id, token=token, principal="site")
        assert (hearing.channel, hearing.topic) == ("email", "offers")
    await desk.send("m-1", "offer")
    await desk.worker.deliver_due()
    assert (await desk.delivery()).state is DeliveryState.WITHHELD
    (choice,) = (await desk.preferences.get_preferences("m-1")).choices
    assert (choice.source, choice.allowed) == ("one-click", False)
    # The last letter stands for fewer bits than the others: two of them may mean the same.
    changed = token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]
    for broken in (token[:-2], changed, "", "x", "AAAA" * 20, "ä"):
        with pytest.raises(UnsubscribeTokenError):
            await desk.preferences.unsubscribe(request_id="u-3", token=broken, principal="site")


# --- when ---


async def test_in_quiet_hours_nothing_is_sent_but_what_is_urgent_or_belongs_to_the_membership(
    quiet_post: Post,
) -> None:
    desk = quiet_post.desk
    # 21:30 in New York, 3:30 in Warsaw, 18:30 in Los Angeles.
    desk.now = NOON.replace(day=5, hour=1, minute=30)
    for member_id, zone in (("m-1", ""), ("m-2", "Europe/Warsaw"), ("m-3", "America/Los_Angeles")):
        await desk.contact(member_id, time_zone=zone)
        for campaign_id in ("offer", "urgent-offer", "statement"):
            await desk.send(member_id, campaign_id)
    await desk.worker.deliver_due()
    held = {d.member_id: d.held_until for d in await desk.deliveries() if d.state is DeliveryState.HELD}
    assert held == {"m-1": NOON.replace(day=5, hour=12), "m-2": NOON.replace(day=5, hour=6)}
    assert len(quiet_post.received()) == 7
    # Eight o'clock in Warsaw, and then in New York.
    desk.now = NOON.replace(day=5, hour=6)
    await desk.worker.deliver_due()
    assert len(quiet_post.received()) == 8
    desk.now = NOON.replace(day=5, hour=12)
    await desk.worker.deliver_due()
    assert len(quiet_post.received()) == 9
    assert await desk.states() == {"delivered": 9}


async def test_what_was_held_over_night_is_released_in_small_parts(
    quiet_post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "_RELEASED_AT_ONCE", 4)
    released: list[int] = []
    release = Transaction.release_held

    async def counted(transaction: Transaction, *asked: Any) -> int:
        released.append(await release(transaction, *asked))
        return released[-1]

    monkeypatch.setattr(Transaction, "release_held", counted)
    desk = quiet_post.desk
    desk.now = datetime(2026, 5, 5, 2, tzinfo=UTC)
    for number in range(30):
        await desk.contact(f"m-{number}")
        await desk.send(f"m-{number}")
    await desk.worker.deliver_due()
    assert await desk.states() == {"held": 30}
    desk.now += timedelta(hours=12)
    await desk.worker.deliver_due()
    assert await desk.states() == {"delivered": 30}
    assert sum(released) == 30
    assert max(released) <= 4


async def test_in_a_simulated_installation_quiet_hours_end_when_business_time_says_so(quiet_post: Post) -> None:
    desk = quiet_post.desk
    await desk.contact("m-1")
    desk.business = NOON.replace(hour=3)
    await desk.send("m-1")
    await desk.worker.deliver_due()
    # Machine time alone ends nothing.
    desk.now += timedelta(days=3)
    await desk.worker.deliver_due()
    assert (await desk.delivery()).state is DeliveryState.HELD
    desk.business = NOON.replace(hour=12)
    await desk.worker.deliver_due()
    assert (await desk.delivery()).state is DeliveryState.DELIVERED


async def test_who_opts_out_in_quiet_hours_gets_nothing_when_they_end(quiet_post: Post) -> None:
    desk = quiet_post.desk
    await desk.contact("m-1")
    desk.now = NOON.replace(hour=3)
    await desk.send("m-1")
    await desk.worker.deliver_due()
    await desk.say("m-1", ("", "", False))
    desk.now = NOON
    await desk.worker.deliver_due()
    assert (await desk.delivery()).state is DeliveryState.WITHHELD


async def test_a_member_gets_no_more_than_the_caps_allow_and_the_rest_later(capped_post: Post) -> None:
    desk = capped_post.desk
    await desk.contact("m-1")
    await desk.contact("m-2")
    for _ in range(3):
        await desk.send("m-1")
    await desk.send("m-1", "urgent-offer")
    await desk.send("m-1", "statement")
    await desk.send("m-2")
    arrived = []
    for _ in range(9):
        await desk.worker.deliver_due()
        arrived.append(capped_post.received().count("m-1@example.com"))
        desk.now += timedelta(days=1)
    # The urgent one and the statement come at once; of the others one a day, two in a week.
    assert arrived == [3, 4, 4, 4, 4, 4, 4, 5, 5]
    assert capped_post.received().count("m-2@example.com") == 1


async def test_two_workers_together_keep_to_the_caps(capped_post: Post) -> None:
    desk = capped_post.desk
    async with open_store(desk.database) as other:
        for number in range(20):
            await desk.contact(f"m-{number}")
            for _ in range(4):
                await desk.send(f"m-{number}")
        # Leases of one message each: two workers meet at every member.
        EmailChannel.leased, before = 1, EmailChannel.leased
        try:
            async with asyncio.TaskGroup() as tasks:
                for store in (desk.store, other, desk.store):
                    tasks.create_task(desk.new_worker(store).deliver_due())
        finally:
            EmailChannel.leased = before
    assert sorted(capped_post.received()) == sorted(f"m-{number}@example.com" for number in range(20))
    assert await desk.states() == {"delivered": 20, "held": 60}


# --- addresses ---


async def test_an_address_that_was_refused_for_good_is_not_written_to_again_whoever_has_it(post: Post) -> None:
    desk = post.desk
    await desk.contact("m-1", email="gone@example.com")
    post.mail.refusals["gone@example.com"] = "550 5.1.1 no such user"
    await desk.send("m-1")
    await desk.worker.deliver_due()
    assert (await desk.delivery()).state is DeliveryState.DEAD
    post.mail.refusals.clear()
    await desk.contact("m-2", email="Gone@Example.com")
    await desk.send("m-2")
    await desk.worker.deliver_due()
    delivery = await desk.delivery("m-2")
    assert delivery.state is DeliveryState.WITHHELD
    assert delivery.last_error == "the address is suppressed: the recipient was refused: 550 5.1.1"
    assert post.received() == []
    contact, reason = await desk.preferences.get_contact("m-2")
    assert (contact.email, reason) == ("Gone@Example.com", "the recipient was refused: 550 5.1.1")


@pytest.mark.parametrize("reply", ["550 5.7.1 policy", "550 no", "451 4.1.1 later", "552 5.2.2 mailbox full"])
async def test_other_refusals_are_not_the_addresss_fault(post: Post, reply: str) -> None:
    desk = post.desk
    await desk.contact("m-1")
    post.mail.refusals["m-1@example.com"] = reply
    await desk.send("m-1")
    await desk.worker.deliver_due()
    post.mail.refusals.clear()
    await desk.send("m-1")
    await desk.worker.deliver_due()
    assert post.received().count("m-1@example.com") == 1


async def test_bounces_and_complaints_suppress_an_address_until_it_is_mended(post: Post) -> None:
    desk = post.desk

    async def bounce(kind: Bounce, address: str = "", delivery_id: str = "") -> bool:
        return (await desk.bounce(kind, address=address, delivery_id=delivery_id))[0]

    await desk.contact("m-1")
    await desk.send("m-1")
    await desk.worker.deliver_due()
    sent = await desk.delivery()
    assert await bounce(Bounce.TRANSIENT, "m-1@example.com") is False
    assert await bounce(Bounce.COMPLAINT, delivery_id=sent.delivery_id) is True
    # The reason that came first stays.
    assert await bounce(Bounce.PERMANENT, "M-1@example.com") is True
    assert (await desk.preferences.get_contact("m-1"))[1] == "its owner complained of a message"
    await desk.send("m-1")
    await desk.worker.deliver_due()
    assert await desk.states() == {"delivered": 1, "withheld": 1}
    assert await bounce(Bounce.RESOLVED, "m-1@example.com") is False
    await desk.send("m-1")
    await desk.worker.deliver_due()
    assert await desk.states() == {"delivered": 2, "withheld": 1}
    with pytest.raises(DeliveryUnknownError):
        await bounce(Bounce.PERMANENT, delivery_id="0000" + "a" * 28)


async def test_a_bounce_suppresses_the_address_that_the_message_went_to_and_not_the_one_the_member_has_now(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = post.desk

    async def bounced(member_id: str) -> bool:
        sent = await desk.delivery(member_id)
        return (await desk.bounce(Bounce.PERMANENT, delivery_id=sent.delivery_id))[0]

    async def reason(address: str) -> str:
        await desk.contact("m-9", email=address)
        return (await desk.preferences.get_contact("m-9"))[1]

    await desk.contact("m-1", email="old@example.com")
    await desk.send("m-1")
    await desk.worker.deliver_due()
    await desk.contact("m-1", email="new@example.com")
    assert await bounced("m-1") is True
    assert await reason("old@example.com") == "mail to it came back for good"
    assert await reason("new@example.com") == ""
    # It changed when the message had been taken up: it went to the new one.
    await desk.contact("m-2", email="before@example.com")
    await desk.send("m-2")
    monkeypatch.setattr(worker_module, "FRESH_SECONDS", -1.0)
    channel = desk.channels[EMAIL]
    address = channel.address
    moved = False

    def moving(contact: Contact) -> str:
        nonlocal moved
        before, moved = moved, True
        return address(contact) if before else "earlier@example.com"

    monkeypatch.setattr(channel, "address", moving)
    await desk.worker.deliver_due()
    assert await bounced("m-2") is True
    assert await reason("before@example.com") == "mail to it came back for good"
    assert await reason("earlier@example.com") == ""
    # What was never tried was sent nowhere.
    await desk.contact("m-3", email="third@example.com")
    await desk.send("m-3")
    assert await bounced("m-3") is False
    assert await reason("third@example.com") == ""


async def test_no_address_is_readable_among_the_suppressed(post: Post) -> None:
    await post.desk.bounce(Bounce.PERMANENT, address="planted@example.com")
    connection = await asyncpg.connect(post.desk.database.dsn("loyalty_owner"))
    try:
        (row,) = await connection.fetch("SELECT * FROM notifier.suppressions")
        (request,) = await connection.fetch("SELECT * FROM notifier.requests")
    finally:
        await connection.close()
    assert "planted" not in str(dict(row)) + str(dict(request))
    assert len(row["address_hash"]) == 32


async def test_a_bounce_counts_once_and_one_sent_again_late_undoes_nothing(post: Post) -> None:
    desk = post.desk
    address = "m-1@example.com"

    async def bounce(request_id: str, kind: Bounce, principal: str = "backend") -> tuple[bool, bool]:
        return await desk.bounce(kind, address=address, request_id=request_id, principal=principal)

    async def reason() -> str:
        return (await desk.preferences.get_contact("m-1"))[1]

    await desk.contact("m-1")
    async with asyncio.TaskGroup() as tasks:
        answers = [tasks.create_task(bounce("b-1", Bounce.PERMANENT)) for _ in range(4)]
    assert sorted(answer.result() for answer in answers) == [(True, False), (True, True), (True, True), (True, True)]
    assert await bounce("b-2", Bounce.TRANSIENT) == (True, False)
    assert await bounce("b-3", Bounce.RESOLVED) == (False, False)
    # Each has its first answer again.
    assert await bounce("b-1", Bounce.PERMANENT) == (True, True)
    assert await bounce("b-2", Bounce.TRANSIENT) == (True, True)
    assert await reason() == ""
    with pytest.raises(RequestIdReusedError):
        await bounce("b-3", Bounce.COMPLAINT)
    with pytest.raises(RequestIdReusedError):
        await desk.bounce(Bounce.RESOLVED, address="m-2@example.com", request_id="b-3")
    assert await reason() == ""
    # Another caller counts its requests by itself.
    assert await bounce("b-3", Bounce.COMPLAINT, principal="site") == (True, False)
    assert await reason() == "its owner complained of a message"


async def test_a_bounce_of_what_was_never_sent_counts_once_too(post: Post) -> None:
    desk = post.desk
    await desk.contact("m-1")
    await desk.send("m-1")
    waiting = await desk.delivery()
    for replayed in (False, True):
        told = await desk.bounce(Bounce.PERMANENT, delivery_id=waiting.delivery_id, request_id="b-1")
        assert told == (False, replayed)
        # Where it was sent afterwards is not what came back.
        await desk.worker.deliver_due()
    assert (await desk.preferences.get_contact("m-1"))[1] == ""


# --- delivery ---


async def test_a_message_is_there_once_for_its_cause_and_way(post: Post) -> None:
    desk = post.desk
    await desk.contact("m-1")
    message = desk.outgoing("m-1")
    text = replace(message, channel="sms")
    assert await desk.put(message, text) == 2
    assert await desk.put(message, text) == 0
    await desk.worker.deliver_due()
    assert await desk.put(message) == 0
    await desk.worker.deliver_due()
    assert len(post.received()) == 1
    ids = {delivery.delivery_id for delivery in await desk.deliveries()}
    assert len(ids) == 2


async def test_a_message_that_is_made_in_a_transaction_that_fails_was_never_there(post: Post) -> None:
    desk = post.desk
    await desk.contact("m-1")

    async def work(transaction: Transaction) -> None:
        await transaction.insert_messages([desk.outgoing("m-1")], desk.now, key=VAULT.delivery_key)
        raise ChannelClosedError

    with pytest.raises(ChannelClosedError):
        await desk.store.transact(work)
    await desk.worker.deliver_due()
    assert await desk.deliveries() == []
    assert post.received() == []


async def test_a_dead_letter_is_tried_again_by_hand_with_all_its_tries(post: Post) -> None:
    desk = post.desk
    await desk.contact("m-1")
    post.mail.farewell = "554 5.6.0 content refused"
    await desk.send("m-1")
    await desk.worker.deliver_due()
    dead = await desk.delivery()
    assert (dead.state, dead.attempts) == (DeliveryState.DEAD, 1)
    (first,) = (
        await desk.messages.list_deliveries(
            member_id="", state=DeliveryState.DEAD, page_size=0, page_token="", after={}, wait_seconds=0
        )
    ).deliveries
    assert first == dead
    post.mail.farewell = "451 4.3.0 not now"
    assert await desk.messages.retry_delivery(request_id="r-1", delivery_id=dead.delivery_id) == ("m-1", False)
    assert await desk.messages.retry_delivery(request_id="r-1", delivery_id=dead.delivery_id) == ("m-1", True)
    # It has not been given up since.
    with pytest.raises(DeliveryNotRetryableError):
        await desk.messages.retry_delivery(request_id="r-2", delivery_id=dead.delivery_id)
    for attempts in range(1, 10):
        next_time = await desk.worker.deliver_due()
        assert next_time is not None
        assert (await desk.delivery()).attempts == attempts
        desk.now = next_time
    post.mail.farewell = ""
    await desk.worker.deliver_due()
    assert (await desk.delivery()).state is DeliveryState.DELIVERED
    (mail,) = post.mail.messages()
    assert mail["Message-ID"] == f"<{dead.delivery_id}@example.com>"
    with pytest.raises(DeliveryUnknownError):
        await desk.messages.retry_delivery(request_id="r-3", delivery_id="0001" + "a" * 28)


async def test_what_was_withheld_can_be_resent_and_what_stood_against_it_is_asked_again(post: Post) -> None:
    desk = post.desk
    await desk.contact("m-1")
    await desk.say("m-1", ("email", "", False))
    await desk.send("m-1")
    await desk.worker.deliver_due()
    withheld = await desk.delivery()
    await desk.messages.retry_delivery(request_id="r-1", delivery_id=withheld.delivery_id)
    await desk.worker.deliver_due()
    assert (await desk.delivery()).state is DeliveryState.WITHHELD
    await desk.say("m-1", ("email", "", True))
    await desk.messages.retry_delivery(request_id="r-2", delivery_id=withheld.delivery_id)
    await desk.worker.deliver_due()
    assert (await desk.delivery()).state is DeliveryState.DELIVERED


@pytest.mark.parametrize("dead_before", [True, False])
async def test_a_message_whose_coupon_was_taken_back_is_not_tried_again_whoever_took_it_and_why_it_was_dead(
    post: Post, dead_before: bool
) -> None:
    desk = post.desk
    await desk.contact("m-1")
    partition = partition_of("m-1", PARTITIONS)
    coupon = Coupon(
        partition=partition, campaign_id="offer", member_id="m-1", trigger="entry:1", code="AB-2345-2345-2345",
        variant=0, offer=Offer(kind=OfferKind.DISCOUNT_PERCENT, percent_bp=500), issued_time=desk.now,
        valid_until_time=desk.now + timedelta(days=30),
    )  # fmt: skip
    await desk.store.transact(lambda transaction: transaction.insert_coupons([coupon]))
    await desk.send("m-1", trigger="entry:1", coupon_code=coupon.code)
    if dead_before:
        post.mail.farewell = "554 5.6.0 content refused"
        await desk.worker.deliver_due()

    async def void(transaction: Transaction) -> None:
        await transaction.void_coupon(partition, coupon.code, business_now=desk.now, reason="mistake")

    await desk.store.transact(void)
    dead = await desk.delivery()
    assert (dead.state, dead.last_error == "the coupon was taken back") == (DeliveryState.DEAD, not dead_before)
    with pytest.raises(DeliveryNotRetryableError):
        await desk.messages.retry_delivery(request_id="r-1", delivery_id=dead.delivery_id)
    assert await desk.delivery() == dead


async def test_a_message_over_another_channel_needs_that_channels_address(post: Post) -> None:
    desk = post.desk
    await desk.contact("m-1")
    await desk.send("m-1", "text")
    await desk.worker.deliver_due()
    assert (await desk.delivery()).state is DeliveryState.NO_CONTACT
    await desk.contact("m-1", phone="+48601234567", language="pl")
    await desk.worker.deliver_due()
    delivery = await desk.delivery()
    assert delivery.state is DeliveryState.DELIVERED
    ((delivery_id, address, message),) = post.texts.sent
    assert (delivery_id, address) == (delivery.delivery_id, "+48601234567")
    assert message.text == "Dziękujemy, Ann"


async def test_who_gives_an_address_is_sent_the_news_of_the_last_seven_days_and_nothing_older(post: Post) -> None:
    desk = post.desk
    desk.members.add("m-1")
    for _ in range(3):
        await desk.send("m-1")
        desk.now += timedelta(days=5)
    desk.now -= timedelta(days=3)
    await desk.contact("m-1")
    await desk.worker.deliver_due()
    assert [one.state for one in await desk.deliveries()] == [
        DeliveryState.NO_CONTACT,
        DeliveryState.DELIVERED,
        DeliveryState.DELIVERED,
    ]


async def test_the_messages_of_a_list_are_counted_up_to_ten_thousand_and_one(post: Post) -> None:
    desk = post.desk
    owner = await asyncpg.connect(desk.database.dsn("loyalty_owner"))
    try:
        await insert_deliveries(desk, owner, 10_003)
    finally:
        await owner.close()
    for member_id, state in (("", None), ("", DeliveryState.QUEUED), ("m-1", None), ("m-1", DeliveryState.QUEUED)):
        page = await desk.messages.list_deliveries(
            member_id=member_id, state=state, page_size=1, page_token="", after={}, wait_seconds=0
        )
        assert page.total_size == 10_001


async def test_the_log_tells_that_a_message_went_out_and_not_to_whom(
    post: Post, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = post.desk
    await desk.contact("m-1", name="Wilhelmina")
    await desk.send("m-1", "logged")
    capsys.readouterr()
    await desk.worker.deliver_due()
    delivery = await desk.delivery()
    assert delivery.state is DeliveryState.DELIVERED
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "message_logged" in line]
    assert delivery.delivery_id in line
    assert not any(secret in line for secret in ("m-1", "Wilhelmina", "example.com"))


async def test_an_adapter_that_hangs_is_left_in_time_and_asked_again_later(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter_module, "_SEND_SECONDS", 0.1)
    desk = post.desk
    await desk.contact("m-1", phone="+48601234567")
    await desk.send("m-1", "text")
    post.texts.hangs = True
    async with asyncio.timeout(5):
        next_time = await desk.worker.deliver_due()
    assert next_time is not None
    delivery = await desk.delivery()
    assert (delivery.state, delivery.last_error) == (DeliveryState.QUEUED, "the channel did not answer in time")
    post.texts.hangs = False
    desk.now = next_time
    await desk.worker.deliver_due()
    assert (await desk.delivery()).state is DeliveryState.DELIVERED


async def test_an_adapter_that_cannot_be_loaded_stops_the_start() -> None:
    made = load_adapters("sms=tests.integration.test_messages:Texts")
    assert isinstance(made["sms"], Texts)
    assert load_adapters("") == {}
    for wrong in ("sms", "sms=x", "email=tests.integration.test_messages:Texts", "sms=tests.nowhere:f", "sms=json:f"):
        with pytest.raises(InstallationError):
            load_adapters(wrong)


# --- one channel beside another ---


async def test_a_channel_that_is_closed_holds_up_no_other_and_loses_nothing(post: Post) -> None:
    """Thousands wait for the mail server, and texts go out as if nothing were."""
    desk = post.desk
    many = 2_000
    await desk.contact("m-1", phone="+48601234567")
    await post.mail.stop()
    for start in range(0, many, 500):
        await desk.put(*(desk.outgoing("m-1", trigger=f"entry:{number}") for number in range(start, start + 500)))
    running = asyncio.create_task(desk.worker.run())
    try:
        for number in range(20):
            await desk.put(desk.outgoing("m-1", "text", trigger=f"text:{number}"))
        desk.worker.wake()
        async with asyncio.timeout(20):
            while len(post.texts.sent) < 20:
                await post.texts.told.wait()
                post.texts.told.clear()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert await desk.states() == {"delivered": 20, "queued": many}
    await post.mail.start()
    desk.now += timedelta(minutes=5)
    async with open_store(desk.database) as other, asyncio.TaskGroup() as tasks:
        tasks.create_task(desk.new_worker().deliver_due())
        tasks.create_task(desk.new_worker(other).deliver_due())
    assert await desk.states() == {"delivered": many + 20}
    ids = [mail["Message-ID"] for mail in post.mail.messages()]
    assert len(ids) == len(set(ids)) == many


async def test_one_message_does_not_wait_for_all_of_another_campaign(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmailChannel, "leased", 5)
    desk = post.desk
    await desk.contact("m-1")
    await desk.put(*(desk.outgoing("m-1", "offer") for _ in range(40)))
    desk.now += timedelta(seconds=1)
    await desk.send("m-1", "statement")
    await desk.worker.deliver_due()
    assert await desk.states() == {"delivered": 41}
    # Those of the other topic can be refused.
    places = [place for place, mail in enumerate(post.mail.messages()) if mail["List-Unsubscribe"] is None]
    assert places == [5]


async def test_a_channel_that_fails_altogether_is_told_in_the_log_and_others_go_on(
    post: Post, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = post.desk
    await desk.contact("m-1", phone="+48601234567")
    await desk.send("m-1")
    await desk.send("m-1", "text")

    def broken(contact: Contact) -> str:
        raise RuntimeError("an adapter's own fault")

    monkeypatch.setattr(post.texts, "address", broken)
    running = asyncio.create_task(desk.worker.run())
    try:
        await post.mail.next_message()
        async with asyncio.timeout(20):
            said: Any = ""
            while "way_failed" not in said:
                await asyncio.sleep(0.02)
                said += capsys.readouterr().out
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert len(post.received()) == 1


async def test_a_database_that_restarts_under_a_long_send_makes_nothing_sent_twice(
    post: Post, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some messages are on their way then, and others are about to be asked about again."""
    monkeypatch.setattr(worker_module, "FRESH_SECONDS", 0.0)
    desk = post.desk
    many = 60
    await desk.contact("m-1")
    await desk.put(*(desk.outgoing("m-1", trigger=f"entry:{number}") for number in range(many)))
    taken = 0

    def restart_once() -> None:
        nonlocal taken
        taken += 1
        if taken == 15:
            cluster.stop()
            asyncio.get_running_loop().call_later(0.5, cluster.start)

    post.mail.when_taken = restart_once
    await desk.worker.deliver_due()
    # Nothing waits for a lease to end.
    assert await desk.states() == {"delivered": many}
    ids = [mail["Message-ID"] for mail in post.mail.messages()]
    assert len(ids) == len(set(ids)) == many


async def test_what_was_sent_when_the_database_went_away_for_longer_than_a_lease_is_not_sent_again(
    post: Post, cluster: Cluster
) -> None:
    desk = post.desk
    many = 30
    await desk.contact("m-1")
    await desk.put(*(desk.outgoing("m-1", trigger=f"entry:{number}") for number in range(many)))
    taken = 0
    away = asyncio.Event()

    def stop_once() -> None:
        nonlocal taken
        taken += 1
        if taken == 5:
            cluster.stop()
            away.set()

    post.mail.when_taken = stop_once
    running = asyncio.create_task(desk.worker.run())
    try:
        await away.wait()
        # It looks for more, too, and finds no database either.
        desk.worker.wake()
        await asyncio.sleep(1)
        desk.now += 2 * worker_module.LEASE
        cluster.start()
        async with asyncio.timeout(30):
            while await desk.states() != {"delivered": many}:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.1)
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    ids = [mail["Message-ID"] for mail in post.mail.messages()]
    assert len(ids) == len(set(ids)) == many


async def test_one_sender_that_fails_cuts_off_no_other_and_loses_nothing_that_was_sent(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(EmailChannel, "senders", 4)
    desk = post.desk
    await desk.contact("m-1")
    for _ in range(8):
        await desk.send("m-1")
    channel = desk.channels[EMAIL]
    address = channel.address
    asked = 0

    def broken_once(contact: Contact) -> str:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise RuntimeError("a fault")
        return address(contact)

    monkeypatch.setattr(channel, "address", broken_once)
    with pytest.raises(RuntimeError, match="a fault"):
        await desk.worker.deliver_due()
    assert await desk.states() == {"delivered": 7, "queued": 1}
    assert len(post.received()) == 7


async def test_a_worker_that_is_killed_loses_nothing_and_sends_twice_what_it_was_sending_at_most(post: Post) -> None:
    desk = post.desk
    many = 600
    await desk.contact("m-1")
    await desk.put(*(desk.outgoing("m-1", trigger=f"entry:{number}") for number in range(many)))
    # By its own clock: the leases that it leaves behind end in ours.
    command = [sys.executable, "-m", "tests.message_worker", desk.database.dsn("loyalty_notifier"), str(post.mail.port)]
    for round_number in range(1, 4):
        worker = subprocess.Popen(  # noqa: ASYNC220  # it is started in no time
            command, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL
        )
        try:
            for _ in range(40):
                await post.mail.next_message()
        finally:
            worker.kill()
            worker.wait()
        desk.now = datetime.now(UTC) + round_number * timedelta(minutes=5)
        await _release_leases(desk)
    await desk.worker.deliver_due()
    assert await desk.states() == {"delivered": many}
    ids = [mail["Message-ID"] for mail in post.mail.messages()]
    assert len(set(ids)) == many
    # Whatever was sent and not yet written down comes again, and no more than that.
    assert len(ids) - many <= 3 * (20 + 2 * EmailChannel.senders)


async def _release_leases(desk: Desk) -> None:
    """The time of the leases is over."""
    connection = await asyncpg.connect(desk.database.dsn("loyalty_owner"))
    try:
        await connection.execute("UPDATE notifier.deliveries SET not_before = created_time WHERE state = 'queued'")
    finally:
        await connection.close()
