"""Mutual TLS between the services of an installation: who one is, who the other is, by certificates of one authority.

Certificates are read again when their files change. The name in a certificate is a service's identity: its common name,
which stands among its alternative names, too.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import grpc
import structlog

from services.runtime.clock import MachineClock, machine_now
from services.runtime.config import ConfigurationError
from services.runtime.files import Stamp, stamp

if TYPE_CHECKING:
    from cryptography import x509

log = structlog.get_logger()

_LOOK_SECONDS: Final = 1.0
# A certificate is warned of so long before it ends, or in the last third of its time where that is shorter.
_WARNED_BEFORE: Final = timedelta(days=14)
_WARNED_EVERY: Final = timedelta(hours=1)
# A server of ours ends connections of this age, which gRPC spreads by a tenth either way, and what is under way over
# them so much later.
MAX_CONNECTION_AGE_SECONDS: Final = 30 * 60
MAX_CONNECTION_AGE_GRACE_SECONDS: Final = 30
# What is under way over an older certificate has so long to end: streams that are followed are ended by the server, as
# ever, and not by us (34 minutes).
_GRACE_SECONDS: Final = 1.1 * MAX_CONNECTION_AGE_SECONDS + MAX_CONNECTION_AGE_GRACE_SECONDS + 30


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files: a certificate (with what is between it and the authority), its key, the authority's certificate."""

    certificate: Path
    key: Path
    authority: Path

    @classmethod
    def of(cls, certificate: str, key: str, authority: str) -> TlsFiles | None:
        """The files of a configuration; None where none is named; raises ConfigurationError where some are."""
        if not (certificate or key or authority):
            return None
        if not (certificate and key and authority):
            raise ConfigurationError(
                "LOYALTY_TLS_CERTIFICATE, LOYALTY_TLS_KEY and LOYALTY_TLS_AUTHORITY go together: set all or none"
            )
        return cls(certificate=Path(certificate), key=Path(key), authority=Path(authority))


class _Ending(NamedTuple):
    """From when on a certificate ends soon, and when it does."""

    soon: datetime
    ends: datetime


@dataclass(frozen=True, slots=True)
class _Material:
    certificate: bytes
    key: bytes
    authority: bytes
    ending: _Ending


# What of each file changes when it does; None for one that is not there.
_Stamps = tuple[Stamp | None, ...]


class Certificates:
    """What the files hold, read again when they change. Key and certificate that do not fit yet (one file was written,
    the other was not) are passed over until they do. What ends soon is warned of."""

    def __init__(self, files: TlsFiles, *, now: MachineClock = machine_now) -> None:
        self._files = files
        self._now = now
        # Servers ask from threads of their own.
        self._looking = threading.Lock()
        self._looked = 0.0
        self._warned: datetime | None = None
        # Of files that could not be taken.
        self._refused: _Stamps = ()
        self._seen = self._stamps()
        self._material = self._read()
        self._warn()

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a server that lets nobody in without a certificate of the authority; each handshake takes the newest."""
        last = self._material

        def configuration() -> grpc.ServerCertificateConfiguration:
            material = self._material
            return grpc.ssl_server_certificate_configuration(
                [(material.key, material.certificate)], root_certificates=material.authority
            )

        def changed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal last
            if self.material() is last:
                return None
            last = self._material
            return configuration()

        return grpc.dynamic_ssl_server_credentials(
            configuration(),
            changed,  # type: ignore[arg-type]  # None says that nothing has changed
            require_client_authentication=True,
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a channel that is opened now."""
        material = self.material()
        return grpc.ssl_channel_credentials(material.authority, material.key, material.certificate)

    def material(self) -> _Material:
        """What the files held when they were last looked at, which is at most a second ago. Compare by identity."""
        with self._looking:
            if time.monotonic() - self._looked >= _LOOK_SECONDS:
                self._looked = time.monotonic()
                self._look()
            return self._material

    def _look(self) -> None:
        """Takes files that have changed; those that cannot be taken are tried again, and told of once."""
        stamps = self._stamps()
        if stamps != self._seen or self._refused:
            try:
                self._material = self._read()
            except ConfigurationError as error:
                if stamps != self._refused:
                    log.error("certificates_not_read", error=str(error))
                self._refused = stamps
            else:
                self._seen, self._refused, self._warned = stamps, (), None
                log.info("certificates_read", certificate=str(self._files.certificate))
        self._warn()

    def _warn(self) -> None:
        now, (soon, ends) = self._now(), self._material.ending
        if now >= soon and (self._warned is None or now - self._warned >= _WARNED_EVERY):
            self._warned = now
            log.warning("certificate_ends_soon", certificate=str(self._files.certificate), ends=ends.isoformat())

    def _stamps(self) -> _Stamps:
        return tuple([_stamp(path) for path in (self._files.certificate, self._files.key, self._files.authority)])

    def _read(self) -> _Material:
        try:
            certificate, key = self._files.certificate.read_bytes(), self._files.key.read_bytes()
            authority = self._files.authority.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"{error.filename} cannot be read: {error.strerror}") from None
        return _Material(certificate, key, authority, _checked(certificate, key, authority))


def _stamp(path: Path) -> Stamp | None:
    try:
        return stamp(path)
    except OSError:
        return None


def _checked(certificate_pem: bytes, key_pem: bytes, authority_pem: bytes) -> _Ending:
    """When the certificate ends, or its authority's where that is earlier; raises ConfigurationError where the key is
    not the certificate's."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        key = serialization.load_pem_private_key(key_pem, password=None)
        authorities = x509.load_pem_x509_certificates(authority_pem)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"certificate, key or authority is no PEM that can be read: {error}") from None

    def encoded(public: Any) -> bytes:
        content: bytes = public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return content

    if encoded(certificate.public_key()) != encoded(key.public_key()):
        raise ConfigurationError("the key is not the one of the certificate")
    # While an authority changes, the file holds the old one beside the new one.
    return min(_ending(certificate), max([_ending(authority) for authority in authorities]))


def _ending(certificate: x509.Certificate) -> _Ending:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return _Ending(soon=ends - min(_WARNED_BEFORE, (ends - begins) / 3), ends=ends)


def peer_name(context: Any) -> str:
    """The name in the certificate of who calls; empty where there is none."""
    said = context.auth_context()
    names = said.get("x509_common_name", ())
    # One name, and one that the authority stands for as such.
    if len(names) != 1 or names[0] not in said.get("x509_subject_alternative_name", ()):
        return ""
    return str(names[0].decode(errors="replace"))


async def _close_later(channel: grpc.aio.Channel) -> None:
    """Closes it when what is under way has had its time, or at once when this is cancelled."""
    # A close with a grace that is cancelled meanwhile would leave the calls of the channel as they are, for good.
    try:
        await asyncio.sleep(_GRACE_SECONDS)
    finally:
        await channel.close()


class RenewedChannel:
    """A channel that is opened anew when the certificates have changed. Stubs are made with it as with any channel."""

    def __init__(
        self, certificates: Certificates, open_: Callable[[grpc.ChannelCredentials], grpc.aio.Channel]
    ) -> None:
        self._certificates = certificates
        self._open = open_
        self._material = certificates.material()
        self._channel = open_(certificates.channel_credentials())
        self._closing: set[asyncio.Task[None]] = set()

    def unary_unary(self, *arguments: Any, **named: Any) -> Any:
        """A unary method."""
        return self._method("unary_unary", arguments, named)

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:
        """A method that answers with a stream."""
        return self._method("unary_stream", arguments, named)

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:
        """A method that takes a stream."""
        return self._method("stream_unary", arguments, named)

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:
        """A method of streams both ways."""
        return self._method("stream_stream", arguments, named)

    async def close(self) -> None:
        """Closes it."""
        for task in self._closing:
            task.cancel()
        await asyncio.gather(self._channel.close(), *self._closing, return_exceptions=True)

    def _method(self, kind: str, arguments: Any, named: Any) -> Any:
        made: list[Any] = [None, None]

        def call(*call_arguments: Any, **call_named: Any) -> Any:
            channel = self._current()
            if made[0] is not channel:
                made[:] = channel, getattr(channel, kind)(*arguments, **named)
            return made[1](*call_arguments, **call_named)

        return call

    def _current(self) -> grpc.aio.Channel:
        material = self._certificates.material()
        if material is not self._material:
            self._material = material
            closing = asyncio.get_running_loop().create_task(_close_later(self._channel))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            self._channel = self._open(self._certificates.channel_credentials())
        return self._channel
