from common.pb import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TaskState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_NEW: _ClassVar[TaskState]
    TASK_PENDING: _ClassVar[TaskState]
    TASK_ASSIGNED: _ClassVar[TaskState]
    TASK_ACCEPTED: _ClassVar[TaskState]
    TASK_PREPARING: _ClassVar[TaskState]
    TASK_READY: _ClassVar[TaskState]
    TASK_STARTING: _ClassVar[TaskState]
    TASK_RUNNING: _ClassVar[TaskState]
    TASK_COMPLETE: _ClassVar[TaskState]
    TASK_SHUTDOWN: _ClassVar[TaskState]
    TASK_FAILED: _ClassVar[TaskState]
    TASK_REJECTED: _ClassVar[TaskState]
    TASK_REMOVE: _ClassVar[TaskState]
    TASK_ORPHANED: _ClassVar[TaskState]

class NodeRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORKER: _ClassVar[NodeRole]
    MANAGER: _ClassVar[NodeRole]

class Availability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTIVE: _ClassVar[Availability]
    PAUSE: _ClassVar[Availability]
    DRAIN: _ClassVar[Availability]

class NodeState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_UNKNOWN: _ClassVar[NodeState]
    NODE_DOWN: _ClassVar[NodeState]
    NODE_READY: _ClassVar[NodeState]
    NODE_DISCONNECTED: _ClassVar[NodeState]

class Reachability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REACHABILITY_UNKNOWN: _ClassVar[Reachability]
    UNREACHABLE: _ClassVar[Reachability]
    REACHABLE: _ClassVar[Reachability]

class RestartCondition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESTART_UNSET: _ClassVar[RestartCondition]
    RESTART_NONE: _ClassVar[RestartCondition]
    RESTART_ON_FAILURE: _ClassVar[RestartCondition]
    RESTART_ANY: _ClassVar[RestartCondition]

class FailureAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAILURE_UNSET: _ClassVar[FailureAction]
    FAILURE_PAUSE: _ClassVar[FailureAction]
    FAILURE_CONTINUE: _ClassVar[FailureAction]
    FAILURE_ROLLBACK: _ClassVar[FailureAction]

class UpdateOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ORDER_UNSET: _ClassVar[UpdateOrder]
    STOP_FIRST: _ClassVar[UpdateOrder]
    START_FIRST: _ClassVar[UpdateOrder]

class EndpointMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENDPOINT_MODE_UNSET: _ClassVar[EndpointMode]
    VIP: _ClassVar[EndpointMode]
    DNSRR: _ClassVar[EndpointMode]

class PortProtocol(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROTOCOL_UNSET: _ClassVar[PortProtocol]
    TCP: _ClassVar[PortProtocol]
    UDP: _ClassVar[PortProtocol]
    SCTP: _ClassVar[PortProtocol]

class PublishMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PUBLISH_UNSET: _ClassVar[PublishMode]
    INGRESS: _ClassVar[PublishMode]
    HOST: _ClassVar[PublishMode]

class MountType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MOUNT_UNSET: _ClassVar[MountType]
    BIND: _ClassVar[MountType]
    VOLUME: _ClassVar[MountType]
    TMPFS: _ClassVar[MountType]
    NPIPE: _ClassVar[MountType]
    CLUSTER: _ClassVar[MountType]
    IMAGE: _ClassVar[MountType]

class UpdateState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UPDATE_UNKNOWN: _ClassVar[UpdateState]
    UPDATE_UPDATING: _ClassVar[UpdateState]
    UPDATE_PAUSED: _ClassVar[UpdateState]
    UPDATE_COMPLETED: _ClassVar[UpdateState]
    UPDATE_ROLLBACK_STARTED: _ClassVar[UpdateState]
    UPDATE_ROLLBACK_PAUSED: _ClassVar[UpdateState]
    UPDATE_ROLLBACK_COMPLETED: _ClassVar[UpdateState]

class EndpointState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENDPOINT_NONE: _ClassVar[EndpointState]
    ENDPOINT_SERVING: _ClassVar[EndpointState]
    ENDPOINT_WITHDRAWN: _ClassVar[EndpointState]
    ENDPOINT_DRAINED: _ClassVar[EndpointState]
TASK_NEW: TaskState
TASK_PENDING: TaskState
TASK_ASSIGNED: TaskState
TASK_ACCEPTED: TaskState
TASK_PREPARING: TaskState
TASK_READY: TaskState
TASK_STARTING: TaskState
TASK_RUNNING: TaskState
TASK_COMPLETE: TaskState
TASK_SHUTDOWN: TaskState
TASK_FAILED: TaskState
TASK_REJECTED: TaskState
TASK_REMOVE: TaskState
TASK_ORPHANED: TaskState
WORKER: NodeRole
MANAGER: NodeRole
ACTIVE: Availability
PAUSE: Availability
DRAIN: Availability
NODE_UNKNOWN: NodeState
NODE_DOWN: NodeState
NODE_READY: NodeState
NODE_DISCONNECTED: NodeState
REACHABILITY_UNKNOWN: Reachability
UNREACHABLE: Reachability
REACHABLE: Reachability
RESTART_UNSET: RestartCondition
RESTART_NONE: RestartCondition
RESTART_ON_FAILURE: RestartCondition
RESTART_ANY: RestartCondition
FAILURE_UNSET: FailureAction
FAILURE_PAUSE: FailureAction
FAILURE_CONTINUE: FailureAction
FAILURE_ROLLBACK: FailureAction
ORDER_UNSET: UpdateOrder
STOP_FIRST: UpdateOrder
START_FIRST: UpdateOrder
ENDPOINT_MODE_UNSET: EndpointMode
VIP: EndpointMode
DNSRR: EndpointMode
PROTOCOL_UNSET: PortProtocol
TCP: PortProtocol
UDP: PortProtocol
SCTP: PortProtocol
PUBLISH_UNSET: PublishMode
INGRESS: PublishMode
HOST: PublishMode
MOUNT_UNSET: MountType
BIND: MountType
VOLUME: MountType
TMPFS: MountType
NPIPE: MountType
CLUSTER: MountType
IMAGE: MountType
UPDATE_UNKNOWN: UpdateState
UPDATE_UPDATING: UpdateState
UPDATE_PAUSED: UpdateState
UPDATE_COMPLETED: UpdateState
UPDATE_ROLLBACK_STARTED: UpdateState
UPDATE_ROLLBACK_PAUSED: UpdateState
UPDATE_ROLLBACK_COMPLETED: UpdateState
ENDPOINT_NONE: EndpointState
ENDPOINT_SERVING: EndpointState
ENDPOINT_WITHDRAWN: EndpointState
ENDPOINT_DRAINED: EndpointState

class Platform(_message.Message):
    __slots__ = ("architecture", "os")
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    OS_FIELD_NUMBER: _ClassVar[int]
    architecture: str
    os: str
    def __init__(self, architecture: _Optional[str] = ..., os: _Optional[str] = ...) -> None: ...

class NamedGenericResource(_message.Message):
    __slots__ = ("kind", "value")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    value: str
    def __init__(self, kind: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class DiscreteGenericResource(_message.Message):
    __slots__ = ("kind", "value")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    value: int
    def __init__(self, kind: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...

class GenericResource(_message.Message):
    __slots__ = ("named", "discrete")
    NAMED_FIELD_NUMBER: _ClassVar[int]
    DISCRETE_FIELD_NUMBER: _ClassVar[int]
    named: NamedGenericResource
    discrete: DiscreteGenericResource
    def __init__(self, named: _Optional[_Union[NamedGenericResource, _Mapping]] = ..., discrete: _Optional[_Union[DiscreteGenericResource, _Mapping]] = ...) -> None: ...

class Resources(_message.Message):
    __slots__ = ("nano_cpus", "memory_bytes", "generic")
    NANO_CPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    GENERIC_FIELD_NUMBER: _ClassVar[int]
    nano_cpus: int
    memory_bytes: int
    generic: _containers.RepeatedCompositeFieldContainer[GenericResource]
    def __init__(self, nano_cpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., generic: _Optional[_Iterable[_Union[GenericResource, _Mapping]]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("nano_cpus", "memory_bytes", "pids")
    NANO_CPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PIDS_FIELD_NUMBER: _ClassVar[int]
    nano_cpus: int
    memory_bytes: int
    pids: int
    def __init__(self, nano_cpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., pids: _Optional[int] = ...) -> None: ...

class Driver(_message.Message):
    __slots__ = ("name", "options")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    options: _containers.ScalarMap[str, str]
    def __init__(self, name: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ...) -> None: ...

class IPAMConfig(_message.Message):
    __slots__ = ("subnet", "range", "gateway", "reserved")
    class ReservedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SUBNET_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    subnet: str
    range: str
    gateway: str
    reserved: _containers.ScalarMap[str, str]
    def __init__(self, subnet: _Optional[str] = ..., range: _Optional[str] = ..., gateway: _Optional[str] = ..., reserved: _Optional[_Mapping[str, str]] = ...) -> None: ...

class IPAMOptions(_message.Message):
    __slots__ = ("driver", "configs")
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    CONFIGS_FIELD_NUMBER: _ClassVar[int]
    driver: Driver
    configs: _containers.RepeatedCompositeFieldContainer[IPAMConfig]
    def __init__(self, driver: _Optional[_Union[Driver, _Mapping]] = ..., configs: _Optional[_Iterable[_Union[IPAMConfig, _Mapping]]] = ...) -> None: ...

class TLSInfo(_message.Message):
    __slots__ = ("trust_root", "cert_issuer_subject", "cert_issuer_public_key")
    TRUST_ROOT_FIELD_NUMBER: _ClassVar[int]
    CERT_ISSUER_SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CERT_ISSUER_PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    trust_root: str
    cert_issuer_subject: bytes
    cert_issuer_public_key: bytes
    def __init__(self, trust_root: _Optional[str] = ..., cert_issuer_subject: _Optional[bytes] = ..., cert_issuer_public_key: _Optional[bytes] = ...) -> None: ...

class Fence(_message.Message):
    __slots__ = ("cluster_id", "epoch", "term", "index")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    epoch: int
    term: int
    index: int
    def __init__(self, cluster_id: _Optional[str] = ..., epoch: _Optional[int] = ..., term: _Optional[int] = ..., index: _Optional[int] = ...) -> None: ...
