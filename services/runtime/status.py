"""How an error reaches a caller: a status code, a reason of the contract, a sentence that helps (docs/errors.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from services.runtime.causality import CausalTokenError
from services.runtime.database import CONNECTION_ERRORS, PASSING_ERRORS, TRY_AGAIN
from services.runtime.guesses import UnknownIdentifiersError
from services.runtime.identity import PermissionDeniedError, TokenInvalidError, TokenMissingError, TokenUncheckedError

DOMAIN = "loyalty"
DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorStatus:
    """What a caller is told: `reason` is a name of loyalty.type.v1.ErrorReason without its prefix."""

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    # (path of the field, what is wrong with it)
    fields: tuple[tuple[str, str], ...] = ()
    retry_after_seconds: float | None = None

    def to_proto(self) -> status_pb2.Status:
        """The status as google.rpc.Status with ErrorInfo, BadRequest and RetryInfo."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        self._add(
            status,
            error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=dict(self.metadata)),
        )
        if self.fields:
            bad = error_details_pb2.BadRequest()
            for path, description in self.fields:
                bad.field_violations.add(field=path, description=description)
            self._add(status, bad)
        if self.retry_after_seconds is not None:
            delay = duration_pb2.Duration()
            delay.FromMilliseconds(int(self.retry_after_seconds * 1000))
            self._add(status, error_details_pb2.RetryInfo(retry_delay=delay))
        return status

    @staticmethod
    def _add(status: status_pb2.Status, detail: object) -> None:
        packed = any_pb2.Any()
        packed.Pack(detail)  # type: ignore[arg-type]  # every detail is a message
        status.details.append(packed)


def info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    """The reason in a status that a service of the platform gave, and what a machine may want to know; empty where it
    has none."""
    info = error_details_pb2.ErrorInfo()
    any(detail.Unpack(info) for detail in status.details)
    return info


def reason_of(status: status_pb2.Status) -> str:
    """The reason alone."""
    return str(info_of(status).reason)


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    """The status that a failed call was told; no more than its code and sentence where it came without details."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return status_pb2.Status(code=error.code().value[0], message=error.details() or "")


def refusal_of(error: grpc.aio.AioRpcError) -> str:
    """The reason that a failed call was told; empty where it was told none."""
    return reason_of(status_of(error))


class InvalidFieldError(Exception):
    """A field breaks a rule that the contract states in words."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class OverloadedError(Exception):
    """More is waiting than the service will hold."""


class NotCaughtUpError(Exception):
    """The service has not yet caught up with the causal token."""


def invalid(fields: tuple[tuple[str, str], ...]) -> ErrorStatus:
    """INVALID_ARGUMENT that names the fields."""
    return ErrorStatus(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="INVALID_FIELD",
        message="; ".join(f"{path}: {problem}" if path else problem for path, problem in fields[:5]),
        fields=fields,
    )


def describe(error: BaseException) -> ErrorStatus | None:
    """The status of an error that any service may meet; None for one that is not known here."""
    match error:
        case InvalidFieldError():
            return invalid(((error.path, error.problem),))
        case TokenMissingError():
            return ErrorStatus(code=grpc.StatusCode.UNAUTHENTICATED, reason="TOKEN_MISSING", message=str(error))
        case TokenInvalidError():
            return ErrorStatus(code=grpc.StatusCode.UNAUTHENTICATED, reason="TOKEN_INVALID", message=str(error))
        case TokenUncheckedError():
            # Nothing is wrong with the token as far as is known: another one would fare no better.
            return ErrorStatus(code=grpc.StatusCode.UNAVAILABLE, reason="UNAVAILABLE", message=str(error))
        case PermissionDeniedError():
            return ErrorStatus(
                code=grpc.StatusCode.PERMISSION_DENIED,
                reason=error.reason,
                message=str(error),
                metadata=error.needed,
            )
        case CausalTokenError():
            return ErrorStatus(code=grpc.StatusCode.INVALID_ARGUMENT, reason="CAUSAL_TOKEN_INVALID", message=str(error))
        case UnknownIdentifiersError():
            return ErrorStatus(
                code=grpc.StatusCode.RESOURCE_EXHAUSTED,
                reason="TOO_MANY_UNKNOWN_IDENTIFIERS",
                message=str(error),
                retry_after_seconds=error.wait_seconds,
            )
        case OverloadedError():
            return ErrorStatus(
                code=grpc.StatusCode.RESOURCE_EXHAUSTED,
                reason="OVERLOADED",
                message="the service has more waiting than it will hold; send the same request again later",
                retry_after_seconds=0.5,
            )
        case NotCaughtUpError():
            return ErrorStatus(
                code=grpc.StatusCode.DEADLINE_EXCEEDED,
                reason="NOT_CAUGHT_UP",
                message="the service has not yet taken in the writes of the causal token; ask again",
            )
        case TimeoutError():
            return ErrorStatus(
                code=grpc.StatusCode.DEADLINE_EXCEEDED,
                reason="DEADLINE_EXCEEDED",
                message="the call ran out of time; the same request may be sent again",
            )
        case _ if isinstance(error, (*CONNECTION_ERRORS, *PASSING_ERRORS, *TRY_AGAIN)):
            return UNAVAILABLE
        case _:
            return None


UNAVAILABLE = ErrorStatus(
    code=grpc.StatusCode.UNAVAILABLE,
    reason="UNAVAILABLE",
    message="the service's database cannot be reached or cannot write now; send the same request again",
)


def internal(call_id: str) -> ErrorStatus:
    """A fault of the service: nothing of it is shown, its log has it under the call's id."""
    return ErrorStatus(
        code=grpc.StatusCode.INTERNAL,
        reason="INTERNAL",
        message=f"the service failed; its log tells why under call_id {call_id}",
        metadata={"call_id": call_id},
    )
