"""A whole manager in this process, on loopback, for tests: real files, real gRPC, real certificates."""

import asyncio
import itertools
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from common import model, pki, rpc
from common.clock import SystemClock
from common.model.stubs import ControlStub, LocalStub
from manager.daemon import Daemon
from manager.settings import Settings

_PORTS = itertools.cycle(random.sample(range(20_000, 32_000), 12_000))


def free_port() -> int:
    """A port that is free, that no connection which somebody makes in the meantime gets as its own end, and that no other test
    of this run has just given back."""
    for port in _PORTS:
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError


async def ask(method: Any, request: Any) -> Any:
    """Calls a stub's method; errors come as those of common/errors.py."""
    try:
        return await method(request, timeout=30)
    except grpc.aio.AioRpcError as exc:
        raise rpc.error_from(exc) from exc


STOPPING = 60
"""Seconds in which a daemon ends."""


@dataclass
class Running:
    """A manager's daemon and clients of its unix socket."""

    daemon: Daemon
    local: LocalStub
    control: ControlStub
    path: Path
    port: int
    task: asyncio.Task[None]

    @property
    def addr(self) -> str:
        return f"127.0.0.1:{self.port}"

    def request(self, **other: Any) -> model.InitRequest:
        fields: dict[str, Any] = {
            "listen_addr": self.addr,
            "advertise_addr": self.addr,
            "csr": pki.create_csr(pki.new_key()),
            "hostname": "manager",
            "machine": "machine-1",
        }
        return model.InitRequest(**(fields | other))

    async def init(self, **other: Any) -> model.InitReply:
        reply: model.InitReply = await ask(self.local.Init, self.request(**other))
        return reply

    async def settled(self) -> None:
        """Waits until the leader has given the ingress network and the first node what they need."""
        assert self.daemon.member is not None
        with self.daemon.member.store.watch() as watch:
            async with asyncio.timeout(30):
                while not all(n.vni for n in watch.view.networks.all()) or not all(
                    n.attachments for n in watch.view.nodes.all()
                ):
                    await watch.next()

    async def cluster(self) -> model.Cluster:
        reply: model.ClusterReply = await ask(self.control.GetCluster, model.Nothing())
        return reply.cluster


@asynccontextmanager
async def manager(path: Path, port: int = 0, listener: socket.socket | None = None) -> AsyncIterator[Running]:
    """Runs a daemon on state and socket in `path`."""
    daemon = Daemon(Settings(state=str(path / "state"), socket=str(path / "m.sock")), SystemClock())
    stop = asyncio.Event()
    task = asyncio.create_task(daemon.run(stop, listener))
    channel = rpc.client(f"unix:{path}/m.sock")
    try:
        async with asyncio.timeout(30):
            ready = asyncio.create_task(channel.channel_ready())
            await asyncio.wait([ready, task], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                ready.cancel()
                await task
        yield Running(daemon, LocalStub(channel), ControlStub(channel), path, port or free_port(), task)
    finally:
        await channel.close()
        stop.set()
        await ended(task)


async def ended(task: asyncio.Task[None]) -> None:
    """Waits for a daemon that was told to stop; what it hangs on is shown."""
    done, _ = await asyncio.wait([task], timeout=STOPPING)
    if not done:
        for each in asyncio.all_tasks():
            each.print_stack()
        raise AssertionError(f"the daemon has not ended within {STOPPING} s; its tasks are above")
    await task


@asynccontextmanager
async def client(path: Path) -> AsyncIterator[tuple[LocalStub, ControlStub]]:
    """Clients of a manager's unix socket, once it is there."""
    async with rpc.client(f"unix:{path}") as channel:
        async with asyncio.timeout(30):
            await channel.channel_ready()
        yield LocalStub(channel), ControlStub(channel)
