"""What members answered to surveys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.notifier.store.table import QUERIES, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer to a survey, in business time; `comment` is sealed, None where nothing was written."""

    partition: int
    member_id: str
    request_id: str
    survey_id: str
    score: int | None
    choice: str
    source: str
    answered_time: datetime
    comment: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCount:
    """How many members gave an answer in a span, which is known by its place, from 1."""

    span: int
    score: int | None
    choice: str
    members: int


class Surveys(Table):
    """Answers."""

    async def insert_feedback(self, answer: Answer, digest: bytes, now: datetime) -> bool:
        """Keeps an answer; False where this request was kept before."""
        kept = await self._connection.fetchval(
            QUERIES["insert_feedback"],
            answer.partition,
            answer.member_id,
            answer.request_id,
            digest,
            answer.survey_id,
            answer.score,
            answer.choice,
            answer.source,
            answer.answered_time,
            now,
            answer.comment,
        )
        return kept is not None

    async def find_feedback_request(self, partition: int, member_id: str, request_id: str) -> bytes | None:
        """What stands for the content of an answer."""
        digest: bytes | None = await self._connection.fetchval(
            QUERIES["find_feedback_request"], partition, member_id, request_id
        )
        return digest

    async def list_feedback(self, partition: int, member_id: str, limit: int) -> list[Answer]:
        """A member's answers, the newest first."""
        rows = await self._connection.fetch(QUERIES["list_feedback"], partition, member_id, limit)
        return [Answer(partition=partition, member_id=member_id, **row) for row in rows]

    async def count_answers(
        self, survey_id: str, starts: Sequence[datetime], until: datetime | None
    ) -> list[AnswerCount]:
        """Answers to a survey in the spans that begin at these instants, which rise; the last ends at `until`."""
        rows = await self._connection.fetch(QUERIES["count_answers"], survey_id, list(starts), until)
        return [AnswerCount(**row) for row in rows]
