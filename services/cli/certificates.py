"""The certificates of a local installation: an authority of its own, and one certificate for whoever takes part.

DIR/secrets/tls/authority.pem, authority-key.pem       what all trust
DIR/secrets/tls/NAME.pem, NAME-key.pem                 for each of ledger, tiers, notifier, gateway, cli
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.cli.errors import CommandError
from services.cli.postgres import make_private, write_secret
from services.runtime.tls import TlsFiles

NAMES: Final = ("ledger", "tiers", "notifier", "gateway", "cli")

_AUTHORITY_LASTS = timedelta(days=3650)
_LASTS = timedelta(days=365)
_RENEWED_BEFORE = timedelta(days=60)
# Machines whose clocks differ a little agree all the same.
_EARLIER = timedelta(minutes=5)


class LocalAuthority:
    """The authority of an installation, in a folder of its secrets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self, name: str) -> TlsFiles:
        """The files of one of NAMES."""
        return TlsFiles(
            certificate=self.folder / f"{name}.pem",
            key=self.folder / f"{name}-key.pem",
            authority=self.folder / "authority.pem",
        )

    def ready(self) -> None:
        """Makes what is missing or does not fit together, and renews what ends within two months. Who runs takes up new
        files by itself."""
        make_private(self.folder)
        own = self._own()
        if not _lasts(own.certificate, _LASTS):
            key = _new_key()
            certificate = _sign("loyalty", key, _AUTHORITY_LASTS)
            _write(own, key, certificate)
        authority = _read_certificate(own.certificate), _read_key(own.key)
        for name in NAMES:
            files = self.files(name)
            lasts = _lasts(files.certificate, _RENEWED_BEFORE)
            if not (lasts and _is_by(files.certificate, authority[0]) and _fit(files)):
                key = _new_key()
                _write(files, key, _sign(name, key, _LASTS, authority))

    def _own(self) -> TlsFiles:
        path = self.folder / "authority.pem"
        return TlsFiles(certificate=path, key=self.folder / "authority-key.pem", authority=path)


_Authority = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _sign(
    name: str, key: ec.EllipticCurvePrivateKey, lasts: timedelta, authority: _Authority | None = None
) -> x509.Certificate:
    """A certificate of a name, by an authority; without one, of an authority itself."""
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = authority[0].subject if authority else subject
    signing = authority[1] if authority else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + lasts)
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=0 if authority is None else None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=authority is not None,
                key_cert_sign=authority is None,
                crl_sign=authority is None,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            True,
        )
    )
    if authority:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False
        )
    return builder.sign(signing, hashes.SHA256())


def _write(files: TlsFiles, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_secret(files.key, private.decode().strip())
    write_secret(files.certificate, certificate.public_bytes(serialization.Encoding.PEM).decode().strip())


def _lasts(path: Path, at_least: timedelta) -> bool:
    return path.exists() and _read_certificate(path).not_valid_after_utc > datetime.now(UTC) + at_least


def _is_by(path: Path, authority: x509.Certificate) -> bool:
    try:
        _read_certificate(path).verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        # Of another authority.
        return False
    return True


def _fit(files: TlsFiles) -> bool:
    """Whether the key is there, and the certificate's."""
    try:
        key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
    except (FileNotFoundError, ValueError):
        return False
    return key.public_key() == _read_certificate(files.certificate).public_key()


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CommandError(f"the certificate {path} cannot be read: {error}; remove it, and it is made anew") from None


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise CommandError(
            f"the key {path} cannot be read: {error}; remove the folder {path.parent}, and all is made anew"
        ) from None
    assert isinstance(key, ec.EllipticCurvePrivateKey), "the authority's key is ours"
    return key
