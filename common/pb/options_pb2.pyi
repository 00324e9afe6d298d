from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class Empty(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OMIT: _ClassVar[Empty]
    KEEP: _ClassVar[Empty]
    NULL: _ClassVar[Empty]

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_ANYBODY: _ClassVar[Role]
    ROLE_JOINER: _ClassVar[Role]
    ROLE_WORKER: _ClassVar[Role]
    ROLE_MANAGER: _ClassVar[Role]
    ROLE_LOCAL: _ClassVar[Role]
    ROLE_PEER: _ClassVar[Role]
    ROLE_RENEWER: _ClassVar[Role]
OMIT: Empty
KEEP: Empty
NULL: Empty
ROLE_UNSPECIFIED: Role
ROLE_ANYBODY: Role
ROLE_JOINER: Role
ROLE_WORKER: Role
ROLE_MANAGER: Role
ROLE_LOCAL: Role
ROLE_PEER: Role
ROLE_RENEWER: Role
API_FIELD_NUMBER: _ClassVar[int]
api: _descriptor.FieldDescriptor
EMPTY_FIELD_NUMBER: _ClassVar[int]
empty: _descriptor.FieldDescriptor
WRAP_FIELD_NUMBER: _ClassVar[int]
wrap: _descriptor.FieldDescriptor
INVALID_FIELD_NUMBER: _ClassVar[int]
invalid: _descriptor.FieldDescriptor
WORD_FIELD_NUMBER: _ClassVar[int]
word: _descriptor.FieldDescriptor
ROLES_FIELD_NUMBER: _ClassVar[int]
roles: _descriptor.FieldDescriptor
