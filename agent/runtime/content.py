"""Blobs in, images out: containerd's content store, and the unpacking of layers into snapshots.

The puller and the archive loader bring bytes from wherever they have them (a `Source`); this writes them under a
lease, links manifest, configuration and snapshots by labels so that the garbage collector keeps them together, and
unpacks layer by layer. Two images that share a layer fetch and unpack it once.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import grpc
from google.protobuf import field_mask_pb2
from google.protobuf.message import Message
from grpc import aio

from agent.runtime import client as c
from agent.runtime import manifest as m
from agent.runtime.image import Descriptor
from agent.turns import Turns
from common import errors, rpc
from common.pb import containerd_pb2 as pb

SNAPSHOTTER = "overlayfs"
SNAPSHOT_LABEL = f"containerd.io/gc.ref.snapshot.{SNAPSHOTTER}"
BLOCK = 1 << 20
LAYERS_AT_ONCE = 3  # for the whole node, as Docker's default
UNPACK_TIMEOUT = 900.0
MAX_CONFIG = 8 << 20
_IN_THE_WAY = "file exists"
_ATTEMPTS = 6  # of one blob, while containerd comes and goes
_SPOILT = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.OUT_OF_RANGE)  # never resume from this
_FINAL = (
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


class Source(Protocol):
    """Where a blob's bytes come from: a registry, or an archive."""

    def read(self, descriptor: Descriptor, offset: int) -> AsyncGenerator[bytes, None]: ...


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What happens to a layer, for the progress display."""

    digest: str
    step: str  # one of the steps below
    current: int = 0
    total: int = 0


WAITING, EXISTS, DOWNLOADING, DOWNLOADED, EXTRACTING, COMPLETE = (
    "Pulling fs layer",
    "Already exists",
    "Downloading",
    "Download complete",
    "Extracting",
    "Pull complete",
)
Report = Callable[[LayerReport], None]


class Content:
    """The content and snapshot stores of one containerd."""

    def __init__(self, containerd: c.Containerd) -> None:
        self._containerd = containerd
        self._writers = Turns()  # one for each blob (digest) and each snapshot (chain id)
        self._layers = asyncio.Semaphore(LAYERS_AT_ONCE)

    # ---- blobs

    async def read(self, digest: str, limit: int = MAX_CONFIG) -> bytes:
        """A small blob, whole. NotFound if it isn't there."""
        parts: list[bytes] = []
        size = 0
        try:
            with c.drops_told():
                request = pb.ContentRead(digest=digest)
                async for chunk in self._containerd.server_stream(c.CONTENT_READ, request):
                    size += len(chunk.data)
                    if size > limit:
                        raise errors.InvalidArgument(f"{digest} is larger than {limit} bytes")
                    parts.append(chunk.data)
        except aio.AioRpcError as error:
            if not c.broken(error):
                raise rpc.error_from(error) from error
            await self._containerd.call(c.VERSION, c.Empty())  # waits until it is back
            return await self.read(digest, limit)
        return b"".join(parts)

    async def exists(self, digest: str, lease: str) -> bool:
        """Is it there? Then it stays, as long as the lease does."""
        await self._containerd.hold(lease, "content", digest)
        request = pb.Digest(digest=digest)
        found = await c.tolerate(self._containerd.call(c.CONTENT_INFO, request), errors.NotFound)
        return found is not None

    async def write_bytes(
        self, data: bytes, lease: str, labels: Mapping[str, str] | None = None
    ) -> Descriptor:
        """A small blob that is in memory; answers with its digest and size."""

        class Memory:
            async def read(self, _descriptor: Descriptor, offset: int) -> AsyncGenerator[bytes, None]:
                yield data[offset:]

        descriptor = Descriptor("", m.digest_of(data), len(data))
        await self.write(descriptor, Memory(), lease, labels or {})
        return descriptor

    async def write(
        self,
        descriptor: Descriptor,
        source: Source,
        lease: str,
        labels: Mapping[str, str] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Bring one blob in, going on where a break left off. containerd checks size and digest."""
        for attempt in range(_ATTEMPTS):
            try:
                with c.drops_told():
                    await self._write_once(descriptor, source, lease, labels or {}, progress)
            except aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.ALREADY_EXISTS:
                    return
                if error.code() in _FINAL or attempt + 1 == _ATTEMPTS:
                    raise rpc.error_from(error) from error
                await asyncio.sleep(0.05 * 2**attempt)  # its last writer may still be at it
            else:
                return

    async def _write_once(
        self,
        descriptor: Descriptor,
        source: Source,
        lease: str,
        labels: Mapping[str, str],
        progress: Callable[[int], None] | None,
    ) -> None:
        ref = f"shoal-{descriptor.digest}"
        call = self._containerd.duplex(c.CONTENT_WRITE, lease=lease)
        try:
            # How much an earlier attempt brought, asked under the writer's own lock.
            offset = (await _exchange(call, pb.ContentWrite(
                action=pb.STAT, ref=ref, total=descriptor.size, expected=descriptor.digest
            ))).offset  # fmt: skip
            missing = source.read(descriptor, offset) if offset < descriptor.size else _nothing()
            async with aclosing(missing) as chunks, aclosing(_blocks(chunks)) as blocks:
                async for block in blocks:
                    await _exchange(call, pb.ContentWrite(
                        action=pb.WRITE, ref=ref, total=descriptor.size, expected=descriptor.digest,
                        offset=offset, data=block,
                    ))  # fmt: skip
                    offset += len(block)
                    if progress is not None:
                        progress(offset)
            await call.write(pb.ContentWrite(
                action=pb.COMMIT, ref=ref, total=descriptor.size, expected=descriptor.digest,
                offset=offset, labels=labels,
            ))  # fmt: skip
            await call.done_writing()
            while await call.read() is not aio.EOF:
                pass
            if await call.code() is not grpc.StatusCode.OK:
                raise await _ended(call)
        except (aio.AioRpcError, asyncio.InvalidStateError) as error:
            ended = await _ended(call) if isinstance(error, asyncio.InvalidStateError) else error
            if ended.code() in _SPOILT:
                await self._abort(ref)
            raise ended from error
        finally:
            call.cancel()  # nothing if it has ended

    async def _abort(self, ref: str) -> None:
        await c.tolerate(self._containerd.call(c.CONTENT_ABORT, pb.ContentRef(ref=ref)), errors.NotFound)

    async def label(self, digest: str, labels: Mapping[str, str], lease: str = "") -> None:
        mask = field_mask_pb2.FieldMask(paths=[f"labels.{key}" for key in labels])
        info = pb.ContentInfo(digest=digest, labels=labels)
        await self._containerd.call(
            c.CONTENT_UPDATE, pb.ContentInfoUpdate(info=info, update_mask=mask), lease=lease
        )

    # ---- images

    async def ingest(
        self, manifest_bytes: bytes, source: Source, lease: str, report: Report | None = None
    ) -> m.Configuration:
        """Bring in everything that a manifest names and unpack it; answers with its configuration."""
        manifest = m.parse_manifest(m.parse_json(manifest_bytes, "image manifest"))
        if manifest.config.size > MAX_CONFIG:
            raise errors.InvalidArgument("the image's configuration is too large")
        say: Report = report or (lambda _report: None)
        async with self._writers.of(manifest.config.digest):
            if not await self.exists(manifest.config.digest, lease):
                await self.write(manifest.config, source, lease)
        configuration = m.parse_configuration(await self.read(manifest.config.digest))
        if len(configuration.diff_ids) != len(manifest.layers):
            raise errors.InvalidArgument(
                f"the image has {len(manifest.layers)} layers, its configuration {len(configuration.diff_ids)}"
            )
        await self._fetch_layers(manifest, source, lease, say)
        labels = {"containerd.io/gc.ref.content.config": manifest.config.digest}
        for index, layer in enumerate(manifest.layers):
            labels[f"containerd.io/gc.ref.content.l.{index}"] = layer.digest
        async with self._writers.of(m.digest_of(manifest_bytes)):
            written = await self.write_bytes(manifest_bytes, lease, labels)
            await self.label(written.digest, labels, lease)  # it may have been there with none
        await self.unpack(manifest, configuration, lease, say)
        return configuration

    async def _fetch_layers(self, manifest: m.Manifest, source: Source, lease: str, say: Report) -> None:
        for layer in manifest.layers:
            say(LayerReport(layer.digest, WAITING))
        try:
            async with asyncio.TaskGroup() as group:
                for layer in _distinct(manifest.layers):
                    group.create_task(self._fetch_layer(layer, source, lease, say))
        except* errors.ShoalError as failed:
            raise _first(failed) from None

    async def _fetch_layer(self, layer: Descriptor, source: Source, lease: str, say: Report) -> None:
        async with self._layers, self._writers.of(layer.digest):
            if await self.exists(layer.digest, lease):
                return

            def progress(current: int) -> None:
                say(LayerReport(layer.digest, DOWNLOADING, current, layer.size))

            await self.write(layer, source, lease, None, progress)
            say(LayerReport(layer.digest, DOWNLOADED))

    async def unpack(
        self, manifest: m.Manifest, configuration: m.Configuration, lease: str, report: Report | None = None
    ) -> str:
        """Make the stack of snapshots, as far as it is missing; answers with the name of the top ("" if empty)."""
        say: Report = report or (lambda _report: None)
        parent = ""
        names = m.chain_ids(configuration.diff_ids)
        for layer, diff_id, name in zip(manifest.layers, configuration.diff_ids, names, strict=True):
            async with self._writers.of(name):
                if await self._has_snapshot(name, lease):
                    say(LayerReport(layer.digest, EXISTS))
                else:
                    say(LayerReport(layer.digest, EXTRACTING, 0, layer.size))
                    await self._unpack_layer(layer, diff_id, name, parent, lease)
                    say(LayerReport(layer.digest, COMPLETE))
            parent = name
        if parent:
            await self.label(manifest.config.digest, {SNAPSHOT_LABEL: parent}, lease)
        return parent

    async def size(self, diff_ids: Sequence[str]) -> int:
        """What the unpacked layers take on disk; those that aren't there count nothing."""
        return sum([await self.layer_size(name) for name in m.chain_ids(diff_ids)])

    async def layer_size(self, name: str) -> int:
        """What one snapshot takes on disk, without those below it."""
        key = pb.SnapshotKey(snapshotter=SNAPSHOTTER, key=name)
        used = await c.tolerate(self._containerd.call(c.SNAPSHOT_USAGE, key), errors.NotFound)
        return used.size if used is not None else 0

    async def _has_snapshot(self, name: str, lease: str) -> bool:
        await self._containerd.hold(lease, f"snapshots/{SNAPSHOTTER}", name)
        key = pb.SnapshotKey(snapshotter=SNAPSHOTTER, key=name)
        return await c.tolerate(self._containerd.call(c.SNAPSHOT_STAT, key), errors.NotFound) is not None

    async def _unpack_layer(
        self, layer: Descriptor, diff_id: str, name: str, parent: str, lease: str
    ) -> None:
        key = f"extract-{os.urandom(6).hex()} {name}"
        call = self._containerd.call
        prepared = await self.prepare(key, parent, lease)
        try:
            diff = pb.Descriptor(media_type=layer.media_type, digest=layer.digest, size=layer.size)
            request = pb.DiffApply(diff=diff, mounts=prepared)
            applied = await call(c.DIFF_APPLY, request, lease=lease, timeout=UNPACK_TIMEOUT)
            if applied.applied.digest != diff_id:
                raise errors.InvalidArgument(
                    f"layer {layer.digest} unpacks to {applied.applied.digest}, not to {diff_id}"
                )
            commit = pb.SnapshotCommit(snapshotter=SNAPSHOTTER, name=name, key=key)
            await call(c.SNAPSHOT_COMMIT, commit, lease=lease)
        except errors.AlreadyExists:
            await self.drop_snapshot(key)
        except (errors.ShoalError, asyncio.CancelledError):
            await self.drop_snapshot(key)
            raise

    async def prepare(self, key: str, parent: str, lease: str) -> Sequence[pb.Mount]:
        """A writable snapshot on top of `parent`; NotFound if that is gone."""
        try:
            return await self._prepare(key, parent, lease)
        except errors.ShoalError as error:
            # A crash between a folder's making and its record leaves a folder that is in the way of the next.
            if _IN_THE_WAY not in error.message:
                raise
        await self._containerd.call(c.SNAPSHOT_CLEANUP, pb.SnapshotCleanup(snapshotter=SNAPSHOTTER))
        return await self._prepare(key, parent, lease)

    async def _prepare(self, key: str, parent: str, lease: str) -> Sequence[pb.Mount]:
        request = pb.SnapshotPrepare(snapshotter=SNAPSHOTTER, key=key, parent=parent)
        made = await c.tolerate(
            self._containerd.call(c.SNAPSHOT_PREPARE, request, lease=lease), errors.AlreadyExists
        )
        return made.mounts if made is not None else await self.mounts(key)

    async def mounts(self, key: str) -> Sequence[pb.Mount]:
        request = pb.SnapshotKey(snapshotter=SNAPSHOTTER, key=key)
        return (await self._containerd.call(c.SNAPSHOT_MOUNTS, request)).mounts

    async def drop_snapshot(self, key: str) -> None:
        """Remove one; the garbage collector may have been faster."""
        request = pb.SnapshotKey(snapshotter=SNAPSHOTTER, key=key)
        await c.tolerate(self._containerd.call(c.SNAPSHOT_REMOVE, request), errors.NotFound)


async def _exchange(
    call: "aio.StreamStreamCall[Message, pb.ContentWritten]", request: pb.ContentWrite
) -> pb.ContentWritten:
    """One request and its answer; the stream's error if it ended instead."""
    await call.write(request)
    answer = await call.read()
    if isinstance(answer, pb.ContentWritten):
        return answer
    raise await _ended(call)


async def _ended(call: "aio.StreamStreamCall[Message, pb.ContentWritten]") -> aio.AioRpcError:
    metadata = aio.Metadata()
    return aio.AioRpcError(await call.code(), metadata, metadata, await call.details())


async def _nothing() -> AsyncGenerator[bytes, None]:
    return
    yield


async def _blocks(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The same bytes in blocks of a size that is worth a message."""
    waiting = bytearray()
    async for chunk in chunks:
        waiting += chunk
        while len(waiting) >= BLOCK:
            yield bytes(waiting[:BLOCK])
            del waiting[:BLOCK]
    if waiting:
        yield bytes(waiting)


def _distinct(layers: Iterable[Descriptor]) -> list[Descriptor]:
    return list({layer.digest: layer for layer in layers}.values())


def _first(group: ExceptionGroup[errors.ShoalError]) -> errors.ShoalError:
    for error in group.exceptions:
        return _first(error) if isinstance(error, ExceptionGroup) else error
    raise AssertionError("an exception group is never empty")
