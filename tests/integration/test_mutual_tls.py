"""Certificates between services: taken up when they change, without a restart."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.cli import certificates as making
from services.cli.certificates import LocalAuthority
from services.runtime.audit import AuditTrail
from services.runtime.channels import open_secure_channel
from services.runtime.clock import machine_now
from services.runtime.config import ConfigurationError
from services.runtime.identity import Identities
from services.runtime.server import ListenError, Service, running
from services.runtime.tls import Certificates, TlsFiles, peer_name


class Asked(health_pb2_grpc.HealthServicer):
    """Keeps by whose certificate it was asked last."""

    def __init__(self) -> None:
        self.name = ""
        self.serial = 0

    async def Check(self, request: Any, context: Any) -> health_pb2.HealthCheckResponse:
        self.name = peer_name(context)
        (pem,) = context.auth_context()["x509_pem_cert"]
        self.serial = x509.load_pem_x509_certificate(pem).serial_number
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


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


def test_files_that_hold_no_certificate_are_told_at_the_start(tmp_path: Path) -> None:
    for name in ("a.pem", "b.pem", "c.pem"):
        (tmp_path / name).write_text("nothing")
    with pytest.raises(ConfigurationError, match="no PEM"):
        Certificates(TlsFiles(certificate=tmp_path / "a.pem", key=tmp_path / "b.pem", authority=tmp_path / "c.pem"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Certificates(TlsFiles(certificate=tmp_path / "x.pem", key=tmp_path / "b.pem", authority=tmp_path / "c.pem"))
