"""The runtime of a node over containerd: the one object that worker and engine hold. Assembles the parts.

Made by the agent's daemon, which starts it and at last closes it. Nothing of it stops containers.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from agent.runtime import archive, facts, process
from agent.runtime import client as c
from agent.runtime.api import (
    Attached,
    ContainerConfig,
    ContainerEvent,
    ContainerState,
    ContainerStats,
    ExecConfig,
    ExecSession,
    ExitStatus,
    LogEntry,
    Versions,
    WaitCondition,
)
from agent.runtime.containers import Containers
from agent.runtime.content import Content
from agent.runtime.creation import Creator
from agent.runtime.events import Events
from agent.runtime.folder import Folders
from agent.runtime.image import Distribution, ImageInfo, PullProgress, RegistryAuth, RemovedImage
from agent.runtime.images import Images
from agent.runtime.live import no_such
from agent.runtime.logs import Logs
from agent.runtime.manifest import node_platform
from agent.runtime.oci import OciRuntime, choose_binary
from agent.runtime.pull import Puller
from agent.runtime.registry import Registry, RegistrySettings
from agent.runtime.tasks import Tasks
from common import errors
from common.clock import Clock, SystemClock
from common.pb import containerd_pb2 as pb

log = logging.getLogger("runtime")

T = TypeVar("T")
_AGAIN_S = 1.0
_ADOPTION_S = 10.0


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """`folder` holds containers and scratch files; `oci_runtime` is runc, crun or auto."""

    folder: Path
    socket: str = "/run/containerd/containerd.sock"
    namespace: str = "shoal"
    oci_runtime: str = "runc"
    registry: RegistrySettings = field(default_factory=RegistrySettings)


class ContainerdRuntime:
    """`agent.runtime.api.Runtime` over containerd."""

    def __init__(self, settings: RuntimeSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._platform = node_platform(os.uname().machine)
        self._containerd = c.Containerd(settings.socket, settings.namespace)
        self._registry = Registry(settings.registry)
        self._content = Content(self._containerd)
        self._images = Images(self._containerd, self._content)
        self._events = Events(self._clock)
        self._logs = Logs()
        self._folders = Folders(settings.folder / "containers")
        self._puller = Puller(
            self._containerd, self._content, self._images, self._registry, self._platform, self._spawn
        )
        self._group: asyncio.TaskGroup | None = None
        self._main: asyncio.Task[None] | None = None
        self._children: set[asyncio.Task[Any]] = set()
        self._ready = asyncio.Event()
        self._closing = asyncio.Event()
        self._adopted = asyncio.Event()
        self._containers: Containers
        self._oci: OciRuntime
        self._versions = Versions()

    # ---- life

    async def start(self) -> None:
        scratch = self._settings.folder / "scratch"
        await asyncio.to_thread(os.makedirs, scratch, 0o700, True)
        host = await asyncio.to_thread(facts.gather)
        binary = await asyncio.to_thread(choose_binary, self._settings.oci_runtime)
        oci = OciRuntime(binary, self._settings.namespace)
        creator = Creator(self._containerd, self._content, self._images, self._folders, host, oci.binary)
        tasks = Tasks(self._containerd, self._content, oci, self._clock)
        self._containers = Containers(
            creator, tasks, self._folders, self._logs, self._events, self._clock, self._spawn
        )
        self._main = asyncio.create_task(self._run(), name="runtime")
        await self._ready.wait()
        version = await self._containerd.call(c.VERSION, c.Empty(), timeout=None)
        namespace = pb.NamespaceBox(namespace=pb.Namespace(name=self._settings.namespace))
        await c.tolerate(self._containerd.call(c.NAMESPACE_CREATE, namespace), errors.AlreadyExists)
        await self._containers.adopt()
        self._adopted.set()
        self._oci = oci
        self._versions = Versions(
            version.version, version.revision, Path(binary).name, binary, init=host.init_path
        )
        log.info("containerd %s with %s, cgroup v%d", version.version, binary, host.cgroup_version)

    async def close(self) -> None:
        self._closing.set()
        if self._main is not None:
            await asyncio.gather(self._main, return_exceptions=False)
        await self._logs.close()
        await self._registry.close()
        await self._containerd.close()

    async def _up(self) -> Containers:
        """The containers. One who asks while the agent starts waits until they are found again."""
        if not self._adopted.is_set():
            try:
                async with asyncio.timeout(_ADOPTION_S):
                    await self._adopted.wait()
            except TimeoutError as error:
                text = "the container runtime is starting: containerd doesn't answer yet"
                raise errors.Unavailable(text) from error
        return self._containers

    async def versions(self) -> Versions:
        if not self._versions.oci_version and self._versions.containerd:
            version, commit = await self._oci.version()
            self._versions = replace(self._versions, oci_version=version, oci_commit=commit)
        return self._versions

    async def _run(self) -> None:
        """The parent of every task of the runtime."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            loops = (
                group.create_task(_for_ever("logs", self._logs.run), name="logs"),
                group.create_task(_for_ever("events", self._follow_events), name="containerd events"),
            )
            self._ready.set()
            await self._closing.wait()
            for task in loops:
                task.cancel()
            for task in list(self._children):
                task.cancel()

    async def _follow_events(self) -> None:
        await self._events.follow_containerd(self._containerd)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        if self._group is None:
            work.close()
            raise errors.Unavailable("the container runtime has not been started")
        task = self._group.create_task(work)
        self._children.add(task)
        task.add_done_callback(self._children.discard)
        return task

    # ---- images

    async def pull(
        self, ref: str, auth: RegistryAuth | None = None, progress: PullProgress | None = None
    ) -> ImageInfo:
        return await self._puller.pull(ref, auth, progress)

    async def image(self, ref: str) -> ImageInfo | None:
        return await self._images.find(ref)

    async def images(self) -> list[ImageInfo]:
        return await self._images.all()

    async def load(self, stream: AsyncIterable[bytes], progress: PullProgress | None = None) -> list[str]:
        return await archive.load(
            stream, self._settings.folder / "scratch", self._containerd, self._content, self._images,
            self._platform, progress,
        )  # fmt: skip

    async def tag_image(self, source: str, target: str) -> None:
        await self._images.tag(source, target)

    async def remove_image(self, ref: str, force: bool = False) -> list[RemovedImage]:
        info = await self._images.get(ref)
        return await self._images.remove(ref, force, (await self._up()).using(info.id))

    async def distribution(self, ref: str, auth: RegistryAuth | None = None) -> Distribution:
        return await self._puller.distribution(ref, auth)

    # ---- containers

    async def create(self, config: ContainerConfig) -> None:
        await (await self._up()).create(config)

    async def start_container(self, id: str) -> int:
        return await (await self._up()).start(id)

    async def kill(self, id: str, signal: str = "SIGKILL") -> None:
        await (await self._up()).kill(id, signal)

    async def stop(self, id: str, signal: str = "", grace_s: float | None = None) -> ExitStatus:
        return await (await self._up()).stop(id, signal, grace_s)

    async def remove(self, id: str, force: bool = False) -> None:
        await (await self._up()).remove(id, force)

    async def wait(self, id: str, condition: WaitCondition = "not-running") -> ExitStatus:
        return await (await self._up()).wait(id, condition)

    async def attach(self, id: str, stdin: bool = False) -> Attached:
        return await (await self._up()).attach(id, stdin)

    async def readdress(self, id: str, addresses: Sequence[str]) -> None:
        await (await self._up()).readdress(id, addresses)

    async def relink(self, id: str, hosts: Sequence[str], env: Sequence[str]) -> None:
        await (await self._up()).relink(id, hosts, env)

    async def containers(self) -> list[ContainerState]:
        return (await self._up()).all()

    async def container(self, id: str) -> ContainerState | None:
        return (await self._up()).find(id)

    async def exec(self, id: str, process_config: ExecConfig) -> ExecSession:
        state = (await self._up()).find(id)
        if state is None:
            raise no_such(id)
        if not state.pid:
            raise errors.Conflict(f"container {id} is not running")
        root = f"/proc/{state.pid}/root"
        return await process.begin(self._containerd, id, self._folders.path(id), root, process_config)

    async def resize(self, id: str, width: int, height: int) -> None:
        await (await self._up()).resize(id, width, height)

    async def pause(self, id: str) -> None:
        await (await self._up()).pause(id)

    async def resume(self, id: str) -> None:
        await (await self._up()).resume(id)

    async def rename(self, id: str, name: str) -> None:
        await (await self._up()).rename(id, name)

    async def stats(self, id: str) -> ContainerStats:
        return await (await self._up()).stats(id)

    async def layer_size(self, id: str) -> int:
        await self._up()
        return await self._content.layer_size(id)

    async def processes(self, id: str) -> Sequence[int]:
        return await (await self._up()).processes(id)

    def watch(self) -> AsyncIterator[ContainerEvent]:
        return self._events.watch()

    async def logs(
        self, id: str, *, follow: bool = False, tail: int = -1, since: int = 0, until: int = 0
    ) -> AsyncIterator[LogEntry]:
        await self._containers.written_out(id)
        async with aclosing(
            self._logs.read(id, self._folders.path(id), follow, tail, since, until)
        ) as entries:
            async for entry in entries:
                yield entry

    def folder(self, id: str) -> str:
        return str(self._folders.path(id))


async def _for_ever(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """A loop whose failure must not take the containers' supervisors with it."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("the runtime's %s failed; again in %g s", name, _AGAIN_S)
        await asyncio.sleep(_AGAIN_S)
