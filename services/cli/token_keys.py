"""The keys that sign an installation's tokens, the tokens, and which of them were revoked.

DIR/secrets/token-keys/KID.pem   the private key (Ed25519) that signs
DIR/secrets/token-keys/KID.json  the public half of a retired one, and since when it signs no more (`retired`, seconds
                                 since the epoch)
DIR/secrets/token-keys/lock      held by whoever changes any of this
DIR/secrets/token-keys.json      the public halves of all of them, a JWKS: what services and gateway accept
DIR/secrets/revoked-tokens       one revoked id a line
DIR/secrets/first-token          a token to begin with, renewed by `loyalty up`

A retired key's private half is gone at once; its public half is accepted until the longest token that it can have
signed has expired, so that tokens that were handed out live on.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from services.cli.errors import CommandError, UsageError
from services.cli.postgres import make_private, waiting_for, write_changed_secret, write_secret
from services.gateway import render
from services.runtime import contract
from services.runtime.identity import PRINCIPAL
from services.runtime.tokens import MAX_TOKEN_DAYS, PLACE

ISSUER: Final = "loyalty"
AUDIENCE: Final = "loyalty"
# Whoever sets an installation up may try everything with this one.
FIRST_ROLES: Final = ("backend", "support", "ops")
FIRST_PRINCIPAL: Final = "first"

_FIRST_TTL = timedelta(days=30)
_RENEWED_BEFORE = timedelta(days=1)
# Services take none that lasts longer.
_LONGEST_TTL = timedelta(days=MAX_TOKEN_DAYS)
_TTL = re.compile(r"([1-9][0-9]{0,5})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_TOKEN_ID = re.compile(r"[0-9a-zA-Z_-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A token that was issued, and its id: what `revoke` takes."""

    token: str
    token_id: str
    expires: datetime


class TokenKeys:
    """Keys and tokens below an installation's folder of secrets; `run` is where the gateway's part is kept."""

    def __init__(self, folder: Path, *, run: Path) -> None:
        self._folder = folder
        self._private = folder / "token-keys"
        self._run = run

    @property
    def key_set_file(self) -> Path:
        """The public keys, a JWKS."""
        return self._folder / "token-keys.json"

    @property
    def revoked_file(self) -> Path:
        """The ids of revoked tokens."""
        return self._folder / "revoked-tokens"

    @property
    def first_token_file(self) -> Path:
        """The token to begin with."""
        return self._folder / "first-token"

    @property
    def gateway_file(self) -> Path:
        """What the gateway reads of the keys, and reads again when it changes."""
        return self._run / "token-filter.json"

    def ready(self) -> None:
        """Makes what is missing: a key, the key set, a first token that lasts, the gateway's part; forgets retired
        keys whose tokens have all expired."""
        make_private(self._private)
        with self.locked():
            self._ready()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Waits until nobody else changes keys and revocations, and keeps them as they are. Not to be held twice."""
        with waiting_for(self._private / "lock"):
            yield

    def issue(
        self,
        *,
        principal: str,
        roles: Collection[str],
        ttl: timedelta,
        store: str = "",
        terminal: str = "",
        delegates: bool = False,
    ) -> Issued:
        """A token of some roles of the contract, for so long; raises UsageError where one cannot be made so."""
        known = contract.roles()
        if strange := sorted(set(roles) - known.keys()):
            raise UsageError(f"there is no role {strange[0]}; choose from {', '.join(known)}")
        if not PRINCIPAL.fullmatch(principal):
            raise UsageError(f"{principal!r} is no name of a principal: 1 to 64 small letters, digits or dashes")
        if principal in contract.SERVICES:
            raise UsageError(f"{principal} is a service of the platform; give the bearer another name")
        if terminal and not store:
            raise UsageError("a terminal stands in a store: name it, too")
        if strange := [place for place in (store, terminal) if place and not PLACE.fullmatch(place)]:
            raise UsageError(f"{strange[0]!r} is no store or terminal: 1 to 64 printable ASCII characters, no spaces")
        if not timedelta() < ttl <= _LONGEST_TTL:
            raise UsageError(f"a token lasts for at most {_LONGEST_TTL.days} days")
        claims: dict[str, Any] = {"sub": principal, "roles": sorted(roles)}
        claims |= {name: place for name, place in (("store", store), ("terminal", terminal)) if place}
        if delegates:
            claims["delegates"] = True
        with self.locked():
            return self._sign(claims, ttl)

    def first_token(self) -> str:
        """The token to begin with."""
        return self.first_token_file.read_text(encoding="utf-8").strip()

    def first_token_id(self) -> str:
        """The id of the token to begin with: what `revoke` takes."""
        return str(jwt.decode(self.first_token(), options={"verify_signature": False})["jti"])

    def revoke(self, token_id: str) -> bool:
        """Revokes a token by its id, in effect within seconds; False where it was revoked before. The first token is
        made anew where it is the one."""
        if not _TOKEN_ID.fullmatch(token_id):
            raise UsageError(f"{token_id!r} is no id of a token; `loyalty token` tells it beside the token")
        with self.locked():
            self._ready()
            revoked = self._revoked()
            if token_id in revoked:
                return False
            write_secret(self.revoked_file, "\n".join([*revoked, token_id]))
            self._ready()
        return True

    def rotate(self, *, drop_old: bool) -> str:
        """Makes a key that signs from now on, and says its id; the private halves of older ones are gone. What those
        have signed is accepted on, or they are dropped: then it is worth nothing any more, and the first token is made
        anew."""
        with self.locked():
            made = self._make_key()
            if drop_old:
                for path in [*self._key_files()[:-1], *self._retired()]:
                    path.unlink()
            self._ready()
        return made

    def _ready(self) -> None:
        if not self._key_files():
            self._make_key()
        self._retire()
        self._publish()
        if not self.revoked_file.exists():
            # A service that is told of the file wants it there: a file that is gone would let the revoked in again.
            write_secret(self.revoked_file, "")
        if not self._first_token_lasts():
            claims = {"sub": FIRST_PRINCIPAL, "roles": sorted(FIRST_ROLES), "delegates": True}
            write_secret(self.first_token_file, self._sign(claims, _FIRST_TTL).token)

    def _sign(self, claims: dict[str, Any], ttl: timedelta) -> Issued:
        key_file = self._key_files()[-1]
        now = int(time.time())
        expires = now + int(ttl.total_seconds())
        # Hexadecimal: a command line takes what begins with a dash for an option.
        token_id = secrets.token_hex(12)
        claims = claims | {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "jti": token_id,
            "iat": now,
            "nbf": now,
            "exp": expires,
        }
        token = jwt.encode(claims, _read_key(key_file), algorithm="EdDSA", headers={"kid": key_file.stem})
        return Issued(token=token, token_id=token_id, expires=datetime.fromtimestamp(expires, UTC))

    def _make_key(self) -> str:
        last = max([int(key_id.partition("-")[0]) for key_id in self._accepted()], default=0)
        key_id = f"{last + 1:04}-{secrets.token_hex(3)}"
        private = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_secret(self._private / f"{key_id}.pem", private.decode().strip())
        return key_id

    def _retire(self) -> None:
        """Keeps of all keys but the newest the public halves alone, and forgets those whose tokens have all expired."""
        now = int(time.time())
        for path in self._key_files()[:-1]:
            retired = path.with_suffix(".json")
            # There already where the removal was interrupted.
            if not retired.exists():
                write_secret(retired, json.dumps({"retired": now, "key": _public(path)}, indent=2))
            path.unlink()
        for path, (since, _) in self._retired().items():
            if now > since + _LONGEST_TTL.total_seconds():
                path.unlink()

    def _publish(self) -> None:
        """Writes the public keys for the services, and for the gateway if it has a place for them."""
        key_set = json.dumps({"keys": list(self._accepted().values())}, indent=2)
        write_changed_secret(self.key_set_file, key_set)
        if self._run.is_dir():
            write_changed_secret(self.gateway_file, render.token_filter(key_set, issuer=ISSUER, audience=AUDIENCE))

    def _key_files(self) -> list[Path]:
        """The private keys, oldest first."""
        return sorted(self._private.glob("*.pem"))

    def _retired(self) -> dict[Path, tuple[int, dict[str, str]]]:
        """Since when the retired keys sign no more, and their public halves; by their files, oldest first."""
        found = {}
        for path in sorted(self._private.glob("*.json")):
            try:
                said = json.loads(path.read_text(encoding="utf-8"))
                found[path] = int(said["retired"]), dict(said["key"])
            except (ValueError, KeyError, TypeError):
                raise CommandError(
                    f"the retired key {path} is damaged; restore it from a backup, or remove it: then what it has "
                    "signed is worth nothing"
                ) from None
        return found

    def _accepted(self) -> dict[str, dict[str, str]]:
        """The public halves of all keys, by their ids, oldest first."""
        keys = {path.stem: key for path, (_, key) in self._retired().items()}
        return keys | {path.stem: _public(path) for path in self._key_files()}

    def _revoked(self) -> list[str]:
        return self.revoked_file.read_text(encoding="utf-8").split()

    def _first_token_lasts(self) -> bool:
        try:
            token = self.first_token()
            kept = jwt.get_unverified_header(token)["kid"] in self._accepted()
            claims = jwt.decode(token, options={"verify_signature": False})
            in_time = claims["exp"] > time.time() + _RENEWED_BEFORE.total_seconds()
            return kept and in_time and claims["jti"] not in self._revoked()
        except (FileNotFoundError, jwt.PyJWTError, KeyError):
            return False


def read_ttl(text: str) -> timedelta:
    """How long a token lasts: `8h`, `30m`, `90d`; raises UsageError."""
    found = _TTL.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is no time for a token to last; write 45m, 8h or 90d")
    return timedelta(**{_UNITS[found.group(2)]: int(found.group(1))})


def _public(path: Path) -> dict[str, str]:
    """The public half of a private key, as a JWK."""
    public: dict[str, str] = json.loads(OKPAlgorithm.to_jwk(_read_key(path).public_key()))
    return public | {"kid": path.stem, "use": "sig", "alg": "EdDSA"}


def _read_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise CommandError(f"the key {path} cannot be read: {error}; restore it from a backup") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise CommandError(f"{path} is no Ed25519 key; restore it from a backup")
    return key
