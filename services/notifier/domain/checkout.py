"""What a basket costs: which discounts apply, in which order, and what points and gift cards pay (DESIGN §12.12).

Line promotion, tier percentage, automatic discount, one percentage coupon, amount coupons, points, gift cards: each on
what the ones before it have left, never below zero. Percentages and amounts are for goods alone, points pay for goods
alone; free shipping is for shipping alone; gift cards pay for anything. Every rule is floored once per receipt, and
spread to the lines by largest remainder (§12.2).

Which coupons go together is not left to the order in which they were given: of all that may be used together the
combination that leaves the least to pay is taken. Pure: the standard library and the programme's model.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.programme.checkout import AutomaticDiscount
from services.programme.model import BASIS_POINTS, PointValue, Redemption, format_amount, format_percent
from services.programme.rewards import Offer, OfferKind, Stacking, Terms

# What a line, the worth of a gift card, or points at once may come to, by the contract.
MOST_MINOR_UNITS = 1_000_000_000_000


class LineKind(enum.StrEnum):
    """What a line of a basket is."""

    GOODS = "goods"
    SHIPPING = "shipping"
    GIFT_CARD = "gift_card"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a basket, at its full price; `promotion` is what the shop has taken off already."""

    kind: LineKind = LineKind.GOODS
    sku: str = ""
    name: str = ""
    department: str = ""
    category: str = ""
    quantity: int = 1
    price: int
    promotion: int = 0

    @property
    def amount(self) -> int:
        """What it costs before the programme gives anything."""
        return self.price - self.promotion


@dataclass(frozen=True, slots=True, kw_only=True)
class Currency:
    """In what is paid, and how it is written."""

    code: str
    digits: int

    def text(self, minor_units: int) -> str:
        """`10.00 PLN`."""
        return f"{format_amount(minor_units, self.digits)} {self.code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Voucher:
    """A coupon that its own terms let be used here; what else is used is decided with all the others."""

    code: str
    offer: Offer
    terms: Terms = Terms()


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeShipping:
    """Shipping that a tier pays for, up to a maximum; None: all of it."""

    text: str
    maximum: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PointsOffered:
    """The points that are to pay: how many, how many are there, and what the programme says of them.

    `value` is None where points are worth nothing in the currency of the basket, `frozen` where the account is
    suspended.
    """

    wanted: int = 0
    available: int = 0
    value: PointValue | None = None
    rules: Redemption = Redemption(minimum=1, step=1)
    frozen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """All that decides a price."""

    currency: Currency
    lines: tuple[Line, ...]
    tier: str = ""
    tier_bp: int = 0
    automatic: AutomaticDiscount | None = None
    free_shipping: FreeShipping | None = None
    vouchers: tuple[Voucher, ...] = ()
    points: PointsOffered = PointsOffered()
    gift_cards: int = 0
    """What the gift cards that are shown can pay."""


class Reason(enum.StrEnum):
    """Why a coupon or points are not used; names of the contract's error reasons."""

    NOT_COMBINABLE = "COUPON_NOT_COMBINABLE"
    GIVES_NOTHING = "COUPON_GIVES_NOTHING"
    NOT_FOR_CHECKOUT = "COUPON_NOT_FOR_CHECKOUT"
    POINTS_WITHOUT_VALUE = "POINTS_WITHOUT_VALUE"
    NOT_ENOUGH_POINTS = "NOT_ENOUGH_POINTS"
    BELOW_MINIMUM = "REDEMPTION_BELOW_MINIMUM"
    NOT_IN_STEPS = "REDEMPTION_NOT_IN_STEPS"
    SUSPENDED = "ACCOUNT_SUSPENDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declined:
    """What is not used: a coupon, or, with no code, the points. `reason`: a name of the contract's error reasons."""

    code: str = ""
    reason: str
    sentence: str


class DiscountKind(enum.StrEnum):
    """What takes something off."""

    PROMOTION = "promotion"
    TIER = "tier"
    AUTOMATIC = "automatic"
    COUPON = "coupon"
    BENEFIT = "benefit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discount:
    """What one rule takes off, in all and of each line of the basket."""

    kind: DiscountKind
    reason: str
    amount: int
    of_lines: tuple[int, ...]
    code: str = ""
    """The coupon, where it is one."""


class TenderKind(enum.StrEnum):
    """What pays beside money."""

    COUPON = "coupon"
    """A gift card that is a coupon of ours."""
    GIFT_CARDS = "gift_cards"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tender:
    """What a gift card pays."""

    kind: TenderKind
    amount: int
    code: str = ""
    lost: int = 0
    """What a coupon is worth more than it pays: it is used up whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a basket costs, and why."""

    line_amounts: tuple[int, ...]
    """What each line costs after all discounts; points and gift cards pay of that."""
    discounts: tuple[Discount, ...]
    points: int = 0
    """Points that pay."""
    points_amount: int = 0
    """What they pay, of the goods."""
    tenders: tuple[Tender, ...] = ()
    declined: tuple[Declined, ...] = ()

    @property
    def amount(self) -> int:
        """What the basket costs after all discounts."""
        return sum(self.line_amounts)

    @property
    def pay(self) -> int:
        """What is left to pay with money."""
        return self.amount - self.points_amount - sum(tender.amount for tender in self.tenders)

    @property
    def codes(self) -> tuple[str, ...]:
        """The coupons that are used, by their codes, ascending."""
        codes = [*(discount.code for discount in self.discounts), *(tender.code for tender in self.tenders)]
        return tuple(sorted(filter(None, codes)))

    @property
    def discount_codes(self) -> tuple[str, ...]:
        """Those of them that take something off; the others are gift cards, and pay."""
        return tuple(sorted({discount.code for discount in self.discounts if discount.code}))


def price(order: Order) -> Price:
    """What a basket costs. The order of the coupons makes no difference; a code that is given twice counts once."""
    vouchers = {voucher.code: voucher for voucher in order.vouchers}
    usable = [vouchers[code] for code in sorted(vouchers) if vouchers[code].offer.kind in _AT_CHECKOUT]
    combinations = [(_discounted(order, chosen), chosen) for chosen in _combinations(usable)]
    best, chosen = min(combinations, key=lambda one: _cost(one[0]))
    points, refusal = _points(order, best)
    amount = min(_worth(order.points.value, points), _goods(order.lines, best.line_amounts))
    with_points = replace(best, points=points, points_amount=amount)
    found = _tendered(order, with_points, chosen.vouchers)
    left_out = [vouchers[code] for code in sorted(vouchers) if code not in found.codes]
    declined = [_declined(order, voucher, found) for voucher in left_out]
    return replace(found, declined=(*declined, *([refusal] if refusal else [])))


def spread(total: int, weights: Sequence[int]) -> tuple[int, ...]:
    """`total` in whole parts in proportion to the weights, by largest remainder, the first of equals first.

    No part is more than its weight where the total is not more than all of them together.
    """
    whole = sum(weights)
    if not whole or not total:
        return (0,) * len(weights)
    parts = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda place: (-(total * weights[place] % whole), place))
    for place in by_remainder[: total - sum(parts)]:
        parts[place] += 1
    return tuple(parts)


def sentence(order: Order, found: Price, earned: int) -> str:
    """What a cashier can read out."""
    money = order.currency.text
    said = [f"To pay: {money(found.pay)}."]
    off = [f"{money(one.amount)} {_short(one, order)}" for one in found.discounts]
    if off:
        said.append(f"Off: {', '.join(off)}.")
    if found.points:
        said.append(f"{found.points} points pay {money(found.points_amount)}.")
    said += [f"{money(tender.amount)} is paid by gift card." for tender in found.tenders]
    said += [f"{money(tender.lost)} of gift card {tender.code} are lost." for tender in found.tenders if tender.lost]
    said.append(f"Earns {earned} {'point' if earned == 1 else 'points'}.")
    said += [f"{f'Coupon {one.code}' if one.code else 'Points'} not used: {one.sentence}." for one in found.declined]
    return " ".join(said)


def _short(discount: Discount, order: Order) -> str:
    names = {
        DiscountKind.PROMOTION: "promotion",
        DiscountKind.TIER: order.tier,
        DiscountKind.AUTOMATIC: "for points",
        DiscountKind.BENEFIT: "shipping",
        DiscountKind.COUPON: f"coupon {discount.code}",
    }
    return names[discount.kind]


_AT_CHECKOUT = frozenset(
    {
        OfferKind.DISCOUNT_PERCENT,
        OfferKind.DISCOUNT_AMOUNT,
        OfferKind.FREE_PRODUCT,
        OfferKind.FREE_SHIPPING,
        OfferKind.GIFT_CARD,
    }
)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Coupons that may be used together, at most one of them a percentage, and whether the tier's discount may, too."""

    vouchers: tuple[Voucher, ...]
    with_tier: bool


def _combinations(vouchers: Sequence[Voucher]) -> Iterator[_Chosen]:
    """All combinations that the terms allow and that no other one contains, none at all first."""
    together = [voucher for voucher in vouchers if voucher.terms.stacking is Stacking.ANY]
    percentages = [voucher for voucher in together if voucher.offer.kind is OfferKind.DISCOUNT_PERCENT]
    others = [voucher for voucher in together if voucher.offer.kind is not OfferKind.DISCOUNT_PERCENT]
    yield _Chosen(tuple(others), with_tier=True)
    for voucher in percentages:
        yield _Chosen((voucher, *others), with_tier=True)
    for voucher in vouchers:
        if voucher.terms.stacking is not Stacking.ANY:
            yield _Chosen((voucher,), with_tier=voucher.terms.stacking is Stacking.WITH_TIER)


def _cost(found: Price) -> tuple[int, int, tuple[str, ...]]:
    """The least to pay is the best; then what uses fewer coupons; then the first by their codes."""
    return found.pay, len(found.codes), found.codes


@dataclass(slots=True)
class _Reckoning:
    """What is left of each line while one discount after the other is taken off."""

    order: Order
    left: list[int]
    discounts: list[Discount] = field(default_factory=list)

    def take(self, kind: DiscountKind, amount: int, reason: str, lines: Collection[int], code: str = "") -> None:
        """Takes an amount off these lines, as far as they last; nothing is no discount."""
        weights = [left if place in lines else 0 for place, left in enumerate(self.left)]
        amount = min(amount, sum(weights))
        if amount <= 0:
            return
        parts = spread(amount, weights)
        self.left = [left - part for left, part in zip(self.left, parts, strict=True)]
        self.discounts.append(Discount(kind=kind, reason=reason, amount=amount, of_lines=parts, code=code))

    def sum_of(self, lines: Collection[int]) -> int:
        """What these lines cost now."""
        return sum(self.left[place] for place in lines)

    def of_kind(self, kind: LineKind) -> list[int]:
        """The places of the lines of a kind."""
        return [place for place, line in enumerate(self.order.lines) if line.kind is kind]

    def goods_for(self, terms: Terms) -> list[int]:
        """The places of the goods that a coupon makes cheaper."""
        lines = self.order.lines
        return [
            place
            for place in self.of_kind(LineKind.GOODS)
            if not (terms.skus or terms.departments)
            or lines[place].sku in terms.skus
            or lines[place].department in terms.departments
        ]


def _discounted(order: Order, chosen: _Chosen) -> Price:
    """The price with these coupons, before points; a coupon that would give nothing is not used."""
    money = order.currency.text
    so_far = _Reckoning(order, [line.price for line in order.lines])
    promotions = tuple(line.promotion for line in order.lines)
    if any(promotions):
        so_far.left = [line.amount for line in order.lines]
        so_far.discounts.append(
            Discount(kind=DiscountKind.PROMOTION, reason="promotions", amount=sum(promotions), of_lines=promotions)
        )
    goods = so_far.of_kind(LineKind.GOODS)
    if order.free_shipping is not None:
        _take_shipping(so_far, order.free_shipping)
    if chosen.with_tier:
        base = so_far.sum_of(goods)
        reason = f"{order.tier}: {format_percent(order.tier_bp)} of {money(base)}"
        so_far.take(DiscountKind.TIER, base * order.tier_bp // BASIS_POINTS, reason, goods)
        if order.automatic is not None:
            _take_automatic(so_far, order.automatic, goods)
    for voucher in sorted(chosen.vouchers, key=_rank(so_far)):
        _take_voucher(so_far, voucher)
    found = Price(line_amounts=tuple(so_far.left), discounts=tuple(so_far.discounts))
    return _tendered(order, found, chosen.vouchers, shown=False)


def _take_automatic(so_far: _Reckoning, given: AutomaticDiscount, goods: Collection[int]) -> None:
    money, base = so_far.order.currency.text, so_far.sum_of(goods)
    if given.percent_bp is not None:
        amount, what = base * given.percent_bp // BASIS_POINTS, f"{format_percent(given.percent_bp)} of {money(base)}"
    else:
        amount, what = given.amount or 0, money(given.amount or 0)
    so_far.take(DiscountKind.AUTOMATIC, amount, f"{what} for {given.points} points or more", goods)


def _take_shipping(so_far: _Reckoning, given: FreeShipping) -> None:
    shipping = so_far.of_kind(LineKind.SHIPPING)
    base = so_far.sum_of(shipping)
    amount = base if given.maximum is None else given.maximum
    so_far.take(DiscountKind.BENEFIT, amount, f"{so_far.order.tier}: {given.text}", shipping)


def _rank(so_far: _Reckoning) -> Callable[[Voucher], tuple[bool, int, int, str]]:
    """In which order coupons are taken off: the percentage; then what is good for less before what is good for more,
    so that nothing takes another's place; of those the larger, so that fewer are used up."""

    def rank(voucher: Voucher) -> tuple[bool, int, int, str]:
        offer = voucher.offer
        if offer.kind is OfferKind.FREE_PRODUCT:
            base = 0
        elif offer.kind is OfferKind.FREE_SHIPPING:
            base = sum(so_far.order.lines[place].amount for place in so_far.of_kind(LineKind.SHIPPING))
        else:
            base = sum(so_far.order.lines[place].amount for place in so_far.goods_for(voucher.terms))
        worth = MOST_MINOR_UNITS if offer.amount is None else offer.amount
        return offer.kind is not OfferKind.DISCOUNT_PERCENT, base, -worth, voucher.code

    return rank


def _take_voucher(so_far: _Reckoning, voucher: Voucher) -> None:
    money, offer, code = so_far.order.currency.text, voucher.offer, voucher.code
    lines = so_far.goods_for(voucher.terms)
    match offer.kind:
        case OfferKind.DISCOUNT_PERCENT:
            base, percent = so_far.sum_of(lines), offer.percent_bp or 0
            reason = f"coupon {code}: {format_percent(percent)} of {money(base)}"
            so_far.take(DiscountKind.COUPON, base * percent // BASIS_POINTS, reason, lines, code)
        case OfferKind.DISCOUNT_AMOUNT:
            amount = offer.amount or 0
            so_far.take(DiscountKind.COUPON, amount, f"coupon {code}: {money(amount)}", lines, code)
        case OfferKind.FREE_PRODUCT:
            pieces = [place for place in lines if so_far.order.lines[place].sku == offer.sku]
            # The dearest piece: one of the line that costs the most a piece now.
            dearest = max(pieces, key=lambda place: (_piece(so_far, place), -place), default=None)
            if dearest is not None:
                reason = f"coupon {code}: one {offer.sku} free"
                so_far.take(DiscountKind.COUPON, _piece(so_far, dearest), reason, [dearest], code)
        case OfferKind.FREE_SHIPPING:
            shipping = so_far.of_kind(LineKind.SHIPPING)
            most = so_far.sum_of(shipping) if offer.amount is None else offer.amount
            limit = "" if offer.amount is None else f" up to {money(offer.amount)}"
            so_far.take(DiscountKind.COUPON, most, f"coupon {code}: free shipping{limit}", shipping, code)
        case _:
            # A gift card pays at the end.
            pass


def _piece(so_far: _Reckoning, place: int) -> int:
    return so_far.left[place] // so_far.order.lines[place].quantity


def _tendered(order: Order, found: Price, vouchers: Iterable[Voucher], *, shown: bool = True) -> Price:
    """The price after gift cards; first those that are coupons, each used up whole, the larger first. `shown`: with
    those that are none, too."""
    left = found.amount - found.points_amount
    tenders: list[Tender] = []
    cards = {
        voucher.code: voucher.offer.amount
        for voucher in vouchers
        if voucher.offer.kind is OfferKind.GIFT_CARD and voucher.offer.amount
    }
    for code in sorted(_covering(cards, left), key=lambda code: (-cards[code], code)):
        amount = min(cards[code], left)
        tenders.append(Tender(kind=TenderKind.COUPON, amount=amount, code=code, lost=cards[code] - amount))
        left -= amount
    if shown and (amount := min(order.gift_cards, left)):
        tenders.append(Tender(kind=TenderKind.GIFT_CARDS, amount=amount))
    return replace(found, tenders=tuple(tenders))


def _covering(cards: Mapping[str, int], left: int) -> Collection[str]:
    """Which gift cards pay so much: all, where they come to less; else those of which the least is lost, of these the
    fewest, of these the first by their codes."""
    if not left or sum(cards.values()) <= left:
        return cards if left else ()
    # In two halves: twenty cards are a million sets, and a thousand in each half.
    codes = sorted(cards)
    sums, others = (_sums(cards, half) for half in (codes[: len(codes) // 2], codes[len(codes) // 2 :]))
    amounts = sorted(others)
    best: tuple[int, int, tuple[str, ...]] | None = None
    for amount, (_, first) in sums.items():
        place = bisect_left(amounts, left - amount)
        if place < len(amounts):
            second = others[amounts[place]][1]
            found = amount + amounts[place], len(first) + len(second), (*first, *second)
            best = found if best is None else min(best, found)
    assert best is not None, "all of them together are enough"
    return best[2]


def _sums(cards: Mapping[str, int], codes: Sequence[str]) -> dict[int, tuple[int, tuple[str, ...]]]:
    """What sets of these cards come to, each with the smallest set that does, of these the first by their codes."""
    sums: dict[int, tuple[int, tuple[str, ...]]] = {0: (0, ())}
    for code in codes:
        for amount, (count, used) in list(sums.items()):
            found = count + 1, (*used, code)
            more = amount + cards[code]
            sums[more] = min(sums.get(more, found), found)
    return sums


def _goods(lines: Sequence[Line], amounts: Sequence[int]) -> int:
    return sum(amount for line, amount in zip(lines, amounts, strict=True) if line.kind is LineKind.GOODS)


def _worth(value: PointValue | None, points: int) -> int:
    return 0 if value is None else points * value.minor_units // value.points


def _points(order: Order, found: Price) -> tuple[int, Declined | None]:
    """The points that pay, at most as many as the goods cost, and why it is none of those that were wanted."""
    offered, value = order.points, order.points.value
    if not offered.wanted:
        return 0, None
    least, step = offered.rules.minimum, offered.rules.step
    if offered.frozen:
        return 0, Declined(reason=Reason.SUSPENDED, sentence="the account is suspended, and its points are frozen")
    if value is None or not value.minor_units:
        said = f"the programme gives points no worth in {order.currency.code} on that day"
        return 0, Declined(reason=Reason.POINTS_WITHOUT_VALUE, sentence=said)
    if offered.wanted > offered.available:
        said = f"{offered.wanted} points are wanted, {offered.available} are there"
        return 0, Declined(reason=Reason.NOT_ENOUGH_POINTS, sentence=said)
    if offered.wanted < least:
        return 0, Declined(reason=Reason.BELOW_MINIMUM, sentence=f"at least {least} points are redeemed at once")
    if offered.wanted % step:
        return 0, Declined(reason=Reason.NOT_IN_STEPS, sentence=f"points are redeemed in multiples of {step}")
    goods = _goods(order.lines, found.line_amounts)
    # Rounded up: the last point may be worth more than what it pays.
    enough = -(-goods * value.points // value.minor_units)
    points = min(offered.wanted, enough // step * step)
    if points < least or not _worth(value, points):
        said = f"the {order.currency.text(goods)} of goods are less than what points can pay at once"
        return 0, Declined(reason=Reason.BELOW_MINIMUM, sentence=said)
    return points, None


def _declined(order: Order, voucher: Voucher, found: Price) -> Declined:
    """Why a coupon is not used, where its own terms would let it be."""
    if voucher.offer.kind not in _AT_CHECKOUT:
        said = "this coupon takes nothing off a price; it is redeemed by itself"
        return Declined(code=voucher.code, reason=Reason.NOT_FOR_CHECKOUT, sentence=said)
    alone = _discounted(order, _Chosen((voucher,), with_tier=voucher.terms.stacking is not Stacking.EXCLUSIVE))
    if voucher.code not in alone.codes:
        said = "nothing in the basket is what this coupon is for"
        return Declined(code=voucher.code, reason=Reason.GIVES_NOTHING, sentence=said)
    match voucher.terms.stacking:
        case Stacking.EXCLUSIVE:
            said = "it cannot be used with the tier's discount or another coupon, and those are worth more"
        case Stacking.WITH_TIER:
            said = "it cannot be used with another coupon, and those are worth more"
        case _:
            if voucher.offer.kind is OfferKind.DISCOUNT_PERCENT:
                said = "only one percentage coupon can be used at once, and another one is worth more"
            elif found.codes and not _shares(order, found):
                said = "the coupon that is worth more cannot be used with another one"
            else:
                said = "the others leave nothing for it"
                return Declined(code=voucher.code, reason=Reason.GIVES_NOTHING, sentence=said)
    return Declined(code=voucher.code, reason=Reason.NOT_COMBINABLE, sentence=said)


def _shares(order: Order, found: Price) -> bool:
    """Whether the coupons that are used let others be used beside them."""
    stackings = {voucher.terms.stacking for voucher in order.vouchers if voucher.code in found.codes}
    return stackings <= {Stacking.ANY}
