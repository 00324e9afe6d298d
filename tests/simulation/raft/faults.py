"""What goes wrong in a run, by its seed: each run has its own mix, so that rare pairs of faults get their turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from manager.raft.core.messages import (
    AnyConfChange,
    ConfChange,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
)
from tests.simulation.raft.engine import Core
from tests.simulation.raft.network import Network

if TYPE_CHECKING:
    import random

    from tests.simulation.raft.cluster import Cluster
    from tests.simulation.raft.member import Member

ADD, REMOVE = ConfChangeType.ADD_NODE, ConfChangeType.REMOVE_NODE
LEARNER = ConfChangeType.ADD_LEARNER_NODE


class Faults:
    """Does something every now and then, until the faults end."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        rng = cluster.rng
        kinds: list[tuple[Callable[[], None], float]] = [
            (self._split, 3),
            (self._isolate_leader, 2),
            (self._one_way, 2),
            (self._slow, 1),
            (self._heal, 6),
            (self._crash, 4),
            (self._crash_leader, 1),
            (self._crash_all, 0.4),
            (self._pause, 2),
            (self._pause_leader, 1),
            (self._transfer, 2),
            (self._campaign, 0.5),
            (self._forget, 0.3),
            (self._change, 5 if rng.random() < 0.5 else 0),
        ]
        # Each run knows only some kinds of fault; membership changes every second run.
        self._kinds = [(call, weight) for call, weight in kinds if weight and rng.random() < 0.7]
        self._kinds.append((self._heal, 2.0))
        self._calls = [call for call, _ in self._kinds]
        self._weights = [weight for _, weight in self._kinds]
        self._mean = rng.choice((4.0, 10.0, 20.0, 40.0))
        self._next_id = max(cluster.members) + 1
        self._spare = 4
        cluster.clock.at(20.0 * rng.random(), self._next)

    @property
    def rng(self) -> random.Random:
        """The run's dice."""
        return self.cluster.rng

    @property
    def network(self) -> Network:
        """The run's network."""
        return self.cluster.network

    def _next(self) -> None:
        cluster = self.cluster
        if cluster.clock.now > cluster.duration:
            return
        self.rng.choices(self._calls, self._weights)[0]()
        cluster.clock.at(self.rng.expovariate(1.0) * self._mean, self._next)

    def _any(self) -> Member:
        return self.rng.choice(list(self.cluster.members.values()))

    def _leader(self) -> Member | None:
        leaders = [m for m in self.cluster.members.values() if m.leads and not m.paused]
        return self.rng.choice(leaders) if leaders else None

    # -- the network ------------------------------------------------------------------------------------------------

    def _split(self) -> None:
        ids = list(self.cluster.members)
        ours = self.rng.sample(ids, self.rng.randrange(1, len(ids))) if len(ids) > 1 else ids
        self.network.split(ours, [id_ for id_ in ids if id_ not in ours])

    def _isolate_leader(self) -> None:
        leader = self._leader()
        if leader is not None:
            self.network.split([leader.id], list(self.cluster.members))

    def _one_way(self) -> None:
        source, target = self._any().id, self._any().id
        self.network.cut([source], [target] if self.rng.random() < 0.6 else list(self.cluster.members))

    def _slow(self) -> None:
        self.network.slow[self._any().id, self._any().id] = self.rng.choice((5.0, 20.0, 80.0))

    def _heal(self) -> None:
        self.network.heal()

    # -- members ----------------------------------------------------------------------------------------------------

    def _stop(self, member: Member) -> None:
        if member.up:
            member.crash()
            self.cluster.clock.at(self.rng.random() * 20, self.cluster.revive, member)

    def _crash(self) -> None:
        self._stop(self._any())

    def _crash_leader(self) -> None:
        leader = self._leader()
        if leader is not None:
            self._stop(leader)

    def _crash_all(self) -> None:
        for member in self.cluster.members.values():
            self._stop(member)

    def _halt(self, member: Member) -> None:
        if member.up and not member.paused:
            member.pause()
            life = member.life
            self.cluster.clock.at(self.rng.expovariate(1.0) * 25, self.cluster.wake, member, life)

    def _pause(self) -> None:
        self._halt(self._any())

    def _pause_leader(self) -> None:
        leader = self._leader()
        if leader is not None:
            self._halt(leader)

    def _transfer(self) -> None:
        leader = self._leader()
        if leader is not None and leader.conf.voters:
            target = self.rng.choice(leader.conf.voters)
            leader.do(lambda engine: engine.transfer(target))

    def _campaign(self) -> None:
        self._any().do(lambda engine: engine.campaign())

    def _forget(self) -> None:
        self._any().do(lambda engine: engine.forget() if isinstance(engine, Core) else None)

    # -- membership -------------------------------------------------------------------------------------------------

    def _change(self) -> None:
        leader = self._leader()
        if leader is None:
            return
        for _ in range(2 if self.rng.random() < 0.2 else 1):  # two at once: only one may count
            change = self._propose(leader)
            if change is not None:
                leader.change(change)

    def _propose(self, leader: Member) -> AnyConfChange | None:
        conf = leader.conf
        if conf.voters_outgoing:
            return None if conf.auto_leave else ConfChangeV2()
        singles = [single for _ in range(self.rng.choice((1, 1, 1, 2, 3))) if (single := self._single(conf))]
        if len({single.node_id for single in singles}) < len(singles) or not singles:
            return None
        removed = {single.node_id for single in singles if single.type != ADD}
        if len(set(conf.voters) - removed) < 1 or not set(conf.voters):
            return None
        # Of two voters the leader must not leave: the other one, not knowing of the commit, would need its vote. The same
        # goes for whoever leads at the end of a joint change that removes it: after one, no agreement is claimed.
        if len(conf.voters) == 2 and leader.id in removed and self.cluster.strict:
            return None
        if len(singles) == 1 and self.rng.random() < 0.5:
            return ConfChange(singles[0].type, singles[0].node_id)
        if self.cluster.as_managers:  # they make one simple change at a time
            return ConfChange(singles[0].type, singles[0].node_id)
        self.cluster.joint = True
        return ConfChangeV2(self.rng.choice(list(ConfChangeTransition)), tuple(singles))

    def _single(self, conf: ConfState) -> ConfChangeSingle | None:
        kind = self.rng.random()
        if kind < 0.3 and self._spare:
            self._spare -= 1
            id_ = self._next_id
            self._next_id += 1
            self.cluster.join(id_)
            return ConfChangeSingle(LEARNER if self.rng.random() < 0.7 else ADD, id_)
        if kind < 0.65 and conf.learners:
            return ConfChangeSingle(ADD, self.rng.choice(conf.learners))
        if kind < 0.75 and conf.learners:
            return ConfChangeSingle(REMOVE, self.rng.choice(conf.learners))
        if len(conf.voters) > 1:
            return ConfChangeSingle(REMOVE if kind < 0.9 else LEARNER, self.rng.choice(conf.voters))
        return None
