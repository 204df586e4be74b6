"""Makes coupons with codes: codes that are made for them, or free ones of a pool."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from services.notifier.domain.codes import CouponCodes
from services.notifier.domain.coupons import Coupon
from services.notifier.errors import InstallationError, RefusedError
from services.notifier.store import Transaction
from services.runtime.status import OverloadedError

_MAX_VARIANTS: Final = 8


class CodeTakenError(Exception):
    """The same coupon was made by somebody else meanwhile; the transaction is to be begun again, and finds it."""


class CouponMaker:
    """Gives coupons their codes and keeps them, in a transaction of the caller."""

    def __init__(self, *, codes: CouponCodes, partitions: int) -> None:
        self._codes = codes
        self._partitions = partitions

    async def make(self, transaction: Transaction, coupon: Coupon, *, prefix: str, pool: str) -> Coupon:
        """The coupon as it is kept; one that was given for the same is that one.

        Raises RefusedError where the pool has no code left, OverloadedError where others are about to take its last
        ones, CodeTakenError.
        """
        if pool:
            found = await transaction.find_coupon_of(coupon.key)
            if found is not None:
                return found
            made = replace(coupon, code=await self._take(transaction, pool, coupon.partition))
            if not await transaction.insert_coupons([made]):
                raise CodeTakenError
            return made
        for variant in range(_MAX_VARIANTS):
            made = replace(coupon, code=self._code(coupon, prefix, variant), variant=variant)
            if await transaction.insert_coupons([made]):
                return made
            found = await transaction.find_coupon_of(coupon.key)
            if found is not None:
                return found
        raise InstallationError("no code is free for a coupon")

    def _code(self, coupon: Coupon, prefix: str, variant: int) -> str:
        return self._codes.make(
            prefix=prefix,
            partition=coupon.partition,
            campaign_id=coupon.campaign_id,
            member_id=coupon.member_id,
            trigger=coupon.trigger,
            variant=variant,
        )

    async def _take(self, transaction: Transaction, pool: str, coupon_partition: int) -> str:
        for step in range(self._partitions):
            partition = (coupon_partition + step) % self._partitions
            taken = await transaction.take_pool_codes(partition, pool, coupon_partition=coupon_partition, limit=1)
            if taken:
                return taken[0]
        if await transaction.find_pools_with_codes([pool]):
            raise OverloadedError
        raise RefusedError("OUT_OF_STOCK", f"the pool {pool} has no code left")
