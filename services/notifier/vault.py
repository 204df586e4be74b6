"""Keys: all secrets of an installation come from its master keys, and each member's contact has a key of its own.

The member's key (32 random bytes) is kept wrapped by a master key, and says by which; destroying it forgets the member.
The newest master key wraps what is new, and all open. What codes and ids are made with must never change: it comes from
the master key that the installation was made with, and is kept sealed by the newest once there is another.

All sealing is AES-256-GCM with a random nonce, bound to the member and the name of the field, so that nothing sealed
can be put in another's place.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from services.notifier.domain.contacts import Contact
from services.notifier.domain.digests import keyed_digest
from services.notifier.errors import InstallationError, SealError

if TYPE_CHECKING:
    from services.notifier.store import Installation, SealedContact

KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 16
_NONCE_BYTES = 12
_TAG_BYTES = 16
# A member's key as the first release wrapped it, without the id of the master key.
_BARE_BYTES = _NONCE_BYTES + KEY_BYTES + _TAG_BYTES
_MEMBER_KEY = "member_key"
_DERIVED_KEYS = "derived_keys"
_NAME = "name"
_EMAIL = "email"
_DETAILS = "details"
_COMMENT = "comment"


def read_master_keys(path: Path) -> tuple[MasterKey, ...]:
    """The master keys in a file, newest first: 32 bytes in base64, one key a line. Raises InstallationError."""
    try:
        keys = [base64.b64decode(line, validate=True) for line in path.read_text(encoding="ascii").split()]
    except (OSError, UnicodeDecodeError, binascii.Error):
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise InstallationError(f"the file {path} holds no master key: 32 bytes in base64 are expected, one key a line")
    return tuple(MasterKey(key) for key in keys)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DerivedKeys:
    """Keys for one purpose each, the same for as long as the installation lives."""

    coupon: bytes
    delivery: bytes
    page: bytes
    request: bytes


class MasterKey:
    """One master key. `key_id` tells nothing of it."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.key_id = keyed_digest(self._derive("fingerprint"), "master key")[:KEY_ID_BYTES]
        self._wrapping = AESGCM(self._derive("member keys"))
        self._sealing = AESGCM(self._derive("derived keys"))

    def derived(self) -> DerivedKeys:
        """What an installation that is made with this key derives from it."""
        return DerivedKeys(
            coupon=self._derive("coupon codes"),
            delivery=self._derive("delivery ids"),
            page=self._derive("page tokens"),
            request=self._derive("request contents"),
        )

    def seal_derived(self, keys: DerivedKeys) -> bytes:
        """Derived keys as they are kept."""
        content = keys.coupon + keys.delivery + keys.page + keys.request
        return self.key_id + _seal(self._sealing, "", _DERIVED_KEYS, content)

    def open_derived(self, sealed: bytes) -> DerivedKeys:
        """The derived keys; raises InstallationError where they were changed."""
        try:
            content = _open(self._sealing, "", _DERIVED_KEYS, sealed[KEY_ID_BYTES:])
        except SealError:
            raise InstallationError("the derived keys in the database cannot be opened: they were changed") from None
        coupon, delivery, page, request = (content[at : at + KEY_BYTES] for at in range(0, len(content), KEY_BYTES))
        return DerivedKeys(coupon=coupon, delivery=delivery, page=page, request=request)

    def wrap(self, member_id: str, member_key: bytes) -> bytes:
        """The member's key as it is kept, the id of this one before it."""
        return self.key_id + _seal(self._wrapping, member_id, _MEMBER_KEY, member_key)

    def unwrap(self, member_id: str, content: bytes) -> bytes:
        """The member's key from what follows the id; raises SealError."""
        return _open(self._wrapping, member_id, _MEMBER_KEY, content)

    def _derive(self, purpose: str) -> bytes:
        info = f"loyalty notifier v1: {purpose}".encode()
        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(self._key)


def sealing_key_id(installation: Installation) -> bytes:
    """The id of the master key without which nothing of an installation can be read: what its database goes by."""
    sealed = installation.sealed_keys
    return installation.key_fingerprint if sealed is None else sealed[:KEY_ID_BYTES]


class Vault:
    """The keys of an installation, each for one purpose."""

    def __init__(self, master_keys: Sequence[MasterKey], installation: Installation) -> None:
        """`master_keys`: newest first. Raises InstallationError where the one that the database goes by is missing."""
        self._made_with = installation.key_fingerprint
        self._newest = master_keys[0]
        self._keys: dict[bytes, MasterKey] = {}
        self.take(master_keys, installation)
        sealing = self._keys[sealing_key_id(installation)]
        sealed = installation.sealed_keys
        self._derived = sealing.derived() if sealed is None else sealing.open_derived(sealed)
        self.coupon_key = self._derived.coupon
        self.delivery_key = self._derived.delivery
        self.page_key = self._derived.page
        self.request_key = self._derived.request

    def take(self, master_keys: Sequence[MasterKey], installation: Installation) -> bool:
        """Goes on with these, newest first, and says whether that changes anything. Raises InstallationError as above.

        One that is gone from them still opens for as long as the process lives: what was being written when the newest
        one came may be wrapped by it.
        """
        if sealing_key_id(installation) not in {key.key_id for key in master_keys}:
            raise InstallationError(
                "the master key is not the one that this database was made with; contacts and codes need that one"
            )
        changed = master_keys[0].key_id != self._newest.key_id or any(
            key.key_id not in self._keys for key in master_keys
        )
        self._newest = master_keys[0]
        self._keys |= {key.key_id: key for key in master_keys}
        return changed

    @property
    def newest_id(self) -> bytes:
        """The id of the master key that wraps what is new."""
        return self._newest.key_id

    def sealed_keys(self) -> bytes:
        """The derived keys as they are kept, by the newest master key."""
        return self._newest.seal_derived(self._derived)

    def key_for(self, purpose: str) -> bytes:
        """A key for one more purpose (32 bytes), the same for as long as the installation lives."""
        return keyed_digest(self._derived.request, "key for", purpose)

    @staticmethod
    def new_member_key() -> bytes:
        """A key for one member."""
        return os.urandom(KEY_BYTES)

    def wrap(self, member_id: str, member_key: bytes) -> bytes:
        """The member's key as it is kept, by the newest master key."""
        return self._newest.wrap(member_id, member_key)

    def unwrap(self, member_id: str, wrapped: bytes) -> bytes:
        """The member's key; raises SealError."""
        # What names no master key is from before there was more than one.
        bare = len(wrapped) == _BARE_BYTES
        key_id, content = (self._made_with, wrapped) if bare else (wrapped[:KEY_ID_BYTES], wrapped[KEY_ID_BYTES:])
        master_key = self._keys.get(key_id)
        if master_key is None:
            raise SealError(f"the {_MEMBER_KEY} kept for member {member_id} needs a master key that is not in the file")
        return master_key.unwrap(member_id, content)

    @staticmethod
    def seal_contact(
        member_id: str, member_key: bytes, contact: Contact
    ) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Name, e-mail and details as they are kept; None for what is empty."""
        cipher = AESGCM(member_key)

        def sealed(field: str, content: str) -> bytes | None:
            return _seal(cipher, member_id, field, content.encode()) if content else None

        return sealed(_NAME, contact.name), sealed(_EMAIL, contact.email), sealed(_DETAILS, contact.details)

    def open_contact(self, contact: SealedContact) -> Contact:
        """The contact; raises SealError, also where its key was destroyed."""
        member_id = contact.member_id
        if contact.wrapped_key is None:
            raise SealError(f"the key of member {member_id} was destroyed")
        cipher = AESGCM(self.unwrap(member_id, contact.wrapped_key))

        def opened(field: str, content: bytes | None) -> str:
            return _open(cipher, member_id, field, content).decode() if content else ""

        return Contact.of(
            name=opened(_NAME, contact.name),
            email=opened(_EMAIL, contact.email),
            details=opened(_DETAILS, contact.details),
        )

    def seal_comment(self, member_id: str, wrapped: bytes, request_id: str, comment: str) -> bytes:
        """What a member wrote beside an answer, as it is kept with the answer's request; raises SealError."""
        cipher = AESGCM(self.unwrap(member_id, wrapped))
        return _seal(cipher, member_id, f"{_COMMENT} {request_id}", comment.encode())

    def open_comment(self, member_id: str, wrapped: bytes | None, request_id: str, sealed: bytes) -> str:
        """What a member wrote; raises SealError, also where its key was destroyed."""
        if wrapped is None:
            raise SealError(f"the key of member {member_id} was destroyed")
        cipher = AESGCM(self.unwrap(member_id, wrapped))
        return _open(cipher, member_id, f"{_COMMENT} {request_id}", sealed).decode()


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
