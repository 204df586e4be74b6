"""Webhook endpoints: the contract's messages in and out."""

from __future__ import annotations

from loyalty.notifier.v1 import message_pb2

from services.notifier.domain.webhooks import Endpoint
from services.notifier.rpc.calls import Context, Methods, stamp
from services.runtime.identity import current_caller


class WebhookMethods(Methods):
    """What NotifierService does with endpoints."""

    async def CreateWebhookEndpoint(  # the contract's name
        self, request: message_pb2.CreateWebhookEndpointRequest, context: Context
    ) -> message_pb2.CreateWebhookEndpointResponse:
        """Makes an endpoint."""
        endpoint, secret, replayed = await self._do.webhooks.create(
            request_id=request.request_id,
            principal=current_caller.get().principal,
            url=request.url,
            description=request.description,
            event_types=request.event_types,
            fields=request.fields,
        )
        return message_pb2.CreateWebhookEndpointResponse(endpoint=_endpoint(endpoint), secret=secret, replayed=replayed)

    async def ListWebhookEndpoints(  # the contract's name
        self, request: message_pb2.ListWebhookEndpointsRequest, context: Context
    ) -> message_pb2.ListWebhookEndpointsResponse:
        """Lists them all."""
        endpoints = [_endpoint(endpoint) for endpoint in await self._do.webhooks.list()]
        return message_pb2.ListWebhookEndpointsResponse(endpoints=endpoints)

    async def DeleteWebhookEndpoint(  # the contract's name
        self, request: message_pb2.DeleteWebhookEndpointRequest, context: Context
    ) -> message_pb2.DeleteWebhookEndpointResponse:
        """Deletes an endpoint."""
        await self._do.webhooks.delete(request.endpoint_id)
        return message_pb2.DeleteWebhookEndpointResponse()


def _endpoint(endpoint: Endpoint) -> message_pb2.WebhookEndpoint:
    return message_pb2.WebhookEndpoint(
        endpoint_id=endpoint.endpoint_id,
        url=endpoint.url,
        description=endpoint.description,
        event_types=sorted(endpoint.event_types),
        fields=sorted(endpoint.fields),
        created_time=stamp(endpoint.created_time),
        failing_since_time=stamp(endpoint.failing_since) if endpoint.failing_since else None,
        disabled_time=stamp(endpoint.disabled_time) if endpoint.disabled_time else None,
        disabled_reason=endpoint.disabled_reason,
    )
