"""Rewards and coupons: the contract's messages in and out."""

from __future__ import annotations

from loyalty.notifier.v1 import coupon_pb2, coupon_pb2_grpc
from loyalty.type.v1 import money_pb2

from services.notifier.domain.coupons import Coupon, CouponState
from services.notifier.rpc.calls import Context, Methods, stamp
from services.programme.rewards import OfferKind

_COUPON_STATES = {
    CouponState.ISSUED: coupon_pb2.COUPON_STATE_ISSUED,
    CouponState.EXPIRED: coupon_pb2.COUPON_STATE_EXPIRED,
    CouponState.VOID: coupon_pb2.COUPON_STATE_VOID,
}


class RewardServicer(Methods, coupon_pb2_grpc.RewardServiceServicer):
    """loyalty.notifier.v1.RewardService."""

    async def GetCoupon(  # the contract's name
        self, request: coupon_pb2.GetCouponRequest, context: Context
    ) -> coupon_pb2.GetCouponResponse:
        """Reads a coupon by its code."""
        coupon, state = await self._do.coupons.get_coupon(request.code)
        return coupon_pb2.GetCouponResponse(coupon=_coupon(coupon, state, self._currency))


def _coupon(coupon: Coupon, state: CouponState, currency: str) -> coupon_pb2.Coupon:
    message = coupon_pb2.Coupon(
        code=coupon.code,
        member_id=coupon.member_id,
        campaign_id=coupon.campaign_id,
        state=_COUPON_STATES[state],
        issued_time=stamp(coupon.issued_time),
        valid_until_time=stamp(coupon.valid_until_time),
        voided_time=stamp(coupon.voided_time) if coupon.voided_time else None,
    )
    if coupon.offer.kind is OfferKind.DISCOUNT_PERCENT:
        message.discount_basis_points = coupon.offer.percent_bp or 0
    elif coupon.offer.kind is OfferKind.DISCOUNT_AMOUNT:
        money = money_pb2.Money(currency_code=currency, minor_units=coupon.offer.amount or 0)
        message.discount_amount.CopyFrom(money)
    return message
