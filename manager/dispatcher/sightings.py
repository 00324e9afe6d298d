"""Where gossip and sessions differ, from what the nodes' agents report. Pure; service.py acts on it.

A node that more than half of all others hold dead is not seen. Without a session it is Down at once, and need not be waited for any
longer; with one it stays what it is, and says so in its status: then gossip is filtered, not the node gone. One report alone is
only its sender's view: a node that is cut off sees nobody.
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


def unseen(reports: Mapping[str, Collection[str]]) -> frozenset[str]:
    """The nodes that more than half of the others do not see. `reports` by the node that says so."""
    against = Counter(
        node_id for reporter, gone in reports.items() for node_id in set(gone) if node_id != reporter
    )
    return frozenset(
        node_id for node_id, count in against.items() if 2 * count > len(reports) - (node_id in reports)
    )


def believed(node: model.Node | None) -> bool:
    """Whether it is news that gossip does not see the node: of one that was never seen while it had a session, it isn't."""
    return node is not None and node.status.message != UNSEEN


def shown(node: model.Node, is_unseen: bool) -> model.Node:
    """The node, with a session, as its status is to say."""
    message = UNSEEN if is_unseen else ""
    if node.status.state != NodeState.NODE_READY or node.status.message not in ("", UNSEEN):
        return node
    return (
        node
        if node.status.message == message
        else replace(node, status=replace(node.status, message=message))
    )
