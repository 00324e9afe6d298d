"""Sockets of a `network check`: what hears probes behind the packet filter, and what sends them. Used by probing.py.

A raw socket gets what the machine's own packet filter has let in, and holds no port: VXLAN's and gossip's owners notice nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from agent.check.packets import FRAME_FILTER, IP_FILTER, Program

_SO_ATTACH_FILTER: Final = 26
_SO_RCVBUFFORCE: Final = 33
_BUFFER: Final = 4 << 20
_IP_MTU_DISCOVER: Final = 10
_PROBE: Final = 3  # don't fragment, and don't believe what was learnt of the way before
_ETH_P_ALL: Final = 3
_OUTGOING: Final = 4
_LARGEST: Final = 1 << 16
_MOST: Final = 256  # packets that are read before others have their turn
Address = tuple[str, int]


def _filter(made: socket.socket, program: Program) -> None:
    code = b"".join(struct.pack("HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code)
    made.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(buffer))
    )


def listener() -> socket.socket:
    """Hears the probes that come to this machine by UDP; raises OSError."""
    made = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_UDP)
    try:
        _filter(made, IP_FILTER)
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    except OSError:
        made.close()
        raise
    return made


def tunnel(interface: str) -> socket.socket:
    """Sends and hears frames on an interface of the namespace that the calling thread is in; raises OSError."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    try:
        _filter(made, FRAME_FILTER)
        made.bind((interface, _ETH_P_ALL))
    except OSError:
        made.close()
        raise
    return made


def sender(source: str) -> socket.socket:
    """Sends UDP that must not be fragmented, from this address where it is the machine's own."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PROBE)
        try:
            made.bind((source, 0))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
    except OSError:
        made.close()
        raise
    return made


def received(made: socket.socket) -> Iterator[bytes]:
    """What waits in a listener or a tunnel; frames that left by it are none that came."""
    for _ in range(_MOST):
        try:
            data, address = made.recvfrom(_LARGEST)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            return  # the interface has gone
        if made.family == socket.AF_PACKET and address[2] == _OUTGOING:
            continue
        yield data


def send(datagrams: Iterable[Callable[[], object]]) -> str:
    """Sends each; why the kernel would not, for the last that failed. One too large for the interface is no failure."""
    problem = ""
    for each in datagrams:
        try:
            each()
        except (BlockingIOError, InterruptedError):
            continue  # as good as lost; it is sent more than once
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                problem = os.strerror(error.errno) if error.errno else str(error)
    return problem
