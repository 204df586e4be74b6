"""Keys: everything secret of an installation comes from its master key, and each member's contact has a key of its own.

The member's key (32 random bytes) is kept wrapped by the master key; destroying it forgets the member. All sealing is
AES-256-GCM with a random nonce, bound to the member and the name of the field, so that nothing sealed can be put in
another's place.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.notifier.domain.contacts import Contact
from services.notifier.domain.digests import keyed_digest
from services.notifier.errors import InstallationError, SealError

KEY_BYTES = 32
_NONCE_BYTES = 12
_MEMBER_KEY = "member_key"
_NAME = "name"
_EMAIL = "email"


def read_master_key(path: Path) -> bytes:
    """The master key in a file: 32 bytes in base64. Raises InstallationError where it is none."""
    try:
        key = base64.b64decode(path.read_text(encoding="ascii").strip(), validate=True)
    except (OSError, UnicodeDecodeError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise InstallationError(f"the file {path} holds no master key: 32 bytes in base64 are expected")
    return key


class Vault:
    """The keys of an installation, each for one purpose."""

    def __init__(self, master_key: bytes) -> None:
        self._master_key = master_key
        self._wrapping = AESGCM(self._derive("member keys"))
        self.coupon_key = self._derive("coupon codes")
        self.delivery_key = self._derive("delivery ids")
        self.page_key = self._derive("page tokens")
        self.request_key = self._derive("request contents")

    def fingerprint(self) -> bytes:
        """16 bytes by which the database knows its master key; they tell nothing of it."""
        return keyed_digest(self._derive("fingerprint"), "master key")[:16]

    @staticmethod
    def new_member_key() -> bytes:
        """A key for one member."""
        return os.urandom(KEY_BYTES)

    def wrap(self, member_id: str, member_key: bytes) -> bytes:
        """The member's key as it is kept."""
        return _seal(self._wrapping, member_id, _MEMBER_KEY, member_key)

    def unwrap(self, member_id: str, wrapped: bytes) -> bytes:
        """The member's key; raises SealError."""
        return _open(self._wrapping, member_id, _MEMBER_KEY, wrapped)

    @staticmethod
    def seal_contact(member_id: str, member_key: bytes, contact: Contact) -> tuple[bytes | None, bytes | None]:
        """Name and e-mail as they are kept; None for what is empty."""
        cipher = AESGCM(member_key)
        return (
            _seal(cipher, member_id, _NAME, contact.name.encode()) if contact.name else None,
            _seal(cipher, member_id, _EMAIL, contact.email.encode()) if contact.email else None,
        )

    def open_contact(self, member_id: str, wrapped_key: bytes, name: bytes | None, email: bytes | None) -> Contact:
        """The contact; raises SealError."""
        cipher = AESGCM(self.unwrap(member_id, wrapped_key))
        return Contact(
            name=_open(cipher, member_id, _NAME, name).decode() if name else "",
            email=_open(cipher, member_id, _EMAIL, email).decode() if email else "",
        )

    def _derive(self, purpose: str) -> bytes:
        info = f"loyalty notifier v1: {purpose}".encode()
        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(self._master_key)


def _seal(cipher: AESGCM, member_id: str, field: str, content: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, content, _bound_to(member_id, field))


def _open(cipher: AESGCM, member_id: str, field: str, sealed: bytes) -> bytes:
    try:
        return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound_to(member_id, field))
    except (InvalidTag, ValueError):
        raise SealError(f"the {field} kept for member {member_id} cannot be opened with this master key") from None


def _bound_to(member_id: str, field: str) -> bytes:
    # A member id has no NUL, so no two pairs look alike.
    return f"{field}\0{member_id}".encode()
