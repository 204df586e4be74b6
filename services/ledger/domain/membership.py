"""Membership itself: leaving, coming back and being forgotten; what a member does beside buying, and what it pays for a
membership."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from services.ledger.domain.commands import (
    EraseMember,
    RecordActivity,
    RecordMembershipFee,
    RejoinMember,
    ResignMember,
)
from services.ledger.domain.earning import earns_nothing, exchange_at
from services.ledger.domain.events import Account, EntryKind, Event, Posting, RulePoints
from services.ledger.domain.lots import Lot, becoming_available, granted_lot, postings
from services.ledger.domain.making import answer, forgettable, refuse
from services.ledger.domain.state import Member
from services.ledger.errors import AmountNotPositiveError, FeePeriodError, Refusal
from services.programme.model import Programme


def resign(member: Member, command: ResignMember, occurred: datetime, **marks: Any) -> Event:
    """A member leaves; its points and debt stay."""
    if member.resigned_time is not None:
        return refuse(command, member, Refusal.MEMBER_RESIGNED, occurred)
    if occurred < (member.rejoined_time or member.joined_time):
        return refuse(command, member, Refusal.MEMBERSHIP_CHANGED_LATER, occurred)
    return answer(command, EntryKind.MEMBER_RESIGNED, member, occurred, reason=command.reason, **marks)


def rejoin(member: Member, command: RejoinMember, occurred: datetime, **marks: Any) -> Event:
    """A member that had left comes back; it joined when it first did (R20)."""
    if member.resigned_time is None:
        return refuse(command, member, Refusal.MEMBER_ENROLLED, occurred)
    if occurred < member.resigned_time:
        return refuse(command, member, Refusal.MEMBERSHIP_CHANGED_LATER, occurred)
    return answer(command, EntryKind.MEMBER_REJOINED, member, occurred, channel=command.channel, **marks)


def erase(member: Member, command: EraseMember, now: datetime) -> Event:
    """A member is forgotten: its points lapse wherever they lie, and its debt is written off."""
    lots = [
        (Account.PENDING, list(member.pending)),
        (Account.AVAILABLE, list(member.lots)),
        *[(Account.HELD, list(hold.lots)) for hold in member.holds],
    ]
    legs = [leg for account, parts in lots for leg in postings(account, parts, -1)]
    legs += [leg for _, parts in lots for leg in postings(Account.EXPIRED, parts)]
    if member.debt:
        legs += [Posting(Account.DEBT, -member.debt), Posting(Account.ADJUSTED, member.debt)]
    return answer(command, EntryKind.MEMBER_ERASED, member, now, postings=legs, reason=command.reason)


def record_activity(
    programme: Programme, member: Member, command: RecordActivity, occurred: datetime, **marks: Any
) -> Event:
    """Something that is no purchase, with the programme's points for it; the earning class does not multiply them."""
    if member.away(occurred):
        return refuse(command, member, Refusal.MEMBER_RESIGNED, occurred)
    points = programme.earning.activities.get(command.activity, 0)
    rule = earns_nothing(member, occurred) or RulePoints(rule="activity", points=points)
    granted = Lot(granted_lot(programme, occurred), rule.points)
    return answer(
        command,
        EntryKind.ACTIVITY_RECORDED,
        member,
        occurred,
        postings=[*becoming_available(member.debt, [granted]), Posting(Account.ISSUED, rule.points)]
        if rule.points
        else (),
        rules=(rule,),
        reference=command.activity,
        channel=command.channel,
        detail=forgettable(activity_reference=command.reference),
        **marks,
    )


def record_fee(
    programme: Programme, member: Member, command: RecordMembershipFee, occurred: datetime, **marks: Any
) -> Event:
    """What was paid for a membership, and for how long it is: the level is not the ledger's to give."""
    exchange_at(programme, member, command.currency, occurred)
    if command.amount <= 0:
        raise AmountNotPositiveError
    start = command.start_time or occurred
    if command.end_time <= start:
        raise FeePeriodError
    if member.away(occurred):
        return refuse(command, member, Refusal.MEMBER_RESIGNED, occurred)
    if programme.market(member.market).tiers.level_of_plan(command.plan) is None:
        return refuse(command, member, Refusal.PLAN_UNKNOWN, occurred)
    return answer(
        command,
        EntryKind.MEMBERSHIP_FEE_RECORDED,
        member,
        occurred,
        currency=command.currency,
        amount=command.amount,
        reference=command.plan,
        effective_time=start,
        expire_time=command.end_time,
        **marks,
    )
