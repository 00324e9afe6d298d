"""agent/network/manager.py in front of a kernel that does at once what it is told: order of plans, what is left over."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent.network import loop, names
from agent.network.facts import Change, Facts, KernelView, Port, Veth
from agent.network.manager import KernelNetwork
from agent.state import NodeState
from common import errors, model

T = TypeVar("T")
TASKS = tuple(f"task{n}task{n}" for n in range(6))
APP, OTHER = "appnet", "othernet"


class Kernel:
    """Namespaces as the last move has left them. `lost` grows when a container's interfaces are taken away from it."""

    has_ipv6 = True
    changes = 0
    latest: tuple[Change, ...] = ()

    def __init__(self, network: KernelNetwork) -> None:
        self.network = network
        self.reader = self
        self.standing: dict[str, Facts] = {}
        self.fails: dict[str, int] = {}  # how often a namespace's removal does
        self.fault: Exception | None = None  # raised once
        self.lost: list[str] = []

    def existing(self) -> frozenset[str]:
        return frozenset(self.standing.keys() - {names.HOST})

    def sandboxes(self) -> frozenset[str]:
        return frozenset(name for name in self.existing() if names.is_sandbox(name))

    def forget(self, scope: Iterable[str]) -> None: ...
    def forget_datagrams(self, flows: object) -> int:
        return 0

    def busy_port(self, ports: object) -> None: ...
    def interface_of(self, address: str) -> tuple[str, int]:
        return "host0", 1500

    def move(self, view: KernelView, scope: Iterable[str]) -> dict[str, Exception]:
        failed: dict[str, Exception] = {}
        if self.fault is not None:
            self.fault, fault = None, self.fault
            raise fault
        for name in scope:
            if name in view or name == names.HOST:
                self.standing[name] = view.get(name, frozenset())
            elif name in self.standing and self.fails.get(name):
                self.fails[name] -= 1
                failed[name] = OSError("busy")
            else:
                self.standing.pop(name, None)
        for task in self.network.attached:
            for facts in [self.standing.get(names.task_namespace(task), frozenset())]:
                self.lost += [
                    f"{task}: {leg.peer}" for leg in facts if isinstance(leg, Veth) and not self._has(leg)
                ]
        return failed

    def _has(self, leg: Veth) -> bool:
        """Whether a leg's other end is among its bridge's ports."""
        ports = self.standing.get(leg.peer_namespace, frozenset())
        return any(isinstance(f, Port) and f.name == leg.peer for f in ports)


class Thread:
    """Does things in the order in which they are asked for; who asked hears of it somewhat later."""

    def __init__(self, kernel: Kernel, chance: random.Random) -> None:
        self.namespaces = self
        self.existing = kernel.existing
        self._chance = chance

    def path(self, name: str) -> Path:
        return Path("/netns") / name

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        result = function(*args)
        for _ in range(self._chance.randrange(1, 6)):
            await asyncio.sleep(0)
        return result


class Forgetting:
    """Nothing is ever connected."""

    async def look(self, state: NodeState, attached: Mapping[str, str]) -> None: ...
    async def ports(self, state: NodeState, attached: Mapping[str, str]) -> None: ...
    async def task(self, gateway_address: str) -> None: ...


class Resolvers:
    """Nobody asks for names."""

    async def open(self, thread: object, task_id: str) -> None: ...
    def close(self, task_id: str) -> None: ...


def network(id: str, number: int) -> model.Network:
    return model.Network(
        id=id, vni=4096 + number, spec=model.NetworkSpec(name=id),
        ipam=model.IPAMOptions(configs=(model.IPAMConfig(subnet=f"10.0.{number}.0/24"),)),
    )  # fmt: skip


def state(tasks: Iterable[str]) -> NodeState:
    """Every task is in both networks."""
    made = {}
    for n, task in enumerate(tasks):
        legs = [model.NetworkAttachment(network_id=w, addresses=(f"10.0.{k}.{n + 10}/24",)) for k, w in enumerate((APP, OTHER))]  # fmt: skip
        made[task] = model.TaskAssignment(model.Task(id=task, name=task, networks=tuple(legs)))
    return NodeState(
        "me", tasks=made, networks={APP: network(APP, 0), OTHER: network(OTHER, 1)},
        nodes={"me": model.NodeRecord(id="me", hostname="me", vtep="192.0.2.1", number=1)},
    )  # fmt: skip


@asynccontextmanager
async def running(seed: int = 0) -> AsyncIterator[tuple[KernelNetwork, Kernel]]:
    made: Any = KernelNetwork(Path("/run/none"), lambda *_: None, lambda task: None)
    kernel = Kernel(made)
    thread = Thread(kernel, random.Random(seed))
    made._kernel, made._thread, made._forgetting, made._resolvers = kernel, thread, Forgetting(), Resolvers()
    ground = made._ground
    ground._kernel, ground._thread, ground.gateway_subnet = kernel, thread, "172.18.0.0/16"
    made._loop.start()
    try:
        yield made, kernel
    finally:
        await made._loop.close()


@pytest.mark.parametrize("seed", range(20))
async def test_whoever_comes_while_another_goes_keeps_his_interfaces(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "COALESCE", 0.0)
    chance = random.Random(seed)
    async with asyncio.timeout(30), running(seed) as (made, kernel):
        await made.apply(state(TASKS))

        async def life(task: str) -> None:
            for _ in range(3):
                await _turns(chance)
                await made.attach(task)
                await _turns(chance)
                await made.detach(task)

        async def looks() -> None:
            for _ in range(6):
                await _turns(chance)
                await made.reconcile() if chance.random() < 0.5 else await made.bridge()

        async with asyncio.TaskGroup() as group:
            for task in TASKS:
                group.create_task(life(task))
            group.create_task(looks())
        assert kernel.lost == []
        assert kernel.existing() == frozenset()


async def _turns(chance: random.Random) -> None:
    for _ in range(chance.randrange(12)):
        await asyncio.sleep(0)


async def test_what_could_not_be_removed_is_tried_again_and_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "RETRY", 0.01)
    async with asyncio.timeout(30), running() as (made, kernel):
        left = names.task_namespace(TASKS[0])
        kernel.standing[left] = frozenset()
        kernel.fails[left] = 3
        await made.apply(state(TASKS))
        assert left in kernel.standing
        while left in kernel.standing:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await made.apply(state(TASKS))


async def test_a_fault_in_one_pass_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "RETRY", 0.01)
    async with asyncio.timeout(30), running() as (made, kernel):
        kernel.fault = KeyError("a fault of ours")
        with pytest.raises(errors.Internal, match="could not set up networks: KeyError: 'a fault of ours'"):
            await made.apply(state(TASKS))
        await made.apply(state(TASKS))
        await made.attach(TASKS[0])
        assert names.task_namespace(TASKS[0]) in kernel.standing
