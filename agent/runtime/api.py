"""The container runtime's public face: what the worker, the engine and the network code may know of it.

Everything here is plain data of containers and one Protocol; images as plain data are in `agent.runtime.image`. The
implementation over containerd is `agent.runtime.service.ContainerdRuntime`; tests of other parts use fakes that satisfy `Runtime`.

Times are integers in nanoseconds since the epoch; sizes are bytes. Errors are those of `common.errors`, with
Docker's texts ("No such image: NAME", "No such container: ID").
"""

from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from agent.runtime.image import Distribution, ImageInfo, PullProgress, RegistryAuth, RemovedImage

MountType = Literal["bind", "tmpfs", "volume"]


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a container; a volume's `source` is already its folder on this node."""

    type: MountType
    source: str  # empty for tmpfs
    target: str
    read_only: bool = False
    options: tuple[str, ...] = ()  # further mount options: rshared, size=64m, mode=1777 …
    listed: bool = True  # among the container's mounts, for those who inspect it: a config's file is not


@dataclass(frozen=True, slots=True)
class Ulimit:
    name: str  # nofile, nproc, …
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the node made visible in the container."""

    host_path: str
    container_path: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """All that is needed to create one container; the names are those of Docker's ContainerSpec."""

    id: str  # 64 hex digits
    name: str  # my-nginx.1.<task id>
    image: str  # any reference; `name:tag@sha256:…` too
    labels: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()  # replaces the image's ENTRYPOINT (and then its CMD is dropped)
    args: tuple[str, ...] = ()  # replaces the image's CMD
    env: tuple[str, ...] = ()  # NAME=value; a bare NAME removes the image's
    workdir: str = ""
    user: str = ""  # name|uid[:group|gid]
    groups: tuple[str, ...] = ()  # supplementary, by name or number
    hostname: str = ""
    domainname: str = ""
    tty: bool = False
    open_stdin: bool = False
    read_only: bool = False  # the root file system
    mounts: tuple[Mount, ...] = ()
    stop_signal: str = ""  # "" = the image's STOPSIGNAL, then SIGTERM
    stop_grace_ns: int = 10_000_000_000
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    devices: tuple[Device, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    nano_cpus: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0  # microseconds, as is the quota
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    memory_bytes: int = 0
    memory_reservation_bytes: int = 0
    oom_kill_disable: bool = False
    memory_swap_bytes: int = 0  # memory and swap together; 0 = same as memory_bytes, -1 = unlimited
    memory_swappiness: int | None = None
    pids_limit: int = 0
    init: bool = False
    oom_score_adj: int = 0
    shm_bytes: int = 64 << 20
    no_new_privileges: bool = False
    network_namespace: str | None = None  # path; None = a fresh, empty one
    host_network: bool = False  # share the node's own network namespace
    host_pid: bool = False  # … its processes
    host_ipc: bool = False
    host_uts: bool = False  # … its names
    extra_hosts: tuple[str, ...] = ()  # swarm's form "ADDRESS NAME [NAME…]", lines of /etc/hosts
    linked_hosts: tuple[str, ...] = ()  # lines of the same form, of containers that it is linked to
    addresses: tuple[str, ...] = ()  # the container's own addresses, named with its hostname in /etc/hosts
    dns_nameservers: tuple[str, ...] = ("127.0.0.11",)  # in the host's network none: the node's own
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ("ndots:0",)
    masked_paths: tuple[str, ...] | None = None  # None = Docker's
    readonly_paths: tuple[str, ...] | None = None


class Status(StrEnum):
    """Where a container is, in Docker's words."""

    CREATED = "created"  # exists, its process was never started
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "exited"


@dataclass(frozen=True, slots=True)
class ExitStatus:
    code: int
    exited_at: int = 0
    oom_killed: bool = False


@dataclass(frozen=True, slots=True)
class ContainerState:
    """A container as found on this node, also after a restart of the agent (re-adoption)."""

    id: str
    name: str
    image: str
    labels: Mapping[str, str]
    status: Status
    pid: int = 0
    created_at: int = 0
    started_at: int = 0
    exit: ExitStatus | None = None
    config: ContainerConfig | None = None  # None when its record on disk is gone


class EventKind(StrEnum):
    CREATE = "create"
    START = "start"
    KILL = "kill"  # a signal was sent
    EXIT = "die"
    OOM = "oom"
    REMOVE = "destroy"
    RESYNC = "resync"  # the event stream was broken: list again; `id` is empty


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    kind: EventKind
    id: str
    at: int
    pid: int = 0
    exit: ExitStatus | None = None
    config: ContainerConfig | None = None  # of the container, which may be gone already
    started_at: int = 0
    signal: int = 0  # of KILL


@dataclass(frozen=True, slots=True)
class ContainerStats:
    """Resource use of a running container, from its cgroup."""

    at: int
    cpu_total_ns: int = 0
    cpu_user_ns: int = 0
    cpu_kernel_ns: int = 0
    memory_usage: int = 0
    memory_cache: int = 0
    memory_limit: int = 0
    pids: int = 0
    pids_limit: int = 0
    oom_kills: int = 0


LogStream = Literal["stdout", "stderr"]
WaitCondition = Literal["not-running", "next-exit", "removed"]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line (or the first 16 KiB of a longer one), with its newline."""

    stream: LogStream
    at: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ExecConfig:
    """One further process in a running container: `docker exec`, or a health probe."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    tty: bool = False
    stdin: bool = False
    privileged: bool = False


@dataclass(frozen=True, slots=True)
class Versions:
    """What the containers of this node are run by; a commit is the package's exact version."""

    containerd: str = ""
    containerd_commit: str = ""
    oci_runtime: str = "runc"  # the program's name
    oci_path: str = "runc"
    oci_version: str = ""
    oci_commit: str = ""
    init: str = ""  # the program for `--init`; empty when the node has none


class ExecSession(Protocol):
    """A started process; leaving it (`close`) kills it if it still runs."""

    id: str
    pid: int

    def output(self) -> AsyncIterator[tuple[LogStream, bytes]]: ...
    async def write(self, data: bytes) -> None: ...
    async def close_stdin(self) -> None: ...
    async def resize(self, width: int, height: int) -> None: ...
    async def kill(self, signal: str) -> None: ...
    async def wait(self) -> int: ...
    async def close(self) -> None: ...


class Attached(Protocol):
    """A hold on the streams of a container's own process; leaving it (`close`) changes nothing for the process."""

    def output(self) -> AsyncIterator[tuple[LogStream, bytes]]: ...
    async def write(self, data: bytes) -> None: ...
    async def close_stdin(self) -> None: ...
    def close(self) -> None: ...


class Runtime(Protocol):
    """Containers and images of this node.

    All calls survive a restart of containerd: they are repeated while it is away, up to a deadline;
    `wait` has none.
    """

    async def start(self) -> None:
        """Connect, find the OCI runtime, watch events. Waits for containerd."""

    async def close(self) -> None:
        """Let go of everything; containers run on."""

    async def versions(self) -> Versions:
        """What runs the containers here, for people to read."""
        ...

    # images
    async def pull(
        self, ref: str, auth: RegistryAuth | None = None, progress: PullProgress | None = None
    ) -> ImageInfo:
        """Fetch an image; pulls of one reference at once are one pull. Errors are the registry's."""
        ...

    async def image(self, ref: str) -> ImageInfo | None:
        """By reference, digest reference, id or unique prefix of an id (3 digits at least)."""
        ...

    async def images(self) -> list[ImageInfo]: ...
    async def load(self, stream: AsyncIterable[bytes], progress: PullProgress | None = None) -> list[str]:
        """An OCI layout or `docker save` archive (plain or gzip); answers with the names that it set."""
        ...

    async def tag_image(self, source: str, target: str) -> None: ...
    async def remove_image(self, ref: str, force: bool = False) -> list[RemovedImage]: ...
    async def distribution(self, ref: str, auth: RegistryAuth | None = None) -> Distribution: ...

    # containers
    async def create(self, config: ContainerConfig) -> None:
        """NotFound("No such image: …") when the image is absent; AlreadyExists; bad settings refused."""

    async def start_container(self, id: str) -> int:
        """Run it; answers with the pid. Done already: the same pid again."""
        ...

    async def kill(self, id: str, signal: str = "SIGKILL") -> None: ...
    async def stop(self, id: str, signal: str = "", grace_s: float | None = None) -> ExitStatus:
        """Signal (its own stop signal by default), then SIGKILL after the grace (its own by default)."""
        ...

    async def remove(self, id: str, force: bool = False) -> None:
        """Delete it with its logs and folder. Absent already: no error. A running one only by force."""

    async def wait(self, id: str, condition: WaitCondition = "not-running") -> ExitStatus:
        """`next-exit`: the first end after this call; `removed`: when the container is gone."""
        ...

    async def attach(self, id: str, stdin: bool = False) -> Attached:
        """Its streams from now on; before its start too."""
        ...

    async def readdress(self, id: str, addresses: Sequence[str]) -> None:
        """What its name stands for in /etc/hosts; of one that runs, too."""

    async def relink(self, id: str, hosts: Sequence[str], env: Sequence[str]) -> None:
        """What links add to /etc/hosts, of one that runs, too, and to the environment of what is started in it from now on."""

    async def containers(self) -> list[ContainerState]: ...
    async def container(self, id: str) -> ContainerState | None: ...
    async def exec(self, id: str, process: ExecConfig) -> ExecSession: ...
    async def resize(self, id: str, width: int, height: int) -> None: ...
    async def pause(self, id: str) -> None: ...
    async def resume(self, id: str) -> None: ...
    async def rename(self, id: str, name: str) -> None: ...
    async def stats(self, id: str) -> ContainerStats: ...
    async def layer_size(self, id: str) -> int:
        """What it has written on top of its image, in bytes."""
        ...

    async def processes(self, id: str) -> Sequence[int]:
        """The pids in it, as the node sees them."""
        ...

    def watch(self) -> AsyncIterator[ContainerEvent]:
        """Events from now on. The first, and the first after every break, is RESYNC: list then."""
        ...

    def logs(
        self, id: str, *, follow: bool = False, tail: int = -1, since: int = 0, until: int = 0
    ) -> AsyncIterator[LogEntry]:
        """Output in order of time; `tail` counts lines from the end (-1 = all)."""
        ...

    def folder(self, id: str) -> str:
        """The container's own folder on the node (hosts, hostname, resolv.conf and the logs lie there)."""
        ...
