"""Messages to members: the contract's messages in and out."""

from __future__ import annotations

from loyalty.notifier.v1 import message_pb2, notifier_service_pb2

from services.notifier.domain.deliveries import Delivery, DeliveryState
from services.notifier.rpc.calls import Context, Methods, stamp
from services.runtime.causality import parse_token
from services.runtime.identity import current_caller
from services.runtime.interceptors import seconds_to_wait

_LIST_DELIVERIES = "/loyalty.notifier.v1.NotifierService/ListDeliveries"
_LIST_DEAD_LETTERS = "/loyalty.notifier.v1.NotifierService/ListDeadLetters"
_RETRY_DELIVERY = "/loyalty.notifier.v1.NotifierService/RetryDelivery"

_STATES = {
    DeliveryState.QUEUED: notifier_service_pb2.DELIVERY_STATE_QUEUED,
    DeliveryState.DELIVERED: notifier_service_pb2.DELIVERY_STATE_DELIVERED,
    DeliveryState.NO_CONTACT: notifier_service_pb2.DELIVERY_STATE_NO_CONTACT,
    DeliveryState.DEAD: notifier_service_pb2.DELIVERY_STATE_DEAD,
    DeliveryState.HELD: notifier_service_pb2.DELIVERY_STATE_HELD,
    DeliveryState.WITHHELD: notifier_service_pb2.DELIVERY_STATE_WITHHELD,
}
_WANTED_STATES = {number: state for state, number in _STATES.items()}


class MessageMethods(Methods):
    """What NotifierService does with messages."""

    async def ListDeliveries(  # the contract's name
        self, request: notifier_service_pb2.ListDeliveriesRequest, context: Context
    ) -> notifier_service_pb2.ListDeliveriesResponse:
        """Lists messages."""
        page = await self._do.messages.list_deliveries(
            member_id=request.member_id,
            state=_WANTED_STATES.get(request.state),
            page_size=request.page_size,
            page_token=request.page_token,
            after=parse_token(request.causal_token),
            wait_seconds=seconds_to_wait(context),
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

    async def ListDeadLetters(  # the contract's name
        self, request: notifier_service_pb2.ListDeadLettersRequest, context: Context
    ) -> notifier_service_pb2.ListDeadLettersResponse:
        """Lists messages that were given up."""
        page = await self._do.messages.list_deliveries(
            member_id="",
            state=DeliveryState.DEAD,
            page_size=request.page_size,
            page_token=request.page_token,
            after={},
            wait_seconds=0,
        )
        shown = {delivery.member_id for delivery in page.deliveries}
        await self._audit.read(current_caller.get(), _LIST_DEAD_LETTERS, shown)
        return notifier_service_pb2.ListDeadLettersResponse(
            deliveries=[_delivery(delivery) for delivery in page.deliveries],
            next_page_token=page.next_page_token,
            total_size=page.total_size,
        )

    async def RetryDelivery(  # the contract's name
        self, request: message_pb2.RetryDeliveryRequest, context: Context
    ) -> message_pb2.RetryDeliveryResponse:
        """Queues a message anew."""
        member_id, replayed = await self._do.messages.retry_delivery(
            request_id=request.request_id, delivery_id=request.delivery_id
        )
        await self._audit.acted(current_caller.get(), _RETRY_DELIVERY, {member_id})
        return message_pb2.RetryDeliveryResponse(replayed=replayed)


def _delivery(delivery: Delivery) -> notifier_service_pb2.Delivery:
    return notifier_service_pb2.Delivery(
        delivery_id=delivery.delivery_id,
        member_id=delivery.member_id,
        campaign_id=delivery.campaign_id,
        coupon_code=delivery.coupon_code,
        state=_STATES[delivery.state],
        attempts=delivery.attempts,
        created_time=stamp(delivery.created_time),
        delivered_time=stamp(delivery.delivered_time) if delivery.delivered_time else None,
        last_error=delivery.last_error,
        channel=delivery.channel,
        topic=delivery.topic,
        endpoint_id=delivery.endpoint_id,
        held_until_time=stamp(delivery.held_until) if delivery.held_until else None,
        next_attempt_time=stamp(delivery.next_attempt_time) if delivery.next_attempt_time else None,
    )
