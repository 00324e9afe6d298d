"""Clients that write and read through any member, one operation each at a time, and give up on what takes too long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.history import Operation

if TYPE_CHECKING:
    from tests.simulation.raft.cluster import Cluster
    from tests.simulation.raft.member import Member

PATIENCE = 30.0


class Client:
    """Works until the cluster's faults end."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self._count = 0
        self._operation: Operation | None = None
        cluster.clock.at(cluster.rng.random() * 10, self._next)

    def _next(self) -> None:
        cluster = self.cluster
        if cluster.clock.now > cluster.duration:
            return
        rng = cluster.rng
        up = [m for m in cluster.members.values() if m.up]
        if not up:
            cluster.clock.at(5.0, self._next)
            return
        member = rng.choice(up)
        key = rng.choice(cluster.keys)
        now = cluster.clock.now
        if rng.random() < cluster.writes:
            self._count += 1
            operation = cluster.history.write(self.name, key, f"{self.name}.{self._count}", now)
            self._operation = operation
            self._write(operation, member)
        else:
            operation = cluster.history.read(self.name, key, now)
            self._operation = operation
            member.read(key, lambda done, value: self._answered(operation, done, value))
        cluster.clock.at(PATIENCE, self._give_up, operation)

    def _write(self, operation: Operation, member: Member) -> None:
        """Straight to the leader, or through a member that passes it on and its answer back."""
        data = f"{operation.key}={operation.value}".encode()
        network = self.cluster.network
        leader = self.cluster.members.get(member.lead)
        if leader is None:
            self._answered(operation, False, None)
        elif leader is member:
            member.write(data, lambda done, value: self._answered(operation, done, value))
        else:
            there, back = (member.id, leader.id), (leader.id, member.id)

            def passed_on(done: bool | None, value: str | None) -> None:
                network.send(*back, self._answered, operation, done, value)

            network.send(*there, leader.write, data, passed_on, once=True)

    def _answered(self, operation: Operation, done: bool | None, value: str | None) -> None:
        if operation is not self._operation:
            return
        self._operation = None
        clock = self.cluster.clock
        if done:
            operation.finish(clock.now, value)
        elif done is not None:
            operation.refuse(clock.now)
        clock.at(self.cluster.rng.expovariate(1.0) * self.cluster.think, self._next)

    def _give_up(self, operation: Operation) -> None:
        if operation is self._operation:
            self._operation = None
            self._next()
