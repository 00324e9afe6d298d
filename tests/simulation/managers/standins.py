"""What the simulated managers have instead of gRPC, threads and chance. All of it is replaced here, for one run at a time.

The daemon's modules are not changed for the simulation's sake: they ask grpc.aio for servers, common/rpc.py for channels,
`secrets` for randomness and asyncio for threads, and get these.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import grpc
import grpc.aio

import manager.member
import manager.promotion
from common import rpc
from manager.raft.disk import FileDisk
from manager.raft.group import Group
from manager.raft.loop import SameLoop
from manager.raft.replica import Limits
from manager.store.store import Store
from tests.simulation.managers.checks import Checks
from tests.simulation.managers.loop import PROCESS
from tests.simulation.managers.network import Network
from tests.simulation.managers.wires import Channel, Server, Shown

SEGMENT = 64 << 10


class OneLoop(SameLoop):
    """ThreadLoop's shape without its thread."""

    def start(self) -> None: ...

    async def stop(self) -> None:
        await self._spawning.end()


class WatchedStore(Store):
    """Tells the checks what is applied."""

    checks: Checks

    def apply(self, index: int, term: int, data: bytes) -> None:
        process = PROCESS.get()
        super().apply(index, term, data)
        if process is not None and not process.killed:
            self.checks.applied(process.name, self, index, term, data)

    def restore(self, data: bytes) -> None:
        super().restore(data)
        process = PROCESS.get()
        if process is not None and not process.killed:
            self.checks.restored(process.name, self)


@contextmanager
def standins(network: Network, rng: random.Random, checks: Checks, limits: Limits) -> Iterator[None]:
    """For the time of one run."""

    def client(target: str, credentials: Any = None, server_name: str = "") -> Channel:
        return Channel(network, target, credentials)

    def group(*args: Any, **kw: Any) -> Group:
        kw["limits"], kw["rng"] = limits, random.Random(rng.randrange(1 << 62))
        return Group(*args, **kw)

    store = type("WatchedStore", (WatchedStore,), {"checks": checks})
    size = (SEGMENT, *(FileDisk.__init__.__defaults__ or ())[1:])
    with (
        patch.object(grpc.aio, "server", lambda options=None: Server(network)),
        patch.object(grpc, "ssl_channel_credentials", lambda root, key, chain: Shown(chain)),
        patch.object(grpc, "ssl_server_certificate_configuration", lambda *_: None),
        patch.object(grpc, "dynamic_ssl_server_credentials", lambda *_, **__: None),
        patch.object(rpc, "client", client),
        patch.object(secrets, "token_bytes", lambda count=32: rng.randbytes(count)),
        patch.object(FileDisk.__init__, "__defaults__", size),
        patch.object(manager.member, "ThreadLoop", OneLoop),
        patch.object(manager.member, "Group", group),
        patch.object(manager.member, "Store", store),
        patch.object(manager.promotion, "_free", lambda addr: None),
    ):
        yield
