"""Campaigns: what happens to a member, to whom of them it counts, and what is given then; surveys and badges.

Pure: the standard library only. Money in minor units of the programme's currency, points whole, shares in basis points.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType

from services.programme.calendar import Window
from services.programme.messages import MessageAction
from services.programme.rewards import CouponAction, RewardText


class TriggerKind(enum.StrEnum):
    """What sets a campaign off. Each occasion has a key, so that a member gets it once for it."""

    TIER_REACHED = "tier_reached"
    """One of the levels is reached."""
    TIER_LOST = "tier_lost"
    """One of the levels is lost for a lower one."""
    TIER_AT_RISK = "tier_at_risk"
    """One of the levels will be lost in `days` days unless something is done."""
    POINTS_REACHED = "points_reached"
    """Available points cross `points` upward; the first time in a calendar year."""
    POINTS_EXPIRING = "points_expiring"
    """Points lapse in `days` days."""
    FIRST_PURCHASE = "first_purchase"
    PURCHASE = "purchase"
    """A purchase that meets the conditions."""
    NTH_VISIT = "nth_visit"
    """The purchase that is the member's number `visits`."""
    BIRTHDAY = "birthday"
    """The member's birthday; on 28 February in years without the 29th (§12.18)."""
    ANNIVERSARY = "anniversary"
    """The day of joining, a year or more later."""
    INACTIVITY = "inactivity"
    """So many `days` without a purchase, a redemption or an activity."""
    COUPON_EXPIRING = "coupon_expiring"
    """A coupon that was not used ends in `days` days."""
    PROGRAMME_CHANGE = "programme_change"
    """Another version of the programme is announced."""
    SURPRISE = "surprise"
    """A purchase, with a probability."""
    SEGMENT_ENTERED = "segment_entered"
    """The member is put into `segment`."""
    DATE = "date"
    """The local day `day` begins."""


PURCHASES = frozenset({TriggerKind.FIRST_PURCHASE, TriggerKind.PURCHASE, TriggerKind.NTH_VISIT, TriggerKind.SURPRISE})
"""Set off by a purchase."""
TIERS = frozenset({TriggerKind.TIER_REACHED, TriggerKind.TIER_LOST, TriggerKind.TIER_AT_RISK})
"""Of a level."""
DAILY = frozenset(
    {
        TriggerKind.TIER_AT_RISK,
        TriggerKind.POINTS_EXPIRING,
        TriggerKind.BIRTHDAY,
        TriggerKind.ANNIVERSARY,
        TriggerKind.INACTIVITY,
        TriggerKind.COUPON_EXPIRING,
        TriggerKind.DATE,
    }
)
"""Set off by a local day that begins, and by nothing that happens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What sets a campaign off; which of the fields count follows from the kind."""

    kind: TriggerKind
    tiers: tuple[str, ...] = ()
    """Keys of the levels that are meant."""
    days: int = 0
    """Before what will happen, or after what happened last: local days."""
    points: int = 0
    visits: int = 0
    minimum_minor_units: int = 0
    """What the goods paid of a purchase must come to."""
    departments: frozenset[str] = frozenset()
    stores: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    """Where a purchase was made, and what is in it; an empty set lets all through."""
    probability_bp: int = 0
    segment: str = ""
    day: date | None = None

    @property
    def asks_detail(self) -> bool:
        """Whether it needs to know of a purchase what lies outside the ledger's entry."""
        return bool(self.departments or self.stores)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Whom a campaign is for. An empty set lets all through; of several conditions each must hold."""

    tiers: frozenset[str] = frozenset()
    """Keys of the levels whose benefits the member has."""
    markets: frozenset[str] = frozenset()
    """Keys of home markets; "" is the programme's own."""
    segments: frozenset[str] = frozenset()
    """In one of these."""
    not_segments: frozenset[str] = frozenset()
    """In none of these."""
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    """Names of attributes with the values they must have."""
    consent: str = ""
    """The topic that the member must have agreed to hear of; empty: none."""

    @property
    def all(self) -> bool:
        """Whether it is for everybody."""
        return not (self.tiers or self.markets or self.segments or self.not_segments or self.attributes or self.consent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """What is given; at least one of them is set."""

    coupon: CouponAction | None = None
    points: int = 0
    lasting: Window | None = None
    """How long these points last, instead of as the programme says."""
    message: MessageAction | None = None
    webhook: str = ""
    """The type of the event that is sent."""
    badge: str = ""
    survey: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """At most so many times for a member in so many local days."""

    times: int
    days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One of the ways in which a campaign is tried. A campaign without tests has one, with an empty id."""

    id: str
    share_bp: int
    """Its part of the members who are not in the control group; all together are 10000."""
    actions: Actions
    cap: Cap | None = None
    """How often a member gets it; None: each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a campaign may give in all; None: no limit."""

    count: int | None = None
    """How many times it is given."""
    points: int | None = None
    minor_units: int | None = None
    """What coupons of a set worth come to, and points at their value."""

    @property
    def unlimited(self) -> bool:
        """Whether there is none."""
        return self.count is None and self.points is None and self.minor_units is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """When the trigger happens to a member of the audience, what a variant gives."""

    id: str
    trigger: Trigger
    variants: tuple[Variant, ...]
    audience: Audience = Audience()
    control_bp: int = 0
    """The part of the members who get nothing, so that what it does can be measured."""
    budget: Budget = Budget()
    from_day: date | None = None
    until_day: date | None = None
    """The local days on which it runs, both included."""

    @property
    def tiers(self) -> tuple[str, ...]:
        """The keys of the levels that its trigger is about."""
        return self.trigger.tiers

    @property
    def coupon(self) -> CouponAction:
        """The coupon of its first variant. Raises LookupError where that gives none."""
        coupon = self.variants[0].actions.coupon
        if coupon is None:
            raise LookupError(f"the campaign {self.id} gives no coupon")
        return coupon

    @property
    def message(self) -> MessageAction:
        """The message of its first variant. Raises LookupError where that sends none."""
        message = self.variants[0].actions.message
        if message is None:
            raise LookupError(f"the campaign {self.id} sends no message")
        return message

    def variant(self, variant_id: str) -> Variant:
        """The variant of this id. Raises LookupError."""
        found = next((variant for variant in self.variants if variant.id == variant_id), None)
        if found is None:
            raise LookupError(f"the campaign {self.id} has no variant {variant_id!r}")
        return found

    def runs_on(self, day: date) -> bool:
        """Whether it runs on a local day."""
        return (self.from_day is None or self.from_day <= day) and (self.until_day is None or day <= self.until_day)


class SurveyKind(enum.StrEnum):
    """What is answered."""

    NPS = "nps"
    """How likely a recommendation is, 0 to 10."""
    STARS = "stars"
    """1 to 5."""
    CHOICE = "choice"
    """One of several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A question to members."""

    id: str
    kind: SurveyKind
    questions: Mapping[str, str] = field(hash=False)
    """By language; the first is the one to fall back to."""
    choices: tuple[str, ...] = ()
    """Of CHOICE: what can be chosen."""
    link: str = ""
    """Where it is answered; empty where messages lead nowhere."""

    @property
    def address(self) -> str:
        """The link, which is told what is answered; empty where there is none."""
        return f"{self.link}{'&' if '?' in self.link else '?'}survey={self.id}" if self.link else ""

    @property
    def scores(self) -> range:
        """What can be answered; of CHOICE empty."""
        match self.kind:
            case SurveyKind.NPS:
                return range(11)
            case SurveyKind.STARS:
                return range(1, 6)
            case SurveyKind.CHOICE:
                return range(0)

    def takes(self, score: int | None, choice: str) -> bool:
        """Whether that is an answer to it."""
        if self.kind is SurveyKind.CHOICE:
            return score is None and choice in self.choices
        return score in self.scores and not choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """Something to be proud of, and nothing more."""

    id: str
    texts: Mapping[str, RewardText] = field(hash=False)
    """By language; the first is the one to fall back to."""
