import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as _ledger_service_pb2
from loyalty.notifier.v1 import reward_pb2 as _reward_pb2
from loyalty.type.v1 import error_reason_pb2 as _error_reason_pb2
from loyalty.type.v1 import money_pb2 as _money_pb2
from loyalty.type.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CouponState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COUPON_STATE_UNSPECIFIED: _ClassVar[CouponState]
    COUPON_STATE_ISSUED: _ClassVar[CouponState]
    COUPON_STATE_EXPIRED: _ClassVar[CouponState]
    COUPON_STATE_VOID: _ClassVar[CouponState]
    COUPON_STATE_PREPARING: _ClassVar[CouponState]
    COUPON_STATE_RESERVED: _ClassVar[CouponState]
    COUPON_STATE_REDEEMED: _ClassVar[CouponState]

class QrFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QR_FORMAT_UNSPECIFIED: _ClassVar[QrFormat]
    QR_FORMAT_PNG: _ClassVar[QrFormat]
    QR_FORMAT_SVG: _ClassVar[QrFormat]

class CodeProblemKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CODE_PROBLEM_KIND_UNSPECIFIED: _ClassVar[CodeProblemKind]
    CODE_PROBLEM_KIND_MALFORMED: _ClassVar[CodeProblemKind]
    CODE_PROBLEM_KIND_DUPLICATE: _ClassVar[CodeProblemKind]
    CODE_PROBLEM_KIND_LOOK_ALIKE: _ClassVar[CodeProblemKind]
COUPON_STATE_UNSPECIFIED: CouponState
COUPON_STATE_ISSUED: CouponState
COUPON_STATE_EXPIRED: CouponState
COUPON_STATE_VOID: CouponState
COUPON_STATE_PREPARING: CouponState
COUPON_STATE_RESERVED: CouponState
COUPON_STATE_REDEEMED: CouponState
QR_FORMAT_UNSPECIFIED: QrFormat
QR_FORMAT_PNG: QrFormat
QR_FORMAT_SVG: QrFormat
CODE_PROBLEM_KIND_UNSPECIFIED: CodeProblemKind
CODE_PROBLEM_KIND_MALFORMED: CodeProblemKind
CODE_PROBLEM_KIND_DUPLICATE: CodeProblemKind
CODE_PROBLEM_KIND_LOOK_ALIKE: CodeProblemKind

class Coupon(_message.Message):
    __slots__ = ("code", "member_id", "campaign_id", "state", "discount_basis_points", "discount_amount", "issued_time", "valid_until_time", "voided_time", "offer", "terms", "uses", "uses_left", "once_per_member", "reward_id", "reason", "void_reason")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    CAMPAIGN_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DISCOUNT_BASIS_POINTS_FIELD_NUMBER: _ClassVar[int]
    DISCOUNT_AMOUNT_FIELD_NUMBER: _ClassVar[int]
    ISSUED_TIME_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_TIME_FIELD_NUMBER: _ClassVar[int]
    VOIDED_TIME_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    USES_LEFT_FIELD_NUMBER: _ClassVar[int]
    ONCE_PER_MEMBER_FIELD_NUMBER: _ClassVar[int]
    REWARD_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VOID_REASON_FIELD_NUMBER: _ClassVar[int]
    code: str
    member_id: str
    campaign_id: str
    state: CouponState
    discount_basis_points: int
    discount_amount: _money_pb2.Money
    issued_time: _timestamp_pb2.Timestamp
    valid_until_time: _timestamp_pb2.Timestamp
    voided_time: _timestamp_pb2.Timestamp
    offer: _reward_pb2.Offer
    terms: _reward_pb2.Terms
    uses: int
    uses_left: int
    once_per_member: bool
    reward_id: str
    reason: str
    void_reason: str
    def __init__(self, code: _Optional[str] = ..., member_id: _Optional[str] = ..., campaign_id: _Optional[str] = ..., state: _Optional[_Union[CouponState, str]] = ..., discount_basis_points: _Optional[int] = ..., discount_amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., issued_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., valid_until_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., voided_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., offer: _Optional[_Union[_reward_pb2.Offer, _Mapping]] = ..., terms: _Optional[_Union[_reward_pb2.Terms, _Mapping]] = ..., uses: _Optional[int] = ..., uses_left: _Optional[int] = ..., once_per_member: _Optional[bool] = ..., reward_id: _Optional[str] = ..., reason: _Optional[str] = ..., void_reason: _Optional[str] = ...) -> None: ...

class GetCouponRequest(_message.Message):
    __slots__ = ("code", "qr")
    CODE_FIELD_NUMBER: _ClassVar[int]
    QR_FIELD_NUMBER: _ClassVar[int]
    code: str
    qr: QrFormat
    def __init__(self, code: _Optional[str] = ..., qr: _Optional[_Union[QrFormat, str]] = ...) -> None: ...

class GetCouponResponse(_message.Message):
    __slots__ = ("coupon", "qr", "uses")
    COUPON_FIELD_NUMBER: _ClassVar[int]
    QR_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    coupon: Coupon
    qr: bytes
    uses: _containers.RepeatedCompositeFieldContainer[CouponUse]
    def __init__(self, coupon: _Optional[_Union[Coupon, _Mapping]] = ..., qr: _Optional[bytes] = ..., uses: _Optional[_Iterable[_Union[CouponUse, _Mapping]]] = ...) -> None: ...

class CouponUse(_message.Message):
    __slots__ = ("use_id", "redeemed_time", "store_id", "channel", "purchase_id", "overdrawn_reason")
    USE_ID_FIELD_NUMBER: _ClassVar[int]
    REDEEMED_TIME_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    OVERDRAWN_REASON_FIELD_NUMBER: _ClassVar[int]
    use_id: str
    redeemed_time: _timestamp_pb2.Timestamp
    store_id: str
    channel: str
    purchase_id: str
    overdrawn_reason: _error_reason_pb2.ErrorReason
    def __init__(self, use_id: _Optional[str] = ..., redeemed_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., store_id: _Optional[str] = ..., channel: _Optional[str] = ..., purchase_id: _Optional[str] = ..., overdrawn_reason: _Optional[_Union[_error_reason_pb2.ErrorReason, str]] = ...) -> None: ...

class ListRewardsRequest(_message.Message):
    __slots__ = ("member_id", "language", "causal_token")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    language: str
    causal_token: str
    def __init__(self, member_id: _Optional[str] = ..., language: _Optional[str] = ..., causal_token: _Optional[str] = ...) -> None: ...

class ListRewardsResponse(_message.Message):
    __slots__ = ("rewards", "available_points")
    REWARDS_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_POINTS_FIELD_NUMBER: _ClassVar[int]
    rewards: _containers.RepeatedCompositeFieldContainer[_reward_pb2.Reward]
    available_points: int
    def __init__(self, rewards: _Optional[_Iterable[_Union[_reward_pb2.Reward, _Mapping]]] = ..., available_points: _Optional[int] = ...) -> None: ...

class RedeemRewardRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "reward_id", "money_paid")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    REWARD_ID_FIELD_NUMBER: _ClassVar[int]
    MONEY_PAID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    reward_id: str
    money_paid: _money_pb2.Money
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., reward_id: _Optional[str] = ..., money_paid: _Optional[_Union[_money_pb2.Money, _Mapping]] = ...) -> None: ...

class RedeemRewardResponse(_message.Message):
    __slots__ = ("coupon", "points", "money", "redemption_id", "bonus_points", "replayed")
    COUPON_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    MONEY_FIELD_NUMBER: _ClassVar[int]
    REDEMPTION_ID_FIELD_NUMBER: _ClassVar[int]
    BONUS_POINTS_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    coupon: Coupon
    points: int
    money: _money_pb2.Money
    redemption_id: str
    bonus_points: int
    replayed: bool
    def __init__(self, coupon: _Optional[_Union[Coupon, _Mapping]] = ..., points: _Optional[int] = ..., money: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., redemption_id: _Optional[str] = ..., bonus_points: _Optional[int] = ..., replayed: _Optional[bool] = ...) -> None: ...

class ReverseRewardRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "coupon_code", "redemption_id", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    COUPON_CODE_FIELD_NUMBER: _ClassVar[int]
    REDEMPTION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    coupon_code: str
    redemption_id: str
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., coupon_code: _Optional[str] = ..., redemption_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ReverseRewardResponse(_message.Message):
    __slots__ = ("coupon", "points", "money", "redemption_id", "replayed")
    COUPON_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    MONEY_FIELD_NUMBER: _ClassVar[int]
    REDEMPTION_ID_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    coupon: Coupon
    points: int
    money: _money_pb2.Money
    redemption_id: str
    replayed: bool
    def __init__(self, coupon: _Optional[_Union[Coupon, _Mapping]] = ..., points: _Optional[int] = ..., money: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., redemption_id: _Optional[str] = ..., replayed: _Optional[bool] = ...) -> None: ...

class IssueCouponRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "offer", "terms", "valid_until_time", "uses", "once_per_member", "prefix", "pool", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    OFFER_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_TIME_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    ONCE_PER_MEMBER_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    offer: _reward_pb2.Offer
    terms: _reward_pb2.Terms
    valid_until_time: _timestamp_pb2.Timestamp
    uses: int
    once_per_member: bool
    prefix: str
    pool: str
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., offer: _Optional[_Union[_reward_pb2.Offer, _Mapping]] = ..., terms: _Optional[_Union[_reward_pb2.Terms, _Mapping]] = ..., valid_until_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., uses: _Optional[int] = ..., once_per_member: _Optional[bool] = ..., prefix: _Optional[str] = ..., pool: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class IssueCouponResponse(_message.Message):
    __slots__ = ("coupon", "replayed")
    COUPON_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    coupon: Coupon
    replayed: bool
    def __init__(self, coupon: _Optional[_Union[Coupon, _Mapping]] = ..., replayed: _Optional[bool] = ...) -> None: ...

class ImportCodesRequest(_message.Message):
    __slots__ = ("request_id", "pool", "import_id", "first_line", "codes")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    IMPORT_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_LINE_FIELD_NUMBER: _ClassVar[int]
    CODES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    pool: str
    import_id: str
    first_line: int
    codes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., pool: _Optional[str] = ..., import_id: _Optional[str] = ..., first_line: _Optional[int] = ..., codes: _Optional[_Iterable[str]] = ...) -> None: ...

class CodeProblem(_message.Message):
    __slots__ = ("line", "kind", "other_line")
    LINE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OTHER_LINE_FIELD_NUMBER: _ClassVar[int]
    line: int
    kind: CodeProblemKind
    other_line: int
    def __init__(self, line: _Optional[int] = ..., kind: _Optional[_Union[CodeProblemKind, str]] = ..., other_line: _Optional[int] = ...) -> None: ...

class ImportCodesResponse(_message.Message):
    __slots__ = ("imported", "problems")
    IMPORTED_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    imported: int
    problems: _containers.RepeatedCompositeFieldContainer[CodeProblem]
    def __init__(self, imported: _Optional[int] = ..., problems: _Optional[_Iterable[_Union[CodeProblem, _Mapping]]] = ...) -> None: ...

class ListCouponsRequest(_message.Message):
    __slots__ = ("member_id", "usable", "page_size", "page_token", "causal_token")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    USABLE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    usable: bool
    page_size: int
    page_token: str
    causal_token: str
    def __init__(self, member_id: _Optional[str] = ..., usable: _Optional[bool] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., causal_token: _Optional[str] = ...) -> None: ...

class ListCouponsResponse(_message.Message):
    __slots__ = ("coupons", "next_page_token")
    COUPONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    coupons: _containers.RepeatedCompositeFieldContainer[Coupon]
    next_page_token: str
    def __init__(self, coupons: _Optional[_Iterable[_Union[Coupon, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CouponUseContext(_message.Message):
    __slots__ = ("member_id", "lines", "amount", "channel")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    lines: _containers.RepeatedCompositeFieldContainer[_ledger_service_pb2.Line]
    amount: _money_pb2.Money
    channel: str
    def __init__(self, member_id: _Optional[str] = ..., lines: _Optional[_Iterable[_Union[_ledger_service_pb2.Line, _Mapping]]] = ..., amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., channel: _Optional[str] = ...) -> None: ...

class ValidateCouponRequest(_message.Message):
    __slots__ = ("code", "context", "store_id")
    CODE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    code: str
    context: CouponUseContext
    store_id: str
    def __init__(self, code: _Optional[str] = ..., context: _Optional[_Union[CouponUseContext, _Mapping]] = ..., store_id: _Optional[str] = ...) -> None: ...

class ValidateCouponResponse(_message.Message):
    __slots__ = ("coupon", "usable", "reason", "sentence")
    COUPON_FIELD_NUMBER: _ClassVar[int]
    USABLE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    coupon: Coupon
    usable: bool
    reason: _error_reason_pb2.ErrorReason
    sentence: str
    def __init__(self, coupon: _Optional[_Union[Coupon, _Mapping]] = ..., usable: _Optional[bool] = ..., reason: _Optional[_Union[_error_reason_pb2.ErrorReason, str]] = ..., sentence: _Optional[str] = ...) -> None: ...

class ReserveCouponRequest(_message.Message):
    __slots__ = ("request_id", "code", "context", "store_id", "ttl")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    code: str
    context: CouponUseContext
    store_id: str
    ttl: _duration_pb2.Duration
    def __init__(self, request_id: _Optional[str] = ..., code: _Optional[str] = ..., context: _Optional[_Union[CouponUseContext, _Mapping]] = ..., store_id: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ReserveCouponResponse(_message.Message):
    __slots__ = ("coupon", "use_id", "reserved_until_time", "replayed")
    COUPON_FIELD_NUMBER: _ClassVar[int]
    USE_ID_FIELD_NUMBER: _ClassVar[int]
    RESERVED_UNTIL_TIME_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    coupon: Coupon
    use_id: str
    reserved_until_time: _timestamp_pb2.Timestamp
    replayed: bool
    def __init__(self, coupon: _Optional[_Union[Coupon, _Mapping]] = ..., use_id: _Optional[str] = ..., reserved_until_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., replayed: _Optional[bool] = ...) -> None: ...

class RedeemCouponRequest(_message.Message):
    __slots__ = ("request_id", "code", "use_id", "context", "store_id", "occurred_time", "purchase_id", "offline")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    USE_ID_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    code: str
    use_id: str
    context: CouponUseContext
    store_id: str
    occurred_time: _timestamp_pb2.Timestamp
    purchase_id: str
    offline: bool
    def __init__(self, request_id: _Optional[str] = ..., code: _Optional[str] = ..., use_id: _Optional[str] = ..., context: _Optional[_Union[CouponUseContext, _Mapping]] = ..., store_id: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., purchase_id: _Optional[str] = ..., offline: _Optional[bool] = ...) -> None: ...

class RedeemCouponResponse(_message.Message):
    __slots__ = ("coupon", "use_id", "overdrawn_reason", "replayed")
    COUPON_FIELD_NUMBER: _ClassVar[int]
    USE_ID_FIELD_NUMBER: _ClassVar[int]
    OVERDRAWN_REASON_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    coupon: Coupon
    use_id: str
    overdrawn_reason: _error_reason_pb2.ErrorReason
    replayed: bool
    def __init__(self, coupon: _Optional[_Union[Coupon, _Mapping]] = ..., use_id: _Optional[str] = ..., overdrawn_reason: _Optional[_Union[_error_reason_pb2.ErrorReason, str]] = ..., replayed: _Optional[bool] = ...) -> None: ...

class ReleaseCouponRequest(_message.Message):
    __slots__ = ("request_id", "code", "use_id", "redeemed")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    USE_ID_FIELD_NUMBER: _ClassVar[int]
    REDEEMED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    code: str
    use_id: str
    redeemed: bool
    def __init__(self, request_id: _Optional[str] = ..., code: _Optional[str] = ..., use_id: _Optional[str] = ..., redeemed: _Optional[bool] = ...) -> None: ...

class ReleaseCouponResponse(_message.Message):
    __slots__ = ("coupon", "replayed")
    COUPON_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    coupon: Coupon
    replayed: bool
    def __init__(self, coupon: _Optional[_Union[Coupon, _Mapping]] = ..., replayed: _Optional[bool] = ...) -> None: ...

class VoidCouponRequest(_message.Message):
    __slots__ = ("request_id", "code", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    code: str
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., code: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class VoidCouponResponse(_message.Message):
    __slots__ = ("coupon", "replayed")
    COUPON_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    coupon: Coupon
    replayed: bool
    def __init__(self, coupon: _Optional[_Union[Coupon, _Mapping]] = ..., replayed: _Optional[bool] = ...) -> None: ...

class GetCouponLossesRequest(_message.Message):
    __slots__ = ("from_time", "until_time")
    FROM_TIME_FIELD_NUMBER: _ClassVar[int]
    UNTIL_TIME_FIELD_NUMBER: _ClassVar[int]
    from_time: _timestamp_pb2.Timestamp
    until_time: _timestamp_pb2.Timestamp
    def __init__(self, from_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetCouponLossesResponse(_message.Message):
    __slots__ = ("losses",)
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    losses: _containers.RepeatedCompositeFieldContainer[CouponLoss]
    def __init__(self, losses: _Optional[_Iterable[_Union[CouponLoss, _Mapping]]] = ...) -> None: ...

class CouponLoss(_message.Message):
    __slots__ = ("store_id", "reason", "uses", "amount")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    store_id: str
    reason: _error_reason_pb2.ErrorReason
    uses: int
    amount: _money_pb2.Money
    def __init__(self, store_id: _Optional[str] = ..., reason: _Optional[_Union[_error_reason_pb2.ErrorReason, str]] = ..., uses: _Optional[int] = ..., amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ...) -> None: ...
