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
from services.ledger.domain.catching_up import catch_up, seen_at
from services.ledger.domain.commands import (
    AdjustPoints,
    AwardPoints,
    CaptureHold,
    EnrollMember,
    EraseMember,
    ExtendHold,
    HoldPoints,
    LinkIdentifier,
    MemberCommand,
    RecordActivity,
    RecordMembershipFee,
    RecordPurchase,
    RecordReturn,
    RedeemPoints,
    RejoinMember,
    ReleaseHold,
    ResignMember,
    ReverseRedemption,
    SetEarningClass,
    UnlinkIdentifier,
    VoidPurchase,
)
from services.ledger.domain.earning import checked_goods, class_at, exchange_at, rules_of
from services.ledger.domain.events import Account, Author, EntryKind, Event, Flag, Posting, RulePoints
from services.ledger.domain.identifiers import link, unlink
from services.ledger.domain.lots import Lot, active, becoming_available, granted_lot
from services.ledger.domain.making import answer, refuse
from services.ledger.domain.membership import erase, record_activity, record_fee, rejoin, resign
from services.ledger.domain.paying import check_payment, why_not_paid
from services.ledger.domain.redeeming import capture, extend, hold, redeem, release, reverse
from services.ledger.domain.returns import detail_of, linked_return, record_return, void
from services.ledger.domain.rules import StoredVersion
from services.ledger.domain.state import Known, Member
from services.ledger.errors import (
    MarketUnknownError,
    MemberUnknownError,
    OccurredInFutureError,
    OccurredTooEarlyError,
    Refusal,
)
from services.programme.model import SUSPENDED, Programme
from services.programme.versions import Versions

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


def decide(versions: Versions, now: Now, known: Known, command: MemberCommand) -> Decision:
    """What a command does to a member, and to what it names (DESIGN §4, §12).

    First comes what time has done since the member's last event, last what lapses the moment it is given. Each event
    goes by the version of the programme that holds at its own time.
    """
    occurred = command.occurred_time or now.time
    programme = versions.at(occurred)
    _check_time(programme, now, occurred, command)
    if known.member is None:
        if not isinstance(command, EnrollMember):
            raise MemberUnknownError
        event = _enroll(programme, command, occurred)
        return _settled(versions, now.reached_by(occurred), Known(), [], [event])
    instant = now.reached_by(occurred)
    past, _ = catch_up(versions, known.member, instant)
    caught_up = known
    for event in past:
        caught_up = caught_up.after(event)
    if known.member.erased_time is not None:
        events = _of_erased(known.member, command, occurred)
    else:
        events = _events(versions, now, caught_up, command, occurred, instant)
    if not events:
        return Decision(events=(), known=known)
    return _settled(versions, instant, caught_up, past, events)


def decide_clock(time: datetime, to_time: datetime, request_id: str) -> Event | None:
    """The event that moves a partition's business time on; None where it is there already."""
    if to_time <= time:
        return None
    return Event(kind=EntryKind.CLOCK_ADVANCED, member_id="", request_id=request_id, occurred_time=to_time)


def decide_version(versions: int, now: Now, told: StoredVersion) -> Event | None:
    """The event that tells a partition, which knows so many versions, of the next one; None where it knows it."""
    if told.number <= versions:
        return None
    assert told.number == versions + 1, "a partition hears of one version after the other"
    return Event(
        kind=EntryKind.PROGRAMME_APPLIED,
        member_id="",
        request_id=told.request_id,
        occurred_time=now.time,
        effective_time=told.from_time,
        reference=told.programme.version,
        author=Author(told.principal, told.on_behalf_of),
    )


def _settled(versions: Versions, instant: datetime, known: Known, past: list[Event], events: list[Event]) -> Decision:
    """The decision with what falls due at once."""
    for event in events:
        known = known.after(event)
    assert known.member is not None
    member = seen_at(versions, known.member, instant)
    known = known._replace(member=member)
    at_once, _ = catch_up(versions, member, instant, since=instant)
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
    versions: Versions, now: Now, known: Known, command: MemberCommand, occurred: datetime, instant: datetime
) -> list[Event]:
    """The events of the command itself. What spends or moves points happens at `instant`, whatever it claims."""
    member = known.member
    assert member is not None
    programme, present = versions.at(occurred), versions.at(instant)
    match command:
        case EnrollMember():
            return [refuse(command, member, Refusal.MEMBER_EXISTS, occurred)]
        case RecordPurchase():
            return list(_purchase(versions, known, command, occurred, instant, _marks(programme, now, occurred)))
        case ResignMember():
            return [resign(member, command, occurred, **_marks(programme, now, occurred))]
        case RejoinMember():
            return [rejoin(member, command, occurred, **_marks(programme, now, occurred))]
        case RecordActivity():
            return [record_activity(programme, member, command, occurred, **_marks(programme, now, occurred))]
        case RecordMembershipFee():
            return [record_fee(programme, member, command, occurred, **_marks(programme, now, occurred))]
        case RecordReturn():
            return record_return(versions, known, command, occurred, instant, **_marks(programme, now, occurred))
        case VoidPurchase():
            return void(versions, known, command, occurred, instant, **_marks(programme, now, occurred))
        case AwardPoints():
            marks = _marks(programme, now, occurred)
            return [award(programme, member, known.purchase, command, occurred, **marks)]
        case AdjustPoints():
            return [adjust(present, known, command, instant)]
        case RedeemPoints():
            return [redeem(present, member, command, instant)]
        case ReverseRedemption():
            return [reverse(present, member, known.redemption, command, instant)]
        case HoldPoints():
            return [hold(present, member, command, instant)]
        case CaptureHold():
            return [capture(member, command, instant)]
        case ReleaseHold():
            return [release(member, command, instant)]
        case ExtendHold():
            return [extend(member, command, instant)]
        case SetEarningClass():
            return _set_class(versions, member, command, occurred)
        case LinkIdentifier():
            return link(member, known.identifier, known.identifiers, command, instant)
        case UnlinkIdentifier():
            return unlink(member, known.identifiers, command, instant)
        case EraseMember():
            return [erase(member, command, instant)]


def _of_erased(member: Member, command: MemberCommand, occurred: datetime) -> list[Event]:
    """Nothing is written of a member that was erased; to erase it again, or to class it, changes nothing."""
    if isinstance(command, EraseMember | SetEarningClass):
        return []
    return [refuse(command, member, Refusal.MEMBER_ERASED, occurred)]


def _marks(programme: Programme, now: Now, occurred: datetime) -> dict[str, Any]:
    """An event of a local day that is over is marked."""
    if occurred >= now.time or programme.local_day(occurred) == programme.local_day(now.time):
        return {}
    return {"flags": (Flag.BACK_DATED,)}


def _enroll(programme: Programme, command: EnrollMember, occurred: datetime) -> Event:
    if command.market and command.market not in programme.markets:
        raise MarketUnknownError
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
        market=command.market,
    )


def _purchase(
    versions: Versions,
    known: Known,
    command: RecordPurchase,
    occurred: datetime,
    instant: datetime,
    marks: dict[str, Any],
) -> Iterator[Event]:
    """A purchase, and the returns that waited for it, in the order they came."""
    member, purchase = known.member, known.purchase
    assert member is not None
    programme = versions.at(occurred)
    exchange_at(programme, member, command.currency, occurred)
    goods = checked_goods(command)
    if goods is None:
        goods = command.amount
    paid = goods - check_payment(command, goods)
    if purchase is not None and purchase.arrived:
        yield refuse(command, member, Refusal.PURCHASE_EXISTS, occurred)
        return
    if member.away(occurred):
        yield refuse(command, member, Refusal.MEMBER_RESIGNED, occurred)
        return
    payment = command.points_payment
    if payment is not None and (why_not := why_not_paid(known.redemption, payment, command.principal)):
        yield refuse(command, member, why_not, occurred)
        return
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
        points_payment=command.points_payment,
        detail=detail_of(command),
        **marks,
    )
    yield bought
    if bought.kind is EntryKind.REQUEST_REFUSED or purchase is None:
        return
    known = known._replace(bought={"lines": command.lines}).after(bought)
    for waiting in purchase.waiting:
        for event in linked_return(versions, known, waiting, instant):
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


def _set_class(versions: Versions, member: Member, command: SetEarningClass, occurred: datetime) -> list[Event]:
    if member.classes and command.sequence <= member.classes[-1].sequence:
        return []
    # It may be set ahead of the version that brings it, or late under one that has it no more.
    known = any(command.earning_class in one.programme.earning.class_multipliers_bp for one in versions)
    if not known and command.earning_class != SUSPENDED:
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
