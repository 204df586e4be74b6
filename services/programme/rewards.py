"""What members are given: what an offer is worth, on what terms it can be used, and what it costs in points.

Pure: the standard library only. Money in minor units of the programme's currency, points whole, percentages in basis
points.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType

from services.programme.calendar import Window


class OfferKind(enum.StrEnum):
    """What is given."""

    DISCOUNT_PERCENT = "discount_percent"
    DISCOUNT_AMOUNT = "discount_amount"
    FREE_PRODUCT = "free_product"
    FREE_SHIPPING = "free_shipping"
    GIFT_CARD = "gift_card"
    UPGRADE = "upgrade"
    EARLY_ACCESS = "early_access"
    DIGITAL_CONTENT = "digital_content"
    EXPERIENCE = "experience"
    BONUS_POINTS = "bonus_points"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What is given; which of the fields is set follows from the kind."""

    kind: OfferKind
    percent_bp: int | None = None
    """DISCOUNT_PERCENT: off the price."""
    amount: int | None = None
    """DISCOUNT_AMOUNT and GIFT_CARD: its worth; FREE_SHIPPING: what it pays at most, None for all."""
    sku: str = ""
    """FREE_PRODUCT: the article."""
    points: int | None = None
    """BONUS_POINTS: so many."""
    detail: str = ""
    """The others: what is given, for whoever grants it (a link, a seat, the name of an event)."""


class Stacking(enum.StrEnum):
    """What else may be used in the same checkout (§12.12)."""

    EXCLUSIVE = "exclusive"
    """Nothing: neither the tier's discount nor another coupon."""
    WITH_TIER = "with_tier"
    """The tier's discount, and no other coupon."""
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms a coupon can be used. An empty set lets all through."""

    stacking: Stacking = Stacking.ANY
    minimum_minor_units: int = 0
    """What the goods it applies to must come to, before it."""
    skus: frozenset[str] = frozenset()
    departments: frozenset[str] = frozenset()
    """Only the goods of these articles or departments count, and are made cheaper."""
    stores: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    tiers: frozenset[str] = frozenset()
    """Keys of the levels whose members can use it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponAction:
    """A coupon to be given: what it is worth, on what terms, for how long, and how often it can be used."""

    offer: Offer
    valid: Window
    prefix: str = ""
    """How codes that are made begin: 1 to 8 of A-Z and 2-9. Empty where they come from a pool."""
    pool: str = ""
    """The pool of imported codes from which one is taken; empty: codes are made."""
    terms: Terms = Terms()
    uses: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardText:
    """What people read, in one language."""

    name: str
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """Something in the catalogue that is had for points, or for points and money."""

    id: str
    coupon: CouponAction
    """What is given for it; for BONUS_POINTS no coupon, but the points."""
    points: int
    """Its price."""
    money_minor_units: int = 0
    """What is paid beside the points."""
    stock: int | None = None
    """How many there are in all; None: no limit."""
    per_member: int | None = None
    tiers: frozenset[str] = frozenset()
    segments: frozenset[str] = frozenset()
    """Who may have it; empty: everybody."""
    from_day: date | None = None
    until_day: date | None = None
    """The local days on which it can be had, both included."""
    texts: Mapping[str, RewardText] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    """By language (`en`, `pl`); the first is the one to fall back to."""
