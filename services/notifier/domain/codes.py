"""Coupon codes: `GREEN-7K4M-9XTC-H3W6` is the campaign's prefix, eleven characters, and a check character.

A code is derived, not drawn: the same trigger gives the same code, and without the key none can be guessed (the
eleven characters are 53 bits). It finds its coupon by itself: they hold the coupon's partition, masked by what only
the key tells, so that the lookup is one indexed read in one partition and codes are unique without an index across
partitions (DESIGN §4, Citus).
"""

from __future__ import annotations

from typing import Final

from services.notifier.domain.coupons import digested
from services.notifier.domain.digests import keyed_digest
from services.notifier.errors import CouponUnknownError

# Of every pair that people mix up (0 O, 1 I, 2 Z, 5 S, 8 B) at most one is there. 29 is a prime: see `_check`.
ALPHABET: Final = "23456789ACDEFGHJKLMNPQRTUVWXY"
_VALUES: Final = {character: value for value, character in enumerate(ALPHABET)}
_MEANT: Final = str.maketrans("ZSB", "258")

PAYLOAD: Final = 11
_BODY: Final = PAYLOAD + 1
_GROUP: Final = 4
_SPACE: Final = len(ALPHABET) ** PAYLOAD
_MAX_PREFIX: Final = 8


class CouponCodes:
    """The codes of one installation: its key, and the number of its partitions."""

    def __init__(self, *, key: bytes, partitions: int) -> None:
        self._key = key
        self._partitions = partitions
        self._drawn = _SPACE // partitions

    def make(self, *, prefix: str, partition: int, campaign_id: str, member_id: str, trigger: str, variant: int) -> str:
        """The code for a trigger. `variant` is 0, or counts on where another coupon of the partition has the code."""
        digest = keyed_digest(self._key, "code", campaign_id, member_id, partition, digested(trigger), variant)
        drawn = int.from_bytes(digest[:16]) % self._drawn
        number = drawn * self._partitions + (partition + self._mask(drawn)) % self._partitions
        payload = ""
        for _ in range(PAYLOAD):
            number, value = divmod(number, len(ALPHABET))
            payload = ALPHABET[value] + payload
        return _printed(prefix, payload + check_character(payload))

    def read(self, text: str) -> tuple[int, str]:
        """The partition and the printed form of a code, however it was typed in: case, dashes and look-alikes.

        Raises CouponUnknownError for what cannot be a code.
        """
        compact = text.upper().replace("-", "")
        prefix, body = compact[:-_BODY], compact[-_BODY:].translate(_MEANT)
        if not 1 <= len(prefix) <= _MAX_PREFIX or not all(character in _VALUES for character in body):
            raise CouponUnknownError
        if check_character(body[:-1]) != body[-1]:
            raise CouponUnknownError("no coupon has this code; its check character says that it was mistyped")
        number = 0
        for character in body[:-1]:
            number = number * len(ALPHABET) + _VALUES[character]
        drawn, masked = divmod(number, self._partitions)
        return (masked - self._mask(drawn)) % self._partitions, _printed(prefix, body)

    def _mask(self, drawn: int) -> int:
        return int.from_bytes(keyed_digest(self._key, "mask", drawn)[:16]) % self._partitions


def check_character(payload: str) -> str:
    """The character that makes the weighted sum of all a multiple of 29.

    The weights are 1 to 12, all different and none a multiple of that prime: so one wrong character, or any two that
    changed places, always change the sum.
    """
    total = sum(weight * _VALUES[character] for weight, character in enumerate(payload, 1))
    prime = len(ALPHABET)
    return ALPHABET[-total * pow(len(payload) + 1, -1, prime) % prime]


def _printed(prefix: str, body: str) -> str:
    return "-".join([prefix, *(body[start : start + _GROUP] for start in range(0, _BODY, _GROUP))])
