"""The rules of tiers a second time, slow and plain: at every instant all is counted again from all that has happened.

Written from DESIGN §6 and §12 and from what `services.programme.model` says its values mean, not from the domain of
tiers, whose facts are all that it knows of it. Ends of spans on the calendar are asked of the programme, whose own
tests pin them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.programme import (
    AppliesTo,
    CycleEnd,
    LinkedReturns,
    Market,
    Metric,
    OnReturn,
    Rejoining,
    TierPolicy,
    Versions,
)
from services.tiers.domain.facts import Fact, FactKind, Scope

TAKING_BACK = (FactKind.RETURN, FactKind.VOID)
SIDES = (FactKind.PURCHASE, FactKind.RETURN)


@dataclass(frozen=True)
class Seen:
    """What can be seen of a member at an instant; benefits 0: none, for the account is suspended."""

    balance: int
    matured: int
    tier: int
    benefits: int
    automatic: int
    since: datetime
    held_until: datetime | None
    valid_until: datetime | None


@dataclass
class Cycle:
    """A level is held from one instant to another; `before` things had happened when it began."""

    start: datetime
    end: datetime
    before: int
    from_level: int
    grace: bool = False


@dataclass
class Period:
    """An account is valid up to an instant; `before` things had come when that began, counted or not."""

    end: datetime
    before: int
    suspended: bool = False


def seen(versions: Versions, facts: Iterable[Fact], at_time: datetime) -> Seen | None:
    """What is seen at an instant, of facts in any order; None for one who has not joined, or is away."""
    member = Member(versions, facts, at_time)
    return member.seen() if member.live() else None


class Member:
    """A member who lives from joining to an instant, one instant after the other."""

    def __init__(self, versions: Versions, facts: Iterable[Fact], until: datetime) -> None:
        self.versions, self.until = versions, until
        ordered = sorted(facts, key=lambda fact: (fact.occurred_time, fact.number > 0, fact.ledger_offset, fact.number))
        self.joining = next(fact for fact in ordered if fact.kind is FactKind.JOINED)
        self.coming = [f for f in ordered if self.joined <= f.occurred_time <= until and f is not self.joining]
        # Who was no member can have bought all the same; all else is of members.
        self.happened = [fact for fact in ordered if fact.occurred_time < self.joined]
        # All that came since, in its order: what waits to count is there, too.
        self.came: list[Fact] = []
        self.level = self.matured_level = 1
        self.cycle: Cycle | None = None
        self.period: Period | None = None
        self.override: Fact | None = None
        # Sides of exchanges that wait for the other, and when what has waited began to count; what counted with what,
        # and when something of an exchange did last.
        self.waiting: list[Fact] = []
        self.began: dict[int, datetime] = {}
        self.counted_with: dict[int, list[Fact]] = {}
        self.settled: dict[str, datetime] = {}
        self.tier, self.since = 1, self.joined
        self.now = self.joined
        self.market: Market = versions.at(self.now).market(self.joining.name)

    @property
    def joined(self) -> datetime:
        return self.joining.occurred_time

    @property
    def policy(self) -> TierPolicy:
        return self.market.tiers

    # --- from instant to instant ---

    def live(self) -> bool:
        """Whether the member is one at the end of it."""
        if self.until < self.joined:
            return False
        self.begin_period()
        self.happens(self.joining)
        while True:
            facts = [fact for fact in self.coming if fact.occurred_time == self.now]
            for number, fact in enumerate(facts):
                same = [other for other in facts[number + 1 :] if other.kind in SIDES]
                self.happens(fact, more=any(other.exchange_id == fact.exchange_id for other in same))
            later = [instant for instant in self.instants() if self.now < instant <= self.until]
            if not later:
                return not self.is_away()
            self.now = min(later)
            self.time_comes()

    def instants(self) -> set[datetime]:
        """All at which anything may happen, by any version."""
        found = {fact.occurred_time for fact in self.coming}
        found |= {version.from_time for version in self.versions}
        for fact in self.happened:
            found |= {time for time in (fact.start_time, fact.until_time) if time is not None}
            for version in self.versions:
                market = version.programme.market(self.joining.name)
                found |= {self.end(market, fact), self.ripe(market, fact)}
        if self.cycle is not None:
            found.add(self.cycle.end)
        if self.period is not None:
            found.add(self.period.end)
        return found | {patience(fact) for fact in self.waiting if fact.exchange_id}

    def time_comes(self) -> None:
        """An instant begins: what counts changes by time alone, all of it at once."""
        market = self.versions.at(self.now).market(self.joining.name)
        if market is not self.market:
            self.go_by(market)
        if self.override is not None and self.override.until_time == self.now:
            self.override = None
        impatient = {fact.exchange_id for fact in self.waiting if fact.exchange_id and patience(fact) <= self.now}
        for exchange in impatient:
            self.settle(exchange, [])
        counting = [fact for fact in self.waiting if self.exchange(fact) in impatient]
        self.count(counting)
        if self.cycle is not None and self.cycle.end <= self.now:
            self.end_cycle(self.cycle)
        if self.period is not None and self.period.end <= self.now and not self.period.suspended:
            if self.is_renewed(self.period):
                self.begin_period()
            else:
                self.period.suspended = True
        self.look()

    def go_by(self, market: Market) -> None:
        """Another version holds: levels go by their keys, and benefits that were in force stay so."""
        before, self.market = self.policy, market
        if not holds_back(before, AppliesTo.BENEFITS):
            self.matured_level = self.level
        self.level, self.matured_level = (
            same_level(before, self.policy, number) for number in (self.level, self.matured_level)
        )
        if self.policy.retention is None:
            self.cycle = None
        elif self.cycle is not None:
            self.cycle.from_level = same_level(before, self.policy, self.cycle.from_level)
        elif self.level > 1:
            self.begin_cycle(self.level)
        if self.policy.validity is None:
            self.period = None
        elif self.period is None or (self.period.suspended and self.is_renewed(self.period)):
            self.begin_period()

    def happens(self, fact: Fact, *, more: bool = False) -> None:
        """Something happens to the member; of an exchange both sides count at once (§12.4).

        `more`: more of its exchange happens at the same instant.
        """
        self.came.append(fact)
        if self.period is not None and self.period.suspended and self.is_renewed(self.period):
            self.begin_period()
        exchange = self.exchange(fact)
        others = [other for other in self.waiting if exchange and self.exchange(other) == exchange]
        if exchange and self.must_wait(fact, others, more=more):
            self.waiting.append(fact)
            return
        if exchange:
            self.settle(exchange, [fact])
        if fact.kind is FactKind.OVERRIDE_SET and (fact.until_time is None or fact.until_time > self.now):
            self.override = fact
        if fact.kind is FactKind.OVERRIDE_CLEARED:
            self.override = None
        if fact.kind is FactKind.REJOINED and self.policy.rejoining is Rejoining.LATEST:
            self.level = self.matured_level = 1
            self.cycle = None
            self.happened += self.waiting
            self.waiting = []
        if fact.kind is FactKind.REJOINED:
            self.happened.append(fact)
            self.begin_period()
            self.rise_and_fall()
        else:
            self.count([*others, fact])
        self.look()

    def exchange(self, fact: Fact) -> str:
        """The exchange of a fact; of what comes back beside, that of the purchase, if it still waits."""
        if fact.exchange_id and fact.kind in SIDES:
            return fact.exchange_id
        for other in self.waiting:
            of_it = other.kind is FactKind.PURCHASE and other.purchase_id == fact.purchase_id != ""
            if fact.kind in TAKING_BACK and of_it:
                return other.exchange_id
        return ""

    def must_wait(self, fact: Fact, others: list[Fact], *, more: bool) -> bool:
        """Whether a fact of an exchange waits: until nothing more is there of its instant, and both sides are; unless
        the exchange has counted within the hour."""
        if not (fact.exchange_id and fact.kind in SIDES):
            return True
        if self.policy.metric not in (Metric.NET_SPEND, Metric.QUALIFYING_POINTS):
            return False
        if more:
            return True
        settled = self.settled.get(fact.exchange_id)
        if settled is not None and self.now < settled + timedelta(hours=1):
            return False
        return {other.kind for other in (*others, fact) if other.exchange_id} != set(SIDES)

    def settle(self, exchange: str, facts: list[Fact]) -> None:
        """What waits of an exchange is judged with what has just come."""
        whole = [*[fact for fact in self.waiting if self.exchange(fact) == exchange], *facts]
        for fact in whole:
            if len(whole) > 1:
                self.counted_with[fact.ledger_offset] = whole
        if self.policy.metric in (Metric.NET_SPEND, Metric.QUALIFYING_POINTS):
            self.settled[exchange] = self.now

    def count(self, facts: list[Fact]) -> None:
        """Things count from now on, all of them at once."""
        for fact in facts:
            if fact in self.waiting:
                self.waiting.remove(fact)
                self.began[fact.ledger_offset] = self.now
        self.happened += facts
        before = self.level
        self.rise_and_fall()
        if self.cycle is not None and self.level == before:
            self.move_in_cycle(self.cycle, facts)

    def look(self) -> None:
        if self.shown() != self.tier:
            self.tier, self.since = self.shown(), self.now

    # --- what counts ---

    def amount(self, fact: Fact) -> int:
        """What a fact is worth by the metric."""
        back = fact.kind in TAKING_BACK
        if self.policy.metric is Metric.NET_SPEND and (back or fact.kind is FactKind.PURCHASE):
            worth = {"total": fact.total, "goods_paid": fact.goods_paid}[self.policy.base]
            return -worth if back else worth
        if self.policy.metric is Metric.QUALIFYING_POINTS:
            return fact.points + sum(points for rule, points in fact.bonuses if rule in self.policy.qualifying)
        if self.policy.metric is Metric.VISITS:
            return {FactKind.PURCHASE: 1, FactKind.VOID: -1}.get(fact.kind, 0)
        if self.policy.metric is Metric.ACTIVITIES:
            return {FactKind.ACTIVITY: 1}.get(fact.kind, 0)
        return 0

    def counting_time(self, policy: TierPolicy, fact: Fact) -> datetime:
        """The instant whose window a fact belongs to (§12.5)."""
        linked = policy.linked_returns is LinkedReturns.PURCHASE_TIME and fact.kind in TAKING_BACK
        if linked and fact.purchase_time is not None and fact.purchase_time < fact.occurred_time:
            return fact.purchase_time
        return fact.occurred_time

    def end(self, market: Market, fact: Fact) -> datetime:
        return market.tiers.window.end(self.counting_time(market.tiers, fact), market.zone, self.joined)

    def ripe(self, market: Market, fact: Fact) -> datetime:
        cool_off = market.tiers.cool_off
        return fact.occurred_time if cool_off is None else cool_off.period.end(fact.occurred_time, market.zone)

    def ripe_of(self, fact: Fact) -> datetime:
        """When a fact counts towards what a cool-off holds back: what adds when it is so old, what takes away at once.
        What was judged together is one: what is left of it adds, or takes away."""
        together = self.counted_with.get(fact.ledger_offset, [fact])
        left = self.amount(fact) if len(together) == 1 else self.sum_of(together, None)
        if left <= 0:
            return fact.occurred_time
        bought = [one for one in together if one.kind is FactKind.PURCHASE]
        latest = max(bought, key=lambda one: one.occurred_time) if bought and len(together) > 1 else fact
        return self.ripe(self.market, latest)

    def is_member_time(self, fact: Fact) -> bool:
        """Whether a fact is later than the joining that counts, or at it where that is enough (R19, R20)."""
        begins = self.joined
        if self.policy.rejoining is Rejoining.LATEST:
            rejoined = [other.occurred_time for other in self.happened if other.kind is FactKind.REJOINED]
            begins = max([self.joined, *rejoined])
        time = self.counting_time(self.policy, fact)
        if time == begins == self.joined:
            return self.policy.from_joining or fact.kind is FactKind.JOINED
        return time > begins

    def sum_of(self, facts: Iterable[Fact], at: datetime | None, *, ripe: bool = False) -> int:
        """What facts add up to: of an instant those that count at it, else all that ever counted.

        `ripe`: of what adds, what is older than the cool-off alone; what takes away counts at once (§12.6).
        """
        total = 0
        for fact in facts:
            amount, ends = self.amount(fact), self.end(self.market, fact)
            if not self.is_member_time(fact) or ends <= self.began.get(fact.ledger_offset, fact.occurred_time):
                continue
            if at is not None and ends <= at:
                continue
            if ripe and at is not None and self.ripe_of(fact) > at:
                continue
            total += amount
        return total

    def balance(self) -> int:
        return self.sum_of(self.happened, self.now)

    def matured(self) -> int:
        return self.sum_of(self.happened, self.now, ripe=self.policy.cool_off is not None)

    def deciding(self, facts: Iterable[Fact], at: datetime) -> int:
        """The balance that decides the level."""
        return self.sum_of(facts, at, ripe=holds_back(self.policy, AppliesTo.LEVEL))

    # --- levels ---

    def rise_and_fall(self) -> None:
        balance = self.deciding(self.happened, self.now)
        level = self.next_level(balance, self.level)
        if self.policy.retention is not None and level > self.level:
            self.begin_cycle(self.level)
        self.level = level
        matured = self.next_level(self.matured(), self.matured_level)
        self.matured_level = min(matured, self.level)

    def next_level(self, balance: int, level: int) -> int:
        """Up by what enters; down by what keeps, and not at all while a cycle retains."""
        entered = highest(self.policy, balance, keeps=False, most=len(self.policy.levels))
        if self.policy.retention is not None:
            return max(entered, level)
        return max(entered, highest(self.policy, balance, keeps=True, most=level))

    def begin_cycle(self, from_level: int) -> None:
        assert self.policy.retention is not None
        end = self.policy.retention.cycle.end(self.now, self.market.zone)
        self.cycle = Cycle(self.now, end, len(self.happened), from_level)

    def earned_again(self, cycle: Cycle) -> int:
        """The highest level, up to the one held, that what happened inside the cycle keeps (§12.7)."""
        inside = self.sum_of(self.happened[cycle.before :], None)
        return highest(self.policy, inside, keeps=True, most=self.level)

    def end_cycle(self, cycle: Cycle) -> None:
        retention = self.policy.retention
        assert retention is not None
        # R21: whatever the window reaches is held at once.
        reached = self.next_level(self.deciding(self.happened, self.now), 1)
        level = max(self.earned_again(cycle), reached)
        if level < self.level and retention.grace is not None and not cycle.grace:
            cycle.grace = True
            cycle.end = retention.grace.end(self.now, self.market.zone)
            return
        if level < self.level and retention.at_end is CycleEnd.ONE_DOWN:
            level = max(level, highest(self.policy, None, keeps=True, most=self.level - 1))
        self.hold(level)

    def move_in_cycle(self, cycle: Cycle, facts: list[Fact]) -> None:
        retention = self.policy.retention
        assert retention is not None
        adds = self.sum_of(facts, None)
        if adds and cycle.grace and self.earned_again(cycle) == self.level:
            self.hold(self.level)
        elif adds < 0 and retention.on_return is OnReturn.TAKE_BACK and cycle.from_level < self.level:
            reached_with = self.deciding(self.happened[: cycle.before], cycle.start)
            left = reached_with + self.sum_of(self.happened[cycle.before :], None)
            level = self.next_level(max(left, self.deciding(self.happened, self.now)), 1)
            if level < self.level:
                self.hold(max(level, cycle.from_level))

    def hold(self, level: int) -> None:
        """The level is held for a new cycle."""
        self.level, self.matured_level = level, min(self.matured_level, level)
        self.cycle = None
        if level > 1:
            self.begin_cycle(level)

    # --- the account ---

    def begin_period(self) -> None:
        if self.policy.validity is not None:
            self.period = Period(self.policy.validity.period.end(self.now, self.market.zone), len(self.came))

    def is_renewed(self, period: Period) -> bool:
        """Whether a period has its confirmation and its purchases, each of which is of the period it happened in."""
        assert self.policy.validity is not None
        since = self.came[period.before :]
        purchases = sum(fact.kind is FactKind.PURCHASE and fact.occurred_time > self.joined for fact in since)
        confirmed = any(fact.kind is FactKind.CONFIRMED for fact in since)
        return confirmed and purchases >= self.policy.validity.transactions

    def is_away(self) -> bool:
        """Whether the member has left and not come back."""
        comings = [fact.kind for fact in self.happened if fact.kind in (FactKind.RESIGNED, FactKind.REJOINED)]
        return comings[-1:] == [FactKind.RESIGNED]

    # --- what is seen ---

    def paid(self) -> int:
        """The highest level that a plan gives now."""
        plans = {
            fact.name
            for fact in self.happened
            if fact.kind is FactKind.FEE
            and fact.occurred_time >= self.joined
            and fact.start_time is not None
            and fact.until_time is not None
            and fact.start_time <= self.now < fact.until_time
        }
        return max([level.number for level in self.policy.levels if level.plan in plans], default=0)

    def given(self) -> int:
        """The level that staff gave; 0: none, or one that is no more."""
        keys = {level.key: level.number for level in self.policy.levels}
        return keys.get(self.override.name, 0) if self.override is not None else 0

    def automatic(self) -> int:
        return max(self.level, self.paid())

    def shown(self) -> int:
        whole = self.override is not None and self.override.scope is Scope.TIER
        return self.given() or self.automatic() if whole else self.automatic()

    def benefits(self) -> int:
        if self.period is not None and self.period.suspended:
            return 0
        held_back = holds_back(self.policy, AppliesTo.BENEFITS)
        own = min(self.level, self.matured_level) if held_back else self.level
        return self.given() or max(own, self.paid())

    def seen(self) -> Seen:
        return Seen(
            balance=self.balance(),
            matured=self.matured(),
            tier=self.shown(),
            benefits=self.benefits(),
            automatic=self.automatic(),
            since=self.since,
            held_until=self.cycle.end if self.cycle is not None and self.shown() == self.level else None,
            valid_until=self.period.end if self.period is not None else None,
        )


def patience(fact: Fact) -> datetime:
    """Until when a side of an exchange waits: an hour, from when it happened or was heard of."""
    return max(fact.occurred_time, fact.recorded_time) + timedelta(hours=1)


def holds_back(policy: TierPolicy, what: AppliesTo) -> bool:
    return policy.cool_off is not None and policy.cool_off.applies_to is what


def highest(policy: TierPolicy, balance: int | None, *, keeps: bool, most: int) -> int:
    """The highest level up to a number that a balance enters, or keeps; None: any balance does."""
    found = 1
    for level in policy.levels[:most]:
        needed = level.kept_from if keeps else level.threshold
        if needed is not None and (balance is None or balance >= needed):
            found = level.number
    return found


def same_level(before: TierPolicy, after: TierPolicy, number: int) -> int:
    """The level of the same key; else the highest up to the same number that can be reached without a plan."""
    key = before.levels[number - 1].key
    numbers = [level.number for level in after.levels if level.key == key]
    return numbers[0] if numbers else highest(after, None, keeps=False, most=number)
