"""A gRPC server: health, reflection, limits, graceful stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.runtime import contract
from services.runtime.audit import AuditTrail
from services.runtime.channels import MAX_MESSAGE_BYTES
from services.runtime.identity import Identities
from services.runtime.interceptors import CallInterceptor, Describe
from services.runtime.tls import MAX_CONNECTION_AGE_GRACE_SECONDS, MAX_CONNECTION_AGE_SECONDS, Certificates

log = structlog.get_logger()

_GRACE_SECONDS = 5.0
_MAX_CONCURRENT_CALLS = 2000

_OPTIONS: tuple[tuple[str, Any], ...] = (
    # A port that is taken must be seen, not shared.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_connection_age_ms", MAX_CONNECTION_AGE_SECONDS * 1000),
    ("grpc.max_connection_age_grace_ms", MAX_CONNECTION_AGE_GRACE_SECONDS * 1000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


class ListenError(Exception):
    """The address to listen on is taken or not allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a service's composition root hands over: its name in the contract, its handlers, its errors, its audit log,
    its work."""

    name: str
    register: Callable[[grpc.aio.Server], None]
    describe: Describe
    audit: AuditTrail
    # Run for as long as the service lives; one that ends by an error ends the process.
    background: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()


@contextlib.asynccontextmanager
async def running(
    service: Service, *, listen: str, identities: Identities, certificates: Certificates | None = None
) -> AsyncIterator[asyncio.TaskGroup]:
    """The service, listening and SERVING; on leaving it stops gracefully. Without certificates it is only reached over
    a unix socket."""
    names = contract.SERVICES[service.name]
    calls = CallInterceptor(
        identities=identities,
        permissions=contract.permissions(names),
        refused=service.audit.refused,
        describe=service.describe,
        most_in_flight=_MAX_CONCURRENT_CALLS,
    )
    server = grpc.aio.server(
        interceptors=[calls],
        options=_OPTIONS,
        # Beyond what is answered properly: gRPC turns these away by itself, with no word of when to come back.
        maximum_concurrent_rpcs=2 * _MAX_CONCURRENT_CALLS,
    )
    service.register(server)
    healthy = health.aio.HealthServicer()
    await healthy.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
    try:
        if certificates is not None:
            bound = server.add_secure_port(listen, certificates.server_credentials())
        elif listen.startswith("unix:"):
            bound = server.add_insecure_port(listen)
        else:
            raise ListenError(f"without certificates a service listens on a unix socket alone, and not on {listen}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise ListenError(f"cannot listen on {listen}: the address is taken or not allowed; choose another one")
    async with asyncio.TaskGroup() as tasks:
        work = [
            tasks.create_task(begin()) for begin in (*service.background, service.audit.keep_written, calls.keep_watch)
        ]
        await server.start()
        await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
        log.info("service_started", listen=listen)
        try:
            yield tasks
        finally:
            await healthy.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
            await server.stop(_GRACE_SECONDS)
            await service.audit.flush()
            for task in work:
                task.cancel()
            log.info("service_stopped")


async def until_stopped() -> None:
    """Waits for SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
