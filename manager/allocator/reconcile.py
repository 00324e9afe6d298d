"""The allocator: which objects a change concerns, and what they are given. Pure apart from its agenda.

The one transition it owns: task NEW -> PENDING (and the numbers of networks, nodes and services on the way). What
cannot be given shows in the object's error and is tried again when something may have become free. Used by loop.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from common import model
from common.model import TaskState
from manager import lifecycle
from manager.agenda import Agenda
from manager.allocator import allocate
from manager.allocator.addresses import REST, Pools, held_by
from manager.allocator.allocate import ORCHESTRATOR, Pass
from manager.membership import Membership
from manager.plan import Change, Plan
from manager.store.view import ReadView

TOGETHER: Final = 2 * lifecycle.SECOND
"""Addresses that have rested are freed in one write when they fall due within so long."""


class Acknowledged(Protocol):
    """What the agents have acknowledged."""

    def index(self, node_id: str) -> int:
        """The last acknowledged index of a node."""


class Allocator:
    """Gives networks, nodes, services and tasks their numbers."""

    name = "allocator"

    def __init__(self, acks: Acknowledged) -> None:
        self._acks = acks
        self._members = Membership()
        self._networks, self._nodes, self._services, self._tasks = Agenda(), Agenda(), Agenda(), Agenda()
        self._left: dict[tuple[str, str], None] = {}  # (network, address) of objects that are gone
        self._waiting: dict[str, None] = {}  # tasks NEW
        self._unacknowledged: dict[
            str, None
        ] = {}  # networks with addresses that only lack an acknowledgement

    def _agendas(self) -> tuple[Agenda, ...]:
        return self._networks, self._nodes, self._services, self._tasks

    def reset(self, view: ReadView) -> None:
        self._members.reset(view)
        self._waiting.clear()
        self._left.clear()
        self._unacknowledged.clear()
        for agenda in self._agendas():
            agenda.clear()
        self._networks.mark_all(n.id for n in view.networks.all())
        self._nodes.mark_all(n.id for n in view.nodes.all())
        self._services.mark_all(s.id for s in view.services.all())
        for task in view.tasks.all():
            self._follow(task)

    def observe(self, change: Change, view: ReadView) -> None:
        self._members.apply(change)
        subject = change.subject
        if change.new is None:
            self._left.update(dict.fromkeys(held_by(subject)))
        if isinstance(subject, model.Task):
            if change.new is None or lifecycle.ended(subject):
                self._networks.mark_all(a.network_id for a in subject.networks if _going(view, a.network_id))
            if change.new is None:
                self._waiting.pop(subject.id, None)
                self._services.mark(subject.service_id)
            else:
                self._follow(subject)
                service = view.services.get(subject.service_id) if lifecycle.ended(subject) else None
                if service is not None and allocate.outlives(service, subject):
                    self._services.mark(service.id)
        elif isinstance(subject, model.Service):
            self._services.mark(subject.id)
            self._tasks.mark_all(self._waiting)
            if change.new is None:
                self._services.mark_all(s.id for s in view.services.all() if s.error)
        elif isinstance(subject, model.Network):
            self._observe_network(change, subject, view)
        elif isinstance(subject, model.Node):
            self._observe_node(change, subject, view)
        elif isinstance(subject, model.Cluster):
            self._networks.mark_all(n.id for n in view.networks.all() if n.error)

    def _observe_network(self, change: Change, subject: model.Network, view: ReadView) -> None:
        self._networks.mark(subject.id)
        self._tasks.mark_all(self._waiting)
        old = change.old
        if change.new is None:
            self._networks.mark_all(n.id for n in view.networks.all() if n.error)
        if not isinstance(old, model.Network) or change.new is None or old.vni != subject.vni:
            self._services.mark_all(s.id for s in view.services.all())
            if subject.spec.ingress:
                self._nodes.mark_all(n.id for n in view.nodes.all())
        else:
            self._services.mark_all(s.id for s in view.services.all() if s.error)

    def _observe_node(self, change: Change, subject: model.Node, view: ReadView) -> None:
        old = change.old
        if change.new is not None and (not subject.number or not isinstance(old, model.Node)):
            self._nodes.mark(subject.id)
        if change.new is None or (isinstance(old, model.Node) and old.status.state != subject.status.state):
            self._networks.mark_all(self._unacknowledged)
            self._networks.mark_all(n.id for n in view.networks.all() if n.pending_delete)

    def _follow(self, task: model.Task) -> None:
        if lifecycle.ended(task):
            self._waiting.pop(task.id, None)
            if any(a.addresses for a in task.networks):
                self._tasks.mark(task.id)
        elif task.status.state == TaskState.TASK_NEW:
            if task.id not in self._waiting:
                self._tasks.mark(task.id)
            self._waiting[task.id] = None
        else:
            self._waiting.pop(task.id, None)

    def acknowledged(self, node_id: str) -> None:
        """A node has acknowledged something: resting addresses may be free now."""
        self._networks.mark_all(self._unacknowledged)

    def pending(self, now: int) -> bool:
        return bool(self._left) or any(agenda.pending(now) for agenda in self._agendas())

    def deadline(self) -> int | None:
        return min((d for a in self._agendas() if (d := a.next()) is not None), default=None)

    def reconcile(self, view: ReadView, now: int) -> Plan:
        plan = Plan()
        this = Pass(view, plan, now, Pools(view, plan))
        for network_id in self._networks.take(now):
            if (network := view.networks.get(network_id)) is not None:
                self._network(this, network)
            else:
                self._unacknowledged.pop(network_id, None)
        for network_id, address in self._left:
            if (pool := this.pools.get(network_id)) is not None:
                this.pools.release(pool, address, now)
        self._left.clear()
        for node_id in self._nodes.take(now):
            if (node := view.nodes.get(node_id)) is not None:
                self._node(this, node)
        for service_id in self._services.take(now):
            if (service := view.services.get(service_id)) is not None:
                self._service(this, service)
        self._all_tasks(this)
        this.pools.finish()
        return plan

    def _network(self, this: Pass, network: model.Network) -> None:
        if network.pending_delete:
            self._depart(this, network)
            return
        error = this.attempt(lambda: allocate.network(this, network))
        if error is not None:
            if network.error != str(error):
                this.plan.put(replace(network, error=str(error)))
                this.plan.say(f"parked network {network.spec.name}: {error}")
            return
        network = this.network(network.id) or network
        self._free_rested(this, network)

    def _depart(self, this: Pass, network: model.Network) -> None:
        """A network that a user has removed goes when the last task in it has ended, or is on a node that is Down."""
        tasks = (this.view.tasks.get(task_id) for task_id in self._members.tasks(network.id))
        if any(task and not lifecycle.down(this.view.nodes.get(task.node_id)) for task in tasks):
            return
        this.plan.remove(network)
        this.plan.say(f"removed network {network.spec.name}: none of its tasks is left")
        self._unacknowledged.pop(network.id, None)

    def _free_rested(self, this: Pass, network: model.Network) -> None:
        """Frees addresses that have rested long enough and whose release every node has acknowledged."""
        self._unacknowledged.pop(network.id, None)
        kept: list[model.AddressHold] = []
        for hold in network.held:
            if not lifecycle.due(hold.until, this.now, REST):
                self._networks.at(network.id, hold.until + TOGETHER)
            elif self._acknowledged_by_all(this.view, network.id, hold.index):
                continue
            else:
                self._unacknowledged[network.id] = None
            kept.append(hold)
        if len(kept) < len(network.held):
            this.plan.put(replace(network, held=tuple(kept)))

    def _acknowledged_by_all(self, view: ReadView, network_id: str, index: int) -> bool:
        return all(
            self._acks.index(node_id) >= index or lifecycle.down(view.nodes.get(node_id))
            for node_id in self._members.nodes(network_id)
        )

    def _node(self, this: Pass, node: model.Node) -> None:
        error = this.attempt(lambda: allocate.node(this, node))
        if error is not None:
            this.plan.say(f"node {lifecycle.hostname(node, node.id)} has no ingress address: {error}")
            self._nodes.at(node.id, this.now + REST)

    def _service(self, this: Pass, service: model.Service) -> None:
        if this.plan.full:
            self._services.mark(service.id)
            return
        error = this.attempt(lambda: allocate.service(this, service))
        if error is not None and service.error != str(error) and not service.error.startswith(ORCHESTRATOR):
            this.plan.put(replace(service, error=str(error)))
            this.plan.say(f"parked service {service.spec.name}: {error}")

    def _all_tasks(self, this: Pass) -> None:
        made, released, parked = 0, 0, set()
        marked = (this.view.tasks.get(task_id) for task_id in self._tasks.take(this.now))
        # The ended first: a new one may ask for an address that one of them has.
        for task in sorted(filter(None, marked), key=lambda task: not lifecycle.ended(task)):
            if this.plan.full:
                self._tasks.mark(task.id)
            elif lifecycle.ended(task):
                released += allocate.release(this, task)
            elif task.status.state == TaskState.TASK_NEW and lifecycle.wanted(task):
                before = len(this.plan.changes)
                error = this.attempt(_allocation(this, task))
                if error is not None:
                    parked.add(str(error))
                    _park(this, task, str(error))
                else:
                    made += len(this.plan.changes) - before
        if made:
            this.plan.say(f"{made} tasks have what they need")
        if released:
            this.plan.say(f"{released} addresses of ended tasks rest for 60 s")
        for text in sorted(parked):
            this.plan.say(f"tasks wait: {text}")


def _going(view: ReadView, network_id: str) -> bool:
    """Whether a network only waits for its last tasks."""
    network = view.networks.get(network_id)
    return network is not None and network.pending_delete


def _allocation(this: Pass, task: model.Task) -> Callable[[], None]:
    return lambda: allocate.task(this, task)


def _park(this: Pass, task: model.Task, text: str) -> None:
    if task.status.err != text:
        this.plan.put(replace(task, status=replace(task.status, err=text, timestamp=this.now)))
