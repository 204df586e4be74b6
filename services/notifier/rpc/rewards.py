"""Rewards and coupons: the contract's messages in and out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from loyalty.ledger.v1 import ledger_service_pb2
from loyalty.notifier.v1 import coupon_pb2, coupon_pb2_grpc, reward_pb2
from loyalty.type.v1 import error_reason_pb2, money_pb2

from services.notifier.domain.coupons import Coupon, CouponState
from services.notifier.domain.pools import CodeProblem
from services.notifier.domain.rewards import OfferedReward, RedeemedReward
from services.notifier.domain.uses import OF_CHECKOUT, CouponUse, Goods, UseContext
from services.notifier.errors import FieldError, RefusedError
from services.notifier.rpc.calls import Context, Methods, acting_principal, stamp
from services.notifier.rpc.offers import amount_of, money, offer_message, offer_of, terms_message, terms_of
from services.notifier.rpc.pictures import qr
from services.notifier.service.coupons import DEFAULT_RESERVATION
from services.programme.rewards import OfferKind
from services.runtime.causality import parse_token
from services.runtime.identity import PermissionDeniedError, current_caller
from services.runtime.interceptors import seconds_to_wait

_COUPON_STATES = {
    CouponState.PREPARING: coupon_pb2.COUPON_STATE_PREPARING,
    CouponState.ISSUED: coupon_pb2.COUPON_STATE_ISSUED,
    CouponState.RESERVED: coupon_pb2.COUPON_STATE_RESERVED,
    CouponState.REDEEMED: coupon_pb2.COUPON_STATE_REDEEMED,
    CouponState.EXPIRED: coupon_pb2.COUPON_STATE_EXPIRED,
    CouponState.VOID: coupon_pb2.COUPON_STATE_VOID,
}
_PROBLEMS = {
    CodeProblem.MALFORMED: coupon_pb2.CODE_PROBLEM_KIND_MALFORMED,
    CodeProblem.DUPLICATE: coupon_pb2.CODE_PROBLEM_KIND_DUPLICATE,
    CodeProblem.LOOK_ALIKE: coupon_pb2.CODE_PROBLEM_KIND_LOOK_ALIKE,
}
_SERVICE = "/loyalty.notifier.v1.RewardService"
# Whose bearer gives out coupons may also give a redeemed use back: it is a coupon once more.
_ISSUES = "coupons.issue"
# Who gives points without a limit is a system of the shop; others who give out coupons are staff.
_AWARDS = "ledger.award"
_PICTURES = {coupon_pb2.QR_FORMAT_PNG: "png", coupon_pb2.QR_FORMAT_SVG: "svg"}


class RewardServicer(Methods, coupon_pb2_grpc.RewardServiceServicer):
    """loyalty.notifier.v1.RewardService."""

    async def ListRewards(  # the contract's name
        self, request: coupon_pb2.ListRewardsRequest, context: Context
    ) -> coupon_pb2.ListRewardsResponse:
        """Lists what a member can have for points."""
        catalogue = await self._do.rewards.list_rewards(
            member_id=request.member_id,
            language=request.language,
            after=parse_token(request.causal_token),
            wait_seconds=seconds_to_wait(context),
        )
        return coupon_pb2.ListRewardsResponse(
            rewards=[_reward(offered, self._currency) for offered in catalogue.rewards],
            available_points=catalogue.available_points,
        )

    async def RedeemReward(  # the contract's name
        self, request: coupon_pb2.RedeemRewardRequest, context: Context
    ) -> coupon_pb2.RedeemRewardResponse:
        """Gives a member a reward for points."""
        paid = amount_of(request.money_paid, self._currency, "money_paid") if request.HasField("money_paid") else 0
        redeemed, state, replayed = await self._do.rewards.redeem_reward(
            request_id=request.request_id,
            content=request.SerializeToString(deterministic=True),
            principal=acting_principal(),
            member_id=request.member_id,
            reward_id=request.reward_id,
            money_paid=paid,
        )
        return coupon_pb2.RedeemRewardResponse(
            coupon=self._coupon_of(redeemed, state),
            points=redeemed.points,
            money=self._money_of(redeemed),
            redemption_id=redeemed.redemption_id,
            bonus_points=redeemed.bonus_points,
            replayed=replayed,
        )

    async def ReverseReward(  # the contract's name
        self, request: coupon_pb2.ReverseRewardRequest, context: Context
    ) -> coupon_pb2.ReverseRewardResponse:
        """Takes a reward back whole."""
        redeemed, state, replayed = await self._do.rewards.reverse_reward(
            request_id=request.request_id,
            content=request.SerializeToString(deterministic=True),
            principal=acting_principal(),
            member_id=request.member_id,
            coupon_code=request.coupon_code,
            redemption_id=request.redemption_id,
            reason=request.reason,
        )
        return coupon_pb2.ReverseRewardResponse(
            coupon=self._coupon_of(redeemed, state),
            points=redeemed.points,
            money=self._money_of(redeemed),
            redemption_id=redeemed.redemption_id,
            replayed=replayed,
        )

    async def IssueCoupon(  # the contract's name
        self, request: coupon_pb2.IssueCouponRequest, context: Context
    ) -> coupon_pb2.IssueCouponResponse:
        """Gives a coupon by hand or from another system."""
        offer = offer_of(request.offer, self._currency)
        if offer.kind is OfferKind.BONUS_POINTS:
            raise FieldError("offer.kind", "points are given by AwardPoints of the ledger")
        if bool(request.prefix) == bool(request.pool):
            raise FieldError("prefix", "a coupon has a prefix, or its code comes from a pool")
        by_staff = not _may(_AWARDS)
        coupon, state, replayed = await self._do.coupons.issue(
            request_id=request.request_id,
            content=request.SerializeToString(deterministic=True),
            principal=current_caller.get().principal,
            issued_by=acting_principal(),
            member_id=request.member_id,
            offer=offer,
            terms=terms_of(request.terms, self._currency),
            valid_until_time=request.valid_until_time.ToDatetime(tzinfo=UTC),
            uses=request.uses or 1,
            once_per_member=request.once_per_member,
            prefix=request.prefix,
            pool=request.pool,
            reason=request.reason,
            by_staff=by_staff,
        )
        if by_staff:
            await self._acted("IssueCoupon", coupon)
        return coupon_pb2.IssueCouponResponse(coupon=coupon_message(coupon, state, self._currency), replayed=replayed)

    async def ImportCodes(  # the contract's name
        self, request: coupon_pb2.ImportCodesRequest, context: Context
    ) -> coupon_pb2.ImportCodesResponse:
        """Takes in codes that were made elsewhere."""
        imported, problems = await self._do.coupons.import_codes(
            request_id=request.request_id,
            content=request.SerializeToString(deterministic=True),
            pool=request.pool,
            import_id=request.import_id,
            first_line=request.first_line,
            codes=request.codes,
        )
        return coupon_pb2.ImportCodesResponse(
            imported=imported,
            problems=[
                coupon_pb2.CodeProblem(line=one.line, kind=_PROBLEMS[one.problem], other_line=one.other_line)
                for one in problems
            ],
        )

    async def GetCoupon(  # the contract's name
        self, request: coupon_pb2.GetCouponRequest, context: Context
    ) -> coupon_pb2.GetCouponResponse:
        """Reads a coupon by its code."""
        async with self._do.wrong_codes.trying(current_caller.get()):
            coupon, state = await self._do.coupons.get_coupon(request.code)
        uses = await self._do.coupons.redeemed_uses(coupon)
        picture = qr(coupon.code, kind=_PICTURES[request.qr]) if request.qr else b""
        return coupon_pb2.GetCouponResponse(
            coupon=coupon_message(coupon, state, self._currency), qr=picture, uses=[_use(use) for use in uses]
        )

    async def ListCoupons(  # the contract's name
        self, request: coupon_pb2.ListCouponsRequest, context: Context
    ) -> coupon_pb2.ListCouponsResponse:
        """Lists a member's coupons."""
        page = await self._do.coupons.list_coupons(
            member_id=request.member_id,
            usable=request.usable,
            page_size=request.page_size,
            page_token=request.page_token,
            after=parse_token(request.causal_token),
            wait_seconds=seconds_to_wait(context),
        )
        return coupon_pb2.ListCouponsResponse(
            coupons=[coupon_message(coupon, state, self._currency) for coupon, state in page.coupons],
            next_page_token=page.next_page_token,
        )

    async def ValidateCoupon(  # the contract's name
        self, request: coupon_pb2.ValidateCouponRequest, context: Context
    ) -> coupon_pb2.ValidateCouponResponse:
        """Says whether a coupon can be used in a checkout."""
        where = self._where(request.context, request.store_id)
        async with self._do.wrong_codes.trying(current_caller.get()):
            verdict = await self._do.coupons.validate(request.code, where)
        return coupon_pb2.ValidateCouponResponse(
            coupon=coupon_message(verdict.coupon, verdict.state, self._currency),
            usable=verdict.refusal is None,
            reason=_reason(verdict.refusal.reason) if verdict.refusal else None,
            sentence=verdict.sentence,
        )

    async def ReserveCoupon(  # the contract's name
        self, request: coupon_pb2.ReserveCouponRequest, context: Context
    ) -> coupon_pb2.ReserveCouponResponse:
        """Sets a use of a coupon aside for a checkout."""
        ttl: timedelta = request.ttl.ToTimedelta() if request.HasField("ttl") else DEFAULT_RESERVATION
        _refuse_use_of_checkout(request.request_id)
        async with self._do.wrong_codes.trying(current_caller.get()):
            used = await self._do.coupons.reserve(
                request_id=request.request_id,
                content=request.SerializeToString(deterministic=True),
                code=request.code,
                context=self._where(request.context, request.store_id),
                ttl=ttl,
            )
        return coupon_pb2.ReserveCouponResponse(
            coupon=coupon_message(used.coupon, used.state, self._currency),
            use_id=used.use_id,
            reserved_until_time=stamp(used.reserved_until) if used.reserved_until else None,
            replayed=used.replayed,
        )

    async def RedeemCoupon(  # the contract's name
        self, request: coupon_pb2.RedeemCouponRequest, context: Context
    ) -> coupon_pb2.RedeemCouponResponse:
        """Uses a coupon."""
        occurred: datetime | None = None
        if request.HasField("occurred_time"):
            occurred = request.occurred_time.ToDatetime(tzinfo=UTC)
        _refuse_use_of_checkout(request.use_id or request.request_id)
        async with self._do.wrong_codes.trying(current_caller.get()):
            used = await self._do.coupons.redeem(
                request_id=request.request_id,
                content=request.SerializeToString(deterministic=True),
                code=request.code,
                context=self._where(request.context, request.store_id),
                use_id=request.use_id,
                occurred_time=occurred,
                purchase_id=request.purchase_id,
                offline=request.offline,
            )
        return coupon_pb2.RedeemCouponResponse(
            coupon=coupon_message(used.coupon, used.state, self._currency),
            use_id=used.use_id,
            overdrawn_reason=_reason(used.overdrawn) if used.overdrawn else None,
            replayed=used.replayed,
        )

    async def ReleaseCoupon(  # the contract's name
        self, request: coupon_pb2.ReleaseCouponRequest, context: Context
    ) -> coupon_pb2.ReleaseCouponResponse:
        """Gives a use back."""
        _refuse_use_of_checkout(request.use_id)
        if request.redeemed and not _may(_ISSUES):
            message = f"a redeemed use is given back with the scope {_ISSUES} alone"
            raise PermissionDeniedError(current_caller.get(), "SCOPE_MISSING", message, scope=_ISSUES)
        async with self._do.wrong_codes.trying(current_caller.get()):
            used = await self._do.coupons.release(
                request_id=request.request_id,
                content=request.SerializeToString(deterministic=True),
                code=request.code,
                use_id=request.use_id,
                redeemed=request.redeemed,
            )
        if request.redeemed:
            await self._acted("ReleaseCoupon", used.coupon)
        return coupon_pb2.ReleaseCouponResponse(
            coupon=coupon_message(used.coupon, used.state, self._currency), replayed=used.replayed
        )

    async def VoidCoupon(  # the contract's name
        self, request: coupon_pb2.VoidCouponRequest, context: Context
    ) -> coupon_pb2.VoidCouponResponse:
        """Takes a coupon back."""
        async with self._do.wrong_codes.trying(current_caller.get()):
            coupon, state, replayed = await self._do.coupons.void(
                request_id=request.request_id,
                content=request.SerializeToString(deterministic=True),
                code=request.code,
                reason=request.reason,
            )
        await self._acted("VoidCoupon", coupon)
        return coupon_pb2.VoidCouponResponse(coupon=coupon_message(coupon, state, self._currency), replayed=replayed)

    async def GetCouponLosses(  # the contract's name
        self, request: coupon_pb2.GetCouponLossesRequest, context: Context
    ) -> coupon_pb2.GetCouponLossesResponse:
        """Sums what was given offline in vain."""
        losses = await self._do.coupons.losses(
            request.from_time.ToDatetime(tzinfo=UTC) if request.HasField("from_time") else None,
            request.until_time.ToDatetime(tzinfo=UTC) if request.HasField("until_time") else None,
        )
        return coupon_pb2.GetCouponLossesResponse(
            losses=[
                coupon_pb2.CouponLoss(
                    store_id=loss.store_id,
                    reason=_reason(loss.reason),
                    uses=loss.uses,
                    amount=money(loss.minor_units, self._currency),
                )
                for loss in losses
            ]
        )

    async def _acted(self, method: str, coupon: Coupon) -> None:
        """Writes down who did something with a coupon by hand, and whose it is: its code is worth money, and stays out
        of the audit log."""
        await self._audit.acted(
            current_caller.get(), f"{_SERVICE}/{method}", {coupon.member_id} if coupon.member_id else ()
        )

    def _coupon_of(self, redeemed: RedeemedReward, state: CouponState | None) -> coupon_pb2.Coupon | None:
        if redeemed.coupon is None or state is None:
            return None
        return coupon_message(redeemed.coupon, state, self._currency)

    def _money_of(self, redeemed: RedeemedReward) -> money_pb2.Money | None:
        return money(redeemed.money_minor_units, self._currency) if redeemed.money_minor_units else None

    def _where(self, context: coupon_pb2.CouponUseContext, store_id: str) -> UseContext:
        """Where a coupon is to be used. Raises FieldError for an amount in another currency."""
        amount = None
        if context.HasField("amount"):
            amount = amount_of(context.amount, self._currency, "context.amount")
        goods = None
        if context.lines:
            goods = tuple(
                Goods(sku=line.sku, department=line.department, minor_units=line.amount_minor_units)
                for line in context.lines
                if line.kind in _GOODS
            )
        return UseContext(
            member_id=context.member_id,
            store_id=store_id,
            channel=context.channel,
            goods=goods,
            minor_units=amount,
        )


_GOODS = (ledger_service_pb2.LINE_KIND_UNSPECIFIED, ledger_service_pb2.LINE_KIND_GOODS)


def _may(scope: str) -> bool:
    scopes = current_caller.get().scopes
    return scopes is None or scope in scopes


def _refuse_use_of_checkout(use_id: str) -> None:
    """Raises RefusedError for a use that a checkout keeps: who could give it back would have the coupon once more."""
    if OF_CHECKOUT.fullmatch(use_id):
        raise RefusedError(
            "COUPON_USE_OF_CHECKOUT", "the use belongs to a checkout: cancel, return or void that, and it comes back"
        )


def coupon_message(coupon: Coupon, state: CouponState, currency: str) -> coupon_pb2.Coupon:
    """A coupon of the contract."""
    message = coupon_pb2.Coupon(
        code=coupon.code,
        member_id=coupon.member_id,
        campaign_id=coupon.campaign_id,
        state=_COUPON_STATES[state],
        issued_time=stamp(coupon.issued_time),
        valid_until_time=stamp(coupon.valid_until_time),
        voided_time=stamp(coupon.voided_time) if coupon.voided_time else None,
        offer=offer_message(coupon.offer, currency),
        terms=terms_message(coupon.terms, currency),
        uses=coupon.uses,
        uses_left=coupon.uses_left,
        once_per_member=coupon.once_per_member,
        reward_id=coupon.reward_id,
        reason=coupon.reason,
        void_reason=coupon.void_reason,
    )
    if coupon.offer.kind is OfferKind.DISCOUNT_PERCENT:
        message.discount_basis_points = coupon.offer.percent_bp or 0
    elif coupon.offer.kind is OfferKind.DISCOUNT_AMOUNT:
        message.discount_amount.CopyFrom(money(coupon.offer.amount or 0, currency))
    return message


def _use(use: CouponUse) -> coupon_pb2.CouponUse:
    return coupon_pb2.CouponUse(
        use_id=use.use_id,
        redeemed_time=stamp(use.redeemed_time) if use.redeemed_time else None,
        store_id=use.store_id,
        channel=use.channel,
        purchase_id=use.purchase_id,
        overdrawn_reason=_reason(use.overdrawn) if use.overdrawn else None,
    )


def _reward(offered: OfferedReward, currency: str) -> reward_pb2.Reward:
    reward = offered.reward
    return reward_pb2.Reward(
        reward_id=reward.id,
        name=offered.text.name,
        description=offered.text.description,
        language=offered.language,
        offer=offer_message(reward.coupon.offer, currency),
        terms=terms_message(reward.coupon.terms, currency),
        points=reward.points,
        money=money(reward.money_minor_units, currency) if reward.money_minor_units else None,
        available=not offered.obstacles,
        obstacles=[
            reward_pb2.RewardObstacle(reason=_reason(one.reason), sentence=one.sentence) for one in offered.obstacles
        ],
        points_missing=offered.points_missing,
        stock_left=offered.stock_left,
        left_for_member=offered.left_for_member,
        available_until_time=stamp(offered.until_time) if offered.until_time else None,
    )


def _reason(name: str) -> error_reason_pb2.ErrorReason:
    return error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{name}")  # type: ignore[return-value]  # a number of it
