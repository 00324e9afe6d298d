"""The Engine API's multiplexed streams: frames of an 8-byte head (stream, length) and a payload. Used by logs and attached streams."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from http.client import HTTPException
from typing import Protocol

from cli.errors import CliError

STDOUT = 1
STDERR = 2
_FAILURE = 3
_HEAD = struct.Struct(">BxxxL")


class _Readable(Protocol):
    def read(self, amount: int, /) -> bytes: ...


def frames(source: _Readable) -> Iterator[tuple[int, bytes]]:
    """(stream, payload) until the source ends. A stream of kind 3 is the daemon's complaint."""
    while len(head := _read(source, _HEAD.size)) == _HEAD.size:
        stream, length = _HEAD.unpack(head)
        payload = _read(source, length)
        if stream == _FAILURE:
            raise CliError(f"error from daemon in stream: {payload.decode(errors='replace').strip()}")
        yield stream, payload


def _read(source: _Readable, amount: int) -> bytes:
    try:
        return source.read(amount)
    except (HTTPException, OSError) as error:
        raise CliError(f"error during connect: the stream broke off: {error}") from error


class Demultiplexer:
    """The same for a stream that comes in pieces of any size."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The payloads that are whole now."""
        self._held += data
        while len(self._held) >= _HEAD.size:
            stream, length = _HEAD.unpack_from(self._held)
            end = _HEAD.size + length
            if len(self._held) < end:
                return
            payload, self._held = self._held[_HEAD.size : end], self._held[end:]
            if stream == _FAILURE:
                raise CliError(f"error from daemon in stream: {payload.decode(errors='replace').strip()}")
            yield stream, payload
