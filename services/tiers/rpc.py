"""TierService over gRPC: messages to use cases and back, errors to statuses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2
from loyalty.tiers.v1 import tier_service_pb2 as pb
from loyalty.tiers.v1 import tier_service_pb2_grpc
from loyalty.type.v1 import money_pb2

from services.programme import FOREVER, Level, Market, Metric, Programme, Versions
from services.runtime.causality import parse_token
from services.runtime.identity import current_caller
from services.runtime.interceptors import Context, seconds_to_wait
from services.runtime.messages import first_difference
from services.runtime.status import ErrorStatus, InvalidFieldError
from services.tiers.domain.facts import FactKind, NotCounted, Scope
from services.tiers.domain.standing import Line, Standing
from services.tiers.domain.track import Reason
from services.tiers.errors import (
    CursorAheadError,
    DocumentInvalidError,
    FromTimeError,
    MemberUnknownError,
    NotEnrolledError,
    NotReadyError,
    PageTokenError,
    RequestIdReusedError,
    TiersError,
    TierUnknownError,
    TokenBeyondLogError,
)
from services.tiers.paging import line_token_of, read_line_token
from services.tiers.service import DEFAULT_PAGE, Asked, Audience, Progress, Tiers
from services.tiers.store import StoredChange

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# docs/errors.md
_STATUSES: dict[type[TiersError], tuple[grpc.StatusCode, str]] = {
    MemberUnknownError: (grpc.StatusCode.NOT_FOUND, "MEMBER_UNKNOWN"),
    NotEnrolledError: (grpc.StatusCode.FAILED_PRECONDITION, "NOT_ENROLLED"),
    CursorAheadError: (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_AHEAD_OF_LOG"),
    TokenBeyondLogError: (grpc.StatusCode.INVALID_ARGUMENT, "CAUSAL_TOKEN_INVALID"),
    PageTokenError: (grpc.StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID"),
    TierUnknownError: (grpc.StatusCode.INVALID_ARGUMENT, "TIER_UNKNOWN"),
    FromTimeError: (grpc.StatusCode.FAILED_PRECONDITION, "PROGRAMME_ORDER"),
    NotReadyError: (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
}


def describe(error: BaseException) -> ErrorStatus | None:
    """The status of this service's errors."""
    if isinstance(error, DocumentInvalidError):
        return ErrorStatus(
            code=grpc.StatusCode.INVALID_ARGUMENT,
            reason="PROGRAMME_INVALID",
            message=str(error),
            fields=tuple([("document", problem) for problem in error.problems]),
        )
    if isinstance(error, RequestIdReusedError):
        field = _first_difference(error.kept, error.sent)
        return ErrorStatus(
            code=grpc.StatusCode.ALREADY_EXISTS,
            reason="REQUEST_ID_REUSED",
            message=f"{error} (first difference: {field})",
            metadata={"field": field},
        )
    if not isinstance(error, TiersError) or type(error) not in _STATUSES:
        return None
    code, reason = _STATUSES[type(error)]
    return ErrorStatus(code=code, reason=reason, message=str(error))


_METRICS = {
    Metric.NET_SPEND: pb.METRIC_NET_SPEND,
    Metric.QUALIFYING_POINTS: pb.METRIC_QUALIFYING_POINTS,
    Metric.VISITS: pb.METRIC_VISITS,
    Metric.ACTIVITIES: pb.METRIC_ACTIVITIES,
    Metric.MEMBERSHIP: pb.METRIC_MEMBERSHIP,
}
_REASONS: Mapping[Reason, Any] = {reason: pb.ChangeReason.Value(f"CHANGE_REASON_{reason.name}") for reason in Reason}
_SCOPES: Mapping[Scope, Any] = {scope: pb.OverrideScope.Value(f"OVERRIDE_SCOPE_{scope.name}") for scope in Scope}
_SCOPE_OF = {number: scope for scope, number in _SCOPES.items()}
_LINES: Mapping[FactKind, Any] = {
    kind: pb.LineKind.Value(f"LINE_KIND_{kind.name}")
    for kind in (
        FactKind.JOINED,
        FactKind.PURCHASE,
        FactKind.RETURN,
        FactKind.VOID,
        FactKind.AWARD,
        FactKind.ACTIVITY,
    )
}
_NOT_COUNTED: Mapping[NotCounted, Any] = {
    reason: pb.NotCountedReason.Value(f"NOT_COUNTED_REASON_{reason.name}") for reason in NotCounted
}


class TierServicer(tier_service_pb2_grpc.TierServiceServicer):
    """The handlers of TierService."""

    def __init__(self, tiers: Tiers) -> None:
        self._tiers = tiers

    async def GetStanding(self, request: pb.GetStandingRequest, context: Context) -> pb.GetStandingResponse:
        """Reads a member's tier with what explains it."""
        await self._tiers.wait_for(parse_token(request.causal_token), seconds=seconds_to_wait(context))
        standing = await self._tiers.standing(
            request.member_id, _asked(request, "at_time"), _asked(request, "known_at_time")
        )
        return pb.GetStandingResponse(standing=_standing(self._tiers.versions, request.member_id, standing))

    async def ExplainStanding(self, request: pb.ExplainStandingRequest, context: Context) -> pb.ExplainStandingResponse:
        """Explains a standing line by line."""
        await self._tiers.wait_for(parse_token(request.causal_token), seconds=seconds_to_wait(context))
        asked = _asked(request, "at_time")
        at, first = read_line_token(request.page_token, asked) if request.page_token else (asked, 0)
        page = await self._tiers.explain(
            request.member_id,
            at,
            _asked(request, "known_at_time"),
            first=first,
            size=request.page_size or DEFAULT_PAGE,
        )
        standing, market = page.standing, page.standing.market
        token = line_token_of(standing.at_time, first + len(page.lines), asked) if page.more else ""
        return pb.ExplainStandingResponse(
            standing=_standing(self._tiers.versions, request.member_id, standing),
            thresholds=[_threshold(market, level) for level in market.tiers.levels],
            lines=[_line(market, line) for line in page.lines],
            next_page_token=token,
        )

    async def BatchGetStandings(
        self, request: pb.BatchGetStandingsRequest, context: Context
    ) -> pb.BatchGetStandingsResponse:
        """Reads the tiers of members at one instant."""
        await self._tiers.wait_for(parse_token(request.causal_token), seconds=seconds_to_wait(context))
        found = await self._tiers.batch(request.member_ids, _asked(request, "at_time"))
        return pb.BatchGetStandingsResponse(
            results=[
                pb.StandingResult(member_id=member_id, standing=_standing(self._tiers.versions, member_id, result))
                if isinstance(result, Standing)
                else pb.StandingResult(member_id=member_id, error=_error(result))
                for member_id, result in found.items()
            ]
        )

    async def SetTierOverride(self, request: pb.SetTierOverrideRequest, context: Context) -> pb.SetTierOverrideResponse:
        """Gives a member a tier by hand."""
        await self._tiers.wait_for(parse_token(request.causal_token), seconds=seconds_to_wait(context))
        standing, replayed = await self._tiers.decide(
            _to_decide(
                request,
                FactKind.OVERRIDE_SET,
                tier_number=request.tier_number,
                scope=_SCOPE_OF[request.scope],
                reason=request.reason,
                until_time=_asked(request, "end_time"),
            )
        )
        return pb.SetTierOverrideResponse(
            standing=_standing(self._tiers.versions, request.member_id, standing), replayed=replayed
        )

    async def ClearTierOverride(
        self, request: pb.ClearTierOverrideRequest, context: Context
    ) -> pb.ClearTierOverrideResponse:
        """Ends an override now."""
        await self._tiers.wait_for(parse_token(request.causal_token), seconds=seconds_to_wait(context))
        standing, replayed = await self._tiers.decide(
            _to_decide(request, FactKind.OVERRIDE_CLEARED, reason=request.reason)
        )
        return pb.ClearTierOverrideResponse(
            standing=_standing(self._tiers.versions, request.member_id, standing), replayed=replayed
        )

    async def ConfirmAccount(self, request: pb.ConfirmAccountRequest, context: Context) -> pb.ConfirmAccountResponse:
        """Records that a member confirmed its data."""
        await self._tiers.wait_for(parse_token(request.causal_token), seconds=seconds_to_wait(context))
        standing, replayed = await self._tiers.decide(_to_decide(request, FactKind.CONFIRMED))
        return pb.ConfirmAccountResponse(
            standing=_standing(self._tiers.versions, request.member_id, standing), replayed=replayed
        )

    async def PreviewProgramme(
        self, request: pb.PreviewProgrammeRequest, context: Context
    ) -> pb.PreviewProgrammeResponse:
        """Tells what another version of the programme would do to members."""
        candidate, losses, seen = await self._tiers.preview(
            request.document,
            _asked(request, "from_time"),
            most_members=request.most_members,
            most_moves=request.most_moves or DEFAULT_PAGE,
        )
        names = [level.name for level in candidate.tiers.levels]
        names += sorted(seen.tiers_before.keys() - set(names))
        return pb.PreviewProgrammeResponse(
            version=candidate.version,
            at_time=_timestamp(seen.at_time),
            members=seen.members,
            tiers=[
                pb.TierPreview(tier=name, members_before=seen.tiers_before[name], members_after=seen.tiers_after[name])
                for name in names
            ],
            rising=seen.rising,
            falling=seen.falling,
            moves=[pb.MovePreview(member_id=member, from_tier=old, to_tier=new) for member, old, new in seen.moves],
            discounts_before=_money(candidate.currency, seen.discounts_before),
            discounts_after=_money(candidate.currency, seen.discounts_after),
            losses=losses,
        )

    async def CountStandings(self, request: pb.CountStandingsRequest, context: Context) -> pb.CountStandingsResponse:
        """Counts members by tier."""
        wanted = parse_token(request.causal_token)
        await self._tiers.wait_for(wanted, seconds=seconds_to_wait(context), settled=request.settled)
        at_time, members = await self._tiers.count(_asked(request, "at_time"))
        programme = self._tiers.versions.at(at_time)

        def counts(markets: Iterable[str]) -> list[pb.TierCount]:
            named = list(markets)
            return [
                pb.TierCount(
                    tier_number=level.number,
                    tier=level.name,
                    members=sum(members[market, level.number] for market in named),
                )
                for level in programme.tiers.levels
            ]

        markets = sorted({"", *programme.markets, *(market for market, _ in members)})
        return pb.CountStandingsResponse(
            counts=counts(markets),
            at_time=_timestamp(at_time),
            markets=[pb.MarketCount(market=market, counts=counts([market])) for market in markets],
        )

    async def ListStandings(self, request: pb.ListStandingsRequest, context: Context) -> pb.ListStandingsResponse:
        """Lists members with their tiers."""
        wanted = parse_token(request.causal_token)
        await self._tiers.wait_for(wanted, seconds=seconds_to_wait(context), settled=request.settled)
        losing = timedelta(days=request.losing_within_days) if request.losing_within_days else None
        audience = Audience(
            tier_numbers=frozenset(request.tier_numbers),
            market={"": None, "-": ""}.get(request.market, request.market),
            losing_within=losing,
            missing_at_most=request.missing_at_most or None,
        )
        page = await self._tiers.standings(
            _asked(request, "at_time"),
            page_size=request.page_size,
            page_token=request.page_token,
            audience=audience,
        )
        return pb.ListStandingsResponse(
            standings=[_listed(member_id, one, losing=losing is not None) for member_id, one in page.standings],
            next_page_token=page.next_page_token,
            at_time=_timestamp(page.at_time),
            programme_version=self._tiers.versions.at(page.at_time).version,
        )

    async def StreamTierChanges(
        self, request: pb.StreamTierChangesRequest, context: Context
    ) -> AsyncIterator[pb.StreamTierChangesResponse]:
        """Streams changes of tier from a cursor on."""
        after = {place.partition: place.offset for place in request.after}
        async for changes, progress in self._tiers.changes(after, follow=request.follow):
            yield pb.StreamTierChangesResponse(
                changes=[_change(self._tiers.versions, change) for change in changes],
                progress=[_progress(partition) for partition in progress],
            )


def _asked(request: Message, name: str) -> datetime | None:
    """A time of a request; None where it is empty."""
    if not request.HasField(name):
        return None
    timestamp: Timestamp = getattr(request, name)
    if not 0 <= timestamp.nanos < 1_000_000_000:
        raise InvalidFieldError(name, "its nanos must be from 0 to 999999999")
    return timestamp.ToDatetime(UTC)


def _to_decide(request: Message, kind: FactKind, **more: Any) -> Asked:
    """What a request asks to be decided; the same request is known by its fields, whatever it waited for."""
    caller = current_caller.get()
    sent = type(request)()
    sent.CopyFrom(request)
    sent.ClearField("causal_token")
    return Asked(
        kind=kind,
        member_id=request.member_id,  # type: ignore[attr-defined]
        request_id=request.request_id,  # type: ignore[attr-defined]
        principal=caller.principal,
        on_behalf_of=caller.on_behalf_of,
        request=type(request).__name__.encode() + b" " + sent.SerializeToString(deterministic=True),
        **more,
    )


def _first_difference(kept: bytes, sent: bytes) -> str:
    """The first field in which two requests differ, each as `_to_decide` keeps it."""
    (kept_name, _, kept_content), (sent_name, _, sent_content) = kept.partition(b" "), sent.partition(b" ")
    if kept_name != sent_name:
        return "the method"
    request_class = getattr(pb, sent_name.decode())
    return first_difference(request_class.FromString(kept_content), request_class.FromString(sent_content))


def _error(error: TiersError) -> status_pb2.Status:
    status = describe(error)
    assert status is not None
    return status.to_proto()


def _timestamp(time: datetime) -> Timestamp:
    # A third of the time that FromDatetime takes; a standing has five of them.
    since = time - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def _money(currency: str, minor_units: int) -> money_pb2.Money:
    return money_pb2.Money(currency_code=currency, minor_units=minor_units)


def _measured(market: Market, amount: int | None, money: str, count: str) -> dict[str, Any]:
    """An amount of the metric as the field that fits: money, or a count; nothing where there is none."""
    if amount is None:
        return {}
    if market.tiers.metric is Metric.NET_SPEND:
        return {money: _money(market.currency, amount)}
    return {count: amount}


def _benefits(market: Market, level: Level | None) -> list[pb.Benefit]:
    if level is None:
        return []
    return [
        pb.Benefit(
            id=benefit.id,
            text=benefit.text,
            maximum=None
            if benefit.maximum_minor_units is None
            else _money(market.currency, benefit.maximum_minor_units),
        )
        for benefit in level.benefits
    ]


def _standing(versions: Versions, member_id: str, standing: Standing) -> pb.Standing:
    market, level, benefits = standing.market, standing.level, standing.benefits
    more: dict[str, Any] = {}
    if standing.next_level is not None:
        more["next_tier"] = standing.next_level.name
        more |= _measured(market, standing.missing_for_next_level, "missing_for_next_tier", "missing_count")
    if (change := standing.next_change) is not None:
        more["next_change_time"] = _timestamp(change.time)
        more["next_change_tier_number"] = change.level.number
        more["next_change_benefits_tier_number"] = 0 if change.benefits is None else change.benefits.number
        more["next_change_reason"] = _REASONS[change.reason]
    if benefits is not None and benefits.number < level.number and standing.override is None:
        given = _benefits(market, benefits)
        more["pending_benefits"] = [one for one in _benefits(market, level) if one not in given]
    if standing.pending_time is not None:
        more["pending_benefits_time"] = _timestamp(standing.pending_time)
    if (override := standing.override) is not None:
        given_level = market.tiers.find_level(override.level)
        more["override"] = pb.TierOverride(
            tier_number=0 if given_level is None else given_level.number,
            tier=override.level if given_level is None else given_level.name,
            scope=_SCOPES[override.scope],
            reason=override.reason,
            principal=override.principal,
            end_time=None if override.until_time is None else _timestamp(override.until_time),
        )
    if standing.valid_until is not None:
        more["valid_until_time"] = _timestamp(standing.valid_until)
    if standing.held_until is not None:
        more["held_until_time"] = _timestamp(standing.held_until)
    if standing.to_keep is not None:
        more["to_keep"] = pb.ToKeep(
            by_time=_timestamp(standing.to_keep.by_time),
            **_measured(market, standing.to_keep.missing, "missing", "missing_count"),
        )
    return pb.Standing(
        member_id=member_id,
        tier_number=level.number,
        tier=level.name,
        at_time=_timestamp(standing.at_time),
        since_time=_timestamp(standing.since_time),
        joined_time=_timestamp(standing.joined_time),
        discount_basis_points=0 if benefits is None else benefits.discount_bp,
        programme_version=versions[standing.version].programme.version,
        metric=_METRICS[market.tiers.metric],
        benefits_tier_number=0 if benefits is None else benefits.number,
        benefits=_benefits(market, benefits),
        automatic_tier_number=standing.automatic.number,
        automatic_tier=standing.automatic.name,
        suspended=standing.suspended,
        market=market.key,
        **_measured(market, standing.balance, "balance", "balance_count"),
        **_measured(market, standing.matured, "matured_balance", "matured_count"),
        **more,
    )


def _listed(member_id: str, standing: Standing, *, losing: bool) -> pb.MemberStanding:
    fall = standing.next_fall
    return pb.MemberStanding(
        member_id=member_id,
        tier_number=standing.level.number,
        tier=standing.level.name,
        joined_time=_timestamp(standing.joined_time),
        benefits_tier_number=0 if standing.benefits is None else standing.benefits.number,
        market=standing.market.key,
        losing_time=_timestamp(fall.time) if losing and fall is not None else None,
        **_measured(standing.market, standing.balance, "balance", "balance_count"),
    )


def _threshold(market: Market, level: Level) -> pb.Threshold:
    return pb.Threshold(
        tier_number=level.number,
        tier=level.name,
        plan=level.plan,
        **_measured(market, level.threshold, "reached_from", "reached_from_count"),
        **_measured(market, level.kept_from, "kept_from", "kept_from_count"),
    )


def _line(market: Market, line: Line) -> pb.StandingLine:
    fact = line.fact
    return pb.StandingLine(
        ledger_offset=fact.ledger_offset,
        kind=_LINES[fact.kind],
        occurred_time=_timestamp(fact.occurred_time),
        recorded_time=_timestamp(fact.recorded_time),
        purchase_id=fact.purchase_id,
        counted=line.not_counted is None,
        not_counted_reason=pb.NOT_COUNTED_REASON_UNSPECIFIED
        if line.not_counted is None
        else _NOT_COUNTED[line.not_counted],
        end_time=None if line.end_time in (None, FOREVER) else _timestamp(line.end_time),
        matures_time=None if line.matures_time is None else _timestamp(line.matures_time),
        **_measured(market, line.amount, "amount", "count"),
    )


def _change(versions: Versions, stored: StoredChange) -> pb.TierChange:
    place, change = stored.tier_change, stored.tier_change.change
    changed_time = _timestamp(change.changed_time)
    number = versions.number_at(change.changed_time)
    programme = versions[number].programme
    # What a version takes the place of is named as it was.
    before = versions[max(number - 1, 0)].programme if change.reason is Reason.PROGRAMME else programme
    message = pb.TierChange(
        partition=place.partition,
        offset=place.offset,
        member_id=place.member_id,
        sequence=change.sequence,
        from_tier_number=change.from_tier_number,
        from_tier=_name(before, change.from_tier_number),
        to_tier_number=change.to_tier_number,
        to_tier=_name(programme, change.to_tier_number),
        changed_time=changed_time,
        ledger_offset_processed=place.ledger_offset_processed,
        programme_version=stored.programme_version,
        reason=_REASONS[change.reason],
        from_benefits_tier_number=change.from_benefits_number,
        to_benefits_tier_number=change.to_benefits_number,
        from_benefits_tier=_name(before, change.from_benefits_number),
        to_benefits_tier=_name(programme, change.to_benefits_number),
        corrects_sequence=change.corrects,
        **_measured(programme.market(stored.market), change.balance, "balance", "balance_count"),
    )
    if change.cause_offset is not None:
        message.ledger_offset = change.cause_offset
    elif change.cause_number is not None:
        message.decision = change.cause_number
    else:
        message.due_time.CopyFrom(changed_time)
    return message


def _name(programme: Programme, number: int) -> str:
    """The name of a tier; empty where there is none of this number."""
    return programme.tiers.level(number).name if 1 <= number <= len(programme.tiers.levels) else ""


def _progress(progress: Progress) -> pb.PartitionProgress:
    due = progress.due_time_processed
    return pb.PartitionProgress(
        partition=progress.partition,
        ledger_offset_processed=progress.ledger_offset_processed,
        due_time_processed=None if due is None else _timestamp(due),
    )
