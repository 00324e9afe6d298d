"""The names that containers can ask for: what each sees, from the assignments, and the sockets on which it asks.

agent/network opens the sockets in a container's namespace and hands them over; systemd's descriptor store keeps them, so
that queries wait in the kernel while the agent restarts. agent/applier.py calls `update` with every new state.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from typing import Final

from agent.state import NodeState
from common import sdnotify

log = logging.getLogger("names")
_PREFIX: Final = "dns-"


def stored_name(task_id: str, kind: str) -> str:
    """Under which a socket lies in the descriptor store."""
    return f"{_PREFIX}{task_id}-{kind}"


def stored_sockets(handed_over: Mapping[str, list[int]]) -> dict[str, tuple[socket.socket, socket.socket]]:
    """Pairs of sockets by task, as an earlier process left them; halves of a pair are closed."""
    single: dict[tuple[str, str], socket.socket] = {}
    for name, fds in handed_over.items():
        if name.startswith(_PREFIX):
            task_id, _, kind = name.removeprefix(_PREFIX).rpartition("-")
            first, *rest = (socket.socket(fileno=fd) for fd in fds)
            first.setblocking(False)
            single[task_id, kind] = first
            for more in rest:
                more.close()
    pairs = {}
    for task_id in {task_id for task_id, _ in single}:
        udp, tcp = single.get((task_id, "udp")), single.get((task_id, "tcp"))
        if udp and tcp:
            pairs[task_id] = (udp, tcp)
            continue
        for half in (udp, tcp):
            if half:
                half.close()
        for kind in ("udp", "tcp"):
            sdnotify.discard(stored_name(task_id, kind))
    return pairs


class Names:
    """Which sockets are open; `adopted` are those of the process before."""

    def __init__(self, resolvers: tuple[str, ...], handed_over: Mapping[str, list[int]]) -> None:
        self._resolvers = resolvers
        self._sockets = stored_sockets(handed_over)
        self._state = NodeState()

    @property
    def adopted(self) -> frozenset[str]:
        """Tasks whose sockets are open already."""
        return frozenset(self._sockets)

    async def start(self) -> None:
        """Answers from here on."""

    async def close(self) -> None:
        """Stops answering; the sockets stay in the descriptor store."""
        for pair in self._sockets.values():
            for sock in pair:
                sock.close()

    def opened(self, task_id: str, udp: socket.socket, tcp: socket.socket) -> None:
        """A container's namespace has got its sockets."""
        for kind, sock in (("udp", udp), ("tcp", tcp)):
            sdnotify.store(stored_name(task_id, kind), [sock.fileno()])
        self._sockets[task_id] = (udp, tcp)

    def closed(self, task_id: str) -> None:
        """The namespace goes away."""
        for kind, sock in zip(("udp", "tcp"), self._sockets.pop(task_id, ()), strict=False):
            sdnotify.discard(stored_name(task_id, kind))
            sock.close()

    def update(self, state: NodeState) -> None:
        """New assignments: what containers may ask for changes at once."""
        self._state = state
