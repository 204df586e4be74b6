"""The link by which a member refuses a topic: it needs no login, and nobody can make one without the key.

It leads to the retailer's site, whose server hands the token to the RPC Unsubscribe (docs/adr/0025-messages.md).
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.notifier.errors import InstallationError, UnsubscribeTokenError

PLACE: Final = "{token}"
# What a mail's header may have between angle brackets. With the longest token, 218 characters, its line stays within
# the 998 that SMTP carries.
_ADDRESS: Final = re.compile(r"https://[!-;=?-~]{1,692}", re.ASCII)
_NONCE_BYTES: Final = 12
_PURPOSE: Final = b"unsubscribe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a link refuses."""

    member_id: str
    channel: str
    topic: str


class UnsubscribeLinks:
    """Makes links and reads them. `key`: 32 bytes; `url` has `{token}` in it, and where it is empty there are none."""

    def __init__(self, *, key: bytes, url: str) -> None:
        """Raises InstallationError for an address without the token, or one that mail clients do not call."""
        # Mail programs read what is between "=?" and "?=" as an encoded word.
        if url and (url.count(PLACE) != 1 or not _ADDRESS.fullmatch(url) or "=?" in url):
            raise InstallationError(
                f"{url!r} is no address to unsubscribe at: it begins with https://, has {PLACE} in it once, is ASCII "
                'without blanks, angle brackets and "=?", and has at most 700 characters'
            )
        self._cipher = AESGCM(key)
        self._url = url

    def link(self, refusal: Refusal) -> str:
        """The link; empty where the installation has none."""
        return self._url.replace(PLACE, self.token(refusal)) if self._url else ""

    def token(self, refusal: Refusal) -> str:
        """What stands for a refusal, and tells nothing of it."""
        nonce = os.urandom(_NONCE_BYTES)
        content = "\0".join((refusal.member_id, refusal.channel, refusal.topic)).encode()
        return base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, content, _PURPOSE)).decode().rstrip("=")

    def read(self, token: str) -> Refusal:
        """What a token refuses; raises UnsubscribeTokenError."""
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            content = self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _PURPOSE)
        except (binascii.Error, InvalidTag, ValueError):
            raise UnsubscribeTokenError from None
        member_id, channel, topic = content.decode().split("\0")
        return Refusal(member_id=member_id, channel=channel, topic=topic)
