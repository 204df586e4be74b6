"""A shop with a till that checks out: its programme, and the notifier's checkouts over a real ledger and real tiers."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc, member_pb2
from loyalty.tiers.v1 import tier_service_pb2 as tiers_pb
from loyalty.tiers.v1 import tier_service_pb2_grpc
from loyalty.type.v1.money_pb2 import Money

from services.notifier.domain.checkout import Line, LineKind
from services.notifier.domain.codes import CouponCodes
from services.notifier.domain.contacts import partition_of
from services.notifier.domain.coupons import CouponState
from services.notifier.domain.feeds import Cursor, LedgerEntry, PurchaseUndone, undone
from services.notifier.domain.programmes import Programmes
from services.notifier.domain.sales import Identifier, Quote, Sale, Sold
from services.notifier.errors import PeerError
from services.notifier.progress import Progress
from services.notifier.service.checkout import Asked, CheckoutService, Commit
from services.notifier.service.coupons import CouponService
from services.notifier.service.issuing import CouponMaker
from services.notifier.service.sales import Between, Sales
from services.notifier.store import Store
from services.notifier.till_client import TillClient
from services.programme import parse
from services.programme.rewards import Offer, OfferKind, Terms

T = TypeVar("T")

# Levels of tiered-365; a point is a grosz.
PROGRAMME = """
programme: checkout-shop
currency: PLN
time_zone: Europe/Warsaw

earning:
  base: goods_paid
  points: 1
  per: "1.00"

liability:
  values:
    - from: "1990-01-01"
      points: 100
      worth: "1.00"

tiers:
  base: goods_paid
  window: P365D
  validity: {period: P2Y, warning: P30D}
  levels:
    - name: White
    - name: Green
      from: "300.00"
      discount_percent: "5"
    - name: Silver
      from: "1000.00"
      discount_percent: "8"
    - name: Golden
      from: "2000.00"
      discount_percent: "10"
      benefits:
        - {id: free-shipping, text: free shipping, maximum: "20.00"}
        - {id: lounge, text: a chair in the lounge}

checkout:
  automatic:
    - {points: 2500, discount_percent: "2"}
"""

PARTITIONS = 16
KEY = b"a key of the tests" * 2
SECONDS = 20

# Two articles and a gift card.
BASKET = (
    Line(sku="lamp", price=5_000),
    Line(sku="vase", price=5_000),
    Line(kind=LineKind.GIFT_CARD, sku="card", price=5_000),
)
PAY = 13_000


class Crash(Exception):
    """The process ends here."""


class FlakyTill:
    """The ledger, with what goes wrong on the way there or back."""

    def __init__(self, till: TillClient) -> None:
        self._till = till
        self.before: set[str] = set()
        self.after: set[str] = set()

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._till, name)

        async def call(*arguments: Any) -> Any:
            if name in self.before:
                raise PeerError
            answer = await method(*arguments)
            if name in self.after:
                raise PeerError
            return answer

        return call


@dataclass
class Shop:
    """The notifier's checkouts as a process has them; `now` is machine time."""

    ledger: Any
    tiers: Any
    store: Store
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.programme = parse(PROGRAMME, "the test's programme")
        self.till = FlakyTill(TillClient(ledger=self.ledger, tiers=self.tiers, looking_up=contextlib.nullcontext))
        self.ledger_stub = ledger_service_pb2_grpc.LedgerServiceStub(self.ledger)
        self.tier_stub = tier_service_pb2_grpc.TierServiceStub(self.tiers)
        self.start()

    def start(self, between: Between | None = None) -> None:
        """A process that begins with what the database has, and nothing else."""

        async def tier_of(member_id: str) -> str:
            raise AssertionError("a checkout knows the tier")

        async def why_no_member(member_id: str) -> None:
            return None

        codes = CouponCodes(key=KEY, partitions=PARTITIONS)
        self.coupons = CouponService(
            store=self.store,
            codes=codes,
            maker=CouponMaker(codes=codes, partitions=PARTITIONS),
            progress=Progress({partition: Cursor() for partition in range(PARTITIONS)}),
            partitions=PARTITIONS,
            simulated=False,
            request_key=KEY,
            page_key=KEY,
            tier_of=tier_of,
            why_no_member=why_no_member,
            money=self.programme.format_money,
            machine_now=lambda: self.now,
            business_now=lambda: datetime.now(UTC),
        )
        self.sales = Sales(
            store=self.store, coupons=self.coupons, till=self.till, machine_now=lambda: self.now, between=between
        )
        self.checkouts = CheckoutService(
            store=self.store,
            coupons=self.coupons,
            desk=self.till,
            sales=self.sales,
            programmes=Programmes(self.programme),
            partitions=PARTITIONS,
            simulated=False,
            request_key=KEY,
            machine_now=lambda: self.now,
            business_now=lambda: self.now,
        )

    def crashing_at(self, step: int) -> None:
        """A process that ends after so many steps, counted from 1; it counts them in `steps`."""
        self.steps: list[str] = []

        async def between(name: str) -> None:
            self.steps.append(name)
            if len(self.steps) == step:
                raise Crash(name)

        self.start(between)

    async def customer(self, points: int = 1_000, spent: int = 95_000, joined: timedelta = timedelta(days=100)) -> str:
        """Somebody who has bought for so much in the last year, and has so many points; suspended who joined longer ago
        than an account is valid."""
        member_id = f"m-{uuid.uuid4().hex[:12]}"
        now = datetime.now(UTC)
        await self.ledger_stub.EnrollMember(
            ledger_pb.EnrollMemberRequest(request_id="join", member_id=member_id, occurred_time=stamp(now - joined)),
            timeout=SECONDS,
        )
        bought = await self.ledger_stub.RecordPurchase(
            ledger_pb.RecordPurchaseRequest(
                request_id="before",
                member_id=member_id,
                occurred_time=stamp(now - timedelta(days=90)),
                amount=Money(currency_code="PLN", minor_units=spent),
            ),
            timeout=SECONDS,
        )
        token = bought.causal_token
        if points > spent // 100:
            given = await self.ledger_stub.AwardPoints(
                ledger_pb.AwardPointsRequest(
                    request_id="given", member_id=member_id, points=points - spent // 100, reason="goodwill"
                ),
                timeout=SECONDS,
            )
            token = given.causal_token
        await self.standing(member_id, token)
        return member_id

    async def joined(self) -> str:
        """Somebody who has just joined."""
        member_id = f"m-{uuid.uuid4().hex[:12]}"
        request = ledger_pb.EnrollMemberRequest(request_id="join", member_id=member_id)
        await self.ledger_stub.EnrollMember(request, timeout=SECONDS)
        return member_id

    async def resign(self, member_id: str) -> None:
        request = ledger_pb.ResignMemberRequest(request_id="leave", member_id=member_id)
        await self.ledger_stub.ResignMember(request, timeout=SECONDS)

    async def erase(self, member_id: str) -> None:
        request = ledger_pb.EraseMemberRequest(request_id="erase", member_id=member_id, reason="asked")
        await self.ledger_stub.EraseMember(request, timeout=SECONDS)

    async def card(self, member_id: str) -> Identifier:
        """A card that leads to a member."""
        card = member_pb2.Identifier(kind=member_pb2.IDENTIFIER_KIND_CARD, value=uuid.uuid4().hex[:16])
        request = ledger_pb.LinkIdentifierRequest(request_id="card", member_id=member_id, identifier=card)
        await self.ledger_stub.LinkIdentifier(request, timeout=SECONDS)
        return Identifier(kind=card.kind, value=card.value)

    async def block(self, member_id: str, card: Identifier) -> None:
        """The card was lost."""
        request = ledger_pb.UnlinkIdentifierRequest(
            request_id="block", member_id=member_id, reason=ledger_pb.UNLINK_REASON_LOST
        )
        request.identifier.value = card.value
        request.identifier.kind = card.kind  # type: ignore[assignment]  # a number of the contract
        await self.ledger_stub.UnlinkIdentifier(request, timeout=SECONDS)

    async def drop_hold(self, member_id: str, checkout_id: str = "sale-1") -> None:
        """The points of a sale are free again, whatever it does."""
        sale = await self._sale(member_id, checkout_id)
        assert sale is not None
        request = ledger_pb.ReleaseHoldRequest(request_id="drop", member_id=member_id, hold_id=sale.hold_id)
        await self.ledger_stub.ReleaseHold(request, timeout=SECONDS)

    async def coupon(self, member_id: str = "", minor_units: int = 1_000, **more: Any) -> str:
        """A coupon for so much off, for a member or whoever holds it."""
        offer = more.pop("offer", None) or Offer(kind=OfferKind.DISCOUNT_AMOUNT, amount=minor_units)
        coupon, _, _ = await self.coupons.issue(
            request_id=uuid.uuid4().hex,
            content=b"",
            principal="test",
            issued_by="test",
            member_id=member_id,
            offer=offer,
            terms=more.pop("terms", Terms()),
            valid_until_time=more.pop("until", datetime.now(UTC) + timedelta(days=30)),
            uses=more.pop("uses", 1),
            once_per_member=False,
            prefix="TEST",
            pool="",
            reason="test",
            **more,
        )
        return coupon.code

    def asked(self, member_id: str, *codes: str, points: int = 500, **more: Any) -> Asked:
        """The basket of the issue."""
        asked = Asked(
            buyer=member_id,
            currency_code="PLN",
            lines=BASKET,
            codes=codes,
            points=points,
            gift_cards=0,
            store_id="store-1",
            channel="pos",
            occurred_time=None,
            causal_token="",
            on_behalf_of="till-1",
            wait_seconds=SECONDS,
            trying_code=contextlib.nullcontext,
        )
        return replace(asked, **more)

    async def quote(self, member_id: str, *codes: str, points: int = 500, **more: Any) -> Quote:
        return await self.checkouts.quote(self.asked(member_id, *codes, points=points, **more))

    def commitment(
        self,
        asked: Asked,
        *,
        pay: int = PAY,
        request_id: str = "c-1",
        checkout_id: str = "sale-1",
        expected_currency: str = "PLN",
    ) -> Commit:
        """The request that sells a basket."""
        return Commit(
            request_id=request_id,
            checkout_id=checkout_id,
            asked=asked,
            expected_currency=expected_currency,
            expected_pay=pay,
            receipt_number="R-1",
            content=repr((request_id, checkout_id, asked.buyer, asked.codes, asked.points, pay)).encode(),
        )

    async def commit(
        self, member_id: str, *codes: str, points: int = 500, pay: int = PAY, request_id: str = "c-1",
        checkout_id: str = "sale-1", **more: Any,
    ) -> Sold:  # fmt: skip
        asked = self.asked(member_id, *codes, points=points, **more)
        sold, _ = await self.checkouts.commit(
            self.commitment(asked, pay=pay, request_id=request_id, checkout_id=checkout_id)
        )
        return sold

    async def cancel(
        self, member_id: str, request_id: str = "x-1", checkout_id: str = "sale-1", wait: float = 5
    ) -> bool:
        return await self.checkouts.cancel(
            request_id=request_id,
            checkout_id=checkout_id,
            buyer=member_id,
            on_behalf_of="till-1",
            content=f"{request_id} {checkout_id}".encode(),
            wait_seconds=wait,
        )

    async def recover(self, after: timedelta = timedelta(seconds=20)) -> None:
        """Another process finds what was left, when its lease is over."""
        self.now += after
        self.start()
        await self.sales.recover()

    async def points(self, member_id: str) -> tuple[int, int]:
        """Available and held."""
        request = ledger_pb.GetBalanceRequest(member_id=member_id)
        balance = (await self.ledger_stub.GetBalance(request, timeout=SECONDS)).balance
        return balance.available_points, balance.held_points

    async def standing(self, member_id: str, token: str = "") -> tuple[str, int]:
        """Tier and balance."""
        request = tiers_pb.GetStandingRequest(member_id=member_id, causal_token=token)
        standing = (await self.tier_stub.GetStanding(request, timeout=SECONDS)).standing
        return standing.tier, standing.balance.minor_units

    async def coupon_state(self, code: str) -> CouponState:
        return (await self.coupons.get_coupon(code))[1]

    async def purchases(self, member_id: str) -> list[ledger_pb.Purchase]:
        """What was bought at the till, the start aside."""
        request = ledger_pb.ListPurchasesRequest(member_id=member_id)
        listed = (await self.ledger_stub.ListPurchases(request, timeout=SECONDS)).purchases
        return [purchase for purchase in listed if purchase.purchase_id != "before"]

    async def buy_elsewhere(self, member_id: str, purchase_id: str) -> None:
        """A purchase that no checkout recorded."""
        request = ledger_pb.RecordPurchaseRequest(
            request_id="elsewhere",
            member_id=member_id,
            purchase_id=purchase_id,
            amount=Money(currency_code="PLN", minor_units=100),
        )
        await self.ledger_stub.RecordPurchase(request, timeout=SECONDS)

    async def bring_back(self, member_id: str, checkout_id: str = "sale-1") -> ledger_pb.RecordReturnResponse:
        """One article."""
        request = ledger_pb.RecordReturnRequest(
            request_id="back",
            member_id=member_id,
            purchase_id=checkout_id,
            returned_lines=[ledger_pb.ReturnedLine(line_number=1, quantity=1)],
            reason="wrong_size",
        )
        return await self.ledger_stub.RecordReturn(request, timeout=SECONDS)

    async def bring_all_back(self, member_id: str, checkout_id: str = "sale-1") -> ledger_pb.VoidPurchaseResponse:
        """All that is left."""
        request = ledger_pb.VoidPurchaseRequest(
            request_id="void", member_id=member_id, purchase_id=checkout_id, store_id="store-1", reason="mistake"
        )
        return await self.ledger_stub.VoidPurchase(request, timeout=SECONDS)

    async def told_of_return(self, member_id: str, *, offset: int, checkout_id: str = "sale-1") -> None:
        """What the consumer does with the entry of a return."""
        fact = PurchaseUndone(member_id=member_id, purchase_id=checkout_id)
        entry = LedgerEntry(partition=partition_of(member_id, PARTITIONS), offset=offset, fact=fact)
        await self.store.transact(lambda transaction: transaction.mark_checkouts_undone(undone([entry])))

    async def state(self, member_id: str, checkout_id: str = "sale-1") -> str:
        """How far a sale is, by the database."""
        found = await self._sale(member_id, checkout_id)
        return "" if found is None else found.state.value

    async def _sale(self, member_id: str, checkout_id: str) -> Sale | None:
        key = (partition_of(member_id, PARTITIONS), member_id, checkout_id)
        return await self.store.read(lambda transaction: transaction.find_checkout(key))


def stamp(time: datetime) -> Timestamp:
    stamped = Timestamp()
    stamped.FromDatetime(time)
    return stamped


async def settled(look: Callable[[], Awaitable[T]], expected: T) -> None:
    """Waits until something is as it should be: what a consumer of a feed makes of it comes a moment later."""
    for _ in range(200):
        if await look() == expected:
            return
        await asyncio.sleep(0.05)
    assert await look() == expected
