"""The notifier's RPCs: messages in and out, and the table of its errors."""

from __future__ import annotations

import grpc
from loyalty.notifier.v1 import checkout_service_pb2_grpc, coupon_pb2_grpc, notifier_service_pb2_grpc

from services.notifier.rpc.campaigns import CampaignMethods
from services.notifier.rpc.checkout import CheckoutServicer
from services.notifier.rpc.contacts import ContactMethods
from services.notifier.rpc.messages import MessageMethods
from services.notifier.rpc.preferences import PreferenceMethods
from services.notifier.rpc.privacy import PrivacyMethods
from services.notifier.rpc.rewards import RewardServicer
from services.notifier.rpc.statuses import describe
from services.notifier.rpc.surveys import SurveyMethods
from services.notifier.rpc.webhooks import WebhookMethods
from services.notifier.service import UseCases
from services.runtime.audit import AuditTrail

__all__ = ["describe", "register"]


class NotifierServicer(
    CampaignMethods,
    ContactMethods,
    MessageMethods,
    PrivacyMethods,
    PreferenceMethods,
    SurveyMethods,
    WebhookMethods,
    notifier_service_pb2_grpc.NotifierServiceServicer,
):
    """loyalty.notifier.v1.NotifierService."""


def register(server: grpc.aio.Server, do: UseCases, *, audit: AuditTrail, currency: str) -> None:
    """Adds all services to a server."""
    notifier = NotifierServicer(do, audit=audit, currency=currency)
    notifier_service_pb2_grpc.add_NotifierServiceServicer_to_server(notifier, server)
    rewards = RewardServicer(do, audit=audit, currency=currency)
    coupon_pb2_grpc.add_RewardServiceServicer_to_server(rewards, server)
    checkouts = CheckoutServicer(do, audit=audit, currency=currency)
    checkout_service_pb2_grpc.add_CheckoutServiceServicer_to_server(checkouts, server)
