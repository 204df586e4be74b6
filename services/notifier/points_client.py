"""A member's points at the ledger: what is there, and what moves for a reward."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration
from loyalty.ledger.v1 import ledger_service_pb2 as ledger
from loyalty.ledger.v1 import ledger_service_pb2_grpc

from services.notifier.peers import acting_for, answered

_TIMEOUT_SECONDS: Final = 10.0


class PointsClient:
    """Moves points. All raise PeerRefusedError where the ledger refuses, PeerError where it does not answer."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._ledger = ledger_service_pb2_grpc.LedgerServiceStub(channel)

    async def available(self, member_id: str) -> int:
        """Points that a member can spend now."""
        request = ledger.GetBalanceRequest(member_id=member_id)
        answer = await answered(self._ledger.GetBalance(request, timeout=_TIMEOUT_SECONDS))
        return int(answer.balance.available_points)

    async def hold(self, *, request_id: str, member_id: str, points: int, ttl: timedelta, on_behalf_of: str) -> None:
        """Sets points aside for a time; the hold's id is that of the request."""
        lasting = Duration()
        lasting.FromTimedelta(ttl)
        request = ledger.HoldPointsRequest(
            request_id=request_id, member_id=member_id, points=points, ttl=lasting, reason="reward"
        )
        await answered(self._ledger.HoldPoints(request, timeout=_TIMEOUT_SECONDS, metadata=acting_for(on_behalf_of)))

    async def capture(self, *, request_id: str, member_id: str, hold_id: str, on_behalf_of: str) -> None:
        """Spends all that a hold holds; the redemption's id is that of the request."""
        request = ledger.CaptureHoldRequest(
            request_id=request_id, member_id=member_id, hold_id=hold_id, reason="reward"
        )
        await answered(self._ledger.CaptureHold(request, timeout=_TIMEOUT_SECONDS, metadata=acting_for(on_behalf_of)))

    async def release(self, *, request_id: str, member_id: str, hold_id: str, on_behalf_of: str) -> None:
        """Gives all that a hold holds back."""
        request = ledger.ReleaseHoldRequest(request_id=request_id, member_id=member_id, hold_id=hold_id)
        await answered(self._ledger.ReleaseHold(request, timeout=_TIMEOUT_SECONDS, metadata=acting_for(on_behalf_of)))

    async def award(
        self,
        *,
        request_id: str,
        member_id: str,
        points: int,
        on_behalf_of: str,
        reason: str = "reward",
        purchase_id: str = "",
        lasting: str = "",
    ) -> None:
        """Gives points; with a purchase, those go where it is returned. Nobody is acted for where that is empty.
        `lasting`: how long they last (`P90D`); empty: as the programme says."""
        request = ledger.AwardPointsRequest(
            request_id=request_id,
            member_id=member_id,
            points=points,
            reason=reason,
            purchase_id=purchase_id,
            lasting=lasting,
        )
        await answered(self._ledger.AwardPoints(request, timeout=_TIMEOUT_SECONDS, metadata=acting_for(on_behalf_of)))

    async def reverse(self, *, request_id: str, member_id: str, redemption_id: str, on_behalf_of: str) -> None:
        """Takes a redemption back, whole."""
        request = ledger.ReverseRedemptionRequest(
            request_id=request_id, member_id=member_id, redemption_id=redemption_id, reason="reward"
        )
        await answered(
            self._ledger.ReverseRedemption(request, timeout=_TIMEOUT_SECONDS, metadata=acting_for(on_behalf_of))
        )
