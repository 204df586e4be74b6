"""Rewards and checkouts beside what the ledger has booked for them: whole, or nothing.

Some partitions after the other, so that not all are in memory at once. What we keep of them is read before their log:
the ledger has whatever is over by then. Where it says something else, what we keep of these members is read again:
what began since, or went on, is passed over. For nothing is asked of the ledger before it is written down here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Final

from services.notifier.domain.bookings import Booked, Booking, checkout_name, reward_name
from services.notifier.domain.programmes import Programmes
from services.notifier.domain.rewards import IntentState, ReversalState, RewardIntent, bonus_points
from services.notifier.domain.sales import SaleState
from services.notifier.ledger_client import LedgerClient
from services.notifier.store import Store, Transaction
from services.notifier.store.checkouts import CheckedCheckout
from services.notifier.store.rewards import CheckedReward

Difference = Mapping[str, Any]
# What, as expected, and as found.
_Problem = tuple[str, str, str | None]

_REWARD, _CHECKOUT = "reward", "checkout"
_WHAT: Final = {
    "held": "points held",
    "redeemed": "points redeemed",
    "given": "points given",
    "purchase_id": "purchase",
    "currency": "currency of the purchase",
    "amount": "amount in minor units of the purchase",
    "points_paid": "points that paid for the purchase",
    "amount_paid": "amount in minor units that points paid of the purchase",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Due:
    """What is to stand at the ledger for something of ours, None where that is still on its way; and what is wrong with
    it whatever the ledger says. `own_id`: of the reward or the checkout."""

    partition: int
    member_id: str
    own_id: str
    request_id: str
    booking: Booking | None
    problems: tuple[_Problem, ...]


class Bookings:
    """Compares some partitions after the other: `begin`, `add` for each of their entries, `compare`."""

    def __init__(self, *, store: Store, ledger: LedgerClient, programmes: Programmes, request_key: bytes) -> None:
        self._store = store
        self._ledger = ledger
        self._programmes = programmes
        self._key = request_key
        self._due: dict[str, _Due] = {}
        self._found: dict[str, Booked] = {}
        self.differences: list[Difference] = []
        self.checked = {"rewards": 0, "checkout_requests": 0}

    async def begin(self, partitions: Collection[int]) -> None:
        """Reads what we keep of partitions."""
        self._due, self._found = {}, {}
        for partition in partitions:
            self._due |= await self._read(partition)
        for name, due in self._due.items():
            self.checked["rewards" if _kind(name) is _REWARD else "checkout_requests"] += 1
            for what, expected, found in due.problems:
                self.differences.append(_difference(what, _place(name, due), expected, found))

    async def _read(self, partition: int, members: Collection[str] | None = None) -> dict[str, _Due]:
        """What is due of a partition by name, of all or some of its members."""
        due: dict[str, _Due] = {}
        rewards = partial(Transaction.check_reward_intents, partition=partition, members=members)
        for reward in await self._store.read(rewards):
            name = reward_name(self._key, partition, reward.intent.member_id, reward.intent.request_id)
            due[name] = self._reward_due(reward)
        checkouts = partial(Transaction.check_checkouts, partition=partition, members=members)
        for checkout in await self._store.read(checkouts):
            due[checkout_name(self._key, checkout.member_id, checkout.request_id)] = _checkout_due(partition, checkout)
        return due

    def _reward_due(self, reward: CheckedReward) -> _Due:
        intent = reward.intent
        refused = intent.state is IntentState.REFUSED
        booking = None
        if refused or reward.reversal == ReversalState.DONE:
            booking = Booking()
        elif not intent.open and reward.reversal != ReversalState.BEGUN:
            booking = Booking(redeemed=intent.points, given=self._bonus(intent))
        problems: list[_Problem] = []
        coupons = ("void",) if refused or reward.reversal else ("issued", "void")
        if intent.code and not intent.open and reward.coupon not in coupons:
            problems.append((f"coupon {intent.code} of a reward", " or ".join(coupons), reward.coupon or None))
        return _Due(
            partition=intent.partition,
            member_id=intent.member_id,
            own_id=intent.reward_id,
            request_id=intent.request_id,
            booking=booking,
            problems=tuple(problems),
        )

    def _bonus(self, intent: RewardIntent) -> int:
        programme = self._programmes.at(intent.begun_time)
        return sum(bonus_points(one.coupon.offer) for one in programme.rewards if one.id == intent.reward_id)

    def add(self, booked: Booked) -> None:
        """Takes in what an entry of these partitions books."""
        before = self._found.get(booked.name)
        if before is not None:
            booked = replace(booked, booking=before.booking + booked.booking)
        self._found[booked.name] = booked

    async def compare(self) -> None:
        """Compares, when the log of these partitions is read."""
        suspects = sorted(name for name in self._due.keys() | self._found.keys() if self._suspect(name))
        if not suspects:
            return
        # By a version that came since, rewards that came with it are other.
        self._programmes.learn(await self._ledger.versions())
        members: defaultdict[int, set[str]] = defaultdict(set)
        for name in suspects:
            one = self._due.get(name) or self._found[name]
            members[one.partition].add(one.member_id)
        now: dict[str, _Due] = {}
        for partition, some in members.items():
            now |= await self._read(partition, sorted(some))
        erased = await self._store.read(Transaction.check_erased)
        for name in suspects:
            due, booked = self._due.get(name), self._found.get(name)
            if now.get(name) != due:
                # It began since, or went on.
                continue
            if due is not None:
                found = Booking() if booked is None else booked.booking
                self.differences += _unlike(name, due, found, erased=(due.partition, due.member_id) in erased)
            elif booked is not None and (booked.partition, booked.member_id) not in erased:
                # Of who is erased no checkouts are kept.
                self.differences += _without(booked)

    def _suspect(self, name: str) -> bool:
        due, booked = self._due.get(name), self._found.get(name)
        found = Booking() if booked is None else booked.booking
        return due is None or due.booking not in (None, found)


def _checkout_due(partition: int, checkout: CheckedCheckout) -> _Due:
    state = None if checkout.state is None else SaleState(checkout.state)
    booking = None
    problems: list[_Problem] = []
    if state is not None and state.unfinished:
        pass
    elif not checkout.answered:
        missing = "checkout of a request" if state is None else "answer of a checkout"
        problems.append((missing, "one", None))
    else:
        booking = _sold(checkout)
        if checkout.amount is None and state is SaleState.DONE:
            problems.append(("answer of a checkout that is done", "what was sold", "a refusal"))
        # One that cost nothing can be let go after it was sold.
        elif booking.amount and state is not SaleState.DONE:
            problems.append(("state of a checkout that was sold", "done", checkout.state))
    return _Due(
        partition=partition,
        member_id=checkout.member_id,
        own_id=checkout.checkout_id,
        request_id=checkout.request_id,
        booking=booking,
        problems=tuple(problems),
    )


def _sold(checkout: CheckedCheckout) -> Booking:
    """What the ledger has of a checkout by its answer: nothing of one that was not sold, or cost nothing."""
    if not checkout.amount:
        return Booking()
    return Booking(
        redeemed=checkout.points or 0,
        purchase_id=checkout.checkout_id,
        currency=checkout.currency or "",
        amount=checkout.amount,
        points_paid=checkout.points or 0,
        amount_paid=checkout.points_amount or 0,
    )


def _unlike(name: str, due: _Due, found: Booking, *, erased: bool) -> Iterator[Difference]:
    """Where the ledger has something else for one of ours."""
    for one in fields(Booking):
        expected, there = getattr(due.booking, one.name), getattr(found, one.name)
        # What an erased member held lapsed with it.
        if expected != there and not (erased and one.name == "held"):
            yield _difference(f"{_WHAT[one.name]} of a {_kind(name)}", _place(name, due), expected, there)


def _without(booked: Booked) -> Iterator[Difference]:
    """What the ledger has for none of ours."""
    where = f"partition {booked.partition}, member {booked.member_id}, {_at_ledger(booked.name)}"
    for one in fields(Booking):
        if there := getattr(booked.booking, one.name):
            yield _difference(f"{_WHAT[one.name]} without a {_kind(booked.name)}", where, None, there)


def _place(name: str, due: _Due) -> str:
    return (
        f"partition {due.partition}, member {due.member_id}, {_kind(name)} {due.own_id} "
        f"by request {due.request_id}, {_at_ledger(name)}"
    )


def _at_ledger(name: str) -> str:
    return f"at the ledger by requests {name}-*"


def _kind(name: str) -> str:
    return _REWARD if name.startswith("reward-") else _CHECKOUT


def _difference(what: str, where: str, expected: object, found: object) -> Difference:
    # With an empty text the line would break off.
    return {
        "what": what,
        "where": where,
        "expected": None if expected == "" else expected,
        "found": None if found == "" else found,
    }
