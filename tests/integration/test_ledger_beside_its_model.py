"""A ledger that serves, over real gRPC and a real PostgreSQL, beside the model in plain Python: every command in any
order, one by one, in lists and sent twice, whether or not what time has done was written down."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import grpc
from google.rpc import error_details_pb2, status_pb2
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test
from loyalty.ledger.v1 import entry_pb2, ledger_service_pb2_grpc, lot_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.type.v1.money_pb2 import Money

from services.ledger import store
from services.ledger.check import check
from services.ledger.config import Config
from services.ledger.domain import commands
from services.ledger.domain.events import LineReturn
from services.ledger.domain.keys import Keys
from services.ledger.domain.rules import Rules as KnownRules
from services.ledger.errors import Refusal
from services.ledger.rpc import LedgerServicer, describe
from services.ledger.service import Ledger
from services.programme import parse
from services.runtime.audit import AuditTrail
from services.runtime.channels import open_channel
from services.runtime.clock import SIMULATED_START, ClockMode, machine_now
from services.runtime.database import create_pool, transact
from services.runtime.identity import Identities, SharedSecret
from services.runtime.server import Service, running
from tests.conftest import SECRET, Database, identifier_key
from tests.ledger_model import Key, Model, Rules
from tests.properties.test_ledger_model import (
    DAY,
    PROGRAMMES,
    STARTS,
    Figures,
    LedgerBesideItsModel,
    amounts,
    anyone,
    figures_of,
    movement,
)
from tests.till import all_lots

# The members below live in both.
PARTITIONS = 2
LINE_KINDS = {
    commands.LineKind.GOODS: pb.LINE_KIND_GOODS,
    commands.LineKind.SHIPPING: pb.LINE_KIND_SHIPPING,
    commands.LineKind.GIFT_CARD: pb.LINE_KIND_GIFT_CARD,
}
# What a command that is carried out makes; of returns and adjustments the answer says more.
KINDS = {
    commands.EnrollMember: "MEMBER_JOINED",
    commands.RecordPurchase: "PURCHASE_RECORDED",
    commands.RecordReturn: "RETURN_RECORDED",
    commands.VoidPurchase: "PURCHASE_VOIDED",
    commands.AwardPoints: "POINTS_AWARDED",
    commands.AdjustPoints: "POINTS_ADJUSTED",
    commands.RedeemPoints: "POINTS_REDEEMED",
    commands.ReverseRedemption: "REDEMPTION_REVERSED",
    commands.HoldPoints: "POINTS_HELD",
    commands.CaptureHold: "HOLD_CAPTURED",
    commands.ReleaseHold: "HOLD_RELEASED",
    commands.ExtendHold: "HOLD_EXTENDED",
    commands.SetEarningClass: "EARNING_CLASS_SET",
    commands.ResignMember: "MEMBER_RESIGNED",
    commands.RejoinMember: "MEMBER_REJOINED",
    commands.RecordActivity: "ACTIVITY_RECORDED",
    commands.RecordMembershipFee: "MEMBERSHIP_FEE_RECORDED",
}
# What came of an adjustment that moved nothing.
ADJUSTMENTS = {
    pb.ADJUSTMENT_STATE_AWAITING_APPROVAL: "ADJUSTMENT_REQUESTED",
    pb.ADJUSTMENT_STATE_DECLINED: "ADJUSTMENT_DECLINED",
}
# What the contract has no field for, or another one.
NOT_SENT = {"principal", "on_behalf_of", "request", "currency", "amount", "lines", "returned_lines", "points_payment"}

MOVEMENTS = ("issued", "redeemed", "expired", "adjusted", "debt_change")

Command = commands.MemberCommand


def request_of(command: Command) -> Any:
    """A command as the contract has it."""
    fields = {field.name: getattr(command, field.name) for field in dataclasses.fields(command)}
    request = getattr(pb, f"{type(command).__name__}Request")
    sent = {name: value for name, value in fields.items() if name not in NOT_SENT and value is not None}
    if isinstance(command, commands.RecordPurchase | commands.RecordReturn):
        sent["lines"] = [
            pb.Line(
                sku=line.sku,
                department=line.department,
                quantity=line.quantity,
                amount_minor_units=line.amount,
                kind=LINE_KINDS[line.kind],
            )
            for line in command.lines
        ]
    paid = isinstance(command, commands.RecordPurchase | commands.RecordReturn | commands.RecordMembershipFee)
    if paid and (fields["amount"] or not fields.get("returned_lines")):
        sent["amount"] = Money(currency_code=fields["currency"], minor_units=fields["amount"])
    if isinstance(command, commands.RecordPurchase) and command.points_payment:
        redemption, points, cents = command.points_payment
        amount = Money(currency_code=fields["currency"], minor_units=cents)
        sent["points_payment"] = entry_pb2.PointsPayment(redemption_id=redemption, points=points, amount=amount)
    if isinstance(command, commands.RecordReturn):
        sent["returned_lines"] = [
            pb.ReturnedLine(line_number=number, quantity=quantity)
            if quantity
            else pb.ReturnedLine(line_number=number, amount_minor_units=amount)
            for number, quantity, amount in command.returned_lines
        ]
    return request(**sent)


def write_of(command: Command) -> pb.Write:
    """A command as one of a list."""
    name = type(command).__name__
    return pb.Write(
        **{"".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]: request_of(command)}
    )


def refused_as(status: status_pb2.Status) -> str:
    """Why a rule of the programme says no, or "rejected" where the request cannot be; nothing else may go wrong."""
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details), status
    if info.reason in Refusal.__members__:
        return str(info.reason)
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0], status
    return "rejected"


def kind_of(command: Command, response: Any) -> str:
    """The kind of what was carried out; "" where nothing was to change."""
    if isinstance(command, commands.RecordReturn) and response.state == pb.RETURN_STATE_WAITING:
        return "RETURN_WAITING"
    if isinstance(command, commands.AdjustPoints) and response.state in ADJUSTMENTS:
        return ADJUSTMENTS[response.state]
    if isinstance(command, commands.AdjustPoints) and command.restores_expired:
        return "POINTS_RESTORED"
    if isinstance(command, commands.SetEarningClass) and not response.applied:
        return ""
    return KINDS[type(command)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """What the programme owes: points by state and expiry month, and debt."""

    outstanding: Counter[tuple[str, str]]
    debt: int


class Served:
    """A new ledger in a database that is emptied first, and its callers `p` and `q`.

    Nothing sweeps but what the test asks for, so that what happens is what Hypothesis chose. The machine's clock
    stands where the test says; a simulated ledger is told by AdvanceClock.
    """

    def __init__(
        self,
        runner: asyncio.Runner,
        database: Database,
        folder: Path,
        token_file: Path,
        rules: Rules,
        *,
        simulated: bool,
    ) -> None:
        self._runner = runner
        self._rules = rules
        self._simulated = simulated
        self._now = self._started = SIMULATED_START
        self._moves = 0
        self._adjusted: Counter[str] = Counter()
        # The requests that were carried out, of each member.
        self._answered: set[tuple[str, str]] = set()
        self._callers: dict[str, Any] = {}
        programme = folder / "modelled.yaml"
        programme.write_text(rules.yaml())
        self._config = Config(
            listen=f"unix:{folder}/ledger.sock",
            database_url=database.dsn("loyalty_ledger"),
            programme=programme,
            token_file=token_file,
            identifier_key_file=identifier_key(folder),
            clock=ClockMode.SIMULATED if simulated else ClockMode.REAL,
            partitions=PARTITIONS,
        )
        self._ready, self._enough = asyncio.Event(), asyncio.Event()
        runner.run(emptied(database))
        self._serving = runner.run(self._begin())

    async def _begin(self) -> asyncio.Task[None]:
        serving = asyncio.create_task(self._serve())
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait([serving, ready], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            ready.cancel()
            await serving
        return serving

    async def _serve(self) -> None:
        """Serves until it is enough. One task: what it waits for in the end was begun in it."""
        async with contextlib.AsyncExitStack() as stack:
            pool = await create_pool(self._config.database_url, service="test")
            stack.push_async_callback(pool.close)
            self._ledger = Ledger(
                dsn=self._config.database_url,
                pool=pool,
                rules=KnownRules.only(parse(self._rules.yaml(), "modelled")),
                installation=await transact(pool, lambda c: store.create(c, PARTITIONS, self._config.clock)),
                keys=Keys(bytes(32)),
                lanes=1,
                clock=self._clock,
            )
            audit = AuditTrail("ledger", pool, machine_now)
            servicer = LedgerServicer(self._ledger, clock=self._clock, refused=audit.refused)
            service = Service(
                name="ledger",
                register=lambda server: ledger_service_pb2_grpc.add_LedgerServiceServicer_to_server(servicer, server),
                describe=describe,
                audit=audit,
                background=[lane.run for lane in self._ledger.lanes],
            )
            await stack.enter_async_context(
                running(service, listen=self._config.listen, identities=Identities(shared=SharedSecret(SECRET)))
            )
            for principal in ("p", "q"):
                channel = open_channel(self._config.listen, principal=principal, secret=SECRET)
                stack.push_async_callback(channel.close)
                self._callers[principal] = ledger_service_pb2_grpc.LedgerServiceStub(channel)
            self._ready.set()
            await self._enough.wait()

    def _clock(self) -> datetime:
        return self._now

    def close(self) -> None:
        """Stops it."""

        async def end() -> None:
            self._enough.set()
            await self._serving

        self._runner.run(end())

    async def _call(self, method: str, *, principal: str = "p", **fields: Any) -> Any:
        return await getattr(self._callers[principal], method)(getattr(pb, f"{method}Request")(**fields), timeout=30)

    async def _move_to(self, now: datetime) -> None:
        if self._started == SIMULATED_START:
            self._started = now
        if now > self._now and self._simulated:
            self._moves += 1
            await self._call("AdvanceClock", request_id=f"c{self._moves}", to_time=now)
        self._now = now

    def perform(self, now: datetime, command: Command) -> str:
        """Carries out one command by its own method."""
        return self._runner.run(self._perform(now, command))

    async def _perform(self, now: datetime, command: Command) -> str:
        await self._move_to(now)
        call = getattr(self._callers[command.principal], type(command).__name__)
        try:
            response = await call(request_of(command), timeout=30)
        except grpc.aio.AioRpcError as error:
            packed = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
            return refused_as(status_pb2.Status.FromString(packed))
        return self._done(command, response)

    def _done(self, command: Command, response: Any) -> str:
        request = (command.member_id, command.request_id)
        assert response.replayed is (request in self._answered)
        self._answered.add(request)
        if kind_of(command, response) == "POINTS_ADJUSTED" and not response.replayed:
            self._adjusted[command.member_id] += response.receipt.points
        return kind_of(command, response)

    def perform_list(self, now: datetime, some: Sequence[Command], *, streamed: bool) -> list[str]:
        """Carries out commands of one caller together, in a batch, or two by two in a stream."""
        return self._runner.run(self._perform_list(now, some, streamed=streamed))

    async def _perform_list(self, now: datetime, some: Sequence[Command], *, streamed: bool) -> list[str]:
        await self._move_to(now)
        writes = [write_of(command) for command in some]
        caller = self._callers[some[0].principal]
        if streamed:
            requests = [pb.RecordStreamRequest(writes=writes[at : at + 2]) for at in range(0, len(writes), 2)]
            outcomes = [
                outcome
                async for response in caller.RecordStream(iter(requests), timeout=30)
                for outcome in response.outcomes
            ]
        else:
            outcomes = list((await caller.BatchRecord(pb.BatchRecordRequest(writes=writes), timeout=30)).outcomes)
        answers = []
        for command, outcome in zip(some, outcomes, strict=True):
            which = outcome.WhichOneof("outcome")
            response = getattr(outcome, which)
            answers.append(refused_as(response) if which == "error" else self._done(command, response))
        return answers

    def sweep(self, now: datetime) -> None:
        """Has what time has done by now written down."""

        async def sweep() -> None:
            await self._move_to(now)
            while await self._ledger.sweep():
                pass

        self._runner.run(sweep())

    def figures(self, now: datetime, member_id: str) -> Figures:
        """A member's figures, as GetBalance, ListLots and ListPurchases show them."""
        return self._runner.run(self._figures(now, member_id))

    async def _figures(self, now: datetime, member_id: str) -> Figures:
        await self._move_to(now)
        methods = ("GetBalance", "ListPurchases")
        answers = await asyncio.gather(*[self._call(method, member_id=member_id) for method in methods])
        balance, purchases = answers[0].balance, answers[1].purchases
        lots = await all_lots(self._callers["p"], member_id)
        holds: dict[str, tuple[datetime, list[tuple[Key, int]]]] = {}
        free: dict[int, list[tuple[Key, int]]] = {lot_pb2.LOT_STATE_PENDING: [], lot_pb2.LOT_STATE_AVAILABLE: []}
        for lot in lots:
            part = ((day_of(lot.activation_date), day_of(lot.expiry_date)), lot.points)
            if lot.state == lot_pb2.LOT_STATE_HELD:
                expires = lot.hold_expire_time.ToDatetime(UTC)
                holds.setdefault(lot.hold_id, (expires, []))[1].append(part)
            else:
                free[lot.state].append(part)
        pending, available = free[lot_pb2.LOT_STATE_PENDING], free[lot_pb2.LOT_STATE_AVAILABLE]
        assert balance.pending_points == sum(points for _, points in pending)
        assert balance.available_points == sum(points for _, points in available)
        assert balance.held_points == sum(points for _, parts in holds.values() for _, points in parts)
        there = balance.pending_points + balance.available_points + balance.held_points - balance.debt_points
        adjusted = self._adjusted[member_id]
        return Figures(
            pending=tuple(pending),
            lots=tuple(available),
            holds={name: (expires, tuple(parts)) for name, (expires, parts) in holds.items()},
            debt=balance.debt_points,
            earned=balance.earned_points,
            redeemed=balance.redeemed_points,
            adjusted=adjusted,
            expired=balance.earned_points + adjusted - balance.redeemed_points - there,
            purchases={
                bought.purchase_id: (
                    bought.returned_amount.minor_units,
                    0,
                    bought.returned_points,
                    bought.payment_points_returned,
                    bought.payment_amount_returned.minor_units,
                    bought.voided,
                )
                for bought in purchases
            },
        )

    def owed(self, now: datetime) -> Owed:
        """What is outstanding, as GetLiability shows it."""
        return self._runner.run(self._owed(now))

    async def _owed(self, now: datetime) -> Owed:
        await self._move_to(now)
        found = (await self._call("GetLiability")).liability
        outstanding: Counter[tuple[str, str]] = Counter()
        for row in found.rows:
            for state in ("pending", "available", "held"):
                outstanding[state, row.expiry_month] += getattr(row, f"{state}_points")
        assert outstanding.total() == found.closing.points
        return Owed(outstanding=+outstanding, debt=found.debt_points)

    def moved(self, now: datetime) -> Counter[str]:
        """What all years together moved, as GetLiability shows it."""
        return self._runner.run(self._moved(now))

    async def _moved(self, now: datetime) -> Counter[str]:
        moved: Counter[str] = Counter()
        closing = 0
        for year in range(self._rules.local(self._started).year, self._rules.local(now).year + 1):
            found = (await self._call("GetLiability", period=str(year))).liability
            assert found.opening.points == closing
            closing = found.closing.points
            for name in MOVEMENTS:
                moved[name] += getattr(found, name).points
        return moved

    def differences(self) -> tuple[Any, ...]:
        """What the check of the whole ledger finds."""
        report = self._runner.run(check(self._config))
        assert report.checked["entries"]
        return report.differences


async def emptied(database: Database) -> None:
    """Takes all out of a ledger's tables, in a tenth of the time that a new database takes."""
    connection = await asyncpg.connect(database.dsn("loyalty_owner"))
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'ledger'")
        kept = {"schema_migrations", "audit_log", "audit_head", "programme_versions"}
        names = ", ".join([f"ledger.{table}" for (table,) in tables if table not in kept])
        async with connection.transaction():
            await connection.execute("ALTER TABLE ledger.entries DISABLE TRIGGER USER")
            await connection.execute(f"TRUNCATE {names}")
            await connection.execute("ALTER TABLE ledger.entries ENABLE TRIGGER USER")
    finally:
        await connection.close()


def day_of(text: str) -> date | None:
    return date.fromisoformat(text) if text else None


def owed_to(models: Sequence[Model]) -> Owed:
    """What the programme owes, as the sum of what the members have."""
    outstanding: Counter[tuple[str, str]] = Counter()
    for model in models:
        held = [part for _, parts in model.holds.values() for part in parts]
        for state, parts in (("pending", model.pending.items()), ("available", model.lots.items()), ("held", held)):
            for (_, expires), points in parts:
                outstanding[state, expires.isoformat()[:7] if expires else ""] += points
    return Owed(outstanding=outstanding, debt=sum(model.debt for model in models))


def moved_by(models: Sequence[Model]) -> Counter[str]:
    """What members gained and lost, all in all."""
    figures = [(one.issued, one.redeemed, one.expired, one.adjusted, one.debt) for one in models]
    return Counter(dict(zip(MOVEMENTS, map(sum, zip(*figures, strict=True)), strict=True)))


sizes = st.sampled_from([1, 1, 2, 5])


class ServiceBesideItsModel(LedgerBesideItsModel):
    """Two members in two partitions. Commands go one by one, or are gathered and go together."""

    members = ("c", "m")
    subject: Served

    def __init__(self, database: Database, runner: asyncio.Runner, folder: Path, token_file: Path) -> None:
        super().__init__()
        self._database, self._runner, self._folder, self._token_file = database, runner, folder, token_file
        self._stack = contextlib.ExitStack()
        # What goes together with the next: the commands and what the model answered.
        self._gathered: list[tuple[Command, str]] = []
        self._at_once, self._streamed = 1, False
        self._last: tuple[Command, str] | None = None

    @initialize(
        rules=st.sampled_from(PROGRAMMES),
        start=st.sampled_from(STARTS),
        simulated=st.booleans(),
        at_once=sizes,
        streamed=st.booleans(),
    )
    def start(self, rules: Rules, start: datetime, simulated: bool, at_once: int, streamed: bool) -> None:
        """Both have bought, brought back, spent and set aside something, so that commands have what to be about."""
        self._at_once, self._streamed = 100, streamed
        super().start(rules, start, simulated)
        lines = (
            commands.Line("sku", "", "DAIRY", "", 2, 5000, commands.LineKind.GOODS),
            commands.Line("sku", "", "MEAT", "", 3, 3001, commands.LineKind.GOODS),
            commands.Line("sku", "", "", "", 1, 1500, commands.LineKind.SHIPPING),
        )
        piece = {"reason": "", "returned_lines": (LineReturn(1, 1, 0),)}
        spent = {"reason": "discount", "note": "", "purchase_id": "", "store_id": "", "channel": "", "offline": False}
        held = {"reason": "", "purchase_id": ""}
        home = rules.abroad or "EUR"
        for member in self.members:
            self.send(commands.RecordPurchase, member, None, **movement(9501, lines, "p0", "s1", home))
            self.send(commands.RecordReturn, member, None, **movement(0, (), "p0", "s1"), **piece)
            self.send(commands.RedeemPoints, member, None, points=10, **spent)
            self.send(commands.HoldPoints, member, None, points=20, ttl=timedelta(days=2), **held)
        self._send_gathered()
        self._at_once = at_once

    def begin(self, rules: Rules, *, simulated: bool) -> Served:
        served = Served(self._runner, self._database, self._folder, self._token_file, rules, simulated=simulated)
        self._stack.callback(served.close)
        return served

    def send(self, kind: Any, member: str, occurred: datetime | None, **fields: Any) -> str:
        if kind is commands.SetEarningClass:
            # Its request says only from when on it holds.
            occurred = None
        if named := fields.get("returned_lines"):
            # A request names a line once.
            fields["returned_lines"] = tuple({line.number: line for line in named}.values())
        return super().send(kind, member, occurred, **fields)

    def carry_out(self, command: Command, expected: str) -> None:
        if self._gathered and self._gathered[0][0].principal != command.principal:
            self._send_gathered()
        self._gathered.append((command, expected))
        if len(self._gathered) >= self._at_once:
            self._send_gathered()

    def _send_gathered(self) -> None:
        if not self._gathered:
            return
        some, self._gathered = self._gathered, []
        self._last = some[-1]
        if self._at_once == 1:
            ((command, expected),) = some
            assert self.subject.perform(self.now, command) == expected
            return
        answers = self.subject.perform_list(self.now, [command for command, _ in some], streamed=self._streamed)
        assert answers == [expected for _, expected in some]

    def pass_time(self, until: datetime) -> None:
        self._send_gathered()
        super().pass_time(until)

    @rule(at_once=sizes, streamed=st.booleans())
    def from_now_on_so_many_go_together(self, at_once: int, streamed: bool) -> None:
        self._send_gathered()
        self._at_once, self._streamed = at_once, streamed

    @rule()
    def what_time_has_done_is_written_down(self) -> None:
        self._send_gathered()
        self.subject.sweep(self.now)

    @rule(data=st.data(), member=anyone, written=st.booleans(), amount=amounts)
    def a_purchase_comes_back_when_its_points_have_lapsed(
        self, data: st.DataObject, member: str, written: bool, amount: int
    ) -> None:
        self.pass_time(self.now + 400 * DAY)
        if written:
            self.subject.sweep(self.now)
        self.a_return_by_amount(data, member, amount, goods=False)

    @rule(data=st.data(), member=anyone, written=st.booleans(), amount=amounts)
    def points_are_restored_when_they_have_lapsed(
        self, data: st.DataObject, member: str, written: bool, amount: int
    ) -> None:
        self.pass_time(self.now + 400 * DAY)
        if written:
            self.subject.sweep(self.now)
        # Whoever is inactive is refused.
        self.send(commands.RecordPurchase, member, None, **movement(100, (), f"p{self.requests}", "s1"))
        self.a_restoration(data, member, amount)

    @rule()
    def the_last_request_comes_again(self) -> None:
        self._send_gathered()
        # What was rejected was not kept, and may be accepted later.
        if self._last is not None and self._last[1] != "rejected":
            command, expected = self._last
            assert self.subject.perform(self.now, command) == expected

    @invariant()
    def both_have_come_to_the_same(self) -> None:
        if not hasattr(self, "models") or self._gathered:
            return
        for member, model in self.models.items():
            model.pass_time(self.now)
            expected = figures_of(model)
            # What came back of the goods alone is nobody's to see.
            purchases = {name: (money, 0, *more) for name, (money, _, *more) in expected.purchases.items()}
            assert self.subject.figures(self.now, member) == dataclasses.replace(expected, purchases=purchases)
        assert self.subject.owed(self.now) == owed_to(list(self.models.values()))

    def teardown(self) -> None:
        with self._stack:
            # What went wrong already is told as it is.
            if hasattr(self, "models") and sys.exc_info()[0] is None:
                self._send_gathered()
                self.both_have_come_to_the_same()
                assert self.subject.moved(self.now) == moved_by(list(self.models.values()))
                assert self.subject.differences() == ()


def test_the_ledger_that_serves_comes_to_what_the_model_says(
    database: Database, folder: Path, token_file: Path
) -> None:
    with asyncio.Runner() as runner:
        run_state_machine_as_test(
            lambda: ServiceBesideItsModel(database, runner, folder, token_file),
            settings=settings(
                max_examples=30,
                stateful_step_count=25,
                deadline=None,
                print_blob=True,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            ),
        )
