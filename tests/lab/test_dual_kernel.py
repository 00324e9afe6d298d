"""Networks of both families against the real kernel: three machines of namespaces, VIPs and the routing mesh by IPv6."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common import model
from tests.lab.netlab import (
    CLIENT6,
    PATIENCE,
    PORT,
    PUBLISHED,
    VIP,
    VIP6,
    Machine,
    Swarm,
    ask,
    datagram,
    dial,
    inside,
    ping,
    three_machines,
)

pytestmark = pytest.mark.lab
WITHDRAWN = model.EndpointState.ENDPOINT_WITHDRAWN


@pytest.fixture
async def swarm() -> AsyncIterator[Swarm]:
    """Five tasks over three machines, in a network of both families."""
    with tempfile.TemporaryDirectory(prefix="shoal-dual-") as folder:
        async with three_machines(Path(folder)) as (made, _):
            made.dual = True
            await made.spread_five()
            yield made


def even(answers: Counter[str]) -> bool:
    return len(answers) == 5 and all(3 <= n <= 5 for n in answers.values())


async def test_overlay_and_vip(swarm: Swarm) -> None:
    container = await swarm.client(swarm.machines[1])
    own = swarm.addresses6(swarm.name(90))[0]
    for task in swarm.placed:
        ping(container, swarm.addresses6(task)[0])
    for vip, seen in ((VIP6, own), (VIP, swarm.addresses(swarm.name(90))[0])):
        answers = [await ask(container, (vip, PORT)) for _ in range(20)]
        assert even(Counter(words[0] for words in answers))
        assert {words[1] for words in answers} == {seen}
    by_datagram = [await datagram(container, (VIP6, PORT)) for _ in range(20)]
    assert len({words[0] for words in by_datagram}) == 5
    ping(container, VIP6)
    first = min(swarm.placed)  # hairpin: a backend calls its own VIP
    assert first in {(await ask(swarm.paths[first], (VIP6, PORT)))[0] for _ in range(5)}
    assert "tentative" not in inside(container, "ip", "-6", "addr")
    assert "disable_ipv6 = 1" in inside(container, "sysctl", "net.ipv6.conf.eth1.disable_ipv6")


async def test_mesh(swarm: Swarm) -> None:
    """From outside with the client's address, by the machines' own addresses, by ::1, from one port through two machines."""
    for machine in swarm.machines:
        answers = [await ask(swarm.outside, (machine.address6, PUBLISHED)) for _ in range(20)]
        assert even(Counter(words[0] for words in answers)), machine.number
        assert {words[1] for words in answers} == {CLIENT6}, machine.number
        found = [await datagram(swarm.outside, (machine.address6, PUBLISHED)) for _ in range(10)]
        assert len({words[0] for words in found}) == 5
        assert {words[1] for words in found} == {CLIENT6}
        for target, seen in (("::1", machine.ingress6), (machine.address6, machine.address6)):
            words = [await ask(machine.path, (target, PUBLISHED)) for _ in range(10)]
            assert len({w[0] for w in words}) == 5, target
            assert {w[1] for w in words} == {seen}, target
    one, two = swarm.machines[:2]
    await swarm_of_one(swarm)
    source = (CLIENT6, 41000)
    first = await dial(swarm.outside, (one.address6, PUBLISHED), source)
    second = await dial(swarm.outside, (two.address6, PUBLISHED), source)
    for reader, writer in (first, second):
        assert (await asyncio.wait_for(reader.readline(), PATIENCE)).split()[1].decode() == CLIENT6
        writer.write(b"still here\n")
        assert await asyncio.wait_for(reader.readline(), PATIENCE) == b"still here\n"
        writer.close()


async def swarm_of_one(swarm: Swarm) -> None:
    """Only the last task is offered."""
    *others, _ = sorted(swarm.placed)
    for task in others:
        swarm.endpoints[task] = WITHDRAWN
    await swarm.send()


async def test_a_task_that_goes(swarm: Swarm) -> None:
    """Out of the balancers of both families; datagrams move on; when nobody serves, a refusal and no time-out."""
    container = await swarm.client(swarm.machines[2])
    first = (await datagram(swarm.outside, (swarm.machines[0].address6, PUBLISHED), (CLIENT6, 42000)))[0]
    await swarm.set_state(first, WITHDRAWN)
    await swarm.remove(first)
    for _ in range(10):
        words = await datagram(swarm.outside, (swarm.machines[0].address6, PUBLISHED), (CLIENT6, 42000))
        assert words[0] != first
    assert first not in {(await ask(container, (VIP6, PORT)))[0] for _ in range(10)}
    for task in swarm.placed:
        swarm.endpoints[task] = WITHDRAWN
    await swarm.send()
    for path, target in ((container, (VIP6, PORT)), (swarm.outside, (swarm.machines[0].address6, PUBLISHED))):
        async with asyncio.timeout(30):
            while not await refused(path, target):  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def refused(path: Path, target: tuple[str, int]) -> bool:
    """Not just unreachable, which a connection that began before the change may be told."""
    try:
        _, writer = await dial(path, target)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    writer.close()
    return False


async def test_repair_restart_and_removal(swarm: Swarm) -> None:
    machine = swarm.machines[0]
    mine = [task for task, where in swarm.placed.items() if where is machine]
    await broken(swarm, machine, mine[0])
    await machine.kill()
    await machine.start()
    before = await machine.ask(do="changes")
    await swarm.send()
    assert await machine.ask(do="changes") == before, "a restart finds everything as it left it"
    for task in list(swarm.placed):
        await swarm.remove(task)
    for machine in swarm.machines:
        assert "ip6" not in inside(machine.path, "nft", "list", "tables")
        assert "fd20" not in inside(machine.path, "ip", "-6", "addr")
        assert "::1 dev shoal_ing" not in inside(machine.path, "ip", "-6", "route", "show", "table", "local")
        sandbox = next((machine.folder / "netns").glob("n-ingress*"))
        assert "fd20" not in inside(sandbox, "ip", "-6", "neigh", "show", "nud", "permanent")
        assert "disable_ipv6 = 1" in inside(sandbox, "sysctl", "net.ipv6.conf.all.disable_ipv6")


async def broken(swarm: Swarm, machine: Machine, task: str) -> None:
    """What somebody takes away is there again."""
    path, sandbox = swarm.paths[task], next((machine.folder / "netns").glob("n-appnet*"))
    address = swarm.addresses6(task)[0]
    peer = next(t for t, where in swarm.placed.items() if where is not machine)
    told = (
        (path, f"ip addr del {address}/64 dev eth1", "ip -6 addr", address),
        (path, "ip -6 rule del fwmark 2", "ip -6 rule", "fwmark 0x2"),
        (path, "ip -6 route flush table 1002", "ip -6 route show table 1002", "default"),
        (path, "nft delete table ip6 shoal", "nft list tables", "table ip6 shoal\n"),
        (sandbox, f"ip neigh del {swarm.addresses6(peer)[0]} dev vxlan0", "ip -6 neigh", swarm.addresses6(peer)[0]),
        (machine.path, f"ip addr del {machine.ingress6}/64 dev shoal_ing", "ip -6 addr", machine.ingress6),
        (machine.path, "ip -6 route del local ::1 dev shoal_ing table local", "ip -6 route show table local",
         "::1 dev shoal_ing"),
        (machine.path, "nft delete table ip6 shoal", "nft list tables", "table ip6 shoal\n"),
    )  # fmt: skip
    for where, damage, _, _ in told:
        inside(where, *damage.split())
    async with asyncio.timeout(30):
        for where, _, look, wanted in told:
            while wanted not in inside(where, *look.split()):  # noqa: ASYNC110 - the kernel tells nobody here
                await asyncio.sleep(0.1)
