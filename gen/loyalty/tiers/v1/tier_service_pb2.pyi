import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from loyalty.type.v1 import log_pb2 as _log_pb2
from loyalty.type.v1 import money_pb2 as _money_pb2
from loyalty.type.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Metric(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    METRIC_UNSPECIFIED: _ClassVar[Metric]
    METRIC_NET_SPEND: _ClassVar[Metric]
    METRIC_QUALIFYING_POINTS: _ClassVar[Metric]
    METRIC_VISITS: _ClassVar[Metric]
    METRIC_ACTIVITIES: _ClassVar[Metric]
    METRIC_MEMBERSHIP: _ClassVar[Metric]

class ChangeReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANGE_REASON_UNSPECIFIED: _ClassVar[ChangeReason]
    CHANGE_REASON_MOVEMENT: _ClassVar[ChangeReason]
    CHANGE_REASON_WINDOW: _ClassVar[ChangeReason]
    CHANGE_REASON_MATURED: _ClassVar[ChangeReason]
    CHANGE_REASON_CYCLE_ENDED: _ClassVar[ChangeReason]
    CHANGE_REASON_TAKEN_BACK: _ClassVar[ChangeReason]
    CHANGE_REASON_PLAN: _ClassVar[ChangeReason]
    CHANGE_REASON_OVERRIDE: _ClassVar[ChangeReason]
    CHANGE_REASON_OVERRIDE_ENDED: _ClassVar[ChangeReason]
    CHANGE_REASON_WARNED: _ClassVar[ChangeReason]
    CHANGE_REASON_SUSPENDED: _ClassVar[ChangeReason]
    CHANGE_REASON_REVIVED: _ClassVar[ChangeReason]
    CHANGE_REASON_REJOINED: _ClassVar[ChangeReason]
    CHANGE_REASON_PROGRAMME: _ClassVar[ChangeReason]
    CHANGE_REASON_CORRECTED: _ClassVar[ChangeReason]

class OverrideScope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OVERRIDE_SCOPE_UNSPECIFIED: _ClassVar[OverrideScope]
    OVERRIDE_SCOPE_TIER: _ClassVar[OverrideScope]
    OVERRIDE_SCOPE_BENEFITS: _ClassVar[OverrideScope]

class LineKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LINE_KIND_UNSPECIFIED: _ClassVar[LineKind]
    LINE_KIND_JOINED: _ClassVar[LineKind]
    LINE_KIND_PURCHASE: _ClassVar[LineKind]
    LINE_KIND_RETURN: _ClassVar[LineKind]
    LINE_KIND_VOID: _ClassVar[LineKind]
    LINE_KIND_AWARD: _ClassVar[LineKind]
    LINE_KIND_ACTIVITY: _ClassVar[LineKind]

class NotCountedReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NOT_COUNTED_REASON_UNSPECIFIED: _ClassVar[NotCountedReason]
    NOT_COUNTED_REASON_OTHER_METRIC: _ClassVar[NotCountedReason]
    NOT_COUNTED_REASON_BEFORE_JOINING: _ClassVar[NotCountedReason]
    NOT_COUNTED_REASON_BEFORE_REJOINING: _ClassVar[NotCountedReason]
    NOT_COUNTED_REASON_OUTSIDE_WINDOW: _ClassVar[NotCountedReason]
    NOT_COUNTED_REASON_EXCHANGE_WAITS: _ClassVar[NotCountedReason]
METRIC_UNSPECIFIED: Metric
METRIC_NET_SPEND: Metric
METRIC_QUALIFYING_POINTS: Metric
METRIC_VISITS: Metric
METRIC_ACTIVITIES: Metric
METRIC_MEMBERSHIP: Metric
CHANGE_REASON_UNSPECIFIED: ChangeReason
CHANGE_REASON_MOVEMENT: ChangeReason
CHANGE_REASON_WINDOW: ChangeReason
CHANGE_REASON_MATURED: ChangeReason
CHANGE_REASON_CYCLE_ENDED: ChangeReason
CHANGE_REASON_TAKEN_BACK: ChangeReason
CHANGE_REASON_PLAN: ChangeReason
CHANGE_REASON_OVERRIDE: ChangeReason
CHANGE_REASON_OVERRIDE_ENDED: ChangeReason
CHANGE_REASON_WARNED: ChangeReason
CHANGE_REASON_SUSPENDED: ChangeReason
CHANGE_REASON_REVIVED: ChangeReason
CHANGE_REASON_REJOINED: ChangeReason
CHANGE_REASON_PROGRAMME: ChangeReason
CHANGE_REASON_CORRECTED: ChangeReason
OVERRIDE_SCOPE_UNSPECIFIED: OverrideScope
OVERRIDE_SCOPE_TIER: OverrideScope
OVERRIDE_SCOPE_BENEFITS: OverrideScope
LINE_KIND_UNSPECIFIED: LineKind
LINE_KIND_JOINED: LineKind
LINE_KIND_PURCHASE: LineKind
LINE_KIND_RETURN: LineKind
LINE_KIND_VOID: LineKind
LINE_KIND_AWARD: LineKind
LINE_KIND_ACTIVITY: LineKind
NOT_COUNTED_REASON_UNSPECIFIED: NotCountedReason
NOT_COUNTED_REASON_OTHER_METRIC: NotCountedReason
NOT_COUNTED_REASON_BEFORE_JOINING: NotCountedReason
NOT_COUNTED_REASON_BEFORE_REJOINING: NotCountedReason
NOT_COUNTED_REASON_OUTSIDE_WINDOW: NotCountedReason
NOT_COUNTED_REASON_EXCHANGE_WAITS: NotCountedReason

class GetStandingRequest(_message.Message):
    __slots__ = ("member_id", "at_time", "causal_token", "known_at_time")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    AT_TIME_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    KNOWN_AT_TIME_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    at_time: _timestamp_pb2.Timestamp
    causal_token: str
    known_at_time: _timestamp_pb2.Timestamp
    def __init__(self, member_id: _Optional[str] = ..., at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., causal_token: _Optional[str] = ..., known_at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Benefit(_message.Message):
    __slots__ = ("id", "text", "maximum")
    ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    id: str
    text: str
    maximum: _money_pb2.Money
    def __init__(self, id: _Optional[str] = ..., text: _Optional[str] = ..., maximum: _Optional[_Union[_money_pb2.Money, _Mapping]] = ...) -> None: ...

class TierOverride(_message.Message):
    __slots__ = ("tier_number", "tier", "scope", "reason", "principal", "end_time")
    TIER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    tier_number: int
    tier: str
    scope: OverrideScope
    reason: str
    principal: str
    end_time: _timestamp_pb2.Timestamp
    def __init__(self, tier_number: _Optional[int] = ..., tier: _Optional[str] = ..., scope: _Optional[_Union[OverrideScope, str]] = ..., reason: _Optional[str] = ..., principal: _Optional[str] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ToKeep(_message.Message):
    __slots__ = ("missing", "missing_count", "by_time")
    MISSING_FIELD_NUMBER: _ClassVar[int]
    MISSING_COUNT_FIELD_NUMBER: _ClassVar[int]
    BY_TIME_FIELD_NUMBER: _ClassVar[int]
    missing: _money_pb2.Money
    missing_count: int
    by_time: _timestamp_pb2.Timestamp
    def __init__(self, missing: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., missing_count: _Optional[int] = ..., by_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ("member_id", "tier_number", "tier", "balance", "at_time", "since_time", "joined_time", "discount_basis_points", "next_tier", "missing_for_next_tier", "next_change_time", "next_change_tier_number", "programme_version", "metric", "balance_count", "missing_count", "benefits_tier_number", "benefits", "pending_benefits", "pending_benefits_time", "matured_balance", "matured_count", "automatic_tier_number", "automatic_tier", "override", "suspended", "valid_until_time", "held_until_time", "to_keep", "next_change_reason", "next_change_benefits_tier_number", "market")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    AT_TIME_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    JOINED_TIME_FIELD_NUMBER: _ClassVar[int]
    DISCOUNT_BASIS_POINTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TIER_FIELD_NUMBER: _ClassVar[int]
    MISSING_FOR_NEXT_TIER_FIELD_NUMBER: _ClassVar[int]
    NEXT_CHANGE_TIME_FIELD_NUMBER: _ClassVar[int]
    NEXT_CHANGE_TIER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    PROGRAMME_VERSION_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    BALANCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    MISSING_COUNT_FIELD_NUMBER: _ClassVar[int]
    BENEFITS_TIER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    BENEFITS_FIELD_NUMBER: _ClassVar[int]
    PENDING_BENEFITS_FIELD_NUMBER: _ClassVar[int]
    PENDING_BENEFITS_TIME_FIELD_NUMBER: _ClassVar[int]
    MATURED_BALANCE_FIELD_NUMBER: _ClassVar[int]
    MATURED_COUNT_FIELD_NUMBER: _ClassVar[int]
    AUTOMATIC_TIER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    AUTOMATIC_TIER_FIELD_NUMBER: _ClassVar[int]
    OVERRIDE_FIELD_NUMBER: _ClassVar[int]
    SUSPENDED_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_TIME_FIELD_NUMBER: _ClassVar[int]
    HELD_UNTIL_TIME_FIELD_NUMBER: _ClassVar[int]
    TO_KEEP_FIELD_NUMBER: _ClassVar[int]
    NEXT_CHANGE_REASON_FIELD_NUMBER: _ClassVar[int]
    NEXT_CHANGE_BENEFITS_TIER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    tier_number: int
    tier: str
    balance: _money_pb2.Money
    at_time: _timestamp_pb2.Timestamp
    since_time: _timestamp_pb2.Timestamp
    joined_time: _timestamp_pb2.Timestamp
    discount_basis_points: int
    next_tier: str
    missing_for_next_tier: _money_pb2.Money
    next_change_time: _timestamp_pb2.Timestamp
    next_change_tier_number: int
    programme_version: str
    metric: Metric
    balance_count: int
    missing_count: int
    benefits_tier_number: int
    benefits: _containers.RepeatedCompositeFieldContainer[Benefit]
    pending_benefits: _containers.RepeatedCompositeFieldContainer[Benefit]
    pending_benefits_time: _timestamp_pb2.Timestamp
    matured_balance: _money_pb2.Money
    matured_count: int
    automatic_tier_number: int
    automatic_tier: str
    override: TierOverride
    suspended: bool
    valid_until_time: _timestamp_pb2.Timestamp
    held_until_time: _timestamp_pb2.Timestamp
    to_keep: ToKeep
    next_change_reason: ChangeReason
    next_change_benefits_tier_number: int
    market: str
    def __init__(self, member_id: _Optional[str] = ..., tier_number: _Optional[int] = ..., tier: _Optional[str] = ..., balance: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., joined_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., discount_basis_points: _Optional[int] = ..., next_tier: _Optional[str] = ..., missing_for_next_tier: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., next_change_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., next_change_tier_number: _Optional[int] = ..., programme_version: _Optional[str] = ..., metric: _Optional[_Union[Metric, str]] = ..., balance_count: _Optional[int] = ..., missing_count: _Optional[int] = ..., benefits_tier_number: _Optional[int] = ..., benefits: _Optional[_Iterable[_Union[Benefit, _Mapping]]] = ..., pending_benefits: _Optional[_Iterable[_Union[Benefit, _Mapping]]] = ..., pending_benefits_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., matured_balance: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., matured_count: _Optional[int] = ..., automatic_tier_number: _Optional[int] = ..., automatic_tier: _Optional[str] = ..., override: _Optional[_Union[TierOverride, _Mapping]] = ..., suspended: _Optional[bool] = ..., valid_until_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., held_until_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., to_keep: _Optional[_Union[ToKeep, _Mapping]] = ..., next_change_reason: _Optional[_Union[ChangeReason, str]] = ..., next_change_benefits_tier_number: _Optional[int] = ..., market: _Optional[str] = ...) -> None: ...

class GetStandingResponse(_message.Message):
    __slots__ = ("standing",)
    STANDING_FIELD_NUMBER: _ClassVar[int]
    standing: Standing
    def __init__(self, standing: _Optional[_Union[Standing, _Mapping]] = ...) -> None: ...

class ExplainStandingRequest(_message.Message):
    __slots__ = ("member_id", "at_time", "known_at_time", "page_size", "page_token", "causal_token")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    AT_TIME_FIELD_NUMBER: _ClassVar[int]
    KNOWN_AT_TIME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    at_time: _timestamp_pb2.Timestamp
    known_at_time: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    causal_token: str
    def __init__(self, member_id: _Optional[str] = ..., at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., known_at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., causal_token: _Optional[str] = ...) -> None: ...

class StandingLine(_message.Message):
    __slots__ = ("ledger_offset", "kind", "occurred_time", "recorded_time", "purchase_id", "amount", "count", "counted", "not_counted_reason", "end_time", "matures_time")
    LEDGER_OFFSET_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    RECORDED_TIME_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    NOT_COUNTED_REASON_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    MATURES_TIME_FIELD_NUMBER: _ClassVar[int]
    ledger_offset: int
    kind: LineKind
    occurred_time: _timestamp_pb2.Timestamp
    recorded_time: _timestamp_pb2.Timestamp
    purchase_id: str
    amount: _money_pb2.Money
    count: int
    counted: bool
    not_counted_reason: NotCountedReason
    end_time: _timestamp_pb2.Timestamp
    matures_time: _timestamp_pb2.Timestamp
    def __init__(self, ledger_offset: _Optional[int] = ..., kind: _Optional[_Union[LineKind, str]] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., recorded_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., purchase_id: _Optional[str] = ..., amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., count: _Optional[int] = ..., counted: _Optional[bool] = ..., not_counted_reason: _Optional[_Union[NotCountedReason, str]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., matures_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Threshold(_message.Message):
    __slots__ = ("tier_number", "tier", "reached_from", "kept_from", "reached_from_count", "kept_from_count", "plan")
    TIER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    REACHED_FROM_FIELD_NUMBER: _ClassVar[int]
    KEPT_FROM_FIELD_NUMBER: _ClassVar[int]
    REACHED_FROM_COUNT_FIELD_NUMBER: _ClassVar[int]
    KEPT_FROM_COUNT_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    tier_number: int
    tier: str
    reached_from: _money_pb2.Money
    kept_from: _money_pb2.Money
    reached_from_count: int
    kept_from_count: int
    plan: str
    def __init__(self, tier_number: _Optional[int] = ..., tier: _Optional[str] = ..., reached_from: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., kept_from: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., reached_from_count: _Optional[int] = ..., kept_from_count: _Optional[int] = ..., plan: _Optional[str] = ...) -> None: ...

class ExplainStandingResponse(_message.Message):
    __slots__ = ("standing", "thresholds", "lines", "next_page_token")
    STANDING_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    standing: Standing
    thresholds: _containers.RepeatedCompositeFieldContainer[Threshold]
    lines: _containers.RepeatedCompositeFieldContainer[StandingLine]
    next_page_token: str
    def __init__(self, standing: _Optional[_Union[Standing, _Mapping]] = ..., thresholds: _Optional[_Iterable[_Union[Threshold, _Mapping]]] = ..., lines: _Optional[_Iterable[_Union[StandingLine, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class BatchGetStandingsRequest(_message.Message):
    __slots__ = ("member_ids", "at_time", "causal_token")
    MEMBER_IDS_FIELD_NUMBER: _ClassVar[int]
    AT_TIME_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    member_ids: _containers.RepeatedScalarFieldContainer[str]
    at_time: _timestamp_pb2.Timestamp
    causal_token: str
    def __init__(self, member_ids: _Optional[_Iterable[str]] = ..., at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., causal_token: _Optional[str] = ...) -> None: ...

class StandingResult(_message.Message):
    __slots__ = ("member_id", "standing", "error")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    standing: Standing
    error: _status_pb2.Status
    def __init__(self, member_id: _Optional[str] = ..., standing: _Optional[_Union[Standing, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class BatchGetStandingsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[StandingResult]
    def __init__(self, results: _Optional[_Iterable[_Union[StandingResult, _Mapping]]] = ...) -> None: ...

class SetTierOverrideRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "tier_number", "scope", "reason", "end_time", "causal_token")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    tier_number: int
    scope: OverrideScope
    reason: str
    end_time: _timestamp_pb2.Timestamp
    causal_token: str
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., tier_number: _Optional[int] = ..., scope: _Optional[_Union[OverrideScope, str]] = ..., reason: _Optional[str] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., causal_token: _Optional[str] = ...) -> None: ...

class SetTierOverrideResponse(_message.Message):
    __slots__ = ("standing", "replayed")
    STANDING_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    standing: Standing
    replayed: bool
    def __init__(self, standing: _Optional[_Union[Standing, _Mapping]] = ..., replayed: _Optional[bool] = ...) -> None: ...

class ClearTierOverrideRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "reason", "causal_token")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    reason: str
    causal_token: str
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., reason: _Optional[str] = ..., causal_token: _Optional[str] = ...) -> None: ...

class ClearTierOverrideResponse(_message.Message):
    __slots__ = ("standing", "replayed")
    STANDING_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    standing: Standing
    replayed: bool
    def __init__(self, standing: _Optional[_Union[Standing, _Mapping]] = ..., replayed: _Optional[bool] = ...) -> None: ...

class ConfirmAccountRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "causal_token")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    causal_token: str
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., causal_token: _Optional[str] = ...) -> None: ...

class ConfirmAccountResponse(_message.Message):
    __slots__ = ("standing", "replayed")
    STANDING_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    standing: Standing
    replayed: bool
    def __init__(self, standing: _Optional[_Union[Standing, _Mapping]] = ..., replayed: _Optional[bool] = ...) -> None: ...

class PreviewProgrammeRequest(_message.Message):
    __slots__ = ("document", "from_time", "most_members", "most_moves")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    FROM_TIME_FIELD_NUMBER: _ClassVar[int]
    MOST_MEMBERS_FIELD_NUMBER: _ClassVar[int]
    MOST_MOVES_FIELD_NUMBER: _ClassVar[int]
    document: str
    from_time: _timestamp_pb2.Timestamp
    most_members: int
    most_moves: int
    def __init__(self, document: _Optional[str] = ..., from_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., most_members: _Optional[int] = ..., most_moves: _Optional[int] = ...) -> None: ...

class TierPreview(_message.Message):
    __slots__ = ("tier", "members_before", "members_after")
    TIER_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_AFTER_FIELD_NUMBER: _ClassVar[int]
    tier: str
    members_before: int
    members_after: int
    def __init__(self, tier: _Optional[str] = ..., members_before: _Optional[int] = ..., members_after: _Optional[int] = ...) -> None: ...

class MovePreview(_message.Message):
    __slots__ = ("member_id", "from_tier", "to_tier")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_TIER_FIELD_NUMBER: _ClassVar[int]
    TO_TIER_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    from_tier: str
    to_tier: str
    def __init__(self, member_id: _Optional[str] = ..., from_tier: _Optional[str] = ..., to_tier: _Optional[str] = ...) -> None: ...

class PreviewProgrammeResponse(_message.Message):
    __slots__ = ("version", "at_time", "members", "tiers", "rising", "falling", "moves", "discounts_before", "discounts_after", "losses")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AT_TIME_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    TIERS_FIELD_NUMBER: _ClassVar[int]
    RISING_FIELD_NUMBER: _ClassVar[int]
    FALLING_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    DISCOUNTS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    DISCOUNTS_AFTER_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    version: str
    at_time: _timestamp_pb2.Timestamp
    members: int
    tiers: _containers.RepeatedCompositeFieldContainer[TierPreview]
    rising: int
    falling: int
    moves: _containers.RepeatedCompositeFieldContainer[MovePreview]
    discounts_before: _money_pb2.Money
    discounts_after: _money_pb2.Money
    losses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[str] = ..., at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., members: _Optional[int] = ..., tiers: _Optional[_Iterable[_Union[TierPreview, _Mapping]]] = ..., rising: _Optional[int] = ..., falling: _Optional[int] = ..., moves: _Optional[_Iterable[_Union[MovePreview, _Mapping]]] = ..., discounts_before: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., discounts_after: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., losses: _Optional[_Iterable[str]] = ...) -> None: ...

class CountStandingsRequest(_message.Message):
    __slots__ = ("at_time", "causal_token", "settled")
    AT_TIME_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    at_time: _timestamp_pb2.Timestamp
    causal_token: str
    settled: bool
    def __init__(self, at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., causal_token: _Optional[str] = ..., settled: _Optional[bool] = ...) -> None: ...

class TierCount(_message.Message):
    __slots__ = ("tier_number", "tier", "members")
    TIER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    tier_number: int
    tier: str
    members: int
    def __init__(self, tier_number: _Optional[int] = ..., tier: _Optional[str] = ..., members: _Optional[int] = ...) -> None: ...

class CountStandingsResponse(_message.Message):
    __slots__ = ("counts", "at_time", "markets")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    AT_TIME_FIELD_NUMBER: _ClassVar[int]
    MARKETS_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.RepeatedCompositeFieldContainer[TierCount]
    at_time: _timestamp_pb2.Timestamp
    markets: _containers.RepeatedCompositeFieldContainer[MarketCount]
    def __init__(self, counts: _Optional[_Iterable[_Union[TierCount, _Mapping]]] = ..., at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., markets: _Optional[_Iterable[_Union[MarketCount, _Mapping]]] = ...) -> None: ...

class MarketCount(_message.Message):
    __slots__ = ("market", "counts")
    MARKET_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    market: str
    counts: _containers.RepeatedCompositeFieldContainer[TierCount]
    def __init__(self, market: _Optional[str] = ..., counts: _Optional[_Iterable[_Union[TierCount, _Mapping]]] = ...) -> None: ...

class ListStandingsRequest(_message.Message):
    __slots__ = ("at_time", "page_size", "page_token", "causal_token", "settled", "tier_numbers", "market", "losing_within_days", "missing_at_most")
    AT_TIME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    TIER_NUMBERS_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    LOSING_WITHIN_DAYS_FIELD_NUMBER: _ClassVar[int]
    MISSING_AT_MOST_FIELD_NUMBER: _ClassVar[int]
    at_time: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    causal_token: str
    settled: bool
    tier_numbers: _containers.RepeatedScalarFieldContainer[int]
    market: str
    losing_within_days: int
    missing_at_most: int
    def __init__(self, at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., causal_token: _Optional[str] = ..., settled: _Optional[bool] = ..., tier_numbers: _Optional[_Iterable[int]] = ..., market: _Optional[str] = ..., losing_within_days: _Optional[int] = ..., missing_at_most: _Optional[int] = ...) -> None: ...

class MemberStanding(_message.Message):
    __slots__ = ("member_id", "tier_number", "tier", "balance", "joined_time", "balance_count", "benefits_tier_number", "market", "losing_time")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    JOINED_TIME_FIELD_NUMBER: _ClassVar[int]
    BALANCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    BENEFITS_TIER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    LOSING_TIME_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    tier_number: int
    tier: str
    balance: _money_pb2.Money
    joined_time: _timestamp_pb2.Timestamp
    balance_count: int
    benefits_tier_number: int
    market: str
    losing_time: _timestamp_pb2.Timestamp
    def __init__(self, member_id: _Optional[str] = ..., tier_number: _Optional[int] = ..., tier: _Optional[str] = ..., balance: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., joined_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., balance_count: _Optional[int] = ..., benefits_tier_number: _Optional[int] = ..., market: _Optional[str] = ..., losing_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListStandingsResponse(_message.Message):
    __slots__ = ("standings", "next_page_token", "at_time", "programme_version")
    STANDINGS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AT_TIME_FIELD_NUMBER: _ClassVar[int]
    PROGRAMME_VERSION_FIELD_NUMBER: _ClassVar[int]
    standings: _containers.RepeatedCompositeFieldContainer[MemberStanding]
    next_page_token: str
    at_time: _timestamp_pb2.Timestamp
    programme_version: str
    def __init__(self, standings: _Optional[_Iterable[_Union[MemberStanding, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., programme_version: _Optional[str] = ...) -> None: ...

class StreamTierChangesRequest(_message.Message):
    __slots__ = ("after", "follow")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    after: _containers.RepeatedCompositeFieldContainer[_log_pb2.PartitionOffset]
    follow: bool
    def __init__(self, after: _Optional[_Iterable[_Union[_log_pb2.PartitionOffset, _Mapping]]] = ..., follow: _Optional[bool] = ...) -> None: ...

class TierChange(_message.Message):
    __slots__ = ("partition", "offset", "member_id", "sequence", "from_tier_number", "from_tier", "to_tier_number", "to_tier", "balance", "changed_time", "ledger_offset", "due_time", "decision", "ledger_offset_processed", "programme_version", "reason", "from_benefits_tier_number", "to_benefits_tier_number", "to_benefits_tier", "corrects_sequence", "balance_count", "from_benefits_tier")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FROM_TIER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    FROM_TIER_FIELD_NUMBER: _ClassVar[int]
    TO_TIER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TO_TIER_FIELD_NUMBER: _ClassVar[int]
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    CHANGED_TIME_FIELD_NUMBER: _ClassVar[int]
    LEDGER_OFFSET_FIELD_NUMBER: _ClassVar[int]
    DUE_TIME_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    LEDGER_OFFSET_PROCESSED_FIELD_NUMBER: _ClassVar[int]
    PROGRAMME_VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FROM_BENEFITS_TIER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TO_BENEFITS_TIER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TO_BENEFITS_TIER_FIELD_NUMBER: _ClassVar[int]
    CORRECTS_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BALANCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    FROM_BENEFITS_TIER_FIELD_NUMBER: _ClassVar[int]
    partition: int
    offset: int
    member_id: str
    sequence: int
    from_tier_number: int
    from_tier: str
    to_tier_number: int
    to_tier: str
    balance: _money_pb2.Money
    changed_time: _timestamp_pb2.Timestamp
    ledger_offset: int
    due_time: _timestamp_pb2.Timestamp
    decision: int
    ledger_offset_processed: int
    programme_version: str
    reason: ChangeReason
    from_benefits_tier_number: int
    to_benefits_tier_number: int
    to_benefits_tier: str
    corrects_sequence: int
    balance_count: int
    from_benefits_tier: str
    def __init__(self, partition: _Optional[int] = ..., offset: _Optional[int] = ..., member_id: _Optional[str] = ..., sequence: _Optional[int] = ..., from_tier_number: _Optional[int] = ..., from_tier: _Optional[str] = ..., to_tier_number: _Optional[int] = ..., to_tier: _Optional[str] = ..., balance: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., changed_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ledger_offset: _Optional[int] = ..., due_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., decision: _Optional[int] = ..., ledger_offset_processed: _Optional[int] = ..., programme_version: _Optional[str] = ..., reason: _Optional[_Union[ChangeReason, str]] = ..., from_benefits_tier_number: _Optional[int] = ..., to_benefits_tier_number: _Optional[int] = ..., to_benefits_tier: _Optional[str] = ..., corrects_sequence: _Optional[int] = ..., balance_count: _Optional[int] = ..., from_benefits_tier: _Optional[str] = ...) -> None: ...

class PartitionProgress(_message.Message):
    __slots__ = ("partition", "ledger_offset_processed", "due_time_processed")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    LEDGER_OFFSET_PROCESSED_FIELD_NUMBER: _ClassVar[int]
    DUE_TIME_PROCESSED_FIELD_NUMBER: _ClassVar[int]
    partition: int
    ledger_offset_processed: int
    due_time_processed: _timestamp_pb2.Timestamp
    def __init__(self, partition: _Optional[int] = ..., ledger_offset_processed: _Optional[int] = ..., due_time_processed: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class StreamTierChangesResponse(_message.Message):
    __slots__ = ("changes", "progress")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[TierChange]
    progress: _containers.RepeatedCompositeFieldContainer[PartitionProgress]
    def __init__(self, changes: _Optional[_Iterable[_Union[TierChange, _Mapping]]] = ..., progress: _Optional[_Iterable[_Union[PartitionProgress, _Mapping]]] = ...) -> None: ...
