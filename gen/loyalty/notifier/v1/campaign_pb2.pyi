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

class CampaignState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CAMPAIGN_STATE_UNSPECIFIED: _ClassVar[CampaignState]
    CAMPAIGN_STATE_RUNNING: _ClassVar[CampaignState]
    CAMPAIGN_STATE_PAUSED: _ClassVar[CampaignState]
    CAMPAIGN_STATE_OUT_OF_SEASON: _ClassVar[CampaignState]
CAMPAIGN_STATE_UNSPECIFIED: CampaignState
CAMPAIGN_STATE_RUNNING: CampaignState
CAMPAIGN_STATE_PAUSED: CampaignState
CAMPAIGN_STATE_OUT_OF_SEASON: CampaignState

class CampaignSum(_message.Message):
    __slots__ = ("count", "points", "amount")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    points: int
    amount: _money_pb2.Money
    def __init__(self, count: _Optional[int] = ..., points: _Optional[int] = ..., amount: _Optional[_Union[_money_pb2.Money, _Mapping]] = ...) -> None: ...

class CampaignGroup(_message.Message):
    __slots__ = ("variant", "in_control", "tier", "given")
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    IN_CONTROL_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    variant: str
    in_control: bool
    tier: str
    given: CampaignSum
    def __init__(self, variant: _Optional[str] = ..., in_control: _Optional[bool] = ..., tier: _Optional[str] = ..., given: _Optional[_Union[CampaignSum, _Mapping]] = ...) -> None: ...

class Campaign(_message.Message):
    __slots__ = ("campaign_id", "trigger", "state", "paused_time", "groups", "given", "limited", "left")
    CAMPAIGN_ID_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PAUSED_TIME_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    LIMITED_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    campaign_id: str
    trigger: str
    state: CampaignState
    paused_time: _timestamp_pb2.Timestamp
    groups: _containers.RepeatedCompositeFieldContainer[CampaignGroup]
    given: CampaignSum
    limited: _containers.RepeatedScalarFieldContainer[str]
    left: CampaignSum
    def __init__(self, campaign_id: _Optional[str] = ..., trigger: _Optional[str] = ..., state: _Optional[_Union[CampaignState, str]] = ..., paused_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., groups: _Optional[_Iterable[_Union[CampaignGroup, _Mapping]]] = ..., given: _Optional[_Union[CampaignSum, _Mapping]] = ..., limited: _Optional[_Iterable[str]] = ..., left: _Optional[_Union[CampaignSum, _Mapping]] = ...) -> None: ...

class ListCampaignsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListCampaignsResponse(_message.Message):
    __slots__ = ("campaigns",)
    CAMPAIGNS_FIELD_NUMBER: _ClassVar[int]
    campaigns: _containers.RepeatedCompositeFieldContainer[Campaign]
    def __init__(self, campaigns: _Optional[_Iterable[_Union[Campaign, _Mapping]]] = ...) -> None: ...

class PreviewCampaignRequest(_message.Message):
    __slots__ = ("campaign_id", "day", "sample_size")
    CAMPAIGN_ID_FIELD_NUMBER: _ClassVar[int]
    DAY_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_SIZE_FIELD_NUMBER: _ClassVar[int]
    campaign_id: str
    day: str
    sample_size: int
    def __init__(self, campaign_id: _Optional[str] = ..., day: _Optional[str] = ..., sample_size: _Optional[int] = ...) -> None: ...

class CampaignMember(_message.Message):
    __slots__ = ("member_id", "tier", "variant", "in_control")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    IN_CONTROL_FIELD_NUMBER: _ClassVar[int]
    member_id: str
    tier: str
    variant: str
    in_control: bool
    def __init__(self, member_id: _Optional[str] = ..., tier: _Optional[str] = ..., variant: _Optional[str] = ..., in_control: _Optional[bool] = ...) -> None: ...

class PreviewCampaignResponse(_message.Message):
    __slots__ = ("groups", "given", "sample", "members_looked_at", "complete")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    GIVEN_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_LOOKED_AT_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[CampaignGroup]
    given: CampaignSum
    sample: _containers.RepeatedCompositeFieldContainer[CampaignMember]
    members_looked_at: int
    complete: bool
    def __init__(self, groups: _Optional[_Iterable[_Union[CampaignGroup, _Mapping]]] = ..., given: _Optional[_Union[CampaignSum, _Mapping]] = ..., sample: _Optional[_Iterable[_Union[CampaignMember, _Mapping]]] = ..., members_looked_at: _Optional[int] = ..., complete: _Optional[bool] = ...) -> None: ...

class PauseCampaignRequest(_message.Message):
    __slots__ = ("campaign_id",)
    CAMPAIGN_ID_FIELD_NUMBER: _ClassVar[int]
    campaign_id: str
    def __init__(self, campaign_id: _Optional[str] = ...) -> None: ...

class PauseCampaignResponse(_message.Message):
    __slots__ = ("campaign",)
    CAMPAIGN_FIELD_NUMBER: _ClassVar[int]
    campaign: Campaign
    def __init__(self, campaign: _Optional[_Union[Campaign, _Mapping]] = ...) -> None: ...

class ResumeCampaignRequest(_message.Message):
    __slots__ = ("campaign_id",)
    CAMPAIGN_ID_FIELD_NUMBER: _ClassVar[int]
    campaign_id: str
    def __init__(self, campaign_id: _Optional[str] = ...) -> None: ...

class ResumeCampaignResponse(_message.Message):
    __slots__ = ("campaign",)
    CAMPAIGN_FIELD_NUMBER: _ClassVar[int]
    campaign: Campaign
    def __init__(self, campaign: _Optional[_Union[Campaign, _Mapping]] = ...) -> None: ...

class RecordFeedbackRequest(_message.Message):
    __slots__ = ("request_id", "member_id", "survey_id", "score", "choice", "source", "occurred_time", "comment")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    SURVEY_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    member_id: str
    survey_id: str
    score: int
    choice: str
    source: str
    occurred_time: _timestamp_pb2.Timestamp
    comment: str
    def __init__(self, request_id: _Optional[str] = ..., member_id: _Optional[str] = ..., survey_id: _Optional[str] = ..., score: _Optional[int] = ..., choice: _Optional[str] = ..., source: _Optional[str] = ..., occurred_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., comment: _Optional[str] = ...) -> None: ...

class RecordFeedbackResponse(_message.Message):
    __slots__ = ("replayed",)
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    replayed: bool
    def __init__(self, replayed: _Optional[bool] = ...) -> None: ...

class UpdateSegmentRequest(_message.Message):
    __slots__ = ("segment", "add_member_ids", "remove_member_ids", "causal_token")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    ADD_MEMBER_IDS_FIELD_NUMBER: _ClassVar[int]
    REMOVE_MEMBER_IDS_FIELD_NUMBER: _ClassVar[int]
    CAUSAL_TOKEN_FIELD_NUMBER: _ClassVar[int]
    segment: str
    add_member_ids: _containers.RepeatedScalarFieldContainer[str]
    remove_member_ids: _containers.RepeatedScalarFieldContainer[str]
    causal_token: str
    def __init__(self, segment: _Optional[str] = ..., add_member_ids: _Optional[_Iterable[str]] = ..., remove_member_ids: _Optional[_Iterable[str]] = ..., causal_token: _Optional[str] = ...) -> None: ...

class UpdateSegmentResponse(_message.Message):
    __slots__ = ("added", "unknown", "unknown_member_ids")
    ADDED_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_MEMBER_IDS_FIELD_NUMBER: _ClassVar[int]
    added: int
    unknown: int
    unknown_member_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, added: _Optional[int] = ..., unknown: _Optional[int] = ..., unknown_member_ids: _Optional[_Iterable[str]] = ...) -> None: ...
