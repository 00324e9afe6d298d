from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CheckPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHECK_UNSET: _ClassVar[CheckPhase]
    CHECK_LISTEN: _ClassVar[CheckPhase]
    CHECK_SEND: _ClassVar[CheckPhase]
    CHECK_TELL: _ClassVar[CheckPhase]
CHECK_UNSET: CheckPhase
CHECK_LISTEN: CheckPhase
CHECK_SEND: CheckPhase
CHECK_TELL: CheckPhase

class CheckAsk(_message.Message):
    __slots__ = ("id", "network_id")
    ID_FIELD_NUMBER: _ClassVar[int]
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    network_id: str
    def __init__(self, id: _Optional[str] = ..., network_id: _Optional[str] = ...) -> None: ...

class CheckNode(_message.Message):
    __slots__ = ("id", "hostname", "vtep", "addr", "leg", "listens", "leg_mac")
    ID_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    VTEP_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    LEG_FIELD_NUMBER: _ClassVar[int]
    LISTENS_FIELD_NUMBER: _ClassVar[int]
    LEG_MAC_FIELD_NUMBER: _ClassVar[int]
    id: str
    hostname: str
    vtep: str
    addr: str
    leg: str
    listens: bool
    leg_mac: str
    def __init__(self, id: _Optional[str] = ..., hostname: _Optional[str] = ..., vtep: _Optional[str] = ..., addr: _Optional[str] = ..., leg: _Optional[str] = ..., listens: _Optional[bool] = ..., leg_mac: _Optional[str] = ...) -> None: ...

class CheckService(_message.Message):
    __slots__ = ("name", "vip", "backends")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VIP_FIELD_NUMBER: _ClassVar[int]
    BACKENDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    vip: str
    backends: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., vip: _Optional[str] = ..., backends: _Optional[_Iterable[str]] = ...) -> None: ...

class CheckPlan(_message.Message):
    __slots__ = ("nonce", "network_id", "nodes", "services")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    network_id: str
    nodes: _containers.RepeatedCompositeFieldContainer[CheckNode]
    services: _containers.RepeatedCompositeFieldContainer[CheckService]
    def __init__(self, nonce: _Optional[bytes] = ..., network_id: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[CheckNode, _Mapping]]] = ..., services: _Optional[_Iterable[_Union[CheckService, _Mapping]]] = ...) -> None: ...

class CheckOrder(_message.Message):
    __slots__ = ("id", "phase", "plan")
    ID_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    id: str
    phase: CheckPhase
    plan: CheckPlan
    def __init__(self, id: _Optional[str] = ..., phase: _Optional[_Union[CheckPhase, str]] = ..., plan: _Optional[_Union[CheckPlan, _Mapping]] = ...) -> None: ...

class CheckHeard(_message.Message):
    __slots__ = ("node_id", "vxlan", "largest", "gossip", "tunnel", "whole")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    VXLAN_FIELD_NUMBER: _ClassVar[int]
    LARGEST_FIELD_NUMBER: _ClassVar[int]
    GOSSIP_FIELD_NUMBER: _ClassVar[int]
    TUNNEL_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    vxlan: bool
    largest: int
    gossip: bool
    tunnel: bool
    whole: bool
    def __init__(self, node_id: _Optional[str] = ..., vxlan: _Optional[bool] = ..., largest: _Optional[int] = ..., gossip: _Optional[bool] = ..., tunnel: _Optional[bool] = ..., whole: _Optional[bool] = ...) -> None: ...

class CheckTried(_message.Message):
    __slots__ = ("node_id", "stream", "vxlan", "gossip", "tunnel", "silent")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    VXLAN_FIELD_NUMBER: _ClassVar[int]
    GOSSIP_FIELD_NUMBER: _ClassVar[int]
    TUNNEL_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    stream: str
    vxlan: str
    gossip: str
    tunnel: str
    silent: bool
    def __init__(self, node_id: _Optional[str] = ..., stream: _Optional[str] = ..., vxlan: _Optional[str] = ..., gossip: _Optional[str] = ..., tunnel: _Optional[str] = ..., silent: _Optional[bool] = ...) -> None: ...

class CheckTrouble(_message.Message):
    __slots__ = ("kind", "subject", "text")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    subject: str
    text: str
    def __init__(self, kind: _Optional[str] = ..., subject: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class CheckReport(_message.Message):
    __slots__ = ("id", "phase", "clock", "sandbox", "mtu", "heard", "tried", "troubles", "unseen", "names", "vips", "needs")
    ID_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    MTU_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    TRIED_FIELD_NUMBER: _ClassVar[int]
    TROUBLES_FIELD_NUMBER: _ClassVar[int]
    UNSEEN_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    VIPS_FIELD_NUMBER: _ClassVar[int]
    NEEDS_FIELD_NUMBER: _ClassVar[int]
    id: str
    phase: CheckPhase
    clock: int
    sandbox: bool
    mtu: int
    heard: _containers.RepeatedCompositeFieldContainer[CheckHeard]
    tried: _containers.RepeatedCompositeFieldContainer[CheckTried]
    troubles: _containers.RepeatedCompositeFieldContainer[CheckTrouble]
    unseen: _containers.RepeatedScalarFieldContainer[str]
    names: int
    vips: int
    needs: int
    def __init__(self, id: _Optional[str] = ..., phase: _Optional[_Union[CheckPhase, str]] = ..., clock: _Optional[int] = ..., sandbox: _Optional[bool] = ..., mtu: _Optional[int] = ..., heard: _Optional[_Iterable[_Union[CheckHeard, _Mapping]]] = ..., tried: _Optional[_Iterable[_Union[CheckTried, _Mapping]]] = ..., troubles: _Optional[_Iterable[_Union[CheckTrouble, _Mapping]]] = ..., unseen: _Optional[_Iterable[str]] = ..., names: _Optional[int] = ..., vips: _Optional[int] = ..., needs: _Optional[int] = ...) -> None: ...

class CheckedNode(_message.Message):
    __slots__ = ("id", "hostname", "addr", "state", "on_network", "clock_offset", "names", "vips")
    ID_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ON_NETWORK_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    VIPS_FIELD_NUMBER: _ClassVar[int]
    id: str
    hostname: str
    addr: str
    state: str
    on_network: bool
    clock_offset: int
    names: int
    vips: int
    def __init__(self, id: _Optional[str] = ..., hostname: _Optional[str] = ..., addr: _Optional[str] = ..., state: _Optional[str] = ..., on_network: _Optional[bool] = ..., clock_offset: _Optional[int] = ..., names: _Optional[int] = ..., vips: _Optional[int] = ...) -> None: ...

class CheckFault(_message.Message):
    __slots__ = ("kind", "sources", "target", "text")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    sources: _containers.RepeatedScalarFieldContainer[str]
    target: str
    text: str
    def __init__(self, kind: _Optional[str] = ..., sources: _Optional[_Iterable[str]] = ..., target: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class NetworkCheck(_message.Message):
    __slots__ = ("id", "code", "error", "mtu", "nodes", "faults")
    ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MTU_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    code: str
    error: str
    mtu: int
    nodes: _containers.RepeatedCompositeFieldContainer[CheckedNode]
    faults: _containers.RepeatedCompositeFieldContainer[CheckFault]
    def __init__(self, id: _Optional[str] = ..., code: _Optional[str] = ..., error: _Optional[str] = ..., mtu: _Optional[int] = ..., nodes: _Optional[_Iterable[_Union[CheckedNode, _Mapping]]] = ..., faults: _Optional[_Iterable[_Union[CheckFault, _Mapping]]] = ...) -> None: ...
