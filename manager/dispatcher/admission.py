"""Who may open a session: identity is bound to a machine, and one machine has one agent. Pure; used by service.py.

A node's certificate can be copied with a disk. The machine's hash, bound when the certificate was first issued, tells
a copy apart; where even that was cloned, a second process that comes from another address while the first one is
still heard from is refused. A restarted agent (same machine, same address) takes its place over at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from common import errors, model


@dataclass(frozen=True, slots=True)
class Present:
    """The session that a node has already."""

    instance: bytes
    machine: str
    address: str
    heard_ago: float  # seconds since its last message


_ADVICE = "run `docker swarm leave` on this machine and join again"


def admit(
    node: model.Node | None, hello: model.Hello, address: str, present: Present | None, period: float
) -> None:
    """Raises PermissionDenied or AlreadyExists, with a text for the user of the refused machine."""
    if node is None:
        raise errors.PermissionDenied(
            f"this node was removed from the swarm: {_ADVICE.replace(' on this machine', '')}"
        )
    name = node.description.hostname or node.id
    machine, bound = hello.description.machine, node.description.machine
    if bound and machine and machine != bound:
        raise errors.PermissionDenied(
            f"the identity of node {name} belongs to another machine ({_short(bound)}{_at(node, present)}); this is "
            f"machine {_short(machine)} at {address}: it looks like a copy of its disk; {_ADVICE}"
        )
    if present is None or present.instance == hello.instance or present.address == address:
        return
    if present.heard_ago <= 1.5 * period:
        raise errors.AlreadyExists(
            f"node {name} is connected from {present.address}, and a second one with the same identity calls from "
            f"{address}: it looks like a copy of its disk; {_ADVICE}"
        )


def _short(machine: str) -> str:
    return machine[:12]


def _at(node: model.Node, present: Present | None) -> str:
    address = present.address if present is not None else node.status.addr
    return f" at {address}" if address else ""
