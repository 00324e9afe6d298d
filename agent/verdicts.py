"""What gossip says of nodes and tasks, and how far this node believes it. Pure; agent/liveness.py keeps it up to date.

Managers decide what exists; gossip only narrows what is offered here, and sooner than they could:

- a node that gossip holds dead, or that has said good-bye: its endpoints leave the balancers and names of this node;
- a task that its own node has called ended: that is final, for a task never comes back;
- never below one endpoint: where nothing else is left, those stay that only gossip speaks against, and then all. A swarm
  whose gossip is filtered keeps serving;
- a verdict that managers contradict for 30 s, with a session to them, lapses until gossip itself changes its mind. Without
  a session nobody contradicts it.

Endpoints that are left out stay reachable: open connections go on. Datagrams of a client that has sent some before go to
others at once (`lost`): with those nothing is open that could break.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from agent.gossip.packing import Decoded, Malformed, pack, unpack_map
from agent.state import NodeState
from common import model

LAPSE: Final = 30.0
MAX_ENDED: Final = 4096
MAX_STATE: Final = 1024
_ENDED: Final = "ended"
_ALL_ENDED: Final = "all_ended"
_LONGEST_ID: Final = 64
SERVING: Final = model.EndpointState.ENDPOINT_SERVING


class Verdicts:
    """Of one member of the gossip. `since` is always when the session to the managers came up, None without one."""

    def __init__(self) -> None:
        self._gone: dict[str, float] = {}
        self._left: set[str] = set()
        self._lapsed: set[str] = set()
        self._ended: dict[str, None] = {}

    @property
    def nodes(self) -> frozenset[str]:
        """Those whose endpoints are not to be offered."""
        return frozenset(self._gone.keys() - self._lapsed)

    @property
    def tasks(self) -> frozenset[str]:
        """Those that have ended."""
        return frozenset(self._ended)

    @property
    def unseen(self) -> model.Unseen:
        """All nodes that gossip holds dead or gone, believed or not: for the managers."""
        return model.Unseen(tuple(sorted(self._gone.keys() - self._left)), tuple(sorted(self._left)))

    def restart(self) -> None:
        """A new member knows of nobody; what tasks' own nodes have said stays true."""
        self._gone.clear()
        self._left.clear()
        self._lapsed.clear()

    def gone(self, node_id: str, now: float, left: bool = False) -> None:
        """Gossip holds it dead, or it has left."""
        self._gone.setdefault(node_id, now)
        (self._left.add if left else self._left.discard)(node_id)

    def back(self, node_id: str) -> None:
        """It lives."""
        self._gone.pop(node_id, None)
        self._left.discard(node_id)
        self._lapsed.discard(node_id)

    def ended(self, task_id: str) -> bool:
        """The task's node says that it is over; whether that is news."""
        if task_id in self._ended:
            return False
        self._ended[task_id] = None
        if len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]
        return True

    def disputed(self, state: NodeState) -> frozenset[str]:
        """Those that have ended and that managers still offer."""
        return frozenset(
            e.task_id for e in state.endpoints.values() if e.task_id in self._ended and e.state is SERVING
        )

    def lapse(self, now: float, since: float | None, offering: Collection[str]) -> list[str]:
        """The nodes whose verdict lapses now. `offering` are those with endpoints that managers offer."""
        due = [
            n for n in self._contradicted(offering) if (at := self._end(n, since)) is not None and at <= now
        ]
        self._lapsed |= set(due)
        return due

    def deadline(self, since: float | None, offering: Collection[str]) -> float | None:
        """When the next one does."""
        ends = (self._end(node_id, since) for node_id in self._contradicted(offering))
        return min((end for end in ends if end is not None), default=None)

    def _contradicted(self, offering: Collection[str]) -> list[str]:
        return [node_id for node_id in self._gone if node_id in offering and node_id not in self._lapsed]

    def _end(self, node_id: str, since: float | None) -> float | None:
        return None if since is None else max(self._gone[node_id], since) + LAPSE


def offering(state: NodeState) -> frozenset[str]:
    """The nodes with endpoints that managers offer."""
    return frozenset(e.node_id for e in state.endpoints.values() if e.state is SERVING)


def narrowed(state: NodeState, nodes: Collection[str], tasks: Collection[str]) -> NodeState:
    """The state with fewer endpoints on offer: none of these nodes and tasks, as far as others are left."""
    if not nodes and not tasks:
        return state
    groups: dict[tuple[str, str], list[model.EndpointRecord]] = {}
    for endpoint in state.endpoints.values():
        if endpoint.state is SERVING:
            groups.setdefault((endpoint.service_id, endpoint.network_id), []).append(endpoint)
    left_out = [e for group in groups.values() for e in _left_out(group, nodes, tasks)]
    offered = {e.task_id for group in groups.values() for e in group} - {e.task_id for e in left_out}
    against = {e.task_id for e in state.endpoints.values() if e.task_id in tasks or e.node_id in nodes}
    if not left_out and not against - offered:
        return state
    changed = {
        (e.task_id, e.network_id): replace(e, state=model.EndpointState.ENDPOINT_WITHDRAWN) for e in left_out
    }
    return replace(state, endpoints={**state.endpoints, **changed}, lost=frozenset(against - offered))


def _left_out(
    group: list[model.EndpointRecord], nodes: Collection[str], tasks: Collection[str]
) -> list[model.EndpointRecord]:
    going_on = [e for e in group if e.task_id not in tasks]
    living = [e for e in going_on if e.node_id not in nodes]
    kept = living or going_on or group
    return [e for e in group if e not in kept]


def ended_message(task_id: str) -> bytes:
    """What a node tells the others of a task of its own."""
    return pack({_ENDED: task_id})


def ended_task(message: bytes) -> str | None:
    """The task that another node calls ended; None for anything else, a newer version's words among them."""
    try:
        fields, _ = unpack_map(message)
    except Malformed:
        return None
    return _id(fields.get(_ENDED))


def ended_state(task_ids: Collection[str]) -> bytes:
    """All that a node knows to have ended while managers still offer it: for those who weren't there when it was told."""
    return pack({_ALL_ENDED: sorted(task_ids)[:MAX_STATE]}) if task_ids else b""


def ended_tasks(state: bytes) -> list[str]:
    """The tasks that another node's state calls ended; none in anything else."""
    try:
        fields, _ = unpack_map(state)
    except Malformed:
        return []
    found = fields.get(_ALL_ENDED)
    ids = map(_id, found[:MAX_STATE]) if isinstance(found, list) else ()
    return [task_id for task_id in ids if task_id is not None]


def _id(found: Decoded) -> str | None:
    if not isinstance(found, bytes) or not 0 < len(found) <= _LONGEST_ID:
        return None
    return found.decode("ascii", "replace")
