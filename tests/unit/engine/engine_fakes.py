"""Fakes of what the engine is given: a swarm whose manager is plain dicts, a runtime with plain lists, a machine."""

import dataclasses
import itertools

import grpc
import grpc.aio
from aiohttp import test_utils

from agent.engine.app import Engine, server
from agent.engine.backend import Backend, InterfaceAddress, LocalState, Membership, NodeInfo
from agent.network.api import Sandbox
from agent.network.bridges import Local
from agent.runtime import reference
from agent.runtime.api import Versions
from agent.runtime.image import (
    Descriptor,
    Distribution,
    ImageConfig,
    ImageInfo,
    Platform,
    PullEvent,
    RemovedImage,
)
from agent.single.attachments import Attachments
from agent.single.containers import Singles
from agent.single.execs import Execs
from agent.single.networks import LocalNetworks
from agent.single.record import LocalNetwork
from agent.state import NodeState
from agent.statuses import StatusQueue
from common import errors, ids, model, rpc
from common.clock import SystemClock

NOW = 1_795_227_620_000_000_000
NO_SWARM = 'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'
NOT_MANAGER = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this "
    "command on a manager node or promote the current node to a manager."
)
DIGEST = "sha256:" + "5" * 64


def grpc_error(error: errors.ShoalError) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        rpc.STATUS[error.code], grpc.aio.Metadata(), grpc.aio.Metadata(), error.message
    )


def method(function):
    """A stub's method: what the fake raises arrives as gRPC's error."""

    async def call(request, **options):
        assert type(request).from_bytes(request.to_bytes()) == request
        try:
            reply = function(request)
        except errors.ShoalError as exc:
            raise grpc_error(exc) from exc
        return type(reply).from_bytes(reply.to_bytes())

    return call


class FakeControl:
    """A manager: objects by id. `requests` is what it was asked."""

    def __init__(self):
        self.cluster = model.Cluster(id="cluster", version=1)
        self.unlock_key = ""
        self.nodes, self.services, self.tasks, self.networks, self.configs = {}, {}, {}, {}, {}
        self.requests = []
        self.index = itertools.count(100)
        self.on_service = lambda service: None  # what the orchestrator would do
        for name in ("nodes", "services", "tasks", "networks", "configs"):
            kind = name.removesuffix("s").title()
            reply, replies = getattr(model, kind + "Reply"), getattr(model, kind + "sReply")
            setattr(
                self,
                f"Get{kind}",
                method(lambda q, n=name, r=reply: self._noted(q) or r(self._find(n, q.ref))),
            )
            setattr(self, f"List{kind}s", method(lambda q, n=name, r=replies: r(tuple(self._listed(n, q)))))
            setattr(self, f"Remove{kind}", method(lambda q, n=name: self._remove(n, q)))
        self.GetCluster = method(lambda q: model.ClusterReply(self.cluster, self.unlock_key))
        self.UpdateCluster = method(self._update_cluster)
        self.UpdateNode = method(self._update_node)
        self.CreateService = method(self._create_service)
        self.UpdateService = method(self._update_service)
        self.CreateNetwork = method(self._create_network)
        self.CreateConfig = method(self._create_config)
        self.UpdateConfig = method(self._update_config)

    def add(self, *objects):
        for obj in objects:
            getattr(self, type(obj).__name__.lower() + "s")[obj.id] = obj

    def _noted(self, request):
        self.requests.append(request)

    def _names(self, obj):
        if isinstance(obj, model.Node):
            return obj.description.hostname
        return obj.name if isinstance(obj, model.Task) else obj.spec.name

    def _find(self, table, ref):
        things = list(getattr(self, table).values())
        for test in (
            lambda o: o.id == ref,
            lambda o: self._names(o) == ref,
            lambda o: bool(ref) and o.id.startswith(ref),
        ):
            if found := [o for o in things if test(o)]:
                return found[0]
        raise errors.NotFound(f"{table.removesuffix('s')} {ref} not found")

    def _listed(self, table, request):
        self._noted(request)
        terms = {}
        for term in request.filters:
            terms.setdefault(term.key, set()).add(term.value)
        for obj in getattr(self, table).values():
            if "service" in terms and obj.service_id not in {
                self._find("services", r).id for r in terms["service"]
            }:
                continue
            if "node" in terms and obj.node_id not in terms["node"]:
                continue
            if "name" in terms and not any(self._names(obj).startswith(n) for n in terms["name"]):
                continue
            if "id" in terms and not any(obj.id.startswith(i) for i in terms["id"]):
                continue
            if table == "services" and request.status:
                own = [t for t in self.tasks.values() if t.service_id == obj.id]
                running = sum(t.status.state is model.TaskState.TASK_RUNNING for t in own)
                replicas = obj.spec.mode.replicated.replicas if obj.spec.mode.replicated else 0
                obj = dataclasses.replace(obj, status=model.ServiceStatus(running, replicas or 0, 0))
            yield obj

    def _remove(self, table, request):
        self._noted(request)
        obj = self._find(table, request.ref)
        if table == "networks":
            for service in self.services.values():
                if any(n.target == obj.id for n in service.spec.task.networks):
                    raise errors.FailedPrecondition(f"network {obj.id} is in use by service {service.id}")
        if table == "nodes" and obj.status.state is model.NodeState.NODE_READY and not request.force:
            raise errors.FailedPrecondition(f"node {obj.id} is not down and can't be removed")
        del getattr(self, table)[obj.id]
        if table == "services":
            self.tasks = {k: t for k, t in self.tasks.items() if t.service_id != obj.id}
        return model.Nothing()

    def _changed(self, obj, **values):
        obj = dataclasses.replace(obj, version=next(self.index), updated_at=NOW, **values)
        self.add(obj)
        return obj

    def _update_cluster(self, request):
        self._noted(request)
        if request.version != self.cluster.version:
            raise errors.OutOfSequence()
        if 0 < request.spec.ca.node_cert_expiry < 3_600_000_000_000:
            raise errors.InvalidArgument("minimum certificate expiry time is: 1h0m0s")
        self.cluster = dataclasses.replace(self.cluster, spec=request.spec, version=next(self.index))
        return model.ClusterReply(self.cluster)

    def _update_node(self, request):
        self._noted(request)
        node = self._find("nodes", request.ref)
        if request.version != node.version:
            raise errors.OutOfSequence()
        return model.NodeReply(self._changed(node, spec=request.spec))

    def _create_service(self, request):
        self._noted(request)
        if any(s.spec.name == request.spec.name for s in self.services.values()):
            raise errors.AlreadyExists(
                f"name conflicts with an existing object: service {request.spec.name} already exists"
            )
        service = model.Service(id=ids.new_id(), created_at=NOW, spec=request.spec)
        if request.spec.endpoint is not None:
            service = dataclasses.replace(service, endpoint=model.Endpoint(spec=request.spec.endpoint))
        service = self._changed(service)
        self.on_service(service)
        return model.ServiceReply(service)

    def _update_service(self, request):
        self._noted(request)
        service = self._find("services", request.ref)
        if request.version != service.version:
            raise errors.OutOfSequence()
        if request.rollback and service.previous_spec is None:
            raise errors.FailedPrecondition(f"service {service.id} does not have a previous spec")
        spec = service.previous_spec if request.rollback else request.spec
        service = self._changed(service, spec=spec, previous_spec=service.spec)
        self.on_service(service)
        return model.ServiceReply(service)

    def _create_network(self, request):
        self._noted(request)
        if " " in request.spec.name:
            raise errors.InvalidArgument("name must be valid as a DNS name component")
        network = model.Network(id=ids.new_id(), created_at=NOW, spec=request.spec, vni=4097)
        ipam = model.IPAMOptions(configs=(model.IPAMConfig("10.0.1.0/24", "", "10.0.1.1"),))
        return model.NetworkReply(self._changed(network, ipam=ipam))

    def _create_config(self, request):
        self._noted(request)
        if any(config.spec.name == request.spec.name for config in self.configs.values()):
            raise errors.AlreadyExists(f"config {request.spec.name} already exists")
        config = model.Config(id=ids.new_id(), created_at=NOW, updated_at=NOW, spec=request.spec)
        return model.ConfigReply(self._changed(config))

    def _update_config(self, request):
        self._noted(request)
        config = self._find("configs", request.ref)
        if request.version != config.version:
            raise errors.OutOfSequence()
        spec = dataclasses.replace(config.spec, labels=request.spec.labels)
        return model.ConfigReply(self._changed(config, spec=spec))

    def run_tasks(self, service):
        """Makes the service's tasks run at once, on the nodes in turn."""
        self.tasks = {k: t for k, t in self.tasks.items() if t.service_id != service.id}
        nodes = itertools.cycle(self.nodes.values())
        replicas = service.spec.mode.replicated.replicas if service.spec.mode.replicated else 0
        for slot in range(1, (replicas or 0) + 1):
            status = model.TaskStatus(timestamp=NOW, state=model.TaskState.TASK_RUNNING, message="started")
            task = model.Task(
                id=ids.new_id(), created_at=NOW, spec=service.spec.task, service_id=service.id, slot=slot,
                node_id=next(nodes).id, status=status, desired_state=model.TaskState.TASK_RUNNING,
                service_name=service.spec.name,
            )  # fmt: skip
            self._changed(task)


class FakeSwarm:
    """The membership; a manager's when `manager` is set."""

    def __init__(self):
        self.manager = FakeControl()
        self.now = Membership()
        self.assigned = NodeState()
        self.inits, self.joins, self.leaves = [], [], []
        self.checked, self.check = [], model.NetworkCheck()
        self.failure = None

    async def check_network(self, network_id):
        self.checked.append(network_id)
        if self.failure is not None:
            raise self.failure
        return self.check

    def become(self, manager=True, node_id="300wtmonao8ij4nj0yazfkfga"):
        addresses = (model.ManagerAddress(node_id if manager else "m1", "192.0.2.1:2377"),)
        self.now = Membership(LocalState.ACTIVE, node_id, "192.0.2.1", "cluster", manager, addresses)

    def membership(self):
        return self.now

    def state(self):
        return self.assigned

    def _fail(self):
        if self.failure:
            raise self.failure

    async def init(self, options):
        self._fail()
        self.inits.append(options)
        self.become()
        return self.now.node_id

    async def join(self, options):
        self._fail()
        self.joins.append(options)
        self.become(manager=False)
        return self.now.node_id

    async def leave(self, force):
        if self.now.manager and not force:
            raise errors.Unavailable(
                "You are attempting to leave the swarm on a node that is participating as a manager. Removing the "
                "last manager erases all current state of the swarm. Use `--force` to ignore this message. "
            )
        self.leaves.append(force)
        self.now = Membership()

    async def unlock(self, key):
        self._fail()
        if self.now.state is not LocalState.LOCKED:
            raise errors.Conflict("swarm is not locked")

    def control(self):
        if self.now.state is LocalState.INACTIVE:
            raise errors.Unavailable(NO_SWARM)
        if not self.now.manager:
            raise errors.Unavailable(NOT_MANAGER)
        return self.manager


def image(name="nginx:latest", digest=DIGEST, **config):
    repository = name.partition(":")[0]
    return ImageInfo(
        id="sha256:" + "a" * 64,
        tags=(name,),
        digests=(f"{repository}@{digest}",),
        target=Descriptor("application/vnd.oci.image.manifest.v1+json", digest, 527),
        platform=Platform("amd64", "linux"),
        created="2026-11-21T02:00:00.5Z",
        size=1234567,
        config=ImageConfig(**config),
        diff_ids=("sha256:" + "b" * 64,),
    )


class FakeRuntime:
    """Containers and images as lists. A registry has what `registry` names."""

    def __init__(self):
        self.held, self.running, self.entries = [], [], []
        self.registry = {"nginx:latest": DIGEST}
        self.pulls = []

    async def versions(self):
        return Versions(
            "1.6.20", "1.6.20-1", "crun", "/usr/bin/crun", "1.8.1", "f8a096b", "/usr/bin/docker-init"
        )

    async def containers(self):
        return list(self.running)

    async def images(self):
        return list(self.held)

    async def image(self, ref):
        name = ref.partition("@")[0]
        name = name if ":" in name else name + ":latest"
        return next((i for i in self.held if name in i.tags or i.id.startswith(ref)), None)

    async def pull(self, ref, auth=None, progress=None):
        self.pulls.append((ref, auth))
        wanted = reference.parse(ref)
        if wanted.familiar not in self.registry:
            raise errors.NotFound(
                f"manifest for {wanted.familiar} not found: manifest unknown: manifest unknown"
            )
        progress(PullEvent(f"Pulling from {wanted.path}", wanted.tag))
        progress(PullEvent("Downloading", "0123456789ab", 50, 100))
        progress(PullEvent("Pull complete", "0123456789ab"))
        progress(PullEvent(f"Digest: {DIGEST}"))
        progress(PullEvent(f"Status: Downloaded newer image for {wanted.familiar}"))
        self.held.append(image(wanted.familiar))
        return self.held[-1]

    async def load(self, stream, progress=None):
        total = 0
        async for chunk in stream:
            total += len(chunk)
        if not total:
            raise errors.InvalidArgument("unexpected EOF")
        self.held.append(image("busybox:latest"))
        return ["busybox:latest"]

    async def tag_image(self, source, target):
        self.held.append(image(target))

    async def remove_image(self, ref, force=False):
        self.held = [i for i in self.held if ref not in i.tags]
        return [RemovedImage(untagged=ref), RemovedImage(deleted="sha256:" + "a" * 64)]

    async def distribution(self, ref, auth=None):
        wanted = reference.parse(ref)
        digest = self.registry.get(wanted.familiar)
        if digest is None:
            raise errors.NotFound("manifest unknown: manifest unknown")
        return Distribution(
            Descriptor("application/vnd.docker.distribution.manifest.v2+json", digest, 527),
            (Platform("amd64", "linux"),),
        )

    def folder(self, id):
        return f"/var/lib/shoal/containers/{id}"

    async def logs(self, id, *, follow=False, tail=-1, since=0, until=0):
        for entry in self.entries:
            yield entry


async def stands(task_id):
    """The kernel is as it should be."""


class FakeMemory:
    """The database's rows of single containers."""

    def __init__(self):
        self.rows = {}

    async def put_single(self, record):
        self.rows[record.container_id] = record

    async def drop_single(self, container_id):
        self.rows.pop(container_id, None)

    async def put_network(self, network):
        """A network of the node's own."""

    async def drop_network(self, network_id):
        """It has gone."""


class FakeNetwork:
    """Namespaces by name alone."""

    def __init__(self):
        self.local, self.attached, self.wired, self.busy_ports = set(), set(), Local(), set()
        self.gateway_subnet, self.speaks_ipv6 = "", True

    def wire(self, local):
        self.wired = local

    def next_gateway_address(self):
        return "172.19.0.2"

    async def routes(self):
        return ("192.0.2.0/24",)

    async def bridge(self):
        """The bridges stand."""

    async def rewire(self, container_id, unplugged="", way_out=("", "")):
        """So do the containers' legs."""

    async def is_foreign(self, interface):
        return False

    async def busy(self, address, protocol, port):
        return (protocol, port) in self.busy_ports

    async def attach_local(self, container_id):
        self.local.add(container_id)
        return Sandbox(container_id, f"/run/netns/{container_id}", (), "172.18.0.2")

    async def attach(self, task_id):
        self.attached.add(task_id)
        return Sandbox(task_id, f"/run/netns/{task_id}", ("10.0.1.5",))

    async def detach(self, task_id):
        self.local.discard(task_id)
        self.attached.discard(task_id)


class FakeHost:
    def __init__(self):
        self.found = [InterfaceAddress("lo", "127.0.0.1/8"), InterfaceAddress("eth0", "192.0.2.1/24")]

    def info(self):
        return NodeInfo(
            hostname="manager1", id="machine", kernel="6.1.0", operating_system="Debian GNU/Linux 12 (bookworm)",
            os_version="12", architecture="x86_64", go_architecture="amd64", cpus=2, memory=8 << 30,
            data_root="/var/lib/shoal", cgroup_version="2", started_at=NOW,
            registry_mirrors=("http://192.0.2.254:5000",), insecure_registries=("192.0.2.254:5000",),
        )  # fmt: skip

    async def addresses(self):
        return self.found


class World:
    """An engine over fakes, and a client that speaks to it."""

    def __init__(self):
        self.swarm, self.runtime, self.host = FakeSwarm(), FakeRuntime(), FakeHost()
        self.gateways = {}  # addresses on docker_gwbridge by task
        memory, self.network = FakeMemory(), FakeNetwork()
        default = LocalNetwork("bridge", "bridge", NOW, "docker0", "172.17.0.0/16", "172.17.0.1")
        networks = LocalNetworks(memory, self.network, {"bridge": default})
        self.places = Attachments(StatusQueue(), SystemClock(), stands)
        self.singles = Singles(self.runtime, self.network, memory, self.places, {}, networks)
        self.execs = Execs(self.runtime)
        self.engine = Engine(
            Backend(
                self.swarm, self.runtime, self.singles, self.execs, self.host, lambda: NOW,
                lambda: self.gateways,
            )
        )  # fmt: skip
        self.client = None

    @property
    def manager(self):
        return self.swarm.manager

    async def ask(self, verb, path, body=None, **options):
        """Status and JSON (or None) of the answer."""
        async with self.client.request(verb, path, json=body, **options) as response:
            text = await response.text()
            if response.content_type != "application/json" or not text:
                return response.status, text
            return response.status, await response.json()

    async def __aenter__(self):
        self.client = test_utils.TestClient(_Raw(server(self.engine)))
        await self.client.start_server()
        return self

    async def __aexit__(self, *exc):
        await self.client.close()


class _Raw(test_utils.BaseTestServer):
    """The engine's own low-level server for aiohttp's test client."""

    def __init__(self, made):
        super().__init__()
        self._made = made

    async def _make_runner(self, **options):
        from aiohttp import web

        return web.ServerRunner(self._made)
