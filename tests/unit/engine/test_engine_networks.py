"""/networks of the engine: overlays and local ones in one list, in Docker's shape."""

import dataclasses
import json

import pytest
from engine_fakes import NO_SWARM, NOW

from agent.engine.backend import InterfaceAddress
from agent.runtime.api import ContainerState, Status
from agent.state import NodeState
from common import model

WEB = model.Network(
    id="la5i6y4ct6mere8zry8m5me1n", version=9, created_at=NOW, vni=4097,
    spec=model.NetworkSpec(name="my-net", driver=model.Driver("overlay")),
    ipam=model.IPAMOptions(configs=(model.IPAMConfig("10.0.1.0/24", "", "10.0.1.1"),)),
)  # fmt: skip
INGRESS = model.Network(
    id="s1mo1oara02noss80dxbgzfy7", version=3, created_at=NOW, vni=4096,
    spec=model.NetworkSpec(name="ingress", ingress=True, driver=model.Driver("overlay")),
    ipam=model.IPAMOptions(configs=(model.IPAMConfig("10.0.0.0/16", "", "10.0.0.1"),)),
)  # fmt: skip
CREATE = {
    "Driver": "overlay", "Scope": "", "IPAM": {"Driver": "default", "Options": {}, "Config": []}, "Internal": False,
    "Attachable": False, "Ingress": False, "ConfigOnly": False, "ConfigFrom": None, "Options": {}, "Labels": {},
    "Name": "my-net", "CheckDuplicate": True,
}  # fmt: skip
SEEN_BY_A_MANAGER = {
    "Name": "my-net",
    "Id": "la5i6y4ct6mere8zry8m5me1n",
    "Created": "2026-11-21T02:20:20Z",
    "Scope": "swarm",
    "Driver": "overlay",
    "EnableIPv6": False,
    "IPAM": {
        "Driver": "default",
        "Options": None,
        "Config": [{"Subnet": "10.0.1.0/24", "Gateway": "10.0.1.1"}],
    },
    "Internal": False,
    "Attachable": False,
    "Ingress": False,
    "ConfigFrom": {"Network": ""},
    "ConfigOnly": False,
    "Containers": None,
    "Options": {"com.docker.network.driver.overlay.vxlanid_list": "4097"},
    "Labels": None,
}


@pytest.fixture
def managing(manager):
    manager.manager.add(INGRESS, WEB)
    manager.host.found.append(InterfaceAddress("docker_gwbridge", "172.18.0.1/16"))
    return manager


def on_a_worker(world):
    """worker1 runs one of two tasks of a service in my-net."""
    world.swarm.become(manager=False, node_id="w1")
    endpoints = [
        model.EndpointRecord("t1", WEB.id, "10.0.1.3", "w1", "s1", "web.1.t1", (), model.EndpointState.ENDPOINT_SERVING),
        model.EndpointRecord("t2", WEB.id, "10.0.1.4", "w2", "s1", "web.2.t2", (), model.EndpointState.ENDPOINT_SERVING),
    ]  # fmt: skip
    world.swarm.assigned = NodeState(
        node_id="w1",
        networks={WEB.id: WEB, INGRESS.id: INGRESS},
        endpoints={(e.task_id, e.network_id): e for e in endpoints},
        nodes={
            "w1": model.NodeRecord("w1", "worker1", "192.0.2.2", "10.0.0.3", 2),
            "w2": model.NodeRecord("w2", "worker2", "192.0.2.3", "10.0.0.4", 3),
        },
        services={
            "s1": model.ServiceRecord(
                "s1", "web", model.EndpointMode.VIP, (model.VirtualIP(WEB.id, "10.0.1.2/24"),)
            )
        },
    )
    world.runtime.running = [
        ContainerState(
            "c" * 64, "web.1.t1", "nginx:latest", {"com.docker.swarm.task.id": "t1"}, Status.RUNNING
        )
    ]


async def test_list_of_a_manager(managing):
    status, body = await managing.ask("GET", "/v1.47/networks")
    assert status == 200
    assert [(n["Name"], n["Driver"], n["Scope"]) for n in body] == [
        ("ingress", "overlay", "swarm"), ("my-net", "overlay", "swarm"), ("docker_gwbridge", "bridge", "local"),
        ("none", "null", "local"), ("host", "host", "local"), ("bridge", "bridge", "local"),
    ]  # fmt: skip
    assert body[1] == SEEN_BY_A_MANAGER
    assert list(body[1]) == list(SEEN_BY_A_MANAGER)
    assert body[2]["IPAM"]["Config"] == [{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}]
    assert body[2]["Options"]["com.docker.network.bridge.name"] == "docker_gwbridge"


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({"driver": ["overlay"]}, ["ingress", "my-net"]),
        ({"scope": ["local"], "type": ["custom"]}, ["docker_gwbridge"]),
        ({"type": ["builtin"]}, ["none", "host", "bridge"]),
        ({"name": ["my-"]}, ["my-net"]),
        ({"id": ["la5i6"]}, ["my-net"]),
        ({"name": ["^my-net$"]}, ["my-net"]),
        ({"name": ["^net"]}, []),
        ({"name": ["^.*-net$"]}, ["my-net"]),
        ({"name": ["in?gr.ss"]}, ["ingress"]),
        ({"name": ["[", "(my|your)-net"]}, ["my-net"]),
        ({"id": ["5i6y4"]}, ["my-net"]),
        ({"driver": [], "name": {}, "scope": ["swarm"]}, ["ingress", "my-net"]),
        ({"name": ["bridge", "net$"]}, ["my-net", "docker_gwbridge", "bridge"]),
        ({"label": ["a=b"]}, []),
        ({"dangling": ["true"]}, ["my-net"]),
        ({"dangling": ["false"], "scope": ["swarm"]}, ["ingress"]),
    ],
)
async def test_list_with_filters(managing, wanted, names):
    _, body = await managing.ask("GET", "/networks", params={"filters": json.dumps(wanted)})
    assert [n["Name"] for n in body] == names


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"type": ["foo"]}, "invalid filter: 'type'='foo'"),
        ({"dangling": ["true", "false"]}, 'got more than one value for filter key "dangling"'),
        ({"dangling": ["x"]},
         'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")'),
    ],
)  # fmt: skip
async def test_filters_that_mean_nothing(managing, wanted, text):
    answer = await managing.ask("GET", "/networks", params={"filters": json.dumps(wanted)})
    assert answer == (400, {"message": text})


async def test_inspect_on_a_manager_that_takes_no_part(managing):
    for ref in ("my-net", WEB.id, WEB.id[:6]):
        assert await managing.ask("GET", f"/v1.47/networks/{ref}") == (200, SEEN_BY_A_MANAGER)
        newer = {**SEEN_BY_A_MANAGER, "EnableIPv4": True}
        assert await managing.ask("GET", f"/v1.48/networks/{ref}") == (200, newer)
    assert (await managing.ask("GET", "/networks/my-net?scope=swarm"))[0] == 200
    assert (await managing.ask("GET", "/networks/my-net?scope=local"))[0] == 404
    status, body = await managing.ask("GET", "/networks/bridge?scope=swarm")
    assert (status, body["message"].partition(":")[0]) == (404, "network bridge not found in the swarm")
    assert "overlay driver" in body["message"], "services need one of those"
    assert await managing.ask("GET", "/networks/nosuch") == (404, {"message": "network nosuch not found"})
    assert (await managing.ask("GET", "/networks/my-net?verbose=T"))[0] == 200
    wrong = 'invalid value for verbose: yes: strconv.ParseBool: parsing "yes": invalid syntax'
    assert await managing.ask("GET", "/networks/my-net?verbose=yes") == (400, {"message": wrong})
    assert await managing.ask("GET", "/networks/") == await managing.ask("GET", "/networks")
    assert (await managing.ask("GET", "/networks/docker_gwbridge"))[1]["Scope"] == "local"


async def test_docker_gwbridge_shows_who_is_in_it(managing):
    on_a_worker(managing)
    managing.gateways = {"t1": "172.18.0.3", "elsewhere": "172.18.0.4"}
    status, body = await managing.ask("GET", "/networks/docker_gwbridge")
    assert (status, list(body["Containers"])) == (200, ["c" * 64, "ingress-sbox"])
    member = body["Containers"]["c" * 64]
    assert (member["Name"], member["IPv4Address"]) == ("gateway_" + "c" * 12, "172.18.0.3/16")
    assert member["MacAddress"] == "02:42:ac:12:00:03"
    managing.gateways = {}
    _, body = await managing.ask("GET", "/networks/docker_gwbridge")
    assert list(body["Containers"]) == ["ingress-sbox"], "a container without an address there isn't in it"
    mesh = body["Containers"]["ingress-sbox"]
    assert (mesh["Name"], mesh["IPv4Address"]) == ("gateway_ingress-sbox", "172.18.0.1/16")
    managing.swarm.assigned = NodeState()
    assert (await managing.ask("GET", "/networks/docker_gwbridge"))[1]["Containers"] == {}


async def test_the_mesh_is_called_after_its_network(managing):
    """As it is shown of an ingress network of one's own."""
    on_a_worker(managing)
    own = dataclasses.replace(INGRESS, spec=dataclasses.replace(INGRESS.spec, name="my-ingress"))
    state = managing.swarm.assigned
    managing.swarm.assigned = dataclasses.replace(state, networks={**state.networks, own.id: own})
    managing.manager.add(own)
    _, body = await managing.ask("GET", "/networks/my-ingress")
    assert body["Containers"]["my-ingress-sbox"]["Name"] == "my-ingress-endpoint"
    _, body = await managing.ask("GET", "/networks/docker_gwbridge")
    assert body["Containers"]["my-ingress-sbox"]["Name"] == "gateway_my-ingress-s"


async def test_inspect_on_a_worker(world):
    world.swarm.become(manager=False, node_id="w1")
    assert await world.ask("GET", "/networks/my-net") == (404, {"message": "network my-net not found"})
    on_a_worker(world)
    _, body = await world.ask("GET", "/networks/my-net")
    inside = body["Containers"]["c" * 64]
    assert len(inside.pop("EndpointID")) == 64
    assert inside == {
        "Name": "web.1.t1", "MacAddress": "02:42:0a:00:01:03", "IPv4Address": "10.0.1.3/24", "IPv6Address": "",
    }  # fmt: skip
    assert list(body["Containers"]) == ["c" * 64, "lb-my-net"]
    balancer = body["Containers"]["lb-my-net"]
    assert len(balancer.pop("EndpointID")) == 64
    assert balancer == {
        "Name": "my-net-endpoint", "MacAddress": "02:42:0a:00:01:01", "IPv4Address": "10.0.1.1/24", "IPv6Address": "",
    }  # fmt: skip
    assert [peer["IP"] for peer in body["Peers"]] == ["192.0.2.2", "192.0.2.3"]
    assert all(len(peer["Name"]) == 12 for peer in body["Peers"])
    assert (body["Labels"], list(body)[-1]) == ({}, "Peers")
    _, body = await world.ask("GET", "/networks/ingress")
    assert list(body["Containers"]) == ["ingress-sbox"]
    assert body["Containers"]["ingress-sbox"]["IPv4Address"] == "10.0.0.3/16"
    _, body = await world.ask("GET", "/networks/ingress?verbose=true")
    mesh = body["Services"][""]
    assert (mesh["VIP"], mesh["Ports"], mesh["LocalLBIndex"]) == ("<nil>", [], 0)
    assert [(t["Name"], t["EndpointIP"], t["Info"]["Host IP"]) for t in mesh["Tasks"]] == [
        ("ingress-endpoint", "10.0.0.3", "192.0.2.2"), ("ingress-endpoint", "10.0.0.4", "192.0.2.3"),
    ]  # fmt: skip
    assert mesh["Tasks"][0]["EndpointID"] == body["Containers"]["ingress-sbox"]["EndpointID"]
    _, body = await world.ask("GET", "/networks/my-net?verbose=true&scope=swarm")
    assert list(body["Containers"]) == ["c" * 64, "lb-my-net"], (
        "the scope says where to look, not what is shown"
    )
    assert body["Services"]["web"]["VIP"] == "10.0.1.2"
    assert [task["EndpointIP"] for task in body["Services"]["web"]["Tasks"]] == ["10.0.1.3", "10.0.1.4"]


async def test_verbose_groups_tasks_by_service(world):
    """What Docker shows: a service without a VIP has none, what belongs to no service stands under an empty name."""
    on_a_worker(world)
    alone = model.EndpointRecord("t9", WEB.id, "10.0.1.9", "w1", "", "c1")
    state = world.swarm.assigned
    world.swarm.assigned = dataclasses.replace(
        state,
        endpoints={**state.endpoints, ("t9", WEB.id): alone},
        services={"s1": model.ServiceRecord("s1", "web", model.EndpointMode.DNSRR)},
    )
    _, body = await world.ask("GET", "/networks/my-net?verbose=true")
    assert list(body["Services"]) == ["", "web"]
    loose = body["Services"][""]
    assert (loose["VIP"], loose["Ports"], loose["LocalLBIndex"]) == ("<nil>", [], 0)
    (task,) = loose["Tasks"]
    assert (task["Name"], task["EndpointIP"], task["Info"]) == ("c1", "10.0.1.9", {"Host IP": "192.0.2.2"})
    assert (body["Services"]["web"]["VIP"], len(body["Services"]["web"]["Tasks"])) == ("<nil>", 2)


async def test_the_nodes_own_network_as_services_ask_for_it(managing):
    """Before the first service is in it, its name stands for its id; afterwards it is a network as others are."""
    status, body = await managing.ask("GET", "/networks/host?scope=swarm")
    assert (status, body["Id"], body["Driver"], body["Scope"]) == (200, "host", "host", "swarm")
    assert body["Labels"] == {"com.docker.swarm.predefined": "true"}
    labels = {"com.docker.swarm.predefined": "true"}
    spec = model.NetworkSpec(name="host", labels=labels, driver=model.Driver("host"), scope="swarm")
    managing.manager.add(model.Network(id="own25", created_at=NOW, spec=spec))
    for ref in ("host?scope=swarm", "own25"):
        assert (await managing.ask("GET", f"/networks/{ref}"))[1]["Id"] == "own25"
    assert (await managing.ask("GET", "/networks/host"))[1]["Scope"] == "local"
    assert (await managing.ask("GET", "/networks/bridge?scope=swarm"))[0] == 404
    world = managing
    world.swarm.become(manager=False, node_id="w1")
    network = managing.manager.networks["own25"]
    world.swarm.assigned = NodeState(node_id="w1", networks={"own25": network})
    _, body = await world.ask("GET", "/networks")
    assert [n["Scope"] for n in body if n["Name"] == "host"] == ["local"]


async def test_names_that_mean_several(managing):
    one = dataclasses.replace(WEB, id="la5zzz", spec=dataclasses.replace(WEB.spec, name="other"))
    managing.manager.add(one)
    text = "network la5 is ambiguous (2 matches found based on ID prefix)"
    assert await managing.ask("DELETE", "/networks/la5") == (400, {"message": text})
    text = "2 matches found based on ID prefix: network la5 is ambiguous"
    assert await managing.ask("GET", "/networks/la5") == (400, {"message": text})
    assert (await managing.ask("GET", "/networks/la5z"))[1]["Name"] == "other"
    assert (await managing.ask("DELETE", "/networks/la5z"))[0] == 204


async def test_list_of_a_worker_has_only_what_it_uses(world):
    on_a_worker(world)
    _, body = await world.ask("GET", "/networks", params={"filters": '{"scope":["swarm"]}'})
    assert [n["Name"] for n in body] == ["my-net", "ingress"]
    state, again = world.swarm.assigned, dataclasses.replace(WEB, id="again")
    going = {WEB.id: dataclasses.replace(WEB, pending_delete=True), "again": again}
    world.swarm.assigned = dataclasses.replace(state, networks=going)
    _, body = await world.ask("GET", "/networks", params={"filters": '{"scope":["swarm"]}'})
    assert [n["Id"] for n in body] == ["again"], "one that has been removed is seen no more"
    assert (await world.ask("GET", "/networks/my-net"))[1]["Id"] == "again"


async def test_create(manager):
    pool = {"Subnet": "10.9.0.0/24", "IPRange": "10.9.0.0/25", "Gateway": "10.9.0.1"}
    kept = {"Subnet": "10.10.0.0/24", "AuxiliaryAddresses": {"printer": "10.10.0.9"}}
    body = {
        **CREATE,
        "IPAM": {"Config": [pool, kept], "Options": {"x": "y"}},
        "Options": {"encrypted": ""},
        "Labels": {"a": "b"},
        "Attachable": True,
    }
    status, made = await manager.ask("POST", "/networks/create", body)
    assert (status, list(made), made["Warning"]) == (201, ["Id", "Warning"], "")
    assert manager.manager.requests[-1].spec == model.NetworkSpec(
        name="my-net", labels={"a": "b"}, driver=model.Driver("overlay", {"encrypted": ""}), attachable=True,
        ipam=model.IPAMOptions(
            model.Driver("default", {"x": "y"}),
            (
                model.IPAMConfig("10.9.0.0/24", "10.9.0.0/25", "10.9.0.1"),
                model.IPAMConfig("10.10.0.0/24", reserved={"printer": "10.10.0.9"}),
            ),
        ),
    )  # fmt: skip
    answer = await manager.ask("POST", "/networks/create", CREATE)
    assert answer == (409, {"message": "network with name my-net already exists"})


def pool(**fields):
    return {"IPAM": {"Config": [fields]}}


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"Driver": "nosuchdriver"}, 404, 'plugin "nosuchdriver" not found'),
        ({"Scope": "local"}, 403, "cannot downgrade network scope for overlay networks"),
        ({"IPAM": {"Config": [{"Subnet": "foo"}]}}, 500, "Invalid subnet foo : invalid CIDR address: foo"),
        ({"Name": "bad name!"}, 400, "rpc error: code = InvalidArgument desc = name must be valid as a DNS name component"),
        (pool(Subnet="10.9.0.0"), 500, "Invalid subnet 10.9.0.0 : invalid CIDR address: 10.9.0.0"),
        (pool(Gateway="10.9.0.1"), 500, "Invalid subnet  : invalid CIDR address: "),
        (pool(Subnet="10.9.0.0/24", Gateway="10.99.0.1"), 400,
         "invalid network config:\ninvalid gateway 10.99.0.1: parent subnet 10.9.0.0/24 doesn't contain this address"),
        (pool(Subnet="10.9.0.0/24", Gateway="fd00::1"), 400,
         "invalid network config:\ninvalid gateway fd00::1: parent subnet is an IPv4 block"),
        (pool(Subnet="10.9.0.0/24", IPRange="10.9.0.0/16"), 400,
         "invalid network config:\ninvalid ip-range 10.9.0.0/16: CIDR block is bigger than its parent subnet 10.9.0.0/24"),
        (pool(Subnet="10.9.0.0/24", IPRange="10.8.0.0/25"), 400,
         "invalid network config:\ninvalid ip-range 10.8.0.0/25: parent subnet 10.9.0.0/24 doesn't contain ip-range"),
        (pool(Subnet="10.9.0.0/24", IPRange="x", AuxiliaryAddresses={"a": "y"}), 400,
         "invalid network config:\ninvalid ip-range x: invalid CIDR block notation\n"
         "invalid auxiliary address a: invalid address"),
        ({"IPAM": []}, 400, "invalid JSON: json: cannot unmarshal array into Go struct field CreateRequest.IPAM of type network.IPAM"),
        ({"IPAM": {"Config": {}}}, 400,
         "invalid JSON: json: cannot unmarshal object into Go struct field IPAM.IPAM.Config of type []network.IPAMConfig"),
        ({"Options": {"a": 1}}, 400,
         "invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Options of type string"),
        ({"Name": ""}, 400, "invalid name: name is empty"),
        ({"CheckDuplicate": "x"}, 400,
         "invalid JSON: json: cannot unmarshal string into Go struct field CreateRequest.CheckDuplicate of type bool"),
        ({"EnableIPv4": False}, 400, "IPv4 cannot be disabled in a Swarm scoped network"),
        ({"Name": "host"}, 403, "operation is not permitted on predefined host network "),
        ({"Driver": "macvlan"}, 501, "networks of driver macvlan are not supported yet: use overlay or bridge"),
        ({"Driver": "host"}, 403, 'only one instance of "host" network is allowed'),
    ],
)  # fmt: skip
async def test_create_that_cannot_be(manager, change, status, text):
    assert await manager.ask("POST", "/networks/create", {**CREATE, **change}) == (status, {"message": text})


async def test_create_needs_a_manager(world):
    assert await world.ask("POST", "/networks/create", CREATE) == (500, {"message": NO_SWARM})
    world.swarm.become(manager=False)
    text = "Cannot create a multi-host network from a worker node. Please create the network from a manager node."
    assert await world.ask("POST", "/networks/create", CREATE) == (403, {"message": text})


async def test_remove(managing):
    answer = await managing.ask("DELETE", "/networks/bridge")
    assert answer == (403, {"message": "bridge is a pre-defined network and cannot be removed"})
    status, body = await managing.ask("DELETE", "/networks/docker_gwbridge")
    assert (status, body["message"][-20:]) == (403, "has active endpoints")
    task = model.TaskSpec(networks=(model.NetworkAttachmentConfig(WEB.id),))
    managing.manager.add(model.Service(id="s1", version=1, spec=model.ServiceSpec(name="web", task=task)))
    text = f"rpc error: code = FailedPrecondition desc = network {WEB.id} is in use by service s1"
    assert await managing.ask("DELETE", "/networks/my-net") == (400, {"message": text})
    assert await managing.ask("POST", "/networks/prune") == (200, {"NetworksDeleted": None})
    managing.manager.services.clear()
    assert (await managing.ask("DELETE", "/networks/my-net"))[0] == 204
    assert await managing.ask("DELETE", "/networks/my-net") == (404, {"message": "network my-net not found"})


async def test_prune(managing):
    labelled = dataclasses.replace(
        WEB, id="other", spec=dataclasses.replace(WEB.spec, name="kept", labels={"a": "b"})
    )
    managing.manager.add(labelled)
    path = "/networks/prune"
    managing.manager.add(
        dataclasses.replace(labelled, id="new", created_at=NOW + 1, spec=model.NetworkSpec(name="new"))
    )
    until_now = {"label!": ["a"], "until": [f"{NOW // 10**9}"]}
    answer = await managing.ask("POST", path, params={"filters": json.dumps(until_now)})
    assert answer == (200, {"NetworksDeleted": ["my-net"]})
    for until in (["never"], ["1h", "2h"]):
        wrong = json.dumps({"until": until})
        assert (await managing.ask("POST", path, params={"filters": wrong}))[0] == 400
    managing.manager.add(WEB)
    managing.manager.networks.pop("new")
    answer = await managing.ask("POST", path, params={"filters": '{"label!":{"a":true}}'})
    assert answer == (200, {"NetworksDeleted": ["my-net"]})
    assert await managing.ask("POST", path) == (200, {"NetworksDeleted": ["kept"]})


async def test_inspect_of_both_families(world):
    on_a_worker(world)
    state = world.swarm.assigned
    six = model.IPAMConfig("fd00:1::/64", gateway="fd00:1::1")
    both = dataclasses.replace(
        WEB,
        spec=dataclasses.replace(WEB.spec, ipv6_enabled=True),
        ipam=dataclasses.replace(WEB.ipam, configs=(*WEB.ipam.configs, six)),
    )
    legs = {
        key: dataclasses.replace(leg, addr6=f"fd00:1::{n}") if leg.network_id == WEB.id else leg
        for n, (key, leg) in enumerate(state.endpoints.items(), 3)
    }
    world.swarm.assigned = dataclasses.replace(
        state, networks={**state.networks, WEB.id: both}, endpoints=legs
    )
    _, body = await world.ask("GET", "/networks/my-net")
    assert body["EnableIPv6"] is True
    assert [pool["Subnet"] for pool in body["IPAM"]["Config"]] == ["10.0.1.0/24", "fd00:1::/64"]
    inside = body["Containers"]["c" * 64]
    mine = legs["t1", WEB.id].addr6
    assert (inside["IPv4Address"], inside["IPv6Address"]) == ("10.0.1.3/24", f"{mine}/64")
    assert body["Containers"]["lb-my-net"]["IPv4Address"] == "10.0.1.1/24"
