import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LotState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOT_STATE_UNSPECIFIED: _ClassVar[LotState]
    LOT_STATE_PENDING: _ClassVar[LotState]
    LOT_STATE_AVAILABLE: _ClassVar[LotState]
    LOT_STATE_HELD: _ClassVar[LotState]
LOT_STATE_UNSPECIFIED: LotState
LOT_STATE_PENDING: LotState
LOT_STATE_AVAILABLE: LotState
LOT_STATE_HELD: LotState

class Hold(_message.Message):
    __slots__ = ("hold_id", "points", "expire_time")
    HOLD_ID_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    hold_id: str
    points: int
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, hold_id: _Optional[str] = ..., points: _Optional[int] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Lot(_message.Message):
    __slots__ = ("state", "points", "activation_date", "expiry_date", "activation_time", "expiry_time", "hold_id", "hold_expire_time")
    STATE_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_DATE_FIELD_NUMBER: _ClassVar[int]
    EXPIRY_DATE_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRY_TIME_FIELD_NUMBER: _ClassVar[int]
    HOLD_ID_FIELD_NUMBER: _ClassVar[int]
    HOLD_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    state: LotState
    points: int
    activation_date: str
    expiry_date: str
    activation_time: _timestamp_pb2.Timestamp
    expiry_time: _timestamp_pb2.Timestamp
    hold_id: str
    hold_expire_time: _timestamp_pb2.Timestamp
    def __init__(self, state: _Optional[_Union[LotState, str]] = ..., points: _Optional[int] = ..., activation_date: _Optional[str] = ..., expiry_date: _Optional[str] = ..., activation_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expiry_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., hold_id: _Optional[str] = ..., hold_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
