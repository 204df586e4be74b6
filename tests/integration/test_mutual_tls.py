"""Certificates between services: taken up when they change, without a restart."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
import structlog
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from loyalty.ledger.v1 import ledger_service_pb2, ledger_service_pb2_grpc
from loyalty.tiers.v1 import tier_service_pb2, tier_service_pb2_grpc

from services.cli import certificates as making
from services.cli import local_stack, remote
from services.cli.certificates import LocalAuthority
from services.cli.installation import Installation, open_or_create
from services.cli.local_stack import LocalStack, keep_renewed
from services.cli.postgres import Cluster, socket_folder
from services.cli.remote import RemoteError
from services.notifier import ledger_client as notifier_ledger
from services.notifier.errors import PeerError
from services.notifier.tiers_client import TiersClient
from services.runtime import server as serving
from services.runtime import tls
from services.runtime.audit import AuditTrail
from services.runtime.channels import open_secure_channel
from services.runtime.clock import machine_now
from services.runtime.command import CommonConfig, own_identity
from services.runtime.config import ConfigurationError
from services.runtime.identity import Identities
from services.runtime.inlet import reading
from services.runtime.server import ListenError, Service, running
from services.runtime.tls import Certificates, TlsFiles, peer_name
from services.tiers import ledger_client as tiers_ledger
from services.tiers.errors import LedgerUnavailableError


class Asked(health_pb2_grpc.HealthServicer):
    """Keeps by whose certificate it was asked last; a watch of it is told something again and again."""

    def __init__(self) -> None:
        self.name = ""
        self.serial = 0

    async def Check(self, request: Any, context: Any) -> health_pb2.HealthCheckResponse:
        self.name = peer_name(context)
        (pem,) = context.auth_context()["x509_pem_cert"]
        self.serial = x509.load_pem_x509_certificate(pem).serial_number
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        while True:
            yield health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
            await asyncio.sleep(0.1)


@pytest.fixture
def authority(folder: Path) -> LocalAuthority:
    made = LocalAuthority(folder / "tls")
    made.ready()
    return made


@pytest_asyncio.fixture
async def asked(authority: LocalAuthority, folder: Path) -> AsyncIterator[Asked]:
    server = grpc.aio.server()
    servicer = Asked()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    credentials = Certificates(authority.files("ledger")).server_credentials()
    server.add_secure_port(f"unix:{folder}/ledger.sock", credentials)
    await server.start()
    yield servicer
    await server.stop(None)


def serial(files: TlsFiles) -> int:
    return x509.load_pem_x509_certificate(files.certificate.read_bytes()).serial_number


def renew(authority: LocalAuthority, name: str) -> int:
    files = authority.files(name)
    files.certificate.unlink()
    authority.ready()
    return serial(files)


async def shown(authority: LocalAuthority, path: Path) -> int:
    """The serial number of the certificate that the server shows to who comes now."""

    def look() -> int:
        files = authority.files("cli")
        context = ssl.create_default_context(cafile=str(files.authority))
        context.load_cert_chain(files.certificate, files.key)
        context.set_alpn_protocols(["h2"])
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(10)
            plain.connect(str(path))
            with context.wrap_socket(plain, server_hostname="ledger") as secured:
                content = secured.getpeercert(binary_form=True)
        assert content is not None
        return x509.load_der_x509_certificate(content).serial_number

    return await asyncio.to_thread(look)


async def test_a_server_shows_its_new_certificate_without_a_restart(
    authority: LocalAuthority, asked: Asked, folder: Path
) -> None:
    assert await shown(authority, folder / "ledger.sock") == serial(authority.files("ledger"))
    renewed = renew(authority, "ledger")
    await asyncio.sleep(1.1)
    assert await shown(authority, folder / "ledger.sock") == renewed


async def test_a_client_shows_its_new_certificate_without_a_restart_and_calls_go_on(
    authority: LocalAuthority, asked: Asked, folder: Path
) -> None:
    channel = open_secure_channel(
        f"unix:{folder}/ledger.sock", server="ledger", certificates=Certificates(authority.files("tiers"))
    )
    stub = health_pb2_grpc.HealthStub(channel)
    await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert (asked.name, asked.serial) == ("tiers", serial(authority.files("tiers")))
    renewed = renew(authority, "tiers")
    await asyncio.sleep(1.1)
    await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert asked.serial == renewed
    await channel.close()


@pytest_asyncio.fixture
async def followed(authority: LocalAuthority, asked: Asked, folder: Path) -> AsyncIterator[grpc.aio.Channel]:
    """The channel of a service that follows another one."""
    channel = open_secure_channel(
        f"unix:{folder}/ledger.sock", server="ledger", certificates=Certificates(authority.files("tiers"))
    )
    yield channel
    await channel.close()


async def renewed(authority: LocalAuthority, channel: grpc.aio.Channel) -> None:
    """The certificate is renewed, and the channel has seen it."""
    renew(authority, "tiers")
    await asyncio.sleep(1.1)
    await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)


async def test_a_stream_that_is_followed_goes_on_when_the_certificate_is_renewed(
    authority: LocalAuthority, followed: grpc.aio.Channel
) -> None:
    stream = aiter(health_pb2_grpc.HealthStub(followed).Watch(health_pb2.HealthCheckRequest()))
    await anext(stream)
    await renewed(authority, followed)
    async with asyncio.timeout(10):
        for _ in range(20):
            await anext(stream)


async def test_who_follows_a_stream_is_told_when_its_channel_is_closed_after_a_renewal(
    authority: LocalAuthority, followed: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_GRACE_SECONDS", 0.3)
    stub = health_pb2_grpc.HealthStub(followed)
    arrived = asyncio.Event()
    stream = stub.Watch(health_pb2.HealthCheckRequest())
    async with reading(stream, arrived, size=lambda _: 1, room=1000, ended=ConnectionError("the end")) as inlet:
        await renewed(authority, followed)

        async def take() -> None:
            async with asyncio.timeout(10):
                while True:
                    await arrived.wait()
                    arrived.clear()
                    inlet.take()

        with pytest.raises(ConnectionError, match="the end"):
            await take()
    # Others go on over the new one.
    await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)


class Feeds(ledger_service_pb2_grpc.LedgerServiceServicer, tier_service_pb2_grpc.TierServiceServicer):
    """A ledger and tiers in which nothing happens; they say so again and again."""

    async def StreamEntries(
        self, request: Any, context: Any
    ) -> AsyncIterator[ledger_service_pb2.StreamEntriesResponse]:
        while True:
            yield ledger_service_pb2.StreamEntriesResponse()
            await asyncio.sleep(0.1)

    async def StreamTierChanges(
        self, request: Any, context: Any
    ) -> AsyncIterator[tier_service_pb2.StreamTierChangesResponse]:
        while True:
            yield tier_service_pb2.StreamTierChangesResponse()
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "feed, error",
    [
        (lambda channel: tiers_ledger.LedgerClient(channel).entries({}, follow=True), LedgerUnavailableError),
        (lambda channel: notifier_ledger.LedgerClient(channel).entries({}), PeerError),
        (lambda channel: TiersClient(channel).news({}), PeerError),
        (
            lambda channel: remote.open_stream(
                ledger_service_pb2_grpc.LedgerServiceStub(channel).StreamEntries,
                ledger_service_pb2.StreamEntriesRequest(),
            ),
            RemoteError,
        ),
    ],
    ids=["tiers of the ledger", "notifier of the ledger", "notifier of tiers", "the command line"],
)
async def test_a_feed_whose_channel_is_closed_has_broken_off(folder: Path, feed: Any, error: type[Exception]) -> None:
    server = grpc.aio.server()
    ledger_service_pb2_grpc.add_LedgerServiceServicer_to_server(Feeds(), server)
    tier_service_pb2_grpc.add_TierServiceServicer_to_server(Feeds(), server)
    server.add_insecure_port(f"unix:{folder}/feeds.sock")
    await server.start()
    channel = grpc.aio.insecure_channel(f"unix:{folder}/feeds.sock")
    stream = feed(channel)
    await anext(stream)
    closing = asyncio.create_task(channel.close(0.3))

    async def read() -> None:
        async with asyncio.timeout(10):
            while True:
                await anext(stream)

    with pytest.raises(error):
        await read()
    await closing
    await server.stop(None)


async def test_who_is_cancelled_while_reading_a_feed_is_cancelled(folder: Path) -> None:
    channel = grpc.aio.insecure_channel(f"unix:{folder}/nobody.sock")

    async def read() -> None:
        await anext(TiersClient(channel).news({}))

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await channel.close()


async def test_an_older_channel_that_still_waits_is_closed_with_the_newer_one(
    authority: LocalAuthority, asked: Asked, folder: Path
) -> None:
    channel = open_secure_channel(
        f"unix:{folder}/ledger.sock", server="ledger", certificates=Certificates(authority.files("tiers"))
    )
    stream = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    await stream.read()
    await renewed(authority, channel)
    await stream.read()
    await channel.close()
    assert stream.cancelled()


def test_an_older_channel_outlives_the_streams_that_the_server_ends() -> None:
    options = dict(serving._OPTIONS)
    # gRPC spreads the age by a tenth either way.
    longest = options["grpc.max_connection_age_ms"] * 1.1 + options["grpc.max_connection_age_grace_ms"]
    assert longest < tls._GRACE_SECONDS * 1000


async def test_a_key_that_does_not_fit_its_certificate_yet_is_passed_over_until_it_does(
    authority: LocalAuthority, asked: Asked, folder: Path
) -> None:
    files = authority.files("ledger")
    before = serial(files)
    old_key = files.key.read_bytes()
    renewed = renew(authority, "ledger")
    new_key = files.key.read_bytes()
    files.key.write_bytes(old_key)
    await asyncio.sleep(1.1)
    assert await shown(authority, folder / "ledger.sock") == before
    files.key.write_bytes(new_key)
    await asyncio.sleep(1.1)
    assert await shown(authority, folder / "ledger.sock") == renewed


def test_certificates_that_end_soon_are_renewed_and_others_are_left_alone(
    authority: LocalAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: serial(authority.files(name)) for name in making.NAMES}
    authority.ready()
    assert {name: serial(authority.files(name)) for name in making.NAMES} == before
    monkeypatch.setattr(making, "_RENEWED_BEFORE", timedelta(days=366))
    authority.ready()
    after = {name: serial(authority.files(name)) for name in making.NAMES}
    assert not set(after.values()) & set(before.values())


def logged(lines: list[Any]) -> list[str]:
    """The events of what was logged since it was last asked."""
    events = [line["event"] for line in lines]
    lines.clear()
    return events


def test_a_certificate_that_ends_soon_is_warned_of_every_hour_until_it_is_renewed(
    authority: LocalAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_LOOK_SECONDS", 0)
    files = authority.files("ledger")
    ends = x509.load_pem_x509_certificate(files.certificate.read_bytes()).not_valid_after_utc
    now = ends - timedelta(days=15)

    def clock() -> datetime:
        return now

    with structlog.testing.capture_logs() as lines:
        certificates = Certificates(files, now=clock)
        assert logged(lines) == []
        now += timedelta(days=1)
        certificates.material()
        certificates.material()
        (line,) = lines
        assert (line["log_level"], line["ends"]) == ("warning", ends.isoformat())
        assert logged(lines) == ["certificate_ends_soon"]
        now += timedelta(minutes=59)
        certificates.material()
        assert logged(lines) == []
        now += timedelta(minutes=1)
        certificates.material()
        assert logged(lines) == ["certificate_ends_soon"]
        Certificates(files, now=clock)
        assert logged(lines) == ["certificate_ends_soon"], "at the start, too"
        monkeypatch.setattr(making, "_LASTS", timedelta(days=400))
        renew(authority, "ledger")
        certificates.material()
        now += timedelta(hours=2)
        certificates.material()
        assert logged(lines) == ["certificates_read"]


@pytest.mark.parametrize("days", [9, 11])
def test_a_short_certificate_is_warned_of_in_the_last_third_of_its_time(
    authority: LocalAuthority, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    monkeypatch.setattr(making, "_LASTS", timedelta(days=30))
    renew(authority, "ledger")
    files = authority.files("ledger")
    ends = x509.load_pem_x509_certificate(files.certificate.read_bytes()).not_valid_after_utc
    with structlog.testing.capture_logs() as lines:
        Certificates(files, now=lambda: ends - timedelta(days=days))
    assert logged(lines) == (["certificate_ends_soon"] if days == 9 else [])


def test_an_authority_that_ends_soon_is_warned_of_unless_a_newer_one_stands_beside_it(
    authority: LocalAuthority, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "_AUTHORITY_LASTS", timedelta(days=100))
    short = LocalAuthority(folder / "short")
    short.ready()
    files = short.files("ledger")
    ends = x509.load_pem_x509_certificate(files.authority.read_bytes()).not_valid_after_utc

    def clock() -> datetime:
        return ends - timedelta(days=13)

    with structlog.testing.capture_logs() as lines:
        Certificates(files, now=clock)
        assert logged(lines) == ["certificate_ends_soon"]
        files.authority.write_bytes(files.authority.read_bytes() + authority.files("ledger").authority.read_bytes())
        Certificates(files, now=clock)
        assert logged(lines) == []


def test_files_that_cannot_be_taken_are_told_of_once_and_again_when_they_change_or_are_mended(
    authority: LocalAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_LOOK_SECONDS", 0)
    files = authority.files("ledger")
    certificates = Certificates(files)
    good = certificates.material()
    key = files.key.read_bytes()
    with structlog.testing.capture_logs() as lines:
        files.key.write_text("no key")
        for _ in range(3):
            assert certificates.material() is good
        assert logged(lines) == ["certificates_not_read"]
        files.key.unlink()
        for _ in range(3):
            certificates.material()
        assert logged(lines) == ["certificates_not_read"]
        files.key.write_bytes(key)
        for _ in range(3):
            certificates.material()
        assert logged(lines) == ["certificates_read"]
        # As it was, to the time it was written.
        away = files.key.rename(files.key.with_suffix(".away"))
        certificates.material()
        away.rename(files.key)
        certificates.material()
        certificates.material()
        assert logged(lines) == ["certificates_not_read", "certificates_read"]


@pytest.fixture
def installation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """One whose certificates end soon."""
    with monkeypatch.context() as made_long_ago:
        made_long_ago.setattr(making, "_LASTS", timedelta(days=59))
        return open_or_create(folder / "shop")


async def test_a_running_stack_renews_its_certificates_and_its_probes_show_the_new_ones(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_stack, "_RENEWAL_SECONDS", 0.2)
    stack = LocalStack(installation=installation, cluster=Cluster(installation.directory), port=1, smtp_port=1)
    socket_folder(installation.directory).mkdir(parents=True, exist_ok=True)
    server = grpc.aio.server()
    servicer = Asked()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_secure_port(
        stack.address("ledger"), Certificates(installation.authority.files("ledger")).server_credentials()
    )
    await server.start()
    before = {name: serial(installation.authority.files(name)) for name in making.NAMES}
    async with stack.probes() as probes:
        assert await probes["ledger"]()
        assert servicer.serial == before["cli"]
        renewing = asyncio.create_task(keep_renewed(installation))
        async with asyncio.timeout(20):
            while servicer.serial == before["cli"]:
                await asyncio.sleep(0.1)
                assert await probes["ledger"]()
        renewing.cancel()
    after = {name: serial(installation.authority.files(name)) for name in making.NAMES}
    assert not set(after.values()) & set(before.values())
    assert servicer.serial == after["cli"]
    await server.stop(None)


async def test_what_cannot_be_renewed_is_told_of_and_tried_again(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local_stack, "_RENEWAL_SECONDS", 0.1)
    key = installation.authority.folder / "authority-key.pem"
    content = key.read_bytes()
    before = serial(installation.authority.files("ledger"))
    key.write_text("no key")
    renewing = asyncio.create_task(keep_renewed(installation))
    await asyncio.sleep(0.5)
    assert "not_renewed" in capsys.readouterr().err
    assert serial(installation.authority.files("ledger")) == before
    key.write_bytes(content)
    await asyncio.sleep(1)
    assert serial(installation.authority.files("ledger")) != before
    renewing.cancel()


def test_certificates_of_an_authority_that_was_replaced_are_made_anew(authority: LocalAuthority) -> None:
    before = serial(authority.files("ledger"))
    (authority.folder / "authority.pem").unlink()
    authority.ready()
    assert serial(authority.files("ledger")) != before


def test_secrets_of_certificates_are_for_their_owner_alone(authority: LocalAuthority) -> None:
    assert {path.stat().st_mode & 0o777 for path in authority.folder.iterdir()} == {0o600}


async def test_without_certificates_a_service_listens_on_a_unix_socket_alone() -> None:
    audit = AuditTrail("ledger", None, machine_now)
    service = Service(name="ledger", register=lambda server: None, describe=lambda error: None, audit=audit)
    with pytest.raises(ListenError, match="unix socket alone"):
        async with running(service, listen="127.0.0.1:0", identities=Identities()):
            pass


@pytest.mark.parametrize("missing", [("", "key", "authority"), ("certificate", "", ""), ("certificate", "key", "")])
def test_certificate_key_and_authority_go_together(missing: tuple[str, str, str]) -> None:
    with pytest.raises(ConfigurationError, match="go together"):
        TlsFiles.of(*missing)


def test_all_of_a_service_share_what_it_has_read_of_its_certificates(authority: LocalAuthority) -> None:
    files = authority.files("ledger")

    def told() -> CommonConfig:
        return CommonConfig(
            listen="unix:/none.sock",
            database_url="",
            programme=Path("none.yaml"),
            tls_certificate=str(files.certificate),
            tls_key=str(files.key),
            tls_authority=str(files.authority),
        )

    assert own_identity(told(), "ledger").certificates is own_identity(told(), "ledger").certificates


def test_files_that_hold_no_certificate_are_told_at_the_start(tmp_path: Path) -> None:
    for name in ("a.pem", "b.pem", "c.pem"):
        (tmp_path / name).write_text("nothing")
    with pytest.raises(ConfigurationError, match="no PEM"):
        Certificates(TlsFiles(certificate=tmp_path / "a.pem", key=tmp_path / "b.pem", authority=tmp_path / "c.pem"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Certificates(TlsFiles(certificate=tmp_path / "x.pem", key=tmp_path / "b.pem", authority=tmp_path / "c.pem"))
