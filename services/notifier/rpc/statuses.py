"""The table of the notifier's errors."""

from __future__ import annotations

import grpc

from services.notifier import errors
from services.runtime.status import UNAVAILABLE, ErrorStatus, invalid

_STATUSES: dict[type[errors.NotifierError], tuple[grpc.StatusCode, str]] = {
    errors.MemberUnknownError: (grpc.StatusCode.NOT_FOUND, "MEMBER_UNKNOWN"),
    errors.CouponUnknownError: (grpc.StatusCode.NOT_FOUND, "COUPON_UNKNOWN"),
    errors.RequestIdReusedError: (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
    errors.PageTokenError: (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"),
    errors.CausalTokenAheadError: (grpc.StatusCode.INVALID_ARGUMENT, "CAUSAL_TOKEN_INVALID"),
    errors.PeerError: (UNAVAILABLE.code, UNAVAILABLE.reason),
}


def describe(error: BaseException) -> ErrorStatus | None:
    """The status of an error of the notifier; None for any other."""
    if isinstance(error, errors.ContactError):
        return invalid(((error.field, str(error)),))
    found = _STATUSES.get(type(error))  # type: ignore[arg-type]  # other types are just not there
    return None if found is None else ErrorStatus(code=found[0], reason=found[1], message=str(error))
