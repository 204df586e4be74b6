"""The load: one task in a process of its own, `python -m tests.benchmarks.client`, the task as JSON on standard input.

Every job is counted: it makes its requests before the clock starts, sends them, and ends. The same client, message for
message, measures the ledger and its references; it has one connection, no interceptor and no retries. An answer that
is an error or a replay ends the job with an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import uvloop
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.type.v1.log_pb2 import PartitionOffset

from services.runtime.channels import MAX_MESSAGE_BYTES
from services.runtime.database import connect
from services.runtime.identity import AUTHORIZATION
from tests.benchmarks.echo import SERVICE
from tests.benchmarks.purchases import joinings, past_days, purchases
from tests.benchmarks.results import percentile

_CONNECT_SECONDS = 60.0
CALL_SECONDS = 60.0
_STREAM_SECONDS = 600.0
# More calls under way than this, and the load is none that the server can bear.
_MOST_UNDER_WAY = 2_000

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),
)


class LoadError(Exception):
    """The job could not be done as it is meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a job did: purchases, entries or calls, in how many seconds; of calls one by one, how long they took."""

    done: int = 0
    seconds: float = 0.0
    median_ms: float = 0.0
    p99_ms: float = 0.0
    # The last offset of each partition, as the job Heads reads them.
    heads: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """How many a second."""
        return self.done / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a process of its own does: the module of its class, run as a program."""

    async def run(self) -> Measured:
        """Does it."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Task):
    """A task over one connection to a server; `seed` makes the requests' ids.

    `authorization` goes with every call. `tls`: the files of a certificate, its key and the authority; where they are
    there the server is one with certificates.
    """

    address: str
    authorization: str
    tls: Sequence[str] = ()
    seed: int = 0

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Who calls."""
        return ((AUTHORIZATION, self.authorization),)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[grpc.aio.Channel]:
        """A channel with its connection made."""
        async with self._channel() as channel:
            await asyncio.wait_for(channel.channel_ready(), _CONNECT_SECONDS)
            yield channel

    def _channel(self) -> grpc.aio.Channel:
        if not self.tls:
            return grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        certificate, key, authority = (Path(path).read_bytes() for path in self.tls)
        credentials = grpc.ssl_channel_credentials(authority, key, certificate)
        options = (*_OPTIONS, ("grpc.ssl_target_name_override", "ledger"))
        return grpc.aio.secure_channel(self.address, credentials, options=options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls(Job):
    """RecordPurchase, so many calls at a time; `member`, where it is named, buys all."""

    count: int
    in_flight: int
    members: int = 0
    member: str = ""
    echo: bool = False

    async def run(self) -> Measured:
        """Measures the time of the whole and of each call."""
        requests = _encoded(purchases(self.seed, self.count, members=self.members, member=self.member))
        answer = pb.RecordPurchaseRequest if self.echo else pb.RecordPurchaseResponse
        check = take if self.echo else check_answer
        async with self.connected() as channel:
            call = unary(channel, "RecordPurchase", answer)
            return await call_all(call, requests, self.in_flight, self.metadata, check)


@dataclass(frozen=True, slots=True, kw_only=True)
class Balances(Job):
    """GetBalance of one member, one call after the other."""

    count: int
    member: str

    async def run(self) -> Measured:
        """Measures the time of each call."""
        requests = [pb.GetBalanceRequest(member_id=self.member).SerializeToString()] * self.count
        async with self.connected() as channel:
            call = unary(channel, "GetBalance", pb.GetBalanceResponse)
            return await call_all(call, requests, 1, self.metadata, take)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paced(Job):
    """RecordPurchase at a fixed rate, whether answers come or not.

    The time of a call begins when it was due: what is sent late, or waits in the client, counts.
    """

    rate: float
    seconds: float
    members: int

    async def run(self) -> Measured:
        """Measures the time of each call."""
        requests = _encoded(purchases(self.seed, int(self.rate * self.seconds), members=self.members))
        async with self.connected() as channel:
            call = unary(channel, "RecordPurchase", pb.RecordPurchaseResponse)

            async def send(request: bytes, due: float) -> float:
                check_answer(await call(request, timeout=CALL_SECONDS, metadata=self.metadata))
                return time.perf_counter() - due

            return await paced(requests, self.rate, send)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches(Job):
    """BatchRecord of purchases, so many batches at a time."""

    size: int
    batches: int
    in_flight: int
    members: int

    async def run(self) -> Measured:
        """Measures the time of the whole."""
        writes = (
            pb.Write(record_purchase=p) for p in purchases(self.seed, self.size * self.batches, members=self.members)
        )
        return await _record(self, writes, self.size, self.in_flight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining(Job):
    """Members with the numbers from 0 on join."""

    members: int
    size: int

    async def run(self) -> Measured:
        """Measures the time of the whole."""
        writes = (pb.Write(enroll_member=joining) for joining in joinings(0, self.members))
        return await _record(self, writes, self.size, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class History(Job):
    """One member joins `days` ago and buys `count` times since, evenly, up to now."""

    member: str
    count: int
    days: int
    size: int

    async def run(self) -> Measured:
        """Measures the time of the whole."""
        joined, *times = past_days(self.count + 1, self.days)
        joining = pb.EnrollMemberRequest(request_id=f"join-{self.member}", member_id=self.member)
        joining.occurred_time.FromDatetime(joined)
        bought = purchases(self.seed, self.count, member=self.member, times=times)
        writes = [pb.Write(enroll_member=joining), *(pb.Write(record_purchase=purchase) for purchase in bought)]
        return await _record(self, writes, self.size, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream(Job):
    """RecordStream over one connection, `size` purchases a message; sends on while few enough wait for an answer."""

    size: int
    messages: int
    unanswered: int
    members: int
    echo: bool = False

    async def run(self) -> Measured:
        """Measures the time of the whole."""
        bought = purchases(self.seed, self.size * self.messages, members=self.members)
        requests = [
            pb.RecordStreamRequest(writes=writes).SerializeToString()
            for writes in _cut((pb.Write(record_purchase=purchase) for purchase in bought), self.size)
        ]
        answer = pb.RecordStreamRequest if self.echo else pb.RecordStreamResponse
        check = take if self.echo else _check_outcomes
        room = asyncio.Semaphore(max(self.unanswered // self.size, 1))
        async with self.connected() as channel:
            method: Any = channel.stream_stream(f"/{SERVICE}/RecordStream", None, answer.FromString)
            call = method(timeout=_STREAM_SECONDS, metadata=self.metadata)

            async def send() -> None:
                for request in requests:
                    await room.acquire()
                    await call.write(request)
                await call.done_writing()

            began = time.perf_counter()
            sending = asyncio.create_task(send())
            answered = 0
            while (response := await call.read()) is not grpc.aio.EOF:
                check(response)
                room.release()
                answered += 1
            took = time.perf_counter() - began
            await sending
        if answered != len(requests):
            raise LoadError(f"{answered} of {len(requests)} messages were answered")
        return Measured(done=self.size * answered, seconds=took)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed(Job):
    """StreamEntries from offsets on to the end of the log, each message read."""

    after: dict[str, int]

    async def run(self) -> Measured:
        """Measures the time of the whole."""
        request = pb.StreamEntriesRequest(after=_cursors(self.after)).SerializeToString()
        entries = 0
        async with self.connected() as channel:
            method: Any = channel.unary_stream(f"/{SERVICE}/StreamEntries", None, pb.StreamEntriesResponse.FromString)
            call = method(request, timeout=_STREAM_SECONDS, metadata=self.metadata)
            began = time.perf_counter()
            while (response := await call.read()) is not grpc.aio.EOF:
                entries += len(response.entries)
            return Measured(done=entries, seconds=time.perf_counter() - began)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads(Job):
    """Where the log ends."""

    async def run(self) -> Measured:
        """Reads the last offset of each partition."""
        async with self.connected() as channel:
            call = unary(channel, "ListPartitions", pb.ListPartitionsResponse)
            response = await call(b"", timeout=CALL_SECONDS, metadata=self.metadata)
        return Measured(heads={str(one.partition): one.last_offset for one in response.partitions})


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Task):
    """The same entries by COPY, over one connection, into the same table of another database.

    What stands in the log up to the offsets `before` is brought over first, untimed, so that both tables are alike;
    then what follows, in the order in which it was written, `size` rows in each COPY, a transaction each.
    """

    source: str
    target: str
    before: dict[str, int]
    size: int

    async def run(self) -> Measured:
        """Measures the time of the COPYs of what follows `before`."""
        source, target = [await connect(dsn, service="bench") for dsn in (self.source, self.target)]
        try:
            held = dict(
                await target.fetch("SELECT partition, max(entry_offset) FROM ledger.entries GROUP BY partition")
            )
            limits = {int(partition): offset for partition, offset in self.before.items()}
            earlier = [
                row
                for partition, offset in limits.items()
                for row in await source.fetch(_ROWS_OF, partition, held.get(partition, 0), offset)
            ]
            await _copy(target, earlier, self.size)
            later = [
                row
                for partition, offset in limits.items()
                for row in await source.fetch(_ROWS_OF, partition, offset, 2**62)
            ]
            later.sort(key=lambda row: (row["recorded_time"], row["partition"], row["entry_offset"]))
            rows = [tuple(row) for row in later]
            began = time.perf_counter()
            await _copy(target, rows, self.size)
            return Measured(done=len(rows), seconds=time.perf_counter() - began)
        finally:
            await source.close()
            await target.close()


_ROWS_OF = (
    "SELECT * FROM ledger.entries WHERE partition = $1 AND entry_offset > $2 AND entry_offset <= $3 "
    "ORDER BY entry_offset"
)


async def _copy(connection: Any, rows: Sequence[Any], size: int) -> None:
    for some in _cut(rows, size):
        await connection.copy_records_to_table("entries", schema_name="ledger", records=some)


def unary(channel: grpc.aio.Channel, method: str, answer: type[Any], service: str = SERVICE) -> Any:
    """A method of the ledger, or of another service, whose requests are encoded already."""
    return channel.unary_unary(f"/{service}/{method}", None, answer.FromString)


async def paced(requests: Iterable[bytes], rate: float, send: Callable[[bytes, float], Awaitable[float]]) -> Measured:
    """Sends each request when it is due, so many a second; `send` gets that instant, and says how long it took."""
    took: list[float] = []

    async def sending(request: bytes, due: float) -> None:
        took.append(await send(request, due))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number, request in enumerate(requests):
            due = began + number / rate
            if due > time.perf_counter():
                # No shorter than the event loop's timer, so that waiting takes no time of the server's.
                await asyncio.sleep(max(due - time.perf_counter(), 0.001))
            if number - len(took) > _MOST_UNDER_WAY:
                raise LoadError(f"{rate:,.0f} calls a second are more than the server bears")
            tasks.create_task(sending(request, due))
    return measured(took, time.perf_counter() - began)


async def call_all(
    call: Any,
    requests: Iterable[bytes],
    in_flight: int,
    metadata: tuple[tuple[str, str], ...],
    check: Callable[[Any], None],
) -> Measured:
    """Makes all calls, so many at a time; `check` looks at each answer."""
    waiting = iter(requests)
    took: list[float] = []

    async def caller() -> None:
        for request in waiting:
            sent = time.perf_counter()
            answer = await call(request, timeout=CALL_SECONDS, metadata=metadata)
            took.append(time.perf_counter() - sent)
            check(answer)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(in_flight):
            tasks.create_task(caller())
    return measured(took, time.perf_counter() - began)


async def _record(job: Job, writes: Iterable[pb.Write], size: int, in_flight: int) -> Measured:
    """Sends all writes by BatchRecord."""
    batches = [pb.BatchRecordRequest(writes=some) for some in _cut(writes, size)]
    count = sum(len(batch.writes) for batch in batches)
    requests = _encoded(batches)
    async with job.connected() as channel:
        call = unary(channel, "BatchRecord", pb.BatchRecordResponse)
        answered = await call_all(call, requests, in_flight, job.metadata, _check_outcomes)
    return dataclasses.replace(answered, done=count)


def measured(took: Sequence[float], seconds: float) -> Measured:
    """Calls that took so many seconds each, in so many all together."""
    return Measured(
        done=len(took),
        seconds=seconds,
        median_ms=statistics.median(took) * 1000,
        p99_ms=percentile(took, 0.99) * 1000,
    )


def _encoded(messages: Iterable[Any]) -> list[bytes]:
    return [message.SerializeToString() for message in messages]


def _cut(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def _cursors(offsets: dict[str, int]) -> list[Any]:
    return [PartitionOffset(partition=int(partition), offset=offset) for partition, offset in offsets.items()]


def take(answer: Any) -> None:
    """Takes the answer as it is."""


def check_answer(answer: pb.RecordPurchaseResponse) -> None:
    """Raises LoadError where it is none of a new purchase."""
    if answer.replayed or not answer.receipt.offset:
        raise LoadError(f"a purchase was not recorded as new: {answer}")


def _check_outcomes(answer: Any) -> None:
    for outcome in answer.outcomes:
        kind = outcome.WhichOneof("outcome")
        if kind == "error" or getattr(outcome, kind).replayed:
            raise LoadError(f"a write was not recorded as new: {outcome}")


def to_json(task: Task) -> str:
    """A task as it is handed to the process."""
    return json.dumps({"kind": type(task).__name__, **dataclasses.asdict(task)})


def main(*kinds: type[Task]) -> None:
    """Does the task, one of these kinds, and prints what was measured as JSON."""
    said = json.load(sys.stdin)
    task = {kind.__name__: kind for kind in kinds}[said.pop("kind")](**said)
    print(json.dumps(dataclasses.asdict(uvloop.run(task.run()))))


if __name__ == "__main__":
    main(Calls, Balances, Paced, Batches, Joining, History, Stream, Feed, Heads, Copy)
