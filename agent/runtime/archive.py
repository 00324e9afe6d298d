"""Images out of tar archives: an OCI layout, or what `docker save` writes; plain or gzip.

The stream is kept in a temporary file, whose members are then read in place. Nothing is extracted by the names in
the archive, so no path in it can lead anywhere. Called by the runtime's `load`.
"""

import asyncio
import gzip
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from agent.runtime import client as c
from agent.runtime import manifest as m
from agent.runtime import reference
from agent.runtime.content import Content, LayerReport
from agent.runtime.image import Descriptor, Platform, PullEvent, PullProgress
from agent.runtime.images import UNNAMED, Images
from common import errors

_BLOCK = 1 << 20
_MAX_LINKS = 4
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True, slots=True)
class Member:
    """Where a file's bytes lie in the archive."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Found:
    """One image of an archive: its manifest, and the names it is to have."""

    manifest: bytes
    names: tuple[str, ...]


class Archive:
    """An opened, uncompressed tar whose members are read by position; also a content source."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._members = _index(file)
        self._blobs: dict[str, Member] = {}  # digests that aren't in the layout's own place

    def read(self, descriptor: Descriptor, offset: int) -> AsyncGenerator[bytes, None]:
        return self._stream(self._blob(descriptor), offset)

    async def _stream(self, member: Member, offset: int) -> AsyncGenerator[bytes, None]:
        while offset < member.size:
            size = min(_BLOCK, member.size - offset)
            data = await asyncio.to_thread(os.pread, self._file.fileno(), size, member.offset + offset)
            if not data:
                raise errors.InvalidArgument("unexpected end of the archive")
            offset += len(data)
            yield data

    def images(self, platform: Platform) -> list[Found]:
        """What is in it; `docker save`'s own list decides where there are both."""
        if "manifest.json" in self._members:
            listed = _json(self._small("manifest.json"))
            if not isinstance(listed, list):
                raise errors.InvalidArgument("invalid archive: manifest.json isn't a list")
            return [self._saved(entry) for entry in listed]
        if "index.json" not in self._members:
            raise errors.InvalidArgument("invalid archive: neither manifest.json nor index.json is in it")
        return self._layout(self._small("index.json"), platform, ())

    def _layout(self, index: bytes, platform: Platform, names: tuple[str, ...]) -> list[Found]:
        """Each entry of the top index is an image; an index below it is one image for several platforms."""
        found = []
        for entry in m.parse_index(m.parse_json(index, "image index")):
            own = names or _names(entry.annotations)
            data = self._blob_bytes(entry.descriptor)
            parsed = m.parse_json(data, "image manifest")
            if m.media_type(parsed, entry.descriptor.media_type) in m.INDEXES:
                chosen = m.choose(m.parse_index(parsed), platform, own[0] if own else "the archive")
                data = self._blob_bytes(chosen.descriptor)
            found.append(Found(data, own))
        return found

    def _saved(self, entry: Any) -> Found:
        if not isinstance(entry, dict) or not isinstance(entry.get("Config"), str):
            raise errors.InvalidArgument("invalid archive: an entry of manifest.json without Config")
        config = self._described(entry["Config"], m.DOCKER_CONFIG)
        layers = []
        for name in entry.get("Layers") or ():
            zipped = self._peek(name).startswith(b"\x1f\x8b")
            layers.append(self._described(name, m.DOCKER_LAYER_GZIP if zipped else m.DOCKER_LAYER))
        return Found(m.synthesise(config, layers), tuple(entry.get("RepoTags") or ()))

    def _described(self, name: str, kind: str) -> Descriptor:
        member = self._member(name)
        digest = hashlib.sha256()
        for start in range(0, member.size, _BLOCK):
            size = min(_BLOCK, member.size - start)
            digest.update(os.pread(self._file.fileno(), size, member.offset + start))
        descriptor = Descriptor(kind, "sha256:" + digest.hexdigest(), member.size)
        self._blobs[descriptor.digest] = member
        return descriptor

    def _blob(self, descriptor: Descriptor) -> Member:
        known = self._blobs.get(descriptor.digest)
        return known or self._member("blobs/" + descriptor.digest.replace(":", "/"))

    def _blob_bytes(self, descriptor: Descriptor) -> bytes:
        return self._small("blobs/" + descriptor.digest.replace(":", "/"))

    def _small(self, name: str) -> bytes:
        member = self._member(name)
        if member.size > m.MAX_MANIFEST:
            raise errors.InvalidArgument(f"invalid archive: {name} is too large")
        return os.pread(self._file.fileno(), member.size, member.offset)

    def _peek(self, name: str) -> bytes:
        return os.pread(self._file.fileno(), 2, self._member(name).offset)

    def _member(self, name: str) -> Member:
        member = self._members.get(os.path.normpath(name))
        if member is None:
            raise errors.InvalidArgument(f"invalid archive: {name} is not in it")
        return member


async def load(
    stream: AsyncIterable[bytes],
    scratch: Path,
    containerd: c.Containerd,
    content: Content,
    images: Images,
    platform: Platform,
    progress: PullProgress | None,
) -> list[str]:
    """Bring in every image of an archive; answers with their familiar names, or the id of one without."""

    def report(item: LayerReport) -> None:
        if progress is not None:
            short = item.digest.removeprefix("sha256:")[:12]
            progress(PullEvent("Loading layer", short, item.current, item.total))

    loaded: list[str] = []
    with tempfile.TemporaryFile(dir=scratch) as file:
        await _spool(stream, file)
        plain = await asyncio.to_thread(_uncompressed, file, scratch)
        with plain:
            archive = await asyncio.to_thread(Archive, plain)
            for found in await asyncio.to_thread(archive.images, platform):
                async with containerd.lease("load") as lease:
                    await content.ingest(found.manifest, archive, lease, report)
                    loaded += await _name(found, images)
    return loaded


async def _name(found: Found, images: Images) -> list[str]:
    kind = m.media_type(m.parse_json(found.manifest, "image manifest"))
    target = Descriptor(kind, m.digest_of(found.manifest), len(found.manifest))
    if not found.names:
        config = m.parse_manifest(m.parse_json(found.manifest, "image manifest")).config.digest
        await images.set(f"{UNNAMED}@{target.digest}", target)
        return [config]
    names = [reference.parse(name).tagged() for name in found.names]
    for name in names:
        await images.set(name.canonical, target)
    return [name.familiar for name in names]


async def _spool(stream: AsyncIterable[bytes], file: IO[bytes]) -> None:
    async for chunk in stream:
        await asyncio.to_thread(file.write, chunk)
    await asyncio.to_thread(file.seek, 0)


def _uncompressed(file: IO[bytes], scratch: Path) -> IO[bytes]:
    """The archive itself, or its unzipped copy."""
    zipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if not zipped:
        return os.fdopen(os.dup(file.fileno()), "rb")
    plain = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - the caller closes it
    try:
        with gzip.open(file) as unzipped:
            shutil.copyfileobj(unzipped, plain, _BLOCK)
    except (OSError, EOFError) as error:
        plain.close()
        raise errors.InvalidArgument(f"invalid archive: {error}") from error
    plain.flush()
    plain.seek(0)
    return plain


def _index(file: IO[bytes]) -> dict[str, Member]:
    """Every regular file of a tar, and links to them (older archives link equal layers)."""
    members: dict[str, Member] = {}
    links: dict[str, str] = {}
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for item in tar:
                name = os.path.normpath(item.name)
                if item.isreg():
                    members[name] = Member(item.offset_data, item.size)
                elif item.issym():
                    links[name] = os.path.normpath(os.path.join(os.path.dirname(name), item.linkname))
                elif item.islnk():
                    links[name] = os.path.normpath(item.linkname)
    except (tarfile.TarError, EOFError) as error:
        raise errors.InvalidArgument(f"invalid archive: {error}") from error
    for _ in range(_MAX_LINKS):
        members |= {name: members[to] for name, to in links.items() if to in members}
    return members


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise errors.InvalidArgument(f"invalid archive: {error}") from error


def _names(annotations: Mapping[str, str]) -> tuple[str, ...]:
    """A full name, if the layout gives one; a bare tag names nothing."""
    for key in _NAME_ANNOTATIONS:
        name = annotations.get(key, "")
        if name and (key == _NAME_ANNOTATIONS[0] or any(mark in name for mark in "/:")):
            return (name,)
    return ()
