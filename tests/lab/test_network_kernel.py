"""agent/network against the real kernel: three machines of namespaces, real packets, real failures."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from common import model
from tests.lab.netlab import (
    APP,
    CLIENT,
    PATIENCE,
    PORT,
    PUBLISHED,
    VIP,
    Machine,
    Swarm,
    ask,
    datagram,
    dial,
    in_namespace,
    inside,
    ping,
    three_machines,
)
from tests.lab.seals import lacking

pytestmark = pytest.mark.lab
SERVING, WITHDRAWN = model.EndpointState.ENDPOINT_SERVING, model.EndpointState.ENDPOINT_WITHDRAWN


@dataclass
class World:
    swarm: Swarm
    client: Path

    @property
    def machines(self) -> list[Machine]:
        return self.swarm.machines


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="shoal-net-") as folder:
        async with three_machines(Path(folder)) as (swarm, client):
            yield World(swarm, client)


@dataclass
class Load:
    """Connections, one after the other, and what became of them."""

    answered: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    done: list[int] = field(default_factory=list)  # by each of those who connect
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def run(self, path: Path, target: tuple[str, int]) -> None:
        own = len(self.done)
        self.done.append(0)
        while True:
            try:
                words = await ask(path, target)
                self.answered[words[0]] += 1
            except (OSError, TimeoutError, IndexError) as error:
                self.failed.append(f"{target}: {error!r}")
            self.done[own] += 1
            async with self.news:
                self.news.notify_all()

    async def more(self, count: int) -> None:
        """Returns when `count` more were answered."""
        goal = self.answered.total() + count
        async with asyncio.timeout(2 * PATIENCE), self.news:
            await self.news.wait_for(lambda: self.failed or self.answered.total() >= goal)

    async def what_was_under_way(self) -> None:
        """Returns when no connection is left that began before this."""
        before = list(self.done)
        async with asyncio.timeout(2 * PATIENCE), self.news:
            await self.news.wait_for(
                lambda: all(now > then for now, then in zip(self.done, before, strict=True))
            )


@asynccontextmanager
async def load(world: World, container: Path) -> AsyncIterator[Load]:
    """Through every machine's port and through the VIP, until the block ends."""
    found = Load()
    targets = [(world.client, (m.address, PUBLISHED)) for m in world.machines] + [(container, (VIP, PORT))]
    tasks = [asyncio.create_task(found.run(path, target)) for path, target in targets]
    try:
        yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def even(answers: Counter[str], tasks: int = 5) -> bool:
    return len(answers) == tasks and all(8 <= n <= 12 for n in answers.values())


async def echo(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], text: str) -> str:
    reader, writer = connection
    writer.write(text.encode() + b"\n")
    return (await asyncio.wait_for(reader.readline(), PATIENCE)).decode().strip()


async def test_overlay_and_vip(world: World) -> None:
    swarm = world.swarm
    await swarm.spread_five()
    container = await swarm.client(world.machines[1])
    for task in swarm.placed:
        ping(container, swarm.addresses(task)[0])
    answers = [await ask(container, (VIP, PORT)) for _ in range(50)]
    assert even(Counter(words[0] for words in answers))
    assert {words[1] for words in answers} == {swarm.addresses(swarm.name(90))[0]}  # no masquerade
    for task, path in swarm.paths.items():
        if task in swarm.placed:  # hairpin: a backend calls its own VIP
            own = [await ask(path, (VIP, PORT)) for _ in range(5)]
            assert task in {words[0] for words in own}
    ping(container, VIP)


async def test_a_table_that_was_changed_is_as_one_made_anew(world: World) -> None:
    await world.swarm.spread_five()
    container, machine = await world.swarm.client(world.machines[1]), world.machines[1]
    await world.swarm.set_state(world.swarm.name(1), WITHDRAWN)

    def listed() -> list[list[str]]:
        return [
            sorted(inside(path, "nft", "list", "ruleset").splitlines()) for path in (machine.path, container)
        ]

    changed = listed()
    for path in (machine.path, container):
        inside(path, "nft", "flush", "ruleset")
    await machine.ask(do="reconcile")
    assert listed() == changed
    await world.swarm.set_state(world.swarm.name(1), SERVING)
    assert {(await ask(container, (VIP, PORT)))[0] for _ in range(5)} == set(world.swarm.placed)


async def test_clients_start_at_different_backends(world: World) -> None:
    await world.swarm.spread_five()
    first = set()
    for n in range(70, 78):
        first.add((await ask(await world.swarm.client(world.machines[n % 3], n), (VIP, PORT)))[0])
    assert len(first) > 1


async def test_mesh_keeps_the_clients_address(world: World) -> None:
    await world.swarm.spread_five()
    for machine in world.machines:
        answers = [await ask(world.client, (machine.address, PUBLISHED)) for _ in range(50)]
        assert even(Counter(words[0] for words in answers)), machine.number
        assert {words[1] for words in answers} == {CLIENT}, machine.number
        by_datagram = [await datagram(world.client, (machine.address, PUBLISHED)) for _ in range(20)]
        assert len({words[0] for words in by_datagram}) == 5
        assert {words[1] for words in by_datagram} == {CLIENT}


async def test_mesh_from_the_machine_itself_and_from_a_task(world: World) -> None:
    await world.swarm.spread_five()
    container = await world.swarm.client(world.machines[2])
    for machine in world.machines:
        for path, target in (
            (machine.path, "127.0.0.1"),
            (machine.path, machine.address),
            (container, machine.address),
        ):
            reached = {(await ask(path, (target, PUBLISHED)))[0] for _ in range(10)}
            assert len(reached) == 5, (machine.number, target)


async def test_equal_5_tuples_through_two_machines(world: World) -> None:
    """One backend, one client port, two receiving machines: both connect and both are answered."""
    swarm = world.swarm
    await swarm.run(world.machines[2], 1, 1)
    await swarm.send()
    source = (CLIENT, 45001)
    held = [await dial(world.client, (m.address, PUBLISHED), source) for m in world.machines]
    for connection in held:
        first = (await asyncio.wait_for(connection[0].readline(), PATIENCE)).decode().split()
        assert first == [swarm.name(1), CLIENT]
    for n, connection in enumerate(held):
        assert await echo(connection, f"still {n}") == f"still {n}"
        connection[1].close()
    for machine in world.machines:
        assert (await datagram(world.client, (machine.address, PUBLISHED), (CLIENT, 45002)))[1] == CLIENT


def sent_again(path: Path) -> str:
    """How many SYNs of this namespace nobody has answered in time."""
    return inside(path, "nstat", "-asz", "TcpExtTCPSynRetrans").split()[-2]


async def test_nobody_serves(world: World) -> None:
    """A refusal at once, not a time-out; and back again when somebody serves."""
    swarm = world.swarm
    await swarm.run(world.machines[0], 1, 1)
    await swarm.set_state(swarm.name(1), WITHDRAWN)
    container = await swarm.client(world.machines[1])
    targets = [(container, (VIP, PORT))] + [(world.client, (m.address, PUBLISHED)) for m in world.machines]
    for path, target in targets:
        before = sent_again(path)
        with pytest.raises(ConnectionRefusedError):
            await ask(path, target)
        assert sent_again(path) == before  # as a SYN that is dropped would be after a second
    with pytest.raises(ConnectionRefusedError):
        await ask(world.machines[0].path, ("127.0.0.1", PUBLISHED))
    await swarm.set_state(swarm.name(1), SERVING)
    for path, target in targets:
        assert (await ask(path, target))[0] == swarm.name(1)


async def test_withdrawal_under_load(world: World) -> None:
    swarm = world.swarm
    await swarm.spread_five()
    container = await swarm.client(world.machines[0])
    leaving = swarm.name(3)
    routes = [(world.client, (m.address, PUBLISHED)) for m in world.machines] + [(container, (VIP, PORT))]
    held = []
    for path, target in routes:
        for _ in range(5):
            connection = await dial(path, target)
            task = (await asyncio.wait_for(connection[0].readline(), PATIENCE)).decode().split()[0]
            held.append((task, connection))
    assert {leaving} <= {task for task, _ in held}
    async with load(world, container) as found:
        await found.more(100)
        await swarm.set_state(leaving, WITHDRAWN)
        await found.what_was_under_way()
        before = swarm.seen[leaving].total()
        await found.more(200)
        assert swarm.seen[leaving].total() == before
        for n, (_, connection) in enumerate(held):
            assert await echo(connection, f"line {n}") == f"line {n}"
        await swarm.remove(leaving)
        await found.more(100)
        assert found.failed == []
    for n, (task, connection) in enumerate(held):
        if task == leaving:  # its conntrack entries are gone: refused by another backend, not stuck
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError, AssertionError)):
                assert await echo(connection, "gone") == "gone"
        else:
            assert await echo(connection, f"again {n}") == f"again {n}"
        connection[1].close()


async def test_udp_flow_moves_to_a_live_task(world: World) -> None:
    """A fixed-port client keeps its backend until that task is gone, and has another at once then."""
    swarm = world.swarm
    await swarm.spread_five()
    through = world.machines[0]
    first = (await datagram(world.client, (through.address, PUBLISHED), (CLIENT, 45003)))[0]
    await swarm.set_state(first, WITHDRAWN)
    assert (await datagram(world.client, (through.address, PUBLISHED), (CLIENT, 45003)))[0] == first
    await swarm.remove(first)
    second = await datagram(world.client, (through.address, PUBLISHED), (CLIENT, 45003))
    assert second[0] != first
    assert second[1] == CLIENT


async def test_killed_and_restarted_under_load(world: World) -> None:
    swarm = world.swarm
    await swarm.spread_five()
    container = await swarm.client(world.machines[0])
    held = await dial(container, (VIP, PORT))
    await held[0].readline()
    async with load(world, container) as found:
        await found.more(50)
        for machine in world.machines:
            await machine.kill()
        await found.more(100)
        for machine in world.machines:
            await machine.start()
        await swarm.send()
        await found.more(100)
        assert found.failed == []
    assert await echo(held, "still") == "still"
    held[1].close()
    for machine in world.machines:
        assert await machine.ask(do="changes") == 0
    here = {task for task, m in {**swarm.placed, **swarm.clients}.items() if m is world.machines[0]}
    assert set(await world.machines[0].ask(do="resolvers")) == here
    await swarm.run(world.machines[0], 1, 6)
    await swarm.send()
    assert len({(await ask(container, (VIP, PORT)))[0] for _ in range(12)}) == 6


async def test_a_sandbox_lives_with_its_tasks(world: World) -> None:
    swarm, machine = world.swarm, world.machines[0]
    await swarm.send()
    assert sorted(p.name[:2] for p in (machine.folder / "netns").iterdir()) == ["n-"]  # ingress only
    await swarm.client(machine)
    assert (machine.folder / "netns" / f"n-{APP}").exists()
    await machine.ask(do="detach", task=swarm.name(90))
    swarm.clients.clear()
    assert sorted(p.name[:2] for p in (machine.folder / "netns").iterdir()) == ["n-"]
    await swarm.client(machine)  # and again: the VNI is free
    assert "docker_gwbridge" in inside(machine.path, "ip", "link")


async def test_a_task_starts_though_somebody_has_just_taken_something_away(world: World) -> None:
    """Before this process looks: after one repair it lets a second pass before the next."""
    swarm, machine = world.swarm, world.machines[0]
    task = swarm.name(90)
    swarm.clients[task] = machine
    await swarm.send()
    before = await machine.ask(do="changes")
    inside(machine.path, "nft", "flush", "ruleset")
    async with asyncio.timeout(PATIENCE):
        while await machine.ask(do="changes") == before:  # noqa: ASYNC110 - the other process says nothing by itself
            await asyncio.sleep(0.02)
    inside(machine.path, "ip", "link", "del", "docker_gwbridge")
    await swarm.attach(task)
    assert "default via 172.18.0.1" in inside(swarm.paths[task], "ip", "route")
    assert "docker_gwbridge" in inside(machine.path, "ip", "link")


async def test_the_way_out(world: World) -> None:
    """Masqueraded by docker_gwbridge; containers don't reach each other over it, nor does the outside."""
    swarm, machine = world.swarm, world.machines[0]
    container = await swarm.client(machine)
    await swarm.run(machine, 1, 1)
    server = in_namespace(world.client, lambda: socket.create_server(("", 8000)))
    server.setblocking(False)
    opened = await dial(container, (CLIENT, 8000))
    accepted, peer = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(server), PATIENCE)
    assert peer[0] == machine.address
    accepted.close()
    opened[1].close()
    server.close()
    inside_address = next(
        line.split()[1].partition("/")[0]
        for line in inside(swarm.paths[swarm.name(1)], "ip", "-4", "addr", "show").splitlines()
        if "172.18." in line
    )
    inside(world.client, "ip", "route", "add", "172.18.0.0/16", "via", machine.address)
    inside(world.client, "ip", "route", "add", "10.20.0.0/24", "via", machine.address)
    for path in (container, world.client):
        with pytest.raises((OSError, TimeoutError)):
            await asyncio.wait_for(ask(path, (inside_address, PORT)), 1.5)
    with pytest.raises((OSError, TimeoutError)):
        await asyncio.wait_for(ask(world.client, (swarm.addresses(swarm.name(1))[1], PORT)), 1.5)


async def test_the_resolvers_port(world: World) -> None:
    """127.0.0.11:53 leads to our sockets, and a container can bind 0.0.0.0:53 itself."""
    machine = world.machines[0]
    container = await world.swarm.client(machine)
    assert await machine.ask(do="resolvers") == [world.swarm.name(90)]
    (await dial(container, ("127.0.0.11", 53)))[1].close()
    in_namespace(container, lambda: socket.create_server(("0.0.0.0", 53))).close()


async def test_host_mode_port(world: World) -> None:
    swarm, machine = world.swarm, world.machines[1]
    swarm.host_port = model.PortConfig(
        protocol=model.PortProtocol.TCP, target_port=PORT, published_port=8081,
        publish_mode=model.PublishMode.HOST,
    )  # fmt: skip
    await swarm.run(machine, 1, 1)
    assert await ask(world.client, (machine.address, 8081)) == [swarm.name(1), CLIENT]
    assert (await ask(machine.path, ("127.0.0.1", 8081)))[0] == swarm.name(1)
    assert (await ask(await swarm.client(machine), (machine.address, 8081)))[0] == swarm.name(1)
    with pytest.raises(ConnectionRefusedError):
        await ask(world.client, (world.machines[0].address, 8081))


async def test_encrypted_is_refused_where_the_kernel_cannot(world: World) -> None:
    world.swarm.options = {"encrypted": ""}
    sandbox = world.machines[0].folder / "netns" / f"n-{APP}"
    if not lacking():
        await world.swarm.client(world.machines[0])
        assert sandbox.exists()
        return
    text = rf"could not create the sandbox of network app: .*ESP.* no module {lacking()}"
    with pytest.raises(RuntimeError, match=text):
        await world.swarm.client(world.machines[0])
    assert not sandbox.exists()


async def test_a_taken_vni(world: World) -> None:
    """The error names network and cause, nothing half-made stays, and it works once the cause is gone."""
    machine = world.machines[0]
    inside(machine.path, "ip", "link", "add", "theirs", "type", "vxlan", "id", "4097", "dstport", "4789")
    with pytest.raises(RuntimeError, match=r"could not create the sandbox of network app: File exists"):
        await world.swarm.client(machine)
    assert sorted(p.name[:2] for p in (machine.folder / "netns").iterdir()) == ["n-"]
    assert "theirs" in inside(machine.path, "ip", "link")
    inside(machine.path, "ip", "link", "del", "theirs")
    await world.swarm.attach(world.swarm.name(90))


async def test_killed_while_a_namespace_is_half_made(world: World) -> None:
    """Whatever step an earlier process came to, attaching goes on from there."""
    swarm, machine = world.swarm, world.machines[0]
    await swarm.run(world.machines[1], 1, 1)
    task = swarm.name(90)
    made = machine.folder / "netns" / f"t-{task}"
    await machine.kill()
    made.touch()
    inside(machine.path, "unshare", f"--net={made}", "true")  # with its loopback down
    await machine.start()
    container = await swarm.client(machine)
    ping(container, swarm.addresses(swarm.name(1))[0])
    ping(container, "127.0.0.1")
    assert (await ask(container, (VIP, PORT)))[0] == swarm.name(1)


async def test_drift_is_repaired(world: World) -> None:
    """Somebody flushes the rules and deletes interfaces: the next pass that looks puts all of it back."""
    swarm, machine = world.swarm, world.machines[0]
    await swarm.spread_five()
    inside(machine.path, "nft", "flush", "ruleset")
    sandbox = machine.folder / "netns" / f"n-{APP}"
    inside(sandbox, "ip", "link", "del", "vxlan0")
    inside(swarm.paths[swarm.name(1)], "ip", "rule", "del", "priority", "100", "fwmark", "2")
    await machine.ask(do="reconcile")
    assert len({(await ask(world.client, (machine.address, PUBLISHED)))[0] for _ in range(5)}) == 5
    for task in swarm.placed:
        ping(swarm.paths[swarm.name(1)], swarm.addresses(task)[0])
    before = await machine.ask(do="changes")
    await machine.ask(do="reconcile")
    assert await machine.ask(do="changes") == before


async def test_another_ingress_network_in_its_place(world: World) -> None:
    """In one step, with the same addresses: what a node sees that was away while one was made anew."""
    swarm = world.swarm
    await swarm.send()
    old = swarm.ingress
    swarm.ingress = "ingress1111111111111111id"
    await swarm.spread_five()
    for machine in world.machines:
        assert not (machine.folder / "netns" / f"n-{old}").exists()
        answers = [await ask(world.client, (machine.address, PUBLISHED)) for _ in range(50)]
        assert even(Counter(words[0] for words in answers)), machine.number
        before = await machine.ask(do="changes")
        await machine.ask(do="reconcile")
        assert await machine.ask(do="changes") == before


async def test_an_address_moves(world: World) -> None:
    """A machine's VTEP changes: tunnels follow."""
    swarm, machine = world.swarm, world.machines[2]
    await swarm.spread_five()
    container = await swarm.client(world.machines[0])
    inside(machine.path, "ip", "addr", "del", f"{machine.address}/24", "dev", "eth0")
    inside(machine.path, "ip", "addr", "add", "10.79.0.33/24", "dev", "eth0")
    world.machines[2] = replace(machine, moved="10.79.0.33")
    await swarm.send()
    ping(container, swarm.addresses(swarm.name(5))[0])
    assert len({(await ask(world.client, (world.machines[0].address, PUBLISHED)))[0] for _ in range(5)}) == 5


async def test_teardown_leaves_nothing(world: World) -> None:
    swarm = world.swarm
    await swarm.spread_five()
    await swarm.client(world.machines[0])
    stale = world.machines[0].folder / "netns" / "t-stale"
    for machine in world.machines:
        await machine.ask(do="teardown")
        assert list(machine.folder.iterdir()) == []
        assert inside(machine.path, "nft", "list", "tables") == ""
        links = [line.split(":")[1].strip() for line in inside(machine.path, "ip", "-o", "link").splitlines()]
        assert {name.partition("@")[0] for name in links} == {"lo", "eth0"}
        assert "fwmark" not in inside(machine.path, "ip", "rule")
    stale.parent.mkdir()
    stale.touch()  # as a reboot leaves it where /run is kept
    await world.machines[0].kill()
    await world.machines[0].start()
    assert not stale.exists()
