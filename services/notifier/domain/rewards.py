"""The catalogue as it is for one member, and rewards on their way: asked for, prepared, issued or refused."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from services.notifier.domain.bookings import reward_name
from services.notifier.domain.coupons import Coupon
from services.notifier.domain.uses import Refusal
from services.programme.model import SUSPENDED
from services.programme.rewards import Offer, OfferKind, Reward, RewardText

_LANGUAGE_ENDS: Final = "-"


class IntentState(enum.StrEnum):
    """How far a reward that was asked for has come."""

    BEGUN = "begun"
    """It is counted; points may be held."""
    PREPARED = "prepared"
    """Its coupon is there, and nobody's yet; points are held."""
    ISSUED = "issued"
    REFUSED = "refused"


class ReversalState(enum.StrEnum):
    """How far the taking back of a reward has come."""

    BEGUN = "begun"
    """Its coupon is void; the ledger may have given the points back."""
    DONE = "done"
    REFUSED = "refused"
    """The ledger will not give them back: of a member that was erased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardReversal:
    """The taking back of a reward that was issued. `request_id` is that of the reward; times as of RewardIntent."""

    partition: int
    member_id: str
    request_id: str
    principal: str
    begun_time: datetime
    state: ReversalState
    not_before: datetime
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardIntent:
    """A reward that a member asked for. `begun_time` is business time; `not_before`, before which nobody but who began
    it goes on with it, machine time."""

    partition: int
    member_id: str
    request_id: str
    content_digest: bytes
    reward_id: str
    principal: str
    begun_time: datetime
    points: int
    money_minor_units: int
    state: IntentState
    from_stock: bool
    not_before: datetime
    code: str = ""
    refusal: Refusal | None = None
    attempts: int = 0

    @property
    def trigger(self) -> str:
        """What its coupon was given for."""
        return f"reward:{self.request_id}"

    @property
    def open(self) -> bool:
        """Whether it is neither issued nor refused."""
        return self.state in (IntentState.BEGUN, IntentState.PREPARED)

    def ledger_id(self, key: bytes, step: str) -> str:
        """The id of a request to the ledger for it: the same at every try, and nobody else's."""
        return f"{reward_name(key, self.partition, self.member_id, self.request_id)}-{step}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardFacts:
    """What decides whether a member can have a reward. `no_member`: why nobody is a member by this id any more; `tier`:
    the key of the tier whose benefits the member has, SUSPENDED of an account that is; `pool_empty`: the pool of its
    codes has none left. None: not known, or no limit."""

    tier: str
    segments: frozenset[str]
    day: date
    no_member: Refusal | None = None
    pool_empty: bool = False
    points: int | None = None
    stock_left: int | None = None
    left_for_member: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedReward:
    """A reward as it is for a member, with what stands in the way."""

    reward: Reward
    language: str
    text: RewardText
    obstacles: tuple[Refusal, ...]
    points_missing: int
    stock_left: int | None
    left_for_member: int | None
    until_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RedeemedReward:
    """What a member got for points: a coupon or bonus points; the same of what was taken back, where the money is 0 if
    another request hands it out. `redemption_id`: at the ledger."""

    coupon: Coupon | None
    points: int
    money_minor_units: int
    bonus_points: int
    redemption_id: str


def obstacles(reward: Reward, facts: RewardFacts) -> Iterator[Refusal]:
    """Why a member cannot have a reward now, what cannot be helped first."""
    if not offered_on(reward, facts.day):
        yield Refusal(reason="REWARD_NOT_OFFERED_NOW", sentence="the reward cannot be had today")
    if facts.no_member is not None:
        yield facts.no_member
    elif facts.tier == SUSPENDED:
        yield Refusal(reason="ACCOUNT_SUSPENDED", sentence="the account is suspended, and its points are frozen")
    elif reward.tiers and facts.tier not in reward.tiers:
        yield Refusal(reason="REWARD_NOT_FOR_MEMBER", sentence="the reward is for members of other tiers")
    elif reward.segments and not reward.segments & facts.segments:
        yield Refusal(reason="REWARD_NOT_FOR_MEMBER", sentence="the reward is for other members")
    if facts.pool_empty or (facts.stock_left is not None and facts.stock_left <= 0):
        yield OUT_OF_STOCK
    if facts.left_for_member is not None and facts.left_for_member <= 0:
        yield LIMIT_REACHED
    if facts.points is not None and facts.points < reward.points:
        yield Refusal(
            reason="NOT_ENOUGH_POINTS",
            sentence=f"{reward.points - facts.points} points are missing",
            facts={"points_missing": str(reward.points - facts.points)},
        )


OUT_OF_STOCK: Final = Refusal(reason="OUT_OF_STOCK", sentence="none is left")
LIMIT_REACHED: Final = Refusal(
    reason="REWARD_LIMIT_REACHED", sentence="the member has had the reward as often as a member can"
)


def wrong_money(reward: Reward, paid: int, currency: str, money: Callable[[int], str]) -> Refusal | None:
    """Why what was paid beside the points is not what the reward asks for."""
    if paid == reward.money_minor_units:
        return None
    asked = money(reward.money_minor_units)
    return Refusal(
        reason="REWARD_MONEY_DIFFERS",
        sentence=f"beside the points {asked} are to be paid, and the request says {money(paid)}",
        facts={"money_minor_units": str(reward.money_minor_units), "currency_code": currency},
    )


def why_not_reversed(coupon: Coupon | None, reserved: int) -> Refusal | None:
    """Why a reward that was issued cannot be taken back; None where it can. `coupon`: None of bonus points; `reserved`:
    so many of its uses are set aside."""
    if coupon is None:
        return Refusal(
            reason="REWARD_OF_POINTS",
            sentence="the reward was bonus points: they are on the account, and an adjustment takes them",
        )
    if coupon.redeemed:
        return Refusal(reason="COUPON_REDEEMED", sentence="the coupon of the reward was used")
    if reserved:
        return Refusal(
            reason="COUPON_RESERVED", sentence="a checkout has the coupon of the reward now; try again in some minutes"
        )
    return None


NO_SUCH_REWARD: Final = Refusal(reason="REDEMPTION_UNKNOWN", sentence="the member has had no such reward")


def offered_on(reward: Reward, day: date) -> bool:
    """Whether a reward can be had on a local day."""
    return (reward.from_day is None or reward.from_day <= day) and not over(reward, day)


def over(reward: Reward, day: date) -> bool:
    """Whether a reward can be had no more."""
    return reward.until_day is not None and day > reward.until_day


def text_in(reward: Reward, language: str) -> tuple[str, RewardText]:
    """The words of a reward in a language, else in the language without its region, else in the programme's first."""
    wanted = language.lower()
    by_name = {name.lower(): name for name in reward.texts}
    for name in (wanted, wanted.split(_LANGUAGE_ENDS, 1)[0]):
        if name in by_name:
            return by_name[name], reward.texts[by_name[name]]
    for first, text in reward.texts.items():
        return first, text
    return "", RewardText(name=reward.id)


def bonus_points(offer: Offer) -> int:
    """The points that an offer is; 0 for any other."""
    return offer.points or 0 if offer.kind is OfferKind.BONUS_POINTS else 0
