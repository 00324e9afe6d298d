"""The allocator on a store without a log, and things to put into it. For tests."""

from __future__ import annotations

from dataclasses import replace

from common import model
from common.model import EndpointMode, TaskState
from manager import lifecycle
from manager.allocator.reconcile import Allocator
from manager.dispatcher.acks import Acks
from manager.lifecycle import SECOND
from manager.plan import Plan
from manager.store.store import Change, ChangeKind
from manager.store.tables import MemoryRows, View, memory
from manager.store.view import THIS_INDEX

NOW = 1_000_000 * SECOND


class Bench:
    """A store without a log, and the allocator on it."""

    def __init__(self) -> None:
        self.view = View(memory())
        self.acks = Acks()
        self.allocator = Allocator(self.acks)
        self.now = NOW
        self.allocator.reset(self.view)

    def write(self, thing: model.Cluster | model.Node | model.Service | model.Task | model.Network) -> None:
        self.view.index += 1
        index = self.view.index
        if isinstance(thing, model.Network):
            held = tuple(replace(h, index=index) if h.index == THIS_INDEX else h for h in thing.held)
            thing = replace(thing, held=held)
        thing = replace(thing, version=index)
        rows: MemoryRows[object] = self.view.rows[type(thing)]
        old = rows.put(thing)
        kind = ChangeKind.CREATE if old is None else ChangeKind.UPDATE
        self.allocator.observe(Change(kind, old, thing), self.view)  # type: ignore[arg-type]

    def remove(self, thing: model.Node | model.Service | model.Task | model.Network) -> None:
        self.view.index += 1
        old = self.view.rows[type(thing)].remove(thing.id)
        self.allocator.observe(Change(ChangeKind.REMOVE, old, None), self.view)

    def settle(self) -> list[Plan]:
        plans = []
        for _ in range(50):
            if not self.allocator.pending(self.now):
                return plans
            plan = self.allocator.reconcile(self.view, self.now)
            plans.append(plan)
            for key, thing in plan.changes.items():
                if thing is None:
                    self.remove(plan.originals[key])
                else:
                    self.write(thing)
        raise AssertionError("the allocator never comes to rest")


def network(name: str, *subnets: str, **spec: object) -> model.Network:
    ipam = model.IPAMOptions(configs=tuple(model.IPAMConfig(subnet=s) for s in subnets)) if subnets else None
    return model.Network(id=name, spec=model.NetworkSpec(name=name, ipam=ipam, **spec))  # type: ignore[arg-type]


def service(name: str, *networks: str, ports: tuple[model.PortConfig, ...] = ()) -> model.Service:
    attachments = tuple(model.NetworkAttachmentConfig(target=n, aliases=(f"{name}-alias",)) for n in networks)
    endpoint = model.EndpointSpec(mode=EndpointMode.VIP, ports=ports)
    spec = model.ServiceSpec(name=name, task=model.TaskSpec(networks=attachments), endpoint=endpoint)
    return model.Service(id=name, spec=spec, spec_version=1)


def task(name: str, of: model.Service) -> model.Task:
    status = model.TaskStatus(state=TaskState.TASK_NEW, message="created")
    return model.Task(
        id=name, service_id=of.id, spec=of.spec.task, spec_version=1, status=status,
        desired_state=TaskState.TASK_RUNNING, ports=lifecycle.spec_ports(of.spec),
    )  # fmt: skip


def start() -> Bench:
    bench = Bench()
    bench.write(model.Cluster(id="c"))
    bench.write(network("ingress", ingress=True))
    bench.write(network("web"))
    bench.settle()
    return bench
