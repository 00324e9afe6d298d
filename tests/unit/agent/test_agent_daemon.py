"""The daemon with fakes for the machine: order of start, nothing stopped at the end, and a second agent refused."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent / "worker"))
sys.path.insert(0, str(Path(__file__).parent / "gossip"))

from fake_members import Factory
from fakes import FakeNetwork, FakeRuntime, until

from agent import daemon, identity, names
from agent.assembly import Assembly
from agent.database import Contact, TaskRecord, open_database
from agent.engine.backend import Swarm
from agent.gossip.service import Gossip
from agent.network.insight import Insight
from agent.settings import Network, Settings, State
from agent.state import NodeState
from common import model


class Recorder:
    """An assembly of fakes that notes what happens in which order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.members = Factory()
        self.runtime = FakeRuntime()
        self.network = FakeNetwork()
        apply = self.network.apply

        async def noted(state: NodeState) -> None:
            self.events.append("applied")
            self.network.keys_when_applied.append([*self.network.keys])
            await apply(state)

        async def started() -> None:
            self.events.append("runtime")

        self.network.apply = noted  # type: ignore[method-assign]
        self.runtime.start = started  # type: ignore[attr-defined]
        self.runtime.close = self.network.close  # type: ignore[attr-defined]
        self.swarm: Swarm

    @contextlib.asynccontextmanager
    async def serve(self, swarm: Swarm, singles: object, execs: object) -> AsyncIterator[None]:
        self.swarm = swarm
        self.events.append("listening")
        yield

    async def routes(self) -> tuple[str, ...]:
        return ()

    def insight(self) -> Insight:
        raise AssertionError("no network is checked here")

    def __call__(self, settings: Settings, clock: Any, handed_over: Any) -> Assembly:
        return Assembly(
            self.runtime, self.network, names.Names((), {}), Gossip(self.members), self.routes, self.serve,  # type: ignore[arg-type]
            self.insight,
        )  # fmt: skip


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Recorder]:
    recorder = Recorder()
    agent = daemon.Agent(
        Settings(state=State(str(folder)), network=Network(folder=str(folder / "run"))), recorder
    )
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(agent.run())
        await until(lambda: "listening" in recorder.events and "runtime" in recorder.events)
        yield recorder
        agent.stop()


async def remember(folder: Path) -> None:
    database, _ = open_database(folder)
    task = model.Task(id="t1", name="web.1.t1", desired_state=model.TaskState.TASK_RUNNING)
    await database.put_state(
        NodeState("n1", model.Fence("c1", 1, 1, 9), "a", {"t1": model.TaskAssignment(task, True)})
    )
    await database.put_tasks(
        [TaskRecord("t1", "c1", model.TaskStatus(1, model.TaskState.TASK_RUNNING, "started"))]
    )
    database.close()


async def test_a_member_serves_traffic_before_anything_else(tmp_path: Path) -> None:
    await remember(tmp_path)
    identity.save(tmp_path, identity.Identity("n1", "c1", "", "", "", "m"))
    async with running(tmp_path) as recorder:
        assert recorder.events[0] == "applied"
        assert recorder.network.applied[0].fence.index == 9
        assert recorder.swarm.membership().node_id == "n1"
    assert not [c for c in recorder.runtime.calls if c.startswith(("stop", "remove"))]


async def test_the_keys_of_encrypted_networks_come_before_the_kernel_is_touched(tmp_path: Path) -> None:
    """Else a restart would take the seals away from tunnels that are in use."""
    await remember(tmp_path)
    identity.save(tmp_path, identity.Identity("n1", "c1", "", "", "", "m"))
    ring = (model.EncryptionKey("networking:ipsec", b"1" * 16, 1),)
    database, _ = open_database(tmp_path)
    await database.put_contact(Contact(network_keys=ring))
    database.close()
    async with running(tmp_path) as recorder:
        recorder.network.lacks_for_seals = "esp4"
        assert recorder.network.keys_when_applied[0] == [ring]
        described = await recorder.swarm.describe()  # type: ignore[attr-defined]
        assert described.encryption_lacks == "esp4"
        assert described.abilities == ("overlay-ipv6", "overlay-encryption", "overlay-mac")


async def test_without_an_identity_nothing_is_remembered(tmp_path: Path) -> None:
    await remember(tmp_path)
    async with running(tmp_path) as recorder:
        assert "applied" not in recorder.events
        assert recorder.swarm.state() == NodeState()
    _, remembered = open_database(tmp_path)
    assert remembered.tasks == {}


async def test_a_part_that_fails_when_it_is_cancelled_ends_all_the_same() -> None:
    began = asyncio.Event()

    async def child() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            raise ValueError("an unlucky moment")

    async def part() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())

    job = asyncio.create_task(daemon._again("part", part))
    await began.wait()
    job.cancel()
    async with asyncio.timeout(30):
        await asyncio.wait([job])
    assert job.cancelled()


def test_two_agents_on_one_folder(tmp_path: Path) -> None:
    lock = daemon._alone(tmp_path)
    with pytest.raises(SystemExit, match="another agent runs"):
        daemon._alone(tmp_path)
    os.close(lock)
    os.close(daemon._alone(tmp_path))


def test_sockets_of_the_process_before_come_in_pairs() -> None:
    made = [
        socket.socket(socket.AF_INET, kind)
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_DGRAM)
    ]
    fds = [s.detach() for s in made]
    pairs = names.stored_sockets(
        {"dns-t1-udp": [fds[0]], "dns-t1-tcp": [fds[1]], "dns-t2-udp": [fds[2]], "docker": [99]}
    )
    assert list(pairs) == ["t1"]
    assert [s.fileno() for s in pairs["t1"]] == fds[:2]
    for sock in pairs["t1"]:
        sock.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fds[2])
