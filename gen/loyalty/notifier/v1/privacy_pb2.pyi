import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from loyalty.ledger.v1 import ledger_service_pb2 as _ledger_service_pb2
from loyalty.ledger.v1 import member_pb2 as _member_pb2
from loyalty.notifier.v1 import coupon_pb2 as _coupon_pb2
from loyalty.notifier.v1 import message_pb2 as _message_pb2
from loyalty.notifier.v1 import survey_pb2 as _survey_pb2
from loyalty.tiers.v1 import tier_service_pb2 as _tier_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetMemberViewRequest(_message.Message):
    __slots__ = ("member_id", "identifier", "causal_token")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    identifier: _member_pb2.Identifier
    causal_token: str
    def __init__(self, member_id: _Optional[str] = ..., identifier: _Optional[_Union[_member_pb2.Identifier, _Mapping]] = ..., causal_token: _Optional[str] = ...) -> None: ...

class MemberView(_message.Message):
    __slots__ = ("member", "name", "email", "phone", "standing", "standing_lines", "purchases", "coupons", "messages", "goodwill_points_this_month", "missing_parts", "consents", "badges", "answers")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    PHONE_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    STANDING_LINES_FIELD_NUMBER: _ClassVar[int]
    PURCHASES_FIELD_NUMBER: _ClassVar[int]
    COUPONS_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    GOODWILL_POINTS_THIS_MONTH_FIELD_NUMBER: _ClassVar[int]
    MISSING_PARTS_FIELD_NUMBER: _ClassVar[int]
    CONSENTS_FIELD_NUMBER: _ClassVar[int]
    BADGES_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    member: _member_pb2.Member
    name: str
    email: str
    phone: str
    standing: _tier_service_pb2.Standing
    standing_lines: _containers.RepeatedCompositeFieldContainer[_tier_service_pb2.StandingLine]
    purchases: _containers.RepeatedCompositeFieldContainer[_ledger_service_pb2.Purchase]
    coupons: _containers.RepeatedCompositeFieldContainer[_coupon_pb2.Coupon]
    messages: _containers.RepeatedCompositeFieldContainer[MessageLine]
    goodwill_points_this_month: int
    missing_parts: _containers.RepeatedScalarFieldContainer[str]
    consents: _containers.RepeatedCompositeFieldContainer[_message_pb2.ConsentRecord]
    badges: _containers.RepeatedCompositeFieldContainer[MemberBadge]
    answers: _containers.RepeatedCompositeFieldContainer[_survey_pb2.SurveyAnswer]
    def __init__(self, member: _Optional[_Union[_member_pb2.Member, _Mapping]] = ..., name: _Optional[str] = ..., email: _Optional[str] = ..., phone: _Optional[str] = ..., standing: _Optional[_Union[_tier_service_pb2.Standing, _Mapping]] = ..., standing_lines: _Optional[_Iterable[_Union[_tier_service_pb2.StandingLine, _Mapping]]] = ..., purchases: _Optional[_Iterable[_Union[_ledger_service_pb2.Purchase, _Mapping]]] = ..., coupons: _Optional[_Iterable[_Union[_coupon_pb2.Coupon, _Mapping]]] = ..., messages: _Optional[_Iterable[_Union[MessageLine, _Mapping]]] = ..., goodwill_points_this_month: _Optional[int] = ..., missing_parts: _Optional[_Iterable[str]] = ..., consents: _Optional[_Iterable[_Union[_message_pb2.ConsentRecord, _Mapping]]] = ..., badges: _Optional[_Iterable[_Union[MemberBadge, _Mapping]]] = ..., answers: _Optional[_Iterable[_Union[_survey_pb2.SurveyAnswer, _Mapping]]] = ...) -> None: ...

class MemberBadge(_message.Message):
    __slots__ = ("badge_id", "name", "campaign_id", "given_time")
    BADGE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CAMPAIGN_ID_FIELD_NUMBER: _ClassVar[int]
    GIVEN_TIME_FIELD_NUMBER: _ClassVar[int]
    badge_id: str
    name: str
    campaign_id: str
    given_time: _timestamp_pb2.Timestamp
    def __init__(self, badge_id: _Optional[str] = ..., name: _Optional[str] = ..., campaign_id: _Optional[str] = ..., given_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class MessageLine(_message.Message):
    __slots__ = ("delivery_id", "campaign_id", "state", "created_time")
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    CAMPAIGN_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CREATED_TIME_FIELD_NUMBER: _ClassVar[int]
    delivery_id: str
    campaign_id: str
    state: str
    created_time: _timestamp_pb2.Timestamp
    def __init__(self, delivery_id: _Optional[str] = ..., campaign_id: _Optional[str] = ..., state: _Optional[str] = ..., created_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetMemberViewResponse(_message.Message):
    __slots__ = ("view",)
    VIEW_FIELD_NUMBER: _ClassVar[int]
    view: MemberView
    def __init__(self, view: _Optional[_Union[MemberView, _Mapping]] = ...) -> None: ...

class GrantGoodwillRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "points", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    points: int
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., points: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class GrantGoodwillResponse(_message.Message):
    __slots__ = ("points_left_this_month", "replayed", "causal_token")
    POINTS_LEFT_THIS_MONTH_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    points_left_this_month: int
    replayed: bool
    causal_token: str
    def __init__(self, points_left_this_month: _Optional[int] = ..., replayed: _Optional[bool] = ..., causal_token: _Optional[str] = ...) -> None: ...

class ExportMemberRequest(_message.Message):
    __slots__ = ("member_id", "page_token", "page_size")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    page_token: str
    page_size: int
    def __init__(self, member_id: _Optional[str] = ..., page_token: _Optional[str] = ..., page_size: _Optional[int] = ...) -> None: ...

class Holding(_message.Message):
    __slots__ = ("category", "description", "purpose", "recipients", "retention")
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    RETENTION_FIELD_NUMBER: _ClassVar[int]
    category: str
    description: str
    purpose: str
    recipients: _containers.RepeatedScalarFieldContainer[str]
    retention: str
    def __init__(self, category: _Optional[str] = ..., description: _Optional[str] = ..., purpose: _Optional[str] = ..., recipients: _Optional[_Iterable[str]] = ..., retention: _Optional[str] = ...) -> None: ...

class ExportedRecord(_message.Message):
    __slots__ = ("category", "json")
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    category: str
    json: str
    def __init__(self, category: _Optional[str] = ..., json: _Optional[str] = ...) -> None: ...

class ExportMemberResponse(_message.Message):
    __slots__ = ("holdings", "records", "next_page_token")
    HOLDINGS_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    holdings: _containers.RepeatedCompositeFieldContainer[Holding]
    records: _containers.RepeatedCompositeFieldContainer[ExportedRecord]
    next_page_token: str
    def __init__(self, holdings: _Optional[_Iterable[_Union[Holding, _Mapping]]] = ..., records: _Optional[_Iterable[_Union[ExportedRecord, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("erased_time", "replayed")
    ERASED_TIME_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    erased_time: _timestamp_pb2.Timestamp
    replayed: bool
    def __init__(self, erased_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., replayed: _Optional[bool] = ...) -> None: ...
