"""What the answers to a survey come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.programme.campaigns import Survey, SurveyKind
from services.programme.model import BASIS_POINTS

_PROMOTERS = range(9, 11)
_DETRACTORS = range(7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Members by answer (a score, or a choice), every answer that there is in its order; and what they come to."""

    answers: Sequence[tuple[int | str, int]]
    members: int
    net_promoter_bp: int | None
    """Of NPS: the share of 9 and 10 less that of 0 to 6."""
    mean_star_hundredths: int | None
    """Of stars."""

    def share_bp(self, members: int) -> int:
        """The part of these members of all who answered."""
        return _rounded(members * BASIS_POINTS, self.members)


def result_of(survey: Survey, counts: Mapping[int | str, int]) -> Result:
    """The result of a survey; `counts`: members by answer, at least one. Answers that it has no more come last."""
    known: Iterable[int | str] = survey.scores or survey.choices
    members = sum(counts.values())
    order = [*known, *sorted((answer for answer in counts if answer not in known), key=str)]
    net_promoter = mean = None
    if survey.kind is SurveyKind.NPS:
        promoters, detractors = (sum(counts.get(score, 0) for score in scores) for scores in (_PROMOTERS, _DETRACTORS))
        net_promoter = _rounded((promoters - detractors) * BASIS_POINTS, members)
    elif survey.kind is SurveyKind.STARS:
        mean = _rounded(sum(100 * stars * counts.get(stars, 0) for stars in survey.scores), members)
    return Result(
        answers=[(answer, counts.get(answer, 0)) for answer in order],
        members=members,
        net_promoter_bp=net_promoter,
        mean_star_hundredths=mean,
    )


def _rounded(part: int, whole: int) -> int:
    """A quotient, rounded half up."""
    return (2 * part + whole) // (2 * whole)
