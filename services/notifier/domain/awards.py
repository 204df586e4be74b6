"""Points that campaigns give: asked of the ledger until it has answered, each under one request id."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.notifier.domain.deliveries import Random

_FIRST: Final = timedelta(seconds=5)
_LONGEST: Final = timedelta(hours=1)
_JITTER: Final = 0.2


class AwardState(enum.StrEnum):
    """Where points are on their way."""

    QUEUED = "queued"
    GIVEN = "given"
    REFUSED = "refused"
    """The ledger has said no, for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Award:
    """Points for a member. With a purchase they go where that is returned. `lasting`: how long they last (`P90D`);
    empty: as the programme says.

    Where the ledger refuses them, the campaign's budget has them back, with their value in `minor_units`; and the time
    itself where they are `alone`: the occasion brings neither coupon nor badge beside them.
    """

    partition: int
    campaign_id: str
    member_id: str
    trigger: str
    points: int
    minor_units: int
    alone: bool
    purchase_id: str = ""
    lasting: str = ""

    @property
    def request_id(self) -> str:
        """The same whenever it is asked for, and no other's."""
        digest = hashlib.sha256(f"{self.campaign_id}\0{self.member_id}\0{self.trigger}".encode()).hexdigest()
        return f"campaign:{digest[:48]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DueAward:
    """Points whose time has come."""

    award: Award
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AwardSettlement:
    """What came of asking."""

    award: Award
    state: AwardState
    attempts: int
    not_before: datetime
    last_error: str = ""


def asked(due: DueAward, refusal: str | None, now: datetime) -> AwardSettlement:
    """The ledger has answered: given where there is no refusal."""
    return AwardSettlement(
        award=due.award,
        state=AwardState.GIVEN if refusal is None else AwardState.REFUSED,
        attempts=due.attempts + 1,
        not_before=now,
        last_error=refusal or "",
    )


def put_back(due: DueAward, now: datetime) -> AwardSettlement:
    """The ledger was not asked."""
    return AwardSettlement(award=due.award, state=AwardState.QUEUED, attempts=due.attempts, not_before=now)


def unanswered(due: DueAward, error: str, now: datetime, random: Random) -> AwardSettlement:
    """The ledger has not answered: it is asked again, after pauses that grow to an hour."""
    pause = min(_FIRST * 2 ** min(due.attempts, 20), _LONGEST) * (1 - _JITTER * random())
    return AwardSettlement(
        award=due.award,
        state=AwardState.QUEUED,
        attempts=min(due.attempts + 1, 30_000),
        not_before=now + pause,
        last_error=error,
    )
