"""The handlers of LedgerService."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc

from services.ledger.domain import commands
from services.ledger.domain.events import Author, Entry
from services.ledger.domain.state import Member
from services.ledger.errors import IdentifierUnknownError
from services.ledger.rpc.liability import get_liability
from services.ledger.rpc.recording import Recorder
from services.ledger.rpc.requests import (
    WRITES,
    canonical,
    digest_of,
    erase_member,
    link_identifier,
    quoted_purchase,
    unlink_identifier,
)
from services.ledger.rpc.responses import RESPONSES, Messages, entry_kind
from services.ledger.rpc.times import read_time, set_time
from services.ledger.service import Answer, Ledger
from services.ledger.store import EntryFilter
from services.runtime.causality import format_token
from services.runtime.clock import ClockMode, MachineClock
from services.runtime.guesses import Guesses, UnknownIdentifiersError
from services.runtime.identity import Refused, current_caller

_DEFAULT_PAGE = 50
_FEED_BYTES = 1024 * 1024
_KEPT_PARTS = 4096

_CLOCK_MODES = {
    ClockMode.REAL: pb.CLOCK_MODE_REAL,
    ClockMode.SIMULATED: pb.CLOCK_MODE_SIMULATED,
}


class LedgerServicer(ledger_service_pb2_grpc.LedgerServiceServicer):
    """Answers loyalty.ledger.v1.LedgerService."""

    def __init__(self, ledger: Ledger, *, clock: MachineClock, refused: Refused) -> None:
        self._ledger = ledger
        self._clock = clock
        self._messages = Messages(ledger.rules)
        self._recorder = Recorder(ledger, self._messages, refused)
        self._unknown_identifiers = Guesses(
            time.monotonic,
            is_miss=lambda error: isinstance(error, IdentifierUnknownError),
            refusal=UnknownIdentifiersError,
        )
        self._feed_parts: dict[bytes, bytes] = {}

    async def EnrollMember(self, request: Any, context: Any) -> Any:
        """Makes someone a member."""
        return await self._record("enroll_member", request)

    async def ResignMember(self, request: Any, context: Any) -> Any:
        """Records that a member left."""
        return await self._record("resign_member", request)

    async def RejoinMember(self, request: Any, context: Any) -> Any:
        """Records that a member came back."""
        return await self._record("rejoin_member", request)

    async def LinkIdentifier(self, request: Any, context: Any) -> Any:
        """Makes an identifier lead to a member."""
        command = link_identifier(request, current_caller.get(), self._ledger.keys)
        return self._identified(pb.LinkIdentifierResponse(), command.digest, await self._ledger.identify(command))

    async def UnlinkIdentifier(self, request: Any, context: Any) -> Any:
        """Makes an identifier lead to its member no more."""
        command = unlink_identifier(request, current_caller.get(), self._ledger.keys)
        return self._identified(pb.UnlinkIdentifierResponse(), command.digest, await self._ledger.identify(command))

    def _identified(self, response: Any, digest: bytes, answer: Answer) -> Any:
        response.identifier_id = digest.hex()
        response.applied = answer.entry is not None
        response.replayed = answer.replayed
        if answer.entry is not None:
            response.causal_token = format_token({answer.entry.partition: answer.last_offset})
        return response

    async def LookupMember(self, request: Any, context: Any) -> Any:
        """Finds the member that an identifier leads to."""
        caller = current_caller.get()
        # Whom a service of the platform acts for, that service counts: it knows from where the call came.
        counted = caller.scopes is not None or not caller.on_behalf_of
        async with self._unknown_identifiers.trying(caller) if counted else contextlib.nullcontext():
            member = await self._ledger.lookup(digest_of(request.identifier, self._ledger.keys))
        response = pb.LookupMemberResponse()
        await self._fill_member(response.member, member)
        return response

    async def EraseMember(self, request: Any, context: Any) -> Any:
        """Erases a member."""
        answer = await self._ledger.erase(erase_member(request, current_caller.get()))
        entry = answer.entry
        assert entry is not None, "an entry says so, this time's or an earlier one's"
        response = pb.EraseMemberResponse(
            causal_token=format_token({entry.partition: entry.offset}), replayed=answer.replayed
        )
        set_time(response.erased_time, entry.event.occurred_time)
        return response

    async def RecordPurchase(self, request: Any, context: Any) -> Any:
        """Records a purchase."""
        return await self._record("record_purchase", request)

    async def VoidPurchase(self, request: Any, context: Any) -> Any:
        """Undoes a purchase."""
        return await self._record("void_purchase", request)

    async def RecordReturn(self, request: Any, context: Any) -> Any:
        """Records a return."""
        return await self._record("record_return", request)

    async def RecordActivity(self, request: Any, context: Any) -> Any:
        """Records an activity."""
        return await self._record("record_activity", request)

    async def RecordMembershipFee(self, request: Any, context: Any) -> Any:
        """Records what was paid for a membership."""
        return await self._record("record_membership_fee", request)

    async def AwardPoints(self, request: Any, context: Any) -> Any:
        """Gives points."""
        return await self._record("award_points", request)

    async def RedeemPoints(self, request: Any, context: Any) -> Any:
        """Spends points."""
        return await self._record("redeem_points", request)

    async def ReverseRedemption(self, request: Any, context: Any) -> Any:
        """Takes a redemption back."""
        return await self._record("reverse_redemption", request)

    async def HoldPoints(self, request: Any, context: Any) -> Any:
        """Sets points aside."""
        return await self._record("hold_points", request)

    async def CaptureHold(self, request: Any, context: Any) -> Any:
        """Spends points of a hold."""
        return await self._record("capture_hold", request)

    async def ReleaseHold(self, request: Any, context: Any) -> Any:
        """Lets points of a hold go."""
        return await self._record("release_hold", request)

    async def ExtendHold(self, request: Any, context: Any) -> Any:
        """Sets the end of a hold anew."""
        return await self._record("extend_hold", request)

    async def AdjustPoints(self, request: Any, context: Any) -> Any:
        """Gives or takes points by hand."""
        return await self._record("adjust_points", request)

    async def SetEarningClass(self, request: Any, context: Any) -> Any:
        """Sets the class a member earns in."""
        return await self._record("set_earning_class", request)

    async def _record(self, kind: str, request: Any) -> Any:
        answer = await self._ledger.record(WRITES[kind](request, current_caller.get()))
        response = RESPONSES[kind]()
        self._messages.answer(kind, response, answer)
        return response

    async def BatchRecord(self, request: Any, context: Any) -> Any:
        """Carries out a list of writes."""
        return await self._recorder.batch(request, current_caller.get())

    def RecordStream(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        """Carries out lists of writes as they come."""
        return self._recorder.stream(requests, current_caller.get())

    async def QuotePurchase(self, request: Any, context: Any) -> Any:
        """Says what a purchase would give."""
        quoted = await self._ledger.quote(quoted_purchase(request, current_caller.get()))
        response = pb.QuotePurchaseResponse()
        self._messages.receipt(response.receipt, quoted)
        return response

    async def GetMember(self, request: Any, context: Any) -> Any:
        """Reads one member."""
        member = await self._ledger.member(request.member_id)
        response = pb.GetMemberResponse()
        await self._fill_member(response.member, member)
        return response

    async def _fill_member(self, message: Any, member: Member) -> None:
        self._messages.member(message, member)
        message.earning_class = member.earning_class(await self._business_time(member.member_id))

    async def GetBalance(self, request: Any, context: Any) -> Any:
        """Reads a member's points."""
        member = await self._ledger.member_as_of(
            request.member_id, read_time(request, "at_time"), read_time(request, "known_at_time")
        )
        response = pb.GetBalanceResponse()
        self._messages.balance(response.balance, member)
        return response

    async def ListLots(self, request: Any, context: Any) -> Any:
        """Lists a member's lots, in the order they are drawn."""
        member, lots, token = await self._ledger.lots(
            request.member_id, read_time(request, "at_time"), request.page_token, request.page_size or _DEFAULT_PAGE
        )
        response = pb.ListLotsResponse(next_page_token=token)
        for listed in lots:
            self._messages.lot(response.lots.add(), member, listed)
        return response

    async def GetLiability(self, request: Any, context: Any) -> Any:
        """Reads what the programme owes its members."""
        return await get_liability(self._ledger.books, self._ledger.rules.versions, request)

    async def ListEntries(self, request: Any, context: Any) -> Any:
        """Lists a member's entries, newest first."""
        only = EntryFilter(
            kinds=[entry_kind(kind) for kind in request.kinds],
            from_time=read_time(request, "from_time"),
            until_time=read_time(request, "until_time"),
            purchase_id=request.purchase_id,
        )
        entries, token = await self._ledger.entries(
            request.member_id, request.page_token, request.page_size or _DEFAULT_PAGE, only
        )
        response = pb.ListEntriesResponse(next_page_token=token)
        for listed in entries:
            self._messages.listed_entry(response.entries.add(), listed)
        return response

    async def GetPurchase(self, request: Any, context: Any) -> Any:
        """Reads one purchase."""
        listed = await self._ledger.purchase(request.member_id, request.purchase_id)
        response = pb.GetPurchaseResponse()
        partition = self._ledger.partition_of(request.member_id)
        self._messages.purchase(response.purchase, request.member_id, partition, listed)
        return response

    async def ListPurchases(self, request: Any, context: Any) -> Any:
        """Lists a member's purchases, newest first."""
        purchases, token = await self._ledger.purchases(
            request.member_id, request.receipt_number, request.page_token, request.page_size or _DEFAULT_PAGE
        )
        response = pb.ListPurchasesResponse(next_page_token=token)
        partition = self._ledger.partition_of(request.member_id)
        for listed in purchases:
            self._messages.purchase(response.purchases.add(), request.member_id, partition, listed)
        return response

    async def GetProgramme(self, request: Any, context: Any) -> Any:
        """Reads a version of the programme, and when each one holds."""
        found, stored = await self._ledger.version(request.version)
        programme = found.programme
        response = pb.GetProgrammeResponse(
            programme=pb.Programme(
                name=programme.name,
                version=programme.version,
                currency_code=programme.currency,
                time_zone=programme.time_zone,
                source=found.document,
            )
        )
        set_time(response.from_time, found.from_time)
        for one in stored:
            version = response.versions.add(version=one.programme.version)
            set_time(version.from_time, one.from_time)
            set_time(version.recorded_time, one.recorded_time)
        return response

    async def ApplyProgramme(self, request: Any, context: Any) -> Any:
        """Makes another version of the programme hold from an instant on."""
        caller = current_caller.get()
        from_time = read_time(request, "from_time")
        assert from_time is not None, "the contract requires it"
        applied = await self._ledger.apply_programme(
            request.document,
            from_time,
            request_id=request.request_id,
            author=Author(caller.principal, caller.on_behalf_of),
            request=canonical(b"ApplyProgramme", request),
        )
        response = pb.ApplyProgrammeResponse(
            version=applied.version.programme.version,
            causal_token=format_token(applied.offsets),
            replayed=applied.replayed,
        )
        set_time(response.from_time, applied.version.from_time)
        return response

    async def ListPartitions(self, request: Any, context: Any) -> Any:
        """Lists the partitions and the clock."""
        mode = self._ledger.installation.clock_mode
        response = pb.ListPartitionsResponse(clock_mode=_CLOCK_MODES[mode])
        heads = await self._ledger.heads()
        now = min(head.business_time for head in heads) if mode is ClockMode.SIMULATED else self._clock()
        set_time(response.business_time, now)
        for head in heads:
            partition = response.partitions.add(
                partition=head.partition, last_offset=head.last_offset, head_hash=head.head_hash, members=head.members
            )
            set_time(partition.business_time, head.business_time if mode is ClockMode.SIMULATED else now)
        return response

    async def StreamEntries(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        """Streams entries from cursors on; the responses are encoded already."""
        after = {cursor.partition: cursor.offset for cursor in request.after}
        async for entries in self._ledger.feed(after, follow=request.follow):
            parts: list[bytes] = []
            size = 0
            for entry in entries:
                part = self._feed_part(entry)
                parts.append(part)
                size += len(part)
                if size > _FEED_BYTES:
                    yield b"".join(parts)
                    parts, size = [], 0
            if parts:
                yield b"".join(parts)

    async def AdvanceClock(self, request: Any, context: Any) -> Any:
        """Moves the business time of a simulated installation on."""
        caller = current_caller.get()
        to_time = read_time(request, "to_time")
        assert to_time is not None, "the contract requires it"
        sent = canonical(b"AdvanceClock", request)

        def command(partition: int) -> commands.AdvanceClock:
            return commands.AdvanceClock(
                partition=partition,
                to_time=to_time,
                request_id=request.request_id,
                principal=caller.principal,
                on_behalf_of=caller.on_behalf_of,
                request=sent,
            )

        advanced = await self._ledger.advance_clock(command)
        response = pb.AdvanceClockResponse(causal_token=format_token(advanced.offsets), replayed=advanced.replayed)
        set_time(response.business_time, advanced.business_time)
        return response

    async def _business_time(self, member_id: str) -> datetime:
        if self._ledger.installation.clock_mode is ClockMode.REAL:
            return self._clock()
        heads = await self._ledger.heads()
        return heads[self._ledger.partition_of(member_id)].business_time

    def _feed_part(self, entry: Entry) -> bytes:
        """A StreamEntriesResponse with this entry alone, encoded; one after the other they are one with all of them.

        Several follow the feed at the same place, so what was made for one serves the next.
        """
        part = self._feed_parts.get(entry.hash)
        if part is None:
            response = pb.StreamEntriesResponse()
            self._messages.entry(response.entries.add(), entry)
            part = response.SerializeToString()
            if len(self._feed_parts) >= _KEPT_PARTS:
                self._feed_parts.clear()
            self._feed_parts[entry.hash] = part
        return part
