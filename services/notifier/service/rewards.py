"""Rewards for points: intent, hold, coupon in preparation, capture; only then the coupon is the member's (DESIGN §7).
Taken back the other way round: the coupon is void, and only then the points are there again.

The intent is written down first, with what it takes of stock and limits. Every step after it can be done again: its
requests to the ledger have ids of their own that follow from the intent. Whoever dies on the way, somebody goes on from
the intent: the caller who asks again, or the loop that looks for intents nobody goes on with.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Protocol

import structlog

from services.notifier.domain.contacts import partition_of
from services.notifier.domain.coupons import Coupon, CouponState
from services.notifier.domain.digests import keyed_digest
from services.notifier.domain.pools import folded
from services.notifier.domain.programmes import Programmes
from services.notifier.domain.rewards import (
    LIMIT_REACHED,
    NO_SUCH_REWARD,
    OUT_OF_STOCK,
    IntentState,
    OfferedReward,
    RedeemedReward,
    ReversalState,
    RewardFacts,
    RewardIntent,
    RewardReversal,
    bonus_points,
    obstacles,
    over,
    text_in,
    why_not_reversed,
    wrong_money,
)
from services.notifier.domain.uses import ERASED, NO_MEMBER, Refusal, Uses
from services.notifier.errors import (
    MemberErasedError,
    MemberUnknownError,
    PeerError,
    PeerRefusedError,
    RefusedError,
    RewardUnknownError,
)
from services.notifier.progress import Progress
from services.notifier.service.coupons import TierOf, WhyNoMember
from services.notifier.service.issuing import CodeTakenError, CouponMaker
from services.notifier.service.requests import same_request
from services.notifier.store import Store, Transaction
from services.notifier.store.rewards import CountKey
from services.notifier.store.uses import CouponRequest
from services.programme.model import Programme
from services.programme.rewards import Reward
from services.runtime.clock import MachineClock
from services.runtime.database import CONNECTION_ERRORS, PASSING_ERRORS
from services.runtime.status import OverloadedError

log = structlog.get_logger()

# How long whoever began a reward has it alone, and then each who goes on with it.
LEASE: Final = timedelta(seconds=20)
# Long enough for what goes on after a crash; then the ledger lets go by itself.
_HOLD: Final = timedelta(minutes=15)
_AT_ONCE: Final = 50
_LONGEST_WAIT_SECONDS: Final = 10.0
_TRIES: Final = 3

# Called after each step of a reward by its name: tests end the service there.
AfterStep = Callable[[str], Awaitable[None]]


class Points(Protocol):
    """A member's points at the ledger. All raise PeerRefusedError and PeerError."""

    async def available(self, member_id: str) -> int:
        """Points that a member can spend now."""

    async def hold(self, *, request_id: str, member_id: str, points: int, ttl: timedelta, on_behalf_of: str) -> None:
        """Sets points aside; the hold's id is that of the request."""

    async def capture(self, *, request_id: str, member_id: str, hold_id: str, on_behalf_of: str) -> None:
        """Spends all that a hold holds; the redemption's id is that of the request."""

    async def release(self, *, request_id: str, member_id: str, hold_id: str, on_behalf_of: str) -> None:
        """Gives all that a hold holds back."""

    async def award(self, *, request_id: str, member_id: str, points: int, on_behalf_of: str) -> None:
        """Gives points."""

    async def reverse(self, *, request_id: str, member_id: str, redemption_id: str, on_behalf_of: str) -> None:
        """Takes a redemption back, whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The rewards as they are for a member, and the points that it can spend."""

    rewards: tuple[OfferedReward, ...]
    available_points: int


class _AskedBeforeError(Exception):
    """The same reward was asked for at the same moment."""


class _OutOfStockError(Exception):
    """None is left at the moment."""


async def _no_step(step: str) -> None:
    """Nothing follows a step."""


class RewardService:
    """Lists rewards, gives them for points, and takes them back."""

    def __init__(
        self,
        *,
        store: Store,
        maker: CouponMaker,
        programmes: Programmes,
        points: Points,
        progress: Progress,
        partitions: int,
        request_key: bytes,
        tier_of: TierOf,
        why_no_member: WhyNoMember,
        machine_now: MachineClock,
        business_now: Callable[[], datetime],
        after_step: AfterStep = _no_step,
    ) -> None:
        self._store = store
        self._maker = maker
        self._programmes = programmes
        self._points = points
        self._progress = progress
        self._partitions = partitions
        self._request_key = request_key
        self._tier_of = tier_of
        self._why_no_member = why_no_member
        self._machine_now = machine_now
        self._business_now = business_now
        self._after_step = after_step

    # The catalogue

    async def list_rewards(
        self, *, member_id: str, language: str, after: Mapping[int, int], wait_seconds: float
    ) -> Catalogue:
        """The catalogue as it is for a member, in its order; without what is over for everybody.

        Raises MemberUnknownError, MemberErasedError, PeerError, CausalTokenAheadError, NotCaughtUpError.
        """
        self._agreed()
        await self._progress.reach(after, within_seconds=wait_seconds)
        now = self._business_now()
        programme = self._programmes.at(now)
        day = programme.local_day(now)
        rewards = [reward for reward in programme.rewards if not over(reward, day)]
        facts = await self._facts(programme, member_id, now, rewards)
        available = await self._available(member_id)
        counts = await self._counts(member_id, rewards)
        empty = await self._empty_pools(rewards)
        offered = []
        for reward in rewards:
            stock_left, left_for_member = _left(reward, member_id, counts)
            own = replace(
                facts,
                points=available,
                stock_left=stock_left,
                left_for_member=left_for_member,
                pool_empty=reward.coupon.pool in empty,
            )
            used, text = text_in(reward, language)
            until = None if reward.until_day is None else reward.until_day + timedelta(days=1)
            offered.append(
                OfferedReward(
                    reward=reward,
                    language=used,
                    text=text,
                    obstacles=tuple(obstacles(reward, own)),
                    points_missing=max(0, reward.points - available),
                    stock_left=stock_left,
                    left_for_member=left_for_member,
                    until_time=None if until is None else programme.start_of_local_day(until),
                )
            )
        return Catalogue(rewards=tuple(offered), available_points=available)

    async def _available(self, member_id: str) -> int:
        try:
            return await self._points.available(member_id)
        except PeerRefusedError as error:
            raise MemberUnknownError from error

    async def _facts(self, programme: Programme, member_id: str, now: datetime, rewards: list[Reward]) -> RewardFacts:
        """What of the member matters to these rewards. The tier is asked always: it says whether the account is
        suspended. Raises MemberUnknownError, MemberErasedError, PeerError."""
        no_member, tier = await asyncio.gather(self._why_no_member(member_id), self._tier_of(member_id))
        if no_member == NO_MEMBER:
            raise MemberUnknownError
        if no_member == ERASED:
            raise MemberErasedError
        segments = await self._segments(member_id) if any(reward.segments for reward in rewards) else frozenset[str]()
        return RewardFacts(no_member=no_member, tier=tier or "", segments=segments, day=programme.local_day(now))

    async def _segments(self, member_id: str) -> frozenset[str]:
        key = partition_of(member_id, self._partitions), member_id

        async def read(transaction: Transaction) -> frozenset[str]:
            return frozenset((await transaction.find_segments([key])).get(key, ()))

        return await self._store.read(read)

    async def _counts(self, member_id: str, rewards: list[Reward]) -> dict[tuple[str, str], int]:
        if not rewards:
            return {}
        keys = [
            key for reward in rewards for key in (self._member_key(member_id, reward.id), self._stock_key(reward.id))
        ]

        async def read(transaction: Transaction) -> dict[tuple[str, str], int]:
            return await transaction.find_reward_counts(keys)

        return await self._store.read(read)

    async def _empty_pools(self, rewards: list[Reward]) -> set[str]:
        """The pools of these rewards that have no code left."""
        pools = {reward.coupon.pool for reward in rewards if reward.coupon.pool}
        if not pools:
            return pools

        async def read(transaction: Transaction) -> set[str]:
            return pools - await transaction.find_pools_with_codes(pools)

        return await self._store.read(read)

    # Redeeming

    async def redeem_reward(
        self, *, request_id: str, content: bytes, principal: str, member_id: str, reward_id: str, money_paid: int
    ) -> tuple[RedeemedReward, CouponState | None, bool]:
        """Gives a member a reward for its points; the state of its coupon now, where there is one; and whether this
        answer was given before. `content` is what the request said.

        Raises MemberUnknownError, MemberErasedError, RewardUnknownError, RefusedError, RequestIdReusedError; PeerError
        and OverloadedError where it is not settled yet: what was begun goes on by itself, and the same request tells
        what came of it. That none is left, of the stock or in the pool of its codes, is not kept: the same request may
        have it later.
        """
        partition = partition_of(member_id, self._partitions)
        digest = keyed_digest(self._request_key, "coupon", "reward", content)

        async def find(transaction: Transaction) -> RewardIntent | None:
            return await transaction.find_reward_intent(partition, member_id, request_id)

        intent = await self._store.read(find)
        replayed = intent is not None and not intent.open
        if intent is None:
            new = self._planned(partition, request_id, digest, principal, member_id, reward_id)
            intent = await self._begin(new, money_paid)
        same_request(intent.content_digest, digest)
        intent = await self._go_on(intent)
        if intent.refusal is not None:
            refusal = intent.refusal
            raise RefusedError(refusal.reason, refusal.sentence, refusal.facts, replayed=replayed)
        redeemed, state = await self._redeemed(intent)
        return redeemed, state, replayed

    def _planned(
        self, partition: int, request_id: str, digest: bytes, principal: str, member_id: str, reward_id: str
    ) -> RewardIntent:
        """An intent that is not written down yet."""
        self._agreed()
        now = self._business_now()
        reward = _reward(self._programmes.at(now), reward_id)
        if reward is None:
            raise RewardUnknownError
        return RewardIntent(
            partition=partition,
            member_id=member_id,
            request_id=request_id,
            content_digest=digest,
            reward_id=reward_id,
            principal=principal,
            begun_time=now,
            points=reward.points,
            money_minor_units=reward.money_minor_units,
            state=IntentState.BEGUN,
            from_stock=reward.stock is not None,
            not_before=self._machine_now() + LEASE,
        )

    async def _begin(self, new: RewardIntent, money_paid: int) -> RewardIntent:
        """Writes an intent down with what it takes of stock and limits, or why there will be none; the one that is
        there where the same was asked for at the same moment."""
        programme = self._programmes.at(new.begun_time)
        reward = _reward(programme, new.reward_id)
        assert reward is not None, "the programme had it when it was planned"
        facts = await self._facts(programme, new.member_id, new.begun_time, [reward])
        # Who cannot pay must not hold the last piece, however briefly: somebody who can would go without.
        facts = replace(facts, points=await self._available(new.member_id))
        refusal = next(obstacles(reward, facts), None) or wrong_money(
            reward, money_paid, programme.currency, programme.format_money
        )

        async def begin(transaction: Transaction) -> RewardIntent:
            if await transaction.find_erasure(new.partition, new.member_id) is not None:
                raise MemberErasedError
            # In this order everywhere: the member's row, then the stock's.
            against, pool = refusal, reward.coupon.pool
            if against is None and pool and not await transaction.find_pools_with_codes([pool]):
                raise _OutOfStockError
            if against is None and not await self._take(transaction, self._member_key_of(new), reward.per_member):
                against = LIMIT_REACHED
            elif (
                against is None
                and reward.stock is not None
                and not await self._take(transaction, self._stock_key(reward.id), reward.stock)
            ):
                raise _OutOfStockError
            intent = new if against is None else replace(new, state=IntentState.REFUSED, refusal=against)
            if await transaction.insert_reward_intent(intent):
                return intent
            raise _AskedBeforeError

        try:
            intent = await self._store.transact(begin)
        except _AskedBeforeError:
            # What this try took is rolled back.
            return await self._there(new)
        except _OutOfStockError:
            # No answer for ever: what others hold may come back, and a pool may get more codes. The last piece may be
            # this very request's.
            if (there := await self._store.read(partial(_find, new))) is not None:
                return there
            raise RefusedError(OUT_OF_STOCK.reason, OUT_OF_STOCK.sentence) from None
        await self._after_step("begun")
        return intent

    @staticmethod
    async def _take(transaction: Transaction, key: CountKey, limit: int | None) -> bool:
        return (limit is None or limit > 0) and await transaction.take_reward(key, limit)

    async def _there(self, intent: RewardIntent | RewardReversal) -> RewardIntent:
        found = await self._store.read(partial(_find, intent))
        assert found is not None, "intents are never removed"
        return found

    async def _go_on(self, intent: RewardIntent) -> RewardIntent:
        """Does what is left of an intent, and gives it as it is then: issued or refused. May be done by several at
        once."""
        if not intent.open:
            return intent
        self._agreed()
        reward = _reward(self._programmes.at(intent.begun_time), intent.reward_id)
        if reward is None:
            raise PeerError("the ledger goes by another programme than when the reward was asked for")
        if intent.state is IntentState.BEGUN:
            try:
                await self._hold(intent)
            except PeerRefusedError as error:
                return await self._refuse(intent, Refusal(reason=error.reason, sentence=str(error)), held=False)
            await self._after_step("held")
        try:
            if intent.state is IntentState.BEGUN:
                intent = await self._prepare(intent, reward)
                await self._after_step("prepared")
                if not intent.open:
                    return intent
            await self._capture(intent)
            await self._after_step("captured")
            await self._award(intent, bonus_points(reward.coupon.offer))
            await self._after_step("awarded")
        except PeerRefusedError as error:
            return await self._refuse(intent, Refusal(reason=error.reason, sentence=str(error)))
        except RefusedError as error:
            return await self._refuse(intent, Refusal(reason=error.reason, sentence=str(error), facts=error.facts))
        intent = await self._issue(intent)
        await self._after_step("issued")
        return intent

    async def _hold(self, intent: RewardIntent) -> None:
        await self._points.hold(
            request_id=self._id(intent, "hold"),
            member_id=intent.member_id,
            points=intent.points,
            ttl=_HOLD,
            on_behalf_of=intent.principal,
        )

    async def _prepare(self, intent: RewardIntent, reward: Reward) -> RewardIntent:
        """Makes the coupon, which is nobody's yet."""
        programme = self._programmes.at(intent.begun_time)
        action = reward.coupon
        coupon = Coupon(
            partition=intent.partition,
            campaign_id="",
            member_id=intent.member_id,
            trigger=intent.trigger,
            code="",
            variant=0,
            offer=action.offer,
            terms=action.terms,
            uses=action.uses,
            reward_id=reward.id,
            issued_by=intent.principal,
            preparing=True,
            issued_time=intent.begun_time,
            valid_until_time=action.valid.end(intent.begun_time, programme.zone),
        )

        async def prepare(transaction: Transaction) -> RewardIntent:
            kept = await transaction.lock_reward_intent(intent)
            if kept.state is not IntentState.BEGUN:
                return kept
            code = ""
            if not bonus_points(action.offer):
                made = await self._maker.make(transaction, coupon, prefix=action.prefix, pool=action.pool)
                code = made.code
            prepared = replace(kept, state=IntentState.PREPARED, code=code)
            await transaction.move_reward_intent(prepared)
            return prepared

        for _ in range(_TRIES - 1):
            with contextlib.suppress(CodeTakenError):
                return await self._store.transact(prepare)
        return await self._store.transact(prepare)

    async def _capture(self, intent: RewardIntent) -> None:
        await self._points.capture(
            request_id=self._id(intent, "capture"),
            member_id=intent.member_id,
            hold_id=self._id(intent, "hold"),
            on_behalf_of=intent.principal,
        )

    async def _award(self, intent: RewardIntent, points: int) -> None:
        """Gives bonus points; where the ledger will not, gives those back that they cost."""
        if not points:
            return
        try:
            await self._points.award(
                request_id=self._id(intent, "award"),
                member_id=intent.member_id,
                points=points,
                on_behalf_of=intent.principal,
            )
        except PeerRefusedError:
            await self._points.reverse(
                request_id=self._id(intent, "reverse"),
                member_id=intent.member_id,
                redemption_id=self._id(intent, "capture"),
                on_behalf_of=intent.principal,
            )
            raise

    async def _issue(self, intent: RewardIntent) -> RewardIntent:
        async def issue(transaction: Transaction) -> RewardIntent:
            kept = await transaction.lock_reward_intent(intent)
            if not kept.open:
                return kept
            if kept.code:
                await transaction.publish_coupon(kept.partition, kept.code)
            issued = replace(kept, state=IntentState.ISSUED)
            await transaction.move_reward_intent(issued)
            return issued

        return await self._store.transact(issue)

    async def _refuse(self, intent: RewardIntent, refusal: Refusal, *, held: bool = True) -> RewardIntent:
        """Lets go of what is held, takes the coupon back, and gives back what was taken of stock and limits. Where
        somebody has gone further meanwhile, goes on from there: what was held may be spent."""
        if held:
            # Refused where nothing is held any more.
            with contextlib.suppress(PeerRefusedError):
                await self._points.release(
                    request_id=self._id(intent, "release"),
                    member_id=intent.member_id,
                    hold_id=self._id(intent, "hold"),
                    on_behalf_of=intent.principal,
                )
            await self._after_step("released")

        async def refuse(transaction: Transaction) -> RewardIntent:
            kept = await transaction.lock_reward_intent(intent)
            if kept.state is not intent.state:
                return kept
            if kept.code:
                now = self._business_now()
                await transaction.void_coupon(kept.partition, kept.code, business_now=now, reason="reward_refused")
            await self._give_counts_back(transaction, kept)
            refused = replace(kept, state=IntentState.REFUSED, refusal=refusal)
            await transaction.move_reward_intent(refused)
            return refused

        refused = await self._store.transact(refuse)
        if refused.open:
            return await self._go_on(refused)
        await self._after_step("refused")
        return refused

    async def _redeemed(self, intent: RewardIntent) -> tuple[RedeemedReward, CouponState | None]:
        reward = _reward(self._programmes.at(intent.begun_time), intent.reward_id)
        coupon, state = None, None
        if intent.code:

            async def read(transaction: Transaction) -> tuple[Coupon, int] | None:
                return await transaction.read_coupon(intent.partition, intent.code, self._machine_now())

            found = await self._store.read(read)
            assert found is not None, "the coupon of a reward that was issued is there"
            coupon, reserved = found
            state = coupon.state_at(self._business_now(), reserved)
        redeemed = RedeemedReward(
            coupon=coupon,
            points=intent.points,
            money_minor_units=intent.money_minor_units,
            bonus_points=bonus_points(reward.coupon.offer) if reward else 0,
            redemption_id=self._id(intent, "capture"),
        )
        return redeemed, state

    # Taking back

    async def reverse_reward(
        self,
        *,
        request_id: str,
        content: bytes,
        principal: str,
        member_id: str,
        coupon_code: str,
        redemption_id: str,
        reason: str,
    ) -> tuple[RedeemedReward, CouponState | None, bool]:
        """Takes a reward back whole: what it was, the state of its coupon now, and whether this answer was given
        before. The code of its coupon or its redemption names it, and the other is empty. Its money is told to the
        request alone that began to take it back: it is handed out once.

        Raises MemberUnknownError, MemberErasedError, RefusedError, RequestIdReusedError; PeerError and OverloadedError
        where it is not settled yet: what was begun goes on by itself.
        """
        partition = partition_of(member_id, self._partitions)
        digest = keyed_digest(self._request_key, "coupon", "reverse", content)
        intent = await self._issued(partition, member_id, folded(coupon_code), redemption_id)
        if intent is None and await self._why_no_member(member_id) == NO_MEMBER:
            raise MemberUnknownError
        asked = (f"reverse:{member_id}", request_id)

        async def begin(transaction: Transaction) -> tuple[CouponRequest, bool]:
            # The coupon's lock is the reward's: who comes at the same moment, for either, waits here.
            code = intent.code if intent is not None else ""
            coupon = (await transaction.lock_coupons(partition, [code])).get(code) if code else None
            kept = await transaction.find_coupon_requests(partition, [asked])
            if kept:
                return kept[asked], True
            if await transaction.find_erasure(partition, member_id) is not None:
                raise MemberErasedError
            begun = await self._begin_reversal(transaction, intent, coupon, principal, reason)
            answer: dict[str, Any] = {"reversed": begun}
            if isinstance(begun, Refusal):
                answer = {"reason": begun.reason, "sentence": begun.sentence}
            new = CouponRequest(subject=asked[0], request_id=request_id, content_digest=digest, answer=answer)
            if await transaction.insert_coupon_requests(partition, [new], self._machine_now()):
                return new, False
            there = (await transaction.find_coupon_requests(partition, [asked]))[asked]
            # At the same moment for another reward: what this try began is rolled back.
            same_request(there.content_digest, digest)
            return there, True

        request, replayed = await self._store.transact(begin)
        same_request(request.content_digest, digest)
        if "reason" in request.answer:
            raise RefusedError(request.answer["reason"], request.answer["sentence"], replayed=replayed)
        assert intent is not None, "what is taken back was issued"
        await self._after_step("taken back")
        reversal = await self._store.read(partial(_find_reversal, intent))
        assert reversal is not None, "it was kept with the request"
        ended = reversal.state is ReversalState.DONE
        if not ended:
            await self._give_back(intent, reversal)
        redeemed, state = await self._redeemed(intent)
        if not request.answer["reversed"]:
            redeemed = replace(redeemed, money_minor_units=0)
        return redeemed, state, replayed and ended

    async def _issued(self, partition: int, member_id: str, code: str, redemption_id: str) -> RewardIntent | None:
        """The reward of a member that was issued with a coupon or for a redemption; one on its way is issued first."""

        async def read(transaction: Transaction) -> list[RewardIntent]:
            return await transaction.find_reward_intents(partition, member_id)

        for intent in await self._store.read(read):
            if (code and folded(intent.code) == code) or self._id(intent, "capture") == redemption_id:
                found = await self._go_on(intent)
                return found if found.state is IntentState.ISSUED else None
        return None

    async def _begin_reversal(
        self, transaction: Transaction, intent: RewardIntent | None, coupon: Coupon | None, principal: str, reason: str
    ) -> bool | Refusal:
        """Makes the coupon void and writes down that the points are to be given back, or says why not. A reward that is
        taken back already stays so: False."""
        if intent is None:
            return NO_SUCH_REWARD
        if await transaction.find_reward_reversal(intent) is not None:
            return False
        reserved = 0
        if coupon is not None:
            now = self._machine_now()
            uses = await transaction.find_uses(intent.partition, [coupon.code], now, named=[], members=[])
            reserved = Uses(uses.get(coupon.code, {})).reserved(now)
        refusal = why_not_reversed(coupon, reserved)
        if refusal is not None:
            return refusal
        begun = self._business_now()
        await transaction.void_coupon(intent.partition, intent.code, business_now=begun, reason=reason)
        return await transaction.insert_reward_reversal(
            RewardReversal(
                partition=intent.partition,
                member_id=intent.member_id,
                request_id=intent.request_id,
                principal=principal,
                begun_time=begun,
                state=ReversalState.BEGUN,
                not_before=self._machine_now() + LEASE,
            )
        )

    async def _give_back(self, intent: RewardIntent, reversal: RewardReversal) -> None:
        """Does what is left of taking a reward back. May be done by several at once. Raises RefusedError where the
        ledger will not give the points back."""
        try:
            await self._points.reverse(
                request_id=self._id(intent, "reverse"),
                member_id=intent.member_id,
                redemption_id=self._id(intent, "capture"),
                on_behalf_of=reversal.principal,
            )
        except PeerRefusedError as error:
            await self._end(intent, reversal, ReversalState.REFUSED)
            raise RefusedError(error.reason, str(error)) from None
        await self._after_step("given back")
        await self._end(intent, reversal, ReversalState.DONE)
        await self._after_step("reversed")

    async def _end(self, intent: RewardIntent, reversal: RewardReversal, state: ReversalState) -> None:
        """Keeps what came of taking a reward back. Its coupon is void whatever the ledger said: stock and limit have
        its piece again."""

        async def end(transaction: Transaction) -> None:
            if await transaction.end_reward_reversal(reversal, state):
                await self._give_counts_back(transaction, intent)

        await self._store.transact(end)

    async def _give_counts_back(self, transaction: Transaction, intent: RewardIntent) -> None:
        """Gives back what a reward took of the member's limit and of the stock."""
        await transaction.give_reward_back(self._member_key_of(intent))
        if intent.from_stock:
            await transaction.give_reward_back(self._stock_key(intent.reward_id))

    # Going on with what others left

    async def run(self) -> None:
        """Goes on, for ever, with rewards that nobody goes on with."""
        while True:
            next_time = await self.recover()
            wait = _LONGEST_WAIT_SECONDS
            if next_time is not None:
                wait = min(wait, max(0.1, (next_time - self._machine_now()).total_seconds()))
            await asyncio.sleep(wait)

    async def recover(self) -> datetime | None:
        """Goes on with all rewards that nobody goes on with, and says when the next will be to be looked at."""
        if not self._programmes.asked:
            # What a reward was when it was asked for, the ledger has yet to say.
            return None
        while True:
            waiting = await self._store.read(Transaction.open_rewards)
            now = self._machine_now()
            ready = [partition for partition, not_before in waiting.items() if not_before <= now]
            if not ready:
                return min(waiting.values(), default=None)
            for partition in ready:
                await self._recover(partition, now)

    async def _recover(self, partition: int, now: datetime) -> None:
        async def lease(transaction: Transaction) -> tuple[list[RewardIntent], list[RewardReversal]]:
            intents = await transaction.lease_reward_intents(partition, now=now, until=now + LEASE, limit=_AT_ONCE)
            return intents, await transaction.lease_reward_reversals(
                partition, now=now, until=now + LEASE, limit=_AT_ONCE
            )

        intents, reversals = await self._store.transact(lease)
        waiting: list[RewardIntent | RewardReversal] = [*intents, *reversals]
        for left in waiting:
            try:
                state = await self._recover_one(left)
            except (PeerError, OverloadedError) as error:
                # The lease says when it is tried again.
                log.warning("reward_delayed", partition=partition, attempts=left.attempts, error=str(error))
            except (*CONNECTION_ERRORS, *PASSING_ERRORS):
                raise
            except Exception:
                # A fault must not stand in the way of others; the lease says when it is tried again.
                log.exception("reward_failed", partition=partition, attempts=left.attempts)
            else:
                log.info("reward_recovered", partition=partition, state=state)

    async def _recover_one(self, left: RewardIntent | RewardReversal) -> str:
        if isinstance(left, RewardIntent):
            return (await self._go_on(left)).state.value
        try:
            await self._give_back(await self._there(left), left)
        except RefusedError as error:
            return error.reason
        return "reversed"

    # Inside

    def _agreed(self) -> None:
        """Raises PeerError before the ledger has told its versions of the programme: they say what a reward is."""
        if not self._programmes.asked:
            raise PeerError("the ledger has yet to say which versions of the programme there are")

    def _id(self, intent: RewardIntent, step: str) -> str:
        return intent.ledger_id(self._request_key, step)

    def _member_key(self, member_id: str, reward_id: str) -> CountKey:
        return partition_of(member_id, self._partitions), member_id, reward_id

    def _member_key_of(self, intent: RewardIntent) -> CountKey:
        return intent.partition, intent.member_id, intent.reward_id

    def _stock_key(self, reward_id: str) -> CountKey:
        return partition_of(reward_id, self._partitions), "", reward_id


async def _find(intent: RewardIntent | RewardReversal, transaction: Transaction) -> RewardIntent | None:
    """The intent of the same request, as it is written down."""
    return await transaction.find_reward_intent(intent.partition, intent.member_id, intent.request_id)


async def _find_reversal(intent: RewardIntent, transaction: Transaction) -> RewardReversal | None:
    return await transaction.find_reward_reversal(intent)


def _reward(programme: Programme, reward_id: str) -> Reward | None:
    return next((reward for reward in programme.rewards if reward.id == reward_id), None)


def _left(reward: Reward, member_id: str, counts: Mapping[tuple[str, str], int]) -> tuple[int | None, int | None]:
    """How many are left, in all and for the member; None where there is no limit."""
    stock, mine = counts.get(("", reward.id), 0), counts.get((member_id, reward.id), 0)
    return (
        None if reward.stock is None else max(0, reward.stock - stock),
        None if reward.per_member is None else max(0, reward.per_member - mine),
    )
