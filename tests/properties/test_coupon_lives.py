"""The lives of coupons: whatever tills do and in whatever order, a coupon is used as often as it may be and no more."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.notifier.domain.coupons import Coupon, CouponState
from services.notifier.domain.pools import CodeProblem, against_kept, folded, read_lines
from services.notifier.domain.uses import (
    CouponUse,
    Now,
    Redeem,
    Refusal,
    Release,
    Reserve,
    UseCommand,
    UseContext,
    Uses,
    UseState,
    counted,
    decide,
    state_of,
    why_not,
)
from services.notifier.errors import WrongCodesError
from services.programme.rewards import Offer, OfferKind
from services.runtime.guesses import Guesses
from services.runtime.identity import Caller

START = datetime(2026, 1, 1, tzinfo=UTC)
MEMBERS = ("m-1", "m-2", "m-3")
TTL = timedelta(minutes=10)


def money(minor_units: int) -> str:
    return f"{minor_units} cents"


def coupon(**changed: object) -> Coupon:
    values: dict[str, object] = {
        "partition": 0,
        "campaign_id": "",
        "member_id": "",
        "trigger": "request:1",
        "code": "TEN",
        "variant": 0,
        "offer": Offer(kind=OfferKind.DISCOUNT_PERCENT, percent_bp=1000),
        "issued_time": START,
        "valid_until_time": START + timedelta(days=30),
    }
    return Coupon(**{**values, **changed})  # type: ignore[arg-type]


class Life(RuleBasedStateMachine):
    """One coupon, its tills, and both clocks."""

    def __init__(self) -> None:
        super().__init__()
        self.coupon = coupon(uses=3)
        self.uses: dict[str, CouponUse] = {}
        self.now = Now(business=START, machine=START)
        self.names = 0
        self.overdrawn = 0

    def decide(self, command: UseCommand) -> CouponUse | Refusal:
        decided = decide(self.coupon, Uses(self.uses), command, self.now, money)
        if isinstance(decided, CouponUse):
            self.coupon = counted(self.coupon, self.uses.get(decided.use_id), decided)
            self.uses[decided.use_id] = decided
            again = decide(self.coupon, Uses(self.uses), command, self.now, money)
            if not isinstance(command, Reserve) or decided.state is UseState.RESERVED:
                assert again == decided, "the same again is the same"
        return decided

    def new(self) -> str:
        self.names += 1
        return f"use-{self.names}"

    @rule(once=st.booleans(), uses=st.integers(1, 4))
    @precondition(lambda self: not self.uses)
    def begin(self, once: bool, uses: int) -> None:
        self.coupon = replace(self.coupon, once_per_member=once, uses=uses)

    @rule(member_id=st.sampled_from(MEMBERS))
    def reserve(self, member_id: str) -> None:
        self.decide(Reserve(use_id=self.new(), context=UseContext(member_id=member_id), ttl=TTL))

    @rule(member_id=st.sampled_from(MEMBERS), offline=st.booleans())
    def redeem(self, member_id: str, offline: bool) -> None:
        context = UseContext(member_id=member_id)
        redeem = Redeem(use_id=self.new(), context=context, occurred_time=self.now.business, offline=offline)
        decided = self.decide(redeem)
        if offline:
            assert isinstance(decided, CouponUse)
            self.overdrawn += bool(decided.overdrawn)

    @rule(data=st.data())
    @precondition(lambda self: self.uses)
    def redeem_reserved(self, data: st.DataObject) -> None:
        use = self.uses[data.draw(st.sampled_from(sorted(self.uses)))]
        promised = use.live(self.now.machine)
        command = Redeem(
            use_id=use.use_id,
            context=UseContext(member_id=use.member_id),
            occurred_time=self.now.business,
            reserved=True,
        )
        decided = self.decide(command)
        if promised:
            assert isinstance(decided, CouponUse), "what was promised is given, whatever became of the coupon"

    @rule(data=st.data(), redeemed=st.booleans())
    @precondition(lambda self: self.uses)
    def release(self, data: st.DataObject, redeemed: bool) -> None:
        use = self.uses[data.draw(st.sampled_from(sorted(self.uses)))]
        decided = self.decide(Release(use_id=use.use_id, redeemed=redeemed))
        assert isinstance(decided, Refusal) == (use.state is UseState.REDEEMED and not redeemed)

    @rule(minutes=st.sampled_from([1, 9, 10, 30]))
    def machine_time_passes(self, minutes: int) -> None:
        self.now = replace(self.now, machine=self.now.machine + timedelta(minutes=minutes))

    @rule(days=st.sampled_from([1, 10]))
    def business_time_passes(self, days: int) -> None:
        self.now = replace(self.now, business=self.now.business + timedelta(days=days))

    @rule()
    def void(self) -> None:
        if self.coupon.redeemed < self.coupon.uses and self.coupon.voided_time is None:
            self.coupon = replace(self.coupon, voided_time=self.now.business)

    @invariant()
    def it_is_never_used_too_often(self) -> None:
        redeemed = [use for use in self.uses.values() if use.state is UseState.REDEEMED]
        assert self.coupon.redeemed == len(redeemed)
        overdrawn = sum(bool(use.overdrawn) for use in redeemed)
        live = sum(use.live(self.now.machine) for use in self.uses.values())
        assert len(redeemed) + live <= self.coupon.uses + overdrawn

    @invariant()
    def each_member_uses_a_public_one_once(self) -> None:
        if self.coupon.once_per_member and not self.overdrawn:
            redeemed = [use.member_id for use in self.uses.values() if use.state is UseState.REDEEMED]
            assert len(redeemed) == len(set(redeemed))

    @invariant()
    def its_state_says_what_can_be_done(self) -> None:
        uses = Uses(self.uses)
        state = state_of(self.coupon, uses, self.now)
        refusal = why_not(self.coupon, uses, UseContext(member_id="stranger"), self.now, money)
        assert (state is CouponState.ISSUED) == (refusal is None)

    @invariant()
    def what_nobody_holds_any_more_is_free_without_anybody_doing_anything(self) -> None:
        later = replace(self.now, machine=self.now.machine + TTL)
        state = state_of(self.coupon, Uses(self.uses), later)
        assert state is not CouponState.RESERVED


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def lines_of_codes() -> st.SearchStrategy[list[str]]:
    code = st.text("ABOI01LSZ258-x ", min_size=0, max_size=9)
    return st.lists(code, max_size=25)


@given(lines_of_codes(), st.integers(1, 20))
@settings(deadline=None)
def test_an_import_in_any_parts_takes_each_code_once_and_accounts_for_each_line(lines: list[str], size: int) -> None:
    pool: dict[str, object] = {}
    taken, told = [], []
    for _ in range(2):
        taken, told = [], []
        for first in range(0, len(lines), size):
            codes, problems = read_lines(lines[first : first + size], import_id="i", first_line=first + 1)
            for code in codes:
                pool.setdefault(code.folded, code)
            again, clashes = against_kept(codes, pool)  # type: ignore[arg-type]
            taken += again
            told += problems + clashes
    accounted = sorted([code.line for code in taken] + [problem.line for problem in told])
    assert accounted == [number for number, line in enumerate(lines, 1) if line.strip()]
    assert len({code.folded for code in taken}) == len(taken) == len(pool)
    for problem in told:
        if problem.problem is not CodeProblem.MALFORMED:
            assert 0 < problem.other_line < problem.line
            assert folded(lines[problem.other_line - 1]) == folded(lines[problem.line - 1])


@given(st.lists(st.tuples(st.floats(0, 60), st.sampled_from("abc"), st.booleans()), max_size=150))
def test_nobody_may_ask_for_more_wrong_codes_than_its_bucket_holds_and_time_refills(
    asked: list[tuple[float, str, bool]],
) -> None:
    now = 0.0
    guesses = Guesses(lambda: now, is_miss=lambda error: isinstance(error, KeyError), refusal=WrongCodesError)
    wrong: list[tuple[float, str]] = []

    async def ask(place: str, *, right: bool) -> None:
        async with guesses.trying(Caller(principal="till", terminal=place)):
            if not right:
                raise KeyError(place)

    async def ask_all() -> None:
        nonlocal now
        for pause, place, right in asked:
            now += pause
            with contextlib.suppress(KeyError):
                try:
                    await ask(place, right=right)
                except WrongCodesError as error:
                    now += error.wait_seconds + 0.001
                    # Who waited as long as told may ask.
                    await ask(place, right=right)
            if not right:
                wrong.append((now, place))

    asyncio.run(ask_all())
    for place in "abc":
        times = [time for time, where in wrong if where == place]
        for first in range(len(times)):
            for last in range(first, len(times)):
                assert last - first + 1 <= 20 + (times[last] - times[first]) / 15 + 1.001
