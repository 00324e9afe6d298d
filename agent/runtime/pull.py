"""Pulling an image: registry to content store, with the progress that Docker shows. One pull a reference at a time.

Several tasks of one service ask for the same image at once: they share one pull, and each hears its progress from
when it joined. A reference by digest that is here already asks no registry.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from agent.runtime import client as c
from agent.runtime import manifest as m
from agent.runtime import reference, registry
from agent.runtime.content import Content, LayerReport
from agent.runtime.image import (
    Descriptor,
    Distribution,
    ImageInfo,
    Platform,
    PullEvent,
    PullProgress,
    RegistryAuth,
)
from agent.runtime.images import Images
from agent.runtime.reference import Reference
from agent.runtime.registry import FoundManifest, Registry
from common import errors

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


@dataclass(slots=True)
class _Pull:
    """A pull under way and who listens."""

    result: "asyncio.Future[ImageInfo]"
    task: "asyncio.Task[None] | None" = None
    listeners: list[PullProgress] = field(default_factory=list)
    waiting: int = 0

    def say(self, event: PullEvent) -> None:
        for listener in self.listeners:
            listener(event)


class _BlobSource:
    """The registry's blobs as a content source."""

    def __init__(
        self, fetch: Registry, found: FoundManifest, ref: Reference, auth: RegistryAuth | None
    ) -> None:
        self._fetch = fetch
        self._found = found
        self._ref = ref
        self._auth = auth

    def read(self, descriptor: Descriptor, offset: int) -> AsyncGenerator[bytes, None]:
        return self._fetch.blob(self._found.endpoint, self._ref, descriptor, self._auth, offset)


class Puller:
    def __init__(
        self,
        containerd: c.Containerd,
        content: Content,
        images: Images,
        fetch: Registry,
        platform: Platform,
        spawn: Spawn,
    ) -> None:
        self._containerd = containerd
        self._content = content
        self._images = images
        self._fetch = fetch
        self._platform = platform
        self._spawn = spawn
        self._pulls: dict[tuple[str, RegistryAuth | None], _Pull] = {}

    async def pull(self, text: str, auth: RegistryAuth | None, progress: PullProgress | None) -> ImageInfo:
        """Join the pull of this reference, or begin it. It ends early only when nobody waits any more."""
        ref = reference.parse(text).tagged()
        key = (ref.canonical, auth)
        pull = self._pulls.get(key)
        if pull is None:
            pull = self._pulls[key] = _Pull(asyncio.get_running_loop().create_future())
            pull.task = self._spawn(self._settle(ref, auth, pull))
        if progress is not None:
            pull.listeners.append(progress)
        pull.waiting += 1
        try:
            return await asyncio.shield(pull.result)
        finally:
            pull.waiting -= 1
            if progress is not None:
                pull.listeners.remove(progress)
            if not pull.waiting:
                if self._pulls.get(key) is pull:
                    del self._pulls[key]
                if pull.task is not None:
                    pull.task.cancel()  # nothing if it is done

    async def _settle(self, ref: Reference, auth: RegistryAuth | None, pull: _Pull) -> None:
        """Run a pull for those who wait for it: its failure is theirs."""
        try:
            pull.result.set_result(await self._run(ref, auth, pull.say))
        except (errors.ShoalError, OSError) as error:
            if pull.waiting:
                pull.result.set_exception(error)
        finally:
            pull.result.cancel()  # nothing if it is settled

    async def distribution(self, text: str, auth: RegistryAuth | None) -> Distribution:
        """Ask the registry alone; nothing is kept."""
        ref = reference.parse(text).tagged()
        found = await self._fetch.manifest(ref, auth)
        configuration = None
        if found.descriptor.media_type not in m.INDEXES:
            config = m.parse_manifest(m.parse_json(found.data, "image manifest")).config
            async with aclosing(self._fetch.blob(found.endpoint, ref, config, auth)) as blob:
                configuration = m.parse_configuration(b"".join([chunk async for chunk in blob]))
        return registry.distribution(found, configuration)

    async def _manifest(self, ref: Reference, auth: RegistryAuth | None) -> FoundManifest:
        try:
            return await self._fetch.manifest(ref, auth)
        except errors.NotFound as error:
            if not error.message.startswith("manifest unknown"):
                raise
            raise errors.NotFound(f"manifest for {ref.familiar} not found: {error.message}") from error

    async def _run(self, ref: Reference, auth: RegistryAuth | None, say: PullProgress) -> ImageInfo:
        begun = PullEvent(f"Pulling from {_shown(ref)}", ref.wanted)
        if ref.digest and (here := await self._images.find(ref.canonical)) is not None:
            say(begun)
            await self._unpack_again(here)
            _finish(say, ref, ref.digest, news=False)
            return here
        found = await self._manifest(ref, auth)
        say(begun)
        data, kind = found.data, found.descriptor.media_type
        if kind in m.INDEXES:
            entries = m.parse_index(m.parse_json(data, "image index"))
            chosen = m.choose(entries, self._platform, ref.familiar)
            data = await self._fetch.child(found, ref, chosen.descriptor.digest, auth)
            kind = m.media_type(m.parse_json(data, "image manifest"), chosen.descriptor.media_type)
        target = Descriptor(kind, m.digest_of(data), len(data))
        source = _BlobSource(self._fetch, found, ref, auth)
        by_digest = ref.with_digest(found.descriptor.digest)
        # Of an image that is here by another name there is nothing to tell but the new name, as in Docker.
        known = await self._images.find(by_digest.canonical) is not None
        async with self._containerd.lease("pull") as lease:
            await self._content.ingest(
                data, source, lease, None if known else lambda report: _report(say, report)
            )
            news = await self._images.set(by_digest.canonical, target)
            if not ref.digest:
                news = await self._images.set(ref.canonical, target)
        _finish(say, ref, found.descriptor.digest, news)
        return await self._images.get(by_digest.canonical)

    async def _unpack_again(self, info: ImageInfo) -> None:
        """Snapshots of an image that is here may still be missing after a crash."""
        manifest, configuration = await self._images.manifest(info)
        async with self._containerd.lease("unpack") as lease:
            await self._content.unpack(manifest, configuration, lease)


def _shown(ref: Reference) -> str:
    """The hub's repositories without the host, others whole."""
    return ref.path if ref.domain == reference.DEFAULT_DOMAIN else ref.repository


def _report(say: PullProgress, report: LayerReport) -> None:
    short = report.digest.removeprefix("sha256:")[:12]
    say(PullEvent(report.step, short, report.current, report.total))


def _finish(say: PullProgress, ref: Reference, digest: str, news: bool) -> None:
    say(PullEvent(f"Digest: {digest}"))
    what = "Downloaded newer image" if news else "Image is up to date"
    say(PullEvent(f"Status: {what} for {ref.familiar}"))
