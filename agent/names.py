"""The names that containers can ask for: gives the DNS server its sockets and what each container sees.

agent/network opens the sockets in a container's namespace and hands them over; systemd's descriptor store keeps them, so
that queries wait in the kernel while the agent restarts. agent/applier.py calls `update` with every new state.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Final

from agent.dns.forward import ResolvConf
from agent.dns.server import DnsServer
from agent.dns.views import Views
from agent.dns.zone import ZoneView
from agent.state import NodeState
from common import sdnotify

_PREFIX: Final = "dns-"
_KINDS: Final = ("udp", "tcp")


def stored_name(task_id: str, kind: str) -> str:
    """Under which a socket lies in the descriptor store."""
    return f"{_PREFIX}{task_id}-{kind}"


def stored_sockets(handed_over: Mapping[str, list[int]]) -> dict[str, tuple[socket.socket, socket.socket]]:
    """Pairs of sockets by task, as an earlier process left them; halves of a pair are closed."""
    single: dict[tuple[str, str], socket.socket] = {}
    for name, fds in handed_over.items():
        if name.startswith(_PREFIX):
            task_id, _, kind = name.removeprefix(_PREFIX).rpartition("-")
            last, *rest = (socket.socket(fileno=fd) for fd in reversed(fds))
            single[task_id, kind] = last
            for older in rest:
                older.close()
    pairs = {}
    for task_id in {task_id for task_id, _ in single}:
        udp, tcp = (single.get((task_id, kind)) for kind in _KINDS)
        if udp and tcp:
            pairs[task_id] = (udp, tcp)
            continue
        for half in (udp, tcp):
            if half:
                half.close()
        _discard(task_id)
    return pairs


def _discard(task_id: str) -> None:
    for kind in _KINDS:
        sdnotify.discard(stored_name(task_id, kind))


class Names:
    """One per agent, used on its loop. `adopted` are the tasks whose sockets the process before has left."""

    def __init__(self, resolvers: tuple[str, ...], handed_over: Mapping[str, list[int]]) -> None:
        self._server = DnsServer((lambda: resolvers) if resolvers else ResolvConf())
        self._views = Views()
        self._seen: dict[str, ZoneView] = {}
        self._state = NodeState()
        # Views of single containers, from those of their places in overlays.
        self.singles: Callable[[Mapping[str, ZoneView]], Mapping[str, ZoneView]] = lambda of_places: {}
        self.short_ids: Callable[[], Mapping[str, str]] = dict  # of containers, by task
        pairs = stored_sockets(handed_over)
        self.adopted = frozenset(pairs)
        for task_id, (udp, tcp) in pairs.items():
            self._server.serve(task_id, udp, tcp)

    async def close(self) -> None:
        """Stops answering; questions wait at the copies of the sockets in the descriptor store."""
        await self._server.close()

    def opened(self, task_id: str, udp: socket.socket, tcp: socket.socket) -> None:
        """A container's namespace has got its sockets."""
        _discard(task_id)
        for kind, sock in zip(_KINDS, (udp, tcp), strict=True):
            sdnotify.store(stored_name(task_id, kind), [sock.fileno()])
        self._server.update(task_id, self._seen.get(task_id, ZoneView()))
        self._server.serve(task_id, udp, tcp)

    def closed(self, task_id: str) -> None:
        """The namespace goes away."""
        _discard(task_id)
        self._server.drop(task_id)

    def update(self, state: NodeState) -> None:
        """New assignments: what containers may ask for changes at once. One that is going keeps what it saw."""
        self._state = state
        seen = self._views.of(state, self.short_ids())
        self._seen = {**seen, **self.singles(seen)}
        for task_id in self._server.serving & self._seen.keys():
            self._server.update(task_id, self._seen[task_id])

    def refresh(self) -> None:
        """Single containers have come to other networks, or gone."""
        self.update(self._state)
