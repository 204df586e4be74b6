"""Carries committed checkouts to their end, whole or not at all, whoever dies on the way (DESIGN §7).

A sale is carried on under a lease: by the call that committed it, or, when its lease has run out, by whoever finds it.
Every step may be done twice; the row moves on only where nobody else has moved it, so that two who meet do no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final, Protocol

import structlog

from services.notifier.domain import sales
from services.notifier.domain.sales import Answer, Recorded, Rejection, Sale, SaleContent, SaleState, Sold
from services.notifier.domain.uses import UseContext
from services.notifier.errors import (
    CouponUnknownError,
    MemberUnknownError,
    PeerError,
    PeerRefusedError,
    RefusedError,
)
from services.notifier.service.coupons import CouponService
from services.notifier.store import Store, Transaction
from services.notifier.store.checkouts import CheckoutKey, UndoneCheckout
from services.runtime.clock import MachineClock
from services.runtime.database import CONNECTION_ERRORS, PASSING_ERRORS

log = structlog.get_logger()

# How often it is looked for sales that somebody left.
_LOOK_SECONDS: Final = 1.0
_AT_ONCE: Final = 100
_SIDE_BY_SIDE: Final = 4
# What cannot go on now is tried again after so long.
_PEER_AWAY: Final = timedelta(seconds=1)
# Nothing is begun towards the end of a lease: what is asked of others is answered, or given up, within it.
_MARGIN: Final = timedelta(seconds=7)

# Called between the steps of a sale, with the name of the one that was done.
Between = Callable[[str], Awaitable[None]]


class Till(Protocol):
    """The ledger; see `till_client`."""

    async def hold(self, sale: Sale, content: SaleContent) -> None:
        """Holds the points that pay."""

    async def release(self, sale: Sale, content: SaleContent) -> None:
        """Gives them back."""

    async def record(self, sale: Sale, content: SaleContent) -> Recorded:
        """Records the purchase, and spends them."""

    async def all_came_back(self, member_id: str, purchase_id: str) -> bool:
        """Whether nothing of a purchase is left."""


class Sales:
    """Runs for as long as the service lives; several may run at once, also in several processes."""

    def __init__(
        self,
        *,
        store: Store,
        coupons: CouponService,
        till: Till,
        machine_now: MachineClock,
        between: Between | None = None,
    ) -> None:
        self._store = store
        self._coupons = coupons
        self._till = till
        self._now = machine_now
        self._between = between or _at_once

    async def run(self) -> None:
        """Carries on for ever what somebody left, and gives coupons back whose purchases came back whole."""
        while True:
            if not await self.recover() + await self.restore():
                await asyncio.sleep(_LOOK_SECONDS)

    async def recover(self) -> int:
        """Carries on what nobody else does, and says how much that was."""
        now = self._now()
        keys = await self._store.read(lambda transaction: transaction.find_unfinished_checkouts(now, _AT_ONCE))
        await _each({key: partial(self.take_up, key) for key in keys})
        return len(keys)

    async def restore(self) -> int:
        """Gives back the coupons of sales of which all came back, and says of how many sales something had (§12.4);
        those of which the ledger cannot say yet are looked at again."""
        found = await self._store.read(lambda transaction: transaction.find_undone_checkouts(_AT_ONCE))
        return await _each({checkout.key: partial(self._restore, checkout) for checkout in found})

    async def _restore(self, checkout: UndoneCheckout) -> None:
        _, member_id, checkout_id = checkout.key
        # A gift card is a tender: the ledger's refund has what it paid, and it must not be paid out twice.
        codes = checkout.sold.quote.price.discount_codes
        # Of who is erased there is nothing to be asked, and nothing to be given back.
        with contextlib.suppress(PeerRefusedError, MemberUnknownError):
            if codes and await self._till.all_came_back(member_id, checkout_id):
                for code in codes:
                    with contextlib.suppress(RefusedError, CouponUnknownError):
                        await self._coupons.release(
                            request_id=f"{checkout.sale_id}-restore",
                            content=b"",
                            code=code,
                            use_id=checkout.sale_id,
                            redeemed=True,
                        )
        await self._store.transact(lambda transaction: transaction.settle_undone_checkout(checkout))

    async def take_up(self, key: CheckoutKey) -> bool:
        """Carries a sale on where nobody else does, and says whether it did.

        Raises PeerError where it cannot go on now; it is tried again then.
        """
        now = self._now()

        async def take(transaction: Transaction) -> Sale | None:
            return await transaction.take_checkout(key, now=now, until=now + sales.LEASE)

        sale = await self._store.transact(take)
        if sale is None:
            return False
        await self.carry_on(sale)
        return True

    async def carry_on(self, sale: Sale) -> None:
        """Carries a sale on whose lease is the caller's. Where it cannot go on now, somebody else may soon."""
        await self._between("intent")
        while sale.state.unfinished:
            try:
                moved = await self._step(sale)
            except PeerError:
                await self._postpone(sale, _PEER_AWAY)
                raise
            if moved is None:
                # Somebody has cancelled it, or goes on with it.
                moved = await self._still_ours(sale)
                if moved is None:
                    return
            sale = moved

    async def _step(self, sale: Sale) -> Sale | None:
        match sale.state:
            case SaleState.STARTED:
                return await self._start(sale)
            case SaleState.RECORDING:
                return await self._record(sale)
            case _:
                return await self._let_go(sale)

    async def _start(self, sale: Sale) -> Sale | None:
        """Reserves coupons and holds points; then the ledger decides."""
        if self._now() - sale.started_time > sales.PATIENCE:
            return await self._move(sale, SaleState.RELEASING, Answer(rejection=sales.TIMED_OUT))
        rejection = await self._set_aside(sale)
        if rejection is not None:
            return await self._move(sale, SaleState.RELEASING, Answer(rejection=rejection))
        return await self._move(sale, SaleState.RECORDING)

    async def _set_aside(self, sale: Sale) -> Rejection | None:
        content = _content(sale)
        for code in content.quote.price.codes:
            self._in_time(sale)
            try:
                await self._coupons.reserve(
                    request_id=f"{sale.sale_id}-reserve",
                    content=b"",
                    code=code,
                    context=_context(sale),
                    ttl=sales.COUPONS_RESERVED,
                    use_id=sale.sale_id,
                )
            except RefusedError as error:
                facts = {"coupon_code": code, **error.facts}
                return Rejection(code="FAILED_PRECONDITION", reason=error.reason, message=str(error), metadata=facts)
            except CouponUnknownError as error:
                facts = {"coupon_code": code}
                return Rejection(code="NOT_FOUND", reason="COUPON_UNKNOWN", message=str(error), metadata=facts)
            await self._between("coupon reserved")
        if content.quote.price.points:
            self._in_time(sale)
            try:
                await self._till.hold(sale, content)
            except (PeerRefusedError, MemberUnknownError) as error:
                return _rejection(error)
            await self._between("points held")
        return None

    def _in_time(self, sale: Sale) -> None:
        """Raises PeerError where the lease is too short for another step: whoever comes next begins it anew."""
        if self._now() + _MARGIN > sale.lease_until:
            raise PeerError("a checkout took too long")

    async def _record(self, sale: Sale) -> Sale | None:
        """Has the ledger record it; once it has, the coupons are used up."""
        content = _content(sale)
        price = content.quote.price
        recorded = Recorded(available_points=content.quote.available_points)
        # What costs nothing is no purchase: the coupons alone make it one.
        if price.amount:
            self._in_time(sale)
            try:
                recorded = await self._till.record(sale, content)
            except (PeerRefusedError, MemberUnknownError) as error:
                rejection = _rejection(error)
                # The ledger was away for longer than it holds points.
                lapsed = rejection.reason == "HOLD_UNKNOWN"
                answer = Answer(rejection=sales.TIMED_OUT if lapsed else rejection)
                return await self._move(sale, SaleState.RELEASING, answer)
            await self._between("recorded")
        for code in price.codes:
            # It is sold: nothing that has happened to the coupon since can undo that.
            await self._coupons.redeem(
                request_id=f"{sale.sale_id}-redeem",
                content=b"",
                code=code,
                context=_context(sale),
                use_id=sale.sale_id,
                occurred_time=content.quote.occurred_time,
                purchase_id=sale.checkout_id,
                offline=True,
            )
            await self._between("coupon redeemed")
        sold = Sold(
            checkout_id=sale.checkout_id,
            quote=replace(content.quote, earned=recorded.points, rules=recorded.rules),
            redemption_id=sale.redemption_id if price.points else "",
            recorded=recorded,
        )
        return await self._move(sale, SaleState.DONE, Answer(sold=sold))

    async def _let_go(self, sale: Sale) -> Sale | None:
        """Gives coupons and points back. The coupons first: for that nobody else is needed."""
        content = _content(sale)
        for code in content.quote.price.codes:
            # What was not reserved needs no release; what cost nothing can be let go when its coupons are used up.
            with contextlib.suppress(RefusedError, CouponUnknownError):
                await self._coupons.release(
                    request_id=f"{sale.sale_id}-release",
                    content=b"",
                    code=code,
                    use_id=sale.sale_id,
                    redeemed=sale.state is SaleState.CANCELLING,
                )
            await self._between("coupon released")
        if content.quote.price.points:
            await self._till.release(sale, content)
            await self._between("points released")
        ended = SaleState.REFUSED if sale.state is SaleState.RELEASING else SaleState.CANCELLED
        return await self._move(sale, ended)

    async def _move(self, sale: Sale, to: SaleState, answer: Answer | None = None) -> Sale | None:
        """Moves a sale on under a lease that begins anew, with the answer to its request; None where it has moved."""
        until = self._now() + sales.LEASE

        async def move(transaction: Transaction) -> bool:
            moved = await transaction.move_checkout(sale, to, until)
            if moved and answer is not None:
                await transaction.answer_checkout_request(sale.partition, sale.member_id, sale.request_id, answer)
            return moved

        if not await self._store.transact(move):
            return None
        await self._between(to.value)
        return replace(sale, state=to, lease_until=until)

    async def _still_ours(self, sale: Sale) -> Sale | None:
        """The sale as it stands, where the lease is still the caller's and something is left to do."""
        found = await self._store.read(lambda transaction: transaction.find_checkout(_key(sale)))
        same = found is not None and (found.sale_id, found.lease_until) == (sale.sale_id, sale.lease_until)
        return found if found is not None and same and found.state.unfinished else None

    async def _postpone(self, sale: Sale, span: timedelta) -> None:
        until = self._now() + span
        await self._store.transact(
            lambda transaction: transaction.postpone_checkout(_key(sale), sale.lease_until, until)
        )


async def _each(work: Mapping[CheckoutKey, Callable[[], Awaitable[object]]]) -> int:
    """Does what each of these checkouts needs, a few side by side, and says of how many that went; the others are tried
    again later."""
    places = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def one(key: CheckoutKey) -> bool:
        async with places:
            try:
                await work[key]()
            except PeerError:
                log.info("checkout_waits", checkout_id=key[2])
            except (*CONNECTION_ERRORS, *PASSING_ERRORS):
                raise
            except Exception:
                # A fault must not stand in the way of others.
                log.exception("checkout_failed", checkout_id=key[2])
            else:
                return True
            return False

    went = 0
    for outcome in await asyncio.gather(*(one(key) for key in work), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        went += outcome
    return went


async def _at_once(step: str) -> None:
    """Nothing is done between the steps."""


def _key(sale: Sale) -> CheckoutKey:
    return sale.partition, sale.member_id, sale.checkout_id


def _content(sale: Sale) -> SaleContent:
    assert sale.content is not None, "a sale that is not over has its content"
    return sale.content


def _context(sale: Sale) -> UseContext:
    """Where its coupons are used; what of the basket they ask for was decided with the price."""
    content = _content(sale)
    return UseContext(
        member_id=sale.member_id, tier=content.tier_key, store_id=content.store_id, channel=content.channel
    )


def _rejection(error: PeerRefusedError | MemberUnknownError) -> Rejection:
    if isinstance(error, MemberUnknownError):
        return Rejection(code="NOT_FOUND", reason="MEMBER_UNKNOWN", message=str(error))
    return Rejection(code=error.code, reason=error.reason, message=str(error), metadata=error.metadata)
