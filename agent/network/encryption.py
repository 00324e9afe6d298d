"""What seals the tunnels of encrypted networks between nodes: ESP's states and policies as facts. Pure; plan.py asks for them.

Tunnels of encrypted networks have a UDP port of their own, so the kernel's policies tell them from others without marks or rules
that somebody may flush: what goes to that port leaves sealed or not at all, and what arrives there unsealed is dropped.

Managers hand out a ring of three keys (manager/keys.py). A node opens with all three and seals with the second newest, so
nodes of which some are one turn behind understand each other, whichever step each of them has come to. Each pair, direction and key
has a key of its own: no two senders ever use a nonce twice. The index (SPI) follows from the sender's number and the key's.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from agent.network.facts import Fact, Facts, SealPolicy, SealState
from agent.network.rules import seal_tables
from common import model

SUBSYSTEM: Final = "networking:ipsec"
_MATERIAL: Final = 20  # AES-128's key and RFC 4106's salt
_NUMBERS: Final = 0xFF_FFFF
_TAGS: Final = 0xFF

# An IPv4 header, ESP's header with its vector, UDP, VXLAN and the inner Ethernet; then, in fours, the trailer, and the tag.
_BEFORE: Final = 20 + 16
_CARRIED: Final = 8 + 8 + 14
_TRAILER: Final = 2
_TAG: Final = 16


@dataclass(frozen=True, slots=True)
class Key:
    """One of the swarm's keys; `turn` counts them."""

    turn: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class End:
    """A node as its tunnels' other ends know it."""

    number: int
    address: str


def ring(keys: Iterable[model.EncryptionKey]) -> tuple[Key, ...]:
    """The keys for this use, the newest first."""
    found = (Key(k.lamport_time, k.key) for k in keys if k.subsystem == SUBSYSTEM and k.key)
    return tuple(sorted(found, key=lambda key: key.turn, reverse=True))


def sealing(keys: tuple[Key, ...]) -> Key:
    """The one that seals: the newest may not have come everywhere yet."""
    return keys[1] if len(keys) > 1 else keys[0]


def spi(sender: End, key: Key) -> int:
    """The index of a state: unique among those that lead to one node."""
    return (sender.number & _NUMBERS) << 8 | key.turn & _TAGS


def state(sender: End, receiver: End, key: Key) -> SealState:
    """One direction of a pair, with one of the swarm's keys."""
    # By addresses alone: a node that left and joined again is known under two numbers for a while.
    context = b"shoal esp 1" + b"".join(
        ipaddress.ip_address(end.address).packed for end in (sender, receiver)
    )
    material = hmac.digest(key.secret, context, hashlib.sha256)[:_MATERIAL]
    return SealState(sender.address, receiver.address, spi(sender, key), material)


def guards() -> Facts:
    """Nothing unsealed leaves or is taken in; also where no key or peer is known."""
    return frozenset((SealPolicy("in"), SealPolicy("out"), *seal_tables()))


def facts(me: End, peers: Iterable[End], keys: tuple[Key, ...]) -> Facts:
    """Everything that a node needs to talk with `peers` in encrypted networks."""
    found: set[Fact] = set(guards())
    for peer in peers if keys else ():
        for key in keys:
            found |= {state(me, peer, key), state(peer, me, key)}
        found.add(SealPolicy("out", me.address, peer.address, spi(me, sealing(keys))))
    return frozenset(found)


def sealed_mtu(underlay: int) -> int:
    """The largest inner packet that fits into the underlay once it is sealed."""
    padded = (underlay - _BEFORE - _TAG) // 4 * 4
    return padded - _CARRIED - _TRAILER
