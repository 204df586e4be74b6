"""One member, as the ledger and tiers see it: for those who help members, and for members who ask what is kept.

What the other services answer is handed on as it is: nothing here looks into it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from loyalty.ledger.v1 import ledger_service_pb2 as ledger
from loyalty.ledger.v1 import ledger_service_pb2_grpc, member_pb2
from loyalty.tiers.v1 import tier_service_pb2 as tiers
from loyalty.tiers.v1 import tier_service_pb2_grpc

from services.notifier.errors import MemberUnknownError, PeerRefusedError
from services.notifier.peers import acting_for, known

_TIMEOUT_SECONDS = 5.0
# What a member has none of who has left, or is not known to tiers yet.
_NO_STANDING = ("NOT_ENROLLED", "MEMBER_RESIGNED", "MEMBER_ERASED")
# Lines read to find the newest; who has more is shown without.
_LINES = 1000
_MOST_PAGES = 5


class MemberClient:
    """Calls about one member; all raise PeerError where a service cannot be reached or does not answer.

    An identifier is looked up within `looking_up`, which counts those that lead to nobody, for the ledger leaves that
    to us, and raises UnknownIdentifiersError where they were too many.
    """

    def __init__(
        self,
        ledger_channel: grpc.aio.Channel,
        tiers_channel: grpc.aio.Channel,
        looking_up: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        self._ledger = ledger_service_pb2_grpc.LedgerServiceStub(ledger_channel)
        self._tiers = tier_service_pb2_grpc.TierServiceStub(tiers_channel)
        self._looking_up = looking_up

    async def member(self, member_id: str) -> Any:
        """The ledger's Member; raises MemberUnknownError."""
        answer = await known(
            self._ledger.GetMember(ledger.GetMemberRequest(member_id=member_id), timeout=_TIMEOUT_SECONDS)
        )
        return answer.member

    async def look_up(self, kind: int, value: str, on_behalf_of: str) -> Any:
        """The ledger's Member that an identifier leads to; raises PeerRefusedError, also where it leads to nobody."""
        identifier = member_pb2.Identifier(kind=kind, value=value)  # type: ignore[arg-type]  # a number of the enum
        request = ledger.LookupMemberRequest(identifier=identifier)
        async with self._looking_up():
            answer = await known(
                self._ledger.LookupMember(request, timeout=_TIMEOUT_SECONDS, metadata=acting_for(on_behalf_of))
            )
        return answer.member

    async def standing(self, member_id: str, causal_token: str) -> tuple[Any, Sequence[Any]] | None:
        """The Standing and the newest StandingLines, newest first, of tiers; None for who has none. Of who has more
        than 5,000 lines none is told. Raises PeerRefusedError for a causal token that is none."""
        request = tiers.ExplainStandingRequest(member_id=member_id, page_size=_LINES, causal_token=causal_token)
        try:
            answer = await known(self._tiers.ExplainStanding(request, timeout=_TIMEOUT_SECONDS))
            pages = 1
            lines = list(answer.lines)
            while answer.next_page_token and pages < _MOST_PAGES:
                request.page_token = answer.next_page_token
                answer = await known(self._tiers.ExplainStanding(request, timeout=_TIMEOUT_SECONDS))
                lines, pages = list(answer.lines), pages + 1
        except MemberUnknownError:
            return None
        except PeerRefusedError as error:
            if error.reason in _NO_STANDING:
                return None
            raise
        return answer.standing, [] if answer.next_page_token else lines[::-1]

    async def purchases(self, member_id: str, most: int) -> Sequence[Any]:
        """The ledger's newest Purchases."""
        request = ledger.ListPurchasesRequest(member_id=member_id, page_size=most)
        return list((await known(self._ledger.ListPurchases(request, timeout=_TIMEOUT_SECONDS))).purchases)

    async def award(self, *, request_id: str, member_id: str, points: int, on_behalf_of: str) -> str:
        """Gives points as goodwill and returns the causal token; raises PeerRefusedError, MemberUnknownError."""
        request = ledger.AwardPointsRequest(
            request_id=request_id, member_id=member_id, points=points, reason="goodwill"
        )
        answer = await known(
            self._ledger.AwardPoints(request, timeout=_TIMEOUT_SECONDS, metadata=acting_for(on_behalf_of))
        )
        return str(answer.causal_token)

    async def erase(self, *, request_id: str, member_id: str, reason: str, on_behalf_of: str) -> None:
        """Has the ledger forget a member; one that it does not know is forgotten already."""
        request = ledger.EraseMemberRequest(request_id=request_id, member_id=member_id, reason=reason)
        try:
            await known(self._ledger.EraseMember(request, timeout=_TIMEOUT_SECONDS, metadata=acting_for(on_behalf_of)))
        except MemberUnknownError:
            return

    async def records(self, category: str, member_id: str, page_token: str, size: int) -> tuple[list[str], str]:
        """A page of what another service keeps of a member, as JSON, and the token of the next (empty on the last)."""
        match category:
            case "membership":
                return [_json(await self.member(member_id))], ""
            case "entries":
                entries = ledger.ListEntriesRequest(member_id=member_id, page_size=size, page_token=page_token)
                listed = await known(self._ledger.ListEntries(entries, timeout=_TIMEOUT_SECONDS))
                return [_json(entry) for entry in listed.entries], listed.next_page_token
            case "purchases":
                bought = ledger.ListPurchasesRequest(member_id=member_id, page_size=size, page_token=page_token)
                found = await known(self._ledger.ListPurchases(bought, timeout=_TIMEOUT_SECONDS))
                return [_json(purchase) for purchase in found.purchases], found.next_page_token
            case "standing":
                return await self._standing_records(member_id, page_token, size)
        raise LookupError(f"no other service keeps {category}")

    async def _standing_records(self, member_id: str, page_token: str, size: int) -> tuple[list[str], str]:
        request = tiers.ExplainStandingRequest(member_id=member_id, page_size=size, page_token=page_token)
        try:
            answer = await known(self._tiers.ExplainStanding(request, timeout=_TIMEOUT_SECONDS))
        except MemberUnknownError:
            return [], ""
        except PeerRefusedError as error:
            if error.reason in _NO_STANDING:
                return [], ""
            raise
        first = [] if page_token else [_json(answer.standing)]
        return [*first, *(_json(line) for line in answer.lines)], answer.next_page_token


def _json(message: Message) -> str:
    return MessageToJson(message, indent=None, ensure_ascii=False)
