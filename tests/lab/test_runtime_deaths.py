"""The runtime and containerd's death, its own, and that of the whole machine: nothing is lost, nothing runs twice."""

# ruff: noqa: ASYNC240 - blocking looks at small files are fine here
from __future__ import annotations

import asyncio
import os
import time

import pytest

from agent.runtime.api import ContainerConfig, Status
from agent.runtime.service import ContainerdRuntime
from tests.lab.containerd import OwnContainerd
from tests.lab.runtimes import PATIENCE, output, running, shell, wait_for

pytestmark = pytest.mark.lab


async def test_wait_survives_containerds_death(runtime: ContainerdRuntime, containerd: OwnContainerd) -> None:
    config = shell("echo one; sleep 1000")
    await runtime.create(config)
    pid = await runtime.start_container(config.id)
    waiting = asyncio.create_task(runtime.wait(config.id))
    containerd.kill()
    # Its process ends while nobody is there to see it.
    second = shell("sleep 1000")
    creating = asyncio.create_task(runtime.create(second))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert os.path.exists(f"/proc/{pid}")
    containerd.start()
    await asyncio.wait_for(creating, PATIENCE)
    await asyncio.wait_for(runtime.start_container(second.id), PATIENCE)
    assert os.path.exists(f"/proc/{pid}")
    assert not waiting.done()
    containerd.kill()
    os.kill(pid, 9)
    containerd.start()
    assert (await asyncio.wait_for(waiting, PATIENCE)).code == 137
    state = await runtime.container(second.id)
    assert state is not None
    assert state.status is Status.RUNNING
    assert (await runtime.stop(second.id, "SIGKILL")).code == 137


async def test_a_new_runtime_adopts(runtime: ContainerdRuntime, containerd: OwnContainerd) -> None:
    lives = shell("i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.05; done")
    ends = shell("sleep 0.5; echo last words; exit 4")
    done = shell("exit 5")
    async with running(containerd) as first:
        for config in (lives, ends, done):
            await first.create(config)
            await first.start_container(config.id)
        assert (await first.wait(done.id)).code == 5
        pid = (await first.container(lives.id)).pid
        waiting = asyncio.create_task(first.wait(ends.id))
    waiting.cancel()
    async with running(containerd) as second:
        states = {state.id: state for state in await second.containers()}
        assert states[lives.id].pid == pid
        assert states[lives.id].config == lives
        assert states[done.id].exit is not None
        assert states[done.id].exit.code == 5
        assert (await asyncio.wait_for(second.wait(ends.id), PATIENCE)).code == 4
        assert await output(second, ends.id) == "last words\n"
        ticks = []
        async for entry in second.logs(lives.id, follow=True):
            ticks.append(entry.data)
            if len(ticks) == 30:
                break
        assert ticks == [f"tick {i}\n".encode() for i in range(30)]
        for config in (lives, ends, done):
            await second.remove(config.id, force=True)
            assert not os.path.exists(second.folder(config.id))


async def test_twenty_at_once(runtime: ContainerdRuntime) -> None:
    configs = [shell("sleep 1000") for _ in range(20)]

    async def life(config: ContainerConfig) -> int:
        await runtime.create(config)
        return await runtime.start_container(config.id)

    started = time.monotonic()
    pids = await asyncio.gather(*(life(config) for config in configs))
    print(f"20 containers in {time.monotonic() - started:.2f} s")
    assert len(set(pids)) == 20
    assert all(os.path.exists(f"/proc/{pid}") for pid in pids)
    started = time.monotonic()
    await asyncio.gather(*(runtime.remove(config.id, force=True) for config in configs))
    print(f"removed in {time.monotonic() - started:.2f} s")
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    assert await runtime.containers() == []


@pytest.mark.parametrize("delay", [0.1, 0.3, 0.6])
async def test_containerd_dies_amid_starts(
    runtime: ContainerdRuntime, containerd: OwnContainerd, delay: float
) -> None:
    """Whoever starts containers meanwhile sees delay, no failure; each runs once."""
    configs = [shell("echo started; sleep 1000") for _ in range(12)]

    async def life(config: ContainerConfig) -> int:
        await runtime.create(config)
        return await runtime.start_container(config.id)

    async def crash() -> None:
        await asyncio.sleep(delay)
        containerd.kill()
        containerd.start()

    crashing = asyncio.create_task(crash())
    pids = await asyncio.wait_for(asyncio.gather(*(life(config) for config in configs)), PATIENCE)
    await crashing
    assert len(set(pids)) == 12
    for config, pid in zip(configs, pids, strict=True):
        assert os.path.exists(f"/proc/{pid}")
        assert list(await runtime.processes(config.id)) == [pid]
        state = await runtime.container(config.id)
        assert state is not None
        assert (state.status, state.pid) == (Status.RUNNING, pid)
    await asyncio.gather(*(runtime.remove(config.id, force=True) for config in configs))
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    await nobody_is_left(containerd)


async def nobody_is_left(containerd: OwnContainerd) -> None:
    """A shim answers first and ends then."""

    async def gone() -> bool:
        return not containerd.shims()

    await wait_for(gone)


async def test_containerd_dies_amid_removals(runtime: ContainerdRuntime, containerd: OwnContainerd) -> None:
    configs = [shell("sleep 1000") for _ in range(8)]
    for config in configs:
        await runtime.create(config)
        await runtime.start_container(config.id)
    removing = asyncio.gather(*(runtime.remove(config.id, force=True) for config in configs))
    await asyncio.sleep(0.05)
    containerd.kill()
    containerd.start()
    await asyncio.wait_for(removing, PATIENCE)
    assert await runtime.containers() == []
    await nobody_is_left(containerd)


async def test_after_a_power_cut_containers_can_be_started_again(
    runtime: ContainerdRuntime, containerd: OwnContainerd
) -> None:
    config = shell("echo run >> /count; cat /count; sleep 1000")
    async with running(containerd) as before:
        await before.create(config)
        await before.start_container(config.id)
        await wait_for(lambda: has_output(before, config.id, b"run\n"))
    containerd.power_cut()
    containerd.start()
    async with running(containerd) as after:
        state = await after.container(config.id)
        assert state is not None
        assert state.status is Status.STOPPED
        assert state.exit is not None
        assert state.exit.code == 255
        assert (await after.wait(config.id)).code == 255
        await after.start_container(config.id)
        await wait_for(lambda: has_output(after, config.id, b"run\nrun\nrun\n"))
        await after.remove(config.id, force=True)


async def has_output(runtime: ContainerdRuntime, id: str, wanted: bytes) -> bool:
    return b"".join([entry.data async for entry in runtime.logs(id)]) == wanted
