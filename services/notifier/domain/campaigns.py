"""Campaigns: what an assignment brings - a coupon, messages - and what a change of tier takes back (DESIGN §7)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from services.notifier.domain.assignments import Assignment, Claim, cost_of, trigger_of, variant_of
from services.notifier.domain.codes import CouponCodes
from services.notifier.domain.coupons import Coupon, GiftKey, MemberKey
from services.notifier.domain.feeds import TierChange
from services.notifier.domain.messages import Outgoing, delivery_id
from services.notifier.domain.profiles import Occasion, occasion_of
from services.notifier.domain.programmes import Programmes
from services.programme.campaigns import Campaign, TriggerKind
from services.programme.messages import WEBHOOK
from services.programme.rewards import CouponAction
from services.programme.templates import POINTS_BALANCE

_CHANGE = "change:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """The message that carries a coupon: what its words need beside the coupon and the contact."""

    delivery_id: str
    # `tier`, `previous_tier`, and `balance`: minor units, or a count where the metric is no money.
    facts: Mapping[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TierGift:
    """A coupon and the message that carries it, where one does."""

    coupon: Coupon
    letter: Letter | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gift:
    """What an assignment brings at once; its points come later."""

    assignment: Assignment
    coupon: Coupon | None
    messages: tuple[Outgoing, ...]


def plain(campaign: Campaign) -> bool:
    """Whether changes of tier alone decide what it gives: no audience, budget or cap."""
    return (
        campaign.trigger.kind is TriggerKind.TIER_REACHED
        and campaign.audience.all
        and campaign.budget.unlimited
        and not any(variant.cap for variant in campaign.variants)
    )


def tells_points(campaign: Campaign) -> bool:
    """Whether its messages say how many points their member has."""
    messages = [variant.actions.message for variant in campaign.variants]
    return any(message is not None and POINTS_BALANCE in message.variables for message in messages)


def _derived(campaign: Campaign) -> bool:
    """Whether its coupons follow from the changes of tier: what a pool has left, and which code, does not."""
    coupons = [variant.actions.coupon for variant in campaign.variants]
    return plain(campaign) and not any(coupon is not None and coupon.pool for coupon in coupons)


class Gifts:
    """Decides what is given, by the campaigns of the version that holds at the occasion. Pure: the same every time."""

    def __init__(self, *, programmes: Programmes, codes: CouponCodes, delivery_key: bytes) -> None:
        self._programmes = programmes
        self._codes = codes
        self._delivery_key = delivery_key

    def occasions(self, changes: Iterable[TierChange]) -> list[Occasion]:
        """What these changes of tier may set off."""
        found = (occasion_of(change, self._programmes.at(change.changed_time)) for change in changes)
        return [occasion for occasion in found if occasion is not None]

    def claims(self, occasions: Iterable[Occasion]) -> Iterator[Claim]:
        """The campaigns that occasions set off, in their order; for whom they are is not asked."""
        for occasion in occasions:
            programme = self._programmes.at(occasion.time)
            for campaign in programme.campaigns:
                if (trigger := trigger_of(campaign, occasion, programme)) is not None:
                    yield Claim(
                        programme=programme,
                        campaign=campaign,
                        partition=occasion.partition,
                        member_id=occasion.member_id,
                        trigger=trigger,
                        time=occasion.time,
                        facts=occasion.facts,
                        purchase_id="" if occasion.purchase is None else occasion.purchase.purchase_id,
                    )

    def decide(self, changes: Iterable[TierChange]) -> list[TierGift]:
        """The coupons that follow from these changes, in order, each with its message but for the points it tells."""
        gifts = []
        for claim in self.claims(self.occasions(changes)):
            variant, in_control = variant_of(claim.campaign, claim.member_id)
            if _derived(claim.campaign) and not in_control:
                cost = cost_of(claim.programme, variant.actions, claim.time)
                assignment = Assignment(claim=claim, variant=variant.id, in_control=False, cost=cost)
                gift = self.gift(assignment)
                if gift.coupon is not None:
                    gifts.append(TierGift(coupon=gift.coupon, letter=self._letter(gift)))
        return gifts

    def is_derived(self, coupon: Coupon) -> bool:
        """Whether a coupon follows from the changes of tier; also where its campaign is not to be found."""
        campaign = self._programmes.at(coupon.issued_time).campaign(coupon.campaign_id)
        return campaign is None or _derived(campaign)

    def gift(self, assignment: Assignment) -> Gift:
        """What an assignment brings: in the control group nothing."""
        if assignment.in_control:
            return Gift(assignment=assignment, coupon=None, messages=())
        actions = assignment.actions
        coupon = None if actions.coupon is None else self._coupon(assignment, actions.coupon)
        return Gift(assignment=assignment, coupon=coupon, messages=tuple(_messages(assignment, coupon)))

    def recoded(self, gift: Gift, variant: int) -> Gift:
        """The gift with its coupon's code in another variant."""
        assert gift.coupon is not None
        coupon = replace(gift.coupon, code=self.varied(gift.coupon, variant), variant=variant)
        return replace(gift, coupon=coupon, messages=tuple(_messages(gift.assignment, coupon)))

    def varied(self, coupon: Coupon, variant: int) -> str:
        """The code of the coupon's trigger in another variant."""
        return self._code(coupon.partition, coupon.campaign_id, coupon.member_id, coupon.trigger, coupon.code, variant)

    def take_back(self, changes: Iterable[TierChange], held: Iterable[TierGift]) -> list[Coupon]:
        """The coupons among those held that these changes, in their order, take back; void, each by the first.

        With a level go those that reaching it, or one between, brought before and that are valid still.
        """
        left: dict[MemberKey, list[TierGift]] = defaultdict(list)
        for gift in held:
            if gift.coupon.voided_time is None and gift.coupon.trigger.startswith(_CHANGE):
                left[gift.coupon.member_key].append(gift)
        taken: dict[GiftKey, Coupon] = {}
        for change in changes:
            for gift in left.get(change.member_key, ()):
                coupon = gift.coupon
                if coupon.key not in taken and self._goes_with(change, gift):
                    taken[coupon.key] = replace(coupon, voided_time=change.changed_time, voided_by=change.offset)
        return list(taken.values())

    def _goes_with(self, change: TierChange, gift: TierGift) -> bool:
        coupon = gift.coupon
        if change.taken_back_to is None or not _came_before(coupon, change):
            return False
        return coupon.valid_until_time > change.changed_time and self._reached_by(gift, change) > change.taken_back_to

    def _reached_by(self, gift: TierGift, change: TierChange) -> int:
        """The number, at a change, of the tier that brought a gift; as it was then where the programme has it no
        more; 0 where it was not brought by reaching one."""
        then = self._programmes.at(gift.coupon.issued_time)
        campaign = then.campaign(gift.coupon.campaign_id)
        if campaign is None or campaign.trigger.kind is not TriggerKind.TIER_REACHED:
            return 0
        # Without a message nobody says which of several levels it was: it may have been the lowest.
        name = None if gift.letter is None else gift.letter.facts["tier"]
        level = next(level for level in then.tiers.levels if level.key in campaign.tiers and name in (None, level.name))
        return (self._programmes.at(change.changed_time).tiers.find_level(level.key) or level).number

    def _coupon(self, assignment: Assignment, action: CouponAction) -> Coupon:
        claim = assignment.claim
        return Coupon(
            partition=claim.partition,
            campaign_id=claim.campaign.id,
            member_id=claim.member_id,
            trigger=claim.trigger,
            code=assignment.code or self._code(*claim.key, f"{action.prefix}-", 0),
            variant=0,
            offer=action.offer,
            terms=action.terms,
            uses=action.uses,
            issued_time=claim.time,
            valid_until_time=action.valid.end(claim.time, claim.programme.zone),
        )

    def _code(self, partition: int, campaign_id: str, member_id: str, trigger: str, code: str, variant: int) -> str:
        """A code with the prefix of another."""
        return self._codes.make(
            prefix=code.partition("-")[0],
            partition=partition,
            campaign_id=campaign_id,
            member_id=member_id,
            trigger=trigger,
            variant=variant,
        )

    def _letter(self, gift: Gift) -> Letter | None:
        carrying = (message for message in gift.messages if message.channel != WEBHOOK)
        message = next(carrying, None)
        if message is None:
            return None
        return Letter(delivery_id=delivery_id(self._delivery_key, message), facts=message.facts)


def _messages(assignment: Assignment, coupon: Coupon | None) -> Iterator[Outgoing]:
    claim, actions = assignment.claim, assignment.actions
    common = Outgoing(
        partition=claim.partition,
        member_id=claim.member_id,
        campaign_id=claim.campaign.id,
        trigger=claim.trigger,
        created_time=claim.time,
        variant=assignment.variant,
        coupon_code="" if coupon is None else coupon.code,
        facts=_facts(assignment),
    )
    if (message := actions.message) is not None:
        yield replace(common, channel=message.channel, topic=message.topic, urgent=message.urgent)
    if actions.webhook:
        yield replace(common, channel=WEBHOOK, topic=actions.webhook)


def _facts(assignment: Assignment) -> Mapping[str, str | int]:
    """What the words may need: of the occasion, and of what is given."""
    actions, programme = assignment.actions, assignment.claim.programme
    facts = dict(assignment.claim.facts)
    if actions.points:
        # Where the occasion is about points, those are what is talked of.
        facts.setdefault("points", actions.points)
    if actions.badge:
        facts["badge"] = actions.badge
    if actions.survey:
        facts["survey"] = actions.survey
        survey = programme.survey(actions.survey)
        if survey is not None and survey.link:
            facts["survey_link"] = survey.address
    return facts


def _came_before(coupon: Coupon, change: TierChange) -> bool:
    """Whether it was an earlier change of the partition that gave the coupon."""
    return int(coupon.trigger.removeprefix(_CHANGE)) < change.offset
