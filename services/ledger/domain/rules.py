"""The versions of the programme that a ledger goes by, as they are stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from services.ledger.errors import (
    AnnouncementTooShortError,
    ProgrammeInvalidError,
    ProgrammeOrderError,
    ProgrammeUnchangedError,
)
from services.programme.losses import ANNOUNCEMENT_DAYS, breaks, losses
from services.programme.model import Programme
from services.programme.versions import SINCE_EVER, Version, Versions

_LISTED_LOSSES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """A version as it was applied: the `number`th, counted from 1. Nobody asked for the first."""

    number: int
    programme: Programme
    document: str
    from_time: datetime
    recorded_time: datetime
    request_id: str = ""
    principal: str = ""
    on_behalf_of: str = ""
    request: bytes = b""


class Rules:
    """The versions that a process knows; they only become more.

    A partition goes by as many of them as its log tells of, so that what was decided follows from the log.
    """

    def __init__(self, stored: Iterable[StoredVersion]) -> None:
        """Raises ValueError where there are none, or they do not follow one another."""
        self._stored: tuple[StoredVersion, ...] = ()
        self._first: list[Versions] = []
        self.add(stored)
        if not self._stored:
            raise ValueError("a ledger has a version of the programme")

    @classmethod
    def only(cls, programme: Programme, *, recorded_time: datetime = SINCE_EVER) -> Rules:
        """A programme that has never been changed."""
        first = StoredVersion(
            number=1, programme=programme, document="", from_time=SINCE_EVER, recorded_time=recorded_time
        )
        return cls([first])

    @property
    def stored(self) -> Sequence[StoredVersion]:
        """All versions, in order."""
        return self._stored

    @property
    def versions(self) -> Versions:
        """All versions, in order, as rules go by them."""
        return self._first[-1]

    @property
    def books(self) -> Programme:
        """The first version, whose local days the books keep for ever: a day that is closed stays so."""
        return self._stored[0].programme

    def first(self, count: int) -> Versions:
        """The first so many versions."""
        return self._first[count - 1]

    def due_times_differ(self, before: int, after: int) -> bool:
        """Whether time may do something at other instants by the first `after` versions than by the first `before`."""
        programmes = [one.programme for one in self._stored[before - 1 : after]]
        return any(
            (one.expiry, one.time_zone) != (other.expiry, other.time_zone) for one, other in pairwise(programmes)
        )

    def add(self, stored: Iterable[StoredVersion]) -> None:
        """Takes in the versions that follow; those that are known already are passed over."""
        for one in stored:
            if one.number <= len(self._stored):
                continue
            if one.number != len(self._stored) + 1:
                raise ValueError("the versions of a programme have numbers without gaps")
            more = (*self._stored, one)
            self._first.append(Versions(Version(programme=each.programme, from_time=each.from_time) for each in more))
            self._stored = more


def check_change(last: StoredVersion, programme: Programme, from_time: datetime, now: datetime) -> None:
    """Raises where a version cannot follow the last one.

    Raises ProgrammeInvalidError, ProgrammeUnchangedError, ProgrammeOrderError, AnnouncementTooShortError.
    """
    before = last.programme
    if problems := breaks(before, programme):
        raise ProgrammeInvalidError("; ".join(problems), problems)
    if programme.version == before.version:
        raise ProgrammeUnchangedError(
            f"the programme is {before.version} since {last.from_time.isoformat()} already; a layout or a comment "
            "alone makes no version"
        )
    if from_time <= last.from_time:
        raise ProgrammeOrderError(
            f"{before.version} begins at {last.from_time.isoformat()}; a version that follows it begins later"
        )
    if from_time < now:
        raise ProgrammeOrderError(
            f"the clock stands at {now.isoformat()}, and nothing of the past is redrawn; begin then or later"
        )
    announced = now + timedelta(days=ANNOUNCEMENT_DAYS)
    if from_time < announced and (taken := losses(before, programme, programme.local_day(from_time))):
        said = " ".join(taken[:_LISTED_LOSSES])
        more = f" (and {len(taken) - _LISTED_LOSSES} more)" if len(taken) > _LISTED_LOSSES else ""
        raise AnnouncementTooShortError(
            f"what takes something away from members begins {ANNOUNCEMENT_DAYS} days after it is announced, here at "
            f"{announced.isoformat()} or later: {said}{more}"
        )
