"""One `network check` on this node, from its first order to its last: listens, sends, tells. Run by checks.py.

Each order is answered with a report. Whatever becomes of the others, the sockets are closed when the last order has been carried
out, or has not come for a while; nothing else of a check stays in the kernel.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Final

from agent.check import inside, modules, packets, ports
from agent.check.packets import Kind, Probe, Tally
from agent.network import names
from agent.network.insight import Insight
from common import errors, model
from common.model import CheckPhase

log = logging.getLogger("check")

ROUNDS: Final = 3
BETWEEN: Final = 0.1  # s between rounds
STREAM_TIMEOUT: Final = 1.5
ON_ITS_WAY: Final = 0.25  # s that the last probes are given
PATIENCE: Final = 15.0  # s for the next order
_FEW: Final = 16  # from so many nodes on the size of packets is found out only roughly

Tell = Callable[[model.CheckReport], None]


class Probing:
    """`orders` come in by the queue; reports go out by `tell`."""

    def __init__(
        self,
        node_id: str,
        insight: Insight,
        unseen: Callable[[], Iterable[str]],
        now_ns: Callable[[], int],
        tell: Tell,
    ) -> None:
        self.orders: asyncio.Queue[model.CheckOrder] = asyncio.Queue()
        self._node_id = node_id
        self._insight = insight
        self._unseen = unseen
        self._now_ns = now_ns
        self._tell = tell
        self._plan = model.CheckPlan()
        self._tally = Tally(-1)
        self._listener: socket.socket | None = None
        self._tunnel: socket.socket | None = None
        self._troubles: list[model.CheckTrouble] = []
        self._mtu = self._needs = 0

    async def run(self) -> None:
        """Until the last phase is done, or no more orders come."""
        phases = {
            CheckPhase.CHECK_LISTEN: self._listen,
            CheckPhase.CHECK_SEND: self._send,
            CheckPhase.CHECK_TELL: self._last,
        }
        with ExitStack() as open_sockets:
            self._open = open_sockets
            while True:
                try:
                    async with asyncio.timeout(PATIENCE):
                        order = await self.orders.get()
                except TimeoutError:
                    return
                if order.phase not in phases:
                    continue  # a newer manager's
                self._tell(await phases[order.phase](order))
                if order.phase is CheckPhase.CHECK_TELL:
                    return

    # ---- listening

    async def _listen(self, order: model.CheckOrder) -> model.CheckReport:
        if order.plan is None:
            raise errors.InvalidArgument("a check without a plan")
        self._plan = plan = order.plan
        places = {node.id: place for place, node in enumerate(plan.nodes)}
        self._tally = Tally(places.get(self._node_id, -1))
        sandbox = await self._insight.stands(plan.network_id)
        self._mtu, self._needs = await self._insight.mtu(plan.network_id)
        try:
            self._listener = self._kept(ports.listener(), partial(packets.read_ip, nonce=plan.nonce))
        except OSError as error:
            self._trouble("network", f"cannot listen for probes: {os.strerror(error.errno or 0)}")
        if sandbox:
            await self._open_tunnel(plan)
        return model.CheckReport(
            id=order.id, phase=order.phase, clock=self._now_ns(), sandbox=sandbox, mtu=self._mtu,
            needs=self._needs, unseen=tuple(self._unseen()),
        )  # fmt: skip

    async def _open_tunnel(self, plan: model.CheckPlan) -> None:
        namespace = names.network_namespace(plan.network_id)
        try:
            made = await self._insight.inside(namespace, partial(ports.tunnel, names.VXLAN))
        except OSError as error:
            why = "there is no tunnel" if error.errno == errno.ENODEV else os.strerror(error.errno or 0)
            self._trouble("network", f"the network's tunnel cannot be looked into: {why}")
            return
        self._tunnel = self._kept(made, partial(packets.read_frame, nonce=plan.nonce))

    def _kept(self, made: socket.socket, read: Callable[[bytes], Probe | None]) -> socket.socket:
        """Reads it from now on; closed with the check."""
        loop = asyncio.get_running_loop()
        self._open.callback(made.close)
        loop.add_reader(made, lambda: self._tally.add(map(read, ports.received(made))))
        self._open.callback(loop.remove_reader, made)
        return made

    def _trouble(self, kind: str, text: str) -> None:
        self._troubles.append(model.CheckTrouble(kind, "", text))

    # ---- sending

    async def _send(self, order: model.CheckOrder) -> model.CheckReport:
        plan = self._plan
        others = [(place, node) for place, node in enumerate(plan.nodes) if node.id != self._node_id]
        listening = [(place, node) for place, node in others if node.listens]
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(self._connect(node)) for _, node in others]
            sent = group.create_task(self._probe(listening))
            seen = group.create_task(self._look())
        vxlan, gossip, tunnel = sent.result()
        tried = tuple(
            model.CheckTried(
                node.id, why, vxlan.get(node.id, ""), gossip.get(node.id, ""), tunnel.get(node.id, ""), silent
            )
            for (_, node), (why, silent) in zip(others, (task.result() for task in streams), strict=True)
        )
        asked = plan.services if seen.result() else ()
        return model.CheckReport(
            id=order.id, phase=order.phase, clock=self._now_ns(), tried=tried, troubles=tuple(self._troubles),
            names=len(asked), vips=sum(bool(service.vip) for service in asked),
        )  # fmt: skip

    async def _look(self) -> bool:
        """Looks at this node itself; whether names and VIPs could be tried."""
        if lacking := modules.missing():
            self._trouble(
                "module", f"the kernel has no {', '.join(lacking)}: install the distribution's full kernel"
            )
        network_id = self._plan.network_id
        for text in await self._insight.faults(network_id):
            self._trouble("network", text)
        tried = bool(await self._insight.tasks(network_id))
        try:
            self._troubles += await inside.troubles(self._insight, network_id, self._plan.services)
        except* OSError as group:
            log.info("a task went while names and VIPs were tried: %s", group.exceptions[0])
            tried = False
        return tried

    async def _connect(self, node: model.CheckNode) -> tuple[str, bool]:
        """Why TCP 7946 of a node can't be connected to; whether nothing at all came back."""
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in node.addr else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as made:
            try:
                async with asyncio.timeout(STREAM_TIMEOUT):
                    await loop.sock_connect(made, (node.addr, packets.GOSSIP_PORT))
            except TimeoutError:
                return "no answer", True
            except OSError as error:
                silent = error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT)
                return os.strerror(error.errno).lower() if error.errno else str(error), silent
        return "", False

    async def _probe(
        self, nodes: list[tuple[int, model.CheckNode]]
    ) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
        """Sends everything several times; why this machine would not, by node: VXLAN, gossip, the tunnel."""
        own = next((node for node in self._plan.nodes if node.id == self._node_id), model.CheckNode())
        vxlan, gossip, tunnel = {}, {}, {}
        with ExitStack() as opened:
            out = {}
            for kind, source in ((Kind.VXLAN, own.vtep), (Kind.GOSSIP, own.addr)):
                if inside.is_v4(source):
                    out[kind] = opened.enter_context(ports.sender(source))
            for turn in range(ROUNDS):
                for place, node in nodes:
                    if Kind.VXLAN in out and inside.is_v4(node.vtep):
                        vxlan[node.id] = self._vxlan(out[Kind.VXLAN], place, node, turn, len(nodes))
                    if Kind.GOSSIP in out and inside.is_v4(node.addr):
                        gossip[node.id] = self._gossip(out[Kind.GOSSIP], place, node)
                    if self._tunnel is not None and own.leg and node.leg:
                        tunnel[node.id] = self._frames(self._tunnel, place, node, own)
                await asyncio.sleep(BETWEEN)
        return vxlan, gossip, tunnel

    def _vxlan(self, out: socket.socket, place: int, node: model.CheckNode, turn: int, nodes: int) -> str:
        few = nodes >= _FEW
        ladder = packets.sizes(self._needs, few) if turn == 0 else (self._needs,)
        return ports.send(
            partial(out.sendto, packets.datagram(probe, self._plan.nonce), (node.vtep, packets.VXLAN_PORT))
            for probe in self._probes(Kind.VXLAN, place, (packets.SMALL, *ladder))
        )

    def _gossip(self, out: socket.socket, place: int, node: model.CheckNode) -> str:
        return ports.send(
            partial(out.sendto, packets.datagram(probe, self._plan.nonce), (node.addr, packets.GOSSIP_PORT))
            for probe in self._probes(Kind.GOSSIP, place, (packets.SMALL,))
        )

    def _frames(self, out: socket.socket, place: int, node: model.CheckNode, own: model.CheckNode) -> str:
        target, source = (end.leg_mac or names.mac(end.leg) for end in (node, own))
        return ports.send(
            partial(out.send, packets.frame(probe, self._plan.nonce, target, source))
            for probe in self._probes(Kind.TUNNEL, place, (packets.SMALL_FRAME, self._mtu))
        )

    def _probes(self, kind: Kind, place: int, sizes: Iterable[int]) -> Iterator[Probe]:
        return (Probe(kind, self._tally.receiver, place, size) for size in sizes)

    # ---- telling

    async def _last(self, order: model.CheckOrder) -> model.CheckReport:
        await asyncio.sleep(ON_ITS_WAY)
        nodes = self._plan.nodes
        heard = tuple(
            model.CheckHeard(nodes[place].id, h.vxlan, h.largest, h.gossip, h.tunnel, h.whole)
            for place, h in sorted(self._tally.heard.items())
            if place < len(nodes)
        )
        return model.CheckReport(
            id=order.id, phase=order.phase, clock=self._now_ns(), heard=heard, unseen=tuple(self._unseen())
        )
