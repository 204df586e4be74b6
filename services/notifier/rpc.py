"""The notifier's RPCs: messages in and out, and the table of its errors."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeAlias

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.notifier.v1 import coupon_pb2, coupon_pb2_grpc, notifier_service_pb2, notifier_service_pb2_grpc
from loyalty.type.v1 import money_pb2

from services.notifier import errors
from services.notifier.domain.campaigns import Coupon, CouponState
from services.notifier.domain.contacts import Contact
from services.notifier.domain.deliveries import Delivery, DeliveryState
from services.notifier.service import NotifierService
from services.runtime.audit import AuditTrail
from services.runtime.causality import parse_token
from services.runtime.identity import current_caller
from services.runtime.interceptors import DEFAULT_DEADLINE_SECONDS
from services.runtime.status import UNAVAILABLE, ErrorStatus, invalid

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# What is kept of a deadline for the answer to travel.
_DEADLINE_MARGIN_SECONDS = 0.3

_LIST_DELIVERIES = "/loyalty.notifier.v1.NotifierService/ListDeliveries"

_STATUSES: dict[type[errors.NotifierError], tuple[grpc.StatusCode, str]] = {
    errors.MemberUnknownError: (grpc.StatusCode.NOT_FOUND, "MEMBER_UNKNOWN"),
    errors.CouponUnknownError: (grpc.StatusCode.NOT_FOUND, "COUPON_UNKNOWN"),
    errors.RequestIdReusedError: (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
    errors.PageTokenError: (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"),
    errors.CausalTokenAheadError: (grpc.StatusCode.INVALID_ARGUMENT, "CAUSAL_TOKEN_INVALID"),
    errors.PeerError: (UNAVAILABLE.code, UNAVAILABLE.reason),
}

_STATES = {
    DeliveryState.QUEUED: notifier_service_pb2.DELIVERY_STATE_QUEUED,
    DeliveryState.DELIVERED: notifier_service_pb2.DELIVERY_STATE_DELIVERED,
    DeliveryState.NO_CONTACT: notifier_service_pb2.DELIVERY_STATE_NO_CONTACT,
    DeliveryState.DEAD: notifier_service_pb2.DELIVERY_STATE_DEAD,
}
_WANTED_STATES = {number: state for state, number in _STATES.items()}
_COUPON_STATES = {
    CouponState.ISSUED: coupon_pb2.COUPON_STATE_ISSUED,
    CouponState.EXPIRED: coupon_pb2.COUPON_STATE_EXPIRED,
    CouponState.VOID: coupon_pb2.COUPON_STATE_VOID,
}


def describe(error: BaseException) -> ErrorStatus | None:
    """The status of an error of the notifier; None for any other."""
    if isinstance(error, errors.ContactError):
        return invalid(((error.field, str(error)),))
    found = _STATUSES.get(type(error))  # type: ignore[arg-type]  # other types are just not there
    return None if found is None else ErrorStatus(code=found[0], reason=found[1], message=str(error))


class NotifierServicer(notifier_service_pb2_grpc.NotifierServiceServicer):
    """loyalty.notifier.v1.NotifierService."""

    def __init__(self, service: NotifierService, audit: AuditTrail) -> None:
        self._service = service
        self._audit = audit

    async def SetContact(  # the contract's name
        self, request: notifier_service_pb2.SetContactRequest, context: Context
    ) -> notifier_service_pb2.SetContactResponse:
        """Sets a member's contact."""
        replayed = await self._service.set_contact(
            request_id=request.request_id,
            member_id=request.member_id,
            contact=Contact(name=request.contact.name, email=request.contact.email),
        )
        return notifier_service_pb2.SetContactResponse(replayed=replayed)

    async def ListDeliveries(  # the contract's name
        self, request: notifier_service_pb2.ListDeliveriesRequest, context: Context
    ) -> notifier_service_pb2.ListDeliveriesResponse:
        """Lists messages."""
        remaining = context.time_remaining() or DEFAULT_DEADLINE_SECONDS
        page = await self._service.list_deliveries(
            member_id=request.member_id,
            state=_WANTED_STATES.get(request.state),
            page_size=request.page_size,
            page_token=request.page_token,
            after=parse_token(request.causal_token),
            wait_seconds=max(0.0, remaining - _DEADLINE_MARGIN_SECONDS),
        )
        shown = {delivery.member_id for delivery in page.deliveries}
        # A filter that finds nothing tells something of the member, too.
        about = shown | {request.member_id} if request.member_id else shown
        await self._audit.read(current_caller.get(), _LIST_DELIVERIES, about)
        return notifier_service_pb2.ListDeliveriesResponse(
            deliveries=[_delivery(delivery) for delivery in page.deliveries],
            next_page_token=page.next_page_token,
            total_size=page.total_size,
        )


class RewardServicer(coupon_pb2_grpc.RewardServiceServicer):
    """loyalty.notifier.v1.RewardService."""

    def __init__(self, service: NotifierService, currency: str) -> None:
        self._service = service
        self._currency = currency

    async def GetCoupon(  # the contract's name
        self, request: coupon_pb2.GetCouponRequest, context: Context
    ) -> coupon_pb2.GetCouponResponse:
        """Reads a coupon by its code."""
        coupon, state = await self._service.get_coupon(request.code)
        return coupon_pb2.GetCouponResponse(coupon=_coupon(coupon, state, self._currency))


def register(server: grpc.aio.Server, service: NotifierService, *, audit: AuditTrail, currency: str) -> None:
    """Adds both services to a server."""
    notifier_service_pb2_grpc.add_NotifierServiceServicer_to_server(NotifierServicer(service, audit), server)
    coupon_pb2_grpc.add_RewardServiceServicer_to_server(RewardServicer(service, currency), server)


def _delivery(delivery: Delivery) -> notifier_service_pb2.Delivery:
    return notifier_service_pb2.Delivery(
        delivery_id=delivery.delivery_id,
        member_id=delivery.member_id,
        campaign_id=delivery.campaign_id,
        coupon_code=delivery.coupon_code,
        state=_STATES[delivery.state],
        attempts=delivery.attempts,
        created_time=_stamp(delivery.created_time),
        delivered_time=_stamp(delivery.delivered_time) if delivery.delivered_time else None,
        last_error=delivery.last_error,
    )


def _coupon(coupon: Coupon, state: CouponState, currency: str) -> coupon_pb2.Coupon:
    message = coupon_pb2.Coupon(
        code=coupon.code,
        member_id=coupon.member_id,
        campaign_id=coupon.campaign_id,
        state=_COUPON_STATES[state],
        issued_time=_stamp(coupon.issued_time),
        valid_until_time=_stamp(coupon.valid_until_time),
        voided_time=_stamp(coupon.voided_time) if coupon.voided_time else None,
    )
    if coupon.discount_bp is not None:
        message.discount_basis_points = coupon.discount_bp
    else:
        money = money_pb2.Money(currency_code=currency, minor_units=coupon.discount_minor_units or 0)
        message.discount_amount.CopyFrom(money)
    return message


def _stamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
