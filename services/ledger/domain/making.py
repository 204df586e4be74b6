"""How events are made: with the member's points after them, within their bounds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from services.ledger.domain.commands import Command
from services.ledger.domain.events import Account, Author, EntryKind, Event, Posting
from services.ledger.domain.state import Member
from services.ledger.errors import Refusal

# No balance leaves +-10^15 points, so that no sum leaves 64 bits.
MAX_POINTS = 10**15


def make(
    kind: EntryKind, member: Member, occurred: datetime, *, postings: Iterable[Posting] = (), **more: Any
) -> Event:
    """An event of a member."""
    pending, available, held, debt = member.pending_points, member.available, member.held, member.debt
    postings = tuple(postings)
    for account, points, _ in postings:
        match account:
            case Account.AVAILABLE:
                available += points
            case Account.PENDING:
                pending += points
            case Account.HELD:
                held += points
            case Account.DEBT:
                debt += points
    return Event(
        kind=kind,
        member_id=member.member_id,
        request_id=more.pop("request_id", ""),
        occurred_time=occurred,
        postings=postings,
        pending_after=pending,
        available_after=available,
        held_after=held,
        debt_after=debt,
        **more,
    )


def answer(
    command: Command,
    kind: EntryKind,
    member: Member,
    occurred: datetime,
    *,
    postings: Iterable[Posting] = (),
    **more: Any,
) -> Event:
    """The event that answers a command, or its refusal where a balance would leave its range."""
    return bounded(member, make(kind, member, occurred, postings=postings, request_id=command.request_id, **more))


def bounded(member: Member, event: Event) -> Event:
    """The event, or its refusal where a balance would leave its range."""
    if max(event.pending_after, event.available_after, event.held_after, event.debt_after) <= MAX_POINTS:
        return event
    return refused(
        member,
        Refusal.BALANCE_OUT_OF_RANGE,
        event.occurred_time,
        request_id=event.request_id,
        purchase_id=event.purchase_id,
        author=event.author,
    )


def refuse(command: Command, member: Member, refusal: Refusal, occurred: datetime) -> Event:
    """The entry that keeps a refusal as the answer to a command."""
    purchase_id = getattr(command, "purchase_id", "")
    return refused(member, refusal, occurred, request_id=command.request_id, purchase_id=purchase_id)


def refused(
    member: Member,
    refusal: Refusal,
    occurred: datetime,
    *,
    request_id: str,
    purchase_id: str = "",
    author: Author | None = None,
) -> Event:
    """The entry that keeps a refusal as the answer to a request, also to one that waited."""
    return make(
        EntryKind.REQUEST_REFUSED,
        member,
        occurred,
        request_id=request_id,
        purchase_id=purchase_id,
        reason=refusal.value,
        author=author,
    )


def forgettable(**texts: str) -> dict[str, str] | None:
    """The erasable detail of an event (DESIGN §4), without what is empty."""
    return {name: text for name, text in texts.items() if text} or None
