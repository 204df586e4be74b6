import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MemberStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMBER_STATUS_UNSPECIFIED: _ClassVar[MemberStatus]
    MEMBER_STATUS_ACTIVE: _ClassVar[MemberStatus]
    MEMBER_STATUS_RESIGNED: _ClassVar[MemberStatus]
    MEMBER_STATUS_ERASED: _ClassVar[MemberStatus]

class IdentifierKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IDENTIFIER_KIND_UNSPECIFIED: _ClassVar[IdentifierKind]
    IDENTIFIER_KIND_CARD: _ClassVar[IdentifierKind]
    IDENTIFIER_KIND_PHONE: _ClassVar[IdentifierKind]
    IDENTIFIER_KIND_EXTERNAL: _ClassVar[IdentifierKind]
MEMBER_STATUS_UNSPECIFIED: MemberStatus
MEMBER_STATUS_ACTIVE: MemberStatus
MEMBER_STATUS_RESIGNED: MemberStatus
MEMBER_STATUS_ERASED: MemberStatus
IDENTIFIER_KIND_UNSPECIFIED: IdentifierKind
IDENTIFIER_KIND_CARD: IdentifierKind
IDENTIFIER_KIND_PHONE: IdentifierKind
IDENTIFIER_KIND_EXTERNAL: IdentifierKind

class Identifier(_message.Message):
    __slots__ = ("kind", "value")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    kind: IdentifierKind
    value: str
    def __init__(self, kind: _Optional[_Union[IdentifierKind, str]] = ..., value: _Optional[str] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("member_id", "status", "joined_time", "channel", "earning_class", "balance", "market", "resigned_time", "rejoined_time", "erased_time")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    JOINED_TIME_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    EARNING_CLASS_FIELD_NUMBER: _ClassVar[int]
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    RESIGNED_TIME_FIELD_NUMBER: _ClassVar[int]
    REJOINED_TIME_FIELD_NUMBER: _ClassVar[int]
    ERASED_TIME_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    status: MemberStatus
    joined_time: _timestamp_pb2.Timestamp
    channel: str
    earning_class: str
    balance: Balance
    market: str
    resigned_time: _timestamp_pb2.Timestamp
    rejoined_time: _timestamp_pb2.Timestamp
    erased_time: _timestamp_pb2.Timestamp
    def __init__(self, member_id: _Optional[str] = ..., status: _Optional[_Union[MemberStatus, str]] = ..., joined_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., channel: _Optional[str] = ..., earning_class: _Optional[str] = ..., balance: _Optional[_Union[Balance, _Mapping]] = ..., market: _Optional[str] = ..., resigned_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., rejoined_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., erased_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Balance(_message.Message):
    __slots__ = ("available_points", "debt_points", "earned_points", "pending_points", "held_points", "redeemed_points", "next_expiry_time", "next_expiry_points")
    AVAILABLE_POINTS_FIELD_NUMBER: _ClassVar[int]
    DEBT_POINTS_FIELD_NUMBER: _ClassVar[int]
    EARNED_POINTS_FIELD_NUMBER: _ClassVar[int]
    PENDING_POINTS_FIELD_NUMBER: _ClassVar[int]
    HELD_POINTS_FIELD_NUMBER: _ClassVar[int]
    REDEEMED_POINTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_EXPIRY_TIME_FIELD_NUMBER: _ClassVar[int]
    NEXT_EXPIRY_POINTS_FIELD_NUMBER: _ClassVar[int]
    available_points: int
    debt_points: int
    earned_points: int
    pending_points: int
    held_points: int
    redeemed_points: int
    next_expiry_time: _timestamp_pb2.Timestamp
    next_expiry_points: int
    def __init__(self, available_points: _Optional[int] = ..., debt_points: _Optional[int] = ..., earned_points: _Optional[int] = ..., pending_points: _Optional[int] = ..., held_points: _Optional[int] = ..., redeemed_points: _Optional[int] = ..., next_expiry_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., next_expiry_points: _Optional[int] = ...) -> None: ...
