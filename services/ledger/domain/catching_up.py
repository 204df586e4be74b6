"""What time does by itself to a member's points: holds run out, lots become active, lots lapse (DESIGN §4, §12.9).

Whoever reads or decides at an instant applies `catch_up` first, so that a lapsed lot is gone at its instant for
everyone; a sweeper, or the member's next write, later writes down just these events.

Each instant goes by the version of the programme that holds at it. What a version would have made lapse before it held
lapses when it begins; what one would have made lapse that is over is none of the next one's business.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from itertools import takewhile

from services.ledger.domain.events import LEDGER, UNDATED, Account, EntryKind, Event, LotKey, Posting
from services.ledger.domain.lots import Lot, Lots, Parts, active, becoming_available, postings, total
from services.ledger.domain.making import make
from services.ledger.domain.state import Hold, Member, evolve_member
from services.programme.model import ExpiryPolicy, Programme
from services.programme.versions import Versions

_DAY = timedelta(days=1)


def due_time(versions: Versions, member: Member) -> datetime | None:
    """The instant at which time next does something to a member's points; None where it never will."""
    return _first(versions, member, _due)


def catch_up(
    versions: Versions, member: Member, until: datetime, *, since: datetime | None = None
) -> tuple[list[Event], Member]:
    """What time has done up to an instant (that one included), in order, and the member as it stands then.

    Each event carries its own instant; with `since`, none an earlier one: what lapses the moment it is given
    lapses then.
    """
    events: list[Event] = []
    now = since
    while (time := due_time(versions, member)) is not None and time <= until:
        now = time if now is None else max(time, now)
        event = _next(versions.at(now), member, time, now)
        member = seen_at(versions, evolve_member(member, event), now)
        events.append(event)
    return events, seen_at(versions, member, until)


def seen_at(versions: Versions, member: Member, instant: datetime) -> Member:
    """The member, for whom all that time did up to an instant is written down: versions over by then are done with."""
    version = versions.number_at(instant)
    return member._replace(version=version) if version > member.version else member


def next_expiry(versions: Versions, member: Member) -> tuple[datetime, int] | None:
    """When available points lapse next if nothing happens, and how many; None where none ever will."""
    time = _first(versions, member, _first_lapse)
    return None if time is None else (time, total(_lapsing(versions.at(time), member, time)))


def expiry_time(versions: Versions, member: Member, key: LotKey) -> datetime | None:
    """The instant at which available points of a lot are gone if nothing happens; None where they never will be."""
    return _first(versions, member, lambda programme, member: expiry_under(programme, member, key))


def activation_time(versions: Versions, day: date) -> datetime:
    """The instant at which points that become active on a local day do so."""
    times = [(one.programme.start_of_local_day(day), one.from_time) for one in versions]
    return next((time for time, from_time in reversed(times) if time >= from_time), times[0][0])


def expiry_under(programme: Programme, member: Member, key: LotKey) -> datetime | None:
    """The instant at which available points of a lot are gone, if one version holds for ever."""
    own = None if key.expires is None else programme.start_of_local_day(key.expires + _DAY)
    inactive = _inactive_from(programme, member)
    if own is None or inactive is None:
        return own or inactive
    return min(own, inactive)


def _first(
    versions: Versions, member: Member, under: Callable[[Programme, Member], datetime | None]
) -> datetime | None:
    """The first instant, of those that each version gives by itself, that lies in the time of its own version."""
    # A process that has yet to hear of a version goes by the last it knows.
    first = min(member.version, len(versions) - 1)
    for number in range(first, len(versions)):
        programme, from_time = versions[number].programme, versions[number].from_time
        time = under(programme, member)
        if time is None:
            continue
        if number:
            time = max(time, from_time)
        if number + 1 == len(versions) or time < versions[number + 1].from_time:
            return time
    return None


def _due(programme: Programme, member: Member) -> datetime | None:
    times: list[datetime] = [hold.expires for hold in member.holds]
    if member.pending:
        times.append(programme.start_of_local_day(_activation(member.pending)))
    lapse = _first_lapse(programme, member)
    if lapse is not None:
        times.append(lapse)
    return min(times, default=None)


def _next(programme: Programme, member: Member, time: datetime, now: datetime) -> Event:
    for hold in sorted(member.holds, key=lambda hold: (hold.expires, hold.hold_id)):
        if hold.expires <= time:
            return _run_out(member, hold, now)
    if member.pending and programme.start_of_local_day(_activation(member.pending)) <= time:
        return _activate(programme, member, time, now)
    return _lapse(programme, member, time, now)


def _run_out(member: Member, hold: Hold, now: datetime) -> Event:
    """What a hold still holds becomes available again."""
    return make(
        EntryKind.HOLD_EXPIRED,
        member,
        now,
        postings=[*postings(Account.HELD, hold.lots, -1), *becoming_available(member.debt, tuple(hold.lots))],
        reference=hold.hold_id,
        expire_time=hold.expires,
        author=LEDGER,
    )


def _activate(programme: Programme, member: Member, time: datetime, now: datetime) -> Event:
    today = programme.local_day(time)
    ready = [lot for lot in member.pending if lot.key.activates is None or lot.key.activates <= today]
    parts = [Lot(active(lot.key), lot.points) for lot in ready]
    return make(
        EntryKind.POINTS_ACTIVATED,
        member,
        now,
        postings=[*postings(Account.PENDING, ready, -1), *becoming_available(member.debt, parts)],
        author=LEDGER,
    )


def _lapse(programme: Programme, member: Member, time: datetime, now: datetime) -> Event:
    gone = _lapsing(programme, member, time)
    legs = postings(Account.AVAILABLE, gone, -1)
    return make(
        EntryKind.POINTS_EXPIRED,
        member,
        now,
        postings=[
            *legs,
            *[Posting(Account.EXPIRED, lot.points, _lapsed_as(programme, member, lot.key)) for lot in gone],
        ],
        author=LEDGER,
    )


def _lapsed_as(programme: Programme, member: Member, key: LotKey) -> LotKey:
    """The lot that lapsed; undated points go by the day of the last activity, so that a return can tell which went."""
    return key if key != UNDATED else LotKey(programme.local_day(member.activity_time), None)


def _lapsing(programme: Programme, member: Member, time: datetime) -> Parts:
    """The lots that are gone at an instant: all where the member was inactive too long, else those past their day."""
    inactive = _inactive_from(programme, member)
    if inactive is not None and inactive <= time:
        return tuple(member.lots)
    today = programme.local_day(time)
    # Lots stand first-expiring-first, those without a day last.
    return tuple(takewhile(lambda lot: lot.key.expires is not None and lot.key.expires < today, member.lots))


def _activation(pending: Lots) -> date:
    return min(lot.key.activates or date.min for lot in pending)


def _first_lapse(programme: Programme, member: Member) -> datetime | None:
    # Lots stand first-expiring-first.
    return expiry_under(programme, member, member.lots.first.key) if member.lots else None


def _inactive_from(programme: Programme, member: Member) -> datetime | None:
    """The instant at which a member has been inactive too long; None where the policy does not ask."""
    expiry = programme.expiry
    if expiry.policy is not ExpiryPolicy.INACTIVITY or expiry.period is None:
        return None
    return programme.start_of_local_day(expiry.period.last_day(programme.local_day(member.activity_time)) + _DAY)
