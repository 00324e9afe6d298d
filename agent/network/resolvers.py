"""The sockets of tasks' resolvers: opened in a task's namespace, handed to whoever answers there (agent/names.py). For manager.py."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection

from agent.network import names
from agent.network.kernel import describe
from agent.network.thread import Namespaces, NetThread
from common import errors

Opened = Callable[[str, socket.socket, socket.socket], None]
Closed = Callable[[str], None]


class Resolvers:
    """`opened` is handed a task's UDP and TCP socket, `closed` told that it goes; `have` have theirs from an earlier process."""

    def __init__(self, opened: Opened, closed: Closed, have: Collection[str] = ()) -> None:
        self._opened, self._closed = opened, closed
        self._have = set(have)

    async def open(self, thread: NetThread, task_id: str) -> None:
        """Nothing for a task that has its own."""
        if task_id in self._have:
            return
        try:
            udp, tcp = await thread.run(_sockets, thread.namespaces, task_id)
        except OSError as error:
            raise errors.Internal(
                f"could not open the resolver of task {task_id}: {describe(error)}"
            ) from error
        self._have.add(task_id)
        self._opened(task_id, udp, tcp)

    def close(self, task_id: str) -> None:
        """Nothing for one that has none."""
        if task_id in self._have:
            self._have.discard(task_id)
            self._closed(task_id)

    def close_all_but(self, task_ids: Collection[str]) -> None:
        for task_id in sorted(self._have.difference(task_ids)):
            self.close(task_id)


def _sockets(namespaces: Namespaces, task_id: str) -> tuple[socket.socket, socket.socket]:
    """(UDP, TCP) on the resolver's address in a task's namespace, non-blocking. Network thread only."""
    udp, tcp = None, None
    with namespaces.inside(names.task_namespace(task_id)):
        try:
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            udp.bind((names.DNS_ADDRESS, names.DNS_PORT))
            tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((names.DNS_ADDRESS, names.DNS_PORT))
            tcp.listen(128)
        except OSError:
            for opened in (udp, tcp):
                if opened is not None:
                    opened.close()
            raise
    return udp, tcp
