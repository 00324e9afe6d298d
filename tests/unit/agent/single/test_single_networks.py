"""Networks of this node's own, over a machine that exists only in memory; containers come to them and go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.network.bridges import Binding, BridgeLeg, OverlayLeg
from agent.network.names import GATEWAY_BRIDGE
from agent.single.record import BRIDGE, Leg, LocalNetwork, Pool6, PortRequest, SingleRecord
from common import errors
from tests.unit.agent.single.single_bench import DEFAULT, Bench

NET = LocalNetwork("n" * 64, "net", 5, "", "172.28.0.0/16", "", chosen=True)
SIX = Pool6("fd00:1::/64", chosen=True)
INNER = replace(NET, id="i" * 64, name="inner", subnet="", chosen=False, internal=True)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def refused(what: Awaitable[Any]) -> str:
    with pytest.raises(errors.ShoalError) as caught:
        await what
    return caught.value.message


async def test_what_the_user_leaves_open_is_found(bench: Bench) -> None:
    made = await bench.singles.add_network(NET)
    assert (made.bridge, made.gateway) == ("br-nnnnnnnnnnnn", "172.28.0.1")
    inner = await bench.singles.add_network(INNER)
    assert (inner.subnet, inner.pools) == (
        "172.19.0.0/16", ({"Subnet": "172.19.0.0/16", "Gateway": "172.19.0.1"},),
    )  # fmt: skip
    assert bench.memory.networks == {BRIDGE: DEFAULT, NET.id: made, INNER.id: inner}
    assert set(bench.network.wired.networks) == {BRIDGE, NET.id, INNER.id}
    assert [n.name for n in bench.again().networks.all()] == ["bridge", "inner", "net"]
    found = bench.singles.networks
    assert (found.find("net"), found.find("nnn"), found.find("x"), found.find("")) == (made, made, None, None)


async def test_refusals(bench: Bench) -> None:
    assert await refused(bench.singles.add_network(replace(NET, subnet="172.17.3.0/24"))) == (
        "Pool overlaps with other one on this address space"
    )
    for key, value in (
        ("com.docker.network.bridge.enable_icc", "perhaps"), ("com.docker.network.driver.mtu", "-1"),
        ("com.docker.network.bridge.name", "far-too-long-a-name"),
        ("com.docker.network.bridge.host_binding_ipv4", "here"),
    ):  # fmt: skip
        assert value in await refused(bench.singles.add_network(replace(NET, options={key: value})))
    for name in (
        "br%d",
        "e*",
        'x"y',
        "a\\b",
        "a b",
        "a/b",
        "a:b",
        "brücke",
        "all",
        "default",
        "..",
        "shoal_ing",
    ):
        named = replace(NET, options={"com.docker.network.bridge.name": name})
        assert name in await refused(bench.singles.add_network(named))
    foreign = replace(NET, options={"com.docker.network.bridge.name": "virbr0"})
    assert "the interface is in use" in await refused(bench.singles.add_network(foreign))
    bench.network.fail = errors.Internal("no bridges here")
    assert await refused(bench.singles.add_network(NET)) == "no bridges here"
    assert list(bench.memory.networks) == [BRIDGE]


async def test_one_with_containers_stays(bench: Bench) -> None:
    made = await bench.singles.add_network(NET)
    one = await bench.create("one", network_mode="net", legs=(Leg("net"),))
    await bench.singles.start(one)
    assert "has active endpoints" in await refused(bench.singles.drop_network(made))
    await bench.singles.remove(one, force=True)
    await bench.singles.drop_network(made)
    assert (list(bench.memory.networks), list(bench.network.wired.networks)) == ([BRIDGE], [BRIDGE])


async def test_the_first_start_makes_the_default_bridge(bench: Bench) -> None:
    del bench.memory.networks[BRIDGE]
    await bench.again().begin(9)
    assert bench.memory.networks[BRIDGE] == replace(DEFAULT, created_at=9)
    await bench.singles.begin(10)
    assert bench.memory.networks[BRIDGE].created_at == 9


async def test_connect_and_disconnect_while_it_runs(bench: Bench) -> None:
    await bench.singles.add_network(NET)
    one = await bench.create("one")
    await bench.singles.start(one)
    await bench.singles.connect(one, Leg("net", ("al",), "172.28.0.9"))
    wired = bench.network.wired.containers[one]
    assert wired.bridges == (BridgeLeg(BRIDGE, "eth0", "172.17.0.2"), BridgeLeg(NET.id, "eth1", "172.28.0.9"))
    assert (wired.way_out, bench.runtime.addresses[one]) == (BRIDGE, ("172.17.0.2", "172.28.0.9"))
    await bench.singles.connect(one, Leg("overlay"))
    assert bench.network.wired.containers[one].overlays == (OverlayLeg("a1", "eth2"),)
    assert bench.attachments.running == {"a1"}
    record = bench.singles.record(one)
    assert record is not None and record == bench.memory.rows[one]
    # The way out goes over to the next, and to docker_gwbridge where only the overlay is left.
    bench.network.unplugged.clear()
    await bench.singles.disconnect(one, record.legs[0])
    assert bench.network.unplugged == [(one, "eth0", ("172.28.0.1", "eth1"))]
    await bench.singles.disconnect(one, record.legs[1])
    wired = bench.network.wired.containers[one]
    assert (wired.bridges, wired.way_out) == (
        (BridgeLeg(GATEWAY_BRIDGE, "eth0", "172.18.0.2"),),
        GATEWAY_BRIDGE,
    )
    bench.network.unplugged.clear()
    await bench.singles.connect(one, Leg(BRIDGE))
    assert bench.network.unplugged == [(one, "eth0", ("", "")), (one, "", ("172.17.0.1", "eth1"))]
    await bench.singles.disconnect(one, record.legs[2])
    assert bench.attachments.held == set()


async def test_both_families(bench: Bench) -> None:
    """The way out of each family is its own: a network without IPv6 doesn't lead out by it, whatever its name."""
    await bench.singles.add_network(replace(NET, six=SIX))
    made = bench.memory.networks[NET.id]
    assert (made.six, LocalNetwork.from_bytes(made.to_bytes())) == (replace(SIX, gateway="fd00:1::1"), made)
    asked = (PortRequest("tcp", 80, "", 8080, 8080),)
    one = await bench.create("one", ports=asked, legs=(Leg(BRIDGE), Leg("net", wanted6="fd00:1::9")))
    await bench.singles.start(one)
    wired = bench.network.wired.containers[one]
    assert wired.bridges[1] == BridgeLeg(NET.id, "eth1", "172.28.0.2", "fd00:1::9")
    assert (wired.way_out, wired.way_out6) == (BRIDGE, NET.id)
    assert [b.address for b in wired.bindings] == ["0.0.0.0", "::"]
    assert bench.runtime.addresses[one] == ("172.17.0.2", "172.28.0.2", "fd00:1::9")
    later = replace(NET, id="b" * 64, name="b", subnet="172.29.0.0/16", six=Pool6(""))
    await bench.singles.add_network(later)
    bench.network.unplugged.clear()
    await bench.singles.connect(one, Leg("b"))
    assert bench.network.unplugged == [
        (one, "", ("172.29.0.1", "eth2")), (one, "", ("fdbb:bbbb:bbbb:bbbb::1", "eth2")),
    ]  # fmt: skip
    assert bench.network.wired.networks["b" * 64].gateway6 == "fdbb:bbbb:bbbb:bbbb::1"
    bench.network.unplugged.clear()
    await bench.singles.disconnect(one, bench.memory.rows[one].legs[2])
    assert bench.network.unplugged[1:] == [(one, "", ("fd00:1::1", "eth1"))]
    await bench.singles.stop(one)
    bench.network.speaks_ipv6 = False
    said = await refused(bench.singles.add_network(replace(later, id="d" * 64, name="d")))
    assert said == "the kernel of this node has no IPv6"


async def test_a_connection_that_fails_leaves_nothing(bench: Bench) -> None:
    await bench.singles.add_network(NET)
    one = await bench.create("one")
    await bench.singles.start(one)
    before = bench.singles.record(one)
    bench.attachments.fail = errors.ShoalError("Could not attach to network x")
    assert await refused(bench.singles.connect(one, Leg("x"))) == "Could not attach to network x"
    assert "does not belong" in await refused(bench.singles.connect(one, Leg("net", (), "10.0.0.1")))
    assert bench.singles.record(one) == before == bench.memory.rows[one]


async def test_while_it_does_not_run(bench: Bench) -> None:
    await bench.singles.add_network(NET)
    one, two = await bench.create("one"), await bench.create("two", network_mode="net", legs=(Leg("net"),))
    leg = Leg("net", (), "172.28.0.2")
    await bench.singles.connect(one, leg)
    with pytest.raises(errors.Conflict, match="name-one is already attached to network net"):
        await bench.singles.connect(one, leg)
    await bench.singles.disconnect(one, bench.memory.rows[one].legs[0])
    assert bench.memory.rows[one].legs == (replace(leg, entered=True),)
    await bench.singles.start(two)  # the address that the other waits for isn't given away
    await bench.singles.start(one)
    assert [bench.memory.rows[id].legs[0].address for id in (one, two)] == ["172.28.0.2", "172.28.0.3"]


async def test_ports(bench: Bench) -> None:
    asked = (PortRequest("tcp", 80, "", 8080, 8080),)
    one, two = await bench.create("one", ports=asked), await bench.create("two", ports=asked)
    async with bench.running():
        await bench.singles.start(one)
        assert bench.network.wired.containers[one].bindings == (Binding("tcp", "0.0.0.0", 8080, 80),)
        assert await refused(bench.singles.start(two)) == (
            "driver failed programming external connectivity on endpoint name-two (two): "
            "Bind for 0.0.0.0:8080 failed: port is already allocated"
        )
        assert set(bench.network.wired.containers) == {one}
        await bench.singles.stop(one)
        await bench.until(lambda: not bench.network.local)
        await bench.singles.start(two)
    bench.network.held = {("tcp", 8080)}
    assert "port is already allocated" in await refused(bench.singles.start(one))


async def test_the_network_of_another_container(bench: Bench, tmp_path: Path) -> None:
    one = await bench.create("one")
    (tmp_path / one / "hosts").write_text("names of one")
    two = await bench.create("two", network_mode="container:name-one", legs=())
    three = await bench.create("three", network_mode="container:nobody", legs=())
    assert await refused(bench.singles.start(two)) == "cannot join network of a non running container: one"
    assert await refused(bench.singles.start(three)) == "No such container: nobody"
    await bench.singles.start(one)
    await bench.singles.start(two)
    assert (tmp_path / two / "netns").readlink() == Path("/proc/7/ns/net")
    assert (tmp_path / two / "hosts").read_text() == "names of one"


def test_records_outlive_the_agent() -> None:
    record = SingleRecord(
        "one", "n", "net", (Leg("net", ("al",), "172.28.0.2", "eth0", "n", "172.28.0.2"),), sandbox="one",
        gateway_leg=Leg(GATEWAY_BRIDGE, interface="eth1", address="172.18.0.2"),
        ports=(PortRequest("tcp", 80),), bindings=(Binding("tcp", "0.0.0.0", 1, 80),), dns=("192.0.2.1",),
    )  # fmt: skip
    assert SingleRecord.from_bytes(record.to_bytes()) == record
    old = b'{"container_id": "x", "network_mode": "bridge", "legs": [], "later": 1, "attach": [true, false, false]}'
    assert SingleRecord.from_bytes(old).legs == (Leg(BRIDGE),)
    assert LocalNetwork.from_bytes(NET.to_bytes()) == NET


async def test_a_network_may_say_where_its_containers_publish(bench: Bench) -> None:
    """What a port's own address goes before."""
    options = {"com.docker.network.bridge.host_binding_ipv4": "127.0.0.1"}
    await bench.singles.add_network(replace(NET, options=options))
    asked = (PortRequest("tcp", 80, "", 8080, 8080), PortRequest("tcp", 81, "192.0.2.1", 8081, 8081))
    one = await bench.create("one", network_mode="net", legs=(Leg("net"),), ports=asked)
    async with bench.running():
        await bench.singles.start(one)
        assert [b.address for b in bench.network.wired.containers[one].bindings] == ["127.0.0.1", "192.0.2.1"]


async def test_one_name_is_one_network_whoever_asks_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_foreign(interface: str) -> bool:
        await asyncio.sleep(0)
        return False

    monkeypatch.setattr(bench.network, "is_foreign", is_foreign)
    other = replace(NET, id="m" * 64, subnet="172.29.0.0/16")
    made = await asyncio.gather(
        bench.singles.add_network(NET), bench.singles.add_network(other), return_exceptions=True
    )
    assert (
        isinstance(made[1], errors.AlreadyExists)
        and made[1].message == "network with name net already exists"
    )
    assert set(bench.memory.networks) == {BRIDGE, NET.id}


async def test_a_network_that_has_gone_meanwhile_is_not_left_again(bench: Bench) -> None:
    await bench.singles.add_network(NET)
    one = await bench.create("one", legs=(Leg(BRIDGE), Leg("net")))
    await bench.singles.start(one)
    leg = bench.memory.rows[one].legs[1]
    done = await asyncio.gather(
        bench.singles.disconnect(one, leg), bench.singles.disconnect(one, leg), return_exceptions=True
    )
    assert done[0] is None
    assert isinstance(done[1], errors.ShoalError)
    assert done[1].message == "container one is not connected to network net"
    await bench.singles.connect(one, Leg(NET.id))
    with pytest.raises(errors.Conflict, match="already attached to network"):
        await bench.singles.connect(one, Leg("net"))


async def test_a_place_is_given_back_whose_leg_cannot_be_taken_out(bench: Bench) -> None:
    one = await bench.create("one", network_mode="o", legs=(Leg(BRIDGE), Leg("o")))
    await bench.singles.start(one)
    bench.network.fail = errors.Internal("no")
    with pytest.raises(errors.Internal):
        await bench.singles.disconnect(one, Leg("o"))
    with pytest.raises(errors.Internal):
        await bench.singles.connect(one, Leg("p"))
    assert (bench.attachments.held, bench.memory.rows[one].attachments) == (set(), ())
