"""Who gets what of a campaign: once per occasion, by lot, within budgets and caps. Pure: the same every time."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from services.notifier.domain.coupons import GiftKey, MemberKey
from services.notifier.domain.profiles import Occasion, Profile, Purchase
from services.programme.campaigns import Actions, Audience, Campaign, Cap, Trigger, TriggerKind, Variant
from services.programme.model import BASIS_POINTS, Programme
from services.programme.rewards import OfferKind

_WORTH: Final = (OfferKind.DISCOUNT_AMOUNT, OfferKind.GIFT_CARD, OfferKind.FREE_SHIPPING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A campaign that an occasion has set off for a member of its audience."""

    programme: Programme
    campaign: Campaign
    partition: int
    member_id: str
    trigger: str
    time: datetime
    facts: Mapping[str, str | int] = field(default_factory=dict)
    purchase_id: str = ""

    @property
    def key(self) -> GiftKey:
        """What is given once."""
        return self.partition, self.campaign.id, self.member_id, self.trigger

    @property
    def member_key(self) -> MemberKey:
        """Whose it is."""
        return self.partition, self.member_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What giving something takes: points, and money as far as it is known beforehand."""

    points: int = 0
    minor_units: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a claim came to: a variant, or nothing but a place in the control group. `code`: from a pool, where one is
    to be taken from it."""

    claim: Claim
    variant: str
    in_control: bool
    cost: Cost
    code: str = ""

    @property
    def actions(self) -> Actions:
        """What is given."""
        return self.claim.campaign.variant(self.variant).actions


@dataclass(slots=True, kw_only=True)
class Spent:
    """What a campaign has given in all."""

    count: int = 0
    points: int = 0
    minor_units: int = 0

    def takes(self, cost: Cost, campaign: Campaign) -> bool:
        """Whether so much more stays within the campaign's budget."""
        budget = campaign.budget
        return (
            (budget.count is None or self.count < budget.count)
            and (budget.points is None or self.points + cost.points <= budget.points)
            and (budget.minor_units is None or self.minor_units + cost.minor_units <= budget.minor_units)
        )

    def add(self, cost: Cost) -> None:
        """Gives once more."""
        self.count += 1
        self.points += cost.points
        self.minor_units += cost.minor_units

    def take_back(self, cost: Cost) -> None:
        """What was added is not given after all."""
        self.count -= 1
        self.points -= cost.points
        self.minor_units -= cost.minor_units


def lot(campaign_id: str, member_id: str, salt: str) -> int:
    """A number from 0 to 9999 that is the same whenever it is asked for: SHA-256, evenly spread.

    Each salt draws anew, so that who is in the control group says nothing of who gets which variant.
    """
    digest = hashlib.sha256(f"{salt}\0{campaign_id}\0{member_id}".encode()).digest()
    # 2^64 is no multiple of 10000; by that any number comes up at most 1 in 10^15 more often.
    return int.from_bytes(digest[:8]) % BASIS_POINTS


def variant_of(campaign: Campaign, member_id: str) -> tuple[Variant, bool]:
    """The variant that a member has in a campaign, and whether it is in the control group and gets nothing."""
    drawn = lot(campaign.id, member_id, "variant")
    for variant in campaign.variants:
        if drawn < variant.share_bp:
            break
        drawn -= variant.share_bp
    return variant, lot(campaign.id, member_id, "control") < campaign.control_bp


def cost_of(programme: Programme, actions: Actions, time: datetime) -> Cost:
    """What giving this takes: the set worth of its coupon, and its points at their value, rounded up."""
    money, coupon = 0, actions.coupon
    if coupon is not None and coupon.offer.kind in _WORTH:
        money += (coupon.offer.amount or 0) * coupon.uses
    return Cost(points=actions.points, minor_units=money + worth_of_points(programme, actions.points, time))


def worth_of_points(programme: Programme, points: int, time: datetime) -> int:
    """The value of points in minor units, rounded up; 0 where the programme names none."""
    value = None if programme.liability is None else programme.liability.value_at(programme.local_day(time))
    return 0 if value is None else -(-points * value.minor_units // value.points)


def trigger_of(campaign: Campaign, occasion: Occasion, programme: Programme) -> str | None:
    """What the campaign gives this occasion once for; None where it is not set off."""
    trigger = campaign.trigger
    if trigger.kind not in occasion.kinds or not campaign.runs_on(programme.local_day(occasion.time)):
        return None
    match trigger.kind:
        case TriggerKind.TIER_REACHED | TriggerKind.TIER_LOST:
            return occasion.key if occasion.tier in trigger.tiers else None
        case TriggerKind.POINTS_REACHED:
            before, after = occasion.points
            return occasion.key if before < trigger.points <= after else None
        case TriggerKind.FIRST_PURCHASE | TriggerKind.PURCHASE | TriggerKind.NTH_VISIT | TriggerKind.SURPRISE:
            return None if occasion.purchase is None else _of_purchase(campaign, occasion, occasion.purchase)
        case _:
            return occasion.key


def _of_purchase(campaign: Campaign, occasion: Occasion, purchase: Purchase) -> str | None:
    trigger = campaign.trigger
    if not _meets(trigger, purchase):
        return None
    match trigger.kind:
        case TriggerKind.FIRST_PURCHASE:
            return "first" if purchase.number == 1 else None
        case TriggerKind.NTH_VISIT:
            return f"visit:{trigger.visits}" if purchase.number == trigger.visits else None
        case TriggerKind.SURPRISE:
            salt = f"surprise {occasion.partition} {occasion.key}"
            drawn = lot(campaign.id, occasion.member_id, salt) < trigger.probability_bp
            return occasion.key if drawn else None
        case _:
            return occasion.key


def _meets(trigger: Trigger, purchase: Purchase) -> bool:
    return (
        purchase.goods_minor_units >= trigger.minimum_minor_units
        and (not trigger.channels or purchase.channel in trigger.channels)
        and (not trigger.stores or purchase.store in trigger.stores)
        and (not trigger.departments or bool(trigger.departments & purchase.departments))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """What of a member an audience may ask beside the profile."""

    segments: Collection[str] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    agreed: Collection[str] = ()
    """Topics that the member hears of."""


def belongs(audience: Audience, profile: Profile, person: Person) -> bool:
    """Whether a member is one of those whom a campaign is for."""
    return (
        (not audience.tiers or profile.tier in audience.tiers)
        and (not audience.markets or profile.market in audience.markets)
        and (not audience.segments or not audience.segments.isdisjoint(person.segments))
        and audience.not_segments.isdisjoint(person.segments)
        and all(person.attributes.get(name) == value for name, value in audience.attributes.items())
        and (not audience.consent or audience.consent in person.agreed)
    )


def cap_span(claim: Claim, cap: Cap) -> tuple[datetime, datetime]:
    """From when on and before when what a member had of a claim's campaign counts for a cap: whatever may lie in one
    span of the cap's days with the claim's own local day. Of late claims also what came after them."""
    day, days = claim.programme.local_day(claim.time), cap.days
    start_of = claim.programme.start_of_local_day
    return start_of(day - timedelta(days=days - 1)), start_of(day + timedelta(days=days))


def assign(
    claims: Iterable[Claim],
    *,
    given: Collection[GiftKey],
    spent: Mapping[str, Spent],
    had: Mapping[GiftKey, int],
) -> list[Assignment]:
    """What claims come to, in their order; a claim that comes to nothing is left out.

    `given`: what was assigned before. `spent`: of each campaign with a budget what it has given; what is assigned here
    is added. `had`: by claim, how often the member had the campaign before this within `cap_span`.
    """
    assigned: list[Assignment] = []
    taken = set(given)
    more: dict[tuple[str, MemberKey], list[datetime]] = defaultdict(list)
    for claim in claims:
        campaign = claim.campaign
        again = more[campaign.id, claim.member_key]
        variant, in_control = variant_of(campaign, claim.member_id)
        cap = variant.cap
        if claim.key in taken or (cap is not None and _times_had(claim, cap, had, again) >= cap.times):
            continue
        cost = Cost() if in_control else cost_of(claim.programme, variant.actions, claim.time)
        if not in_control:
            budget = spent.get(campaign.id)
            if budget is not None:
                if not budget.takes(cost, campaign):
                    continue
                budget.add(cost)
        taken.add(claim.key)
        again.append(claim.time)
        assigned.append(Assignment(claim=claim, variant=variant.id, in_control=in_control, cost=cost))
    return assigned


def _times_had(claim: Claim, cap: Cap, had: Mapping[GiftKey, int], again: Iterable[datetime]) -> int:
    since, until = cap_span(claim, cap)
    return had.get(claim.key, 0) + sum(since <= time < until for time in again)
