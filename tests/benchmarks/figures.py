"""The figures: what is measured, beside what, round by round. Figure and reference take turns in every round."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.client import (
    Balances,
    Batches,
    Calls,
    Copy,
    Feed,
    Heads,
    History,
    Joining,
    Measured,
    Paced,
    Stream,
)
from tests.benchmarks.results import Figure
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.stack import Server, Stack

DATABASE = "bench"
COPIED = "copied"
EMPTY = "empty"
# Lots last for a year from their day on: the points of all these days are there.
_DAYS = 364
_READINGS = 3
_BATCHES_TO_FILL = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A run: the ledger with its members, the sizes, and seeds that never come again."""

    stack: Stack
    sizes: Sizes
    ledger: Server
    # Where the log ended when all had joined.
    joined: dict[str, int]
    say: Callable[[str], None]
    seeds: Iterator[int] = field(default_factory=lambda: itertools.count(time.time_ns()))
    # What is told beside the figures.
    notes: dict[str, Any] = field(default_factory=dict)

    def calls(self, server: Server, count: int, *, echo: bool = False) -> Measured:
        """RecordPurchase of members taken at random, many at a time."""
        return self.stack.run(
            Calls(
                **server.door,
                seed=next(self.seeds),
                count=count,
                in_flight=self.sizes.in_flight,
                members=self.sizes.members,
                echo=echo,
            )
        )

    def member_calls(self, member: str) -> Measured:
        """RecordPurchase of one member, one after the other."""
        return self.stack.run(
            Calls(
                **self.ledger.door,
                seed=next(self.seeds),
                count=self.sizes.member_calls,
                in_flight=1,
                member=member,
            )
        )

    def balances(self, member: str) -> Measured:
        """GetBalance of one member, one after the other."""
        return self.stack.run(
            Balances(
                **self.ledger.door,
                count=self.sizes.member_calls,
                member=member,
            )
        )

    def paced(self, rate: float) -> Measured:
        """RecordPurchase at a fixed rate."""
        return self.stack.run(
            Paced(
                **self.ledger.door,
                seed=next(self.seeds),
                rate=rate,
                seconds=self.sizes.paced_seconds,
                members=self.sizes.members,
            )
        )

    def batches(self, server: Server, count: int) -> Measured:
        """BatchRecord of purchases."""
        return self.stack.run(
            Batches(
                **server.door,
                seed=next(self.seeds),
                size=self.sizes.batch,
                batches=count,
                in_flight=self.sizes.batches_in_flight,
                members=self.sizes.members,
            )
        )

    def stream(self, server: Server, size: int, messages: int, *, echo: bool = False) -> Measured:
        """RecordStream of purchases."""
        return self.stack.run(
            Stream(
                **server.door,
                seed=next(self.seeds),
                size=size,
                messages=messages,
                unanswered=self.sizes.stream_unanswered_writes,
                members=self.sizes.members,
                echo=echo,
            )
        )

    def history(self, member: str, count: int) -> Measured:
        """A member with a year of purchases."""
        return self.stack.run(
            History(
                **self.ledger.door,
                seed=next(self.seeds),
                member=member,
                count=count,
                days=_DAYS,
                size=self.sizes.batch,
            )
        )

    def heads(self) -> dict[str, int]:
        """Where the log ends."""
        return heads(self.stack, self.ledger)


def heads(stack: Stack, ledger: Server) -> dict[str, int]:
    """Where the log of a ledger ends: the last offset of each partition."""
    return stack.run(Heads(**ledger.door)).heads


def join(stack: Stack, ledger: Server, sizes: Sizes) -> None:
    """All members join."""
    stack.run(Joining(**ledger.door, members=sizes.members, size=sizes.batch))


def unary(bench: Bench) -> list[Figure]:
    """RecordPurchase, one call each; and how long a call takes at half of that load."""
    sizes = bench.sizes
    ledger, echo, one_by_one = [], [], []
    with (
        bench.stack.echo() as echoing,
        bench.stack.one_by_one(DATABASE, sizes.connections_one_by_one) as plain,
    ):
        for server in (bench.ledger, plain):
            bench.calls(server, sizes.warm_up_calls)
        bench.calls(echoing, sizes.warm_up_calls, echo=True)
        for _ in range(sizes.rounds):
            ledger.append(bench.calls(bench.ledger, sizes.calls).rate)
            echo.append(bench.calls(echoing, sizes.calls, echo=True).rate)
            one_by_one.append(bench.calls(plain, sizes.calls_one_by_one).rate)
    half = statistics.median(ledger) / 2
    bench.say(f"unary: {half:,.0f} calls/s, half of the peak")
    p99 = [bench.paced(half).p99_ms for _ in range(sizes.rounds)]
    name = f"RecordPurchase, {sizes.in_flight} in flight"
    return [
        Figure(name=f"{name} / bare echo", unit="calls/s", values=ledger, references=echo, at_least=0.5, aim=0.65),
        Figure(
            name=f"{name} / one transaction per RPC",
            unit="calls/s",
            values=ledger,
            references=one_by_one,
            at_least=2.5,
            aim=4,
        ),
        Figure(name="RecordPurchase at half the peak load, p99", unit="ms", values=p99, at_least=40, aim=15),
    ]


def identity(bench: Bench) -> list[Figure]:
    """RecordPurchase over mutual TLS with a token, and over a unix socket with the shared secret: what identity costs.

    Both are fresh processes over the same database, and take turns.
    """
    known, shared = [], []
    with bench.stack.ledger(DATABASE, known=True) as certified, bench.stack.ledger(DATABASE) as plain:
        for server in (certified, plain):
            bench.calls(server, bench.sizes.warm_up_calls)
        for _ in range(bench.sizes.rounds):
            known.append(bench.calls(certified, bench.sizes.calls).rate)
            shared.append(bench.calls(plain, bench.sizes.calls).rate)
    return [
        Figure(
            name="RecordPurchase, with certificates and token / without",
            unit="calls/s",
            values=known,
            references=shared,
            at_least=0.95,
            aim=1.0,
        )
    ]


def batch(bench: Bench) -> list[Figure]:
    """BatchRecord, and the same entries by COPY."""
    sizes = bench.sizes
    bench.stack.create_database(COPIED)
    bench.batches(bench.ledger, 2)
    recorded, copied = [], []
    for _ in range(sizes.rounds):
        before = bench.heads()
        recorded.append(bench.batches(bench.ledger, sizes.batches).rate)
        copied.append(
            bench.stack.run(
                Copy(source=bench.stack.dsn(DATABASE), target=bench.stack.dsn(COPIED), before=before, size=sizes.batch)
            ).rate
        )
    name = f"BatchRecord of {sizes.batch:,}"
    return [
        Figure(name=f"{name} / COPY", unit="entries/s", values=recorded, references=copied, at_least=0.2, aim=0.4),
        Figure(name=name, unit="purchases/s", values=recorded, at_least=8_000, aim=15_000),
    ]


def stream(bench: Bench) -> list[Figure]:
    """RecordStream, and a bare echo of the same messages."""
    figures = []
    with bench.stack.echo() as echoing:
        for size, messages in bench.sizes.stream_messages:
            for server in (bench.ledger, echoing):
                bench.stream(server, size, max(messages // 10, 1), echo=server is echoing)
            recorded, echo = [], []
            for _ in range(bench.sizes.rounds):
                recorded.append(bench.stream(bench.ledger, size, messages).rate)
                echo.append(bench.stream(echoing, size, messages, echo=True).rate)
            figures.append(
                Figure(
                    name=f"RecordStream, {size} a message / echo stream",
                    unit="purchases/s",
                    values=recorded,
                    references=echo,
                    at_least=0.3,
                    aim=0.5,
                )
            )
    return figures


def feed(bench: Bench) -> list[Figure]:
    """StreamEntries of all purchases so far, from where all had joined to the end of the log."""
    if bench.heads() == bench.joined:
        bench.batches(bench.ledger, bench.sizes.batches)
    rates = []
    for _ in range(bench.sizes.rounds):
        job = Feed(**bench.ledger.door, after=bench.joined)
        rates.append(bench.stack.run(job).rate)
    return [Figure(name="StreamEntries, catching up", unit="entries/s", values=rates, at_least=30_000, aim=60_000)]


def member(bench: Bench) -> list[Figure]:
    """A member with many entries against one with few; each round has another with few, because it grows."""
    sizes = bench.sizes
    bench.history("many", sizes.many_entries - 1)
    bench.member_calls("many")
    purchases: tuple[list[float], list[float]] = ([], [])
    balances: tuple[list[float], list[float]] = ([], [])
    for number in range(sizes.member_rounds):
        few = f"few-{number}"
        bench.history(few, sizes.few_entries - 1)
        for place, name in enumerate(("many", few)):
            balances[place].append(bench.balances(name).median_ms)
        for place, name in enumerate(("many", few)):
            purchases[place].append(bench.member_calls(name).median_ms)
    between = f"a member with {sizes.many_entries:,} entries / {sizes.few_entries}"
    return [
        Figure(
            name=f"RecordPurchase, {between}",
            unit="ms",
            values=purchases[0],
            references=purchases[1],
            at_least=1.3,
            aim=1.1,
        ),
        Figure(
            name=f"GetBalance, {between}",
            unit="ms",
            values=balances[0],
            references=balances[1],
            at_least=1.3,
            aim=1.1,
        ),
    ]


def memory(bench: Bench) -> list[Figure]:
    """What a fresh ledger holds of the machine's memory under load: at the end, against after the first minute.

    A reading is taken after each job; the client of the next is another process.
    """
    sizes = bench.sizes
    readings: list[tuple[float, float]] = []
    with bench.stack.ledger(DATABASE) as fresh:
        began = time.monotonic()
        while not readings or readings[-1][0] < sizes.memory_seconds:
            bench.calls(fresh, sizes.calls)
            readings.append((time.monotonic() - began, fresh.memory_mib()))
    early = [mib for passed, mib in readings if passed <= sizes.memory_first_seconds] or [readings[0][1]]
    late = [mib for _, mib in readings]
    return [
        Figure(
            name=f"memory after {sizes.memory_seconds} s of load / after {sizes.memory_first_seconds} s",
            unit="MiB",
            values=late[-_READINGS:],
            references=early[-_READINGS:],
            at_least=1.05,
            aim=1.0,
        )
    ]


def log_size(bench: Bench) -> list[Figure]:
    """A ledger with a long log, made through BatchRecord, against one where all members have joined and none bought."""
    sizes, stack = bench.sizes, bench.stack
    missing = sizes.log_entries - sum(bench.heads().values())
    while missing > 0:
        bench.say(f"log_size: {missing:,} entries to go")
        missing -= bench.batches(bench.ledger, min(_BATCHES_TO_FILL, -(-missing // sizes.batch))).done
    stack.create_database(EMPTY)
    calls: tuple[list[float], list[float]] = ([], [])
    batches: tuple[list[float], list[float]] = ([], [])
    # Both are fresh processes.
    with stack.ledger(DATABASE) as long, stack.ledger(EMPTY) as empty:
        join(stack, empty, sizes)
        ledgers = (long, empty)
        for ledger in ledgers:
            bench.calls(ledger, sizes.warm_up_calls)
        for _ in range(sizes.rounds):
            for place, ledger in enumerate(ledgers):
                calls[place].append(bench.calls(ledger, sizes.calls).rate)
            for place, ledger in enumerate(ledgers):
                batches[place].append(bench.batches(ledger, sizes.batches).rate)
    return [
        Figure(
            name=f"{name}, a log of {sizes.log_entries:,} entries / empty",
            unit="purchases/s",
            values=rates[0],
            references=rates[1],
            at_least=0.8,
            aim=0.95,
        )
        for name, rates in (("RecordPurchase", calls), (f"BatchRecord of {sizes.batch:,}", batches))
    ]


# Each part, in the order of a run: a part's load makes the log longer for those after it.
PARTS: dict[str, Callable[[Bench], list[Figure]]] = {
    "unary": unary,
    "identity": identity,
    "batch": batch,
    "stream": stream,
    "feed": feed,
    "member": member,
}
# Those that FULL=1 adds.
FULL_PARTS: dict[str, Callable[[Bench], list[Figure]]] = {"memory": memory, "log_size": log_size}
