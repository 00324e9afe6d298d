from common.pb import options_pb2 as _options_pb2
from common.pb import specs_pb2 as _specs_pb2
from common.pb import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InitRequest(_message.Message):
    __slots__ = ("listen_addr", "advertise_addr", "data_path_addr", "data_path_port", "force_new_cluster", "spec", "default_address_pool", "subnet_size", "availability", "csr", "hostname", "machine", "routes")
    LISTEN_ADDR_FIELD_NUMBER: _ClassVar[int]
    ADVERTISE_ADDR_FIELD_NUMBER: _ClassVar[int]
    DATA_PATH_ADDR_FIELD_NUMBER: _ClassVar[int]
    DATA_PATH_PORT_FIELD_NUMBER: _ClassVar[int]
    FORCE_NEW_CLUSTER_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_ADDRESS_POOL_FIELD_NUMBER: _ClassVar[int]
    SUBNET_SIZE_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    listen_addr: str
    advertise_addr: str
    data_path_addr: str
    data_path_port: int
    force_new_cluster: bool
    spec: _specs_pb2.ClusterSpec
    default_address_pool: _containers.RepeatedScalarFieldContainer[str]
    subnet_size: int
    availability: _types_pb2.Availability
    csr: bytes
    hostname: str
    machine: str
    routes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, listen_addr: _Optional[str] = ..., advertise_addr: _Optional[str] = ..., data_path_addr: _Optional[str] = ..., data_path_port: _Optional[int] = ..., force_new_cluster: _Optional[bool] = ..., spec: _Optional[_Union[_specs_pb2.ClusterSpec, _Mapping]] = ..., default_address_pool: _Optional[_Iterable[str]] = ..., subnet_size: _Optional[int] = ..., availability: _Optional[_Union[_types_pb2.Availability, str]] = ..., csr: _Optional[bytes] = ..., hostname: _Optional[str] = ..., machine: _Optional[str] = ..., routes: _Optional[_Iterable[str]] = ...) -> None: ...

class InitReply(_message.Message):
    __slots__ = ("node_id", "cluster_id", "certificate", "advertise_addr", "renewal")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    ADVERTISE_ADDR_FIELD_NUMBER: _ClassVar[int]
    RENEWAL_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    cluster_id: str
    certificate: bytes
    advertise_addr: str
    renewal: bytes
    def __init__(self, node_id: _Optional[str] = ..., cluster_id: _Optional[str] = ..., certificate: _Optional[bytes] = ..., advertise_addr: _Optional[str] = ..., renewal: _Optional[bytes] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("state", "node_id", "cluster_id", "error", "advertise_addr", "leader", "managers", "nodes", "has_leader", "leader_id")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        INACTIVE: _ClassVar[StatusReply.State]
        ACTIVE: _ClassVar[StatusReply.State]
        LOCKED: _ClassVar[StatusReply.State]
        ERROR: _ClassVar[StatusReply.State]
        REMOVED: _ClassVar[StatusReply.State]
    INACTIVE: StatusReply.State
    ACTIVE: StatusReply.State
    LOCKED: StatusReply.State
    ERROR: StatusReply.State
    REMOVED: StatusReply.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ADVERTISE_ADDR_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    MANAGERS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    HAS_LEADER_FIELD_NUMBER: _ClassVar[int]
    LEADER_ID_FIELD_NUMBER: _ClassVar[int]
    state: StatusReply.State
    node_id: str
    cluster_id: str
    error: str
    advertise_addr: str
    leader: bool
    managers: int
    nodes: int
    has_leader: bool
    leader_id: str
    def __init__(self, state: _Optional[_Union[StatusReply.State, str]] = ..., node_id: _Optional[str] = ..., cluster_id: _Optional[str] = ..., error: _Optional[str] = ..., advertise_addr: _Optional[str] = ..., leader: _Optional[bool] = ..., managers: _Optional[int] = ..., nodes: _Optional[int] = ..., has_leader: _Optional[bool] = ..., leader_id: _Optional[str] = ...) -> None: ...

class LeaveRequest(_message.Message):
    __slots__ = ("force", "demoted")
    FORCE_FIELD_NUMBER: _ClassVar[int]
    DEMOTED_FIELD_NUMBER: _ClassVar[int]
    force: bool
    demoted: bool
    def __init__(self, force: _Optional[bool] = ..., demoted: _Optional[bool] = ...) -> None: ...

class LeaveReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("node_id", "cluster_id", "listen_addr", "advertise_addr", "managers", "certificate", "key")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    LISTEN_ADDR_FIELD_NUMBER: _ClassVar[int]
    ADVERTISE_ADDR_FIELD_NUMBER: _ClassVar[int]
    MANAGERS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    cluster_id: str
    listen_addr: str
    advertise_addr: str
    managers: _containers.RepeatedScalarFieldContainer[str]
    certificate: bytes
    key: bytes
    def __init__(self, node_id: _Optional[str] = ..., cluster_id: _Optional[str] = ..., listen_addr: _Optional[str] = ..., advertise_addr: _Optional[str] = ..., managers: _Optional[_Iterable[str]] = ..., certificate: _Optional[bytes] = ..., key: _Optional[bytes] = ...) -> None: ...

class JoinReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UnlockRequest(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: str
    def __init__(self, key: _Optional[str] = ...) -> None: ...

class UnlockReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
