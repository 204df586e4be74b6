"""Campaigns: what a change of tier gives a member, once and for all (DESIGN §7)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from services.notifier.domain.codes import CouponCodes
from services.notifier.domain.coupons import Coupon, MemberKey, RewardKey, change_trigger, digested
from services.notifier.domain.digests import keyed_digest
from services.notifier.domain.feeds import TierChange
from services.notifier.domain.programmes import Programmes
from services.programme.campaigns import Campaign
from services.programme.model import Programme


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """The message that carries a coupon: what its words need beside the coupon and the contact."""

    delivery_id: str
    # `tier`, `previous_tier`, and `balance`: minor units, or a count where the metric is no money.
    facts: Mapping[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """A coupon and the message that carries it."""

    coupon: Coupon
    letter: Letter


class Rewards:
    """Decides what changes of tier give, by the campaigns of the version that holds at the change. Pure: the same every
    time."""

    def __init__(self, *, programmes: Programmes, codes: CouponCodes, delivery_key: bytes) -> None:
        self._programmes = programmes
        self._codes = codes
        self._delivery_key = delivery_key

    def decide(self, changes: Iterable[TierChange]) -> list[Reward]:
        """The rewards of these changes, in order. Only a change upward reaches a tier."""
        return [
            self._reward(programme, campaign, change)
            for change in changes
            if change.reaches
            for programme in [self._programmes.at(change.changed_time)]
            for campaign in _reached(programme, change.to_tier_number)
        ]

    def take_back(self, changes: Iterable[TierChange], held: Iterable[Reward]) -> list[Coupon]:
        """The coupons among those held that these changes, in their order, take back; void, each by the first.

        With a level go those that reaching it, or one between, brought before and that are valid still.
        """
        left: dict[MemberKey, list[Reward]] = defaultdict(list)
        for reward in held:
            if reward.coupon.voided_time is None:
                left[reward.coupon.member_key].append(reward)
        taken: dict[RewardKey, Coupon] = {}
        for change in changes:
            for reward in left.get(change.member_key, ()):
                coupon = reward.coupon
                if coupon.key not in taken and self._goes_with(change, reward):
                    taken[coupon.key] = replace(coupon, voided_time=change.changed_time, voided_by=change.offset)
        return list(taken.values())

    def _goes_with(self, change: TierChange, reward: Reward) -> bool:
        coupon = reward.coupon
        if change.taken_back_to is None or not _came_before(coupon, change):
            return False
        return coupon.valid_until_time > change.changed_time and self._reached_by(reward, change) > change.taken_back_to

    def _reached_by(self, reward: Reward, change: TierChange) -> int:
        """The number, at a change, of the tier that brought a reward; as it was then where the programme has it no
        more."""
        tiers, campaign = self._programmes.at(reward.coupon.issued_time).tiers, self._campaign(reward.coupon)
        name = reward.letter.facts["tier"]
        level = next(level for level in tiers.levels if level.name == name and level.key in campaign.tiers)
        return (self._programmes.at(change.changed_time).tiers.find_level(level.key) or level).number

    def varied(self, coupon: Coupon, variant: int) -> str:
        """The code of the coupon's trigger in another variant."""
        return self._codes.make(
            prefix=self._campaign(coupon).coupon.prefix,
            partition=coupon.partition,
            campaign_id=coupon.campaign_id,
            member_id=coupon.member_id,
            trigger=coupon.trigger,
            variant=variant,
        )

    def _campaign(self, coupon: Coupon) -> Campaign:
        campaigns = self._programmes.at(coupon.issued_time).campaigns
        return next(campaign for campaign in campaigns if campaign.id == coupon.campaign_id)

    def _reward(self, programme: Programme, campaign: Campaign, change: TierChange) -> Reward:
        trigger, given = change_trigger(change.offset), campaign.coupon
        code = self._codes.make(
            prefix=given.prefix,
            partition=change.partition,
            campaign_id=campaign.id,
            member_id=change.member_id,
            trigger=trigger,
            variant=0,
        )
        coupon = Coupon(
            partition=change.partition,
            campaign_id=campaign.id,
            member_id=change.member_id,
            trigger=trigger,
            code=code,
            variant=0,
            offer=given.offer,
            terms=given.terms,
            issued_time=change.changed_time,
            valid_until_time=given.valid.end(change.changed_time, programme.zone),
        )
        letter = Letter(
            delivery_id=self._delivery_id(coupon),
            facts={"tier": change.to_tier, "previous_tier": change.from_tier, "balance": change.balance},
        )
        return Reward(coupon=coupon, letter=letter)

    def _delivery_id(self, coupon: Coupon) -> str:
        """32 hex digits: the partition, so that the id alone finds its row, and what tells nothing of the rest."""
        what = (coupon.partition, coupon.campaign_id, coupon.member_id, digested(coupon.trigger))
        return f"{coupon.partition:04x}{keyed_digest(self._delivery_key, 'delivery', *what)[:14].hex()}"


def _came_before(coupon: Coupon, change: TierChange) -> bool:
    """Whether it was an earlier change of the partition that gave the coupon."""
    return int(coupon.trigger.removeprefix("change:")) < change.offset


def _reached(programme: Programme, tier_number: int) -> list[Campaign]:
    key = programme.tiers.level(tier_number).key
    return [campaign for campaign in programme.campaigns if key in campaign.tiers]
