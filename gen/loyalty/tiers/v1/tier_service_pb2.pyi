import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from loyalty.type.v1 import log_pb2 as _log_pb2
from loyalty.type.v1 import money_pb2 as _money_pb2
from loyalty.type.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStandingRequest(_message.Message):
    __slots__ = ("member_id", "at_time", "causal_token")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    AT_TIME_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    at_time: _timestamp_pb2.Timestamp
    causal_token: str
    def __init__(self, member_id: _Optional[str] = ..., at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., causal_token: _Optional[str] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ("member_id", "tier_number", "tier", "balance", "at_time", "since_time", "joined_time", "discount_basis_points", "next_tier", "missing_for_next_tier", "next_change_time", "next_change_tier_number", "programme_version")
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
    def __init__(self, member_id: _Optional[str] = ..., tier_number: _Optional[int] = ..., tier: _Optional[str] = ..., balance: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., joined_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., discount_basis_points: _Optional[int] = ..., next_tier: _Optional[str] = ..., missing_for_next_tier: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., next_change_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., next_change_tier_number: _Optional[int] = ..., programme_version: _Optional[str] = ...) -> None: ...

class GetStandingResponse(_message.Message):
    __slots__ = ("standing",)
    STANDING_FIELD_NUMBER: _ClassVar[int]
    standing: Standing
    def __init__(self, standing: _Optional[_Union[Standing, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("counts", "at_time")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    AT_TIME_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.RepeatedCompositeFieldContainer[TierCount]
    at_time: _timestamp_pb2.Timestamp
    def __init__(self, counts: _Optional[_Iterable[_Union[TierCount, _Mapping]]] = ..., at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListStandingsRequest(_message.Message):
    __slots__ = ("at_time", "page_size", "page_token", "causal_token", "settled")
    AT_TIME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    at_time: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    causal_token: str
    settled: bool
    def __init__(self, at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., causal_token: _Optional[str] = ..., settled: _Optional[bool] = ...) -> None: ...

class MemberStanding(_message.Message):
    __slots__ = ("member_id", "tier_number", "tier", "balance", "joined_time")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    JOINED_TIME_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    tier_number: int
    tier: str
    balance: _money_pb2.Money
    joined_time: _timestamp_pb2.Timestamp
    def __init__(self, member_id: _Optional[str] = ..., tier_number: _Optional[int] = ..., tier: _Optional[str] = ..., balance: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., joined_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("partition", "offset", "member_id", "sequence", "from_tier_number", "from_tier", "to_tier_number", "to_tier", "balance", "changed_time", "ledger_offset", "due_time", "ledger_offset_processed", "programme_version")
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
    LEDGER_OFFSET_PROCESSED_FIELD_NUMBER: _ClassVar[int]
    PROGRAMME_VERSION_FIELD_NUMBER: _ClassVar[int]
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
    ledger_offset_processed: int
    programme_version: str
    def __init__(self, partition: _Optional[int] = ..., offset: _Optional[int] = ..., member_id: _Optional[str] = ..., sequence: _Optional[int] = ..., from_tier_number: _Optional[int] = ..., from_tier: _Optional[str] = ..., to_tier_number: _Optional[int] = ..., to_tier: _Optional[str] = ..., balance: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., changed_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ledger_offset: _Optional[int] = ..., due_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ledger_offset_processed: _Optional[int] = ..., programme_version: _Optional[str] = ...) -> None: ...

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
