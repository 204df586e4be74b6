import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from loyalty.ledger.v1 import entry_pb2 as _entry_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as _ledger_service_pb2
from loyalty.ledger.v1 import member_pb2 as _member_pb2
from loyalty.tiers.v1 import tier_service_pb2 as _tier_service_pb2
from loyalty.type.v1 import money_pb2 as _money_pb2
from loyalty.type.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DiscountKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISCOUNT_KIND_UNSPECIFIED: _ClassVar[DiscountKind]
    DISCOUNT_KIND_PROMOTION: _ClassVar[DiscountKind]
    DISCOUNT_KIND_TIER: _ClassVar[DiscountKind]
    DISCOUNT_KIND_AUTOMATIC: _ClassVar[DiscountKind]
    DISCOUNT_KIND_COUPON: _ClassVar[DiscountKind]
    DISCOUNT_KIND_BENEFIT: _ClassVar[DiscountKind]
DISCOUNT_KIND_UNSPECIFIED: DiscountKind
DISCOUNT_KIND_PROMOTION: DiscountKind
DISCOUNT_KIND_TIER: DiscountKind
DISCOUNT_KIND_AUTOMATIC: DiscountKind
DISCOUNT_KIND_COUPON: DiscountKind
DISCOUNT_KIND_BENEFIT: DiscountKind

class CheckoutLine(_message.Message):
    __slots__ = ("kind", "sku", "name", "department", "category", "quantity", "unit_price_minor_units", "amount_minor_units", "promotion_minor_units")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SKU_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEPARTMENT_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    UNIT_PRICE_MINOR_UNITS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_MINOR_UNITS_FIELD_NUMBER: _ClassVar[int]
    PROMOTION_MINOR_UNITS_FIELD_NUMBER: _ClassVar[int]
    kind: _ledger_service_pb2.LineKind
    sku: str
    name: str
    department: str
    category: str
    quantity: int
    unit_price_minor_units: int
    amount_minor_units: int
    promotion_minor_units: int
    def __init__(self, kind: _Optional[_Union[_ledger_service_pb2.LineKind, str]] = ..., sku: _Optional[str] = ..., name: _Optional[str] = ..., department: _Optional[str] = ..., category: _Optional[str] = ..., quantity: _Optional[int] = ..., unit_price_minor_units: _Optional[int] = ..., amount_minor_units: _Optional[int] = ..., promotion_minor_units: _Optional[int] = ...) -> None: ...

class QuoteCheckoutRequest(_message.Message):
    __slots__ = ("member_id", "identifier", "currency_code", "lines", "coupon_codes", "points", "gift_cards_minor_units", "store_id", "channel", "occurred_time", "causal_token")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_CODE_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    COUPON_CODES_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    GIFT_CARDS_MINOR_UNITS_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    identifier: _member_pb2.Identifier
    currency_code: str
    lines: _containers.RepeatedCompositeFieldContainer[CheckoutLine]
    coupon_codes: _containers.RepeatedScalarFieldContainer[str]
    points: int
    gift_cards_minor_units: int
    store_id: str
    channel: str
    occurred_time: _timestamp_pb2.Timestamp
    causal_token: str
    def __init__(self, member_id: _Optional[str] = ..., identifier: _Optional[_Union[_member_pb2.Identifier, _Mapping]] = ..., currency_code: _Optional[str] = ..., lines: _Optional[_Iterable[_Union[CheckoutLine, _Mapping]]] = ..., coupon_codes: _Optional[_Iterable[str]] = ..., points: _Optional[int] = ..., gift_cards_minor_units: _Optional[int] = ..., store_id: _Optional[str] = ..., channel: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., causal_token: _Optional[str] = ...) -> None: ...

class QuoteCheckoutResponse(_message.Message):
    __slots__ = ("quote",)
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    quote: CheckoutQuote
    def __init__(self, quote: _Optional[_Union[CheckoutQuote, _Mapping]] = ...) -> None: ...

class CheckoutDiscount(_message.Message):
    __slots__ = ("kind", "reason", "amount", "coupon_code")
    KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    COUPON_CODE_FIELD_NUMBER: _ClassVar[int]
    kind: DiscountKind
    reason: str
    amount: _money_pb2.Money
    coupon_code: str
    def __init__(self, kind: _Optional[_Union[DiscountKind, str]] = ..., reason: _Optional[str] = ..., amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., coupon_code: _Optional[str] = ...) -> None: ...

class CheckoutQuoteLine(_message.Message):
    __slots__ = ("line_number", "price", "discounts", "amount")
    LINE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    DISCOUNTS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    line_number: int
    price: _money_pb2.Money
    discounts: _containers.RepeatedCompositeFieldContainer[CheckoutDiscount]
    amount: _money_pb2.Money
    def __init__(self, line_number: _Optional[int] = ..., price: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., discounts: _Optional[_Iterable[_Union[CheckoutDiscount, _Mapping]]] = ..., amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ...) -> None: ...

class CheckoutTender(_message.Message):
    __slots__ = ("coupon_code", "amount", "lost")
    COUPON_CODE_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    coupon_code: str
    amount: _money_pb2.Money
    lost: _money_pb2.Money
    def __init__(self, coupon_code: _Optional[str] = ..., amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., lost: _Optional[_Union[_money_pb2.Money, _Mapping]] = ...) -> None: ...

class CheckoutRefusal(_message.Message):
    __slots__ = ("coupon_code", "reason", "message")
    COUPON_CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    coupon_code: str
    reason: str
    message: str
    def __init__(self, coupon_code: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class CheckoutQuote(_message.Message):
    __slots__ = ("member_id", "tier", "tier_number", "lines", "discounts", "amount", "points", "points_amount", "tenders", "pay", "earned_points", "rules", "benefits", "coupon_codes", "refusals", "summary", "occurred_time", "available_points")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    TIER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    DISCOUNTS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    POINTS_AMOUNT_FIELD_NUMBER: _ClassVar[int]
    TENDERS_FIELD_NUMBER: _ClassVar[int]
    PAY_FIELD_NUMBER: _ClassVar[int]
    EARNED_POINTS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    BENEFITS_FIELD_NUMBER: _ClassVar[int]
    COUPON_CODES_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_POINTS_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    tier: str
    tier_number: int
    lines: _containers.RepeatedCompositeFieldContainer[CheckoutQuoteLine]
    discounts: _containers.RepeatedCompositeFieldContainer[CheckoutDiscount]
    amount: _money_pb2.Money
    points: int
    points_amount: _money_pb2.Money
    tenders: _containers.RepeatedCompositeFieldContainer[CheckoutTender]
    pay: _money_pb2.Money
    earned_points: int
    rules: _containers.RepeatedCompositeFieldContainer[_entry_pb2.RulePoints]
    benefits: _containers.RepeatedCompositeFieldContainer[_tier_service_pb2.Benefit]
    coupon_codes: _containers.RepeatedScalarFieldContainer[str]
    refusals: _containers.RepeatedCompositeFieldContainer[CheckoutRefusal]
    summary: str
    occurred_time: _timestamp_pb2.Timestamp
    available_points: int
    def __init__(self, member_id: _Optional[str] = ..., tier: _Optional[str] = ..., tier_number: _Optional[int] = ..., lines: _Optional[_Iterable[_Union[CheckoutQuoteLine, _Mapping]]] = ..., discounts: _Optional[_Iterable[_Union[CheckoutDiscount, _Mapping]]] = ..., amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., points: _Optional[int] = ..., points_amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., tenders: _Optional[_Iterable[_Union[CheckoutTender, _Mapping]]] = ..., pay: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., earned_points: _Optional[int] = ..., rules: _Optional[_Iterable[_Union[_entry_pb2.RulePoints, _Mapping]]] = ..., benefits: _Optional[_Iterable[_Union[_tier_service_pb2.Benefit, _Mapping]]] = ..., coupon_codes: _Optional[_Iterable[str]] = ..., refusals: _Optional[_Iterable[_Union[CheckoutRefusal, _Mapping]]] = ..., summary: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., available_points: _Optional[int] = ...) -> None: ...

class CommitCheckoutRequest(_message.Message):
    __slots__ = ("request_id", "checkout_id", "member_id", "identifier", "currency_code", "lines", "coupon_codes", "points", "gift_cards_minor_units", "expected_pay", "store_id", "receipt_number", "channel", "occurred_time", "causal_token")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CHECKOUT_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_CODE_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    COUPON_CODES_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    GIFT_CARDS_MINOR_UNITS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_PAY_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    checkout_id: str
    member_id: str
    identifier: _member_pb2.Identifier
    currency_code: str
    lines: _containers.RepeatedCompositeFieldContainer[CheckoutLine]
    coupon_codes: _containers.RepeatedScalarFieldContainer[str]
    points: int
    gift_cards_minor_units: int
    expected_pay: _money_pb2.Money
    store_id: str
    receipt_number: str
    channel: str
    occurred_time: _timestamp_pb2.Timestamp
    causal_token: str
    def __init__(self, request_id: _Optional[str] = ..., checkout_id: _Optional[str] = ..., member_id: _Optional[str] = ..., identifier: _Optional[_Union[_member_pb2.Identifier, _Mapping]] = ..., currency_code: _Optional[str] = ..., lines: _Optional[_Iterable[_Union[CheckoutLine, _Mapping]]] = ..., coupon_codes: _Optional[_Iterable[str]] = ..., points: _Optional[int] = ..., gift_cards_minor_units: _Optional[int] = ..., expected_pay: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., store_id: _Optional[str] = ..., receipt_number: _Optional[str] = ..., channel: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., causal_token: _Optional[str] = ...) -> None: ...

class CommitCheckoutResponse(_message.Message):
    __slots__ = ("checkout_id", "quote", "redemption_id", "available_points", "pending_points", "causal_token", "replayed")
    CHECKOUT_ID_FIELD_NUMBER: _ClassVar[int]
    QUOTE_FIELD_NUMBER: _ClassVar[int]
    REDEMPTION_ID_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_POINTS_FIELD_NUMBER: _ClassVar[int]
    PENDING_POINTS_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    checkout_id: str
    quote: CheckoutQuote
    redemption_id: str
    available_points: int
    pending_points: int
    causal_token: str
    replayed: bool
    def __init__(self, checkout_id: _Optional[str] = ..., quote: _Optional[_Union[CheckoutQuote, _Mapping]] = ..., redemption_id: _Optional[str] = ..., available_points: _Optional[int] = ..., pending_points: _Optional[int] = ..., causal_token: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class CancelCheckoutRequest(_message.Message):
    __slots__ = ("request_id", "checkout_id", "member_id", "identifier")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CHECKOUT_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    checkout_id: str
    member_id: str
    identifier: _member_pb2.Identifier
    def __init__(self, request_id: _Optional[str] = ..., checkout_id: _Optional[str] = ..., member_id: _Optional[str] = ..., identifier: _Optional[_Union[_member_pb2.Identifier, _Mapping]] = ...) -> None: ...

class CancelCheckoutResponse(_message.Message):
    __slots__ = ("replayed",)
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    replayed: bool
    def __init__(self, replayed: _Optional[bool] = ...) -> None: ...
