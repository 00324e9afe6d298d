"""A Replicated in memory that keeps Raft's rules of membership, for tests: no disk, no network, no time.

Every member's view is the same; changes go through at once, but only where a majority of the voters answers.
"""

import asyncio

from common import errors, model
from manager.raft.consensus import MemberStatus
from manager.store.store import NO_LEADER, Store


class Agreement:
    """What the members share."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.index = 0
        self.table: dict[int, tuple[model.RaftMember, bool]] = {}
        self.removed: set[int] = set()
        self.up: set[str] = set()
        self.leader_id = ""
        self.changes: list[str] = []
        self.under_way = 0
        self.most_under_way = 0
        self._news = asyncio.Event()
        store.attach(self.propose)

    def start(self, *node_ids: str) -> None:
        """These are voters from the beginning; the first one leads."""
        for number, node_id in enumerate(node_ids, 1):
            member = model.RaftMember(number, node_id, f"10.0.0.{number}:2377")
            self.table[number] = (member, True)
            self.up.add(node_id)
        self.leader_id = node_ids[0]

    def tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def switch(self, node_id: str, on: bool) -> None:
        (self.up.add if on else self.up.discard)(node_id)
        self.tell()

    def voters(self) -> list[str]:
        return sorted(member.node_id for member, voter in self.table.values() if voter)

    def learners(self) -> list[str]:
        return sorted(member.node_id for member, voter in self.table.values() if not voter)

    def caught_up(self, node_id: str) -> None:
        """A learner becomes a voter."""
        for number, (member, _) in self.table.items():
            if member.node_id == node_id:
                self.table[number] = (member, True)
        self.up.add(node_id)
        self.tell()

    def quorum(self) -> None:
        voters = self.voters()
        if 2 * sum(v in self.up for v in voters) <= len(voters):
            raise errors.DeadlineExceeded(NO_LEADER)

    async def propose(self, data: bytes) -> int:
        self.quorum()
        self.index += 1
        self.store.apply(self.index, 1, data)
        return self.index

    def members(self) -> tuple[MemberStatus, ...]:
        return tuple(
            MemberStatus(member, voter, member.node_id == self.leader_id, member.node_id in self.up)
            for _, (member, voter) in sorted(self.table.items())
        )

    async def changed(self) -> None:
        await self._news.wait()


class FakeMember:
    """One member's part. Only the leader's can change anything."""

    def __init__(self, agreement: Agreement, node_id: str) -> None:
        self.all = agreement
        self.node_id = node_id
        self.term = 1

    @property
    def leader(self) -> bool:
        return self.all.leader_id == self.node_id

    @property
    def leader_id(self) -> str:
        return self.all.leader_id

    @property
    def applied(self) -> int:
        return self.all.index

    async def propose(self, data: bytes) -> int:
        return await self.all.propose(data)

    async def read_index(self) -> int:
        return self.all.index

    async def start(self) -> None: ...

    async def run(self) -> None: ...

    async def stop(self) -> None: ...

    def members(self) -> tuple[MemberStatus, ...]:
        return self.all.members()

    @property
    def removed(self) -> bool:
        return self.node_id not in {member.node_id for member, _ in self.all.table.values()}

    async def changed(self) -> None:
        await self.all.changed()

    async def leading(self, leads: bool) -> None:
        while self.leader is not leads:
            await self.changed()

    async def add(self, member: model.RaftMember) -> None:
        assert self.leader
        assert member.raft_id not in self.all.removed
        assert all(m.node_id != member.node_id for m, _ in self.all.table.values())
        await self._agree(f"add {member.node_id}")
        self.all.table[member.raft_id] = (member, False)
        self.all.tell()

    async def remove(self, node_id: str) -> None:
        assert self.leader
        assert node_id != self.node_id, "a leader hands leadership on first"
        left = [v for v in self.all.voters() if v != node_id]
        if 2 * sum(v in self.all.up for v in left) <= len(left):
            raise errors.FailedPrecondition("no quorum would be left")
        await self._agree(f"remove {node_id}")
        for number, (member, _) in list(self.all.table.items()):
            if member.node_id == node_id:
                del self.all.table[number]
                self.all.removed.add(number)
        self.all.tell()

    async def transfer(self, node_id: str = "") -> None:
        assert self.leader
        heirs = [v for v in self.all.voters() if v != self.node_id and v in self.all.up]
        if not heirs or (node_id and node_id not in heirs):
            raise errors.DeadlineExceeded("nobody can take over")
        self.all.changes.append(f"transfer to {node_id or 'any'}")
        self.all.leader_id = node_id or heirs[0]
        self.all.tell()

    async def _agree(self, what: str) -> None:
        """One change: the other tasks get their turn meanwhile."""
        self.all.quorum()
        self.all.under_way += 1
        self.all.most_under_way = max(self.all.most_under_way, self.all.under_way)
        await asyncio.sleep(0)
        self.all.under_way -= 1
        self.all.changes.append(what)


def node(
    node_id: str,
    spec: model.NodeRole = model.NodeRole.MANAGER,
    role: model.NodeRole | None = None,
    status: model.ManagerStatus | None = None,
) -> model.Node:
    """A node as the store has it."""
    return model.Node(
        id=node_id,
        spec=model.NodeSpec(role=spec),
        description=model.NodeDescription(hostname=node_id),
        status=model.NodeStatus(state=model.NodeState.NODE_READY, addr="10.0.0.1"),
        role=spec if role is None else role,
        manager_status=status,
    )
