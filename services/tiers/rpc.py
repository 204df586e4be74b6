"""TierService over gRPC: messages to use cases and back, errors to statuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.tiers.v1 import tier_service_pb2 as pb
from loyalty.tiers.v1 import tier_service_pb2_grpc
from loyalty.type.v1 import money_pb2

from services.programme import Programme
from services.runtime.causality import parse_token
from services.runtime.interceptors import DEFAULT_DEADLINE_SECONDS, Context
from services.runtime.status import ErrorStatus, InvalidFieldError
from services.tiers.domain import Standing
from services.tiers.errors import (
    CursorAheadError,
    MemberUnknownError,
    NotEnrolledError,
    NotReadyError,
    PageTokenError,
    TiersError,
    TokenBeyondLogError,
)
from services.tiers.service import LONGEST_WAIT_SECONDS, Progress, Tiers
from services.tiers.store import StoredChange

# A read that waits gives up this long before its deadline, so that the caller hears why.
_MARGIN_SECONDS = 0.2

# docs/errors.md
_STATUSES: dict[type[TiersError], tuple[grpc.StatusCode, str]] = {
    MemberUnknownError: (grpc.StatusCode.NOT_FOUND, "MEMBER_UNKNOWN"),
    NotEnrolledError: (grpc.StatusCode.FAILED_PRECONDITION, "NOT_ENROLLED"),
    CursorAheadError: (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_AHEAD_OF_LOG"),
    TokenBeyondLogError: (grpc.StatusCode.INVALID_ARGUMENT, "CAUSAL_TOKEN_INVALID"),
    PageTokenError: (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"),
    NotReadyError: (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
}


def describe(error: BaseException) -> ErrorStatus | None:
    """The status of this service's errors."""
    if not isinstance(error, TiersError) or type(error) not in _STATUSES:
        return None
    code, reason = _STATUSES[type(error)]
    return ErrorStatus(code=code, reason=reason, message=str(error))


class TierServicer(tier_service_pb2_grpc.TierServiceServicer):
    """The handlers of TierService."""

    def __init__(self, tiers: Tiers) -> None:
        self._tiers = tiers
        self._programme = tiers.programme

    async def GetStanding(self, request: pb.GetStandingRequest, context: Context) -> pb.GetStandingResponse:
        """Reads a member's tier with what explains it."""
        await self._tiers.wait_for(parse_token(request.causal_token), seconds=_patience(context))
        standing = await self._tiers.standing(request.member_id, _asked(request))
        return pb.GetStandingResponse(standing=_standing(self._programme, request.member_id, standing))

    async def CountStandings(self, request: pb.CountStandingsRequest, context: Context) -> pb.CountStandingsResponse:
        """Counts members by tier."""
        wanted = parse_token(request.causal_token)
        await self._tiers.wait_for(wanted, seconds=_patience(context), settled=request.settled)
        at_time, members = await self._tiers.count(_asked(request))
        return pb.CountStandingsResponse(
            counts=[
                pb.TierCount(tier_number=level.number, tier=level.name, members=members[level.number])
                for level in self._programme.tiers.levels
            ],
            at_time=_timestamp(at_time),
        )

    async def ListStandings(self, request: pb.ListStandingsRequest, context: Context) -> pb.ListStandingsResponse:
        """Lists members with their tiers."""
        wanted = parse_token(request.causal_token)
        await self._tiers.wait_for(wanted, seconds=_patience(context), settled=request.settled)
        page = await self._tiers.standings(_asked(request), page_size=request.page_size, page_token=request.page_token)
        return pb.ListStandingsResponse(
            standings=[
                pb.MemberStanding(
                    member_id=one.member_id,
                    tier_number=one.level.number,
                    tier=one.level.name,
                    balance=_money(self._programme, one.balance),
                    joined_time=_timestamp(one.joined_time),
                )
                for one in page.standings
            ],
            next_page_token=page.next_page_token,
            at_time=_timestamp(page.at_time),
            programme_version=self._programme.version,
        )

    async def StreamTierChanges(
        self, request: pb.StreamTierChangesRequest, context: Context
    ) -> AsyncIterator[pb.StreamTierChangesResponse]:
        """Streams changes of tier from a cursor on."""
        after = {place.partition: place.offset for place in request.after}
        async for changes, progress in self._tiers.changes(after, follow=request.follow):
            yield pb.StreamTierChangesResponse(
                changes=[_change(self._programme, change) for change in changes],
                progress=[_progress(partition) for partition in progress],
            )


def _patience(context: Context) -> float:
    remaining = context.time_remaining()
    if remaining is None:
        remaining = DEFAULT_DEADLINE_SECONDS
    return min(max(remaining - _MARGIN_SECONDS, 0.0), LONGEST_WAIT_SECONDS)


def _asked(request: pb.GetStandingRequest | pb.CountStandingsRequest | pb.ListStandingsRequest) -> datetime | None:
    if not request.HasField("at_time"):
        return None
    if not 0 <= request.at_time.nanos < 1_000_000_000:
        raise InvalidFieldError("at_time", "its nanos must be from 0 to 999999999")
    return request.at_time.ToDatetime(UTC)


def _timestamp(time: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def _money(programme: Programme, minor_units: int) -> money_pb2.Money:
    return money_pb2.Money(currency_code=programme.currency, minor_units=minor_units)


def _standing(programme: Programme, member_id: str, standing: Standing) -> pb.Standing:
    more: dict[str, Any] = {}
    if standing.next_level is not None and standing.missing_for_next_level is not None:
        more["next_tier"] = standing.next_level.name
        more["missing_for_next_tier"] = _money(programme, standing.missing_for_next_level)
    if standing.next_change is not None:
        more["next_change_time"] = _timestamp(standing.next_change.time)
        more["next_change_tier_number"] = standing.next_change.level.number
    return pb.Standing(
        member_id=member_id,
        tier_number=standing.level.number,
        tier=standing.level.name,
        balance=_money(programme, standing.balance),
        at_time=_timestamp(standing.at_time),
        since_time=_timestamp(standing.since_time),
        joined_time=_timestamp(standing.joined_time),
        discount_basis_points=standing.level.discount_bp,
        programme_version=programme.version,
        **more,
    )


def _change(programme: Programme, stored: StoredChange) -> pb.TierChange:
    place, change = stored.tier_change, stored.tier_change.change
    changed_time = _timestamp(change.changed_time)
    message = pb.TierChange(
        partition=place.partition,
        offset=place.offset,
        member_id=place.member_id,
        sequence=change.sequence,
        from_tier_number=change.from_tier_number,
        from_tier=programme.tiers.level(change.from_tier_number).name,
        to_tier_number=change.to_tier_number,
        to_tier=programme.tiers.level(change.to_tier_number).name,
        balance=_money(programme, change.balance),
        changed_time=changed_time,
        ledger_offset_processed=place.ledger_offset_processed,
        programme_version=stored.programme_version,
    )
    if change.cause_offset is None:
        message.due_time.CopyFrom(changed_time)
    else:
        message.ledger_offset = change.cause_offset
    return message


def _progress(progress: Progress) -> pb.PartitionProgress:
    due = progress.due_time_processed
    return pb.PartitionProgress(
        partition=progress.partition,
        ledger_offset_processed=progress.ledger_offset_processed,
        due_time_processed=None if due is None else _timestamp(due),
    )
