"""What rewards and checkouts have the ledger book: the names that they go by there, and what stands for each in all."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Final

from services.notifier.domain.digests import keyed_digest

_NAME_BYTES: Final = 16
_REQUEST: Final = re.compile(r"((?:reward|checkout)-[0-9a-f]{32})-([a-z]+)")
_HOLD: Final = "hold"


def reward_name(key: bytes, partition: int, member_id: str, request_id: str) -> str:
    """What the ids of a reward's requests to the ledger begin with: the same at every try, and nobody else's."""
    return f"reward-{keyed_digest(key, 'reward', partition, member_id, request_id)[:_NAME_BYTES].hex()}"


def checkout_name(key: bytes, member_id: str, request_id: str) -> str:
    """The same of a checkout."""
    return f"checkout-{keyed_digest(key, 'sale', member_id, request_id)[:_NAME_BYTES].hex()}"


def name_in(request_id: str, *, hold: bool = False) -> str:
    """The name in the id of a request to the ledger; empty where it has none. `hold`: only in the id of a hold."""
    found = _REQUEST.fullmatch(request_id)
    return found[1] if found is not None and (not hold or found[2] == _HOLD) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """What stands at the ledger: points that are held, those redeemed less those that the notifier gave back, those
    given, and a purchase with what points paid of it. Amounts in minor units."""

    held: int = 0
    redeemed: int = 0
    given: int = 0
    purchase_id: str = ""
    currency: str = ""
    amount: int = 0
    points_paid: int = 0
    amount_paid: int = 0

    def __add__(self, other: Booking) -> Booking:
        return Booking(**{one.name: _sum(getattr(self, one.name), getattr(other, one.name)) for one in fields(self)})


def _sum(one: Any, other: Any) -> Any:
    # Two purchases where one is due are to be read as two.
    return one + other if isinstance(one, int) else ", ".join(filter(None, (one, other)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """An entry of the ledger that books something for the reward or the checkout of this name."""

    partition: int
    name: str
    member_id: str
    booking: Booking
