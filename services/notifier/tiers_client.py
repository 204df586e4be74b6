"""Tiers, as the notifier sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC

import grpc
from loyalty.tiers.v1 import tier_service_pb2, tier_service_pb2_grpc
from loyalty.type.v1 import log_pb2

from services.notifier.domain.feeds import TierChange, TierNews, TierProgress
from services.notifier.domain.profiles import Losing
from services.notifier.errors import FeedError, PeerError
from services.notifier.peers import answered, found
from services.runtime.channels import closing_told

_TIMEOUT_SECONDS = 30.0
_PAGE = 1000


class TiersClient:
    """The stream of changes; raises PeerError where tiers cannot be reached or breaks off."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._tiers = tier_service_pb2_grpc.TierServiceStub(channel)

    async def news(self, after: Mapping[int, int], *, follow: bool = True) -> AsyncIterator[TierNews]:
        """The changes after these offsets, each partition in order; ends only where `follow` is off."""
        request = tier_service_pb2.StreamTierChangesRequest(
            after=[
                log_pb2.PartitionOffset(partition=partition, offset=offset)
                for partition, offset in sorted(after.items())
            ],
            follow=follow,
        )
        stream = self._tiers.StreamTierChanges(request)
        try:
            with closing_told():
                async for response in stream:
                    yield TierNews(
                        changes=tuple(change_of(change) for change in response.changes),
                        progress=tuple(_progress(progress) for progress in response.progress),
                    )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.OUT_OF_RANGE:
                raise FeedError(f"the changes of tiers end before our cursor: {error.details()}") from None
            raise PeerError(f"tiers does not answer: {error.code().name}") from None
        finally:
            stream.cancel()

    async def benefits(self, member_id: str) -> tuple[int, bool] | None:
        """The number of the tier whose benefits a member has now, 0 for none, and whether the account is suspended;
        None for nobody that tiers knows as a member now."""
        request = tier_service_pb2.GetStandingRequest(member_id=member_id)
        call = self._tiers.GetStanding(request, timeout=_TIMEOUT_SECONDS)
        answer = await found(call, "MEMBER_UNKNOWN", "NOT_ENROLLED")
        if answer is None:
            return None
        return int(answer.standing.benefits_tier_number), answer.standing.suspended

    async def losing(self, tier_numbers: Sequence[int], within_days: int) -> AsyncIterator[Sequence[Losing]]:
        """Who loses one of these levels within so many days if nothing more happens, by pages. Raises PeerRefusedError,
        too."""
        token, at_time = "", None
        while True:
            request = tier_service_pb2.ListStandingsRequest(
                tier_numbers=tier_numbers, losing_within_days=within_days, page_size=_PAGE, page_token=token
            )
            if at_time is not None:
                request.at_time.CopyFrom(at_time)
            answer = await answered(self._tiers.ListStandings(request, timeout=_TIMEOUT_SECONDS))
            token, at_time = answer.next_page_token, answer.at_time
            yield [
                Losing(
                    member_id=one.member_id,
                    tier_number=one.tier_number,
                    losing_time=one.losing_time.ToDatetime(tzinfo=UTC),
                )
                for one in answer.standings
            ]
            if not token:
                return


_RESTORING = (
    tier_service_pb2.CHANGE_REASON_OVERRIDE_ENDED,
    tier_service_pb2.CHANGE_REASON_REVIVED,
    tier_service_pb2.CHANGE_REASON_REJOINED,
    tier_service_pb2.CHANGE_REASON_CORRECTED,
)


def change_of(change: tier_service_pb2.TierChange) -> TierChange:
    """A change by the benefits in force; what is taken back goes by the tier, whatever holds its benefits back."""
    taken_back = change.reason == tier_service_pb2.CHANGE_REASON_TAKEN_BACK
    return TierChange(
        partition=change.partition,
        offset=change.offset,
        member_id=change.member_id,
        from_tier_number=change.from_benefits_tier_number,
        from_tier=change.from_benefits_tier,
        to_tier_number=change.to_benefits_tier_number,
        to_tier=change.to_benefits_tier,
        balance=change.balance.minor_units if change.HasField("balance") else change.balance_count,
        changed_time=change.changed_time.ToDatetime(tzinfo=UTC),
        cause_offset=change.ledger_offset if change.WhichOneof("cause") == "ledger_offset" else None,
        programme_version=change.programme_version,
        restores=change.reason in _RESTORING,
        taken_back_to=change.to_tier_number if taken_back else None,
    )


def _progress(progress: tier_service_pb2.PartitionProgress) -> TierProgress:
    due = progress.due_time_processed.ToDatetime(tzinfo=UTC) if progress.HasField("due_time_processed") else None
    return TierProgress(partition=progress.partition, ledger_offset=progress.ledger_offset_processed, due_time=due)
