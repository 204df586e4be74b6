"""Preferences, dead letters and webhooks over real gRPC, behind a real ledger and real tiers."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.notifier.v1 import message_pb2
from loyalty.notifier.v1 import notifier_service_pb2 as pb

from services.notifier.store import Installation as Kept
from services.notifier.vault import MasterKey, Vault
from services.runtime.config import ConfigurationError
from tests.integration.test_notifier_service import (
    DAY,
    SECONDS,
    Installation,
    Notifier,
    clock,
    installation,
    programme,
    reason_of,
    retention,
    until_stopped,
)
from tests.webhook_receiver import webhook_receiver

# The same installation as there.
__all__ = ["clock", "installation", "programme", "retention"]


def preference(channel: str, topic: str, allowed: bool) -> message_pb2.Preference:
    return message_pb2.Preference(channel=channel, topic=topic, allowed=allowed)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return reason_of(caught.value)


async def test_what_a_member_said_is_kept_shown_and_heeded(installation: Installation) -> None:
    await installation.start_tiers()
    till = installation.till
    token = await till.advance(DAY)
    await till.enroll("m-1")
    told = Timestamp()
    told.FromDatetime(DAY - timedelta(days=1))

    async def shop(notifier: Notifier) -> None:
        stub = notifier.stub
        # Before it knows the day, what was said then lies ahead.
        await notifier.deliveries(token)
        await notifier.contact("m-1", "ann@example.com", "Ann")
        request = message_pb2.SetPreferencesRequest(
            request_id="p-1", member_id="m-1", preferences=[preference("email", "", False)], source="web form",
            consent_time=told,
        )  # fmt: skip
        assert not (await stub.SetPreferences(request, timeout=SECONDS)).replayed
        assert (await stub.SetPreferences(request, timeout=SECONDS)).replayed
        asked = message_pb2.GetPreferencesRequest(member_id="m-1")
        found = await stub.GetPreferences(asked, timeout=SECONDS)
        assert list(found.preferences) == [preference("email", "offers", False)]
        (consent,) = found.consents
        assert (consent.source, consent.consent_time.ToDatetime(UTC)) == ("web form", told.ToDatetime(UTC))
        assert consent.preference == preference("email", "", False)
        contact = await stub.GetContact(pb.GetContactRequest(member_id="m-1"), timeout=SECONDS)
        assert (contact.contact.name, contact.contact.email, contact.suppressed_reason) == (
            "Ann",
            "ann@example.com",
            "",
        )
        (delivery,) = await notifier.deliveries(await till.buy("m-1", 30000, DAY))
        while delivery.state == pb.DELIVERY_STATE_QUEUED:
            await asyncio.sleep(0.02)
            (delivery,) = await notifier.deliveries()
        assert (delivery.state, delivery.channel, delivery.last_error) == (
            pb.DELIVERY_STATE_WITHHELD, "email", "the member has opted out",
        )  # fmt: skip
        # Said otherwise, and sent again by hand.
        again = message_pb2.SetPreferencesRequest(
            request_id="p-2", member_id="m-1", preferences=[preference("", "", True)], source="call"
        )  # fmt: skip
        await stub.SetPreferences(again, timeout=SECONDS)
        retry = message_pb2.RetryDeliveryRequest(request_id="r-1", delivery_id=delivery.delivery_id)
        await stub.RetryDelivery(retry, timeout=SECONDS)
        await installation.mail.next_message()

    await until_stopped(installation, shop)
    assert len(installation.mail.messages()) == 1
    assert await installation.differences() == []


async def test_dead_letters_bounces_and_one_click_over_the_contract(installation: Installation) -> None:
    await installation.start_tiers()
    till = installation.till
    await till.advance(DAY)
    await till.enroll("m-1")
    notifier = await installation.start(unsubscribe_url="https://shop.example.com/stop/{token}")
    stub = notifier.stub
    installation.mail.refusals["ann@example.com"] = "550 5.1.1 no such user"
    await notifier.contact("m-1", "ann@example.com")
    await notifier.deliveries(await till.buy("m-1", 30000, DAY))
    dead: list[pb.Delivery] = []
    while not dead:
        await asyncio.sleep(0.02)
        dead = list((await stub.ListDeadLetters(pb.ListDeadLettersRequest(), timeout=SECONDS)).deliveries)
    assert [(one.member_id, one.last_error) for one in dead] == [("m-1", "the recipient was refused: 550 5.1.1")]
    bounce = message_pb2.RecordBounceRequest(
        request_id="b-1", delivery_id=dead[0].delivery_id, kind=message_pb2.BOUNCE_KIND_TRANSIENT
    )  # fmt: skip
    assert await stub.RecordBounce(bounce, timeout=SECONDS) == message_pb2.RecordBounceResponse(suppressed=True)
    mended = message_pb2.RecordBounceRequest(
        request_id="b-2", address="Ann@example.com", kind=message_pb2.BOUNCE_KIND_RESOLVED
    )  # fmt: skip
    assert not (await stub.RecordBounce(mended, timeout=SECONDS)).suppressed
    assert await stub.RecordBounce(bounce, timeout=SECONDS) == message_pb2.RecordBounceResponse(
        suppressed=True, replayed=True
    )
    bounce.kind = message_pb2.BOUNCE_KIND_COMPLAINT
    assert await refused(stub.RecordBounce(bounce, timeout=SECONDS)) == (
        grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED",
    )  # fmt: skip
    installation.mail.refusals.clear()
    retry = message_pb2.RetryDeliveryRequest(request_id="r-1", delivery_id=dead[0].delivery_id)
    await stub.RetryDelivery(retry, timeout=SECONDS)
    await installation.mail.next_message()
    (mail,) = installation.mail.messages()
    token = mail["List-Unsubscribe"].removeprefix("<https://shop.example.com/stop/").removesuffix(">")
    click = message_pb2.UnsubscribeRequest(request_id="u-1", token=token)
    answer = await stub.Unsubscribe(click, timeout=SECONDS)
    assert (answer.channel, answer.topic) == ("email", "offers")
    wrong = message_pb2.UnsubscribeRequest(request_id="u-2", token=token[:-4])
    assert await refused(stub.Unsubscribe(wrong, timeout=SECONDS)) == (
        grpc.StatusCode.INVALID_ARGUMENT, "UNSUBSCRIBE_TOKEN_INVALID",
    )  # fmt: skip
    unknown = message_pb2.RetryDeliveryRequest(request_id="r-2", delivery_id="0001" + "a" * 28)
    assert await refused(stub.RetryDelivery(unknown, timeout=SECONDS)) == (
        grpc.StatusCode.NOT_FOUND, "DELIVERY_UNKNOWN",
    )  # fmt: skip
    for values, reason in (
        ({"preferences": [preference("email", "nothing", True)]}, "TOPIC_UNKNOWN"),
        ({"preferences": [preference("pigeon", "", True)]}, "CHANNEL_UNKNOWN"),
        ({"preferences": []}, "INVALID_FIELD"),
        ({"preferences": [preference("email", "", True)], "source": ""}, "INVALID_FIELD"),
        ({"preferences": [preference("email", "", True)], "member_id": "nobody"}, "MEMBER_UNKNOWN"),
    ):
        request = message_pb2.SetPreferencesRequest(
            **{"request_id": "p-1", "member_id": "m-1", "source": "form", **values}
        )  # fmt: skip
        assert (await refused(stub.SetPreferences(request, timeout=SECONDS)))[1] == reason
    # Somebody did something by hand, and that is on record.
    connection_lines = await _audit_lines(installation)
    assert ("DONE", "/loyalty.notifier.v1.NotifierService/RetryDelivery", "m-1") in connection_lines


async def _audit_lines(installation: Installation) -> list[tuple[str, str, str]]:

    connection = await asyncpg.connect(installation.database.dsn("loyalty_owner"))
    try:
        rows = await connection.fetch("SELECT outcome, method, member_ids FROM notifier.audit_log ORDER BY number")
        return [tuple(row) for row in rows]
    finally:
        await connection.close()


async def test_endpoints_are_made_listed_and_deleted_over_the_contract(installation: Installation) -> None:
    await installation.start_tiers()
    notifier = await installation.start(webhook_networks="127.0.0.0/8, ::1/128")
    stub = notifier.stub
    with webhook_receiver() as receiver:
        request = message_pb2.CreateWebhookEndpointRequest(
            request_id="e-1", url=f"http://localhost:{receiver.port}/", description="CRM",
            event_types=["tier.reached"], fields=["tier", "member_id"],
        )  # fmt: skip
        made = await stub.CreateWebhookEndpoint(request, timeout=SECONDS)
        again = await stub.CreateWebhookEndpoint(request, timeout=SECONDS)
        assert (again.replayed, again.secret, again.endpoint) == (True, made.secret, made.endpoint)
        (listed,) = (
            await stub.ListWebhookEndpoints(message_pb2.ListWebhookEndpointsRequest(), timeout=SECONDS)
        ).endpoints  # fmt: skip
        assert listed == made.endpoint
        assert (listed.description, list(listed.fields)) == ("CRM", ["member_id", "tier"])
        request.fields.append("email")
        request.request_id = "e-2"
        assert await refused(stub.CreateWebhookEndpoint(request, timeout=SECONDS)) == (
            grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD",
        )  # fmt: skip
        enable = message_pb2.EnableWebhookEndpointRequest(request_id="e-3", endpoint_id=listed.endpoint_id)
        assert [(await stub.EnableWebhookEndpoint(enable, timeout=SECONDS)).replayed for _ in range(2)] == [False, True]
        rotate = message_pb2.RotateWebhookEndpointSecretRequest(request_id="e-4", endpoint_id=listed.endpoint_id)
        rotated = await stub.RotateWebhookEndpointSecret(rotate, timeout=SECONDS)
        assert rotated.secret not in ("", made.secret)
        assert rotated.endpoint.HasField("previous_secret_until_time")
        again = await stub.RotateWebhookEndpointSecret(rotate, timeout=SECONDS)
        assert (again.secret, again.replayed) == (rotated.secret, True)
        enable.endpoint_id = f"we_{'0' * 24}"
        enable.request_id = "e-5"
        assert await refused(stub.EnableWebhookEndpoint(enable, timeout=SECONDS)) == (
            grpc.StatusCode.NOT_FOUND, "WEBHOOK_ENDPOINT_UNKNOWN",
        )  # fmt: skip
        gone = message_pb2.DeleteWebhookEndpointRequest(endpoint_id=listed.endpoint_id)
        for _ in range(2):
            await stub.DeleteWebhookEndpoint(gone, timeout=SECONDS)
        answer = await stub.ListWebhookEndpoints(message_pb2.ListWebhookEndpointsRequest(), timeout=SECONDS)
        assert list(answer.endpoints) == []
    done = [method.rpartition("/")[2] for outcome, method, _ in await _audit_lines(installation) if outcome == "DONE"]
    assert set(done) == {
        "CreateWebhookEndpoint", "EnableWebhookEndpoint", "RotateWebhookEndpointSecret", "DeleteWebhookEndpoint"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ({"unsubscribe_url": "https://shop.example.com/"}, "no address to unsubscribe at"),
        ({"unsubscribe_url": "https://shop.example.com/{token}?a=?utf-8?q?=0d=0a?="}, "no address to unsubscribe at"),
        ({"smtp_user": "shop"}, "are set together"),
        ({"webhook_networks": "here"}, "LOYALTY_WEBHOOK_NETWORKS"),
        ({"channel_adapters": "sms"}, "names no adapter"),
    ],
)
async def test_a_wrong_setting_is_named_at_the_start(
    installation: Installation, setting: dict[str, str], problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        await installation.start(**setting)


def test_links_of_an_installation_open_after_its_master_key_was_changed() -> None:
    """They lie in mailboxes for years."""
    old, new = MasterKey(b"1" * 32), MasterKey(b"2" * 32)
    kept = Kept(key_fingerprint=old.key_id, partitions=4, simulated=False)
    before = Vault([old], kept)
    sealed = Kept(
        key_fingerprint=old.key_id, partitions=4, simulated=False, sealed_keys=new.seal_derived(old.derived())
    )
    after = Vault([new], sealed)
    assert before.key_for("unsubscribe") == after.key_for("unsubscribe") != after.key_for("addresses")
