"""What leads to a member: cards, phone numbers, ids of other systems. Only keyed digests of them are known here."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from services.ledger.domain.commands import LinkIdentifier, UnlinkIdentifier
from services.ledger.domain.events import EntryKind, Event
from services.ledger.domain.making import answer, refuse
from services.ledger.domain.state import Identifier, Identifiers, Member
from services.ledger.errors import Refusal

# That lead to one member at once; those that are blocked do not count.
MAX_IDENTIFIERS: Final = 20


def link(
    member: Member, there: Identifier | None, own: Identifiers, command: LinkIdentifier, now: datetime
) -> list[Event]:
    """The identifier leads to the member. `there`: what is known of it; `own`: the member's identifiers."""
    if member.away(now):
        return [refuse(command, member, Refusal.MEMBER_RESIGNED, now)]
    if there is not None and there.blocked:
        return [refuse(command, member, Refusal.IDENTIFIER_BLOCKED, now)]
    if there is not None and there.member_id != member.member_id:
        return [refuse(command, member, Refusal.IDENTIFIER_TAKEN, now)]
    if there is not None:
        return []
    if sum(not one.blocked for one in own.values()) >= MAX_IDENTIFIERS:
        return [refuse(command, member, Refusal.TOO_MANY_IDENTIFIERS, now)]
    linked = answer(
        command,
        EntryKind.IDENTIFIER_LINKED,
        member,
        now,
        reference=command.kind,
        detail={"identifier": command.digest.hex()},
    )
    return [linked]


def unlink(member: Member, own: Identifiers, command: UnlinkIdentifier, now: datetime) -> list[Event]:
    """The identifier leads to the member no more; one that is blocked stays so."""
    there = own.get(command.digest)
    if there is None:
        return [refuse(command, member, Refusal.IDENTIFIER_UNKNOWN, now)]
    if there.blocked:
        return []
    unlinked = answer(
        command,
        EntryKind.IDENTIFIER_UNLINKED,
        member,
        now,
        reference=there.kind,
        reason=command.reason,
        detail={"identifier": command.digest.hex()},
    )
    return [unlinked]
