"""The parts of the agent that touch the machine, made from its settings: runtime, network, names, and the Engine API.

Called by agent/daemon.py, whose tests hand in an assembly of fakes.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent import identity
from agent.engine.app import Engine, serve
from agent.engine.backend import Backend, Singles, Swarm
from agent.engine.machine import Machine
from agent.gossip.service import Gossip
from agent.names import Names
from agent.network.api import Network
from agent.network.insight import Insight
from agent.network.manager import KernelNetwork
from agent.runtime.api import Runtime
from agent.runtime.registry import RegistrySettings
from agent.runtime.service import ContainerdRuntime, RuntimeSettings
from agent.settings import Settings
from agent.single.execs import Execs
from common.clock import Clock

LISTENER: Final = "docker"  # the name of the socket in shoal-agent.socket


@dataclass(frozen=True, slots=True)
class Assembly:
    """What the daemon runs."""

    runtime: Runtime
    network: Network
    names: Names
    gossip: Gossip
    routes: Callable[[], Awaitable[tuple[str, ...]]]  # of this machine, without those of overlays
    serve: Callable[[Swarm, Singles, Execs], AbstractAsyncContextManager[None]]  # the Engine API
    insight: Callable[[], Insight]  # into this kernel's networks


def _machine(settings: Settings, clock: Clock) -> Machine:
    """Docker's `ID`: stays with the installation."""
    return Machine(
        identity.machine_hash()[:32],
        settings.state.dir,
        clock.now_ns(),
        mirrors=settings.registry.mirrors,
        insecure=settings.registry.insecure,
    )


def assemble(settings: Settings, clock: Clock, handed_over: Mapping[str, list[int]]) -> Assembly:
    """The real parts; `handed_over` are systemd's sockets by name. Nothing is started."""
    runtime = ContainerdRuntime(
        RuntimeSettings(
            folder=Path(settings.state.dir),
            socket=settings.containerd.address,
            namespace=settings.containerd.namespace,
            oci_runtime=settings.containerd.runtime,
            registry=RegistrySettings(settings.registry.mirrors, settings.registry.insecure),
        ),
        clock,
    )
    names = Names(settings.network.resolvers, handed_over)
    network = KernelNetwork(Path(settings.network.folder), names.opened, names.closed, names.adopted)
    machine = _machine(settings, clock)

    def engine(swarm: Swarm, singles: Singles, execs: Execs) -> AbstractAsyncContextManager[None]:
        fds = handed_over.get(LISTENER, [])
        listener = socket.socket(fileno=fds[0]) if fds else None
        backend = Backend(swarm, runtime, singles, execs, machine, clock.now_ns, network.gateway_addresses)
        return serve(Engine(backend), settings.engine.socket, group=settings.engine.group, listener=listener)

    return Assembly(runtime, network, names, Gossip(), network.routes, engine, network.insight)
