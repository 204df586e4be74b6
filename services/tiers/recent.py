"""What was written or told last, in memory: who buys again soon, or is asked for again, needs no reading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from services.tiers.domain.facts import MemberKey
from services.tiers.domain.feed import Cursor
from services.tiers.domain.standing import Standing
from services.tiers.domain.track import MemberState


class RecentStates:
    """States of members by partition, true for as long as the partition's cursor stands where it stood with them.

    Whoever else takes entries in moves the cursor. A due run that has not come to its end may leave it where it was:
    what it let pass, passes again when an older state is carried on, and holds no longer when it is told.
    """

    def __init__(self, most: int) -> None:
        """`most`: how many are held of a partition; those written or told longest ago make room."""
        self._most = most
        self._held: dict[int, tuple[Cursor, dict[str, tuple[MemberState, Standing | None]]]] = {}

    def find(self, keys: Iterable[MemberKey], cursors: Mapping[int, Cursor]) -> dict[MemberKey, MemberState]:
        """Those of these members that are held and true; `cursors`: the locked ones of their partitions."""
        found: dict[MemberKey, MemberState] = {}
        held = {partition: self._true(partition, cursor) for partition, cursor in cursors.items()}
        for key in keys:
            known = held[key[0]].get(key[1])
            if known is not None:
                found[key] = known[0]
        return found

    def keep(
        self, before: Mapping[int, Cursor], after: Mapping[int, Cursor], states: Mapping[MemberKey, MemberState]
    ) -> None:
        """Takes over what was committed: where the cursors went from and to, and the states that were written."""
        for partition, cursor in after.items():
            self._held[partition] = (cursor, self._true(partition, before[partition]))
        for (partition, member_id), state in states.items():
            self._hold(partition, member_id, state, None)

    def told(self, member_id: str) -> tuple[MemberState, Standing] | None:
        """The standing that was told of a member last, where its state is the same still, as far as is known."""
        for _, states in self._held.values():
            known = states.get(member_id)
            if known is not None:
                state, standing = known
                return None if standing is None else (state, standing)
        return None

    def tell(self, cursor: Cursor, member_id: str, state: MemberState, standing: Standing) -> None:
        """Takes over a standing that was made of what was read while the member's cursor stood there."""
        stood, states = self._held.setdefault(cursor.partition, (cursor, {}))
        if stood == cursor:
            self._hold(cursor.partition, member_id, state, standing)
        else:
            # What was read may be newer: nobody is told what is older afterwards.
            states.pop(member_id, None)

    def look(self, cursors: Mapping[int, Cursor]) -> None:
        """Forgets the partitions whose cursors, as they were read, stand elsewhere."""
        for partition, cursor in cursors.items():
            if not self._true(partition, cursor):
                self._held.pop(partition, None)

    def forget(self) -> None:
        """Forgets all."""
        self._held.clear()

    def _hold(self, partition: int, member_id: str, state: MemberState, standing: Standing | None) -> None:
        held = self._held[partition][1]
        held.pop(member_id, None)
        held[member_id] = (state, standing)
        if len(held) > self._most:
            del held[next(iter(held))]

    def _true(self, partition: int, cursor: Cursor) -> dict[str, tuple[MemberState, Standing | None]]:
        stood, states = self._held.get(partition, (None, {}))
        return states if stood == cursor else {}
