"""kill -9 of the ledger and of its database amid every kind of write: each done once, and all as without it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, randrange
from typing import Any, NamedTuple

import asyncpg
import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc
from loyalty.type.v1.money_pb2 import Money

from services.cli.postgres import Cluster
from services.runtime.channels import open_channel
from tests.conftest import SECRET, Database, fresh_database
from tests.ledger_checks import checked
from tests.ledger_process import LedgerProcess, Nursery, nursery
from tests.outcomes import OF_THE_ENTRY
from tests.till import until_answered, write

PROGRAMME = """
programme: kill
currency: PLN
time_zone: Europe/Warsaw
earning:
  base: goods_paid
  points: 1
  per: "1.00"
  sign_up_bonus: 200
  pending: P1D
  bonuses: [{id: dairy-double, multiplier: "2", departments: [DAIRY]}]
expiry: {policy: after, period: P1Y}
redemption: {minimum: 50, step: 10}
adjustments: {per_call: 1000}
tiers:
  base: total
  window: P365D
  levels: [{name: White}, {name: Green, from: "300.00", earning_multiplier: "1.5"}]
"""

MEMBERS = 12
# Where the clock stands in each chapter: for the second, what was pending becomes active and a hold runs out; for the
# third, all of it lapses.
TIMES = ("1970-01-02T12:00:00Z", "1970-01-04T12:00:00Z", "1971-02-01T12:00:00Z")
KILLS = 12


class Step(NamedTuple):
    """What one principal asks: a request, or the requests of a stream."""

    request: Any
    principal: str = "till"


def money(minor_units: int) -> Money:
    return Money(currency_code="PLN", minor_units=minor_units)


def at(text: str) -> Timestamp:
    stamp = Timestamp()
    stamp.FromJsonString(text)
    return stamp


def batch(*requests: Any, all_or_none: bool = False) -> pb.BatchRecordRequest:
    return pb.BatchRecordRequest(writes=[write(one) for one in requests], all_or_none=all_or_none)


class Member:
    """Makes the requests of one member."""

    def __init__(self, number: int) -> None:
        self.member_id = f"m-{number}"
        self._of = {"member_id": self.member_id}

    def enrol(self, request_id: str) -> Any:
        return pb.EnrollMemberRequest(request_id=request_id, occurred_time=at("1970-01-02T09:00:00Z"), **self._of)

    def buy(self, purchase_id: str, *lines: pb.Line, request_id: str = "", amount: int = 0, **more: Any) -> Any:
        total = amount or sum(line.amount_minor_units for line in lines)
        return pb.RecordPurchaseRequest(
            request_id=request_id or purchase_id,
            purchase_id=purchase_id,
            amount=money(total),
            lines=lines,
            store_id="s",
            **self._of,
            **more,
        )

    def bring_back(self, request_id: str, purchase_id: str = "", **more: Any) -> Any:
        return pb.RecordReturnRequest(request_id=request_id, purchase_id=purchase_id, **self._of, **more)

    def void(self, request_id: str, purchase_id: str) -> Any:
        return pb.VoidPurchaseRequest(request_id=request_id, purchase_id=purchase_id, store_id="s", **self._of)

    def award(self, request_id: str, points: int, purchase_id: str = "") -> Any:
        return pb.AwardPointsRequest(
            request_id=request_id, points=points, reason="gift", note="a note", purchase_id=purchase_id, **self._of
        )

    def redeem(self, request_id: str, points: int, **more: Any) -> Any:
        return pb.RedeemPointsRequest(request_id=request_id, points=points, note="at the till", **self._of, **more)

    def reverse(self, request_id: str, redemption_id: str, points: int = 0) -> Any:
        return pb.ReverseRedemptionRequest(
            request_id=request_id, redemption_id=redemption_id, points=points, **self._of
        )

    def hold(self, hold_id: str, points: int, seconds: int) -> Any:
        return pb.HoldPointsRequest(request_id=hold_id, points=points, ttl=Duration(seconds=seconds), **self._of)

    def capture(self, request_id: str, hold_id: str, points: int = 0) -> Any:
        return pb.CaptureHoldRequest(request_id=request_id, hold_id=hold_id, points=points, **self._of)

    def release(self, request_id: str, hold_id: str, points: int = 0) -> Any:
        return pb.ReleaseHoldRequest(request_id=request_id, hold_id=hold_id, points=points, **self._of)

    def extend(self, request_id: str, hold_id: str) -> Any:
        return pb.ExtendHoldRequest(request_id=request_id, hold_id=hold_id, ttl=Duration(seconds=3600), **self._of)

    def adjust(self, request_id: str, points: int, **more: str) -> Any:
        return pb.AdjustPointsRequest(request_id=request_id, points=points, reason="correction", **more, **self._of)

    def set_class(self, request_id: str, sequence: int) -> Any:
        return pb.SetEarningClassRequest(
            request_id=request_id,
            earning_class="green",
            effective_time=at("1970-01-01T00:00:00Z"),
            sequence=sequence,
            **self._of,
        )


def story(number: int) -> list[list[Step]]:
    """What happens to one member, chapter by chapter: every write of the contract, done and refused."""
    me = Member(number)
    lines = (
        pb.Line(sku="milk", department="DAIRY", quantity=3, amount_minor_units=3000),
        pb.Line(sku="bread", amount_minor_units=150_000 + 700 * number),
        pb.Line(sku="post", amount_minor_units=500, kind=pb.LINE_KIND_SHIPPING),
    )
    piece = [pb.ReturnedLine(line_number=1, quantity=1)]
    first: list[Any] = [
        me.enrol("e"),
        pb.EnrollMemberRequest(request_id=f"friend-of-{me.member_id}"),
        me.enrol("e-2"),
        me.award("a-0", 2000),
        me.bring_back("r-0", "p-1", returned_lines=piece),
        me.buy("p-1", *lines, receipt_number="17"),
        me.buy("p-2", amount=20000),
        me.award("a-1", 40, "p-2"),
        me.bring_back("r-1", "p-2", amount=money(5000)),
        me.bring_back("r-2", "p-1", returned_lines=[pb.ReturnedLine(line_number=2, amount_minor_units=700)]),
        me.bring_back("r-3", "p-1", returned_lines=[pb.ReturnedLine(line_number=1, quantity=3)]),
        me.redeem("s-1", 100 + 10 * number),
        me.reverse("b-1", "s-1", 40),
        me.reverse("b-2", "s-1"),
        me.reverse("b-3", "s-1"),
        me.hold("h-1", 500, 900),
        me.capture("c-1", "h-1", 200),
        me.extend("x-1", "h-1"),
        me.release("f-1", "h-1", 100),
        me.capture("c-2", "h-1"),
        me.reverse("b-4", "c-2", 50),
        me.hold("h-2", 200, 60),
        me.hold("h-3", 300, 90 * 86400),
        me.adjust("d-1", 100),
        me.adjust("d-2", -50),
        me.adjust("d-3", 5000),
        Step(me.adjust("d-4", 4000, approves="d-3"), "boss"),
        Step(me.adjust("d-5", 5000, approves="d-3"), "boss"),
        me.adjust("d-8", 6000),
        Step(me.adjust("d-9", 6000, declines="d-8"), "boss"),
        me.set_class("k-1", 1),
        me.set_class("k-2", 1),
        me.buy("p-3", amount=30000),
        me.void("v-1", "p-3"),
        me.void("v-2", "p-3"),
        me.buy("p-3", request_id="p-3-again", amount=30000),
        batch(me.buy("p-4", amount=5000), me.redeem("s-2", 50), me.award("a-2", 10, "p-4"), all_or_none=True),
        batch(me.award("a-5", 50), me.redeem("s-4", 5), all_or_none=True),
        batch(
            me.redeem("s-5", 60),
            me.redeem("s-6", 0),
            me.hold("h-4", 70, 900),
            me.capture("c-3", "h-4", 20),
            me.release("f-2", "h-4"),
            me.adjust("d-6", 5),
        ),
        me.redeem("s-7", 1_000_000),
        [
            pb.RecordStreamRequest(writes=[write(one) for one in some])
            for some in (
                (me.buy("p-5", amount=1000), me.hold("h-5", 100, 900)),
                (me.capture("c-4", "h-5", 50), me.bring_back("r-4", "p-5", amount=money(400))),
                (me.release("f-3", "h-5"), me.void("v-3", "p-5"), me.redeem("s-8", 55)),
            )
        ],
    ]
    second: list[Any] = [
        me.capture("c-5", "h-2"),
        me.bring_back("r-5", "p-2", amount=money(15000)),
        me.redeem("s-9", 100_000, offline=True),
        me.award("a-3", 300),
        me.bring_back("r-6", amount=money(2500)),
        me.buy("p-6", amount=10000),
        me.reverse("b-5", "s-9", 95_000),
        batch(me.hold("h-6", 100, 60), me.extend("x-2", "h-6"), all_or_none=True),
    ]
    third: list[Any] = [
        me.bring_back("r-7", "p-1", returned_lines=[pb.ReturnedLine(line_number=2, amount_minor_units=100_000)]),
        me.release("f-4", "h-3"),
        me.reverse("b-6", "s-5"),
        me.adjust("d-7", -10),
        me.buy("p-7", amount=10000 + number),
        me.award("a-4", 70),
        me.redeem("s-10", 50),
    ]
    return [[one if isinstance(one, Step) else Step(one) for one in chapter] for chapter in (first, second, third)]


class Refused(NamedTuple):
    """A refusal, as it was told."""

    code: grpc.StatusCode
    message: str | None


# What a rule says; all else is a trouble of the ledger.
RULES = {grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION}


@dataclass
class Play:
    """The stories over one ledger, and all that was answered."""

    tills: Mapping[str, Any]
    chance: Random
    answered: list[tuple[Step, Any]] = field(default_factory=list)
    moved_on: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def ask(self, step: Step) -> Any:
        till = self.tills[step.principal]
        try:
            if isinstance(step.request, list):
                return await until_answered(lambda requests, timeout: streamed(till, requests, timeout), step.request)
            method = type(step.request).DESCRIPTOR.name.removesuffix("Request")
            return await until_answered(getattr(till, method), step.request)
        except grpc.aio.AioRpcError as error:
            if error.code() not in RULES:
                raise
            return Refused(error.code(), error.details())

    async def tell(self, chapter: Sequence[Step]) -> None:
        """One step after the other, each until it is answered."""
        for step in chapter:
            answer = await self.ask(step)
            async with self.moved_on:
                self.answered.append((step, answer))
                self.moved_on.notify_all()

    async def tell_all(self) -> None:
        stories = [story(number) for number in range(MEMBERS)]
        for number, chapters in enumerate(zip(*stories, strict=True)):
            await self.tell([Step(pb.AdvanceClockRequest(request_id=f"to-{number}", to_time=at(TIMES[number])))])
            await asyncio.gather(*(self.tell(chapter) for chapter in chapters))

    async def after(self, answers: int) -> None:
        """Waits for so many answers, and a moment that is never the same."""
        async with self.moved_on:
            await self.moved_on.wait_for(lambda: len(self.answered) >= answers)
        await asyncio.sleep(self.chance.uniform(0, 0.02))


async def streamed(till: Any, requests: Sequence[Any], timeout: float) -> list[Any]:  # noqa: ASYNC109
    async def sent() -> AsyncIterator[Any]:
        for request in requests:
            yield request

    return [answer async for answer in till.RecordStream(sent(), timeout=timeout)]


def said_once(answer: Any) -> tuple[list[Any], set[bool]]:
    """An answer without the word that it was given before, and every such word in it."""
    if isinstance(answer, Refused):
        return [answer], set()
    plain, words = [], set()
    for message in answer if isinstance(answer, list) else [answer]:
        copied = type(message)()
        copied.CopyFrom(message)
        if isinstance(copied, pb.AdvanceClockResponse):
            # The time there is, whenever it is asked.
            copied.ClearField("business_time")
        inner = [copied]
        if hasattr(copied, "outcomes"):
            inner = [getattr(outcome, outcome.WhichOneof("outcome")) for outcome in copied.outcomes]
        for one in inner:
            if hasattr(one, "replayed"):
                words.add(one.replayed)
                one.replayed = False
            for detail in getattr(one, "details", ()):
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    info.metadata.pop("replayed", None)
                    detail.Pack(info)
        plain.append(copied)
    return plain, words


async def settled(database: Database) -> None:
    """Waits until all that time has done is written down."""
    connection = await asyncpg.connect(database.dsn("loyalty_ledger"))
    try:
        for _ in range(200):
            if not await connection.fetchval(
                "SELECT count(*) FROM ledger.members m JOIN ledger.partitions p USING (partition)"
                " WHERE m.due_time <= p.business_time"
            ):
                return
            await asyncio.sleep(0.1)
    finally:
        await connection.close()
    raise AssertionError("what is due is not written down")


async def entries_by_member(till: Any) -> dict[str, list[Any]]:
    """All entries, without what depends on the others of their partition and on the machine's clock."""
    found: dict[str, list[Any]] = defaultdict(list)
    async for response in till.StreamEntries(pb.StreamEntriesRequest(), timeout=20):
        for entry in response.entries:
            for name in OF_THE_ENTRY:
                entry.ClearField(name)
            found[entry.member_id or f"the clock of partition {entry.partition}"].append(entry)
    return dict(found)


class Stage:
    """Where the stories are played: a ledger in a process of its own over a database of its own."""

    def __init__(self, nursery: Nursery, database: Database, folder: Path, token_file: Path, name: str) -> None:
        self.database = database
        self.programme, self._token_file = folder / "kill.yaml", token_file
        self.programme.write_text(PROGRAMME)
        self.ledger = LedgerProcess(
            nursery=nursery,
            name=name,
            folder=folder,
            database_url=database.dsn("loyalty_ledger"),
            programme=self.programme,
            token_file=token_file,
        )

    def kill_ledger(self) -> None:
        self.ledger.kill()
        self.ledger.start()

    def kill_database(self) -> None:
        cluster = self.database.cluster
        assert cluster.pid is not None
        os.kill(cluster.pid, signal.SIGKILL)
        while cluster.pid is not None:
            time.sleep(0.01)
        cluster.start()

    async def play(self, chance: Random, *, kills: bool) -> tuple[Play, dict[str, list[Any]]]:
        """Plays all stories and asks all of it once more; what was answered, and the entries."""
        principals = ("till", "boss")
        channels = [open_channel(self.ledger.listen, principal=name, secret=SECRET) for name in principals]
        stubs = [ledger_service_pb2_grpc.LedgerServiceStub(channel) for channel in channels]
        play = Play(tills=dict(zip(principals, stubs, strict=True)), chance=chance)
        self.ledger.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(play.tell_all())
            if kills:
                group.create_task(self._kill(play))
        again = await asyncio.gather(*(play.ask(step) for step, _ in play.answered))
        for (step, answer), answer_again in zip(play.answered, again, strict=True):
            told, words = said_once(answer_again)
            assert told == said_once(answer)[0], step
            assert words <= {True}, step
        await settled(self.database)
        entries = await entries_by_member(play.tills["till"])
        for channel in channels:
            await channel.close()
        return play, entries

    async def _kill(self, play: Play) -> None:
        """The ledger at random moments and as the clock moves on, the database once."""
        chapters = [1 + MEMBERS * len(chapter) for chapter in story(0)]
        moments: list[tuple[int, Callable[[], None]]] = [
            (sum(chapters[:number]), self.kill_ledger) for number in (1, 2)
        ]
        moments += [(play.chance.randrange(sum(chapters) - 10), self.kill_ledger) for _ in range(KILLS)]
        moments.append((play.chance.randrange(sum(chapters) - 10), self.kill_database))
        for answers, kill in sorted(moments, key=lambda moment: moment[0]):
            await play.after(answers)
            await asyncio.to_thread(kill)

    async def differences(self) -> Sequence[Mapping[str, Any]]:
        """What the check of everything finds."""
        return (await checked(self.database.dsn("loyalty_ledger"), self.programme)).differences


async def test_kill_9_at_random_moments_leaves_every_write_done_once_and_every_story_as_it_is_without(
    cluster: Cluster, folder: Path, token_file: Path
) -> None:
    seed = int(os.environ.get("SEED") or randrange(10**6))
    print(f"seed {seed}")
    with nursery() as started, fresh_database(cluster) as calm, fresh_database(cluster) as killed:
        undisturbed = Stage(started, calm, folder, token_file, "calm")
        expected, written = await undisturbed.play(Random(seed), kills=False)
        stage = Stage(started, killed, folder, token_file, "killed")
        try:
            play, entries = await stage.play(Random(seed), kills=True)
        finally:
            cluster.start()
        assert len(play.answered) == len(expected.answered)
        assert entries == written
        assert await stage.differences() == await undisturbed.differences() == ()
