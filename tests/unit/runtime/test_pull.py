"""agent/runtime/pull.py: what whoever asks for an image hears."""

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from agent.runtime.client import Containerd
from agent.runtime.content import Content
from agent.runtime.image import Platform, PullEvent, RegistryAuth
from agent.runtime.images import Images
from agent.runtime.pull import Puller
from agent.runtime.reference import Reference
from agent.runtime.registry import FoundManifest, Registry
from common import errors


class Refusing:
    """A registry that has nothing, and says why."""

    def __init__(self, text: str) -> None:
        self.text = text

    async def manifest(self, ref: Reference, auth: RegistryAuth | None) -> FoundManifest:
        raise errors.NotFound(self.text)


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("manifest unknown: manifest unknown", "manifest for web:9 not found: manifest unknown: manifest unknown"),
        ("name unknown: repository not known", "name unknown: repository not known"),
    ],
)  # fmt: skip
async def test_an_image_that_is_nowhere_is_refused_before_anything_is_said(said: str, heard: str) -> None:
    def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return group.create_task(work)

    events: list[PullEvent] = []
    async with asyncio.TaskGroup() as group:
        puller = Puller(
            cast(Containerd, None), cast(Content, None), cast(Images, None), cast(Registry, Refusing(said)),
            Platform("amd64", "linux"), spawn,
        )  # fmt: skip
        with pytest.raises(errors.NotFound) as refused:
            await puller.pull("web:9", None, events.append)
    assert (refused.value.message, events) == (heard, [])
