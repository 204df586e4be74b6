"""What the answers to a survey come to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.notifier.domain.surveys import result_of
from services.programme import Survey, SurveyKind

NPS = Survey(id="nps", kind=SurveyKind.NPS, questions={"en": "Would you recommend us?"})
STARS = Survey(id="stars", kind=SurveyKind.STARS, questions={"en": "How was it?"})
WHICH = Survey(id="which", kind=SurveyKind.CHOICE, questions={"en": "Which?"}, choices=("tea", "coffee"))


def test_promoters_give_9_or_10_detractors_6_or_less_and_7_and_8_count_in_the_whole_alone() -> None:
    assert result_of(NPS, {10: 2, 9: 1, 8: 1, 7: 1, 6: 1}).net_promoter_bp == 3333
    assert result_of(NPS, {0: 1, 6: 1}).net_promoter_bp == -10000
    assert result_of(NPS, {7: 3, 8: 2}).net_promoter_bp == 0
    assert result_of(NPS, {9: 1}).mean_star_hundredths is None


def test_stars_have_a_mean_and_choices_have_shares() -> None:
    assert result_of(STARS, {5: 2, 4: 1}).mean_star_hundredths == 467
    assert result_of(STARS, {5: 1}).net_promoter_bp is None
    result = result_of(WHICH, {"coffee": 2, "cocoa": 1})
    # What can be chosen no more was chosen nevertheless.
    assert result.answers == [("tea", 0), ("coffee", 2), ("cocoa", 1)]
    assert [result.share_bp(members) for _, members in result.answers] == [0, 6667, 3333]


@given(st.dictionaries(st.integers(0, 10), st.integers(1, 1000), min_size=1))
def test_a_net_promoter_score_lies_between_minus_100_and_100_and_turns_with_the_answers(
    counts: dict[int | str, int],
) -> None:
    score = result_of(NPS, counts).net_promoter_bp
    assert score is not None
    assert -10000 <= score <= 10000
    assert sum(members for _, members in result_of(NPS, counts).answers) == sum(counts.values())
