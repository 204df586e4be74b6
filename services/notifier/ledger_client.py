"""The ledger, as the notifier sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import entry_pb2, ledger_service_pb2, ledger_service_pb2_grpc
from loyalty.type.v1 import log_pb2

from services.notifier.domain.feeds import ClockAdvanced, LedgerEntry, LedgerLayout, MemberJoined
from services.notifier.errors import FeedError, PeerError

_TIMEOUT_SECONDS = 10.0


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

    async def programme_version(self) -> str:
        """The version of the programme in force."""
        try:
            answer = await self._ledger.GetProgramme(ledger_service_pb2.GetProgrammeRequest(), timeout=_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _peer_error(error) from None
        version: str = answer.programme.version
        return version

    async def has_member(self, member_id: str) -> bool:
        """Whether there is such a member."""
        try:
            await self._ledger.GetMember(
                ledger_service_pb2.GetMemberRequest(member_id=member_id), timeout=_TIMEOUT_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise _peer_error(error) from None
        return True

    async def entries(self, after: Mapping[int, int], *, follow: bool = True) -> AsyncIterator[Sequence[LedgerEntry]]:
        """The entries after these offsets, each partition in order; ends only where `follow` is off."""
        request = ledger_service_pb2.StreamEntriesRequest(
            after=[
                log_pb2.PartitionOffset(partition=partition, offset=offset)
                for partition, offset in sorted(after.items())
            ],
            follow=follow,
        )
        stream = self._ledger.StreamEntries(request)
        try:
            async for response in stream:
                yield [_entry(entry) for entry in response.entries]
        except grpc.aio.AioRpcError as error:
            raise _peer_error(error) from None
        finally:
            stream.cancel()


def _entry(entry: entry_pb2.Entry) -> LedgerEntry:
    fact: MemberJoined | ClockAdvanced | None = None
    match entry.kind:
        case entry_pb2.ENTRY_KIND_MEMBER_JOINED:
            fact = MemberJoined(member_id=entry.member_id, joined_time=_time(entry.occurred_time))
        case entry_pb2.ENTRY_KIND_CLOCK_ADVANCED:
            fact = ClockAdvanced(to_time=_time(entry.occurred_time))
    return LedgerEntry(partition=entry.partition, offset=entry.offset, fact=fact)


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def _peer_error(error: grpc.aio.AioRpcError) -> PeerError | FeedError:
    """A cursor beyond the log's end does not heal by itself; all else may."""
    if error.code() is grpc.StatusCode.OUT_OF_RANGE:
        return FeedError(f"the ledger's log ends before our cursor: {error.details()}")
    return PeerError(f"the ledger does not answer: {error.code().name}")
