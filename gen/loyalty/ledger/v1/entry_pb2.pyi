import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from loyalty.type.v1 import money_pb2 as _money_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EntryKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTRY_KIND_UNSPECIFIED: _ClassVar[EntryKind]
    ENTRY_KIND_MEMBER_JOINED: _ClassVar[EntryKind]
    ENTRY_KIND_PURCHASE_RECORDED: _ClassVar[EntryKind]
    ENTRY_KIND_RETURN_RECORDED: _ClassVar[EntryKind]
    ENTRY_KIND_RETURN_WAITING: _ClassVar[EntryKind]
    ENTRY_KIND_POINTS_AWARDED: _ClassVar[EntryKind]
    ENTRY_KIND_EARNING_CLASS_SET: _ClassVar[EntryKind]
    ENTRY_KIND_REQUEST_REFUSED: _ClassVar[EntryKind]
    ENTRY_KIND_CLOCK_ADVANCED: _ClassVar[EntryKind]
    ENTRY_KIND_POINTS_ACTIVATED: _ClassVar[EntryKind]
    ENTRY_KIND_POINTS_EXPIRED: _ClassVar[EntryKind]
    ENTRY_KIND_POINTS_REDEEMED: _ClassVar[EntryKind]
    ENTRY_KIND_REDEMPTION_REVERSED: _ClassVar[EntryKind]
    ENTRY_KIND_POINTS_HELD: _ClassVar[EntryKind]
    ENTRY_KIND_HOLD_CAPTURED: _ClassVar[EntryKind]
    ENTRY_KIND_HOLD_RELEASED: _ClassVar[EntryKind]
    ENTRY_KIND_HOLD_EXTENDED: _ClassVar[EntryKind]
    ENTRY_KIND_HOLD_EXPIRED: _ClassVar[EntryKind]
    ENTRY_KIND_POINTS_ADJUSTED: _ClassVar[EntryKind]
    ENTRY_KIND_ADJUSTMENT_REQUESTED: _ClassVar[EntryKind]
    ENTRY_KIND_PURCHASE_VOIDED: _ClassVar[EntryKind]
    ENTRY_KIND_ADJUSTMENT_DECLINED: _ClassVar[EntryKind]
    ENTRY_KIND_POINTS_RESTORED: _ClassVar[EntryKind]
    ENTRY_KIND_MEMBER_RESIGNED: _ClassVar[EntryKind]
    ENTRY_KIND_MEMBER_REJOINED: _ClassVar[EntryKind]
    ENTRY_KIND_ACTIVITY_RECORDED: _ClassVar[EntryKind]
    ENTRY_KIND_MEMBERSHIP_FEE_RECORDED: _ClassVar[EntryKind]
    ENTRY_KIND_PROGRAMME_APPLIED: _ClassVar[EntryKind]
    ENTRY_KIND_IDENTIFIER_LINKED: _ClassVar[EntryKind]
    ENTRY_KIND_IDENTIFIER_UNLINKED: _ClassVar[EntryKind]
    ENTRY_KIND_MEMBER_ERASED: _ClassVar[EntryKind]

class Account(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCOUNT_UNSPECIFIED: _ClassVar[Account]
    ACCOUNT_AVAILABLE: _ClassVar[Account]
    ACCOUNT_DEBT: _ClassVar[Account]
    ACCOUNT_ISSUED: _ClassVar[Account]
    ACCOUNT_PENDING: _ClassVar[Account]
    ACCOUNT_HELD: _ClassVar[Account]
    ACCOUNT_REDEEMED: _ClassVar[Account]
    ACCOUNT_EXPIRED: _ClassVar[Account]
    ACCOUNT_ADJUSTED: _ClassVar[Account]

class EntryFlag(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTRY_FLAG_UNSPECIFIED: _ClassVar[EntryFlag]
    ENTRY_FLAG_BACK_DATED: _ClassVar[EntryFlag]
    ENTRY_FLAG_OFFLINE_OVERDRAWN: _ClassVar[EntryFlag]
    ENTRY_FLAG_RESTORES_EXPIRED: _ClassVar[EntryFlag]
ENTRY_KIND_UNSPECIFIED: EntryKind
ENTRY_KIND_MEMBER_JOINED: EntryKind
ENTRY_KIND_PURCHASE_RECORDED: EntryKind
ENTRY_KIND_RETURN_RECORDED: EntryKind
ENTRY_KIND_RETURN_WAITING: EntryKind
ENTRY_KIND_POINTS_AWARDED: EntryKind
ENTRY_KIND_EARNING_CLASS_SET: EntryKind
ENTRY_KIND_REQUEST_REFUSED: EntryKind
ENTRY_KIND_CLOCK_ADVANCED: EntryKind
ENTRY_KIND_POINTS_ACTIVATED: EntryKind
ENTRY_KIND_POINTS_EXPIRED: EntryKind
ENTRY_KIND_POINTS_REDEEMED: EntryKind
ENTRY_KIND_REDEMPTION_REVERSED: EntryKind
ENTRY_KIND_POINTS_HELD: EntryKind
ENTRY_KIND_HOLD_CAPTURED: EntryKind
ENTRY_KIND_HOLD_RELEASED: EntryKind
ENTRY_KIND_HOLD_EXTENDED: EntryKind
ENTRY_KIND_HOLD_EXPIRED: EntryKind
ENTRY_KIND_POINTS_ADJUSTED: EntryKind
ENTRY_KIND_ADJUSTMENT_REQUESTED: EntryKind
ENTRY_KIND_PURCHASE_VOIDED: EntryKind
ENTRY_KIND_ADJUSTMENT_DECLINED: EntryKind
ENTRY_KIND_POINTS_RESTORED: EntryKind
ENTRY_KIND_MEMBER_RESIGNED: EntryKind
ENTRY_KIND_MEMBER_REJOINED: EntryKind
ENTRY_KIND_ACTIVITY_RECORDED: EntryKind
ENTRY_KIND_MEMBERSHIP_FEE_RECORDED: EntryKind
ENTRY_KIND_PROGRAMME_APPLIED: EntryKind
ENTRY_KIND_IDENTIFIER_LINKED: EntryKind
ENTRY_KIND_IDENTIFIER_UNLINKED: EntryKind
ENTRY_KIND_MEMBER_ERASED: EntryKind
ACCOUNT_UNSPECIFIED: Account
ACCOUNT_AVAILABLE: Account
ACCOUNT_DEBT: Account
ACCOUNT_ISSUED: Account
ACCOUNT_PENDING: Account
ACCOUNT_HELD: Account
ACCOUNT_REDEEMED: Account
ACCOUNT_EXPIRED: Account
ACCOUNT_ADJUSTED: Account
ENTRY_FLAG_UNSPECIFIED: EntryFlag
ENTRY_FLAG_BACK_DATED: EntryFlag
ENTRY_FLAG_OFFLINE_OVERDRAWN: EntryFlag
ENTRY_FLAG_RESTORES_EXPIRED: EntryFlag

class Posting(_message.Message):
    __slots__ = ("account", "points", "activation_date", "expiry_date")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_DATE_FIELD_NUMBER: _ClassVar[int]
    EXPIRY_DATE_FIELD_NUMBER: _ClassVar[int]
    account: Account
    points: int
    activation_date: str
    expiry_date: str
    def __init__(self, account: _Optional[_Union[Account, str]] = ..., points: _Optional[int] = ..., activation_date: _Optional[str] = ..., expiry_date: _Optional[str] = ...) -> None: ...

class RulePoints(_message.Message):
    __slots__ = ("rule", "points", "reason")
    RULE_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    rule: str
    points: int
    reason: str
    def __init__(self, rule: _Optional[str] = ..., points: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class PointsPayment(_message.Message):
    __slots__ = ("redemption_id", "points", "amount")
    REDEMPTION_ID_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    redemption_id: str
    points: int
    amount: _money_pb2.Money
    def __init__(self, redemption_id: _Optional[str] = ..., points: _Optional[int] = ..., amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ...) -> None: ...

class EntryDetail(_message.Message):
    __slots__ = ("store_id", "receipt_number", "note", "erased", "activity_reference", "identifier_id")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    ERASED_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_REFERENCE_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_ID_FIELD_NUMBER: _ClassVar[int]
    store_id: str
    receipt_number: str
    note: str
    erased: bool
    activity_reference: str
    identifier_id: str
    def __init__(self, store_id: _Optional[str] = ..., receipt_number: _Optional[str] = ..., note: _Optional[str] = ..., erased: _Optional[bool] = ..., activity_reference: _Optional[str] = ..., identifier_id: _Optional[str] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("partition", "offset", "kind", "member_id", "request_id", "principal", "on_behalf_of", "occurred_time", "recorded_time", "programme_version", "purchase_id", "amount", "goods_paid", "postings", "rules", "available_points_after", "debt_points_after", "earning_class", "effective_time", "reason", "detail_commitment", "hash", "channel", "pending_points_after", "held_points_after", "reference", "expire_time", "flags", "exchange_id", "requested_points", "detail", "market", "points_payment")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    ON_BEHALF_OF_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    RECORDED_TIME_FIELD_NUMBER: _ClassVar[int]
    PROGRAMME_VERSION_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    GOODS_PAID_FIELD_NUMBER: _ClassVar[int]
    POSTINGS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_POINTS_AFTER_FIELD_NUMBER: _ClassVar[int]
    DEBT_POINTS_AFTER_FIELD_NUMBER: _ClassVar[int]
    EARNING_CLASS_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_TIME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    PENDING_POINTS_AFTER_FIELD_NUMBER: _ClassVar[int]
    HELD_POINTS_AFTER_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_POINTS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    POINTS_PAYMENT_FIELD_NUMBER: _ClassVar[int]
    partition: int
    offset: int
    kind: EntryKind
    member_id: str
    request_id: str
    principal: str
    on_behalf_of: str
    occurred_time: _timestamp_pb2.Timestamp
    recorded_time: _timestamp_pb2.Timestamp
    programme_version: str
    purchase_id: str
    amount: _money_pb2.Money
    goods_paid: _money_pb2.Money
    postings: _containers.RepeatedCompositeFieldContainer[Posting]
    rules: _containers.RepeatedCompositeFieldContainer[RulePoints]
    available_points_after: int
    debt_points_after: int
    earning_class: str
    effective_time: _timestamp_pb2.Timestamp
    reason: str
    detail_commitment: bytes
    hash: bytes
    channel: str
    pending_points_after: int
    held_points_after: int
    reference: str
    expire_time: _timestamp_pb2.Timestamp
    flags: _containers.RepeatedScalarFieldContainer[EntryFlag]
    exchange_id: str
    requested_points: int
    detail: EntryDetail
    market: str
    points_payment: PointsPayment
    def __init__(self, partition: _Optional[int] = ..., offset: _Optional[int] = ..., kind: _Optional[_Union[EntryKind, str]] = ..., member_id: _Optional[str] = ..., request_id: _Optional[str] = ..., principal: _Optional[str] = ..., on_behalf_of: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., recorded_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., programme_version: _Optional[str] = ..., purchase_id: _Optional[str] = ..., amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., goods_paid: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., postings: _Optional[_Iterable[_Union[Posting, _Mapping]]] = ..., rules: _Optional[_Iterable[_Union[RulePoints, _Mapping]]] = ..., available_points_after: _Optional[int] = ..., debt_points_after: _Optional[int] = ..., earning_class: _Optional[str] = ..., effective_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ..., detail_commitment: _Optional[bytes] = ..., hash: _Optional[bytes] = ..., channel: _Optional[str] = ..., pending_points_after: _Optional[int] = ..., held_points_after: _Optional[int] = ..., reference: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., flags: _Optional[_Iterable[_Union[EntryFlag, str]]] = ..., exchange_id: _Optional[str] = ..., requested_points: _Optional[int] = ..., detail: _Optional[_Union[EntryDetail, _Mapping]] = ..., market: _Optional[str] = ..., points_payment: _Optional[_Union[PointsPayment, _Mapping]] = ...) -> None: ...
