"""The ledger's key: what identifiers and forgotten requests are kept as (ADR 23). Without it neither can be told."""

from __future__ import annotations

import hashlib
import hmac


class Keys:
    """The keys that are derived from an installation's one, each for one purpose."""

    def __init__(self, key: bytes) -> None:
        self._identifiers = _digest(key, b"loyalty ledger v1: identifiers")
        self._requests = _digest(key, b"loyalty ledger v1: forgotten requests")
        self.fingerprint = _digest(key, b"loyalty ledger v1: fingerprint")
        """Says which key it is, and tells nothing of it."""

    def identifier(self, kind: str, value: str) -> bytes:
        """The 32 bytes that an identifier is kept as."""
        return _digest(self._identifiers, kind.encode() + b"\0" + value.encode())

    def forgotten(self, request: bytes) -> bytes:
        """The 32 bytes that are kept of a request whose content is forgotten: the same request has the same."""
        return _digest(self._requests, request)


def _digest(key: bytes, content: bytes) -> bytes:
    return hmac.new(key, content, hashlib.sha256).digest()
