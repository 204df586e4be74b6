"""Every command in any order, beside a model in plain Python: after each step both have come to the same."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.ledger.domain import commands
from services.ledger.domain.catching_up import catch_up
from services.ledger.domain.commands import Line, LineKind
from services.ledger.domain.decide import Now, decide
from services.ledger.domain.encoding import decode_body, encode_body
from services.ledger.domain.events import Account, EntryKind, Event, LineReturn, PointsPayment
from services.ledger.domain.state import (
    Known,
    Member,
    Purchase,
    Redemption,
    evolve_lapsed,
    evolve_member,
    evolve_purchase,
    evolve_redemption,
    redemption_of,
)
from services.ledger.errors import RejectedError
from services.programme import Programme, Versions, parse
from tests.ledger_model import Bonus, Bought, Key, Model, Rules, day_begins, draw_order, goods_of
from tests.ledger_rules import as_of

DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)

PROGRAMMES = (
    Rules(sign_up=50, points=3, per=250),
    Rules(policy="after", period=(3, "D"), pending=2, base="total", points=7, per=300),
    Rules(zone="America/New_York", policy="after", period=(1, "M"), sign_up=20, shortfall="forgive", back_dating=30),
    Rules(
        zone="America/Santiago",
        policy="calendar_year",
        period=(0, "M"),
        pending=1,
        shortfall="refuse",
        minimum=10,
        step=5,
        per_call=100,
        per_day=150,
    ),
    Rules(policy="inactivity", period=(5, "D"), per_call=50, sign_up=10, shortfall="debt"),
    Rules(policy="inactivity", period=(1, "M"), pending=1, zone="America/Santiago"),
    Rules(
        policy="after",
        period=(1, "Y"),
        per=100,
        bonuses=(
            Bonus("dairy-double", multiplier="2.5", departments=("DAIRY",)),
            Bonus("first", points=37, minimum=500, first_purchase=True),
            Bonus("weekend", multiplier="1.3333", weekdays=("sat", "sun")),
        ),
        per_day=120,
        back_dating=90,
    ),
    Rules(
        policy="calendar_year",
        period=(2, "M"),
        base="total",
        zone="Asia/Kolkata",
        bonuses=(Bonus("always", points=11), Bonus("meat", multiplier="3", departments=("MEAT", "DAIRY"))),
        minimum=5,
    ),
    Rules(
        policy="inactivity",
        period=(20, "D"),
        base="total",
        bonuses=(Bonus("big", points=9, minimum=4000), Bonus("meat", multiplier="1.3", departments=("MEAT",))),
        activities=(("review", 7),),
        rates=(("2024-01-01", "USD", 100, 91), ("2024-03-01", "USD", 300, 277), ("2024-01-01", "PLN", 10000, 2317)),
    ),
    Rules(
        policy="after",
        period=(2, "M"),
        activities=(("review", 25), ("survey", 3)),
        rates=(("2024-02-28", "EUR", 10000, 43217), ("2024-10-27", "EUR", 100, 437)),
        abroad="PLN",
        abroad_per=37,
    ),
)

# Days before the clock changes, the leap day and the end of the year, in the zones above.
STARTS = (
    datetime(2024, 2, 27, 12, tzinfo=UTC),
    datetime(2024, 3, 9, 20, tzinfo=UTC),
    datetime(2024, 3, 30, 9, tzinfo=UTC),
    datetime(2024, 9, 6, 3, tzinfo=UTC),
    datetime(2024, 10, 26, 18, tzinfo=UTC),
    datetime(2024, 12, 30, 22, tzinfo=UTC),
)


@dataclass(frozen=True)
class Figures:
    """What is asked of a member after each step; lots in the order they are drawn, without what is empty."""

    pending: tuple[tuple[Key, int], ...]
    lots: tuple[tuple[Key, int], ...]
    holds: Mapping[str, tuple[datetime, tuple[tuple[Key, int], ...]]]
    debt: int
    earned: int
    redeemed: int
    adjusted: int
    expired: int
    # Of each purchase: what came back in all, of goods, and of what it gave; of what points paid, in points and money;
    # and whether it was voided.
    purchases: Mapping[str, tuple[int, int, int, int, int, bool]]


class Subject(Protocol):
    """What stands beside the model: the domain alone, or a ledger that runs."""

    def perform(self, now: datetime, command: commands.MemberCommand) -> str:
        """Carries out a command: its kind, why it was refused, "rejected", or "" where it changes nothing."""

    def figures(self, now: datetime, member_id: str) -> Figures:
        """A member's figures at an instant."""


@functools.cache
def programme_of(rules: Rules) -> Programme:
    return parse(rules.yaml(), "modelled")


class Kept:
    """What is kept of one member: its states, and the same rebuilt from its encoded events."""

    def __init__(self) -> None:
        self.known = Known()
        self.purchases: dict[str, Purchase] = {}
        self.redemptions: dict[str, Redemption] = {}
        self.details: dict[str, Mapping[str, Any]] = {}
        self.events: list[Event] = []
        self.rebuilt = Known()
        self.rebuilt_purchases: dict[str, Purchase] = {}
        self.rebuilt_redemptions: dict[str, Redemption] = {}
        self.posted: Counter[Account] = Counter()

    def member(self) -> Member:
        assert self.known.member is not None
        return self.known.member

    def about(self, command: commands.MemberCommand) -> Known:
        purchase_id = getattr(command, "purchase_id", "")
        purchase, payment = self.purchases.get(purchase_id), getattr(command, "points_payment", None)
        payment = payment or (purchase and purchase.points_payment)
        redemption = payment.redemption_id if payment else getattr(command, "redemption_id", "")
        return self.known._replace(
            purchase=purchase,
            redemption=self.redemptions.get(redemption),
            bought=self.details.get(purchase_id),
        )

    def keep(self, known: Known, events: Iterable[Event], purchase_id: str = "") -> None:
        self.known = known._replace(purchase=None, redemption=None, bought=None)
        if known.purchase is not None:
            self.purchases[purchase_id] = known.purchase
        for event in events:
            if event.kind is EntryKind.PURCHASE_RECORDED:
                self.details[purchase_id] = event.detail or {}
            if (name := redemption_of(event)) and known.redemption is not None:
                self.redemptions[name] = known.redemption
            self.events.append(event)
            self.rebuild(event)

    def rebuild(self, event: Event) -> None:
        """Follows with what can be read back of an event, and with nothing else."""
        body = encode_body(event)
        read = Event(
            kind=event.kind,
            member_id=event.member_id,
            request_id=event.request_id,
            occurred_time=event.occurred_time,
            purchase_id=event.purchase_id,
            author=event.author,
            **decode_body(body),
        )
        assert encode_body(read) == body
        assert read == event._replace(detail=None)
        if read.purchase_id:
            purchase = evolve_purchase(self.rebuilt_purchases.get(read.purchase_id), read)
            if purchase is not None:
                self.rebuilt_purchases[read.purchase_id] = purchase
        if name := redemption_of(read):
            redemption = evolve_redemption(self.rebuilt_redemptions.get(name), read)
            assert redemption is not None
            self.rebuilt_redemptions[name] = redemption
        member = evolve_member(self.rebuilt.member, read)
        self.rebuilt = Known(member=member, lapsed=evolve_lapsed(self.rebuilt.lapsed, read))
        after = (member.pending_points, member.available, member.held, member.debt)
        assert after == (event.pending_after, event.available_after, event.held_after, event.debt_after)
        assert min(after) >= 0
        assert not (member.debt and member.available), "what is available pays debt first"
        for posting in event.postings:
            self.posted[posting.account] += posting.points
        assert event.points == event.posted(Account.ISSUED), "the rules say where all points issued came from"
        assert sum(after[:3]) - after[3] == (
            self.posted[Account.ISSUED]
            + self.posted[Account.ADJUSTED]
            - self.posted[Account.REDEEMED]
            - self.posted[Account.EXPIRED]
        )


def check_payments(kept: Kept) -> None:
    """What paid comes back, never more, all of it with all of the purchase; and nothing pays twice."""
    paid: Counter[str] = Counter()
    for bought in kept.purchases.values():
        if (payment := bought.points_payment) is None:
            continue
        assert 0 <= bought.payment_points_returned <= payment.points
        assert 0 <= bought.payment_amount_returned <= payment.amount
        if bought.returned == bought.amount:
            assert (bought.payment_points_returned, bought.payment_amount_returned) == payment[1:]
        paid[payment.redemption_id] += payment.points - bought.payment_points_returned
    for name, redemption in kept.redemptions.items():
        assert redemption.paid == paid[name]
        assert redemption.unused >= 0
    for event in kept.events:
        if event.kind in (EntryKind.RETURN_RECORDED, EntryKind.PURCHASE_VOIDED):
            refund = event.amount - (event.points_payment.amount if event.points_payment else 0)
            assert 0 <= (event.goods_paid or 0) <= refund


class Domain:
    """The pure rules, with a dict for a database."""

    def __init__(self, rules: Rules, *, simulated: bool) -> None:
        self._programme = programme_of(rules)
        self._simulated = simulated
        self._kept: dict[str, Kept] = {}

    @property
    def _versions(self) -> Versions:
        return Versions.only(self._programme)

    def perform(self, now: datetime, command: commands.MemberCommand) -> str:
        kept = self._kept.get(command.member_id) or Kept()
        before = kept.about(command)
        try:
            decision = decide(self._versions, Now(time=now, simulated=self._simulated), before, command)
        except RejectedError:
            return "rejected"
        if not decision.events:
            assert decision.known == before, "nothing changes"
            return ""
        self._kept[command.member_id] = kept
        kept.keep(decision.known, decision.events, getattr(command, "purchase_id", ""))
        # A return that waited is answered again, under its own request id, when its purchase comes.
        answer = next(event for event in reversed(decision.events) if event.request_id == command.request_id)
        return answer.reason if answer.kind is EntryKind.REQUEST_REFUSED else answer.kind.value

    def change(self, now: datetime, rules: Rules) -> None:
        """Another programme holds from now on."""
        for kept in self._kept.values():
            # What the old programme has brought about is written down under it.
            events, _ = catch_up(self._versions, kept.member(), now)
            known = kept.known
            for event in events:
                known = known.after(event)
            kept.keep(known, events)
        self._programme = programme_of(rules)

    def figures(self, now: datetime, member_id: str) -> Figures:
        kept = self._kept[member_id]
        past, member = catch_up(self._versions, kept.member(), now)
        self._check(kept, member, now)
        return Figures(
            pending=tuple((tuple(lot.key), lot.points) for lot in member.pending),
            lots=tuple((tuple(lot.key), lot.points) for lot in member.lots),
            holds={
                hold.hold_id: (hold.expires, tuple((tuple(lot.key), lot.points) for lot in hold.lots))
                for hold in member.holds
            },
            debt=member.debt,
            earned=member.earned,
            redeemed=member.redeemed,
            adjusted=kept.posted[Account.ADJUSTED],
            expired=kept.posted[Account.EXPIRED] + sum(event.posted(Account.EXPIRED) for event in past),
            purchases={
                name: (
                    bought.returned,
                    bought.returned_goods,
                    bought.returned_points,
                    bought.payment_points_returned,
                    bought.payment_amount_returned,
                    bought.voided,
                )
                for name, bought in kept.purchases.items()
                if bought.arrived
            },
        )

    def _check(self, kept: Kept, member: Member, now: datetime) -> None:
        assert kept.rebuilt == kept.known
        assert kept.rebuilt_purchases == kept.purchases
        assert kept.rebuilt_redemptions == kept.redemptions
        check_payments(kept)
        # Events may run a little ahead of the clock; at an instant after all of them nothing is left out.
        horizon = max(now, *[event.occurred_time for event in kept.events])
        assert as_of(self._programme, kept.events, horizon) == catch_up(self._versions, kept.member(), horizon)[1]
        then = as_of(self._programme, kept.events, kept.events[-1].occurred_time)
        if then is not None:
            assert min(then.pending_points, then.available, then.held, then.debt) >= 0
            assert not (then.debt and then.available)


amounts = st.one_of(st.integers(1, 400), st.integers(1, 30_000), st.sampled_from([99, 100, 1000, 9999]))
points = st.one_of(st.integers(1, 30), st.sampled_from([5, 10, 50, 100, 1000]))
ttls = st.one_of(
    st.integers(1, 120).map(lambda minutes: timedelta(minutes=minutes)),
    st.integers(1, 50).map(lambda days: timedelta(days=days)),
)
stores = st.sampled_from(["s1", "s1", "s1", "s2"])
anyone = st.runner().flatmap(lambda machine: st.sampled_from(machine.members))


@st.composite
def receipts(draw: st.DrawFn) -> tuple[int, tuple[Line, ...]]:
    if draw(st.booleans()):
        return draw(amounts), ()
    lines = tuple(
        Line(
            "sku",
            "",
            draw(st.sampled_from(["DAIRY", "MEAT", ""])),
            "",
            draw(st.integers(1, 4)),
            draw(st.one_of(amounts, st.just(0))),
            draw(st.sampled_from([LineKind.GOODS, LineKind.GOODS, LineKind.SHIPPING, LineKind.GIFT_CARD])),
        )
        for _ in range(draw(st.integers(1, 3)))
    )
    return sum(line.amount for line in lines), lines


class LedgerBesideItsModel(RuleBasedStateMachine):
    """Members under one programme, in time that only goes forward. Subclasses say what stands beside the model."""

    members: tuple[str, ...] = ("m",)

    def begin(self, rules: Rules, *, simulated: bool) -> Subject:
        """What stands beside the model."""
        raise NotImplementedError

    @initialize(rules=st.sampled_from(PROGRAMMES), start=st.sampled_from(STARTS), simulated=st.booleans())
    def start(self, rules: Rules, start: datetime, simulated: bool) -> None:
        self.rules, self.now, self.simulated = rules, start, simulated
        self.subject = self.begin(rules, simulated=simulated)
        self.models = {member: Model(rules, simulated=simulated) for member in self.members}
        self.requests = 0
        for member in self.members:
            market = "abroad" if rules.abroad else ""
            self.send(commands.EnrollMember, member, start - 3 * DAY, channel="", market=market)
            for days in range(3):
                at = start - days * DAY
                self.send(commands.AwardPoints, member, at, points=20 + days, reason="x", note="", purchase_id="")

    # --- time ---------------------------------------------------------------------------------------------------

    @rule(minutes=st.integers(0, 300))
    def minutes_pass(self, minutes: int) -> None:
        self.pass_time(self.now + timedelta(minutes=minutes))

    @rule(days=st.sampled_from([1, 1, 2, 5, 13, 40, 200]), nudge=st.integers(-1, 1))
    def days_pass(self, days: int, nudge: int) -> None:
        local_day = self.rules.local(self.now) + days * DAY
        self.pass_time(day_begins(self.rules.zone, local_day) + nudge * MICROSECOND)

    @rule(nudge=st.integers(-1, 1))
    def the_next_instant_comes_at_which_time_does_something(self, nudge: int) -> None:
        instants = [due for model in self.models.values() if (due := model.next_instant()) is not None]
        if instants:
            self.pass_time(min(instants) + nudge * MICROSECOND)

    def pass_time(self, until: datetime) -> None:
        """Time goes on, and never back."""
        self.now = max(self.now, until)

    # --- commands -----------------------------------------------------------------------------------------------

    def send(self, kind: Any, member: str, occurred: datetime | None, **fields: Any) -> str:
        self.requests += 1
        fields.setdefault("principal", "p")
        command = kind(
            member_id=member,
            request_id=f"r{self.requests}",
            on_behalf_of="",
            occurred_time=occurred,
            request=b"",
            **fields,
        )
        expected = self.models[member].do(self.now, command)
        self.carry_out(command, expected)
        return expected

    def carry_out(self, command: commands.MemberCommand, expected: str) -> None:
        """Has a command carried out beside the model, which has answered."""
        assert self.subject.perform(self.now, command) == expected

    def about_now(self, data: st.DataObject) -> datetime | None:
        """Mostly now; late by minutes or days, or a little ahead."""
        ahead = 3 if self.simulated else 0
        minutes = data.draw(
            st.one_of(
                st.none(),
                st.none(),
                st.integers(-600, 3),
                st.sampled_from([-100, -20, -3, -1, ahead]).map(lambda days: 24 * 60 * days),
            ),
            "occurred",
        )
        return None if minutes is None else self.now + timedelta(minutes=minutes)

    def one_of(self, data: st.DataObject, known: Iterable[str], label: str) -> str:
        """One of those that there are, mostly one of the last, seldom one that is not there."""
        last = list(known)[-3:]
        return data.draw(st.sampled_from([*last, *last, *last, "nothing"]), label)

    def money(self, data: st.DataObject, member: str) -> str:
        """A currency: mostly the one at home, or one that there is a rate for."""
        home = self.rules.abroad if self.models[member].abroad and self.rules.abroad else "EUR"
        known = [currency for _, currency, _, _ in self.rules.rates]
        return data.draw(st.sampled_from([home, home, *known, *known, "GBP"] if known else [home]), "currency")

    def bought(self, member: str) -> list[str]:
        return [name for name, bought in self.models[member].purchases.items() if bought.amount]

    @rule(data=st.data(), member=anyone, receipt=receipts(), store=stores)
    def a_purchase(self, data: st.DataObject, member: str, receipt: tuple[int, tuple[Line, ...]], store: str) -> None:
        waiting = [name for name, bought in self.models[member].purchases.items() if bought.waiting]
        new = f"p{self.requests}"
        purchase = data.draw(st.sampled_from([*waiting, *waiting, new, new, *self.bought(member)[:1]]), "purchase")
        fields = movement(*receipt, purchase, store, self.money(data, member))
        self.send(commands.RecordPurchase, member, self.about_now(data), **fields)

    @precondition(lambda self: any(model.redemptions for model in self.models.values()))
    @rule(data=st.data(), member=anyone, receipt=receipts())
    def a_purchase_that_points_pay_in_part(
        self, data: st.DataObject, member: str, receipt: tuple[int, tuple[Line, ...]]
    ) -> None:
        redemptions = self.models[member].redemptions
        unused = [name for name, spent in redemptions.items() if spent.unused()]
        name = self.one_of(data, unused or redemptions, "redemption")
        left = redemptions[name].unused() if name in redemptions else 0
        points = data.draw(st.sampled_from([left, left, left // 2, left // 3, left + 1]), "points") or 1
        goods = goods_of(*receipt)
        cents = data.draw(st.sampled_from([goods, goods // 2, goods // 7, min(points, goods), goods + 1]), "cents") or 1
        waiting = [name for name, bought in self.models[member].purchases.items() if bought.waiting]
        purchase = data.draw(st.sampled_from([*waiting, f"p{self.requests}"]), "purchase")
        fields = movement(*receipt, purchase, "s1", self.money(data, member))
        payment = PointsPayment(name, points, cents)
        self.send(commands.RecordPurchase, member, self.about_now(data), **fields, points_payment=payment)

    def money_of(self, data: st.DataObject, member: str, bought: Bought | None) -> str:
        """Mostly the currency of the purchase."""
        other = self.money(data, member)
        paid = bought.currency if bought and bought.currency else other
        return data.draw(st.sampled_from([paid, paid, paid, other]), "currency of the return")

    @rule(data=st.data(), member=anyone, wanted=amounts, goods=st.booleans())
    def a_return_by_amount(self, data: st.DataObject, member: str, wanted: int, goods: bool) -> None:
        purchase = self.one_of(data, self.bought(member), "purchase")
        bought = self.models[member].purchases.get(purchase)
        rest = bought.amount - bought.returned if bought and bought.amount else 0
        amount = data.draw(st.sampled_from([rest, rest // 2, rest // 3 + 1, wanted]), "amount")
        lines = (Line("sku", "", "", "", 1, amount, LineKind.GOODS),) if goods else ()
        fields = movement(amount, lines, purchase, "s1", self.money_of(data, member, bought))
        self.send(commands.RecordReturn, member, self.about_now(data), **fields, reason="")

    @rule(data=st.data(), member=anyone)
    def a_return_by_lines(self, data: st.DataObject, member: str) -> None:
        purchase = self.one_of(data, self.bought(member), "purchase")
        bought = self.models[member].purchases.get(purchase)
        there = bought.lines if bought else ()
        named = []
        for _ in range(data.draw(st.integers(1, 2), "lines")):
            number = data.draw(st.integers(1, len(there) or 3), "number")
            line = there[number - 1] if there else Line("", "", "", "", 1, 100, LineKind.GOODS)
            if data.draw(st.booleans(), "by pieces"):
                named.append(LineReturn(number, data.draw(st.integers(1, line.quantity), "pieces"), 0))
            else:
                named.append(LineReturn(number, 0, data.draw(st.integers(1, line.amount or 1), "value")))
        amount = data.draw(st.sampled_from([0, 0, 0, sum(one.amount for one in named)]), "amount")
        fields = movement(amount, (), purchase, "s1", self.money_of(data, member, bought))
        self.send(commands.RecordReturn, member, self.about_now(data), **fields, reason="", returned_lines=tuple(named))

    @rule(data=st.data(), member=anyone, amount=st.integers(0, 900), goods=st.booleans())
    def an_unlinked_return(self, data: st.DataObject, member: str, amount: int, goods: bool) -> None:
        lines = (Line("sku", "", "", "", 1, amount, LineKind.GOODS if goods else LineKind.SHIPPING),)
        fields = movement(amount, lines, "", "s1", self.money(data, member))
        self.send(commands.RecordReturn, member, self.about_now(data), **fields, reason="")

    @rule(data=st.data(), member=anyone, store=stores)
    def a_purchase_is_voided(self, data: st.DataObject, member: str, store: str) -> None:
        purchase = self.one_of(data, self.bought(member), "purchase")
        self.send(
            commands.VoidPurchase, member, self.about_now(data), purchase_id=purchase, store_id=store, reason="mistake"
        )

    @rule(data=st.data(), member=anyone, points=points, linked=st.booleans())
    def an_award(self, data: st.DataObject, member: str, points: int, linked: bool) -> None:
        purchase = self.one_of(data, self.bought(member), "purchase") if linked else ""
        self.send(
            commands.AwardPoints,
            member,
            self.about_now(data),
            points=points,
            reason="x",
            note="",
            purchase_id=purchase,
        )

    @rule(member=anyone, points=points, negative=st.booleans())
    def an_adjustment(self, member: str, points: int, negative: bool) -> None:
        points = -points if negative else points
        self.send(commands.AdjustPoints, member, None, points=points, reason="goodwill", note="")

    @precondition(lambda self: any(sum(model.gone.values()) for model in self.models.values()))
    @rule(data=st.data(), member=anyone, points=points)
    def a_restoration(self, data: st.DataObject, member: str, points: int) -> None:
        lapsed = sum(self.models[member].gone.values())
        points = data.draw(st.sampled_from([lapsed or 1, lapsed // 2 or 1, lapsed + 1, points]), "points")
        self.send(
            commands.AdjustPoints,
            member,
            self.about_now(data),
            points=points,
            reason="wrong-expiry",
            note="",
            restores_expired=True,
        )

    @precondition(lambda self: any(model.asked for model in self.models.values()))
    @rule(data=st.data(), member=anyone, principal=st.sampled_from(["q", "q", "p"]), declined=st.booleans())
    def an_approval_or_a_no(self, data: st.DataObject, member: str, principal: str, declined: bool) -> None:
        asked = self.models[member].asked
        name = self.one_of(data, asked, "adjustment")
        points, restores, _ = asked.get(name, (1, False, ""))
        points = data.draw(st.sampled_from([points, points, points, points + 1]), "points") or 1
        restores = points > 0 and data.draw(st.sampled_from([restores, restores, restores, not restores]), "restores")
        self.send(
            commands.AdjustPoints,
            member,
            None,
            principal=principal,
            points=points,
            reason="goodwill",
            note="",
            approves="" if declined else name,
            declines=name if declined else "",
            restores_expired=restores,
        )

    def some(self, data: st.DataObject, member: str, points: int) -> int:
        """A number of points: any, or what is there."""
        there = sum(self.models[member].lots.values())
        return data.draw(st.sampled_from([there or 1, there // 2 or 1, there // 10 * 10 or 10, points]), "points")

    @rule(data=st.data(), member=anyone, points=points, offline=st.booleans())
    def a_redemption(self, data: st.DataObject, member: str, points: int, offline: bool) -> None:
        self.send(
            commands.RedeemPoints,
            member,
            self.about_now(data),
            points=self.some(data, member, points),
            reason="discount",
            note="",
            purchase_id="",
            store_id="",
            channel="",
            offline=offline,
        )

    @precondition(lambda self: any(model.redemptions for model in self.models.values()))
    @rule(data=st.data(), member=anyone, points=st.one_of(points, st.just(0)))
    def a_reversal(self, data: st.DataObject, member: str, points: int) -> None:
        redemption = self.one_of(data, self.models[member].redemptions, "redemption")
        self.send(
            commands.ReverseRedemption,
            member,
            self.about_now(data),
            redemption_id=redemption,
            points=points,
            reason="",
            note="",
        )

    @rule(data=st.data(), member=anyone, points=points, ttl=ttls)
    def a_hold(self, data: st.DataObject, member: str, points: int, ttl: timedelta) -> None:
        points = self.some(data, member, points)
        self.send(commands.HoldPoints, member, self.about_now(data), points=points, ttl=ttl, reason="", purchase_id="")

    @precondition(lambda self: any(model.holds for model in self.models.values()))
    @rule(data=st.data(), member=anyone, points=st.one_of(points, st.just(0)))
    def a_capture(self, data: st.DataObject, member: str, points: int) -> None:
        hold = self.one_of(data, self.models[member].holds, "hold")
        self.send(
            commands.CaptureHold,
            member,
            self.about_now(data),
            hold_id=hold,
            points=points,
            reason="",
            purchase_id="",
        )

    @precondition(lambda self: any(model.holds for model in self.models.values()))
    @rule(data=st.data(), member=anyone, points=st.one_of(points, st.just(0)))
    def a_release(self, data: st.DataObject, member: str, points: int) -> None:
        hold = self.one_of(data, self.models[member].holds, "hold")
        self.send(commands.ReleaseHold, member, self.about_now(data), hold_id=hold, points=points)

    @precondition(lambda self: any(model.holds for model in self.models.values()))
    @rule(data=st.data(), member=anyone, ttl=ttls)
    def an_extension(self, data: st.DataObject, member: str, ttl: timedelta) -> None:
        hold = self.one_of(data, self.models[member].holds, "hold")
        self.send(commands.ExtendHold, member, self.about_now(data), hold_id=hold, ttl=ttl)

    @rule(data=st.data(), member=anyone, stays=st.sampled_from([False, False, False, True]))
    def the_member_leaves_and_mostly_comes_back(self, data: st.DataObject, member: str, stays: bool) -> None:
        self.send(commands.ResignMember, member, self.about_now(data), reason="")
        if not stays:
            self.send(commands.RejoinMember, member, self.about_now(data), channel="")

    @precondition(lambda self: any(model.is_away(self.now) for model in self.models.values()))
    @rule(data=st.data(), member=anyone)
    def the_member_comes_back(self, data: st.DataObject, member: str) -> None:
        self.send(commands.RejoinMember, member, self.about_now(data), channel="")

    @rule(data=st.data(), member=anyone, name=st.sampled_from(["review", "review", "survey", "cartwheel"]))
    def an_activity(self, data: st.DataObject, member: str, name: str) -> None:
        self.send(commands.RecordActivity, member, self.about_now(data), activity=name, reference="", channel="")

    @rule(data=st.data(), member=anyone, plan=st.sampled_from(["plus", "plus", "gold"]), days=st.integers(-1, 30))
    def a_fee(self, data: st.DataObject, member: str, plan: str, days: int) -> None:
        fields = {"plan": plan, "currency": self.money(data, member), "amount": 4900}
        end = self.now + days * DAY
        self.send(commands.RecordMembershipFee, member, self.about_now(data), **fields, start_time=None, end_time=end)

    @rule(member=anyone, days=st.integers(-2, 1), thaws=st.sampled_from([0, 0, 1, 2, None]))
    def the_account_is_suspended(self, member: str, days: int, thaws: int | None) -> None:
        for name, day in (("suspended", days), ("guest", days + (thaws or 0))):
            if name == "suspended" or thaws is not None:
                self.send(
                    commands.SetEarningClass,
                    member,
                    None,
                    earning_class=name,
                    effective_time=self.now + day * DAY,
                    sequence=self.requests + 1,
                )

    @rule(
        data=st.data(),
        member=anyone,
        name=st.sampled_from(["regular", "guest", "regular", "unknown"]),
        older=st.booleans(),
        days=st.integers(-3, 3),
    )
    def a_class(self, data: st.DataObject, member: str, name: str, older: bool, days: int) -> None:
        self.send(
            commands.SetEarningClass,
            member,
            self.about_now(data),
            earning_class=name,
            effective_time=self.now + days * DAY,
            sequence=1 if older else self.requests + 1,
        )

    # --- what holds after each ----------------------------------------------------------------------------------

    @invariant()
    def both_have_come_to_the_same(self) -> None:
        for member, model in getattr(self, "models", {}).items():
            model.pass_time(self.now)
            assert self.subject.figures(self.now, member) == figures_of(model)


def movement(amount: int, lines: tuple[Line, ...], purchase: str, store: str, currency: str = "EUR") -> dict[str, Any]:
    return {
        "currency": currency,
        "amount": amount,
        "lines": lines,
        "purchase_id": purchase,
        "store_id": store,
        "receipt_number": "",
        "channel": "",
    }


def figures_of(model: Model) -> Figures:
    def ordered(lots: dict[tuple[date | None, date | None], int]) -> tuple[tuple[Key, int], ...]:
        return tuple((key, lots[key]) for key in sorted(lots, key=draw_order))

    return Figures(
        pending=ordered(model.pending),
        lots=ordered(model.lots),
        holds={name: (expires, tuple(parts)) for name, (expires, parts) in model.holds.items()},
        debt=model.debt,
        earned=model.issued,
        redeemed=model.redeemed,
        adjusted=model.adjusted,
        expired=model.expired,
        purchases={
            name: (
                bought.returned,
                bought.returned_goods,
                sum(given.taken for given in bought.given),
                bought.paid_back.points,
                bought.paid_back.cents,
                bought.voided,
            )
            for name, bought in model.purchases.items()
            if bought.amount
        },
    )


class DomainBesideItsModel(LedgerBesideItsModel):
    """The rules alone; with them the programme may change at any time."""

    subject: Domain

    def begin(self, rules: Rules, *, simulated: bool) -> Domain:
        return Domain(rules, simulated=simulated)

    @rule(rules=st.sampled_from(PROGRAMMES))
    def another_programme_holds(self, rules: Rules) -> None:
        self.subject.change(self.now, rules)
        for model in self.models.values():
            model.pass_time(self.now)
            model.rules = rules
        self.rules = rules


TestTheDomain = DomainBesideItsModel.TestCase
TestTheDomain.settings = settings(max_examples=250, stateful_step_count=40, deadline=None, print_blob=True)
