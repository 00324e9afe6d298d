"""Memberlist's messages: what they carry, and their bytes. Pure; frames.py puts them into packets and streams, swim.py acts.

A message is a type byte and a msgpack map with CamelCase names (packing.py). The table of fields below is the whole wire: for each
class its attributes, their names there and their kinds. What is missing there takes its default; what has the wrong kind is
Malformed. Sources: the SWIM paper (ping, ping-req, suspect, alive, confirm), the Lifeguard paper (nack), and
memberlist's protocol versions 2 to 5 (addresses of the source in a ping, vsn, push/pull, CRC).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address
from typing import Any, Final, TypeAlias

from agent.gossip.packing import Decoded, Malformed, pack, unpack_map

Address: TypeAlias = tuple[str, int]

MAX_NAME: Final = 255
MAX_META: Final = 512
MAX_U32: Final = (1 << 32) - 1


class Type(IntEnum):
    """The first byte of everything."""

    PING = 0
    INDIRECT_PING = 1
    ACK = 2
    SUSPECT = 3
    ALIVE = 4
    DEAD = 5
    PUSH_PULL = 6
    COMPOUND = 7
    USER = 8
    COMPRESS = 9
    ENCRYPT = 10
    NACK = 11
    CRC = 12
    ERROR = 13
    LABEL = 244


class State(IntEnum):
    """Of a member, as it travels in a push/pull."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there, `node`? An empty name asks whoever is there. Answer to the source, if it is given."""

    seq: int
    node: str
    source_addr: bytes = b""
    source_port: int = 0
    source_node: str = ""


@dataclass(frozen=True, slots=True)
class IndirectPing:
    """Please ping `node` for me; `nack` asks for a word if it doesn't answer in time."""

    seq: int
    target: bytes
    port: int
    node: str
    nack: bool = False
    source_addr: bytes = b""
    source_port: int = 0
    source_node: str = ""


@dataclass(frozen=True, slots=True)
class Ack:
    seq: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Nack:
    seq: int


@dataclass(frozen=True, slots=True)
class Suspect:
    incarnation: int
    node: str
    sender: str


@dataclass(frozen=True, slots=True)
class Alive:
    """`vsn` is [protocol min, max, current, delegate min, max, current]."""

    incarnation: int
    node: str
    addr: bytes
    port: int
    meta: bytes = b""
    vsn: bytes = b""


@dataclass(frozen=True, slots=True)
class Dead:
    """From the node itself it means that it left."""

    incarnation: int
    node: str
    sender: str


@dataclass(frozen=True, slots=True)
class PushPullHead:
    """Goes before `nodes` states of nodes and `user_state` bytes."""

    nodes: int
    user_state: int = 0
    join: bool = False


@dataclass(frozen=True, slots=True)
class NodeState:
    """One member, in a push/pull. It has no type byte of its own."""

    name: str
    addr: bytes
    port: int
    meta: bytes
    incarnation: int
    state: int
    vsn: bytes = b""


@dataclass(frozen=True, slots=True)
class UserHead:
    """Goes before `length` bytes of a user message, in a stream."""

    length: int


@dataclass(frozen=True, slots=True)
class ErrorReply:
    error: str


@dataclass(frozen=True, slots=True)
class Compressed:
    algorithm: int
    data: bytes


@dataclass(frozen=True, slots=True)
class User:
    """Bytes of those above us; in a packet they simply follow the type."""

    data: bytes


Message: TypeAlias = (
    Ping
    | IndirectPing
    | Ack
    | Nack
    | Suspect
    | Alive
    | Dead
    | PushPullHead
    | UserHead
    | ErrorReply
    | Compressed
)


def _u32(value: Decoded) -> int:
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_U32:
        raise Malformed("not a number of 32 bits")
    return value


def _port(value: Decoded) -> int:
    number = _u32(value)
    if number > 0xFFFF:
        raise Malformed("not a port")
    return number


def _flag(value: Decoded) -> bool:
    return bool(value)


def _raw(value: Decoded) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, bytes):
        raise Malformed("not bytes")
    return value


def _text(value: Decoded) -> str:
    try:
        return _raw(value).decode()
    except UnicodeDecodeError as error:
        raise Malformed("not UTF-8") from error


def _name(value: Decoded) -> str:
    if len(_raw(value)) > MAX_NAME:
        raise Malformed("a name too long")
    return _text(value)


def _addr(value: Decoded) -> bytes:
    if len(_raw(value)) not in (0, 4, 16):
        raise Malformed("not an address")
    return _raw(value)


def _meta(value: Decoded) -> bytes:
    if len(_raw(value)) > MAX_META:
        raise Malformed("meta data too long")
    return _raw(value)


def _vsn(value: Decoded) -> bytes:
    """Six bytes; some encoders write a list of numbers."""
    if isinstance(value, list):
        numbers = [item for item in value if isinstance(item, int) and 0 <= item <= 255]
        if len(numbers) != len(value):
            raise Malformed("not versions")
        value = bytes(numbers)
    if len(_raw(value)) not in (0, 6):
        raise Malformed("not versions")
    return _raw(value)


Kind: TypeAlias = Callable[[Decoded], Any]
Fields: TypeAlias = tuple[tuple[str, str, Kind], ...]

_SOURCE: Final[Fields] = (
    ("source_addr", "SourceAddr", _addr),
    ("source_port", "SourcePort", _port),
    ("source_node", "SourceNode", _name),
)
_ACCUSATION: Final[Fields] = (
    ("incarnation", "Incarnation", _u32),
    ("node", "Node", _name),
    ("sender", "From", _name),
)
_NODE: Final[Fields] = (
    ("addr", "Addr", _addr),
    ("port", "Port", _port),
    ("meta", "Meta", _meta),
    ("vsn", "Vsn", _vsn),
    ("incarnation", "Incarnation", _u32),
)
WIRE: Final[dict[type[object], Fields]] = {
    Ping: (("seq", "SeqNo", _u32), ("node", "Node", _name), *_SOURCE),
    IndirectPing: (
        ("seq", "SeqNo", _u32),
        ("target", "Target", _addr),
        ("port", "Port", _port),
        ("node", "Node", _name),
        ("nack", "Nack", _flag),
        *_SOURCE,
    ),
    Ack: (("seq", "SeqNo", _u32), ("payload", "Payload", _raw)),
    Nack: (("seq", "SeqNo", _u32),),
    Suspect: _ACCUSATION,
    Dead: _ACCUSATION,
    Alive: (("node", "Node", _name), *_NODE),
    PushPullHead: (("nodes", "Nodes", _u32), ("user_state", "UserStateLen", _u32), ("join", "Join", _flag)),
    NodeState: (("name", "Name", _name), ("state", "State", _u32), *_NODE),
    UserHead: (("length", "UserMsgLen", _u32),),
    ErrorReply: (("error", "Error", _text),),
    Compressed: (("algorithm", "Algo", _u32), ("data", "Buf", _raw)),
}
TYPES: Final[dict[Type, type[Message]]] = {
    Type.PING: Ping,
    Type.INDIRECT_PING: IndirectPing,
    Type.ACK: Ack,
    Type.NACK: Nack,
    Type.SUSPECT: Suspect,
    Type.ALIVE: Alive,
    Type.DEAD: Dead,
    Type.PUSH_PULL: PushPullHead,
    Type.USER: UserHead,
    Type.ERROR: ErrorReply,
    Type.COMPRESS: Compressed,
}
_TYPE_OF: Final = {made: number for number, made in TYPES.items()}


def encode_body(message: Message | NodeState) -> bytes:
    """Without a type byte."""
    return pack({name: getattr(message, attr) for attr, name, _ in WIRE[type(message)]})


def encode(message: Message) -> bytes:
    """Type byte and body."""
    return bytes([_TYPE_OF[type(message)]]) + encode_body(message)


def decode_node(data: bytes, at: int) -> tuple[NodeState, int]:
    """One of the states in a push/pull, and where the next starts."""
    fields, end = unpack_map(data, at)
    return NodeState(**_checked(NodeState, fields)), end


def decode_body(kind: Type, data: bytes, at: int = 0) -> tuple[Message, int]:
    """The body of a message of this type at `at`, and its end."""
    made = TYPES.get(kind)
    if made is None:
        raise Malformed(f"type {int(kind)} has no body of its own")
    fields, end = unpack_map(data, at)
    return made(**_checked(made, fields)), end


def decode(data: bytes) -> Message | User:
    """One message of a packet, after compounds and wrappers are off."""
    kind = type_of(data)
    if kind is Type.USER:
        return User(data[1:])
    message, _ = decode_body(kind, data, 1)
    return message


def type_of(data: bytes) -> Type:
    if not data:
        raise Malformed("empty")
    try:
        return Type(data[0])
    except ValueError as error:
        raise Malformed(f"unknown type {data[0]}") from error


def _checked(made: type[object], fields: dict[str, Decoded]) -> dict[str, Any]:
    return {attr: kind(fields.get(name)) for attr, name, kind in WIRE[made]}


def host_of(addr: bytes) -> str:
    """The text of 4 or 16 raw bytes."""
    if len(addr) not in (4, 16):
        raise Malformed("no address")
    made = ip_address(addr)
    mapped = getattr(made, "ipv4_mapped", None)
    return str(mapped or made)


def raw_address(host: str) -> bytes:
    return ip_address(host).packed
