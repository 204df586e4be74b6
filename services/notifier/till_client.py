"""The ledger and tiers, as a checkout asks them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import entry_pb2, ledger_service_pb2, ledger_service_pb2_grpc, member_pb2
from loyalty.tiers.v1 import tier_service_pb2, tier_service_pb2_grpc
from loyalty.type.v1.money_pb2 import Money

from services.notifier.domain.checkout import LineKind
from services.notifier.domain.sales import (
    POINTS_HELD,
    BenefitInForce,
    Buyer,
    BuyerStanding,
    Identifier,
    Recorded,
    RulePoints,
    Sale,
    SaleContent,
    SoldLine,
)
from services.notifier.errors import MemberUnknownError, PeerRefusedError
from services.notifier.peers import acting_for, error_of, known
from services.runtime.status import reason_of

# A lease outlasts them all, with those that are sent again.
_READ_SECONDS: Final = 5.0
_WRITE_SECONDS: Final = 6.0

_LINE_KINDS = {
    LineKind.GOODS: ledger_service_pb2.LINE_KIND_GOODS,
    LineKind.SHIPPING: ledger_service_pb2.LINE_KIND_SHIPPING,
    LineKind.GIFT_CARD: ledger_service_pb2.LINE_KIND_GIFT_CARD,
}


class TillClient:
    """Calls that a checkout makes.

    Raises PeerError where a service cannot be reached or does not answer, PeerRefusedError for what it refuses.
    `on_behalf_of`: for whom the checkout is made; entries name both. An identifier is looked up within `looking_up`,
    which counts those that lead to nobody, for the ledger leaves that to us, and raises UnknownIdentifiersError where
    they were too many.
    """

    def __init__(
        self,
        *,
        ledger: grpc.aio.Channel,
        tiers: grpc.aio.Channel,
        looking_up: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        self._ledger = ledger_service_pb2_grpc.LedgerServiceStub(ledger)
        self._tiers = tier_service_pb2_grpc.TierServiceStub(tiers)
        self._looking_up = looking_up

    async def member(self, member_id: str, on_behalf_of: str) -> Buyer:
        """A member by its id. Raises MemberUnknownError."""
        request = ledger_service_pb2.GetMemberRequest(member_id=member_id)
        return _buyer((await _ask(self._ledger.GetMember, request, on_behalf_of)).member)

    async def identified(self, identifier: Identifier, on_behalf_of: str) -> Buyer:
        """The member that an identifier leads to."""
        wanted = member_pb2.Identifier(value=identifier.value)
        wanted.kind = identifier.kind  # type: ignore[assignment]  # a number of the contract, as it came
        request = ledger_service_pb2.LookupMemberRequest(identifier=wanted)
        async with self._looking_up():
            return _buyer((await _ask(self._ledger.LookupMember, request, on_behalf_of)).member)

    async def standing(
        self, member_id: str, at_time: datetime | None, causal_token: str, on_behalf_of: str, seconds: float
    ) -> BuyerStanding | None:
        """The tier of a member at an instant (None: now); None for one of whom tiers know nothing then.

        Waits, so many seconds at most, until tiers has taken the token's writes in; raises NotCaughtUpError.
        """
        request = tier_service_pb2.GetStandingRequest(member_id=member_id, causal_token=causal_token)
        if at_time is not None:
            request.at_time.CopyFrom(_stamp(at_time))
        try:
            answer = await _ask(
                self._tiers.GetStanding, request, on_behalf_of, seconds if causal_token else _READ_SECONDS
            )
        except PeerRefusedError as error:
            if error.reason == "NOT_ENROLLED":
                return None
            raise
        except MemberUnknownError:
            return None
        standing = answer.standing
        return BuyerStanding(
            tier_number=standing.benefits_tier_number,
            discount_bp=standing.discount_basis_points,
            benefits=tuple(_benefit(benefit) for benefit in standing.benefits),
            suspended=standing.suspended,
            at_time=_time(standing.at_time),
        )

    async def earned(self, member_id: str, content: SaleContent) -> tuple[int, tuple[RulePoints, ...]]:
        """The points that a purchase would give, in all and by rule. `content.quote` need not tell them yet."""
        quote = content.quote
        request = ledger_service_pb2.QuotePurchaseRequest(
            member_id=member_id,
            occurred_time=_stamp(quote.occurred_time),
            amount=_money(content, quote.price.amount),
            lines=[_line(line) for line in content.lines],
            channel=content.channel,
            store_id=content.store_id,
        )
        if quote.price.points:
            request.points_payment.CopyFrom(_payment(content))
        receipt = (await _ask(self._ledger.QuotePurchase, request, content.on_behalf_of)).receipt
        return receipt.points, _rules(receipt.rules)

    async def hold(self, sale: Sale, content: SaleContent) -> None:
        """Holds the points that pay."""
        request = ledger_service_pb2.HoldPointsRequest(
            request_id=sale.hold_id,
            member_id=sale.member_id,
            points=content.quote.price.points,
            ttl=_span(POINTS_HELD.total_seconds()),
            occurred_time=_stamp(content.quote.occurred_time),
            reason="checkout",
            purchase_id=sale.checkout_id,
        )
        await _ask(self._ledger.HoldPoints, request, content.on_behalf_of, _WRITE_SECONDS)

    async def release(self, sale: Sale, content: SaleContent) -> None:
        """Gives held points back; where the ledger holds none there is nothing to give."""
        request = ledger_service_pb2.ReleaseHoldRequest(
            request_id=sale.release_request_id, member_id=sale.member_id, hold_id=sale.hold_id
        )
        # What it refuses is over, or runs out by itself.
        with contextlib.suppress(PeerRefusedError, MemberUnknownError):
            await _ask(self._ledger.ReleaseHold, request, content.on_behalf_of, _WRITE_SECONDS)

    async def record(self, sale: Sale, content: SaleContent) -> Recorded:
        """Records the purchase and spends the held points for it, all or none."""
        quote = content.quote
        purchase = ledger_service_pb2.RecordPurchaseRequest(
            request_id=sale.purchase_request_id,
            member_id=sale.member_id,
            purchase_id=sale.checkout_id,
            occurred_time=_stamp(quote.occurred_time),
            amount=_money(content, quote.price.amount),
            lines=[_line(line) for line in content.lines],
            store_id=content.store_id,
            receipt_number=content.receipt_number,
            channel=content.channel,
        )
        writes = [ledger_service_pb2.Write(record_purchase=purchase)]
        if quote.price.points:
            capture = ledger_service_pb2.CaptureHoldRequest(
                request_id=sale.redemption_id,
                member_id=sale.member_id,
                hold_id=sale.hold_id,
                occurred_time=_stamp(quote.occurred_time),
                reason="checkout",
                purchase_id=sale.checkout_id,
            )
            purchase.points_payment.CopyFrom(_payment(content, sale.redemption_id))
            writes = [
                ledger_service_pb2.Write(capture_hold=capture),
                ledger_service_pb2.Write(record_purchase=purchase),
            ]
        request = ledger_service_pb2.BatchRecordRequest(writes=writes, all_or_none=True)
        answer = await _ask(self._ledger.BatchRecord, request, content.on_behalf_of, _WRITE_SECONDS)
        _check(answer.outcomes)
        receipt = answer.outcomes[-1].record_purchase.receipt
        return Recorded(
            points=receipt.points,
            rules=_rules(receipt.rules),
            available_points=receipt.available_points,
            pending_points=receipt.pending_points,
            causal_token=answer.causal_token,
        )

    async def all_came_back(self, member_id: str, purchase_id: str) -> bool:
        """Whether a purchase was voided, or all of it was returned."""
        request = ledger_service_pb2.GetPurchaseRequest(member_id=member_id, purchase_id=purchase_id)
        purchase: ledger_service_pb2.Purchase = (await _ask(self._ledger.GetPurchase, request, "")).purchase
        return purchase.voided or purchase.returned_amount.minor_units >= purchase.amount.minor_units


async def _ask(method: Any, request: Any, on_behalf_of: str, seconds: float = _READ_SECONDS) -> Any:
    return await known(method(request, metadata=acting_for(on_behalf_of), timeout=seconds))


def _check(outcomes: Sequence[ledger_service_pb2.Outcome]) -> None:
    """Raises what made an all-or-none batch fail; the writes that only shared its fate are passed over."""
    failed = [outcome.error for outcome in outcomes if outcome.HasField("error")]
    for status in sorted(failed, key=lambda one: reason_of(one) == "BATCH_ABORTED"):
        raise error_of(status)


def _buyer(member: member_pb2.Member) -> Buyer:
    return Buyer(
        member_id=member.member_id,
        available_points=member.balance.available_points,
        joined_time=_time(member.joined_time),
        resigned_time=_time(member.resigned_time) if member.HasField("resigned_time") else None,
        erased=member.status == member_pb2.MEMBER_STATUS_ERASED,
    )


def _benefit(benefit: tier_service_pb2.Benefit) -> BenefitInForce:
    limited = benefit.HasField("maximum")
    return BenefitInForce(
        id=benefit.id,
        text=benefit.text,
        maximum=benefit.maximum.minor_units if limited else None,
        currency_code=benefit.maximum.currency_code,
    )


def _rules(rules: Sequence[entry_pb2.RulePoints]) -> tuple[RulePoints, ...]:
    return tuple(RulePoints(rule=rule.rule, points=rule.points, reason=rule.reason) for rule in rules)


def _line(line: SoldLine) -> ledger_service_pb2.Line:
    return ledger_service_pb2.Line(
        sku=line.sku,
        name=line.name,
        department=line.department,
        category=line.category,
        quantity=line.quantity,
        amount_minor_units=line.amount,
        kind=_LINE_KINDS[line.kind],
    )


def _payment(content: SaleContent, redemption_id: str = "") -> entry_pb2.PointsPayment:
    price = content.quote.price
    return entry_pb2.PointsPayment(
        redemption_id=redemption_id, points=price.points, amount=_money(content, price.points_amount)
    )


def _money(content: SaleContent, minor_units: int) -> Money:
    return Money(currency_code=content.quote.currency.code, minor_units=minor_units)


def _stamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def _span(seconds: float) -> Duration:
    span = Duration()
    span.FromMilliseconds(int(seconds * 1000))
    return span
