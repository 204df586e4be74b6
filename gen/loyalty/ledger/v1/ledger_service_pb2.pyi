import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from loyalty.ledger.v1 import entry_pb2 as _entry_pb2
from loyalty.ledger.v1 import liability_pb2 as _liability_pb2
from loyalty.ledger.v1 import lot_pb2 as _lot_pb2
from loyalty.ledger.v1 import member_pb2 as _member_pb2
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

class UnlinkReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNLINK_REASON_UNSPECIFIED: _ClassVar[UnlinkReason]
    UNLINK_REASON_LOST: _ClassVar[UnlinkReason]
    UNLINK_REASON_STOLEN: _ClassVar[UnlinkReason]
    UNLINK_REASON_REPLACED: _ClassVar[UnlinkReason]
    UNLINK_REASON_OTHER: _ClassVar[UnlinkReason]

class LineKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LINE_KIND_UNSPECIFIED: _ClassVar[LineKind]
    LINE_KIND_GOODS: _ClassVar[LineKind]
    LINE_KIND_SHIPPING: _ClassVar[LineKind]
    LINE_KIND_GIFT_CARD: _ClassVar[LineKind]

class ReturnState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RETURN_STATE_UNSPECIFIED: _ClassVar[ReturnState]
    RETURN_STATE_RECORDED: _ClassVar[ReturnState]
    RETURN_STATE_WAITING: _ClassVar[ReturnState]

class AdjustmentState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ADJUSTMENT_STATE_UNSPECIFIED: _ClassVar[AdjustmentState]
    ADJUSTMENT_STATE_APPLIED: _ClassVar[AdjustmentState]
    ADJUSTMENT_STATE_AWAITING_APPROVAL: _ClassVar[AdjustmentState]
    ADJUSTMENT_STATE_DECLINED: _ClassVar[AdjustmentState]

class ClockMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLOCK_MODE_UNSPECIFIED: _ClassVar[ClockMode]
    CLOCK_MODE_REAL: _ClassVar[ClockMode]
    CLOCK_MODE_SIMULATED: _ClassVar[ClockMode]
UNLINK_REASON_UNSPECIFIED: UnlinkReason
UNLINK_REASON_LOST: UnlinkReason
UNLINK_REASON_STOLEN: UnlinkReason
UNLINK_REASON_REPLACED: UnlinkReason
UNLINK_REASON_OTHER: UnlinkReason
LINE_KIND_UNSPECIFIED: LineKind
LINE_KIND_GOODS: LineKind
LINE_KIND_SHIPPING: LineKind
LINE_KIND_GIFT_CARD: LineKind
RETURN_STATE_UNSPECIFIED: ReturnState
RETURN_STATE_RECORDED: ReturnState
RETURN_STATE_WAITING: ReturnState
ADJUSTMENT_STATE_UNSPECIFIED: AdjustmentState
ADJUSTMENT_STATE_APPLIED: AdjustmentState
ADJUSTMENT_STATE_AWAITING_APPROVAL: AdjustmentState
ADJUSTMENT_STATE_DECLINED: AdjustmentState
CLOCK_MODE_UNSPECIFIED: ClockMode
CLOCK_MODE_REAL: ClockMode
CLOCK_MODE_SIMULATED: ClockMode

class EnrollMemberRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "occurred_time", "channel", "market")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    MARKET_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    occurred_time: _timestamp_pb2.Timestamp
    channel: str
    market: str
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., channel: _Optional[str] = ..., market: _Optional[str] = ...) -> None: ...

class EnrollMemberResponse(_message.Message):
    __slots__ = ("member", "receipt", "causal_token", "replayed")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    member: _member_pb2.Member
    receipt: Receipt
    causal_token: str
    replayed: bool
    def __init__(self, member: _Optional[_Union[_member_pb2.Member, _Mapping]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class ResignMemberRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "occurred_time", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    occurred_time: _timestamp_pb2.Timestamp
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class ResignMemberResponse(_message.Message):
    __slots__ = ("receipt", "causal_token", "replayed")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    causal_token: str
    replayed: bool
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class RejoinMemberRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "occurred_time", "channel")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    occurred_time: _timestamp_pb2.Timestamp
    channel: str
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., channel: _Optional[str] = ...) -> None: ...

class RejoinMemberResponse(_message.Message):
    __slots__ = ("receipt", "causal_token", "replayed")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    causal_token: str
    replayed: bool
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class GetMemberRequest(_message.Message):
    __slots__ = ("member_id",)
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    def __init__(self, member_id: _Optional[str] = ...) -> None: ...

class GetMemberResponse(_message.Message):
    __slots__ = ("member",)
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    member: _member_pb2.Member
    def __init__(self, member: _Optional[_Union[_member_pb2.Member, _Mapping]] = ...) -> None: ...

class LinkIdentifierRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "identifier")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    identifier: _member_pb2.Identifier
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., identifier: _Optional[_Union[_member_pb2.Identifier, _Mapping]] = ...) -> None: ...

class LinkIdentifierResponse(_message.Message):
    __slots__ = ("identifier_id", "applied", "causal_token", "replayed")
    IDENTIFIER_ID_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    identifier_id: str
    applied: bool
    causal_token: str
    replayed: bool
    def __init__(self, identifier_id: _Optional[str] = ..., applied: _Optional[bool] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class UnlinkIdentifierRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "identifier", "identifier_id", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    identifier: _member_pb2.Identifier
    identifier_id: str
    reason: UnlinkReason
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., identifier: _Optional[_Union[_member_pb2.Identifier, _Mapping]] = ..., identifier_id: _Optional[str] = ..., reason: _Optional[_Union[UnlinkReason, str]] = ...) -> None: ...

class UnlinkIdentifierResponse(_message.Message):
    __slots__ = ("identifier_id", "applied", "causal_token", "replayed")
    IDENTIFIER_ID_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    identifier_id: str
    applied: bool
    causal_token: str
    replayed: bool
    def __init__(self, identifier_id: _Optional[str] = ..., applied: _Optional[bool] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class LookupMemberRequest(_message.Message):
    __slots__ = ("identifier",)
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    identifier: _member_pb2.Identifier
    def __init__(self, identifier: _Optional[_Union[_member_pb2.Identifier, _Mapping]] = ...) -> None: ...

class LookupMemberResponse(_message.Message):
    __slots__ = ("member",)
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    member: _member_pb2.Member
    def __init__(self, member: _Optional[_Union[_member_pb2.Member, _Mapping]] = ...) -> None: ...

class EraseMemberRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class EraseMemberResponse(_message.Message):
    __slots__ = ("erased_time", "causal_token", "replayed")
    ERASED_TIME_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    erased_time: _timestamp_pb2.Timestamp
    causal_token: str
    replayed: bool
    def __init__(self, erased_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class Line(_message.Message):
    __slots__ = ("sku", "name", "department", "category", "quantity", "amount_minor_units", "kind")
    SKU_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEPARTMENT_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_MINOR_UNITS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    sku: str
    name: str
    department: str
    category: str
    quantity: int
    amount_minor_units: int
    kind: LineKind
    def __init__(self, sku: _Optional[str] = ..., name: _Optional[str] = ..., department: _Optional[str] = ..., category: _Optional[str] = ..., quantity: _Optional[int] = ..., amount_minor_units: _Optional[int] = ..., kind: _Optional[_Union[LineKind, str]] = ...) -> None: ...

class QuotePurchaseRequest(_message.Message):
    __slots__ = ("member_id", "occurred_time", "amount", "lines", "channel", "store_id", "points_payment")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    POINTS_PAYMENT_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    occurred_time: _timestamp_pb2.Timestamp
    amount: _money_pb2.Money
    lines: _containers.RepeatedCompositeFieldContainer[Line]
    channel: str
    store_id: str
    points_payment: _entry_pb2.PointsPayment
    def __init__(self, member_id: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., lines: _Optional[_Iterable[_Union[Line, _Mapping]]] = ..., channel: _Optional[str] = ..., store_id: _Optional[str] = ..., points_payment: _Optional[_Union[_entry_pb2.PointsPayment, _Mapping]] = ...) -> None: ...

class QuotePurchaseResponse(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ...) -> None: ...

class RecordPurchaseRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "purchase_id", "occurred_time", "amount", "lines", "store_id", "receipt_number", "channel", "exchange_id", "points_payment")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_ID_FIELD_NUMBER: _ClassVar[int]
    POINTS_PAYMENT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    purchase_id: str
    occurred_time: _timestamp_pb2.Timestamp
    amount: _money_pb2.Money
    lines: _containers.RepeatedCompositeFieldContainer[Line]
    store_id: str
    receipt_number: str
    channel: str
    exchange_id: str
    points_payment: _entry_pb2.PointsPayment
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., purchase_id: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., lines: _Optional[_Iterable[_Union[Line, _Mapping]]] = ..., store_id: _Optional[str] = ..., receipt_number: _Optional[str] = ..., channel: _Optional[str] = ..., exchange_id: _Optional[str] = ..., points_payment: _Optional[_Union[_entry_pb2.PointsPayment, _Mapping]] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("member_id", "purchase_id", "partition", "offset", "occurred_time", "points", "rules", "debt_points_change", "available_points", "debt_points", "pending_points", "held_points")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    DEBT_POINTS_CHANGE_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_POINTS_FIELD_NUMBER: _ClassVar[int]
    DEBT_POINTS_FIELD_NUMBER: _ClassVar[int]
    PENDING_POINTS_FIELD_NUMBER: _ClassVar[int]
    HELD_POINTS_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    purchase_id: str
    partition: int
    offset: int
    occurred_time: _timestamp_pb2.Timestamp
    points: int
    rules: _containers.RepeatedCompositeFieldContainer[_entry_pb2.RulePoints]
    debt_points_change: int
    available_points: int
    debt_points: int
    pending_points: int
    held_points: int
    def __init__(self, member_id: _Optional[str] = ..., purchase_id: _Optional[str] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., points: _Optional[int] = ..., rules: _Optional[_Iterable[_Union[_entry_pb2.RulePoints, _Mapping]]] = ..., debt_points_change: _Optional[int] = ..., available_points: _Optional[int] = ..., debt_points: _Optional[int] = ..., pending_points: _Optional[int] = ..., held_points: _Optional[int] = ...) -> None: ...

class RecordPurchaseResponse(_message.Message):
    __slots__ = ("receipt", "causal_token", "replayed")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    causal_token: str
    replayed: bool
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class VoidPurchaseRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "purchase_id", "occurred_time", "store_id", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    purchase_id: str
    occurred_time: _timestamp_pb2.Timestamp
    store_id: str
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., purchase_id: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., store_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class VoidPurchaseResponse(_message.Message):
    __slots__ = ("receipt", "causal_token", "replayed", "refund_amount", "points_returned")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    REFUND_AMOUNT_FIELD_NUMBER: _ClassVar[int]
    POINTS_RETURNED_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    causal_token: str
    replayed: bool
    refund_amount: _money_pb2.Money
    points_returned: int
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ..., refund_amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., points_returned: _Optional[int] = ...) -> None: ...

class PurchaseLine(_message.Message):
    __slots__ = ("line_number", "line", "returned_quantity", "returned_amount_minor_units")
    LINE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    RETURNED_QUANTITY_FIELD_NUMBER: _ClassVar[int]
    RETURNED_AMOUNT_MINOR_UNITS_FIELD_NUMBER: _ClassVar[int]
    line_number: int
    line: Line
    returned_quantity: int
    returned_amount_minor_units: int
    def __init__(self, line_number: _Optional[int] = ..., line: _Optional[_Union[Line, _Mapping]] = ..., returned_quantity: _Optional[int] = ..., returned_amount_minor_units: _Optional[int] = ...) -> None: ...

class Purchase(_message.Message):
    __slots__ = ("member_id", "purchase_id", "occurred_time", "amount", "goods_paid", "returned_amount", "lines", "rules", "returned_points", "store_id", "receipt_number", "channel", "voided", "partition", "offset", "exchange_id", "points_payment", "payment_points_returned", "payment_amount_returned")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    GOODS_PAID_FIELD_NUMBER: _ClassVar[int]
    RETURNED_AMOUNT_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    RETURNED_POINTS_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    VOIDED_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_ID_FIELD_NUMBER: _ClassVar[int]
    POINTS_PAYMENT_FIELD_NUMBER: _ClassVar[int]
    PAYMENT_POINTS_RETURNED_FIELD_NUMBER: _ClassVar[int]
    PAYMENT_AMOUNT_RETURNED_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    purchase_id: str
    occurred_time: _timestamp_pb2.Timestamp
    amount: _money_pb2.Money
    goods_paid: _money_pb2.Money
    returned_amount: _money_pb2.Money
    lines: _containers.RepeatedCompositeFieldContainer[PurchaseLine]
    rules: _containers.RepeatedCompositeFieldContainer[_entry_pb2.RulePoints]
    returned_points: int
    store_id: str
    receipt_number: str
    channel: str
    voided: bool
    partition: int
    offset: int
    exchange_id: str
    points_payment: _entry_pb2.PointsPayment
    payment_points_returned: int
    payment_amount_returned: _money_pb2.Money
    def __init__(self, member_id: _Optional[str] = ..., purchase_id: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., goods_paid: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., returned_amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., lines: _Optional[_Iterable[_Union[PurchaseLine, _Mapping]]] = ..., rules: _Optional[_Iterable[_Union[_entry_pb2.RulePoints, _Mapping]]] = ..., returned_points: _Optional[int] = ..., store_id: _Optional[str] = ..., receipt_number: _Optional[str] = ..., channel: _Optional[str] = ..., voided: _Optional[bool] = ..., partition: _Optional[int] = ..., offset: _Optional[int] = ..., exchange_id: _Optional[str] = ..., points_payment: _Optional[_Union[_entry_pb2.PointsPayment, _Mapping]] = ..., payment_points_returned: _Optional[int] = ..., payment_amount_returned: _Optional[_Union[_money_pb2.Money, _Mapping]] = ...) -> None: ...

class GetPurchaseRequest(_message.Message):
    __slots__ = ("member_id", "purchase_id")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    purchase_id: str
    def __init__(self, member_id: _Optional[str] = ..., purchase_id: _Optional[str] = ...) -> None: ...

class GetPurchaseResponse(_message.Message):
    __slots__ = ("purchase",)
    PURCHASE_FIELD_NUMBER: _ClassVar[int]
    purchase: Purchase
    def __init__(self, purchase: _Optional[_Union[Purchase, _Mapping]] = ...) -> None: ...

class ListPurchasesRequest(_message.Message):
    __slots__ = ("member_id", "receipt_number", "page_size", "page_token")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    receipt_number: str
    page_size: int
    page_token: str
    def __init__(self, member_id: _Optional[str] = ..., receipt_number: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPurchasesResponse(_message.Message):
    __slots__ = ("purchases", "next_page_token")
    PURCHASES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    purchases: _containers.RepeatedCompositeFieldContainer[Purchase]
    next_page_token: str
    def __init__(self, purchases: _Optional[_Iterable[_Union[Purchase, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ReturnedLine(_message.Message):
    __slots__ = ("line_number", "quantity", "amount_minor_units")
    LINE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_MINOR_UNITS_FIELD_NUMBER: _ClassVar[int]
    line_number: int
    quantity: int
    amount_minor_units: int
    def __init__(self, line_number: _Optional[int] = ..., quantity: _Optional[int] = ..., amount_minor_units: _Optional[int] = ...) -> None: ...

class RecordReturnRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "purchase_id", "occurred_time", "amount", "lines", "store_id", "receipt_number", "reason", "channel", "returned_lines", "exchange_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    RETURNED_LINES_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    purchase_id: str
    occurred_time: _timestamp_pb2.Timestamp
    amount: _money_pb2.Money
    lines: _containers.RepeatedCompositeFieldContainer[Line]
    store_id: str
    receipt_number: str
    reason: str
    channel: str
    returned_lines: _containers.RepeatedCompositeFieldContainer[ReturnedLine]
    exchange_id: str
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., purchase_id: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., lines: _Optional[_Iterable[_Union[Line, _Mapping]]] = ..., store_id: _Optional[str] = ..., receipt_number: _Optional[str] = ..., reason: _Optional[str] = ..., channel: _Optional[str] = ..., returned_lines: _Optional[_Iterable[_Union[ReturnedLine, _Mapping]]] = ..., exchange_id: _Optional[str] = ...) -> None: ...

class RecordReturnResponse(_message.Message):
    __slots__ = ("state", "receipt", "causal_token", "replayed", "refund_amount", "points_returned")
    STATE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    REFUND_AMOUNT_FIELD_NUMBER: _ClassVar[int]
    POINTS_RETURNED_FIELD_NUMBER: _ClassVar[int]
    state: ReturnState
    receipt: Receipt
    causal_token: str
    replayed: bool
    refund_amount: _money_pb2.Money
    points_returned: int
    def __init__(self, state: _Optional[_Union[ReturnState, str]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ..., refund_amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., points_returned: _Optional[int] = ...) -> None: ...

class RecordActivityRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "activity", "reference", "channel", "occurred_time")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    activity: str
    reference: str
    channel: str
    occurred_time: _timestamp_pb2.Timestamp
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., activity: _Optional[str] = ..., reference: _Optional[str] = ..., channel: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RecordActivityResponse(_message.Message):
    __slots__ = ("receipt", "causal_token", "replayed")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    causal_token: str
    replayed: bool
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class RecordMembershipFeeRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "plan", "amount", "start_time", "end_time", "occurred_time")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    plan: str
    amount: _money_pb2.Money
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    occurred_time: _timestamp_pb2.Timestamp
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., plan: _Optional[str] = ..., amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RecordMembershipFeeResponse(_message.Message):
    __slots__ = ("receipt", "causal_token", "replayed")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    causal_token: str
    replayed: bool
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class AwardPointsRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "occurred_time", "points", "reason", "note", "purchase_id", "lasting")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    LASTING_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    occurred_time: _timestamp_pb2.Timestamp
    points: int
    reason: str
    note: str
    purchase_id: str
    lasting: str
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., points: _Optional[int] = ..., reason: _Optional[str] = ..., note: _Optional[str] = ..., purchase_id: _Optional[str] = ..., lasting: _Optional[str] = ...) -> None: ...

class AwardPointsResponse(_message.Message):
    __slots__ = ("receipt", "causal_token", "replayed")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    causal_token: str
    replayed: bool
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class RedeemPointsRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "points", "occurred_time", "reason", "note", "purchase_id", "store_id", "channel", "offline")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    points: int
    occurred_time: _timestamp_pb2.Timestamp
    reason: str
    note: str
    purchase_id: str
    store_id: str
    channel: str
    offline: bool
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., points: _Optional[int] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ..., note: _Optional[str] = ..., purchase_id: _Optional[str] = ..., store_id: _Optional[str] = ..., channel: _Optional[str] = ..., offline: _Optional[bool] = ...) -> None: ...

class RedeemPointsResponse(_message.Message):
    __slots__ = ("receipt", "redemption_id", "causal_token", "replayed")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    REDEMPTION_ID_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    redemption_id: str
    causal_token: str
    replayed: bool
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., redemption_id: _Optional[str] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class ReverseRedemptionRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "redemption_id", "points", "occurred_time", "reason", "note")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    REDEMPTION_ID_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    redemption_id: str
    points: int
    occurred_time: _timestamp_pb2.Timestamp
    reason: str
    note: str
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., redemption_id: _Optional[str] = ..., points: _Optional[int] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ..., note: _Optional[str] = ...) -> None: ...

class ReverseRedemptionResponse(_message.Message):
    __slots__ = ("receipt", "causal_token", "replayed")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    causal_token: str
    replayed: bool
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class HoldPointsRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "points", "ttl", "occurred_time", "reason", "purchase_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    points: int
    ttl: _duration_pb2.Duration
    occurred_time: _timestamp_pb2.Timestamp
    reason: str
    purchase_id: str
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., points: _Optional[int] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ..., purchase_id: _Optional[str] = ...) -> None: ...

class HoldPointsResponse(_message.Message):
    __slots__ = ("hold", "receipt", "causal_token", "replayed")
    HOLD_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    hold: _lot_pb2.Hold
    receipt: Receipt
    causal_token: str
    replayed: bool
    def __init__(self, hold: _Optional[_Union[_lot_pb2.Hold, _Mapping]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class CaptureHoldRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "hold_id", "points", "occurred_time", "reason", "purchase_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    HOLD_ID_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    hold_id: str
    points: int
    occurred_time: _timestamp_pb2.Timestamp
    reason: str
    purchase_id: str
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., hold_id: _Optional[str] = ..., points: _Optional[int] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ..., purchase_id: _Optional[str] = ...) -> None: ...

class CaptureHoldResponse(_message.Message):
    __slots__ = ("receipt", "redemption_id", "hold", "causal_token", "replayed")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    REDEMPTION_ID_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    redemption_id: str
    hold: _lot_pb2.Hold
    causal_token: str
    replayed: bool
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., redemption_id: _Optional[str] = ..., hold: _Optional[_Union[_lot_pb2.Hold, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class ReleaseHoldRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "hold_id", "points", "occurred_time")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    HOLD_ID_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    hold_id: str
    points: int
    occurred_time: _timestamp_pb2.Timestamp
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., hold_id: _Optional[str] = ..., points: _Optional[int] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ReleaseHoldResponse(_message.Message):
    __slots__ = ("hold", "receipt", "causal_token", "replayed")
    HOLD_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    hold: _lot_pb2.Hold
    receipt: Receipt
    causal_token: str
    replayed: bool
    def __init__(self, hold: _Optional[_Union[_lot_pb2.Hold, _Mapping]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class ExtendHoldRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "hold_id", "ttl", "occurred_time")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    HOLD_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    hold_id: str
    ttl: _duration_pb2.Duration
    occurred_time: _timestamp_pb2.Timestamp
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., hold_id: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ExtendHoldResponse(_message.Message):
    __slots__ = ("hold", "receipt", "causal_token", "replayed")
    HOLD_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    hold: _lot_pb2.Hold
    receipt: Receipt
    causal_token: str
    replayed: bool
    def __init__(self, hold: _Optional[_Union[_lot_pb2.Hold, _Mapping]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class AdjustPointsRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "points", "reason", "note", "occurred_time", "approves", "declines", "restores_expired")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    APPROVES_FIELD_NUMBER: _ClassVar[int]
    DECLINES_FIELD_NUMBER: _ClassVar[int]
    RESTORES_EXPIRED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    points: int
    reason: str
    note: str
    occurred_time: _timestamp_pb2.Timestamp
    approves: str
    declines: str
    restores_expired: bool
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., points: _Optional[int] = ..., reason: _Optional[str] = ..., note: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., approves: _Optional[str] = ..., declines: _Optional[str] = ..., restores_expired: _Optional[bool] = ...) -> None: ...

class AdjustPointsResponse(_message.Message):
    __slots__ = ("state", "adjustment_id", "receipt", "causal_token", "replayed")
    STATE_FIELD_NUMBER: _ClassVar[int]
    ADJUSTMENT_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    state: AdjustmentState
    adjustment_id: str
    receipt: Receipt
    causal_token: str
    replayed: bool
    def __init__(self, state: _Optional[_Union[AdjustmentState, str]] = ..., adjustment_id: _Optional[str] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class Write(_message.Message):
    __slots__ = ("enroll_member", "record_purchase", "record_return", "award_points", "set_earning_class", "redeem_points", "reverse_redemption", "hold_points", "capture_hold", "release_hold", "extend_hold", "adjust_points", "void_purchase", "resign_member", "rejoin_member", "record_activity", "record_membership_fee")
    ENROLL_MEMBER_FIELD_NUMBER: _ClassVar[int]
    RECORD_PURCHASE_FIELD_NUMBER: _ClassVar[int]
    RECORD_RETURN_FIELD_NUMBER: _ClassVar[int]
    AWARD_POINTS_FIELD_NUMBER: _ClassVar[int]
    SET_EARNING_CLASS_FIELD_NUMBER: _ClassVar[int]
    REDEEM_POINTS_FIELD_NUMBER: _ClassVar[int]
    REVERSE_REDEMPTION_FIELD_NUMBER: _ClassVar[int]
    HOLD_POINTS_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_HOLD_FIELD_NUMBER: _ClassVar[int]
    RELEASE_HOLD_FIELD_NUMBER: _ClassVar[int]
    EXTEND_HOLD_FIELD_NUMBER: _ClassVar[int]
    ADJUST_POINTS_FIELD_NUMBER: _ClassVar[int]
    VOID_PURCHASE_FIELD_NUMBER: _ClassVar[int]
    RESIGN_MEMBER_FIELD_NUMBER: _ClassVar[int]
    REJOIN_MEMBER_FIELD_NUMBER: _ClassVar[int]
    RECORD_ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    RECORD_MEMBERSHIP_FEE_FIELD_NUMBER: _ClassVar[int]
    enroll_member: EnrollMemberRequest
    record_purchase: RecordPurchaseRequest
    record_return: RecordReturnRequest
    award_points: AwardPointsRequest
    set_earning_class: SetEarningClassRequest
    redeem_points: RedeemPointsRequest
    reverse_redemption: ReverseRedemptionRequest
    hold_points: HoldPointsRequest
    capture_hold: CaptureHoldRequest
    release_hold: ReleaseHoldRequest
    extend_hold: ExtendHoldRequest
    adjust_points: AdjustPointsRequest
    void_purchase: VoidPurchaseRequest
    resign_member: ResignMemberRequest
    rejoin_member: RejoinMemberRequest
    record_activity: RecordActivityRequest
    record_membership_fee: RecordMembershipFeeRequest
    def __init__(self, enroll_member: _Optional[_Union[EnrollMemberRequest, _Mapping]] = ..., record_purchase: _Optional[_Union[RecordPurchaseRequest, _Mapping]] = ..., record_return: _Optional[_Union[RecordReturnRequest, _Mapping]] = ..., award_points: _Optional[_Union[AwardPointsRequest, _Mapping]] = ..., set_earning_class: _Optional[_Union[SetEarningClassRequest, _Mapping]] = ..., redeem_points: _Optional[_Union[RedeemPointsRequest, _Mapping]] = ..., reverse_redemption: _Optional[_Union[ReverseRedemptionRequest, _Mapping]] = ..., hold_points: _Optional[_Union[HoldPointsRequest, _Mapping]] = ..., capture_hold: _Optional[_Union[CaptureHoldRequest, _Mapping]] = ..., release_hold: _Optional[_Union[ReleaseHoldRequest, _Mapping]] = ..., extend_hold: _Optional[_Union[ExtendHoldRequest, _Mapping]] = ..., adjust_points: _Optional[_Union[AdjustPointsRequest, _Mapping]] = ..., void_purchase: _Optional[_Union[VoidPurchaseRequest, _Mapping]] = ..., resign_member: _Optional[_Union[ResignMemberRequest, _Mapping]] = ..., rejoin_member: _Optional[_Union[RejoinMemberRequest, _Mapping]] = ..., record_activity: _Optional[_Union[RecordActivityRequest, _Mapping]] = ..., record_membership_fee: _Optional[_Union[RecordMembershipFeeRequest, _Mapping]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("enroll_member", "record_purchase", "record_return", "award_points", "set_earning_class", "redeem_points", "reverse_redemption", "hold_points", "capture_hold", "release_hold", "extend_hold", "adjust_points", "void_purchase", "resign_member", "error", "rejoin_member", "record_activity", "record_membership_fee")
    ENROLL_MEMBER_FIELD_NUMBER: _ClassVar[int]
    RECORD_PURCHASE_FIELD_NUMBER: _ClassVar[int]
    RECORD_RETURN_FIELD_NUMBER: _ClassVar[int]
    AWARD_POINTS_FIELD_NUMBER: _ClassVar[int]
    SET_EARNING_CLASS_FIELD_NUMBER: _ClassVar[int]
    REDEEM_POINTS_FIELD_NUMBER: _ClassVar[int]
    REVERSE_REDEMPTION_FIELD_NUMBER: _ClassVar[int]
    HOLD_POINTS_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_HOLD_FIELD_NUMBER: _ClassVar[int]
    RELEASE_HOLD_FIELD_NUMBER: _ClassVar[int]
    EXTEND_HOLD_FIELD_NUMBER: _ClassVar[int]
    ADJUST_POINTS_FIELD_NUMBER: _ClassVar[int]
    VOID_PURCHASE_FIELD_NUMBER: _ClassVar[int]
    RESIGN_MEMBER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REJOIN_MEMBER_FIELD_NUMBER: _ClassVar[int]
    RECORD_ACTIVITY_FIELD_NUMBER: _ClassVar[int]
    RECORD_MEMBERSHIP_FEE_FIELD_NUMBER: _ClassVar[int]
    enroll_member: EnrollMemberResponse
    record_purchase: RecordPurchaseResponse
    record_return: RecordReturnResponse
    award_points: AwardPointsResponse
    set_earning_class: SetEarningClassResponse
    redeem_points: RedeemPointsResponse
    reverse_redemption: ReverseRedemptionResponse
    hold_points: HoldPointsResponse
    capture_hold: CaptureHoldResponse
    release_hold: ReleaseHoldResponse
    extend_hold: ExtendHoldResponse
    adjust_points: AdjustPointsResponse
    void_purchase: VoidPurchaseResponse
    resign_member: ResignMemberResponse
    error: _status_pb2.Status
    rejoin_member: RejoinMemberResponse
    record_activity: RecordActivityResponse
    record_membership_fee: RecordMembershipFeeResponse
    def __init__(self, enroll_member: _Optional[_Union[EnrollMemberResponse, _Mapping]] = ..., record_purchase: _Optional[_Union[RecordPurchaseResponse, _Mapping]] = ..., record_return: _Optional[_Union[RecordReturnResponse, _Mapping]] = ..., award_points: _Optional[_Union[AwardPointsResponse, _Mapping]] = ..., set_earning_class: _Optional[_Union[SetEarningClassResponse, _Mapping]] = ..., redeem_points: _Optional[_Union[RedeemPointsResponse, _Mapping]] = ..., reverse_redemption: _Optional[_Union[ReverseRedemptionResponse, _Mapping]] = ..., hold_points: _Optional[_Union[HoldPointsResponse, _Mapping]] = ..., capture_hold: _Optional[_Union[CaptureHoldResponse, _Mapping]] = ..., release_hold: _Optional[_Union[ReleaseHoldResponse, _Mapping]] = ..., extend_hold: _Optional[_Union[ExtendHoldResponse, _Mapping]] = ..., adjust_points: _Optional[_Union[AdjustPointsResponse, _Mapping]] = ..., void_purchase: _Optional[_Union[VoidPurchaseResponse, _Mapping]] = ..., resign_member: _Optional[_Union[ResignMemberResponse, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., rejoin_member: _Optional[_Union[RejoinMemberResponse, _Mapping]] = ..., record_activity: _Optional[_Union[RecordActivityResponse, _Mapping]] = ..., record_membership_fee: _Optional[_Union[RecordMembershipFeeResponse, _Mapping]] = ...) -> None: ...

class BatchRecordRequest(_message.Message):
    __slots__ = ("writes", "all_or_none")
    WRITES_FIELD_NUMBER: _ClassVar[int]
    ALL_OR_NONE_FIELD_NUMBER: _ClassVar[int]
    writes: _containers.RepeatedCompositeFieldContainer[Write]
    all_or_none: bool
    def __init__(self, writes: _Optional[_Iterable[_Union[Write, _Mapping]]] = ..., all_or_none: _Optional[bool] = ...) -> None: ...

class BatchRecordResponse(_message.Message):
    __slots__ = ("outcomes", "causal_token")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    causal_token: str
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ..., causal_token: _Optional[str] = ...) -> None: ...

class RecordStreamRequest(_message.Message):
    __slots__ = ("writes",)
    WRITES_FIELD_NUMBER: _ClassVar[int]
    writes: _containers.RepeatedCompositeFieldContainer[Write]
    def __init__(self, writes: _Optional[_Iterable[_Union[Write, _Mapping]]] = ...) -> None: ...

class RecordStreamResponse(_message.Message):
    __slots__ = ("outcomes", "causal_token")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    causal_token: str
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ..., causal_token: _Optional[str] = ...) -> None: ...

class GetBalanceRequest(_message.Message):
    __slots__ = ("member_id", "at_time", "known_at_time")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    AT_TIME_FIELD_NUMBER: _ClassVar[int]
    KNOWN_AT_TIME_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    at_time: _timestamp_pb2.Timestamp
    known_at_time: _timestamp_pb2.Timestamp
    def __init__(self, member_id: _Optional[str] = ..., at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., known_at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetBalanceResponse(_message.Message):
    __slots__ = ("balance",)
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    balance: _member_pb2.Balance
    def __init__(self, balance: _Optional[_Union[_member_pb2.Balance, _Mapping]] = ...) -> None: ...

class ListEntriesRequest(_message.Message):
    __slots__ = ("member_id", "page_size", "page_token", "kinds", "from_time", "until_time", "purchase_id")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    FROM_TIME_FIELD_NUMBER: _ClassVar[int]
    UNTIL_TIME_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    page_size: int
    page_token: str
    kinds: _containers.RepeatedScalarFieldContainer[_entry_pb2.EntryKind]
    from_time: _timestamp_pb2.Timestamp
    until_time: _timestamp_pb2.Timestamp
    purchase_id: str
    def __init__(self, member_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., kinds: _Optional[_Iterable[_Union[_entry_pb2.EntryKind, str]]] = ..., from_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., purchase_id: _Optional[str] = ...) -> None: ...

class ListEntriesResponse(_message.Message):
    __slots__ = ("entries", "next_page_token")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[_entry_pb2.Entry]
    next_page_token: str
    def __init__(self, entries: _Optional[_Iterable[_Union[_entry_pb2.Entry, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListLotsRequest(_message.Message):
    __slots__ = ("member_id", "at_time", "page_size", "page_token")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    AT_TIME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    at_time: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    def __init__(self, member_id: _Optional[str] = ..., at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListLotsResponse(_message.Message):
    __slots__ = ("lots", "next_page_token")
    LOTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    lots: _containers.RepeatedCompositeFieldContainer[_lot_pb2.Lot]
    next_page_token: str
    def __init__(self, lots: _Optional[_Iterable[_Union[_lot_pb2.Lot, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetLiabilityRequest(_message.Message):
    __slots__ = ("period", "known_at_time", "with_journal")
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    KNOWN_AT_TIME_FIELD_NUMBER: _ClassVar[int]
    WITH_JOURNAL_FIELD_NUMBER: _ClassVar[int]
    period: str
    known_at_time: _timestamp_pb2.Timestamp
    with_journal: bool
    def __init__(self, period: _Optional[str] = ..., known_at_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., with_journal: _Optional[bool] = ...) -> None: ...

class GetLiabilityResponse(_message.Message):
    __slots__ = ("liability",)
    LIABILITY_FIELD_NUMBER: _ClassVar[int]
    liability: _liability_pb2.Liability
    def __init__(self, liability: _Optional[_Union[_liability_pb2.Liability, _Mapping]] = ...) -> None: ...

class SetEarningClassRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "earning_class", "effective_time", "sequence")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    EARNING_CLASS_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_TIME_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    earning_class: str
    effective_time: _timestamp_pb2.Timestamp
    sequence: int
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., earning_class: _Optional[str] = ..., effective_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sequence: _Optional[int] = ...) -> None: ...

class SetEarningClassResponse(_message.Message):
    __slots__ = ("applied", "causal_token", "replayed")
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    applied: bool
    causal_token: str
    replayed: bool
    def __init__(self, applied: _Optional[bool] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class GetProgrammeRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    def __init__(self, version: _Optional[str] = ...) -> None: ...

class Programme(_message.Message):
    __slots__ = ("name", "version", "currency_code", "time_zone", "source")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_CODE_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    currency_code: str
    time_zone: str
    source: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., currency_code: _Optional[str] = ..., time_zone: _Optional[str] = ..., source: _Optional[str] = ...) -> None: ...

class ProgrammeVersion(_message.Message):
    __slots__ = ("version", "from_time", "recorded_time")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FROM_TIME_FIELD_NUMBER: _ClassVar[int]
    RECORDED_TIME_FIELD_NUMBER: _ClassVar[int]
    version: str
    from_time: _timestamp_pb2.Timestamp
    recorded_time: _timestamp_pb2.Timestamp
    def __init__(self, version: _Optional[str] = ..., from_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., recorded_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetProgrammeResponse(_message.Message):
    __slots__ = ("programme", "from_time", "versions")
    PROGRAMME_FIELD_NUMBER: _ClassVar[int]
    FROM_TIME_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    programme: Programme
    from_time: _timestamp_pb2.Timestamp
    versions: _containers.RepeatedCompositeFieldContainer[ProgrammeVersion]
    def __init__(self, programme: _Optional[_Union[Programme, _Mapping]] = ..., from_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., versions: _Optional[_Iterable[_Union[ProgrammeVersion, _Mapping]]] = ...) -> None: ...

class ApplyProgrammeRequest(_message.Message):
    __slots__ = ("request_id", "document", "from_time")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    FROM_TIME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    document: str
    from_time: _timestamp_pb2.Timestamp
    def __init__(self, request_id: _Optional[str] = ..., document: _Optional[str] = ..., from_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ApplyProgrammeResponse(_message.Message):
    __slots__ = ("version", "from_time", "causal_token", "replayed")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FROM_TIME_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    version: str
    from_time: _timestamp_pb2.Timestamp
    causal_token: str
    replayed: bool
    def __init__(self, version: _Optional[str] = ..., from_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class ListPartitionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Partition(_message.Message):
    __slots__ = ("partition", "last_offset", "head_hash", "business_time", "members")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    LAST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    HEAD_HASH_FIELD_NUMBER: _ClassVar[int]
    BUSINESS_TIME_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    partition: int
    last_offset: int
    head_hash: bytes
    business_time: _timestamp_pb2.Timestamp
    members: int
    def __init__(self, partition: _Optional[int] = ..., last_offset: _Optional[int] = ..., head_hash: _Optional[bytes] = ..., business_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., members: _Optional[int] = ...) -> None: ...

class ListPartitionsResponse(_message.Message):
    __slots__ = ("partitions", "clock_mode", "business_time")
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MODE_FIELD_NUMBER: _ClassVar[int]
    BUSINESS_TIME_FIELD_NUMBER: _ClassVar[int]
    partitions: _containers.RepeatedCompositeFieldContainer[Partition]
    clock_mode: ClockMode
    business_time: _timestamp_pb2.Timestamp
    def __init__(self, partitions: _Optional[_Iterable[_Union[Partition, _Mapping]]] = ..., clock_mode: _Optional[_Union[ClockMode, str]] = ..., business_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class StreamEntriesRequest(_message.Message):
    __slots__ = ("after", "follow")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    after: _containers.RepeatedCompositeFieldContainer[_log_pb2.PartitionOffset]
    follow: bool
    def __init__(self, after: _Optional[_Iterable[_Union[_log_pb2.PartitionOffset, _Mapping]]] = ..., follow: _Optional[bool] = ...) -> None: ...

class StreamEntriesResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[_entry_pb2.Entry]
    def __init__(self, entries: _Optional[_Iterable[_Union[_entry_pb2.Entry, _Mapping]]] = ...) -> None: ...

class AdvanceClockRequest(_message.Message):
    __slots__ = ("request_id", "to_time")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TO_TIME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    to_time: _timestamp_pb2.Timestamp
    def __init__(self, request_id: _Optional[str] = ..., to_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class AdvanceClockResponse(_message.Message):
    __slots__ = ("business_time", "causal_token", "replayed")
    BUSINESS_TIME_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    business_time: _timestamp_pb2.Timestamp
    causal_token: str
    replayed: bool
    def __init__(self, business_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...
