"""What another version of the programme would do to members, compared at one instant."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from services.programme.model import BASIS_POINTS
from services.programme.versions import Versions
from services.tiers.domain.facts import FactKind, History
from services.tiers.domain.standing import Standing, evaluate
from services.tiers.errors import NotEnrolledError

# What discounts cost is told for so long a time.
_COST_SPAN = timedelta(days=365)
_BACK = (FactKind.RETURN, FactKind.VOID)


class Preview:
    """Compares members one by one; counts by the name of the tier, costs in minor units of the programme's currency.

    What members of another market spend goes by today's rate of the home market; without one it is left out.
    """

    def __init__(self, *, before: Versions, after: Versions, at_time: datetime, most_moves: int) -> None:
        self._before = before
        self._after = after
        self.at_time = at_time
        self._most_moves = most_moves
        self.members = 0
        self.tiers_before: Counter[str] = Counter()
        self.tiers_after: Counter[str] = Counter()
        self.rising = self.falling = 0
        self.moves: list[tuple[str, str, str]] = []
        """Member, the name of the tier before and after."""
        self.discounts_before = self.discounts_after = 0

    def add(self, member_id: str, history: History) -> None:
        """Looks at a member; one who is none at that instant is passed over."""
        try:
            before = evaluate(self._before, history, self.at_time)
            after = evaluate(self._after, history, self.at_time)
        except NotEnrolledError:
            return
        self.members += 1
        self.tiers_before[before.level.name] += 1
        self.tiers_after[after.level.name] += 1
        same = after.market.tiers.find_level(before.level.key)
        # A level that is gone is compared by its place.
        stood = before.level.number if same is None else same.number
        if after.level.number != stood:
            self.rising += after.level.number > stood
            self.falling += after.level.number < stood
            if len(self.moves) < self._most_moves:
                self.moves.append((member_id, before.level.name, after.level.name))
        home = self._after.at(self.at_time).market("")
        try:
            spent = home.at_home(_spent(history, self.at_time), before.market.currency, home.local_day(self.at_time))
        except LookupError:
            return
        self.discounts_before += _discount(before, spent)
        self.discounts_after += _discount(after, spent)


def _spent(history: History, at_time: datetime) -> int:
    """What a member bought less what it brought back, in the year before."""
    return max(
        sum(
            -fact.goods_paid if fact.kind in _BACK else fact.goods_paid
            for fact in history.facts
            if at_time - _COST_SPAN < fact.occurred_time <= at_time
        ),
        0,
    )


def _discount(standing: Standing, spent: int) -> int:
    return 0 if standing.benefits is None else spent * standing.benefits.discount_bp // BASIS_POINTS
