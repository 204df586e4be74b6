"""Any policy and any history: `evaluate` is the plain model, `step` is `evaluate`, and what they foretell comes.

How the feed is cut into batches and due runs changes nothing: neither what members hold, nor what changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.programme import (
    SINCE_EVER,
    AppliesTo,
    Base,
    CoolOff,
    Counting,
    CycleEnd,
    Level,
    LinkedReturns,
    Metric,
    OnReturn,
    Rejoining,
    Retention,
    TierPolicy,
    TierWindow,
    Validity,
    Version,
    Versions,
    Window,
    load,
)
from services.tiers.domain.facts import Fact, FactKind, History, MemberKey, Movement, Scope, history_of
from services.tiers.domain.feed import (
    Cursor,
    Effects,
    EntryKind,
    HistoryWantedError,
    Known,
    LedgerEntry,
    TakenIn,
    TierChange,
    come_back,
    horizons,
    let_pass,
    take_in,
    unseen,
)
from services.tiers.domain.standing import Standing, evaluate, explain, standing_of
from services.tiers.domain.track import (
    Agenda,
    Change,
    Happened,
    HistoryNeededError,
    MemberState,
    Reason,
    Stepped,
    TimePassed,
    joined,
    step,
)
from services.tiers.errors import NotEnrolledError
from tests.conftest import PROGRAMMES
from tests.tiers_model import Seen, seen

TIERED_365 = load(PROGRAMMES / "tiered-365.yaml")
# Noon in Warsaw, two days before the night whose hour comes twice; most happens at noon, so that much coincides.
START = datetime(2024, 10, 25, 10, tzinfo=TIERED_365.zone)
NOON = [(START + timedelta(days=days)).replace(hour=12) for days in range(400)]


def noon(day: int, hours: float = 0) -> datetime:
    """The instant of noon of a day, or so many hours later."""
    return NOON[day].astimezone(SINCE_EVER.tzinfo) + timedelta(hours=hours)


# --- any policy -----------------------------------------------------------------------------------------------------


def levels_of(*given: tuple[str, int | None, int | None, str]) -> tuple[Level, ...]:
    """Levels by key, threshold, what keeps them, and plan."""
    return tuple(
        Level(
            number=number,
            key=key,
            name=key,
            threshold=threshold,
            keep_threshold=keep,
            plan=plan,
            multiplier_bp=10_000,
            discount_bp=0,
        )
        for number, (key, threshold, keep, plan) in enumerate(given, start=1)
    )


LADDERS = [
    levels_of(("a", None, None, ""), ("b", 10, None, ""), ("c", 20, None, ""), ("d", 40, None, "")),
    levels_of(("a", None, None, ""), ("b", 10, 7, ""), ("c", 20, 12, "plus"), ("d", 40, 25, "")),
    # What only a plan gives stands between what balances reach.
    levels_of(("a", None, None, ""), ("b", 10, None, ""), ("p", None, None, "plus"), ("d", 25, None, "")),
    levels_of(("a", None, None, ""), ("c", 15, None, ""), ("d", 30, None, "")),
]
WINDOWS = [
    *(TierWindow.rolling(span) for span in (Window(days=1), Window(days=3), Window(days=8), Window(months=1))),
    *(TierWindow(counting=counting) for counting in Counting if counting is not Counting.ROLLING),
]
spans = st.sampled_from([Window(days=days) for days in (1, 2, 4, 9)])
retentions = st.builds(
    Retention,
    cycle=spans,
    at_end=st.sampled_from(CycleEnd),
    grace=st.none() | spans,
    on_return=st.sampled_from(OnReturn),
)
policies = st.builds(
    TierPolicy,
    base=st.sampled_from(Base),
    window=st.sampled_from(WINDOWS),
    levels=st.sampled_from(LADDERS),
    metric=st.sampled_from([Metric.NET_SPEND] * 5 + list(Metric)),
    qualifying=st.sampled_from([frozenset(), frozenset({"extra"}), frozenset({"extra", "sign_up_bonus"})]),
    from_joining=st.booleans(),
    rejoining=st.sampled_from(Rejoining),
    linked_returns=st.sampled_from(LinkedReturns),
    cool_off=st.none() | st.builds(CoolOff, period=spans, applies_to=st.sampled_from(AppliesTo)),
    retention=st.none() | retentions,
    validity=st.none()
    | st.builds(
        Validity,
        period=st.sampled_from([Window(days=5), Window(days=12)]),
        transactions=st.integers(0, 2),
        warning=st.sampled_from([Window(days=1), Window(days=4)]),
    ),
)


def versions_of(policies: Sequence[TierPolicy], days: Sequence[int]) -> Versions:
    """The first policy since ever, then one after the other from the noons of these days."""
    starts = [SINCE_EVER, *(noon(day) for day in days)]
    return Versions(
        Version(programme=replace(TIERED_365, tiers=policy, version=f"v@{number}"), from_time=start)
        for number, (policy, start) in enumerate(zip(policies, starts, strict=False))
    )


any_versions = st.lists(policies, min_size=1, max_size=3).flatmap(
    lambda chosen: st.builds(
        versions_of, st.just(chosen), st.sets(st.integers(1, 25), min_size=2, max_size=2).map(sorted)
    )
)

# --- any history ----------------------------------------------------------------------------------------------------

PURCHASES = (FactKind.PURCHASE,) * 5
KINDS = [*PURCHASES, FactKind.RETURN, FactKind.RETURN, *(kind for kind in FactKind if kind is not FactKind.JOINED)]


@dataclass(frozen=True)
class Moment:
    """Something that happens some days after the one before; `late`: so many days before it is heard of."""

    kind: FactKind
    days: int
    hours: float
    late: int
    amount: int
    choice: int
    passes: bool
    """Whether time is let pass up to here first."""
    exchange: str = ""
    """The exchange that a purchase or a return is one side of."""


moments = st.builds(
    Moment,
    kind=st.sampled_from(KINDS),
    days=st.sampled_from([0, 0, 1, 1, 2, 3, 8]),
    hours=st.sampled_from([0, 0, 0, 0.5, 5]),
    late=st.sampled_from([0, 0, 0, 0, 1, 2, 7]),
    amount=st.sampled_from([1, 5, 9, 10, 11, 20, 25, 40]),
    choice=st.integers(0, 7),
    passes=st.booleans(),
    exchange=st.sampled_from(["", "", "", "x", "y"]),
)
many_moments = st.lists(moments, max_size=16)
JOINING = 8


def heard(moments: Sequence[Moment]) -> list[Fact]:
    """The facts of a member's moments as they are heard of, joining first."""
    begun = noon(JOINING)
    facts = [Fact(FactKind.JOINED, begun, begun, 1, points=3, bonuses=(("sign_up_bonus", 12),))]
    bought: list[Fact] = []
    day, away = JOINING, False
    for number, moment in enumerate(moments, start=2):
        day += moment.days
        kind = moment.kind
        if kind in (FactKind.RESIGNED, FactKind.REJOINED):
            kind = FactKind.REJOINED if away else FactKind.RESIGNED
            away = not away
        leaves = kind in (FactKind.RESIGNED, FactKind.REJOINED)
        # Nobody leaves at the instant of joining.
        occurred = noon(day, moment.hours or 0.25) if leaves else noon(day - moment.late, moment.hours)
        fact = Fact(kind, occurred, max(occurred, noon(day, moment.hours)), number)
        match kind:
            case FactKind.PURCHASE:
                fact = worth(fact, moment.amount, 1)._replace(purchase_id=f"p{number}")
                bought.append(fact)
            case FactKind.RETURN | FactKind.VOID if bought and moment.choice:
                one = bought[moment.choice % len(bought)]
                fact = worth(fact, one.total, -1)
                fact = fact._replace(purchase_id=one.purchase_id, purchase_time=one.occurred_time)
            case FactKind.RETURN | FactKind.VOID:
                fact = worth(fact, moment.amount, -1)
            case FactKind.AWARD:
                fact = fact._replace(bonuses=(("award", 5), ("extra", moment.amount)))
            case FactKind.FEE:
                starts, ends = noon(day + moment.choice % 3), noon(day + 3 + moment.choice)
                fact = fact._replace(name="plus", start_time=starts, until_time=ends)
            case FactKind.OVERRIDE_SET:
                fact = fact._replace(
                    name="abcdpz"[moment.choice % 6],
                    scope=Scope.TIER if moment.amount > 10 else Scope.BENEFITS,
                    until_time=noon(day + moment.choice) if moment.choice else None,
                )
        if kind in (FactKind.PURCHASE, FactKind.RETURN):
            fact = fact._replace(exchange_id=moment.exchange)
        if kind in (FactKind.CONFIRMED, FactKind.OVERRIDE_SET, FactKind.OVERRIDE_CLEARED):
            fact = fact._replace(ledger_offset=0, number=number)
        facts.append(fact)
    return facts


def worth(fact: Fact, amount: int, sign: int) -> Fact:
    """The fact of an amount, by each metric."""
    return fact._replace(total=amount, goods_paid=amount - 1, points=sign * amount, bonuses=(("extra", sign * 2),))


# --- evaluate is the model ------------------------------------------------------------------------------------------


def seen_by(standing: Standing) -> Seen:
    """What the model sees, too."""
    return Seen(
        balance=standing.balance,
        matured=standing.matured,
        tier=standing.level.number,
        benefits=0 if standing.benefits is None else standing.benefits.number,
        automatic=standing.automatic.number,
        since=standing.since_time,
        held_until=standing.held_until,
        valid_until=standing.valid_until,
    )


def evaluated(versions: Versions, history: History, at_time: datetime) -> Standing | None:
    """The standing; None for no member."""
    try:
        return evaluate(versions, history, at_time)
    except NotEnrolledError:
        return None


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    versions=any_versions,
    moments=many_moments,
    days=st.lists(st.integers(JOINING - 1, 70), min_size=2, max_size=2),
)
def test_evaluate_is_the_model_at_any_instant(versions: Versions, moments: list[Moment], days: list[int]) -> None:
    facts = heard(moments)
    for at_time in {*(noon(day) for day in days), facts[-1].recorded_time}:
        standing = evaluated(versions, history_of(facts), at_time)
        assert (None if standing is None else seen_by(standing)) == seen(versions, facts, at_time)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(versions=any_versions, moments=many_moments, day=st.integers(JOINING, 60))
def test_the_lines_that_count_add_up_to_the_balance(versions: Versions, moments: list[Moment], day: int) -> None:
    history = history_of(heard(moments))
    standing = evaluated(versions, history, noon(day))
    if standing is not None:
        lines = list(explain(versions, history, noon(day)))
        assert sum(line.amount for line in lines if line.not_counted is None) == standing.balance


@settings(max_examples=200, deadline=None, derandomize=True)
@given(versions=any_versions, moments=many_moments, days=st.tuples(st.integers(0, 40), st.integers(0, 40)))
def test_what_is_foretold_comes_and_nothing_else_comes_before(
    versions: Versions, moments: list[Moment], days: tuple[int, int]
) -> None:
    day, later = JOINING + min(days), JOINING + max(days)
    known = [fact for fact in heard(moments) if fact.occurred_time <= noon(day)]
    history = history_of(known)
    standing = evaluated(versions, history, noon(day))
    if standing is None:
        return

    def shown(at_time: datetime) -> tuple[int, int]:
        then = seen(versions, known, at_time)
        assert then is not None
        return then.tier, then.benefits

    now = seen_by(standing)
    foretold = standing.next_change
    if foretold is None or foretold.time > noon(later):
        assert shown(noon(later)) == (now.tier, now.benefits)
        return
    benefits = 0 if foretold.benefits is None else foretold.benefits.number
    assert shown(foretold.time - timedelta(microseconds=1)) == (now.tier, now.benefits)
    assert shown(foretold.time) == (foretold.level.number, benefits) != (now.tier, now.benefits)
    then = seen(versions, known, foretold.time)
    assert then is not None
    assert then.balance == foretold.balance


# --- step is evaluate -----------------------------------------------------------------------------------------------


@dataclass
class Life:
    """A member who lives through facts as they come, in any order: what a store would hold of it."""

    versions: Versions
    state: MemberState = field(init=False)
    agenda: Agenda = field(init=False)
    facts: list[Fact] = field(default_factory=list)
    movements: list[Movement] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    time: datetime = SINCE_EVER
    """Up to when all is processed."""
    since_is_known: bool = True
    """Whether nothing has been weighed without the history that came after a decision of its instant."""

    def join(self, fact: Fact) -> None:
        self.facts.append(fact)
        self._keep(joined(self.versions, fact))

    def hear(self, fact: Fact) -> None:
        self.facts.append(fact)
        decided = any(other.number for other in self.facts if other.occurred_time == fact.occurred_time)
        self._go(Happened(fact=fact, not_before=self.time), late=decided and not fact.number)
        self.time = max(self.time, fact.occurred_time)

    def let_pass(self, until: datetime) -> None:
        self.time = max(self.time, until)
        self._go(TimePassed(until=self.time), late=False)

    def reload(self) -> None:
        """The agenda as it is read from stored movements."""
        self.agenda = Agenda.of(self.movements, self.state.as_of)

    def standing(self) -> Standing | None:
        """The standing that the state shows; None for no member."""
        now = max(self.time, self.state.as_of)
        try:
            return standing_of(self.versions, self.state, Agenda.of(self.movements, self.state.as_of), now)
        except NotEnrolledError:
            return None
        except HistoryNeededError:
            return evaluate(self.versions, history_of(self.facts), now)

    def _go(self, event: Happened | TimePassed, *, late: bool) -> None:
        try:
            stepped = step(self.versions, self.state, event, self.agenda)
            self.since_is_known &= not late
        except HistoryNeededError:
            stepped = step(self.versions, self.state, event, self.agenda, history_of(self.facts))
            self.since_is_known = True
        self._keep(stepped)

    def _keep(self, stepped: Stepped) -> None:
        self.state, self.agenda = stepped.state, stepped.agenda
        self.changes.extend(stepped.changes)
        if stepped.redrawn is not None:
            self.movements = list(stepped.redrawn)
        else:
            self.movements.extend(stepped.movements)


def lives(versions: Versions, facts: Sequence[Fact], moments: Sequence[Moment]) -> Iterator[Life]:
    """A life after each of its events."""
    life = Life(versions)
    life.join(facts[0])
    yield life
    for fact, moment in zip(facts[1:], moments, strict=True):
        if moment.passes:
            life.let_pass(fact.recorded_time)
            yield life
        if moment.choice % 2:
            life.reload()
        life.hear(fact)
        yield life
    life.let_pass(noon(90))
    yield life


def assert_is_evaluated(life: Life) -> None:
    """The state shows what all that was heard comes to."""
    now = max(life.time, life.state.as_of)
    expected, found = evaluated(life.versions, history_of(life.facts), now), life.standing()
    # A state that something late was added to says so: since when the tier is held, the history is asked.
    exact = life.since_is_known and not life.state.carried.mended
    if expected is not None and found is not None and not exact:
        found = found._replace(since_time=expected.since_time)
    assert found == expected


@settings(max_examples=300, deadline=None, derandomize=True)
@given(versions=any_versions, moments=many_moments)
def test_step_is_evaluate_after_every_event(versions: Versions, moments: list[Moment]) -> None:
    for life in lives(versions, heard(moments), moments):
        assert_is_evaluated(life)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(versions=any_versions, moments=many_moments, chance=st.integers(0, 2**32).map(Random))
def test_step_is_evaluate_in_whatever_order_facts_arrive(
    versions: Versions, moments: list[Moment], chance: Random
) -> None:
    begun, *later = heard(moments)
    chance.shuffle(later)
    # They are numbered as they arrive, and of one instant that is their order.
    arrived = [
        fact._replace(number=number) if fact.number else fact._replace(ledger_offset=number)
        for number, fact in enumerate(later, start=2)
    ]
    for life in lives(versions, [begun, *arrived], moments):
        assert_is_evaluated(life)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(versions=any_versions, moments=many_moments)
def test_changes_are_a_chain_without_a_gap_that_never_goes_back_in_time(
    versions: Versions, moments: list[Moment]
) -> None:
    *_, life = lives(versions, heard(moments), moments)
    told = (1, 1)
    for number, change in enumerate(life.changes, start=1):
        assert change.sequence == number
        assert (change.from_tier_number, change.from_benefits_number) == told
        told = (change.to_tier_number, change.to_benefits_number)
        # A warning changes nothing yet, and by another version the same number may be another level.
        says_more = change.reason in (Reason.WARNED, Reason.PROGRAMME)
        assert says_more or told != (change.from_tier_number, change.from_benefits_number)
        assert 0 <= change.corrects < number
    assert (life.state.tier_number, life.state.benefits_number, life.state.sequence) == (*told, len(life.changes))
    times = [change.changed_time for change in life.changes]
    assert times == sorted(times)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(versions=any_versions, moments=many_moments)
def test_heard_of_in_time_every_change_is_there_in_the_model_at_its_instant(
    versions: Versions, moments: list[Moment]
) -> None:
    timely = [replace(moment, days=max(moment.days, 1), late=0, hours=0) for moment in moments]
    *_, life = lives(versions, heard(timely), timely)
    last_of_instant = {change.changed_time: change for change in life.changes}
    for instant, change in last_of_instant.items():
        then = seen(versions, life.facts, instant)
        if then is None:
            # At the same instant, but after the change, the member left.
            continue
        assert (change.to_tier_number, change.to_benefits_number) == (then.tier, then.benefits)
        if change.cause_offset or change.cause_number or instant not in {fact.occurred_time for fact in life.facts}:
            assert change.balance == then.balance


# --- batches and due runs -------------------------------------------------------------------------------------------


@dataclass
class Tables:
    """What the database holds, and the use cases over it, with the domain's own parts."""

    versions: Versions
    cursors: dict[int, Cursor]
    states: dict[MemberKey, MemberState] = field(default_factory=dict)
    taken: list[TakenIn] = field(default_factory=list)
    movements: dict[MemberKey, list[Movement]] = field(default_factory=dict)
    changes: list[TierChange] = field(default_factory=list)

    def take_in(self, entries: Sequence[LedgerEntry]) -> None:
        cursors = {p: self.cursors[p] for p in {entry.partition for entry in entries}}
        fresh = unseen(entries, cursors)
        until = horizons(fresh, cursors)
        known = self._known({key: until[key] for key in until if key in self.states})
        wanted = come_back(fresh)
        purchases = {
            (taken.partition, taken.member_id, taken.fact.purchase_id): taken.fact.occurred_time
            for taken in self.taken
            if taken.fact.kind is FactKind.PURCHASE
        }
        known = replace(known, purchases={key: time for key, time in purchases.items() if key in wanted})
        self._write(lambda given: take_in(self.versions, fresh, cursors, given), known)

    def run_due(self, limit: int) -> None:
        to_time = min(cursor.business_time for cursor in self.cursors.values())
        while True:
            due = sorted(key for key, state in self.states.items() if self._is_due(state, to_time))[:limit]
            known = self._known(dict.fromkeys(due, to_time))
            complete = len(due) < limit
            self._write(
                lambda given, complete=complete: let_pass(  # type: ignore[misc]
                    self.versions, to_time, self.cursors, given, complete=complete
                ),
                known,
            )
            if complete:
                return

    def _is_due(self, state: MemberState, until: datetime) -> bool:
        return not state.holds_at(max(until, state.as_of)) or self.versions.number_at(until) > state.version

    def _known(self, until: dict[MemberKey, datetime]) -> Known:
        agendas = {}
        for key, horizon in until.items():
            state = self.states[key]
            if state.next_due is not None and (state.next_due <= horizon or not state.waits_for_movements_alone):
                agendas[key] = self._agenda(key, horizon)
        return Known(states={key: self.states[key] for key in until}, agendas=agendas, histories={}, purchases={})

    def _agenda(self, key: MemberKey, until: datetime) -> Agenda:
        """What is due up to an instant, and no more."""
        whole = Agenda.of(self.movements.get(key, []), self.states[key].as_of)
        known = []
        while (instant := whole.next()) is not None and instant <= until:
            known.append((instant, *whole.take(instant)))
        return Agenda(known, beyond=whole.next())

    def _write(self, use: Callable[[Known], Effects], known: Known) -> None:
        while True:
            try:
                effects = use(known)
                break
            except HistoryWantedError as wanted:
                histories = {
                    key: [t.fact for t in self.taken if (t.partition, t.member_id) == key] for key in wanted.members
                }
                known = replace(known, histories={**known.histories, **histories})
        self.cursors.update(effects.cursors)
        self.states.update(effects.states)
        self.taken.extend(effects.facts)
        self.movements.update({key: list(redrawn) for key, redrawn in effects.redrawn.items()})
        for key, added in effects.movements.items():
            self.movements.setdefault(key, []).extend(added)
        self.changes.extend(effects.changes)

    def facts_of(self, key: MemberKey) -> list[Fact]:
        return [taken.fact for taken in self.taken if (taken.partition, taken.member_id) == key]


def log_of(partition: int, members: Sequence[Sequence[Moment]]) -> list[LedgerEntry]:
    """A partition of the ledger: what happened to its members, and a clock that sometimes moves up to it."""
    facts = [
        (fact, f"m{number}", passes)
        for number, moments in enumerate(members)
        for fact, passes in zip(heard(moments), [False, *(moment.passes for moment in moments)], strict=True)
        if not fact.number
    ]
    entries: list[LedgerEntry] = []
    for fact, name, passes in sorted(facts, key=lambda heard: heard[0].recorded_time):
        if passes:
            entries.append(LedgerEntry(partition, len(entries) + 1, EntryKind.CLOCK, "", fact.recorded_time))
        entries.append(
            LedgerEntry(
                partition=partition,
                offset=len(entries) + 1,
                kind=EntryKind.FACT,
                member_id=name,
                occurred_time=fact.occurred_time,
                recorded_time=fact.recorded_time,
                fact_kind=fact.kind,
                amount=fact.total,
                goods_paid=fact.goods_paid,
                purchase_id=fact.purchase_id,
                exchange_id=fact.exchange_id,
                rules=(("base", fact.points), *fact.bonuses),
                name=fact.name,
                effective_time=fact.start_time,
                until_time=fact.until_time,
            )
        )
    return [*entries, LedgerEntry(partition, len(entries) + 1, EntryKind.CLOCK, "", noon(100))]


def live_through(versions: Versions, logs: dict[int, list[LedgerEntry]], chance: Random) -> Tables:
    """Takes in the logs, cut into batches and due runs by chance."""
    tables = Tables(versions, {partition: Cursor(partition=partition) for partition in logs})
    heads = dict.fromkeys(logs, 0)
    while any(heads[partition] < len(log) for partition, log in logs.items()):
        batch = []
        for partition in chance.choice([[0], [1], [0, 1]]):
            size = chance.randint(1, 12)
            # What was taken in before may come again.
            again = max(heads[partition] - chance.randint(0, 2), 0)
            batch.extend(logs[partition][again : heads[partition] + size])
            heads[partition] = min(heads[partition] + size, len(logs[partition]))
        if batch:
            tables.take_in(batch)
        if chance.random() < 0.5:
            tables.run_due(limit=chance.randint(1, 3))
    tables.run_due(limit=1)
    return tables


def contents(tables: Tables) -> dict[MemberKey, list[Change]]:
    found: dict[MemberKey, list[Change]] = {}
    for place in tables.changes:
        found.setdefault((place.partition, place.member_id), []).append(place.change)
    return found


two_members = st.tuples(st.lists(moments, max_size=8), st.lists(moments, max_size=8))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(versions=any_versions, lines=st.tuples(two_members, two_members), chance=st.integers(0, 2**32).map(Random))
def test_however_partitions_interleave_each_member_changes_alike_and_numbers_have_no_gap(
    versions: Versions, lines: tuple[Sequence[list[Moment]], Sequence[list[Moment]]], chance: Random
) -> None:
    logs = {partition: log_of(partition, lines[partition]) for partition in (0, 1)}
    one, other = (live_through(versions, logs, chance) for _ in range(2))
    for partition, cursor in one.cursors.items():
        places = [place for place in one.changes if place.partition == partition]
        assert [place.offset for place in places] == list(range(1, cursor.change_offset + 1))
        processed = [place.ledger_offset_processed for place in places]
        assert processed == sorted(processed)
        assert cursor.ledger_offset == len(logs[partition])
    assert contents(one) == contents(other)
    assert one.states == other.states
    assert sorted(one.taken) == sorted(other.taken)
    for key in one.states:
        expected = seen(versions, one.facts_of(key), noon(100))
        if expected is not None:
            found = (one.states[key].balance, one.states[key].tier_number, one.states[key].benefits_number)
            assert found == (expected.balance, expected.tier, expected.benefits)
