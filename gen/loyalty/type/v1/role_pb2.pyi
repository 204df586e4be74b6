from loyalty.type.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_POS: _ClassVar[Role]
    ROLE_BACKEND: _ClassVar[Role]
    ROLE_SUPPORT: _ClassVar[Role]
    ROLE_ANALYST: _ClassVar[Role]
    ROLE_OPS: _ClassVar[Role]
ROLE_UNSPECIFIED: Role
ROLE_POS: Role
ROLE_BACKEND: Role
ROLE_SUPPORT: Role
ROLE_ANALYST: Role
ROLE_OPS: Role
