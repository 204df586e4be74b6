import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from loyalty.type.v1 import log_pb2 as _log_pb2
from loyalty.type.v1 import money_pb2 as _money_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LiabilityAmount(_message.Message):
    __slots__ = ("points", "value")
    POINTS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    points: int
    value: _money_pb2.Money
    def __init__(self, points: _Optional[int] = ..., value: _Optional[_Union[_money_pb2.Money, _Mapping]] = ...) -> None: ...

class LiabilityRow(_message.Message):
    __slots__ = ("expiry_month", "market", "pending_points", "available_points", "held_points", "value", "expected_breakage")
    EXPIRY_MONTH_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    PENDING_POINTS_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_POINTS_FIELD_NUMBER: _ClassVar[int]
    HELD_POINTS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_BREAKAGE_FIELD_NUMBER: _ClassVar[int]
    expiry_month: str
    market: str
    pending_points: int
    available_points: int
    held_points: int
    value: _money_pb2.Money
    expected_breakage: _money_pb2.Money
    def __init__(self, expiry_month: _Optional[str] = ..., market: _Optional[str] = ..., pending_points: _Optional[int] = ..., available_points: _Optional[int] = ..., held_points: _Optional[int] = ..., value: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., expected_breakage: _Optional[_Union[_money_pb2.Money, _Mapping]] = ...) -> None: ...

class JournalLine(_message.Message):
    __slots__ = ("date", "movement", "market", "expiry_month", "points", "value")
    DATE_FIELD_NUMBER: _ClassVar[int]
    MOVEMENT_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    EXPIRY_MONTH_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    date: str
    movement: str
    market: str
    expiry_month: str
    points: int
    value: _money_pb2.Money
    def __init__(self, date: _Optional[str] = ..., movement: _Optional[str] = ..., market: _Optional[str] = ..., expiry_month: _Optional[str] = ..., points: _Optional[int] = ..., value: _Optional[_Union[_money_pb2.Money, _Mapping]] = ...) -> None: ...

class Liability(_message.Message):
    __slots__ = ("period", "start_time", "end_time", "as_of_time", "closed", "opening", "issued", "redeemed", "expired", "adjusted", "debt_change", "revaluation", "closing", "debt_points", "point_value", "breakage_basis_points", "expected_breakage", "rows", "journal", "offsets", "known_at_time")
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    AS_OF_TIME_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    OPENING_FIELD_NUMBER: _ClassVar[int]
    ISSUED_FIELD_NUMBER: _ClassVar[int]
    REDEEMED_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    ADJUSTED_FIELD_NUMBER: _ClassVar[int]
    DEBT_CHANGE_FIELD_NUMBER: _ClassVar[int]
    REVALUATION_FIELD_NUMBER: _ClassVar[int]
    CLOSING_FIELD_NUMBER: _ClassVar[int]
    DEBT_POINTS_FIELD_NUMBER: _ClassVar[int]
    POINT_VALUE_FIELD_NUMBER: _ClassVar[int]
    BREAKAGE_BASIS_POINTS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_BREAKAGE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    KNOWN_AT_TIME_FIELD_NUMBER: _ClassVar[int]
    period: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    as_of_time: _timestamp_pb2.Timestamp
    closed: bool
    opening: LiabilityAmount
    issued: LiabilityAmount
    redeemed: LiabilityAmount
    expired: LiabilityAmount
    adjusted: LiabilityAmount
    debt_change: LiabilityAmount
    revaluation: _money_pb2.Money
    closing: LiabilityAmount
    debt_points: int
    point_value: str
    breakage_basis_points: int
    expected_breakage: _money_pb2.Money
    rows: _containers.RepeatedCompositeFieldContainer[LiabilityRow]
    journal: _containers.RepeatedCompositeFieldContainer[JournalLine]
    offsets: _containers.RepeatedCompositeFieldContainer[_log_pb2.PartitionOffset]
    known_at_time: _timestamp_pb2.Timestamp
    def __init__(self, period: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., as_of_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., closed: _Optional[bool] = ..., opening: _Optional[_Union[LiabilityAmount, _Mapping]] = ..., issued: _Optional[_Union[LiabilityAmount, _Mapping]] = ..., redeemed: _Optional[_Union[LiabilityAmount, _Mapping]] = ..., expired: _Optional[_Union[LiabilityAmount, _Mapping]] = ..., adjusted: _Optional[_Union[LiabilityAmount, _Mapping]] = ..., debt_change: _Optional[_Union[LiabilityAmount, _Mapping]] = ..., revaluation: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., closing: _Optional[_Union[LiabilityAmount, _Mapping]] = ..., debt_points: _Optional[int] = ..., point_value: _Optional[str] = ..., breakage_basis_points: _Optional[int] = ..., expected_breakage: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., rows: _Optional[_Iterable[_Union[LiabilityRow, _Mapping]]] = ..., journal: _Optional[_Iterable[_Union[JournalLine, _Mapping]]] = ..., offsets: _Optional[_Iterable[_Union[_log_pb2.PartitionOffset, _Mapping]]] = ..., known_at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
