"""A runtime on a containerd of the tests' own, and containers for it. Used by test_runtime*.py and by their fixtures in conftest.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.runtime.api import ContainerConfig
from agent.runtime.service import ContainerdRuntime, RuntimeSettings
from common.ids import new_container_id
from tests.lab.containerd import OwnContainerd

IMAGE = "busybox:test"
PATIENCE = 60.0  # seconds for what usually takes less than one


@asynccontextmanager
async def running(containerd: OwnContainerd, **settings: object) -> AsyncIterator[ContainerdRuntime]:
    runtime = ContainerdRuntime(
        RuntimeSettings(folder=containerd.root / "agent", socket=containerd.socket, **settings)
    )
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.close()


async def in_blocks(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 100_000):
        yield data[at : at + 100_000]


def shell(script: str, **more: object) -> ContainerConfig:
    id = new_container_id()
    return ContainerConfig(id=id, name=f"t-{id[:6]}", image=IMAGE, args=("sh", "-c", script), **more)


async def run(runtime: ContainerdRuntime, config: ContainerConfig) -> tuple[int, str]:
    """To its end: exit code and output."""
    await runtime.create(config)
    await runtime.start_container(config.id)
    ended = await asyncio.wait_for(runtime.wait(config.id), PATIENCE)
    return ended.code, await output(runtime, config.id)


async def output(runtime: ContainerdRuntime, id: str) -> str:
    lines = [entry.data async for entry in runtime.logs(id)]  # all of it, where its end was waited for
    return b"".join(lines).decode()


async def wait_for(condition: object, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
