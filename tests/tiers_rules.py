"""A member under small policies, and what happens to it: for tests of the rules of tiers alone, without a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from services.programme import (
    AppliesTo,
    Base,
    CoolOff,
    CycleEnd,
    Level,
    OnReturn,
    Programme,
    Retention,
    TierPolicy,
    TierWindow,
    Version,
    Versions,
    Window,
    load,
)
from services.tiers.domain.facts import Fact, FactKind, History, Scope, history_of
from services.tiers.domain.standing import Line, Standing, evaluate, explain
from services.tiers.domain.track import (
    Agenda,
    Change,
    Happened,
    HistoryNeededError,
    MemberState,
    Stepped,
    TimePassed,
    joined,
    step,
)
from tests.conftest import PROGRAMMES

TIERED_365 = load(PROGRAMMES / "tiered-365.yaml")
WARSAW = TIERED_365.zone
MICROSECOND = timedelta(microseconds=1)
YEAR = TierWindow.rolling(Window(days=365))
THIRTY_DAYS = Window(days=30)
TWELVE_MONTHS = Window(months=12)


def local(text: str, *, fold: int = 0) -> datetime:
    """The instant at which Warsaw's clocks show this."""
    return datetime.fromisoformat(text).replace(tzinfo=WARSAW, fold=fold).astimezone(UTC)


JOINED = local("2024-01-01T09:00")


def level(number: int, name: str, threshold: int | None, **more: Any) -> Level:
    return Level(
        number=number,
        key=name.lower(),
        name=name,
        threshold=threshold,
        multiplier_bp=10_000,
        discount_bp=0,
        **more,
    )


def levels_of(*thresholds: int) -> tuple[Level, ...]:
    """White, then so many of Green, Silver and Golden."""
    names = ("White", "Green", "Silver", "Golden")
    return tuple(level(number, names[number - 1], at) for number, at in enumerate((None, *thresholds), start=1))


LEVELS = levels_of(300_00, 1000_00, 2000_00)


def policy(**rules: Any) -> TierPolicy:
    """All that was spent in 365 days, at once, and what is said beside."""
    return replace(TierPolicy(base=Base.TOTAL, window=YEAR, levels=LEVELS), **rules)


def cool_off(applies_to: AppliesTo = AppliesTo.BENEFITS) -> CoolOff:
    return CoolOff(period=THIRTY_DAYS, applies_to=applies_to)


def retention(
    at_end: CycleEnd = CycleEnd.EARNED, grace: Window | None = None, on_return: OnReturn = OnReturn.KEEP
) -> Retention:
    """A cycle of 12 months."""
    return Retention(cycle=TWELVE_MONTHS, at_end=at_end, grace=grace, on_return=on_return)


def programme(rules: TierPolicy) -> Programme:
    return replace(TIERED_365, tiers=rules)


class Member:
    """One member, and all that is heard of it, in this order."""

    def __init__(self, rules: TierPolicy | None = None, *, joined: datetime = JOINED, **more: Any) -> None:
        self.versions = Versions.only(programme(rules or policy()))
        self.facts: list[Fact] = []
        self._hear(FactKind.JOINED, joined, **more)

    def new_rules(self, rules: TierPolicy, from_time: datetime) -> None:
        """Another version holds from then on."""
        self.versions = Versions([*self.versions, Version(programme=programme(rules), from_time=from_time)])

    # --- what happens ---

    def _hear(self, kind: FactKind, at: datetime, *, known: datetime | None = None, **more: Any) -> Fact:
        number = len(self.facts) + 1
        decided = kind in (FactKind.CONFIRMED, FactKind.OVERRIDE_SET, FactKind.OVERRIDE_CLEARED)
        place = {"number": number} if decided else {"ledger_offset": number}
        fact = Fact(kind, at, known or at, **{**place, **more})
        self.facts.append(fact)
        return fact

    def buys(self, amount: int, at: datetime, **more: Any) -> Fact:
        given = {"total": amount, "goods_paid": amount, "points": amount // 100, **more}
        return self._hear(FactKind.PURCHASE, at, **given)

    def returns(self, amount: int, at: datetime, *, of: Fact | None = None, **more: Any) -> Fact:
        linked = {} if of is None else {"purchase_time": of.occurred_time}
        given = {"total": amount, "goods_paid": amount, "points": -(amount // 100), **linked, **more}
        return self._hear(FactKind.RETURN, at, **given)

    def voids(self, purchase: Fact, at: datetime) -> Fact:
        return self._hear(
            FactKind.VOID,
            at,
            total=purchase.total,
            goods_paid=purchase.goods_paid,
            points=-purchase.points,
            purchase_time=purchase.occurred_time,
        )

    def acts(self, at: datetime) -> Fact:
        return self._hear(FactKind.ACTIVITY, at, name="review")

    def is_awarded(self, at: datetime, **points_by_rule: int) -> Fact:
        return self._hear(FactKind.AWARD, at, bonuses=tuple(points_by_rule.items()))

    def pays(self, plan: str, at: datetime, *, until: datetime, start: datetime | None = None) -> Fact:
        return self._hear(FactKind.FEE, at, name=plan, start_time=start or at, until_time=until)

    def resigns(self, at: datetime) -> Fact:
        return self._hear(FactKind.RESIGNED, at)

    def rejoins(self, at: datetime) -> Fact:
        return self._hear(FactKind.REJOINED, at)

    def confirms(self, at: datetime) -> Fact:
        return self._hear(FactKind.CONFIRMED, at)

    def is_given(
        self, key: str, at: datetime, *, until: datetime | None = None, scope: Scope = Scope.TIER, **more: Any
    ) -> Fact:
        return self._hear(FactKind.OVERRIDE_SET, at, name=key, until_time=until, scope=scope, **more)

    def is_given_nothing(self, at: datetime) -> Fact:
        return self._hear(FactKind.OVERRIDE_CLEARED, at)

    # --- what is seen ---

    @property
    def history(self) -> History:
        return history_of(self.facts)

    def standing(self, at: datetime, *, known: datetime | None = None) -> Standing:
        history = self.history if known is None else self.history.known_at(known)
        assert history is not None
        return evaluate(self.versions, history, at)

    def tier(self, at: datetime) -> str:
        return self.standing(at).level.name

    def benefits(self, at: datetime) -> str | None:
        """The name of the level whose benefits are in force."""
        benefits = self.standing(at).benefits
        return None if benefits is None else benefits.name

    def balance(self, at: datetime) -> int:
        return self.standing(at).balance

    def lines(self, at: datetime) -> list[Line]:
        return list(explain(self.versions, self.history, at))

    # --- how it is lived ---

    def live(self, until: datetime) -> Sequence[Change]:
        """The changes as all is heard of, one after the other, and time goes on up to an instant."""
        return self.lived(until)[1]

    def lived(self, until: datetime) -> tuple[MemberState, Sequence[Change]]:
        """As `live`, and the state at the end."""
        first, *later = self.facts
        stepped = joined(self.versions, first)
        changes = list(stepped.changes)
        now = first.recorded_time
        for count, fact in enumerate(later, start=2):
            now = max(now, fact.recorded_time)
            stepped = self._step(stepped, Happened(fact=fact, not_before=now), count)
            changes += stepped.changes
        stepped = self._step(stepped, TimePassed(until=until), len(self.facts))
        return stepped.state, [*changes, *stepped.changes]

    def _step(self, before: Stepped, event: Happened | TimePassed, heard: int) -> Stepped:
        agenda: Agenda = before.agenda
        try:
            return step(self.versions, before.state, event, agenda)
        except HistoryNeededError:
            return step(self.versions, before.state, event, agenda, history_of(self.facts[:heard]))


def moves(changes: Sequence[Change]) -> list[tuple[int, int, datetime]]:
    """From which tier to which, and when."""
    return [(change.from_tier_number, change.to_tier_number, change.changed_time) for change in changes]
