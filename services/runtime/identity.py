"""Who calls. Until tokens with scopes are built, one development token carries the principal's name.

`authorization: Bearer <principal>.<secret>`: the secret is the installation's, the name is the caller's own word.
So no entry is ever anonymous, and every holder of the secret is trusted alike.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass

_PRINCIPAL = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_ON_BEHALF_OF = re.compile(r"[!-~]{1,128}", re.ASCII)

AUTHORIZATION = "authorization"
ON_BEHALF_OF = "x-on-behalf-of"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The authenticated principal of a call, and for whom it acts (empty: for itself)."""

    principal: str
    on_behalf_of: str = ""


class TokenMissingError(Exception):
    """no bearer token came with the call; send the metadata `authorization: Bearer <token>`"""


class TokenInvalidError(Exception):
    """the bearer token is not one of this installation; `loyalty up` prints one that is"""


current_caller: ContextVar[Caller] = ContextVar("current_caller")


def bearer(principal: str, secret: str) -> str:
    """The value of the authorization header for a principal."""
    return f"Bearer {principal}.{secret}"


class DevelopmentTokens:
    """Checks development tokens against the installation's secret."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def authenticate(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """The caller that the metadata of a call names; raises TokenMissingError or TokenInvalidError."""
        value = on_behalf_of = ""
        for key, content in metadata:
            if key == AUTHORIZATION and isinstance(content, str):
                value = content
            elif key == ON_BEHALF_OF and isinstance(content, str):
                on_behalf_of = content
        if not value:
            raise TokenMissingError(TokenMissingError.__doc__)
        scheme, _, token = value.partition(" ")
        principal, _, secret = token.strip().partition(".")
        if (
            scheme.lower() != "bearer"
            or not hmac.compare_digest(secret.encode(), self._secret)
            or not _PRINCIPAL.fullmatch(principal)
        ):
            raise TokenInvalidError(TokenInvalidError.__doc__)
        if on_behalf_of and not _ON_BEHALF_OF.fullmatch(on_behalf_of):
            raise TokenInvalidError(f"{ON_BEHALF_OF} must be at most 128 printable ASCII characters without spaces")
        return Caller(principal=principal, on_behalf_of=on_behalf_of)
