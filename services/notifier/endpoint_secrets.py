"""The secrets of webhook endpoints: drawn here, shown once, kept sealed."""

from __future__ import annotations

import base64
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.notifier.errors import SealError

_SECRET_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_PREFIX: Final = "whsec_"


class EndpointSecrets:
    """Seals secrets with a key of 32 bytes, each bound to its endpoint."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @staticmethod
    def draw() -> bytes:
        """A secret for one endpoint."""
        return os.urandom(_SECRET_BYTES)

    @staticmethod
    def shown(secret: bytes) -> str:
        """The secret as Standard Webhooks writes it."""
        return _PREFIX + base64.b64encode(secret).decode()

    def seal(self, endpoint_id: str, secret: bytes) -> bytes:
        """The secret as it is kept."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, endpoint_id.encode())

    def open(self, endpoint_id: str, sealed: bytes) -> bytes:
        """The secret; raises SealError."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], endpoint_id.encode())
        except (InvalidTag, ValueError):
            raise SealError(f"the secret of the endpoint {endpoint_id} cannot be opened with this master key") from None
