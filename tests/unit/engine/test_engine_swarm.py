"""/swarm, /info and /nodes of the engine."""

import dataclasses
import json

import pytest
from engine_fakes import NO_SWARM, NOT_MANAGER, grpc_error, method

from agent.engine.backend import (
    ALREADY_MEMBER,
    InitOptions,
    InterfaceAddress,
    JoinOptions,
    LocalState,
    Membership,
)
from common import errors, model

INIT = {
    "ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": "eth0", "DataPathAddr": "", "DataPathPort": 0,
    "ForceNewCluster": False,
    "Spec": {"Labels": None, "Orchestration": {"TaskHistoryRetentionLimit": 3}, "EncryptionConfig": {"AutoLockManagers": True}},
    "AutoLockManagers": True, "Availability": "drain", "DefaultAddrPool": ["10.20.0.0/16"], "SubnetSize": 26,
}  # fmt: skip
JOIN = {
    "ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": "", "DataPathAddr": "", "RemoteAddrs": ["192.0.2.9"],
    "JoinToken": "SWMTKN-1-x", "Availability": "",
}  # fmt: skip
MANAGER_PATHS = [
    ("GET", "/swarm"), ("GET", "/swarm/unlockkey"), ("POST", "/swarm/update?version=1"), ("GET", "/nodes"),
    ("GET", "/nodes/x"), ("POST", "/nodes/x/update?version=1"), ("DELETE", "/nodes/x"), ("GET", "/services"),
    ("POST", "/services/create"), ("GET", "/services/x"), ("POST", "/services/x/update?version=1"),
    ("DELETE", "/services/x"), ("GET", "/tasks"), ("GET", "/tasks/x"), ("GET", "/secrets"), ("GET", "/configs"),
    ("POST", "/secrets/create"), ("GET", "/services/x/logs"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), MANAGER_PATHS)
async def test_managers_things_need_a_manager(world, method, path):
    body = {} if method == "POST" else None
    assert await world.ask(method, path, body) == (503, {"message": NO_SWARM})
    world.swarm.become(manager=False)
    assert await world.ask(method, path, body) == (503, {"message": NOT_MANAGER})


async def test_init_hands_on_what_it_was_told(world):
    assert await world.ask("POST", "/swarm/init", INIT) == (200, "300wtmonao8ij4nj0yazfkfga")
    spec = model.ClusterSpec(
        orchestration=model.OrchestrationConfig(task_history_limit=3),
        encryption=model.EncryptionConfig(auto_lock_managers=True),
    )
    assert world.swarm.inits == [
        InitOptions(
            listen_addr="0.0.0.0:2377", advertise_addr="192.0.2.1:2377", spec=spec,
            default_address_pool=("10.20.0.0/16",), subnet_size=26, availability=model.Availability.DRAIN,
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"AdvertiseAddr": "300.1.1.1"}, "advertise address must be a non-zero IP address or network interface (with optional port number)"),
        ({"AdvertiseAddr": "nosuchif"}, "advertise address must be a non-zero IP address or network interface (with optional port number)"),
        ({"ListenAddr": "nosuchif"}, "listen address must be an IP address or network interface (with optional port number)"),
        ({"SubnetSize": 12}, 'invalid CIDR: "10.20.0.0/16". Subnet size is too small for pool: 12'),
        ({"DataPathPort": 80}, "Datapath port number is not in valid range (1024-49151)"),
        ({"Availability": "sleeping"}, 'invalid Availability: "sleeping"'),
        ({"Spec": {"Name": "other"}}, 'swarm spec must be named "default"'),
    ],
)  # fmt: skip
async def test_init_that_cannot_be(world, change, text):
    assert await world.ask("POST", "/swarm/init", {**INIT, **change}) == (400, {"message": text})
    assert not world.swarm.inits


async def test_init_on_a_machine_with_several_addresses(world):
    world.host.found.append(InterfaceAddress("eth1", "198.51.100.1/24"))
    status, body = await world.ask("POST", "/swarm/init", {**INIT, "AdvertiseAddr": ""})
    assert status == 400
    assert body["message"].startswith(
        "could not choose an IP address to advertise since this system has multiple"
    )


async def test_init_and_join_twice(world):
    world.swarm.become()
    assert await world.ask("POST", "/swarm/init", INIT) == (503, {"message": ALREADY_MEMBER})
    assert await world.ask("POST", "/swarm/join", JOIN) == (503, {"message": ALREADY_MEMBER})
    status, _ = await world.ask("POST", "/swarm/init", {**INIT, "ForceNewCluster": True})
    assert (status, world.swarm.inits[0].force_new_cluster) == (200, True)


async def test_join(world):
    assert await world.ask("POST", "/swarm/join", JOIN) == (200, "")
    assert world.swarm.joins == [JoinOptions(("192.0.2.9:2377",), "SWMTKN-1-x")]


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (errors.InvalidArgument("rpc error: code = InvalidArgument desc = A valid join token is necessary to join this cluster"), 400),
        (errors.ShoalError("invalid join token"), 500),
        (errors.Unavailable("rpc error: code = Unavailable desc = connection error"), 503),
    ],
)  # fmt: skip
async def test_a_join_that_fails_says_why(world, failure, status):
    world.swarm.failure = failure
    assert await world.ask("POST", "/swarm/join", JOIN) == (status, {"message": failure.message})


@pytest.mark.parametrize("remotes", [[], ["192.0.2.9:x"], [":2377"]])
async def test_join_without_an_address(world, remotes):
    status, _ = await world.ask("POST", "/swarm/join", {**JOIN, "RemoteAddrs": remotes})
    assert (status, world.swarm.joins) == (400, [])


async def test_leave(world):
    assert await world.ask("POST", "/swarm/leave?force=1") == (
        503,
        {"message": "This node is not part of a swarm"},
    )
    world.swarm.become()
    status, body = await world.ask("POST", "/swarm/leave?force=0")
    assert (status, body["message"][:37]) == (503, "You are attempting to leave the swarm")
    assert await world.ask("POST", "/swarm/leave?force=1") == (200, "")
    assert world.swarm.leaves == [True]


async def test_unlock(world):
    assert (await world.ask("POST", "/swarm/unlock", {"UnlockKey": "k"}))[0] == 503
    world.swarm.become()
    assert await world.ask("POST", "/swarm/unlock", {"UnlockKey": "k"}) == (
        409,
        {"message": "swarm is not locked"},
    )
    world.swarm.now = Membership(LocalState.LOCKED, "n", manager=True)
    assert await world.ask("POST", "/swarm/unlock", {"UnlockKey": "k"}) == (200, "")


async def test_swarm_shows_tokens_and_no_keys(manager):
    root = model.RootCA(b"cert", b"key", "digest", model.JoinTokens("SWMTKN-1-w", "SWMTKN-1-m"))
    manager.manager.cluster = dataclasses.replace(manager.manager.cluster, root_ca=root)
    status, body = await manager.ask("GET", "/swarm")
    assert (status, body["ID"], body["JoinTokens"]) == (
        200,
        "cluster",
        {"Worker": "SWMTKN-1-w", "Manager": "SWMTKN-1-m"},
    )
    assert list(body)[-1] == "JoinTokens"
    assert "key" not in json.dumps(body)


async def test_swarm_update(manager):
    path = "/swarm/update?version=1&rotateWorkerToken=true&rotateManagerToken=false"
    assert await manager.ask("POST", path, {"CAConfig": {"NodeCertExpiry": 7200000000000}}) == (200, "")
    request = manager.manager.requests[-1]
    assert (request.version, request.rotate_worker_token, request.rotate_manager_token) == (1, True, False)
    assert request.spec.ca.node_cert_expiry == 7200000000000
    assert await manager.ask("POST", path, {}) == (
        500, {"message": "rpc error: code = Unknown desc = update out of sequence"},
    )  # fmt: skip
    status, body = await manager.ask(
        "POST", "/swarm/update?version=100", {"CAConfig": {"NodeCertExpiry": 60}}
    )
    assert (status, body["message"]) == (
        400, "rpc error: code = InvalidArgument desc = minimum certificate expiry time is: 1h0m0s",
    )  # fmt: skip
    status, body = await manager.ask("POST", "/swarm/update?version=x", {})
    assert (status, body["message"][:27]) == (400, "invalid swarm version 'x': ")
    status, body = await manager.ask("POST", f"/swarm/update?version={'9' * 23}", {})
    assert (status, body["message"].rpartition(": ")[2]) == (400, "value out of range")
    for query, spec, text in (
        ("rotateWorkerToken=x", {}, "invalid value for rotateWorkerToken: x"),
        ("", {"Name": "mine"}, 'swarm spec must be named "default"'),
    ):
        assert await manager.ask("POST", f"/swarm/update?version=1&{query}", spec) == (
            400, {"message": text},
        )  # fmt: skip


async def test_a_body_that_is_none_comes_before_where_the_node_stands(manager):
    async with manager.client.post(
        "/swarm/join", data=b"{", headers={"Content-Type": "application/json"}
    ) as response:
        assert (response.status, await response.json()) == (400, {"message": "invalid JSON: unexpected EOF"})


# ---- info


async def test_info_without_a_swarm(world):
    _, body = await world.ask("GET", "/info")
    assert body["Swarm"] == {
        "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False, "Error": "",
        "RemoteManagers": None,
    }  # fmt: skip
    assert body["RegistryConfig"]["Mirrors"] == ["http://192.0.2.254:5000/"]
    assert body["RegistryConfig"]["IndexConfigs"]["docker.io"]["Official"] is True
    assert (body["Name"], body["NCPU"], body["ServerVersion"]) == ("manager1", 2, "28.2.2")


async def test_what_runs_the_containers_is_told(world):
    _, body = await world.ask("GET", "/info")
    assert (body["DefaultRuntime"], body["Runtimes"]) == ("crun", {"crun": {"path": "/usr/bin/crun"}})
    assert (body["ContainerdCommit"]["ID"], body["RuncCommit"]["ID"]) == ("1.6.20-1", "f8a096b")
    assert body["InitBinary"] == "docker-init"
    _, body = await world.ask("GET", "/version")
    shown = {c["Name"]: (c["Version"], c["Details"]["GitCommit"]) for c in body["Components"][2:]}
    assert shown == {"containerd": ("1.6.20", "1.6.20-1"), "crun": ("1.8.1", "f8a096b")}


async def test_info_of_a_manager(manager):
    _, body = await manager.ask("GET", "/info")
    swarm = body["Swarm"]
    assert (swarm["Nodes"], swarm["Managers"], swarm["Cluster"]["ID"]) == (2, 1, "cluster")
    assert swarm["RemoteManagers"] == [{"NodeID": "300wtmonao8ij4nj0yazfkfga", "Addr": "192.0.2.1:2377"}]
    assert "JoinTokens" not in swarm["Cluster"]


async def test_info_of_a_locked_manager(manager):
    """As Docker's: the node tells nothing of itself but its address."""

    def locked(request):
        raise errors.Unavailable(errors.SWARM_LOCKED)

    manager.manager.GetCluster = manager.manager.ListNodes = method(locked)
    status, body = await manager.ask("GET", "/info")
    assert status == 200
    assert body["Swarm"] == {
        "NodeID": "",
        "NodeAddr": manager.swarm.now.node_addr,
        "LocalNodeState": "locked",
        "ControlAvailable": False,
        "Error": errors.SWARM_LOCKED,
        "RemoteManagers": None,
    }
    assert await manager.ask("GET", "/nodes") == (503, {"message": errors.SWARM_LOCKED})


async def test_info_of_a_manager_that_does_not_answer(manager):
    async def silent(request, **options):
        raise grpc_error(errors.DeadlineExceeded("Deadline Exceeded"))

    manager.manager.GetCluster = silent
    status, body = await manager.ask("GET", "/info")
    assert (status, body["Swarm"]["ControlAvailable"]) == (200, False)
    assert body["Swarm"]["Error"] == "rpc error: code = DeadlineExceeded desc = context deadline exceeded"


# ---- nodes


async def test_nodes(manager):
    status, body = await manager.ask("GET", "/nodes")
    assert (status, [n["Description"]["Hostname"] for n in body]) == (200, ["manager1", "worker1"])
    assert body[0]["ManagerStatus"] == {"Leader": True, "Reachability": "reachable", "Addr": "192.0.2.1:2377"}
    _, body = await manager.ask("GET", "/nodes", params={"filters": '{"name":["work"]}'})
    assert [n["ID"] for n in body] == ["mseqvqglwscezaod1f00byvv3"]
    filters = {"filters": '{"foo":{"bar":true}}'}
    assert await manager.ask("GET", "/nodes", params=filters) == (400, {"message": "Invalid filter 'foo'"})
    assert await manager.ask("GET", "/nodes/nosuch") == (404, {"message": "node nosuch not found"})


async def test_a_node_that_changes_is_encoded_anew(manager):
    path = "/nodes/worker1"
    _, before = await manager.ask("GET", path)
    assert (await manager.ask("GET", path))[1] == before
    node = manager.manager.nodes["mseqvqglwscezaod1f00byvv3"]
    manager.manager.add(dataclasses.replace(node, status=model.NodeStatus(model.NodeState.NODE_DOWN)))
    assert (await manager.ask("GET", path))[1]["Status"] == {"State": "down"}


async def test_a_node_cannot_be_updated_to_nothing(manager):
    for body in (b"null", b"{}"):
        async with manager.client.post(
            "/nodes/node1/update?version=1", data=body, headers={"Content-Type": "application/json"}
        ) as response:
            assert (response.status, await response.json()) == (400, {"message": 'invalid Role: ""'})


async def test_node_update(manager):
    spec = {"Labels": {"a": "b"}, "Role": "worker", "Availability": "drain"}
    assert await manager.ask("POST", "/nodes/worker1/update?version=21", spec) == (200, "")
    assert (await manager.ask("GET", "/nodes/worker1"))[1]["Spec"] == spec
    for change, text in (
        ({"Availability": "sleeping"}, 'invalid Availability: "sleeping"'),
        ({"Role": "boss"}, 'invalid Role: "boss"'),
        ({"Role": None}, 'invalid Role: ""'),
    ):
        answer = await manager.ask("POST", "/nodes/worker1/update?version=100", {**spec, **change})
        assert answer == (400, {"message": text})


async def test_node_remove(manager):
    text = "rpc error: code = FailedPrecondition desc = node mseqvqglwscezaod1f00byvv3 is not down and can't be removed"
    assert await manager.ask("DELETE", "/nodes/worker1") == (400, {"message": text})
    assert await manager.ask("DELETE", "/nodes/worker1?force=1") == (200, "")
    assert await manager.ask("DELETE", "/nodes/worker1?force=1") == (
        404,
        {"message": "node worker1 not found"},
    )
