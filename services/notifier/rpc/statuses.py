"""The table of the notifier's errors."""

from __future__ import annotations

import grpc

from services.notifier import errors
from services.runtime.status import UNAVAILABLE, ErrorStatus, invalid

_STATUSES: dict[type[errors.NotifierError], tuple[grpc.StatusCode, str]] = {
    errors.MemberUnknownError: (grpc.StatusCode.NOT_FOUND, "MEMBER_UNKNOWN"),
    errors.CouponUnknownError: (grpc.StatusCode.NOT_FOUND, "COUPON_UNKNOWN"),
    errors.RewardUnknownError: (grpc.StatusCode.NOT_FOUND, "REWARD_UNKNOWN"),
    errors.CampaignUnknownError: (grpc.StatusCode.NOT_FOUND, "CAMPAIGN_UNKNOWN"),
    errors.SurveyUnknownError: (grpc.StatusCode.NOT_FOUND, "SURVEY_UNKNOWN"),
    errors.RequestIdReusedError: (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"),
    errors.PageTokenError: (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"),
    errors.CausalTokenAheadError: (grpc.StatusCode.INVALID_ARGUMENT, "CAUSAL_TOKEN_INVALID"),
    errors.MemberErasedError: (grpc.StatusCode.FAILED_PRECONDITION, "MEMBER_ERASED"),
    errors.CheckoutInProgressError: (grpc.StatusCode.UNAVAILABLE, "CHECKOUT_IN_PROGRESS"),
    errors.DeliveryUnknownError: (grpc.StatusCode.NOT_FOUND, "DELIVERY_UNKNOWN"),
    errors.DeliveryNotRetryableError: (grpc.StatusCode.FAILED_PRECONDITION, "DELIVERY_NOT_RETRYABLE"),
    errors.EndpointUnknownError: (grpc.StatusCode.NOT_FOUND, "WEBHOOK_ENDPOINT_UNKNOWN"),
    errors.EndpointDisabledError: (grpc.StatusCode.FAILED_PRECONDITION, "WEBHOOK_ENDPOINT_DISABLED"),
    errors.TooManyEndpointsError: (grpc.StatusCode.FAILED_PRECONDITION, "TOO_MANY_WEBHOOK_ENDPOINTS"),
    errors.TopicUnknownError: (grpc.StatusCode.INVALID_ARGUMENT, "TOPIC_UNKNOWN"),
    errors.ChannelUnknownError: (grpc.StatusCode.INVALID_ARGUMENT, "CHANNEL_UNKNOWN"),
    errors.UnsubscribeTokenError: (grpc.StatusCode.INVALID_ARGUMENT, "UNSUBSCRIBE_TOKEN_INVALID"),
    errors.PeerError: (UNAVAILABLE.code, UNAVAILABLE.reason),
}

# Refusals that tell of something that is not there.
_NOT_FOUND = frozenset({"COUPON_USE_UNKNOWN", "MEMBER_UNKNOWN", "HOLD_UNKNOWN", "REDEMPTION_UNKNOWN"})


def describe(error: BaseException) -> ErrorStatus | None:
    """The status of an error of the notifier; None for any other."""
    if isinstance(error, errors.FieldError):
        return invalid(((error.field, str(error)),))
    if isinstance(error, errors.RefusedError):
        code = grpc.StatusCode.NOT_FOUND if error.reason in _NOT_FOUND else grpc.StatusCode.FAILED_PRECONDITION
        again = {"replayed": "true"} if error.replayed else {}
        return ErrorStatus(code=code, reason=error.reason, message=str(error), metadata={**error.facts, **again})
    if isinstance(error, errors.OccurredInFutureError):
        return ErrorStatus(
            code=grpc.StatusCode.INVALID_ARGUMENT,
            reason="OCCURRED_IN_FUTURE",
            message=str(error),
            fields=((error.field, str(error)),),
        )
    if isinstance(error, errors.WrongCodesError):
        return ErrorStatus(
            code=grpc.StatusCode.RESOURCE_EXHAUSTED,
            reason="TOO_MANY_WRONG_CODES",
            message=str(error),
            retry_after_seconds=error.wait_seconds,
        )
    if isinstance(error, errors.GoodwillLimitError):
        return ErrorStatus(
            code=grpc.StatusCode.FAILED_PRECONDITION,
            reason="GOODWILL_LIMIT",
            message=str(error),
            metadata={"points_left": str(error.left)},
        )
    if isinstance(error, errors.PeerRefusedError | errors.CheckoutRefusedError):
        return ErrorStatus(
            code=grpc.StatusCode[error.code], reason=error.reason, message=str(error), metadata=error.metadata
        )
    found = _STATUSES.get(type(error))  # type: ignore[arg-type]  # other types are just not there
    return None if found is None else ErrorStatus(code=found[0], reason=found[1], message=str(error))
