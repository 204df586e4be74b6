"""What callers ask of the notifier: one class of use cases for each noun."""

from __future__ import annotations

from dataclasses import dataclass

from services.notifier.service.campaigns import CampaignService
from services.notifier.service.checkout import CheckoutService
from services.notifier.service.contacts import ContactService
from services.notifier.service.coupons import CouponService
from services.notifier.service.members import MemberService
from services.notifier.service.messages import DeliveryPage, MessageService
from services.notifier.service.preferences import PreferenceService
from services.notifier.service.privacy import PrivacyService
from services.notifier.service.rewards import RewardService
from services.notifier.service.sales import Sales
from services.notifier.service.surveys import SurveyService
from services.notifier.service.webhooks import WebhookService
from services.runtime.guesses import Guesses

__all__ = [
    "CheckoutService",
    "ContactService",
    "CouponService",
    "DeliveryPage",
    "MemberService",
    "MessageService",
    "PreferenceService",
    "PrivacyService",
    "RewardService",
    "Sales",
    "SurveyService",
    "UseCases",
    "WebhookService",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCases:
    """All that the RPCs can do."""

    campaigns: CampaignService
    surveys: SurveyService
    contacts: ContactService
    members: MemberService
    messages: MessageService
    preferences: PreferenceService
    webhooks: WebhookService
    privacy: PrivacyService
    coupons: CouponService
    rewards: RewardService
    wrong_codes: Guesses
    checkouts: CheckoutService
