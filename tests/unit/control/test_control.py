"""The Control service over a store in memory: what it writes, answers and refuses."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest

from common import errors, model, rpc
from manager.allocator.subnets import mesh_subnet
from manager.control.service import Control
from manager.raft.consensus import MemberStatus
from manager.store import Store, StoreObject

CALLER = rpc.Caller(frozenset({model.Role.ROLE_LOCAL}))
SECOND = 10**9


class Clock:
    def now_ns(self) -> int:
        return 77 * SECOND

    def monotonic(self) -> float:
        return 77.0


class Agreed:
    """Consensus that agrees at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.term, self.leader, self.applied = 1, True, 0
        self.leader_id, self.removed = "manager", False
        self.status = {"manager": True}  # who answers

    async def propose(self, data: bytes) -> int:
        self.applied += 1
        self._store.apply(self.applied, 1, data)
        return self.applied

    async def read_index(self) -> int:
        return self.applied

    def members(self) -> tuple[MemberStatus, ...]:
        return tuple(
            MemberStatus(model.RaftMember(n, name, f"{name}:2377"), True, name == self.leader_id, up)
            for n, (name, up) in enumerate(self.status.items(), 1)
        )

    async def changed(self) -> None: ...

    async def leading(self, leads: bool) -> None: ...

    async def add(self, member: model.RaftMember) -> None: ...

    async def remove(self, node_id: str) -> None: ...

    async def transfer(self, node_id: str = "") -> None: ...

    async def start(self) -> None: ...

    async def run(self) -> None: ...

    async def stop(self) -> None: ...


class Bench:
    """Control with everything below it."""

    def __init__(self) -> None:
        self.store = Store(Clock())
        self.consensus = Agreed(self.store)
        self.store.attach(self.consensus.propose)
        self._ids = (f"id{n:023}" for n in range(1000))
        self.control = Control(
            self.store, self.consensus, Clock(), "manager", lambda: next(self._ids), lambda n: bytes(n)
        )

    async def put(self, *objects: StoreObject) -> None:
        await self.store.update(lambda tx: [tx.put(thing) for thing in objects])

    async def create(self, spec: model.ServiceSpec) -> model.Service:
        return (await self.control.create_service(model.CreateServiceRequest(spec), CALLER)).service

    async def update(self, service: model.Service, spec: model.ServiceSpec, **other: Any) -> model.Service:
        request = model.UpdateServiceRequest(service.id, service.version, spec, **other)
        return (await self.control.update_service(request, CALLER)).service

    async def network(self, name: str, subnet: str = "", **other: Any) -> model.Network:
        ipam = model.IPAMOptions(configs=(model.IPAMConfig(subnet=subnet),)) if subnet else None
        spec = model.NetworkSpec(name=name, ipam=ipam, **other)
        return (await self.control.create_network(model.CreateNetworkRequest(spec), CALLER)).network

    async def listed(self, what: str, *terms: tuple[str, str], status: bool = False) -> Any:
        request = model.ListRequest(tuple(model.FilterTerm(k, v) for k, v in terms), status)
        return await getattr(self.control, f"list_{what}")(request, CALLER)


@pytest.fixture
async def bench() -> Bench:
    made = Bench()
    await made.put(
        node("manager", role=model.NodeRole.MANAGER),
        node("worker", model.NodeState.NODE_DOWN),
        model.Network(id="ing", spec=model.NetworkSpec(name="ingress", ingress=True)),
        model.Cluster(id="cluster"),
    )
    return made


def node(
    key: str,
    state: model.NodeState = model.NodeState.NODE_READY,
    role: model.NodeRole = model.NodeRole.WORKER,
    **description: Any,
) -> model.Node:
    return model.Node(
        id=key,
        spec=model.NodeSpec(role=role, labels={"zone": key}),
        description=model.NodeDescription(hostname=f"host-{key}", **description),
        status=model.NodeStatus(state=state),
        role=role,
        manager_status=model.ManagerStatus() if role is model.NodeRole.MANAGER else None,
    )


def spec(name: str = "web", *published: int, **task: Any) -> model.ServiceSpec:
    ports = tuple(model.PortConfig(target_port=80, published_port=p) for p in published)
    return model.ServiceSpec(
        name=name,
        labels={"tier": "back"},
        task=model.TaskSpec(container=model.ContainerSpec(image="nginx"), **task),
        mode=model.ServiceMode(replicated=model.ReplicatedMode(replicas=3)),
        endpoint=model.EndpointSpec(ports=ports) if ports else None,
    )


def attached(*targets: str) -> tuple[model.NetworkAttachmentConfig, ...]:
    return tuple(model.NetworkAttachmentConfig(target=t) for t in targets)


async def refused(attempt: Awaitable[object], code: str, text: str) -> None:
    with pytest.raises(errors.ShoalError) as raised:
        await attempt
    assert (raised.value.code, raised.value.message) == (code, text)


# ---- services


async def test_create_and_get(bench: Bench) -> None:
    made = await bench.create(spec())
    assert made.version == made.spec_version == 2
    assert made.created_at == made.updated_at == 77 * SECOND
    for ref in (made.id, "web", "WEB", made.id[:-1]):
        got = await bench.control.get_service(model.GetRequest(ref), CALLER)
        assert got.service == made
    shown = await bench.control.get_service(model.GetRequest("web", insert_defaults=True), CALLER)
    assert shown.service.spec.update is not None
    await refused(
        bench.control.get_service(model.GetRequest("nosuch"), CALLER), "NotFound", "service nosuch not found"
    )
    await bench.create(spec("other"))
    await refused(
        bench.control.get_service(model.GetRequest("id"), CALLER),
        "Unknown",
        "service id is ambiguous (2 matches found)",
    )


async def test_duplicate_names(bench: Bench) -> None:
    await bench.create(spec("helloworld"))
    await refused(
        bench.create(spec("helloworld")),
        "AlreadyExists",
        "name conflicts with an existing object: service helloworld already exists",
    )
    assert len(bench.store.view().services) == 1


async def test_two_creates_at_once_give_one_service(bench: Bench) -> None:
    results = await asyncio.gather(*(bench.create(spec("one")) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(r, errors.AlreadyExists) for r in results) == 4


async def test_ports_in_use(bench: Bench) -> None:
    made = await bench.create(spec("web", 8080))
    text = f"port '8080' is already in use by service 'web' ({made.id}) as an ingress port"
    await refused(bench.create(spec("other", 8080)), "InvalidArgument", text)
    host = replace(
        spec("host", 9090),
        endpoint=model.EndpointSpec(
            ports=(
                model.PortConfig(target_port=80, published_port=9090, publish_mode=model.PublishMode.HOST),
            )
        ),
    )
    first = await bench.create(host)
    await bench.create(replace(host, name="host2"))
    await refused(
        bench.create(spec("third", 9090)),
        "InvalidArgument",
        f"port '9090' is already in use by service 'host' ({first.id}) as a host-published port",
    )
    other = await bench.create(spec("other", 8081))
    await refused(bench.update(other, spec("other", 8080)), "InvalidArgument", text)
    await bench.update(made, spec("web", 8080, force_update=1))


async def test_a_port_that_was_handed_out_is_in_use(bench: Bench) -> None:
    given = model.PortConfig("", model.PortProtocol.TCP, 80, 30000, model.PublishMode.INGRESS)
    await bench.put(model.Service(id="dyn", spec=spec("dynamic"), endpoint=model.Endpoint(ports=(given,))))
    with pytest.raises(errors.InvalidArgument, match="port '30000' is already in use by service 'dynamic'"):
        await bench.create(spec("x", 30000))


async def test_publishing_needs_the_ingress_network(bench: Bench) -> None:
    await bench.control.remove_network(model.RemoveRequest("ingress"), CALLER)
    await refused(
        bench.create(spec("web", 80)),
        "FailedPrecondition",
        "service needs ingress network, but no ingress network is present",
    )
    await bench.create(spec("web"))


async def test_networks_by_name_or_id(bench: Bench) -> None:
    net = await bench.network("my-net")
    made = await bench.create(spec(networks=attached("my-net", net.id)))
    assert [a.target for a in made.spec.task.networks] == [net.id]
    await refused(
        bench.create(spec("x", networks=attached("nosuch"))), "NotFound", "network nosuch not found"
    )
    await refused(
        bench.create(spec("x", networks=attached("ingress"))),
        "InvalidArgument",
        'Service cannot be explicitly attached to the ingress network "ingress"',
    )


async def test_update(bench: Bench) -> None:
    made = await bench.create(spec())
    scaled_spec = replace(made.spec, mode=model.ServiceMode(replicated=model.ReplicatedMode(replicas=9)))
    scaled = await bench.update(made, scaled_spec)
    assert scaled.version > made.version
    assert scaled.spec_version == made.spec_version
    assert scaled.previous_spec == made.spec
    await refused(bench.update(made, scaled_spec), "Unknown", "update out of sequence")
    forced = await bench.update(scaled, replace(scaled_spec, task=replace(scaled_spec.task, force_update=1)))
    assert forced.spec_version == forced.version
    assert forced.previous_spec_version == made.spec_version
    await refused(bench.update(forced, spec("new")), "Unimplemented", "renaming services is not supported")


async def test_rollback(bench: Bench) -> None:
    made = await bench.create(spec())
    await refused(
        bench.update(made, model.ServiceSpec(), rollback=True),
        "FailedPrecondition",
        f"service {made.id} does not have a previous spec",
    )
    second = await bench.update(made, spec(force_update=5))
    back = await bench.update(second, model.ServiceSpec(), rollback=True)
    assert back.spec == made.spec
    assert back.spec_version == made.spec_version
    assert back.previous_spec == second.spec
    assert back.update_status == model.UpdateStatus(
        model.UpdateState.UPDATE_ROLLBACK_STARTED, 77 * SECOND, 0, "manually requested rollback"
    )


async def test_registry_credentials_stay(bench: Bench) -> None:
    secret = replace(
        spec(), task=model.TaskSpec(container=model.ContainerSpec(image="nginx", pull_auth="abc"))
    )
    made = await bench.create(secret)
    again = await bench.update(made, spec(force_update=1))
    assert again.spec.task.container is not None
    assert again.spec.task.container.pull_auth == "abc"


async def test_remove(bench: Bench) -> None:
    await bench.create(spec())
    await bench.control.remove_service(model.RemoveRequest("web"), CALLER)
    assert len(bench.store.view().services) == 0
    await refused(
        bench.control.remove_service(model.RemoveRequest("web"), CALLER), "NotFound", "service web not found"
    )


async def test_lists_of_services(bench: Bench) -> None:
    web = await bench.create(spec("web"))
    await bench.create(replace(spec("redis"), labels={}))
    await bench.put(
        task("t1", web.id, model.TaskState.TASK_RUNNING),
        task("t2", web.id, model.TaskState.TASK_FAILED, model.TaskState.TASK_SHUTDOWN),
    )

    async def found(*terms: tuple[str, str]) -> list[str]:
        return [s.spec.name for s in (await bench.listed("services", *terms)).services]

    assert await found() == ["web", "redis"]
    assert await found(("name", "we")) == ["web"]
    assert await found(("name", "web"), ("name", "redis")) == ["web", "redis"]
    assert await found(("id", "web")) == []
    assert await found(("id", web.id[:-1]), ("name", "web")) == ["web"]
    assert await found(("label", "tier")) == ["web"]
    assert await found(("label", "tier=back")) == ["web"]
    assert await found(("label", "tier=front")) == []
    assert await found(("mode", "replicated")) == ["web", "redis"]
    assert await found(("mode", "global")) == []
    with pytest.raises(errors.InvalidArgument, match="Invalid filter 'foo'"):
        await found(("foo", "bar"))
    listed = (await bench.listed("services", ("name", "web"), status=True)).services
    assert listed[0].status == model.ServiceStatus(1, 3, 0)
    assert (await bench.listed("services")).services[0].status is None


# ---- tasks


def task(
    key: str,
    service_id: str,
    state: model.TaskState = model.TaskState.TASK_NEW,
    desired: model.TaskState = model.TaskState.TASK_RUNNING,
    **other: Any,
) -> model.Task:
    fields: dict[str, Any] = {"name": f"web.1.{key}", "slot": 1, "node_id": "worker"} | other
    return model.Task(
        id=key,
        service_id=service_id,
        status=model.TaskStatus(state=state),
        desired_state=desired,
        **fields,
    )


async def test_lists_of_tasks(bench: Bench) -> None:
    web = await bench.create(spec("web"))
    net = await bench.network("my-net")
    leg = model.NetworkAttachment(network_id=net.id, addresses=("10.0.1.5/24",))
    await bench.put(
        task("t1", web.id, spec_version=web.spec_version, networks=(leg,)),
        task("t2", web.id, desired=model.TaskState.TASK_SHUTDOWN, node_id="manager"),
        task("t3", "gone"),
    )

    async def found(*terms: tuple[str, str]) -> list[str]:
        return [t.id for t in (await bench.listed("tasks", *terms)).tasks]

    assert await found() == ["t1", "t2", "t3"]
    assert await found(("service", "web")) == ["t1", "t2"]
    assert await found(("service", web.id), ("_up-to-date", "true")) == ["t1"]
    assert await found(("node", "host-worker")) == ["t1", "t3"]
    assert await found(("node", "manager"), ("service", "web")) == ["t2"]
    assert await found(("desired-state", "running")) == ["t1", "t3"]
    assert await found(("desired-state", "shutdown"), ("desired-state", "running")) == ["t1", "t2", "t3"]
    assert await found(("id", "t2")) == ["t2"]
    assert await found(("name", "web.1.t1")) == ["t1"]
    await refused(found(("node", "nosuch")), "NotFound", "node nosuch not found")
    await refused(found(("service", "nosuch")), "NotFound", "service nosuch not found")
    await refused(
        found(("desired-state", "asleep")), "InvalidArgument", "Invalid desired-state filter: 'asleep'"
    )
    one = (await bench.control.get_task(model.GetRequest("t1"), CALLER)).task
    assert one.networks[0].network == net
    stored = bench.store.view().tasks.get("t1")
    assert stored is not None
    assert stored.networks[0].network is None
    await refused(
        bench.control.get_task(model.GetRequest("nosuch"), CALLER), "NotFound", "task nosuch not found"
    )


# ---- nodes


async def test_lists_of_nodes(bench: Bench) -> None:
    async def found(*terms: tuple[str, str]) -> list[str]:
        return [n.id for n in (await bench.listed("nodes", *terms)).nodes]

    assert await found() == ["manager", "worker"]
    assert await found(("role", "worker")) == ["worker"]
    assert await found(("name", "host-w")) == ["worker"]
    assert await found(("membership", "accepted")) == ["manager", "worker"]
    assert await found(("node.label", "zone=worker")) == ["worker"]
    assert await found(("id", "man")) == ["manager"]
    with pytest.raises(errors.InvalidArgument, match="Invalid filter 'foo'"):
        await found(("foo", "bar"))
    shown = (await bench.control.get_node(model.GetRequest("host-manager"), CALLER)).node
    assert shown.manager_status is not None
    assert shown.manager_status.leader
    await refused(
        bench.control.get_node(model.GetRequest("nosuch"), CALLER), "NotFound", "node nosuch not found"
    )


async def test_updates_of_nodes(bench: Bench) -> None:
    worker = bench.store.view().nodes.get("worker")
    manager = bench.store.view().nodes.get("manager")
    assert worker is not None
    assert manager is not None
    drained = replace(worker.spec, availability=model.Availability.DRAIN, labels={"a": "b"})
    request = model.UpdateNodeRequest("worker", worker.version, drained)
    reply = await bench.control.update_node(request, CALLER)
    assert reply.node.spec == drained
    await refused(bench.control.update_node(request, CALLER), "Unknown", "update out of sequence")
    demoted = replace(manager.spec, role=model.NodeRole.WORKER)
    await refused(
        bench.control.update_node(model.UpdateNodeRequest("manager", manager.version, demoted), CALLER),
        "FailedPrecondition",
        "attempting to demote the last manager of the swarm",
    )


async def test_removal_of_nodes(bench: Bench) -> None:
    await bench.put(node("ready"))
    await refused(
        bench.control.remove_node(model.RemoveRequest("manager", force=True), CALLER),
        "FailedPrecondition",
        "node manager is a cluster manager and is a member of the raft cluster. "
        "It must be demoted to worker before removal",
    )
    await refused(
        bench.control.remove_node(model.RemoveRequest("host-ready"), CALLER),
        "FailedPrecondition",
        "node ready is not down and can't be removed",
    )
    await bench.control.remove_node(model.RemoveRequest("ready", force=True), CALLER)
    await bench.control.remove_node(model.RemoveRequest("host-worker"), CALLER)
    assert [n.id for n in bench.store.view().nodes.all()] == ["manager"]


async def managers(bench: Bench, **up: bool) -> None:
    """Managers beside the first one; the value says whether they answer."""
    bench.consensus.status |= up
    for name in up:
        status = model.ManagerStatus(False, model.Reachability.REACHABLE, f"{name}:2377", 9)
        made = replace(node(name), role=model.NodeRole.MANAGER, manager_status=status)
        await bench.put(replace(made, spec=replace(made.spec, role=model.NodeRole.MANAGER)))


async def role(bench: Bench, name: str, wanted: model.NodeRole) -> model.Node:
    known = bench.store.view().nodes.get(name)
    assert known is not None
    spec = replace(known.spec, role=wanted)
    return (await bench.control.update_node(model.UpdateNodeRequest(name, known.version, spec), CALLER)).node


async def test_managers_come_and_go(bench: Bench) -> None:
    promoted = await role(bench, "worker", model.NodeRole.MANAGER)
    assert (promoted.spec.role, promoted.role) == (model.NodeRole.MANAGER, model.NodeRole.WORKER)
    await refused(
        role(bench, "manager", model.NodeRole.WORKER),
        "FailedPrecondition",
        "attempting to demote the last manager of the swarm",
    )
    assert (await role(bench, "worker", model.NodeRole.WORKER)).spec.role is model.NodeRole.WORKER
    await role(bench, "worker", model.NodeRole.MANAGER)
    await bench.control.remove_node(model.RemoveRequest("worker"), CALLER)


async def test_a_demotion_that_costs_the_quorum(bench: Bench) -> None:
    await managers(bench, second=True, third=False)
    lost = "can't remove member from the raft: this would result in a loss of quorum"
    await refused(role(bench, "second", model.NodeRole.WORKER), "FailedPrecondition", lost)
    await refused(role(bench, "manager", model.NodeRole.WORKER), "FailedPrecondition", lost)
    await refused(
        bench.control.remove_node(model.RemoveRequest("third", force=True), CALLER),
        "FailedPrecondition",
        "node third is a cluster manager and is a member of the raft cluster. "
        "It must be demoted to worker before removal",
    )
    await role(bench, "third", model.NodeRole.WORKER)
    await bench.control.remove_node(model.RemoveRequest("third", force=True), CALLER)
    assert (await role(bench, "manager", model.NodeRole.WORKER)).spec.role is model.NodeRole.WORKER
    await refused(
        role(bench, "second", model.NodeRole.WORKER),
        "FailedPrecondition",
        "attempting to demote the last manager of the swarm",
    )


async def test_every_manager_shows_who_leads(bench: Bench) -> None:
    await managers(bench, second=True)
    bench.consensus.leader, bench.consensus.leader_id = False, "second"
    shown = (await bench.control.list_nodes(model.ListRequest(), CALLER)).nodes
    assert {n.id: n.manager_status.leader for n in shown if n.manager_status} == {
        "manager": False,
        "second": True,
    }


# ---- networks


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


# ---- the swarm


async def test_updates_of_the_swarm(bench: Bench) -> None:
    cluster = (await bench.control.get_cluster(model.Nothing(), CALLER)).cluster
    root = model.RootCA(digest="ab" * 32, join_tokens=model.JoinTokens("w", "m"))
    await bench.put(replace(cluster, root_ca=root))
    cluster = bench.store.view().cluster
    request = model.UpdateClusterRequest(
        version=cluster.version,
        spec=model.ClusterSpec(dispatcher=model.DispatcherConfig(heartbeat_period=7 * SECOND)),
        rotate_worker_token=True,
    )
    after = (await bench.control.update_cluster(request, CALLER)).cluster
    assert after.spec.dispatcher.heartbeat_period == 7 * SECOND
    assert after.root_ca.join_tokens.worker.startswith("SWMTKN-1-")
    assert after.root_ca.join_tokens.manager == "m"
    await refused(bench.control.update_cluster(request, CALLER), "Unknown", "update out of sequence")


async def test_the_unlock_key_comes_with_autolock_and_goes_with_it(bench):
    async def update(locked: bool, rotate: bool = False) -> tuple[str, int]:
        cluster = bench.store.view().cluster
        spec = model.ClusterSpec(encryption=model.EncryptionConfig(locked))
        request = model.UpdateClusterRequest(cluster.version, spec, rotate_unlock_key=rotate)
        await bench.control.update_cluster(request, CALLER)
        reply = await bench.control.get_cluster(model.Nothing(), CALLER)
        return reply.unlock_key, reply.cluster.unlock_generation

    assert await update(False, rotate=True) == ("", 0)
    key, generation = await update(True)
    assert (key[:9], len(key), generation) == ("SWMKEY-1-", 52, 1)
    assert await update(True) == (key, 1)
    assert (await update(True, rotate=True))[1] == 2
    assert await update(False) == ("", 3)
