"""The agent's network as the worker and the session see it (agent/network/api.py): asyncio in front of the one thread.

Assignments come in by apply(), containers by attach() and detach(). Each computes the plan of the newest state and
sends the namespaces concerned to the thread; loop.py makes one pass of a burst of changes, and long passes go in slices, so
that a container that is being attached never waits long. What somebody else takes away is put back when the kernel tells of it.
Every minute the host, the sandboxes and some tasks' namespaces are read afresh and repaired, all of them in turn: what that
costs doesn't grow with the number of tasks.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from agent.network import encryption, legs, names, published, resolvers
from agent.network.api import Sandbox
from agent.network.bridges import Local
from agent.network.endpoints_file import EndpointsFile
from agent.network.facts import KernelView
from agent.network.forgetting import Forgetting
from agent.network.ground import Ground
from agent.network.insight import Insight
from agent.network.kernel import Kernel, KernelError, describe, described_with_step
from agent.network.loop import RECONCILE, Loop, Outcome, tell_failure
from agent.network.refusals import (
    first_failure,
    refuse_allocated,
    refuse_busy,
    refuse_failed,
    refuse_impossible,
    refuse_without_ipv6,
)
from agent.network.report import Report
from agent.network.resolvers import Resolvers
from agent.network.thread import NetThread
from agent.network.underlay import Underlay
from agent.network.wanted import Wanted
from agent.network.watcher import SLICE, next_turn, watch
from agent.state import NodeState
from common import errors, model
from common.cancellation import still_wanted

_log: Final = logging.getLogger(__name__)


class KernelNetwork:
    """Implements api.Network. `folder` lies on a file system that a reboot empties, /run/shoal by default."""

    def __init__(
        self,
        folder: Path,
        dns_opened: resolvers.Opened,
        dns_closed: resolvers.Closed,
        have_dns: Collection[str] = (),
        reconcile_every: float = RECONCILE,
    ) -> None:
        self._folder = folder
        self._resolvers = Resolvers(dns_opened, dns_closed, have_dns)
        self._loop = Loop(self._bring, reconcile_every)
        self._ground = Ground()
        self._thread: NetThread | None = None
        self._wanted = Wanted()
        self._watcher: asyncio.Task[None] | None = None
        self._drifted = False
        self._report = Report()
        self._read_last = ""  # of tasks' namespaces, when reconciling

    # ---- life

    async def start(self) -> None:
        """Opens what it needs and adopts what an earlier process left in the kernel."""
        folder = self._folder / "netns"
        self._thread = await asyncio.to_thread(NetThread, folder)
        await self._thread.run(self._thread.namespaces.clean)
        self._kernel = await self._thread.run(Kernel, self._thread.namespaces)
        file = EndpointsFile(self._folder / "endpoints.json")
        self._forgetting = Forgetting(self._thread, self._kernel, file)
        await self._ground.explore(self._thread, self._kernel, self._wanted.own.subnets())
        for task, addresses in (await self._thread.run(self._kernel.tasks)).items():
            if self._wanted.adopt(task):
                self._wanted.attached[task] = self._ground.gateway_address(addresses)
        await self._forgetting.load()
        if self._wanted.attached:
            _log.info("adopted the namespaces of %d tasks", len(self._wanted.attached))
        for task in sorted(self._wanted.attached):
            await self._resolvers.open(self._thread, task)
        self._loop.start()
        self._watcher = asyncio.create_task(
            watch(self._kernel.watch.descriptors, self._look, self._repair), name="network watch"
        )
        self._watcher.add_done_callback(tell_failure)

    async def close(self) -> None:
        """Lets go of sockets and threads; the kernel's state stays as it is."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
        await self._loop.close()
        if self._thread is not None:
            thread, self._thread = self._thread, None
            await thread.run(self._kernel.watch.close)
            await asyncio.to_thread(thread.close)

    # ---- questions

    @property
    def attached(self) -> frozenset[str]:
        """Tasks that have a namespace; a worker compares them with its containers."""
        return frozenset(self._wanted.attached.keys() - self._wanted.own.present)

    @property
    def local(self) -> frozenset[str]:
        """Single containers with a namespace."""
        return frozenset(self._wanted.own.present)

    @property
    def routes_by_mark(self) -> bool:
        """Whether tasks here can answer the mesh's clients through the node that took their connection."""
        return self._ground.routes_by_mark

    def gateway_addresses(self) -> Mapping[str, str]:
        """The addresses on docker_gwbridge, by task; what is there for people to look at."""
        return self._wanted.gateway_addresses()

    @property
    def gateway_subnet(self) -> str:
        """docker_gwbridge's; empty where nobody needs one yet: it gives way to others then."""
        return self._ground.gateway_subnet if self._wanted.needs_gateway_bridge else ""

    def next_gateway_address(self) -> str:
        """One on docker_gwbridge that nobody has; for a single container, which names it in wire()."""
        return self._ground.next_gateway_address(set(self._wanted.gateway_addresses().values()))

    @property
    def changes(self) -> int:
        """How often the kernel was changed since start()."""
        return self._kernel.changes

    async def routes(self) -> tuple[str, ...]:
        """What no overlay may overlap: destinations of this machine's routes, without those that are ours."""
        thread, reader = self._running(), self._kernel.reader
        return (
            *await thread.run(reader.host_routes),
            *await thread.run(reader.host_routes, socket.AF_INET6),
        )

    @property
    def lacks_for_seals(self) -> str:
        """The kernel's module that encrypted networks need and that isn't there; empty when they work."""
        return self._ground.lacks

    def insight(self) -> Insight:
        """For whoever looks for a fault."""
        return Insight(
            self._running(),
            self._kernel,
            self._wanted.known,
            self._plan,
            self._underlay,
            lambda: self._report.failing,
        )

    # ---- commands

    def use_keys(self, keys: Iterable[model.EncryptionKey]) -> None:
        """The swarm's keys are these: what is encrypted follows."""
        found = encryption.ring(keys)
        if found != self._ground.keys:
            self._ground.keys = found
            if self._wanted.state.node_id:  # before the first apply() nothing is planned
                self._loop.wake()

    async def apply(self, state: NodeState) -> None:
        """Returns when the kernel stands as `state` says; raises errors.Internal naming what couldn't be done."""
        self._running()
        self._wanted.assign(state)
        if state.node_id:
            await self._loop.served()

    async def reconcile(self) -> None:
        """Reads everything afresh and repairs it now, as the loop does by itself every minute."""
        self._ground.forget()
        everything = [names.HOST, *await self._running().run(self._running().namespaces.existing)]
        await self._running().run(self._kernel.forget, everything)
        await self.apply(self._wanted.state)

    async def attach(self, task_id: str) -> Sandbox:
        """Makes the namespace and legs of a task of the applied state; raises errors.ShoalError with the cause."""
        thread = self._running()
        wanted = self._wanted
        assignment = wanted.assignment(task_id)
        if assignment is None:
            raise errors.NotFound(f"task {task_id} not found")
        refuse_impossible(wanted.state, assignment.task, self._ground.lacks)
        if task_id not in wanted.attached:
            ports = [(protocol, p.published_port) for protocol, p in published.host_ports(assignment.task)]
            refuse_allocated(assignment.task, ports, wanted.own.local)
            refuse_busy(assignment.task, await thread.run(self._kernel.busy_port, ports))
        task_legs = legs.legs(wanted.state, assignment.task)
        refuse_without_ipv6(task_legs, await self._underlay())
        gateway_address = wanted.attached.get(task_id, "")
        if legs.needs_gateway(task_legs) and not gateway_address and not wanted.is_single(task_id):
            gateway_address = self.next_gateway_address()
        wanted.attach(task_id, assignment, gateway_address)
        own = names.task_namespace(task_id)
        scope = [names.HOST, *(names.network_namespace(leg.network.id) for leg in task_legs), own]
        failed: dict[str, Exception] = {}
        for _ in range(2):  # what failed is read afresh: somebody may have taken away what the task needs
            view = await self._plan()
            if not (failed := await thread.run(self._kernel.move, view, scope)):
                break
        for name, error in failed.items():
            _log.warning(
                "attaching %s: namespace %s: %s", task_id, name or "of the host", described_with_step(error)
            )
        try:
            refuse_failed(failed, own, task_legs)
            await self._forgetting.ports(wanted.known(), dict(wanted.attached))
            await self._forget_datagrams()
            await self._resolvers.open(thread, task_id)
        except errors.ShoalError:
            try:
                await self.detach(task_id)
            except errors.ShoalError as error:  # the first cause is the one to tell
                _log.error("%s", error)
            raise
        return Sandbox(
            task_id, str(thread.namespaces.path(own)),
            tuple(a for leg in task_legs for a in leg.addresses), gateway_address,
        )  # fmt: skip

    # ---- single containers, and the bridges that are this node's own

    def wire(self, local: Local) -> None:
        """What there is of them from now on; the kernel is asked by those below, or by start()."""
        self._wanted.wire(local)
        if self._thread is not None and not self._wanted.needs_gateway_bridge:
            self._ground.give_way(self._wanted.own.subnets())

    async def attach_local(self, container_id: str) -> Sandbox:
        """A namespace as wire() has said for a single container; without overlays it needs no swarm."""
        self._running()
        self._wanted.own.present.add(container_id)
        try:
            return await self.attach(container_id)
        except errors.ShoalError:
            self._wanted.own.present.discard(container_id)
            raise

    async def rewire(
        self, container_id: str, unplugged: str = "", way_out: tuple[str, str] = ("", "")
    ) -> None:
        """wire() has changed a container that has a namespace: an interface is to go, a (gateway, interface) to lead out."""
        thread = self._running()
        own = names.task_namespace(container_id)
        if unplugged:
            await thread.run(self._kernel.unplug, own, unplugged)
        await self._move_all(own, f"could not change the networks of container {container_id[:12]}")
        if all(way_out):
            try:
                await thread.run(self._kernel.lead_out, own, *way_out)
            except KernelError as error:
                raise errors.Internal(f"could not set the default route: {describe(error)}") from error

    async def bridge(self) -> None:
        """wire() has changed the bridges."""
        await self._move_all("", "could not change the bridges of this node")

    @property
    def speaks_ipv6(self) -> bool:
        """Whether this machine's kernel has IPv6."""
        return self._kernel.reader.has_ipv6

    async def is_foreign(self, interface: str) -> bool:
        """Whether this machine has an interface of that name which isn't a bridge of ours."""
        return await self._running().run(self._kernel.reader.is_foreign, interface)

    async def busy(self, address: str, protocol: str, port: int) -> bool:
        """Whether a process of this machine listens there, or a task or the mesh has the port."""
        held = published.published_ports(self._wanted.state, self._wanted.attached)
        if (protocol, port) in held:
            return True
        return await self._running().run(self._kernel.busy_port, [(protocol, port)], address) is not None

    async def _move_all(self, own: str, what: str) -> None:
        failed = await self._move(own)
        await self._forget_datagrams()
        if failed:
            raise errors.Internal(f"{what}: {first_failure(failed)}")

    async def _move(self, own: str) -> dict[str, Exception]:
        """Moves the host, all sandboxes and the namespace `own`, if any, to the newest plan; what failed, by namespace.

        Here as everywhere nothing is awaited between a plan and its move: a plan without a container that is being attached
        meanwhile, moved to after that one's own, would take its interfaces away again.
        """
        thread = self._running()
        sandboxes = await thread.run(self._kernel.sandboxes)
        view = await self._plan()
        scope = {names.HOST, *sandboxes, *([own] if own else [])}
        scope |= {name for name in view if names.is_sandbox(name)}
        return await thread.run(self._kernel.move, view, scope)

    async def _forget_datagrams(self) -> None:
        """Clients that have sent to a UDP port before it led to a container are taken up."""
        if new := self._wanted.own.new_datagram_ports():
            await self._forgetting.early(new)

    async def detach(self, task_id: str) -> None:
        """Removes a task's namespace, after its container is gone; also flushes what conntrack knows of it."""
        self._running()
        addresses = self._wanted.detach(task_id)
        self._resolvers.close(task_id)
        failed = await self._move(names.task_namespace(task_id))
        for address in addresses:
            await self._forgetting.task(address)
        own = {name: why for name, why in failed.items() if not names.is_sandbox(name)}
        if failed:
            self._loop.wake()  # other networks are tried again
        if own:
            raise errors.Internal(f"could not remove the network of task {task_id}: {first_failure(own)}")

    async def teardown(self) -> None:
        """Removes everything of the swarm's from the kernel: the node has left it. Single containers stay."""
        thread = self._running()
        self._wanted.leave()
        self._resolvers.close_all_but(self._wanted.own.present)
        self._ground.forget()
        everything = [names.HOST, *await thread.run(thread.namespaces.existing)]
        await thread.run(self._kernel.forget, everything)
        failed = await thread.run(self._kernel.move, await self._plan(), everything)
        await self._forgetting.clear()
        if not self._wanted.attached:
            await thread.run(thread.namespaces.remove_folder)
        if failed:
            raise errors.Internal(f"could not remove all networks: {first_failure(failed)}")

    # ---- the plan

    async def _plan(self) -> KernelView:
        """What the kernel should be; nothing where the node isn't in a swarm and has neither container nor bridge."""
        return {} if self._wanted.idle else self._wanted.view(await self._underlay())

    async def _underlay(self) -> Underlay:
        return await self._ground.underlay(self._wanted.vtep)

    # ---- the loop

    async def _look(self) -> Mapping[str, str]:
        return await self._running().run(self._kernel.look)

    def _repair(self) -> None:
        self._drifted = True
        self._loop.wake()

    async def _bring(self, afresh: bool, asked: bool) -> Outcome:
        """A pass, and what it failed of as a whole."""
        try:
            problem = await self._pass(afresh, asked)
        except Exception as error:  # noqa: BLE001 - a fault of one pass must not be the last
            still_wanted()
            problem = self._report.broke(error)
        return Outcome(problem, again=bool(self._report.failing))

    async def _pass(self, afresh: bool, asked: bool) -> str:
        """One move of everything to the newest plan; returns what went wrong, in words."""
        if self._wanted.idle:
            self._report.passed({}, 0, ())
            return ""
        thread = self._running()
        if afresh:
            self._ground.forget()
            if self._ground.lacks:
                await self._ground.look_for_seals()
        before = self._kernel.changes
        failed: dict[str, Exception] = {}
        standing = await thread.run(thread.namespaces.existing)
        view = await self._plan()
        sandboxes = {name for name in (*view, *standing) if names.is_sandbox(name)}
        strays = {name for name in standing if self._wanted.is_stray(name)}
        first = [names.HOST, *sorted(sandboxes | strays)]
        rest = self._wanted.namespaces()
        due: set[str] = set()
        if afresh:
            turn, self._read_last = next_turn(rest, self._read_last)
            due.update(first, turn)
        slices = [first, *(rest[n : n + SLICE] for n in range(0, len(rest), SLICE))]
        for scope in slices:
            if due:
                await thread.run(self._kernel.forget, [n for n in scope if n in due])
            view = await self._plan()  # anew each time, and nothing awaited after it: see _move
            here = [n for n in scope if n in view or names.is_sandbox(n) or self._wanted.is_stray(n)]
            failed |= await thread.run(self._kernel.move, view, here)
        await self._forgetting.look(self._wanted.known(), dict(self._wanted.attached))
        repaired = not asked and (afresh or self._drifted)
        self._drifted = False
        changes = self._kernel.changes - before if repaired else 0
        self._report.passed(failed, changes, tuple(self._kernel.latest))
        # What is left of a task that was here is tried again, but nobody has to wait for that.
        failed = {name: why for name, why in failed.items() if not self._wanted.is_stray(name)}
        return f"could not set up networks: {first_failure(failed)}" if failed else ""

    # ---- small things

    def _running(self) -> NetThread:
        if self._thread is None:
            raise errors.Unavailable("the network is not started")
        return self._thread
