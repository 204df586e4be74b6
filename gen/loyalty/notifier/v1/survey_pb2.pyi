import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SurveyPeriods(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SURVEY_PERIODS_UNSPECIFIED: _ClassVar[SurveyPeriods]
    SURVEY_PERIODS_VERSION: _ClassVar[SurveyPeriods]
    SURVEY_PERIODS_MONTH: _ClassVar[SurveyPeriods]
SURVEY_PERIODS_UNSPECIFIED: SurveyPeriods
SURVEY_PERIODS_VERSION: SurveyPeriods
SURVEY_PERIODS_MONTH: SurveyPeriods

class SurveyAnswer(_message.Message):
    __slots__ = ("survey_id", "score", "choice", "comment", "source", "answered_time")
    SURVEY_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_TIME_FIELD_NUMBER: _ClassVar[int]
    survey_id: str
    score: int
    choice: str
    comment: str
    source: str
    answered_time: _timestamp_pb2.Timestamp
    def __init__(self, survey_id: _Optional[str] = ..., score: _Optional[int] = ..., choice: _Optional[str] = ..., comment: _Optional[str] = ..., source: _Optional[str] = ..., answered_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SurveyAnswerCount(_message.Message):
    __slots__ = ("score", "choice", "members", "share_basis_points")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    SHARE_BASIS_POINTS_FIELD_NUMBER: _ClassVar[int]
    score: int
    choice: str
    members: int
    share_basis_points: int
    def __init__(self, score: _Optional[int] = ..., choice: _Optional[str] = ..., members: _Optional[int] = ..., share_basis_points: _Optional[int] = ...) -> None: ...

class SurveyPeriod(_message.Message):
    __slots__ = ("from_time", "until_time", "programme_version", "members", "answers", "net_promoter_basis_points", "mean_star_hundredths")
    FROM_TIME_FIELD_NUMBER: _ClassVar[int]
    UNTIL_TIME_FIELD_NUMBER: _ClassVar[int]
    PROGRAMME_VERSION_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    NET_PROMOTER_BASIS_POINTS_FIELD_NUMBER: _ClassVar[int]
    MEAN_STAR_HUNDREDTHS_FIELD_NUMBER: _ClassVar[int]
    from_time: _timestamp_pb2.Timestamp
    until_time: _timestamp_pb2.Timestamp
    programme_version: str
    members: int
    answers: _containers.RepeatedCompositeFieldContainer[SurveyAnswerCount]
    net_promoter_basis_points: int
    mean_star_hundredths: int
    def __init__(self, from_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., programme_version: _Optional[str] = ..., members: _Optional[int] = ..., answers: _Optional[_Iterable[_Union[SurveyAnswerCount, _Mapping]]] = ..., net_promoter_basis_points: _Optional[int] = ..., mean_star_hundredths: _Optional[int] = ...) -> None: ...

class GetSurveyResultsRequest(_message.Message):
    __slots__ = ("survey_id", "from_time", "until_time", "by")
    SURVEY_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_TIME_FIELD_NUMBER: _ClassVar[int]
    UNTIL_TIME_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    survey_id: str
    from_time: _timestamp_pb2.Timestamp
    until_time: _timestamp_pb2.Timestamp
    by: SurveyPeriods
    def __init__(self, survey_id: _Optional[str] = ..., from_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., by: _Optional[_Union[SurveyPeriods, str]] = ...) -> None: ...

class GetSurveyResultsResponse(_message.Message):
    __slots__ = ("periods",)
    PERIODS_FIELD_NUMBER: _ClassVar[int]
    periods: _containers.RepeatedCompositeFieldContainer[SurveyPeriod]
    def __init__(self, periods: _Optional[_Iterable[_Union[SurveyPeriod, _Mapping]]] = ...) -> None: ...
