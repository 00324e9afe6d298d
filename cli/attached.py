"""A user's terminal on the streams of a process in a container. Used by run, start, attach and exec."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from cli.client import Client
from cli.command import Session
from cli.errors import CliError
from cli.log_stream import raw
from cli.output.frames import STDERR, Demultiplexer
from common import detach_keys
from common.errors import InvalidArgument

_PIECE = 32768
_PROXIED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
LEFT = "read escape sequence"


class Attached:
    """Bytes between a hijacked connection and the user, until either ends it."""

    def __init__(
        self, session: Session, connection: tuple[socket.socket, bytes], *, terminal: bool, stdin: bool, keys: str
    ) -> None:  # fmt: skip
        self._sock, self._early = connection
        self._terminal = terminal
        self._input = session.stdin.fileno() if stdin else -1
        self._watch = detach_keys.Watch(parsed_keys(keys)) if terminal else None
        self._frames = None if terminal else Demultiplexer()
        self._out, self._err = raw(session.out), raw(session.err)

    def carry(self) -> bool:
        """Until the process has no more to say; False when the user left it by the keys."""
        with _raw_terminal(self._input) if self._terminal and self._input >= 0 else _nothing():
            return self._carry()

    def _carry(self) -> bool:
        self._show(self._early)
        pending = b""
        while True:
            reading: list[Any] = [self._sock] if pending or self._input < 0 else [self._sock, self._input]
            readable, writable, _ = select.select(reading, [self._sock] if pending else [], [])
            if self._sock in readable:
                try:
                    data = self._sock.recv(_PIECE)
                except BlockingIOError:
                    continue
                except ConnectionResetError:
                    data = b""
                if not data:
                    return True
                self._show(data)
            if self._input in readable:
                pending, left = self._typed()
                if left:
                    self._last(pending)
                    return False
            if writable:
                try:
                    pending = pending[self._sock.send(pending) :]
                except BlockingIOError:
                    continue
                except (BrokenPipeError, ConnectionResetError):
                    pending, self._input = b"", -1  # what it still says can be read

    def _typed(self) -> tuple[bytes, bool]:
        """What goes to the process, and whether the user leaves."""
        data = os.read(self._input, _PIECE)
        if not data:
            self._input = -1
            self._sock.shutdown(socket.SHUT_WR)
            return b"", False
        return self._watch.feed(data) if self._watch is not None else (data, False)

    def _last(self, data: bytes) -> None:
        """What was typed before the keys."""
        self._sock.setblocking(True)
        try:
            self._sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return  # the process has ended

    def _show(self, data: bytes) -> None:
        if not data:
            return
        if self._frames is None:
            self._out(data)
            return
        for stream, payload in self._frames.feed(data):
            (self._err if stream == STDERR else self._out)(payload)


def parsed_keys(text: str) -> bytes:
    """--detach-keys; raises CliError for what are none."""
    try:
        return detach_keys.parse(text)
    except InvalidArgument as error:
        raise CliError(error.message) from None


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _raw_terminal(fd: int) -> Iterator[None]:
    """Keys go to the process as they are pressed, with no meaning here."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSADRAIN)  # what was typed too early isn't lost
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def check_terminal(session: Session, stdin: bool, terminal: bool) -> None:
    """-it needs a terminal of the user's own."""
    if stdin and terminal and not session.stdin.isatty():
        raise CliError("the input device is not a TTY")


@contextmanager
def sized(client: Client, path: str) -> Iterator[None]:
    """The process's terminal has the size of the user's, whenever that changes."""

    def resize(_: int = 0, __: FrameType | None = None) -> None:
        columns, lines = shutil.get_terminal_size()
        try:
            client.post(f"{path}/resize", query={"h": str(lines), "w": str(columns)})
        except CliError:
            return  # it has ended: its output says so

    if not sys.stdout.isatty():
        yield
        return
    before = signal.signal(signal.SIGWINCH, resize)
    try:
        resize()
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


@contextmanager
def proxied(client: Client, container: str) -> Iterator[None]:
    """Signals that would end this command go to the container's process instead."""

    def forward(number: int, _: FrameType | None) -> None:
        try:
            client.post(f"/containers/{container}/kill", query={"signal": signal.Signals(number).name})
        except CliError:
            return  # it has ended

    before: dict[int, Any] = {number: signal.signal(number, forward) for number in _PROXIED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
