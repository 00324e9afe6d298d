"""What the simulated managers have instead of gRPC, threads and chance. All of it is replaced here, for one run at a time.

The daemon's modules are not changed for the simulation's sake: they ask grpc.aio for servers, common/rpc.py for channels,
`secrets` for randomness and asyncio for threads, and get these.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import grpc
import grpc.aio

import manager.promotion
from common import rpc
from manager.raft.disk import FileDisk, Loaded
from manager.raft.group import Group
from manager.raft.loop import SameLoop, ThreadLoop
from manager.raft.replica import Limits
from manager.store.store import Store
from tests.simulation.managers.checks import Checks
from tests.simulation.managers.loop import PROCESS
from tests.simulation.managers.network import Network
from tests.simulation.managers.wires import Channel, Server, Shown

SEGMENT = 64 << 10


def _one_loop() -> dict[str, Any]:
    """ThreadLoop's methods without its thread."""

    def start(self: Any) -> None: ...

    async def stop(self: Any) -> None:
        await self._spawning.end()

    same = {name: getattr(SameLoop, name) for name in ("__init__", "call", "run", "spawn")}
    return {**same, "start": start, "stop": stop}


def _open_files() -> dict[str, Any]:
    """FileDisk's way to open its files; a process that is killed has to close them."""
    real = FileDisk.load

    def load(self: FileDisk) -> Loaded:
        process = PROCESS.get()
        if process is not None:
            process.disks.append(self)
        return real(self)

    return {"load": load}


def _watched_store(checks: Checks) -> dict[str, Any]:
    """Store's methods that consensus calls; they tell the checks what is applied."""
    real_apply, real_restore = Store.apply, Store.restore

    def apply(self: Store, index: int, term: int, data: bytes) -> None:
        real_apply(self, index, term, data)
        process = PROCESS.get()
        if process is not None and not process.killed and self._propose is not None:
            checks.applied(process.name, self, index, term, data)

    def restore(self: Store, data: bytes) -> None:
        real_restore(self, data)

    return {"apply": apply, "restore": restore}


def _group(rng: random.Random, limits: Limits) -> dict[str, Any]:
    """Group's beginning, with a run's limits and dice."""
    real = Group.__init__

    def begin(self: Group, *args: Any, **kw: Any) -> None:
        kw["limits"], kw["rng"] = limits, random.Random(rng.randrange(1 << 62))
        real(self, *args, **kw)

    return {"__init__": begin}


@contextmanager
def standins(network: Network, rng: random.Random, checks: Checks, limits: Limits) -> Iterator[None]:
    """For the time of one run."""

    def client(target: str, credentials: Any = None, server_name: str = "") -> Channel:
        return Channel(network, target, credentials)

    def nothing(*_: Any, **__: Any) -> None: ...

    size = (SEGMENT, *(FileDisk.__init__.__defaults__ or ())[1:])
    with ExitStack() as stack:
        for target, replaced in (
            (grpc.aio, {"server": lambda options=None: Server(network)}),
            (grpc, {"ssl_channel_credentials": lambda root, key, chain: Shown(chain)}),
            (
                grpc,
                {"ssl_server_certificate_configuration": nothing, "dynamic_ssl_server_credentials": nothing},
            ),
            (rpc, {"client": client}),
            (secrets, {"token_bytes": lambda count=32: rng.randbytes(count)}),
            (FileDisk.__init__, {"__defaults__": size}),
            (FileDisk, _open_files()),
            (ThreadLoop, _one_loop()),
            (Group, _group(rng, limits)),
            (Store, _watched_store(checks)),
            (manager.promotion, {"_free": nothing}),
        ):
            for name, value in replaced.items():
                stack.enter_context(patch.object(target, name, value))
        yield
