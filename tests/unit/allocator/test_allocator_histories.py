"""The allocator over long random histories: no address is given twice, and each rests before it is given again."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from dataclasses import replace

from allocator_bench import Bench, network, service, task
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from common import model
from common.model import NodeState, TaskState
from manager import lifecycle
from manager.allocator.reconcile import Allocator
from manager.lifecycle import SECOND


class Histories(RuleBasedStateMachine):
    """Services and tasks come and go in a network of few addresses; nodes acknowledge when they like."""

    subnets: tuple[str, ...] = ("10.9.0.0/28",)
    never: tuple[str, ...] = ("10.9.0.1", "10.9.0.0", "10.9.0.15")

    @initialize()
    def begin(self) -> None:
        self.bench = Bench()
        self.made = 0
        self.acked = dict.fromkeys(("a", "b"), -1)
        self.bench.write(model.Cluster(id="c"))
        self.bench.write(network("small", *self.subnets, ipv6_enabled=len(self.subnets) > 1))
        for name in ("a", "b"):
            self.bench.write(model.Node(id=name, status=model.NodeStatus(state=NodeState.NODE_READY)))
        self.resting: dict[str, tuple[int, int]] = {}

    def step(self) -> None:
        before = {h.addr for h in self.bench.view.networks.get("small").held}
        self.bench.settle()
        for hold in self.bench.view.networks.get("small").held:
            if hold.addr not in before:
                self.resting[hold.addr] = (hold.index, self.bench.now)

    @rule()
    def new_service(self) -> None:
        self.made += 1
        self.bench.write(service(f"s{self.made}", "small"))
        self.step()

    @rule(count=st.integers(1, 4), pick=st.integers(0, 100))
    def new_tasks(self, count: int, pick: int) -> None:
        services = list(self.bench.view.services.all())
        if services:
            for _ in range(count):
                self.made += 1
                self.bench.write(task(f"t{self.made}", services[pick % len(services)]))
            self.step()

    @rule(pick=st.integers(0, 100), where=st.sampled_from("ab"))
    def assign(self, pick: int, where: str) -> None:
        waiting = [t for t in self.bench.view.tasks.all() if t.status.state == TaskState.TASK_PENDING]
        if waiting:
            chosen = waiting[pick % len(waiting)]
            status = replace(chosen.status, state=TaskState.TASK_RUNNING)
            self.bench.write(replace(chosen, node_id=where, status=status))
            self.step()

    @rule(pick=st.integers(0, 100), remove=st.booleans())
    def end_task(self, pick: int, remove: bool) -> None:
        alive = list(self.bench.view.tasks.all())
        if not alive:
            return
        chosen = alive[pick % len(alive)]
        if remove:
            self.bench.remove(chosen)
        else:
            self.bench.write(replace(chosen, status=replace(chosen.status, state=TaskState.TASK_FAILED)))
        self.step()

    @rule(pick=st.integers(0, 100))
    def end_service(self, pick: int) -> None:
        alive = list(self.bench.view.services.all())
        if alive:
            self.bench.remove(alive[pick % len(alive)])
            self.step()

    @rule(where=st.sampled_from("ab"))
    def acknowledge(self, where: str) -> None:
        self.acked[where] = self.bench.view.index
        self.bench.acks.record(where, self.bench.view.index)
        self.bench.allocator.acknowledged(where)
        self.step()

    @rule(seconds=st.integers(1, 70))
    def wait(self, seconds: int) -> None:
        self.bench.now += seconds * SECOND
        self.step()

    @rule()
    def new_leader(self) -> None:
        self.bench.allocator = Allocator(self.bench.acks)
        self.bench.allocator.reset(self.bench.view)
        self.step()

    @invariant()
    def nobody_shares_an_address(self) -> None:
        view = self.bench.view
        small = view.networks.get("small")
        used = Counter(h.addr for h in small.held)
        used.update(v.addr.partition("/")[0] for s in view.services.all() for v in s.endpoint.virtual_ips)
        used.update(a.partition("/")[0] for t in view.tasks.all() for n in t.networks for a in n.addresses)
        used.update(self.never if small.ipam else [])
        assert all(count == 1 for count in used.values()), used
        assert all(
            any(ipaddress.ip_address(a) in ipaddress.ip_network(s) for s in self.subnets) for a in used
        )

    @invariant()
    def everybody_has_one_of_each_family(self) -> None:
        view = self.bench.view
        services = [[v.addr for v in s.endpoint.virtual_ips] for s in view.services.all()]
        tasks = [list(n.addresses) for t in view.tasks.all() for n in t.networks]
        for found in services + tasks:
            assert [":" in a for a in found] in ([], [False, True][: len(self.subnets)])

    @invariant()
    def addresses_rest_long_enough(self) -> None:
        view = self.bench.view
        held = {h.addr for h in view.networks.get("small").held}
        for address, (index, since) in list(self.resting.items()):
            if address in held:
                continue
            del self.resting[address]
            assert self.bench.now - since >= 60 * SECOND
            taking_part = {
                t.node_id for t in view.tasks.all() if t.node_id and not lifecycle.ended(t) and t.networks
            }
            assert all(self.acked[n] >= index for n in taking_part)

    @invariant()
    def whoever_waits_says_why(self) -> None:
        for waiting in self.bench.view.tasks.all():
            if waiting.status.state == TaskState.TASK_NEW and self.bench.view.services.get(
                waiting.service_id
            ):
                assert re.fullmatch(r"no available IPv[46] addresses on network small", waiting.status.err)


class DualHistories(Histories):
    """The same in a network of both families, of which IPv6 is the smaller one."""

    subnets = ("10.9.0.0/24", "fd00:9::/124")
    never = ("10.9.0.0", "10.9.0.1", "10.9.0.255", "fd00:9::", "fd00:9::1", "fd00:9::f")


Histories.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHistories = Histories.TestCase
DualHistories.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestDualHistories = DualHistories.TestCase
