"""Who calls, and what that caller may do.

`authorization: Bearer <token>`, a JSON Web Token (tokens.py), says who it is. Without one it is the certificate:
services of the platform call each other so, and the contract says which of them may call what. Where there are no
certificates (then everything listens on unix sockets alone) services have one secret in common instead:
`Bearer <name>.<secret>`. That is never handed out, and no gateway lets it pass. So no entry is ever anonymous.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

PRINCIPAL: Final = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_ON_BEHALF_OF = re.compile(r"[!-~]{1,128}", re.ASCII)

AUTHORIZATION: Final = "authorization"
ON_BEHALF_OF: Final = "x-on-behalf-of"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The authenticated principal of a call, and for whom it acts (empty: for itself).

    `scopes`: what it may do; None for a service of the platform. `certified`: it is one by its certificate. `token_id`:
    the id of its token, empty where it came without. `store` and `terminal`: the place that a till is bound to, empty
    for all others. `delegates`: whether it may act for others.
    """

    principal: str
    on_behalf_of: str = ""
    scopes: frozenset[str] | None = None
    certified: bool = False
    token_id: str = ""
    store: str = ""
    terminal: str = ""
    delegates: bool = True


class TokenMissingError(Exception):
    """no bearer token came with the call; send the metadata `authorization: Bearer <token>`"""


class TokenInvalidError(Exception):
    """the bearer token is not one of this installation; `loyalty token` makes one that is"""


class TokenUncheckedError(Exception):
    """the keys of who issues tokens could not be read for too long, so that no token can be checked; send the same
    request again later"""


class PermissionDeniedError(Exception):
    """The caller may not do this. `reason` is one of the contract's; `needed`: what it lacks, by name."""

    def __init__(self, caller: Caller, reason: str, message: str, **needed: str) -> None:
        super().__init__(message)
        self.caller = caller
        self.reason = reason
        self.needed = needed


# What is told of a call that was refused, with the path of its method.
Refused: TypeAlias = Callable[[PermissionDeniedError, str], None]

current_caller: ContextVar[Caller] = ContextVar("current_caller")


def bearer(principal: str, secret: str) -> str:
    """The value of the authorization header of a service of the installation."""
    return f"Bearer {principal}.{secret}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """What the contract says of methods, by their paths: the scope that each needs, and the services that may call it
    by their certificate."""

    scopes: Mapping[str, str]
    callers: Mapping[str, frozenset[str]]

    def check(self, caller: Caller, method: str) -> None:
        """Raises PermissionDeniedError where the caller may not call the method."""
        if caller.scopes is not None:
            scope = self.scopes[method]
            if scope not in caller.scopes:
                raise PermissionDeniedError(
                    caller, "SCOPE_MISSING", f"the token does not open the scope {scope}", scope=scope
                )
        elif caller.certified and caller.principal not in self.callers[method]:
            raise PermissionDeniedError(caller, "CALLER_DENIED", f"{caller.principal} has no business with this method")


def check_store(caller: Caller, request: object) -> None:
    """Raises PermissionDeniedError where a till that is bound to a store speaks of another one, or, in a request that
    names a store, of none."""
    if caller.store and getattr(request, "store_id", caller.store) != caller.store:
        raise PermissionDeniedError(
            caller,
            "STORE_DENIED",
            f"the token is bound to the store {caller.store}, and the request names another one, or none",
        )


class Tokens(Protocol):
    """Says who the bearer of a token is; raises TokenInvalidError or TokenUncheckedError."""

    def verify(self, token: str) -> Caller:
        """The bearer."""


class SharedSecret:
    """The secret by which services know each other where there are no certificates."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def verify(self, token: str) -> Caller:
        """The service; raises TokenInvalidError."""
        principal, _, secret = token.partition(".")
        if not hmac.compare_digest(secret.encode(), self._secret) or not PRINCIPAL.fullmatch(principal):
            raise TokenInvalidError(TokenInvalidError.__doc__)
        return Caller(principal=principal)


class Identities:
    """Says who calls. `issued`: the tokens that are handed out; `shared`: the secret between services; `services`:
    those that are known by their certificates. What is not given lets nobody in."""

    def __init__(
        self, *, issued: Tokens | None = None, shared: Tokens | None = None, services: Collection[str] = ()
    ) -> None:
        self._issued = issued
        self._shared = shared
        self._services = frozenset(services)

    def authenticate(self, metadata: Iterable[tuple[str, str | bytes]], certified: Callable[[], str]) -> Caller:
        """The caller, by the metadata of the call and, where that holds no token, by the name of its certificate.

        Raises TokenMissingError, TokenInvalidError, TokenUncheckedError or PermissionDeniedError.
        """
        said: dict[str, str] = {}
        for key, content in metadata:
            if key in (AUTHORIZATION, ON_BEHALF_OF):
                if key in said or not isinstance(content, str):
                    raise TokenInvalidError(f"{key} must be there once, and be text")
                said[key] = content
        value, on_behalf_of = said.get(AUTHORIZATION, ""), said.get(ON_BEHALF_OF, "")
        caller = self._bearer(value) if value else self._service(certified())
        if not on_behalf_of:
            return caller
        if not _ON_BEHALF_OF.fullmatch(on_behalf_of):
            raise TokenInvalidError(f"{ON_BEHALF_OF} must be at most 128 printable ASCII characters without spaces")
        delegated = replace(caller, on_behalf_of=on_behalf_of)
        if not caller.delegates:
            raise PermissionDeniedError(
                delegated,
                "DELEGATION_DENIED",
                f"the token does not let its bearer act for others: leave {ON_BEHALF_OF} out",
            )
        return delegated

    def _bearer(self, authorization: str) -> Caller:
        # To the letter as the gateway looks for it, so that what passes there unseen opens nothing here.
        scheme, _, token = authorization.partition(" ")
        tokens = self._issued if token.count(".") == 2 else self._shared
        if scheme != "Bearer" or tokens is None:
            raise TokenInvalidError(TokenInvalidError.__doc__)
        caller = tokens.verify(token)
        if tokens is self._issued and caller.principal in self._services:
            raise TokenInvalidError("the token names a service of the platform, and those are known by certificates")
        return caller

    def _service(self, name: str) -> Caller:
        # The gateway and the command line have certificates, too, but speak for others.
        if name not in self._services:
            raise TokenMissingError(TokenMissingError.__doc__)
        return Caller(principal=name, certified=True)
