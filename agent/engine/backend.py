"""What the Engine API needs of the rest of the agent: the membership, the runtime and facts of this machine.

Only Protocols and plain data, so that the engine knows no daemon and tests give it fakes. The membership is
implemented in agent/membership.py, the runtime in agent/runtime, the facts in agent/engine/machine.py; agent/daemon.py
puts them together.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from agent.engine.journal import Journal
from agent.runtime.api import ContainerConfig, ExitStatus, Runtime, WaitCondition
from agent.single.execs import Execs
from agent.single.linking import Linking
from agent.single.networks import LocalNetworks
from agent.single.record import Leg, LocalNetwork, SingleRecord
from agent.single.restarting import Restarts
from agent.single.wiring import Wiring
from agent.state import NodeState
from common import model
from common.model.stubs import ControlStub

__all__ = [
    "Backend", "Host", "InitOptions", "InterfaceAddress", "JoinOptions", "LocalState", "Membership", "NodeInfo", "RestoreOptions", "Runtime",
    "Singles", "Swarm",
]  # fmt: skip

ALREADY_MEMBER: Final = (
    'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.'
)
NOT_MEMBER: Final = "This node is not part of a swarm"


class LocalState(StrEnum):
    """Where this node stands with a swarm, in Docker's words."""

    INACTIVE = "inactive"
    PENDING = "pending"  # a join (or a start) that isn't through yet
    ACTIVE = "active"
    ERROR = "error"
    LOCKED = "locked"


@dataclass(frozen=True, slots=True)
class Membership:
    """This node's membership as of now; cheap to make, asked at every request."""

    state: LocalState = LocalState.INACTIVE
    node_id: str = ""
    node_addr: str = ""  # advertised, without port
    cluster_id: str = ""
    manager: bool = False  # a manager process of this node serves its control socket
    managers: tuple[model.ManagerAddress, ...] = ()  # every manager that is known: node id, host:port
    error: str = ""  # shown by `docker info`; empty when all is well


@dataclass(frozen=True, slots=True)
class InitOptions:
    """`swarm init`, checked; addresses are resolved: interface names are gone."""

    listen_addr: str  # host:port
    advertise_addr: str  # host:port
    data_path_addr: str = ""  # without port; empty: the advertised one
    data_path_port: int = 0  # 0: 4789
    force_new_cluster: bool = False
    spec: model.ClusterSpec = field(default_factory=model.ClusterSpec)
    default_address_pool: tuple[str, ...] = ()
    subnet_size: int = 0
    availability: model.Availability = model.Availability.ACTIVE


@dataclass(frozen=True, slots=True)
class JoinOptions:
    """`swarm join`, checked; addresses are resolved."""

    remote_addrs: tuple[str, ...]  # host:port of managers, the port filled in
    join_token: str
    listen_addr: str = "0.0.0.0:2377"
    advertise_addr: str = ""  # host:port; empty: as the manager sees this node
    data_path_addr: str = ""
    availability: model.Availability = model.Availability.ACTIVE


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """`swarm restore`, checked; addresses are resolved."""

    listen_addr: str  # host:port
    advertise_addr: str  # host:port
    data_path_addr: str = ""
    passphrase: str = field(default="", repr=False)
    force: bool = False


class Swarm(Protocol):
    """The node's membership. Errors are those of common/errors with the text that the user is to read.

    An error that came from a manager by gRPC is raised with its `described()` text by whoever called; the engine
    does so for `control()`, init and join do it themselves.
    """

    def membership(self) -> Membership: ...

    def state(self) -> NodeState:
        """What the managers have assigned to this node."""
        ...

    async def init(self, options: InitOptions) -> str:
        """Makes a new swarm with this node as its first manager; answers with the node's id."""
        ...

    async def join(self, options: JoinOptions) -> None:
        """Returns when the node is a member; after an error the node is as inactive as before."""

    async def leave(self, force: bool) -> None:
        """Leaves; Unavailable with Docker's text for a manager without `force`."""

    def backup(self, passphrase: str) -> AsyncIterator[bytes]:
        """The swarm's backup as the bytes of a file, from this node's manager."""
        ...

    async def restore(self, options: RestoreOptions, data: bytes) -> model.RestoreReply:
        """Makes this node the only manager of the swarm in a backup."""
        ...

    async def check_network(self, network_id: str) -> model.NetworkCheck:
        """Has the managers find out what keeps nodes apart on a network; takes up to some ten seconds."""
        ...

    async def unlock(self, key: str) -> None:
        """Unlocks a locked manager; Conflict when it isn't locked, Unauthenticated with another key."""

    def control(self) -> ControlStub:
        """The manager process of this node; errors.Unavailable with Docker's text when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """One address of this machine."""

    interface: str
    address: str  # with prefix length: 192.0.2.1/24


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """Facts of this machine and of the daemon's settings that `info` and `version` show."""

    hostname: str
    id: str  # stable for this installation
    kernel: str
    operating_system: str
    os_version: str
    architecture: str  # x86_64
    go_architecture: str  # amd64, as images name it
    cpus: int
    memory: int
    data_root: str
    cgroup_version: str  # "1" or "2"
    started_at: int  # ns
    labels: Mapping[str, str] = field(default_factory=dict)
    registry_mirrors: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""


class Host(Protocol):
    """This machine."""

    def info(self) -> NodeInfo: ...

    async def addresses(self) -> Sequence[InterfaceAddress]:
        """All addresses of all interfaces, in the kernel's order; loopback too."""
        ...


class Singles(Protocol):
    """Single containers: agent/single/containers.py."""

    def record(self, container_id: str) -> SingleRecord | None: ...
    def records(self) -> Mapping[str, SingleRecord]: ...
    def sandboxes(self) -> Mapping[str, str]: ...
    @property
    def linking(self) -> Linking: ...
    @property
    def networks(self) -> LocalNetworks: ...
    @property
    def restarts(self) -> Restarts: ...
    @property
    def wiring(self) -> Wiring: ...
    async def create(self, config: ContainerConfig, record: SingleRecord) -> None: ...
    async def start(self, container_id: str) -> bool: ...
    async def stop(self, container_id: str, signal: str = "", grace_s: float | None = None) -> bool: ...
    async def restart(self, container_id: str, signal: str = "", grace_s: float | None = None) -> None: ...
    async def remove(self, container_id: str, force: bool = False) -> None: ...
    async def rename(self, container_id: str, name: str) -> None: ...
    async def kill(self, container_id: str, signal: str, known_as: str = "") -> None: ...
    async def ended(self, container_id: str, condition: WaitCondition) -> ExitStatus: ...
    async def connect(self, container_id: str, leg: Leg) -> None: ...
    async def disconnect(self, container_id: str, leg: Leg) -> None: ...
    async def add_network(self, network: LocalNetwork) -> LocalNetwork: ...
    async def drop_network(self, network: LocalNetwork) -> None: ...


@dataclass(frozen=True, slots=True)
class Backend:
    """All that the engine is given."""

    swarm: Swarm
    runtime: Runtime
    singles: Singles
    execs: Execs
    host: Host
    now_ns: Callable[[], int]
    gateway_addresses: Callable[[], Mapping[str, str]] = dict  # on docker_gwbridge, by task
    journal: Journal = field(default_factory=Journal)  # what has happened, for /events
