"""Members in one loop, with a network of queues and disks in memory, for tests."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from common import model
from manager.raft import members as table
from manager.raft.core.messages import Entry, HardState, Message, Snapshot
from manager.raft.disk import Loaded
from manager.raft.group import Group
from manager.raft.loop import SameLoop
from manager.raft.members import Members
from manager.raft.replica import Limits
from manager.raft.wire import core_snapshot

TICK = 0.01


class MemoryDisk:
    """A Disk that forgets nothing."""

    place = "memory"

    def __init__(self) -> None:
        self.state = HardState()
        self.entries: list[Entry] = []
        self.kept: model.RaftSnapshot | None = None
        self.fails: OSError | None = None
        self.broken = False

    def load(self) -> Loaded:
        return Loaded(self.kept, tuple(self.entries), self.state)

    def save(self, state: HardState | None, entries: Sequence[Entry]) -> None:
        if self.fails is not None:
            raise self.fails
        if state is not None:
            self.state = state
        if entries:
            self.entries = [e for e in self.entries if e.index < entries[0].index] + list(entries)

    def save_snapshot(self, snapshot: model.RaftSnapshot) -> None:
        self.kept = snapshot

    def install(self, snapshot: model.RaftSnapshot, state: HardState) -> None:
        self.kept, self.entries, self.state = snapshot, [], state

    def compact(self, index: int) -> int:
        self.entries = [e for e in self.entries if e.index > index]
        return 0

    def snapshot(self) -> model.RaftSnapshot | None:
        return self.kept

    def close(self) -> None:
        pass


@dataclass
class Captured:
    index: int
    term: int
    data: bytes

    def encode(self) -> bytes:
        return self.data


class Journal:
    """A state machine: the list of what was applied."""

    def __init__(self) -> None:
        self.applied: list[tuple[int, bytes]] = []
        self.term = 0

    def apply(self, index: int, term: int, data: bytes, /) -> None:
        assert not self.applied or index > self.applied[-1][0]
        self.applied.append((index, data))
        self.term = term

    def capture(self) -> Captured:
        data = b"\n".join(b"%d %s" % (i, d.hex().encode()) for i, d in self.applied)
        return Captured(self.applied[-1][0], self.term, data)

    def restore(self, data: bytes, /) -> None:
        lines = [line.split(b" ") for line in data.split(b"\n") if line]
        self.applied = [(int(i), bytes.fromhex(d.decode())) for i, d in lines]

    def said(self) -> list[bytes]:
        return [d for _, d in self.applied if d]


class Wire:
    """runner.Transport."""

    def __init__(self, net: Net, group: Group) -> None:
        self.net, self.group = net, group

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.net.carry(self.group.raft_id, message)

    def update(self, members: Members) -> None:
        pass

    def meet(self, member: model.RaftMember) -> None:
        pass

    async def run(self) -> None:
        await asyncio.Event().wait()


@dataclass
class Node:
    member: model.RaftMember
    disk: MemoryDisk
    journal: Journal
    group: Group
    task: asyncio.Task[None] | None = None


@dataclass
class Net:
    """The members and what lies between them."""

    limits: Limits = field(default_factory=Limits)
    nodes: dict[int, Node] = field(default_factory=dict)
    cut: set[int] = field(default_factory=set)
    on_disk: Callable[[Callable[[], Any]], Awaitable[Any]] | None = None
    lives: int = 0

    def carry(self, sender: int, message: Message) -> None:
        if {sender, message.to} & self.cut or message.to not in self.nodes or sender not in self.nodes:
            return
        receiver = self.nodes[message.to]
        if message.snapshot is not None:
            kept = self.nodes[sender].disk.kept
            assert kept is not None
            snapshot: Snapshot = core_snapshot(kept.to_bytes())
            message = Message(message.type, message.to, message.from_, message.term, snapshot=snapshot)
            asyncio.get_running_loop().call_soon(
                self.nodes[sender].group.runner.snapshot_sent, message.to, True
            )
        asyncio.get_running_loop().call_soon(receiver.group.runner.step, message)

    async def begin(self, raft_id: int, disk: MemoryDisk | None = None) -> Node:
        member = model.RaftMember(raft_id, f"node{raft_id}", f"192.0.2.{raft_id}:2377")
        disk, journal = disk or MemoryDisk(), Journal()
        self.lives += 1
        if not self.nodes and disk.kept is None:
            journal.applied = [(1, b"first")]
            disk.kept = table.first_snapshot(1, 1, member, journal.capture().encode(), 1)

        async def at_once(call: Callable[[], Any]) -> Any:
            await asyncio.sleep(0)
            return call()

        group = Group(
            raft_id, disk, journal, lambda g: Wire(self, g), SameLoop(), limits=self.limits, tick=TICK,
            rng=random.Random(f"{raft_id} {self.lives}"), on_disk=at_once,
        )  # fmt: skip
        node = self.nodes[raft_id] = Node(member, disk, journal, group)
        await group.start()
        node.task = asyncio.create_task(group.run())
        return node

    async def crash(self, raft_id: int) -> MemoryDisk:
        node = self.nodes.pop(raft_id)
        assert node.task is not None
        node.task.cancel()
        await asyncio.wait([node.task])
        return node.disk

    async def leader(self) -> Node:
        while True:
            leaders = [n for i, n in self.nodes.items() if n.group.leader and i not in self.cut]
            if leaders:
                return leaders[0]
            waits = [asyncio.create_task(n.group.changed()) for n in self.nodes.values()]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for w in waits:
                w.cancel()

    async def grow(self, count: int) -> None:
        """`count` voters."""
        await (await self.begin(1)).group.leading(True)
        for raft_id in range(2, count + 1):
            node = await self.begin(raft_id)
            await (await self.leader()).group.add(node.member)
            while not any(s.voter and s.member.raft_id == raft_id for s in node.group.members()):
                await node.group.changed()

    async def close(self) -> None:
        for raft_id in list(self.nodes):
            await self.crash(raft_id)
