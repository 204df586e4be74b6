"""Reserves, redeems and releases uses of coupons. What comes for coupons of one partition while one transaction of that
partition is written down is the next: so a thousand tills with one code are a few transactions, and each is answered.

Each request is one decision under the lock of its coupon, and its answer is kept with it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from services.notifier.domain.contacts import partition_of
from services.notifier.domain.coupons import Coupon, CouponState
from services.notifier.domain.uses import (
    ERASED,
    CouponUse,
    Money,
    Now,
    Refusal,
    Release,
    UseCommand,
    Uses,
    asks_tier,
    counted,
    decide,
    state_of,
)
from services.notifier.errors import CouponUnknownError, RefusedError, RequestIdReusedError
from services.notifier.store import Store, Transaction
from services.notifier.store.uses import CouponRequest
from services.runtime.clock import MachineClock
from services.runtime.database import CONNECTION_ERRORS, PASSING_ERRORS, TRY_AGAIN
from services.runtime.status import OverloadedError

# Requests decided in one transaction at most, and waiting in one partition.
BATCH: Final = 256
_MOST_WAITING: Final = 4096
# Partitions whose transactions run at once.
_AT_ONCE: Final = 4


class TierAskedError(Exception):
    """The request cannot be decided before the tier of its member is known; nothing was decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedCoupon:
    """The answer to a request about a use: the coupon and its state as they were after it, and the use.

    `overdrawn`: what would have spoken against an offline one.
    """

    coupon: Coupon
    state: CouponState
    use_id: str
    reserved_until: datetime | None
    overdrawn: str
    replayed: bool


@dataclass(slots=True, kw_only=True)
class _Asked:
    code: str
    request_id: str
    digest: bytes
    command: UseCommand
    answer: asyncio.Future[UsedCoupon]


class UseDesk:
    """Carries requests out, in batches by partition."""

    def __init__(
        self,
        *,
        store: Store,
        partitions: int,
        machine_now: MachineClock,
        business_now: Callable[[], datetime],
        money: Money,
    ) -> None:
        self._store = store
        self._partitions = partitions
        self._machine_now = machine_now
        self._business_now = business_now
        self._money = money
        self._waiting: dict[int, list[_Asked]] = defaultdict(list)
        self._busy: dict[int, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def ask(
        self, partition: int, code: str, *, request_id: str, digest: bytes, command: UseCommand
    ) -> UsedCoupon:
        """Decides a request, or gives the answer that was given before.

        Raises CouponUnknownError, RefusedError, RequestIdReusedError, TierAskedError, OverloadedError.
        """
        waiting = self._waiting[partition]
        if len(waiting) >= _MOST_WAITING:
            raise OverloadedError
        answer: asyncio.Future[UsedCoupon] = asyncio.get_running_loop().create_future()
        waiting.append(_Asked(code=code, request_id=request_id, digest=digest, command=command, answer=answer))
        if partition not in self._busy:
            self._busy[partition] = asyncio.create_task(self._serve(partition))
        return await answer

    async def _serve(self, partition: int) -> None:
        waiting = self._waiting[partition]
        try:
            while waiting:
                async with self._room:
                    batch = [asked for asked in waiting[:BATCH] if not asked.answer.done()]
                    del waiting[:BATCH]
                    if batch:
                        await self._carry_out(partition, batch)
        finally:
            # Nothing waits between the last look and here.
            del self._busy[partition]
            for asked in waiting:
                asked.answer.cancel()
            waiting.clear()

    async def _carry_out(self, partition: int, batch: Sequence[_Asked]) -> None:
        async def work(transaction: Transaction) -> list[UsedCoupon | Exception]:
            return await self._decide(transaction, partition, batch)

        try:
            outcomes = await self._store.transact(work)
        except Exception as error:
            passing = isinstance(error, (*CONNECTION_ERRORS, *PASSING_ERRORS, *TRY_AGAIN))
            if len(batch) > 1 and not passing:
                # One that cannot be written must not take the others along.
                for asked in batch:
                    await self._carry_out(partition, [asked])
                return
            outcomes = [error] * len(batch)
        for asked, outcome in zip(batch, outcomes, strict=True):
            if asked.answer.done():
                continue
            if isinstance(outcome, Exception):
                asked.answer.set_exception(outcome)
            else:
                asked.answer.set_result(outcome)

    async def _decide(
        self, transaction: Transaction, partition: int, batch: Sequence[_Asked]
    ) -> list[UsedCoupon | Exception]:
        coupons = await transaction.lock_coupons(partition, sorted({asked.code for asked in batch}))
        now = Now(business=self._business_now(), machine=self._machine_now())
        kept = await transaction.find_coupon_requests(partition, [(asked.code, asked.request_id) for asked in batch])
        found = await transaction.find_uses(
            partition,
            list(coupons),
            now.machine,
            named=[(asked.code, asked.command.use_id) for asked in batch],
            members=sorted({pair for asked in batch for pair in _member_of(asked, coupons)}),
        )
        shown = sorted({member_id for asked in batch if (member_id := _shown(asked.command))})
        keys = [(partition_of(member_id, self._partitions), member_id) for member_id in shown]
        erased = {member_id for _, member_id in await transaction.find_erased(keys)} if keys else set[str]()
        uses = {code: Uses(found.get(code, {})) for code in coupons}
        counts = {code: coupon.redeemed for code, coupon in coupons.items()}
        changed: dict[tuple[str, str], CouponUse] = {}
        answered: list[CouponRequest] = []
        outcomes: list[UsedCoupon | Exception] = []
        for asked in batch:
            coupon = coupons.get(asked.code)
            if coupon is None:
                outcomes.append(CouponUnknownError())
                continue
            before = kept.get((asked.code, asked.request_id))
            if before is not None:
                outcomes.append(_again(coupon, before, asked.digest))
                continue
            own, command = uses[asked.code], asked.command
            if not isinstance(command, Release) and command.context.member_id in erased:
                command = replace(command, context=replace(command.context, tier=ERASED))
            if asks_tier(coupon, own, command, now):
                outcomes.append(TierAskedError())
                continue
            decided = decide(coupon, own, command, now, self._money)
            if isinstance(decided, CouponUse):
                coupon = coupons[asked.code] = counted(coupon, own.get(decided.use_id), decided)
                if decided != own.get(decided.use_id):
                    changed[asked.code, decided.use_id] = decided
                own.put(decided)
            answer = _answer(coupon, state_of(coupon, own, now), decided)
            request = CouponRequest(
                subject=asked.code, request_id=asked.request_id, content_digest=asked.digest, answer=answer
            )
            answered.append(request)
            kept[asked.code, asked.request_id] = request
            outcomes.append(_told(coupon, answer, replayed=False))
        if changed:
            await transaction.put_uses(partition, [(code, use) for (code, _), use in changed.items()])
        moved = {code: coupon.redeemed for code, coupon in coupons.items() if coupon.redeemed != counts[code]}
        if moved:
            await transaction.count_redeemed(partition, moved)
        if answered:
            await transaction.insert_coupon_requests(partition, answered, now.machine)
        return outcomes


def _member_of(asked: _Asked, coupons: Mapping[str, Coupon]) -> list[tuple[str, str]]:
    """Whose uses of its coupon matter to a request."""
    coupon = coupons.get(asked.code)
    member_id = _shown(asked.command)
    return [(asked.code, member_id)] if coupon is not None and coupon.once_per_member and member_id else []


def _shown(command: UseCommand) -> str:
    """Whose card a command shows; empty where that is nobody's."""
    return "" if isinstance(command, Release) else command.context.member_id


def _answer(coupon: Coupon, state: CouponState, decided: CouponUse | Refusal) -> dict[str, Any]:
    if isinstance(decided, Refusal):
        return {"reason": decided.reason, "sentence": decided.sentence, "facts": dict(decided.facts)}
    until = decided.reserved_until
    return {
        "use_id": decided.use_id,
        "reserved_until": until.isoformat() if until else None,
        "overdrawn": decided.overdrawn,
        "state": state.value,
        "redeemed": coupon.redeemed,
    }


def _again(coupon: Coupon, before: CouponRequest, digest: bytes) -> UsedCoupon | Exception:
    if before.content_digest != digest:
        return RequestIdReusedError()
    return _told(coupon, before.answer, replayed=True)


def _told(coupon: Coupon, answer: Mapping[str, Any], *, replayed: bool) -> UsedCoupon | Exception:
    """What an answer that is kept says."""
    if "reason" in answer:
        return RefusedError(answer["reason"], answer["sentence"], answer["facts"], replayed=replayed)
    until = answer["reserved_until"]
    return UsedCoupon(
        coupon=replace(coupon, redeemed=answer["redeemed"]),
        state=CouponState(answer["state"]),
        use_id=answer["use_id"],
        reserved_until=datetime.fromisoformat(until) if until else None,
        overdrawn=answer["overdrawn"],
        replayed=replayed,
    )
