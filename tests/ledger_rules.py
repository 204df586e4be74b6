"""A member under a small programme, and what happens to it: for tests of the rules alone, without a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from services.ledger.domain import commands
from services.ledger.domain.catching_up import catch_up
from services.ledger.domain.commands import Line, LineKind
from services.ledger.domain.decide import Now, decide
from services.ledger.domain.events import EntryKind, Event, LineReturn, PointsPayment
from services.ledger.domain.state import Known, Member, Purchase, Redemption, redemption_of
from services.ledger.domain.views import AsOf
from services.programme import SINCE_EVER, Programme, Version, Versions, parse

WARSAW = ZoneInfo("Europe/Warsaw")
_FILE = """
programme: corner-shop
currency: EUR
time_zone: {zone}
earning:
  base: {base}
  points: 1
  per: "1.00"
{earning}
{more}
tiers:
  base: total
  window: P365D
  levels:
    - name: Guest
    - name: Regular
      from: "300.00"
      earning_multiplier: "1.25"
"""


def programme(more: str = "", *, earning: str = "", zone: str = "Europe/Warsaw", base: str = "goods_paid") -> Programme:
    """One point for a euro of goods, and what is added: lines of the file, or of its `earning`."""
    indented = "\n".join(f"  {line}" for line in earning.strip().splitlines())
    return parse(_FILE.format(zone=zone, base=base, earning=indented, more=more), "corner-shop.yaml")


def local(*numbers: int, zone: ZoneInfo = WARSAW) -> datetime:
    """The instant at which the shop's clock shows this."""
    return datetime(*numbers, tzinfo=zone).astimezone(UTC)  # type: ignore[misc, arg-type]


def goods(amount: int, department: str = "", quantity: int = 1) -> Line:
    return Line("sku", "", department, "", quantity, amount, LineKind.GOODS)


def shipping(amount: int) -> Line:
    return Line("sku", "", "", "", 1, amount, LineKind.SHIPPING)


def gift_card(amount: int) -> Line:
    return Line("sku", "", "", "", 1, amount, LineKind.GIFT_CARD)


class Shop:
    """One member, its purchases and redemptions, and a clock; each call is one command, decided now."""

    def __init__(self, rules: Programme, now: datetime, *, joined: datetime | None = None, market: str = "") -> None:
        self.programme, self.now = rules, now
        self.later: list[Version] = []
        self.events: list[Event] = []
        self.known = Known()
        self._purchases: dict[str, Purchase] = {}
        self._redemptions: dict[str, Redemption] = {}
        self._details: dict[str, Mapping[str, Any] | None] = {}
        self.do(commands.EnrollMember, at=joined or now - timedelta(days=1), channel="", market=market)

    @property
    def versions(self) -> Versions:
        """The programme, as if it had always been, and those that follow it."""
        return Versions([Version(programme=self.programme, from_time=SINCE_EVER), *self.later])

    @property
    def member(self) -> Member:
        """The member as it stands now."""
        assert self.known.member is not None
        return catch_up(self.versions, self.known.member, self.now)[1]

    @property
    def balance(self) -> tuple[int, int, int, int]:
        """Pending, available, held, debt."""
        member = self.member
        return member.pending_points, member.available, member.held, member.debt

    @property
    def lots(self) -> list[tuple[str, int]]:
        """The last days of the lots in the order they are drawn, and their points; "" lasts for ever."""
        return [(lot.key.expires.isoformat() if lot.key.expires else "", lot.points) for lot in self.member.lots]

    def purchase_of(self, purchase_id: str) -> Purchase:
        return self._purchases[purchase_id]

    def redemption(self, redemption_id: str) -> Redemption:
        return self._redemptions[redemption_id]

    def forget(self, purchase_id: str) -> None:
        """Erases the detail of a purchase."""
        self._details[purchase_id] = None

    def do(self, kind: Any, *, at: datetime | None = None, **fields: Any) -> Event:
        """Carries out a command; its own event, which is a refusal where it was refused."""
        request_id = fields.pop("request_id", f"r{len(self.events)}")
        command = kind(
            member_id="m",
            request_id=request_id,
            occurred_time=at,
            request=b"",
            **{"principal": "till", "on_behalf_of": "", **fields},
        )
        about = fields.get("purchase_id", "")
        purchase, payment = self._purchases.get(about), fields.get("points_payment")
        payment = payment or (purchase and purchase.points_payment)
        known = self.known._replace(
            purchase=purchase,
            redemption=self._redemptions.get(payment.redemption_id if payment else fields.get("redemption_id", "")),
            bought=self._details.get(about),
        )
        decision = decide(self.versions, Now(time=self.now), known, command)
        self.known = decision.known
        if decision.known.purchase is not None:
            self._purchases[about] = decision.known.purchase
        for event in decision.events:
            if (name := redemption_of(event)) and decision.known.redemption is not None:
                self._redemptions[name] = decision.known.redemption
        self.events += decision.events
        event = next(event for event in reversed(decision.events) if event.request_id == request_id)
        if event.kind is EntryKind.PURCHASE_RECORDED:
            self._details[about] = event.detail or {}
        return event

    def buy(
        self,
        amount: int,
        *lines: Line,
        purchase_id: str = "a",
        at: datetime | None = None,
        store_id: str = "",
        exchange_id: str = "",
        currency: str = "EUR",
        paid: tuple[Event, int, int] | None = None,
    ) -> Event:
        """A purchase; `paid`: the redemption, points and cents of what points paid."""
        return self.do(
            commands.RecordPurchase,
            at=at,
            purchase_id=purchase_id,
            **_movement(amount, lines, store_id, currency),
            exchange_id=exchange_id,
            points_payment=PointsPayment(paid[0].request_id, *paid[1:]) if paid else None,
        )

    def bring_back(
        self,
        amount: int = 0,
        *lines: Line,
        named: tuple[LineReturn, ...] = (),
        purchase_id: str = "a",
        at: datetime | None = None,
        currency: str = "EUR",
    ) -> Event:
        return self.do(
            commands.RecordReturn,
            at=at,
            purchase_id=purchase_id,
            **_movement(amount, lines, "", currency),
            reason="damaged",
            returned_lines=named,
        )

    def void(self, *, purchase_id: str = "a", store_id: str = "", at: datetime | None = None) -> Event:
        return self.do(commands.VoidPurchase, at=at, purchase_id=purchase_id, store_id=store_id, reason="mistake")

    def resign(self, *, at: datetime | None = None) -> Event:
        return self.do(commands.ResignMember, at=at, reason="by_itself")

    def rejoin(self, *, at: datetime | None = None) -> Event:
        return self.do(commands.RejoinMember, at=at, channel="web")

    def erase(self) -> Event:
        return self.do(commands.EraseMember, reason="asked")

    def act(self, activity: str, *, at: datetime | None = None) -> Event:
        return self.do(commands.RecordActivity, at=at, activity=activity, reference="review 1", channel="app")

    def pay(
        self,
        plan: str,
        *,
        amount: int = 1000,
        start: datetime | None = None,
        end: datetime,
        at: datetime | None = None,
        currency: str = "EUR",
    ) -> Event:
        fields = {"plan": plan, "amount": amount, "currency": currency, "start_time": start, "end_time": end}
        return self.do(commands.RecordMembershipFee, at=at, **fields)

    def set_class(self, name: str, *, effective: datetime | None = None) -> Event:
        sequence = len(self.member.classes) + 1
        return self.do(
            commands.SetEarningClass, earning_class=name, effective_time=effective or self.now, sequence=sequence
        )

    def award(self, points: int, *, purchase_id: str = "", at: datetime | None = None) -> Event:
        return self.do(commands.AwardPoints, at=at, points=points, reason="x", note="", purchase_id=purchase_id)

    def adjust(
        self,
        points: int,
        *,
        approves: str = "",
        declines: str = "",
        restores: bool = False,
        principal: str = "support",
        on_behalf_of: str = "",
    ) -> Event:
        return self.do(
            commands.AdjustPoints,
            points=points,
            reason="x",
            note="",
            approves=approves,
            declines=declines,
            restores_expired=restores,
            principal=principal,
            on_behalf_of=on_behalf_of,
        )

    def redeem(self, points: int, *, offline: bool = False, at: datetime | None = None) -> Event:
        return self.do(
            commands.RedeemPoints,
            at=at,
            points=points,
            reason="discount",
            note="",
            purchase_id="",
            store_id="",
            channel="",
            offline=offline,
        )

    def reverse(self, redemption: Event, points: int = 0) -> Event:
        return self.do(
            commands.ReverseRedemption, redemption_id=redemption.request_id, points=points, reason="", note=""
        )

    def hold(self, points: int, ttl: timedelta = timedelta(minutes=15)) -> Event:
        return self.do(commands.HoldPoints, points=points, ttl=ttl, reason="", purchase_id="")

    def capture(self, hold: Event, points: int = 0) -> Event:
        return self.do(commands.CaptureHold, hold_id=hold.request_id, points=points, reason="", purchase_id="")

    def release(self, hold: Event, points: int = 0) -> Event:
        return self.do(commands.ReleaseHold, hold_id=hold.request_id, points=points)

    def extend(self, hold: Event, ttl: timedelta) -> Event:
        return self.do(commands.ExtendHold, hold_id=hold.request_id, ttl=ttl)


def lot_of(activates: str, expires: str) -> tuple[date, date]:
    return date.fromisoformat(activates), date.fromisoformat(expires)


def _movement(amount: int, lines: tuple[Line, ...], store_id: str, currency: str) -> dict[str, Any]:
    return {
        "currency": currency if amount else "",
        "amount": amount,
        "lines": lines,
        "store_id": store_id,
        "receipt_number": "",
        "channel": "",
    }


def as_of(rules: Programme, events: Iterable[Event], at: datetime) -> Member | None:
    """The member at an instant, from all of its events."""
    view = AsOf(Versions.only(rules), at)
    view.add(events)
    return view.member()
