"""Checkouts that are committed: what is sold, and how far it is (DESIGN §7).

    started ──▶ recording ──▶ done (──▶ cancelling, where nothing was to be paid)
       │            ▼
       ├──────▶ releasing ──▶ refused
       ▼            ▼
    cancelling ◀────┘ ──▶ cancelled

While `started`, coupons are reserved and points held; from `recording` on the ledger decides. Each step may be done
again: what is asked of the ledger and of coupons has ids that follow from the sale.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from services.notifier.domain.checkout import Currency, Line, LineKind, Price

# Who carries a sale on has it for so long; then anybody may. Longer than any call on the way.
LEASE: Final = timedelta(seconds=15)
# What has not reached the ledger by then is let go.
PATIENCE: Final = timedelta(seconds=30)
# Coupons stay reserved for as long as a ledger may be away: a sale that ends gives them back.
COUPONS_RESERVED: Final = timedelta(days=1)
# Points that nobody captured or gave back are free again by then.
POINTS_HELD: Final = timedelta(minutes=15)


class SaleState(enum.StrEnum):
    """How far a sale is."""

    STARTED = "started"
    RECORDING = "recording"
    RELEASING = "releasing"
    CANCELLING = "cancelling"
    DONE = "done"
    REFUSED = "refused"
    CANCELLED = "cancelled"

    @property
    def unfinished(self) -> bool:
        """Whether something is left to be done."""
        return self in _UNFINISHED


_UNFINISHED = frozenset({SaleState.STARTED, SaleState.RECORDING, SaleState.RELEASING, SaleState.CANCELLING})


@dataclass(frozen=True, slots=True, kw_only=True)
class RulePoints:
    """Points by one rule of the ledger, with the rule in words."""

    rule: str
    points: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BenefitInForce:
    """What the tier gives beside its discount."""

    id: str
    text: str
    maximum: int | None = None
    currency_code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifier:
    """What leads to a member: a kind by its number in the contract, and the value. Never logged."""

    kind: int
    value: str

    def __repr__(self) -> str:
        return "Identifier(...)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Buyer:
    """A member as the ledger knows it now."""

    member_id: str
    available_points: int
    joined_time: datetime
    resigned_time: datetime | None = None
    """When the member left; None where it did not, or is back."""
    erased: bool = False

    def why_not(self, occurred: datetime | None) -> Rejection | None:
        """Why nothing is sold to the member then (None: now), in the ledger's words; None where it says nothing
        against it."""
        if self.erased:
            return ERASED
        left = self.resigned_time
        return RESIGNED if left is not None and (occurred is None or occurred >= left) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuyerStanding:
    """The tier whose benefits are in force at an instant; number 0 and no benefits where none are."""

    tier_number: int
    discount_bp: int
    benefits: tuple[BenefitInForce, ...]
    suspended: bool
    at_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What a basket costs, why, and what it earns."""

    member_id: str
    tier: str
    tier_number: int
    currency: Currency
    line_prices: tuple[int, ...]
    price: Price
    earned: int
    rules: tuple[RulePoints, ...]
    benefits: tuple[BenefitInForce, ...]
    summary: str
    occurred_time: datetime
    available_points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SoldLine:
    """One line as the ledger records it."""

    kind: LineKind
    sku: str
    name: str
    department: str
    category: str
    quantity: int
    amount: int

    @classmethod
    def of(cls, line: Line, amount: int) -> SoldLine:
        """A line of a basket at what it costs after discounts."""
        return cls(
            kind=line.kind,
            sku=line.sku,
            name=line.name,
            department=line.department,
            category=line.category,
            quantity=line.quantity,
            amount=amount,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SaleContent:
    """All that it takes to go on: the price was decided once, at the commit."""

    quote: Quote
    lines: tuple[SoldLine, ...]
    store_id: str
    channel: str
    receipt_number: str
    on_behalf_of: str
    tier_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why a request is refused: `code` is the name of a status code, `reason` one of the contract's. Kept as an
    answer."""

    code: str
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the ledger made of a purchase; the points of the member are those afterwards."""

    points: int = 0
    rules: tuple[RulePoints, ...] = ()
    available_points: int = 0
    pending_points: int = 0
    causal_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sold:
    """A checkout that is complete."""

    checkout_id: str
    quote: Quote
    redemption_id: str
    recorded: Recorded

    @property
    def purchase(self) -> bool:
        """Whether the ledger has it: what costs nothing after discounts is no purchase."""
        return self.quote.price.amount > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a request: a sale, a refusal, or, with neither, that it was cancelled."""

    sold: Sold | None = None
    rejection: Rejection | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """A committed checkout. `sale_id` names its use of coupons, and begins the ids of its requests to the ledger.

    `content` is None where it is over, or was cancelled before it began. `lease_until`: nobody else carries it on
    before; machine time, as `started_time`.
    """

    partition: int
    member_id: str
    checkout_id: str
    request_id: str
    sale_id: str
    state: SaleState
    content: SaleContent | None
    started_time: datetime
    lease_until: datetime

    @property
    def hold_id(self) -> str:
        """The hold of the points that pay."""
        return f"{self.sale_id}-hold"

    @property
    def redemption_id(self) -> str:
        """The redemption that captures them."""
        return f"{self.sale_id}-points"

    @property
    def purchase_request_id(self) -> str:
        """The request that records the purchase."""
        return f"{self.sale_id}-purchase"

    @property
    def release_request_id(self) -> str:
        """The request that gives the points back."""
        return f"{self.sale_id}-release"


CANCELLED: Final = Rejection(
    code="FAILED_PRECONDITION", reason="CHECKOUT_CANCELLED", message="the checkout was cancelled; begin a new one"
)
COMPLETED: Final = Rejection(
    code="FAILED_PRECONDITION",
    reason="CHECKOUT_COMPLETED",
    message="the checkout is complete: record a return, or void the purchase",
)
ERASED: Final = Rejection(
    code="FAILED_PRECONDITION",
    reason="MEMBER_ERASED",
    message="the member was erased; nothing is written of it any more",
)
RESIGNED: Final = Rejection(code="FAILED_PRECONDITION", reason="MEMBER_RESIGNED", message="the member had left by then")
TIMED_OUT: Final = Rejection(
    code="FAILED_PRECONDITION",
    reason="CHECKOUT_TIMED_OUT",
    message="the checkout broke off and took too long to go on; nothing of it is left, begin a new one",
)


def exists(sold: Sold | None) -> Rejection:
    """The refusal of a checkout that another request has sold: with what was paid, where it is known."""
    facts: dict[str, str] = {}
    if sold is not None:
        price = sold.quote.price
        facts = {
            **({"purchase_id": sold.checkout_id} if sold.purchase else {}),
            "currency_code": sold.quote.currency.code,
            "amount_minor_units": str(price.amount),
            "pay_minor_units": str(price.pay),
            "points": str(price.points),
            "earned_points": str(sold.quote.earned),
        }
    return Rejection(
        code="ALREADY_EXISTS",
        reason="CHECKOUT_EXISTS",
        message="the member has a checkout of this id, sold by another request: do not sell it again",
        metadata=facts,
    )


def price_changed(quote: Quote, expected: int, expected_in: Currency) -> Rejection:
    """The refusal of a basket that costs something else now, or is paid in another currency."""
    money = quote.currency.text
    return Rejection(
        code="FAILED_PRECONDITION",
        reason="CHECKOUT_PRICE_CHANGED",
        message=(
            f"the quote said {expected_in.text(expected)}, and {money(quote.price.pay)} are to be paid now: quote again"
        ),
        metadata={"pay_minor_units": str(quote.price.pay), "currency_code": quote.currency.code},
    )
