"""Keyed digests of a list of fields: equal fields give equal digests, and nobody without the key can tell any."""

from __future__ import annotations

import hashlib
import hmac


def keyed_digest(key: bytes, *fields: str | int | bytes) -> bytes:
    """HMAC-SHA256 (32 bytes) over the fields, each with its length before it, so that no two lists look alike."""
    parts = []
    for field in fields:
        content = field if isinstance(field, bytes) else str(field).encode()
        parts.append(len(content).to_bytes(4))
        parts.append(content)
    return hmac.digest(key, b"".join(parts), hashlib.sha256)
