"""Checkouts: the contract's messages in and out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import entry_pb2, ledger_service_pb2
from loyalty.notifier.v1 import checkout_service_pb2 as pb
from loyalty.notifier.v1 import checkout_service_pb2_grpc
from loyalty.tiers.v1 import tier_service_pb2
from loyalty.type.v1 import money_pb2

from services.notifier.domain.checkout import MOST_MINOR_UNITS, Currency, DiscountKind, Line, LineKind
from services.notifier.domain.sales import BenefitInForce, Identifier, Quote, RulePoints
from services.notifier.rpc.calls import Context, Methods, acting_principal, stamp
from services.notifier.service.checkout import Asked, Commit
from services.runtime.identity import current_caller
from services.runtime.interceptors import seconds_to_wait
from services.runtime.status import InvalidFieldError

_LINE_KINDS = {
    ledger_service_pb2.LINE_KIND_UNSPECIFIED: LineKind.GOODS,
    ledger_service_pb2.LINE_KIND_GOODS: LineKind.GOODS,
    ledger_service_pb2.LINE_KIND_SHIPPING: LineKind.SHIPPING,
    ledger_service_pb2.LINE_KIND_GIFT_CARD: LineKind.GIFT_CARD,
}
_DISCOUNT_KINDS = {
    DiscountKind.PROMOTION: pb.DISCOUNT_KIND_PROMOTION,
    DiscountKind.TIER: pb.DISCOUNT_KIND_TIER,
    DiscountKind.AUTOMATIC: pb.DISCOUNT_KIND_AUTOMATIC,
    DiscountKind.COUPON: pb.DISCOUNT_KIND_COUPON,
    DiscountKind.BENEFIT: pb.DISCOUNT_KIND_BENEFIT,
}

_Basket: TypeAlias = pb.QuoteCheckoutRequest | pb.CommitCheckoutRequest
_WithBuyer: TypeAlias = _Basket | pb.CancelCheckoutRequest


class CheckoutServicer(Methods, checkout_service_pb2_grpc.CheckoutServiceServicer):
    """loyalty.notifier.v1.CheckoutService."""

    async def QuoteCheckout(  # the contract's name
        self, request: pb.QuoteCheckoutRequest, context: Context
    ) -> pb.QuoteCheckoutResponse:
        """Says what a basket costs."""
        asked = self._asked(request, context)
        return pb.QuoteCheckoutResponse(quote=_quote(await self._do.checkouts.quote(asked)))

    async def CommitCheckout(  # the contract's name
        self, request: pb.CommitCheckoutRequest, context: Context
    ) -> pb.CommitCheckoutResponse:
        """Sells a basket."""
        commit = Commit(
            request_id=request.request_id,
            checkout_id=request.checkout_id or request.request_id,
            asked=self._asked(request, context),
            expected_currency=request.expected_pay.currency_code,
            expected_pay=request.expected_pay.minor_units,
            receipt_number=request.receipt_number,
            content=request.SerializeToString(deterministic=True),
        )
        sold, replayed = await self._do.checkouts.commit(commit)
        return pb.CommitCheckoutResponse(
            checkout_id=sold.checkout_id,
            quote=_quote(sold.quote),
            redemption_id=sold.redemption_id,
            available_points=sold.recorded.available_points,
            pending_points=sold.recorded.pending_points,
            causal_token=sold.recorded.causal_token,
            replayed=replayed,
        )

    async def CancelCheckout(  # the contract's name
        self, request: pb.CancelCheckoutRequest, context: Context
    ) -> pb.CancelCheckoutResponse:
        """Lets a checkout go."""
        replayed = await self._do.checkouts.cancel(
            request_id=request.request_id,
            checkout_id=request.checkout_id,
            buyer=_buyer(request),
            on_behalf_of=acting_principal(),
            content=request.SerializeToString(deterministic=True),
            wait_seconds=seconds_to_wait(context),
        )
        return pb.CancelCheckoutResponse(replayed=replayed)

    def _asked(self, request: _Basket, context: Context) -> Asked:
        """A basket as it was sent."""
        occurred = request.occurred_time if request.HasField("occurred_time") else None
        lines = tuple(_line(number, line) for number, line in enumerate(request.lines))
        if sum(line.price for line in lines) > MOST_MINOR_UNITS:
            raise InvalidFieldError("lines", "come to more than a purchase may")
        return Asked(
            buyer=_buyer(request),
            currency_code=request.currency_code,
            lines=lines,
            codes=tuple(request.coupon_codes),
            points=request.points,
            gift_cards=request.gift_cards_minor_units,
            store_id=request.store_id,
            channel=request.channel,
            occurred_time=None if occurred is None else _time(occurred),
            causal_token=request.causal_token,
            on_behalf_of=acting_principal(),
            wait_seconds=seconds_to_wait(context),
            trying_code=partial(self._do.wrong_codes.trying, current_caller.get()),
        )


def _buyer(request: _WithBuyer) -> str | Identifier:
    if request.WhichOneof("buyer") == "member_id":
        return request.member_id
    return Identifier(kind=request.identifier.kind, value=request.identifier.value)


def _line(place: int, line: pb.CheckoutLine) -> Line:
    quantity = line.quantity or 1
    whole = line.WhichOneof("price") == "amount_minor_units"
    price = line.amount_minor_units if whole else line.unit_price_minor_units * quantity
    if line.promotion_minor_units > price:
        raise InvalidFieldError(f"lines[{place}].promotion_minor_units", "must be at most the price of the line")
    return Line(
        kind=_LINE_KINDS[line.kind],
        sku=line.sku,
        name=line.name,
        department=line.department,
        category=line.category,
        quantity=quantity,
        price=price,
        promotion=line.promotion_minor_units,
    )


def _quote(quote: Quote) -> pb.CheckoutQuote:
    price, currency = quote.price, quote.currency
    return pb.CheckoutQuote(
        member_id=quote.member_id,
        tier=quote.tier,
        tier_number=quote.tier_number,
        lines=[_quoted(quote, place) for place in range(len(quote.line_prices))],
        discounts=[
            pb.CheckoutDiscount(
                kind=_DISCOUNT_KINDS[discount.kind],
                reason=discount.reason,
                amount=_money(currency, discount.amount),
                coupon_code=discount.code,
            )
            for discount in price.discounts
        ],
        amount=_money(currency, price.amount),
        points=price.points,
        points_amount=_money(currency, price.points_amount),
        tenders=[
            pb.CheckoutTender(
                coupon_code=tender.code,
                amount=_money(currency, tender.amount),
                lost=_money(currency, tender.lost) if tender.lost else None,
            )
            for tender in price.tenders
        ],
        pay=_money(currency, price.pay),
        earned_points=quote.earned,
        rules=_rules(quote.rules),
        benefits=[_benefit(benefit) for benefit in quote.benefits],
        coupon_codes=price.codes,
        refusals=[
            pb.CheckoutRefusal(coupon_code=declined.code, reason=declined.reason, message=declined.sentence)
            for declined in price.declined
        ],
        summary=quote.summary,
        occurred_time=stamp(quote.occurred_time),
        available_points=quote.available_points,
    )


def _quoted(quote: Quote, place: int) -> pb.CheckoutQuoteLine:
    currency = quote.currency
    return pb.CheckoutQuoteLine(
        line_number=place + 1,
        price=_money(currency, quote.line_prices[place]),
        discounts=[
            pb.CheckoutDiscount(
                kind=_DISCOUNT_KINDS[discount.kind],
                reason=discount.reason,
                amount=_money(currency, discount.of_lines[place]),
                coupon_code=discount.code,
            )
            for discount in quote.price.discounts
            if discount.of_lines[place]
        ],
        amount=_money(currency, quote.price.line_amounts[place]),
    )


def _rules(rules: Sequence[RulePoints]) -> list[entry_pb2.RulePoints]:
    return [entry_pb2.RulePoints(rule=rule.rule, points=rule.points, reason=rule.reason) for rule in rules]


def _benefit(benefit: BenefitInForce) -> tier_service_pb2.Benefit:
    message = tier_service_pb2.Benefit(id=benefit.id, text=benefit.text)
    if benefit.maximum is not None:
        maximum = money_pb2.Money(currency_code=benefit.currency_code, minor_units=benefit.maximum)
        message.maximum.CopyFrom(maximum)
    return message


def _money(currency: Currency, minor_units: int) -> money_pb2.Money:
    return money_pb2.Money(currency_code=currency.code, minor_units=minor_units)


def _time(stamped: Timestamp) -> datetime:
    return stamped.ToDatetime(tzinfo=UTC)
