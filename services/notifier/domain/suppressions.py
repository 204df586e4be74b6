"""Addresses that are not written to, known by keyed hashes: whoever reads them can tell no address."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, TypeAlias

from services.notifier.domain.contacts import partition_of
from services.notifier.domain.digests import keyed_digest

# The partition of an address's hash, and the hash.
AddressKey: TypeAlias = tuple[int, bytes]


class Bounce(enum.Enum):
    """What became of a message after the receiving server had taken it."""

    PERMANENT = enum.auto()
    TRANSIENT = enum.auto()
    COMPLAINT = enum.auto()
    RESOLVED = enum.auto()
    """The address takes messages again."""


REASONS: Final[Mapping[Bounce, str]] = {
    Bounce.PERMANENT: "mail to it came back for good",
    Bounce.COMPLAINT: "its owner complained of a message",
}
"""Why an address is not written to any more."""


class AddressHashes:
    """The hashes of one installation. `key`: 32 bytes."""

    def __init__(self, *, key: bytes, partitions: int) -> None:
        self._key = key
        self._partitions = partitions

    def key(self, address: str) -> AddressKey:
        """What stands for an address, whatever its case."""
        return self.key_of(keyed_digest(self._key, "address", address.strip().casefold()))

    def key_of(self, digest: bytes) -> AddressKey:
        """What stands for the address that has this hash."""
        return partition_of(digest.hex(), self._partitions), digest
