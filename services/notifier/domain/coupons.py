"""Coupons: what they are good for, and where they are in their life."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from services.programme.rewards import Offer, Terms

# The partition of a member, and its id.
MemberKey = tuple[int, str]
# partition, campaign, member, trigger: what a coupon is given for, once.
GiftKey = tuple[int, str, str, str]


class CouponState(enum.StrEnum):
    """Where a coupon is in its life."""

    PREPARING = "preparing"
    """It is being made; nobody is told of it."""
    ISSUED = "issued"
    RESERVED = "reserved"
    """What is left of it is set aside for checkouts."""
    REDEEMED = "redeemed"
    """All its uses are used."""
    EXPIRED = "expired"
    VOID = "void"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupon:
    """A coupon as it was issued.

    `member_id` is empty where it is good for whoever holds it, `campaign_id` where no campaign gave it. `trigger` is
    what it was given for: `change:17` is the 17th change of tier of its partition. `variant` is more than 0 where
    another coupon of the partition had the code that came first. `redeemed` counts the uses that were redeemed. The
    last three are set where it was taken back: when, and by which change of tier or why.
    """

    partition: int
    campaign_id: str
    member_id: str
    trigger: str
    code: str
    variant: int
    offer: Offer
    terms: Terms = Terms()
    uses: int = 1
    once_per_member: bool = False
    reward_id: str = ""
    reason: str = ""
    issued_by: str = ""
    preparing: bool = False
    redeemed: int = 0
    issued_time: datetime
    valid_until_time: datetime
    voided_time: datetime | None = None
    voided_by: int | None = None
    void_reason: str = ""

    @property
    def key(self) -> GiftKey:
        """What it was given for."""
        return self.partition, self.campaign_id, self.member_id, self.trigger

    @property
    def member_key(self) -> MemberKey:
        """To whom it was given."""
        return self.partition, self.member_id

    @property
    def uses_left(self) -> int:
        """How often it can still be used; offline it may have been used more often than it can be."""
        return max(0, self.uses - self.redeemed)

    def state_at(self, business_now: datetime, reserved: int = 0) -> CouponState:
        """Its state at an instant: it is valid before its end, unless it was taken back. `reserved`: so many of its
        uses are set aside; those may still be redeemed, whatever happens to it."""
        if self.preparing:
            return CouponState.PREPARING
        if self.redeemed >= self.uses:
            return CouponState.REDEEMED
        if self.voided_time is not None:
            return CouponState.VOID
        if self.redeemed + reserved >= self.uses:
            return CouponState.RESERVED
        return CouponState.EXPIRED if business_now >= self.valid_until_time else CouponState.ISSUED


def digested(trigger: str) -> str:
    """What of a trigger goes into codes and ids: of a change of tier its number alone, as ever."""
    return trigger.removeprefix("change:")


def is_change(trigger: str) -> bool:
    """Whether a trigger is a change of tier."""
    return trigger.startswith("change:")
