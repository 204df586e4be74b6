"""What a coupon that is given by hand or by another system may be worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.notifier.domain.uses import Money
from services.programme.model import Programme, format_percent
from services.programme.rewards import Offer, OfferKind

# What is worth so much money, whatever it is used for.
_MONEY: Final = (OfferKind.DISCOUNT_AMOUNT, OfferKind.GIFT_CARD)
_MOST_USES_OF_MONEY: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`support` of a programme: what one coupon may be worth, all its uses together, in minor units (None: the
    programme does not say) and in basis points (0: likewise)."""

    amount: int | None = None
    percent_bp: int = 0

    @classmethod
    def of(cls, programme: Programme) -> Limits:
        """The limits of a programme."""
        return cls(amount=programme.coupon_amount, percent_bp=programme.coupon_percent_bp)


def beyond(
    limits: Limits, offer: Offer, uses: int, money: Money, *, member_id: str, pool: str, by_staff: bool
) -> tuple[str, str] | None:
    """What of a request for a coupon is beyond the limits: the field, and what is wrong with it; None where nothing is.

    What nobody has said that staff may give they may not, as with goodwill; a system of the shop may.
    """
    if by_staff:
        if not member_id:
            return "member_id", "is needed: staff give coupons to members"
        if pool:
            return "pool", "is not staff's to draw from: nothing says what its codes are worth elsewhere"
        return _beyond_staff(limits, offer, uses, money)
    if offer.kind not in _MONEY:
        return None
    if limits.amount is not None:
        return _beyond_amount(limits.amount, offer, uses, money)
    if uses <= _MOST_USES_OF_MONEY:
        return None
    return "uses", f"must be at most {_MOST_USES_OF_MONEY:,} where the programme has no support.coupon_amount"


def _beyond_staff(limits: Limits, offer: Offer, uses: int, money: Money) -> tuple[str, str] | None:
    if offer.kind is OfferKind.DISCOUNT_PERCENT:
        if not limits.percent_bp:
            return "offer.percent_basis_points", _left_out("support.coupon_percent")
        if (offer.percent_bp or 0) * uses <= limits.percent_bp:
            return None
        return "offer.percent_basis_points", _at_most(format_percent(limits.percent_bp), "support.coupon_percent")
    if offer.kind in _MONEY or (offer.kind is OfferKind.FREE_SHIPPING and offer.amount is not None):
        if limits.amount is None:
            return "offer.amount", _left_out("support.coupon_amount")
        return _beyond_amount(limits.amount, offer, uses, money)
    return "offer.kind", "is not staff's to give: nothing says what it is worth"


def _beyond_amount(most: int, offer: Offer, uses: int, money: Money) -> tuple[str, str] | None:
    if (offer.amount or 0) * uses <= most:
        return None
    return "offer.amount", _at_most(money(most), "support.coupon_amount")


def _left_out(field: str) -> str:
    return f"is not staff's to give: the programme leaves {field} out"


def _at_most(most: str, field: str) -> str:
    return f"must come to at most {most}, all uses together: {field}"
