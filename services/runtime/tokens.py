"""Bearer tokens: JSON Web Tokens (RFC 7519), signed with EdDSA or ES256, checked against a set of public keys.

Keys and revocations are read again when they change: a key set from a file or a URL, in which old and new keys stand
side by side while they change over, and a file with one revoked id a line. A token that was verified once is not
verified again before it expires; whether it was revoked is looked at each time.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
import structlog

from services.runtime.config import ConfigurationError
from services.runtime.files import Stamp, stamp
from services.runtime.identity import PRINCIPAL, Caller, TokenInvalidError, TokenUncheckedError

log = structlog.get_logger()

# What a key of each kind verifies, whatever it or a token says; other keys verify nothing.
_ALGORITHMS: Final = {("OKP", "Ed25519"): "EdDSA", ("EC", "P-256"): "ES256"}
# How far the clocks of who issues and who checks may lie apart.
SKEW_SECONDS: Final = 30
REQUIRED_CLAIMS: Final = ("iss", "aud", "sub", "jti", "iat", "nbf", "exp")
# How long a token may last from when it was issued, and how long the keys of a URL hold without being read again.
MAX_TOKEN_DAYS: Final = 366
MAX_KEY_HOURS: Final = 24

_LOOK_SECONDS = 1.0
_FETCH_SECONDS = 60.0
_FETCH_TIMEOUT_SECONDS = 5.0
_MAX_KEY_SET_BYTES = 1024 * 1024
_MAX_TOKEN_CHARACTERS = 8192
_KEPT_TOKENS = 20_000
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
PLACE: Final = re.compile(r"[!-~]{1,64}", re.ASCII)
_TOKEN_ID = re.compile(r"[!-~]{1,128}", re.ASCII)

# What is wrong with a token, in words; the order of PyJWT's classes matters, the first that fits is told.
_PROBLEMS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (jwt.ExpiredSignatureError, "the token has expired; get a new one"),
    (jwt.ImmatureSignatureError, "the token is not valid yet; is the clock of who issued it right?"),
    (jwt.InvalidAudienceError, "the token is for another audience"),
    (jwt.InvalidIssuerError, "the token is from another issuer"),
    (jwt.MissingRequiredClaimError, f"the token lacks one of the claims {', '.join(REQUIRED_CLAIMS)}"),
    (jwt.InvalidSignatureError, "the signature of the token is wrong"),
    (jwt.InvalidTokenError, "the token cannot be read"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """Whose tokens are accepted, and for whom they must be. `key_set`: a path, or a URL of https (or http on loopback)
    that gives a JWKS; `revoked`: the file with the revoked ids, empty for none. `max_token_days`: how long a token may
    last from when it was issued; `max_key_hours`: how long keys of a URL hold that cannot be read again."""

    issuer: str
    audience: str
    key_set: str
    revoked: str = ""
    max_token_days: int = MAX_TOKEN_DAYS
    max_key_hours: int = MAX_KEY_HOURS

    def __post_init__(self) -> None:
        if not self.key_set_url:
            return
        url = urllib.parse.urlsplit(self.key_set_url)
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in _LOOPBACK):
            raise ConfigurationError(f"the keys of tokens come from a file or by https, not from {self.key_set}")

    @property
    def key_set_url(self) -> str:
        """The URL of the keys; empty where they come from a file."""
        return self.key_set if "://" in self.key_set else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verified:
    caller: Caller
    expires: float


class TokenVerifier:
    """Says who the bearer of a token is. `roles` are the scopes of each role, `now` is seconds since the epoch."""

    def __init__(self, rules: TokenRules, *, roles: Mapping[str, frozenset[str]], now: Callable[[], float]) -> None:
        self._rules = rules
        self._roles = roles
        self._now = now
        self._keys: dict[str, jwt.PyJWK] = {}
        self._revoked: frozenset[str] = frozenset()
        self._verified: dict[str, _Verified] = {}
        self._seen: dict[str, Stamp] = {}
        self._content = b""
        # A file that is there is looked at, however old it is.
        self._keys_last = rules.max_key_hours * 3600 if rules.key_set_url else math.inf
        self._keys_read = now()
        self._keys_outdated = False

    async def begin(self) -> None:
        """Reads keys and revocations for the first time; raises ConfigurationError where they cannot be had."""
        try:
            await self._look_for_keys()
            await self._look_for_revocations()
        except Exception as error:
            # What a file or a URL gives may be wrong in any way.
            raise ConfigurationError(
                f"keys or revocations of tokens cannot be read ({self._rules.key_set}, {self._rules.revoked}): {error}"
            ) from None
        if not self._keys:
            raise ConfigurationError(f"there is no key for EdDSA or ES256 in {self._rules.key_set}")

    async def keep_fresh(self) -> None:
        """Takes up changed keys and revocations, for ever and each for itself. What cannot be read changes nothing."""
        every = _FETCH_SECONDS if self._rules.key_set_url else _LOOK_SECONDS
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_keep_looking("keys", every, self._look_for_keys))
            tasks.create_task(_keep_looking("revocations", _LOOK_SECONDS, self._look_for_revocations))

    def verify(self, token: str) -> Caller:
        """The bearer of a token; raises TokenInvalidError with a sentence that says what is wrong with it, or
        TokenUncheckedError where the keys are too old to tell."""
        self._check_keys()
        verified = self._verified.get(token)
        if verified is None:
            verified = self._verify(token)
            if len(self._verified) >= _KEPT_TOKENS:
                self._verified.clear()
            self._verified[token] = verified
        if self._now() >= verified.expires:
            raise TokenInvalidError("the token has expired; get a new one")
        if verified.caller.token_id in self._revoked:
            raise TokenInvalidError("the token was revoked")
        return verified.caller

    def _check_keys(self) -> None:
        """Raises TokenUncheckedError where the keys were last read too long ago: one that got out may be gone since."""
        if self._now() - self._keys_read <= self._keys_last:
            return
        if not self._keys_outdated:
            self._keys_outdated = True
            log.error("token_keys_outdated", hours=self._rules.max_key_hours)
        raise TokenUncheckedError(TokenUncheckedError.__doc__)

    def _verify(self, token: str) -> _Verified:
        if len(token) > _MAX_TOKEN_CHARACTERS:
            raise TokenInvalidError(f"a token has at most {_MAX_TOKEN_CHARACTERS} characters")
        if not _SHAPE.fullmatch(token):
            raise TokenInvalidError("the token cannot be read")
        try:
            key_id = str(jwt.get_unverified_header(token).get("kid", ""))
            key = self._keys.get(key_id)
            if key is None:
                raise TokenInvalidError("the token is signed with a key that is not known here")
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._rules.audience,
                issuer=self._rules.issuer,
                leeway=SKEW_SECONDS,
                options={"require": list(REQUIRED_CLAIMS)},
            )
            expires = float(claims["exp"])
            if expires - float(claims["iat"]) > self._rules.max_token_days * 86400:
                raise TokenInvalidError(f"a token lasts for at most {self._rules.max_token_days} days; get another one")
        except (TypeError, ValueError, OverflowError):
            # Claims of another kind than they should be.
            raise TokenInvalidError("the token cannot be read") from None
        except jwt.PyJWTError as error:
            raise TokenInvalidError(next(words for kind, words in _PROBLEMS if isinstance(error, kind))) from None
        return _Verified(caller=self._caller(claims), expires=expires + SKEW_SECONDS)

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        """Who the claims name: `sub`; `roles` (a list) and `scope` (words) say what is allowed; `store` and `terminal`
        bind a till to its place; with `delegates` it may act for others."""
        principal = claims["sub"]
        if not isinstance(principal, str) or not PRINCIPAL.fullmatch(principal):
            raise TokenInvalidError("the subject of the token must be 1 to 64 small letters, digits or dashes")
        token_id = str(claims["jti"])
        if not _TOKEN_ID.fullmatch(token_id):
            raise TokenInvalidError("the id of the token must be 1 to 128 printable ASCII characters without spaces")
        scopes = frozenset(_words(claims.get("scope", "")))
        for role in _words(claims.get("roles", [])):
            scopes |= self._roles.get(role, frozenset())
        places = {name: claims[name] for name in ("store", "terminal") if name in claims}
        if any(not isinstance(place, str) or not PLACE.fullmatch(place) for place in places.values()) or (
            "terminal" in places and "store" not in places
        ):
            raise TokenInvalidError("store and terminal of the token must be 1 to 64 printable ASCII characters each")
        return Caller(
            principal=principal,
            scopes=scopes,
            token_id=token_id,
            store=places.get("store", ""),
            terminal=places.get("terminal", ""),
            delegates=claims.get("delegates") is True,
        )

    async def _look_for_keys(self) -> None:
        if self._rules.key_set_url:
            fetching = asyncio.to_thread(_get, self._rules.key_set_url)
            self._take_keys(await asyncio.wait_for(fetching, 2 * _FETCH_TIMEOUT_SECONDS))
        else:
            self._look_at(self._rules.key_set, self._take_keys)
        self._keys_read, self._keys_outdated = self._now(), False

    async def _look_for_revocations(self) -> None:
        if self._rules.revoked:
            self._look_at(self._rules.revoked, self._take_revocations)

    def _look_at(self, path: str, take: Callable[[bytes], None]) -> None:
        """Takes a file that has changed; one that cannot be read, or taken, is looked at again."""
        seen = stamp(Path(path))
        if self._seen.get(path) != seen:
            take(Path(path).read_bytes())
            self._seen[path] = seen

    def _take_revocations(self, content: bytes) -> None:
        self._revoked = frozenset(line.split()[0] for line in content.decode().splitlines() if line.strip())

    def _take_keys(self, content: bytes) -> None:
        """Takes a key set. Tokens are verified anew: a key may have gone, or another may have its id."""
        keys = read_key_set(content)
        if content != self._content:
            self._keys, self._content = keys, content
            self._verified.clear()


async def _keep_looking(what: str, seconds: float, look: Callable[[], Awaitable[None]]) -> None:
    failing = False
    while True:
        await asyncio.sleep(seconds)
        try:
            await look()
            failing = False
        except Exception as error:
            # What a file or a URL gives may be wrong in any way, and must not end the service.
            if not failing:
                log.error("token_keys_not_read", what=what, error=f"{type(error).__name__}: {error}")
            failing = True


def read_key_set(content: bytes) -> dict[str, jwt.PyJWK]:
    """The keys of a JWKS (RFC 7517) by their ids; raises ValueError or a jwt.PyJWTError where it is none.

    Keys of other kinds than EdDSA and ES256, for other uses, or without an id verify nothing and are passed over.
    """
    said = json.loads(content)
    if not isinstance(said, dict) or not isinstance(said.get("keys"), list):
        raise ValueError('a key set is a JSON object with a list "keys"')
    keys: dict[str, jwt.PyJWK] = {}
    for one in said["keys"]:
        if not isinstance(one, dict):
            raise ValueError("every key of the set is a JSON object")
        if "d" in one:
            raise ValueError(f"the key {one.get('kid')} is a private one, which nobody but its owner should have")
        algorithm = _ALGORITHMS.get((str(one.get("kty")), str(one.get("crv"))))
        if algorithm and one.get("kid") and one.get("use", "sig") == "sig":
            keys[str(one["kid"])] = jwt.PyJWK(one, algorithm)
    return keys


def _words(said: Any) -> list[str]:
    if isinstance(said, str):
        return said.split()
    if isinstance(said, list) and all(isinstance(word, str) for word in said):
        return said
    raise TokenInvalidError("scope is a text of words, and roles is a list of them")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Keys come from where the configuration says, and from nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        """Follows none."""


_OPENER = urllib.request.build_opener(_NoRedirects)


def _get(url: str) -> bytes:
    """What a URL gives, within a time and a size that bound the whole of it."""
    deadline = time.monotonic() + _FETCH_TIMEOUT_SECONDS
    content = b""
    with _OPENER.open(url, timeout=_FETCH_TIMEOUT_SECONDS) as response:
        while part := response.read1(65536):
            content += part
            if len(content) > _MAX_KEY_SET_BYTES or time.monotonic() > deadline:
                raise ValueError(f"the key set is larger than {_MAX_KEY_SET_BYTES} bytes, or takes too long to come")
    return content
