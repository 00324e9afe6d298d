from common.pb import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RaftMember(_message.Message):
    __slots__ = ("raft_id", "node_id", "addr")
    RAFT_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    raft_id: int
    node_id: str
    addr: str
    def __init__(self, raft_id: _Optional[int] = ..., node_id: _Optional[str] = ..., addr: _Optional[str] = ...) -> None: ...

class RaftConfState(_message.Message):
    __slots__ = ("voters", "learners", "voters_outgoing", "learners_next", "auto_leave")
    VOTERS_FIELD_NUMBER: _ClassVar[int]
    LEARNERS_FIELD_NUMBER: _ClassVar[int]
    VOTERS_OUTGOING_FIELD_NUMBER: _ClassVar[int]
    LEARNERS_NEXT_FIELD_NUMBER: _ClassVar[int]
    AUTO_LEAVE_FIELD_NUMBER: _ClassVar[int]
    voters: _containers.RepeatedScalarFieldContainer[int]
    learners: _containers.RepeatedScalarFieldContainer[int]
    voters_outgoing: _containers.RepeatedScalarFieldContainer[int]
    learners_next: _containers.RepeatedScalarFieldContainer[int]
    auto_leave: bool
    def __init__(self, voters: _Optional[_Iterable[int]] = ..., learners: _Optional[_Iterable[int]] = ..., voters_outgoing: _Optional[_Iterable[int]] = ..., learners_next: _Optional[_Iterable[int]] = ..., auto_leave: _Optional[bool] = ...) -> None: ...

class RaftSnapshot(_message.Message):
    __slots__ = ("index", "term", "conf_state", "members", "removed", "data", "epoch")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    CONF_STATE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    index: int
    term: int
    conf_state: RaftConfState
    members: _containers.RepeatedCompositeFieldContainer[RaftMember]
    removed: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    epoch: int
    def __init__(self, index: _Optional[int] = ..., term: _Optional[int] = ..., conf_state: _Optional[_Union[RaftConfState, _Mapping]] = ..., members: _Optional[_Iterable[_Union[RaftMember, _Mapping]]] = ..., removed: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ..., epoch: _Optional[int] = ...) -> None: ...

class RaftEntry(_message.Message):
    __slots__ = ("index", "term", "type", "data")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    index: int
    term: int
    type: int
    data: bytes
    def __init__(self, index: _Optional[int] = ..., term: _Optional[int] = ..., type: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class RaftMessage(_message.Message):
    __slots__ = ("type", "receiver", "sender", "term", "log_term", "index", "entries", "commit", "vote", "reject", "reject_hint", "context", "snapshot_index", "snapshot_term")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LOG_TERM_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    VOTE_FIELD_NUMBER: _ClassVar[int]
    REJECT_FIELD_NUMBER: _ClassVar[int]
    REJECT_HINT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_INDEX_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_TERM_FIELD_NUMBER: _ClassVar[int]
    type: int
    receiver: int
    sender: int
    term: int
    log_term: int
    index: int
    entries: _containers.RepeatedCompositeFieldContainer[RaftEntry]
    commit: int
    vote: int
    reject: bool
    reject_hint: int
    context: bytes
    snapshot_index: int
    snapshot_term: int
    def __init__(self, type: _Optional[int] = ..., receiver: _Optional[int] = ..., sender: _Optional[int] = ..., term: _Optional[int] = ..., log_term: _Optional[int] = ..., index: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[RaftEntry, _Mapping]]] = ..., commit: _Optional[int] = ..., vote: _Optional[int] = ..., reject: _Optional[bool] = ..., reject_hint: _Optional[int] = ..., context: _Optional[bytes] = ..., snapshot_index: _Optional[int] = ..., snapshot_term: _Optional[int] = ...) -> None: ...

class RaftBatch(_message.Message):
    __slots__ = ("messages", "sender", "epoch")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[RaftMessage]
    sender: RaftMember
    epoch: int
    def __init__(self, messages: _Optional[_Iterable[_Union[RaftMessage, _Mapping]]] = ..., sender: _Optional[_Union[RaftMember, _Mapping]] = ..., epoch: _Optional[int] = ...) -> None: ...

class RaftChunk(_message.Message):
    __slots__ = ("message", "data", "size", "epoch")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    message: RaftMessage
    data: bytes
    size: int
    epoch: int
    def __init__(self, message: _Optional[_Union[RaftMessage, _Mapping]] = ..., data: _Optional[bytes] = ..., size: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class RaftJoinRequest(_message.Message):
    __slots__ = ("addr", "listen_addr")
    ADDR_FIELD_NUMBER: _ClassVar[int]
    LISTEN_ADDR_FIELD_NUMBER: _ClassVar[int]
    addr: str
    listen_addr: str
    def __init__(self, addr: _Optional[str] = ..., listen_addr: _Optional[str] = ...) -> None: ...

class RaftJoinReply(_message.Message):
    __slots__ = ("raft_id", "members")
    RAFT_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    raft_id: int
    members: _containers.RepeatedCompositeFieldContainer[RaftMember]
    def __init__(self, raft_id: _Optional[int] = ..., members: _Optional[_Iterable[_Union[RaftMember, _Mapping]]] = ...) -> None: ...

class RaftLeaveRequest(_message.Message):
    __slots__ = ("node_id", "demote")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    DEMOTE_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    demote: bool
    def __init__(self, node_id: _Optional[str] = ..., demote: _Optional[bool] = ...) -> None: ...

class ForwardedCaller(_message.Message):
    __slots__ = ("certificate", "address")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    address: str
    def __init__(self, certificate: _Optional[bytes] = ..., address: _Optional[str] = ...) -> None: ...

class ForwardedCall(_message.Message):
    __slots__ = ("number", "method", "request", "caller")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    number: int
    method: str
    request: bytes
    caller: ForwardedCaller
    def __init__(self, number: _Optional[int] = ..., method: _Optional[str] = ..., request: _Optional[bytes] = ..., caller: _Optional[_Union[ForwardedCaller, _Mapping]] = ...) -> None: ...

class ForwardedReply(_message.Message):
    __slots__ = ("number", "error", "message", "reply", "index")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    number: int
    error: str
    message: str
    reply: bytes
    index: int
    def __init__(self, number: _Optional[int] = ..., error: _Optional[str] = ..., message: _Optional[str] = ..., reply: _Optional[bytes] = ..., index: _Optional[int] = ...) -> None: ...

class ForwardedCalls(_message.Message):
    __slots__ = ("calls",)
    CALLS_FIELD_NUMBER: _ClassVar[int]
    calls: _containers.RepeatedCompositeFieldContainer[ForwardedCall]
    def __init__(self, calls: _Optional[_Iterable[_Union[ForwardedCall, _Mapping]]] = ...) -> None: ...

class ForwardedReplies(_message.Message):
    __slots__ = ("replies",)
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    replies: _containers.RepeatedCompositeFieldContainer[ForwardedReply]
    def __init__(self, replies: _Optional[_Iterable[_Union[ForwardedReply, _Mapping]]] = ...) -> None: ...

class RaftTaken(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...
