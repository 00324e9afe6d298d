"""What every generated dataclass shares: the empty mapping, timestamps as nanoseconds, bytes on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Self

from google.protobuf.timestamp_pb2 import Timestamp

EMPTY: Final[Mapping[str, str]] = MappingProxyType({})
_SECOND: Final = 1_000_000_000


class Message:
    """Base of the generated dataclasses; `to_pb`, `from_pb` and `from_bytes` are generated for each."""

    __slots__ = ()

    def to_pb(self) -> Any:
        """This object as its protobuf message."""
        raise TypeError(f"{type(self).__name__} is not a generated message")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decodes the wire form; raises google.protobuf.message.DecodeError for bytes that are none."""
        raise TypeError(f"{cls.__name__} is not a generated message")

    def to_bytes(self) -> bytes:
        """The wire form."""
        data: bytes = self.to_pb().SerializeToString()
        return data


def to_timestamp(ns: int) -> Timestamp | None:
    """Nanoseconds since the epoch as a Timestamp; 0 is an unset one."""
    if not ns:
        return None
    return Timestamp(seconds=ns // _SECOND, nanos=ns % _SECOND)


def from_timestamp(stamp: Timestamp) -> int:
    """The opposite of to_timestamp, for a Timestamp that is set."""
    return stamp.seconds * _SECOND + stamp.nanos
