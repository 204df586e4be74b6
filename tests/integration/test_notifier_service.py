"""The notifier over real gRPC, behind a real ledger and real tiers, with a real mail server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc
from loyalty.notifier.v1 import checkout_service_pb2_grpc, coupon_pb2, coupon_pb2_grpc, notifier_service_pb2_grpc
from loyalty.notifier.v1 import notifier_service_pb2 as pb
from loyalty.type.v1.money_pb2 import Money

from services.notifier import rotation
from services.notifier.app import build
from services.notifier.check import check
from services.notifier.config import NotifierConfig
from services.notifier.store import Store, Transaction
from services.notifier.vault import MasterKey, Vault, read_master_keys
from services.runtime.clock import ClockMode
from services.runtime.config import ConfigurationError
from services.tiers.app import build as build_tiers
from services.tiers.config import Config as TiersConfig
from tests.conftest import PROGRAMMES, Database, StartLedger, serving
from tests.mail_server import LocalMailServer, mail_server

PROGRAMME = PROGRAMMES / "retail-demo.yaml"
SECONDS = 20
DAY = datetime(2024, 2, 1, 15, tzinfo=UTC)
# Only what is later than the joining counts.
JOINED = DAY - timedelta(seconds=1)


def stamp(time: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def reason_of(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str]:
    info = error_details_pb2.ErrorInfo()
    metadata = dict(error.trailing_metadata())
    for detail in status_pb2.Status.FromString(metadata["grpc-status-details-bin"]).details:
        detail.Unpack(info)
    return error.code(), info.reason


class Till:
    """The ledger as its callers use it."""

    def __init__(self, channel: Any) -> None:
        self.stub = ledger_service_pb2_grpc.LedgerServiceStub(channel)
        self._written = 0

    def _next(self) -> str:
        self._written += 1
        return f"request-{self._written}"

    async def enroll(self, member_id: str, time: datetime = JOINED) -> str:
        request = ledger_pb.EnrollMemberRequest(request_id=self._next(), member_id=member_id, occurred_time=stamp(time))
        return (await self.stub.EnrollMember(request, timeout=SECONDS)).causal_token

    async def buy(self, member_id: str, minor_units: int, time: datetime) -> str:
        request = ledger_pb.RecordPurchaseRequest(
            request_id=self._next(),
            member_id=member_id,
            occurred_time=stamp(time),
            amount=Money(currency_code="USD", minor_units=minor_units),
        )
        return (await self.stub.RecordPurchase(request, timeout=SECONDS)).causal_token

    async def bring_back(self, member_id: str, minor_units: int, time: datetime) -> str:
        request = ledger_pb.RecordReturnRequest(
            request_id=self._next(),
            member_id=member_id,
            occurred_time=stamp(time),
            amount=Money(currency_code="USD", minor_units=minor_units),
        )
        return (await self.stub.RecordReturn(request, timeout=SECONDS)).causal_token

    async def advance(self, time: datetime) -> str:
        request = ledger_pb.AdvanceClockRequest(request_id=self._next(), to_time=stamp(time))
        return (await self.stub.AdvanceClock(request, timeout=SECONDS)).causal_token


class Notifier:
    """The notifier as its callers use it."""

    def __init__(self, channel: Any) -> None:
        self.stub = notifier_service_pb2_grpc.NotifierServiceStub(channel)
        self.rewards = coupon_pb2_grpc.RewardServiceStub(channel)
        self.checkouts = checkout_service_pb2_grpc.CheckoutServiceStub(channel)

    async def contact(self, member_id: str, email: str, name: str = "", request_id: str = "c-1") -> bool:
        request = pb.SetContactRequest(
            request_id=request_id, member_id=member_id, contact=pb.Contact(name=name, email=email)
        )
        return (await self.stub.SetContact(request, timeout=SECONDS)).replayed

    async def deliveries(self, token: str = "", *, seconds: float = SECONDS) -> list[pb.Delivery]:
        request = pb.ListDeliveriesRequest(causal_token=token)
        return list((await self.stub.ListDeliveries(request, timeout=seconds)).deliveries)

    async def coupon(self, code: str) -> coupon_pb2.Coupon:
        request = coupon_pb2.GetCouponRequest(code=code)
        return (await self.rewards.GetCoupon(request, timeout=SECONDS)).coupon


@dataclass
class Installation:
    """Starts and stops the services of one installation."""

    database: Database
    folder: Path
    token_file: Path
    mail: LocalMailServer
    till: Till
    stack: contextlib.AsyncExitStack
    programme: Path

    def config(self, **changed: Any) -> NotifierConfig:
        values = {
            "listen": f"unix:{self.folder}/notifier.sock",
            "database_url": self.database.dsn("loyalty_notifier"),
            "programme": self.programme,
            "token_file": self.token_file,
            "ledger_address": f"unix:{self.folder}/ledger.sock",
            "tiers_address": f"unix:{self.folder}/tiers.sock",
            "smtp_host": "127.0.0.1",
            "smtp_port": self.mail.port,
            "mail_from": "Shop <shop@example.com>",
            "master_key_file": self.folder / "master-key",
        }
        return NotifierConfig(**{**values, **changed})

    async def start_tiers(self, own: contextlib.AsyncExitStack | None = None) -> None:
        config = TiersConfig(
            listen=f"unix:{self.folder}/tiers.sock",
            database_url=self.database.dsn("loyalty_tiers"),
            programme=self.programme,
            token_file=self.token_file,
            ledger_address=f"unix:{self.folder}/ledger.sock",
        )
        inside = own or self.stack
        await inside.enter_async_context(serving(await build_tiers(config, inside), config.listen))

    async def start(self, own: contextlib.AsyncExitStack | None = None, **changed: Any) -> Notifier:
        config = self.config(**changed)
        inside = own or self.stack
        service = await build(config, inside)
        return Notifier(await inside.enter_async_context(serving(service, config.listen)))

    async def differences(self) -> list[tuple[str, Any, Any]]:
        report = await check(self.config())
        return [(found["what"], found["expected"], found["found"]) for found in report.differences]

    async def done_by_hand(self) -> list[tuple[str, str]]:
        """What the audit log has of that: the method, and whom it was about."""
        connection = await asyncpg.connect(self.database.dsn("loyalty_owner"))
        try:
            rows = await connection.fetch(
                "SELECT method, member_ids FROM notifier.audit_log WHERE outcome = 'DONE' ORDER BY number"
            )
            return [(row["method"].removeprefix("/loyalty.notifier.v1.NotifierService/"), row[1]) for row in rows]
        finally:
            await connection.close()

    async def as_owner(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.database.dsn("loyalty_owner"))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


@pytest.fixture
def clock() -> ClockMode:
    """What moves the installation's business time, where a test says nothing else."""
    return ClockMode.SIMULATED


@pytest.fixture
def retention() -> str:
    """How the programme holds levels that were reached: not at all, where a test says nothing else."""
    return ""


@pytest.fixture
def programme(retention: str, folder: Path) -> Path:
    """What the installation lives by."""
    if not retention:
        return PROGRAMME
    text, path = PROGRAMME.read_text(encoding="utf-8"), folder / "programme.yaml"
    path.write_text(text.replace("\ntiers:\n", f"\ntiers:\n  retention: {retention}\n"), encoding="utf-8")
    return path


@pytest_asyncio.fixture
async def installation(
    start_ledger: StartLedger, database: Database, folder: Path, token_file: Path, clock: ClockMode, programme: Path
) -> AsyncIterator[Installation]:
    """A ledger and a mail server; tiers and the notifier are started by the test."""
    (folder / "master-key").write_text(base64.b64encode(b"m" * 32).decode() + "\n")
    till = Till(await start_ledger(programme=programme, partitions=4, clock=clock))
    async with contextlib.AsyncExitStack() as stack:
        mail = await stack.enter_async_context(mail_server(folder / "mail"))
        yield Installation(
            database=database,
            folder=folder,
            token_file=token_file,
            mail=mail,
            till=till,
            stack=stack,
            programme=programme,
        )


async def until_stopped(installation: Installation, work: Callable[[Notifier], Awaitable[None]]) -> None:
    """Runs `work` beside a notifier, then stops that gracefully: what it has begun is written down."""
    async with contextlib.AsyncExitStack() as own:
        await work(await installation.start(own))


async def test_reaching_a_tier_brings_a_coupon_and_a_mail_with_its_code(installation: Installation) -> None:
    await installation.start_tiers()
    till = installation.till
    await till.advance(DAY)
    await till.enroll("m-1")

    async def shop(notifier: Notifier) -> None:
        await notifier.contact("m-1", "ann@example.com", "Ann")
        assert await notifier.deliveries(await till.buy("m-1", 29500, DAY)) == []
        (delivery,) = await notifier.deliveries(await till.buy("m-1", 1000, DAY + timedelta(hours=1)))
        await installation.mail.next_message()
        coupon = await notifier.coupon(delivery.coupon_code)
        assert coupon.state == coupon_pb2.COUPON_STATE_ISSUED
        assert (coupon.member_id, coupon.campaign_id, coupon.discount_basis_points) == ("m-1", "green-reached", 500)
        assert coupon.issued_time.ToDatetime(UTC) == DAY + timedelta(hours=1)
        # 30 days later, on the other side of nothing: New York changes its clock on 10 March.
        assert coupon.valid_until_time.ToDatetime(UTC) == DAY + timedelta(days=30, hours=1)
        assert await notifier.coupon(coupon.code.lower().replace("-", "")) == coupon

    await until_stopped(installation, shop)
    notifier = await installation.start()
    (delivery,) = await notifier.deliveries()
    assert (delivery.state, delivery.attempts) == (pb.DELIVERY_STATE_DELIVERED, 1)
    (mail,) = installation.mail.messages()
    assert delivery.coupon_code in mail.get_content()
    assert "Hello Ann" in mail.get_content()
    assert mail["Subject"] == "You are Green now: 5 % off your next purchase"
    assert await installation.differences() == []


async def test_a_change_of_tier_brings_what_the_version_of_its_own_time_gives(installation: Installation) -> None:
    await installation.start_tiers()
    till = installation.till
    await till.advance(DAY)
    switch = DAY + timedelta(hours=2)
    text = PROGRAMME.read_text(encoding="utf-8")
    richer = text.replace('prefix: GREEN\n      discount_percent: "5"', 'prefix: SEVEN\n      discount_percent: "7"')
    assert richer != text
    for member_id in ("m-1", "m-2", "m-3"):
        await till.enroll(member_id)

    async def shop(notifier: Notifier) -> None:
        for member_id in ("m-1", "m-2"):
            await notifier.contact(member_id, f"{member_id}@example.com")
        request = ledger_pb.ApplyProgrammeRequest(request_id="apply", document=richer, from_time=stamp(switch))
        await till.stub.ApplyProgramme(request, timeout=SECONDS)
        await notifier.deliveries(await till.buy("m-1", 30000, switch - timedelta(microseconds=1)))
        given = await notifier.deliveries(await till.buy("m-2", 30000, switch))
        coupons = {delivery.member_id: await notifier.coupon(delivery.coupon_code) for delivery in given}
        assert {member_id: coupon.discount_basis_points for member_id, coupon in coupons.items()} == {
            "m-1": 500,
            "m-2": 700,
        }
        assert coupons["m-2"].code.startswith("SEVEN")
        for _ in range(2):
            await installation.mail.next_message()
        assert {mail["Subject"] for mail in installation.mail.messages()} == {
            f"You are Green now: {percent} % off your next purchase" for percent in (5, 7)
        }

    await until_stopped(installation, shop)
    # It is told all versions again when it starts.
    notifier = await installation.start()
    given = await notifier.deliveries(await till.buy("m-3", 30000, switch + timedelta(hours=1)))
    assert sorted(delivery.coupon_code[:5] for delivery in given) == ["GREEN", "SEVEN", "SEVEN"]
    assert await installation.differences() == []


async def test_a_document_that_is_applied_again_holds_again(installation: Installation) -> None:
    await installation.start_tiers()
    till, hour = installation.till, timedelta(hours=1)
    await till.advance(DAY)
    text = PROGRAMME.read_text(encoding="utf-8")
    richer = text.replace('prefix: GREEN\n      discount_percent: "5"', 'prefix: SEVEN\n      discount_percent: "7"')
    for member_id in ("m-1", "m-2"):
        await till.enroll(member_id)

    async def shop(notifier: Notifier) -> None:
        for number, document in enumerate((richer, text), start=1):
            request = ledger_pb.ApplyProgrammeRequest(
                request_id=f"apply-{number}", document=document, from_time=stamp(DAY + number * hour)
            )
            applied = await till.stub.ApplyProgramme(request, timeout=SECONDS)
            await notifier.deliveries(applied.causal_token)
        for number, prefix in ((1, "SEVEN"), (2, "GREEN")):
            member_id = f"m-{number}"
            await notifier.contact(member_id, f"{member_id}@example.com")
            await notifier.deliveries(await till.buy(member_id, 30000, DAY + number * hour))
            (given,) = [one for one in await notifier.deliveries() if one.member_id == member_id]
            assert given.coupon_code.startswith(prefix)

    await until_stopped(installation, shop)


@pytest.mark.parametrize("retention", ["{cycle: P12M, on_return: take_back}"])
async def test_a_level_that_a_return_takes_back_takes_its_coupons_with_it_and_the_check_knows(
    installation: Installation,
) -> None:
    await installation.start_tiers()
    till, hour = installation.till, timedelta(hours=1)
    await till.advance(DAY)
    await till.enroll("m-1")
    notifier = await installation.start()
    await till.buy("m-1", 30000, DAY)
    await till.buy("m-1", 80000, DAY + hour)
    given = await notifier.deliveries(await till.bring_back("m-1", 75000, DAY + 2 * hour))
    coupons = {delivery.campaign_id: await notifier.coupon(delivery.coupon_code) for delivery in given}
    states = {campaign: coupon.state for campaign, coupon in coupons.items()}
    assert states == {
        "green-reached": coupon_pb2.COUPON_STATE_ISSUED,
        "silver-reached": coupon_pb2.COUPON_STATE_VOID,
    }
    assert coupons["silver-reached"].voided_time.ToDatetime(UTC) == DAY + 2 * hour
    assert not coupons["green-reached"].HasField("voided_time")
    assert {delivery.campaign_id: delivery.state for delivery in given} == {
        "green-reached": pb.DELIVERY_STATE_NO_CONTACT,
        "silver-reached": pb.DELIVERY_STATE_DEAD,
    }
    # Reached anew, it brings a coupon that is good.
    again = await notifier.deliveries(await till.buy("m-1", 75000, DAY + 3 * hour))
    assert len(again) == 3
    assert (await notifier.coupon(again[0].coupon_code)).state == coupon_pb2.COUPON_STATE_ISSUED
    assert await installation.differences() == []
    await installation.as_owner(
        "UPDATE notifier.coupons SET voided_time = NULL, voided_by = NULL WHERE voided_by IS NOT NULL"
    )
    assert await installation.differences() == [
        ("time at which the coupon was taken back", (DAY + 2 * hour).isoformat(), None),
        ("change that took the coupon back", 3, None),
    ]


async def test_a_coupon_expires_when_the_business_time_has_come(installation: Installation) -> None:
    await installation.start_tiers()
    notifier = await installation.start()
    till = installation.till
    await till.advance(DAY)
    await till.enroll("m-1")
    (delivery,) = await notifier.deliveries(await till.buy("m-1", 200000, DAY))
    coupon = await notifier.coupon(delivery.coupon_code)
    end = coupon.valid_until_time.ToDatetime(UTC)
    await notifier.deliveries(await till.advance(end - timedelta(seconds=1)))
    assert (await notifier.coupon(coupon.code)).state == coupon_pb2.COUPON_STATE_ISSUED
    await notifier.deliveries(await till.advance(end))
    assert (await notifier.coupon(coupon.code)).state == coupon_pb2.COUPON_STATE_EXPIRED


@pytest.mark.parametrize("clock", [ClockMode.REAL])
async def test_in_real_time_a_coupon_of_long_ago_is_expired_and_one_of_today_is_not(installation: Installation) -> None:
    await installation.start_tiers()
    notifier = await installation.start()
    till = installation.till
    now = datetime.now(UTC) - timedelta(minutes=1)
    for member_id, time in (("m-1", DAY), ("m-2", now)):
        await till.enroll(member_id)
        (delivery,) = [
            delivery
            for delivery in await notifier.deliveries(await till.buy(member_id, 30000, time))
            if delivery.member_id == member_id
        ]
        coupon = await notifier.coupon(delivery.coupon_code)
        expired = member_id == "m-1"
        assert (coupon.state == coupon_pb2.COUPON_STATE_EXPIRED) == expired
    # The old purchase leaves its window by time alone, long before today: nothing more is given for that.
    assert await installation.differences() == []


async def test_a_member_can_come_down_and_up_again_and_each_time_up_is_rewarded(installation: Installation) -> None:
    await installation.start_tiers()
    notifier = await installation.start()
    till = installation.till
    await till.advance(DAY)
    await till.enroll("m-1")
    await till.buy("m-1", 30000, DAY)
    later = DAY + timedelta(days=400)
    # What time alone does is handled, too, when the read answers.
    given = await notifier.deliveries(await till.advance(later))
    assert sorted(one.campaign_id for one in given) == ["come-back", "green-reached"]
    given = await notifier.deliveries(await till.buy("m-1", 30000, later))
    assert sorted(one.campaign_id for one in given) == ["come-back", "green-reached", "green-reached"]
    assert await installation.differences() == []


async def test_the_notifier_goes_on_where_it_was_and_gives_nothing_twice(installation: Installation) -> None:
    await installation.start_tiers()
    till = installation.till
    await till.advance(DAY)
    for number in range(12):
        await till.enroll(f"m-{number}")

        async def shop(notifier: Notifier, number: int = number) -> None:
            await notifier.contact(f"m-{number}", f"m{number}@example.com")
            token = await till.buy(f"m-{number}", 30000, DAY)
            if number % 3 == 0:
                await notifier.deliveries(token)

        await until_stopped(installation, shop)
    notifier = await installation.start()
    token = await till.advance(DAY + timedelta(days=1))
    assert len(await notifier.deliveries(token)) == 12
    for _ in range(12):
        await installation.mail.next_message()
    assert len({mail["X-Mailbox-To"] for mail in installation.mail.messages()}) == 12
    assert len(installation.mail.messages()) == 12
    assert await installation.differences() == []


async def test_entries_wait_for_tiers(installation: Installation) -> None:
    notifier = await installation.start()
    till = installation.till
    await till.advance(DAY)
    await till.enroll("m-1")
    token = await till.buy("m-1", 30000, DAY)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await notifier.deliveries(token, seconds=0.6)
    assert reason_of(caught.value) == (grpc.StatusCode.DEADLINE_EXCEEDED, "NOT_CAUGHT_UP")
    # The ledger knows the member, though our feed does not yet.
    assert await notifier.contact("m-1", "ann@example.com") is False
    await installation.start_tiers()
    assert len(await notifier.deliveries(token)) == 1
    await installation.mail.next_message()


async def test_what_cannot_be_is_refused_with_its_reason(installation: Installation) -> None:
    await installation.start_tiers()
    notifier = await installation.start()
    await installation.till.advance(DAY)
    await installation.till.enroll("m-1")
    assert await notifier.contact("m-1", "ann@example.com") is False
    assert await notifier.contact("m-1", "ann@example.com") is True
    assert await notifier.contact("m-1", "", request_id="c-2") is False
    invalid, missing = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
    stub = notifier.stub
    for call, expected in (
        (notifier.contact("m-1", "eve@example.com"), (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")),
        (notifier.contact("nobody", "eve@example.com"), (missing, "MEMBER_UNKNOWN")),
        (notifier.contact("m-1", "no address", request_id="c-3"), (invalid, "INVALID_FIELD")),
        (notifier.contact("m-1", "a..b@example.com", request_id="c-3"), (invalid, "INVALID_FIELD")),
        (notifier.contact("m-1", "a@example.com", "A\nB", request_id="c-3"), (invalid, "INVALID_FIELD")),
        (notifier.contact("m-1", "a@example.com", "A\x85B", request_id="c-3"), (invalid, "INVALID_FIELD")),
        (notifier.contact("", "a@example.com", request_id="c-3"), (invalid, "INVALID_FIELD")),
        (notifier.coupon("GREEN-2222-2222-2222"), (missing, "COUPON_UNKNOWN")),
        (notifier.coupon("GREEN-2222-2222-2223"), (missing, "COUPON_UNKNOWN")),
        (notifier.deliveries("nonsense"), (invalid, "CAUSAL_TOKEN_INVALID")),
        (notifier.deliveries("4-1"), (invalid, "CAUSAL_TOKEN_INVALID")),
        (stub.ListDeliveries(pb.ListDeliveriesRequest(page_token="x"), timeout=5), (invalid, "PAGE_TOKEN_INVALID")),
        (stub.ListDeliveries(pb.ListDeliveriesRequest(page_size=-1), timeout=5), (invalid, "INVALID_FIELD")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert reason_of(caught.value) == expected


async def test_another_master_key_is_refused_at_the_start(installation: Installation) -> None:
    await installation.start_tiers()
    async with contextlib.AsyncExitStack() as own:
        await installation.start(own)
    other = installation.folder / "other-key"
    other.write_text(base64.b64encode(b"n" * 32).decode())
    with pytest.raises(ConfigurationError, match="the master key is not the one"):
        await installation.start(master_key_file=other)


def master_keys(installation: Installation, letters: str) -> None:
    """Puts another file of master keys into its place: a key for each letter, newest first."""
    path = installation.folder / "master-key"
    partial = path.with_suffix(".partial")
    partial.write_text("".join(base64.b64encode(letter.encode() * 32).decode() + "\n" for letter in letters))
    partial.replace(path)


async def needed_by(installation: Installation, letter: str) -> int:
    """How many keys need another master key than this one."""
    connection = await asyncpg.connect(installation.database.dsn("loyalty_notifier"))
    try:
        newest_id = MasterKey(letter.encode() * 32).key_id
        return await Transaction(connection).count_keys_of_older(newest_id)
    finally:
        await connection.close()


async def until_needed_by_fewer(installation: Installation, letter: str, than: int) -> None:
    async with asyncio.timeout(SECONDS):
        while await needed_by(installation, letter) >= than:
            pass


async def test_the_master_key_changes_while_contacts_are_written_and_mails_are_sent(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    await installation.start_tiers()
    till = installation.till
    await till.advance(DAY)
    for member_id in ("m-1", "m-2", "m-3"):
        await till.enroll(member_id)
    async with contextlib.AsyncExitStack() as own:
        notifier = await installation.start(own)
        await notifier.contact("m-1", "ann@example.com", "Ann")
        # As the first release wrote it: nothing says by which master key.
        await installation.as_owner("UPDATE notifier.member_keys SET wrapped_key = substring(wrapped_key FROM 17)")
        (first,) = await notifier.deliveries(await till.buy("m-1", 30000, DAY))
        await installation.mail.next_message()
        master_keys(installation, "nm")
        written = 0
        while await needed_by(installation, "n"):
            assert not await notifier.contact("m-2", f"bob-{written}@example.com", request_id=f"c-{written}")
            written += 1
        assert written
        assert await notifier.contact("m-1", "ann@example.com", "Ann"), "what was answered before is known still"
        await till.buy("m-2", 30000, DAY)
        await installation.mail.next_message()
        assert await installation.differences() == []
        master_keys(installation, "n")
        await asyncio.sleep(1.5)
        await notifier.contact("m-3", "cyd@example.com")
        await till.buy("m-3", 30000, DAY)
        await installation.mail.next_message()
        addressed = sorted(mail["To"] for mail in installation.mail.messages())
        assert addressed == ["Ann <ann@example.com>", f"bob-{written - 1}@example.com", "cyd@example.com"]
        assert await installation.differences() == []
    told = capsys.readouterr().out
    assert "keys_rewrapped" in told
    assert "keys_not_rewrapped" not in told
    assert "master_keys_not_read" not in told
    notifier = await installation.start()
    assert (await notifier.coupon(first.coupon_code)).member_id == "m-1"
    assert first.delivery_id in {delivery.delivery_id for delivery in await notifier.deliveries()}
    assert await installation.differences() == []
    for old in ("m", "o"):
        master_keys(installation, old)
        with pytest.raises(ConfigurationError, match="the master key is not the one"):
            await installation.start()
        with pytest.raises(ConfigurationError, match="the master key is not the one"):
            await check(installation.config())


async def test_a_rotation_that_is_broken_off_anywhere_is_finished_later(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await installation.start_tiers()
    await installation.till.advance(DAY)
    async with contextlib.AsyncExitStack() as own:
        notifier = await installation.start(own)
        for number in range(30):
            await installation.till.enroll(f"m-{number}")
            await notifier.contact(f"m-{number}", f"m-{number}@example.com")
    monkeypatch.setattr(rotation, "BATCH", 1)
    master_keys(installation, "nm")
    pool = await asyncpg.create_pool(installation.database.dsn("loyalty_notifier"), min_size=1, max_size=2)
    store = Store(pool)
    path = installation.folder / "master-key"
    lefts = []
    for _ in range(3):
        made = await store.read(Transaction.read_installation)
        assert made is not None
        vault = Vault(read_master_keys(path), made)
        before = await needed_by(installation, "n")
        work = asyncio.create_task(rotation.KeyRotation(store=store, vault=vault, file=path).rewrap())
        await until_needed_by_fewer(installation, "n", before)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        lefts.append(await needed_by(installation, "n"))
        assert await installation.differences() == []
    await pool.close()
    assert 31 > lefts[0] > lefts[1] > lefts[2] > 0
    await installation.start()
    await until_needed_by_fewer(installation, "n", 1)
    master_keys(installation, "n")
    assert await installation.differences() == []


async def test_a_file_without_the_key_that_is_needed_changes_nothing(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    await installation.start_tiers()
    notifier = await installation.start()
    await installation.till.advance(DAY)
    await installation.till.enroll("m-1")
    for wrong in ("n", ""):
        master_keys(installation, wrong)
        await asyncio.sleep(1.5)
        assert "master_keys_not_read" in capsys.readouterr().out
        assert not await notifier.contact("m-1", "ann@example.com", request_id=f"c-{wrong}")
        master_keys(installation, "m")
        await asyncio.sleep(1.5)
    assert await needed_by(installation, "m") == 0
    assert await installation.differences() == []


async def test_with_another_programme_than_the_ledgers_nothing_is_handled(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    await installation.start_tiers()
    async with contextlib.AsyncExitStack() as own:
        notifier = await installation.start(own, programme=PROGRAMMES / "tiered-365.yaml")
        await installation.till.advance(DAY)
        token = await installation.till.enroll("m-1")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await notifier.deliveries(token, seconds=1)
        assert reason_of(caught.value)[1] == "NOT_CAUGHT_UP"
    assert "programme_mismatch_found" in capsys.readouterr().out
    assert await (await installation.start()).deliveries(token) == []


async def test_the_check_names_what_differs(installation: Installation) -> None:
    await installation.start_tiers()
    notifier = await installation.start()
    till = installation.till
    await till.advance(DAY)
    for member_id in ("m-1", "m-2"):
        await till.enroll(member_id)
        await notifier.contact(member_id, f"{member_id}@example.com")
        token = await till.buy(member_id, 30000, DAY)
    assert len(await notifier.deliveries(token)) == 2
    for _ in range(2):
        await installation.mail.next_message()
    assert await installation.differences() == []
    code = next(
        delivery.coupon_code for delivery in await notifier.deliveries() if delivery.member_id == "m-1"
    )  # fmt: skip
    end = (await notifier.coupon(code)).valid_until_time.ToDatetime(UTC)
    await installation.as_owner(
        "DELETE FROM notifier.deliveries WHERE member_id = 'm-2'",
        "DELETE FROM notifier.coupons WHERE member_id = 'm-2'",
        "UPDATE notifier.coupons SET code = 'GREEN-X', valid_until_time = valid_until_time + interval '1 day'",
        "UPDATE notifier.contacts SET email = name || email WHERE member_id = 'm-2'",
        "UPDATE notifier.contacts SET email = '\\x00' WHERE member_id = 'm-1'",
        "DELETE FROM notifier.members WHERE member_id = 'm-1'",
    )
    found = await installation.differences()
    assert ("code of the coupon", code, "GREEN-X") in found
    assert ("end of the coupon", end.isoformat(), (end + timedelta(days=1)).isoformat()) in found
    assert ("joining time of a member", JOINED.isoformat(), None) in found
    assert sorted(what for what, _, _ in found) == sorted(
        [
            "code of the coupon",
            "end of the coupon",
            "joining time of a member",
            "coupon missing",
            "contact",
        ]
    )
    await installation.as_owner("UPDATE notifier.cursors SET ledger_offset = 1000, change_offset = 1000")
    assert {"ledger cursor ahead of the log", "change cursor ahead of the log"} <= {
        what for what, _, _ in await installation.differences()
    }
