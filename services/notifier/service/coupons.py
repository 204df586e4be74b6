"""What callers ask of coupons."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from services.notifier.domain.codes import CouponCodes
from services.notifier.domain.coupons import Coupon, CouponState
from services.notifier.errors import CouponUnknownError
from services.notifier.store import Store, Transaction


class CouponService:
    """Reads coupons."""

    def __init__(self, *, store: Store, codes: CouponCodes, business_now: Callable[[], datetime]) -> None:
        self._store = store
        self._codes = codes
        self._business_now = business_now

    async def get_coupon(self, code: str) -> tuple[Coupon, CouponState]:
        """The coupon with this code, however it was typed in, and its state now. Raises CouponUnknownError."""
        partition, printed = self._codes.read(code)

        async def read(transaction: Transaction) -> Coupon | None:
            return await transaction.find_coupon(partition, printed)

        coupon = await self._store.read(read)
        if coupon is None:
            raise CouponUnknownError
        return coupon, coupon.state_at(self._business_now())
