"""The ledger over gRPC, in this service's words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2
from loyalty.ledger.v1 import entry_pb2, ledger_service_pb2, ledger_service_pb2_grpc
from loyalty.type.v1 import log_pb2

from services.runtime.channels import closing_told
from services.runtime.clock import ClockMode
from services.runtime.identity import ON_BEHALF_OF
from services.runtime.status import reason_of
from services.tiers.domain.facts import FactKind
from services.tiers.domain.feed import EntryKind, LedgerEntry
from services.tiers.errors import LedgerUnavailableError
from services.tiers.follower import Answer, LedgerDescription
from services.tiers.store import ClassNotice, StoredVersion

_CALL_SECONDS = 10.0
_BATCH_SECONDS = 30.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_FACTS = {
    entry_pb2.ENTRY_KIND_MEMBER_JOINED: FactKind.JOINED,
    entry_pb2.ENTRY_KIND_PURCHASE_RECORDED: FactKind.PURCHASE,
    entry_pb2.ENTRY_KIND_RETURN_RECORDED: FactKind.RETURN,
    entry_pb2.ENTRY_KIND_PURCHASE_VOIDED: FactKind.VOID,
    entry_pb2.ENTRY_KIND_POINTS_AWARDED: FactKind.AWARD,
    entry_pb2.ENTRY_KIND_ACTIVITY_RECORDED: FactKind.ACTIVITY,
    entry_pb2.ENTRY_KIND_MEMBERSHIP_FEE_RECORDED: FactKind.FEE,
    entry_pb2.ENTRY_KIND_MEMBER_RESIGNED: FactKind.RESIGNED,
    entry_pb2.ENTRY_KIND_MEMBER_REJOINED: FactKind.REJOINED,
    # It has left, if it had not before, and never comes back.
    entry_pb2.ENTRY_KIND_MEMBER_ERASED: FactKind.RESIGNED,
}

_KINDS = {
    entry_pb2.ENTRY_KIND_CLOCK_ADVANCED: EntryKind.CLOCK,
    entry_pb2.ENTRY_KIND_EARNING_CLASS_SET: EntryKind.CLASS_SET,
    entry_pb2.ENTRY_KIND_REQUEST_REFUSED: EntryKind.REFUSED,
    entry_pb2.ENTRY_KIND_PROGRAMME_APPLIED: EntryKind.PROGRAMME,
}

_OF_MONEY = (FactKind.PURCHASE, FactKind.RETURN, FactKind.VOID)

# Outcomes of one write that say nothing about it: it is sent again.
_PASSING = frozenset(
    code.value[0]
    for code in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    )
)


class LedgerClient:
    """The ledger behind a channel; see `follower.Ledger`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ledger_service_pb2_grpc.LedgerServiceStub(channel)

    async def describe(self) -> LedgerDescription:
        """The versions of the programme, partitions and clock."""
        try:
            listed = await self._stub.ListPartitions(ledger_service_pb2.ListPartitionsRequest(), timeout=_CALL_SECONDS)
            versions = await self._versions()
        except grpc.aio.AioRpcError as error:
            raise _unavailable(error) from None
        simulated = listed.clock_mode == ledger_service_pb2.CLOCK_MODE_SIMULATED
        return LedgerDescription(
            versions=versions,
            partitions=tuple(partition.partition for partition in listed.partitions),
            clock_mode=ClockMode.SIMULATED if simulated else ClockMode.REAL,
        )

    async def heads(self) -> dict[int, int]:
        """The offset of the last entry of each partition."""
        try:
            listed = await self._stub.ListPartitions(ledger_service_pb2.ListPartitionsRequest(), timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _unavailable(error) from None
        return {partition.partition: partition.last_offset for partition in listed.partitions}

    async def _versions(self) -> tuple[StoredVersion, ...]:
        request = ledger_service_pb2.GetProgrammeRequest()
        told = await self._stub.GetProgramme(request, timeout=_CALL_SECONDS)
        versions = []
        for one in told.versions:
            request = ledger_service_pb2.GetProgrammeRequest(version=one.version)
            found = await self._stub.GetProgramme(request, timeout=_CALL_SECONDS)
            versions.append(
                StoredVersion(
                    version=one.version,
                    document=found.programme.source,
                    from_time=_time(one.from_time),
                    recorded_time=_time(one.recorded_time),
                )
            )
        return tuple(versions)

    async def entries(self, after: Mapping[int, int], *, follow: bool) -> AsyncIterator[list[LedgerEntry]]:
        """The feed after these offsets, response by response."""
        request = ledger_service_pb2.StreamEntriesRequest(
            after=[log_pb2.PartitionOffset(partition=p, offset=offset) for p, offset in sorted(after.items())],
            follow=follow,
        )
        call = self._stub.StreamEntries(request)
        try:
            with closing_told():
                async for response in call:
                    yield [entry_of(entry) for entry in response.entries]
        except grpc.aio.AioRpcError as error:
            raise _unavailable(error) from None
        finally:
            call.cancel()

    async def set_classes(self, notices: Sequence[ClassNotice]) -> list[Answer]:
        """Sends earning classes and gives an answer for each, in the same order."""
        answers: dict[int, Answer] = {}
        # For whom a call is made stands beside it, and holds for all of its writes.
        for on_behalf_of in dict.fromkeys(notice.on_behalf_of for notice in notices):
            places = [place for place, notice in enumerate(notices) if notice.on_behalf_of == on_behalf_of]
            told = await self._set_classes([notices[place] for place in places], on_behalf_of)
            answers.update(zip(places, told, strict=True))
        return [answers[place] for place in range(len(notices))]

    async def _set_classes(self, notices: Sequence[ClassNotice], on_behalf_of: str) -> list[Answer]:
        request = ledger_service_pb2.BatchRecordRequest(
            writes=[ledger_service_pb2.Write(set_earning_class=_set_class(notice)) for notice in notices]
        )
        metadata = ((ON_BEHALF_OF, on_behalf_of),) if on_behalf_of else ()
        try:
            response = await self._stub.BatchRecord(request, metadata=metadata, timeout=_BATCH_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise _unavailable(error) from None
        return [
            _answer(outcome.error) if outcome.HasField("error") else Answer(final=True) for outcome in response.outcomes
        ]


def entry_of(entry: entry_pb2.Entry) -> LedgerEntry:
    """An entry of the feed in the domain's words: of each kind what tiers need to know."""
    fact = _FACTS.get(entry.kind)
    if fact is None:
        kind = _KINDS.get(entry.kind, EntryKind.OTHER)
        return LedgerEntry(
            partition=entry.partition,
            offset=entry.offset,
            kind=kind,
            member_id=entry.member_id,
            occurred_time=_time(entry.occurred_time),
            name=entry.reference if kind is EntryKind.PROGRAMME else "",
            request_id=entry.request_id,
            earning_class=entry.earning_class,
            effective_time=_time(entry.effective_time) if entry.HasField("effective_time") else None,
        )
    rules = tuple([(rule.rule, rule.points) for rule in entry.rules])
    if fact in _OF_MONEY:
        money = entry.amount
        amount = money.minor_units
        return LedgerEntry(
            partition=entry.partition,
            offset=entry.offset,
            kind=EntryKind.FACT,
            member_id=entry.member_id,
            occurred_time=_time(entry.occurred_time),
            recorded_time=_time(entry.recorded_time),
            fact_kind=fact,
            currency=money.currency_code,
            amount=amount,
            goods_paid=entry.goods_paid.minor_units if entry.HasField("goods_paid") else amount,
            purchase_id=entry.purchase_id,
            exchange_id=entry.exchange_id,
            rules=rules,
        )
    return LedgerEntry(
        partition=entry.partition,
        offset=entry.offset,
        kind=EntryKind.FACT,
        member_id=entry.member_id,
        occurred_time=_time(entry.occurred_time),
        recorded_time=_time(entry.recorded_time),
        fact_kind=fact,
        rules=rules,
        name=entry.market if fact is FactKind.JOINED else entry.reference,
        effective_time=_time(entry.effective_time) if entry.HasField("effective_time") else None,
        until_time=_time(entry.expire_time) if entry.HasField("expire_time") else None,
    )


def _time(timestamp: Timestamp) -> datetime:
    # A third of the time that ToDatetime takes; the feed has one for each entry.
    return _EPOCH + timedelta(0, timestamp.seconds, timestamp.nanos // 1000)


def _set_class(notice: ClassNotice) -> ledger_service_pb2.SetEarningClassRequest:
    effective = Timestamp()
    effective.FromDatetime(notice.effective_time)
    return ledger_service_pb2.SetEarningClassRequest(
        request_id=notice.request_id,
        member_id=notice.member_id,
        earning_class=notice.earning_class,
        effective_time=effective,
        sequence=notice.sequence,
    )


def _answer(error: status_pb2.Status) -> Answer:
    return Answer(final=error.code not in _PASSING, refused=reason_of(error) or error.message)


def _unavailable(error: grpc.aio.AioRpcError) -> LedgerUnavailableError:
    return LedgerUnavailableError(f"the ledger answered {error.code().name}: {error.details()}")
