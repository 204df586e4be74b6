"""The server's one interceptor: identity, scope, validation, deadline, errors and the canonical log line.

They are stages of one interceptor because each interceptor of grpc.aio costs 3-4 % of a small call. A method's
handler is wrapped once and kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, TypeAlias

import grpc
import protovalidate
import structlog
from google.protobuf.message import DecodeError, Message

from services.runtime import status
from services.runtime.identity import (
    Caller,
    Identities,
    PermissionDeniedError,
    Permissions,
    Refused,
    check_store,
    current_caller,
)
from services.runtime.logging import call_answered
from services.runtime.tls import peer_name

log = structlog.get_logger()

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

Describe = Callable[[BaseException], status.ErrorStatus | None]

_Read: TypeAlias = Callable[[bytes], Message]

# Methods of the server itself, which open nothing of the platform.
_OPEN = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")
# How often it is looked whether those who hold streams may still call.
_WATCH_SECONDS = 2.0
_MOST_STREAMS = 500
_MOST_STREAMS_EACH = 64
# How often the log has why callers were told UNAVAILABLE, for each kind of error.
_TOLD_WHY_SECONDS = 30.0
# A call that brings no deadline gets this one.
DEFAULT_DEADLINE_SECONDS = 30.0
# What is kept of a deadline for the answer to travel, at least, and of longer ones this share.
_LEAST_MARGIN_SECONDS = 0.2
_MARGIN = 1 / 20
_MAX_VIOLATIONS = 20


def seconds_to_wait(context: Context) -> float:
    """How long a call may wait for what it asks for, so that the answer arrives in time: also where the caller is a
    service that has a deadline of its own to keep."""
    remaining = context.time_remaining()
    if remaining is None:
        remaining = DEFAULT_DEADLINE_SECONDS
    return max(0.0, remaining - max(_LEAST_MARGIN_SECONDS, remaining * _MARGIN))


class RequestValidator:
    """Checks messages against the field rules of the contract."""

    def __init__(self) -> None:
        self._validator = protovalidate.Validator()

    def check(self, message: Message) -> status.ErrorStatus | None:
        """What is wrong with the message, or None."""
        violations = self._validator.collect_violations(message)
        if not violations:
            return None
        return status.invalid(tuple(_described(message, violation) for violation in violations[:_MAX_VIOLATIONS]))


def _described(message: Message, violation: protovalidate.Violation) -> tuple[str, str]:
    elements = violation.proto.field.elements if violation.proto.field else ()
    names = [element.field_name for element in elements]
    if violation.proto.rule_id == "required" and (fields := _fields_of_oneof(message, names)):
        # No field of a request has its name.
        path = ".".join(filter(None, (_path(elements[:-1]), fields[0])))
        return path, f"one of {', '.join(fields)} must be given"
    return _path(elements), _problem(message, names, violation)


def _path(elements: Iterable[Any]) -> str:
    """What a violation's path leads to, as callers write it: lines[0].sku."""
    path = ""
    for element in elements:
        path += f".{element.field_name}" if path else element.field_name
        subscript = element.subscript
        if subscript is not None and subscript.field == "index":
            path += f"[{subscript.value}]"
    return path


def _problem(message: Message, names: Sequence[str], violation: protovalidate.Violation) -> str:
    match violation.proto.rule_id, violation.rule_value:
        case "string.pattern", pattern:
            return PATTERNS.get(str(pattern), violation.proto.message)
        case "string.not_contains", _:
            return "must not contain the character NUL"
        case "enum.not_in", _:
            return f"must be one of {', '.join(_values(message, names))}"
        case (("repeated.min_items" | "string.min_len"), 1):
            return "must not be empty"
        case "repeated.max_items", most:
            return f"must have at most {most:,}"
    return violation.proto.message or violation.proto.rule_id


def _values(message: Message, names: Sequence[str]) -> list[str]:
    """The values of an enum of the contract, but for the one that stands for none."""
    enum = _holder(message, names).fields_by_name[names[-1]].enum_type
    return [value.name for value in enum.values if value.number]


def _fields_of_oneof(message: Message, names: Sequence[str]) -> list[str]:
    """The fields of which one is to be given; none where the names lead to a field."""
    oneof = _holder(message, names).oneofs_by_name.get(names[-1])
    return [] if oneof is None else [field.name for field in oneof.fields]


def _holder(message: Message, names: Sequence[str]) -> Any:
    """The descriptor of the message that holds what the names lead to."""
    descriptor: Any = message.DESCRIPTOR
    for parent in names[:-1]:
        descriptor = descriptor.fields_by_name[parent].message_type
    return descriptor


# The patterns of the contract in words: what a field may be.
PATTERNS = {
    "^[!-~]{1,128}$": "must be 1 to 128 printable ASCII characters without spaces",
    "^[!-~]{0,128}$": "must be at most 128 printable ASCII characters without spaces",
    "^[!-}][!-~]{0,127}$": "must be 1 to 128 printable ASCII characters without spaces, and not begin with ~",
    "^[A-Za-z0-9][A-Za-z0-9._~@+-]{0,63}$": "must be 1 to 64 letters, digits or . _ ~ @ + -, a letter or digit first",
    "^([A-Za-z0-9][A-Za-z0-9._~@+-]{0,63})?$": (
        "must be at most 64 letters, digits or . _ ~ @ + -, a letter or digit first"
    ),
    "^[A-Z2-9]{0,8}$": "must be at most 8 capital letters or digits from 2 to 9",
    "^([0-9a-f]{64})?$": "must be 64 digits or letters from a to f, or empty",
    "^[A-Za-z0-9-]{1,64}$": "must be 1 to 64 letters, digits or dashes",
    "^[A-Z]{3}$": "must be a currency code of ISO 4217, three capital letters",
    "^[a-z0-9_-]{0,32}$": "must be at most 32 small letters, digits or any of _ -",
    "^[a-z0-9_-]{1,64}$": "must be 1 to 64 small letters, digits or any of _ -",
    "^[^\\x00-\\x1f\\x7f]*$": "must not contain control characters",
    "^([0-9]{4}(-(0[1-9]|1[0-2]))?)?$": "must be a month (2026-10), a year (2026), or empty",
    "^([+][1-9][0-9]{3,14})?$": "must be a telephone number with its country, a plus and digits, as +48601234567",
    "^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$": "must be a language, as pl or pt-BR",
    "^[A-Za-z0-9_+/-]{0,64}$": "must be the name of a time zone, as Europe/Warsaw",
    "^([0-9]{4}-[0-9]{2}-[0-9]{2})?$": "must be a day, as 1990-05-17",
    "^([a-z0-9][a-z0-9-]{0,63})?$": "must be at most 64 small letters, digits or -, a letter or digit first",
    "^[A-Za-z0-9_-]{1,512}$": "must be the token of a link, letters, digits or any of _ -",
    "^[0-9a-f]{32}$": "must be the id of a message, 32 digits or letters from a to f",
    "^we_[0-9a-f]{24}$": "must be the id of a webhook endpoint, as CreateWebhookEndpoint gave it",
    "^[a-z0-9][a-z0-9._-]{0,63}$": "must be 1 to 64 small letters, digits or any of . _ -, a letter or digit first",
    "^[a-z0-9][a-z0-9-]{0,63}$": "must be 1 to 64 small letters, digits or -, a letter or digit first",
    "^(P[1-9][0-9]{0,3}[DMY])?$": "must be days, months or years, as P90D, P6M or P1Y",
    "^[a-z0-9_-]{1,32}$": "must be 1 to 32 small letters, digits or any of _ -",
    "^[a-z][a-z0-9_]{0,39}$": "must be 1 to 40 small letters, digits or _, a letter first",
}


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of the service; see the module."""

    def __init__(
        self,
        *,
        identities: Identities,
        permissions: Permissions,
        refused: Refused,
        describe: Describe,
        most_in_flight: int,
    ) -> None:
        self._identities = identities
        self._permissions = permissions
        self._refused = refused
        self._describe = describe
        self._most_in_flight = most_in_flight
        self._in_flight = 0
        self._validator = RequestValidator()
        self._wrapped: dict[str, Handler] = {}
        self._streams: dict[asyncio.Task[Any], _OpenStream] = {}
        self._told_why: dict[str, float] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Finds the wrapped handler of the method; health and reflection pass as they are."""
        method: str = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is not None:
            return wrapped
        handler = await continuation(handler_call_details)
        if handler is None or method.startswith(_OPEN):
            return handler
        if method not in self._permissions.scopes:
            # Served, but of no service that the contract gives to this process: open to nobody.
            return None
        read = _reader(handler.request_deserializer)
        if handler.request_streaming:
            wrapped = grpc.stream_stream_rpc_method_handler(
                self._stream(method, handler.stream_stream, partial(self._admit_each, method, read)),
                response_serializer=handler.response_serializer,
            )
        elif handler.response_streaming:
            wrapped = grpc.unary_stream_rpc_method_handler(
                self._stream(method, handler.unary_stream, partial(self._admit, method, read)),
                response_serializer=_unless_encoded(handler.response_serializer),
            )
        else:
            wrapped = grpc.unary_unary_rpc_method_handler(
                self._unary(method, handler.unary_unary, read),
                response_serializer=handler.response_serializer,
            )
        self._wrapped[method] = wrapped
        return wrapped

    async def keep_watch(self) -> None:
        """Ends streams whose callers may no longer call, for ever: their tokens were revoked or have expired."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            for task, stream in list(self._streams.items()):
                try:
                    self._permissions.check(self._identified(stream.context), stream.method)
                except Exception as error:
                    stream.ended = error
                    task.cancel()

    def _unary(self, method: str, behaviour: Any, read: _Read) -> Callable[[Any, Any], Awaitable[Any]]:
        async def call(content: bytes, context: Context) -> Any:
            started = time.perf_counter()
            failed: status.ErrorStatus | None = None
            try:
                self._enter()
                request = self._admit(method, read, content, context)
                if context.time_remaining() is None:
                    async with asyncio.timeout(DEFAULT_DEADLINE_SECONDS):
                        return await behaviour(request, context)
                return await behaviour(request, context)
            except asyncio.CancelledError:
                failed = _CANCELLED
                raise
            except _InvalidRequest as error:
                failed = error.status
            except Exception as error:
                failed = self._status_of(error, method)
            finally:
                self._in_flight -= 1
                _log_call(method, context, started, failed)
            return await _abort(context, failed)

        return call

    def _stream(
        self, method: str, behaviour: Any, admit: Callable[[Any, Context], Any]
    ) -> Callable[[Any, Any], AsyncIterator[Any]]:
        async def call(asked: Any, context: Context) -> AsyncIterator[Any]:
            started = time.perf_counter()
            failed: status.ErrorStatus | None = None
            task = asyncio.current_task()
            assert task is not None, "a call is a task"
            stream = _OpenStream(method, context)
            try:
                self._enter()
                admitted = admit(asked, context)
                self._open(task, stream)
                async with contextlib.aclosing(behaviour(admitted, context)) as responses:
                    async for response in responses:
                        yield response
                return
            except GeneratorExit:
                failed = _CANCELLED
                raise
            except asyncio.CancelledError:
                if stream.ended is None:
                    failed = _CANCELLED
                    raise
                task.uncancel()
                failed = self._status_of(stream.ended, method)
            except _InvalidRequest as error:
                failed = error.status
            except Exception as error:
                failed = self._status_of(error, method)
            finally:
                self._streams.pop(task, None)
                self._in_flight -= 1
                _log_call(method, context, started, failed)
            await _abort(context, failed)

        return call

    def _enter(self) -> None:
        """Counts a call in; one too many is told so, and when to come back."""
        self._in_flight += 1
        if self._in_flight > self._most_in_flight:
            raise status.OverloadedError

    def _open(self, task: asyncio.Task[Any], stream: _OpenStream) -> None:
        """Counts a stream in; nobody may have all of them."""
        stream.principal = current_caller.get().principal
        own = sum([one.principal == stream.principal for one in self._streams.values()])
        if own >= _MOST_STREAMS_EACH or len(self._streams) >= _MOST_STREAMS:
            raise status.OverloadedError
        self._streams[task] = stream

    def _admit(self, method: str, read: _Read, content: bytes, context: Context) -> Message:
        """A request of who may call; of others it is not even read."""
        caller = self._authenticate(method, context)
        return self._checked(read(content), caller)

    def _admit_each(
        self, method: str, read: _Read, contents: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[Message]:
        """The requests of a stream, each admitted when it is read."""
        self._authenticate(method, context)

        async def admitted() -> AsyncIterator[Message]:
            async for content in contents:
                yield self._admit(method, read, content, context)

        return admitted()

    def _authenticate(self, method: str, context: Context) -> Caller:
        try:
            caller = self._identified(context)
        except PermissionDeniedError as error:
            # Who was refused is known, and stands in the log.
            current_caller.set(error.caller)
            raise
        current_caller.set(caller)
        self._permissions.check(caller, method)
        return caller

    def _identified(self, context: Context) -> Caller:
        return self._identities.authenticate(context.invocation_metadata() or (), partial(peer_name, context))

    def _checked(self, request: Message, caller: Caller) -> Message:
        check_store(caller, request)
        problem = self._validator.check(request)
        if problem is not None:
            raise _InvalidRequest(problem)
        return request

    def _status_of(self, error: Exception, method: str) -> status.ErrorStatus:
        if isinstance(error, PermissionDeniedError):
            self._refused(error, method)
        described = self._describe(error) or status.describe(error)
        if described is not None:
            if described.code is grpc.StatusCode.UNAVAILABLE:
                self._tell_why(error, method)
            return described
        call_id = os.urandom(8).hex()
        log.error("rpc_failed", method=method, call_id=call_id, exc_info=error)
        return status.internal(call_id)

    def _tell_why(self, error: Exception, method: str) -> None:
        """Writes down what a caller is not told: why the service is not available. Each kind of error now and then."""
        kind, now = type(error).__name__, time.monotonic()
        if now - self._told_why.get(kind, -_TOLD_WHY_SECONDS) >= _TOLD_WHY_SECONDS:
            self._told_why[kind] = now
            log.warning("service_not_available", method=method, error=kind, exc_info=error)


@dataclass(slots=True)
class _OpenStream:
    """A stream that is open, and why it is ended, once it is."""

    method: str
    context: Context
    principal: str = ""
    ended: Exception | None = None


def _reader(deserialize: Callable[[bytes], Any] | None) -> _Read:
    """Reads a request; what is no message is told with a proper status."""

    assert deserialize is not None, "every method of the contract has a message"

    def read(content: bytes) -> Message:
        try:
            message: Message = deserialize(content)
        except DecodeError:
            problem = status.invalid((("", "the request is no message of the contract"),))
            raise _InvalidRequest(problem) from None
        return message

    return read


def _unless_encoded(serialize: Callable[[Any], bytes] | None) -> Callable[[Any], bytes]:
    """Lets a stream that sends the same to many encode it once: a response may be bytes already."""

    assert serialize is not None, "every method of the contract has a message"

    def write(response: Any) -> bytes:
        return response if isinstance(response, bytes) else serialize(response)

    return write


class _InvalidRequest(Exception):
    def __init__(self, problem: status.ErrorStatus) -> None:
        super().__init__(problem.message)
        self.status = problem


_CANCELLED = status.ErrorStatus(
    code=grpc.StatusCode.CANCELLED, reason="CANCELLED", message="the caller went away or its time ran out"
)


async def _abort(context: Context, failed: status.ErrorStatus) -> NoReturn:
    details = failed.to_proto().SerializeToString()
    await context.abort(failed.code, failed.message, ((status.DETAILS_KEY, details),))


def _log_call(method: str, context: Context, started: float, failed: status.ErrorStatus | None) -> None:
    caller = current_caller.get(_NOBODY)
    duration_ms = round((time.perf_counter() - started) * 1000, 3)
    if failed is None:
        call_answered(method, caller.principal, duration_ms)
    else:
        log.info(
            "rpc_finished",
            method=method,
            code=failed.code.name,
            reason=failed.reason,
            principal=caller.principal,
            duration_ms=duration_ms,
        )


_NOBODY = Caller(principal="")
