"""How a member can be reached, and what else is known of the person."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from email.errors import MessageError
from email.headerregistry import Address
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from services.notifier.domain.digests import keyed_digest
from services.notifier.errors import FieldError

CHANGED_BIRTHDAY_COUNTS_AFTER: Final = timedelta(days=30)
"""A changed date of birth counts so long after it was told (§12.18)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """A name to greet by, an e-mail address, a telephone number; language and time zone; date of birth and what else
    the person told. Each may be empty. Never logged: the repr shows nothing."""

    name: str = ""
    email: str = ""
    phone: str = ""
    """E.164: a plus, and up to 15 digits."""
    language: str = ""
    """As `pl` or `pt-BR`; empty: that of the programme."""
    time_zone: str = ""
    """As `Europe/Warsaw`; empty: that of the programme."""
    birth_date: date | None = None
    demographics: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __repr__(self) -> str:
        return "Contact(...)"

    def check(self, today: date) -> None:
        """Raises FieldError for what a mail could not carry, and for a zone or a date of birth that cannot be."""
        if any(unicodedata.category(character) == "Cc" for character in self.name):
            raise FieldError("contact.name", "a name has no control characters")
        if self.email:
            self.address()
        if self.time_zone:
            self._check_zone()
        if self.birth_date is not None and not date(1900, 1, 1) <= self.birth_date <= today:
            raise FieldError("contact.birth_date", "a date of birth lies after 1899, and not in the future")

    def address(self) -> Address:
        """The address as a mail header writes it; raises FieldError where it cannot be written in one."""
        try:
            return Address(display_name=self.name, addr_spec=self.email)
        # The parser of the standard library lets its inner errors through.
        except (MessageError, ValueError, IndexError):
            raise FieldError("contact.email", "this is no address that mail can be sent to") from None

    @property
    def details(self) -> str:
        """All but name and e-mail, as JSON; empty where there is nothing."""
        values = {
            "phone": self.phone,
            "language": self.language,
            "time_zone": self.time_zone,
            "birth_date": "" if self.birth_date is None else self.birth_date.isoformat(),
            "demographics": dict(self.demographics),
        }
        told = {name: value for name, value in values.items() if value}
        return json.dumps(told, sort_keys=True, ensure_ascii=False) if told else ""

    @classmethod
    def of(cls, *, name: str, email: str, details: str) -> Contact:
        """The contact whose `details` these are."""
        values = json.loads(details) if details else {}
        born = values.get("birth_date")
        return cls(
            name=name,
            email=email,
            phone=values.get("phone", ""),
            language=values.get("language", ""),
            time_zone=values.get("time_zone", ""),
            birth_date=date.fromisoformat(born) if born else None,
            demographics=MappingProxyType(values.get("demographics", {})),
        )

    def digest(self, key: bytes) -> bytes:
        """What stands for the content where the content itself may not be kept."""
        more = [self.details] if self.details else []
        return keyed_digest(key, "contact", self.name, self.email, *more)

    def _check_zone(self) -> None:
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise FieldError("contact.time_zone", "no time zone has this name; write one as Europe/Warsaw") from None


def birthday_digest(key: bytes, day: date) -> bytes:
    """What stands for a birthday: its month and day, celebrated on the 28th where it is 29 February (§12.18)."""
    month, number = (2, 28) if (day.month, day.day) == (2, 29) else (day.month, day.day)
    return keyed_digest(key, "birthday", month, number)[:16]


def partition_of(member_id: str, partitions: int) -> int:
    """The home of a member, as the ledger reckons it: the first 8 bytes of the SHA-256 of the id, modulo."""
    return int.from_bytes(hashlib.sha256(member_id.encode()).digest()[:8]) % partitions
