import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from loyalty.type.v1 import error_reason_pb2 as _error_reason_pb2
from loyalty.type.v1 import money_pb2 as _money_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OfferKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OFFER_KIND_UNSPECIFIED: _ClassVar[OfferKind]
    OFFER_KIND_DISCOUNT_PERCENT: _ClassVar[OfferKind]
    OFFER_KIND_DISCOUNT_AMOUNT: _ClassVar[OfferKind]
    OFFER_KIND_FREE_PRODUCT: _ClassVar[OfferKind]
    OFFER_KIND_FREE_SHIPPING: _ClassVar[OfferKind]
    OFFER_KIND_GIFT_CARD: _ClassVar[OfferKind]
    OFFER_KIND_UPGRADE: _ClassVar[OfferKind]
    OFFER_KIND_EARLY_ACCESS: _ClassVar[OfferKind]
    OFFER_KIND_DIGITAL_CONTENT: _ClassVar[OfferKind]
    OFFER_KIND_EXPERIENCE: _ClassVar[OfferKind]
    OFFER_KIND_BONUS_POINTS: _ClassVar[OfferKind]

class CouponStacking(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COUPON_STACKING_UNSPECIFIED: _ClassVar[CouponStacking]
    COUPON_STACKING_EXCLUSIVE: _ClassVar[CouponStacking]
    COUPON_STACKING_WITH_TIER: _ClassVar[CouponStacking]
    COUPON_STACKING_ANY: _ClassVar[CouponStacking]
OFFER_KIND_UNSPECIFIED: OfferKind
OFFER_KIND_DISCOUNT_PERCENT: OfferKind
OFFER_KIND_DISCOUNT_AMOUNT: OfferKind
OFFER_KIND_FREE_PRODUCT: OfferKind
OFFER_KIND_FREE_SHIPPING: OfferKind
OFFER_KIND_GIFT_CARD: OfferKind
OFFER_KIND_UPGRADE: OfferKind
OFFER_KIND_EARLY_ACCESS: OfferKind
OFFER_KIND_DIGITAL_CONTENT: OfferKind
OFFER_KIND_EXPERIENCE: OfferKind
OFFER_KIND_BONUS_POINTS: OfferKind
COUPON_STACKING_UNSPECIFIED: CouponStacking
COUPON_STACKING_EXCLUSIVE: CouponStacking
COUPON_STACKING_WITH_TIER: CouponStacking
COUPON_STACKING_ANY: CouponStacking

class Offer(_message.Message):
    __slots__ = ("kind", "percent_basis_points", "amount", "sku", "points", "detail")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PERCENT_BASIS_POINTS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    SKU_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    kind: OfferKind
    percent_basis_points: int
    amount: _money_pb2.Money
    sku: str
    points: int
    detail: str
    def __init__(self, kind: _Optional[_Union[OfferKind, str]] = ..., percent_basis_points: _Optional[int] = ..., amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., sku: _Optional[str] = ..., points: _Optional[int] = ..., detail: _Optional[str] = ...) -> None: ...

class Terms(_message.Message):
    __slots__ = ("stacking", "minimum", "skus", "departments", "store_ids", "channels", "tiers")
    STACKING_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    SKUS_FIELD_NUMBER: _ClassVar[int]
    DEPARTMENTS_FIELD_NUMBER: _ClassVar[int]
    STORE_IDS_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    TIERS_FIELD_NUMBER: _ClassVar[int]
    stacking: CouponStacking
    minimum: _money_pb2.Money
    skus: _containers.RepeatedScalarFieldContainer[str]
    departments: _containers.RepeatedScalarFieldContainer[str]
    store_ids: _containers.RepeatedScalarFieldContainer[str]
    channels: _containers.RepeatedScalarFieldContainer[str]
    tiers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, stacking: _Optional[_Union[CouponStacking, str]] = ..., minimum: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., skus: _Optional[_Iterable[str]] = ..., departments: _Optional[_Iterable[str]] = ..., store_ids: _Optional[_Iterable[str]] = ..., channels: _Optional[_Iterable[str]] = ..., tiers: _Optional[_Iterable[str]] = ...) -> None: ...

class RewardObstacle(_message.Message):
    __slots__ = ("reason", "sentence")
    REASON_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    reason: _error_reason_pb2.ErrorReason
    sentence: str
    def __init__(self, reason: _Optional[_Union[_error_reason_pb2.ErrorReason, str]] = ..., sentence: _Optional[str] = ...) -> None: ...

class Reward(_message.Message):
    __slots__ = ("reward_id", "name", "description", "language", "offer", "terms", "points", "money", "available", "obstacles", "points_missing", "stock_left", "left_for_member", "available_until_time")
    REWARD_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    MONEY_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    OBSTACLES_FIELD_NUMBER: _ClassVar[int]
    POINTS_MISSING_FIELD_NUMBER: _ClassVar[int]
    STOCK_LEFT_FIELD_NUMBER: _ClassVar[int]
    LEFT_FOR_MEMBER_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_UNTIL_TIME_FIELD_NUMBER: _ClassVar[int]
    reward_id: str
    name: str
    description: str
    language: str
    offer: Offer
    terms: Terms
    points: int
    money: _money_pb2.Money
    available: bool
    obstacles: _containers.RepeatedCompositeFieldContainer[RewardObstacle]
    points_missing: int
    stock_left: int
    left_for_member: int
    available_until_time: _timestamp_pb2.Timestamp
    def __init__(self, reward_id: _Optional[str] = ..., name: _Optional[str] = ..., description: _Optional[str] = ..., language: _Optional[str] = ..., offer: _Optional[_Union[Offer, _Mapping]] = ..., terms: _Optional[_Union[Terms, _Mapping]] = ..., points: _Optional[int] = ..., money: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., available: _Optional[bool] = ..., obstacles: _Optional[_Iterable[_Union[RewardObstacle, _Mapping]]] = ..., points_missing: _Optional[int] = ..., stock_left: _Optional[int] = ..., left_for_member: _Optional[int] = ..., available_until_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
