"""Lists of writes, one by one or as a stream: an outcome for each."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from loyalty.ledger.v1 import ledger_service_pb2 as pb

from services.ledger.domain.commands import MemberCommand
from services.ledger.errors import BatchAbortedError
from services.ledger.rpc.requests import WRITES
from services.ledger.rpc.responses import Messages
from services.ledger.rpc.statuses import describe
from services.ledger.service import Answer, Ledger, Outcome
from services.runtime import contract
from services.runtime.causality import format_token
from services.runtime.identity import Caller, PermissionDeniedError, Refused, check_store
from services.runtime.interceptors import RequestValidator
from services.runtime.status import ErrorStatus, InvalidFieldError, invalid
from services.runtime.status import describe as describe_common

_PERMISSIONS: Final = contract.permissions(contract.SERVICES["ledger"])
# The method of each kind of write, whose permission it needs wherever it comes.
_METHODS: Final = {kind: f"/{contract.SERVICES['ledger'][0]}/{kind.title().replace('_', '')}" for kind in WRITES}
# What a stream has read and not yet answered.
_REQUESTS_IN_FLIGHT: Final = 1000
_WRITES_IN_FLIGHT: Final = 4000
# Writes of a request, by the contract; a stream hands the ledger as many at once.
_WRITES_AT_ONCE: Final = 1000
# Writes read or answered before other tasks of the process get their turn.
_BETWEEN_TURNS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _List:
    """A list of writes on its way to its response. What breaks a field rule has its outcome already."""

    response: Any
    writes: int
    commands: Sequence[MemberCommand]
    # For each command the kind of its write, and its outcome, still empty.
    open: Sequence[tuple[str, pb.Outcome]]


class Recorder:
    """Carries out lists of writes. Where the database cannot be reached a call fails as a whole: all of it may be sent
    again, and what was done before is then a replay."""

    def __init__(self, ledger: Ledger, messages: Messages, refused: Refused) -> None:
        self._ledger = ledger
        self._messages = messages
        self._refused = refused
        self._validator = RequestValidator()

    async def batch(self, request: pb.BatchRecordRequest, caller: Caller) -> pb.BatchRecordResponse:
        """An outcome for each write."""
        writes = await self._taken_in(request.writes, pb.BatchRecordResponse(), caller)
        if request.all_or_none and len(writes.commands) < writes.writes:
            outcomes: list[Outcome] = [BatchAbortedError() for _ in writes.commands]
        else:
            outcomes = await self._ledger.record_all(writes.commands, all_or_none=request.all_or_none)
            _check(outcomes)
        await self._answer(writes, outcomes)
        response: pb.BatchRecordResponse = writes.response
        return response

    async def stream(
        self, requests: AsyncIterator[pb.RecordStreamRequest], caller: Caller
    ) -> AsyncIterator[pb.RecordStreamResponse]:
        """A response for each request, in order.

        What comes while writes are carried out is read ahead and handed over together, after them: so writes of a
        member keep their order, also where some of them fail for want of a database.
        """
        ahead = _Ahead(
            await self._taken_in(request.writes, pb.RecordStreamResponse(), caller) async for request in requests
        )
        reading = asyncio.create_task(ahead.read())
        lists: list[_List] = []
        recording: asyncio.Task[list[Outcome]] | None = None
        try:
            while True:
                done, outcomes = lists, await recording if recording else []
                _check(outcomes)
                # The next are carried out while these are answered.
                lists = ahead.take() if done else await ahead.wait()
                commands = [command for writes in lists for command in writes.commands]
                recording = asyncio.create_task(self._ledger.record_all(commands)) if lists else None
                place = 0
                for writes in done:
                    await self._answer(writes, outcomes[place : (place := place + len(writes.commands))])
                    yield writes.response
                    ahead.answered(writes)
                if not done and not lists:
                    break
            await reading
        finally:
            # What was handed over is finished, whoever waits for it.
            left = [task for task in (reading, recording) if task is not None]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _taken_in(self, writes: Sequence[pb.Write], response: Any, caller: Caller) -> _List:
        commands: list[MemberCommand] = []
        open_: list[tuple[str, pb.Outcome]] = []
        for number, write in enumerate(writes, start=1):
            if number % _BETWEEN_TURNS == 0:
                await asyncio.sleep(0)
            outcome = response.outcomes.add()
            kind = write.WhichOneof("write")
            problem = self._problem(write, kind, caller)
            if problem is not None:
                outcome.error.CopyFrom(problem.to_proto())
                continue
            assert kind is not None, "a write without one breaks a field rule"
            try:
                commands.append(WRITES[kind](getattr(write, kind), caller))
            except InvalidFieldError as error:
                outcome.error.CopyFrom(invalid(((error.path, error.problem),)).to_proto())
                continue
            open_.append((kind, outcome))
        return _List(response=response, writes=len(writes), commands=commands, open=open_)

    def _problem(self, write: pb.Write, kind: str | None, caller: Caller) -> ErrorStatus | None:
        """Why a write of a list is not taken in; each is as if it had come alone."""
        if kind is None:
            return self._validator.check(write)
        request = getattr(write, kind)
        try:
            _PERMISSIONS.check(caller, _METHODS[kind])
            check_store(caller, request)
        except PermissionDeniedError as error:
            self._refused(error, _METHODS[kind])
            return describe_common(error)
        return self._validator.check(request)

    async def _answer(self, writes: _List, outcomes: Iterable[Outcome]) -> None:
        offsets: dict[int, int] = {}
        for number, ((kind, message), outcome) in enumerate(zip(writes.open, outcomes, strict=True), start=1):
            if number % _BETWEEN_TURNS == 0:
                await asyncio.sleep(0)
            if isinstance(outcome, Answer):
                self._messages.answer(kind, getattr(message, kind), outcome)
                if outcome.entry is not None:
                    partition = outcome.entry.partition
                    offsets[partition] = max(outcome.last_offset, offsets.get(partition, 0))
                continue
            status = describe(outcome)
            assert status is not None, "checked before"
            message.error.CopyFrom(status.to_proto())
        writes.response.causal_token = format_token(offsets)


def _check(outcomes: Iterable[Outcome]) -> None:
    """Raises what is no answer to one write but a trouble of the ledger."""
    for outcome in outcomes:
        if isinstance(outcome, Exception) and describe(outcome) is None:
            raise outcome


class _Ahead:
    """Lists of writes read ahead of their answers. Where enough are in flight nothing more is read, and gRPC's flow
    control holds the sender."""

    def __init__(self, lists: AsyncIterator[_List]) -> None:
        self._lists = lists
        self._waiting: deque[_List] = deque()
        self._in_flight = 0
        self._writes_in_flight = 0
        self._ended = False
        self._more = asyncio.Event()
        self._room = asyncio.Event()

    async def read(self) -> None:
        """Reads to the end; raises what is wrong with a request, once all before it are answered."""
        try:
            async for writes in self._lists:
                self._waiting.append(writes)
                self._in_flight += 1
                self._writes_in_flight += writes.writes
                self._more.set()
                while (
                    self._in_flight >= _REQUESTS_IN_FLIGHT
                    or self._writes_in_flight + _WRITES_AT_ONCE > _WRITES_IN_FLIGHT
                ):
                    self._room.clear()
                    await self._room.wait()
        finally:
            self._ended = True
            self._more.set()

    def take(self) -> list[_List]:
        """What is to be carried out next, as much as goes at once; nothing where nothing has come."""
        taken: list[_List] = []
        size = 0
        while self._waiting and (not taken or size + self._waiting[0].writes <= _WRITES_AT_ONCE):
            taken.append(self._waiting.popleft())
            size += taken[-1].writes
        return taken

    async def wait(self) -> list[_List]:
        """What is to be carried out next; nothing at the end."""
        while not self._waiting and not self._ended:
            self._more.clear()
            await self._more.wait()
        return self.take()

    def answered(self, writes: _List) -> None:
        """Makes room for more."""
        self._in_flight -= 1
        self._writes_in_flight -= writes.writes
        self._room.set()
