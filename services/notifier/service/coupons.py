"""What callers ask of coupons."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from services.notifier.domain.codes import CouponCodes
from services.notifier.domain.contacts import partition_of
from services.notifier.domain.coupons import Coupon, CouponState
from services.notifier.domain.digests import keyed_digest
from services.notifier.domain.issuing import Limits, beyond
from services.notifier.domain.pools import CodeProblem, PoolCode, ProblemLine, against_kept, folded, read_lines
from services.notifier.domain.uses import (
    ERASED,
    NO_MEMBER,
    CouponLoss,
    CouponUse,
    Money,
    Now,
    Redeem,
    Refusal,
    Release,
    Reserve,
    UseCommand,
    UseContext,
    Uses,
    needs_tier,
    why_not,
    worth,
)
from services.notifier.errors import (
    CouponUnknownError,
    FieldError,
    MemberErasedError,
    MemberUnknownError,
    OccurredInFutureError,
    RefusedError,
)
from services.notifier.progress import Progress
from services.notifier.service.issuing import CodeTakenError, CouponMaker
from services.notifier.service.page_tokens import PageTokens
from services.notifier.service.requests import is_member, lies_ahead, same_request
from services.notifier.service.uses import TierAskedError, UsedCoupon, UseDesk
from services.notifier.store import Store, Transaction
from services.notifier.store.coupons import CouponPlace
from services.notifier.store.uses import CouponRequest
from services.programme.rewards import Offer, Terms
from services.runtime.clock import MachineClock, microseconds, moment

DEFAULT_PAGE: Final = 50
DEFAULT_RESERVATION: Final = timedelta(minutes=10)
# A coupon that can be used more often is shown without its uses.
_MOST_USES_SHOWN: Final = 100

_FIRST = CouponPlace(issued_time=datetime.max.replace(tzinfo=UTC), code="~")
# A coupon that another request makes at the same moment is found at the next try.
_TRIES = 3

T = TypeVar("T")

# The key of the tier whose benefits a member has, empty for none, SUSPENDED of a suspended account, None of whom tiers
# does not know as a member now; raises PeerError.
TierOf = Callable[[str], Awaitable[str | None]]
# Why the ledger has no such member, None where it has; raises PeerError.
WhyNoMember = Callable[[str], Awaitable[Refusal | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponPage:
    """Coupons with their states, those issued last first; the token of the next page is empty on the last."""

    coupons: Sequence[tuple[Coupon, CouponState]]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a coupon can be used: why not, and a sentence for the cashier either way."""

    coupon: Coupon
    state: CouponState
    refusal: Refusal | None
    sentence: str


class CouponService:
    """Issues coupons and takes them. `request_key` stands in for what requests said, `page_key` binds page tokens to
    the installation."""

    def __init__(
        self,
        *,
        store: Store,
        codes: CouponCodes,
        maker: CouponMaker,
        progress: Progress,
        partitions: int,
        simulated: bool,
        request_key: bytes,
        page_key: bytes,
        tier_of: TierOf,
        why_no_member: WhyNoMember,
        money: Money,
        machine_now: MachineClock,
        business_now: Callable[[], datetime],
        limits: Callable[[], Limits] = Limits,
        tiers: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """`limits`: what a coupon that is issued may be worth now; `tiers`: the keys of the tiers it may be for."""
        self._store = store
        self._codes = codes
        self._partitions = partitions
        self._simulated = simulated
        self._request_key = request_key
        self._pages = PageTokens(page_key, "coupons")
        self._tier_of = tier_of
        self._why_no_member = why_no_member
        self._money = money
        self._machine_now = machine_now
        self._business_now = business_now
        self._limits = limits
        self._tiers = tiers
        self._maker = maker
        self._progress = progress
        self._desk = UseDesk(
            store=store, partitions=partitions, machine_now=machine_now, business_now=business_now, money=money
        )

    # Reading

    async def get_coupon(self, code: str) -> tuple[Coupon, CouponState]:
        """The coupon with this code, however it was typed in, and its state now. Raises CouponUnknownError."""
        coupon, reserved = await self._found(code, self._read)
        return coupon, coupon.state_at(self._business_now(), reserved)

    async def redeemed_uses(self, coupon: Coupon) -> Sequence[CouponUse]:
        """The uses of a coupon that were redeemed, the last first: at most 100, and none of a coupon that can be used
        more often."""
        if not coupon.redeemed or coupon.uses > _MOST_USES_SHOWN:
            return ()

        async def read(transaction: Transaction) -> Sequence[CouponUse]:
            return await transaction.list_redeemed_uses(coupon.partition, coupon.code, _MOST_USES_SHOWN)

        return await self._store.read(read)

    async def list_coupons(
        self,
        *,
        member_id: str,
        usable: bool,
        page_size: int,
        page_token: str,
        after: Mapping[int, int],
        wait_seconds: float,
    ) -> CouponPage:
        """A page of a member's coupons, those issued last first, once the entries up to `after` are handled.

        A `page_size` of 0 is 50. Raises MemberUnknownError, PageTokenError, CausalTokenAheadError, NotCaughtUpError,
        PeerError.
        """
        size = page_size or DEFAULT_PAGE
        place = self._read_place(page_token, member_id, usable) if page_token else _FIRST
        await self._progress.reach(after, within_seconds=wait_seconds)
        key = (partition_of(member_id, self._partitions), member_id)
        now = self._now()

        async def read(transaction: Transaction) -> list[tuple[Coupon, int]]:
            return await transaction.list_coupons(
                key, place, size + 1, usable=usable, business_now=now.business, machine_now=now.machine
            )

        found = await self._store.read(read)
        if not found and not page_token and not await is_member(self._store, self._has_member, *key):
            raise MemberUnknownError
        shown = found[:size]
        token = ""
        if len(found) > size:
            last = shown[-1][0]
            place = CouponPlace(issued_time=last.issued_time, code=last.code)
            token = self._place_token(place, member_id, usable)
        coupons = [(coupon, coupon.state_at(now.business, reserved)) for coupon, reserved in shown]
        return CouponPage(coupons=coupons, next_page_token=token)

    async def losses(self, from_time: datetime | None, until_time: datetime | None) -> list[CouponLoss]:
        """The uses in a span (None: without an end) that were given offline although something spoke against them, by
        store and reason. Raises FieldError for a span that ends before it begins."""
        if from_time is not None and until_time is not None and until_time <= from_time:
            raise FieldError("until_time", "must be later than from_time")

        async def read(transaction: Transaction) -> list[CouponLoss]:
            return await transaction.sum_overdrawn_uses(from_time, until_time)

        return await self._store.read(read)

    async def validate(self, code: str, context: UseContext) -> Verdict:
        """Whether a coupon can be used there and now. Raises CouponUnknownError, PeerError."""

        async def look(partition: int, printed: str) -> tuple[Coupon, int, Uses, bool]:
            coupon, reserved = await self._read(partition, printed)

            async def read(transaction: Transaction) -> tuple[Uses, bool]:
                of = [(printed, context.member_id)] if coupon.once_per_member and context.member_id else []
                found = await transaction.find_uses(partition, [printed], self._machine_now(), named=[], members=of)
                shown = partition_of(context.member_id, self._partitions), context.member_id
                return Uses(found.get(printed, {})), bool(await transaction.find_erased([shown]))

            return coupon, reserved, *await self._store.read(read)

        coupon, reserved, uses, erased = await self._found(code, look)
        now = self._now()
        if erased:
            context = replace(context, tier=ERASED)
        if needs_tier(coupon, uses, context, now):
            context = await self._knowing(context)
        refusal = why_not(coupon, uses, context, now, self._money)
        return Verdict(
            coupon=coupon,
            state=coupon.state_at(now.business, reserved),
            refusal=refusal,
            sentence=refusal.sentence if refusal else worth(coupon.offer, self._money),
        )

    # Using

    async def reserve(
        self, *, request_id: str, content: bytes, code: str, context: UseContext, ttl: timedelta, use_id: str = ""
    ) -> UsedCoupon:
        """Sets a use of a coupon aside for a time; its id is `use_id`, else that of the request. `content` is what
        the request said.

        Raises CouponUnknownError, MemberUnknownError, RefusedError, RequestIdReusedError, PeerError, OverloadedError.
        """
        command = Reserve(use_id=use_id or request_id, context=context, ttl=ttl)
        return await self._use(request_id, content, code, command)

    async def redeem(
        self,
        *,
        request_id: str,
        content: bytes,
        code: str,
        context: UseContext,
        use_id: str = "",
        occurred_time: datetime | None = None,
        purchase_id: str = "",
        offline: bool = False,
    ) -> UsedCoupon:
        """Uses a coupon: the use that was reserved, or, where `use_id` is empty, a free one. Raises as `reserve`, and
        OccurredInFutureError: an offline use is never refused, and is one of now then."""
        now = self._business_now()
        occurred = occurred_time or now
        if lies_ahead(occurred, now, simulated=self._simulated):
            if not offline:
                raise OccurredInFutureError(occurred, now)
            occurred = now
        command = Redeem(
            use_id=use_id or request_id,
            context=context,
            occurred_time=occurred,
            purchase_id=purchase_id,
            reserved=bool(use_id),
            offline=offline,
        )
        return await self._use(request_id, content, code, command)

    async def release(
        self, *, request_id: str, content: bytes, code: str, use_id: str, redeemed: bool = False
    ) -> UsedCoupon:
        """Gives a use back; one that was redeemed only where `redeemed` says so. Raises as `reserve`."""
        return await self._use(request_id, content, code, Release(use_id=use_id, redeemed=redeemed))

    async def _use(self, request_id: str, content: bytes, code: str, command: UseCommand) -> UsedCoupon:
        digest = self._digest(type(command).__name__, content)

        async def ask(partition: int, printed: str) -> UsedCoupon:
            try:
                return await self._desk.ask(partition, printed, request_id=request_id, digest=digest, command=command)
            except TierAskedError:
                assert not isinstance(command, Release)
                knowing = replace(command, context=await self._knowing(command.context))
                # Whoever is enrolled by then may send the same request again: that is no answer to keep.
                if knowing.context.tier == NO_MEMBER and not (isinstance(command, Redeem) and command.offline):
                    raise MemberUnknownError from None
                return await self._desk.ask(partition, printed, request_id=request_id, digest=digest, command=knowing)

        return await self._found(code, ask)

    async def _knowing(self, context: UseContext) -> UseContext:
        """A context with the tier of its member, or why there is none: the ledger knows a new one before tiers does,
        and who has left or was erased. Raises PeerError."""
        tier: str | Refusal | None = await self._tier_of(context.member_id)
        if tier is None:
            tier = await self._why_no_member(context.member_id) or ""
        return replace(context, tier=tier)

    # Giving and taking back

    async def issue(
        self,
        *,
        request_id: str,
        content: bytes,
        principal: str,
        issued_by: str,
        member_id: str,
        offer: Offer,
        terms: Terms,
        valid_until_time: datetime,
        uses: int,
        once_per_member: bool,
        prefix: str,
        pool: str,
        reason: str,
        by_staff: bool = False,
    ) -> tuple[Coupon, CouponState, bool]:
        """A coupon given by hand or by another system, its state now, and whether it was given before. `principal`: who
        calls; `issued_by`: whom that one acts for, or the same. `by_staff`: who calls is nobody who may give points
        without a limit. That a pool has no code left is not kept: the same request may have one later.

        Raises MemberUnknownError, MemberErasedError, FieldError, RefusedError, RequestIdReusedError, PeerError,
        OverloadedError.
        """
        digest = self._digest("issue", content)
        # Whoever may hold it: then principals must not meet under one id.
        trigger = f"request:{request_id}" if member_id else f"request:{principal}/{request_id}"
        partition = partition_of(member_id or trigger, self._partitions)
        subject = f"issue:{member_id or principal}"
        # An answer that was given stays, whatever has changed since.
        if not await self._answered(partition, subject, request_id):
            if valid_until_time <= self._business_now():
                raise FieldError("valid_until_time", "must be later than now")
            if wrong := beyond(
                self._limits(), offer, uses, self._money, member_id=member_id, pool=pool, by_staff=by_staff
            ):
                raise FieldError(*wrong)
            self._refuse_unknown_tiers(terms)
            if member_id:
                await self._refuse_no_member(member_id)
        coupon = Coupon(
            partition=partition,
            campaign_id="",
            member_id=member_id,
            trigger=trigger,
            code="",
            variant=0,
            offer=offer,
            terms=terms,
            uses=uses,
            once_per_member=once_per_member,
            reason=reason,
            issued_by=issued_by,
            issued_time=self._business_now(),
            valid_until_time=valid_until_time,
        )

        async def work(transaction: Transaction) -> tuple[CouponRequest, Coupon | None, bool]:
            kept = await transaction.find_coupon_requests(partition, [(subject, request_id)])
            if kept:
                return kept[subject, request_id], None, True
            if member_id and await transaction.find_erasure(partition, member_id) is not None:
                raise MemberErasedError
            made = await self._maker.make(transaction, coupon, prefix=prefix, pool=pool)
            answer = {"code": made.code}
            new = CouponRequest(subject=subject, request_id=request_id, content_digest=digest, answer=answer)
            if not await transaction.insert_coupon_requests(partition, [new], self._machine_now()):
                raise CodeTakenError
            return new, made, False

        request, made, replayed = await self._settled(work)
        same_request(request.content_digest, digest)
        if "reason" in request.answer:
            # An answer of a release that kept refusals.
            raise RefusedError(request.answer["reason"], request.answer["sentence"], replayed=replayed)
        if made is not None:
            return made, CouponState.ISSUED, False
        found, reserved = await self._read(partition, request.answer["code"])
        return found, found.state_at(self._business_now(), reserved), True

    async def void(
        self, *, request_id: str, content: bytes, code: str, reason: str
    ) -> tuple[Coupon, CouponState, bool]:
        """Takes a coupon back, for good; its state now, and whether this request was answered before.

        Raises CouponUnknownError, RefusedError, RequestIdReusedError.
        """
        digest = self._digest("void", content)

        async def take_back(partition: int, printed: str) -> tuple[Coupon, CouponState, bool]:
            async def work(transaction: Transaction) -> tuple[CouponRequest, bool]:
                coupon = (await transaction.lock_coupons(partition, [printed])).get(printed)
                if coupon is None:
                    raise CouponUnknownError
                kept = await transaction.find_coupon_requests(partition, [(printed, request_id)])
                if kept:
                    return kept[printed, request_id], True
                answer: dict[str, Any] = {"voided": True}
                if coupon.redeemed >= coupon.uses:
                    answer = {"reason": "COUPON_REDEEMED", "sentence": "the coupon was used already", "facts": {}}
                elif coupon.voided_time is None:
                    now = self._business_now()
                    await transaction.void_coupon(partition, printed, business_now=now, reason=reason)
                new = CouponRequest(subject=printed, request_id=request_id, content_digest=digest, answer=answer)
                await transaction.insert_coupon_requests(partition, [new], self._machine_now())
                return new, False

            request, replayed = await self._store.transact(work)
            same_request(request.content_digest, digest)
            if "reason" in request.answer:
                raise RefusedError(request.answer["reason"], request.answer["sentence"], replayed=replayed)
            coupon, reserved = await self._read(partition, printed)
            return coupon, coupon.state_at(self._business_now(), reserved), replayed

        return await self._found(code, take_back)

    def _refuse_unknown_tiers(self, terms: Terms) -> None:
        """Raises FieldError for a tier that the programme does not have: nobody could use the coupon."""
        known = self._tiers()
        if unknown := sorted(terms.tiers.difference(known)):
            there = ", ".join(known)
            raise FieldError("terms.tiers", f'the programme has no tier "{unknown[0]}"; it has {there}')

    async def _has_member(self, member_id: str) -> bool:
        return await self._why_no_member(member_id) != NO_MEMBER

    async def _refuse_no_member(self, member_id: str) -> None:
        """Raises MemberUnknownError, MemberErasedError, RefusedError of who has left, PeerError."""
        refusal = await self._why_no_member(member_id)
        if refusal == NO_MEMBER:
            raise MemberUnknownError
        if refusal == ERASED:
            raise MemberErasedError
        if refusal is not None:
            raise RefusedError(refusal.reason, refusal.sentence)

    # Pools

    async def import_codes(
        self, *, request_id: str, content: bytes, pool: str, import_id: str, first_line: int, codes: Sequence[str]
    ) -> tuple[int, list[ProblemLine]]:
        """Takes a part of an import in: how many of its codes are in the pool, and the lines that are left out, in
        their order. Sent again it says the same. Raises RequestIdReusedError."""
        digest = self._digest("import", content)
        # Of another pool it is another import, though the file is the same.
        source = keyed_digest(self._request_key, "pool", pool, import_id)[:8].hex()
        read, problems = read_lines(codes, import_id=source, first_line=first_line)
        # In one order, so that two imports of the same codes do not wait for each other.
        placed = sorted(((self._home(code.folded), code) for code in read), key=lambda one: (one[0], one[1].folded))
        subject = f"import:{pool}"
        home = partition_of(subject, self._partitions)
        made = [(place, code) for code in read if (place := self._made(code)) is not None]

        async def work(transaction: Transaction) -> tuple[int, list[ProblemLine]]:
            asked = [(subject, request_id)]
            kept = await transaction.find_coupon_requests(home, asked)
            new = CouponRequest(subject=subject, request_id=request_id, content_digest=digest, answer={})
            if not kept and not await transaction.insert_coupon_requests(home, [new], self._machine_now()):
                kept = await transaction.find_coupon_requests(home, asked)
            if kept:
                same_request(kept[subject, request_id].content_digest, digest)
            coupons = await transaction.find_codes([place for place, _ in made]) if made else set()
            taken = {code.folded for place, code in made if place in coupons}
            free = [(partition, code) for partition, code in placed if code.folded not in taken]
            found = [
                ProblemLine(line=code.line, problem=CodeProblem.DUPLICATE) for code in read if code.folded in taken
            ]
            fresh = await transaction.insert_pool_codes(pool, source, free) if free else set()
            old = [(partition, code) for partition, code in free if code.folded not in fresh]
            if old:
                there = await transaction.find_pool_codes([(partition, code.folded) for partition, code in old])
                again, clashes = against_kept((code for _, code in old), there)
                return len(fresh) + len(again), found + clashes
            return len(fresh), found

        imported, found = await self._store.transact(work)
        return imported, sorted(problems + found, key=lambda problem: problem.line)

    # Inside

    def _now(self) -> Now:
        return Now(business=self._business_now(), machine=self._machine_now())

    def _digest(self, what: str, content: bytes) -> bytes:
        return keyed_digest(self._request_key, "coupon", what, content)

    def _home(self, known_by: str) -> int:
        return partition_of(known_by, self._partitions)

    def _made(self, code: PoolCode) -> tuple[int, str] | None:
        """Where the coupon would be if it was us who made the code."""
        try:
            return self._codes.read(code.code)
        except CouponUnknownError:
            return None

    async def _read(self, partition: int, printed: str) -> tuple[Coupon, int]:
        async def read(transaction: Transaction) -> tuple[Coupon, int] | None:
            return await transaction.read_coupon(partition, printed, self._machine_now())

        found = await self._store.read(read)
        if found is None:
            raise CouponUnknownError
        return found

    async def _found(self, text: str, ask: Callable[[int, str], Awaitable[T]]) -> T:
        """What `ask` says of the coupon with a code, however it was typed in: a code that was made says where its
        coupon is, one of a pool is looked up. Raises CouponUnknownError."""
        try:
            return await ask(*self._codes.read(text))
        except CouponUnknownError as error:
            unknown = error
        known_by = folded(text)

        async def locate(transaction: Transaction) -> tuple[int, str] | None:
            return await transaction.locate_pool_code(self._home(known_by), known_by)

        place = await self._store.read(locate)
        if place is None:
            raise unknown
        return await ask(*place)

    async def _answered(self, partition: int, subject: str, request_id: str) -> bool:
        async def read(transaction: Transaction) -> bool:
            return bool(await transaction.find_coupon_requests(partition, [(subject, request_id)]))

        return await self._store.read(read)

    async def _settled(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        for _ in range(_TRIES - 1):
            try:
                return await self._store.transact(work)
            except CodeTakenError:
                continue
        return await self._store.transact(work)

    def _place_token(self, place: CouponPlace, member_id: str, usable: bool) -> str:
        content = microseconds(place.issued_time).to_bytes(8, signed=True) + place.code.encode()
        return self._pages.make(content, member_id, int(usable))

    def _read_place(self, token: str, member_id: str, usable: bool) -> CouponPlace:
        content = self._pages.read(token, member_id, int(usable))
        return CouponPlace(
            issued_time=moment(int.from_bytes(content[:8], signed=True)),
            code=content[8:].decode(),
        )
