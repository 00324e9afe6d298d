"""Netlink's news of all our namespaces, by two sockets in the agent's own: links, addresses, routes, neighbours; nftables.
A third hears of the host's IPsec, where the kernel has what encrypted networks need.

A socket hears of another namespace when that has a number in the socket's (nsid): add() sees to it. A filter in the kernel lets
through what goes away and nothing else, so that traffic and other people's additions wake nobody. kernel.py drains it
in the network thread; watcher.py waits for the descriptors.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import socket
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from agent.network import events, names
from agent.network.events import Event
from agent.network.thread import Namespaces

_log: Final = logging.getLogger(__name__)
_NETLINK_ROUTE: Final = 0
_NETLINK_XFRM: Final = 6
_NETLINK_NETFILTER: Final = 12
_SOL_NETLINK: Final = 270
_ADD_MEMBERSHIP: Final = 1
_LISTEN_ALL_NSID: Final = 8
_SO_ATTACH_FILTER: Final = 26
_SO_RCVBUFFORCE: Final = 33
_ROUTE_GROUPS: Final = (
    1, 3, 5, 7, 8, 9, 11, 19,
)  # fmt: skip  # links, neighbours; IPv4's addresses, routes and rules; IPv6's
_NFTABLES_GROUP: Final = 7
_IPSEC_GROUPS: Final = (2, 3, 4)  # what expires, states, policies
_BUFFER: Final = 1 << 20  # a bound: memory is taken by what waits there
_LARGEST: Final = 1 << 16
_NEW_NSID: Final = 88
_GET_NSID: Final = 90
_NSID, _FD = 1, 3
_NONE: Final = -1
_ERROR: Final = 2
_IFF_UP: Final = 1

# Classic BPF on the message as netlink carries it: (label, code, number, label if so, label if not); "" is the next one.
_LOAD_HALF, _LOAD_BYTE, _LOAD_WORD = 0x28, 0x30, 0x20
_EQUAL, _ANY_BIT, _RETURN = 0x15, 0x45, 0x06
_Step = tuple[str, int, int, str, str]
_ENDS: Final[tuple[_Step, ...]] = (("drop", _RETURN, 0, "", ""), ("take", _RETURN, 0xFFFF_FFFF, "", ""))


def _as_loaded(value: int, size: int) -> int:
    """BPF loads big-endian numbers, netlink's are the machine's own."""
    return int.from_bytes(value.to_bytes(size, sys.byteorder), "big")


def _is_kind(kind: int, then: str, otherwise: str = "") -> _Step:
    return "", _EQUAL, _as_loaded(kind, 2), then, otherwise


ROUTE_FILTER: Final[tuple[_Step, ...]] = (
    ("", _LOAD_HALF, 4, "", ""),
    _is_kind(events.DEL_LINK, "take"),
    _is_kind(events.DEL_ADDRESS, "take"),
    _is_kind(events.DEL_ROUTE, "take"),
    _is_kind(events.DEL_RULE, "take"),
    _is_kind(events.NEW_LINK, "link"),
    _is_kind(events.DEL_NEIGHBOUR, "", "drop"),
    ("", _LOAD_BYTE, events.HEADER, "", ""),  # the family: of bridges' entries only those of a tunnel
    ("", _EQUAL, events.FAMILY_IPV4, "take", ""),
    ("", _EQUAL, events.FAMILY_IPV6, "take", ""),
    ("", _EQUAL, events.FAMILY_BRIDGE, "", "drop"),
    ("", _LOAD_BYTE, events.HEADER + 10, "", ""),
    ("", _ANY_BIT, 2, "take", "drop"),
    ("link", _LOAD_WORD, events.HEADER + 12, "", ""),  # which flags have changed: all, of a link that is new
    ("", _EQUAL, 0xFFFF_FFFF, "drop", ""),
    ("", _ANY_BIT, _as_loaded(_IFF_UP, 4), "", "drop"),
    ("", _LOAD_WORD, events.HEADER + 8, "", ""),
    ("", _ANY_BIT, _as_loaded(_IFF_UP, 4), "drop", "take"),
    *_ENDS,
)
TABLE_FILTER: Final[tuple[_Step, ...]] = (
    ("", _LOAD_HALF, 4, "", ""),
    _is_kind(events.NEW_GENERATION, "take", "drop"),
    *_ENDS,
)
IPSEC_FILTER: Final[tuple[_Step, ...]] = (
    ("", _LOAD_HALF, 4, "", ""),
    _is_kind(events.DEL_STATE, "take"),
    _is_kind(events.DEL_POLICY, "take"),
    _is_kind(events.STATE_EXPIRED, "take"),
    _is_kind(events.POLICY_EXPIRED, "take"),
    _is_kind(events.FLUSHED_STATES, "take"),
    _is_kind(events.FLUSHED_POLICIES, "take", "drop"),
    *_ENDS,
)


def assembled(program: Sequence[_Step]) -> bytes:
    """The kernel's form, jumps counted from the step after."""
    places = {label: n for n, (label, *_) in enumerate(program) if label}
    steps = []
    for n, (_, code, number, yes, no) in enumerate(program):
        so, not_so = (places[label] - n - 1 if label else 0 for label in (yes, no))
        steps.append(struct.pack("=HBBI", code, so, not_so, number))
    return b"".join(steps)


class Watch:
    """Used in the network thread only, but for the descriptors, which anybody may wait for."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self._numbers: dict[int, str] = {}
        self._asking = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
        self._sockets = (
            _listening(_NETLINK_ROUTE, _ROUTE_GROUPS, ROUTE_FILTER),
            _listening(_NETLINK_NETFILTER, (_NFTABLES_GROUP,), TABLE_FILTER),
        )
        self._ipsec: socket.socket | None = None
        for name in namespaces.existing():
            self.add(name)

    def descriptors(self) -> tuple[int, ...]:
        """What is readable when there is something to drain."""
        return tuple(each.fileno() for each in self._all())

    def hear_ipsec(self) -> None:
        """From now on of the host's states and policies, too; to be called where the kernel has them."""
        if self._ipsec is not None:
            return
        try:
            self._ipsec = _listening(_NETLINK_XFRM, _IPSEC_GROUPS, IPSEC_FILTER, everywhere=False)
        except OSError as error:  # whatever forbids it, all else goes on
            _log.warning("what others do to the kernel's IPsec goes unnoticed for up to a minute: %s", error)

    def close(self) -> None:
        """Hears nothing any more."""
        for each in (*self._all(), self._asking):
            each.close()

    def add(self, name: str) -> None:
        """From now on a namespace is heard of."""
        fd = self._namespaces.open(name)
        try:
            number = self._number(fd)
            if number == _NONE:
                self._request(_NEW_NSID, (_NSID, _NONE), (_FD, fd))
                number = self._number(fd)
        finally:
            os.close(fd)
        self._numbers[number] = name

    def discard(self, name: str) -> None:
        """What the kernel tells while it takes a namespace apart is no news."""
        self._numbers = {number: known for number, known in self._numbers.items() if known != name}

    def drain(self) -> Mapping[str, list[Event]] | None:
        """What was told since the last time, by namespace; None when the kernel had to leave something out."""
        found: dict[str, list[Event]] = {}
        complete = True
        for each in self._all():
            while True:
                try:
                    data, ancillary, _, _ = each.recvmsg(_LARGEST, socket.CMSG_SPACE(4))
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    complete = False
                    continue
                name = self._name(ancillary)
                if name is not None:
                    found.setdefault(name, []).extend(events.parse(data, each is self._ipsec))
        return found if complete else None

    def _all(self) -> tuple[socket.socket, ...]:
        return self._sockets if self._ipsec is None else (*self._sockets, self._ipsec)

    def _name(self, ancillary: Iterable[tuple[int, int, bytes]]) -> str | None:
        for level, kind, value in ancillary:
            if (level, kind) == (_SOL_NETLINK, _LISTEN_ALL_NSID):
                return self._numbers.get(struct.unpack("=i", value[:4])[0])
        return names.HOST

    def _number(self, fd: int) -> int:
        answer = self._request(_GET_NSID, (_FD, fd))
        return int(struct.unpack_from("=i", answer, events.HEADER + 8)[0])  # rtgenmsg, then one attribute

    def _request(self, kind: int, *attributes: tuple[int, int]) -> bytes:
        body = bytes(4) + b"".join(struct.pack("=HHI", 8, k, v & 0xFFFF_FFFF) for k, v in attributes)
        flags = 1 if kind == _GET_NSID else 5  # a request; one that is acknowledged
        self._asking.send(struct.pack("=IHHII", events.HEADER + len(body), kind, flags, 0, 0) + body)
        answer = self._asking.recv(_LARGEST)
        if struct.unpack_from("=H", answer, 4)[0] == _ERROR:
            number = -struct.unpack_from("=i", answer, events.HEADER)[0]
            if number and not (kind == _NEW_NSID and number == errno.EEXIST):
                raise OSError(number, os.strerror(number), "nsid")
        return answer


def _listening(
    family: int, groups: Iterable[int], program: Sequence[_Step], everywhere: bool = True
) -> socket.socket:
    """A socket that hears of these groups, in all namespaces with a number or in its own alone."""
    made = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, family
    )
    try:
        code = assembled(program)
        buffer = ctypes.create_string_buffer(code, len(code))
        made.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(buffer))
        )
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        if everywhere:
            made.setsockopt(_SOL_NETLINK, _LISTEN_ALL_NSID, 1)
        made.bind((0, 0))
        for group in groups:
            made.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    except OSError:
        made.close()
        raise
    return made
