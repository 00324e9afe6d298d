"""A node's part in a check, between two of them in one process: what one sends, the other tells. Raw sockets are pairs of sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent.check import modules, packets, ports, probing
from agent.check.probing import Probing
from common import model
from common.model import CheckPhase

MTU = 1350


@dataclass
class Wire:
    """Two machines, 127.0.0.1 and 127.0.0.2; packets of more than `most` bytes are lost."""

    most: int = 1500
    into: dict[str, socket.socket] = field(default_factory=dict)
    opened: list[socket.socket] = field(default_factory=list)

    def listener(self) -> socket.socket:
        inner, outer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        inner.setblocking(False)
        self.into[f"127.0.0.{len(self.into) + 1}"] = outer
        self.opened += [inner, outer]
        return inner

    def sender(self, source: str) -> Sender:
        return Sender(self)


@dataclass
class Sender:
    """What `ports.sender` would give."""

    wire: Wire

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        total = 28 + len(data)
        if total > self.wire.most:
            return
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, total, 0, 0x4000, 64, 17, 0, bytes(4), bytes(4))
        udp = struct.pack("!HHHH", 40000, address[1], total - 20, 0)
        self.wire.into[address[0]].send(head + udp + data)

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Insight:
    """A node without a task in the network."""

    async def stands(self, network_id: str) -> bool:
        return False

    async def mtu(self, network_id: str) -> tuple[int, int]:
        return MTU, MTU + 50

    async def tasks(self, network_id: str) -> list[tuple[str, str]]:
        return []

    async def faults(self, network_id: str) -> list[str]:
        return ["the kernel is not as planned: balancers missing"]


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    made = Wire()
    monkeypatch.setattr(ports, "listener", made.listener)
    monkeypatch.setattr(ports, "sender", made.sender)
    monkeypatch.setattr(modules, "missing", lambda: ["vxlan"])
    monkeypatch.setattr(probing, "ON_ITS_WAY", 0.0)
    monkeypatch.setattr(probing, "BETWEEN", 0.0)
    yield made
    for each in made.opened:
        each.close()


def plan() -> model.CheckPlan:
    nodes = (
        model.CheckNode("n1", "one", "127.0.0.1", "127.0.0.1", "", True),
        model.CheckNode("n2", "two", "127.0.0.2", "127.0.0.2", "", True),
        model.CheckNode("n3", "gone", "127.0.0.3", "127.0.0.3", "", False),
    )
    return model.CheckPlan(b"nonce", "net", nodes)


Reports = asyncio.Queue[model.CheckReport]


def node(name: str) -> tuple[Probing, Reports]:
    reports: Reports = asyncio.Queue()
    insight: Any = Insight()
    return Probing(name, insight, lambda: ("n3",), lambda: 42, reports.put_nowait), reports


async def phase(parts: list[tuple[Probing, Reports]], order: model.CheckOrder) -> list[model.CheckReport]:
    for each, _ in parts:
        each.orders.put_nowait(order)
    async with asyncio.timeout(30):
        return [await reports.get() for _, reports in parts]


async def test_two_nodes_probe_each_other(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.most = 1390
    with socket.create_server(("127.0.0.2", 0)) as gossip:
        monkeypatch.setattr(packets, "GOSSIP_PORT", gossip.getsockname()[1])
        parts = [node("n1"), node("n2")]
        running = [asyncio.create_task(each.run()) for each, _ in parts]
        listening = await phase(parts, model.CheckOrder("c", CheckPhase.CHECK_LISTEN, plan()))
        assert [(r.clock, r.sandbox, r.mtu, r.unseen) for r in listening] == [(42, False, MTU, ("n3",))] * 2
        sent, back = await phase(parts, model.CheckOrder("c", CheckPhase.CHECK_SEND))
        told = await phase(parts, model.CheckOrder("c", CheckPhase.CHECK_TELL))
        await asyncio.wait(running, timeout=30)
    assert [t.node_id for t in back.tried] == ["n1", "n3"]
    assert [t.node_id for t in sent.tried] == ["n2", "n3"]
    assert (sent.tried[0].stream, sent.tried[0].silent) == ("", False)
    assert [(t.kind, t.text) for t in sent.troubles] == [
        ("module", "the kernel has no vxlan: install the distribution's full kernel"),
        ("network", "the kernel is not as planned: balancers missing"),
    ]
    assert [r.heard for r in told] == [
        (model.CheckHeard("n2", vxlan=True, largest=1390, gossip=True),),
        (model.CheckHeard("n1", vxlan=True, largest=1390, gossip=True),),
    ]
    assert all(task.done() and task.exception() is None for task in running)
    assert [made.fileno() for made in wire.opened[::2]] == [-1, -1]  # both listeners are closed


async def test_when_no_more_orders_come_everything_is_closed(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = node("n1")
    running = asyncio.create_task(part[0].run())
    await phase([part], model.CheckOrder("c", CheckPhase.CHECK_LISTEN, plan()))
    monkeypatch.setattr(probing, "PATIENCE", 0.01)
    part[0].orders.put_nowait(model.CheckOrder("c", CheckPhase.CHECK_UNSET))  # a newer manager's: passed over
    async with asyncio.timeout(30):
        await running
    assert wire.opened[0].fileno() == -1
