"""Checkouts: what a basket costs, and its sale."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from services.notifier.domain import checkout, sales
from services.notifier.domain.bookings import checkout_name
from services.notifier.domain.checkout import Currency, Declined, FreeShipping, Line, LineKind, Order, PointsOffered
from services.notifier.domain.contacts import partition_of
from services.notifier.domain.coupons import Coupon
from services.notifier.domain.digests import keyed_digest
from services.notifier.domain.programmes import Programmes
from services.notifier.domain.sales import (
    Answer,
    Buyer,
    BuyerStanding,
    Identifier,
    Quote,
    Rejection,
    RulePoints,
    Sale,
    SaleContent,
    SaleState,
    Sold,
    SoldLine,
)
from services.notifier.domain.uses import Goods, Refusal, UseContext
from services.notifier.errors import (
    CheckoutInProgressError,
    CheckoutRefusedError,
    CouponUnknownError,
    FieldError,
    MemberErasedError,
    OccurredInFutureError,
    PeerError,
    PeerRefusedError,
)
from services.notifier.service.coupons import CouponService
from services.notifier.service.requests import lies_ahead, same_request
from services.notifier.service.sales import Sales
from services.notifier.store import Store, Transaction
from services.notifier.store.checkouts import CheckoutKey, CheckoutRequest
from services.programme.checkout import FREE_SHIPPING, AutomaticDiscount
from services.programme.currencies import MINOR_UNIT_DIGITS
from services.programme.model import SUSPENDED, PointValue, Programme
from services.runtime.clock import MachineClock

# How often it is looked whether somebody else has carried a checkout to its end.
_LOOK_SECONDS: Final = 0.05
_LONGEST_LOOK_SECONDS: Final = 0.5
_CANCELLED: Final = (SaleState.CANCELLING, SaleState.CANCELLED)
# The least that times differ by.
_LEAST: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A basket, as it was sent. Who buys is told by id or by identifier; `occurred_time` is None for now.

    `wait_seconds`: how long the answer may wait for tiers, where there is a causal token. Each code is looked up within
    `trying_code`, which counts those that no coupon has, and raises WrongCodesError where they were too many.
    """

    buyer: str | Identifier
    currency_code: str
    lines: tuple[Line, ...]
    codes: tuple[str, ...]
    points: int
    gift_cards: int
    store_id: str
    channel: str
    occurred_time: datetime | None
    causal_token: str
    on_behalf_of: str
    wait_seconds: float
    trying_code: Callable[[], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A basket that is to be sold at the price that was quoted. `content`: the request as it was sent."""

    request_id: str
    checkout_id: str
    asked: Asked
    expected_currency: str
    expected_pay: int
    receipt_number: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    """What was found of a code that was typed in: the coupon, or none, and why it cannot be used, where it cannot."""

    code: str
    coupon: Coupon | None
    refusal: Refusal | None


class Desk(Protocol):
    """The ledger and tiers; see `till_client`."""

    async def member(self, member_id: str, on_behalf_of: str) -> Buyer:
        """A member by its id."""

    async def identified(self, identifier: Identifier, on_behalf_of: str) -> Buyer:
        """A member by what was shown."""

    async def standing(
        self, member_id: str, at_time: datetime | None, causal_token: str, on_behalf_of: str, seconds: float
    ) -> BuyerStanding | None:
        """The member's tier."""

    async def earned(self, member_id: str, content: SaleContent) -> tuple[int, tuple[RulePoints, ...]]:
        """What a purchase would earn."""


class CheckoutService:
    """Quotes, commits and cancels checkouts. `request_key` makes the digests of requests and the ids of sales."""

    def __init__(
        self,
        *,
        store: Store,
        coupons: CouponService,
        desk: Desk,
        sales: Sales,
        programmes: Programmes,
        partitions: int,
        simulated: bool,
        request_key: bytes,
        machine_now: MachineClock,
        business_now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._coupons = coupons
        self._desk = desk
        self._sales = sales
        self._programmes = programmes
        self._partitions = partitions
        self._simulated = simulated
        self._request_key = request_key
        self._now = machine_now
        self._business_now = business_now

    async def quote(self, asked: Asked) -> Quote:
        """What a basket costs now, and why. Nothing is kept.

        Raises FieldError, OccurredInFutureError, MemberUnknownError, PeerRefusedError, PeerError, NotCaughtUpError.
        """
        return (await self._priced(asked)).quote

    async def commit(self, commit: Commit) -> tuple[Sold, bool]:
        """Sells a basket, and says whether this request was answered before.

        Raises what `quote` does; MemberErasedError; RequestIdReusedError; CheckoutRefusedError, which is the answer for
        ever; and CheckoutInProgressError where the end is not known in time. What was begun is carried to its end,
        whoever dies.
        """
        asked = commit.asked
        until = time.monotonic() + asked.wait_seconds
        digest = keyed_digest(self._request_key, "checkout", commit.content)
        buyer = await self._identified_before(asked.buyer, asked.on_behalf_of, digest)
        key = self._key(buyer, commit.checkout_id)
        before = await self._find(key, commit.request_id)
        if before is not None:
            same_request(before.content_digest, digest)
        elif not await self._told_of_other(key, commit.request_id, digest):
            await self._begin(key, commit, digest, await self._priced(asked, buyer, commit.receipt_number))
        replayed = before is not None
        answer = await self._end(key, commit.request_id, until)
        # What cost nothing is the one sale that can be let go once it is told.
        if answer.sold is not None and not answer.sold.purchase and await self._cancelled(key):
            answer = Answer(rejection=sales.CANCELLED)
        return _told(answer, replayed=replayed), replayed

    async def cancel(
        self, *, request_id: str, checkout_id: str, buyer: str | Identifier, on_behalf_of: str, content: bytes,
        wait_seconds: float,
    ) -> bool:  # fmt: skip
        """Lets a checkout go, and says whether this request was answered before.

        One that nobody committed is cancelled, too: a commit that comes later is refused. So is one that cost nothing,
        and recorded no purchase. Raises CheckoutRefusedError where any other is complete, CheckoutInProgressError where
        the ledger has it and its end is not known in time, RequestIdReusedError, MemberUnknownError,
        MemberErasedError, PeerError.
        """
        until = time.monotonic() + wait_seconds
        digest = keyed_digest(self._request_key, "cancel", content)
        key = self._key(await self._identified_before(buyer, on_behalf_of, digest), checkout_id)
        member_id = key[1]
        if (before := await self._find(key, request_id)) is not None:
            same_request(before.content_digest, digest)
            _told_cancelled(before.answer, replayed=True)
            return True
        begun = await self._store.read(lambda transaction: transaction.find_checkout(key))
        # Only of a member that there is something is kept.
        if begun is None and (await self._desk.member(member_id, on_behalf_of)).erased:
            raise MemberErasedError
        while (answer := await self._cancel(key, request_id, digest)) is None:
            # The ledger decides: once it has, the checkout is complete or free.
            if time.monotonic() >= until:
                raise CheckoutInProgressError
            await self._sales.take_up(key)
            await asyncio.sleep(_LOOK_SECONDS)
        _told_cancelled(answer, replayed=False)
        # It is decided; what cannot be given back now is given back later.
        with contextlib.suppress(PeerError):
            await self._sales.take_up(key)
        return False

    async def _cancelled(self, key: CheckoutKey) -> bool:
        sale = await self._store.read(lambda transaction: transaction.find_checkout(key))
        return sale is not None and sale.state in _CANCELLED

    async def _find(self, key: CheckoutKey, request_id: str) -> CheckoutRequest | None:
        partition, member_id, _ = key

        async def look(transaction: Transaction) -> CheckoutRequest | None:
            return await transaction.find_checkout_request(partition, member_id, request_id)

        return await self._store.read(look)

    async def _told_of_other(self, key: CheckoutKey, request_id: str, digest: bytes) -> bool:
        """Refuses a request whose checkout another one has sold or cancelled, whatever it would cost now; False where
        none has. Raises CheckoutInProgressError where it is not known yet."""
        partition, member_id, checkout_id = key

        async def refuse(transaction: Transaction) -> bool:
            other = await transaction.find_checkout(key)
            ids = (partition, member_id, request_id)
            if other is None or other.request_id != request_id:
                refused = await _in_the_way(transaction, other)
                if refused is None:
                    return False
                answer = Answer(rejection=refused)
                request = CheckoutRequest(content_digest=digest, checkout_id=checkout_id, answer=answer)
                if await transaction.insert_checkout_request(*ids, request, self._now()):
                    return True
            # The same request came twice at once, and the other one was first.
            first = await transaction.find_checkout_request(*ids)
            assert first is not None
            same_request(first.content_digest, digest)
            return True

        return await self._store.transact(refuse)

    async def _begin(self, key: CheckoutKey, commit: Commit, digest: bytes, content: SaleContent) -> None:
        """Writes down what is to be sold, before anything of it happens, and carries it on; or why it is not sold."""
        partition, member_id, checkout_id = key
        now = self._now()
        rejection: Rejection | None = None
        if (content.quote.price.pay, commit.asked.currency_code) != (commit.expected_pay, commit.expected_currency):
            expected_in = _currency("expected_pay.currency_code", commit.expected_currency)
            rejection = sales.price_changed(content.quote, commit.expected_pay, expected_in)
        sale = Sale(
            partition=partition,
            member_id=member_id,
            checkout_id=checkout_id,
            request_id=commit.request_id,
            sale_id=checkout_name(self._request_key, member_id, commit.request_id),
            state=SaleState.STARTED,
            content=content,
            started_time=now,
            lease_until=now + sales.LEASE,
        )

        async def keep(transaction: Transaction) -> bool:
            if await transaction.find_erasure(partition, member_id) is not None:
                # Since the basket was priced.
                raise MemberErasedError
            request = CheckoutRequest(content_digest=digest, checkout_id=checkout_id, answer=None)
            ids = (partition, member_id, commit.request_id)
            if not await transaction.insert_checkout_request(*ids, request, now):
                # The same request came twice at once, and the other one was first.
                first = await transaction.find_checkout_request(*ids)
                assert first is not None
                same_request(first.content_digest, digest)
                return False
            refused = await _in_the_way(transaction, await transaction.find_checkout(key)) or rejection
            if refused is None and not await transaction.insert_checkout(sale):
                refused = await _in_the_way(transaction, await transaction.find_checkout(key))
                if refused is None:
                    # What was in the way was refused since.
                    raise CheckoutInProgressError
            if refused is not None:
                await transaction.answer_checkout_request(*ids, Answer(rejection=refused))
            return refused is None

        if await self._store.transact(keep):
            try:
                await self._sales.carry_on(sale)
            except PeerError:
                # A refusal holds, though what was set aside for it cannot be given back yet.
                kept = await self._find(key, commit.request_id)
                if kept is None or kept.answer is None:
                    raise

    async def _end(self, key: CheckoutKey, request_id: str, until: float) -> Answer:
        """The answer to a request that was kept, by then: the sale is carried on where nobody else does, else waited
        for."""
        pause = _LOOK_SECONDS
        while True:
            request = await self._find(key, request_id)
            if request is not None and request.answer is not None:
                return request.answer
            if request is None or time.monotonic() >= until:
                raise CheckoutInProgressError
            if not await self._sales.take_up((key[0], key[1], request.checkout_id)):
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_LOOK_SECONDS)

    async def _cancel(self, key: CheckoutKey, request_id: str, digest: bytes) -> Answer | None:
        """Decides what becomes of a checkout that is to be let go; None while the ledger decides."""
        partition, member_id, checkout_id = key
        now = self._now()

        async def decide(transaction: Transaction) -> Answer | None:
            answer = await self._let_go(transaction, key, request_id, now)
            if answer is None:
                return None
            request = CheckoutRequest(content_digest=digest, checkout_id=checkout_id, answer=answer)
            if await transaction.insert_checkout_request(partition, member_id, request_id, request, now):
                return answer
            kept = await transaction.find_checkout_request(partition, member_id, request_id)
            assert kept is not None
            same_request(kept.content_digest, digest)
            return kept.answer

        return await self._store.transact(decide)

    async def _let_go(
        self, transaction: Transaction, key: CheckoutKey, request_id: str, now: datetime
    ) -> Answer | None:
        partition, member_id, checkout_id = key
        cancelled = await transaction.cancel_checkout(key)
        if cancelled is not None:
            # What was refused keeps its refusal.
            refused = Answer(rejection=sales.CANCELLED)
            await transaction.answer_checkout_request(partition, member_id, cancelled.request_id, refused)
            return Answer()
        found = await transaction.find_checkout(key)
        if found is None:
            never = Sale(
                partition=partition,
                member_id=member_id,
                checkout_id=checkout_id,
                request_id=request_id,
                sale_id="",
                state=SaleState.CANCELLED,
                content=None,
                started_time=now,
                lease_until=now,
            )
            return Answer() if await transaction.insert_checkout(never) else None
        if found.state is SaleState.DONE:
            sold = await _sold(transaction, found)
            if sold is None or sold.purchase:
                return Answer(rejection=sales.COMPLETED)
            # There is nothing that could be returned or voided.
            gone = await transaction.cancel_done_checkout(key, _nothing_but(sold), now)
            return Answer() if gone else None
        # One that began since we looked is let go the next time.
        return Answer() if found.state in _CANCELLED else None

    async def _identified(self, buyer: str | Identifier, on_behalf_of: str) -> str | Buyer:
        """The member that was shown; an id is taken as it is."""
        return buyer if isinstance(buyer, str) else await self._desk.identified(buyer, on_behalf_of)

    async def _identified_before(self, buyer: str | Identifier, on_behalf_of: str, digest: bytes) -> str | Buyer:
        """The member that was shown; the one who was, where the same request came before: what was shown may be
        blocked, or another member's, by now."""
        if isinstance(buyer, str):
            return buyer
        known = await self._store.read(lambda transaction: transaction.find_checkout_member(digest))
        return known or await self._identified(buyer, on_behalf_of)

    def _key(self, buyer: str | Buyer, checkout_id: str) -> CheckoutKey:
        member_id = buyer if isinstance(buyer, str) else buyer.member_id
        return partition_of(member_id, self._partitions), member_id, checkout_id

    async def _priced(self, asked: Asked, shown: str | Buyer | None = None, receipt_number: str = "") -> SaleContent:
        """What a basket costs, and all that it takes to sell it at that. `shown`: the buyer, where it was looked up."""
        currency = _currency("currency_code", asked.currency_code)
        if shown is None:
            shown = await self._identified(asked.buyer, asked.on_behalf_of)
        if isinstance(shown, str):
            member, standing = self._desk.member(shown, asked.on_behalf_of), self._standing(shown, asked)
            buyer, standing_now = await asyncio.gather(member, standing)
        else:
            buyer, standing_now = shown, await self._standing(shown.member_id, asked)
        return await self._reckoned(asked, buyer, standing_now, currency, receipt_number)

    async def _standing(self, member_id: str, asked: Asked) -> BuyerStanding | None:
        return await self._desk.standing(
            member_id, asked.occurred_time, asked.causal_token, asked.on_behalf_of, asked.wait_seconds
        )

    async def _reckoned(
        self, asked: Asked, buyer: Buyer, standing: BuyerStanding | None, currency: Currency, receipt_number: str
    ) -> SaleContent:
        occurred = asked.occurred_time
        if occurred is None and standing is not None:
            occurred = standing.at_time
        elif occurred is None:
            # Whoever has just joined buys after that, whatever our clock says.
            occurred = max(self._business_now(), buyer.joined_time + _LEAST)
        programme = self._programmes.at(occurred)
        number, key, name = _tier(programme, standing)
        context = UseContext(
            member_id=buyer.member_id,
            tier=key,
            store_id=asked.store_id,
            channel=asked.channel,
            goods=tuple(
                Goods(sku=line.sku, department=line.department, minor_units=line.amount)
                for line in asked.lines
                if line.kind is LineKind.GOODS
            ),
        )
        looked = await asyncio.gather(
            *(self._look(code, context, asked.trying_code) for code in dict.fromkeys(asked.codes))
        )
        usable, declined = _usable(looked, currency, programme)
        order = Order(
            currency=currency,
            lines=asked.lines,
            tier=name,
            tier_bp=standing.discount_bp if standing is not None else 0,
            automatic=_automatic(programme, currency, buyer, standing),
            free_shipping=_free_shipping(standing, currency),
            vouchers=usable,
            points=PointsOffered(
                wanted=asked.points,
                available=buyer.available_points,
                value=_value(programme, currency, occurred),
                rules=programme.redemption,
                frozen=standing is not None and standing.suspended,
            ),
            gift_cards=asked.gift_cards,
        )
        price = checkout.price(order)
        price = replace(price, declined=(*declined, *price.declined))
        quote = Quote(
            member_id=buyer.member_id,
            tier=name,
            tier_number=number,
            currency=currency,
            line_prices=tuple(line.price for line in asked.lines),
            price=price,
            earned=0,
            rules=(),
            benefits=standing.benefits if standing is not None else (),
            summary="",
            occurred_time=occurred,
            available_points=buyer.available_points,
        )
        content = SaleContent(
            quote=quote,
            lines=tuple(
                SoldLine.of(line, amount) for line, amount in zip(asked.lines, price.line_amounts, strict=True)
            ),
            store_id=asked.store_id,
            channel=asked.channel,
            receipt_number=receipt_number,
            on_behalf_of=asked.on_behalf_of,
            tier_key=key,
        )
        # Who has left by now buys nothing now, though it may be before that by our clock or by that of tiers.
        if (why_not := buyer.why_not(asked.occurred_time)) is not None:
            raise PeerRefusedError(why_not.code, why_not.reason, why_not.message)
        if price.amount:
            earned, rules = await self._desk.earned(buyer.member_id, content)
        elif lies_ahead(occurred, now := self._business_now(), simulated=self._simulated):
            raise OccurredInFutureError(occurred, now)
        else:
            # What costs nothing is no purchase, and earns nothing: the ledger is not asked.
            earned, rules = 0, ()
        quote = replace(quote, earned=earned, rules=rules, summary=checkout.sentence(order, price, earned))
        return replace(content, quote=quote)

    async def _look(
        self, code: str, context: UseContext, trying: Callable[[], AbstractAsyncContextManager[None]]
    ) -> _Looked:
        try:
            async with trying():
                verdict = await self._coupons.validate(code, context)
        except CouponUnknownError as error:
            return _Looked(code=code, coupon=None, refusal=Refusal(reason="COUPON_UNKNOWN", sentence=str(error)))
        return _Looked(code=verdict.coupon.code, coupon=verdict.coupon, refusal=verdict.refusal)


def _tier(programme: Programme, standing: BuyerStanding | None) -> tuple[int, str, str]:
    """Number, key and name of the tier whose benefits are in force; the first of whom tiers know nothing yet. The key
    is SUSPENDED of an account that is."""
    if standing is not None and not 1 <= standing.tier_number <= len(programme.tiers.levels):
        return 0, SUSPENDED if standing.suspended else "", ""
    level = programme.tiers.level(1 if standing is None else standing.tier_number)
    return level.number, level.key, level.name


def _usable(
    looked: Sequence[_Looked], currency: Currency, programme: Programme
) -> tuple[tuple[checkout.Voucher, ...], tuple[Declined, ...]]:
    usable: dict[str, checkout.Voucher] = {}
    declined: dict[str, Declined] = {}
    for one in looked:
        foreign = one.coupon is not None and _in_another_currency(one.coupon, currency, programme)
        # A minimum of the programme's currency says nothing of this basket.
        if one.refusal is not None and not (foreign and one.refusal.reason == "COUPON_BELOW_MINIMUM"):
            declined[one.code] = Declined(code=one.code, reason=one.refusal.reason, sentence=one.refusal.sentence)
        elif one.coupon is None:
            continue
        elif foreign:
            said = f"the coupon is worth, or asks for, an amount of {programme.currency}"
            declined[one.code] = Declined(code=one.code, reason="CURRENCY_MISMATCH", sentence=said)
        else:
            coupon = one.coupon
            usable[coupon.code] = checkout.Voucher(code=coupon.code, offer=coupon.offer, terms=coupon.terms)
    return tuple(usable.values()), tuple(declined[code] for code in sorted(declined))


def _in_another_currency(coupon: Coupon, currency: Currency, programme: Programme) -> bool:
    """Whether a coupon speaks of an amount, which is in the programme's currency, and the basket is in another."""
    told = coupon.offer.amount is not None or coupon.terms.minimum_minor_units > 0
    return told and currency.code != programme.currency


def _automatic(
    programme: Programme, currency: Currency, buyer: Buyer, standing: BuyerStanding | None
) -> AutomaticDiscount | None:
    found = programme.checkout.automatic_for(buyer.available_points)
    if found is None or (standing is not None and standing.suspended):
        return None
    return None if found.amount is not None and currency.code != programme.currency else found


def _free_shipping(standing: BuyerStanding | None, currency: Currency) -> FreeShipping | None:
    if standing is None:
        return None
    found = next((benefit for benefit in standing.benefits if benefit.id == FREE_SHIPPING), None)
    if found is None or (found.maximum is not None and found.currency_code != currency.code):
        return None
    return FreeShipping(text=found.text, maximum=found.maximum)


def _value(programme: Programme, currency: Currency, occurred: datetime) -> PointValue | None:
    if programme.liability is None or currency.code != programme.currency:
        return None
    return programme.liability.value_at(programme.local_day(occurred))


async def _in_the_way(transaction: Transaction, other: Sale | None) -> Rejection | None:
    """Why a checkout cannot begin where there is this one of its id, or none: it was sold, or cancelled; None where it
    can. Raises CheckoutInProgressError where it is not known yet."""
    if other is None or other.state is SaleState.REFUSED:
        return None
    if other.state in _CANCELLED:
        return sales.CANCELLED
    if other.state is SaleState.DONE:
        return sales.exists(await _sold(transaction, other))
    raise CheckoutInProgressError


async def _sold(transaction: Transaction, sale: Sale) -> Sold | None:
    """What became of a complete checkout, by the answer to the request that sold it."""
    request = await transaction.find_checkout_request(sale.partition, sale.member_id, sale.request_id)
    return None if request is None or request.answer is None else request.answer.sold


def _nothing_but(sold: Sold) -> SaleContent:
    """What it takes to let a sale go that is complete: its coupons, by its price."""
    return SaleContent(
        quote=sold.quote, lines=(), store_id="", channel="", receipt_number="", on_behalf_of="", tier_key=""
    )


def _currency(field: str, code: str) -> Currency:
    digits = MINOR_UNIT_DIGITS.get(code)
    if digits is None:
        raise FieldError(field, "there is no such currency")
    return Currency(code=code, digits=digits)


def _told(answer: Answer, *, replayed: bool) -> Sold:
    if answer.rejection is not None:
        raise _refused(answer.rejection, replayed=replayed)
    # A request that cancels has another content than one that commits.
    assert answer.sold is not None
    return answer.sold


def _told_cancelled(answer: Answer | None, *, replayed: bool) -> None:
    # What cancels is answered when it is kept.
    if answer is not None and answer.rejection is not None:
        raise _refused(answer.rejection, replayed=replayed)


def _refused(rejection: Rejection, *, replayed: bool) -> CheckoutRefusedError:
    facts: Mapping[str, str] = rejection.metadata
    return CheckoutRefusedError(rejection.code, rejection.reason, rejection.message, facts, replayed=replayed)
