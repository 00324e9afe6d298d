"""Where gossip and sessions differ, from what the nodes' agents report. Pure; lookout.py acts on it.

A node that more than half of all others hold dead, or have heard say good-bye, is Down at once if its session has broken: nobody
waits for its beats. One that they hold dead but that has its session stays what it is, and says so in its status: then gossip is
filtered, not the node gone. One report alone is only its sender's view: a node that is cut off sees nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from common import model
from common.model import NodeState

UNSEEN: Final = "not seen by gossip: is port 7946 open, TCP and UDP, between the nodes?"
GONE: Final = "no session, and not seen by gossip"


def dead(reports: Mapping[str, model.Unseen]) -> frozenset[str]:
    """The nodes that more than half of the others hold dead. `reports` by the node that says so."""
    return _by_most({reporter: said.node_ids for reporter, said in reports.items()})


def gone(reports: Mapping[str, model.Unseen]) -> frozenset[str]:
    """Those that more than half of the others hold dead, or have heard say good-bye."""
    return _by_most({reporter: (*said.node_ids, *said.left) for reporter, said in reports.items()})


def _by_most(reports: Mapping[str, Collection[str]]) -> frozenset[str]:
    against = Counter(
        node_id for reporter, gone in reports.items() for node_id in set(gone) if node_id != reporter
    )
    return frozenset(
        node_id for node_id, count in against.items() if 2 * count > len(reports) - (node_id in reports)
    )


def believed(node: model.Node | None) -> bool:
    """Whether it is news that gossip does not see the node: of one that was never seen while it had a session, it isn't."""
    return node is not None and node.status.message != UNSEEN


def shown(node: model.Node, dead: bool) -> model.Node:
    """The node, with a session, as its status is to say."""
    message = UNSEEN if dead else ""
    if node.status.state != NodeState.NODE_READY or node.status.message not in ("", UNSEEN):
        return node
    return (
        node
        if node.status.message == message
        else replace(node, status=replace(node.status, message=message))
    )
