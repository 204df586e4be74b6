"""A member whole, for those who help members; and the goodwill they may give."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

from services.notifier.domain.contacts import Contact, partition_of
from services.notifier.domain.coupons import Coupon, CouponState
from services.notifier.domain.deliveries import Delivery
from services.notifier.domain.digests import keyed_digest
from services.notifier.domain.preferences import Choice
from services.notifier.domain.programmes import Programmes
from services.notifier.errors import (
    GoodwillLimitError,
    MemberErasedError,
    MemberUnknownError,
    PeerError,
    PeerRefusedError,
    RequestIdReusedError,
    SealError,
)
from services.notifier.progress import Progress
from services.notifier.store import DeliveryFilter, Grant, Place, Store, Transaction
from services.notifier.store.campaigns import GivenBadge
from services.notifier.store.coupons import CouponPlace
from services.notifier.store.surveys import Answer
from services.notifier.vault import Vault
from services.runtime.clock import MachineClock
from services.runtime.status import NotCaughtUpError

T = TypeVar("T")

STANDING_LINES: Final = 20
PURCHASES: Final = 10
COUPONS: Final = 20
MESSAGES: Final = 10
ANSWERS: Final = 10
_LATEST: Final = datetime.max.replace(tzinfo=UTC)
# Goodwill whose caller is gone is told to the ledger after so long.
_ABANDONED: Final = timedelta(seconds=30)
_PAUSE_SECONDS: Final = 15.0
_AT_ONCE: Final = 100
_UNKNOWN: Final = "MEMBER_UNKNOWN"


class Peers(Protocol):
    """A member in the other services. What they answer is handed on unseen. All raise PeerError."""

    async def member(self, member_id: str) -> Any:
        """Raises MemberUnknownError."""

    async def look_up(self, kind: int, value: str, on_behalf_of: str) -> Any:
        """Raises PeerRefusedError."""

    async def standing(self, member_id: str, causal_token: str) -> tuple[Any, Sequence[Any]] | None:
        """The standing, and the lines behind it, newest first; None for who has none."""

    async def purchases(self, member_id: str, most: int) -> Sequence[Any]:
        """The newest."""

    async def award(self, *, request_id: str, member_id: str, points: int, on_behalf_of: str) -> str:
        """The causal token; raises MemberUnknownError, PeerRefusedError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberView:
    """A member on one page. `badges`: each with its name; `answers`: each with what was written beside it; `missing`:
    parts that could not be read now, by name."""

    member: Any
    contact: Contact
    consents: Sequence[Choice]
    standing: Any
    standing_lines: Sequence[Any]
    purchases: Sequence[Any]
    coupons: Sequence[tuple[Coupon, CouponState]]
    messages: Sequence[Delivery]
    badges: Sequence[tuple[GivenBadge, str]]
    answers: Sequence[tuple[Answer, str]]
    goodwill_this_month: int
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Own:
    """What this service keeps of a member."""

    contact: Contact
    consents: Sequence[Choice]
    coupons: Sequence[tuple[Coupon, CouponState]]
    messages: Sequence[Delivery]
    badges: Sequence[tuple[GivenBadge, str]]
    answers: Sequence[tuple[Answer, str]]
    goodwill: int


class MemberService:
    """Shows members whole, and gives goodwill."""

    def __init__(
        self,
        *,
        store: Store,
        vault: Vault,
        partitions: int,
        programmes: Programmes,
        progress: Progress,
        peers: Peers,
        machine_now: MachineClock,
        business_now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._vault = vault
        self._partitions = partitions
        self._programmes = programmes
        self._progress = progress
        self._peers = peers
        self._machine_now = machine_now
        self._business_now = business_now

    async def look_up(self, kind: int, value: str, on_behalf_of: str) -> str:
        """The member whom an identifier leads to; raises PeerRefusedError, PeerError."""
        return str((await self._peers.look_up(kind, value, on_behalf_of)).member_id)

    async def view(
        self, member_id: str, causal_token: str, after: Mapping[int, int], wait_seconds: float
    ) -> MemberView:
        """A member whole, once the entries up to `after` (those of the causal token) are handled here and in tiers; a
        part whose service is away is left out and named.

        Raises MemberUnknownError; PeerError where the ledger, which knows who is a member, is away; PeerRefusedError,
        CausalTokenAheadError, NotCaughtUpError.
        """
        await self._progress.reach(after, within_seconds=wait_seconds)
        missing: list[str] = []

        async def part(name: str, work: Coroutine[Any, Any, T], otherwise: T) -> T:
            try:
                return await work
            except (PeerError, NotCaughtUpError):
                missing.append(name)
                return otherwise

        member, told, purchases, own = await asyncio.gather(
            self._peers.member(member_id),
            part("standing", self._standing(member_id, causal_token), None),
            part("purchases", self._purchases(member_id), []),
            self._own(member_id),
        )
        return MemberView(
            member=member,
            contact=own.contact,
            consents=own.consents,
            standing=None if told is None else told[0],
            standing_lines=() if told is None else told[1][:STANDING_LINES],
            purchases=purchases,
            coupons=own.coupons,
            messages=own.messages,
            badges=own.badges,
            answers=own.answers,
            goodwill_this_month=own.goodwill,
            missing=tuple(sorted(missing)),
        )

    async def grant(
        self, *, request_id: str, member_id: str, points: int, reason: str, principal: str
    ) -> tuple[int, bool, str]:
        """Gives points as goodwill, within what the programme lets staff give a member in a local month; says what may
        still be given, whether this was answered before, and the causal token.

        Raises GoodwillLimitError, RequestIdReusedError, MemberUnknownError, MemberErasedError, PeerRefusedError (kept
        as the answer), PeerError (the same request goes on).
        """
        partition = partition_of(member_id, self._partitions)
        programme = self._programmes.at(self._business_now())
        month = programme.local_day(self._business_now()).replace(day=1)
        grant = Grant(
            partition=partition,
            member_id=member_id,
            request_id=request_id,
            month=month,
            points=points,
            reason=reason,
            principal=principal,
            granted_time=self._machine_now(),
        )
        most = programme.goodwill_points
        before = await self._find(grant)
        if before is None:
            # Only of members that there are something is kept.
            await self._peers.member(member_id)

            async def keep(transaction: Transaction) -> int | None:
                # Whoever erases the member is before this or after it.
                await transaction.share_partition(partition)
                if await transaction.find_erasure(partition, member_id) is not None:
                    raise MemberErasedError
                return await transaction.insert_goodwill(grant, most)

            if await self._store.transact(keep) is None and (before := await self._find(grant)) is None:
                raise GoodwillLimitError(most - await self._given(partition, member_id, month))
        kept = before or grant
        # Of an erased member the reason is forgotten.
        if kept.points != points or kept.reason not in (reason, ""):
            raise RequestIdReusedError
        settled = kept if kept.awarded_time or kept.refused else await self._tell(kept)
        if settled.refused:
            code, _, sentence = settled.refused.partition(" ")
            if code == _UNKNOWN:
                raise MemberUnknownError
            raise PeerRefusedError("FAILED_PRECONDITION", code, sentence)
        left = most - await self._given(partition, member_id, month)
        return max(left, 0), before is not None, settled.causal_token

    async def run(self) -> None:
        """Tells the ledger of goodwill whose caller is gone, for ever."""
        while True:
            before = self._machine_now() - _ABANDONED

            async def read(transaction: Transaction, before: datetime = before) -> list[Grant]:
                return await transaction.unfinished_goodwill(before, _AT_ONCE)

            for grant in await self._store.read(read):
                # What the ledger cannot be told now must not stand in the way of the rest.
                with contextlib.suppress(PeerError):
                    await self._tell(grant)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _tell(self, grant: Grant) -> Grant:
        """Has the ledger award the points, and keeps what it says."""
        digest = keyed_digest(self._vault.request_key, "goodwill", grant.member_id, grant.request_id)
        try:
            token = await self._peers.award(
                request_id=f"goodwill/{digest[:16].hex()}",
                member_id=grant.member_id,
                points=grant.points,
                on_behalf_of=grant.principal,
            )
            settled = replace(grant, awarded_time=self._machine_now(), causal_token=token)
        except MemberUnknownError as error:
            settled = replace(grant, refused=f"{_UNKNOWN} {error}")
        except PeerRefusedError as error:
            settled = replace(grant, refused=f"{error.reason} {error}")

        async def keep(transaction: Transaction) -> None:
            await transaction.settle_goodwill(settled)

        await self._store.transact(keep)
        return settled

    async def _find(self, grant: Grant) -> Grant | None:
        async def read(transaction: Transaction) -> Grant | None:
            return await transaction.find_goodwill(grant.partition, grant.member_id, grant.request_id)

        return await self._store.read(read)

    async def _given(self, partition: int, member_id: str, month: date) -> int:
        async def read(transaction: Transaction) -> int:
            return await transaction.goodwill_of(partition, member_id, month)

        return await self._store.read(read)

    async def _standing(self, member_id: str, causal_token: str) -> tuple[Any, Sequence[Any]] | None:
        return await self._peers.standing(member_id, causal_token)

    async def _purchases(self, member_id: str) -> Sequence[Any]:
        return await self._peers.purchases(member_id, PURCHASES)

    async def _own(self, member_id: str) -> _Own:
        partition = partition_of(member_id, self._partitions)
        now = self._business_now()
        month = self._programmes.at(now).local_day(now).replace(day=1)

        async def read(transaction: Transaction) -> _Own:
            sealed = (await transaction.find_contacts(partition, [member_id])).get(member_id)
            coupons = await transaction.list_coupons(
                (partition, member_id),
                CouponPlace(issued_time=_LATEST, code="~"),
                COUPONS,
                usable=False,
                business_now=now,
                machine_now=self._machine_now(),
            )
            wanted = DeliveryFilter(member_id=member_id, partition=partition)
            newest = Place(created_time=_LATEST, delivery_id="~")
            messages, _ = await transaction.list_deliveries(wanted, newest, MESSAGES)
            contact = Contact()
            if sealed is not None:
                try:
                    contact = self._vault.open_contact(sealed)
                except SealError:
                    contact = Contact()
            consents = await transaction.find_consents(partition, [member_id])
            badges = await transaction.list_badges(partition, member_id)
            answers = await transaction.list_feedback(partition, member_id, ANSWERS)
            wrapped = await transaction.find_member_key(partition, member_id)
            return _Own(
                contact=contact,
                consents=consents.get(member_id, ()),
                coupons=[(coupon, coupon.state_at(now, reserved)) for coupon, reserved in coupons],
                messages=messages,
                badges=[(badge, self._badge_name(badge.badge_id, now)) for badge in badges],
                answers=[(answer, self._comment(answer, wrapped)) for answer in answers],
                goodwill=await transaction.goodwill_of(partition, member_id, month),
            )

        return await self._store.read(read)

    def _badge_name(self, badge_id: str, now: datetime) -> str:
        """What the programme calls a badge in its first language; empty where it has it no more."""
        badge = next((badge for badge in self._programmes.at(now).badges if badge.id == badge_id), None)
        return "" if badge is None else next(iter(badge.texts.values())).name

    def _comment(self, answer: Answer, wrapped: bytes | None) -> str:
        if answer.comment is None:
            return ""
        try:
            return self._vault.open_comment(answer.member_id, wrapped, answer.request_id, answer.comment)
        except SealError:
            return ""


def masked(name: str) -> str:
    """`Z** K*******`: the first letter of each part of a name, and stars for the rest."""
    return " ".join(part[0] + "*" * (len(part) - 1) for part in name.split())
