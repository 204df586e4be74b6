"""Surveys: messages in and out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal

from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.notifier.v1 import campaign_pb2, survey_pb2

from services.notifier.rpc.calls import Context, Methods, stamp
from services.notifier.service.surveys import Period

_BY: Final[Mapping[int, Literal["version", "month"]]] = {
    survey_pb2.SURVEY_PERIODS_VERSION: "version",
    survey_pb2.SURVEY_PERIODS_MONTH: "month",
}


class SurveyMethods(Methods):
    """What NotifierService does with surveys."""

    async def RecordFeedback(  # the contract's name
        self, request: campaign_pb2.RecordFeedbackRequest, context: Context
    ) -> campaign_pb2.RecordFeedbackResponse:
        """Keeps an answer to a survey."""
        replayed = await self._do.surveys.record(
            request_id=request.request_id,
            member_id=request.member_id,
            survey_id=request.survey_id,
            score=request.score if request.WhichOneof("answer") == "score" else None,
            choice=request.choice,
            source=request.source,
            answered_time=_time(request.occurred_time) if request.HasField("occurred_time") else None,
            comment=request.comment,
        )
        return campaign_pb2.RecordFeedbackResponse(replayed=replayed)

    async def GetSurveyResults(  # the contract's name
        self, request: survey_pb2.GetSurveyResultsRequest, context: Context
    ) -> survey_pb2.GetSurveyResultsResponse:
        """Counts answers."""
        periods = await self._do.surveys.results(
            request.survey_id,
            from_time=_time(request.from_time) if request.HasField("from_time") else None,
            until_time=_time(request.until_time) if request.HasField("until_time") else None,
            by=_BY.get(request.by),
        )
        return survey_pb2.GetSurveyResultsResponse(periods=[_period(period) for period in periods])


def _time(time: Timestamp) -> datetime:
    return time.ToDatetime(tzinfo=UTC)


def _period(period: Period) -> survey_pb2.SurveyPeriod:
    result = period.result
    return survey_pb2.SurveyPeriod(
        from_time=None if period.from_time is None else stamp(period.from_time),
        until_time=None if period.until_time is None else stamp(period.until_time),
        programme_version=period.version,
        members=result.members,
        answers=[
            survey_pb2.SurveyAnswerCount(
                score=answer if isinstance(answer, int) else None,
                choice=answer if isinstance(answer, str) else None,
                members=members,
                share_basis_points=result.share_bp(members),
            )
            for answer, members in result.answers
        ],
        net_promoter_basis_points=result.net_promoter_bp,
        mean_star_hundredths=result.mean_star_hundredths,
    )
