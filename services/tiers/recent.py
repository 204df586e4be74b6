"""The states that were written last, in memory: who buys again soon needs no reading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from services.tiers.domain.facts import MemberKey
from services.tiers.domain.feed import Cursor
from services.tiers.domain.track import MemberState


class RecentStates:
    """States of members by partition, true for as long as the partition's cursor stands where it stood with them.

    Whoever else takes entries in moves the cursor. A due run that has not come to its end may leave it where it was:
    what it let pass, passes again when an older state is carried on.
    """

    def __init__(self, most: int) -> None:
        """`most`: how many are held of a partition; those written longest ago make room."""
        self._most = most
        self._held: dict[int, tuple[Cursor, dict[str, MemberState]]] = {}

    def find(self, keys: Iterable[MemberKey], cursors: Mapping[int, Cursor]) -> dict[MemberKey, MemberState]:
        """Those of these members that are held and true; `cursors`: the locked ones of their partitions."""
        found: dict[MemberKey, MemberState] = {}
        held = {partition: self._true(partition, cursor) for partition, cursor in cursors.items()}
        for key in keys:
            state = held[key[0]].get(key[1])
            if state is not None:
                found[key] = state
        return found

    def keep(
        self, before: Mapping[int, Cursor], after: Mapping[int, Cursor], states: Mapping[MemberKey, MemberState]
    ) -> None:
        """Takes over what was committed: where the cursors went from and to, and the states that were written."""
        for partition, cursor in after.items():
            self._held[partition] = (cursor, self._true(partition, before[partition]))
        for (partition, member_id), state in states.items():
            held = self._held[partition][1]
            held.pop(member_id, None)
            held[member_id] = state
            if len(held) > self._most:
                del held[next(iter(held))]

    def _true(self, partition: int, cursor: Cursor) -> dict[str, MemberState]:
        stood, states = self._held.get(partition, (None, {}))
        return states if stood == cursor else {}
