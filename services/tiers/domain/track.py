"""How a standing goes on from one event to the next, without reading the history again.

A `MemberState` is where a member stands; `step` carries it on by one event, and says which changes that makes. First
comes, in the order of their instants, what is due up to the event (at the event's own instant, too): all that is due
at one instant is one. Then the event. What is late (it occurred before what came last) redraws the member's standing
as if it had been known in time, and tells the difference as one change of now: where that needs the whole history,
`step` raises HistoryNeededError, and is asked again with it.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from services.programme.model import (
    FOREVER,
    AppliesTo,
    CycleEnd,
    Market,
    Metric,
    OnReturn,
    Rejoining,
    TierPolicy,
)
from services.programme.versions import Versions
from services.tiers.domain.facts import (
    EXCHANGE_WAITS,
    MOVING,
    SIDES,
    Fact,
    FactKind,
    History,
    Movement,
    Scope,
    counts_from,
    exchange_of,
    has_both_sides,
    movement_of,
    waits_for_other_side,
    waits_until,
)

# What the number of benefits says where there are none: the account is suspended.
NO_BENEFITS = 0


# The least time there is.
_TICK = timedelta(microseconds=1)


class Reason(enum.StrEnum):
    """Why a standing changed."""

    MOVEMENT = "movement"
    WINDOW = "window"
    """Movements left the window."""
    MATURED = "matured"
    """A cool-off was over."""
    CYCLE_ENDED = "cycle_ended"
    TAKEN_BACK = "taken_back"
    """What had reached the tier came back; the coupons that it brought go with it."""
    PLAN = "plan"
    """A paid membership began or ended."""
    OVERRIDE = "override"
    """Staff set an override; or one is over, and what was earned beneath it rises above what was in force before."""
    OVERRIDE_ENDED = "override_ended"
    """One is over, by time or by staff, and nothing is reached by that."""
    WARNED = "warned"
    """Nothing yet: the account will not be valid for long."""
    SUSPENDED = "suspended"
    REVIVED = "revived"
    REJOINED = "rejoined"
    PROGRAMME = "programme"
    """Another version of the programme holds."""
    CORRECTED = "corrected"
    """Something was heard of late: `Change.corrects` names the change that it would have kept from happening."""


class Override(NamedTuple):
    """A level that staff gave."""

    level: str
    scope: Scope
    until_time: datetime | None
    reason: str
    principal: str
    before: str = ""
    """The key of the level whose benefits automation had in force when it was given."""


class Fee(NamedTuple):
    """A membership that is paid from one instant up to another."""

    plan: str
    start_time: datetime
    until_time: datetime


class Cycle(NamedTuple):
    """How long a level that was reached is held, and what has been done to earn it again."""

    start_time: datetime
    end_time: datetime
    balance: int
    """What has moved in it."""
    reached_with: int
    """The balance that reached the level."""
    reached_from: int
    """The number of the level before."""
    in_grace: bool = False


class Renewal(NamedTuple):
    """How long the account is valid, and what has been done to renew it."""

    end_time: datetime
    transactions: int = 0
    confirmed: bool = False
    warned: bool = False
    suspended: bool = False


class Carried(NamedTuple):
    """What a policy that looks at more than the balance of the moment carries along; the default is all of the rest."""

    market: str = ""
    resigned: bool = False
    counted_from: datetime | None = None
    """The latest joining time, where movements count from there; None: the first."""
    level: int | None = None
    """What automation says, where that is not the tier: under an override, a plan."""
    matured: int = 0
    """The balance that a cool-off lets count."""
    matured_level: int = 1
    cycle: Cycle | None = None
    fees: tuple[Fee, ...] = ()
    override: Override | None = None
    validity: Renewal | None = None
    told_version: int | None = None
    """By which version the tier was told last, where that was an older one: who is away is told nothing."""
    mended: bool = False
    """Whether something late was added since the tier changed: since when it is held, the history tells."""
    waiting: tuple[Fact, ...] = ()
    """Sides of exchanges whose other side has not come yet: they count together with it, or when they have waited. And
    what came back of such purchases meanwhile."""
    judged: tuple[tuple[str, datetime], ...] = ()
    """Exchanges that were judged less than an hour before, and when something of them counted last."""


PLAIN = Carried()


class MemberState(NamedTuple):
    """Where a member stands from `as_of` on, the instant of what came last: an event, or something that was due.

    How far time has passed since says the cursor. So the state follows from what happened alone, and not from how often
    somebody looked whether something was due.
    """

    joined_time: datetime
    as_of: datetime
    balance: int
    tier_number: int
    benefits_number: int
    """The tier whose benefits are in force; NO_BENEFITS for a suspended account."""
    since_time: datetime
    """Since when the tier has been held without a break."""
    next_due: datetime | None
    """When something is due next; None where nothing ever is."""
    sequence: int
    """How many changes have been told."""
    version: int = 0
    """The place, from 0, of the version of the programme that it goes by."""
    carried: Carried = PLAIN

    def holds_at(self, at_time: datetime) -> bool:
        """Whether this is the state of an instant: all processed is up to it, and nothing is due by then."""
        return self.as_of <= at_time and (self.next_due is None or at_time < self.next_due)

    @property
    def waits_for_movements_alone(self) -> bool:
        """Whether nothing else than a movement that matures or leaves is ever due."""
        carried = self.carried
        return not (carried.cycle or carried.override or carried.validity or carried.fees or carried.waiting)

    @property
    def counted_from(self) -> datetime:
        """From when on movements count."""
        return self.carried.counted_from or self.joined_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """A fact reaches the service; what lies before `not_before` has been processed for all members already."""

    fact: Fact
    not_before: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePassed:
    """Time goes on until an instant, and nothing else happens."""

    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a member's standing. `cause_offset`: the entry that made it; `cause_number`: the decision; neither:
    time alone did, at `changed_time`."""

    sequence: int
    reason: Reason
    from_tier_number: int
    to_tier_number: int
    from_benefits_number: int
    to_benefits_number: int
    balance: int
    changed_time: datetime
    cause_offset: int | None = None
    cause_number: int | None = None
    corrects: int = 0
    """The sequence of the change that it corrects; 0: none."""


class HistoryNeededError(Exception):
    """What came cannot be told from the state alone; the member's history is needed."""


class Agenda:
    """The instants at which movements of one member mature or leave the window, with what that does.

    `known` are (instant, balance, matured) up to some instant, `beyond` is the earliest after it. To ask beyond what is
    known is a ValueError.
    """

    __slots__ = ("_beyond", "_known")

    def __init__(self, known: Iterable[tuple[datetime, int, int]] = (), *, beyond: datetime | None = None) -> None:
        self._known = list(known)
        self._beyond = beyond
        heapq.heapify(self._known)

    @classmethod
    def of(cls, movements: Iterable[Movement], after: datetime) -> Agenda:
        """What these movements do later than an instant."""
        agenda = cls()
        for movement in movements:
            agenda.add(movement, after)
        return agenda

    @classmethod
    def leaving(cls, left: Iterable[tuple[datetime, int, datetime | None]], after: datetime) -> Agenda:
        """The same, of movements that count at that instant: when each leaves, its amount, and when it matures."""
        return cls.of((Movement(0, amount, after, end, matures) for end, amount, matures in left), after)

    def until(self, instant: datetime) -> Agenda:
        """What is known to happen before an instant; from it on, nothing is."""
        return Agenda([due for due in self._known if due[0] < instant], beyond=instant)

    def copy(self) -> Agenda:
        """Another of the same content."""
        return Agenda(self._known, beyond=self._beyond)

    @property
    def beyond(self) -> datetime | None:
        """From when on it is not known; None: all is."""
        return self._beyond

    def add(self, movement: Movement, after: datetime) -> None:
        """A movement that counts: what it does later than an instant."""
        matures, end = movement.matures_time, movement.end_time
        if end <= after or end == FOREVER:
            if matures is not None and after < matures < end:
                heapq.heappush(self._known, (matures, 0, movement.amount))
            return
        ripened = matures is None or matures < end
        if ripened and matures is not None and matures > after:
            heapq.heappush(self._known, (matures, 0, movement.amount))
        heapq.heappush(self._known, (end, -movement.amount, -movement.amount if ripened else 0))

    def next(self) -> datetime | None:
        """When something is due next."""
        if not self._known:
            return self._beyond
        if self._beyond is None:
            return self._known[0][0]
        return min(self._known[0][0], self._beyond)

    def take(self, instant: datetime) -> tuple[int, int]:
        """Takes out all that is due at the instant `next` said: what it adds to the balance, and to the matured one."""
        if instant == self._beyond:
            raise ValueError(f"what is due at {instant.isoformat()} was not loaded")
        balance = matured = 0
        while self._known and self._known[0][0] == instant:
            _, more, more_matured = heapq.heappop(self._known)
            balance += more
            matured += more_matured
        return balance, matured


class Stepped(NamedTuple):
    """What a step made."""

    state: MemberState
    changes: tuple[Change, ...]
    agenda: Agenda
    movements: tuple[Movement, ...] = ()
    """What is added: by the fact, where it counts, and by sides of exchanges that count from now on."""
    redrawn: tuple[Movement, ...] | None = None
    """All movements of the member, where another version of the programme weighs them in another way."""


def joined(versions: Versions, fact: Fact) -> Stepped:
    """A member that has just joined: the lowest tier; and what joining itself gave, where that counts."""
    track = Track.begun(versions, fact)
    track.take(fact)
    track.settle(Reason.MOVEMENT, fact)
    return track.stepped()


def step(
    versions: Versions, state: MemberState, event: Happened | TimePassed, agenda: Agenda, history: History | None = None
) -> Stepped:
    """Carries a member on by one event; costs what is due on the way, and no more.

    `agenda` belongs to the member and knows all that is due up to the event; it goes on with the state. `history` is
    the member's, with the event's fact in it: where a step needs it and has none, it raises HistoryNeededError, and
    neither state nor agenda have changed.
    """
    fact = event.fact if isinstance(event, Happened) else None
    until = max(event.fact.occurred_time, event.not_before) if isinstance(event, Happened) else event.until
    starts = _reweighed_from(versions, state, until)
    if starts is not None:
        if history is None:
            raise HistoryNeededError
        return _reweigh(versions, state, event, agenda, history, starts)
    # Who asks again with the history hands over the same agenda.
    is_changed = isinstance(event, Happened) and event.fact.occurred_time < state.as_of
    if is_changed or (state.next_due is not None and state.next_due <= until):
        agenda = agenda.copy()
    track = Track.of(versions, state, agenda)
    track.pass_time(until)
    if not isinstance(event, Happened):
        return track.stepped()
    fact, not_before = event.fact, event.not_before
    late = fact.occurred_time < track.as_of
    # What the level was before an override tells what its end is: an event of the same instant belongs to before.
    beside_override = track.override is not None and fact.occurred_time == track.as_of
    if (late and not _mends(track, fact)) or beside_override or track.was_judged_without(fact):
        return _hear_late(versions, track.stepped(), history, until, fact)
    passed = track.stepped() if late else None
    corrects = _corrected(passed.state, fact) if passed is not None else 0
    # What it changes of the past is told as one change of now.
    track.silent_before = not_before
    track.take(fact)
    track.settle(REASONS[fact.kind], fact, corrects)
    if track.as_of < not_before:
        track.pass_time(not_before)
        track.tell(not_before, REASONS[fact.kind], fact, corrects)
    # What adds nothing now may have added something by an earlier version.
    is_older = fact.occurred_time < versions[track.version].from_time
    if passed is not None and (is_older or len(track.added) > len(passed.movements)):
        track.mended = True
    if passed is not None and len(track.changes) > len(passed.changes):
        # Since when the tier would have been held, and whether it ever should have been lost, tells the history alone.
        return _hear_late(versions, passed, history, until, fact)
    stepped = track.stepped()
    forgets = fact.kind is FactKind.REJOINED and track.policy.rejoining is Rejoining.LATEST
    return stepped._replace(redrawn=()) if forgets else stepped


def _hear_late(versions: Versions, passed: Stepped, history: History | None, until: datetime, fact: Fact) -> Stepped:
    """What is late, after what was due: the standing as the whole history has it."""
    if history is None:
        raise HistoryNeededError
    redrawn = _redraw(versions, passed, history, max(until, passed.state.as_of), fact)
    return redrawn._replace(changes=(*passed.changes, *redrawn.changes))


def replay(versions: Versions, history: History, until: datetime, heard: Fact | None = None) -> Track:
    """The track of a whole history up to an instant; what occurs later is not known then.

    Where one of the facts has just been `heard` of, what it did is what is told next.
    """
    begin = next(fact for fact in history.facts if fact.kind is FactKind.JOINED)
    track = Track.begun(versions, begin)
    track.silent_before = FOREVER
    track.seen = [fact for fact in history.facts if fact.occurred_time < begin.occurred_time]
    later = [fact for fact in history.facts if begin.occurred_time <= fact.occurred_time <= until and fact is not begin]
    # What one instant says of an exchange is judged together.
    last = {(fact.exchange_id, fact.occurred_time): fact for fact in later if fact.exchange_id and fact.kind in SIDES}
    why = None
    for fact in (begin, *later):
        track.pass_time(fact.occurred_time)
        track.take(fact, more=last.get((fact.exchange_id, fact.occurred_time), fact) != fact)
        if fact == heard:
            why = track.why
        track.settle(REASONS[fact.kind], fact)
    track.pass_time(until)
    track.why = why
    return track


def _redraw(versions: Versions, passed: Stepped, history: History, until: datetime, fact: Fact) -> Stepped:
    """The state as the whole history has it, and how it differs from what was told."""
    state = passed.state
    track = replay(versions, history, until, heard=fact)
    corrects = _corrected(state, fact)
    track.goes_on_from(state, until)
    # A tier that was held before should never have been lost; any other is reached now.
    restored = corrects and track.since_time < fact.occurred_time
    track.tell(until, Reason.CORRECTED if restored else REASONS[fact.kind], fact, corrects)
    stepped = track.stepped()
    # When a side of an exchange counts depends on others.
    exchanges = fact.exchange_id or passed.movements or state.carried.waiting or track.waiting or track.swaps(fact)
    if fact.kind is FactKind.REJOINED or exchanges:
        return stepped._replace(redrawn=tuple(track.movements()))
    movement = track.weigh(fact)
    return stepped if movement is None else stepped._replace(movements=(movement,))


def _reweigh(
    versions: Versions,
    state: MemberState,
    event: Happened | TimePassed,
    agenda: Agenda,
    history: History,
    starts: datetime,
) -> Stepped:
    """As `step`, where from an instant on a version weighs movements in another way."""
    fact = event.fact if isinstance(event, Happened) else None
    until = max(event.fact.occurred_time, event.not_before) if isinstance(event, Happened) else event.until
    known = replace(history, facts=[other for other in history.facts if other != fact])
    changes: tuple[Change, ...] = ()
    if starts > state.as_of and _says_all(state, known):
        track = Track.of(versions, state, agenda.copy())
        track.seen = list(known.facts)
    elif starts > state.as_of:
        before = starts - _TICK
        passed = step(versions, state, TimePassed(until=before), agenda)
        state, changes = passed.state, passed.changes
        track = replay(versions, known, before)
        track.goes_on_from(state, before)
    else:
        # It was heard of late.
        track = replay(versions, known, state.as_of)
        track.goes_on_from(state, state.as_of)
        track.tell(state.as_of, Reason.PROGRAMME, None)
    track.pass_time(until)
    stepped = track.stepped()
    changes, redrawn = (*changes, *stepped.changes), tuple(track.movements())
    if fact is not None:
        stepped = step(versions, stepped.state, event, stepped.agenda, history)
        changes = (*changes, *stepped.changes)
        redrawn = (*redrawn, *stepped.movements) if stepped.redrawn is None else stepped.redrawn
    return stepped._replace(changes=changes, movements=(), redrawn=redrawn)


def _says_all(state: MemberState, history: History) -> bool:
    """Whether a state says all that a replay of its history up to there would, but for the movements.

    It does not say since when something late would have let the tier be held, which facts lie in a cycle, and when
    sides of exchanges came to count.
    """
    carried = state.carried
    return not (carried.mended or carried.cycle or any(fact.exchange_id for fact in history.facts))


def _corrected(told: MemberState, fact: Fact) -> int:
    """The change that something heard of late would have kept from happening, or made otherwise."""
    changed, validity = told.since_time, told.carried.validity
    if fact.occurred_time == changed and (fact.exchange_id, changed) in told.carried.judged:
        return told.sequence
    if validity is not None and validity.suspended:
        changed = max(changed, validity.end_time)
    return told.sequence if fact.occurred_time < min(told.as_of, changed) else 0


def _mends(track: Track, fact: Fact) -> bool:
    """Whether something late only adds to a balance that decides alone, or to nothing: then no history is needed."""
    if fact.kind not in MOVING:
        return False
    if fact.occurred_time < track.joined_time:
        return True
    waits = waits_for_other_side(track.policy, fact) or exchange_of(track.waiting, fact)
    # What was in force before an override, something earlier may change.
    if waits or track.override is not None:
        return False
    # It may have come back of a purchase that waited then, with which it matures.
    matures = track.policy.cool_off is not None and fact.kind is not FactKind.PURCHASE and fact.purchase_id
    return not (track.policy.remembers or matures) and track.validity is None


def _reweighed_from(versions: Versions, state: MemberState, until: datetime) -> datetime | None:
    """From when on, up to an instant, a version weighs movements in another way, or was heard of late; None: never."""
    later = range(state.version + 1, versions.number_at(max(until, state.as_of)) + 1)
    if not later:
        return None
    market = state.carried.market
    way = _weighing(versions[state.version].programme.market(market))
    for number in later:
        version = versions[number]
        if version.from_time <= state.as_of or _weighing(version.programme.market(market)) != way:
            return version.from_time
    return None


def _weighing(market: Market) -> tuple[object, ...]:
    """What the movements of a policy follow from."""
    policy = market.tiers
    return (
        market.time_zone,
        market.currency,
        policy.metric,
        policy.base if policy.metric is Metric.NET_SPEND else None,
        policy.qualifying if policy.metric is Metric.QUALIFYING_POINTS else None,
        policy.window,
        policy.cool_off,
        policy.from_joining,
        policy.rejoining,
        policy.linked_returns,
    )


REASONS = {
    FactKind.JOINED: Reason.MOVEMENT,
    FactKind.PURCHASE: Reason.MOVEMENT,
    FactKind.RETURN: Reason.MOVEMENT,
    FactKind.VOID: Reason.MOVEMENT,
    FactKind.AWARD: Reason.MOVEMENT,
    FactKind.ACTIVITY: Reason.MOVEMENT,
    FactKind.FEE: Reason.PLAN,
    FactKind.RESIGNED: Reason.MOVEMENT,
    FactKind.REJOINED: Reason.REJOINED,
    FactKind.CONFIRMED: Reason.REVIVED,
    FactKind.OVERRIDE_SET: Reason.OVERRIDE,
    FactKind.OVERRIDE_CLEARED: Reason.OVERRIDE_ENDED,
}


class Track:
    """A member on the way from one instant to the next. Not shared: made of a state, and turned into the next."""

    def __init__(self, versions: Versions, joined_time: datetime, version: int, market: str, agenda: Agenda) -> None:
        self._versions = versions
        self.joined_time = joined_time
        self.version = version
        self._market_key = market
        self._agenda = agenda
        self._enter(version)
        self.as_of = joined_time
        self.balance = self.matured = 0
        self.level = self.matured_level = 1
        self.cycle: Cycle | None = None
        self.fees: tuple[Fee, ...] = ()
        self.override: Override | None = None
        self.validity: Renewal | None = None
        self.resigned = False
        self.counted_from = joined_time
        self.tier = self.benefits = 1
        self.since_time = joined_time
        self.told = (1, 1)
        self.sequence = 0
        self.silent_before = joined_time
        self.changes: list[Change] = []
        # In a replay: all facts so far; None: they are not known.
        self.seen: list[Fact] | None = None
        # So many of them had come when the cycle began.
        self._reached_by = 0
        # Why the last fact changed what it did, where its kind does not say so; until it is told.
        self.why: Reason | None = None
        self.told_version = version
        self.mended = False
        self.waiting: tuple[Fact, ...] = ()
        self.judged: dict[str, datetime] = {}
        # What has been added; when that which had waited was; and what was judged together with it.
        self.added: list[Movement] = []
        self._counted_at: dict[int, datetime] = {}
        self._together: dict[int, Sequence[Fact]] = {}

    @classmethod
    def begun(cls, versions: Versions, fact: Fact) -> Track:
        """The track of a member whose joining is this fact."""
        track = cls(versions, fact.occurred_time, versions.number_at(fact.occurred_time), fact.name, Agenda())
        track._begin_validity(fact.occurred_time)
        return track

    @classmethod
    def of(cls, versions: Versions, state: MemberState, agenda: Agenda) -> Track:
        """The track that goes on from a state."""
        carried = state.carried
        track = cls(versions, state.joined_time, state.version, carried.market, agenda)
        track.as_of = state.as_of
        track.balance, track.matured = state.balance, carried.matured
        track.level = state.tier_number if carried.level is None else carried.level
        track.matured_level = carried.matured_level
        track.cycle, track.fees, track.override = carried.cycle, carried.fees, carried.override
        track.validity, track.resigned = carried.validity, carried.resigned
        track.counted_from = state.counted_from
        track.tier, track.benefits = track.told = (state.tier_number, state.benefits_number)
        track.since_time, track.sequence = state.since_time, state.sequence
        track.mended, track.waiting, track.judged = carried.mended, carried.waiting, dict(carried.judged)
        if carried.told_version is not None:
            track.told_version = carried.told_version
        if track.resigned:
            # What nobody was told of one who is away.
            track.tier, track.benefits = track.shown
        return track

    def _enter(self, version: int) -> None:
        self.version = version
        self._movements: list[Movement] | None = None
        self.market = self._versions[version].programme.market(self._market_key)
        policy: TierPolicy = self.market.tiers
        self.policy = policy
        self._keeps = any(level.keep_threshold is not None for level in policy.levels)
        held_back = None if policy.cool_off is None else policy.cool_off.applies_to
        self._holds_level_back = held_back is AppliesTo.LEVEL
        self._holds_benefits_back = held_back is AppliesTo.BENEFITS

    def stepped(self) -> Stepped:
        """Where it stands, and what it told on the way."""
        plain_level = self.level == self.told[0]
        carried = Carried(
            market=self._market_key,
            resigned=self.resigned,
            counted_from=None if self.counted_from == self.joined_time else self.counted_from,
            level=None if plain_level else self.level,
            matured=self.matured if self.policy.cool_off is not None else 0,
            matured_level=self.matured_level,
            cycle=self.cycle,
            fees=self.fees,
            override=self.override,
            validity=self.validity,
            told_version=None if self.told_version == self.version else self.told_version,
            mended=self.mended,
            waiting=self.waiting,
            judged=tuple([(name, at) for name, at in self.judged.items() if self.as_of < at + EXCHANGE_WAITS]),
        )
        state = MemberState(
            joined_time=self.joined_time,
            as_of=self.as_of,
            balance=self.balance,
            tier_number=self.told[0],
            benefits_number=self.told[1],
            since_time=self.since_time,
            next_due=self.next_due(),
            sequence=self.sequence,
            version=self.version,
            carried=PLAIN if carried == PLAIN else carried,
        )
        return Stepped(state, tuple(self.changes), self._agenda, tuple(self.added))

    def goes_on_from(self, state: MemberState, at: datetime) -> None:
        """What was told of a member so far: a replay tells from an instant on how it differs from that, and goes on."""
        told_version = state.carried.told_version
        self.told = (state.tier_number, state.benefits_number)
        self.told_version = state.version if told_version is None else told_version
        self.sequence, self.silent_before = state.sequence, at
        self.added = []

    # --- time ---

    def next_due(self) -> datetime | None:
        """When something is due next, another version of the programme aside."""
        if not (self.override or self.cycle or self.validity or self.fees or self.waiting):
            return self._agenda.next()
        instants = [self._agenda.next()]
        if self.override is not None:
            instants.append(self.override.until_time)
        instants += [waits_until(fact) for fact in self.waiting if fact.exchange_id]
        instants += [fee.start_time if fee.start_time > self.as_of else fee.until_time for fee in self.fees]
        if self.cycle is not None:
            instants.append(self.cycle.end_time)
        if self.validity is not None and not self.validity.suspended:
            instants.append(self.validity.end_time if self.validity.warned else self._warning_time(self.validity))
        due = min([instant for instant in instants if instant is not None], default=None)
        # By a new version something may have been due already.
        return None if due is None else max(due, self.as_of)

    def next_instant(self) -> datetime | None:
        """When something happens next by time alone: what is due, or another version of the programme."""
        due = self.next_due()
        following = self.version + 1
        if following == len(self._versions):
            return due
        starts = self._versions[following].from_time
        return starts if due is None else min(starts, due)

    @property
    def known_until(self) -> datetime | None:
        """From when on it is not known what happens by time alone; None: all is."""
        return self._agenda.beyond

    def pass_time(self, until: datetime) -> None:
        """Makes all that happens by time alone up to an instant, the instant's own included."""
        while (instant := self.next_instant()) is not None and instant <= until:
            self.advance(instant)

    def advance(self, at: datetime) -> None:
        """Makes what happens at the instant that `next_instant` said; a version begins before all else of it."""
        following = self.version + 1
        begins = following < len(self._versions) and self._versions[following].from_time <= at
        if begins:
            self._go_by(following, at)
        self._make_due(at, begins=begins)

    def _make_due(self, at: datetime, *, begins: bool) -> None:
        """`begins`: another version of the programme does."""
        self.as_of = at
        reason = Reason.WINDOW
        ended = None
        if self.override is not None and self.override.until_time is not None and self.override.until_time <= at:
            ended, self.override, reason = self.override, None, Reason.OVERRIDE_ENDED
        if any(at in (fee.start_time, fee.until_time) for fee in self.fees):
            self.fees, reason = tuple([fee for fee in self.fees if fee.until_time > at]), Reason.PLAN
        if self._agenda.next() == at:
            balance, matured = self._agenda.take(at)
            self.balance += balance
            self.matured += matured
            reason = Reason.MATURED if not balance and matured > 0 else Reason.WINDOW
        waited = {fact.exchange_id for fact in self.waiting if fact.exchange_id and waits_until(fact) <= at}
        moved = None
        for exchange in sorted(waited):
            added = self._judge(exchange, self._waiting_of(exchange))
            moved = moved if added is None else (moved or 0) + added
            reason = Reason.MOVEMENT
        self._decide()
        if moved and self.cycle is not None:
            self._move_in_cycle(self.cycle, moved)
        if self.cycle is not None and self.cycle.end_time <= at:
            reason = Reason.CYCLE_ENDED
            self._end_cycle(self.cycle)
        if ended is not None and reason is Reason.OVERRIDE_ENDED:
            reason = self._why_without(ended)
        if begins:
            reason = Reason.PROGRAMME
        if self.validity is not None and not self.validity.suspended:
            reason = self._make_validity_due(self.validity, at) or reason
        self.settle(reason, None)

    def _go_by(self, version: int, at: datetime) -> None:
        """Another version of the programme holds from now on; what it decides, `_make_due` does."""
        before, weighed, held_back = self.policy, _weighing(self.market), self._holds_benefits_back
        self._enter(version)
        self.as_of = at
        policy = self.policy
        if _weighing(self.market) != weighed:
            self._weigh_anew(at)
        # Benefits that nothing held back are in force, and stay so.
        matured_level = self.matured_level if held_back else self.level
        self.matured_level = _in(policy, before, matured_level) if self._holds_benefits_back else 1
        self.level = _in(policy, before, self.level)
        if policy.retention is None:
            self.cycle = None
        elif self.cycle is None and self.level > 1:
            self._begin_cycle(at, self.deciding, self.level)
        elif self.cycle is not None:
            self.cycle = self.cycle._replace(reached_from=_in(policy, before, self.cycle.reached_from))
        if policy.validity is None:
            self.validity = None
        elif self.validity is None or (self.validity.suspended and self._is_renewed(self.validity)):
            self._begin_validity(at)

    def _weigh_anew(self, at: datetime) -> None:
        if self.seen is None:
            raise HistoryNeededError
        rejoined = [fact.occurred_time for fact in self.seen if fact.kind is FactKind.REJOINED]
        latest = rejoined and self.policy.rejoining is Rejoining.LATEST
        self.counted_from = rejoined[-1] if latest else self.joined_time
        movements = self.movements()
        self.balance, self.matured = self._balances(movements, at)
        self._agenda = Agenda.of(movements, at)
        if self.cycle is not None:
            balance, matured = self._balances(self._weighed(self.seen[: self._reached_by]), self.cycle.start_time)
            self.cycle = self.cycle._replace(
                balance=sum([movement.amount for movement in self._weighed(self.seen[self._reached_by :])]),
                reached_with=matured if self._holds_level_back else balance,
            )

    def _balances(self, movements: Iterable[Movement], at: datetime) -> tuple[int, int]:
        """The balance of an instant, and what of it a cool-off lets count."""
        counted = [movement for movement in movements if movement.end_time > at]
        balance = sum([movement.amount for movement in counted])
        if self.policy.cool_off is None:
            return balance, 0
        return balance, sum([movement.amount for movement in counted if movement.ripens <= at])

    def movements(self) -> list[Movement]:
        """In a replay: what counted or counts of all facts so far, by the version that holds."""
        assert self.seen is not None, "only a replay knows what was"
        if self._movements is None:
            self._movements = self._weighed(self.seen)
        return self._movements

    def _weighed(self, facts: Iterable[Fact]) -> list[Movement]:
        return [movement for fact in facts if (movement := self.weigh(fact)) is not None]

    def weigh(self, fact: Fact) -> Movement | None:
        """What a fact adds to the balance; None where it does not count."""
        movement = self._unripened(fact)
        return None if movement is None else self.ripened(fact, movement)

    def _unripened(self, fact: Fact) -> Movement | None:
        """The same, with the maturity that it would have alone."""
        if fact.kind not in MOVING or not counts_from(self.policy, fact, self.joined_time, self.counted_from):
            return None
        movement = movement_of(self.market, self.joined_time, fact)
        counted_at = self._counted_at.get(fact.ledger_offset)
        return None if movement is None or (counted_at is not None and movement.end_time <= counted_at) else movement

    def ripened(self, fact: Fact, movement: Movement) -> Movement:
        """A movement with its maturity: what was judged together matures as one, what is left of it, as a purchase or
        as a return does (§12.4, §12.6)."""
        together, cool_off = self._together.get(fact.ledger_offset), self.policy.cool_off
        if together is None or cool_off is None:
            return movement
        left = sum([counted.amount for one in together if (counted := self._unripened(one)) is not None])
        if left <= 0:
            return movement._replace(matures_time=None)
        bought = [one.occurred_time for one in together if one.kind is FactKind.PURCHASE]
        matures = cool_off.period.end(max(bought, default=fact.occurred_time), self.market.zone)
        return movement._replace(matures_time=min(matures, movement.end_time))

    # --- facts ---

    def take(self, fact: Fact, *, more: bool = False) -> None:
        """Takes a fact in, late or in time. `more`: the same instant says more of its exchange."""
        if fact.kind in MOVING:
            self._move(fact, more=more)
            return
        self._see([fact])
        at = self.as_of = max(self.as_of, fact.occurred_time)
        self.why = None
        match fact.kind:
            case FactKind.FEE:
                assert fact.start_time is not None
                assert fact.until_time is not None
                if fact.until_time > at:
                    self.fees = (*self.fees, Fee(fact.name, fact.start_time, fact.until_time))
            case FactKind.RESIGNED:
                self.resigned = True
            case FactKind.REJOINED:
                self._rejoin(at)
            case FactKind.OVERRIDE_SET:
                assert fact.scope is not None
                if fact.until_time is None or fact.until_time > at:
                    given = self.override
                    before = self.policy.level(self.automatic[1]).key if given is None else given.before
                    self.override = Override(
                        fact.name, fact.scope, fact.until_time, fact.reason, fact.principal, before
                    )
            case FactKind.OVERRIDE_CLEARED if self.override is not None:
                ended, self.override = self.override, None
                self.why = self._why_without(ended)
            case FactKind.CONFIRMED:
                self._renewing(confirmed=True)

    def _see(self, facts: Sequence[Fact]) -> None:
        if self.seen is not None and facts:
            self.seen += facts
            self._movements = None

    def _move(self, fact: Fact, *, more: bool) -> None:
        self.as_of = max(self.as_of, fact.occurred_time)
        self.why = None
        # What an exchange adds waits for its other side; that somebody has bought does not.
        if fact.kind is FactKind.PURCHASE and fact.occurred_time > self.joined_time:
            self._renewing(transactions=1)
        exchange = exchange_of(self.waiting, fact) if fact.occurred_time >= self.joined_time else ""
        if exchange and self._waits(fact, exchange, more=more):
            self.waiting = (*self.waiting, fact)
            return
        moved = self._judge(exchange, [*self._waiting_of(exchange), fact]) if exchange else self._count([fact])
        if moved is None:
            return
        self._decide()
        if moved and self.cycle is not None:
            self._move_in_cycle(self.cycle, moved)

    def _waits(self, fact: Fact, exchange: str, *, more: bool) -> bool:
        """Whether a fact of an exchange waits for more of it."""
        if not fact.exchange_id:
            return True
        if not waits_for_other_side(self.policy, fact):
            return False
        if more:
            return True
        is_whole = has_both_sides([*self._waiting_of(exchange), fact])
        return not (is_whole or self._is_judged(exchange, fact.occurred_time))

    def _waiting_of(self, exchange: str) -> list[Fact]:
        """What of an exchange waits."""
        return [fact for fact in self.waiting if exchange_of(self.waiting, fact) == exchange]

    def _is_judged(self, exchange: str, at: datetime) -> bool:
        """Whether an exchange was judged so lately that what comes is more of it, and waits for nothing."""
        judged = self.judged.get(exchange)
        return judged is not None and at < judged + EXCHANGE_WAITS

    def was_judged_without(self, fact: Fact) -> bool:
        """Whether the exchange of a fact was judged at the fact's instant: then it is judged anew."""
        return waits_for_other_side(self.policy, fact) and self.joined_time <= fact.occurred_time == self.judged.get(
            fact.exchange_id
        )

    def swaps(self, fact: Fact) -> bool:
        """In a replay: whether a fact was judged together with others."""
        return fact.ledger_offset in self._together

    def _judge(self, exchange: str, facts: Sequence[Fact]) -> int | None:
        """Lets what there is of an exchange count, together; as `_count`."""
        if len(facts) > 1:
            self._together |= dict.fromkeys([fact.ledger_offset for fact in facts], facts)
        if any(waits_for_other_side(self.policy, fact) for fact in facts):
            self.judged[exchange] = self.as_of
        return self._count(facts)

    def _count(self, facts: Sequence[Fact]) -> int | None:
        """Lets facts count from now on; what they add together, None where none of them adds anything now."""
        moved = None
        self._see(facts)
        for fact in facts:
            if fact in self.waiting:
                self.waiting = tuple([waiting for waiting in self.waiting if waiting != fact])
                self._counted_at[fact.ledger_offset] = self.as_of
            movement = self.weigh(fact)
            if movement is None:
                continue
            self.added.append(movement)
            if movement.end_time <= self.as_of:
                continue
            moved = (moved or 0) + movement.amount
            self.balance += movement.amount
            if self.policy.cool_off is not None and movement.ripens <= self.as_of:
                self.matured += movement.amount
            self._agenda.add(movement, self.as_of)
            if self.cycle is not None:
                self.cycle = self.cycle._replace(balance=self.cycle.balance + movement.amount)
        return moved

    def _rejoin(self, at: datetime) -> None:
        self.resigned = False
        # Who comes back has just been asked for everything: the account is valid anew.
        self._begin_validity(at)
        if self.policy.rejoining is Rejoining.LATEST:
            self.counted_from = at
            self.balance = self.matured = 0
            self.level = self.matured_level = 1
            self.cycle = None
            # By another version it may count from the first joining.
            self._see(self.waiting)
            self.waiting = ()
            self._agenda = Agenda()

    # --- levels ---

    @property
    def deciding(self) -> int:
        """The balance that decides the level."""
        return self.matured if self._holds_level_back else self.balance

    def _decide(self) -> None:
        """The level by the balance; where it is retained, that only ever rises here."""
        level = self._by(self.deciding, self.level)
        if level > self.level and self.policy.retention is not None:
            self._begin_cycle(self.as_of, self.deciding, self.level)
        self.level = level
        if self._holds_benefits_back:
            self.matured_level = min(self._by(self.matured, self.matured_level), self.level)

    def stays(self, least: int, most: int) -> bool:
        """Whether nothing but movements that leave is due, and none that leave change anything while the balance stays
        within these bounds."""
        alone = not (self.cycle or self.override or self.validity or self.fees or self.waiting)
        is_last = self.version + 1 == len(self._versions)
        return (
            alone
            and is_last
            and self.policy.cool_off is None
            and self._by(least, self.level) == self._by(most, self.level) == self.level
        )

    def _by(self, balance: int, level: int) -> int:
        reached = self.policy.level_for(balance).number
        if self.policy.retention is not None:
            return max(reached, level)
        return max(reached, self.policy.level_kept(balance, level).number) if self._keeps else reached

    def _begin_cycle(self, at: datetime, reached_with: int, reached_from: int) -> None:
        retention = self.policy.retention
        assert retention is not None
        end = retention.cycle.end(at, self.market.zone)
        self.cycle = Cycle(at, end, 0, reached_with, reached_from)
        self._reached_by = len(self.seen or ())

    def _move_in_cycle(self, cycle: Cycle, amount: int) -> None:
        retention = self.policy.retention
        assert retention is not None
        if cycle.in_grace and self.policy.level_kept(cycle.balance, self.level).number >= self.level:
            self._begin_cycle(self.as_of, cycle.balance, self.level)
        elif amount < 0 and retention.on_return is OnReturn.TAKE_BACK:
            # What the window still reaches is not taken back, or the next event would give it again.
            left = self.policy.level_for(max(cycle.reached_with + cycle.balance, self.deciding)).number
            if left < self.level and cycle.reached_from < self.level:
                self._fall_to(max(left, cycle.reached_from), cycle.reached_with + cycle.balance)
                self.why = Reason.TAKEN_BACK

    def _end_cycle(self, cycle: Cycle) -> None:
        retention = self.policy.retention
        assert retention is not None
        # What the window still reaches is reached again at once.
        reached = self.policy.level_for(self.deciding).number
        earned = max(self.policy.level_kept(cycle.balance, self.level).number, reached)
        if earned >= self.level:
            self._begin_cycle(self.as_of, max(cycle.balance, self.deciding), self.level)
        elif retention.grace is not None and not cycle.in_grace:
            end = retention.grace.end(self.as_of, self.market.zone)
            self.cycle = cycle._replace(end_time=end, in_grace=True)
        else:
            lower = _earned(self.policy, self.level - 1) if retention.at_end is CycleEnd.ONE_DOWN else 1
            self._fall_to(max(earned, lower), cycle.balance)

    def _fall_to(self, level: int, reached_with: int) -> None:
        self.level = level
        self.matured_level = min(self.matured_level, level)
        self.cycle = None
        if level > 1:
            self._begin_cycle(self.as_of, reached_with, level)

    # --- the account's validity ---

    def _begin_validity(self, at: datetime) -> None:
        rule = self.policy.validity
        if rule is not None:
            self.validity = Renewal(rule.period.end(at, self.market.zone))

    def _warning_time(self, validity: Renewal) -> datetime:
        rule = self.policy.validity
        assert rule is not None
        return rule.warning.start(validity.end_time, self.market.zone)

    def _is_renewed(self, validity: Renewal) -> bool:
        rule = self.policy.validity
        assert rule is not None
        return validity.confirmed and validity.transactions >= rule.transactions

    def _make_validity_due(self, validity: Renewal, at: datetime) -> Reason | None:
        """The reason of what is due now, if anything is."""
        renewed = self._is_renewed(validity)
        if validity.end_time <= at:
            if renewed:
                self._begin_validity(at)
                return None
            self.validity = validity._replace(suspended=True)
            return Reason.SUSPENDED
        if not validity.warned and self._warning_time(validity) <= at:
            self.validity = validity._replace(warned=True)
            return None if renewed else Reason.WARNED
        return None

    def _renewing(self, *, transactions: int = 0, confirmed: bool = False) -> None:
        validity = self.validity
        if validity is None:
            return
        self.validity = validity._replace(
            transactions=validity.transactions + transactions, confirmed=validity.confirmed or confirmed
        )
        if self.validity.suspended and self._is_renewed(self.validity):
            self._begin_validity(self.as_of)
            self.why = Reason.REVIVED

    # --- what is shown, and told ---

    @property
    def paid_level(self) -> int:
        """The level that a plan gives now; 0: none."""
        paid = [
            level.number
            for fee in self.fees
            if fee.start_time <= self.as_of < fee.until_time
            and (level := self.policy.level_of_plan(fee.plan)) is not None
        ]
        return max(paid, default=0)

    @property
    def automatic(self) -> tuple[int, int]:
        """The tier, and that whose benefits are in force, as automation has them."""
        benefits = min(self.level, self.matured_level) if self._holds_benefits_back else self.level
        if not self.fees:
            return self.level, benefits
        paid = self.paid_level
        return max(self.level, paid), max(benefits, paid)

    @property
    def shown(self) -> tuple[int, int]:
        """The tier, and that whose benefits are in force: as automation has them, unless staff or time decided."""
        tier, benefits = self.automatic
        level = self.policy.find_level(self.override.level) if self.override is not None else None
        if self.override is not None and level is not None:
            benefits = level.number
            if self.override.scope is Scope.TIER:
                tier = level.number
        if self.validity is not None and self.validity.suspended:
            benefits = NO_BENEFITS
        return tier, benefits

    def _why_without(self, ended: Override) -> Reason:
        """Why the standing changes when an override is over: what was there before it is not reached again."""
        before = self.policy.find_level(ended.before)
        rises = before is not None and self.shown[1] > max(self.benefits, before.number)
        return Reason.OVERRIDE if rises else Reason.OVERRIDE_ENDED

    def settle(self, reason: Reason, fact: Fact | None, corrects: int = 0) -> None:
        """Takes note of how the standing is now, and tells it where it is no longer as it was told."""
        tier, self.benefits = self.shown
        if tier != self.tier:
            self.tier, self.since_time, self.mended = tier, self.as_of, False
        self.tell(self.as_of, reason, fact, corrects)

    def tell(self, at: datetime, reason: Reason, fact: Fact | None, corrects: int = 0) -> None:
        """Tells how the standing differs from what was told; nothing while it is silent, or the member away."""
        now = (self.tier, self.benefits)
        if at < self.silent_before or self.resigned:
            return
        reason, self.why = self.why or reason, None
        if now == self.told and reason is not Reason.WARNED and not self._is_renamed():
            self.told_version = self.version
            return
        self.sequence += 1
        self.changes.append(
            Change(
                sequence=self.sequence,
                reason=reason,
                from_tier_number=self.told[0],
                to_tier_number=now[0],
                from_benefits_number=self.told[1],
                to_benefits_number=now[1],
                balance=self.balance,
                changed_time=at,
                cause_offset=fact.ledger_offset or None if fact is not None else None,
                cause_number=fact.number or None if fact is not None else None,
                corrects=corrects,
            )
        )
        self.told, self.told_version = now, self.version

    def _is_renamed(self) -> bool:
        """Whether another version calls the benefits otherwise: then the ledger has to hear of it."""
        number = self.benefits
        if self.told_version == self.version or number == NO_BENEFITS:
            return False
        before = self._versions[self.told_version].programme.market(self._market_key).tiers
        return before.level(number).key != self.policy.level(number).key


def _in(policy: TierPolicy, before: TierPolicy, number: int) -> int:
    """The level of another version that stands where this one stood: that of the same key, else of the same number."""
    same = policy.find_level(before.level(number).key)
    return same.number if same is not None else _earned(policy, min(number, len(policy.levels)))


def _earned(policy: TierPolicy, number: int) -> int:
    """The highest level up to this number that a balance can reach: a plan's own is for who pays it."""
    return max((level.number for level in policy.levels[:number] if level.threshold is not None), default=1)
