"""What callers ask of the notifier: one class of use cases for each noun."""

from __future__ import annotations

from dataclasses import dataclass

from services.notifier.service.contacts import ContactService
from services.notifier.service.coupons import CouponService
from services.notifier.service.messages import DeliveryPage, MessageService

__all__ = ["ContactService", "CouponService", "DeliveryPage", "MessageService", "UseCases"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """All that the RPCs can do."""

    contacts: ContactService
    messages: MessageService
    coupons: CouponService
