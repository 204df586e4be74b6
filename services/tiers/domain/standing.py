"""A member's standing at an instant, with everything that explains it.

`evaluate` is the reference: from all that is known of a member to where it stood, or will stand, at an instant. `step`
(see `track`) is proven equal to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from services.programme.model import FOREVER, AppliesTo, Counting, Level, Market, TierPolicy
from services.programme.versions import Versions
from services.tiers.domain.facts import (
    MOVING,
    Fact,
    FactKind,
    History,
    NotCounted,
    amount_of,
    basis_time,
    counts_from,
    movement_of,
)
from services.tiers.domain.track import NO_BENEFITS, Agenda, MemberState, Override, Reason, Track, replay
from services.tiers.errors import NotEnrolledError

# Instants that are looked through for the next change.
_LOOKED_AHEAD = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NextChange:
    """What happens to the standing by time alone."""

    time: datetime
    level: Level
    benefits: Level | None
    """The level whose benefits are in force then; None: none are."""
    balance: int
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ToKeep:
    """What is still missing to keep the tier, and the instant at which it is looked at; 0: nothing is."""

    missing: int
    by_time: datetime


class Standing(NamedTuple):
    """A member's tier at `at_time`, with everything that explains it. Balances in the unit of the metric."""

    at_time: datetime
    joined_time: datetime
    market: Market
    version: int
    """The place of the version of the programme that decided it."""
    level: Level
    since_time: datetime
    """Since when the tier has been held without a break."""
    benefits: Level | None
    """The level whose benefits are in force; None for a suspended account."""
    pending_time: datetime | None
    """When the benefits of the tier itself come into force, where a cool-off holds them back and time alone ends it."""
    automatic: Level
    """What automation says, an override aside."""
    override: Override | None
    suspended: bool
    balance: int
    matured: int
    """What of it a cool-off lets count; the balance itself where there is none."""
    next_level: Level | None
    missing_for_next_level: int | None
    """None at the top."""
    held_until: datetime | None
    """The end of the cycle, or of the time of grace after it."""
    to_keep: ToKeep | None
    """None where nothing is about to be lost."""
    valid_until: datetime | None
    """The end of the account's validity."""
    next_change: NextChange | None
    """None where the standing stays as it is if nothing more happens, as far as that is looked ahead."""
    next_fall: NextChange | None
    """The first change to a lower tier; the same limits."""


def evaluate(versions: Versions, history: History, at_time: datetime) -> Standing:
    """The standing at an instant; what occurs later is not known then.

    Raises NotEnrolledError where the member has not joined yet, or has left.
    """
    if at_time < history.joined_time:
        raise NotEnrolledError
    return _standing(versions, replay(versions, history, at_time), at_time)


def standing_of(versions: Versions, state: MemberState, agenda: Agenda, at_time: datetime) -> Standing:
    """The standing that a state shows at an instant over which it holds; as `evaluate`.

    Raises NotEnrolledError for one who has left, HistoryNeededError where a coming version weighs movements in another
    way before the standing changes: what it will change then follows from the history alone.
    """
    return _standing(versions, Track.of(versions, state, agenda), at_time)


def _standing(versions: Versions, track: Track, at_time: datetime) -> Standing:
    """Reads a track as it stands, and lets it go on to look ahead."""
    if track.resigned:
        raise NotEnrolledError
    policy, cycle, validity = track.policy, track.cycle, track.validity
    level, earned = policy.level(track.tier), track.tier == track.level
    automatic, _ = track.automatic
    higher = policy.next_level(level)
    missing = None
    if higher is not None and higher.threshold is not None:
        missing = max(higher.threshold - track.deciding, 0)
    now = Standing(
        at_time=at_time,
        joined_time=track.joined_time,
        market=track.market,
        version=track.version,
        level=level,
        since_time=track.since_time,
        benefits=_benefits(track),
        pending_time=None,
        automatic=policy.level(automatic),
        override=track.override,
        suspended=validity is not None and validity.suspended,
        balance=track.balance,
        matured=track.matured if policy.cool_off is not None else track.balance,
        next_level=higher,
        missing_for_next_level=missing,
        held_until=cycle.end_time if cycle is not None and earned else None,
        to_keep=None,
        valid_until=validity.end_time if validity is not None else None,
        next_change=None,
        next_fall=None,
    )
    held_back = track.benefits < track.tier and not now.suspended
    spent = cycle.balance if cycle is not None else 0
    # From here on the track is ahead of the instant.
    next_change, pending_time, fall = _look_ahead(track, held_back=held_back)
    return now._replace(
        next_change=next_change,
        pending_time=pending_time,
        next_fall=fall,
        to_keep=_to_keep(policy, level, fall, spent) if earned and fall is not None else None,
    )


def _to_keep(policy: TierPolicy, level: Level, fall: NextChange, spent: int) -> ToKeep | None:
    """What keeps an earned level from falling, where movements before that instant can, and do not leave with it."""
    if level.kept_from is None:
        return None
    if fall.reason is Reason.CYCLE_ENDED:
        return ToKeep(missing=max(level.kept_from - spent, 0), by_time=fall.time)
    matures_later = policy.cool_off is not None and policy.cool_off.applies_to is AppliesTo.LEVEL
    if fall.reason is Reason.WINDOW and policy.window.counting is Counting.ROLLING and not matures_later:
        return ToKeep(missing=max(level.kept_from - fall.balance, 0), by_time=fall.time)
    return None


def _benefits(track: Track) -> Level | None:
    return None if track.benefits == NO_BENEFITS else track.policy.level(track.benefits)


def _look_ahead(track: Track, *, held_back: bool) -> tuple[NextChange | None, datetime | None, NextChange | None]:
    """The next change by time alone; where benefits are held back, when those of the tier come into force; and the
    first change to a lower tier."""
    shown = (track.tier, track.benefits)
    track.silent_before, track.told, track.told_version, track.changes = track.as_of, shown, track.version, []
    found: NextChange | None = None
    pending: datetime | None = None
    for _ in range(_LOOKED_AHEAD):
        instant = track.next_instant()
        if instant is None or instant >= FOREVER or instant == track.known_until:
            break
        track.advance(instant)
        if (track.tier, track.benefits) == shown:
            continue
        change = NextChange(
            time=instant,
            level=track.policy.level(track.tier),
            benefits=_benefits(track),
            balance=track.balance,
            reason=track.changes[-1].reason if track.changes else Reason.WINDOW,
        )
        found = found or change
        if held_back and pending is None and track.tier == shown[0] == track.benefits:
            pending = instant
        held_back = held_back and pending is None and track.tier == shown[0]
        if track.tier < shown[0]:
            return found, pending, change
    return found, pending, None


class Line(NamedTuple):
    """One thing that counted at an instant, or did not, and why."""

    fact: Fact
    amount: int
    """What it adds to the balance if it counts."""
    not_counted: NotCounted | None
    """None: it counts."""
    end_time: datetime | None
    """Until when it counts, or counted; None where it never did."""
    matures_time: datetime | None
    """Where a cool-off still holds it back: until when."""


def explain(versions: Versions, history: History, at_time: datetime) -> Iterator[Line]:
    """Every line up to an instant, in the order they occurred: those that count add up to the balance."""
    programme = versions.at(at_time)
    market = programme.market(history.market)
    track = replay(versions, history, at_time)
    policy, counted_from = market.tiers, track.counted_from
    for fact in history.facts:
        if fact.occurred_time > at_time or fact.kind not in MOVING:
            continue
        amount = amount_of(policy, fact)
        if not amount:
            if fact.kind is not FactKind.JOINED:
                yield Line(fact, 0, NotCounted.OTHER_METRIC, None, None)
            continue
        if fact in track.waiting:
            yield Line(fact, amount, NotCounted.EXCHANGE_WAITS, None, None)
            continue
        if not counts_from(policy, fact, history.joined_time, counted_from):
            early = basis_time(policy, fact) <= history.joined_time
            yield Line(fact, amount, NotCounted.BEFORE_JOINING if early else NotCounted.BEFORE_REJOINING, None, None)
            continue
        movement = movement_of(market, history.joined_time, fact)
        if movement is None:
            yield Line(fact, amount, NotCounted.OUTSIDE_WINDOW, None, None)
        elif movement.end_time <= at_time:
            yield Line(fact, amount, NotCounted.OUTSIDE_WINDOW, movement.end_time, None)
        else:
            movement = track.ripened(fact, movement)
            held_back = movement.matures_time if movement.ripens > at_time else None
            yield Line(fact, amount, None, movement.end_time, held_back)


def decides_alone(policy: TierPolicy) -> bool:
    """Whether the tier of who did nothing but buy and bring back follows from the balance of the moment alone."""
    held_back = policy.cool_off is not None and policy.cool_off.applies_to is AppliesTo.LEVEL
    return not policy.remembers and not held_back
