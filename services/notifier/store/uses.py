"""Uses of coupons, and the requests about coupons that were answered."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.notifier.domain.coupons import Coupon
from services.notifier.domain.uses import CouponLoss, CouponUse, UseState
from services.notifier.store.coupons import coupon_of
from services.notifier.store.table import QUERIES, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponRequest:
    """A request that was answered: `subject` is the code that it was about, or what else; the answer is JSON."""

    subject: str
    request_id: str
    content_digest: bytes
    answer: Mapping[str, Any]


class Uses(Table):
    """Uses of coupons. Who changes one has locked the coupon; all of one partition."""

    async def lock_coupons(self, partition: int, codes: Sequence[str]) -> dict[str, Coupon]:
        """Coupons by their codes, locked until the end of the transaction; not those that are being made."""
        rows = await self._connection.fetch(QUERIES["lock_coupons"], partition, codes)
        return {row["code"]: coupon_of(row) for row in rows}

    async def find_uses(
        self,
        partition: int,
        codes: Sequence[str],
        machine_now: datetime,
        *,
        named: Sequence[tuple[str, str]],
        members: Sequence[tuple[str, str]],
    ) -> dict[str, dict[str, CouponUse]]:
        """The uses of coupons that are reserved, those named (code and id), and those of members (code and id of the
        member); by code and id."""
        rows = await self._connection.fetch(
            QUERIES["find_uses"],
            partition,
            codes,
            machine_now,
            [code for code, _ in named],
            [use_id for _, use_id in named],
            [code for code, _ in members],
            [member_id for _, member_id in members],
        )
        found: dict[str, dict[str, CouponUse]] = defaultdict(dict)
        for row in rows:
            found[row["code"]][row["use_id"]] = _use(row)
        return found

    async def list_redeemed_uses(self, partition: int, code: str, limit: int) -> list[CouponUse]:
        """The uses of a coupon that were redeemed, the last first."""
        rows = await self._connection.fetch(QUERIES["list_redeemed_uses"], partition, code, limit)
        return [_use(row) for row in rows]

    async def sum_overdrawn_uses(self, from_time: datetime | None, until_time: datetime | None) -> list[CouponLoss]:
        """The uses that were given offline although something spoke against them."""
        rows = await self._connection.fetch(QUERIES["sum_overdrawn_uses"], from_time, until_time)
        return [CouponLoss(**row) for row in rows]

    async def put_uses(self, partition: int, uses: Sequence[tuple[str, CouponUse]]) -> None:
        """Keeps uses of coupons, each with its code."""
        await self._connection.execute(
            QUERIES["put_uses"],
            partition,
            [code for code, _ in uses],
            [use.use_id for _, use in uses],
            [use.member_id for _, use in uses],
            [use.state.value for _, use in uses],
            [use.reserved_until for _, use in uses],
            [use.redeemed_time for _, use in uses],
            [use.store_id for _, use in uses],
            [use.channel for _, use in uses],
            [use.purchase_id for _, use in uses],
            [use.overdrawn for _, use in uses],
        )

    async def count_redeemed(self, partition: int, counts: Mapping[str, int]) -> None:
        """Keeps how often coupons were redeemed, by code."""
        await self._connection.execute(QUERIES["count_redeemed"], partition, list(counts), list(counts.values()))

    async def find_coupon_requests(
        self, partition: int, asked: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], CouponRequest]:
        """Which of these requests (subject and id) were answered."""
        columns = [subject for subject, _ in asked], [request_id for _, request_id in asked]
        rows = await self._connection.fetch(QUERIES["find_coupon_requests"], partition, *columns)
        return {
            (row["subject"], row["request_id"]): CouponRequest(**{**row, "answer": json.loads(row["answer"])})
            for row in rows
        }

    async def insert_coupon_requests(self, partition: int, requests: Sequence[CouponRequest], now: datetime) -> int:
        """Keeps requests with their answers, and says how many: one that was answered before is left out."""
        return int(
            await self._connection.fetchval(
                QUERIES["insert_coupon_requests"],
                partition,
                [request.subject for request in requests],
                [request.request_id for request in requests],
                [request.content_digest for request in requests],
                [json.dumps(request.answer) for request in requests],
                now,
            )
        )

    async def check_uses(self) -> list[tuple[int, str, int, int]]:
        """Coupons whose count of redeemed uses is wrong: partition, code, the count, and how many there are."""
        return [tuple(row) for row in await self._connection.fetch(QUERIES["check_uses"])]


def _use(row: Mapping[str, Any]) -> CouponUse:
    return CouponUse(
        use_id=row["use_id"],
        member_id=row["member_id"],
        state=UseState(row["state"]),
        reserved_until=row["reserved_until"],
        redeemed_time=row["redeemed_time"],
        store_id=row["store_id"],
        channel=row["channel"],
        purchase_id=row["purchase_id"],
        overdrawn=row["overdrawn"],
    )
