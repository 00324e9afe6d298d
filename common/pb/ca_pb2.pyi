from common.pb import options_pb2 as _options_pb2
from common.pb import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IssueRequest(_message.Message):
    __slots__ = ("csr", "hostname", "machine", "availability", "addr")
    CSR_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    csr: bytes
    hostname: str
    machine: str
    availability: _types_pb2.Availability
    addr: str
    def __init__(self, csr: _Optional[bytes] = ..., hostname: _Optional[str] = ..., machine: _Optional[str] = ..., availability: _Optional[_Union[_types_pb2.Availability, str]] = ..., addr: _Optional[str] = ...) -> None: ...

class IssueReply(_message.Message):
    __slots__ = ("node_id", "cluster_id", "role", "certificate", "remote_addr", "managers", "renewal")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    REMOTE_ADDR_FIELD_NUMBER: _ClassVar[int]
    MANAGERS_FIELD_NUMBER: _ClassVar[int]
    RENEWAL_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    cluster_id: str
    role: _types_pb2.NodeRole
    certificate: bytes
    remote_addr: str
    managers: _containers.RepeatedScalarFieldContainer[str]
    renewal: bytes
    def __init__(self, node_id: _Optional[str] = ..., cluster_id: _Optional[str] = ..., role: _Optional[_Union[_types_pb2.NodeRole, str]] = ..., certificate: _Optional[bytes] = ..., remote_addr: _Optional[str] = ..., managers: _Optional[_Iterable[str]] = ..., renewal: _Optional[bytes] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("csr", "role")
    CSR_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    csr: bytes
    role: _types_pb2.NodeRole
    def __init__(self, csr: _Optional[bytes] = ..., role: _Optional[_Union[_types_pb2.NodeRole, str]] = ...) -> None: ...
