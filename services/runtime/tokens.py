"""Bearer tokens: JSON Web Tokens (RFC 7519), signed with EdDSA or ES256, checked against a set of public keys.

Keys and revocations are read again when they change: a key set from a file or a URL, in which old and new keys stand
side by side while they change over, and a file with one revoked id a line. A token that was verified once is not
verified again before it expires; whether it was revoked is looked at each time.
"""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
import structlog

from services.runtime.config import ConfigurationError
from services.runtime.identity import PRINCIPAL, Caller, TokenInvalidError

log = structlog.get_logger()

# Whatever a key says it is good for, nothing else is accepted.
ALGORITHMS: Final = ("EdDSA", "ES256")
# How far the clocks of who issues and who checks may lie apart.
SKEW_SECONDS: Final = 30
REQUIRED_CLAIMS: Final = ("iss", "aud", "sub", "jti", "iat", "nbf", "exp")

_LOOK_SECONDS = 1.0
_FETCH_SECONDS = 60.0
_FETCH_TIMEOUT_SECONDS = 5.0
_MAX_KEY_SET_BYTES = 1024 * 1024
_MAX_TOKEN_CHARACTERS = 8192
_KEPT_TOKENS = 20_000
_URL = re.compile(r"https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/]")
_PLACE = re.compile(r"[!-~]{1,64}", re.ASCII)
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
    that gives a JWKS; `revoked`: the file with the revoked ids, empty for none."""

    issuer: str
    audience: str
    key_set: str
    revoked: str = ""

    def __post_init__(self) -> None:
        if "://" in self.key_set and not _URL.match(self.key_set):
            raise ConfigurationError(f"the keys of tokens come from a file or by https, not from {self.key_set}")

    @property
    def key_set_url(self) -> str:
        """The URL of the keys; empty where they come from a file."""
        return self.key_set if "://" in self.key_set else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verified:
    caller: Caller
    key_id: str
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
        self._seen: dict[str, tuple[int, int, int]] = {}

    async def begin(self) -> None:
        """Reads keys and revocations for the first time; raises ConfigurationError where they cannot be had."""
        try:
            if self._rules.key_set_url:
                await self._fetch()
            self._look()
        except (OSError, ValueError, jwt.PyJWTError) as error:
            raise ConfigurationError(f"the keys of tokens cannot be read from {self._rules.key_set}: {error}") from None

    async def keep_fresh(self) -> None:
        """Takes up changed keys and revocations, for ever. What cannot be read changes nothing."""
        loop = asyncio.get_running_loop()
        fetched = loop.time()
        failing = False
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                if self._rules.key_set_url and loop.time() - fetched >= _FETCH_SECONDS:
                    fetched = loop.time()
                    await self._fetch()
                self._look()
                failing = False
            except (OSError, ValueError, jwt.PyJWTError) as error:
                if not failing:
                    log.error("token_keys_not_read", error=f"{type(error).__name__}: {error}")
                failing = True

    def verify(self, token: str) -> Caller:
        """The bearer of a token; raises TokenInvalidError with a sentence that says what is wrong with it."""
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

    def _verify(self, token: str) -> _Verified:
        if len(token) > _MAX_TOKEN_CHARACTERS:
            raise TokenInvalidError(f"a token has at most {_MAX_TOKEN_CHARACTERS} characters")
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
        except jwt.PyJWTError as error:
            raise TokenInvalidError(next(words for kind, words in _PROBLEMS if isinstance(error, kind))) from None
        return _Verified(
            caller=self._caller(claims),
            key_id=key_id,
            expires=float(claims["exp"]) + SKEW_SECONDS,
        )

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
        store, terminal = (str(claims.get(name, "")) for name in ("store", "terminal"))
        if any(place and not _PLACE.fullmatch(place) for place in (store, terminal)) or (terminal and not store):
            raise TokenInvalidError("store and terminal of the token must be 1 to 64 printable ASCII characters each")
        return Caller(
            principal=principal,
            scopes=scopes,
            token_id=token_id,
            store=store,
            terminal=terminal,
            delegates=claims.get("delegates") is True,
        )

    async def _fetch(self) -> None:
        self._take(await asyncio.to_thread(_get, self._rules.key_set_url))

    def _look(self) -> None:
        """Reads what has changed of the files."""
        if not self._rules.key_set_url and self._changed(self._rules.key_set):
            self._take(Path(self._rules.key_set).read_bytes())
        if self._rules.revoked and self._changed(self._rules.revoked):
            try:
                text = Path(self._rules.revoked).read_text(encoding="utf-8")
            except FileNotFoundError:
                text = ""
            self._revoked = frozenset(line.split()[0] for line in text.splitlines() if line.strip())

    def _changed(self, path: str) -> bool:
        try:
            stat = Path(path).stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except FileNotFoundError:
            seen = (0, 0, 0)
        if self._seen.get(path) == seen:
            return False
        self._seen[path] = seen
        return True

    def _take(self, content: bytes) -> None:
        """Takes a key set; tokens of keys that are no longer in it are forgotten."""
        self._keys = read_key_set(content)
        self._verified = {token: one for token, one in self._verified.items() if one.key_id in self._keys}


def read_key_set(content: bytes) -> dict[str, jwt.PyJWK]:
    """The keys of a JWKS (RFC 7517) by their ids; raises ValueError or a jwt.PyJWTError where it is none.

    Keys of other kinds than EdDSA and ES256 verify nothing and are passed over.
    """
    said = json.loads(content)
    if not isinstance(said, dict) or not isinstance(said.get("keys"), list):
        raise ValueError('a key set is a JSON object with a list "keys"')
    keys: dict[str, jwt.PyJWK] = {}
    for one in said["keys"]:
        if not isinstance(one, dict) or not one.get("kid"):
            raise ValueError("every key of the set needs a kid")
        if (one.get("kty"), one.get("crv")) not in (("OKP", "Ed25519"), ("EC", "P-256")) or "d" in one:
            if "d" in one:
                raise ValueError(f"the key {one['kid']} is a private one, which nobody but its owner should have")
            continue
        keys[str(one["kid"])] = jwt.PyJWK(one)
    if not keys:
        raise ValueError("there is no key for EdDSA or ES256 in it")
    return keys


def _words(said: Any) -> list[str]:
    if isinstance(said, str):
        return said.split()
    if isinstance(said, list) and all(isinstance(word, str) for word in said):
        return said
    raise TokenInvalidError("scope is a text of words, and roles is a list of them")


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_FETCH_TIMEOUT_SECONDS) as response:  # noqa: S310  # see TokenRules
        content: bytes = response.read(_MAX_KEY_SET_BYTES + 1)
    if len(content) > _MAX_KEY_SET_BYTES:
        raise ValueError(f"the key set is larger than {_MAX_KEY_SET_BYTES} bytes")
    return content
