"""Coupons."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from services.notifier.domain.campaigns import Letter, Reward
from services.notifier.domain.coupons import Coupon, MemberKey, RewardKey
from services.notifier.domain.deliveries import TAKEN_BACK
from services.notifier.store.table import QUERIES, Table
from services.programme.rewards import Offer, OfferKind, Stacking, Terms


class Coupons(Table):
    """Coupons, and what they are taken back by."""

    async def insert_coupons(self, coupons: Sequence[Coupon]) -> set[RewardKey]:
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
        )
        return {tuple(row) for row in rows}

    async def find_coupon_keys(self, keys: Sequence[RewardKey]) -> set[RewardKey]:
        """Which of these have their coupon."""
        columns = [list(column) for column in zip(*keys, strict=True)]
        return {tuple(row) for row in await self._connection.fetch(QUERIES["find_coupon_keys"], *columns)}

    async def find_rewards(self, keys: Iterable[MemberKey]) -> list[Reward]:
        """What these members hold: coupons that were not taken back, expired ones too, each with its message."""
        columns = [list(column) for column in zip(*keys, strict=True)]
        rows = await self._connection.fetch(QUERIES["find_rewards"], *columns)
        return [Reward(coupon=coupon_of(row), letter=letter_of(row)) for row in rows]

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

    async def find_coupon(self, partition: int, code: str) -> Coupon | None:
        """The coupon with this code (as printed)."""
        row = await self._connection.fetchrow(QUERIES["find_coupon"], partition, code)
        return None if row is None else coupon_of(row)

    async def check_rewards(self) -> dict[RewardKey, tuple[Coupon, Letter | None, datetime | None]]:
        """Every coupon with its message (None where that is missing) and when the message was made."""
        rows = await self._connection.fetch(QUERIES["check_rewards"])
        found: dict[RewardKey, tuple[Coupon, Letter | None, datetime | None]] = {}
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
