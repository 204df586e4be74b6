"""Surveys: what members answer is kept, and counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from typing import Literal

from services.notifier.domain.contacts import partition_of
from services.notifier.domain.digests import keyed_digest
from services.notifier.domain.programmes import Programmes
from services.notifier.domain.surveys import Result, result_of
from services.notifier.errors import (
    FieldError,
    MemberErasedError,
    MemberUnknownError,
    OccurredInFutureError,
    SurveyUnknownError,
)
from services.notifier.service.requests import MemberExists, is_member, lies_ahead, same_request
from services.notifier.store import Store, Transaction
from services.notifier.store.surveys import Answer, AnswerCount
from services.notifier.vault import Vault
from services.programme.campaigns import Survey
from services.programme.model import Programme
from services.programme.versions import SINCE_EVER
from services.runtime.clock import MachineClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What was answered from an instant on and before another; None: since ever, without end. `version` held when it
    began."""

    from_time: datetime | None
    until_time: datetime | None
    version: str
    result: Result


class SurveyService:
    """Takes answers to surveys, and says what they come to."""

    def __init__(
        self,
        *,
        store: Store,
        vault: Vault,
        programmes: Programmes,
        partitions: int,
        simulated: bool,
        member_exists: MemberExists,
        machine_now: MachineClock,
        business_now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._vault = vault
        self._programmes = programmes
        self._partitions = partitions
        self._simulated = simulated
        self._member_exists = member_exists
        self._machine_now = machine_now
        self._business_now = business_now

    async def record(
        self,
        *,
        request_id: str,
        member_id: str,
        survey_id: str,
        score: int | None,
        choice: str,
        source: str,
        answered_time: datetime | None,
        comment: str = "",
    ) -> bool:
        """Keeps an answer to a survey, and says whether this request was answered before.

        A member may answer again: each answer stands, with its time. Raises SurveyUnknownError, FieldError for what
        is no answer to it, OccurredInFutureError, MemberUnknownError, MemberErasedError, RequestIdReusedError,
        PeerError.
        """
        partition = partition_of(member_id, self._partitions)
        sent = "" if answered_time is None else answered_time.isoformat()
        said = "" if score is None else score
        # What was sent before there were comments stands for the same as ever.
        more = (comment,) if comment else ()
        digest = keyed_digest(self._vault.request_key, "feedback", survey_id, said, choice, source, sent, *more)

        async def look(transaction: Transaction) -> bytes | None:
            return await transaction.find_feedback_request(partition, member_id, request_id)

        if (kept := await self._store.read(look)) is not None:
            return same_request(kept, digest)
        business_now = self._business_now()
        survey = self._programmes.at(business_now).survey(survey_id)
        if survey is None:
            raise SurveyUnknownError
        if not survey.takes(score, choice):
            raise _no_answer(survey)
        if answered_time is not None and lies_ahead(answered_time, business_now, simulated=self._simulated):
            raise OccurredInFutureError(answered_time, business_now)
        if not await is_member(self._store, self._member_exists, partition, member_id):
            raise MemberUnknownError

        async def work(transaction: Transaction) -> bool:
            # Whoever erases the member is before this or after it.
            await transaction.lock_partition(partition)
            if await transaction.find_erasure(partition, member_id) is not None:
                raise MemberErasedError
            sealed = None
            if comment:
                new = self._vault.wrap(member_id, self._vault.new_member_key())
                wrapped = await transaction.keep_member_key(partition, member_id, new)
                sealed = self._vault.seal_comment(member_id, wrapped, request_id, comment)
            answer = Answer(
                partition=partition,
                member_id=member_id,
                request_id=request_id,
                survey_id=survey_id,
                score=score,
                choice=choice,
                source=source,
                answered_time=answered_time or business_now,
                comment=sealed,
            )
            if await transaction.insert_feedback(answer, digest, self._machine_now()):
                return False
            return same_request(await transaction.find_feedback_request(partition, member_id, request_id), digest)

        return await self._store.transact(work)

    async def results(
        self,
        survey_id: str,
        *,
        from_time: datetime | None,
        until_time: datetime | None,
        by: Literal["version", "month"] | None,
    ) -> list[Period]:
        """What was answered in a span of time (None: since ever, without end), told apart by the version of the
        programme or by local month, or all together; spans without answers are left out.

        Raises SurveyUnknownError where no version has the survey, FieldError for a span that ends before it begins.
        """
        newest = next(
            (survey for one in reversed(self._programmes.all) if (survey := one.programme.survey(survey_id))), None
        )
        if newest is None:
            raise SurveyUnknownError
        first = from_time or SINCE_EVER
        if until_time is not None and until_time <= first:
            raise FieldError("until_time", "the span ends before it begins")
        starts = [first]
        if by == "version":
            starts += [one.from_time for one in self._programmes.all if one.from_time > first]
        elif by == "month":
            starts += _months(self._programmes.newest, first, until_time or self._business_now())

        async def read(transaction: Transaction) -> list[AnswerCount]:
            return await transaction.count_answers(survey_id, starts, until_time)

        counts = await self._store.read(read)
        ends = [until_time if end is None else end for _, end in pairwise([*starts, None])]
        return [
            self._period(newest, [one for one in counts if one.span == span], from_time, start, end)
            for span, (start, end) in enumerate(zip(starts, ends, strict=True), 1)
            if any(one.span == span for one in counts)
        ]

    def _period(
        self,
        newest: Survey,
        counts: Sequence[AnswerCount],
        from_time: datetime | None,
        start: datetime,
        end: datetime | None,
    ) -> Period:
        programme = self._programmes.at(start)
        survey = programme.survey(newest.id) or newest
        members = {one.choice if one.score is None else one.score: one.members for one in counts}
        return Period(
            from_time=None if from_time is None and start == SINCE_EVER else start,
            until_time=end,
            version=programme.version,
            result=result_of(survey, members),
        )


def _no_answer(survey: Survey) -> FieldError:
    """Says what would be an answer to a survey."""
    if survey.choices:
        return FieldError("choice", f"this survey is answered with one of its choices: {', '.join(survey.choices)}")
    scores = survey.scores
    return FieldError("score", f"this survey is answered with a score from {scores[0]} to {scores[-1]}")


def _months(programme: Programme, first: datetime, until: datetime) -> list[datetime]:
    """When local months begin, after one instant and before another."""
    day = programme.local_day(first).replace(day=1)
    starts: list[datetime] = []
    while True:
        day = date(day.year + day.month // 12, day.month % 12 + 1, 1)
        start = programme.start_of_local_day(day)
        if start >= until:
            return starts
        starts.append(start)
