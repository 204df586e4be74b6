"""How a member can be reached."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address

from services.notifier.domain.digests import keyed_digest
from services.notifier.errors import ContactError


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """A name to greet by and an e-mail address; either may be empty. Never logged: the repr shows nothing."""

    name: str
    email: str

    def __repr__(self) -> str:
        return "Contact(...)"

    def check(self) -> None:
        """Raises ContactError for what a mail could not carry."""
        if any(unicodedata.category(character) == "Cc" for character in self.name):
            raise ContactError("contact.name", "a name has no control characters")
        if self.email:
            self.address()

    def address(self) -> Address:
        """The address as a mail header writes it; raises ContactError where it cannot be written in one."""
        try:
            return Address(display_name=self.name, addr_spec=self.email)
        # The parser of the standard library lets its inner errors through.
        except (MessageError, ValueError, IndexError):
            raise ContactError("contact.email", "this is no address that mail can be sent to") from None

    def digest(self, key: bytes) -> bytes:
        """What stands for the content where the content itself may not be kept."""
        return keyed_digest(key, "contact", self.name, self.email)


def partition_of(member_id: str, partitions: int) -> int:
    """The home of a member, as the ledger reckons it: the first 8 bytes of the SHA-256 of the id, modulo."""
    return int.from_bytes(hashlib.sha256(member_id.encode()).digest()[:8]) % partitions
