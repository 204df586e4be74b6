"""The ledger's rules a second time, in plain Python: lots in a dict, time walked from instant to instant.

Written from DESIGN §12 and the programme page, not from `services/ledger/domain`, whose commands are all that it
knows of it: what both agree on is more likely to be what was meant.
"""

from __future__ import annotations

import functools
import math
from calendar import monthrange
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from services.ledger.domain import commands

DAY = timedelta(days=1)
# A lot: the day it became active and the last day it is there; points that never expire lie in one.
Key = tuple[date | None, date | None]
Parts = list[tuple[Key, int]]
FOR_EVER: Key = (None, None)

MULTIPLIERS = {"guest": 10_000, "regular": 12_500}


@dataclass(frozen=True)
class Bonus:
    """One bonus of a programme; `multiplier` and `points`: one of the two."""

    name: str
    multiplier: str = ""
    points: int = 0
    departments: tuple[str, ...] = ()
    minimum: int = 0
    first_purchase: bool = False
    weekdays: tuple[str, ...] = ()

    def yaml(self) -> str:
        """The bonus as one flow mapping."""
        keys = [f"id: {self.name}"]
        keys += [f'multiplier: "{self.multiplier}"'] if self.multiplier else [f"points: {self.points}"]
        keys += [f"departments: [{', '.join(self.departments)}]"] if self.departments else []
        keys += [f'minimum: "{self.minimum // 100}.{self.minimum % 100:02}"'] if self.minimum else []
        keys += [f"weekdays: [{', '.join(self.weekdays)}]"] if self.weekdays else []
        keys += ["first_purchase: true"] if self.first_purchase else []
        return "{" + ", ".join(keys) + "}"


@dataclass(frozen=True)
class Rules:
    """A programme, as far as points go; money in cents, periods as `(number, "D" | "M" | "Y")`."""

    zone: str = "Europe/Warsaw"
    base: str = "goods_paid"
    points: int = 1
    per: int = 100
    sign_up: int = 0
    pending: int = 0
    policy: str = "never"
    period: tuple[int, str] | None = None
    minimum: int = 1
    step: int = 1
    shortfall: str = "debt"
    per_call: int | None = None
    per_day: int | None = None
    back_dating: int | None = None
    bonuses: tuple[Bonus, ...] = ()
    activities: tuple[tuple[str, int], ...] = ()
    # From a day on so many cents of another currency are worth so many at home: (day, currency, amount, worth).
    rates: tuple[tuple[str, str, int, int], ...] = ()
    # The currency of a market in which all members are at home, and which then has the rates; what earns there.
    abroad: str = ""
    abroad_zone: str = "Asia/Kolkata"
    abroad_per: int = 0

    def yaml(self) -> str:
        """The programme file that says the same."""
        lines = [
            "programme: modelled",
            "currency: EUR",
            f"time_zone: {self.zone}",
            "earning:",
            f"  base: {self.base}",
            f"  points: {self.points}",
            f'  per: "{self.per // 100}.{self.per % 100:02}"',
            f"  sign_up_bonus: {self.sign_up}",
        ]
        lines += [f"  pending: P{self.pending}D"] if self.pending else []
        lines += ["  bonuses:", *[f"    - {bonus.yaml()}" for bonus in self.bonuses]] if self.bonuses else []
        if self.activities:
            lines += ["  activities:", *[f"    - {{id: {name}, points: {points}}}" for name, points in self.activities]]
        period = f", period: P{self.period[0]}{self.period[1]}" if self.period else ""
        lines += [
            f"expiry: {{policy: {self.policy}{period}}}",
            f"redemption: {{minimum: {self.minimum}, step: {self.step}}}",
            f"returns: {{shortfall: {self.shortfall}}}",
        ]
        limits = {"per_call": self.per_call, "per_day": self.per_day}
        given = [f"{name}: {limit}" for name, limit in limits.items() if limit is not None]
        lines += [f"adjustments: {{{', '.join(given)}}}"] if given else []
        lines += [f"back_dating: P{self.back_dating}D"] if self.back_dating else []
        lines += [
            "tiers:",
            "  base: total",
            "  window: P365D",
            "  levels:",
            "    - name: Guest",
            "    - name: Regular",
            '      from: "300.00"',
            '      earning_multiplier: "1.25"',
            "    - {name: Plus, plan: plus}",
        ]
        rates = [
            f'{{from: "{day}", currency: {currency}, amount: "{decimal(amount)}", worth: "{decimal(worth)}"}}'
            for day, currency, amount, worth in self.rates
        ]
        if self.abroad:
            lines += [
                "markets:",
                "  abroad:",
                f"    currency: {self.abroad}",
                f"    time_zone: {self.abroad_zone}",
                '    thresholds: {regular: {from: "1200.00"}}',
                f"    rates: [{', '.join(rates)}]",
            ]
            lines += [f'    per: "{decimal(self.abroad_per)}"'] if self.abroad_per else []
        else:
            lines += [f"rates: [{', '.join(rates)}]"] if rates else []
        return "\n".join(lines) + "\n"

    def local(self, at: datetime) -> date:
        """The day on a calendar in the shop."""
        return at.astimezone(ZoneInfo(self.zone)).date()

    def last_day(self, active: date) -> date | None:
        """The last day of points that became active on a day; None where that does not decide it."""
        if self.period is None or self.policy == "inactivity":
            return None
        return later(date(active.year, 12, 31) if self.policy == "calendar_year" else active, self.period)


def decimal(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def later(day: date, period: tuple[int, str]) -> date:
    """The day so many days, months or years on; the month's last where it has no such day."""
    number, unit = period
    if unit == "D":
        return day + number * DAY
    months = day.year * 12 + day.month - 1 + number * (12 if unit == "Y" else 1)
    year, month = months // 12, months % 12 + 1
    return date(year, month, min(day.day, monthrange(year, month)[1]))


@functools.cache
def day_begins(zone: str, day: date) -> datetime:
    """The first quarter of an hour that the calendar in the shop shows as this day, or as a later one."""
    at = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=15)
    while at.astimezone(ZoneInfo(zone)).date() < day:
        at += timedelta(minutes=15)
    return at


@dataclass
class Given:
    """What one rule of a purchase gave; `counts` names the lines, the goods ("goods") or everything ("total")."""

    points: int
    key: Key
    counts: str | frozenset[int]
    base: int = 0
    rate: Fraction | None = None  # points for a cent at home; None: a fixed number
    worth: Fraction = Fraction(1)  # of a cent, at home
    back: int = 0  # of its lines
    taken: int = 0
    since: int = 0  # what had come back before it was given


@dataclass
class Payment:
    """What points paid, or of what they paid something: points, and the cents that they stand for."""

    redemption: str = ""
    points: int = 0
    cents: int = 0


@dataclass
class Bought:
    """A purchase with what came back of it, or, with amount 0, what waits for it."""

    occurred: datetime | None = None
    currency: str = ""
    amount: int = 0
    goods: int = 0  # without what points paid of them
    paid: Payment = field(default_factory=Payment)
    paid_back: Payment = field(default_factory=Payment)
    lines: tuple[commands.Line, ...] = ()
    store: str = ""
    given: list[Given] = field(default_factory=list)
    returned: int = 0
    returned_goods: int = 0
    pieces: dict[int, int] = field(default_factory=dict)
    money: dict[int, int] = field(default_factory=dict)
    voided: bool = False
    waiting: list[commands.RecordReturn] = field(default_factory=list)


@dataclass
class Spent:
    """A redemption: the parts in the order they were drawn, the debt last, and how much was given back."""

    parts: Parts
    debt: int
    back: int = 0
    paid: int = 0  # for purchases that have not come back

    def unused(self) -> int:
        return sum(points for _, points in self.parts) + self.debt - self.back - self.paid


class Refused(Exception):
    """A rule says no."""


class Rejected(Exception):
    """The request can not be."""


class Model:
    """One member, under one programme. `do` answers as the ledger would: a kind, a reason, "" or "rejected"."""

    def __init__(self, rules: Rules, *, simulated: bool) -> None:
        self.rules, self.simulated = rules, simulated
        self.joined: datetime | None = None
        self.activity = datetime.min.replace(tzinfo=UTC)
        self.pending: dict[Key, int] = {}
        self.lots: dict[Key, int] = {}
        self.holds: dict[str, tuple[datetime, Parts]] = {}
        self.debt = self.issued = self.redeemed = self.adjusted = self.expired = 0
        self.gone: dict[Key, int] = {}
        self.purchases: dict[str, Bought] = {}
        self.recorded = 0
        self.redemptions: dict[str, Spent] = {}
        self.asked: dict[str, tuple[int, bool, str]] = {}
        self.adjusted_on: dict[date, int] = {}
        self.classes: list[tuple[int, str, datetime]] = []
        # When the member left, and when it came back.
        self.absences: list[list[datetime]] = []
        self.abroad = False

    # --- time ---------------------------------------------------------------------------------------------------

    def next_instant(self) -> datetime | None:
        """When time next does something by itself."""
        instants = [expires for expires, _ in self.holds.values()]
        instants += [self.begins(active) for active, _ in self.pending if active]
        instants += [self.begins(last + DAY) for _, last in self.lots if last]
        if self.lots and self.inactive_from():
            instants.append(self.inactive_from())
        return min(instants, default=None)

    def begins(self, day: date) -> datetime:
        return day_begins(self.rules.zone, day)

    def inactive_from(self) -> Any:
        if self.rules.policy != "inactivity" or self.rules.period is None:
            return None
        return self.begins(later(self.rules.local(self.activity), self.rules.period) + DAY)

    def pass_time(self, until: datetime) -> None:
        """Everything that falls due up to an instant."""
        while (instant := self.next_instant()) is not None and instant <= until:
            for name, (expires, parts) in sorted(self.holds.items(), key=lambda item: (item[1][0], item[0])):
                if expires <= instant:
                    del self.holds[name]
                    self.make_available(parts)
            for key in sorted(self.pending, key=draw_order):
                if key[0] is not None and self.begins(key[0]) <= instant:
                    self.make_available([(key if key[1] else FOR_EVER, self.pending.pop(key))])
            inactive = self.inactive_from()
            for key in list(self.lots):
                past_its_day = key[1] is not None and self.begins(key[1] + DAY) <= instant
                if past_its_day or (inactive is not None and inactive <= instant):
                    points = self.lots.pop(key)
                    self.expired += points
                    # What lapses by inactivity is remembered by the day of the last activity.
                    name = key if key != FOR_EVER else (self.rules.local(self.activity), None)
                    self.gone[name] = self.gone.get(name, 0) + points

    def make_available(self, parts: Parts) -> None:
        for key, points in parts:
            paid = min(self.debt, points)
            self.debt -= paid
            if points > paid:
                self.lots[key] = self.lots.get(key, 0) + points - paid

    def draw(self, lots: dict[Key, int], points: int) -> Parts:
        parts: Parts = []
        for key in sorted(lots, key=draw_order):
            part = min(lots[key], points)
            if part:
                parts.append((key, part))
                take(lots, key, part)
                points -= part
        return parts

    def fresh(self, day: date) -> Key:
        last = self.rules.last_day(day)
        return (day, last) if last else FOR_EVER

    # --- commands -----------------------------------------------------------------------------------------------

    def do(self, now: datetime, command: Any) -> str:
        """Carries out a command: its kind, why it was refused, "rejected", or "" where it changes nothing."""
        occurred = command.occurred_time or now
        if occurred > now + (timedelta(days=2) if self.simulated else timedelta(minutes=5)):
            return "rejected"
        # Members bring the day they joined with them; what was spent offline is spent.
        late = isinstance(command, commands.EnrollMember) or getattr(command, "offline", False)
        if self.rules.back_dating and not late and self.too_early(occurred, now):
            return "rejected"
        instant = max(now, occurred) if self.simulated else now
        act = getattr(self, type(command).__name__)
        if self.joined is None and not isinstance(command, commands.EnrollMember):
            return "rejected"
        try:
            if isinstance(command, commands.RecordPurchase | commands.RecordReturn):
                self.check_amount(command, occurred)
            if isinstance(command, commands.RecordMembershipFee):
                self.check_fee(command, occurred)
            if isinstance(command, commands.SetEarningClass) and any(
                command.sequence <= one[0] for one in self.classes
            ):
                return ""
            if self.joined is not None:
                self.pass_time(instant)
            kind = str(act(command, occurred, instant))
        except Rejected:
            return "rejected"
        except Refused as refused:
            kind = str(refused)
        self.pass_time(instant)
        return kind

    def too_early(self, occurred: datetime, now: datetime) -> bool:
        wall = occurred.astimezone(ZoneInfo(self.rules.zone))
        assert self.rules.back_dating is not None
        return (wall.replace(fold=0) + self.rules.back_dating * DAY).astimezone(UTC) < now

    def EnrollMember(self, command: commands.EnrollMember, occurred: datetime, instant: datetime) -> str:
        if self.joined is not None:
            raise Refused("MEMBER_EXISTS")
        if command.market and not self.rules.abroad:
            raise Rejected
        self.joined = self.activity = occurred
        self.abroad = bool(command.market)
        self.issue([(self.fresh(self.rules.local(occurred)), self.rules.sign_up)])
        return "MEMBER_JOINED"

    def is_away(self, at: datetime) -> bool:
        return any(span[0] <= at and not (len(span) > 1 and span[1] <= at) for span in self.absences)

    def here(self, at: datetime) -> None:
        if self.is_away(at):
            raise Refused("MEMBER_RESIGNED")

    def class_at(self, at: datetime) -> str:
        in_force = [name for _, name, effective in self.classes if effective <= at]
        return in_force[-1] if in_force else "guest"

    def thawed(self, at: datetime) -> None:
        if self.class_at(at) == "suspended":
            raise Refused("ACCOUNT_SUSPENDED")

    def ResignMember(self, command: commands.ResignMember, occurred: datetime, instant: datetime) -> str:
        if self.absences and len(self.absences[-1]) == 1:
            raise Refused("MEMBER_RESIGNED")
        assert self.joined is not None
        if occurred < max([self.joined, *[span[1] for span in self.absences]]):
            raise Refused("MEMBERSHIP_CHANGED_LATER")
        self.absences.append([occurred])
        return "MEMBER_RESIGNED"

    def RejoinMember(self, command: commands.RejoinMember, occurred: datetime, instant: datetime) -> str:
        if not self.absences or len(self.absences[-1]) == 2:
            raise Refused("MEMBER_ENROLLED")
        if occurred < self.absences[-1][0]:
            raise Refused("MEMBERSHIP_CHANGED_LATER")
        self.absences[-1].append(occurred)
        return "MEMBER_REJOINED"

    def RecordActivity(self, command: commands.RecordActivity, occurred: datetime, instant: datetime) -> str:
        self.here(occurred)
        assert self.joined is not None
        earns = occurred > self.joined and self.class_at(occurred) != "suspended"
        points = dict(self.rules.activities).get(command.activity, 0) if earns else 0
        self.issue([(self.fresh(self.rules.local(occurred)), points)])
        self.activity = max(self.activity, occurred)
        return "ACTIVITY_RECORDED"

    def RecordMembershipFee(self, command: commands.RecordMembershipFee, occurred: datetime, instant: datetime) -> str:
        self.here(occurred)
        if command.plan != "plus":
            raise Refused("PLAN_UNKNOWN")
        return "MEMBERSHIP_FEE_RECORDED"

    # --- money --------------------------------------------------------------------------------------------------

    def worth(self, currency: str, at: datetime) -> Fraction | None:
        """What a cent of a currency is worth at home on the calendar there; None where it is not taken."""
        abroad = self.rules.abroad if self.abroad else ""
        if currency == (abroad or "EUR"):
            return Fraction(1)
        day = at.astimezone(ZoneInfo(self.rules.abroad_zone if abroad else self.rules.zone)).date()
        rates = self.rules.rates if bool(self.rules.abroad) == bool(abroad) else ()
        known = [Fraction(to, of) for since, name, of, to in rates if name == currency and since <= day.isoformat()]
        return known[-1] if known else None

    def per(self) -> int:
        return (self.abroad and self.rules.abroad and self.rules.abroad_per) or self.rules.per

    def check_amount(self, command: commands.RecordPurchase | commands.RecordReturn, occurred: datetime) -> None:
        """What the contract and the currency ask of an amount."""
        named = command.returned_lines if isinstance(command, commands.RecordReturn) else ()
        if named and not command.purchase_id:
            raise Rejected
        if named and not command.amount:
            return
        known = self.purchases.get(command.purchase_id)
        linked = isinstance(command, commands.RecordReturn) and known is not None and known.currency == command.currency
        if command.amount <= 0 or not (linked or self.worth(command.currency, occurred)):
            raise Rejected
        if command.lines and sum(line.amount for line in command.lines) != command.amount:
            raise Rejected
        paid = getattr(command, "points_payment", None)
        if paid and paid.amount > goods_of(command.amount, command.lines):
            raise Rejected

    def check_fee(self, command: commands.RecordMembershipFee, occurred: datetime) -> None:
        if command.amount <= 0 or not self.worth(command.currency, occurred):
            raise Rejected
        if command.end_time <= (command.start_time or occurred):
            raise Rejected

    def issue(self, parts: Parts) -> None:
        self.issued += sum(points for _, points in parts)
        self.make_available([(key, points) for key, points in parts if points])

    def RecordPurchase(self, command: commands.RecordPurchase, occurred: datetime, instant: datetime) -> str:
        bought = self.purchases.setdefault(command.purchase_id, Bought())
        if bought.amount:
            raise Refused("PURCHASE_EXISTS")
        self.here(occurred)
        if command.points_payment:
            spent = self.redemptions.get(command.points_payment.redemption_id)
            if spent is None:
                raise Refused("REDEMPTION_UNKNOWN")
            if command.points_payment.points > spent.unused():
                raise Refused("PAYMENT_EXCEEDS_REDEMPTION")
            spent.paid += command.points_payment.points
            bought.paid = Payment(*command.points_payment)
        bought.occurred, bought.amount, bought.lines = occurred, command.amount, command.lines
        bought.store, bought.currency = command.store_id, command.currency
        bought.goods = goods_of(command.amount, command.lines) - bought.paid.cents
        bought.given = self.earned(bought, occurred)
        points = sum(given.points for given in bought.given)
        active = self.rules.local(occurred) + self.rules.pending * DAY
        key: Key = FOR_EVER
        if points and self.rules.pending and self.begins(active) > instant:
            key = (active, self.rules.last_day(active))
            self.pending[key] = self.pending.get(key, 0) + points
            self.issued += points
        else:
            # What pays a debt lies in no lot.
            key = self.fresh(active) if points > self.debt else FOR_EVER
            self.issue([(self.fresh(active), points)])
        for given in bought.given:
            given.key = key
        self.recorded += 1
        self.activity = max(self.activity, occurred)
        for waiting in bought.waiting:
            try:
                self.bring_back(bought, waiting, instant)
            except Refused:
                continue
        bought.waiting = []
        return "PURCHASE_RECORDED"

    def earned(self, bought: Bought, occurred: datetime) -> list[Given]:
        assert self.joined is not None
        if occurred <= self.joined or self.class_at(occurred) == "suspended":
            return []
        rules = self.rules
        worth = self.worth(bought.currency, occurred)
        assert worth is not None
        base = bought.amount if rules.base == "total" else bought.goods
        counts = "total" if rules.base == "total" else "goods"

        def rate(multiplier: int) -> Fraction:
            return Fraction(rules.points * multiplier, self.per() * 10_000)

        first = rate(MULTIPLIERS[self.class_at(occurred)])
        given = [Given(int(nearest(base * worth) * first), FOR_EVER, counts, base, first, worth)]
        for bonus in rules.bonuses:
            weekday = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[rules.local(occurred).weekday()]
            if (bonus.first_purchase and self.recorded) or (bonus.weekdays and weekday not in bonus.weekdays):
                continue
            if nearest(base * worth) < max(bonus.minimum, 1):
                continue
            if not bonus.multiplier:
                given.append(Given(bonus.points, FOR_EVER, counts))
                continue
            extra = rate(int(Fraction(bonus.multiplier) * 10_000) - 10_000)
            if not bonus.departments:
                given.append(Given(int(nearest(base * worth) * extra), FOR_EVER, counts, base, extra, worth))
                continue
            lines = frozenset(
                number
                for number, line in enumerate(bought.lines, start=1)
                if line.kind is commands.LineKind.GOODS and line.department in bonus.departments
            )
            if lines:
                some = sum(bought.lines[number - 1].amount for number in lines)
                if counts == "goods":
                    some -= sum(shared(bought.paid.cents, bought.lines)[number - 1] for number in lines)
                given.append(Given(int(nearest(some * worth) * extra), FOR_EVER, lines, some, extra, worth))
        return given

    def RecordReturn(self, command: commands.RecordReturn, occurred: datetime, instant: datetime) -> str:
        if not command.purchase_id:
            assert self.joined is not None
            whole = not command.lines or self.rules.base == "total"
            goods = sum(line.amount for line in command.lines if line.kind is commands.LineKind.GOODS)
            base = 0 if occurred <= self.joined else command.amount if whole else goods
            worth = self.worth(command.currency, occurred)
            assert worth is not None
            points = nearest(base * worth) * self.rules.points // self.per()
            self.issued -= points
            self.debt += points - sum(part for _, part in self.draw(self.lots, points))
            return "RETURN_RECORDED"
        bought = self.purchases.setdefault(command.purchase_id, Bought())
        if not bought.amount:
            bought.waiting.append(command)
            return "RETURN_WAITING"
        self.bring_back(bought, command, instant)
        return "RETURN_RECORDED"

    def bring_back(self, bought: Bought, command: commands.RecordReturn, instant: datetime) -> None:
        if bought.voided:
            raise Refused("PURCHASE_VOIDED")
        if command.amount and command.currency != bought.currency:
            raise Refused("RETURN_CURRENCY_DIFFERS")
        amount, goods = command.amount, None
        if command.lines:
            goods = sum(line.amount for line in command.lines if line.kind is commands.LineKind.GOODS)
        pieces, money = dict(bought.pieces), dict(bought.money)
        by_line: dict[int, int] = {}
        by_line_paid: dict[int, int] = {}
        of_lines = None
        if command.returned_lines:
            goods = 0
            of_lines = Payment()
            cents, points = shared(bought.paid.cents, bought.lines), shared(bought.paid.points, bought.lines)
            for number, quantity, wanted in command.returned_lines:
                if number > len(bought.lines):
                    raise Refused("LINE_UNKNOWN")
                line = bought.lines[number - 1]
                part = wanted
                if quantity:
                    pieces[number] = pieces.get(number, 0) + quantity
                    part = max(line.amount * pieces[number] // line.quantity - money.get(number, 0), 0)
                had = money.get(number, 0)
                money[number] = had + part
                if pieces.get(number, 0) > line.quantity or money[number] > line.amount:
                    raise Refused("LINE_RETURN_EXCEEDS_PURCHASE")
                by_line[number] = by_line.get(number, 0) + part
                goods += part if line.kind is commands.LineKind.GOODS else 0
                if part:
                    whole = line.amount
                    paid = cents[number - 1] * (had + part) // whole - cents[number - 1] * had // whole
                    by_line_paid[number] = by_line_paid.get(number, 0) + paid
                    of_lines.cents += paid
                    of_lines.points += points[number - 1] * (had + part) // whole - points[number - 1] * had // whole
            if amount and amount != sum(by_line.values()):
                raise Refused("RETURNED_LINES_DIFFER")
            amount = sum(by_line.values())
        returned = bought.returned + amount
        if returned > bought.amount:
            raise Refused("RETURN_EXCEEDS_PURCHASE")
        # Goods at their full value: as many as can be, and must be for the rest to be no more than what is left.
        all_goods, had_goods = bought.goods + bought.paid.cents, bought.returned_goods + bought.paid_back.cents
        back = all_goods * returned // bought.amount if goods is None else had_goods + goods
        least = max(had_goods, all_goods - (bought.amount - returned))
        back = clamped(back, least, min(all_goods, had_goods + amount))
        if bought.given and bought.given[0].counts == "goods":
            by_line = {number: part - by_line_paid.get(number, 0) for number, part in by_line.items()}
        self.take_back(bought, returned, back, by_line, self.paid_of(bought, back, of_lines), instant)
        bought.pieces, bought.money = pieces, money

    def paid_of(self, bought: Bought, goods: int, of_lines: Payment | None) -> Payment:
        """What has come back, with so many goods in all, of what points paid."""
        paid, had, all_goods = bought.paid, bought.paid_back, bought.goods + bought.paid.cents
        if not paid.points:
            return had
        left = all_goods - goods
        if not left:
            return paid
        if of_lines is None:
            points, cents = paid.points * goods // all_goods, paid.cents * goods // all_goods
        else:
            points, cents = had.points + of_lines.points, had.cents + of_lines.cents
        return Payment(
            paid.redemption,
            clamped(points, had.points, paid.points),
            clamped(cents, max(had.cents, paid.cents - left), min(paid.cents, goods - bought.returned_goods)),
        )

    def take_back(
        self,
        bought: Bought,
        returned: int,
        goods: int,
        by_line: dict[int, int],
        paid_back: Payment,
        instant: datetime,
    ) -> None:
        """Gives back what paid for what came back, and takes what the purchase gave for it: all returns together, less
        what those before did."""
        goods_back = goods - paid_back.cents
        before = (dict(self.lots), dict(self.gone), self.debt, self.redeemed, self.expired)
        spent, points_given = self.redemptions.get(bought.paid.redemption), paid_back.points - bought.paid_back.points
        if spent and points_given:
            self.give_back(spent, points_given, instant)
            self.pass_time(instant)
        takes: list[tuple[Given, int, int]] = []
        for given in bought.given:
            back = given.back
            if isinstance(given.counts, frozenset):
                if returned == bought.amount:
                    back = given.base
                elif by_line:
                    back += sum(part for number, part in by_line.items() if number in given.counts)
                else:
                    back = max(back, given.base * returned // bought.amount)
                back = min(back, given.base)
                left = given.base - back
            else:
                left = given.base - (returned if given.counts == "total" else goods_back)
            if returned == bought.amount:
                keeps = 0
            elif given.rate is None:
                keeps = given.points * (bought.amount - returned) // (bought.amount - given.since)
            else:
                keeps = int(nearest(left * given.worth) * given.rate)
            takes.append((given, back, max(given.points - keeps - given.taken, 0)))
        lots, pending, gone = dict(self.lots), dict(self.pending), dict(self.gone)
        missing = unissued = 0
        for given, _, points in takes:
            key = given.key if given.key[1] else FOR_EVER
            part = min(points, pending.get(given.key, 0))
            take(pending, given.key, part)
            points -= part
            assert bought.occurred is not None
            since = self.rules.local(bought.occurred)
            for name in sorted(gone, key=draw_order):
                if name == key or (key == FOR_EVER and not name[1] and name[0] and name[0] >= since):
                    part = min(points, gone[name])
                    gone[name] -= part
                    unissued += part
                    points -= part
            part = min(points, lots.get(key, 0))
            take(lots, key, part)
            missing += points - part
        missing -= sum(part for _, part in self.draw(lots, missing))
        if missing and self.rules.shortfall == "refuse":
            self.lots, self.gone, self.debt, self.redeemed, self.expired = before
            if spent and points_given:
                spent.back -= points_given
            raise Refused("POINTS_SPENT")
        wanted = sum(points for _, _, points in takes)
        if self.rules.shortfall == "debt":
            self.debt += missing
        else:
            wanted -= missing
        self.issued -= wanted
        self.expired -= unissued
        self.lots, self.pending, self.gone = lots, pending, gone
        for given, back, points in takes:
            given.back = back
            given.taken += points
        bought.returned, bought.returned_goods, bought.paid_back = returned, goods_back, paid_back
        if spent:
            spent.paid -= points_given

    def VoidPurchase(self, command: commands.VoidPurchase, occurred: datetime, instant: datetime) -> str:
        bought = self.purchases.get(command.purchase_id)
        if bought is None or not bought.amount:
            raise Refused("PURCHASE_UNKNOWN")
        if bought.voided:
            raise Refused("PURCHASE_VOIDED")
        if bought.returned == bought.amount:
            raise Refused("PURCHASE_RETURNED")
        if bought.store != command.store_id:
            raise Refused("VOID_OTHER_STORE")
        assert bought.occurred is not None
        if occurred < bought.occurred or self.rules.local(bought.occurred) != self.rules.local(occurred):
            raise Refused("VOID_TOO_LATE")
        if instant - occurred > timedelta(days=1):
            raise Refused("VOID_TOO_LATE")
        self.take_back(bought, bought.amount, bought.goods + bought.paid.cents, {}, bought.paid, instant)
        bought.voided = True
        return "PURCHASE_VOIDED"

    def AwardPoints(self, command: commands.AwardPoints, occurred: datetime, instant: datetime) -> str:
        self.here(occurred)
        bought = self.purchases.get(command.purchase_id)
        if command.purchase_id and (bought is None or not bought.amount):
            raise Refused("PURCHASE_UNKNOWN")
        if bought is not None and bought.returned == bought.amount:
            raise Refused("PURCHASE_RETURNED")
        key = self.fresh(self.rules.local(occurred))
        if bought is not None:
            lot = key if command.points > self.debt else FOR_EVER
            bought.given.append(Given(command.points, lot, "total", since=bought.returned))
        self.issue([(key, command.points)])
        return "POINTS_AWARDED"

    def AdjustPoints(self, command: commands.AdjustPoints, occurred: datetime, instant: datetime) -> str:
        day, size, rules = self.rules.local(instant), abs(command.points), self.rules
        if about := command.approves or command.declines:
            if about not in self.asked:
                raise Refused("ADJUSTMENT_UNKNOWN")
            points, restores, principal = self.asked[about]
            if points != command.points or restores != command.restores_expired:
                raise Refused("ADJUSTMENT_DIFFERS")
            if command.declines:
                del self.asked[about]
                return "ADJUSTMENT_DECLINED"
            if principal == command.principal:
                raise Refused("APPROVAL_BY_SAME_PRINCIPAL")
        elif (rules.per_call is not None and size > rules.per_call) or (
            rules.per_day is not None and self.adjusted_on.get(day, 0) + size > rules.per_day
        ):
            if len(self.asked) >= 20:
                raise Refused("TOO_MANY_ADJUSTMENTS")
            self.asked[command.request_id] = (command.points, command.restores_expired, command.principal)
            return "ADJUSTMENT_REQUESTED"
        if command.restores_expired:
            self.restore(size, instant)
        elif command.points < 0:
            self.spend(size)
        if command.points > 0:
            self.make_available([(self.fresh(day), size)])
        self.asked.pop(command.approves, None)
        self.adjusted_on[day] = self.adjusted_on.get(day, 0) + size
        if command.restores_expired:
            return "POINTS_RESTORED"
        self.adjusted += command.points
        return "POINTS_ADJUSTED"

    def restore(self, points: int, instant: datetime) -> None:
        """Takes points back from what is gone: what went last first, by its last day or, without one, its activity."""
        inactive = self.inactive_from()
        if inactive is not None and inactive <= instant:
            raise Refused("MEMBER_INACTIVE")
        if points > sum(self.gone.values()):
            raise Refused("NOT_SO_MANY_EXPIRED")
        self.expired -= points
        for key in sorted(self.gone, key=lambda key: (key[1] or key[0], key[0], key[1] is not None), reverse=True):
            part = min(points, self.gone[key])
            self.gone[key] -= part
            points -= part

    def spend(self, points: int) -> Parts:
        if points > sum(self.lots.values()):
            raise Refused("NOT_ENOUGH_POINTS")
        return self.draw(self.lots, points)

    def check_size(self, points: int) -> None:
        if points < self.rules.minimum:
            raise Refused("REDEMPTION_BELOW_MINIMUM")
        if points % self.rules.step:
            raise Refused("REDEMPTION_NOT_IN_STEPS")

    def RedeemPoints(self, command: commands.RedeemPoints, occurred: datetime, instant: datetime) -> str:
        if command.offline:
            parts = self.draw(self.lots, command.points)
        else:
            self.here(instant)
            self.thawed(instant)
            self.check_size(command.points)
            parts = self.spend(command.points)
        owed = command.points - sum(part for _, part in parts)
        self.debt += owed
        self.redeemed += command.points
        self.activity = max(self.activity, instant)
        self.redemptions[command.request_id] = Spent(parts, owed)
        return "POINTS_REDEEMED"

    def ReverseRedemption(self, command: commands.ReverseRedemption, occurred: datetime, instant: datetime) -> str:
        spent = self.redemptions.get(command.redemption_id)
        if spent is None:
            raise Refused("REDEMPTION_UNKNOWN")
        points = command.points or spent.unused()
        if points > spent.unused() + spent.paid or not points + spent.paid:
            raise Refused("REVERSAL_EXCEEDS_REDEMPTION")
        if not points or points > spent.unused():
            raise Refused("REDEMPTION_PAID_PURCHASE")
        self.give_back(spent, points, instant)
        return "REDEMPTION_REVERSED"

    def give_back(self, spent: Spent, points: int, instant: datetime) -> None:
        units = [key for key, points in spent.parts for _ in range(points)]
        units += [self.fresh(self.rules.local(instant))] * spent.debt
        # Point by point, backwards.
        back = units[::-1][spent.back : spent.back + points]
        self.make_available([(key, 1) for key in back])
        spent.back += points
        self.redeemed -= points

    def HoldPoints(self, command: commands.HoldPoints, occurred: datetime, instant: datetime) -> str:
        self.here(instant)
        self.thawed(instant)
        self.check_size(command.points)
        self.holds[command.request_id] = (instant + command.ttl, self.spend(command.points))
        return "POINTS_HELD"

    def out_of_hold(self, hold_id: str, points: int) -> Parts:
        if hold_id not in self.holds:
            raise Refused("HOLD_UNKNOWN")
        expires, held = self.holds[hold_id]
        points = points or sum(part for _, part in held)
        if points > sum(part for _, part in held):
            raise Refused("CAPTURE_EXCEEDS_HOLD")
        left = dict(held)
        parts = self.draw(left, points)
        if left:
            self.holds[hold_id] = (expires, sorted(left.items(), key=lambda item: draw_order(item[0])))
        else:
            del self.holds[hold_id]
        return parts

    def CaptureHold(self, command: commands.CaptureHold, occurred: datetime, instant: datetime) -> str:
        self.thawed(instant)
        parts = self.out_of_hold(command.hold_id, command.points)
        self.redeemed += sum(part for _, part in parts)
        self.activity = max(self.activity, instant)
        self.redemptions[command.request_id] = Spent(parts, 0)
        return "HOLD_CAPTURED"

    def ReleaseHold(self, command: commands.ReleaseHold, occurred: datetime, instant: datetime) -> str:
        self.make_available(self.out_of_hold(command.hold_id, command.points))
        return "HOLD_RELEASED"

    def ExtendHold(self, command: commands.ExtendHold, occurred: datetime, instant: datetime) -> str:
        if command.hold_id not in self.holds:
            raise Refused("HOLD_UNKNOWN")
        self.holds[command.hold_id] = (instant + command.ttl, self.holds[command.hold_id][1])
        return "HOLD_EXTENDED"

    def SetEarningClass(self, command: commands.SetEarningClass, occurred: datetime, instant: datetime) -> str:
        if command.earning_class not in (*MULTIPLIERS, "suspended"):
            raise Refused("EARNING_CLASS_UNKNOWN")
        self.classes.append((command.sequence, command.earning_class, command.effective_time))
        return "EARNING_CLASS_SET"


def goods_of(amount: int, lines: tuple[commands.Line, ...]) -> int:
    """The goods of a receipt; without lines all of it."""
    return sum(line.amount for line in lines if line.kind is commands.LineKind.GOODS) if lines else amount


def shared(number: int, lines: tuple[commands.Line, ...]) -> list[int]:
    """A number over the goods of a receipt, one by one to the line that is furthest behind what it should have."""
    whole = goods_of(0, lines)
    goods = [line.amount if line.kind is commands.LineKind.GOODS else 0 for line in lines]
    due = [Fraction(number * amount, whole or 1) for amount in goods]
    shares = [int(part) for part in due]
    while whole and sum(shares) < number:
        shares[max(range(len(lines)), key=lambda place: (due[place] - shares[place], -place))] += 1
    return shares


def clamped(number: int, least: int, most: int) -> int:
    """The number, or the nearest that is neither less nor more."""
    return min(max(number, least), most)


def nearest(cents: Fraction) -> int:
    """Whole cents, halves up."""
    return math.floor(cents + Fraction(1, 2))


def draw_order(key: Key) -> tuple[date, date]:
    """What expires first goes first; of that, what became active first."""
    return key[1] or date.max, key[0] or date.min


def take(lots: dict[Key, int], key: Key, points: int) -> None:
    """Takes points out of a lot, and an empty lot away."""
    if points:
        lots[key] -= points
        if not lots[key]:
            del lots[key]
