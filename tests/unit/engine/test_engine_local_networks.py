"""Networks of this node's own, and containers on them, as the Engine API shows them."""

import asyncio
import dataclasses

import pytest
from engine_fakes import NOW, World

from agent.runtime.api import ContainerState, ExitStatus, Status

CREATE = {
    "Driver": "bridge", "Scope": "", "IPAM": {"Driver": "default", "Options": {}, "Config": []}, "Internal": False,
    "Attachable": False, "Ingress": False, "ConfigOnly": False, "ConfigFrom": None, "Options": {}, "Labels": {},
    "Name": "net",
}  # fmt: skip
POOL = {
    "Driver": "default",
    "Options": {},
    "Config": [{"Subnet": "172.28.0.0/16", "Gateway": "172.28.0.254"}],
}
RUN = {"Image": "nginx"}


@pytest.fixture
async def engine(tmp_path):
    async with World() as world:
        runtime = world.runtime

        def change(id, **more):
            runtime.running = [dataclasses.replace(c, **more) if c.id == id else c for c in runtime.running]

        async def create(config):
            (tmp_path / config.id).mkdir()
            runtime.running.append(
                ContainerState(
                    config.id, config.name, config.image, config.labels, Status.CREATED, config=config
                )
            )

        async def container(id):
            return next((c for c in runtime.running if c.id == id), None)

        async def start_container(id):
            change(id, status=Status.RUNNING, pid=9)
            return 9

        async def kill(id, signal="SIGKILL"):
            change(id, status=Status.STOPPED, pid=0, exit=ExitStatus(137))

        async def remove(id, force=False):
            runtime.running = [c for c in runtime.running if c.id != id]

        async def readdress(id, addresses):
            """/etc/hosts is written."""

        async def wait(id, condition="not-running"):
            return ExitStatus(0)

        for function in (create, container, start_container, remove, readdress, wait, kill):
            setattr(runtime, function.__name__, function)
        runtime.folder = lambda id: str(tmp_path / id)
        await asyncio.sleep(0)
        yield world


async def run(engine, name, network="default", **host):
    body = {**RUN, "HostConfig": {"NetworkMode": network, **host}}
    status, made = await engine.ask("POST", f"/containers/create?name={name}", body)
    assert status == 201, made
    return (made["Id"], *await engine.ask("POST", f"/containers/{name}/start"))


async def test_the_life_of_a_network(engine):
    status, made = await engine.ask(
        "POST", "/networks/create", {**CREATE, "Labels": {"a": "b"}, "IPAM": POOL}
    )
    assert (status, len(made["Id"])) == (201, 64)
    assert await engine.ask("POST", "/networks/create", CREATE) == (
        409, {"message": "network with name net already exists"},
    )  # fmt: skip
    listed = {n["Name"]: n for n in (await engine.ask("GET", "/networks"))[1]}
    assert set(listed) == {"net", "bridge", "host", "none"}
    one, *_ = await run(engine, "one", "net")
    _, shown = await engine.ask("GET", "/networks/net")
    assert (shown["Scope"], shown["Driver"], shown["Labels"], shown["IPAM"]["Config"]) == (
        "local", "bridge", {"a": "b"}, POOL["Config"],
    )  # fmt: skip
    assert shown["Containers"][one]["IPv4Address"] == "172.28.0.1/16"
    assert listed["net"]["Containers"] == {}
    status, body = await engine.ask("DELETE", "/networks/net")
    assert (status, body["message"].partition(" id ")[0]) == (
        403,
        "error while removing network: network net",
    )
    assert await engine.ask("POST", "/networks/prune") == (200, {"NetworksDeleted": None})
    await engine.ask("DELETE", "/containers/one?force=1")
    assert await engine.ask("POST", "/networks/prune") == (200, {"NetworksDeleted": ["net"]})
    assert (await engine.ask("GET", "/networks/net"))[0] == 404


async def test_the_default_bridge(engine):
    one, *_ = await run(engine, "one")
    _, shown = await engine.ask("GET", "/networks/bridge")
    assert shown["IPAM"]["Config"] == [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]
    assert shown["Options"]["com.docker.network.bridge.name"] == "docker0"
    assert shown["Containers"][one]["Name"] == "one"
    _, shown = await engine.ask("GET", "/containers/one/json")
    settings = shown["NetworkSettings"]
    assert (settings["IPAddress"], settings["Gateway"], settings["IPPrefixLen"]) == (
        "172.17.0.2",
        "172.17.0.1",
        16,
    )
    assert settings["Networks"]["bridge"]["Aliases"] is None
    assert (await engine.ask("DELETE", "/networks/bridge"))[0] == 403


def pools(*subnets):
    return {"IPAM": {"Config": [{"Subnet": subnet} for subnet in subnets]}}


def pool(**fields):
    return {"IPAM": {"Config": [{"Subnet": "172.28.0.0/24", **fields}]}}


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        (
            {"IPAM": {"Config": [{"Subnet": "172.17.9.0/24"}]}},
            403,
            "Pool overlaps with other one on this address space",
        ),
        ({"IPAM": {"Config": [{"Subnet": "x"}]}}, 500, "Invalid subnet x : invalid CIDR address: x"),
        ({"IPAM": {"Driver": "mine"}}, 404, 'plugin "mine" not found'),
        ({"EnableIPv6": True, "EnableIPv4": False}, 501, "bridge networks without IPv4 are not supported yet"),
        ({"EnableIPv6": True, "Options": {"com.docker.network.driver.mtu": "1200"}}, 400,
         "an MTU of 1200 is too small for IPv6: it needs 1280"),
        ({"EnableIPv4": False}, 400, "IPv4 or IPv6 must be enabled"),
        ({"Ingress": True}, 400, "Ingress network can only be global scope network"),
        ({"Name": ""}, 400, "invalid name: name is empty"),
        ({"Name": "default"}, 403, "operation is not permitted on predefined default network "),
        ({"IPAM": {"Driver": "null"}}, 400, "ipv4 pool is empty"),
        ({"IPAM": {"Config": {}}}, 400,
         "invalid JSON: json: cannot unmarshal object into Go struct field IPAM.IPAM.Config of type []network.IPAMConfig"),
        ({"IPAM": {"Config": [{}]}}, 500, "Invalid subnet  : invalid CIDR address: "),
        (pools("fd00::%eth0/64"), 500, "Invalid subnet fd00::%eth0/64 : invalid CIDR address: fd00::%eth0/64"),
        ({"IPAM": {"Config": [{"Subnet": "fd00:1::/64", "Gateway": "fd00:1::1%x"}]}}, 400,
         "invalid network config:\ninvalid gateway fd00:1::1%x: invalid address"),
        (pools("10.1.0.0/24", "10.2.0.0/24"), 403, "bridge driver doesn't support multiple subnets"),
        (pools("fd00:1::/64", "fd00:2::/64"), 403, "bridge driver doesn't support multiple subnets"),
        (pool(Gateway="172.28.0.0"), 403, "failed to allocate gateway (172.28.0.0): Address already in use"),
        (pool(Gateway="172.28.0.255"), 403, "failed to allocate gateway (172.28.0.255): Address already in use"),
        (pool(AuxiliaryAddresses={"b": "172.28.0.9", "a": "172.28.0.9"}), 403,
         "failed to allocate secondary ip address (b:172.28.0.9): Address already in use"),
        (pool(Gateway="172.28.0.1", AuxiliaryAddresses={"a": "172.28.0.1"}), 403,
         "failed to allocate secondary ip address (a:172.28.0.1): Address already in use"),
        ({"ConfigOnly": True, "ConfigFrom": {"Network": "x"}}, 400,
         "a configuration network cannot depend on another configuration network"),
    ],
)  # fmt: skip
async def test_what_cannot_be(engine, change, status, text):
    assert await engine.ask("POST", "/networks/create", {**CREATE, **change}) == (status, {"message": text})


async def test_a_network_of_both_families(engine):
    config = [{"Subnet": "fd00:1::/64"}]
    _, made = await engine.ask(
        "POST", "/networks/create", {**CREATE, "EnableIPv6": True, "IPAM": {"Config": config}}
    )
    other = {**CREATE, "Name": "other", "EnableIPv6": True}
    overlapping = {**other, "IPAM": {"Config": [{"Subnet": "fd00:1::/56"}]}}
    assert await engine.ask("POST", "/networks/create", overlapping) == (
        403, {"message": "Pool overlaps with other one on this address space"},
    )  # fmt: skip
    one, *_ = await run(engine, "one", "net", PortBindings={"80/tcp": [{"HostPort": "8080"}]})
    _, shown = await engine.ask("GET", "/networks/net")
    assert (shown["EnableIPv6"], shown["IPAM"]["Config"]) == (
        True, [{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}, {"Subnet": "fd00:1::/64"}],
    )  # fmt: skip
    assert shown["Containers"][one]["IPv6Address"] == "fd00:1::2/64"
    _, shown = await engine.ask("GET", "/containers/one/json")
    own = shown["NetworkSettings"]["Networks"]["net"]
    assert (own["GlobalIPv6Address"], own["GlobalIPv6PrefixLen"], own["IPv6Gateway"]) == (
        "fd00:1::2", 64, "fd00:1::1",
    )  # fmt: skip
    assert shown["NetworkSettings"]["Ports"]["80/tcp"] == [
        {"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"},
    ]  # fmt: skip
    given = {"NetworkingConfig": {"EndpointsConfig": {"net": {"IPAMConfig": {"IPv6Address": "fd00:1:0::9"}}}}}
    body = {**RUN, **given, "HostConfig": {"NetworkMode": "net"}}
    assert (await engine.ask("POST", "/containers/create?name=two", body))[0] == 201
    assert (await engine.ask("POST", "/containers/two/start"))[0] == 204
    _, shown = await engine.ask("GET", "/containers/two/json")
    own = shown["NetworkSettings"]["Networks"]["net"]
    assert (own["GlobalIPv6Address"], own["IPAMConfig"]) == ("fd00:1::9", {"IPv6Address": "fd00:1:0::9"})
    # Without a subnet one is made of the network's id.
    _, made = await engine.ask("POST", "/networks/create", other)
    _, shown = await engine.ask("GET", "/networks/other")
    subnet = shown["IPAM"]["Config"][1]["Subnet"]
    assert subnet.startswith("fd") and subnet.endswith("::/64")
    assert subnet.replace(":", "")[2:6] in made["Id"][:8]
    # So does one whose settings another network holds.
    kept = {**CREATE, "Name": "kept", "EnableIPv6": True, "ConfigOnly": True}
    assert (await engine.ask("POST", "/networks/create", kept))[0] == 201
    source = {**CREATE, "Name": "of-kept", "ConfigFrom": {"Network": "kept"}}
    assert (await engine.ask("POST", "/networks/create", source))[0] == 201
    _, shown = await engine.ask("GET", "/networks/of-kept")
    assert shown["EnableIPv6"] and len(shown["IPAM"]["Config"]) == 2
    # One that isn't for IPv6 shows a subnet all the same, and gives nothing of it.
    plain = {**CREATE, "Name": "plain", "IPAM": {"Config": [{"Subnet": "fd00:9::/64"}]}}
    await engine.ask("POST", "/networks/create", plain)
    await run(engine, "three", "plain")
    _, shown = await engine.ask("GET", "/networks/plain")
    assert (shown["EnableIPv6"], shown["IPAM"]["Config"][1]) == (False, {"Subnet": "fd00:9::/64"})
    assert {m["IPv6Address"] for m in shown["Containers"].values()} == {""}


async def test_connect_and_disconnect(engine):
    await engine.ask("POST", "/networks/create", {**CREATE, "IPAM": POOL})
    one, *_ = await run(engine, "one")
    given = {"IPAMConfig": {"IPv4Address": "172.28.0.9"}, "Aliases": ["al"]}
    path = "/networks/net/connect"
    assert (await engine.ask("POST", path, {"Container": "one", "EndpointConfig": given}))[0] == 200
    _, shown = await engine.ask("GET", "/containers/one/json")
    net = shown["NetworkSettings"]["Networks"]["net"]
    assert (net["IPAddress"], net["Aliases"], net["Gateway"], net["IPAMConfig"]) == (
        "172.28.0.9", ["al"], "172.28.0.254", {"IPv4Address": "172.28.0.9"},
    )  # fmt: skip
    assert net["DNSNames"] == ["one", "al", one[:12]]
    assert await engine.ask("POST", path, {"Container": "one"}) == (
        403, {"message": "endpoint with name one already exists in network net"},
    )  # fmt: skip
    assert (await engine.ask("POST", "/networks/net/disconnect", {"Container": "one"}))[0] == 200
    assert await engine.ask("POST", "/networks/net/disconnect", {"Container": "one"}) == (
        500, {"message": f"container {one} is not connected to network net"},
    )  # fmt: skip
    await run(engine, "two", "host")
    for container, network, text in (
        ("one", "host", "container cannot be disconnected from host network or connected to host network"),
        ("two", "net",
         "container sharing network namespace with another container or host cannot be connected to any other network"),
        ("one", "none",
         "container cannot be connected to multiple networks with one of the networks in private (none) mode"),
    ):  # fmt: skip
        assert await engine.ask("POST", f"/networks/{network}/connect", {"Container": container}) == (
            400, {"message": text},
        )  # fmt: skip
    wrong = {"Container": "one", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "x"}}}
    assert await engine.ask("POST", path, wrong) == (400, {"message": "invalid IPv4 address: x"})
    assert (await engine.ask("POST", path, {"Container": "three"}))[0] == 404
    nobody = (400, {"message": 'invalid name or ID supplied: ""'})
    assert await engine.ask("POST", path, {"Container": ""}) == nobody
    assert await engine.ask("POST", "/networks/net/disconnect", {}) == nobody
    assert (await engine.ask("POST", "/networks/net/disconnect", {"Container": "one", "Force": 1}))[0] == 400
    assert (await engine.ask("POST", "/networks/nosuch/connect", {"Container": "one"}))[0] == 404
    given = {"IPAMConfig": {"IPv4Address": "10.0.0.1"}}
    status, body = await engine.ask("POST", path, {"Container": "one", "EndpointConfig": given})
    assert (status, body["message"]) == (
        400, "Invalid address 10.0.0.1: It does not belong to any of this network's subnets",
    )  # fmt: skip


async def test_containers_of_tasks_are_their_services(engine):
    await engine.ask("POST", "/networks/create", CREATE)
    engine.runtime.running.append(
        ContainerState(
            "t" * 64, "web.1.x", "nginx", {"com.docker.swarm.task.id": "x"}, Status.RUNNING, created_at=NOW
        )
    )
    status, body = await engine.ask("POST", "/networks/net/connect", {"Container": "web.1.x"})
    assert (status, "its networks are those of its service" in body["message"]) == (403, True)


async def test_ports(engine):
    asked = {"80/tcp": [{"HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "8081"}]}
    _, status, _ = await run(engine, "one", PortBindings=asked)
    assert status == 204
    (listed,) = (await engine.ask("GET", "/containers/json"))[1]
    assert listed["Ports"] == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "Type": "tcp", "PublicPort": 8080},
        {"IP": "127.0.0.1", "PrivatePort": 80, "Type": "tcp", "PublicPort": 8081},
    ]
    _, shown = await engine.ask("GET", "/containers/one/json")
    assert shown["NetworkSettings"]["Ports"]["80/tcp"] == [
        {"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "8081"},
    ]  # fmt: skip
    assert shown["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "8081"}]
    }
    two, status, body = await run(engine, "two", PortBindings=asked)
    assert (status, body["message"]) == (
        500,
        f"driver failed programming external connectivity on endpoint two ({two}): "
        "Bind for 0.0.0.0:8080 failed: port is already allocated",
    )


async def test_networks_that_hold_a_configuration(engine):
    config = {**CREATE, "Name": "config", "ConfigOnly": True, "IPAM": POOL, "Internal": True}
    assert (await engine.ask("POST", "/networks/create", config))[0] == 201
    _, shown = await engine.ask("GET", "/networks/config")
    assert (shown["Driver"], shown["ConfigOnly"]) == ("null", True)
    taking = {**CREATE, "ConfigFrom": {"Network": "config"}}
    status, body = await engine.ask("POST", "/networks/create", {**taking, "Options": {"a": "b"}})
    assert (status, body["message"].partition(" if ")[0]) == (
        400,
        "user specified configurations are not supported",
    )
    assert (await engine.ask("POST", "/networks/create", taking))[0] == 201
    _, shown = await engine.ask("GET", "/networks/net")
    assert (shown["Driver"], shown["ConfigFrom"], shown["Internal"]) == (
        "bridge",
        {"Network": "config"},
        True,
    )
    assert shown["IPAM"]["Config"] == POOL["Config"]
    assert await engine.ask("DELETE", "/networks/config") == (
        403, {"message": 'configuration network "config" is in use'},
    )  # fmt: skip
    assert await engine.ask("POST", "/networks/create", {**taking, "Name": "x", "ConfigFrom": {"Network": "y"}}) == (
        404, {"message": 'configuration network "y" does not exist'},
    )  # fmt: skip
    _, status, body = await run(engine, "one", "config")
    assert (status, body["message"]) == (500, "network config not found")


async def test_filters(engine):
    await engine.ask("POST", "/networks/create", CREATE)
    await engine.ask("POST", "/networks/create", {**CREATE, "Name": "free"})
    await run(engine, "one", "net")
    await run(engine, "two")
    for value, names in (("net", ["/one"]), ("bridge", ["/two"]), ("nosuch", [])):
        _, listed = await engine.ask("GET", f'/containers/json?filters={{"network":["{value}"]}}')
        assert [c["Names"][0] for c in listed] == names
    _, listed = await engine.ask("GET", '/networks?filters={"dangling":["true"]}')
    assert [n["Name"] for n in listed] == ["free"]


def test_top():
    from agent.engine.processes import table
    from common import errors

    text = "UID PID CMD\nroot 7 sleep 10\nroot 8 other\n"
    assert table(text, [7]) == {"Titles": ["UID", "PID", "CMD"], "Processes": [["root", "7", "sleep 10"]]}
    with pytest.raises(errors.InvalidArgument, match="Couldn't find PID field in ps output"):
        table("UID CMD\n", [7])


async def test_pause_and_rename(engine):
    runtime = engine.runtime

    async def rename(id, name):
        runtime.running = [dataclasses.replace(c, name=name) if c.id == id else c for c in runtime.running]

    async def pause(id):
        runtime.running = [dataclasses.replace(c, status=Status.PAUSED) for c in runtime.running]

    async def resume(id):
        runtime.running = [dataclasses.replace(c, status=Status.RUNNING) for c in runtime.running]

    runtime.rename, runtime.pause, runtime.resume = rename, pause, resume
    one, *_ = await run(engine, "one")
    two, *_ = await run(engine, "two")
    path = "/containers/one/"
    assert (await engine.ask("POST", path + "pause"))[0] == 204
    assert await engine.ask("POST", path + "pause") == (
        409,
        {"message": f"Container {one} is already paused"},
    )
    (listed, _) = (await engine.ask("GET", "/containers/json"))[1]
    assert "(Paused)" in listed["Status"]
    assert (await engine.ask("POST", path + "unpause"))[0] == 204
    assert await engine.ask("POST", path + "unpause") == (409, {"message": f"Container {one} is not paused"})
    status, body = await engine.ask("POST", path + "rename?name=two")
    assert (status, f'"/two" is already in use by container "{two}"' in body["message"]) == (409, True)
    assert (await engine.ask("POST", path + "rename?name=-"))[0] == 400
    assert (await engine.ask("POST", path + "rename?name=three"))[0] == 204
    _, shown = await engine.ask("GET", "/networks/bridge")
    assert shown["Containers"][one]["Name"] == "three"


async def test_host_gateway(engine):
    await engine.ask("POST", "/networks/create", {**CREATE, "IPAM": POOL})
    for network, expected in (("default", "172.17.0.1"), ("net", "172.28.0.254"), ("host", "127.0.0.1")):
        one, *_ = await run(
            engine, f"on-{network}", network, ExtraHosts=["box:host-gateway", "other:192.0.2.7"]
        )
        _, shown = await engine.ask("GET", f"/containers/{one}/json")
        assert shown["HostConfig"]["ExtraHosts"] == ["box:host-gateway", "other:192.0.2.7"]
        config = next(c.config for c in engine.runtime.running if c.id == one)
        assert config.extra_hosts == (f"box:{expected}", "other:192.0.2.7")
    body = {**RUN, "HostConfig": {"NetworkMode": "none", "ExtraHosts": ["box:host-gateway"]}}
    assert (await engine.ask("POST", "/containers/create", body))[0] == 400


async def test_who_is_on_the_nodes_own_network(engine):
    """Inspected, `host` and `none` show who runs there, without addresses."""
    two, *_ = await run(engine, "two", "host")
    three, *_ = await run(engine, "three", "none")
    for network, id, name in (("host", two, "two"), ("none", three, "three")):
        _, shown = await engine.ask("GET", f"/networks/{network}")
        assert list(shown["Containers"]) == [id]
        member = shown["Containers"][id]
        assert len(member.pop("EndpointID")) == 64
        assert member == {"Name": name, "MacAddress": "", "IPv4Address": "", "IPv6Address": ""}
    await engine.ask("DELETE", "/containers/two?force=1")
    assert (await engine.ask("GET", "/networks/host"))[1]["Containers"] == {}


async def test_names_with_slashes(engine):
    """Docker takes nearly any name for a network of one node: what can be made can be inspected and removed."""
    assert (await engine.ask("POST", "/networks/create", {**CREATE, "Name": "a/b"}))[0] == 201
    one, *_ = await run(engine, "one")
    for ref in ("a/b", "a%2Fb"):
        assert (await engine.ask("GET", f"/networks/{ref}"))[1]["Name"] == "a/b"
    for action in ("connect", "disconnect"):
        assert (await engine.ask("POST", f"/networks/a/b/{action}", {"Container": one}))[0] == 200
    assert (await engine.ask("DELETE", "/networks/a/b"))[0] == 204
    assert await engine.ask("GET", "/networks/a/b") == (404, {"message": "network a/b not found"})


async def test_a_configuration_may_name_any_driver(engine):
    """As `docker network create -d overlay --config-only` does: it stays this node's own."""
    config = {**CREATE, "Name": "config", "ConfigOnly": True, "Driver": "overlay"}
    assert (await engine.ask("POST", "/networks/create", config))[0] == 201
    _, shown = await engine.ask("GET", "/networks/config")
    assert (shown["Driver"], shown["Scope"], shown["ConfigOnly"]) == ("null", "local", True)
