"""Channels to other services: identity, retries of what is safe to repeat, limits."""

from __future__ import annotations

import json
from typing import Any

import grpc

from services.runtime.identity import AUTHORIZATION, bearer

MAX_MESSAGE_BYTES = 16 * 1024 * 1024

# Every write carries a request id, so every call may be sent again while the service cannot be reached.
_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)

OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


def open_channel(address: str, *, principal: str, secret: str) -> grpc.aio.Channel:
    """A channel whose every call carries the principal's token. Callers give each call its `timeout`."""
    identity = bearer(principal, secret)
    return grpc.aio.insecure_channel(
        address,
        options=OPTIONS,
        interceptors=[_UnaryIdentity(identity), _StreamIdentity(identity), _DuplexIdentity(identity)],
    )


class _UnaryIdentity(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, authorization: str) -> None:
        self._authorization = authorization

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_signed(client_call_details, self._authorization), request)


class _StreamIdentity(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, authorization: str) -> None:
        self._authorization = authorization

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_signed(client_call_details, self._authorization), request)


class _DuplexIdentity(grpc.aio.StreamStreamClientInterceptor):
    def __init__(self, authorization: str) -> None:
        self._authorization = authorization

    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(_signed(client_call_details, self._authorization), request_iterator)


def _signed(details: Any, authorization: str) -> grpc.aio.ClientCallDetails:
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    metadata.add(AUTHORIZATION, authorization)
    return grpc.aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )
