"""From messages to the bytes of a packet or a stream, and back: compound, CRC, compression, encryption. Pure; swim.py calls it.

A packet, from the outside in: sealed (no type byte; if there are keys), CRC (to members that speak protocol 5), compressed,
compound, messages. A stream: type ENCRYPT and 4 bytes of length, which the seal binds, then one message, compressed or
not; it carries no length of its own, so an `Assembler` reads it as it comes and says when it is whole.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from agent.gossip.keyring import OVERHEAD as SEAL_OVERHEAD
from agent.gossip.keyring import Keyring
from agent.gossip.lzw import decompress
from agent.gossip.messages import (
    Ack,
    Compressed,
    ErrorReply,
    NodeState,
    Ping,
    PushPullHead,
    Type,
    UserHead,
    decode_body,
    decode_node,
    encode,
    encode_body,
    type_of,
)
from agent.gossip.packing import Malformed, Truncated

COMPOUND_HEAD: Final = 2  # type and count
COMPOUND_EACH: Final = 2  # a length
COMPOUND_MOST: Final = 255
CRC_HEAD: Final = 5
STREAM_HEAD: Final = 5
MAX_OVERHEAD: Final = COMPOUND_HEAD + CRC_HEAD + SEAL_OVERHEAD
MAX_STREAM: Final = (
    4 << 20
)  # ten thousand members; others allow more, which many strangers at once could make us hold
MAX_PACKET: Final = 1 << 16
MAX_NODES: Final = 10_000
MAX_WRAPS: Final = 3  # compound in compressed in compound: nobody sends more
MAX_MESSAGES: Final = 1024  # of one packet: four full compounds


def overhead(keyring: Keyring | None, crc: bool) -> int:
    """What a packet costs beside its messages and their lengths."""
    return COMPOUND_HEAD + (CRC_HEAD if crc else 0) + (SEAL_OVERHEAD if keyring else 0)


def packet(messages: Sequence[bytes], keyring: Keyring | None, nonce: bytes, crc: bool) -> bytes:
    """One datagram of these messages."""
    body = messages[0]
    if len(messages) > 1:
        lengths = struct.pack(f">{len(messages)}H", *map(len, messages))
        body = bytes([Type.COMPOUND, len(messages)]) + lengths + b"".join(messages)
    if crc:
        body = bytes([Type.CRC]) + struct.pack(">I", zlib.crc32(body)) + body
    return keyring.seal(body, nonce) if keyring else body


def messages_of(data: bytes, keyring: Keyring | None) -> list[bytes]:
    """The messages of one datagram, in order. What is cut off at the end of a compound is left out, as others do."""
    if keyring:
        data = keyring.open(data)
    if data and data[0] == Type.CRC:
        if len(data) < CRC_HEAD or struct.unpack_from(">I", data, 1)[0] != zlib.crc32(data[CRC_HEAD:]):
            raise Malformed("wrong CRC")
        data = data[CRC_HEAD:]
    opening = _Opening()
    opening.unwrap(data, 0)
    return opening.messages


class _Opening:
    """Of one packet: what it may become is bounded as a whole, for its parts may all stand for much more than they are."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self._room = MAX_PACKET

    def unwrap(self, data: bytes, depth: int) -> None:
        kind = type_of(data)
        if kind not in (Type.COMPOUND, Type.COMPRESS):
            if len(self.messages) >= MAX_MESSAGES:
                raise Malformed("too many messages")
            self.messages.append(data)
            return
        if depth >= MAX_WRAPS:
            raise Malformed("wrapped too deep")
        if kind is Type.COMPOUND:
            for part in _parts(data):
                self.unwrap(part, depth + 1)
        else:
            inner = _decompressed(data, self._room)
            self._room -= len(inner)
            self.unwrap(inner, depth + 1)


def _parts(data: bytes) -> list[bytes]:
    if len(data) < COMPOUND_HEAD or len(data) < COMPOUND_HEAD + COMPOUND_EACH * data[1]:
        raise Malformed("a compound without its lengths")
    at = COMPOUND_HEAD + COMPOUND_EACH * data[1]
    parts = []
    for length in struct.unpack_from(f">{data[1]}H", data, COMPOUND_HEAD):
        if at + length > len(data):
            break
        parts.append(data[at : at + length])
        at += length
    return parts


def _decompressed(data: bytes, limit: int) -> bytes:
    found, _ = decode_body(Type.COMPRESS, data, 1)
    if not isinstance(found, Compressed) or found.algorithm != 0:
        raise Malformed("compressed in an unknown way")
    return decompress(found.data, limit)


@dataclass(frozen=True, slots=True)
class PushPull:
    """All that one member knows."""

    join: bool
    nodes: tuple[NodeState, ...]
    user_state: bytes = b""


@dataclass(frozen=True, slots=True)
class UserStream:
    data: bytes


Whole: TypeAlias = PushPull | UserStream | Ping | Ack | ErrorReply


def stream(message: Whole, keyring: Keyring | None, nonce: bytes) -> bytes:
    """What goes into a TCP connection, or comes back on it."""
    body = _stream_body(message)
    if not keyring:
        return body
    head = bytes([Type.ENCRYPT]) + struct.pack(">I", len(body) + SEAL_OVERHEAD)
    return head + keyring.seal(body, nonce, head)


def _stream_body(message: Whole) -> bytes:
    match message:
        case PushPull():
            head = PushPullHead(len(message.nodes), len(message.user_state), message.join)
            return encode(head) + b"".join(map(encode_body, message.nodes)) + message.user_state
        case UserStream():
            return encode(UserHead(len(message.data))) + message.data
        case _:
            return encode(message)


class Assembler:
    """Reads one message of a stream from pieces of any size. Raises Malformed as soon as it can't become one."""

    def __init__(self, keyring: Keyring | None) -> None:
        self._keyring = keyring
        self._held = bytearray()
        self._body: _Body | None = None

    def feed(self, data: bytes) -> Whole | None:
        """The message, once it is whole."""
        self._held += data
        if len(self._held) > MAX_STREAM:
            raise Malformed("a stream too long")
        if not self._held:
            return None
        if self._held[0] == Type.ENCRYPT:
            return self._sealed()
        if self._keyring:
            raise Malformed("an unsealed stream")
        return self._plain()

    def _sealed(self) -> Whole | None:
        if not self._keyring:
            raise Malformed("a sealed stream, and no keys")
        if len(self._held) < STREAM_HEAD:
            return None
        (length,) = struct.unpack_from(">I", self._held, 1)
        if length > MAX_STREAM - STREAM_HEAD:
            raise Malformed(f"a stream of {length} bytes")
        if len(self._held) < STREAM_HEAD + length:
            return None
        head = bytes(self._held[:STREAM_HEAD])
        return _whole(self._keyring.open(bytes(self._held[STREAM_HEAD : STREAM_HEAD + length]), head))

    def _plain(self) -> Whole | None:
        if self._held[0] == Type.COMPRESS:
            try:
                return _whole(bytes(self._held))
            except Truncated:
                return None
        if self._body is None:
            self._body = _Body()
        return self._body.read(self._held)


def _whole(data: bytes) -> Whole:
    """The message of a stream that has come completely."""
    if type_of(data) is Type.COMPRESS:
        data = _decompressed(data, MAX_STREAM)
    found = _Body().read(data)
    if found is None:
        raise Malformed("a stream's message is cut off")
    return found


class _Body:
    """Where the reading of an unwrapped message stands: what was read isn't read again when more comes."""

    def __init__(self) -> None:
        self._at = 1
        self._head: PushPullHead | UserHead | None = None
        self._nodes: list[NodeState] = []

    def read(self, held: bytes | bytearray) -> Whole | None:
        kind = type_of(bytes(held[:1]))
        if kind not in (Type.PUSH_PULL, Type.USER, Type.PING, Type.ACK, Type.ERROR):
            raise Malformed(f"type {int(kind)} in a stream")
        view = held if isinstance(held, bytes) else bytes(held)
        try:
            return self._read(kind, view)
        except Truncated:
            return None

    def _read(self, kind: Type, held: bytes) -> Whole | None:
        if self._head is None:
            head, self._at = decode_body(kind, held, self._at)
            if isinstance(head, Ping | Ack | ErrorReply):
                return head
            if not isinstance(head, PushPullHead | UserHead):
                raise Malformed("no message for a stream")
            self._head = head
        if isinstance(self._head, UserHead):
            return UserStream(self._rest(held, self._head.length))
        if self._head.nodes > MAX_NODES:
            raise Malformed(f"a push/pull of {self._head.nodes} nodes")
        while len(self._nodes) < self._head.nodes:
            node, self._at = decode_node(held, self._at)
            self._nodes.append(node)
        return PushPull(self._head.join, tuple(self._nodes), self._rest(held, self._head.user_state))

    def _rest(self, held: bytes, length: int) -> bytes:
        if length > MAX_STREAM:
            raise Malformed(f"{length} bytes announced")
        if len(held) - self._at < length:
            raise Truncated("more is announced than there is")
        return held[self._at : self._at + length]
