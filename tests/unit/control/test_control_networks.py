"""Networks by the Control service: what is refused, what is in use, what stays for whose sake."""

from dataclasses import replace
from typing import Any

import pytest
from control_bench import CALLER, SECOND, Bench, attached, node, refused, spec, task

from common import errors, model
from manager.allocator.subnets import mesh_subnet


async def test_networks(bench: Bench) -> None:
    made = await bench.network("my-net", "10.30.0.0/24")
    assert (made.spec.scope, made.spec.driver) == ("swarm", model.Driver(name="overlay"))
    await refused(bench.network("my-net"), "Aborted", "network with name my-net already exists")
    await refused(
        bench.network("second", ingress=True), "AlreadyExists", "ingress network (ing) is already present"
    )
    listed = (await bench.listed("networks", ("name", "my-net"))).networks
    assert listed == (made,)
    assert (await bench.listed("networks", ("name", "my"))).networks == ()
    assert len((await bench.listed("networks", ("driver", "overlay"), ("scope", "swarm"))).networks) == 2
    await bench.control.remove_network(model.RemoveRequest("my-net"), CALLER)
    await refused(
        bench.control.get_network(model.GetRequest("my-net"), CALLER), "NotFound", "network my-net not found"
    )


@pytest.mark.parametrize(
    ("subnet", "text"),
    [
        ("10.30.0.0/24", "subnet 10.30.0.0/24 overlaps subnet 10.30.0.0/16 of network taken"),
        ("10.0.0.0/8", "subnet 10.0.0.0/8 overlaps subnet 10.30.0.0/16 of network taken"),
        ("192.168.7.0/24", "subnet 192.168.7.0/24 overlaps route 192.168.0.0/16 of node host-routed"),
        ("foo", "Invalid subnet foo : invalid CIDR address: foo"),
        ("10.99.0.0/31", "subnet 10.99.0.0/31 is too small: a network needs at least a /29"),
        ("fd00:1::/126", "subnet fd00:1::/126 is too small: a network needs at least a /125"),
        ("fd00:1::/64", "IPv6 subnet fd00:1::/64 in a network without IPv6: it needs --ipv6"),
        ("fe80::/64", "subnet fe80::/64 can't be a network's: its addresses mean something else"),
        ("ff02::/64", "subnet ff02::/64 can't be a network's: its addresses mean something else"),
    ],
)
async def test_refused_subnets(bench: Bench, subnet: str, text: str) -> None:
    await bench.network("taken", "10.30.0.0/16")
    await bench.put(node("routed", routes=("0.0.0.0/0", "192.168.0.0/16", "fe80::/64")))
    with pytest.raises(errors.ShoalError) as raised:
        await bench.network("x", subnet)
    assert raised.value.message == text
    assert len(bench.store.view().networks) == 2


async def test_subnets_of_both_families(bench: Bench) -> None:
    await bench.network("taken", "fd00:1::/64", ipv6_enabled=True)
    await bench.put(node("routed", routes=("::/0", "fd00:2::/48")))
    mesh = mesh_subnet(bench.store.view().cluster.id, model.Network())
    for subnet, text in (
        ("fd00:1::/80", "subnet fd00:1::/80 overlaps subnet fd00:1::/64 of network taken"),
        ("fd00:2:0:7::/64", "subnet fd00:2:0:7::/64 overlaps route fd00:2::/48 of node host-routed"),
        (f"{mesh}", f"subnet {mesh} overlaps subnet {mesh} of the routing mesh"),
    ):
        await refused(bench.network("x", subnet, ipv6_enabled=True), "InvalidArgument", text)
    await bench.control.remove_network(model.RemoveRequest("ingress"), CALLER)
    await refused(
        bench.network("in", "fd00:3::/112", ingress=True, ipv6_enabled=True), "InvalidArgument",
        "subnet fd00:3::/112 is too small: an ingress network needs at least a /96",
    )  # fmt: skip
    await bench.network("in", "fd00:3::/96", ingress=True, ipv6_enabled=True)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"gateway": "10.99.0.1"}, "invalid gateway 10.99.0.1: parent subnet 10.31.0.0/24 doesn't contain this address"),
        ({"gateway": "x"}, "invalid gateway x: invalid address"),
        ({"gateway": "10.31.0.255"}, "failed to allocate gateway (10.31.0.255): Address already in use"),
        ({"range": "10.30.0.0/25"}, "invalid ip-range 10.30.0.0/25: parent subnet 10.31.0.0/24 doesn't contain ip-range"),
        ({"reserved": {"a": "10.32.0.1"}},
         "invalid auxiliary address a 10.32.0.1: parent subnet 10.31.0.0/24 doesn't contain this address"),
        ({"gateway": "10.31.0.9", "reserved": {"a": "10.31.0.9"}},
         "failed to allocate gateway (10.31.0.9): Address already in use"),
    ],
)  # fmt: skip
async def test_refused_addresses(bench: Bench, config: dict[str, Any], text: str) -> None:
    ipam = model.IPAMOptions(configs=(model.IPAMConfig("10.31.0.0/24", **config),))
    request = model.CreateNetworkRequest(model.NetworkSpec(name="x", ipam=ipam))
    await refused(bench.control.create_network(request, CALLER), "InvalidArgument", text)


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("mtu", "abc", 'failed to parse abc: strconv.Atoi: parsing "abc": invalid syntax'),
        ("mtu", "20", "invalid MTU value: 20"),
        ("overlay.vxlanid_list", "5,6", "invalid vxlan id 5,6: one number below 16777216 is expected"),
        ("overlay.vxlanid_list", "77", "vxlan id 77 is already in use by network taken"),
    ],
)
async def test_refused_options(bench: Bench, option: str, value: str, text: str) -> None:
    await bench.put(model.Network(id="taken", vni=77, spec=model.NetworkSpec(name="taken")))
    driver = model.Driver("overlay", {f"com.docker.network.driver.{option}": value})
    await refused(bench.network("x", driver=driver), "InvalidArgument", text)


async def test_an_allocated_subnet_counts(bench: Bench) -> None:
    ipam = model.IPAMOptions(configs=(model.IPAMConfig(subnet="10.0.5.0/24", gateway="10.0.5.1"),))
    await bench.put(model.Network(id="n", spec=model.NetworkSpec(name="auto"), ipam=ipam))
    with pytest.raises(errors.InvalidArgument, match=r"overlaps subnet 10.0.5.0/24 of network auto"):
        await bench.network("x", "10.0.5.128/25")


async def test_networks_in_use(bench: Bench) -> None:
    net = await bench.network("my-net")
    made = await bench.create(spec("web", 80, networks=attached("my-net")))
    await refused(
        bench.control.remove_network(model.RemoveRequest("my-net"), CALLER),
        "FailedPrecondition",
        f"network {net.id} is in use by service {made.id}",
    )
    await refused(
        bench.control.remove_network(model.RemoveRequest("ingress"), CALLER),
        "FailedPrecondition",
        f"ingress network cannot be removed because service {made.id} depends on it",
    )
    await bench.control.remove_service(model.RemoveRequest("web"), CALLER)
    leg = model.NetworkAttachment(network_id=net.id, addresses=("10.0.1.5/24",))
    running = task("t1", made.id, model.TaskState.TASK_RUNNING, networks=(leg,))
    await bench.put(running)
    await refused(
        bench.control.remove_network(model.RemoveRequest("my-net"), CALLER),
        "FailedPrecondition",
        f"network {net.id} is in use by task t1",
    )
    await bench.put(replace(running, desired_state=model.TaskState.TASK_REMOVE))
    await bench.control.remove_network(model.RemoveRequest("my-net"), CALLER)


async def test_a_removed_network_stays_for_tasks_that_are_to_stop(bench: Bench) -> None:
    """Unseen by everybody, and in nobody's way: `stack rm` and `stack deploy` may follow each other at once."""
    net = await bench.network("my-net", "10.30.0.0/24")
    leg = model.NetworkAttachment(network_id=net.id, addresses=("10.30.0.5/24",))
    stopping = task("t1", "s1", model.TaskState.TASK_RUNNING, networks=(leg,), node_id="manager")
    await bench.put(replace(stopping, desired_state=model.TaskState.TASK_REMOVE))
    await bench.control.remove_network(model.RemoveRequest("my-net"), CALLER)
    assert bench.store.view().networks.get(net.id) == replace(
        net, pending_delete=True, version=net.version + 2, updated_at=77 * SECOND
    )
    for ref in ("my-net", net.id, net.id[:24]):
        gone = f"network {ref} not found"
        await refused(bench.control.get_network(model.GetRequest(ref), CALLER), "NotFound", gone)
        await refused(bench.control.remove_network(model.RemoveRequest(ref), CALLER), "NotFound", gone)
    await refused(
        bench.create(spec("web", networks=attached(net.id))), "NotFound", f"network {net.id} not found"
    )
    assert [n.id for n in (await bench.listed("networks")).networks] == ["ing"]
    again = await bench.network("my-net", "10.30.0.0/24")
    assert (await bench.control.get_network(model.GetRequest("my-net"), CALLER)).network == again
    # On a node that is Down nobody waits for anything.
    lost = replace(stopping, id="t2", node_id="worker", networks=(replace(leg, network_id=again.id),))
    await bench.put(replace(lost, desired_state=model.TaskState.TASK_REMOVE))
    await bench.control.remove_network(model.RemoveRequest("my-net"), CALLER)
    assert bench.store.view().networks.get(again.id) is None


async def test_the_nodes_own_network(bench: Bench) -> None:
    """The first service that wants it brings it about; nobody sees it in lists, and nobody can remove it."""
    one = await bench.create(spec("one", networks=attached("host")))
    two = await bench.create(spec("two"))
    two = await bench.update(two, spec("two", networks=attached("host")))
    (target,) = {a.target for s in (one, two) for a in s.spec.task.networks}
    found = bench.store.view().networks.get(target)
    assert found is not None
    assert found.spec == model.NetworkSpec(
        name="host",
        labels={"com.docker.swarm.predefined": "true"},
        driver=model.Driver("host"),
        scope="swarm",
    )
    assert [n.id for n in (await bench.listed("networks")).networks] == ["ing"]
    for key, value in (("name", "host"), ("id", target)):
        assert (await bench.listed("networks", (key, value))).networks == (found,)
    text = "host is a pre-defined network and cannot be removed"
    await refused(bench.control.remove_network(model.RemoveRequest(target), CALLER), "PermissionDenied", text)
    await bench.network("my-net")
    with pytest.raises(errors.InvalidArgument, match="can be in no other network"):
        await bench.create(spec("three", networks=attached("host", "my-net")))
    with pytest.raises(errors.InvalidArgument, match="it can publish none"):
        await bench.create(spec("three", 8080, networks=attached("host")))


async def test_use_of_a_network(bench: Bench) -> None:
    net = await bench.network("my-net")
    made = await bench.create(spec("web", networks=attached("my-net")))
    vip = model.Endpoint(virtual_ips=(model.VirtualIP(net.id, "10.0.1.2/24"),))
    leg = model.NetworkAttachment(network_id=net.id, addresses=("10.0.1.5/24",))
    one = task("t1", made.id, model.TaskState.TASK_RUNNING, networks=(leg,))
    await bench.put(
        replace(made, endpoint=vip), one, replace(one, id="t2", desired_state=model.TaskState.TASK_SHUTDOWN)
    )
    use = await bench.control.get_network_use(model.GetRequest("my-net"), CALLER)
    assert [(s.name, s.vip, [t.id for t in s.tasks]) for s in use.services] == [
        ("web", "10.0.1.2/24", ["t1"])
    ]
    assert [n.id for n in use.peers] == ["worker"]
