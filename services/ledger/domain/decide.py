"""All rules of the ledger: from state and command to events. Pure; no I/O, no clock of its own.

`decide` answers with events (a refusal is one, too: it is kept as the answer for ever) or raises a RejectedError,
which leaves no trace. The rules stand in the modules of their nouns; this one knows their order in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from services.ledger.domain.adjusting import adjust, award
from services.ledger.domain.catching_up import catch_up
from services.ledger.domain.commands import (
    AdjustPoints,
    AwardPoints,
    CaptureHold,
    EnrollMember,
    ExtendHold,
    HoldPoints,
    MemberCommand,
    RecordPurchase,
    RecordReturn,
    RedeemPoints,
    ReleaseHold,
    ReverseRedemption,
    SetEarningClass,
    VoidPurchase,
)
from services.ledger.domain.earning import checked_goods, class_at, rules_of
from services.ledger.domain.events import Account, EntryKind, Event, Flag, Posting, RulePoints
from services.ledger.domain.lots import Lot, active, becoming_available, granted_lot
from services.ledger.domain.making import answer, refuse
from services.ledger.domain.redeeming import capture, extend, hold, redeem, release, reverse
from services.ledger.domain.returns import detail_of, linked_return, record_return, void
from services.ledger.domain.state import Known, Member
from services.ledger.errors import MemberUnknownError, OccurredInFutureError, OccurredTooEarlyError, Refusal
from services.programme.model import Programme

# How far a caller's clock may run ahead of the ledger's.
FUTURE_TOLERANCE = timedelta(minutes=5)
# A history lived through again is sent day by day, ahead of the clock that closes each day.
SIMULATED_AHEAD = timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """Business time of the partition, and what an event may claim.

    In a history lived through again events run ahead of the clock, and take the member's own time with them.
    """

    time: datetime
    simulated: bool = False

    @property
    def latest(self) -> datetime:
        """The latest time an event may claim."""
        return self.time + (SIMULATED_AHEAD if self.simulated else FUTURE_TOLERANCE)

    def reached_by(self, occurred: datetime) -> datetime:
        """The instant at which points on hand are looked at."""
        return max(self.time, occurred) if self.simulated else self.time


class Decision(NamedTuple):
    """Events in order, and what is known after them. No events: nothing changes."""

    events: tuple[Event, ...]
    known: Known


def decide(programme: Programme, now: Now, known: Known, command: MemberCommand) -> Decision:
    """What a command does to a member, and to what it names (DESIGN §4, §12).

    First comes what time has done since the member's last event, last what lapses the moment it is given.
    """
    occurred = command.occurred_time or now.time
    _check_time(programme, now, occurred, command)
    if known.member is None:
        if not isinstance(command, EnrollMember):
            raise MemberUnknownError
        event = _enroll(programme, command, occurred)
        return _settled(programme, now.reached_by(occurred), Known(), [], [event])
    instant = now.reached_by(occurred)
    past, _ = catch_up(programme, known.member, instant)
    caught_up = known
    for event in past:
        caught_up = caught_up.after(event)
    events = _events(programme, now, caught_up, command, occurred, instant)
    if not events:
        return Decision(events=(), known=known)
    return _settled(programme, instant, caught_up, past, events)


def decide_clock(time: datetime, to_time: datetime, request_id: str) -> Event | None:
    """The event that moves a partition's business time on; None where it is there already."""
    if to_time <= time:
        return None
    return Event(kind=EntryKind.CLOCK_ADVANCED, member_id="", request_id=request_id, occurred_time=to_time)


def _settled(programme: Programme, instant: datetime, known: Known, past: list[Event], events: list[Event]) -> Decision:
    """The decision with what falls due at once."""
    for event in events:
        known = known.after(event)
    assert known.member is not None
    at_once, _ = catch_up(programme, known.member, instant, since=instant)
    for event in at_once:
        known = known.after(event)
    return Decision(events=(*past, *events, *at_once), known=known)


def _check_time(programme: Programme, now: Now, occurred: datetime, command: MemberCommand) -> None:
    if occurred > now.latest:
        raise OccurredInFutureError(
            f"occurred_time {occurred.isoformat()} lies in the future: the clock stands at {now.time.isoformat()}"
        )
    limit = programme.back_dating
    if limit is None or occurred >= now.time:
        return
    # Members bring the time they joined with them, and what was spent offline is never refused (§12.11).
    if isinstance(command, EnrollMember) or (isinstance(command, RedeemPoints) and command.offline):
        return
    if limit.end(occurred, programme.zone) < now.time:
        raise OccurredTooEarlyError(
            f"occurred_time {occurred.isoformat()} lies further back than the programme allows: "
            f"the clock stands at {now.time.isoformat()}"
        )


def _events(
    programme: Programme, now: Now, known: Known, command: MemberCommand, occurred: datetime, instant: datetime
) -> list[Event]:
    """The events of the command itself. What spends or moves points happens at `instant`, whatever it claims."""
    member = known.member
    assert member is not None
    match command:
        case EnrollMember():
            return [refuse(command, member, Refusal.MEMBER_EXISTS, occurred)]
        case RecordPurchase():
            return list(_purchase(programme, known, command, occurred, instant, _marks(programme, now, occurred)))
        case RecordReturn():
            return [record_return(programme, known, command, occurred, **_marks(programme, now, occurred))]
        case VoidPurchase():
            return [void(programme, known, command, occurred, instant, **_marks(programme, now, occurred))]
        case AwardPoints():
            marks = _marks(programme, now, occurred)
            return [award(programme, member, known.purchase, command, occurred, **marks)]
        case AdjustPoints():
            return [adjust(programme, known, command, instant)]
        case RedeemPoints():
            return [redeem(programme, member, command, instant)]
        case ReverseRedemption():
            return [reverse(programme, member, known.redemption, command, instant)]
        case HoldPoints():
            return [hold(programme, member, command, instant)]
        case CaptureHold():
            return [capture(member, command, instant)]
        case ReleaseHold():
            return [release(member, command, instant)]
        case ExtendHold():
            return [extend(member, command, instant)]
        case SetEarningClass():
            return _set_class(programme, member, command, occurred)


def _marks(programme: Programme, now: Now, occurred: datetime) -> dict[str, Any]:
    """An event of a local day that is over is marked."""
    if occurred >= now.time or programme.local_day(occurred) == programme.local_day(now.time):
        return {}
    return {"flags": (Flag.BACK_DATED,)}


def _enroll(programme: Programme, command: EnrollMember, occurred: datetime) -> Event:
    bonus = programme.earning.sign_up_bonus
    nobody = Member(member_id=command.member_id, joined_time=occurred, channel=command.channel, activity_time=occurred)
    granted = Lot(granted_lot(programme, occurred), bonus)
    return answer(
        command,
        EntryKind.MEMBER_JOINED,
        nobody,
        occurred,
        postings=[*becoming_available(0, [granted]), Posting(Account.ISSUED, bonus)] if bonus else (),
        rules=(RulePoints(rule="sign_up_bonus", points=bonus),) if bonus else (),
        channel=command.channel,
    )


def _purchase(
    programme: Programme,
    known: Known,
    command: RecordPurchase,
    occurred: datetime,
    instant: datetime,
    marks: dict[str, Any],
) -> Iterator[Event]:
    """A purchase, and the returns that waited for it, in the order they came."""
    member, purchase = known.member, known.purchase
    assert member is not None
    goods = checked_goods(programme, command)
    if purchase is not None and purchase.arrived:
        yield refuse(command, member, Refusal.PURCHASE_EXISTS, occurred)
        return
    paid = command.amount if goods is None else goods
    earning_class = class_at(programme, member, occurred)
    rules = rules_of(programme, member, command, paid, occurred, earning_class)
    bought = answer(
        command,
        EntryKind.PURCHASE_RECORDED,
        member,
        occurred,
        postings=_granted(programme, member, sum([rule.points for rule in rules]), occurred, instant),
        purchase_id=command.purchase_id,
        currency=command.currency,
        amount=command.amount,
        goods_paid=paid,
        rules=rules,
        earning_class=earning_class,
        channel=command.channel,
        exchange_id=command.exchange_id,
        detail=detail_of(command),
        **marks,
    )
    yield bought
    if bought.kind is EntryKind.REQUEST_REFUSED or purchase is None:
        return
    known = known._replace(bought={"lines": command.lines}).after(bought)
    for waiting in purchase.waiting:
        event = linked_return(programme, known, waiting)
        known = known.after(event)
        yield event


def _granted(programme: Programme, member: Member, points: int, occurred: datetime, instant: datetime) -> list[Posting]:
    """Postings of what a purchase gives: pending through the return period, then available."""
    if not points:
        return []
    pending_days = programme.earning.pending_days
    lot = granted_lot(programme, occurred, pending_days=pending_days)
    if pending_days and lot.activates is not None and programme.start_of_local_day(lot.activates) > instant:
        legs = [Posting(Account.PENDING, points, lot)]
    else:
        legs = becoming_available(member.debt, [Lot(active(lot), points)])
    return [*legs, Posting(Account.ISSUED, points)]


def _set_class(programme: Programme, member: Member, command: SetEarningClass, occurred: datetime) -> list[Event]:
    if member.classes and command.sequence <= member.classes[-1].sequence:
        return []
    if command.earning_class not in programme.earning.class_multipliers_bp:
        return [refuse(command, member, Refusal.EARNING_CLASS_UNKNOWN, occurred)]
    return [
        answer(
            command,
            EntryKind.EARNING_CLASS_SET,
            member,
            occurred,
            earning_class=command.earning_class,
            effective_time=command.effective_time,
            sequence=command.sequence,
        )
    ]
