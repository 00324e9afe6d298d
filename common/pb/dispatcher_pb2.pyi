from common.pb import check_pb2 as _check_pb2
from common.pb import objects_pb2 as _objects_pb2
from common.pb import options_pb2 as _options_pb2
from common.pb import specs_pb2 as _specs_pb2
from common.pb import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Hello(_message.Message):
    __slots__ = ("description", "addr", "chain", "fence", "instance")
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    description: _objects_pb2.NodeDescription
    addr: str
    chain: str
    fence: _types_pb2.Fence
    instance: bytes
    def __init__(self, description: _Optional[_Union[_objects_pb2.NodeDescription, _Mapping]] = ..., addr: _Optional[str] = ..., chain: _Optional[str] = ..., fence: _Optional[_Union[_types_pb2.Fence, _Mapping]] = ..., instance: _Optional[bytes] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TaskStatusUpdate(_message.Message):
    __slots__ = ("task_id", "status")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    status: _objects_pb2.TaskStatus
    def __init__(self, task_id: _Optional[str] = ..., status: _Optional[_Union[_objects_pb2.TaskStatus, _Mapping]] = ...) -> None: ...

class TaskStatuses(_message.Message):
    __slots__ = ("sequence", "updates")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    updates: _containers.RepeatedCompositeFieldContainer[TaskStatusUpdate]
    def __init__(self, sequence: _Optional[int] = ..., updates: _Optional[_Iterable[_Union[TaskStatusUpdate, _Mapping]]] = ...) -> None: ...

class Acknowledge(_message.Message):
    __slots__ = ("index",)
    INDEX_FIELD_NUMBER: _ClassVar[int]
    index: int
    def __init__(self, index: _Optional[int] = ...) -> None: ...

class Unseen(_message.Message):
    __slots__ = ("node_ids", "left")
    NODE_IDS_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    node_ids: _containers.RepeatedScalarFieldContainer[str]
    left: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node_ids: _Optional[_Iterable[str]] = ..., left: _Optional[_Iterable[str]] = ...) -> None: ...

class ContainerAttachment(_message.Message):
    __slots__ = ("id", "container_id", "name", "networks")
    ID_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NETWORKS_FIELD_NUMBER: _ClassVar[int]
    id: str
    container_id: str
    name: str
    networks: _containers.RepeatedCompositeFieldContainer[_specs_pb2.NetworkAttachmentConfig]
    def __init__(self, id: _Optional[str] = ..., container_id: _Optional[str] = ..., name: _Optional[str] = ..., networks: _Optional[_Iterable[_Union[_specs_pb2.NetworkAttachmentConfig, _Mapping]]] = ...) -> None: ...

class ContainerAttachments(_message.Message):
    __slots__ = ("held",)
    HELD_FIELD_NUMBER: _ClassVar[int]
    held: _containers.RepeatedCompositeFieldContainer[ContainerAttachment]
    def __init__(self, held: _Optional[_Iterable[_Union[ContainerAttachment, _Mapping]]] = ...) -> None: ...

class AgentMessage(_message.Message):
    __slots__ = ("hello", "heartbeat", "statuses", "acknowledge", "description", "unseen", "attachments", "ask", "report")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    UNSEEN_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENTS_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    statuses: TaskStatuses
    acknowledge: Acknowledge
    description: _objects_pb2.NodeDescription
    unseen: Unseen
    attachments: ContainerAttachments
    ask: _check_pb2.CheckAsk
    report: _check_pb2.CheckReport
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., statuses: _Optional[_Union[TaskStatuses, _Mapping]] = ..., acknowledge: _Optional[_Union[Acknowledge, _Mapping]] = ..., description: _Optional[_Union[_objects_pb2.NodeDescription, _Mapping]] = ..., unseen: _Optional[_Union[Unseen, _Mapping]] = ..., attachments: _Optional[_Union[ContainerAttachments, _Mapping]] = ..., ask: _Optional[_Union[_check_pb2.CheckAsk, _Mapping]] = ..., report: _Optional[_Union[_check_pb2.CheckReport, _Mapping]] = ...) -> None: ...

class ManagerAddress(_message.Message):
    __slots__ = ("node_id", "addr")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    addr: str
    def __init__(self, node_id: _Optional[str] = ..., addr: _Optional[str] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("session_id", "heartbeat_period", "managers", "root_ca", "role", "node_id", "cluster_id", "network_keys", "availability", "fence")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_PERIOD_FIELD_NUMBER: _ClassVar[int]
    MANAGERS_FIELD_NUMBER: _ClassVar[int]
    ROOT_CA_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    NETWORK_KEYS_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    heartbeat_period: int
    managers: _containers.RepeatedCompositeFieldContainer[ManagerAddress]
    root_ca: bytes
    role: _types_pb2.NodeRole
    node_id: str
    cluster_id: str
    network_keys: _containers.RepeatedCompositeFieldContainer[_objects_pb2.EncryptionKey]
    availability: _types_pb2.Availability
    fence: _types_pb2.Fence
    def __init__(self, session_id: _Optional[str] = ..., heartbeat_period: _Optional[int] = ..., managers: _Optional[_Iterable[_Union[ManagerAddress, _Mapping]]] = ..., root_ca: _Optional[bytes] = ..., role: _Optional[_Union[_types_pb2.NodeRole, str]] = ..., node_id: _Optional[str] = ..., cluster_id: _Optional[str] = ..., network_keys: _Optional[_Iterable[_Union[_objects_pb2.EncryptionKey, _Mapping]]] = ..., availability: _Optional[_Union[_types_pb2.Availability, str]] = ..., fence: _Optional[_Union[_types_pb2.Fence, _Mapping]] = ...) -> None: ...

class TaskAssignment(_message.Message):
    __slots__ = ("task", "peers_ready")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PEERS_READY_FIELD_NUMBER: _ClassVar[int]
    task: _objects_pb2.Task
    peers_ready: bool
    def __init__(self, task: _Optional[_Union[_objects_pb2.Task, _Mapping]] = ..., peers_ready: _Optional[bool] = ...) -> None: ...

class ServiceRecord(_message.Message):
    __slots__ = ("id", "name", "mode", "virtual_ips", "ports", "publish_addresses", "masquerade")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    VIRTUAL_IPS_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    MASQUERADE_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    mode: _types_pb2.EndpointMode
    virtual_ips: _containers.RepeatedCompositeFieldContainer[_objects_pb2.VirtualIP]
    ports: _containers.RepeatedCompositeFieldContainer[_specs_pb2.PortConfig]
    publish_addresses: _containers.RepeatedScalarFieldContainer[str]
    masquerade: bool
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., mode: _Optional[_Union[_types_pb2.EndpointMode, str]] = ..., virtual_ips: _Optional[_Iterable[_Union[_objects_pb2.VirtualIP, _Mapping]]] = ..., ports: _Optional[_Iterable[_Union[_specs_pb2.PortConfig, _Mapping]]] = ..., publish_addresses: _Optional[_Iterable[str]] = ..., masquerade: _Optional[bool] = ...) -> None: ...

class EndpointRecord(_message.Message):
    __slots__ = ("task_id", "network_id", "addr", "node_id", "service_id", "task_name", "aliases", "state", "addr6", "mac")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_NAME_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ADDR6_FIELD_NUMBER: _ClassVar[int]
    MAC_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    network_id: str
    addr: str
    node_id: str
    service_id: str
    task_name: str
    aliases: _containers.RepeatedScalarFieldContainer[str]
    state: _types_pb2.EndpointState
    addr6: str
    mac: str
    def __init__(self, task_id: _Optional[str] = ..., network_id: _Optional[str] = ..., addr: _Optional[str] = ..., node_id: _Optional[str] = ..., service_id: _Optional[str] = ..., task_name: _Optional[str] = ..., aliases: _Optional[_Iterable[str]] = ..., state: _Optional[_Union[_types_pb2.EndpointState, str]] = ..., addr6: _Optional[str] = ..., mac: _Optional[str] = ...) -> None: ...

class NodeRecord(_message.Message):
    __slots__ = ("id", "hostname", "vtep", "ingress_addr", "number", "down", "ingress_addr6", "addr", "masquerade")
    ID_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    VTEP_FIELD_NUMBER: _ClassVar[int]
    INGRESS_ADDR_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DOWN_FIELD_NUMBER: _ClassVar[int]
    INGRESS_ADDR6_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    MASQUERADE_FIELD_NUMBER: _ClassVar[int]
    id: str
    hostname: str
    vtep: str
    ingress_addr: str
    number: int
    down: bool
    ingress_addr6: str
    addr: str
    masquerade: bool
    def __init__(self, id: _Optional[str] = ..., hostname: _Optional[str] = ..., vtep: _Optional[str] = ..., ingress_addr: _Optional[str] = ..., number: _Optional[int] = ..., down: _Optional[bool] = ..., ingress_addr6: _Optional[str] = ..., addr: _Optional[str] = ..., masquerade: _Optional[bool] = ...) -> None: ...

class NetworkRecord(_message.Message):
    __slots__ = ("network",)
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    network: _objects_pb2.Network
    def __init__(self, network: _Optional[_Union[_objects_pb2.Network, _Mapping]] = ...) -> None: ...

class ConfigRecord(_message.Message):
    __slots__ = ("id", "name", "data", "templating")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TEMPLATING_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    data: bytes
    templating: _types_pb2.Driver
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., data: _Optional[bytes] = ..., templating: _Optional[_Union[_types_pb2.Driver, _Mapping]] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("task", "network", "service", "endpoint", "node", "config")
    TASK_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    task: TaskAssignment
    network: NetworkRecord
    service: ServiceRecord
    endpoint: EndpointRecord
    node: NodeRecord
    config: ConfigRecord
    def __init__(self, task: _Optional[_Union[TaskAssignment, _Mapping]] = ..., network: _Optional[_Union[NetworkRecord, _Mapping]] = ..., service: _Optional[_Union[ServiceRecord, _Mapping]] = ..., endpoint: _Optional[_Union[EndpointRecord, _Mapping]] = ..., node: _Optional[_Union[NodeRecord, _Mapping]] = ..., config: _Optional[_Union[ConfigRecord, _Mapping]] = ...) -> None: ...

class AssignmentChange(_message.Message):
    __slots__ = ("remove", "key", "assignment")
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    remove: bool
    key: str
    assignment: Assignment
    def __init__(self, remove: _Optional[bool] = ..., key: _Optional[str] = ..., assignment: _Optional[_Union[Assignment, _Mapping]] = ...) -> None: ...

class Assignments(_message.Message):
    __slots__ = ("fence", "complete", "applies_to", "results_in", "changes", "more")
    FENCE_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    APPLIES_TO_FIELD_NUMBER: _ClassVar[int]
    RESULTS_IN_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    fence: _types_pb2.Fence
    complete: bool
    applies_to: str
    results_in: str
    changes: _containers.RepeatedCompositeFieldContainer[AssignmentChange]
    more: bool
    def __init__(self, fence: _Optional[_Union[_types_pb2.Fence, _Mapping]] = ..., complete: _Optional[bool] = ..., applies_to: _Optional[str] = ..., results_in: _Optional[str] = ..., changes: _Optional[_Iterable[_Union[AssignmentChange, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class StatusesTaken(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class AttachmentRefused(_message.Message):
    __slots__ = ("id", "network", "code", "message", "address", "waits")
    ID_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    id: str
    network: str
    code: str
    message: str
    address: bool
    waits: bool
    def __init__(self, id: _Optional[str] = ..., network: _Optional[str] = ..., code: _Optional[str] = ..., message: _Optional[str] = ..., address: _Optional[bool] = ..., waits: _Optional[bool] = ...) -> None: ...

class ManagerMessage(_message.Message):
    __slots__ = ("welcome", "assignments", "taken", "update", "refused", "check", "checked")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    CHECKED_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    assignments: Assignments
    taken: StatusesTaken
    update: Welcome
    refused: AttachmentRefused
    check: _check_pb2.CheckOrder
    checked: _check_pb2.NetworkCheck
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., assignments: _Optional[_Union[Assignments, _Mapping]] = ..., taken: _Optional[_Union[StatusesTaken, _Mapping]] = ..., update: _Optional[_Union[Welcome, _Mapping]] = ..., refused: _Optional[_Union[AttachmentRefused, _Mapping]] = ..., check: _Optional[_Union[_check_pb2.CheckOrder, _Mapping]] = ..., checked: _Optional[_Union[_check_pb2.NetworkCheck, _Mapping]] = ...) -> None: ...
