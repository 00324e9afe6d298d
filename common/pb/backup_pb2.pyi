from common.pb import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class BackupRequest(_message.Message):
    __slots__ = ("passphrase",)
    PASSPHRASE_FIELD_NUMBER: _ClassVar[int]
    passphrase: str
    def __init__(self, passphrase: _Optional[str] = ...) -> None: ...

class BackupChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class RestoreRequest(_message.Message):
    __slots__ = ("data", "passphrase", "force", "listen_addr", "advertise_addr", "data_path_addr", "csr", "hostname", "machine", "routes")
    DATA_FIELD_NUMBER: _ClassVar[int]
    PASSPHRASE_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    LISTEN_ADDR_FIELD_NUMBER: _ClassVar[int]
    ADVERTISE_ADDR_FIELD_NUMBER: _ClassVar[int]
    DATA_PATH_ADDR_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    passphrase: str
    force: bool
    listen_addr: str
    advertise_addr: str
    data_path_addr: str
    csr: bytes
    hostname: str
    machine: str
    routes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, data: _Optional[bytes] = ..., passphrase: _Optional[str] = ..., force: _Optional[bool] = ..., listen_addr: _Optional[str] = ..., advertise_addr: _Optional[str] = ..., data_path_addr: _Optional[str] = ..., csr: _Optional[bytes] = ..., hostname: _Optional[str] = ..., machine: _Optional[str] = ..., routes: _Optional[_Iterable[str]] = ...) -> None: ...

class RestoreReply(_message.Message):
    __slots__ = ("node_id", "cluster_id", "certificate", "created", "known_node", "known_addr", "managers", "workers", "advertise_addr")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    KNOWN_NODE_FIELD_NUMBER: _ClassVar[int]
    KNOWN_ADDR_FIELD_NUMBER: _ClassVar[int]
    MANAGERS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    ADVERTISE_ADDR_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    cluster_id: str
    certificate: bytes
    created: int
    known_node: bool
    known_addr: bool
    managers: _containers.RepeatedScalarFieldContainer[str]
    workers: int
    advertise_addr: str
    def __init__(self, node_id: _Optional[str] = ..., cluster_id: _Optional[str] = ..., certificate: _Optional[bytes] = ..., created: _Optional[int] = ..., known_node: _Optional[bool] = ..., known_addr: _Optional[bool] = ..., managers: _Optional[_Iterable[str]] = ..., workers: _Optional[int] = ..., advertise_addr: _Optional[str] = ...) -> None: ...
