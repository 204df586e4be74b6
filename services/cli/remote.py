"""The services as the command line calls them: stubs, and calls that outlast a restart."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc
from loyalty.ledger.v1 import ledger_service_pb2_grpc
from loyalty.notifier.v1 import notifier_service_pb2_grpc
from loyalty.tiers.v1 import tier_service_pb2_grpc

from services.cli.errors import CommandError
from services.cli.installation import TOKEN_TTL, Connection
from services.runtime.channels import closing_told, open_secure_channel
from services.runtime.files import Stamp, stamp
from services.runtime.status import refusal_of
from services.runtime.tls import Certificates

T = TypeVar("T")

PRINCIPAL: Final = "cli"
# A service that is restarted comes back within this, recovery of its database included.
PATIENCE_SECONDS: Final = 120.0

# Services take up changed keys of tokens within this.
_KEYS_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0

# Every write carries a request id, so a call without an answer may be sent again.
PASSING: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
    }
)
PASSING_NUMBERS: Final = frozenset(code.value[0] for code in PASSING)


class RemoteError(CommandError):
    """A service refused a call, or did not answer for too long. `reason` is one of the contract's, or empty."""

    def __init__(self, sentence: str, *, reason: str = "") -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Stubs of the three services."""

    ledger: Any
    tiers: Any
    notifier: Any


@contextlib.asynccontextmanager
async def reach(connection: Connection) -> AsyncIterator[Services]:
    """The services of a running stack, past the gateway."""
    async with contextlib.AsyncExitStack() as stack:
        channels = [open_service(connection, name) for name in ("ledger", "tiers", "notifier")]
        for channel in channels:
            stack.push_async_callback(channel.close)
        yield Services(
            ledger=ledger_service_pb2_grpc.LedgerServiceStub(channels[0]),
            tiers=tier_service_pb2_grpc.TierServiceStub(channels[1]),
            notifier=notifier_service_pb2_grpc.NotifierServiceStub(channels[2]),
        )


def open_service(connection: Connection, name: str, *, principal: str = PRINCIPAL) -> grpc.aio.Channel:
    """A channel to a service of a running stack, past the gateway, for a principal who may do everything."""
    return open_secure_channel(
        getattr(connection, name),
        server=name,
        certificates=Certificates(connection.installation.authority.files("cli")),
        authorization=_OwnToken(connection, principal),
    )


class _OwnToken:
    """The authorization of a principal, by a token that is made anew in time, and whenever keys have changed."""

    def __init__(self, connection: Connection, principal: str) -> None:
        self._connection = connection
        self._principal = principal
        self._keys: Stamp | None = None
        self._renewed_at = 0.0
        self._value = ""
        # What is wrong with the keys is told before anything is called.
        self()

    def __call__(self) -> str:
        keys = stamp(self._connection.installation.token_keys.key_set_file)
        if keys != self._keys or time.time() >= self._renewed_at:
            self._value = self._connection.authorization(self._principal)
            self._keys, self._renewed_at = keys, time.time() + TOKEN_TTL.total_seconds() / 2
        return self._value


async def call(method: Any, request: Any, *, seconds: float = 30.0, patience: float = PATIENCE_SECONDS) -> Any:
    """Calls a unary method, `seconds` a try; again while the service is away or behind, for `patience` seconds, or has
    still to take up the keys of tokens.

    Raises RemoteError.
    """
    wait = Patience(patience)
    while True:
        try:
            return await method(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            if not wait.is_for(error.code()):
                raise described(error) from None
            await wait.or_give_up(str(error.details()))


async def open_stream(method: Any, request: Any, *, seconds: float = 600.0) -> AsyncIterator[Any]:
    """The responses of a stream that ends by itself. Raises RemoteError."""
    try:
        with closing_told():
            async for response in method(request, timeout=seconds):
                yield response
    except grpc.aio.AioRpcError as error:
        raise described(error) from None


async def resumed_stream(
    method: Any, request: Callable[[], Any], *, seconds: float = 600.0, patience: float = PATIENCE_SECONDS
) -> AsyncGenerator[Any, None]:
    """The responses of a stream that ends by itself; where it breaks off it is asked for again.

    `request` says from where on, each time. Gives up where nothing comes for `patience` seconds. Raises RemoteError.
    """
    wait = Patience(patience)
    while True:
        try:
            with closing_told():
                async for response in method(request(), timeout=seconds):
                    wait = Patience(patience)
                    yield response
            return
        except grpc.aio.AioRpcError as error:
            if not wait.is_for(error.code()):
                raise described(error) from None
            await wait.or_give_up(str(error.details()))


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of them say, in order; where one fails the others are cancelled, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(one) for one in work]
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    return [task.result() for task in started]


class Patience:
    """Growing pauses between tries, until the time is up."""

    def __init__(self, seconds: float = PATIENCE_SECONDS) -> None:
        self._began = time.monotonic()
        self._seconds = seconds
        self._pause = _FIRST_PAUSE_SECONDS

    def is_for(self, code: grpc.StatusCode) -> bool:
        """Whether who was answered so may call again: what is wrong passes, or the keys of tokens may just have
        changed."""
        if code is grpc.StatusCode.UNAUTHENTICATED:
            return time.monotonic() < self._began + _KEYS_SECONDS
        return code in PASSING

    async def or_give_up(self, why: str) -> None:
        """Waits before the next try; raises RemoteError with the last reason where there is no time for one."""
        if time.monotonic() > self._began + self._seconds:
            raise RemoteError(f"no answer for {self._seconds:.0f} s, and the last try failed: {why}")
        await asyncio.sleep(self._pause * (1 + 0.2 * random.random()))
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)


def described(error: grpc.aio.AioRpcError) -> RemoteError:
    """The error of a call, as a sentence."""
    reason = refusal_of(error)
    name = f"{error.code().name}, {reason}" if reason else error.code().name
    return RemoteError(f"{error.details() or 'the call failed'} ({name})", reason=reason)
