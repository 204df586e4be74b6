"""Keys and tokens of the tests: what an issuer would hand out, and what nobody should take."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

ISSUER: Final = "loyalty"
AUDIENCE: Final = "loyalty"


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """A private key with its id, and its public half as it stands in a key set."""

    key_id: str
    algorithm: str = "EdDSA"
    private: Any = field(default_factory=ed25519.Ed25519PrivateKey.generate)

    @classmethod
    def of_p256(cls, key_id: str) -> SigningKey:
        """A key for ES256."""
        return cls(key_id=key_id, algorithm="ES256", private=ec.generate_private_key(ec.SECP256R1()))

    @property
    def public(self) -> dict[str, str]:
        """The public key, a JWK."""
        to_jwk = OKPAlgorithm.to_jwk if self.algorithm == "EdDSA" else ECAlgorithm.to_jwk
        return json.loads(to_jwk(self.private.public_key())) | {"kid": self.key_id, "use": "sig"}

    def token(self, **changed: Any) -> str:
        """A token of a backend, good for an hour; a claim that is changed to None is left out."""
        return jwt.encode(claims(**changed), self.private, algorithm=self.algorithm, headers={"kid": self.key_id})


def claims(**changed: Any) -> dict[str, Any]:
    """The claims of a token that is good."""
    now = int(time.time())
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "shop",
        "jti": "id-1",
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "roles": ["backend"],
    }
    return {name: value for name, value in (good | changed).items() if value is not None}


def key_set(*keys: SigningKey) -> str:
    """A JWKS of public keys."""
    return json.dumps({"keys": [key.public for key in keys]})


def unsigned(key: SigningKey) -> str:
    """A token that asks to be believed without a signature."""
    return f"{_part({'alg': 'none', 'typ': 'JWT', 'kid': key.key_id})}.{_part(claims())}."


def signed_with_the_public_key(key: SigningKey) -> str:
    """A token whose HMAC was made with what everybody knows, for who lets the token choose the algorithm."""
    head = f"{_part({'alg': 'HS256', 'typ': 'JWT', 'kid': key.key_id})}.{_part(claims())}"
    secret = base64.urlsafe_b64decode(key.public["x"] + "==")
    return f"{head}.{_encoded(hmac.new(secret, head.encode(), hashlib.sha256).digest())}"


def with_another_signature(token: str) -> str:
    """A token whose claims say more than was signed."""
    head, body, signature = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return f"{head}.{_part(said | {'roles': ['ops', 'support']})}.{signature}"


def _part(said: dict[str, Any]) -> str:
    return _encoded(json.dumps(said).encode())


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
