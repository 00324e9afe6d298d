"""Single containers over a runtime and a network that exist only in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from agent.network.api import Sandbox
from agent.network.bridges import BridgeLeg, Local, OverlayLeg, Wired
from agent.network.names import GATEWAY_BRIDGE
from agent.runtime.api import ContainerConfig, ContainerEvent, ContainerState, EventKind, ExitStatus, Status
from agent.runtime.image import ImageInfo
from agent.single.containers import Singles
from agent.single.networks import LocalNetworks
from agent.single.record import BRIDGE, Leg, LocalNetwork, PortRequest, SingleRecord
from common import errors

DEFAULT = LocalNetwork(BRIDGE, BRIDGE, 0, "docker0", "172.17.0.0/16", "172.17.0.1")


class Runtime:
    def __init__(self, folder: Path) -> None:
        self.folders = folder
        self.found: dict[str, ContainerState] = {}
        self.events: asyncio.Queue[ContainerEvent] = asyncio.Queue()
        self.addresses: dict[str, tuple[str, ...]] = {}
        self.links: dict[str, tuple[list[str], list[str]]] = {}  # lines of hosts, variables
        self.fail: errors.ShoalError | None = None

    def folder(self, id: str) -> str:
        return str(self.folders / id)

    async def containers(self) -> list[ContainerState]:
        return list(self.found.values())

    async def container(self, id: str) -> ContainerState | None:
        return self.found.get(id)

    async def create(self, config: ContainerConfig) -> None:
        (self.folders / config.id).mkdir()
        self.found[config.id] = ContainerState(
            config.id, config.name, config.image, {}, Status.CREATED, config=config
        )

    async def readdress(self, id: str, addresses: Iterable[str]) -> None:
        self.addresses[id] = tuple(addresses)

    async def relink(self, id: str, hosts: Iterable[str], env: Iterable[str]) -> None:
        self.links[id] = (list(hosts), list(env))

    async def image(self, ref: str) -> ImageInfo | None:
        return None

    async def start_container(self, id: str) -> int:
        if self.fail:
            raise self.fail
        self.found[id] = replace(self.found[id], status=Status.RUNNING, pid=7)
        return 7

    async def rename(self, id: str, name: str) -> None:
        self.found[id] = replace(self.found[id], name=name)

    async def exit(self, id: str, code: int = 0) -> None:
        self.found[id] = replace(self.found[id], status=Status.STOPPED, pid=0, exit=ExitStatus(code))
        await self.events.put(ContainerEvent(EventKind.EXIT, id, 0))

    async def stop(self, id: str, signal: str, grace_s: float | None) -> None:
        await self.exit(id)

    async def kill(self, id: str, signal: str = "SIGKILL") -> None:
        await self.exit(id)

    async def wait(self, id: str) -> None:
        assert self.found[id].status is Status.STOPPED

    async def remove(self, id: str, force: bool = False) -> None:
        self.found.pop(id, None)

    async def watch(self) -> AsyncIterator[ContainerEvent]:
        yield ContainerEvent(EventKind.RESYNC, "", 0)
        while True:
            yield await self.events.get()


class Network:
    """Namespaces by name, and what was said of them."""

    gateway_subnet = "172.18.0.0/16"
    speaks_ipv6 = True

    def __init__(self) -> None:
        self.local: set[str] = set()
        self.wired = Local()
        self.unplugged: list[tuple[str, str, tuple[str, str]]] = []
        self.held: set[tuple[str, int]] = set()  # by others
        self.fail: errors.ShoalError | None = None
        self.stuck: list[Exception] = []  # what the next calls of detach say

    def wire(self, local: Local) -> None:
        self.wired = local

    def next_gateway_address(self) -> str:
        return "172.18.0.2"

    async def routes(self) -> tuple[str, ...]:
        return ("192.0.2.0/24",)

    async def bridge(self) -> None:
        if self.fail:
            raise self.fail

    async def is_foreign(self, interface: str) -> bool:
        return interface == "virbr0"

    async def busy(self, address: str, protocol: str, port: int) -> bool:
        return (protocol, port) in self.held

    async def rewire(self, id: str, unplugged: str = "", way_out: tuple[str, str] = ("", "")) -> None:
        if self.fail:
            raise self.fail
        self.unplugged.append((id, unplugged, way_out))

    async def attach_local(self, id: str) -> Sandbox:
        assert id in self.wired.containers
        self.local.add(id)
        return Sandbox(id, f"/netns/{id}", ())

    async def detach(self, id: str) -> None:
        if self.stuck:
            raise self.stuck.pop()
        self.local.discard(id)


class Attachments:
    def __init__(self) -> None:
        self.number = 0
        self.held: set[str] = set()
        self.names: dict[str, str] = {}  # by place
        self.running: set[str] = set()
        self.fail: errors.ShoalError | None = None

    def keep(self, records: Iterable[SingleRecord]) -> None:
        self.held = {place for record in records for place in record.attachments}

    def renamed(self, record: SingleRecord) -> None:
        self.names.update(dict.fromkeys(record.attachments, record.name))

    def leads_out(self, id: str) -> bool:
        return True

    def addresses(self, id: str) -> tuple[str, ...]:
        return (f"10.0.1.{id.removeprefix('a')}",)

    async def acquire(self, record: SingleRecord, leg: Leg) -> str:
        if self.fail:
            raise self.fail
        self.number += 1
        self.held.add(f"a{self.number}")
        return f"a{self.number}"

    def started(self, id: str, container_id: str, pid: int) -> None:
        self.running.add(id)

    def release(self, id: str) -> None:
        self.held.discard(id)


class Memory:
    def __init__(self) -> None:
        self.rows: dict[str, SingleRecord] = {}
        self.networks = {BRIDGE: DEFAULT}

    async def put_single(self, record: SingleRecord) -> None:
        self.rows[record.container_id] = SingleRecord.from_bytes(record.to_bytes())

    async def drop_single(self, container_id: str) -> None:
        self.rows.pop(container_id, None)

    async def put_network(self, network: LocalNetwork) -> None:
        self.networks[network.id] = LocalNetwork.from_bytes(network.to_bytes())

    async def drop_network(self, network_id: str) -> None:
        self.networks.pop(network_id, None)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.runtime, self.network = Runtime(folder), Network()
        self.attachments, self.memory = Attachments(), Memory()
        self.singles = self.again()

    def again(self) -> Singles:
        """As after a restart of the agent."""
        networks = LocalNetworks(self.memory, self.network, self.memory.networks)
        self.singles = Singles(
            self.runtime, self.network, self.memory, self.attachments, self.memory.rows, networks,  # type: ignore[arg-type]
        )  # fmt: skip
        self.singles.settling.first = 0.001
        return self.singles

    async def create(self, id: str, **record: object) -> str:
        record.setdefault("legs", (Leg(BRIDGE),))
        await self.singles.create(
            ContainerConfig(id, f"name-{id}", "alpine"), SingleRecord(id, f"name-{id}", **record)
        )  # type: ignore[arg-type]
        return id

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.singles.run())
        yield
        task.cancel()
        await asyncio.wait([task])

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 - a deadline around it, and nothing to watch
                await asyncio.sleep(0.001)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_the_network_comes_with_the_start_and_goes_with_the_end(bench: Bench, tmp_path: Path) -> None:
    one = await bench.create("one")
    assert bench.network.local == set()
    async with bench.running():
        assert await bench.singles.start(one)
        assert bench.network.local == {one}
        assert bench.runtime.addresses[one] == ("172.17.0.2",)
        assert (tmp_path / one / "netns").readlink() == Path("/netns/one")
        config = bench.runtime.found[one].config
        assert config is not None and config.network_namespace == str(tmp_path / one / "netns")
        assert not await bench.singles.start(one)
        assert await bench.singles.stop(one)
        await bench.until(lambda: not bench.network.local)
        assert not await bench.singles.stop(one)
        assert await bench.singles.start(one)
        with pytest.raises(errors.Conflict, match="You cannot remove a running container one"):
            await bench.singles.remove(one)
        await bench.singles.remove(one, force=True)
    assert (bench.network.local, bench.memory.rows, bench.runtime.found) == (set(), {}, {})


async def test_one_that_removes_itself(bench: Bench) -> None:
    one = await bench.create("one", auto_remove=True)
    async with bench.running():
        await bench.singles.start(one)
        await bench.runtime.exit(one)
        await bench.until(lambda: not bench.memory.rows)
    assert (bench.runtime.found, bench.network.local) == ({}, set())


async def test_one_that_removes_itself_can_be_restarted(bench: Bench) -> None:
    one = await bench.create("one", auto_remove=True)
    async with bench.running():
        await bench.singles.start(one)
        await bench.singles.restart(one)
        assert bench.runtime.found[one].status is Status.RUNNING
        await bench.runtime.exit(one)
        await bench.until(lambda: not bench.memory.rows)


async def test_a_start_that_fails_leaves_no_network(bench: Bench) -> None:
    one, two = await bench.create("one"), await bench.create("two", auto_remove=True)
    bench.runtime.fail = errors.InvalidArgument("executable file not found in $PATH")
    for id in (one, two):
        with pytest.raises(errors.InvalidArgument):
            await bench.singles.start(id)
    assert bench.network.local == set()
    assert set(bench.runtime.found) == {one}


async def test_overlays_are_asked_for_at_every_start(bench: Bench) -> None:
    one = await bench.create("one", network_mode="net", legs=(Leg("net", ("al",)),))
    async with bench.running():
        await bench.singles.start(one)
        assert (bench.attachments.held, bench.attachments.running) == ({"a1"}, {"a1"})
        assert bench.singles.sandboxes() == {"a1": one, one: one}
        await bench.singles.stop(one)
        await bench.singles.start(one)
        assert bench.attachments.held == {"a2"}
        # A leg on docker_gwbridge leads out.
        assert bench.network.wired.containers[one] == Wired(
            (BridgeLeg(GATEWAY_BRIDGE, "eth1", "172.18.0.2"),), (OverlayLeg("a2", "eth0"),), GATEWAY_BRIDGE
        )
    bench.attachments.fail = errors.ShoalError("Could not attach to network net: …")
    await bench.singles.remove(one, force=True)
    two = await bench.create("two", network_mode="net", legs=(Leg("net"),))
    with pytest.raises(errors.ShoalError, match="Could not attach"):
        await bench.singles.start(two)
    assert bench.runtime.found[two].status is Status.CREATED


async def test_what_a_container_asks_for_outlives_its_runs(bench: Bench) -> None:
    leg = Leg(BRIDGE, mac="92:d0:c6:0a:29:33", link_local=("169.254.3.4",))
    one = await bench.create("one", legs=(leg,))
    for _ in range(2):
        await bench.singles.start(one)
        bench.again()
        (wired,) = bench.network.wired.containers[one].bridges
        assert (wired.mac, wired.link_local) == ("92:d0:c6:0a:29:33", ("169.254.3.4",))
        await bench.runtime.exit(one)
        async with bench.running():
            await bench.until(lambda: bench.memory.rows[one].legs == (replace(leg, entered=True),))
    for asked, text in (
        (Leg("net", link_local=("169.254.3.4",)), "--link-local-ip in networks of the swarm"),
        (Leg("net", mac="93:d0:c6:0a:29:33"), 'setting MAC to "93:d0:c6:0a:29:33"'),
        (
            Leg(BRIDGE, wanted6="fd00::1"),
            "user specified IP address is supported on user defined networks only",
        ),
    ):
        name = await bench.create(text, legs=(asked,))
        with pytest.raises(errors.ShoalError, match=f"^(error )?{text}"):
            await bench.singles.start(name)
        assert not bench.attachments.held


async def test_a_restart_of_the_agent_finds_them_again(bench: Bench) -> None:
    one = await bench.create("one", network_mode="net", legs=(Leg("net"),))
    two = await bench.create("two", auto_remove=True)
    lost = await bench.create("lost")
    await bench.singles.start(one)
    await bench.singles.start(two)
    await bench.runtime.exit(two)  # while no agent looked
    del bench.runtime.found[lost]
    bench.network.local.add("nobody")
    bench.runtime.events = asyncio.Queue()
    bench.again()
    async with bench.running():
        await bench.until(lambda: set(bench.memory.rows) == {one} and bench.network.local == {one})
    assert (bench.attachments.held, bench.network.local) == ({"a1"}, {one})
    assert bench.singles.record(one) == bench.memory.rows[one]


async def test_a_name_is_given_once(bench: Bench) -> None:
    await bench.create("one")
    with pytest.raises(
        errors.Conflict, match='The container name "/name-one" is already in use by container "one"'
    ):
        await bench.create("one")


async def test_a_name_is_given_once_while_others_ask_for_it(bench: Bench) -> None:
    one, two = await bench.create("one"), await bench.create("two")
    made = await asyncio.gather(
        bench.singles.rename(one, "new"), bench.singles.rename(two, "new"),
        bench.singles.create(ContainerConfig("three", "new", "alpine"), SingleRecord("three", "new")),
        return_exceptions=True,
    )  # fmt: skip
    assert [type(result) for result in made] == [type(None), errors.Conflict, errors.Conflict]
    assert sorted(c.name for c in bench.runtime.found.values()) == ["name-two", "new"]
    assert set(bench.memory.rows) == {one, two}


async def test_a_container_that_cannot_be_made_leaves_no_record(bench: Bench) -> None:
    async def create(config: ContainerConfig) -> None:
        assert config.id in bench.memory.rows  # an agent that ends now finds it half made
        raise FileNotFoundError(2, "No such file or directory", "/x")

    bench.runtime.create = create  # type: ignore[method-assign]
    with pytest.raises(errors.ShoalError, match=r"^/x: no such file or directory$"):
        await bench.create("one")
    assert bench.memory.rows == {}


async def test_a_removal_is_finished_by_the_next_agent(bench: Bench) -> None:
    one = await bench.create("one", restart="always")
    async with bench.running():
        await bench.singles.start(one)
    ends = asyncio.Event()

    async def remove(id: str, force: bool = False) -> None:
        await ends.wait()

    there, bench.runtime.remove = bench.runtime.remove, remove  # type: ignore[method-assign]
    removing = asyncio.create_task(bench.singles.remove(one, force=True))
    await bench.until(lambda: one in bench.runtime.found and bench.runtime.found[one].pid == 0)
    removing.cancel()
    await asyncio.wait([removing])
    bench.runtime.remove = there  # type: ignore[method-assign]
    bench.again()
    with pytest.raises(errors.Conflict, match="marked for removal"):
        await bench.singles.start(one)
    async with bench.running():
        await bench.until(lambda: not bench.memory.rows)
    assert (bench.runtime.found, bench.network.local) == ({}, set())


async def test_a_new_name_is_known_in_overlays_at_once(bench: Bench) -> None:
    one = await bench.create("one", network_mode="net", legs=(Leg("net"),))
    await bench.singles.start(one)
    await bench.singles.rename(one, "new")
    assert (bench.attachments.names, bench.memory.rows[one].name) == ({"a1": "new"}, "new")
    # An agent that ended between the two has the runtime's name in the end.
    bench.runtime.found[one] = replace(bench.runtime.found[one], name="newer")
    bench.again()
    async with bench.running():
        await bench.until(lambda: bench.memory.rows[one].name == "newer")
    assert bench.attachments.names == {"a1": "newer"}


async def test_one_that_starts_slowly_keeps_no_other_waiting(bench: Bench) -> None:
    slow, other = await bench.create("slow"), await bench.create("other", auto_remove=True)
    goes = asyncio.Event()

    async def attach_local(id: str) -> Sandbox:
        await goes.wait()
        return Sandbox(id, f"/netns/{id}", ())

    async with bench.running():
        await bench.singles.start(slow)
        await bench.singles.start(other)
        bench.network.attach_local = attach_local  # type: ignore[method-assign]
        await bench.runtime.exit(slow)
        await bench.until(lambda: slow not in bench.network.local)
        starting = asyncio.create_task(bench.singles.start(slow))
        await asyncio.sleep(0)
        await bench.runtime.events.put(ContainerEvent(EventKind.EXIT, slow, 0))
        await bench.runtime.exit(other)
        await bench.until(lambda: other not in bench.memory.rows)
        assert not starting.done()
        goes.set()
        assert await starting


async def test_a_paused_container_is_not_started(bench: Bench) -> None:
    one = await bench.create("one")
    bench.runtime.found[one] = replace(bench.runtime.found[one], status=Status.PAUSED, pid=7)
    with pytest.raises(errors.Conflict, match="cannot start a paused container, try unpause instead"):
        await bench.singles.start(one)


# ---- starts that fail


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (OSError(99, "Cannot assign requested address"), "cannot assign requested address"),
        (OSError(2, "No such file or directory", "/proc/7/ns/net"), "/proc/7/ns/net: no such file or directory"),
        (NetlinkError(16, "busy"), "device or resource busy"),
        (TimeoutError(), "timed out"),
        (errors.NotFound("network net not found"), "network net not found"),
    ],
)  # fmt: skip
async def test_what_the_kernel_refuses_is_told_in_words(bench: Bench, refusal: Exception, text: str) -> None:
    one = await bench.create("one")

    async def attach_local(id: str) -> Sandbox:
        raise refusal

    there, bench.network.attach_local = bench.network.attach_local, attach_local  # type: ignore[method-assign]
    with pytest.raises(errors.ShoalError) as raised:
        await bench.singles.start(one)
    assert (raised.value.message, raised.value.status) == (text, 500)
    record = bench.memory.rows[one]
    assert (record.error, record.exit_code, record.sandbox) == (text, 128, "")
    assert bench.runtime.found[one].status is Status.CREATED
    bench.network.attach_local = there  # type: ignore[method-assign]
    await bench.singles.start(one)
    assert (bench.memory.rows[one].error, bench.memory.rows[one].exit_code) == ("", 0)


@pytest.mark.parametrize(
    ("text", "code", "status"),
    [
        ('exec: "nosuch": executable file not found in $PATH', 127, 400), ("exec: permission denied", 126, 400),
        ("exec: is a directory", 126, 400), ("out of memory", 128, 500),
    ],
)  # fmt: skip
async def test_a_process_that_cannot_be_started(bench: Bench, text: str, code: int, status: int) -> None:
    one = await bench.create("one")
    bench.runtime.fail = errors.ShoalError(text)
    with pytest.raises(errors.ShoalError) as raised:
        await bench.singles.start(one)
    assert (raised.value.message, raised.value.status) == (text, status)
    assert (bench.memory.rows[one].error, bench.memory.rows[one].exit_code) == (text, code)


async def test_a_mount_that_does_not_fit(bench: Bench) -> None:
    one = await bench.create("one")
    bench.runtime.fail = errors.ShoalError("mount `/etc/hostname` to `tmp`: Not a directory: unknown")
    with pytest.raises(errors.InvalidArgument, match=r"directory onto a file .* is the expected type$"):
        await bench.singles.start(one)
    assert bench.memory.rows[one].exit_code == 127


async def test_a_failed_start_keeps_the_code_of_an_end_before(bench: Bench) -> None:
    one = await bench.create("one")
    async with bench.running():
        await bench.singles.start(one)
        await bench.runtime.exit(one, 3)
    bench.network.held = {("tcp", 80)}
    await bench.singles._records.change(
        one, lambda now: replace(now, ports=(PortRequest("tcp", 80, "", 80),))
    )
    with pytest.raises(errors.ShoalError, match="port is already allocated"):
        await bench.singles.start(one)
    assert bench.memory.rows[one].exit_code == 3


async def test_an_address_that_is_not_this_machines(bench: Bench) -> None:
    one = await bench.create("one", ports=(PortRequest("tcp", 80, "192.0.2.99", 8080),))

    async def busy(address: str, protocol: str, port: int) -> bool:
        raise OSError(99, "Cannot assign requested address")

    bench.network.busy = busy  # type: ignore[method-assign]
    with pytest.raises(errors.ShoalError) as raised:
        await bench.singles.start(one)
    assert raised.value.message == (
        "driver failed programming external connectivity on endpoint name-one (one): "
        "failed to bind host port for 192.0.2.99:8080/tcp: cannot assign requested address"
    )


# ---- what is tried again


async def test_what_could_not_be_put_right_is_tried_again(bench: Bench) -> None:
    one, two = await bench.create("one", auto_remove=True), await bench.create("two", restart="always")
    async with bench.running():
        await bench.singles.start(one)
        await bench.singles.start(two)
        bench.network.stuck = [
            NetlinkError(16),
            errors.Internal("no"),
            OSError(16, "Device or resource busy"),
        ]
        await bench.runtime.exit(one)
        await bench.until(lambda: one not in bench.memory.rows)
        bench.network.stuck = [OSError(5, "Input/output error")]
        await bench.runtime.exit(two)
        await bench.until(lambda: bench.memory.rows[two].restarts == 1 and bench.runtime.found[two].pid)
        bench.network.local.add("nobody")
        bench.network.stuck = [errors.Internal("no")]
        await bench.runtime.events.put(ContainerEvent(EventKind.RESYNC, "", 0))
        await bench.until(lambda: bench.network.local == {two})


async def test_a_removal_that_failed_is_finished(bench: Bench) -> None:
    one = await bench.create("one")
    async with bench.running():
        await bench.singles.start(one)
        bench.network.stuck = [errors.Internal("no"), errors.Internal("no")]
        with pytest.raises(errors.Internal):
            await bench.singles.remove(one, force=True)
        await bench.until(lambda: not bench.memory.rows)
    assert bench.runtime.found == {}
