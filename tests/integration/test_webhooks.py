"""Webhooks over a real PostgreSQL to a real HTTP server that verifies them with the standard's own library."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.channels import webhooks as webhooks_module
from services.notifier.channels.webhooks import WebhookChannel, is_public, read_networks, retry_after
from services.notifier.domain.deliveries import DeliveryState
from services.notifier.domain.webhooks import MAX_ENDPOINTS, Endpoint
from services.notifier.errors import (
    EndpointDisabledError,
    EndpointUnknownError,
    InstallationError,
    RequestIdReusedError,
    TooManyEndpointsError,
    WebhookFieldError,
    WebhookUrlError,
)
from services.notifier.service import WebhookService
from services.notifier.store import Transaction
from services.programme.messages import WEBHOOK
from tests.conftest import Database
from tests.messages_desk import NETWORKS, SECRETS, VAULT, Desk, open_store, programme
from tests.tls import localhost_certificate
from tests.webhook_receiver import Receiver, webhook_receiver

SCHEDULE = [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]


class Hooks:
    """A desk with webhooks. Machine time begins now: receivers look at the time of what they get."""

    def __init__(self, desk: Desk, channel: WebhookChannel) -> None:
        self.desk = desk
        self.channel = channel
        self.made = 0

    async def endpoint(self, receiver: Receiver, **more: Any) -> Endpoint:
        """An endpoint at a receiver, which is told the secret."""
        self.made += 1
        values = {"url": f"http://localhost:{receiver.port}/events", "description": "", "event_types": [], "fields": []}
        endpoint, receiver.secret, replayed = await self.desk.webhooks.create(
            request_id=f"e-{self.made}", principal="ops", **{**values, **more}
        )
        assert not replayed
        return endpoint

    async def tell(self, event_type: str = "tier.reached", member_id: str = "m-1", **more: Any) -> int:
        """Puts an event into the outbox; says to how many endpoints it goes."""
        facts = {"tier": "Green", "previous_tier": "White"}
        message = self.desk.outgoing(member_id, channel=WEBHOOK, topic=event_type, **{"facts": facts, **more})
        return await self.desk.put(message)

    async def enable(self, endpoint: Endpoint, request_id: str) -> tuple[Endpoint, bool]:
        """Enables an endpoint; says how it is then, and whether that was answered before."""
        return await self.desk.webhooks.enable(request_id=request_id, principal="ops", endpoint_id=endpoint.endpoint_id)

    async def found(self, endpoint: Endpoint) -> Endpoint:
        (one,) = [one for one in await self.desk.webhooks.list() if one.endpoint_id == endpoint.endpoint_id]
        return one


@pytest_asyncio.fixture
async def hooks(database: Database) -> AsyncIterator[Hooks]:
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(database))
        desk = Desk(database=database, store=store, programme=programme(), channels={}, now=datetime.now(UTC))
        channel = WebhookChannel(secrets=SECRETS, networks=NETWORKS, machine_now=lambda: desk.now)
        stack.push_async_callback(channel.close)
        desk.channels[WEBHOOK] = channel
        yield Hooks(desk, channel)


async def test_an_event_arrives_signed_and_tells_what_is_allowed_and_no_more(hooks: Hooks) -> None:
    with webhook_receiver() as receiver:
        await hooks.endpoint(receiver)
        await hooks.desk.contact("m-1", name="Planted", email="planted@example.com")
        facts = {"tier": "Green", "name": "Planted", "email": "planted@example.com", "note": "planted"}
        assert await hooks.tell(facts=facts, coupon_code="GREEN-1", variant="b") == 1
        await hooks.desk.worker.deliver_due()
        (one,) = receiver.received
    delivery = await hooks.desk.delivery()
    assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 1)
    assert (one.id, one.path) == (delivery.delivery_id, "/events")
    assert one.headers["content-type"] == "application/json"
    assert one.headers["host"] == f"localhost:{receiver.port}"
    assert one.event == {
        "type": "tier.reached",
        "timestamp": delivery.created_time.isoformat(),
        "data": {
            "campaign_id": "offer", "coupon_code": "GREEN-1", "member_id": "m-1", "tier": "Green",
            "trigger": one.event["data"]["trigger"], "variant": "b",
        },
    }  # fmt: skip
    assert receiver.forged == 0


async def test_an_endpoint_is_sent_the_events_and_fields_that_it_asked_for(hooks: Hooks) -> None:
    with webhook_receiver() as one, webhook_receiver() as other:
        await hooks.endpoint(one, event_types=["tier.reached"], fields=["tier", "member_id"])
        await hooks.endpoint(other)
        assert await hooks.tell("tier.reached") == 2
        assert await hooks.tell("points.expiring") == 1
        await hooks.desk.worker.deliver_due()
    assert [(got.event["type"], got.event["data"]) for got in one.received] == [
        ("tier.reached", {"member_id": "m-1", "tier": "Green"})
    ]
    assert sorted(got.event["type"] for got in other.received) == ["points.expiring", "tier.reached"]
    # One message to two endpoints is two, each with an id of its own.
    assert len({*one.ids, *other.ids}) == 3


async def test_an_event_that_nobody_takes_is_no_message(hooks: Hooks) -> None:
    assert await hooks.tell() == 0
    assert await hooks.desk.deliveries() == []


async def test_an_endpoint_that_fails_is_tried_again_by_the_standards_schedule(hooks: Hooks) -> None:
    with webhook_receiver() as receiver:
        await hooks.endpoint(receiver)
        receiver.answer = 503
        await hooks.tell()
        pauses = []
        while (next_time := await hooks.desk.worker.deliver_due()) is not None:
            pauses.append(round((next_time - hooks.desk.now).total_seconds()))
            hooks.desk.now = next_time
            # A receiver would not take a signature of tomorrow.
            if len(pauses) == 2:
                break
        assert pauses == SCHEDULE[:2]
        assert (await hooks.desk.delivery()).last_error == "the endpoint answered 503"


async def test_a_message_is_given_up_after_ten_tries_and_tried_again_by_hand(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook_receiver() as receiver:
        await hooks.endpoint(receiver)
        # Nobody listens there any more.
        port = receiver.port
    await hooks.tell()
    pauses = []
    while (next_time := await hooks.desk.worker.deliver_due()) is not None:
        pauses.append(round((next_time - hooks.desk.now).total_seconds()))
        hooks.desk.now = next_time
    assert pauses == SCHEDULE
    dead = await hooks.desk.delivery()
    assert (dead.state, dead.attempts, dead.last_error) == (DeliveryState.DEAD, 10, "the endpoint cannot be reached")
    assert port
    await hooks.desk.messages.retry_delivery(request_id="r-1", delivery_id=dead.delivery_id)
    assert (await hooks.desk.delivery()).state is DeliveryState.QUEUED


async def test_what_was_put_off_arrives_once_under_the_same_id(hooks: Hooks) -> None:
    with webhook_receiver() as receiver:
        await hooks.endpoint(receiver)
        receiver.answers = [500, 302, 404]
        await hooks.tell()
        for _ in range(4):
            next_time = await hooks.desk.worker.deliver_due()
            if next_time is not None:
                hooks.desk.now = min(next_time, datetime.now(UTC) + timedelta(minutes=4))
                await _due_now(hooks)
        assert receiver.tries == 4
        delivery = await hooks.desk.delivery()
        assert receiver.ids == [delivery.delivery_id]
        assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 4)


async def _due_now(hooks: Hooks) -> None:
    """Brings forward what waits for its next try, so that the receiver's clock and ours still agree."""
    await _execute(hooks, "UPDATE notifier.deliveries SET not_before = $1 WHERE state = 'queued'")


async def _end_overlap(hooks: Hooks) -> None:
    """The day of two secrets is over, by the receiver's clock, too."""
    await _execute(hooks, "UPDATE notifier.webhook_endpoints SET previous_until = $1")


async def _execute(hooks: Hooks, sql: str) -> None:
    connection = await asyncpg.connect(hooks.desk.database.dsn("loyalty_owner"))
    try:
        await connection.execute(sql, hooks.desk.now)
    finally:
        await connection.close()


async def test_retry_after_is_heeded_where_it_asks_for_more_than_the_schedule(hooks: Hooks) -> None:
    with webhook_receiver() as receiver:
        await hooks.endpoint(receiver)
        receiver.answer, receiver.extra = 429, {"retry-after": "90"}
        await hooks.tell()
        assert await hooks.desk.worker.deliver_due() == hooks.desk.now + timedelta(seconds=90)


async def test_an_endpoint_that_asks_to_be_left_alone_is_sent_nothing_else_until_then(hooks: Hooks) -> None:
    many = 30
    with webhook_receiver() as receiver:
        await hooks.endpoint(receiver)
        receiver.answer, receiver.extra = 429, {"retry-after": "90"}
        for number in range(many):
            await hooks.tell(member_id=f"m-{number}")
        until = hooks.desk.now + timedelta(seconds=90)
        assert await hooks.desk.worker.deliver_due() == until
        # Those that were on their way, and no more.
        assert receiver.tries <= webhooks_module.SENDERS
        receiver.answer, receiver.extra = 200, {}
        hooks.desk.now = until
        await hooks.desk.worker.deliver_due()
        assert len(receiver.received) == many


async def test_redirects_are_not_followed_and_long_answers_not_read(hooks: Hooks) -> None:
    with webhook_receiver() as receiver, webhook_receiver() as elsewhere:
        await hooks.endpoint(receiver)
        receiver.answers, receiver.extra = [307], {"location": f"http://localhost:{elsewhere.port}/"}
        receiver.content = b"x" * 5_000_000
        await hooks.tell()
        await hooks.desk.worker.deliver_due()
        assert (await hooks.desk.delivery()).last_error == "the endpoint answered 307"
        assert elsewhere.tries == 0
        receiver.extra = {}
        await hooks.tell()
        await hooks.desk.worker.deliver_due()
        assert len(receiver.received) == 1


async def test_an_endpoint_that_hangs_holds_up_no_other(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks_module, "_SEND_SECONDS", 0.5)
    with webhook_receiver() as hanging, webhook_receiver() as prompt:
        hanging.hang = threading.Event()
        await hooks.endpoint(hanging, event_types=["slow"])
        # The other is at the same host by another name, so that it has places of its own.
        await hooks.endpoint(prompt, url=f"http://127.0.0.1:{prompt.port}/", event_types=["quick"])
        for number in range(10):
            await hooks.tell("slow", f"m-{number}")
        for number in range(10):
            await hooks.tell("quick", f"m-{number}")
        running = asyncio.create_task(hooks.desk.worker.deliver_due())
        async with asyncio.timeout(10):
            while len(prompt.received) < 10:  # noqa: ASYNC110  # it runs in a thread and tells nobody
                await asyncio.sleep(0.01)
        assert not running.done()
        await running
        # Four at once, and no more, bother one host.
        assert hanging.tries == 10
        assert hanging.connections <= 10
        errors = {delivery.last_error for delivery in await hooks.desk.deliveries()}
        assert errors == {"", "the endpoint did not answer in time"}


async def test_an_endpoint_that_is_gone_is_disabled_with_all_that_waits_for_it(hooks: Hooks) -> None:
    with webhook_receiver() as receiver:
        endpoint = await hooks.endpoint(receiver)
        receiver.answer = 410
        for number in range(3):
            await hooks.tell(member_id=f"m-{number}")
        assert await hooks.desk.worker.deliver_due() is None
        found = await hooks.found(endpoint)
        assert (found.disabled_time, found.disabled_reason) == (hooks.desk.now, "it answered 410 Gone")
        # It is told of nothing more, and what is dead cannot be sent there again.
        assert await hooks.tell() == 0
        dead = await hooks.desk.deliveries()
        assert {delivery.state for delivery in dead} == {DeliveryState.DEAD}
        with pytest.raises(EndpointDisabledError):
            await hooks.desk.messages.retry_delivery(request_id="r", delivery_id=dead[0].delivery_id)
        assert receiver.tries <= 3


async def test_an_endpoint_is_disabled_when_nothing_has_succeeded_for_five_days(hooks: Hooks) -> None:
    with webhook_receiver() as receiver:
        endpoint = await hooks.endpoint(receiver)
    began = hooks.desk.now
    for day in range(7):
        await hooks.tell(member_id=f"m-{day}")
        await hooks.desk.worker.deliver_due()
        found = await hooks.found(endpoint)
        assert found.failing_since == began
        assert (found.disabled_time is not None) == (day >= 5)
        hooks.desk.now += timedelta(days=1)
    found = await hooks.found(endpoint)
    assert found.disabled_reason == "nothing succeeded for 5 days"
    assert {delivery.state for delivery in await hooks.desk.deliveries()} == {DeliveryState.DEAD}


async def test_one_success_ends_the_time_of_failing(hooks: Hooks) -> None:
    with webhook_receiver() as receiver:
        endpoint = await hooks.endpoint(receiver)
        receiver.answers = [500]
        await hooks.tell()
        await hooks.desk.worker.deliver_due()
        assert (await hooks.found(endpoint)).failing_since == hooks.desk.now
        await hooks.tell()
        await hooks.desk.worker.deliver_due()
        assert (await hooks.found(endpoint)).failing_since is None


async def test_a_failure_that_crosses_a_success_does_not_count_the_time_before_it(hooks: Hooks) -> None:
    """Two workers try at once: one read how long it has failed, and meanwhile the other succeeds."""
    with webhook_receiver() as receiver:
        endpoint = await hooks.endpoint(receiver)
        receiver.answer = 500
        await hooks.tell()
        await hooks.desk.worker.deliver_due()
        began = hooks.desk.now
        hooks.desk.now += timedelta(days=6)
        receiver.hang = threading.Event()
        running = asyncio.create_task(hooks.desk.worker.deliver_due())
        async with asyncio.timeout(10):
            while receiver.tries < 2:  # noqa: ASYNC110  # it runs in a thread and tells nobody
                await asyncio.sleep(0.01)
        assert (await hooks.found(endpoint)).failing_since == began

        async def succeed(transaction: Transaction) -> None:
            await transaction.endpoint_succeeded(endpoint.endpoint_id)

        await hooks.desk.store.transact(succeed)
        receiver.hang.set()
        await running
        found = await hooks.found(endpoint)
        assert (found.failing_since, found.disabled_time) == (hooks.desk.now, None)


async def test_an_endpoint_that_was_disabled_is_enabled_and_what_died_can_be_retried(hooks: Hooks) -> None:
    with webhook_receiver() as receiver:
        endpoint = await hooks.endpoint(receiver)
        receiver.answer = 410
        await hooks.tell()
        await hooks.desk.worker.deliver_due()
        dead = await hooks.desk.delivery()
        assert (await hooks.found(endpoint)).disabled_time is not None
        receiver.answer = 200
        enabled, replayed = await hooks.enable(endpoint, "r-1")
        assert (enabled.disabled_time, enabled.disabled_reason, enabled.failing_since) == (None, "", None)
        assert not replayed
        await hooks.desk.messages.retry_delivery(request_id="r", delivery_id=dead.delivery_id)
        assert await hooks.tell(member_id="m-2") == 1
        await hooks.desk.worker.deliver_due()
    # By the secret that the receiver has had all along.
    assert len(receiver.received) == 2
    assert dead.delivery_id in receiver.ids
    assert receiver.forged == 0


async def test_the_time_of_failing_begins_anew_when_an_endpoint_is_enabled(hooks: Hooks) -> None:
    with webhook_receiver() as receiver:
        endpoint = await hooks.endpoint(receiver)
    for day in (0, 6):
        hooks.desk.now += timedelta(days=day)
        await hooks.tell(member_id=f"m-{day}")
        await hooks.desk.worker.deliver_due()
    assert (await hooks.found(endpoint)).disabled_reason == "nothing succeeded for 5 days"
    await hooks.enable(endpoint, "r-1")
    await hooks.tell(member_id="m-7")
    await hooks.desk.worker.deliver_due()
    found = await hooks.found(endpoint)
    assert (found.failing_since, found.disabled_time) == (hooks.desk.now, None)


async def test_a_request_to_enable_counts_once_and_changes_nothing_where_all_is_well(hooks: Hooks) -> None:
    with webhook_receiver() as receiver:
        other, endpoint = await hooks.endpoint(receiver, event_types=["other"]), await hooks.endpoint(receiver)
        receiver.answer = 500
        await hooks.tell()
        await hooks.desk.worker.deliver_due()
        failing = await hooks.found(endpoint)
        assert failing.failing_since is not None
        # One that is not disabled fails on as before.
        assert await hooks.enable(endpoint, "r-1") == (failing, False)
        receiver.answer = 410
        await hooks.tell(member_id="m-2")
        await hooks.desk.worker.deliver_due()
        disabled = await hooks.found(endpoint)
        assert disabled.disabled_time is not None
        # The request of before, late on its way, enables nothing that was disabled since.
        assert await hooks.enable(endpoint, "r-1") == (disabled, True)
        with pytest.raises(RequestIdReusedError):
            await hooks.enable(other, "r-1")
        enabled, _ = await hooks.enable(endpoint, "r-2")
        assert enabled.disabled_time is None
        await hooks.desk.webhooks.delete(endpoint.endpoint_id)
        with pytest.raises(EndpointUnknownError):
            await hooks.enable(endpoint, "r-3")


async def test_a_secret_that_is_rotated_signs_beside_the_one_before_for_a_day(hooks: Hooks) -> None:
    with webhook_receiver() as receiver:
        endpoint = await hooks.endpoint(receiver)
        before = receiver.secret

        async def arrives(secret: str) -> bool:
            receiver.secret = secret
            tried, got = receiver.tries, len(receiver.received)
            await hooks.tell()
            await hooks.desk.worker.deliver_due()
            assert receiver.tries == tried + 1
            return len(receiver.received) > got

        async def rotate(request_id: str) -> tuple[Endpoint, str, bool]:
            return await hooks.desk.webhooks.rotate_secret(
                request_id=request_id, principal="ops", endpoint_id=endpoint.endpoint_id
            )

        rotated, after, replayed = await rotate("r-1")
        assert (rotated.previous_until, replayed) == (hooks.desk.now + timedelta(days=1), False)
        assert after != before
        assert await arrives(before)
        assert await arrives(after)
        # An answer that got lost is asked for again: no third secret, and the first one still signs.
        assert (await rotate("r-1"))[1:] == (after, True)
        assert await arrives(before)
        await _end_overlap(hooks)
        assert not await arrives(before)
        assert await arrives(after)
        await hooks.desk.webhooks.delete(endpoint.endpoint_id)
        with pytest.raises(EndpointUnknownError):
            await rotate("r-2")


async def test_a_secret_that_is_rotated_counts_for_what_is_sent_next_however_much_waits(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WebhookChannel, "leased", 1)
    with webhook_receiver() as receiver:
        endpoint = await hooks.endpoint(receiver)
        receiver.hang = threading.Event()
        for number in range(3):
            await hooks.tell(member_id=f"m-{number}")
        running = asyncio.create_task(hooks.desk.worker.deliver_due())
        async with asyncio.timeout(10):
            while not receiver.tries:  # noqa: ASYNC110  # it runs in a thread and tells nobody
                await asyncio.sleep(0.01)
        _, after, _ = await hooks.desk.webhooks.rotate_secret(
            request_id="r", principal="ops", endpoint_id=endpoint.endpoint_id
        )
        receiver.hang.set()
        await running
        # The first was signed before; whoever has the new secret alone takes the others.
        assert [len(one.headers["webhook-signature"].split()) for one in receiver.received] == [1, 2, 2]
        assert after != receiver.secret


async def test_tls_is_verified_for_the_name_and_not_for_the_address(hooks: Hooks, tmp_path: Path) -> None:
    tls, authority = localhost_certificate(tmp_path)
    with webhook_receiver(tls) as receiver:
        await hooks.endpoint(receiver, url=f"https://localhost:{receiver.port}/")
        await hooks.tell()
        await hooks.desk.worker.deliver_due()
        assert (await hooks.desk.delivery()).last_error == "the endpoint's certificate is not trusted"
        trusting = WebhookChannel(
            secrets=SECRETS, networks=NETWORKS, authority=authority, machine_now=lambda: hooks.desk.now
        )  # fmt: skip
        hooks.desk.channels[WEBHOOK] = trusting
        try:
            await hooks.tell()
            await hooks.desk.new_worker().deliver_due()
            assert len(receiver.received) == 1
        finally:
            await trusting.close()
    other, authority = localhost_certificate(tmp_path / "other", "elsewhere.example")
    with webhook_receiver(other) as receiver:
        wrong = WebhookChannel(
            secrets=SECRETS, networks=NETWORKS, authority=authority, machine_now=lambda: hooks.desk.now
        )  # fmt: skip
        hooks.desk.channels[WEBHOOK] = wrong
        try:
            await hooks.endpoint(receiver, url=f"https://localhost:{receiver.port}/", event_types=["other"])
            await hooks.tell("other")
            await hooks.desk.new_worker().deliver_due()
            assert receiver.received == []
        finally:
            await wrong.close()


# --- where nothing may go ---


def webhooks_to(hooks: Hooks, networks: str) -> WebhookService:
    """Makes endpoints on the internet and in these networks."""
    return WebhookService(
        store=hooks.desk.store,
        secrets=SECRETS,
        request_key=VAULT.request_key,
        networks=read_networks(networks),
        machine_now=lambda: hooks.desk.now,
    )


async def test_nothing_is_sent_into_our_own_network_unless_it_is_allowed(hooks: Hooks) -> None:
    # When the endpoints were made, everything was allowed.
    hooks.desk.webhooks = webhooks_to(hooks, "0.0.0.0/0, ::/0")
    strict = WebhookChannel(secrets=SECRETS, machine_now=lambda: hooks.desk.now)
    hooks.desk.channels[WEBHOOK] = strict
    with webhook_receiver() as receiver:
        for host in ("localhost", "127.0.0.1", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]"):
            await hooks.endpoint(receiver, url=f"https://{host}:{receiver.port}/")
            await hooks.endpoint(receiver, url=f"http://{host}:{receiver.port}/")
        assert await hooks.tell() == 10
        try:
            await hooks.desk.new_worker().deliver_due()
        finally:
            await strict.close()
        assert receiver.connections == 0
    assert {delivery.last_error for delivery in await hooks.desk.deliveries()} == {
        "the endpoint's name leads to an address that is not allowed"
    }


async def test_a_name_that_leads_elsewhere_a_moment_later_changes_nothing(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address that was looked at is the one that is connected to: the name is asked once."""
    loop = asyncio.get_running_loop()
    ask = loop.getaddrinfo
    asked: list[str] = []

    async def names(host: str, port: int, **more: Any) -> Any:
        if host == "shop.example":
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1" if len(asked) == 1 else "8.8.8.8", port))]
        assert ipaddress.ip_address(host)
        return await ask(host, port, **more)

    monkeypatch.setattr(loop, "getaddrinfo", names)
    with webhook_receiver() as receiver:
        await hooks.endpoint(receiver, url=f"http://shop.example:{receiver.port}/")
        await hooks.tell()
        await hooks.desk.worker.deliver_due()
        (one,) = receiver.received
    assert asked == ["shop.example"]
    assert one.headers["host"] == f"shop.example:{receiver.port}"


async def test_one_forbidden_address_among_several_is_enough(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()

    async def names(host: str, port: int, **_: Any) -> Any:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("8.8.8.8", "10.0.0.1")
        ]  # fmt: skip

    monkeypatch.setattr(loop, "getaddrinfo", names)
    with webhook_receiver() as receiver:
        await hooks.endpoint(receiver, url="https://shop.example/")
        await hooks.tell()
        await hooks.desk.worker.deliver_due()
    assert "not allowed" in (await hooks.desk.delivery()).last_error


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1", "fd00::1", "ff02::1", "::ffff:10.0.0.1",
        "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001:db8::1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_of_the_internet_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4, network="10.0.0.0/8"))
def test_whatever_stands_for_a_private_address_is_not_public_either(address: ipaddress.IPv4Address) -> None:
    for written in (
        f"::ffff:{address}",
        f"64:ff9b::{address}",
        f"2002:{int(address) >> 16:x}:{int(address) & 0xFFFF:x}::",
    ):
        assert not is_public(ipaddress.ip_address(written))


# --- endpoints ---


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/", "example.com", "https://", "https://user:pw@example.com/", "https://example.com:x/",
        "https://example.com/#part", "https://exam ple.com/", "https://exämple.com/", "https://[::1/", "https://a:0/",
        "https://a:99999/", "javascript:alert(1)", "https://example.com/\n",
    ],
)  # fmt: skip
async def test_an_address_that_events_cannot_go_to_is_refused(hooks: Hooks, url: str) -> None:
    with webhook_receiver() as receiver, pytest.raises(WebhookUrlError):
        await hooks.endpoint(receiver, url=url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.1.", "127.1", "2130706433", "0x7f000001", "10.0.0.1", "169.254.169.254", "[::1]",
        "[::ffff:127.0.0.1]", "localhost", "LOCALHOST.", "a.localhost",
    ],
)  # fmt: skip
async def test_an_address_that_is_not_of_the_internet_is_refused_at_once_where_it_is_not_allowed(
    hooks: Hooks, host: str
) -> None:
    strict = webhooks_to(hooks, "")

    async def create(webhooks: WebhookService, host: str) -> None:
        await webhooks.create(
            request_id=host, principal="ops", url=f"https://{host}:8443/", description="", event_types=[], fields=[]
        )

    with pytest.raises(WebhookUrlError, match="not one of the internet"):
        await create(strict, host)
    await create(strict, "8.8.8.8")
    await create(strict, "example.com")
    assert len(await strict.list()) == 2
    # Where the operator allows it, it is one.
    await create(hooks.desk.webhooks, "localhost")
    await create(hooks.desk.webhooks, "127.0.0.1")


async def test_an_endpoint_is_made_once_and_shows_its_secret_to_who_made_it(hooks: Hooks) -> None:
    async def create(request_id: str = "r", principal: str = "ops", **more: Any) -> tuple[Endpoint, str, bool]:
        values = {"url": "https://example.com/", "description": "CRM", "event_types": [], "fields": []}
        return await hooks.desk.webhooks.create(request_id=request_id, principal=principal, **{**values, **more})

    first, secret, replayed = await create()
    assert not replayed
    assert secret.startswith("whsec_")
    again, same, replayed = await create()
    assert (again.endpoint_id, same, replayed) == (first.endpoint_id, secret, True)
    with pytest.raises(RequestIdReusedError):
        await create(url="https://example.org/")
    with pytest.raises(WebhookFieldError, match="no event tells email, name"):
        await create("r-2", fields=["name", "tier", "email"])
    other, another, _ = await create(principal="someone-else")
    assert other.endpoint_id != first.endpoint_id
    assert another != secret
    for number in range(MAX_ENDPOINTS - 2):
        await create(f"more-{number}")
    with pytest.raises(TooManyEndpointsError):
        await create("one-more")
    await hooks.desk.webhooks.delete(first.endpoint_id)
    await hooks.desk.webhooks.delete(first.endpoint_id)
    await create("one-more")


async def test_what_waits_for_an_endpoint_that_is_deleted_is_dead(hooks: Hooks) -> None:
    with webhook_receiver() as receiver:
        endpoint = await hooks.endpoint(receiver)
        await hooks.tell()
        await hooks.desk.webhooks.delete(endpoint.endpoint_id)
        await hooks.desk.worker.deliver_due()
        delivery = await hooks.desk.delivery()
        assert (delivery.state, delivery.last_error) == (DeliveryState.DEAD, "the endpoint was deleted")
        assert receiver.tries == 0
        with pytest.raises(EndpointDisabledError):
            await hooks.desk.messages.retry_delivery(request_id="r", delivery_id=delivery.delivery_id)


async def test_no_secret_lies_in_the_database_as_it_is(hooks: Hooks) -> None:
    with webhook_receiver() as receiver:
        endpoint = await hooks.endpoint(receiver)
        shown = SECRETS.shown(SECRETS.open(endpoint.endpoint_id, endpoint.sealed_secret))
        assert shown == receiver.secret

        async def read(transaction: Transaction) -> list[Endpoint]:
            return await transaction.list_endpoints()

        (kept,) = await hooks.desk.store.read(read)
        assert SECRETS.open(endpoint.endpoint_id, kept.sealed_secret) not in kept.sealed_secret


def test_retry_after_is_seconds_or_a_date_and_at_most_a_day() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after("120", now) == timedelta(minutes=2)
    assert retry_after("Thu, 01 Jan 2026 00:10:00 GMT", now) == timedelta(minutes=10)
    assert retry_after("Thu, 01 Jan 2032 00:00:00 GMT", now) == timedelta(days=1)
    assert retry_after("9" * 400, now) == timedelta(days=1)
    for nothing in ("", "soon", "-5", "1.5", "Thu, 01 Jan 2025 00:00:00 GMT", "²"):
        assert retry_after(nothing, now) is None


def test_networks_that_cannot_be_read_stop_the_start() -> None:
    assert read_networks("") == ()
    with pytest.raises(InstallationError):
        read_networks("10.0.0.0/8, here")
