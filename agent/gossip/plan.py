"""What this node's member of the gossip is to be, from its papers and what the managers say. Pure; service.py acts on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agent.gossip.messages import Address
from agent.gossip.packing import pack
from common import model

PORT: Final = 7946
SUBSYSTEM: Final = "networking:gossip"
NEIGHBOURS: Final = 3
_LONGEST_HOSTNAME: Final = 255


@dataclass(frozen=True, slots=True)
class Wanted:
    """A member: `name` is the node's id. `keys` has the one that seals first."""

    name: str
    address: str
    meta: bytes
    keys: tuple[bytes, ...]
    seeds: tuple[Address, ...]


def ring(keys: Iterable[model.EncryptionKey]) -> tuple[bytes, ...]:
    """The keys of gossip. The second newest seals: the newest may not have come everywhere yet."""
    newest = sorted((k for k in keys if k.subsystem == SUBSYSTEM), key=lambda k: k.lamport_time, reverse=True)
    found = [key.key for key in newest if key.key]
    return tuple(found[1:2] + found[:1] + found[2:])


def seeds(managers: Iterable[str]) -> tuple[Address, ...]:
    """Where the managers' nodes gossip: at the addresses (host:port) of their managers."""
    hosts = (addr.rpartition(":")[0].strip("[]") for addr in managers)
    return tuple(dict.fromkeys((host, PORT) for host in hosts if host))


def neighbours(nodes: Iterable[model.NodeRecord], me: str) -> tuple[Address, ...]:
    """Some other nodes, for a manager that has no other manager to ask: by id, so that it stays with the same ones."""
    found = sorted((n.id, n.addr) for n in nodes if n.id != me and n.addr and not n.down)
    return tuple((addr, PORT) for _, addr in found[:NEIGHBOURS])


def meta(hostname: str, manager: bool, data_address: str) -> bytes:
    """What others can see of a node besides its name and address: for people who look into a fault."""
    role = "manager" if manager else "worker"
    return pack({"host": hostname[:_LONGEST_HOSTNAME], "role": role, "data": data_address})
