"""The versions of a programme, one after the other: each holds from its instant on, for all services (DESIGN §8)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, overload

from services.programme.model import Programme

SINCE_EVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""From when the first version holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A programme with the instant from which it holds."""

    programme: Programme
    from_time: datetime
    recorded_time: datetime = SINCE_EVER
    """When it became known."""


class Versions(Sequence[Version]):
    """All versions, the earliest first; their instants rise. There is at least one, and it holds since ever."""

    __slots__ = ("_starts", "_versions")

    def __init__(self, versions: Iterable[Version]) -> None:
        """Raises ValueError where the first does not hold since ever, or their instants do not rise."""
        self._versions = tuple(versions)
        self._starts = [version.from_time for version in self._versions]
        if not self._starts or self._starts[0] != SINCE_EVER:
            raise ValueError("the first version of a programme holds since ever")
        if any(later <= earlier for earlier, later in zip(self._starts, self._starts[1:], strict=False)):
            raise ValueError("the versions of a programme hold one after the other")

    @classmethod
    def only(cls, programme: Programme) -> Versions:
        """A programme that has never been changed."""
        return cls([Version(programme=programme, from_time=SINCE_EVER)])

    @overload
    def __getitem__(self, index: int) -> Version: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Version]: ...
    def __getitem__(self, index: int | slice) -> Version | Sequence[Version]:
        return self._versions[index]

    def __len__(self) -> int:
        return len(self._versions)

    def known_at(self, t: datetime) -> Versions:
        """Those that were known at an instant; the first always was."""
        return Versions([self._versions[0], *(one for one in self._versions[1:] if one.recorded_time <= t)])

    def number_at(self, t: datetime) -> int:
        """The place, from 0, of the version that holds at an instant."""
        return max(bisect_right(self._starts, t) - 1, 0)

    def at(self, t: datetime) -> Programme:
        """The programme that holds at an instant."""
        return self._versions[self.number_at(t)].programme

    def named(self, version: str) -> Programme | None:
        """The programme of a version's name."""
        return next((one.programme for one in self._versions if one.programme.version == version), None)
