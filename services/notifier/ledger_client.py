"""The ledger, as the notifier sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import entry_pb2, ledger_service_pb2, ledger_service_pb2_grpc, member_pb2
from loyalty.type.v1 import log_pb2

from services.notifier.domain.bookings import Booked, Booking, name_in
from services.notifier.domain.feeds import (
    ClockAdvanced,
    Fact,
    Happening,
    LedgerEntry,
    LedgerLayout,
    MemberEvent,
    MemberJoined,
    ProgrammeApplied,
    PurchaseUndone,
)
from services.notifier.domain.uses import ERASED, NO_MEMBER, RESIGNED, Refusal
from services.notifier.errors import FeedError, PeerError
from services.notifier.peers import found
from services.programme import ProgrammeError, Version, Versions, parse
from services.runtime.channels import closing_told

_TIMEOUT_SECONDS = 10.0

_FACTS = (
    entry_pb2.ENTRY_KIND_MEMBER_JOINED,
    entry_pb2.ENTRY_KIND_CLOCK_ADVANCED,
    entry_pb2.ENTRY_KIND_PROGRAMME_APPLIED,
)

# By these a purchase comes back, in part or whole.
_UNDOING = (entry_pb2.ENTRY_KIND_RETURN_RECORDED, entry_pb2.ENTRY_KIND_PURCHASE_VOIDED)
# What entries mean to campaigns; the others about members move points, or nothing.
_HAPPENINGS = {
    entry_pb2.ENTRY_KIND_PURCHASE_RECORDED: Happening.PURCHASE,
    entry_pb2.ENTRY_KIND_PURCHASE_VOIDED: Happening.VOID,
    entry_pb2.ENTRY_KIND_RETURN_RECORDED: Happening.RETURN,
    entry_pb2.ENTRY_KIND_POINTS_REDEEMED: Happening.ACTIVITY,
    entry_pb2.ENTRY_KIND_HOLD_CAPTURED: Happening.ACTIVITY,
    entry_pb2.ENTRY_KIND_ACTIVITY_RECORDED: Happening.ACTIVITY,
    entry_pb2.ENTRY_KIND_MEMBER_RESIGNED: Happening.LEFT,
    entry_pb2.ENTRY_KIND_MEMBER_REJOINED: Happening.CAME_BACK,
}
# By these rewards and checkouts have points and purchases.
_BOOKING = (
    entry_pb2.ENTRY_KIND_PURCHASE_RECORDED,
    entry_pb2.ENTRY_KIND_POINTS_HELD,
    entry_pb2.ENTRY_KIND_HOLD_CAPTURED,
    entry_pb2.ENTRY_KIND_HOLD_RELEASED,
    entry_pb2.ENTRY_KIND_HOLD_EXPIRED,
    entry_pb2.ENTRY_KIND_POINTS_AWARDED,
    entry_pb2.ENTRY_KIND_REDEMPTION_REVERSED,
)
_OURSELVES = "notifier"
_NO_MORE = {member_pb2.MEMBER_STATUS_RESIGNED: RESIGNED, member_pb2.MEMBER_STATUS_ERASED: ERASED}
# Nothing about the member is other after them.
_IDLE = (
    entry_pb2.ENTRY_KIND_RETURN_WAITING,
    entry_pb2.ENTRY_KIND_EARNING_CLASS_SET,
    entry_pb2.ENTRY_KIND_REQUEST_REFUSED,
    entry_pb2.ENTRY_KIND_HOLD_EXTENDED,
    entry_pb2.ENTRY_KIND_ADJUSTMENT_REQUESTED,
    entry_pb2.ENTRY_KIND_ADJUSTMENT_DECLINED,
    entry_pb2.ENTRY_KIND_MEMBERSHIP_FEE_RECORDED,
)


class LedgerClient:
    """Calls to the ledger; raises PeerError where it cannot be reached or does not answer."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._ledger = ledger_service_pb2_grpc.LedgerServiceStub(channel)

    async def layout(self) -> LedgerLayout:
        """The ledger's partitions and clock."""
        try:
            listed = await self._ledger.ListPartitions(
                ledger_service_pb2.ListPartitionsRequest(), timeout=_TIMEOUT_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            raise _peer_error(error) from None
        return LedgerLayout(
            heads={part.partition: part.last_offset for part in listed.partitions},
            simulated=listed.clock_mode == ledger_service_pb2.CLOCK_MODE_SIMULATED,
        )

    async def versions(self) -> Versions:
        """The versions of the programme that the ledger goes by. Raises FeedError for one that cannot be read."""
        told = (await self._programme("")).versions
        programmes = {name: await self._programme(name) for name in dict.fromkeys(one.version for one in told)}
        try:
            parsed = {
                name: parse(answer.programme.source, f"the ledger's programme {name}", applied=True)
                for name, answer in programmes.items()
            }
        except ProgrammeError as error:
            raise FeedError(str(error)) from None
        return Versions(Version(programme=parsed[one.version], from_time=_time(one.from_time)) for one in told)

    async def _programme(self, version: str) -> ledger_service_pb2.GetProgrammeResponse:
        request = ledger_service_pb2.GetProgrammeRequest(version=version)
        try:
            answer: ledger_service_pb2.GetProgrammeResponse = await self._ledger.GetProgramme(
                request, timeout=_TIMEOUT_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            raise _peer_error(error) from None
        return answer

    async def has_member(self, member_id: str) -> bool:
        """Whether there is such a member, or was."""
        return await self.why_no_member(member_id) != NO_MEMBER

    async def why_no_member(self, member_id: str) -> Refusal | None:
        """Why nobody is a member by this id now; None for a member."""
        request = ledger_service_pb2.GetMemberRequest(member_id=member_id)
        answer = await found(self._ledger.GetMember(request, timeout=_TIMEOUT_SECONDS), "MEMBER_UNKNOWN")
        return NO_MEMBER if answer is None else _NO_MORE.get(answer.member.status)

    async def purchase_detail(self, member_id: str, purchase_id: str) -> tuple[str, frozenset[str]]:
        """The store of a purchase and the departments of its goods; empty where they were not sent, or are erased."""
        request = ledger_service_pb2.GetPurchaseRequest(member_id=member_id, purchase_id=purchase_id)
        call = self._ledger.GetPurchase(request, timeout=_TIMEOUT_SECONDS)
        answer = await found(call, "MEMBER_UNKNOWN", "PURCHASE_UNKNOWN")
        if answer is None:
            return "", frozenset()
        lines = answer.purchase.lines
        return answer.purchase.store_id, frozenset(one.line.department for one in lines if one.line.department)

    async def entries(
        self, after: Mapping[int, int], *, follow: bool = True, members: bool = False, bookings: bool = False
    ) -> AsyncIterator[Sequence[LedgerEntry]]:
        """The entries after these offsets, each partition in order; ends only where `follow` is off.

        `members`: with all that campaigns may ask of members, and not their joining alone; `bookings`: with what was
        booked for rewards and checkouts instead.
        """
        request = ledger_service_pb2.StreamEntriesRequest(
            after=[
                log_pb2.PartitionOffset(partition=partition, offset=offset)
                for partition, offset in sorted(after.items())
            ],
            follow=follow,
        )
        stream = self._ledger.StreamEntries(request)
        try:
            with closing_told():
                async for response in stream:
                    yield lines_of(response.entries, members=members, bookings=bookings)
        except grpc.aio.AioRpcError as error:
            raise _peer_error(error) from None
        finally:
            stream.cancel()


def lines_of(entries: Iterable[entry_pb2.Entry], *, members: bool = False, bookings: bool = False) -> list[LedgerEntry]:
    """The entries, with all that campaigns ask of `members`, or with `bookings`, or without either.

    Those without a fact that follow each other are one line, so that they cost next to nothing.
    """
    lines: list[LedgerEntry] = []
    partition, offset, count = 0, 0, 0
    of_members = _booked if bookings else _event if members else _undone
    for entry in entries:
        fact = _fact(entry) if entry.kind in _FACTS else of_members(entry)
        if count:
            if fact is None and entry.offset == offset + 1 and entry.partition == partition:
                offset, count = entry.offset, count + 1
                continue
            lines.append(LedgerEntry(partition=partition, offset=offset, fact=None, count=count))
            count = 0
        if fact is None:
            partition, offset, count = entry.partition, entry.offset, 1
        else:
            lines.append(LedgerEntry(partition=entry.partition, offset=entry.offset, fact=fact))
    if count:
        lines.append(LedgerEntry(partition=partition, offset=offset, fact=None, count=count))
    return lines


def _fact(entry: entry_pb2.Entry) -> Fact:
    if entry.kind == entry_pb2.ENTRY_KIND_MEMBER_JOINED:
        return MemberJoined(
            member_id=entry.member_id,
            joined_time=_time(entry.occurred_time),
            market=entry.market,
            available=entry.available_points_after,
            lapsing=_lapsing(entry),
        )
    if entry.kind == entry_pb2.ENTRY_KIND_PROGRAMME_APPLIED:
        return ProgrammeApplied(
            version=entry.reference,
            from_time=_time(entry.effective_time) if entry.HasField("effective_time") else None,
            announced_time=_time(entry.occurred_time),
        )
    return ClockAdvanced(to_time=_time(entry.occurred_time))


def _undone(entry: entry_pb2.Entry) -> PurchaseUndone | None:
    if entry.kind not in _UNDOING or not entry.purchase_id:
        return None
    return PurchaseUndone(member_id=entry.member_id, purchase_id=entry.purchase_id)


def _booked(entry: entry_pb2.Entry) -> Booked | None:
    if entry.kind not in _BOOKING:
        return None
    own = name_in(entry.request_id) if entry.principal == _OURSELVES else ""
    # A hold that runs out is asked for by nobody.
    name = own or name_in(entry.reference, hold=True)
    if not name:
        return None
    moved: Counter[int] = Counter()
    for posting in entry.postings:
        moved[posting.account] += posting.points
    booking = Booking(held=moved[entry_pb2.ACCOUNT_HELD])
    if own:
        booking = replace(
            booking,
            redeemed=moved[entry_pb2.ACCOUNT_REDEEMED],
            given=moved[entry_pb2.ACCOUNT_ISSUED] if entry.kind == entry_pb2.ENTRY_KIND_POINTS_AWARDED else 0,
        )
    if own and entry.kind == entry_pb2.ENTRY_KIND_PURCHASE_RECORDED:
        booking = replace(
            booking,
            purchase_id=entry.purchase_id,
            currency=entry.amount.currency_code,
            amount=entry.amount.minor_units,
            points_paid=entry.points_payment.points,
            amount_paid=entry.points_payment.amount.minor_units,
        )
    return Booked(partition=entry.partition, name=name, member_id=entry.member_id, booking=booking)


def _event(entry: entry_pb2.Entry) -> MemberEvent | None:
    if entry.kind in _IDLE or not entry.member_id:
        return None
    return MemberEvent(
        member_id=entry.member_id,
        happening=_HAPPENINGS.get(entry.kind, Happening.OTHER),
        occurred_time=_time(entry.occurred_time),
        available=entry.available_points_after,
        lapsing=_lapsing(entry),
        purchase_id=entry.purchase_id,
        goods_minor_units=entry.goods_paid.minor_units,
        currency=entry.goods_paid.currency_code,
        channel=entry.channel,
    )


def _lapsing(entry: entry_pb2.Entry) -> tuple[tuple[str, int], ...]:
    return tuple(
        (posting.expiry_date, posting.points)
        for posting in entry.postings
        if posting.account == entry_pb2.ACCOUNT_AVAILABLE and posting.expiry_date
    )


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def _peer_error(error: grpc.aio.AioRpcError) -> PeerError | FeedError:
    """A cursor beyond the log's end does not heal by itself; all else may."""
    if error.code() is grpc.StatusCode.OUT_OF_RANGE:
        return FeedError(f"the ledger's log ends before our cursor: {error.details()}")
    return PeerError(f"the ledger does not answer: {error.code().name}")
