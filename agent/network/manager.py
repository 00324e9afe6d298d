"""The agent's network as the worker and the session see it (agent/network/api.py): asyncio in front of the one thread.

Assignments come in by apply(), containers by attach() and detach(). Each computes the plan of the newest state and
sends the namespaces concerned to the thread; a burst of changes becomes one pass, and long passes go in slices, so
that a container that is being attached never waits long. What somebody else takes away is put back when the kernel tells of it.
Every minute the host, the sandboxes and some tasks' namespaces
are read afresh and repaired, all of them in turn: what that costs doesn't grow with the number of tasks.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from agent.network import encryption, gateway, legs, names, plan, probe, published
from agent.network.api import Sandbox
from agent.network.bridges import Local
from agent.network.endpoints_file import EndpointsFile
from agent.network.facts import KernelView, shown
from agent.network.forgetting import Forgetting
from agent.network.insight import Insight
from agent.network.kernel import Kernel, KernelError, describe
from agent.network.own import Own
from agent.network.refusals import (
    first_failure,
    refuse_allocated,
    refuse_busy,
    refuse_failed,
    refuse_impossible,
    refuse_without_ipv6,
)
from agent.network.thread import NetThread
from agent.network.underlay import Underlay
from agent.network.watcher import SLICE, next_turn, watch
from agent.state import NodeState
from common import errors, model
from common.cancellation import still_wanted

_log: Final = logging.getLogger(__name__)

COALESCE: Final = 0.05  # seconds that changes are collected for
RECONCILE: Final = 60.0
RETRY: Final = 2.0  # after a pass that failed somewhere
_CONTAINER_ID: Final = 64  # digits; a task's id has fewer

DnsOpened = Callable[[str, socket.socket, socket.socket], None]
DnsClosed = Callable[[str], None]


class KernelNetwork:
    """Implements api.Network. `folder` lies on a file system that a reboot empties, /run/shoal by default."""

    def __init__(
        self,
        folder: Path,
        dns_opened: DnsOpened,
        dns_closed: DnsClosed,
        have_dns: Collection[str] = (),
        reconcile_every: float = RECONCILE,
    ) -> None:
        self._folder = folder
        self._dns_opened, self._dns_closed = dns_opened, dns_closed
        self._dns: set[str] = set(have_dns)
        self._reconcile_every = reconcile_every
        self._thread: NetThread | None = None
        self._state = NodeState()
        self._remembered: dict[str, model.TaskAssignment] = {}  # of tasks that are attached
        self._attached: dict[str, str] = {}  # with the address on docker_gwbridge
        self._own = Own()  # single containers, and this node's own bridges
        self._last_gateway = ""
        self._gateway_subnet = ""
        self._routes: tuple[str, ...] = ()
        self._underlay: Underlay | None = None
        self._keys: tuple[encryption.Key, ...] = ()
        self._lacks = ""
        self._routes_by_mark = True
        self._waiting: asyncio.Future[None] | None = None
        self._served: asyncio.Future[None] | None = None
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._drifted = False
        self._failing: dict[str, str] = {}
        self._read_last = ""  # of tasks' namespaces, when reconciling

    # ---- life

    async def start(self) -> None:
        """Opens what it needs and adopts what an earlier process left in the kernel."""
        folder = self._folder / "netns"
        self._thread = await asyncio.to_thread(NetThread, folder)
        await self._thread.run(self._thread.namespaces.clean)
        self._kernel = await self._thread.run(Kernel, self._thread.namespaces)
        if missing := await self._thread.run(probe.missing, self._thread.namespaces):
            self._routes_by_mark = False
            _log.warning(
                "the mesh masquerades what it sends to this node: no way back by marks (%s)", missing
            )
        file = EndpointsFile(self._folder / "endpoints.json")
        self._forgetting = Forgetting(self._thread, self._kernel, file)
        reader = self._kernel.reader
        standing = await self._thread.run(reader.gateway_subnet)
        routes = await self._thread.run(reader.host_routes)
        chosen = standing or gateway.choose_subnet((*routes, *self._own.subnets()))
        if chosen is None:
            raise errors.FailedPrecondition(
                "no free subnet for docker_gwbridge: all pools overlap routes of this machine"
            )
        self._gateway_subnet = chosen
        self._routes = routes
        subnet = ipaddress.IPv4Network(chosen)
        for task, addresses in (await self._thread.run(self._kernel.tasks)).items():
            self._attached[task] = next((a for a in addresses if ipaddress.IPv4Address(a) in subnet), "")
            if len(task) == _CONTAINER_ID:
                self._own.present.add(task)
                self._attached[task] = ""
        self._last_gateway = max(
            (a for a in self._attached.values() if a), key=ipaddress.IPv4Address, default=""
        )
        await self._look_for_seals()
        await self._forgetting.load()
        if self._attached:
            _log.info("adopted the namespaces of %d tasks", len(self._attached))
        for task in sorted(self._attached):
            await self._open_dns(task)
        self._worker = asyncio.create_task(self._work(), name="network")
        self._worker.add_done_callback(self._ended)
        self._watcher = asyncio.create_task(
            watch(self._kernel.watch.descriptors, self._look, self._repair), name="network watch"
        )
        self._watcher.add_done_callback(self._ended)

    async def close(self) -> None:
        """Lets go of sockets and threads; the kernel's state stays as it is."""
        loops = [loop for loop in (self._worker, self._watcher) if loop is not None]
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        self._worker = self._watcher = None
        if self._thread is not None:
            thread, self._thread = self._thread, None
            await thread.run(self._kernel.watch.close)
            await asyncio.to_thread(thread.close)

    def _ended(self, worker: asyncio.Task[None]) -> None:
        """The loops end by close() only; should one fail, whoever waits for it is told, and the next apply() too."""
        for waiting in (self._waiting, self._served) if worker is self._worker else ():
            self._answer(waiting, "the network's loop has ended")
        if not worker.cancelled() and (error := worker.exception()) is not None:
            _log.critical("the network's loop failed: %r", error)

    # ---- questions

    @property
    def attached(self) -> frozenset[str]:
        """Tasks that have a namespace; a worker compares them with its containers."""
        return frozenset(self._attached.keys() - self._own.present)

    @property
    def local(self) -> frozenset[str]:
        """Single containers with a namespace."""
        return frozenset(self._own.present)

    @property
    def routes_by_mark(self) -> bool:
        """Whether tasks here can answer the mesh's clients through the node that took their connection."""
        return self._routes_by_mark

    def gateway_addresses(self) -> Mapping[str, str]:
        """The addresses on docker_gwbridge, by task; what is there for people to look at."""
        of_tasks = {task_id: address for task_id, address in self._attached.items() if address}
        return {**of_tasks, **self._own.local.gateway_addresses()}

    @property
    def gateway_subnet(self) -> str:
        """docker_gwbridge's; empty where nobody needs one yet: it gives way to others then."""
        return self._gateway_subnet if self._gateway_used() else ""

    def _gateway_used(self) -> bool:
        return bool(self._state.node_id or self._own.local.gateway_addresses())

    def next_gateway_address(self) -> str:
        """One on docker_gwbridge that nobody has; for a single container, which names it in wire()."""
        return self._gateway_address()

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
        return self._lacks

    def insight(self) -> Insight:
        """For whoever looks for a fault."""
        return Insight(
            self._running(), self._kernel, self._known, self._plan, self._find_underlay, lambda: self._failing
        )

    # ---- commands

    def use_keys(self, keys: Iterable[model.EncryptionKey]) -> None:
        """The swarm's keys are these: what is encrypted follows."""
        found = encryption.ring(keys)
        if found != self._keys:
            self._keys = found
            if self._state.node_id:  # before the first apply() nothing is planned
                self._wake.set()

    async def apply(self, state: NodeState) -> None:
        """Returns when the kernel stands as `state` says; raises errors.Internal naming what couldn't be done."""
        self._running()
        for task in self._attached:
            if task in state.tasks:
                self._remembered[task] = state.tasks[task]
        self._state = state
        self._own.remember(state.tasks)
        if not state.node_id:
            return
        if self._worker is None or self._worker.done():
            raise errors.Internal("the network's loop has ended")
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
        waiting = self._waiting
        self._wake.set()
        await asyncio.shield(waiting)

    async def reconcile(self) -> None:
        """Reads everything afresh and repairs it now, as the loop does by itself every minute."""
        self._underlay = None
        everything = [names.HOST, *await self._running().run(self._running().namespaces.existing)]
        await self._running().run(self._kernel.forget, everything)
        await self.apply(self._state)

    async def attach(self, task_id: str) -> Sandbox:
        """Makes the namespace and legs of a task of the applied state; raises errors.ShoalError with the cause."""
        thread = self._running()
        assignment = self._own.assignment(task_id) or self._state.tasks.get(task_id)
        if assignment is None:
            raise errors.NotFound(f"task {task_id} not found")
        refuse_impossible(self._state, assignment.task, self._lacks)
        ports = [(protocol, port.published_port) for protocol, port in published.host_ports(assignment.task)]
        if task_id not in self._attached:
            refuse_allocated(assignment.task, ports, self._own.local)
            refuse_busy(assignment.task, await thread.run(self._kernel.busy_port, ports))
        task_legs = legs.legs(self._state, assignment.task)
        refuse_without_ipv6(task_legs, await self._find_underlay())
        single = task_id in self._own.present
        if legs.needs_gateway(task_legs) and not self._attached.get(task_id) and not single:
            self._attached[task_id] = self._gateway_address()
        self._attached.setdefault(task_id, "")
        if not single:
            self._remembered[task_id] = assignment
        view = await self._plan()
        sandboxes = [names.network_namespace(leg.network.id) for leg in task_legs]
        own = names.task_namespace(task_id)
        failed = await thread.run(self._kernel.move, view, [names.HOST, *sandboxes, own])
        try:
            refuse_failed(failed, own, task_legs)
            await self._forgetting.ports(self._known(), dict(self._attached))
            await self._forget_datagrams()
            await self._open_dns(task_id)
        except errors.ShoalError:
            try:
                await self.detach(task_id)
            except errors.ShoalError as error:  # the first cause is the one to tell
                _log.error("%s", error)
            raise
        return Sandbox(
            task_id, str(thread.namespaces.path(own)),
            tuple(a for leg in task_legs for a in leg.addresses), self._attached[task_id],
        )  # fmt: skip

    # ---- single containers, and the bridges that are this node's own

    def wire(self, local: Local) -> None:
        """What there is of them from now on; the kernel is asked by those below, or by start()."""
        self._own.tell(local, self._state.tasks)
        if self._thread is not None and not self._gateway_used():
            chosen = gateway.choose_subnet((*self._routes, *self._own.subnets()))
            self._gateway_subnet, self._underlay = chosen or self._gateway_subnet, None

    async def attach_local(self, container_id: str) -> Sandbox:
        """A namespace as wire() has said for a single container; without overlays it needs no swarm."""
        self._running()
        self._own.present.add(container_id)
        try:
            return await self.attach(container_id)
        except errors.ShoalError:
            self._own.present.discard(container_id)
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

    async def is_foreign(self, interface: str) -> bool:
        """Whether this machine has an interface of that name which isn't a bridge of ours."""
        return await self._running().run(self._kernel.reader.is_foreign, interface)

    async def busy(self, address: str, protocol: str, port: int) -> bool:
        """Whether a process of this machine listens there, or a task or the mesh has the port."""
        held = published.published_ports(self._state, self._attached)
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
        if new := self._own.new_datagram_ports():
            await self._running().run(self._kernel.forget_datagrams, [(port, 0) for port in new])

    async def detach(self, task_id: str) -> None:
        """Removes a task's namespace, after its container is gone; also flushes what conntrack knows of it."""
        self._running()
        wired = self._own.wired(task_id)
        self._own.present.discard(task_id)
        addresses = [self._attached.pop(task_id, ""), *(leg.address for leg in wired.bridges)]
        self._remembered.pop(task_id, None)
        if task_id in self._dns:
            self._dns.discard(task_id)
            self._dns_closed(task_id)
        failed = await self._move(names.task_namespace(task_id))
        for address in filter(None, addresses):
            await self._forgetting.task(address)
        own = {name: why for name, why in failed.items() if not names.is_sandbox(name)}
        if failed:
            self._wake.set()  # other networks are tried again
        if own:
            raise errors.Internal(f"could not remove the network of task {task_id}: {first_failure(own)}")

    async def teardown(self) -> None:
        """Removes everything of the swarm's from the kernel: the node has left it. Single containers stay."""
        thread = self._running()
        self._state = NodeState()
        for task in sorted(self._dns - self._own.present):
            self._dns_closed(task)
        self._dns &= self._own.present
        self._attached = {
            task: address for task, address in self._attached.items() if task in self._own.present
        }
        self._remembered.clear()
        self._own.forget_places()
        self._underlay = None
        everything = [names.HOST, *await thread.run(thread.namespaces.existing)]
        await thread.run(self._kernel.forget, everything)
        failed = await thread.run(self._kernel.move, await self._plan(), everything)
        await self._forgetting.clear()
        if not self._attached:
            await thread.run(thread.namespaces.remove_folder)
        if failed:
            raise errors.Internal(f"could not remove all networks: {first_failure(failed)}")

    # ---- the plan

    def _known(self) -> NodeState:
        """The state, with single containers, and tasks that the managers have dropped but whose containers are here."""
        gone = {task: a for task, a in self._remembered.items() if task not in self._state.tasks}
        singles = self._own.assignments()
        if not gone and not singles:
            return self._state
        return replace(self._state, tasks={**singles, **self._state.tasks, **gone})

    async def _plan(self) -> KernelView:
        """What the kernel should be; nothing where the node isn't in a swarm and has neither container nor bridge."""
        if self._idle():
            return {}
        underlay = await self._find_underlay()
        view = plan.desired(self._known(), dict(self._attached), underlay)
        return self._own.laid_over(view, self._state, underlay)

    def _idle(self) -> bool:
        return not self._state.node_id and self._own.idle()

    async def _find_underlay(self) -> Underlay:
        """The machine's side of the tunnels: the address that managers know this node's VTEP by."""
        me = self._state.nodes.get(self._state.node_id)
        address = me.vtep if me is not None else ""
        if self._underlay is None or self._underlay.address != address:
            found = await self._running().run(self._kernel.reader.interface_of, address) if address else None
            if found is None and address:
                _log.warning("no interface has the data path's address %s; assuming an MTU of 1500", address)
            interface, mtu = found or ("", 1500)
            ipv6 = self._kernel.reader.has_ipv6
            self._underlay = Underlay(address, mtu, interface, self._gateway_subnet, ipv6)
        return replace(self._underlay, seals=not self._lacks, keys=self._keys)

    async def _look_for_seals(self) -> None:
        """A module that is missing may be installed later."""
        before = self._lacks
        try:
            self._lacks = await self._running().run(self._kernel.missing_for_seals)
        except OSError as error:  # whatever forbids it, all else goes on
            self._lacks = f"xfrm_user ({describe(error)})"
        if self._lacks and self._lacks != before:
            _log.info("this node takes no part in encrypted networks: no module %s", self._lacks)

    def _gateway_address(self) -> str:
        used = {*self._attached.values(), *self._own.local.gateway_addresses().values()}
        found = gateway.next_address(self._gateway_subnet, used, self._last_gateway)
        if found is None:
            raise errors.Internal(f"no address left in docker_gwbridge's subnet {self._gateway_subnet}")
        self._last_gateway = found
        return found

    # ---- the loop

    async def _look(self) -> Mapping[str, str]:
        return await self._running().run(self._kernel.look)

    def _repair(self) -> None:
        self._drifted = True
        self._wake.set()

    async def _work(self) -> None:
        """Carries out what apply() asks for, and reconciles when nobody has asked for long."""
        loop = asyncio.get_running_loop()
        last = 0.0
        due = loop.time() + self._reconcile_every
        while True:
            timeout = RETRY if self._failing else max(0.0, due - loop.time())
            try:
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
                asked = True
            except TimeoutError:
                asked = False
            if loop.time() - last < COALESCE:
                await asyncio.sleep(COALESCE - (loop.time() - last))
            self._wake.clear()
            self._served, self._waiting = self._waiting, None
            afresh = not asked or loop.time() >= due
            if afresh:
                due = loop.time() + self._reconcile_every
            try:
                problem = await self._pass(afresh)
            except (*KernelError, ValueError) as error:  # ValueError: assignments that make no plan
                _log.error("could not bring the kernel to the assignments: %s", describe(error))
                problem = f"could not set up networks: {describe(error)}"
                self._failing = {names.HOST: describe(error)}
            except Exception as error:  # noqa: BLE001 - a fault of one pass must not be the last
                still_wanted()
                _log.exception("bringing the kernel to the assignments failed")
                problem = f"could not set up networks: {type(error).__name__}: {error}"
                self._failing = {names.HOST: problem}
            self._answer(self._served, problem)
            last = loop.time()

    def _answer(self, waiting: asyncio.Future[None] | None, problem: str) -> None:
        """Tells those who called apply(); nobody may be waiting any more."""
        if waiting is None or waiting.done():
            return
        if problem:
            waiting.set_exception(errors.Internal(problem))
            waiting.exception()  # looked at, also when whoever asked has gone
        else:
            waiting.set_result(None)

    async def _pass(self, afresh: bool) -> str:
        """One move of everything to the newest plan; returns what went wrong, in words."""
        if self._idle():
            return ""
        thread = self._running()
        if afresh:
            self._underlay = None
            if self._lacks:
                await self._look_for_seals()
        before = self._kernel.changes
        failed: dict[str, Exception] = {}
        standing = await thread.run(thread.namespaces.existing)
        view = await self._plan()
        wanted = {name for name in view if names.is_sandbox(name)}
        first = [
            names.HOST,
            *sorted(wanted | {n for n in standing if names.is_sandbox(n) or self._is_stray(n)}),
        ]
        rest = [names.task_namespace(task) for task in sorted(self._attached)]
        due: set[str] = set()
        if afresh:
            turn, self._read_last = next_turn(rest, self._read_last)
            due.update(first, turn)
        slices = [first, *(rest[n : n + SLICE] for n in range(0, len(rest), SLICE))]
        for scope in slices:
            if due:
                await thread.run(self._kernel.forget, [n for n in scope if n in due])
            view = await self._plan()  # anew each time, and nothing awaited after it: see _move
            here = [n for n in scope if n in view or names.is_sandbox(n) or self._is_stray(n)]
            failed |= await thread.run(self._kernel.move, view, here)
        await self._forgetting.look(self._known(), dict(self._attached))
        repaired = self._served is None and (afresh or self._drifted)
        self._drifted = False
        self._report(failed, self._kernel.changes - before if repaired else 0)
        # What is left of a task that was here is tried again, but nobody has to wait for that.
        failed = {name: why for name, why in failed.items() if not self._is_stray(name)}
        return f"could not set up networks: {first_failure(failed)}" if failed else ""

    def _is_stray(self, namespace: str) -> bool:
        """A namespace of a task that isn't attached: one that could not be removed when it was to go."""
        task = names.task_of(namespace)
        return task is not None and task not in self._attached

    def _report(self, failed: Mapping[str, Exception], repaired: int) -> None:
        """Each failure once, and what a reconciliation had to repair."""
        now = {name: describe(error) for name, error in failed.items()}
        for name, cause in now.items():
            if self._failing.get(name) != cause:
                _log.error("network namespace %s: %s", name or "of the host", cause)
        if repaired and not now and not self._failing:
            latest = "; ".join(shown(change) for change in list(self._kernel.latest)[-repaired:])
            _log.warning(
                "the kernel had drifted from the plan: %d changes made, the last: %s", repaired, latest
            )
        self._failing = now

    # ---- small things

    def _running(self) -> NetThread:
        if self._thread is None:
            raise errors.Unavailable("the network is not started")
        return self._thread

    async def _open_dns(self, task_id: str) -> None:
        if task_id in self._dns:
            return
        try:
            udp, tcp = await self._running().run(self._kernel.dns_sockets, task_id)
        except OSError as error:
            raise errors.Internal(
                f"could not open the resolver of task {task_id}: {describe(error)}"
            ) from error
        self._dns.add(task_id)
        self._dns_opened(task_id, udp, tcp)
