"""Webhook endpoints: the contract's messages in and out."""

from __future__ import annotations

from loyalty.notifier.v1 import message_pb2

from services.notifier.domain.webhooks import Endpoint
from services.notifier.rpc.calls import Context, Methods, stamp
from services.runtime.identity import current_caller

_SERVICE = "/loyalty.notifier.v1.NotifierService"


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
        await self._audit.acted(current_caller.get(), f"{_SERVICE}/CreateWebhookEndpoint", ())
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
        await self._audit.acted(current_caller.get(), f"{_SERVICE}/DeleteWebhookEndpoint", ())
        return message_pb2.DeleteWebhookEndpointResponse()

    async def EnableWebhookEndpoint(  # the contract's name
        self, request: message_pb2.EnableWebhookEndpointRequest, context: Context
    ) -> message_pb2.EnableWebhookEndpointResponse:
        """Sends events to an endpoint again."""
        endpoint, replayed = await self._do.webhooks.enable(
            request_id=request.request_id,
            principal=current_caller.get().principal,
            endpoint_id=request.endpoint_id,
        )
        await self._audit.acted(current_caller.get(), f"{_SERVICE}/EnableWebhookEndpoint", ())
        return message_pb2.EnableWebhookEndpointResponse(endpoint=_endpoint(endpoint), replayed=replayed)

    async def RotateWebhookEndpointSecret(  # the contract's name
        self, request: message_pb2.RotateWebhookEndpointSecretRequest, context: Context
    ) -> message_pb2.RotateWebhookEndpointSecretResponse:
        """Gives an endpoint another secret."""
        endpoint, secret, replayed = await self._do.webhooks.rotate_secret(
            request_id=request.request_id,
            principal=current_caller.get().principal,
            endpoint_id=request.endpoint_id,
        )
        await self._audit.acted(current_caller.get(), f"{_SERVICE}/RotateWebhookEndpointSecret", ())
        return message_pb2.RotateWebhookEndpointSecretResponse(
            endpoint=_endpoint(endpoint), secret=secret, replayed=replayed
        )


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
        previous_secret_until_time=stamp(endpoint.previous_until) if endpoint.previous_until else None,
    )
