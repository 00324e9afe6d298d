"""What lies between the machines: connections as TCP has them, with delays, cuts in one or both directions, and hosts
that are off or stand still. What is sent arrives in order or not at all; an end that hears nothing for too long hangs up.

Used by wires.py, which makes gRPC's calls of it, and by faults.py. Hosts are known by the first part of a process's name.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from tests.simulation.managers.loop import Process, SharedLoop

PATIENCE = (8.0, 15.0)
"""Seconds of silence after which the caller's end, and the server's, hangs up (keepalive of common/rpc.py)."""

CONNECT = 20.0


def host_of(process: Process) -> str:
    """The machine that a process is on."""
    return process.name.partition("/")[0]


class Listener(Protocol):
    """A server with an open port."""

    process: Process


class Connection:
    """Between two processes: side 0 has called, side 1 serves."""

    def __init__(self, network: Network, caller: Process, server: Any, number: int) -> None:
        self.network = network
        self.number = number
        self.server = server
        self.ends = (caller, server.process)
        self.hosts = (host_of(caller), host_of(server.process))
        self.over = [False, False]
        self.on_end: tuple[list[Callable[[], None]], list[Callable[[], None]]] = ([], [])
        self.stalled_at = -1.0
        self.lost = False
        self._waiting: tuple[deque[Any], deque[Any]] = (deque(), deque())
        self._last = [0.0, 0.0]

    def send(self, side: int, call: Callable[..., None], *args: Any) -> None:
        """`call` happens at the other end, some time."""
        if self.over[side]:
            return
        if self._waiting[side] or not self.network.passes(self.hosts[side], self.hosts[1 - side]):
            self._waiting[side].append((call, args))
        else:
            self._go(side, call, args, 0.0)

    def _go(self, side: int, call: Callable[..., None], args: Any, extra: float) -> None:
        loop = self.network.loop
        when = max(self._last[side] + 1e-6, loop.now + self.network.latency() + extra)
        self._last[side] = when
        loop.call_at(when, self._arrive, 1 - side, call, args, context=self.ends[1 - side].context)

    def _arrive(self, side: int, call: Callable[..., None], args: Any) -> None:
        if not self.over[side] and not self.lost:
            call(*args)

    def flush(self) -> None:
        """What waits goes out, where it can again."""
        for side in (0, 1):
            if self._waiting[side] and self.network.passes(self.hosts[side], self.hosts[1 - side]):
                extra = self.network.rng.random() * 0.3  # until TCP tries again
                while self._waiting[side]:
                    call, args = self._waiting[side].popleft()
                    self._go(side, call, args, extra)

    def close(self, side: int) -> None:
        """One side hangs up; the other hears of it, if it can."""
        if self.over[side]:
            return
        self.send(side, self._end, 1 - side)
        self._end(side)

    def lose(self, side: int) -> None:
        """That side gives it up, or is told that it is no more."""
        self.network.loop.call_soon(self._lost, side, context=self.ends[side].context)

    def _lost(self, side: int) -> None:
        self.close(side)

    def _end(self, side: int) -> None:
        if self.over[side]:
            return
        self.over[side] = True
        calls, self.on_end[side][:] = list(self.on_end[side]), []
        for call in calls:
            call()
        if all(self.over):
            self.network.connections.pop(self.number, None)

    def die(self, process: Process, *, silent: bool) -> None:
        """A process that was an end of it is gone; `silent` when its machine is, too, and what it has sent."""
        self.lost = self.lost or silent
        for side in (0, 1):
            if self.ends[side] is process:
                if not silent and not self.over[side]:
                    self.send(side, self._end, 1 - side)
                self.over[side] = True
        if all(self.over):
            self.network.connections.pop(self.number, None)


class Network:
    """All connections, ports and cuts."""

    def __init__(self, loop: SharedLoop, rng: random.Random) -> None:
        self.loop = loop
        self.rng = rng
        self.delay = 0.0005
        self.jitter = 0.0005
        self.drop = self.duplicate = self.swap = 0.0  # of Raft's batches
        self.cuts: set[tuple[str, str]] = set()  # (from, to)
        self.off: set[str] = set()
        self.listening: dict[str, Any] = {}
        self.connections: dict[int, Connection] = {}
        self._count = 0

    def latency(self) -> float:
        """Of one message."""
        return self.delay + self.rng.random() * self.jitter

    def passes(self, source: str, target: str) -> bool:
        """Whether anything gets there."""
        if source == target:
            return source not in self.off
        return (source, target) not in self.cuts and source not in self.off and target not in self.off

    def connect(self, caller: Process, server: Any) -> Connection:
        """A new connection."""
        self._count += 1
        made = self.connections[self._count] = Connection(self, caller, server, self._count)
        return made

    # ---- faults

    def cut(self, source: str, target: str) -> None:
        """Nothing goes from one to the other."""
        if source != target:
            self.cuts.add((source, target))
            self.reconsider()

    def heal(self) -> None:
        """All cuts end."""
        self.cuts.clear()
        self.reconsider()

    def killed(self, process: Process, *, silent: bool = False) -> None:
        """A process has ended; its machine tells whoever still sends to it, unless it is off."""
        for addr in [a for a, s in self.listening.items() if s.process is process]:
            del self.listening[addr]
        for connection in list(self.connections.values()):
            if process in connection.ends:
                connection.die(process, silent=silent)
        self.reconsider()

    def reconsider(self) -> None:
        """After anything that makes connections stall, or go on."""
        now = self.loop.now
        for connection in list(self.connections.values()):
            if not self._stalls(connection):
                connection.stalled_at = -1.0
                connection.flush()
                gone = next((s for s in (0, 1) if connection.over[s]), None)
                if gone is not None:  # the next packet is answered by a reset
                    self.loop.call_at(now + 0.2, connection.lose, 1 - gone)
            elif connection.stalled_at < 0:
                connection.stalled_at = now
                for side in (0, 1):
                    self.loop.call_at(
                        now + PATIENCE[side] + self.rng.random(), self._check, connection, side, now
                    )

    def _stalls(self, connection: Connection) -> bool:
        one, two = connection.hosts
        if not (self.passes(one, two) and self.passes(two, one)):
            return True
        return any(p.halted and not p.killed for p in connection.ends)

    def _check(self, connection: Connection, side: int, since: float) -> None:
        if connection.stalled_at == since and not connection.over[side]:
            connection.lose(side)
