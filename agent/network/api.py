"""The seam between the agent's worker and its network: what the worker may ask of the kernel.

The implementation is agent/network/manager.py; one thread of it owns netlink, nftables and namespaces.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from agent.network.bridges import Local
from agent.state import NodeState
from common import model


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A container's network namespace, ready for its process."""

    task_id: str
    netns_path: str
    addresses: tuple[str, ...]  # of its overlay legs, without prefix length
    gateway_address: str = ""  # on docker_gwbridge


class Network(Protocol):
    """Moves the kernel to what NodeState says. All methods are safe to repeat."""

    async def start(self) -> None:
        """Opens what it needs and adopts what an earlier process left in the kernel."""

    async def close(self) -> None:
        """Lets go of sockets and threads; the kernel's state stays as it is."""

    @property
    def attached(self) -> Collection[str]:
        """Tasks that have a namespace."""

    @property
    def local(self) -> Collection[str]:
        """Single containers that have a namespace."""

    @property
    def gateway_subnet(self) -> str:
        """docker_gwbridge's; empty where nobody needs one yet: it gives way to others then."""

    @property
    def lacks_for_seals(self) -> str:
        """The kernel's module that encrypted networks need and that isn't there; empty when they work."""

    def use_keys(self, keys: Iterable[model.EncryptionKey]) -> None:
        """The swarm's keys are these: what is encrypted follows."""

    @property
    def routes_by_mark(self) -> bool:
        """Whether tasks here can answer the mesh's clients through the node that took their connection; known after start()."""

    async def apply(self, state: NodeState) -> None:
        """Returns when the kernel stands as `state` says (for the sandboxes that exist); then the agent acknowledges."""

    async def attach(self, task_id: str) -> Sandbox:
        """Makes the namespace and legs of a task of the applied state; raises errors.ShoalError that names the cause."""

    async def routes(self) -> tuple[str, ...]:
        """Destinations of this machine's routes, without those that overlays make."""

    def next_gateway_address(self) -> str:
        """One on docker_gwbridge that nobody has."""

    def wire(self, local: Local) -> None:
        """What there is of bridges of this node's own and of single containers; the kernel is asked by those below."""

    async def attach_local(self, container_id: str) -> Sandbox:
        """Makes a single container's namespace, as wire() has said."""

    async def rewire(
        self, container_id: str, unplugged: str = "", way_out: tuple[str, str] = ("", "")
    ) -> None:
        """Carries out what wire() has changed in one that has a namespace."""

    async def bridge(self) -> None:
        """Carries out what wire() has changed of the bridges."""

    @property
    def speaks_ipv6(self) -> bool:
        """Whether this machine's kernel has IPv6."""

    async def is_foreign(self, interface: str) -> bool:
        """Whether this machine has an interface of that name which isn't a bridge of ours."""

    async def busy(self, address: str, protocol: str, port: int) -> bool:
        """Whether a process of this machine listens there, or the swarm has the port."""

    async def detach(self, task_id: str) -> None:
        """Removes a task's or single container's namespace, after it is gone; also flushes what conntrack knows."""

    async def teardown(self) -> None:
        """Removes everything of the swarm's from the kernel: the node has left it."""
