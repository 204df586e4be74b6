"""Channels to services: identity, retries of what is safe to repeat, limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import grpc

from services.runtime.config import ConfigurationError
from services.runtime.identity import AUTHORIZATION, bearer
from services.runtime.inlet import broken_off
from services.runtime.tls import Certificates, RenewedChannel

MAX_MESSAGE_BYTES = 16 * 1024 * 1024

# Asked before each call for the value of its authorization header.
Authorization: TypeAlias = Callable[[], str]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """How a service makes itself known to others: by its certificate, or, over unix sockets, by the shared secret."""

    principal: str
    certificates: Certificates | None
    secret: str = ""

    def open(self, address: str, *, server: str) -> grpc.aio.Channel:
        """A channel to a service of this name."""
        if self.certificates is None:
            if not address.startswith("unix:"):
                raise ConfigurationError(
                    f"without certificates services call each other by unix sockets, not {address}"
                )
            return open_channel(address, principal=self.principal, secret=self.secret)
        return open_secure_channel(address, server=server, certificates=self.certificates)


def open_channel(address: str, *, principal: str, secret: str) -> grpc.aio.Channel:
    """A channel over a unix socket whose every call carries the shared secret. Callers give each call its `timeout`."""
    authorization = bearer(principal, secret)
    return grpc.aio.insecure_channel(address, options=OPTIONS, interceptors=_signing(lambda: authorization))


def open_secure_channel(
    address: str, *, server: str, certificates: Certificates, authorization: Authorization | None = None
) -> grpc.aio.Channel:
    """A channel to who shows a certificate of that name; every call carries the authorization, where there is one."""
    # The name is what counts, whatever the address is.
    options = (*OPTIONS, ("grpc.ssl_target_name_override", server), ("grpc.default_authority", server))
    interceptors = _signing(authorization) if authorization else []
    channel = RenewedChannel(
        certificates,
        lambda credentials: grpc.aio.secure_channel(address, credentials, options=options, interceptors=interceptors),
    )
    return cast(grpc.aio.Channel, channel)


@contextlib.contextmanager
def closing_told() -> Iterator[None]:
    """Raises AioRpcError (CANCELLED) where the channel of a stream that is read in the block was closed."""
    try:
        yield
    except asyncio.CancelledError:
        if not broken_off():
            raise
        nothing = grpc.aio.Metadata()
        raise grpc.aio.AioRpcError(
            grpc.StatusCode.CANCELLED, nothing, nothing, details="the channel was closed"
        ) from None


def _signing(authorization: Authorization) -> list[grpc.aio.ClientInterceptor]:
    return [_UnaryIdentity(authorization), _StreamIdentity(authorization), _DuplexIdentity(authorization)]


class _UnaryIdentity(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, authorization: Authorization) -> None:
        self._authorization = authorization

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_signed(client_call_details, self._authorization), request)


class _StreamIdentity(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, authorization: Authorization) -> None:
        self._authorization = authorization

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(_signed(client_call_details, self._authorization), request)


class _DuplexIdentity(grpc.aio.StreamStreamClientInterceptor):
    def __init__(self, authorization: Authorization) -> None:
        self._authorization = authorization

    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await continuation(_signed(client_call_details, self._authorization), request_iterator)


def _signed(details: Any, authorization: Authorization) -> grpc.aio.ClientCallDetails:
    metadata = grpc.aio.Metadata(*(details.metadata or ()))
    metadata.add(AUTHORIZATION, authorization())
    return grpc.aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )
