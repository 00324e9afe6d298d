"""The node's images: names kept in containerd's image store, facts read from their manifests.

An image is kept under its canonical name (docker.io/library/nginx:latest) and, when it came from a registry, also as
repository@digest with the digest that was asked for; both point at the manifest for this node's platform. Called by
the puller, the archive loader, the runtime's facade and the creation of containers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.runtime import client as c
from agent.runtime import manifest as m
from agent.runtime import reference
from agent.runtime.content import Content
from agent.runtime.image import Descriptor, ImageInfo, RemovedImage
from common import errors
from common.pb import containerd_pb2 as pb

UNNAMED = "unnamed"  # UNNAMED@digest keeps an image that came without a name


@dataclass(frozen=True, slots=True)
class _Known:
    """What a manifest says; it never changes."""

    manifest: m.Manifest
    configuration: m.Configuration
    size: int


class Images:
    def __init__(self, containerd: c.Containerd, content: Content) -> None:
        self._containerd = containerd
        self._content = content
        self._known: dict[str, _Known] = {}  # manifest digest -> facts

    async def set(self, name: str, target: Descriptor) -> bool:
        """Let `name` mean the manifest `target`; False if it did already."""
        descriptor = pb.Descriptor(media_type=target.media_type, digest=target.digest, size=target.size)
        image = pb.Image(name=name, target=descriptor)
        found = await c.tolerate(self._containerd.call(c.IMAGE_GET, pb.Name(name=name)), errors.NotFound)
        if found is not None:
            if found.image.target.digest == target.digest:
                return False
            await self._containerd.call(c.IMAGE_UPDATE, pb.ImageBox(image=image))
        else:
            call = self._containerd.call(c.IMAGE_CREATE, pb.ImageBox(image=image))
            if await c.tolerate(call, errors.AlreadyExists) is None:
                await self._containerd.call(c.IMAGE_UPDATE, pb.ImageBox(image=image))
        return True

    async def all(self) -> list[ImageInfo]:
        """Every image once, with all its names; the newest first."""
        by_id: dict[str, list[tuple[str, Descriptor]]] = {}
        for image in await self._records():
            target = Descriptor(image.target.media_type, image.target.digest, image.target.size)
            known = await self._facts(target.digest)
            if known is not None:
                by_id.setdefault(known.manifest.config.digest, []).append((image.name, target))
        infos = [await self._info(names) for names in by_id.values()]
        return sorted(infos, key=lambda info: (info.created, info.id), reverse=True)

    async def find(self, text: str) -> ImageInfo | None:
        """By name, name with digest, id or the beginning of an id (unique, 3 digits at least)."""
        infos = await self.all()
        return _by_name(infos, text) or _by_id(infos, text)

    async def get(self, text: str) -> ImageInfo:
        info = await self.find(text)
        if info is None:
            raise missing(text)
        return info

    async def manifest(self, info: ImageInfo) -> tuple[m.Manifest, m.Configuration]:
        return await self.manifest_of(info.target.digest)

    async def manifest_of(self, digest: str) -> tuple[m.Manifest, m.Configuration]:
        known = await self._facts(digest)
        if known is None:
            raise missing(digest)
        return known.manifest, known.configuration

    async def tag(self, source: str, target: str) -> None:
        info = await self.get(source)
        name = reference.parse(target).tagged()
        if name.digest:
            raise errors.InvalidArgument("refusing to create a tag with a digest reference")
        await self.set(name.canonical, info.target)

    async def remove(self, text: str, force: bool, used_by: Sequence[str]) -> list[RemovedImage]:
        """Remove a name, and the image with its last one. `used_by`: ids of containers made from this image."""
        info = await self.get(text)
        named = _by_name([info], text) is not None
        names = [n for n in (*info.tags, *info.digests) if not named or _same_name(n, text)]
        if not named and len(info.tags) > 1 and not force:
            short = info.id.removeprefix("sha256:")[:12]
            raise errors.Conflict(
                f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
            )
        remaining = [n for n in info.tags if n not in names]
        if not remaining:
            names = [*info.tags, *info.digests]  # digests go with the last tag
            if used_by and not force:
                raise errors.Conflict(
                    f'conflict: unable to remove repository reference "{text}" (must force) - container '
                    f"{used_by[0][:12]} is using its referenced image {info.id.removeprefix('sha256:')[:12]}"
                )
        removed = []
        for name in names:
            request = pb.ImageDelete(name=reference.parse(name).canonical, sync=name == names[-1])
            await c.tolerate(self._containerd.call(c.IMAGE_DELETE, request), errors.NotFound)
            removed.append(RemovedImage(untagged=name))
        if not remaining:
            nameless = pb.ImageDelete(name=f"{UNNAMED}@{info.target.digest}", sync=True)
            await c.tolerate(self._containerd.call(c.IMAGE_DELETE, nameless), errors.NotFound)
            self._known.pop(info.target.digest, None)
            removed.append(RemovedImage(deleted=info.id))
            removed += [RemovedImage(deleted=name) for name in reversed(m.chain_ids(info.diff_ids))]
        return removed

    async def _records(self) -> Iterable[pb.Image]:
        return (await self._containerd.call(c.IMAGE_LIST, pb.Filters())).images

    async def _facts(self, digest: str) -> _Known | None:
        """Read a manifest and its configuration; None if they are gone or not an image of ours."""
        known = self._known.get(digest)
        if known is None:
            try:
                manifest = m.parse_manifest(m.parse_json(await self._content.read(digest), "image manifest"))
                configuration = m.parse_configuration(await self._content.read(manifest.config.digest))
            except (errors.NotFound, errors.InvalidArgument):
                return None
            known = _Known(manifest, configuration, await self._content.size(configuration.diff_ids))
            if known.size or not configuration.diff_ids:
                self._known[digest] = known
        return known

    async def _info(self, names: Sequence[tuple[str, Descriptor]]) -> ImageInfo:
        known = await self._facts(names[0][1].digest)
        if known is None:
            raise missing(names[0][0])
        configuration = known.configuration
        references = sorted(
            reference.parse(name).familiar for name, _ in names if not name.startswith(f"{UNNAMED}@")
        )
        return ImageInfo(
            id=known.manifest.config.digest,
            tags=tuple(name for name in references if "@" not in name),
            digests=tuple(name for name in references if "@" in name),
            target=names[0][1],
            platform=configuration.platform,
            created=configuration.created,
            size=known.size,
            config=configuration.run,
            diff_ids=configuration.diff_ids,
            raw=configuration.raw,
        )


def missing(text: str) -> errors.NotFound:
    """Docker's words for an image that isn't here."""
    try:
        shown = reference.parse(text).tagged().familiar
    except errors.InvalidArgument:
        shown = text
    return errors.NotFound(f"No such image: {shown}")


def _same_name(name: str, text: str) -> bool:
    wanted = reference.parse(text)
    found = reference.parse(name)
    if wanted.digest:
        return (found.repository, found.digest) == (wanted.repository, wanted.digest)
    return found.canonical == wanted.tagged().canonical


def _by_name(infos: Iterable[ImageInfo], text: str) -> ImageInfo | None:
    """A digest decides alone; it may be the one pulled by, or the manifest's own under any name of the repository."""
    try:
        wanted = reference.parse(text)
    except errors.InvalidArgument:
        return None
    for info in infos:
        if any(_same_name(name, text) for name in (*info.tags, *info.digests)):
            return info
        if wanted.digest and info.target.digest == wanted.digest:
            repositories = {reference.parse(name).repository for name in (*info.tags, *info.digests)}
            if wanted.repository in repositories:
                return info
    return None


def _by_id(infos: Iterable[ImageInfo], text: str) -> ImageInfo | None:
    if not reference.looks_like_id(text):
        return None
    digits = text.removeprefix("sha256:")
    found = [info for info in infos if info.id.removeprefix("sha256:").startswith(digits)]
    return found[0] if len(found) == 1 else None
