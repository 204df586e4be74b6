"""The ledger's RPCs: messages to commands, entries to messages, errors to statuses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.ledger.v1 import entry_pb2, ledger_service_pb2, ledger_service_pb2_grpc, member_pb2

from services.ledger import errors
from services.ledger.domain import commands
from services.ledger.domain.decide import explain
from services.ledger.domain.encoding import from_microseconds, to_microseconds
from services.ledger.domain.events import Account, Entry, EntryKind, Event
from services.ledger.domain.state import Member
from services.ledger.service import Answer, Ledger
from services.runtime.causality import format_token
from services.runtime.clock import ClockMode, MachineClock
from services.runtime.identity import Caller, current_caller
from services.runtime.interceptors import RequestValidator
from services.runtime.status import ErrorStatus, InvalidFieldError, invalid

_Code = grpc.StatusCode
_DEFAULT_PAGE = 50
_FEED_BYTES = 1024 * 1024
_KEPT_PARTS = 4096

_LINE_KINDS = {
    ledger_service_pb2.LINE_KIND_UNSPECIFIED: commands.LineKind.GOODS,
    ledger_service_pb2.LINE_KIND_GOODS: commands.LineKind.GOODS,
    ledger_service_pb2.LINE_KIND_SHIPPING: commands.LineKind.SHIPPING,
    ledger_service_pb2.LINE_KIND_GIFT_CARD: commands.LineKind.GIFT_CARD,
}
_ENTRY_KINDS = {kind: entry_pb2.EntryKind.Value(f"ENTRY_KIND_{kind.value}") for kind in EntryKind}
_ACCOUNTS = {account: entry_pb2.Account.Value(f"ACCOUNT_{account.name}") for account in Account}
_CLOCK_MODES = {
    ClockMode.REAL: ledger_service_pb2.CLOCK_MODE_REAL,
    ClockMode.SIMULATED: ledger_service_pb2.CLOCK_MODE_SIMULATED,
}

# Reasons of refusals that are not FAILED_PRECONDITION.
_REFUSAL_CODES = {
    errors.Refusal.MEMBER_EXISTS: _Code.ALREADY_EXISTS,
    errors.Refusal.PURCHASE_EXISTS: _Code.ALREADY_EXISTS,
}
_REJECTIONS: dict[type[errors.LedgerError], tuple[grpc.StatusCode, str, str]] = {
    # error: (code, reason, field)
    errors.MemberUnknownError: (_Code.NOT_FOUND, "MEMBER_UNKNOWN", ""),
    errors.CurrencyMismatchError: (_Code.INVALID_ARGUMENT, "CURRENCY_MISMATCH", "amount.currency_code"),
    errors.AmountNotPositiveError: (_Code.INVALID_ARGUMENT, "INVALID_FIELD", "amount.minor_units"),
    errors.LinesDoNotAddUpError: (_Code.INVALID_ARGUMENT, "LINES_DO_NOT_ADD_UP", "lines"),
    errors.OccurredInFutureError: (_Code.INVALID_ARGUMENT, "OCCURRED_IN_FUTURE", "occurred_time"),
    errors.ClockNotSimulatedError: (_Code.FAILED_PRECONDITION, "CLOCK_NOT_SIMULATED", ""),
    errors.PageTokenError: (_Code.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID", "page_token"),
    errors.CursorAheadError: (_Code.OUT_OF_RANGE, "CURSOR_AHEAD_OF_LOG", ""),
    errors.PoisonedError: (_Code.INTERNAL, "INTERNAL", ""),
}


def describe(error: BaseException) -> ErrorStatus | None:
    """The status of an error of the ledger."""
    if isinstance(error, errors.RefusedError):
        return ErrorStatus(
            code=_REFUSAL_CODES.get(error.refusal, _Code.FAILED_PRECONDITION),
            reason=error.refusal.value,
            message=str(error),
        )
    if isinstance(error, errors.RequestIdReusedError):
        field = _first_difference(error.kept, error.sent)
        return ErrorStatus(
            code=_Code.ALREADY_EXISTS,
            reason="REQUEST_ID_REUSED",
            message=f"{error} (first difference: {field})",
            metadata={"field": field},
        )
    found = _REJECTIONS.get(type(error))  # type: ignore[arg-type]  # other errors are simply not found
    if found is None:
        return None
    code, reason, field = found
    return ErrorStatus(code=code, reason=reason, message=str(error), fields=((field, str(error)),) if field else ())


def _first_difference(kept: bytes, sent: bytes) -> str:
    """The first field in which two canonical requests differ, by the order of the contract."""
    kept_name, _, kept_content = kept.partition(b"\0")
    sent_name, _, sent_content = sent.partition(b"\0")
    if kept_name != sent_name:
        return "the method"
    request_class = _REQUESTS[sent_name]
    before, now = request_class.FromString(kept_content), request_class.FromString(sent_content)
    for field in request_class.DESCRIPTOR.fields:
        if getattr(before, field.name) != getattr(now, field.name):
            return str(field.name)
    return "an unknown field"


_REQUESTS: dict[bytes, Any] = {
    b"EnrollMember": ledger_service_pb2.EnrollMemberRequest,
    b"RecordPurchase": ledger_service_pb2.RecordPurchaseRequest,
    b"RecordReturn": ledger_service_pb2.RecordReturnRequest,
    b"AwardPoints": ledger_service_pb2.AwardPointsRequest,
    b"SetEarningClass": ledger_service_pb2.SetEarningClassRequest,
    b"AdvanceClock": ledger_service_pb2.AdvanceClockRequest,
}


def _canonical(name: bytes, request: Message) -> bytes:
    """A request as it was sent, comparable to the letter; the method's name keeps kinds apart."""
    return name + b"\0" + request.SerializeToString(deterministic=True)


def _time(request: Any, field: str) -> Any:
    """An optional time of a request, to the microsecond."""
    if not request.HasField(field):
        return None
    stamp = getattr(request, field)
    if not 0 <= stamp.nanos < 1_000_000_000:
        raise InvalidFieldError(field, "its nanos must be from 0 to 999999999")
    return from_microseconds(stamp.seconds * 1_000_000 + stamp.nanos // 1000)


def _set_time(stamp: Timestamp, time: Any) -> None:
    stamp.seconds, micros = divmod(to_microseconds(time), 1_000_000)
    stamp.nanos = micros * 1000


def _common(name: bytes, request: Any, caller: Caller) -> dict[str, Any]:
    return {
        "member_id": request.member_id,
        "request_id": request.request_id,
        "principal": caller.principal,
        "on_behalf_of": caller.on_behalf_of,
        "request": _canonical(name, request),
    }


def enroll_member(request: ledger_service_pb2.EnrollMemberRequest, caller: Caller) -> commands.EnrollMember:
    """The command of an EnrollMember request."""
    common = _common(b"EnrollMember", request, caller)
    common["member_id"] = request.member_id or commands.derived_member_id(caller.principal, request.request_id)
    return commands.EnrollMember(**common, occurred_time=_time(request, "occurred_time"), channel=request.channel)


def _movement(name: bytes, request: Any, caller: Caller) -> dict[str, Any]:
    return _common(name, request, caller) | {
        "occurred_time": _time(request, "occurred_time"),
        "currency": request.amount.currency_code,
        "amount": request.amount.minor_units,
        "lines": tuple(
            [
                commands.Line(
                    line.sku,
                    line.name,
                    line.department,
                    line.category,
                    line.quantity or 1,
                    line.amount_minor_units,
                    _LINE_KINDS[line.kind],
                )
                for line in request.lines
            ]
        ),
        "store_id": request.store_id,
        "receipt_number": request.receipt_number,
        "channel": request.channel,
    }


def record_purchase(request: ledger_service_pb2.RecordPurchaseRequest, caller: Caller) -> commands.RecordPurchase:
    """The command of a RecordPurchase request."""
    return commands.RecordPurchase(
        **_movement(b"RecordPurchase", request, caller), purchase_id=request.purchase_id or request.request_id
    )


def record_return(request: ledger_service_pb2.RecordReturnRequest, caller: Caller) -> commands.RecordReturn:
    """The command of a RecordReturn request."""
    return commands.RecordReturn(
        **_movement(b"RecordReturn", request, caller), purchase_id=request.purchase_id, reason=request.reason
    )


def award_points(request: ledger_service_pb2.AwardPointsRequest, caller: Caller) -> commands.AwardPoints:
    """The command of an AwardPoints request."""
    return commands.AwardPoints(
        **_common(b"AwardPoints", request, caller),
        occurred_time=_time(request, "occurred_time"),
        points=request.points,
        reason=request.reason,
        note=request.note,
    )


def set_earning_class(request: ledger_service_pb2.SetEarningClassRequest, caller: Caller) -> commands.SetEarningClass:
    """The command of a SetEarningClass request."""
    return commands.SetEarningClass(
        **_common(b"SetEarningClass", request, caller),
        occurred_time=None,
        earning_class=request.earning_class,
        effective_time=_time(request, "effective_time"),
        sequence=request.sequence,
    )


# Each write: how its request becomes a command.
_WRITES: dict[str, Callable[[Any, Caller], commands.MemberCommand]] = {
    "enroll_member": enroll_member,
    "record_purchase": record_purchase,
    "record_return": record_return,
    "award_points": award_points,
    "set_earning_class": set_earning_class,
}


class LedgerServicer(ledger_service_pb2_grpc.LedgerServiceServicer):
    """Answers loyalty.ledger.v1.LedgerService."""

    def __init__(self, ledger: Ledger, *, source: str, clock: MachineClock) -> None:
        self._ledger = ledger
        self._source = source
        self._clock = clock
        self._validator = RequestValidator()
        self._feed_parts: dict[bytes, bytes] = {}

    async def EnrollMember(self, request: Any, context: Any) -> Any:
        """Makes someone a member."""
        return await self._record("enroll_member", request)

    async def RecordPurchase(self, request: Any, context: Any) -> Any:
        """Records a purchase."""
        return await self._record("record_purchase", request)

    async def RecordReturn(self, request: Any, context: Any) -> Any:
        """Records a return."""
        return await self._record("record_return", request)

    async def AwardPoints(self, request: Any, context: Any) -> Any:
        """Gives points."""
        return await self._record("award_points", request)

    async def SetEarningClass(self, request: Any, context: Any) -> Any:
        """Sets the class a member earns in."""
        return await self._record("set_earning_class", request)

    async def _record(self, kind: str, request: Any) -> Any:
        answer = await self._ledger.record(_WRITES[kind](request, current_caller.get()))
        return self._response(kind, answer)

    async def BatchRecord(self, request: Any, context: Any) -> Any:
        """Carries out a list of writes. Where the database cannot be reached the whole call says so: all of it may
        be sent again, and what was done before is then a replay."""
        caller = current_caller.get()
        response = ledger_service_pb2.BatchRecordResponse()
        accepted: list[tuple[str, Any]] = []
        wanted: list[commands.MemberCommand] = []
        for write in request.writes:
            answer = response.outcomes.add()
            kind = write.WhichOneof("write")
            problem = self._validator.check(getattr(write, kind) if kind else write)
            if problem is not None:
                answer.error.CopyFrom(problem.to_proto())
                continue
            try:
                wanted.append(_WRITES[kind](getattr(write, kind), caller))
            except InvalidFieldError as error:
                answer.error.CopyFrom(invalid(((error.path, error.problem),)).to_proto())
                continue
            accepted.append((kind, answer))
        offsets: dict[int, int] = {}
        for (kind, answer), outcome in zip(accepted, await self._ledger.record_all(wanted), strict=True):
            if isinstance(outcome, Answer):
                self._fill(kind, getattr(answer, kind), outcome)
                if outcome.entry is not None:
                    partition = outcome.entry.partition
                    offsets[partition] = max(outcome.last_offset, offsets.get(partition, 0))
                continue
            status = describe(outcome)
            if status is None:
                raise outcome
            answer.error.CopyFrom(status.to_proto())
        response.causal_token = format_token(offsets)
        return response

    async def GetMember(self, request: Any, context: Any) -> Any:
        """Reads one member."""
        member = await self._ledger.member(request.member_id)
        response = ledger_service_pb2.GetMemberResponse()
        self._fill_member(response.member, member)
        response.member.earning_class = member.earning_class(await self._business_time(request.member_id))
        return response

    async def GetBalance(self, request: Any, context: Any) -> Any:
        """Reads a member's points."""
        member = await self._ledger.member(request.member_id)
        response = ledger_service_pb2.GetBalanceResponse()
        _fill_balance(response.balance, member)
        return response

    async def ListEntries(self, request: Any, context: Any) -> Any:
        """Lists a member's entries, newest first."""
        entries, token = await self._ledger.entries(
            request.member_id, request.page_token, request.page_size or _DEFAULT_PAGE
        )
        response = ledger_service_pb2.ListEntriesResponse(next_page_token=token)
        for entry in entries:
            self._fill_entry(response.entries.add(), entry)
        return response

    async def GetProgramme(self, request: Any, context: Any) -> Any:
        """Reads the programme in force."""
        programme = self._ledger.programme
        return ledger_service_pb2.GetProgrammeResponse(
            programme=ledger_service_pb2.Programme(
                name=programme.name,
                version=programme.version,
                currency_code=programme.currency,
                time_zone=programme.time_zone,
                source=self._source,
            )
        )

    async def ListPartitions(self, request: Any, context: Any) -> Any:
        """Lists the partitions and the clock."""
        mode = self._ledger.installation.clock_mode
        response = ledger_service_pb2.ListPartitionsResponse(clock_mode=_CLOCK_MODES[mode])
        heads = await self._ledger.heads()
        now = min(head.business_time for head in heads) if mode is ClockMode.SIMULATED else self._clock()
        _set_time(response.business_time, now)
        for head in heads:
            partition = response.partitions.add(
                partition=head.partition, last_offset=head.last_offset, head_hash=head.head_hash, members=head.members
            )
            _set_time(partition.business_time, head.business_time if mode is ClockMode.SIMULATED else now)
        return response

    async def StreamEntries(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        """Streams entries from cursors on; the responses are encoded already."""
        after = {cursor.partition: cursor.offset for cursor in request.after}
        async for entries in self._ledger.feed(after, follow=request.follow):
            parts: list[bytes] = []
            size = 0
            for entry in entries:
                part = self._feed_part(entry)
                parts.append(part)
                size += len(part)
                if size > _FEED_BYTES:
                    yield b"".join(parts)
                    parts, size = [], 0
            if parts:
                yield b"".join(parts)

    async def AdvanceClock(self, request: Any, context: Any) -> Any:
        """Moves the business time of a simulated installation on."""
        caller = current_caller.get()
        to_time = _time(request, "to_time")
        canonical = _canonical(b"AdvanceClock", request)

        def command(partition: int) -> commands.AdvanceClock:
            return commands.AdvanceClock(
                partition=partition,
                to_time=to_time,
                request_id=request.request_id,
                principal=caller.principal,
                on_behalf_of=caller.on_behalf_of,
                request=canonical,
            )

        advanced = await self._ledger.advance_clock(command)
        response = ledger_service_pb2.AdvanceClockResponse(
            causal_token=format_token(advanced.offsets), replayed=advanced.replayed
        )
        _set_time(response.business_time, advanced.business_time)
        return response

    async def _business_time(self, member_id: str) -> Any:
        if self._ledger.installation.clock_mode is ClockMode.REAL:
            return self._clock()
        heads = await self._ledger.heads()
        return heads[self._ledger.partition_of(member_id)].business_time

    def _response(self, kind: str, answer: Answer) -> Any:
        response = _RESPONSES[kind]()
        self._fill(kind, response, answer)
        return response

    def _fill(self, kind: str, response: Any, answer: Answer) -> None:
        """Writes the answer into the response of its method, in place."""
        entry = answer.entry
        response.replayed = answer.replayed
        if entry is None:
            return
        response.causal_token = f"{entry.partition}-{answer.last_offset}"
        if kind == "set_earning_class":
            response.applied = True
            return
        self._fill_receipt(response.receipt, entry)
        if kind == "enroll_member":
            event = entry.event
            joined = Member(
                member_id=event.member_id,
                joined_time=event.occurred_time,
                channel=event.channel,
                available=event.available_after,
                earned=event.points,
            )
            self._fill_member(response.member, joined)
        elif kind == "record_return":
            response.state = (
                ledger_service_pb2.RETURN_STATE_WAITING
                if entry.event.kind is EntryKind.RETURN_WAITING
                else ledger_service_pb2.RETURN_STATE_RECORDED
            )

    def _fill_receipt(self, receipt: Any, entry: Entry) -> None:
        event = entry.event
        receipt.member_id = event.member_id
        receipt.purchase_id = event.purchase_id
        receipt.partition = entry.partition
        receipt.offset = entry.offset
        _set_time(receipt.occurred_time, event.occurred_time)
        receipt.points = event.points
        self._fill_rules(receipt.rules, event)
        receipt.debt_points_change = event.posted(Account.DEBT)
        receipt.available_points = event.available_after
        receipt.debt_points = event.debt_after

    def _fill_rules(self, rules: Any, event: Event) -> None:
        for rule in event.rules:
            rules.add(rule=rule.rule, points=rule.points, reason=explain(rule, self._ledger.programme))

    def _fill_member(self, message: member_pb2.Member, member: Member) -> None:
        message.member_id = member.member_id
        message.status = member_pb2.MEMBER_STATUS_ACTIVE
        _set_time(message.joined_time, member.joined_time)
        message.channel = member.channel
        _fill_balance(message.balance, member)

    def _feed_part(self, entry: Entry) -> bytes:
        """A StreamEntriesResponse with this entry alone, encoded; one after the other they are one with all of them.

        Several follow the feed at the same place, so what was made for one serves the next.
        """
        part = self._feed_parts.get(entry.hash)
        if part is None:
            response = ledger_service_pb2.StreamEntriesResponse()
            self._fill_entry(response.entries.add(), entry)
            part = response.SerializeToString()
            if len(self._feed_parts) >= _KEPT_PARTS:
                self._feed_parts.clear()
            self._feed_parts[entry.hash] = part
        return part

    def _fill_entry(self, message: Any, entry: Entry) -> None:
        event = entry.event
        message.partition = entry.partition
        message.offset = entry.offset
        message.kind = _ENTRY_KINDS[event.kind]
        message.member_id = event.member_id
        message.request_id = event.request_id
        message.principal = entry.principal
        message.on_behalf_of = entry.on_behalf_of
        _set_time(message.occurred_time, event.occurred_time)
        _set_time(message.recorded_time, entry.recorded_time)
        message.programme_version = entry.programme_version
        message.purchase_id = event.purchase_id
        if event.amount:
            message.amount.currency_code = event.currency
            message.amount.minor_units = event.amount
        if event.goods_paid is not None:
            message.goods_paid.currency_code = event.currency
            message.goods_paid.minor_units = event.goods_paid
        for posting in event.postings:
            message.postings.add(account=_ACCOUNTS[posting.account], points=posting.points)
        self._fill_rules(message.rules, event)
        message.available_points_after = event.available_after
        message.debt_points_after = event.debt_after
        message.earning_class = event.earning_class
        if event.effective_time is not None:
            _set_time(message.effective_time, event.effective_time)
        message.reason = event.reason
        message.detail_commitment = entry.detail_commitment
        message.hash = entry.hash
        message.channel = event.channel


def _fill_balance(message: member_pb2.Balance, member: Member) -> None:
    message.available_points = member.available
    message.debt_points = member.debt
    message.earned_points = member.earned


_RESPONSES: dict[str, Any] = {
    "enroll_member": ledger_service_pb2.EnrollMemberResponse,
    "record_purchase": ledger_service_pb2.RecordPurchaseResponse,
    "record_return": ledger_service_pb2.RecordReturnResponse,
    "award_points": ledger_service_pb2.AwardPointsResponse,
    "set_earning_class": ledger_service_pb2.SetEarningClassResponse,
}
