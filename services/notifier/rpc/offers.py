"""Offers and terms as the contract writes them."""

from __future__ import annotations

from loyalty.notifier.v1 import reward_pb2
from loyalty.type.v1 import money_pb2

from services.notifier.errors import FieldError
from services.programme.rewards import Offer, OfferKind, Stacking, Terms

_KINDS = {
    OfferKind.DISCOUNT_PERCENT: reward_pb2.OFFER_KIND_DISCOUNT_PERCENT,
    OfferKind.DISCOUNT_AMOUNT: reward_pb2.OFFER_KIND_DISCOUNT_AMOUNT,
    OfferKind.FREE_PRODUCT: reward_pb2.OFFER_KIND_FREE_PRODUCT,
    OfferKind.FREE_SHIPPING: reward_pb2.OFFER_KIND_FREE_SHIPPING,
    OfferKind.GIFT_CARD: reward_pb2.OFFER_KIND_GIFT_CARD,
    OfferKind.UPGRADE: reward_pb2.OFFER_KIND_UPGRADE,
    OfferKind.EARLY_ACCESS: reward_pb2.OFFER_KIND_EARLY_ACCESS,
    OfferKind.DIGITAL_CONTENT: reward_pb2.OFFER_KIND_DIGITAL_CONTENT,
    OfferKind.EXPERIENCE: reward_pb2.OFFER_KIND_EXPERIENCE,
    OfferKind.BONUS_POINTS: reward_pb2.OFFER_KIND_BONUS_POINTS,
}
_MEANT = {number: kind for kind, number in _KINDS.items()}
_STACKINGS = {
    Stacking.EXCLUSIVE: reward_pb2.COUPON_STACKING_EXCLUSIVE,
    Stacking.WITH_TIER: reward_pb2.COUPON_STACKING_WITH_TIER,
    Stacking.ANY: reward_pb2.COUPON_STACKING_ANY,
}
_MEANT_STACKINGS = {number: stacking for stacking, number in _STACKINGS.items()}
# Which field an offer of a kind has; of the others, free shipping may have an amount, and the rest a detail.
_FIELD = {
    OfferKind.DISCOUNT_PERCENT: "percent_basis_points",
    OfferKind.DISCOUNT_AMOUNT: "amount",
    OfferKind.GIFT_CARD: "amount",
    OfferKind.FREE_PRODUCT: "sku",
    OfferKind.FREE_SHIPPING: "amount",
    OfferKind.BONUS_POINTS: "points",
}
_MAY_BE_EMPTY = frozenset({OfferKind.FREE_SHIPPING})
_FIELDS = ("percent_basis_points", "amount", "sku", "points", "detail")


def offer_message(offer: Offer, currency: str) -> reward_pb2.Offer:
    """An offer of the contract."""
    return reward_pb2.Offer(
        kind=_KINDS[offer.kind],
        percent_basis_points=offer.percent_bp or 0,
        amount=None if offer.amount is None else money(offer.amount, currency),
        sku=offer.sku,
        points=offer.points or 0,
        detail=offer.detail,
    )


def terms_message(terms: Terms, currency: str) -> reward_pb2.Terms:
    """Terms of the contract."""
    return reward_pb2.Terms(
        stacking=_STACKINGS[terms.stacking],
        minimum=money(terms.minimum_minor_units, currency) if terms.minimum_minor_units else None,
        skus=sorted(terms.skus),
        departments=sorted(terms.departments),
        store_ids=sorted(terms.stores),
        channels=sorted(terms.channels),
        tiers=sorted(terms.tiers),
    )


def offer_of(message: reward_pb2.Offer, currency: str) -> Offer:
    """What a request offers: with the field of its kind, and no other. Raises FieldError."""
    kind = _MEANT[message.kind]
    field = _FIELD.get(kind, "detail")
    for name in _FIELDS:
        there = message.HasField("amount") if name == "amount" else bool(getattr(message, name))
        if name != field and there:
            raise FieldError(f"offer.{name}", "has no meaning for this kind of offer")
        if name == field and not there and kind not in _MAY_BE_EMPTY:
            raise FieldError(f"offer.{name}", "is what this kind of offer needs")
    return Offer(
        kind=kind,
        percent_bp=message.percent_basis_points or None,
        amount=amount_of(message.amount, currency, "offer.amount", least=1) if message.HasField("amount") else None,
        sku=message.sku,
        points=message.points or None,
        detail=message.detail,
    )


def terms_of(message: reward_pb2.Terms, currency: str) -> Terms:
    """The terms of a request. Raises FieldError."""
    minimum = amount_of(message.minimum, currency, "terms.minimum") if message.HasField("minimum") else 0
    return Terms(
        stacking=_MEANT_STACKINGS.get(message.stacking, Stacking.ANY),
        minimum_minor_units=minimum,
        skus=frozenset(message.skus),
        departments=frozenset(message.departments),
        stores=frozenset(message.store_ids),
        channels=frozenset(message.channels),
        tiers=frozenset(message.tiers),
    )


def money(minor_units: int, currency: str) -> money_pb2.Money:
    """Money of the contract."""
    return money_pb2.Money(currency_code=currency, minor_units=minor_units)


def amount_of(message: money_pb2.Money, currency: str, field: str, *, least: int = 0) -> int:
    """Minor units of the programme's currency. Raises FieldError for another one, or less than `least`."""
    if message.currency_code != currency:
        raise FieldError(f"{field}.currency_code", f"must be {currency}")
    if message.minor_units < least:
        raise FieldError(f"{field}.minor_units", f"must be at least {least}")
    return message.minor_units
