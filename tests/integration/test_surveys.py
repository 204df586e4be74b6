"""Surveys: what members answer is kept once, sealed where it is their own words, and counted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.notifier.domain.contacts import partition_of
from services.notifier.errors import (
    FieldError,
    MemberErasedError,
    MemberUnknownError,
    OccurredInFutureError,
    RequestIdReusedError,
    SealError,
    SurveyUnknownError,
)
from services.notifier.service.surveys import Period
from services.notifier.store import Transaction
from services.notifier.store.surveys import Answer
from services.programme import parse
from services.programme.versions import SINCE_EVER, Version, Versions
from tests.campaign_desk import HEAD, PARTITIONS, START, VAULT, Desk, shop
from tests.integration.test_campaigns import OpenDesk, erase, open_desk

__all__ = ["open_desk"]

ASK = "{id: ask, trigger: first_purchase, survey: nps, message: {subject: Hi, text: There}}"
ANSWER: Mapping[str, Any] = {
    "request_id": "f-1", "member_id": "m-1", "survey_id": "nps", "score": 9, "choice": "", "source": "email",
    "answered_time": None,
}  # fmt: skip


async def answer(desk: Desk, **changed: Any) -> bool:
    return await desk.surveys.record(**{**ANSWER, **changed})


async def answers_of(desk: Desk, member_id: str) -> tuple[list[Answer], bytes | None]:
    """A member's answers, and what its key is wrapped in."""
    partition = partition_of(member_id, PARTITIONS)

    async def read(transaction: Transaction) -> tuple[list[Answer], bytes | None]:
        answers = await transaction.list_feedback(partition, member_id, 10)
        return answers, await transaction.find_member_key(partition, member_id)

    return await desk.store.read(read)


async def test_what_a_member_answers_is_kept_with_its_time_and_once_for_its_request(open_desk: OpenDesk) -> None:
    desk = await open_desk(ASK)
    await desk.join("m-1")
    await desk.buy("m-1")
    ((facts,),) = await desk.rows("deliveries", "facts", "1")
    assert '"survey_link": "https://shop.example/nps?survey=nps"' in facts
    assert await answer(desk) is False
    assert await answer(desk) is True
    for changed in ({"score": 8}, {"comment": "More tea."}):
        with pytest.raises(RequestIdReusedError):
            await answer(desk, **changed)
    # Asked again after a change, a member answers again.
    desk.business_now += timedelta(days=90)
    assert await answer(desk, request_id="f-2", score=10, source="till") is False
    rows = await desk.rows("feedback", "score, source, answered_time", "3")
    assert [(score, source) for score, source, _ in rows] == [(9, "email"), (10, "till")]
    wrong: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"survey_id": "none"}, SurveyUnknownError),
        ({"member_id": "m-9"}, MemberUnknownError),
    ]
    for changed, error in wrong:
        with pytest.raises(error):
            await answer(desk, request_id="f-3", **changed)


@pytest.mark.parametrize(
    ("changed", "field", "sentence"),
    [
        ({"score": 11}, "score", "this survey is answered with a score from 0 to 10"),
        ({"score": None}, "score", "this survey is answered with a score from 0 to 10"),
        ({"score": None, "choice": "tea"}, "score", "this survey is answered with a score from 0 to 10"),
        ({"survey_id": "which", "score": 1}, "choice", "this survey is answered with one of its choices: tea, coffee"),
        (
            {"survey_id": "which", "score": None, "choice": "cocoa"},
            "choice",
            "this survey is answered with one of its choices: tea, coffee",
        ),
    ],
)
async def test_what_is_no_answer_is_refused_and_told_what_would_be_one(
    open_desk: OpenDesk, changed: dict[str, Any], field: str, sentence: str
) -> None:
    desk = await open_desk(ASK)
    await desk.join("m-1")
    with pytest.raises(FieldError) as refused:
        await answer(desk, **changed)
    assert (refused.value.field, str(refused.value)) == (field, sentence)


@pytest.mark.parametrize(("simulated", "ahead"), [(False, timedelta(minutes=5)), (True, timedelta(days=2))])
async def test_an_answer_from_the_future_is_refused_unless_a_clock_runs_a_little_ahead(
    open_desk: OpenDesk, simulated: bool, ahead: timedelta
) -> None:
    desk = await open_desk(ASK, simulated=simulated)
    await desk.join("m-1")
    latest = desk.business_now + ahead
    with pytest.raises(OccurredInFutureError, match="lies in the future: the clock stands at"):
        await answer(desk, answered_time=latest + timedelta(microseconds=1))
    assert await desk.rows("feedback", "score", "1") == []
    assert await answer(desk, answered_time=latest) is False
    # What was taken stays the answer, wherever the clock stands by then.
    desk.business_now -= timedelta(days=1)
    assert await answer(desk, answered_time=latest) is True


async def test_nothing_is_kept_of_what_an_erased_member_answers(open_desk: OpenDesk) -> None:
    desk = await open_desk(ASK)
    await desk.join("m-1")
    await erase(desk, "m-1")
    with pytest.raises(MemberErasedError):
        await answer(desk, comment="More tea.")
    assert await desk.rows("feedback", "score", "1") == []
    assert await desk.rows("member_keys", "member_id", "1") == []


async def test_what_a_member_writes_is_sealed_with_its_own_key_and_in_its_place(open_desk: OpenDesk) -> None:
    desk = await open_desk(ASK)
    await desk.join("m-1")
    assert await answer(desk, comment="Zoë was lovely.") is False
    assert await answer(desk, comment="Zoë was lovely.") is True
    assert await answer(desk, request_id="f-2", comment="The queue was not.") is False
    second, first = sorted((await answers_of(desk, "m-1"))[0], key=lambda one: one.request_id, reverse=True)
    wrapped = (await answers_of(desk, "m-1"))[1]
    assert first.comment is not None
    assert second.comment is not None
    assert b"lovely" not in first.comment
    assert VAULT.open_comment("m-1", wrapped, "f-1", first.comment) == "Zoë was lovely."
    assert VAULT.open_comment("m-1", wrapped, "f-2", second.comment) == "The queue was not."
    with pytest.raises(SealError):
        VAULT.open_comment("m-1", wrapped, "f-1", second.comment)


async def test_an_erased_member_leaves_the_answer_and_nothing_of_its_own_words(open_desk: OpenDesk) -> None:
    desk = await open_desk(ASK)
    await desk.join("m-1")
    await answer(desk, comment="Zoë was lovely.")
    await erase(desk, "m-1")
    assert await desk.rows("feedback", "score, comment, content_digest", "1") == [(9, None, b"")]
    with pytest.raises(MemberErasedError):
        await answer(desk, comment="Zoë was lovely.")


def told(periods: list[Period]) -> list[tuple[datetime | None, datetime | None, int, int | None]]:
    return [(one.from_time, one.until_time, one.result.members, one.result.net_promoter_bp) for one in periods]


async def test_answers_before_a_change_are_compared_with_those_after_it(open_desk: OpenDesk) -> None:
    desk = await open_desk(ASK)
    before, change = desk.programme, START + timedelta(days=30)
    after = shop(ASK, "{id: more, trigger: purchase, points: 5}")
    desk.programmes.learn(
        Versions(
            [
                Version(programme=before, from_time=SINCE_EVER),
                Version(programme=after, from_time=change),
            ]
        )
    )
    await desk.join("m-1", "m-2", "m-3", "m-4")
    scores = {
        START: {"m-1": 3, "m-2": 6, "m-3": 9},
        # Who answers again before the change is counted once, as last said.
        START + timedelta(days=1): {"m-1": 7},
        change: {"m-1": 10, "m-2": 9, "m-3": 9, "m-4": 0},
    }
    for time, said in scores.items():
        desk.business_now = time
        for member_id, score in said.items():
            await answer(desk, request_id=f"{time}", member_id=member_id, score=score, answered_time=time)
    span = {"from_time": None, "until_time": None}
    first, second = await desk.surveys.results("nps", **span, by="version")
    # 9 against 6 and 7; then 9, 9, 10 against 0.
    assert told([first, second]) == [(None, change, 3, 0), (change, None, 4, 5000)]
    assert (first.version, second.version) == (before.version, after.version)
    assert [score for score, _ in first.result.answers] == list(range(11))
    assert [(score, members) for score, members in second.result.answers if members] == [(0, 1), (9, 2), (10, 1)]
    (whole,) = await desk.surveys.results("nps", **span, by=None)
    assert told([whole]) == [(None, None, 4, 5000)]
    (early,) = await desk.surveys.results("nps", from_time=START, until_time=START + timedelta(days=1), by=None)
    assert told([early]) == [(START, START + timedelta(days=1), 3, -3333)]
    with pytest.raises(FieldError):
        await desk.surveys.results("nps", from_time=change, until_time=change, by=None)
    with pytest.raises(SurveyUnknownError):
        await desk.surveys.results("none", **span, by=None)


async def test_answers_by_month_go_by_the_local_calendar_and_empty_months_are_left_out(open_desk: OpenDesk) -> None:
    desk = await open_desk(ASK)
    await desk.join("m-1", "m-2")
    # In Vienna midnight comes an hour before it does in UTC, in summer two.
    june = desk.business_now = datetime(2026, 5, 31, 22, tzinfo=UTC)
    await answer(desk, survey_id="which", score=None, choice="tea", answered_time=june - timedelta(seconds=1))
    june_answer = {"survey_id": "which", "score": None, "choice": "coffee", "answered_time": june}
    await answer(desk, member_id="m-2", **june_answer)
    desk.business_now = datetime(2026, 9, 1, tzinfo=UTC)
    may = datetime(2026, 4, 30, 22, tzinfo=UTC)
    july = datetime(2026, 6, 30, 22, tzinfo=UTC)
    span = {"from_time": None, "until_time": None}
    periods = await desk.surveys.results("which", **span, by="month")
    assert told(periods) == [(may, june, 1, None), (june, july, 1, None)]
    assert [one.result.answers for one in periods] == [[("tea", 1), ("coffee", 0)], [("tea", 0), ("coffee", 1)]]


async def test_a_survey_that_is_asked_no_more_can_still_be_read_and_not_answered(open_desk: OpenDesk) -> None:
    desk = await open_desk(ASK)
    await desk.join("m-1")
    await answer(desk, survey_id="which", score=None, choice="tea")
    without = HEAD.replace('  - {id: which, kind: choice, questions: {en: "Which?"}, choices: [tea, coffee]}\n', "")
    later = parse(without + f"  - {ASK}\n", "shop.yaml")
    versions = [
        Version(programme=desk.programme, from_time=SINCE_EVER),
        Version(programme=later, from_time=START + timedelta(days=1)),
    ]
    desk.programmes.learn(Versions(versions))
    desk.business_now += timedelta(days=2)
    (whole,) = await desk.surveys.results("which", from_time=None, until_time=None, by=None)
    assert whole.result.answers == [("tea", 1), ("coffee", 0)]
    with pytest.raises(SurveyUnknownError):
        await answer(desk, request_id="f-2", survey_id="which", score=None, choice="tea")
