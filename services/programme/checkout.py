"""What a checkout gives by itself: discounts for whoever has enough points.

Pure: the standard library only. Money in minor units of the programme's currency, percentages in basis points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FREE_SHIPPING: Final = "free-shipping"
"""The benefit of a level that pays for shipping at a checkout, up to its maximum; others are for people to grant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomaticDiscount:
    """Taken off the goods of whoever has so many points available; none of them are spent.

    Exactly one of `percent_bp` and `amount` is set.
    """

    points: int
    percent_bp: int | None = None
    amount: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """What holds at every checkout."""

    automatic: tuple[AutomaticDiscount, ...] = ()
    """By points, rising: the one that the most points are needed for counts."""

    def automatic_for(self, points: int) -> AutomaticDiscount | None:
        """The discount of whoever has so many points available."""
        return next((one for one in reversed(self.automatic) if one.points <= points), None)
