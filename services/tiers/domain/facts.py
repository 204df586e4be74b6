"""What happened to a member, as tiers keep it: so that any policy can weigh it, and never changed."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from services.programme.model import Base, LinkedReturns, Market, Metric, TierPolicy

# Business time before anything has been processed.
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

# The partition of a member, and its id.
MemberKey = tuple[int, str]


class FactKind(enum.IntEnum):
    """What happened. The numbers are stored."""

    JOINED = 1
    PURCHASE = 2
    RETURN = 3
    VOID = 4
    """A purchase was undone whole."""
    AWARD = 5
    """Points were given outside a purchase."""
    ACTIVITY = 6
    FEE = 7
    """A membership was paid for, from `start_time` up to `until_time`."""
    RESIGNED = 8
    REJOINED = 9
    # Decided here, not in the ledger:
    CONFIRMED = 10
    """The member confirmed the account."""
    OVERRIDE_SET = 11
    OVERRIDE_CLEARED = 12


class Scope(enum.StrEnum):
    """What an override covers."""

    TIER = "tier"
    """The tier, and with it its benefits."""
    BENEFITS = "benefits"
    """The benefits alone."""


class Fact(NamedTuple):
    """One thing that happened. Amounts are never negative, money in minor units of the member's market."""

    kind: FactKind
    occurred_time: datetime
    recorded_time: datetime
    """When it became known: by the clocks that record; in a simulated installation by the installation's own clock, or
    when it occurred, where that is later."""
    ledger_offset: int = 0
    """Its entry; 0 for what was decided here."""
    number: int = 0
    """Of what was decided here: its place among the partition's decisions, from 1."""
    total: int = 0
    goods_paid: int = 0
    points: int = 0
    """What the base rule gave; negative where it was taken back."""
    bonuses: tuple[tuple[str, int], ...] = ()
    """What other rules gave."""
    purchase_id: str = ""
    purchase_time: datetime | None = None
    """Of a return: when the purchase was, where it is known."""
    name: str = ""
    """The activity, the plan, the key of the level; of JOINED the market."""
    start_time: datetime | None = None
    until_time: datetime | None = None
    scope: Scope | None = None
    reason: str = ""
    principal: str = ""
    exchange_id: str = ""
    """Of a purchase or a return: the exchange that it is one side of."""

    def known_by(self, clock: datetime) -> Fact:
        """The fact as a simulated installation hears of it while its clock shows this: what the clocks that record say
        is of another time."""
        return self._replace(recorded_time=max(self.occurred_time, clock))

    @property
    def place(self) -> tuple[datetime, bool, int, int]:
        """By which facts are put in order: what entries say of an instant comes before what was decided at it."""
        return self.occurred_time, self.number > 0, self.ledger_offset, self.number


class Movement(NamedTuple):
    """What a fact adds to the balance from `occurred_time` up to, not including, `end_time` (later)."""

    ledger_offset: int
    amount: int
    occurred_time: datetime
    end_time: datetime
    matures_time: datetime | None = None
    """When it counts towards what a cool-off holds back, if that is later than it occurred; at `end_time`: never."""

    @property
    def ripens(self) -> datetime:
        """From when it counts towards what a cool-off holds back."""
        return self.matures_time or self.occurred_time


class NotCounted(enum.StrEnum):
    """Why something does not count."""

    OTHER_METRIC = "other_metric"
    """The policy counts something else."""
    BEFORE_JOINING = "before_joining"
    BEFORE_REJOINING = "before_rejoining"
    OUTSIDE_WINDOW = "outside_window"
    """It counted, and its time is over."""
    EXCHANGE_WAITS = "exchange_waits"
    """It is one side of an exchange whose other side has not come yet, or came back of such a purchase."""


_BACK = (FactKind.RETURN, FactKind.VOID)
_OF_MONEY = (FactKind.PURCHASE, *_BACK)
SIDES = (FactKind.PURCHASE, FactKind.RETURN)
"""The sides of an exchange."""
MOVING = frozenset({FactKind.JOINED, FactKind.AWARD, FactKind.ACTIVITY, *_OF_MONEY})
"""The kinds that may move a balance, by one metric or another."""

# How long one side of an exchange waits for the other; and how long after it was judged more of it may come.
EXCHANGE_WAITS = timedelta(hours=1)


def amount_of(policy: TierPolicy, fact: Fact) -> int:
    """What a fact adds to the balance, in the unit of the metric."""
    match policy.metric:
        case Metric.NET_SPEND if fact.kind in _OF_MONEY:
            amount = fact.total if policy.base is Base.TOTAL else fact.goods_paid
            return -amount if fact.kind in _BACK else amount
        case Metric.QUALIFYING_POINTS:
            return fact.points + sum([points for rule, points in fact.bonuses if rule in policy.qualifying])
        case Metric.VISITS:
            return (fact.kind is FactKind.PURCHASE) - (fact.kind is FactKind.VOID)
        case Metric.ACTIVITIES:
            return int(fact.kind is FactKind.ACTIVITY)
        case _:
            return 0


def basis_time(policy: TierPolicy, fact: Fact) -> datetime:
    """The time that decides whether a fact counts, and until when: its own, or that of the purchase (§12.5)."""
    if policy.linked_returns is LinkedReturns.PURCHASE_TIME and fact.kind in _BACK and fact.purchase_time:
        return min(fact.purchase_time, fact.occurred_time)
    return fact.occurred_time


def waits_for_other_side(policy: TierPolicy, fact: Fact) -> bool:
    """Whether a fact is a side of an exchange that another side may cancel out: both are judged together (§12.4)."""
    return (
        bool(fact.exchange_id) and fact.kind in SIDES and policy.metric in (Metric.NET_SPEND, Metric.QUALIFYING_POINTS)
    )


def waits_until(fact: Fact) -> datetime:
    """The first instant at which a side of an exchange counts without the other."""
    return max(fact.occurred_time, fact.recorded_time) + EXCHANGE_WAITS


def exchange_of(waiting: Sequence[Fact], fact: Fact) -> str:
    """The exchange that a fact is judged with; "" for none: its own, or, of what comes back without one, that of the
    purchase, while it waits."""
    if fact.exchange_id and fact.kind in SIDES:
        return fact.exchange_id
    if fact.kind not in _BACK or not fact.purchase_id:
        return ""
    of = (one for one in waiting if one.kind is FactKind.PURCHASE and one.purchase_id == fact.purchase_id)
    return next((one.exchange_id for one in of), "")


def has_both_sides(facts: Iterable[Fact]) -> bool:
    """Whether facts of one exchange are a purchase and a return, beside what only takes such a purchase back."""
    return {fact.kind for fact in facts if fact.exchange_id} >= set(SIDES)


def counts_from(policy: TierPolicy, fact: Fact, joined_time: datetime, counted_from: datetime) -> bool:
    """Whether a fact is late enough: later than the joining time that counts, or, by some policies, at the first (R19).

    What joining itself gave always is.
    """
    time = basis_time(policy, fact)
    if time > counted_from:
        return True
    return time == joined_time == counted_from and (policy.from_joining or fact.kind is FactKind.JOINED)


def movement_of(market: Market, joined_time: datetime, fact: Fact) -> Movement | None:
    """How the market's policy weighs a fact; None where it adds nothing."""
    policy = market.tiers
    amount = amount_of(policy, fact)
    if not amount:
        return None
    occurred = fact.occurred_time
    end = policy.window.end(basis_time(policy, fact), market.zone, joined_time)
    if end <= occurred:
        return None
    matures = None
    if policy.cool_off is not None and amount > 0:
        matures = min(policy.cool_off.period.end(occurred, market.zone), end)
    return Movement(fact.ledger_offset, amount, occurred, end, matures)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All that is known of a member, in the order of `Fact.place`."""

    joined_time: datetime
    market: str
    facts: Sequence[Fact]

    def known_at(self, known_at_time: datetime) -> History | None:
        """What was known at an instant; None where nobody knew the member yet."""
        facts = [fact for fact in self.facts if fact.recorded_time <= known_at_time]
        if not any(fact.kind is FactKind.JOINED for fact in facts):
            return None
        return History(joined_time=self.joined_time, market=self.market, facts=facts)


def history_of(facts: Sequence[Fact]) -> History:
    """The history that facts of a member, in any order, make. One of them is that it joined."""
    ordered = sorted(facts, key=lambda fact: fact.place)
    joined = next(fact for fact in ordered if fact.kind is FactKind.JOINED)
    return History(joined_time=joined.occurred_time, market=joined.name, facts=ordered)
