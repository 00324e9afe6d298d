"""The connection to containerd: its methods as a table, typed calls, leases, and patience while it is away.

Every unary call waits for containerd to be there and is repeated when the connection breaks under it, until its
deadline. So what runs here must be repeatable: callers treat ALREADY_EXISTS after their own create, and NOT_FOUND
after their own delete, as done. Called by the other modules of this folder only.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

import grpc
from google.protobuf import any_pb2, empty_pb2
from google.protobuf.message import Message
from grpc import aio

from common import errors, rpc
from common.pb import containerd_pb2 as pb

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)

DEFAULT_TIMEOUT = 60.0
LEASE_HOURS = 24  # a lease left behind by a crash ends by itself then


@dataclass(frozen=True, slots=True)
class Method(Generic[Q, A]):
    """One method of containerd, with the shapes of its two messages."""

    path: str
    request: type[Q]
    answer: type[A]


def _method(path: str, request: type[Q], answer: type[A]) -> Method[Q, A]:
    return Method("/containerd.services." + path, request, answer)


Empty = empty_pb2.Empty

VERSION = _method("version.v1.Version/Version", Empty, pb.VersionResponse)
NAMESPACE_CREATE = _method("namespaces.v1.Namespaces/Create", pb.NamespaceBox, pb.NamespaceBox)

CONTENT_INFO = _method("content.v1.Content/Info", pb.Digest, pb.ContentInfoBox)
CONTENT_UPDATE = _method("content.v1.Content/Update", pb.ContentInfoUpdate, pb.ContentInfoBox)
CONTENT_ABORT = _method("content.v1.Content/Abort", pb.ContentRef, Empty)
CONTENT_WRITE = _method("content.v1.Content/Write", pb.ContentWrite, pb.ContentWritten)
CONTENT_READ = _method("content.v1.Content/Read", pb.ContentRead, pb.ContentChunk)

IMAGE_CREATE = _method("images.v1.Images/Create", pb.ImageBox, pb.ImageBox)
IMAGE_UPDATE = _method("images.v1.Images/Update", pb.ImageBox, pb.ImageBox)
IMAGE_GET = _method("images.v1.Images/Get", pb.Name, pb.ImageBox)
IMAGE_LIST = _method("images.v1.Images/List", pb.Filters, pb.ImageList)
IMAGE_DELETE = _method("images.v1.Images/Delete", pb.ImageDelete, Empty)

SNAPSHOT_PREPARE = _method("snapshots.v1.Snapshots/Prepare", pb.SnapshotPrepare, pb.SnapshotMounts)
SNAPSHOT_COMMIT = _method("snapshots.v1.Snapshots/Commit", pb.SnapshotCommit, Empty)
SNAPSHOT_MOUNTS = _method("snapshots.v1.Snapshots/Mounts", pb.SnapshotKey, pb.SnapshotMounts)
SNAPSHOT_STAT = _method("snapshots.v1.Snapshots/Stat", pb.SnapshotKey, pb.SnapshotInfoBox)
SNAPSHOT_USAGE = _method("snapshots.v1.Snapshots/Usage", pb.SnapshotKey, pb.SnapshotUsage)
SNAPSHOT_REMOVE = _method("snapshots.v1.Snapshots/Remove", pb.SnapshotKey, Empty)
SNAPSHOT_CLEANUP = _method("snapshots.v1.Snapshots/Cleanup", pb.SnapshotCleanup, Empty)
DIFF_APPLY = _method("diff.v1.Diff/Apply", pb.DiffApply, pb.DiffApplied)

LEASE_CREATE = _method("leases.v1.Leases/Create", pb.LeaseCreate, pb.LeaseBox)
LEASE_ADD_RESOURCE = _method("leases.v1.Leases/AddResource", pb.LeaseAddResource, Empty)
LEASE_DELETE = _method("leases.v1.Leases/Delete", pb.LeaseDelete, Empty)

CONTAINER_CREATE = _method("containers.v1.Containers/Create", pb.ContainerBox, pb.ContainerBox)
CONTAINER_UPDATE = _method("containers.v1.Containers/Update", pb.ContainerBox, pb.ContainerBox)
CONTAINER_GET = _method("containers.v1.Containers/Get", pb.Id, pb.ContainerBox)
CONTAINER_LIST = _method("containers.v1.Containers/List", pb.Filters, pb.ContainerList)
CONTAINER_DELETE = _method("containers.v1.Containers/Delete", pb.Id, Empty)

TASK_CREATE = _method("tasks.v1.Tasks/Create", pb.TaskCreate, pb.TaskCreated)
TASK_START = _method("tasks.v1.Tasks/Start", pb.TaskKey, pb.TaskPid)
TASK_DELETE = _method("tasks.v1.Tasks/Delete", pb.TaskKey, pb.TaskDeleted)
TASK_DELETE_PROCESS = _method("tasks.v1.Tasks/DeleteProcess", pb.TaskKey, pb.TaskDeleted)
TASK_GET = _method("tasks.v1.Tasks/Get", pb.TaskKey, pb.TaskBox)
TASK_LIST = _method("tasks.v1.Tasks/List", pb.TaskListRequest, pb.TaskList)
TASK_KILL = _method("tasks.v1.Tasks/Kill", pb.TaskKill, Empty)
TASK_PAUSE = _method("tasks.v1.Tasks/Pause", pb.TaskKey, Empty)
TASK_RESUME = _method("tasks.v1.Tasks/Resume", pb.TaskKey, Empty)
TASK_EXEC = _method("tasks.v1.Tasks/Exec", pb.TaskExec, Empty)
TASK_RESIZE = _method("tasks.v1.Tasks/ResizePty", pb.TaskResize, Empty)
TASK_CLOSE_IO = _method("tasks.v1.Tasks/CloseIO", pb.TaskCloseIO, Empty)
TASK_PIDS = _method("tasks.v1.Tasks/ListPids", pb.TaskKey, pb.TaskProcesses)
TASK_METRICS = _method("tasks.v1.Tasks/Metrics", pb.Filters, pb.TaskMetrics)
TASK_WAIT = _method("tasks.v1.Tasks/Wait", pb.TaskKey, pb.TaskWaited)

EVENTS_SUBSCRIBE = _method("events.v1.Events/Subscribe", pb.Filters, pb.Envelope)


@contextmanager
def drops_told() -> Iterator[None]:
    """A server that dies amid a call may drop it as cancelled, which grpc raises as if this task were cancelled.

    Taken for that, whoever waits here would end without a word.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        none = aio.Metadata()
        raise aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, none, none, "the call was dropped") from error


def broken(error: aio.AioRpcError) -> bool:
    """Did the connection break, as it does when containerd restarts? What a broken stream's write says is odd."""
    if error.code() is grpc.StatusCode.INTERNAL:
        return "from Core" in (error.details() or "")
    return error.code() is grpc.StatusCode.UNAVAILABLE


def packed(type_url: str, value: bytes) -> any_pb2.Any:
    """An Any by containerd's own type names, which aren't those of our messages."""
    return any_pb2.Any(type_url=type_url, value=value)


class Containerd:
    """One channel to one containerd, in one of its namespaces."""

    def __init__(self, socket: str, namespace: str) -> None:
        self.socket = socket
        self.namespace = namespace
        self._channel = rpc.client(f"unix://{socket}")
        self._metadata = (("containerd-namespace", namespace),)

    async def close(self) -> None:
        await self._channel.close()

    async def call(
        self, method: Method[Q, A], request: Q, *, lease: str = "", timeout: float | None = DEFAULT_TIMEOUT
    ) -> A:
        """One call; repeated while containerd is away. `timeout=None` waits for ever."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        stub = self._channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.answer.FromString,
        )
        pause = 0.02
        while True:
            left = None if deadline is None else max(deadline - loop.time(), 0.001)
            try:
                with drops_told():
                    return await stub(
                        request, metadata=self._with_lease(lease), timeout=left, wait_for_ready=True
                    )
            except aio.AioRpcError as error:
                over = deadline is not None and loop.time() + pause >= deadline
                if not broken(error) or over:
                    raise rpc.error_from(error) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    def server_stream(self, method: Method[Q, A], request: Q) -> "aio.UnaryStreamCall[Message, A]":
        """A stream of answers; it isn't repeated, and ends with an AioRpcError when containerd goes."""
        return self._channel.unary_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.answer.FromString,
        )(request, metadata=self._metadata, wait_for_ready=True)

    def duplex(self, method: Method[Q, A], *, lease: str = "") -> "aio.StreamStreamCall[Message, A]":
        return self._channel.stream_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.answer.FromString,
        )(metadata=self._with_lease(lease), wait_for_ready=True)

    @asynccontextmanager
    async def lease(self, purpose: str) -> AsyncIterator[str]:
        """Keeps what is made under it from containerd's garbage collector until something refers to it."""
        name = f"shoal-{purpose}-{os.urandom(8).hex()}"
        expires = datetime.now(UTC) + timedelta(hours=LEASE_HOURS)
        labels = {"containerd.io/gc.expire": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}
        await tolerate(self.call(LEASE_CREATE, pb.LeaseCreate(id=name, labels=labels)), errors.AlreadyExists)
        try:
            yield name
        finally:
            await tolerate(self.call(LEASE_DELETE, pb.LeaseDelete(id=name)), errors.NotFound)

    async def hold(self, lease: str, kind: str, id: str) -> None:
        """Puts something that exists already under a lease; `kind` is content or snapshots/NAME."""
        resource = pb.LeaseResource(id=id, type=kind)
        await tolerate(
            self.call(LEASE_ADD_RESOURCE, pb.LeaseAddResource(id=lease, resource=resource)),
            errors.AlreadyExists,
        )

    def _with_lease(self, lease: str) -> tuple[tuple[str, str], ...]:
        return (*self._metadata, ("containerd-lease", lease)) if lease else self._metadata


R = TypeVar("R")


async def tolerate(call: Awaitable[R], *accepted: type[errors.ShoalError]) -> R | None:
    """The answer, or None where containerd says that it is so already."""
    try:
        return await call
    except accepted:
        return None


def filters(items: Iterable[str]) -> pb.Filters:
    return pb.Filters(filters=list(items))
