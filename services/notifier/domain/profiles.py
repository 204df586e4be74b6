"""What campaigns know of a member, kept from both feeds: no personal data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from services.notifier.domain.coupons import MemberKey
from services.notifier.domain.feeds import Happening, MemberEvent, MemberJoined, TierChange
from services.programme.campaigns import TriggerKind
from services.programme.model import Programme


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A member as of the last entry handled.

    `tier`: the key of the level whose benefits are in force; empty where none are, or no change told of one yet.
    `last_time`: the last purchase, redemption or activity, or joining. `available`: points that can be redeemed.
    """

    partition: int
    member_id: str
    joined_time: datetime | None = None
    market: str = ""
    tier: str = ""
    suspended: bool = False
    left: bool = False
    purchases: int = 0
    last_time: datetime | None = None
    available: int = 0

    @property
    def key(self) -> MemberKey:
        """Whose it is."""
        return self.partition, self.member_id

    @property
    def takes_part(self) -> bool:
        """Whether campaigns are for the member at all: not for one who left, or is suspended (§12.16)."""
        return not self.left and not self.suspended


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What a campaign asks of a purchase; `number` is which of the member's it is. Store and departments are known only
    where some campaign asks for them."""

    purchase_id: str
    number: int
    goods_minor_units: int
    channel: str
    store: str = ""
    departments: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """Something that happened to a member, or a day that came, which may set campaigns off.

    `key` is what is the same whenever the same occasion is met again. `tier` is the level that was reached or lost,
    `points` is what a balance went from and to.
    """

    kinds: frozenset[TriggerKind]
    partition: int
    member_id: str
    time: datetime
    key: str
    tier: str = ""
    points: tuple[int, int] = (0, 0)
    purchase: Purchase | None = None
    facts: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def member_key(self) -> MemberKey:
        """Whose it is."""
        return self.partition, self.member_id


@dataclass(frozen=True, slots=True, kw_only=True)
class LapsingMove:
    """Points of a member that lapse at the end of a local day, and how many more or fewer there are."""

    partition: int
    member_id: str
    day: date
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Losing:
    """A member who loses a level by time alone, and when."""

    member_id: str
    tier_number: int
    losing_time: datetime


_REACHED = frozenset({TriggerKind.TIER_REACHED})
_LOST = frozenset({TriggerKind.TIER_LOST})
_BOUGHT = frozenset({TriggerKind.FIRST_PURCHASE, TriggerKind.PURCHASE, TriggerKind.NTH_VISIT, TriggerKind.SURPRISE})
_POINTS = frozenset({TriggerKind.POINTS_REACHED})


def occasion_of(change: TierChange, programme: Programme) -> Occasion | None:
    """What a change of tier may set off, by the programme that holds at it; None where no level is reached or lost."""
    if change.reaches:
        kinds, tier = _REACHED, level_key(programme, change.to_tier_number)
    elif 0 < change.to_tier_number < change.from_tier_number:
        kinds, tier = _LOST, level_key(programme, change.from_tier_number)
    else:
        return None
    return Occasion(
        kinds=kinds,
        partition=change.partition,
        member_id=change.member_id,
        time=change.changed_time,
        key=f"change:{change.offset}",
        tier=tier,
        facts={"tier": change.to_tier, "previous_tier": change.from_tier, "balance": change.balance},
    )


def placed(profile: Profile, programme: Programme) -> Profile:
    """The member with a level: whom no change of tier has told of is in the programme's first."""
    return profile if profile.tier else replace(profile, tier=level_key(programme, 1))


def standing(profile: Profile, programme: Programme) -> dict[str, str | int]:
    """What every message knows of its member, and is known by a profile (`templates.OF_MEMBERS`)."""
    level = programme.tiers.find_level(placed(profile, programme).tier)
    return {"tier": "" if level is None else level.name, "points_balance": profile.available}


def level_key(programme: Programme, number: int) -> str:
    """The key of a level; empty where the programme has none of this number."""
    return programme.tiers.level(number).key if 1 <= number <= len(programme.tiers.levels) else ""


def changed(profile: Profile, change: TierChange, programme: Programme) -> Profile:
    """The member after a change of tier; suspended where one that had benefits has none."""
    number = change.to_tier_number
    return replace(profile, tier=level_key(programme, number), suspended=number == 0)


def joined(profile: Profile, fact: MemberJoined, programme: Programme) -> tuple[Profile, list[Occasion]]:
    """The member after joining, and what the points for it may set off."""
    after = replace(
        profile,
        joined_time=fact.joined_time,
        market=fact.market,
        last_time=_latest(profile.last_time, fact.joined_time),
        available=fact.available,
    )
    return after, _more_points(profile, after, fact.joined_time, programme)


def met(profile: Profile, event: MemberEvent, offset: int, programme: Programme) -> tuple[Profile, list[Occasion]]:
    """The member after an entry, and what that may set off."""
    after = replace(profile, available=event.available)
    found: list[Occasion] = []
    match event.happening:
        case Happening.PURCHASE:
            after = replace(after, purchases=profile.purchases + 1)
            purchase = Purchase(
                purchase_id=event.purchase_id,
                number=after.purchases,
                # Of other money nobody says here what it is worth: such a purchase reaches no minimum.
                goods_minor_units=event.goods_minor_units if event.currency == programme.currency else 0,
                channel=event.channel,
                store=event.store,
                departments=event.departments,
            )
            found.append(_occasion(after, event.occurred_time, f"entry:{offset}", _BOUGHT, purchase=purchase))
        case Happening.VOID:
            after = replace(after, purchases=max(0, profile.purchases - 1))
        case Happening.LEFT:
            after = replace(after, left=True)
        case Happening.CAME_BACK:
            after = replace(after, left=False)
        case Happening.RETURN | Happening.ACTIVITY | Happening.OTHER:
            pass
    if event.happening in (Happening.PURCHASE, Happening.ACTIVITY, Happening.CAME_BACK):
        after = replace(after, last_time=_latest(profile.last_time, event.occurred_time))
    return after, found + _more_points(profile, after, event.occurred_time, programme)


def _more_points(before: Profile, after: Profile, time: datetime, programme: Programme) -> list[Occasion]:
    if after.available <= before.available:
        return []
    key = f"points:{programme.local_day(time).year}"
    return [_occasion(after, time, key, _POINTS, points=(before.available, after.available))]


def _occasion(
    profile: Profile,
    time: datetime,
    key: str,
    kinds: frozenset[TriggerKind],
    *,
    purchase: Purchase | None = None,
    points: tuple[int, int] = (0, 0),
) -> Occasion:
    return Occasion(
        kinds=kinds,
        partition=profile.partition,
        member_id=profile.member_id,
        time=time,
        key=key,
        purchase=purchase,
        points=points,
        facts={"points_balance": profile.available},
    )


def _latest(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else max(one, other)
