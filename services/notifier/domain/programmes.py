"""The versions of the programme, as far as the notifier knows them."""

from __future__ import annotations

from datetime import datetime

from services.programme.model import Programme
from services.programme.versions import Versions


class Programmes:
    """The configured programme, until the ledger was asked; then all versions that it goes by."""

    def __init__(self, configured: Programme) -> None:
        self.configured = configured
        self._versions = Versions.only(configured)
        self.asked = False

    def learn(self, versions: Versions) -> None:
        """Takes in what the ledger said."""
        self._versions = versions
        self.asked = True

    def knows(self, version: str, from_time: datetime | None = None) -> bool:
        """Whether there is a version of this name; with an instant, one that holds from then on."""
        if from_time is None:
            return self._versions.named(version) is not None
        return any(one.programme.version == version and one.from_time == from_time for one in self._versions)

    def begins_after(self, version: str, time: datetime) -> bool:
        """Whether a version of this name begins to hold after an instant."""
        return any(one.programme.version == version and one.from_time > time for one in self._versions)

    @property
    def all(self) -> Versions:
        """All versions that are known."""
        return self._versions

    @property
    def newest(self) -> Programme:
        """The one that holds last."""
        return self._versions[-1].programme

    def at(self, t: datetime) -> Programme:
        """The programme that holds at an instant."""
        return self._versions.at(t)
