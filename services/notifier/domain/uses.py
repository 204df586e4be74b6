"""Uses of coupons: reserved for a checkout, redeemed, given back; and why a coupon cannot be used.

A reservation whose time ran out is no reservation: it needs nobody who ends it. Until then its use may be redeemed,
whatever became of the coupon meanwhile: the customer was promised it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from services.notifier.domain.coupons import Coupon, CouponState
from services.programme.model import SUSPENDED, format_percent
from services.programme.rewards import Offer, OfferKind

# An amount of the programme's money as people read it: "10.00 PLN".
Money = Callable[[int], str]


class UseState(enum.StrEnum):
    """Where one use of a coupon is."""

    RESERVED = "reserved"
    REDEEMED = "redeemed"
    RELEASED = "released"


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponUse:
    """One use of a coupon. `reserved_until` is machine time, `redeemed_time` business time.

    `overdrawn` is the reason that spoke against a use that was given offline.
    """

    use_id: str
    member_id: str
    state: UseState
    reserved_until: datetime | None = None
    redeemed_time: datetime | None = None
    store_id: str = ""
    channel: str = ""
    purchase_id: str = ""
    overdrawn: str = ""

    def live(self, machine_now: datetime) -> bool:
        """Whether it is reserved, and its time has not run out."""
        return self.state is UseState.RESERVED and self.reserved_until is not None and machine_now < self.reserved_until


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponLoss:
    """Uses in one store (empty: not known) that were given offline although the same spoke against them; what the
    amounts of their coupons come to."""

    store_id: str
    reason: str
    uses: int
    minor_units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Goods:
    """A line of goods of a basket."""

    sku: str
    department: str
    minor_units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UseContext:
    """Where a coupon is to be used. Empty where it is not known: a member, a store, a channel.

    `tier` is the key of the tier whose benefits the member has, empty for none, SUSPENDED of an account that is, why
    there is no such member, or None where it was not asked. `goods` are the lines, None where they are not known;
    `minor_units` is what all goods come to, None likewise.
    """

    member_id: str = ""
    tier: str | Refusal | None = None
    store_id: str = ""
    channel: str = ""
    goods: tuple[Goods, ...] | None = None
    minor_units: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """The two clocks at one moment."""

    business: datetime
    machine: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why something is not done: a name of the contract's error reasons, and a sentence for people.

    `facts` are what a machine may want to know of it.
    """

    reason: str
    sentence: str
    facts: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """Sets a use aside for a time."""

    use_id: str
    context: UseContext
    ttl: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeem:
    """Uses a coupon. `reserved`: the use must have been reserved. `offline`: it was given already."""

    use_id: str
    context: UseContext
    occurred_time: datetime
    purchase_id: str = ""
    reserved: bool = False
    offline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Gives a use back; `redeemed`: also one that was redeemed."""

    use_id: str
    redeemed: bool = False


UseCommand = Reserve | Redeem | Release

# The use of a coupon in a checkout has the id of its sale.
OF_CHECKOUT: Final = re.compile(r"checkout-[0-9a-f]{32}", re.ASCII)

UNKNOWN_USE: Final = Refusal(reason="COUPON_USE_UNKNOWN", sentence="the coupon has no use of this id")
_REDEEMED: Final = Refusal(reason="COUPON_REDEEMED", sentence="the coupon was used already")
_RESERVED: Final = Refusal(
    reason="COUPON_RESERVED", sentence="another checkout has the coupon now; try again in some minutes"
)
_SUSPENDED: Final = Refusal(
    reason="ACCOUNT_SUSPENDED", sentence="the account is suspended: no coupon is taken with it until it is revived"
)
# Why somebody whose card is shown is no member.
ERASED: Final = Refusal(
    reason="MEMBER_ERASED", sentence="the member was erased: nothing is taken from, or given to, this card any more"
)
RESIGNED: Final = Refusal(
    reason="MEMBER_RESIGNED", sentence="the member has left: nothing is taken from, or given to, this card"
)
NO_MEMBER: Final = Refusal(reason="MEMBER_UNKNOWN", sentence="no member has this id; enrol the member first")
_USE_REDEEMED: Final = Refusal(
    reason="COUPON_USE_REDEEMED", sentence="the use was redeemed; it comes back with what was bought alone"
)


class Uses:
    """The uses of one coupon that matter for what is asked: those that are reserved, the ones named, and those of the
    members named. How many were redeemed in all, the coupon itself says."""

    def __init__(self, uses: Mapping[str, CouponUse]) -> None:
        self._uses = dict(uses)

    def get(self, use_id: str) -> CouponUse | None:
        """A use by its id."""
        return self._uses.get(use_id)

    def put(self, use: CouponUse) -> None:
        """Takes a use in, in place of what it was before."""
        self._uses[use.use_id] = use

    def reserved(self, machine_now: datetime, *, but: str = "") -> int:
        """How many are reserved, one aside."""
        return sum(use.live(machine_now) for use in self._uses.values() if use.use_id != but)

    def by_member(self, member_id: str, machine_now: datetime, *, but: str = "") -> bool:
        """Whether a member has redeemed or reserved one, one aside."""
        return any(
            use.member_id == member_id and (use.state is UseState.REDEEMED or use.live(machine_now))
            for use in self._uses.values()
            if use.use_id != but
        )


def why_not(
    coupon: Coupon, uses: Uses, context: UseContext, now: Now, money: Money, *, use_id: str = ""
) -> Refusal | None:
    """Why a coupon cannot be used there and then; None where it can. `use_id`: the use that it would be."""
    return (
        _why_not_at_all(coupon, uses, context, now, use_id)
        or _why_not_here(coupon, context)
        or _why_not_for_basket(coupon, context, money)
    )


def needs_tier(coupon: Coupon, uses: Uses, context: UseContext, now: Now, *, use_id: str = "") -> bool:
    """Whether `why_not` has to know the member's tier, and was not told it: nothing before it speaks against the
    coupon. The tier also says whether the account is suspended, or nobody's."""
    if context.tier is not None or not context.member_id:
        return False
    return _why_not_at_all(coupon, uses, context, now, use_id) is None


def _why_not_at_all(coupon: Coupon, uses: Uses, context: UseContext, now: Now, use_id: str) -> Refusal | None:
    return (
        _why_never(coupon, now)
        or _why_not_by_whom(coupon, uses, context, now, use_id)
        or _why_not_left(coupon, uses, now, use_id)
    )


def _why_never(coupon: Coupon, now: Now) -> Refusal | None:
    if coupon.voided_time is not None and coupon.redeemed < coupon.uses:
        return Refusal(reason="COUPON_VOIDED", sentence="the coupon was taken back")
    if coupon.redeemed < coupon.uses and now.business >= coupon.valid_until_time:
        return Refusal(reason="COUPON_EXPIRED", sentence="the time of the coupon is over")
    return None


def _why_not_by_whom(coupon: Coupon, uses: Uses, context: UseContext, now: Now, use_id: str) -> Refusal | None:
    if coupon.member_id and context.member_id != coupon.member_id:
        sentence = (
            "the coupon is another member's" if context.member_id else "the coupon is a member's: ask for the card"
        )
        return Refusal(reason="COUPON_NOT_FOR_MEMBER", sentence=sentence)
    if coupon.once_per_member:
        if not context.member_id:
            return Refusal(reason="COUPON_NOT_FOR_MEMBER", sentence="the coupon is for members: ask for the card")
        if uses.by_member(context.member_id, now.machine, but=use_id):
            return Refusal(reason="COUPON_USED_BY_MEMBER", sentence="each member can use the coupon once")
    return None


def _why_not_left(coupon: Coupon, uses: Uses, now: Now, use_id: str) -> Refusal | None:
    if coupon.redeemed >= coupon.uses:
        return _REDEEMED
    if coupon.redeemed + uses.reserved(now.machine, but=use_id) >= coupon.uses:
        return _RESERVED
    return None


def _why_not_here(coupon: Coupon, context: UseContext) -> Refusal | None:
    terms = coupon.terms
    if isinstance(context.tier, Refusal):
        return context.tier
    # A gift card that is nobody's is money, and no benefit of the account.
    is_money = coupon.offer.kind is OfferKind.GIFT_CARD and not coupon.member_id and not terms.tiers
    if context.tier == SUSPENDED and not is_money:
        return _SUSPENDED
    if terms.tiers and context.tier not in terms.tiers:
        return Refusal(reason="COUPON_NOT_FOR_TIER", sentence="the coupon is for members of other tiers")
    if terms.stores and context.store_id not in terms.stores:
        return Refusal(reason="COUPON_NOT_FOR_STORE", sentence="the coupon is not taken in this store")
    if terms.channels and context.channel not in terms.channels:
        return Refusal(reason="COUPON_NOT_FOR_CHANNEL", sentence="the coupon is not taken in this channel")
    return None


def _why_not_for_basket(coupon: Coupon, context: UseContext, money: Money) -> Refusal | None:
    terms = coupon.terms
    goods = context.goods
    if goods is None:
        worth = None if terms.skus or terms.departments else context.minor_units
    else:
        meant = [line for line in goods if applies(coupon, line)]
        if (terms.skus or terms.departments) and not meant:
            return Refusal(reason="COUPON_GOODS_MISSING", sentence="the basket has nothing that the coupon is for")
        worth = sum(line.minor_units for line in meant)
    if worth is not None and worth < terms.minimum_minor_units:
        return Refusal(
            reason="COUPON_BELOW_MINIMUM",
            sentence=f"the goods that the coupon is for must come to {money(terms.minimum_minor_units)}",
            facts={"minimum_minor_units": str(terms.minimum_minor_units), "minor_units": str(worth)},
        )
    return None


def applies(coupon: Coupon, line: Goods) -> bool:
    """Whether a line counts for a coupon, and is made cheaper by it."""
    terms = coupon.terms
    if not terms.skus and not terms.departments:
        return True
    return line.sku in terms.skus or line.department in terms.departments


def decide(coupon: Coupon, uses: Uses, command: UseCommand, now: Now, money: Money) -> CouponUse | Refusal:
    """The use as it is after a command, or why nothing changes. The same command again gives the same use.

    The coupon is one that was issued; `redeemed` of it is the caller's to count (`counted`).
    """
    match command:
        case Reserve():
            return _reserve(coupon, uses, command, now, money)
        case Redeem():
            return _redeem(coupon, uses, command, now, money)
        case Release():
            return _release(uses, command)


def counted(coupon: Coupon, before: CouponUse | None, after: CouponUse) -> Coupon:
    """The coupon with its count of redeemed uses as it is after one changed."""
    was = before is not None and before.state is UseState.REDEEMED
    now = after.state is UseState.REDEEMED
    return coupon if was == now else replace(coupon, redeemed=coupon.redeemed + (1 if now else -1))


def state_of(coupon: Coupon, uses: Uses, now: Now) -> CouponState:
    """Where a coupon is in its life, its reservations counted in."""
    return coupon.state_at(now.business, uses.reserved(now.machine))


def asks_tier(coupon: Coupon, uses: Uses, command: UseCommand, now: Now) -> bool:
    """Whether a command cannot be decided before the member's tier was asked; what was promised needs no tier."""
    if isinstance(command, Release):
        return False
    kept = uses.get(command.use_id)
    if kept is not None and (kept.state is UseState.REDEEMED or kept.live(now.machine)):
        return False
    return needs_tier(coupon, uses, command.context, now, use_id=command.use_id)


def worth(offer: Offer, money: Money) -> str:
    """What an offer is, in words for the cashier."""
    match offer.kind:
        case OfferKind.DISCOUNT_PERCENT:
            return f"{format_percent(offer.percent_bp or 0)} off"
        case OfferKind.DISCOUNT_AMOUNT:
            return f"{money(offer.amount or 0)} off"
        case OfferKind.FREE_PRODUCT:
            return f"free: {offer.sku}"
        case OfferKind.FREE_SHIPPING:
            return "free shipping" if offer.amount is None else f"free shipping, up to {money(offer.amount)}"
        case OfferKind.GIFT_CARD:
            return f"a gift card of {money(offer.amount or 0)}"
        case OfferKind.BONUS_POINTS:
            return f"{offer.points} points"
        case _:
            return offer.detail


def _reserve(coupon: Coupon, uses: Uses, command: Reserve, now: Now, money: Money) -> CouponUse | Refusal:
    kept, context = uses.get(command.use_id), command.context
    if kept is not None and kept.state is UseState.REDEEMED:
        return _REDEEMED
    if kept is not None and kept.live(now.machine):
        return replace(kept, reserved_until=now.machine + command.ttl)
    refusal = why_not(coupon, uses, context, now, money, use_id=command.use_id)
    if refusal is not None:
        return refusal
    return CouponUse(
        use_id=command.use_id,
        member_id=context.member_id,
        state=UseState.RESERVED,
        reserved_until=now.machine + command.ttl,
        store_id=context.store_id,
        channel=context.channel,
    )


def _redeem(coupon: Coupon, uses: Uses, command: Redeem, now: Now, money: Money) -> CouponUse | Refusal:
    kept, context = uses.get(command.use_id), command.context
    if kept is None and command.reserved and not command.offline:
        return UNKNOWN_USE
    if kept is not None and kept.state is UseState.REDEEMED:
        return kept
    overdrawn = ""
    if kept is None or not kept.live(now.machine):
        refusal = why_not(coupon, uses, context, now, money, use_id=command.use_id)
        if refusal is not None and not command.offline:
            return refusal
        overdrawn = refusal.reason if refusal else ""
    return CouponUse(
        use_id=command.use_id,
        # Of whom was erased nothing new is written down.
        member_id=(context.member_id if context.tier != ERASED else "") or (kept.member_id if kept else ""),
        state=UseState.REDEEMED,
        redeemed_time=command.occurred_time,
        store_id=context.store_id or (kept.store_id if kept else ""),
        channel=context.channel or (kept.channel if kept else ""),
        purchase_id=command.purchase_id,
        overdrawn=overdrawn,
    )


def _release(uses: Uses, command: Release) -> CouponUse | Refusal:
    kept = uses.get(command.use_id)
    if kept is None:
        return UNKNOWN_USE
    if kept.state is UseState.REDEEMED and not command.redeemed:
        return _USE_REDEEMED
    if kept.state is UseState.RELEASED:
        return kept
    return replace(kept, state=UseState.RELEASED, reserved_until=None, redeemed_time=None, overdrawn="")
