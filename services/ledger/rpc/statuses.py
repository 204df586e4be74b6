"""Errors of the ledger to statuses (docs/errors.md)."""

from __future__ import annotations

import grpc

from services.ledger import errors
from services.ledger.rpc.requests import first_difference
from services.runtime.status import ErrorStatus

_Code = grpc.StatusCode

# Reasons of refusals that are not FAILED_PRECONDITION.
_REFUSAL_CODES = {
    errors.Refusal.MEMBER_EXISTS: _Code.ALREADY_EXISTS,
    errors.Refusal.PURCHASE_EXISTS: _Code.ALREADY_EXISTS,
    errors.Refusal.IDENTIFIER_TAKEN: _Code.ALREADY_EXISTS,
    errors.Refusal.PURCHASE_UNKNOWN: _Code.NOT_FOUND,
    errors.Refusal.IDENTIFIER_UNKNOWN: _Code.NOT_FOUND,
    errors.Refusal.REDEMPTION_UNKNOWN: _Code.NOT_FOUND,
    errors.Refusal.HOLD_UNKNOWN: _Code.NOT_FOUND,
    errors.Refusal.ADJUSTMENT_UNKNOWN: _Code.NOT_FOUND,
}
_REJECTIONS: dict[type[errors.LedgerError], tuple[grpc.StatusCode, str, str]] = {
    # error: (code, reason, field)
    errors.MemberUnknownError: (_Code.NOT_FOUND, "MEMBER_UNKNOWN", ""),
    errors.NotEnrolledError: (_Code.FAILED_PRECONDITION, "NOT_ENROLLED", ""),
    errors.PurchaseUnknownError: (_Code.NOT_FOUND, "PURCHASE_UNKNOWN", ""),
    errors.IdentifierUnknownError: (_Code.NOT_FOUND, "IDENTIFIER_UNKNOWN", ""),
    errors.MarketUnknownError: (_Code.INVALID_ARGUMENT, "MARKET_UNKNOWN", "market"),
    errors.CurrencyMismatchError: (_Code.INVALID_ARGUMENT, "CURRENCY_MISMATCH", "amount.currency_code"),
    errors.AmountNotPositiveError: (_Code.INVALID_ARGUMENT, "INVALID_FIELD", "amount.minor_units"),
    errors.FeePeriodError: (_Code.INVALID_ARGUMENT, "INVALID_FIELD", "end_time"),
    errors.LinesDoNotAddUpError: (_Code.INVALID_ARGUMENT, "LINES_DO_NOT_ADD_UP", "lines"),
    errors.PaymentExceedsGoodsError: (
        _Code.INVALID_ARGUMENT,
        "PAYMENT_EXCEEDS_GOODS",
        "points_payment.amount.minor_units",
    ),
    errors.OccurredInFutureError: (_Code.INVALID_ARGUMENT, "OCCURRED_IN_FUTURE", "occurred_time"),
    errors.OccurredTooEarlyError: (_Code.INVALID_ARGUMENT, "OCCURRED_TOO_EARLY", "occurred_time"),
    errors.BatchSpansPartitionsError: (_Code.INVALID_ARGUMENT, "BATCH_SPANS_PARTITIONS", "writes"),
    errors.BatchAbortedError: (_Code.ABORTED, "BATCH_ABORTED", ""),
    errors.PeriodError: (_Code.INVALID_ARGUMENT, "PERIOD_INVALID", "period"),
    errors.ClockNotSimulatedError: (_Code.FAILED_PRECONDITION, "CLOCK_NOT_SIMULATED", ""),
    errors.PageTokenError: (_Code.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID", "page_token"),
    errors.CursorAheadError: (_Code.OUT_OF_RANGE, "CURSOR_AHEAD_OF_LOG", ""),
    errors.ProgrammeOrderError: (_Code.FAILED_PRECONDITION, "PROGRAMME_ORDER", ""),
    errors.ProgrammeUnchangedError: (_Code.FAILED_PRECONDITION, "PROGRAMME_UNCHANGED", ""),
    errors.AnnouncementTooShortError: (_Code.FAILED_PRECONDITION, "ANNOUNCEMENT_TOO_SHORT", ""),
    errors.ProgrammeUnknownError: (_Code.NOT_FOUND, "PROGRAMME_UNKNOWN", ""),
    errors.PoisonedError: (_Code.INTERNAL, "INTERNAL", ""),
}


def describe(error: BaseException) -> ErrorStatus | None:
    """The status of an error of the ledger; None for one of another kind."""
    if isinstance(error, errors.RefusedError):
        metadata = {"replayed": "true"} if error.replayed else {}
        message = str(error)
        match error.refusal:
            case errors.Refusal.NOT_ENOUGH_POINTS:
                metadata["available_points"] = str(error.available)
                message += f"; {error.available} are there"
            case errors.Refusal.REDEMPTION_BELOW_MINIMUM if error.redemption:
                metadata["minimum_points"] = str(error.redemption.minimum)
                message += f"; the programme in force asks for at least {error.redemption.minimum} at once"
            case errors.Refusal.REDEMPTION_NOT_IN_STEPS if error.redemption:
                metadata["step_points"] = str(error.redemption.step)
                message += f"; the programme in force asks for multiples of {error.redemption.step}"
        return ErrorStatus(
            code=_REFUSAL_CODES.get(error.refusal, _Code.FAILED_PRECONDITION),
            reason=error.refusal.value,
            message=message,
            metadata=metadata,
        )
    if isinstance(error, errors.RequestIdReusedError):
        message, metadata = str(error), {}
        if error.kept is not None:
            metadata["field"] = first_difference(error.kept, error.sent)
            message += f" (first difference: {metadata['field']})"
        return ErrorStatus(code=_Code.ALREADY_EXISTS, reason="REQUEST_ID_REUSED", message=message, metadata=metadata)
    if isinstance(error, errors.IdentifierBlockedError):
        return ErrorStatus(
            code=_Code.FAILED_PRECONDITION,
            reason="IDENTIFIER_BLOCKED",
            message=str(error),
            metadata={"blocked": error.blocked},
        )
    if isinstance(error, errors.ProgrammeInvalidError):
        return ErrorStatus(
            code=_Code.INVALID_ARGUMENT,
            reason="PROGRAMME_INVALID",
            message=str(error),
            fields=tuple([("document", problem) for problem in error.problems]),
        )
    found = _REJECTIONS.get(type(error))  # type: ignore[arg-type]  # other errors are simply not found
    if found is None:
        return None
    code, reason, field = found
    return ErrorStatus(code=code, reason=reason, message=str(error), fields=((field, str(error)),) if field else ())
