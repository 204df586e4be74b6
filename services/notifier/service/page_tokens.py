"""Tokens of pages: where a list goes on. Opaque, and good for the list alone that they were given with."""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final

from services.notifier.domain.digests import keyed_digest
from services.notifier.errors import PageTokenError

_TAG_BYTES: Final = 6


class PageTokens:
    """Those of one kind of list. `key` is the installation's; `asked` is what a list was asked for, a member say."""

    def __init__(self, key: bytes, kind: str) -> None:
        self._key = key
        self._kind = kind

    def make(self, place: bytes, *asked: str | int) -> str:
        """The token of a place in a list."""
        return base64.urlsafe_b64encode(self._tag(place, asked) + place).decode()

    def read(self, token: str, *asked: str | int) -> bytes:
        """The place that a token was made of; raises PageTokenError where it was made of none in this list."""
        try:
            raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raise PageTokenError from None
        tag, place = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(place, asked)):
            raise PageTokenError
        return place

    def _tag(self, place: bytes, asked: tuple[str | int, ...]) -> bytes:
        return keyed_digest(self._key, self._kind, place, *asked)[:_TAG_BYTES]
