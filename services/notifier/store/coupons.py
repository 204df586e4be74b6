"""Coupons."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from services.notifier.domain.campaigns import Letter, TierGift
from services.notifier.domain.coupons import Coupon, GiftKey, MemberKey
from services.notifier.domain.deliveries import TAKEN_BACK
from services.notifier.store.table import QUERIES, Table
from services.programme.rewards import Offer, OfferKind, Stacking, Terms

# What a coupon may have besides; a statement that has no need of it may leave it out.
_BESIDES: Final = (
    "uses",
    "once_per_member",
    "reward_id",
    "reason",
    "issued_by",
    "preparing",
    "redeemed",
    "void_reason",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CouponPlace:
    """Where a page of coupons begins: after this one, those issued last first."""

    issued_time: datetime
    code: str


class Coupons(Table):
    """Coupons, and what they are taken back by."""

    async def insert_coupons(self, coupons: Sequence[Coupon]) -> set[GiftKey]:
        """Keeps coupons, and says which it kept: a coupon that is there already, or whose code is, is left out."""
        rows = await self._connection.fetch(
            QUERIES["insert_coupons"],
            [coupon.partition for coupon in coupons],
            [coupon.campaign_id for coupon in coupons],
            [coupon.member_id for coupon in coupons],
            [coupon.trigger for coupon in coupons],
            [coupon.code for coupon in coupons],
            [coupon.variant for coupon in coupons],
            [_written(coupon.offer) for coupon in coupons],
            [_written(coupon.terms) for coupon in coupons],
            [coupon.issued_time for coupon in coupons],
            [coupon.valid_until_time for coupon in coupons],
            [coupon.uses for coupon in coupons],
            [coupon.once_per_member for coupon in coupons],
            [coupon.reward_id for coupon in coupons],
            [coupon.reason for coupon in coupons],
            [coupon.issued_by for coupon in coupons],
            [coupon.preparing for coupon in coupons],
        )
        return {tuple(row) for row in rows}

    async def find_coupon_keys(self, keys: Sequence[GiftKey]) -> set[GiftKey]:
        """Which of these have their coupon."""
        columns = [list(column) for column in zip(*keys, strict=True)]
        return {tuple(row) for row in await self._connection.fetch(QUERIES["find_coupon_keys"], *columns)}

    async def find_tier_gifts(self, keys: Iterable[MemberKey]) -> list[TierGift]:
        """What changes of tier gave these members: coupons that were not taken back, expired ones too, each with its
        message. One that went several ways is there as often."""
        columns = [list(column) for column in zip(*keys, strict=True)]
        rows = await self._connection.fetch(QUERIES["find_tier_gifts"], *columns)
        return [
            TierGift(coupon=coupon_of(row), letter=None if row["delivery_id"] is None else letter_of(row))
            for row in rows
        ]

    async def void_coupons(self, coupons: Sequence[Coupon]) -> None:
        """Keeps of coupons that they were taken back, and when and by what; their messages that wait are dead."""
        await self._connection.execute(
            QUERIES["void_coupons"],
            [coupon.partition for coupon in coupons],
            [coupon.campaign_id for coupon in coupons],
            [coupon.member_id for coupon in coupons],
            [coupon.trigger for coupon in coupons],
            [coupon.voided_time for coupon in coupons],
            [coupon.voided_by for coupon in coupons],
            TAKEN_BACK,
        )

    async def read_coupon(self, partition: int, code: str, machine_now: datetime) -> tuple[Coupon, int] | None:
        """The coupon with this code (as printed), and how many of its uses are reserved; None also while it is being
        made."""
        row = await self._connection.fetchrow(QUERIES["read_coupon"], partition, code, machine_now)
        return None if row is None else (coupon_of(row), row["reserved"])

    async def find_coupon_of(self, key: GiftKey) -> Coupon | None:
        """The coupon that was given for something, also while it is being made."""
        row = await self._connection.fetchrow(QUERIES["find_coupon_of"], *key)
        return None if row is None else coupon_of(row)

    async def list_coupons(
        self,
        key: MemberKey,
        after: CouponPlace,
        limit: int,
        *,
        usable: bool,
        business_now: datetime,
        machine_now: datetime,
    ) -> list[tuple[Coupon, int]]:
        """A page of a member's coupons, those issued last first, each with how many of its uses are reserved."""
        rows = await self._connection.fetch(
            QUERIES["list_coupons"], *key, after.issued_time, after.code, usable, business_now, machine_now, limit
        )
        return [(coupon_of(row), row["reserved"]) for row in rows]

    async def find_codes(self, places: Sequence[tuple[int, str]]) -> set[tuple[int, str]]:
        """Which of these codes coupons have, by their partitions."""
        columns = [partition for partition, _ in places], [code for _, code in places]
        return {tuple(row) for row in await self._connection.fetch(QUERIES["find_codes"], *columns)}

    async def publish_coupon(self, partition: int, code: str) -> None:
        """Makes a coupon that was being made the member's."""
        await self._connection.execute(QUERIES["publish_coupon"], partition, code)

    async def void_coupon(self, partition: int, code: str, *, business_now: datetime, reason: str) -> None:
        """Takes a coupon back, for good; its message that waits is dead."""
        await self._connection.execute(QUERIES["void_coupon"], partition, code, business_now, reason, TAKEN_BACK)

    async def check_tier_gifts(self) -> dict[GiftKey, tuple[Coupon, Letter | None, datetime | None]]:
        """Every coupon that a change of tier gave, with its message (None where there is none) and that one's time."""
        rows = await self._connection.fetch(QUERIES["check_tier_gifts"])
        found: dict[GiftKey, tuple[Coupon, Letter | None, datetime | None]] = {}
        for row in rows:
            coupon = coupon_of(row)
            letter = None if row["delivery_id"] is None else letter_of(row)
            found[coupon.key] = coupon, letter, row["created_time"]
        return found


def coupon_of(row: Mapping[str, Any]) -> Coupon:
    """The coupon of a row."""
    return Coupon(
        partition=row["partition"],
        campaign_id=row["campaign_id"],
        member_id=row["member_id"],
        trigger=row["trigger"],
        code=row["code"],
        variant=row["variant"],
        offer=_offer(json.loads(row["offer"])),
        terms=_terms(json.loads(row["terms"])),
        issued_time=row["issued_time"],
        valid_until_time=row["valid_until_time"],
        voided_time=row["voided_time"],
        voided_by=row["voided_by"],
        **{name: row[name] for name in _BESIDES if name in row},
    )


def letter_of(row: Mapping[str, Any]) -> Letter:
    """The message of a row that carries a coupon."""
    return Letter(
        delivery_id=row["delivery_id"],
        facts=json.loads(row["facts"]),
    )


def _written(value: Offer | Terms) -> str:
    """An offer or terms as they are kept: JSON without what is as by default."""
    fields = dataclasses.fields(value)
    kept = {one.name: getattr(value, one.name) for one in fields if getattr(value, one.name) != one.default}
    return json.dumps({name: sorted(one) if isinstance(one, frozenset) else one for name, one in kept.items()})


def _offer(kept: Mapping[str, Any]) -> Offer:
    return Offer(**{**kept, "kind": OfferKind(kept["kind"])})


def _terms(kept: Mapping[str, Any]) -> Terms:
    values: dict[str, Any] = {name: frozenset(one) if isinstance(one, list) else one for name, one in kept.items()}
    return Terms(**{**values, "stacking": Stacking(kept.get("stacking", Stacking.ANY))})
